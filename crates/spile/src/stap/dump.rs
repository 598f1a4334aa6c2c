//! `--dump-probe-types`, `--dump-probe-aliases` and `--dump-functions`.

use script::reference::{self, Entry, Kind};
use std::fmt::Write;
use std::path::PathBuf;

/// The kinds of probe points that are served, a line each.
pub fn probe_types() -> String {
    let mut types = script::sema::probe_points::served();
    types.sort();
    types.join("\n") + "\n"
}

/// The library's functions, or aliases, with those of further directories. `explain` adds what each does.
pub fn library(kind: Kind, directories: &[PathBuf], explain: bool) -> String {
    let mut out = String::new();
    for entry in entries(directories) {
        if entry.kind != kind || entry.name.starts_with('_') {
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", entry.signature());
        if explain {
            for line in entry.text().lines() {
                let _ = writeln!(out, "{}{line}", if line.is_empty() { "" } else { "    " });
            }
            out.push('\n');
        }
    }
    out
}

/// What the library and further directories declare, by kind and name.
pub fn entries(directories: &[PathBuf]) -> Vec<Entry> {
    let mut entries = reference::built_in();
    for directory in directories {
        entries.extend(reference::directory(directory));
    }
    entries.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    entries
}
