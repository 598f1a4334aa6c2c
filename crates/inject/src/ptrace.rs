//! The requests of ptrace(2) and the stops that waitpid(2) reports for a seized thread.

use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use crate::error::InjectError;
use crate::process::{ExitStatus, Pid};

/// Options while a process is being started: it dies with us, and an exec or a thread is seen.
pub(crate) const START_OPTIONS: i32 = HELD_OPTIONS
    | libc::PTRACE_O_EXITKILL
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK;

/// Options while a process is held: marks system-call stops, so that they cannot be mistaken for
/// a SIGTRAP.
pub(crate) const HELD_OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD;

/// A change of a traced thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// `PTRACE_EVENT_STOP` after `PTRACE_INTERRUPT`, or the first stop of a new thread.
    Interrupted,
    /// `PTRACE_EVENT_STOP` because the whole process was stopped by this signal.
    GroupStop,
    /// About to receive this signal.
    Signal(i32),
    /// At entry to or exit from a system call.
    Syscall,
    /// Inside a successful execve.
    Exec,
    /// Made a thread.
    Clone,
    /// Made a process that is traced, too.
    Fork,
    /// The thread is gone; for the leader, the whole process is.
    Exited(ExitStatus),
}

/// Reads a status of waitpid(2) for a seized thread, as ptrace(2) "Stopped tracees" describes.
pub(crate) fn decode(status: i32) -> Event {
    if libc::WIFEXITED(status) {
        return Event::Exited(ExitStatus::Code(libc::WEXITSTATUS(status)));
    }
    if libc::WIFSIGNALED(status) {
        return Event::Exited(ExitStatus::Signal(libc::WTERMSIG(status)));
    }
    let signal = libc::WSTOPSIG(status);
    match status >> 16 {
        libc::PTRACE_EVENT_STOP => match signal {
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => Event::GroupStop,
            _ => Event::Interrupted,
        },
        libc::PTRACE_EVENT_EXEC => Event::Exec,
        libc::PTRACE_EVENT_CLONE => Event::Clone,
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => Event::Fork,
        _ if signal == libc::SIGTRAP | 0x80 => Event::Syscall,
        _ => Event::Signal(signal),
    }
}

fn request(
    name: &'static str,
    request: u32,
    tid: Pid,
    address: usize,
    data: usize,
) -> Result<i64, InjectError> {
    // SAFETY: the callers below pass, for requests that write through `data`, a pointer to a
    // live object of the size that the request fills.
    let result = unsafe { libc::ptrace(request, tid.0, address, data) };
    if result == -1 {
        let source = io::Error::last_os_error();
        return Err(InjectError::Ptrace {
            request: name,
            tid,
            source,
        });
    }
    Ok(result)
}

