//! The kernel's own probe, for comparison: a counting uprobe by perf_event_open(2).

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// perf_event_attr's size in its first published form with `config2` (PERF_ATTR_SIZE_VER1).
const ATTR_SIZE: usize = 72;

/// Puts a uprobe on a file's offset, in one process, until dropped. Needs CAP_PERFMON and a kernel with uprobes.
pub fn attach(path: &Path, offset: u64, pid: u32) -> io::Result<OwnedFd> {
    let kind = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
    let kind: u32 = kind
        .trim()
        .parse()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = [0u8; ATTR_SIZE];
    let mut put = |at: usize, bytes: &[u8]| attr[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &kind.to_ne_bytes());
    put(4, &(ATTR_SIZE as u32).to_ne_bytes());
    put(56, &(name.as_ptr() as u64).to_ne_bytes());
    put(64, &offset.to_ne_bytes());
    /// PERF_FLAG_FD_CLOEXEC of perf_event_open(2).
    const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
    let (any_cpu, no_group, flags) = (-1, -1, CLOSE_ON_EXEC);
    // SAFETY: the attribute block and the path that it points to live through the call, which only reads them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attr.as_ptr(),
            pid,
            any_cpu,
            no_group,
            flags,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave us this descriptor just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
