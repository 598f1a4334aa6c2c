//! Writing archives of both versions.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::index::IndexEntry;
use super::label::{Label, VOLUME_INDEX, VOLUME_META, Version};
use super::meta::{MetaRecord, kind};
use crate::pdu::label::write_labels;
use crate::pdu::result::encode_sets;
use crate::pdu::wire::Writer;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::value::ValueSet;

/// Bytes of a PDU's header, which an archive's record does not have.
const PDU_HEADER: usize = 12;

/// The files of an archive that is being written. Whole records only are handed to the system, metadata ahead of the data
/// that needs it.
pub struct ArchiveWriter {
    base: PathBuf,
    label: Label,
    meta: Out,
    index: Out,
    data: Out,
}

struct Out {
    file: BufWriter<File>,
    offset: i64,
}

fn sibling(base: &Path, suffix: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

impl Out {
    fn create(base: &Path, suffix: &str, label: &Label, volume: i32) -> io::Result<Out> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(sibling(base, suffix))?;
        let mut out = Out {
            file: BufWriter::with_capacity(1 << 16, file),
            offset: 0,
        };
        let label = Label {
            volume,
            ..label.clone()
        };
        out.record(&label.encode())?;
        Ok(out)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.offset += bytes.len() as i64;
        Ok(())
    }

    fn record(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len() + 8).map_err(io::Error::other)?;
        self.bytes(&length.to_be_bytes())?;
        self.bytes(payload)?;
        self.bytes(&length.to_be_bytes())
    }
}

impl ArchiveWriter {
    /// Creates the files of an archive with volume 0.
    ///
    /// # Errors
    /// `EEXIST` when one of them is there.
    pub fn create(base: &Path, label: Label) -> io::Result<ArchiveWriter> {
        ArchiveWriter::create_from(base, label, 0)
    }

    /// Creates the files of an archive that begins with a volume.
    ///
    /// # Errors
    /// `EEXIST` when one of them is there.
    pub fn create_from(base: &Path, label: Label, volume: i32) -> io::Result<ArchiveWriter> {
        let label = Label { volume, ..label };
        Ok(ArchiveWriter {
            base: base.to_owned(),
            data: Out::create(base, &volume.to_string(), &label, volume)?,
            meta: Out::create(base, "meta", &label, VOLUME_META)?,
            index: Out::create(base, "index", &label, VOLUME_INDEX)?,
            label,
        })
    }

    /// The version on disk.
    #[must_use]
    pub fn version(&self) -> Version {
        self.label.version
    }

    /// The label, with the number of the volume that is being written.
    #[must_use]
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// Bytes of metadata and of the volume.
    #[must_use]
    pub fn offsets(&self) -> (i64, i64) {
        (self.meta.offset, self.data.offset)
    }

    /// Appends a metadata record's payload.
    ///
    /// # Errors
    /// What the system says.
    pub fn meta(&mut self, payload: &[u8]) -> io::Result<()> {
        self.meta.record(payload)
    }

    /// Appends a data record's payload.
    ///
    /// # Errors
    /// What the system says.
    pub fn data(&mut self, payload: &[u8]) -> io::Result<()> {
        self.data.record(payload)
    }

    /// Appends an entry to the temporal index; offsets as [`ArchiveWriter::offsets`] had them.
    ///
    /// # Errors
    /// What the system says.
    pub fn index(&mut self, time: Timestamp, (meta, log): (i64, i64)) -> io::Result<()> {
        let mut bytes = Vec::new();
        let entry = IndexEntry {
            time,
            volume: self.label.volume,
            meta,
            log,
        };
        entry.encode(self.label.version, &mut bytes);
        self.index.bytes(&bytes)
    }

    /// Begins a volume.
    ///
    /// # Errors
    /// `EEXIST` when it is there.
    pub fn next_volume(&mut self) -> io::Result<()> {
        self.flush()?;
        let number = self.label.volume + 1;
        self.data = Out::create(&self.base, &number.to_string(), &self.label, number)?;
        self.label.volume = number;
        Ok(())
    }

    /// Hands everything to the system.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.meta.file.flush()?;
        self.data.file.flush()?;
        self.index.file.flush()
    }

    /// Removes what was written.
    pub fn abandon(self) {
        let last = self.label.volume;
        for suffix in ["meta".to_owned(), "index".to_owned()]
            .into_iter()
            .chain((0..=last).map(|v| v.to_string()))
        {
            let _ = std::fs::remove_file(sibling(&self.base, &suffix));
        }
    }
}

/// The payload of a data record.
#[must_use]
pub fn encode_data(version: Version, time: Timestamp, sets: &[ValueSet]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut writer = Writer::new(&mut frame, 0, 0);
    version.write_time(writer.out, time);
    writer.count(sets.len());
    encode_sets(&mut writer, sets);
    frame.split_off(PDU_HEADER)
}

fn word(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

fn instances(out: &mut Vec<u8>, all: &[(i32, Option<Text>)]) {
    word(out, all.len() as u32);
    for (inst, _) in all {
        word(out, *inst as u32);
    }
    let mut offset = 0usize;
    for (_, name) in all {
        match name {
            Some(name) => {
                word(out, offset as u32);
                offset += name.len() + 1;
            }
            None => word(out, u32::MAX),
        }
    }
    for name in all.iter().filter_map(|(_, name)| name.as_ref()) {
        out.extend_from_slice(name);
        out.push(0);
    }
}

impl MetaRecord {
    /// The payload of the record in an archive of that version. Changes of a domain exist in version 3 only.
    #[must_use]
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        let v3 = version == Version::V3;
        match self {
            MetaRecord::Desc { desc, names } => {
                word(&mut out, kind::DESC);
                word(&mut out, desc.pmid.0);
                word(&mut out, desc.ty.raw() as u32);
                word(&mut out, desc.indom.0);
                word(&mut out, desc.sem.raw() as u32);
                word(&mut out, desc.units.raw());
                word(&mut out, names.len() as u32);
                for name in names {
                    word(&mut out, name.len() as u32);
                    out.extend_from_slice(name);
                }
            }
            MetaRecord::Indom {
                time,
                indom,
                instances: all,
            } => {
                word(&mut out, if v3 { kind::INDOM } else { kind::INDOM_V2 });
                version.write_time(&mut out, *time);
                word(&mut out, indom.0);
                let all: Vec<_> = all.iter().map(|i| (i.inst, Some(i.name.clone()))).collect();
                instances(&mut out, &all);
            }
            MetaRecord::IndomDelta {
                time,
                indom,
                changes,
            } => {
                word(&mut out, kind::INDOM_DELTA);
                version.write_time(&mut out, *time);
                word(&mut out, indom.0);
                instances(&mut out, changes);
            }
            MetaRecord::Labels {
                time,
                level,
                ident,
                sets,
            } => {
                word(&mut out, if v3 { kind::LABEL } else { kind::LABEL_V2 });
                version.write_time(&mut out, *time);
                word(&mut out, *level);
                word(&mut out, *ident);
                word(&mut out, sets.len() as u32);
                for set in sets {
                    word(&mut out, set.inst as u32);
                    word(&mut out, set.json.len() as u32);
                    out.extend_from_slice(&set.json);
                    word(&mut out, set.labels.len() as u32);
                    write_labels(&mut out, &set.labels);
                }
            }
            MetaRecord::Text { kind, ident, text } => {
                word(&mut out, super::meta::kind::TEXT);
                word(&mut out, kind.0);
                word(&mut out, *ident);
                out.extend_from_slice(text);
                out.push(0);
            }
        }
        out
    }
}
