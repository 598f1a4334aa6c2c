//! `pmcd.conf`: which agents there are and who may do what (pmcd(1), "CONFIGURATION").

use std::path::{Path, PathBuf};

use crate::access::{Operations, Rule, Subject};

/// Domains that an agent may have.
const DOMAINS: std::ops::RangeInclusive<u32> = 1..=510;

/// How an agent is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A shared object, or what is built in instead of it.
    Dso {
        /// The function that PCP's pmcd calls.
        entry: String,
        /// The object.
        path: PathBuf,
    },
    /// A program at the end of two pipes.
    Pipe {
        /// The words of the command.
        command: Vec<String>,
        /// Whether it says itself when it is ready.
        not_ready: bool,
    },
    /// A program that listens.
    Socket {
        /// Where.
        address: SocketAddress,
        /// The words of the command that starts it, or none.
        command: Vec<String>,
    },
}

/// Where an agent listens on this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SocketAddress {
    /// A port of 127.0.0.1.
    Inet(u16),
    /// A port of ::1.
    Inet6(u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A line about an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentSpec {
    /// Its label.
    pub name: String,
    /// Its domain.
    pub domain: u32,
    /// How it is reached.
    pub transport: Transport,
}

/// What a configuration file says.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Config {
    /// The agents, in order.
    pub agents: Vec<AgentSpec>,
    /// The access rules, in order.
    pub rules: Vec<Rule>,
    /// What is not as it should be, but holds nothing up: hosts whose addresses are not known.
    pub warnings: Vec<ConfigError>,
}

/// A mistake in a configuration file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// A lexical element and the line that it begins in.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Word {
    text: String,
    line: usize,
    quoted: bool,
}

/// Cuts a text into lines of words. A backslash at a line's end goes on with the next line.
fn words(text: &str, delimiters: &str) -> Vec<Vec<Word>> {
    let mut lines = Vec::new();
    let mut current: Vec<Word> = Vec::new();
    let mut number = 1;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                number += 1;
                if !current.is_empty() {
                    lines.push(std::mem::take(&mut current));
                }
            }
            '\\' if chars.peek() == Some(&'\n') => {
                chars.next();
                number += 1;
            }
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            c if c.is_whitespace() => {}
            c if delimiters.contains(c) => current.push(Word {
                text: c.to_string(),
                line: number,
                quoted: false,
            }),
            first => {
                let quoted = first == '"';
                let mut text = String::new();
                let mut c = if quoted { chars.next() } else { Some(first) };
                while let Some(this) = c {
                    match this {
                        '"' if quoted => break,
                        '\n' if quoted => number += 1,
                        '\\' if matches!(chars.peek(), Some('"' | '#')) => {
                            text.extend(chars.next());
                            c = chars.next();
                            continue;
                        }
                        _ => {}
                    }
                    text.push(this);
                    let ends = |c: &char| {
                        c.is_whitespace() || delimiters.contains(*c) || (*c == '#' && !quoted)
                    };
                    if !quoted && chars.peek().is_none_or(ends) {
                        break;
                    }
                    c = chars.next();
                }
                current.push(Word {
                    text,
                    line: number,
                    quoted,
                });
            }
        }
    }
    if !current.is_empty() {
        lines.push(current);
    }
    lines
}

/// Whether a line, without its comment, is `[access]`.
fn opens_access(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    line.strip_prefix('[')
        .and_then(|l| l.strip_suffix(']'))
        .is_some_and(|l| l.trim().eq_ignore_ascii_case("access"))
}

