//! A thread that is traced but runs, and so keeps other tracers out of the process.
//!
//! While a process is prepared for its patches one thread of it has to stand, to make system calls for us. It should be
//! one that sleeps anyway: the leader of many programs is the one that does the work. Sessions meet at the leader
//! nevertheless, as nobody can be traced twice, so it is seized and goes on.

use std::time::{Duration, Instant};

use crate::error::InjectError;
use crate::proc_file::read_proc;
use crate::process::{ExitStatus, Pid, Process, State};
use crate::ptrace::{self, Event};
use crate::restart;
use crate::stop::{Thread, thread_state};

/// How many threads are looked at to find one that sleeps.
const LOOKED_AT: usize = 64;
/// How long a guard may take to stop, so that it can be let go.
const LAST_WAIT: Duration = Duration::from_secs(2);

impl Process {
    /// The thread to be stopped in place of `leader`: asleep in a system call that can be made again from its start (should
    /// we be killed, see [`restart::from_the_start`]), and of several the one that has done the least.
    pub(crate) fn idle_thread(&self, threads: &[Pid], leader: Pid) -> Option<Pid> {
        let others = threads.iter().filter(|&&tid| tid != leader);
        let sleepers = others
            .take(LOOKED_AT)
            .filter_map(|&tid| Some((time_if_asleep(self.pid, tid)?, tid)));
        sleepers.min().map(|(_, tid)| tid)
    }

    /// Passes on what the guard was sent: a signal waits until its tracer has seen it.
    pub(crate) fn tend_guard(&mut self) -> Result<(), InjectError> {
        let Some(guard) = self.guard else {
            return Ok(());
        };
        match ptrace::poll_event(guard) {
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(Event::Exited(status))) => {
                self.guard = None;
                self.state = State::Exited(status);
                Err(self.note_death())
            }
            Ok(Some(event)) => {
                pass_on(guard, event);
                Ok(())
            }
        }
    }

    /// Makes the guard a thread like the others, which is about to be asked to stop. False if the thread is not the guard, or
    /// has ended.
    pub(crate) fn enlist_guard(&mut self, tid: Pid) -> bool {
        if self.guard != Some(tid) || matches!(thread_state(self.pid, tid), None | Some('Z' | 'X'))
        {
            return false;
        }
        self.guard = None;
        self.threads.insert(tid, Thread::Stopping);
        true
    }

    /// Lets the guard go; how the process ended, if that is what it had to tell.
    pub(crate) fn dismiss_guard(&mut self) -> Option<ExitStatus> {
        let guard = self.guard?;
        if thread_state(self.pid, guard) == Some('Z') && !self.has_ended() {
            // Its end is told when all other threads have ended, see `Process::try_wait`.
            return None;
        }
        self.guard = None;
        let _ = ptrace::interrupt(guard);
        let deadline = Instant::now() + LAST_WAIT;
        while let Ok(Some(event)) = ptrace::wait_event_until(guard, deadline) {
            match event {
                Event::Exited(status) => return Some(status),
                Event::Interrupted | Event::GroupStop => {
                    let _ = restart::keep_restartable(guard);
                    let _ = ptrace::detach(guard, 0);
                    return None;
                }
                event => pass_on(guard, event),
            }
        }
        None
    }
}

/// Lets a thread go on after an event, as if nobody traced it.
fn pass_on(tid: Pid, event: Event) {
    // What fails here is a thread that is being killed.
    let _ = match event {
        Event::Signal(signal) => ptrace::resume(tid, signal),
        Event::GroupStop => ptrace::listen(tid),
        _ => ptrace::resume(tid, 0),
    };
}

/// The processor time that a thread has used, in clock ticks, if it sleeps and can be woken (proc_pid_stat(5)).
fn time_if_asleep(pid: Pid, tid: Pid) -> Option<u64> {
    let stat = read_proc(&format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    // The state is field 3, user and system time 14 and 15.
    let mut fields = rest.split_ascii_whitespace();
    if fields.next()? != "S" || is_restarting(pid, tid) {
        return None;
    }
    let mut times = fields.skip(14 - 3 - 1);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

/// Whether a thread makes a system call the rest of which is known to the kernel alone.
fn is_restarting(pid: Pid, tid: Pid) -> bool {
    let call = read_proc(&format!("/proc/{pid}/task/{tid}/syscall"));
    let number = call
        .ok()
        .and_then(|call| call.split(' ').next()?.parse().ok());
    number == Some(libc::SYS_restart_syscall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_thread_that_waits_is_found_and_one_that_runs_is_not() {
        let (send, receive) = channel::<()>();
        let (tell, told) = channel();
        let sleeper = std::thread::spawn(move || {
            // SAFETY: no arguments.
            let _ = tell.send(unsafe { libc::gettid() });
            let _ = receive.recv();
        });
        let tid = Pid(told.recv().expect("a thread number"));
        let pid = Pid(std::process::id() as i32);
        while time_if_asleep(pid, tid).is_none() {
            std::thread::yield_now();
        }
        // SAFETY: no arguments.
        let myself = Pid(unsafe { libc::gettid() });
        assert_eq!(time_if_asleep(pid, myself), None);
        drop(send);
        sleeper.join().expect("an end");
        assert_eq!(time_if_asleep(pid, tid), None);
    }
}
