//! The language at run time, sentence by sentence of stap(1) and the language reference, where no other file has the
//! subject: preprocessing, arguments, aliases, overloads, slices, regular expressions, order and errors of probes.

use spile_tests::stap;

/// Runs each script with options and arguments; standard output must be as expected and standard error empty.
fn table(cases: &[(&[&str], &str, &[&str], &str)]) {
    for (options, script, arguments, expected) in cases {
        let all: Vec<&str> = (options.iter().copied())
            .chain(["-w", "-e", script])
            .chain(arguments.iter().copied())
            .collect();
        let outcome = stap(&all);
        assert_eq!(
            (
                outcome.status,
                outcome.stdout.as_str(),
                outcome.stderr.as_str()
            ),
            (Some(0), *expected, ""),
            "{script}"
        );
    }
}

fn plain(cases: &[(&str, &str)]) {
    for (script, expected) in cases {
        table(&[(&[], script, &[], expected)]);
    }
}

#[test]
fn literals_and_comments() {
    plain(&[
        (
            "probe begin { println(\"a\" \"b\" /* c */ \"d\"\n \"e\") exit() } # end",
            "abde\n",
        ),
        (
            "// first\nprobe begin { /* ** / */ println(0x1F, 017, 18446744073709551615) exit() }",
            "3115-1\n",
        ),
        (
            r#"probe begin { println("\x41\x4a\101\7z" . "\q", strlen("é")) exit() }"#,
            "AJA\u{7}zq2\n",
        ),
        ("probe begin\r\n{\r\n println(1)\r\n exit() }\r\n", "1\n"),
    ]);
}

#[test]
fn arguments_of_the_script() {
    table(&[
        (
            &[],
            "probe begin { println($1 + 1, @1, @2, $#, @#) exit() }",
            &["5", "x y"],
            "65x y22\n",
        ),
        (
            &[],
            "probe $1 { println(\"on\") exit() }",
            &["begin"],
            "on\n",
        ),
        (
            &[],
            "%( $# > 1 %? probe begin { println(@2, $1) exit() } %: probe end {} %)",
            &["1", "z"],
            "z1\n",
        ),
        (
            &[],
            "%( @1 == \"on\" %? probe begin { println(1) exit() } %: probe begin { println(2) exit() } %)",
            &["off"],
            "2\n",
        ),
    ]);
}

#[test]
fn conditionals_of_the_preprocessor() {
    plain(&[
        (
            "probe begin { println(%( kernel_v >= \"2.6\" %? 1 %: 2 %), %( systemtap_v < \"0.1\" %? 1 %: 2 %)) exit() }",
            "12\n",
        ),
        (
            "probe begin { println(%( 1 == 1 || 1 == 2 && 2 == 3 %? 1 %: 2 %), %( \"a\" < \"b\" %? 3 %)) exit() }",
            "13\n",
        ),
        (
            "probe begin { println(%( 1 == 1 %? %( 2 == 3 %? 5 %: 6 %) %: 7 %), %( guru_mode == 0 %? 8 %)) exit() }",
            "68\n",
        ),
        (
            "probe begin { println(%( arch == \"x86*\" || arch == \"aarch64\" %? 1 %: 2 %)) exit() }",
            "1\n",
        ),
        (
            "%( CONFIG_NO_SUCH_OPTION == \"y\" %? nonsense %) probe begin { println(1) exit() }",
            "1\n",
        ),
    ]);
}

#[test]
fn macros() {
    plain(&[
        (
            "@define twice(x) %( @x + @x %) @define both(a, b) %( @twice(@b) * @a %) probe begin { println(@both(2, 3)) exit() }",
            "9\n",
        ),
        (
            "@define P %( probe begin { println(\"p\") exit() } %) @P",
            "p\n",
        ),
        (
            "@define count(x) %( 5 %) probe begin { println(@count(1)) exit() }",
            "5\n",
        ),
        (
            "@define f(x) %( %( 1 == 1 %? @x %: 0 %) %) probe begin { println(@f(7)) exit() }",
            "7\n",
        ),
        (
            "@define empty %( %) probe begin { @empty println(1) @empty exit() }",
            "1\n",
        ),
        (
            "%( 1 == 1 %? @define v %( 1 %) %: @define v %( 2 %) %) probe begin { println(@v) exit() }",
            "1\n",
        ),
    ]);
}

