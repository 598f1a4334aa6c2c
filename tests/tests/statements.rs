//! Statement probes and the other places in a function's code: lines, labels, inlined copies, addresses.

use spile_tests::{Scratch, run, stap};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// Lines are counted from 1: `bump` begins at 2, `work` at 6, `main` at 17.
const SOURCE: &str = "int sink;
static inline __attribute__((always_inline)) int bump(int by) {
  int twice = by * 2;
  return twice + 1;
}
__attribute__((noinline)) int work(int n) {
  int sum = 0;
  for (int i = 0; i < n; i++) {
    sum += i;
    if (sum > 5) {
      sink++; goto out; }
    sum += bump(i);
  }
out:
  return sum;
}
int main(void) {
  sink = bump(3);

  sink += work(2);
  sink += work(10);
  return 0;
}
";

fn program(scratch: &Scratch, flags: &[&str]) -> String {
    let path = scratch.compile("lines.c", SOURCE, flags);
    path.to_string_lossy().into_owned()
}

/// What `-l` or `-L` lists for a point of a program, without what all lines have in common.
fn list(program: &str, option: &str, point: &str) -> Vec<String> {
    let outcome = stap(&[option, &format!("process(\"{program}\").{point}")]);
    let directory = Path::new(program).parent().unwrap().to_string_lossy();
    outcome
        .stdout
        .lines()
        .map(|line| {
            line.replace(&format!("process(\"{program}\")."), "")
                .replace(&format!("{directory}/"), "")
        })
        .collect()
}

/// The message of a point that means nothing.
fn refusal(program: &str, point: &str) -> String {
    let script = format!("probe process(\"{program}\").{point} {{ next }}");
    let outcome = stap(&["-p2", "-e", &script]);
    assert_eq!(outcome.status, Some(1), "{point}: {}", outcome.stdout);
    let directory = Path::new(program).parent().unwrap().to_string_lossy();
    outcome.stderr.replace(&format!("{directory}/"), "")
}

