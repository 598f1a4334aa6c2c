//! Children by fork, vfork and posix_spawn, and the programs that they run.

use spile_tests::{Scratch, need, run, spile_path, stap};
use std::collections::BTreeMap;
use std::process::Command;

const PYTHON: &str = "/usr/bin/python3.11";

fn in_scratch(scratch: &Scratch, args: &[&str]) -> spile_tests::Outcome {
    let mut command = Command::new(spile_path());
    command
        .arg("stap")
        .args(args)
        .current_dir(scratch.path("."));
    run(command)
}

/// Two words per line: how often each program began, and ended.
fn tally(stdout: &str) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for line in stdout.lines() {
        *tally.entry(line.to_owned()).or_default() += 1;
    }
    tally
}

const LIVES: &str = "probe process.begin { println(\"begin \", execname()) }
    probe process.end { println(\"end \", execname()) }";

#[test]
fn a_shell_and_all_that_it_runs_begin_and_end() {
    let outcome = stap(&[
        "-e",
        LIVES,
        "-c",
        "sh -c 'uname -s; uname -s; (exit 3); ls -d /; exit 0'",
    ])
    .ok();
    let expected = [
        // The shell, and its copies for four commands, three of which become programs.
        ("begin sh", 5),
        ("begin uname", 2),
        ("begin ls", 1),
        ("end sh", 5),
        ("end uname", 2),
        ("end ls", 1),
        ("Linux", 2),
        ("/", 1),
    ];
    let mut found = tally(&outcome.stdout);
    // A shell may use vfork, whose child is its parent until it runs a program.
    let forks = found["begin sh"];
    assert_eq!(forks, found["end sh"], "{}", outcome.stdout);
    assert!((2..=5).contains(&forks), "{}", outcome.stdout);
    for name in ["begin sh", "end sh"] {
        found.insert(name.into(), 5);
    }
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(found, BTreeMap::from(expected), "{}", outcome.stderr);
}

/// Every way in which Python starts programs.
const SPAWNS: &str = r#"
import os, subprocess
for i in range(5):
    assert subprocess.run(["/bin/true"]).returncode == 0
    assert subprocess.run("exit 3", shell=True).returncode == 3
    assert os.system("/bin/true") == 0
assert subprocess.run(["/bin/true"], preexec_fn=lambda: None).returncode == 0
pid = os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ)
assert os.waitpid(pid, 0)[1] == 0
assert subprocess.run(["/bin/nowhere"], shell=False, executable="/bin/true").returncode == 0
try:
    subprocess.run(["/nowhere"])
except FileNotFoundError:
    print("not found", flush=True)
"#;

#[test]
fn children_by_vfork_and_posix_spawn_live_and_are_probed() {
    need(PYTHON);
    let scratch = Scratch::new("spawns");
    scratch.write("spawns.py", SPAWNS);
    let command = format!("{PYTHON} -S spawns.py");
    // Only a begin probe.
    let outcome = in_scratch(
        &scratch,
        &["-e", "probe begin { println(1) }", "-c", &command],
    )
    .ok();
    assert_eq!(outcome.stdout, "1\nspawned\nnot found\n");
    let script = "global begun, exits
        probe process(\"/bin/true\").begin { begun++ }
        probe process(\"/bin/true\").library(\"libc.so*\").function(\"exit\") { exits++ }
        probe process(\"/bin/echo\").function(\"main\")? { }
        probe end { println(begun, \" \", exits) }";
    let outcome = in_scratch(&scratch, &["-e", script, "-c", &command]).ok();
    assert_eq!(
        outcome.stdout, "spawned\nnot found\n12 12\n",
        "{}",
        outcome.stderr
    );
}

/// Forks 50 children at a time, each of which calls the function 100 times.
const FORKS: &str = r#"
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline, noclone)) int f(int a) { __asm__ volatile("" ::: "memory"); return a + 1; }
int main(void) {
  for (int round = 0; round < 40; round++) {
    for (int i = 0; i < 50; i++)
      if (fork() == 0) { int sum = 0; for (int k = 0; k < 100; k++) sum += f(k); _exit(sum != 5050); }
    for (int i = 0; i < 50; i++) { int status; wait(&status); if (status) return 1; }
  }
  return 0;
}"#;

#[test]
fn two_thousand_children_are_counted_to_the_last_hit() {
    let scratch = Scratch::new("forks");
    let program = scratch.compile("forks.c", FORKS, &["-O2", "-g"]);
    let script = "global n, begun, ended
        probe process.function(\"f\") { n++ }
        probe process.begin { begun++ } probe process.end { ended++ }
        probe end { println(n, \" \", begun, \" \", ended) }";
    let outcome = stap(&["-e", script, "-c", &program.display().to_string()]).ok();
    assert_eq!(outcome.stdout, "200000 2001 2001\n", "{}", outcome.stderr);
}

#[test]
fn the_targets_own_exit_status_is_no_failure_of_the_session() {
    for command in ["sh -c 'exit 3'", "sh -c 'exec sh -c \"exit 3\"'"] {
        let outcome = stap(&["-e", LIVES, "-c", command]);
        assert!(
            outcome
                .stderr
                .contains("Child process exited with status 3"),
            "{}",
            outcome.stderr
        );
        assert!(!outcome.stderr.contains("failed"), "{}", outcome.stderr);
        assert_eq!(
            outcome.stdout.matches("begin sh").count(),
            outcome.stdout.matches("end sh").count()
        );
    }
}

/// Forks as many children as its argument says, all of which are there at a time.
const BURST: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline, noclone)) long step(long a) { __asm__ volatile("" ::: "memory"); return a + 1; }
int main(int argc, char **argv) {
  int gate[2], n = atoi(argv[1]);
  char byte;
  if (pipe(gate)) return 1;
  for (int i = 0; i < n; i++)
    if (!fork()) { close(gate[1]); step(i); read(gate[0], &byte, 1); _exit(0); }
  close(gate[1]);
  while (wait(0) > 0) ;
  return 0;
}
"#;

#[test]
fn all_children_of_a_burst_begin_and_end() {
    let scratch = Scratch::new("burst");
    let program = scratch.compile("burst.c", BURST, &["-O2", "-g"]);
    // More than the board has room for.
    let command = format!("{} 300", program.display());
    let script = "global a, b, n probe process.begin { a++ } probe process.end { b++ }
        probe process.function(\"step\") { n++ } probe end { println(a, \" \", b, \" \", n) }";
    // Hooks and handlers at the same system calls do not get in each other's way.
    let threads = "probe process.thread.begin, process.thread.end { println(\"a thread\") }";
    for script in [script.to_owned(), format!("{script} {threads}")] {
        let outcome = stap(&["-e", &script, "-c", &command]).ok();
        assert_eq!(outcome.stdout, "301 301 300\n", "{}", outcome.stderr);
    }
}
