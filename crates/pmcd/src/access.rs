//! Who may do what (pmcd(1), "ACCESS CONTROL CONFIGURATION").

use std::cell::Cell;
use std::net::IpAddr;

use nix::unistd::{Group, User};
use pcp::Hosts;

/// A set of operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operations(u8);

impl Operations {
    /// Nothing.
    pub const NONE: Operations = Operations(0);
    /// Retrieval of any information.
    pub const FETCH: Operations = Operations(1);
    /// Storing values.
    pub const STORE: Operations = Operations(2);
    /// Everything.
    pub const ALL: Operations = Operations(3);

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }

    /// This set without the other.
    #[must_use]
    pub const fn without(self, other: Operations) -> Operations {
        Operations(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Operations) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Whom a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// Some hosts.
    Hosts(Hosts),
    /// A user, or all.
    User(Option<u32>),
    /// A group, or all.
    Group(Option<u32>),
}

impl Subject {
    /// A host specification.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn host(text: &str) -> Result<Subject, String> {
        Hosts::parse(text).map(Subject::Hosts)
    }

    /// The name of a host whose address is not known.
    #[must_use]
    pub fn unknown_host(&self) -> Option<&str> {
        match self {
            Subject::Hosts(hosts) => hosts.unknown(),
            _ => None,
        }
    }

    /// A user by name, number, or `*`.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn user(text: &str) -> Result<Subject, String> {
        if text == "*" {
            return Ok(Subject::User(None));
        }
        let found = User::from_name(text).ok().flatten().map(|u| u.uid.as_raw());
        let id = found.or_else(|| text.parse().ok());
        id.map(|id| Subject::User(Some(id)))
            .ok_or_else(|| format!("no user \"{text}\""))
    }

    /// A group by name, number, or `*`.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn group(text: &str) -> Result<Subject, String> {
        if text == "*" {
            return Ok(Subject::Group(None));
        }
        let found = Group::from_name(text)
            .ok()
            .flatten()
            .map(|g| g.gid.as_raw());
        let id = found.or_else(|| text.parse().ok());
        id.map(|id| Subject::Group(Some(id)))
            .ok_or_else(|| format!("no group \"{text}\""))
    }

    /// The smaller, the more specific.
    fn level(&self) -> u8 {
        match self {
            Subject::Hosts(hosts) => hosts.level(),
            Subject::User(Some(_)) | Subject::Group(Some(_)) => 0,
            Subject::User(None) | Subject::Group(None) => 9,
        }
    }

    fn is_host(&self) -> bool {
        matches!(self, Subject::Hosts(_))
    }

    fn matches(&self, peer: &Peer) -> bool {
        match self {
            Subject::Hosts(hosts) => hosts.matches(peer.address),
            Subject::User(id) => peer.user.is_some_and(|u| id.is_none_or(|id| id == u)),
            Subject::Group(id) => peer
                .groups
                .as_ref()
                .is_some_and(|groups| id.is_none_or(|id| groups.contains(&id))),
        }
    }
}

/// One identifier of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Whom it is about.
    pub subject: Subject,
    /// What it allows.
    pub allow: Operations,
    /// What it forbids.
    pub deny: Operations,
    /// Connections at a time; 0 for any number.
    pub limit: u32,
}

impl Rule {
    /// Whether another rule about the same says otherwise (pmcd(1): "may not contradict each other").
    #[must_use]
    pub fn contradicts(&self, other: &Rule) -> bool {
        let both = |a: Operations, b: Operations| {
            let all = [Operations::FETCH, Operations::STORE];
            all.into_iter().any(|o| a.has(o) && b.has(o))
        };
        let same = match (&self.subject, &other.subject) {
            (Subject::Hosts(one), Subject::Hosts(two)) => match (one, two) {
                (Hosts::Named(_, a), Hosts::Named(_, b)) => {
                    a.iter().any(|address| b.contains(address))
                }
                (Hosts::Named(_, some), Hosts::Network(address, bits))
                | (Hosts::Network(address, bits), Hosts::Named(_, some)) => {
                    let whole = if address.is_ipv4() { 32 } else { 128 };
                    *bits == whole && some.contains(address)
                }
                (a, b) => a == b,
            },
            (a, b) => a == b,
        };
        let limits = self.limit > 0 && other.limit > 0 && self.limit != other.limit;
        same && (limits || both(self.allow, other.deny) || both(self.deny, other.allow))
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peer {
    /// The address; `None` for the socket in the file system.
    pub address: Option<IpAddr>,
    /// The user, if known.
    pub user: Option<u32>,
    /// The user's groups, if known.
    pub groups: Option<Vec<u32>>,
}

impl Peer {
    /// Whether it is on another host.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.address.is_some_and(|address| !address.is_loopback())
    }
}

/// All rules, with the connections that count towards their limits.
#[derive(Debug, Default)]
pub struct Access {
    /// Most specific first.
    rules: Vec<(Rule, Cell<u32>)>,
}

/// Why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// No operation is allowed.
    Permission,
    /// There are as many as a rule allows.
    Limit,
}

