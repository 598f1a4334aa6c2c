//! `pmlogcheck`: looks for damage in an archive, file by file and record by record (pmlogcheck(1)).

mod files;
mod index;
mod values;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use pcp::Timestamp;
use pcp::archive::Archive;
use serde_json::json;

use pcp::archive::file::Files;

use self::values::Values;
use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::progress::Progress;
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
        JSON,
    ],
    source_in_words: true,
    ..Spec::PLAIN
};

/// A day: longer spans have dates in their times.
const DAY: i64 = 86_400;

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
    let mut json = false;
    let words = spec.parse(args, &mut source, |option, _| {
        match option {
            JSON_ONLY => json = true,
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
        json,
        progress: RefCell::default(),
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
    let window = source
        .window
        .window(own.start, end, &zone)
        .map_err(|error| format!("pmlogcheck: invalid time window.\n{error}\n\n"))?;
    if label {
        eprintln!("Log Label (Log Format Version {})", own.version as u32);
        eprintln!("Performance metrics from host {}", own.hostname);
        eprintln!("  commencing {}", zone.date(own.start, 3));
        eprintln!("  ending     {}", zone.date(window.end, 3));
    }
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
    /// Lines of JSON instead of text.
    json: bool,
    progress: RefCell<Option<Progress>>,
}

impl Check {
    /// Says what was found, or how far the check has come.
    fn say(&self, text: &str) {
        if let Some(progress) = &mut *self.progress.borrow_mut() {
            progress.erase();
        }
        match self.json {
            true => println!("{}", json!({ "archive": self.name, "message": text })),
            false => eprintln!("{text}"),
        }
    }
}

/// Says a formatted text.
macro_rules! say {
    ($check:expr, $($text:tt)*) => {
        $check.say(&format!($($text)*))
    };
}
use say;
