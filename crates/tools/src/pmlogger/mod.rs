//! `pmlogger`: writes archives of a host's metrics (pmlogger(1)).

mod access;
pub(crate) mod config;
mod control;
mod daemon;
mod limits;
mod log;
mod recorder;
mod recording;
mod request;
mod resolve;
mod states;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pcp::archive::Version;
use pcp::derived::DerivedMetrics;
use pcp::timewindow::interval;
use pcp::{Context, Error, ErrorCode, Timestamp};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::preprocess::preprocess;
use crate::source::Source;
use config::Config;
pub(crate) use config::unit as time_unit;
pub(crate) use control::socket_path;
use limits::Limit;
use log::Log;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmlogger",
    words: "[options] archive",
    rows: &[
        OPTIONS,
        value('c', "config", "FILE", "file to load configuration from"),
        flag('C', "check", "parse configuration and exit"),
        HOST,
        value('H', "labelhost", "LABELHOST", "override the hostname written into the label"),
        value('I', "pmlc-ipc-version", "VERSION", "set IPC version for pmlc port [defaily LOG_PDU_VERSION]"),
        value('l', "log", "FILE", "redirect diagnostics and trace output"),
        flag('L', "linger", "run even if not primary logger instance and nothing to log"),
        value('m', "note", "MSG", "descriptive note to be added to the port map file"),
        SPEC_LOCAL,
        flag('o', "local-PMDA", "metrics sourced without connecting to pmcd"),
        NAMESPACE,
        flag('N', "notify", "notify service manager (if any) when started and ready"),
        value('p', "PID", "PID", "Log specified metric for the lifetime of the pid"),
        flag('P', "primary", "execute as primary logger instance"),
        flag('r', "report", "report record sizes and archive growth rate"),
        value('s', "size", "SIZE", "terminate after endsize has been accumulated"),
        value('t', "interval", "DELTA", "default logging interval [default 60.0 seconds]"),
        FINISH,
        flag('u', "", "output is unbuffered [default now, so -u is a no-op]"),
        value('U', "username", "USER", "in daemon mode, run as named user [default pcp]"),
        value('v', "volsize", "SIZE", "switch log volumes after size has been accumulated"),
        value('V', "version", "NUM", "version for archive (default and only version is 2)"),
        flag('f', "", ""),
        value('x', "", "FD", "control file descriptor for running from pmRecordControl(3)"),
        flag('y', "", "set timezone for times to local time rather than from PMCD host"),
        HELP,
    ],
    ..Spec::PLAIN
};

/// The note of a logger that executed itself anew.
const REEXEC: &str = "reexec";

/// What the command line says.
struct Options {
    config: Option<String>,
    check: bool,
    host: Option<String>,
    label_host: Option<String>,
    control_version: i32,
    log: String,
    linger: bool,
    note: Option<String>,
    local: bool,
    agents: Vec<String>,
    namespace: Option<String>,
    notify: bool,
    watched: Option<i32>,
    primary: bool,
    report: bool,
    exit_limit: Option<Limit>,
    delta: u32,
    finish: Option<String>,
    user: Option<String>,
    volume_limit: Option<Limit>,
    version: Version,
    recording: Option<i32>,
    local_zone: bool,
    archive: String,
    /// The words of the command line, to execute it again.
    words: Vec<String>,
}

/// Whether an error says that the source of metrics is not there any more.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Code(code) => matches!(*code, ErrorCode::IPC | ErrorCode::EOF | ErrorCode::TIMEOUT),
        Error::Malformed { .. } | Error::Io(_) => true,
    }
}

