//! Where a piece of script text stands.

use std::collections::HashMap;
use std::sync::Arc;

use crate::token::Token;

/// Index of a source text in a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FileId(pub u32);

/// A half-open byte range in one source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// The text that the range is in.
    pub file: FileId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The smallest span that covers both; the receiver's when the files differ.
    pub fn to(self, other: Span) -> Span {
        if self.file != other.file {
            return self;
        }
        Span {
            file: self.file,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// One source text: a script given on the command line, a file or a tapset file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As stap names it in messages: `<input>` for `-e` and standard input, else the path.
    pub name: String,
    /// The text before preprocessing.
    pub text: Arc<str>,
    /// True for texts of the tapset library (those may use intrinsics, and warnings in them are silent).
    pub is_tapset: bool,
}

/// The macro invocations that tokens came from, by their places. A token of a macro's body has that of the first invocation.
pub type Expansions = HashMap<(FileId, u32), Arc<Token>>;

/// All source texts of one compilation.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
    expansions: Arc<Expansions>,
}

impl SourceMap {
    /// Adds a text and returns its id.
    pub fn add(&mut self, file: SourceFile) -> FileId {
        self.files.push(file);
        FileId(self.files.len() as u32 - 1)
    }

    /// Adds what is known of where tokens came from.
    pub fn add_expansions(&mut self, more: Expansions) {
        if !more.is_empty() {
            Arc::make_mut(&mut self.expansions).extend(more);
        }
    }

    /// The macro invocation that the token at a place came from.
    pub fn expansion(&self, span: Span) -> Option<&Token> {
        let invocation = self.expansions.get(&(span.file, span.start))?;
        Some(invocation)
    }

    /// All texts, in the order of their ids.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// The text with that id.
    pub fn file(&self, id: FileId) -> &SourceFile {
        &self.files[id.0 as usize]
    }

    /// Line and column of a byte, both from 1, columns in bytes, as stap counts them.
    pub fn line_column(&self, id: FileId, byte: u32) -> (usize, usize) {
        let text = self.file(id).text.as_bytes();
        let before = &text[..(byte as usize).min(text.len())];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
        (line, column)
    }

    /// `file:line:column` of a span's start, as stap writes it.
    pub fn location(&self, span: Span) -> String {
        let (line, column) = self.line_column(span.file, span.start);
        format!("{}:{line}:{column}", self.file(span.file).name)
    }
}
