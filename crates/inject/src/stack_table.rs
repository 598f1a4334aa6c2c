//! From a file's unwind table, symbols and lines to the table that stacks are walked by.

use std::path::Path;

use runtime::stack::table::{
    Head, INDEX_SHIFT, LOST, MAGIC, Part, Rule, SAME, kind, return_address,
};
use symbols::{Binary, Cfa, FrameRule, FrameRules, LineIndex, Saved, SymbolTable};

use crate::mapping::PAGE;

/// What a table is to hold besides the module's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TableParts {
    /// How to get from frame to frame.
    pub frames: bool,
    /// Symbols, for handlers that ask for names.
    pub symbols: bool,
    /// Source lines, likewise.
    pub lines: bool,
}

impl TableParts {
    /// Frames only.
    pub const FRAMES: TableParts = TableParts {
        frames: true,
        symbols: false,
        lines: false,
    };
}

const WORD: usize = 4;

/// The lowest address of a file's image and the bytes from there to its end, in whole pages.
pub fn extent(binary: &Binary) -> Option<(u64, u64)> {
    let segments = binary.load_segments().iter();
    let low = segments.clone().map(|s| s.vaddr.0).min()? & !(PAGE - 1);
    let end = segments
        .map(|s| s.vaddr.0.saturating_add(s.mem_size))
        .max()?
        .checked_next_multiple_of(PAGE)?;
    Some((low, end.checked_sub(low)?))
}

/// Makes the table of a file; `None` when its image is too large for one (4 GiB).
pub(crate) fn encode(binary: &Binary, path: &Path, parts: TableParts) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let (low, span) = extent(binary)?;
    let span = u32::try_from(span).ok()?;
    let mut table = Encoder {
        bytes: vec![0; size_of::<Head>()],
        low,
        span,
    };
    let fingerprint = binary.fingerprint();
    let mut head = Head {
        magic: MAGIC,
        span,
        fingerprint: [fingerprint as u32, (fingerprint >> 32) as u32],
        ..Head::default()
    };
    head.path = table.text(path.as_os_str().as_bytes())?;
    head.build_id = table.text(binary.build_id().unwrap_or_default())?;
    if parts.frames {
        table.frames(&mut head, &binary.frame_rules())?;
    }
    if parts.symbols {
        table.symbols(&mut head, &binary.symbol_table())?;
    }
    if parts.lines {
        table.lines(&mut head, &binary.line_index())?;
    }
    let words = head_words(&head);
    for (to, word) in table.bytes.chunks_exact_mut(WORD).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    Some(table.bytes)
}

fn head_words(head: &Head) -> Vec<u32> {
    let mut words = vec![
        head.magic,
        head.span,
        head.fingerprint[0],
        head.fingerprint[1],
        head.index_start,
    ];
    for part in [
        head.index,
        head.starts,
        head.numbers,
        head.rules,
        head.expressions,
        head.symbols,
        head.name_ends,
        head.names,
        head.lines,
        head.places,
        head.path_ends,
        head.paths,
        head.path,
        head.build_id,
    ] {
        words.extend([part.offset, part.count]);
    }
    debug_assert_eq!(words.len() * WORD, size_of::<Head>());
    words
}

struct Encoder {
    bytes: Vec<u8>,
    low: u64,
    span: u32,
}

