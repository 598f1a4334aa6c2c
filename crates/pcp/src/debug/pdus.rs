//! PDUs and what is known of the connections that they travel on (`-Dpdu`, `-Dcontext`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use super::{Flag, on};
use crate::connection::Address;
use crate::error::ErrorCode;
use crate::pdu::{Cred, HEADER_LEN, Info};

/// The versions of what is open, as far as they were told: the protocol's, and 1 for a socket.
static CHANNELS: Mutex<BTreeMap<RawFd, Option<(u8, u8)>>> = Mutex::new(BTreeMap::new());

/// Names of PDUs in PCP's messages, by number from 0x7000.
const NAMES: [&str; 24] = [
    "ERROR",
    "RESULT",
    "PROFILE",
    "FETCH",
    "DESC_REQ",
    "DESC",
    "INSTANCE_REQ",
    "INSTANCE",
    "TEXT_REQ",
    "TEXT",
    "CONTROL_REQ",
    "DATA_X",
    "CREDS",
    "PMNS_IDS",
    "PMNS_NAMES",
    "PMNS_CHILD",
    "PMNS_TRAVERSE",
    "ATTR",
    "LABEL_REQ",
    "LABEL",
    "HIGHRES_FETCH",
    "HIGHRES_RESULT",
    "DESC_IDS",
    "DESCS",
];

/// The same from 0x8000.
const LOGGER_NAMES: [&str; 4] = ["LOG_CONTROL", "LOG_STATUS_V2", "LOG_REQUEST", "LOG_STATUS"];

/// What a PDU of that type is called in diagnostics.
#[must_use]
pub fn name(kind: u32) -> String {
    let known = match kind {
        0x7000..0x8000 => NAMES.get((kind - 0x7000) as usize),
        _ => LOGGER_NAMES.get(kind.wrapping_sub(0x8000) as usize),
    };
    known.map_or_else(|| format!("TYPE-{kind}?"), |name| (*name).to_owned())
}

/// The text about one PDU: a line, and its words as the processor would read them, but for those of the header.
fn dump(call: &str, fd: RawFd, frame: &[u8], from: bool) -> String {
    let header = |at: usize| {
        let word = frame.get(at..at + 4).and_then(|w| w.try_into().ok());
        word.map_or(0, u32::from_be_bytes)
    };
    let mut text = format!(
        "[{}]{call}: {} fd={fd} len={}",
        std::process::id(),
        name(header(4)),
        frame.len()
    );
    if from {
        let _ = write!(text, " from={}", header(8) as i32);
    }
    for (at, bytes) in frame.chunks(4).enumerate() {
        if at % 8 == 0 {
            let _ = write!(text, "\n{at:03}: ");
        }
        let word = match at * 4 < HEADER_LEN {
            true => header(at * 4),
            false => {
                let mut word = *b"~~~~";
                for (to, from) in word.iter_mut().zip(bytes) {
                    *to = *from;
                }
                u32::from_le_bytes(word)
            }
        };
        let _ = write!(text, "{word:8x} ");
    }
    text
}

/// A PDU that is about to be sent.
pub(crate) fn sent(fd: RawFd, frame: &[u8]) {
    if on(Flag::Pdu) {
        eprintln!("{}", dump("pmXmitPDU", fd, frame, false));
    }
}

/// A PDU that has come.
pub(crate) fn received(fd: RawFd, frame: &[u8]) {
    if on(Flag::Pdu) {
        eprintln!("{}", dump("pmGetPDU", fd, frame, true));
    }
}

/// What an ERROR PDU said.
pub(crate) fn error(code: ErrorCode, info: Option<Info>) {
    if !on(Flag::Context) {
        return;
    }
    match info {
        Some(info) => eprintln!(
            "__pmDecodeXtendError: got error PDU (code={}, datum={}, version={})",
            code.0,
            info.raw().swap_bytes() as i32,
            info.version
        ),
        None => eprintln!(
            "__pmDecodeError: got error PDU (code={}, fromversion=2)",
            code.0
        ),
    }
}

/// Credentials that are about to be sent.
pub(crate) fn credentials(creds: &[Cred]) {
    if on(Flag::Context) {
        for (at, cred) in creds.iter().enumerate() {
            let [a, b, c] = cred.bytes;
            let word = u32::from_be_bytes([cred.ty, a, b, c]);
            eprintln!("__pmSendCreds: #{at} = {word:x}");
        }
    }
}

fn channel(fd: RawFd, versions: Option<(u8, u8)>) {
    let mut channels = CHANNELS.lock().unwrap_or_else(PoisonError::into_inner);
    channels.insert(fd, versions);
    eprintln!("{}", table(&channels));
}

fn table(channels: &BTreeMap<RawFd, Option<(u8, u8)>>) -> String {
    let mut text = "IPC table fd(PDU version):".to_owned();
    for (fd, versions) in channels {
        if let Some((version, socket)) = versions {
            let _ = write!(text, " {fd}({version},{socket})");
        }
    }
    text
}

/// A socket was opened.
pub(crate) fn socket(fd: RawFd) {
    if on(Flag::Context) {
        eprintln!("__pmSetSocketIPC: fd={fd}");
        channel(fd, None);
    }
}

/// A server has said what it can do.
pub(crate) fn greeted(fd: RawFd, info: Info) {
    if on(Flag::Context) {
        let (version, features) = (info.version, info.features.0);
        eprintln!("__pmSetFeaturesIPC: fd={fd} version={version} features={features}");
        channel(fd, Some((version, 1)));
    }
}

/// A file was found to be of that version.
pub(crate) fn file_version(fd: RawFd, version: u8) {
    eprintln!("__pmSetVersionIPC: fd={fd} version={version}");
    channel(fd, Some((version, 0)));
}

/// A connection to pmcd stands; `port` is the one of the other end, if it has one.
pub(crate) fn connected(fd: RawFd, address: &Address, port: Option<u16>, version: u8) {
    if !on(Flag::Context) {
        return;
    }
    let name = match address {
        Address::Host(host, _) => host.clone(),
        Address::Unix(path) | Address::Local(path) => path.display().to_string(),
    };
    let by = match port {
        Some(port) => format!("port={port}"),
        None => format!("path={name}"),
    };
    eprintln!("__pmConnectPMCD({name}): pmcd connection {by} fd={fd} PDU version={version}");
    let channels = CHANNELS.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("{}", table(&channels));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's `pminfo -Dpdu` shows it.
    #[test]
    fn words_of_pdus() {
        let frame = b"\0\0\0\x24\0\0\x70\x10\0\0\0\0\0\0\0\0\0\0\0\x0fsample.long.one~";
        let shown = dump("pmXmitPDU", 3, frame, false);
        let (_, rest) = shown.split_once(']').expect("process");
        assert_eq!(
            rest,
            "pmXmitPDU: PMNS_TRAVERSE fd=3 len=36\n\
             000:       24     7010        0        0  f000000 706d6173 6c2e656c 2e676e6f \n\
             008: 7e656e6f "
        );
        let frame = b"\0\0\0\x0d\0\0\x70\x00\0\0\0\0\x01";
        let shown = dump("pmGetPDU", 4, frame, true);
        assert!(
            shown.ends_with("ERROR fd=4 len=13 from=0\n000:        d     7000        0 7e7e7e01 ")
        );
    }
}
