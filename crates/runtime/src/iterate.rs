//! `foreach` over maps and histograms. What it iterates over is decided when it begins: an array of links, sorted when
//! asked for, in the slot's iteration area, which is used as a stack.
//!
//! As in stap, sorting an array of numbers or texts leaves it sorted: later loops without an order see that one, and
//! the first of it makes room in an array that wraps. Statistics are put together anew for each loop and have no order.

use crate::arena::Arena;
use crate::layout::{Slot, StatCell, Value};
use crate::map::{Map, ValueKind};
use crate::raise::{self, Canned};
use crate::{stat, string};

/// What a `foreach` sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The order of insertion.
    Insertion,
    /// The value, a number or string.
    Value,
    /// Key number.
    Key(u32),
    /// A statistic's aggregate, numbered as in [`crate::abi::stat_read`].
    Stat(u32),
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// Largest first.
    pub descending: bool,
}

impl Sort {
    /// No sorting.
    pub const NONE: Sort = Sort {
        key: SortKey::Insertion,
        descending: false,
    };

    /// As one word, for handlers.
    pub const fn encode(self) -> u64 {
        let (kind, index) = match self.key {
            SortKey::Insertion => (0, 0),
            SortKey::Value => (1, 0),
            SortKey::Key(n) => (2, n),
            SortKey::Stat(op) => (3, op),
        };
        kind | (self.descending as u64) << 8 | (index as u64) << 16
    }

    fn decode(word: u64) -> Sort {
        let index = (word >> 16) as u32;
        let key = match word & 255 {
            1 => SortKey::Value,
            2 => SortKey::Key(index),
            3 => SortKey::Stat(index),
            _ => SortKey::Insertion,
        };
        Sort {
            key,
            descending: word >> 8 & 1 != 0,
        }
    }
}

#[repr(C)]
struct Iter {
    /// The map's offset.
    map: u64,
    /// Bytes in use of the area before this iteration.
    previous_top: u32,
    /// 1: `position` is a link to follow; 0: an index into the array after this head.
    walk: u32,
    /// Next link or index.
    position: u32,
    /// Links in the array.
    len: u32,
    /// Rounds left.
    left: u64,
}

const HEAD: u64 = core::mem::size_of::<Iter>() as u64;

/// Bytes of iteration area that a sorted `foreach` over a map of this capacity needs at most.
pub const fn iteration_bytes(capacity: u32) -> u32 {
    HEAD as u32 + capacity.saturating_mul(8)
}

/// The free part of the iteration area: its address, its offset in the area, its bytes.
unsafe fn area(arena: &Arena, slot: *mut Slot) -> Option<(*mut u8, u32, u32)> {
    // SAFETY: header and slot are mapped; the area is checked to lie inside the arena.
    unsafe {
        let header = arena.header();
        let (start, size) = ((*header).iteration, (*header).iteration_size);
        let top = (*slot).iteration_top;
        if top > size || !(start | top).is_multiple_of(8) {
            return None;
        }
        let free = arena.slot_part(
            slot,
            u64::from(start) + u64::from(top),
            u64::from(size - top),
        )?;
        Some((free, top, size - top))
    }
}

unsafe fn begin(
    arena: &Arena,
    slot: *mut Slot,
    map: u64,
    left: u64,
) -> Option<(*mut Iter, *mut u32, u32)> {
    // SAFETY: the area is inside the arena and 8-aligned, as slots are.
    unsafe {
        let (free, top, size) = area(arena, slot)?;
        if u64::from(size) < HEAD {
            return None;
        }
        let iter = free.cast::<Iter>();
        iter.write(Iter {
            map,
            previous_top: top,
            walk: 0,
            position: 0,
            len: 0,
            left,
        });
        (*slot).iteration_top = top + HEAD as u32;
        Some((
            iter,
            free.add(HEAD as usize).cast(),
            (size - HEAD as u32) / 4,
        ))
    }
}

