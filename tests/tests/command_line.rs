//! stap's options, as stap(1) and Debian's stap have them.

use spile_tests::{Scratch, run, spile_path, stap, until};
use std::process::Command;

const MANY_CALLS: &str = r#"
__attribute__((noinline)) int work(int n) { __asm__ volatile(""); return n + 1; }
__attribute__((noinline)) int other(int n) { __asm__ volatile(""); return n + 2; }
int main(void) { int s = 0; for (int i = 0; i < 1000; i++) s = work(s); return other(s) == 0; }
"#;

#[test]
fn timing_tells_hits_and_cycles_of_each_probe() {
    let scratch = Scratch::new("timing");
    let program = scratch.compile("many.c", MANY_CALLS, &["-O1"]);
    let outcome = stap(&[
        "-t",
        "-e",
        r#"global n
        probe process.function("work") { n++ }
        probe process.function("work"), process.function("other") { if (n < 0) println("never") }
        probe begin { if (n) println(n) }
        probe end { println(n) }"#,
        "-c",
        &program.to_string_lossy(),
    ])
    .ok();
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some("1000"));
    assert_eq!(lines.next(), Some("----- probe hit report: "));
    let mut lines: Vec<&str> = lines.collect();
    assert_eq!(lines.pop(), Some("----- refresh report:"));
    let begin = lines
        .iter()
        .find(|l| l.starts_with("begin, "))
        .expect("begin");
    assert!(
        begin.starts_with("begin, (<input>:4:15), hits: 1, cycles: "),
        "{begin}"
    );
    assert!(begin.contains(", from: begin, index: "), "{begin}");
    let hits: Vec<(String, u64)> = lines
        .into_iter()
        .map(|line| {
            let field = |name: &str| {
                let rest = line
                    .split(name)
                    .nth(1)
                    .unwrap_or_else(|| panic!("{name} in {line}"));
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().expect("a number")
            };
            let (least, average, most) = (field("cycles: "), field("min/"), field("avg/"));
            assert!(least <= average && average <= most, "{line}");
            assert!(
                line.contains("variance: ") && line.contains("from: "),
                "{line}"
            );
            let place = line.split("(<input>:").nth(1).unwrap_or_default();
            (
                place.split(':').next().unwrap_or_default().to_string(),
                field("hits: "),
            )
        })
        .collect();
    let expected = [("2", 1000), ("3", 1000), ("3", 1), ("4", 1), ("5", 1)];
    let expected: Vec<(String, u64)> = expected.map(|(l, n)| (l.to_string(), n)).into();
    assert_eq!(hits, expected, "{}", outcome.stdout);
}

#[test]
fn bad_variables_are_0_and_failing_handlers_are_skipped_when_asked() {
    let scratch = Scratch::new("skip");
    let program = scratch.compile("many.c", MANY_CALLS, &["-O1", "-g"]);
    let program = program.to_string_lossy();
    let script = r#"probe process.function("other") { println("n", $nosuch + 1) }"#;
    assert_eq!(stap(&["-e", script, "-c", &program]).status, Some(1));
    let outcome = stap(&["--skip-badvars", "-e", script, "-c", &program]).ok();
    assert_eq!(outcome.stdout, "n1\n");

    let script =
        r#"global n probe process.function("work") { n++; if (n % 2) error("odd") println(n) }"#;
    let outcome = stap(&["--suppress-handler-errors", "-e", script, "-c", &program]).ok();
    assert_eq!(outcome.stdout.lines().count(), 500);
    // stap counts them nonetheless.
    assert_eq!(
        outcome.stderr,
        "WARNING: Number of errors: 500, skipped probes: 0\n"
    );
}

#[test]
fn standing_options_come_from_the_rc_file() {
    let scratch = Scratch::new("rc");
    scratch.write(
        "rc",
        "# a comment\n-G 'x=7'\n\n-w --no-global-var-display\n",
    );
    let mut command = Command::new(spile_path());
    command.env("SYSTEMTAP_DIR", scratch.path(".")).args([
        "stap",
        "-e",
        "global x = 0 probe oneshot { println(x) warn(\"unheard\") }",
    ]);
    let outcome = run(command).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("7\n", "")
    );
}

