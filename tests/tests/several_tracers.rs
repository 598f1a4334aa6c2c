//! Several sessions in one process, even at the same function, started and ended in any order, and debuggers between.

use spile_tests::{Guard, Scratch, line, need, run, spawn, spile_path, stap, until};
use std::io::{BufReader, Read, Write};
use std::process::{ChildStdout, Command, Stdio};

/// Each thread numbers its calls, so that a session which misses none between its first and its last sees as many
/// calls of a thread as the numbers say. The program checks what its functions return.
const WORKERS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long step(long thread, long number) {
  __asm__ volatile("" ::: "memory");
  return number + thread;
}
__attribute__((noinline, noclone)) long twice(long a) { __asm__ volatile("" ::: "memory"); return a * 2; }
static void *worker(void *p) {
  long thread = (long)p;
  for (long number = 0;; number++) {
    if (step(thread, number) != number + thread || twice(number) != 2 * number) { puts("wrong"); _exit(1); }
    if (number % 512 == 0) usleep(200);
  }
}
int main(void) {
  pthread_t t;
  for (long i = 1; i < 4; i++) pthread_create(&t, 0, worker, (void *)i);
  puts("ready"); fflush(stdout);
  worker(0);
}"#;

/// Says "up" once it is there, and at its end the count, the lowest and the highest number of each thread.
const NUMBERS: &str = r#"global s, up
probe process.function("step") { s[$thread] <<< $number }
probe timer.ms(10) { foreach (t in s) if (!up) { up = 1 println("up") } }
probe end { foreach (t in s) printf("%d %d %d\n", @count(s[t]), @min(s[t]), @max(s[t])) }"#;

/// The same with another function probed, too, and a handler that is part of the trampoline.
const MORE: &str = r#"global s, n, up
probe process.function("twice") { n++ }
probe process.function("step") { s[$thread] <<< $number }
probe process.library("libc.so.6").function("usleep") { n++ }
probe timer.ms(10) { foreach (t in s) if (!up) { up = 1 println("up") } }
probe end { if (n == 0) println("no count") foreach (t in s) printf("%d %d %d\n", @count(s[t]), @min(s[t]), @max(s[t])) }"#;

struct Session {
    spile: Guard,
    output: BufReader<ChildStdout>,
}

impl Session {
    fn start(pid: &str, script: &str) -> Session {
        let (spile, mut output) =
            spawn(Command::new(spile_path()).args(["stap", "-x", pid, "-e", script]));
        assert_eq!(line(&mut output), "up");
        Session { spile, output }
    }

    /// Interrupts it; no call may be missing.
    fn end(mut self) {
        interrupt(&self.spile);
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output");
        assert!(self.spile.0.wait().expect("its end").success(), "{rest}");
        let lines: Vec<&str> = rest.lines().collect();
        assert!(!lines.is_empty());
        for numbers in lines {
            let words: Vec<i64> = numbers
                .split(' ')
                .map(|word| word.parse().unwrap_or_else(|_| panic!("{rest}")))
                .collect();
            let [count, lowest, highest] = words[..] else {
                panic!("{rest}");
            };
            assert_eq!(count, highest - lowest + 1, "{rest}");
        }
    }
}

fn interrupt(process: &Guard) {
    let pid = process.0.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill").success());
}

fn start_target(scratch: &Scratch) -> (Guard, BufReader<ChildStdout>, String) {
    let program = scratch.compile("workers.c", WORKERS, &["-O2", "-g", "-pthread"]);
    let (target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id().to_string();
    (target, output, pid)
}

/// Addresses and protections of what is mapped.
fn mappings(pid: &str) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let two = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    maps.lines().map(two).collect()
}

/// gdb stops in the probed function, steps through it and into the trampoline, and lets go.
fn debug(pid: &str) {
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-nx", "-batch", "-p", pid]);
    for command in [
        "break step",
        "continue",
        "stepi 12",
        "continue",
        "backtrace 3",
        "info threads",
        "delete",
        "detach",
    ] {
        gdb.args(["-ex", command]);
    }
    let said = run(gdb);
    assert!(
        said.stdout.contains("Breakpoint 1, ") || said.stdout.contains("hit Breakpoint 1"),
        "{}\n{}",
        said.stdout,
        said.stderr
    );
}

#[test]
fn sessions_come_and_go_in_any_order_and_none_misses_a_call() {
    need("/usr/bin/gdb");
    let scratch = Scratch::new("several-tracers");
    let (mut target, _output, pid) = start_target(&scratch);
    let before = mappings(&pid);
    let mut sessions: Vec<Session> = Vec::new();
    // As random as the test's own numbers are.
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    for round in 0..24 {
        if sessions.len() < 4 && (sessions.is_empty() || random(5) < 3) {
            let script = if random(2) == 0 { NUMBERS } else { MORE };
            sessions.push(Session::start(&pid, script));
        } else {
            let index = random(sessions.len() as u64) as usize;
            sessions.swap_remove(index).end();
        }
        if round % 8 == 5 {
            debug(&pid);
        }
    }
    for session in sessions {
        session.end();
    }
    assert!(target.0.try_wait().expect("the target").is_none());
    assert_eq!(mappings(&pid), before);
}

