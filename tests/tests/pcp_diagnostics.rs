//! Diagnostics (`-D`) beside those of Debian's library, and expressions that are too long for most.

mod pcp_suite;

use std::process::Command;

use pcp_suite::{debian, ours, peer};
use spile_tests::pcp_peer::{self, Pmcd};
use spile_tests::{Outcome, Scratch, run, spile_path};

const NAMES: &str =
    "root { pmcd }\npmcd { numagents 2:0:0 control }\npmcd.control { register 2:0:8 }\n";

/// What differs from run to run: processes, times, addresses, and how often PCP's library looks up its context.
fn comparable(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    let mut hidden = false;
    for line in outcome.stderr.lines() {
        let is_words = line.get(..5).is_some_and(|start| {
            start.ends_with(": ") && start.bytes().take(3).all(|b| b.is_ascii_digit())
        });
        if line.starts_with("pmWhichContext") || line.starts_with("pmDestroyContext") {
            continue;
        }
        if is_words {
            if !hidden {
                lines.push(line.to_owned());
            }
            continue;
        }
        hidden = line.contains("CREDS") || line.contains("HIGHRES_RESULT");
        // Ours asks for all descriptors at once.
        if line.contains("PDU: DESC") {
            hidden = true;
            continue;
        }
        let line = match (line.starts_with('['), line.split_once(']')) {
            (true, Some((_, rest))) => rest,
            _ => line,
        };
        let line = match line.split_once("dump from ") {
            Some((start, _)) => start,
            None => line,
        };
        lines.push(line.to_owned());
    }
    lines
}

#[test]
fn what_goes_to_and_from_a_host_is_traced_as_by_pcp() {
    let mut daemon = Command::new(spile_path());
    daemon.arg("pmcd").env_remove("PCP_CONF");
    let agents = "pmcd 2 dso pmcd_init /pmda_pmcd.so\n";
    let pmcd = Pmcd::start(Scratch::new("pcp-diagnostics"), daemon, agents, NAMES);
    let host = pmcd.host();
    for what in ["pdu,context,profile,fetch", "profile", "context"] {
        let args = [
            "-D",
            what,
            "-h",
            &host,
            "-fd",
            "pmcd.numagents",
            "pmcd.control",
        ];
        let mut command = pcp_peer::program(peer(), "pminfo");
        command.args(args).env("PCP_DERIVED_CONFIG", "");
        let theirs = run(command);
        let mut command = Command::new(spile_path());
        command.arg("pminfo").args(args).env("TZ", "UTC");
        command.env("PCP_DERIVED_CONFIG", "");
        let own = run(command);
        assert!(comparable(&theirs).len() > 1, "{what}: {}", theirs.stderr);
        assert_eq!(comparable(&own), comparable(&theirs), "{what}");
    }
}

#[test]
fn messages_are_counted_as_by_pcp() {
    let mut daemon = Command::new(spile_path());
    daemon.arg("pmcd").env_remove("PCP_CONF");
    let agents = "pmcd 2 dso pmcd_init /pmda_pmcd.so\n";
    let pmcd = Pmcd::start(Scratch::new("pcp-counted"), daemon, agents, NAMES);
    let host = pmcd.host();
    let names = ["pmcd.numagents", "pmcd.agent.status", "pmcd.no_such"];
    for options in ["", "-v", "-i", "-I", "-f", "-fv", "-fi", "-fI"] {
        for batch in ["1", "100"] {
            let ask = |mut command: Command| {
                command.args(["-V", "-b", batch, "-h", &host]);
                command.args(Some(options).filter(|o| !o.is_empty()));
                command.args(names).env("PCP_DERIVED_CONFIG", "");
                run(command)
            };
            let theirs = ask(pcp_peer::program(peer(), "pmprobe"));
            let mut own = Command::new(spile_path());
            own.arg("pmprobe");
            let own = ask(own);
            assert!(theirs.stdout.contains("PDUs send"), "{}", theirs.stdout);
            assert_eq!(own.stdout, theirs.stdout, "{options} -b {batch}");
        }
    }
}

#[test]
fn how_an_archive_is_read_is_traced_as_by_pcp() {
    // Descriptors have other numbers: files are not kept open.
    let without_numbers = |outcome: &Outcome| -> Vec<String> {
        let lines = outcome.stderr.lines().map(|line| {
            let mut words = line.split(' ').map(|word| match word.starts_with("fd=") {
                true => "fd",
                false => word,
            });
            let mut text = words.next().unwrap_or_default().to_owned();
            for word in words {
                text.push(' ');
                text.push_str(word);
            }
            text
        });
        lines.collect()
    };
    for args in [
        &["-Dlog", "archives/ok-foo"][..],
        &["-Dlog", "-l", "archives/ok-foo"],
        &["-Dlog", "archives/20180415.09.16"],
        &["-Dlog", "-l", "badarchives/badlen-5"],
        &["-Dlog", "-l", "badarchives/badlen-6"],
        &["-Dlog", "-l", "badarchives/badlen-7"],
        &["-Dlog", "-l", "badarchives/badlen-8"],
        &["-Dlog", "badarchives/badlen-1"],
    ] {
        let theirs = without_numbers(&debian("pmdumplog", args));
        assert!(theirs.len() > 3, "{args:?}: {theirs:?}");
        assert_eq!(
            without_numbers(&ours("pmdumplog", args)),
            theirs,
            "{args:?}"
        );
    }
}

#[test]
fn a_hundred_thousand_operands_are_added_up() {
    let scratch = Scratch::new("pmie-long");
    let operands = vec!["sample.bin #'bin-100'"; 100_000];
    let text = format!("sum = {};\n", operands.join(" + "));
    let config = scratch.write("long", &text);
    let config = config.to_str().expect("a path");
    let archive = ["-a", "archives/foo+", "-t", "1sec", "-T", "3sec"];
    let summed = ours("pmie", &[&["-v", "-c", config], &archive[..]].concat()).ok();
    assert!(summed.stdout.contains("): 10000000\n"), "{}", summed.stdout);
    let operands = vec!["1"; 300_000];
    let text = format!("sum = {};\n", operands.join(" + "));
    let config = scratch.write("longer", &text);
    let config = config.to_str().expect("a path");
    let refused = ours("pmie", &[&["-v", "-c", config], &archive[..]].concat());
    let said = "expression has more than 200000 operands";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
}
