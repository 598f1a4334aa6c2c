//! What the compiler says of a text.

use crate::document::Document;
use lsp_types::{DiagnosticRelatedInformation, DiagnosticSeverity, Location, Uri};
use script::compile::{Compilation, CompileOptions, compile};
use script::diagnostic::{Diagnostic, Severity};
use script::ir::{GlobalType, MapValue, Type};
use script::span::{FileId, SourceFile, SourceMap};
use std::path::PathBuf;

/// Arguments that the script may use are not known here; a number does in most places.
const ARGUMENTS: usize = 99;

/// Compiles a text as far as can be done without the programs that it is about.
pub fn analyse(text: &str, tapset_dirs: &[PathBuf]) -> (Compilation, FileId) {
    let mut sources = SourceMap::default();
    let user = sources.add(SourceFile {
        name: "<input>".to_string(),
        text: text.into(),
        is_tapset: false,
    });
    let options = CompileOptions {
        args: vec!["1".to_string(); ARGUMENTS],
        guru: true,
        tapset_dirs: tapset_dirs.to_vec(),
        last_pass: 2,
        ..CompileOptions::default()
    };
    (compile(sources, &[user], &options), user)
}

/// The compiler's messages about the text.
pub fn diagnostics(document: &Document, uri: &Uri, dirs: &[PathBuf]) -> Vec<lsp_types::Diagnostic> {
    if document.text.trim().is_empty() {
        return Vec::new();
    }
    let (compilation, user) = analyse(&document.text, dirs);
    let mut out = Vec::new();
    for d in &compilation.diagnostics {
        if d.primary.is_none() && d.message.starts_with("unused command line option") {
            continue;
        }
        out.push(translate(d, document, uri, user));
    }
    if compilation.empty && out.is_empty() {
        out.push(lsp_types::Diagnostic {
            severity: Some(DiagnosticSeverity::ERROR),
            source: Some("stap".to_string()),
            message: "empty script".to_string(),
            ..Default::default()
        });
    }
    out
}

fn translate(
    d: &Diagnostic,
    document: &Document,
    uri: &Uri,
    user: FileId,
) -> lsp_types::Diagnostic {
    let mut all = vec![d];
    let mut at = 0;
    while let Some(next) = all.get(at) {
        let inner: Vec<&Diagnostic> = next.chain.iter().collect();
        all.extend(inner);
        at += 1;
    }
    // The place is the first that lies in the text itself: others are in the library.
    let mentions = all.iter().flat_map(|d| &d.primary);
    let own = mentions
        .flat_map(|m| std::iter::once(m).chain(&m.expansions))
        .find(|m| m.span.file == user);
    let range = match own {
        Some(m) => {
            let start = m.span.start as usize;
            let end = (m.span.end as usize).max(start + 1);
            let line = document.text.get(start..end).and_then(|t| t.find('\n'));
            document.range(start, line.map_or(end, |n| start + n.max(1)))
        }
        None if d.message.contains("unexpected end") || d.severity == Severity::ParseError => {
            let end = document.text.trim_end().len();
            document.range(end.saturating_sub(1), end)
        }
        None => document.range(0, 0),
    };
    let mut message = d.message.clone();
    if let Some(similar) = &d.suggestion {
        message.push_str(&format!(" (similar: {similar})"));
    }
    for inner in &all[1..] {
        message.push('\n');
        message.push_str(&inner.message);
    }
    for note in &d.notes {
        message.push('\n');
        message.push_str(note);
    }
    let related = d.secondary.as_ref().filter(|m| m.span.file == user);
    lsp_types::Diagnostic {
        range,
        severity: Some(match d.severity {
            Severity::Warning => DiagnosticSeverity::WARNING,
            Severity::ParseError | Severity::SemanticError => DiagnosticSeverity::ERROR,
        }),
        source: Some("stap".to_string()),
        message,
        related_information: related.map(|m| {
            vec![DiagnosticRelatedInformation {
                location: Location {
                    uri: uri.clone(),
                    range: document.range(m.span.start as usize, m.span.end as usize),
                },
                message: "this is the other".to_string(),
            }]
        }),
        ..Default::default()
    }
}

/// The type of a global, as a declaration would say it; `None` while the text has mistakes.
pub fn type_of_global(compilation: &Compilation, name: &str) -> Option<String> {
    let program = compilation.program.as_ref()?;
    let global = program.globals.iter().find(|g| g.name == name)?;
    Some(match &global.ty {
        GlobalType::Scalar(ty) => word(*ty).to_string(),
        GlobalType::Stat(..) => "stats".to_string(),
        GlobalType::Map { keys, value, .. } => {
            let keys: Vec<&str> = keys.iter().map(|k| word(*k)).collect();
            let value = match value {
                MapValue::Long => "long",
                MapValue::String => "string",
                MapValue::Stat(..) => "stats",
            };
            format!("{value} [{}]", keys.join(", "))
        }
    })
}

fn word(ty: Type) -> &'static str {
    match ty {
        Type::Long => "long",
        Type::String => "string",
        Type::Unit => "unknown",
    }
}
