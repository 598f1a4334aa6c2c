//! Programs that do not live on glibc's terms: Go without a C library, static musl, node, a JVM. A million hits, every one
//! counted, in a second session after a first one came and went.

use spile_tests::{Guard, Scratch, line, need, spawn, spile_path, stap};
use std::io::{BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

/// Attaches to a program that waits for a byte, lets go, attaches again, sends the byte, and expects what the program
/// prints at its end and a million hits.
fn count_a_million(program: &mut Command, point: &str, printed: &str) {
    let mut child: Child = program
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let mut input = child.stdin.take().expect("a pipe");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let pid = child.id().to_string();
    let mut target = Guard(child);
    assert_eq!(line(&mut output), "ready");

    let short = format!("probe {point} {{ next }} probe timer.ms(1) {{ exit() }}");
    stap(&["-x", &pid, "-e", &short]).ok();

    let long = format!(
        "global n, up probe {point} {{ n++ }} probe timer.ms(1) {{ if (!up++) println(\"up\") }}
         probe end {{ println(n) }}"
    );
    let (_session, mut said) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", &long]));
    assert_eq!(line(&mut said), "up");
    input.write_all(b"\n").expect("a byte");
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("its output");
    assert_eq!(rest.trim_end(), printed);
    assert!(target.0.wait().expect("its end").success());
    assert_eq!(line(&mut said), "1000000");
}

/// The handlers run on goroutines' stacks, which begin with a few KiB and move.
#[test]
fn a_million_calls_in_goroutines_are_counted() {
    need("/usr/bin/go");
    let scratch = Scratch::new("go");
    let source = scratch.write(
        "calls.go",
        r#"package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
)

//go:noinline
func work(a, b int) int { return a*3 + b }

//go:noinline
func deep(n int) int {
	var room [64]byte
	if n == 0 {
		return int(room[0])
	}
	return deep(n-1) + 1
}

func main() {
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
	var wait sync.WaitGroup
	sums := make([]int, 10)
	for g := range sums {
		wait.Add(1)
		go func(g int) {
			defer wait.Done()
			for i := 0; i < 100000; i++ {
				sums[g] += work(i, g)
				if i%1000 == 0 {
					runtime.Gosched()
					if deep(i/100) != i/100 {
						os.Exit(1)
					}
				}
				if i%20000 == 0 {
					runtime.GC()
				}
			}
		}(g)
	}
	wait.Wait()
	total := 0
	for _, sum := range sums {
		total += sum
	}
	fmt.Println(total)
}
"#,
    );
    let program = scratch.path("calls");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(&source)
        .env("CGO_ENABLED", "0")
        .env("GOCACHE", scratch.path("cache"))
        .env("GOPATH", scratch.path("path"))
        .status()
        .expect("go");
    assert!(built.success());
    // 3 * 10 * (0 + … + 99999), and 100000 * (0 + … + 9).
    let total = 30u64 * (99_999 * 100_000 / 2) + 100_000 * 45;
    count_a_million(
        &mut Command::new(&program),
        "process.function(\"main.work\")",
        &total.to_string(),
    );
}

