//! `pmloglabel`: checks and repairs the labels of an archive (pmloglabel(1)).

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pcp::archive::file::{self, Files};
use pcp::archive::{Archive, Label, VOLUME_INDEX, VOLUME_META, Version};
use pcp::timezone::Zone;
use pcp::{ErrorCode, Text};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmloglabel",
    words: "[options] archive",
    rows: &[
        OPTIONS,
        value('h', "host", "HOSTNAME", "set the hostname for all files in archive"),
        flag('l', "label", "dump the archive label"),
        flag('L', "", "more verbose form of label dump"),
        value('p', "pid", "PID", "set the logger process ID field for all files in archive"),
        flag('s', "", "write the label sentinel values for all files in archive"),
        flag('v', "verbose", "run in verbose mode, reporting on each stage of checking"),
        value('V', "version", "NUM", "write magic and version numbers for all files in archive"),
        value('Z', "timezone", "TZ", "set the timezone for all files in archive"),
        HELP,
    ],
    source_in_words: true,
    ..Spec::PLAIN
};

/// Status bits (pmloglabel(1), DIAGNOSTICS).
const USAGE_ERROR: u8 = 1;
const DAMAGED: u8 = 2;

struct Part {
    path: PathBuf,
    volume: i32,
    name: String,
    content: Vec<u8>,
    /// Unless it is damaged.
    label: Option<Label>,
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    SPEC.run(|spec| label(spec, args))
}

