//! `cargo xtask soak`: the tests of `tests/tests/soak.rs`, for as long as one likes.

use std::process::{ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::{packages, workspace};

const DEFAULT_CYCLES: u64 = 10_000;
/// One tracer or program is killed for this many cycles of attaching and detaching.
const CYCLES_PER_KILL: u64 = 20;

/// Builds Spile and runs the soak tests one after the other, with probes that differ each time.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let cycles = match words {
        [] => DEFAULT_CYCLES,
        [word] => match word.parse() {
            Ok(cycles) => cycles,
            Err(_) => bail!("soak takes a number of cycles, not '{word}'"),
        },
        _ => bail!("soak takes one number of cycles"),
    };
    packages::ensure(packages::FOR_TESTS)?;
    let built = workspace::cargo()
        .args(["build", "--release", "--package", "spile"])
        .status()?;
    if !built.success() {
        bail!("cargo build: {built}");
    }
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |now| now.as_secs());
    println!("SPILE_SOAK_SEED={seed}");
    let status = workspace::cargo()
        .args(["test", "--package", "spile-tests", "--test", "soak"])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env(
            "SPILE",
            workspace::target_directory()?.join("release/spile"),
        )
        .env("SPILE_SOAK_SEED", seed.to_string())
        .env("SPILE_SOAK_CYCLES", cycles.to_string())
        .env(
            "SPILE_SOAK_KILLS",
            cycles.div_ceil(CYCLES_PER_KILL).to_string(),
        )
        .stdin(Stdio::null())
        .status()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
