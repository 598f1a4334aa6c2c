//! A context over archives.

use std::sync::Arc;

use super::series::{History, is_corrupt};
use super::set::{ArchiveSet, SetCursor};
use super::{Cursor, DataRecord, Label, Metadata};
use crate::debug;
use crate::derived::DerivedSet;
use crate::desc::Desc;
use crate::error::{ErrorCode, Result};
use crate::indom::{InDom, Instance, instance_name_matches};
use crate::label::{LabelLevel, LabelSet};
use crate::pdu::{Profile, TextKind};
use crate::pmid::Pmid;
use crate::pmns::{Place, Pmns};
use crate::text::Text;
use crate::timestamp::{NSEC_PER_SEC, Timestamp};
use crate::value::{Fetched, InstanceValue, ValueSet};

/// How an archive answers a fetch (pmSetMode(3)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveMode {
    /// The next record that has one of the metrics.
    Forward,
    /// The record before that has one of the metrics.
    Backward,
    /// Values at regular times, interpolated between those recorded; the step in nanoseconds, negative for backwards.
    Interpolated(i128),
}

/// A set of archives, a place in time, and the way to go from there.
pub struct ArchiveContext {
    set: Arc<ArchiveSet>,
    names: Option<Pmns>,
    mode: ArchiveMode,
    origin: Timestamp,
    cursor: Option<SetCursor>,
    history: History,
    /// Whether the last fetch was a step of interpolation.
    stepping: bool,
    profile: Profile,
    /// Metrics that are computed here.
    pub(crate) derived: Option<Box<DerivedSet>>,
}

impl ArchiveContext {
    /// Opens archives by names separated by commas; the context stands at their start and goes forward.
    ///
    /// # Errors
    /// As [`ArchiveSet::open`].
    pub fn open(names: &str) -> Result<ArchiveContext> {
        let context = ArchiveContext::over(ArchiveSet::open(names)?);
        let first = context.set.archives().first();
        let volume = first.map_or(0, |archive| archive.first_volume());
        let offset = context.label().version.label_len() + 8;
        debug::contexts::archive(names, volume, offset, context.origin);
        Ok(context)
    }

    /// A context over archives that are open.
    #[must_use]
    pub fn over(set: Arc<ArchiveSet>) -> ArchiveContext {
        ArchiveContext {
            origin: set.label().start,
            set,
            names: None,
            mode: ArchiveMode::Forward,
            cursor: None,
            history: History::default(),
            stepping: false,
            profile: Profile::default(),
            derived: None,
        }
    }

    /// The archives.
    #[must_use]
    pub fn set(&self) -> &Arc<ArchiveSet> {
        &self.set
    }

    /// The label of the first archive.
    #[must_use]
    pub fn label(&self) -> &Label {
        self.set.label()
    }

    /// What the archives say of metrics.
    #[must_use]
    pub fn meta(&self) -> &Metadata {
        self.set.meta()
    }

