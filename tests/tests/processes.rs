//! Hard cases of getting hold of processes: tracers and targets killed at any moment, children, confinement, limits.

use spile_tests::{Scratch, is_root, line, run, spawn, spile_path, stap, until};
use std::io::Read;
use std::process::Command;

/// Four threads that count their calls of `step`, and end with "wrong" when one went astray.
const WORKERS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
__attribute__((noinline, noclone)) long step(long a) { __asm__ volatile("" ::: "memory"); return a * 3 + 1; }
static void *work(void *unused) {
  for (;;) {
    long sum = 0;
    for (int k = 0; k < 1000; k++) sum += (step(k) - 1) / 3;
    free(malloc(100));
    if (sum != 499500) { puts("wrong"); abort(); }
  }
  return unused;
}
int main(void) {
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) pthread_create(threads + i, 0, work, 0);
  puts("ready"); fflush(stdout);
  work(0);
}"#;

/// A number between 0 and `below`, another one each time.
fn next(state: &mut u64, below: u64) -> u64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 33) % below
}

const COUNT_STEPS: &str =
    "global n probe process.function(\"*\") { n++ } probe timer.ms(1) { println(n) }";

/// Lets `child` run for a time that it measures itself: the processor time that it has used, in clock ticks of the
/// scheduler's own account (`/proc/PID/schedstat`, nanoseconds).
fn let_use(pid: u32, nanoseconds: u64) {
    until("the process works", || {
        let used = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        used.split_whitespace()
            .next()
            .and_then(|n| n.parse::<u64>().ok())
            .is_none_or(|used| used >= nanoseconds)
            || std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |s| s.contains(") Z"))
    });
}

