//! Attach, probe, detach, again and again, with random probes, on a program that checks its own arithmetic; tracers and
//! programs killed at random moments. `cargo xtask soak` runs the same for longer.

use spile_tests::{Guard, Outcome, Scratch, finish, line, spile_path, stap, until};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

/// The program.
const SOAK: &str = include_str!("../targets/soak.c");
/// A library that it loads and unloads.
const OTHER: &str = r#"
__attribute__((constructor)) static void begin(void) {}
long other(long a) { __asm__ volatile("" ::: "memory"); return 3 * a; }
"#;
/// Functions that every thread of the program calls again and again, with what a handler can name there.
const FUNCTIONS: &[(&str, &str)] = &[
    ("leaf", "$a"),
    ("tail", "$a"),
    ("recurse", "$n"),
    ("loop", "$n"),
    ("choose", "$n"),
    ("scale", "1"),
    ("many", "$a + $b"),
    ("sum", "$count"),
    ("below", "$a"),
    ("swap", "$p->first"),
    ("thrower", "$a"),
    ("catcher", "$a"),
    ("same", "1"),
    ("negate", "2"),
    ("tight", "3"),
    ("on_signal", "$number"),
    ("on_signal_called", "$a"),
    ("nap", "$microseconds"),
];
/// Those that return to their callers, and as functions in C.
const RETURNING: &[&str] = &[
    "leaf", "tail", "recurse", "loop", "choose", "many", "sum", "below", "nap",
];
/// Probes of many functions at a time.
const WIDE: &[&str] = &[
    "process.function(\"*\")",
    "process.function(\"c*\")",
    "process.library(\"libc.so.6\").function(\"*sleep*\")",
    "process.library(\"libc.so.6\").function(\"*lock*\")",
    "process.library(\"libc.so.6\").function(\"m*\")",
];
/// What is done at a hit, to a global of that name; `VALUE` is something of the function's.
const ACTIONS: &[(&str, &str)] = &[
    ("n", "n++"),
    ("s", "s <<< VALUE"),
    ("t", "t[VALUE & 15]++"),
    ("d", "d[tid(), VALUE & 3] <<< VALUE"),
    ("last", "last = VALUE"),
    (
        "text",
        "text[VALUE & 7] = sprintf(\"%d %s\", VALUE, ppfunc())",
    ),
    (
        "hits",
        "if (hits++ % 50 == 0) printf(\"%d %s\\n\", VALUE, execname())",
    ),
    ("b", "b[ubacktrace() != \"\"]++"),
];

/// As random as the test's own numbers are: the same each time, unless `SPILE_SOAK_SEED` says another.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = number("SPILE_SOAK_SEED", 1);
        println!("SPILE_SOAK_SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text}"))
    })
}

/// A script with random probes that ends by itself after some hits.
fn script(random: &mut Random) -> String {
    let mut globals = BTreeSet::new();
    let mut probes = String::new();
    for _ in 0..random.below(4) {
        let (point, value) = match random.below(4) {
            0 => (random.of(WIDE).to_string(), "4"),
            1 => {
                let function = random.of(RETURNING);
                (
                    format!("process.function(\"{function}\").return"),
                    "$return",
                )
            }
            _ => {
                let (function, value) = random.of(FUNCTIONS);
                (format!("process.function(\"{function}\")"), value)
            }
        };
        let (global, action) = random.of(ACTIONS);
        globals.insert(global);
        let action = action.replace("VALUE", &format!("({value})"));
        probes.push_str(&format!("probe {point} {{ {action} }}\n"));
    }
    // Hits end it, which shows that there are some.
    let (function, _) = random.of(FUNCTIONS);
    let end = random.of(&[
        "global left = 40 probe POINT { if (--left < 0) exit() }",
        "global m probe POINT { m++ } probe timer.ms(2) { if (m > 0) exit() }",
        "global u probe POINT { u <<< 1 } probe timer.ms(2) { if (@count(u) > 9) exit() }",
    ]);
    let globals: String = globals
        .iter()
        .map(|name| format!("global {name}\n"))
        .collect();
    let end = end.replace("POINT", &format!("process.function(\"{function}\")"));
    format!("{globals}{probes}{end}\n")
}

