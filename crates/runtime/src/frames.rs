//! What is remembered of calls that have not returned: values saved at a function's entry for its return probe, and
//! return addresses that were replaced.
//!
//! A call is known by the address of its return address on the stack, its *return slot*. No two calls in progress have the
//! same one, whatever the stack is (a thread's, a coroutine's) and whichever thread runs on it. A call that ends by
//! longjmp(3), an exception or the end of its thread leaves its record behind; the next call with the same slot
//! takes it over, and one whose slot no longer holds what it held is dropped when room is needed.
//!
//! The memory is private to the process, so a forked child finds the records of the calls it returns from.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::sys;

/// Number of places where a search may begin: a power of two.
pub const CALLS: u64 = 1 << 16;
/// The same for saved values.
pub const SAVED: u64 = 1 << 18;
/// How far a search goes.
pub const REACH: u64 = 1024;
/// How far a search goes before it looks for records that are no longer needed.
const COMFORT: u64 = 32;
/// Return probes that one return may run: functions that end in calls of each other share a return slot.
pub const MAX_PENDING: usize = 61;
/// Factor that spreads the stacks of threads, which lie a power of two apart. See [`place_of`].
pub const SPREAD: u64 = 0x9e37;
/// `Frame`'s words with the stack pointer and the program counter.
const RSP: usize = 4;
const RIP: usize = 16;
/// The part of a call record's key that is its return slot; above it are the key's generations.
pub const SLOT_MASK: u64 = (1 << 48) - 8;
/// In a key: its record is free, but searches go on behind it. What it was of stays readable: a call that returns twice
/// (`vfork`) finds its return address there.
pub const DROPPED: u64 = 1;
/// In a key: its record is being filled in, and nobody else may take it.
const MAKING: u64 = 2;
/// Bits of addresses of user space.
const ADDRESS_BITS: u32 = 48;
/// Bits of a saved record's key that are the return slot; above them is the site's number.
const SLOT_BITS: u32 = 47;

/// Head of the memory.
#[repr(C)]
#[derive(Debug)]
pub struct FrameTable {
    /// Address of the return trampoline, 0 when return addresses are left alone.
    pub trampoline: u64,
    /// Bytes of a saved record.
    pub stride: u64,
    /// Address of the count of calls whose return is missed, since there was no room to remember them; or 0.
    pub missed: u64,
    /// Which groups of 64 call records were ever used, a bit each.
    pub used: [AtomicU64; (CALLS / 64 / 64) as usize + 1],
}

/// A call whose return address was replaced.
#[repr(C)]
#[derive(Debug)]
pub struct CallRecord {
    /// Its return slot and the key's state, or 0.
    pub key: AtomicU64,
    /// The return address.
    pub returns_to: u64,
    /// Entries in `pending`.
    pub count: u64,
    /// Addresses of the [`ReturnSite`]s of what is to be run when it returns, the last first; in the upper 16 bits how
    /// many times more.
    pub pending: [u64; MAX_PENDING],
}

/// What the code at an entry or a tail call is given.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ReturnSite {
    /// Address of the [`FrameTable`].
    pub table: u64,
    /// Address of a function `extern "C" fn(frame, site)`.
    pub handler: u64,
    /// The site's number.
    pub site: u64,
    /// The function's first instruction: where the handler finds the frame to be, since the stack is then as it is there.
    pub entry: u64,
}

/// A record of saved values; they follow.
#[repr(C)]
#[derive(Debug)]
struct SavedRecord {
    key: AtomicU64,
    /// What stood in the return slot.
    returns_to: u64,
}

/// Offset of the call records.
pub const CALLS_AT: u64 = 4096;
/// Offset of the saved records.
pub const SAVED_AT: u64 = CALLS_AT + (CALLS + REACH + 1) * size_of::<CallRecord>() as u64;

/// Bytes of the memory, for saved values of `values` bytes each; 0 when none are saved.
pub const fn size(values: u64) -> u64 {
    match values {
        0 => SAVED_AT,
        _ => SAVED_AT + (SAVED + REACH + 1) * stride(values),
    }
}

