//! `spile pmtop`: on a terminal, as plain text and as JSON, from a daemon and from an archive.

use std::process::Command;

use spile_tests::pcp_peer::Pmcd;
use spile_tests::terminal::Terminal;
use spile_tests::{Scratch, run, spile_path};

/// The names that PCP gives to the agent simple.
const SIMPLE: &str = "\
root { simple }
simple { numfetch 253:0:0  color 253:0:1  now 253:2:4  time }
simple.time { user 253:1:2  sys 253:1:3 }
";

fn pmcd(name: &str) -> Pmcd {
    let config = format!(
        "simple 253 pipe binary {} pmdasimple -d 253\n",
        spile_path().display()
    );
    let mut command = Command::new(spile_path());
    command.arg("pmcd").env_remove("PCP_CONF");
    Pmcd::start(Scratch::new(name), command, &config, SIMPLE)
}

fn pmtop(pmcd: &Pmcd, args: &[&str]) -> String {
    let mut command = Command::new(spile_path());
    command.args(["pmtop", "-h", &pmcd.host(), "-t", "20msec"]);
    command.args(args);
    run(command).ok().stdout
}

/// Each fetch adds one to each colour, which begin with 0, 100 and 200; instances and their values are told by name.
#[test]
fn samples_are_plain_text_or_json() {
    let pmcd = pmcd("pmtop-forms");
    let text = pmtop(&pmcd, &["-s", "2", "simple.color"]);
    let values: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    assert_eq!(
        values,
        [
            ("simple.color[red]", "1"),
            ("simple.color[green]", "101"),
            ("simple.color[blue]", "201"),
            ("simple.color[red]", "2"),
            ("simple.color[green]", "102"),
            ("simple.color[blue]", "202"),
        ]
    );
    let json = pmtop(
        &pmcd,
        &["-s", "1", "--json", "simple.color[green]", "simple.time"],
    );
    let sample: serde_json::Value = serde_json::from_str(&json).expect("one object");
    let green = &sample["values"][0];
    assert_eq!(
        (&green["metric"], &green["instance"]),
        (&"simple.color".into(), &"green".into())
    );
    assert!((103.0..=104.0).contains(&green["value"].as_f64().expect("a number")));
    // Processor time per time is a share, of which the agent has hardly any.
    let time = &sample["values"][1];
    assert_eq!(
        (&time["metric"], &time["units"]),
        (&"simple.time.user".into(), &"%".into())
    );
    assert!((0.0..100.0).contains(&time["value"].as_f64().expect("a number")));
    let mut command = Command::new(spile_path());
    command.args(["pmtop", "-h", &pmcd.host(), "no.such"]);
    let refused = run(command);
    assert_eq!(refused.status, Some(1));
    assert_eq!(refused.stderr, "pmtop: no.such: Unknown metric name\n");
}

#[test]
fn a_terminal_shows_values_live_until_q() {
    let pmcd = pmcd("pmtop-terminal");
    let spile = spile_path();
    let show = |environment: &str, command: &str| {
        let command = format!(
            "{environment} LC_ALL=C.UTF-8 {} pmtop -h {} -t 50msec {command}",
            spile.display(),
            pmcd.host()
        );
        Terminal::start(&command, &pmcd.scratch.path(""))
    };
    let mut terminal = show("", "simple.numfetch simple.color");
    // Its own page, a heading that stands out, and a line that grows.
    terminal.expect("\x1b[?1049h");
    terminal.expect("\x1b[1mpmtop - ");
    terminal.expect("simple.numfetch");
    terminal.expect("████");
    terminal.type_in(" ");
    terminal.expect("- paused");
    terminal.type_in("q");
    terminal.expect("\x1b[?1049l");
    let status = terminal.child.wait().expect("its end");
    assert!(status.success(), "{status}");
    let mut plain = show("NO_COLOR=1", "simple.color");
    plain.expect("\x1b[Hpmtop - ");
    plain.type_in("\u{3}");
    plain.expect("\x1b[?1049l");
}
