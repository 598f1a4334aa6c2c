//! `pmlc`: asks and tells running loggers what they log (pmlc(1)).

mod columns;
pub(crate) mod command;
mod link;
mod session;

use std::io::{self, BufRead, IsTerminal, Write};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::{Source, VERSION};
use link::Target;
use session::{Clock, Session};

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlc",
    words: "[options] [pid]",
    rows: &[
        OPTIONS,
        flag('e', "echo", "echo input"),
        value('h', "host", "HOST", "connect to pmlogger using host specification"),
        flag('i', "interactive", "be interactive and prompt"),
        NAMESPACE,
        flag('P', "primary", "connect to primary pmlogger"),
        value('p', "port", "N", "connect to pmlogger on this TCP/IP port"),
        TIMEZONE,
        flag('z', "logzone", "set reporting timezone to local time for pmlogger"),
        HELP,
    ],
    source_in_words: true,
    ..Spec::PLAIN
};

const COMMANDS: &str = "\
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
    SPEC.run(|spec| control(spec, args))
}

fn control(spec: &Spec, args: Vec<String>) -> Result<u8, Refusal> {
    let (mut echo, mut interactive) = (false, io::stdin().is_terminal());
    let mut target = None;
    let mut source = Source::default();
    let one_target = || spec.wrong("at most one of -P, -p, unix socket, or PID may be specified");
    let words = spec.parse(args, &mut source, |option, value| {
        match option {
            'e' => echo = true,
            'i' => interactive = true,
            'P' if target.is_none() => target = Some(Target::Primary),
            'p' if target.is_none() => {
                let port = value.parse().ok().filter(|p| *p > 0);
                let wrong = || spec.wrong("port must be numeric and greater than 0");
                target = Some(Target::Port(port.ok_or_else(wrong)?));
            }
            'P' | 'p' => return Err(one_target()),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let host = source.host;
    let clock = match source.zone {
        Some(zone) => Clock::Zone(zone),
        None if source.host_zone => Clock::Logger,
        None => Clock::Local,
    };
    match words.as_slice() {
        [] => {}
        [_] if target.is_some() => return Err(one_target()),
        [pid] => {
            let pid = pid.parse().ok().filter(|pid| *pid > 0);
            let wrong = || spec.wrong("PID must be a numeric process ID and greater than 0");
            target = Some(Target::Pid(pid.ok_or_else(wrong)?));
        }
        _ => return Err(Refusal::Usage(String::new())),
    }
    if host.is_some() && target.is_none() {
        return Err(spec.wrong("-h may not be used without -P or -p or a socket path or a PID"));
    }
    let mut session = Session::new(clock, source.pmns.as_deref())?;
    if let Some(target) = target {
        session.connect(&target, host.as_deref(), true)?;
    }
    converse(&mut session, echo, interactive)?;
    Ok(0)
}

/// Reads and does commands until there are no more.
fn converse(session: &mut Session, echo: bool, interactive: bool) -> io::Result<()> {
    if interactive {
        print!("Performance Co-Pilot Logger Control (pmlc), Version {VERSION}\n\n{COMMANDS}");
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
            if let Some(wrong) = reader.end() {
                let number = reader.next_line();
                session.refuse(&wrong, number)?;
            }
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
            Err(wrong) => session.refuse(&wrong, number)?,
        }
        io::stdout().flush()?;
    }
}