impl Encoder {
    fn part(&mut self, count: usize) -> Option<Part> {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(WORD), 0);
        Some(Part {
            offset: u32::try_from(self.bytes.len()).ok()?,
            count: u32::try_from(count).ok()?,
        })
    }

    fn words(&mut self, words: impl ExactSizeIterator<Item = u32>) -> Option<Part> {
        let part = self.part(words.len())?;
        self.bytes.reserve(words.len() * WORD);
        for word in words {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        Some(part)
    }

    fn text(&mut self, text: &[u8]) -> Option<Part> {
        let part = self.part(text.len())?;
        self.bytes.extend_from_slice(text);
        Some(part)
    }

    /// Texts one behind the other: where each ends, and the bytes.
    fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t str>) -> Option<(Part, Part)> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(texts.len());
        for text in texts {
            bytes.extend_from_slice(text.as_bytes());
            ends.push(u32::try_from(bytes.len()).ok()?);
        }
        Some((self.words(ends.into_iter())?, self.text(&bytes)?))
    }

    fn offset(&self, address: u64) -> Option<u32> {
        let offset = u32::try_from(address.checked_sub(self.low)?).ok()?;
        (offset <= self.span).then_some(offset)
    }

    fn frames(&mut self, head: &mut Head, rules: &FrameRules) -> Option<()> {
        let rows: Vec<(u32, u32)> = rules
            .rows
            .iter()
            .filter_map(|(start, rule)| Some((self.offset(start.0)?, *rule)))
            .collect();
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Some(());
        };
        head.index_start = first.0;
        let blocks = ((last.0 - first.0) >> INDEX_SHIFT) + 1;
        let mut row = 0;
        let mut index = Vec::with_capacity(blocks as usize);
        for block in 0..blocks {
            let start = first.0 + (block << INDEX_SHIFT);
            while rows.get(row + 1).is_some_and(|r| r.0 <= start) {
                row += 1;
            }
            index.push(row as u32);
        }
        let mut expressions = Vec::new();
        let rules: Vec<Rule> = rules
            .rules
            .iter()
            .map(|rule| encode_rule(rule, &mut expressions))
            .collect();
        head.index = self.words(index.into_iter())?;
        head.starts = self.words(rows.iter().map(|r| r.0))?;
        head.numbers = self.words(rows.iter().map(|r| r.1))?;
        head.rules = self.part(rules.len())?;
        for rule in &rules {
            self.bytes
                .extend([rule.kind, rule.register, rule.return_address, rule.from_rbp]);
            self.bytes.extend(rule.offset.to_le_bytes());
            self.bytes.extend(rule.second.to_le_bytes());
            for saved in rule.saved {
                self.bytes.extend(saved.to_le_bytes());
            }
        }
        head.expressions = self.text(&expressions)?;
        Some(())
    }

    fn symbols(&mut self, head: &mut Head, table: &SymbolTable) -> Option<()> {
        let symbols: Vec<(u32, &str)> = table
            .symbols
            .iter()
            .filter_map(|(address, name)| Some((self.offset(address.0)?, name.as_str())))
            .collect();
        head.symbols = self.words(symbols.iter().map(|s| s.0))?;
        (head.name_ends, head.names) = self.texts(symbols.iter().map(|s| s.1))?;
        Some(())
    }

    fn lines(&mut self, head: &mut Head, index: &LineIndex) -> Option<()> {
        let rows: Vec<(u32, u32, u32)> = index
            .rows
            .iter()
            .filter_map(|(address, file, line)| Some((self.offset(address.0)?, *file, *line)))
            .collect();
        head.lines = self.words(rows.iter().map(|r| r.0))?;
        let places: Vec<u32> = rows.iter().flat_map(|r| [r.1, r.2]).collect();
        head.places = self.words(places.into_iter())?;
        head.places.count = head.lines.count;
        (head.path_ends, head.paths) = self.texts(index.files.iter().map(String::as_str))?;
        Some(())
    }
}

/// A distance in words as [`Rule::saved`] holds it.
fn words(bytes: i32) -> i16 {
    if bytes % 8 != 0 {
        return LOST;
    }
    i16::try_from(bytes / 8)
        .ok()
        .filter(|&w| w != SAME)
        .unwrap_or(LOST)
}

fn encode_rule(rule: &FrameRule, expressions: &mut Vec<u8>) -> Rule {
    const RBP: u8 = 5;
    let mut encoded = Rule::default();
    (encoded.kind, encoded.register, encoded.offset) = match &rule.cfa {
        Cfa::Unknown => return Rule::default(),
        Cfa::Register { register, offset } => (kind::REGISTER, *register, *offset),
        Cfa::Loaded { register, offset } => (kind::LOADED, *register, *offset),
        Cfa::Plt { pushed_from } => (kind::PLT, 0, i32::from(*pushed_from)),
        Cfa::Signal => {
            return Rule {
                kind: kind::SIGNAL,
                ..Rule::default()
            };
        }
        Cfa::Expression(bytes) => {
            let (Ok(offset), Ok(len)) =
                (i32::try_from(expressions.len()), i32::try_from(bytes.len()))
            else {
                return Rule::default();
            };
            expressions.extend_from_slice(bytes);
            encoded.second = len;
            (kind::EXPRESSION, 0, offset)
        }
    };
    let plain = encoded.kind == kind::REGISTER;
    encoded.return_address = match rule.return_address {
        Saved::AtCfa(-8) => return_address::PUSHED,
        Saved::AtCfa(at) if plain => {
            encoded.second = at;
            return_address::AT
        }
        Saved::Register(register) if plain => {
            encoded.second = i32::from(register);
            return_address::REGISTER
        }
        _ => return_address::NONE,
    };
    for (n, (to, from)) in encoded.saved.iter_mut().zip(&rule.saved).enumerate() {
        *to = match *from {
            Saved::Same => SAME,
            Saved::AtCfa(at) => words(at),
            Saved::AtRegister(RBP, at) => {
                encoded.from_rbp |= 1 << n;
                words(at)
            }
            _ => LOST,
        };
    }
    encoded
}

#[cfg(test)]
mod tests;
