//! `cargo xtask bench debug-file [FILE FUNCTION]`: how long it takes to find one function with its parameters, and all
//! functions, in a debug file of 500 MB and more, beside others that do the same.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::contender::expect_success;
use super::large::MEASURE;
use super::report::replaced;
use super::{build_spile, machine};
use crate::bounded;
use crate::workspace;

/// As long as anything may take: ten times what it takes here is an answer, too.
const LIMIT: Duration = Duration::from_secs(600);
/// Of what takes no more than seconds.
const RUNS: usize = 5;
/// The heading of the section in the report, which is replaced as a whole.
const HEADING: &str = "## Names in a large debug file";
/// Copies of the piece that the file is made of, and instances of its templates.
const COPIES: usize = 60;
const INSTANCES: usize = 60;

struct Row {
    what: &'static str,
    command: String,
    outcome: Result<Vec<Sample>>,
}

/// One run of a whole process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Milliseconds from its start to its end.
    elapsed: f64,
    /// Milliseconds of processor time, of the system and of all threads included.
    processor: f64,
    /// The largest resident set in millions of bytes, pages of mapped files included.
    megabytes: f64,
}

/// Measures and replaces the section of the report.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let directory = workspace::target_directory()?.join("bench");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let (file, function) = match words {
        [] => (synthesize(&directory)?, "work".to_owned()),
        [file, function] => (fs::canonicalize(file)?, function.clone()),
        _ => bail!("bench debug-file takes a file and the name of a function, or neither"),
    };
    let spile = build_spile(true)?.display().to_string();
    // As long as nothing of this runs.
    let machine = machine::description();
    let path = file.display().to_string();
    let caches = directory.join("debug-file-caches");
    let tree = kernel_tree(&directory)?;
    let point = |name: &str| format!("process(\"{path}\").function(\"{name}\")");
    let (one, all) = (point(&function), point("*"));
    let address = address_of(&spile, &path, &function)?;
    let own = |list: &str, point: &str| {
        [spile.as_str(), "stap", list, point]
            .map(str::to_owned)
            .to_vec()
    };
    let stap = |point: &str| {
        ["stap", "-r", &tree, "-L", point]
            .map(str::to_owned)
            .to_vec()
    };
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let scope = format!("info scope {function}");
    let tasks: [(&'static str, Vec<String>, Cache, usize); 9] = [
        ("one function, cold", own("-L", &one), Cache::Emptied, RUNS),
        ("one function, warm", own("-L", &one), Cache::Kept, RUNS),
        ("one function", stap(&one), Cache::Kept, 1),
        (
            "one function",
            words(&["gdb", "-nx", "-batch", "-ex", &scope, &path]),
            Cache::Kept,
            1,
        ),
        (
            "its address",
            words(&["llvm-symbolizer", "--inlines", "--obj", &path, &address]),
            Cache::Kept,
            1,
        ),
        (
            "its address",
            words(&["addr2line", "-f", "-i", "-e", &path, &address]),
            Cache::Kept,
            1,
        ),
        ("all functions, cold", own("-L", &all), Cache::Emptied, 1),
        ("all functions, warm", own("-L", &all), Cache::Kept, 1),
        ("all functions", stap(&all), Cache::Kept, 1),
    ];
    let mut rows = Vec::new();
    for (what, command, cache, runs) in tasks {
        let shown = command
            .join(" ")
            .replace(&path, "FILE")
            .replace(&tree, "TREE")
            .replace(&spile, "spile");
        println!("{what}: {shown}");
        let mut outcome = Ok(Vec::new());
        for _ in 0..runs {
            if cache == Cache::Emptied && caches.exists() {
                fs::remove_dir_all(&caches).with_context(|| caches.display().to_string())?;
            }
            match (measure(&command, &caches), &mut outcome) {
                (Ok(sample), Ok(samples)) => samples.push(sample),
                (Err(error), _) => {
                    outcome = Err(error);
                    break;
                }
                (Ok(_), Err(_)) => break,
            }
        }
        if let Ok(samples) = &outcome {
            println!("  {samples:.1?}");
        }
        rows.push(Row {
            what,
            command: shown,
            outcome,
        });
    }
    let text = report(&file, &function, &machine, &rows)?;
    let output = workspace::root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&output).with_context(|| output.display().to_string())?;
    fs::write(&output, replaced(&old, HEADING, &text))
        .with_context(|| output.display().to_string())?;
    println!("{text}\nwritten to {}", output.display());
    Ok(ExitCode::SUCCESS)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Emptied,
    Kept,
}

fn measure(words: &[String], caches: &Path) -> Result<Sample> {
    let mut command = Command::new("python3");
    command
        .args(["-c", MEASURE])
        .args(words)
        .env("SYSTEMTAP_DIR", caches)
        .env_remove("DEBUGINFOD_URLS");
    let outcome = bounded::run(&mut command, LIMIT)?;
    if !outcome.success() {
        bail!("{}", outcome.failure(LIMIT));
    }
    let (said, measured) = outcome
        .stdout
        .rsplit_once("measured ")
        .context("no measurement")?;
    if said.trim().is_empty() {
        bail!("nothing was found");
    }
    let mut numbers = measured.split_ascii_whitespace().map(str::parse::<f64>);
    let mut next = || {
        numbers
            .next()
            .context("no measurement")?
            .context("no number")
    };
    Ok(Sample {
        elapsed: next()?,
        megabytes: next()? * 1024.0 / 1e6,
        processor: next()?,
    })
}