/// Bytes of a saved record with `values` bytes of values.
pub const fn stride(values: u64) -> u64 {
    size_of::<SavedRecord>() as u64 + values.next_multiple_of(8)
}

/// Where the search for a return slot begins, in a table of `places`. Neighbours on a stack are neighbours here. The
/// unwind information of the return trampoline computes the same.
pub const fn place_of(slot: u64, places: u64) -> u64 {
    (slot >> 4).wrapping_add((slot >> 23).wrapping_mul(SPREAD)) & (places - 1)
}

const fn saved_key(slot: u64, site: u64) -> u64 {
    slot & ((1 << SLOT_BITS) - 8) | site << SLOT_BITS
}

/// How a kind of record uses its key: which bits tell what it is of, and which change whenever it is taken. By the latter,
/// who looked at a record and found its call to be over notices that it was taken for another one meanwhile.
struct Keys {
    mask: u64,
    generations: u64,
    generation: u64,
}

const CALL_KEYS: Keys = Keys {
    mask: SLOT_MASK,
    generations: 0xffff << 48,
    generation: 1 << 48,
};
const SAVED_KEYS: Keys = Keys {
    mask: !7,
    generations: 4,
    generation: 4,
};

impl Keys {
    /// The word of a record that is taken for `key` while it has `word`.
    const fn taken(&self, word: u64, key: u64) -> u64 {
        key | MAKING | (word.wrapping_add(self.generation) & self.generations)
    }

    const fn dropped(&self, word: u64) -> u64 {
        DROPPED | word & !MAKING
    }
}

/// Whether a return slot no longer holds what it held when its call was recorded.
unsafe fn is_over(table: *mut FrameTable, slot: u64, returns_to: u64) -> bool {
    if sys::is_readable(slot) != Some(true) {
        return true;
    }
    // SAFETY: it is readable; a stack that is unmapped this very moment is taken as other reads of the program's memory
    // take it. The table is the caller's.
    unsafe {
        let word = (slot as *const u64).read_volatile();
        word != returns_to && word != (*table).trampoline
    }
}

/// The record at a distance from where the search began.
unsafe fn call_record(table: *mut FrameTable, index: u64) -> *mut CallRecord {
    // SAFETY: the index is below CALLS + REACH + 1.
    unsafe {
        table
            .byte_add(CALLS_AT as usize)
            .cast::<CallRecord>()
            .add(index as usize)
    }
}

unsafe fn saved_record(table: *mut FrameTable, index: u64) -> *mut SavedRecord {
    // SAFETY: the index is below SAVED + REACH + 1.
    unsafe {
        let offset = SAVED_AT + index * (*table).stride;
        table.byte_add(offset as usize).cast::<SavedRecord>()
    }
}

/// Finds the record of `key`. Null when there is none.
///
/// `at` gives the records by number, `first` is where the search begins.
#[inline(always)]
unsafe fn look<R>(
    first: u64,
    key: u64,
    keys: &Keys,
    at: impl Fn(u64) -> *mut R,
    key_of: impl Fn(*mut R) -> *const AtomicU64,
) -> *mut R {
    for step in 0..REACH {
        let record = at(first + step);
        // SAFETY: `at` gives mapped records.
        let found = unsafe { (*key_of(record)).load(Acquire) };
        if found & (keys.mask | DROPPED) == key {
            return record;
        }
        if found == 0 {
            break;
        }
    }
    core::ptr::null_mut()
}

