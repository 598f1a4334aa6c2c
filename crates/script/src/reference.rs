//! What library files say of their functions and probe aliases: the comment `/** name - summary … */` before each
//! declaration. For lists, for editors and for manual pages.

use std::path::Path;

/// What is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A function.
    Function,
    /// A probe alias.
    Alias,
}

/// A parameter of a function, or a variable that an alias sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// `long`, `string`, or `unknown`.
    pub ty: String,
    /// What it is.
    pub text: String,
}

/// A function or alias of the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Function or alias.
    pub kind: Kind,
    /// Its name; an alias's with all its components.
    pub name: String,
    /// The file.
    pub file: String,
    /// Line of the declaration, from 0.
    pub line: usize,
    /// Type of a function's result: `long`, `string`, or `unknown` (also for functions that give none).
    pub ty: String,
    /// Parameters, or variables of an alias.
    pub parameters: Vec<Parameter>,
    /// What an alias stands for.
    pub points: String,
    /// One line.
    pub summary: String,
    /// Further lines.
    pub description: String,
    /// Only in guru mode.
    pub guru: bool,
}

impl Entry {
    /// `name:type (arg:type, …)` of a function, as stap's `--dump-functions` writes it; `name = points` of an alias, as
    /// `--dump-probe-aliases` does.
    pub fn signature(&self) -> String {
        if self.kind == Kind::Alias {
            return format!("{} = {}", self.name, self.points);
        }
        let parameters: Vec<String> = self
            .parameters
            .iter()
            .map(|p| format!("{}:{}", p.name, p.ty))
            .collect();
        format!("{}:{} ({})", self.name, self.ty, parameters.join(", "))
    }

    /// Everything, as plain text (which is valid Markdown).
    pub fn text(&self) -> String {
        let mut out = self.summary.clone();
        if self.guru {
            out.push_str("\n\nOnly in guru mode (-g).");
        }
        for p in self.parameters.iter().filter(|p| !p.text.is_empty()) {
            out.push_str(&format!("\n\n    {}: {}", p.name, p.text));
        }
        if !self.description.is_empty() {
            out.push_str("\n\n");
            out.push_str(&self.description);
        }
        out
    }
}

/// All functions and aliases of the built-in library, by name; not those that only the library itself uses.
pub fn built_in() -> Vec<Entry> {
    let mut entries: Vec<Entry> = crate::tapset::embedded()
        .filter(|(name, _)| name.ends_with(".stp"))
        .flat_map(|(name, text)| read(name, text))
        .filter(|entry| !entry.name.starts_with("__"))
        .collect();
    entries.sort_by(|a, b| (a.kind, &a.name, a.line).cmp(&(b.kind, &b.name, b.line)));
    entries
}

/// Those of the `.stp` files of a directory and the directories in it. What can't be read is left out.
pub fn directory(path: &Path) -> Vec<Entry> {
    let mut out = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok().map(|e| e.path()))
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            out.extend(directory(&path));
        } else if path.extension().is_some_and(|e| e == "stp")
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            out.extend(read(&path.to_string_lossy(), &text));
        }
    }
    out
}

/// The public declarations of one file, in order. In library files each starts a line.
pub fn read(file: &str, text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut in_comment = false;
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        if in_comment {
            match line.trim().strip_suffix("*/") {
                Some(_) => in_comment = false,
                None => comment.push(line.trim().trim_start_matches('*').trim()),
            }
            continue;
        }
        if line.starts_with("/**") {
            comment.clear();
            in_comment = true;
            continue;
        }
        let entry = if let Some(rest) = line.strip_prefix("function ") {
            let body: String = lines[number..].iter().take(4).copied().collect();
            let guru = body
                .split("%{")
                .nth(1)
                .and_then(|b| b.split("%}").next())
                .is_some_and(|b| b.split_whitespace().any(|w| w == "guru"));
            function(rest).map(|e| Entry { guru, ..e })
        } else if let Some(rest) = line.strip_prefix("probe ") {
            let rest = [&[rest], &lines[number + 1..]].concat().join("\n");
            alias(&rest)
        } else {
            continue;
        };
        if let Some(mut entry) = entry {
            describe(&mut entry, &comment);
            entries.push(Entry {
                file: file.to_string(),
                line: number,
                ..entry
            });
        }
        comment.clear();
    }
    entries
}

