//! What is logged, and when: the two levels of logging state of every metric and instance (pmlogger(1), DESCRIPTION).

use std::collections::{BTreeMap, HashMap, HashSet};

use pcp::pdu::Profile;
use pcp::pdu::log::LoggingState;
use pcp::{Desc, InDom, Pmid, Timestamp};

use super::config::Wanted;

/// The logging state of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Level {
    /// Whether on or off are mandatory; otherwise they are advice.
    pub mandatory: bool,
    /// The milliseconds between samples, 0 for once, when it is logged.
    pub on: Option<u32>,
}

impl Level {
    /// The state after a request; `None` when the request is refused.
    fn after(self, mandatory: bool, wanted: Wanted) -> Option<Level> {
        match wanted {
            Wanted::Maybe if self.mandatory => Some(Level::default()),
            Wanted::Maybe => Some(self),
            _ if self.mandatory && !mandatory => None,
            Wanted::Off => Some(Level {
                mandatory,
                on: None,
            }),
            Wanted::On(delta) => Some(Level {
                mandatory,
                on: Some(delta),
            }),
        }
    }
}

/// A metric that was asked for.
pub struct Metric {
    /// The name by which it was asked for.
    pub name: String,
    /// Its descriptor.
    pub desc: Desc,
    all: Level,
    some: BTreeMap<i32, Level>,
    /// What a configuration asked for before, at other intervals: it is logged as well.
    earlier: Vec<(Level, Option<Vec<i32>>)>,
    /// A configuration said first that it is off: that is how it is shown, and what is said later is logged as well.
    first_off: bool,
    logged: HashSet<i32>,
    last: HashSet<i32>,
}

/// The states of all metrics that were asked for.
#[derive(Default)]
pub struct States {
    metrics: Vec<Metric>,
    by_pmid: HashMap<Pmid, usize>,
}

/// A request to change states.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The instances; `None` for all.
    pub instances: Option<&'a [i32]>,
    /// Mandatory rather than advisory.
    pub mandatory: bool,
    /// What is wanted.
    pub wanted: Wanted,
    /// Whether this is a configuration's. It may pick instances out of a metric all of whose instances are logged, and have
    /// a metric logged at several intervals; a client may not.
    pub may_split: bool,
}

impl Metric {
    fn level(&self, inst: i32) -> Level {
        self.some.get(&inst).copied().unwrap_or(self.all)
    }

    /// Keeps what is logged already at another interval than a request asks for.
    fn keep(&mut self, request: &Request<'_>) {
        let now = |level: Level| level.after(request.mandatory, request.wanted);
        let mut kept = Vec::new();
        match request.instances.filter(|_| !self.desc.indom.is_null()) {
            None => {
                if self.all.on.is_some() && now(self.all).is_some_and(|n| n != self.all) {
                    kept.push((self.all, None));
                }
                for (inst, level) in self.some.iter().filter(|(_, l)| l.on.is_some()) {
                    kept.push((*level, Some(vec![*inst])));
                }
            }
            Some(instances) => {
                for inst in instances {
                    let level = self.some.get(inst).copied().unwrap_or_default();
                    if level.on.is_some() && now(level).is_some_and(|n| n != level) {
                        kept.push((level, Some(vec![*inst])));
                    }
                }
            }
        }
        self.earlier.extend(kept);
    }
}

impl States {
    fn metric(&mut self, name: &str, desc: Desc) -> &mut Metric {
        let at = *self.by_pmid.entry(desc.pmid).or_insert_with(|| {
            self.metrics.push(Metric {
                name: name.to_owned(),
                desc,
                all: Level::default(),
                some: BTreeMap::new(),
                earlier: Vec::new(),
                first_off: false,
                logged: HashSet::new(),
                last: HashSet::new(),
            });
            self.metrics.len() - 1
        });
        &mut self.metrics[at]
    }

    /// The metric of that number, if it was asked for.
    pub fn get(&self, pmid: Pmid) -> Option<&Metric> {
        self.metrics.get(*self.by_pmid.get(&pmid)?)
    }

    /// At which level an instance is.
    pub fn level(&self, pmid: Pmid, inst: i32) -> Level {
        self.get(pmid)
            .map_or(Level::default(), |metric| metric.level(inst))
    }