fn label(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let (mut dump, mut full, mut verbose, mut sentinels) = (false, false, false, false);
    let (mut host, mut pid, mut version, mut zone) = (None, None, None, None);
    let mut source = Source::default();
    // A process that is none (`-p 0`) stays what it was, though labels are written.
    let mut rewrite = false;
    let take = |option, value: &str| {
        match option {
            'h' => host = Some(value.to_owned()),
            'l' => dump = true,
            'L' => (dump, full) = (true, true),
            'p' => (rewrite, pid) = (true, value.parse().ok().filter(|pid| *pid != 0)),
            's' => sentinels = true,
            'v' => verbose = true,
            'V' => match value.parse() {
                Ok(2) => version = Some(Version::V2),
                Ok(3) => version = Some(Version::V3),
                _ => return Err(spec.wrong(format!("unknown version number ({value})"))),
            },
            'Z' => zone = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    };
    let insufficient = || spec.wrong("insufficient arguments");
    let words = spec.parse_and_check(args, &mut source, take, |words| match words {
        [_] => Ok(()),
        _ => Err(insufficient()),
    })?;
    let [name] = words.as_slice() else {
        return Err(insufficient());
    };
    rewrite |= host.is_some() || version.is_some() || zone.is_some() || sentinels;
    if verbose {
        println!("Scanning for components of archive \"{name}\"");
    }
    let files = match Files::find(Path::new(name)) {
        Ok(files) => files,
        Err(error) => {
            eprintln!(
                "pmloglabel: Cannot open archive \"{name}\": {}",
                error.code()
            );
            return Ok(USAGE_ERROR);
        }
    };
    // What is about to be mended is said only when all is said.
    let told = verbose || !rewrite;
    let mut status = 0;
    let mut parts: Vec<Part> = Vec::new();
    let volumes = files.volumes.iter();
    let data = volumes.map(|(v, p)| (format!("data volume {v}"), *v, p.clone()));
    let index = files.index.iter();
    let index = index.map(|p| ("temporal index".to_owned(), VOLUME_INDEX, p.clone()));
    let meta = files.meta.iter();
    let meta = meta.map(|p| ("metadata volume".to_owned(), VOLUME_META, p.clone()));
    for (name, volume, path) in data.chain(index).chain(meta) {
        if verbose {
            println!("Checking label on {name}");
        }
        match load(&path, volume) {
            Ok((content, label)) => {
                parts.push(Part {
                    path,
                    volume,
                    name,
                    content,
                    label: Some(label),
                });
            }
            Err(code) => {
                if told {
                    eprintln!("Bad {name} label: {code}");
                }
                status |= DAMAGED;
                if let Ok(content) = file::read(&path) {
                    let record = match !told || parts.iter().all(|part| part.label.is_none()) {
                        true => pcp::debug::quietly(|| file::label_record(&content)),
                        false => file::label_record(&content).inspect_err(|error| {
                            let code = error.code();
                            eprintln!("{name}: cannot load label record: {code}");
                        }),
                    };
                    let label = record.and_then(|record| Label::decode(&record.payload));
                    parts.push(Part {
                        path,
                        volume,
                        name,
                        content: content.to_vec(),
                        label: label.ok(),
                    });
                }
            }
        }
    }
    if verbose && files.index.is_none() {
        println!("No temporal index found");
    }
    let sound = parts
        .iter()
        .find_map(|p| Some((p.label.clone()?, p.name.clone())));
    let Some(mut golden) = sound else {
        if dump {
            let first = parts.first().and_then(|p| p.content.get(7).copied());
            no_label(name, first.unwrap_or(0), full);
        }
        return Ok(status);
    };
    for part in parts.iter().skip(1).filter(|_| told) {
        status |= compare(&golden.0, &golden.1, part);
    }
    if rewrite {
        let mut label = golden.0.clone();
        if let Some(host) = host {
            label.hostname = Text::from(host.as_str());
        }
        if let Some(zone) = zone {
            label.timezone = Text::from(zone.as_str());
        }
        label.pid = pid.unwrap_or(label.pid);
        label.version = version.unwrap_or(label.version);
        // What was said of the labels before is mended, unless one cannot be written.
        status = 0;
        for part in &parts {
            if verbose {
                println!("Writing label on {}", part.name);
            }
            if let Err((what, error)) = write(part, &label) {
                let code = ErrorCode::from(&error);
                eprintln!("Failed {} {what}: {code}", part.name);
                status |= USAGE_ERROR | DAMAGED;
            }
        }
        golden.0 = label;
    }
    if dump {
        let mut out = io::stdout().lock();
        report(&mut out, name, &golden.0, full)?;
    }
    Ok(status)
}

fn load(path: &Path, volume: i32) -> Result<(Vec<u8>, Label), ErrorCode> {
    let content = file::read(path).map_err(|e| e.code())?;
    // Files are open one at a time, beside the three streams.
    let (label, _) = file::label_of(&content, volume, 3).map_err(|e| e.code())?;
    Ok((content.to_vec(), label))
}

fn compare(golden: &Label, name: &str, part: &Part) -> u8 {
    let Some(label) = &part.label else {
        return 0;
    };
    let mut status = 0;
    let mut differ = |what: &str, ours: String, theirs: String| {
        eprintln!(
            "Mismatched {what} ({ours}/{theirs}) between {} and {name}",
            part.name
        );
        status = DAMAGED;
    };
    if label.version != golden.version {
        differ(
            "version",
            format!("{:x}", label.version as u32),
            format!("{:x}", golden.version as u32),
        );
    }
    if label.pid != golden.pid {
        differ("PID", label.pid.to_string(), golden.pid.to_string());
    }
    if label.hostname != golden.hostname {
        differ(
            "hostname",
            label.hostname.to_string(),
            golden.hostname.to_string(),
        );
    }
    if label.timezone != golden.timezone {
        differ(
            "timezone",
            label.timezone.to_string(),
            golden.timezone.to_string(),
        );
    }
    status
}

/// Writes a label over the beginning of a file, whose length does not change: a label of another version overwrites
/// what follows, or leaves the end of the longer one. A compressed file has no place for it, and is not there under
/// the name that PCP opens. What failed is told with the error.
fn write(part: &Part, label: &Label) -> Result<(), (&'static str, io::Error)> {
    let label = Label {
        start: part.label.as_ref().map_or(label.start, |own| own.start),
        volume: part.volume,
        ..label.clone()
    };
    let payload = label.encode();
    let length = u32::try_from(payload.len() + 8)
        .map_err(|error| ("label write", io::Error::other(error)))?;
    let length = length.to_be_bytes();
    let record = [&length[..], &payload, &length[..]].concat();
    if file::is_compressed(&part.path) {
        return Err(("open", nix::errno::Errno::ENOENT.into()));
    }
    let file = std::fs::OpenOptions::new().write(true).open(&part.path);
    let file = file.map_err(|error| ("open", error))?;
    std::os::unix::fs::FileExt::write_all_at(&file, &record, 0)
        .map_err(|error| ("label write", error))
}

/// What is shown of an archive none of whose labels is one.
fn no_label(name: &str, version: u8, full: bool) {
    let zone = Zone::local();
    println!("Log Label (Log Format Version {version})");
    println!("Performance metrics from host (null)");
    println!("  commencing {}", zone.date(pcp::Timestamp::ZERO, 3));
    let code = Archive::open(Path::new(name)).map_or_else(|e| e.code(), |_| ErrorCode::LABEL);
    println!("  ending     UNKNOWN (pmNewContext: {code})");
    if full {
        println!("Archive timezone: (null)");
        println!("PID for pmlogger: 0");
    }
}

fn report(out: &mut impl Write, name: &str, label: &Label, full: bool) -> io::Result<()> {
    let zone = Zone::local();
    writeln!(
        out,
        "Log Label (Log Format Version {})",
        label.version as u32
    )?;
    out.write_all(b"Performance metrics from host ")?;
    out.write_all(&label.hostname)?;
    writeln!(out, "\n  commencing {}", zone.date(label.start, 3))?;
    let failed = |call: &str, error: &pcp::Error| {
        let code = error.code();
        format!("  ending     UNKNOWN ({call}: {code})")
    };
    let end = match Archive::open(Path::new(name)).map(|archive| archive.end()) {
        Ok(Ok(end)) => format!("  ending     {}", zone.date(end, 3)),
        Ok(Err(error)) => failed("pmGetArchiveEnd", &error),
        Err(error) => failed("pmNewContext", &error),
    };
    writeln!(out, "{end}")?;
    if full {
        writeln!(out, "Archive timezone: {}", label.timezone)?;
        writeln!(out, "PID for pmlogger: {}", label.pid)?;
    }
    Ok(())
}
