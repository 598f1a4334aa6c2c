//! `pmie`: watches metrics by rules (pmie(1)).

mod action;
mod ast;
mod eval;
mod interact;
mod lexer;
mod parser;
mod run;
mod show;
mod source;

use std::io::{self, Read};

use pcp::pmns::Pmns;
use pcp::timewindow::{WindowSpec, interval};
use pcp::timezone::Zone;
use pcp::{ErrorCode, Timestamp};

use crate::options::Spec;
use parser::Parser;
use run::{Engine, Verbosity};
use source::Sources;

const USAGE: &str = "\
Usage: pmie [options] [filename ...]

General options:
  -A TIME, --align=TIME align sample times on natural boundaries
  -a FILE, --archive=FILE
                        metrics source is a PCP log archive
  -h HOST, --host=HOST  metrics source is PMCD on host
  -n FILE, --namespace=FILE
                        use an alternative PMNS
  -O TIME, --origin=TIME
                        initial sample time within the time window
  -S TIME, --start=TIME start of the time window
  -T TIME, --finish=TIME
                        end of the time window
  -t DELTA, --interval=DELTA
                        sampling interval
  -Z TZ, --timezone=TZ  set reporting timezone
  -z, --hostzone        set reporting timezone to local time of metrics source
  -?, --help            show this usage message and exit

Runtime options:
  -C, --check           parse configuration and exit
  -c FILE, --config=FILE
                        configuration file
  -d, --interact        interactive debugging mode
  -P, --primary         execute as primary inference engine
  -f, --foreground      run in the foreground, not as a daemon
  -F, --systemd         systemd mode - notify service manager (if any) when started and ready
  -j FILE               stomp protocol (JMS) file
  -l FILE, --logfile=FILE
                        send status and error messages to FILE
  -U USER, --username=USER
                        run as named USER in daemon mode [default pcp]

Reporting options:
  -b, --buffer          one line buffered output stream, stdout on stderr
  -e, --timestamp       force timestamps to be reported with -V, -v or -W
  -q, --quiet           quiet mode, default diagnostics suppressed
  -v                    verbose mode, expression values printed
  -V, --verbose         verbose mode, annotated expression values printed
  -W                    verbose mode, satisfying expression values printed
  -X, --secret-applet   run in secret applet mode (thin client)
  -x, --secret-agent    run in secret agent mode (summary PMDA)
";

const LONG: &[(&str, char)] = &[
    ("align", 'A'),
    ("archive", 'a'),
    ("buffer", 'b'),
    ("check", 'C'),
    ("config", 'c'),
    ("debug", 'D'),
    ("interact", 'd'),
    ("timestamp", 'e'),
    ("foreground", 'f'),
    ("systemd", 'F'),
    ("host", 'h'),
    ("logfile", 'l'),
    ("namespace", 'n'),
    ("origin", 'O'),
    ("primary", 'P'),
    ("quiet", 'q'),
    ("start", 'S'),
    ("finish", 'T'),
    ("interval", 't'),
    ("username", 'U'),
    ("verbose", 'V'),
    ("secret-agent", 'x'),
    ("secret-applet", 'X'),
    ("timezone", 'Z'),
    ("hostzone", 'z'),
    ("help", '?'),
];

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
    log: Option<String>,
    quiet: bool,
    verbosity: Verbosity,
    stamped: bool,
    stomp: Option<String>,
}

/// A line as pmNotifyErr(3) has it, on standard error.
fn notify(kind: &str, text: &str) {
    let date = Zone::local().civil(Timestamp::now().sec).ctime();
    let date = date.rsplit_once(' ').map_or(date.as_str(), |(d, _)| d);
    eprintln!("[{date}] pmie({}) {kind}: {text}", std::process::id());
}

fn options(args: Vec<String>) -> Result<Options, String> {
    let spec = Spec {
        tool: "pmie",
        short: "A:a:bCc:D:deFfh:j:l:n:O:PqS:T:t:U:vVWXxZ:z?",
        long: LONG,
        usage: USAGE,
    };
    let usage = |text: &str| format!("pmie: {text}\n{USAGE}");
    let parsed = spec.parse(args)?;
    let mut options = Options::default();
    for (option, value) in parsed.options {
        let text = value.clone().unwrap_or_default();
        match option {
            'a' => options.archives.push(text),
            'A' => options.window.align = value,
            'O' => options.window.origin = value,
            'S' => options.window.start = value,
            'T' => options.window.finish = value,
            'b' => {}
            'C' => options.check = true,
            'c' => options.files.push(text),
            'd' => options.interact = true,
            'e' => options.stamped = true,
            'f' | 'F' => options.foreground = true,
            'h' => options.host = value,
            'j' => options.stomp = value,
            'l' => options.log = value,
            'n' => options.namespace = value,
            'q' => options.quiet = true,
            't' => match interval(&text) {
                Ok(delta) if delta > Timestamp::ZERO => options.delta = Some(delta),
                Ok(_) => return Err(usage("illegal -t argument")),
                Err(error) => {
                    return Err(usage(&format!(
                        "-t argument not in pmParseHighResInterval(3) format:\n{error}\n"
                    )));
                }
            },
            'v' | 'V' | 'W' => {
                let verbosity = match option {
                    'v' => Verbosity::Values,
                    'V' => Verbosity::Annotated,
                    _ => Verbosity::Satisfying,
                };
                if options.verbosity != Verbosity::Silent && options.verbosity != verbosity {
                    return Err(usage("at most one of -v, -V and -W allowed"));
                }
                options.verbosity = verbosity;
            }
            'x' | 'X' => {
                return Err(format!("pmie: option -{option} is not available\n"));
            }
            'Z' => options.zone = value,
            'z' => options.host_zone = true,
            '?' => return Err(USAGE.to_owned()),
            _ => {}
        }
    }
    options.files.extend(parsed.words);
    if options.zone.is_some() && options.host_zone {
        return Err(usage("at most one of -Z and -z allowed"));
    }
    Ok(options)
}

