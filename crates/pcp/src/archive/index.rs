//! The temporal index: where in metadata and volumes a time is.

use bytes::Bytes;

use super::label::Version;
use crate::error::Result;
use crate::pdu::wire::Reader;
use crate::timestamp::Timestamp;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// The time.
    pub time: Timestamp,
    /// The volume that was written then.
    pub volume: i32,
    /// Bytes of metadata at that time.
    pub meta: i64,
    /// Bytes of the volume at that time.
    pub log: i64,
}

impl IndexEntry {
    /// Appends the entry as it stands in an index file.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        version.write_time(out, self.time);
        out.extend_from_slice(&self.volume.to_be_bytes());
        match version {
            Version::V2 => {
                out.extend_from_slice(&(self.meta as i32).to_be_bytes());
                out.extend_from_slice(&(self.log as i32).to_be_bytes());
            }
            Version::V3 => {
                out.extend_from_slice(&self.meta.to_be_bytes());
                out.extend_from_slice(&self.log.to_be_bytes());
            }
        }
    }
}

/// Reads the entries behind the label. Within the last one the file may end: its writer was killed.
///
/// # Errors
/// None that a file can have.
pub fn read(content: &Bytes, version: Version, start: usize) -> Result<Vec<IndexEntry>> {
    let mut reader = Reader::new(content.clone(), start);
    let mut entries = Vec::with_capacity(reader.remaining() / version.index_entry_len());
    while reader.remaining() >= version.index_entry_len() {
        let time = version.read_time(&mut reader)?;
        let volume = reader.i32()?;
        let (meta, log) = match version {
            Version::V2 => (reader.i32()?.into(), reader.i32()?.into()),
            Version::V3 => (reader.i64()?, reader.i64()?),
        };
        entries.push(IndexEntry {
            time,
            volume,
            meta,
            log,
        });
    }
    Ok(entries)
}
