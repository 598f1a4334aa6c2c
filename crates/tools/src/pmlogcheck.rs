//! `pmlogcheck`: looks for damage in an archive, file by file and record by record (pmlogcheck(1)).

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use pcp::archive::file::{self, Files, NoRecord, record_at};
use pcp::archive::{Archive, Cursor, DataRecord, Version};
use pcp::timezone::Zone;
use pcp::{Atom, Desc, ErrorCode, InDom, Pmid, Semantics, Timestamp, Type};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlogcheck",
    words: "[options] archive",
    rows: &[
        OPTIONS,
        flag('l', "label", "print the archive label"),
        flag('m', "metadataonly", "skip checking log data volumes"),
        NAMESPACE,
        START,
        FINISH,
        flag('v', "verbose", "verbose output"),
        flag('w', "nowrap", "suppress counter wrap warnings"),
        TIMEZONE,
        HOST_ZONE,
        HELP,
    ],
    words_end_options: false,
    source_in_words: true,
};

/// The upper bits of a label's magic number.
const MAGIC: u32 = 0x5005_2600;

/// A day: longer spans have dates in their times.
const DAY: i64 = 86_400;

/// Names of metadata records' types.
const RECORDS: [&str; 8] = [
    "?",
    "DESC",
    "INDOM_V2",
    "LABEL_V2",
    "TEXT",
    "INDOM",
    "INDOM_DELTA",
    "LABEL",
];

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| check(spec, args))
}

