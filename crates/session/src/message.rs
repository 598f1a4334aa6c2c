//! The wording of messages about the script, as stap words them.

use codegen::Compiled;
use script::diagnostic::{Diagnostic, Mention};
use script::ir;
use script::span::{SourceMap, Span};
use script::token::TokenKind;

/// The token at a place of the script.
pub fn mention(sources: &SourceMap, span: Span) -> Mention {
    let text = sources
        .file(span.file)
        .text
        .get(span.start as usize..span.end as usize)
        .unwrap_or_default();
    named(text, span).expanded(sources.expansion(span))
}

fn named(text: &str, span: Span) -> Mention {
    // A span may cover more than its first token.
    let first = text
        .split(|c: char| c.is_whitespace())
        .next()
        .unwrap_or_default();
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == '@';
    let head = first.chars().next();
    if head.is_some_and(|c| c.is_ascii_digit()) {
        Mention::new(TokenKind::Number, first, span)
    } else if head == Some('"') {
        Mention::new(TokenKind::String, text.trim_matches('"'), span)
    } else if head.is_some_and(is_word) && head != Some('@') {
        let word = &first[..first.find(|c| !is_word(c)).unwrap_or(first.len())];
        const KEYWORDS: [&str; 19] = [
            "probe", "global", "private", "function", "if", "else", "for", "foreach", "in",
            "limit", "return", "delete", "while", "break", "continue", "next", "string", "long",
            "try",
        ];
        let kind = if KEYWORDS.contains(&word) {
            TokenKind::Keyword
        } else {
            TokenKind::Identifier
        };
        Mention::new(kind, word, span)
    } else {
        let end = if head == Some('@') {
            first[1..]
                .find(|c| !is_word(c))
                .map_or(first.len(), |i| i + 1)
        } else {
            first.find(is_word).unwrap_or(first.len())
        };
        Mention::new(TokenKind::Operator, &first[..end], span)
    }
}

/// A semantic error at a place of the script.
pub fn semantic(sources: &SourceMap, message: impl Into<String>, span: Span) -> Diagnostic {
    Diagnostic::semantic(message, mention(sources, span))
}

/// `division by 0 near operator '/' at <input>:1:23`.
pub fn runtime_error(
    program: &ir::Program,
    compiled: &Compiled,
    location: u32,
    text: &str,
) -> String {
    match compiled.location(location) {
        Some(info) => {
            let place = mention(&program.sources, info.span).describe(&program.sources);
            format!("{text} near {place}")
        }
        None => text.to_string(),
    }
}

/// `Segmentation fault` and its like: what strsignal(3) says.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        11 => "Segmentation fault",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        31 => "Bad system call",
        _ => return format!("signal {signal}"),
    };
    name.to_string()
}
