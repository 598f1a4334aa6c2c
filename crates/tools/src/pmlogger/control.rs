//! How a logger is reached by pmlc(1): its sockets, and the files that say where they are.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use pcp::pdu::{CLIENT_LIMIT, Header, Pdu};
use pcp::{Error, ErrorCode, config};

/// The port at which the search for a free one begins.
const FIRST_PORT: u16 = 4330;
/// How long a client may keep the logger waiting.
const PATIENCE: Duration = Duration::from_secs(5);

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets and files of a logger; the files go when this is dropped.
pub struct Control {
    listeners: Vec<Listener>,
    /// The TCP port, 0 if there is none.
    pub port: u16,
    socket: PathBuf,
    files: Vec<PathBuf>,
}

/// A folder of PCP's configuration.
pub fn folder(variable: &str, default: &str) -> PathBuf {
    config(variable)
        .unwrap_or_else(|| default.to_owned())
        .into()
}

fn run_folder() -> PathBuf {
    folder("PCP_RUN_DIR", "/run/pcp")
}

/// The folder with a file for every logger.
pub fn map_folder() -> PathBuf {
    folder("PCP_TMP_DIR", "/var/lib/pcp/tmp").join("pmlogger")
}

/// The socket of a logger: of a process, or of the primary one.
pub fn socket_path(of: &str) -> PathBuf {
    run_folder().join(format!("pmlogger.{of}.socket"))
}

/// The process of the primary logger, if one runs.
fn primary_pid(link: &Path) -> Option<i32> {
    let target = fs::read_link(link).ok()?;
    let pid: i32 = target.file_name()?.to_str()?.parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

impl Control {
    /// Listens. The port is the first that is free from `$PMLOGGER_PORT` (4330) on; with `$PMLOGGER_LOCAL` only this host
    /// can connect.
    pub fn listen() -> Control {
        let first = std::env::var("PMLOGGER_PORT").ok();
        let first = first.and_then(|p| p.parse().ok()).unwrap_or(FIRST_PORT);
        let local = std::env::var("PMLOGGER_LOCAL").is_ok_and(|v| v == "1");
        let v4 = if local {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        let v6 = if local {
            Ipv6Addr::LOCALHOST
        } else {
            Ipv6Addr::UNSPECIFIED
        };
        let mut control = Control {
            listeners: Vec::new(),
            port: 0,
            socket: socket_path(&std::process::id().to_string()),
            files: Vec::new(),
        };
        for port in first..=u16::MAX {
            // Where the socket for version 6 serves both, that for version 4 is refused, and not needed.
            let six = TcpListener::bind((IpAddr::V6(v6), port));
            let four = TcpListener::bind((IpAddr::V4(v4), port));
            if four.is_err() && (six.is_err() || local) {
                continue;
            }
            control.port = port;
            for listener in [six, four].into_iter().flatten() {
                if listener.set_nonblocking(true).is_ok() {
                    control.listeners.push(Listener::Tcp(listener));
                }
            }
            break;
        }
        if let Ok(listener) = UnixListener::bind(&control.socket)
            && listener.set_nonblocking(true).is_ok()
        {
            // Whoever may see the folder may connect; what they may do, the rules say.
            let _ = fs::set_permissions(&control.socket, fs::Permissions::from_mode(0o666));
            control.files.push(control.socket.clone());
            control.listeners.push(Listener::Unix(listener));
        }
        control
    }

    /// Tells the process of another primary logger.
    pub fn other_primary() -> Option<(i32, PathBuf)> {
        let link = map_folder().join("primary");
        let pid = primary_pid(&link)?;
        (pid != std::process::id() as i32).then_some((pid, link))
    }

    /// Writes the file in which clients and pmcd find this logger.
    ///
    /// # Errors
    /// What the system says, with the file.
    pub fn publish(
        &mut self,
        host: &str,
        archive: &Path,
        note: Option<&str>,
        primary: bool,
    ) -> Result<(), (PathBuf, io::Error)> {
        let map = map_folder();
        let pid = std::process::id().to_string();
        let file = map.join(&pid);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        // The folder is there in every installation; where it is not, it is made.
        fs::create_dir_all(&map).map_err(failed(&map))?;
        let mut text = format!("{}\n{host}\n{}\n", self.port, archive.display());
        if let Some(note) = note {
            text.push_str(note);
            text.push('\n');
        }
        fs::write(&file, text).map_err(failed(&file))?;
        self.files.push(file.clone());
        if primary {
            for (link, target) in [
                (map.join("primary"), &file),
                (socket_path("primary"), &self.socket),
            ] {
                let _ = fs::remove_file(&link);
                std::os::unix::fs::symlink(target, &link).map_err(failed(&link))?;
                self.files.push(link);
            }
        }
        Ok(())
    }

    /// The sockets to wait on.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(|listener| match listener {
            Listener::Tcp(l) => l.as_fd(),
            Listener::Unix(l) => l.as_fd(),
        })
    }

    /// A client that waits, if there is one.
    pub fn accept(&self) -> Option<Client> {
        for listener in &self.listeners {
            let (stream, address) = match listener {
                Listener::Tcp(listener) => match listener.accept() {
                    Ok((stream, peer)) => (Stream::Tcp(stream), Some(peer.ip().to_canonical())),
                    Err(_) => continue,
                },
                Listener::Unix(listener) => match listener.accept() {
                    Ok((stream, _)) => (Stream::Unix(stream), None),
                    Err(_) => continue,
                },
            };
            let name = match address {
                None => self.socket.display().to_string(),
                Some(address) if address.is_loopback() => "localhost".to_owned(),
                Some(address) => address.to_string(),
            };
            if stream.prepare().is_ok() {
                return Some(Client {
                    stream,
                    address,
                    name,
                    input: BytesMut::new(),
                    version: None,
                });
            }
        }
        None
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        for file in self.files.iter().rev() {
            let _ = fs::remove_file(file);
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(s) => {
                s.set_nonblocking(false)?;
                s.set_nodelay(true)?;
                s.set_read_timeout(Some(PATIENCE))?;
                s.set_write_timeout(Some(PATIENCE))
            }
            Stream::Unix(s) => {
                s.set_nonblocking(false)?;
                s.set_read_timeout(Some(PATIENCE))?;
                s.set_write_timeout(Some(PATIENCE))
            }
        }
    }
}

