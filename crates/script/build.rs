//! Indexes the tapset library: every file's text goes into the executable, with tables from the names of functions,
//! aliases and globals to files, so that a run parses only the files that a script needs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let folder = manifest.join("../../tapset");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut files: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|e| e.ok().map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    files.retain(|f| has_extension(f, "stp") || has_extension(f, "stpm"));
    files.sort();
    let mut out = String::from("static EMBEDDED: &[(&str, &str)] = &[\n");
    let mut functions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut aliases: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut globals: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, path) in files.iter().enumerate() {
        let path = path.canonicalize()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = writeln!(out, "    (\"tapset/{name}\", include_str!({path:?})),");
        if has_extension(&path, "stp") {
            index(
                &fs::read_to_string(&path)?,
                i,
                [&mut functions, &mut aliases, &mut globals],
            );
        }
    }
    out.push_str("];\n");
    write_table(&mut out, "FUNCTIONS", &functions);
    write_table(&mut out, "ALIASES", &aliases);
    write_table(&mut out, "GLOBALS", &globals);
    let target = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(target.join("tapset_index.rs"), out)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

/// Notes what a file declares. In the library every declaration starts a line.
fn index(
    text: &str,
    file: usize,
    [functions, aliases, globals]: [&mut BTreeMap<String, Vec<usize>>; 3],
) {
    for line in text.lines() {
        let (table, rest) = if let Some(rest) = line.strip_prefix("function ") {
            (&mut *functions, rest)
        } else if let Some(rest) = line
            .strip_prefix("probe ")
            // Others are probes, which come with the file.
            .filter(|rest| rest.contains('='))
        {
            (&mut *aliases, rest)
        } else if let Some(rest) = line.strip_prefix("global ") {
            (&mut *globals, rest)
        } else {
            continue;
        };
        let name: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let files = table.entry(name).or_default();
        if files.last() != Some(&file) {
            files.push(file);
        }
    }
}

fn write_table(out: &mut String, name: &str, table: &BTreeMap<String, Vec<usize>>) {
    let _ = writeln!(out, "static {name}: &[(&str, &[usize])] = &[");
    for (key, files) in table {
        let _ = writeln!(out, "    ({key:?}, &{files:?}),");
    }
    out.push_str("];\n");
}
