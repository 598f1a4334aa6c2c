//! What programs do to handlers: end threads in them, leave them by longjmp(3), fault, write over the arena. Neither side
//! may suffer.

use spile_tests::{Outcome, Scratch, line, run, spawn, spile_path, stap};
use std::io::Read;
use std::process::{Command, Stdio};

const HEAD: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long work(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
static void wrong(const char *what) { printf("wrong: %s\n", what); fflush(stdout); _exit(1); }
"#;

/// Compiles `HEAD` and `rest`.
fn compile(scratch: &Scratch, name: &str, rest: &str) -> String {
    let source = format!("{HEAD}{rest}");
    let program = scratch.compile(&format!("{name}.c"), &source, &["-O2", "-g", "-pthread"]);
    program.to_string_lossy().into_owned()
}

/// Runs a session on a program that says when it is ready and does not end by itself; it must outlive the session.
fn on_running(program: &str, words: &[&str]) -> Outcome {
    let (mut target, mut output) = spawn(&mut Command::new(program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id().to_string();
    let mut all = vec!["-x", &pid];
    all.extend(words);
    let outcome = stap(&all).ok();
    let ended = target.0.try_wait().expect("the program");
    assert!(ended.is_none(), "{ended:?} {}", line(&mut output));
    outcome
}

/// A thousand threads, one after the other, each with a thread pointer that was never seen before.
#[test]
fn slots_of_ended_threads_are_used_again() {
    let scratch = Scratch::new("slots");
    let program = compile(
        &scratch,
        "threads",
        r#"
static void *once(void *p) { return (void *)work((long)p); }
int main(void) {
  enum { SIZE = 64 << 10 };
  puts("ready"); fflush(stdout);
  for (long i = 0;; i++) {
    pthread_t t;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    /* Never unmapped: no stack is where another was. */
    char *stack = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || pthread_attr_setstack(&attributes, stack, SIZE)) wrong("stack");
    void *result;
    if (pthread_create(&t, &attributes, once, (void *)i) || pthread_join(t, &result)) wrong("thread");
    if ((long)result != i + 1) wrong("result");
    if (i % 16 == 0) usleep(20000);
  }
}"#,
    );
    // With 31 slots for threads, ten times as many are counted.
    let script = r#"global n, t
      probe process.function("work") { n++ t[tid()] <<< $a }
      probe timer.ms(10) { if (n > 310) exit() }
      probe end { foreach (x in t) m++ println(m > 310) }
      global m"#;
    let outcome = on_running(&program, &["-D", "SPILE_THREADS=32", "-e", script]);
    assert_eq!(outcome.stdout, "1\n", "{}", outcome.stderr);
}

/// Threads are cancelled, nearly always in a handler that holds a lock, while another takes the same.
#[test]
fn a_thread_cancelled_in_a_handler_leaves_no_lock_behind() {
    let scratch = Scratch::new("cancelled");
    let program = compile(
        &scratch,
        "cancel",
        r#"
__attribute__((noinline, noclone)) long short_lived(long a) { __asm__ volatile("" ::: "memory"); return a + 2; }
__attribute__((noinline, noclone)) long cancelled(long a) { __asm__ volatile("" ::: "memory"); return a + 3; }
static void *brief(void *p) {
  int old;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
  for (long i = 0;; i++) if (short_lived(i) != i + 2) wrong("brief");
}
static void *steady(void *p) { for (long i = 0;; i++) if (work(i) != i + 1) wrong("steady"); }
int main(void) {
  pthread_t t;
  pthread_create(&t, 0, steady, 0);
  puts("ready"); fflush(stdout);
  for (long i = 0;; i++) {
    void *result;
    if (pthread_create(&t, 0, brief, 0)) wrong("create");
    usleep(3000);
    if (pthread_cancel(t) || pthread_join(t, &result) || result != PTHREAD_CANCELED) wrong("cancel");
    if (cancelled(i) != i + 3) wrong("cancelled");
  }
}"#,
    );
    let script = r#"global last, work, c
      probe process.function("short_lived") { for (i = 0; i < 50; i++) last[i] = last[i] + $a }
      probe process.function("work") { for (i = 0; i < 50; i++) last[i] = $a work++ }
      probe process.function("cancelled") { c++ }
      probe timer.ms(10) { if (c > 50 && work > 5000) exit() }
      probe end { println("steady ", c > 50 && work > 5000) }"#;
    let outcome = on_running(&program, &["-D", "MAXSKIPPED=100000000", "-e", script]);
    assert!(outcome.stdout.contains("steady 1\n"), "{outcome:?}");
}

/// Handlers of many threads read where nothing is mapped, in a program that handles faults of its own.
#[test]
fn faults_in_handlers_are_not_the_programs() {
    let scratch = Scratch::new("faults");
    let program = compile(
        &scratch,
        "faults",
        r#"
static __thread sigjmp_buf back;
static __thread volatile long faults;
static void on_fault(int number, siginfo_t *info, void *context) {
  if (info->si_addr != (void *)16) wrong("a fault that is not mine");
  faults++;
  siglongjmp(back, 1);
}
static void *run(void *p) {
  for (volatile long i = 0; i < 2000; i++) {
    if (work(i) != i + 1) wrong("work");
    if (!sigsetjmp(back, 1)) *(volatile long *)16 = 1;
    if (faults != i + 1) wrong("faults");
  }
  return 0;
}
int main(void) {
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, 0);
  pthread_t t[8];
  for (int i = 0; i < 8; i++) pthread_create(&t[i], 0, run, 0);
  for (int i = 0; i < 8; i++) pthread_join(t[i], 0);
  puts("right");
}"#,
    );
    let script = r#"global caught, n
      probe process.function("work") { try { n <<< strlen(user_string(24 + $a % 64 * 8)) } catch { caught++ } }
      probe end { println(caught, " ", @count(n)) }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    assert_eq!(outcome.stdout, "right\n16000 0\n", "{}", outcome.stderr);
}

/// Text is the same in whatever way it is read: in the program's own sections and a library's, in frames of callers pages away,
/// across the bounds of pages, on the heap with and without another thread. What can't be read is a fault each time.
#[test]
fn text_is_read_wherever_it_stands() {
    let scratch = Scratch::new("text");
    let program = compile(
        &scratch,
        "text",
        r#"
static char zeroed[5 * 4096];
static char filled[64] = "of the data";
__attribute__((noinline)) static void show(const char *text) {
  puts(text);
  __asm__ volatile("" : : "r"(text) : "memory");
}
__attribute__((noinline)) static void unreadable(const char *text) { __asm__ volatile("" : : "r"(text) : "memory"); }
static void on_the_heap(void) {
  show(strdup("of the heap"));
  char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(pages, 'x', 4096);
  show(strcpy(pages + 4096 - 11, "up to here"));
  mprotect(pages + 4096, 4096, PROT_NONE);
  memset(pages, 'x', 4096);
  unreadable(pages + 4096 - 3);
  munmap(pages, 8192);
  unreadable(pages);
}
static void *on_a_stack(void *name) {
  char far[9 * 4096];
  for (unsigned i = 0; i < sizeof far; i++) far[i] = i % 7 ? 'f' : *(char *)name;
  far[4 * 4096 + 9] = far[5 * 4096 + 100] = far[sizeof far - 1] = 0;
  show(far + sizeof far - 200);
  show(far + 5 * 4096 - 17);
  show(far + 4 * 4096 - 20);
  return 0;
}
int main(void) {
  show("a literal");
  show(filled);
  strcpy(zeroed + 4096 - 5, "of what begins as zeros");
  show(zeroed + 4096 - 5);
  show(strerror(ENOENT));
  on_the_heap();
  on_a_stack("m");
  pthread_t t;
  pthread_create(&t, 0, on_a_stack, "t");
  pthread_join(t, 0);
  on_the_heap();
  puts("right");
}"#,
    );
    let script = r#"probe process.function("show") { println(user_string(ulong_arg(1))) }
      probe process.function("unreadable") { try { println(user_string(ulong_arg(1))) } catch { faults++ } }
      global faults probe end { println(faults, " faults") }"#;
    let output = scratch.path("output");
    let output_path = output.to_string_lossy();
    let outcome = stap(&["-e", script, "-c", &program, "-o", &output_path]).ok();
    let shown = outcome.stdout.strip_suffix("right\n");
    let shown = shown.unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(shown.lines().count(), 14);
    let read = std::fs::read_to_string(&output).unwrap();
    assert_eq!(read, format!("{shown}4 faults\n"));
}

/// Another thread replaces the program by itself while the others are in handlers.
#[test]
fn exec_by_another_thread_ends_no_session_badly() {
    let scratch = Scratch::new("exec");
    let program = compile(
        &scratch,
        "again",
        r#"
static void *forever(void *p) { for (long i = 0;; i++) if (work(i) != i + 1) wrong("work"); }
static void *replace(void *p) {
  char **words = p;
  usleep(20000);
  char left[16];
  sprintf(left, "%d", atoi(words[1]) - 1);
  execl("/proc/self/exe", "again", left, (char *)0);
  wrong("exec");
  return 0;
}
int main(int count, char **words) {
  if (count < 2) words[1] = "10";
  if (atoi(words[1]) == 0) { puts("right"); return 3; }
  pthread_t t;
  for (int i = 0; i < 4; i++) pthread_create(&t, 0, forever, 0);
  pthread_create(&t, 0, replace, words);
  pthread_join(t, 0);
}"#,
    );
    let script = r#"global last probe process.function("work") { for (i = 0; i < 50; i++) last[i] = $a }
      probe end { println("end") }"#;
    for _ in 0..3 {
        let command = format!("{program} 10");
        let outcome = stap(&["-D", "MAXSKIPPED=1000000000", "-e", script, "-c", &command]);
        assert!(
            outcome.stdout.contains("right\n") && outcome.stdout.contains("end\n"),
            "{outcome:?}"
        );
    }
}

/// The program finds the shared memory and fills it with random bytes, between calls of probed functions.
#[test]
fn an_arena_full_of_random_bytes_crashes_neither_side() {
    let scratch = Scratch::new("scribble");
    let program = compile(
        &scratch,
        "scribble",
        r#"
static uint64_t state;
static uint64_t next(void) { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; }
__attribute__((noinline, noclone)) long text(const char *s) { __asm__ volatile("" ::: "memory"); return strlen(s); }
/* By the kernel, as the session may end and unmap it at any time. */
static int memory;
static void put(uint64_t at, uint64_t value, size_t len) { if (pwrite(memory, &value, len, (off_t)at) < 0) return; }
static int spare;
static int scribble(void) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  int found = 0;
  while (fgets(line, sizeof line, maps)) {
    unsigned long start, end;
    char perms[8];
    if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) != 3 || !strstr(line, "/memfd:spile") || perms[1] != 'w') continue;
    found++;
    for (int i = 0; i < 1000; i++) {
      /* The first 256 KiB have the header, the table of sites and the globals. */
      uint64_t within = next() % 4 ? 256 << 10 : end - start;
      uint64_t at = next() % (within - 8);
      /* The header says when the session is over: with some seeds it stays as it is. */
      if (spare && at < 4096) continue;
      if (next() % 8 == 0 && i % 100 == 0) for (int k = 0; k < 512 && at + 8 * k + 8 < end - start; k++) put(start + at + 8 * k, next(), 8);
      put(start + at, next(), 1 + next() % 8);
      /* Plausible numbers do other things than large ones. */
      if (next() % 2) put(start + (at & ~3ul), next() % 5000, 4);
    }
  }
  fclose(maps);
  return found;
}
int main(int count, char **words) {
  state = 88172645463325252ull + 7919 * atoi(words[1]);
  spare = atoi(words[1]) % 4;
  memory = open("/proc/self/mem", O_RDWR);
  for (int round = 0; round < 60; round++) {
    for (long i = 0; i < 200; i++) {
      if (work(i) != i + 1) wrong("work");
      if (text("some text") != 9) wrong("text");
    }
    if (!scribble() && round == 0) puts("no arena");
  }
  puts("right");
  fflush(stdout);
  /* What it does at its end is not of interest here. */
  _exit(0);
}"#,
    );
    let script = r#"global n, s, t, last, d, words
      probe process.function("work") { n++ s <<< $a t[$a & 15]++ d[$a & 7, tid()] <<< $a last = last + $a }
      probe process.function("work").return { last = $return words[$return & 7] = sprintf("%d", $return) }
      probe process.function("text") { words[1] = user_string($s) printf("%s %d\n", words[1], last) print_ubacktrace() }
      probe timer.ms(3) { foreach (x in t) last += t[x] foreach ([x, y] in d) last += @count(d[x, y]) foreach (x in words) last += strlen(words[x]) }
      probe end { println(@hist_log(s)) foreach (x in words) println(words[x]) }"#;
    for seed in 0..6 {
        let mut command = Command::new(spile_path());
        command.args(["stap", "-e", script, "-o"]);
        command.arg(scratch.path("output"));
        command.args(["-c", &format!("{program} {seed}")]);
        let outcome = run(command);
        assert!(
            outcome.stdout.contains("right\n"),
            "seed {seed}: {:?} {}\n{}",
            outcome.status,
            outcome.stderr,
            outcome.stdout
        );
        assert!(!outcome.stdout.contains("no arena"), "{}", outcome.stdout);
        // Errors there may be, of any kind; no panic, and no death by a signal.
        assert!(
            outcome.status.is_some_and(|status| status != 101)
                && !outcome.stderr.contains("panicked"),
            "seed {seed}: {outcome:?}"
        );
    }
}

