//! Which instances of a metric are reported: filters of names (`-i`), as pmrep(1) has them.

use fancy_regex::Regex;
use pcp::{Instance, Text};

use crate::options::Refusal;

/// Patterns that names are held against.
#[derive(Debug, Default)]
pub struct Filter {
    patterns: Vec<Regex>,
    processes: bool,
}

/// The words that Python has for what is wrong with a pattern; the position counts the two characters that pmrep puts
/// ahead of it.
fn complaint(pattern: &str, error: &fancy_regex::Error) -> String {
    let at = |needle: char| pattern.find(needle).unwrap_or(0) + 2;
    if let Some(open) = unclosed(pattern, '(', ')') {
        return format!(
            "missing ), unterminated subpattern at position {}",
            open + 2
        );
    }
    if pattern.contains("[]") && !pattern.get(at('[')..).unwrap_or("").contains(']') {
        return format!("bad escape \\Z at position {}", pattern.len() + 2);
    }
    let bytes = pattern.as_bytes();
    let range = bytes.windows(3).position(|w| w[1] == b'-' && w[0] > w[2]);
    if let Some(range) = range {
        let text = pattern.get(range..range + 3).unwrap_or("");
        return format!("bad character range {text} at position {}", range + 2);
    }
    if pattern.contains('[') {
        return format!("bad escape \\Z at position {}", pattern.len() + 2);
    }
    if pattern.starts_with(['*', '+', '?']) {
        return "nothing to repeat at position 2".to_owned();
    }
    error.to_string()
}

fn unclosed(pattern: &str, open: char, close: char) -> Option<usize> {
    let mut stack = Vec::new();
    let mut escaped = false;
    for (at, c) in pattern.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == open => stack.push(at),
            c if c == close => {
                stack.pop();
            }
            _ => {}
        }
    }
    stack.pop()
}

impl Filter {
    /// A filter of patterns, each of which may match. Processes are also known by number and command.
    ///
    /// # Errors
    /// A pattern that is no regular expression.
    pub fn new(patterns: &[String], processes: bool) -> Result<Filter, Refusal> {
        let compile = |pattern: &String| {
            // What an alternation leaves open stays open, as with PCP.
            Regex::new(&format!(r"\A(?:\A{pattern}\z)")).map_err(|error| {
                let what = complaint(pattern, &error);
                Refusal::Failed(format!("Invalid regex '{pattern}': {what}.\n"))
            })
        };
        Ok(Filter {
            patterns: patterns.iter().map(compile).collect::<Result<_, _>>()?,
            processes,
        })
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether an instance passes: by its name, and a process also by its number or its command's name.
    pub fn passes(&self, name: &Text) -> bool {
        let matches = |pattern: &Regex| self.matches(pattern, name);
        self.is_empty() || self.patterns.iter().any(matches)
    }

    /// The instances that pass, in the order of the patterns: one that two patterns match is there twice.
    pub fn chosen(&self, all: &[Instance]) -> Vec<Instance> {
        let of_pattern = |pattern: &Regex| {
            let matching = all.iter().filter(|i| self.matches(pattern, &i.name));
            matching.cloned().collect::<Vec<_>>()
        };
        self.patterns.iter().flat_map(of_pattern).collect()
    }

    fn matches(&self, pattern: &Regex, name: &Text) -> bool {
        let name = name.to_str();
        let mut names = vec![name.as_ref()];
        if self.processes {
            let mut words = name.split_whitespace();
            if let Some(pid) = words.next() {
                names.push(pid.trim_start_matches('0'));
            }
            if let Some(command) = words.next() {
                names.push(command.rsplit('/').next().unwrap_or(command));
            }
        }
        names.iter().any(|n| pattern.is_match(n).unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(patterns: &[&str], processes: bool, name: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let filter = Filter::new(&patterns, processes).ok().expect("patterns");
        filter.passes(&Text::from(name))
    }

    #[test]
    fn names_numbers_and_commands() {
        assert!(passes(&["sd.*"], false, "sda"));
        assert!(!passes(&["sd"], false, "sda"));
        assert!(passes(&["x", "(?!sdb)sd."], false, "sda"));
        for pattern in ["29922", "pmcd", ".*pmcd.*"] {
            assert!(passes(&[pattern], true, "029922 /usr/lib/pcp/bin/pmcd -A"));
        }
        assert!(!passes(&["1"], false, "000001 init"));
    }

    #[test]
    fn complaints_are_python_s() {
        for (pattern, what) in [
            ("(", "missing ), unterminated subpattern at position 2"),
            (".[]*", "bad escape \\Z at position 6"),
            (".[z-a]", "bad character range z-a at position 4"),
        ] {
            let refused = Filter::new(&[pattern.to_owned()], false).err();
            let Some(Refusal::Failed(text)) = refused else {
                panic!("{pattern}");
            };
            assert_eq!(text, format!("Invalid regex '{pattern}': {what}.\n"));
        }
    }
}
