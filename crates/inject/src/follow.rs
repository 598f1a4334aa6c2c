//! From a process to its children: those that it forks, and the programs that they become.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attach::check_architecture;
use crate::error::InjectError;
use crate::notice::{Notice, NoticeKind};
use crate::notice_board::NoticeBoard;
use crate::process::{ExitStatus, Pid, Process, State};
use crate::ptrace::{self, Event};
use crate::stop::Thread;

/// How long an execve may take. What takes longer is let go.
const EXEC_TIMEOUT: Duration = Duration::from_secs(10);

/// Options while a program is followed from its exec to the loading of its libraries.
const OPTIONS: i32 = ptrace::HELD_OPTIONS
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK;

impl NoticeBoard {
    /// Takes hold of the program that a process is about to become, which has announced that with a
    /// [`NoticeKind::Exec`]: held when its libraries are loaded and none of their code has run, as with
    /// [`Process::launch`] and [`Process::run_to_libraries_loaded`]. Nothing that was in the process before is in it. The
    /// thread may be any thread of the process, and the process a child made by vfork(2) or posix_spawn(3).
    ///
    /// `None`: there is no new program, as the call failed or the notice is about something else; the process runs on.
    /// The notice counts as answered in any case.
    ///
    /// # Errors
    /// The process was let go and runs on: [`InjectError::SetuidProgram`] for a program that would lose the privileges
    /// that its file gives, [`InjectError::ForeignArchitecture`], [`InjectError::AlreadyTraced`];
    /// [`InjectError::Exited`], [`InjectError::DiedStarting`].
    pub fn follow_exec(&self, notice: &Notice) -> Result<Option<Process>, InjectError> {
        let followed = self.follow(notice);
        self.answer(notice);
        followed
    }

    fn follow(&self, notice: &Notice) -> Result<Option<Process>, InjectError> {
        let NoticeKind::Exec { program } = &notice.kind else {
            return Ok(None);
        };
        let Some(program) = program else {
            return Ok(None);
        };
        check_privileges(notice.pid, program)?;
        let tid = notice.tid;
        // What is known of the process as it is explains a refusal.
        let mut old = Process::new(notice.pid, false)?;
        ptrace::seize(tid, OPTIONS).map_err(|error| old.explain_refusal(tid, error))?;
        drop(old);
        let arrived = self.run_to_exec(notice);
        match arrived {
            Ok(true) => {}
            Ok(false) => {
                let _ = ptrace::detach(tid, 0);
                return Ok(None);
            }
            Err(error) => {
                let_go(tid);
                return Err(error);
            }
        }
        let pid = notice.pid;
        if let Err(error) = check_architecture(pid) {
            let _ = ptrace::detach(pid, 0);
            return Err(error);
        }
        let mut process = Process::new(pid, false)?;
        process.state = State::Held(std::thread::current().id());
        // From the stop inside execve to one that system calls can be injected from.
        ptrace::interrupt(pid)?;
        ptrace::resume(pid, 0)?;
        process.threads.insert(pid, Thread::Stopping);
        process.await_stop(pid, Instant::now() + EXEC_TIMEOUT)?;
        process.run_to_libraries_loaded()?;
        for tid in process.thread_ids() {
            let set = ptrace::set_options(tid, ptrace::HELD_OPTIONS);
            process.or_death(set)?;
        }
        Ok(Some(process))
    }

