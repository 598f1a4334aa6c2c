//! Host specifications (PCPIntro(1)), and what PCP's configuration says of places.

use std::env;
use std::path::{Path, PathBuf};

/// The port of pmproxy that IANA knows.
const PROXY_PORT: u16 = 44322;
/// The port of pmcd that IANA knows.
pub const PMCD_PORT: u16 = 44321;

/// Where a daemon listens, from a host specification as PCP's `-h` takes it (PCPIntro(1), "PMCD host specification").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSpec {
    /// How to get there.
    pub address: Address,
    /// A pmproxy(1) that leads there, and its port: `host@proxy:port`, or `$PMPROXY_HOST`.
    pub proxy: Option<(String, u16)>,
    /// Whether TLS is asked for (`pcps://`).
    pub secure: bool,
    /// `?name=value&…` behind the host.
    pub attributes: Vec<(String, String)>,
}

/// How a daemon is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// `unix:`: a socket in the file system.
    Unix(PathBuf),
    /// `local:`: that socket, or else this host's port.
    Local(PathBuf),
    /// A host and the ports to try in turn.
    Host(String, Vec<u16>),
}

/// A configuration variable: from the environment, or from the file that `$PCP_CONF` or `$PCP_DIR` leads to
/// (pcp.conf(5)).
#[must_use]
pub fn config(name: &str) -> Option<String> {
    if let Ok(value) = env::var(name) {
        return Some(value);
    }
    let file = env::var("PCP_CONF")
        .unwrap_or_else(|_| format!("{}/etc/pcp.conf", env::var("PCP_DIR").unwrap_or_default()));
    let text = std::fs::read_to_string(file).ok()?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_matches(|c| c == '"' || c == '\'').to_owned())
}

/// The socket of this host's pmcd: `$PMCD_SOCKET`, or `pmcd.socket` in PCP's run directory.
#[must_use]
pub fn default_socket() -> PathBuf {
    match env::var_os("PMCD_SOCKET") {
        Some(path) => path.into(),
        None => Path::new(&config("PCP_RUN_DIR").unwrap_or_else(|| "/run/pcp".to_owned()))
            .join("pmcd.socket"),
    }
}

pub(super) fn default_ports() -> Vec<u16> {
    let ports: Vec<u16> = env::var("PMCD_PORT")
        .map(|list| {
            list.split(',')
                .filter_map(|p| p.trim().parse().ok())
                .collect()
        })
        .unwrap_or_default();
    if ports.is_empty() {
        vec![PMCD_PORT]
    } else {
        ports
    }
}

impl std::str::FromStr for HostSpec {
    type Err = HostSpecError;

    fn from_str(text: &str) -> std::result::Result<HostSpec, HostSpecError> {
        let (rest, secure) = if let Some(rest) = text.strip_prefix("pcps://") {
            (rest, true)
        } else {
            (text.strip_prefix("pcp://").unwrap_or(text), false)
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let attributes = attributes(query);
        let socket = |path: &str| {
            let path = path.trim_start_matches('/');
            if path.is_empty() {
                default_socket()
            } else {
                Path::new("/").join(path)
            }
        };
        let mut proxy = None;
        let address = if let Some(path) = rest.strip_prefix("unix:") {
            Address::Unix(socket(path))
        } else if let Some(path) = rest.strip_prefix("local:") {
            Address::Local(socket(path))
        } else {
            let (rest, through) = rest.split_once('@').unwrap_or((rest, ""));
            proxy = proxy_of(through)?;
            let (host, ports) = if let Some(inner) = rest.strip_prefix('[') {
                let (host, after) = inner.split_once(']').ok_or(HostSpecError::Bracket)?;
                (host, after.strip_prefix(':').unwrap_or(""))
            } else if rest.matches(':').count() > 1 {
                (rest, "")
            } else {
                rest.split_once(':').unwrap_or((rest, ""))
            };
            if host.is_empty() {
                return Err(HostSpecError::NoHost);
            }
            let ports = if ports.is_empty() {
                default_ports()
            } else {
                let parsed: std::result::Result<_, _> = ports.split(',').map(str::parse).collect();
                parsed.map_err(|_| HostSpecError::Port(ports.to_owned()))?
            };
            Address::Host(host.to_owned(), ports)
        };
        Ok(HostSpec {
            address,
            proxy,
            secure,
            attributes,
        })
    }
}

/// Names of attributes of a connection that mean something here.
const ATTRIBUTES: [&str; 5] = ["container", "method", "password", "realm", "username"];

/// Attributes stand apart by `&`, or by a comma where the name of another one follows.
fn attributes(query: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        for (at, piece) in part.split(',').enumerate() {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            match found.last_mut() {
                Some((_, before)) if at > 0 && !ATTRIBUTES.contains(&name) => {
                    before.push(',');
                    before.push_str(piece);
                }
                _ => found.push((name.to_owned(), value.to_owned())),
            }
        }
    }
    found
}

/// Why a text is not a host specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostSpecError {
    /// A literal address without its closing bracket.
    #[error("missing closing bracket in host spec")]
    Bracket,
    /// Nothing that could be a host.
    #[error("missing host name in host spec")]
    NoHost,
    /// A port that is none.
    #[error("non-numeric port in host spec: {0}")]
    Port(String),
}

/// The proxy that stands behind `@`, or in the environment.
fn proxy_of(text: &str) -> std::result::Result<Option<(String, u16)>, HostSpecError> {
    let named = match text {
        "" => env::var("PMPROXY_HOST").unwrap_or_default(),
        text => text.to_owned(),
    };
    if named.is_empty() {
        return Ok(None);
    }
    let port = env::var("PMPROXY_PORT").ok();
    let port = port.and_then(|port| port.split(',').next()?.parse().ok());
    let port = port.unwrap_or(PROXY_PORT);
    Ok(Some(match named.split_once(':') {
        Some((host, own)) => {
            let own = own
                .parse()
                .map_err(|_| HostSpecError::Port(own.to_owned()))?;
            (host.to_owned(), own)
        }
        None => (named, port),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_specifications() {
        let parse = |t: &str| t.parse::<HostSpec>().expect(t);
        assert_eq!(
            parse("pcp://app:44321,1234?container=web").address,
            Address::Host("app".into(), vec![44321, 1234])
        );
        assert_eq!(
            parse("pcp://app?container=web").attributes,
            [("container".to_owned(), "web".to_owned())]
        );
        assert_eq!(
            parse("unix:///run/x.socket").address,
            Address::Unix("/run/x.socket".into())
        );
        assert_eq!(
            parse("[::1]:4321").address,
            Address::Host("::1".into(), vec![4321])
        );
        assert_eq!(
            parse("h?container=c1,method=plain&password=a,b").attributes,
            [
                ("container", "c1"),
                ("method", "plain"),
                ("password", "a,b")
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert!(parse("pcps://h").secure);
        assert!("h:x".parse::<HostSpec>().is_err());
        assert!("[::1".parse::<HostSpec>().is_err());
    }
}