    /// All metrics that were asked for.
    pub fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// Forgets a metric that is not there any more.
    pub fn remove(&mut self, pmid: Pmid) {
        if let Some(at) = self.by_pmid.get(&pmid)
            && let Some(metric) = self.metrics.get_mut(*at)
        {
            metric.all = Level::default();
            metric.some.clear();
            metric.earlier.clear();
        }
    }

    /// Applies a request; false when it, or a part of it, is refused.
    pub fn apply(&mut self, name: &str, desc: Desc, request: Request<'_>) -> bool {
        let metric = self.metric(name, desc);
        // The statements of a configuration stand side by side: off takes nothing back. Advice against what is mandatory is
        // refused all the same.
        let meets_mandatory = match request.instances.filter(|_| !desc.indom.is_null()) {
            Some(instances) => instances.iter().any(|inst| metric.level(*inst).mandatory),
            None => metric.all.mandatory || metric.some.values().any(|level| level.mandatory),
        };
        let advised = !request.mandatory && meets_mandatory;
        let is_on = metric.all.on.is_some() || metric.some.values().any(|l| l.on.is_some());
        match request.wanted {
            Wanted::On(delta) if request.may_split && metric.first_off && !advised => {
                let level = Level {
                    mandatory: request.mandatory,
                    on: Some(delta),
                };
                let instances = request.instances.filter(|_| !desc.indom.is_null());
                metric.earlier.push((level, instances.map(<[i32]>::to_vec)));
                return true;
            }
            Wanted::On(_) if request.may_split && metric.first_off => return false,
            Wanted::On(_) if request.may_split => metric.keep(&request),
            Wanted::Off | Wanted::Maybe if request.may_split && is_on => return !advised,
            Wanted::Off if request.may_split => metric.first_off = true,
            _ => {
                metric.earlier.clear();
                metric.first_off = false;
            }
        }
        let after = |level: Level| level.after(request.mandatory, request.wanted);
        let Some(instances) = request.instances.filter(|_| !desc.indom.is_null()) else {
            let refused = metric.some.values().any(|level| after(*level).is_none());
            return match after(metric.all) {
                Some(level) if !refused => {
                    metric.all = level;
                    metric.some.clear();
                    true
                }
                _ => false,
            };
        };
        if metric.all.on.is_some() && !request.may_split {
            return false;
        }
        let mut accepted = true;
        for inst in instances {
            let level = metric.some.get(inst).copied().unwrap_or(metric.all);
            match after(level) {
                Some(level) => {
                    metric.some.insert(*inst, level);
                }
                None => accepted = false,
            }
        }
        accepted
    }

    /// Remembers which instances a record has, of those that were asked for: `None` for all.
    pub fn logged(&mut self, pmid: Pmid, asked: Option<&[i32]>, found: impl Iterator<Item = i32>) {
        if let Some(at) = self.by_pmid.get(&pmid)
            && let Some(metric) = self.metrics.get_mut(*at)
        {
            match asked {
                Some(asked) => metric.last.retain(|inst| !asked.contains(inst)),
                None => metric.last.clear(),
            }
            metric.last.extend(found);
            metric.logged.extend(&metric.last);
        }
    }

    /// How an instance is logged.
    pub fn state(&self, pmid: Pmid, inst: i32) -> LoggingState {
        let Some(metric) = self.get(pmid) else {
            return LoggingState::default();
        };
        let level = metric.level(inst);
        let in_log = metric.logged.contains(&inst);
        LoggingState {
            on: level.on.is_some(),
            mandatory: level.mandatory,
            in_log,
            available: in_log && metric.last.contains(&inst),
            delta: level.on.unwrap_or(0),
        }
    }

    /// Every pair of level and interval at which something is logged, in the order of the requests, with its fetches.
    fn due(&self) -> Vec<(Level, Vec<Group>)> {
        let mut tasks: Vec<(Level, Vec<Wish>)> = Vec::new();
        let mut add =
            |level: Level, wish: Wish| match tasks.iter_mut().find(|(other, _)| *other == level) {
                Some((_, wishes)) => wishes.push(wish),
                None => tasks.push((level, vec![wish])),
            };
        for metric in &self.metrics {
            for (level, instances) in &metric.earlier {
                add(*level, (metric.desc, instances.clone()));
            }
            if metric.all.on.is_some() {
                add(metric.all, (metric.desc, None));
            }
            let mut levels: Vec<Level> = Vec::new();
            for level in metric.some.values().filter(|l| l.on.is_some()) {
                if !levels.contains(level) && !(metric.all == *level) {
                    levels.push(*level);
                }
            }
            for level in levels {
                let picked = metric.some.iter().filter(|(_, l)| **l == level);
                add(
                    level,
                    (metric.desc, Some(picked.map(|(i, _)| *i).collect())),
                );
            }
        }
        tasks
            .into_iter()
            .map(|(level, wishes)| (level, groups(&wishes)))
            .collect()
    }

