//! `pmdumplog`: what is in an archive, as text (pmdumplog(1)).

mod raw;
mod records;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use pcp::archive::{Archive, IndexEntry, MetaRecord, Version, file};
use pcp::pdu::TextKind;
use pcp::timewindow::{TimeWindow, WindowSpec};
use pcp::timezone::Zone;
use pcp::{
    Desc, ErrorCode, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics, Timestamp, Type,
};

use crate::json;
use crate::options::Spec;
use crate::overlapped::Overlapped;
use crate::source::no_end;

const USAGE: &str = "\
Usage: pmdumplog [options] [archive [metricname ...]]

Options:
  -a, --all             dump everything
  -d, --descs           dump metric descriptions
  -e, --labelsets       dump all metric label metadata
  -h, --helptext        dump all metric help text
  -I, --on-disk-insts   dump on-disk instance domain descriptions
  -i, --insts           dump instance domain descriptions
  -L                    more verbose form of archive label dump
  -l, --label           dump the archive label
  -M, --markrecs        report <mark> records
  -m, --metrics         dump values of the metrics (default)
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -r, --reverse         process archive in reverse chronological order
  -S TIME, --start=TIME start of the time window
  -s, --sizes           report size of data records in archive
  -T TIME, --finish=TIME
                        end of the time window
  -t                    dump the temporal index
  -v FILE               verbose hex dump of a physical file in raw format
  -x                    include date, usec (-xx) and Epoch (-xxx) in reported timestamps
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -V, --version         display version number and exit
  -?, --help            show this usage message and exit
";

