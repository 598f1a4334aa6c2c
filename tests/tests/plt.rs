//! `process.plt("NAME")`: calls that leave a module for another.

use spile_tests::{Scratch, stap};

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
  int n = 0;
  for (int i = 0; i < 300; i++) n += getppid() > 0;
  for (int i = 0; i < 20; i++) n += getenv("HOME") == 0;
  return n == 0;
}"#;

#[test]
fn calls_are_seen_where_they_leave_a_program_however_it_was_linked() {
    let scratch = Scratch::new("plt");
    let script = "global n probe process.plt(\"get*\") { n[$$name]++ }
        probe end { printf(\"%d %d\\n\", n[\"getppid\"], n[\"getenv\"]) }";
    for (name, flags) in [
        ("lazy.c", &["-O2", "-Wl,-z,lazy"][..]),
        (
            "protected.c",
            &["-O2", "-fcf-protection", "-Wl,-z,ibtplt", "-Wl,-z,lazy"],
        ),
        ("now.c", &["-O2", "-Wl,-z,now"]),
        ("fixed.c", &["-O2", "-no-pie"]),
        ("stripped.c", &["-O2", "-s"]),
        // It writes no call frame information for its tables.
        ("lld.c", &["-O2", "-fuse-ld=lld"]),
        ("lld-lazy.c", &["-O2", "-fuse-ld=lld", "-Wl,-z,lazy", "-s"]),
    ] {
        let program = scratch.compile(name, PROGRAM, flags);
        let outcome = stap(&["-e", script, "-c", &program.display().to_string()]).ok();
        assert_eq!(outcome.stdout, "300 20\n", "{name}: {}", outcome.stderr);
    }
}

#[test]
fn calls_are_seen_where_they_come_back() {
    let scratch = Scratch::new("plt-return");
    let script = "global n, sum probe process.plt(\"get*\").return { n[$$name]++; sum[$$name] += $return != 0 }
        probe process.plt(\"setjmp\").return ?, process.plt(\"_setjmp\").return ? { n[\"jumps\"]++ }
        probe end { printf(\"%d %d %d\\n\", n[\"getppid\"], n[\"getenv\"], sum[\"getppid\"]) }";
    let source = PROGRAM.replace("int main(void) {", "#include <setjmp.h>\nint main(void) {\n jmp_buf b; volatile int k = 0; if (setjmp(b) < 9 && k++ < 9) longjmp(b, k); if (k != 9) abort();");
    for (name, flags) in [
        ("lazy.c", &["-O2", "-Wl,-z,lazy"][..]),
        ("now.c", &["-O2", "-Wl,-z,now"]),
        ("fixed.c", &["-O2", "-no-pie", "-s"]),
    ] {
        let program = scratch.compile(name, &source, flags);
        let outcome = stap(&["-e", script, "-c", &program.display().to_string()]).ok();
        assert_eq!(outcome.stdout, "300 20 300\n", "{name}: {}", outcome.stderr);
    }
}

#[test]
fn entries_are_listed_by_name() {
    let outcome = stap(&["-l", "process(\"/bin/ls\").plt(\"getenv\")"]).ok();
    assert_eq!(outcome.stdout, "process(\"/usr/bin/ls\").plt(\"getenv\")\n");
    let outcome = stap(&["-l", "process(\"/bin/ls\").plt(\"getenv\").return"]).ok();
    let expected = "process(\"/usr/bin/ls\").plt(\"getenv\").return\n";
    assert_eq!(outcome.stdout, expected);
}

/// `stap -l` has it so. The start files call `__cxa_finalize` by `.plt.got`.
#[test]
fn patterns_leave_out_entries_that_have_no_slot_of_their_own() {
    let scratch = Scratch::new("plt-got");
    let program = scratch.compile("got.c", PROGRAM, &["-O2", "-Wl,-z,lazy"]);
    let point = format!("process(\"{}\").plt", program.display());
    let listed = stap(&["-l", &format!("{point}(\"*\")")]).ok().stdout;
    assert_eq!(
        listed,
        format!("{point}(\"getenv\")\n{point}(\"getppid\")\n")
    );
}

/// Of a stripped program stap knows the names of what it calls elsewhere, and takes them for what may have been meant by
/// names of functions, too.
#[test]
fn names_that_may_have_been_meant_are_told() {
    let scratch = Scratch::new("plt-similar");
    let program = scratch.compile("stripped.c", PROGRAM, &["-O2", "-s"]);
    let said = |point: &str| {
        let script = format!(
            "probe process(\"{}\").{point} {{ exit() }}",
            program.display()
        );
        let outcome = stap(&["-e", &script]);
        assert_eq!(outcome.status, Some(1));
        let mut lines = outcome.stderr.lines();
        let line = lines.find(|line| line.contains("no match"));
        line.unwrap_or_default().to_owned()
    };
    let similar = "semantic error: no match (similar functions: getenv, getppid";
    // Functions that a linker adds, such as __libc_start_main, may come behind these.
    for point in ["plt(\"getenw\")", "function(\"getenw\")"] {
        let found = said(point);
        assert!(found.starts_with(similar), "{point}: {found}");
    }
    assert_eq!(said("statement(\"getenw\")"), "semantic error: no match");
}
