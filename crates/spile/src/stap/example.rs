//! `--example`: scripts by name, out of the examples that come with SystemTap.

use std::path::{Path, PathBuf};

/// Where they are: stappaths(7).
const DIRECTORIES: [&str; 2] = [
    "/usr/share/systemtap/examples",
    "/usr/local/share/systemtap/examples",
];

/// The script of that name, with or without its directory.
pub fn find(name: &str) -> Result<PathBuf, String> {
    DIRECTORIES
        .iter()
        .find_map(|directory| search(Path::new(directory), Path::new(name), 4))
        .ok_or_else(|| {
            format!(
                "Example '{name}' was not found under '{}'",
                DIRECTORIES.join("', '")
            )
        })
}

fn search(directory: &Path, name: &Path, depth: u32) -> Option<PathBuf> {
    let here = directory.join(name);
    if here.is_file() {
        return Some(here);
    }
    if depth == 0 {
        return None;
    }
    let mut inner: Vec<PathBuf> = std::fs::read_dir(directory)
        .ok()?
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.is_dir())
        .collect();
    inner.sort();
    inner.iter().find_map(|d| search(d, name, depth - 1))
}
