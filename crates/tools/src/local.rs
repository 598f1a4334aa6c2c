//! Local contexts (`PM_CONTEXT_LOCAL`, the option `-L`): agents asked without the host's pmcd.
//!
//! PCP loads agents as shared objects into the client. Here a pmcd of its own, which only this process knows, asks the
//! built-in agents of the same names.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pcp::{Context, ErrorCode};

/// How long the daemon may take to start.
const START: Duration = Duration::from_secs(20);

/// The daemon that was started, and its folder.
static DAEMON: Mutex<Option<(Child, PathBuf)>> = Mutex::new(None);

/// An agent of the table: its domain, the shared object that PCP would load, and the function of it that PCP would call first.
struct Agent {
    domain: u32,
    object: PathBuf,
    function: String,
}

impl Agent {
    /// Whether it is of a domain, or of a shared object.
    fn is(&self, domain: Option<u32>, object: &str) -> bool {
        domain == Some(self.domain) || (!object.is_empty() && self.object == Path::new(object))
    }
}

/// A domain in an option `-K`; as with strtol(3) blanks may stand ahead.
fn number(text: &str) -> Option<u32> {
    text.trim_start().parse().ok()
}

/// The agents of the options `-K`, each `clear`, `add,DOMAIN,OBJECT,FUNCTION` or `del,DOMAIN,OBJECT`, where one of the
/// two of `del` will do (pmSpecLocalPMDA(3)); they begin with those that pmcd.conf has as shared objects.
fn table(specs: &[String]) -> Vec<Agent> {
    let path = pcp::config("PCP_PMCDCONF_PATH");
    let text = path.and_then(|path| std::fs::read_to_string(path).ok());
    let mut agents = Vec::new();
    for line in text.as_deref().unwrap_or("").lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The system's own agent is a program for pmcd and a shared object for others.
        let (domain, object, function) = match words.as_slice() {
            [_, domain, "dso", function, object, ..] => {
                (domain, (*object).to_owned(), (*function).to_owned())
            }
            ["linux", domain, "pipe", ..] => {
                (domain, "pmda_linux.so".to_owned(), "linux_init".to_owned())
            }
            _ => continue,
        };
        if let Ok(domain) = domain.parse() {
            agents.push(Agent {
                domain,
                object: object.into(),
                function,
            });
        }
    }
    for spec in specs {
        let words: Vec<&str> = spec.split(',').collect();
        match words.as_slice() {
            ["clear"] => agents.clear(),
            ["del", domain, rest @ ..] => {
                let object = rest.first().copied().unwrap_or_default();
                agents.retain(|agent| !agent.is(number(domain), object));
            }
            ["add", domain, object, rest @ ..] => {
                if let Some(domain) = number(domain) {
                    agents.push(Agent {
                        domain,
                        object: object.into(),
                        function: rest.first().copied().unwrap_or_default().to_owned(),
                    });
                }
            }
            _ => {}
        }
    }
    agents
}

/// Checks one more of the options `-K`.
///
/// # Errors
/// What is wrong with it, in PCP's words.
pub fn check(specs: &[String], spec: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what} in spec"));
    if let Some(rest) = spec.strip_prefix("clear") {
        return match rest {
            "" => Ok(()),
            _ => wrong("unexpected text after clear op"),
        };
    }
    let add = spec.starts_with("add");
    if !add && !spec.starts_with("del") {
        return wrong("bad op");
    }
    let Some(rest) = spec.get(3..).and_then(|rest| rest.strip_prefix(',')) else {
        return wrong("expected , after op");
    };
    let mut parts = rest.split(',');
    let domain = parts.next().unwrap_or_default();
    let object = parts.next();
    if domain.is_empty() && (add || object.is_none()) {
        return wrong("missing domain");
    }
    if domain.is_empty() && object == Some("") {
        return wrong("missing domain and dso-path");
    }
    // The greatest is that of dynamic metrics.
    let number = number(domain).filter(|number| *number < 511);
    if number.is_none() && !domain.is_empty() {
        return wrong("bad domain");
    }
    if !add {
        let object = object.unwrap_or_default();
        let known = table(specs).iter().any(|agent| agent.is(number, object));
        return match known {
            true => Ok(()),
            false => Err(format!("__pmLocalPMDA: {}", ErrorCode::INDOM)),
        };
    }
    let Some(object) = object else {
        return wrong("missing dso-path");
    };
    match (object, parts.next()) {
        ("", None) => wrong("missing dso-path"),
        // An object without a name is looked for, and not found.
        ("", Some(_)) => Ok(()),
        (_, None | Some("")) => wrong("missing init-routine"),
        _ => Ok(()),
    }
}

