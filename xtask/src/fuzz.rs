//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, by libFuzzer. The coverage that it goes by needs nothing but flags of the
//! stable compiler, so neither a nightly one nor cargo-fuzz is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

const DEFAULT_SECONDS: u64 = 60;

/// Named, so that the flags are not given to build scripts and macros.
const MACHINE: &str = "x86_64-unknown-linux-gnu";

/// Counters at every edge, and comparisons shown to the fuzzer (cargo-fuzz's own choice, less the sanitizers that only nightly
/// compilers have). That whatever goes wrong is noticed stands in the profile of `fuzz/Cargo.toml`.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

/// Runs one fuzz target, or each in turn, for some seconds each.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let root = workspace::root();
    let targets = targets(&root)?;
    let mut chosen = targets.clone();
    let mut seconds = DEFAULT_SECONDS;
    let mut only_build = false;
    for word in words {
        if word == "--build" {
            only_build = true;
        } else if let Ok(number) = word.parse() {
            seconds = number;
        } else if targets.contains(word) {
            chosen = vec![word.clone()];
        } else {
            bail!("no fuzz target '{word}'; there are {}", targets.join(", "));
        }
    }
    let programs = build(&root, &chosen)?;
    if only_build {
        println!("built {}", chosen.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = Vec::new();
    for target in &chosen {
        let corpus = seed(&root, target)?;
        let artifacts = root.join("fuzz/artifacts").join(target);
        fs::create_dir_all(&artifacts).with_context(|| artifacts.display().to_string())?;
        println!("fuzzing {target} for {seconds} s");
        let status = Command::new(programs.join(target))
            .arg(&corpus)
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=4096", "-max_len=65536"])
            .args(["-print_final_stats=1", "-verbosity=1"])
            .current_dir(&root)
            .status()
            .with_context(|| format!("can't run the fuzz target {target}"))?;
        if !status.success() {
            eprintln!(
                "{target}: {status}; the input is in {}",
                artifacts.display()
            );
            failed.push(target.clone());
        }
    }
    if !failed.is_empty() {
        bail!("failures in {}", failed.join(", "));
    }
    println!("no failure in {}", chosen.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// The targets, which are the files of `fuzz/fuzz_targets`.
fn targets(root: &Path) -> Result<Vec<String>> {
    let directory = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(stem) = path.file_stem()
        {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Gives a target's corpus something well-formed to begin with, where chance would not find it.
fn seed(root: &Path, target: &str) -> Result<PathBuf> {
    let corpus = root.join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
    match target {
        "script" => {
            let library = root.join("tapset");
            for entry in fs::read_dir(&library).with_context(|| library.display().to_string())? {
                let path = entry?.path();
                if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                    fs::copy(&path, corpus.join(name))?;
                }
            }
        }
        "elf" => {
            // Without a compiler the corpus starts empty, which is slower and not wrong.
            let _ = Command::new("cc")
                .args(["-O1", "-g", "-o"])
                .arg(corpus.join("program"))
                .arg(root.join("xtask/bench/target.c"))
                .arg("-pthread")
                .stderr(Stdio::null())
                .status();
        }
        _ => {}
    }
    Ok(corpus)
}

/// Builds targets, and returns where their programs are.
fn build(root: &Path, targets: &[String]) -> Result<PathBuf> {
    let directory = workspace::target_directory()?.join("fuzz");
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--target", MACHINE])
        .arg("--manifest-path")
        .arg(root.join("fuzz/Cargo.toml"))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &directory);
    for target in targets {
        command.args(["--bin", target]);
    }
    let status = command.status().context("can't run cargo")?;
    if !status.success() {
        bail!("building the fuzz targets (libFuzzer needs a C++ compiler): {status}");
    }
    Ok(directory.join(MACHINE).join("release"))
}
