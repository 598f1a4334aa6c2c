//! `timer.profile` and `perf` probes: the sampled thread's identity, registers and stack.

use spile_tests::{Scratch, stap};

const BUSY: &str = r#"
#include <pthread.h>
#include <time.h>
static volatile long n;
__attribute__((noinline)) long spin(long x) { for (int i = 0; i < 1000; i++) { x = x * 31 + i; __asm__ volatile("" : "+r"(x)); } return x; }
__attribute__((noinline)) void hot(void) { n += spin(n); }
static double used(void) { struct timespec t; clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void *work(void *a) { double end = used() + 0.4; while (used() < end) for (int i = 0; i < 100; i++) hot(); return a; }
int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); work(0); pthread_join(t, 0); return 0; }
"#;

#[test]
fn a_profile_names_threads_functions_and_stacks() {
    let scratch = Scratch::new("sampling-busy");
    let program = scratch.compile("busy.c", BUSY, &["-O2", "-g", "-pthread"]);
    let script = r#"global n, functions, threads, stacks, strangers
        probe timer.profile {
          n++
          functions[usymname(uaddr())]++
          threads[tid() == pid()]++
          if (pid() != target() || execname() != "busy") strangers++
          if (usymname(uaddr()) == "spin") stacks[usymname(ustack(1)) . " " . usymname(ustack(2))]++
        }
        probe end {
          printf("many %d\n", n > 50)
          printf("hot %d\n", functions["spin"] + functions["hot"] > n / 2)
          printf("threads %d %d\n", threads[0] > 0, threads[1] > 0)
          printf("strangers %d\n", strangers)
          foreach (s in stacks- limit 1) println(s)
        }"#;
    let out = stap(&["-e", script, "-c", &program.to_string_lossy()])
        .ok()
        .stdout;
    assert_eq!(out, "many 1\nhot 1\nthreads 1 1\nstrangers 0\nhot work\n");
}

