//! Reading and writing the words of a PDU.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::text::Text;

/// Reads a PDU's words in order; everything beyond its end is an error.
pub struct Reader {
    frame: Bytes,
    at: usize,
}

impl Reader {
    /// Starts at byte `at` of the frame.
    pub fn new(frame: Bytes, at: usize) -> Reader {
        Reader { frame, at }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.frame.len().saturating_sub(self.at)
    }

    /// The whole frame.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    pub fn u32(&mut self) -> Result<u32> {
        let word = self
            .frame
            .get(self.at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(|| {
                Error::ipc(format!(
                    "PDU ends at byte {}, a word was due",
                    self.frame.len()
                ))
            })?;
        self.at += 4;
        Ok(u32::from_be_bytes(*word))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(self.u32()? as i32)
    }

    pub fn i64(&mut self) -> Result<i64> {
        let high = self.u32()?;
        Ok((u64::from(high) << 32 | u64::from(self.u32()?)) as i64)
    }

    pub fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(bytes.first_chunk().map_or(0, |b| u16::from_be_bytes(*b)))
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or(0))
    }

    /// So many bytes, sharing the frame.
    pub fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.remaining() {
            return Err(Error::ipc(format!(
                "{length} bytes at byte {} of a PDU of {}",
                self.at,
                self.frame.len()
            )));
        }
        let bytes = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    /// The rest.
    pub fn rest(&mut self) -> Bytes {
        let bytes = self.frame.slice(self.at.min(self.frame.len())..);
        self.at = self.frame.len();
        bytes
    }

    /// A length word.
    pub fn length(&mut self) -> Result<usize> {
        let length = self.i32()?;
        usize::try_from(length).map_err(|_| Error::ipc(format!("length {length}")))
    }

    /// A count of things that take at least `size` bytes each, so that no more is reserved than was sent.
    pub fn count(&mut self, size: usize) -> Result<usize> {
        let count = self.length()?;
        if count > self.remaining() / size {
            return Err(Error::ipc(format!(
                "{count} entries in {} bytes",
                self.remaining()
            )));
        }
        Ok(count)
    }

    /// A text of known length and its padding. Padding that the frame's end cuts off is not missed.
    pub fn padded(&mut self, length: usize) -> Result<Text> {
        let text = self.take(length)?;
        self.at = self
            .at
            .saturating_add(length.next_multiple_of(4) - length)
            .min(self.frame.len());
        Ok(text.into())
    }

    /// A length word, a text, its padding.
    pub fn text(&mut self) -> Result<Text> {
        let length = self.length()?;
        self.padded(length)
    }
}

/// Writes a PDU behind what the buffer holds.
pub struct Writer<'a> {
    pub out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Starts a PDU of that type; `from` is the third word of the header.
    pub fn new(out: &'a mut Vec<u8>, kind: u32, from: i32) -> Writer<'a> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&from.to_be_bytes());
        Writer { out, start }
    }

    /// Bytes written so far, header included.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    pub fn u32(&mut self, word: u32) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    pub fn i32(&mut self, word: i32) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    pub fn i64(&mut self, word: i64) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A count.
    pub fn count(&mut self, count: usize) {
        self.i32(i32::try_from(count).unwrap_or(i32::MAX));
    }

    /// Fills up to a word with `~`, as PCP does.
    pub fn pad(&mut self) {
        while !self.len().is_multiple_of(4) {
            self.out.push(b'~');
        }
    }

    /// A length word, a text, its padding.
    pub fn text(&mut self, text: &[u8]) {
        self.count(text.len());
        self.bytes(text);
        self.pad();
    }

    /// Sets a word written before, `at` bytes from the PDU's start.
    pub fn patch(&mut self, at: usize, word: u32) {
        if let Some(place) = self.out.get_mut(self.start + at..self.start + at + 4) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Writes the length into the header.
    pub fn finish(mut self) {
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.patch(0, length);
    }
}
