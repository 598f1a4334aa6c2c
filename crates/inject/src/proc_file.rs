//! Small files of `/proc`.

use std::fs::{File, metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use symbols::Mapping;

use crate::process::Pid;

/// More than any of the files has.
const LARGEST: u64 = 1 << 20;
/// What nearly all have at most, so that one system call reads it; their size is not known before.
const USUAL: usize = 8192;

/// The text of a file of `/proc` (status, stat, limits). Bytes that are no UTF-8 (in a program's name) are replaced.
///
/// # Errors
/// As open(2) and read(2): `ENOENT` or `ESRCH` when the process has ended.
pub fn read_proc(path: &str) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(USUAL);
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// What is mapped into a process (proc_pid_maps(5)); nothing of one that has ended and of threads of the kernel.
///
/// # Errors
/// As open(2) and read(2): `ENOENT` or `ESRCH` when the process is gone, `EACCES` when it may not be looked at.
pub fn read_maps(pid: Pid) -> io::Result<Vec<Mapping>> {
    // The kernel hands out a page of it at a time, and makes it anew for each.
    let mut bytes = Vec::with_capacity(4 * USUAL);
    File::open(format!("/proc/{pid}/maps"))?.read_to_end(&mut bytes)?;
    Ok(symbols::maps::parse(&String::from_utf8_lossy(&bytes)))
}

/// When a process began, in clock ticks since the system did: field 22 of `/proc/PID/stat` (proc_pid_stat(5)). `None` when it
/// has ended.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = read_proc(&format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    // The fields that are left begin with field 4.
    fields.nth(22 - 4)?.parse().ok()
}

/// Whether two processes have one memory (clone(2) with `CLONE_VM`, vfork(2)), as far as kcmp(2) may tell.
pub fn share_memory(one: Pid, other: Pid) -> bool {
    const KCMP_VM: i32 = 1;
    // SAFETY: takes numbers alone.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one.0, other.0, KCMP_VM, 0, 0) };
    order == 0
}

/// The number that a process has in its own PID namespace.
pub fn inner_pid(pid: Pid) -> Option<u32> {
    // In ours it is the same, which can be told without having the kernel describe the process.
    let here = namespace("self");
    if here.is_some() && namespace(&pid.to_string()) == here {
        return u32::try_from(pid.0).ok();
    }
    last_number(&format!("/proc/{pid}/status"), "NSpid:")
}

/// The last number in a line of a `status` file (proc_pid_status(5)): of `NSpid`, that in the innermost namespace.
pub(crate) fn last_number(path: &str, line: &str) -> Option<u32> {
    let status = read_proc(path).ok()?;
    let numbers = status.lines().find_map(|l| l.strip_prefix(line))?;
    numbers.split_ascii_whitespace().last()?.parse().ok()
}

/// The PID namespace of a process (its number, or `self`).
pub(crate) fn namespace(process: &str) -> Option<u64> {
    let metadata = metadata(format!("/proc/{process}/ns/pid")).ok()?;
    Some(metadata.ino())
}
