//! Collecting what the passes have to say.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Mention, Severity};
use crate::span::{SourceMap, Span};
use crate::token::{KEYWORDS, TokenKind};

/// A message about places; it becomes a [`Diagnostic`] when all source texts are at hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    severity: Grade,
    message: String,
    span: Option<Span>,
    also: Option<Span>,
    /// Belongs to the finding before it.
    follows: bool,
    rank: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Grade {
    Error,
    Warning,
}

impl Finding {
    /// An error at a token.
    pub fn error(message: impl Into<String>, span: Span) -> Finding {
        Finding {
            severity: Grade::Error,
            message: message.into(),
            span: Some(span),
            also: None,
            follows: false,
            rank: None,
        }
    }

    /// An error that stap gives without a place.
    pub fn error_nowhere(message: impl Into<String>) -> Finding {
        Finding {
            severity: Grade::Error,
            message: message.into(),
            span: None,
            also: None,
            follows: false,
            rank: None,
        }
    }

    /// Names a second token.
    pub fn also(mut self, span: Span) -> Finding {
        self.also = Some(span);
        self
    }

    /// A mismatch of types: [`Diagnostic::rank`].
    pub fn ranked(mut self, rank: u8) -> Finding {
        self.rank = Some(rank);
        self
    }

    /// Belongs to the finding before it, with which it is shown or held back.
    pub fn following(mut self) -> Finding {
        self.follows = true;
        self
    }

    /// Whether it belongs to the finding before it.
    pub fn follows(&self) -> bool {
        self.follows
    }

    fn diagnostic(&self, sources: &SourceMap) -> Diagnostic {
        let severity = match self.severity {
            Grade::Error => Severity::SemanticError,
            Grade::Warning => Severity::Warning,
        };
        let mut d = Diagnostic::new(
            severity,
            self.message.clone(),
            self.span.map(|s| mention(sources, s)),
        );
        d.secondary = self.also.map(|s| mention(sources, s));
        d.rank = self.rank;
        d
    }
}

/// The token that starts a span, named from the source text.
pub fn mention(sources: &SourceMap, span: Span) -> Mention {
    let text = &sources.file(span.file).text;
    let at = |from: u32, to: u32| text.get(from as usize..to as usize).unwrap_or_default();
    let rest = at(span.start, text.len() as u32);
    let word_end = rest
        .char_indices()
        .skip(1)
        .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$')))
        .map_or(rest.len(), |(i, _)| i);
    let (kind, shown) = match rest.chars().next() {
        Some('0'..='9') => (TokenKind::Number, &rest[..word_end]),
        Some('"') => {
            let end = string_end(rest);
            (TokenKind::String, rest.get(1..end).unwrap_or_default())
        }
        // A component of a probe point with wildcards in it.
        Some('a'..='z' | 'A'..='Z' | '_') if is_pattern(at(span.start, span.end)) => {
            (TokenKind::Identifier, at(span.start, span.end))
        }
        Some('a'..='z' | 'A'..='Z' | '_' | '$') => {
            let word = &rest[..word_end];
            match KEYWORDS.contains(&word) {
                true => (TokenKind::Keyword, word),
                false => (TokenKind::Identifier, word),
            }
        }
        Some('@') => (TokenKind::Operator, &rest[..word_end]),
        _ if rest.starts_with("%{") => (TokenKind::Embedded, "%{"),
        _ => (TokenKind::Operator, operator(rest)),
    };
    Mention::new(kind, shown, span).expanded(sources.expansion(span))
}

fn is_pattern(text: &str) -> bool {
    let glued = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '*');
    text.contains('*') && text.chars().all(glued)
}

/// Operators of more than one character, longest first.
const OPERATORS: &[&str] = &[
    "<<<", ">>>", "<<=", ">>=", "==", "!=", "<=", ">=", "=~", "!~", "+=", "-=", "*=", "/=", "%=",
    "&=", "|=", "^=", ".=", "&&", "||", "++", "--", "->", "<<", ">>",
];

