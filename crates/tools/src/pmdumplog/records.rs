//! The records of an archive, values and events, as text.

use std::io::{self, Write};
use std::sync::Arc;

use pcp::archive::{Archive, Cursor, DataRecord, InstanceNames, encode_data};
use pcp::timezone::Zone;
use pcp::{
    Atom, Desc, ErrorCode, EventArray, Fetched, InstanceValue, Pmid, Timestamp, Type, Value,
    ValueSet,
};

use super::Dump;
use super::metadata::plural;
use crate::json;
use crate::progress::Progress;

/// The instances that a metric may have had at a time, if it has any.
fn instances_of<'a>(
    archive: &'a Archive,
    desc: &Desc,
    time: Timestamp,
) -> Option<InstanceNames<'a>> {
    (!desc.indom.is_null()).then(|| archive.meta.instance_names(desc.indom, time))
}

impl<W: Write> Dump<'_, W> {
    pub(super) fn records(&mut self) -> io::Result<u8> {
        let archive = self.archive.clone();
        let reverse = self.wanted.reverse;
        let opened = if reverse {
            Cursor::at_end(archive)
        } else {
            Cursor::at_start(archive)
        };
        let failed = |code: ErrorCode| eprintln!("pmdumplog: pmFetch: {code}");
        let mut cursor = match opened {
            Ok(cursor) => cursor,
            Err(error) => {
                failed(error.code());
                return Ok(1);
            }
        };
        if reverse && self.window.end != Timestamp::MAX {
            let last = pcp::debug::quietly(|| self.last_record());
            let last = match last {
                Ok(Some(last)) => last,
                Ok(None) => return Ok(0),
                Err(_) => self.window.end,
            };
            let date = self.zone.civil(last.sec).ctime();
            writeln!(self.out, "\nLog finished at {date} - dump in reverse order")?;
        }
        let (from, to) = (
            self.window.start,
            pcp::debug::quietly(|| self.archive.end()).unwrap_or_default(),
        );
        let from = from.max(self.archive.label.start);
        let mut progress = Progress::new("pmdumplog", from, to.min(self.window.end), true);
        loop {
            let record = if reverse {
                cursor.preceding()
            } else {
                cursor.following()
            };
            if let Ok(Some(record)) = &record {
                let (early, late) = (
                    record.time < self.window.start,
                    record.time > self.window.end,
                );
                if if reverse { early } else { late } {
                    return Ok(0);
                }
                if early || late {
                    continue;
                }
                if !reverse {
                    progress.at(record.time);
                }
            }
            let fetched = record.and_then(|r| r.map(|r| Ok((r.decode()?, r))).transpose());
            match fetched {
                Ok(Some((fetched, record))) => {
                    if pcp::debug::on(pcp::debug::Flag::Pdu) {
                        eprint!(
                            "{}",
                            pcp::dump_record(&self.archive, &fetched, &Zone::local())
                        );
                    }
                    self.record(&fetched, &record)?;
                }
                Ok(None) => return Ok(0),
                Err(error) => {
                    self.out.flush()?;
                    failed(error.code());
                    return Ok(1);
                }
            }
        }
    }

    /// The time of the last record in the window.
    fn last_record(&self) -> Result<Option<Timestamp>, pcp::Error> {
        let mut cursor = Cursor::at_end(self.archive.clone())?;
        while let Some(record) = cursor.preceding()? {
            if record.time <= self.window.end {
                return Ok(Some(record.time).filter(|time| *time >= self.window.start));
            }
        }
        Ok(None)
    }

    fn record(&mut self, fetched: &Fetched, record: &DataRecord) -> io::Result<()> {
        if record.is_mark() {
            if !self.wanted.marks && !self.pmids.is_empty() {
                return Ok(());
            }
        } else if !self.wanted.values {
            return Ok(());
        }
        let chosen: Vec<ValueSet>;
        let (wanted, size) = if self.pmids.is_empty() || record.is_mark() {
            (&fetched.sets, record.record.size())
        } else {
            // In the order asked for.
            let set = |pmid: &Pmid| fetched.sets.iter().find(|s| s.pmid == *pmid).cloned();
            chosen = self.pmids.iter().filter_map(set).collect();
            if chosen.is_empty() {
                return Ok(());
            }
            let version = self.archive.label.version;
            let size = encode_data(version, record.time, &chosen).len() + 8;
            (&chosen, size)
        };
        if self.wanted.json {
            return self.lines(record.time, wanted);
        }
        writeln!(self.out)?;
        if self.wanted.sizes {
            writeln!(self.out, "[{size} bytes]")?;
        }
        let stamp = self.stamp(record.time);
        if record.is_mark() {
            return writeln!(self.out, "{stamp}  <mark>");
        }
        writeln!(self.out, "{stamp} {}", plural(wanted.len(), "metric"))?;
        let archive = Arc::clone(&self.archive);
        for set in wanted {
            let desc = self.archive.meta.descs.get(set.pmid.0).copied();
            let head = self.head(set.pmid);
            let values = match &set.values {
                Err(code) => {
                    writeln!(self.out, "{head}: {code}")?;
                    continue;
                }
                Ok(values) if values.is_empty() => {
                    writeln!(self.out, "{head}: No values returned!")?;
                    continue;
                }
                Ok(values) => values,
            };
            let Some(desc) = desc else {
                writeln!(
                    self.out,
                    "    PMID: {}: pmLookupDesc: {}",
                    set.pmid,
                    ErrorCode::PMID_LOG
                )?;
                continue;
            };
            if matches!(desc.ty, Type::Event | Type::HighResEvent) {
                for value in values {
                    self.events(&desc, value, record.time)?;
                }
                continue;
            }
            let mut instances = instances_of(&archive, &desc, record.time);
            self.out.write_all(head.as_bytes())?;
            match values.as_slice() {
                [value] => {
                    self.out.write_all(b":")?;
                    self.value(&desc, value, instances.as_mut())?;
                }
                values => {
                    self.out.write_all(b":\n")?;
                    for value in values {
                        self.out.write_all(b"       ")?;
                        self.value(&desc, value, instances.as_mut())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A record's values as lines of JSON; a mark, which has none, is passed over.
    fn lines(&mut self, time: Timestamp, sets: &[ValueSet]) -> io::Result<()> {
        let archive = Arc::clone(&self.archive);
        for set in sets {
            let desc = archive.meta.descs.get(set.pmid.0).copied();
            let names = archive.meta.names.names_of(set.pmid);
            let name = names
                .first()
                .map_or_else(|| set.pmid.to_string(), ToString::to_string);
            let mut line = json::Line {
                time,
                metric: &name,
                instance: None,
                value: Err(set
                    .values
                    .as_ref()
                    .err()
                    .copied()
                    .unwrap_or(ErrorCode::VALUE)),
                units: desc.map_or_else(String::new, |d| d.units.to_string()),
                more: Vec::new(),
            };
            let (Some(desc), false) = (desc, set.instances().is_empty()) else {
                writeln!(self.out, "{line}")?;
                continue;
            };
            let mut instances = instances_of(&archive, &desc, time);
            for value in set.instances() {
                let known =
                    |all: &mut InstanceNames<'_>| json::instance(all.name(value.inst), value.inst);
                line.instance = instances.as_mut().and_then(known);
                line.value = Atom::extract(&value.value, desc.ty).map(|atom| json::value(&atom));
                writeln!(self.out, "{line}")?;
            }
        }
        Ok(())
    }

    fn value(
        &mut self,
        desc: &Desc,
        value: &InstanceValue,
        instances: Option<&mut InstanceNames<'_>>,
    ) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        if let Some(instances) = instances {
            line.extend_from_slice(b" inst [");
            line.extend_from_slice(itoa::Buffer::new().format(value.inst).as_bytes());
            match instances.name(value.inst) {
                Some(name) => {
                    line.extend_from_slice(b" or \"");
                    line.extend_from_slice(name);
                    line.extend_from_slice(b"\"]");
                }
                None => line.extend_from_slice(b" or ???]"),
            }
        }
        line.extend_from_slice(b" value ");
        pcp::write_value(line, &value.value, desc.ty, 1);
        line.push(b'\n');
        self.out.write_all(line)
    }

    fn events(&mut self, desc: &Desc, value: &InstanceValue, time: Timestamp) -> io::Result<()> {
        let names = self.names(desc.pmid);
        write!(self.out, "    {} ({names}", desc.pmid)?;
        if !desc.indom.is_null() {
            match self
                .archive
                .meta
                .instance_name(desc.indom, value.inst, time)
            {
                Some(name) => {
                    write!(self.out, "[{} or \"", value.inst)?;
                    self.out.write_all(name)?;
                    self.out.write_all(b"\"]")?;
                }
                None => write!(self.out, "[{} or ???]", value.inst)?,
            }
        }
        self.out.write_all(b"): ")?;
        let Value::Block(block) = &value.value else {
            return writeln!(self.out, "Error: {}", ErrorCode::CONV);
        };
        let array = match EventArray::decode(desc.ty, &block.bytes) {
            Ok(array) => array,
            Err(code) => return writeln!(self.out, "Error: {code}"),
        };
        let missed: u64 = array
            .records
            .iter()
            .filter(|r| r.flags.is_missed())
            .map(|r| u64::from(r.count))
            .sum();
        match (array.records.len(), missed) {
            (0, _) => return writeln!(self.out, "No event records"),
            (n, 0) => writeln!(self.out, "{}", plural(n, "event record"))?,
            (n, missed) => writeln!(self.out, "{n} (and {missed} missed) event records")?,
        }
        let archive = Arc::clone(&self.archive);
        for (number, event) in array.records.iter().enumerate() {
            let stamp = if desc.ty == Type::HighResEvent {
                self.zone.clock(event.time, 9)
            } else {
                self.stamp_digits(event.time, 6)
            };
            write!(
                self.out,
                "        --- event record [{number}] timestamp {stamp}"
            )?;
            if event.flags.0 != 0 {
                write!(self.out, " flags 0x{:x} ({})", event.flags.0, event.flags)?;
            }
            writeln!(self.out, " ---")?;
            if event.flags.is_missed() {
                writeln!(self.out, "        ==> {} missed event records", event.count)?;
                continue;
            }
            if event.params.is_empty() && event.flags.0 == 0 {
                writeln!(self.out, "\t          No parameters")?;
            }
            for param in &event.params {
                match self.archive.meta.descs.get(param.pmid.0).copied() {
                    Some(desc) => {
                        let names = self.names(param.pmid);
                        write!(self.out, "        {} ({names}):", param.pmid)?;
                        let value = InstanceValue {
                            inst: pcp::INST_NULL,
                            value: param.value(),
                        };
                        let mut instances = instances_of(&archive, &desc, time);
                        self.value(&desc, &value, instances.as_mut())?;
                    }
                    None => writeln!(
                        self.out,
                        "        PMID: {}: pmLookupDesc: {}",
                        param.pmid,
                        ErrorCode::PMID_LOG
                    )?,
                }
            }
        }
        Ok(())
    }
}
