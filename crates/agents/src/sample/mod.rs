//! `sample`: metrics of every type and kind of behaviour, to test clients against (its help texts say what each is for).

mod events;
mod processes;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pcp::pmns::Pmns;
use pcp::{
    Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics, Text,
    Type, Units,
};
use pmda::{Agent, Caller, Help, Values, label_set};

use crate::table::{self, Metric};
use processes::Processes;

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 29;

const TABLE: &str = include_str!("metrics.tsv");

const COLOURS: [&str; 3] = ["red", "green", "blue"];
const FAMILY: [(&str, f32); 5] = [
    ("colleen", 3.05),
    ("terry", 12.05),
    ("emma", 11.09),
    ("cathy", 11.09),
    ("fat bald bastard", 5.26),
];
/// Ghosts, where they are from, and after how many fetches their state changes.
const GHOSTS: [(&str, &str); 8] = [
    ("Obambo", "Africa"),
    ("Banjhakri", "Nepal"),
    ("Mogwai", "China"),
    ("Pocong", "Indonesia"),
    ("Hitodama", "Japan"),
    ("Krahang", "Thailand"),
    ("Zmeu", "Roumania"),
    ("Duppy", "Jamaica"),
];
/// Names below `secret`, in the order in which they are listed. The first belongs to pmcd.
const SECRETS: [(&str, u32); 8] = [
    ("bar", 1000),
    ("foo.one", 1001),
    ("foo.two", 1002),
    ("foo.bar.three", 1003),
    ("foo.bar.four", 1004),
    ("foo.bar.grunt.five", 1005),
    ("foo.bar.grunt.snort.six", 1006),
    ("foo.bar.grunt.snort.huff.puff.seven", 1007),
];
const REDIRECT: (&str, Pmid) = ("foo.bar.max.redirect", Pmid::new(2, 4, 1));

/// Numbers that can be stored, and what they are at first: a label says whether they were changed.
const WRITABLE: [(u32, i64); 7] = [
    (14, 13),
    (19, 13),
    (24, 13),
    (29, 13),
    (36, 2),
    (97, 13),
    (102, 13),
];

/// Numbers that look like chance and are the same each time.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// Which instance domain `mirage` has now.
struct Mirage {
    present: Vec<i32>,
    changed: Instant,
    /// Milliseconds that it stays.
    interval: i32,
}

/// A metric that goes by factors.
struct ScaleStep {
    factor: f64,
    limit: f64,
    value: f64,
    fetches: u32,
}

/// The agent.
pub struct Sample {
    domain: u32,
    help: Help,
    metrics: HashMap<Pmid, Metric>,
    dynamic_indom: PathBuf,
    start: Instant,
    chance: Chance,
    /// What stores change: values by item.
    stored: BTreeMap<u32, Atom>,
    bins: [i32; 9],
    /// The counter behind `colour` and `mirage`.
    saw: i32,
    mirage: Mirage,
    drift: i32,
    drift_up: bool,
    light: usize,
    magnitude: i32,
    rapid: u32,
    counters: HashMap<u32, u64>,
    steps: HashMap<u32, ScaleStep>,
    negative: i32,
    constant: (f64, Instant),
    dodgey: (u64, Vec<i32>),
    dynamic: BTreeMap<i32, (String, u32)>,
    scramble: (i64, Chance),
    updown: (i32, u32, bool),
    event: [i32; 3],
    ghost_fetches: u32,
    processes: Processes,
    /// Fetches of each client, and clients so far and gone.
    clients: HashMap<i32, u32>,
    started: i32,
    ended: i32,
    received: u32,
    sent: u32,
    /// PDUs that a fetch brings: a profile and the fetch, of which the daemon's own agents are told the fetch only.
    for_a_fetch: u32,
    names: Pmns,
    /// Seconds that it will not answer from the next request on.
    pause: u64,
    is_done: bool,
}

