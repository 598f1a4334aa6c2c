//! Definitions of derived metrics and the files that hold them (pmLoadDerivedConfig(3)).

use std::fs;
use std::path::{Path, PathBuf};

use super::expression::{Expression, SyntaxError};
use super::parser;
use super::trace;
use crate::error::Result;

/// Metrics of which there can be a derived one: items of domain 511 beside the roots of dynamic subtrees.
const MOST: usize = 1 << 21;

#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) expression: Expression,
    pub(super) oneline: Option<String>,
    pub(super) help: Option<String>,
}

/// Definitions, to be used with any context.
#[derive(Clone, Debug, Default)]
pub struct DerivedMetrics {
    pub(super) definitions: Vec<Definition>,
}

/// Whether a name can be one of a derived metric.
fn is_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

impl DerivedMetrics {
    /// Those that every context has: what event records use, and what the files say that `$PCP_DERIVED_CONFIG` names, or
    /// those of PCP's own folder. The texts are what is wrong in those files.
    #[must_use]
    pub fn configured() -> (DerivedMetrics, Vec<String>) {
        let mut metrics = DerivedMetrics::default();
        for (name, oneline, help) in [
            (
                "event.flags",
                "Flags for event records",
                "An anonymous derived metric that is used to encode the event flags\nassociated with event records.   See pmUnpackEventRecords(3).",
            ),
            (
                "event.missed",
                "Count of missed event records",
                "An anonymous derived metric that is used to encode the number of\nevent records missed because either the PMDA could not keep up\nor the PMAPI client did not collect the event records fast\nenough.  See pmUnpackEventRecords(3).",
            ),
        ] {
            // The text is sound.
            let _ = metrics.register(name, "anon(PM_TYPE_U32)");
            if let Some(definition) = metrics.definitions.last_mut() {
                definition.oneline = Some(oneline.to_owned());
                definition.help = Some(help.to_owned());
            }
        }
        let configured = std::env::var("PCP_DERIVED_CONFIG");
        if trace::derive() && configured.as_ref().is_ok_and(|path| !path.is_empty()) {
            eprintln!("Derived metric initialization from $PCP_DERIVED_CONFIG");
        }
        let path = configured.unwrap_or_else(|_| {
            let var = crate::config("PCP_VAR_DIR").unwrap_or("/var/lib/pcp".to_owned());
            format!("{var}/config/derived")
        });
        if trace::derive() && std::env::var_os("PCP_DERIVED_CONFIG").is_none() {
            eprintln!("Derived metric initialization from {path}");
        }
        let said = metrics.load(&path).unwrap_or_default();
        (metrics, said)
    }

    /// Defines a metric.
    ///
    /// # Errors
    /// What is wrong with the expression, or with a name that is there already.
    pub fn register(&mut self, name: &str, text: &str) -> std::result::Result<(), SyntaxError> {
        if trace::wanted() {
            eprintln!(
                "pmRegisterDerived: name=\"{name}\" expr=\"{}\"",
                text.trim_start()
            );
        }
        if self.definitions.iter().any(|d| d.name == name) {
            return Err(SyntaxError {
                at: text.len() - text.trim_start().len(),
                what: "Duplicate global derived metric name".to_owned(),
            });
        }
        let expression = parser::parse(text)?;
        trace::registered(self.definitions.len(), name, text.trim_start(), &expression);
        if self.definitions.len() < MOST {
            self.definitions.push(Definition {
                name: name.to_owned(),
                expression,
                oneline: None,
                help: None,
            });
        }
        Ok(())
    }

    /// Reads definitions from files and folders, their names separated by colons. The texts are what is wrong in them.
    ///
    /// # Errors
    /// `ENOENT` and the like for what can't be opened.
    pub fn load(&mut self, path: &str) -> Result<Vec<String>> {
        let mut said = Vec::new();
        for part in path.split(':').filter(|p| !p.is_empty()) {
            let mut files = Vec::new();
            if let Err(error) = files_below(Path::new(part), &mut files, 0) {
                if trace::derive() {
                    let code = error.code();
                    eprintln!("Warning: derived metrics path component: {part}: {code}");
                }
                return Err(error);
            }
            for file in files {
                let text = fs::read(&file)?;
                if trace::derive() {
                    eprintln!("pmLoadDerivedConfig(\"{}\")", file.display());
                }
                let shown = file.display().to_string();
                self.read(&shown, &String::from_utf8_lossy(&text), &mut said);
            }
        }
        Ok(said)
    }

