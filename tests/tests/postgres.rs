//! A database server that makes a process for each connection: every one of them probed, every query counted.

use spile_tests::{Guard, Scratch, is_root, line, need, run, spawn, spile_path, until};
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A command as the user whom the server accepts: it does not run as root.
fn as_server_user(program: &str) -> Command {
    let path = format!("{BIN}/{program}");
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        &path,
    ]);
    command
}

/// A server with a new database, which writes every statement that it is sent into its log.
fn start_server(scratch: &Scratch) -> Guard {
    let (data, log) = (scratch.path("data"), scratch.path("log"));
    let mut initdb = as_server_user("initdb");
    initdb.arg("-D").arg(&data);
    initdb.args([
        "-A",
        "trust",
        "-U",
        "postgres",
        "--no-sync",
        "--no-locale",
        "-E",
        "UTF8",
    ]);
    run(initdb).ok();
    let mut server = as_server_user("postgres");
    server
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(scratch.path(""))
        .args(["-c", "listen_addresses=", "-c", "fsync=off"])
        .args([
            "-c",
            "autovacuum=off",
            "-c",
            "log_statement=all",
            "-c",
            "log_line_prefix=",
        ])
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log).expect("a log"));
    let server = Guard(server.spawn().expect("postgres"));
    until("the server is ready", || {
        let said = std::fs::read(&log).unwrap_or_default();
        String::from_utf8_lossy(&said).contains("ready to accept connections")
    });
    server
}

fn pgbench(scratch: &Scratch, args: &[&str]) -> String {
    let mut command = Command::new(format!("{BIN}/pgbench"));
    command
        .arg("-h")
        .arg(scratch.path(""))
        .args(["-U", "postgres"])
        .args(args)
        .arg("postgres");
    run(command).ok().stdout
}

/// The number behind a text in a report of pgbench.
fn reported(report: &str, what: &str) -> u64 {
    let rest = report.lines().find_map(|line| line.strip_prefix(what));
    let digits: String = rest
        .unwrap_or_else(|| panic!("{what}: {report}"))
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().expect("a number")
}

/// How often each statement stands in the server's log from some byte of it on. One of several lines is known by its first.
fn logged(log: &Path, from: usize) -> BTreeMap<String, u64> {
    let log = std::fs::read(log).expect("the log");
    let log = String::from_utf8_lossy(&log[from..]);
    let mut statements = BTreeMap::new();
    for line in log.lines() {
        if let Some(statement) = line.strip_prefix("LOG:  statement: ") {
            *statements.entry(statement.to_string()).or_insert(0) += 1;
        }
    }
    statements
}

const SCRIPT: &str = r#"
global q, backends, begun, committed, calls, up
probe process("SERVER").mark("query__start") { q[user_string_n($arg1, 500)]++; backends[pid()] = 1 }
probe process("SERVER").mark("transaction__start") { begun++ }
probe process("SERVER").mark("transaction__commit") { committed++ }
probe process("SERVER").function("Exec*") { calls++ }
probe process("SERVER").function("pg_*").return { calls++ }
probe timer.ms(10) { if (!up++) println("up") }
probe end {
  n = 0
  foreach (b in backends) n++
  printf("%d %d %d %d\n", n, begun, committed, calls)
  foreach (t+ in q) printf("%d %s\n", q[t], tokenize(t, "\n"))
}"#;

#[test]
fn every_backend_is_probed_and_every_query_counted() {
    need(&format!("{BIN}/postgres"));
    need(&format!("{BIN}/pgbench"));
    let scratch = Scratch::new("postgres");
    let server = start_server(&scratch);
    pgbench(&scratch, &["-i", "-q", "-n"]);
    let from = std::fs::read(scratch.path("log")).expect("the log").len();
    let script = SCRIPT.replace("SERVER", &format!("{BIN}/postgres"));
    let postmaster = server.0.id().to_string();
    let (session, mut said) = spawn(
        Command::new(spile_path())
            .args(["stap", "-D", "MAXMAPENTRIES=8192", "-D"])
            .args(["MAXSTRINGLEN=600", "-x", &postmaster, "-e", &script]),
    );
    assert_eq!(line(&mut said), "up");

    // Each transaction in a connection of its own, eight at a time; the script's are three statements each.
    let read_only = pgbench(
        &scratch,
        &["-n", "-S", "-C", "-c", "8", "-j", "2", "-t", "20"],
    );
    let script = scratch.write(
        "script.sql",
        "BEGIN;\nSELECT count(*) FROM pgbench_tellers;\nEND;\n",
    );
    let script = script.to_string_lossy();
    let scripted = pgbench(
        &scratch,
        &["-n", "-f", &script, "-c", "8", "-j", "2", "-t", "40"],
    );
    for report in [&read_only, &scripted] {
        assert_eq!(reported(report, "number of failed transactions:"), 0);
    }
    let transactions = "number of transactions actually processed:";
    let (read_only, scripted) = (
        reported(&read_only, transactions),
        reported(&scripted, transactions),
    );
    assert_eq!((read_only, scripted), (160, 320));

    let pid = session.0.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill").success());
    let counts = counts_of(&mut said);
    let mut session = session;
    assert!(session.0.wait().expect("its end").success());

    let expected = logged(&scratch.path("log"), from);
    assert_eq!(counts.statements, expected);
    // pgbench asks for the scale and the partitions of its tables before the first transaction of a script of its own,
    // and for nothing before one that it is given.
    let asked: u64 = expected
        .iter()
        .filter(|(text, _)| text.starts_with("select "))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(asked, 2, "{expected:?}");
    assert_eq!(
        counts.statements.values().sum::<u64>(),
        read_only + 3 * scripted + asked
    );
    // One connection for each transaction of the first run, eight in the second, and one to ask.
    assert_eq!(counts.backends, read_only + 8 + 1);
    // A connection's own, before its first query, too.
    assert!(counts.begun >= read_only + scripted && counts.committed <= counts.begun);
    assert!(counts.calls > 0);
}

struct Counts {
    backends: u64,
    begun: u64,
    committed: u64,
    calls: u64,
    statements: BTreeMap<String, u64>,
}

fn counts_of(said: &mut BufReader<std::process::ChildStdout>) -> Counts {
    let numbers: Vec<u64> = line(said)
        .split(' ')
        .map(|word| word.parse().expect("a number"))
        .collect();
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("its output");
    let mut statements = BTreeMap::new();
    for line in rest.lines() {
        let (count, text) = line.split_once(' ').expect("a count");
        *statements.entry(text.to_string()).or_insert(0) += count.parse::<u64>().expect("a number");
    }
    Counts {
        backends: numbers[0],
        begun: numbers[1],
        committed: numbers[2],
        calls: numbers[3],
        statements,
    }
}
