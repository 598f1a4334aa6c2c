//! `cargo xtask test`: every check and test, each with a time limit.
//!
//! Tests are run one process each, so that one that hangs, or is killed by what it probes,
//! fails alone and its limit is its own. One that fails while others run beside it is run once more, alone: if it
//! passes then, it counts as passed, but is named at the end with what it said first.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bounded;
use crate::packages;
use crate::workspace;

/// A test that takes longer hangs.
const TEST_LIMIT: Duration = Duration::from_secs(120);
/// Listing a binary's tests runs none of them.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// All documentation tests together: compiling them is most of it.
const DOC_LIMIT: Duration = Duration::from_secs(300);

/// The environment variable by which tests in `tests/` find the built `spile`.
const SPILE_VARIABLE: &str = "SPILE";

struct Binary {
    path: PathBuf,
    package_directory: PathBuf,
    /// `package::target`, as in the test's full name.
    name: String,
}

struct Test {
    binary: usize,
    /// `None`: the binary has a harness of its own and is run whole.
    name: Option<String>,
    full_name: String,
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<(String, String)>,
    /// Those that failed beside others and passed alone, with what the failure said.
    unsteady: Vec<(String, String)>,
    ignored: usize,
}

impl Tally {
    fn record(&mut self, name: &str, result: Result<(), String>, elapsed: Duration) {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:>6} {:>8.2} s  {name}", elapsed.as_secs_f64());
        match result {
            Ok(()) => self.passed += 1,
            Err(reason) => self.failures.push((name.to_owned(), reason)),
        }
    }
}

/// Runs all checks and tests, or only the tests whose full name contains `filter`. The last
/// line printed is `N passed, N failed`.
pub fn run(filter: Option<&str>) -> Result<ExitCode> {
    packages::ensure(packages::FOR_TESTS)?;
    let mut tally = Tally::default();
    if filter.is_none() {
        ensure_components()?;
        check(&mut tally, "cargo fmt", &["fmt", "--all", "--check"], &[]);
        check(
            &mut tally,
            "cargo clippy",
            &["clippy", "--workspace", "--all-targets"],
            &["-D", "warnings"],
        );
        // They are a workspace of their own, for the profile that they are run with.
        let fuzz = ["--manifest-path", "fuzz/Cargo.toml"];
        check(
            &mut tally,
            "cargo fmt of the fuzz targets",
            &["fmt", "--check", fuzz[0], fuzz[1]],
            &[],
        );
        check(
            &mut tally,
            "cargo clippy of the fuzz targets",
            &[
                "clippy",
                fuzz[0],
                fuzz[1],
                "--target-dir",
                "target",
                "--config",
                r#"build.rustflags = ["--cfg", "fuzzing"]"#,
            ],
            &["-D", "warnings"],
        );
    }
    check(
        &mut tally,
        "build spile",
        &["build", "--release", "--package", "spile"],
        &[],
    );
    let started = Instant::now();
    match build_tests() {
        Ok(binaries) => {
            tally.record("build tests", Ok(()), started.elapsed());
            run_tests(&mut tally, &binaries, filter)?;
            if filter.is_none() {
                run_documentation_tests(&mut tally)?;
            }
        }
        Err(error) => {
            tally.record("build tests", Err(format!("{error:#}")), started.elapsed());
        }
    }
    for (name, reason) in &tally.failures {
        println!("\n---- {name} ----\n{}", reason.trim_end());
    }
    for (name, reason) in &tally.unsteady {
        println!(
            "\n---- {name}: failed at first, passed alone ----\n{}",
            reason.trim_end()
        );
    }
    if tally.ignored > 0 {
        println!("\n{} ignored", tally.ignored);
    }
    if !tally.unsteady.is_empty() {
        println!("\n{} passed only alone, see above", tally.unsteady.len());
    }
    println!();
    println!("{} passed, {} failed", tally.passed, tally.failures.len());
    Ok(if tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A toolchain of rustup's minimal profile has neither rustfmt nor clippy.
fn ensure_components() -> Result<()> {
    let absent: Vec<&str> = ["fmt", "clippy"]
        .into_iter()
        .filter(|tool| {
            !workspace::cargo()
                .args([tool, "--version"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .map(|tool| if tool == "fmt" { "rustfmt" } else { tool })
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    let status = Command::new("rustup")
        .args(["component", "add"])
        .args(&absent)
        .current_dir(workspace::root())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        bail!("install {} of this Rust toolchain", absent.join(" and "));
    }
    Ok(())
}

/// One cargo command that counts as a test; what it prints is shown as it comes.
fn check(tally: &mut Tally, name: &str, words: &[&str], after_dashes: &[&str]) {
    let mut command = workspace::cargo();
    command.args(words).stdin(Stdio::null());
    if !after_dashes.is_empty() {
        command.arg("--").args(after_dashes);
    }
    let started = Instant::now();
    let result = match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo {}: {status}; see above", words.join(" "))),
        Err(error) => Err(format!("can't run cargo: {error}")),
    };
    tally.record(name, result, started.elapsed());
}

/// Builds all test binaries and says which they are.
fn build_tests() -> Result<Vec<Binary>> {
    let output = workspace::cargo()
        .args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("can't run cargo")?;
    if !output.status.success() {
        bail!("cargo test --no-run: {}; see above", output.status);
    }
    let mut binaries = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        let (Some(path), Some(manifest), Some(target)) = (
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
            message["target"]["name"].as_str(),
        ) else {
            continue;
        };
        let package_directory = Path::new(manifest).parent().unwrap_or(Path::new("/"));
        let package = package_directory.file_name().unwrap_or_default();
        binaries.push(Binary {
            path: PathBuf::from(path),
            package_directory: package_directory.to_path_buf(),
            name: format!("{}::{target}", package.to_string_lossy()),
        });
    }
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

fn run_tests(tally: &mut Tally, binaries: &[Binary], filter: Option<&str>) -> Result<()> {
    let spile = workspace::target_directory()?.join("release/spile");
    let mut queue = VecDeque::new();
    for (index, binary) in binaries.iter().enumerate() {
        let (tests, ignored) = list(index, binary, &spile)?;
        tally.ignored += ignored;
        queue.extend(
            tests
                .into_iter()
                .filter(|test| filter.is_none_or(|filter| test.full_name.contains(filter))),
        );
    }
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(queue);
    let shared = Mutex::new(&mut *tally);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(test) = next else { break };
                    let started = Instant::now();
                    let result = run_one(&test, &binaries[test.binary], &spile);
                    match result {
                        Ok(()) => shared
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .record(&test.full_name, result, started.elapsed()),
                        Err(reason) => {
                            println!(
                                " later {:>8.2} s  {}",
                                started.elapsed().as_secs_f64(),
                                test.full_name
                            );
                            failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push((test, reason));
                        }
                    }
                }
            });
        }
    });
    for (test, reason) in failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let started = Instant::now();
        let result = run_one(&test, &binaries[test.binary], &spile);
        match &result {
            Ok(()) => tally.unsteady.push((test.full_name.clone(), reason)),
            Err(again) if *again != reason => println!("{}: at first: {reason}", test.full_name),
            Err(_) => {}
        }
        tally.record(&test.full_name, result, started.elapsed());
    }
    Ok(())
}

