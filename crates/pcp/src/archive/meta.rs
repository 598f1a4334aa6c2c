//! An archive's metadata: descriptors and names, instance domains, labels and help texts.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::file::{NoRecord, Record, record_at};
use super::hash::PcpHash;
use super::label::{Label, Version};
use crate::desc::{Desc, Semantics, Type};
use crate::error::{ErrorCode, Result};
use crate::indom::{InDom, Instance};
use crate::label::{LabelLevel, LabelSet};
use crate::pdu::TextKind;
use crate::pdu::wire::Reader;
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::units::Units;

/// Types of metadata records.
pub mod kind {
    /// A descriptor and the metric's names.
    pub const DESC: u32 = 1;
    /// All instances of a domain, version 2.
    pub const INDOM_V2: u32 = 2;
    /// Labels, version 2.
    pub const LABEL_V2: u32 = 3;
    /// A help text.
    pub const TEXT: u32 = 4;
    /// All instances of a domain, version 3.
    pub const INDOM: u32 = 5;
    /// What changed in a domain, version 3.
    pub const INDOM_DELTA: u32 = 6;
    /// Labels, version 3.
    pub const LABEL: u32 = 7;
}

/// The instances of a domain from a time on.
#[derive(Clone, Debug)]
pub struct IndomEntry {
    /// When it was logged.
    pub time: Timestamp,
    /// All instances, sorted by number.
    pub instances: Vec<Instance>,
}

/// A metadata record, decoded.
#[derive(Clone, Debug)]
pub enum MetaRecord {
    /// A descriptor and the metric's names.
    Desc {
        /// The descriptor.
        desc: Desc,
        /// The names.
        names: Vec<Text>,
    },
    /// All instances of a domain.
    Indom {
        /// When.
        time: Timestamp,
        /// The domain.
        indom: InDom,
        /// The instances.
        instances: Vec<Instance>,
    },
    /// What changed in a domain: instances that came, and numbers of those that went (`None`).
    IndomDelta {
        /// When.
        time: Timestamp,
        /// The domain.
        indom: InDom,
        /// The changes.
        changes: Vec<(i32, Option<Text>)>,
    },
    /// Labels.
    Labels {
        /// When.
        time: Timestamp,
        /// The level, a `PM_LABEL_*` bit.
        level: u32,
        /// What they are of.
        ident: u32,
        /// The sets.
        sets: Vec<LabelSet>,
    },
    /// A help text.
    Text {
        /// Which text.
        kind: TextKind,
        /// Of a PMID or an instance domain.
        ident: u32,
        /// The text.
        text: Text,
    },
}

fn c_string(bytes: &Bytes, at: usize) -> Option<Text> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    Some(bytes.slice(at..at + end).into())
}

impl MetaRecord {
    /// Decodes the payload of a metadata record.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` when it is not what its type says, `PM_ERR_RECTYPE` for types that are not known.
    pub fn decode(payload: &Bytes, version: Version) -> Result<MetaRecord> {
        MetaRecord::decode_inner(payload, version).map_err(|error| match error.code() {
            ErrorCode::RECTYPE => error,
            _ => ErrorCode::LOGREC.into(),
        })
    }

