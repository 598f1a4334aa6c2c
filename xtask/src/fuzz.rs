//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, by cargo-fuzz.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

const DEFAULT_SECONDS: u64 = 60;

/// Runs one fuzz target, or each in turn, for some seconds each.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let root = workspace::root();
    let targets = targets(&root)?;
    let mut chosen = targets.clone();
    let mut seconds = DEFAULT_SECONDS;
    for word in words {
        if let Ok(number) = word.parse() {
            seconds = number;
        } else if targets.contains(word) {
            chosen = vec![word.clone()];
        } else {
            bail!("no fuzz target '{word}'; there are {}", targets.join(", "));
        }
    }
    ensure_tools()?;
    for target in &chosen {
        seed(&root, target)?;
        println!("fuzzing {target} for {seconds} s");
        let status = Command::new("cargo")
            .args(["+nightly", "fuzz", "run", target, "--"])
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=4096", "-max_len=65536"])
            .current_dir(&root)
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("RUSTUP_TOOLCHAIN")
            .status()
            .context("can't run cargo")?;
        if !status.success() {
            bail!("{target}: {status}; the input is in fuzz/artifacts/{target}");
        }
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
fn seed(root: &Path, target: &str) -> Result<()> {
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
    Ok(())
}

fn ensure_tools() -> Result<()> {
    let works = |words: &[&str]| {
        Command::new("cargo")
            .args(words)
            .env_remove("RUSTUP_TOOLCHAIN")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !works(&["+nightly", "--version"]) {
        bail!(
            "fuzzing needs a nightly compiler, for the sanitizers:\n  rustup toolchain install nightly"
        );
    }
    if !works(&["+nightly", "fuzz", "--version"]) {
        bail!("fuzzing needs cargo-fuzz:\n  cargo install cargo-fuzz");
    }
    Ok(())
}
