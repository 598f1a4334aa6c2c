//! Slots: which thread owns which.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::arena::Arena;
use crate::layout::{
    Header, NO_STACK, REMOVED, Slot, THREAD_TABLE_ENTRIES, ThreadEntry, ThreadTable, thread_hash,
};
use crate::memory;
use crate::raise::{self, Canned};
use crate::sys;

/// See [`crate::abi::slot_acquire`].
///
/// # Safety
/// As the functions of [`crate::abi`]; `table` is this process's table.
pub unsafe fn acquire(
    arena: *mut u8,
    table: *mut ThreadTable,
    fsbase: u64,
    process: u64,
    sp: u64,
) -> *mut Slot {
    // SAFETY: table and arena are mapped by the caller's promise.
    unsafe {
        // A thread without an FS base (a static program without TLS) is told by its id.
        let key = if fsbase == 0 {
            (1 << 63) | sys::gettid() as u64
        } else {
            fsbase.wrapping_add(1)
        };
        let mut slot: *mut Slot = core::ptr::null_mut();
        let mut owner = (*table).pid.load(Acquire);
        if owner == 0 {
            owner = sys::getpid() as u32;
            if let Err(first) = (*table).pid.compare_exchange(0, owner, AcqRel, Acquire) {
                owner = first;
            }
        }
        // Another thread may be faster at an entry; the bound is for a table that is overwritten all the time.
        for _ in 0..THREAD_TABLE_ENTRIES {
            let entry = match find(&*table, thread_hash(fsbase), key) {
                Place::Known(entry) => {
                    let slot = entry.slot.load(Acquire) as *mut Slot;
                    // The C library gives a new thread the FS base of an old one, which may have ended in a handler.
                    if is_left(&Arena::of(arena), slot, owner, sp) {
                        return own(arena, slot, (*slot).index, owner, process as u32);
                    }
                    return slot;
                }
                Place::Free(entry, before) => (entry, before),
                Place::Full => break,
            };
            if slot.is_null() {
                slot = take(arena, process as u32, owner);
                if slot.is_null() {
                    break;
                }
            }
            // The key is what other threads compare, and only this thread ever looks for it: a reader of another key
            // does not care whether the slot is there yet.
            let (entry, before) = entry;
            let taken = entry.key.compare_exchange(before, key, AcqRel, Acquire);
            if taken.is_ok() {
                entry.slot.store(slot as u64, Release);
                return slot;
            }
        }
        if !slot.is_null() {
            release(&*arena.cast::<Header>(), &*slot, (*slot).index, owner);
        }
        (*arena.cast::<Header>())
            .skipped_no_slot
            .fetch_add(1, Relaxed);
        core::ptr::null_mut()
    }
}

/// Whether a slot is in a handler in which an earlier thread of the same FS base has ended.
///
/// The calling thread may have had the slot since that one ended, and be in the handler itself: then it is in a signal's handler
/// now, and so on the slot's stack or its alternate one, or far below where it entered the handler.
unsafe fn is_left(arena: &Arena, slot: *mut Slot, pid: u32, sp: u64) -> bool {
    // SAFETY: inside the arena.
    unsafe {
        if arena.slot_part(slot, 0, size_of::<Slot>() as u64).is_none()
            || (*slot).busy.load(Acquire) == 0
        {
            return false;
        }
        let tid = (*slot).tid.load(Acquire);
        if u64::from(tid) == sys::gettid() as u64 || !sys::thread_is_gone(pid, tid) {
            return false;
        }
        // What comes between: the way from the trampoline to here. A signal's frame alone takes more.
        const BETWEEN: u64 = 128;
        let header = arena.header();
        let own = (slot as u64).wrapping_add(u64::from((*header).native_stack));
        let is_in = |start: u64, size: u64| sp.wrapping_sub(start) <= size;
        let signals = sys::signal_stack();
        sp.saturating_add(BETWEEN) >= (*slot).saved_sp
            && !is_in(own, u64::from((*header).native_stack_size))
            && !signals
                .is_some_and(|stack| stack.flags & NO_STACK == 0 && is_in(stack.base, stack.size))
    }
}

