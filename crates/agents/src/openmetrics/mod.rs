//! `openmetrics`: metrics that other programs offer in the text formats of Prometheus and OpenMetrics (pmdaopenmetrics(1)).
//! Each source has a cluster, each of its metrics an item, and each metric with labels an instance domain of its own.

mod exposition;
mod metrics;
mod numbering;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pcp::pmns::Pmns;
use pcp::{
    Atom, Desc, ErrorCode, INST_NULL, InDom, LabelLevel, LabelSet, Pmid, Semantics, Text, Type,
    Units,
};
use pmda::{Agent, Caller, Values};

pub use exposition::{Described, Family, Kind, Sample, parse};
use metrics::{Metrics, label};
use numbering::Numbering;
use source::{Answer, Config, Entry};

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 144;

/// Sources that there can be, so that domains of all their metrics have numbers. The first is that of the control metrics.
const SOURCES_MAX: usize = 4092;
/// Sources that are asked at the same time.
const AT_ONCE: usize = 32;
/// How long what was found in the configuration folder is believed.
const SCAN_EVERY: Duration = Duration::from_millis(100);

/// The control metrics: name, type, semantics, units, help.
const CONTROL: [(&str, Type, Semantics, &str, &str); 6] = [
    (
        "calls",
        Type::U64,
        Semantics::Counter,
        "count",
        "per-end-point source call counter",
    ),
    (
        "fetch_time",
        Type::U64,
        Semantics::Counter,
        "millisec",
        "per-end-point source fetch time counter, excluding parse time",
    ),
    (
        "parse_time",
        Type::U64,
        Semantics::Counter,
        "millisec",
        "per-end-point source parse time counter, excluding fetch time",
    ),
    (
        "debug",
        Type::U32,
        Semantics::Discrete,
        "",
        "debug flag to enable verbose log messages, to enable: pmstore openmetrics.control.debug 1",
    ),
    (
        "status",
        Type::String,
        Semantics::Instant,
        "",
        "per-end-point source URL response status after the most recent fetch",
    ),
    (
        "status_code",
        Type::I32,
        Semantics::Discrete,
        "",
        "per-end-point source URL response status code after the most recent fetch",
    ),
];
/// The item of `control.debug`.
const DEBUG: u32 = 4;

/// How the agent is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `-d`: its domain.
    pub domain: u32,
    /// `-c`: the configuration folder.
    pub config: PathBuf,
    /// `-r`: what its metrics stand below.
    pub root: String,
    /// `-t`: how long a source may take.
    pub timeout: Duration,
    /// Without `-n`: sources are numbered in the order of their names.
    pub sorted: bool,
    /// `-D`: whether the log tells more.
    pub debug: bool,
    /// Where numbers are kept.
    pub kept: PathBuf,
}

/// What is counted for a source.
#[derive(Clone, Default)]
struct Counts {
    calls: u64,
    fetch: Duration,
    parse: Duration,
    status: String,
    code: i32,
}

struct Source {
    entry: Entry,
    config: Config,
    metrics: Metrics,
    counts: Counts,
    asked: bool,
    failed: bool,
}

/// The agent.
pub struct OpenMetrics {
    settings: Settings,
    clusters: Numbering,
    sources: BTreeMap<u32, Source>,
    total: Counts,
    names: Pmns,
    scanned: Option<Instant>,
    folder_said: bool,
}

impl OpenMetrics {
    /// With these settings; nothing is asked before the first request comes.
    pub fn new(settings: Settings) -> OpenMetrics {
        let file = settings.kept.join(format!("{}.0.py", settings.domain));
        let mut clusters = Numbering::kept(file, false, SOURCES_MAX);
        clusters.number("control");
        OpenMetrics {
            clusters,
            sources: BTreeMap::new(),
            total: Counts {
                status: "none".to_owned(),
                ..Counts::default()
            },
            names: Pmns::new(),
            scanned: None,
            folder_said: false,
            settings,
        }
    }

    /// Looks for sources that came, went or are others now, and asks those that were never asked.
    fn scan(&mut self) {
        if self.scanned.is_some_and(|at| at.elapsed() < SCAN_EVERY) {
            return;
        }
        let first = self.scanned.is_none();
        let found = match source::entries(&self.settings.config, self.settings.sorted) {
            Ok((found, unsuitable)) => {
                if first {
                    for path in unsuitable {
                        let path = path.display();
                        eprintln!("ignored config file '{path}', unsuitable for PCP namespace");
                    }
                }
                found
            }
            Err(error) => {
                if !std::mem::replace(&mut self.folder_said, true) {
                    eprintln!("{}: {error}", self.settings.config.display());
                }
                Vec::new()
            }
        };
        let before = self.sources.len();
        self.sources
            .retain(|_, source| found.contains(&source.entry));
        let mut changed = first || self.sources.len() != before;
        for entry in found {
            changed |= self.add(entry);
        }
        let new: Vec<u32> = self
            .sources
            .iter()
            .filter(|(_, source)| !source.asked)
            .map(|(cluster, _)| *cluster)
            .collect();
        self.refresh(&new);
        if changed {
            self.rename();
        }
        self.scanned = Some(Instant::now());
    }

