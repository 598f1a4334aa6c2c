//! Agents of Performance Co-Pilot, as programs that a pmcd starts with a pair of pipes or connects to, or in a pmcd's own
//! process. Each has the names, identifiers and meanings of PCP's agent of that name.

mod linux;
pub mod logger;
pub mod mmv;
pub mod openmetrics;
mod options;
pub mod proc;
mod sample;
mod simple;
mod table;
mod trivial;

use std::io;
use std::path::{Path, PathBuf};

use pmda::{Agent, Help};

use options::rows::{DOMAIN, ENDPOINTS, HELP, LOG, USER};
use options::{Options, Wrong};

/// An agent to be asked, or what is wrong with its arguments or its configuration.
type Opened = Result<Box<dyn Agent>, String>;

/// An agent by the name of PCP's program.
struct Entry {
    name: &'static str,
    /// The domain unless said otherwise.
    domain: u32,
    /// What stands behind its options, with a space ahead of it.
    words: &'static str,
    /// What the usage says of its options.
    rows: &'static [&'static str],
    /// Options of its own: letters, those with a value followed by a colon.
    own: &'static str,
    open: fn(&Options, &Path) -> Opened,
}

const NO_CHECKS: &str = "  -A, --no-access-checks
                        no access checks will be performed (insecure, beware!)\n";
const THREADS: &str =
    "  -L, --with-threads    include threads in the all-processes instance domain\n";
const CGROUP: &str = "  -r NAME, --from-cgroup=NAME
                        restrict monitoring to processes in the named cgroup\n";
const LOGGER: &str = "  -d domain    use domain (numeric) for metrics domain of PMDA
  -l logfile   write log into logfile rather than the default
  -m memory    maximum memory used per logfile (default 2097152 bytes)
  -s interval  default delay between iterations (default 2 sec)
  -U username  user account to run under (default \"pcp\")\n";
const OPENMETRICS: &str = "  -c DIR                directory of the files that name sources
  -D                    log what is asked for and what came
  -n                    take the files in the order of the directory
  -r NAME               root of all names
  -t SECONDS            how long a source may take\n";

const AGENTS: &[Entry] = &[
    Entry {
        name: "pmdalinux",
        domain: linux::DOMAIN,
        words: "",
        rows: &[NO_CHECKS, DOMAIN, LOG, USER, HELP],
        own: "A",
        open: |options, folder| {
            let all_are_root = options.own.iter().any(|(letter, _)| *letter == 'A');
            let agent = linux::Linux::new(options.domain, folder, all_are_root);
            Ok(Box::new(agent))
        },
    },
    Entry {
        name: "pmdalogger",
        domain: logger::DOMAIN,
        words: " configfile",
        rows: &[LOGGER],
        own: "",
        open: open_logger,
    },
    Entry {
        name: "pmdammv",
        domain: mmv::DOMAIN,
        words: "",
        rows: &[DOMAIN, LOG, USER, HELP],
        own: "",
        open: |options, _| Ok(Box::new(mmv::Mmv::new(options.domain, mmv_folder()))),
    },
    Entry {
        name: "pmdaopenmetrics",
        domain: openmetrics::DOMAIN,
        words: "",
        rows: &[DOMAIN, LOG, OPENMETRICS, HELP],
        own: "Dnc:r:t:u:",
        open: open_openmetrics,
    },
    Entry {
        name: "pmdaproc",
        domain: proc::DOMAIN,
        words: "",
        rows: &[NO_CHECKS, DOMAIN, LOG, THREADS, CGROUP, USER, HELP],
        own: "ALr:",
        open: open_proc,
    },
    Entry {
        name: "pmdasample",
        domain: sample::DOMAIN,
        words: "",
        rows: &[DOMAIN, LOG, USER, HELP, ENDPOINTS],
        own: "",
        open: |options, folder| {
            let (domain, in_daemon) = (options.domain, options.in_daemon);
            Ok(Box::new(sample::Sample::new(domain, folder, in_daemon)))
        },
    },
    Entry {
        name: "pmdasimple",
        domain: simple::DOMAIN,
        words: "",
        rows: &[DOMAIN, LOG, USER, HELP, ENDPOINTS],
        own: "",
        open: |options, folder| Ok(Box::new(simple::Simple::new(options.domain, folder))),
    },
    Entry {
        name: "pmdatrivial",
        domain: trivial::DOMAIN,
        words: "",
        rows: &[DOMAIN, LOG, USER, HELP],
        own: "",
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
    let options = options::parse(args, entry.domain, entry.own);
    let options = options.map_err(|wrong| wrong.to_string());
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
    let options = options::parse(&[], domain, entry.own).map(|options| Options {
        in_daemon: true,
        ..options
    });
    let options = options.map_err(|wrong| wrong.to_string());
    Some(options.and_then(|options| (entry.open)(&options, &agent_folder(&name))))
}

/// Runs the agent of that name with the words behind it until its pmcd goes; `None` when there is no such agent. The
/// result is the exit status.
#[must_use]
pub fn run(name: &str, args: &[String]) -> Option<u8> {
    let entry = AGENTS.iter().find(|a| a.name == name)?;
    let options = match options::parse(args, entry.domain, entry.own) {
        Ok(options) => options,
        Err(wrong) => {
            if let Wrong::Said(what) = wrong {
                eprintln!("{name}: {what}");
            }
            let rows = entry.rows.concat();
            eprint!("Usage: {name} [options]{}\n\nOptions:\n{rows}", entry.words);
            return Some(1);
        }
    };
    if let Some(log) = options.log.as_ref().filter(|l| l.as_os_str() != "-")
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

fn open_proc(options: &Options, folder: &Path) -> Opened {
    let own = |letter| options.own.iter().rev().find(|(l, _)| *l == letter);
    let settings = proc::Settings {
        all_are_root: own('A').is_some(),
        threads: own('L').is_some(),
        cgroup: own('r').map(|(_, group)| group.clone()),
    };
    let agent = proc::Proc::new(options.domain, folder, settings);
    Ok(Box::new(agent))
}

fn open_openmetrics(options: &Options, folder: &Path) -> Opened {
    if options.in_daemon {
        return Err("sources may keep it waiting: it runs as a program only".to_owned());
    }
    let own = |letter| {
        let given = options.own.iter().rev().find(|(l, _)| *l == letter);
        given.map(|(_, value)| value.as_str())
    };
    let root = own('r').unwrap_or("openmetrics");
    let folder = match own('r') {
        Some(root) => folder.with_file_name(root),
        None => folder.to_owned(),
    };
    let seconds: f64 = own('t')
        .unwrap_or("2")
        .parse()
        .ok()
        .filter(|t| (0.001..3600.0).contains(t))
        .ok_or("-t: a number of seconds was due")?;
    Ok(Box::new(openmetrics::OpenMetrics::new(
        openmetrics::Settings {
            domain: options.domain,
            config: own('c').map_or(folder.join("config.d"), PathBuf::from),
            root: root.to_owned(),
            timeout: std::time::Duration::from_secs_f64(seconds),
            sorted: own('n').is_none(),
            debug: own('D').is_some(),
            kept: openmetrics::kept_in(),
        },
    )))
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
