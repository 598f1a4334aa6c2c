//! `process.syscall` and `process.syscall.return`, against what the program and strace count.

use spile_tests::{Scratch, need, run, spile_path, stap};
use std::collections::BTreeMap;
use std::process::Command;

/// Calls of which it knows how many it makes: by wrappers, through syscall(2), in threads, failing, interrupted.
const CALLS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static void *many(void *p) { for (int i = 0; i < 500; i++) { getppid(); if (syscall(SYS_getuid) < 0) return p; } return 0; }
static void on_alarm(int s) { }
int main(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, many, 0);
  for (int i = 0; i < 4; i++) { void *r; pthread_join(t[i], &r); if (r) return 1; }
  for (int i = 0; i < 100; i++) if (write(-1, "x", 1) != -1 || errno != EBADF) return 2;
  struct sigaction action; memset(&action, 0, sizeof action); action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, 0);
  for (int i = 0; i < 20; i++) {
    struct itimerval soon = {{0, 0}, {0, 1000}};
    setitimer(ITIMER_REAL, &soon, 0);
    if (pause() != -1 || errno != EINTR) return 3;
  }
  return 0;
}"#;

#[test]
fn every_call_is_seen_with_its_arguments_and_its_result() {
    let scratch = Scratch::new("calls");
    let program = scratch.compile("calls.c", CALLS, &["-O2", "-pthread"]);
    // getppid 110, getuid 102, write 1, pause 34, rt_sigreturn 15 (unistd_64.h); -9 is EBADF.
    let script = "global n, r, failed
        probe process.syscall { n[$syscall]++; if ($syscall == 1 && ($arg1 & 0xffffffff) != 0xffffffff) exit() }
        probe process.syscall.return { r[@entry($syscall)]++; if (@entry($syscall) == 1 && $return == -9) failed++ }
        probe end { printf(\"%d %d %d %d %d %d %d %d\\n\", n[110], r[110], n[102], r[102], n[1], failed, n[34], n[15]) }";
    let outcome = stap(&["-e", script, "-c", &program.display().to_string()]).ok();
    assert_eq!(
        outcome.stdout, "2000 2000 2000 2000 100 100 20 20\n",
        "{}",
        outcome.stderr
    );
}

#[test]
fn counts_are_straces() {
    need("/usr/bin/strace");
    let scratch = Scratch::new("strace");
    let counts = scratch.path("counts");
    let mut strace = Command::new("/usr/bin/strace");
    let command = ["/bin/ls", "-lR", "/etc"];
    strace
        .args(["-c", "-U", "name,calls", "-o"])
        .arg(&counts)
        .args(command);
    run(strace).ok();
    let text = std::fs::read_to_string(&counts).expect("strace's table");
    let theirs: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| {
            let (name, count) = line.trim().split_once(' ')?;
            Some((name, count.trim().parse().ok()?))
        })
        .collect();
    // None of these is made before the libraries are loaded: statx, readlink, lgetxattr, getxattr, getdents64.
    let script = "global n probe process.syscall { n[$syscall]++ }
        probe end { printf(\"%d %d %d %d %d\\n\", n[332], n[89], n[192], n[191], n[217]) }";
    let scratch_output = scratch.path("listing");
    let mut spile = Command::new(spile_path());
    spile
        .args(["stap", "-e", script, "-o"])
        .arg(&scratch_output)
        .args(["-c", &command.join(" ")]);
    run(spile).ok();
    let ours = std::fs::read_to_string(&scratch_output).expect("the counts");
    let expected: Vec<String> = ["statx", "readlink", "lgetxattr", "getxattr", "getdents64"]
        .iter()
        .map(|name| theirs.get(name).copied().unwrap_or(0).to_string())
        .collect();
    assert_eq!(ours.trim(), expected.join(" "), "{text}");
}

#[test]
fn variables_are_staps() {
    let fails = |script: &str, message: &str| {
        let outcome = stap(&["-p2", "-e", script]);
        assert_ne!(outcome.status, Some(0), "{script}");
        assert!(
            outcome.stderr.contains(message),
            "{script}: {}",
            outcome.stderr
        );
    };
    fails(
        "probe process(\"/bin/ls\").syscall { println($arg7) }",
        "invalid syscall argument number (1-6)",
    );
    fails(
        "probe process(\"/bin/ls\").syscall { println($return) }",
        "only \"process(PATH_OR_PID).syscall.return\" support $return.",
    );
    fails(
        "probe process(\"/bin/ls\").syscall.return { println($arg1) }",
        "only \"process(PATH_OR_PID).syscall\" support $argN or $$parms.",
    );
    fails(
        "probe process(\"/bin/ls\").thread.begin { println($syscall) }",
        "probes support target symbols",
    );
}