/// A shared object's agent: `pmda_linux.so`, or one whose function is `linux_init`, is that of `pmdalinux`.
fn program(agent: &Agent) -> Option<String> {
    let by_object = agent.object.file_stem().and_then(|name| name.to_str());
    let by_object = by_object.and_then(|name| name.strip_prefix("pmda_"));
    let name = by_object.or(agent.function.strip_suffix("_init"))?;
    Some(format!("pmda{name}"))
}

/// A folder that was not there before: what somebody else has put where it would be must not become our configuration.
fn new_folder() -> io::Result<PathBuf> {
    const ATTEMPTS: u32 = 1000;
    let mut number = 0;
    loop {
        let name = format!("spile-local-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < ATTEMPTS => {
                number += 1;
            }
            made => return made.map(|()| folder),
        }
    }
}

/// Opens a context over the agents of `-K`, with the names of `-n` or those of the host.
///
/// # Errors
/// What starting the daemon says, and `PM_ERR_TIMEOUT` when it does not start.
pub fn open(specs: &[String], names: Option<&str>) -> pcp::Result<Context> {
    let own = std::env::current_exe()?;
    let folder = new_folder()?;
    let mut conf = String::new();
    // Of pmcd's own metrics there is none, as with PCP's library.
    let mut domains = Vec::new();
    for agent in table(specs) {
        if let Some(what) = absent(&agent.object) {
            eprintln!("__pmConnectLocal: Warning: {what}");
            continue;
        }
        let Some(name) = program(&agent).filter(|name| name != "pmdapmcd") else {
            continue;
        };
        let domain = agent.domain;
        // Of several for a domain the first is asked.
        if domains.contains(&domain) {
            continue;
        }
        domains.push(domain);
        let log = folder.join(format!("{name}.log"));
        let _ = writeln!(
            conf,
            "{name}_{domain}\t{domain}\tpipe\tbinary\t{} {name} -d {domain} -l {}",
            own.display(),
            log.display()
        );
    }
    let file = |name: &str| folder.join(name);
    std::fs::write(file("pmcd.conf"), conf)?;
    let socket = file("socket");
    let mut command = Command::new(&own);
    if let Some(names) = names {
        command.args(["pmcd", "-n", names]);
    } else {
        command.arg("pmcd");
    }
    let child = command
        .args(["-f", "-i", "127.0.0.1", "-p", "0", "-c"])
        .arg(file("pmcd.conf"))
        .arg("-s")
        .arg(&socket)
        .arg("-l")
        .arg(file("pmcd.log"))
        .env("PCP_RUN_DIR", &folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Ok(mut daemon) = DAEMON.lock() {
        *daemon = Some((child, folder));
    }
    let begun = Instant::now();
    let spec = format!("unix:{}", socket.display());
    loop {
        match Context::host(&spec) {
            Ok(mut context) => {
                if let Context::Host(host) = &mut context {
                    host.use_agents(domains);
                }
                return Ok(context);
            }
            Err(error) if has_ended() => return Err(error),
            Err(_) if begun.elapsed() < START => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return Err(ErrorCode::TIMEOUT.into()),
        }
    }
}

/// What PCP's library says of a shared object that is not where its full name has it. Others are looked for in PCP's
/// folders, and need not be there: the agent is our own.
fn absent(object: &Path) -> Option<String> {
    if object.as_os_str().is_empty() {
        return Some("cannot find DSO at \"(null).so\" or \"(null)\"".to_owned());
    }
    let mut with_suffix = object.as_os_str().to_owned();
    with_suffix.push(".so");
    if !object.is_absolute() || object.exists() || Path::new(&with_suffix).exists() {
        return None;
    }
    let (one, other) = (with_suffix.display(), object.display());
    Some(format!("cannot find DSO at \"{one}\" or \"{other}\""))
}

/// Whether the daemon is there no more.
fn has_ended() -> bool {
    let Ok(mut daemon) = DAEMON.lock() else {
        return true;
    };
    match daemon.as_mut().map(|(child, _)| child.try_wait()) {
        Some(Ok(None)) => false,
        Some(_) | None => true,
    }
}

/// Ends the daemon, if there is one.
pub fn stop() {
    let Ok(mut daemon) = DAEMON.lock() else {
        return;
    };
    if let Some((mut child, folder)) = daemon.take() {
        let pid = i32::try_from(child.id()).unwrap_or(0);
        // Its agents end with it.
        let asked = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGTERM,
        );
        let ended: io::Result<_> = match asked {
            Ok(()) => child.wait(),
            Err(_) => child.kill().and_then(|()| child.wait()),
        };
        let _ = ended.and_then(|_| std::fs::remove_dir_all(folder));
    }
}
