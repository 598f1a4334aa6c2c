//! Help texts in the files that newhelp(1) makes: `NAME.dir`, an index in the host's byte order, and `NAME.pag`, the texts.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pcp::{ErrorCode, InDom, Pmid, Text};

/// `PcPh` as a number.
const MAGIC: u32 = 0x5063_5068;
const ENTRY: usize = 12;
/// What tells an instance domain in the index from a metric.
const IS_INDOM: u32 = 1 << 31;

/// Why help texts can't be had.
#[derive(Debug, thiserror::Error)]
pub enum HelpError {
    /// A file can't be read.
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
    /// It is none that newhelp made.
    #[error("{0}: not an index of help texts")]
    Index(PathBuf),
}

/// The texts of an agent.
#[derive(Debug, Default)]
pub struct Help {
    places: HashMap<u32, [u32; 2]>,
    texts: Vec<u8>,
}

impl Help {
    /// Opens `path` with `.dir` and `.pag` behind it.
    ///
    /// # Errors
    /// See [`HelpError`].
    pub fn open(path: &Path) -> Result<Help, HelpError> {
        let read = |extension: &str| {
            let path = path.with_extension(extension);
            fs::read(&path).map_err(|error| HelpError::Read(path, error))
        };
        let index = read("dir")?;
        let mut entries = index.chunks_exact(ENTRY).map(|entry| {
            let word = |n: usize| {
                let bytes = entry.get(n * 4..).and_then(<[u8]>::first_chunk);
                bytes.map_or(0, |b| u32::from_ne_bytes(*b))
            };
            (word(0), [word(1), word(2)])
        });
        if entries.next().is_none_or(|(magic, _)| magic != MAGIC) {
            return Err(HelpError::Index(path.with_extension("dir")));
        }
        let mut places = HashMap::new();
        for (ident, at) in entries {
            // Of two texts about one thing the first is shown, as by PCP's agents.
            places.entry(ident).or_insert(at);
        }
        let texts = read("pag")?;
        Ok(Help { places, texts })
    }

    /// The text of a metric.
    ///
    /// # Errors
    /// `PM_ERR_TEXT` when there is none.
    pub fn metric(&self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        self.text(pmid.0, one_line)
    }

    /// The text of an instance domain.
    ///
    /// # Errors
    /// `PM_ERR_TEXT` when there is none.
    pub fn indom(&self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.text(indom.0 | IS_INDOM, one_line)
    }

    fn text(&self, ident: u32, one_line: bool) -> Result<Text, ErrorCode> {
        let places = self.places.get(&ident).ok_or(ErrorCode::TEXT)?;
        let at = places[usize::from(!one_line)] as usize;
        let rest = self.texts.get(at..).unwrap_or_default();
        let end = rest.iter().position(|b| *b == 0).ok_or(ErrorCode::TEXT)?;
        Ok(rest.get(..end).unwrap_or_default().into())
    }
}
