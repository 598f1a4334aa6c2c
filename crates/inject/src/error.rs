//! What can go wrong while a process is launched, attached to or changed.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use crate::process::{ExitStatus, Pid};

/// The reason why an operation on a process failed.
///
/// Messages are written for the person at the terminal: they name the process, address or
/// system call concerned and, where there is something to do about it, say what.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// The program to launch does not exist (`ENOENT` from execve(2), or nothing on `PATH`).
    #[error("{}: command not found", .program.display())]
    CommandNotFound {
        /// As given to [`crate::Launch`].
        program: OsString,
    },
    /// execve(2) or a step between fork and execve failed.
    #[error("cannot run {}: {step}: {source}", .program.display())]
    Launch {
        /// As given to [`crate::Launch`].
        program: OsString,
        /// What was being done: `execve`, `chdir`, `setuid` …
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// What /proc says of a number is about another process than the one that system calls mean by it.
    #[error(
        "/proc is not mounted, or is that of another PID namespace; processes can be probed where it is this one's (`mount -t proc proc /proc`)"
    )]
    ForeignProc,
    /// No process has this number.
    #[error("no process {pid}")]
    NoSuchProcess {
        /// The number asked for.
        pid: Pid,
    },
    /// The process belongs to someone else and the caller has no `CAP_SYS_PTRACE`.
    #[error(
        "permission denied for process {pid}: it belongs to user {owner}, not to you; run as that user or as root"
    )]
    OtherUser {
        /// The process.
        pid: Pid,
        /// Name (or number) of its user.
        owner: String,
    },
    /// The Yama security module forbids tracing (see `Documentation/admin-guide/LSM/Yama.rst`).
    #[error(
        "permission denied for process {pid}: kernel.yama.ptrace_scope is {scope} ({}); {}",
        yama_meaning(*.scope),
        yama_remedy(*.scope)
    )]
    Yama {
        /// The process.
        pid: Pid,
        /// The value of `/proc/sys/kernel/yama/ptrace_scope`.
        scope: u32,
    },
    /// Another tracer (gdb, strace, another Spile in mid-change) holds the process.
    #[error("process {pid} is already being traced by process {tracer} ({tracer_name})")]
    AlreadyTraced {
        /// The process.
        pid: Pid,
        /// Its `TracerPid`.
        tracer: Pid,
        /// The tracer's command name, empty when unknown.
        tracer_name: String,
    },
    /// Its control group is frozen, as that of a container that was paused.
    #[error(
        "process {pid} is frozen with its control group {group} (as by 'docker pause') and does nothing until it is thawed"
    )]
    Frozen {
        /// The process.
        pid: Pid,
        /// The control group, as `/proc/PID/cgroup` names it.
        group: String,
    },
    /// The process is a kernel thread.
    #[error("process {pid} ({name}) is a kernel thread; it has no program to probe")]
    KernelThread {
        /// The process.
        pid: Pid,
        /// Its command name.
        name: String,
    },
    /// The process has ended and only waits to be reaped.
    #[error("process {pid} has already ended (it is a zombie)")]
    Zombie {
        /// The process.
        pid: Pid,
    },
    /// The process is not dumpable: set-user-ID, or with file capabilities, or it asked for it
    /// (`PR_SET_DUMPABLE`, see ptrace(2) "Ptrace access mode checking").
    #[error(
        "permission denied for process {pid}: its program is set-user-ID or otherwise protected from tracing by its own user; run as root"
    )]
    NotDumpable {
        /// The process.
        pid: Pid,
    },
    /// Launching a set-user-ID program under ptrace would silently strip its privilege.
    #[error(
        "{} is a set-user-ID or set-group-ID program; traced by an ordinary user it would run without its privileges; run as root",
        .program.display()
    )]
    SetuidProgram {
        /// The program's path.
        program: PathBuf,
    },
    /// Permission was denied for none of the known reasons (another security module, a container).
    #[error("permission denied for process {pid}: {source}")]
    PermissionDenied {
        /// The process.
        pid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program is not x86-64 ELF.
    #[error("{}: {what}; only 64-bit x86 programs can be probed", .program.display())]
    ForeignArchitecture {
        /// The program's path.
        program: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// Another thread of a process of which one was held ran another program.
    #[error("process {pid} has begun to run another program meanwhile")]
    Replaced {
        /// The process.
        pid: Pid,
    },
    /// The process ended.
    #[error("process {pid} {status}")]
    Exited {
        /// The process.
        pid: Pid,
        /// How it ended.
        status: ExitStatus,
    },
    /// The process ended while it was being started, before its libraries were loaded.
    #[error("process {pid} {status} before its program started")]
    DiedStarting {
        /// The process.
        pid: Pid,
        /// How it ended.
        status: ExitStatus,
    },
    /// A thread did not stop in time: it waits in the kernel where no signal reaches it, for a
    /// `vfork` child or a device.
    #[error(
        "thread {tid} of process {pid} cannot be stopped (state {state}): it waits inside the kernel, for a vfork child or a device; try again later"
    )]
    Unstoppable {
        /// The process.
        pid: Pid,
        /// The thread.
        tid: Pid,
        /// The state letter of `/proc/PID/stat`.
        state: char,
    },
    /// A ptrace(2) request failed.
    #[error("ptrace {request} of thread {tid}: {source}")]
    Ptrace {
        /// The request, as ptrace(2) names it.
        request: &'static str,
        /// The thread.
        tid: Pid,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A system call of our own failed.
    #[error("{call}: {source}")]
    System {
        /// The system call and what it was for.
        call: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The process may not have the descriptors that it is handed our memory by.
    #[error(
        "process {pid} has no room for three more file descriptors, which it needs for a moment (its RLIMIT_NOFILE, `ulimit -n`; prlimit(1) raises it)"
    )]
    NoDescriptors {
        /// The process.
        pid: Pid,
    },
    /// A system call executed by the process on our behalf failed.
    #[error("{call} inside process {pid}: {source}{}", way_out(.source))]
    Remote {
        /// The process.
        pid: Pid,
        /// The system call.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A seccomp filter may kill the process for the system calls that Spile has it make.
    #[error(
        "process {pid} is confined by seccomp (mode {mode}); root is needed to have it make system calls safely"
    )]
    Seccomp {
        /// The process.
        pid: Pid,
        /// `Seccomp:` of `/proc/PID/status`: 1 strict, 2 filter.
        mode: u32,
    },
    /// The process has no `syscall` instruction in any executable mapping.
    #[error("process {pid} has no syscall instruction that could be borrowed")]
    NoSyscallInstruction {
        /// The process.
        pid: Pid,
    },
    /// Memory of the process could not be read.
    #[error("cannot read {len} bytes at {address:#x} of process {pid}: {source}")]
    Read {
        /// The process.
        pid: Pid,
        /// Absolute address.
        address: u64,
        /// Bytes wanted.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Memory of the process could not be written.
    #[error("cannot write {len} bytes at {address:#x} of process {pid}: {source}")]
    Write {
        /// The process.
        pid: Pid,
        /// Absolute address.
        address: u64,
        /// Bytes to be written.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file of `/proc` could not be read or made no sense.
    #[error("{path}: {source}")]
    Proc {
        /// The file.
        path: String,
        /// The kernel's answer or what was wrong with the content.
        source: io::Error,
    },
    /// No free address space near enough to code for a five-byte jump.
    #[error(
        "process {pid} has no free address space of {len} bytes within 2 GiB of {start:#x}-{end:#x}"
    )]
    NoRoomNear {
        /// The process.
        pid: Pid,
        /// Start of the code that must reach it.
        start: u64,
        /// Its end.
        end: u64,
        /// Bytes wanted.
        len: u64,
    },
    /// The operation needs the process stopped by [`crate::Process::stop_again`].
    #[error("process {pid} is running free; stop it first")]
    NotHeld {
        /// The process.
        pid: Pid,
    },
    /// The process was stopped by another thread of this program; ptrace(2) binds a tracee to the
    /// thread that attached.
    #[error("process {pid} is held by another thread of this program")]
    WrongThread {
        /// The process.
        pid: Pid,
    },
    /// A binary of the process could not be read.
    #[error("{}: {source}", .path.display())]
    Binary {
        /// Its path, as the process sees it.
        path: PathBuf,
        /// What is wrong with it.
        source: symbols::SymbolsError,
    },
    /// No such function in an image.
    #[error("no function {name} in {}", .image.display())]
    NoSuchFunction {
        /// The name asked for.
        name: String,
        /// The image's path.
        image: PathBuf,
    },
    /// A kind of point that cannot be instrumented yet.
    #[error("{what} points are not supported yet")]
    NotSupported {
        /// The kind of point.
        what: &'static str,
    },
}

impl InjectError {
    /// True when the error only says that the process has ended.
    pub fn is_exit(&self) -> bool {
        matches!(
            self,
            InjectError::Exited { .. } | InjectError::DiedStarting { .. }
        )
    }
}

fn yama_meaning(scope: u32) -> &'static str {
    match scope {
        1 => "only descendants may be traced",
        2 => "only root may trace",
        3 => "nobody may trace until the next boot",
        _ => "unrestricted",
    }
}

fn yama_remedy(scope: u32) -> &'static str {
    match scope {
        3 => "reboot with another setting",
        2 => "run as root or `sudo sysctl kernel.yama.ptrace_scope=0`",
        _ => {
            "run `sudo sysctl kernel.yama.ptrace_scope=0`, start the program with -c, or run as root"
        }
    }
}

/// Which of a process's limits a system call made in it ran into.
fn way_out(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            "; its RLIMIT_DATA or RLIMIT_AS, `ulimit -d` and `-v`, may be used up: raise them with prlimit(1)"
        }
        _ => "",
    }
}