    fn add(&mut self, entry: Entry) -> bool {
        let Some(cluster) = self.clusters.number(&entry.name).filter(|c| *c > 0) else {
            return false;
        };
        if self.sources.contains_key(&cluster) {
            return false;
        }
        let config = if entry.path.extension().is_some_and(|e| e == "url") {
            let text = std::fs::read_to_string(&entry.path).unwrap_or_default();
            let (config, wrong) = Config::parse(&text);
            for line in wrong {
                eprintln!("{}: ignored: {line}", entry.path.display());
            }
            config
        } else {
            Config::default()
        };
        let metrics = Metrics::new(self.settings.domain, cluster, &self.settings.kept);
        self.sources.insert(
            cluster,
            Source {
                entry,
                config,
                metrics,
                counts: Counts {
                    status: "unknown".to_owned(),
                    ..Counts::default()
                },
                asked: false,
                failed: false,
            },
        );
        true
    }

    /// Asks sources, all at the same time, and takes what they say.
    fn refresh(&mut self, clusters: &[u32]) {
        let timeout = self.settings.timeout;
        let mut answers: Vec<(u32, Answer, Duration)> = Vec::new();
        for some in clusters.chunks(AT_ONCE) {
            let asked: Vec<(u32, &Source)> = some
                .iter()
                .filter_map(|cluster| Some((*cluster, self.sources.get(cluster)?)))
                .collect();
            std::thread::scope(|scope| {
                let threads: Vec<_> = asked
                    .iter()
                    .map(|(cluster, source)| {
                        scope.spawn(move || {
                            let start = Instant::now();
                            let answer = source::ask(&source.entry.path, &source.config, timeout);
                            (*cluster, answer, start.elapsed())
                        })
                    })
                    .collect();
                answers.extend(threads.into_iter().filter_map(|t| t.join().ok()));
            });
        }
        let mut renamed = false;
        for (cluster, answer, took) in answers {
            renamed |= self.take(cluster, answer, took);
        }
        if renamed {
            self.rename();
        }
        if let Err(error) = self.clusters.save() {
            eprintln!("{}: {error}", self.settings.kept.display());
        }
    }

    fn take(&mut self, cluster: u32, answer: Answer, took: Duration) -> bool {
        let Some(source) = self.sources.get_mut(&cluster) else {
            return false;
        };
        let debug = self.settings.debug;
        let name = source.entry.name.clone();
        source.asked = true;
        source.counts.calls += 1;
        source.counts.code = answer.code;
        self.total.calls += 1;
        let text = match answer.text {
            Ok(text) => text,
            Err(error) => {
                let path = source.entry.path.display();
                let status = format!("failed to fetch URL or execute script {path}: {error}");
                if status != source.counts.status {
                    eprintln!("{name}: {status}");
                }
                source.counts.status = status;
                source.failed = true;
                source.metrics.clear();
                return false;
            }
        };
        source.counts.fetch += took;
        self.total.fetch += took;
        let start = Instant::now();
        let new = source
            .metrics
            .take(&text, &source.config, &self.settings.kept, |line| {
                if debug || !source.failed && source.counts.calls == 1 {
                    eprintln!("{name}: {line}");
                }
            });
        if let Err(error) = source.metrics.save() {
            eprintln!("{}: {error}", self.settings.kept.display());
        }
        source.counts.parse += start.elapsed();
        self.total.parse += start.elapsed();
        source.counts.status = "success".to_owned();
        source.failed = false;
        if debug {
            eprintln!("{name}: {} bytes, {new} new metrics", text.len());
        }
        new > 0
    }

    fn rename(&mut self) {
        let mut names = Pmns::new();
        let root = &self.settings.root;
        let domain = self.settings.domain;
        for ((name, ..), item) in CONTROL.iter().zip(1..) {
            let name = format!("{root}.control.{name}");
            // Nothing is below these.
            let _ = names.insert(name.as_bytes(), Pmid::new(domain, 0, item));
        }
        for (cluster, source) in &self.sources {
            for (name, item) in source.metrics.names() {
                let name = format!("{root}.{}.{name}", source.entry.name);
                // A name that goes through another metric is left out, as it can't be had.
                let _ = names.insert(name.as_bytes(), Pmid::new(domain, *cluster, item));
            }
        }
        self.names = names;
    }

    fn control(&self, item: u32) -> Values {
        if item == DEBUG {
            return Values::single(Atom::U32(self.settings.debug.into()));
        }
        let value = |counts: &Counts| match item {
            1 => Atom::U64(counts.calls),
            2 => Atom::U64(counts.fetch.as_millis() as u64),
            3 => Atom::U64(counts.parse.as_millis() as u64),
            5 => Atom::String(Text::from(counts.status.as_str())),
            _ => Atom::I32(counts.code),
        };
        let sources = self.sources.iter();
        let sources = sources.map(|(cluster, source)| (*cluster as i32, value(&source.counts)));
        Values(
            std::iter::once((0, value(&self.total)))
                .chain(sources)
                .collect(),
        )
    }

