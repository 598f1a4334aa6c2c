//! Return probes in programs that leave functions by other ways than returning: at the functions' own exits, and by
//! another return address (`-D SPILE_REPLACE_RETURNS=1`).

use spile_tests::{Guard, Scratch, line, need, stap};
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const EXITS: &[&str] = &[];
const REPLACED: &[&str] = &["-D", "SPILE_REPLACE_RETURNS=1"];

/// What a program prints by itself.
fn unprobed(program: &Path) -> String {
    let output = Command::new(program).output().expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a script prints, and its warnings; the program prints what it prints without probes.
fn probed(program: &Path, how: &[&str], script: &str) -> (String, String) {
    let wanted = unprobed(program);
    let text = program.to_string_lossy();
    let output = program.with_extension("out");
    let output = output.to_string_lossy();
    let mut args = vec!["-e", script, "-o", &output, "-c", &text];
    args.extend(how);
    let outcome = stap(&args).ok();
    assert_eq!(outcome.stdout, wanted, "{}", outcome.stderr);
    let said = std::fs::read_to_string(&*output).expect("the script's output");
    (said, outcome.stderr)
}

/// What the linker brings along (`_init`, `frame_dummy`), which not all programs have, is left out.
const COUNT: &str = r#"
    global n
    probe process("PROGRAM").function("*").return { if (ppfunc() !~ "^(_|frame_dummy|(de)?register_tm_clones)") n[ppfunc()]++ }
    probe end { foreach (f+ in n) printf("%s %d\n", f, n[f]) }"#;

fn counting(program: &Path) -> String {
    COUNT.replace("PROGRAM", &program.to_string_lossy())
}

const EXCEPTIONS: &str = r#"
#include <cstdio>
#include <stdexcept>
#define F __attribute__((noinline))
struct G { int n; G(int n): n(n) {} ~G() { printf("unwound %d\n", n); } };
volatile int zero;
F int tail(int n) { asm volatile(""); return n * 3 + zero; }
F int tailing(int n) { asm volatile(""); return tail(n + 1); }
F int deep(int n) { G g(n); if (n == 0) throw std::runtime_error("thrown"); return deep(n - 1) + 1; }
F int catching(int n) {
  try { return deep(n); } catch (std::exception &e) { printf("Caught an exception: %s\n", e.what()); return -1; }
}
F int rethrowing(int n) { try { return catching(n) + deep(1); } catch (...) { puts("once"); throw; } }
F int many(int n) { int s = 0; for (int i = 0; i < n; i++) try { s += deep(0); } catch (...) { s--; } return s; }
int main() {
  int s = 0;
  for (int i = 0; i < 4; i++) s += catching(i);
  for (int i = 0; i < 7; i++) s += tailing(i);
  try { rethrowing(2); } catch (std::runtime_error &e) { puts(e.what()); }
  printf("%d %d\n", s, many(300));
  return 0;
}"#;

#[test]
fn exceptions_pass_through_probed_functions() {
    let scratch = Scratch::new("returns-exceptions");
    let program = scratch.compile("exceptions.cc", EXCEPTIONS, &["-O2", "-g"]);
    for how in [EXITS, REPLACED] {
        let (said, warnings) = probed(&program, how, &counting(&program));
        // What throws does not return: deep and rethrowing never do.
        assert_eq!(
            said, "catching 5\nmain 1\nmany 1\ntail 7\ntailing 7\n",
            "{warnings}"
        );
    }
}

/// The unwinder of GCC 11, linked into the program, goes through its modules by dl_iterate_phdr(3).
#[test]
fn exceptions_are_thrown_by_an_unwinder_that_asks_no_c_library() {
    need("/usr/bin/g++-11");
    let scratch = Scratch::new("returns-old-unwinder");
    let source = scratch.write("exceptions.cc", EXCEPTIONS);
    let program = scratch.path("exceptions");
    let built = Command::new("g++-11")
        .args(["-O2", "-g", "-static-libgcc", "-static-libstdc++", "-o"])
        .args([&program, &source])
        .status();
    assert!(built.expect("g++-11").success());
    let file = std::fs::read(&program).expect("the program");
    let has = |name: &[u8]| file.windows(name.len()).any(|window| window == name);
    assert!(has(b"dl_iterate_phdr\0") && !has(b"_dl_find_object\0"));
    let names = [
        "catching",
        "main",
        "many",
        "tail",
        "tailing",
        "deep",
        "rethrowing",
    ];
    let path = program.to_string_lossy();
    let points: Vec<String> = names
        .iter()
        .map(|name| format!("process(\"{path}\").function(\"{name}\").return"))
        .collect();
    let script = COUNT.replace(
        "process(\"PROGRAM\").function(\"*\").return",
        &points.join(", "),
    );
    let (said, warnings) = probed(&program, REPLACED, &script);
    assert_eq!(
        said, "catching 5\nmain 1\nmany 1\ntail 7\ntailing 7\n",
        "{warnings}"
    );
    assert!(!warnings.contains("could not be probed"), "{warnings}");
}

const JUMPS: &str = r#"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#define F __attribute__((noinline, noclone))
static jmp_buf back;
volatile long zero;
F long leaf(long n) { __asm__ volatile(""); return n + zero; }
F long jumping(long n) { if (n == 0) longjmp(back, 7); return jumping(n - 1) + leaf(n); }
F long landing(long n) { if (setjmp(back)) return leaf(n); return jumping(n); }
F long recursing(long n) { __asm__ volatile(""); if (n < 2) return leaf(1); return recursing(n - 1) + leaf(n); }
static ucontext_t home, away[3];
static char stacks[3][65536];
static int turns;
F long yielding(int me) { __asm__ volatile(""); turns++; swapcontext(&away[me], me < 2 ? &away[me + 1] : &home); return me; }
F long around(int me) { long s = 0; for (int i = 0; i < 5; i++) s += yielding(me); return s; }
F void routine(int me) { printf("routine %d: %ld\n", me, around(me)); }
int main(void) {
  long s = 0;
  for (int i = 0; i < 1000; i++) s += landing(i % 50);
  s += recursing(3000);
  for (int i = 0; i < 3; i++) {
    getcontext(&away[i]);
    away[i].uc_stack.ss_sp = stacks[i];
    away[i].uc_stack.ss_size = sizeof stacks[i];
    away[i].uc_link = i < 2 ? &away[i + 1] : &home;
    makecontext(&away[i], (void (*)(void))routine, 1, i);
  }
  for (int i = 0; i < 6; i++) swapcontext(&home, &away[0]);
  printf("%ld %d\n", s, turns);
  return 0;
}"#;

#[test]
fn jumps_and_coroutines_pass_through_probed_functions() {
    let scratch = Scratch::new("returns-jumps");
    let program = scratch.compile("jumps.c", JUMPS, &["-O1", "-g"]);
    for how in [EXITS, REPLACED] {
        let (said, warnings) = probed(&program, how, &counting(&program));
        // landing jumps 1000 times over all of jumping's calls; each routine yields five times.
        let wanted =
            "around 3\nlanding 1000\nleaf 4000\nmain 1\nrecursing 3000\nroutine 3\nyielding 15\n";
        assert_eq!(said, wanted, "{warnings}");
    }
}

const THREADS: &str = r#"
#define _GNU_SOURCE
#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#define F __attribute__((noinline, noclone))
volatile long zero;
static int cleaned, waits[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void clean(void *p) { pthread_mutex_lock(&mutex); cleaned += *(int *)p; pthread_mutex_unlock(&mutex); }
F long leaf(long n) { __asm__ volatile(""); return n + zero; }
F long leaving(long n) {
  int one = 1;
  long s;
  pthread_cleanup_push(clean, &one);
  if (n == 0) pthread_exit(NULL);
  s = leaving(n - 1) + leaf(n);
  pthread_cleanup_pop(0);
  return s;
}
F long waiting(long n) {
  int one = 1000;
  char c;
  long s;
  pthread_cleanup_push(clean, &one);
  s = write(waits[1], "w", 1) + read(waits[0] + 0 * n, &c, 0) ;
  for (;;) pause();
  pthread_cleanup_pop(0);
  return s + leaf(n);
}
static void *leaver(void *p) { return (void *)leaving((long)p); }
static void *waiter(void *p) { return (void *)waiting((long)p); }
F int depth(void) { void *frames[64]; int n = backtrace(frames, 64); return n > 3 && leaf(1); }
F int outer(void) { int d = depth(); __asm__ volatile(""); return d + (int)leaf(0); }
int main(void) {
  pthread_t threads[8];
  char c;
  pipe(waits);
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < 8; i++) pthread_create(&threads[i], NULL, leaver, (void *)(long)(i + 3));
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  }
  for (int i = 0; i < 4; i++) {
    pthread_create(&threads[i], NULL, waiter, NULL);
    read(waits[0], &c, 1);
    pthread_cancel(threads[i]);
    pthread_join(threads[i], NULL);
  }
  printf("%d %d\n", cleaned, outer());
  return 0;
}"#;