fn check(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let mut source = Source::default();
    let (mut label, mut meta_only, mut verbose, mut wraps) = (false, false, false, true);
    let words = spec.parse(args, &mut source, |option, _| {
        match option {
            'l' => label = true,
            'm' => meta_only = true,
            'v' => verbose = true,
            'w' => wraps = false,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let explain = pcp::debug::on(pcp::debug::Flag::LogMeta);
    let Some(name) = words.first() else {
        return Err(Refusal::Usage("Error: no archive specified\n\n".to_owned()));
    };
    if let Some(path) = &source.pmns
        && let Err(error) = pcp::pmns::Pmns::load(path.as_ref())
    {
        let code = error.code();
        eprintln!("Error Parsing ASCII PMNS: Cannot open \"{path}\"");
        eprintln!("pmlogcheck: Cannot load namespace from \"{path}\": {code}");
        return Ok(1);
    }
    let mut check = Check {
        name: name.clone(),
        verbose,
        fatal: false,
        index_bad: false,
    };
    if verbose {
        eprintln!("Scanning for components of archive \"{name}\"");
    }
    let Ok(files) = Files::find(Path::new(name)) else {
        eprintln!("pmlogcheck: no PCP archive files match \"{name}\"");
        return Ok(1);
    };
    check.name = files.base.display().to_string();
    if let Some(plain) = check
        .name
        .strip_prefix("./")
        .filter(|_| !name.starts_with("./"))
    {
        check.name = plain.to_owned();
    }
    check.files(&files);
    if check.fatal {
        if verbose {
            eprintln!("Due to earlier errors, cannot continue ... bye");
        }
        return Ok(1);
    }
    let archive = match Archive::open(Path::new(name)) {
        Ok(archive) => archive,
        Err(error) => {
            if explain {
                check.explain(&files);
            }
            eprintln!(
                "pmlogcheck: cannot open archive \"{name}\": {}\nChecking abandoned.",
                error.code()
            );
            return Ok(1);
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let own = &archive.label;
    let (zone, note) = source.archive_zone(own);
    out.write_all(note.as_bytes())?;
    let end = archive.end().unwrap_or(Timestamp::MAX);
    if label {
        eprintln!("Log Label (Log Format Version {})", own.version as u32);
        eprintln!("Performance metrics from host {}", own.hostname);
        eprintln!("  commencing {}", zone.date(own.start, 3));
        eprintln!("  ending     {}", zone.date(end, 3));
    }
    let window = source
        .window
        .window(own.start, end, &zone)
        .map_err(|error| format!("pmlogcheck: invalid time window.\n{error}\n\n"))?;
    check.index(&archive, &files);
    check.descs(&archive);
    if !meta_only {
        let mut values = Values {
            check: &check,
            archive: archive.clone(),
            zone,
            wraps,
            dates: window.end.sec - window.start.sec > DAY,
            last: HashMap::new(),
            unknown: HashSet::new(),
        };
        if values.pass((window.start, window.end)).is_err() {
            out.flush()?;
            return Ok(1);
        }
    }
    out.flush()?;
    Ok(0)
}

struct Check {
    name: String,
    verbose: bool,
    fatal: bool,
    index_bad: bool,
}

impl Check {
    /// Each file has a label and whole records.
    fn files(&mut self, files: &Files) {
        let folder = files.base.parent().filter(|p| !p.as_os_str().is_empty());
        let listed = std::fs::read_dir(folder.unwrap_or(Path::new(".")));
        let order: HashMap<_, usize> = listed
            .into_iter()
            .flatten()
            .flatten()
            .enumerate()
            .map(|(number, entry)| (entry.file_name(), number))
            .collect();
        let mut parts: Vec<(&str, &std::path::PathBuf)> = Vec::new();
        parts.extend(files.volumes.values().map(|p| ("data", p)));
        parts.extend(files.meta.iter().map(|p| ("meta", p)));
        parts.extend(files.index.iter().map(|p| ("index", p)));
        // PCP's looks at the files in the order in which the folder has them.
        parts.sort_by_key(|(_, path)| path.file_name().and_then(|n| order.get(n)));
        for (suffix, path) in parts {
            let own = files.base.file_name().map_or(0, std::ffi::OsStr::len);
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let name = name.as_deref().and_then(|n| n.get(own..)).unwrap_or("");
            let name = format!("{}{name}", self.name);
            if self.verbose {
                eprint!("{name}: start pass0 ... ");
            }
            let content = match file::read(path) {
                Ok(content) => content,
                Err(error) => {
                    eprintln!("{name}: cannot open file: {}", ErrorCode::from(&error));
                    self.fatal = true;
                    continue;
                }
            };
            match self.records(&name, &content, suffix) {
                Some(found) if self.verbose && found > 0 => eprintln!("found {found} records"),
                Some(_) => {}
                None => self.fatal = true,
            }
        }
    }

    /// Says what is wrong with a file, below the line that says that it is looked at.
    fn wrong(&self, text: &str) {
        if self.verbose {
            eprintln!();
        }
        eprintln!("{text}");
    }

    /// The number of records in a file, none in one without data; `None` when it is damaged, which was said.
    fn records(&self, name: &str, content: &bytes::Bytes, suffix: &str) -> Option<usize> {
        if content.is_empty() {
            self.wrong(&format!("{name}: contains no PCP data"));
            return Some(0);
        }
        let (start, sound) = self.label(name, content)?;
        let version = match file::label(content) {
            Ok((label, _)) => label.version,
            // The lengths were right.
            Err(_) if start == Version::V3.label_len() + 8 => Version::V3,
            Err(_) => Version::V2,
        };
        if suffix == "index" {
            if !sound {
                return None;
            }
            let size = version.index_entry_len();
            let rest = content.len() - start;
            if !rest.is_multiple_of(size) {
                self.wrong(&format!(
                    "{name}[record {}]: unexpected EOF in index entry, wanted {size}, got {} bytes",
                    1 + rest / size,
                    rest % size
                ));
                return None;
            }
            return Some(1 + rest / size);
        }
        let word = |at: usize| {
            let bytes = content.get(at..)?.first_chunk()?;
            Some(i32::from_be_bytes(*bytes))
        };
        let (mut at, mut found, mut strange) = (start, 1, false);
        while at < content.len() {
            let left = content.len() - at;
            let what = match (word(at), record_at(content, at)) {
                (_, Ok(record)) => {
                    let ty = word(at + 4).unwrap_or(0);
                    let others: &[i32] = match version {
                        Version::V2 => &[5, 6, 7],
                        Version::V3 => &[2, 3],
                    };
                    if suffix == "meta" && sound && others.contains(&ty) {
                        let kind = usize::try_from(ty).ok().and_then(|ty| RECORDS.get(ty));
                        let text = format!(
                            "{name}[record {found}]: unexpected record type {} ({ty}) for V{} archive",
                            kind.unwrap_or(&"?"),
                            version as u32
                        );
                        if std::mem::replace(&mut strange, true) {
                            eprintln!("{text}");
                        } else {
                            self.wrong(&text);
                        }
                    }
                    at = record.end();
                    found += 1;
                    continue;
                }
                (None, _) => {
                    format!("unexpected EOF in record header, wanted 4, got {left} bytes")
                }
                (Some(length), Err(NoRecord::Torn)) => {
                    let body = usize::try_from(length).unwrap_or(0).saturating_sub(8);
                    if left - 4 < body {
                        let got = left - 4;
                        format!("unexpected EOF in record body, wanted {body}, got {got} bytes")
                    } else {
                        let got = left - 4 - body;
                        format!("unexpected EOF in record trailer, wanted 4, got {got} bytes")
                    }
                }
                (Some(length), Err(_)) => {
                    let end = usize::try_from(length).ok().and_then(|l| at.checked_add(l));
                    match end.filter(|_| length >= 8).and_then(|end| word(end - 4)) {
                        Some(trailer) => {
                            format!("length mismatch: header {length} != trailer {trailer}")
                        }
                        None => format!("illegal header record length ({length})"),
                    }
                }
            };
            self.wrong(&format!("{name}[record {found}]: {what}"));
            eprintln!("{name}: last valid record ends at offset {at}");
            return None;
        }
        sound.then_some(found)
    }

    /// Where the label of a file ends, and whether its version is known; `None` when there is none, which was said.
    fn label(&self, name: &str, content: &bytes::Bytes) -> Option<(usize, bool)> {
        let word = |at: usize| {
            let bytes = content.get(at..)?.first_chunk()?;
            Some(i32::from_be_bytes(*bytes))
        };
        let torn = |part: &str, wanted: usize, got: usize| {
            self.wrong(&format!(
                "{name}: unexpected EOF in label record {part}, wanted {wanted}, got {got} bytes"
            ));
        };
        let Some(length) = word(0) else {
            self.wrong(&format!(
                "{name}[record 0]: unexpected EOF in record header, wanted 4, got {} bytes",
                content.len()
            ));
            return None;
        };
        let magic = word(4).unwrap_or(0) as u32;
        let version = magic & 0xff;
        let size = usize::try_from(length).unwrap_or(0);
        if content.len() + 4 < size {
            torn("body", size - 8, content.len().saturating_sub(4));
            return None;
        }
        if content.len() < size {
            torn("trailer", 4, content.len() + 4 - size);
            return None;
        }
        let trailer = size.checked_sub(4).and_then(word).unwrap_or(0);
        if trailer != length {
            self.wrong(&if trailer < 8 {
                format!("{name}: illegal trailer record length ({trailer}) in label record")
            } else {
                format!(
                    "{name}: label record length mismatch: header {length} != trailer {trailer}"
                )
            });
            return None;
        }
        if magic & 0xffff_ff00 != MAGIC {
            eprintln!(
                "{name}: bad label magic number: {:#x} not {MAGIC:#x} as expected",
                magic & 0xffff_ff00
            );
        }
        if !(2..=3).contains(&version) {
            eprintln!("{name}: bad label version: {version} not 2 or 3 as expected");
            eprintln!("{name}: cannot load label record: {}", ErrorCode::LABEL);
            return Some((size, false));
        }
        Some((size, true))
    }

    /// Why the metadata is refused, in the words of the library's diagnostics.
    fn explain(&self, files: &Files) {
        let Some(content) = files.meta.as_ref().and_then(|p| file::read(p).ok()) else {
            return;
        };
        let Ok((label, mut at)) = file::label(&content) else {
            return;
        };
        while let Ok(record) = record_at(&content, at) {
            at = record.end();
            let word = |n: usize| {
                let bytes = record.payload.get(n * 4..)?.first_chunk()?;
                Some(i32::from_be_bytes(*bytes))
            };
            let time = label.version.time_len() / 4;
            if !matches!(word(0), Some(2 | 5)) {
                continue;
            }
            let (Some(indom), Some(count)) = (word(1 + time), word(2 + time)) else {
                continue;
            };
            let indom = InDom(indom as u32);
            let count = usize::try_from(count).unwrap_or(0);
            let strings = record
                .payload
                .len()
                .saturating_sub((3 + time + 2 * count) * 4);
            for number in 0..count {
                let (Some(inst), Some(offset)) =
                    (word(3 + time + number), word(3 + time + count + number))
                else {
                    return;
                };
                if inst < 0 {
                    eprintln!(
                        "__pmLogLoadInDom: InDom: {indom}: instance[{number}]: bad instance identifier ({inst})"
                    );
                    return;
                }
                if offset < 0 {
                    eprintln!(
                        "__pmLogLoadInDom: InDom: {indom} instance[{number}]: bad string index ({offset})"
                    );
                    return;
                }
                if usize::try_from(offset).unwrap_or(0) > strings {
                    eprintln!(
                        "__pmLogLoadInDom: InDom: {indom} instance[{number}]: bad string index ({offset}) > max index based on record length ({strings})"
                    );
                    return;
                }
            }
        }
    }

    fn index(&mut self, archive: &Archive, files: &Files) {
        let name = &self.name;
        if self.verbose {
            eprintln!("{name}: start pass1 (check temporal index)");
        }
        if files.index.is_none() {
            eprintln!("{name}: warning temporal index is missing");
            return;
        }
        let length = |path: Option<&std::path::PathBuf>| {
            let content = path.and_then(|p| file::read(p).ok());
            content.and_then(|c| i64::try_from(c.len()).ok())
        };
        let meta_end = length(files.meta.as_ref()).unwrap_or(i64::MAX);
        let mut volumes: HashMap<i32, Option<i64>> = HashMap::new();
        let start = i64::try_from(archive.label.version.label_len() + 8).unwrap_or(0);
        let mut before: Option<pcp::archive::IndexEntry> = None;
        let stamp = |t: Timestamp| format!("{}.{:09}", t.sec, t.nsec);
        for (number, entry) in archive.index.iter().enumerate() {
            let number = number + 1;
            let title = format!("{name}.index[entry {number}]");
            let mut bad = |what: String| {
                eprintln!("{title}: {what}");
                self.index_bad = true;
            };
            if entry.volume < 0 {
                bad(format!("illegal negative volume number {}", entry.volume));
                before = Some(*entry);
                continue;
            }
            let volume_end = *volumes
                .entry(entry.volume)
                .or_insert_with(|| length(files.volumes.get(&entry.volume)));
            if entry.meta < start {
                bad(format!(
                    "offset to metadata ({}) before end of label record ({start})",
                    entry.meta
                ));
            }
            if entry.meta > meta_end {
                bad(format!(
                    "offset to metadata ({}) past end of file ({meta_end})",
                    entry.meta
                ));
            }
            if entry.log < start {
                bad(format!(
                    "offset to log ({}) before end of label record ({start})",
                    entry.log
                ));
            }
            match volume_end {
                Some(end) if entry.log > end => {
                    bad(format!(
                        "offset to log ({}) past end of file ({end})",
                        entry.log
                    ));
                }
                Some(_) => {}
                None => eprintln!("{name}.{0}: file missing for log volume {0}", entry.volume),
            }
            let mut bad = |what: String| {
                eprintln!("{title}: {what}");
                self.index_bad = true;
            };
            let (sec, nsec) = (entry.time.sec, entry.time.nsec);
            if sec < 0 || nsec < 0 {
                bad(format!(
                    "illegal negative timestamp value ({sec} sec, {nsec} nsec)"
                ));
            } else if i64::from(nsec) >= pcp::NSEC_PER_SEC {
                bad(format!(
                    "illegal timestamp nsec value ({sec} sec, {nsec} nsec)"
                ));
            }
            if entry.time < archive.label.start {
                bad(format!(
                    "timestamp ({}) less than log label timestamp ({})",
                    stamp(entry.time),
                    stamp(archive.label.start)
                ));
            }
            if let Some(last) = before {
                let at = number - 1;
                if entry.time < last.time {
                    bad(format!(
                        "timestamp ({}) went backwards in time (from {} at [entry {at}])",
                        stamp(entry.time),
                        stamp(last.time)
                    ));
                }
                if entry.volume < last.volume {
                    bad(format!(
                        "volume number ({}) decreased (from {} at [entry {at}])",
                        entry.volume, last.volume
                    ));
                }
                if entry.volume == last.volume && entry.meta < last.meta {
                    bad(format!(
                        "offset to metadata ({}) decreased (from {} at [entry {at}])",
                        entry.meta, last.meta
                    ));
                }
                if entry.volume == last.volume && entry.log < last.log {
                    bad(format!(
                        "offset to log ({}) decreased (from {} at [entry {at}])",
                        entry.log, last.log
                    ));
                }
            }
            before = Some(*entry);
        }
    }

    fn descs(&self, archive: &Archive) {
        let name = &self.name;
        if self.verbose {
            eprintln!("{name}: start pass2");
        }
        for (pmid, desc) in archive.meta.descs.iter() {
            let pmid = Pmid(pmid);
            let names = archive.meta.names.names_of(pmid);
            let Some(metric) = names.first() else {
                eprintln!(
                    "{name}.meta: PMID {pmid}: no name in PMNS: {}",
                    ErrorCode::PMID
                );
                continue;
            };
            let bad = |what: String| eprintln!("{name}.meta: {metric} [{pmid}]: {what}");
            if matches!(desc.ty, Type::Other(_)) {
                bad(format!("bad type ({}) in pmDesc", desc.ty.raw()));
            }
            if !desc.indom.is_null() && desc.indom.domain() != pmid.domain() {
                bad(format!(
                    "domain of pmid ({}) != domain of indom ({})",
                    pmid.domain(),
                    desc.indom.domain()
                ));
            }
            if let Semantics::Other(raw) = desc.sem {
                bad(format!("bad semantics ({raw}) in pmDesc"));
            }
            let u = desc.units;
            let axes = [
                ("Space", u.dim_space, i32::from(u.scale_space), 6),
                ("Time", u.dim_time, i32::from(u.scale_time), 5),
                ("Count", u.dim_count, i32::from(u.scale_count), i32::MAX),
            ];
            for (axis, dim, _, _) in axes {
                if !(-2..=2).contains(&dim) {
                    bad(format!("bad dimension ({dim}) for {axis} in pmDesc"));
                }
            }
            for (axis, dim, scale, most) in axes {
                if dim == 0 && scale != 0 {
                    bad(format!(
                        "non-zero scale ({scale}) with zero dimension for {axis} in pmDesc"
                    ));
                }
                if scale > most {
                    bad(format!("bad scale ({scale}) for {axis} in pmDesc"));
                }
            }
        }
    }
}

/// How values are encoded and how their type wants them, when these differ: 0 in their place, 1 out of line.
fn misencoded(set: &pcp::ValueSet, ty: Type) -> Option<(u8, u8)> {
    let inline = |value: &pcp::InstanceValue| matches!(value.value, pcp::Value::Insitu(_));
    let first = set.instances().first()?;
    let wide = matches!(ty, Type::I64 | Type::U64 | Type::Double | Type::String);
    (wide && inline(first)).then_some((0, 1))
}

struct Values<'a> {
    check: &'a Check,
    archive: Arc<Archive>,
    zone: Zone,
    wraps: bool,
    dates: bool,
    /// The last value and its time by metric and instance.
    last: HashMap<(Pmid, i32), (f64, Timestamp)>,
    /// Metrics that no descriptor is there for, each to be spoken of once.
    unknown: HashSet<Pmid>,
}

impl Values<'_> {
    fn stamp(&self, time: Timestamp) -> String {
        if self.dates {
            self.zone.date(time, 3)
        } else {
            self.zone.clock(time, 3)
        }
    }

    /// Where PCP's library goes for a time: to the nearer one of the index's entries around it.
    fn from(&self, start: Timestamp) -> pcp::Result<Cursor> {
        let index = &self.archive.index;
        let after = index.iter().position(|e| e.time >= start);
        let entry = match after {
            Some(0) => None,
            None => index.last(),
            Some(after) => {
                let around = (index.get(after - 1), index.get(after));
                match around {
                    (Some(low), Some(high)) if high.time - start > start - low.time => Some(low),
                    (_, high) => high,
                }
            }
        };
        match entry {
            Some(entry) => {
                let offset = usize::try_from(entry.log).unwrap_or(0);
                Cursor::at(self.archive.clone(), entry.volume, offset)
            }
            None => Cursor::at_start(self.archive.clone()),
        }
    }

    fn pass(&mut self, (start, end): (Timestamp, Timestamp)) -> Result<(), ()> {
        let name = &self.check.name;
        if self.check.verbose {
            eprintln!("{name}: start pass3");
        }
        let Ok(mut cursor) = self.from(start) else {
            return Ok(());
        };
        let (mut results, mut marks) = (0, 0);
        // The window's start counts as the first time; all records are looked at, as PCP's does.
        let mut before = start;
        let label_start = self.archive.label.start;
        loop {
            match cursor.following() {
                Ok(Some(record)) => {
                    if record.time > end {
                        break;
                    }
                    if record.time < label_start {
                        eprintln!(
                            "{name}.{}:[{}]: timestamp before label timestamp: {}",
                            record.volume,
                            self.stamp(record.time),
                            self.stamp(label_start)
                        );
                    }
                    if record.time < before {
                        eprintln!(
                            "{name}.{}:[{}]: timestamp went backwards, prior timestamp: {}",
                            record.volume,
                            self.stamp(record.time),
                            self.stamp(before)
                        );
                    }
                    before = record.time;
                    if record.is_mark() {
                        marks += 1;
                        self.last.clear();
                        continue;
                    }
                    results += 1;
                    self.record(&record)?;
                }
                Ok(None) => break,
                Err(error) => {
                    eprintln!("{name}: pmFetch: error: {}", error.code());
                    eprintln!("pmlogcheck: possibly corrupt archive?");
                    break;
                }
            }
        }
        if self.check.verbose {
            if results > 0 {
                eprintln!("Processed {results} pmResult records");
            }
            if marks > 0 {
                eprintln!("Processed {marks} <mark> records");
            }
        }
        Ok(())
    }

    /// Looks at a record's values; an error, which was said, when one cannot be had, which ends the looking.
    fn record(&mut self, record: &DataRecord) -> Result<(), ()> {
        let name = &self.check.name;
        let at = format!("{name}.{}:[{}]", record.volume, self.stamp(record.time));
        let Ok(fetched) = record.decode() else {
            eprintln!("{at}: pmFetch: error: {}", ErrorCode::LOGREC);
            return Ok(());
        };
        let archive = self.archive.clone();
        for set in &fetched.sets {
            let Some(desc) = archive.meta.descs.get(set.pmid.0) else {
                if self.unknown.insert(set.pmid) {
                    let code = ErrorCode::PMID_LOG;
                    eprintln!("{at} {}: pmLookupDesc failed: {code}", set.pmid);
                }
                continue;
            };
            if let Some((is, wanted)) = misencoded(set, desc.ty) {
                let names = archive.meta.names.names_of(set.pmid);
                let title = names
                    .first()
                    .map_or_else(|| set.pmid.to_string(), ToString::to_string);
                eprintln!("{at} {title}: encoding botch valfmt={is} not {wanted} as expected");
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
                        eprintln!("{at} {title}: pmExtractValue failed: {code}");
                        eprintln!("pmlogcheck: possibly corrupt archive?");
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
        eprintln!("{at}: {title}: {kind} wrap");
        for (value, time) in [before, now] {
            eprintln!("\tvalue {value:.0} at {}", self.stamp(time));
        }
    }
}
