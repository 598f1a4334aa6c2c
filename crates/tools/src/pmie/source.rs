//! Where values come from: hosts or archives, and the metrics that expressions name.

use std::collections::{HashMap, HashSet, VecDeque};

use pcp::archive::ArchiveContext;
use pcp::derived::DerivedMetrics;
use pcp::timezone::Zone;
use pcp::{
    Atom, Context, Desc, Error, InDom, Instance, Pmid, Semantics, Text, Timestamp, Type, Units,
    Value, ValueSet, instance_name_matches,
};

use super::ast::Kind;

/// The errors of a connection that is refused, and of a network that can't be reached.
const REFUSED: i32 = -(nix::errno::Errno::ECONNREFUSED as i32);
const NO_WAY: i32 = -(nix::errno::Errno::ENETUNREACH as i32);

/// Attempts to reach a host follow each other no sooner, however often it is asked.
const ATTEMPTS_APART: Timestamp = Timestamp { sec: 1, nsec: 0 };

/// A host, or the archives of one.
pub struct Host {
    /// What leads there: a host specification, or archives.
    pub spec: String,
    /// Its own name.
    pub name: String,
    is_archive: bool,
    context: Option<Context>,
    next_attempt: Timestamp,
}

/// A metric of a host with the instances that are wanted, and its last values.
pub struct Metric {
    /// The host.
    pub host: usize,
    name: String,
    desc: Option<Desc>,
    /// The instances that were named, with the names as they were written.
    pub(super) chosen: Option<Vec<(i32, Text)>>,
    known: Vec<Instance>,
    /// How many an archive has of them altogether.
    all: usize,
    factor: f64,
    depth: usize,
    /// Whether the last fetch had an error in the place of values.
    failed: bool,
    /// Whether it is a host's, not an archive's.
    live: bool,
    /// Whether an archive has not told its instances yet.
    unsaid: bool,
    /// Whether a fetch brought values of it.
    had_values: bool,
    ring: VecDeque<(Timestamp, Vec<(i32, Value)>)>,
}

/// All hosts and metrics.
pub struct Sources {
    hosts: Vec<Host>,
    /// The metrics by number.
    pub metrics: Vec<Metric>,
    archives: Vec<String>,
    default_host: Option<String>,
    derived: DerivedMetrics,
    names: Option<pcp::pmns::Pmns>,
    /// Metrics that were looked up, by host and name.
    described: HashMap<(usize, String), Desc>,
    tool_log: fn(&str, &str),
    /// The zone of times in traces, the local one without any.
    trace_zone: Option<Zone>,
    said: String,
    /// What makes it impossible to go on.
    pub fatal: Option<String>,
}

impl Sources {
    /// For archives, or for live hosts when there are none. `default_host` is where metrics come from that name no host.
    pub fn new(
        archives: Vec<String>,
        default_host: Option<String>,
        names: Option<pcp::pmns::Pmns>,
        tool_log: fn(&str, &str),
    ) -> Sources {
        let (derived, said) = DerivedMetrics::configured();
        Sources {
            described: HashMap::new(),
            hosts: Vec::new(),
            metrics: Vec::new(),
            archives,
            default_host,
            derived,
            names,
            tool_log,
            trace_zone: None,
            said: said.concat(),
            fatal: None,
        }
    }

    /// What there is to say on standard error.
    pub fn take_said(&mut self) -> String {
        std::mem::take(&mut self.said)
    }

    /// The host of that number.
    pub fn host(&self, at: usize) -> Option<&Host> {
        self.hosts.get(at)
    }

