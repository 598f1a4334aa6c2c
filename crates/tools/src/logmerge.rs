//! What tools that write archives have in common: metadata goes out when the first data that needs it does.

use std::collections::{HashMap, HashSet};
use std::io;

use pcp::archive::{ArchiveWriter, IndomEntry, MetaRecord, Metadata, Version, indom_record};
use pcp::pdu::TextKind;
use pcp::{InDom, Instance, LabelLevel, Pmid, Text, Timestamp};

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
    /// The instances of each domain that were written last.
    held: HashMap<InDom, Vec<Instance>>,
    labels: HashMap<(u32, u32), Timestamp>,
    texts: HashSet<(u32, u32)>,
    index_at: i64,
    records: u64,
    last: Option<Timestamp>,
    /// Where the last record and what followed its metadata began, unless the index has an entry for it.
    last_at: Option<(i64, i64)>,
    settled: Vec<Settled>,
    /// Which metadata, by its address, `settled` is about.
    settled_of: usize,
    stored: Option<HashMap<usize, StoredOrder>>,
    domain_labels: bool,
}

/// Where in metadata the records are that say what a metric is called and which instances a domain has from a time on.
struct StoredOrder {
    descs: HashMap<Pmid, usize>,
    domains: HashMap<(InDom, Timestamp), usize>,
}

impl StoredOrder {
    fn of(meta: &Metadata) -> StoredOrder {
        let mut order = StoredOrder {
            descs: HashMap::new(),
            domains: HashMap::new(),
        };
        for (number, (_, record)) in meta.records.iter().enumerate() {
            match record {
                MetaRecord::Desc { desc, .. } => {
                    order.descs.insert(desc.pmid, number);
                }
                MetaRecord::Indom { time, indom, .. } => {
                    order.domains.insert((*indom, *time), number);
                }
                _ => {}
            }
        }
        order
    }
}

/// Metrics of a record for which nothing is to be written in a stretch of time, as all metadata that held at its start was
/// written and none comes before its end.
struct Settled {
    pmids: Vec<Pmid>,
    from: Timestamp,
    until: Timestamp,
}

/// Kinds of records that are remembered: a logger writes one for each of its intervals.
const SETTLED: usize = 32;

impl LogWriter {
    /// Writes into new files.
    pub fn new(files: ArchiveWriter) -> LogWriter {
        LogWriter {
            files,
            descs: HashSet::new(),
            domains: HashSet::new(),
            held: HashMap::new(),
            labels: HashMap::new(),
            texts: HashSet::new(),
            index_at: 0,
            records: 0,
            last: None,
            last_at: None,
            settled: Vec::new(),
            settled_of: 0,
            stored: None,
            domain_labels: true,
        }
    }

    /// Writes names and instances in the order in which they stand in the archive that they come from, not in our own.
    pub fn in_stored_order(mut self) -> LogWriter {
        self.stored = Some(HashMap::new());
        self
    }

    /// Leaves out the labels of domains.
    pub fn without_domain_labels(mut self) -> LogWriter {
        self.domain_labels = false;
        self
    }