    /// The time of the last record.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        self.set.trace_end();
        self.set.end()
    }

    /// Uses these names instead of the archives' own, those of metrics that the archives have (pmLoadNameSpace(3),
    /// pmTrimNameSpace(3)).
    pub fn use_names(&mut self, names: &Pmns) {
        let meta = self.set.meta();
        self.names = Some(names.trimmed(|pmid| meta.descs.get(pmid.0).is_some()));
    }

    /// The same without leaving out those of metrics that the archives do not have.
    pub fn use_all_names(&mut self, names: Pmns) {
        self.names = Some(names);
    }

    /// The names in use.
    #[must_use]
    pub fn names(&self) -> &Pmns {
        self.names.as_ref().unwrap_or(&self.set.meta().names)
    }

    /// The time origin: where the next fetch begins, and the time for which instances and labels are told.
    #[must_use]
    pub fn origin(&self) -> Timestamp {
        self.origin
    }

    /// Sets the way to fetch and the place to begin at (pmSetMode(3)).
    pub fn set_mode(&mut self, mode: ArchiveMode, origin: Timestamp) {
        if debug::on(debug::Flag::Log) {
            let step = match mode {
                ArchiveMode::Interpolated(step) => step as f64 / 1e9,
                ArchiveMode::Forward | ArchiveMode::Backward => 0.0,
            };
            if let Some(first) = self.set.archives().first() {
                debug::positioned(origin, step, &first.index);
            }
        }
        self.mode = mode;
        self.origin = origin;
        self.cursor = None;
        self.history.rewind();
        self.stepping = false;
    }

    /// Interpolates at a time, as the next step of a run of such fetches.
    pub fn step_to(&mut self, time: Timestamp) {
        if !self.interpolates() {
            self.set_mode(ArchiveMode::Interpolated(1), time);
        }
        self.origin = time;
    }

    /// Whether fetches are for regular times, which they advance whatever is fetched.
    pub(crate) fn interpolates(&self) -> bool {
        matches!(self.mode, ArchiveMode::Interpolated(_))
    }

    /// Whether the temporal index says of the origin that all records are before it, as it does of the last record's own time
    /// when its last entry was written behind that: PCP's library finds its place by this index.
    fn begins_behind_all(&self) -> bool {
        let Some(archive) = self.set.archives().last() else {
            return false;
        };
        let reached = archive.index.iter().find(|e| e.time >= self.origin);
        let Some(entry) = reached.or(archive.index.last()) else {
            return false;
        };
        if self.origin < entry.time {
            return false;
        }
        let Ok(offset) = usize::try_from(entry.log) else {
            return false;
        };
        debug::quietly(|| {
            let cursor = Cursor::at(Arc::clone(archive), entry.volume, offset);
            matches!(cursor.and_then(|mut at| at.following()), Ok(None))
        })
    }

    fn next_record(&mut self) -> Result<DataRecord> {
        let backward = self.mode == ArchiveMode::Backward;
        let origin = self.origin;
        let fresh = self.cursor.is_none();
        if fresh && !backward && self.begins_behind_all() {
            return Err(ErrorCode::EOL.into());
        }
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            empty => empty.insert(if backward {
                SetCursor::at_end(&self.set)?
            } else {
                SetCursor::at_start(&self.set)?
            }),
        };
        loop {
            let record = if backward {
                cursor.preceding()?
            } else {
                cursor.following()?
            };
            let record = record.ok_or(ErrorCode::EOL)?;
            if record.is_mark() && cursor.ignores_mark() {
                continue;
            }
            let before = if backward {
                record.time > origin
            } else {
                record.time < origin
            };
            if !(fresh && before) {
                return Ok(record);
            }
        }
    }

    /// All values of the next record (pmFetchArchive(3)); no sets stand for a mark.
    ///
    /// # Errors
    /// `PM_ERR_EOL` behind the last record, `PM_ERR_LOGREC` for a damaged one, `PM_ERR_MODE` when interpolating.
    pub fn fetch_record(&mut self) -> Result<Fetched> {
        if matches!(self.mode, ArchiveMode::Interpolated(_)) {
            return Err(ErrorCode::MODE.into());
        }
        let record = self.next_record()?;
        self.origin = record.time;
        record.decode()
    }

    /// Values of metrics at the next time; in the recorded modes no sets stand for a mark.
    ///
    /// # Errors
    /// `PM_ERR_EOL` beyond the archives' times, `PM_ERR_LOGREC` for a damaged record.
    pub fn fetch(&mut self, pmids: &[Pmid]) -> Result<Fetched> {
        match self.mode {
            ArchiveMode::Interpolated(step) => self.interpolate(pmids, step),
            _ => self.recorded(pmids),
        }
    }

    fn recorded(&mut self, pmids: &[Pmid]) -> Result<Fetched> {
        loop {
            let record = self.next_record()?;
            self.origin = record.time;
            if record.is_mark() {
                return record.decode();
            }
            let found = record.decode_of(|pmid| pmids.contains(&pmid))?;
            if found.sets.is_empty() {
                continue;
            }
            let corrupt = |set: &ValueSet| {
                let desc = self.meta().descs.get(set.pmid.0);
                desc.is_some_and(|d| is_corrupt(d, set.instances()))
            };
            if found.sets.iter().any(corrupt) {
                return Err(ErrorCode::LOGREC.into());
            }
            let sets = pmids
                .iter()
                .map(|pmid| {
                    let mut set = found
                        .sets
                        .iter()
                        .find(|s| s.pmid == *pmid)
                        .cloned()
                        .unwrap_or_else(|| ValueSet::new(*pmid, Vec::new()));
                    let indom = self.meta().descs.get(pmid.0).map(|d| d.indom);
                    if let (Ok(values), Some(indom)) = (&mut set.values, indom)
                        && !indom.is_null()
                    {
                        values.retain(|v| self.profile.includes(indom, v.inst));
                    }
                    set
                })
                .collect();
            return Ok(Fetched {
                time: found.time,
                sets,
            });
        }
    }

    fn interpolate(&mut self, pmids: &[Pmid], step: i128) -> Result<Fetched> {
        let shown = self.origin;
        let time = Timestamp::from_nanos(shown.as_nanos());
        self.origin = advanced(time, step);
        let fresh = !std::mem::replace(&mut self.stepping, true);
        // A step may be a millisecond behind the end, the first fetch at a place may not; both may be as much too early.
        let end = match self.end() {
            end if fresh => end,
            end => Timestamp::from_nanos(end.as_nanos() + END_SLOP),
        };
        let start = Timestamp::from_nanos(self.label().start.as_nanos() - END_SLOP);
        if time < start || (step >= 0 && time > end) {
            // Of several archives the damage is ahead of the end.
            let ahead = self.history.is_damaged() && self.set.archives().len() > 1;
            let code = if ahead {
                ErrorCode::LOGREC
            } else {
                ErrorCode::EOL
            };
            return Err(code.into());
        }
        self.history.load(&self.set, pmids)?;
        let mut sets = Vec::with_capacity(pmids.len());
        for pmid in pmids {
            let Some(desc) = self.set.meta().descs.get(pmid.0) else {
                sets.push(ValueSet::error(*pmid, ErrorCode::PMID_LOG));
                continue;
            };
            let profile = &self.profile;
            let wanted = |inst: i32| desc.indom.is_null() || profile.includes(desc.indom, inst);
            let values = self.history.at(&self.set, desc, time, step < 0, wanted)?;
            let values = values
                .into_iter()
                .map(|(inst, value)| InstanceValue { inst, value });
            sets.push(ValueSet::new(*pmid, values.collect()));
        }
        Ok(Fetched { time: shown, sets })
    }

    /// See [`Context::lookup_names`](crate::Context::lookup_names).
    ///
    /// # Errors
    /// None; each name has its own.
    pub fn lookup_names(
        &mut self,
        names: &[Text],
    ) -> Result<Vec<std::result::Result<Pmid, ErrorCode>>> {
        let space = self.names();
        let find = |name: &Text| match space.lookup(name)? {
            Place::Leaf(pmid) => Ok(pmid),
            Place::Node => Err(ErrorCode::NONLEAF),
        };
        Ok(names.iter().map(find).collect())
    }

    /// See [`Context::names_of`](crate::Context::names_of).
    ///
    /// # Errors
    /// `PM_ERR_PMID` when there is none.
    pub fn names_of(&mut self, pmid: Pmid) -> Result<Vec<Text>> {
        let names = self.names().names_of(pmid);
        if names.is_empty() {
            return Err(ErrorCode::PMID.into());
        }
        Ok(names)
    }

    /// See [`Context::children`](crate::Context::children).
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such node.
    pub fn children(&mut self, name: &Text) -> Result<Vec<(Text, bool)>> {
        let children = self.names().children(name)?.into_iter();
        Ok(children
            .map(|(name, place)| (name, matches!(place, Place::Leaf(_))))
            .collect())
    }

    /// See [`Context::traverse`](crate::Context::traverse).
    ///
    /// # Errors
    /// `PM_ERR_NAME` when there is no such node.
    pub fn traverse(&mut self, name: &Text) -> Result<Vec<Text>> {
        let leaves = self.names().leaves(name)?;
        Ok(leaves.into_iter().map(|(name, _)| name).collect())
    }

    /// See [`Context::desc`](crate::Context::desc).
    ///
    /// # Errors
    /// `PM_ERR_PMID_LOG` when no archive has the metric.
    pub fn desc(&mut self, pmid: Pmid) -> Result<Desc> {
        let desc = self.meta().descs.get(pmid.0).copied();
        Ok(desc.ok_or(ErrorCode::PMID_LOG)?)
    }

    /// See [`Context::descs`](crate::Context::descs).
    ///
    /// # Errors
    /// None; each metric has its own.
    pub fn descs(&mut self, pmids: &[Pmid]) -> Result<Vec<std::result::Result<Desc, ErrorCode>>> {
        let find = |pmid: &Pmid| self.desc(*pmid).map_err(|e| e.code());
        Ok(pmids.iter().map(find).collect())
    }

    /// The instances at the time origin.
    ///
    /// # Errors
    /// `PM_ERR_INDOM_LOG` when no archive has the domain.
    pub fn instances(&mut self, indom: InDom) -> Result<Vec<Instance>> {
        let entry = self.meta().instances_at(indom, self.origin);
        Ok(entry.ok_or(ErrorCode::INDOM_LOG)?.instances.clone())
    }

    /// All instances that a domain has had (pmGetInDomArchive(3)).
    ///
    /// # Errors
    /// `PM_ERR_INDOM_LOG` when no archive has the domain.
    pub fn all_instances(&self, indom: InDom) -> Result<Vec<Instance>> {
        Ok(self
            .meta()
            .all_instances(indom)
            .ok_or(ErrorCode::INDOM_LOG)?)
    }

    /// The number of an instance of that name at the time origin.
    ///
    /// # Errors
    /// `PM_ERR_INDOM_LOG`, `PM_ERR_INST_LOG`.
    pub fn lookup_instance(&mut self, indom: InDom, name: &Text) -> Result<i32> {
        find_by_name(&self.instances(indom)?, name)
    }

    /// The number of an instance of that name at any time (pmLookupInDomArchive(3)).
    ///
    /// # Errors
    /// `PM_ERR_INDOM_LOG`, `PM_ERR_INST_LOG`.
    pub fn lookup_instance_ever(&self, indom: InDom, name: &Text) -> Result<i32> {
        find_by_name(&self.all_instances(indom)?, name)
    }

    /// The name of an instance at the time origin.
    ///
    /// # Errors
    /// `PM_ERR_INDOM_LOG`, `PM_ERR_INST_LOG`.
    pub fn instance_name(&mut self, indom: InDom, inst: i32) -> Result<Text> {
        if self.meta().indoms.get(indom.0).is_none() {
            return Err(ErrorCode::INDOM_LOG.into());
        }
        let name = self.meta().instance_name(indom, inst, self.origin);
        Ok(name.cloned().ok_or(ErrorCode::INST_LOG)?)
    }

    /// The name that an instance had at any time (pmNameInDomArchive(3)).
    ///
    /// # Errors
    /// `PM_ERR_INDOM_LOG`, `PM_ERR_INST_LOG`.
    pub fn instance_name_ever(&self, indom: InDom, inst: i32) -> Result<Text> {
        let all = self.all_instances(indom)?;
        let found = all.into_iter().find(|i| i.inst == inst);
        Ok(found.ok_or(ErrorCode::INST_LOG)?.name)
    }

    /// See [`Context::text`](crate::Context::text).
    ///
    /// # Errors
    /// `PM_ERR_TEXT` when there is none, `PM_ERR_NOTHOST` when the archives have no texts: only a host could know.
    pub fn text(&mut self, ident: u32, kind: TextKind) -> Result<Text> {
        let texts = &self.meta().texts;
        let missing = if texts.is_empty() {
            ErrorCode::NOTHOST
        } else {
            ErrorCode::TEXT
        };
        Ok(texts.get(&(kind.0, ident)).cloned().ok_or(missing)?)
    }

    /// See [`Context::labels`](crate::Context::labels).
    ///
    /// # Errors
    /// None; what has no labels has an empty set.
    pub fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>> {
        let labels = self.meta().labels_at(level, ident, self.origin);
        let labels = labels.unwrap_or_default().to_vec();
        if labels.is_empty() && level == LabelLevel::Context {
            return Ok(vec![self.host_label()]);
        }
        Ok(labels)
    }

    /// What is said of the host where there are no labels: its name.
    #[must_use]
    pub fn host_label(&self) -> LabelSet {
        host_label(&self.label().hostname)
    }

    /// Archives take no values.
    ///
    /// # Errors
    /// Always `PM_ERR_NOTHOST`.
    pub fn store(&mut self, _values: &Fetched) -> Result<()> {
        Err(ErrorCode::NOTHOST.into())
    }

    /// Which instances fetches return.
    pub fn profile_mut(&mut self) -> &mut Profile {
        &mut self.profile
    }
}