/// What a search in a thread table came to.
enum Place<'a> {
    /// The thread's entry.
    Known(&'a ThreadEntry),
    /// There is none; it may be put here, where this key is now.
    Free(&'a ThreadEntry, u64),
    /// There is none, and no room.
    Full,
}

fn find(table: &ThreadTable, first: usize, key: u64) -> Place<'_> {
    let mut removed = Place::Full;
    for step in 0..THREAD_TABLE_ENTRIES {
        let Some(entry) = table.entries.get((first + step) % THREAD_TABLE_ENTRIES) else {
            break;
        };
        match entry.key.load(Acquire) {
            found if found == key => return Place::Known(entry),
            0 if matches!(removed, Place::Full) => return Place::Free(entry, 0),
            0 => break,
            REMOVED if matches!(removed, Place::Full) => removed = Place::Free(entry, REMOVED),
            _ => {}
        }
    }
    removed
}

unsafe fn take(base: *mut u8, process: u32, pid: u32) -> *mut Slot {
    // SAFETY: the arena is mapped; slots are checked to lie inside it.
    unsafe {
        let arena = Arena::of(base);
        let header = &*arena.header();
        let freed = take_free(&arena, header, pid);
        if freed != 0
            && let Some(slot) = arena.slot(freed)
        {
            return own(base, slot, freed, pid, process);
        }
        let mut used = header.slots_used.load(Relaxed).max(1);
        let available = match header.slots_available.load(Acquire) {
            0 => header.slot_count,
            some => some.min(header.slot_count),
        };
        while used < available {
            match header
                .slots_used
                .compare_exchange_weak(used, used + 1, AcqRel, Relaxed)
            {
                Ok(_) => {
                    return match arena.slot(used) {
                        Some(slot) => own(base, slot, used, pid, process),
                        None => core::ptr::null_mut(),
                    };
                }
                Err(now) => used = now.max(1),
            }
        }
        let lock = || {
            header
                .adopting
                .compare_exchange(0, pid, AcqRel, Relaxed)
                .is_ok()
        };
        // Who holds it looks through the slots once; where processes come and go by hundreds, several want one.
        let mut locked = lock();
        for _ in 0..PATIENCE {
            if locked || sys::process_is_gone(header.adopting.load(Relaxed)) {
                break;
            }
            sys::sched_yield();
            locked = lock();
        }
        if !locked {
            // Held by another, or left behind by one that was killed while it adopted.
            let holder = header.adopting.load(Relaxed);
            if !sys::process_is_gone(holder)
                || header
                    .adopting
                    .compare_exchange(holder, pid, AcqRel, Relaxed)
                    .is_err()
            {
                return core::ptr::null_mut();
            }
        }
        let adopted = adopt(&arena, header.slot_count, pid, process);
        header.adopting.store(0, Release);
        adopted
    }
}

/// The owner of a slot that nobody may take.
const NOBODY: u32 = u32::MAX;

/// How often a thread lets others run before it gives up waiting for a slot.
const PATIENCE: u32 = 1 << 16;

/// Takes the slot that was given back last: what it needs of memory is there already, and few slots are ever used. Its
/// number, or 0. It is the process's at once, so that it is not lost when that is killed here.
fn take_free(arena: &Arena, header: &Header, pid: u32) -> u32 {
    // The bound is for a list that is overwritten all the time.
    for _ in 0..PATIENCE {
        let first = header.free_slots.load(Acquire);
        let index = first as u32;
        let Some(slot) = arena.slot(index) else {
            break;
        };
        if index == 0 {
            break;
        }
        // SAFETY: inside the arena. Another may have taken the slot meanwhile; then the head is another one, too.
        let (next, owner) = unsafe { ((*slot).next_free.load(Relaxed), &(*slot).pid) };
        let rest = behind(first, next);
        let taken = header
            .free_slots
            .compare_exchange(first, rest, AcqRel, Acquire);
        if taken.is_ok() && owner.compare_exchange(0, pid, AcqRel, Acquire).is_ok() {
            return index;
        }
    }
    0
}