/// Begins when it is told to, and `inner` waits until it is told to go on; the others have something to do afterwards, so
/// that they are callers.
const CALLS: &str = r#"
#include <stdio.h>
__attribute__((noinline)) int inner(int a) { puts("inside"); fflush(stdout); return getchar() + a; }
__attribute__((noinline)) int middle(int a) { return inner(a + 1) * 3; }
__attribute__((noinline)) int outer(int a) { return middle(a + 1) - 7; }
int main(void) { puts("ready"); fflush(stdout); int a = getchar(); printf("%d\n", outer(a)); return 0; }
"#;

#[test]
fn a_debugger_sees_past_replaced_return_addresses() {
    need("/usr/bin/gdb");
    let scratch = Scratch::new("several-gdb-frames");
    let options = ["-O2", "-g", "-fno-optimize-sibling-calls"];
    let program = scratch.compile("calls.c", CALLS, &options);
    let target = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut target = Guard(target.expect("a program"));
    let mut said = BufReader::new(target.0.stdout.take().expect("a pipe"));
    assert_eq!(line(&mut said), "ready");
    let pid = target.0.id().to_string();
    let script = r#"global n, up
        probe process.function("inner").return, process.function("middle").return { n <<< $return }
        probe timer.ms(10) { if (!up) { up = 1 println("up") } }
        probe end { printf("%d %d\n", @count(n), @sum(n)) }"#;
    let mut spile = Command::new(spile_path());
    spile.args([
        "stap",
        "-D",
        "SPILE_REPLACE_RETURNS=1",
        "-e",
        script,
        "-x",
        &pid,
    ]);
    let (mut spile, mut output) = spawn(&mut spile);
    assert_eq!(line(&mut output), "up");
    let mut input = target.0.stdin.take().expect("a pipe");
    input.write_all(b"\x01").expect("a byte");
    assert_eq!(line(&mut said), "inside");
    let mut gdb = Command::new("gdb");
    gdb.args(["-q", "-nx", "-batch", "-p", &pid]);
    gdb.args(["-ex", "backtrace", "-ex", "detach"]);
    let told = run(gdb);
    let frames = told.stdout.lines().filter(|line| line.starts_with('#'));
    let names = frames.filter_map(|frame| {
        let words: Vec<&str> = frame.split_whitespace().collect();
        let at = if words.get(2) == Some(&"in") { 3 } else { 1 };
        words.get(at).map(|word| (*word).to_owned())
    });
    let own: Vec<String> = names.skip_while(|name| name != "inner").collect();
    let expected = [
        "inner",
        "spile_return",
        "middle",
        "spile_return",
        "outer",
        "main",
    ];
    assert_eq!(own, expected, "{}\n{}", told.stdout, told.stderr);
    input.write_all(b"a").expect("a byte");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("its output");
    // outer(1), middle(2), inner(3), which adds 'a', 97.
    assert_eq!(rest, "293\n");
    assert!(target.0.wait().expect("its end").success());
    rest.clear();
    output
        .read_to_string(&mut rest)
        .expect("the session's output");
    assert_eq!(rest, "2 400\n");
    assert!(spile.0.wait().expect("its end").success());
}

#[test]
fn two_sessions_that_start_at_once_wait_for_each_other() {
    let scratch = Scratch::new("at-once");
    let (mut target, _output, pid) = start_target(&scratch);
    let before = mappings(&pid);
    for _ in 0..4 {
        let starting: Vec<_> = (0..3)
            .map(|_| {
                let pid = pid.clone();
                std::thread::spawn(move || Session::start(&pid, MORE))
            })
            .collect();
        let sessions = starting
            .into_iter()
            .map(|one| one.join().expect("a session"));
        let ending: Vec<_> = sessions
            .collect::<Vec<_>>()
            .into_iter()
            .map(|session| std::thread::spawn(move || session.end()))
            .collect();
        for one in ending {
            one.join().expect("an end");
        }
    }
    assert!(target.0.try_wait().expect("the target").is_none());
    assert_eq!(mappings(&pid), before);
}

#[test]
fn a_killed_session_leaves_the_others_exact_and_is_cleared_away() {
    let scratch = Scratch::new("one-killed");
    let (mut target, _output, pid) = start_target(&scratch);
    let before = mappings(&pid);
    let first = Session::start(&pid, NUMBERS);
    let mut killed = Session::start(&pid, MORE);
    let last = Session::start(&pid, MORE);
    killed.spile.0.kill().expect("kill");
    killed.spile.0.wait().expect("its end");
    first.end();
    last.end();
    // Threads are in trampolines nearly always: what is left goes with one of the next sessions.
    until("all is as it was", || {
        stap(&[
            "-x",
            &pid,
            "-e",
            "probe process.function(\"twice\") { exit() }",
        ])
        .ok();
        mappings(&pid) == before
    });
    assert!(target.0.try_wait().expect("the target").is_none());
}

#[test]
fn a_tracer_that_stays_is_named() {
    need("/usr/bin/strace");
    let scratch = Scratch::new("strace-stays");
    let (_target, _output, pid) = start_target(&scratch);
    let log = scratch.path("strace.log");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o"])
        .arg(&log)
        .args(["-e", "trace=none", "-p", &pid]);
    let (_strace, _) = spawn(&mut strace);
    until("strace is attached", || {
        std::fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
    });
    let outcome = stap(&["-x", &pid, "-e", NUMBERS]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.stderr.contains("strace"), "{}", outcome.stderr);
}
