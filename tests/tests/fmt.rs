//! `spile fmt` as its users meet it.

use spile_tests::{Scratch, run, spile_path};
use std::process::Command;

fn fmt(args: &[&str]) -> spile_tests::Outcome {
    let mut command = Command::new(spile_path());
    command.arg("fmt").args(args);
    run(command)
}

#[test]
fn files_are_laid_out_in_place_and_check_names_those_that_would_change() {
    let scratch = Scratch::new("fmt");
    let script = scratch.write("a.stp", "probe begin{exit( )}\n");
    let path = script.to_str().expect("a path in UTF-8");
    let checked = fmt(&["--check", path]);
    assert_eq!(checked.status, Some(1));
    assert_eq!(checked.stdout, format!("{path}\n"));
    fmt(&[path]).ok();
    let text = std::fs::read_to_string(&script).expect("the script");
    assert_eq!(text, "probe begin { exit() }\n");
    assert_eq!(fmt(&["--check", path]).ok().stdout, "");
}

#[test]
fn a_script_with_a_mistake_is_left_alone() {
    let scratch = Scratch::new("fmt-mistake");
    let text = "probe begin { exit( }\n";
    let script = scratch.write("a.stp", text);
    let outcome = fmt(&[script.to_str().expect("a path in UTF-8")]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.stderr.contains("a.stp:1:21"), "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(&script).expect("the script"), text);
}
