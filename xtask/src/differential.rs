//! `cargo xtask fuzz differential`: random programs, compiled and interpreted (`crates/codegen/tests/handlers/programs`),
//! for as many as one likes.

use std::process::{ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::workspace;

const DEFAULT_PROGRAMS: u64 = 100_000;

/// Runs that many programs, others each time.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let programs = match words {
        [] => DEFAULT_PROGRAMS,
        [word] => match word.parse() {
            Ok(programs) => programs,
            Err(_) => bail!("differential takes a number of programs, not '{word}'"),
        },
        _ => bail!("differential takes one number of programs"),
    };
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |now| now.as_nanos() as u64 >> 8);
    println!("SPILE_FUZZ_SEED={seed}");
    let status = workspace::cargo()
        .args([
            "test",
            "--release",
            "--package",
            "codegen",
            "--test",
            "handlers",
        ])
        .args(["--", "--nocapture", "programs_print"])
        .env("SPILE_FUZZ_SEED", seed.to_string())
        .env("SPILE_FUZZ_PROGRAMS", programs.to_string())
        .stdin(Stdio::null())
        .status()?;
    Ok(if status.success() {
        println!("{programs} programs, no difference");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
