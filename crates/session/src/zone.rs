//! The local time: the zone as it is when a session begins, and names of files with a date in them.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The present local time; UTC where there is none.
fn now() -> libc::tm {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |t| t.as_secs() as libc::time_t);
    // SAFETY: a tm of zeros is valid, and both calls only fill it.
    unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut tm).is_null() {
            libc::gmtime_r(&now, &mut tm);
        }
        tm
    }
}

/// A path with the directives of strftime(3) in its last part filled in, as stap does with `-o`.
pub fn dated(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let Ok(format) = CString::new(bytes) else {
        return path.into();
    };
    if !bytes.contains(&b'%') {
        return path.into();
    }
    let tm = now();
    let mut room = vec![0u8; 4096];
    // SAFETY: the buffer has that size, format and time are valid.
    let len = unsafe { libc::strftime(room.as_mut_ptr().cast(), room.len(), format.as_ptr(), &tm) };
    if len == 0 {
        return path.into();
    }
    room.truncate(len);
    OsString::from_vec(room).into()
}

/// Seconds west of UTC, and the zone's name, cut to fit and NUL-padded.
pub fn local() -> (i64, [u8; 16]) {
    let mut name = [0; 16];
    let tm = now();
    if !tm.tm_zone.is_null() {
        // SAFETY: the name that the time points to stays as long as the program does not set another zone.
        let zone = unsafe { std::ffi::CStr::from_ptr(tm.tm_zone) }.to_bytes();
        for (to, from) in name.iter_mut().take(15).zip(zone) {
            *to = *from;
        }
    }
    (-tm.tm_gmtoff, name)
}
