//! The archive tools beside Debian's own, with options and windows of time that other tests do not have.

mod pcp_suite;

use std::process::Command;

use pcp_suite::{debian, in_suite, ours, peer, same, same_words};
use spile_tests::{Scratch, spile_path};

/// Averages of archives with marks, wrong byte order, counters that go back, values of which the averages show each bit,
/// and values that are no numbers.
#[test]
fn averages_are_equal_to_the_last_digit() {
    for archive in [
        "babylon.pmview_v2",
        "chartqa1",
        "coverage",
        "kenj-pc-2",
        "reduce-2",
        "value-test",
        "20201109",
        "pcp-tapestat-archive",
    ] {
        same("pmlogsummary", &[&format!("archives/{archive}")]);
    }
    same_words("pmlogsummary", &["archives/rep", "no.such.metric"]);
}

/// Times in words: days and hours without colons, distances from the window's start or end.
#[test]
fn times_in_words_are_the_library_s() {
    for time in [
        "@+1 hour",
        "@-1 hour",
        "@next hour",
        "@last hour",
        "@9 10",
        "@24 2007",
        "@2007",
        "@22:",
        "@Mar 9 10",
        "@9 1:2:3",
        "@+1s",
        "@10:70",
        "@12:30:99",
        "@+12",
        "@ foo",
        "@Mon foo",
        // The sign of what is refused is refused with it; years begin with 1900.
        "@+55",
        "@1566",
        "@Jan 1899",
        "@this hour",
        "@- 5 sec",
        "@2 hour -5min",
        "@ -1 min",
        "@5 min, 3 sec",
    ] {
        for option in ["-S", "-T"] {
            let args = [option, time, "-s", "1", "-t", "1", "-a"];
            let metric = ["archives/conn20070309", "aconex.connections.inuse"];
            same_words("pmval", &[&args[..], &metric].concat());
        }
    }
}

/// The environment says what options do not, to the tools that take their archive as a word, too: pcp(1) hands its own on so.
#[test]
fn the_environment_stands_in_for_options() {
    for (name, value, tool, args) in [
        ("PCP_ARCHIVE", "archives/pcpcmd", "pmdumplog", "-Lz"),
        (
            "PCP_ARCHIVE",
            "archives/pcpcmd",
            "pmdumplog",
            "-m hinv.ncpu",
        ),
        (
            "PCP_ARCHIVE",
            "archives/pcpcmd",
            "pmdumplog",
            "archives/iopct",
        ),
        ("PCP_START_TIME", "+5", "pmdumplog", "archives/pcp-uptime"),
        (
            "PCP_TIMEZONE",
            "Asia/Tokyo",
            "pmdumplog",
            "-L archives/pcp-uptime",
        ),
        (
            "PCP_HOSTZONE",
            "true",
            "pmdumplog",
            "-L archives/pcp-uptime",
        ),
        (
            "PCP_ARCHIVE",
            "archives/pcpcmd",
            "pmlogsummary",
            "hinv.ncpu",
        ),
        (
            "PCP_FINISH_TIME",
            "+5",
            "pmlogsummary",
            "archives/pcp-uptime",
        ),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let mut own = Command::new(spile_path());
        own.arg(tool).env(name, value);
        let mut theirs = Command::new(peer().join("usr/bin").join(tool));
        theirs.env(name, value);
        let (own, theirs) = (in_suite(own, &args), in_suite(theirs, &args));
        assert_eq!(own.stdout, theirs.stdout, "{name}={value} {tool} {args:?}");
        assert_eq!(own.stderr, theirs.stderr, "{name}={value} {tool} {args:?}");
        assert_eq!(own.status, theirs.status, "{name}={value} {tool} {args:?}");
    }
}

