//! The content of a volume, read in pieces as its records are asked for.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::file::{self, NoRecord, Record};
use super::label::Label;
use crate::debug::archives as trace;
use crate::error::Result;

/// Bytes read at once, when a record has no more: few system calls, and still in the processor's cache when they are used.
const PIECE: usize = 1 << 18;

/// What a label can have at most, both versions and their lengths included.
const LABEL_MAX: usize = 4096;

/// A volume that is open. One that is not compressed is read in pieces; of a compressed one all is held.
pub(super) struct Volume {
    content: Content,
    length: usize,
    start: usize,
}

enum Content {
    Held(Bytes),
    InFile(File),
}

impl Volume {
    /// Opens the volume of that number, whose label is the second part of the result. What is appended later is not seen.
    pub(super) fn open(path: &Path, number: i32) -> Result<(Volume, Label)> {
        trace::opened(path, file::is_compressed(path));
        let (content, length) = if file::is_compressed(path) {
            let content = file::read(path)?;
            let length = content.len();
            (Content::Held(content), length)
        } else {
            let file = File::open(path)?;
            let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            (Content::InFile(file), length)
        };
        let mut volume = Volume {
            content,
            length,
            start: 0,
        };
        let head = volume.read(0, LABEL_MAX)?;
        let (label, start) = file::label_of(&head, number, volume.descriptor())?;
        volume.start = start;
        Ok((volume, label))
    }

    /// The file, for diagnostics; −1 when it is not read any more.
    pub(super) fn descriptor(&self) -> RawFd {
        match &self.content {
            Content::Held(_) => -1,
            Content::InFile(file) => file.as_raw_fd(),
        }
    }

    /// Where its records begin.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Up to `length` bytes at an offset; fewer where it ends.
    pub(super) fn read(&self, at: usize, length: usize) -> io::Result<Bytes> {
        let length = length.min(self.length.saturating_sub(at));
        match &self.content {
            Content::Held(content) => Ok(content.slice(at..at + length)),
            Content::InFile(file) => {
                let mut bytes = vec![0; length];
                let mut filled = 0;
                while let Some(rest) = bytes.get_mut(filled..).filter(|r| !r.is_empty()) {
                    match file.read_at(rest, (at + filled) as u64) {
                        // It was cut off meanwhile.
                        Ok(0) => break,
                        Ok(read) => filled += read,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                bytes.truncate(filled);
                Ok(bytes.into())
            }
        }
    }
}

/// A piece of a volume in memory, which moves to where records are asked for.
#[derive(Clone, Default)]
pub(super) struct Window {
    at: usize,
    bytes: Bytes,
}

impl Window {
    /// Moves to where `from` to `to` is inside, as far as the volume has it: onwards from `from`, or, where that is before the
    /// window, backwards from `to`.
    fn cover(&mut self, volume: &Volume, from: usize, to: usize) -> io::Result<()> {
        let to = to.min(volume.len());
        if from >= self.at && to <= self.at + self.bytes.len() {
            return Ok(());
        }
        let length = PIECE.max(to.saturating_sub(from));
        let at = if from < self.at {
            to.saturating_sub(length)
        } else {
            from
        };
        self.bytes = volume.read(at, length)?;
        self.at = at;
        Ok(())
    }

    /// The record that begins at an offset of the volume.
    pub(super) fn record_at(
        &mut self,
        volume: &Volume,
        offset: usize,
    ) -> io::Result<std::result::Result<Record, NoRecord>> {
        if offset >= volume.len() {
            return Ok(Err(NoRecord::End));
        }
        self.cover(volume, offset, offset + 4)?;
        if let Some(length) = file::record_length(&self.bytes, offset - self.at) {
            self.cover(volume, offset, offset + length)?;
        }
        let found = file::record_at(&self.bytes, offset - self.at);
        Ok(found.map(|record| self.placed(record)))
    }

    /// The record that ends at an offset of the volume.
    pub(super) fn record_before(
        &mut self,
        volume: &Volume,
        end: usize,
    ) -> io::Result<std::result::Result<Record, NoRecord>> {
        let start = volume.start();
        if end <= start {
            return Ok(Err(NoRecord::End));
        }
        let Some(length_at) = end.checked_sub(4) else {
            return Ok(Err(NoRecord::Corrupt));
        };
        self.cover(volume, length_at, end)?;
        if let Some(length) = file::record_length(&self.bytes, length_at - self.at) {
            self.cover(volume, end.saturating_sub(length).max(start), end)?;
        }
        let start = start.saturating_sub(self.at);
        let found = file::record_before(&self.bytes, start, end - self.at);
        Ok(found.map(|record| self.placed(record)))
    }

    fn placed(&self, record: Record) -> Record {
        Record {
            offset: record.offset + self.at,
            ..record
        }
    }
}
