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