#[test]
fn a_tracer_killed_at_any_moment_leaves_the_target_right_and_its_patches_are_replaced() {
    let scratch = Scratch::new("killed-anywhere");
    let program = scratch.compile("workers.c", WORKERS, &["-O2", "-g", "-pthread"]);
    let (mut target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id().to_string();
    let mut state = 1;
    for _ in 0..30 {
        let (mut spile, _counts) =
            spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", COUNT_STEPS]));
        let_use(spile.0.id(), next(&mut state, 12_000_000));
        spile.0.kill().expect("kill");
        spile.0.wait().expect("an end");
        assert!(
            target.0.try_wait().expect("the target").is_none(),
            "the target ended"
        );
    }
    let script = "global n probe process.function(\"step\") { n++ } probe timer.ms(1) { if (n > 1000) { println(\"enough\") exit() } }";
    let outcome = stap(&["-x", &pid, "-e", script]).ok();
    assert_eq!(outcome.stdout, "enough\n", "{}", outcome.stderr);
    assert!(
        target.0.try_wait().expect("the target").is_none(),
        "the target ended"
    );
}

#[test]
fn a_target_killed_at_any_moment_ends_the_session() {
    let scratch = Scratch::new("target-killed-anywhere");
    let program = scratch.compile("workers.c", WORKERS, &["-O2", "-g", "-pthread"]);
    let mut state = 2;
    for _ in 0..20 {
        let (mut target, mut output) = spawn(&mut Command::new(&program));
        assert_eq!(line(&mut output), "ready");
        let pid = target.0.id().to_string();
        let (mut spile, mut counts) =
            spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", COUNT_STEPS]));
        let_use(spile.0.id(), next(&mut state, 12_000_000));
        target.0.kill().expect("kill");
        target.0.wait().expect("an end");
        let mut rest = String::new();
        counts.read_to_string(&mut rest).expect("the rest");
        assert!(
            spile
                .0
                .wait()
                .expect("an end")
                .code()
                .is_some_and(|code| code <= 1)
        );
    }
}

#[test]
fn a_second_session_does_not_disturb_the_first() {
    let scratch = Scratch::new("two-sessions");
    let program = scratch.compile("workers.c", WORKERS, &["-O2", "-g", "-pthread"]);
    let (_target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = _target.0.id().to_string();
    let (_first, mut counts) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", COUNT_STEPS]));
    until("a count", || {
        line(&mut counts).parse::<u64>().is_ok_and(|n| n > 0)
    });
    let outcome = stap(&[
        "-x",
        &pid,
        "-e",
        "global n probe process.function(\"step\") { n++ } probe timer.ms(1) { exit() }",
    ]);
    outcome.ok();
    let before: u64 = line(&mut counts).parse().expect("a count");
    until("the first goes on", || {
        line(&mut counts).parse::<u64>().is_ok_and(|n| n > before)
    });
}

#[test]
fn children_by_fork_are_counted_and_programs_by_exec_are_clean() {
    let scratch = Scratch::new("children");
    let source = r#"
        #include <sys/wait.h>
        #include <unistd.h>
        __attribute__((noinline, noclone)) int f(int a) { __asm__ volatile("" ::: "memory"); return a * 2; }
        int main(void) {
          for (int i = 0; i < 20; i++)
            if (fork() == 0) { for (int k = 0; k < 1000; k++) f(k); _exit(0); }
          int status;
          while (wait(&status) > 0) if (status) return 2;
          for (int i = 0; i < 10; i++) {
            pid_t child = vfork();
            if (child == 0) { f(1); execl("/bin/true", "true", (char *)0); _exit(1); }
            if (waitpid(child, &status, 0) != child || status) return 3;
          }
          return 0;
        }"#;
    let program = scratch.compile("children.c", source, &["-O2", "-g"]);
    let script = "global n, s, c probe process.function(\"f\") { n++ s <<< $a c[pid()]++ }
        probe end { foreach (p in c) { k++ t += c[p] } println(n, \" \", @count(s), \" \", @sum(s), \" \", k, \" \", t) } global k, t";
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    // 20 children of 1000 calls each, whose arguments add up to 499500, and ten calls of f(1) under the parent's number
    // or the vfork child's.
    let words: Vec<u64> = outcome
        .stdout
        .split_whitespace()
        .map(|w| w.parse().expect("a number"))
        .collect();
    assert_eq!(
        (words[0], words[1], words[2], words[4]),
        (20_010, 20_010, 20 * 499_500 + 10, 20_010)
    );
    assert!(words[3] >= 20, "{}", outcome.stdout);
}

#[test]
fn a_shell_with_every_function_of_libc_probed_does_its_work() {
    let script = "global n probe process.library(\"*libc.so*\").function(\"*\") { n++ } probe end { printf(\"%d\\n\", n > 100) }";
    let command = "sh -c 'echo b; (echo c; echo a) | sort; true & wait; exec echo done'";
    let outcome = stap(&["-e", script, "-c", command]).ok();
    assert_eq!(outcome.stdout, "b\na\nc\ndone\n1\n");
}

#[test]
fn a_confined_program_is_refused_and_lives_on() {
    assert!(is_root(), "seeing a program's seccomp filters needs root");
    let scratch = Scratch::new("confined");
    let source = r#"
        #include <linux/filter.h>
        #include <linux/seccomp.h>
        #include <stddef.h>
        #include <sys/prctl.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        __attribute__((noinline, noclone)) int f(int a) { __asm__ volatile("" ::: "memory"); return a * 2; }
        int main(void) {
          struct sock_filter filter[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 1, 0),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
          struct sock_fprog program = {4, filter};
          prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
          prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
          write(1, "ready\n", 6);
          for (volatile int i = 0;; i++) f(i);
        }"#;
    let program = scratch.compile("confined.c", source, &["-O2", "-g"]);
    let (mut target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let outcome = stap(&[
        "-x",
        &target.0.id().to_string(),
        "-e",
        "global n probe process.function(\"f\") { n++ }",
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .contains("seccomp filter that forbids the system call getpid"),
        "{}",
        outcome.stderr
    );
    assert!(
        target.0.try_wait().expect("the target").is_none(),
        "the target ended"
    );
}

/// Locks its memory, now and to come, has a hundred threads call `step`, and says how much shared memory it has.
const LOCKED: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long step(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
static void *work(void *unused) { long n = 0; for (int i = 0; i < 1000; i++) n = step(n); return (void *)n; }
int main(int argc, char **argv) {
  pthread_t threads[100];
  char line[200];
  long sum = 0, shared = -1;
  work(0);
  if (mlockall(MCL_CURRENT | MCL_FUTURE)) { perror("mlockall"); return 1; }
  if (argc > 1) { puts("locked"); fflush(stdout); while (access(argv[1], F_OK)) usleep(1000); }
  for (int i = 0; i < 100; i++) pthread_create(threads + i, 0, work, 0);
  for (int i = 0; i < 100; i++) { void *n; pthread_join(threads[i], &n); sum += (long)n; }
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status)) if (!strncmp(line, "RssShmem:", 9)) shared = atol(line + 9);
  printf("%ld %ld\n", sum, shared);
  return 0;
}
"#;

#[test]
fn a_program_that_locks_its_memory_does_not_fill_the_arena_with_pages() {
    let scratch = Scratch::new("locked");
    let program = scratch.compile("locked.c", LOCKED, &["-O2", "-g", "-pthread"]);
    let path = program.to_str().expect("a path");
    let plain = run(Command::new(&program));
    assert_eq!(plain.status, Some(0), "{}", plain.stderr);
    // kB: some of the arena's 4 GiB, which are no more than an address where nobody locks them.
    let shared = |line: &str| -> u64 {
        let kilobytes = line.strip_prefix("100000 ").and_then(|kb| kb.parse().ok());
        kilobytes.unwrap_or_else(|| panic!("{line}"))
    };
    let allowed = shared(plain.stdout.trim()) + (512 << 10);
    let script = "global n probe process.function(\"step\") { n++ } probe end { println(n) }";
    let outcome = stap(&["-c", path, "-e", script]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{} {}", outcome.stdout, outcome.stderr);
    assert!(shared(lines[0]) < allowed, "{}", outcome.stdout);
    // Two of a thousand hits each may find no slot while the arena grows, and are told of.
    let skipped = outcome.stderr.split("skipped probes: ").nth(1);
    let skipped: u64 = skipped.map_or(0, |n| n.trim().parse().expect("a number"));
    assert_eq!(lines[1].parse::<u64>().expect("a count") + skipped, 101_000);
    // The same when it was locked before.
    let gate = scratch.path("gate");
    let (target, mut output) = spawn(Command::new(&program).arg(&gate));
    assert_eq!(line(&mut output), "locked");
    let pid = target.0.id().to_string();
    let script = "global n probe process.function(\"step\") { if (++n == 100000) exit() } probe end { println(n) } probe begin { println(0) }";
    let (mut spile, mut counts) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &pid, "-e", script]));
    assert_eq!(line(&mut counts), "0");
    until("probes are in", || {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"));
        maps.is_ok_and(|maps| maps.contains("memfd:spile"))
            && std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|s| s.contains("TracerPid:\t0"))
    });
    std::fs::write(&gate, "").expect("the gate");
    assert!(shared(&line(&mut output)) < allowed);
    assert_eq!(line(&mut counts), "100000");
    assert!(spile.0.wait().expect("its end").success());
}

/// Confines itself in the way that its argument says, while two threads go on calling `step`, and says how its calls came out.
const CONFINED: &str = r#"
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
static volatile int end;
__attribute__((noinline, noclone)) long step(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
static void *work(void *unused) { long n = 0; while (!end) n = step(n); return unused; }
/* Goes on by restart_syscall once it was stopped, which the filter forbids. */
static void *sleeper(void *unused) { while (!end) usleep(50000); return unused; }
static void *confine(void *filter) {
  syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, filter);
  return 0;
}
int main(int argc, char **argv) {
  pthread_t threads[4], other;
  long n = 0;
  for (int i = 0; i < 10; i++) n = step(n);
  for (int i = 0; i < 4; i++) pthread_create(threads + i, 0, i < 2 ? work : sleeper, 0);
  struct sock_filter code[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_write, 4, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_exit_group, 3, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_exit, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_clock_nanosleep, 1, 0),
    BPF_STMT(BPF_RET, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW)};
  /* What the end of a thread takes is allowed as well. */
  struct sock_filter more[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_gettid, 1, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ, SYS_restart_syscall, 0, 1),
    BPF_STMT(BPF_RET, SECCOMP_RET_KILL_PROCESS), BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW)};
  struct sock_filter all[] = {BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW)};
  struct sock_fprog filter = {7, code}, other_filter = {5, more}, allowing = {1, all};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (!strcmp(argv[1], "strict")) prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
  if (!strcmp(argv[1], "prctl")) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
  if (!strcmp(argv[1], "all")) prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &allowing, 0, 0);
  if (!strcmp(argv[1], "sync")) confine(&filter);
  if (!strcmp(argv[1], "other")) { pthread_create(&other, 0, confine, &other_filter); pthread_join(other, 0); }
  for (int i = 0; i < 1000; i++) n = step(n);
  char text[50];
  write(1, text, sprintf(text, "%ld\n", n));
  end = 1;
  syscall(SYS_exit_group, 0);
}
"#;

