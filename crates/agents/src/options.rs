//! The command line of an agent (PMDA(3)).

use std::path::PathBuf;
use std::time::Duration;

use pmda::Endpoint;

/// What all agents take.
pub const USAGE: &str = "[-d DOMAIN] [-l LOGFILE] [-U USER] [-p | -i PORT | -6 PORT | -u SOCKET]";

/// A command line's meaning.
pub struct Options {
    /// `-d`: the domain.
    pub domain: u32,
    /// `-l`: the log file, which standard error is otherwise.
    pub log: Option<PathBuf>,
    /// `-p`, `-i`, `-6`, `-u`: where its pmcd is met.
    pub endpoint: Endpoint,
    /// `-m`: bytes of memory for something.
    pub memory: Option<usize>,
    /// `-s`: how often something is looked at.
    pub interval: Option<Duration>,
    /// Whether it runs in its pmcd's process.
    pub in_daemon: bool,
    /// Options of this agent alone, with their values.
    pub own: Vec<(char, String)>,
    /// What is not an option.
    pub words: Vec<String>,
}

/// Reads the words behind an agent's name. `own` are letters of further options, or of others with the same letter; those with a
/// value are followed by a colon.
///
/// # Errors
/// What is wrong with them.
pub fn parse(args: &[String], domain: u32, own: &str) -> Result<Options, String> {
    let mut options = Options {
        domain,
        log: None,
        endpoint: Endpoint::Pipe,
        memory: None,
        interval: None,
        in_daemon: false,
        own: Vec::new(),
        words: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) else {
            options.words.push(arg.clone());
            continue;
        };
        if letters == "-" {
            options.words.extend(args.cloned());
            break;
        }
        let mut chars = letters.chars();
        // Letters without a value may stand together.
        let with_value = loop {
            let Some(letter) = chars.next() else {
                break None;
            };
            let own_at = own.find(letter).filter(|_| letter != ':');
            let own_value = own_at.map(|at| own.get(at + 1..).is_some_and(|o| o.starts_with(':')));
            match (letter, own_value) {
                (_, Some(true)) => break Some((letter, true)),
                (_, Some(false)) => options.own.push((letter, String::new())),
                ('p', _) => options.endpoint = Endpoint::Pipe,
                ('d' | 'l' | 'U' | 'D' | 'i' | '6' | 'u' | 'm' | 's', _) => {
                    break Some((letter, false));
                }
                _ => return Err(format!("invalid option -- '{letter}'")),
            }
        };
        let Some((letter, own_value)) = with_value else {
            continue;
        };
        let value = if chars.as_str().is_empty() {
            let next = args.next().map(String::as_str);
            next.ok_or(format!("option requires an argument -- '{letter}'"))?
        } else {
            chars.as_str()
        };
        let due = |what: &str| format!("-{letter} {value}: {what} was due");
        let port = || value.parse().ok().filter(|p| *p > 0);
        match letter {
            letter if own_value => options.own.push((letter, value.to_owned())),
            'd' => {
                let number = value.parse().ok().filter(|d| (1..511).contains(d));
                options.domain = number.ok_or(due("a domain"))?;
            }
            'l' => options.log = Some(value.into()),
            'i' => options.endpoint = Endpoint::Inet(port().ok_or(due("a port's number"))?),
            '6' => options.endpoint = Endpoint::Inet6(port().ok_or(due("a port's number"))?),
            'u' => options.endpoint = Endpoint::Unix(value.into()),
            'm' => options.memory = Some(memory(value).ok_or(due("a number of bytes"))?),
            's' => {
                let interval = pcp::timewindow::interval(value).map_err(|e| e.to_string())?;
                options.interval = Some(Duration::from_secs_f64(interval.as_secs_f64().max(0.0)));
            }
            // An agent runs as whoever started it, and has no trace.
            _ => {}
        }
    }
    Ok(options)
}

/// Bytes, or with a letter behind the number kilobytes, megabytes or gigabytes.
fn memory(text: &str) -> Option<usize> {
    let (number, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (text.get(..at)?, 10),
        (at, 'm' | 'M') => (text.get(..at)?, 20),
        (at, 'g' | 'G') => (text.get(..at)?, 30),
        _ => (text, 0),
    };
    let number: usize = number.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}