#[test]
fn aliases_in_order() {
    plain(&[
        (
            "probe a = begin { print(\"a\") } probe b = a { print(\"b\") } probe b { println(\"!\") exit() }",
            "ab!\n",
        ),
        (
            "probe a += begin { print(\"a\") exit() } probe b += a { print(\"b\") } probe b { print(\"!\") }",
            "!ba",
        ),
        (
            "probe a = begin { x = 1 }, { println(\"after \", x) exit() } probe a { x += 5 }",
            "after 6\n",
        ),
        // `next` leaves the whole handler, what the alias puts behind it included.
        (
            "probe a = begin { }, { println(\"not reached\") } probe a { println(1); next } probe end { } probe begin(1) { exit() }",
            "1\n",
        ),
        (
            "probe a.x = begin { v = 1 } probe a.y = begin(1) { v = 2 } probe a.* { print(pn(), pp(), v, \" \") if (v == 2) exit() }",
            "a.xbegin1 a.ybegin(1)2 ",
        ),
        (
            "probe a.b.c = begin { v = 3 } probe a.** { println(v) exit() }",
            "3\n",
        ),
        (
            "probe a.{x,y} { print(v) if (v == 2) exit() } probe a.x = begin { v = 1 } probe a.y = begin(1) { v = 2 }",
            "12",
        ),
        (
            "probe begin = end { print(\"alias \") } probe begin { println(pp()) exit() }",
            "begin\nalias end\n",
        ),
        (
            "probe a = nosuch ?, begin { print(1) } probe a { exit() }",
            "1",
        ),
        ("probe nosuch !, begin { print(1) exit() } ", "1"),
    ]);
}

