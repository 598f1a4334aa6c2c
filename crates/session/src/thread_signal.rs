//! `raise()`: signals for threads of probed programs.

use std::path::Path;

/// Sends `signal` to the thread that a process of number `pid` knows as `inner_tid`; `inner_pid` is the number that
/// the process knows itself by. A thread that has ended gets none.
///
/// # Errors
/// What tgkill(2) says, but that the thread is gone.
pub fn send(pid: i32, inner_pid: u32, inner_tid: u32, signal: i32) -> std::io::Result<()> {
    let tid = match u32::try_from(pid) == Ok(inner_pid) {
        true => i32::try_from(inner_tid).ok(),
        false => outer_thread(pid, inner_tid),
    };
    let Some(tid) = tid.filter(|&t| t > 0 && pid > 0) else {
        return Ok(());
    };
    // SAFETY: the call takes three numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
    let error = std::io::Error::last_os_error();
    match result {
        0 => Ok(()),
        _ if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        _ => Err(error),
    }
}

/// Our number of a thread that lives in another PID namespace: the last number of `NSpid` in proc(5) is its own.
fn outer_thread(pid: i32, inner: u32) -> Option<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().find_map(|entry| {
        let own = innermost(&entry.path().join("status"))?;
        (own == inner).then(|| entry.file_name().to_str()?.parse().ok())?
    })
}

fn innermost(status: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}
