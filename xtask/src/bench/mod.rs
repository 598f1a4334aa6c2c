//! `cargo xtask bench`: Spile beside its peers, in one run.

mod contender;
mod debug_file;
mod large;
mod machine;
mod pmcd;
mod probe;
mod report;
mod startup;

use std::collections::hash_map::Entry;
use std::fs;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};

use self::contender::{Contender, Workshop};
use self::probe::Probe;
use self::report::{BY_HAND, Cell, Heading, Measurements};
use self::startup::Start;
use crate::packages;
use crate::workspace;

struct Options {
    runs: usize,
    threads: Vec<usize>,
    only: Vec<String>,
    output: PathBuf,
}

/// Measures everything and writes the report.
pub fn run(words: &[String]) -> Result<ExitCode> {
    if let Some(("debug-file", rest)) = words.split_first().map(|(w, rest)| (w.as_str(), rest)) {
        return debug_file::run(rest);
    }
    if let Some(("pmcd", rest)) = words.split_first().map(|(w, rest)| (w.as_str(), rest)) {
        return pmcd::run(rest);
    }
    let options = parse(words)?;
    let contenders: Vec<Contender> = Contender::ALL
        .into_iter()
        .filter(|contender| takes_part(*contender, &options.only))
        .collect();
    let machine = machine::description();
    let mut missing = Vec::new();
    // Whatever can't be installed shows up below as the reason why a peer is missing.
    for list in [packages::FOR_TESTS, packages::FOR_BENCH] {
        if let Err(error) = packages::ensure(list) {
            eprintln!("{error:#}");
        }
    }
    let spile = build_spile(contenders.contains(&Contender::Spile))?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let directory = workspace::target_directory()?.join("bench");
    let mut workshop = Workshop::new(directory, spile, processors)?;
    let mut present = Vec::new();
    for contender in contenders {
        match workshop.prepare(contender) {
            Ok(()) => present.push(contender),
            Err(error) => {
                eprintln!("missing: {}: {error:#}", contender.title());
                missing.push((contender, format!("{error:#}")));
            }
        }
    }
    let mut measurements = Measurements::default();
    let large = large::build(&workshop);
    for run in 1..=options.runs {
        println!("run {run} of {}", options.runs);
        measure(&workshop, &present, &options.threads, &mut measurements);
        for &contender in &present {
            if starts(contender) {
                add(measurements.large.entry(contender), || match &large {
                    Ok(_) => large::first_hit(&workshop, contender),
                    Err(error) => bail!("the program was not built: {error:#}"),
                });
            }
        }
    }
    let mut command = "cargo xtask bench".to_owned();
    for word in words {
        command.push(' ');
        command.push_str(word);
    }
    let heading = Heading {
        command,
        runs: options.runs,
        threads: options.threads,
        contenders: present,
        missing,
        machine,
        versions: machine::versions(&workshop),
        large: large.unwrap_or_default(),
    };
    let text = measurements.write(&heading);
    write_report(&options.output, &text)?;
    println!("{text}\nwritten to {}", options.output.display());
    Ok(ExitCode::SUCCESS)
}

fn parse(words: &[String]) -> Result<Options> {
    let mut options = Options {
        runs: 5,
        threads: vec![1, 2, 4],
        only: Vec::new(),
        output: workspace::root().join("docs/benchmarks.md"),
    };
    let mut words = words.iter();
    while let Some(option) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--runs" => options.runs = value.parse().context("--runs")?,
            "--only" => options.only = value.split(',').map(str::to_lowercase).collect(),
            "--output" => options.output = PathBuf::from(value),
            "--threads" => {
                options.threads = value
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .context("--threads")?;
                if options
                    .threads
                    .iter()
                    .any(|count| !(1..=64).contains(count))
                {
                    bail!("--threads takes numbers from 1 to 64");
                }
            }
            _ => bail!("bench has no option '{option}'"),
        }
    }
    Ok(options)
}

/// The unprobed program always does: everything is measured against it.
fn takes_part(contender: Contender, only: &[String]) -> bool {
    let title = contender.title().to_lowercase();
    contender == Contender::Unprobed
        || only.is_empty()
        || only.iter().any(|word| title.contains(word.as_str()))
}

/// The release build, or the program that the environment names.
fn build_spile(wanted: bool) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SPILE") {
        return Ok(fs::canonicalize(path)?);
    }
    if wanted {
        let status = workspace::cargo()
            .args(["build", "--release", "--package", "spile"])
            .status()
            .context("can't run cargo")?;
        if !status.success() {
            bail!("building spile: {status}");
        }
    }
    Ok(workspace::target_directory()?.join("release/spile"))
}

/// Whether a contender's start-up is measured: of those that compile a script.
fn starts(contender: Contender) -> bool {
    matches!(contender, Contender::Spile | Contender::Bpftrace)
}

/// One run of everything. What failed once is not tried again.
fn measure(
    workshop: &Workshop,
    contenders: &[Contender],
    threads: &[usize],
    measurements: &mut Measurements,
) {
    for probe in Probe::ALL {
        for &count in threads {
            for &contender in contenders {
                if contender.can(probe) {
                    add(measurements.hits.entry((probe, count, contender)), || {
                        let sample = workshop.measure(contender, probe, count);
                        let shown = match &sample {
                            Ok(sample) => format!("{:.1}", sample.processor),
                            Err(error) => format!("{error:#}"),
                        };
                        println!(
                            "  {}, threads: {count}, {}: {shown}",
                            probe.title(),
                            contender.title()
                        );
                        sample
                    });
                }
            }
        }
    }
    for start in Start::ALL {
        for &contender in contenders {
            if starts(contender) {
                add(measurements.starts.entry((start, contender)), || {
                    startup::start(workshop, contender, start)
                });
            }
        }
    }
    for &contender in contenders {
        if matches!(contender, Contender::Spile | Contender::Unprobed) {
            add(measurements.pauses.entry(contender), || {
                startup::pause(workshop, contender)
            });
        }
    }
}

/// Adds a run to a cell, unless one failed before.
fn add<K: Hash + Eq, T>(cell: Entry<'_, K, Cell<T>>, measure: impl FnOnce() -> Result<T>) {
    let cell = cell.or_insert_with(|| Ok(Vec::new()));
    if let Ok(values) = cell {
        match measure() {
            Ok(value) => values.push(value),
            Err(error) => *cell = Err(format!("{error:#}")),
        }
    }
}

/// Replaces the generated part and keeps what people wrote below it.
fn write_report(path: &Path, text: &str) -> Result<()> {
    let kept = fs::read_to_string(path)
        .ok()
        .and_then(|old| old.find(BY_HAND).map(|start| old[start..].to_owned()))
        .unwrap_or_else(|| format!("{BY_HAND}\n"));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::write(path, format!("{text}{kept}")).with_context(|| path.display().to_string())
}
