//! `pmdumplog`: what is in an archive, as text (pmdumplog(1)).

mod index;
mod metadata;
mod raw;
mod records;

pub(crate) use metadata::label_flags;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use pcp::archive::{Archive, Version};
use pcp::timewindow::TimeWindow;
use pcp::timezone::Zone;
use pcp::{Pmid, Timestamp, Type};

use crate::event_metrics::event_metric;
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::overlapped::Overlapped;
use crate::source::{Source, no_end};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmdumplog",
    words: "[options] [archive [metricname ...]]",
    rows: &[
        OPTIONS,
        flag('a', "all", "dump everything"),
        flag('d', "descs", "dump metric descriptions"),
        flag('e', "labelsets", "dump all metric label metadata"),
        flag('h', "helptext", "dump all metric help text"),
        flag('I', "on-disk-insts", "dump on-disk instance domain descriptions"),
        flag('i', "insts", "dump instance domain descriptions"),
        flag('L', "", "more verbose form of archive label dump"),
        flag('l', "label", "dump the archive label"),
        flag('M', "markrecs", "report <mark> records"),
        flag('m', "metrics", "dump values of the metrics (default)"),
        NAMESPACE,
        flag('r', "reverse", "process archive in reverse chronological order"),
        START,
        flag('s', "sizes", "report size of data records in archive"),
        FINISH,
        flag('t', "", "dump the temporal index"),
        value('v', "", "FILE", "verbose hex dump of a physical file in raw format"),
        flag('x', "", "include date, usec (-xx) and Epoch (-xxx) in reported timestamps"),
        TIMEZONE,
        HOST_ZONE,
        long_flag('V', "version", "display version number and exit"),
        HELP,
        JSON,
    ],
    source_in_words: true,
    ..Spec::PLAIN
};

#[derive(Default)]
struct Wanted {
    descs: bool,
    labels: bool,
    texts: bool,
    indoms: bool,
    indoms_on_disk: bool,
    label: bool,
    verbose_label: bool,
    marks: bool,
    values: bool,
    reverse: bool,
    sizes: bool,
    index: bool,
    dates: u32,
    json: bool,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| dump(spec, args))
}

