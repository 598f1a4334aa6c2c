//! Whether the temporal index fits the volumes, and the descriptors each other.

use pcp::archive::Archive;
use pcp::archive::file::{self, Files};
use pcp::{ErrorCode, Pmid, Semantics, Timestamp, Type};
use std::collections::HashMap;

use super::{Check, say};

impl Check {
    pub(super) fn index(&mut self, archive: &Archive, files: &Files) {
        let name = self.name.clone();
        if self.verbose {
            say!(self, "{name}: start pass1 (check temporal index)");
        }
        if files.index.is_none() {
            say!(self, "{name}: warning temporal index is missing");
            return;
        }
        let length = |path: Option<&std::path::PathBuf>| {
            let content = path.and_then(|p| file::read(p).ok());
            content.and_then(|c| i64::try_from(c.len()).ok())
        };
        let meta_end = length(files.meta.as_ref()).unwrap_or(i64::MAX);
        let mut volumes: HashMap<i32, Option<i64>> = HashMap::new();
        let start = i64::try_from(archive.label.version.label_len() + 8).unwrap_or(0);
        let mut before: Option<pcp::archive::IndexEntry> = None;
        let stamp = |t: Timestamp| format!("{}.{:09}", t.sec, t.nsec);
        for (number, entry) in archive.index.iter().enumerate() {
            let number = number + 1;
            let title = format!("{name}.index[entry {number}]");
            let mut bad = |what: String| {
                say!(self, "{title}: {what}");
                self.index_bad = true;
            };
            if entry.volume < 0 {
                bad(format!("illegal negative volume number {}", entry.volume));
                before = Some(*entry);
                continue;
            }
            let volume_end = *volumes
                .entry(entry.volume)
                .or_insert_with(|| length(files.volumes.get(&entry.volume)));
            if entry.meta < start {
                bad(format!(
                    "offset to metadata ({}) before end of label record ({start})",
                    entry.meta
                ));
            }
            if entry.meta > meta_end {
                bad(format!(
                    "offset to metadata ({}) past end of file ({meta_end})",
                    entry.meta
                ));
            }
            if entry.log < start {
                bad(format!(
                    "offset to log ({}) before end of label record ({start})",
                    entry.log
                ));
            }
            match volume_end {
                Some(end) if entry.log > end => {
                    bad(format!(
                        "offset to log ({}) past end of file ({end})",
                        entry.log
                    ));
                }
                Some(_) => {}
                None => say!(
                    self,
                    "{name}.{0}: file missing for log volume {0}",
                    entry.volume
                ),
            }
            let mut bad = |what: String| {
                say!(self, "{title}: {what}");
                self.index_bad = true;
            };
            let (sec, nsec) = (entry.time.sec, entry.time.nsec);
            if sec < 0 || nsec < 0 {
                bad(format!(
                    "illegal negative timestamp value ({sec} sec, {nsec} nsec)"
                ));
            } else if i64::from(nsec) >= pcp::NSEC_PER_SEC {
                bad(format!(
                    "illegal timestamp nsec value ({sec} sec, {nsec} nsec)"
                ));
            }
            if entry.time < archive.label.start {
                bad(format!(
                    "timestamp ({}) less than log label timestamp ({})",
                    stamp(entry.time),
                    stamp(archive.label.start)
                ));
            }
            if let Some(last) = before {
                let at = number - 1;
                if entry.time < last.time {
                    bad(format!(
                        "timestamp ({}) went backwards in time (from {} at [entry {at}])",
                        stamp(entry.time),
                        stamp(last.time)
                    ));
                }
                if entry.volume < last.volume {
                    bad(format!(
                        "volume number ({}) decreased (from {} at [entry {at}])",
                        entry.volume, last.volume
                    ));
                }
                if entry.volume == last.volume && entry.meta < last.meta {
                    bad(format!(
                        "offset to metadata ({}) decreased (from {} at [entry {at}])",
                        entry.meta, last.meta
                    ));
                }
                if entry.volume == last.volume && entry.log < last.log {
                    bad(format!(
                        "offset to log ({}) decreased (from {} at [entry {at}])",
                        entry.log, last.log
                    ));
                }
            }
            before = Some(*entry);
        }
    }

    pub(super) fn descs(&self, archive: &Archive) {
        let name = self.name.clone();
        if self.verbose {
            say!(self, "{name}: start pass2");
        }
        for (pmid, desc) in archive.meta.descs.iter() {
            let pmid = Pmid(pmid);
            let names = archive.meta.names.names_of(pmid);
            let Some(metric) = names.first() else {
                say!(
                    self,
                    "{name}.meta: PMID {pmid}: no name in PMNS: {}",
                    ErrorCode::PMID
                );
                continue;
            };
            if desc.ty == Type::NoSupport {
                continue;
            }
            let bad = |what: String| say!(self, "{name}.meta: {metric} [{pmid}]: {what}");
            if matches!(desc.ty, Type::Other(_)) {
                bad(format!("bad type ({}) in pmDesc", desc.ty.raw()));
            }
            if !desc.indom.is_null() && desc.indom.domain() != pmid.domain() {
                bad(format!(
                    "domain of pmid ({}) != domain of indom ({})",
                    pmid.domain(),
                    desc.indom.domain()
                ));
            }
            if let Semantics::Other(raw) = desc.sem {
                bad(format!("bad semantics ({raw}) in pmDesc"));
            }
            let u = desc.units;
            let axes = [
                ("Space", u.dim_space, i32::from(u.scale_space), 6),
                ("Time", u.dim_time, i32::from(u.scale_time), 5),
                ("Count", u.dim_count, i32::from(u.scale_count), i32::MAX),
            ];
            for (axis, dim, _, _) in axes {
                if !(-2..=2).contains(&dim) {
                    bad(format!("bad dimension ({dim}) for {axis} in pmDesc"));
                }
            }
            for (axis, dim, scale, most) in axes {
                if dim == 0 && scale != 0 {
                    bad(format!(
                        "non-zero scale ({scale}) with zero dimension for {axis} in pmDesc"
                    ));
                }
                if scale > most {
                    bad(format!("bad scale ({scale}) for {axis} in pmDesc"));
                }
            }
        }
    }
}