/// Starts tracing a thread without stopping it.
pub(crate) fn seize(tid: Pid, options: i32) -> Result<(), InjectError> {
    request("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, 0, options as usize).map(drop)
}

/// Asks a running thread to stop.
pub(crate) fn interrupt(tid: Pid) -> Result<(), InjectError> {
    request("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, tid, 0, 0).map(drop)
}

/// Lets a stopped thread run, delivering `signal` unless 0.
pub(crate) fn resume(tid: Pid, signal: i32) -> Result<(), InjectError> {
    request("PTRACE_CONT", libc::PTRACE_CONT, tid, 0, signal as usize).map(drop)
}

/// Leaves a group-stopped thread stopped, but ready to notice that it is continued.
pub(crate) fn listen(tid: Pid) -> Result<(), InjectError> {
    request("PTRACE_LISTEN", libc::PTRACE_LISTEN, tid, 0, 0).map(drop)
}

/// Lets a stopped thread run to the next entry to or exit from a system call.
pub(crate) fn resume_to_syscall(tid: Pid) -> Result<(), InjectError> {
    resume_to_syscall_with(tid, 0)
}

/// The same, delivering `signal` unless 0.
pub(crate) fn resume_to_syscall_with(tid: Pid, signal: i32) -> Result<(), InjectError> {
    let data = signal as usize;
    request("PTRACE_SYSCALL", libc::PTRACE_SYSCALL, tid, 0, data).map(drop)
}

/// Lets a stopped thread execute one instruction.
pub(crate) fn step(tid: Pid, signal: i32) -> Result<(), InjectError> {
    request(
        "PTRACE_SINGLESTEP",
        libc::PTRACE_SINGLESTEP,
        tid,
        0,
        signal as usize,
    )
    .map(drop)
}

/// Stops tracing a stopped thread and lets it run.
pub(crate) fn detach(tid: Pid, signal: i32) -> Result<(), InjectError> {
    request(
        "PTRACE_DETACH",
        libc::PTRACE_DETACH,
        tid,
        0,
        signal as usize,
    )
    .map(drop)
}

/// Replaces the options given to [`seize`].
pub(crate) fn set_options(tid: Pid, options: i32) -> Result<(), InjectError> {
    request(
        "PTRACE_SETOPTIONS",
        libc::PTRACE_SETOPTIONS,
        tid,
        0,
        options as usize,
    )
    .map(drop)
}

/// The new thread or process of a clone or fork event.
pub(crate) fn event_message(tid: Pid) -> Result<u64, InjectError> {
    let mut message: libc::c_ulong = 0;
    let data = &raw mut message as usize;
    request("PTRACE_GETEVENTMSG", libc::PTRACE_GETEVENTMSG, tid, 0, data)?;
    Ok(message)
}

/// The registers of a stopped thread.
pub(crate) fn registers(tid: Pid) -> Result<libc::user_regs_struct, InjectError> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    let data = registers.as_mut_ptr() as usize;
    request("PTRACE_GETREGS", libc::PTRACE_GETREGS, tid, 0, data)?;
    // SAFETY: plain integers, zeroed and then filled by the kernel.
    Ok(unsafe { registers.assume_init() })
}

/// Sets the registers of a stopped thread.
pub(crate) fn set_registers(
    tid: Pid,
    registers: &libc::user_regs_struct,
) -> Result<(), InjectError> {
    let data = std::ptr::from_ref(registers) as usize;
    request("PTRACE_SETREGS", libc::PTRACE_SETREGS, tid, 0, data).map(drop)
}

/// A seccomp filter of a stopped thread, the newest being number 0.
pub(crate) fn seccomp_filter(
    tid: Pid,
    index: usize,
) -> Result<Vec<crate::seccomp::Instruction>, InjectError> {
    const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;
    let ask = |data| {
        request(
            "PTRACE_SECCOMP_GET_FILTER",
            PTRACE_SECCOMP_GET_FILTER,
            tid,
            index,
            data,
        )
    };
    let len = usize::try_from(ask(0)?).unwrap_or(0);
    let mut program = vec![crate::seccomp::Instruction::default(); len];
    if len > 0 {
        ask(program.as_mut_ptr() as usize)?;
    }
    Ok(program)
}

/// The floating-point and vector registers of a stopped thread, as xsave lays them out.
pub(crate) fn vector_state(tid: Pid) -> Result<Vec<u8>, InjectError> {
    const NT_X86_XSTATE: usize = 0x202;
    let mut state = vec![0u8; 16 << 10];
    let mut vector = libc::iovec {
        iov_base: state.as_mut_ptr().cast(),
        iov_len: state.len(),
    };
    let data = &raw mut vector as usize;
    request(
        "PTRACE_GETREGSET",
        libc::PTRACE_GETREGSET,
        tid,
        NT_X86_XSTATE,
        data,
    )?;
    state.truncate(vector.iov_len);
    Ok(state)
}

/// The blocked signals of a stopped thread; a mask that sigsuspend(2) or ppoll(2) replaced for
/// the time of the call is reported as it was before.
pub(crate) fn signal_mask(tid: Pid) -> Result<u64, InjectError> {
    let mut mask = 0u64;
    let data = &raw mut mask as usize;
    request(
        "PTRACE_GETSIGMASK",
        libc::PTRACE_GETSIGMASK,
        tid,
        size_of::<u64>(),
        data,
    )?;
    Ok(mask)
}

/// Sets the blocked signals of a stopped thread.
pub(crate) fn set_signal_mask(tid: Pid, mask: u64) -> Result<(), InjectError> {
    let data = &raw const mask as usize;
    request(
        "PTRACE_SETSIGMASK",
        libc::PTRACE_SETSIGMASK,
        tid,
        size_of::<u64>(),
        data,
    )
    .map(drop)
}

/// Writes one word, wherever it is mapped.
pub(crate) fn poke(tid: Pid, address: u64, word: u64) -> Result<(), InjectError> {
    request(
        "PTRACE_POKEDATA",
        libc::PTRACE_POKEDATA,
        tid,
        address as usize,
        word as usize,
    )
    .map(drop)
}

/// Where a thread registered its rseq(2) area, and its size; `None` when it has none or the
/// kernel (before 5.13) does not tell.
pub(crate) fn rseq_area(tid: Pid) -> Option<u64> {
    /// `struct ptrace_rseq_configuration` of linux/ptrace.h.
    #[repr(C)]
    #[derive(Default)]
    struct Configuration {
        pointer: u64,
        size: u32,
        signature: u32,
        flags: u32,
        pad: u32,
    }
    const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;
    let mut configuration = Configuration::default();
    let data = &raw mut configuration as usize;
    request(
        "PTRACE_GET_RSEQ_CONFIGURATION",
        PTRACE_GET_RSEQ_CONFIGURATION,
        tid,
        size_of::<Configuration>(),
        data,
    )
    .ok()?;
    (configuration.pointer != 0).then_some(configuration.pointer)
}

/// Waits for the next event of a traced thread without blocking.
///
/// # Errors
/// The kernel's answer, `ECHILD` when the thread is not (or no longer) traced by us.
pub(crate) fn poll_event(tid: Pid) -> io::Result<Option<Event>> {
    take_event(tid, libc::WNOHANG)
}

/// Waits for the next event of a traced thread, blocking without limit: for threads that are
/// certain to have one.
pub(crate) fn wait_event(tid: Pid) -> io::Result<Event> {
    loop {
        if let Some(event) = take_event(tid, 0)? {
            return Ok(event);
        }
    }
}

/// The next event of a traced thread. A stop that a signal is about to be delivered after stays to be waited for until the
/// thread is resumed: taken, the kernel would forget the signal should we be killed before that.
fn take_event(tid: Pid, options: i32) -> io::Result<Option<Event>> {
    let looking = libc::__WALL | libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | options;
    // SAFETY: all zeros is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is a live siginfo_t.
    retried(|| unsafe { libc::waitid(libc::P_PID, tid.0 as u32, &raw mut info, looking) })?;
    // SAFETY: it was filled in by waitid(2), or is zero still.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    if matches!(info.si_code, libc::CLD_TRAPPED | libc::CLD_STOPPED)
        && let event @ Event::Signal(signal) = decode(status << 8 | 0x7f)
        // What single steps and breakpoints of ours make must not reach the program.
        && signal != libc::SIGTRAP
    {
        return Ok(Some(event));
    }
    let mut status = 0;
    let taking = libc::__WALL | libc::WNOHANG;
    // SAFETY: `status` is a live c_int.
    let taken = retried(|| unsafe { libc::waitpid(tid.0, &raw mut status, taking) })?;
    Ok((taken != 0).then(|| decode(status)))
}

/// Calls again what a signal to us interrupted.
fn retried(mut call: impl FnMut() -> i32) -> io::Result<i32> {
    loop {
        match call() {
            -1 => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::EINTR) {
                    return Err(error);
                }
            }
            result => return Ok(result),
        }
    }
}

