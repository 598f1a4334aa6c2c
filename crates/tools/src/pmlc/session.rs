//! What pmlc's commands do.

mod metrics;

use std::io::{self, Write};
use std::time::Duration;

use pcp::pdu::log::{
    CONTROL_ADVISORY, CONTROL_ENQUIRE, CONTROL_MANDATORY, LoggingState, REQUEST_NEW_VOLUME,
    REQUEST_STATUS, REQUEST_SYNC, STATE_MAYBE, STATE_OFF, STATE_ON,
};
use pcp::pdu::{LogControl, LogControlSet, LogStatus, Pdu};
use pcp::pmns::Pmns;
use pcp::timezone::Zone;
use pcp::{Context, Error, ErrorCode, INST_NULL, Timestamp, Value, ValueSet};

use super::COMMANDS;
use super::columns::shown;
use super::command::{Command, Wanted, Wrong};
use super::link::{HERE, Link, Target, loggers};
use metrics::Metric;

/// In which zone times are shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Clock {
    /// This host's.
    Local,
    /// The logger's.
    Logger,
    /// A zone by name.
    Zone(String),
}

/// A logger that is connected, and the source of its metrics once it was needed.
struct Connected {
    link: Link,
    name: String,
    host: String,
    source: Option<Context>,
}

/// What pmlc knows between commands.
pub struct Session {
    connected: Option<Connected>,
    clock: Clock,
    names: Option<Pmns>,
    explained: bool,
}

fn complain(text: &str) {
    // What was said before comes first.
    let _ = io::stdout().flush();
    eprint!("{text}");
}

impl Session {
    /// A session without a logger; `names` is a file with a name space.
    ///
    /// # Errors
    /// The message for standard error when the file is not one.
    pub fn new(clock: Clock, names: Option<&str>) -> Result<Session, String> {
        let load = |path: &str| {
            Pmns::load(path.as_ref()).map_err(|error| {
                format!(
                    "pmlc: Cannot load namespace from \"{path}\": {}\n",
                    error.code()
                )
            })
        };
        Ok(Session {
            connected: None,
            clock,
            names: names.map(load).transpose()?,
            explained: false,
        })
    }

