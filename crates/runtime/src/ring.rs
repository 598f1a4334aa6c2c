//! The ring of records between a handler's thread (the only writer) and the tracer (the only reader). `head` and
//! `tail` count bytes ever written and read; records never wrap, a Pad record fills what is left before the end.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::arena::{Arena, Geometry};
use crate::layout::{Record, RecordKind, Slot};
use crate::string::copy_bytes;
use crate::{facts, format, raise, time};

const RECORD: u64 = core::mem::size_of::<Record>() as u64;

/// See [`crate::abi::ring_reserve`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn reserve(base: *mut u8, slot: *mut Slot, bytes: u64, kind: u64, id: u64) -> *mut u8 {
    // SAFETY: header and slot are mapped, the record is checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(base);
        let header = arena.header();
        let (ring, size) = (u64::from((*header).ring), u64::from((*header).ring_size));
        let head = (*slot).ring_head.load(Relaxed);
        let tail = (*slot).ring_tail.load(Acquire);
        // The ring is behind the stack that this runs on, unless the program has written over the header.
        let stack_end = u64::from((*header).native_stack) + u64::from((*header).native_stack_size);
        if bytes > size || ring < stack_end {
            return drop_record(slot);
        }
        let len = RECORD + ((bytes + 7) & !7);
        let mut at = head & size.wrapping_sub(1) & !7;
        let mut start = head;
        let left = size.wrapping_sub(at);
        if len > left {
            start = head.wrapping_add(left);
        }
        if start.wrapping_add(len).wrapping_sub(tail) > size {
            return drop_record(slot);
        }
        if len > left {
            if let Some(pad) = arena.slot_part(slot, ring + at, 8) {
                pad.cast::<u32>().write(left as u32);
                pad.add(4).cast::<u32>().write(RecordKind::Pad as u32);
            }
            at = 0;
        }
        let Some(place) = arena.slot_part(slot, ring + at, len) else {
            return drop_record(slot);
        };
        if !(place as u64).is_multiple_of(8) {
            return drop_record(slot);
        }
        place.cast::<Record>().write(Record {
            len: len as u32,
            kind: kind as u16,
            reserved: 0,
            id,
            time: time::cycles(),
        });
        (*slot).ring_pending = start;
        place.add(RECORD as usize)
    }
}

#[cold]
unsafe fn drop_record(slot: *mut Slot) -> *mut u8 {
    // SAFETY: the slot is the caller's own.
    unsafe {
        let dropped = &(*slot).ring_dropped;
        dropped.store(dropped.load(Relaxed).wrapping_add(1), Relaxed);
    }
    core::ptr::null_mut()
}

/// The head of the record begun last, when it lies inside the arena.
#[inline(always)]
unsafe fn pending(arena: &Arena, slot: *mut Slot) -> Option<*mut Record> {
    // SAFETY: header and slot are mapped.
    unsafe {
        let header = arena.header();
        let at = (*slot).ring_pending & u64::from((*header).ring_size).wrapping_sub(1) & !7;
        arena
            .slot_part(slot, u64::from((*header).ring) + at, RECORD)
            .map(|p| p.cast())
    }
}

/// See [`crate::abi::ring_commit`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn commit(base: *mut u8, slot: *mut Slot) {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        let Some(record) = pending(&arena, slot) else {
            return;
        };
        let before = (*slot).ring_head.load(Relaxed);
        let after = (*slot).ring_pending.wrapping_add(u64::from((*record).len));
        (*slot).ring_head.store(after, Release);
        let tail = (*slot).ring_tail.load(Relaxed);
        let half = u64::from((*arena.header()).ring_size) / 2;
        if after.wrapping_sub(tail) >= half && before.wrapping_sub(tail) < half {
            raise::wake(base);
        }
    }
}

/// See [`crate::abi::ring_commit_len`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn commit_len(base: *mut u8, slot: *mut Slot, bytes: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(record) = pending(&Arena::of(base), slot) {
            let len = RECORD + ((bytes.min(1 << 31) + 7) & !7);
            (*record).len = (*record).len.min(len as u32);
        }
        commit(base, slot);
    }
}

