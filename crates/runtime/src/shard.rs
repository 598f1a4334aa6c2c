//! Arrays of the Sharded storage class: a table of keys that all threads share and only add to, without locks, and for
//! every thread a row of cells. Both exist twice, once for each epoch; the tracer flips the epoch, waits until no
//! handler can still be using the old half, and empties that into a plain map.
//!
//! A bucket is `hash << 32 | index + 1`, 0 when empty; buckets are searched by linear probing. An entry's keys are
//! written before its bucket is published and never change until the half is emptied.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};

use crate::arena::Arena;
use crate::keys::{KeyShape, hash_i64};
use crate::layout::{Header, Slot, Value};
use crate::map::{ValueKind, corrupt, raise_overflow, value_size};
use crate::string::zero_bytes;
use crate::sys;

mod collection;

pub use collection::{
    MEMBARRIER_REGISTER_GLOBAL_EXPEDITED, Quiet, collect, collect_stat, prefill, quiesce,
    sum_counters,
};

/// Head of a shard in the arena; for each half buckets and then entries follow.
#[repr(C)]
#[derive(Debug)]
pub struct ShardHeader {
    /// Most elements.
    pub capacity: u32,
    /// Number of keys.
    pub keys: u32,
    /// Bit `i`: key `i` is a string.
    pub string_keys: u32,
    /// Bytes of a stored string.
    pub string_size: u32,
    /// Bytes of a cell: 8, or those of a statistic.
    pub cell_size: u32,
    /// Buckets (of one half) less one.
    pub bucket_mask: u32,
    /// Bytes of an entry.
    pub entry_size: u32,
    /// [`map::FLAG_DECLARED`].
    pub flags: u32,
    /// Offset in the arena of the statistics' shape; 0 for none.
    pub shape: u64,
    /// Offset in a slot (from its start) of the first half's cells; the second half's follow them.
    pub cells: u64,
    /// 1 when cells are statistics.
    pub stat: u32,
    /// Threads between taking an entry and publishing it, or giving it up.
    pub pending: AtomicU32,
    /// Entries taken, per half.
    pub used: [AtomicU32; 2],
    /// Entries that were taken and then not needed, per half.
    pub spare: [AtomicU32; 2],
}

const HEADER: u64 = core::mem::size_of::<ShardHeader>() as u64;

/// What a shard is like, for making one.
#[derive(Clone, Copy, Debug)]
pub struct ShardSpec<'a> {
    /// True for a string key.
    pub keys: &'a [bool],
    /// `Long` or `Stat`.
    pub value: ValueKind,
    /// Most elements.
    pub capacity: u32,
    /// [`map::FLAG_DECLARED`].
    pub flags: u32,
    /// Offset of the shape of statistics; 0 for none.
    pub shape: u64,
    /// Buckets that the shape says; 0 without a histogram.
    pub buckets: u32,
    /// MAXSTRINGLEN.
    pub max_string: u32,
}

/// How much room a shard needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// Bytes of the shared part; it begins at a multiple of 8.
    pub bytes: u64,
    /// Bytes in every slot, for both halves; they begin at a multiple of 8.
    pub slot_bytes: u64,
    /// Bytes of a cell.
    pub cell_size: u32,
    buckets: u32,
    entry_size: u32,
}

const ENTRY_KEYS: u64 = 8;
const TAKEN: u32 = 1;
const SPARE: u32 = 2;
/// How often a key is looked for again while others are adding theirs to a full table.
const PATIENCE: u32 = 1_000;
/// Made known by the tracer; counts as an element only once a handler changed it.
const KNOWN: u32 = 3;

impl ShardLayout {
    /// The layout of such a shard.
    pub fn new(spec: &ShardSpec<'_>) -> ShardLayout {
        let keys = KeyShape::new(spec.keys, spec.max_string);
        let entry_size = (ENTRY_KEYS + keys.bytes()) as u32;
        let buckets = spec.capacity.max(2).saturating_mul(2).next_power_of_two();
        let cell_size = value_size(spec.value, spec.buckets, spec.max_string);
        let half = u64::from(buckets) * 8 + u64::from(spec.capacity) * u64::from(entry_size);
        ShardLayout {
            bytes: HEADER + 2 * half,
            slot_bytes: 2 * u64::from(spec.capacity) * u64::from(cell_size),
            cell_size,
            buckets,
            entry_size,
        }
    }
}