impl Access {
    /// From the rules of a configuration.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Access {
        let mut rules: Vec<_> = rules.into_iter().map(|r| (r, Cell::new(0))).collect();
        rules.sort_by_key(|(rule, _)| rule.subject.level());
        Access { rules }
    }

    /// Whether only users who are known may connect.
    #[must_use]
    pub fn needs_credentials(&self) -> bool {
        self.rules.iter().any(|(rule, _)| !rule.subject.is_host())
    }

    /// What a peer may do.
    #[must_use]
    pub fn operations(&self, peer: &Peer) -> Operations {
        let mut allowed = Operations::ALL;
        for hosts in [true, false] {
            for operation in [Operations::FETCH, Operations::STORE] {
                let decisive = self.rules.iter().map(|(rule, _)| rule).find(|rule| {
                    rule.subject.is_host() == hosts
                        && rule.allow.with(rule.deny).has(operation)
                        && rule.subject.matches(peer)
                });
                if decisive.is_some_and(|rule| rule.deny.has(operation)) {
                    allowed = allowed.without(operation);
                }
            }
        }
        allowed
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn connect(&self, peer: &Peer) -> Result<Operations, Refused> {
        let operations = self.operations(peer);
        if operations == Operations::NONE {
            return Err(Refused::Permission);
        }
        let matching = || {
            self.rules
                .iter()
                .filter(|(rule, _)| rule.subject.matches(peer))
        };
        let limiting = matching().find(|(rule, _)| rule.limit > 0);
        if limiting.is_some_and(|(rule, count)| count.get() >= rule.limit) {
            return Err(Refused::Limit);
        }
        self.count(peer);
        Ok(operations)
    }

    /// Counts a connection in, whatever is allowed.
    pub fn count(&self, peer: &Peer) {
        for (_, count) in self.rules.iter().filter(|(r, _)| r.subject.matches(peer)) {
            count.set(count.get() + 1);
        }
    }

    /// Counts a connection out.
    pub fn disconnect(&self, peer: &Peer) {
        for (_, count) in self.rules.iter().filter(|(r, _)| r.subject.matches(peer)) {
            count.set(count.get().saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str, allow: Operations, deny: Operations, limit: u32) -> Rule {
        Rule {
            subject: Subject::host(host).expect(host),
            allow,
            deny,
            limit,
        }
    }

    fn peer(address: &str) -> Peer {
        Peer {
            address: address.parse().ok(),
            ..Peer::default()
        }
    }

    #[test]
    fn the_most_specific_rule_decides() {
        let access = Access::new(vec![
            rule("*", Operations::NONE, Operations::ALL, 0),
            rule("129.127.112.*", Operations::FETCH, Operations::STORE, 0),
            rule("129.127.112.2", Operations::ALL, Operations::NONE, 0),
            rule(
                "fe80::223:14ff:feaf:*",
                Operations::FETCH,
                Operations::NONE,
                0,
            ),
        ]);
        assert_eq!(access.operations(&peer("129.127.112.2")), Operations::ALL);
        assert_eq!(access.operations(&peer("129.127.112.3")), Operations::FETCH);
        assert_eq!(
            access.operations(&peer("fe80::223:14ff:feaf:b62c")),
            Operations::FETCH
        );
        assert_eq!(access.connect(&peer("10.0.0.1")), Err(Refused::Permission));
    }

    #[test]
    fn limits_as_in_the_manual_page() {
        let rules = || {
            Access::new(vec![
                rule("10.0.0.1", Operations::ALL, Operations::NONE, 5),
                rule("*", Operations::FETCH, Operations::STORE, 2),
            ])
        };
        let (clank, boing) = (peer("10.0.0.1"), peer("10.0.0.2"));
        let access = rules();
        assert!(access.connect(&boing).is_ok());
        assert!(access.connect(&clank).is_ok());
        assert_eq!(access.connect(&boing), Err(Refused::Limit));
        let access = rules();
        assert!(access.connect(&boing).is_ok());
        assert!(access.connect(&boing).is_ok());
        assert_eq!(access.connect(&boing), Err(Refused::Limit));
        assert!(access.connect(&clank).is_ok());
    }
}
