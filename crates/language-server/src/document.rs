//! A text that an editor has open, and the two ways to name a place in it: bytes, and lines with columns.

use lsp_types::{Position, PositionEncodingKind, Range};

/// In what columns are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Bytes.
    Utf8,
    /// Units of UTF-16, which every editor knows.
    Utf16,
}

impl Columns {
    /// Bytes when the editor offers them.
    pub fn choose(offered: Option<&[PositionEncodingKind]>) -> Columns {
        match offered.is_some_and(|kinds| kinds.contains(&PositionEncodingKind::UTF8)) {
            true => Columns::Utf8,
            false => Columns::Utf16,
        }
    }

    /// The protocol's name of it.
    pub fn kind(self) -> PositionEncodingKind {
        match self {
            Columns::Utf8 => PositionEncodingKind::UTF8,
            Columns::Utf16 => PositionEncodingKind::UTF16,
        }
    }
}

/// An open text.
#[derive(Clone, Debug)]
pub struct Document {
    /// The text.
    pub text: String,
    columns: Columns,
    /// First byte of each line.
    lines: Vec<usize>,
}

impl Document {
    /// A text with its lines found.
    pub fn new(text: String, columns: Columns) -> Document {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Document {
            text,
            columns,
            lines,
        }
    }

    /// The byte at a place; the end of the line, or of the text, where the place lies beyond.
    pub fn offset(&self, position: Position) -> usize {
        let line = position.line as usize;
        let Some(&start) = self.lines.get(line) else {
            return self.text.len();
        };
        let end = self.lines.get(line + 1).map_or(self.text.len(), |e| e - 1);
        let text = self.text.get(start..end).unwrap_or_default();
        let mut column = 0;
        for (at, c) in text.char_indices() {
            if column >= position.character {
                return start + at;
            }
            column += self.width(c);
        }
        end
    }

    /// The place of a byte.
    pub fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let line = self.lines.partition_point(|&start| start <= offset) - 1;
        let before = self.text.get(self.lines[line]..offset).unwrap_or_default();
        Position {
            line: line as u32,
            character: before.chars().map(|c| self.width(c)).sum(),
        }
    }

    /// The place of bytes.
    pub fn range(&self, start: usize, end: usize) -> Range {
        Range {
            start: self.position(start),
            end: self.position(end),
        }
    }

    fn width(&self, c: char) -> u32 {
        match self.columns {
            Columns::Utf8 => c.len_utf8() as u32,
            Columns::Utf16 => c.len_utf16() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes() {
        let text = "aé😀b\n\nx";
        for (columns, b) in [(Columns::Utf8, 7), (Columns::Utf16, 4)] {
            let d = Document::new(text.to_string(), columns);
            let at = Position::new(0, b);
            assert_eq!(d.offset(at), 7);
            assert_eq!(d.position(7), at);
            assert_eq!(d.offset(Position::new(2, 0)), 10);
            assert_eq!(d.position(10), Position::new(2, 0));
            assert_eq!(d.offset(Position::new(0, 99)), 8);
            assert_eq!(d.offset(Position::new(99, 0)), 11);
        }
    }
}
