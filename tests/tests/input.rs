//! `input.char` and `input.line`, which hear of the session's standard input (tapset::input).

use spile_tests::spile_path;
use std::io::Write;
use std::process::{Command, Stdio};

fn typed(script: &str, text: &[u8]) -> String {
    let mut child = Command::new(spile_path())
        .args(["stap", "-e", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spile");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text).expect("to be read");
    drop(input);
    let output = child.wait_with_output().expect("an end");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn characters_and_lines_are_heard_of_one_by_one() {
    let said = typed(
        r#"probe input.char { printf("<%s>", char) if (char == "q") exit() }
        probe input.line { printf("[%s]", line) }"#,
        b"ab\nc\n\nrest q never",
    );
    assert_eq!(
        said,
        "<a><b><\n>[ab\n]<c><\n>[c\n]<\n>[\n]<r><e><s><t>< ><q>"
    );
}

/// With the end of the input there are no more lines; the session goes on.
#[test]
fn the_session_outlives_its_input() {
    let said = typed(
        r#"global n probe input.line { println("line ", ++n) } probe timer.ms(20) { if (n == 2 && ++ticks > 3) exit() } global ticks"#,
        b"one\ntwo\nthree",
    );
    assert_eq!(said, "line 1\nline 2\n");
}
