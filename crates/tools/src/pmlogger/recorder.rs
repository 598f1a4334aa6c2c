//! The archive that is being written: values, and ahead of them what they mean (LOGARCHIVE(5)).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use pcp::archive::{ArchiveWriter, Label, MetaRecord, Version, encode_data, indom_record};
use pcp::pdu::TextKind;
use pcp::{
    Context, Error, EventArray, Fetched, InDom, Instance, LabelLevel, LabelSet, Pmid, Text,
    Timestamp, Type, Value, ValueSet,
};

/// Bytes of a volume after which the temporal index gets an entry in any case.
const INDEX_DISTANCE: i64 = 100_000;
/// Bytes that a volume of version 2 may have.
const VOLUME_MAX: i64 = i32::MAX as i64;
/// The bit of a derived metric's number that says that its values were logged.
const DERIVED_LOGGED: u32 = 1 << 21;

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The source of metrics does not answer.
    #[error("{0}")]
    Source(#[from] Error),
    /// The archive cannot be written.
    #[error("{0}")]
    Archive(#[from] io::Error),
}

/// Writes an archive.
pub struct Recorder {
    base: PathBuf,
    writer: ArchiveWriter,
    described: HashSet<Pmid>,
    indoms: HashMap<InDom, BTreeMap<i32, Text>>,
    labels: HashMap<(LabelLevel, u32), Vec<LabelSet>>,
    texts: HashSet<(u32, u32)>,
    last: Timestamp,
    closed_bytes: i64,
    index_at: i64,
    /// Whether the next record has an entry of the index: it begins a volume, or a domain changed.
    wants_index: bool,
}

/// A record of a metric's number in the archive: derived metrics have a bit more.
fn logged_pmid(pmid: Pmid) -> Pmid {
    if pmid.is_derived() {
        Pmid(pmid.0 | DERIVED_LOGGED)
    } else {
        pmid
    }
}

fn absent<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        // The other end answered: there is none.
        Err(error) if !super::is_lost(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Recorder {
    /// Creates the files of an archive.
    ///
    /// # Errors
    /// `EEXIST` when one of them is there.
    pub fn create(base: &Path, label: Label) -> io::Result<Recorder> {
        let last = label.start;
        let mut writer = ArchiveWriter::create(base, label)?;
        writer.flush()?;
        Ok(Recorder {
            base: base.to_owned(),
            writer,
            described: HashSet::new(),
            indoms: HashMap::new(),
            labels: HashMap::new(),
            texts: HashSet::new(),
            last,
            closed_bytes: 0,
            index_at: INDEX_DISTANCE,
            wants_index: true,
        })
    }

    /// The name of the archive.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The label, with the current volume.
    pub fn label(&self) -> &Label {
        self.writer.label()
    }

    /// Bytes of the current volume.
    pub fn volume_bytes(&self) -> i64 {
        self.writer.offsets().1
    }

    /// Bytes of all volumes.
    pub fn bytes(&self) -> i64 {
        self.closed_bytes + self.volume_bytes()
    }

    /// The time of the last record.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Begins a volume.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_volume(&mut self) -> io::Result<()> {
        self.closed_bytes += self.volume_bytes();
        self.writer.next_volume()?;
        self.writer.flush()?;
        self.wants_index = true;
        self.index_at = INDEX_DISTANCE;
        Ok(())
    }

    /// Whether a record might not fit into the volume.
    pub fn is_full(&self) -> bool {
        self.writer.version() == Version::V2 && self.volume_bytes() > VOLUME_MAX - (64 << 20)
    }

    /// Forgets what labels were written, so that those that changed are written again.
    ///
    /// # Errors
    /// What the source and the system say.
    pub fn labels_changed(&mut self, context: &mut Context) -> Result<(), RecordError> {
        let time = Timestamp::now();
        let known: Vec<(LabelLevel, u32)> = self.labels.keys().copied().collect();
        for (level, ident) in known {
            let Some(sets) = absent(context.labels(ident, level))? else {
                continue;
            };
            if !sets.is_empty() && self.labels.get(&(level, ident)) != Some(&sets) {
                self.labels.remove(&(level, ident));
                self.label_sets(level, ident, time, sets)?;
            }
        }
        Ok(())
    }

    /// Appends a record, ahead of it what is not known yet of its metrics, behind it an entry of the index when a domain
    /// changed, all whole when this returns. `in_part` are the domains of which not all instances were asked for. Returns
    /// the bytes of the record.
    ///
    /// # Errors
    /// What the source says of the metrics; then nothing of the values is written.
    pub fn record(
        &mut self,
        context: &mut Context,
        fetched: &Fetched,
        in_part: impl Fn(InDom) -> bool,
    ) -> Result<usize, RecordError> {
        let before = self.writer.offsets();
        for set in &fetched.sets {
            self.metric(context, fetched.time, set, &in_part)?;
        }
        let sets: Vec<ValueSet> = fetched
            .sets
            .iter()
            .map(|set| ValueSet {
                pmid: logged_pmid(set.pmid),
                ..set.clone()
            })
            .collect();
        Ok(self.append(fetched.time, &sets, before)?)
    }

    fn append(
        &mut self,
        time: Timestamp,
        sets: &[ValueSet],
        before: (i64, i64),
    ) -> io::Result<usize> {
        let payload = encode_data(self.writer.version(), time, sets);
        self.writer.data(&payload)?;
        let log = self.writer.offsets().1;
        if self.wants_index || log >= self.index_at {
            self.writer.index(time, before)?;
            self.wants_index = false;
            self.index_at = log + INDEX_DISTANCE;
        }
        self.writer.flush()?;
        self.last = time;
        Ok(payload.len() + 8)
    }

    /// Appends a `<mark>`, a millisecond behind the last record: what follows has nothing to do with what was before.
    ///
    /// # Errors
    /// What the system says.
    pub fn mark(&mut self) -> io::Result<()> {
        let time = self.last + Timestamp::from_nanos(1_000_000);
        let payload = encode_data(self.writer.version(), time, &[]);
        self.writer.data(&payload)?;
        self.writer.flush()?;
        self.last = time;
        Ok(())
    }

    /// Appends the record that begins or ends an archive, in which the logger describes itself. It has an entry of the
    /// index in any case, and its metrics neither texts nor labels.
    ///
    /// # Errors
    /// What the system says.
    pub fn own_record(
        &mut self,
        time: Timestamp,
        metrics: &[OwnMetric],
        instance: &Instance,
    ) -> io::Result<()> {
        let before = self.writer.offsets();
        let version = self.writer.version();
        for metric in metrics {
            if self.described.insert(metric.desc.pmid) {
                let record = MetaRecord::Desc {
                    desc: metric.desc,
                    names: vec![metric.name.clone()],
                };
                self.writer.meta(&record.encode(version))?;
            }
            let indom = metric.desc.indom;
            if !indom.is_null() && !self.indoms.contains_key(&indom) {
                let all = BTreeMap::from([(instance.inst, instance.name.clone())]);
                self.indom(indom, time, all)?;
            }
        }
        let sets: Vec<ValueSet> = metrics.iter().map(|m| m.set.clone()).collect();
        self.wants_index = true;
        self.append(time, &sets, before)?;
        Ok(())
    }

    fn meta(&mut self, record: &MetaRecord) -> io::Result<()> {
        let version = self.writer.version();
        self.writer.meta(&record.encode(version))
    }

    fn metric(
        &mut self,
        context: &mut Context,
        time: Timestamp,
        set: &ValueSet,
        in_part: &impl Fn(InDom) -> bool,
    ) -> Result<(), RecordError> {
        let Some(desc) = absent(context.desc(set.pmid))? else {
            return Ok(());
        };
        let first = !self.described.contains(&set.pmid);
        if first {
            let names = absent(context.names_of(set.pmid))?.unwrap_or_default();
            let logged = pcp::Desc {
                pmid: logged_pmid(desc.pmid),
                ..desc
            };
            self.meta(&MetaRecord::Desc {
                desc: logged,
                names,
            })?;
            self.described.insert(set.pmid);
            self.labels_of(context, time, &desc)?;
            self.texts_of(context, &desc)?;
        }
        if matches!(desc.ty, Type::Event | Type::HighResEvent) {
            self.event_parameters(context, &desc, set)?;
        }
        if desc.indom.is_null() || set.instances().is_empty() {
            return Ok(());
        }
        let known = self.indoms.get(&desc.indom);
        let complete = known.is_some_and(|known| {
            set.instances().iter().all(|v| known.contains_key(&v.inst))
                && (in_part(desc.indom) || set.instances().len() == known.len())
        });
        if complete {
            return Ok(());
        }
        let Some(now) = absent(context.instances(desc.indom))? else {
            return Ok(());
        };
        let now: BTreeMap<i32, Text> = now.into_iter().map(|i| (i.inst, i.name)).collect();
        if known == Some(&now) {
            return Ok(());
        }
        self.indom(desc.indom, time, now)?;
        if !first {
            self.labels_at(context, LabelLevel::Instances, desc.indom.0, time)?;
        }
        Ok(())
    }

    /// Writes the instances of a domain.
    fn indom(&mut self, indom: InDom, time: Timestamp, now: BTreeMap<i32, Text>) -> io::Result<()> {
        let listed = |instances: &BTreeMap<i32, Text>| -> Vec<Instance> {
            let pairs = instances.iter();
            let instance = |(inst, name): (&i32, &Text)| Instance {
                inst: *inst,
                name: name.clone(),
            };
            pairs.map(instance).collect()
        };
        let before = self.indoms.get(&indom).map(&listed);
        let version = self.writer.version();
        let record = indom_record(version, time, indom, before.as_deref(), listed(&now));
        self.meta(&record)?;
        self.wants_index = true;
        self.indoms.insert(indom, now);
        Ok(())
    }

    fn labels_of(
        &mut self,
        context: &mut Context,
        time: Timestamp,
        desc: &pcp::Desc,
    ) -> Result<(), RecordError> {
        let pmid = desc.pmid;
        self.labels_at(context, LabelLevel::Context, u32::MAX, time)?;
        if !pmid.is_derived() {
            self.labels_at(context, LabelLevel::Domain, pmid.domain(), time)?;
        }
        if !desc.indom.is_null() {
            self.labels_at(context, LabelLevel::InDom, desc.indom.0, time)?;
        }
        if !pmid.is_derived() {
            self.labels_at(context, LabelLevel::Cluster, pmid.without_item().0, time)?;
            self.labels_at(context, LabelLevel::Item, pmid.0, time)?;
        }
        if !desc.indom.is_null() {
            self.labels_at(context, LabelLevel::Instances, desc.indom.0, time)?;
        }
        Ok(())
    }

    fn labels_at(
        &mut self,
        context: &mut Context,
        level: LabelLevel,
        ident: u32,
        time: Timestamp,
    ) -> Result<(), RecordError> {
        if self.labels.contains_key(&(level, ident)) {
            return Ok(());
        }
        let sets = absent(context.labels(ident, level))?.unwrap_or_default();
        Ok(self.label_sets(level, ident, time, sets)?)
    }

    fn label_sets(
        &mut self,
        level: LabelLevel,
        ident: u32,
        time: Timestamp,
        sets: Vec<LabelSet>,
    ) -> io::Result<()> {
        if sets.is_empty() {
            return Ok(());
        }
        self.meta(&MetaRecord::Labels {
            time,
            level: level as u32,
            ident,
            sets: sets.clone(),
        })?;
        self.labels.insert((level, ident), sets);
        Ok(())
    }

    fn texts_of(&mut self, context: &mut Context, desc: &pcp::Desc) -> Result<(), RecordError> {
        let kinds = [
            (TextKind::METRIC_ONELINE, desc.pmid.0),
            (TextKind::INDOM_ONELINE, desc.indom.0),
            (TextKind::METRIC_HELP, desc.pmid.0),
            (TextKind::INDOM_HELP, desc.indom.0),
        ];
        for (kind, ident) in kinds {
            let none = kind.is_indom() && desc.indom.is_null();
            if none || self.texts.contains(&(kind.0, ident)) {
                continue;
            }
            if let Some(text) = absent(context.text(ident, kind))? {
                let logged = match kind.is_indom() {
                    true => ident,
                    false => logged_pmid(desc.pmid).0,
                };
                self.meta(&MetaRecord::Text {
                    kind,
                    ident: logged,
                    text,
                })?;
                self.texts.insert((kind.0, ident));
            }
        }
        Ok(())
    }

    /// Describes the metrics that are parameters of events.
    fn event_parameters(
        &mut self,
        context: &mut Context,
        desc: &pcp::Desc,
        set: &ValueSet,
    ) -> Result<(), RecordError> {
        for value in set.instances() {
            let Value::Block(block) = &value.value else {
                continue;
            };
            let Ok(events) = EventArray::decode(desc.ty, &block.bytes) else {
                continue;
            };
            for parameter in events.records.iter().flat_map(|r| &r.params) {
                let pmid = parameter.pmid;
                if self.described.contains(&pmid) {
                    continue;
                }
                let Some(desc) = absent(context.desc(pmid))? else {
                    continue;
                };
                let names = absent(context.names_of(pmid))?.unwrap_or_default();
                self.meta(&MetaRecord::Desc { desc, names })?;
                self.described.insert(pmid);
            }
        }
        Ok(())
    }
}

/// A metric in which a logger describes itself.
pub struct OwnMetric {
    /// Its name.
    pub name: Text,
    /// Its descriptor.
    pub desc: pcp::Desc,
    /// Its value.
    pub set: ValueSet,
}