/// The head of the list of free slots that follows another one.
fn behind(head: u64, index: u32) -> u64 {
    ((head >> 32) + 1) << 32 | u64::from(index)
}

/// Takes a slot whose process is gone, before the tracer has noticed that. A thread's end alone is no proof: its FS base,
/// by which slots are found, may belong to a new thread of the same process already.
unsafe fn adopt(arena: &Arena, count: u32, pid: u32, process: u32) -> *mut Slot {
    // One that was found to be gone: its slots often stand side by side.
    let mut gone = 0;
    for index in 1..count {
        let Some(slot) = arena.slot(index) else { break };
        // SAFETY: inside the arena.
        let (owner, record) = unsafe { (&(*slot).pid, (*slot).process) };
        let was = owner.load(Acquire);
        let dead = was != 0
            && record == process
            && was != pid
            && (was == gone || sys::process_is_gone(was));
        if dead {
            gone = was;
        }
        // The tracer may be giving it back.
        let taken = dead && owner.compare_exchange(was, pid, AcqRel, Acquire).is_ok();
        if taken {
            // SAFETY: nobody uses the slot any more, and nobody else takes it.
            return unsafe { own(arena.base(), slot, index, pid, process) };
        }
    }
    core::ptr::null_mut()
}

unsafe fn own(base: *mut u8, slot: *mut Slot, index: u32, pid: u32, process: u32) -> *mut Slot {
    // SAFETY: the slot is the caller's to initialise.
    unsafe {
        (*slot).generation.fetch_add(1, AcqRel);
        (*slot).index = index;
        (*slot).process = process;
        have_stack(&Arena::of(base), slot);
        (*slot).tid.store(sys::gettid() as u32, Relaxed);
        (*slot).error = 0;
        (*slot).error_len = 0;
        (*slot).nesting = 0;
        (*slot).iteration_top = 0;
        (*slot).indent_depth = 0;
        (*slot).saved_sp = 0;
        (*slot).stack_size = 0;
        (*slot).room_size = 0;
        (*slot).ring_pending = (*slot).ring_head.load(Relaxed);
        (*slot).lock_held.store(0, Relaxed);
        (*slot).busy.store(0, Relaxed);
        (*slot).pid.store(pid, Release);
    }
    slot
}

/// Makes a slot's stack memory of this process alone. In memory that is shared, parent and child would be on one stack after
/// a fork(2) by a signal's handler that has interrupted ours. Where the kernel refuses, it stays so.
unsafe fn have_stack(arena: &Arena, slot: *mut Slot) {
    const PAGE: u64 = 4096;
    // SAFETY: the header is mapped; what is mapped anew lies inside the arena and is in use by nobody.
    unsafe {
        let header = arena.header();
        let size = u64::from((*header).native_stack_size);
        if let Some(start) = arena.slot_part(slot, u64::from((*header).native_stack), size)
            && memory::process(arena, slot).is_some_and(|record| (*record).may_map != 0)
            && size > 0
            && (start as u64 | size).is_multiple_of(PAGE)
        {
            sys::map_private(start, size);
        }
    }
}

/// See [`crate::abi::string_reserve`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn string_reserve(base: *mut u8, slot: *mut Slot, bytes: u64) -> *mut u8 {
    // SAFETY: header and slot are mapped; the result is checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(base);
        let header = arena.header();
        let (start, size) = (
            u64::from((*header).string_stack),
            u64::from((*header).string_stack_size),
        );
        let top = u64::from((*slot).string_top);
        let need = bytes.saturating_add(7) & !7;
        if top >= start
            && top <= start + size
            && need <= start + size - top
            // Else the program has written over the header.
            && start + size <= u64::from((*header).native_stack)
            && arena.slot_part(slot, top, need).is_some()
        {
            (*slot).string_top = (top + need) as u32;
            return slot.cast::<u8>().add(top as usize);
        }
        raise::canned(base, slot, Canned::StringStack as u64);
        core::ptr::null_mut()
    }
}

