//! The tracer's part: epochs are flipped, and what handlers left in the old half of a shard is gathered.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::fence;

use super::{Half, KNOWN, TAKEN, fits, keys_of};
use crate::arena::{Arena, Geometry};
use crate::layout::{MAX_KEYS, Slot, Value};
use crate::string::zero_bytes;
use crate::{map, stat, sys};

/// `membarrier` command that reaches every process at once, slowly (milliseconds).
const MEMBARRIER_GLOBAL: u64 = 1;
/// `membarrier` command that reaches the processes that registered for it.
const MEMBARRIER_GLOBAL_EXPEDITED: u64 = 2;
/// `membarrier` command by which a process registers for the expedited one; for whoever sets a target up.
pub const MEMBARRIER_REGISTER_GLOBAL_EXPEDITED: u64 = 4;

/// Longest that [`quiesce`] waits for one slot.
const QUIESCE_NS: i64 = 200_000_000;

/// What [`quiesce`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// The half that handlers used before and use no more.
    pub half: u32,
    /// Slots whose handler did not end in time (a stopped process); what they still add is collected next time.
    pub restless: u32,
}

/// Tracer: makes handlers use the other half and waits until none uses the old one. `expedited`: every target has
/// registered with [`MEMBARRIER_REGISTER_GLOBAL_EXPEDITED`].
pub fn quiesce(geometry: &Geometry, epoch: u32, expedited: bool) -> Quiet {
    let half = epoch & 1;
    // SAFETY: the header is mapped.
    unsafe { (*geometry.arena.header()).epoch.store(half ^ 1, Release) };
    fence(core::sync::atomic::Ordering::SeqCst);
    let command = if expedited {
        MEMBARRIER_GLOBAL_EXPEDITED
    } else {
        MEMBARRIER_GLOBAL
    };
    if sys::membarrier(command) < 0 {
        sys::membarrier(MEMBARRIER_GLOBAL);
    }
    let mut restless = 0;
    for index in 1..geometry.used() {
        if let Some(slot) = geometry.slot(index) {
            // SAFETY: inside the arena.
            restless += !unsafe { wait_idle(slot) } as u32;
        }
    }
    Quiet { half, restless }
}

unsafe fn wait_idle(slot: *mut Slot) -> bool {
    let begin = sys::clock_ns(1);
    let mut round = 0u32;
    loop {
        // SAFETY: inside the arena.
        let (busy, owner) = unsafe { ((*slot).busy.load(Acquire), (*slot).pid.load(Acquire)) };
        if busy == 0 || owner == 0 || (round % 64 == 63 && sys::process_is_gone(owner)) {
            return true;
        }
        if round > 256 {
            sys::sched_yield();
        }
        if round % 64 == 63 && sys::clock_ns(1).wrapping_sub(begin) > QUIESCE_NS
            || round > 10_000_000
        {
            return false;
        }
        core::hint::spin_loop();
        round += 1;
    }
}

/// Tracer: moves the old half's contents into a map of the same keys and values, and empties the half. False when the
/// map was full: what did not fit is lost, as it would have been with an overflow in the handler.
pub fn collect(geometry: &Geometry, shard: u64, base_map: u64, quiet: Quiet) -> bool {
    let arena = geometry.arena;
    // SAFETY: everything is checked to lie inside the arena before it is touched.
    unsafe {
        let Some(half) = Half::open(&arena, shard, quiet.half) else {
            return true;
        };
        let keys = keys_of(half.header);
        if !fits(&half, &keys) {
            return true;
        }
        let header = &*half.header;
        let is_stat = header.stat != 0;
        let shape = if is_stat {
            stat::shape(&arena, header.shape)
        } else {
            None
        };
        let used = header.used[quiet.half as usize & 1]
            .load(Acquire)
            .min(half.capacity);
        let tracer = geometry.slot(0).unwrap_or(core::ptr::null_mut());
        let slots = geometry.used();
        let mut all = true;
        for index in 0..used {
            let state = half.state(index).load(Acquire);
            if state != TAKEN && state != KNOWN {
                continue;
            }
            let stored = half.stored(index);
            let mut values = [Value { word: 0, len: 0 }; MAX_KEYS];
            for (i, value) in values.iter_mut().enumerate().take(keys.count as usize) {
                *value = keys.value(stored, i as u32);
            }
            let mut target: *mut u8 = core::ptr::null_mut();
            for s in 1..slots {
                let Some(cell) = geometry
                    .slot(s)
                    .and_then(|slot| half.cell(&arena, slot, index))
                else {
                    continue;
                };
                // A statistic's count or a number's sum. A handler's `+= 0` makes an element, too.
                if cell.cast::<i64>().read_volatile() == 0 && (is_stat || state == KNOWN) {
                    continue;
                }
                if target.is_null() {
                    target = element(arena, tracer, base_map, values.as_ptr(), is_stat);
                    if target.is_null() {
                        all = false;
                        break;
                    }
                }
                if is_stat {
                    stat::drain(&arena, target, cell, shape.as_ref());
                } else {
                    let part = cell.cast::<i64>().read_volatile();
                    let sum = target.cast::<i64>();
                    sum.write_volatile(sum.read_volatile().wrapping_add(part));
                    cell.cast::<i64>().write_volatile(0);
                }
            }
        }
        if quiet.restless == 0 {
            reset(geometry, &half, used);
        } else {
            for index in 0..used {
                let _ = half
                    .state(index)
                    .compare_exchange(TAKEN, KNOWN, AcqRel, Relaxed);
            }
        }
        all
    }
}

