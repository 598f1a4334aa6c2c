//! The stacks that handlers run on: signals that come meanwhile find what they expect there, and little is taken of a small one.

use spile_tests::{Scratch, stap};

const HEAD: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long work(long a, long b) { __asm__ volatile("" ::: "memory"); return a * 3 + b; }
static void wrong(const char *what) { printf("wrong: %s\n", what); fflush(stdout); _exit(1); }
static void every(long us) { struct itimerval t = { {0, us}, {0, us} }; setitimer(ITIMER_REAL, &t, 0); }
"#;

/// Its handlers call: they are of the kind that needs a stack.
const COUNTING: &str = "global seen
    probe process.function(\"work\") { seen[$b] <<< $a }
    probe end { foreach (b+ in seen) println(b, \" \", @count(seen[b])) }";

/// Compiles `HEAD` and `rest`.
fn compile(scratch: &Scratch, name: &str, rest: &str) -> String {
    let source = format!("{HEAD}{rest}");
    let program = scratch.compile(&format!("{name}.c"), &source, &["-O2", "-g", "-pthread"]);
    program.display().to_string()
}

/// What a program prints of itself, and what is counted of it.
fn both(program: &str) -> (String, Vec<String>) {
    let out = stap(&["-e", COUNTING, "-c", program]).ok().stdout;
    let mut lines = out.lines().map(str::to_owned);
    let own = lines.next().unwrap_or_default();
    (own, lines.collect())
}

/// As collectors expect that stop the world by a signal: they scan from there to the stack's end.
#[test]
fn a_thread_that_is_stopped_in_a_handler_is_on_its_own_stack() {
    let scratch = Scratch::new("stacks-stopped");
    let program = compile(
        &scratch,
        "stopped",
        r#"
static volatile int over;
static volatile long samples;
static __thread char *low, *high;
static void stop(int n) {
  char here;
  if (&here < low || &here >= high) wrong("the stack pointer");
  __atomic_add_fetch(&samples, 1, __ATOMIC_RELAXED);
}
static void bounds(void) {
  pthread_attr_t a;
  void *start;
  size_t size;
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getstack(&a, &start, &size);
  low = start;
  high = low + size;
}
static void *loop(void *n) {
  bounds();
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, 0);
  while (!over) if (work(1, (long)n) != 3 + (long)n) wrong("work");
  return 0;
}
int main() {
  pthread_t t[3];
  struct sigaction a = { .sa_handler = stop };
  sigaction(SIGUSR1, &a, 0);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, 0);
  for (long i = 0; i < 3; i++) pthread_create(&t[i], 0, loop, (void *)i);
  for (int i = 0; i < 3000; i++) { pthread_kill(t[i % 3], SIGUSR1); if (i % 10 == 0) usleep(10); }
  over = 1;
  for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
  /* The main thread's. */
  bounds();
  pthread_sigmask(SIG_UNBLOCK, &usr1, 0);
  a.sa_handler = stop;
  sigaction(SIGALRM, &a, 0);
  every(100);
  for (long end = samples + 200; samples < end;) work(1, 3);
  every(0);
  puts("right");
}"#,
    );
    let (own, counts) = both(&program);
    assert_eq!(own, "right", "{counts:?}");
    assert_eq!(counts.len(), 4, "{counts:?}");
}

/// Parent and child both return from the handler of the signal, and into ours, if that was interrupted.
#[test]
fn a_fork_by_a_signals_handler_leaves_each_its_own_stack() {
    let scratch = Scratch::new("stacks-fork");
    let program = compile(
        &scratch,
        "fork",
        r#"
static volatile int child, forks;
static void split(int n) { if (forks == 40) return; if (fork() == 0) child = 1; else forks++; }
static void calls(int use) {
  long mine = 0;
  signal(SIGALRM, split);
  every(1000);
  for (long k = 0; forks < 40; k++) {
    if (work(k, 1) != 3 * k + 1) wrong("work");
    if (child && ++mine > 500) _exit(0);
  }
  every(0);
  int status, ended = 0;
  while (wait(&status) > 0) { ended++; if (status) wrong("a child's end"); }
  if (ended != 40) wrong("the number of children");
  forks = 0;
}
static void in_a_coroutine(void) {
  static ucontext_t back, other;
  getcontext(&other);
  other.uc_stack.ss_sp = malloc(1 << 16);
  other.uc_stack.ss_size = 1 << 16;
  other.uc_link = &back;
  makecontext(&other, (void (*)(void))calls, 1, 0);
  swapcontext(&back, &other);
}
int main() { calls(0); in_a_coroutine(); puts("right"); fflush(stdout); }"#,
    );
    assert_eq!(both(&program).0, "right");
}

/// User threads that a signal's handler switches between, each with a small stack.
#[test]
fn contexts_that_a_signal_switches_share_no_stack() {
    let scratch = Scratch::new("stacks-contexts");
    let program = compile(
        &scratch,
        "contexts",
        r#"
#define CONTEXTS 4
static ucontext_t contexts[CONTEXTS], end;
static volatile int current;
static volatile long rounds[CONTEXTS];
static void next(int n) { int from = current; current = (from + 1) % CONTEXTS; swapcontext(&contexts[from], &contexts[current]); }
static void body(int i) {
  sigset_t alarm;
  sigemptyset(&alarm);
  sigaddset(&alarm, SIGALRM);
  sigprocmask(SIG_UNBLOCK, &alarm, 0);
  for (long k = 0; k < 200000; k++) { if (work(k, i) != 3 * k + i) wrong("work"); rounds[i]++; }
  for (;;) {
    sigprocmask(SIG_BLOCK, &alarm, 0);
    int all = 1;
    for (int j = 0; j < CONTEXTS; j++) all &= rounds[j] == 200000;
    if (all) setcontext(&end);
    sigprocmask(SIG_UNBLOCK, &alarm, 0);
  }
}
int main() {
  signal(SIGALRM, next);
  volatile int first = 1;
  getcontext(&end);
  if (first) {
    first = 0;
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm, 0);
    for (int i = 0; i < CONTEXTS; i++) {
      getcontext(&contexts[i]);
      contexts[i].uc_stack.ss_sp = malloc(1 << 16);
      contexts[i].uc_stack.ss_size = 1 << 16;
      makecontext(&contexts[i], (void (*)(void))body, 1, i);
    }
    every(300);
    setcontext(&contexts[0]);
  }
  every(0);
  puts("right");
  fflush(stdout);
}"#,
    );
    assert_eq!(both(&program).0, "right");
}

