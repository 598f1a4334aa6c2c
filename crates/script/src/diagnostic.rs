//! Messages, and how stap writes them: the message, the token, the source line with a caret, what it came from.

use std::collections::HashSet;
use std::fmt::Write;

use crate::colors::{Colors, Part};
use crate::span::{FileId, SourceMap, Span};
use crate::token::{Token, TokenKind};

/// Macro invocations that a message tells at most.
const EXPANSIONS: usize = 16;

/// How grave, and from which pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Pass 1.
    ParseError,
    /// Pass 2.
    SemanticError,
    /// The script is still usable.
    Warning,
}

/// A token as messages name it: `identifier 'foo' at FILE:1:15`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// Its class.
    pub kind: TokenKind,
    /// Its spelling.
    pub text: String,
    /// Its place.
    pub span: Span,
    /// Macro invocations that it came from, innermost first.
    pub expansions: Vec<Mention>,
}

impl Mention {
    /// A token named by class, spelling and place.
    pub fn new(kind: TokenKind, text: impl Into<String>, span: Span) -> Self {
        Mention {
            kind,
            text: text.into(),
            span,
            expansions: Vec::new(),
        }
    }

    /// An identifier.
    pub fn identifier(text: impl Into<String>, span: Span) -> Self {
        Mention::new(TokenKind::Identifier, text, span)
    }

    /// The same with the macro invocation that it came from, and those that this came from.
    pub fn expanded(mut self, mut outer: Option<&Token>) -> Self {
        // A macro that invokes itself without end would fill the screen.
        while let Some(invocation) = outer.filter(|_| self.expansions.len() < EXPANSIONS) {
            self.expansions.push(Mention::new(
                invocation.kind,
                &*invocation.text,
                invocation.span,
            ));
            outer = invocation.expansion.as_deref();
        }
        self
    }

    /// `identifier 'foo' at FILE:1:15`, as stap writes it.
    pub fn describe(&self, sources: &SourceMap) -> String {
        self.describe_after(sources, None, Colors::default())
    }

    /// The same without the file's name when that is `last`: stap does not repeat it.
    fn describe_after(&self, sources: &SourceMap, last: Option<FileId>, color: Colors) -> String {
        let (line, column) = sources.line_column(self.span.file, self.span.start);
        let name = match last == Some(self.span.file) {
            true => "",
            false => &sources.file(self.span.file).name,
        };
        let place = color.paint(&format!("{name}:{line}:{column}"), Part::Source);
        match self.kind {
            TokenKind::Keyword | TokenKind::Embedded => format!("{} at {place}", self.kind.word()),
            _ => format!("{} '{}' at {place}", self.kind.word(), self.text),
        }
    }
}

impl From<&Token> for Mention {
    fn from(token: &Token) -> Self {
        Mention::new(token.kind, &*token.text, token.span).expanded(token.expansion.as_deref())
    }
}

/// How a parse error points at its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointing {
    /// `saw:` the last token that the parser looked at.
    Saw,
    /// `at:` a token chosen by the message.
    At,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// How grave.
    pub severity: Severity,
    /// The message, without place.
    pub message: String,
    /// The token it is about; none for a parse error at the end of the text.
    pub primary: Option<Mention>,
    /// A second token, with which the first is at odds.
    pub secondary: Option<Mention>,
    /// `saw:` or `at:` (parse errors only).
    pub pointing: Pointing,
    /// The construct in which a parse error was found, where messages of several constructs read alike.
    pub site: &'static str,
    /// Name of the text in which the end was reached, for parse errors without a token.
    pub file_name: String,
    /// Further lines, each on its own, after the source line.
    pub notes: Vec<String>,
    /// Near matches; shown as `(similar: …)` behind the message.
    pub suggestion: Option<String>,
    /// How much a mismatch of types is about; stap tells only of those of the highest rank.
    pub rank: Option<u8>,
    /// Messages that led to this one or explain it, outermost last (aliases, tapset probes, earlier definitions).
    pub chain: Vec<Diagnostic>,
}

impl Diagnostic {
    /// A message about a token.
    pub fn new(severity: Severity, message: impl Into<String>, primary: Option<Mention>) -> Self {
        Diagnostic {
            severity,
            message: message.into(),
            primary,
            secondary: None,
            pointing: Pointing::At,
            site: "",
            file_name: String::new(),
            notes: Vec::new(),
            suggestion: None,
            rank: None,
            chain: Vec::new(),
        }
    }

    /// A pass-2 error about a token.
    pub fn semantic(message: impl Into<String>, primary: Mention) -> Self {
        Diagnostic::new(Severity::SemanticError, message, Some(primary))
    }

