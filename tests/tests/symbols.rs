//! `spile symbols`: what it says of a binary, compared with what the compiler was told and with nm(1).

use spile_tests::{Outcome, SDT_MACROS, Scratch, run, spile_path};
use std::process::Command;

const PROGRAM: &str = r#"
struct packed { char c; long l; unsigned a : 3; int b : 7; struct { short s; } in; };
enum hue { RED, GREEN = 7 };
struct packed kept;
enum hue hue;
__attribute__((noinline, noclone)) int work(int left, struct packed *right) {
  int local = left + right->a;
  MARK1(shop, sale, local);
  return local;
}
int main(int argc, char **argv) { return work(argc, &kept) + hue; }
"#;

fn symbols(args: &[&str]) -> Outcome {
    let mut command = Command::new(spile_path());
    command.arg("symbols").args(args);
    run(command)
}

#[test]
fn types_variables_lines_and_marks() {
    let scratch = Scratch::new("symbols");
    let source = format!("{SDT_MACROS}{PROGRAM}");
    let program = scratch.compile("shop.c", &source, &["-O0", "-g"]);
    let program = program.to_string_lossy();

    // Offsets and sizes are the System V ABI's.
    let outcome = symbols(&[&program, "--types", "packed"]).ok();
    let text: Vec<String> = outcome
        .stdout
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        text[1..],
        [
            "char c; /* 0 1 */",
            "/* 7 bytes hole */",
            "long int l; /* 8 8 */",
            "unsigned int a:3; /* 16:0 4 */",
            "int b:7; /* 16:3 4 */",
            "struct {...} in; /* 18 2 */",
            "}; /* size: 24, members: 5, holes: 7 bytes */",
        ],
    );
    let outcome = symbols(&[&program, "--types", "h?e"]).ok();
    assert!(outcome.stdout.contains("\tGREEN = 7,\n"), "{outcome:?}");

    let outcome = symbols(&[&program, "--variables", "work"]).ok();
    for wanted in [
        "parameter int left: *(",
        "parameter struct packed* right: *(",
        "local int local: *(",
    ] {
        assert!(outcome.stdout.contains(wanted), "{outcome:?}");
    }
    let line = 1 + source
        .lines()
        .position(|l| l.contains("int local"))
        .expect("a line");
    let outcome = symbols(&[&program, "--lines", &format!("shop.c:{line}")]).ok();
    assert!(
        outcome.stdout.ends_with(&format!("shop.c:{line}\n")),
        "{outcome:?}"
    );
    let outcome = symbols(&[&program, "--marks"]).ok();
    assert!(outcome.stdout.contains("mark shop:sale -8@"), "{outcome:?}");
}

#[test]
fn functions_are_those_of_nm_and_json_is_json() {
    let scratch = Scratch::new("symbols-json");
    let source = format!("{SDT_MACROS}{PROGRAM}");
    let program = scratch.compile("shop.c", &source, &["-O2", "-g"]);
    let mut nm = Command::new("nm");
    nm.arg(&program);
    let nm = run(nm).ok();
    let work = nm
        .stdout
        .lines()
        .find(|l| l.ends_with(" work"))
        .expect("work");
    let address = u64::from_str_radix(&work[..16], 16).expect("an address");
    let program = program.to_string_lossy();
    let outcome = symbols(&[&program, "--functions", "wor*", "--json"]).ok();
    assert!(
        outcome.stdout.contains(&format!("\"address\": {address},")),
        "{outcome:?}"
    );
    assert!(outcome.stdout.trim_end().ends_with('}'), "{outcome:?}");
    let outcome = symbols(&[&program, "--functions", "wrok"]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.stderr.contains("(similar: work"), "{outcome:?}");
}
