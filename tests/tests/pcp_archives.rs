//! The archive tools beside Debian's own, on the archives of PCP's test suite: output to the byte, and exit statuses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use spile_tests::{Outcome, Scratch, run, spile_path};

/// Where Debian's packages are unpacked: their installation asks for a service manager.
fn peer() -> &'static Path {
    static PEER: OnceLock<PathBuf> = OnceLock::new();
    PEER.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pcp-peer");
        if root.join("complete").exists() {
            return root;
        }
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).expect("a folder");
        let shell = "apt-get download pcp pcp-testsuite && for d in *.deb; do dpkg -x $d . && rm $d; done && touch complete";
        let mut command = Command::new("sh");
        command.args(["-ec", shell]).current_dir(&root);
        run(command).ok();
        root
    })
}

fn suite() -> PathBuf {
    peer().join("var/lib/pcp/testsuite")
}

fn in_suite(mut command: Command, args: &[&str]) -> Outcome {
    command.args(args).current_dir(suite());
    command
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .env("PCP_DIR", "");
    run(command)
}

fn debian(tool: &str, args: &[&str]) -> Outcome {
    let root = peer();
    let places = ["usr/bin", "usr/lib/pcp/bin"].map(|p| root.join(p).join(tool));
    let program = places.iter().find(|p| p.exists());
    let program = program.unwrap_or_else(|| panic!("Debian's {tool} is missing"));
    in_suite(Command::new(program), args)
}

fn ours(tool: &str, args: &[&str]) -> Outcome {
    let mut command = Command::new(spile_path());
    command.arg(tool);
    in_suite(command, args)
}

/// Both tools say the same.
fn same(tool: &str, args: &[&str]) {
    let (theirs, own) = (debian(tool, args), ours(tool, args));
    assert_eq!(own.stdout, theirs.stdout, "{tool} {args:?}");
    assert_eq!(own.status, theirs.status, "{tool} {args:?}: {}", own.stderr);
}

#[test]
fn dumps_and_summaries_are_equal() {
    for archive in [
        "20041125",
        "changeinst",
        "markmerge",
        "sample-labels",
        "mirage",
    ] {
        let path = format!("archives/{archive}");
        same("pmdumplog", &["-z", "-a", &path]);
        same("pmloglabel", &["-L", &path]);
    }
    for archive in [
        "changeinst",
        "markmerge",
        "mirage",
        "conn20070309",
        "rattle",
    ] {
        same(
            "pmlogsummary",
            &["-z", "-a", &format!("archives/{archive}")],
        );
    }
    same("pmdumplog", &["-e", "-h", "archives/mmv.help"]);
    let window = ["-S", "@10:50", "-T", "+5min", "-Z", "EST-11"];
    same("pmdumplog", &[&window[..], &["archives/mirage"]].concat());
}

#[test]
fn values_between_records_are_the_library_s() {
    let metrics = [
        "irix.network.interface.total.packets",
        "sample.bin",
        "sample.drift",
        "hinv.ncpu",
    ];
    for metric in metrics {
        for step in ["0.3", "1", "2.5"] {
            same(
                "pmval",
                &["-z", "-t", step, "-a", "archives/changeinst", metric],
            );
        }
        same("pmval", &["-z", "-U", "archives/changeinst", metric]);
    }
    same(
        "pmval",
        &[
            "-r",
            "-t",
            "0.3",
            "-a",
            "archives/rep",
            "disk.all.read_bytes",
        ],
    );
}

#[test]
fn several_archives_are_read_as_one() {
    same(
        "pmval",
        &[
            "-z",
            "-a",
            "archives/multi-xz",
            "network.interface.in.bytes",
        ],
    );
    same("pmlogsummary", &["-z", "-a", "archives/multi"]);
}

#[test]
fn questions_about_metrics_have_the_same_answers() {
    same(
        "pminfo",
        &["-a", "archives/20180127.08.40", "-tT", "60.0", "60.0.0"],
    );
    same(
        "pminfo",
        &["-dfm", "-a", "archives/changeinst", "sample", "hinv"],
    );
    same("pminfo", &["-l", "-a", "archives/sample-labels", "sample"]);
    same("pmprobe", &["-v", "-a", "archives/changeinst", "sample"]);
    same(
        "pmprobe",
        &["-iI", "-a", "archives/changeinst", "sample.bin"],
    );
}

#[test]
fn refusals_have_the_same_words() {
    for args in [
        &["-a", "archives/nosuch", "x"][..],
        &["-a", "archives/rep", "nosuch"],
        &["-a", "archives/rep", "-S", "@foo bar", "kernel.all.load"],
        &["-a", "archives/rep", "-t", "1x", "kernel.all.load"],
        &["-a", "archives/rep", "kernel.all"],
    ] {
        let (theirs, own) = (debian("pmval", args), ours("pmval", args));
        assert_eq!(own.stderr, theirs.stderr, "{args:?}");
        assert_eq!(own.status, theirs.status, "{args:?}");
    }
}

/// What the tools write, Debian's tools find sound and read as they read their own.
#[test]
fn written_archives_are_debian_s() {
    let scratch = Scratch::new("pcp-archives");
    let path = |name: &str| {
        let path = scratch.write(name, "");
        let _ = std::fs::remove_file(&path);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let cases: [(&str, &[&str]); 5] = [
        ("pmlogextract", &["archives/arch_a", "archives/arch_b"]),
        (
            "pmlogextract",
            &["-S", "5min", "-T", "5min", "archives/mirage"],
        ),
        ("pmlogextract", &["-V", "3", "archives/sample-labels"]),
        ("pmlogrewrite", &["-V", "3", "archives/mmv.help"]),
        (
            "pmlogreduce",
            &["-S", "15s", "-t", "15s", "archives/kenj-pc-1"],
        ),
    ];
    for (number, (tool, args)) in cases.into_iter().enumerate() {
        let (own, theirs) = (
            path(&format!("own{number}")),
            path(&format!("theirs{number}")),
        );
        ours(tool, &[args, &[own.as_str()]].concat()).ok();
        debian(tool, &[args, &[theirs.as_str()]].concat()).ok();
        let checked = debian("pmlogcheck", &[&own]).ok();
        let reference = debian("pmlogcheck", &[&theirs]).ok();
        let plain = |text: &str| text.replace(&theirs, &own);
        assert_eq!(checked.stderr, plain(&reference.stderr), "{tool} {args:?}");
        let (read, wanted) = (
            debian("pmdumplog", &["-dit", &own]).ok(),
            debian("pmdumplog", &["-dit", &theirs]).ok(),
        );
        assert_eq!(read.stdout, plain(&wanted.stdout), "{tool} {args:?}");
    }
}

/// The suite's damaged archives make no tool crash.
#[test]
fn damage_crashes_nothing() {
    let folder = suite().join("badarchives");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).expect("the damaged archives") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "meta") {
            continue;
        }
        let base = path.with_extension("");
        let base = base.to_str().expect("a path in UTF-8");
        for (tool, args) in [
            ("pmdumplog", &["-a"][..]),
            ("pmlogcheck", &[]),
            ("pmlogsummary", &["-a"]),
            ("pminfo", &["-f", "-a"]),
        ] {
            let outcome = ours(tool, &[args, &[base]].concat());
            assert!(
                matches!(outcome.status, Some(0 | 1)),
                "{tool} {base}: {:?}\n{}",
                outcome.status,
                outcome.stderr
            );
        }
        tried += 1;
    }
    assert!(tried > 10, "only {tried} damaged archives");
}
