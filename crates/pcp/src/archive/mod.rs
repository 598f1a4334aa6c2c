//! Archives: metrics as a logger wrote them (LOGARCHIVE(5)).
//!
//! An archive is a set of files with one base name: metadata, a temporal index, and volumes of data records. Each may be
//! compressed (`.xz`, `.gz`, `.zst`, `.bz2`). What a killed logger left is read up to the last whole record.

mod context;
pub mod file;
mod hash;
pub mod index;
mod label;
pub mod meta;
mod scan;
mod series;
mod set;
mod volume;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};

pub use context::{ArchiveContext, ArchiveMode};
pub use hash::PcpHash;
pub use index::IndexEntry;
pub use label::{Label, VOLUME_INDEX, VOLUME_META, Version};
pub use meta::{IndomEntry, InstanceNames, MetaRecord, Metadata, indom_delta, indom_record};
pub use scan::{Cursor, DataRecord};
pub use set::{ArchiveSet, SetCursor};
pub use writer::{ArchiveWriter, encode_data};

use crate::debug::archives as trace;
use crate::error::{ErrorCode, Result};
use crate::timestamp::Timestamp;
use file::Files;
use volume::Volume;

/// Volumes kept open: what is before and after a boundary.
const CACHED_VOLUMES: usize = 2;

/// An archive's metadata and index, and the way to its volumes.
pub struct Archive {
    /// Where its files are.
    pub files: Files,
    /// The label of its first volume.
    pub label: Label,
    /// What it says of metrics.
    pub meta: Metadata,
    /// The temporal index; empty when there is none.
    pub index: Vec<IndexEntry>,
    cache: Mutex<Vec<(i32, Arc<Volume>)>>,
}

impl Archive {
    /// Opens an archive by its base name or by one of its files.
    ///
    /// # Errors
    /// `ENOENT` and `PM_ERR_LOGFILE` for missing files, `PM_ERR_LABEL` for labels that are none or of different archives,
    /// `PM_ERR_LOGREC` for damaged metadata.
    pub fn open(path: &Path) -> Result<Arc<Archive>> {
        let files = Files::find(path)?;
        let (first_volume, first) = files.volumes.iter().next().ok_or(ErrorCode::LOGFILE)?;
        let first_volume = *first_volume;
        let meta_path = files.meta.as_deref().ok_or(ErrorCode::LOGFILE)?;
        let (volume, label) = Volume::open(first, first_volume)?;
        trace::volume(first_volume);
        let index = match &files.index {
            Some(path) => {
                let content = file::read(path)?;
                let (own, start) = file::label_of(&content, VOLUME_INDEX, volume.descriptor() + 1)?;
                if !own.same_archive(&label) {
                    return Err(ErrorCode::LABEL.into());
                }
                index::read(&content, own.version, start)?
            }
            None => Vec::new(),
        };
        let content = file::read(meta_path)?;
        let (own, start) = file::label_of(&content, VOLUME_META, volume.descriptor() + 2)?;
        if !own.same_archive(&label) {
            return Err(ErrorCode::LABEL.into());
        }
        let meta = Metadata::read(&content, &own, start)?;
        let mut files = files;
        // A file that only has a name like that of a last volume is none.
        let known = index.iter().map(|entry| entry.volume).max().unwrap_or(0);
        while let Some((number, path)) = files.volumes.iter().next_back()
            && *number > known.max(first_volume)
            && is_foreign(path, *number, &label)
        {
            files.volumes.pop_last();
        }
        Ok(Arc::new(Archive {
            files,
            label,
            meta,
            index,
            cache: Mutex::new(vec![(first_volume, Arc::new(volume))]),
        }))
    }

    /// The first volume's number.
    #[must_use]
    pub fn first_volume(&self) -> i32 {
        self.files.volumes.keys().next().copied().unwrap_or(0)
    }

    /// The last volume's number.
    #[must_use]
    pub fn last_volume(&self) -> i32 {
        self.files.volumes.keys().next_back().copied().unwrap_or(0)
    }

    fn volume_after(&self, volume: i32) -> Option<i32> {
        self.files
            .volumes
            .range(volume.saturating_add(1)..)
            .next()
            .map(|(v, _)| *v)
    }

    fn volume_before(&self, volume: i32) -> Option<i32> {
        self.files
            .volumes
            .range(..volume)
            .next_back()
            .map(|(v, _)| *v)
    }

    fn volume(&self, number: i32) -> Result<Arc<Volume>> {
        let mut cache = self
            .cache
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, volume)) = cache.iter().find(|(n, _)| *n == number) {
            return Ok(volume.clone());
        }
        let path = self.files.volumes.get(&number).ok_or(ErrorCode::LOGFILE)?;
        let (volume, label) = Volume::open(path, number)?;
        if !label.same_archive(&self.label) {
            return Err(ErrorCode::LABEL.into());
        }
        if cache.len() >= CACHED_VOLUMES {
            cache.remove(0);
        }
        let volume = Arc::new(volume);
        cache.push((number, volume.clone()));
        Ok(volume)
    }

    /// When the last whole record was written.
    ///
    /// # Errors
    /// What reading the last volume says; `PM_ERR_LOGREC` when there is no record but a damaged one, and when the end is
    /// torn and the index, by which PCP's library then finds its way, leads to no record.
    pub fn end(self: &Arc<Archive>) -> Result<Timestamp> {
        let mut cursor = Cursor::at_end(self.clone())?;
        let torn = cursor.is_torn();
        if torn && self.is_led_astray(&cursor) {
            return Err(ErrorCode::LOGREC.into());
        }
        if let Some(record) = cursor.last()? {
            return Ok(record.time);
        }
        if torn {
            return Err(ErrorCode::LOGREC.into());
        }
        match Cursor::at_start(self.clone())?.following() {
            Err(error) => Err(error),
            Ok(_) => Ok(self.label.start),
        }
    }

    /// Whether the last entry of the index that lies in the last volume points into its label.
    fn is_led_astray(&self, end: &Cursor) -> bool {
        let (number, start, length) = end.volume_extent();
        let within = |entry: &&IndexEntry| {
            let offset = usize::try_from(entry.log);
            entry.volume == number && offset.is_ok_and(|offset| offset <= length)
        };
        let last = self.index.iter().rev().find(within);
        last.is_some_and(|entry| usize::try_from(entry.log).is_ok_and(|offset| offset < start))
    }
}

/// Whether a file has no label of an archive.
fn is_foreign(path: &Path, number: i32, label: &Label) -> bool {
    match crate::debug::quietly(|| Volume::open(path, number)) {
        Ok((_, own)) => !own.same_archive(label),
        Err(error) => error.code() == ErrorCode::LABEL,
    }
}

#[cfg(test)]
mod tests;
