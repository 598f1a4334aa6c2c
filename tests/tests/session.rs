//! A session without a target: begin, end, error and timer probes, options, exit statuses, as stap(1) has them.

use spile_tests::{Scratch, run, spile_path, stap};
use std::process::{Command, Stdio};

#[test]
fn begin_prints_and_exits() {
    let outcome = stap(&["-e", r#"probe begin { println("hi") exit() }"#]).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("hi\n", "")
    );
}

#[test]
fn begin_probes_run_in_their_order_and_end_probes_after_them() {
    let script = r#"
        probe end { println("end") }
        probe begin(2) { println("second") exit() }
        probe begin(1) { println("first") }
        probe begin(-1) { println("zeroth") }
    "#;
    assert_eq!(
        stap(&["-e", script]).ok().stdout,
        "zeroth\nfirst\nsecond\nend\n"
    );
}

#[test]
fn arguments_are_numbers_and_strings() {
    let script = r#"probe begin { printf("%d %s %d\n", $1 + 1, @2, $#) exit() }"#;
    assert_eq!(
        stap(&["-e", script, "41", "two words"]).ok().stdout,
        "42 two words 2\n"
    );
}

#[test]
fn a_script_comes_from_a_file_or_from_standard_input() {
    let scratch = Scratch::new("script-file");
    let file = scratch.write("a.stp", "probe begin { println(6 * 7) exit() }\n");
    assert_eq!(stap(&[&file.to_string_lossy()]).ok().stdout, "42\n");
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "'{}' stap - < '{}'",
        spile_path().display(),
        file.display()
    ));
    assert_eq!(run(command).ok().stdout, "42\n");
}

#[test]
fn a_link_named_stap_is_stap() {
    let scratch = Scratch::new("link");
    let link = scratch.path("stap");
    std::os::unix::fs::symlink(spile_path(), &link).unwrap();
    let mut command = Command::new(&link);
    command.args(["-e", "probe begin { println(1) exit() }"]);
    assert_eq!(run(command).ok().stdout, "1\n");
}

#[test]
fn a_run_time_error_names_its_place_and_runs_error_probes() {
    let script = r#"probe begin { println(1 / ($1 - 1)) } probe end { println("end") } probe error { println("error") }"#;
    let outcome = stap(&["-e", script, "1"]);
    assert_eq!(outcome.status, Some(1));
    assert_eq!(outcome.stdout, "error\n");
    assert!(
        outcome
            .stderr
            .contains("ERROR: division by 0 near operator '/' at <input>:1:25"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome
            .stderr
            .contains("WARNING: Number of errors: 1, skipped probes: 0"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("Pass 5: run failed."),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_timer_fires_until_exit() {
    let script = r#"global n probe timer.ms(5) { if (++n == 4) exit() } probe end { println(n) }"#;
    assert_eq!(stap(&["-e", script]).ok().stdout, "4\n");
}

#[test]
fn the_time_limit_ends_a_session() {
    let outcome = stap(&["-T", "1", "-e", r#"probe end { println("over") }"#]).ok();
    assert_eq!(outcome.stdout, "over\n");
}

#[test]
fn an_interrupt_runs_the_end_probes() {
    let mut command = Command::new(spile_path());
    command.args([
        "stap",
        "-e",
        r#"probe begin { println("ready") } probe end { println("end") }"#,
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 6];
    std::io::Read::read_exact(&mut stdout, &mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    assert_eq!(rest, "end\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn globals_that_are_never_read_are_shown() {
    let script = r#"global x, name, a, s probe begin { x = 4 name = "n" a["k", 2] = 7 a["l", 3] = 9 s <<< 5 s <<< 7 exit() }"#;
    let expected =
        "x=4\nname=\"n\"\na[\"l\",3]=9\na[\"k\",2]=7\ns @count=2 @min=5 @max=7 @sum=12 @avg=6\n";
    assert_eq!(stap(&["-e", script]).ok().stdout, expected);
}

#[test]
fn limits_can_be_set() {
    let script = "global a probe begin { for (i = 0; i < 3; i++) a[i] = i exit() } probe end { println(a[0]) }";
    let outcome = stap(&["-D", "MAXMAPENTRIES=2", "-e", script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .contains("Array overflow, check MAXMAPENTRIES near identifier 'a'"),
        "{}",
        outcome.stderr
    );
    let endless = "probe begin { while (1) x++ println(x) }";
    let outcome = stap(&["-D", "MAXACTION=1000", "-e", endless]);
    assert!(
        outcome.stderr.contains("MAXACTION exceeded"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn globals_can_be_set_from_outside() {
    let script = r#"global n = 1, s = "a" probe begin { printf("%d %s\n", n, s) exit() }"#;
    assert_eq!(
        stap(&["-G", "n=5", "-G", "s=b", "-e", script]).ok().stdout,
        "5 b\n"
    );
}

#[test]
fn output_goes_to_a_file() {
    let scratch = Scratch::new("output");
    let file = scratch.path("out");
    stap(&[
        "-o",
        &file.to_string_lossy(),
        "-e",
        "probe begin { println(1) exit() }",
    ])
    .ok();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "1\n");
}

#[test]
fn a_closed_pipe_ends_the_session() {
    let mut command = Command::new("sh");
    let script = "probe timer.ms(1) { println(1) }";
    command.arg("-c").arg(format!(
        "'{}' stap -e '{script}' | head -1",
        spile_path().display()
    ));
    assert_eq!(run(command).stdout, "1\n");
}

#[test]
fn errors_are_one_clear_message() {
    let cases: [(&[&str], &str); 7] = [
        (
            &["-e", "probe begin { foo() }"],
            "semantic error: unresolved function",
        ),
        (&["-e", "probe begin { prnt( }"], "parse error: "),
        (
            &["-x", "99999999", "-e", "probe process.begin { exit() }"],
            "no process 99999999",
        ),
        (
            &["-x", "abc", "-e", "probe begin { exit() }"],
            "Invalid target process ID number.",
        ),
        (
            &["-c", "/no/such/program", "-e", "probe begin { exit() }"],
            "/no/such/program",
        ),
        (
            &["--colour-me", "-e", "probe begin { exit() }"],
            "--colour-me",
        ),
        (&[], "A script must be specified."),
    ];
    for (args, expected) in cases {
        let outcome = stap(args);
        assert_eq!(outcome.status, Some(1), "{args:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(expected),
            "{args:?}: {}",
            outcome.stderr
        );
        assert!(
            !outcome.stderr.contains("panicked"),
            "{args:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn what_is_not_supported_is_underlined() {
    let outcome = stap(&["-e", r#"probe process("/bin/ls").insn { exit() }"#]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("not supported: "),
        "{}",
        outcome.stderr
    );
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let caret = lines
        .iter()
        .rposition(|l| l.trim_start().starts_with('^'))
        .expect("a caret");
    let column = lines[caret].find('^').unwrap();
    assert!(
        lines[caret - 1][column..].starts_with("insn"),
        "{}",
        outcome.stderr
    );
}
