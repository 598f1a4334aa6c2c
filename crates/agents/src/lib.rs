//! Agents of Performance Co-Pilot, as programs that a pmcd starts with a pair of pipes. Each has the names, identifiers
//! and meanings of PCP's agent of that name.

mod simple;
mod trivial;

use std::io;
use std::path::{Path, PathBuf};

use pmda::Help;

/// The agents by the names of PCP's programs.
pub const NAMES: &[&str] = &["pmdasimple", "pmdatrivial"];

/// The options that every agent has (PMDA(3)).
struct Options {
    /// `-d`: the domain.
    domain: u32,
    /// `-l`: the log file, which standard error is otherwise.
    log: Option<PathBuf>,
}

/// Runs the agent of that name with the words behind it until its pmcd goes; `None` when there is no such agent. The
/// result is the exit status.
#[must_use]
pub fn run(name: &str, args: &[String]) -> Option<u8> {
    let default = match name {
        "pmdasimple" => simple::DOMAIN,
        "pmdatrivial" => trivial::DOMAIN,
        _ => return None,
    };
    let options = match parse(args, default) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{name}: {error}\nUsage: {name} [-d DOMAIN] [-l LOGFILE] [-U USER]");
            return Some(1);
        }
    };
    if let Some(log) = &options.log
        && let Err(error) = log_to(log)
    {
        eprintln!("{name}: {}: {error}", log.display());
    }
    let folder = agent_folder(name.trim_start_matches("pmda"));
    let served = match name {
        "pmdasimple" => pmda::serve(&mut simple::Simple::new(options.domain, &folder)),
        _ => pmda::serve(&mut trivial::Trivial::new(options.domain, &folder)),
    };
    Some(match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    })
}

/// Where an agent's files are.
fn agent_folder(name: &str) -> PathBuf {
    let all = pcp::config("PCP_PMDAS_DIR").unwrap_or("/var/lib/pcp/pmdas".to_owned());
    Path::new(&all).join(name)
}

/// The help texts that stand in an agent's folder; none when PCP is not installed.
fn help_in(folder: &Path) -> Help {
    Help::open(&folder.join("help")).unwrap_or_default()
}

fn parse(args: &[String], domain: u32) -> Result<Options, String> {
    let mut options = Options { domain, log: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (letter, value) = match arg.strip_prefix('-').map(|a| a.split_at(a.len().min(1))) {
            Some((letter, value)) if "dlU".contains(letter) && !letter.is_empty() => {
                (letter, value)
            }
            _ => return Err(format!("unexpected word '{arg}'")),
        };
        let value = if value.is_empty() {
            let next = args.next().map(String::as_str);
            next.ok_or(format!("option requires an argument -- '{letter}'"))?
        } else {
            value
        };
        match letter {
            "d" => {
                let number = value.parse().ok().filter(|d| (1..511).contains(d));
                options.domain = number.ok_or(format!("-d {value}: a domain was due"))?;
            }
            "l" => options.log = Some(value.into()),
            // An agent runs as whoever started it.
            _ => {}
        }
    }
    Ok(options)
}

fn log_to(path: &Path) -> io::Result<()> {
    let file = std::fs::File::create(path)?;
    nix::unistd::dup2_stderr(&file)?;
    Ok(())
}
