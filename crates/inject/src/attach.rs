//! Taking hold of a process that runs already.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cgroup::require_thawed;
use crate::error::InjectError;
use crate::priority::Hurry;
use crate::proc_file::read_proc;
use crate::process::{Pid, Process, State};
use crate::ptrace;
use crate::restart::is_in_first_call;
use crate::stop::thread_state;

/// How long another session of ours is waited for: it holds a process for milliseconds, or a second when there is much
/// to patch.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long any other tracer is, which may stay for ever.
const SHORT_PATIENCE: Duration = Duration::from_millis(300);
/// `PF_KTHREAD` of the kernel's include/linux/sched.h, in the flags of `/proc/PID/stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;

impl Process {
    /// Attaches to a running process. When this returns every thread is stopped; a thread that
    /// was waiting in a system call goes on waiting afterwards as if nothing had happened. The
    /// number of any thread stands for its process. While another session changes the process it
    /// is waited for.
    ///
    /// # Errors
    /// One variant of [`InjectError`] for each reason why a process cannot be had:
    /// [`NoSuchProcess`](InjectError::NoSuchProcess), [`Zombie`](InjectError::Zombie),
    /// [`KernelThread`](InjectError::KernelThread), [`AlreadyTraced`](InjectError::AlreadyTraced),
    /// [`OtherUser`](InjectError::OtherUser), [`NotDumpable`](InjectError::NotDumpable),
    /// [`Yama`](InjectError::Yama), [`ForeignArchitecture`](InjectError::ForeignArchitecture),
    /// [`Frozen`](InjectError::Frozen), [`Unstoppable`](InjectError::Unstoppable).
    pub fn attach(pid: Pid) -> Result<Process, InjectError> {
        let mut process = Process::find(pid)?;
        process.stop_when_free(false)?;
        Ok(process)
    }

    /// Finds a running process, and leaves it running: it can be looked at, and its memory read. The number of any thread
    /// stands for its process.
    ///
    /// # Errors
    /// As [`Process::attach`], as far as the reason can be seen without stopping it.
    pub fn find(pid: Pid) -> Result<Process, InjectError> {
        let status = Status::read(pid)?;
        let pid = status.leader;
        if status.state == 'Z' || status.state == 'X' {
            return Err(InjectError::Zombie { pid });
        }
        if is_kernel_thread(pid) {
            return Err(InjectError::KernelThread {
                pid,
                name: command_name(pid),
            });
        }
        let process = Process::new(pid, false).map_err(|error| explain(pid, error))?;
        check_architecture(pid)?;
        Ok(process)
    }