/// Gives a slot back whose thread or process has ended, even in a handler: locks that it held are free. Counters and ring
/// stay. False when it is not this owner's (any more).
pub fn release(header: &Header, slot: &Slot, index: u32, owner: u32) -> bool {
    let mine = slot.pid.compare_exchange(owner, NOBODY, AcqRel, Acquire);
    if mine.is_err() {
        return false;
    }
    slot.busy.store(0, Release);
    slot.generation.fetch_add(1, AcqRel);
    slot.pid.store(0, Release);
    let mut first = header.free_slots.load(Acquire);
    for _ in 0..PATIENCE {
        slot.next_free.store(first as u32, Relaxed);
        let head = behind(first, index);
        match header
            .free_slots
            .compare_exchange(first, head, AcqRel, Acquire)
        {
            Ok(_) => break,
            Err(now) => first = now,
        }
    }
    true
}

/// Tracer: takes a slot out of use whose thread has left a handler for good without returning from it (longjmp(3) out
/// of a signal's handler): locks that it held are free. Nobody gets the slot, in case that the thread comes back.
pub fn retire(slot: &Slot) {
    slot.generation.fetch_add(1, AcqRel);
    slot.pid.store(NOBODY, Release);
    slot.busy.store(0, Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, SLOTS};
    use core::sync::atomic::AtomicU32;

    fn table() -> Box<ThreadTable> {
        // SAFETY: atomics of zero.
        unsafe { Box::new(core::mem::zeroed()) }
    }

    #[test]
    fn threads_keep_their_slots() {
        let f = Fixture::new();
        let mut t = table();
        let mut get = |fsbase| unsafe { acquire(f.base, &mut *t, fsbase, 0, 0) };
        let a = get(0x7f00_1000);
        let b = get(0x7f00_2000);
        assert!(a != b && !a.is_null() && !b.is_null());
        assert_eq!((get(0x7f00_1000), get(0x7f00_2000)), (a, b));
        // Without an FS base the thread's id tells it.
        assert_eq!(get(0), get(0));
        unsafe {
            assert_eq!(
                ((*a).index, (*a).pid.load(Relaxed)),
                (1, std::process::id())
            )
        };
    }

    #[test]
    fn removed_entries_are_used_again_and_end_no_search() {
        let f = Fixture::new();
        let mut t = table();
        let mut get = |fsbase: u64| unsafe { acquire(f.base, &mut *t, fsbase, 0, 0) };
        // Two FS bases that are looked for from the same place on.
        let a = 0x1000u64;
        let b = (2..)
            .map(|n| n * 0x1000)
            .find(|&b| thread_hash(b) == thread_hash(a))
            .expect("one");
        let (first, second) = (get(a), get(b));
        t.entries[thread_hash(a)].key.store(REMOVED, Relaxed);
        let header = unsafe { &*f.base.cast::<Header>() };
        let (me, slot) = (std::process::id(), unsafe { &*first });
        assert!(!release(header, slot, slot.index, me + 1));
        assert!(release(header, slot, slot.index, me));
        let mut get = |fsbase: u64| unsafe { acquire(f.base, &mut *t, fsbase, 0, 0) };
        assert_eq!(get(b), second);
        let third = get(a);
        assert_eq!(third, first);
        assert_eq!((get(a), get(b)), (third, second));
        let key = t.entries[thread_hash(a)].key.load(Relaxed);
        assert_eq!(key, a + 1);
    }

    #[test]
    fn a_vfork_child_takes_slots_in_its_parents_name() {
        let f = Fixture::new();
        let mut t = table();
        t.pid.store(4711, Relaxed);
        let slot = unsafe { acquire(f.base, &mut *t, 0x1000, 0, 0) };
        assert_eq!(unsafe { (*slot).pid.load(Relaxed) }, 4711);
    }

    #[test]
    fn slots_run_out_and_are_taken_over() {
        let f = Fixture::new();
        let mut t = table();
        for i in 1..u64::from(SLOTS) {
            assert!(!unsafe { acquire(f.base, &mut *t, i * 4096, 0, 0) }.is_null());
        }
        let mut get = |fsbase| unsafe { acquire(f.base, &mut *t, fsbase, 0, 0) };
        assert!(get(99 * 4096).is_null());
        let header = unsafe { &*f.base.cast::<Header>() };
        assert_eq!(header.skipped_no_slot.load(Relaxed), 1);
        // Another process held slot 3 and is gone: its counters stay, its identity does not.
        let mut child = std::process::Command::new("true").spawn().expect("true");
        child.wait().expect("ended");
        let slot = f.slot(3);
        unsafe {
            (*slot).pid.store(child.id(), Relaxed);
            (*slot).skipped.store(5, Relaxed);
            (*slot).busy.store(1, Relaxed);
            assert_eq!(get(99 * 4096), slot);
            assert_eq!(
                (
                    (*slot).skipped.load(Relaxed),
                    (*slot).busy.load(Relaxed),
                    (*slot).pid.load(Relaxed)
                ),
                (5, 0, std::process::id())
            );
        }
        assert!(get(77 * 4096).is_null());
        let me = std::process::id();
        for index in [2, 1] {
            assert!(release(header, unsafe { &*f.slot(index) }, index, me));
            assert!(!release(header, unsafe { &*f.slot(index) }, index, me));
        }
        assert_eq!(get(77 * 4096), f.slot(1));
        assert_eq!(get(78 * 4096), f.slot(2));
        assert!(get(79 * 4096).is_null());
    }

    #[test]
    fn slots_given_back_and_taken_at_once_have_one_owner_each() {
        let f = Fixture::new();
        let header = unsafe { &*f.base.cast::<Header>() };
        let base = f.base as usize;
        let me = std::process::id();
        let held: Vec<AtomicU32> = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let held = &held;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        let slot = unsafe { take(base as *mut u8, 0, me) };
                        assert!(!slot.is_null());
                        let index = unsafe { (*slot).index };
                        assert_eq!(held[index as usize].fetch_add(1, AcqRel), 0);
                        held[index as usize].store(0, Release);
                        assert!(release(header, unsafe { &*slot }, index, me));
                    }
                });
            }
        });
        // One for each thread was enough.
        assert!(header.slots_used.load(Relaxed) <= 1 + 4);
    }

    #[test]
    fn a_damaged_list_of_free_slots_is_left_alone() {
        let f = Fixture::new();
        let mut t = table();
        let header = unsafe { &*f.base.cast::<Header>() };
        let mut get = |fsbase| unsafe { acquire(f.base, &mut *t, fsbase, 0, 0) };
        header.free_slots.store(u64::MAX, Relaxed);
        assert_eq!(get(4096), f.slot(1));
        // It leads to a slot in use, and from there nowhere.
        header.free_slots.store(1, Relaxed);
        assert_eq!(get(2 * 4096), f.slot(2));
    }

    #[test]
    fn string_stack_is_bounded() {
        let f = Fixture::new();
        let slot = f.slot(1);
        unsafe {
            let first = string_reserve(f.base, slot, 100);
            let second = string_reserve(f.base, slot, 100);
            assert_eq!(second as usize - first as usize, 104);
            assert!(string_reserve(f.base, slot, 900).is_null());
            assert!(f.error(slot).is_some());
            (*slot).string_top = u32::MAX;
            assert!(string_reserve(f.base, slot, 8).is_null());
        }
    }
}