/// How far outside the archive a step of interpolation may be, in nanoseconds.
const END_SLOP: i128 = 1_000_000;

/// The time of the next fetch. PCP's library carries nanoseconds into the seconds only when they are more than a second, so
/// that tools show a full second as `.1000`.
fn advanced(time: Timestamp, step: i128) -> Timestamp {
    let next = Timestamp::from_nanos(time.as_nanos() + step);
    let carried = step > 0 && next.nsec == 0 && step % i128::from(NSEC_PER_SEC) != 0;
    if carried {
        Timestamp::new(next.sec - 1, NSEC_PER_SEC as i32)
    } else {
        next
    }
}

/// What an archive without labels says of its host.
fn host_label(name: &Text) -> LabelSet {
    let json = format!("{{\"hostname\":\"{name}\"}}");
    let length = u16::try_from(json.len()).unwrap_or(u16::MAX);
    LabelSet {
        inst: crate::INST_NULL,
        labels: vec![crate::Label {
            name: 2,
            name_len: 8,
            flags: crate::LabelFlags(LabelLevel::Context as u8),
            value: 12,
            value_len: length.saturating_sub(13),
        }],
        json: json.into(),
    }
}

fn find_by_name(instances: &[Instance], name: &Text) -> Result<i32> {
    instances
        .iter()
        .find(|i| instance_name_matches(&i.name, name))
        .map(|i| i.inst)
        .ok_or(ErrorCode::INST_LOG.into())
}