/// Parses a configuration file and the text of its `.access` file, if there is one.
///
/// # Errors
/// All mistakes. PCP keeps the agents whose lines are right, so the configuration comes with them.
pub fn parse(file: &Path, text: &str, access: Option<&str>) -> (Config, Vec<ConfigError>) {
    let mut config = Config::default();
    let mut errors = Vec::new();
    let split = text.lines().position(opens_access);
    let (agents, rules) = match split {
        Some(at) => {
            let bytes: usize = text.split_inclusive('\n').take(at).map(str::len).sum();
            let (agents, rest) = text.split_at(bytes);
            let rules = rest.split_once('\n').map_or("", |(_, rules)| rules);
            (agents, rules)
        }
        None => (text, ""),
    };
    let mut report = |file: &Path, line: usize, what: String| {
        errors.push(ConfigError {
            file: file.to_owned(),
            line,
            what,
        });
    };
    for line in words(agents, "") {
        let number = line.first().map_or(1, |w| w.line);
        match agent(&line) {
            Ok(spec) => {
                let same = |a: &&AgentSpec| a.domain == spec.domain || a.name == spec.name;
                if let Some(other) = config.agents.iter().find(same) {
                    let what = format!(
                        "agent \"{}\" (domain {}): \"{}\" has domain {} already",
                        spec.name, spec.domain, other.name, other.domain
                    );
                    report(file, number, what);
                } else {
                    config.agents.push(spec);
                }
            }
            Err(what) => report(file, number, what),
        }
    }
    let mut read_rules = |file: &Path, text: &str, before: usize| {
        let tokens: Vec<Word> = words(text, ":;,{}[]").into_iter().flatten().collect();
        for statement in tokens.split_inclusive(|w| w.text == ";" && !w.quoted) {
            let number = before + statement.first().map_or(1, |w| w.line);
            match rule(statement) {
                Ok(rules) => {
                    for rule in rules {
                        if let Some(host) = rule.subject.unknown_host() {
                            config.warnings.push(ConfigError {
                                file: file.to_owned(),
                                line: number,
                                what: format!("the address of host \"{host}\" is not known"),
                            });
                        }
                        if config.rules.iter().any(|other| rule.contradicts(other)) {
                            let what = "an earlier statement about the same says otherwise";
                            report(file, number, what.to_owned());
                        }
                        config.rules.push(rule);
                    }
                }
                Err(what) => report(file, number, what),
            }
        }
    };
    read_rules(file, rules, split.map_or(0, |at| at + 1));
    if let Some(text) = access {
        let mut name = file.as_os_str().to_owned();
        name.push(".access");
        read_rules(Path::new(&name), text, 0);
    }
    (config, errors)
}

fn agent(line: &[Word]) -> Result<AgentSpec, String> {
    let mut words = line.iter().map(|w| w.text.as_str());
    let name = words.next().ok_or("empty line")?.to_owned();
    let mut need = |what: &str| {
        words
            .next()
            .ok_or(format!("agent \"{name}\": {what} missing"))
    };
    let number = need("domain number")?;
    let domain = number
        .parse()
        .ok()
        .filter(|d| DOMAINS.contains(d))
        .ok_or(format!(
            "agent \"{name}\": domain number {number}, one from {} to {} was due",
            DOMAINS.start(),
            DOMAINS.end()
        ))?;
    let kind = need("type (dso, pipe or socket)")?.to_ascii_lowercase();
    let transport = match kind.as_str() {
        "dso" => Transport::Dso {
            entry: need("name of the initialization function")?.to_owned(),
            path: need("path of the shared object")?.into(),
        },
        "pipe" => {
            let mut protocol = need("protocol (binary)")?.to_ascii_lowercase();
            if protocol != "binary" {
                return Err(format!(
                    "agent \"{name}\": protocol {protocol}, binary was due"
                ));
            }
            let mut command: Vec<String> = words.map(str::to_owned).collect();
            protocol = command.first().cloned().unwrap_or_default();
            let not_ready = protocol.eq_ignore_ascii_case("notready");
            if not_ready {
                command.remove(0);
            }
            if command.is_empty() {
                return Err(format!("agent \"{name}\": command missing"));
            }
            Transport::Pipe { command, not_ready }
        }
        "socket" => {
            let family = need("address family (inet, ipv6 or unix)")?.to_ascii_lowercase();
            let place = need("address")?;
            let port = || {
                place
                    .parse()
                    .map_err(|_| format!("agent \"{name}\": {place} is not a port"))
            };
            let address = match family.as_str() {
                "inet" => SocketAddress::Inet(port()?),
                "ipv6" => SocketAddress::Inet6(port()?),
                "unix" => SocketAddress::Unix(place.into()),
                _ => {
                    return Err(format!(
                        "agent \"{name}\": address family {family}, one of inet, ipv6, unix was due"
                    ));
                }
            };
            Transport::Socket {
                address,
                command: words.map(str::to_owned).collect(),
            }
        }
        _ => {
            return Err(format!(
                "agent \"{name}\": type {kind}, one of dso, pipe, socket was due"
            ));
        }
    };
    Ok(AgentSpec {
        name,
        domain,
        transport,
    })
}

