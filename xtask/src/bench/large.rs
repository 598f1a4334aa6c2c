//! Script to first hit on a program with 100 MB and more of debugging information.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::contender::{Contender, Workshop, expect_success};
use crate::bounded;
use crate::workspace;

const LIMIT: Duration = Duration::from_secs(120);
/// Functions in the piece of which the program is made, each with a structure of its own.
const FUNCTIONS: usize = 6000;
/// Members of each structure, of each of two kinds.
const MEMBERS: usize = 10;
/// Copies of the piece.
const COPIES: usize = 30;

/// Runs a command and prints its milliseconds and the resident kilobytes of the largest process
/// it was or started, from wait4(2).
pub(super) const MEASURE: &str = "\
import os, sys, time
nothing = os.open(os.devnull, os.O_RDONLY)
start = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, nothing, 0)])
_, status, used = os.wait4(child, 0)
elapsed = time.monotonic() - start
print('measured', elapsed * 1e3, used.ru_maxrss, (used.ru_utime + used.ru_stime) * 1e3)
sys.exit(os.waitstatus_to_exitcode(status))
";

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// Whole process.
    pub milliseconds: f64,
    /// Largest resident set, in millions of bytes.
    pub megabytes: f64,
}

/// Builds the program, unless an earlier run did, and returns its size in millions of bytes.
/// One piece is compiled; copies of it with other symbols make up the size, which takes
/// seconds where compiling it all would take minutes.
pub fn build(workshop: &Workshop) -> Result<f64> {
    let directory = workshop.directory.join("large");
    let program = workshop.directory.join("large-target");
    if !program.exists() {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        fs::write(directory.join("piece.c"), piece()).context("piece.c")?;
        let here = |name: &str| {
            let mut command = Command::new(name);
            command.current_dir(&directory);
            command
        };
        expect_success(here("cc").args(["-O0", "-g", "-c", "piece.c"]))?;
        let mut link = here("cc");
        link.args(["-O2", "-g", "-pthread", "-o", "large"])
            .arg(workspace::root().join("xtask/bench/target.c"));
        for copy in 0..COPIES {
            let name = format!("piece{copy}.o");
            let prefix = format!("--prefix-symbols=copy{copy}_");
            expect_success(here("objcopy").args([prefix.as_str(), "piece.o", &name]))?;
            link.arg(name);
        }
        expect_success(&mut link)?;
        fs::rename(directory.join("large"), &program)?;
        fs::remove_dir_all(&directory)?;
    }
    Ok(fs::metadata(&program)?.len() as f64 / 1e6)
}

fn piece() -> String {
    let mut text = String::new();
    for i in 0..FUNCTIONS {
        let _ = write!(text, "struct record_{i} {{");
        for k in 0..MEMBERS {
            let _ = write!(text, " int field_{i}_{k}; char *name_{i}_{k};");
        }
        let _ = writeln!(
            text,
            " }};\n\
             long piece_{i}(struct record_{i} *first, int second, const char *third)\n\
             {{\n\
             long total_{i} = second;\n\
             for (int index_{i} = 0; index_{i} < second; index_{i}++) {{\n\
             struct record_{i} *each_{i} = first + index_{i};\n\
             total_{i} += each_{i}->field_{i}_1 + third[0];\n\
             }}\n\
             return total_{i};\n\
             }}"
        );
    }
    text
}

/// One run of a contender: a probe in one function, which prints at the first hit and ends.
pub fn first_hit(workshop: &Workshop, contender: Contender) -> Result<Large> {
    let target = "./large-target function 1 1 0 result";
    let mut command = Command::new("python3");
    command
        .args(["-c", MEASURE])
        .current_dir(&workshop.directory);
    match contender {
        Contender::Spile => {
            let script = "probe process.function(\"work\") { println(\"hi\") exit() }";
            command
                .arg(&workshop.spile)
                .args(["stap", "-e", script, "-c", target]);
        }
        Contender::Bpftrace => {
            let program = format!(
                "uprobe:{}:work {{ printf(\"hi\\n\"); exit(); }}",
                workshop.directory.join("large-target").display()
            );
            command.args(["bpftrace", "-q", "-e", &program, "-c", target]);
        }
        _ => bail!("not measured"),
    }
    let outcome = bounded::run(&mut command, LIMIT)?;
    if !outcome.success() {
        bail!("{}", outcome.failure(LIMIT));
    }
    if !outcome.stdout.lines().any(|line| line == "hi") {
        bail!("nothing was printed");
    }
    let mut words = outcome
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("measured "))
        .context("no measurement")?
        .split(' ');
    let mut next = || -> Result<f64> { Ok(words.next().context("no measurement")?.parse()?) };
    Ok(Large {
        milliseconds: next()?,
        megabytes: next()? * 1024.0 / 1e6,
    })
}