    /// Connects to a logger. Only from the command line it is told that it worked.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn connect(&mut self, target: &Target, host: Option<&str>, tell: bool) -> io::Result<()> {
        self.connected = None;
        let host = host.unwrap_or(HERE);
        match Link::open(target, host) {
            Ok(link) => {
                if tell {
                    println!("Connected to {target} at {host}");
                }
                let name = match target {
                    Target::Primary => "primary".to_owned(),
                    Target::Pid(pid) => pid.to_string(),
                    Target::Port(_) => link.pid.to_string(),
                };
                self.connected = Some(Connected {
                    link,
                    name,
                    host: host.to_owned(),
                    source: None,
                });
            }
            Err(error) => {
                let code = error.code();
                complain(&format!(
                    "Unable to connect to {target} at {host}: {code}\n"
                ));
            }
        }
        Ok(())
    }

    /// Does a command that stands in a line; false when it was the last.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn carry_out(&mut self, command: Command, line: usize) -> io::Result<bool> {
        let needs_logger = matches!(
            command,
            Command::Status
                | Command::NewVolume
                | Command::Flush
                | Command::Query(_)
                | Command::Log { .. }
        );
        if needs_logger && self.connected.is_none() {
            complain(&format!(
                "Error [<stdin>, line {line}]\nNot connected to any pmlogger instance\n"
            ));
            return Ok(true);
        }
        match command {
            Command::Show(host) => show(host.as_deref().unwrap_or(HERE)),
            Command::Connect(target, host) => self.connect(&target, host.as_deref(), false)?,
            Command::Disconnect => self.connected = None,
            Command::Status => self.status(),
            Command::NewVolume => match self.request(&Pdu::LogRequest(REQUEST_NEW_VOLUME)) {
                Ok(Pdu::Error { code, .. }) => complain(&format!("New log volume {}\n", code.0)),
                Ok(_) => {}
                Err(error) => complain(&format!("Error: {}\n", error.code())),
            },
            Command::Flush => {
                if let Err(error) = self.request(&Pdu::LogRequest(REQUEST_SYNC)) {
                    complain(&format!("Error: {}\n", error.code()));
                }
            }
            Command::LocalZone => self.clock = Clock::Local,
            Command::LoggerZone => self.clock = Clock::Logger,
            Command::Zone(name) => self.clock = Clock::Zone(name),
            Command::Sleep(milliseconds) => {
                std::thread::sleep(Duration::from_millis(milliseconds));
            }
            Command::Help => print!("{COMMANDS}"),
            Command::Quit => {
                println!("Goodbye");
                return Ok(false);
            }
            Command::TooLong(delta) => complain(&format!(
                "Logging delta ({delta} msec) cannot be bigger than 268435455 msec\n"
            )),
            Command::Query(specs) => {
                if let Some(metrics) = self.metrics(&specs) {
                    self.query(&metrics);
                }
            }
            Command::Log {
                mandatory,
                wanted,
                metrics,
            } => {
                if let Some(metrics) = self.metrics(&metrics) {
                    self.log(mandatory, wanted, &metrics);
                }
            }
        }
        Ok(true)
    }

    /// Asks the logger. When it is gone, so is the connection.
    fn request(&mut self, pdu: &Pdu) -> Result<Pdu, Error> {
        let Some(connected) = &mut self.connected else {
            return Err(ErrorCode::NOTCONN.into());
        };
        let answer = connected.link.request(pdu);
        if let Err(error) = &answer
            && (matches!(error, Error::Io(_) | Error::Malformed { .. })
                || error.code() == ErrorCode::EOF)
        {
            self.connected = None;
        }
        answer
    }

    fn logger_status(&mut self) -> Result<LogStatus, Error> {
        match self.request(&Pdu::LogRequest(REQUEST_STATUS))? {
            Pdu::LogStatus(status) | Pdu::LogStatusV2(status) => Ok(status),
            _ => Err(ErrorCode::IPC.into()),
        }
    }

    fn status(&mut self) {
        let status = match self.logger_status() {
            Ok(status) => status,
            Err(error) => {
                complain(&format!("Error: {}\n", error.code()));
                return;
            }
        };
        let Some(connected) = &self.connected else {
            return;
        };
        let (zone, named) = match &self.clock {
            Clock::Local => (Zone::local(), "local"),
            Clock::Logger => (Zone::new(&status.logger_timezone.to_str()), "pmlogger"),
            Clock::Zone(name) => (Zone::new(name), name.as_str()),
        };
        let date = |time: Timestamp| zone.date(time, 9);
        let hostname = &status.hostname;
        println!(
            "pmlogger [{}] on host {} is logging metrics from host {hostname}\n\
             PMCD host        {hostname}\n\
             log started      {} (times in {named} time)\n\
             last log entry   {}\n\
             current time     {}\n\
             log volume       {}\n\
             log size         {}",
            connected.name,
            connected.host,
            date(status.start),
            date(status.last),
            date(status.now),
            status.volume,
            status.size,
        );
    }

    /// The source of the logger's metrics, where their names and instances are known.
    fn source(&mut self) -> Result<&mut Context, Error> {
        let known = self.connected.as_ref().is_some_and(|c| c.source.is_some());
        if !known {
            let status = self.logger_status()?;
            let connected = self.connected.as_ref().ok_or(ErrorCode::NOTCONN)?;
            // What the logger calls its own host is the host where it runs.
            let spec = status.fqdn.to_string();
            let spec = if connected.host != HERE && (spec == HERE || spec == "localhost") {
                connected.host.clone()
            } else {
                spec
            };
            let context = Context::host(&spec)?;
            if let Some(connected) = &mut self.connected {
                connected.source = Some(context);
            }
        }
        let connected = self.connected.as_mut().ok_or(ErrorCode::NOTCONN)?;
        Ok(connected.source.as_mut().ok_or(ErrorCode::NOTCONN)?)
    }

    /// Says what is wrong with a command, behind what is wrong with the metrics that were read of it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn refuse(&mut self, wrong: &Wrong, line: usize) -> io::Result<()> {
        if self.connected.is_some() {
            self.look_up(&wrong.metrics);
        }
        io::stdout().flush()?;
        eprintln!("Error [<stdin>, line {line}]\n{}", wrong.what);
        Ok(())
    }

    fn control(
        &mut self,
        control: i32,
        (state, delta): (i32, u32),
        metrics: &[Metric],
    ) -> Result<Vec<ValueSet>, Error> {
        let sets = metrics
            .iter()
            .map(|metric| {
                let values = if metric.desc.indom.is_null() {
                    vec![(INST_NULL, 0)]
                } else {
                    metric.wanted.iter().map(|inst| (*inst, 0)).collect()
                };
                LogControlSet {
                    pmid: metric.desc.pmid,
                    values: Ok(values),
                }
            })
            .collect();
        let request = Pdu::LogControl(LogControl {
            control,
            state,
            delta: delta as i32,
            sets,
        });
        match self.request(&request)? {
            Pdu::Result(result) => Ok(result.sets),
            _ => Err(ErrorCode::IPC.into()),
        }
    }

    fn query(&mut self, metrics: &[Metric]) {
        let sets = match self.control(CONTROL_ENQUIRE, (0, 0), metrics) {
            Ok(sets) => sets,
            Err(error) => {
                let code = error.code();
                complain(&format!("Error receiving response from pmlogger: {code}\n"));
                return;
            }
        };
        for (metric, set) in metrics.iter().zip(sets) {
            println!("{}", metric.name);
            match &set.values {
                Err(code) => println!("    {code}"),
                Ok(values) if values.is_empty() => println!("    (no instances)"),
                Ok(values) => {
                    for value in values {
                        let raw = match &value.value {
                            Value::Insitu(raw) => *raw,
                            Value::Block(_) => 0,
                        };
                        let mut line = shown(LoggingState::from_raw(raw));
                        if !metric.desc.indom.is_null() {
                            line.push_str(&format!(" {}", metric.instance(value.inst)));
                        }
                        println!("{line}");
                    }
                }
            }
            println!();
        }
    }

    fn log(&mut self, mandatory: bool, wanted: Wanted, metrics: &[Metric]) {
        let control = if mandatory {
            CONTROL_MANDATORY
        } else {
            CONTROL_ADVISORY
        };
        let state = match wanted {
            Wanted::On(delta) => (STATE_ON, delta),
            Wanted::Off => (STATE_OFF, 0),
            Wanted::Maybe => (STATE_MAYBE, 0),
        };
        let sets = match self.control(control, state, metrics) {
            Ok(sets) => sets,
            Err(error) => {
                let code = error.code();
                complain(&format!("Error receiving response from pmlogger: {code}\n"));
                return;
            }
        };
        let mut text = String::new();
        for (metric, set) in metrics.iter().zip(sets) {
            let values = match &set.values {
                Ok(values) => values,
                Err(code) => {
                    text.push_str(&format!("{}: {code}\n\n", metric.name));
                    continue;
                }
            };
            let refused: Vec<i32> = values
                .iter()
                .filter(|value| match &value.value {
                    Value::Insitu(raw) => !fulfils(LoggingState::from_raw(*raw), mandatory, wanted),
                    Value::Block(_) => true,
                })
                .map(|value| value.inst)
                .collect();
            if refused.is_empty() {
                continue;
            }
            text.push_str(&metric.name);
            if metric.desc.indom.is_null() {
                text.push('\n');
            } else {
                text.push_str(" instance(s):\n");
                for inst in refused {
                    text.push_str(&format!("    {}\n", metric.instance(inst)));
                }
            }
            text.push('\n');
        }
        if !text.is_empty() {
            print!("Warning: unable to change logging state for:\n{text}");
        }
    }
}

