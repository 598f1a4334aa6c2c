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
