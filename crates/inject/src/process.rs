//! A process, held or running free, and what is known of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};
use symbols::Mapping;

use crate::error::InjectError;
use crate::escape::Escape;
use crate::near::CodePools;
use crate::owner::Owner;
use crate::patcher::Patches;
use crate::priority::Hurry;
use crate::proc_file::{read_maps, read_proc};
use crate::ptrace;
use crate::reconcile::Seen;
use crate::record::Mapped;
use crate::stop::{Thread, thread_state};
use crate::watch::Watching;

/// `PF_EXITING` of the kernel's task flags: its last thread, or the leader, is in exit(2).
const EXITING: u64 = 4;

/// A process or thread number, as seen from the caller's PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit with this status.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// It is gone and, as it was not our child, its status went to its parent.
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exited with status {code}"),
            ExitStatus::Signal(signal) => write!(f, "was killed by signal {signal}"),
            ExitStatus::Unknown => f.write_str("has ended"),
        }
    }
}

/// Whether we stop the process or it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Every thread is seized by ptrace and stopped, by this thread of ours.
    Held(ThreadId),
    /// Not traced.
    Free,
    /// Gone.
    Exited(ExitStatus),
}

/// A process under Spile's control: launched or attached to.
///
/// It is either *held* (all threads stopped, ptrace attached) or *free*. Memory can be read and
/// written in both states; everything else that changes it needs it held and answers
/// [`InjectError::NotHeld`] otherwise. One thread is enough for what is done before code is changed:
/// [`Process::stop_one_thread`].
///
/// Dropping a held process releases it: it is never left stopped. Patches stay in place when it
/// is dropped, complete ones only.
pub struct Process {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) child: bool,
    pub(crate) state: State,
    pub(crate) threads: BTreeMap<Pid, Thread>,
    /// Only one of the threads is stopped; the others run.
    pub(crate) others_run: bool,
    /// Of the threads that run, the one that is traced nevertheless.
    pub(crate) guard: Option<Pid>,
    /// Kept while threads that ran before are all stopped.
    pub(crate) hurry: Option<Hurry>,
    pub(crate) memory: File,
    /// Address of a `syscall` instruction in the process.
    pub(crate) syscall_instruction: Option<u64>,
    /// Where borrowed threads stand.
    pub(crate) escape: Option<Escape>,
    pub(crate) pools: CodePools,
    /// Who we are, to other sessions in the same process.
    pub(crate) me: Owner,
    /// Executable memory of other sessions.
    pub(crate) others: BTreeMap<Owner, CodePools>,
    /// What has been looked at of that which other sessions did while the process was free.
    pub(crate) seen: Seen,
    /// Others' chunks changed, which our books of the sites do not say yet: however often the process is let go in between.
    pub(crate) is_behind: bool,
    pub(crate) patches: Patches,
    /// Mappings made by `share` and `map_private`, by their start, and where they are written down.
    pub(crate) mappings: BTreeMap<u64, (Mapped, Option<u64>)>,
    /// A launched process between exec and its first release, with nothing of ours to lose.
    pub(crate) kill_on_drop: bool,
    /// A SIGSTOP that arrived while a system call was injected, to be sent again at release.
    pub(crate) owes_stop: bool,
    /// What it tells us of itself, if anything.
    pub(crate) watching: Option<Watching>,
    /// A thread that was seized and did not stop: it stays seized until it does, or we end.
    pub(crate) unstoppable: Option<Pid>,
    /// The thread whose notice is dealt with by a removal.
    pub(crate) waiting: Option<Pid>,
    /// How often the program was seen to be replaced by exec.
    pub(crate) execs: u32,
    /// Files that debuggers are told of.
    pub(crate) shown_to_debuggers: Vec<Arc<File>>,
}

/// Whether /proc numbers processes as ptrace(2) and pidfd_open(2) do: otherwise one process would be stopped, and the memory of
/// another one written to. `NSpid` has our numbers in the PID namespace of that mount and in those below, down to our own
/// (proc_pid_status(5)).
fn has_own_proc() -> bool {
    static OWN: OnceLock<bool> = OnceLock::new();
    *OWN.get_or_init(|| {
        let Ok(status) = read_proc("/proc/self/status") else {
            return false;
        };
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        // A kernel without PID namespaces has no such line.
        numbers.is_none_or(|numbers| numbers.trim() == std::process::id().to_string())
    })
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid)
            .field("state", &self.state)
            .field("threads", &self.threads.keys())
            .finish_non_exhaustive()
    }
}

