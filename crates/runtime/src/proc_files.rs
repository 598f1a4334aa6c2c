//! What the kernel tells of processes in the files of proc(5).

use crate::string::Buffer;
use crate::sys;

/// Longest path, with its NUL.
const PATH: usize = 256;
/// As much of a file as is looked at; the files that hold facts about one process are shorter.
const TEXT: usize = 8192;

/// A script's string as a path for the kernel; `None` when it is too long.
fn terminated(path: &[u8], room: &mut [u8; PATH]) -> Option<usize> {
    if path.len() >= PATH {
        return None;
    }
    // SAFETY: the room is larger than the path.
    unsafe { Buffer::new(room.as_mut_ptr(), PATH as u64 - 1).put(path) };
    Some(path.len() + 1)
}

/// The `n`th word, from 1, after the last occurrence of `key` in the first 8 KiB of a file; empty when there is none.
/// With an empty key words are counted from the start.
pub fn word(to: &mut Buffer, path: &[u8], key: &[u8], n: i64) -> u64 {
    let mut room = [0; PATH];
    let mut text = [core::mem::MaybeUninit::<u8>::uninit(); TEXT];
    let Some(len) = terminated(path, &mut room) else {
        return to.len();
    };
    // SAFETY: only the bytes that were read are looked at.
    let text = unsafe {
        let start = text.as_mut_ptr().cast::<u8>();
        let got = sys::read_file(
            room.get(..len).unwrap_or_default(),
            core::slice::from_raw_parts_mut(start, TEXT),
        );
        core::slice::from_raw_parts(start, got.max(0) as usize)
    };
    let Some(rest) = after_last(text, key) else {
        return to.len();
    };
    let word = usize::try_from(n)
        .ok()
        .and_then(|n| n.checked_sub(1))
        .and_then(|n| {
            rest.split(u8::is_ascii_whitespace)
                .filter(|w| !w.is_empty())
                .nth(n)
        });
    to.put(word.unwrap_or_default()).len()
}

/// What follows the last occurrence of a key; the names that a program gives itself come before what the kernel says.
fn after_last<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    if key.is_empty() {
        return Some(text);
    }
    let mut end = text.len();
    while end >= key.len() {
        let start = end - key.len();
        if crate::string::equal(text.get(start..end)?, key) {
            return text.get(end..);
        }
        end -= 1;
    }
    None
}

/// Where a symbolic link leads; empty when it can't be read.
pub fn link(to: &mut Buffer, path: &[u8]) -> u64 {
    let mut room = [0; PATH];
    let free = to.room();
    if let Some(len) = terminated(path, &mut room)
        && free != 0
    {
        // SAFETY: the buffer has that much room behind its start.
        let target = unsafe { core::slice::from_raw_parts_mut(to.start(), free) };
        let got = sys::readlink(room.get(..len).unwrap_or_default(), target);
        to.set_len(got.max(0) as u64);
    }
    to.len()
}

/// How many entries a directory has; 0 when it can't be read.
pub fn entries(path: &[u8]) -> i64 {
    let mut room = [0; PATH];
    let Some(len) = terminated(path, &mut room) else {
        return 0;
    };
    let mut count = 0;
    sys::read_directory(room.get(..len).unwrap_or_default(), |name| {
        if !matches!(name, b"." | b"..") {
            count += 1;
        }
    });
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(f: impl FnOnce(&mut Buffer) -> u64) -> String {
        let mut room = [0u8; 512];
        let len = f(&mut unsafe { Buffer::new(room.as_mut_ptr(), 511) });
        String::from_utf8_lossy(&room[..len as usize]).into_owned()
    }

    #[test]
    fn what_proc_says_of_this_process() {
        let parent = with(|b| word(b, b"/proc/self/stat", b")", 2));
        assert_eq!(parent, unsafe { libc::getppid() }.to_string());
        let pid = std::process::id().to_string();
        assert_eq!(with(|b| word(b, b"/proc/self/stat", b"", 1)), pid);
        assert_eq!(with(|b| word(b, b"/proc/self/status", b"\nTgid:", 1)), pid);
        assert_eq!(
            with(|b| word(b, b"/proc/self/status", b"no such key", 1)),
            ""
        );
        assert_eq!(with(|b| word(b, b"/proc/self/status", b"", 0)), "");
        assert_eq!(with(|b| word(b, b"/no/such/file", b"", 1)), "");
        assert_eq!(with(|b| word(b, &[b'x'; 400], b"", 1)), "");
        let exe = std::env::current_exe().expect("exe");
        assert_eq!(with(|b| link(b, b"/proc/self/exe")), exe.to_string_lossy());
        assert_eq!(with(|b| link(b, b"/proc/self/stat")), "");
    }

    #[test]
    fn entries_of_a_directory() {
        let path = std::env::temp_dir().join(format!("spile-entries-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        for i in 0..300 {
            std::fs::write(path.join(i.to_string()), "").expect("a file");
        }
        assert_eq!(entries(path.as_os_str().as_encoded_bytes()), 300);
        std::fs::remove_dir_all(&path).expect("removed");
        assert_eq!(entries(path.as_os_str().as_encoded_bytes()), 0);
    }
}