/// Takes the record of `key`, or a free one. It is the caller's alone until the caller publishes it. Null when there is
/// none. `over` says whether a record's call is over.
#[inline(always)]
unsafe fn take<R>(
    first: u64,
    key: u64,
    keys: &Keys,
    at: impl Fn(u64) -> *mut R,
    key_of: impl Fn(*mut R) -> *const AtomicU64,
    over: impl Fn(*mut R) -> bool,
) -> *mut R {
    /// How often others may be first.
    const TRIES: u32 = 64;
    for _ in 0..TRIES {
        let mut best: Option<(*mut R, u64)> = None;
        for step in 0..REACH {
            let record = at(first + step);
            // SAFETY: `at` gives mapped records.
            let found = unsafe { (*key_of(record)).load(Acquire) };
            if found & keys.mask == key {
                best = Some((record, found));
                break;
            }
            let is_free = found == 0 || found & DROPPED != 0;
            if best.is_none() && (is_free || step >= COMFORT && found & MAKING == 0 && over(record))
            {
                best = Some((record, found));
            }
            if found == 0 {
                break;
            }
        }
        let Some((record, found)) = best else {
            break;
        };
        // SAFETY: as above.
        let word = unsafe { &*key_of(record) };
        let taken = keys.taken(found, key);
        if word.compare_exchange(found, taken, AcqRel, Acquire).is_ok() {
            return record;
        }
    }
    core::ptr::null_mut()
}

/// Makes a record that was taken known to others.
fn publish(key: &AtomicU64) {
    key.store(key.load(Relaxed) & !MAKING, Release);
}

unsafe fn find_call(table: *mut FrameTable, slot: u64) -> *mut CallRecord {
    // SAFETY: the table is mapped and of that size, by the caller's promise.
    unsafe {
        look(
            place_of(slot, CALLS),
            slot & SLOT_MASK,
            &CALL_KEYS,
            |n| call_record(table, n),
            |record| &raw const (*record).key,
        )
    }
}

unsafe fn take_call(table: *mut FrameTable, slot: u64) -> *mut CallRecord {
    // SAFETY: as above.
    unsafe {
        take(
            place_of(slot, CALLS),
            slot & SLOT_MASK,
            &CALL_KEYS,
            |n| call_record(table, n),
            |record| &raw const (*record).key,
            |record| {
                let slot = (*record).key.load(Relaxed) & SLOT_MASK;
                is_over(table, slot, (*table).trampoline)
            },
        )
    }
}

unsafe fn find_saved(table: *mut FrameTable, slot: u64, site: u64) -> *mut SavedRecord {
    // SAFETY: as above.
    unsafe {
        look(
            place_of(slot, SAVED),
            saved_key(slot, site),
            &SAVED_KEYS,
            |n| saved_record(table, n),
            |record| &raw const (*record).key,
        )
    }
}

unsafe fn take_saved(table: *mut FrameTable, slot: u64, site: u64) -> *mut SavedRecord {
    // SAFETY: as above.
    unsafe {
        take(
            place_of(slot, SAVED),
            saved_key(slot, site),
            &SAVED_KEYS,
            |n| saved_record(table, n),
            |record| &raw const (*record).key,
            |record| {
                let slot = (*record).key.load(Relaxed) & ((1 << SLOT_BITS) - 8);
                is_over(table, slot, (*record).returns_to)
            },
        )
    }
}

/// See [`crate::abi::frame_save`].
///
/// # Safety
/// `table` is this process's table, with room for the values; `slot` is a return slot of the calling thread.
pub unsafe fn save(table: *mut FrameTable, slot: u64, site: u64) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let record = take_saved(table, slot, site);
        if record.is_null() {
            count_missed(table);
            return core::ptr::null_mut();
        }
        (*record).returns_to = (slot as *const u64).read();
        publish(&(*record).key);
        record.add(1).cast()
    }
}

/// See [`crate::abi::frame_find`].
///
/// # Safety
/// As [`save`].
pub unsafe fn find(table: *mut FrameTable, slot: u64, site: u64) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let record = find_saved(table, slot, site);
        if record.is_null() {
            return core::ptr::null_mut();
        }
        record.add(1).cast()
    }
}