/// The running program.
struct Target {
    process: Guard,
    output: BufReader<ChildStdout>,
    pid: String,
    mappings: Vec<String>,
    descriptors: Vec<String>,
}

impl Target {
    fn start(program: &Path, threads: u32) -> Target {
        let library = program.with_file_name("other.so");
        let mut child = Command::new(program)
            .arg(threads.to_string())
            .env("SOAK_LIBRARY", library)
            // The C library makes memory of its own for threads that get in each other's way, which is no leak of ours.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut output = child.stdout.take().map(BufReader::new).expect("a pipe");
        let pid = child.id().to_string();
        let process = Guard(child);
        assert_eq!(line(&mut output), "ready");
        Target {
            mappings: mappings(&pid),
            descriptors: descriptors(&pid),
            process,
            output,
            pid,
        }
    }

    /// Fails with what the program said, if it has ended.
    fn assert_alive(&mut self, script: &str) {
        if let Some(status) = self.process.0.try_wait().expect("the program") {
            let mut said = String::new();
            let _ = self.output.read_to_string(&mut said);
            panic!("the program ended ({status}): {said}\nlast script:\n{script}");
        }
    }

    /// Nothing of ours is left in the process, and its code is what the files have.
    fn assert_clean(&self) {
        // The program's own threads and libraries come and go.
        until("the descriptors are what they were", || {
            descriptors(&self.pid) == self.descriptors
        });
        until("the mappings are what they were", || {
            let now = mappings(&self.pid);
            if now != self.mappings {
                println!("{:?}", difference(&now, &self.mappings));
            }
            now == self.mappings
        });
        assert_code_is_the_files(&self.pid);
    }

    /// Lets the program finish: every result must have been right.
    fn finish(mut self) {
        drop(self.process.0.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("its output");
        assert!(said.starts_with("right "), "{said}");
        assert!(self.process.0.wait().expect("its end").success());
    }
}

/// What is mapped for good, in order: no stacks and heaps of the program's own, no library that comes and goes.
fn mappings(pid: &str) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    maps.lines()
        .filter(|line| !line.contains("/other.so") && !line.ends_with("[heap]"))
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (range, perms) = (words.next()?, words.next()?);
            let name = words.nth(3).unwrap_or("");
            let (start, end) = range.split_once('-')?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let len = u64::from_str_radix(end, 16).ok()? - start;
            Some(format!("{start:x} {len:x} {perms} {name}"))
        })
        .collect()
}

fn difference(now: &[String], before: &[String]) -> Vec<String> {
    let more = now.iter().filter(|line| !before.contains(line));
    let less = before.iter().filter(|line| !now.contains(line));
    more.map(|line| format!("+{line}"))
        .chain(less.map(|line| format!("-{line}")))
        .collect()
}

fn descriptors(pid: &str) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let mut all: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let to = std::fs::read_link(entry.path()).ok()?;
            let to = to.to_string_lossy().into_owned();
            (!to.ends_with("/other.so")).then(|| format!("{:?} {to}", entry.file_name()))
        })
        .collect();
    all.sort();
    all
}

/// Every page of code that comes from a file is as the file has it.
fn assert_code_is_the_files(pid: &str) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("memory");
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut compared = 0;
    for line in maps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [range, perms, offset, _, _, path] = words[..] else {
            continue;
        };
        if !perms.contains('x') || !path.starts_with('/') || path.ends_with("/other.so") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        let (start, end, offset) = (hex(start), hex(end), hex(offset) as usize);
        let file = files
            .entry(path.to_string())
            .or_insert_with(|| std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}")));
        let len = ((end - start) as usize).min(file.len() - offset);
        let mut code = vec![0; len];
        memory.read_exact_at(&mut code, start).expect("its code");
        let differing = (0..len).find(|&at| code[at] != file[offset + at]);
        assert_eq!(differing.map(|at| offset + at), None, "{path}");
        compared += 1;
    }
    assert!(compared >= 3, "{maps}");
}