/// Whether a state is what was asked for.
fn fulfils(state: LoggingState, mandatory: bool, wanted: Wanted) -> bool {
    match wanted {
        Wanted::On(delta) => state.mandatory == mandatory && state.on && state.delta == delta,
        Wanted::Off => state.mandatory == mandatory && !state.on,
        Wanted::Maybe => !state.mandatory,
    }
}

/// Tells which loggers run on a host.
fn show(host: &str) {
    let known = match loggers(host) {
        Ok(known) => known,
        Err(error) => {
            let code = error.code();
            complain(&format!("Error finding pmloggers on {host}: {code}\n"));
            return;
        }
    };
    if known.is_empty() {
        println!("No pmloggers running on {host}");
        return;
    }
    let primary = known.iter().find(|(name, _)| name == "primary");
    let primary_pid = primary.and_then(|(_, port)| {
        let same = known.iter().find(|(n, p)| n != "primary" && p == port);
        same.map(|(name, _)| name.clone())
    });
    let mut line = "   ".to_owned();
    if let Some((_, _)) = primary {
        line.push_str(" primary");
        if let Some(pid) = &primary_pid {
            line.push_str(&format!(" ({pid})"));
        }
    } else {
        line.push(' ');
    }
    for (name, _) in &known {
        if name != "primary" && Some(name) != primary_pid.as_ref() {
            line.push_str(&format!(" {name}"));
        }
    }
    println!("The following pmloggers are running on {host}:\n{line}");
}
