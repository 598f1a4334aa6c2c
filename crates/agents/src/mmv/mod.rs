//! `mmv`: the metrics of instrumented programs, which they keep in files of `$PCP_TMP_DIR/mmv` (pmdammv(1)).

pub mod format;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use pcp::pmns::Pmns;
use pcp::{
    Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics, Text,
    Timestamp, Type, Units,
};
use pmda::{Agent, Caller, Values, label_set};

use format::{File, Metric, PROCESS, SENTINEL, parse};

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 70;

/// Metrics of the agent itself, in cluster 0, and what they are.
const CONTROL: [(&str, &str); 3] = [
    (
        "reload",
        "Storing another number than 0 has the files looked for again.",
    ),
    ("debug", "A number that can be stored, without effect."),
    ("files", "The number of files that metrics are read from."),
];

/// A label: its name, its value as JSON, and flags.
type Named = (String, String, u8);

/// A program's file.
struct Source {
    path: PathBuf,
    cluster: u32,
    bytes: Vec<u8>,
    file: File,
}

/// The agent.
pub struct Mmv {
    domain: u32,
    folder: PathBuf,
    /// The root of the names.
    root: &'static str,
    sources: Vec<Source>,
    /// When the folder changed last, as far as it was looked at.
    seen: Option<SystemTime>,
    metrics: HashMap<Pmid, (usize, usize)>,
    names: Pmns,
    debug: i32,
}

impl Mmv {
    /// Reads the files of a folder, now and as they come and go.
    pub fn new(domain: u32, folder: PathBuf) -> Mmv {
        let mut mmv = Mmv {
            domain,
            folder,
            root: "mmv",
            sources: Vec::new(),
            seen: None,
            metrics: HashMap::new(),
            names: Pmns::new(),
            debug: 0,
        };
        mmv.reload();
        mmv
    }

    /// Reads the values, and the metrics again if any file came, went or began anew.
    fn refresh(&mut self) {
        let changed = fs::metadata(&self.folder).and_then(|m| m.modified()).ok();
        let mut stale = changed != self.seen;
        for source in &mut self.sources {
            match read(&source.path) {
                Some((bytes, file)) if file.generation == source.file.generation => {
                    source.bytes = bytes;
                    source.file = file;
                }
                _ => stale = true,
            }
        }
        if stale {
            self.reload();
        }
    }

    fn reload(&mut self) {
        self.seen = fs::metadata(&self.folder).and_then(|m| m.modified()).ok();
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let before: HashMap<PathBuf, u32> = self
            .sources
            .drain(..)
            .map(|source| (source.path, source.cluster))
            .collect();
        self.metrics.clear();
        self.names = Pmns::newest_first();
        for ((name, _), item) in CONTROL.iter().zip(0..) {
            let name = format!("{}.control.{name}", self.root);
            // Three names that differ.
            let _ = self
                .names
                .insert(name.as_bytes(), Pmid::new(self.domain, 0, item));
        }
        for path in paths {
            let Some((bytes, file)) = read(&path) else {
                continue;
            };
            let taken = |cluster| cluster == 0 || self.sources.iter().any(|s| s.cluster == cluster);
            let wanted = before.get(&path).copied().unwrap_or(file.cluster);
            let cluster = if taken(wanted) {
                (1..=0xfff).find(|cluster| !taken(*cluster))
            } else {
                Some(wanted)
            };
            let Some(cluster) = cluster else { continue };
            let prefix = match path.file_name() {
                Some(name) if file.flags & format::NO_PREFIX == 0 => {
                    format!("{}.{}.", self.root, name.to_string_lossy())
                }
                _ => format!("{}.", self.root),
            };
            for (metric, at) in file.metrics.iter().zip(0..) {
                let pmid = Pmid::new(self.domain, cluster, metric.item);
                let mut name = prefix.clone().into_bytes();
                name.extend_from_slice(&metric.name);
                // A name that an earlier file has stays that file's.
                if is_name(&name) && self.names.insert(&name, pmid).is_ok() {
                    self.metrics.insert(pmid, (self.sources.len(), at));
                }
            }
            self.sources.push(Source {
                path,
                cluster,
                bytes,
                file,
            });
        }
    }

    fn metric(&self, pmid: Pmid) -> Result<(&Source, &Metric), ErrorCode> {
        let (source, metric) = self.metrics.get(&pmid).ok_or(ErrorCode::PMID)?;
        let source = self.sources.get(*source).ok_or(ErrorCode::PMID)?;
        let metric = source.file.metrics.get(*metric).ok_or(ErrorCode::PMID)?;
        Ok((source, metric))
    }

