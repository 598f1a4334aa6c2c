//! Whether values are of their metrics' types and instance domains, and times in order.

use pcp::archive::{Archive, Cursor, DataRecord};
use pcp::timezone::Zone;
use pcp::{Atom, Desc, ErrorCode, Fetched, Pmid, Semantics, Timestamp, Type};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::progress::Progress;

use super::{Check, say};

/// How values are encoded and how their type wants them, when these differ: 0 in their place, 1 out of line.
fn misencoded(set: &pcp::ValueSet, ty: Type) -> Option<(u8, u8)> {
    let inline = |value: &pcp::InstanceValue| matches!(value.value, pcp::Value::Insitu(_));
    let first = set.instances().first()?;
    let wide = matches!(ty, Type::I64 | Type::U64 | Type::Double | Type::String);
    (wide && inline(first)).then_some((0, 1))
}

pub struct Values<'a> {
    pub(super) check: &'a Check,
    pub(super) archive: Arc<Archive>,
    pub(super) zone: Zone,
    pub(super) wraps: bool,
    pub(super) dates: bool,
    /// The last value and its time by metric and instance.
    pub(super) last: HashMap<(Pmid, i32), (f64, Timestamp)>,
    /// Metrics that no descriptor is there for, each to be spoken of once.
    pub(super) unknown: HashSet<Pmid>,
}

