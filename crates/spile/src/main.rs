//! The one executable. `spile stap …` is SystemTap's command, `spile dynsdt …`, `spile fmt …` and `spile demo` are Spile's own;
//! called through a link named after one of them it behaves as that tool. Only words are parsed here.

mod debug_files;
mod demo;
mod dynsdt;
mod fmt;
mod stap;
mod symbols;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: spile COMMAND [ARGUMENT...]

Commands:
  stap     run a SystemTap script inside a program (spile stap --help)
  dynsdt   print every SDT mark that a program hits
  fmt      lay out SystemTap scripts (spile fmt --help)
  symbols  show functions, lines, marks, variables and types of a binary
  demo     ten seconds of Spile on a workload of its own

Performance Co-Pilot's:
  pmcd          the collector daemon
  pmdalinux     the agent of the kernel's metrics
  pmdalogger    the agent that makes events of log files and of what commands print
  pmdammv       the agent of programs that keep metrics in mapped files
  pmdaproc      the agent of the processes
  pmdasample    an agent to test clients with
  pmdasimple    an agent to test with
  pmdaopenmetrics  the agent of Prometheus's and OpenMetrics' text formats, from URLs, files and scripts
  pmdatrivial   the least that an agent can be
  pcp           run one of its commands on a host or an archive
  pmdiff        which averages differ between archives
  pmdumplog     what is in an archive
  pmerr         what error codes mean
  pmie          watch metrics by rules
  pmdumptext    values of metrics in columns, for programs and people
  pmevent       the events of one metric over time
  pminfo        what metrics there are, and what they say
  pmjson        lay out JSON
  pmlc          ask and tell loggers what they log
  pmlogcheck    look for damage in an archive
  pmlogextract  merge archives, and take metrics and times out of them
  pmlogger      write archives of a host's metrics
  pmloglabel    check and repair an archive's labels
  pmlogreduce   make an archive smaller
  pmlogrewrite  change what an archive says, by rules
  pmlogsummary  averages and extremes of an archive
  pmprobe       which metrics have values
  pmrep         metrics over time, in columns, as CSV or into an archive
  pmstat        a line of how a system does, every so often
  pmstore       change values of a metric
  pmtop         any metrics live on a terminal, with a line of their past
  pmval         one metric over time

A link to spile that bears the name of a command runs that command.
";

fn main() -> ExitCode {
    end_without_output();
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called = args
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .map_or_else(OsString::new, OsString::from);
    if let Some(status) = run(&called.to_string_lossy(), &args) {
        return status;
    }
    if args.len() < 2 {
        eprint!("{USAGE}");
        return ExitCode::from(1);
    }
    args.remove(0);
    let command = args[0].to_string_lossy().into_owned();
    match command.as_str() {
        "-h" | "--help" | "help" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        "-V" | "--version" => {
            println!("spile {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => run(&command, &args).unwrap_or_else(|| {
            eprintln!("spile: no command '{command}'{}", near(&command));
            eprint!("{USAGE}");
            ExitCode::from(1)
        }),
    }
}

/// Has `println!` end the program with a message, and with none where the reader has had enough, instead of a panic.
fn end_without_output() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default();
        let Some(reason) = text.strip_prefix("failed printing to stdout: ") else {
            return usual(panic);
        };
        if !reason.starts_with("Broken pipe") {
            eprintln!("ERROR: cannot write output: {reason}");
        }
        std::process::exit(1);
    }));
}

/// Runs the tool of that name; `args[0]` is the name.
fn run(name: &str, args: &[OsString]) -> Option<ExitCode> {
    Some(match name {
        "stap" => stap::main(args),
        "dynsdt" => dynsdt::main(args),
        "fmt" => fmt::main(args),
        "symbols" => symbols::main(args),
        "demo" => demo::main(args),
        "pmcd" => {
            let words: Vec<String> = args
                .iter()
                .skip(1)
                .map(|w| w.to_string_lossy().into_owned())
                .collect();
            ExitCode::from(pmcd::run(&words, agents::built_in))
        }
        "demo-workload" => demo::workload(args),
        _ => {
            let words = args.iter().skip(1);
            let words: Vec<String> = words.map(|w| w.to_string_lossy().into_owned()).collect();
            if let Some(status) = agents::run(name, &words) {
                return Some(ExitCode::from(status));
            }
            match tools::run(name, words)? {
                Ok(status) => ExitCode::from(status),
                // Whoever read has had enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
                Err(error) => {
                    eprintln!("{name}: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    })
}

fn near(command: &str) -> String {
    let own = ["stap", "dynsdt", "fmt", "symbols", "demo", "pmcd"];
    let names = own.iter().chain(agents::NAMES).chain(tools::NAMES);
    let similar = ::symbols::suggest::similar(command, names.copied(), 1);
    similar
        .first()
        .map_or_else(String::new, |s| format!(" (did you mean '{s}'?)"))
}
