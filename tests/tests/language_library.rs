//! Regular expressions and tapset functions that need no target; the expectations are those of the manual pages.

use spile_tests::{Scratch, stap};

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
    assert_eq!(outcome.stdout, "3.500\n2\n2.00K 1m1.000001s\nfrom-system\n");
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

/// What else stands in a file of the library comes with what a script uses of it (`stap -p2`).
#[test]
fn probes_of_library_files_come_with_them() {
    let scratch = Scratch::new("library-probes");
    let library = scratch.path("library");
    std::fs::create_dir(&library).expect("a directory");
    scratch.write(
        "library/extra.stp",
        r#"function told() { println("function") }
        probe begin { println("begin") }
        probe told_of = begin(5) { word = "alias" }
        function changed(p:long) { set_user_char(p, 65) }"#,
    );
    let library = library.to_string_lossy();
    let run = |script: &str| stap(&["-w", "-I", &library, "-e", script]).ok().stdout;
    assert_eq!(run("probe begin(1) { told() exit() }"), "begin\nfunction\n");
    assert_eq!(
        run("probe told_of { println(word) exit() }"),
        "begin\nalias\n"
    );
    assert_eq!(run("probe begin(1) { exit() }"), "");
    // The library may use what scripts may use in guru mode only (NEWS of SystemTap 4.0).
    let script = "probe begin(1) { try { changed(0) } catch { println(\"no memory\") } exit() }";
    assert_eq!(run(script), "begin\nno memory\n");
    let direct = stap(&["-e", "probe begin { set_user_char(0, 65) exit() }"]);
    assert!(
        direct
            .stderr
            .contains("function may not be used unless -g is specified"),
        "{direct:?}"
    );
}

/// What has an effect is run, whatever the built-in library has by its name for other numbers of arguments (`stap -p2` keeps the
/// call).
#[test]
fn functions_of_other_libraries_are_what_they_say() {
    let scratch = Scratch::new("library-names");
    scratch.write(
        "mine.stp",
        r#"function returnstr:string (n:long, m:long) { println("said ", n + m) return "x" }"#,
    );
    let library = scratch.path("").to_string_lossy().into_owned();
    let script = "probe begin { returnstr(1, 2) exit() }";
    let outcome = stap(&["-I", &library, "-e", script]).ok();
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("said 3\n", ""));
}

/// NEWS of SystemTap 0.7 and 2.5.
#[test]
fn arguments_are_globals_of_the_library() {
    let said = |arguments: &[&str]| {
        let outcome = stap(arguments).ok();
        assert_eq!(outcome.stderr, "");
        outcome.stdout
    };
    let each = "probe oneshot { for (i = 1; i <= argc; i++) printf(\"<%s>\", argv[i]) }";
    assert_eq!(said(&["-e", each, "one", "2", "b c"]), "<one><2><b c>");
    assert_eq!(said(&["-e", each]), "");
    let some = "probe oneshot { print(argv[1], \" \", argv_2, argv[3], NULL) }";
    assert_eq!(said(&["-e", some, "hello", "world"]), "hello world0");
    assert_eq!(
        said(&["-e", some, "-G", "argv_1=hello", "-G", "argv_2=5"]),
        "hello 50"
    );
    // Only who uses none of them is told.
    let unused = stap(&["-e", "probe oneshot { }", "one"]);
    assert_eq!(unused.stderr, "WARNING: unused command line option $1/@1\n");
}