    /// Opens all archives. Returns the times that they span, and the first one's time zone.
    ///
    /// # Errors
    /// The message for standard error.
    pub fn open_archives(&mut self) -> Result<(Timestamp, Timestamp, String), String> {
        let mut span: Option<(Timestamp, Timestamp, String)> = None;
        for names in self.archives.clone() {
            let mut archive = ArchiveContext::open(&names).map_err(|error| {
                format!(
                    "pmie: cannot open archive {names}\npmNewContext failed: {}\n",
                    error.code()
                )
            })?;
            if let Some(space) = &self.names {
                archive.use_names(space);
            }
            let (start, end) = (archive.label().start, archive.end());
            let zone = archive.label().timezone.to_string();
            let name = archive.label().hostname.to_string();
            if self.hosts.iter().any(|h| h.name == name) {
                let other = self.hosts.iter().find(|h| h.name == name);
                return Err(format!(
                    "pmie: Error: archive {names} not legal - archive {} is already open for host {name}\n",
                    other.map_or("", |h| &h.spec)
                ));
            }
            let mut context = Context::Archive(Box::new(archive));
            self.derive(&mut context);
            self.hosts.push(Host {
                spec: names,
                name,
                is_archive: true,
                context: Some(context),
                next_attempt: Timestamp::ZERO,
            });
            span = Some(match span {
                Some((s, e, zone)) => (s.min(start), e.max(end), zone),
                None => (start, end, zone),
            });
        }
        span.ok_or_else(|| "pmie: no archive\n".to_owned())
    }

    /// Shows times of what was fetched in a zone.
    pub fn trace_times_in(&mut self, zone: Zone) {
        self.trace_zone = Some(zone);
    }

    fn derive(&mut self, context: &mut Context) {
        // What can't be had is said of each expression that wants it.
        context.use_derived(&self.derived);
    }

    /// The name of the default host.
    pub fn live_name(&mut self) -> Option<String> {
        let at = self.host_of(None)?;
        self.hosts.get(at).map(|host| host.name.clone())
    }

    /// The time zone of the default host.
    pub fn live_zone(&mut self) -> Option<String> {
        let at = self.host_of(None)?;
        let host = self.hosts.get_mut(at)?;
        string(host.context.as_mut()?, "pmcd.timezone")
    }

    /// What values are of, in the language of rules: a metric, its hosts and its instances.
    pub fn spoken(&self, metrics: &[usize]) -> String {
        let all = || metrics.iter().filter_map(|at| self.metrics.get(*at));
        let mut text = all().next().map_or_else(String::new, |m| m.name.clone());
        for host in all().filter_map(|metric| self.hosts.get(metric.host)) {
            text.push_str(&format!(" :{}", host.name));
        }
        for metric in all() {
            let chosen = metric.chosen.iter().flatten().map(|(_, name)| name);
            let known = metric.known.iter().map(|instance| &instance.name);
            let known = known.filter(|_| metric.chosen.is_none());
            for name in chosen.chain(known) {
                text.push_str(&format!(" #{name}"));
            }
        }
        text
    }

    /// The number of a host; `None` when no archive is of it.
    fn host_of(&mut self, name: Option<&str>) -> Option<usize> {
        if !self.archives.is_empty() {
            let Some(name) = name.or(self.default_host.as_deref()) else {
                return (!self.hosts.is_empty()).then_some(0);
            };
            let found = self.hosts.iter().position(|h| h.name == name);
            if found.is_none() {
                self.fatal = Some(
                    "pmie: cannot open archive unknown archive\npmNewContext: No such file or directory\n"
                        .to_owned(),
                );
            }
            return found;
        }
        let spec = name
            .or(self.default_host.as_deref())
            .unwrap_or("local:")
            .to_owned();
        if let Some(at) = self.hosts.iter().position(|h| h.spec == spec) {
            return Some(at);
        }
        let mut host = Host {
            name: spec.clone(),
            spec,
            is_archive: false,
            context: None,
            next_attempt: Timestamp::ZERO,
        };
        let connected = host.connect();
        if connected.is_ok() {
            if let Some(mut context) = host.context.take() {
                self.derive(&mut context);
                host.context = Some(context);
            }
        } else {
            (self.tool_log)("Info", &format!("Cannot connect to pmcd {}", host.spec));
            // A host that answers, or to which there is no way, is told apart from one that is not known.
            let how = match connected {
                Err(pcp::ErrorCode(REFUSED | NO_WAY)) => "does not respond",
                _ => "is unreachable",
            };
            let spec = &host.spec;
            self.said
                .push_str(&format!("pmie: warning - pmcd via {spec} {how}\n"));
        }
        self.hosts.push(host);
        Some(self.hosts.len() - 1)
    }