/// One statement of the access section, its semicolon included.
fn rule(statement: &[Word]) -> Result<Vec<Rule>, String> {
    let mut words = statement.iter().peekable();
    let is = |word: &Word, text: &str| !word.quoted && word.text.eq_ignore_ascii_case(text);
    let verb = words.next().ok_or("empty statement")?;
    let allow = if is(verb, "allow") {
        true
    } else if is(verb, "disallow") {
        false
    } else {
        return Err(format!("{}: allow or disallow was due", verb.text));
    };
    type Make = fn(&str) -> Result<Subject, String>;
    let kinds: [(&[&str], Make); 3] = [
        (&["host", "hosts"], Subject::host),
        (&["user", "users"], Subject::user),
        (&["group", "groups"], Subject::group),
    ];
    let kind = words.peek().and_then(|w| {
        let found = kinds
            .iter()
            .find(|(names, _)| names.iter().any(|n| is(w, n)));
        found.map(|(_, make)| *make)
    });
    if kind.is_some() {
        words.next();
    }
    let make = kind.unwrap_or(Subject::host);
    let mut subjects = Vec::new();
    // An address such as `:*` or fe80::1 has colons of its own: the list ends at a colon that stands by itself.
    let mut text = String::new();
    let mut whole = false;
    loop {
        let word = words.next().ok_or("a colon and operations were due")?;
        let next = words.peek();
        match word.text.as_str() {
            "," if !word.quoted => {
                subjects.push(make(&std::mem::take(&mut text))?);
                whole = false;
            }
            ":" if !word.quoted && (whole || next.is_none_or(|n| !starts_host(n, &text))) => {
                if text.is_empty() {
                    return Err("a host, user or group was due".to_owned());
                }
                subjects.push(make(&text)?);
                break;
            }
            ";" if !word.quoted => return Err("a colon and operations were due".to_owned()),
            other => {
                whole = word.quoted;
                text.push_str(other);
            }
        }
    }
    let mut list = Operations::NONE;
    let mut except = None;
    let mut all = false;
    let mut limit = 0;
    while let Some(word) = words.next() {
        if is(word, ";") {
            let operations = match except {
                Some(except) => Operations::ALL.without(except),
                None if all => Operations::ALL,
                None => list,
            };
            let rules = subjects.into_iter().map(|subject| Rule {
                subject,
                allow: if allow { operations } else { Operations::NONE },
                deny: if allow {
                    except.unwrap_or(Operations::NONE)
                } else {
                    operations
                },
                limit,
            });
            // "allow … : all except store" forbids storing, too; "disallow … : all except fetch" allows fetching.
            let rules = rules.map(|mut rule| {
                if !allow && let Some(except) = except {
                    rule.allow = except;
                }
                rule
            });
            return Ok(rules.collect());
        }
        if is(word, ",") {
            continue;
        }
        if is(word, "all") {
            all = true;
        } else if is(word, "except") && all {
            except = Some(Operations::NONE);
        } else if is(word, "maximum") || is(word, "unlimited") {
            if !allow {
                return Err("a connection limit can't be disallowed".to_owned());
            }
            if is(word, "maximum") {
                let number = words.next().and_then(|w| w.text.parse().ok());
                limit = number.ok_or("a number of connections was due")?;
            }
            if words.next_if(|w| is(w, "connections")).is_none() {
                return Err("the word connections was due".to_owned());
            }
        } else {
            let operation = if is(word, "fetch") {
                Operations::FETCH
            } else if is(word, "store") {
                Operations::STORE
            } else {
                return Err(format!("{}: no operation, fetch and store are", word.text));
            };
            match &mut except {
                Some(except) => *except = except.with(operation),
                None => list = list.with(operation),
            }
        }
    }
    Err("a semicolon was due".to_owned())
}

