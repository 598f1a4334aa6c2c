//! System calls executed by the process for us: raw, without any code of the process or its C
//! library being run.
//!
//! One stopped thread is sent to a `syscall` instruction that the process has anyway (its vDSO
//! ends in one), stopped at entry and exit by ptrace, and put back exactly where it was. Its
//! signals are blocked in the meantime, so that they stay queued in the kernel and reach it
//! afterwards in their order. No stack of the process is touched.

use std::time::{Duration, Instant};

use crate::error::InjectError;
use crate::escape::Escape;
use crate::proc_file::read_proc;
use crate::process::{Pid, Process};
use crate::ptrace::{self, Event};
use crate::restart;
use crate::stop::{Thread, is_gone};

/// The encoding of `syscall` (Intel SDM volume 2).
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// `Seccomp:` of `/proc/PID/status` for strict mode (proc_pid_status(5)).
const SECCOMP_STRICT: u32 = 1;

/// Everything but SIGTRAP, SIGKILL and SIGSTOP: blocking the first would make the kernel reset the
/// program's handler should a trap occur, the others cannot be blocked.
const BLOCK_ALL: u64 =
    !((1 << (libc::SIGTRAP - 1)) | (1 << (libc::SIGKILL - 1)) | (1 << (libc::SIGSTOP - 1)));

/// A thread of the process taken over to make system calls.
pub(crate) struct Borrowed<'a> {
    process: &'a mut Process,
    tid: Pid,
    saved: libc::user_regs_struct,
    saved_mask: u64,
    instruction: u64,
    /// The stack pointer during the calls.
    stack_pointer: u64,
    /// The page on which it stands, if it is one of ours.
    page: Option<u64>,
    suspended_seccomp: bool,
}

impl Process {
    /// Has a stopped thread execute one raw system call; the thread notices nothing. `name` is
    /// for the error message.
    ///
    /// # Errors
    /// [`InjectError::Remote`] with the call's own error; [`InjectError::NotHeld`],
    /// [`InjectError::Exited`], [`InjectError::Seccomp`],
    /// [`InjectError::NoSyscallInstruction`].
    pub fn syscall(
        &mut self,
        name: &'static str,
        number: i64,
        args: [u64; 6],
    ) -> Result<u64, InjectError> {
        self.with_borrowed_thread(|thread| thread.call(name, number, args))
    }