/// The reader of the output goes away: the session ends, and the program goes on.
#[test]
fn a_closed_output_pipe_ends_only_the_session() {
    let scratch = Scratch::new("closed");
    let program = compile(
        &scratch,
        "steady",
        r#"
int main(void) {
  puts("ready"); fflush(stdout);
  char byte;
  pthread_t t;
  void *forever(void *p) { for (long i = 0;; i++) { if (work(i) != i + 1) wrong("work"); if (i % 64 == 0) usleep(100); } }
  pthread_create(&t, 0, forever, 0);
  while (read(0, &byte, 1) > 0) {}
  pid_t pid = fork();
  if (pid == 0) _exit((int)work(6));
  int status;
  waitpid(pid, &status, 0);
  printf("right %d\n", WEXITSTATUS(status));
}"#,
    );
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program");
    let input = child.stdin.take();
    let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let pid = child.id().to_string();
    let mut target = spile_tests::Guard(child);
    assert_eq!(line(&mut output), "ready");
    let (mut session, mut said) = spawn(Command::new(spile_path()).args([
        "stap",
        "-x",
        &pid,
        "-e",
        "probe process.function(\"work\") { printf(\"%d\\n\", $a) }",
    ]));
    assert!(!line(&mut said).is_empty());
    drop(said);
    session.0.wait().expect("its end");
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("its output");
    assert_eq!(rest, "right 7\n");
    assert!(target.0.wait().expect("its end").success());
}