    /// A file's domain by the number that clients know it by.
    fn indom(&self, indom: InDom) -> Result<(&Source, &format::Domain), ErrorCode> {
        let (cluster, serial) = (indom.serial() >> 11, indom.serial() & 0x7ff);
        let source = self.sources.iter().find(|s| s.cluster == cluster);
        let source = source.ok_or(ErrorCode::INDOM)?;
        let domain = source
            .file
            .domains
            .iter()
            .find(|d| d.serial & 0x7ff == serial);
        Ok((source, domain.ok_or(ErrorCode::INDOM)?))
    }
}

fn is_name(name: &[u8]) -> bool {
    name.split(|b| *b == b'.').all(|part| {
        let rest = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        part.first().is_some_and(u8::is_ascii_alphabetic) && part.iter().all(rest)
    })
}

/// Reads a file, unless it is none, not complete, or of a process that is gone.
fn read(path: &Path) -> Option<(Vec<u8>, File)> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > format::FILE_MAX {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    let file = parse(&bytes).ok()?;
    let is_gone = file.flags & PROCESS != 0
        && file.process > 0
        && kill(Pid::from_raw(file.process), None) == Err(nix::Error::ESRCH);
    (!is_gone).then_some((bytes, file))
}

fn indom_of(domain: u32, cluster: u32, serial: u32) -> InDom {
    InDom::new(domain, cluster << 11 | serial & 0x7ff)
}