    /// Takes a thread over for several system calls. Should we be killed meanwhile, it finds its
    /// way back.
    pub(crate) fn with_borrowed_thread<T>(
        &mut self,
        work: impl FnOnce(&mut Borrowed<'_>) -> Result<T, InjectError>,
    ) -> Result<T, InjectError> {
        self.require_held()?;
        self.tend_guard()?;
        let escape = self.escape()?;
        self.borrow(Some(escape), work)
    }

    /// The same, with a way back or, on an instruction of the process itself, with none.
    pub(crate) fn borrow<T>(
        &mut self,
        escape: Option<Escape>,
        work: impl FnOnce(&mut Borrowed<'_>) -> Result<T, InjectError>,
    ) -> Result<T, InjectError> {
        let instruction = match escape {
            Some(escape) => escape.instruction(),
            None => self.find_syscall_instruction()?,
        };
        let may_suspend = self.check_seccomp()?;
        let chosen = self.choose_thread();
        let (tid, saved) = self.or_death(chosen)?;
        let mask = ptrace::signal_mask(tid);
        let saved_mask = self.or_death(mask)?;
        if let Some(escape) = escape {
            self.save_for_escape(escape, tid, &saved, saved_mask)?;
        }
        let mut borrowed = Borrowed {
            process: self,
            tid,
            saved,
            saved_mask,
            instruction,
            stack_pointer: escape.map_or(saved.rsp, Escape::stack_pointer),
            page: escape.map(|escape| escape.mapping().0),
            suspended_seccomp: false,
        };
        borrowed.take_over(may_suspend)?;
        let result = work(&mut borrowed);
        let returned = borrowed.give_back();
        let result = result.and_then(|value| returned.map(|()| value));
        self.or_death(result)
    }

    /// A thread inside a system call if there is one: it cannot be in a restartable sequence
    /// (rseq(2)), which would have to be aborted. Best is a call that can be made again should we be killed.
    fn choose_thread(&self) -> Result<(Pid, libc::user_regs_struct), InjectError> {
        let mut fallback = None;
        let mut restarting = None;
        for (&tid, &state) in &self.threads {
            if state != Thread::Stopped {
                continue;
            }
            let registers = ptrace::registers(tid)?;
            if restart::is_in_first_call(&registers) {
                return Ok((tid, registers));
            }
            if registers.orig_rax as i64 >= 0 {
                restarting.get_or_insert((tid, registers));
            }
            fallback.get_or_insert((tid, registers));
        }
        if let Some(found) = restarting {
            return Ok(found);
        }
        let (tid, mut registers) = fallback.ok_or_else(|| self.exited())?;
        if let Some(abort) = self.sequence_abort(tid, registers.rip) {
            registers.rip = abort;
        }
        Ok((tid, registers))
    }

    /// If the thread is inside a restartable sequence, the address where it goes on after an
    /// abort. The kernel aborts a sequence that was preempted, as this one was, but could no
    /// longer see it once the thread had been elsewhere.
    fn sequence_abort(&self, tid: Pid, rip: u64) -> Option<u64> {
        // `struct rseq`: cpu_id_start, cpu_id, then the pointer to the current `struct rseq_cs`:
        // version, flags, start_ip, post_commit_offset, abort_ip (linux/rseq.h).
        let area = ptrace::rseq_area(tid)?;
        let sequence = self
            .read_u64(area + 8)
            .ok()
            .filter(|&pointer| pointer != 0)?;
        let start = self.read_u64(sequence + 8).ok()?;
        let length = self.read_u64(sequence + 16).ok()?;
        let abort = self.read_u64(sequence + 24).ok()?;
        (rip.wrapping_sub(start) < length).then_some(abort)
    }

    /// An error, or the end of the process or of its program where that is its cause.
    pub(crate) fn or_ended(&mut self, error: InjectError) -> InjectError {
        let is_replaced = || {
            let held = self.threads.keys().next();
            held.is_some_and(|&tid| ptrace::registers(tid).is_err_and(|error| is_gone(&error)))
        };
        if self.has_ended() || self.others_run && is_replaced() {
            self.note_death()
        } else {
            error
        }
    }

    /// Finds a `syscall` instruction in executable memory, the vDSO first.
    fn find_syscall_instruction(&mut self) -> Result<u64, InjectError> {
        if let Some(address) = self.syscall_instruction {
            return Ok(address);
        }
        let mut candidates: Vec<_> = self
            .maps()?
            .into_iter()
            .filter(|mapping| mapping.perms.execute)
            .collect();
        let name = |mapping: &symbols::Mapping| {
            mapping
                .path
                .as_ref()
                .map(|path| path.as_os_str().to_owned())
                .unwrap_or_default()
        };
        candidates.retain(|mapping| name(mapping) != "[vsyscall]");
        candidates.sort_by_key(|mapping| name(mapping) != "[vdso]");
        const CHUNK: u64 = 1 << 16;
        for mapping in candidates {
            let mut start = mapping.start;
            while start < mapping.end {
                // One byte of overlap, for an instruction across the border.
                let end = (start + CHUNK + 1).min(mapping.end);
                let Ok(bytes) = self.read_vec(start, (end - start) as usize) else {
                    break;
                };
                if let Some(offset) = bytes.windows(2).position(|pair| pair == SYSCALL) {
                    let address = start + offset as u64;
                    self.syscall_instruction = Some(address);
                    return Ok(address);
                }
                start += CHUNK;
            }
        }
        Err(self.or_ended(InjectError::NoSyscallInstruction { pid: self.pid }))
    }

    /// Whether seccomp stands in the way, and whether suspending it is worth a try.
    fn check_seccomp(&self) -> Result<bool, InjectError> {
        let (mode, filters) = seccomp_status(&self.pid.to_string());
        if mode == 0 {
            return Ok(false);
        }
        let (own_mode, own_filters) = seccomp_status("self");
        // SAFETY: no arguments but integers.
        let root = unsafe { libc::geteuid() } == 0;
        if own_mode == 0 && root {
            return Ok(true);
        }
        // A filter that we live under as well (a container's) lets ordinary calls pass.
        if mode != SECCOMP_STRICT && filters <= own_filters {
            return Ok(false);
        }
        Err(InjectError::Seccomp {
            pid: self.pid,
            mode,
        })
    }
}

/// `Seccomp` and `Seccomp_filters` of `/proc/PID/status`.
pub(crate) fn seccomp_status(pid: &str) -> (u32, u32) {
    let status = read_proc(&format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.trim().parse().ok()
    };
    let mode = field("Seccomp").unwrap_or(0);
    (
        mode,
        field("Seccomp_filters").unwrap_or(u32::from(mode != 0)),
    )
}

impl Borrowed<'_> {
    /// The process that the thread belongs to.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process
    }

    /// Where it is written down what is being mapped.
    pub(crate) fn journal(&self) -> Option<u64> {
        self.page
    }