    /// The metric on hosts, with instances by name. Returns the metrics and what their values are; `None` when it cannot
    /// be had, which is said.
    pub fn fetch(
        &mut self,
        name: &str,
        hosts: &[String],
        instances: &[String],
        oldest: usize,
    ) -> Option<(Vec<usize>, Kind)> {
        if self.fatal.is_some() {
            return None;
        }
        let mut found = Vec::new();
        let mut kind = Kind::Number;
        let hosts: Vec<Option<&str>> = if hosts.is_empty() {
            vec![None]
        } else {
            hosts.iter().map(|h| Some(h.as_str())).collect()
        };
        for host in hosts {
            let at = self.host_of(host)?;
            let metric = self.metric(at, name, instances, oldest)?;
            if metric.desc.is_some_and(|d| d.ty == Type::String) {
                kind = Kind::Text;
            }
            self.metrics.push(metric);
            found.push(self.metrics.len() - 1);
        }
        Some((found, kind))
    }

    fn metric(
        &mut self,
        at: usize,
        name: &str,
        instances: &[String],
        oldest: usize,
    ) -> Option<Metric> {
        let host = self.hosts.get_mut(at)?;
        let place = if host.is_archive {
            format!("archive {} (host {})", host.spec, host.name)
        } else {
            format!("pmcd {} (host {})", host.spec, host.name)
        };
        let mut metric = Metric {
            host: at,
            name: name.to_owned(),
            desc: None,
            chosen: None,
            known: Vec::new(),
            all: 0,
            factor: 1.0,
            depth: oldest + 2,
            failed: false,
            live: !host.is_archive,
            unsaid: false,
            had_values: false,
            ring: VecDeque::new(),
        };
        let Some(context) = &mut host.context else {
            return Some(metric);
        };
        let found = match self.described.get(&(at, name.to_owned())) {
            Some(desc) => Ok((desc.pmid, Some(*desc))),
            None => match (&self.names, host.is_archive) {
                (Some(space), false) => match space.lookup(name.as_bytes()) {
                    Ok(pcp::pmns::Place::Leaf(pmid)) => Ok(pmid),
                    Ok(_) => Err(pcp::ErrorCode::NONLEAF.into()),
                    Err(code) => Err(code.into()),
                },
                _ => context.lookup_name(name),
            }
            .map(|pmid| (pmid, None)),
        };
        let (pmid, described) = match found {
            Ok(found) => found,
            Err(error) => {
                self.said.push_str(&format!(
                    "pmie: metric {name} not in namespace for {place}\npmLookupName failed: {}\n",
                    error.code()
                ));
                // On a live host it may come yet.
                return (!host.is_archive).then_some(metric);
            }
        };
        let desc = match described.map_or_else(|| context.desc(pmid), Ok) {
            Ok(desc) => desc,
            Err(error) => {
                self.said.push_str(&format!(
                    "pmie: metric {name} not currently available from {place}\npmLookupDesc failed: {}\n",
                    error.code()
                ));
                return Some(metric);
            }
        };
        if !desc.ty.is_numeric() && !matches!(desc.ty, Type::String | Type::NoSupport) {
            self.said
                .push_str(&format!("pmie: metric {name} has inappropriate type\n"));
            return None;
        }
        self.described.insert((at, name.to_owned()), desc);
        metric.describe(desc);
        if desc.indom.is_null() {
            if !instances.is_empty() {
                self.said
                    .push_str(&format!("pmie: metric {name} has no instances\n"));
                return None;
            }
            return Some(metric);
        }
        let all = match &*context {
            Context::Archive(archive) => archive.all_instances(desc.indom).map(|all| all.len()),
            Context::Host(_) => Ok(0),
        };
        match all {
            Ok(all) => metric.all = all,
            Err(error) => {
                self.said.push_str(&format!(
                    "Metric {name} from {place} - instance domain not available in archive\n\
                     pmGetInDomArchive failed: {}\n",
                    error.code()
                ));
                return None;
            }
        }
        metric.known = context.instances(desc.indom).unwrap_or_default();
        if instances.is_empty() {
            return Some(metric);
        }
        let ever = match context {
            Context::Archive(archive) => archive.all_instances(desc.indom).unwrap_or_default(),
            Context::Host(_) => Vec::new(),
        };
        let mut chosen = Vec::new();
        for wanted in instances {
            let known = metric.known.iter().chain(&ever);
            let inst = known
                .clone()
                .find(|i| instance_name_matches(&i.name, wanted.as_bytes()))
                .or_else(|| {
                    // A name whose first word is that of an instance is taken for it.
                    let word = wanted.split(' ').next().unwrap_or(wanted);
                    known.clone().find(|i| &*i.name == word.as_bytes())
                });
            match inst {
                Some(inst) => chosen.push((inst.inst, Text::from(wanted.as_str()))),
                None => {
                    (self.tool_log)(
                        "Error",
                        &format!(
                            "metric {name} from {place} does not (currently) have instance \"{wanted}\""
                        ),
                    );
                    return None;
                }
            }
        }
        metric.chosen = Some(chosen);
        Some(metric)
    }

