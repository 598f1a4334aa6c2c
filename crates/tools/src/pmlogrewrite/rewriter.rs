//! Metadata and data on their way from the old archive to the new one.

use std::collections::HashSet;
use std::sync::Arc;

use pcp::archive::{Archive, Cursor, DataRecord, Label, MetaRecord, Version};
use pcp::{Desc, ErrorCode, InDom, Pmid, Timestamp, Type};

use crate::logmerge::LogWriter;
use crate::pmlogextract::create;
use crate::progress::Progress;
use crate::rewrite_rules::{IndomRule, LabelRule, Rules};

/// The work on one archive.
pub struct Rewriter {
    pub(super) archive: Arc<Archive>,
    pub(super) rules: Rules,
    pub(super) out: LogWriter,
    /// The domains of metrics that are written.
    used: HashSet<InDom>,
    /// The domains that lost all their metrics.
    unused: HashSet<InDom>,
    next_meta: usize,
    /// Whether a metric of events was described: the metrics of their parameters are in no record of their own.
    events: bool,
    /// The entry of the archive's own index whose record is awaited.
    next_entry: usize,
    /// Whether the next record is to have an entry in the index.
    entry_due: bool,
}

/// Why the work ended early.
pub struct Failure {
    /// In words.
    pub message: String,
    /// Whether it is the input that can't be read.
    pub input: bool,
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure {
            message,
            input: false,
        }
    }
}

impl Rewriter {
    /// Begins the new archive.
    ///
    /// # Errors
    /// What creating its files says.
    pub fn create(
        archive: &Arc<Archive>,
        rules: Rules,
        version: Version,
        base: &str,
    ) -> Result<Rewriter, String> {
        let old = &archive.label;
        let mut label = Label {
            version,
            ..old.clone()
        };
        if let Some(name) = &rules.hostname {
            label.hostname = name.as_str().into();
        }
        if let Some(zone) = &rules.timezone {
            label.timezone = zone.as_str().into();
        }
        if let Some(zone) = &rules.zoneinfo {
            label.zoneinfo = zone.as_str().into();
        }
        if let Some(features) = rules.features {
            label.features = features;
        }
        label.start = moved(&rules, old.start);
        let files =
            create(base, label).map_err(|text| text.replace("pmlogTOOL", "pmlogrewrite"))?;
        let mut rewriter = Rewriter {
            archive: archive.clone(),
            rules,
            out: LogWriter::new(files),
            used: HashSet::new(),
            unused: HashSet::new(),
            next_meta: 0,
            events: false,
            next_entry: 0,
            entry_due: true,
        };
        for (_, desc) in archive.meta.descs.iter() {
            if let Some(new) = rewriter.desc(*desc) {
                rewriter.used.insert(new.indom);
            }
        }
        let descs = archive.meta.descs.iter();
        let unused = descs
            .map(|(_, d)| d.indom)
            .filter(|i| !rewriter.used.contains(i));
        // What is copied stays as well.
        let copied = |i: &InDom| {
            let rule = rewriter.rules.indoms.get(i);
            rule.is_some_and(|r| !r.duplicates.is_empty())
        };
        rewriter.unused = unused.filter(|i| !copied(i)).collect();
        Ok(rewriter)
    }

    /// A descriptor by the rules; `None` for a metric that goes.
    fn desc(&self, mut desc: Desc) -> Option<Desc> {
        if let Some(rule) = self.rules.indoms.get(&desc.indom)
            && let Some(indom) = rule.moved_to()
        {
            let own = self.rules.metrics.get(&desc.pmid).and_then(|r| r.indom);
            if own.is_none() {
                desc.indom = indom;
            }
        }
        if let Some(rule) = self.rules.metrics.get(&desc.pmid) {
            if rule.delete {
                return None;
            }
            desc.pmid = rule.pmid.unwrap_or(desc.pmid);
            desc.ty = rule.ty.unwrap_or(desc.ty);
            desc.sem = rule.sem.unwrap_or(desc.sem);
            desc.units = rule.units.unwrap_or(desc.units);
            desc.indom = rule.indom.unwrap_or(desc.indom);
        }
        Some(desc)
    }

    fn failed(error: &std::io::Error) -> String {
        format!(
            "pmlogrewrite: Error: __pmLogPutResult: log data: {}\n",
            ErrorCode::from(error)
        )
    }

