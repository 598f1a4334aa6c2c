//! The metrics of one source, made of the texts that it answers with.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use pcp::{Atom, Desc, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics, Text, Type, Units};
use pmda::label_set;

use super::exposition::{self, Sample};
use super::numbering::Numbering;
use super::source::{Config, Verdict};

/// Metrics that a source can have: items of a PMID.
pub const METRICS_MAX: usize = 1024;
/// Instances that a metric can have.
const INSTANCES_MAX: usize = 1 << 22;
/// `PM_LABEL_OPTIONAL`.
const OPTIONAL: u8 = 1 << 7;

/// Labels: name, value as JSON, flags.
type Labels = Vec<(String, String, u8)>;

/// A metric that a source gave at least once.
pub struct Metric {
    /// What it is.
    pub desc: Desc,
    /// Its help text.
    pub help: String,
    named_instances: bool,
    /// The names that instances have for the outside, by number.
    instances: Vec<String>,
    numbering: Numbering,
    labels: Vec<Labels>,
    own_labels: Labels,
    /// The values of the last text.
    pub values: Vec<(i32, Atom)>,
}

/// All metrics of a source.
pub struct Metrics {
    domain: u32,
    cluster: u32,
    names: Numbering,
    metrics: HashMap<u32, Metric>,
}

/// The serial number of a metric's instance domain: above those of clusters, as both name files in one folder.
pub fn serial(cluster: u32, item: u32) -> u32 {
    (cluster << 10 | item) + (4 << 10)
}

/// Cluster and item of the metric that an instance domain is of.
pub fn metric_of(serial: u32) -> Option<(u32, u32)> {
    let number = serial.checked_sub(4 << 10)?;
    Some((number >> 10, number & 0x3ff))
}

fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if u32::from(c) < 0x20 => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A set of labels; those whose name no label can have are left out.
pub fn labels(inst: i32, level: LabelLevel, all: &[(String, String, u8)]) -> LabelSet {
    let plain: Vec<(&str, &str, u8)> = all
        .iter()
        .filter(|(name, ..)| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
        })
        .map(|(name, value, flags)| (name.as_str(), value.as_str(), *flags))
        .collect();
    label_set(inst, level, &plain)
}

/// A label whose value is a text.
pub fn label(name: &str, value: &str) -> (String, String, u8) {
    (name.to_owned(), json(value), 0)
}

fn value(text: &str, ty: Type) -> Option<Atom> {
    let real = text.parse::<f64>().ok()?;
    // Exposition formats have no integers: 1e3 is one as well as 1000.
    let whole = real.fract() == 0.0;
    Some(match ty {
        Type::I32 => Atom::I32(
            text.parse().ok().or((whole
                && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&real))
            .then_some(real as i32))?,
        ),
        Type::U32 => {
            Atom::U32(text.parse().ok().or(
                (whole && (0.0..=f64::from(u32::MAX)).contains(&real)).then_some(real as u32),
            )?)
        }
        Type::I64 => Atom::I64(
            text.parse()
                .ok()
                .or((whole && real.abs() < 9e18).then_some(real as i64))?,
        ),
        Type::U64 => Atom::U64(
            text.parse()
                .ok()
                .or((whole && (0.0..1.8e19).contains(&real)).then_some(real as u64))?,
        ),
        Type::Float => Atom::Float(real as f32),
        Type::String => Atom::String(Text::from(text)),
        _ => Atom::Double(real),
    })
}

impl Metric {
    /// The number of the instance that labels stand for; `first` says that the metric is new.
    fn instance(&mut self, sample: &Sample<'_>, config: &Config, first: bool) -> Option<i32> {
        let told: Vec<_> = sample
            .labels
            .iter()
            .map(|(name, value)| (config.label(name), *name, value))
            .filter(|(verdict, ..)| *verdict != Verdict::Exclude)
            .collect();
        let mut all: Labels = told
            .iter()
            .map(|(verdict, name, value)| {
                let flags = if *verdict == Verdict::Optional {
                    OPTIONAL
                } else {
                    0
                };
                ((*name).to_owned(), json(value), flags)
            })
            .collect();
        if self.desc.indom.is_null() {
            if first {
                self.own_labels = all;
            }
            return Some(pcp::INST_NULL);
        }
        let intrinsic: Vec<String> = told
            .iter()
            .filter(|(verdict, ..)| *verdict == Verdict::Include)
            .map(|(_, name, value)| format!("{name}:{value}"))
            .collect();
        if intrinsic.is_empty() {
            return None;
        }
        let given = ["instname", "instance"].iter().find_map(|wanted| {
            let found = sample.labels.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        });
        let given = given.filter(|_| self.named_instances);
        let key = given.clone().unwrap_or_else(|| intrinsic.join(" "));
        let known = self.numbering.names().len();
        let number = self.numbering.number(&key)?;
        let numbered = format!("{number} {key}");
        if number as usize >= known || self.instances.len() <= number as usize {
            self.instances.resize(number as usize + 1, String::new());
            self.labels.resize(number as usize + 1, Labels::new());
        }
        if let Some(name) = self.instances.get_mut(number as usize) {
            *name = given.clone().unwrap_or_else(|| numbered.clone());
        }
        // As PCP's agent has it: a metric has the labels of all its instances, with the values of one of them.
        for label in &all {
            let known = self
                .own_labels
                .iter_mut()
                .find(|(name, ..)| *name == label.0);
            match known {
                Some(known) if given.is_none() => *known = label.clone(),
                Some(_) => {}
                None => self.own_labels.push(label.clone()),
            }
        }
        all.retain(|(name, ..)| name != "instname");
        all.push(label("instname", &numbered));
        if let Some(labels) = self.labels.get_mut(number as usize) {
            *labels = all;
        }
        i32::try_from(number).ok()
    }

