//! pmrep on archives beside Debian's.

mod pcp_suite;

use std::process::Command;

use pcp_suite::{debian, in_suite, ours, peer};
use spile_tests::{Outcome, Scratch};

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
        &["disk.dev.read", "no.such"],
    ] {
        same_report(&[&ranks[..], args].concat());
    }
}

/// Labels in columns of their own: nothing in them ends a column, and there are none ahead of the first that were recorded.
#[test]
fn labels_stand_in_columns() {
    for (archive, args) in [
        ("archives/mirage-3", "-s 3 pmcd.pmlogger.host pmcd.pid"),
        ("archives/mirage-3", "-S 1 -s 3 pmcd.pmlogger.host pmcd.pid"),
        ("archives/mirage-3", "-S 1 -s 3 -l : pmcd.pid"),
        ("archives/mirage-3", "-s 3 -l - pmcd.pmlogger.host"),
        ("archives/ok-foo", "-s 2 sample.bin"),
        ("archives/omnibus_v2", "-s 1 sample.colour"),
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        same_report(&[&["-a", archive, "-m", "-o", "csv"][..], &args].concat());
    }
}

/// Instances that are chosen stand in the order of the patterns, and have to be there at the end of the archive; of others
/// those are shown that have a name at the time. Zones are told as Python knows them.
#[test]
fn instances_come_and_go_as_in_fetch_groups() {
    for args in [
        "-a archives/mirage-3 -t 6.667sec -s 4 sample.mirage",
        "-a archives/mirage-3 -t 1sec -s 20 -J 2 sample.mirage",
        "-a archives/mirage-3 -u -s 20 -J 2 -i m-0. sample.mirage",
        "-a archives/mirage-3 -t 3 -s 3 -i m-14,m-00 -o csv sample.mirage",
        "-a archives/mirage-3 -t 3 -s 3 -i m-14,m-1.,m-14 sample.mirage",
        "-a archives/mirage-3 -t 3 -s 3 -i m-1[0-3] sample.mirage pmcd.pid",
        "-a archives/mirage-3 -t 3 -s 3 -i m-1[0-3] sample.mirage",
        "-a archives/mirage-3 -t 3 -s 3 -i m-1[0-3] -j sample.mirage",
        "-z -s 1 -x -a archives/moomba.pmkstat irix.swap.pagesout",
        "-z -s 1 -x -a archives/arch_a event.missed",
        // A damaged record ahead of the end of several archives.
        "-s 10000 -z -a archives/multi-corrupted -t 10m -pf%c kernel.percpu.cpu.user",
        "-s 1 -a archives/eventrec sampledso.event.no_indom_records no.such",
        "-Z America/New_York -s 1 -x -a archives/rep kernel.all.load",
    ] {
        same_report(&args.split(' ').collect::<Vec<_>>());
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

/// Reports as lines of JSON have the values of Debian's reports; a damaged archive's findings are lines, too.
#[test]
fn reports_as_json_have_the_same_values() {
    let lines = |tool: &str, args: &[&str]| -> Vec<serde_json::Value> {
        let said = ours(tool, args).stdout;
        let line = |line| serde_json::from_str(line).expect("a line of JSON");
        said.lines().map(line).collect()
    };
    let args = ["-a", "archives/ok-foo", "-t", "1sec", "-s", "3"];
    let metrics = ["sample.colour", "sample.seconds"];
    let csv = debian_pmrep(&[&["-o", "csv"], &args[..], &metrics].concat()).stdout;
    let theirs: Vec<&str> = csv
        .lines()
        .skip(1)
        .flat_map(|row| row.split(',').skip(1))
        .filter(|cell| !cell.is_empty())
        .collect();
    let own = lines("pmrep", &[&["--json"], &args[..], &metrics].concat());
    let shown = |line: &serde_json::Value| match line["value"].as_i64() {
        Some(whole) => whole.to_string(),
        None => format!("{:.3}", line["value"].as_f64().expect("a number")),
    };
    assert_eq!(own.iter().map(shown).collect::<Vec<_>>(), theirs);
    assert_eq!(own[0]["metric"], "sample.colour");
    assert_eq!(own[0]["instance"], "red");

    let line = &debian(
        "pmstat",
        &["-a", "archives/babylon.percpu_v2", "-t", "1min", "-s", "1"],
    );
    let load = line
        .stdout
        .lines()
        .nth(3)
        .expect("a line")
        .split_whitespace();
    let load: f64 = load.take(1).collect::<String>().parse().expect("a load");
    let own = lines(
        "pmstat",
        &[
            "--json",
            "-a",
            "archives/babylon.percpu_v2",
            "-t",
            "1min",
            "-s",
            "1",
        ],
    );
    assert_eq!(own[0]["metric"], "kernel.all.load");
    let value = own[0]["value"].as_f64().expect("a number");
    assert!((value - load).abs() < 0.0051, "{value} {load}");
    let found = lines("pmlogcheck", &["--json", "badarchives/badlen-4"]);
    assert!(!found.is_empty());
    assert!(found.iter().all(|line| line["message"].is_string()));
}

/// Headings are bold where that is asked for, and nothing else is different.
#[test]
fn headings_are_bold_when_asked_for() {
    let source = ["-a", "archives/babylon.percpu_v2"];
    for (tool, args) in [
        ("pmrep", &["-s", "2", "kernel.all.load"][..]),
        ("pminfo", &["-f", "kernel.all.load"]),
        ("pmval", &["-s", "2", "kernel.all.load"]),
        ("pmstat", &["-s", "1", "-t", "1min"]),
        ("pmdumptext", &["-s", "2", "-m", "kernel.all.load"]),
    ] {
        let plain = ours(tool, &[&source[..], args].concat()).stdout;
        let bold = ours(tool, &[&["--color=always"], &source[..], args].concat()).stdout;
        assert!(bold.contains("\x1b[1m"), "{tool}: {bold}");
        let stripped = bold.replace("\x1b[1m", "").replace("\x1b[0m", "");
        assert_eq!(stripped, plain, "{tool}");
    }
}
