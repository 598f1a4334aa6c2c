//! `--monitor` on a terminal, by the keys of stap(1).

use spile_tests::terminal::Terminal;
use spile_tests::{Scratch, spile_path, stap};

#[test]
fn keys_control_the_script() {
    let scratch = Scratch::new("monitor");
    let script = scratch.write(
        "m.stp",
        r#"global ticks = 100, names
        probe timer.ms(20) { ticks++; names["tick"] <<< ticks }
        probe begin { println("begun") }
        probe end { println("ended with ", ticks >= 100 && ticks < 1000000) }"#,
    );
    let command = format!(
        "{} stap --monitor=1 {}",
        spile_path().display(),
        script.display()
    );
    let mut terminal = Terminal::start(&command, &scratch.path("."));
    terminal.expect("uptime: 00:00:");
    terminal.expect("ticks=1");
    terminal.expect("names[\"tick\"] @count=");
    terminal.expect("timer.ms(20)");
    terminal.expect("begun");
    // All off: the list says so, and the counter set back to its initial value stays there.
    terminal.type_in("p");
    terminal.expect("(paused)");
    terminal.expect("off");
    terminal.type_in("c");
    terminal.expect("ticks=100\u{1b}");
    terminal.expect("ticks=100\u{1b}");
    // The first alone is on again.
    terminal.type_in("t0\r");
    terminal.expect("     on ");
    terminal.type_in("s");
    terminal.expect("*state");
    terminal.type_in("r");
    terminal.type_in("x");
    terminal.expect("begun");
    terminal.type_in("q");
    terminal.expect("ended with 1");
    assert!(terminal.child.wait().expect("script ends").success());
}

#[test]
fn it_wants_a_terminal_and_a_number() {
    let script = "probe begin { exit() }";
    let outcome = stap(&["--monitor=soon", "-e", script]);
    assert_eq!(outcome.status, Some(1));
    assert_eq!(outcome.stderr, "Invalid monitor interval.\n");
    let outcome = stap(&["--monitor", "-e", script]);
    assert_eq!(outcome.status, Some(1));
    assert!(
        outcome
            .stderr
            .starts_with("ERROR: --monitor needs a terminal"),
        "{}",
        outcome.stderr
    );
}