    /// Stops every thread, or only `one`, as soon as no other tracer is in the way, which is waited for within reason.
    fn stop_when_free(&mut self, one: bool) -> Result<(), InjectError> {
        require_thawed(self.pid)?;
        let started = Instant::now();
        // Since when it is not one of ours that is in the way.
        let mut foreign: Option<Instant> = None;
        let mut pause = Duration::from_micros(200);
        loop {
            let stopped = if one {
                self.stop_first_thread(ptrace::HELD_OPTIONS)
            } else {
                self.stop_all_threads(ptrace::HELD_OPTIONS)
            };
            let Err(error) = stopped else {
                return Ok(());
            };
            // Some threads may be ours already.
            let _ = self.release();
            match &error {
                InjectError::Unstoppable { tid, .. } => {
                    self.unstoppable = Some(*tid);
                    return Err(error);
                }
                InjectError::AlreadyTraced { tracer, .. } if is_this_process(*tracer) => {
                    // A thread that would not stop before, and has not since.
                    if let Some(tid) = self.unstoppable {
                        return Err(InjectError::Unstoppable {
                            pid: self.pid,
                            tid,
                            state: thread_state(self.pid, tid).unwrap_or('?'),
                        });
                    }
                    foreign = None;
                }
                InjectError::AlreadyTraced { tracer, .. } if is_ours(*tracer) => foreign = None,
                // The second: who was in the way is gone again.
                InjectError::AlreadyTraced { .. } | InjectError::PermissionDenied { .. } => {
                    foreign.get_or_insert_with(Instant::now);
                }
                _ => return Err(error),
            }
            if started.elapsed() > PATIENCE
                || foreign.is_some_and(|since| since.elapsed() > SHORT_PATIENCE)
            {
                return Err(error);
            }
            // Two that wait for each other must not do so in step.
            let jitter = started.elapsed().subsec_nanos() % 256;
            std::thread::sleep(pause + Duration::from_micros(jitter.into()));
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// Stops a released process again, the same one for certain (its number cannot have passed to
    /// another), and those of a held one's threads that run. No-op when all are stopped already.
    ///
    /// If the program has been replaced by exec since, [`Process::exec_count`] grows, and
    /// insertions and mappings are forgotten: they went with the old program.
    ///
    /// # Errors
    /// [`InjectError::Exited`] when it is gone; otherwise as [`Process::attach`].
    pub fn stop_again(&mut self) -> Result<(), InjectError> {
        if self.is_held() {
            return self.stop_running();
        }
        self.stop_free(false)
    }

    /// Stops one thread of a process that runs free, one that sleeps if there is any, and leaves the others running: enough to
    /// have memory mapped and code written to it ahead of time. What needs all threads stopped, such as
    /// [`Process::insert`], stops the others itself, only for as long as code is changed, which in a process with many
    /// threads is a small part of the whole; they stay stopped then, until [`Process::let_others_run`] or
    /// [`Process::release`].
    ///
    /// # Errors
    /// As [`Process::stop_again`], and later [`InjectError::Replaced`] from any operation, when another thread runs
    /// another program meanwhile.
    pub fn stop_one_thread(&mut self) -> Result<(), InjectError> {
        if self.is_held() {
            return self.require_held();
        }
        self.stop_free(true)
    }

    /// Lets all threads of a held process run but one, as [`Process::stop_one_thread`] leaves it.
    ///
    /// # Errors
    /// As [`Process::release`].
    pub fn let_others_run(&mut self) -> Result<(), InjectError> {
        self.require_held()?;
        if self.others_run || self.kill_on_drop {
            return Ok(());
        }
        let threads = self.thread_ids();
        let leader = threads
            .iter()
            .copied()
            .find(|&tid| tid == self.pid)
            .or_else(|| threads.first().copied());
        let is_idle = |&tid: &Pid| {
            Some(tid) != leader
                && ptrace::registers(tid).is_ok_and(|registers| is_in_first_call(&registers))
        };
        let idle = threads.iter().copied().find(is_idle);
        // One that waits for an answer is not to go on before all is done.
        let kept = self.waiting.or(idle).or(leader);
        for tid in threads {
            if Some(tid) == kept {
                continue;
            }
            let gone = if Some(tid) == leader {
                self.guard = leader;
                ptrace::resume(tid, 0)
            } else {
                ptrace::detach(tid, 0)
            };
            self.or_death(gone)?;
            self.threads.remove(&tid);
            self.others_run = true;
        }
        self.hurry = None;
        Ok(())
    }

    /// Stops those threads of a held process that run.
    pub(crate) fn stop_running(&mut self) -> Result<(), InjectError> {
        self.require_held()?;
        if !self.others_run {
            return Ok(());
        }
        let kept = self.thread_ids();
        let guard = self.guard;
        let started = Instant::now();
        self.hurry = Hurry::new();
        // As the thread that is held keeps other sessions out.
        let seen = self.seen;
        loop {
            let Err(error) = self.stop_all_threads(self.held_options()) else {
                self.seen = seen;
                return Ok(());
            };
            if !self.is_held() {
                return Err(error);
            }
            for tid in self.thread_ids() {
                if !kept.contains(&tid) {
                    // It may have been seized only.
                    let _ = ptrace::interrupt(tid);
                    let deadline = Instant::now() + SHORT_PATIENCE;
                    let _ = self.await_stop(tid, deadline);
                    if Some(tid) == guard {
                        self.guard = ptrace::resume(tid, 0).is_ok().then_some(tid);
                    } else {
                        let _ = ptrace::detach(tid, 0);
                    }
                    self.threads.remove(&tid);
                }
            }
            self.hurry = None;
            let is_traced = matches!(
                error,
                InjectError::AlreadyTraced { .. } | InjectError::PermissionDenied { .. }
            );
            if !is_traced || started.elapsed() > SHORT_PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop_free(&mut self, one: bool) -> Result<(), InjectError> {
        if matches!(self.state, State::Exited(_)) {
            return Err(self.exited());
        }
        if let Some(status) = self.try_wait()? {
            return Err(InjectError::Exited {
                pid: self.pid,
                status,
            });
        }
        if !one {
            self.hurry = Hurry::new();
        }
        self.stop_when_free(one)?;
        // Threads were seized by number. The pidfd proves that the number was still that of our
        // process: it is alive.
        if self.has_ended() {
            let _ = self.release();
            return Err(self.note_death());
        }
        if let Some(mapping) = self.maps()?.iter().find(|mapping| mapping.perms.read) {
            let mut byte = [0];
            // An address space that was left by exec reads as empty.
            if self.read(mapping.start, &mut byte).is_err() {
                self.forget_address_space()?;
            }
        }
        Ok(())
    }

    /// The reason behind a refused PTRACE_SEIZE of a thread, of which another tracer may have only some.
    pub(crate) fn explain_refusal(&mut self, thread: Pid, error: InjectError) -> InjectError {
        match Status::read(thread) {
            Ok(status) if status.tracer != Pid(0) => already_traced(self.pid, status.tracer),
            _ => explain(self.pid, error),
        }
    }
}

/// What `/proc/PID/status` says (proc_pid_status(5)).
struct Status {
    leader: Pid,
    state: char,
    tracer: Pid,
    /// Real and effective user ID.
    uids: [u32; 2],
}

impl Status {
    fn read(pid: Pid) -> Result<Status, InjectError> {
        let path = format!("/proc/{pid}/status");
        let text = match read_proc(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                return Err(InjectError::NoSuchProcess { pid });
            }
            Err(source) => return Err(InjectError::Proc { path, source }),
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':'))
                .unwrap_or("")
                .trim()
        };
        let number = |name: &str| field(name).parse().ok();
        let mut uids = field("Uid")
            .split_ascii_whitespace()
            .map(|uid| uid.parse().unwrap_or(0));
        Ok(Status {
            leader: number("Tgid").map_or(pid, Pid),
            state: field("State").chars().next().unwrap_or('?'),
            tracer: Pid(number("TracerPid").unwrap_or(0)),
            uids: [uids.next().unwrap_or(0), uids.next().unwrap_or(0)],
        })
    }
}

/// Whether a process lives and nobody traces its leader.
pub(crate) fn is_untraced(pid: Pid) -> bool {
    Status::read(pid)
        .is_ok_and(|status| status.tracer == Pid(0) && !matches!(status.state, 'Z' | 'X'))
}

/// Finds out why the kernel said no.
fn explain(pid: Pid, error: InjectError) -> InjectError {
    let errno = match &error {
        InjectError::Ptrace { source, .. } | InjectError::Proc { source, .. } => {
            source.raw_os_error()
        }
        _ => None,
    };
    match errno {
        Some(libc::ESRCH | libc::ENOENT) => return InjectError::NoSuchProcess { pid },
        Some(libc::EPERM | libc::EACCES) => {}
        _ => return error,
    }
    let Ok(status) = Status::read(pid) else {
        return InjectError::NoSuchProcess { pid };
    };
    // What has ended is nobody's to trace.
    if matches!(status.state, 'Z' | 'X') {
        return InjectError::Zombie { pid };
    }
    if status.tracer != Pid(0) {
        return already_traced(pid, status.tracer);
    }
    // SAFETY: no arguments.
    let caller = unsafe { libc::geteuid() };
    if caller != 0 {
        let [real, effective] = status.uids;
        if real != caller {
            return InjectError::OtherUser {
                pid,
                owner: user_name(real),
            };
        }
        // The files of /proc/PID of a process that is not dumpable belong to root (proc(5)).
        let owner = fs::metadata(format!("/proc/{pid}")).map_or(real, |metadata| metadata.uid());
        if effective != caller || owner != effective {
            return InjectError::NotDumpable { pid };
        }
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    if let Some(scope) = scope.ok().and_then(|text| text.trim().parse().ok())
        && scope > 0
        && (caller != 0 || scope == 3)
    {
        return InjectError::Yama { pid, scope };
    }
    let source = io::Error::from_raw_os_error(errno.unwrap_or(libc::EPERM));
    InjectError::PermissionDenied { pid, source }
}

fn already_traced(pid: Pid, tracer: Pid) -> InjectError {
    InjectError::AlreadyTraced {
        pid,
        tracer,
        tracer_name: command_name(tracer),
    }
}

/// Whether a thread is one of this process.
fn is_this_process(tid: Pid) -> bool {
    std::path::Path::new(&format!("/proc/self/task/{tid}")).exists()
}

/// Whether a process runs this same program.
fn is_ours(pid: Pid) -> bool {
    let program = |of: &str| {
        let metadata = fs::metadata(format!("/proc/{of}/exe")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let me = program("self");
    me.is_some() && program(&pid.to_string()) == me || command_name(pid) == "spile"
}

fn command_name(pid: Pid) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

fn is_kernel_thread(pid: Pid) -> bool {
    let stat = read_proc(&format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit_once(')').and_then(|(_, rest)| {
        // Field 9 (proc_pid_stat(5)); `rest` begins with field 3.
        rest.split_ascii_whitespace()
            .nth(9 - 3)?
            .parse::<u64>()
            .ok()
    });
    flags.is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

/// Fails unless the process runs a 64-bit x86 ELF program.
pub(crate) fn check_architecture(pid: Pid) -> Result<(), InjectError> {
    let exe = format!("/proc/{pid}/exe");
    let mut header = [0; 20];
    let file = fs::File::open(&exe);
    let read = file.and_then(|mut file| io::Read::read_exact(&mut file, &mut header));
    match read {
        Ok(()) => {}
        // Not a matter of architecture; what needs the file will say so.
        Err(_) => return Ok(()),
    }
    let program = fs::read_link(&exe).unwrap_or_else(|_| PathBuf::from(&exe));
    let machine = u16::from_le_bytes([header[18], header[19]]);
    // e_ident and e_machine: System V ABI, chapter 4; machine numbers from elf.h.
    let what = match (header[4], machine) {
        (2, 62) => return Ok(()),
        (1, 3) => "a 32-bit x86 (i386) program".to_owned(),
        (1, 62) => "an x32 program".to_owned(),
        (1, _) => format!("a 32-bit program for ELF machine {machine}"),
        (_, 183) => "an aarch64 program".to_owned(),
        _ => format!("a program for ELF machine {machine}"),
    };
    Err(InjectError::ForeignArchitecture { program, what })
}