/// See [`crate::abi::frame_drop`].
///
/// # Safety
/// `values` comes from [`find`].
pub unsafe fn drop(values: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        let record = values.cast::<SavedRecord>().sub(1);
        let key = &(*record).key;
        key.store(SAVED_KEYS.dropped(key.load(Relaxed)), Release);
    }
}

/// See [`crate::abi::return_intercept`].
///
/// # Safety
/// `frame` has the stack pointer of a thread that is about to enter or to leave a function: the return address is on top.
pub unsafe fn intercept(frame: *const u64, site: *const ReturnSite) {
    // SAFETY: the caller's promise.
    unsafe {
        let slot = frame.add(RSP).read();
        let return_slot = slot as *mut u64;
        let table = (*site).table as *mut FrameTable;
        let trampoline = (*table).trampoline;
        let now = return_slot.read_volatile();
        if now == trampoline {
            // Another function has come here by a jump in place of a return.
            let record = find_call(table, slot);
            if record.is_null() || !add_pending(&mut *record, site) {
                count_missed(table);
            }
            return;
        }
        let record = take_call(table, slot);
        if record.is_null() {
            count_missed(table);
            return;
        }
        note_use(table, record);
        (*record).returns_to = now;
        (*record).pending[0] = site as u64;
        (*record).count = 1;
        // Others may think that the call is over as long as its slot does not lead here.
        return_slot.write_volatile(trampoline);
        publish(&(*record).key);
    }
}

/// Adds what is to be run when a call returns; false when there is no room.
unsafe fn add_pending(record: &mut CallRecord, site: *const ReturnSite) -> bool {
    const AGAIN: u64 = 1 << ADDRESS_BITS;
    let count = record.count as usize;
    // A function that has jumped to its own start.
    for one in record.pending.iter_mut().take(count).rev() {
        let same = *one & (AGAIN - 1) == site as u64;
        if same && *one < u64::MAX - AGAIN {
            *one += AGAIN;
            return true;
        }
        // SAFETY: what is pending was put there by `intercept`, from sites that last as long as the table.
        if same || unsafe { site_of(*one).entry != (*site).entry } {
            break;
        }
    }
    let Some(place) = record.pending.get_mut(count) else {
        return false;
    };
    *place = site as u64;
    record.count += 1;
    true
}

/// The site of a pending entry.
unsafe fn site_of(pending: u64) -> &'static ReturnSite {
    // SAFETY: the caller's promise.
    unsafe { &*((pending & ((1 << ADDRESS_BITS) - 1)) as *const ReturnSite) }
}

/// Where the call with a return slot really returns to, whose return address was replaced; 0 when nothing is known of it.
///
/// # Safety
/// `table` is this process's table.
pub unsafe fn returns_to(table: *mut FrameTable, slot: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let record = find_call(table, slot);
        if record.is_null() {
            return 0;
        }
        (*record).returns_to
    }
}

unsafe fn count_missed(table: *mut FrameTable) {
    // SAFETY: the tracer set it to a word of the arena, which is mapped as long as the table is.
    unsafe {
        let count = (*table).missed as *const AtomicU64;
        if let Some(count) = count.as_ref() {
            count.fetch_add(1, Relaxed);
        }
    }
}

unsafe fn note_use(table: *mut FrameTable, record: *mut CallRecord) {
    // SAFETY: the record is one of the table's.
    unsafe {
        let index = (record as u64 - table as u64 - CALLS_AT) / size_of::<CallRecord>() as u64;
        let group = index / 64;
        if let Some(word) = (*table).used.get((group / 64) as usize) {
            let bit = 1 << (group % 64);
            if word.load(Relaxed) & bit == 0 {
                word.fetch_or(bit, Relaxed);
            }
        }
    }
}