    /// Whether a host is not reached, or does not know a metric.
    pub fn lacks(&self, metrics: &[usize]) -> bool {
        metrics.iter().any(|metric| {
            let metric = self.metrics.get(*metric);
            let host = metric.and_then(|metric| self.hosts.get(metric.host));
            metric.is_some_and(|metric| metric.desc.is_none())
                || host.is_some_and(|host| host.context.is_none())
        })
    }

    /// What leads to the host of the first of some metrics.
    pub fn via(&self, metrics: &[usize]) -> &str {
        let metric = metrics.first().and_then(|metric| self.metrics.get(*metric));
        let host = metric.and_then(|metric| self.hosts.get(metric.host));
        host.map_or("", |host| host.spec.as_str())
    }

    /// Fetches metrics; in archives for a time.
    pub fn update(&mut self, wanted: &[usize], time: Timestamp) {
        for (at, host) in self.hosts.iter_mut().enumerate() {
            let mine: Vec<usize> = wanted
                .iter()
                .copied()
                .filter(|m| self.metrics.get(*m).is_some_and(|m| m.host == at))
                .collect();
            if mine.is_empty() {
                continue;
            }
            if host.context.is_none() && host.next_attempt <= time && host.connect().is_ok() {
                (self.tool_log)(
                    "Info",
                    &format!("Re-established connection to pmcd {}", host.spec),
                );
            }
            let mut pmids: Vec<Pmid> = Vec::new();
            let mut asked = HashSet::new();
            for index in &mine {
                let Some(metric) = self.metrics.get_mut(*index) else {
                    continue;
                };
                if metric.desc.is_none() {
                    metric.find(host.context.as_mut());
                }
                if let Some(desc) = metric.desc
                    && desc.ty != Type::NoSupport
                    && asked.insert(desc.pmid)
                {
                    pmids.push(desc.pmid);
                }
            }
            let fetched = host.fetch(&pmids, time, self.trace_zone.as_ref());
            if let Some(problem) = host.take_loss(&fetched) {
                (self.tool_log)("Info", &problem);
            }
            if let (true, Err(error)) = (host.is_archive, &fetched)
                && error.code() == pcp::ErrorCode::LOGREC
            {
                self.fatal = Some(format!("pmie: pmFetch failed: {}\n", error.code()));
                return;
            }
            let fetched = fetched.ok();
            let when = fetched.as_ref().map_or(time, |f| f.time);
            let sets = fetched.iter().flat_map(|f| &f.sets);
            let sets: HashMap<Pmid, &ValueSet> = sets.map(|set| (set.pmid, set)).collect();
            for index in mine {
                let Some(metric) = self.metrics.get_mut(index) else {
                    continue;
                };
                let set = metric.desc.and_then(|desc| sets.get(&desc.pmid).copied());
                metric.failed = set.is_none_or(|s| s.values.is_err());
                let values = set.map(|s| s.instances()).unwrap_or_default();
                let values: Vec<(i32, Value)> =
                    values.iter().map(|v| (v.inst, v.value.clone())).collect();
                let strange = values
                    .iter()
                    .any(|(inst, _)| !metric.known.iter().any(|k| k.inst == *inst));
                if let (true, Some(desc), Some(context)) =
                    (strange, metric.desc, host.context.as_mut())
                    && !desc.indom.is_null()
                    && let Ok(known) = context.instances(desc.indom)
                {
                    metric.known = known;
                }
                if let (Some(desc), Some(context)) = (metric.desc, host.context.as_ref()) {
                    metric.unsaid = !desc.indom.is_null() && is_unsaid(context, desc.indom, when);
                }
                metric.had_values |= !values.is_empty();
                metric.ring.push_front((when, values));
                metric.ring.truncate(metric.depth);
            }
        }
    }
}

