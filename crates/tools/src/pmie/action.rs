//! What rules do when their condition is true.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use pcp::timezone::Zone;
use pcp::{Timestamp, config};

use super::ast::Action;
use super::eval::Binding;
use super::source::Sources;

/// Does actions.
pub struct Actor {
    /// Whether actions are only told of, as for archives.
    pub pretend: bool,
    /// In which times are told.
    pub zone: Zone,
    /// Where the configuration for the stomp action is.
    pub stomp: Option<String>,
    done: HashMap<usize, Timestamp>,
}

impl Actor {
    /// An actor that has done nothing yet.
    pub fn new(pretend: bool, zone: Zone, stomp: Option<String>) -> Actor {
        Actor {
            pretend,
            zone,
            stomp,
            done: HashMap::new(),
        }
    }

    /// Does an action; whether it succeeded.
    pub fn act(
        &mut self,
        action: &Action,
        bindings: &[Binding],
        sources: &Sources,
        time: Timestamp,
    ) -> bool {
        match action {
            Action::Both(first, second) => {
                let first = self.act(first, bindings, sources, time);
                self.act(second, bindings, sources, time) && first
            }
            Action::Either(first, second) => {
                self.act(first, bindings, sources, time)
                    || self.act(second, bindings, sources, time)
            }
            Action::One {
                verb,
                holdoff,
                texts,
                id,
            } => {
                if let (Some(holdoff), Some(last)) = (holdoff, self.done.get(id))
                    && time < *last + *holdoff
                {
                    return true;
                }
                self.done.insert(*id, time);
                let text: String = texts
                    .iter()
                    .map(|text| expand(text, bindings, sources))
                    .collect();
                let date = self.zone.civil(time.sec).ctime();
                if self.pretend {
                    println!("{verb} {date}: {text}");
                    return true;
                }
                match verb.as_str() {
                    "print" => {
                        println!("{date}: {text}");
                        true
                    }
                    "shell" => shell(&text),
                    "alarm" => alarm(&text),
                    "syslog" => syslog(&text, &date),
                    _ => stomp(&text, self.stomp.as_deref()).is_ok(),
                }
            }
        }
    }
}

/// Puts what the rule is true for in the place of `%h`, `%c`, `%i` and `%v`: the whole text once for each.
fn expand(text: &str, bindings: &[Binding], sources: &Sources) -> String {
    let selects = ["%h", "%c", "%i", "%v"].iter().any(|s| text.contains(s));
    if !selects {
        return text.to_owned();
    }
    let mut out = String::new();
    for binding in bindings {
        let host = binding.host.and_then(|h| sources.host(h));
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let (before, tail) = rest.split_at(at);
            out.push_str(before);
            let mut consumed = 2;
            match tail.as_bytes().get(1) {
                Some(b'h') => out.push_str(host.map_or("<%h undefined>", |h| &h.name)),
                Some(b'c') => out.push_str(host.map_or("", |h| &h.spec)),
                Some(b'i') => match &binding.inst {
                    Some(inst) => _ = write!(out, "{inst}"),
                    None => out.push_str("<%i undefined>"),
                },
                Some(b'v') => out.push_str(&binding.shown()),
                _ => {
                    out.push('%');
                    consumed = 1;
                }
            }
            rest = tail.get(consumed..).unwrap_or("");
        }
        out.push_str(rest);
    }
    out
}

/// A command as the manual page says that it is run: with its own `IFS` and `PATH`.
fn command(text: &str) -> Command {
    let mut path = "/usr/sbin:/sbin:/usr/bin:/bin".to_owned();
    for variable in ["PCP_BIN_DIR", "PCP_BINADM_DIR", "PCP_PLATFORM_PATHS"] {
        if let Some(more) = config(variable).filter(|more| !more.is_empty()) {
            path.push(':');
            path.push_str(&more);
        }
    }
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(text)
        .env("IFS", "\t\n")
        .env("PATH", path);
    command
}