    fn decode_inner(payload: &Bytes, version: Version) -> Result<MetaRecord> {
        let mut reader = Reader::new(payload.clone(), 0);
        let reader = &mut reader;
        Ok(match reader.u32()? {
            kind::DESC => {
                let desc = Desc {
                    pmid: Pmid(reader.u32()?),
                    ty: Type::from_raw(reader.i32()?),
                    indom: InDom(reader.u32()?),
                    sem: Semantics::from_raw(reader.i32()?),
                    units: Units::from_raw(reader.u32()?),
                };
                let count = reader.count(4)?;
                let mut names = Vec::with_capacity(count);
                for _ in 0..count {
                    let length = reader.length()?;
                    names.push(c_string(&reader.take(length)?, 0).unwrap_or_default());
                }
                MetaRecord::Desc { desc, names }
            }
            which @ (kind::INDOM_V2 | kind::INDOM | kind::INDOM_DELTA) => {
                let version = if which == kind::INDOM_V2 {
                    Version::V2
                } else {
                    Version::V3
                };
                let time = version.read_time(reader)?;
                let indom = InDom(reader.u32()?);
                let count = reader.count(8)?;
                let numbers: Vec<i32> = (0..count).map(|_| reader.i32()).collect::<Result<_>>()?;
                if which != kind::INDOM_DELTA && numbers.iter().any(|&inst| inst < 0) {
                    return Err(ErrorCode::LOGREC.into());
                }
                let offsets: Vec<i32> = (0..count).map(|_| reader.i32()).collect::<Result<_>>()?;
                let strings = reader.rest();
                let name = |offset: i32| {
                    usize::try_from(offset)
                        .ok()
                        .and_then(|at| c_string(&strings, at))
                        .ok_or(ErrorCode::LOGREC)
                };
                let pairs = numbers.into_iter().zip(offsets);
                if which == kind::INDOM_DELTA {
                    let changes = pairs
                        .map(|(inst, at)| Ok((inst, if at < 0 { None } else { Some(name(at)?) })));
                    MetaRecord::IndomDelta {
                        time,
                        indom,
                        changes: changes.collect::<Result<_>>()?,
                    }
                } else {
                    let instances = pairs.map(|(inst, at)| {
                        Ok(Instance {
                            inst,
                            name: name(at)?,
                        })
                    });
                    MetaRecord::Indom {
                        time,
                        indom,
                        instances: instances.collect::<Result<_>>()?,
                    }
                }
            }
            which @ (kind::LABEL_V2 | kind::LABEL) => {
                let version = if which == kind::LABEL_V2 {
                    Version::V2
                } else {
                    Version::V3
                };
                let time = version.read_time(reader)?;
                let level = reader.u32()?;
                let ident = reader.u32()?;
                let count = reader.count(12)?;
                let mut sets = Vec::with_capacity(count);
                for _ in 0..count {
                    let inst = reader.i32()?;
                    let length = reader.length()?;
                    let json = reader.take(length)?;
                    let labels = usize::try_from(reader.i32()?).unwrap_or(0);
                    if labels > reader.remaining() / 8 {
                        return Err(ErrorCode::LOGREC.into());
                    }
                    let labels = crate::pdu::label::labels(reader, labels, &json)?;
                    sets.push(LabelSet { inst, json, labels });
                }
                MetaRecord::Labels {
                    time,
                    level,
                    ident,
                    sets,
                }
            }
            kind::TEXT => {
                let kind = TextKind(reader.u32()?);
                let ident = reader.u32()?;
                let rest = reader.rest();
                let text = c_string(&rest, 0).unwrap_or_default();
                MetaRecord::Text { kind, ident, text }
            }
            _ => {
                let _ = version;
                return Err(ErrorCode::RECTYPE.into());
            }
        })
    }
}

/// Labels of one thing over time, oldest first.
pub type LabelHistory = Vec<(Timestamp, Vec<LabelSet>)>;

/// Everything that an archive's metadata says.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Descriptors by PMID.
    pub descs: PcpHash<Desc>,
    /// The names of metrics.
    pub names: crate::pmns::Pmns,
    /// Instances of domains over time, oldest first; of entries of the same time the latest in the file last.
    pub indoms: PcpHash<Vec<IndomEntry>>,
    /// Labels over time, by level and what they are of.
    pub labels: BTreeMap<(u32, u32), LabelHistory>,
    /// Help texts, by kind and what they are of.
    pub texts: BTreeMap<(u32, u32), Text>,
    /// The records as they stand in the file: offset, and what is in them.
    pub records: Vec<(usize, MetaRecord)>,
    /// Offset behind the last whole record.
    pub end: usize,
}

/// The instances of a domain at a time. They are found at once when they are asked for in ascending order, as records have
/// them.
#[derive(Clone, Debug)]
pub struct InstanceNames<'a> {
    instances: &'a [Instance],
    next: usize,
}

impl<'a> InstanceNames<'a> {
    /// The name of an instance, if it was there.
    pub fn name(&mut self, inst: i32) -> Option<&'a Text> {
        let is_next = |i: &Instance| i.inst == inst;
        let at = if self.instances.get(self.next).is_some_and(is_next) {
            self.next
        } else {
            let found = self.instances.binary_search_by_key(&inst, |i| i.inst);
            found.ok()?
        };
        self.next = at + 1;
        self.instances.get(at).map(|instance| &instance.name)
    }
}

