//! Whether the files of an archive are whole: their labels and the frames of their records.

use pcp::archive::Version;
use pcp::archive::file::{self, Files, NoRecord, record_at};
use pcp::{ErrorCode, InDom};
use std::collections::HashMap;
use std::path::Path;

use super::{Check, say};

/// The upper bits of a label's magic number.
const MAGIC: u32 = 0x5005_2600;

/// Names of metadata records' types.
const RECORDS: [&str; 8] = [
    "?",
    "DESC",
    "INDOM_V2",
    "LABEL_V2",
    "TEXT",
    "INDOM",
    "INDOM_DELTA",
    "LABEL",
];

impl Check {
    /// Each file has a label and whole records.
    pub(super) fn files(&mut self, files: &Files) {
        let folder = files.base.parent().filter(|p| !p.as_os_str().is_empty());
        let listed = std::fs::read_dir(folder.unwrap_or(Path::new(".")));
        let order: HashMap<_, usize> = listed
            .into_iter()
            .flatten()
            .flatten()
            .enumerate()
            .map(|(number, entry)| (entry.file_name(), number))
            .collect();
        let mut parts: Vec<(&str, &std::path::PathBuf)> = Vec::new();
        parts.extend(files.volumes.values().map(|p| ("data", p)));
        parts.extend(files.meta.iter().map(|p| ("meta", p)));
        parts.extend(files.index.iter().map(|p| ("index", p)));
        // PCP's looks at the files in the order in which the folder has them.
        parts.sort_by_key(|(_, path)| path.file_name().and_then(|n| order.get(n)));
        for (suffix, path) in parts {
            let own = files.base.file_name().map_or(0, std::ffi::OsStr::len);
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let name = name.as_deref().and_then(|n| n.get(own..)).unwrap_or("");
            let name = format!("{}{name}", self.name);
            if self.verbose && !self.json {
                eprint!("{name}: start pass0 ... ");
            }
            let content = match file::read(path) {
                Ok(content) => content,
                Err(error) => {
                    say!(self, "{name}: cannot open file: {}", error.code());
                    self.fatal = true;
                    continue;
                }
            };
            match self.records(&name, &content, suffix) {
                Some(found) if self.verbose && found > 0 => say!(self, "found {found} records"),
                Some(_) => {}
                None => self.fatal = true,
            }
        }
    }

    /// Says what is wrong with a file, below the line that says that it is looked at.
    pub(super) fn wrong(&self, text: &str) {
        if self.verbose && !self.json {
            eprintln!();
        }
        say!(self, "{text}");
    }

    /// The number of records in a file, none in one without data; `None` when it is damaged, which was said.
    pub(super) fn records(
        &self,
        name: &str,
        content: &bytes::Bytes,
        suffix: &str,
    ) -> Option<usize> {
        if content.is_empty() {
            self.wrong(&format!("{name}: contains no PCP data"));
            return Some(0);
        }
        let (start, sound) = self.label(name, content)?;
        let version = match file::label(content) {
            Ok((label, _)) => label.version,
            // The lengths were right.
            Err(_) if start == Version::V3.label_len() + 8 => Version::V3,
            Err(_) => Version::V2,
        };
        if suffix == "index" {
            if !sound {
                return None;
            }
            let size = version.index_entry_len();
            let rest = content.len() - start;
            if !rest.is_multiple_of(size) {
                self.wrong(&format!(
                    "{name}[record {}]: unexpected EOF in index entry, wanted {size}, got {} bytes",
                    1 + rest / size,
                    rest % size
                ));
                return None;
            }
            return Some(1 + rest / size);
        }
        let word = |at: usize| {
            let bytes = content.get(at..)?.first_chunk()?;
            Some(i32::from_be_bytes(*bytes))
        };
        let (mut at, mut found, mut strange) = (start, 1, false);
        while at < content.len() {
            let left = content.len() - at;
            let what = match (word(at), record_at(content, at)) {
                (_, Ok(record)) => {
                    let ty = word(at + 4).unwrap_or(0);
                    let others: &[i32] = match version {
                        Version::V2 => &[5, 6, 7],
                        Version::V3 => &[2, 3],
                    };
                    if suffix == "meta" && sound && others.contains(&ty) {
                        let kind = usize::try_from(ty).ok().and_then(|ty| RECORDS.get(ty));
                        let text = format!(
                            "{name}[record {found}]: unexpected record type {} ({ty}) for V{} archive",
                            kind.unwrap_or(&"?"),
                            version as u32
                        );
                        if std::mem::replace(&mut strange, true) {
                            say!(self, "{text}");
                        } else {
                            self.wrong(&text);
                        }
                    }
                    at = record.end();
                    found += 1;
                    continue;
                }
                (None, _) => {
                    format!("unexpected EOF in record header, wanted 4, got {left} bytes")
                }
                (Some(length), Err(NoRecord::Torn)) => {
                    let body = usize::try_from(length).unwrap_or(0).saturating_sub(8);
                    if left - 4 < body {
                        let got = left - 4;
                        format!("unexpected EOF in record body, wanted {body}, got {got} bytes")
                    } else {
                        let got = left - 4 - body;
                        format!("unexpected EOF in record trailer, wanted 4, got {got} bytes")
                    }
                }
                (Some(length), Err(_)) => {
                    let end = usize::try_from(length).ok().and_then(|l| at.checked_add(l));
                    match end.filter(|_| length >= 8).and_then(|end| word(end - 4)) {
                        Some(trailer) => {
                            format!("length mismatch: header {length} != trailer {trailer}")
                        }
                        None => format!("illegal header record length ({length})"),
                    }
                }
            };
            self.wrong(&format!("{name}[record {found}]: {what}"));
            say!(self, "{name}: last valid record ends at offset {at}");
            return None;
        }
        sound.then_some(found)
    }

