//! Several archives of one host read as one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Archive, Cursor, DataRecord, Label, Metadata};
use crate::debug;
use crate::error::{ErrorCode, Result};
use crate::timestamp::Timestamp;

/// How long after the last record of an archive the mark stands that parts it from the next one.
const MARK_DELAY: Timestamp = Timestamp {
    sec: 0,
    nsec: 1_000_000,
};

/// The longest gap around a mark that is passed over; the inner `None` stands for any.
fn ignored_gap() -> Option<Option<Timestamp>> {
    static GAP: std::sync::OnceLock<Option<Option<Timestamp>>> = std::sync::OnceLock::new();
    *GAP.get_or_init(|| {
        let text = std::env::var("PCP_IGNORE_MARK_RECORDS").ok()?;
        if text.is_empty() {
            return Some(None);
        }
        match crate::timewindow::interval(&text) {
            Ok(gap) => Some(Some(gap)),
            Err(error) => {
                let program = crate::debug::program();
                eprint!(
                    "{program}: Warning: bad $PCP_IGNORE_MARK_RECORDS: not in pmParseInterval(3) format:\n{error}\n\n"
                );
                None
            }
        }
    })
}

/// Archives in the order of their times.
pub struct ArchiveSet {
    archives: Vec<Arc<Archive>>,
    ends: Vec<Timestamp>,
    merged: Option<Metadata>,
}

/// The base names of the archives in a folder.
fn archives_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if let Some((base, _)) = name.split_once(".meta") {
            found.push(folder.join(base));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

impl ArchiveSet {
    /// Opens archives by names separated by commas; each may be a folder.
    ///
    /// # Errors
    /// What opening one of them says; `PM_ERR_LOGOVERLAP` for archives whose times overlap, `PM_ERR_LOGHOST` for archives of
    /// different hosts, and `PM_ERR_LOGCHANGETYPE` and its siblings for metrics that are different things in them.
    pub fn open(names: &str) -> Result<Arc<ArchiveSet>> {
        let mut paths = Vec::new();
        for name in names.split(',').filter(|n| !n.is_empty()) {
            let path = Path::new(name);
            if path.is_dir() {
                paths.extend(archives_in(path)?);
            } else {
                paths.push(path.to_owned());
            }
        }
        let mut archives: Vec<Arc<Archive>> = Vec::new();
        for path in &paths {
            let archive = Archive::open(path)?;
            if !archives.iter().any(|a| a.files.base == archive.files.base) {
                archives.push(archive);
            }
        }
        archives.sort_by_key(|a| a.label.start);
        let first = archives.first().ok_or(ErrorCode(-2))?;
        if archives
            .iter()
            .any(|a| a.label.hostname != first.label.hostname)
        {
            return Err(ErrorCode::LOGHOST.into());
        }
        let ends = archives
            .iter()
            .map(|a| debug::quietly(|| a.end()).unwrap_or(a.label.start))
            .collect::<Vec<_>>();
        for (end, after) in ends.iter().zip(archives.iter().skip(1)) {
            if *end > after.label.start {
                return Err(ErrorCode::LOGOVERLAP.into());
            }
        }
        let merged = if archives.len() > 1 {
            let mut merged = Metadata::new();
            for archive in &archives {
                // Offsets mean something within one file only.
                for (_, record) in &archive.meta.records {
                    merged.add(record)?;
                }
            }
            Some(merged)
        } else {
            None
        };
        Ok(Arc::new(ArchiveSet {
            archives,
            ends,
            merged,
        }))
    }

    /// The archives.
    #[must_use]
    pub fn archives(&self) -> &[Arc<Archive>] {
        &self.archives
    }

    /// What all their metadata says together.
    #[must_use]
    pub fn meta(&self) -> &Metadata {
        match (&self.merged, self.archives.as_slice()) {
            (Some(merged), _) => merged,
            (None, [first, ..]) => &first.meta,
            (None, []) => unreachable!("a set has an archive"),
        }
    }

    /// The label of the first archive.
    #[must_use]
    pub fn label(&self) -> &Label {
        match self.archives.as_slice() {
            [first, ..] => &first.label,
            [] => unreachable!("a set has an archive"),
        }
    }

    /// The last record, as diagnostics show that it was looked for.
    pub(super) fn trace_end(&self) {
        if debug::on(debug::Flag::Log)
            && let Some(last) = self.archives.last()
        {
            // What is wrong with it was said when the set was opened.
            let _ = last.end();
        }
    }

    /// The time of the last record.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.ends.last().copied().unwrap_or_default()
    }
}