#[test]
fn threads_end_inside_probed_functions() {
    let scratch = Scratch::new("returns-threads");
    let flags = ["-O1", "-g", "-pthread"];
    let program = scratch.compile("threads.c", THREADS, &flags);
    for how in [EXITS, REPLACED] {
        let (said, warnings) = probed(&program, how, &counting(&program));
        // The threads' functions are left by cleaning up, once for each of 4 to 11 calls of `leaving`.
        let cleanings = 20 * (4..12).sum::<u64>() + 4;
        assert_eq!(
            said,
            format!("clean {cleanings}\ndepth 1\nleaf 2\nmain 1\nouter 1\n"),
            "{warnings}"
        );
    }
}

const PANICS: &str = r#"
use std::hint::black_box;
use std::panic::catch_unwind;
struct Guard(u32);
impl Drop for Guard { fn drop(&mut self) { println!("dropped {}", self.0); } }
#[unsafe(no_mangle)] #[inline(never)]
fn deep(n: u32) -> u32 { let g = Guard(n); if black_box(n) == 0 { panic!("here"); } deep(n - 1) + black_box(g.0) }
#[unsafe(no_mangle)] #[inline(never)]
fn catching(n: u32) -> u32 { catch_unwind(|| deep(black_box(n))).unwrap_or(77) }
fn main() {
    std::panic::set_hook(Box::new(|_| println!("{}", std::backtrace::Backtrace::force_capture().to_string().contains("deep"))));
    let s: u32 = (0..4).map(catching).sum();
    println!("{s}");
}"#;

