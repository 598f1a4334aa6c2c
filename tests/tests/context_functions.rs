//! Functions that name target variables, which mean what they mean where the function is called from (NEWS of SystemTap
//! 4.3), and signals that handlers send.

use spile_tests::{Scratch, stap};

const PROGRAM: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
struct pair { int a; char *name; };
static volatile sig_atomic_t caught;
static void on_signal(int n) { (void)n; caught++; }
__attribute__((noinline)) int foo(int x, struct pair *p) { __asm__ volatile(""); return x + p->a; }
__attribute__((noinline)) int bar(int y) { struct pair q = { y, "pair" }; return foo(y + 1, &q); }
int main(int argc, char **argv) {
  (void)argv;
  signal(SIGUSR1, on_signal);
  int sum = bar(3);
  for (int i = 0; argc > 1 && i < 30000 && !caught; i++) usleep(1000);
  printf("%d %d\n", sum, (int)caught);
  return 0;
}
"#;

#[test]
fn variables_in_functions_are_those_of_the_caller() {
    let scratch = Scratch::new("context-functions");
    let program = scratch.compile("c.c", PROGRAM, &["-g", "-O0"]);
    let outcome = stap(&[
        "-e",
        r#"function name() { return user_string($p->name) }
        function number() { return @defined($x) ? $x : $y }
        function twice() { return 2 * number() }
        probe process.function("foo") { printf("%s %d %s\n", name(), twice(), shown()) }
        probe process.function("bar") { printf("%d %s\n", twice(), shown()) }
        function shown() { return $$parms }
        probe process.function("main") { kill() } function kill() { if (@defined($nosuch)) println("never") }"#,
        "-c",
        &program.to_string_lossy(),
        "-DMAXACTION=100",
    ]);
    // The program's own line stands anywhere among those of the script.
    let lines = outcome.stdout.lines().filter(|l| *l != "7 0");
    let lines: Vec<&str> = lines.collect();
    assert_eq!(outcome.status, Some(0), "{}", outcome.stderr);
    assert_eq!(lines[0], "6 y=0x3", "{lines:?}");
    assert!(lines[1].starts_with("pair 8 x=0x4 p=0x"), "{lines:?}");
}

#[test]
fn a_caller_without_such_a_variable_is_refused() {
    let scratch = Scratch::new("context-refused");
    let program = scratch.compile("c.c", PROGRAM, &["-g", "-O0"]);
    let path = program.to_string_lossy();
    // As Debian's stap 4.8 says.
    let outcome = stap(&[
        "-p2",
        "-e",
        "function f() { println($x) } probe begin { f() }",
    ]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.starts_with(
            "semantic error: unresolved target-symbol expression: identifier '$x' at <input>:1:24\n"
        ),
        "{}",
        outcome.stderr
    );
    let script = format!(
        "function f() {{ println($nosuch) }} probe process(\"{path}\").function(\"foo\") {{ f() }}"
    );
    let outcome = stap(&["-p2", "-e", &script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("unable to find local 'nosuch'"),
        "{}",
        outcome.stderr
    );
    let script = format!("probe process(\"{path}\").function(\"foo\") {{ println($$return) }}");
    let outcome = stap(&["-p2", "-e", &script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("unable to find local '$return'"),
        "{}",
        outcome.stderr
    );
    let script =
        "function f() { return @defined($x) ? $x : 7 } probe begin { println(f()) exit() }";
    assert_eq!(stap(&["-e", script]).ok().stdout, "7\n");
}

#[test]
fn handlers_send_signals_to_the_thread_that_hit() {
    let scratch = Scratch::new("raise");
    let program = scratch.compile("c.c", PROGRAM, &["-g", "-O0"]);
    let path = program.to_string_lossy();
    let script = "probe process.function(\"foo\") { raise(10) println(\"sent\") }";
    // The program waits for the signal when it has an argument.
    let outcome = stap(&["-g", "-e", script, "-c", &format!("{path} wait")]).ok();
    let mut lines: Vec<&str> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    // 3 + 4 by the program, and one signal caught.
    assert_eq!(lines, ["7 1", "sent"]);
    let outcome = stap(&["-e", script, "-c", &path]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("unless -g is specified"),
        "only in guru mode: {}",
        outcome.stderr
    );
}
