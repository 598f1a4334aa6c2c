//! Walking the data records of an archive in either direction.

use std::sync::Arc;

use bytes::Bytes;

use super::Archive;
use super::file::{NoRecord, Record};
use super::volume::{Volume, Window};
use crate::debug::archives as trace;
use crate::debug::{self, Flag};
use crate::error::{ErrorCode, Result};
use crate::pdu::result::{decode_sets, decode_sets_of, metrics_of};
use crate::pdu::wire::Reader;
use crate::pmid::Pmid;
use crate::timestamp::Timestamp;
use crate::value::Fetched;

/// A data record that is not decoded yet.
#[derive(Clone, Debug)]
pub struct DataRecord {
    /// Its volume.
    pub volume: i32,
    /// Where it stands there, and its bytes.
    pub record: Record,
    /// When its values were taken.
    pub time: Timestamp,
    /// The number of metrics; none makes it a mark: what is before and after has nothing to do with each other.
    pub metrics: usize,
    sets_at: usize,
}

impl DataRecord {
    fn new(volume: i32, record: Record, archive: &Archive) -> Result<DataRecord> {
        let mut reader = Reader::new(record.payload.clone(), 0);
        let bad = |_| ErrorCode::LOGREC;
        let time = archive.label.version.read_time(&mut reader).map_err(bad)?;
        let metrics = reader.length().map_err(bad)?;
        Ok(DataRecord {
            volume,
            record,
            time,
            metrics,
            sets_at: archive.label.version.time_len() + 4,
        })
    }

    /// Whether this is a `<mark>`.
    #[must_use]
    pub fn is_mark(&self) -> bool {
        self.metrics == 0
    }

    /// A `<mark>` that no file holds: between one archive and the next.
    #[must_use]
    pub fn mark(time: Timestamp) -> DataRecord {
        DataRecord {
            volume: -1,
            record: Record {
                offset: 0,
                payload: Bytes::new(),
            },
            time,
            metrics: 0,
            sets_at: 0,
        }
    }

    /// Appends its metrics, in its order; values are passed over without a look at them.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` when it ends before its last metric does.
    pub fn metrics(&self, pmids: &mut Vec<Pmid>) -> Result<()> {
        let sets = self.record.payload.get(self.sets_at..);
        metrics_of(sets.unwrap_or_default(), self.metrics, pmids)
            .map_err(|_| ErrorCode::LOGREC.into())
    }

    /// Decodes the values of some metrics.
    ///
    /// # Errors
    /// As [`DataRecord::decode`].
    pub fn decode_of(&self, wanted: impl Fn(Pmid) -> bool) -> Result<Fetched> {
        let sets = decode_sets_of(&self.record.payload, self.sets_at, self.metrics, wanted)
            .map_err(|_| ErrorCode::LOGREC)?;
        Ok(Fetched {
            time: self.time,
            sets,
        })
    }

    /// Decodes the values.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` when they are not what a result is.
    pub fn decode(&self) -> Result<Fetched> {
        let sets = decode_sets(&self.record.payload, self.sets_at, self.metrics)
            .map_err(|_| ErrorCode::LOGREC)?;
        Ok(Fetched {
            time: self.time,
            sets,
        })
    }
}

/// A place between two data records.
#[derive(Clone)]
pub struct Cursor {
    archive: Arc<Archive>,
    number: i32,
    volume: Arc<Volume>,
    window: Window,
    at: usize,
}

impl Cursor {
    /// Before the first record.
    ///
    /// # Errors
    /// What reading the first volume says.
    pub fn at_start(archive: Arc<Archive>) -> Result<Cursor> {
        let volume = archive.first_volume();
        Cursor::at(archive, volume, 0)
    }

    /// Behind the last whole record.
    ///
    /// # Errors
    /// What reading the last volume says.
    pub fn at_end(archive: Arc<Archive>) -> Result<Cursor> {
        let volume = archive.last_volume();
        let mut cursor = Cursor::at(archive, volume, 0)?;
        cursor.at = cursor.whole_end()?;
        Ok(cursor)
    }

    /// At a byte of a volume, which must be the start of a record.
    ///
    /// # Errors
    /// What reading the volume says.
    pub fn at(archive: Arc<Archive>, volume: i32, offset: usize) -> Result<Cursor> {
        let opened = archive.volume(volume)?;
        Ok(Cursor {
            archive,
            number: volume,
            at: offset.max(opened.start()),
            volume: opened,
            window: Window::default(),
        })
    }

    /// The volume and the byte in it.
    #[must_use]
    pub fn position(&self) -> (i32, usize) {
        (self.number, self.at)
    }

    /// Bytes of the volume.
    #[must_use]
    pub fn volume_len(&self) -> usize {
        self.volume.len()
    }

