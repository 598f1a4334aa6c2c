//! Bringing every thread of a process to a halt, and noticing when it dies instead.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::attach::is_untraced;
use crate::error::InjectError;
use crate::proc_file::read_proc;
use crate::process::{ExitStatus, Pid, Process, State};
use crate::ptrace::{self, Event};
use crate::reconcile::Seen;
use crate::restart;

/// How long a thread may take to come out of the kernel. Threads stop within microseconds; those
/// that do not wait for a `vfork` child or for a device.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long threads are waited for that are ending and cannot be seized. They take microseconds, unless somebody else
/// traces them.
const ENDING: Duration = Duration::from_millis(100);

/// A thread of a held process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    /// Seized and asked to stop.
    Stopping,
    /// In a ptrace-stop from which it resumes in user mode by way of the kernel's signal handling,
    /// so that an interrupted system call is restarted.
    Stopped,
}

impl Process {
    /// Seizes and stops every thread. Threads created in the meantime are caught, too: only a
    /// running thread can make one, so once every known thread is stopped and a look at the whole list
    /// finds no new one, there is none.
    pub(crate) fn stop_all_threads(&mut self, options: i32) -> Result<(), InjectError> {
        self.state = State::Held(std::thread::current().id());
        self.seen = Seen::default();
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut stopped: Option<Instant> = None;
        let mut before = Vec::new();
        loop {
            let mut found = Vec::new();
            let listed = self.list_threads()?;
            // Being seized stops nobody, and is over with before anybody is stopped.
            for &tid in &listed {
                if self.threads.contains_key(&tid) {
                    continue;
                }
                if self.enlist_guard(tid) {
                    found.push(tid);
                    continue;
                }
                match ptrace::seize(tid, options) {
                    Ok(()) => {
                        self.threads.insert(tid, Thread::Stopping);
                        found.push(tid);
                    }
                    // A thread that is ending (EPERM once it is a zombie) needs no stopping.
                    Err(error) => match thread_state(self.pid, tid) {
                        None | Some('Z' | 'X') => {}
                        Some(_) => return Err(self.explain_refusal(tid, error)),
                    },
                }
            }
            for &tid in &found {
                match ptrace::interrupt(tid) {
                    // It ended in between; the wait below learns of it.
                    Err(error) if !is_gone(&error) => return Err(error),
                    _ => {}
                }
            }
            self.await_stops(deadline)?;
            if found.is_empty() {
                let waited = stopped.get_or_insert_with(Instant::now).elapsed();
                let settled = match waited < ENDING {
                    true => listed.iter().all(|tid| self.is_staying(*tid)),
                    false => listed == before,
                };
                if settled
                    && self
                        .count_threads()
                        .is_some_and(|n| n <= listed.len() as u64)
                {
                    break;
                }
                if Instant::now() > deadline {
                    let stuck = listed.iter().find(|tid| !self.is_staying(**tid));
                    let tid = stuck.copied().unwrap_or(self.pid);
                    return Err(InjectError::Unstoppable {
                        pid: self.pid,
                        tid,
                        state: thread_state(self.pid, tid).unwrap_or('?'),
                    });
                }
                std::thread::sleep(Duration::from_micros(20));
            }
            before = listed;
        }
        if self.threads.is_empty() {
            return Err(self.note_death());
        }
        self.others_run = false;
        Ok(())
    }

    /// Seizes and stops one thread, and seizes the leader (unless it has ended), which goes on if there is another to be
    /// stopped. No other session comes in, as it would have to have the leader, too.
    pub(crate) fn stop_first_thread(&mut self, options: i32) -> Result<(), InjectError> {
        self.state = State::Held(std::thread::current().id());
        self.seen = Seen::default();
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut threads = self.list_threads()?;
        threads.sort_unstable_by_key(|&tid| (tid != self.pid, tid));
        self.others_run = self.has_others(threads.len());
        for &tid in &threads {
            match ptrace::seize(tid, options) {
                Ok(()) => {
                    if let Some(idle) = self.idle_thread(&threads, tid)
                        && ptrace::seize(idle, options).is_ok()
                    {
                        self.guard = Some(tid);
                        if self.stop_seized(idle, deadline)? {
                            return Ok(());
                        }
                        self.guard = None;
                    }
                    if self.stop_seized(tid, deadline)? {
                        // One that it made before it stopped.
                        let listed = self.list_threads()?.len();
                        self.others_run = self.has_others(listed);
                        return Ok(());
                    }
                }
                Err(error) => match thread_state(self.pid, tid) {
                    None | Some('Z' | 'X') => {}
                    Some(_) => return Err(self.explain_refusal(tid, error)),
                },
            }
        }
        Err(self.note_death())
    }

