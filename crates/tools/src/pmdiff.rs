//! `pmdiff`: which averages differ between archives, or between two stretches of time (pmdiff(1)).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use regex_lite::Regex;

use crate::options::Spec;
use crate::source::VERSION;

const USAGE: &str = "\
Usage: pmdiff [options] archive1 [archive2]

Options:
  -d, --keep            debug, keep intermediate files
  -p N, --precision=N   number of digits to display after the decimal point
  -q N, --threshold=N   change interesting threshold to be > N or < 1/N [N=2]
  --skip-missing        do not report metrics missing between the archives
  --skip-excluded       do not report the list of metrics being excluded
  -S TIME, --start=TIME start of the time window
  -T TIME, --finish=TIME
                        end of the time window
  -B TIME, --begin=TIME start time for second archive (optional)
  -E TIME, --end=TIME   end time for second archive (optional)
  -x REGEX              egrep(1) pattern of metric(s) to be excluded
  -X FILE               file containing egrep(1) patterns to exclude
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -V, --version         display version number and exit
  -?, --help            show this usage message and exit
";

const LONG: &[(&str, char)] = &[
    ("keep", 'd'),
    ("precision", 'p'),
    ("threshold", 'q'),
    ("skip-missing", 'M'),
    ("skip-excluded", 'N'),
    ("start", 'S'),
    ("finish", 'T'),
    ("begin", 'B'),
    ("end", 'E'),
    ("timezone", 'Z'),
    ("hostzone", 'z'),
    ("debug", 'D'),
    ("version", 'V'),
    ("help", '?'),
];

/// The metric that differs between any two archives.
const ALWAYS_EXCLUDED: &str = "^pmcd.pmlogger.port";

/// One of the two things that are compared.
struct Side {
    archive: String,
    start: Option<String>,
    end: Option<String>,
}

impl Side {
    fn times(&self) -> String {
        let start = self.start.as_deref().unwrap_or("start");
        let end = self.end.as_deref().unwrap_or("end");
        format!("{start}-{end}")
    }

    fn name(&self) -> String {
        let name = Path::new(&self.archive).file_name();
        name.map_or_else(
            || self.archive.clone(),
            |n| n.to_string_lossy().into_owned(),
        )
    }
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let spec = Spec {
        tool: "pmdiff",
        short: "B:dD:E:p:q:S:T:x:X:Z:zVMN?",
        long: LONG,
        usage: USAGE,
    };
    let parsed = match spec.parse(args) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("{message}");
            return Ok(1);
        }
    };
    let (mut precision, mut threshold) = (3usize, 2.0f64);
    let (mut show_missing, mut show_excluded) = (true, true);
    let (mut first, mut second) = ((None, None), (None, None));
    let (mut zone, mut patterns) = (Vec::new(), Vec::new());
    let refuse = |text: &str| {
        eprint!("pmdiff: {text}\n{USAGE}");
        Ok(1)
    };
    for (option, value) in parsed.options {
        let text = value.clone().unwrap_or_default();
        match option {
            'p' => match text.parse::<usize>() {
                Ok(digits) => precision = digits.clamp(3, 12),
                Err(_) => return refuse("-p requires a non-negative numeric argument"),
            },
            'q' => match text.parse::<f64>() {
                Ok(ratio) if ratio > 0.0 => threshold = ratio,
                _ => return refuse("-q requires a positive numeric argument"),
            },
            'M' => show_missing = false,
            'N' => show_excluded = false,
            'S' => first.0 = value,
            'T' => first.1 = value,
            'B' => second.0 = value,
            'E' => second.1 = value,
            'x' => patterns.push(text),
            'X' => match std::fs::read_to_string(&text) {
                Ok(more) => patterns.extend(more.lines().map(str::to_owned)),
                Err(error) => {
                    eprintln!("pmdiff: {text}: {}", pcp::ErrorCode::from(&error));
                    return Ok(1);
                }
            },
            'Z' => zone = vec!["-Z".to_owned(), text],
            'z' => zone = vec!["-z".to_owned()],
            'V' => {
                println!("pmdiff version {VERSION}");
                return Ok(0);
            }
            '?' => {
                eprint!("{USAGE}");
                return Ok(1);
            }
            _ => {}
        }
    }
    let (one, two) = match parsed.words.as_slice() {
        [one] => (one, one),
        [one, two] => (one, two),
        _ => {
            eprint!("{USAGE}");
            return Ok(1);
        }
    };
    // Without times of its own the second has those of the first.
    let sides = [
        Side {
            archive: one.clone(),
            start: first.0.clone(),
            end: first.1.clone(),
        },
        Side {
            archive: two.clone(),
            start: second.0.or(first.0),
            end: second.1.or(first.1),
        },
    ];
    let mut excluded = Vec::new();
    for pattern in std::iter::once(ALWAYS_EXCLUDED).chain(patterns.iter().map(String::as_str)) {
        match Regex::new(pattern) {
            Ok(regex) => excluded.push(regex),
            Err(error) => {
                eprintln!("pmdiff: pattern {pattern}: {error}");
                return Ok(1);
            }
        }
    }
    let mut out = String::new();
    let folder = std::env::current_dir().unwrap_or_default();
    let _ = writeln!(out, "Directory: {}", folder.display());
    if show_excluded {
        let _ = writeln!(out, "Excluded metrics:\n    {ALWAYS_EXCLUDED} ");
        for pattern in &patterns {
            let _ = writeln!(out, "    {pattern}");
        }
    }
    out.push('\n');
    let mut averages = Vec::new();
    for side in &sides {
        let (values, complaints) = summary(side, &zone, precision)?;
        if !complaints.is_empty() {
            let archive = &side.archive;
            let _ = writeln!(
                out,
                "Warnings from pmlogsummary ... {archive}\n{complaints}"
            );
        }
        let kept = values
            .into_iter()
            .filter(|(name, _)| !excluded.iter().any(|regex| regex.is_match(name)));
        averages.push(kept.collect::<BTreeMap<String, f64>>());
    }
    let (Some(before), Some(after)) = (averages.first(), averages.get(1)) else {
        return Ok(1);
    };
    if show_missing {
        for (side, own, other) in [(&sides[0], before, after), (&sides[1], after, before)] {
            let missing: Vec<&String> = other.keys().filter(|k| !own.contains_key(*k)).collect();
            if !missing.is_empty() {
                let (archive, times) = (&side.archive, side.times());
                let _ = writeln!(out, "Missing from {archive} {times} (not compared) ...");
                for name in missing {
                    let _ = writeln!(out, "    {name}");
                }
                out.push('\n');
            }
        }
    }
    table(&mut out, &sides, before, after, precision, threshold);
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(0)
}

