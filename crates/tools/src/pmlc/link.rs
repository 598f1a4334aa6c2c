//! The way to a logger.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use pcp::pdu::{Cred, HEADER_LEN, Header, Pdu};
use pcp::{Atom, Context, Error, ErrorCode, Result, SERVER_LIMIT, Type};

use crate::pmlogger::socket_path;

/// What stands for this host where no other is named.
pub const HERE: &str = "local:";

/// A logger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The primary one.
    Primary,
    /// That of a process.
    Pid(i32),
    /// That at a TCP port.
    Port(u16),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Primary => write!(f, "primary pmlogger"),
            Target::Pid(pid) => write!(f, "pmlogger pid {pid}"),
            Target::Port(port) => write!(f, "pmlogger on port {port}"),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection to a logger.
pub struct Link {
    stream: Stream,
    input: BytesMut,
    /// The logger's process.
    pub pid: i32,
}

/// Loggers on a host, as its pmcd knows them: names (a process, or `primary`) and ports.
///
/// # Errors
/// What the connection says.
pub fn loggers(host: &str) -> Result<Vec<(String, u16)>> {
    let mut context = Context::host(host)?;
    let pmid = context.lookup_name("pmcd.pmlogger.port")?;
    let desc = context.desc(pmid)?;
    let instances = match context.instances(desc.indom) {
        Ok(instances) => instances,
        Err(Error::Code(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let fetched = context.fetch(&[pmid])?;
    let values = fetched.sets.first().map(|s| s.instances());
    let mut found = Vec::new();
    for value in values.unwrap_or_default() {
        let name = instances.iter().find(|i| i.inst == value.inst);
        if let (Some(name), Ok(Atom::U32(port))) = (name, Atom::extract(&value.value, Type::U32)) {
            found.push((name.name.to_string(), u16::try_from(port).unwrap_or(0)));
        }
    }
    Ok(found)
}

/// ECONNREFUSED: where a logger should be, there is none.
const REFUSED: ErrorCode = ErrorCode(-111);

impl Link {
    /// Connects to a logger.
    ///
    /// # Errors
    /// What the system or the logger says.
    pub fn open(target: &Target, host: &str) -> Result<Link> {
        if host == HERE {
            let socket = match target {
                Target::Primary => Some(socket_path("primary")),
                Target::Pid(pid) => Some(socket_path(&pid.to_string())),
                Target::Port(_) => None,
            };
            if let Some(stream) = socket.and_then(|path| UnixStream::connect(path).ok()) {
                return Link::greet(Stream::Unix(stream));
            }
        }
        let port = match target {
            Target::Port(port) => *port,
            Target::Primary | Target::Pid(_) => {
                let name = match target {
                    Target::Pid(pid) => pid.to_string(),
                    _ => "primary".to_owned(),
                };
                let known = loggers(host)?.into_iter().find(|(n, _)| *n == name);
                known.ok_or(REFUSED)?.1
            }
        };
        let name = if host == HERE { "localhost" } else { host };
        let name = name.split(['?', '@']).next().unwrap_or(name);
        let name = name.split_once(':').map_or(name, |(name, _)| name);
        // EHOSTUNREACH, which PCP reports for names that are not known.
        let mut failed = io::Error::from_raw_os_error(113);
        let addresses = (name, port)
            .to_socket_addrs()
            .map(Iterator::collect::<Vec<_>>);
        for address in addresses.unwrap_or_default() {
            match TcpStream::connect(address) {
                Ok(stream) => return Link::greet(Stream::Tcp(stream)),
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    fn greet(stream: Stream) -> Result<Link> {
        let seconds = std::env::var("PMLOGGER_REQUEST_TIMEOUT").ok();
        let seconds = seconds
            .and_then(|s| s.parse::<u64>().ok())
            .filter(|s| *s > 0);
        let patience = Duration::from_secs(seconds.unwrap_or(60));
        match &stream {
            Stream::Tcp(s) => s.set_read_timeout(Some(patience))?,
            Stream::Unix(s) => s.set_read_timeout(Some(patience))?,
        }
        let mut link = Link {
            stream,
            input: BytesMut::new(),
            pid: 0,
        };
        let (header, greeting) = link.receive()?;
        let version = match greeting {
            Pdu::Error { code, .. } if !code.is_error() => code.0,
            Pdu::Error { code, .. } => return Err(code.into()),
            _ => return Err(ErrorCode::IPC.into()),
        };
        link.pid = header.from;
        let version = version.min(pcp::pdu::log::VERSION) as u8;
        link.send(&Pdu::Creds(vec![Cred {
            ty: Cred::VERSION,
            bytes: [version, 0, 0],
        }]))?;
        Ok(link)
    }

    fn send(&mut self, pdu: &Pdu) -> Result<()> {
        let from = match pdu {
            Pdu::Creds(_) => std::process::id() as i32,
            _ => 0,
        };
        let bytes = pdu.to_bytes(from);
        match &mut self.stream {
            Stream::Tcp(s) => s.write_all(&bytes)?,
            Stream::Unix(s) => s.write_all(&bytes)?,
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(Header, Pdu)> {
        let mut need = HEADER_LEN;
        let mut buffer = [0; 8192];
        loop {
            if let Some(header) = Header::decode(&self.input, SERVER_LIMIT)? {
                need = need.max(header.length);
            }
            if self.input.len() >= need && need > HEADER_LEN {
                let frame = self.input.split_to(need).freeze();
                return Pdu::decode(&frame);
            }
            let got = match &mut self.stream {
                Stream::Tcp(s) => s.read(&mut buffer),
                Stream::Unix(s) => s.read(&mut buffer),
            };
            match got {
                Ok(0) => return Err(ErrorCode::EOF.into()),
                Ok(got) => self
                    .input
                    .extend_from_slice(buffer.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ErrorCode::TIMEOUT.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a request and waits for the answer; an ERROR PDU with an error becomes one.
    ///
    /// # Errors
    /// What the connection and the logger say.
    pub fn request(&mut self, pdu: &Pdu) -> Result<Pdu> {
        self.send(pdu)?;
        match self.receive()?.1 {
            Pdu::Error { code, .. } if code.is_error() => Err(code.into()),
            answer => Ok(answer),
        }
    }
}
