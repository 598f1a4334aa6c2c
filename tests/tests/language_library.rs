//! Regular expressions and tapset functions that need no target; the expectations are those of the manual pages.

use spile_tests::stap;

#[test]
fn regular_expressions_and_their_groups() {
    let outcome = stap(&[
        "-e",
        r#"global s = "key=value42 rest"
        probe begin {
            if (s =~ "([a-z]+)=([a-z]+)([0-9]*)")
                println(matched(0), "|", matched(1), "|", matched(3), "|", ngroups())
            println(s =~ "^rest", s !~ "zz", s =~ "rest$", s =~ "k.y")
            try { if (s =~ "nope") println("x"); println(matched(0)) } catch (m) { println(m) }
            exit()
        }"#,
    ])
    .ok();
    assert_eq!(
        outcome.stdout,
        "key=value42|key|42|4\n0111\nAttempted to get subexpression 0 from failed match\n"
    );
}

#[test]
fn floating_point_units_and_commands() {
    let outcome = stap(&[
        "-e",
        r#"probe begin {
            println(fp_to_string(fp_add(string_to_fp("1.5"), long_to_fp(2)), 3))
            println(fp_to_long(string_to_fp("2.5"), 0, 0))
            println(bytes_to_string(2048), " ", usecs_to_string(61000001))
            system("echo from-system")
            exit()
        }"#,
    ])
    .ok();
    assert_eq!(outcome.stdout, "3.500\n2\n 2.0K 1m1.000001s\nfrom-system\n");
}

#[test]
fn writing_to_the_program_needs_guru_mode() {
    let outcome = stap(&["-e", "probe begin { set_user_int(1, 2) }"]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .contains("function may not be used unless -g is specified"),
        "{}",
        outcome.stderr
    );
}