/// What differed when the manual pages' options were tried on archives at random.
#[test]
fn options_do_what_they_do_elsewhere() {
    for (tool, args) in [
        // A step over a mark ends the search for counters alone.
        (
            "pmval",
            "-S @14:43:34 -s 3 -t 70min -a archives/bug-1044 kernel.all.nprocs",
        ),
        (
            "pmval",
            "-i bin-100 -t 1 -s 2 -a archives/ok-foo sample.bin[bin-200]",
        ),
        ("pmval", "-f 8 -w 3 -t 1 -a archives/ok-foo sample.bin"),
        // The index has its last entry behind all records, or before the last.
        ("pminfo", "-f -O -0 -a archives/tzchange-12-a sample.drift"),
        (
            "pminfo",
            "-f -O -0 -a archives/pcp-uptime kernel.all.uptime",
        ),
        // Instances that are in no domain.
        (
            "pminfo",
            "-F -a archives/pcp-pidstat_missing_one_metric proc.psinfo.cmd",
        ),
        (
            "pminfo",
            "-f -O 0 -a archives/pcp-pidstat_missing_one_metric proc.psinfo.cmd",
        ),
        ("pminfo", "-l -s -a archives/mirage-3 sample.mirage"),
        ("pminfo", "-s -a archives/mirage-3 sample.mirage"),
        (
            "pminfo",
            "-l -O -6sec -a archives/omnibus_v2 sample.write_me",
        ),
        ("pminfo", "-M -t -a archives/daily_report kernel.all.cpu"),
        (
            "pminfo",
            "-f -Z EST5EDT -a archives/foo+ sampledso.event.records",
        ),
        (
            "pmevent",
            "-X -s 5 -a archives/eventrec-old sample.event.records",
        ),
        (
            "pmevent",
            "-f 1 -s 5 -a archives/eventrec-old sample.event.records",
        ),
        (
            "pmevent",
            "-O -0 -a archives/eventrec-old sample.event.records",
        ),
        ("pmdumplog", "-I -i archives/pcp-uptime"),
        ("pmdumplog", "-r -T 3 archives/pcp-uptime"),
        ("pmdumplog", "-i archives/pcp-uptime event.missed"),
        // With each `-x` more is told of times, but of those in messages; column heads stand over their columns.
        ("pmdumplog", "-xx -i -I -t archives/pmatop-log"),
        ("pmdumplog", "-xxx -i -t archives/omnibus_v3"),
        ("pmdumplog", "-xxx -m archives/eventrec"),
        ("pmdumplog", "-xx -t badarchives/badti-2"),
        ("pmdumplog", "-m -s archives/iopct disk.dm event.missed"),
        ("pmdumplog", "-r -m -T @2015-06-02 archives/procpid-encode2"),
        ("pmlogcheck", "-v -S 3 archives/schizo-A"),
        ("pmdumplog", "-I archives/omnibus-nomark_v3"),
        // As they were recorded, all instances count, and derived metrics are in no record.
        ("pmval", "-U archives/mirage-3 -i m-14 sample.mirage"),
        ("pmval", "-U archives/573184 event.flags"),
        (
            "pmevent",
            "-a archives/omnibus_v3 sampledso.event.highres_records",
        ),
        (
            "pmevent",
            "-X -a archives/omnibus_v3 sampledso.event.highres_records",
        ),
        // Buffers have another name elsewhere; what is not there counts as no time of a processor.
        ("pmstat", "-x -T -7 -t 1 -s 13 -a archives/all-irix-6.5.25"),
        ("pmstat", "-x -t 3 -s 4 -a archives/ac15"),
        ("pmstat", "-T @+1 -t 1 -s 2 -a archives/viewqa1"),
        ("pmstat", "-t 200min -s 4 -a archives/kenj-pc-1"),
        (
            "pmstat",
            "-t 1 -s 2 -a archives/bozo.client_v2 -a archives/pcp-atop",
        ),
        ("pmstat", "-z -t 5 -s 15 -a archives/naslog"),
        // Beside a sum all is in the metric's own units; what has too few values is partly covered, too.
        (
            "pmlogsummary",
            "-S +2 -s -M archives/ok-bigbin sampledso.milliseconds",
        ),
        (
            "pmlogsummary",
            "-S +2 -B 2 -s archives/ok-bigbin sampledso.milliseconds",
        ),
        (
            "pmlogsummary",
            "-F -i -l -s -y archives/20101004-trunc dmf2.daemon.bytes.all.All_requests",
        ),
        (
            "pmlogsummary",
            "archives/ok-foo event.flags event.missed sample.drift",
        ),
    ] {
        same_words(tool, &args.split(' ').collect::<Vec<_>>());
    }
}

/// The row of norms has the width and the digits of the values, and mistakes of several kinds are all told. Debian's pmdumptext
/// with these arguments printed this.
#[test]
fn norms_stand_as_values_do() {
    let metric = ["-a", "archives/pcp-uptime", "kernel.all.nusers"];
    let run = |args: &str| {
        let args: Vec<&str> = args.split(' ').chain(metric).collect();
        ours("pmdumptext", &args)
    };
    assert_eq!(
        run("-G -X -N -s 2 -t 1").ok().stdout,
        "[ 1] kernel.all.nusers\n\n             Column\t     1\n             Normal\t     0\n\
         Fri Apr  4 00:36:51\t10.00 \nFri Apr  4 00:36:52\t10.00 \n"
    );
    assert_eq!(
        run("-F -N -u -w 20 -s 2 -t 1").ok().stdout,
        "?\t               0.00 \nnone\tnone\nFri Apr  4 00:36:51\t10.00 \nFri Apr  4 00:36:52\t10.00 \n"
    );
    let said = run("-F -G -w 1").stderr;
    let said: Vec<&str> = said.lines().take(2).collect();
    assert_eq!(
        said,
        [
            "pmdumptext: -F and -G may not be used together",
            "pmdumptext: -w must be greater than 2"
        ]
    );
}

/// `pmlogextract` reckons times from the archive that it was given first; in version 3 it writes what changed in domains.
#[test]
fn extracts_begin_where_the_first_archive_says() {
    let scratch = Scratch::new("extracts");
    let (one, other) = ("archives/section-b", "archives/section-d");
    for (number, args) in [
        &["-x", "-S", "+10", one, other][..],
        &["-x", "-S", "+10", other, one],
        &["-x", "-T", "+10", other, one],
        &["-x", "-S", "-75", other, one],
        &["-V", "3", "archives/pcp-tapestat-archive"],
    ]
    .into_iter()
    .enumerate()
    {
        let [theirs, own] = ["theirs", "ours"].map(|whose| {
            let path = scratch.path(&format!("{whose}{number}"));
            path.display().to_string()
        });
        debian("pmlogextract", &[args, &[&theirs]].concat());
        ours("pmlogextract", &[args, &[&own]].concat());
        let shown = |path: &str, option: &str| debian("pmdumplog", &[option, path]).stdout;
        for option in ["-i", "-t", "-m"] {
            assert_eq!(
                shown(&own, option),
                shown(&theirs, option),
                "{args:?} {option}"
            );
        }
    }
}
