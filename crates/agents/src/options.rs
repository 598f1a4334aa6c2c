//! The command line of an agent (PMDA(3)).

use std::path::PathBuf;
use std::time::Duration;

use pmda::Endpoint;

/// What the usage says of options that agents share, in the words of PCP's.
pub mod rows {
    /// `-d`
    pub const DOMAIN: &str =
        "  -d NUM, --domain=NUM  use domain (numeric) for metrics domain of PMDA\n";
    /// `-l`
    pub const LOG: &str =
        "  -l FILE, --log=FILE   write log to FILE rather than using default log name\n";
    /// `-U`
    pub const USER: &str = "  -U USER, --username=USER
                        run the PMDA using the named user account\n";
    /// `-?`
    pub const HELP: &str = "  -?, --help            show this usage message and exit\n";
    /// How it meets its pmcd.
    pub const ENDPOINTS: &str = "
Exactly one of the following options may appear:
  -i PORT, --inet=PORT  pmcd IPv4 connection service name or numeric port
  -p, --pipe            use a pipe for communication with pmcd
  -u FILE, --unix=FILE  use a unix domain socket for communication with pmcd
  -6 PORT, --ipv6=PORT  pmcd IPv6 connection service name or numeric port\n";
}

/// Long names of options and their letters.
const LONG: [(&str, char); 12] = [
    ("domain", 'd'),
    ("log", 'l'),
    ("username", 'U'),
    ("help", '?'),
    ("debug", 'D'),
    ("inet", 'i'),
    ("pipe", 'p'),
    ("unix", 'u'),
    ("ipv6", '6'),
    ("no-access-checks", 'A'),
    ("with-threads", 'L'),
    ("from-cgroup", 'r'),
];

/// Why a command line is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The usage was asked for.
    Help,
    /// What is wrong.
    Said(String),
}

impl From<String> for Wrong {
    fn from(text: String) -> Wrong {
        Wrong::Said(text)
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Wrong::Help => f.write_str("usage"),
            Wrong::Said(text) => f.write_str(text),
        }
    }
}

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
pub fn parse(args: &[String], domain: u32, own: &str) -> Result<Options, Wrong> {
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
        let (mut short, mut long_value) = (letters.to_owned(), None);
        if let Some(long) = letters.strip_prefix('-') {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let taken = |letter: char| "dlUD?i6up".contains(letter) || own.contains(letter);
            let mut all = LONG.iter().filter(|(_, letter)| taken(*letter));
            let same = all.clone().find(|(full, _)| *full == name);
            // A name may be shortened as long as it is the only one.
            let begins = |(full, _): &&(&str, char)| full.starts_with(name);
            let only = all.clone().filter(begins).count() == 1;
            let Some((full, letter)) = same.or_else(|| all.find(|l| only && begins(l))) else {
                return Err(format!("unrecognized option '--{long}'").into());
            };
            if value.is_none() && !"?pAL".contains(*letter) && args.as_slice().is_empty() {
                return Err(format!("option '--{full}' requires an argument").into());
            }
            (short, long_value) = (letter.to_string(), value);
        }
        let mut chars = short.chars();
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
                ('?', _) => return Err(Wrong::Help),
                ('d' | 'l' | 'U' | 'D' | 'i' | '6' | 'u' | 'm' | 's', _) => {
                    break Some((letter, false));
                }
                _ => return Err(format!("invalid option -- '{letter}'").into()),
            }
        };
        let Some((letter, own_value)) = with_value else {
            continue;
        };
        let value = if let Some(value) = &long_value {
            value
        } else if chars.as_str().is_empty() {
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
                options.domain = number.ok_or("-d requires numeric domain number".to_owned())?;
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
