//! Locks in the arena that know their owner. A lock word is `generation << 32 | slot index + 1`, or 0.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::arena::Arena;
use crate::layout::Slot;
use crate::sys;

const SPINS: u32 = 200;
/// SystemTap waits some 10 ms (MAXTRYLOCK), but its handlers are never preempted. Here an owner that lost its processor gets it
/// back only after the others that want it: tens of milliseconds on a busy machine.
const WAIT_NS: i64 = 100_000_000;

#[inline(always)]
unsafe fn word(arena: &Arena, lock: u64) -> Option<&'static AtomicU64> {
    if !lock.is_multiple_of(8) {
        return None;
    }
    // SAFETY: aligned and inside the arena, which outlives the handler.
    arena
        .at(lock, 8)
        .map(|p| unsafe { &*p.cast::<AtomicU64>() })
}

#[inline(always)]
unsafe fn mine(slot: *mut Slot) -> u64 {
    // SAFETY: the slot is the caller's own.
    unsafe { u64::from((*slot).generation.load(Relaxed)) << 32 | (u64::from((*slot).index) + 1) }
}

/// See [`crate::abi::lock_acquire`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn acquire(base: *mut u8, slot: *mut Slot, lock: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        let (Some(word), mine) = (word(&arena, lock), mine(slot)) else {
            return false;
        };
        if word.compare_exchange(0, mine, Acquire, Relaxed).is_ok() {
            return true;
        }
        wait(&arena, word, mine)
    }
}

#[cold]
#[inline(never)]
unsafe fn wait(arena: &Arena, word: &AtomicU64, mine: u64) -> bool {
    let try_take = |seen: u64| word.compare_exchange(seen, mine, AcqRel, Relaxed).is_ok();
    for _ in 0..SPINS {
        core::hint::spin_loop();
        if word.load(Relaxed) == 0 && try_take(0) {
            return true;
        }
    }
    let begin = sys::clock_ns(1);
    let mut rounds = 0u32;
    loop {
        let seen = word.load(Acquire);
        if seen == mine {
            return true;
        }
        // SAFETY: slots are checked to lie inside the arena.
        if (seen == 0 || (rounds % 64 == 1 && unsafe { abandoned(arena, seen) })) && try_take(seen)
        {
            return true;
        }
        // The bound on rounds keeps this finite even when the clock does not move.
        if rounds > 1_000_000 || sys::clock_ns(1).wrapping_sub(begin) > WAIT_NS {
            return false;
        }
        rounds += 1;
        sys::sched_yield();
    }
}

/// True when the owner named in a lock word cannot come back: its slot has another owner by now, or its thread is gone.
unsafe fn abandoned(arena: &Arena, seen: u64) -> bool {
    let (index, generation) = ((seen as u32).wrapping_sub(1), (seen >> 32) as u32);
    let Some(slot) = arena.slot(index) else {
        return true;
    };
    // SAFETY: the slot lies inside the arena.
    unsafe {
        // SAFETY: the header is mapped.
        index >= (*arena.header()).slot_count
            || (*slot).generation.load(Acquire) != generation
            || sys::thread_is_gone((*slot).pid.load(Acquire), (*slot).tid.load(Acquire))
    }
}

/// See [`crate::abi::lock_release`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn release(base: *mut u8, slot: *mut Slot, lock: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        if let Some(word) = word(&arena, lock)
            && word.load(Relaxed) == mine(slot)
        {
            word.store(0, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, GLOBALS};

    #[test]
    fn excludes_and_gives_back() {
        let f = Fixture::new();
        let (base, slots) = (f.base as usize, [f.owned(1) as usize, f.owned(2) as usize]);
        std::thread::scope(|scope| {
            for slot in slots {
                scope.spawn(move || unsafe {
                    let (base, slot) = (base as *mut u8, slot as *mut Slot);
                    let mut got = 0;
                    while got < 10_000 {
                        if acquire(base, slot, GLOBALS) {
                            // Not atomic: only the lock makes the sum right.
                            let sum = base.add(GLOBALS as usize + 8).cast::<u64>();
                            sum.write_volatile(sum.read_volatile() + 1);
                            release(base, slot, GLOBALS);
                            got += 1;
                        }
                    }
                });
            }
        });
        assert_eq!(
            unsafe { *f.base.add(GLOBALS as usize + 8).cast::<u64>() },
            20_000
        );
    }

    #[test]
    fn a_held_lock_is_not_had_but_a_dead_owners_is() {
        let f = Fixture::new();
        let (one, two) = (f.owned(1), f.owned(2));
        unsafe {
            assert!(acquire(f.base, one, GLOBALS));
            assert!(!acquire(f.base, two, GLOBALS));
            release(f.base, two, GLOBALS);
            assert!(!acquire(f.base, two, GLOBALS));
            // A process that has ended and been waited for.
            let mut child = std::process::Command::new("true").spawn().expect("true");
            child.wait().expect("ended");
            (*one).pid.store(child.id(), Relaxed);
            assert!(acquire(f.base, two, GLOBALS));
            // A thread that has ended, of a process that has not.
            let tid = std::thread::spawn(|| libc::gettid()).join().expect("ended");
            (*two).tid.store(tid as u32, Relaxed);
            (*one).pid.store(std::process::id(), Relaxed);
            assert!(acquire(f.base, one, GLOBALS));
            release(f.base, one, GLOBALS);
            (*two).tid.store(std::process::id(), Relaxed);
            assert!(acquire(f.base, two, GLOBALS));
            // The slot got a new owner.
            (*two).generation.fetch_add(1, Relaxed);
            (*one).pid.store(std::process::id(), Relaxed);
            assert!(acquire(f.base, one, GLOBALS));
            // Nonsense in the word does not hold anybody up.
            f.base.add(GLOBALS as usize).cast::<u64>().write(u64::MAX);
            assert!(acquire(f.base, two, GLOBALS));
            assert!(!acquire(f.base, two, f.size) && !acquire(f.base, two, GLOBALS + 1));
        }
    }
}
