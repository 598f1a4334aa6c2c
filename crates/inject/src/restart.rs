//! System calls that the kernel does not restart after a stop, though the program asked for none.
//!
//! Most blocking calls are restarted invisibly when a thread that waits in them is stopped by
//! ptrace. Those listed in signal(7) ("Interruption of system calls and library functions by stop
//! signals") return `EINTR` instead, which a program without signal handlers never expects.

use std::time::{Duration, Instant};

use crate::error::InjectError;
use crate::proc_file::read_proc;
use crate::process::Pid;
use crate::ptrace;

const EINTR: i64 = -(libc::EINTR as i64);
/// `ERESTARTSYS` of the kernel's include/linux/errno.h: restart unless a handler without
/// `SA_RESTART` runs.
const ERESTARTSYS: i64 = -512;
/// `ERESTARTNOINTR`: restart always.
const ERESTARTNOINTR: i64 = -513;
/// `ERESTARTNOHAND`: restart unless a handler runs, in which case the call returns `EINTR`.
const ERESTARTNOHAND: i64 = -514;
/// `ERESTART_RESTARTBLOCK`: restart through restart_syscall(2), for calls with a time-out.
const ERESTART_RESTARTBLOCK: i64 = -516;

/// Missing in the libc crate; number from the kernel's syscall_64.tbl.
const SYS_IO_PGETEVENTS: i64 = 333;

/// Calls that have had no effect when they return `EINTR`, and can be made again.
const RESTARTABLE: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_io_getevents,
    SYS_IO_PGETEVENTS,
    libc::SYS_io_uring_enter,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
];

/// Makes the `EINTR` of a just stopped thread one that the kernel turns into a restart, unless a
/// signal handler is to run: the very meaning of `ERESTARTNOHAND`.
pub(crate) fn keep_restartable(tid: Pid) -> Result<(), InjectError> {
    let mut registers = ptrace::registers(tid)?;
    if registers.rax as i64 == EINTR && RESTARTABLE.contains(&(registers.orig_rax as i64)) {
        registers.rax = ERESTARTNOHAND as u64;
        ptrace::set_registers(tid, &registers)?;
    }
    Ok(())
}

/// For how long threads are waited for that go on with their system calls.
const RESUMPTION: Duration = Duration::from_secs(1);

/// The stopped threads that will go on with their system calls by making another one, restart_syscall(2).
pub(crate) fn resumed_calls(threads: &[Pid]) -> Vec<Pid> {
    let is_one = |&tid: &Pid| {
        ptrace::registers(tid).is_ok_and(|registers| registers.rax as i64 == ERESTART_RESTARTBLOCK)
    };
    threads.iter().copied().filter(is_one).collect()
}

/// Waits until threads that were let go have made that call: from then on a filter that forbids it does them no harm.
pub(crate) fn await_resumption(threads: &[Pid]) {
    let deadline = Instant::now() + RESUMPTION;
    for tid in threads {
        // Its first word is the call that it is in.
        let is_in_call = || {
            let call = read_proc(&format!("/proc/{tid}/syscall"));
            call.map_or(true, |call| !call.starts_with("running"))
        };
        while !is_in_call() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Whether a stopped thread is in a system call that can be made again from its start: it has not been interrupted
/// before, after which the thread knows only that it is to be restarted.
pub(crate) fn is_in_first_call(registers: &libc::user_regs_struct) -> bool {
    let number = registers.orig_rax as i64;
    number >= 0 && number != libc::SYS_restart_syscall
}

/// As [`pending`], but what has a time-out begins again with all of it.
pub(crate) fn from_the_start(registers: &libc::user_regs_struct) -> Option<u64> {
    pending(registers).map(|_| registers.orig_rax)
}

/// The number of the system call that a stopped thread will make again when it is resumed, by
/// stepping back over the two bytes of `syscall`; `None` when it goes on at `rip`.
pub(crate) fn pending(registers: &libc::user_regs_struct) -> Option<u64> {
    if (registers.orig_rax as i64) < 0 {
        return None;
    }
    match registers.rax as i64 {
        ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => Some(registers.orig_rax),
        ERESTART_RESTARTBLOCK => Some(libc::SYS_restart_syscall as u64),
        _ => None,
    }
}