/// Averages by metric and instance, and what pmlogsummary(1) had to complain about.
fn summary(
    side: &Side,
    zone: &[String],
    precision: usize,
) -> io::Result<(BTreeMap<String, f64>, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0("pmlogsummary").args(zone);
    command.args(["-p", &precision.to_string()]);
    for (option, time) in [("-S", &side.start), ("-T", &side.end)] {
        if let Some(time) = time {
            command.args([option, time]);
        }
    }
    let output = command.arg(&side.archive).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let values = text.lines().filter_map(average).collect();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((values, complaints))
}

/// A line `metric ["instance"] average units`.
fn average(line: &str) -> Option<(String, f64)> {
    let (name, rest) = match line.split_once(" [\"") {
        Some((name, rest)) => {
            let (instance, rest) = rest.split_once("\"] ")?;
            (format!("{name} [\"{instance}\"]"), rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name.to_owned(), rest)
        }
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((name, value))
}

fn table(
    out: &mut String,
    sides: &[Side; 2],
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    precision: usize,
    threshold: f64,
) {
    let width = 12 + precision;
    let _ = writeln!(
        out,
        "Ratio Threshold: >= {threshold:.2} or <= {:.3}",
        1.0 / threshold
    );
    let [one, two] = sides;
    let _ = writeln!(
        out,
        "{:>width$} {:>width$}   Ratio  Metric-Instance",
        one.name(),
        two.name()
    );
    let _ = writeln!(out, "{:>width$} {:>width$}", one.times(), two.times());
    let mut rows = Vec::new();
    for (name, old) in before {
        let Some(new) = after.get(name) else { continue };
        if *old == 0.0 && *new == 0.0 {
            continue;
        }
        let ratio = if *old == 0.0 {
            f64::INFINITY
        } else {
            new / old
        };
        if ratio >= threshold || ratio <= 1.0 / threshold {
            rows.push((ratio, name, old, new));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    for (ratio, name, old, new) in rows {
        let shown = if ratio == f64::INFINITY {
            "    |+|   ".to_owned()
        } else if ratio == 0.0 {
            "    |-|   ".to_owned()
        } else if ratio > 100.0 {
            "   >100   ".to_owned()
        } else if ratio < 0.001 {
            "  <0.001  ".to_owned()
        } else if ratio < 0.01 {
            format!("   {ratio:.3}  ")
        } else {
            format!("  {ratio:5.2}   ")
        };
        let (old, new) = (column(*old, precision), column(*new, precision));
        let _ = writeln!(out, "{old} {new}{shown}{name}");
    }
}

/// A number with as many digits as matter, its point where that of the others stands.
fn column(value: f64, precision: usize) -> String {
    let width = 12 + precision;
    let magnitude = value.abs();
    if magnitude >= 1e8 {
        return format!("{value:width$.0}");
    }
    let dropped = match magnitude {
        m if m < 10.0 => 0,
        m if m < 100.0 => 1,
        m if m < 1000.0 => 2,
        _ => precision + 1,
    };
    let decimals = precision.saturating_sub(dropped);
    let number = format!("{value:.decimals$}");
    let padded = width - dropped.min(width);
    format!("{:<width$}", format!("{number:>padded$}"))
}