    /// Stops a thread that has just been seized; false when it has ended instead.
    fn stop_seized(&mut self, tid: Pid, deadline: Instant) -> Result<bool, InjectError> {
        self.threads.insert(tid, Thread::Stopping);
        match ptrace::interrupt(tid) {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
        self.await_stop(tid, deadline)?;
        Ok(self.threads.contains_key(&tid))
    }

    /// Waits until all threads that were asked to stop have. They do so in any order, so that all are looked at before
    /// any is waited for.
    fn await_stops(&mut self, deadline: Instant) -> Result<(), InjectError> {
        let is_stopping =
            |(&tid, &state): (&Pid, &Thread)| (state == Thread::Stopping).then_some(tid);
        let mut stopping: Vec<Pid> = self.threads.iter().filter_map(is_stopping).collect();
        let mut progress = Instant::now();
        while !stopping.is_empty() {
            let before = stopping.len();
            let mut left = Vec::new();
            for tid in stopping {
                match ptrace::poll_event(tid) {
                    Ok(None) => left.push(tid),
                    Ok(Some(event)) => {
                        if !self.take_stop(tid, event)? {
                            left.push(tid);
                        }
                    }
                    Err(_) => {
                        self.threads.remove(&tid);
                        self.fail_if_dead()?;
                    }
                }
            }
            // An exec has taken the others away.
            left.retain(|tid| self.threads.contains_key(tid));
            stopping = left;
            if stopping.len() < before {
                progress = Instant::now();
            } else if progress.elapsed() < Duration::from_millis(20) {
                std::thread::sleep(Duration::from_micros(20));
            } else if let Some(&first) = stopping.first() {
                self.await_stop(first, deadline)?;
                stopping.remove(0);
            }
        }
        Ok(())
    }

    /// Waits until a thread that was asked to stop has; signals that come first are delivered to
    /// it as if nobody were looking.
    pub(crate) fn await_stop(&mut self, tid: Pid, deadline: Instant) -> Result<(), InjectError> {
        loop {
            // Looked at twice: with a short deadline to notice a leader that has ended while other
            // threads live on, for which waitpid has nothing to report.
            let soon = deadline.min(Instant::now() + Duration::from_millis(20));
            let event = match ptrace::wait_event_until(tid, soon) {
                Ok(event) => event,
                Err(_) => {
                    self.threads.remove(&tid);
                    return self.fail_if_dead();
                }
            };
            let event = match event {
                Some(event) => event,
                None => {
                    let state = thread_state(self.pid, tid);
                    if matches!(state, None | Some('Z' | 'X')) && tid == self.pid {
                        let listed = self.list_threads()?.len();
                        if self.has_others(listed) {
                            self.threads.remove(&tid);
                            return Ok(());
                        }
                        return Err(self.note_death());
                    }
                    if Instant::now() < deadline {
                        continue;
                    }
                    return Err(InjectError::Unstoppable {
                        pid: self.pid,
                        tid,
                        state: state.unwrap_or('?'),
                    });
                }
            };
            if self.take_stop(tid, event)? {
                return Ok(());
            }
        }
    }

    /// Deals with an event of a thread that was asked to stop. True when it has, or has ended; else it runs on.
    fn take_stop(&mut self, tid: Pid, event: Event) -> Result<bool, InjectError> {
        let resumed = match event {
            Event::Interrupted | Event::GroupStop => {
                self.threads.insert(tid, Thread::Stopped);
                return match restart::keep_restartable(tid) {
                    Err(error) if is_gone(&error) => Err(self.note_death()),
                    other => other.map(|()| true),
                };
            }
            Event::Exited(status) => {
                self.threads.remove(&tid);
                if tid == self.pid {
                    self.state = State::Exited(status);
                    self.reap_threads();
                    return Err(self.exited());
                }
                return Ok(true);
            }
            Event::Signal(signal) => ptrace::resume(tid, signal),
            Event::Exec => {
                // The other threads are gone and the leader's number has passed to this one.
                self.forget_address_space()?;
                self.threads.retain(|&other, _| other == tid);
                ptrace::resume(tid, 0)
            }
            Event::Syscall | Event::Clone | Event::Fork => ptrace::resume(tid, 0),
        };
        match resumed {
            Err(error) if !is_gone(&error) => Err(error),
            _ => Ok(false),
        }
    }

    /// The threads in `/proc/PID/task`: where threads end at this moment, not all (see [`Process::count_threads`]).
    pub(crate) fn list_threads(&mut self) -> Result<Vec<Pid>, InjectError> {
        let path = format!("/proc/{}/task", self.pid);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.note_death()),
            Err(source) => return Err(InjectError::Proc { path, source }),
        };
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid))
            .collect())
    }

    /// Whether a thread stays on the list of threads: stopped ones do, and so does the leader, even when it has ended.
    fn is_staying(&self, tid: Pid) -> bool {
        tid == self.pid || self.threads.contains_key(&tid)
    }

    /// How many threads there are, which is as many as a list of them has that is whole. The kernel ends a list early at a
    /// thread that comes off it meanwhile, so that those behind are not told of.
    pub(crate) fn count_threads(&self) -> Option<u64> {
        // A directory's links: its own two, and one for each thread.
        let metadata = fs::metadata(format!("/proc/{}/task", self.pid)).ok()?;
        metadata.nlink().checked_sub(2)
    }

    /// Whether there are more threads than one, of which so many were listed.
    fn has_others(&self, listed: usize) -> bool {
        listed > 1 || self.count_threads().is_some_and(|count| count > 1)
    }

    /// Replaces "no such process" from ptrace by the way the process ended, and everything that is
    /// no death by itself.
    pub(crate) fn or_death<T>(&mut self, result: Result<T, InjectError>) -> Result<T, InjectError> {
        match result {
            Err(error) if is_gone(&error) => Err(self.note_death()),
            other => other,
        }
    }

    fn fail_if_dead(&mut self) -> Result<(), InjectError> {
        match thread_state(self.pid, self.pid) {
            None | Some('X') => Err(self.note_death()),
            Some('Z') => {
                let listed = self.list_threads()?.len();
                match self.has_others(listed) {
                    true => Ok(()),
                    false => Err(self.note_death()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Called when a traced thread vanished: nothing but the end of the process (or, for a moment,
    /// SIGKILL on its way) makes that happen to a stopped thread. Reaps what ptrace leaves to us,
    /// so that the real parent learns of the end, and returns the error that says so.
    pub(crate) fn note_death(&mut self) -> InjectError {
        if !matches!(self.state, State::Exited(_)) {
            self.reap_threads();
            let deadline = Instant::now() + STOP_TIMEOUT;
            // A guard that has called exec lives on.
            let mut status = self.dismiss_guard().unwrap_or(ExitStatus::Unknown);
            while status == ExitStatus::Unknown && Instant::now() < deadline {
                let soon = Instant::now() + Duration::from_millis(20);
                match ptrace::wait_event_until(self.pid, soon) {
                    Ok(Some(Event::Exited(how))) => status = how,
                    Ok(Some(_)) => {
                        let _ = ptrace::resume(self.pid, 0);
                    }
                    // A child of ours that runs another program is not traced, but can be waited for.
                    Ok(None) if is_untraced(self.pid) => break,
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
            // It is free when this was noticed before.
            let others_ran = self.others_run || self.state == State::Free;
            if status == ExitStatus::Unknown && others_ran && self.is_replaced() {
                self.threads.clear();
                // As a leader that another thread replaces it was not let go, but has ended.
                self.guard = None;
                self.state = State::Free;
                self.others_run = false;
                self.hurry = None;
                return match self.forget_address_space() {
                    Ok(()) => InjectError::Replaced { pid: self.pid },
                    Err(error) => error,
                };
            }
            self.state = State::Exited(status);
        }
        self.hurry = None;
        self.threads.clear();
        self.exited()
    }

    /// Whether the process lives though the thread of it that was held is gone: another one has called exec.
    fn is_replaced(&self) -> bool {
        // An end takes a moment to be seen.
        let deadline = Instant::now() + Duration::from_millis(50);
        while !self.has_ended() {
            if Instant::now() > deadline {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Collects the ends of all threads but the leader: until its tracer has done so, the process
    /// does not end for its parent.
    fn reap_threads(&mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        for tid in self.thread_ids() {
            if tid == self.pid {
                continue;
            }
            while let Ok(Some(event)) = ptrace::wait_event_until(tid, deadline) {
                if matches!(event, Event::Exited(_)) {
                    break;
                }
                let _ = ptrace::resume(tid, 0);
            }
        }
        self.threads.clear();
    }

    /// After an exec: nothing of what we knew about the old address space is true of the new one.
    pub(crate) fn forget_address_space(&mut self) -> Result<(), InjectError> {
        self.memory = crate::process::open_memory(self.pid)?;
        self.syscall_instruction = None;
        self.escape = None;
        self.pools = Default::default();
        self.others = Default::default();
        self.patches = Default::default();
        self.mappings.clear();
        self.watching = None;
        self.execs += 1;
        Ok(())
    }
}

/// Whether a ptrace request failed because the thread is gone (or being killed).
pub(crate) fn is_gone(error: &InjectError) -> bool {
    matches!(error, InjectError::Ptrace { source, .. } if source.raw_os_error() == Some(libc::ESRCH))
}

/// The state letter of a thread (proc_pid_stat(5)); `None` when it is gone.
pub(crate) fn thread_state(pid: Pid, tid: Pid) -> Option<char> {
    let stat = read_proc(&format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The command name may hold anything, parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}
