//! What only the start needed of the executable and its libraries is given back: a daemon runs for months, and a third
//! of the pages that it has mapped by then (relocations, the reading of options and configuration) is never used again.

use std::ffi::c_void;
use std::fs;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Unmaps the pages of files that are mapped unchanged and read-only. Those still needed come back from the page cache
/// as they are touched. Nothing is said when the system does not let us: it is only memory.
pub(crate) fn give_back() {
    let Ok(text) = fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, len) in unchanged(&text) {
        let Some(address) = NonNull::new(start as *mut c_void) else {
            continue;
        };
        // SAFETY: the range is a private mapping of a file that may not be written and of which no page has been changed,
        // so each page reads the same when it is mapped anew.
        let _ = unsafe { madvise(address, len, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Start and length of each mapping of a file, not writable, that has no page of the process's own (relocated data that
/// was protected afterwards has, and so has code with a breakpoint or a probe in it), from `/proc/self/smaps`.
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), candidate) {
            (Some("Anonymous:"), Some(range)) => {
                if words.next() == Some("0") {
                    found.push(range);
                }
                candidate = None;
            }
            (Some(field), _) if !field.ends_with(':') => {
                candidate = mapping(field, words.next(), words.nth(3));
            }
            _ => {}
        }
    }
    found
}

/// The range of a first line's mapping when it is a file's, private and not writable.
fn mapping(range: &str, access: Option<&str>, path: Option<&str>) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    if !matches!(access?, "r--p" | "r-xp") || !path?.starts_with('/') {
        return None;
    }
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::unchanged;

    #[test]
    fn only_unchanged_file_mappings_are_taken() {
        // Lines as proc(5) describes them.
        let smaps = "\
1000-3000 r--p 00000000 fe:00 11 /bin/daemon
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
3000-7000 r-xp 00002000 fe:00 11 /bin/daemon
Anonymous:             0 kB
7000-8000 r--p 00006000 fe:00 11 /bin/daemon
Anonymous:             4 kB
8000-9000 rw-p 00007000 fe:00 11 /bin/daemon
Anonymous:             0 kB
9000-a000 r--s 00000000 fe:00 12 /var/shared
Anonymous:             0 kB
b000-c000 r--p 00000000 00:00 0
Anonymous:             0 kB
d000-e000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(unchanged(smaps), [(0x1000, 0x2000), (0x3000, 0x4000)]);
    }
}
