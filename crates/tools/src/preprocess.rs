//! The preprocessor ahead of pmlogger's configuration: pmcpp(1) with `-rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How deep files may include each other.
const DEPTH: usize = 5;

/// A line of the result and the number that it has in its own file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// Its text, without the end of line.
    pub text: String,
}

/// What came out.
#[derive(Default, Debug)]
pub struct Preprocessed {
    /// The lines, up to the first error.
    pub lines: Vec<Line>,
    /// The number behind the last line.
    pub end: usize,
    /// The message for standard error when something was wrong: it ends the text.
    pub error: Option<String>,
}

struct Preprocessor<'a> {
    folders: &'a [PathBuf],
    macros: HashMap<String, String>,
    /// Whether lines are wanted, per `%ifdef` that is open.
    wanted: Vec<bool>,
    lines: Vec<Line>,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A text in double or single quotes or angle brackets, or a word.
fn unquote(text: &str) -> Option<&str> {
    let text = text.trim();
    for (open, close) in [('"', '"'), ('\'', '\''), ('<', '>')] {
        if let Some(rest) = text.strip_prefix(open) {
            return rest.strip_suffix(close);
        }
    }
    Some(text)
}

/// Preprocesses a text that stands in a file; `folders` are searched for included files.
pub fn preprocess(file: &str, text: &str, folders: &[PathBuf]) -> Preprocessed {
    let mut preprocessor = Preprocessor {
        folders,
        macros: HashMap::new(),
        wanted: Vec::new(),
        lines: Vec::new(),
    };
    let error = preprocessor.text(file, text, 0).err().or_else(|| {
        (!preprocessor.wanted.is_empty()).then(|| {
            format!(
                "pmcpp: {file}[{}]: \npmcpp: Error: End of input and no matching %endif\n",
                text.lines().count()
            )
        })
    });
    Preprocessed {
        lines: preprocessor.lines,
        end: text.lines().count() + 1,
        error,
    }
}

impl Preprocessor<'_> {
    fn text(&mut self, file: &str, text: &str, depth: usize) -> Result<(), String> {
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let wrong =
                |what: &str| format!("pmcpp: {file}[{number}]: {line}\npmcpp: Error: {what}\n");
            let Some(directive) = line.strip_prefix('%') else {
                let text = if self.is_wanted() {
                    self.expand(line)
                } else {
                    String::new()
                };
                self.lines.push(Line { number, text });
                continue;
            };
            let (word, rest) = directive
                .split_once(|c: char| c.is_whitespace())
                .unwrap_or((directive, ""));
            let rest = rest.trim();
            let known = match word {
                "ifdef" | "ifndef" => {
                    if !is_name(rest) {
                        return Err(wrong(&format!("Illegal macro name for %{word}")));
                    }
                    self.wanted
                        .push(self.macros.contains_key(rest) == (word == "ifdef"));
                    true
                }
                "else" => {
                    let last = self.wanted.last_mut();
                    let last =
                        last.ok_or_else(|| wrong("No matching %ifdef or %ifndef for %else"))?;
                    *last = !*last;
                    true
                }
                "endif" => {
                    if self.wanted.pop().is_none() {
                        return Err(wrong("No matching %ifdef or %ifndef for %endif"));
                    }
                    true
                }
                "include" | "shell" | "define" | "undef" if !self.is_wanted() => true,
                "include" => {
                    if depth >= DEPTH {
                        return Err(wrong("%include nesting too deep"));
                    }
                    let name = unquote(rest).ok_or_else(|| wrong("Illegal name for %include"))?;
                    let found = self.find(file, name);
                    let (path, included) =
                        found.ok_or_else(|| wrong("Cannot open file for %include"))?;
                    self.text(&path, &included, depth + 1)?;
                    true
                }
                "shell" => {
                    let command =
                        unquote(rest).ok_or_else(|| wrong("Illegal command for %shell"))?;
                    let output = Command::new("sh").arg("-c").arg(command).output();
                    let output = output.map_err(|_| wrong("Cannot run command for %shell"))?;
                    let output = String::from_utf8_lossy(&output.stdout).into_owned();
                    self.text(command, &output, depth + 1)?;
                    true
                }
                "define" => {
                    let (name, value) = rest
                        .split_once(|c: char| c.is_whitespace())
                        .unwrap_or((rest, ""));
                    if !is_name(name) {
                        return Err(wrong("Illegal macro name for %define"));
                    }
                    if self.macros.contains_key(name) {
                        return Err(wrong("Macro redefinition"));
                    }
                    let value =
                        unquote(value).ok_or_else(|| wrong("Unterminated string in %define"))?;
                    self.macros.insert(name.to_owned(), value.to_owned());
                    true
                }
                "undef" => {
                    self.macros.remove(rest);
                    true
                }
                _ => false,
            };
            let text = if known || !self.is_wanted() {
                String::new()
            } else {
                self.expand(line)
            };
            self.lines.push(Line { number, text });
        }
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        self.wanted.iter().all(|w| *w)
    }

    fn find(&self, file: &str, name: &str) -> Option<(String, String)> {
        let beside = Path::new(file).parent().map(|folder| folder.join(name));
        let places = std::iter::once(PathBuf::from(name))
            .chain(beside)
            .chain(self.folders.iter().map(|folder| folder.join(name)));
        for place in places {
            if let Ok(text) = std::fs::read(&place) {
                let text = String::from_utf8_lossy(&text).into_owned();
                return Some((place.display().to_string(), text));
            }
        }
        None
    }

    /// Puts the values of macros in the place of `%name` and `%{name}`.
    fn expand(&self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(at) = rest.find('%') {
            let (before, tail) = rest.split_at(at);
            out.push_str(before);
            let after = tail.get(1..).unwrap_or("");
            let (name, behind) = match after.strip_prefix('{').and_then(|t| t.split_once('}')) {
                Some((name, behind)) => (name, behind),
                None => {
                    let end = after
                        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(after.len());
                    after.split_at(end)
                }
            };
            match self.macros.get(name) {
                Some(value) => {
                    out.push_str(value);
                    rest = behind;
                }
                None => {
                    out.push('%');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let done = preprocess("<stdin>", text, &[]);
        assert_eq!(done.error, None);
        done.lines.into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn the_manual_page_s_example() {
        let text = "%define dk_freq 1minute\n%define cpu_freq '15 sec'\n\
            log mandatory on %dk_freq {\n%ifdef want_cpu\n%define cpu_pfx 'kernel.all.cpu.'\n%{cpu_pfx}user\n%endif\n";
        assert_eq!(
            texts(text),
            ["", "", "log mandatory on 1minute {", "", "", "", ""]
        );
        let wanted = format!("%define want_cpu\n{text}");
        assert_eq!(texts(&wanted)[6], "kernel.all.cpu.user");
        assert_eq!(texts("100% %nobody %{x}"), ["100% %nobody %{x}"]);
    }

    #[test]
    fn the_first_error_ends_the_text() {
        let done = preprocess("c", "a\n%include \"/nonesuch/file\"\nb\n", &[]);
        assert_eq!(done.lines.len(), 1);
        let error = done.error.expect("an error");
        assert_eq!(
            error,
            "pmcpp: c[2]: %include \"/nonesuch/file\"\npmcpp: Error: Cannot open file for %include\n"
        );
    }
}
