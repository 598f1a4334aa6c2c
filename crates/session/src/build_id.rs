//! `process("BUILDID")`: programs by the hexadecimal number that the linker gave them (ld(1), --build-id).

use std::path::{Path, PathBuf};
use symbols::Binary;

/// The bytes of a build-id in hexadecimal digits; `None` for other texts. Whole ones only, of 8 bytes (lld's) or more.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() < 16 || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            let is_hex = pair.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect()
}

/// The file of a build-id: as the links of installed debug packages say, else one that runs.
pub fn find(id: &[u8]) -> Option<PathBuf> {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let (directory, name) = hex.split_at_checked(2)?;
    let linked = Path::new("/usr/lib/debug/.build-id")
        .join(directory)
        .join(name);
    let linked = linked.canonicalize().ok().filter(|path| has(path, id));
    linked.or_else(|| {
        let processes = std::fs::read_dir("/proc").ok()?;
        processes
            .filter_map(|entry| entry.ok()?.path().join("exe").canonicalize().ok())
            .find(|path| has(path, id))
    })
}

fn has(path: &Path, id: &[u8]) -> bool {
    Binary::open(path).is_ok_and(|binary| binary.build_id() == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_numbers_are_build_ids() {
        assert_eq!(parse("0123456789abcdef").map(|id| id.len()), Some(8));
        assert_eq!(parse("0123456789abcdeg"), None);
        assert_eq!(parse("0123456789abcde"), None);
        assert_eq!(parse("+1+1+1+1+1+1+1+1"), None);
        assert_eq!(parse("deadbeef"), None);
    }
}