fn build(scratch: &Scratch) -> std::path::PathBuf {
    scratch.compile("other.c", OTHER, &["-O2", "-g", "-shared", "-fPIC"]);
    std::fs::rename(scratch.path("other"), scratch.path("other.so")).expect("rename");
    scratch.compile("soak.c", SOAK, &["-O2", "-g", "-pthread"])
}

fn start_session(pid: &str, script: &str) -> std::process::Child {
    Command::new(spile_path())
        .args(["stap", "-x", pid, "-e", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spile")
}

/// It ended as it should; skipped probes and lost output may be told of.
fn assert_fine(outcome: &Outcome, script: &str) {
    assert!(
        outcome.status == Some(0) && !outcome.stderr.contains("ERROR"),
        "{:?}\n{}\n{}\n{script}",
        outcome.status,
        outcome.stderr,
        outcome.stdout
    );
}

#[test]
fn random_probes_come_and_go_and_every_result_is_right() {
    let scratch = Scratch::new("soak");
    let program = build(&scratch);
    let mut target = Target::start(&program, 64);
    let mut random = Random::new();
    let cycles = number("SPILE_SOAK_CYCLES", 200);
    let mut cycle = 0;
    while cycle < cycles {
        // Sometimes several at a time.
        let together = random.of(&[1, 1, 1, 2, 3]);
        let sessions: Vec<_> = (0..together)
            .map(|_| {
                let script = script(&mut random);
                (start_session(&target.pid, &script), script)
            })
            .collect();
        for (session, script) in sessions {
            let outcome = finish(session, &script);
            target.assert_alive(&script);
            assert_fine(&outcome, &script);
            cycle += 1;
        }
        if cycle % 1000 < together {
            println!("{cycle} cycles");
        }
    }
    target.assert_clean();
    target.finish();
}

#[test]
fn a_tracer_killed_at_any_moment_does_no_harm_and_is_cleared_away() {
    let scratch = Scratch::new("soak-tracer-killed");
    let program = build(&scratch);
    let mut target = Target::start(&program, 64);
    let mut random = Random::new();
    let sweep = "probe process.function(\"leaf\") { exit() }";
    let mut usual = Duration::from_millis(50);
    for kill in 0..number("SPILE_SOAK_KILLS", 40) {
        let script = script(&mut random);
        if kill % 10 == 0 {
            let begun = std::time::Instant::now();
            let outcome = finish(start_session(&target.pid, &script), &script);
            assert_fine(&outcome, &script);
            usual = begun.elapsed();
        }
        let mut session = start_session(&target.pid, &script);
        let moment = usual.mul_f64(random.below(1000) as f64 / 900.0);
        std::thread::sleep(moment);
        session.kill().expect("kill");
        session.wait().expect("its end");
        target.assert_alive(&script);
        if random.below(3) == 0 {
            assert_fine(&stap(&["-x", &target.pid, "-e", sweep]), &script);
        }
    }
    // Threads are in trampolines often: what is left goes with one of the next sessions.
    until("all is as it was", || {
        stap(&["-x", &target.pid, "-e", sweep]).ok();
        target.assert_alive(sweep);
        let now = mappings(&target.pid);
        if now != target.mappings {
            println!("{:?}", difference(&now, &target.mappings));
        }
        now == target.mappings
    });
    target.assert_clean();
    target.finish();
}

#[test]
fn a_program_killed_at_any_moment_ends_its_session() {
    let scratch = Scratch::new("soak-target-killed");
    let program = build(&scratch);
    let mut random = Random::new();
    let survivor = Target::start(&program, 8);
    for _ in 0..number("SPILE_SOAK_KILLS", 40) / 2 {
        let mut target = Target::start(&program, 8);
        let text = script(&mut random).replace("exit()", "n++");
        let session = start_session(&target.pid, &text);
        std::thread::sleep(Duration::from_micros(random.below(120_000) as u64));
        target.process.0.kill().expect("kill");
        let outcome = finish(session, &text);
        let said = &outcome.stderr;
        // Killed before it was attached to, it could not be.
        assert!(
            matches!(outcome.status, Some(0 | 1)) && !said.contains("panicked"),
            "{:?} {said}\n{text}",
            outcome.status
        );
    }
    survivor.assert_clean();
    survivor.finish();
}
