//! The sockets that clients connect to, and who they are.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

use nix::unistd::{Gid, Uid, User};
use pcp::pdu::attr;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::spawn_local;

use crate::access::Peer;
use crate::client;
use crate::daemon::{Daemon, text_value};
use crate::options::Options;
use crate::socket::Socket;
use crate::startup::StartError;

/// What is listened on.
pub struct Sockets {
    tcp: Vec<TcpListener>,
    unix: Option<UnixListener>,
}

impl Sockets {
    /// Listens on all that the options say. What can't be had is said.
    ///
    /// # Errors
    /// That nothing could be had.
    pub async fn open(options: &Options) -> Result<Sockets, StartError> {
        let mut failures = Vec::new();
        let mut tcp = Vec::new();
        for port in &options.ports {
            for address in &options.interfaces {
                let address = SocketAddr::new(*address, *port);
                match TcpListener::bind(address).await {
                    Ok(listener) => tcp.push(listener),
                    Err(error) => failures.push(format!("{address}: {error}")),
                }
            }
        }
        let path = &options.socket;
        // A socket that nobody listens on any more is in the way of a new one.
        if std::os::unix::net::UnixStream::connect(path).is_err() {
            let _ = fs::remove_file(path);
        }
        let unix = match UnixListener::bind(path) {
            Ok(listener) => {
                // Everyone may connect; who may do what the configuration says.
                let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o777));
                Some(listener)
            }
            Err(error) => {
                failures.push(format!("{}: {error}", path.display()));
                None
            }
        };
        if tcp.is_empty() || unix.is_none() {
            for failure in &failures {
                eprintln!("pmcd: {failure}");
            }
        }
        if tcp.is_empty() && unix.is_none() {
            return Err(StartError::Listen(failures.join("; ")));
        }
        Ok(Sockets { tcp, unix })
    }

    /// Takes connections for the daemon from now on.
    pub fn serve(self, daemon: &Rc<Daemon>) {
        for listener in self.tcp {
            let daemon = Rc::clone(daemon);
            spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, from)) => accept_tcp(&daemon, stream, from.ip()),
                        Err(error) => refused(&error).await,
                    }
                }
            });
        }
        if let Some(listener) = self.unix {
            let daemon = Rc::clone(daemon);
            spawn_local(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => accept_unix(&daemon, stream),
                        Err(error) => refused(&error).await,
                    }
                }
            });
        }
    }
}

/// Waits a little when there are no descriptors left, for others to close theirs.
async fn refused(error: &io::Error) {
    eprintln!("pmcd: cannot accept a connection: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn accept_tcp(daemon: &Rc<Daemon>, stream: TcpStream, from: IpAddr) {
    let _ = stream.set_nodelay(true);
    let address = match from {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(from, IpAddr::V4),
        IpAddr::V4(_) => from,
    };
    let peer = Peer {
        address: Some(address),
        ..Peer::default()
    };
    let socket = Socket::Tcp(stream);
    spawn_local(client::serve(Rc::clone(daemon), socket, peer, Vec::new()));
}

fn accept_unix(daemon: &Rc<Daemon>, stream: UnixStream) {
    let mut peer = Peer::default();
    let mut attributes = Vec::new();
    if let Ok(credentials) = stream.peer_cred() {
        let mut tell = |attr: u32, value: String| {
            attributes.push((attr, text_value(&value)));
        };
        if let Some(pid) = credentials.pid() {
            tell(attr::PROCESSID, pid.to_string());
        }
        tell(attr::GROUPID, credentials.gid().to_string());
        tell(attr::USERID, credentials.uid().to_string());
        peer.user = Some(credentials.uid());
        peer.groups = Some(groups_of(credentials.uid(), credentials.gid()));
    }
    let socket = Socket::Unix(stream);
    spawn_local(client::serve(Rc::clone(daemon), socket, peer, attributes));
}

/// A user's groups.
pub fn groups_of(user: u32, group: u32) -> Vec<u32> {
    let mut groups = vec![group];
    if let Ok(Some(user)) = User::from_uid(Uid::from_raw(user))
        && let Ok(name) = std::ffi::CString::new(user.name)
        && let Ok(list) = nix::unistd::getgrouplist(&name, Gid::from_raw(group))
    {
        groups.extend(list.iter().map(|g| g.as_raw()));
    }
    groups
}