/// Whether an archive has said nothing of a domain by a time.
fn is_unsaid(context: &Context, indom: InDom, time: Timestamp) -> bool {
    match context {
        Context::Archive(archive) => archive.meta().state_at(indom, time).is_none(),
        Context::Host(_) => false,
    }
}

/// Units of the same dimensions in bytes, seconds and events.
fn canonical(units: Units) -> Units {
    Units::new(
        units.dim_space,
        units.dim_time,
        units.dim_count,
        0,
        pcp::TIME_SEC,
        0,
    )
}

/// One string of pmcd's.
fn string(context: &mut Context, name: &str) -> Option<String> {
    let pmid = context.lookup_name(name).ok()?;
    let fetched = context.fetch(&[pmid]).ok()?;
    let value = fetched.sets.first()?.instances().first()?;
    match Atom::extract(&value.value, Type::String).ok()? {
        Atom::String(text) => Some(text.to_string()),
        _ => None,
    }
}

impl Host {
    fn connect(&mut self) -> Result<(), pcp::ErrorCode> {
        self.next_attempt = Timestamp::now() + ATTEMPTS_APART;
        let mut context = Context::host(&self.spec).map_err(|error| error.code())?;
        if let Some(name) = string(&mut context, "pmcd.hostname") {
            self.name = name;
        }
        self.context = Some(context);
        Ok(())
    }

    fn fetch(
        &mut self,
        pmids: &[Pmid],
        time: Timestamp,
        zone: Option<&Zone>,
    ) -> Result<pcp::Fetched, Error> {
        let Some(context) = &mut self.context else {
            return Err(pcp::ErrorCode::NOTCONN.into());
        };
        if pmids.is_empty() {
            return Ok(pcp::Fetched {
                time,
                sets: Vec::new(),
            });
        }
        if let Context::Archive(archive) = context {
            // Searches go on where they were, so that marks on the way are seen.
            archive.step_to(time);
        }
        context.fetch_traced_in(pmids, zone)
    }

    /// Forgets a connection that was lost; what to say of it.
    fn take_loss(&mut self, fetched: &Result<pcp::Fetched, Error>) -> Option<String> {
        let lost = match fetched {
            Err(Error::Io(_) | Error::Malformed { .. }) => true,
            Err(error) => matches!(
                error.code(),
                pcp::ErrorCode::EOF | pcp::ErrorCode::IPC | pcp::ErrorCode::TIMEOUT
            ),
            Ok(_) => false,
        };
        if !lost || self.is_archive {
            return None;
        }
        self.context = None;
        self.next_attempt = Timestamp::now() + ATTEMPTS_APART;
        Some(format!("Lost connection to pmcd {}", self.spec))
    }
}

impl Metric {
    fn describe(&mut self, desc: Desc) {
        let units = desc.units;
        self.factor = units.conversion(canonical(units)).unwrap_or(1.0);
        self.desc = Some(desc);
    }

