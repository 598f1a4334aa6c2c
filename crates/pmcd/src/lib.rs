//! Performance Co-Pilot's collector daemon (pmcd(1)): clients on one side, agents on the other.
//!
//! One thread does everything. Each client's connection is a task that takes its requests one after the other; each
//! agent has a queue of those who want to ask it. A request for one agent therefore waits for that agent only.

pub mod access;
mod accounts;
mod agent;
mod client;
pub mod config;
mod daemon;
mod event_trace;
mod fetch;
mod host_labels;
mod listen;
mod names;
mod options;
mod own_metrics;
mod requests;
mod rule_engines;
mod socket;
mod startup;
mod startup_pages;
mod statistics;

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::Path;

pub use daemon::BuiltIn;
pub use options::USAGE;

use crate::daemon::Daemon;
use crate::options::{Command, Options};
use crate::startup::{StartError, load_config};

/// Runs the daemon with the words behind its name, and the agents that `dso` lines of its configuration may mean. The result is
/// the exit status.
pub fn run(args: &[String], built_in: BuiltIn) -> u8 {
    let options = match options::parse(args) {
        Ok(Command::Help) => {
            print!("{USAGE}");
            return 0;
        }
        Ok(Command::Run(options)) => *options,
        Err(error) => {
            eprintln!("pmcd: {error}\n{USAGE}");
            return 1;
        }
    };
    let ended = if options.verify {
        verify(&options)
    } else {
        start(options, built_in)
    };
    match ended {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("pmcd: {error}");
            1
        }
    }
}

fn verify(options: &Options) -> Result<(), StartError> {
    let (_, errors) = load_config(options)?;
    if errors.is_empty() {
        return Ok(());
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Err(StartError::Config(errors.join("\n")))
}

fn start(options: Options, built_in: BuiltIn) -> Result<(), StartError> {
    let log = options.log.clone();
    if !options.foreground {
        return in_background(&options);
    }
    // The log takes everything that the daemon and its agents say. Without one they say it where they are.
    if let Err(error) = log_to(&log) {
        eprintln!(
            "pmcd: {}: {error}; the log is standard error",
            log.display()
        );
    }
    more_descriptors();
    let daemon = Daemon::new(options, built_in)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    let ready = || {
        eprintln!("pmcd: PID = {}, serving", std::process::id());
    };
    // What is waited for here is looked at whenever anything happens.
    let running = tasks.run_until(async { tokio::task::spawn_local(daemon.run(ready)).await });
    runtime
        .block_on(running)
        .map_err(|error| StartError::Io(std::io::Error::other(error)))?
}

/// As many clients as the system allows, not as many as select(2) can tell apart.
fn more_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn log_to(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    nix::unistd::dup2_stdout(file.as_fd())?;
    nix::unistd::dup2_stderr(file.as_fd())?;
    Ok(())
}

/// Starts the daemon as a process of its own, and returns when it serves.
fn in_background(options: &Options) -> Result<(), StartError> {
    use std::os::unix::process::CommandExt;
    let program = std::env::current_exe()?;
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().map(String::as_str) != Some("pmcd") {
        words.insert(0, "pmcd".to_owned());
    }
    words.push("-f".to_owned());
    let mut child = std::process::Command::new(program)
        .args(words)
        .stdin(std::process::Stdio::null())
        .process_group(0)
        .spawn()?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::os::unix::net::UnixStream::connect(&options.socket).is_err() {
        if let Some(status) = child.try_wait()? {
            return Err(StartError::Listen(format!(
                "the daemon ended ({status}), see {}",
                options.log.display()
            )));
        }
        if std::time::Instant::now() > deadline {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}