    /// Where the label of a file ends, and whether its version is known; `None` when there is none, which was said.
    pub(super) fn label(&self, name: &str, content: &bytes::Bytes) -> Option<(usize, bool)> {
        let word = |at: usize| {
            let bytes = content.get(at..)?.first_chunk()?;
            Some(i32::from_be_bytes(*bytes))
        };
        let torn = |part: &str, wanted: usize, got: usize| {
            self.wrong(&format!(
                "{name}: unexpected EOF in label record {part}, wanted {wanted}, got {got} bytes"
            ));
        };
        let Some(length) = word(0) else {
            self.wrong(&format!(
                "{name}[record 0]: unexpected EOF in record header, wanted 4, got {} bytes",
                content.len()
            ));
            return None;
        };
        let magic = word(4).unwrap_or(0) as u32;
        let version = magic & 0xff;
        let size = usize::try_from(length).unwrap_or(0);
        if content.len() + 4 < size {
            torn("body", size - 8, content.len().saturating_sub(4));
            return None;
        }
        if content.len() < size {
            torn("trailer", 4, content.len() + 4 - size);
            return None;
        }
        let trailer = size.checked_sub(4).and_then(word).unwrap_or(0);
        if trailer != length {
            self.wrong(&if trailer < 8 {
                format!("{name}: illegal trailer record length ({trailer}) in label record")
            } else {
                format!(
                    "{name}: label record length mismatch: header {length} != trailer {trailer}"
                )
            });
            return None;
        }
        if magic & 0xffff_ff00 != MAGIC {
            say!(
                self,
                "{name}: bad label magic number: {:#x} not {MAGIC:#x} as expected",
                magic & 0xffff_ff00
            );
        }
        if !(2..=3).contains(&version) {
            say!(
                self,
                "{name}: bad label version: {version} not 2 or 3 as expected"
            );
            say!(
                self,
                "{name}: cannot load label record: {}",
                ErrorCode::LABEL
            );
            return Some((size, false));
        }
        Some((size, true))
    }

    /// Why the metadata is refused, in the words of the library's diagnostics.
    pub(super) fn explain(&self, files: &Files) {
        let Some(content) = files.meta.as_ref().and_then(|p| file::read(p).ok()) else {
            return;
        };
        let Ok((label, mut at)) = file::label(&content) else {
            return;
        };
        while let Ok(record) = record_at(&content, at) {
            at = record.end();
            let word = |n: usize| {
                let bytes = record.payload.get(n * 4..)?.first_chunk()?;
                Some(i32::from_be_bytes(*bytes))
            };
            let time = label.version.time_len() / 4;
            if !matches!(word(0), Some(2 | 5)) {
                continue;
            }
            let (Some(indom), Some(count)) = (word(1 + time), word(2 + time)) else {
                continue;
            };
            let indom = InDom(indom as u32);
            let count = usize::try_from(count).unwrap_or(0);
            let strings = record
                .payload
                .len()
                .saturating_sub((3 + time + 2 * count) * 4);
            for number in 0..count {
                let (Some(inst), Some(offset)) =
                    (word(3 + time + number), word(3 + time + count + number))
                else {
                    return;
                };
                if inst < 0 {
                    say!(
                        self,
                        "__pmLogLoadInDom: InDom: {indom}: instance[{number}]: bad instance identifier ({inst})"
                    );
                    return;
                }
                if offset < 0 {
                    say!(
                        self,
                        "__pmLogLoadInDom: InDom: {indom} instance[{number}]: bad string index ({offset})"
                    );
                    return;
                }
                if usize::try_from(offset).unwrap_or(0) > strings {
                    say!(
                        self,
                        "__pmLogLoadInDom: InDom: {indom} instance[{number}]: bad string index ({offset}) > max index based on record length ({strings})"
                    );
                    return;
                }
            }
        }
    }
}
