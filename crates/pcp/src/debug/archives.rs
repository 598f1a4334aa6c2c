//! How archives are opened and read (`-Dlog`).

use std::os::fd::RawFd;
use std::path::Path;

use super::{Flag, on, pdus};
use crate::archive::{IndexEntry, Label};
use crate::dump;
use crate::timestamp::Timestamp;

/// A file of an archive was found.
pub(crate) fn found(path: &Path) {
    if on(Flag::Log) {
        eprintln!("__pmLogOpen: inspect file \"{}\"", path.display());
    }
}

/// A file is about to be opened. A compressed one goes by the name that it has uncompressed.
pub(crate) fn opened(path: &Path, compressed: bool) {
    if !on(Flag::Log) {
        return;
    }
    let program = match path.extension().and_then(|e| e.to_str()) {
        Some("xz" | "lzma") => "xz",
        Some("bz2" | "bz") => "bzip2",
        Some("gz" | "z") => "gzip",
        Some("zst") => "zstd",
        _ => "",
    };
    match compressed {
        true => eprintln!(
            "__pmFopen(\"{}\", \"r\"): decompress: {program}",
            path.with_extension("").display()
        ),
        false => eprintln!("__pmFopen(\"{}\", \"r\"): no decompress", path.display()),
    }
}

/// A name was looked at, whether it is that of a folder.
pub fn looked_at(path: &Path) {
    if on(Flag::Log) {
        eprintln!("__pmStat(\"{}\"): no decompress", path.display());
    }
}

/// Why there is no label.
pub(crate) fn no_label(why: &str) {
    if on(Flag::Log) {
        eprintln!("__pmLogLoadLabel: {why}");
    }
}

/// A label that was read from a file.
pub(crate) fn label(fd: RawFd, label: &Label) {
    let (log, context) = (on(Flag::Log), on(Flag::Context));
    let version = label.version as u8;
    let volume = label.volume;
    if log {
        eprint!("__pmLogChkLabel: fd={fd} vol={volume}");
    }
    if context {
        pdus::file_version(fd, version);
    }
    if !log {
        return;
    }
    let start = dump::clock(label.start);
    let mut text = format!(
        " [magic={:#x} version={version} vol={volume} pid={} start={start}",
        0x5005_2600 | u32::from(version),
        label.pid
    );
    if version > 2 && label.features != 0 {
        text.push_str(&format!(" features={:#x}", label.features));
    }
    text.push_str(&format!(" host={}", label.hostname));
    if !label.timezone.is_empty() {
        text.push_str(&format!(" tz={}", label.timezone));
    }
    if !label.zoneinfo.is_empty() {
        text.push_str(&format!(" zoneinfo={}", label.zoneinfo));
    }
    eprintln!("{text}]");
}

/// A label that does not fit its file.
pub fn wrong_label(fd: RawFd, volume: i32, what: &str) {
    if on(Flag::Log) {
        eprintln!("__pmLogChkLabel: fd={fd} vol={volume} {what} as expected");
    }
}

/// The volume that is read from now on.
pub(crate) fn volume(number: i32) {
    if on(Flag::Log) {
        eprintln!("__pmLogChangeVol: change to volume {number}");
    }
}

/// Where a record is about to be read.
pub(crate) fn reading(fd: RawFd, peek: bool, back: bool, volume: i32, position: usize) {
    if on(Flag::Log) {
        let peek = if peek { " (peek)" } else { "" };
        let mode = if back { "back" } else { "forw" };
        eprint!("__pmLogRead: fd={fd}{peek} mode={mode} vol={volume} posn={position} ");
    }
}

/// The record that was read, its time and that of the archive's start, and the bytes between its lengths.
pub(crate) fn read(time: Timestamp, start: Timestamp, length: usize) {
    if on(Flag::Log) {
        let since = (time - start).as_nanos() as f64 / 1e9;
        let clock = dump::clock(time);
        eprintln!("@{clock} (t={since:.6}) len=header+{length}+trailer");
    }
}

/// What there was in the place of a record.
pub(crate) fn not_read(what: &str) {
    if on(Flag::Log) {
        eprintln!("{what}");
    }
}

/// Where reading forwards begins for a time.
pub fn positioned(origin: Timestamp, step: f64, index: &[IndexEntry]) {
    if !on(Flag::Log) {
        return;
    }
    let clock = dump::clock(origin);
    let begin = format!("__pmLogSetTime(0) {clock} delta={step:.9}");
    let at = index.iter().position(|entry| entry.time >= origin);
    let place = |entry: &IndexEntry| {
        let time = dump::clock(entry.time);
        format!("@{time} vol={} posn={}", entry.volume, entry.log)
    };
    match (at, index.first()) {
        (_, None) => eprintln!("{begin} vol=0 posn=0 serial=1"),
        (Some(0), Some(first)) if first.time > origin => {
            eprintln!("{begin} before start ti{} serial=1", place(first));
        }
        (Some(at), _) => {
            let Some(entry) = index.get(at) else { return };
            match entry.time == origin {
                true => eprintln!("{begin} at ti[{at}]{} serial=1", place(entry)),
                false => eprintln!("{begin} before ti[{at}]{} serial=0", place(entry)),
            }
        }
        (None, Some(_)) => {
            let last = index.len() - 1;
            let Some(entry) = index.get(last) else { return };
            eprintln!("{begin} after end ti{} serial=0", place(entry));
        }
    }
}