#[test]
fn a_million_calls_in_a_static_musl_program_are_counted() {
    need("/usr/bin/musl-gcc");
    let scratch = Scratch::new("musl");
    let source = scratch.write(
        "calls.c",
        r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long work(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
static void *run(void *p) {
  long sum = 0;
  for (long i = 0; i < 250000; i++) sum += work(i);
  *(long *)p = sum;
  return 0;
}
int main(void) {
  pthread_t t[4];
  long sums[4], total = 0;
  char byte;
  puts("ready"); fflush(stdout);
  if (read(0, &byte, 1) != 1) return 1;
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, run, &sums[i]);
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0), total += sums[i];
  printf("%ld\n", total);
}"#,
    );
    let program = scratch.path("calls");
    let built = Command::new("musl-gcc")
        .args(["-static", "-O2", "-g", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .expect("musl-gcc");
    assert!(built.success());
    let total = 4 * (250_000u64 * 250_001 / 2);
    count_a_million(
        &mut Command::new(&program),
        "process.function(\"work\")",
        &total.to_string(),
    );
}

/// musl finds a thread that is to be cancelled by the place in its code at which it waits.
#[test]
fn threads_of_musl_programs_are_cancelled_where_they_wait() {
    need("/usr/bin/musl-gcc");
    let scratch = Scratch::new("cancelled");
    let source = scratch.write(
        "cancelled.c",
        r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int ends[2];
static volatile int waiting;
__attribute__((noinline, noclone)) long work(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
static void *run(void *p) {
  char byte;
  work(1);
  waiting = gettid();
  read(ends[0], &byte, 1);
  return 0;
}
int main(void) {
  pthread_t thread;
  void *result;
  char path[64], state = 0;
  if (pipe(ends) || pthread_create(&thread, 0, run, 0)) return 1;
  while (!waiting) ;
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", waiting);
  while (state != 'S') {
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%*d %*s %c", &state) != 1) return 1;
    fclose(file);
  }
  pthread_cancel(thread);
  pthread_join(thread, &result);
  puts(result == PTHREAD_CANCELED ? "cancelled" : "ended");
}"#,
    );
    for (name, kind) in [("static", "-static"), ("dynamic", "-rdynamic")] {
        let program = scratch.path(name);
        let built = Command::new("musl-gcc")
            .args([kind, "-O1", "-g", "-o"])
            .args([&program, &source])
            .status()
            .expect("musl-gcc");
        assert!(built.success());
        let program = program.display().to_string();
        for point in [
            "process.function(\"work\")",
            "process.begin",
            "process.syscall",
        ] {
            let script = format!("global n probe {point} {{ n++ }} probe end {{ println(n > 0) }}");
            let outcome = stap(&["-w", "-e", &script, "-c", &program]).ok();
            assert_eq!(outcome.stdout, "cancelled\n1\n", "{kind} {point}");
        }
    }
}

/// A native function of node's own that JavaScript calls by way of compiled and garbage-collected code.
#[test]
fn a_million_native_calls_of_node_are_counted() {
    need("/usr/bin/node");
    let scratch = Scratch::new("node");
    let source = scratch.write(
        "calls.js",
        r#"
console.log("ready");
require("fs").readSync(0, Buffer.alloc(1));
let same = 0;
const parent = process.ppid;
for (let i = 0; i < 999999; i++) if (process.ppid === parent) same++;
console.log(same);
"#,
    );
    count_a_million(
        Command::new("node").arg(&source),
        "process.function(\"uv_os_getppid\") ?, process.library(\"libuv.so*\").function(\"uv_os_getppid\") ?",
        "999999",
    );
}

/// A native function of the class library that Java calls by way of interpreted and compiled code.
#[test]
fn a_million_native_calls_of_java_are_counted() {
    need("/usr/bin/javac");
    let scratch = Scratch::new("java");
    let source = scratch.write(
        "Calls.java",
        r#"
public class Calls {
  public static void main(String[] words) throws java.io.IOException {
    System.out.println("ready");
    System.in.read();
    Runtime runtime = Runtime.getRuntime();
    int positive = 0;
    byte[] garbage = null;
    for (int i = 0; i < 1000000; i++) {
      if (runtime.freeMemory() > 0) positive++;
      if (i % 1000 == 0) garbage = new byte[1 << 20];
    }
    System.out.println(positive + (garbage == null ? 1 : 0));
  }
}
"#,
    );
    let built = Command::new("javac").arg(&source).status().expect("javac");
    assert!(built.success());
    count_a_million(
        Command::new("java")
            .args(["-Xmx64m", "-cp"])
            .arg(scratch.path(""))
            .arg("Calls"),
        "process.library(\"libjava.so\").function(\"Java_java_lang_Runtime_freeMemory\")",
        "1000000",
    );
}