/// See [`crate::abi::return_arrived`].
///
/// # Safety
/// `frame` has the registers of a thread that has returned to the trampoline, its stack pointer at the return slot.
pub unsafe fn arrived(table: *mut FrameTable, frame: *mut u64) -> u64 {
    // SAFETY: the caller's promise. What is pending was put there by `intercept`.
    unsafe {
        let slot = frame.add(RSP).read();
        let record = find_call(table, slot);
        if record.is_null() {
            return returned_again(table, slot);
        }
        let returns_to = (*record).returns_to;
        let key = &(*record).key;
        // From here on the slot says that the call is over, but the record is still in use.
        key.store(key.load(Relaxed) | MAKING, Release);
        (slot as *mut u64).write_volatile(returns_to);
        let count = (*record).count as usize;
        let mut pending = (*record).pending.get(..count).unwrap_or_default();
        // The last function first, but its probes in their order.
        while let Some(last) = pending.last() {
            let entry = site_of(*last).entry;
            let others = pending.iter().rposition(|one| site_of(*one).entry != entry);
            let (rest, group) = pending.split_at(others.map_or(0, |n| n + 1));
            pending = rest;
            for &one in group {
                let site = site_of(one);
                let handler: unsafe extern "C" fn(*const u64, u64) =
                    core::mem::transmute(site.handler as usize);
                frame.add(RIP).write(entry);
                for _ in 0..=one >> ADDRESS_BITS {
                    handler(frame, site.site);
                }
            }
        }
        key.store(CALL_KEYS.dropped(key.load(Relaxed)), Release);
        returns_to
    }
}

/// Where a call goes that has returned before.
#[cold]
unsafe fn returned_again(table: *mut FrameTable, slot: u64) -> u64 {
    let first = place_of(slot, CALLS);
    for index in first..first + REACH {
        // SAFETY: as in `arrived`.
        unsafe {
            let record = call_record(table, index);
            let key = (*record).key.load(Acquire);
            if key & SLOT_MASK == slot & SLOT_MASK {
                let returns_to = (*record).returns_to;
                (slot as *mut u64).write_volatile(returns_to);
                return returns_to;
            }
            if key == 0 {
                break;
            }
        }
    }
    0
}

#[cfg(test)]
#[allow(clippy::undocumented_unsafe_blocks, reason = "memory of the fixture")]
mod tests {
    use super::*;

    struct Fixture {
        memory: Vec<u64>,
        stack: Vec<u64>,
    }

    const TRAMPOLINE: u64 = 0x7777_0000;

    impl Fixture {
        fn new() -> Fixture {
            let mut f = Fixture {
                memory: vec![0; size(16) as usize / 8],
                stack: vec![0; 1 << 14],
            };
            let table = f.table();
            unsafe {
                (*table).trampoline = TRAMPOLINE;
                (*table).stride = stride(16);
            }
            f
        }

        fn table(&mut self) -> *mut FrameTable {
            self.memory.as_mut_ptr().cast()
        }

        fn slot(&self, n: usize) -> u64 {
            (&raw const self.stack[2 * n]) as u64
        }

        fn call(&mut self, n: usize, returns_to: u64) {
            self.stack[2 * n] = returns_to;
        }

        fn frame(&self, n: usize) -> [u64; 18] {
            let mut frame = [0; 18];
            frame[RSP] = self.slot(n);
            frame
        }
    }

    #[test]
    fn nested_calls_have_values_of_their_own() {
        let mut f = Fixture::new();
        let table = f.table();
        for n in 0..5000 {
            f.call(n, n as u64);
            let values = unsafe { save(table, f.slot(n), 3) };
            unsafe { values.cast::<u64>().write(n as u64 * 7) };
        }
        for n in (0..5000).rev() {
            let values = unsafe { find(table, f.slot(n), 3) };
            assert_eq!(unsafe { values.cast::<u64>().read() }, n as u64 * 7);
            unsafe { drop(values) };
            assert!(unsafe { find(table, f.slot(n), 3) }.is_null());
            assert!(unsafe { find(table, f.slot(n), 4) }.is_null());
        }
    }

