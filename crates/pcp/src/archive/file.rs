//! The files of an archive: finding, reading and uncompressing them, and the records in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::label::{Label, MAGIC, Version};
use crate::debug::archives as trace;
use crate::error::{ErrorCode, Result};

/// What a compressed file may end in.
const COMPRESSED: [&str; 7] = ["xz", "lzma", "gz", "z", "zst", "bz2", "bz"];

/// Longer records are taken for damage.
const RECORD_MAX: usize = 1 << 30;

/// Where an archive's files are.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The base name that they share, with its folder.
    pub base: PathBuf,
    /// The metadata.
    pub meta: Option<PathBuf>,
    /// The temporal index.
    pub index: Option<PathBuf>,
    /// The volumes by number.
    pub volumes: BTreeMap<i32, PathBuf>,
}

/// An archive's base name: without the name of one of its files.
fn base_name(name: &str) -> &str {
    let plain = without_compression(name);
    match plain.rsplit_once('.') {
        Some((base, "meta" | "index")) => base,
        Some((base, number))
            if !base.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && !number.is_empty() =>
        {
            base
        }
        _ => name,
    }
}

fn without_compression(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((base, suffix)) if COMPRESSED.contains(&suffix) => base,
        _ => name,
    }
}

impl Files {
    /// Finds the files of an archive by its base name or the name of any of its files.
    ///
    /// # Errors
    /// `ENOENT` when there are none, `PM_ERR_LOGFILE` when metadata or all volumes are missing.
    pub fn find(path: &Path) -> Result<Files> {
        let folder = match path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        };
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let found = Files::list(folder, &name)?;
        if found.meta.is_some() || !found.volumes.is_empty() || found.index.is_some() {
            return found.checked();
        }
        let base = base_name(&name);
        if base == name || !path.exists() {
            return Err(ErrorCode(-2).into());
        }
        Files::list(folder, base)?.checked()
    }

    fn checked(self) -> Result<Files> {
        if self.meta.is_none() || self.volumes.is_empty() {
            return Err(ErrorCode::LOGFILE.into());
        }
        Ok(self)
    }

    fn list(folder: &Path, base: &str) -> Result<Files> {
        let mut files = Files {
            base: folder.join(base),
            ..Files::default()
        };
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Some(part) = without_compression(&name)
                .strip_prefix(base)
                .and_then(|p| p.strip_prefix('.'))
            else {
                continue;
            };
            let compressed = without_compression(&name) != name;
            let keep = |old: &Option<PathBuf>| old.is_none() || !compressed;
            match part {
                "meta" if keep(&files.meta) => {
                    trace::found(&entry.path());
                    trace::opened(&entry.path(), compressed);
                    files.meta = Some(entry.path());
                }
                "index" if keep(&files.index) => {
                    trace::found(&entry.path());
                    trace::opened(&entry.path(), compressed);
                    files.index = Some(entry.path());
                }
                number if number.bytes().all(|b| b.is_ascii_digit()) => {
                    trace::found(&entry.path());
                    if let Ok(volume) = number.parse()
                        && (!compressed || !files.volumes.contains_key(&volume))
                    {
                        files.volumes.insert(volume, entry.path());
                    }
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

/// Whether its name says that a file is compressed.
pub fn is_compressed(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| COMPRESSED.contains(&e))
}

/// Reads a file whole, uncompressed.
///
/// # Errors
/// What the system says, or [`ErrorCode::LOGREC`] when the compressed data is damaged.
pub fn read(path: &Path) -> Result<Bytes> {
    let mut file = File::open(path)?;
    let mut content = Vec::new();
    let read = uncompress(path, &mut file, &mut content);
    match read {
        Ok(()) => Ok(content.into()),
        // What the system did not say is the decoder's: the data is torn or no such data.
        Err(error) if error.raw_os_error().is_none() => Err(ErrorCode::LOGREC.into()),
        Err(error) => Err(error.into()),
    }
}

/// Appends what is in a file to `content`, by what its name ends in.
fn uncompress(path: &Path, file: &mut File, content: &mut Vec<u8>) -> io::Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("xz" | "lzma") => {
            lzma_rust2::XzReader::new(io::BufReader::new(file), true).read_to_end(content)?;
        }
        Some("bz2" | "bz") => {
            bzip2::read::MultiBzDecoder::new(io::BufReader::new(file)).read_to_end(content)?;
        }
        Some("gz" | "z") => {
            flate2::read::MultiGzDecoder::new(io::BufReader::new(file)).read_to_end(content)?;
        }
        Some("zst") => {
            let mut input = io::BufReader::new(file);
            let mut decoder =
                ruzstd::decoding::StreamingDecoder::new(&mut input).map_err(io::Error::other)?;
            decoder.read_to_end(content)?;
        }
        _ => {
            let length = file.metadata()?.len();
            content.reserve_exact(usize::try_from(length).unwrap_or(0) + 1);
            file.read_to_end(content)?;
        }
    }
    Ok(())
}

/// A framed record: its length, its payload, its length again.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it begins in its file.
    pub offset: usize,
    /// What is between the lengths.
    pub payload: Bytes,
}

