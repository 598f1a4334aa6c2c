//! What processes tell of themselves while they run free: libraries, children, other programs. Whoever tells of a change
//! that calls for probes waits until they are there.

use crate::following::{maps_one_of, parent_of};
use crate::plan::Plan;
use crate::probe_point::{Kind, Program};
use crate::run::{Run, begin_of, end_of};
use crate::tracee::{self, TraceeError};
use inject::{Filter, InjectError, Notice, NoticeBoard, NoticeKind, Pid, SeccompVerdict, Watch};
use runtime::layout::ProcessRecord;
use std::os::fd::BorrowedFd;

/// What the processes of a session are watched for, and where they tell of it.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    watch: Watch,
    board: Option<NoticeBoard>,
}

impl Watched {
    /// Becomes readable when there is something to take.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.board.as_ref().map(NoticeBoard::fd)
    }

    /// How many notices were not heard.
    pub fn lost(&self) -> u64 {
        self.board.as_ref().map_or(0, NoticeBoard::lost)
    }
}

/// What has to be known of processes for a plan; `hierarchy`: of `-c` or `-x`, and all that come from it.
fn wanted(plan: &Plan<'_>, hierarchy: bool) -> Watch {
    let of_life = |kind: &Kind| kind.is_of_life();
    let in_process = plan.kinds().any(Kind::is_in_process);
    let named = plan
        .programs()
        .any(|name| matches!(name, Program::Path(_) | Program::Process(_)));
    let lives = plan.kinds().any(of_life);
    let execs = hierarchy && (lives || named);
    Watch {
        // Handlers that walk stacks, or read variables of other modules, have to know what is loaded, too.
        libraries: plan.libraries().next().is_some()
            || in_process && crate::stacks::needed(&plan.compiled).is_some()
            || plan.kinds().any(|kind| {
                kind.is_everywhere() || kind.module().is_some_and(|module| module.library.is_some())
            }),
        forks: in_process || lives || execs,
        hold_forks: plan
            .kinds()
            .any(|kind| matches!(kind, Kind::ProcessBegin(_) | Kind::ProcessEnd(_))),
        execs,
        filters: in_process,
        memory_locks: in_process,
        ..Watch::default()
    }
}