/// The labels of a text that is an object of JSON; none of one that is not. What is within an object has both names with a dot between.
fn labels_of(text: &[u8], flags: u8) -> Vec<Named> {
    fn add(prefix: &str, value: &serde_json::Value, flags: u8, found: &mut Vec<Named>) {
        match value {
            serde_json::Value::Object(inside) => {
                for (name, value) in inside {
                    let name = match prefix {
                        "" => name.clone(),
                        prefix => format!("{prefix}.{name}"),
                    };
                    add(&name, value, flags, found);
                }
            }
            value if is_name(prefix.as_bytes()) => {
                found.push((prefix.to_owned(), value.to_string(), flags));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(text) {
        add("", &value, flags, &mut found);
    }
    found
}

/// One line of a program's about something, or more.
fn text_of(texts: &[Option<Vec<u8>>; 2], one_line: bool) -> Result<Text, ErrorCode> {
    let text = texts[usize::from(!one_line)].as_deref();
    text.map(Text::from).ok_or(ErrorCode::TEXT)
}

/// Whether a value stands for none in a file of [`SENTINEL`]: an integer of which all bits are set, or a text without characters.
fn is_none(metric: &Metric, bits: u64, atom: &Atom) -> bool {
    match (metric.ty, atom) {
        (Type::String, Atom::String(text)) => text.is_empty(),
        _ => bits == u64::MAX,
    }
}

/// A value as its metric's type has it. A time that goes on is counted to now, in microseconds.
fn atom(source: &Source, metric: &Metric, value: format::Value) -> Option<Atom> {
    let bits = value.bits;
    Some(match metric.ty {
        Type::I64 if metric.is_elapsed => {
            let so_far = bits as i64;
            Atom::I64(if value.extra < 0 {
                let now = Timestamp::now().as_nanos() / 1000;
                so_far.wrapping_add(value.extra).wrapping_add(now as i64)
            } else {
                so_far
            })
        }
        Type::I32 => Atom::I32(bits as i32),
        Type::U32 => Atom::U32(bits as u32),
        Type::I64 => Atom::I64(bits as i64),
        Type::U64 => Atom::U64(bits),
        Type::Float => Atom::Float(f32::from_bits(bits as u32)),
        Type::Double => Atom::Double(f64::from_bits(bits)),
        Type::String => {
            let text = format::string_at(&source.bytes, value.extra)?;
            Atom::String(Bytes::from(text).into())
        }
        _ => return None,
    })
}

impl Agent for Mmv {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        if pmid.cluster() == 0 && (pmid.item() as usize) < CONTROL.len() {
            return Ok(Desc {
                pmid,
                ty: Type::I32,
                indom: InDom::NULL,
                sem: Semantics::Instant,
                units: Units::NONE,
            });
        }
        let (source, metric) = self.metric(pmid)?;
        Ok(Desc {
            pmid,
            ty: metric.ty,
            indom: metric.indom.map_or(InDom::NULL, |serial| {
                indom_of(self.domain, source.cluster, serial)
            }),
            sem: metric.sem,
            units: metric.units,
        })
    }

    fn begin_fetch(&mut self, _: &Caller<'_>, _: &[Pmid]) {
        self.refresh();
    }

    fn values(&mut self, _: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        if desc.pmid.cluster() == 0 {
            return Ok(Values::single(Atom::I32(match desc.pmid.item() {
                0 => 0,
                1 => self.debug,
                _ => i32::try_from(self.sources.len()).unwrap_or(i32::MAX),
            })));
        }
        let (source, metric) = self.metric(desc.pmid)?;
        let instances = match metric.indom {
            Some(_) => Some(self.indom(desc.indom)?.1),
            None => None,
        };
        let own = source
            .file
            .values
            .iter()
            .filter(|v| v.metric == metric.offset);
        let values = own.filter_map(|value| {
            let inst = match instances {
                None => INST_NULL,
                Some(domain) => {
                    let all = domain.instances.iter();
                    let mut found = all.filter(|(at, ..)| *at == value.instance);
                    found.next().map(|(_, inst, _)| *inst)?
                }
            };
            let atom = atom(source, metric, *value)?;
            let is_shown = source.file.flags & SENTINEL == 0 || !is_none(metric, value.bits, &atom);
            is_shown.then_some((inst, atom))
        });
        let mut values: Vec<_> = values.collect();
        if instances.is_none() {
            values.truncate(1);
        }
        Ok(Values(values))
    }

    fn instances(&mut self, _: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        self.refresh();
        let (_, domain) = self.indom(indom)?;
        let instances = domain.instances.iter().map(|(_, inst, name)| Instance {
            inst: *inst,
            name: name.as_slice().into(),
        });
        Ok(instances.collect())
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        if pmid.cluster() == 0 {
            let text = CONTROL.get(pmid.item() as usize);
            return text.map(|(_, text)| (*text).into()).ok_or(ErrorCode::TEXT);
        }
        let (_, metric) = self.metric(pmid)?;
        text_of(&metric.texts, one_line)
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        let (_, domain) = self.indom(indom)?;
        text_of(&domain.texts, one_line)
    }

    fn store(&mut self, _: i32, desc: &Desc, _: i32, value: &Atom) -> Result<(), ErrorCode> {
        match (desc.pmid.cluster(), desc.pmid.item(), value) {
            (0, 0, Atom::I32(value)) => {
                if *value != 0 {
                    self.reload();
                }
                Ok(())
            }
            (0, 1, Atom::I32(value)) => {
                self.debug = *value;
                Ok(())
            }
            _ => Err(ErrorCode::PERMISSION),
        }
    }

    fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        let (cluster, identity) = match level {
            LabelLevel::Context => return Ok(Vec::new()),
            LabelLevel::Domain => {
                return Ok(vec![label_set(
                    INST_NULL,
                    level,
                    &[("agent", "\"mmv\"", 0)],
                )]);
            }
            LabelLevel::Cluster => (Pmid(ident).cluster(), None),
            LabelLevel::Item => (Pmid(ident).cluster(), Some(Pmid(ident).item())),
            LabelLevel::InDom | LabelLevel::Instances => {
                let serial = InDom(ident).serial();
                (serial >> 11, Some(serial & 0x7ff))
            }
        };
        let Some(source) = self.sources.iter().find(|s| s.cluster == cluster) else {
            return Ok(Vec::new());
        };
        let own = source.file.labels.iter().filter(|label| {
            label.flags & level as u32 != 0 && identity.is_none_or(|id| label.identity == id)
        });
        let mut sets: Vec<(i32, Vec<Named>)> = Vec::new();
        if level == LabelLevel::Instances {
            // All are told of, also those that have none.
            let (_, domain) = self.indom(InDom(ident))?;
            let all = domain.instances.iter();
            sets.extend(all.map(|(_, inst, _)| (*inst, Vec::new())));
        }
        for label in own {
            let inst = match level {
                LabelLevel::Instances => label.instance,
                _ => INST_NULL,
            };
            let optional = (label.flags & u32::from(pcp::LabelFlags::OPTIONAL)) as u8;
            let entries = labels_of(&label.json, optional);
            match sets.iter_mut().find(|(i, _)| *i == inst) {
                Some((_, labels)) => labels.extend(entries),
                None => sets.push((inst, entries)),
            }
        }
        let sets = sets.into_iter().map(|(inst, labels)| {
            let labels: Vec<(&str, &str, u8)> = labels
                .iter()
                .map(|(n, v, f)| (n.as_str(), v.as_str(), *f))
                .collect();
            label_set(inst, level, &labels)
        });
        Ok(sets.collect())
    }

    fn names(&mut self) -> Option<&Pmns> {
        self.refresh();
        Some(&self.names)
    }
}