/// Waits for the next event of a traced thread until a deadline; `None` when it passed.
pub(crate) fn wait_event_until(tid: Pid, deadline: Instant) -> io::Result<Option<Event>> {
    let mut pause = Duration::from_micros(20);
    loop {
        if let Some(event) = poll_event(tid)? {
            return Ok(Some(event));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_outlives_the_tracer_that_was_told_of_it() {
        use std::io::{BufRead, BufReader, Write};
        use std::process::{Command, Stdio};
        let mut target = Command::new("sh")
            .args([
                "-c",
                "trap 'echo got; exit' USR1; echo ready; read x; echo lost",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut output = BufReader::new(target.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let pid = Pid(target.id() as i32);
        // SAFETY: the child makes system calls only, and ends.
        let tracer = unsafe { libc::fork() };
        if tracer == 0 {
            let told = seize(pid, HELD_OPTIONS).is_ok()
                // SAFETY: no arguments but integers.
                && unsafe { libc::kill(pid.0, libc::SIGUSR1) } == 0
                && matches!(wait_event(pid), Ok(Event::Signal(libc::SIGUSR1)));
            // SAFETY: as above.
            unsafe {
                if told {
                    libc::kill(libc::getpid(), libc::SIGKILL);
                }
                libc::_exit(1);
            }
        }
        let mut status = 0;
        // SAFETY: `status` is a live c_int.
        assert_eq!(unsafe { libc::waitpid(tracer, &raw mut status, 0) }, tracer);
        assert!(libc::WIFSIGNALED(status), "{status:#x}");
        let mut input = target.stdin.take().expect("a pipe");
        // It may have ended.
        let _ = input.write_all(b"x\n");
        line.clear();
        output.read_line(&mut line).expect("a line");
        assert_eq!(line, "got\n");
        target.wait().expect("an end");
    }

    /// Status words as wait(2) and ptrace(2) define them.
    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(decode(3 << 8), Event::Exited(ExitStatus::Code(3)));
        assert_eq!(decode(9), Event::Exited(ExitStatus::Signal(9)));
        assert_eq!(
            decode(0x7f | libc::SIGUSR1 << 8),
            Event::Signal(libc::SIGUSR1)
        );
        assert_eq!(decode(0x7f | (libc::SIGTRAP | 0x80) << 8), Event::Syscall);
        assert_eq!(
            decode(0x7f | libc::SIGTRAP << 8 | 128 << 16),
            Event::Interrupted
        );
        assert_eq!(
            decode(0x7f | libc::SIGSTOP << 8 | 128 << 16),
            Event::GroupStop
        );
        assert_eq!(decode(0x7f | libc::SIGTRAP << 8 | 4 << 16), Event::Exec);
        assert_eq!(decode(0x7f | libc::SIGTRAP << 8 | 3 << 16), Event::Clone);
        assert_eq!(decode(0x7f | libc::SIGTRAP << 8 | 1 << 16), Event::Fork);
        assert_eq!(
            decode(0x7f | libc::SIGTRAP << 8),
            Event::Signal(libc::SIGTRAP)
        );
    }
}
