//! What is measured once per process: start-up, and how long an attach stops a program.

use std::fs;
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::contender::{Contender, Workshop};
use super::probe::Probe;
use crate::bounded;

const LIMIT: Duration = Duration::from_secs(60);
/// How long the program that is attached to looks for pauses.
/// How many threads that program has.
const PAUSE_THREADS: &str = "500";
const PAUSE_WINDOW: &str = "1500";

/// A script whose whole process is timed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Start {
    /// A begin probe that prints and ends.
    Begin,
    /// A function probe that prints at the first hit, in a small program.
    FirstHit,
}

impl Start {
    /// In the order of the report.
    pub const ALL: [Self; 2] = [Self::Begin, Self::FirstHit];

    /// What the report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Begin => "`probe begin { println(\"hi\") exit() }`",
            Self::FirstHit => "`probe process.function(\"work\") { println(\"hi\") exit() } -c …`",
        }
    }
}

/// Milliseconds from the start of a contender's process to its end.
pub fn start(workshop: &Workshop, contender: Contender, which: Start) -> Result<f64> {
    let target = "./target function 1 1 0 result";
    let mut command = match contender {
        Contender::Spile => {
            let mut command = Command::new(&workshop.spile);
            match which {
                Start::Begin => {
                    command.args(["stap", "-e", "probe begin { println(\"hi\") exit() }"])
                }
                Start::FirstHit => command.args([
                    "stap",
                    "-e",
                    "probe process.function(\"work\") { println(\"hi\") exit() }",
                    "-c",
                    target,
                ]),
            };
            command
        }
        Contender::Bpftrace => {
            let mut command = Command::new("bpftrace");
            match which {
                Start::Begin => command.args(["-q", "-e", "BEGIN { printf(\"hi\\n\"); exit(); }"]),
                Start::FirstHit => {
                    let path = workshop.directory.join("target");
                    let program = format!(
                        "uprobe:{}:work {{ printf(\"hi\\n\"); exit(); }}",
                        path.display()
                    );
                    command.args(["-q", "-e", &program, "-c", target])
                }
            };
            command
        }
        _ => bail!("not measured"),
    };
    command.current_dir(&workshop.directory);
    let outcome = bounded::run(&mut command, LIMIT)?;
    if !outcome.success() {
        bail!("{}", outcome.failure(LIMIT));
    }
    if !outcome.stdout.lines().any(|line| line == "hi") {
        bail!("nothing was printed");
    }
    Ok(outcome.elapsed.as_secs_f64() * 1e3)
}

/// The longest time, in milliseconds, that a running program makes no progress: by itself, or
/// while 1000 of its functions are probed and unprobed again.
pub fn pause(workshop: &Workshop, contender: Contender) -> Result<f64> {
    let result = workshop.directory.join("result");
    match fs::remove_file(&result) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut victim = Command::new("./pause")
        .args([PAUSE_WINDOW, "result", PAUSE_THREADS])
        .current_dir(&workshop.directory)
        .stdin(Stdio::null())
        .spawn()
        .context("pause")?;
    let attached = if contender == Contender::Spile {
        wait_until_ready(&result).and_then(|()| {
            let mut command = Command::new(&workshop.spile);
            let script = "global n probe process.function(\"victim_*\") { n++ } \
                          probe timer.ms(300) { exit() } probe end { println(n) }";
            command
                .args(["stap", "-e", script, "-x", &victim.id().to_string()])
                .current_dir(&workshop.directory);
            let outcome = bounded::run(&mut command, LIMIT)?;
            if !outcome.success() {
                bail!("{}", outcome.failure(LIMIT));
            }
            if !outcome
                .stdout
                .lines()
                .any(|line| line.parse::<u64>().is_ok_and(|hits| hits > 0))
            {
                bail!("no hit was seen");
            }
            Ok(())
        })
    } else {
        Ok(())
    };
    let status = victim.wait()?;
    attached?;
    if !status.success() {
        bail!("the program ended with {status}");
    }
    let text = fs::read_to_string(&result)?;
    let longest: f64 = text
        .lines()
        .nth(1)
        .context("the program did not measure")?
        .parse()?;
    Ok(longest / 1e6)
}

fn wait_until_ready(result: &std::path::Path) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < LIMIT {
        if fs::read_to_string(result).is_ok_and(|text| text.starts_with("ready")) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    bail!("the program to attach to did not start")
}

/// The rate at which `Print` loses nothing is part of the report's goals.
pub fn loses_nothing(probe: Probe, lost: &[i64]) -> Option<bool> {
    (probe.prints() && !lost.is_empty()).then(|| lost.iter().all(|count| *count == 0))
}