/// The messages are those that Debian's stap 4.8 gives.
/// `-W` makes errors of warnings, as Debian's stap says it.
#[test]
fn warnings_may_be_errors() {
    let script = "probe begin { x = 1; exit() }";
    let outcome = stap(&["-W", "-e", script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .ends_with("\nPass 2: analysis failed.  [man error::pass2]\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(stap(&["-W", "-w", "-e", script]).status, Some(0));
}

#[test]
fn mistakes_in_the_command_line_are_named_as_stap_names_them() {
    const SCRIPT: [&str; 2] = ["-e", "probe begin { exit() }"];
    for (words, message) in [
        (&["-p9"][..], "Invalid pass number (should be 1-5)."),
        (
            &["--vp", "123456"],
            "Invalid --vp argument: it takes 1 to 5 digits.",
        ),
        (&["-T", "x"], "Invalid timeout interval."),
        (&["-s", "0"], "Invalid buffer size (should be 1-4095)."),
        (
            &["-c", "ls", "-x", "1"],
            "You can't specify -c and -x together.",
        ),
        (&["--nonsense"], "stap: unrecognized option '--nonsense'"),
        (
            &["-e", "probe end {}"],
            "Only one script can be given on the command line.",
        ),
        (&["-x", "abc"], "Invalid target process ID number."),
        (
            &["-l", "begin"],
            "Cannot specify a script with -l/-L/--dump-* switches.",
        ),
        (&["--color=red"], "Invalid argument 'red' for --color."),
        (
            &["--privilege=me"],
            "Invalid argument 'me' for --privilege.",
        ),
        (
            &["--runtime=java"],
            "ERROR: java is an invalid argument for --runtime",
        ),
        (
            &["-G", "x"],
            "ERROR: Safety pattern mismatch for -G parameter ('x' vs. '^[a-z_][a-z0-9_]*=[a-z0-9_.-]+$') rc=1",
        ),
        (
            &["-D", "-e"],
            "ERROR: Safety pattern mismatch for -D parameter ('-e' vs. '^[a-z_][a-z_0-9]*(=-?[a-z_0-9]+)?$') rc=1",
        ),
        (
            &["-D", "MAXACTION=many"],
            "ERROR: -D MAXACTION=many: 'many' is no number",
        ),
        (
            &["-S", "abc", "-o", "/dev/null"],
            "ERROR: Safety pattern mismatch for -S parameter ('abc' vs. '^[0-9]+(,[0-9]+)?$') rc=1",
        ),
        (
            &["--suppress-time-limits"],
            "ERROR --suppress-time-limits requires guru mode (-g)",
        ),
    ] {
        let outcome = stap(&[words, &SCRIPT].concat());
        assert_eq!(outcome.status, Some(1), "{words:?}");
        assert_eq!(outcome.stderr.lines().next(), Some(message), "{words:?}");
    }
    stap(&[&["-p2", "-D", "MAXACTION=many"][..], &SCRIPT].concat()).ok();
    let outcome = stap(&[]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome.stderr.starts_with("A script must be specified.\n"),
        "{}",
        outcome.stderr
    );
    for (words, message) in [
        (
            &["-l"][..],
            "stap: option requires an argument -- 'l'\nTry '--help' for more information. [man stap]\nA message like [man foo] means for more info, run % man foo\n",
        ),
        (
            &["/nonexistent.stp"],
            "Input file '/nonexistent.stp' is missing.\nPass 1: parse failed.  [man error::pass1]\n",
        ),
        // What is not found is not listed, and nothing else is said.
        (&["-l", "nosuch"], ""),
        (&["-l", "process(\"/bin/sh\").mark(\"nosuch\")"], ""),
        (
            &["-p3", "-e", "probe begin { break }"],
            "semantic error: cannot 'break' outside loop: keyword at <input>:1:15\n        source: probe begin { break }\n                              ^\n\nPass 3: translation failed.  [man error::pass3]\n",
        ),
        (
            &["-p1", "-e", "%( 1 == 2 %? probe begin {} %)"],
            "Input file '<input>' is empty after preprocessing.\nPass 1: parse failed.  [man error::pass1]\n",
        ),
    ] {
        let outcome = stap(words);
        assert_eq!(outcome.status, Some(1), "{words:?}");
        assert_eq!(outcome.stderr, message, "{words:?}");
    }
    let outcome = stap(&["--compatible=99", "-e", "probe begin {}"]);
    assert!(
        outcome
            .stderr
            .contains("cannot be compatible with future version 99")
    );
}

#[test]
fn options_of_kernel_modules_have_a_line_each() {
    let words = [
        "-k",
        "-b",
        "-B",
        "X=1",
        "-R",
        "d",
        "-r",
        "6.1",
        "--all-modules",
        "--save-uprobes",
    ];
    let rest = ["-e", "probe oneshot { println(1) }"];
    let outcome = stap(&[&words[..], &rest].concat()).ok();
    assert_eq!(outcome.stdout, "1\n");
    assert_eq!(outcome.stderr.lines().count(), 7, "{}", outcome.stderr);
    let of_options =
        |line: &str| line.starts_with("WARNING: -") && line.contains(" has no effect: ");
    assert!(outcome.stderr.lines().all(of_options), "{}", outcome.stderr);
    // Those whose promise holds anyway say nothing.
    let words = [
        "-d",
        "/bin/ls",
        "--ldd",
        "-P",
        "--poison-cache",
        "--check-version",
        "--disable-cache",
        "-w",
        "-k",
    ];
    assert_eq!(stap(&[&words[..], &rest].concat()).ok().stderr, "");
    assert_eq!(
        stap(&[&["--remote=host"][..], &rest].concat()).status,
        Some(1)
    );
}

#[test]
fn compatible_versions_are_what_scripts_see() {
    let script = r#"probe oneshot { println(%( systemtap_v < "2.0" %? "old" %: "new" %)) }"#;
    assert_eq!(stap(&["-e", script]).ok().stdout, "new\n");
    assert_eq!(
        stap(&["--compatible=1.8", "-e", script]).ok().stdout,
        "old\n"
    );
    let script = r#"probe oneshot { println(%( systemtap_privilege == "stapdev" %? 1 %: 0 %)) }"#;
    assert_eq!(
        stap(&["--privilege=stapdev", "-e", script]).ok().stdout,
        "1\n"
    );
}

/// Forms and lists as Debian's stap gives them for the same alias file.
#[test]
fn lists_of_types_aliases_and_functions() {
    let types = stap(&["--dump-probe-types"]).ok().stdout;
    for form in [
        "begin",
        "timer.ms(number).randomize(number)",
        "process(string).mark(string)",
    ] {
        assert!(types.lines().any(|l| l == form), "{form} in {types}");
    }
    let functions = stap(&["--dump-functions"]).ok().stdout;
    for line in [
        "strlen:long (s:string)",
        "exit:unknown ()",
        "warn:unknown (msg:string)",
    ] {
        assert!(
            functions.lines().any(|l| l == line),
            "{line} in {functions}"
        );
    }
    let scratch = Scratch::new("aliases");
    scratch.write(
        "a.stp",
        "probe my.one = begin\n{\n\tfoo = 1\n\tbar = \"x\"\n}\nprobe my.two = timer.s(1), my.one\n{\n\tbaz = 2\n}\n",
    );
    let directory = scratch.path(".");
    let with = |words: &[&str]| {
        let directory = directory.to_string_lossy().into_owned();
        stap(&[&["-I", &directory][..], words].concat())
    };
    let aliases = with(&["--dump-probe-aliases"]).ok().stdout;
    assert!(
        aliases.lines().any(|l| l == "my.two = timer.s(1), my.one"),
        "{aliases}"
    );
    assert_eq!(with(&["-l", "my.*"]).ok().stdout, "my.one\nmy.two\n");
    assert_eq!(
        with(&["-L", "my.one"]).ok().stdout,
        "my.one foo:long bar:string\n"
    );
    assert_eq!(with(&["-l", "my.three"]).status, Some(1));
}

#[test]
fn verbose_passes_and_last_passes() {
    let outcome = stap(&["-p2", "--vp", "01", "-e", "probe begin { exit() }"]).ok();
    let pass = "Pass 2: analyzed script: 1 probe, 1 function, 0 embeds, 0 globals using ";
    assert!(outcome.stderr.starts_with(pass), "{}", outcome.stderr);
    let outcome = stap(&["-p4", "--vp", "00001", "-u", "-e", "probe begin { exit() }"]).ok();
    assert!(!outcome.stderr.contains("Pass 1"), "{}", outcome.stderr);
}

/// Waits for the line that a program writes to a file.
fn wait_for(file: &std::path::Path, text: &str) {
    until(text, || {
        std::fs::read_to_string(file).is_ok_and(|t| t.contains(text))
    });
}

#[test]
fn a_flight_recorder_goes_on_until_it_is_stopped() {
    let scratch = Scratch::new("flight");
    let script = r#"probe begin { println("took", " off") } probe end { println("land", "ed") }"#;
    let file = scratch.path("out");
    let outcome = stap(&["-F", "-o", &file.to_string_lossy(), "-e", script]).ok();
    let pid: i32 = outcome.stdout.trim().parse().expect("a process");
    wait_for(&file, "took off\n");
    let stop = |pid: i32| {
        run({
            let mut kill = Command::new("kill");
            kill.args(["-INT", &pid.to_string()]);
            kill
        })
        .ok()
    };
    stop(pid);
    wait_for(&file, "landed\n");

    let mut command = Command::new(spile_path());
    command
        .env("XDG_RUNTIME_DIR", scratch.path("."))
        .args(["stap", "-F", "-e", script]);
    let outcome = run(command).ok();
    let rest = outcome
        .stdout
        .split("as process ")
        .nth(1)
        .expect("a process");
    let pid = rest
        .split('.')
        .next()
        .and_then(|p| p.parse().ok())
        .expect("a process");
    let rest = outcome.stdout.split("cat ").nth(1).expect("a file");
    let file = rest.split(".*").next().expect("a file").to_string() + ".0";
    wait_for(file.as_ref(), "took off\n");
    stop(pid);
    wait_for(file.as_ref(), "landed\n");
}

/// Options may be shortened, as getopt_long(3) has it, and stand in front of a script in the same word.
#[test]
fn options_may_be_shortened_and_joined() {
    let script = "probe begin { println(1) x = 2 exit() }";
    assert_eq!(stap(&["-we", script]).ok().stdout, "1\n");
    let types = stap(&["--dump-probe-t"]).ok().stdout;
    assert!(types.starts_with("begin\nbegin(number)\n"), "{types}");
    // Neither a name that no global has nor a directory that is not there is a mistake.
    let outcome = stap(&["-G", "y=1", "-I", "/nonexistent", "-we", script]).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("1\n", "")
    );
}

/// `-v` has stap's lines, by which scripts around stap know the passes; `-p3` shows what handlers are compiled from.
#[test]
fn passes_tell_what_they_did() {
    let script = "global n probe begin { n++ println(n) exit() }";
    let outcome = stap(&["-v", "-e", script]).ok();
    assert_eq!(outcome.stdout, "1\n");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let used = |line: &str| {
        let words = [
            "virt/",
            "res/",
            "shr/",
            "data kb, in ",
            "usr/",
            "sys/",
            "real ms.",
        ];
        words.iter().all(|word| line.contains(word))
    };
    assert!(lines[0].starts_with("Pass 1: parsed user script and 1 library scripts using "));
    assert!(
        lines[1]
            .starts_with("Pass 2: analyzed script: 1 probe, 1 function, 0 embeds, 1 global using ")
    );
    assert!(lines[2].starts_with("Pass 3: translated to machine code: 0 probe sites using "));
    assert!(lines[..3].iter().all(|line| used(line)), "{lines:?}");
    assert_eq!(lines[3], "Pass 5: starting run.");
    assert!(
        lines[4].starts_with("Pass 5: run completed in "),
        "{lines:?}"
    );
    let text = stap(&["-p3", "-e", script]).ok().stdout;
    assert!(
        text.contains("handler 0") && text.contains("block0"),
        "{text}"
    );
}

/// SYSTEMTAP_COLORS (stap(1), --color), as Debian's stap heeds it.
#[test]
fn colours_are_those_that_the_environment_says() {
    let shown = |colors: &str| {
        let mut command = Command::new(spile_path());
        command.env("SYSTEMTAP_COLORS", colors);
        command.args([
            "stap",
            "--color=always",
            "-p2",
            "-e",
            "probe begin{println(x)}",
        ]);
        let text = run(command).stderr;
        text.lines().take(4).collect::<Vec<_>>().join("\n")
    };
    let painted = |code: &str, text: &str| format!("\x1b[{code}m\x1b[K{text}\x1b[m\x1b[K");
    assert_eq!(
        shown("error=01:source=02:caret=03:token=04:warning=05"),
        format!(
            "{} never-assigned local variable 'x': identifier 'x' at {}\n source: probe begin{{println({})}}\n{}{}\n{} unresolved type : identifier 'x' at {}",
            painted("05", "WARNING:"),
            painted("02", "<input>:1:21"),
            painted("04", "x"),
            " ".repeat(29),
            painted("03", "^"),
            painted("01", "semantic error:"),
            painted("02", ":1:21"),
        )
    );
    for wrong in ["", "foo", "error=xx", "error=01;31:"] {
        assert!(!shown(wrong).contains('\x1b'), "{wrong}");
    }
}