/// Writes a record that is one string.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn text(base: *mut u8, slot: *mut Slot, kind: RecordKind, s: &[u8]) {
    // SAFETY: the caller's promise; the reserved size is what `put_string` writes.
    unsafe {
        let at = reserve(base, slot, 8 + ((s.len() as u64 + 7) & !7), kind as u64, 0);
        if !at.is_null() {
            format::put_string(at, s);
            commit(base, slot);
        }
    }
}

/// Asks the tracer to send a signal to this thread, at once. See [`crate::abi::raise_signal`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn signal(base: *mut u8, slot: *mut Slot, signal: i64) {
    // SAFETY: the caller's promise; two words are reserved.
    unsafe {
        let at = reserve(base, slot, 16, RecordKind::Raise as u64, signal as u64).cast::<u64>();
        if !at.is_null() {
            let pid = facts::pid(base, slot) as u64;
            at.write(u64::from((*slot).process) << 32 | pid);
            at.add(1).write(facts::tid(base, slot) as u64);
            commit(base, slot);
            raise::wake(base);
        }
    }
}

/// A record as the tracer sees it: a copy, so that nothing can change it any more.
#[derive(Clone, Copy, Debug)]
pub struct Drained<'a> {
    /// A [`RecordKind`]'s number, or nonsense.
    pub kind: u16,
    /// Depends on the kind.
    pub id: u64,
    /// Time stamp counter.
    pub time: u64,
    /// The payload.
    pub payload: &'a [u8],
}

/// What [`drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Records given to the closure.
    pub records: u64,
    /// The ring made no sense; what it held was thrown away.
    pub damaged: bool,
}