impl Process {
    /// A process that is not held yet; its memory is opened.
    pub(crate) fn new(pid: Pid, child: bool) -> Result<Process, InjectError> {
        let raw = rustix::process::Pid::from_raw(pid.0).filter(|_| pid.0 > 0);
        let raw = raw.ok_or(InjectError::NoSuchProcess { pid })?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| match error {
            Errno::SRCH | Errno::INVAL | Errno::NOENT => InjectError::NoSuchProcess { pid },
            other => InjectError::System {
                call: format!("pidfd_open of process {pid}"),
                source: other.into(),
            },
        })?;
        if !has_own_proc() {
            return Err(InjectError::ForeignProc);
        }
        let memory = open_memory(pid)?;
        Ok(Process {
            pid,
            pidfd,
            child,
            state: State::Free,
            threads: BTreeMap::new(),
            others_run: false,
            guard: None,
            hurry: None,
            memory,
            syscall_instruction: None,
            escape: None,
            pools: CodePools::default(),
            me: Owner::me(),
            others: BTreeMap::new(),
            seen: Seen::default(),
            is_behind: false,
            patches: Patches::default(),
            mappings: BTreeMap::new(),
            kill_on_drop: false,
            owes_stop: false,
            watching: None,
            unstoppable: None,
            waiting: None,
            execs: 0,
            shown_to_debuggers: Vec::new(),
        })
    }

    /// The process number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A pidfd (pidfd_open(2)) of the process: becomes readable when it ends, never means another
    /// process.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// True while the process is stopped by us.
    pub fn is_held(&self) -> bool {
        matches!(self.state, State::Held(_))
    }

    /// Whether memory of ours is in the process that has to be taken out of it again. One that is being started is
    /// killed with us instead.
    pub fn holds_ours(&self) -> bool {
        let has_any = self.escape.is_some() || !self.mappings.is_empty() || !self.pools.is_empty();
        has_any && !self.kill_on_drop
    }

    /// True when the process was launched by us and thus is our child.
    pub fn is_child(&self) -> bool {
        self.child
    }

    /// The threads that are stopped: all, unless [`Process::stop_one_thread`] was asked for.
    pub fn thread_ids(&self) -> Vec<Pid> {
        self.threads.keys().copied().collect()
    }

    /// Whether the process has a single thread now.
    pub fn has_one_thread(&self) -> bool {
        self.count_threads() == Some(1)
    }

    /// How often an exec was noticed: when this grows, all insertions and mappings are gone with
    /// the old program.
    pub fn exec_count(&self) -> u32 {
        self.execs
    }

    /// The process's memory mappings now.
    ///
    /// # Errors
    /// [`InjectError::Proc`] when `/proc/PID/maps` cannot be read, [`InjectError::Exited`].
    pub fn maps(&self) -> Result<Vec<Mapping>, InjectError> {
        read_maps(self.pid)
            .map_err(|source| self.proc_error(format!("/proc/{}/maps", self.pid), source))
    }

    /// Sends a signal to the process (pidfd_send_signal(2)), held or free.
    ///
    /// # Errors
    /// [`InjectError::Exited`] when it is gone, [`InjectError::System`].
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<(), InjectError> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal).map_err(|error| match error {
            Errno::SRCH => self.exited(),
            other => InjectError::System {
                call: format!("pidfd_send_signal to process {}", self.pid),
                source: other.into(),
            },
        })
    }

    /// Fails unless the process is held by the calling thread.
    pub(crate) fn require_held(&self) -> Result<(), InjectError> {
        match self.state {
            State::Held(thread) if thread == std::thread::current().id() => Ok(()),
            State::Held(_) => Err(InjectError::WrongThread { pid: self.pid }),
            State::Free => Err(InjectError::NotHeld { pid: self.pid }),
            State::Exited(status) => Err(InjectError::Exited {
                pid: self.pid,
                status,
            }),
        }
    }

    /// The ptrace options of a thread of ours at this time.
    pub(crate) fn held_options(&self) -> i32 {
        if self.kill_on_drop {
            ptrace::START_OPTIONS
        } else {
            ptrace::HELD_OPTIONS
        }
    }

    /// Whether the process has ended, also when nobody has collected its status yet.
    pub(crate) fn has_ended(&self) -> bool {
        if matches!(self.state, State::Exited(_)) {
            return true;
        }
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&now)), Ok(1))
            || matches!(thread_state(self.pid, self.pid), None | Some('Z' | 'X'))
                && !has_live_threads(self.pid)
    }

    pub(crate) fn exited(&self) -> InjectError {
        let status = match self.state {
            State::Exited(status) => status,
            _ => ExitStatus::Unknown,
        };
        InjectError::Exited {
            pid: self.pid,
            status,
        }
    }

    /// `Exited` when the file is gone because the process is.
    pub(crate) fn proc_error(&self, path: String, source: std::io::Error) -> InjectError {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => self.exited(),
            _ => InjectError::Proc { path, source },
        }
    }
}

/// Whether a process whose leader has ended lives on in other threads: such as have not ended, too,
/// and wait for their tracer to take notice.
fn has_live_threads(pid: Pid) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let tids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid));
    tids.into_iter()
        .any(|tid| !matches!(thread_state(pid, tid), None | Some('Z' | 'X')))
}

/// Opens `/proc/PID/mem`; the file stays tied to the address space that the process has now.
pub(crate) fn open_memory(pid: Pid) -> Result<File, InjectError> {
    let path = format!("/proc/{pid}/mem");
    File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|source| match source.raw_os_error() {
            // Gone, or no more than a zombie.
            Some(libc::ENOENT | libc::ESRCH) => InjectError::NoSuchProcess { pid },
            // What has no memory any more is nobody's to look into. It never gets any again, so it is soon enough to ask now.
            Some(libc::EACCES | libc::EPERM) if is_ending(pid) => {
                InjectError::NoSuchProcess { pid }
            }
            _ => InjectError::Proc { path, source },
        })
}

/// Whether a process has ended, or is ending and has given up its memory (proc_pid_stat(5)).
fn is_ending(pid: Pid) -> bool {
    let Ok(stat) = read_proc(&format!("/proc/{pid}/stat")) else {
        return true;
    };
    // Fields 3 and 9, state and flags; `rest` begins with field 3.
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_ascii_whitespace();
    let has_ended = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    has_ended || flags.is_some_and(|flags| flags & EXITING != 0)
}
