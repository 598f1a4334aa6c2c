//! `pmlogextract`: merges archives, and takes out of them metrics and times (pmlogextract(1)).

mod mismatch;

use std::io;
use std::path::Path;
use std::sync::Arc;

use pcp::archive::{
    Archive, ArchiveSet, ArchiveWriter, Cursor, DataRecord, Label, Version, encode_data,
};
use pcp::timewindow::{SECOND, TimeError, WindowSpec};
use pcp::timezone::Zone;
use pcp::{ErrorCode, Pmid, Timestamp, ValueSet};

use crate::logconfig::{self, Selection};
use crate::logmerge::LogWriter;
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::progress::Progress;
use crate::source::Source;
use mismatch::check_metadata;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlogextract",
    words: "[options] input-archive output-archive",
    rows: &[
        OPTIONS,
        value('c', "config", "FILE", "file to load configuration from"),
        flag('d', "desperate", "desperate, save output after fatal error"),
        flag('f', "first", "use timezone from first archive [default is last]"),
        flag('m', "mark", "ignore prologue/epilogue records and <mark> between archives"),
        START,
        value('s', "samples", "NUM", "terminate after NUM log records have been written"),
        FINISH,
        value('V', "outputversion", "VERSION", "output archive version"),
        value('v', "", "SAMPLES", "switch log volumes after this many samples"),
        flag('w', "", "ignore day/month/year"),
        flag('x', "", "skip metrics with mismatched metadata"),
        TIMEZONE,
        HOST_ZONE,
        HELP,
    ],
    source_in_words: true,
    two_zones: "at most one of -Z and/or -z allowed",
    ..Spec::PLAIN
};

/// How long after an archive's last record the mark stands.
const MARK_DELAY: Timestamp = Timestamp {
    sec: 0,
    nsec: 1_000_000,
};
const DAY: Timestamp = Timestamp {
    sec: 86_400,
    nsec: 0,
};

#[derive(Default)]
struct Wanted {
    config: Option<String>,
    desperate: bool,
    first_zone: bool,
    always_mark: bool,
    samples: u64,
    version: Option<Version>,
    volume_samples: u64,
    daily: bool,
    skip_mismatched: bool,
}

/// What a prologue or epilogue says of pmcd: its process and its state.
type PmcdState = (Vec<u8>, Vec<u8>);

/// One archive to read.
struct Input {
    /// As it was named.
    name: String,
    archive: Arc<Archive>,
    cursor: Cursor,
    head: Option<DataRecord>,
    first_state: Option<PmcdState>,
    last_state: Option<PmcdState>,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let (mut note, mut desperate) = (String::new(), false);
    let done = SPEC.run(|spec| {
        extract(spec, args, &mut note, &mut desperate).map_err(|refusal| match refusal {
            // Files are left as they are then, and nothing is said of them.
            Refusal::Failed(text) if desperate => {
                let kept = |line: &&str| !line.ends_with("\" not created.\n");
                Refusal::Failed(text.split_inclusive('\n').filter(kept).collect())
            }
            refusal => refusal,
        })
    });
    // Behind all messages, as what is buffered for a file comes out last.
    print!("{note}");
    done
}