/// Tracer: takes the complete records out of a slot's ring, in order. `tail` is the reader's own count of bytes read
/// (0 at first): the one in the arena is only told to the writer. `scratch` has at least `geometry.ring_size` bytes.
pub fn drain(
    geometry: &Geometry,
    slot_index: u32,
    tail: &mut u64,
    scratch: &mut [u8],
    mut f: impl FnMut(&Drained<'_>),
) -> DrainReport {
    let mut report = DrainReport::default();
    let size = u64::from(geometry.ring_size);
    let (Some(slot), true) = (geometry.slot(slot_index), scratch.len() as u64 >= size) else {
        return report;
    };
    let Some(data) = geometry
        .arena
        .slot_part(slot, u64::from(geometry.ring), size)
    else {
        return report;
    };
    // SAFETY: slot and ring lie inside the arena.
    unsafe {
        let head = (*slot).ring_head.load(Acquire);
        let mut left = head.wrapping_sub(*tail);
        if left > size || left % 8 != 0 || !(*tail).is_multiple_of(8) {
            report.damaged = left != 0;
            left = 0;
        }
        while left >= 8 {
            let at = (head.wrapping_sub(left)) & (size - 1);
            let place = data.add(at as usize);
            let len = u64::from(place.cast::<u32>().read_volatile());
            let kind = place.add(4).cast::<u16>().read_volatile();
            let is_pad = kind == RecordKind::Pad as u16;
            let least = if is_pad { 8 } else { RECORD };
            if len % 8 != 0 || len < least || len > left || len > size - at {
                report.damaged = true;
                break;
            }
            if !is_pad {
                let copy = scratch.get_mut(..len as usize).unwrap_or(&mut []);
                copy_bytes(copy.as_mut_ptr(), place, copy.len());
                let mut head = format::Args::new(copy.get(8..).unwrap_or(&[]));
                let (id, time) = (
                    head.long().unwrap_or(0) as u64,
                    head.long().unwrap_or(0) as u64,
                );
                f(&Drained {
                    kind,
                    id,
                    time,
                    payload: copy.get(RECORD as usize..).unwrap_or(&[]),
                });
                report.records += 1;
            }
            left -= len;
        }
        *tail = head;
        (*slot).ring_tail.store(head, Release);
    }
    report
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{Fixture, RING};

    fn drained(f: &Fixture, tail: &mut u64) -> (Vec<(u16, u64, Vec<u8>)>, DrainReport) {
        let mut scratch = vec![0; RING as usize];
        let mut out = Vec::new();
        let report = drain(&f.geometry, 1, tail, &mut scratch, |r| {
            out.push((r.kind, r.id, r.payload.to_vec()))
        });
        (out, report)
    }

    #[test]
    fn records_pass_in_order_across_the_end() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let (mut tail, mut next, mut seen) = (0, 0u64, 0u64);
        for round in 0..200u64 {
            for _ in 0..1 + round % 7 {
                let bytes = next % 90;
                unsafe {
                    let at = reserve(f.base, slot, bytes, 1, next);
                    assert!(!at.is_null());
                    for i in 0..bytes {
                        at.add(i as usize).write(next as u8);
                    }
                    commit(f.base, slot);
                }
                next += 1;
            }
            let (records, report) = drained(&f, &mut tail);
            assert!(!report.damaged);
            for (kind, id, payload) in records {
                assert_eq!((kind, id), (1, seen));
                assert_eq!(payload.len() as u64, (seen % 90).next_multiple_of(8));
                assert!(
                    payload[..(seen % 90) as usize]
                        .iter()
                        .all(|&b| b == seen as u8)
                );
                seen += 1;
            }
        }
        assert_eq!(
            (next, unsafe { (*slot).ring_dropped.load(Relaxed) }),
            (seen, 0)
        );
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let mut kept = 0;
        for _ in 0..100 {
            unsafe {
                if !reserve(f.base, slot, 100, 1, 0).is_null() {
                    commit(f.base, slot);
                    kept += 1;
                }
            }
        }
        // A record takes 24 + 104 bytes.
        assert_eq!(kept, RING / 128);
        assert_eq!(
            unsafe { (*slot).ring_dropped.load(Relaxed) },
            100 - u64::from(kept)
        );
        assert_eq!(drained(&f, &mut 0).1.records, u64::from(kept));
        unsafe {
            assert!(
                reserve(f.base, slot, u64::from(RING), 1, 0).is_null()
                    && reserve(f.base, slot, u64::MAX, 1, 0).is_null()
            )
        };
    }

    #[test]
    fn shortened_records() {
        let f = Fixture::new();
        let slot = f.owned(1);
        unsafe {
            reserve(f.base, slot, 64, 1, 5);
            commit_len(f.base, slot, 9);
            text(f.base, slot, RecordKind::Warn, b"careful");
        }
        let (records, _) = drained(&f, &mut 0);
        assert_eq!(records[0].2.len(), 16);
        assert_eq!(
            format::Args::new(&records[1].2).string(),
            Some(&b"careful"[..])
        );
    }

    /// The half-written record of a thread that was killed is never seen.
    #[test]
    fn uncommitted_records_do_not_exist() {
        let f = Fixture::new();
        unsafe { reserve(f.base, f.owned(1), 8, 1, 0) };
        assert_eq!(drained(&f, &mut 0).1.records, 0);
    }

    proptest! {
        #[test]
        fn any_contents_end(seed in prop::collection::vec(any::<u32>(), 16), head: u64, near in 0u64..8192, tail in 0u64..4096, pick: bool) {
            let f = Fixture::new();
            let slot = f.owned(1);
            let mut own = tail;
            unsafe {
                let data = slot.cast::<u8>().add(4096).cast::<u32>();
                for i in 0..RING as usize / 4 {
                    let word = seed[i % 16];
                    data.add(i).write(if i % 3 == 0 { word % 256 } else { word });
                }
                (*slot).ring_head.store(if pick { head } else { near }, Relaxed);
                (*slot).ring_tail.store(head, Relaxed);
                (*slot).ring_pending = head;
                drained(&f, &mut own);
                let at = reserve(f.base, slot, near, 1, 2);
                let _ = at;
                commit(f.base, slot);
                commit_len(f.base, slot, near);
                drained(&f, &mut own);
            }
        }
    }
}