    #[test]
    fn functions_that_share_a_return_slot_are_told_apart() {
        let mut f = Fixture::new();
        let table = f.table();
        f.call(1, 9);
        let (a, b) = unsafe { (save(table, f.slot(1), 1), save(table, f.slot(1), 2)) };
        assert_ne!(a, b);
        assert_eq!(unsafe { find(table, f.slot(1), 1) }, a);
        assert_eq!(unsafe { find(table, f.slot(1), 2) }, b);
    }

    static RAN: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn handler(_: *const u64, site: u64) {
        RAN.store(RAN.load(Relaxed) * 10 + site, Relaxed);
    }

    #[test]
    fn a_return_runs_all_that_is_pending_and_goes_home() {
        let mut f = Fixture::new();
        let table = f.table();
        f.call(4, 0x1234);
        let site = |site| ReturnSite {
            table: table as u64,
            handler: handler as *const () as u64,
            site,
            entry: 0x4000 + site,
        };
        let mut frame = f.frame(4);
        let (one, two) = (site(1), site(2));
        unsafe {
            intercept(frame.as_ptr(), &one);
            assert_eq!((f.slot(4) as *const u64).read(), TRAMPOLINE);
            assert_eq!(returns_to(table, f.slot(4)), 0x1234);
            intercept(frame.as_ptr(), &two);
            assert_eq!(arrived(table, frame.as_mut_ptr()), 0x1234);
            assert_eq!(frame[RIP], 0x4000 + 1);
            assert_eq!((f.slot(4) as *const u64).read(), 0x1234);
            assert_eq!(RAN.load(Relaxed), 21);
            // vfork(2) returns in the child first.
            assert_eq!(arrived(table, frame.as_mut_ptr()), 0x1234);
            assert_eq!(RAN.load(Relaxed), 21);
            frame[RSP] += 8;
            assert_eq!(arrived(table, frame.as_mut_ptr()), 0);
        }
    }

    #[test]
    fn a_function_that_jumps_to_its_own_start_returns_as_often() {
        static TIMES: AtomicU64 = AtomicU64::new(0);
        unsafe extern "C" fn count(_: *const u64, _: u64) {
            TIMES.fetch_add(1, Relaxed);
        }
        let mut f = Fixture::new();
        let table = f.table();
        let site = ReturnSite {
            table: table as u64,
            handler: count as *const () as u64,
            site: 0,
            entry: 0x4000,
        };
        f.call(7, 0x1234);
        let mut frame = f.frame(7);
        unsafe {
            for _ in 0..100_000 {
                intercept(frame.as_ptr(), &site);
            }
            assert_eq!(arrived(table, frame.as_mut_ptr()), 0x1234);
        }
        assert_eq!(TIMES.load(Relaxed), 100_000);
    }

    #[test]
    fn a_call_takes_over_what_a_jump_left_behind() {
        let mut f = Fixture::new();
        let table = f.table();
        let site = ReturnSite {
            table: table as u64,
            handler: 0,
            site: 0,
            entry: 0,
        };
        let frame = f.frame(4);
        for returns_to in [0x1111, 0x2222] {
            f.call(4, returns_to);
            unsafe { intercept(frame.as_ptr(), &site) };
        }
        let record = unsafe { find_call(table, f.slot(4)) };
        unsafe {
            assert_eq!((*record).returns_to, 0x2222);
            assert_eq!((*record).count, 1);
        }
    }

    #[test]
    fn records_of_calls_that_are_over_make_room() {
        let mut f = Fixture::new();
        let table = f.table();
        // All these begin their search at one place.
        let slots: Vec<u64> = (0..REACH + 100).map(|n| 0x10_0000 + (n << 40)).collect();
        let first = place_of(slots[0], SAVED);
        for &slot in &slots {
            let key = saved_key(slot, 0);
            let at = |n| unsafe { saved_record(table, n) };
            let key_of = |r: *mut SavedRecord| unsafe { &raw const (*r).key };
            let record = unsafe { take(first, key, &SAVED_KEYS, at, key_of, |_| true) };
            assert!(!record.is_null());
            publish(unsafe { &(*record).key });
        }
    }
}
