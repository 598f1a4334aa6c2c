//! SDT marks in real programs, against bpftrace's counts and against arithmetic.

use spile_tests::{SDT_MACROS, Scratch, is_root, need, run, spile_path, stap};
use std::collections::BTreeMap;
use std::process::Command;

const PYTHON: &str = "/usr/bin/python3.11";

const PYTHON_PROGRAM: &str = r#"
import collections, gc, json
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
class Shape:
    def area(self): return 3
try:
    fib(15)
    for i in range(50):
        json.loads(json.dumps({"a": [i, Shape().area()]}))
    gc.collect()
    raise ValueError("caught")
except ValueError:
    pass
"#;

/// What `bpftrace` counts, `name → count`, from lines `@[…name]: count`.
fn bpftrace(program: &str, command: &str) -> BTreeMap<String, u64> {
    need("/usr/bin/bpftrace");
    let mut bpf = Command::new("bpftrace");
    bpf.args(["-e", program, "-c", command]);
    bpf.env("PYTHONHASHSEED", "0")
        .env("BPFTRACE_MAP_KEYS_MAX", "100000")
        .env("BPFTRACE_STRLEN", "128");
    let outcome = run(bpf).ok();
    let counts = outcome.stdout.lines().filter_map(|line| {
        let (key, count) = line.strip_prefix("@[")?.split_once("]: ")?;
        Some((
            key.rsplit(':').next().unwrap_or(key).to_string(),
            count.trim().parse().ok()?,
        ))
    });
    counts.collect()
}