#[test]
fn a_program_that_confines_itself_is_not_killed_by_handlers() {
    let scratch = Scratch::new("confined");
    let program = scratch.compile("confined.c", CONFINED, &["-O2", "-g", "-pthread"]);
    let script = "global n probe process.function(\"step\") { if (tid() == target()) n++ } probe end { println(n) }";
    for (way, counted) in [
        ("prctl", 10),
        ("sync", 10),
        ("other", 10),
        ("strict", 10),
        ("all", 1010),
    ] {
        let command = format!("{} {way}", program.display());
        let outcome = stap(&["-c", &command, "-e", script]);
        assert_eq!(
            (outcome.stdout, outcome.status),
            (format!("1010\n{counted}\n"), Some(0)),
            "{way}: {}",
            outcome.stderr
        );
        let told = outcome.stderr.contains("it is not probed any more");
        assert_eq!(told, counted == 10, "{way}: {}", outcome.stderr);
    }
}

#[test]
fn threads_that_find_no_room_are_told_of_with_the_way_out() {
    let scratch = Scratch::new("threads");
    let program = scratch.compile("workers.c", WORKERS, &["-O2", "-g", "-pthread"]);
    let (target, mut output) = spawn(&mut Command::new(&program));
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id().to_string();
    // Long enough for the others to run.
    let script = "global t probe process.function(\"step\") { if (++t[tid()] == 100000) exit() }";
    let mut command = vec!["-x", &pid, "-e", script];
    let outcome = stap(&command);
    assert!(
        !outcome.stderr.contains("SPILE_THREADS"),
        "{}",
        outcome.stderr
    );
    command.extend(["-D", "SPILE_THREADS=2"]);
    let outcome = stap(&command);
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    let told =
        "hits were skipped in more than 1 threads at a time; -D SPILE_THREADS=NUMBER makes room";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn a_limit_on_the_size_of_files_is_raised_for_the_arena_or_named() {
    let spile = spile_path();
    let run_limited = |limit: &str, then: &str| {
        let script = format!("ulimit {limit} 1000; exec \"$0\" stap {then}");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).arg(&spile);
        run(command)
    };
    // What is started has the limit that was set, in kB.
    let outcome = run_limited(
        "-S -f",
        "-e 'probe end { println(1) }' -c 'bash -c \"ulimit -f\"'",
    );
    assert_eq!(
        (outcome.stdout.as_str(), outcome.status),
        ("1000\n1\n", Some(0)),
        "{}",
        outcome.stderr
    );
    let outcome = run_limited("-f", "-e 'probe begin { println(1) exit() }'");
    assert_eq!((outcome.stdout.as_str(), outcome.status), ("", Some(1)));
    assert!(
        outcome.stderr.contains("(ulimit -f), 1024000 bytes"),
        "{}",
        outcome.stderr
    );
    let scratch = Scratch::new("file-limit");
    let file = scratch.path("output");
    let then = format!(
        "-o {} -e 'probe timer.ms(1) {{ for (i = 0; i < 900; i++) println(\"a line of output\") }}'",
        file.display()
    );
    let outcome = run_limited("-S -f", &then);
    assert_eq!(outcome.status, Some(1), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("File too large"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_program_short_of_address_space_is_refused_with_the_way_out() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 100000; echo ready; exec sleep 100"]);
    let (target, mut output) = spawn(&mut command);
    assert_eq!(line(&mut output), "ready");
    let pid = target.0.id();
    // clock_nanosleep: its libraries are there.
    until("sleep sleeps", || {
        std::fs::read_to_string(format!("/proc/{pid}/syscall"))
            .is_ok_and(|call| call.starts_with("230 "))
    });
    let script = "global n probe process.library(\"*libc.so*\").function(\"malloc\") { n++ } probe timer.ms(1) { exit() }";
    let outcome = stap(&["-x", &pid.to_string(), "-e", script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("SPILE_THREADS"),
        "{}",
        outcome.stderr
    );
    let small = [
        "-D",
        "SPILE_THREADS=4",
        "-D",
        "SPILE_RING=65536",
        "-D",
        "SPILE_PROCESSES=1",
    ];
    let mut args = vec!["-x", "", "-e", script];
    let pid = pid.to_string();
    args[1] = &pid;
    args.extend(small);
    stap(&args).ok();
}

#[test]
fn what_cannot_be_traced_is_named() {
    let script = "probe process.begin { exit() }";
    let refusal = |pid: &str| {
        let outcome = stap(&["-x", pid, "-e", script]);
        assert_eq!(outcome.status, Some(1));
        outcome.stderr
    };
    assert!(refusal("4194304").contains("no process 4194304"));
    let named = |pid: &str| {
        let script = format!("probe process({pid}).begin {{ exit() }}");
        stap(&["-p2", "-e", &script]).stderr
    };
    assert!(named("4194304").contains("cannot probe pid 4194304: No such process"));
    assert!(named("-1").contains("cannot probe pid -1: Invalid pid"));
    let (target, _output) = spawn(Command::new("sleep").arg("100"));
    let pid = target.0.id().to_string();
    let (_tracer, _output) = spawn(Command::new("strace").args(["-o", "/dev/null", "-p", &pid]));
    until("strace has it", || {
        std::fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|s| !s.contains("TracerPid:\t0\n"))
    });
    assert!(refusal(&pid).contains("(strace)"));
    let mut zombie = Command::new("true").spawn().expect("true");
    let pid = zombie.id().to_string();
    until("its end", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") Z"))
    });
    assert!(refusal(&pid).contains("has already ended"));
    zombie.wait().expect("an end");
    let mut command = Command::new(spile_path());
    command.args(["stap", "-c", "/etc/passwd", "-e", script]);
    assert!(run(command).stderr.contains("cannot run /etc/passwd"));
}

/// Of a process's beginning the tracer tells, but as if the process itself did: its parent, group, session and users.
#[test]
fn a_process_that_begins_has_its_own_parent() {
    let script = r#"probe process("/bin/true").begin {
        printf("%d %s %d %d\n", ppid() == target(), pexecname(), pgrp() == pid(), sid() == pid())
        printf("%d %d %d %d\n", uid(), euid(), gid(), egid()) }"#;
    // The shell waits for what it starts in a session of its own.
    let command = "sh -c 'setsid --wait /bin/true; :'";
    let outcome = stap(&["-e", script, "-c", command]).ok();
    let own = |flag: &str| {
        let mut id = Command::new("id");
        id.arg(flag);
        run(id).ok().stdout.trim().to_owned()
    };
    let (user, group) = (own("-u"), own("-g"));
    // setsid(1) makes a child where it leads a group already, which it does not here, and becomes the program.
    let expected = format!("1 sh 1 1\n{user} {user} {group} {group}\n");
    assert_eq!(outcome.stdout, expected, "{}", outcome.stderr);
}
