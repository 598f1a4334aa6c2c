//! A connection to a daemon that speaks PDUs, blocking.

mod spec;

use std::env;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

pub use spec::{Address, HostSpec, HostSpecError, PMCD_PORT, config, default_socket};

use crate::debug::pdus as trace;
use crate::error::{Error, ErrorCode, Result};
use crate::exchanged;
use crate::pdu::{Cred, Features, HEADER_LEN, Header, Info, Pdu, attr};
use crate::sasl::{ClientExchange, Mechanism};
use crate::tls::TlsSettings;
use spec::default_ports;

/// EOPNOTSUPP: what PCP's clients say where a server lacks a feature.
const NOT_SUPPORTED: ErrorCode = ErrorCode(-95);
/// The longest PDU that a client takes from a server, in bytes.
pub const SERVER_LIMIT: usize = 256 * 1024 * 1024;

/// A stream socket.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.read(space),
            Stream::Unix(s) => s.read(space),
            Stream::Tls(s) => s.read(space),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(s) => s.write_all(bytes),
            Stream::Unix(s) => s.write_all(bytes),
            Stream::Tls(s) => s.write_all(bytes).and_then(|()| s.flush()),
        }
    }

    fn peer_port(&self) -> Option<u16> {
        let socket = match self {
            Stream::Tcp(s) => s,
            Stream::Unix(_) => return None,
            Stream::Tls(s) => &s.sock,
        };
        socket.peer_addr().ok().map(|address| address.port())
    }

    fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(s) => s.set_read_timeout(timeout),
            Stream::Unix(s) => s.set_read_timeout(timeout),
            Stream::Tls(s) => s.sock.set_read_timeout(timeout),
        }
    }
}

/// An established connection to pmcd or the like.
pub struct Connection {
    stream: Stream,
    input: BytesMut,
    output: Vec<u8>,
    info: Info,
    /// Whether the server may still refuse the user: it does so in the place of an answer, and then says nothing of use any more.
    unconfirmed: bool,
    refused: Option<ErrorCode>,
}

