//! `pmie`: watches metrics by rules (pmie(1)).

mod action;
mod ast;
mod embedded;
mod eval;
mod interact;
mod lexer;
mod listing;
mod parser;
mod run;
mod set;
mod shape;
mod show;
mod source;
mod stats;

use std::io::{self, Read};

use nix::sys::signal::{SigSet, Signal};
use pcp::pmns::Pmns;
use pcp::timewindow::WindowSpec;
use pcp::timezone::Zone;
use pcp::{ErrorCode, Timestamp};

use crate::options::rows::*;
use crate::options::{Refusal, Spec};
use crate::source::Source;
use ast::{Body, Statement};
use embedded::{Agent, Embedded};
use parser::Parser;
use run::{Engine, Verbosity};
use source::Sources;
use stats::Stats;

#[rustfmt::skip]
const SPEC: Spec = Spec {
    tool: "pmie",
    words: "[options] [filename ...]",
    rows: &[
        GENERAL,
        ALIGN,
        ARCHIVE,
        HOST,
        NAMESPACE,
        ORIGIN,
        START,
        FINISH,
        INTERVAL,
        TIMEZONE,
        HOST_ZONE,
        HELP,
        section("Runtime options"),
        flag('C', "check", "parse configuration and exit"),
        value('c', "config", "FILE", "configuration file"),
        flag('d', "interact", "interactive debugging mode"),
        flag('P', "primary", "execute as primary inference engine"),
        flag('f', "foreground", "run in the foreground, not as a daemon"),
        flag('F', "systemd", "systemd mode - notify service manager (if any) when started and ready"),
        value('j', "", "FILE", "stomp protocol (JMS) file"),
        value('l', "logfile", "FILE", "send status and error messages to FILE"),
        value('U', "username", "USER", "run as named USER in daemon mode [default pcp]"),
        REPORTING,
        flag('b', "buffer", "one line buffered output stream, stdout on stderr"),
        flag('e', "timestamp", "force timestamps to be reported with -V, -v or -W"),
        flag('H', "", ""),
        flag('q', "quiet", "quiet mode, default diagnostics suppressed"),
        flag('v', "", "verbose mode, expression values printed"),
        flag('V', "verbose", "verbose mode, annotated expression values printed"),
        flag('W', "", "verbose mode, satisfying expression values printed"),
        flag('X', "secret-applet", "run in secret applet mode (thin client)"),
        flag('x', "secret-agent", "run in secret agent mode (summary PMDA)"),
    ],
    microseconds: true,
    ..Spec::PLAIN
};

/// What the command line says.
#[derive(Default)]
struct Options {
    archives: Vec<String>,
    host: Option<String>,
    files: Vec<String>,
    namespace: Option<String>,
    window: WindowSpec,
    delta: Option<Timestamp>,
    zone: Option<String>,
    host_zone: bool,
    check: bool,
    interact: bool,
    foreground: bool,
    buffered: bool,
    log: Option<String>,
    quiet: bool,
    verbosity: Verbosity,
    stamped: bool,
    stomp: Option<String>,
    user: Option<String>,
    embedded: Option<Embedded>,
}

/// A line as pmNotifyErr(3) has it, on standard error.
fn notify(kind: &str, text: &str) {
    let date = Zone::local().civil(Timestamp::now().sec).ctime();
    let date = date.rsplit_once(' ').map_or(date.as_str(), |(d, _)| d);
    eprintln!("[{date}] pmie({}) {kind}: {text}", std::process::id());
}

/// The same with `-q`.
fn quiet(kind: &str, text: &str) {
    if kind != "Info" {
        notify(kind, text);
    }
}

