//! Lists whose members keep their places for ever: sources, metrics of a source, instances of a metric.
//!
//! They are kept in files in the form of PCP's agent, which is Python's oldest form of pickles: a list of texts, and a truth
//! value behind it. Only what that agent writes is read.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

/// A list in a file.
#[derive(Debug, Default)]
pub struct Numbering {
    names: Vec<String>,
    places: HashMap<String, u32>,
    file: PathBuf,
    /// The truth value of the file: whether it is of instances.
    instances: bool,
    limit: usize,
    changed: bool,
}

impl Numbering {
    /// The list in a file; empty when that is not there. No more than `limit` members are taken.
    pub fn kept(file: PathBuf, instances: bool, limit: usize) -> Numbering {
        let bytes = fs::read(&file).unwrap_or_default();
        // Latin-1.
        let text: String = bytes.into_iter().map(char::from).collect();
        let mut list = Numbering {
            file,
            instances,
            limit,
            ..Numbering::default()
        };
        for name in read(&text) {
            list.number(&name);
        }
        list.changed = false;
        list
    }

    /// The place of a member, which is added when it is new; `None` when there is no room.
    pub fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(place) = self.places.get(name) {
            return Some(*place);
        }
        if self.names.len() >= self.limit {
            return None;
        }
        let place = u32::try_from(self.names.len()).ok()?;
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), place);
        self.changed = true;
        Some(place)
    }

    /// The members in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Writes the file if anything was added.
    ///
    /// # Errors
    /// What the system says.
    pub fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        self.changed = false;
        let new = self
            .file
            .with_extension(format!("{}.new", std::process::id()));
        fs::write(&new, write(&self.names, self.instances))?;
        fs::rename(&new, &self.file)
    }
}

fn write(names: &[String], instances: bool) -> String {
    let mut text = String::from("(lp0\n");
    for (number, name) in names.iter().enumerate() {
        text.push('V');
        for c in name.chars() {
            match c {
                '\\' | '\n' | '\0' | '\r' | '\x1a' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                // The form is Latin-1 where it is not escaped.
                c if u32::from(c) < 0x80 => text.push(c),
                c if u32::from(c) < 0x1_0000 => {
                    text.push_str(&format!("\\u{:04x}", u32::from(c)));
                }
                c => text.push_str(&format!("\\U{:08x}", u32::from(c))),
            }
        }
        text.push_str(&format!("\np{}\na", number + 1));
    }
    text.push_str(if instances { ".I01\n." } else { ".I00\n." });
    text
}

fn read(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines().skip(1) {
        // Each member but the first stands behind the instruction that appends the one before.
        let line = line.strip_prefix('a').unwrap_or(line);
        if line.starts_with('.') {
            break;
        }
        if let Some(name) = line.strip_prefix('V') {
            names.push(plain(name));
        }
    }
    names
}

fn plain(escaped: &str) -> String {
    let mut plain = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let digits = match after.chars().next() {
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code = after.get(1..1 + digits).filter(|_| digits > 0);
        let char = code
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32);
        match char {
            Some(char) => {
                plain.push(char);
                rest = after.get(1 + digits..).unwrap_or_default();
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's pickle.dumps(list, 0) and pickle.dumps(False, 0) give.
    #[test]
    fn lists_are_pythons() {
        let pickled = "(lp0\nVcontrol\np1\naVone\\u005ctwo\\u000aé\\u20ac\np2\na.I00\n.";
        let names = ["control".to_owned(), "one\\two\né€".to_owned()];
        assert_eq!(read(pickled), names);
        assert_eq!(read(&write(&names, true)), names);
        assert_eq!(
            write(&["control".to_owned()], false),
            "(lp0\nVcontrol\np1\na.I00\n."
        );
    }
}
