//! The label, descriptors, instance domains, labels and texts of an archive.

use pcp::archive::MetaRecord;
use pcp::pdu::TextKind;
use pcp::{Desc, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics, Timestamp, Type};
use std::io::{self, Write};

use super::{Dump, type_name};

/// Levels of labels from the widest to the narrowest.
const LABEL_LEVELS: [u32; 6] = [1, 2, 8, 16, 4, 32];

/// A label's flags in words.
pub(crate) fn label_flags(flags: u8) -> String {
    let names = [
        (1, "context"),
        (2, "domain"),
        (4, "indom"),
        (8, "cluster"),
        (16, "pmid"),
        (32, "instances"),
        (64, "compound"),
        (128, "optional"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// A count and its noun, in the plural unless it is one.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl<W: Write> Dump<'_, W> {
    pub(super) fn label(&mut self) -> io::Result<()> {
        let label = &self.archive.label;
        let out = &mut *self.out;
        writeln!(
            out,
            "Log Label (Log Format Version {})",
            label.version as u32
        )?;
        write!(out, "Performance metrics from host ")?;
        out.write_all(&label.hostname)?;
        writeln!(
            out,
            "\n    commencing {}",
            self.zone.date(label.start, self.digits)
        )?;
        match pcp::debug::quietly(|| self.archive.end()) {
            Ok(end) => writeln!(out, "    ending     {}", self.zone.date(end, self.digits))?,
            Err(_) => writeln!(out, "    ending     UNKNOWN")?,
        }
        if self.wanted.verbose_label {
            writeln!(out, "Archive timezone: {}", label.timezone)?;
            if !label.zoneinfo.is_empty() {
                writeln!(out, "Archive zoneinfo: {}", label.zoneinfo)?;
            }
            writeln!(out, "PID for pmlogger: {}", label.pid)?;
        }
        Ok(())
    }

    pub(super) fn descs(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nDescriptions for Metrics in the Log ...")?;
        let archive = self.archive.clone();
        for (_, desc) in archive.meta.descs.iter() {
            self.desc(desc)?;
        }
        Ok(())
    }

    pub(super) fn desc(&mut self, desc: &Desc) -> io::Result<()> {
        let sem = match desc.sem {
            Semantics::Other(raw) => format!("??? ({raw})"),
            sem => sem.to_string(),
        };
        let units = desc.units.to_string();
        let units = if units.is_empty() { "none" } else { &units };
        let names = self.names(desc.pmid);
        writeln!(self.out, "PMID: {} ({names})", desc.pmid)?;
        if desc.ty == Type::NoSupport {
            return writeln!(self.out, "    Data Type: Not Supported");
        }
        writeln!(
            self.out,
            "    Data Type: {}  InDom: {} 0x{:x}",
            type_name(desc.ty),
            desc.indom,
            desc.indom.0
        )?;
        writeln!(self.out, "    Semantics: {sem}  Units: {units}")
    }

    pub(super) fn instances(&mut self, instances: &[Instance]) -> io::Result<()> {
        for instance in instances {
            write!(self.out, "   {} or \"", instance.inst)?;
            self.out.write_all(&instance.name)?;
            self.out.write_all(b"\"\n")?;
        }
        Ok(())
    }

    pub(super) fn indoms(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nInstance Domains in the Log ...")?;
        let archive = self.archive.clone();
        for (indom, entries) in archive.meta.indoms.iter() {
            writeln!(self.out, "InDom: {}", InDom(indom))?;
            for entry in entries {
                let stamp = self.stamp(entry.time);
                writeln!(self.out, "{stamp} {} instances", entry.instances.len())?;
                self.instances(&entry.instances)?;
            }
        }
        Ok(())
    }

    pub(super) fn indoms_on_disk(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nInstance Domains on-disk ...")?;
        let archive = self.archive.clone();
        for (_, record) in &archive.meta.records {
            match record {
                MetaRecord::Indom {
                    time,
                    indom,
                    instances,
                } => {
                    let stamp = self.stamp(*time);
                    writeln!(
                        self.out,
                        "{stamp} InDom: {indom} {} instances",
                        instances.len()
                    )?;
                    self.instances(instances)?;
                }
                MetaRecord::IndomDelta {
                    time,
                    indom,
                    changes,
                } => {
                    let stamp = self.stamp(*time);
                    writeln!(
                        self.out,
                        "{stamp} InDom: {indom} delta {} instances",
                        changes.len()
                    )?;
                    for (inst, name) in changes {
                        match name {
                            Some(name) => {
                                write!(self.out, "   add {inst} or \"")?;
                                self.out.write_all(name)?;
                                self.out.write_all(b"\"\n")?;
                            }
                            None => writeln!(self.out, "   del {inst}")?,
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All labels by time, within a time from the widest level to the narrowest.
    pub(super) fn labels(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nMetric Labels in the Log ...")?;
        let archive = self.archive.clone();
        let mut last = None;
        let mut all: Vec<(Timestamp, u32, u32, &[LabelSet])> = Vec::new();
        for ((level, ident), history) in &archive.meta.labels {
            for (time, sets) in history {
                all.push((*time, *level, *ident, sets));
            }
        }
        // The level of clusters has a bit below that of items, and that of domains one below that of instance domains.
        let rank = |level: u32| LABEL_LEVELS.iter().position(|l| *l == level);
        all.sort_by_key(|(time, level, ident, _)| (*time, rank(*level), *ident));
        for (time, level, ident, sets) in all {
            if last != Some(time) {
                last = Some(time);
                let stamp = self.stamp(time);
                writeln!(self.out, "{stamp}")?;
            }
            for set in sets {
                let of = match LabelLevel::from_raw(level) {
                    Some(LabelLevel::Context) => "Context".to_owned(),
                    Some(LabelLevel::Domain) => format!("Domain {ident}"),
                    Some(LabelLevel::Cluster) => {
                        let pmid = Pmid(ident);
                        format!("Cluster {}.{}", pmid.domain(), pmid.cluster())
                    }
                    Some(LabelLevel::Item) => format!("PMID {}", Pmid(ident)),
                    Some(LabelLevel::InDom) => format!("InDom {}", InDom(ident)),
                    _ => format!("InDom {}[{}]", InDom(ident), set.inst),
                };
                write!(self.out, "    {of} labels ({} bytes): ", set.json.len())?;
                self.out.write_all(&set.json)?;
                self.out.write_all(b"\n")?;
                for (number, label) in set.labels.iter().enumerate() {
                    writeln!(
                        self.out,
                        "        [{number}] name({},{}) : value({},{}) [{}]",
                        label.name,
                        label.name_len,
                        label.value,
                        label.value_len,
                        label_flags(label.flags.0)
                    )?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn texts(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nMetric Help Text in the Log ...")?;
        let archive = self.archive.clone();
        let mut idents: Vec<(bool, u32)> = Vec::new();
        for (kind, ident) in archive.meta.texts.keys() {
            let entry = (TextKind(*kind).is_indom(), *ident);
            if !idents.contains(&entry) {
                idents.push(entry);
            }
        }
        idents.sort_unstable();
        for (is_indom, ident) in idents {
            let (title, one, full) = if is_indom {
                let title = format!("InDom: {}", InDom(ident));
                (title, TextKind::INDOM_ONELINE, TextKind::INDOM_HELP)
            } else {
                let title = format!("PMID: {}", Pmid(ident));
                (title, TextKind::METRIC_ONELINE, TextKind::METRIC_HELP)
            };
            if let Some(text) = archive.meta.texts.get(&(one.0, ident)) {
                write!(self.out, "{title} [")?;
                self.out.write_all(text)?;
                self.out.write_all(b"]\n")?;
            }
            if let Some(text) = archive.meta.texts.get(&(full.0, ident)) {
                writeln!(self.out, "{title}")?;
                self.out.write_all(text)?;
                self.out.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}