#[test]
fn panics_pass_through_probed_functions() {
    let scratch = Scratch::new("returns-panics");
    let source = scratch.write("panics.rs", PANICS);
    let program = scratch.path("panics");
    let status = Command::new("rustc")
        .args(["--edition", "2024", "-O", "-g", "-o"])
        .args([&program, &source])
        .status();
    assert!(status.expect("rustc").success());
    let path = program.to_string_lossy();
    let script = format!(
        r#"global n
        probe process("{path}").function("deep").return, process("{path}").function("catching").return {{ n[ppfunc()]++ }}
        probe end {{ foreach (f+ in n) printf("%s %d\n", f, n[f]) }}"#
    );
    for how in [EXITS, REPLACED] {
        let (said, warnings) = probed(&program, how, &script);
        assert_eq!(said, "catching 4\n", "{warnings}");
    }
}

const NESTED: &str = r#"
#include <stdio.h>
#define F __attribute__((noinline, noclone))
F long inner(long n, const char *s) { __asm__ volatile("" ::: "memory"); return n + s[0]; }
F long nested(long n) { long r; if (n == 0) return 1; r = nested(n - 1); return r * n + (inner(n, "a") & 1); }
int main(void) { printf("%ld\n", nested(4)); return 0; }"#;

#[test]
fn nested_calls_keep_their_entry_values_and_stacks() {
    let scratch = Scratch::new("returns-nested");
    let program = scratch.compile("nested.c", NESTED, &["-O1", "-g"]);
    let path = program.to_string_lossy();
    let script = format!(
        r#"probe process("{path}").function("nested").return {{ printf("%d -> %d %d:", @entry($n), $return, $n) println("") print_ubacktrace() }}
        probe process("{path}").function("inner").return {{ printf("%s %d\n", user_string(@entry($s)), @entry($n * 2)) }}"#
    );
    let mut heard = Vec::new();
    for how in [EXITS, REPLACED] {
        let (said, warnings) = probed(&program, how, &script);
        let calls: Vec<&str> = said
            .lines()
            .filter(|l| l.contains("->") || l.starts_with('a'))
            .collect();
        let starts = |n: usize, text: &str| calls.get(n).is_some_and(|l| l.starts_with(text));
        // (n + 97) & 1 is 1 for even n.
        let wanted = [
            "0 -> 1 0:",
            "a 2",
            "1 -> 1 1:",
            "a 4",
            "2 -> 3 2:",
            "a 6",
            "3 -> 9 3:",
            "a 8",
            "4 -> 37 4:",
        ];
        assert_eq!(calls.len(), wanted.len(), "{said}{warnings}");
        for (n, text) in wanted.iter().enumerate() {
            assert!(starts(n, text), "{said}{warnings}");
        }
        // Without the addresses, which differ from run to run.
        let names = |line: &str| {
            let words = line.split_whitespace();
            words
                .filter(|w| !w.starts_with("0x"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        heard.push(said.lines().map(names).collect::<Vec<_>>());
    }
    assert!(
        heard[0].iter().any(|line| line.starts_with(": main+")),
        "{heard:?}"
    );
    assert_eq!(heard[0], heard[1]);
}

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
extern char **environ;
static jmp_buf back;
static sigjmp_buf back_too;
static volatile int signals;
static void handler(int number) { signals += number == SIGUSR1; }
static void jumper(int number) { siglongjmp(back_too, number); }
static int compare(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
__attribute__((noinline)) static void leap(int n) { if (n > 0) leap(n - 1); longjmp(back, 3); }
int main(void) {
  int status = 0, jumps = 0, sum = 0;
  char *words[] = {"pear", "fig", "apple"};
  for (int i = 0; i < 20; i++) { if (setjmp(back) == 0) leap(i); else jumps++; }
  signal(SIGUSR1, handler);
  for (int i = 0; i < 20; i++) raise(SIGUSR1);
  signal(SIGUSR2, jumper);
  for (int i = 0; i < 20; i++) if (sigsetjmp(back_too, 1) == 0) raise(SIGUSR2); else jumps++;
  for (int i = 0; i < 3; i++) {
    pid_t child = vfork();
    if (child == 0) { execl("/bin/sh", "sh", "-c", "exit 4", NULL); _exit(1); }
    waitpid(child, &status, 0);
    sum += WEXITSTATUS(status);
    char *argv[] = {"sh", "-c", "exit 5", NULL};
    posix_spawn(&child, "/bin/sh", NULL, NULL, argv, environ);
    waitpid(child, &status, 0);
    sum += WEXITSTATUS(status);
    child = fork();
    if (child == 0) _exit(6);
    waitpid(child, &status, 0);
    sum += WEXITSTATUS(status);
  }
  ucontext_t here;
  volatile int again = 0;
  getcontext(&here);
  if (again++ < 3) setcontext(&here);
  qsort(words, 3, sizeof *words, compare);
  double (*cosine)(double) = (double (*)(double))dlsym(RTLD_DEFAULT, "strtod");
  printf("%d %d %d %d %s %d %.2f\n", jumps, signals, sum, again, words[0], cosine != NULL, strtod("1.25", NULL));
  return 0;
}"#;

#[test]
fn every_function_of_the_c_library_returns_to_where_it_was_called() {
    let scratch = Scratch::new("returns-library");
    let program = scratch.compile("library.c", LIBRARY, &["-O1", "-g", "-Wl,-z,lazy"]);
    let path = program.to_string_lossy();
    for library in ["libc.so.6", "ld-linux-x86-64.so.2"] {
        let script = format!(
            r#"global n
            probe process("{path}").library("{library}").function("*").return {{ n++ }}
            probe end {{ println(n > 0) }}"#
        );
        for how in [EXITS, REPLACED] {
            let (said, warnings) = probed(&program, how, &script);
            assert_eq!(said, "1\n", "{library}: {warnings}");
        }
    }
}

const PATIENT: &str = r#"
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define F __attribute__((noinline, noclone))
volatile long zero;
static volatile int over;
static __thread jmp_buf back;
F long pausing(long n) { usleep(n); return n + zero; }
F long deep(long n) { long r; if (n == 0) { pausing(5000); return 1; } r = deep(n - 1); __asm__ volatile(""); return r + 1; }
F long jumping(long n) { if (n == 0) longjmp(back, 1); return jumping(n - 1) + 1; }
static void *work(void *p) {
  while (!over) {
    if (deep(40) != 41) abort();
    if (setjmp(back) == 0) jumping(20);
  }
  return p;
}
int main(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, NULL);
  puts("ready");
  fflush(stdout);
  getchar();
  over = 1;
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  puts("right");
  return 0;
}"#;

/// The mappings of a process but for stacks and heap, which grow.
fn mappings(pid: u32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    let fixed = maps
        .lines()
        .filter(|line| !line.contains("[stack]") && !line.contains("[heap]"));
    fixed.map(str::to_owned).collect()
}

/// Whenever a session ends, threads are inside of dozens of calls whose return addresses it has replaced.
#[test]
fn calls_in_progress_go_home_when_their_session_ends() {
    let scratch = Scratch::new("returns-patient");
    let program = scratch.compile("patient.c", PATIENT, &["-O1", "-pthread"]);
    let mut command = Command::new(&program);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut guard = Guard(child.expect("the program runs"));
    let mut output = BufReader::new(guard.0.stdout.take().expect("a pipe"));
    assert_eq!(line(&mut output), "ready");
    let pid = guard.0.id();
    let before = mappings(pid);
    let script = r#"global n
        probe process.function("*").return { if (n++ == 3000) exit() }
        probe end { println(n > 3000) }"#;
    for _ in 0..3 {
        let mut args = vec!["-w", "-e", script];
        args.extend(REPLACED);
        let pid = pid.to_string();
        args.extend(["-x", &pid]);
        let outcome = stap(&args).ok();
        assert_eq!(outcome.stdout, "1\n", "{}", outcome.stderr);
    }
    assert_eq!(mappings(pid), before);
    let mut input = guard.0.stdin.take().expect("a pipe");
    input.write_all(b"\n").expect("the program reads");
    assert_eq!(line(&mut output), "right");
    assert!(guard.0.wait().expect("it ends").success());
}
