//! Slots of threads that have ended, and of such as have left a handler without returning from it.
//!
//! A thread does not say when it ends. So when slots become few, or a lock is not given back, or a thread seems to be in
//! a handler for ever, each process is stopped for a moment and asked which threads it has: only then is it certain that
//! nobody uses a slot.

use crate::arena;
use crate::run::Run;
use crate::tracee::TraceeError;
use inject::InjectError;
use runtime::slots;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two looks at the slots.
const INTERVAL: Duration = Duration::from_millis(100);
/// Longest time until processes are stopped again when that did not help.
const LONGEST: Duration = Duration::from_secs(30);
/// Slots are few when no more than one in this many is free.
const FEW: u32 = 8;

/// How often a process is stopped in a row to see a thread outside of handlers, if it ever is.
const ATTEMPTS: u32 = 16;

/// What came of a look at a process.
enum Reclaimed {
    /// So many slots were given back.
    Slots(usize),
    /// None, but a thread in a trampoline may be on its way past a handler that it never left.
    Maybe,
}

/// When slots are looked at, and what they were like.
#[derive(Debug)]
pub(crate) struct Reclaim {
    next: Instant,
    /// When processes may be stopped again.
    allowed: Instant,
    pause: Duration,
    /// Hits that were skipped for want of a lock or a slot.
    missed: u64,
    /// Of slots that were busy: skipped hits.
    busy: HashMap<u32, u64>,
}

impl Default for Reclaim {
    fn default() -> Self {
        Reclaim {
            next: Instant::now(),
            allowed: Instant::now(),
            pause: INTERVAL,
            missed: 0,
            busy: HashMap::new(),
        }
    }
}

impl Run<'_> {
    /// Gives back what nobody uses, when there is a reason to look.
    pub(crate) fn reclaim(&mut self) {
        let now = Instant::now();
        if now < self.reclaim.next {
            return;
        }
        self.reclaim.next = now + INTERVAL;
        if !self.is_reclaim_needed() || now < self.reclaim.allowed {
            return;
        }
        let pids: Vec<i32> = self.tracees.keys().copied().collect();
        let mut found = 0;
        for pid in pids {
            for _ in 0..ATTEMPTS {
                match self.reclaim_of(pid) {
                    // It is to have run in between.
                    Ok(Reclaimed::Maybe) => std::thread::sleep(Duration::from_micros(500)),
                    Ok(Reclaimed::Slots(count)) => {
                        found += count;
                        break;
                    }
                    // It has ended, or a debugger holds it; there will be another time.
                    Err(_) => break,
                }
            }
            if let Some(tracee) = self.tracees.get_mut(&pid)
                && tracee.process().is_held()
            {
                // It may have ended, which is noticed elsewhere.
                let _ = tracee.process().release();
            }
        }
        self.reclaim.pause = if found > 0 {
            INTERVAL
        } else {
            (self.reclaim.pause * 2).min(LONGEST)
        };
        self.reclaim.allowed = Instant::now() + self.reclaim.pause;
    }

    fn is_reclaim_needed(&mut self) -> bool {
        let layout = self.plan.compiled.layout();
        let header = self.arena.header();
        let mut missed = header.skipped_no_slot.load(Ordering::Relaxed);
        let in_use = arena::slots_in_use(&self.arena, layout);
        let mut free = layout.slot_count.saturating_sub(in_use.end);
        let mut busy = HashMap::new();
        for index in in_use.skip(1) {
            let Some(slot) = self.arena.slot(layout, index) else {
                continue;
            };
            missed = missed.wrapping_add(slot.skipped_locked.load(Ordering::Relaxed));
            if slot.pid.load(Ordering::Relaxed) == 0 {
                free += 1;
            } else if slot.busy.load(Ordering::Relaxed) != 0 {
                busy.insert(index, slot.skipped.load(Ordering::Relaxed));
            }
        }
        let is_stuck = |(index, skipped): (&u32, &u64)| {
            let before = self.reclaim.busy.get(index);
            before.is_some_and(|before| before != skipped)
        };
        let needed = busy.iter().any(is_stuck)
            || missed != self.reclaim.missed
            || free <= layout.slot_count / FEW;
        self.reclaim.busy = busy;
        self.reclaim.missed = missed;
        needed
    }

    /// Gives back what nobody in a process uses.
    fn reclaim_of(&mut self, pid: i32) -> Result<Reclaimed, TraceeError> {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return Ok(Reclaimed::Slots(0));
        };
        if !tracee.has_probes() || !tracee.hold()? {
            return Ok(Reclaimed::Slots(0));
        }
        let threads = tracee.process().thread_pointers()?;
        let keys: HashMap<u64, bool> = threads
            .iter()
            .map(|&(_, base, inside)| (base.wrapping_add(1), inside))
            .collect();
        // A thread without an FS base is known by its number, which is not looked into.
        let known = |key: u64| key >> 63 != 0;
        let layout = self.plan.compiled.layout();
        let by_offset: HashMap<u64, u32> = arena::slots_in_use(&self.arena, layout)
            .skip(1)
            .map(|index| (layout.slot(index), index))
            .collect();
        let inner = tracee.inner_pid();
        let mut seen = HashSet::new();
        let mut freed = 0;
        let mut unsure = false;
        for entry in tracee.thread_entries()? {
            let slot = by_offset
                .get(&entry.slot)
                .and_then(|&index| Some((index, self.arena.slot(layout, index)?)));
            let Some((index, slot)) = slot.filter(|(_, slot)| {
                slot.pid.load(Ordering::Acquire) == inner && slot.process == tracee.record()
            }) else {
                continue;
            };
            // The table is the process's to write: what it lists twice is left alone.
            if known(entry.key) || !seen.insert(entry.slot) {
                continue;
            }
            match keys.get(&entry.key) {
                None => {
                    tracee.remove_thread_entry(&entry)?;
                    slots::release(self.arena.header(), slot, index, inner);
                    freed += 1;
                }
                Some(false) if slot.busy.load(Ordering::Acquire) != 0 => {
                    tracee.remove_thread_entry(&entry)?;
                    slots::retire(slot);
                    freed += 1;
                }
                Some(inside) => unsure |= *inside && slot.busy.load(Ordering::Acquire) != 0,
            }
        }
        match tracee.process().release() {
            Ok(()) | Err(InjectError::Exited { .. }) if freed == 0 && unsure => {
                Ok(Reclaimed::Maybe)
            }
            Ok(()) | Err(InjectError::Exited { .. }) => Ok(Reclaimed::Slots(freed)),
            Err(error) => Err(error.into()),
        }
    }
}
