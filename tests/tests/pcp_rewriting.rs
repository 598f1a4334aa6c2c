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
    let named = |name: &str, text: &str| {
        let path = scratch.write(name, text);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    // What is said of a metric first holds; a metric that has none of the instances in a record has no values there.
    let one = named("one", "sample.many.int [ \"i-5\" ]\nsample.many\n");
    let many = named(
        "many",
        "sample.mirage\nsample.many.int [ \"i-5\", 2, \"i-99\", 77 ]\nsample.mirage [0]\n",
    );
    // Labels that come after their metric.
    let later = named(
        "later",
        "sample.longlong.bin_ctr [ \"bin-700\" ]\nsample.proc.ordinal [ \"0001 init\" ]\n",
    );
    // The last entry of the index tells of the end of what was read, wanted or not.
    let few = named("few", "sampledso.long.hundred\nsampledso.bin\n");
    let once = named("once", "hinv.map.cpu_node [ \"cpu0\" ]\n");
    let part = |name: &str, window: &[&str]| {
        let path = scratch.path(name);
        let path = path.to_str().expect("a path in UTF-8").to_owned();
        let args = [window, &["archives/mirage", &path]].concat();
        debian("pmlogextract", &args).ok();
        path
    };
    let begin = part("begin", &["-T", "4min"]);
    let end = part("end", &["-S", "10min"]);
    let cases: [&[&str]; 12] = [
        &["-c", &one, "archives/mirage-1"],
        &["-T", "34s", "-c", &many, "archives/mirage-1"],
        &["-x", "-V", "2", "-c", &later, "archives/omnibus_v2"],
        &["-c", &few, "archives/rewrite"],
        &["-T", "755 msec", "-c", &once, "archives/mark_no_mark_0"],
        &["-T", "0s", "-f", "archives/sample-secs"],
        // A mark that is due before the end stands, though what it stands before comes later.
        &["-T", "6min", "-m", &begin, &end],
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
        let said = ours("pmlogextract", &[args, &[own.as_str()]].concat()).ok();
        let wanted = debian("pmlogextract", &[args, &[theirs.as_str()]].concat()).ok();
        assert_eq!(said.stderr, wanted.stderr, "{args:?}");
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
    let cases: [(&str, &[&str], &str); 62] = [
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
        // What is wanted of some labels is done to each in a set of its own, by the rules that came last first; those that come
        // for the same stand in one set.
        (
            "sample-labels",
            &["-v"],
            "label domain 29 \"agent\" { label -> \"zz\" } label domain 29 \"role\" { delete }",
        ),
        (
            "sample-labels",
            &["-v"],
            "label domain 29 \"agent\" { domain -> 31 } label domain 29 \"role\" { label -> \"r\" }",
        ),
        (
            "sample-labels",
            &["-v"],
            "label domain 29 { domain -> 31 } label domain 29 \"role\" { label -> \"r\" }",
        ),
        (
            "sample-labels",
            &["-v"],
            "label context { value -> 1 } label context \"hostname\" { label -> \"a\" }",
        ),
        (
            "sample-labels",
            &["-v"],
            "label context \"hostname\" { label -> \"hn\" } label context * 1000 { value -> 7 }",
        ),
        (
            "sample-labels",
            &["-v"],
            "label context { new \"x\" 5 } label domain 29 { new \"b\" 1 } label context { new \"a\" true } label domain 29 { new \"a\" 2 } label context { new \"x\" 6 }",
        ),
        // A star stands for what each has.
        (
            "sample-labels",
            &["-v"],
            "label item 29.0.* { item -> 29.1.* }",
        ),
        (
            "sample-labels",
            &["-v"],
            "label cluster 29.* { cluster -> 30.* }",
        ),
        // Labels that come stand in sets of their own, ahead of all else, the last rule's first.
        (
            "omnibus_v2",
            &["-v"],
            "label domain 29 { new \"a\" \"b\" } label instances 29.2 { new \"x\" 7 } label cluster 29.0 { new \"c\" 1 }",
        ),
        (
            "zero_disk_activity",
            &["-v"],
            "label context { new \"x\" 5 } label item disk.dev.read { new \"y\" true }",
        ),
        (
            "count-mark",
            &["-w"],
            "label context { new \"x\" 5 } label domain 99 { new \"x\" 1 } label cluster 60.1 { new \"x\" 1 }",
        ),
        // Rules for labels and texts in words, those that came last first, those that concern nothing left out.
        (
            "omnibus_v2",
            &["-C", "-v"],
            "label domain 29 \"agent\" \"sample\" { value -> \"foo\" }
             label domain 29 \"agent\" \"sample\" { label -> \"bar\" }
             label context \"hostname\" { value -> 3 } label context { new \"q\" null }
             label instances 29.2 * \"bin\" { label -> \"x\" }
             label instances 29.2 \"no-bin\" { delete } label domain 99 { delete }
             text indom 29.1 { delete } text metric 29.0.36 help { text -> \"new\" }",
        ),
        (
            "omnibus_v2",
            &["-v", "-C"],
            "label cluster 29.0 { cluster -> 29.5 } label item 29.0.36 { item -> 29.0.37 }
             label indom 29.1 { indom -> 29.2 } text indom 29.1 { indom -> 29.2 }",
        ),
        (
            "conn20070309",
            &["-C"],
            "text metric aconex.connections.inuse { delete }",
        ),
        (
            "pcp-pidstat-process-states",
            &["-C", "-V", "3"],
            "global { zoneinfo -> \"Europe/Berlin\" }",
        ),
        // An instance of a domain that is not there is not missed.
        ("ok-foo", &["-w"], "metric sample.seconds { indom -> 99.6 }"),
        (
            "20150105.17.57",
            &["-w", "-C"],
            "indom 2.4 { indom -> 88.9 }",
        ),
        // What is said twice.
        ("ok-foo", &[], "global { time -> 10 } global { time -> 5 }"),
        ("ok-foo", &[], "global { TZ -> \"UTC\" TZ -> \"EST5\" }"),
        ("ok-foo", &[], "global { hostname -> a hostname -> b }"),
        (
            "ok-foo",
            &[],
            "metric sample.colour { sem -> counter sem -> discrete }",
        ),
        (
            "ok-foo",
            &[],
            "metric sample.colour { name -> a.b name -> a.c }",
        ),
        (
            "ok-foo",
            &[],
            "metric sample.colour { pmid -> 29.0.200 } metric sample.colour { pmid -> 29.0.201 }",
        ),
        (
            "ok-foo",
            &[],
            "metric sample.colour { indom -> NULL output max indom -> 99.3 }",
        ),
        (
            "ok-foo",
            &[],
            "indom 29.2 { indom -> 88.8 } indom 29.2 { indom -> duplicate 88.8 }",
        ),
        // Whether or not what is said last would change anything.
        (
            "dupname-a",
            &[],
            "metric hinv.cpu.clock { sem -> instant } metric hinv.cpu.clock { sem -> discrete }",
        ),
        (
            "dupname-a",
            &[],
            "metric hinv.cpu.clock { type -> double } metric hinv.cpu.clock { type if 32 -> U64 }",
        ),
        (
            "dupname-a",
            &[],
            "metric hinv.cpu.clock { name -> a.b } metric hinv.cpu.clock { name -> hinv.cpu.clock }",
        ),
        (
            "dupname-a",
            &[],
            "indom 60.0 { indom -> 60.9 } indom 60.0 { indom -> 60.0 }",
        ),
        (
            "dupname-a",
            &[],
            "indom 60.0 { inst 0 -> delete iname \"cpu0\" -> delete }",
        ),
        (
            "dupname-a",
            &[],
            "indom 60.0 { inst 0 -> 5 } indom 60.0 { inst 0 -> 0 }",
        ),
        (
            "dupname-a",
            &[],
            "indom 60.0 { inst 0 -> 5 iname \"cpu0\" -> \"c\" }",
        ),
        // A host's name has no quotes, a time zone has.
        ("ok-foo", &[], "global { hostname -> \"other.host\" }"),
        ("ok-foo", &[], "global { hostname -> }"),
        ("ok-foo", &[], "global { tz -> UTC }"),
        // Times that clocks do not show are taken.
        ("dupname-a", &["-C"], "global { time -> +746 }"),
        ("dupname-a", &["-C"], "global { time -> -2:75:99 }"),
        ("dupname-a", &["-C"], "global { time -> +1000.5 }"),
        ("dupname-a", &["-C"], "global { time -> +59.5 }"),
        ("dupname-a", &["-C"], "global { time -> +1:2:3:4 }"),
        ("dupname-a", &[], "metric hinv.cpu.* { type -> double }"),
        // A metric that loses all instances stays, its domain does not.
        ("ac15", &[], "indom 2.1 { iname \"5416\" -> delete }"),
        (
            "ac15",
            &[],
            "indom 60.2 { inst 1 -> delete inst 5 -> delete inst 15 -> delete }
             metric kernel.all.load { type -> double pmid -> 60.77.7 }",
        ),
        // Averages of whole numbers are rounded.
        (
            "instant-1",
            &[],
            "metric disk.dev.read { indom -> NULL output avg }",
        ),
        // What can't be done.
        ("ok-foo", &[], "# nothing"),
        ("ok-foo", &[], ""),
        (
            "changeinst",
            &[],
            "metric pmcd.pmlogger.archive { indom -> NULL output avg }",
        ),
        (
            "bug1057",
            &["-w"],
            "metric kernel.percpu.interrupts.line18 { units -> 1,0,0,BYTE,0,0 rescale }",
        ),
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
            let dump = debian("pmdumplog", &["-z", "-dehilmst", &base]);
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

/// Reduced archives have the same records with the same values in the same order.
#[test]
fn reduced_archives_are_debian_s() {
    let scratch = Scratch::new("pcp-reduce");
    for (number, (interval, archive)) in [
        ("2sec", "foo+"),
        ("20sec", "bozo-disk"),
        ("30sec", "naslog"),
        ("2sec", "uwrap"),
        // Instances that come and go.
        ("1sec", "gap"),
        ("1sec", "ok-mv-bar"),
        ("5min", "mirage"),
        // A number that is too large for its type on the way.
        ("23076 msec", "reduce-2"),
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
            dump.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (own, theirs) = (dumped("own"), dumped("theirs"));
        assert!(theirs.len() > 50, "{theirs:?}");
        assert!(own == theirs, "pmlogreduce -t {interval} {archive} differs");
    }
    // A volume's first record has one entry in the index.
    let entries = |whose: &str, options: &[&str], archive: &str| {
        let base = scratch.path(&format!("{whose}-volumes-{}", options.concat()));
        let base = base.to_str().expect("a path in UTF-8").to_owned();
        let args = [options, &[archive, &base][..]].concat();
        let said = match whose {
            "own" => ours("pmlogreduce", &args).ok(),
            _ => debian("pmlogreduce", &args).ok(),
        };
        let index = debian("pmdumplog", &["-z", "-t", &base]).ok();
        (said.stderr, index.stdout.replace(&base, "BASE"))
    };
    for (options, archive) in [
        (["-v", "1", "-t", "3"], "archives/ok-mv-bar"),
        // Marks are no records of a volume, and what is left out is no sample.
        (["-v", "2", "-t", "3.774sec"], "archives/19970807.09.59"),
        (["-s", "6", "-t", "3.774sec"], "archives/19970807.09.59"),
        (["-s", "20", "-t", "0.1"], "archives/instant-1"),
    ] {
        let (own, theirs) = (
            entries("own", &options, archive),
            entries("theirs", &options, archive),
        );
        assert_eq!(own, theirs, "{options:?} {archive}");
    }
}

/// Archives that contradict each other are refused with the same words, or what they contradict in is left out.
#[test]
fn contradictions_have_the_same_words() {
    let scratch = Scratch::new("pcp-contradictions");
    let base = |name: &str| scratch.path(name).display().to_string();
    for (number, options) in [&[][..], &["-x"]].into_iter().enumerate() {
        let said = |whose: &str, order: &[&str]| {
            let name = format!("{whose}{number}{}", order.concat().len());
            let base = base(&name);
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
        // Another host ends it before another time zone is spoken of, if it comes first.
        for order in [
            &["archives/procpid-encode2", "archives/proc"][..],
            &["-f", "archives/procpid-encode2", "archives/proc"],
        ] {
            assert_eq!(said("own", order), said("theirs", order), "{order:?}");
        }
    }
    // Metrics and instances that are not there, each with the line that tells of it.
    let config = scratch.write(
        "config",
        "nosuch\nnosuch2\n\nnosuch3 [\"a\",\n\"b\"]\npmcd.pmlogger.host [ \"zz\", 5 ]\nsample.bin\n",
    );
    let config = config.to_str().expect("a path in UTF-8");
    let none = scratch.write("none", "sample.many.int [ \"i-99\" ]\n");
    let none = none.to_str().expect("a path in UTF-8");
    let empty = scratch.write("empty", "sample.bin [ ]\n");
    let empty = empty.to_str().expect("a path in UTF-8");
    for config in [config, none, empty] {
        let said = |whose: &str| {
            let base = base(&format!("{whose}-of-{}", config.len()));
            let args = ["-c", config, "archives/mirage-1", &base];
            let outcome = match whose {
                "own" => ours("pmlogextract", &args),
                _ => debian("pmlogextract", &args),
            };
            (outcome.status, outcome.stderr.replace(&base, "BASE"))
        };
        assert_eq!(said("own"), said("theirs"), "{config}");
    }
}

/// Rules that are wrong, or mean nothing, have Debian's words; those that change something are summed up as by Debian's.
#[test]
fn rules_are_refused_and_summed_up_as_by_debian_s_pmlogrewrite() {
    let scratch = Scratch::new("pcp-rewrite-words");
    let written = scratch.path("written").display().to_string();
    let cases: [(&str, &[&str]); 2] = [
        (
            "archives/src-rattle",
            &[
                "metric event.flags { sem -> counter }",
                "metric event.missed { sem -> counter type -> 64 units -> 0,1,0,0,SEC,0 }",
                "metric event.missed { pmid -> 1.2.3 name -> a.b }",
                "metric event.flags { type -> U32 }",
                "metric event.flags { indom -> 60.3 }",
                "metric event.flags { delete }\nmetric event.flags { sem -> instant }",
                "text metric event.missed { delete }",
                "indom { }",
                "indom foo { }",
                "indom 1.2.3 { }",
                "indom 511.1 { }",
                "indom 510.1 { }",
                "indom 1.5 { indom -> 511.1 }",
                "indom 1.5 { indom -> }",
                "indom 1.5 { indom 1.6 }",
                "indom 1.5 { indom }",
                "indom 1.5 { indom -> null }",
                "indom 1.5 { inst }",
                "indom 1.5 { inst 15 }",
                "indom 1.5 { inst 15 -> }",
                "indom 1.5 { inst 15 -> foo }",
                "indom 1.5 { inst 15 -> \"foo\" }",
                "indom 1.5 { inst foo -> 3 }",
                "indom 1.5 { inst -1 -> 3 }",
                "indom 1.5 { inst 1 -> -3 }",
                "indom 1.5 { iname }",
                "indom 1.5 { iname foo }",
                "indom 1.5 { iname 15 -> \"x\" }",
                "indom 1.5 { iname \"15\" -> x }",
                "indom 1.5 { iname \"15\" -> 3 }",
                "indom 1.5 { iname \"15\" - }",
                "indom 1.5 { foo }",
                "indom 1.5 { indom -> duplicate }",
                "indom 1.5 { indom -> duplicate 1.2.3 }",
                "indom 1.5",
                "indom 1.5 foo",
                "global",
                "global foo",
                "global { }",
                "global { foo }",
                "global { hostname }",
                "global { hostname -> }",
                "global { hostname -> \"x\" }",
                "global { tz -> x }",
                "global { tz -> }",
                "global { tz }",
                "global { time }",
                "global { time -> }",
                "global { time -> x }",
                "global { time -> \"x\" }",
                "global { time -> 1:2:3:4 }",
                "global { time -> + }",
                "global { features -> 1 }",
                "global { zoneinfo -> \"x\" }",
                "metric { }",
                "metric foo { }",
                "metric 1.2 { }",
                "metric 511.1.1 { }",
                "metric 512.1.1 { }",
                "metric 1.4096.1 { }",
                "metric 1.1.1024 { }",
                "metric 1.*.* { }",
                "metric 1.*.3 { }",
                "metric *.*.* { }",
                "metric \"hinv.ndisk\" { }",
                "metric hinv.ndisk",
                "metric hinv.ndisk { foo }",
                "metric hinv.ndisk { name }",
                "metric hinv.ndisk { name -> }",
                "metric hinv.ndisk { name -> \"a.b\" }",
                "metric hinv.ndisk { name -> a..b }",
                "metric hinv.ndisk { name -> a.*.b }",
                "metric hinv.ndisk { name -> * }",
                "metric hinv.ndisk { name -> 3.4 }",
                "metric hinv.ndisk { name a.b }",
                "metric hinv.ndisk { pmid }",
                "metric hinv.ndisk { pmid -> }",
                "metric hinv.ndisk { pmid -> foo }",
                "metric hinv.ndisk { pmid -> 1.2 }",
                "metric hinv.ndisk { pmid -> 512.2.3 }",
                "metric hinv.ndisk { pmid -> 511.2.3 }",
                "metric hinv.ndisk { pmid -> 1.4096.3 }",
                "metric hinv.ndisk { pmid -> 1.2.1024 }",
                "metric hinv.ndisk { pmid -> *.2.3 }",
                "metric hinv.ndisk { type }",
                "metric hinv.ndisk { type -> }",
                "metric hinv.ndisk { type -> foo }",
                "metric hinv.ndisk { type -> string }",
                "metric hinv.ndisk { type -> PM_TYPE_U32 }",
                "metric hinv.ndisk { type if -> 32 }",
                "metric hinv.ndisk { type if foo -> 32 }",
                "metric hinv.ndisk { type if string -> 32 }",
                "metric hinv.ndisk { type if 32 U32 }",
                "metric hinv.ndisk { type 32 }",
                "metric hinv.ndisk { sem }",
                "metric hinv.ndisk { sem -> }",
                "metric hinv.ndisk { sem -> foo }",
                "metric hinv.ndisk { sem counter }",
                "metric hinv.ndisk { units }",
                "metric hinv.ndisk { units -> }",
                "metric hinv.ndisk { units -> foo }",
                "metric hinv.ndisk { units -> 1 }",
                "metric hinv.ndisk { units -> 1,2 }",
                "metric hinv.ndisk { units -> 1,2,3 }",
                "metric hinv.ndisk { units -> 1,2,3,4,5,6,7 }",
                "metric hinv.ndisk { units -> 1,0,0,BYTE,foo,0 }",
                "metric hinv.ndisk { units -> 1,0,0,foo,0,0 }",
                "metric hinv.ndisk { units -> 1,0,0,BYTE,0,foo }",
                "metric hinv.ndisk { units -> 1,0,0,BYTE,0,0 rescale }",
                "metric hinv.ndisk { units -> 1,0,0,0,0,0 foo }",
                "metric hinv.ndisk { indom }",
                "metric hinv.ndisk { indom -> }",
                "metric hinv.ndisk { indom -> foo }",
                "metric hinv.ndisk { indom -> 1.2.3 }",
                "metric hinv.ndisk { indom -> 512.2 }",
                "metric hinv.ndisk { indom -> 1.* }",
                "metric hinv.ndisk { indom -> 1.5 output }",
                "metric hinv.ndisk { indom -> 1.5 output foo }",
                "metric hinv.ndisk { indom -> 1.5 output inst }",
                "metric hinv.ndisk { indom -> 1.5 output inst x }",
                "metric hinv.ndisk { indom -> 1.5 output iname 3 }",
                "metric hinv.ndisk { delete foo }",
                "metric irix.kernel.all.load { indom -> NULL output }",
                "metric irix.kernel.all.load { indom -> NULL output foo }",
                "metric irix.kernel.all.load { indom -> NULL }",
                "foo",
                "{ }",
                "metric hinv.ndisk { } }",
                "global { time -> 1 } global { time -> 2 }",
                "metric 99.*.* { }",
                "metric 42.1.1 { }",
                "metric 42.1.* { }",
                "metric hinv.ndisk { name -> name }",
                "metric hinv.ndisk { name -> type }",
                "metric hinv.ndisk { name -> sem }",
                "metric hinv.ndisk { name -> delete }",
                "metric hinv.ndisk { name -> inst }",
                "metric hinv.ndisk { name -> iname }",
                "metric hinv.ndisk { name -> duplicate }",
                "metric hinv.ndisk { name -> output }",
                "metric hinv.ndisk { name -> global }",
                "metric hinv.ndisk { name -> time }",
                "metric hinv.ndisk { name -> tz }",
                "metric hinv.ndisk { name -> counter }",
                "metric hinv.ndisk { name -> null }",
                "metric hinv.ndisk { name -> rescale }",
                "metric hinv.ndisk { name -> if }",
                "metric hinv.ndisk { name -> metric }",
                "metric hinv.ndisk { name -> byte }",
                "metric hinv.ndisk { name -> first }",
                "metric hinv.ndisk { name -> text }",
                "metric hinv.ndisk { name -> label }",
                "metric hinv.ndisk { name -> features }",
                "metric name { }",
                "metric pmid { }",
                "metric units { }",
                "metric hinv.ndisk { sem -> delete }",
                "metric hinv.ndisk { sem -> 3 }",
                "metric hinv.ndisk { type -> 33 }",
                "metric hinv.ndisk { name -> hinv.ncpu }",
                "metric 1.26.7 { name -> hinv.ncpu }",
                "metric hinv.ndisk { indom -> 1.5 }",
                "metric hinv.ndisk { indom -> 1.5 output first }",
                "metric irix.kernel.all.load { indom -> null output first }",
                "metric irix.kernel.all.load { indom -> 1.9 }",
                "metric irix.kernel.all.load { indom -> null output inst 15 }",
                "metric irix.kernel.all.load { indom -> null output iname \"15\" }",
                "metric hinv.ndisk { indom -> 1.5 output inst 15 }",
                "metric hinv.ndisk { indom -> 1.5 output iname \"15\" }",
                "metric hinv.ndisk { indom -> 1.5 output last }",
                "metric irix.kernel.all.load { indom -> null output last }",
                "metric irix.kernel.all.load { sem -> instant }",
                "metric irix.kernel.all.load { sem -> instant type -> double }",
                "metric hinv.ncpu { units -> 1,0,0,KBYTE,0,0 }",
                "metric hinv.ndisk { units -> 0,0,0,0,0,0 rescale }",
                "global { tz -> \"x\" tz -> \"y\" }",
                "global { time -> 1 time -> 2 }",
                "global { time -> 1 hostname -> x time -> 2\n }",
                "global { time -> 1:2 time -> 1:2:3\n\n }",
                "global { hostname -> a hostname -> }",
                "global { features -> 1 features -> 2 }",
            ],
        ),
        (
            "archives/sample-labels",
            &[
                "label domain 77 { new \"x\" 5 }",
                "label indom 29.77 { new \"x\" 5 }",
                "label instances 29.77 { new \"x\" 5 }",
                "label item no.such { new \"x\" 5 }",
                "text metric hinv.ndisk { }",
                "text metric hinv.ndisk",
                "text { }",
                "text foo { }",
                "text metric { }",
                "text metric nosuch { }",
                "text metric nosuch { delete }",
                "text metric 1.2.3 { delete }",
                "text metric 1.26.* { delete }",
                "text metric 1.26.7 { foo }",
                "text metric hinv.ncpu oneline { delete }",
                "text metric hinv.ncpu help { delete }",
                "text metric hinv.ncpu foo { delete }",
                "text metric hinv.ncpu oneline \"x\" { delete }",
                "text metric hinv.ncpu oneline { text -> \"x\" }",
                "text metric hinv.ncpu oneline { text -> x }",
                "text metric hinv.ncpu oneline { text \"x\" }",
                "text metric hinv.ncpu oneline { text -> }",
                "text metric hinv.ncpu oneline { metric -> hinv.ndisk }",
                "text metric hinv.ncpu oneline { metric -> 1.2.3 }",
                "text metric hinv.ncpu oneline { metric -> 1.2 }",
                "text metric hinv.ncpu oneline { metric -> }",
                "text metric hinv.ncpu oneline { indom -> 1.2 }",
                "text metric hinv.ncpu oneline { delete text -> \"x\" }",
                "text metric hinv.ncpu oneline { text -> \"x\" delete }",
                "text metric hinv.ncpu oneline { text -> \"x\" text -> \"y\" }",
                "text indom 60.1 { delete }",
                "text indom 60.* { delete }",
                "text indom 1.2.3 { delete }",
                "text indom foo { delete }",
                "text indom 512.1 { delete }",
                "text indom { delete }",
                "text indom 60.1 { indom -> 60.3 }",
                "text indom 60.1 { indom -> }",
                "text indom 60.1 { indom -> 1.2.3 }",
                "text indom 60.1 { metric -> 1.2.3 }",
                "label { }",
                "label foo { }",
                "label context { }",
                "label context",
                "label context { delete }",
                "label context { foo }",
                "label context \"hostname\" { delete }",
                "label context \"nosuch\" { delete }",
                "label context \"hostname\" \"x\" { delete }",
                "label context hostname { delete }",
                "label context { label -> \"x\" }",
                "label context \"hostname\" { label -> \"x\" }",
                "label context \"hostname\" { label -> x }",
                "label context \"hostname\" { label -> }",
                "label context \"hostname\" { label \"x\" }",
                "label context \"hostname\" { value -> \"x\" }",
                "label context \"hostname\" { value -> 3 }",
                "label context \"hostname\" { value -> }",
                "label context \"hostname\" { value -> true }",
                "label context \"hostname\" { new \"a\" \"b\" }",
                "label context { new \"a\" \"b\" }",
                "label context { new \"a\" 3 }",
                "label context { new \"a\" }",
                "label context { new }",
                "label context { new a \"b\" }",
                "label domain { delete }",
                "label domain 60 { delete }",
                "label domain 512 { delete }",
                "label domain foo { delete }",
                "label domain 60 { domain -> 61 }",
                "label domain 60 { domain -> 512 }",
                "label domain 60 { domain -> }",
                "label cluster { delete }",
                "label cluster 60.1 { delete }",
                "label cluster 60.* { delete }",
                "label cluster 60.1.2 { delete }",
                "label cluster 60.4096 { delete }",
                "label cluster 60.1 { cluster -> 60.2 }",
                "label cluster 60.1 { cluster -> foo }",
                "label indom { delete }",
                "label indom 60.1 { delete }",
                "label indom foo { delete }",
                "label indom 60.1 { indom -> 60.2 }",
                "label indom 60.1 { indom -> foo }",
                "label item { delete }",
                "label item 60.1.2 { delete }",
                "label item foo { delete }",
                "label item hinv.ncpu { delete }",
                "label item 60.1.1024 { delete }",
                "label item 60.1.2 { item -> 60.1.3 }",
                "label item 60.1.2 { item -> foo }",
                "label instances { delete }",
                "label instances 60.1 { delete }",
                "label instances 60.1 1 { delete }",
                "label instances 60.1 \"x\" { delete }",
                "label instances 60.1 foo { delete }",
            ],
        ),
    ];
    for (archive, rules) in cases {
        for rule in rules {
            let config = scratch.write("rules", &format!("{rule}\n"));
            let config = config.to_str().expect("a path in UTF-8");
            let args = ["-w", "-C", "-c", config, archive, &written];
            let (own, theirs) = (ours("pmlogrewrite", &args), debian("pmlogrewrite", &args));
            assert_eq!(own.stderr, theirs.stderr, "{rule}");
            assert_eq!(own.stdout, theirs.stdout, "{rule}");
            assert_eq!(own.status, theirs.status, "{rule}");
        }
    }
}