/// A process that is stopped in a handler has its locks; those who wait for them in vain skip their handlers, of which stap(1)
/// puts up with a hundred.
#[test]
fn a_session_that_skips_too_many_hits_ends() {
    let scratch = Scratch::new("skipped");
    let program = compile(
        &scratch,
        "skipped",
        r#"
#include <signal.h>
#include <sys/wait.h>
int main(void) {
  pid_t child = fork();
  if (!child) for (long i = 0;; i++) work(i);
  for (int i = 0; i < 20; i++) {
    usleep(2000);
    kill(child, SIGSTOP);
    waitpid(child, 0, WUNTRACED);
    for (int k = 0; k < 2; k++) if (work(k) != k + 1) wrong("work");
    kill(child, SIGCONT);
  }
  kill(child, SIGKILL);
  waitpid(child, 0, 0);
  puts("right");
}"#,
    );
    let script = r#"global last probe process.function("work") { for (i = 0; i < 400; i++) last[i] = $a }
      probe end { println("end") } probe error { println("error") }"#;
    let outcome = stap(&["-D", "MAXSKIPPED=0", "-e", script, "-c", &program]);
    assert_eq!(outcome.status, Some(1), "{outcome:?}");
    assert!(
        outcome.stdout.contains("error\n") && !outcome.stdout.contains("end\n"),
        "{outcome:?}"
    );
    let told = "ERROR: Skipped too many probes, check MAXSKIPPED or try again with stap -t for more details.";
    assert!(outcome.stderr.contains(told), "{outcome:?}");
    let outcome = stap(&["-e", script, "-c", &program]);
    assert_eq!(
        (outcome.status, outcome.stdout.contains("end\n")),
        (Some(0), true),
        "{outcome:?}"
    );
}