    /// Lets the poster go on to the end of its system call. `false`, stopped at its end: it failed.
    fn run_to_exec(&self, notice: &Notice) -> Result<bool, InjectError> {
        let (pid, tid) = (notice.pid, notice.tid);
        let deadline = Instant::now() + EXEC_TIMEOUT;
        let lost = || InjectError::Exited {
            pid,
            status: ExitStatus::Unknown,
        };
        ptrace::interrupt(tid)?;
        let mut answered = false;
        let mut inside = false;
        let mut pause = Duration::from_micros(20);
        loop {
            // The thread that makes the call bears the number of the process afterwards.
            let event = match ptrace::poll_event(tid) {
                Ok(None) if tid != pid => ptrace::poll_event(pid).unwrap_or(None),
                Err(_) if tid != pid => ptrace::poll_event(pid).map_err(|_| lost())?,
                other => other.map_err(|_| lost())?,
            };
            let Some(event) = event else {
                if Instant::now() > deadline {
                    return Err(InjectError::Unstoppable {
                        pid,
                        tid,
                        state: 'R',
                    });
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(1));
                continue;
            };
            pause = Duration::from_micros(20);
            let signal = match event {
                Event::Exec => return Ok(true),
                Event::Exited(status) => return Err(InjectError::Exited { pid, status }),
                Event::Syscall => {
                    let registers = ptrace::registers(tid)?;
                    let number = registers.orig_rax as i64;
                    let is_exec = matches!(number, libc::SYS_execve | libc::SYS_execveat);
                    if inside && is_exec && (registers.rax as i64) < 0 {
                        return Ok(false);
                    }
                    inside = is_exec;
                    0
                }
                Event::Signal(signal) => signal,
                Event::GroupStop => {
                    ptrace::listen(tid)?;
                    continue;
                }
                Event::Interrupted => {
                    if !answered {
                        answered = true;
                        self.answer(notice);
                    }
                    0
                }
                // Children made by a signal handler meanwhile.
                Event::Fork | Event::Clone => {
                    let child = Pid(ptrace::event_message(tid)? as i32);
                    let_go(child);
                    0
                }
            };
            ptrace::resume_to_syscall_with(tid, signal)?;
        }
    }
}

impl Process {
    /// Takes over from what was known of the process before it replaced its program: whether it is a child of ours, so that
    /// we learn how it ends.
    pub fn succeed(&mut self, before: &Process) {
        self.child = before.child && before.pid == self.pid;
    }

    /// A child that this process has forked while it ran, with all that had been put into it: snippets, hooks, mappings.
    /// It runs free; once held ([`Process::stop_again`]) what was inserted before the fork can be removed from it, and
    /// more be inserted. Each process bears its own copy of the code: what is done to one is not done to the other,
    /// while memory that was [shared](Process::share) is one and the same.
    ///
    /// Not for a child that shares its parent's memory (vfork(2)): what is done to that is done to both.
    ///
    /// # Errors
    /// [`InjectError::NoSuchProcess`] when it has ended.
    pub fn adopt_child(&self, child: Pid) -> Result<Process, InjectError> {
        let mut process = Process::new(child, false)?;
        process.syscall_instruction = self.syscall_instruction;
        process.watching = self.watching.clone();
        process.shown_to_debuggers = self.shown_to_debuggers.clone();
        Ok(process)
    }
}

/// Stops tracing a thread that may be running.
fn let_go(tid: Pid) {
    let _ = ptrace::interrupt(tid);
    let deadline = Instant::now() + Duration::from_secs(2);
    while let Ok(Some(event)) = ptrace::wait_event_until(tid, deadline) {
        match event {
            Event::Exited(_) => return,
            Event::Interrupted | Event::GroupStop => break,
            Event::Signal(signal) => {
                let _ = ptrace::resume(tid, signal);
            }
            _ => {
                let _ = ptrace::resume(tid, 0);
            }
        }
    }
    let _ = ptrace::detach(tid, 0);
}

/// Refuses what would silently run without its privileges: a file's are not given to a traced process unless its tracer
/// has them all (execve(2)).
fn check_privileges(pid: Pid, program: &Path) -> Result<(), InjectError> {
    // SAFETY: no arguments.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if uid == 0 {
        return Ok(());
    }
    let inside = program.strip_prefix("/").unwrap_or(program);
    let file = Path::new(&format!("/proc/{pid}/root")).join(inside);
    let Ok(metadata) = std::fs::metadata(&file) else {
        return Ok(());
    };
    let mode = metadata.permissions().mode();
    let capable = rustix::fs::getxattr(&file, "security.capability", &mut [0u8; 64][..]).is_ok();
    if mode & libc::S_ISUID != 0 && metadata.uid() != uid
        || mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP
            && metadata.gid() != gid
        || capable
    {
        let program = program.to_owned();
        return Err(InjectError::SetuidProgram { program });
    }
    Ok(())
}