    /// A warning about a token.
    pub fn warning(message: impl Into<String>, primary: Option<Mention>) -> Self {
        Diagnostic::new(Severity::Warning, message, primary)
    }

    /// True unless it is a warning.
    pub fn is_error(&self) -> bool {
        self.severity != Severity::Warning
    }

    /// The message in stap's format; errors are followed by an empty line.
    pub fn render(&self, sources: &SourceMap, color: impl Into<Colors>) -> String {
        let mut out = String::new();
        self.render_after(&mut out, sources, &mut None, color.into());
        out
    }

    fn render_after(
        &self,
        out: &mut String,
        sources: &SourceMap,
        last: &mut Option<FileId>,
        color: Colors,
    ) {
        let (label, shade) = match self.severity {
            Severity::ParseError => ("parse error:", Part::Error),
            Severity::SemanticError => ("semantic error:", Part::Error),
            Severity::Warning => ("WARNING:", Part::Warning),
        };
        out.push_str(&color.paint(label, shade));
        out.push(' ');
        out.push_str(&self.message);
        if let Some(similar) = &self.suggestion {
            let _ = write!(out, " (similar: {similar})");
        }
        match self.severity {
            Severity::ParseError => self.render_parse(out, sources, color),
            Severity::SemanticError => {
                self.render_tokens(out, sources, last, "        source: ", color)
            }
            Severity::Warning => self.render_tokens(out, sources, last, " source: ", color),
        }
        for note in &self.notes {
            out.push_str(note);
            out.push('\n');
        }
        if self.is_error() {
            out.push('\n');
        }
        for cause in &self.chain {
            cause.render_after(out, sources, last, color);
        }
    }

    fn render_parse(&self, out: &mut String, sources: &SourceMap, color: Colors) {
        const INDENT: &str = "     source: ";
        let Some(token) = &self.primary else {
            let _ = writeln!(out, "\n        saw: {} EOF", self.file_name);
            return;
        };
        let verb = match self.pointing {
            Pointing::Saw => "        saw: ",
            Pointing::At => "         at: ",
        };
        let _ = writeln!(
            out,
            "\n{verb}{}",
            token.describe_after(sources, None, color)
        );
        source_line(out, sources, token.span, INDENT, color);
        expansions(out, sources, token, INDENT, color);
    }

    fn render_tokens(
        &self,
        out: &mut String,
        sources: &SourceMap,
        last: &mut Option<FileId>,
        indent: &str,
        color: Colors,
    ) {
        for (joint, token) in [(": ", &self.primary), (" vs. ", &self.secondary)] {
            if let Some(token) = token {
                let _ = write!(
                    out,
                    "{joint}{}",
                    token.describe_after(sources, *last, color)
                );
                *last = Some(token.span.file);
            }
        }
        out.push('\n');
        for token in self.primary.iter().chain(&self.secondary) {
            source_line(out, sources, token.span, indent, color);
            expansions(out, sources, token, indent, color);
        }
    }
}

/// Messages in turn, as stap writes them: a file's name is not repeated from one semantic message to the next.
pub fn render_all(
    diagnostics: &[Diagnostic],
    sources: &SourceMap,
    color: impl Into<Colors>,
) -> String {
    let color = color.into();
    let mut out = String::new();
    let mut last = None;
    for diagnostic in diagnostics {
        diagnostic.render_after(&mut out, sources, &mut last, color);
    }
    out
}

fn expansions(out: &mut String, sources: &SourceMap, token: &Mention, indent: &str, color: Colors) {
    for outer in &token.expansions {
        let _ = writeln!(
            out,
            "\tin expansion of macro: {}",
            outer.describe_after(sources, None, color)
        );
        source_line(out, sources, outer.span, indent, color);
    }
}

/// The line of a span, and a caret under its first byte. Tabs before it stay tabs so that the caret stands right.
fn source_line(out: &mut String, sources: &SourceMap, span: Span, indent: &str, color: Colors) {
    let text = &sources.file(span.file).text;
    let from = (span.start as usize).min(text.len());
    let start = text.as_bytes()[..from]
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |n| n + 1);
    let line = text.as_bytes()[start..]
        .split(|&b| b == b'\n')
        .next()
        .unwrap_or_default();
    let (before, rest) = line.split_at((from - start).min(line.len()));
    let length = (span.end.saturating_sub(span.start) as usize).min(rest.len());
    // A token may be one byte of a character, which is shown whole.
    let tail = rest[length..].iter().take_while(|&&b| b & 0xc0 == 0x80);
    let (token, after) = rest.split_at(length + tail.count());
    let _ = writeln!(
        out,
        "{indent}{}{}{}",
        String::from_utf8_lossy(before),
        color.paint(&String::from_utf8_lossy(token), Part::Token),
        String::from_utf8_lossy(after)
    );
    let blanks: String = before
        .iter()
        .map(|&b| if b == b'\t' { '\t' } else { ' ' })
        .collect();
    let _ = writeln!(
        out,
        "{}{blanks}{}",
        " ".repeat(indent.len()),
        color.paint("^", Part::Caret)
    );
}

