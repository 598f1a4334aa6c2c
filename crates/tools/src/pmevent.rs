//! `pmevent`: the events of one metric over time (pmevent(1)).

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use pcp::archive::ArchiveMode;
use pcp::{
    Atom, Context, Desc, Error, ErrorCode, EventArray, EventParam, EventRecord, INST_NULL,
    Instance, InstanceValue, Pmid, Text, Timestamp, Type, Value,
};

use serde_json::json;

use crate::json;
use crate::source::Opened;

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    crate::pmval::run_as("pmevent", args)
}

/// What is reported, and where.
pub struct Report<W: Write> {
    /// Where to.
    pub out: W,
    /// The context and the time window.
    pub opened: Opened,
    /// The archives' names, for the heading.
    pub archive_name: String,
    /// The metric.
    pub name: String,
    /// What it is.
    pub desc: Desc,
    /// The instances that are wanted.
    pub instances: Vec<Instance>,
    /// Whether the times of fetches are told with their dates and microseconds.
    pub dates: bool,
    /// How often to fetch.
    pub samples: Option<u64>,
    /// Between fetches.
    pub interval: Timestamp,
    /// Lines of JSON instead of text.
    pub json: bool,
}

impl<W: Write> Report<W> {
    fn heading(&mut self, archive: bool) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let out = &mut self.out;
        if archive {
            writeln!(out, "archive:   {}", self.archive_name)?;
        }
        writeln!(out, "host:      {}", self.opened.hostname)?;
        if archive {
            let window = self.opened.window;
            let date = |t: Timestamp| self.opened.zone.civil(t.sec).ctime();
            writeln!(out, "start:     {}", date(window.origin))?;
            writeln!(out, "end:       {}", date(window.end))?;
        }
        match self.samples {
            Some(samples) => writeln!(out, "samples:   {samples}")?,
            None => writeln!(out, "samples:   all")?,
        }
        let many = match self.samples {
            Some(samples) => samples > 1,
            None => self.opened.window.end == Timestamp::MAX,
        };
        if !archive && many {
            writeln!(out, "interval:  {:.2} sec", self.interval.as_secs_f64())?;
        }
        Ok(())
    }

    /// Reports until the last sample. Returns the exit status.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(mut self) -> io::Result<u8> {
        let archive = matches!(self.opened.context, Context::Archive(_));
        self.heading(archive)?;
        if let Context::Archive(context) = &mut self.opened.context {
            // Events are of their moment: there is nothing between those recorded.
            context.set_mode(ArchiveMode::Forward, self.opened.window.origin);
        }
        let mut names = HashMap::new();
        let mut done = 0;
        let mut due = Timestamp::now();
        while self.samples.is_none_or(|n| done < n) {
            if !archive && done > 0 {
                self.out.flush()?;
                due = due + self.interval;
                let left = (due - Timestamp::now()).as_nanos();
                std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
            }
            let fetched = match self.opened.context.fetch(&[self.desc.pmid]) {
                Ok(fetched) => fetched,
                Err(Error::Code(ErrorCode::EOL)) => break,
                Err(error) => {
                    self.out.flush()?;
                    eprintln!("\npmevent: pmFetch: {}", error.code());
                    return Ok(1);
                }
            };
            if fetched.time > self.opened.window.end {
                break;
            }
            done += 1;
            let zone = &self.opened.zone;
            let time = match self.dates {
                true => zone.date(fetched.time, 6),
                false => zone.clock(fetched.time, 3),
            };
            let Some(set) = fetched.sets.first() else {
                if archive && !self.json {
                    writeln!(self.out, "{time}  Archive logging suspended")?;
                }
                continue;
            };
            if self.json {
                for value in set.instances() {
                    self.lines(fetched.time, value, &mut names)?;
                }
                continue;
            }
            if archive && !set.instances().is_empty() {
                write!(self.out, "{time}  ")?;
            }
            if set.instances().is_empty() {
                match &set.values {
                    Err(code) => writeln!(self.out, "{}: Error: {code}", self.name)?,
                    Ok(_) => writeln!(self.out, "{}: No values available", self.name)?,
                }
            }
            for value in set.instances() {
                let known = self.instances.iter().find(|i| i.inst == value.inst);
                match known {
                    Some(instance) => write!(self.out, "{}[{}]", self.name, instance.name)?,
                    None if value.inst == INST_NULL => write!(self.out, "{}", self.name)?,
                    None => write!(self.out, "{}[{}]", self.name, value.inst)?,
                }
                self.value(&value.value, &mut names)?;
            }
        }
        self.out.flush()?;
        Ok(0)
    }

    /// The parameters of an instance's events, each a line; events without any are told by a line of the metric's own.
    fn lines(
        &mut self,
        fetched: Timestamp,
        value: &InstanceValue,
        names: &mut HashMap<Pmid, Text>,
    ) -> io::Result<()> {
        let known = self.instances.iter().find(|i| i.inst == value.inst);
        let instance = match (known, value.inst) {
            (None, INST_NULL) => None,
            (known, inst) => json::instance(known.map(|i| &i.name), inst),
        };
        let own = self.name.clone();
        let array = match &value.value {
            Value::Block(block) => EventArray::decode(self.desc.ty, &block.bytes),
            Value::Insitu(_) => Err(ErrorCode::CONV),
        };
        let mut said = Vec::new();
        let mut line = |time, metric: &str, value, more| {
            let line = json::Line {
                time,
                metric,
                instance: instance.clone(),
                value,
                units: String::new(),
                more,
            };
            said.push(line.to_string());
        };
        let array = match array {
            Ok(array) => array,
            Err(code) => {
                line(fetched, &own, Err(code), Vec::new());
                return writeln!(self.out, "{}", said.concat());
            }
        };
        for (number, record) in array.records.iter().enumerate() {
            let more = || {
                vec![
                    ("events", json!(own)),
                    ("event", json!(number)),
                    ("flags", json!(record.flags.to_string())),
                ]
            };
            if record.flags.is_missed() || record.params.is_empty() {
                let count = match record.flags.is_missed() {
                    true => json!(record.count),
                    false => json!(0),
                };
                line(record.time, &own, Ok(count), more());
                continue;
            }
            for param in &record.params {
                let name = match names.get(&param.pmid) {
                    Some(name) => name.clone(),
                    None => {
                        let found = self.opened.context.names_of(param.pmid).ok();
                        let found = found.and_then(|names| names.into_iter().next());
                        let name = found.unwrap_or_else(|| param.pmid.to_string().into());
                        names.insert(param.pmid, name.clone());
                        name
                    }
                };
                let ty = Type::from_raw(param.block.ty.into());
                let value = Atom::extract(&param.value(), ty).map(|atom| json::value(&atom));
                line(record.time, &name.to_str(), value, more());
            }
        }
        for line in said {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, names: &mut HashMap<Pmid, Text>) -> io::Result<()> {
        let Value::Block(block) = value else {
            return writeln!(self.out, ": {}", ErrorCode::CONV);
        };
        let array = match EventArray::decode(self.desc.ty, &block.bytes) {
            Ok(array) => array,
            Err(code) => return writeln!(self.out, ": pmUnpackEventRecords: {code}"),
        };
        writeln!(self.out, ": {} event records", array.records.len())?;
        for (number, record) in array.records.iter().enumerate() {
            self.record(number, record, names)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        number: usize,
        record: &EventRecord,
        names: &mut HashMap<Pmid, Text>,
    ) -> io::Result<()> {
        let digits = if self.desc.ty == Type::HighResEvent {
            9
        } else {
            3
        };
        let time = self.opened.zone.clock(record.time, digits);
        let flags = record.flags;
        write!(self.out, "  {time} --- event record [{number}]")?;
        if flags.0 != 0 {
            write!(self.out, " flags {:#x} ({flags})", flags.0)?;
        }
        writeln!(self.out, " ---")?;
        if flags.is_missed() {
            return writeln!(self.out, "    ==> {} missed event records", record.count);
        }
        if flags.0 == 0 && record.params.is_empty() {
            return writeln!(self.out, "    ==> No parameters");
        }
        for param in &record.params {
            self.parameter(param, names)?;
        }
        Ok(())
    }

    fn parameter(&mut self, param: &EventParam, names: &mut HashMap<Pmid, Text>) -> io::Result<()> {
        let pmid = param.pmid;
        let name = match names.get(&pmid) {
            Some(name) => name.clone(),
            None => {
                let found = self.opened.context.names_of(pmid);
                let name = match found.map(|n| n.into_iter().next()) {
                    Ok(Some(name)) => name,
                    Ok(None) => format!("PMID: {pmid}").into(),
                    Err(error) => {
                        let code = error.code();
                        return writeln!(self.out, "\t{pmid}: pmNameID: {code}");
                    }
                };
                names.insert(pmid, name.clone());
                name
            }
        };
        let ty = Type::from_raw(param.block.ty.into());
        let value = match ty {
            Type::Aggregate | Type::AggregateStatic => {
                let bytes = param.block.bytes.iter();
                format!(
                    "[{}]",
                    bytes.map(|b| format!("{b:02x}")).collect::<String>()
                )
                .into_bytes()
            }
            _ => pcp::print_value(&param.value(), ty, 1),
        };
        write!(self.out, "    {name} ")?;
        self.out.write_all(&value)?;
        self.out.write_all(b"\n")
    }
}