    fn stored<'m>(
        &mut self,
        meta: &'m Metadata,
        place: impl FnOnce(&StoredOrder) -> Option<&usize>,
    ) -> Option<&'m MetaRecord> {
        let of = std::ptr::from_ref(meta).addr();
        let orders = self.stored.as_mut()?;
        let order = orders.entry(of).or_insert_with(|| StoredOrder::of(meta));
        let (_, record) = meta.records.get(*place(order)?)?;
        Some(record)
    }

    fn names(&mut self, meta: &Metadata, pmid: Pmid) -> Vec<Text> {
        match self.stored(meta, |order| order.descs.get(&pmid)) {
            Some(MetaRecord::Desc { names, .. }) => names.clone(),
            _ => meta.names.names_of(pmid),
        }
    }

    fn instances(&mut self, meta: &Metadata, indom: InDom, entry: &IndomEntry) -> Vec<Instance> {
        match self.stored(meta, |order| order.domains.get(&(indom, entry.time))) {
            Some(MetaRecord::Indom { instances, .. }) => instances.clone(),
            _ => entry.instances.clone(),
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
        let after = history.partition_point(|(t, _)| *t <= time);
        let held = after.checked_sub(1).and_then(|n| history.get(n));
        let Some((stamp, sets)) = held else {
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

    /// Writes a data record with the metadata that it needs and that was not written yet; no metrics make a mark. Metadata is
    /// told apart by its address: it stays where it is, and as it is, until the last record was written.
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
        if self.is_settled(meta, time, pmids) {
            return self.data(time, before, false, payload);
        }
        let mut domain_changed = false;
        if !pmids.is_empty() {
            self.put_labels(meta, LabelLevel::Context, u32::MAX, time)?;
        }
        for pmid in pmids {
            let Some(desc) = meta.descs.get(pmid.0).copied() else {
                continue;
            };
            let fresh = self.descs.insert(*pmid);
            if fresh {
                let names = self.names(meta, *pmid);
                self.put(&MetaRecord::Desc { desc, names })?;
            }
            // Those that come later than the metric, too.
            self.put_labels(meta, LabelLevel::Item, pmid.0, time)?;
            if self.domain_labels {
                self.put_labels(meta, LabelLevel::Domain, pmid.domain(), time)?;
            }
            self.put_labels(meta, LabelLevel::Cluster, pmid.without_item().0, time)?;
            if fresh {
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
                let (indom, instances) = (desc.indom, self.instances(meta, desc.indom, entry));
                let before = self.held.insert(indom, instances.clone());
                let (version, before) = (self.version(), before.as_deref());
                self.put(&indom_record(version, time, indom, before, instances))?;
            }
            self.put_labels(meta, LabelLevel::InDom, desc.indom.0, time)?;
            self.put_labels(meta, LabelLevel::Instances, desc.indom.0, time)?;
            let kinds = [TextKind::INDOM_ONELINE, TextKind::INDOM_HELP];
            self.put_texts(meta, kinds, desc.indom.0)?;
        }
        self.settle(meta, time, pmids);
        self.data(time, before, domain_changed, payload)
    }

    fn is_settled(&mut self, meta: &Metadata, time: Timestamp, pmids: &[Pmid]) -> bool {
        let of = std::ptr::from_ref(meta).addr();
        if self.settled_of != of {
            // Archives that take turns write labels in turns, too.
            self.settled.clear();
            self.settled_of = of;
        }
        let held = |s: &&Settled| s.pmids == pmids && s.from <= time && time < s.until;
        self.settled.iter().rev().find(held).is_some()
    }

    fn settle(&mut self, meta: &Metadata, time: Timestamp, pmids: &[Pmid]) {
        let mut until = Timestamp::MAX;
        let mut ends = |next: Option<Timestamp>| until = until.min(next.unwrap_or(until));
        let labels = |level: LabelLevel, ident: u32| {
            let history = meta.labels.get(&(level as u32, ident))?;
            let after = history.partition_point(|(t, _)| *t <= time);
            history.get(after).map(|(t, _)| *t)
        };
        ends(labels(LabelLevel::Context, u32::MAX));
        for desc in pmids.iter().filter_map(|pmid| meta.descs.get(pmid.0)) {
            let pmid = desc.pmid;
            ends(labels(LabelLevel::Item, pmid.0));
            ends(labels(LabelLevel::Domain, pmid.domain()));
            ends(labels(LabelLevel::Cluster, pmid.without_item().0));
            if desc.indom.is_null() {
                continue;
            }
            ends(labels(LabelLevel::InDom, desc.indom.0));
            ends(labels(LabelLevel::Instances, desc.indom.0));
            ends(meta.indoms.get(desc.indom.0).and_then(|entries| {
                let after = entries.partition_point(|e| e.time <= time);
                entries.get(after).map(|e| e.time)
            }));
        }
        self.settled.retain(|s| s.pmids != pmids);
        if self.settled.len() >= SETTLED {
            self.settled.remove(0);
        }
        self.settled.push(Settled {
            pmids: pmids.to_vec(),
            from: time,
            until,
        });
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
        // The stretch is reckoned from the end of the record that had the last entry.
        let end = before.1 + payload.len() as i64 + 8;
        let due = self.records == 0 || domain_changed || end > self.index_at;
        if due {
            self.index_at = end + INDEX_EVERY;
        }
        self.data_at(time, before, due, payload)
    }

    /// Writes a data record, and an entry of the index for it if that is wanted.
    pub fn data_at(
        &mut self,
        time: Timestamp,
        before: (i64, i64),
        entry: bool,
        payload: &[u8],
    ) -> io::Result<()> {
        // PCP's has the metadata of the record ahead of the end that the index tells of.
        self.last_at = Some((self.files.offsets().0, before.1));
        if entry {
            self.files.index(time, before)?;
            self.last_at = None;
        }
        self.files.data(payload)?;
        self.records += 1;
        self.last = Some(time);
        Ok(())
    }

    /// Goes on in a new volume, after an index entry for the last record of the old one.
    pub fn next_volume(&mut self) -> io::Result<()> {
        self.last_entry()?;
        self.begin_volume()
    }

    /// Goes on in a new volume.
    pub fn begin_volume(&mut self) -> io::Result<()> {
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

    /// Says up to when there was something to look at, which is the time of the index's last entry.
    pub fn reaching(mut self, time: Timestamp) -> LogWriter {
        self.last = self.last.max(Some(time));
        self
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<()> {
        self.last_entry()?;
        self.files.flush()
    }
}
