//! `spile demo`: ten seconds of Spile on a workload built into the executable, with nothing else installed.

mod uprobe;
mod workload;

use anyhow::{Context, Result, bail};
use script::compile::{CompileOptions, compile};
use script::messages;
use script::span::{SourceFile, SourceMap};
use session::{Options, Target};
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const SCRIPT: &str = include_str!("demo.stp");
const SECONDS: u64 = 10;
const COUNT_SCRIPT: &str = "global n probe process.function(\"demo_measured\") { n++ } probe end { if (n < 0) println(n) }";

const USAGE: &str = "\
Usage: spile demo

Ten seconds of Spile on a workload of its own, and what a hit costs beside the kernel's own probe.
";

/// Shows the demonstration.
pub fn main(args: &[OsString]) -> ExitCode {
    match args.get(1).map(|word| word.to_string_lossy()).as_deref() {
        None => {}
        Some("-h" | "--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some(word) => {
            eprint!("ERROR: spile demo takes no argument '{word}'\n{USAGE}");
            return ExitCode::from(1);
        }
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ERROR: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// The workload as a process of its own: `serve SECONDS`, `measure CALLS FILE`, `measure-when-told CALLS FILE`.
pub fn workload(args: &[OsString]) -> ExitCode {
    let words: Vec<_> = args.iter().skip(1).map(|a| a.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or(1).max(1);
    match words.as_slice() {
        ["serve", seconds] => workload::serve(Duration::from_secs(number(seconds))),
        [mode @ ("measure" | "measure-when-told"), calls, file] => {
            // Told by the end of standard input.
            if *mode == "measure-when-told"
                && std::io::stdin().read_to_end(&mut Vec::new()).is_err()
            {
                return ExitCode::from(1);
            }
            let result = workload::measure(number(calls));
            if std::fs::write(file, result.to_string()).is_err() {
                return ExitCode::from(1);
            }
        }
        _ => {
            eprintln!(
                "demo-workload: serve SECONDS | measure CALLS FILE | measure-when-told CALLS FILE"
            );
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}

fn run() -> Result<()> {
    let exe = std::env::current_exe().context("the path of this executable")?;
    let terminal = std::io::stdout().is_terminal();
    println!(
        "Spile puts this script inside a running program (here: a workload of its own, as a separate process):\n"
    );
    println!("{SCRIPT}");
    std::io::stdout().flush()?;
    if terminal {
        // Time to read the script before the table takes its place.
        std::thread::sleep(Duration::from_secs(2));
    }
    probe(
        SCRIPT,
        &[if terminal { "1" } else { "0" }],
        &exe,
        &["serve", &SECONDS.to_string()],
    )?;
    cost(&exe)?;
    println!(
        "\nTry next:\n  spile dynsdt /usr/bin/python3.11 -c 'import json'\n  spile stap -e 'global c probe process.library(\"*libc.so*\").function(\"malloc\") {{ c++ }}' -c /bin/ls\n  spile stap -L 'process(\"/bin/ls\").library(\"*\").mark(\"*\")'"
    );
    Ok(())
}

/// Runs a script on the workload.
fn probe(script: &str, script_args: &[&str], exe: &Path, workload_args: &[&str]) -> Result<()> {
    let mut sources = SourceMap::default();
    let id = sources.add(SourceFile {
        name: "demo.stp".into(),
        text: script.into(),
        is_tapset: false,
    });
    let args = script_args.iter().map(ToString::to_string).collect();
    let compilation = compile(
        sources,
        &[id],
        &CompileOptions {
            args,
            last_pass: 5,
            ..CompileOptions::default()
        },
    );
    let Some(program) = compilation.program.as_ref() else {
        bail!(
            "{}",
            messages::render(&compilation.diagnostics, &compilation.sources, false, false)
        )
    };
    let mut words: Vec<Vec<u8>> = vec![
        exe.as_os_str().as_bytes().to_vec(),
        b"demo-workload".to_vec(),
    ];
    words.extend(workload_args.iter().map(|a| a.as_bytes().to_vec()));
    let options = Options {
        target: Target::Command(words),
        ..Options::default()
    };
    if session::run(program, &options)? != 0 {
        bail!("the session failed");
    }
    Ok(())
}

/// What a hit costs: without a probe, with Spile's, with the kernel's.
fn cost(exe: &Path) -> Result<()> {
    let file = ResultFile::new()?;
    let path = file.0.to_string_lossy().into_owned();
    println!("cost of counting the calls of one function (median, ns per call):");
    let calls = "20000000";
    let status = Command::new(exe)
        .args(["demo-workload", "measure", calls, &path])
        .status()?;
    let plain = file
        .read()
        .with_context(|| format!("measuring the workload ({status})"))?;
    println!("  {:<28} {plain:>10.2}", "not probed");
    probe(COUNT_SCRIPT, &[], exe, &["measure", calls, &path])?;
    let spile = file.read()?;
    println!(
        "  {:<28} {spile:>10.2}   + {:.2}",
        "spile, n++",
        spile - plain
    );
    match kernel_cost(exe, &path, &file) {
        Ok(kernel) => {
            let ratio = (kernel - plain) / (spile - plain).max(0.01);
            println!(
                "  {:<28} {kernel:>10.2}   + {:.2}  ({ratio:.0} times spile's)",
                "kernel uprobe, counting",
                kernel - plain
            );
        }
        Err(error) => println!(
            "  {:<28} not permitted here: {error:#}",
            "kernel uprobe, counting"
        ),
    }
    Ok(())
}

fn kernel_cost(exe: &Path, path: &str, file: &ResultFile) -> Result<f64> {
    let binary = symbols::Binary::open(exe)?;
    let functions = binary.functions_matching("demo_measured");
    let function = functions.first().context("no symbol demo_measured")?;
    let address = function.address.0;
    let segment = binary
        .load_segments()
        .iter()
        .find(|s| (s.vaddr.0..s.vaddr.0 + s.file_size).contains(&address))
        .context("demo_measured is in no segment")?;
    let offset = address - segment.vaddr.0 + segment.file_offset.0;
    let mut child = Command::new(exe)
        .args([
            OsStr::new("demo-workload"),
            OsStr::new("measure-when-told"),
            OsStr::new("20000"),
            OsStr::new(path),
        ])
        .stdin(Stdio::piped())
        .spawn()?;
    let probe = uprobe::attach(exe, offset, child.id());
    drop(child.stdin.take());
    child.wait()?;
    probe?;
    file.read()
}

/// A file through which the workload says what it measured; removed when dropped.
struct ResultFile(PathBuf);

impl ResultFile {
    /// A file that was not there before: nobody else's link is followed.
    fn new() -> Result<ResultFile> {
        let path = std::env::temp_dir().join(format!("spile-demo-{}", std::process::id()));
        std::fs::File::create_new(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(ResultFile(path))
    }

    fn read(&self) -> Result<f64> {
        let text = std::fs::read_to_string(&self.0).context("the workload left no result")?;
        std::fs::write(&self.0, "")?;
        text.trim()
            .parse()
            .with_context(|| format!("the workload's result '{text}'"))
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        // What is left over in the temporary directory does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}