/// The tests of a binary, and how many more it has that are marked `#[ignore]`.
fn list(index: usize, binary: &Binary, spile: &Path) -> Result<(Vec<Test>, usize)> {
    let names = |words: &[&str]| -> Result<Option<Vec<String>>> {
        let mut command = test_command(binary, spile);
        command.args(["--list", "--format", "terse"]).args(words);
        let outcome = bounded::run(&mut command, LIST_LIMIT)?;
        Ok(outcome.success().then(|| {
            outcome
                .stdout
                .lines()
                .filter_map(|line| line.strip_suffix(": test"))
                .map(str::to_owned)
                .collect()
        }))
    };
    let Some(all) = names(&[])? else {
        let whole = Test {
            binary: index,
            name: None,
            full_name: binary.name.clone(),
        };
        return Ok((vec![whole], 0));
    };
    let ignored = names(&["--ignored"])?.unwrap_or_default();
    let tests = all
        .into_iter()
        .filter(|name| !ignored.contains(name))
        .map(|name| Test {
            binary: index,
            full_name: format!("{}::{name}", binary.name),
            name: Some(name),
        })
        .collect();
    Ok((tests, ignored.len()))
}

fn run_one(test: &Test, binary: &Binary, spile: &Path) -> Result<(), String> {
    let mut command = test_command(binary, spile);
    if let Some(name) = &test.name {
        command.args(["--exact", "--nocapture", "--test-threads=1", name]);
    }
    let outcome = bounded::run(&mut command, TEST_LIMIT).map_err(|error| format!("{error:#}"))?;
    // A harness that matched nothing says ok too.
    if test.name.is_some() && outcome.success() && !outcome.stdout.contains("running 1 test") {
        return Err(format!("the test was not run:\n{}", outcome.stdout));
    }
    if outcome.success() {
        return Ok(());
    }
    Err(format!(
        "{}{}\n{}",
        outcome.stdout,
        outcome.stderr,
        if outcome.timed_out {
            format!("killed after {} s", TEST_LIMIT.as_secs())
        } else {
            outcome.status.to_string()
        }
    ))
}

/// A test binary with the working directory and the variables that `cargo test` gives it.
fn test_command(binary: &Binary, spile: &Path) -> Command {
    let mut command = Command::new(&binary.path);
    command
        .current_dir(&binary.package_directory)
        .env("CARGO_MANIFEST_DIR", &binary.package_directory)
        .env("INSTA_UPDATE", "no")
        .env(SPILE_VARIABLE, spile);
    command
}

/// Documentation tests are compiled by rustdoc, so cargo runs them; the counts are in what it
/// prints.
fn run_documentation_tests(tally: &mut Tally) -> Result<()> {
    let started = Instant::now();
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    let outcome = bounded::run(&mut command, DOC_LIMIT)?;
    let (passed, failed) = count_results(&outcome.stdout);
    if outcome.success() {
        println!(
            "{:>6} {:>8.2} s  {passed} documentation tests",
            "ok",
            started.elapsed().as_secs_f64()
        );
        tally.passed += passed;
        return Ok(());
    }
    tally.passed += passed;
    let report = format!(
        "{}{}\n{failed} failed, {}",
        outcome.stdout,
        outcome.stderr,
        outcome.failure(DOC_LIMIT)
    );
    tally.record("documentation tests", Err(report), started.elapsed());
    for _ in 1..failed {
        tally
            .failures
            .push(("documentation test".to_owned(), "see above".to_owned()));
    }
    Ok(())
}

/// Sums the lines `test result: ok. 3 passed; 0 failed; ...`.
fn count_results(output: &str) -> (usize, usize) {
    let mut sums = (0, 0);
    for line in output.lines() {
        let Some(counts) = line.strip_prefix("test result: ") else {
            continue;
        };
        let words: Vec<&str> = counts.split([' ', ';']).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<usize>() else {
                continue;
            };
            match pair[1] {
                "passed" => sums.0 += number,
                "failed" => sums.1 += number,
                _ => {}
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_crates_are_summed() {
        let output = "\
running 3 tests
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s
";
        assert_eq!(count_results(output), (7, 2));
    }
}