    /// Reads definitions from a text.
    pub fn read(&mut self, file: &str, text: &str, said: &mut Vec<String>) {
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
            number += 1;
            let mut used = after;
            if !line.starts_with('#') && !line.trim().is_empty() {
                let place = format!("[{file}:{number}]");
                match self.line(line, after) {
                    Ok((remaining, warning)) => {
                        number += lines(after) - lines(remaining);
                        used = remaining;
                        said.extend(
                            warning.map(|w| format!("{place} Warning: pmLoadDerivedConfig: {w}\n")),
                        );
                    }
                    Err(what) => said.push(format!("{place} Error: {what}\n")),
                }
                // Beside the traces they belong where they are found.
                if trace::derive() {
                    eprint!("{}", std::mem::take(said).concat());
                }
            }
            rest = used;
        }
    }

    /// One declaration, which may go on in what follows its line. Returns what follows it, and a warning.
    fn line<'a>(
        &mut self,
        line: &'a str,
        after: &'a str,
    ) -> std::result::Result<(&'a str, Option<String>), String> {
        let load = |what: String| Err(format!("pmLoadDerivedConfig: {what}"));
        let trimmed = line.trim_start();
        let end = trimmed
            .find(|c: char| c == '=' || c == '(' || c.is_whitespace())
            .unwrap_or(trimmed.len());
        let (name, rest) = trimmed.split_at(end);
        if name.is_empty() {
            return load(format!("derived metric name missing\n{line}"));
        }
        let rest = rest.trim_start();
        if let Some(attribute) = rest.strip_prefix('(') {
            return self.attribute(name, attribute, after);
        }
        let Some(text) = rest.strip_prefix('=') else {
            // What stands ahead of `=` is the name, whatever it is.
            if let Some((name, _)) = trimmed.split_once('=') {
                let name = name.trim_end();
                return load(format!("illegal derived metric name ({name})"));
            }
            return load(format!("missing ``='' after derived metric name\n{line}"));
        };
        if !is_name(name) {
            return load(format!("illegal derived metric name ({name})"));
        }
        if text.trim().is_empty() {
            return load(format!("expression missing\n{line}"));
        }
        self.register(name, text).map_err(|error| {
            let at = error.at.min(text.len());
            // White space stays as it is, so that the caret stands below its place.
            let before: String = text
                .chars()
                .scan(0, |used, c| {
                    let here = *used;
                    *used += c.len_utf8();
                    (here < at).then_some(if c.is_whitespace() { c } else { ' ' })
                })
                .collect();
            let behind = " ".repeat((text.len() - at).saturating_sub(1));
            let what = error.to_string();
            let separator = if what.is_empty() { "" } else { "\n" };
            format!(
                "pmRegisterDerived({name}, ...) syntax error\n{text}\n{before}^{behind}{separator}{what}"
            )
        })?;
        Ok((after, None))
    }

    /// `NAME(oneline) = TEXT` behind its parenthesis.
    fn attribute<'a>(
        &mut self,
        name: &str,
        text: &'a str,
        after: &'a str,
    ) -> std::result::Result<(&'a str, Option<String>), String> {
        let load = |what: String| Err(format!("pmLoadDerivedConfig: {what}"));
        let Some((attribute, rest)) = text.split_once(')') else {
            return load("missing ')' after attribute".to_owned());
        };
        let attribute = attribute.trim();
        if attribute.is_empty() {
            return load("attribute name missing".to_owned());
        }
        let Some(value) = rest.trim_start().strip_prefix('=') else {
            return load(format!("missing ``='' after attribute {attribute}"));
        };
        let value = value.trim_start();
        if value.trim().is_empty() {
            return load("attribute value missing".to_owned());
        }
        let mut warning = None;
        let (value, remaining) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                // A value in quotes may go on in the lines that follow.
                let whole = format!("{value}\n{after}");
                let Some((text, used)) = quoted(&whole, quote) else {
                    return load(format!("missing termination ({quote}) for value"));
                };
                let behind = whole.get(used..).unwrap_or("");
                let (extra, _) = behind.split_once('\n').unwrap_or((behind, ""));
                if !extra.trim().is_empty() {
                    let extra = extra.trim();
                    warning = Some(format!(
                        "extra text ({extra}) after attribute value will be ignored"
                    ));
                }
                let consumed = used + extra.len();
                let from_after = consumed.saturating_sub(value.len());
                let remaining = after.get(from_after..).unwrap_or("");
                (text, remaining)
            }
            _ => (value.trim_end().to_owned(), after),
        };
        let Some(definition) = self.definitions.iter_mut().find(|d| d.name == name) else {
            return load(format!(
                "cannot set attribute, derived metric name({name}) not defined"
            ));
        };
        if trace::wanted() {
            eprintln!("setattr: name=\"{name}\" attr=\"{attribute}\" value=\"{value}\"");
        }
        match attribute {
            "oneline" => definition.oneline = Some(value),
            "helptext" => definition.help = Some(value),
            _ => {
                return load(format!(
                    "attribute ({attribute}) is unknown for metric ({name})"
                ));
            }
        }
        Ok((remaining, warning))
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// A text in quotes, and the bytes that it takes with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, at + c.len_utf8())),
            '\\' => match chars.next() {
                Some((_, '\n')) => {}
                Some((_, c)) => value.push(c),
                None => return None,
            },
            c => value.push(c),
        }
    }
    None
}

/// All files at and below a path, in the order of their names.
fn files_below(path: &Path, files: &mut Vec<PathBuf>, depth: usize) -> Result<()> {
    if !fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > 20 {
        return Ok(());
    }
    let names: Vec<PathBuf> = fs::read_dir(path)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    // In the folder's own order, as PCP's library has them.
    for name in names {
        files_below(&name, files, depth + 1)?;
    }
    Ok(())
}
