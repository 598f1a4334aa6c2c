//! The command line of pmcd(1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcp::pdu::CLIENT_LIMIT;
use pcp::{PMCD_PORT, config, default_socket};

/// What to print for `-?` and behind mistakes.
pub const USAGE: &str = "\
Usage: pmcd [options]

Options:
  -A, --noadvertise        no service advertisement (there is none)
  -c, --config=FILE        configuration file
  -f, --foreground         stay in the foreground
  -H, --hostname=HOST      name of this host
  -i, --interface=ADDR     accept connections on this address only (again for more)
  -l, --log=FILE           log file
  -L BYTES                 longest PDU that a client may send [65536]
  -n, --namespace=FILE     name space file
  -N, --uniqnames=FILE     the same, a metric having one name at most
  -p, --port=PORT[,PORT]   accept connections on these ports [44321]
  -q SECONDS               wait so long for an agent's first words [5]
  -s, --socket=PATH        socket in the file system
  -Q, --remotecert         take clients of other hosts with a certificate only
  -S, --reqauth            take known users only
  -t SECONDS               wait so long for an agent's answer [5], 0 for ever
  -U, --username=USER      run as this user
  -v, --verify             check the configuration and end
  -?, --help               this text
";

/// What the daemon was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Whether to stay in the foreground.
    pub foreground: bool,
    /// The name of this host, if not its own.
    pub hostname: Option<String>,
    /// The addresses to listen on.
    pub interfaces: Vec<IpAddr>,
    /// The log file.
    pub log: PathBuf,
    /// Bytes of the longest PDU that a client may send.
    pub client_limit: usize,
    /// The name space file.
    pub pmns: PathBuf,
    /// Ports to listen on.
    pub ports: Vec<u16>,
    /// How long an agent may take to say its first words.
    pub hello_timeout: Duration,
    /// The socket in the file system.
    pub socket: PathBuf,
    /// Whether clients of other hosts need a certificate.
    pub require_certificates: bool,
    /// Whether only known users may connect.
    pub require_credentials: bool,
    /// Seconds for which an agent's answer is waited for, 0 for ever.
    pub timeout: u32,
    /// The kinds of events to keep for the log, a bit for each (`-T`).
    pub trace: u32,
    /// The user to run as.
    pub user: Option<String>,
    /// Whether only the configuration is to be checked.
    pub verify: bool,
}

fn directory(variable: &str, default: &str) -> PathBuf {
    config(variable)
        .unwrap_or_else(|| default.to_owned())
        .into()
}

impl Default for Options {
    /// What pcp.conf(5) and the environment say.
    fn default() -> Options {
        let ports = config("PMCD_PORT").unwrap_or_default();
        let mut ports: Vec<u16> = ports.split(',').filter_map(|p| p.parse().ok()).collect();
        if ports.is_empty() {
            ports.push(PMCD_PORT);
        }
        Options {
            config: directory("PCP_PMCDCONF_PATH", "/etc/pcp/pmcd/pmcd.conf"),
            foreground: false,
            hostname: None,
            interfaces: Vec::new(),
            log: directory("PCP_LOG_DIR", "/var/log/pcp").join("pmcd/pmcd.log"),
            client_limit: CLIENT_LIMIT,
            pmns: directory("PCP_VAR_DIR", "/var/lib/pcp").join("pmns/root"),
            ports,
            hello_timeout: Duration::from_secs(5),
            socket: default_socket(),
            require_certificates: false,
            require_credentials: false,
            timeout: 5,
            trace: 0,
            user: None,
            verify: false,
        }
    }
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// To serve, or to check the configuration.
    Run(Box<Options>),
    /// The usage text.
    Help,
}

/// Options with an argument, and their long names.
const LONG: &[(&str, char)] = &[
    ("noadvertise", 'A'),
    ("config", 'c'),
    ("foreground", 'f'),
    ("hostname", 'H'),
    ("interface", 'i'),
    ("log", 'l'),
    ("namespace", 'n'),
    ("uniqnames", 'N'),
    ("port", 'p'),
    ("socket", 's'),
    ("reqauth", 'S'),
    ("remotecert", 'Q'),
    ("username", 'U'),
    ("verify", 'v'),
    ("trace", 'T'),
    ("debug", 'D'),
    ("help", '?'),
];
const WITH_ARGUMENT: &str = "cHilLnNpqstTUxDCMP";
const WITHOUT: &str = "AfQSv?";

/// Parses the words behind the command's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(args: &[String]) -> Result<Command, String> {
    let mut options = Options::default();
    let mut ports = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut found: Vec<(char, Option<String>)> = Vec::new();
        if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let known = LONG.iter().find(|(n, _)| *n == name);
            let (_, letter) = known.ok_or(format!("unrecognized option '--{name}'"))?;
            found.push((*letter, value));
        } else if let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty()) {
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                if WITH_ARGUMENT.contains(letter) {
                    let value = Some(rest.as_str().to_owned()).filter(|v| !v.is_empty());
                    found.push((letter, value));
                    break;
                }
                found.push((letter, None));
            }
        } else {
            return Err(format!("unexpected argument '{arg}'"));
        }
        for (letter, value) in found {
            let mut value = value;
            if WITH_ARGUMENT.contains(letter) && value.is_none() {
                value = args.next().cloned();
                if value.is_none() {
                    return Err(format!("option requires an argument -- '{letter}'"));
                }
            } else if !WITH_ARGUMENT.contains(letter) && !WITHOUT.contains(letter) {
                return Err(format!("invalid option -- '{letter}'"));
            }
            let value = value.unwrap_or_default();
            if letter == '?' {
                return Ok(Command::Help);
            }
            apply(&mut options, &mut ports, letter, &value)?;
        }
    }
    if !ports.is_empty() {
        options.ports = ports;
    }
    if options.interfaces.is_empty() {
        options.interfaces = vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    }
    Ok(Command::Run(Box::new(options)))
}

fn apply(
    options: &mut Options,
    ports: &mut Vec<u16>,
    letter: char,
    value: &str,
) -> Result<(), String> {
    let number = |what: &str| {
        let parsed = value.parse::<f64>().ok().filter(|n| *n >= 0.0);
        parsed.ok_or(format!("-{letter} {value}: {what} was due"))
    };
    match letter {
        'c' => options.config = value.into(),
        'f' => options.foreground = true,
        'H' => options.hostname = Some(value.to_owned()),
        'i' => {
            let address = if value == "INADDR_ANY" {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                value
                    .parse()
                    .map_err(|_| format!("-i {value}: an address was due"))?
            };
            options.interfaces.push(address);
        }
        'l' => options.log = value.into(),
        'L' => options.client_limit = number("a number of bytes")? as usize,
        // The name of where it is looked for anyway.
        'n' | 'N' if value == "DEFAULT" => {}
        'n' | 'N' => options.pmns = value.into(),
        'p' => {
            for port in value.split(',') {
                ports.push(
                    port.parse()
                        .map_err(|_| format!("-p {value}: ports were due"))?,
                );
            }
        }
        'q' => options.hello_timeout = Duration::from_secs_f64(number("seconds")?.min(1e6)),
        's' => options.socket = Path::new(value).to_owned(),
        'S' => options.require_credentials = true,
        't' => options.timeout = number("seconds")? as u32,
        'T' => options.trace = number("a number")? as u32,
        'U' => options.user = Some(value.to_owned()),
        'v' => options.verify = true,
        'Q' => options.require_certificates = true,
        // Tracing and debugging of PCP's own pmcd, a terminal for early messages, which standard error is here, and where NSS had
        // certificates.
        _ => {}
    }
    Ok(())
}
