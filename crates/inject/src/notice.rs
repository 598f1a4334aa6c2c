//! What a watched process tells of itself.

use std::path::PathBuf;

use crate::process::Pid;
use crate::seccomp::Filter;

/// What to be told of, with [`Process::watch`](crate::Process::watch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    /// Libraries that are loaded or unloaded.
    pub libraries: bool,
    /// Processes that are made.
    pub forks: bool,
    /// They wait for an answer before they do anything.
    pub hold_forks: bool,
    /// Programs about to be replaced.
    pub execs: bool,
    /// Threads that begin and end.
    pub threads: bool,
    /// Processes that end by exit.
    pub exits: bool,
    /// Filters of system calls (seccomp(2)) that are about to be installed.
    pub filters: bool,
    /// Processes about to lock all their memory (mlockall(2)).
    pub memory_locks: bool,
}

/// Something that happened in a watched process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The process that it happened in, numbered as the tracer sees it.
    pub pid: Pid,
    /// The thread, numbered as the tracer sees it.
    pub tid: Pid,
    /// The process that was given to [`Process::watch`](crate::Process::watch): this one, or an
    /// ancestor from which it was forked, hooks and all.
    pub watched: Pid,
    /// What happened.
    pub kind: NoticeKind,
    /// Where on the board it was.
    pub(crate) entry: usize,
    /// Tells it from others at the same place.
    pub(crate) sequence: u64,
    pub(crate) waits: bool,
}

impl Notice {
    /// Whether the thread waits for [`NoticeBoard::answer`](crate::NoticeBoard::answer).
    pub fn waits(&self) -> bool {
        self.waits
    }
}

/// What a [`Notice`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoticeKind {
    /// Libraries have been mapped, and none of their constructors has run; or some have been
    /// unmapped. The thread waits in the dynamic linker, holding its lock; others run on.
    Libraries,
    /// The thread is about to make execve(2) or execveat(2), and waits.
    Exec {
        /// The file to be executed, as the process names it, made absolute where it is relative;
        /// `None` when that cannot be told.
        program: Option<PathBuf>,
    },
    /// This process has come into being; told by itself, which waits if [`Watch::hold_forks`] says so.
    Forked {
        /// It shares its parent's memory (vfork(2), posix_spawn(3)) until it makes an execve or
        /// ends.
        shares_memory: bool,
    },
    /// This thread has begun.
    ThreadStarted,
    /// This thread is about to end.
    ThreadEnding,
    /// The thread is about to confine itself, or its process, to some system calls, and waits.
    Confining {
        /// How; `None` when the call will fail, or asks something else.
        filter: Option<Filter>,
    },
    /// The thread is about to make mlockall(2), which fills all that is mapped with pages, and waits.
    LockingMemory,
    /// The process is about to end by exit_group(2). (One that is killed says nothing.)
    Exiting {
        /// As given to exit(2); the parent sees its low eight bits.
        status: i32,
    },
}