    /// What is fetched together, in words (`-Doptfetch`).
    pub fn fetches(&self) -> String {
        let mut said = String::new();
        for (number, (level, groups)) in self.due().iter().enumerate() {
            let delta = u64::from(level.on.unwrap_or(0)) * 1000;
            let count: usize = groups.iter().map(|group| group.pmids.len()).sum();
            said.push_str(&format!(
                "Fetch task[{number}] delta: {delta} usec numpmid: {count}\n"
            ));
            for (at, group) in groups.iter().enumerate() {
                said.push_str(&format!(
                    "  Fetch group[{number}][{at}] {} metrics\n",
                    group.pmids.len()
                ));
            }
        }
        said
    }

    /// Brings the tasks up to date after states changed. Those that are new are due at `now`. What is logged once only
    /// comes in when `once` says so: it was logged before otherwise.
    pub fn schedule(&self, tasks: &mut Vec<Task>, now: Timestamp, once: bool) {
        let mut old = std::mem::take(tasks);
        for (level, groups) in self.due() {
            if level.on == Some(0) && !once {
                continue;
            }
            let before = old.iter().position(|t| t.level == level);
            let before = before.map(|at| old.remove(at));
            let mut task = Task {
                level,
                next: before.as_ref().map_or(now, |t| t.next),
                groups,
            };
            for group in &mut task.groups {
                let groups = before.iter().flat_map(|t| &t.groups);
                group.reported = groups
                    .filter(|g| g.pmids == group.pmids)
                    .any(|g| g.reported);
            }
            tasks.push(task);
        }
        tasks.extend(old.into_iter().filter(|t| t.level.on == Some(0)));
    }
}

/// A task that logs metrics once, now.
pub fn log_once(mandatory: bool, wishes: &[Wish], now: Timestamp) -> Task {
    Task {
        level: Level {
            mandatory,
            on: Some(0),
        },
        groups: groups(wishes),
        next: now,
    }
}

/// A metric and the instances of it that are wanted.
pub type Wish = (Desc, Option<Vec<i32>>);

/// What one fetch asks for, and one record holds.
#[derive(Clone, Debug)]
pub struct Group {
    /// The metrics, highest number first, which is the order that PCP's archives have.
    pub pmids: Vec<Pmid>,
    /// The instances.
    pub profile: Profile,
    /// Whether its size was reported (`-r`).
    pub reported: bool,
}

/// Metrics that are logged together.
pub struct Task {
    /// How, and how often.
    pub level: Level,
    /// Its fetches.
    pub groups: Vec<Group>,
    /// When.
    pub next: Timestamp,
}

impl Task {
    /// The interval, unless it is logged once.
    pub fn interval(&self) -> Option<Timestamp> {
        let delta = self.level.on.filter(|delta| *delta > 0)?;
        Some(Timestamp::from_nanos(i128::from(delta) * 1_000_000))
    }
}