impl Metadata {
    /// That of an archive without records.
    #[must_use]
    pub fn new() -> Metadata {
        Metadata {
            names: crate::pmns::Pmns::newest_first(),
            ..Metadata::default()
        }
    }

    /// Reads the metadata behind its label.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` for a damaged record and `PM_ERR_RECTYPE` for one of an unknown type. A record that the end of the file
    /// cuts off is not an error: its writer was killed, or is still writing.
    pub fn read(content: &Bytes, label: &Label, start: usize) -> Result<Metadata> {
        let mut metadata = Metadata::new();
        let mut at = start;
        loop {
            let record: Record = match record_at(content, at) {
                Ok(record) => record,
                Err(NoRecord::End | NoRecord::Torn) => break,
                Err(NoRecord::Corrupt) => return Err(ErrorCode::LOGREC.into()),
            };
            at = record.end();
            let decoded = MetaRecord::decode(&record.payload, label.version)?;
            metadata.add(&decoded)?;
            metadata.records.push((record.offset, decoded));
        }
        metadata.end = at;
        Ok(metadata)
    }

    /// Takes a record in.
    ///
    /// # Errors
    /// `PM_ERR_LOGCHANGETYPE` and its siblings when a metric is described anew and differently.
    pub fn add(&mut self, record: &MetaRecord) -> Result<()> {
        match record {
            MetaRecord::Desc { desc, names } => {
                match self.descs.get(desc.pmid.0) {
                    None => self.descs.insert(desc.pmid.0, *desc),
                    Some(old) if old.ty != desc.ty => return Err(ErrorCode::LOGCHANGETYPE.into()),
                    Some(old) if old.indom != desc.indom => {
                        return Err(ErrorCode::LOGCHANGEINDOM.into());
                    }
                    Some(old) if old.sem != desc.sem => return Err(ErrorCode::LOGCHANGESEM.into()),
                    Some(old) if old.units != desc.units => {
                        return Err(ErrorCode::LOGCHANGEUNITS.into());
                    }
                    Some(_) => {}
                }
                for name in names {
                    // A name that goes through another metric is kept out, as everything else is still of use.
                    let _ = self.names.insert(name, desc.pmid);
                }
            }
            MetaRecord::Indom {
                time,
                indom,
                instances,
            } => self.add_indom(*time, *indom, instances.clone()),
            MetaRecord::IndomDelta {
                time,
                indom,
                changes,
            } => {
                let last = self.indoms.get(indom.0).and_then(|e| e.last());
                let mut instances = last.map_or_else(Vec::new, |e| e.instances.clone());
                for (inst, name) in changes {
                    instances.retain(|i| i.inst != *inst);
                    if let Some(name) = name {
                        instances.push(Instance {
                            inst: *inst,
                            name: name.clone(),
                        });
                    }
                }
                self.add_indom(*time, *indom, instances);
            }
            MetaRecord::Labels {
                time,
                level,
                ident,
                sets,
            } => {
                let entries = self.labels.entry((*level, *ident)).or_default();
                let at = entries.partition_point(|(t, _)| t <= time);
                entries.insert(at, (*time, sets.clone()));
            }
            MetaRecord::Text { kind, ident, text } => {
                self.texts.insert((kind.0, *ident), text.clone());
            }
        }
        Ok(())
    }

    fn add_indom(&mut self, time: Timestamp, indom: InDom, mut instances: Vec<Instance>) {
        instances.sort_by_key(|i| i.inst);
        if self.indoms.get(indom.0).is_none() {
            self.indoms.insert(indom.0, Vec::new());
        }
        if let Some(entries) = self.indoms.get_mut(indom.0) {
            let at = entries.partition_point(|e| e.time <= time);
            let last = at.checked_sub(1).and_then(|n| entries.get(n));
            // Written twice, as loggers do when an archive is taken over: it says nothing new.
            if last.is_some_and(|e| e.time == time && e.instances == instances) {
                return;
            }
            entries.insert(at, IndomEntry { time, instances });
        }
    }

    /// The instances of a domain that held at a time, or the earliest known ones before the first.
    #[must_use]
    pub fn instances_at(&self, indom: InDom, time: Timestamp) -> Option<&IndomEntry> {
        let entries = self.indoms.get(indom.0)?;
        let after = entries.partition_point(|e| e.time <= time);
        entries.get(after.saturating_sub(1))
    }