impl Run<'_> {
    /// Makes the board on which processes leave word, if there is anything to tell.
    pub(crate) fn make_board(&mut self) -> Result<(), TraceeError> {
        let watch = wanted(&self.plan, self.target.is_some());
        if watch != Watch::default() {
            self.watched = Watched {
                watch,
                board: Some(NoticeBoard::new()?),
            };
        }
        Ok(())
    }

    /// Has nobody wait for us any more.
    pub(crate) fn close_board(&mut self) {
        if let Some(board) = &mut self.watched.board {
            board.close();
        }
    }

    /// Looks through the code of a process that is to be watched, which takes longer than all the rest of it, before
    /// that is stopped.
    pub(crate) fn look_for_system_calls(&self, pid: i32) {
        if let Some(tracee) = self.tracees.get(&pid)
            && self.watched.board.is_some()
        {
            tracee.look_for_system_calls(self.watched.watch);
        }
    }

    /// Has a held process tell of itself.
    pub(crate) fn watch_process(&mut self, pid: i32) -> Result<(), TraceeError> {
        let (Some(board), Some(tracee)) = (&self.watched.board, self.tracees.get_mut(&pid)) else {
            return Ok(());
        };
        let refused = tracee.process().watch(board, self.watched.watch)?;
        if self.options.verbose > 0 && !refused.is_empty() {
            self.output.warn(&format!(
                "{} system calls of process {pid} are not watched; it may make children or run programs unseen",
                refused.len()
            ));
        }
        Ok(())
    }

    /// Deals with what processes have told.
    pub(crate) fn take_notices(&mut self) {
        let Some(board) = &self.watched.board else {
            return;
        };
        for notice in board.take_notices() {
            self.take_notice(&notice);
            if let Some(board) = &self.watched.board {
                board.answer(&notice);
            }
        }
    }

    fn take_notice(&mut self, notice: &Notice) {
        let pid = notice.pid.0;
        match &notice.kind {
            NoticeKind::Libraries => {
                // A helper in the memory of another process (LeakSanitizer's) is that one, as far as probes go.
                let pid = self.owner_of_memory(pid).unwrap_or(pid);
                if !self.tracees.contains_key(&pid) {
                    self.adopt(pid, Some(notice.watched));
                }
                match self.probe_libraries(pid) {
                    Ok(()) => {}
                    Err(error) if error.is_exit() => {}
                    Err(error) => self.output.warn(&format!(
                        "libraries that process {pid} has loaded are not probed: {error}"
                    )),
                }
            }
            // One that shares its parent's memory is its parent, as far as probes go, until it runs a program.
            NoticeKind::Forked {
                shares_memory: false,
            } if !self.tracees.contains_key(&pid) => self.adopt(pid, Some(notice.watched)),
            NoticeKind::Exec { .. } => self.follow_exec(notice),
            NoticeKind::Confining {
                filter: Some(filter),
            } => self.confine(notice, filter),
            NoticeKind::LockingMemory => self.shorten_arena(),
            _ => {}
        }
    }

    /// Takes the probes out of a process that is about to install a filter which would kill it for what handlers do.
    fn confine(&mut self, notice: &Notice, filter: &Filter) {
        let pid = notice.pid.0;
        let stopped = |number| filter.verdict(number) == SeccompVerdict::Stopped;
        if stopped(libc::SYS_mmap)
            && let Some(tracee) = self.tracees.get(&pid)
        {
            let record = self.plan.compiled.layout().process(tracee.record());
            let offset = std::mem::offset_of!(ProcessRecord, may_map) as u64;
            self.arena.write(record + offset, &0u32.to_ne_bytes());
        }
        let Some(call) = tracee::made_by_handlers(stopped) else {
            return;
        };
        if !self.tracees.contains_key(&pid) {
            self.adopt(pid, None);
        }
        self.withdraw_one(pid, Some(notice));
        self.output.warn(&format!(
            "process {pid} confines itself by a seccomp filter that forbids the system call {call}, which handlers make; it is not probed any more"
        ));
    }

    /// Has the arena end behind the slots that are in use, before somebody's memory is filled with pages to its end.
    fn shorten_arena(&mut self) {
        let layout = self.plan.compiled.layout();
        if let Err(error) = self.arena.shorten(layout) {
            self.output.warn(&format!(
                "a process locks its memory, with all of the session's arena: {error}"
            ));
        }
    }

    /// Puts probes into the libraries that a process has loaded, while it waits.
    fn probe_libraries(&mut self, pid: i32) -> Result<(), TraceeError> {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(());
        };
        tracee.look()?;
        let work = tracee.work(&mut self.plan);
        if !tracee.has_work(&work) {
            tracee.pass_over(&work);
            return Ok(());
        }
        let placed = self.place(pid)?;
        self.learn_names(pid);
        self.watch_process(pid)?;
        self.report_refused(pid, &placed);
        if let Some(tracee) = self.tracees.get_mut(&pid) {
            tracee.process().release()?;
        }
        Ok(())
    }

    /// Whether a process has memory of this session, as children by fork have.
    pub(crate) fn is_heir(&self, pid: i32) -> bool {
        let board = self.watched.board.as_ref().map(NoticeBoard::inode);
        self.arena.may_be_inherited_by(pid)
            && maps_one_of(pid, &[Some(self.arena.inode()), board])
            && self.owner_of_memory(pid).is_none()
    }

    /// The process of ours whose memory one that is not ours shares.
    fn owner_of_memory(&self, pid: i32) -> Option<i32> {
        if self.tracees.contains_key(&pid) {
            return None;
        }
        let mut others = self.tracees.keys().copied();
        others.find(|other| inject::share_memory(Pid(pid), Pid(*other)))
    }

    /// Takes in a child by fork, which has its parent's probes; `ancestor` is some process that it comes from.
    pub(crate) fn adopt(&mut self, pid: i32, ancestor: Option<Pid>) {
        let known = |pid: &i32| self.tracees.contains_key(pid);
        let Some(parent) = parent_of(pid)
            .filter(known)
            .or_else(|| ancestor.map(|pid| pid.0).filter(known))
            .or_else(|| self.tracees.keys().next().copied())
        else {
            return;
        };
        let Some(heir) = self.tracees.get(&parent).map(|t| t.heir(pid)) else {
            return;
        };
        match heir {
            Ok(heir) => {
                self.records.share(heir.record());
                self.tracees.insert(pid, heir);
                self.run_for(pid, begin_of);
            }
            Err(error) => self.leave_alone(pid, &error),
        }
    }

    /// A process is about to run another program, perhaps.
    fn follow_exec(&mut self, notice: &Notice) {
        let pid = notice.pid.0;
        let Some(board) = &self.watched.board else {
            return;
        };
        let mut process = match board.follow_exec(notice) {
            Ok(Some(process)) => process,
            Ok(None) => return,
            Err(InjectError::SetuidProgram { .. }) => {
                // It runs with rights that it would lose with us in it.
                self.forget_program(pid);
                return;
            }
            Err(error) => {
                self.forget_program(pid);
                self.leave_alone(pid, &error.into());
                return;
            }
        };
        if let Some(before) = self.tracees.get_mut(&pid) {
            process.succeed(before.process());
        }
        self.forget_program(pid);
        self.unwanted.remove(&pid);
        self.take_in(process, true);
    }

    /// The program that a process ran has come to its end. With the target's own end the session ends, whatever it runs.
    fn forget_program(&mut self, pid: i32) {
        if self.target == Some(pid) {
            self.drain();
            self.run_for(pid, end_of);
            return;
        }
        self.forget(pid);
    }
}