impl Sample {
    /// With the help texts and `dynamic.indom` of a folder.
    pub fn new(domain: u32, folder: &Path, in_daemon: bool) -> Sample {
        let now = Instant::now();
        let stored = [
            (0, Atom::I32(0)),
            (8, Atom::I32(20)),
            (14, Atom::I32(13)),
            (19, Atom::Float(13.0)),
            (24, Atom::I64(13)),
            (29, Atom::Double(13.0)),
            (32, Atom::String("13".into())),
            (35, Atom::Aggregate(Bytes::from_static(b"13"))),
            (36, Atom::I32(2)),
            (61, Atom::I32(5)),
            (73, Atom::U32(0)),
            (74, Atom::I32(0)),
            (79, Atom::I32(5)),
            (87, Atom::U32(0)),
            (88, Atom::U32(u32::MAX)),
            (89, Atom::U32(4)),
            (90, Atom::U32(0x1f00_3000)),
            (97, Atom::U32(13)),
            (102, Atom::U64(13)),
            (165, Atom::U32(5)),
            (166, Atom::I32(0)),
            (167, Atom::I32(200)),
            (168, Atom::U32(10)),
            (1008, Atom::I32(-1)),
        ];
        let mut sample = Sample {
            domain,
            help: crate::help_in(folder),
            metrics: table::load(domain, TABLE),
            dynamic_indom: folder.join("dynamic.indom"),
            start: now,
            chance: Chance(0x2545_f491_4f6c_dd1d),
            stored: stored.into_iter().collect(),
            bins: [100, 200, 300, 400, 500, 600, 700, 800, 900],
            saw: 0,
            mirage: Mirage {
                present: vec![0],
                changed: now,
                interval: 10_000,
            },
            drift: 200,
            drift_up: true,
            light: 2,
            magnitude: 32,
            rapid: 0,
            counters: HashMap::new(),
            steps: HashMap::new(),
            negative: -10_000,
            constant: (10_485_760.0, now),
            dodgey: (0, (1..=5).collect()),
            dynamic: BTreeMap::new(),
            scramble: (0, Chance(0x9e37_79b9_7f4a_7c15)),
            updown: (0, 0, true),
            event: [0; 3],
            ghost_fetches: 0,
            processes: Processes::new(),
            clients: HashMap::new(),
            started: 0,
            ended: 0,
            received: 0,
            for_a_fetch: if in_daemon { 1 } else { 2 },
            sent: 0,
            names: Pmns::new(),
            pause: 0,
            is_done: false,
        };
        sample.name("sample");
        sample
    }

    /// Makes the dynamic names below a root.
    fn name(&mut self, root: &str) {
        self.names = Pmns::new();
        for (name, pmid) in self.dynamic_names(root) {
            // They are different ones.
            let _ = self.names.insert(name.as_bytes(), pmid);
        }
    }

    /// The dynamic names and metrics in the order in which they are listed.
    fn dynamic_names(&self, root: &str) -> Vec<(String, Pmid)> {
        let own = |item| Pmid::new(self.domain, 0, item);
        let mut names = vec![(format!("{root}.secret.{}", REDIRECT.0), REDIRECT.1)];
        names.extend(SECRETS.map(|(name, item)| (format!("{root}.secret.{name}"), own(item))));
        let ghosts = ["visible", "origin", "karma", "state"];
        let shown = if self.whole(1008) < 0 { 1 } else { 4 };
        for (name, item) in ghosts.iter().zip(1008..).take(shown) {
            names.push((format!("{root}.ghosts.{name}"), own(item)));
        }
        names
    }

    /// Sees to it that names are below the root that is asked for: the agent may be installed as another's copy.
    fn look_for(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        let parts: Vec<&str> = name.split('.').collect();
        let at = parts.iter().position(|p| *p == "secret" || *p == "ghosts");
        let root = at.map(|at| parts.get(..at).unwrap_or_default().join("."));
        self.name(root.as_deref().unwrap_or("sample"));
    }

    /// A stored whole number.
    fn whole(&self, item: u32) -> i64 {
        let value = self.stored.get(&item).and_then(Atom::as_f64);
        value.unwrap_or(0.0) as i64
    }

    /// The instances of `mirage`, which change when their time is over.
    fn mirages(&mut self) -> Vec<i32> {
        let interval = u128::try_from(self.mirage.interval.max(0)).unwrap_or(0);
        if self.mirage.changed.elapsed().as_millis() >= interval {
            self.mirage.changed = Instant::now();
            let inst = 1 + self.chance.below(49) as i32;
            match self.mirage.present.iter().position(|i| *i == inst) {
                Some(at) => {
                    self.mirage.present.remove(at);
                }
                None if self.mirage.present.len() < 12 => self.mirage.present.push(inst),
                None => {
                    self.mirage.present.truncate(1);
                }
            }
            self.mirage.present.sort_unstable();
        }
        self.mirage.present.clone()
    }

    /// Reads the file that says what instances `dynamic` has, and counts how often each was seen.
    fn scan_dynamic(&mut self) {
        let text = std::fs::read_to_string(&self.dynamic_indom).unwrap_or_default();
        let mut seen = BTreeMap::new();
        for line in text.lines() {
            let line = line.trim();
            let Some((inst, name)) = line.split_once(char::is_whitespace) else {
                continue;
            };
            if let Ok(inst) = inst.parse::<i32>() {
                let name = name.trim().to_owned();
                let before = self.dynamic.get(&inst).filter(|(n, _)| *n == name);
                let count = before.map_or(0, |(_, count)| count + 1);
                seen.insert(inst, (name, count));
            }
        }
        self.dynamic = seen;
    }