/// The socket, to wait on it: it is readable when the server has something to say, or has gone.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(s) => s.as_fd(),
            Stream::Unix(s) => s.as_fd(),
            Stream::Tls(s) => s.sock.as_fd(),
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
            Address::Host(host, ports) => Stream::Tcp(match &spec.proxy {
                Some((proxy, port)) => through(proxy, *port, host, ports)?,
                None => connect(host, ports)?,
            }),
        };
        let mut connection = Connection {
            stream,
            input: BytesMut::new(),
            output: Vec::new(),
            info: Info::new(Features::default()),
            unconfirmed: false,
            refused: None,
        };
        connection
            .stream
            .set_timeout(Some(seconds("PMCD_REQUEST_TIMEOUT", 10.0)))?;
        trace::socket(connection.descriptor());
        connection.handshake(spec)?;
        trace::connected(
            connection.descriptor(),
            &spec.address,
            connection.stream.peer_port(),
            connection.info.version,
        );
        Ok(connection)
    }

    fn handshake(&mut self, spec: &HostSpec) -> Result<()> {
        match self.receive()? {
            Pdu::Error { code, .. } if code.is_error() => {
                return Err(code.of_either_version().into());
            }
            Pdu::Error {
                info: Some(info), ..
            } => {
                self.info = info;
                trace::greeted(self.descriptor(), info);
            }
            Pdu::Error { info: None, .. } => {}
            other => return Err(Error::ipc(format!("PDU {:#x} as a greeting", other.kind()))),
        }
        let offered = self.info.features;
        let secure = self.is_secure(spec)?;
        let attribute = |name: &str| {
            let mut attributes = spec.attributes.iter();
            let found = attributes.find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let container = attribute("container");
        let local = matches!(self.stream, Stream::Unix(_));
        let asked = attribute("username").is_some() || attribute("method").is_some();
        // Who is at the other end of a Unix socket is known to the server anyway.
        let authenticate = asked || (offered.has(Features::CREDS_REQUIRED) && !local);
        let mut wanted = Features::default();
        for (feature, want) in [
            (Features::CONTAINER, container.is_some()),
            (Features::AUTH, authenticate),
            (Features::SECURE, secure),
        ] {
            if want && !offered.has(feature) {
                return Err(NOT_SUPPORTED.into());
            }
            if want {
                wanted = wanted.with(feature);
            }
        }
        for feature in [Features::SECURE_ACK, Features::CERT_REQUIRED] {
            if secure && offered.has(feature) {
                wanted = wanted.with(feature);
            }
        }
        self.send(&Pdu::Creds(vec![Cred::version(wanted)]))?;
        if secure {
            if wanted.has(Features::SECURE_ACK) {
                match self.receive()? {
                    Pdu::Error { code, .. } if code.is_error() => return Err(code.into()),
                    Pdu::Error { .. } => {}
                    _ => return Err(ErrorCode::TLS.into()),
                }
            }
            self.encrypt(spec)?;
        }
        if authenticate {
            let method = attribute("method");
            let user = attribute("username").ok_or(ErrorCode::SASL_BADPARAM)?;
            let password = attribute("password").ok_or(ErrorCode::SASL_BADPARAM)?;
            self.authenticate(method, user, password)?;
        }
        if let Some(name) = container {
            let value = Bytes::copy_from_slice(name.as_bytes());
            self.send(&Pdu::Attr {
                attr: attr::CONTAINER,
                value,
            })?;
        }
        Ok(())
    }

    /// Whether TLS is to be spoken: by the specification, or for all connections to other hosts by `$PCP_SECURE_SOCKETS`.
    fn is_secure(&self, spec: &HostSpec) -> Result<bool> {
        let offered = self.info.features;
        let tcp = matches!(self.stream, Stream::Tcp(_));
        let everywhere = env::var("PCP_SECURE_SOCKETS").ok();
        let secure = tcp
            && match everywhere.as_deref() {
                _ if spec.secure => true,
                Some("relaxed") => offered.has(Features::SECURE),
                Some(_) => true,
                None => false,
            };
        // Certificates are demanded of other hosts' clients.
        let remote = !matches!(&spec.address, Address::Host(host, _) if host == "localhost");
        if !secure && offered.has(Features::CERT_REQUIRED) && tcp && remote {
            return Err(ErrorCode::NEEDCLIENTCERT.into());
        }
        Ok(secure)
    }

    /// Goes on in TLS.
    fn encrypt(&mut self, spec: &HostSpec) -> Result<()> {
        let failed = |what: &dyn std::fmt::Display| Error::Malformed {
            code: ErrorCode::TLS,
            what: what.to_string(),
        };
        let host = match &spec.address {
            Address::Host(host, _) => host.as_str(),
            Address::Unix(_) | Address::Local(_) => "localhost",
        };
        let Stream::Tcp(stream) = &self.stream else {
            return Err(NOT_SUPPORTED.into());
        };
        // Nothing that was said in the clear may count as said in secret.
        if !self.input.is_empty() {
            return Err(failed(&"more than the acknowledgement came"));
        }
        let mut socket = stream.try_clone()?;
        let name = ServerName::try_from(host.to_owned()).map_err(|e| failed(&e))?;
        let config = TlsSettings::load().client().map_err(|e| failed(&e))?;
        let mut tls = ClientConnection::new(config, name).map_err(|e| failed(&e))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|e| failed(&e))?;
        }
        self.stream = Stream::Tls(Box::new(StreamOwned::new(tls, socket)));
        Ok(())
    }

    /// Says who the user is, by a mechanism that both ends know.
    fn authenticate(&mut self, method: Option<&str>, user: &str, password: &str) -> Result<()> {
        let offered = self.challenge()?;
        let offered = String::from_utf8_lossy(&offered);
        let offers = |m: &Mechanism| {
            let mut words = offered.split([' ', '\0']);
            words.any(|word| word.eq_ignore_ascii_case(m.name()))
        };
        let mechanism = match method {
            Some(name) => Mechanism::named(name).filter(offers),
            None => Mechanism::ALL.into_iter().find(offers),
        };
        let mechanism = mechanism.ok_or(ErrorCode::SASL_NOMECH)?;
        let (mut exchange, first) = ClientExchange::start(mechanism, user, password)?;
        let mut message = mechanism.name().as_bytes().to_vec();
        message.push(0);
        message.extend(first.unwrap_or_default());
        self.send_attribute(message)?;
        while !exchange.is_done() {
            let said = self.challenge()?;
            let answer = exchange.step(&said)?;
            self.send_attribute(answer)?;
        }
        self.unconfirmed = true;
        Ok(())
    }

    fn send_attribute(&mut self, value: Vec<u8>) -> Result<()> {
        self.send(&Pdu::Attr {
            attr: 0,
            value: value.into(),
        })
    }

    /// What a server says during authentication.
    fn challenge(&mut self) -> Result<Bytes> {
        match self.receive()? {
            Pdu::Attr { value, .. } => Ok(value),
            Pdu::Error { code, .. } if code.is_error() => Err(code.into()),
            other => Err(Error::ipc(format!(
                "PDU {:#x} as a challenge",
                other.kind()
            ))),
        }
    }

    fn descriptor(&self) -> RawFd {
        self.as_fd().as_raw_fd()
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
        if let Some(code) = self.refused {
            return Err(code.into());
        }
        if let Pdu::Creds(creds) = pdu {
            trace::credentials(creds);
        }
        self.output.clear();
        pdu.encode(0, &mut self.output);
        if matches!(pdu, Pdu::Creds(_)) {
            let pid = std::process::id().to_be_bytes();
            if let Some(from) = self.output.get_mut(8..12) {
                from.copy_from_slice(&pid);
            }
        }
        let output = std::mem::take(&mut self.output);
        trace::sent(self.descriptor(), &output);
        let sent = self.stream.write_all(&output);
        exchanged::sent(pdu.kind());
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
                    trace::received(self.descriptor(), &frame);
                    let (_, pdu) = Pdu::decode(&frame)?;
                    exchanged::received(pdu.kind());
                    if let Pdu::Error { code, info } = &pdu {
                        trace::error(*code, *info);
                    }
                    if std::mem::take(&mut self.unconfirmed)
                        && let Pdu::Error { code, .. } = pdu
                        && refuses_user(code)
                    {
                        self.refused = Some(code);
                    }
                    return Ok(pdu);
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
            match self.stream.read(space) {
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

/// Whether a code is one of authentication: those of SASL, `ESRCH` for a user whom the server's host does not know, and
/// `PM_ERR_PERMISSION` and `PM_ERR_CONNLIMIT` by rules about users.
fn refuses_user(code: ErrorCode) -> bool {
    (-22344..ErrorCode::NYI.0).contains(&code.0)
        || [ErrorCode(-3), ErrorCode::PERMISSION, ErrorCode::CONNLIMIT].contains(&code)
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

/// Has a proxy connect to a host, the first of its ports (pmproxy(1)).
fn through(proxy: &str, port: u16, host: &str, ports: &[u16]) -> Result<TcpStream> {
    let mut stream = connect(proxy, &[port])?;
    stream.set_read_timeout(Some(seconds("PMCD_CONNECT_TIMEOUT", 5.0)))?;
    stream.write_all(b"pmproxy-client 1\n")?;
    // What comes behind this line is the server's.
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.len() < 64 && byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        answer.extend_from_slice(&byte);
    }
    if answer != b"pmproxy-server 1\n" {
        return Err(Error::ipc("no greeting of a proxy".to_owned()));
    }
    let port = ports.first().copied().unwrap_or(PMCD_PORT);
    stream.write_all(format!("{host} {port}\n").as_bytes())?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proxy is told the host, and what it passes on is the server's.
    #[test]
    fn proxies_are_asked_for_hosts() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut lines = io::BufRead::lines(io::BufReader::new(stream.try_clone().expect("it")));
            let mut line = || lines.next().expect("a line").expect("a line");
            assert_eq!(line(), "pmproxy-client 1");
            (&stream)
                .write_all(b"pmproxy-server 1\nX")
                .expect("written");
            line()
        });
        let spec = format!("far.example:4321@127.0.0.1:{port}");
        let spec: HostSpec = spec.parse().expect("a specification");
        assert_eq!(spec.proxy, Some(("127.0.0.1".to_owned(), port)));
        let mut stream = through("127.0.0.1", port, "far.example", &[4321]).expect("a way");
        let mut next = [0];
        stream.read_exact(&mut next).expect("a byte");
        assert_eq!(next, *b"X");
        assert_eq!(proxy.join().expect("a proxy"), "far.example 4321");
        assert!("a@b:c".parse::<HostSpec>().is_err());
    }
}