/// A client, pmlc(1) or the like.
pub struct Client {
    stream: Stream,
    /// Its address, unless it came by the socket in the file system.
    pub address: Option<IpAddr>,
    /// What to call it in the log.
    pub name: String,
    input: BytesMut,
    /// The version of the protocol that it speaks, once it has said so.
    pub version: Option<u8>,
}

impl Client {
    /// The socket to wait on.
    pub fn socket(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(s) => s.as_fd(),
            Stream::Unix(s) => s.as_fd(),
        }
    }

    /// Sends a PDU.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&mut self, pdu: &Pdu, from: i32) -> io::Result<()> {
        let bytes = pdu.to_bytes(from);
        match &mut self.stream {
            Stream::Tcp(s) => s.write_all(&bytes),
            Stream::Unix(s) => s.write_all(&bytes),
        }
    }

    /// Reads what is there, which is something when [`Client::socket`] is readable, and returns the PDUs in it.
    ///
    /// # Errors
    /// `PM_ERR_EOF` at the end, `PM_ERR_IPC` for rubbish and for PDUs that are too long.
    pub fn receive(&mut self) -> Result<Vec<Pdu>, Error> {
        let mut buffer = [0; 8192];
        let got = match &mut self.stream {
            Stream::Tcp(s) => s.read(&mut buffer),
            Stream::Unix(s) => s.read(&mut buffer),
        }?;
        if got == 0 {
            return Err(ErrorCode::EOF.into());
        }
        self.input
            .extend_from_slice(buffer.get(..got).unwrap_or_default());
        let mut pdus = Vec::new();
        while let Some(header) = Header::decode(&self.input, CLIENT_LIMIT)? {
            if self.input.len() < header.length {
                break;
            }
            let frame = self.input.split_to(header.length).freeze();
            pdus.push(Pdu::decode(&frame)?.1);
        }
        Ok(pdus)
    }
}
