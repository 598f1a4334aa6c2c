//! `pmdiff`: which averages differ between archives, or between two stretches of time (pmdiff(1)).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use regex_lite::Regex;

use serde_json::json;

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;

const SKIP_MISSING: char = long_only(16);
const SKIP_EXCLUDED: char = long_only(17);

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmdiff",
    words: "[options] archive1 [archive2]",
    rows: &[
        OPTIONS,
        flag('d', "keep", "debug, keep intermediate files"),
        value('p', "precision", "N", "number of digits to display after the decimal point"),
        value('q', "threshold", "N", "change interesting threshold to be > N or < 1/N [N=2]"),
        flag(SKIP_MISSING, "skip-missing", "do not report metrics missing between the archives"),
        flag(SKIP_EXCLUDED, "skip-excluded", "do not report the list of metrics being excluded"),
        START,
        FINISH,
        value('B', "begin", "TIME", "start time for second archive (optional)"),
        value('E', "end", "TIME", "end time for second archive (optional)"),
        value('x', "", "REGEX", "egrep(1) pattern of metric(s) to be excluded"),
        value('X', "", "FILE", "file containing egrep(1) patterns to exclude"),
        TIMEZONE,
        HOST_ZONE,
        SHOW_VERSION,
        HELP,
        JSON,
    ],
    source_in_words: true,
    ..Spec::PLAIN
};

/// The metric that differs between any two archives.
const ALWAYS_EXCLUDED: &str = "^pmcd.pmlogger.port";

/// One of the two things that are compared.
struct Side {
    archive: String,
    start: Option<String>,
    end: Option<String>,
    /// The times that were given for this side, in words.
    times: String,
}

impl Side {
    fn times(&self) -> &str {
        &self.times
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
    SPEC.run(|spec| compare(spec, args))
}

fn compare(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let (mut precision, mut threshold) = (3usize, 2.0f64);
    let (mut show_missing, mut show_excluded, mut json) = (true, true, false);
    let (mut first, mut second) = ((None, None), (None, None));
    let (mut zone, mut patterns) = (Vec::new(), Vec::new());
    let words = spec.parse(args, &mut Source::default(), |option, value| {
        let text = || Some(value.to_owned());
        match option {
            'p' => {
                let what = "-p requires a non-negative numeric argument";
                precision = spec.number::<usize>(value, what)?.clamp(3, 12);
            }
            'q' => match value.parse::<f64>() {
                Ok(ratio) if ratio > 0.0 => threshold = ratio,
                _ => return Err(spec.wrong("-q requires a positive numeric argument")),
            },
            JSON_ONLY => json = true,
            SKIP_MISSING => show_missing = false,
            SKIP_EXCLUDED => show_excluded = false,
            'S' => first.0 = text(),
            'T' => first.1 = text(),
            'B' => second.0 = text(),
            'E' => second.1 = text(),
            'x' => patterns.push(value.to_owned()),
            'X' => match std::fs::read_to_string(value) {
                Ok(more) => patterns.extend(more.lines().map(str::to_owned)),
                Err(error) => {
                    let code = pcp::ErrorCode::from(&error);
                    return Err(Refusal::Failed(format!("pmdiff: {value}: {code}\n")));
                }
            },
            'Z' => zone = vec!["-Z".to_owned(), value.to_owned()],
            'z' => zone = vec!["-z".to_owned()],
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let (one, two) = match words.as_slice() {
        [one] => (one, one),
        [one, two] => (one, two),
        _ => return Err(Refusal::Usage(String::new())),
    };
    // Without times of its own the second has those of the first, unsaid.
    let times = |start: &Option<String>, end: &Option<String>| {
        let start = start.as_deref().unwrap_or("start");
        format!("{start}-{}", end.as_deref().unwrap_or("end"))
    };
    let sides = [
        Side {
            archive: one.clone(),
            start: first.0.clone(),
            end: first.1.clone(),
            times: times(&first.0, &first.1),
        },
        Side {
            archive: two.clone(),
            times: times(&second.0, &second.1),
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
    if json {
        if show_missing {
            for (side, own, other) in [(&sides[0], before, after), (&sides[1], after, before)] {
                for name in other.keys().filter(|k| !own.contains_key(*k)) {
                    out_of_json(name, json!({ "missing": side.archive }));
                }
            }
        }
        for (ratio, name, old, new) in changed(before, after, threshold) {
            // A growth from nothing has no ratio.
            let ratio = Some(ratio).filter(|ratio| ratio.is_finite());
            out_of_json(name, json!({ "before": old, "after": new, "ratio": ratio }));
        }
        return Ok(0);
    }
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
    for (ratio, name, old, new) in changed(before, after, threshold) {
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
        let (old, new) = (column(old, precision), column(new, precision));
        let _ = writeln!(out, "{old} {new}{shown}{name}");
    }
}

/// What differs by the threshold or more, the greatest growth first: the ratio, what it is of, and both averages.
fn changed<'a>(
    before: &'a BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    threshold: f64,
) -> Vec<(f64, &'a String, f64, f64)> {
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
            rows.push((ratio, name, *old, *new));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    rows
}

/// A line of JSON on a metric, and its instance if it has one.
fn out_of_json(name: &str, more: serde_json::Value) {
    let (metric, instance) = match name.split_once(" [\"") {
        Some((metric, rest)) => (metric, rest.strip_suffix("\"]")),
        None => (name, None),
    };
    let mut line = json!({ "metric": metric, "instance": instance });
    if let (Some(line), serde_json::Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    println!("{line}");
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