/// Why the parser gave up on a construct.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParseError {
    /// The message.
    pub(crate) message: String,
    /// The token, as far as the one who raised the error chose one (`at:`).
    pub(crate) token: Option<Token>,
    /// Whether the parser should look for the next top-level keyword before it goes on.
    pub(crate) skip: bool,
    /// A further message that belongs to it.
    pub(crate) cause: Option<Box<ParseError>>,
    /// The construct, where others have the same message.
    pub(crate) site: &'static str,
}

impl ParseError {
    /// An error about a token of its own choice.
    pub(crate) fn at(message: impl Into<String>, token: Token) -> Self {
        ParseError {
            message: message.into(),
            token: Some(token),
            skip: true,
            cause: None,
            site: "",
        }
    }

    /// An error about the token that the parser last looked at.
    pub(crate) fn saw(message: impl Into<String>) -> Self {
        ParseError {
            message: message.into(),
            token: None,
            skip: true,
            cause: None,
            site: "",
        }
    }

    /// The same, told apart from like messages of other constructs.
    pub(crate) fn of(self, site: &'static str) -> Self {
        ParseError { site, ..self }
    }

    /// The text could not be taken apart into tokens there.
    pub(crate) fn is_junk(&self) -> bool {
        self.token
            .as_ref()
            .is_some_and(|t| t.kind == TokenKind::Junk)
    }

    /// The message for users; `last` is the token that the parser last looked at, `name` that of the text.
    pub(crate) fn diagnostic(&self, last: Option<&Token>, name: &str) -> Diagnostic {
        let pointing = match self.token {
            Some(_) => Pointing::At,
            None => Pointing::Saw,
        };
        Diagnostic {
            pointing,
            site: self.site,
            file_name: name.to_string(),
            chain: self
                .cause
                .iter()
                .map(|c| c.diagnostic(last, name))
                .collect(),
            ..Diagnostic::new(
                Severity::ParseError,
                self.message.clone(),
                self.token.as_ref().or(last).map(Mention::from),
            )
        }
    }
}

/// What stap writes when pass 1 failed: the errors of one text, each kind once unless `verbose`, and how many there were.
/// `empty` says that nothing was left of the text after preprocessing, `stripped` that there was something before. Ends with the line `Pass 1: parse failed.`
pub fn render_parse_failure(
    diagnostics: &[Diagnostic],
    sources: &SourceMap,
    name: &str,
    (empty, stripped): (bool, bool),
    verbose: bool,
    color: impl Into<Colors>,
) -> String {
    let color = color.into();
    let mut out = String::new();
    let mut seen = HashSet::new();
    let mut suppressed = 0;
    let mut errors = 0;
    for diagnostic in diagnostics {
        if diagnostic.is_error() {
            errors += 1;
            // The preprocessor's complaints about unmatched marks are one kind for each mark.
            let mark = match (&diagnostic.primary, diagnostic.pointing) {
                (Some(token), Pointing::At) => token.text.as_str(),
                _ => "",
            };
            let kind = (diagnostic.message.as_str(), mark, diagnostic.site);
            if !verbose && !seen.insert(kind) {
                suppressed += 1;
                continue;
            }
        }
        out.push_str(&diagnostic.render(sources, color));
    }
    match (empty, errors) {
        (true, 0) if !stripped => {
            let _ = writeln!(out, "Input file '{name}' is empty.");
        }
        (true, _) => {
            let _ = writeln!(out, "Input file '{name}' is empty after preprocessing.");
        }
        (false, 1) => out.push_str("1 parse error.\n"),
        (false, n) => {
            let _ = writeln!(out, "{n} parse errors.");
        }
    }
    out.push_str("Pass 1: parse failed.  [man error::pass1]\n");
    if suppressed > 0 {
        let count = format!("Number of similar error messages suppressed: {suppressed}.");
        let _ = writeln!(
            out,
            "{}\nRerun with -v to see them.",
            color.paint(&count, Part::Error)
        );
    }
    out
}
