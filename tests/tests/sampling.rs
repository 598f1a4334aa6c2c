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
        outcome.stderr.contains("no process to probe"),
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
