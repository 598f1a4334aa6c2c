//! The archive tools beside Debian's own, on the archives of PCP's test suite: output to the byte, and exit statuses.

mod pcp_suite;

use std::process::Command;

use pcp_suite::{debian, in_suite, ours, peer, suite};
use spile_tests::{Outcome, Scratch};

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

/// Both tools say the same on both streams.
fn same_words(tool: &str, args: &[&str]) {
    let (theirs, own) = (debian(tool, args), ours(tool, args));
    assert_eq!(own.stderr, theirs.stderr, "{tool} {args:?}");
    same(tool, args);
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

/// Debian's pmrep, which is a Python program.
fn debian_pmrep(args: &[&str]) -> Outcome {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(peer().join("usr/bin/pmrep"));
    in_suite(command, args)
}

/// Both pmreps say the same, on both streams.
fn same_report(args: &[&str]) {
    let (theirs, own) = (debian_pmrep(args), ours("pmrep", args));
    assert_eq!(
        own.stdout, theirs.stdout,
        "pmrep {args:?}: {}",
        theirs.stderr
    );
    assert_eq!(own.stderr, theirs.stderr, "pmrep {args:?}");
    assert_eq!(own.status, theirs.status, "pmrep {args:?}");
}

#[test]
fn reports_have_the_same_columns() {
    let archive = ["-z", "-a", "archives/20130706", "-O", "30m"];
    for args in [
        &["-s", "3", "-p", "-x", "disk.dev.read", "mem.util.free"][..],
        &[
            "-s",
            "2",
            "-t",
            "2",
            "-p",
            "-l",
            "|",
            "-X",
            "",
            "-g",
            "mem.util.free",
            "disk.dev.read",
        ],
        &[
            "-s",
            "3",
            "-b",
            "MB",
            "mem.util.free",
            "mem.util.used,used,,GB,,10,1",
        ],
        &[
            "-s",
            "2",
            "-o",
            "csv",
            "-k",
            "disk.dev.read",
            "kernel.all.cpu.user,,,s",
        ],
        &[
            "-s",
            "2",
            "-e",
            "a.b=kernel.all.load*2",
            "-i",
            "'1 minute','5 minute'",
            "a.b",
        ],
    ] {
        same_report(&[&archive[..], args].concat());
    }
    let instances = ["-z", "-a", "archives/dyninsts", "-u", "-p"];
    for args in [
        &["-1", "-g", "disk.dev.read", "mem.util.used"][..],
        &[
            "-X",
            "test",
            "-7",
            "-E",
            "3",
            "disk.dev.read",
            "disk.dev.write",
        ],
    ] {
        same_report(&[&instances[..], args].concat());
    }
}

#[test]
fn reports_rank_filter_and_refuse_alike() {
    let ranks = ["-z", "-a", "archives/rank-pred", "-r", "-s", "8"];
    for args in [
        &[
            "-J",
            "2",
            "-8",
            "10",
            "-N",
            "disk.dev.read",
            "disk.dev.read",
            "disk.dev.write",
        ][..],
        &["-I", "-J", "2", "-2", "disk", "kernel", "mem"],
        &["-J", "2", "-j", "-n", "-i", "sda", "disk.dev.read"],
        &[
            "-X",
            "",
            "-6",
            "-disk.dev.read",
            "disk.dev.read",
            "disk.dev.write",
        ],
        &["-i", "(", "disk.dev.read"],
        &["-i", "none", "disk.dev.read"],
        &["disk.dev.read,,,sec"],
        &["no.such"],
    ] {
        same_report(&[&ranks[..], args].concat());
    }
}

/// What pmrep records, Debian's tools read as what Debian's pmrep records.
#[test]
fn recorded_reports_are_debian_s() {
    let scratch = Scratch::new("pmrep-archives");
    let path = |name: &str| {
        scratch
            .path(name)
            .to_str()
            .expect("a path in UTF-8")
            .to_owned()
    };
    let (own, theirs) = (path("own"), path("theirs"));
    let args = |file| {
        let metrics = ["disk.dev.read", "mem.util.free"];
        let archive = ["-z", "-a", "archives/20130706", "-s", "3", "-i", "sd.*"];
        [&["-o", "archive", "-F", file][..], &archive, &metrics].concat()
    };
    let said = ours("pmrep", &args(&own)).ok().stdout;
    let reference = debian_pmrep(&args(&theirs)).ok().stdout;
    assert_eq!(said, reference.replace(&theirs, &own));
    let (read, wanted) = (
        debian("pmdumplog", &["-dit", &own]).ok(),
        debian("pmdumplog", &["-dit", &theirs]).ok(),
    );
    assert_eq!(read.stdout, wanted.stdout);
    let values = |file: &str| debian("pmdumplog", &[file]).ok().stdout.replace(file, "");
    let without_pid = |text: String| -> Vec<String> {
        text.lines()
            .filter(|l| !l.starts_with("PID"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(without_pid(values(&own)), without_pid(values(&theirs)));
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
        &["/some/path/no/metric/"],
        &["-h", "foo", "/some/path/metric"],
        &["-z", "archives/eventrec-old/sample.event.records"],
    ] {
        same_words("pmevent", args);
    }
}

/// Diagnostics with the addresses in them numbered in their order: they are whatever memory was free.
fn numbered(text: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut numbered = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let (before, address) = rest.split_at(at);
        let end = address
            .find(|c: char| !c.is_ascii_hexdigit() && c != 'x')
            .unwrap_or(address.len());
        let (address, behind) = address.split_at(end);
        numbered.push_str(before);
        if address.len() > 10 {
            let number = seen.iter().position(|a| *a == address).unwrap_or_else(|| {
                seen.push(address);
                seen.len() - 1
            });
            numbered.push_str(&format!("<{number}>"));
        } else {
            numbered.push_str(address);
        }
        rest = behind;
    }
    numbered + rest
}

/// What is said of derived metrics with `-Dderive`: lexical elements, mistakes and their places, trees, values.
#[test]
fn derived_metrics_are_traced_as_by_debian_s() {
    let scratch = Scratch::new("pcp-derived");
    // Each in a file of its own: PCP's lexical analysis takes the state of a mistake with it.
    let sound = "\
a.sum = disk.dev.read + disk.dev.write
a.size = delta(disk.dev.total_bytes) / delta(disk.dev.total)
a.alarm = rate(disk.dev.total_bytes) > mkconst(400, units=\"Kbyte/sec\")
a.choice = disk.dev.total > 300 ? disk.dev.read : disk.dev.write
a.one = scalar(disk.dev.total[sda]) * 3.5
a.some = matchinst(!/sd[b-d]/, disk.dev.total) && 1
a.not = !disk.dev.read > 3 || 0 < disk.dev.write
a.negative = -mkconst(3, type=double) / 4 / 5 - 1
a.known = defined(disk.dev.total) + defined(no.such.metric)
a.scaled = rescale(disk.dev.total_bytes, \"Mbyte\")
a.count = count(disk.dev.total) + instant(disk.all.total)
a.wrong = disk.dev.total * disk.dev.total
a.missing = no.such.metric + 1
";
    let config = scratch.write("sound", sound);
    let config = config.to_str().expect("a path in UTF-8");
    let source = ["-a", "archives/bozo-disk", "-c", config];
    for name in ["a.size", "a.alarm", "a.choice", "a.not", "a.negative"] {
        let args = [&source[..], &["-z", "-t", "1", "-s", "6", name]].concat();
        let args: Vec<&str> = args
            .iter()
            .map(|a| if *a == "-c" { "--derived" } else { a })
            .collect();
        same("pmval", &args);
    }
    for (number, wrong) in [
        "a +",
        "a b",
        "3 a",
        "a ** b",
        "(a",
        "a )",
        "foo(bar)",
        "* a",
        "a + (3 4",
        "a ? b",
        "a ? b : ",
        "! )",
        "- )",
        "a || )",
        "avg(a + b)",
        "max(",
        "scalar(3 4)",
        "rescale(a b",
        "rescale(a,)",
        "rescale(a, \"foo\")",
        "matchinst(",
        "matchinst(/a/",
        "matchinst(/a/,(a",
        "matchinst(/a(/, b)",
        "anon(3)",
        "mkconst(foo)",
        "mkconst(3, foo=bar)",
        "mkconst(3, type=string)",
        "mkconst(3.5, type=u32)",
        "mkconst(3, semantics=foo)",
        "a[x",
        "a[x] b",
        "\"text",
        "4294967296",
        "1..2",
        "a $ b",
        "\ta\t*\t$",
    ]
    .into_iter()
    .enumerate()
    {
        let config = scratch.write(&format!("wrong-{number}"), &format!("a.wrong = {wrong}\n"));
        let config = config.to_str().expect("a path in UTF-8");
        let args = [
            "-D",
            "derive,appl0",
            "-a",
            "archives/bozo-disk",
            "-c",
            config,
            "a",
        ];
        // What is said of other files is another matter.
        let said = |outcome: Outcome| {
            let stderr = outcome.stderr;
            let (_, behind) = stderr.split_once(config).unwrap_or_default();
            numbered(behind)
        };
        let (theirs, own) = (said(debian("pminfo", &args)), said(ours("pminfo", &args)));
        assert!(!theirs.is_empty(), "{wrong}");
        assert_eq!(own, theirs, "{wrong}");
    }
}

/// A key without dots may have a whole specification behind it.
#[test]
fn specifications_of_simple_keys_have_all_parts() {
    let scratch = Scratch::new("pcp-pmrep-keys");
    let config = scratch.write(
        "pmrep.conf",
        "[set]\nheader = yes\nunitinfo = no\nprecision = 2\ntwice = %%two,,,,9\n\
         twice.formula = 2 * kernel.all.load\ntwice.label = twice\n\
         plain = kernel.all.load\nplain.width = 12\n",
    );
    let config = config.to_str().expect("a path in UTF-8");
    same_report(&[
        "-z",
        "-a",
        "archives/20130706",
        "-s",
        "2",
        "-c",
        config,
        ":set",
    ]);
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

/// Expressions, rules and actions over archives, in all styles of output.
#[test]
fn rules_are_those_of_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie");
    let rules = scratch.write(
        "rules",
        r#"
disk.dev.total #dks1d1 #rad4d2 @0..2;
busy = disk.dev.total > 1;
all_inst disk.dev.total > 0; count_inst disk.dev.total > 1; min_inst disk.dev.total;
avg_sample disk.dev.total #dks1d1 @0..2; 5 %_inst disk.dev.total > 0;
match_inst "dks5" disk.dev.total > 0;
kernel.all.cpu.user * 2 - 1 / 4; rate instant kernel.all.cpu.user;
rising kernel.all.cpu.user > 0.017 && mem.freemem > 1 Mbyte;
limit = 10 count / sec; m = "disk.dev.total";
some_inst $m > $limit -> print "a" " %i:%v" " @%h %c" & shell "echo %v";
kernel.all.cpu.user > 0.01 -> print 5 sec "held %v" | syslog "not reached";
rising some_inst disk.dev.total > 10 -> alarm "up" " %i";
some_inst (disk.dev.total > 1 && disk.dev.total < 10) -> print "between" " %i=%v";
ruleset kernel.all.cpu.user > 0.019 -> print "one %v"
else kernel.all.cpu.user > 0.017 -> print "two %v"
unknown -> print "unknown" otherwise -> print "otherwise";
delta = 5 sec; $minute; kernel.all.load;
part = "all.load"; kernel.$part; ker$'part'x > 0;
no.such.metric > 0 || kernel.all.cpu.user > 0; no.such.metric > 0 && kernel.all.cpu.user > 0;
twice = kernel.all.cpu.user; twice = kernel.all.cpu.sys; kernel.all.cpu.user;
"#,
    );
    let rules = rules.to_str().expect("a path in UTF-8");
    let source = [
        "-z",
        "-q",
        "-a",
        "archives/babylon.pmview_v2",
        "-t",
        "3",
        "-T",
        "+20",
        "-c",
        rules,
    ];
    for style in ["-v", "-V", "-W"] {
        same("pmie", &[&source[..], &[style]].concat());
    }
    let hosts = scratch.write(
        "hosts",
        "sampledso.colour :vm00 :vm01; max_host sampledso.colour :vm00 :vm01 #'red';\n\
         some_host (sampledso.colour :vm00 :vm01 #red > 0) -> print \"x\" \" @%h %v\";\n",
    );
    let hosts = hosts.to_str().expect("a path in UTF-8");
    let source = [
        "-Z",
        "EST5",
        "-q",
        "-v",
        "-t",
        "2",
        "-a",
        "archives/multi-vm00",
        "-a",
        "archives/multi-vm01",
    ];
    same("pmie", &[&source[..], &["-c", hosts]].concat());
    // What is wrong is said on standard error.
    for text in [
        "kernel.all.cpu.user > ;",
        "disk.dev.total > 400 -> print \"x\";",
        "nosuch > 1;",
    ] {
        let wrong = scratch.write("wrong", text);
        let wrong = wrong.to_str().expect("a path in UTF-8");
        let args = ["-q", "-a", "archives/babylon.pmview_v2", "-c", wrong];
        assert_eq!(
            ours("pmie", &args).stderr,
            debian("pmie", &args).stderr,
            "{text}"
        );
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
    same("pmerr", &["-l"]);
    let scratch = Scratch::new("pcp-pmjson");
    for (number, text) in [
        r#"{"a":1,"b":[1,2.50,{"c":null}],"d":"x\\n\u00e9","e":{},"f":[],"g":true}"#,
        r#"[[1,[2]],["x",{"y":[{"z":"q"}]}]]"#,
        "[1, 2",
        "{a:1}",
        r#"{"a" : 1,}"#,
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

/// What `l` lists in the dialogue of `pmie -d`.
#[test]
fn rules_are_listed_as_by_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie-list");
    let rules = scratch.write(
        "rules",
        r#"
a = hinv.ncpu;
c = some_inst (disk.dev.total > 10 count/sec) && ! hinv.ncpu == 4;
d = 100 * kernel.all.load @0..2;
f = some_inst match_inst "sd.*" disk.dev.total > 10 -> print "hi %v" & shell "true";
g = rising (hinv.ncpu > 2) || falling (hinv.ncpu < 3 Kbyte);
h = 30 %_inst disk.dev.total > 0 -> alarm 10 min "foo" "bar";
i = ruleset hinv.ncpu > 1 -> print "x" else hinv.ncpu > 2 -> print "y" otherwise -> print "z";
j = rate hinv.ncpu > -3;
k = hinv.ncpu * 3 + 2 / hinv.ncpu - 1;
"#,
    );
    let dialogue = format!("printf 'f {}\nl\nl k\nl nosuch\nq\n' | ", rules.display());
    let listed = |program: &str| {
        let mut command = Command::new("sh");
        command.env_remove("PCP_DERIVED_CONFIG");
        let shell = format!("{dialogue} {program} -d -a archives/20201109");
        in_suite(command, &["-c", &shell]).ok().stdout
    };
    let theirs = listed(&peer().join("usr/bin/pmie").display().to_string());
    assert!(theirs.contains("rule \"nosuch\" not defined"), "{theirs}");
    let own = listed(&format!("{} pmie", spile_tests::spile_path().display()));
    assert_eq!(own, theirs);
}