/// The section of the report.
fn report(
    file: &Path,
    function: &str,
    machine: &[(&'static str, String)],
    rows: &[Row],
) -> Result<String> {
    let size = fs::metadata(file)?.len() as f64 / 1e6;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let facts = machine::summary(machine);
    let mut text = format!(
        "{HEADING}\n\nWritten by `cargo xtask bench debug-file` ({}). FILE is `{name}`, {size:.0} MB; the function is \
         `{function}`. Milliseconds of the whole process, of all processors together, and its resident set, pages of the file included; the \
         median where there are several runs. Cold: without an index, the file in the page cache; warm: run again.\n\n\
         | | | milliseconds | of processors | MB |\n|---|---|---|---|---|\n",
        facts
    );
    for row in rows {
        let command = row.command.replace('|', "\\|");
        match &row.outcome {
            Ok(samples) => {
                let median = |of: &dyn Fn(&Sample) -> f64| {
                    let mut values: Vec<f64> = samples.iter().map(of).collect();
                    values.sort_by(f64::total_cmp);
                    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
                };
                let _ = writeln!(
                    text,
                    "| {} | `{command}` | {:.0} | {:.0} | {:.0} |",
                    row.what,
                    median(&|s| s.elapsed),
                    median(&|s| s.processor),
                    median(&|s| s.megabytes)
                );
            }
            Err(error) => {
                let _ = writeln!(text, "| {} | `{command}` | {error:#} | | |", row.what);
            }
        }
    }
    text.push('\n');
    Ok(text)
}

/// The address of a function, in hexadecimal digits.
fn address_of(spile: &str, path: &str, function: &str) -> Result<String> {
    let output = Command::new(spile)
        .args(["symbols", path, "--functions", function])
        .output()
        .with_context(|| spile.to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.split_ascii_whitespace().next();
    first
        .map(str::to_owned)
        .with_context(|| format!("no function {function} in {path}"))
}

/// stap looks at the kernel's build tree even for programs: what it wants to see of one.
fn kernel_tree(directory: &Path) -> Result<String> {
    let tree = directory.join("kernel-tree");
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    let release = release.trim();
    for below in ["include/config", "include/generated"] {
        fs::create_dir_all(tree.join(below)).with_context(|| tree.display().to_string())?;
    }
    let symbols = [
        "uprobe_register",
        "uprobe_unregister",
        "register_uprobe",
        "unregister_uprobe",
    ];
    let symbols: String = symbols
        .iter()
        .map(|name| format!("0x00000000\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n"))
        .collect();
    let options = [
        "UPROBES",
        "UPROBE_EVENTS",
        "KPROBES",
        "MODULES",
        "UTRACE",
        "DEBUG_FS",
        "RELAY",
    ];
    let options: String = options.iter().map(|o| format!("CONFIG_{o}=y\n")).collect();
    let release_line = format!("#define UTS_RELEASE \"{release}\"\n");
    for (name, text) in [
        (".config", options.as_str()),
        ("include/config/kernel.release", release),
        ("include/generated/utsrelease.h", &release_line),
        ("Module.symvers", &symbols),
        ("System.map", ""),
        ("Makefile", ""),
    ] {
        fs::write(tree.join(name), text).with_context(|| name.to_owned())?;
    }
    Ok(tree.display().to_string())
}

/// A program of C++ with more than 500 MB of debugging information. One piece with many instances of templates is compiled;
/// copies of it with other symbols make up the size, which takes minutes where compiling it all would take an hour.
fn synthesize(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("debug-file");
    if program.exists() {
        return Ok(program);
    }
    let scratch = directory.join("debug-file-parts");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    fs::write(scratch.join("piece.cc"), piece()).context("piece.cc")?;
    let here = |name: &str| {
        let mut command = Command::new(name);
        command.current_dir(&scratch);
        command
    };
    expect_success(here("g++").args(["-O1", "-g", "-c", "piece.cc"]))?;
    let mut link = here("g++");
    link.args([
        "-O2",
        "-g",
        "-pthread",
        "-Wl,--build-id=sha1",
        "-o",
        "program",
    ])
    .args(["-x", "c"])
    .arg(workspace::root().join("xtask/bench/target.c"))
    .args(["-x", "none"]);
    for copy in 0..COPIES {
        let name = format!("piece{copy}.o");
        // Those of the libraries are renamed as well, and not there when it is linked; it is never run.
        let prefix = format!("--prefix-symbols=copy{copy}_");
        expect_success(here("objcopy").args([prefix.as_str(), "piece.o", &name]))?;
        link.arg(name);
    }
    link.arg("-Wl,--unresolved-symbols=ignore-all");
    expect_success(&mut link)?;
    fs::rename(scratch.join("program"), &program)?;
    fs::remove_dir_all(&scratch)?;
    Ok(program)
}

fn piece() -> String {
    let mut text = String::from(
        "#include <algorithm>\n#include <functional>\n#include <map>\n#include <memory>\n#include <string>\n\
         #include <unordered_map>\n#include <vector>\n",
    );
    for i in 0..INSTANCES {
        let _ = writeln!(
            text,
            "namespace part_{i} {{\n\
             struct Record {{ std::string name; std::vector<int> numbers; std::map<int, std::shared_ptr<Record>> next; }};\n\
             long total_{i}(std::map<int, Record> &all, std::unordered_map<std::string, Record> &named, int wanted) {{\n\
             long sum = 0;\n\
             for (auto &each : all) {{ each.second.numbers.push_back(wanted); sum += each.second.numbers.size(); }}\n\
             std::vector<Record> sorted;\n\
             for (auto &each : named) sorted.push_back(each.second);\n\
             std::sort(sorted.begin(), sorted.end(), [](const Record &a, const Record &b) {{ return a.name < b.name; }});\n\
             return sum + sorted.size();\n\
             }}\n}}"
        );
    }
    text
}
