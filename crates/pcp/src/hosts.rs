//! Which hosts a rule of access is about (pmcd(1), "ACCESS CONTROL CONFIGURATION"; pmlogger(1) has the same).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

/// Some hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hosts {
    /// Addresses whose first so many bits are those.
    Network(IpAddr, u8),
    /// The socket in the file system.
    UnixSocket,
    /// The socket and this host's addresses.
    Local,
    /// Every host.
    Any,
    /// A host by name, with the addresses that it has.
    Named(String, Vec<IpAddr>),
}

impl Hosts {
    /// Reads a host specification: a name, an address, the first parts of an address and `*`, `*`, `.*`, `:*`, `unix:` or `local:`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Hosts, String> {
        let wrong = |what: &str| Err(format!("host specification \"{text}\": {what}"));
        match text {
            "*" => return Ok(Hosts::Any),
            "unix:" | "unix:*" => return Ok(Hosts::UnixSocket),
            "local:" | "local:*" => return Ok(Hosts::Local),
            ".*" => return Ok(Hosts::Network(Ipv4Addr::UNSPECIFIED.into(), 0)),
            ":*" => return Ok(Hosts::Network(Ipv6Addr::UNSPECIFIED.into(), 0)),
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
                return Ok(Hosts::Network(Ipv4Addr::from(octets).into(), bits));
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
                    Ok(address) => Ok(Hosts::Network(IpAddr::V6(address), bits)),
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
            return Ok(Hosts::Network(address, bits));
        }
        // A name that is not known now may be the fault of others, and matches nobody.
        let found = (text, 0).to_socket_addrs().into_iter().flatten();
        let addresses = found.map(|a| a.ip()).collect();
        Ok(Hosts::Named(text.to_owned(), addresses))
    }

    /// The name of a host whose address is not known.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Hosts::Named(name, addresses) if addresses.is_empty() => Some(name),
            _ => None,
        }
    }

    /// The smaller, the more specific: the smallest that matches decides.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self {
            Hosts::Network(IpAddr::V4(_), bits) => 4 - bits / 8,
            Hosts::Network(IpAddr::V6(_), bits) => 8 - bits / 16,
            Hosts::Named(..) => 0,
            Hosts::UnixSocket | Hosts::Local => 1,
            Hosts::Any => 9,
        }
    }

    /// Whether who is at an address is among them; without an address it came by the socket in the file system.
    #[must_use]
    pub fn matches(&self, address: Option<IpAddr>) -> bool {
        let address = address.map(|address| address.to_canonical());
        match self {
            Hosts::Any => true,
            Hosts::UnixSocket => address.is_none(),
            Hosts::Local => address.is_none_or(|a| a.is_loopback()),
            Hosts::Named(name, addresses) => address.is_some_and(|a| {
                addresses.contains(&a) || (name == "localhost" && a.is_loopback())
            }),
            Hosts::Network(network, bits) => match (network, address) {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_that_the_manual_page_refuses() {
        for text in [
            "*.melbourne",
            "129.127.*.*",
            "129.*.114.9",
            "129.127*",
            "fe80::223:14ff:*:*",
            "fe80*",
            "1.*.2",
        ] {
            assert!(Hosts::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_match_by_their_first_parts() {
        for (hosts, address, expected) in [
            ("129.127.112.*", "129.127.112.3", true),
            ("129.127.112.*", "129.127.113.3", false),
            ("129.127.112.*", "::ffff:129.127.112.3", true),
            ("fe80::223:14ff:feaf:*", "fe80::223:14ff:feaf:b62c", true),
            ("fe80:*", "fe80::1", true),
            ("local:*", "127.0.0.2", true),
            ("unix:", "127.0.0.2", false),
            (".*", "10.0.0.1", true),
            (".*", "fe80::1", false),
        ] {
            let found = Hosts::parse(hosts)
                .expect(hosts)
                .matches(address.parse().ok());
            assert_eq!(found, expected, "{hosts} {address}");
        }
        assert!(Hosts::Local.matches(None) && Hosts::UnixSocket.matches(None));
    }
}