    fn take_over(&mut self, may_suspend: bool) -> Result<(), InjectError> {
        if may_suspend {
            const PTRACE_O_SUSPEND_SECCOMP: i32 = 1 << 21;
            let options = self.process.held_options() | PTRACE_O_SUSPEND_SECCOMP;
            if ptrace::set_options(self.tid, options).is_err() {
                let (mode, _) = seccomp_status(&self.process.pid.to_string());
                return Err(InjectError::Seccomp {
                    pid: self.process.pid,
                    mode,
                });
            }
            self.suspended_seccomp = true;
        }
        // From here on, left alone, the thread makes a call without effect and goes back.
        let placed = ptrace::set_registers(self.tid, &self.calling(libc::SYS_getpid, [0; 6]));
        self.process.or_death(placed)?;
        let masked = ptrace::set_signal_mask(self.tid, BLOCK_ALL);
        self.process.or_death(masked)
    }

    /// Makes one system call.
    pub(crate) fn call(
        &mut self,
        name: &'static str,
        number: i64,
        args: [u64; 6],
    ) -> Result<u64, InjectError> {
        ptrace::set_registers(self.tid, &self.calling(number, args))?;
        for _ in 0..2 {
            ptrace::resume_to_syscall(self.tid)?;
            while self.wait()? != Event::Syscall {
                ptrace::resume_to_syscall(self.tid)?;
            }
        }
        let result = ptrace::registers(self.tid)?.rax;
        // -4095 … -1 are errors for every system call of x86-64.
        if result > u64::MAX - 4095 {
            let source = std::io::Error::from_raw_os_error((result as i64).wrapping_neg() as i32);
            return Err(InjectError::Remote {
                pid: self.process.pid,
                call: name,
                source,
            });
        }
        Ok(result)
    }

    /// The registers of a thread about to make a system call.
    fn calling(&self, number: i64, args: [u64; 6]) -> libc::user_regs_struct {
        let mut registers = self.saved;
        registers.rip = self.instruction;
        registers.rsp = self.stack_pointer;
        registers.rax = number as u64;
        registers.orig_rax = u64::MAX;
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ] = args;
        registers
    }

    /// The next stop that matters. Others happen when the process was group-stopped or is sent
    /// SIGSTOP meanwhile.
    fn wait(&mut self) -> Result<Event, InjectError> {
        match self.next_event()? {
            Event::Exited(status) => {
                if self.tid == self.process.pid {
                    self.process.state = crate::process::State::Exited(status);
                }
                self.process.threads.remove(&self.tid);
                Err(self.process.note_death())
            }
            Event::Signal(libc::SIGSTOP) => {
                self.process.owes_stop = true;
                Ok(Event::Signal(libc::SIGSTOP))
            }
            Event::Signal(signal) => Err(InjectError::System {
                call: format!(
                    "system call borrowed from thread {}: signal {signal}",
                    self.tid
                ),
                source: std::io::Error::from_raw_os_error(libc::EINTR),
            }),
            event => Ok(event),
        }
    }

    /// Of a leader that was killed nothing is reported before its threads are reaped, so that no
    /// wait may be without end.
    fn next_event(&mut self) -> Result<Event, InjectError> {
        // Most calls take microseconds, less than the shortest sleep.
        let spinning = Instant::now() + Duration::from_micros(300);
        loop {
            let event = if Instant::now() < spinning {
                std::thread::yield_now();
                ptrace::poll_event(self.tid)
            } else {
                let soon = Instant::now() + Duration::from_millis(20);
                ptrace::wait_event_until(self.tid, soon)
            };
            match event {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {
                    if Instant::now() > spinning && self.process.has_ended() {
                        return Err(self.process.note_death());
                    }
                }
                Err(_) => return Err(self.process.note_death()),
            }
        }
    }

    /// Puts the thread back where it was. It must first get from the exit of our system call to a
    /// stop in the kernel's signal handling, the only place from which its own interrupted call is
    /// restarted.
    fn give_back(&mut self) -> Result<(), InjectError> {
        if matches!(self.process.state, crate::process::State::Exited(_)) {
            return Err(self.process.exited());
        }
        ptrace::interrupt(self.tid)?;
        ptrace::resume(self.tid, 0)?;
        loop {
            match self.wait() {
                Ok(Event::Interrupted | Event::GroupStop) => break,
                Ok(_) => ptrace::resume(self.tid, 0)?,
                Err(error) if self.process.has_ended() => return Err(error),
                Err(_) => ptrace::resume(self.tid, 0)?,
            }
        }
        ptrace::set_signal_mask(self.tid, self.saved_mask)?;
        ptrace::set_registers(self.tid, &self.saved)?;
        if self.suspended_seccomp {
            ptrace::set_options(self.tid, self.process.held_options())?;
        }
        Ok(())
    }
}