impl Options {
    fn new(spec: &Spec, args: &[String]) -> Result<Options, Refusal> {
        let mut options = Options {
            config: None,
            check: false,
            host: None,
            label_host: None,
            control_version: pcp::pdu::log::VERSION,
            log: "pmlogger.log".to_owned(),
            linger: false,
            note: None,
            local: false,
            agents: Vec::new(),
            namespace: None,
            notify: false,
            watched: None,
            primary: false,
            report: false,
            exit_limit: None,
            delta: default_delta(),
            finish: None,
            user: None,
            volume_limit: None,
            version: default_version(),
            recording: None,
            local_zone: false,
            archive: String::new(),
            words: args.to_vec(),
        };
        let mut source = Source::default();
        let words = spec.parse(args.iter().cloned(), &mut source, |option, value| {
            let text = || Some(value.to_owned());
            let limit = |of: &str| {
                let what = format!("illegal size argument '{value}' for {of} size");
                value.parse::<Limit>().map_err(|()| spec.wrong(what))
            };
            match option {
                'c' => options.config = text(),
                'C' => options.check = true,
                'h' => options.host = text(),
                'H' => options.label_host = text(),
                'I' => {
                    let what = format!("non-numeric pmlc IPC version ({value})");
                    options.control_version = match spec.number(value, &what)? {
                        version @ (2 | 3) => version,
                        _ => {
                            let what = format!("-I requires a version of 2 or 3, not {value}");
                            return Err(spec.wrong(what));
                        }
                    };
                }
                'l' => options.log = value.to_owned(),
                'L' => options.linger = true,
                'm' => options.note = text(),
                'o' => options.local = true,
                'n' => options.namespace = text(),
                'N' => options.notify = true,
                'p' => {
                    let what = format!("invalid process identifier ({value})");
                    let pid = spec.number::<i32>(value, &what)?;
                    let alive = Some(pid)
                        .filter(|pid| *pid > 0 && Path::new(&format!("/proc/{pid}")).exists());
                    if alive.is_none() {
                        let what = format!("PID error - no such process ({value})");
                        return Err(spec.wrong(what));
                    }
                    options.watched = alive;
                }
                'P' => options.primary = true,
                'r' => options.report = true,
                's' => options.exit_limit = Some(limit("exit")?),
                't' => {
                    let delta = interval(value)
                        .map_err(|error| spec.wrong(format!("illegal -t argument\n{error}")))?;
                    options.delta = u32::try_from(delta.as_nanos() / 1_000_000).unwrap_or(u32::MAX);
                }
                'T' => options.finish = text(),
                'U' => options.user = text(),
                'v' => options.volume_limit = Some(limit("volume")?),
                'V' => {
                    options.version = match value {
                        "2" => Version::V2,
                        "3" => Version::V3,
                        _ => return Err(spec.wrong("-V requires a version number of 2 or 3")),
                    };
                }
                'x' => {
                    let what = "-x requires a non-negative numeric argument";
                    let fd = value.parse().ok().filter(|fd| *fd >= 0);
                    options.recording = Some(fd.ok_or_else(|| spec.wrong(what))?);
                }
                'y' => options.local_zone = true,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        options.agents = source.agents;
        if options.primary && options.host.is_some() {
            return Err(spec.wrong(
                "-P and -h are mutually exclusive; use -P only when running\n\
                 pmlogger on the same (local) host as the PMCD to which it connects.",
            ));
        }
        match words.as_slice() {
            [archive] if !options.check => options.archive = expand_date(archive),
            [] if options.check => {}
            [] => return Err(spec.wrong("insufficient arguments")),
            _ => return Err(spec.wrong("too many arguments")),
        }
        Ok(options)
    }
}

/// The interval that `default` means unless `-t` says another, in milliseconds.
fn default_delta() -> u32 {
    let seconds = std::env::var("PMLOGGER_INTERVAL").ok();
    let seconds = seconds.and_then(|s| s.trim().parse::<u32>().ok());
    seconds.unwrap_or(60).saturating_mul(1000)
}

fn default_version() -> Version {
    match pcp::config("PCP_ARCHIVE_VERSION").as_deref() {
        Some("3") => Version::V3,
        _ => Version::V2,
    }
}

/// Puts the date in the place of strftime(3)'s conversions.
fn expand_date(name: &str) -> String {
    if !name.contains('%') {
        return name.to_owned();
    }
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(name, &now).unwrap_or_else(|_| name.to_owned())
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// None: a log that cannot be written has nobody to complain to.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let mut parsed = None;
    let status = SPEC.run(|spec| {
        parsed = Some(Options::new(spec, &args)?);
        Ok(0)
    })?;
    let Some(options) = parsed else {
        return Ok(status);
    };
    let mut log = if options.check {
        Log::on_error("pmlogger")
    } else {
        let again = options.note.as_deref() == Some(REEXEC);
        Log::open("pmlogger", &options.log, again)
    };
    let status = match start(&options, &mut log) {
        Ok(status) => status,
        Err(text) => {
            log.say(&text);
            1
        }
    };
    log.finish();
    Ok(status)
}

/// The folder with PCP's own configurations.
fn config_folder() -> PathBuf {
    control::folder("PCP_VAR_DIR", "/var/lib/pcp").join("config/pmlogger")
}

/// The configuration's name and text.
fn read_config(options: &Options) -> Result<(String, String), String> {
    let Some(name) = &options.config else {
        let mut text = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut text);
        read.map_err(|e| format!("pmlogger: Cannot read <stdin>: {}\n", ErrorCode::from(&e)))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        return Ok(("<stdin>".to_owned(), text));
    };
    let mut path = PathBuf::from(name);
    let mut text = std::fs::read(&path);
    if text.is_err() && path.is_relative() {
        let other = config_folder().join(name);
        if let Ok(found) = std::fs::read(&other) {
            path = other;
            text = Ok(found);
        }
    }
    match text {
        Ok(text) => Ok((
            path.display().to_string(),
            String::from_utf8_lossy(&text).into_owned(),
        )),
        Err(error) => Err(format!(
            "pmlogger: Cannot open config file \"{name}\": {}\n",
            ErrorCode::from(&error)
        )),
    }
}

fn start(options: &Options, log: &mut Log) -> Result<u8, String> {
    if let Some(user) = &options.user
        && let Err(what) = crate::user::become_user(user)
    {
        log.notify("Critical", &what);
        return Ok(1);
    }
    log.notify("Info", "Start");
    let names = match &options.namespace {
        Some(path) => Some(crate::source::names_of(path).map_err(|(said, code)| {
            format!("{said}\npmlogger: Cannot load namespace from \"{path}\": {code}\n")
        })?),
        None => None,
    };
    let (file, text) = read_config(options)?;
    let host = options.host.as_deref().unwrap_or("local:");
    let mut context = match options.local {
        true => crate::local::open(&options.agents, options.namespace.as_deref()).map_err(|e| {
            (
                "Cannot make standalone connection on localhost".to_owned(),
                e,
            )
        }),
        false => Context::host(host)
            .map_err(|e| (format!("Cannot connect to PMCD on host \"{host}\""), e)),
    }
    .map_err(|(what, error)| format!("pmlogger: {what}: {}\n", error.code()))?;
    let (derived, said) = DerivedMetrics::configured();
    log.say(&said.concat());
    context.use_derived(&derived);
    let folders = [
        config_folder(),
        control::folder("PCP_VAR_DIR", "/var/lib/pcp").join("pmns"),
    ];
    // There is no such program here; what reads the log finds the line all the same.
    log.say("preprocessor cmd: built in\n");
    let lines = preprocess(&file, &text, &folders);
    if let Some(error) = &lines.error {
        log.say(error);
    }
    let config = config::parse(&lines.lines, lines.end, options.delta);
    let mut resolver = resolve::Resolver::new(&file, names);
    let names = config
        .statements
        .iter()
        .map(|statement| statement.metrics.len());
    let alone = names.sum::<usize>() == 1;
    for statement in &config.statements {
        let said = resolver.statement(&mut context, statement);
        // PCP's looks all names up at once, and of one alone it is told whether it is there.
        if let (Some(code), true) = (resolver.unbound, alone && !options.check) {
            log.say(&format!("cache_bind(): pmLookupName(1, ...): {code}\n"));
        }
        log.say(&said.map_err(|e| format!("pmlogger: {}\n", e.code()))?);
    }
    if let Some(error) = &config.error {
        // A host that is not known is told as it is found.
        if error.what.starts_with("__pmGetAddrInfo") {
            let date = pcp::timezone::Zone::local()
                .civil(pcp::Timestamp::now().sec)
                .ctime();
            let date = date.rsplit_once(' ').map_or(date.as_str(), |(d, _)| d);
            return Err(format!(
                "[{date}] pmlogger({}) Error: {}\nerror was on line {}\n",
                std::process::id(),
                error.what,
                error.line
            ));
        }
        return Err(format!(
            "Specification error in configuration file ({file})\n[line {}] {}\n",
            error.line, error.what
        ));
    }
    for _ in 0..config.clashes {
        let what = "Permission clash for unix: with earlier statement for unix:";
        log.notify("Error", what);
    }
    log.say("Config parsed\n");
    if pcp::debug::on(pcp::debug::Flag::OptFetch) {
        log.say(&resolver.states.fetches());
    }
    if options.check {
        return Ok(0);
    }
    let Config { access, .. } = config;
    let started = daemon::Daemon::start(options, host, context, resolver, access, log)?;
    let Some(daemon) = started else {
        return Ok(1);
    };
    Ok(daemon.run())
}

/// The time that `-T` means, read in a zone.
fn end_time(text: &str, zone: &pcp::timezone::Zone) -> Result<Timestamp, String> {
    let spec = pcp::timewindow::WindowSpec {
        finish: Some(text.to_owned()),
        ..pcp::timewindow::WindowSpec::default()
    };
    match spec.window(Timestamp::now(), Timestamp::MAX, zone) {
        Ok(window) => Ok(window.end),
        Err(error) => Err(format!("pmlogger: illegal -T argument\n{error}\n")),
    }
}