const TOUCH: &str = r#"
#include <sys/mman.h>
__attribute__((noinline)) void touch(volatile char *p) { for (int i = 0; i < 1000; i++) p[i * 4096L] = 1; }
int main(void) {
  char *p = mmap(0, 1000 * 4096L, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  madvise(p, 1000 * 4096L, MADV_NOHUGEPAGE);
  touch(p);
  return 0;
}"#;

#[test]
fn every_page_fault_is_seen_where_it_happens() {
    let scratch = Scratch::new("sampling-touch");
    let program = scratch.compile("touch.c", TOUCH, &["-O1", "-g"]);
    let program = program.to_string_lossy();
    for point in [
        "perf.sw.page_faults.sample(1)".to_owned(),
        "perf.type(1).config(2).sample(1)".to_owned(),
    ] {
        let script = format!(
            "global n probe {point} {{ if (usymname(uaddr()) == \"touch\") n++ }} probe end {{ println(n) }}"
        );
        let out = stap(&["-e", &script, "-c", &program]).ok().stdout;
        assert_eq!(out, "1000\n", "{point}");
    }
}

#[test]
fn what_cannot_be_sampled_is_said() {
    let script = "probe perf.type(99).config(0) { println(1) }";
    let outcome = stap(&["-e", script, "-c", "/bin/true"]);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    let message = "cannot open perf event type 99 config 0";
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    let outcome = stap(&["-e", "probe timer.profile { exit() }"]);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("unspecified process probe is invalid"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn only_the_named_program_is_sampled() {
    let scratch = Scratch::new("sampling-named");
    let program = scratch.compile("busy.c", BUSY, &["-O2", "-g", "-pthread"]);
    let program = program.to_string_lossy();
    let script = format!(
        "global n, m probe perf.sw.task_clock.process(\"{program}\") {{ n++ }} \
         probe perf.sw.task_clock.process(\"/bin/cat\") {{ m++ }} \
         probe end {{ printf(\"%d %d\\n\", n > 50, m) }}"
    );
    let out = stap(&["-w", "-e", &script, "-c", &program]).ok().stdout;
    assert_eq!(out, "1 0\n");
}

/// Each thread writes its part, and the program says what it did. The `int` is written whole or in part.
const WRITES: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
volatile int shared;
static volatile long mine;
volatile char text[64];
__attribute__((noinline)) void change(int by) { shared = by; }
__attribute__((noinline)) int look(void) { return shared; }
static void *work(void *a) { for (int i = 0; i < 1000; i++) change(i); return a; }
int main(void) {
  pthread_t t[3];
  for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, work, 0);
  for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
  for (int i = 0; i < 50; i++) look();
  ((volatile char *)&shared)[2] = 1;
  mine = 7;
  for (int i = 0; i < 64; i++) text[i] = 'x';
  if (fork() == 0) { change(1); change(2); _exit(0); }
  wait(0);
  printf("%p\n", (void *)text);
  return 0;
}"#;

#[test]
fn every_write_to_a_variable_is_seen_in_all_threads_and_children() {
    let scratch = Scratch::new("sampling-writes");
    for (name, option) in [("pie", "-pie"), ("fixed", "-no-pie")] {
        let program = scratch.compile("writes.c", WRITES, &["-O2", "-g", "-pthread", option]);
        let script = r#"global n, by, others, m
            probe process.data("shared").write {
              n++
              by[usymname(uaddr())]++
              if (pid() != target()) others++
            }
            probe process.data("mine").rw { m++ }
            probe end {
              printf("%d %d %d %d\n", n, by["change"], others, m)
            }"#;
        let out = stap(&["-e", script, "-c", &program.to_string_lossy()]);
        assert!(
            out.stdout.ends_with("3003 3002 2 1\n"),
            "{name}: {} {}",
            out.stdout,
            out.stderr
        );
    }
}

#[test]
fn memory_is_watched_by_address_and_length_for_reads_and_writes() {
    let scratch = Scratch::new("sampling-addresses");
    let program = scratch.compile("writes.c", WRITES, &["-O1", "-g", "-pthread", "-no-pie"]);
    let program = program.to_string_lossy();
    let table = {
        let mut nm = std::process::Command::new("nm");
        nm.arg(&*program);
        spile_tests::run(nm).stdout
    };
    let address = |name: &str| {
        let line = table
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let line = line.expect("a symbol");
        u64::from_str_radix(line.split(' ').next().expect("a word"), 16).expect("an address")
    };
    let (shared, text) = (address("shared"), address("text"));
    let script = format!(
        r#"global rw, one, four, rest
        probe process("{program}").data({shared:#x}).length(4).rw {{ rw++ }}
        probe process.data({text:#x}).write {{ one++ }}
        probe process.data({text:#x}).length(3).write {{ four++ }}
        probe process.data({:#x}).length(7).write {{ rest++ }}
        probe end {{ printf("%d %d %d %d\n", rw, one, four, rest) }}"#,
        text + 8
    );
    let out = stap(&["-e", &script, "-c", &program]).ok().stdout;
    // 3003 writes and 50 reads.
    assert!(out.ends_with("3053 1 4 8\n"), "{out}");
}

#[test]
fn what_cannot_be_watched_is_said() {
    let scratch = Scratch::new("sampling-unwatched");
    let program = scratch.compile("writes.c", WRITES, &["-O1", "-g", "-pthread"]);
    let program = program.to_string_lossy();
    for (point, message) in [
        (
            "process.data(\"nothing\").write",
            "no variable 'nothing' in process",
        ),
        (
            "process.data(0x4000).length(16).rw",
            "the processor watches 8 at most",
        ),
    ] {
        let script = format!("probe {point} {{ println(1) }}");
        let outcome = stap(&["-e", &script, "-c", &program]);
        assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
    let five = "process.data(\"shared\").write, process.data(\"mine\").write, process.data(\"text\").write, process.data(\"text\").rw, process.data(\"shared\").rw";
    let outcome = stap(&["-e", &format!("probe {five} {{ next }}"), "-c", &program]);
    let message = "too many hardware breakpoint probes requested for x86_64 (5 vs. 4)";
    assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("four watchpoints are in use"),
        "{}",
        outcome.stderr
    );
}
