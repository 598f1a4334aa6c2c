//! Letting a process go, and learning how it ended.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::InjectError;
use crate::process::{ExitStatus, Process, State};
use crate::ptrace::{self, Event};
use crate::stop::{Thread, is_gone};

/// How long letting go waits for a thread that was asked to stop and has not yet.
const LAST_WAIT: Duration = Duration::from_secs(2);

impl Process {
    /// Detaches from all threads: the process runs free (`TracerPid: 0`), with whatever was
    /// inserted. One that was group-stopped (SIGSTOP) before stays so. No-op when it is free.
    ///
    /// # Errors
    /// [`InjectError::Exited`] when it died while held; [`InjectError::WrongThread`].
    pub fn release(&mut self) -> Result<(), InjectError> {
        match self.state {
            State::Free => return Ok(()),
            State::Exited(_) => return Err(self.exited()),
            State::Held(_) => self.require_held()?,
        }
        // Other sessions may look as soon as we let go.
        let _ = self.publish();
        let deadline = Instant::now() + LAST_WAIT;
        let mut failure = None;
        for (&tid, _) in self
            .threads
            .iter()
            .filter(|(_, state)| **state == Thread::Stopping)
        {
            // It may have been seized only; then it would never stop.
            let _ = ptrace::interrupt(tid);
        }
        for tid in self.thread_ids() {
            if self.threads.get(&tid) == Some(&Thread::Stopping)
                && let Err(error) = self.await_stop(tid, deadline)
            {
                failure.get_or_insert(error);
                continue;
            }
            if !self.threads.contains_key(&tid) {
                continue;
            }
            match ptrace::detach(tid, 0) {
                Ok(()) => {}
                // It is being killed; the others are, too.
                Err(error) if is_gone(&error) => return Err(self.note_death()),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        if matches!(self.state, State::Exited(_)) {
            return Err(self.exited());
        }
        self.threads.clear();
        self.others_run = false;
        self.hurry = None;
        // Last, as it is what other sessions wait for.
        if let Some(status) = self.dismiss_guard() {
            self.state = State::Exited(status);
            return Err(self.exited());
        }
        self.state = State::Free;
        self.kill_on_drop = false;
        if std::mem::take(&mut self.owes_stop) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::STOP);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// How the process ended, if it has; never blocks. A child of ours is reaped by this; for
    /// other processes the status is [`ExitStatus::Unknown`]. To wait, poll [`Process::exit_fd`].
    ///
    /// # Errors
    /// [`InjectError::System`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, InjectError> {
        match self.state {
            State::Exited(status) => return Ok(Some(status)),
            State::Held(_) => return Ok(None),
            State::Free => {}
        }
        if let Some(guard) = self.guard
            && self.has_ended()
        {
            // A leader that had ended before its process, whose end we have kept from its parent until now.
            self.guard = None;
            let told = ptrace::wait_event_until(guard, Instant::now() + LAST_WAIT);
            if let Ok(Some(Event::Exited(status))) = told {
                self.state = State::Exited(status);
                return Ok(Some(status));
            }
        }
        let failed = |call: &str, pid, error: Errno| InjectError::System {
            call: format!("{call} for process {pid}"),
            source: error.into(),
        };
        let status = if self.child {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(self.exit_fd()), options) {
                Ok(None) => None,
                Ok(Some(status)) => {
                    Some(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => ExitStatus::Code(code),
                        (None, Some(signal)) => ExitStatus::Signal(signal),
                        (None, None) => ExitStatus::Unknown,
                    })
                }
                // Reaped by other code of this program.
                Err(Errno::CHILD) => Some(ExitStatus::Unknown),
                Err(error) => return Err(failed("waitid", self.pid, error)),
            }
        } else {
            self.has_ended().then_some(ExitStatus::Unknown)
        };
        if let Some(status) = status {
            self.state = State::Exited(status);
        }
        Ok(status)
    }

    /// Blocks until the process ends, releasing it first if it is held.
    ///
    /// # Errors
    /// [`InjectError::System`], [`InjectError::WrongThread`].
    pub fn wait(&mut self) -> Result<ExitStatus, InjectError> {
        match self.release() {
            Ok(()) | Err(InjectError::Exited { .. }) => {}
            Err(error) => return Err(error),
        }
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(InjectError::System {
                        call: format!("poll of process {}", self.pid),
                        source: error.into(),
                    });
                }
            }
        }
    }

    /// Kills the process and waits for its end.
    ///
    /// # Errors
    /// As [`Process::signal`] and [`Process::wait`].
    pub fn kill(&mut self) -> Result<ExitStatus, InjectError> {
        if let State::Exited(status) = self.state {
            return Ok(status);
        }
        self.signal(Signal::KILL)?;
        if self.is_held() {
            self.require_held()?;
            let _ = self.note_death();
            if let State::Exited(status) = self.state {
                return Ok(status);
            }
        }
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_held() {
            return;
        }
        if self.kill_on_drop {
            let _ = self.kill();
        } else {
            let _ = self.release();
        }
    }
}