fn tally(lines: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines.lines() {
        *counts.entry(line.to_string()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn python_marks_are_counted_as_bpftrace_counts_them() {
    need(PYTHON);
    assert!(
        is_root(),
        "bpftrace, which this test compares with, needs root"
    );
    let scratch = Scratch::new("python-marks");
    let file = scratch.write("program.py", PYTHON_PROGRAM);
    let command = format!("{PYTHON} -S {}", file.display());
    let expected = bpftrace(
        &format!("usdt:{PYTHON}:* {{ @[probe] = count(); }}"),
        &command,
    );
    let mut spile = Command::new(spile_path());
    spile.env("PYTHONHASHSEED", "0").args([
        "stap",
        "-e",
        r#"probe process.mark("*") { println($$name) }"#,
    ]);
    spile.args([
        "-D",
        "SPILE_RING=67108864",
        "-c",
        &format!("{PYTHON} -S {}", file.display()),
    ]);
    let outcome = run(spile).ok();
    let counted = tally(&outcome.stdout);
    for mark in [
        "function__entry",
        "function__return",
        "line",
        "gc__start",
        "import__find__load__start",
        "audit",
    ] {
        assert!(
            counted.get(mark).copied().unwrap_or(0) > 0,
            "{mark} never fired: {counted:?}\n{}",
            outcome.stderr
        );
    }
    assert_eq!(counted, expected);
}

#[test]
fn python_functions_are_counted_by_name_as_bpftrace_counts_them() {
    need(PYTHON);
    assert!(
        is_root(),
        "bpftrace, which this test compares with, needs root"
    );
    let scratch = Scratch::new("python-functions");
    let file = scratch.write("program.py", PYTHON_PROGRAM);
    let command = format!("{PYTHON} -S {}", file.display());
    let program = format!("usdt:{PYTHON}:function__entry {{ @[str(arg1)] = count(); }}");
    let expected = bpftrace(&program, &command);
    let script = r#"global c
        probe process("/usr/bin/python3.11").mark("function__entry") { c[user_string($arg2)]++ }
        probe end { foreach (f in c-) printf("%s %d\n", f, c[f]) }"#;
    let mut spile = Command::new(spile_path());
    spile
        .env("PYTHONHASHSEED", "0")
        .args(["stap", "-e", script]);
    spile.args(["-c", &format!("{PYTHON} -S {}", file.display())]);
    let counted: BTreeMap<String, u64> = run(spile)
        .ok()
        .stdout
        .lines()
        .filter_map(|line| {
            line.rsplit_once(' ')
                .map(|(f, n)| (f.to_string(), n.parse().unwrap_or(0)))
        })
        .collect();
    assert!(!expected.is_empty());
    assert_eq!(counted, expected);
}

#[test]
fn a_mark_in_libstdcxx_counts_every_throw_and_every_exception_is_caught() {
    let scratch = Scratch::new("throw");
    let program = scratch.compile(
        "throw.cc",
        r#"#include <cstdio>
        #include <stdexcept>
        int main() {
          int caught = 0;
          for (int i = 0; i < 100000; i++)
            try { throw std::runtime_error("x"); } catch (const std::exception &) { caught++; }
          std::printf("caught %d\n", caught);
        }"#,
        &["-O2"],
    );
    let script = r#"global n probe process.library("*libstdc++*").mark("throw") { n++ } probe end { println(n) }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["100000", "caught 100000"]);
}

#[test]
fn arguments_of_every_kind_of_operand_are_decoded() {
    let scratch = Scratch::new("operands");
    let source = SDT_MACROS.to_string()
        + r#"
        static int counter = 7;
        __attribute__((noinline)) void registers(long a, long b) { MARK2(test, registers, a, b); }
        __attribute__((noinline)) void widths(unsigned char byte, short word, unsigned dword) {
          __asm__ volatile(SDT_NOTE(test, widths, "1@%b0 -2@%w1 4@%k2 -1@%b0") :: "q"(byte), "r"(word), "r"(dword));
        }
        __attribute__((noinline)) void memory(const int *p, long i) {
          __asm__ volatile(SDT_NOTE(test, memory, "-4@4(%0) -4@(%0,%1,4) -4@8(%0,%1,4) -4@counter(%%rip) -4@$-3 8@$77")
                           :: "r"(p), "r"(i), "m"(counter));
        }
        int main(void) {
          int numbers[] = {10, -20, 30, 40, 50};
          registers(-1, 1L << 40);
          widths(200, -300, 4000000000u);
          memory(numbers, 2);
          return 0;
        }"#;
    let program = scratch.compile("operands.c", &source, &["-O1", "-no-pie"]);
    let script = r#"
        probe process.mark("registers") { printf("%s:%s %d %d\n", $$provider, $$name, $arg1, $arg2) }
        probe process.mark("widths") { printf("%d %d %d %d\n", $arg1, $arg2, $arg3, $arg4) }
        probe process.provider("te*").mark("mem*") { printf("%d %d %d %d %d %d\n", $arg1, $arg2, $arg3, $arg4, $arg5, $arg6) }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    assert_eq!(
        outcome.stdout,
        "test:registers -1 1099511627776\n200 -300 4000000000 -56\n-20 30 50 7 -3 77\n"
    );
}

#[test]
fn a_semaphore_is_up_while_its_mark_is_probed() {
    let scratch = Scratch::new("semaphore");
    let source = SDT_MACROS.replace(".8byte 0\\n", ".8byte demo_semaphore\\n")
        + r#"
        #include <stdio.h>
        __attribute__((section(".probes"), used)) unsigned short demo_semaphore;
        int main(void) {
          int fired = 0;
          for (int i = 0; i < 5; i++)
            if (*(volatile unsigned short *)&demo_semaphore) { fired++; MARK1(test, guarded, i); }
          printf("fired %d semaphore %d\n", fired, demo_semaphore);
          return 0;
        }"#;
    let program = scratch.compile("semaphore.c", &source, &["-O1", "-no-pie"]);
    let script = r#"probe process.mark("guarded") { println($arg1) }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1", "2", "3", "4", "fired 5 semaphore 1"]);
}

#[test]
fn a_note_that_lies_about_its_semaphore_does_not_change_code() {
    let scratch = Scratch::new("lying-semaphore");
    let source = SDT_MACROS.replace(".8byte 0\\n", ".8byte main\\n")
        + r#"
        #include <stdio.h>
        #include <string.h>
        int main(void) {
          unsigned char code[2];
          memcpy(code, (void *)main, 2);
          MARK1(test, lying, 1);
          printf("%02x%02x\n", code[0], code[1]);
          return 0;
        }"#;
    let program = scratch.compile("lying.c", &source, &["-O1", "-no-pie"]);
    let plain = run(Command::new(&program)).ok().stdout;
    let script = r#"probe process.mark("lying") { println("hit") }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, [plain.trim(), "hit"]);
}

#[test]
fn dynsdt_and_the_script_it_stands_for_report_the_same_hits() {
    need(PYTHON);
    let scratch = Scratch::new("dynsdt");
    let file = scratch.write("program.py", "def f(): pass\nf()\n");
    let file = file.to_string_lossy();
    let mut dynsdt = Command::new(spile_path());
    dynsdt.args(["dynsdt", PYTHON, "-S", &file]);
    let mut of_dynsdt = BTreeMap::new();
    for line in run(dynsdt).ok().stdout.lines() {
        let name = line
            .split([':', ' '])
            .nth(1)
            .unwrap_or_default()
            .to_string();
        *of_dynsdt.entry(name).or_insert(0) += 1;
    }
    let script = r#"probe process.mark("*"), process.library("*").mark("*")? { println($$name) }"#;
    let of_script = tally(
        &stap(&["-e", script, "-c", &format!("{PYTHON} -S {file}")])
            .ok()
            .stdout,
    );
    assert!(
        of_script.get("function__entry").copied().unwrap_or(0) > 1,
        "{of_script:?}"
    );
    assert_eq!(of_dynsdt, of_script);
}

#[test]
fn a_misspelt_mark_gets_near_matches() {
    let outcome = stap(&[
        "-e",
        r#"probe process.mark("function_entry") { next }"#,
        "-c",
        &format!("{PYTHON} -S -c 1"),
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("function__entry"),
        "{}",
        outcome.stderr
    );
}