    fn switch(&mut self, number: i32) -> Result<()> {
        self.volume = self.archive.volume(number)?;
        trace::volume(number);
        self.window = Window::default();
        self.number = number;
        self.at = self.volume.start();
        Ok(())
    }

    /// Whether more follows in the volume, which is no whole record.
    pub(super) fn is_torn(&self) -> bool {
        self.at < self.volume.len()
    }

    /// The volume's number, where its records begin and where its bytes end.
    pub(super) fn volume_extent(&self) -> (i32, usize, usize) {
        (self.number, self.volume.start(), self.volume.len())
    }

    /// Where the last whole record of the volume ends: at its end, unless it was torn.
    fn whole_end(&mut self) -> Result<usize> {
        let end = self.volume.len();
        if self.window.record_before(&self.volume, end)?.is_ok() {
            return Ok(end);
        }
        let mut at = self.volume.start();
        while let Ok(record) = self.window.record_at(&self.volume, at)? {
            at = record.end();
        }
        Ok(at)
    }

    /// The next record; `None` at the end of the archive.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` for a damaged record, or one that the end of the file cuts off.
    pub fn following(&mut self) -> Result<Option<DataRecord>> {
        self.trace_reading(false, false);
        loop {
            match self.window.record_at(&self.volume, self.at)? {
                Ok(record) => {
                    self.at = record.end();
                    return self.found(record).map(Some);
                }
                Err(NoRecord::End) => {
                    trace::not_read("AFTER end");
                    match self.archive.volume_after(self.number) {
                        Some(volume) => self.switch(volume)?,
                        None => return Ok(None),
                    }
                }
                // What is cut off within the length itself says nothing.
                Err(NoRecord::Torn) if self.volume.len() - self.at < 4 => {
                    self.at = self.volume.len();
                }
                Err(NoRecord::Torn | NoRecord::Corrupt) => {
                    if debug::on(Flag::Log) {
                        self.trace_bad()?;
                    }
                    return Err(ErrorCode::LOGREC.into());
                }
            }
        }
    }

    fn trace_reading(&self, peek: bool, back: bool) {
        trace::reading(self.volume.descriptor(), peek, back, self.number, self.at);
    }

    fn found(&self, record: Record) -> Result<DataRecord> {
        let length = record.payload.len();
        let record = DataRecord::new(self.number, record, &self.archive)?;
        trace::read(record.time, self.archive.label.start, length);
        Ok(record)
    }

    /// What is wrong with the record that begins here.
    fn trace_bad(&self) -> Result<()> {
        let word = |at: usize| -> Result<Option<u32>> {
            let bytes = self.volume.read(at, 4)?;
            Ok(<[u8; 4]>::try_from(&*bytes).ok().map(u32::from_be_bytes))
        };
        let Some(header) = word(self.at)? else {
            return Ok(());
        };
        let wanted = header.saturating_sub(8) as usize;
        let there = self.volume.len() - self.at - 4;
        let trailer = word(self.at.saturating_add(wanted).saturating_add(4))?;
        trace::not_read(&match trailer {
            _ if there < wanted => format!("\nError: data fread got {there} expected {wanted}"),
            None => format!("\nError: trailer fread got {} expected 4", there - wanted),
            Some(trailer) => {
                format!("\nError: record length mismatch: header ({header}) != trailer ({trailer})")
            }
        });
        Ok(())
    }

    /// The record before, as the one that says when the archive ends.
    pub(super) fn last(&mut self) -> Result<Option<DataRecord>> {
        self.trace_reading(true, true);
        self.backwards()
    }

    /// The record before; `None` at the start of the archive.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` for a damaged record.
    pub fn preceding(&mut self) -> Result<Option<DataRecord>> {
        self.trace_reading(false, true);
        self.backwards()
    }

    fn backwards(&mut self) -> Result<Option<DataRecord>> {
        loop {
            match self.window.record_before(&self.volume, self.at)? {
                Ok(record) => {
                    self.at = record.offset;
                    return self.found(record).map(Some);
                }
                Err(NoRecord::End) => {
                    trace::not_read("BEFORE start");
                    match self.archive.volume_before(self.number) {
                        Some(volume) => {
                            self.switch(volume)?;
                            self.at = self.whole_end()?;
                        }
                        None => return Ok(None),
                    }
                }
                Err(_) => {
                    let length = self.volume.read(self.at.saturating_sub(4), 4)?;
                    if let Ok(length) = <[u8; 4]>::try_from(&*length) {
                        let length = i32::from_be_bytes(length).wrapping_sub(8);
                        trace::not_read(&format!(
                            "\nError: truncated log? rlen={length} (offset {})",
                            self.at
                        ));
                    }
                    return Err(ErrorCode::LOGREC.into());
                }
            }
        }
    }
}
