//! `NAME@FILE:LINES`, as stapprobes(3stap) has it for `.function(…)` and `.statement(…)`.

use symbols::{Glob, LineSet};

/// What such a text means.
#[derive(Debug)]
pub struct SourcePlace<'a> {
    /// The function's name, with wildcards.
    pub function: &'a str,
    /// The file's, as written.
    pub file: Option<&'a str>,
    /// Lines of the file.
    pub lines: Option<LineSet>,
}

impl<'a> SourcePlace<'a> {
    /// Takes a text apart; `None` when it is malformed.
    pub fn parse(text: &'a str) -> Option<SourcePlace<'a>> {
        let Some((function, place)) = text.split_once('@') else {
            return Some(SourcePlace {
                function: text,
                file: None,
                lines: None,
            });
        };
        let (file, lines) = match place.rsplit_once(':') {
            Some((file, lines)) => (file, Some(absolute(lines)?)),
            None => match place.rsplit_once('+') {
                Some((file, offset)) if offset.bytes().all(|b| b.is_ascii_digit()) => {
                    (file, Some(LineSet::Relative(offset.parse().ok()?)))
                }
                _ => (place, None),
            },
        };
        Some(SourcePlace {
            function,
            file: Some(file),
            lines,
        })
    }

    /// Whether a file, as debugging information names it, is meant: its whole path or a tail of its components.
    pub fn has_file(&self) -> impl Fn(&str) -> bool + use<> {
        let glob = self.file.map(Glob::new);
        move |declared: &str| {
            glob.as_ref()
                .is_none_or(|g| crate::resolve::file_matches(g, declared))
        }
    }
}

/// `*`, `12`, `12-17`, `12,15-17`.
fn absolute(text: &str) -> Option<LineSet> {
    if text == "*" {
        return Some(LineSet::All);
    }
    if let Ok(line) = text.parse() {
        return Some(LineSet::Line(line));
    }
    let ranges: Option<Vec<(u64, u64)>> = text
        .split(',')
        .map(|part| match part.split_once('-') {
            Some((first, last)) => Some((first.parse().ok()?, last.parse().ok()?)),
            None => part.parse().ok().map(|line| (line, line)),
        })
        .collect();
    ranges.map(LineSet::Ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_and_lines_are_told_apart() {
        let parts = |text| SourcePlace::parse(text).map(|p| (p.function, p.file, p.lines));
        assert_eq!(parts("f"), Some(("f", None, None)));
        assert_eq!(parts("ns::f<*>"), Some(("ns::f<*>", None, None)));
        assert_eq!(parts("f@a.c"), Some(("f", Some("a.c"), None)));
        assert_eq!(
            parts("*@a.c:7"),
            Some(("*", Some("a.c"), Some(LineSet::Line(7))))
        );
        assert_eq!(
            parts("f@a.c:7-9"),
            Some(("f", Some("a.c"), Some(LineSet::Ranges(vec![(7, 9)]))))
        );
        assert_eq!(
            parts("f@a.c:1,7-9"),
            Some((
                "f",
                Some("a.c"),
                Some(LineSet::Ranges(vec![(1, 1), (7, 9)]))
            ))
        );
        assert_eq!(
            parts("f@lib/c++/a.c+2"),
            Some(("f", Some("lib/c++/a.c"), Some(LineSet::Relative(2))))
        );
        assert_eq!(parts("f@c++/a.c"), Some(("f", Some("c++/a.c"), None)));
        assert_eq!(
            parts("*@a.c:*"),
            Some(("*", Some("a.c"), Some(LineSet::All)))
        );
        assert_eq!(parts("f@a.c:x"), None);
        assert_eq!(parts("f@a.c:7-"), None);
    }

    #[test]
    fn files_are_known_by_a_tail_of_their_path() {
        let fits = |pattern: &str, path: &str| {
            SourcePlace::parse(pattern).is_some_and(|p| p.has_file()(path))
        };
        assert!(fits("f@a.c", "/src/lib/a.c"));
        assert!(fits("f@lib/a.c", "/src/lib/a.c"));
        assert!(fits("f@*.c", "/src/lib/a.c"));
        assert!(!fits("f@a.c", "/src/lib/aa.c"));
        assert!(fits("f", "/src/lib/a.c"));
    }
}