fn dump(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut out = Overlapped::stdout()?;
    let mut wanted = Wanted::default();
    let mut physical = None;
    let mut source = Source::default();
    let words = spec.parse(args, &mut source, |option, value| {
        match option {
            'a' => {
                wanted.descs = true;
                wanted.indoms = true;
                wanted.label = true;
                wanted.verbose_label = true;
                wanted.values = true;
                wanted.sizes = true;
                wanted.index = true;
            }
            'd' => wanted.descs = true,
            'e' => wanted.labels = true,
            'h' => wanted.texts = true,
            'I' => wanted.indoms_on_disk = true,
            'i' => wanted.indoms = true,
            'L' => {
                wanted.label = true;
                wanted.verbose_label = true;
            }
            'l' => wanted.label = true,
            'M' => wanted.marks = true,
            'm' => wanted.values = true,
            'r' => wanted.reverse = true,
            's' => wanted.sizes = true,
            't' => wanted.index = true,
            'x' => wanted.dates += 1,
            JSON_ONLY => wanted.json = true,
            'v' => physical = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if let Some(path) = physical {
        let status = raw::dump(&mut out, &path)?;
        out.flush()?;
        return Ok(status);
    }
    let anything = wanted.descs
        || wanted.indoms
        || wanted.indoms_on_disk
        || wanted.label
        || wanted.index
        || wanted.labels
        || wanted.texts;
    if !anything {
        wanted.values = true;
    }
    let source = source.with_environment(spec)?;
    // With an archive in the environment all words are metrics.
    let (name, metrics) = match (&source.archives, words.split_first()) {
        (Some(name), _) => (name, words.as_slice()),
        (None, Some((name, metrics))) => (name, metrics),
        (None, None) => return Err(Refusal::Usage(String::new())),
    };
    pcp::debug::looked_at(Path::new(name));
    let archive = Archive::open(Path::new(name)).map_err(|error| {
        let code = error.code();
        format!("pmdumplog: Cannot open archive \"{name}\": {code}\n")
    })?;
    let (zone, note) = source.archive_zone(&archive.label);
    out.write_all(note.as_bytes())?;
    let end = archive.end().unwrap_or_else(|error| {
        eprint!("{}", no_end("pmdumplog", Some(name), error.code()));
        Timestamp::MAX
    });
    let window = source.window.window(archive.label.start, end, &zone);
    let window = match window {
        Ok(window) => window,
        Err(error) => {
            out.flush()?;
            return Err(Refusal::Failed(format!(
                "pmdumplog: invalid time window.\n{error}\n\n"
            )));
        }
    };
    pcp::debug::positioned(window.start, 0.0, &archive.index);
    let loaded = match source
        .pmns
        .map(|path| (crate::source::names_of(&path), path))
    {
        None => None,
        Some((Ok(names), _)) => Some(names),
        Some((Err((said, code)), path)) => {
            out.flush()?;
            eprintln!("{said}");
            eprintln!("pmdumplog: Cannot load namespace from \"{path}\": {code}");
            return Ok(1);
        }
    };
    let names = loaded.as_ref().unwrap_or(&archive.meta.names);
    let mut pmids = Vec::new();
    for metric in metrics {
        // These are in every name space, and never in a record.
        if let Some(pmid) = event_metric(metric) {
            pmids.push(pmid);
            continue;
        }
        match names.leaves(metric.as_bytes()) {
            Ok(leaves) => {
                for (_, pmid) in leaves {
                    if !pmids.contains(&pmid) {
                        pmids.push(pmid);
                    }
                }
            }
            Err(code) => eprintln!("pmdumplog: pmLookupName({metric}): {code}"),
        }
    }
    if !metrics.is_empty() && pmids.is_empty() {
        out.flush()?;
        eprintln!("No metric names can be translated, dump abandoned");
        return Ok(1);
    }
    let mut dump = Dump {
        out: &mut out,
        digits: if archive.label.version == Version::V2 {
            6
        } else {
            9
        },
        archive: archive.clone(),
        zone,
        wanted,
        pmids,
        window,
        names: loaded,
        known_names: HashMap::new(),
        known_heads: HashMap::new(),
        line: Vec::new(),
    };
    let status = dump.everything()?;
    out.flush()?;
    Ok(status)
}

struct Dump<'a, W: Write> {
    out: &'a mut W,
    archive: Arc<Archive>,
    zone: Zone,
    wanted: Wanted,
    pmids: Vec<Pmid>,
    digits: usize,
    window: TimeWindow,
    /// Names given instead of the archive's.
    names: Option<pcp::pmns::Pmns>,
    /// The names of metrics that were looked for before.
    known_names: HashMap<Pmid, Rc<str>>,
    /// How lines of metrics in records begin, for the same reason.
    known_heads: HashMap<Pmid, Rc<str>>,
    /// The line that is being made.
    line: Vec<u8>,
}

pub(crate) fn type_name(ty: Type) -> String {
    match ty {
        Type::I32 => "32-bit int",
        Type::U32 => "32-bit unsigned int",
        Type::I64 => "64-bit int",
        Type::U64 => "64-bit unsigned int",
        Type::Float => "float",
        Type::Double => "double",
        Type::String => "string",
        Type::Aggregate => "aggregate",
        Type::AggregateStatic => "static aggregate",
        Type::Event => "event record array",
        Type::HighResEvent => "highres event record array",
        Type::NoSupport => "Not Supported",
        Type::Unknown | Type::Other(_) => return format!("??? ({})", ty.raw()),
    }
    .to_owned()
}

impl<W: Write> Dump<'_, W> {
    fn everything(&mut self) -> io::Result<u8> {
        if self.wanted.label {
            self.label()?;
        }
        if self.wanted.descs {
            self.descs()?;
        }
        if self.wanted.labels {
            self.labels()?;
        }
        if self.wanted.texts {
            self.texts()?;
        }
        if self.wanted.indoms_on_disk {
            self.indoms_on_disk()?;
        }
        if self.wanted.indoms {
            self.indoms()?;
        }
        if self.wanted.index {
            self.index()?;
        }
        if self.wanted.values {
            return self.records();
        }
        Ok(0)
    }

    fn names(&mut self, pmid: Pmid) -> Rc<str> {
        if let Some(known) = self.known_names.get(&pmid) {
            return Rc::clone(known);
        }
        let names: Rc<str> = self.find_names(pmid).into();
        self.known_names.insert(pmid, Rc::clone(&names));
        names
    }

    /// What stands ahead of the values of a metric in a record.
    fn head(&mut self, pmid: Pmid) -> Rc<str> {
        if let Some(known) = self.known_heads.get(&pmid) {
            return Rc::clone(known);
        }
        let head: Rc<str> = format!("    {pmid} ({})", self.names(pmid)).into();
        self.known_heads.insert(pmid, Rc::clone(&head));
        head
    }

    fn find_names(&self, pmid: Pmid) -> String {
        let names: Vec<String> = self
            .names
            .as_ref()
            .unwrap_or(&self.archive.meta.names)
            .names_of(pmid)
            .iter()
            .map(ToString::to_string)
            .collect();
        if names.is_empty() {
            return "<nonames>".to_owned();
        }
        names.join(" or ")
    }

    fn stamp(&self, time: Timestamp) -> String {
        let mut stamp = self.stamp_digits(time, self.digits);
        if self.wanted.dates >= 3 {
            stamp += &format!(" {}", time.sec);
        }
        stamp
    }

    /// A time with so many digits behind the second; with more than one `-x` the time since the archive's start behind it.
    fn stamp_digits(&self, time: Timestamp, digits: usize) -> String {
        if self.wanted.dates == 0 {
            return self.zone.clock(time, digits);
        }
        let mut stamp = self.zone.date(time, digits);
        if self.wanted.dates >= 2 {
            let since = (time - self.archive.label.start).as_secs_f64();
            stamp += &format!(" ({since:.digits$})");
        }
        stamp
    }
}