impl Record {
    /// Bytes of the whole record, its lengths included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.len() + 8
    }

    /// Where the next record begins.
    #[must_use]
    pub fn end(&self) -> usize {
        self.offset + self.size()
    }
}

/// Why there is no record at an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoRecord {
    /// The file ends here.
    End,
    /// The file ends within the record: its writer was killed, or is still writing.
    Torn,
    /// The lengths do not make sense.
    Corrupt,
}

fn word(content: &Bytes, at: usize) -> Option<i32> {
    content
        .get(at..)?
        .first_chunk()
        .map(|b| i32::from_be_bytes(*b))
}

/// The length of a record that stands at an offset, ahead of it or behind; `None` for what no record has.
pub(super) fn record_length(content: &Bytes, at: usize) -> Option<usize> {
    let length = usize::try_from(word(content, at)?).ok()?;
    (8..RECORD_MAX).contains(&length).then_some(length)
}

/// The record that begins at `offset`.
///
/// # Errors
/// See [`NoRecord`].
pub fn record_at(content: &Bytes, offset: usize) -> std::result::Result<Record, NoRecord> {
    if offset >= content.len() {
        return Err(NoRecord::End);
    }
    word(content, offset).ok_or(NoRecord::Torn)?;
    let length = record_length(content, offset).ok_or(NoRecord::Corrupt)?;
    let end = offset + length;
    if end > content.len() {
        return Err(NoRecord::Torn);
    }
    if word(content, end - 4) != i32::try_from(length).ok() {
        return Err(NoRecord::Corrupt);
    }
    Ok(Record {
        offset,
        payload: content.slice(offset + 4..end - 4),
    })
}

/// The record that ends at `end`; nothing before `start` is read.
///
/// # Errors
/// See [`NoRecord`].
pub fn record_before(
    content: &Bytes,
    start: usize,
    end: usize,
) -> std::result::Result<Record, NoRecord> {
    if end <= start {
        return Err(NoRecord::End);
    }
    let length = end
        .checked_sub(4)
        .and_then(|at| record_length(content, at))
        .ok_or(NoRecord::Corrupt)?;
    let offset = end
        .checked_sub(length)
        .filter(|o| *o >= start)
        .ok_or(NoRecord::Corrupt)?;
    if record_length(content, offset) != Some(length) {
        return Err(NoRecord::Corrupt);
    }
    Ok(Record {
        offset,
        payload: content.slice(offset + 4..end - 4),
    })
}

/// Reads the label at the start of a file.
///
/// # Errors
/// `PM_ERR_LABEL` when there is none, `PM_ERR_NODATA` for an empty file.
pub fn label(content: &Bytes) -> Result<(Label, usize)> {
    let record = label_record(content)?;
    Ok((Label::decode(&record.payload)?, record.end()))
}

/// The same for the file of that volume, which the label has to name; `fd` stands for the file in diagnostics.
///
/// # Errors
/// As [`label`].
pub fn label_of(content: &Bytes, volume: i32, fd: RawFd) -> Result<(Label, usize)> {
    let record = label_record(content)?;
    let magic = word(&record.payload, 0).unwrap_or(0) as u32 & 0xffff_ff00;
    if magic != MAGIC {
        let what = format!("label magic {magic:#x} not {MAGIC:#x}");
        trace::wrong_label(fd, volume, &what);
        return Err(ErrorCode::LABEL.into());
    }
    let label = Label::decode(&record.payload)?;
    if label.volume != volume {
        let what = format!("label volume {} not {volume}", label.volume);
        trace::wrong_label(fd, volume, &what);
        return Err(ErrorCode::LABEL.into());
    }
    trace::label(fd, &label);
    Ok((label, record.end()))
}

/// The record that a label is: its length goes by its version.
///
/// # Errors
/// As [`label`], but for the label's magic number.
pub fn label_record(content: &Bytes) -> Result<Record> {
    // What is shorter than the two words that are looked at first counts as nothing.
    let (Some(length), Some(magic)) = (word(content, 0), word(content, 4)) else {
        trace::no_label("file is empty");
        return Err(ErrorCode::NODATA.into());
    };
    let bad = |why: String| {
        trace::no_label(&why);
        ErrorCode::LABEL
    };
    let payload = match magic & 0xff {
        2 => Version::V2.label_len(),
        3 => Version::V3.label_len(),
        other => return Err(bad(format!("label version {other} not supported")).into()),
    };
    let whole = payload + 8;
    if usize::try_from(length) != Ok(whole) {
        let why = format!("bad header len={} (expected {whole})", length as u32);
        return Err(bad(why).into());
    }
    let there = content.len().min(payload + 4) - 8;
    if there < payload - 4 {
        let why = format!("bad label read len={there}: expected {}", payload - 4);
        return Err(bad(why).into());
    }
    let trailer = word(content, payload + 4);
    if trailer != Some(length) {
        let there = (content.len() - payload - 4).min(4);
        let why = format!(
            "trailer read -> {there} (expect 4) or bad trailer len={} (expected {whole})",
            trailer.unwrap_or(0)
        );
        return Err(bad(why).into());
    }
    Ok(Record {
        offset: 0,
        payload: content.slice(4..payload + 4),
    })
}