    /// The last state of a domain that is not later than a time.
    #[must_use]
    pub fn state_at(&self, indom: InDom, time: Timestamp) -> Option<&IndomEntry> {
        let entries = self.indoms.get(indom.0)?;
        let after = entries.partition_point(|e| e.time <= time);
        entries.get(after.checked_sub(1)?)
    }

    /// The name of an instance at a time, by the last state of its domain before; a later state tells none, as with
    /// pmNameInDom(3).
    #[must_use]
    pub fn instance_name(&self, indom: InDom, inst: i32, time: Timestamp) -> Option<&Text> {
        let find = |entry: &'_ IndomEntry| {
            let at = entry
                .instances
                .binary_search_by_key(&inst, |i| i.inst)
                .ok()?;
            Some(at)
        };
        let entry = self.state_at(indom, time)?;
        find(entry)
            .and_then(|at| entry.instances.get(at))
            .map(|i| &i.name)
    }

    /// The names of the instances of a domain at a time.
    #[must_use]
    pub fn instance_names(&self, indom: InDom, time: Timestamp) -> InstanceNames<'_> {
        let entry = self.state_at(indom, time);
        InstanceNames {
            instances: entry.map_or(&[], |entry| &entry.instances),
            next: 0,
        }
    }

    /// All instances that a domain ever had in the archive; of numbers used twice the latest name
    /// (pmGetInDomArchive(3)).
    #[must_use]
    pub fn all_instances(&self, indom: InDom) -> Option<Vec<Instance>> {
        let entries = self.indoms.get(indom.0)?;
        let mut all: Vec<Instance> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for instance in entries.iter().rev().flat_map(|e| &e.instances) {
            if seen.insert(instance.inst) {
                all.push(instance.clone());
            }
        }
        Some(all)
    }

    /// The labels of something at a time: the last that were recorded by then.
    #[must_use]
    pub fn labels_at(&self, level: LabelLevel, ident: u32, time: Timestamp) -> Option<&[LabelSet]> {
        let entries = self.labels.get(&(level as u32, ident))?;
        let after = entries.partition_point(|(t, _)| *t <= time);
        entries
            .get(after.checked_sub(1)?)
            .map(|(_, sets)| sets.as_slice())
    }
}

/// What changed between two states of a domain, in the order of instances' numbers, if PCP's loggers write that instead of
/// the new state: it is no more than the whole, no instance has another name, and what came last has a higher number than
/// what went last.
#[must_use]
pub fn indom_delta(before: &[Instance], now: &[Instance]) -> Option<Vec<(i32, Option<Text>)>> {
    let by_number = |instances: &[Instance]| {
        let pairs = instances.iter().map(|i| (i.inst, i.name.clone()));
        pairs.collect::<BTreeMap<i32, Text>>()
    };
    let (old, new) = (by_number(before), by_number(now));
    let came = new.iter().filter(|(inst, _)| !old.contains_key(inst));
    let mut changes: BTreeMap<i32, Option<Text>> = came
        .map(|(inst, name)| (*inst, Some(name.clone())))
        .collect();
    let last_came = changes.keys().next_back().copied();
    let mut last_went = None;
    for (inst, name) in &old {
        match new.get(inst) {
            Some(same) if same == name => {}
            Some(_) => return None,
            None => {
                last_went = Some(*inst);
                changes.insert(*inst, None);
            }
        }
    }
    let out_of_order = last_came
        .zip(last_went)
        .is_some_and(|(came, went)| went > came);
    let fewer = !changes.is_empty() && changes.len() <= new.len();
    (fewer && !out_of_order).then(|| changes.into_iter().collect())
}

/// The record of a domain's new state: in version 3 what changed since the state that was written before, if that is less
/// ([`indom_delta`]), and else the whole.
#[must_use]
pub fn indom_record(
    version: Version,
    time: Timestamp,
    indom: InDom,
    before: Option<&[Instance]>,
    instances: Vec<Instance>,
) -> MetaRecord {
    let before = before.filter(|_| version == Version::V3);
    match before.and_then(|old| indom_delta(old, &instances)) {
        Some(changes) => MetaRecord::IndomDelta {
            time,
            indom,
            changes,
        },
        None => MetaRecord::Indom {
            time,
            indom,
            instances,
        },
    }
}