fn blank(kind: Kind, name: &str) -> Entry {
    Entry {
        kind,
        name: name.to_string(),
        file: String::new(),
        line: 0,
        ty: "unknown".to_string(),
        parameters: Vec::new(),
        points: String::new(),
        summary: String::new(),
        description: String::new(),
        guru: false,
    }
}

/// `name:type (a:long, b)` and what follows.
fn function(text: &str) -> Option<Entry> {
    let (head, rest) = text.split_once('(')?;
    let (list, _) = rest.split_once(')')?;
    let (name, ty) = typed(head);
    let parameters = list
        .split(',')
        .map(typed)
        .filter(|(name, _)| !name.is_empty());
    Some(Entry {
        ty,
        parameters: parameters
            .map(|(name, ty)| Parameter {
                name,
                ty,
                text: String::new(),
            })
            .collect(),
        ..blank(Kind::Function, &name)
    })
}

fn typed(text: &str) -> (String, String) {
    let (name, ty) = text.split_once(':').unwrap_or((text, "unknown"));
    (name.trim().to_string(), ty.trim().to_string())
}

/// `name = points {` or `name += points {`.
fn alias(text: &str) -> Option<Entry> {
    let (head, _) = text.split_once('{')?;
    // Without it, it is a probe of the library's own.
    let (name, points) = head.split_once('=')?;
    let name = name.trim().trim_end_matches('+').trim_end();
    let points: Vec<&str> = points.split(',').map(str::trim).collect();
    Some(Entry {
        points: points.join(", ").replace(" ?", "?"),
        ..blank(Kind::Alias, name)
    })
}

/// Takes summary, parameters and description from the lines of a comment.
fn describe(entry: &mut Entry, comment: &[&str]) {
    let mut lines = comment.iter().copied();
    if let Some(first) = lines.next() {
        entry.summary = first
            .split_once(" - ")
            .map_or(first, |(_, summary)| summary)
            .to_string();
    }
    let mut description = String::new();
    for line in lines {
        match line.strip_prefix('@').and_then(|l| l.split_once(':')) {
            Some((name, text)) => {
                let (name, text) = (name.trim(), text.trim().to_string());
                match entry.parameters.iter_mut().find(|p| p.name == name) {
                    Some(parameter) => parameter.text = text,
                    None => entry.parameters.push(Parameter {
                        name: name.to_string(),
                        ty: "unknown".to_string(),
                        text,
                    }),
                }
            }
            None if line.is_empty() && description.is_empty() => {}
            None => {
                description.push_str(line);
                description.push('\n');
            }
        }
    }
    entry.description = description.trim().to_string();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_and_an_alias() {
        let entries = read(
            "x.stp",
            "// Head.\n\n/**\n * f - does it\n * @a: the first\n *\n * At length.\n */\nfunction f:long (a:string, b)\n%{ intrinsic g guru %}\n\n/**\n * probe::x.y - happens\n * @v: value\n */\nprobe x.y = begin,\n\ttimer.s(1) ?\n{\n\tv = 1\n}\nprivate function hidden () { }\n",
        );
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].signature(), "f:long (a:string, b:unknown)");
        assert_eq!(
            entries[0].text(),
            "does it\n\nOnly in guru mode (-g).\n\n    a: the first\n\nAt length."
        );
        assert_eq!(entries[0].line, 8);
        assert_eq!(entries[1].signature(), "x.y = begin, timer.s(1)?");
        assert_eq!(entries[1].parameters[0].name, "v");
    }

    #[test]
    fn every_public_name_of_the_library_is_described() {
        for entry in built_in() {
            assert!(
                !entry.summary.is_empty(),
                "{} in {} has no description",
                entry.name,
                entry.file
            );
            if entry.kind == Kind::Function {
                for p in &entry.parameters {
                    assert!(
                        !p.text.is_empty(),
                        "{} of {} has no description",
                        p.name,
                        entry.name
                    );
                }
            }
        }
    }
}