#[test]
fn functions_by_number_of_arguments_and_by_next() {
    plain(&[
        ("function f(a) { return \"one\" } function f(a, b) { return \"two\" } function f() { return \"none\" }
          probe begin { println(f(), f(1), f(1, 2)) exit() }", "noneonetwo\n"),
        ("function f(x) { if (x == 1) next; return \"A\" } function f(x) { if (x == 2) next; return \"B\" }
          probe begin { println(f(0), f(1), f(2)) exit() }", "ABA\n"),
        ("function f(x) { print(\"1\"); next } function f(x) { print(\"2\") } probe begin { f(0) exit() }", "12"),
        ("function f(x):2 { return \"late\" } function f(x):1 { return \"early\" } probe begin { println(f(0)) exit() }", "early\n"),
        ("function strlen(x) { return 5 } probe begin { println(strlen(\"a\")) exit() }", "5\n"),
        ("function v() { } function w() { return } probe begin { v() w() println(1) exit() }", "1\n"),
        ("function f(a) { a = a . \"!\"; return a } probe begin { s = \"x\"; println(f(s), s) exit() }", "x!x\n"),
    ]);
}

#[test]
fn arrays_by_slice_and_by_value() {
    let fill = r#"global a, n probe begin { a["x",1] = "p"; a["y",2] = "q"; a["y",1] = "r"; n["x",1] <<< 1; n["y",1] <<< 5; n["y",2] <<< 3;"#;
    for (body, expected) in [
        (
            "foreach ([s+,k] in a[*,1]) print(s, k, a[s,k], \" \")",
            "x1p y1r ",
        ),
        ("foreach (v = [s,k-] in a[\"y\",*]) print(v, k)", "q2r1"),
        (
            "foreach ([s,k] in n[*,1] @sum-) print(s, @sum(n[s,k]))",
            "y5x1",
        ),
        ("foreach ([s,k] in n @max- limit 2) print(s, k)", "y1y2"),
        ("delete n[\"y\",*]; foreach ([s,k] in n) print(s, k)", "x1"),
        (
            "println([*,2] in a, [\"z\",*] in a, [\"x\",1] in a)",
            "101\n",
        ),
        ("foreach ([s,k] in a) delete a; println([*,*] in a)", "0\n"),
        ("foreach ([s+,k+] in a) ; println(1)", ""),
    ] {
        if expected.is_empty() {
            // Two sort directives are one too many.
            let outcome = stap(&["-w", "-e", &format!("{fill} {body} exit() }}")]);
            assert_eq!(outcome.status, Some(1));
            assert!(
                outcome.stderr.contains("multiple sort directives"),
                "{}",
                outcome.stderr
            );
        } else {
            table(&[(
                &["--no-global-var-display"],
                &format!("{fill} {body}; exit() }}"),
                &[],
                expected,
            )]);
        }
    }
}

/// Which of several matches counts, and which group holds what, is POSIX's leftmost longest with stap's tie rule.
#[test]
fn regular_expressions() {
    let groups = |pattern: &str, text: &str, expected: &str| {
        let script = format!(
            r#"probe begin {{ if ("{text}" =~ "{pattern}") {{ for (i = 0; i < ngroups(); i++) print("<", matched(i), ">") }} else print("no") exit() }}"#
        );
        table(&[(&[], &script, &[], expected)]);
    };
    groups("(a*)(ab)*(b*)", "abc", "<ab><a><><b>");
    groups("o+(b|c)", "foobar", "<oob><b>");
    groups("a.c", "xabcx", "<abc>");
    groups("^a", "ba", "no");
    groups("c$", "abc", "<c>");
    groups("[[:digit:]]{2,3}", "a1234", "<123>");
    groups("[^a-c]+", "abcxyz", "<xyz>");
    groups("(x+)(y|yz)", "xxyz", "<xxyz><xx><yz>");
    groups("a\\\\.b", "axb", "no");
    plain(&[(
        r#"probe begin { println("ab" =~ "b", "ab" !~ "b", "" =~ "^$", "a]" =~ "[]]", "a-" =~ "[a-]$") exit() }"#,
        "10111\n",
    )]);
}

#[test]
fn probes_run_by_priority_then_in_order() {
    plain(&[
        (
            "probe begin(9223372036854775807) { println(6) exit() } probe begin(-1) { print(2) } probe begin { print(3) }
             probe begin { print(4) } probe begin(1) { print(5) } probe begin(-9223372036854775808) { print(1) }",
            "123456\n",
        ),
        ("probe end(5) { print(3) } probe end { print(2) } probe end(-5) { print(1) } probe begin { exit() }", "123"),
        ("probe never { print(\"never\") } probe oneshot { print(1) } probe end { print(2) }", "12"),
        // New probes do not fire once exit() was called, except end probes (function::exit(3stap)).
        ("probe begin { exit() print(1) } probe begin { print(2) } probe end { exit() print(3) }", "13"),
        ("probe begin { exit() } probe timer.ms(1) { print(1) } probe end { print(2) } probe end(1) { print(3) }", "23"),
        ("probe timer.*(1) { print(1) exit() }", "1"),
        ("probe begin { print(@MAXSTRINGLEN) exit() }", "512"),
        // However late they come: what was due first is run first, and nothing is left out.
        ("global n probe timer.ms(10) { n++ } probe timer.us(105000) { print(n) exit() }", "10"),
    ]);
}

#[test]
fn errors_end_the_session_unless_they_are_few() {
    let run = |options: &[&str], script: &str| {
        let all: Vec<&str> = options
            .iter()
            .copied()
            .chain(["-w", "-e", script])
            .collect();
        let outcome = stap(&all);
        assert_eq!(outcome.status, Some(1), "{script}");
        outcome
    };
    let both = r#"probe begin { error("one") } probe begin { error("two") } probe end { println("end") exit() }
        probe error { println("error") } probe timer.ms(5) { exit() }"#;
    let outcome = run(&[], both);
    assert_eq!(outcome.stdout, "error\n");
    assert!(outcome.stderr.starts_with("ERROR: one\n"));
    let outcome = run(&["-DMAXERRORS=2"], both);
    assert_eq!(outcome.stdout, "end\n");
    assert_eq!(outcome.stderr.matches("ERROR: ").count(), 2);
    // The last end probe goes over the limit: error probes have their turn.
    let late = r#"probe begin { exit() } probe end { error("late") } probe end { println("no") } probe error { println("error") }"#;
    assert_eq!(run(&[], late).stdout, "error\n");
}

#[test]
fn what_is_printed_has_the_value_0() {
    plain(&[(
        r#"probe begin { x = print("a"); println(x, print("b")) exit() }"#,
        "ab00\n",
    )]);
}

/// HIST_WIDTH is the longest bar, HIST_ELISION the empty rows shown around others.
#[test]
fn histograms_by_definition() {
    let few = "global s probe begin { s <<< 1; s <<< 200; print(@hist_log(s)) exit() }";
    let elided = "value |-------------------------------------------------- count\n    0 |                                                   0\n    1 |@                                                  1\n    2 |                                                   0\n    4 |                                                   0\n      ~\n   32 |                                                   0\n   64 |                                                   0\n  128 |@                                                  1\n  256 |                                                   0\n  512 |                                                   0\n\n";
    plain(&[(few, elided)]);
    let all = elided.replace("      ~\n", "    8 |                                                   0\n   16 |                                                   0\n");
    table(&[(&["-DHIST_ELISION=-1"], few, &[], &all)]);
    let ten = "global s probe begin { for (i = 0; i < 20; i++) s <<< 1; s <<< 2; print(@hist_linear(s, 0, 4, 1)) exit() }";
    table(&[(
        &["-DHIST_WIDTH=10"],
        ten,
        &[],
        "value |---------- count\n    0 |            0\n    1 |@@@@@@@@@@ 20\n    2 |            1\n    3 |            0\n    4 |            0\n\n",
    )]);
}

#[test]
fn embedded_c_is_refused_where_it_would_run() {
    let script = "function f:long() %{ STAP_RETVALUE = 1; %} probe begin { println(f()) exit() }";
    let outcome = stap(&["-e", script]);
    assert!(
        outcome
            .stderr
            .contains("embedded code in unprivileged script; need stap -g")
    );
    assert!(
        stap(&["-g", "-p2", "-e", script])
            .ok()
            .stdout
            .contains("f:long ()")
    );
    let outcome = stap(&["-g", "-e", script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.contains("embedded C code is not supported"),
        "{}",
        outcome.stderr
    );
}
