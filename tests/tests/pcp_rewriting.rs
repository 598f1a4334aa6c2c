//! The tools that write archives from archives beside Debian's own: pmlogextract, pmlogreduce and pmlogrewrite.

mod pcp_suite;

use pcp_suite::{debian, ours};
use spile_tests::Scratch;

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

/// Records that are passed on as they are, and metadata in the order of the archive it is from: all files are Debian's to the
/// byte, but for the number of the process in their labels.
#[test]
fn extracts_are_debian_s_to_the_byte() {
    let scratch = Scratch::new("pcp-extracts");
    let config = scratch.write("config", "pmcd\nkernel.all.load [\"1 minute\"]\n");
    let config = config.to_str().expect("a path in UTF-8");
    let cases: [&[&str]; 5] = [
        // Metrics with several names, and instances that are not stored in the order of their numbers.
        &["archives/20180102"],
        &["-c", config, "archives/20180102"],
        &["-S", "5min", "-T", "5min", "archives/mirage"],
        &["archives/sample-labels", "archives/sample-labels"],
        &["-s", "3", "-v", "2", "archives/sample-labels"],
    ];
    for (number, args) in cases.into_iter().enumerate() {
        let base = |whose: &str| {
            let path = scratch.path(&format!("{whose}{number}"));
            path.to_str().expect("a path in UTF-8").to_owned()
        };
        let (own, theirs) = (base("own"), base("theirs"));
        ours("pmlogextract", &[args, &[own.as_str()]].concat()).ok();
        debian("pmlogextract", &[args, &[theirs.as_str()]].concat()).ok();
        for suffix in ["0", "meta", "index"] {
            let content = |base: &str| {
                let mut bytes = std::fs::read(format!("{base}.{suffix}")).expect("a file");
                // Behind the length and the magic number.
                bytes[8..12].fill(0);
                bytes
            };
            let same = content(&own) == content(&theirs);
            assert!(same, "pmlogextract {args:?}: .{suffix} is another");
        }
    }
}

/// What a rewritten archive says, where its index has entries, and what is said of the rules.
#[test]
fn rules_rewrite_archives_as_debian_s_pmlogrewrite_does() {
    let scratch = Scratch::new("pcp-rewrite");
    let cases: [(&str, &[&str], &str); 14] = [
        // The index has entries where that of the input has some, behind marks, and where domains or texts change.
        ("ok-mv-foo", &[], "global { hostname -> foo }"),
        ("bug-1044", &[], "global { hostname -> foo }"),
        ("pcp-free", &[], "global { hostname -> foo }"),
        ("eventrec", &[], "global { hostname -> foo }"),
        ("bozo-disk", &[], "metric 60.*.* { sem -> discrete }"),
        // Values of one instance, or of those of another domain.
        (
            "ok-foo",
            &["-w"],
            "metric sample.colour { indom -> NULL output inst 12345 }",
        ),
        (
            "ok-foo",
            &["-w"],
            "metric sample.colour { indom -> NULL output max }",
        ),
        (
            "ok-foo",
            &["-w"],
            "metric sample.seconds { indom -> 29.2 output iname \"bin-300\" }",
        ),
        ("ok-foo", &["-w"], "metric sample.seconds { indom -> 29.2 }"),
        (
            "mirage",
            &["-v"],
            "metric sample.bin { indom -> NULL output avg type -> FLOAT }",
        ),
        (
            "ok-bigbin",
            &["-v"],
            "indom 29.2 { indom -> duplicate 99.2 inst 100 -> 7 iname \"bin-200\" -> DELETE }",
        ),
        // What can't be done.
        ("ok-foo", &[], "metric sample.colour { type -> string }"),
        (
            "kenj-pc-2",
            &[],
            "metric sample.wrap.longlong { type -> U32 }",
        ),
        (
            "ok-foo",
            &[],
            "metric sample.colour { indom -> NULL } indom 29.1 { indom -> 29.98 }",
        ),
    ];
    // Results are dumped with their addresses.
    let plain = |text: &str| -> String {
        let lines = text.lines().map(|line| match line.find(" dump from 0x") {
            Some(at) => &line[..at],
            None => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    for (number, (archive, options, rules)) in cases.into_iter().enumerate() {
        let config = scratch.write("config", &format!("{rules}\n"));
        let config = config.to_str().expect("a path in UTF-8");
        let input = format!("archives/{archive}");
        let written = |whose: &str| {
            let base = scratch.path(&format!("{whose}{number}"));
            let base = base.to_str().expect("a path in UTF-8").to_owned();
            let args = [options, &["-c", config, &input, &base]].concat();
            let outcome = match whose {
                "own" => ours("pmlogrewrite", &args),
                _ => debian("pmlogrewrite", &args),
            };
            let dump = debian("pmdumplog", &["-z", "-dilmst", &base]);
            let say = |text: &str| plain(&text.replace(&base, "BASE"));
            (
                outcome.status,
                say(&outcome.stdout),
                say(&outcome.stderr),
                say(&dump.stdout),
            )
        };
        assert_eq!(written("own"), written("theirs"), "{archive}: {rules}");
    }
}

/// Reduced archives have the same records with the same values; instances of one record stand in an order of their own.
#[test]
fn reduced_archives_are_debian_s() {
    let scratch = Scratch::new("pcp-reduce");
    for (number, (interval, archive)) in [
        ("2sec", "foo+"),
        ("20sec", "bozo-disk"),
        ("30sec", "naslog"),
        ("2sec", "uwrap"),
    ]
    .into_iter()
    .enumerate()
    {
        let input = format!("archives/{archive}");
        let dumped = |whose: &str| {
            let base = scratch.path(&format!("{whose}{number}"));
            let base = base.to_str().expect("a path in UTF-8").to_owned();
            let args = ["-A", interval, "-t", interval, &input, &base];
            match whose {
                "own" => ours("pmlogreduce", &args).ok(),
                _ => debian("pmlogreduce", &args).ok(),
            };
            let dump = debian("pmdumplog", &["-z", "-dimt", &base]).ok();
            let dump = dump.stdout.replace(&base, "BASE");
            let mut lines: Vec<String> = dump.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let (own, theirs) = (dumped("own"), dumped("theirs"));
        assert!(theirs.len() > 50, "{theirs:?}");
        assert!(own == theirs, "pmlogreduce -t {interval} {archive} differs");
    }
}

/// Archives that contradict each other are refused with the same words, or what they contradict in is left out.
#[test]
fn contradictions_have_the_same_words() {
    let scratch = Scratch::new("pcp-contradictions");
    let base = |name: &str| scratch.path(name).display().to_string();
    for (number, options) in [&[][..], &["-x"]].into_iter().enumerate() {
        let said = |whose: &str, order: &[&str]| {
            let base = base(&format!("{whose}{number}{}", order.concat().len()));
            let args = [options, order, &[base.as_str()]].concat();
            let outcome = match whose {
                "own" => ours("pmlogextract", &args),
                _ => debian("pmlogextract", &args),
            };
            for suffix in ["0", "meta", "index"] {
                let _ = std::fs::remove_file(format!("{base}.{suffix}"));
            }
            (outcome.status, outcome.stderr.replace(&base, "BASE"))
        };
        for order in [
            ["archives/schizo-A", "archives/schizo-B"],
            ["archives/schizo-B", "archives/schizo-A"],
        ] {
            assert_eq!(said("own", &order), said("theirs", &order), "{order:?}");
        }
    }
}
