//! What tools that write archives have in common: metadata goes out when the first data that needs it does.

use std::collections::{HashMap, HashSet};
use std::io;

use pcp::archive::{ArchiveWriter, MetaRecord, Metadata, Version};
use pcp::pdu::TextKind;
use pcp::{InDom, LabelLevel, Pmid, Timestamp};

/// Bytes of a volume between entries of the temporal index.
const INDEX_EVERY: i64 = 100_000;

/// Bytes that a volume of version 2 may have.
const VOLUME_MAX: i64 = i32::MAX as i64;

/// An archive that is written record by record.
pub struct LogWriter {
    /// The files.
    pub files: ArchiveWriter,
    descs: HashSet<Pmid>,
    domains: HashSet<(InDom, Timestamp)>,
    labels: HashMap<(u32, u32), Timestamp>,
    texts: HashSet<(u32, u32)>,
    index_at: i64,
    records: u64,
    last: Option<Timestamp>,
    /// Where files ended ahead of the last record, unless the index has an entry for it.
    last_at: Option<(i64, i64)>,
}

impl LogWriter {
    /// Writes into new files.
    pub fn new(files: ArchiveWriter) -> LogWriter {
        LogWriter {
            files,
            descs: HashSet::new(),
            domains: HashSet::new(),
            labels: HashMap::new(),
            texts: HashSet::new(),
            index_at: 0,
            records: 0,
            last: None,
            last_at: None,
        }
    }

    /// The version on disk.
    pub fn version(&self) -> Version {
        self.files.version()
    }

    /// The number of data records written.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The time of the last record.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    fn put(&mut self, record: &MetaRecord) -> io::Result<()> {
        let payload = record.encode(self.version());
        self.files.meta(&payload)
    }

    fn put_labels(
        &mut self,
        meta: &Metadata,
        level: LabelLevel,
        ident: u32,
        time: Timestamp,
    ) -> io::Result<()> {
        let Some(history) = meta.labels.get(&(level as u32, ident)) else {
            return Ok(());
        };
        let Some((stamp, sets)) = history.iter().rev().find(|(t, _)| *t <= time) else {
            return Ok(());
        };
        if self.labels.get(&(level as u32, ident)) == Some(stamp) {
            return Ok(());
        }
        self.labels.insert((level as u32, ident), *stamp);
        self.put(&MetaRecord::Labels {
            time,
            level: level as u32,
            ident,
            sets: sets.clone(),
        })
    }

    fn put_texts(&mut self, meta: &Metadata, kinds: [TextKind; 2], ident: u32) -> io::Result<()> {
        for kind in kinds {
            if let Some(text) = meta.texts.get(&(kind.0, ident))
                && self.texts.insert((kind.0, ident))
            {
                self.put(&MetaRecord::Text {
                    kind,
                    ident,
                    text: text.clone(),
                })?;
            }
        }
        Ok(())
    }

    /// Writes a data record with the metadata that it needs and that was not written yet; no metrics make a mark.
    pub fn record(
        &mut self,
        meta: &Metadata,
        time: Timestamp,
        pmids: &[Pmid],
        payload: &[u8],
    ) -> io::Result<()> {
        let before = self.files.offsets();
        if self.version() == Version::V2 && before.1 + payload.len() as i64 > VOLUME_MAX {
            self.next_volume()?;
        }
        let mut domain_changed = false;
        if !pmids.is_empty() {
            self.put_labels(meta, LabelLevel::Context, u32::MAX, time)?;
        }
        for pmid in pmids {
            let Some(desc) = meta.descs.get(pmid.0).copied() else {
                continue;
            };
            if self.descs.insert(*pmid) {
                self.put(&MetaRecord::Desc {
                    desc,
                    names: meta.names.names_of(*pmid),
                })?;
                self.put_labels(meta, LabelLevel::Item, pmid.0, time)?;
                self.put_labels(meta, LabelLevel::Domain, pmid.domain(), time)?;
                self.put_labels(meta, LabelLevel::Cluster, pmid.without_item().0, time)?;
                let kinds = [TextKind::METRIC_ONELINE, TextKind::METRIC_HELP];
                self.put_texts(meta, kinds, pmid.0)?;
            }
            if desc.indom.is_null() {
                continue;
            }
            // Each state of a domain is written once, also when archives that overlap take turns.
            if let Some(entry) = meta.instances_at(desc.indom, time)
                && self.domains.insert((desc.indom, entry.time))
            {
                domain_changed = true;
                self.put(&MetaRecord::Indom {
                    time,
                    indom: desc.indom,
                    instances: entry.instances.clone(),
                })?;
            }
            self.put_labels(meta, LabelLevel::InDom, desc.indom.0, time)?;
            self.put_labels(meta, LabelLevel::Instances, desc.indom.0, time)?;
            let kinds = [TextKind::INDOM_ONELINE, TextKind::INDOM_HELP];
            self.put_texts(meta, kinds, desc.indom.0)?;
        }
        self.data(time, before, domain_changed, payload)
    }

    /// Writes a data record; `before` is where files ended ahead of the metadata for it, and `domain_changed` says whether
    /// instances were among that.
    pub fn data(
        &mut self,
        time: Timestamp,
        before: (i64, i64),
        domain_changed: bool,
        payload: &[u8],
    ) -> io::Result<()> {
        self.last_at = Some(before);
        // The stretch is reckoned from the end of the record that had the last entry.
        let end = before.1 + payload.len() as i64 + 8;
        if self.records == 0 || domain_changed || end > self.index_at {
            self.files.index(time, before)?;
            self.index_at = end + INDEX_EVERY;
            self.last_at = None;
        }
        self.files.data(payload)?;
        self.records += 1;
        self.last = Some(time);
        Ok(())
    }

    /// Goes on in a new volume.
    pub fn next_volume(&mut self) -> io::Result<()> {
        self.last_entry()?;
        self.files.next_volume()?;
        self.index_at = 0;
        Ok(())
    }

    fn last_entry(&mut self) -> io::Result<()> {
        let Some(last) = self.last else {
            return Ok(());
        };
        let at = self.last_at.unwrap_or_else(|| self.files.offsets());
        self.files.index(last, at)
    }

    /// Ends the archive with an index entry for its last record, if that has none yet.
    pub fn finish_at_last(mut self) -> io::Result<()> {
        if self.last_at.is_some() {
            self.last_entry()?;
        }
        self.files.flush()
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.last_entry()?;
        self.files.flush()
    }
}
