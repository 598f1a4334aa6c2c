//! Agents of Performance Co-Pilot, as programs that a pmcd starts with a pair of pipes or connects to, or in a pmcd's own
//! process. Each has the names, identifiers and meanings of PCP's agent of that name.

mod linux;
pub mod logger;
pub mod mmv;
mod options;
mod proc;
mod sample;
mod simple;
mod table;
mod trivial;

use std::io;
use std::path::{Path, PathBuf};

use pmda::{Agent, Help};

use options::Options;

/// An agent to be asked, or what is wrong with its arguments or its configuration.
type Opened = Result<Box<dyn Agent>, String>;

/// An agent by the name of PCP's program.
struct Entry {
    name: &'static str,
    /// The domain unless said otherwise.
    domain: u32,
    /// What its arguments are, beside the options that all have.
    usage: &'static str,
    open: fn(&Options, &Path) -> Opened,
}

const AGENTS: &[Entry] = &[
    Entry {
        name: "pmdalinux",
        domain: linux::DOMAIN,
        usage: "[-A]",
        open: |options, folder| Ok(Box::new(linux::Linux::new(options.domain, folder))),
    },
    Entry {
        name: "pmdalogger",
        domain: logger::DOMAIN,
        usage: "[-m MEMORY] [-s INTERVAL] [CONFIGFILE]",
        open: open_logger,
    },
    Entry {
        name: "pmdammv",
        domain: mmv::DOMAIN,
        usage: "",
        open: |options, _| Ok(Box::new(mmv::Mmv::new(options.domain, mmv_folder()))),
    },
    Entry {
        name: "pmdaproc",
        domain: proc::DOMAIN,
        usage: "[-A]",
        open: |options, folder| Ok(Box::new(proc::Proc::new(options.domain, folder))),
    },
    Entry {
        name: "pmdasample",
        domain: sample::DOMAIN,
        usage: "",
        open: |options, folder| {
            let (domain, in_daemon) = (options.domain, options.in_daemon);
            Ok(Box::new(sample::Sample::new(domain, folder, in_daemon)))
        },
    },
    Entry {
        name: "pmdasimple",
        domain: simple::DOMAIN,
        usage: "",
        open: |options, folder| Ok(Box::new(simple::Simple::new(options.domain, folder))),
    },
    Entry {
        name: "pmdatrivial",
        domain: trivial::DOMAIN,
        usage: "",
        open: |options, folder| Ok(Box::new(trivial::Trivial::new(options.domain, folder))),
    },
];

/// The agents by the names of PCP's programs.
pub const NAMES: &[&str] = &{
    let mut names = [""; AGENTS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = AGENTS[at].name;
        at += 1;
    }
    names
};

/// The agent of that name with the words of its command line, to be asked in this process; `None` when there is no such agent.
///
/// # Errors
/// What is wrong with its arguments or its configuration.
#[must_use]
pub fn open(name: &str, args: &[String]) -> Option<Result<Box<dyn Agent>, String>> {
    let entry = AGENTS.iter().find(|a| a.name == name)?;
    let options = options::parse(args, entry.domain);
    Some(options.and_then(|options| (entry.open)(&options, &agent_folder(name))))
}

/// The agent that a `dso` line of pmcd's configuration means, by the function of PCP's shared object that it names: `linux_init`
/// is pmdalinux. `None` when there is no such agent.
///
/// # Errors
/// What is wrong with its configuration.
#[must_use]
pub fn built_in(entry: &str, domain: u32) -> Option<Result<Box<dyn Agent>, String>> {
    let name = format!("pmda{}", entry.strip_suffix("_init")?);
    let entry = AGENTS.iter().find(|a| a.name == name)?;
    let options = options::parse(&[], domain).map(|options| Options {
        in_daemon: true,
        ..options
    });
    Some(options.and_then(|options| (entry.open)(&options, &agent_folder(&name))))
}

/// Runs the agent of that name with the words behind it until its pmcd goes; `None` when there is no such agent. The
/// result is the exit status.
#[must_use]
pub fn run(name: &str, args: &[String]) -> Option<u8> {
    let entry = AGENTS.iter().find(|a| a.name == name)?;
    let options = match options::parse(args, entry.domain) {
        Ok(options) => options,
        Err(error) => {
            let usage = [options::USAGE, entry.usage].join(" ");
            eprintln!("{name}: {error}\nUsage: {name} {}", usage.trim_end());
            return Some(1);
        }
    };
    if let Some(log) = &options.log
        && let Err(error) = log_to(log)
    {
        eprintln!("{name}: {}: {error}", log.display());
    }
    let served = (entry.open)(&options, &agent_folder(name)).and_then(|mut agent| {
        pmda::serve_at(&mut *agent, &options.endpoint).map_err(|error| error.to_string())
    });
    Some(match served {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {error}");
            1
        }
    })
}

fn open_logger(options: &Options, folder: &Path) -> Opened {
    let default = folder.join("logger.conf");
    let config = options.words.first().map_or(default, PathBuf::from);
    let sources = logger::Logger::load(&config)?;
    let memory = options.memory.unwrap_or(logger::MEMORY);
    let interval = options.interval.unwrap_or(logger::INTERVAL);
    let logger = logger::Logger::new(options.domain, sources, memory, interval);
    Ok(Box::new(logger))
}

/// Where an agent's files are.
fn agent_folder(program: &str) -> PathBuf {
    let all = pcp::config("PCP_PMDAS_DIR").unwrap_or("/var/lib/pcp/pmdas".to_owned());
    Path::new(&all).join(program.trim_start_matches("pmda"))
}

/// Where instrumented programs have their files.
fn mmv_folder() -> PathBuf {
    let temporary = pcp::config("PCP_TMP_DIR").unwrap_or("/var/lib/pcp/tmp".to_owned());
    Path::new(&temporary).join("mmv")
}

/// The help texts that stand in an agent's folder; none when PCP is not installed.
fn help_in(folder: &Path) -> Help {
    Help::open(&folder.join("help")).unwrap_or_default()
}

fn log_to(path: &Path) -> io::Result<()> {
    let file = std::fs::File::create(path)?;
    nix::unistd::dup2_stderr(&file)?;
    Ok(())
}