#[test]
fn lines_are_listed_as_stap_lists_them() {
    let scratch = Scratch::new("statement-list");
    let program = program(&scratch, &["-O0", "-g"]);
    let lines = |point: &str| {
        let listed = list(&program, "-l", point);
        listed
            .iter()
            .map(|l| {
                l.replace("statement(\"", "")
                    .replace("@lines.c", "")
                    .replace("\")", "")
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    // What stap 4.8 prints for the same program.
    for (point, expected) in [
        (r#"statement("work@lines.c:9")"#, "work:9"),
        (
            r#"statement("*@lines.c:7-12")"#,
            "work:10 work:11 work:12 work:7 work:8 work:9",
        ),
        (
            r#"statement("work@lines.c:7,9-10")"#,
            "work:10 work:7 work:9",
        ),
        (r#"statement("work@lines.c+1")"#, "work:7"),
        (
            r#"statement("main@lines.c:*")"#,
            "main:17 main:18 main:20 main:21 main:22 main:23",
        ),
        (r#"statement("*@lines.c:19")"#, ""),
        (r#"statement("*@lines.c:19").nearest"#, "main:19.nearest"),
        (r#"statement("work")"#, "work:6"),
        (r#"statement("nobody@lines.c:7")"#, ""),
    ] {
        assert_eq!(lines(point), expected, "{point}");
    }
}

#[test]
fn variables_of_blocks_are_listed_where_they_live() {
    let scratch = Scratch::new("statement-variables");
    let program = program(&scratch, &["-O0", "-g"]);
    assert_eq!(
        list(&program, "-L", r#"statement("work@lines.c:9,15")"#),
        [
            r#"statement("work@lines.c:15") $n:int $sum:int"#,
            r#"statement("work@lines.c:9") $i:int $n:int $sum:int"#,
        ]
    );
    assert_eq!(
        list(&program, "-L", r#"function("work").label("*")"#),
        [r#"function("work@lines.c:14").label("out") $n:int $sum:int"#]
    );
}

#[test]
fn each_line_is_hit_as_often_as_it_runs() {
    let scratch = Scratch::new("statement-hits");
    let program = program(&scratch, &["-O0", "-g"]);
    let script = r#"global hits
        probe process.statement("work@lines.c:*") { hits[pp()]++ }
        probe process.function("work").label("out") { hits["label"]++ }
        probe end { foreach (p+ in hits) printf("%s %d\n", p, hits[p]) }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    let mut hits = Vec::new();
    for line in outcome.stdout.lines() {
        let (place, count) = line.rsplit_once(' ').unwrap();
        let place = place.rsplit([':', '/']).next().unwrap();
        hits.push(format!("{} {count}", place.trim_end_matches("\")")));
    }
    hits.sort();
    // work(2): i = 0, 1, the test fails at 2; sum 0 +1, +1 +3. work(10): sum 0 +1, +1 +3, +2 > 5.
    assert_eq!(
        hits,
        [
            "10 5", "11 1", "12 4", "15 2", "16 2", "6 2", "7 2", "8 2", "9 5", "label 2"
        ],
        "{}",
        outcome.stderr
    );
}

#[test]
fn inlined_copies_are_probed_with_their_parameters() {
    let scratch = Scratch::new("statement-inlined");
    let script = r#"probe process.function("bump") { printf("%d ", $by) }
        probe process.function("bump").inline { n++ } global n
        probe end { println(n) }"#;
    for flags in [["-O0", "-g"], ["-O1", "-g"]] {
        let program = program(&scratch, &flags);
        let outcome = stap(&["-e", script, "-c", &program]);
        if flags[0] == "-O0" {
            // At their entry copies without optimisation have not stored their parameters yet.
            let outcome = outcome.ok();
            let count = outcome.stdout.trim().rsplit(' ').next();
            assert_eq!(count, Some("5"), "{}{}", outcome.stdout, outcome.stderr);
        }
    }
    let program = program(&scratch, &["-O0", "-g"]);
    let script = r#"probe process.statement("bump@lines.c:4") { printf("%d ", $twice) }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    assert_eq!(outcome.stdout, "6 0 2 0 2 ", "{}", outcome.stderr);
}

#[test]
fn addresses_are_probed_where_statements_begin() {
    let scratch = Scratch::new("statement-address");
    // At a fixed address, so that the file's addresses are the process's.
    let program = program(&scratch, &["-O0", "-g", "-no-pie"]);
    let script = r#"probe process.statement("work@lines.c:9") { printf("%d", uaddr()) exit() }"#;
    let outcome = stap(&["-e", script, "-c", &program]).ok();
    let address: u64 = outcome.stdout.trim().parse().unwrap();
    let script = format!(
        r#"probe process.statement({address:#x}) {{ printf("%s %d %d\n", pn(), $i, $sum) }}"#
    );
    let outcome = stap(&["-e", &script, "-c", &program]).ok();
    let values: Vec<_> = outcome
        .stdout
        .lines()
        .map(|l| l.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(values, ["0 0", "1 1", "0 0", "1 1", "2 5"]);
    assert_eq!(
        list(&program, "-l", &format!("function({:#x})", address)),
        [format!("function({address:#x})")]
    );
    let inside = refusal(&program, &format!("statement({:#x})", address + 1));
    assert!(
        inside.contains(&format!(
            "does not match the beginning of a statement (try {address:#x})"
        )),
        "{inside}"
    );
}

#[test]
fn what_has_no_code_is_told_with_the_nearest_that_has() {
    let scratch = Scratch::new("statement-missing");
    let program = program(&scratch, &["-O0", "-g"]);
    for (point, expected) in [
        (
            r#"statement("*@lines.c:19")"#,
            "no line records for lines.c:19 [man error::dwarf] (try :18 or :20)",
        ),
        (
            r#"statement("work@lines.c:30")"#,
            "no line records for lines.c:30 [man error::dwarf]\n",
        ),
        (
            r#"statement("work@lines.c:21")"#,
            "no line records for lines.c:21 [man error::dwarf] (try :16)\n",
        ),
        (
            r#"statement("work@lines.c:22").nearest"#,
            "no line records for lines.c:22 [man error::dwarf]\n",
        ),
        (
            r#"statement("worm@lines.c:7")"#,
            "no match (similar functions: work",
        ),
        (
            r#"statement("*@line.c:7")"#,
            "no match (similar files: lines.c",
        ),
        (
            r#"statement("work@lines.c:x")"#,
            "malformed specification 'work@lines.c:x'",
        ),
        (r#"function("work").inline"#, "no match"),
        (r#"statement(0x10)"#, "0x10 is not in the code"),
    ] {
        let stderr = refusal(&program, point);
        assert!(stderr.contains(expected), "{point}: {stderr}");
    }
}

#[test]
fn a_program_is_known_by_its_build_id() {
    let scratch = Scratch::new("build-id");
    let id = format!("0123456789abcdef{:016x}", std::process::id());
    let program = program(&scratch, &["-O0", "-g", &format!("-Wl,--build-id=0x{id}")]);
    let script =
        format!(r#"probe process("{id}").statement("work@lines.c:7") {{ printf("%d ", $n) }}"#);
    let outcome = stap(&["-e", &script, "-c", &program]).ok();
    assert_eq!(outcome.stdout, "2 10 ", "{}", outcome.stderr);
}

#[test]
fn callees_are_probed_when_their_caller_calls_them() {
    let scratch = Scratch::new("callees");
    let source = r#"
        int sink;
        __attribute__((noinline, noclone)) int leaf(int a) { __asm__ volatile("" ::: "memory"); return a + 1; }
        __attribute__((noinline, noclone)) int one(int a) { sink += leaf(a); return leaf(a + 1) + sink; }
        __attribute__((noinline, noclone)) int two(int a) { sink += leaf(a) * leaf(a); return sink; }
        int main(void) { for (int i = 0; i < 3; i++) sink += one(i) + two(i + 10); return 0; }"#;
    let script = r#"probe process.function("one").callee("leaf") { printf("%d ", $a) }
        probe process.function("main").callees { n[ppfunc()]++ } global n
        probe end { printf("one %d two %d all %d\n", n["one"], n["two"], n["leaf"]) }"#;
    for level in ["-O0", "-O2"] {
        let program = scratch.compile("callees.c", source, &[level, "-g"]);
        let program = program.to_string_lossy();
        let outcome = stap(&["-e", script, "-c", &program]).ok();
        assert_eq!(
            outcome.stdout, "0 1 1 2 2 3 one 3 two 3 all 0\n",
            "{level}: {}",
            outcome.stderr
        );
        assert_eq!(
            list(&program, "-L", r#"function("two").callees"#),
            [r#"function("two@callees.c:5").callee("leaf@callees.c:3") $a:int"#],
            "{level}"
        );
    }
}

#[test]
fn lines_of_sqlite_are_hit_as_often_as_gcov_counts() {
    let scratch = Scratch::new("gcov");
    let source = env!("SQLITE_SOURCE");
    let (include, amalgamation) = (format!("-I{source}"), format!("{source}/sqlite3.c"));
    let driver = include_str!("../targets/sqlite_speed.c");
    let flags = [
        "-O0",
        "-g",
        "--coverage",
        "-fprofile-update=single",
        &include,
        &amalgamation,
        "-lpthread",
        "-ldl",
        "-lm",
    ];
    let program = scratch.compile("lines.c", driver, &flags);
    // A function without loops or conditional expressions on one line, of which gcov would add up the parts.
    let script = r#"global hits
        probe process.statement("sqlite3BtreeIndexMoveto@sqlite3.c:*") { hits[pp()]++ }
        probe end { foreach (p in hits) printf("hit %s %d\n", p, hits[p]) }"#;
    let outcome = stap(&["-e", script, "-c", &program.to_string_lossy()]).ok();
    let mut gcov = Command::new("gcov");
    gcov.current_dir(scratch.path(""))
        .arg("-t")
        .arg("lines-sqlite3.gcda");
    let counted = run(gcov).ok().stdout;
    let counted: HashMap<u64, u64> = counted
        .lines()
        .filter_map(|line| {
            let (count, rest) = line.split_once(':')?;
            let number = rest.split(':').next()?.trim().parse().ok()?;
            Some((number, count.trim().trim_end_matches('*').parse().ok()?))
        })
        .collect();
    let mut compared = 0;
    for line in outcome.stdout.lines().filter(|l| l.starts_with("hit ")) {
        let (place, count) = line.rsplit_once(' ').unwrap();
        let number = place.trim_end_matches("\")").rsplit(':').next().unwrap();
        let number: u64 = number.parse().unwrap();
        if let Some(counted) = counted.get(&number) {
            assert_eq!(count.parse(), Ok(*counted), "line {number}");
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared} lines: {}", outcome.stderr);
}

#[test]
fn qualified_names_are_matched_part_by_part() {
    let scratch = Scratch::new("qualified");
    let source = r#"
namespace ns {
struct Base { virtual int run(int a) { return a + 1; } };
struct Derived : Base { int run(int a) override { return a * 3; } };
__attribute__((noinline)) int plain(int a) { return a; }
}
template <typename T> __attribute__((noinline)) T add(T a, T b) { return a + b; }
int main(int argc, char **) {
  ns::Derived d;
  ns::Base b, &r = argc > 5 ? b : d;
  return r.run(1) + ns::plain(2) + add(3, 4) + (int)add(1.0, 2.0);
}
"#;
    let program = scratch.compile("names.cc", source, &["-O0", "-g"]);
    let program = program.to_string_lossy();
    // What stap 4.8 prints.
    for (pattern, expected) in [
        (
            "Derived::run",
            &[r#"function("Derived::run@names.cc:4")"#][..],
        ),
        (
            "ns::*::run",
            &[
                r#"function("ns::Base::run@names.cc:3")"#,
                r#"function("ns::Derived::run@names.cc:4")"#,
            ],
        ),
        ("ns::*", &[r#"function("ns::plain@names.cc:5")"#]),
        (
            "add<*>",
            &[
                r#"function("add<double>@names.cc:7")"#,
                r#"function("add<int>@names.cc:7")"#,
            ],
        ),
        (
            "run",
            &[
                r#"function("run@names.cc:3")"#,
                r#"function("run@names.cc:4")"#,
            ],
        ),
    ] {
        let listed = list(&program, "-l", &format!("function(\"{pattern}\")"));
        assert_eq!(listed, expected, "{pattern}");
    }
}

/// Generated sources say `#line` with any number.
#[test]
fn a_range_of_lines_takes_no_longer_for_large_numbers() {
    let scratch = Scratch::new("far-lines");
    let source = "int sink;\n#line 5\nint main(void) {\n  sink = 1;\n#line 2000000000\n  sink++;\n  return 0;\n}\n";
    let program = scratch.compile("far.c", source, &["-g", "-O0"]);
    let program = program.to_string_lossy();
    let found = list(
        &program,
        "-l",
        "statement(\"*@far.c:1-4000000000\").nearest",
    );
    let lines: Vec<&str> = found
        .iter()
        .map(|point| &point[point.rfind(':').unwrap() + 1..point.rfind('"').unwrap()])
        .collect();
    // Listed in the order of their texts.
    assert_eq!(lines, ["2000000000", "2000000001", "2000000002", "5", "6"]);
}

#[test]
fn all_lines_of_a_function_end_where_the_next_one_is_declared() {
    let scratch = Scratch::new("followed");
    let numbers = |program: &Path, function: &str| -> Vec<u64> {
        let point = format!("statement(\"{function}@*:*\")");
        let listed = list(&program.to_string_lossy(), "-l", &point);
        let number = |line: &String| {
            line.rsplit(':')
                .next()?
                .trim_end_matches("\")")
                .parse()
                .ok()
        };
        let mut numbers: Vec<u64> = listed.iter().filter_map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    // Without optimisation functions stand one right behind the other, those of the other section last.
    let source = r#"
__attribute__((section(".text.aaa"))) int early(int a) { return a + 1; }
int main(int argc, char **argv) {
  int r = early(argc);
  return r == 100;
}"#;
    let program = scratch.compile("followed.c", source, &["-O0", "-g"]);
    assert_eq!(numbers(&program, "main"), [3, 4, 5, 6]);
    // That of the class stands behind, and is none of the file's own.
    let source = r#"
int outer(int n) {
  int r = n;
  struct Local {
    int v;
    int get(int k) {
      return v + k;
    }
  };
  Local l;
  l.v = r;
  r += l.get(2);
  return r;
}
int main(int argc, char **) { return outer(argc) == 3; }"#;
    let program = scratch.compile("local.cc", source, &["-O0", "-g"]);
    assert_eq!(numbers(&program, "outer"), [2, 3, 11, 12, 13, 14]);
}

/// `second` is declared behind `first` and has no code of its own.
const LATER: &str = r#"#include <stdio.h>
static int second(int n);
__attribute__((noinline, noclone)) int first(int n) {
  int kept = n * 3;
  printf("%d\n", kept);
  return second(kept) + 1;
}
static inline __attribute__((always_inline)) int second(int n) {
  puts("second");
  int more = n + 5;
  printf("%d\n", more);
  return more;
}
__attribute__((noinline, noclone)) int third(int n) {
  puts("third");
  return n;
}
int main(int argc, char **argv) { return first(argc) + third(argc) == 0; }"#;

#[test]
fn all_lines_of_a_function_are_those_of_what_is_inlined_from_behind_it_too() {
    let scratch = Scratch::new("statements-later");
    // As stap lists them.
    for (level, lines) in [("-O1", "3 4 5 6 7 10 12"), ("-O2", "3 5 6 7 10")] {
        let program = scratch.compile("later.c", LATER, &["-g", level]);
        let point = format!(
            r#"process("{}").statement("first@later.c:*")"#,
            program.display()
        );
        let outcome = stap(&["-l", &point]).ok();
        let number = |line: &str| {
            line.rsplit_once(':')?
                .1
                .trim_end_matches("\")")
                .parse()
                .ok()
        };
        let mut found: Vec<u32> = outcome.stdout.lines().filter_map(number).collect();
        found.sort_unstable();
        let found: Vec<String> = found.iter().map(u32::to_string).collect();
        assert_eq!(found.join(" "), lines, "{level}: {}", outcome.stderr);
    }
}

/// `late` begins at line 7 with what a header inlines.
const HEADED: &str = r#"#include "header.h"
int sink;
__attribute__((noinline)) int early(int n) {
  sink = n;
  return n + 1;
}
__attribute__((noinline)) long late(double x) {
  long b = bits(x);
  if (b > 5)
    sink++;
  early(3);
  return b * 3 + sink;
}
int main(int argc, char **argv) { return late(argc * 1.5) == early(argc); }
"#;

const HEADER: &str = r#"static inline __attribute__((always_inline)) long bits(double x) {
  union { double d; long l; } both = { x };
  return both.l;
}
"#;

#[test]
fn a_function_may_begin_with_lines_of_a_header() {
    let scratch = Scratch::new("statements-headed");
    for (line, lines) in [
        // As stap lists them: from the number of the header's line.
        (10, "10 11 12 13"),
        // `late` has no line of that number, and stap lists none at all.
        (4, "8 9 10 11 12 13"),
    ] {
        scratch.write("header.h", &("\n".repeat(line - 2) + HEADER));
        let program = scratch.compile("headed.c", HEADED, &["-g", "-O2"]);
        let point = format!(
            r#"process("{}").statement("late@headed.c:*")"#,
            program.display()
        );
        let outcome = stap(&["-l", &point]).ok();
        let number = |line: &str| {
            line.rsplit_once(':')?
                .1
                .trim_end_matches("\")")
                .parse()
                .ok()
        };
        let mut found: Vec<u32> = outcome.stdout.lines().filter_map(number).collect();
        found.sort_unstable();
        let found: Vec<String> = found.iter().map(u32::to_string).collect();
        assert_eq!(found.join(" "), lines, "{line}: {}", outcome.stderr);
    }
}
