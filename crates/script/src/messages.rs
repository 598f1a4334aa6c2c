//! How stap writes the findings of pass 2: each kind of message once unless verbose, the file's name only where it
//! changes, and at the end how many were held back.

use std::collections::HashSet;
use std::fmt::Write;

use crate::colors::{Colors, Part};
use crate::diagnostic::{Diagnostic, Mention, Severity};
use crate::span::{FileId, SourceMap};

/// The text for standard error. Ends with stap's `Pass 2: analysis failed.` when there is an error.
pub fn render(
    diagnostics: &[Diagnostic],
    sources: &SourceMap,
    verbose: bool,
    color: impl Into<Colors>,
) -> String {
    render_pass(diagnostics, sources, 2, verbose, color)
}

/// The same for errors of the pass that is given, 2 or 3.
pub fn render_pass(
    diagnostics: &[Diagnostic],
    sources: &SourceMap,
    pass: u8,
    verbose: bool,
    color: impl Into<Colors>,
) -> String {
    let color = color.into();
    let mut out = String::new();
    let mut writer = Writer {
        out: &mut out,
        sources,
        color,
        file: None,
    };
    let mut seen = HashSet::new();
    let mut suppressed = [0u32; 2];
    let mut failed = false;
    let highest = diagnostics.iter().filter_map(|d| d.rank).max();
    for d in diagnostics {
        failed |= d.is_error();
        if !verbose && d.rank.is_some() && d.rank < highest {
            continue;
        }
        if !verbose && !seen.insert((d.is_error(), kinds(d))) {
            suppressed[usize::from(d.is_error())] += 1;
            continue;
        }
        writer.diagnostic(d);
    }
    if failed {
        let what = match pass {
            3 => "Pass 3: translation failed.",
            _ => "Pass 2: analysis failed.",
        };
        let _ = writeln!(out, "{}  [man error::pass{pass}]", what);
    }
    for (n, what) in [(suppressed[1], "error"), (suppressed[0], "warning")] {
        if n > 0 {
            let count = format!("Number of similar {what} messages suppressed: {n}.");
            let shade = if what == "error" {
                Part::Error
            } else {
                Part::Warning
            };
            let _ = writeln!(
                out,
                "{}\nRerun with -v to see them.",
                color.paint(&count, shade)
            );
        }
    }
    out
}

/// What makes two messages with all that belongs to them similar.
fn kinds(d: &Diagnostic) -> Vec<&str> {
    std::iter::once(kind(d))
        .chain(d.chain.iter().map(kind))
        .collect()
}

/// What makes two messages similar: the words before what is particular to the case. stap tells errors apart by the
/// place in its own source that raised them.
fn kind(d: &Diagnostic) -> &str {
    let text = d.message.as_str();
    if d.severity == Severity::Warning {
        return text;
    }
    for stem in ["unresolved function", "unresolved arity", "type mismatch:"] {
        if text.starts_with(stem) {
            return stem;
        }
    }
    let end = text
        .find(|c: char| matches!(c, '(' | '\'') || c.is_ascii_digit())
        .unwrap_or(text.len());
    &text[..end]
}

struct Writer<'a> {
    out: &'a mut String,
    sources: &'a SourceMap,
    color: Colors,
    /// The text that was named last.
    file: Option<FileId>,
}

impl Writer<'_> {
    fn diagnostic(&mut self, d: &Diagnostic) {
        let (label, shade, indent) = match d.severity {
            Severity::Warning => ("WARNING:", Part::Warning, " source: "),
            Severity::ParseError => ("parse error:", Part::Error, "        source: "),
            Severity::SemanticError => ("semantic error:", Part::Error, "        source: "),
        };
        self.out.push_str(&self.color.paint(label, shade));
        let _ = write!(self.out, " {}", d.message);
        if let Some(similar) = &d.suggestion {
            let _ = write!(self.out, " (similar: {similar})");
        }
        if let Some(token) = &d.primary {
            self.out.push_str(": ");
            self.mention(token, indent);
        } else {
            self.out.push('\n');
        }
        if let Some(token) = &d.secondary {
            self.mention(token, indent);
        }
        for note in &d.notes {
            let _ = writeln!(self.out, "{note}");
        }
        if d.is_error() {
            self.out.push('\n');
        }
        for cause in &d.chain {
            self.diagnostic(cause);
        }
    }

    /// `identifier 'x' at FILE:1:2`, the source line and the caret, and the same of the macros that it came from.
    fn mention(&mut self, token: &Mention, indent: &str) {
        self.token(token, indent, self.file == Some(token.span.file));
        self.file = Some(token.span.file);
        for outer in &token.expansions {
            self.out.push_str("\tin expansion of macro: ");
            self.token(outer, indent, false);
        }
    }

    fn token(&mut self, token: &Mention, indent: &str, is_known_file: bool) {
        let mut text = token.describe(self.sources);
        if is_known_file {
            let place = self.sources.location(token.span);
            let name = &self.sources.file(token.span.file).name;
            if let (Some(head), Some(tail)) =
                (text.strip_suffix(&place), place.strip_prefix(name.as_str()))
            {
                text = format!("{head}{tail}");
            }
        }
        if let Some((head, place)) = text.rsplit_once(" at ") {
            text = format!("{head} at {}", self.color.paint(place, Part::Source));
        }
        let _ = writeln!(self.out, "{text}");
        let file = self.sources.file(token.span.file);
        let (line, column) = self.sources.line_column(token.span.file, token.span.start);
        let shown = file.text.lines().nth(line - 1).unwrap_or_default();
        let blanks: String = shown
            .bytes()
            .take(column - 1)
            .map(|b| if b == b'\t' { '\t' } else { ' ' })
            .collect();
        let caret = self.color.paint("^", Part::Caret);
        let shown = match shown.get(column - 1..column - 1 + token.text.len()) {
            Some(word) if word == token.text => {
                let (before, rest) = shown.split_at(column - 1);
                let painted = self.color.paint(word, Part::Token);
                format!("{before}{painted}{}", &rest[word.len()..])
            }
            _ => shown.to_string(),
        };
        let _ = writeln!(
            self.out,
            "{indent}{shown}\n{}{blanks}{caret}",
            " ".repeat(indent.len())
        );
    }
}
