//! Starting a program, stopped before its first instruction.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::attach::check_architecture;
use crate::error::InjectError;
use crate::process::{ExitStatus, Pid, Process, State};
use crate::ptrace::{self, Event};
use crate::stop::Thread;

/// Who a launched program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// Real, effective and saved user ID.
    pub uid: u32,
    /// Real, effective and saved group ID.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A program to launch: what execve(2) needs. Standard input, output and error are inherited
/// unless replaced.
#[derive(Debug)]
pub struct Launch {
    program: OsString,
    args: Vec<OsString>,
    env: Option<Vec<(OsString, OsString)>>,
    cwd: Option<PathBuf>,
    stdio: [Option<OwnedFd>; 3],
    run_as: Option<RunAs>,
}

impl Launch {
    /// A program by path, or by a name to be found on `PATH` as execvp(3) does.
    pub fn new(program: impl AsRef<OsStr>) -> Launch {
        Launch {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: None,
            cwd: None,
            stdio: [None, None, None],
            run_as: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Launch {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Launch {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Replaces the whole environment (inherited by default).
    #[must_use]
    pub fn env(mut self, env: Vec<(OsString, OsString)>) -> Launch {
        self.env = Some(env);
        self
    }

    /// The working directory (inherited by default).
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Launch {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Replaces standard input.
    #[must_use]
    pub fn stdin(mut self, fd: OwnedFd) -> Launch {
        self.stdio[0] = Some(fd);
        self
    }

    /// Replaces standard output.
    #[must_use]
    pub fn stdout(mut self, fd: OwnedFd) -> Launch {
        self.stdio[1] = Some(fd);
        self
    }

    /// Replaces standard error.
    #[must_use]
    pub fn stderr(mut self, fd: OwnedFd) -> Launch {
        self.stdio[2] = Some(fd);
        self
    }

    /// Runs it as another user, which needs the privilege to.
    #[must_use]
    pub fn run_as(mut self, who: RunAs) -> Launch {
        self.run_as = Some(who);
        self
    }

    /// The files that execvp(3) would try, in order.
    fn candidates(&self) -> Vec<PathBuf> {
        if self.program.as_bytes().contains(&b'/') {
            return vec![PathBuf::from(&self.program)];
        }
        let path = match &self.env {
            Some(env) => env
                .iter()
                .find(|(name, _)| name == "PATH")
                .map(|(_, value)| value.clone()),
            None => std::env::var_os("PATH"),
        };
        let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
        std::env::split_paths(&path)
            .map(|dir| dir.join(&self.program))
            .collect()
    }

    fn failed(&self, step: &'static str, source: io::Error) -> InjectError {
        InjectError::Launch {
            program: self.program.clone(),
            step,
            source,
        }
    }

    /// Everything that the child needs between fork and execve, where it may not allocate.
    fn prepare(&self) -> Result<Prepared, InjectError> {
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|error| self.failed("argument", error.into()))
        };
        let mut candidates = Vec::new();
        let searched = !self.program.as_bytes().contains(&b'/');
        for path in self.candidates() {
            // Absent ones need not be tried; with a directory of the child's own they are relative to
            // that, and only the child can tell.
            let here = self.cwd.is_none() || path.is_absolute();
            let absent = match fs::metadata(&path) {
                Ok(_) => false,
                // Directories of PATH that may not be searched do not hold it for us either.
                Err(error) => searched || error.kind() == io::ErrorKind::NotFound,
            };
            if here && absent {
                continue;
            }
            candidates.push(text(path.as_os_str().as_bytes())?);
        }
        if candidates.is_empty() {
            return Err(InjectError::CommandNotFound {
                program: self.program.clone(),
            });
        }
        let mut args = vec![text(self.program.as_bytes())?];
        for arg in &self.args {
            args.push(text(arg.as_bytes())?);
        }
        let inherited;
        let env = match &self.env {
            Some(env) => env,
            None => {
                inherited = std::env::vars_os().collect();
                &inherited
            }
        };
        let mut variables = Vec::new();
        for (name, value) in env {
            let mut variable = name.as_bytes().to_vec();
            variable.push(b'=');
            variable.extend_from_slice(value.as_bytes());
            variables.push(text(&variable)?);
        }
        let cwd = match &self.cwd {
            Some(dir) => Some(text(dir.as_os_str().as_bytes())?),
            None => None,
        };
        Ok(Prepared {
            candidates,
            args,
            env: variables,
            cwd,
        })
    }

    /// Refuses what would silently run without its privileges.
    fn check_setuid(&self) -> Result<(), InjectError> {
        // SAFETY: no arguments.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        if uid == 0 {
            return Ok(());
        }
        for program in self.candidates() {
            let Ok(metadata) = fs::metadata(&program) else {
                continue;
            };
            let mode = metadata.mode();
            if mode & libc::S_ISUID != 0 && metadata.uid() != uid
                || mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP
                    && metadata.gid() != gid
            {
                return Err(InjectError::SetuidProgram { program });
            }
            break;
        }
        Ok(())
    }
}

struct Prepared {
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<CString>,
}

/// The steps of the child that can fail, as it reports them over a pipe.
const STEPS: [&str; 5] = ["execve", "dup2", "setuid", "chdir", "start"];
const EXECVE: u8 = 0;
const DUP2: u8 = 1;
const SETUID: u8 = 2;
const CHDIR: u8 = 3;
const START: u8 = 4;

impl Process {
    /// Launches a program and holds it before the first instruction of its dynamic linker (or its
    /// own, if static). For a script the program is its interpreter.
    ///
    /// Until [`Process::release`] the program dies with its tracer; dropped before that, it is
    /// killed. Afterwards it runs on whatever happens to the tracer.
    ///
    /// # Errors
    /// [`InjectError::CommandNotFound`], [`InjectError::Launch`], [`InjectError::SetuidProgram`],
    /// [`InjectError::ForeignArchitecture`].
    pub fn launch(launch: &Launch) -> Result<Process, InjectError> {
        launch.check_setuid()?;
        let prepared = launch.prepare()?;
        let pipe =
            || pipe_with(PipeFlags::CLOEXEC).map_err(|error| launch.failed("pipe", error.into()));
        // The child waits on the first until we trace it, and reports failures over the second.
        let (go_read, go_write) = pipe()?;
        let (report_read, report_write) = pipe()?;
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts
                .iter()
                .map(|text| text.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        let (args, env) = (pointers(&prepared.args), pointers(&prepared.env));
        // SAFETY: the child makes only async-signal-safe calls (signal-safety(7)) and allocates
        // nothing, whatever the other threads of this program were doing.
        let pid = unsafe { libc::fork() };
        if pid == -1 {
            return Err(launch.failed("fork", io::Error::last_os_error()));
        }
        if pid == 0 {
            let report = report_write.as_raw_fd();
            let go = go_read.as_raw_fd();
            // SAFETY: we are that child, and never return.
            unsafe {
                libc::close(go_write.as_raw_fd());
                child(launch, &prepared, &args, &env, go, report)
            }
        }
        drop((go_read, report_write));
        let pid = Pid(pid);
        let started = start(launch, pid, go_write, report_read);
        if started.is_err() {
            // SAFETY: a child that nobody has waited for successfully, or an error.
            unsafe {
                libc::kill(pid.0, libc::SIGKILL);
                libc::waitpid(pid.0, std::ptr::null_mut(), libc::__WALL);
            }
        }
        let mut process = started?;
        // From the stop inside execve to one that system calls can be injected from.
        ptrace::interrupt(pid)?;
        ptrace::resume(pid, 0)?;
        process.threads.insert(pid, Thread::Stopping);
        process.await_stop(pid, Instant::now() + Duration::from_secs(5))?;
        Ok(process)
    }
}

/// The parent's half: traces the waiting child, lets it go on to its exec.
fn start(launch: &Launch, pid: Pid, go: OwnedFd, report: OwnedFd) -> Result<Process, InjectError> {
    ptrace::seize(pid, ptrace::START_OPTIONS)?;
    rustix::io::write(&go, &[1]).map_err(|error| launch.failed("start", error.into()))?;
    drop(go);
    loop {
        let event = ptrace::wait_event(pid).map_err(|error| launch.failed("wait", error))?;
        match event {
            Event::Exec => break,
            Event::Exited(status) => return Err(why_not(launch, pid, status, report)),
            Event::Signal(signal) => ptrace::resume(pid, signal)?,
            Event::GroupStop => ptrace::listen(pid)?,
            _ => ptrace::resume(pid, 0)?,
        }
    }
    check_architecture(pid)?;
    let mut process = Process::new(pid, true)?;
    process.state = State::Held(std::thread::current().id());
    process.threads.insert(pid, Thread::Stopped);
    process.kill_on_drop = true;
    Ok(process)
}

/// What the child reported before it gave up.
fn why_not(launch: &Launch, pid: Pid, status: ExitStatus, report: OwnedFd) -> InjectError {
    let mut message = [0u8; 5];
    match rustix::io::read(&report, &mut message) {
        Ok(5) => {
            let [step, errno @ ..] = message;
            let errno = i32::from_le_bytes(errno);
            if step == EXECVE && errno == libc::ENOENT {
                return InjectError::CommandNotFound {
                    program: launch.program.clone(),
                };
            }
            let step = STEPS.get(usize::from(step)).copied().unwrap_or("start");
            launch.failed(step, io::Error::from_raw_os_error(errno))
        }
        _ => InjectError::DiedStarting { pid, status },
    }
}

/// The child's half.
///
/// # Safety
/// To be called only in a freshly forked child; `args` and `env` are null-terminated arrays of
/// C strings that live as long as `prepared`.
unsafe fn child(
    launch: &Launch,
    prepared: &Prepared,
    args: &[*const libc::c_char],
    env: &[*const libc::c_char],
    go: i32,
    report: i32,
) -> ! {
    let fail = |step: u8| -> ! {
        // SAFETY: async-signal-safe calls on descriptors and memory of our own.
        unsafe {
            let errno = (*libc::__errno_location()).to_le_bytes();
            let message = [step, errno[0], errno[1], errno[2], errno[3]];
            libc::write(report, message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    };
    // SAFETY: async-signal-safe system calls; every pointer is to a live object of the parent's
    // memory that was copied by fork.
    unsafe {
        let mut byte = 0u8;
        // Nothing comes when the parent died: then the program is not to start.
        if libc::read(go, (&raw mut byte).cast(), 1) != 1 {
            fail(START);
        }
        for (number, fd) in launch.stdio.iter().enumerate() {
            let Some(fd) = fd else { continue };
            let (fd, number) = (fd.as_raw_fd(), number as i32);
            let done = if fd == number {
                libc::fcntl(fd, libc::F_SETFD, 0)
            } else {
                libc::dup2(fd, number)
            };
            if done == -1 {
                fail(DUP2);
            }
        }
        if let Some(who) = &launch.run_as
            && (libc::setgroups(who.groups.len(), who.groups.as_ptr()) == -1
                || libc::setresgid(who.gid, who.gid, who.gid) == -1
                || libc::setresuid(who.uid, who.uid, who.uid) == -1)
        {
            fail(SETUID);
        }
        if let Some(dir) = &prepared.cwd
            && libc::chdir(dir.as_ptr()) == -1
        {
            fail(CHDIR);
        }
        // Rust programs ignore SIGPIPE; others expect its default.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for path in &prepared.candidates {
            libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr());
            // As execvp(3): a file that may not be run does not end the search, other failures do.
            if !matches!(
                *libc::__errno_location(),
                libc::ENOENT | libc::EACCES | libc::ENOTDIR
            ) {
                break;
            }
        }
        fail(EXECVE)
    }
}