fn options(spec: &Spec, args: Vec<String>) -> Result<Options, Refusal> {
    let mut options = Options::default();
    let mut source = Source::default();
    let words = spec.parse(args, &mut source, |option, value| {
        match option {
            'a' => {
                options.archives.push(value.to_owned());
                return Ok(false);
            }
            'b' => options.buffered = true,
            'U' => options.user = Some(value.to_owned()),
            'C' => options.check = true,
            'c' => options.files.push(value.to_owned()),
            'd' => options.interact = true,
            'e' => options.stamped = true,
            'f' | 'F' => options.foreground = true,
            'j' => options.stomp = Some(value.to_owned()),
            'l' => options.log = Some(value.to_owned()),
            'q' => options.quiet = true,
            'v' | 'V' | 'W' => {
                options.verbosity = match option {
                    'v' => Verbosity::Values,
                    'V' => Verbosity::Annotated,
                    _ => Verbosity::Satisfying,
                };
            }
            'x' => options.embedded = Some(Embedded::Agent),
            'X' => options.embedded = Some(Embedded::Applet),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    options.files.extend(words);
    let source = source.with_environment(spec)?;
    if options.archives.is_empty() {
        options.archives.extend(source.archives);
    }
    // None at all is as if it were not said.
    options.delta = source.interval.filter(|delta| *delta > Timestamp::ZERO);
    options.host = source.host;
    options.window = source.window;
    options.namespace = source.pmns;
    options.zone = source.zone;
    options.host_zone = source.host_zone;
    Ok(options)
}

/// Bytes of stack, of which what is not used costs nothing.
const STACK: usize = 1 << 30;

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    // They are for the thread that is about to be started, and for those that it starts.
    let blocked = ending().thread_block().is_ok();
    let evaluate = move || {
        SPEC.run(|spec| {
            let options = options(spec, args)?;
            if let Some(log) = &options.log {
                begin_log(&options, log)?;
            } else if options.buffered {
                let errno = |errno: nix::errno::Errno| io::Error::from(errno);
                nix::unistd::dup2_stdout(io::stderr()).map_err(errno)?;
            }
            if let Some(user) = &options.user
                && let Err(what) = crate::user::become_user(user)
            {
                notify("Critical", &what);
                return Ok(1);
            }
            Ok(watch(&options, blocked)?)
        })
    };
    // Expressions are evaluated as deep as they stand in each other.
    let thread = std::thread::Builder::new().stack_size(STACK);
    match thread.spawn(evaluate)?.join() {
        Ok(status) => status,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Evaluates the rules until there is nothing more to do. Returns the exit status. `blocked` says that signals which end the
/// process are.
fn watch(parsed: &Options, blocked: bool) -> io::Result<u8> {
    let logged = parsed.log.is_some();
    // Without it the process ends as any other.
    match blocked && !parsed.interact && !parsed.check {
        true => watch_signals(logged),
        false => ending().thread_unblock()?,
    }
    let status = start(parsed).unwrap_or_else(|text| {
        eprint!("{text}");
        1
    });
    if logged {
        end_log();
    }
    Ok(status)
}

/// Puts standard error, and standard output with `-b`, into the log, and says there who this is.
fn begin_log(options: &Options, log: &str) -> Result<(), String> {
    let failed = |error: io::Error| {
        let code = ErrorCode::from(&error);
        format!("pmie: cannot open log \"{log}\" for writing : {code}\n")
    };
    let file = std::fs::File::create(log).map_err(failed)?;
    let errno = |errno: nix::errno::Errno| failed(errno.into());
    nix::unistd::dup2_stderr(&file).map_err(errno)?;
    let live = options.archives.is_empty();
    if options.buffered || live && !options.foreground && !options.check {
        nix::unistd::dup2_stdout(&file).map_err(errno)?;
    }
    let host = nix::unistd::gethostname().unwrap_or_default();
    eprintln!(
        "Log for pmie on {} started {}\n",
        host.to_string_lossy(),
        now()
    );
    if live {
        let host = options.host.as_deref().unwrap_or("local:");
        eprintln!("pmie: PID = {}, via {host}\n", std::process::id());
    }
    Ok(())
}

fn end_log() {
    eprintln!("\nLog finished {}", now());
}

fn now() -> String {
    Zone::local().civil(Timestamp::now().sec).ctime()
}

/// Ends the log, and what is said of this process elsewhere, when it is asked to end.
fn watch_signals(logged: bool) {
    std::thread::spawn(move || {
        if ending().wait().is_ok() {
            let _ = std::fs::remove_file(stats::path_of(std::process::id()));
            if logged {
                end_log();
            }
            std::process::exit(1);
        }
    });
}

/// The signals that end a process which is not asked.
fn ending() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set
}

/// Reads a specification whose metrics are all unknown.
pub(crate) fn read_without_metrics(text: &str, delta: Timestamp) {
    // Archives that were not opened have no hosts.
    let mut sources = Sources::new(vec![String::new()], None, None, quiet);
    Parser::new(text, "text", delta, &mut sources).run();
}

/// A specification's text, and how messages call it.
fn read(file: Option<&str>) -> Result<(String, String), String> {
    let mut text = Vec::new();
    let Some(path) = file else {
        let read = io::stdin().lock().read_to_end(&mut text);
        read.map_err(|e| {
            format!(
                "pmie: cannot read standard input: {}\n",
                ErrorCode::from(&e)
            )
        })?;
        return Ok((
            "standard input".to_owned(),
            String::from_utf8_lossy(&text).into_owned(),
        ));
    };
    // Names may be of the folder that PCP installs rules in.
    let folder = pcp::config("PCP_VAR_DIR").unwrap_or_default();
    let installed = format!("{folder}/config/pmie/{path}");
    let read = |path: &str| Some((path.to_owned(), std::fs::read(path).ok()?));
    match read(path).or_else(|| read(&installed)) {
        Some((path, text)) => Ok((path, String::from_utf8_lossy(&text).into_owned())),
        None => {
            let code =
                std::fs::File::open(path).map_or_else(|e| ErrorCode::from(&e), |_| ErrorCode(-5));
            Err(format!(
                "pmie: cannot access config file as either {path} or {installed}: {code}\n"
            ))
        }
    }
}

/// The file that says how the evaluation goes; a folder that can't be written to takes nothing from it.
fn stats_of(options: &Options, statements: &[Statement], sources: &mut Sources) -> Option<Stats> {
    let absolute = |path: Option<&String>| {
        let path = path.and_then(|p| std::path::absolute(p).ok());
        path.map_or_else(String::new, |p| p.display().to_string())
    };
    let config = match options.files.last() {
        Some(file) => absolute(Some(file)),
        None => "<stdin>".to_owned(),
    };
    let log = match &options.log {
        Some(log) => absolute(Some(log)),
        None => "<none>".to_owned(),
    };
    let rules = |s: &Statement| match &s.body {
        Body::Expr(_) => 0,
        Body::Rule(..) => 1,
        Body::Rules { rules, .. } => u32::try_from(rules.len()).unwrap_or(u32::MAX),
    };
    let in_a_second = |s: &Statement| {
        let conditions = rules(s).max(1) as f32;
        conditions / s.delta.as_secs_f64().max(1e-9) as f32
    };
    let host = sources.live_name().unwrap_or_default();
    let expected = statements.iter().map(in_a_second).sum();
    let rules = statements.iter().map(rules).sum();
    Stats::create(&config, &log, &host, expected, rules).ok()
}

fn start(options: &Options) -> Result<u8, String> {
    let names = match &options.namespace {
        Some(path) => Some(Pmns::load(path.as_ref()).map_err(|error| {
            format!(
                "pmie: cannot load namespace from \"{path}\": {}\n",
                error.code()
            )
        })?),
        None => None,
    };
    let mut sources = Sources::new(
        options.archives.clone(),
        options.host.clone(),
        names,
        if options.quiet { quiet } else { notify },
    );
    let now = Timestamp::now();
    let mut span = (now, Timestamp::MAX);
    let mut zone = Zone::local();
    if options.archives.is_empty() {
        if options.host_zone
            && let Some(name) = sources.live_zone()
        {
            zone = Zone::new(&name);
            let host = options.host.as_deref().unwrap_or("local:");
            println!("pmie: timezone set to local timezone from {host}");
        }
    } else {
        let (first, last, name) = sources.open_archives()?;
        span = (first, last);
        if options.host_zone {
            zone = Zone::new(&name);
            let archive = options.archives.first().map_or("", String::as_str);
            println!("pmie: timezone set to local timezone from {archive}");
        }
    }
    if let Some(name) = &options.zone {
        zone = Zone::new(name);
    }
    sources.trace_times_in(zone.clone());
    eprint!("{}", sources.take_said());
    let window = options
        .window
        .window(span.0, span.1, &zone)
        .map_err(|error| format!("{error}\n"))?;
    let delta = options.delta.unwrap_or(Timestamp::new(10, 0));
    let mut statements = Vec::new();
    let files: Vec<Option<&str>> = if options.files.is_empty() && !options.interact {
        vec![None]
    } else {
        options.files.iter().map(|f| Some(f.as_str())).collect()
    };
    let (mut failed, mut stomps, mut ids) = (false, false, 0);
    for file in files {
        let (name, text) = read(file)?;
        let mut parser = Parser::new(&text, &name, delta, &mut sources);
        parser.go_on(ids, statements.len());
        parser.serve(options.embedded);
        parser.run();
        ids = parser.identifiers();
        failed |= parser.failed;
        eprint!("{}", parser.said);
        stomps |= parser.uses_stomp;
        statements.append(&mut parser.statements);
        if let Some(text) = sources.fatal.take() {
            return Err(text);
        }
    }
    let agent = match options.embedded {
        Some(Embedded::Agent) => Some(Agent::of(&statements, options.namespace.as_deref())?),
        _ => None,
    };
    if options.check {
        return Ok(u8::from(failed));
    }
    if stomps {
        let path = action::stomp_configuration(options.stomp.as_deref());
        if let Err(error) = std::fs::metadata(&path) {
            let code = ErrorCode::from(&error);
            notify(
                "Error",
                &format!("Cannot open STOMP configuration file {path}: {code}"),
            );
            return Ok(1);
        }
    }
    let stats = if options.archives.is_empty() && !options.interact && !statements.is_empty() {
        stats_of(options, &statements, &mut sources)
    } else {
        None
    };
    let mut engine = Engine::new(
        sources,
        statements,
        window,
        zone,
        run::Style {
            verbosity: options.verbosity,
            applet: options.embedded == Some(Embedded::Applet),
            agent,
            stamped: options.stamped,
            live: options.archives.is_empty(),
            stomp: options.stomp.clone(),
            stats,
        },
    );
    if options.interact {
        return interact::run(&mut engine, delta, ids);
    }
    if engine.is_empty() {
        return Ok(0);
    }
    engine.run();
    if let Some(text) = engine.fatal() {
        return Err(text);
    }
    if !options.quiet {
        notify("Info", "evaluator exiting");
    }
    Ok(0)
}