/// Makes an empty shard at an offset that is a multiple of 8, with cells at `cells` bytes from every slot's start; the
/// cells' memory is zero already. False when it does not fit.
pub fn create(arena: Arena, at: u64, cells: u64, spec: &ShardSpec<'_>) -> bool {
    let layout = ShardLayout::new(spec);
    let keys = KeyShape::new(spec.keys, spec.max_string);
    let Some(base) = arena.at(at, layout.bytes) else {
        return false;
    };
    if !(at | cells).is_multiple_of(8)
        || spec.capacity == 0
        || spec.capacity > 1 << 28
        || !keys.is_valid()
        || spec.value == ValueKind::String
    {
        return false;
    }
    // SAFETY: checked to fit; nobody else knows of it yet.
    unsafe {
        zero_bytes(base, layout.bytes as usize);
        base.cast::<ShardHeader>().write(ShardHeader {
            capacity: spec.capacity,
            keys: keys.count,
            string_keys: keys.strings,
            string_size: keys.string_size,
            cell_size: layout.cell_size,
            bucket_mask: layout.buckets - 1,
            entry_size: layout.entry_size,
            flags: spec.flags,
            shape: spec.shape,
            cells,
            stat: (spec.value == ValueKind::Stat) as u32,
            pending: AtomicU32::new(0),
            used: [const { AtomicU32::new(0) }; 2],
            spare: [const { AtomicU32::new(0) }; 2],
        });
    }
    true
}

/// A half of a shard whose description was copied and checked.
#[derive(Clone, Copy)]
struct Half {
    header: *mut ShardHeader,
    buckets: *mut u8,
    entries: *mut u8,
    capacity: u32,
    mask: u32,
    entry_size: u32,
    epoch: u32,
}

#[inline(always)]
unsafe fn keys_of(header: *mut ShardHeader) -> KeyShape {
    // SAFETY: inside the arena.
    unsafe {
        KeyShape {
            count: (&raw const (*header).keys).read_volatile(),
            strings: (&raw const (*header).string_keys).read_volatile(),
            string_size: (&raw const (*header).string_size).read_volatile(),
        }
    }
}

impl Half {
    #[inline(always)]
    unsafe fn open(arena: &Arena, at: u64, epoch: u32) -> Option<Half> {
        if !at.is_multiple_of(8) {
            return None;
        }
        let base = arena.at(at, HEADER)?;
        // SAFETY: inside the arena; each field is read once.
        unsafe {
            let header = base.cast::<ShardHeader>();
            let capacity = (&raw const (*header).capacity).read_volatile();
            let mask = (&raw const (*header).bucket_mask).read_volatile();
            let entry_size = (&raw const (*header).entry_size).read_volatile();
            let buckets = (u64::from(mask) + 1) * 8;
            let half = buckets.wrapping_add(u64::from(capacity) * u64::from(entry_size));
            let valid = mask < 1 << 30
                && capacity <= 1 << 28
                && (16..1 << 24).contains(&entry_size)
                && entry_size % 8 == 0;
            if !valid || arena.at(at, HEADER + 2 * half).is_none() {
                return None;
            }
            let epoch = epoch & 1;
            let buckets_at = base.add((HEADER + u64::from(epoch) * half) as usize);
            Some(Half {
                header,
                buckets: buckets_at,
                entries: buckets_at.add(buckets as usize),
                capacity,
                mask,
                entry_size,
                epoch,
            })
        }
    }

    #[inline(always)]
    fn bucket(&self, at: u32) -> &AtomicU64 {
        // SAFETY: masked; the buckets lie inside the arena and are aligned.
        unsafe {
            &*self
                .buckets
                .cast::<AtomicU64>()
                .add((at & self.mask) as usize)
        }
    }

    /// The entry of an index below the capacity.
    #[inline(always)]
    unsafe fn entry(&self, index: u32) -> *mut u8 {
        // SAFETY: by the caller's promise inside the arena.
        unsafe {
            self.entries
                .add((u64::from(index) * u64::from(self.entry_size)) as usize)
        }
    }

    #[inline(always)]
    unsafe fn stored(&self, index: u32) -> *mut u8 {
        // SAFETY: as `entry`.
        unsafe { self.entry(index).add(ENTRY_KEYS as usize) }
    }

    #[inline(always)]
    unsafe fn state(&self, index: u32) -> &AtomicU32 {
        // SAFETY: as `entry`; aligned since entries are.
        unsafe { &*self.entry(index).cast::<AtomicU32>() }
    }

