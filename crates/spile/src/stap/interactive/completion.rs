//! What the line editor asks for: completions, whether a text is finished.

use super::{COMMANDS, OPTIONS, is_unfinished};
use rustyline::completion::{Completer, Pair};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper as LineHelper, Highlighter, Hinter};
use script::reference::{Entry, Kind};
use std::path::PathBuf;
use std::process::Command;

/// Knows the library, the script and the target.
#[derive(Highlighter, Hinter)]
pub struct Helper {
    entries: Vec<Entry>,
    forms: Vec<String>,
    /// Names that the script declares.
    own: Vec<String>,
    command: String,
}

impl LineHelper for Helper {}

impl Helper {
    /// One that knows the library and further directories.
    pub fn new(dirs: &[PathBuf]) -> Helper {
        Helper {
            entries: super::super::dump::entries(dirs),
            forms: script::sema::probe_points::served(),
            own: Vec::new(),
            command: String::new(),
        }
    }

    /// Takes in what the script declares, and the command whose program it is about.
    pub fn learn(&mut self, script: &str, command: &str) {
        self.command = command.to_string();
        self.own.clear();
        let parts = formatter::pieces::split(script);
        for pair in parts.windows(2) {
            if matches!(pair[0].text, "function" | "global") {
                self.own.push(pair[1].text.to_string());
            }
        }
    }

    /// Names of functions or marks of a program whose beginning is written.
    fn targets(&self, point: &str) -> Vec<String> {
        let Some((start, prefix)) = point.rsplit_once("(\"") else {
            return Vec::new();
        };
        let Ok(program) = std::env::current_exe() else {
            return Vec::new();
        };
        let mut command = Command::new(program);
        command.args(["stap", "-l", &format!("{start}(\"{prefix}*\")")]);
        if !self.command.is_empty() && point.starts_with("process.") {
            command.args(["-c", &self.command]);
        }
        let Ok(output) = command.output() else {
            return Vec::new();
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines()
            .filter_map(|line| line.rsplit_once("(\"")?.1.split(['"', '@']).next())
            .map(str::to_string)
            .collect()
    }
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..at).unwrap_or(line);
        let (start, mut names) = self.candidates(before);
        names.sort();
        names.dedup();
        let pairs = names.into_iter().map(|name| Pair {
            display: name.clone(),
            replacement: name,
        });
        Ok((start, pairs.collect()))
    }
}

impl Helper {
    /// Where the word begins, and what it may become.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let points = before
            .strip_prefix("probe ")
            .filter(|rest| !rest.contains('{'));
        if let Some(points) = points {
            let start = before.len() - points.len() + points.rfind([',', '=']).map_or(0, |i| i + 1);
            let start = start + before[start..].len() - before[start..].trim_start().len();
            let point = &before[start..];
            if point.matches('"').count() % 2 == 1 {
                let word = point.rfind('"').map_or(start, |i| start + i + 1);
                return (word, self.targets(point));
            }
            let aliases = self.entries.iter().filter(|e| e.kind == Kind::Alias);
            let mut all: Vec<String> = aliases.map(|e| e.name.clone()).collect();
            all.extend(self.forms.iter().map(|form| {
                let text = form.replace("(string)", "(\"");
                text.split_inclusive(['(', '"'])
                    .take_while(|part| !part.starts_with("number"))
                    .scan(false, |stop, part| {
                        let go_on = !*stop;
                        *stop |= part.ends_with(['"', '(']) && !part.ends_with("(\"");
                        go_on.then_some(part)
                    })
                    .collect()
            }));
            // A program's path that is written already stands for the first argument.
            if let Some(rest) = point.strip_prefix("process(\"")
                && let Some((path, _)) = rest.split_once("\")")
            {
                let with = self
                    .forms
                    .iter()
                    .filter_map(|f| f.strip_prefix("process(string)"));
                all = with
                    .map(|tail| {
                        let tail = tail
                            .split_once('(')
                            .map_or_else(|| tail.to_string(), |(head, _)| format!("{head}(\""));
                        format!("process(\"{path}\"){tail}")
                    })
                    .collect();
            }
            let found = all.into_iter().filter(|name| name.starts_with(point));
            return (start, found.collect());
        }
        let word_start = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '$')))
            .map_or(0, |i| i + 1);
        let word = &before[word_start..];
        let mut all: Vec<String> = self
            .entries
            .iter()
            .filter(|e| e.kind == Kind::Function && !e.name.starts_with('_'))
            .map(|e| e.name.clone())
            .chain(self.own.iter().cloned())
            .collect();
        if word_start == 0 {
            all.extend(COMMANDS.iter().map(|(c, _)| (*c).to_string()));
            all.extend(["probe", "global", "function", "println", "printf"].map(str::to_string));
        }
        if before.starts_with("set ") || before.starts_with("show ") {
            all = OPTIONS.iter().map(|(o, _)| (*o).to_string()).collect();
        }
        let found = all.into_iter().filter(|name| name.starts_with(word));
        (word_start, found.collect())
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match is_unfinished(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Helper;

    #[test]
    fn words_points_and_options() {
        let helper = Helper::new(&[]);
        let of = |text: &str| helper.candidates(text).1;
        assert_eq!(of("x = strle"), ["strlen"]);
        assert_eq!(of("set verb"), ["verbose"]);
        assert!(
            of("probe tim").iter().any(|n| n == "timer.ms("),
            "{:?}",
            of("probe tim")
        );
        assert!(
            of("probe process(\"/bin/ls\").m")
                .contains(&"process(\"/bin/ls\").mark(\"".to_string())
        );
        assert!(of("probe python3.f").contains(&"python3.function.entry".to_string()));
        assert!(of("probe begin, en").contains(&"end".to_string()));
    }
}