    fn metric(&self, cluster: u32, item: u32) -> Option<&metrics::Metric> {
        self.sources.get(&cluster)?.metrics.get(item)
    }
}

impl Agent for OpenMetrics {
    fn domain(&self) -> u32 {
        self.settings.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        self.scan();
        if pmid.cluster() != 0 {
            let metric = self.metric(pmid.cluster(), pmid.item());
            return metric.map(|m| m.desc).ok_or(ErrorCode::PMID);
        }
        let place = pmid.item().checked_sub(1).ok_or(ErrorCode::PMID)?;
        let (_, ty, sem, units, _) = CONTROL.get(place as usize).ok_or(ErrorCode::PMID)?;
        let units: Option<pcp::ScaledUnits> = units.parse().ok();
        Ok(Desc {
            pmid,
            ty: *ty,
            indom: if pmid.item() == DEBUG {
                InDom::NULL
            } else {
                InDom::new(self.settings.domain, 0)
            },
            sem: *sem,
            units: units.map_or(Units::NONE, |scaled| scaled.units),
        })
    }

    fn begin_fetch(&mut self, _: &Caller<'_>, pmids: &[Pmid]) {
        self.scan();
        let mut clusters: Vec<u32> = pmids.iter().map(|p| p.cluster()).collect();
        clusters.sort_unstable();
        clusters.dedup();
        self.refresh(&clusters);
    }

    fn values(&mut self, _: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let (cluster, item) = (desc.pmid.cluster(), desc.pmid.item());
        if cluster == 0 {
            return Ok(self.control(item));
        }
        let metric = self.metric(cluster, item).ok_or(ErrorCode::PMID)?;
        if metric.values.is_empty() {
            return Err(ErrorCode::AGAIN);
        }
        Ok(Values(metric.values.clone()))
    }

    fn instances(&mut self, _: i32, indom: InDom) -> Result<Vec<pcp::Instance>, ErrorCode> {
        self.scan();
        let serial = indom.serial();
        if serial == 0 {
            let names = self.clusters.names().iter().zip(0..);
            let known =
                names.filter(|(_, inst)| *inst == 0 || self.sources.contains_key(&(*inst as u32)));
            return Ok(known
                .map(|(name, inst)| pcp::Instance {
                    inst,
                    name: Text::from(name.as_str()),
                })
                .collect());
        }
        let place = metrics::metric_of(serial).ok_or(ErrorCode::INDOM)?;
        let metric = self.metric(place.0, place.1);
        Ok(metric.ok_or(ErrorCode::INDOM)?.instances())
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        if pmid.cluster() != 0 {
            let metric = self.metric(pmid.cluster(), pmid.item());
            return Ok(metrics::text(
                &metric.ok_or(ErrorCode::PMID)?.help,
                one_line,
            ));
        }
        let place = pmid.item().checked_sub(1).ok_or(ErrorCode::PMID)?;
        let (.., help) = CONTROL.get(place as usize).ok_or(ErrorCode::PMID)?;
        Ok(metrics::text(help, one_line))
    }

    fn store(&mut self, _: i32, desc: &Desc, inst: i32, value: &Atom) -> Result<(), ErrorCode> {
        match (desc.pmid.cluster(), desc.pmid.item(), value) {
            (0, DEBUG, Atom::U32(value)) if inst == INST_NULL => {
                self.settings.debug = *value != 0;
                Ok(())
            }
            _ => Err(ErrorCode::PERMISSION),
        }
    }

    fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        self.scan();
        let pmid = Pmid(ident);
        Ok(match level {
            LabelLevel::Domain => {
                let all = [label("agent", &self.settings.root)];
                vec![metrics::labels(INST_NULL, level, &all)]
            }
            LabelLevel::Cluster => {
                let Some(source) = self.sources.get(&pmid.cluster()) else {
                    return Ok(Vec::new());
                };
                let mut all = vec![label("source", &source.entry.name)];
                match &source.config.url {
                    Some(url) => all.push(label("url", url)),
                    None => {
                        let path = source.entry.path.display().to_string();
                        all.push(label("script", &path));
                    }
                }
                if let Some(host) = source.config.host() {
                    all.push(label("hostname", host));
                }
                vec![metrics::labels(INST_NULL, level, &all)]
            }
            LabelLevel::Item => {
                let metric = self.metric(pmid.cluster(), pmid.item());
                metric
                    .and_then(metrics::Metric::labels)
                    .into_iter()
                    .collect()
            }
            LabelLevel::Instances => {
                let place = metrics::metric_of(InDom(ident).serial());
                let metric = place.and_then(|(cluster, item)| self.metric(cluster, item));
                metric.map_or(Vec::new(), metrics::Metric::instance_labels)
            }
            _ => Vec::new(),
        })
    }

    fn names(&mut self) -> Option<&Pmns> {
        self.scan();
        Some(&self.names)
    }
}

/// Where numbers of sources, metrics and instances are kept.
pub fn kept_in() -> PathBuf {
    let variable = pcp::config("PCP_VAR_DIR").unwrap_or("/var/lib/pcp".to_owned());
    Path::new(&variable).join("config/pmda")
}
