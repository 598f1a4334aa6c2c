//! `process.thread.begin` and `process.thread.end`.

use spile_tests::{Scratch, stap};

/// 20 times 64 threads, of which every second one ends by pthread_exit(3), and one detached.
const THREADS: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static long sum;
static void *f(void *p) { __atomic_add_fetch(&sum, syscall(SYS_gettid), __ATOMIC_RELAXED); if ((long)p & 1) pthread_exit(0); return 0; }
int main(void) {
  pthread_t t[64];
  for (int round = 0; round < 20; round++) {
    for (long i = 0; i < 64; i++) if (pthread_create(&t[i], 0, f, (void *)i)) return 1;
    for (long i = 0; i < 64; i++) pthread_join(t[i], 0);
  }
  printf("%ld\n", sum);
  return 0;
}"#;

#[test]
fn every_thread_begins_and_ends_once() {
    let scratch = Scratch::new("threads");
    let program = scratch.compile("threads.c", THREADS, &["-O2", "-pthread"]);
    let script = "global begun, ended, tids, wrong
        probe process.thread.begin { begun++; tids += tid(); if (pid() != target()) wrong++ }
        probe process.thread.end { ended++; if (pid() != target() || tid() == pid()) wrong++ }
        probe end { printf(\"%d %d %d %d\\n\", tids, begun, ended, wrong) }";
    let outcome = stap(&["-e", script, "-c", &program.display().to_string()]).ok();
    let (sum, rest) = outcome.stdout.split_once('\n').expect("two lines");
    assert_eq!(rest, format!("{sum} 1280 1280 0\n"), "{}", outcome.stderr);
}