/// A place between two data records of a set.
#[derive(Clone)]
pub struct SetCursor {
    set: Arc<ArchiveSet>,
    number: usize,
    cursor: Cursor,
    marked: bool,
}

impl SetCursor {
    /// Before the first record.
    ///
    /// # Errors
    /// What reading the first volume says.
    pub fn at_start(set: &Arc<ArchiveSet>) -> Result<SetCursor> {
        let first = set.archives.first().ok_or(ErrorCode::NODATA)?;
        Ok(SetCursor {
            cursor: Cursor::at_start(first.clone())?,
            set: set.clone(),
            number: 0,
            marked: false,
        })
    }

    /// Behind the last record.
    ///
    /// # Errors
    /// What reading the last volume says.
    pub fn at_end(set: &Arc<ArchiveSet>) -> Result<SetCursor> {
        let last = set.archives.last().ok_or(ErrorCode::NODATA)?;
        Ok(SetCursor {
            cursor: Cursor::at_end(last.clone())?,
            number: set.archives.len() - 1,
            set: set.clone(),
            marked: false,
        })
    }

    /// The next record, or the mark between two archives; `None` behind the last.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` for a damaged record.
    pub fn following(&mut self) -> Result<Option<DataRecord>> {
        loop {
            if let Some(record) = self.cursor.following()? {
                self.marked = false;
                return Ok(Some(record));
            }
            let Some(next) = self.set.archives.get(self.number + 1) else {
                return Ok(None);
            };
            if !self.marked {
                self.marked = true;
                let end = self.set.ends.get(self.number).copied().unwrap_or_default();
                return Ok(Some(DataRecord::mark(end + MARK_DELAY)));
            }
            self.cursor = Cursor::at_start(next.clone())?;
            self.number += 1;
            self.marked = false;
        }
    }

    /// Whether the mark that was read last is to be passed over: `$PCP_IGNORE_MARK_RECORDS` is empty, or an interval that the
    /// gap around the mark does not exceed (PCPIntro(1)).
    #[must_use]
    pub fn ignores_mark(&self) -> bool {
        let Some(longest) = ignored_gap() else {
            return false;
        };
        let Some(longest) = longest else {
            return true;
        };
        let (mut before, mut after) = (self.clone(), self.clone());
        let value = |step: &mut dyn FnMut() -> Result<Option<DataRecord>>| loop {
            match step() {
                Ok(Some(record)) if record.is_mark() => {}
                other => return other.ok().flatten(),
            }
        };
        match (
            value(&mut || before.preceding()),
            value(&mut || after.following()),
        ) {
            (Some(from), Some(to)) => to.time - from.time <= longest,
            _ => false,
        }
    }

    /// The record before; `None` before the first.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` for a damaged record.
    pub fn preceding(&mut self) -> Result<Option<DataRecord>> {
        loop {
            if let Some(record) = self.cursor.preceding()? {
                self.marked = false;
                return Ok(Some(record));
            }
            let Some(number) = self.number.checked_sub(1) else {
                return Ok(None);
            };
            let Some(before) = self.set.archives.get(number) else {
                return Ok(None);
            };
            if !self.marked {
                self.marked = true;
                let end = self.set.ends.get(number).copied().unwrap_or_default();
                return Ok(Some(DataRecord::mark(end + MARK_DELAY)));
            }
            self.cursor = Cursor::at_end(before.clone())?;
            self.number = number;
            self.marked = false;
        }
    }
}