    fn shown_ghosts(&self) -> usize {
        usize::try_from(self.whole(1008))
            .unwrap_or(0)
            .min(GHOSTS.len())
    }

    fn set_bin(&mut self, inst: i32, value: i32) -> Result<(), ErrorCode> {
        let at = usize::try_from(inst / 100 - 1)
            .ok()
            .filter(|_| inst % 100 == 0);
        let bin = at.and_then(|at| self.bins.get_mut(at));
        *bin.ok_or(ErrorCode::INST)? = value;
        Ok(())
    }
}

impl Agent for Sample {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        self.received = self.received.wrapping_add(1);
        self.sent = self.sent.wrapping_add(1);
        let code = self.whole(74) as i32;
        match pmid.item() {
            55 => {
                return Ok(Desc {
                    pmid,
                    ty: Type::NoSupport,
                    indom: InDom::NULL,
                    sem: Semantics::Other(0),
                    units: Units::NONE,
                });
            }
            75 if code < 0 => return Err(ErrorCode(code)),
            _ => {}
        }
        let mut desc = self.metrics.get(&pmid).ok_or(ErrorCode::PMID)?.desc;
        if pmid.item() == 86 {
            desc.ty = Type::from_raw(self.whole(87) as i32);
            desc.indom = InDom(self.whole(88) as u32);
            desc.sem = Semantics::from_raw(self.whole(89) as i32);
            desc.units = Units::from_raw(self.whole(90) as u32);
        }
        Ok(desc)
    }

    fn begin_fetch(&mut self, caller: &Caller<'_>, pmids: &[Pmid]) {
        self.received = self.received.wrapping_add(self.for_a_fetch);
        self.sent = self.sent.wrapping_add(1);
        // The descriptors that are looked up for this fetch were not asked for.
        let looked_up = u32::try_from(pmids.len()).unwrap_or(0);
        self.received = self.received.wrapping_sub(looked_up);
        self.sent = self.sent.wrapping_sub(looked_up);
        let started = &mut self.started;
        let fetches = self.clients.entry(caller.client).or_insert_with(|| {
            *started += 1;
            0
        });
        *fetches = fetches.wrapping_add(1);
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let item = desc.pmid.item();
        if !matches!(item, 8 | 126) && self.stored.contains_key(&item) {
            let value = self.stored.get(&item).cloned();
            return value.map(Values::single).ok_or(ErrorCode::PMID);
        }
        let mut values = self.behave(caller, desc)?;
        // What is out of the domain is told on purpose to those that want all.
        if item != 51 && !desc.indom.is_null() {
            let wanted = |inst: &i32| caller.profile.includes(desc.indom, *inst);
            values.0.retain(|(inst, _)| wanted(inst));
        }
        Ok(values)
    }

    fn instances(&mut self, _: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        let named = |inst: i32, name: &str| Instance {
            inst,
            name: name.into(),
        };
        Ok(match indom.serial() {
            1 => COLOURS.iter().zip(0..).map(|(n, i)| named(i, n)).collect(),
            2 | 9 => (1..10)
                .map(|n| named(n * 100, &format!("bin-{n}00")))
                .collect(),
            3 => {
                let present = self.mirages().into_iter();
                present.map(|i| named(i, &format!("m-{i:02}"))).collect()
            }
            4 => FAMILY
                .iter()
                .zip(0..)
                .map(|((n, _), i)| named(i, n))
                .collect(),
            5 => (0..500).map(|i| named(i, &i.to_string())).collect(),
            6 => (1..6).map(|i| named(i, &format!("d{i}"))).collect(),
            7 => {
                self.scan_dynamic();
                let all = self.dynamic.iter();
                all.map(|(inst, (name, _))| named(*inst, name)).collect()
            }
            8 => {
                let many = self.whole(79) as i32;
                (0..many).map(|i| named(i, &format!("i-{i}"))).collect()
            }
            10 => vec![named(0, "fungus"), named(1, "bogus")],
            11 => {
                let shown = GHOSTS.iter().take(self.shown_ghosts()).zip(1..);
                shown.map(|((name, _), inst)| named(inst, name)).collect()
            }
            12 => self.processes.instances(),
            _ => return Err(ErrorCode::INDOM),
        })
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        let code = self.whole(74) as i32;
        if pmid.item() == 75 && code < 0 {
            return Err(ErrorCode(code));
        }
        self.help.metric(pmid, one_line)
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.indom(indom, one_line)
    }

    fn store(&mut self, _: i32, desc: &Desc, inst: i32, value: &Atom) -> Result<(), ErrorCode> {
        let item = desc.pmid.item();
        let whole = value.as_f64().unwrap_or(0.0) as i64;
        match item {
            5 | 37 | 38 => self.saw = whole as i32,
            6 => return self.set_bin(inst, whole as i32),
            7 => self.drift = whole as i32,
            40..=42 => {
                self.received = 0;
                self.sent = 0;
            }
            0 if whole == -1 => self.is_done = true,
            56 => self.pause = u64::try_from(whole).unwrap_or(0),
            72 => self.constant = (whole as f64, Instant::now()),
            79 if !(0..=10_000_000).contains(&whole) => return Err(ErrorCode::BADSTORE),
            120 => self.scramble = (0, Chance(0x9e37_79b9_7f4a_7c15)),
            126 => {
                self.event[0] = whole as i32;
                self.event[2] = whole as i32;
            }
            140 => self.event[1] = whole as i32,
            141..=152 => self.negative = whole as i32,
            155 => self.mirage.interval = whole as i32,
            159 => self.processes = Processes::new(),
            166 => {
                self.stored.insert(item, value.clone());
                self.updown = (whole as i32, 0, true);
            }
            1008 => {
                let ghosts = Atom::I32((whole as i32).clamp(-1, GHOSTS.len() as i32));
                self.stored.insert(item, ghosts);
            }
            _ if self.stored.contains_key(&item) => {
                self.stored.insert(item, value.clone());
            }
            _ => return Err(ErrorCode::PERMISSION),
        }
        Ok(())
    }

    fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        let one = |labels: &[(&str, &str, u8)]| vec![label_set(INST_NULL, level, labels)];
        let serial = InDom(ident).serial();
        Ok(match level {
            LabelLevel::Domain => one(&[("agent", "\"sample\"", 0), ("role", "\"testing\"", 0)]),
            LabelLevel::Cluster => one(&[("cluster", "\"zero\"", 0)]),
            LabelLevel::Item => match Pmid(ident).item() {
                64 => one(&[
                    ("measure", "\"speed\"", 0),
                    ("units", "\"metres per second\"", 0),
                    ("unitsystem", "\"SI\"", 0),
                ]),
                item => match WRITABLE.iter().find(|(known, _)| *known == item) {
                    Some((_, initial)) => {
                        let is_changed = self.whole(item) != *initial;
                        one(&[("changed", &is_changed.to_string(), 0)])
                    }
                    None => Vec::new(),
                },
            },
            LabelLevel::InDom if serial == 1 => one(&[("model", "\"RGB\"", 0)]),
            LabelLevel::InDom if serial == 4 => one(&[("clan", "\"mcdonell\"", 0)]),
            LabelLevel::Instances if matches!(serial, 2 | 9) => {
                let sets = (1..10).map(|n| {
                    let bin = format!("{n}00");
                    label_set(n * 100, level, &[("bin", &bin, 0)])
                });
                sets.collect()
            }
            LabelLevel::Instances if serial == 3 => {
                let sets = self.mirages().into_iter().map(|inst| {
                    let transient = if inst == 0 { "false" } else { "true" };
                    label_set(inst, level, &[("transient", transient, 0)])
                });
                sets.collect()
            }
            _ => Vec::new(),
        })
    }

    fn names(&mut self) -> Option<&Pmns> {
        Some(&self.names)
    }

    fn lookup(&mut self, name: &[u8]) -> Result<Pmid, ErrorCode> {
        self.look_for(name);
        match self.names.lookup(name)? {
            pcp::pmns::Place::Leaf(pmid) => Ok(pmid),
            pcp::pmns::Place::Node => Err(ErrorCode::NONLEAF),
        }
    }

    fn children(&mut self, name: &[u8]) -> Result<Vec<pmda::Name>, ErrorCode> {
        self.look_for(name);
        let found = self.names.children(name)?.into_iter();
        let found = found.map(|(name, place)| pmda::Name {
            name,
            is_node: matches!(place, pcp::pmns::Place::Node),
        });
        Ok(found.collect())
    }

    fn traverse(&mut self, name: &[u8]) -> Result<Vec<Text>, ErrorCode> {
        self.look_for(name);
        self.names.lookup(name)?;
        let text = String::from_utf8_lossy(name).into_owned();
        let root = text
            .split(['.'])
            .take_while(|p| *p != "secret" && *p != "ghosts");
        let root: Vec<&str> = root.collect();
        let inside = format!("{text}.");
        let all = self.dynamic_names(&root.join(".")).into_iter();
        let found = all.filter(|(n, _)| *n == text || n.starts_with(&inside));
        Ok(found.map(|(name, _)| name.into()).collect())
    }

    fn pause(&mut self) -> Option<Duration> {
        let pause = std::mem::take(&mut self.pause);
        (pause > 0).then(|| Duration::from_secs(pause))
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn client_ended(&mut self, client: i32) {
        if self.clients.remove(&client).is_some() {
            self.ended += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_metric() {
        assert_eq!(table::load(DOMAIN, TABLE).len(), TABLE.lines().count());
    }
}