const SPEC: Spec = Spec {
    tool: "pmdumplog",
    short: "aD:dehIiLlMmn:rS:sT:tv:xZ:z?",
    long: &[
        ("all", 'a'),
        ("descs", 'd'),
        ("labelsets", 'e'),
        ("helptext", 'h'),
        ("on-disk-insts", 'I'),
        ("insts", 'i'),
        ("label", 'l'),
        ("markrecs", 'M'),
        ("metrics", 'm'),
        ("namespace", 'n'),
        ("reverse", 'r'),
        ("start", 'S'),
        ("sizes", 's'),
        ("finish", 'T'),
        ("timezone", 'Z'),
        ("hostzone", 'z'),
        ("help", '?'),
        ("debug", 'D'),
        json::LONG,
    ],
    usage: USAGE,
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
    let mut out = Overlapped::stdout()?;
    let parsed = match SPEC.parse(args) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("{message}");
            return Ok(1);
        }
    };
    let mut wanted = Wanted::default();
    let (mut zone, mut host_zone, mut pmns) = (None, false, None);
    let mut physical = None;
    let mut window = WindowSpec::default();
    for (option, value) in parsed.options {
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
            'S' => window.start = value,
            'T' => window.finish = value,
            'n' => pmns = value,
            'x' => wanted.dates += 1,
            'Z' => zone = value,
            'z' => host_zone = true,
            'D' => {}
            json::OPTION => wanted.json = true,
            'v' => physical = value,
            '?' => {
                eprint!("{USAGE}");
                return Ok(1);
            }
            other => {
                eprintln!("pmdumplog: option -{other} is not available");
                return Ok(1);
            }
        }
    }
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
    let Some((name, metrics)) = parsed.words.split_first() else {
        eprint!("{USAGE}");
        return Ok(1);
    };
    pcp::debug::looked_at(Path::new(name));
    let archive = match Archive::open(Path::new(name)) {
        Ok(archive) => archive,
        Err(error) => {
            eprintln!(
                "pmdumplog: Cannot open archive \"{name}\": {}",
                error.code()
            );
            return Ok(1);
        }
    };
    let zone = if host_zone {
        writeln!(
            out,
            "Note: timezone set to local timezone of host \"{}\" from archive\n",
            archive.label.hostname
        )?;
        Zone::new(&archive.label.timezone.to_str())
    } else if let Some(name) = zone {
        writeln!(out, "Note: timezone set to \"TZ={name}\"\n")?;
        Zone::new(&name)
    } else {
        Zone::local()
    };
    let end = archive.end().unwrap_or_else(|error| {
        eprint!("{}", no_end("pmdumplog", Some(name), error.code()));
        Timestamp::MAX
    });
    let window = match window.window(archive.label.start, end, &zone) {
        Ok(window) => window,
        Err(error) => {
            out.flush()?;
            eprintln!("pmdumplog: invalid time window.\n{error}\n");
            return Ok(1);
        }
    };
    pcp::debug::positioned(window.start, 0.0, &archive.index);
    let loaded = match pmns.map(|path| (pcp::pmns::Pmns::load(path.as_ref()), path)) {
        None => None,
        Some((Ok(names), _)) => Some(names),
        Some((Err(error), path)) => {
            out.flush()?;
            let (said, code) = match error {
                pcp::Error::Malformed { code, what } => (what, code),
                _ => (format!("Cannot open \"{path}\""), ErrorCode(-2)),
            };
            eprintln!("Error Parsing ASCII PMNS: {said}");
            eprintln!("pmdumplog: Cannot load namespace from \"{path}\": {code}");
            return Ok(1);
        }
    };
    let names = loaded.as_ref().unwrap_or(&archive.meta.names);
    let mut pmids = Vec::new();
    for metric in metrics {
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

/// Levels of labels from the widest to the narrowest.
const LABEL_LEVELS: [u32; 6] = [1, 2, 8, 16, 4, 32];

/// A label's flags in words.
fn label_flags(flags: u8) -> String {
    let names = [
        (1, "context"),
        (2, "domain"),
        (4, "indom"),
        (8, "cluster"),
        (16, "pmid"),
        (32, "instances"),
        (64, "compound"),
        (128, "optional"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// A count and its noun, in the plural unless it is one.
fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
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
        if self.wanted.indoms {
            self.indoms()?;
        }
        if self.wanted.indoms_on_disk {
            self.indoms_on_disk()?;
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
        match self.wanted.dates {
            0 => self.zone.clock(time, self.digits),
            _ => self.zone.date(time, self.digits),
        }
    }

    fn label(&mut self) -> io::Result<()> {
        let label = &self.archive.label;
        let out = &mut *self.out;
        writeln!(
            out,
            "Log Label (Log Format Version {})",
            label.version as u32
        )?;
        write!(out, "Performance metrics from host ")?;
        out.write_all(&label.hostname)?;
        writeln!(
            out,
            "\n    commencing {}",
            self.zone.date(label.start, self.digits)
        )?;
        match pcp::debug::quietly(|| self.archive.end()) {
            Ok(end) => writeln!(out, "    ending     {}", self.zone.date(end, self.digits))?,
            Err(_) => writeln!(out, "    ending     UNKNOWN")?,
        }
        if self.wanted.verbose_label {
            writeln!(out, "Archive timezone: {}", label.timezone)?;
            if !label.zoneinfo.is_empty() {
                writeln!(out, "Archive zoneinfo: {}", label.zoneinfo)?;
            }
            writeln!(out, "PID for pmlogger: {}", label.pid)?;
        }
        Ok(())
    }

    fn descs(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nDescriptions for Metrics in the Log ...")?;
        let archive = self.archive.clone();
        for (_, desc) in archive.meta.descs.iter() {
            self.desc(desc)?;
        }
        Ok(())
    }

    fn desc(&mut self, desc: &Desc) -> io::Result<()> {
        let sem = match desc.sem {
            Semantics::Other(raw) => format!("??? ({raw})"),
            sem => sem.to_string(),
        };
        let units = desc.units.to_string();
        let units = if units.is_empty() { "none" } else { &units };
        let names = self.names(desc.pmid);
        writeln!(self.out, "PMID: {} ({names})", desc.pmid)?;
        if desc.ty == Type::NoSupport {
            return writeln!(self.out, "    Data Type: Not Supported");
        }
        writeln!(
            self.out,
            "    Data Type: {}  InDom: {} 0x{:x}",
            type_name(desc.ty),
            desc.indom,
            desc.indom.0
        )?;
        writeln!(self.out, "    Semantics: {sem}  Units: {units}")
    }

    fn instances(&mut self, instances: &[Instance]) -> io::Result<()> {
        for instance in instances {
            write!(self.out, "   {} or \"", instance.inst)?;
            self.out.write_all(&instance.name)?;
            self.out.write_all(b"\"\n")?;
        }
        Ok(())
    }

    fn indoms(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nInstance Domains in the Log ...")?;
        let archive = self.archive.clone();
        for (indom, entries) in archive.meta.indoms.iter() {
            writeln!(self.out, "InDom: {}", InDom(indom))?;
            for entry in entries {
                let stamp = self.stamp(entry.time);
                writeln!(self.out, "{stamp} {} instances", entry.instances.len())?;
                self.instances(&entry.instances)?;
            }
        }
        Ok(())
    }

    fn indoms_on_disk(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nInstance Domains on-disk ...")?;
        let archive = self.archive.clone();
        for (_, record) in &archive.meta.records {
            match record {
                MetaRecord::Indom {
                    time,
                    indom,
                    instances,
                } => {
                    let stamp = self.stamp(*time);
                    writeln!(
                        self.out,
                        "{stamp} InDom: {indom} {} instances",
                        instances.len()
                    )?;
                    self.instances(instances)?;
                }
                MetaRecord::IndomDelta {
                    time,
                    indom,
                    changes,
                } => {
                    let stamp = self.stamp(*time);
                    writeln!(
                        self.out,
                        "{stamp} Delta InDom: {indom} {} instances",
                        changes.len()
                    )?;
                    for (inst, name) in changes {
                        match name {
                            Some(name) => {
                                write!(self.out, "   add {inst} or \"")?;
                                self.out.write_all(name)?;
                                self.out.write_all(b"\"\n")?;
                            }
                            None => writeln!(self.out, "   del {inst}")?,
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All labels by time, within a time from the widest level to the narrowest.
    fn labels(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nMetric Labels in the Log ...")?;
        let archive = self.archive.clone();
        let mut last = None;
        let mut all: Vec<(Timestamp, u32, u32, &[LabelSet])> = Vec::new();
        for ((level, ident), history) in &archive.meta.labels {
            for (time, sets) in history {
                all.push((*time, *level, *ident, sets));
            }
        }
        // The level of clusters has a bit below that of items, and that of domains one below that of instance domains.
        let rank = |level: u32| LABEL_LEVELS.iter().position(|l| *l == level);
        all.sort_by_key(|(time, level, ident, _)| (*time, rank(*level), *ident));
        for (time, level, ident, sets) in all {
            if last != Some(time) {
                last = Some(time);
                let stamp = self.stamp(time);
                writeln!(self.out, "{stamp}")?;
            }
            for set in sets {
                let of = match LabelLevel::from_raw(level) {
                    Some(LabelLevel::Context) => "Context".to_owned(),
                    Some(LabelLevel::Domain) => format!("Domain {ident}"),
                    Some(LabelLevel::Cluster) => {
                        let pmid = Pmid(ident);
                        format!("Cluster {}.{}", pmid.domain(), pmid.cluster())
                    }
                    Some(LabelLevel::Item) => format!("PMID {}", Pmid(ident)),
                    Some(LabelLevel::InDom) => format!("InDom {}", InDom(ident)),
                    _ => format!("InDom {}[{}]", InDom(ident), set.inst),
                };
                write!(self.out, "    {of} labels ({} bytes): ", set.json.len())?;
                self.out.write_all(&set.json)?;
                self.out.write_all(b"\n")?;
                for (number, label) in set.labels.iter().enumerate() {
                    writeln!(
                        self.out,
                        "        [{number}] name({},{}) : value({},{}) [{}]",
                        label.name,
                        label.name_len,
                        label.value,
                        label.value_len,
                        label_flags(label.flags.0)
                    )?;
                }
            }
        }
        Ok(())
    }

    fn texts(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nMetric Help Text in the Log ...")?;
        let archive = self.archive.clone();
        let mut idents: Vec<(bool, u32)> = Vec::new();
        for (kind, ident) in archive.meta.texts.keys() {
            let entry = (TextKind(*kind).is_indom(), *ident);
            if !idents.contains(&entry) {
                idents.push(entry);
            }
        }
        idents.sort_unstable();
        for (is_indom, ident) in idents {
            let (title, one, full) = if is_indom {
                let title = format!("InDom: {}", InDom(ident));
                (title, TextKind::INDOM_ONELINE, TextKind::INDOM_HELP)
            } else {
                let title = format!("PMID: {}", Pmid(ident));
                (title, TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)
            };
            if let Some(text) = archive.meta.texts.get(&(one.0, ident)) {
                write!(self.out, "{title} [")?;
                self.out.write_all(text)?;
                self.out.write_all(b"]\n")?;
            }
            if let Some(text) = archive.meta.texts.get(&(full.0, ident)) {
                writeln!(self.out, "{title}")?;
                self.out.write_all(text)?;
                self.out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn index(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nTemporal Index")?;
        let tabs = if self.wanted.dates > 0 {
            "\t\t\t\t"
        } else {
            "\t\t"
        };
        // Times with nanoseconds are a column longer.
        let more = if self.archive.label.version == Version::V3 {
            "\t"
        } else {
            ""
        };
        writeln!(self.out, "{more}{tabs}Log Vol    end(meta)     end(log)")?;
        let archive = self.archive.clone();
        // Compressed files are as long as what is in them.
        let length = |path: &std::path::PathBuf| {
            let compressed = path
                .extension()
                .is_some_and(|e| matches!(e.to_str(), Some("xz" | "gz" | "bz2" | "zst" | "lzma")));
            if compressed {
                return file::read(path)
                    .ok()
                    .and_then(|c| i64::try_from(c.len()).ok());
            }
            let length = std::fs::metadata(path).ok()?.len();
            i64::try_from(length).ok()
        };
        let meta_end = archive.files.meta.as_ref().and_then(length);
        let mut known: HashMap<i32, Option<i64>> = HashMap::new();
        let volumes = &archive.files.volumes;
        let mut volume_end = |volume: i32| {
            let end = || volumes.get(&volume).and_then(length);
            *known.entry(volume).or_insert_with(end)
        };
        let mut before = None;
        for entry in &archive.index {
            let stamp = self.stamp(entry.time);
            writeln!(
                self.out,
                "{stamp}\t   {:4}  {:11}  {:11}",
                entry.volume, entry.meta, entry.log
            )?;
            self.index_entry(entry, before, meta_end, &mut volume_end)?;
            before = Some(entry);
        }
        Ok(())
    }

    /// What is wrong with an entry of the index, below it.
    fn index_entry(
        &mut self,
        entry: &IndexEntry,
        before: Option<&IndexEntry>,
        meta_end: Option<i64>,
        volume_end: &mut dyn FnMut(i32) -> Option<i64>,
    ) -> io::Result<()> {
        let volume = volume_end(entry.volume);
        let (sec, nsec) = (entry.time.sec, entry.time.nsec);
        let mut said = Vec::new();
        if volume.is_none() {
            said.push(format!(
                "Warning: file missing for log volume {}",
                entry.volume
            ));
        }
        if sec < 0 || nsec < 0 || i64::from(nsec) >= pcp::NSEC_PER_SEC {
            said.push(format!(
                "Error: illegal timestamp value ({sec} sec, {nsec} nsec)"
            ));
        }
        if let Some(end) = meta_end.filter(|end| entry.meta > *end) {
            said.push(format!(
                "Error: offset to meta file past end of file ({end})"
            ));
        }
        if let Some(end) = volume.filter(|end| entry.log > *end) {
            said.push(format!(
                "Error: offset to log file past end of file ({end})"
            ));
        }
        if let Some(before) = before {
            if entry.time < before.time {
                let (from, to) = (self.stamp(before.time), self.stamp(entry.time));
                said.push(format!(
                    "Error: timestamp went backwards in time {from} -> {to}"
                ));
            }
            if entry.volume < before.volume {
                said.push("Error: volume number decreased".to_owned());
            }
            if entry.volume == before.volume && entry.meta < before.meta {
                said.push("Error: offset to meta file decreased".to_owned());
            }
            if entry.volume == before.volume && entry.log < before.log {
                said.push("Error: offset to log file decreased".to_owned());
            }
        }
        for line in said {
            writeln!(self.out, "\t\t{line}")?;
        }
        Ok(())
    }
}