    /// The index of the entry, added when absent; `None` when full.
    #[inline(always)]
    unsafe fn index(
        &self,
        hash: u32,
        same: impl Fn(*mut u8) -> bool,
        store: impl FnOnce(*mut u8),
    ) -> Option<u32> {
        let mut at = hash;
        for _ in 0..=self.mask {
            let seen = self.bucket(at).load(Acquire);
            if seen == 0 {
                // SAFETY: the caller's promise.
                return unsafe { self.add(hash, at, same, store) };
            }
            let index = (seen as u32).wrapping_sub(1);
            // SAFETY: the index is compared with the capacity first.
            if (seen >> 32) as u32 == hash
                && index < self.capacity
                // SAFETY: the index is below the capacity.
                && same(unsafe { self.stored(index) })
            {
                return Some(index);
            }
            at = at.wrapping_add(1);
        }
        None
    }

    /// Adds a key that was absent when bucket `at` was looked at.
    #[cold]
    #[inline(never)]
    unsafe fn add(
        &self,
        hash: u32,
        at: u32,
        same: impl Fn(*mut u8) -> bool,
        store: impl FnOnce(*mut u8),
    ) -> Option<u32> {
        // SAFETY: the header lies inside the arena; `take` gives an index below the capacity.
        unsafe {
            let pending = &(*self.header).pending;
            let spare = &(*self.header).spare[self.epoch as usize & 1];
            // When all entries are taken, one of them may be for this very key and not be published yet, or be given up
            // in a moment: full is what stays full while nobody is adding. Bounded, since one who was adding may have
            // been killed.
            let mut full = 0;
            for _ in 0..PATIENCE {
                pending.fetch_add(1, AcqRel);
                if let Some(index) = self.take() {
                    store(self.stored(index));
                    let added = self.publish(hash, at, index, &same);
                    pending.fetch_sub(1, AcqRel);
                    return added;
                }
                pending.fetch_sub(1, AcqRel);
                let quiet = pending.load(Acquire) == 0 && spare.load(Acquire) == 0;
                if let Some(index) = self.find(hash, at, &same) {
                    return Some(index);
                }
                full = if quiet { full + 1 } else { 0 };
                if full > 2 {
                    break;
                }
                if !quiet {
                    // The other thread may have to run on this processor.
                    sys::sched_yield();
                }
            }
            None
        }
    }

    /// The index of a published key, looked for from a bucket on.
    unsafe fn find(&self, hash: u32, at: u32, same: impl Fn(*mut u8) -> bool) -> Option<u32> {
        for step in 0..=self.mask {
            let seen = self.bucket(at.wrapping_add(step)).load(Acquire);
            if seen == 0 {
                return None;
            }
            let index = (seen as u32).wrapping_sub(1);
            if (seen >> 32) as u32 == hash
                && index < self.capacity
                // SAFETY: the index is below the capacity.
                && same(unsafe { self.stored(index) })
            {
                return Some(index);
            }
        }
        None
    }

    /// Puts a filled entry into the first free bucket from `at` on; gives it up when its key is met on the way.
    unsafe fn publish(
        &self,
        hash: u32,
        mut at: u32,
        index: u32,
        same: impl Fn(*mut u8) -> bool,
    ) -> Option<u32> {
        // SAFETY: indices are compared with the capacity; the header lies inside the arena.
        unsafe {
            for _ in 0..=self.mask {
                let published = u64::from(hash) << 32 | u64::from(index + 1);
                match self
                    .bucket(at)
                    .compare_exchange(0, published, AcqRel, Acquire)
                {
                    Ok(_) => return Some(index),
                    Err(seen) => {
                        let other = (seen as u32).wrapping_sub(1);
                        if (seen >> 32) as u32 == hash
                            && other < self.capacity
                            && same(self.stored(other))
                        {
                            self.state(index).store(SPARE, Release);
                            (*self.header).spare[self.epoch as usize & 1].fetch_add(1, AcqRel);
                            return Some(other);
                        }
                        at = at.wrapping_add(1);
                    }
                }
            }
            None
        }
    }