/// See [`crate::abi::map_iter_begin`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn iter_begin(
    base: *mut u8,
    slot: *mut Slot,
    offset: u64,
    sort: u64,
    limit: i64,
    keys: *const Value,
    mask: u64,
) -> *mut u8 {
    let sort = Sort::decode(sort);
    let left = if limit < 0 { u64::MAX } else { limit as u64 };
    // SAFETY: the caller's promise; array indices stay below `room`.
    unsafe {
        let arena = Arena::of(base);
        let Some(map) = Map::open(&arena, offset) else {
            return core::ptr::null_mut();
        };
        let Some((iter, array, room)) = begin(&arena, slot, offset, left) else {
            return full(base, slot);
        };
        if sort.key == SortKey::Insertion && mask == 0 {
            (*iter).walk = 1;
            (*iter).position = map.head();
            (*iter).len = map.capacity;
            return iter.cast();
        }
        let sorted = sort.key != SortKey::Insertion;
        let mut len = 0u32;
        let mut fits = true;
        map.each(|link, _| {
            fits = len < room;
            if fits {
                array.add(len as usize).write(link);
                len += 1;
            }
            fits
        });
        // As many words more are scratch space.
        fits = fits && (!sorted || room - len >= len);
        if !fits {
            (*slot).iteration_top = (*iter).previous_top;
            return full(base, slot);
        }
        if sorted {
            let order = |a, b| order(&arena, &map, sort, a, b);
            match u32::try_from(limit) {
                Ok(n @ 1..=MOST_OF_TOP) if n < len => top_links(array, len, n, order),
                _ => sort_links(array, array.add(len as usize), len, order),
            }
            if map.kind != ValueKind::Stat as u32 {
                map.relink(core::slice::from_raw_parts(array, len as usize));
            }
        }
        if mask != 0 {
            len = select(&map, array, len.min(limit_of(left)), keys, mask);
        }
        (*iter).len = len;
        (*slot).iteration_top += (len * 4 + 7) & !7;
        iter.cast()
    }
}

/// Up to this limit, stap looks for the first elements of the order only and leaves the others as they fall.
const MOST_OF_TOP: u32 = 30;

fn limit_of(left: u64) -> u32 {
    u32::try_from(left).unwrap_or(u32::MAX)
}

/// Keeps the links of `len` whose keys match; how many they are. The limit has been applied: as in stap it counts the
/// elements that do not match, too.
unsafe fn select(map: &Map, array: *mut u32, len: u32, keys: *const Value, mask: u64) -> u32 {
    let mut kept = 0;
    for at in 0..len {
        // SAFETY: both indices are below `len`; the entry is inside the arena.
        unsafe {
            let link = array.add(at as usize).read();
            let entry = map.entry(link);
            if !entry.is_null() && map.keys.matches(map.stored_keys(entry), keys, mask) {
                array.add(kept as usize).write(link);
                kept += 1;
            }
        }
    }
    kept
}

unsafe fn full(base: *mut u8, slot: *mut Slot) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { raise::canned(base, slot, Canned::IterationArea as u64) };
    core::ptr::null_mut()
}

/// -1, 0, 1 for two links; `descending` turns it round.
unsafe fn order(arena: &Arena, map: &Map, sort: Sort, a: u32, b: u32) -> i64 {
    let (a, b) = (map.entry(a), map.entry(b));
    if a.is_null() || b.is_null() {
        return 0;
    }
    // SAFETY: both entries are inside the arena.
    let result = unsafe {
        match sort.key {
            SortKey::Key(n) if n < map.keys.count => {
                let (x, y) = (
                    map.keys.value(map.stored_keys(a), n),
                    map.keys.value(map.stored_keys(b), n),
                );
                if map.keys.strings >> n & 1 != 0 {
                    string::compare(text(&x), text(&y))
                } else {
                    compare(x.word as i64, y.word as i64)
                }
            }
            SortKey::Stat(op) if map.kind == 2 => {
                let (x, y) = (
                    map.value(a).cast::<StatCell>(),
                    map.value(b).cast::<StatCell>(),
                );
                let shift = stat::shift(arena, map.shape);
                compare(
                    stat::aggregate(&x.read_volatile(), op, shift).unwrap_or(0),
                    stat::aggregate(&y.read_volatile(), op, shift).unwrap_or(0),
                )
            }
            SortKey::Value if map.kind == 0 => compare(
                map.value(a).cast::<i64>().read_volatile(),
                map.value(b).cast::<i64>().read_volatile(),
            ),
            SortKey::Value if map.kind == 1 => {
                let (x, y) = (
                    string::load(arena.base(), map.value(a)),
                    string::load(arena.base(), map.value(b)),
                );
                string::compare(
                    string::bytes(&x.address, x.len),
                    string::bytes(&y.address, y.len),
                )
            }
            SortKey::Value => {
                let (x, y) = (
                    map.value(a).cast::<StatCell>(),
                    map.value(b).cast::<StatCell>(),
                );
                compare(x.read_volatile().count, y.read_volatile().count)
            }
            _ => 0,
        }
    };
    if sort.descending { -result } else { result }
}