/// The metrics of a task in as few fetches as their profiles allow: a domain cannot be asked for whole and in part at once.
fn groups(wishes: &[Wish]) -> Vec<Group> {
    let whole: HashSet<InDom> = wishes
        .iter()
        .filter(|(desc, list)| list.is_none() && !desc.indom.is_null())
        .map(|(desc, _)| desc.indom)
        .collect();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for wish in wishes {
        if wish.1.is_some() && whole.contains(&wish.0.indom) {
            second.push(wish);
        } else {
            first.push(wish);
        }
    }
    let group = |wishes: Vec<&Wish>| {
        let mut profile = Profile::default();
        let mut pmids: Vec<Pmid> = wishes.iter().map(|(desc, _)| desc.pmid).collect();
        for (desc, list) in wishes {
            if let Some(list) = list {
                if !profile.indoms.iter().any(|e| e.indom == desc.indom) {
                    profile.remove(Some(desc.indom), &[]);
                }
                profile.add(Some(desc.indom), list);
            }
        }
        pmids.sort_unstable_by(|a, b| b.cmp(a));
        pmids.dedup();
        Group {
            pmids,
            profile,
            reported: false,
        }
    };
    [first, second]
        .into_iter()
        .filter(|wishes| !wishes.is_empty())
        .map(group)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcp::{Semantics, Type, Units};

    fn desc(item: u32, indom: InDom) -> Desc {
        Desc {
            pmid: Pmid::new(29, 0, item),
            ty: Type::I32,
            indom,
            sem: Semantics::Instant,
            units: Units::NONE,
        }
    }

    fn request(mandatory: bool, wanted: Wanted, instances: Option<&[i32]>) -> Request<'_> {
        Request {
            instances,
            mandatory,
            wanted,
            may_split: false,
        }
    }

    // pmlogger(1): "a request to change a metric's logging state to advisory on when it is currently mandatory off is
    // never permitted (it is necessary to change the state to mandatory maybe first)".
    #[test]
    fn advice_does_not_overrule() {
        let mut states = States::default();
        let one = desc(10, InDom::NULL);
        let mut ask =
            |mandatory, wanted| states.apply("one", one, request(mandatory, wanted, None));
        assert!(ask(true, Wanted::Off));
        assert!(!ask(false, Wanted::On(1000)));
        assert!(ask(true, Wanted::Maybe));
        assert!(ask(false, Wanted::On(1000)));
        assert!(ask(true, Wanted::Maybe));
        let state = states.state(one.pmid, -1);
        assert!(state.on && !state.mandatory && state.delta == 1000);
    }

    #[test]
    fn instances_cannot_be_picked_out_of_all() {
        let mut states = States::default();
        let bin = desc(6, InDom::new(29, 2));
        assert!(states.apply("bin", bin, request(true, Wanted::On(1000), None)));
        assert!(!states.apply("bin", bin, request(true, Wanted::On(2000), Some(&[100]))));
        assert!(states.apply("bin", bin, request(true, Wanted::Off, None)));
        assert!(states.apply("bin", bin, request(true, Wanted::On(2000), Some(&[100]))));
        assert_eq!(states.state(bin.pmid, 100).delta, 2000);
        assert!(!states.state(bin.pmid, 200).on);
    }

    // As Debian's pmlogger does: what is logged once and what is logged every second are two requests.
    #[test]
    fn a_configuration_may_ask_for_a_metric_twice() {
        let mut states = States::default();
        let one = desc(10, InDom::NULL);
        for delta in [0, 1000, 500] {
            let request = Request {
                may_split: true,
                ..request(true, Wanted::On(delta), None)
            };
            assert!(states.apply("one", one, request));
        }
        let mut tasks = Vec::new();
        states.schedule(&mut tasks, Timestamp::ZERO, true);
        let deltas: Vec<_> = tasks.iter().map(|t| t.level.on).collect();
        assert_eq!(deltas, [Some(0), Some(1000), Some(500)]);
        assert_eq!(states.state(one.pmid, -1).delta, 500);
        assert!(states.apply("one", one, request(true, Wanted::Off, None)));
        states.schedule(&mut tasks, Timestamp::ZERO, false);
        assert!(tasks.iter().all(|t| t.level.on == Some(0)));
    }

    // As Debian's pmlogger divides them into records.
    #[test]
    fn a_domain_in_part_and_in_whole_is_two_records() {
        let mut states = States::default();
        let domain = InDom::new(29, 2);
        let on = Wanted::On(1000);
        states.apply("bin", desc(6, domain), request(true, on, Some(&[100])));
        states.apply(
            "long.bin",
            desc(103, domain),
            request(true, on, Some(&[200])),
        );
        states.apply("double.bin", desc(113, domain), request(true, on, None));
        states.apply("long.one", desc(10, InDom::NULL), request(true, on, None));
        let mut tasks = Vec::new();
        states.schedule(&mut tasks, Timestamp::ZERO, true);
        let items: Vec<Vec<u32>> = tasks[0]
            .groups
            .iter()
            .map(|g| g.pmids.iter().map(|p| p.item()).collect())
            .collect();
        assert_eq!(tasks.len(), 1);
        assert_eq!(items, [vec![113, 10], vec![103, 6]]);
        let profile = &tasks[0].groups[1].profile;
        assert!(profile.includes(domain, 100) && profile.includes(domain, 200));
        assert!(!profile.includes(domain, 300));
    }
}
