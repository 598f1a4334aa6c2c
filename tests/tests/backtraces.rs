//! Backtraces and names of addresses: as gdb sees them, without frame pointers, through signals, in code made at run time.

use spile_tests::{Scratch, need, run, stap};
use std::path::Path;
use std::process::Command;

const CHAIN: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define KEEP __attribute__((noinline, noclone))
KEEP int leaf(int a) { __asm__ volatile("" ::: "memory"); return a + 1; }
KEEP int wide(int n) { volatile char room[3000]; memset((char *)room, n, sizeof room); int r = leaf(n); return r + room[n]; }
KEEP int aligned(int n) { volatile int v[16] __attribute__((aligned(64))); v[n & 15] = n; int r = wide(n); return r + v[n & 15]; }
KEEP int deep(int n) { int r = n > 0 ? deep(n - 1) : aligned(n); __asm__ volatile("" ::: "memory"); return r + 1; }
int main(int argc, char **argv) { int r = deep(argc > 1 ? atoi(argv[1]) : 5); __asm__ volatile("" ::: "memory"); return r < 0; }
"#;

const FLAGS: [&str; 5] = ["-O2", "-fomit-frame-pointer", "-no-pie", "-rdynamic", "-g"];

/// The addresses that belong to a program linked at a fixed place: below 16 MiB.
fn own(text: &str) -> Vec<u64> {
    text.split_whitespace()
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .filter(|address| *address < 1 << 24)
        .collect()
}

fn chain_of(program: &Path) -> Vec<u64> {
    let script = "probe process.function(\"leaf\") { println(ubacktrace()) }";
    own(&stap(&["-e", script, "-c", &program.to_string_lossy()])
        .ok()
        .stdout)
}

#[test]
fn addresses_are_those_of_gdb() {
    need("/usr/bin/gdb");
    let scratch = Scratch::new("bt-gdb");
    let program = scratch.compile("chain.c", CHAIN, &FLAGS);
    let ours = chain_of(&program);
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-batch",
        "-nx",
        "-ex",
        "set debuginfod enabled off",
        "-ex",
        "set backtrace past-main on",
    ])
    .args([
        "-ex",
        "break *leaf",
        "-ex",
        "run",
        "-ex",
        "printf \"at 0x%lx\\n\", $pc",
        "-ex",
        "bt",
    ])
    .arg(&program);
    let text = run(gdb).ok().stdout;
    let mut theirs = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["at", address] => theirs.extend(own(address)),
            [number, address, "in", ..] if number.starts_with('#') && *number != "#0" => {
                theirs.extend(own(address));
            }
            _ => {}
        }
    }
    // leaf, wide, aligned, deep six times, main, _start.
    assert_eq!(theirs.len(), 11, "{text}");
    assert_eq!(ours, theirs, "{text}");
}

