//! Splitting `-c`'s command into words as stap does: by wordexp(3), without command substitution; what that refuses
//! (pipes, redirections, `$(…)`) goes to a shell.

use std::ffi::{CStr, CString, c_char, c_int};

#[repr(C)]
struct WordExp {
    count: usize,
    words: *mut *mut c_char,
    reserved: usize,
}

const WRDE_NOCMD: c_int = 1 << 2;
const WRDE_UNDEF: c_int = 1 << 5;

unsafe extern "C" {
    fn wordexp(words: *const c_char, result: *mut WordExp, flags: c_int) -> c_int;
    fn wordfree(result: *mut WordExp);
}

/// The words of a command; `["/bin/sh", "-c", command]` when it needs a shell.
pub fn split(command: &str) -> Vec<Vec<u8>> {
    plain(command).unwrap_or_else(|| {
        vec![
            b"/bin/sh".to_vec(),
            b"-c".to_vec(),
            command.as_bytes().to_vec(),
        ]
    })
}

fn plain(command: &str) -> Option<Vec<Vec<u8>>> {
    let text = CString::new(command).ok()?;
    let mut result = WordExp {
        count: 0,
        words: std::ptr::null_mut(),
        reserved: 0,
    };
    // SAFETY: both pointers are valid for the call; the result is freed below, once, when the call says it was filled.
    let status = unsafe { wordexp(text.as_ptr(), &raw mut result, WRDE_NOCMD | WRDE_UNDEF) };
    if status != 0 {
        return None;
    }
    let mut words = Vec::with_capacity(result.count);
    for i in 0..result.count {
        // SAFETY: wordexp(3) filled `count` pointers to strings that live until wordfree.
        let word = unsafe { CStr::from_ptr(*result.words.add(i)) };
        words.push(word.to_bytes().to_vec());
    }
    // SAFETY: filled by wordexp above and not used afterwards.
    unsafe { wordfree(&raw mut result) };
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(
            split("echo 'a b' c"),
            [b"echo".to_vec(), b"a b".to_vec(), b"c".to_vec()]
        );
    }

    #[test]
    fn pipes_go_to_a_shell() {
        assert_eq!(
            split("a | b"),
            [b"/bin/sh".to_vec(), b"-c".to_vec(), b"a | b".to_vec()]
        );
    }
}