unsafe fn text(v: &Value) -> &[u8] {
    // SAFETY: `v` was made by `KeyShape::value` from a string key.
    unsafe { core::slice::from_raw_parts(v.word as *const u8, v.len as usize) }
}

fn compare(a: i64, b: i64) -> i64 {
    i64::from(a > b) - i64::from(a < b)
}

/// Brings the first `n` of `len` words in front, in order; as many more words after all are scratch space. What the
/// others' order is afterwards is stap's: an element that has been pushed out stands before those that were passed over.
unsafe fn top_links(array: *mut u32, len: u32, n: u32, order: impl Fn(u32, u32) -> i64) {
    let (len, n) = (len as usize, n as usize);
    // SAFETY: `n < len`; `passed` and `at` stay below `len`, `out` counts what was pushed out, at most `len - n`.
    unsafe {
        let scratch = array.add(len);
        sort_links(array, scratch, n as u32, &order);
        let (mut passed, mut out) = (n, 0);
        for at in n..len {
            let link = array.add(at).read();
            let mut place = n;
            while place > 0 && order(array.add(place - 1).read(), link) > 0 {
                place -= 1;
            }
            if place == n {
                array.add(passed).write(link);
                passed += 1;
                continue;
            }
            scratch.add(out).write(array.add(n - 1).read());
            out += 1;
            for moved in (place + 1..n).rev() {
                array.add(moved).write(array.add(moved - 1).read());
            }
            array.add(place).write(link);
        }
        for at in (n..passed).rev() {
            array.add(at + out).write(array.add(at).read());
        }
        for i in 0..out {
            array.add(n + i).write(scratch.add(out - 1 - i).read());
        }
    }
}

/// Stable merge sort of `len` words, with as many words of scratch space.
unsafe fn sort_links(
    array: *mut u32,
    scratch: *mut u32,
    len: u32,
    order: impl Fn(u32, u32) -> i64,
) {
    let n = len as usize;
    // SAFETY: every index is below `n` in either half.
    unsafe {
        let (mut from, mut to) = (array, scratch);
        let mut width = 1;
        while width < n {
            let mut start = 0;
            while start < n {
                let (middle, end) = ((start + width).min(n), (start + 2 * width).min(n));
                let (mut left, mut right, mut out) = (start, middle, start);
                while out < end {
                    let take_left = right >= end
                        || (left < middle && order(*from.add(left), *from.add(right)) <= 0);
                    let side = if take_left { &mut left } else { &mut right };
                    to.add(out).write(*from.add(*side));
                    *side += 1;
                    out += 1;
                }
                start = end;
            }
            core::mem::swap(&mut from, &mut to);
            width *= 2;
        }
        if from != array {
            string::copy_bytes(array.cast(), from.cast(), n * 4);
        }
    }
}

/// The iteration at an address, when that lies in the slot's area.
unsafe fn open(arena: &Arena, slot: *mut Slot, iter: *mut u8) -> Option<*mut Iter> {
    // SAFETY: header and slot are mapped.
    let (start, size) = unsafe {
        (
            (*arena.header()).iteration,
            (*arena.header()).iteration_size,
        )
    };
    let at = (iter as u64)
        .wrapping_sub(slot as u64)
        .wrapping_sub(u64::from(start));
    let inside = at % 8 == 0 && at <= u64::from(size) && u64::from(size) - at >= HEAD;
    (inside && arena.offset_of(iter, HEAD).is_some()).then_some(iter.cast())
}

