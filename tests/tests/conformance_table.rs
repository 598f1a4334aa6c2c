//! docs/conformance.md names tests; they must exist.

use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries =
        std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_row_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for directory in ["tests/tests", "crates/script/tests", "crates/codegen/tests"] {
        sources(&root.join(directory), &mut files);
    }
    let table = std::fs::read_to_string(root.join("docs/conformance.md")).expect("the table");
    let mut rows = 0;
    for line in table.lines().filter(|l| l.starts_with("| ")) {
        let cell = line
            .trim_end_matches(" |")
            .rsplit("| ")
            .next()
            .unwrap_or_default();
        let Some((file, function)) = cell.trim_matches('`').split_once("::") else {
            continue;
        };
        rows += 1;
        let exists = files
            .iter()
            .filter(|f| f.file_stem().is_some_and(|s| s == file))
            .any(|f| {
                let text = std::fs::read_to_string(f).expect("a source");
                // A macro makes the tests of subjects from their names.
                text.contains(&format!("fn {function}("))
                    || text.contains(&format!("\n    {function},\n"))
            });
        assert!(exists, "{file}::{function} is named in {line:?}");
    }
    assert!(rows > 300, "{rows} rows");
}

/// Names of the library's functions that are not private, from their declarations.
fn library_functions(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root.join("tapset")).expect("the library") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "stp") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a library file");
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("function ") else {
                continue;
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            names.push(rest[..end].to_string());
        }
    }
    names
}

#[test]
fn every_function_of_the_library_has_a_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = std::fs::read_to_string(root.join("docs/conformance.md")).expect("the table");
    let names = library_functions(&root);
    assert!(names.len() > 300, "{} functions", names.len());
    for name in names.iter().filter(|name| !name.starts_with('_')) {
        let row = format!("| `{name}` | `");
        assert!(table.contains(&row), "{name} has no row");
    }
}