fn shell(text: &str) -> bool {
    // What was printed comes before what the command prints.
    let _ = std::io::stdout().flush();
    command(text).status().is_ok_and(|status| status.success())
}

fn alarm(text: &str) -> bool {
    let program = config("PCP_XCONFIRM_PROG").unwrap_or_else(|| "/usr/bin/pmconfirm".to_owned());
    let spawned = Command::new(program)
        .args([
            "-header",
            "Performance Co-Pilot",
            "-icon",
            "info",
            "-t",
            text,
        ])
        .spawn();
    match spawned {
        Ok(mut child) => {
            // A dialogue stays until somebody answers it.
            std::thread::spawn(move || child.wait());
            true
        }
        Err(_) => false,
    }
}

const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("security", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

const PRIORITIES: [(&str, u8); 11] = [
    ("emerg", 0),
    ("panic", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("error", 3),
    ("warning", 4),
    ("warn", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];

/// The number of `facility.priority` as syslog(3) has it.
fn priority(text: &str) -> Option<u8> {
    let (facility, level) = text.split_once('.').unwrap_or(("user", text));
    let find = |list: &[(&str, u8)], word: &str| {
        list.iter().find(|(name, _)| *name == word).map(|(_, n)| *n)
    };
    Some(find(&FACILITIES, facility)? * 8 + find(&PRIORITIES, level)?)
}

/// Appends to the system's log. `-p` and `-t` at the start say priority and tag, as for logger(1).
fn syslog(text: &str, date: &str) -> bool {
    let (mut level, mut tag) = (priority("daemon.info").unwrap_or(30), "pcp-pmie".to_owned());
    let mut rest = text.trim_start();
    while let Some(option) = ["-p", "-t"].into_iter().find(|o| rest.starts_with(*o)) {
        let after = rest.get(2..).unwrap_or("").trim_start();
        let (word, behind) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        if option == "-p" {
            level = priority(word).unwrap_or(level);
        } else {
            tag = word.to_owned();
        }
        rest = behind.trim_start();
    }
    // Without the day of the week and the year.
    let date = date.get(4..19).unwrap_or("");
    let pid = std::process::id();
    let message = format!("<{level}>{date} {tag}[{pid}]: {rest}");
    UnixDatagram::unbound()
        .and_then(|socket| socket.send_to(message.as_bytes(), "/dev/log"))
        .is_ok()
}

/// Where the configuration of the stomp action is.
pub fn stomp_configuration(file: Option<&str>) -> String {
    file.map_or_else(
        || {
            let folder = config("PCP_VAR_DIR").unwrap_or_else(|| "/var/lib/pcp".to_owned());
            format!("{folder}/config/pmie/stomp")
        },
        str::to_owned,
    )
}

/// Sends a message to a server that speaks STOMP, as its configuration says.
fn stomp(text: &str, file: Option<&str>) -> std::io::Result<()> {
    let settings = std::fs::read_to_string(stomp_configuration(file))?;
    let setting = |name: &str| {
        settings
            .lines()
            .filter_map(|line| line.split('#').next()?.split_once('='))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    let missing = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let host = setting("host").ok_or_else(missing)?;
    let port: u16 = setting("port")
        .and_then(|p| p.parse().ok())
        .ok_or_else(missing)?;
    let user = setting("username").ok_or_else(missing)?;
    let password = setting("password").ok_or_else(missing)?;
    let topic = setting("topic").unwrap_or_else(|| "PMIE".to_owned());
    let seconds = setting("timeout").and_then(|t| t.parse().ok()).unwrap_or(2);
    let mut stream = TcpStream::connect((host.as_str(), port))?;
    stream.set_write_timeout(Some(Duration::from_secs(seconds)))?;
    stream.write_all(
        format!(
            "CONNECT\nlogin:{user}\npasscode:{password}\n\n\0\nSEND\ndestination:/topic/{topic}\n\n{text}\n\0\nDISCONNECT\n\n\0\n"
        )
        .as_bytes(),
    )
}
