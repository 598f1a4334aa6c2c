//! Who may do what (pmcd(1), "ACCESS CONTROL CONFIGURATION").

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

use nix::unistd::{Group, User};

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
    /// Addresses whose first so many bits are those.
    Network(IpAddr, u8),
    /// The socket in the file system.
    UnixSocket,
    /// The socket and this host's addresses.
    Local,
    /// Every host.
    AnyHost,
    /// A host by name, with the addresses that it has.
    Host(String, Vec<IpAddr>),
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
        let wrong = |what: &str| Err(format!("host specification \"{text}\": {what}"));
        match text {
            "*" => return Ok(Subject::AnyHost),
            "unix:" | "unix:*" => return Ok(Subject::UnixSocket),
            "local:" | "local:*" => return Ok(Subject::Local),
            ".*" => return Ok(Subject::Network(Ipv4Addr::UNSPECIFIED.into(), 0)),
            ":*" => return Ok(Subject::Network(Ipv6Addr::UNSPECIFIED.into(), 0)),
            _ => {}
        }
        if let Some(prefix) = text.strip_suffix('*') {
            if prefix.contains('*') {
                return wrong("more than one wildcard");
            }
            if let Some(prefix) = prefix.strip_suffix('.') {
                let parts: Result<Vec<u8>, _> = prefix.split('.').map(str::parse).collect();
                let Ok(parts) = parts else {
                    return wrong("only addresses may end in a wildcard");
                };
                if parts.len() > 3 {
                    return wrong("too many parts");
                }
                let mut octets = [0; 4];
                for (octet, part) in octets.iter_mut().zip(&parts) {
                    *octet = *part;
                }
                let bits = 8 * parts.len() as u8;
                return Ok(Subject::Network(Ipv4Addr::from(octets).into(), bits));
            }
            if prefix.ends_with(':') {
                // Behind "::" the wildcard is the last 16 bits, otherwise all that is not said.
                let (filled, bits) = if prefix.contains("::") {
                    (format!("{prefix}0"), 112)
                } else {
                    let parts = prefix.matches(':').count();
                    (format!("{prefix}:"), 16 * parts as u8)
                };
                return match filled.parse() {
                    Ok(address) => Ok(Subject::Network(IpAddr::V6(address), bits)),
                    Err(_) => wrong("not an IPv6 address"),
                };
            }
            return wrong("the wildcard must be the last part of an address");
        }
        if text.contains('*') {
            return wrong("the wildcard must be the last part of an address");
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Ok(Subject::Network(address, bits));
        }
        // A name that is not known now may be the fault of others, and matches nobody.
        let found = (text, 0).to_socket_addrs().into_iter().flatten();
        let addresses = found.map(|a| a.ip()).collect();
        Ok(Subject::Host(text.to_owned(), addresses))
    }

    /// The name of a host whose address is not known.
    #[must_use]
    pub fn unknown_host(&self) -> Option<&str> {
        match self {
            Subject::Host(name, addresses) if addresses.is_empty() => Some(name),
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
            Subject::Network(IpAddr::V4(_), bits) => 4 - bits / 8,
            Subject::Network(IpAddr::V6(_), bits) => 8 - bits / 16,
            Subject::Host(..) | Subject::User(Some(_)) | Subject::Group(Some(_)) => 0,
            Subject::UnixSocket | Subject::Local => 1,
            Subject::AnyHost | Subject::User(None) | Subject::Group(None) => 9,
        }
    }

    fn is_host(&self) -> bool {
        !matches!(self, Subject::User(_) | Subject::Group(_))
    }

    fn matches(&self, peer: &Peer) -> bool {
        match self {
            Subject::AnyHost => true,
            Subject::UnixSocket => peer.address.is_none(),
            Subject::Local => peer.address.is_none_or(|a| a.is_loopback()),
            Subject::Host(name, addresses) => peer.address.is_some_and(|a| {
                addresses.contains(&a) || (name == "localhost" && a.is_loopback())
            }),
            Subject::Network(network, bits) => match (network, peer.address) {
                (IpAddr::V4(n), Some(IpAddr::V4(a))) => {
                    let shift = 32 - u32::from(*bits);
                    u32::from(*n).checked_shr(shift) == u32::from(a).checked_shr(shift)
                }
                (IpAddr::V6(n), Some(IpAddr::V6(a))) => {
                    let shift = 128 - u32::from(*bits);
                    u128::from(*n).checked_shr(shift) == u128::from(a).checked_shr(shift)
                }
                _ => false,
            },
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
            (Subject::Host(_, a), Subject::Host(_, b)) => {
                a.iter().any(|address| b.contains(address))
            }
            (Subject::Host(_, some), Subject::Network(address, bits))
            | (Subject::Network(address, bits), Subject::Host(_, some)) => {
                let whole = if address.is_ipv4() { 32 } else { 128 };
                *bits == whole && some.contains(address)
            }
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

    #[test]
    fn specifications_that_the_manual_page_refuses() {
        for text in [
            "*.melbourne",
            "129.127.*.*",
            "129.*.114.9",
            "129.127*",
            "fe80::223:14ff:*:*",
            "fe80*",
        ] {
            assert!(Subject::host(text).is_err(), "{text}");
        }
    }
}
