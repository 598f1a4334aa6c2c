//! What is said of scripts with several mistakes: all of them in one run, in the order and with the words of Debian's stap
//! (`stap -p2`).

use spile_tests::{Scratch, stap};

const PROGRAM: &str = r#"
struct node { int value; struct node *next; };
__attribute__((noinline, noclone)) int visit(struct node *list, int which) {
  __asm__ volatile("" ::: "memory");
  return list->value + which;
}
int main(void) {
  struct node head = { 10, 0 };
  return visit(&head, 2) != 12;
}"#;

/// The first lines of messages, with `@` for the program.
fn told(name: &str, options: &[&str], script: &str) -> Vec<String> {
    let scratch = script.contains('@').then(|| Scratch::new(name));
    let program = scratch
        .as_ref()
        .map(|s| s.compile("one.c", PROGRAM, &["-g", "-O0"]));
    let path = program.unwrap_or_default();
    let script = script.replace('@', &format!("process(\"{}\")", path.display()));
    let outcome = stap(&[options, &["-p2", "-e", &script]].concat());
    assert_eq!(outcome.status, Some(1), "{script}");
    let told = outcome.stderr.lines().filter(|line| {
        let starts = |word: &str| line.trim_start().starts_with(word);
        !(line.is_empty()
            || starts("source:")
            || starts("^")
            || starts("Number of")
            || starts("Rerun"))
    });
    told.map(|line| match line.find(" (similar") {
        Some(at) => line[..at].to_string(),
        None => line.to_string(),
    })
    .collect()
}

const MISSING: &str = "semantic error: while resolving probe point: identifier 'process' at";
const FAILED: &str = "Pass 2: analysis failed.  [man error::pass2]";

/// Points are looked for before handlers; where a probe has no point, nothing is said of its handler.
#[test]
fn missing_points_are_told_of_beside_wrong_handlers() {
    let unresolved = "semantic error: unresolved function nosuch";
    let no_match = "semantic error: no match";
    let missing = |place: &str| format!("{MISSING} {place}");
    assert_eq!(
        told(
            "missing",
            &[],
            "probe @.function(\"nope\") { println(nosuch()) }"
        ),
        [&*missing("<input>:1:7"), no_match, FAILED]
    );
    assert_eq!(
        told(
            "missing",
            &[],
            "probe @.function(\"nope\") { println(1) }\nprobe begin { println(nosuch()) }"
        ),
        [&*missing("<input>:1:7"), no_match, unresolved, FAILED]
    );
    assert_eq!(
        told(
            "missing",
            &[],
            "probe begin { println(nosuch()) }\nprobe @.function(\"nope\") { println(1) }"
        ),
        [unresolved, &*missing(":2:7"), no_match, FAILED]
    );
    // The other point of the probe has the handler looked at.
    assert_eq!(
        told(
            "missing",
            &[],
            "probe @.function(\"nope\"), begin { println(nosuch()) }"
        ),
        [&*missing("<input>:1:7"), no_match, unresolved, FAILED]
    );
    // Types are looked at when all points are found.
    assert_eq!(
        told(
            "missing",
            &[],
            "probe begin { println(\"a\" + 1) }\nprobe @.function(\"nope\") { println(1) }"
        ),
        [&*missing("<input>:2:7"), no_match, FAILED]
    );
}

#[test]
fn all_wrong_variables_of_a_handler_are_told_of() {
    let told = told(
        "variables",
        &["-v"],
        "probe @.function(\"visit\") { println($nope)\nprintln($list->nope)\nprintln($which->x) }",
    );
    let errors: Vec<&str> = told
        .iter()
        .filter_map(|line| line.strip_prefix("semantic error: "))
        .collect();
    let [nope, _, member, _, access, _] = errors[..] else {
        panic!("{errors:?}");
    };
    assert!(nope.starts_with("unable to find local 'nope'"), "{nope}");
    // The unit by the name that the compiler was given, which is a path here.
    assert!(nope.contains("one.c (alternatives: $"), "{nope}");
    assert!(
        member.starts_with("unable to find member 'nope' for struct node"),
        "{member}"
    );
    assert!(
        access.starts_with("invalid access '->x' vs. int"),
        "{access}"
    );
}

/// `-v` counts what there was when the analysis failed.
#[test]
fn a_failed_analysis_is_counted_too() {
    let line = |script: &str| {
        let told = told("counted", &["-v"], script);
        let line = told
            .iter()
            .find_map(|line| line.strip_prefix("Pass 2: analyzed script: "));
        let line = line.unwrap_or_else(|| panic!("{told:?}")).to_string();
        assert_eq!(told.last().map(String::as_str), Some(FAILED));
        line.split(" using ").next().unwrap_or_default().to_string()
    };
    assert_eq!(
        line("probe begin { println(nosuch()) }"),
        "1 probe, 0 functions, 0 embeds, 0 globals"
    );
    assert_eq!(
        line("probe begin, end { println(ctime(0) + 1) }"),
        "2 probes, 1 function, 0 embeds, 0 globals"
    );
    assert_eq!(
        line(
            "global a, b probe begin { println(a . \"x\") println(1 + \"a\") } probe end { } function f() { }"
        ),
        "1 probe, 0 functions, 0 embeds, 1 global"
    );
    assert_eq!(
        line("probe nope {}"),
        "0 probes, 0 functions, 0 embeds, 0 globals"
    );
}

/// What `-G` sets says nothing of types: to stap it is a parameter of the module.
#[test]
fn values_from_the_command_line_have_no_types() {
    let untyped = "global x probe begin { println(x) exit() }";
    let text = "global x probe begin { println(x . \"a\") exit() }";
    let number = "global x = 3 probe begin { println(x + 1) exit() }";
    let array = "global x probe begin { x[1] = 2 println(x[1]) exit() }";
    for value in ["x=1", "x=a"] {
        let outcome = stap(&["-w", "-G", value, "-e", untyped]);
        assert_eq!(outcome.status, Some(1));
        assert!(
            outcome.stderr.contains("unresolved type : identifier 'x'"),
            "{}",
            outcome.stderr
        );
        assert_eq!(
            stap(&["-w", "-p2", "-G", value, "-e", array]).status,
            Some(0)
        );
    }
    assert_eq!(stap(&["-w", "-G", "x=1", "-e", text]).ok().stdout, "1a\n");
    assert_eq!(stap(&["-G", "x=0x10", "-e", number]).ok().stdout, "17\n");
    assert_eq!(stap(&["-G", "x=-010", "-e", number]).ok().stdout, "-7\n");
    for (value, script) in [("x=abc", number), ("x=1", array)] {
        let outcome = stap(&["-w", "-G", value, "-e", script]);
        assert_eq!(outcome.status, Some(1), "{script}");
        assert!(
            outcome
                .stderr
                .contains(&format!("-G {value}: the global 'x'")),
            "{}",
            outcome.stderr
        );
        assert_eq!(outcome.stdout, "");
    }
}
