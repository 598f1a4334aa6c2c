//! The report as a PCP archive.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use pcp::archive::{ArchiveWriter, Label, MetaRecord, Version, encode_data};
use pcp::pdu::TextKind;
use pcp::timezone::Zone;
use pcp::{Context, Fetched, InDom, Instance, LabelLevel, Timestamp, ValueSet};

use super::metric::Metric;
use super::sampler::Sample;
use super::settings::Settings;

/// Writes what is left of samples as they were fetched.
pub struct ArchiveOutput<'a> {
    settings: &'a Settings,
    file: &'a str,
    label: Label,
    writer: Option<ArchiveWriter>,
    described: HashSet<pcp::Pmid>,
    indoms: BTreeMap<InDom, Vec<Instance>>,
    last: Timestamp,
}

impl<'a> ArchiveOutput<'a> {
    /// An archive of a base name; its files are made with the first sample.
    pub fn new(
        settings: &'a Settings,
        file: &'a str,
        context: &Context,
        host: &str,
        zone: &Zone,
    ) -> ArchiveOutput<'a> {
        let timezone = match context {
            Context::Archive(archive) => archive.label().timezone.clone(),
            Context::Host(_) if zone.name().is_empty() => "UTC".into(),
            Context::Host(_) => zone.name().into(),
        };
        ArchiveOutput {
            settings,
            file,
            label: Label {
                version: Version::V2,
                pid: i32::try_from(std::process::id()).unwrap_or(0),
                start: Timestamp::ZERO,
                volume: 0,
                features: 0,
                hostname: host.into(),
                timezone,
                zoneinfo: "".into(),
            },
            writer: None,
            described: HashSet::new(),
            indoms: BTreeMap::new(),
            last: Timestamp::ZERO,
        }
    }

    /// Writes a sample; what has no values is left out.
    pub fn sample(
        &mut self,
        metrics: &[Metric],
        sample: &Sample,
        fetched: &Fetched,
        context: &mut Context,
    ) -> io::Result<()> {
        let mut sets = Vec::new();
        for (metric, values) in metrics.iter().zip(&sample.values) {
            let set = fetched.sets.iter().find(|s| s.pmid == metric.desc.pmid);
            let left = |inst: i32| {
                metric.is_flat() && !values.is_empty() || values.iter().any(|(i, _)| *i == inst)
            };
            let kept: Vec<_> = set
                .map(|s| s.instances())
                .unwrap_or_default()
                .iter()
                .filter(|v| left(v.inst))
                .cloned()
                .collect();
            if !kept.is_empty() {
                sets.push((metric, ValueSet::new(metric.desc.pmid, kept)));
            }
        }
        if sets.is_empty() {
            return Ok(());
        }
        let time = sample.time;
        if self.writer.is_none() {
            self.label.start = time;
            let mut writer = ArchiveWriter::create(Path::new(self.file), self.label.clone())?;
            let offsets = writer.offsets();
            writer.index(time, offsets)?;
            self.writer = Some(writer);
        }
        for (metric, set) in &sets {
            self.describe(metric, context)?;
            let present = set.instances().iter().map(|v| v.inst);
            self.instances(metric, present, time)?;
        }
        self.last = time;
        if let Some(writer) = &mut self.writer {
            let sets: Vec<ValueSet> = sets.into_iter().map(|(_, set)| set).collect();
            writer.data(&encode_data(Version::V2, time, &sets))?;
            // Whoever ends the tool leaves whole records.
            writer.flush()?;
        }
        Ok(())
    }

    fn meta(&mut self, record: &MetaRecord) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) => writer.meta(&record.encode(Version::V2)),
            None => Ok(()),
        }
    }

    fn describe(&mut self, metric: &Metric, context: &mut Context) -> io::Result<()> {
        let desc = metric.desc;
        if !self.described.insert(desc.pmid) {
            return Ok(());
        }
        let names = vec![metric.name.as_str().into()];
        self.meta(&MetaRecord::Desc { desc, names })?;
        let indom = (!desc.indom.is_null()).then_some(desc.indom);
        if self.settings.texts {
            let of_metric =
                [TextKind::METRIC_ONELINE, TextKind::METRIC_HELP].map(|k| (k, desc.pmid.0));
            let of_indom = indom.into_iter().flat_map(|indom| {
                [TextKind::INDOM_ONELINE, TextKind::INDOM_HELP].map(|k| (k, indom.0))
            });
            for (kind, ident) in of_metric.into_iter().chain(of_indom) {
                if let Ok(text) = context.text(ident, kind) {
                    self.meta(&MetaRecord::Text { kind, ident, text })?;
                }
            }
        }
        if self.settings.labels {
            let levels = [
                (LabelLevel::Context, u32::MAX),
                (LabelLevel::Domain, desc.pmid.domain()),
                (LabelLevel::Cluster, desc.pmid.without_item().0),
                (LabelLevel::Item, desc.pmid.0),
                (LabelLevel::InDom, desc.indom.0),
                (LabelLevel::Instances, desc.indom.0),
            ];
            for (level, ident) in levels {
                let of_indom = matches!(level, LabelLevel::InDom | LabelLevel::Instances);
                if of_indom && indom.is_none() {
                    continue;
                }
                let sets = context.labels(ident, level).unwrap_or_default();
                if sets.iter().any(|s| !s.labels.is_empty()) {
                    let time = self.label.start;
                    let level = level as u32;
                    self.meta(&MetaRecord::Labels {
                        time,
                        level,
                        ident,
                        sets,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Writes a domain's instances when there are new ones.
    fn instances(
        &mut self,
        metric: &Metric,
        present: impl Iterator<Item = i32>,
        time: Timestamp,
    ) -> io::Result<()> {
        let indom = metric.desc.indom;
        if indom.is_null() {
            return Ok(());
        }
        let first = !self.indoms.contains_key(&indom);
        let known = self.indoms.entry(indom).or_default();
        let before = known.len();
        if first && !self.settings.live_filter {
            known.extend(metric.instances.iter().cloned());
        }
        for inst in present {
            if !known.iter().any(|i| i.inst == inst)
                && let Some(name) = metric.names.get(&inst)
            {
                known.push(Instance {
                    inst,
                    name: name.clone(),
                });
            }
        }
        if known.len() == before {
            return Ok(());
        }
        let instances = known.clone();
        self.meta(&MetaRecord::Indom {
            time,
            indom,
            instances,
        })
    }

    /// Writes what belongs at the end.
    pub fn end(self) -> io::Result<()> {
        let Some(mut writer) = self.writer else {
            return Ok(());
        };
        let offsets = writer.offsets();
        writer.index(self.last, offsets)?;
        writer.flush()
    }
}
