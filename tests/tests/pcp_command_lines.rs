//! What PCP's commands say of command lines, beside Debian's.

mod pcp_suite;

use std::process::Command;

use pcp_suite::{in_suite, ours, peer, same_words};
use spile_tests::Scratch;

/// The commands whose options are read by PCP's library.
const TOOLS: [&str; 16] = [
    "pmdumplog",
    "pmevent",
    "pmie",
    "pminfo",
    "pmjson",
    "pmlogcheck",
    "pmlogextract",
    "pmlogger",
    "pmloglabel",
    "pmlogreduce",
    "pmlogrewrite",
    "pmlogsummary",
    "pmprobe",
    "pmstat",
    "pmstore",
    "pmval",
];

/// Unknown options, abbreviations and arguments that are missing or too many: message, usage text and status are the same.
#[test]
fn mistakes_have_the_same_words() {
    for tool in TOOLS {
        for args in [
            &["-!"][..],
            &["-!", "--bogus=x", "-?"],
            &["--help=x"],
            &["-D", "nosuch", "-?"],
            &["-?", "-D"],
        ] {
            same_words(tool, args);
        }
    }
    for (tool, args) in [
        ("pminfo", &["-z", "-Z", "UTC"][..]),
        ("pminfo", &["-V", "-!"]),
        ("pminfo", &["--hos", "-?"]),
        ("pminfo", &["-h", "x", "-h", "y"]),
        ("pmprobe", &["-a", "x", "-h", "y"]),
        ("pmprobe", &["-iv", "-?"]),
        ("pmval", &["-s", "x", "-t", "y", "-w", "z", "m"]),
        ("pmval", &["-K", "add,", "-g", "-p1"]),
        ("pmstat", &["-S", "1min"]),
        ("pmval", &["-S", "1min", "m"]),
        ("pmval", &["-O", "1min", "nosuch.host:m"]),
        ("pmevent", &["-L", "-A", "1min", "m"]),
        ("pmprobe", &["-h", "nosuch.host", "-O", "1min"]),
        ("pmstat", &["-P", "a", "b"]),
        ("pmdumplog", &["-V"]),
        ("pmloglabel", &["-V", "9"]),
        ("pmlogextract", &["-V", "9", "-s", "x", "a", "b"]),
        ("pmlogreduce", &["-t", "", "a"]),
        ("pmlogger", &["-I", "x", "-p", "y", "-s", "z", "a"]),
        ("pmval", &["-n", "nosuch", "-a", "archives/ok-foo", "m"]),
    ] {
        same_words(tool, args);
    }
}

/// Mistakes in a name space, and what is none, in the words of PCP's parser and of its preprocessor.
#[test]
fn mistakes_in_name_spaces_have_the_same_words() {
    let scratch = Scratch::new("pcp-name-spaces");
    for text in [
        "",
        "foo {\n a 1:2:3\n}",
        "root {\n a 1:2\n}",
        "root {\n a\n}",
        "root {\n a 1:2:3\n a 1:2:4\n}",
        "root {\n a 1:2:3\n",
        "root \n a 1:2:3\n}",
        "root {\n a 999:2:3\n}",
        "root {\n\ta\t\t1:5000:3\n}",
        "root {\n a 1:2:2000\n}",
        "root {\n a 1:2:*\n}",
        "root {\n a *:2:3\n}",
        "root {\n a 511:0:1\n}",
        "root {\n a 1 : 2: 3\n b 12\n c 1:2:3:4\n}",
        "root {\n a :1:3\n}",
        "root {\n a 1:2:3 1:2:4\n}",
        "root{\n a 1:2:3\n}",
        "root {\n a 1:2:3}\n",
        "root {\n a 1:2:3\n}\n}",
        "root {\n a.b 1:2:3\n}",
        "root {\n a {\n}\n}",
        "root {\n a 1:2:3\n}\nroot {\n}",
        "root {\n a\n}\nx {\n}\nz.q {\n}\na {\n}\na {\n}",
        "root {\n}\njunk",
        "#include \"nope\"\nroot {\n}",
        "#ifdef X\nroot {\n}",
        "/* x\nroot {\n}",
        "#else\nroot {\n}",
        "#define\nroot {\n}",
        "#include\nroot {\n}",
        "#foo\nroot {\n}",
        "# 5 \"foo\"\nroot {\n a-\n}",
    ] {
        let file = scratch.write("names", &format!("{text}\n"));
        let file = file.to_str().expect("a path in UTF-8");
        same_words("pminfo", &["-n", file, "-m", "-a", "archives/ok-foo"]);
    }
}

/// Agents: the usage, which goes to standard error with status 1 even when it was asked for, and mistakes.
#[test]
fn agents_tell_their_usage_as_debian_s() {
    for agent in ["linux", "proc", "mmv"] {
        let program = format!("usr/lib/pcp/pmdas/{agent}/pmda{agent}");
        for args in [
            &["--help"][..],
            &["-?"],
            &["--he"],
            &["-z"],
            &["--nosuch"],
            &["--nosuch=x", "-d", "60"],
            &["-d"],
            &["--domain"],
            &["-d", "sixty"],
        ] {
            let theirs = in_suite(Command::new(peer().join(&program)), args);
            let own = ours(&format!("pmda{agent}"), args);
            assert_eq!(own.stderr, theirs.stderr, "{agent} {args:?}");
            assert_eq!(own.stdout, theirs.stdout, "{agent} {args:?}");
            assert_eq!(
                (own.status, theirs.status),
                (Some(1), Some(1)),
                "{agent} {args:?}"
            );
        }
    }
}

/// What is ours beside PCP's is named to those who ask, and to nobody else.
#[test]
fn own_options_stand_apart() {
    let asked = ours("pmval", &["--help"]).stderr;
    let wrong = ours("pmval", &["--bogus"]).stderr;
    assert!(asked.contains("\nBeside PCP's:\n  --color=WHEN"), "{asked}");
    assert!(asked.contains("  --json  "), "{asked}");
    assert!(!wrong.contains("--json"), "{wrong}");
}