fn extract(
    spec: &Spec,
    args: Vec<String>,
    note: &mut String,
    desperate: &mut bool,
) -> Result<u8, Refusal> {
    let mut wanted = Wanted::default();
    let mut source = Source::default();
    let words = spec.parse(args, &mut source, |option, value| {
        let numeric = format!("-{option} requires numeric argument");
        match option {
            'c' if std::path::Path::new(value).exists() => wanted.config = Some(value.to_owned()),
            'c' => return Err(spec.wrong(format!("{value} - invalid file"))),
            'd' => wanted.desperate = true,
            'f' => wanted.first_zone = true,
            'm' => wanted.always_mark = true,
            's' => wanted.samples = spec.number(value, &numeric)?,
            'V' => {
                wanted.version = Some(match value.parse() {
                    Ok(2) => Version::V2,
                    Ok(3) => Version::V3,
                    Ok(_) => return Err(spec.wrong("-V value must be 2 or 3")),
                    Err(_) => {
                        let what =
                            "-V requires numeric argument\npmlogextract: -V value must be 2 or 3";
                        return Err(spec.wrong(what));
                    }
                });
            }
            'v' => wanted.volume_samples = spec.number(value, &numeric)?,
            'w' => wanted.daily = true,
            'x' => wanted.skip_mismatched = true,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if wanted.daily && (source.window.start.is_none() || source.window.finish.is_none()) {
        eprintln!(
            "pmlogextract: Warning: -w flag requires that both -S and -T are specified.\nIgnoring -w flag."
        );
        wanted.daily = false;
    }
    let Some((output, names)) = words.split_last().filter(|(_, n)| !n.is_empty()) else {
        return Err(spec.wrong("Error: insufficient arguments"));
    };
    let mut inputs = open(names)?;
    if inputs.is_empty() {
        let what =
            "pmlogextract: Warning: all input archive(s) are empty, no output archive created\n";
        return Err(Refusal::Failed(what.to_owned()));
    }
    *desperate = wanted.desperate;
    let from = match wanted.first_zone {
        true => inputs.first(),
        false => inputs.last(),
    };
    let (zone, said) = match from {
        Some(input) => source.archive_zone(&input.archive.label),
        None => (Zone::local(), String::new()),
    };
    *note = match inputs.first() {
        // The host that is named is the first archive's, whichever zone it is.
        Some(first) if source.host_zone => source.archive_zone(&first.archive.label).1,
        _ => said,
    };
    zone.use_for_values();
    let selection = match &wanted.config {
        Some(path) => Some(logconfig::read(
            path,
            &inputs.iter().map(|i| &i.archive.meta).collect::<Vec<_>>(),
        )?),
        None => None,
    };
    let label = output_label(&inputs, &wanted, output)?;
    let window = window(&source.window, &inputs, &zone).map_err(|error| {
        format!(
            "pmlogextract: Invalid time window specified: {error}\n\nArchive \"{output}\" not created.\n"
        )
    })?;
    let skipped = check_metadata(&inputs, &wanted, output)?;
    let mut merge = Merge {
        wanted: &wanted,
        selection,
        skipped,
        label,
        output,
        writer: None,
        read: Timestamp::ZERO,
        written_from: 0,
        zone,
        pmids: Vec::new(),
    };
    let done = merge.run(&mut inputs, window);
    match (done, merge.writer.take()) {
        (Ok(()), Some(writer)) => writer
            .reaching(merge.read)
            .finish()
            .map(|_| 0)
            .map_err(|error| failed(&ErrorCode::from(&error)).into()),
        (Ok(()), None) => Err(Refusal::Failed(format!(
            "pmlogextract: Warning: no qualifying records found.\nArchive \"{output}\" not created.\n"
        ))),
        (Err(message), writer) => {
            if let Some(writer) = writer {
                if wanted.desperate {
                    let _ = writer.finish();
                    return Err(Refusal::Failed(message));
                }
                writer.files.abandon();
            }
            let what = format!("{message}Archive \"{output}\" not created.\n");
            Err(Refusal::Failed(what))
        }
    }
}

/// From when to when records are taken. What `-S` and `-T` say counts from the beginning or end of the archive that was
/// named first and lies in it; without them nothing is left out.
fn window(
    spec: &WindowSpec,
    inputs: &[Input],
    zone: &Zone,
) -> Result<(Timestamp, Timestamp), TimeError> {
    let span = |input: &Input| {
        let end = input.archive.end().unwrap_or(Timestamp::MAX);
        (input.archive.label.start, end)
    };
    let spans: Vec<_> = inputs.iter().map(span).collect();
    let (from, to) = spans
        .first()
        .copied()
        .unwrap_or((Timestamp::ZERO, Timestamp::MAX));
    let window = spec.window(from, to, zone)?;
    let start = match spec.start {
        Some(_) => window.start,
        None => spans.iter().map(|s| s.0).min().unwrap_or(from),
    };
    let end = match spec.finish {
        Some(_) => window.end,
        None => spans.iter().map(|s| s.1).max().unwrap_or(to),
    };
    Ok((start, end))
}

fn failed(code: &ErrorCode) -> String {
    format!("pmlogextract: Error: __pmLogPutResult: log data: {code}\n")
}

fn open(names: &[String]) -> Result<Vec<Input>, String> {
    let mut inputs: Vec<Input> = Vec::new();
    for name in names {
        let cannot = |code: ErrorCode| {
            format!("pmlogextract: Error: cannot open archive \"{name}\": {code}\n")
        };
        let set = ArchiveSet::open(name).map_err(|e| cannot(e.code()))?;
        for archive in set.archives() {
            let mut cursor = Cursor::at_start(archive.clone()).map_err(|e| cannot(e.code()))?;
            let head = cursor.following().unwrap_or(None);
            if let Err(error) = archive.end()
                && error.code() == ErrorCode::LOGREC
            {
                return Err(format!(
                    "pmlogextract: Error: cannot get end of archive ({name}): {}\n",
                    error.code()
                ));
            }
            if head.is_none() {
                eprintln!("pmlogextract: Warning: empty archive \"{name}\" will be skipped");
                continue;
            }
            let tail = Cursor::at_end(archive.clone())
                .and_then(|mut c| c.preceding())
                .unwrap_or(None);
            inputs.push(Input {
                name: name.clone(),
                first_state: state(archive, head.as_ref()),
                last_state: state(archive, tail.as_ref()),
                archive: archive.clone(),
                cursor,
                head,
            });
        }
    }
    Ok(inputs)
}

/// The state of pmcd in a record, if it is a prologue or epilogue.
fn state(archive: &Archive, record: Option<&DataRecord>) -> Option<PmcdState> {
    let one = |name: &[u8]| {
        let pcp::pmns::Place::Leaf(pmid) = archive.meta.names.lookup(name).ok()? else {
            return None;
        };
        let fetched = record?.decode_of(|p| p == pmid).ok()?;
        let value = fetched.sets.first()?.instances().first()?.value.clone();
        let ty = archive.meta.descs.get(pmid.0)?.ty;
        Some(pcp::print_value(&value, ty, 1))
    };
    Some((one(b"pmcd.pid")?, one(b"pmcd.seqnum")?))
}

fn output_label(inputs: &[Input], wanted: &Wanted, output: &str) -> Result<Label, String> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Err(String::new());
    };
    let from = if wanted.first_zone { first } else { last };
    let zone = &from.archive.label.timezone;
    for other in inputs {
        if other.archive.label.hostname != first.archive.label.hostname {
            let mut text =
                String::from("pmlogextract: Error: host name mismatch for input archives\n");
            for input in inputs {
                text += &format!(
                    "archive: {} host: {}\n",
                    input.name, input.archive.label.hostname
                );
            }
            text += &format!("Archive \"{output}\" not created.\n");
            return Err(text);
        }
        if other.archive.label.timezone != *zone {
            eprintln!(
                "pmlogextract: Warning: timezone mismatch for input archives\n\
                 archive: {} timezone: {zone} [will be used]\n\
                 archive: {} timezone: {} [will be ignored]",
                from.name, other.name, other.archive.label.timezone
            );
        }
    }
    let newest = inputs.iter().map(|i| i.archive.label.version).max();
    let newest = newest.unwrap_or(Version::V2);
    let version = wanted.version.unwrap_or(newest);
    if version < newest {
        return Err(format!(
            "pmlogextract: Error: input archive version must be no more than {}\n",
            version as u32
        ));
    }
    Ok(Label {
        version,
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        hostname: first.archive.label.hostname.clone(),
        timezone: from.archive.label.timezone.clone(),
        zoneinfo: from.archive.label.zoneinfo.clone(),
        ..from.archive.label.clone()
    })
}

struct Merge<'a> {
    wanted: &'a Wanted,
    selection: Option<Selection>,
    skipped: Vec<Pmid>,
    label: Label,
    output: &'a str,
    writer: Option<LogWriter>,
    /// The time of the last record that was written, or of its archive's last when all was read.
    read: Timestamp,
    /// The archive that the last record came from.
    written_from: usize,
    zone: Zone,
    /// Room for the metrics of a record.
    pmids: Vec<Pmid>,
}

