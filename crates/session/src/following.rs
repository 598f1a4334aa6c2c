//! The processes of a session: probed as they turn up, let go as they end, and all of them let go at its end.

use crate::arena::{self, Arena};
use crate::discovery::processes;
use crate::run::{Run, begin_of, end_of};
use crate::stacks;
use crate::tracee::{Placed, Tracee, TraceeError};
use codegen::ArenaLayout;
use inject::{InjectError, Notice, Pid, Process};
use rayon::prelude::*;
use runtime::slots;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;

impl Run<'_> {
    /// Puts the probes into a process, runs what waits for its beginning, and lets it run.
    pub(crate) fn probe(&mut self, pid: i32) -> Result<(), TraceeError> {
        self.look_for_system_calls(pid);
        let placed = self.place(pid)?;
        self.watch_process(pid)?;
        self.learn_names(pid);
        self.sample_process(pid)?;
        self.report_refused(pid, &placed);
        self.run_for(pid, begin_of);
        if let Some(tracee) = self.tracees.get_mut(&pid) {
            tracee.process().release()?;
        }
        Ok(())
    }

    /// Puts probes into all modules of a process that were not dealt with. Held when it returns.
    pub(crate) fn place(&mut self, pid: i32) -> Result<Placed, TraceeError> {
        let mut attempts = 0;
        loop {
            let Some(tracee) = self.tracees.get_mut(&pid) else {
                return Ok(Placed::default());
            };
            let work = tracee.work(&mut self.plan);
            if let Some(earlier) = self.plan.catch_up() {
                self.plan
                    .compiled
                    .extend_arena(self.arena.bytes_mut(), &earlier);
            }
            let placed = tracee.place(&self.plan.compiled, &mut self.arena, &work);
            for warning in std::mem::take(&mut self.plan.warnings) {
                self.output.warn(&warning);
            }
            match placed {
                // It is held now, and nothing changes any more.
                Err(TraceeError::Changed(_)) if attempts == 0 => {
                    attempts = 1;
                    tracee.look()?;
                }
                Err(error) => return Err(error),
                Ok(placed) => {
                    let expedited = self.tracees.values().all(Tracee::is_expedited);
                    self.tracer.set_expedited(expedited);
                    return Ok(placed);
                }
            }
        }
    }

    /// Remembers the modules of a process, by which addresses in its backtraces are named.
    pub(crate) fn learn_names(&mut self, pid: i32) {
        let Some(tracee) = self.tracees.get(&pid) else {
            return;
        };
        let Some(stacks) = tracee.stacks() else {
            return;
        };
        self.names.learn(tracee.record(), stacks.modules());
        if self.tracer_modules.is_empty() {
            self.tracer_modules = stacks.modules().to_vec();
            stacks::list_in_tracer(&self.tracer_modules, &self.tracer);
        }
    }

    pub(crate) fn report_refused(&mut self, pid: i32, placed: &Placed) {
        let total = placed.sites + placed.refused.len();
        let program = self
            .tracees
            .get(&pid)
            .and_then(|t| Some(t.owner()?.program.identity));
        // Once for each program, not for each of its processes.
        let is_news = self.options.verbose > 0 || self.refusals_told.insert(program);
        if !placed.refused.is_empty() && is_news {
            self.output.warn(&format!(
                "{} of {total} probe sites could not be probed safely and were left alone",
                placed.refused.len()
            ));
            let shown = if self.options.verbose > 0 {
                usize::MAX
            } else {
                3
            };
            for (point, refused) in placed.refused.iter().take(shown) {
                self.output.warn(&format!("{point} at {refused}"));
            }
            if placed.refused.len() > shown {
                self.output.warn("(-v names all of them)");
            }
        }
        if self.options.verbose > 0 && (placed.sites > 0 || Some(pid) == self.target) {
            self.output.say(&format!(
                "Pass 5: starting run; {} probe sites in process {pid}.",
                placed.sites
            ));
            if placed.returns > 0 {
                self.output.say(&format!(
                    "Returns: {} functions at their own exits, {} of which also at those of functions that they end in a jump to; {} by another return address.",
                    placed.returns - placed.replaced, placed.jumping, placed.replaced
                ));
            }
        }
    }

    /// Looks for processes that run one of the script's programs; `event` says that one may just have started.
    pub(crate) fn discover(&mut self, event: bool) {
        let found = match &mut self.discovery {
            Some(discovery) => discovery.look(event, |pid| self.tracees.contains_key(&pid)),
            None => return,
        };
        let there: HashSet<i32> = found.iter().copied().collect();
        self.unwanted.retain(|pid| there.contains(pid));
        for pid in found {
            if !self.unwanted.contains(&pid) {
                self.attach(pid);
            }
        }
    }

    fn attach(&mut self, pid: i32) {
        if self.is_heir(pid) {
            self.adopt(pid, None);
            return;
        }
        match Process::find(Pid(pid)) {
            Ok(process) => self.take_in(process, false),
            Err(error) => self.leave_alone(pid, &error.into()),
        }
    }

    /// Begins to probe a process. One that is `new` has run none of its code yet, and stays held while probes are
    /// compiled; one that was found runs.
    pub(crate) fn take_in(&mut self, mut process: Process, new: bool) {
        let pid = process.pid().0;
        let Some(record) = self.records.take() else {
            let count = self.options.limits.processes;
            self.leave_alone(pid, &TraceeError::TooMany { pid, count });
            return;
        };
        self.names.begin(record);
        // One that has just started is stopped at once, so that little of it is missed.
        if !new && process.has_one_thread() {
            // What stands in the way will be told when it is probed.
            let _ = process.stop_one_thread();
        }
        let taken = Tracee::new(process, record).and_then(|mut tracee| {
            if !new && !tracee.is_known(&self.plan) {
                tracee.let_run()?;
            }
            if let Some(before) = self.tracees.insert(pid, tracee) {
                self.give_back(&before);
            }
            self.probe(pid)
        });
        if let Err(error) = taken {
            let is_left = !error.is_exit() && !self.withdraw_partial(pid);
            // The target's end is still to be seen.
            if self.target == Some(pid) {
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    let _ = tracee.let_run();
                }
            } else if !is_left
                && self
                    .tracees
                    .remove(&pid)
                    .is_none_or(|tracee| !tracee.has_probes())
            {
                self.records.give_back(record);
            }
            self.leave_alone(pid, &error);
        }
    }

    /// Takes out of a process that could not be probed what was put into it before that was known; whether nothing is left
    /// there.
    fn withdraw_partial(&mut self, pid: i32) -> bool {
        let layout = self.plan.compiled.layout();
        let arena = &self.arena;
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return true;
        };
        if !tracee.process().holds_ours() {
            return true;
        }
        // What is left is dealt with, and told of, at the end.
        matches!(
            tracee.give_up(&mut |thread| is_busy(arena, layout, thread)),
            Ok(true)
        )
    }

    /// Says why a process is not probed, unless it has ended.
    pub(crate) fn leave_alone(&mut self, pid: i32, error: &TraceeError) {
        self.unwanted.insert(pid);
        let has_ended = matches!(
            error,
            TraceeError::Inject(InjectError::Zombie { .. } | InjectError::NoSuchProcess { .. })
        );
        if !error.is_exit() && !has_ended {
            self.output
                .warn(&format!("process {pid} is not probed: {error}"));
        }
    }

    /// A process has ended.
    pub(crate) fn forget(&mut self, pid: i32) {
        self.drain();
        self.run_for(pid, end_of);
        if let Some(tracee) = self.tracees.remove(&pid) {
            self.give_back(&tracee);
        }
    }

    /// Forgets all processes that have ended, but for the target.
    pub(crate) fn forget_ended(&mut self) {
        let others = self
            .tracees
            .iter()
            .filter(|(pid, _)| Some(**pid) != self.target);
        let ended: Vec<i32> = others
            .filter(|(_, tracee)| tracee.has_ended())
            .map(|(pid, _)| *pid)
            .collect();
        for pid in ended {
            self.forget(pid);
        }
    }

    /// Makes the slots and the record of a process free that runs our code no more.
    pub(crate) fn give_back(&mut self, tracee: &Tracee) {
        let layout = self.plan.compiled.layout();
        for index in arena::slots_in_use(&self.arena, layout).skip(1) {
            if let Some(slot) = self.arena.slot(layout, index)
                && slot.process == tracee.record()
            {
                // Those of other processes are left alone.
                slots::release(self.arena.header(), slot, index, tracee.inner_pid());
            }
        }
        self.records.give_back(tracee.record());
    }

    /// Takes the probes out of every process: also out of children by fork, which have copies. While a process is held
    /// it makes no more of them, so that none is missed.
    pub(crate) fn withdraw_all(&mut self) {
        self.close_board();
        if self.tracees.is_empty() {
            return;
        }
        // So that there is less to look at while a process is held.
        let all: Vec<i32> = processes().collect();
        let arena = &self.arena;
        let young = all.par_iter().copied();
        let young: HashSet<i32> = young
            .filter(|&pid| arena.may_be_inherited_by(pid))
            .collect();
        let may_be_heir = |pid: i32| young.contains(&pid) && self.is_heir(pid);
        let mut looked_at: HashSet<i32> =
            all.into_iter().filter(|&pid| !may_be_heir(pid)).collect();
        let mut left: Vec<i32> = self.tracees.keys().copied().collect();
        while let Some(pid) = left.pop() {
            let Some(tracee) = self.tracees.get_mut(&pid) else {
                continue;
            };
            tracee.prepare_withdrawal();
            if !matches!(tracee.hold(), Ok(false)) {
                let me = std::process::id() as i32;
                let children: Vec<i32> = processes()
                    .filter(|pid| {
                        *pid != me && !self.tracees.contains_key(pid) && looked_at.insert(*pid)
                    })
                    .filter(|pid| self.is_heir(*pid))
                    .collect();
                for child in children {
                    if self.take_heir(child, pid) {
                        left.push(child);
                    }
                }
            }
            self.withdraw_one(pid, None);
        }
    }

    /// Attaches to a process that was found to have the arena: a child of a process of ours, `held` when nothing else
    /// is known.
    fn take_heir(&mut self, child: i32, held: i32) -> bool {
        let parent = parent_of(child).filter(|pid| self.tracees.contains_key(pid));
        let Some(tracee) = self.tracees.get(&parent.unwrap_or(held)) else {
            return false;
        };
        match tracee.heir(child) {
            Ok(heir) => {
                self.tracees.insert(child, heir);
                true
            }
            Err(TraceeError::Inject(
                InjectError::Zombie { .. } | InjectError::NoSuchProcess { .. },
            )) => false,
            // It ends, and nothing can be read of it any more.
            Err(error) if error.is_exit() || !self.is_heir(child) => false,
            Err(error) => {
                self.output
                    .warn(&format!("process {child} could not be restored: {error}"));
                false
            }
        }
    }

    /// Takes the probes out of a process; `before` what its thread is about to do that waits for an answer to a notice.
    pub(crate) fn withdraw_one(&mut self, pid: i32, before: Option<&Notice>) {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return;
        };
        let layout = self.plan.compiled.layout();
        let arena = &self.arena;
        let withdrawn = match before {
            Some(notice) => tracee.withdraw_before(notice, &mut |t| is_busy(arena, layout, t)),
            None => tracee.withdraw(&mut |thread| is_busy(arena, layout, thread)),
        };
        match withdrawn {
            Ok(_) | Err(TraceeError::Inject(InjectError::Exited { .. })) => {}
            Err(
                error @ TraceeError::Inject(
                    InjectError::AlreadyTraced { .. } | InjectError::Frozen { .. },
                ),
            ) => {
                self.held_elsewhere.push((pid, error));
            }
            Err(error) => {
                self.is_left_behind = true;
                self.output
                    .warn(&format!("process {pid} could not be restored: {error}"));
            }
        }
    }
}

/// Whether a thread is in a handler.
fn is_busy(arena: &Arena, layout: &ArenaLayout, thread: Pid) -> bool {
    let slots = arena::slots_in_use(arena, layout).skip(1);
    let mut slots = slots.filter_map(|i| arena.slot(layout, i));
    slots.any(|slot| {
        slot.tid.load(Ordering::Relaxed) == thread.0 as u32
            && slot.busy.load(Ordering::Relaxed) != 0
    })
}

/// Whether a process maps one of these memory objects of ours.
pub(crate) fn maps_one_of(pid: i32, inodes: &[Option<u64>]) -> bool {
    let maps = inject::read_maps(Pid(pid)).unwrap_or_default();
    maps.iter()
        .any(|map| inodes.contains(&Some(map.inode)) && map.path.as_deref().is_some_and(is_arena))
}

fn is_arena(path: &Path) -> bool {
    path.to_string_lossy().starts_with("/memfd:spile")
}

/// The number of a process's parent (proc_pid_stat(5)).
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let stat = inject::read_proc(&format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}