fn operator(rest: &str) -> &str {
    match OPERATORS.iter().find(|o| rest.starts_with(**o)) {
        Some(o) => o,
        None => {
            let end = rest.chars().next().map_or(0, char::len_utf8);
            &rest[..end]
        }
    }
}

fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (i, b) in rest.bytes().enumerate().skip(1) {
        match b {
            b'"' if !escaped => return i,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// The findings of a compilation, in the order in which stap gives them.
#[derive(Debug, Default)]
pub struct Report {
    late: Vec<Finding>,
    items: Vec<Item>,
    seen: HashSet<Finding>,
    errors: usize,
    /// The finding pushed last had been there before.
    dropped: bool,
    /// How many items there were when names had their meanings.
    resolved: Option<usize>,
}

#[derive(Debug)]
enum Item {
    Here(Finding),
    Parsed(Box<Diagnostic>),
}

impl Report {
    /// Adds an error.
    pub fn error(&mut self, message: impl Into<String>, span: Span) {
        self.push(Finding::error(message, span));
    }

    /// Adds a mismatch of types, of which only those of the highest rank are told ([`Diagnostic::rank`]).
    pub fn disagreement(&mut self, rank: u8, message: impl Into<String>, span: Span) {
        self.push(Finding::error(message, span).ranked(rank));
    }

    /// Adds an error that stap finds when it translates: it counts only for a program that is to be translated.
    pub fn late(&mut self, message: impl Into<String>, span: Span) {
        self.late.push(Finding::error(message, span));
    }

    /// The late errors become errors; whether there were any.
    pub fn translate(&mut self) -> bool {
        let late = std::mem::take(&mut self.late);
        let any = !late.is_empty();
        late.into_iter().for_each(|finding| self.push(finding));
        any
    }

    /// Whether there are late errors.
    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Adds an error that belongs to the one before it.
    pub fn cause(&mut self, message: impl Into<String>, span: Span) {
        self.push(Finding::error(message, span).following());
    }

    /// Adds a warning.
    pub fn warning(&mut self, message: impl Into<String>, span: Span) {
        self.push(Finding {
            severity: Grade::Warning,
            message: message.into(),
            span: Some(span),
            also: None,
            follows: false,
            rank: None,
        });
    }

    /// Adds a finding. The same one twice counts once, except that stap repeats errors without a place.
    pub fn push(&mut self, finding: Finding) {
        if finding.follows && self.dropped {
            return;
        }
        self.dropped =
            finding.span.is_some() && !finding.follows && !self.seen.insert(finding.clone());
        if self.dropped {
            return;
        }
        if finding.severity == Grade::Error {
            self.errors += 1;
        }
        self.items.push(Item::Here(finding));
    }

    /// Adds what the parser found in a library file.
    pub fn parsed(&mut self, diagnostics: Vec<Diagnostic>) {
        for d in diagnostics {
            self.errors += usize::from(d.is_error());
            self.items.push(Item::Parsed(Box::new(d)));
        }
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Takes note that all names and points have been given their meanings.
    pub fn names_are_resolved(&mut self) {
        self.resolved = Some(self.items.len());
    }

    /// How many findings there are so far.
    pub fn place(&self) -> usize {
        self.items.len()
    }

    /// All findings as diagnostics, how many there were when names had their meanings, and for each number of findings
    /// ([`Report::place`]) how many diagnostics those are.
    pub fn finish(self, sources: &SourceMap) -> (Vec<Diagnostic>, Option<usize>, Vec<usize>) {
        let mut out: Vec<Diagnostic> = Vec::new();
        let mut places = vec![0];
        for item in self.items {
            match item {
                Item::Parsed(d) => out.push(*d),
                Item::Here(f) => {
                    let d = f.diagnostic(sources);
                    match out.last_mut().filter(|_| f.follows) {
                        Some(head) => head.chain.push(d),
                        None => out.push(d),
                    }
                }
            }
            places.push(out.len());
        }
        let resolved = (self.resolved).and_then(|items| places.get(items).copied());
        (out, resolved, places)
    }
}