impl Merge<'_> {
    fn run(
        &mut self,
        inputs: &mut [Input],
        (mut start, mut end): (Timestamp, Timestamp),
    ) -> Result<(), String> {
        let first = inputs.iter().map(|i| i.archive.label.start).min();
        let last = inputs.iter().filter_map(|i| i.archive.end().ok()).max();
        let from = start.max(first.unwrap_or(start));
        let mut progress = Progress::new("pmlogextract", from, last.unwrap_or(end).min(end), false);
        // A mark that is due when something follows: its time, and what its archive said of pmcd at its end.
        let mut due: Option<(Timestamp, Option<PmcdState>)> = None;
        let mut ends: Vec<Option<Timestamp>> = vec![None; inputs.len()];
        loop {
            let next = inputs
                .iter()
                .enumerate()
                .filter_map(|(n, i)| Some((i.head.as_ref()?.time, n)))
                .min();
            let Some((time, number)) = next else {
                let last = ends.get(self.written_from).copied().flatten();
                self.read = self.read.max(last.unwrap_or(self.read));
                return Ok(());
            };
            // A second behind the end is in time for PCP's.
            if time > end + SECOND {
                if !self.wanted.daily {
                    // A mark that is due by then stands, though what follows it does not.
                    let (due, next) = (due.take(), inputs.get(number));
                    if let (Some((at, state)), Some(input)) =
                        (due.filter(|d| d.0 <= end + SECOND), next)
                        && !self.continues(&state, input)
                        && self.writer.is_some()
                    {
                        self.mark(input, at)?;
                        self.read = at;
                    }
                    return Ok(());
                }
                if let Some(last) = self.writer.as_ref().and_then(LogWriter::last) {
                    due = Some((last + MARK_DELAY, None));
                }
                start = start + DAY;
                end = end + DAY;
                continue;
            }
            let Some(input) = inputs.get_mut(number) else {
                return Ok(());
            };
            let Some(record) = input.head.take() else {
                return Ok(());
            };
            progress.at(record.time);
            let (volume, offset) = input.cursor.position();
            input.head = match input.cursor.following() {
                Ok(head) => head,
                // A volume that is none ends the archive.
                Err(error) if error.code() == ErrorCode::LABEL => None,
                Err(error) => {
                    let path = input.archive.files.volumes.get(&volume);
                    let size = path.and_then(|path| std::fs::metadata(path).ok());
                    eprintln!(
                        "pmlogextract: Error: __pmLogRead[log {}]: {}\n\
                         pmlogextract: Error occurred at byte offset {offset} into a file of {} bytes.\n\
                         The last record, and the remainder of this file will not be extracted.",
                        input.name,
                        error.code(),
                        size.map_or(0, |s| s.len())
                    );
                    None
                }
            };
            if record.time >= start && self.wants(&record) {
                if let Some((at, state)) = due.take() {
                    let same = self.continues(&state, input);
                    if !same && self.writer.is_some() && at <= record.time {
                        self.mark(input, at)?;
                    } else if !same && self.writer.is_some() {
                        due = Some((at, state));
                    }
                }
                self.read = record.time;
                self.written_from = number;
                self.record(input, &record)?;
                let written = self.writer.as_ref().map_or(0, LogWriter::records);
                if self.wanted.samples > 0 && written >= self.wanted.samples {
                    return Ok(());
                }
            }
            if input.head.is_none() {
                if let Some(end) = ends.get_mut(number) {
                    *end = Some(record.time);
                }
                due = Some((record.time + MARK_DELAY, input.last_state.clone()));
            }
        }
    }

    fn writer(&mut self, time: Timestamp) -> Result<&mut LogWriter, String> {
        if self.writer.is_none() {
            let label = Label {
                start: time,
                ..self.label.clone()
            };
            let files = create(self.output, label)
                .map_err(|text| text.replace("pmlogTOOL", "pmlogextract"))?;
            let writer = LogWriter::new(files).in_stored_order();
            self.writer = Some(match self.selection {
                // PCP's takes the labels of domains along with whole archives alone.
                Some(_) => writer.without_domain_labels(),
                None => writer,
            });
        }
        self.writer.as_mut().ok_or_else(String::new)
    }

    fn put(
        &mut self,
        input: &Input,
        time: Timestamp,
        pmids: &[Pmid],
        payload: &[u8],
    ) -> Result<(), String> {
        let every = self.wanted.volume_samples;
        self.writer(time)?;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let io = |error: io::Error| failed(&ErrorCode::from(&error));
        if every > 0 && writer.records() > 0 && writer.records().is_multiple_of(every) {
            writer.begin_volume().map_err(io)?;
            eprintln!(
                "pmlogextract: New log volume {}, at {}.{:09}",
                writer.files.label().volume,
                self.zone.clock(time, 0),
                time.nsec
            );
        }
        writer
            .record(&input.archive.meta, time, pmids, payload)
            .map_err(io)
    }

    /// Whether an archive goes on where another ended: whichever it is, it is the same pmcd's.
    fn continues(&self, state: &Option<PmcdState>, input: &Input) -> bool {
        !self.wanted.always_mark && state.is_some() && *state == input.first_state
    }

    /// Whether a record is a mark or has a metric that is wanted: PCP's tool passes over others as it reads.
    fn wants(&mut self, record: &DataRecord) -> bool {
        if record.is_mark() || self.selection.is_none() && self.skipped.is_empty() {
            return true;
        }
        self.pmids.clear();
        if record.metrics(&mut self.pmids).is_err() {
            return true;
        }
        let selected = |pmid: &Pmid| {
            !self.skipped.contains(pmid) && self.selection.as_ref().is_none_or(|s| s.has(*pmid))
        };
        self.pmids.iter().any(selected)
    }

    fn mark(&mut self, input: &Input, time: Timestamp) -> Result<(), String> {
        let payload = encode_data(self.label.version, time, &[]);
        self.put(input, time, &[], &payload)
    }

    fn record(&mut self, input: &Input, record: &DataRecord) -> Result<(), String> {
        if record.is_mark() {
            return if self.writer.is_some() {
                self.mark(input, record.time)
            } else {
                Ok(())
            };
        }
        let bad = |error: pcp::Error| {
            format!(
                "pmlogextract: Error: __pmLogRead[log {}]: {}\n",
                input.archive.files.base.display(),
                error.code()
            )
        };
        let mut pmids = std::mem::take(&mut self.pmids);
        pmids.clear();
        record.metrics(&mut pmids).map_err(bad)?;
        let selected = |pmid: Pmid| {
            !self.skipped.contains(&pmid) && self.selection.as_ref().is_none_or(|s| s.has(pmid))
        };
        let untouched = self.selection.is_none() && self.skipped.is_empty();
        if untouched && input.archive.label.version == self.label.version {
            let done = self.put(input, record.time, &pmids, &record.record.payload);
            self.pmids = pmids;
            return done;
        }
        let wanted = pmids.iter().any(|pmid| selected(*pmid));
        if !wanted {
            self.pmids = pmids;
            return Ok(());
        }
        let mut sets: Vec<ValueSet> = record.decode_of(selected).map_err(bad)?.sets;
        if let Some(selection) = &self.selection {
            sets = selection.apply(sets);
        }
        if sets.is_empty() {
            return Ok(());
        }
        pmids.clear();
        pmids.extend(sets.iter().map(|s| s.pmid));
        let payload = encode_data(self.label.version, record.time, &sets);
        let done = self.put(input, record.time, &pmids, &payload);
        self.pmids = pmids;
        done
    }
}

/// Creates an archive's files; the message bears `pmlogTOOL` for the tool's name.
pub(crate) fn create(output: &str, label: Label) -> Result<ArchiveWriter, String> {
    let base = Path::new(output);
    for suffix in ["0", "meta", "index"] {
        let path = format!("{output}.{suffix}");
        if Path::new(&path).exists() {
            return Err(format!(
                "__pmLogNewFile: \"{path}\" already exists, not over-written\n\
                 pmlogTOOL: Error: __pmLogCreate: File exists\n"
            ));
        }
    }
    ArchiveWriter::create(base, label).map_err(|error| {
        format!(
            "pmlogTOOL: Error: __pmLogCreate: {}\n",
            ErrorCode::from(&error)
        )
    })
}
