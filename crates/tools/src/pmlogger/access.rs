//! Which hosts may control a logger (pmlogger(1), access control rules; the hosts as in pmcd(1)).

use std::net::{IpAddr, ToSocketAddrs};

/// A set of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operations(u8);

impl Operations {
    /// Nothing.
    pub const NONE: Operations = Operations(0);
    /// Change advisory logging.
    pub const ADVISORY: Operations = Operations(1);
    /// Change mandatory logging, begin volumes.
    pub const MANDATORY: Operations = Operations(2);
    /// Ask.
    pub const ENQUIRE: Operations = Operations(4);
    /// Everything.
    pub const ALL: Operations = Operations(7);

    /// The operation of that name.
    pub fn named(word: &str) -> Option<Operations> {
        Some(match word {
            "advisory" => Operations::ADVISORY,
            "mandatory" => Operations::MANDATORY,
            "enquire" => Operations::ENQUIRE,
            _ => return None,
        })
    }

    /// Both sets.
    pub const fn with(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }

    /// This set without the other.
    pub const fn without(self, other: Operations) -> Operations {
        Operations(self.0 & !other.0)
    }

    /// Whether something is in both.
    pub const fn meets(self, other: Operations) -> bool {
        self.0 & other.0 != 0
    }
}

/// Whom a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Every host.
    Any,
    /// The socket in the file system, and with `true` this host's own addresses as well.
    Socket(bool),
    /// Addresses whose first bits are those.
    Network(IpAddr, u32),
    /// A host's addresses.
    Host(String, Vec<IpAddr>),
}

impl Subject {
    /// A host specification: a name, an address, an address's first parts and `*`, `*`, `.*`, `:*`, `unix:` or `local:`.
    ///
    /// # Errors
    /// The message for whoever wrote it.
    pub fn host(text: &str) -> Result<Subject, String> {
        let wrong = || format!("Bad host specification \"{text}\"");
        match text {
            "*" => return Ok(Subject::Any),
            "unix:" | "unix:*" => return Ok(Subject::Socket(false)),
            "local:" | "local:*" => return Ok(Subject::Socket(true)),
            ".*" => return Ok(Subject::Network(IpAddr::from([0; 4]), 0)),
            ":*" => return Ok(Subject::Network(IpAddr::from([0u16; 8]), 0)),
            _ => {}
        }
        if let Some(prefix) = text.strip_suffix(".*") {
            let parts: Result<Vec<u8>, _> = prefix.split('.').map(str::parse).collect();
            let parts = parts.map_err(|_| wrong())?;
            let mut octets = [0; 4];
            if parts.len() >= octets.len() {
                return Err(wrong());
            }
            for (octet, part) in octets.iter_mut().zip(&parts) {
                *octet = *part;
            }
            return Ok(Subject::Network(octets.into(), 8 * parts.len() as u32));
        }
        if let Some(prefix) = text.strip_suffix(":*") {
            let parts = prefix.split(':').count() as u32;
            let address = if prefix.contains("::") {
                format!("{prefix}:0")
            } else {
                format!("{prefix}::")
            };
            let bits = if prefix.contains("::") {
                112
            } else {
                16 * parts
            };
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            return Ok(Subject::Network(address, bits));
        }
        if text.contains('*') {
            return Err(wrong());
        }
        match (text, 0).to_socket_addrs() {
            Ok(found) => Ok(Subject::Host(
                text.to_owned(),
                found.map(|a| a.ip()).collect(),
            )),
            Err(_) => Err(format!("__pmGetAddrInfo({text}), Unknown host")),
        }
    }

    /// The smaller, the more specific.
    fn level(&self) -> u32 {
        match self {
            Subject::Host(..) => 0,
            Subject::Socket(_) => 1,
            Subject::Network(IpAddr::V4(_), bits) => 4 - bits / 8,
            Subject::Network(IpAddr::V6(_), bits) => 8 - bits / 16,
            Subject::Any => 9,
        }
    }

    fn matches(&self, peer: Option<IpAddr>) -> bool {
        let Some(address) = peer else {
            return matches!(self, Subject::Any | Subject::Socket(_));
        };
        let address = address.to_canonical();
        match self {
            Subject::Any => true,
            Subject::Socket(local) => *local && address.is_loopback(),
            Subject::Host(name, all) => {
                all.contains(&address) || (name == "localhost" && address.is_loopback())
            }
            Subject::Network(network, bits) => match (network, address) {
                (IpAddr::V4(n), IpAddr::V4(a)) => {
                    let shift = 32 - bits;
                    u32::from(*n).checked_shr(shift) == u32::from(a).checked_shr(shift)
                }
                (IpAddr::V6(n), IpAddr::V6(a)) => {
                    let shift = 128 - bits;
                    u128::from(*n).checked_shr(shift) == u128::from(a).checked_shr(shift)
                }
                _ => false,
            },
        }
    }
}

/// One host of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Whom it is about.
    pub subject: Subject,
    /// Which operations it is about.
    pub operations: Operations,
    /// Whether it allows them.
    pub allow: bool,
}

/// All rules, the most specific first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Access(Vec<Rule>);

impl Access {
    /// From the rules of a configuration.
    pub fn new(mut rules: Vec<Rule>) -> Access {
        rules.sort_by_key(|rule| rule.subject.level());
        Access(rules)
    }

    /// What a peer may do; without an address it came by the socket in the file system.
    pub fn operations(&self, peer: Option<IpAddr>) -> Operations {
        let mut allowed = Operations::ALL;
        for operation in [
            Operations::ADVISORY,
            Operations::MANDATORY,
            Operations::ENQUIRE,
        ] {
            let decisive = self
                .0
                .iter()
                .find(|r| r.operations.meets(operation) && r.subject.matches(peer));
            if decisive.is_some_and(|rule| !rule.allow) {
                allowed = allowed.without(operation);
            }
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_decides() {
        let rule = |host: &str, operations, allow| Rule {
            subject: Subject::host(host).expect(host),
            operations,
            allow,
        };
        let access = Access::new(vec![
            rule("*", Operations::ALL.without(Operations::ENQUIRE), false),
            rule("10.1.*", Operations::ADVISORY, true),
            rule("local:*", Operations::MANDATORY, true),
        ]);
        let of = |address: &str| access.operations(address.parse().ok());
        assert_eq!(of("192.168.0.1"), Operations::ENQUIRE);
        assert_eq!(
            of("10.1.2.3"),
            Operations::ENQUIRE.with(Operations::ADVISORY)
        );
        assert_eq!(of("::1"), Operations::ENQUIRE.with(Operations::MANDATORY));
        assert_eq!(
            access.operations(None),
            Operations::ENQUIRE.with(Operations::MANDATORY)
        );
        assert!(Subject::host("1.*.2").is_err());
    }
}
