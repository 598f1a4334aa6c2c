//! A connection to a daemon that speaks PDUs, blocking.

use std::env;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorCode, Result};
use crate::pdu::{Cred, Features, HEADER_LEN, Header, Info, Pdu, attr};

/// The port of pmcd that IANA knows.
pub const PMCD_PORT: u16 = 44321;
/// The longest PDU that a client takes from a server, in bytes.
pub const SERVER_LIMIT: usize = 256 * 1024 * 1024;

/// Where a daemon listens, from a host specification as PCP's `-h` takes it (PCPIntro(1), "PMCD host specification").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostSpec {
    /// How to get there.
    pub address: Address,
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

fn default_ports() -> Vec<u16> {
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
        let attributes = query
            .split('&')
            .filter(|a| !a.is_empty())
            .map(|a| a.split_once('=').unwrap_or((a, "")))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let socket = |path: &str| {
            let path = path.trim_start_matches('/');
            if path.is_empty() {
                default_socket()
            } else {
                Path::new("/").join(path)
            }
        };
        let address = if let Some(path) = rest.strip_prefix("unix:") {
            Address::Unix(socket(path))
        } else if let Some(path) = rest.strip_prefix("local:") {
            Address::Local(socket(path))
        } else {
            let rest = rest.split_once('@').map_or(rest, |(host, _)| host);
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
            secure,
            attributes,
        })
    }
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

/// A stream socket.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn reader(&mut self) -> &mut dyn Read {
        match self {
            Stream::Tcp(s) => s,
            Stream::Unix(s) => s,
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Stream::Tcp(s) => s,
            Stream::Unix(s) => s,
        }
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(s) => s.set_read_timeout(timeout),
            Stream::Unix(s) => s.set_read_timeout(timeout),
        }
    }
}

/// An established connection to pmcd or the like.
pub struct Connection {
    stream: Stream,
    input: BytesMut,
    output: Vec<u8>,
    info: Info,
}

/// The socket, to wait on it: it is readable when the server has something to say, or has gone.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(s) => s.as_fd(),
            Stream::Unix(s) => s.as_fd(),
        }
    }
}

fn seconds(variable: &str, default: f64) -> Duration {
    let value = env::var(variable)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(default);
    Duration::try_from_secs_f64(value).unwrap_or(Duration::from_secs(5))
}

impl Connection {
    /// Connects and shakes hands. Waits `$PMCD_CONNECT_TIMEOUT` seconds (5) for a connection and
    /// `$PMCD_REQUEST_TIMEOUT` (10) for every answer.
    ///
    /// # Errors
    /// What the system says about the connection; what the server's greeting says.
    pub fn open(spec: &HostSpec) -> Result<Connection> {
        let stream = match &spec.address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Local(path) => match UnixStream::connect(path) {
                Ok(stream) => Stream::Unix(stream),
                Err(_) => Stream::Tcp(connect("localhost", &default_ports())?),
            },
            Address::Host(host, ports) => Stream::Tcp(connect(host, ports)?),
        };
        let mut connection = Connection {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            info: Info::new(Features::default()),
        };
        connection
            .stream
            .set_timeout(Some(seconds("PMCD_REQUEST_TIMEOUT", 10.0)))?;
        connection.handshake(spec)?;
        Ok(connection)
    }

    fn handshake(&mut self, spec: &HostSpec) -> Result<()> {
        match self.receive()? {
            Pdu::Error { code, .. } if code.is_error() => return Err(code.into()),
            Pdu::Error {
                info: Some(info), ..
            } => self.info = info,
            Pdu::Error { info: None, .. } => {}
            other => return Err(Error::ipc(format!("PDU {:#x} as a greeting", other.kind()))),
        }
        if spec.secure {
            return Err(ErrorCode(-95).into());
        }
        let container = spec.attributes.iter().find(|(k, _)| k == "container");
        let mut wanted = Features::default();
        if container.is_some() {
            wanted = wanted.with(Features::CONTAINER);
        }
        self.send(&Pdu::Creds(vec![Cred::version(wanted)]))?;
        if let Some((_, name)) = container {
            if !self.info.features.has(Features::CONTAINER) {
                return Err(ErrorCode(-95).into());
            }
            let value = Bytes::copy_from_slice(name.as_bytes());
            self.send(&Pdu::Attr {
                attr: attr::CONTAINER,
                value,
            })?;
        }
        Ok(())
    }

    /// What the server's greeting offered.
    #[must_use]
    pub fn features(&self) -> Features {
        self.info.features
    }

    /// Sends a PDU.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&mut self, pdu: &Pdu) -> Result<()> {
        self.output.clear();
        pdu.encode(0, &mut self.output);
        if matches!(pdu, Pdu::Creds(_)) {
            let pid = std::process::id().to_be_bytes();
            if let Some(from) = self.output.get_mut(8..12) {
                from.copy_from_slice(&pid);
            }
        }
        let output = std::mem::take(&mut self.output);
        let sent = self.stream.writer().write_all(&output);
        self.output = output;
        Ok(sent?)
    }

    /// Waits for the next PDU.
    ///
    /// # Errors
    /// `PM_ERR_EOF` when the connection ended, `PM_ERR_TIMEOUT` when nothing came in time, `PM_ERR_IPC` for rubbish.
    pub fn receive(&mut self) -> Result<Pdu> {
        let mut need = HEADER_LEN;
        loop {
            if let Some(header) = Header::decode(&self.input, SERVER_LIMIT)? {
                need = header.length;
                if self.input.len() >= need {
                    let frame = self.input.split_to(need).freeze();
                    return Ok(Pdu::decode(&frame)?.1);
                }
            }
            self.fill(need)?;
        }
    }

    /// Reads at least one byte more of the `need` that the next PDU has.
    fn fill(&mut self, need: usize) -> Result<()> {
        let have = self.input.len();
        // A length is believed only so far: a server that says much and sends little costs little.
        let room = need.saturating_sub(have).clamp(8192, 1 << 20);
        self.input.resize(have + room, 0);
        let got = loop {
            let space = self.input.get_mut(have..).unwrap_or_default();
            match self.stream.reader().read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
                Ok(n) => break Ok(n),
            }
        };
        self.input
            .truncate(have + got.as_ref().copied().unwrap_or(0));
        match got {
            Ok(0) => Err(ErrorCode::EOF.into()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(ErrorCode::TIMEOUT.into())
            }
            Err(error) if error.raw_os_error() == Some(104) => Err(ErrorCode::EOF.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a request and waits for the answer; an ERROR PDU with an error becomes one.
    ///
    /// # Errors
    /// As [`Connection::send`] and [`Connection::receive`], and what the server answers.
    pub fn request(&mut self, pdu: &Pdu) -> Result<Pdu> {
        self.send(pdu)?;
        match self.receive()? {
            Pdu::Error { code, .. } if code.is_error() => Err(code.into()),
            answer => Ok(answer),
        }
    }
}

fn connect(host: &str, ports: &[u16]) -> Result<TcpStream> {
    let timeout = seconds("PMCD_CONNECT_TIMEOUT", 5.0);
    // EHOSTUNREACH, which PCP reports for names that are not known.
    let mut failed = io::Error::from_raw_os_error(113);
    for port in ports {
        let addresses = match (host, *port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(_) => return Err(failed.into()),
        };
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => failed = error,
            }
        }
    }
    Err(failed.into())
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
        assert!(parse("pcps://h").secure);
        assert!("h:x".parse::<HostSpec>().is_err());
        assert!("[::1".parse::<HostSpec>().is_err());
    }
}