/// The link at the iteration's position, or 0.
unsafe fn step(arena: &Arena, slot: *mut Slot, iter: *mut Iter) -> u32 {
    // SAFETY: the iteration lies inside the arena; the array's element is checked to as well.
    unsafe {
        let left = (&raw const (*iter).left).read_volatile();
        let (position, len) = (
            (&raw const (*iter).position).read_volatile(),
            (&raw const (*iter).len).read_volatile(),
        );
        if left == 0 || position >= len {
            return 0;
        }
        (*iter).left = left - 1;
        (*iter).position = position + 1;
        let at = iter
            .cast::<u8>()
            .add(HEAD as usize)
            .wrapping_add(position as usize * 4);
        let _ = slot;
        if arena.offset_of(at, 4).is_none() {
            0
        } else {
            at.cast::<u32>().read_volatile()
        }
    }
}

/// See [`crate::abi::map_iter_next`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn iter_next(base: *mut u8, slot: *mut Slot, iter: *mut u8) -> *mut u8 {
    // SAFETY: the caller's promise; everything read is checked.
    unsafe {
        let arena = Arena::of(base);
        let Some(iter) = open(&arena, slot, iter) else {
            return core::ptr::null_mut();
        };
        let Some(map) = Map::open(&arena, (&raw const (*iter).map).read_volatile()) else {
            return core::ptr::null_mut();
        };
        if (&raw const (*iter).walk).read_volatile() == 0 {
            return map.entry(step(&arena, slot, iter));
        }
        // `len` counts down the steps, so that a circle of links ends.
        let (left, len) = (
            (&raw const (*iter).left).read_volatile(),
            (&raw const (*iter).len).read_volatile(),
        );
        if left == 0 || len == 0 {
            return core::ptr::null_mut();
        }
        let entry = map.entry((&raw const (*iter).position).read_volatile());
        if !entry.is_null() {
            (*iter).position = map.next(entry);
            (*iter).left = left - 1;
            (*iter).len = len.min(map.capacity) - 1;
        }
        entry
    }
}

/// See [`crate::abi::map_iter_end`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn iter_end(base: *mut u8, slot: *mut Slot, iter: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(iter) = open(&Arena::of(base), slot, iter) {
            (*slot).iteration_top = (&raw const (*iter).previous_top).read_volatile();
        }
    }
}

/// See [`crate::abi::hist_iter_begin`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn hist_iter_begin(
    base: *mut u8,
    slot: *mut Slot,
    cell: *const StatCell,
    shape: u64,
    sort: u64,
    limit: i64,
) -> *mut u8 {
    let sort = Sort::decode(sort);
    let left = if limit < 0 { u64::MAX } else { limit as u64 };
    // SAFETY: the caller's promise; array indices stay below `room`.
    unsafe {
        let arena = Arena::of(base);
        let Some(shape) = stat::shape(&arena, shape) else {
            return core::ptr::null_mut();
        };
        let Some((iter, array, room)) = begin(&arena, slot, 0, left) else {
            return full(base, slot);
        };
        let len = shape.buckets;
        if len > room / 2 {
            (*slot).iteration_top = (*iter).previous_top;
            return full(base, slot);
        }
        for i in 0..len {
            array.add(i as usize).write(i + 1);
        }
        let count = |i: u32| stat::bucket_count(&arena, cell, &shape, i.wrapping_sub(1));
        match sort.key {
            SortKey::Key(_) if sort.descending => {
                sort_links(array, array.add(len as usize), len, |a, b| {
                    compare(i64::from(b), i64::from(a))
                })
            }
            SortKey::Value if sort.descending => {
                sort_links(array, array.add(len as usize), len, |a, b| {
                    compare(count(b), count(a))
                })
            }
            SortKey::Value => sort_links(array, array.add(len as usize), len, |a, b| {
                compare(count(a), count(b))
            }),
            _ => {}
        }
        (*iter).len = len;
        (*slot).iteration_top += (len * 4 + 7) & !7;
        iter.cast()
    }
}

/// See [`crate::abi::hist_iter_next`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn hist_iter_next(base: *mut u8, slot: *mut Slot, iter: *mut u8) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        match open(&arena, slot, iter) {
            Some(iter) => i64::from(step(&arena, slot, iter)) - 1,
            None => -1,
        }
    }
}
