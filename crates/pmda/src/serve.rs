//! The loop of an agent, over the pipes that pmcd started it with or a socket that pmcd connects to.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use bytes::BytesMut;
use pcp::pdu::{Cred, Features, HEADER_LEN, Header, Pdu};
use pcp::{ErrorCode, SERVER_LIMIT};

use crate::agent::Agent;
use crate::answer::Answerer;

/// Serves the pmcd at the other ends of standard input and output until it goes.
///
/// # Errors
/// What the system says, or that what came were no PDUs.
pub fn serve(agent: &mut dyn Agent) -> io::Result<()> {
    serve_over(agent, &mut io::stdin().lock(), &mut io::stdout().lock())
}

/// Where an agent meets its pmcd (pmdaConnect(3)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// Standard input and output.
    #[default]
    Pipe,
    /// A TCP port of this host, by IPv4.
    Inet(u16),
    /// The same by IPv6.
    Inet6(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Serves the pmcd at an endpoint until it goes. On a socket, the first that connects is taken to be it.
///
/// # Errors
/// As [`serve`], or that there can't be listened.
pub fn serve_at(agent: &mut dyn Agent, endpoint: &Endpoint) -> io::Result<()> {
    let listener = match endpoint {
        Endpoint::Pipe => return serve(agent),
        Endpoint::Unix(path) => {
            // One that an earlier agent left; a file that is no socket stays and is an error.
            if UnixStream::connect(path).is_err()
                && fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
            {
                fs::remove_file(path)?;
            }
            let (stream, _) = UnixListener::bind(path)?.accept()?;
            return serve_over(agent, &mut &stream, &mut &stream);
        }
        Endpoint::Inet(port) => TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?,
        Endpoint::Inet6(port) => TcpListener::bind((Ipv6Addr::LOCALHOST, *port))?,
    };
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    serve_over(agent, &mut &stream, &mut &stream)
}

/// The same over any pair of streams.
///
/// # Errors
/// As [`serve`].
pub fn serve_over(
    agent: &mut dyn Agent,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> io::Result<()> {
    let mut out = Vec::new();
    // Who a client is is told only to those that say that they want to know (PCP's PDU_FLAG_AUTH and _CONTAINER).
    let wanted = Features::AUTH
        .with(Features::CONTAINER)
        .with(Features::LABELS);
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    Pdu::Creds(vec![Cred::version(wanted)]).encode(pid, &mut out);
    output.write_all(&out)?;
    output.flush()?;
    let mut answerer = Answerer::new();
    let mut buffer = BytesMut::new();
    let mut send = |answer: &Pdu| {
        out.clear();
        answer.encode(0, &mut out);
        output.write_all(&out)?;
        output.flush()
    };
    loop {
        let Some((header, pdu)) = next(input, &mut buffer)? else {
            return Ok(());
        };
        if Answerer::answers(&pdu)
            && let Some(pause) = agent.pause()
        {
            let said = |code| Pdu::Error { code, info: None };
            send(&said(ErrorCode::PMDANOTREADY))?;
            thread::sleep(pause);
            send(&said(ErrorCode::PMDAREADY))?;
            continue;
        }
        if let Some(answer) = answerer.answer(agent, header.from, pdu) {
            send(&answer)?;
            if agent.is_done() {
                return Ok(());
            }
        }
    }
}

fn next(input: &mut dyn Read, buffer: &mut BytesMut) -> io::Result<Option<(Header, Pdu)>> {
    let mut need = HEADER_LEN;
    loop {
        if let Some(header) = Header::decode(buffer, SERVER_LIMIT).map_err(io::Error::other)? {
            need = header.length;
            if buffer.len() >= need {
                let frame = buffer.split_to(need).freeze();
                return Pdu::decode(&frame).map(Some).map_err(io::Error::other);
            }
        }
        let have = buffer.len();
        let room = need.saturating_sub(have).clamp(4096, 1 << 20);
        buffer.resize(have + room, 0);
        let got = loop {
            match input.read(buffer.get_mut(have..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        buffer.truncate(have + got);
        if got == 0 {
            return Ok(None);
        }
    }
}