    /// The instances that were seen since the agent runs, or were known before and have been told again.
    pub fn instances(&self) -> Vec<Instance> {
        let all = self.instances.iter().zip(0..);
        all.filter(|(_, inst)| {
            self.labels
                .get(*inst as usize)
                .is_some_and(|l| !l.is_empty())
        })
        .map(|(name, inst)| Instance {
            inst,
            name: Text::from(name.as_str()),
        })
        .collect()
    }

    /// The labels of each instance.
    pub fn instance_labels(&self) -> Vec<LabelSet> {
        let all = self.labels.iter().zip(0..);
        all.filter(|(all, _)| !all.is_empty())
            .map(|(all, inst)| labels(inst, LabelLevel::Instances, all))
            .collect()
    }

    /// The labels of the metric.
    pub fn labels(&self) -> Option<LabelSet> {
        let all = Some(&self.own_labels).filter(|all| !all.is_empty())?;
        Some(labels(pcp::INST_NULL, LabelLevel::Item, all))
    }

    fn put(&mut self, inst: i32, value: Atom) {
        // Texts have instances in the order of their numbers, as a rule.
        if self.values.last().is_none_or(|(last, _)| *last < inst) {
            self.values.push((inst, value));
            return;
        }
        match self.values.iter_mut().find(|(known, _)| *known == inst) {
            Some((_, old)) => *old = value,
            None => self.values.push((inst, value)),
        }
    }
}

impl Metrics {
    /// Those of a cluster, with the names that are kept in a folder.
    pub fn new(domain: u32, cluster: u32, folder: &Path) -> Metrics {
        let file = folder.join(format!("{domain}.{cluster}.py"));
        Metrics {
            domain,
            cluster,
            names: Numbering::kept(file, false, METRICS_MAX),
            metrics: HashMap::new(),
        }
    }

    /// A metric by its item.
    pub fn get(&self, item: u32) -> Option<&Metric> {
        self.metrics.get(&item)
    }

    /// Names below that of the source, with their items.
    pub fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        let all = self.names.names().iter().zip(0..);
        all.filter(|(_, item)| self.metrics.contains_key(item))
            .map(|(name, item)| (name.as_str(), item))
    }

    /// Forgets values: there is no text.
    pub fn clear(&mut self) {
        for metric in self.metrics.values_mut() {
            metric.values.clear();
        }
    }

    /// Takes the values of a text; the result is how many metrics are new. `wrong` gets what could not be taken.
    pub fn take(
        &mut self,
        text: &str,
        config: &Config,
        folder: &Path,
        mut wrong: impl FnMut(String),
    ) -> usize {
        self.clear();
        let known = self.metrics.len();
        let mut lines = Vec::new();
        exposition::parse(
            text,
            |sample| self.sample(&sample, config, folder),
            |number, line| lines.push((number, line.to_owned())),
        );
        for (number, line) in lines.iter().take(10) {
            wrong(format!("line {number}: cannot parse \"{line}\""));
        }
        if lines.len() > 10 {
            wrong(format!("{} lines more", lines.len() - 10));
        }
        self.metrics.len() - known
    }

    fn sample(&mut self, sample: &Sample<'_>, config: &Config, folder: &Path) {
        if !config.takes(sample.name) {
            return;
        }
        let said = config.described(sample.name);
        let said = said.as_ref().or(sample.described());
        let name = said.map_or(sample.name, |d| d.name.as_str());
        let name = name.replace(':', ".");
        let Some(item) = self.names.number(&name) else {
            return;
        };
        let (domain, cluster) = (self.domain, self.cluster);
        let first = !self.metrics.contains_key(&item);
        let metric = self.metrics.entry(item).or_insert_with(|| {
            let includes = |(name, _): &(&str, String)| config.label(name) == Verdict::Include;
            let singular = said.is_some_and(|d| d.singular) || !sample.labels.iter().any(includes);
            let serial = serial(cluster, item);
            let (ty, sem, units): (Type, Semantics, Units) = match said {
                Some(d) => (d.ty, d.sem, d.units),
                None => (Type::Double, sample.semantics(), sample.units()),
            };
            let indom = if singular {
                InDom::NULL
            } else {
                InDom::new(domain, serial)
            };
            let numbering = if singular {
                Numbering::default()
            } else {
                let file = folder.join(format!("{domain}.{serial}.py"));
                Numbering::kept(file, true, INSTANCES_MAX)
            };
            Metric {
                desc: Desc {
                    pmid: Pmid::new(domain, cluster, item),
                    ty,
                    indom,
                    sem,
                    units,
                },
                help: sample.family.help.clone(),
                named_instances: said.is_some_and(|d| d.named_instances),
                instances: Vec::new(),
                numbering,
                labels: Vec::new(),
                own_labels: Labels::new(),
                values: Vec::new(),
            }
        });
        let value = value(sample.value, metric.desc.ty);
        if let Some(inst) = metric.instance(sample, config, first)
            && let Some(value) = value
        {
            metric.put(inst, value);
        }
    }

    /// Writes the lists of names that have grown.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&mut self) -> std::io::Result<()> {
        self.names.save()?;
        for metric in self.metrics.values_mut() {
            metric.numbering.save()?;
        }
        Ok(())
    }
}

/// A help text as it is sent: the first line is the short one, and the rest the long one, or both the same.
pub fn text(help: &str, one_line: bool) -> Text {
    let (first, rest) = help.split_once('\n').unwrap_or((help, help));
    Bytes::from(if one_line { first } else { rest }.to_owned()).into()
}
