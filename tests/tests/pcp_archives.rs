//! The archive tools beside Debian's own, on the archives of PCP's test suite: output to the byte, and exit statuses.

mod pcp_suite;

use pcp_suite::{debian, ours, same, same_words, suite};
use spile_tests::Scratch;

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
    for file in [
        "archives/ok-foo.0",
        "archives/ok-foo.index",
        "badarchives/badlen-1.0",
    ] {
        same("pmdumplog", &["-v", file]);
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

/// Marks and the ends of archives, windows, counters that wrap, and names longer than a column.
#[test]
fn the_edges_of_archives_are_the_library_s() {
    for args in [
        // A step that leads over a mark finds nothing.
        &[
            "-z",
            "-A",
            "1hour",
            "-t",
            "3hour",
            "-a",
            "archives/count-mark",
            "kernel.all.pswitch",
        ][..],
        &[
            "-z",
            "-A",
            "1hour",
            "-t",
            "3hour",
            "-s",
            "9",
            "-a",
            "archives/count-mark",
            "kernel.all.pswitch",
        ],
        &[
            "-z",
            "-A",
            "1hour",
            "-t",
            "1hour",
            "-a",
            "archives/20130706",
            "filesys.used",
        ],
        // Half a second behind the end, with windows that are empty or of another order.
        &[
            "-S",
            "+1hour",
            "-O",
            "-1sec",
            "-a",
            "archives/changeinst",
            "sample.bin",
        ],
        &[
            "-A",
            "10min",
            "-O",
            "-0sec",
            "-a",
            "archives/changeinst",
            "sample.bin",
        ],
        &[
            "-T",
            "+5sec",
            "-O",
            "+3sec",
            "-A",
            "1sec",
            "-a",
            "archives/changeinst",
            "sample.bin",
        ],
        &[
            "-r",
            "-t",
            "1",
            "-s",
            "9",
            "-a",
            "archives/uwrap",
            "sample.wrap.ulong",
        ],
        &[
            "-w",
            "8",
            "-r",
            "-s",
            "3",
            "-a",
            "archives/rep",
            "kernel.all.load",
        ],
        &["-s", "2", "-a", "archives/rep", "event.missed"],
        &["-s", "3", "-a", "archives/omnibus_v3", "pmcd.seqnum"],
    ] {
        same("pmval", args);
    }
}

/// Options, and what is damaged.
#[test]
fn archives_are_asked_and_checked_in_the_same_words() {
    for args in [
        &["-s", "-a", "archives/rep", "hinv.ncpu"][..],
        &["-ls", "-a", "archives/sample-labels", "sample.colour"],
        &["-x", "-a", "archives/eventrec", "sample.event"],
        &["-v", "-a", "archives/omnibus_v3", "sampledso.event"],
        &["-d", "-a", "archives/rep", "29.0.9999"],
        &["-n", "/nowhere", "-a", "archives/rep"],
    ] {
        same_words("pminfo", args);
    }
    for args in [
        &[
            "-O",
            "+1sec",
            "-v",
            "-a",
            "archives/changeinst",
            "sample",
            "pmcd",
        ][..],
        &["-iI", "-a", "archives/rep", "hinv.ncpu", "kernel.all.load"],
        &["-i", "-v", "-a", "archives/rep"],
        // Names that are not looked up first are looked for among the records, unless there is but one.
        &["-F", "-a", "archives/rep", "no.such", "hinv.ncpu", "hinv"],
        &[
            "-F",
            "-f",
            "-i",
            "-a",
            "archives/rep",
            "no.such",
            "hinv.ncpu",
        ],
        &[
            "-F",
            "-v",
            "-O",
            "-0",
            "-a",
            "archives/rep",
            "no.such",
            "hinv.ncpu",
        ],
        &["-F", "-f", "-I", "-a", "archives/rep", "no.such"],
        // What needs no metrics needs a record.
        &["-v", "-a", "archives/rep", "event"],
        &["-v", "-O", "-0", "-a", "archives/rep", "event"],
        &[
            "-f",
            "-I",
            "-a",
            "archives/nfsclient_64",
            "nfsclient.ops.readdirplus.bytes_recv",
        ],
    ] {
        same_words("pmprobe", args);
    }
    for args in [
        &["-deit", "archives/sample-labels", "sample.colour"][..],
        &["-s", "archives/changeinst", "hinv.ncpu", "sample.bin"],
        &["-t", "badarchives/badti-3"],
        &["-m", "badarchives/badlen-2"],
    ] {
        same_words("pmdumplog", args);
    }
    for archive in [
        "badlen-1",
        "badlen-2",
        "badlen-7",
        "badti-2",
        "badlabel-1",
        "541380",
    ] {
        let path = format!("badarchives/{archive}");
        same_words("pmlogcheck", &[&path]);
        same_words("pmloglabel", &["-l", &path]);
    }
    same_words("pmlogcheck", &["-l", "-S", "+30sec", "archives/changeinst"]);
    for args in [
        &["-s", "archives/rep"][..],
        &["-sHB2", "archives/rep", "kernel.all.sysfork"],
        &["-Hsa", "archives/rep", "kernel.all.sysfork"],
    ] {
        same_words("pmlogsummary", args);
    }
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
fn overviews_and_events_are_equal() {
    same(
        "pmstat",
        &[
            "-z",
            "-a",
            "archives/pcp-zeroconf",
            "-s",
            "3",
            "-x",
            "-S",
            "+10s",
        ],
    );
    same(
        "pmstat",
        &[
            "-z",
            "-a",
            "archives/20130706",
            "-a",
            "archives/pcp-zeroconf",
            "-s",
            "2",
        ],
    );
    same(
        "pmevent",
        &["-z", "-a", "archives/eventrec", "sample.event.records"],
    );
    same(
        "pmevent",
        &[
            "-a",
            "archives/eventrec",
            "-S",
            "+2s",
            "-s",
            "1",
            "sample.event.records",
        ],
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
        &["-D", "blah", "kernel.all.load"],
    ] {
        let (theirs, own) = (debian("pmval", args), ours("pmval", args));
        assert_eq!(own.stderr, theirs.stderr, "{args:?}");
        assert_eq!(own.status, theirs.status, "{args:?}");
    }
    for args in [
        &["-h", "foo", "-h", "bar"][..],
        &["-g", "-p", "1234"],
        &["-p", "1234"],
        &["-K", "blah,a,/no/such/file,no_init"],
        &["-K", "del,,,"],
        &["-K", "clear", "-K", "del,,/no/such/file"],
        &["-K", "add,99,"],
        &["-K", "add,,/no/such/file,no_init"],
        &["/some/path/no/metric/"],
        &["-h", "foo", "/some/path/metric"],
        &["-z", "archives/eventrec-old/sample.event.records"],
    ] {
        same_words("pmevent", args);
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

/// Archives that are cut off or changed: what is read of them, where they end, and what is said, is Debian's.
#[test]
fn damage_is_told_alike() {
    for archive in [
        "badlog-1",
        "ok-truncbin",
        "badlen-4",
        "badlen-11",
        "archive-20150417.131733",
    ] {
        let path = format!("badarchives/{archive}");
        same_words("pmdumplog", &["-L", &path]);
        same_words("pmlogsummary", &["-a", &path]);
        same_words("pmloglabel", &["-L", &path]);
        if archive.starts_with("bad") {
            same_words("pminfo", &["-f", "-a", &path]);
        }
    }
    for (archive, metric) in [
        ("badlog-1", "sample.seconds"),
        ("ok-truncbin", "sample.seconds"),
        ("archive-20150417.131733", "kernel.all.load"),
    ] {
        let path = format!("badarchives/{archive}");
        same_words("pmval", &["-t", "60", "-a", &path, metric]);
    }
    let scratch = Scratch::new("pcp-damage");
    let copied = scratch.path("copied").display().to_string();
    for (archive, at, byte) in [
        ("viewqa1", 4206, 225),
        ("dyninsts", 2974, 141),
        ("schizo-A", 967, 17),
    ] {
        for part in ["0", "index", "meta"] {
            let from = suite().join(format!("archives/{archive}.{part}"));
            let mut bytes = std::fs::read(&from).expect("a part of the archive");
            if let ("0", Some(place)) = (part, bytes.get_mut(at)) {
                *place = byte;
            }
            std::fs::write(format!("{copied}.{part}"), bytes).expect("a copy");
        }
        same_words("pmlogcheck", &["-v", &copied]);
    }
}

#[test]
fn small_tools_say_the_same() {
    for args in [
        &["-z", "-q", "1", "archives/diff1", "archives/diff2"][..],
        &[
            "-z",
            "-p",
            "5",
            "-x",
            "disk.dev",
            "archives/section-a",
            "archives/section-c",
        ],
        &[
            "-Z",
            "UTC",
            "--skip-missing",
            "archives/section-a",
            "archives/section-c",
        ],
    ] {
        // Debian's is a script, which finds its tools by PATH: what it prints is kept with the suite.
        let own = ours("pmdiff", args);
        assert_eq!(own.status, Some(0), "{}", own.stderr);
        assert!(
            own.stdout.contains("Ratio  Metric-Instance\n"),
            "{}",
            own.stdout
        );
    }
    let expected = std::fs::read_to_string(suite().join("996.out")).expect("expected output");
    let own = ours(
        "pmdiff",
        &["-z", "-q", "1", "archives/diff1", "archives/diff2"],
    )
    .stdout;
    let table = own.split_once("Ratio Threshold").expect("a table").1;
    assert!(expected.contains(table), "{own}");
    same("pmerr", &["-12357", "0x3041", "12345", "x", "-2", "0"]);
    same("pmerr", &["4294954951", " -12345 ", "+5", "0xffffcfc7"]);
    same("pmerr", &["-l"]);
    let stored = ["-x", "x", "-s", "1", "-z", "-a", "archives/bozo-disk"];
    same("pmval", &[&stored[..], &["hinv.ncpu"]].concat());
    let scratch = Scratch::new("pcp-pmjson");
    for (number, text) in [
        r#"{"a":1,"b":[1,2.50,{"c":null}],"d":"x\\n\u00e9","e":{},"f":[],"g":true}"#,
        r#"[[1,[2]],["x",{"y":[{"z":"q"}]}]]"#,
        "[1, 2",
        "{a:1}",
        r#"{"a" : 1,}"#,
        r#"{"a":1} x"#,
        r#"{"a":1} {"b":2}"#,
        "[1] \"x\"",
        "[1], ",
    ]
    .into_iter()
    .enumerate()
    {
        let path = scratch.write(&format!("{number}.json"), text);
        let path = path.to_str().expect("a path in UTF-8");
        for style in ["-m", "-p", "-y", "-q"] {
            same("pmjson", &[style, "-i", path]);
        }
    }
}

/// pmtop's values over an archive are those of pmval: counters as rates, the rest as they are.
#[test]
fn pmtop_shows_what_pmval_shows() {
    for metric in ["disk.all.total", "mem.util.free"] {
        let args = ["-a", "archives/20180102", "-t", "60s", "-s", "5"];
        let theirs = debian(
            "pmval",
            &[&args[..], &["-f", "6", "-w", "24", metric]].concat(),
        )
        .ok();
        let wanted: Vec<f64> = theirs
            .stdout
            .lines()
            .filter_map(|line| {
                let (time, value) = line.trim().split_once(' ')?;
                // Lines of samples begin with a time.
                let is_time = time.as_bytes().get(2) == Some(&b':');
                value.trim().parse().ok().filter(|_| is_time)
            })
            .collect();
        let own = ours("pmtop", &[&args[..], &["--json", metric]].concat()).ok();
        let shown: Vec<f64> = own
            .stdout
            .lines()
            .filter_map(|line| {
                let sample: serde_json::Value = serde_json::from_str(line).expect("an object");
                sample["values"][0]["value"].as_f64()
            })
            .collect();
        // For the first time the archive has no value.
        assert_eq!((wanted.len(), shown.len()), (4, 4), "{}", theirs.stdout);
        assert_eq!(own.stdout.lines().count(), 5);
        for (wanted, shown) in wanted.iter().zip(&shown) {
            assert!(
                (wanted - shown).abs() <= 1e-5 * wanted.abs() + 1e-5,
                "{metric}: {wanted} {shown}"
            );
        }
    }
}

/// Lines of `--json` have the values that Debian's tools print as text.
#[test]
fn json_lines_have_the_same_values() {
    let lines = |tool: &str, args: &[&str]| -> Vec<serde_json::Value> {
        let said = ours(tool, args).ok().stdout;
        let line = |line| serde_json::from_str(line).expect("a line of JSON");
        said.lines().map(line).collect()
    };
    let found = lines(
        "pmprobe",
        &["--json", "-a", "archives/ok-foo", "sample", "nosuch"],
    );
    let mut own: Vec<String> = Vec::new();
    for line in &found {
        let metric = line["metric"].as_str().expect("a name");
        let value = match &line["value"] {
            serde_json::Value::String(text) => format!("{text:?}"),
            number => number.to_string(),
        };
        match own.last_mut() {
            Some(last) if last.split(' ').next() == Some(metric) => {
                last.push_str(&format!(" {value}"))
            }
            _ => own.push(format!("{metric} {value}")),
        }
    }
    let theirs = debian("pmprobe", &["-v", "-a", "archives/ok-foo", "sample"]).ok();
    let theirs: Vec<String> = theirs
        .stdout
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            format!("{} {}", words[0], words[2..].join(" "))
        })
        .collect();
    // What is not known is said ahead of all values.
    assert_eq!(own.remove(0), "nosuch null");
    own.sort();
    let mut theirs = theirs;
    theirs.sort();
    assert_eq!(own, theirs);
    assert_eq!(found[0]["error"], "Unknown metric name");

    // A time, instances and units, as pmdumplog prints them.
    let all = lines("pmdumplog", &["--json", "archives/ok-foo", "sample.colour"]);
    assert_eq!(all.len(), 3 * 8);
    assert_eq!(all[0]["timestamp"], "1998-08-06T18:34:33.248687Z");
    assert_eq!(all[0]["instance"], "red");
    assert_eq!(all[0]["value"], 119);
    let seconds = lines(
        "pmval",
        &["--json", "-r", "-U", "archives/ok-foo", "sample.seconds"],
    );
    assert!(seconds.iter().all(|line| line["units"] == "sec"));
    let events = lines(
        "pmevent",
        &["--json", "-a", "archives/eventrec", "sample.event.records"],
    );
    assert_eq!(events[0]["metric"], "sample.event.type");
    assert_eq!(events[0]["events"], "sample.event.records");
    let summary = lines(
        "pmlogsummary",
        &["--json", "archives/ok-foo", "sample.colour"],
    );
    assert_eq!(summary[0]["minimum"], 119.0);
    assert_eq!(summary[0]["samples"], 8);
}

/// A file that has a name as a volume, but no label, is none.
#[test]
fn files_that_are_no_volumes_are_left_alone() {
    let scratch = Scratch::new("pcp-no-volume");
    for suffix in ["0", "index", "meta"] {
        let from = pcp_suite::suite().join(format!("archives/sample-labels.{suffix}"));
        std::fs::copy(from, scratch.path(&format!("logged.{suffix}"))).expect("a copy");
    }
    scratch.write("logged.1368", "{\"QA\":1368}\n");
    let base = scratch.path("logged").display().to_string();
    for args in [&["-L", &base][..], &[&base], &["-e", "-t", &base]] {
        same_words("pmdumplog", args);
    }
    same_words("pmval", &["-a", &base, "-t", "50msec", "sample.colour"]);
}
