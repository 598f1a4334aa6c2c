//! `pmlc`: asks and tells running loggers what they log (pmlc(1)).

pub(crate) mod command;
mod link;
mod session;

use std::io::{self, BufRead, IsTerminal, Write};

use crate::options::Spec;
use crate::source::VERSION;
use link::Target;
use session::{Clock, Session};

const USAGE: &str = "\
Usage: pmlc [options] [pid]

Options:
  -e, --echo            echo input
  -h HOST, --host=HOST  connect to pmlogger using host specification
  -i, --interactive     be interactive and prompt
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -P, --primary         connect to primary pmlogger
  -p N, --port=N        connect to pmlogger on this TCP/IP port
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --logzone         set reporting timezone to local time for pmlogger
  -?, --help            show this usage message and exit
";

const LONG: &[(&str, char)] = &[
    ("echo", 'e'),
    ("host", 'h'),
    ("interactive", 'i'),
    ("namespace", 'n'),
    ("primary", 'P'),
    ("port", 'p'),
    ("timezone", 'Z'),
    ("logzone", 'z'),
    ("debug", 'D'),
    ("help", '?'),
];

const HELP: &str = "\
pmlc commands

  show loggers [@<host>]             display <pid>s of running pmloggers
  connect _logger_id [@<host>]       connect to designated pmlogger
  status                             information about connected pmlogger
  query metric-list                  show logging state of metrics
  new volume                         start a new log volume
  disconnect                         disconnect from pmlogger

  log { mandatory | advisory } on <interval> _metric-list
  log { mandatory | advisory } off _metric-list
  log mandatory maybe _metric-list

  timezone local|logger|'<timezone>' change reporting timezone
  help                               print this help message
  sleep <n>                          pause for <n> milliseconds
  quit                               exit from pmlc

  _logger_id   is  primary | <pid> | port <n>
  _metric-list is  _metric-spec | { _metric-spec ... }
  _metric-spec is  <metric-name> | <metric-name> [ <instance> ... ]

";

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let spec = Spec {
        tool: "pmlc",
        short: "D:eh:in:Pp:zZ:?",
        long: LONG,
        usage: USAGE,
    };
    let parsed = match spec.parse(args) {
        Ok(parsed) => parsed,
        Err(message) => {
            eprint!("{message}");
            return Ok(1);
        }
    };
    let refuse = |text: &str| {
        eprint!("pmlc: {text}\n{USAGE}");
        Ok(1)
    };
    let (mut echo, mut interactive) = (false, io::stdin().is_terminal());
    let (mut host, mut target, mut names) = (None, None, None);
    let mut clock = Clock::Local;
    for (option, value) in parsed.options {
        match option {
            'e' => echo = true,
            'h' => host = value,
            'i' => interactive = true,
            'n' => names = value,
            'P' if target.is_none() => target = Some(Target::Primary),
            'p' if target.is_none() => {
                let port = value.as_deref().and_then(|v| v.parse().ok());
                let Some(port) = port.filter(|p| *p > 0) else {
                    return refuse("port numbers must be positive");
                };
                target = Some(Target::Port(port));
            }
            'P' | 'p' => return refuse("at most one of -P and -p and a pid may be specified"),
            'z' if clock == Clock::Local => clock = Clock::Logger,
            'Z' if clock == Clock::Local => clock = Clock::Zone(value.unwrap_or_default()),
            'z' | 'Z' => return refuse("at most one of -Z and/or -z allowed"),
            '?' => {
                eprint!("{USAGE}");
                return Ok(1);
            }
            _ => {}
        }
    }
    match parsed.words.as_slice() {
        [] => {}
        [pid] => {
            if target.is_some() {
                return refuse("at most one of -P and -p and a pid may be specified");
            }
            let Some(pid) = pid.parse().ok().filter(|pid| *pid > 0) else {
                return refuse("process identifiers must be positive numbers");
            };
            target = Some(Target::Pid(pid));
        }
        _ => {
            eprint!("{USAGE}");
            return Ok(1);
        }
    }
    if host.is_some() && target.is_none() {
        return refuse("-h may not be used without -P or -p or a pid");
    }
    let mut session = match Session::new(clock, names.as_deref()) {
        Ok(session) => session,
        Err(text) => {
            eprint!("{text}");
            return Ok(1);
        }
    };
    if let Some(target) = target {
        session.connect(&target, host.as_deref(), true)?;
    }
    converse(&mut session, echo, interactive)?;
    Ok(0)
}

/// Reads and does commands until there are no more.
fn converse(session: &mut Session, echo: bool, interactive: bool) -> io::Result<()> {
    if interactive {
        print!("Performance Co-Pilot Logger Control (pmlc), Version {VERSION}\n\n{HELP}");
    }
    let mut input = io::stdin().lock();
    let mut reader = command::Reader::default();
    loop {
        if interactive {
            let prompt = if reader.is_open() { "? " } else { "pmlc> " };
            print!("{prompt}");
            io::stdout().flush()?;
        }
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            if interactive {
                println!();
            }
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        if echo {
            print!("{line}");
        }
        let number = reader.next_line();
        match reader.line(&line) {
            Ok(None) => {}
            Ok(Some(command)) => {
                if !session.carry_out(command, number)? {
                    return Ok(());
                }
            }
            Err(what) => {
                io::stdout().flush()?;
                eprintln!("Error [<stdin>, line {number}]\n{what}");
            }
        }
        io::stdout().flush()?;
    }
}
