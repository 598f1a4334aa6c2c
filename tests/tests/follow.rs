//! Sessions of many processes: programs that are found, children, and everything let go at the end.

use spile_tests::{Guard, Scratch, line, spawn, spile_path, stap};
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

/// Calls `f` for each line of its input, and answers each.
const ANSWERS: &str = r#"
#include <stdio.h>
__attribute__((noinline, noclone)) int f(int a) { __asm__ volatile("" ::: "memory"); return a * 2; }
int main(void) {
  char line[80];
  puts("ready"); fflush(stdout);
  while (fgets(line, sizeof line, stdin)) { f(line[0]); puts("answer"); fflush(stdout); }
  return 0;
}"#;

/// A process that runs [`ANSWERS`].
struct Answerer {
    child: Guard,
    output: BufReader<ChildStdout>,
}

impl Answerer {
    fn start(program: &Path) -> Answerer {
        let mut command = Command::new(program);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = Guard(child.expect("the program"));
        let output = child.0.stdout.take().map(BufReader::new).expect("a pipe");
        let mut answerer = Answerer { child, output };
        assert_eq!(line(&mut answerer.output), "ready");
        answerer
    }

    fn ask(&mut self) {
        let input = self.child.0.stdin.as_mut().expect("its input");
        input.write_all(b"x\n").expect("a question");
        assert_eq!(line(&mut self.output), "answer");
    }
}

#[test]
fn a_program_named_by_path_is_probed_in_all_its_processes_those_that_run_and_those_to_come() {
    let scratch = Scratch::new("by-path");
    let program = scratch.compile("answers.c", ANSWERS, &["-O2", "-g"]);
    let path = program.to_string_lossy();
    let start = || Answerer::start(&program);
    let mut first = start();
    let script = format!(
        "global n, t probe process(\"{path}\").function(\"f\") {{ n[pid()]++ }}
         probe process(\"{path}\").begin {{ printf(\"begin %d %s\\n\", pid(), execname()) }}
         probe process(\"{path}\").end {{ printf(\"end %d %d\\n\", pid(), n[pid()]) if (t++) exit() }}"
    );
    let (mut spile, mut output) = spawn(Command::new(spile_path()).args(["stap", "-e", &script]));
    let begins = |target: &Answerer| format!("begin {} answers", target.child.0.id());
    assert_eq!(line(&mut output), begins(&first));
    let mut second = start();
    assert_eq!(line(&mut output), begins(&second));
    for (target, count) in [(&mut first, 3), (&mut second, 5)] {
        for _ in 0..count {
            target.ask();
        }
        drop(target.child.0.stdin.take());
        target.child.0.wait().expect("an end");
        assert_eq!(
            line(&mut output),
            format!("end {} {count}", target.child.0.id())
        );
    }
    assert!(spile.0.wait().expect("an end").success());
}

#[test]
fn without_any_such_process_a_session_waits_until_it_is_told_to_end() {
    let script = "probe process(\"/bin/false\").begin { println(\"begin\") } probe timer.ms(50) { println(\"over\") exit() }";
    let outcome = stap(&["-e", script]).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("over\n", "")
    );
}

/// Forks a child, which forks one, and all of them answer in turn: grandchild, child, parent.
const FAMILY: &str = r#"
#include <stdio.h>
#include <unistd.h>
#include <sys/wait.h>
__attribute__((noinline, noclone)) int f(int a) { __asm__ volatile("" ::: "memory"); return a * 2; }
int main(void) {
  char c;
  printf("%d\n", getpid()); fflush(stdout);
  if (read(0, &c, 1) != 1) return 1;
  for (int i = 0; i < 2 && fork() == 0; i++) { printf("%d\n", getpid()); fflush(stdout); }
  f(1);
  if (read(0, &c, 1) != 1) return 1;
  f(2);
  while (wait(0) > 0) ;
  return 0;
}"#;

#[test]
fn children_by_fork_are_left_without_a_trace_of_the_session() {
    let scratch = Scratch::new("family");
    let program = scratch.compile("family.c", FAMILY, &["-O2", "-g"]);
    let mut command = Command::new(&program);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut target = Guard(child.expect("the program"));
    let mut output = BufReader::new(target.0.stdout.take().expect("a pipe"));
    let mut input = target.0.stdin.take().expect("a pipe");
    let mut family = vec![line(&mut output)];
    let script = "global n probe process.begin { if (pid() == target()) println(\"ready\") }
        probe process.function(\"f\") { if (++n == 3) { println(n) exit() } }";
    let (mut spile, mut counts) =
        spawn(Command::new(spile_path()).args(["stap", "-x", &family[0], "-e", script]));
    assert_eq!(line(&mut counts), "ready");
    input.write_all(b"x").expect("go on");
    family.extend([line(&mut output), line(&mut output)]);
    assert_eq!(line(&mut counts), "3");
    assert!(spile.0.wait().expect("an end").success());
    for pid in &family {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
        assert!(!maps.contains("memfd:spile"), "{pid}:\n{maps}");
    }
    input.write_all(b"xxx").expect("go on");
    assert!(target.0.wait().expect("an end").success());
}

/// Runs itself again and again, as often as its argument says.
const AGAIN: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
__attribute__((noinline, noclone)) int step(int i) { __asm__ volatile("" ::: "memory"); return i - 1; }
int main(int argc, char **argv) {
  char left[20];
  int n = step(atoi(argv[1]));
  usleep(500);
  if (n == 0) return 0;
  sprintf(left, "%d", n);
  execl("/proc/self/exe", argv[0], left, (char *)0);
  return 1;
}
"#;

#[test]
fn who_is_attached_to_while_a_program_begins_is_followed() {
    let scratch = Scratch::new("begins");
    let program = scratch.compile("again.c", AGAIN, &["-O2", "-g"]);
    let (target, _output) = spawn(Command::new(&program).arg("1000000"));
    let pid = target.0.id().to_string();
    // Of the program that was attached to there is one beginning.
    let script = "global n probe process.begin { if (++n == 5) exit() }
        probe process.function(\"step\") { next } probe end { println(n) }";
    for _ in 0..4 {
        let outcome = stap(&["-x", &pid, "-e", script]).ok();
        assert_eq!(outcome.stdout, "5\n", "{}", outcome.stderr);
    }
}