/// Go's functions are entered with some 800 bytes, and C's may be.
#[test]
fn handlers_take_little_of_a_small_stack() {
    let scratch = Scratch::new("stacks-small");
    let program = compile(
        &scratch,
        "small",
        r#"
static ucontext_t back, other;
static char *bottom;
static long sum;
static void body(void) {
  char here;
  /* So much is left below this frame, and then a page that can't be written to. */
  volatile char *rest = __builtin_alloca(&here - bottom - 400);
  rest[0] = 1;
  for (long i = 0; i < 1000; i++) sum += work(i, rest[0]);
}
int main() {
  char *pages = mmap(0, 5 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bottom = pages + 4096;
  mprotect(bottom, 4 * 4096, PROT_READ | PROT_WRITE);
  getcontext(&other);
  other.uc_stack.ss_sp = bottom;
  other.uc_stack.ss_size = 4 * 4096;
  other.uc_link = &back;
  makecontext(&other, body, 0);
  swapcontext(&back, &other);
  printf("%ld\n", sum);
  fflush(stdout);
}"#,
    );
    // 3 · (0 + … + 999) + 1000
    let expected = ("1499500".to_owned(), vec!["1 1000".to_owned()]);
    assert_eq!(both(&program), expected);
    let script = "global stacks
        probe process.function(\"work\").return { stacks[ubacktrace(), sprintf(\"%d\", $return & 1)] <<< $return }
        probe end { foreach ([s, odd] in stacks) n += @count(stacks[s, odd]) println(n) }";
    let out = stap(&["-e", script, "-c", &program]).ok().stdout;
    assert_eq!(out, "1499500\n1000\n");
}

/// Which stack a signal's frame goes to is told by the stack pointer, which handlers move.
#[test]
fn signals_that_interrupt_handlers_leave_an_alternate_stack_alone() {
    let scratch = Scratch::new("stacks-alternate");
    let program = compile(
        &scratch,
        "altstack",
        r#"
static volatile long signals, calls;
static void use(int n) {
  volatile long kept[20];
  for (int i = 0; i < 20; i++) { kept[i] = i * 3; work(i, 0); calls++; }
  for (int i = 0; i < 20; i++) if (kept[i] != i * 3) wrong("the handler's own variables");
}
static void disturb(int n) { char room[1000]; memset(room, n, sizeof room); signals += room[n]; }
int main() {
  static char other[1 << 16];
  stack_t stack = { .ss_sp = other, .ss_size = sizeof other };
  struct sigaction a = { .sa_handler = use, .sa_flags = SA_ONSTACK | SA_NODEFER };
  use(0);
  if (sigaltstack(&stack, 0) || sigaction(SIGUSR1, &a, 0)) wrong("sigaction");
  a.sa_handler = disturb;
  sigaction(SIGALRM, &a, 0);
  struct itimerval often = { {0, 100}, {0, 100} };
  setitimer(ITIMER_REAL, &often, 0);
  for (int i = 0; i < 10000 || signals < 100; i++) raise(SIGUSR1);
  struct itimerval never = { {0, 0}, {0, 0} };
  setitimer(ITIMER_REAL, &never, 0);
  sigset_t blocked;
  sigprocmask(SIG_BLOCK, 0, &blocked);
  if (sigismember(&blocked, SIGALRM)) wrong("the signal mask");
  printf("%ld\n", calls);
  return 0;
}"#,
    );
    let script = "global seen
        probe process.function(\"work\") { seen[ppfunc()] <<< $a }
        probe end { println(@count(seen[\"work\"]), \" \", @sum(seen[\"work\"])) }";
    let out = stap(&["-e", script, "-c", &program]).ok().stdout;
    let lines: Vec<&str> = out.lines().collect();
    let [calls, counted] = lines[..] else {
        panic!("{out}");
    };
    let calls: i64 = calls.parse().expect("a number");
    // 0 + … + 19 for each signal.
    assert_eq!(counted, format!("{calls} {}", calls / 20 * 190));
}
