//! Which hosts may control a logger (pmlogger(1), access control rules; the hosts as in pmcd(1)).

use std::net::IpAddr;

use pcp::Hosts;

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

/// Reads a host specification.
///
/// # Errors
/// The message for whoever wrote it.
pub fn hosts(text: &str) -> Result<Hosts, String> {
    let hosts = Hosts::parse(text).map_err(|_| format!("Bad host specification \"{text}\""))?;
    match hosts.unknown() {
        Some(name) => Err(format!("__pmGetAddrInfo({name}), Unknown host")),
        None => Ok(hosts),
    }
}

/// One host of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Whom it is about.
    pub hosts: Hosts,
    /// Which operations it is about.
    pub operations: Operations,
    /// Whether it allows them.
    pub allow: bool,
}

/// Rules without what contradicts an earlier rule about the socket in the file system, which `*` and `local:*` are about, too; and
/// how many did.
pub fn consistent(rules: Vec<Rule>) -> (Vec<Rule>, usize) {
    let (mut allowed, mut denied) = (Operations::NONE, Operations::NONE);
    let (mut kept, mut clashes) = (Vec::new(), 0);
    for rule in rules {
        let contrary = if rule.allow { denied } else { allowed };
        if rule.hosts.matches(None) && contrary.meets(rule.operations) {
            clashes += 1;
            let rest = match &rule.hosts {
                Hosts::Any => vec![".*", ":*"],
                Hosts::Local => vec!["localhost"],
                _ => Vec::new(),
            };
            kept.extend(rest.into_iter().filter_map(|hosts| {
                Some(Rule {
                    hosts: Hosts::parse(hosts).ok()?,
                    ..rule.clone()
                })
            }));
            continue;
        }
        if rule.hosts.matches(None) {
            let of = if rule.allow {
                &mut allowed
            } else {
                &mut denied
            };
            *of = of.with(rule.operations);
        }
        kept.push(rule);
    }
    (kept, clashes)
}

/// All rules, the most specific first.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Access(Vec<Rule>);

impl Access {
    /// From the rules of a configuration.
    pub fn new(mut rules: Vec<Rule>) -> Access {
        rules.sort_by_key(|rule| rule.hosts.level());
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
                .find(|r| r.operations.meets(operation) && r.hosts.matches(peer));
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
            hosts: hosts(host).expect(host),
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
        assert!(hosts("1.*.2").is_err());
    }

    // With these rules Debian's pmlogger says once "Permission clash for unix: with earlier statement for unix:", and refuses
    // what pmlc wants to change by the socket.
    #[test]
    fn a_rule_about_the_socket_stands_against_later_ones() {
        let rule = |host: &str, operations, allow| Rule {
            hosts: hosts(host).expect(host),
            operations,
            allow,
        };
        let (rules, clashes) = consistent(vec![
            rule("*", Operations::ALL.without(Operations::ENQUIRE), false),
            rule("local:*", Operations::ALL, true),
        ]);
        assert_eq!(clashes, 1);
        let access = Access::new(rules);
        assert_eq!(access.operations(None), Operations::ENQUIRE);
        let here = "127.0.0.1".parse().ok();
        assert_eq!(access.operations(here), Operations::ALL);
    }
}