/// The cell in the tracer's map; a map of another kind of value is refused.
unsafe fn element(
    arena: Arena,
    tracer: *mut Slot,
    base_map: u64,
    keys: *const Value,
    is_stat: bool,
) -> *mut u8 {
    // SAFETY: slot 0 is the tracer's own.
    unsafe {
        match map::Map::open(&arena, base_map) {
            Some(m) if !tracer.is_null() && m.kind == if is_stat { 2 } else { 0 } => {
                let cell = map::insert(arena.base(), tracer, base_map, keys);
                if cell.is_null() {
                    (*tracer).error = 0;
                }
                cell
            }
            _ => core::ptr::null_mut(),
        }
    }
}

/// Empties a half that nobody uses, cells included.
unsafe fn reset(geometry: &Geometry, half: &Half, used: u32) {
    // SAFETY: buckets, entries and cells lie inside the arena.
    unsafe {
        for s in 1..geometry.used() {
            let Some(slot) = geometry.slot(s) else {
                continue;
            };
            if used > 0
                && let Some(first) = half.cell(&geometry.arena, slot, 0)
                && let Some(last) = half.cell(&geometry.arena, slot, used - 1)
            {
                let size = (&raw const (*half.header).cell_size).read_volatile();
                let bytes = (last as u64 - first as u64) + u64::from(size);
                if geometry.arena.offset_of(first, bytes).is_some() {
                    zero_bytes(first, bytes as usize);
                }
            }
        }
        zero_bytes(half.buckets, (half.mask as usize + 1) * 8);
        for index in 0..used {
            half.state(index).store(0, Relaxed);
        }
        (*half.header).spare[half.epoch as usize & 1].store(0, Relaxed);
        (*half.header).used[half.epoch as usize & 1].store(0, Release);
    }
}

/// Tracer, before [`quiesce`]: makes the keys of the map known to the half that handlers will use next, so that the
/// limit on the number of elements holds across halves.
pub fn prefill(geometry: &Geometry, shard: u64, base_map: u64, epoch: u32) {
    let arena = geometry.arena;
    // SAFETY: everything is checked to lie inside the arena before it is touched.
    unsafe {
        let Some(half) = Half::open(&arena, shard, (epoch & 1) ^ 1) else {
            return;
        };
        let keys = keys_of(half.header);
        let Some(m) = map::Map::open(&arena, base_map) else {
            return;
        };
        if !fits(&half, &keys) || m.keys != keys {
            return;
        }
        m.each(|_, entry| {
            let stored = m.stored_keys(entry);
            let mut values = [Value { word: 0, len: 0 }; MAX_KEYS];
            for (i, value) in values.iter_mut().enumerate().take(keys.count as usize) {
                *value = keys.value(stored, i as u32);
            }
            let v = values.as_ptr();
            let index = half.index(
                keys.hash(v),
                |at| keys.matches(at, v, u64::MAX),
                |at| keys.store(at, v),
            );
            if let Some(index) = index {
                half.state(index).store(KNOWN, Release);
            }
            index.is_some()
        });
    }
}

/// Tracer: adds up a Counter global's words, at this offset from each slot's start.
pub fn sum_counters(geometry: &Geometry, offset: u64) -> i64 {
    let mut sum = 0i64;
    for index in 0..geometry.used() {
        if let Some(slot) = geometry.slot(index)
            && offset.is_multiple_of(8)
            && let Some(word) = geometry.arena.slot_part(slot, offset, 8)
        {
            // SAFETY: inside the arena.
            sum = sum.wrapping_add(unsafe { word.cast::<i64>().read_volatile() });
        }
    }
    sum
}

/// Tracer: merges the old half of a sharded scalar statistic into a cell of the arena. `offset` is from each slot's
/// start, to the first half; the second follows it.
pub fn collect_stat(geometry: &Geometry, offset: u64, shape: u64, into: u64, quiet: Quiet) {
    let arena = geometry.arena;
    let shape = stat::shape(&arena, shape);
    let size = stat::CELL + shape.map_or(0, |s| 8 * u64::from(s.buckets));
    let Some(target) = arena.at(into, size) else {
        return;
    };
    for index in 1..geometry.used() {
        if let Some(slot) = geometry.slot(index)
            && let Some(cell) = arena.slot_part(
                slot,
                offset.saturating_add(u64::from(quiet.half) * size),
                size,
            )
        {
            // SAFETY: both inside the arena.
            unsafe { stat::drain(&arena, target, cell, shape.as_ref()) };
        }
    }
}