    unsafe fn take(&self) -> Option<u32> {
        // SAFETY: the header lies inside the arena; indices are below the capacity.
        unsafe {
            let (used, spare) = (
                &(*self.header).used[self.epoch as usize & 1],
                &(*self.header).spare[self.epoch as usize & 1],
            );
            let mut index = used.load(Relaxed);
            while index < self.capacity {
                match used.compare_exchange_weak(index, index + 1, AcqRel, Relaxed) {
                    Ok(_) => {
                        self.state(index).store(TAKEN, Relaxed);
                        return Some(index);
                    }
                    Err(now) => index = now,
                }
            }
            if spare.load(Acquire) != 0 {
                for index in 0..self.capacity {
                    if self
                        .state(index)
                        .compare_exchange(SPARE, TAKEN, AcqRel, Relaxed)
                        .is_ok()
                    {
                        spare.fetch_sub(1, AcqRel);
                        return Some(index);
                    }
                }
            }
            None
        }
    }

    /// The address of a slot's cell.
    #[inline(always)]
    unsafe fn cell(&self, arena: &Arena, slot: *mut Slot, index: u32) -> Option<*mut u8> {
        // SAFETY: the header lies inside the arena; the result is checked.
        unsafe {
            let cells = (&raw const (*self.header).cells).read_volatile();
            let size = u64::from((&raw const (*self.header).cell_size).read_volatile());
            let row = u64::from(self.epoch) * u64::from(self.capacity) + u64::from(index);
            let at = cells.wrapping_add(row.wrapping_mul(size));
            if !(cells | size).is_multiple_of(8) || cells > arena.size() {
                return None;
            }
            arena.slot_part(slot, at, size)
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn overflow(half: &Half, slot: *mut Slot) -> *mut u8 {
    // SAFETY: the slot is the caller's own.
    unsafe { raise_overflow(slot, (*half.header).flags, half.capacity) };
    core::ptr::null_mut()
}

#[inline(always)]
unsafe fn finish(arena: &Arena, slot: *mut Slot, half: &Half, index: Option<u32>) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        match index {
            Some(index) => match half.cell(arena, slot, index) {
                Some(cell) => cell,
                None => corrupt(slot),
            },
            None => overflow(half, slot),
        }
    }
}

/// See [`crate::abi::shard_cell`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn cell(base: *mut u8, slot: *mut Slot, shard: u64, keys: *const Value) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        let epoch = (*base.cast::<Header>()).epoch.load(Acquire);
        let Some(half) = Half::open(&arena, shard, epoch) else {
            return corrupt(slot);
        };
        let shape = keys_of(half.header);
        if !fits(&half, &shape) {
            return corrupt(slot);
        }
        let index = half.index(
            shape.hash(keys),
            |at| shape.matches(at, keys, u64::MAX),
            |at| shape.store(at, keys),
        );
        finish(&arena, slot, &half, index)
    }
}

fn fits(half: &Half, keys: &KeyShape) -> bool {
    keys.is_valid()
        && keys.string_size.is_multiple_of(8)
        && ENTRY_KEYS + keys.bytes() <= u64::from(half.entry_size)
}

/// See [`crate::abi::shard_cell_i64`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn cell_i64(base: *mut u8, slot: *mut Slot, shard: u64, key: i64) -> *mut u8 {
    // SAFETY: the caller's promise; indices are compared with the capacity.
    unsafe {
        let arena = Arena::of(base);
        let epoch = (*base.cast::<Header>()).epoch.load(Acquire);
        if let Some(half) = Half::open(&arena, shard, epoch) {
            let hash = hash_i64(key);
            // Nearly always the first bucket; whatever is rarer is left to a function that needs a stack frame.
            for at in [hash, hash.wrapping_add(1)] {
                let seen = half.bucket(at).load(Acquire);
                let index = (seen as u32).wrapping_sub(1);
                if (seen >> 32) as u32 == hash
                    && index < half.capacity
                    && half.stored(index).cast::<i64>().read_volatile() == key
                    && let Some(cell) = half.cell(&arena, slot, index)
                {
                    return cell;
                }
            }
        }
        cell_i64_slow(base, slot, shard, key)
    }
}

#[cold]
#[inline(never)]
unsafe fn cell_i64_slow(base: *mut u8, slot: *mut Slot, shard: u64, key: i64) -> *mut u8 {
    // SAFETY: the caller's promise; an entry has room for one long key.
    unsafe {
        let arena = Arena::of(base);
        let epoch = (*base.cast::<Header>()).epoch.load(Acquire);
        let Some(half) = Half::open(&arena, shard, epoch) else {
            return corrupt(slot);
        };
        let index = half.index(
            hash_i64(key),
            |at| at.cast::<i64>().read_volatile() == key,
            |at| at.cast::<i64>().write(key),
        );
        finish(&arena, slot, &half, index)
    }
}

#[cfg(test)]
mod tests;