/// Before its return a function has restored what it saved, of which gcc's tables say nothing.
#[test]
fn before_a_return_the_callers_are_those_of_the_entry() {
    let scratch = Scratch::new("bt-return");
    for keeps in ["-fno-omit-frame-pointer", "-fomit-frame-pointer"] {
        let flags = ["-O2", keeps, "-no-pie", "-rdynamic", "-g"];
        let program = scratch.compile(&format!("chain{keeps}.c"), CHAIN, &flags);
        let script = "function names() { word = tokenize(ubacktrace(), \" \")
              text = \"\"
              while (word != \"\") {
                  if (strtol(word, 16) < 0x1000000) text .= usymname(strtol(word, 16)) . \" \"
                  word = tokenize(\"\", \" \")
              }
              return text }
            probe process.function(\"leaf\") { println(names()) }
            probe process.function(\"leaf\").return { println(names()) }
            probe process.function(\"aligned\").return { println(names()) }";
        let run = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
        let from = |first: usize| {
            let chain = "leaf wide aligned deep deep deep deep deep deep main _start";
            let names: Vec<&str> = chain.split(' ').skip(first).collect();
            names.join(" ") + " "
        };
        let lines: Vec<&str> = run.stdout.lines().collect();
        assert_eq!(lines, [from(0), from(0), from(2)], "{keeps}");
    }
}

#[test]
fn a_stripped_program_gives_the_same_addresses() {
    let scratch = Scratch::new("bt-strip");
    let program = scratch.compile("chain.c", CHAIN, &FLAGS);
    let whole = chain_of(&program);
    let stripped = scratch.path("stripped");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(&program);
    run(strip).ok();
    assert_eq!(whole.len(), 11);
    assert_eq!(chain_of(&stripped), whole);
}

#[test]
fn lines_have_the_documented_forms() {
    let scratch = Scratch::new("bt-forms");
    let program = scratch.compile("chain.c", CHAIN, &FLAGS);
    let path = program.to_string_lossy();
    let script = r#"probe process.function("leaf") {
        print_ubacktrace()
        println("-")
        print_ubacktrace_brief()
        println("-")
        print_ubacktrace_fileline()
        println("-")
        print(sprint_ubacktrace())
        println("-")
        print_usyms(ubacktrace())
        println("-")
        print(sprint_usyms(ubacktrace()))
        println("-")
        printf("%s|%s|%s\n", usymname(uaddr()), usymdata(uaddr()), umodname(uaddr()))
        printf("%s|%s\n", usymname(1), usymdata(1))
        printf("%s|%s\n", usymfile(uaddr()), usymline(1))
        printf("%d %d\n", ucallers(2) == sprintf("0x%x 0x%x 0x%x", ustack(0), ustack(1), ustack(2)), ustack(0) == uaddr())
        try { ustack(500) } catch (m) { println(m) }
        try { println(umodname(1)) } catch (m) { println(m) }
    }"#;
    let out = stap(&["-e", script, "-c", &path]).ok().stdout;
    let parts: Vec<&str> = out.split("-\n").collect();
    let [full, brief, lines, simple, usyms, sprinted, rest] = parts.as_slice() else {
        panic!("{out}");
    };
    let first = |text: &str| {
        let line = text.lines().find(|l| l.contains("leaf+0x0"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    let symbols = run({
        let mut nm = Command::new("nm");
        nm.args(["-n", "--defined-only"]).arg(&program);
        nm
    });
    let symbols: Vec<(u64, String)> = symbols
        .ok()
        .stdout
        .lines()
        .filter_map(|l| {
            let mut words = l.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            Some((address, words.nth(1)?.to_owned()))
        })
        .collect();
    let at = symbols.iter().position(|s| s.1 == "leaf").expect("leaf");
    let (leaf, next) = (symbols[at].0, symbols[at + 1].0);
    let data = format!("leaf+0x0/{:#x} [{path}]", next - leaf);
    assert_eq!(first(full), format!(" {leaf:#x} : {data}"));
    assert_eq!(first(brief), "leaf+0x0");
    let source = scratch.path("chain.c");
    let source = source.to_string_lossy();
    assert_eq!(
        first(lines),
        format!(
            " {leaf:#x} : leaf+0x0/{:#x} at {source}:6 [{path}]",
            next - leaf
        )
    );
    assert_eq!(first(simple), format!("leaf+0x0 [{path}]"));
    assert_eq!(full, usyms);
    assert_eq!(full.lines().next(), sprinted.lines().next());
    let names: Vec<&str> = brief
        .lines()
        .map(|l| l.split('+').next().unwrap_or(l))
        .collect();
    let expected = [
        "leaf", "wide", "aligned", "deep", "deep", "deep", "deep", "deep", "deep", "main",
    ];
    assert_eq!(names.get(..10), Some(&expected[..]), "{brief}");
    assert_eq!(names.last(), Some(&"_start"));
    let rest: Vec<&str> = rest.lines().collect();
    assert_eq!(rest[0], format!("leaf|{data}|{path}"));
    assert_eq!(rest[1], "0x1|0x1");
    assert_eq!(rest[2], format!("{source}|0x1"));
    assert_eq!(rest[3], "1 1");
    assert_eq!(
        rest[4],
        "reached end of stack before unwinding to level 500"
    );
    assert_eq!(rest[5], "module cannot be found");
}

#[test]
fn maxbacktrace_bounds_the_frames() {
    let scratch = Scratch::new("bt-max");
    let program = scratch.compile("chain.c", CHAIN, &FLAGS);
    let command = format!("{} 300", program.display());
    let script = "probe process.function(\"leaf\") { print_ubacktrace_brief() }";
    let count = |more: &[&str]| {
        let mut args = more.to_vec();
        args.extend(["-e", script, "-c", &command]);
        let out = stap(&args).ok().stdout;
        out.lines().filter(|l| l.contains('+')).count()
    };
    // stap(1): 20 by default.
    assert_eq!(count(&[]), 20);
    assert_eq!(count(&["-D", "MAXBACKTRACE=7"]), 7);
    // leaf, wide, aligned, deep 301 times, main, two of libc, _start.
    assert_eq!(count(&["-D", "MAXBACKTRACE=1000"]), 3 + 301 + 1 + 2 + 1);
}

const SIGNAL: &str = r#"
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
void trap_at_entry(void);
/* The function before it has a frame: whoever looks a byte below finds the wrong rule. */
__asm__(".text\n.globl before_it\n.type before_it,@function\nbefore_it:\n .cfi_startproc\n sub $72,%rsp\n .cfi_adjust_cfa_offset 72\n"
        " nop\n .cfi_endproc\n.size before_it,.-before_it\n"
        ".globl trap_at_entry\n.type trap_at_entry,@function\ntrap_at_entry:\n .cfi_startproc\n ud2\n ret\n .cfi_endproc\n"
        ".size trap_at_entry,.-trap_at_entry\n");
__attribute__((noinline)) void in_handler(void) { __asm__ volatile("" ::: "memory"); }
static void on_signal(int n, siginfo_t *i, void *c) { in_handler(); ((ucontext_t *)c)->uc_mcontext.gregs[REG_RIP] += 2; }
__attribute__((noinline)) void outer(void) { trap_at_entry(); __asm__ volatile("" ::: "memory"); }
int main(int argc, char **argv) {
  struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | (argc > 1 ? SA_ONSTACK : 0) };
  stack_t other = { .ss_sp = malloc(65536), .ss_size = 65536 };
  sigaltstack(&other, 0);
  sigaction(SIGILL, &sa, 0);
  outer();
  puts("done");
  return 0;
}"#;

#[test]
fn through_signal_handlers_also_on_a_stack_of_their_own() {
    let scratch = Scratch::new("bt-signal");
    let program = scratch.compile("signal.c", SIGNAL, &["-O2", "-g"]);
    for argument in ["", " altstack"] {
        let command = format!("{}{argument}", program.display());
        let script = "probe process.function(\"in_handler\") { print_ubacktrace_brief() }";
        let out = stap(&["-e", script, "-c", &command]).ok().stdout;
        let names: Vec<&str> = out
            .lines()
            .filter(|l| *l != "done")
            .map(|l| l.split('+').next().unwrap_or(l))
            .collect();
        let (own, rest) = names.split_at(2.min(names.len()));
        assert_eq!(own, ["in_handler", "on_signal"], "{out}");
        // Between them the C library's return from signals, whose name is in its debugging symbols only.
        assert_eq!(
            rest.get(1..4),
            Some(&["trap_at_entry", "outer", "main"][..]),
            "{out}"
        );
        assert!(out.contains("trap_at_entry+0x0\n"), "{out}");
        assert_eq!(rest.last(), Some(&"_start"), "{out}");
    }
}

const GENERATED: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
static volatile int calls;
__attribute__((noinline)) void called_back(void) { calls++; calls++; }
int main(void) {
  /* push rbp; mov rbp, rsp; call *rdi; pop rbp; ret */
  static const unsigned char code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
  void *page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  printf("0x%lx\n", (unsigned long)page + 6);
  fflush(stdout);
  ((void (*)(void (*)(void)))page)(called_back);
  __asm__ volatile("" ::: "memory");
  return 0;
}"#;

#[test]
fn code_without_tables_is_followed_by_frame_pointers_and_has_no_name() {
    let scratch = Scratch::new("bt-jit");
    let program = scratch.compile("generated.c", GENERATED, &["-O1", "-g"]);
    let script = "probe process.function(\"called_back\") { print_ubacktrace() }";
    let out = stap(&["-e", script, "-c", &program.to_string_lossy()])
        .ok()
        .stdout;
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].contains(" : called_back+0x0/"), "{out}");
    assert_eq!(lines[2], format!(" {}", lines[0]), "{out}");
    assert!(lines[3].contains(" : main+0x"), "{out}");
}

const NAMES: &str = r#"
#include <cstdio>
namespace space { struct Thing { int method(int); }; }
__attribute__((noinline)) int space::Thing::method(int x) { __asm__ volatile("" ::: "memory"); return x + 1; }
int main() { space::Thing t; std::printf("%d\n", t.method(1)); }
"#;

#[test]
fn names_of_cxx_stay_as_they_are_in_the_symbol_table() {
    let scratch = Scratch::new("bt-cxx");
    let program = scratch.compile("names.cc", NAMES, &["-O1", "-g"]);
    // The table that stap generates for a program has mangled names.
    let script = "probe process.function(\"space::Thing::method\") { println(usymname(uaddr())) }";
    let out = stap(&["-e", script, "-c", &program.to_string_lossy()])
        .ok()
        .stdout;
    assert!(out.contains("_ZN5space5Thing6methodEi\n"), "{out}");
}

const COUNTED: &str = r#"
#include <pthread.h>
#define KEEP __attribute__((noinline, noclone))
KEEP int leaf(int a) { __asm__ volatile("" ::: "memory"); return a + 1; }
KEEP int by_a(int a) { int r = leaf(a); __asm__ volatile("" ::: "memory"); return r; }
KEEP int by_b(int a) { int r = by_a(a) + leaf(a); __asm__ volatile("" ::: "memory"); return r; }
static void *work(void *arg) {
  for (int i = 0; i < 50000; i++) { (void)by_b(i); __asm__ volatile("" ::: "memory"); }
  return 0;
}
int main(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, work, 0);
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  return 0;
}"#;

#[test]
fn stacks_of_four_threads_are_counted_exactly() {
    let scratch = Scratch::new("bt-count");
    let program = scratch.compile("counted.c", COUNTED, &["-O2", "-g", "-pthread"]);
    let script = r#"global s, names
        probe process.function("leaf") { s[ubacktrace()]++ names[usymname(ustack(1))]++ }
        probe end {
          foreach (bt+ in s) { printf("%d\n", s[bt]) print_usyms(bt) }
          foreach (name+ in names) printf("%s %d\n", name, names[name])
        }"#;
    let out = stap(&["-e", script, "-c", &program.to_string_lossy()])
        .ok()
        .stdout;
    let counts: Vec<&str> = out.lines().filter(|l| l.parse::<u32>().is_ok()).collect();
    assert_eq!(counts, ["200000", "200000"], "{out}");
    assert!(out.ends_with("by_a 200000\nby_b 200000\n"), "{out}");
    // Named after the process has gone.
    assert_eq!(out.matches(" : by_b+0x").count(), 2, "{out}");
    assert_eq!(out.matches(" : work+0x").count(), 2, "{out}");
}

#[test]
fn an_interpreters_deep_recursion() {
    need("/usr/bin/python3");
    let scratch = Scratch::new("bt-python");
    let source = scratch.write(
        "deep.py",
        "import os\n\
         def f(n):\n    \
             return os.getppid() if n == 0 else list(map(f, [n - 1]))\n\
         f(100); f(10); f(20); f(60)\n",
    );
    let script = r#"probe process.library("libc.so.6").function("getppid") { print_ubacktrace_brief() println("-") }"#;
    let command = format!("/usr/bin/python3 {}", source.display());
    let out = stap(&["-D", "MAXBACKTRACE=2000", "-e", script, "-c", &command])
        .ok()
        .stdout;
    let stacks: Vec<Vec<&str>> = out
        .split("-\n")
        .map(|s| s.lines().collect())
        .filter(|s: &Vec<&str>| !s.is_empty())
        .collect();
    assert_eq!(stacks.len(), 4, "{out}");
    // The first run is for the interpreter, which calls in other ways while it learns what is called.
    let depth = |n: usize| stacks[n].len() as i64;
    let (ten, forty) = (depth(2) - depth(1), depth(3) - depth(2));
    // The same frames for each level of recursion.
    assert!(
        ten >= 10 && ten % 10 == 0 && forty == 4 * ten,
        "{ten} {forty}\n{out}"
    );
    for stack in &stacks {
        assert!(
            stack.last().is_some_and(|l| l.starts_with("_start+")),
            "{out}"
        );
    }
}

#[test]
fn without_a_thread_there_is_no_stack() {
    let script = r#"probe begin { printf("[%s][%s]", ubacktrace(), sprint_ubacktrace()) print_ubacktrace() println(usymname(16)) exit() }"#;
    assert_eq!(stap(&["-e", script]).ok().stdout, "[][]0x10\n");
}