/// Whether a word behind a colon goes on with an address.
fn starts_host(next: &Word, so_far: &str) -> bool {
    let address = |c: char| c.is_ascii_hexdigit() || c == '*' || c == '.';
    let so_far_is_address = so_far.chars().all(|c| address(c) || c == ':');
    let operation = ["all", "fetch", "store", "maximum", "unlimited"];
    let next_is_operation = operation.iter().any(|o| next.text.eq_ignore_ascii_case(o));
    !next_is_operation
        && ((next.text == ":" && !next.quoted)
            || (so_far_is_address && next.text.chars().all(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Config, Vec<String>) {
        let (config, errors) = parse(Path::new("pmcd.conf"), text, None);
        (config, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn agents_of_each_kind() {
        let (config, errors) = parsed(
            "# agents\nlinux 60 pipe binary /l/pmdalinux -d 60\npmcd 2 dso pmcd_init /p/pmda_pmcd.so # ours\n\
             slow 9 pipe binary notready \"/a b/slow\" \\\n -x\nsock 8 socket inet 4242 /s/agent\nu 7 SOCKET unix /tmp/s\n",
        );
        assert_eq!(errors, Vec::<String>::new());
        let commands: Vec<_> = config.agents.iter().map(|a| &a.transport).collect();
        assert_eq!(
            commands[0],
            &Transport::Pipe {
                command: vec!["/l/pmdalinux".into(), "-d".into(), "60".into()],
                not_ready: false
            }
        );
        assert_eq!(
            commands[2],
            &Transport::Pipe {
                command: vec!["/a b/slow".into(), "-x".into()],
                not_ready: true
            }
        );
        assert_eq!(
            commands[4],
            &Transport::Socket {
                address: SocketAddress::Unix("/tmp/s".into()),
                command: Vec::new()
            }
        );
    }

    #[test]
    fn mistakes_name_their_line_and_spare_the_rest() {
        let (config, errors) =
            parsed("a 0 pipe binary x\nb 5 tube x\n\nc 6 pipe binary x\nd 6 pipe binary y\n");
        assert_eq!(config.agents.len(), 1);
        assert_eq!(
            errors,
            [
                "pmcd.conf:1: agent \"a\": domain number 0, one from 1 to 510 was due",
                "pmcd.conf:2: agent \"b\": type tube, one of dso, pipe, socket was due",
                "pmcd.conf:5: agent \"d\" (domain 6): \"c\" has domain 6 already",
            ]
        );
    }

    #[test]
    fn access_rules() {
        let (config, errors) = parsed(
            "a 1 pipe binary x\n[ Access ]\ndisallow \".*\" : store;\ndisallow :* : store;\n\
             allow \"local:*\" : all;\nallow hosts 10.1.*, fe80::1 : fetch, maximum 3 connections;\n\
             disallow users root : all except fetch;\n",
        );
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(config.rules.len(), 6);
        assert_eq!(config.rules[3].limit, 3);
        assert_eq!(
            config.rules[4].subject,
            Subject::host("fe80::1").expect("address")
        );
        assert_eq!(config.rules[5].allow, Operations::FETCH);
        assert_eq!(config.rules[5].deny, Operations::STORE);
    }

    #[test]
    fn rules_that_contradict_each_other() {
        let clashes = |rules: &str| parsed(&format!("[access]\n{rules}")).1.len();
        let one = "allow host 10.0.0.1, 10.0.0.2 : fetch, maximum 3 connections;\n";
        for (other, expected) in [
            ("allow host 10.0.0.1 : fetch;", 0),
            ("disallow host 10.0.0.1 : store;", 0),
            ("disallow host 10.0.0.* : fetch;", 0),
            ("disallow host 10.0.0.2 : all;", 1),
            ("allow host 10.0.0.1 : all, maximum 4 connections;", 1),
        ] {
            assert_eq!(clashes(&format!("{one}{other}")), expected, "{other}");
        }
    }

    #[test]
    fn a_host_that_is_not_known_is_no_mistake() {
        let (config, errors) = parsed("[access]\nallow host no-such.invalid : fetch;\n");
        assert_eq!(errors, [""; 0]);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn rules_that_are_none() {
        let (_, errors) = parsed("[access]\nallow 1.2.3.4 : all\n");
        assert_eq!(errors, ["pmcd.conf:2: a semicolon was due"]);
        let (_, errors) = parsed("[access]\nallow 129.*.114.9 : all;\npermit x : all;\n");
        assert_eq!(errors.len(), 2);
        assert!(errors[1].starts_with("pmcd.conf:3: permit"), "{errors:?}");
    }
}