impl Values<'_> {
    fn stamp(&self, time: Timestamp) -> String {
        if self.dates {
            self.zone.date(time, 3)
        } else {
            self.zone.clock(time, 3)
        }
    }

    /// Where PCP's library goes for a time: to the nearer one of the index's entries around it, and a record back from the
    /// one before it.
    fn from(&self, start: Timestamp) -> pcp::Result<Cursor> {
        let index = &self.archive.index;
        let after = index.iter().position(|e| e.time >= start);
        let mut back = false;
        let entry = match after {
            Some(0) => None,
            None => index.last(),
            Some(after) => {
                let around = (index.get(after - 1), index.get(after));
                match around {
                    (Some(low), Some(high)) if high.time - start > start - low.time => {
                        back = true;
                        Some(low)
                    }
                    (_, high) => high,
                }
            }
        };
        let Some(entry) = entry else {
            return Cursor::at_start(self.archive.clone());
        };
        let offset = usize::try_from(entry.log).unwrap_or(0);
        let mut cursor = Cursor::at(self.archive.clone(), entry.volume, offset)?;
        if back {
            cursor.preceding()?;
        }
        Ok(cursor)
    }

    pub(super) fn pass(&mut self, (start, end): (Timestamp, Timestamp)) -> Result<(), ()> {
        let name = &self.check.name;
        if self.check.verbose {
            say!(self.check, "{name}: start pass3");
        }
        let Ok(mut cursor) = self.from(start) else {
            return Ok(());
        };
        let (mut results, mut marks) = (0, 0);
        // The window's start counts as the first time; all records are looked at, as PCP's does.
        let mut before = start;
        let label_start = self.archive.label.start;
        let last = self.archive.end().unwrap_or(end).min(end);
        let progress = Progress::new("pmlogcheck", start, last, true);
        *self.check.progress.borrow_mut() = Some(progress);
        loop {
            // A record whose values can't be had is a damaged one.
            let next = cursor.following().and_then(|record| match record {
                Some(record) if !record.is_mark() => {
                    let fetched = record.decode()?;
                    Ok(Some((record, Some(fetched))))
                }
                record => Ok(record.map(|record| (record, None))),
            });
            match next {
                Ok(Some((record, fetched))) => {
                    if let Some(progress) = &mut *self.check.progress.borrow_mut() {
                        progress.at(record.time);
                    }
                    // What is behind the end is counted before it ends the check.
                    results += 1;
                    if record.time > end {
                        break;
                    }
                    if record.time < label_start {
                        say!(
                            self.check,
                            "{name}.{}:[{}]: timestamp before label timestamp: {}",
                            record.volume,
                            self.stamp(record.time),
                            self.stamp(label_start)
                        );
                    }
                    if record.time < before {
                        say!(
                            self.check,
                            "{name}.{}:[{}]: timestamp went backwards, prior timestamp: {}",
                            record.volume,
                            self.stamp(record.time),
                            self.stamp(before)
                        );
                    }
                    before = record.time;
                    match fetched {
                        Some(fetched) => self.record(&record, &fetched)?,
                        None => {
                            marks += 1;
                            self.last.clear();
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let last = self.stamp(before);
                    let code = error.code();
                    say!(self.check, "[after {last}]: pmFetch: error: {code}");
                    break;
                }
            }
        }
        self.check.progress.take();
        if self.check.verbose {
            if results > 0 {
                say!(self.check, "Processed {results} pmResult records");
            }
            if marks > 0 {
                say!(self.check, "Processed {marks} <mark> records");
            }
        }
        Ok(())
    }

    /// Looks at a record's values; an error, which was said, when one cannot be had, which ends the looking.
    fn record(&mut self, record: &DataRecord, fetched: &Fetched) -> Result<(), ()> {
        let name = &self.check.name;
        let at = format!("{name}.{}:[{}]", record.volume, self.stamp(record.time));
        let archive = self.archive.clone();
        for set in &fetched.sets {
            let Some(desc) = archive.meta.descs.get(set.pmid.0) else {
                if self.unknown.insert(set.pmid) {
                    let code = ErrorCode::PMID_LOG;
                    say!(self.check, "{at} {}: pmLookupDesc failed: {code}", set.pmid);
                }
                continue;
            };
            if let Some((is, wanted)) = misencoded(set, desc.ty) {
                let names = archive.meta.names.names_of(set.pmid);
                let title = names
                    .first()
                    .map_or_else(|| set.pmid.to_string(), ToString::to_string);
                say!(
                    self.check,
                    "{at} {title}: encoding botch valfmt={is} not {wanted} as expected"
                );
                continue;
            }
            if desc.sem != Semantics::Counter || !desc.ty.is_numeric() {
                continue;
            }
            for value in set.instances() {
                let number = match Atom::extract(&value.value, desc.ty) {
                    Ok(atom) => atom.as_f64(),
                    Err(code) => {
                        let names = archive.meta.names.names_of(set.pmid);
                        let title = names
                            .first()
                            .map_or_else(|| set.pmid.to_string(), ToString::to_string);
                        say!(self.check, "{at} {title}: pmExtractValue failed: {code}");
                        say!(self.check, "pmlogcheck: possibly corrupt archive?");
                        return Err(());
                    }
                };
                let Some(number) = number else {
                    continue;
                };
                let inst = if desc.indom.is_null() {
                    pcp::INST_NULL
                } else {
                    value.inst
                };
                let before = self.last.insert((set.pmid, inst), (number, record.time));
                if let Some(before) = before.filter(|(v, _)| self.wraps && number < *v) {
                    self.wrap(&at, desc, value.inst, before, (number, record.time));
                }
            }
        }
        Ok(())
    }

    fn wrap(
        &self,
        at: &str,
        desc: &Desc,
        inst: i32,
        before: (f64, Timestamp),
        now: (f64, Timestamp),
    ) {
        let names = self.archive.meta.names.names_of(desc.pmid);
        let mut title = names
            .first()
            .map_or_else(|| desc.pmid.to_string(), ToString::to_string);
        if !desc.indom.is_null() {
            let known = self.archive.meta.instance_name(desc.indom, inst, now.1);
            title += &match known {
                Some(name) => format!("[{name}]"),
                None => format!("[{inst}]"),
            };
        }
        let kind = match desc.ty {
            Type::I32 => "signed 32-bit",
            Type::U32 => "unsigned 32-bit",
            Type::I64 => "signed 64-bit",
            Type::U64 => "unsigned 64-bit",
            Type::Float => "float",
            _ => "double",
        };
        say!(self.check, "{at}: {title}: {kind} wrap");
        for (value, time) in [before, now] {
            say!(self.check, "\tvalue {value:.0} at {}", self.stamp(time));
        }
    }
}