    /// Writes all records.
    ///
    /// # Errors
    /// What can't be read, converted or written.
    pub fn run(&mut self) -> Result<(), Failure> {
        let archive = self.archive.clone();
        let mut cursor = Cursor::at_start(archive.clone()).map_err(|e| self.bad(&e, None))?;
        // The first record's entry in the index tells of what precedes all metadata.
        let mut begin = Some(self.out.files.offsets());
        for record in self.fresh_labels() {
            let payload = record.encode(self.out.version());
            let written = self.out.files.meta(&payload);
            written.map_err(|e| Self::failed(&e))?;
        }
        let mut volume = archive.first_volume();
        let to = archive.end().unwrap_or(archive.label.start);
        let mut progress = Progress::new("pmlogrewrite", archive.label.start, to, false);
        loop {
            let record = match cursor.following() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return Err(self.bad(&error, Some(&cursor))),
            };
            if record.volume != volume {
                volume = record.volume;
                self.out.begin_volume().map_err(|e| Self::failed(&e))?;
                self.entry_due = true;
            }
            progress.at(record.time);
            let before = begin.take().unwrap_or_else(|| self.out.files.offsets());
            let entry = archive.index.get(self.next_entry);
            if entry.is_some_and(|e| e.time == record.time) {
                self.next_entry += 1;
                self.entry_due = true;
            }
            self.metadata(Some(&record))?;
            let time = moved(&self.rules, record.time);
            if let Some(payload) = self.record(&record, time)? {
                let due = std::mem::take(&mut self.entry_due);
                let written = self.out.data_at(time, before, due, &payload);
                written.map_err(|e| Self::failed(&e))?;
            }
            self.entry_due |= record.is_mark();
        }
        self.metadata(None)?;
        Ok(())
    }

    fn bad(&self, error: &pcp::Error, at: Option<&Cursor>) -> Failure {
        let base = self.archive.files.base.display();
        let code = error.code();
        let mut message = format!("pmlogrewrite: Error: __pmLogRead[log {base}]: {code}\n");
        if let Some(cursor) = at {
            message.push_str(&format!(
                "pmlogrewrite: Error occurred at byte offset {} into a file of {} bytes.\n",
                cursor.position().1,
                cursor.volume_len()
            ));
        }
        Failure {
            message,
            input: true,
        }
    }

    /// Ends the new archive; the number of its last volume.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(self) -> Result<i32, String> {
        let last = self.out.files.label().volume;
        self.out.finish_at_last().map_err(|e| Self::failed(&e))?;
        Ok(last)
    }

    /// Removes what was written.
    pub fn abandon(self) {
        self.out.files.abandon();
    }

    /// Writes the metadata up to what a record does not need yet, or all that is left. All but descriptors make an entry in
    /// the index.
    fn metadata(&mut self, until: Option<&DataRecord>) -> Result<(), String> {
        let archive = self.archive.clone();
        let mut held = Vec::new();
        if let Some(record) = until {
            record
                .metrics(&mut held)
                .map_err(|error| format!("pmlogrewrite: Error: __pmLogRead: {}\n", error.code()))?;
        }
        while let Some((_, record)) = archive.meta.records.get(self.next_meta) {
            if until.is_some_and(|until| !self.is_due(record, until.time, &held)) {
                break;
            }
            self.next_meta += 1;
            for record in self.meta(record) {
                let described = matches!(record, MetaRecord::Desc { .. });
                self.entry_due |= until.is_some() && !described;
                let payload = record.encode(self.out.version());
                let written = self.out.files.meta(&payload);
                written.map_err(|e| Self::failed(&e))?;
            }
        }
        Ok(())
    }

    /// Whether a metadata record goes out ahead of a data record: what describes one of its metrics, and what has its time.
    fn is_due(&mut self, record: &MetaRecord, time: Timestamp, held: &[Pmid]) -> bool {
        match record {
            MetaRecord::Desc { desc, .. } => {
                self.events |= matches!(desc.ty, Type::Event | Type::HighResEvent);
                self.events || held.contains(&desc.pmid)
            }
            MetaRecord::Text { .. } => true,
            MetaRecord::Indom { time: from, .. }
            | MetaRecord::IndomDelta { time: from, .. }
            | MetaRecord::Labels { time: from, .. } => *from <= time,
        }
    }

    /// What a metadata record becomes.
    fn meta(&self, record: &MetaRecord) -> Vec<MetaRecord> {
        let rules = &self.rules;
        match record {
            MetaRecord::Desc { desc, names } => {
                let Some(new) = self.desc(*desc) else {
                    return Vec::new();
                };
                let mut names = names.clone();
                if let Some(rule) = rules.metrics.get(&desc.pmid) {
                    for (old, new) in &rule.names {
                        for name in names.iter_mut().filter(|n| *n == old) {
                            *name = new.clone();
                        }
                    }
                }
                vec![MetaRecord::Desc { desc: new, names }]
            }
            MetaRecord::Indom {
                time,
                indom,
                instances,
            } => {
                let time = moved(rules, *time);
                let mut changed = instances.clone();
                let rule = rules.indoms.get(indom);
                if let Some(rule) = rule {
                    changed.retain(|i| rule.instances.get(&i.inst).is_none_or(|r| !r.delete));
                    for instance in &mut changed {
                        if let Some(change) = rule.instances.get(&instance.inst) {
                            instance.inst = change.number.unwrap_or(instance.inst);
                            if let Some(name) = &change.name {
                                instance.name = name.clone();
                            }
                        }
                    }
                }
                // Of a domain that loses all its instances nothing is told.
                let lost = changed.is_empty() && !instances.is_empty();
                let kept = targets(*indom, rule)
                    .filter(|(i, as_it_was)| !self.unused.contains(i) && (*as_it_was || !lost));
                kept.map(|(indom, as_it_was)| MetaRecord::Indom {
                    time,
                    indom,
                    instances: if as_it_was { instances } else { &changed }.clone(),
                })
                .collect()
            }
            MetaRecord::IndomDelta {
                time,
                indom,
                changes,
            } => {
                let time = moved(rules, *time);
                let mut changed = changes.clone();
                let rule = rules.indoms.get(indom);
                if let Some(rule) = rule {
                    changed.retain(|(i, _)| rule.instances.get(i).is_none_or(|r| !r.delete));
                    for (inst, name) in &mut changed {
                        if let Some(change) = rule.instances.get(inst) {
                            *inst = change.number.unwrap_or(*inst);
                            if let (Some(name), Some(new)) = (name, &change.name) {
                                *name = new.clone();
                            }
                        }
                    }
                }
                let kept = targets(*indom, rule).filter(|(i, _)| !self.unused.contains(i));
                kept.map(|(indom, as_it_was)| MetaRecord::IndomDelta {
                    time,
                    indom,
                    changes: if as_it_was { changes } else { &changed }.clone(),
                })
                .collect()
            }
            MetaRecord::Labels {
                time,
                level,
                ident,
                sets,
            } => self.labels(moved(rules, *time), *level, *ident, sets.clone()),
            MetaRecord::Text { kind, ident, text } => {
                let (mut ident, mut text) = (*ident, text.clone());
                let old = ident;
                let metric = rules.metrics.get(&Pmid(ident)).filter(|_| !kind.is_indom());
                if let Some(rule) = metric {
                    if rule.delete {
                        return Vec::new();
                    }
                    ident = rule.pmid.map_or(ident, |p| p.0);
                }
                if kind.is_indom()
                    && let Some(new) = rules.indoms.get(&InDom(ident)).and_then(|r| r.indom)
                {
                    ident = new.0;
                }
                if kind.is_indom() && self.unused.contains(&InDom(ident)) {
                    return Vec::new();
                }
                let of_it = |r: &&crate::rewrite_rules::TextRule| {
                    r.texts.contains(&(*kind, old))
                        && r.content
                            .as_ref()
                            .is_none_or(|c| c.as_bytes() == text.as_bytes())
                };
                let rules: Vec<_> = rules.texts.iter().filter(of_it).collect();
                for rule in rules {
                    if rule.delete {
                        return Vec::new();
                    }
                    ident = rule.ident.unwrap_or(ident);
                    if let Some(new) = &rule.text {
                        text = new.as_str().into();
                    }
                }
                vec![MetaRecord::Text {
                    kind: *kind,
                    ident,
                    text,
                }]
            }
        }
    }

    /// Metrics that get other numbers, and these.
    fn moved_metrics(&self) -> impl Iterator<Item = (Pmid, Pmid)> + '_ {
        let rules = self.rules.metrics.iter();
        rules.filter_map(|(old, rule)| Some((*old, rule.pmid?)))
    }

    /// Labels that rules add, those of the last rule first: they stand ahead of all else.
    fn fresh_labels(&self) -> Vec<MetaRecord> {
        let time = moved(&self.rules, self.archive.label.start);
        let rules = self.rules.labels.iter().rev();
        let record = |rule: &LabelRule| {
            let (level, ident) = *rule.labels.first().filter(|_| !rule.added.is_empty())?;
            let inst = rule.inst.unwrap_or(pcp::INST_NULL);
            Some(MetaRecord::Labels {
                time,
                level,
                ident,
                sets: vec![crate::labelset::fresh(level, inst, &rule.added)],
            })
        };
        rules.filter_map(record).collect()
    }

    fn labels(
        &self,
        time: Timestamp,
        level: u32,
        ident: u32,
        mut sets: Vec<pcp::LabelSet>,
    ) -> Vec<MetaRecord> {
        let rules = &self.rules;
        let old = ident;
        let mut ident = ident;
        match pcp::LabelLevel::from_raw(level) {
            // With a metric that goes to another domain or cluster go the labels of that.
            Some(pcp::LabelLevel::Domain) => {
                let moved = |(old, new): (Pmid, Pmid)| {
                    (old.domain() == ident && new.domain() != ident).then(|| new.domain())
                };
                ident = self.moved_metrics().find_map(moved).unwrap_or(ident);
            }
            Some(pcp::LabelLevel::Cluster) => {
                let cluster = |pmid: Pmid| pmid.without_item().0;
                let moved = |(old, new): (Pmid, Pmid)| {
                    (cluster(old) == ident && cluster(new) != ident).then(|| cluster(new))
                };
                ident = self.moved_metrics().find_map(moved).unwrap_or(ident);
            }
            Some(pcp::LabelLevel::Item) => {
                if let Some(rule) = rules.metrics.get(&Pmid(ident)) {
                    if rule.delete {
                        return Vec::new();
                    }
                    ident = rule.pmid.map_or(ident, |p| p.0);
                }
            }
            Some(pcp::LabelLevel::InDom | pcp::LabelLevel::Instances) => {
                if let Some(rule) = rules.indoms.get(&InDom(ident)) {
                    ident = rule.indom.map_or(ident, |i| i.0);
                    if ident != old {
                        // In the order in which PCP's tool writes them.
                        sets.reverse();
                    }
                    sets.retain(|s| rule.instances.get(&s.inst).is_none_or(|r| !r.delete));
                    for set in &mut sets {
                        if let Some(number) = rule.instances.get(&set.inst).and_then(|r| r.number) {
                            set.inst = number;
                        }
                    }
                }
                if self.unused.contains(&InDom(ident)) {
                    return Vec::new();
                }
            }
            _ => {}
        }
        let mut records = Vec::new();
        // The rules that came last come first; what one is about is taken out of its set, into a record of its own.
        for rule in rules
            .labels
            .iter()
            .rev()
            .filter(|r| r.added.is_empty() && r.labels.contains(&(level, old)))
        {
            let mut taken = Vec::new();
            sets.retain_mut(|set| {
                let had = !set.labels.is_empty();
                if rule.inst.is_none_or(|i| i == set.inst) {
                    taken.extend(crate::labelset::change(set, level, rule));
                }
                // What a rule leaves without labels goes; what had none to begin with stays.
                !(had && set.labels.is_empty())
            });
            let some = rule.name.is_some() || rule.value.is_some();
            let taken: Vec<Vec<pcp::LabelSet>> = match some {
                true => taken.into_iter().map(|set| vec![set]).collect(),
                false => vec![taken],
            };
            for sets in taken.into_iter().filter(|sets| !sets.is_empty()) {
                records.push(MetaRecord::Labels {
                    time,
                    level,
                    ident: rule.ident.unwrap_or(ident),
                    sets,
                });
            }
        }
        if !sets.is_empty() {
            records.push(MetaRecord::Labels {
                time,
                level,
                ident,
                sets,
            });
        }
        records
    }
}

/// The domains that a domain becomes, and whether they have its instances as they were: that which was duplicated does.
fn targets(indom: InDom, rule: Option<&IndomRule>) -> impl Iterator<Item = (InDom, bool)> {
    let duplicates = rule.map_or(&[][..], |r| r.duplicates.as_slice());
    let own = match rule.and_then(|r| r.indom) {
        Some(new) => (new, false),
        None => (indom, !duplicates.is_empty()),
    };
    std::iter::once(own).chain(duplicates.iter().map(|new| (*new, false)))
}

/// A time by the rules.
pub(super) fn moved(rules: &Rules, time: Timestamp) -> Timestamp {
    match rules.delta {
        Some(delta) => Timestamp::from_nanos(time.as_nanos() + delta),
        None => time,
    }
}