/// Runs the tool; `args` are the words behind its name. Returns the exit status.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Vec<String>) -> io::Result<u8> {
    let parsed = match options(args.clone()) {
        Ok(options) => options,
        Err(text) => {
            eprint!("{text}");
            return Ok(1);
        }
    };
    if let Some(log) = &parsed.log {
        return run_logged(&args, &parsed, log);
    }
    let logged = std::env::var_os(LOGGED).is_some();
    if logged && parsed.archives.is_empty() {
        let host = parsed.host.as_deref().unwrap_or("local:");
        eprintln!("pmie: PID = {}, via {host}\n", std::process::id());
    }
    let status = match start(&parsed) {
        Ok(status) => status,
        Err(text) => {
            eprint!("{text}");
            1
        }
    };
    if logged {
        let now = Zone::local().civil(Timestamp::now().sec).ctime();
        eprintln!("\nLog finished {now}");
    }
    Ok(status)
}

/// The variable by which a pmie whose standard error is its log knows that.
const LOGGED: &str = "SPILE_PMIE_LOGGED";

/// Runs with standard error in a file; in the background when hosts are watched, unless told otherwise.
fn run_logged(args: &[String], options: &Options, log: &str) -> io::Result<u8> {
    let file = match std::fs::File::create(log) {
        Ok(file) => file,
        Err(error) => {
            eprintln!(
                "pmie: cannot open log \"{log}\" for writing : {}",
                ErrorCode::from(&error)
            );
            return Ok(1);
        }
    };
    let mut head = file.try_clone()?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let date = |time: Timestamp| Zone::local().civil(time.sec).ctime();
    io::Write::write_all(
        &mut head,
        format!(
            "Log for pmie on {} started {}\n\n",
            host.to_string_lossy(),
            date(Timestamp::now())
        )
        .as_bytes(),
    )?;
    // The same command line without -l: what it says on standard error is the log.
    let mut words = Vec::new();
    let mut rest = args.iter();
    while let Some(word) = rest.next() {
        if word == "-l" || word == "--logfile" {
            rest.next();
        } else if !word.starts_with("-l") && !word.starts_with("--logfile=") {
            words.push(word.clone());
        }
    }
    let background = options.archives.is_empty() && !options.foreground && !options.check;
    let buffered = args.iter().any(|w| w == "-b" || w == "--buffer");
    let mut command = std::process::Command::new(std::env::current_exe()?);
    std::os::unix::process::CommandExt::arg0(&mut command, "pmie");
    command
        .args(&words)
        .env(LOGGED, "1")
        .stderr(file.try_clone()?);
    if buffered || background {
        command.stdout(file.try_clone()?);
    }
    if background {
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if !options.files.is_empty() {
            command.stdin(std::process::Stdio::null());
        }
        command.spawn()?;
        return Ok(0);
    }
    let status = command.status()?;
    Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
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
    match std::fs::read(path) {
        Ok(text) => Ok((path.to_owned(), String::from_utf8_lossy(&text).into_owned())),
        Err(error) => Err(format!(
            "pmie: cannot open configuration file \"{path}\"\nReason: {}\n",
            ErrorCode::from(&error)
        )),
    }
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
        notify,
    );
    let now = Timestamp::now();
    let mut span = (now, Timestamp::MAX);
    let mut zone = Zone::local();
    if options.archives.is_empty() {
        if options.host_zone
            && let Some((name, host)) = sources.live_zone()
        {
            zone = Zone::new(&name);
            println!("pmie: timezone set to local timezone of host {host}");
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
        eprintln!("pmie: timezone set to \"TZ={name}\"");
    }
    eprint!("{}", sources.take_said());
    let window = options
        .window
        .window(span.0, span.1, &zone)
        .map_err(|error| format!("pmie: invalid time window.\n{error}\n\n"))?;
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
    let mut engine = Engine::new(
        sources,
        statements,
        window,
        zone,
        run::Style {
            verbosity: options.verbosity,
            stamped: options.stamped,
            live: options.archives.is_empty(),
            stomp: options.stomp.clone(),
        },
    );
    if options.interact {
        return interact::run(&mut engine, delta, ids);
    }
    if engine.is_empty() {
        return Ok(0);
    }
    engine.run();
    if !options.quiet {
        notify("Info", "evaluator exiting");
    }
    Ok(0)
}
