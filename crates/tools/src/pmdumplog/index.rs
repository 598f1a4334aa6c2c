//! The temporal index of an archive.

use pcp::archive::file::{self};
use pcp::archive::{IndexEntry, Version};
use std::collections::HashMap;
use std::io::{self, Write};

use super::Dump;

impl<W: Write> Dump<'_, W> {
    pub(super) fn index(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nTemporal Index")?;
        let tabs = match self.wanted.dates {
            0 => "\t\t",
            1 => "\t\t\t\t",
            _ => "\t\t\t\t\t\t",
        };
        // Times with nanoseconds are a column longer.
        let more = if self.archive.label.version == Version::V3 {
            "\t"
        } else {
            ""
        };
        writeln!(self.out, "{more}{tabs}Log Vol    end(meta)     end(log)")?;
        let archive = self.archive.clone();
        // Compressed files are as long as what is in them.
        let length = |path: &std::path::PathBuf| {
            let compressed = path
                .extension()
                .is_some_and(|e| matches!(e.to_str(), Some("xz" | "gz" | "bz2" | "zst" | "lzma")));
            if compressed {
                return file::read(path)
                    .ok()
                    .and_then(|c| i64::try_from(c.len()).ok());
            }
            let length = std::fs::metadata(path).ok()?.len();
            i64::try_from(length).ok()
        };
        let meta_end = archive.files.meta.as_ref().and_then(length);
        let mut known: HashMap<i32, Option<i64>> = HashMap::new();
        let volumes = &archive.files.volumes;
        let mut volume_end = |volume: i32| {
            let end = || volumes.get(&volume).and_then(length);
            *known.entry(volume).or_insert_with(end)
        };
        let mut before = None;
        for entry in &archive.index {
            let stamp = self.stamp(entry.time);
            writeln!(
                self.out,
                "{stamp}\t   {:4}  {:11}  {:11}",
                entry.volume, entry.meta, entry.log
            )?;
            self.index_entry(entry, before, meta_end, &mut volume_end)?;
            before = Some(entry);
        }
        Ok(())
    }

    /// What is wrong with an entry of the index, below it.
    pub(super) fn index_entry(
        &mut self,
        entry: &IndexEntry,
        before: Option<&IndexEntry>,
        meta_end: Option<i64>,
        volume_end: &mut dyn FnMut(i32) -> Option<i64>,
    ) -> io::Result<()> {
        let volume = volume_end(entry.volume);
        let (sec, nsec) = (entry.time.sec, entry.time.nsec);
        let mut said = Vec::new();
        if volume.is_none() {
            said.push(format!(
                "Warning: file missing for log volume {}",
                entry.volume
            ));
        }
        if sec < 0 || nsec < 0 || i64::from(nsec) >= pcp::NSEC_PER_SEC {
            said.push(format!(
                "Error: illegal timestamp value ({sec} sec, {nsec} nsec)"
            ));
        }
        if let Some(end) = meta_end.filter(|end| entry.meta > *end) {
            said.push(format!(
                "Error: offset to meta file past end of file ({end})"
            ));
        }
        if let Some(end) = volume.filter(|end| entry.log > *end) {
            said.push(format!(
                "Error: offset to log file past end of file ({end})"
            ));
        }
        if let Some(before) = before {
            if entry.time < before.time {
                let clock = |time| self.zone.clock(time, self.digits);
                let (from, to) = (clock(before.time), clock(entry.time));
                said.push(format!(
                    "Error: timestamp went backwards in time {from} -> {to}"
                ));
            }
            if entry.volume < before.volume {
                said.push("Error: volume number decreased".to_owned());
            }
            if entry.volume == before.volume && entry.meta < before.meta {
                said.push("Error: offset to meta file decreased".to_owned());
            }
            if entry.volume == before.volume && entry.log < before.log {
                said.push("Error: offset to log file decreased".to_owned());
            }
        }
        for line in said {
            writeln!(self.out, "\t\t{line}")?;
        }
        Ok(())
    }
}