    /// Looks again for what was not there.
    fn find(&mut self, context: Option<&mut Context>) {
        let Some(context) = context else { return };
        let pmid = context.lookup_name(&self.name);
        if let Ok(desc) = pmid.and_then(|pmid| context.desc(pmid)) {
            self.describe(desc);
            if !desc.indom.is_null() {
                self.known = context.instances(desc.indom).unwrap_or_default();
            }
        }
    }

    /// How many instances are wanted or known; `None` when the metric has none.
    pub fn instance_count(&self) -> Option<usize> {
        let desc = self.desc?;
        if desc.indom.is_null() {
            return None;
        }
        // Before there are values all that an archive ever tells of are reckoned with.
        let known = match self.had_values {
            false => self.known.len().max(self.all),
            true => self.known.len(),
        };
        Some(self.chosen.as_ref().map_or(known, Vec::len))
    }

    /// Whether the last fetch had an error in the place of values.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        self.desc.is_none()
    }

    /// How many values there would be if there were any.
    pub fn expected(&self) -> usize {
        // Of a domain that never had a value the number is not known, unless an archive has it.
        let empty = self.ring.iter().all(|(_, values)| values.is_empty());
        let silent = (self.live || self.unsaid) && !self.ring.is_empty() && empty;
        let newest = self.ring.front().map_or(0, |(_, values)| values.len());
        match (&self.chosen, self.failed) {
            (None, true) => return 1,
            // As many as there were this time, once there were any.
            (None, false) if newest > 0 => return newest,
            (None, false) if self.had_values => return 1,
            (None, false) if silent && self.instance_count().is_some() => return 0,
            _ => {}
        }
        self.instance_count().unwrap_or(1).max(1)
    }

    /// The units of its numbers: bytes, seconds and events to the powers of the metric's own.
    pub fn units(&self) -> Units {
        let own = self.desc.map_or(Units::default(), |desc| desc.units);
        canonical(own)
    }

    /// Whether values are turned into rates.
    pub fn is_counter(&self) -> bool {
        self.desc
            .is_some_and(|d| d.sem == Semantics::Counter && d.ty.is_numeric())
    }

    /// The instances that have a row: those that were named, or those with a value.
    pub fn rows(&self) -> Vec<(i32, Option<Text>)> {
        let Some(desc) = self.desc else {
            return Vec::new();
        };
        if desc.indom.is_null() {
            return vec![(pcp::INST_NULL, None)];
        }
        if let Some(chosen) = &self.chosen {
            return chosen.iter().map(|(i, n)| (*i, Some(n.clone()))).collect();
        }
        let newest = self.ring.front().map(|(_, values)| values.as_slice());
        let newest = newest.unwrap_or_default();
        let has = |inst: i32| newest.iter().any(|(i, _)| *i == inst);
        let mut rows: Vec<(i32, Option<Text>)> = self
            .known
            .iter()
            .filter(|k| has(k.inst))
            .map(|k| (k.inst, Some(k.name.clone())))
            .collect();
        for (inst, _) in newest {
            if !self.known.iter().any(|k| k.inst == *inst) {
                rows.push((*inst, Some(inst.to_string().into())));
            }
        }
        rows
    }

    /// A sample of an instance in canonical units, and when it was taken.
    pub fn number(&self, sample: usize, inst: i32) -> Option<(Timestamp, f64)> {
        let (time, values) = self.ring.get(sample)?;
        let value = &values.iter().find(|(i, _)| *i == inst)?.1;
        let number = Atom::extract(value, self.desc?.ty).ok()?.as_f64()?;
        Some((*time, number * self.factor))
    }

    /// When its newest sample was taken.
    pub fn taken(&self) -> Option<Timestamp> {
        self.ring.front().map(|(time, _)| *time)
    }

    /// A sample of an instance that is a text.
    pub fn text(&self, sample: usize, inst: i32) -> Option<String> {
        let (_, values) = self.ring.get(sample)?;
        let value = &values.iter().find(|(i, _)| *i == inst)?.1;
        match Atom::extract(value, Type::String).ok()? {
            Atom::String(text) => Some(text.to_string()),
            _ => None,
        }
    }
}
