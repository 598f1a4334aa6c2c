//! Arrays of the Shared storage class: a hash table with a list in order of insertion, in the arena. Whoever uses one
//! holds its lock (or is the tracer, alone). What stands in the arena is believed only after it was checked.

pub use crate::iterate::{
    Sort, SortKey, hist_iter_begin, hist_iter_next, iter_begin, iter_end, iter_next,
    iteration_bytes,
};

use crate::arena::Arena;
use crate::keys::{KeyShape, hash_i64, string_size};
use crate::layout::{Slot, StatCell, Value};
use crate::raise;
use crate::string::zero_bytes;

/// What elements hold.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// An `i64`.
    Long = 0,
    /// A [`crate::layout::StrBuf`].
    String = 1,
    /// A [`StatCell`] with its buckets.
    Stat = 2,
}

/// Head of a map in the arena; buckets (`u32` each) and entries follow.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MapHeader {
    /// Most elements.
    pub capacity: u32,
    /// Number of keys.
    pub keys: u32,
    /// Bit `i`: key `i` is a string.
    pub string_keys: u32,
    /// Bytes of a stored string.
    pub string_size: u32,
    /// [`ValueKind`].
    pub value_kind: u32,
    /// Offset of the value in an entry.
    pub value_offset: u32,
    /// Bytes of the value.
    pub value_size: u32,
    /// Bytes of an entry.
    pub entry_size: u32,
    /// Buckets less one: they are a power of two.
    pub bucket_mask: u32,
    /// [`FLAG_WRAP`], [`FLAG_DECLARED`].
    pub flags: u32,
    /// Offset in the arena of the statistics' shape, 0 for none.
    pub shape: u64,
    /// Elements.
    pub count: u32,
    /// Entries ever used.
    pub used: u32,
    /// First free entry, plus one.
    pub free: u32,
    /// Oldest element, plus one.
    pub head: u32,
    /// Newest element, plus one.
    pub tail: u32,
    /// Reserved.
    pub reserved: u32,
}

/// `a%[N]`: the oldest element makes room.
pub const FLAG_WRAP: u32 = 1;
/// The limit was declared (`a[N]`), which the overflow message tells.
pub const FLAG_DECLARED: u32 = 2;

const HEADER: u64 = core::mem::size_of::<MapHeader>() as u64;

/// Head of an entry; keys follow at [`ENTRY_KEYS`].
#[repr(C)]
struct Entry {
    chain: u32,
    hash: u32,
    prev: u32,
    next: u32,
}

/// Offset of the first key in an entry.
pub const ENTRY_KEYS: u64 = 16;

/// What a map is like, for making one.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec<'a> {
    /// True for a string key.
    pub keys: &'a [bool],
    /// What elements hold.
    pub value: ValueKind,
    /// Most elements.
    pub capacity: u32,
    /// [`FLAG_WRAP`], [`FLAG_DECLARED`].
    pub flags: u32,
    /// Offset of the shape of statistics, 0 for none.
    pub shape: u64,
    /// Buckets that the shape says; 0 without a histogram.
    pub buckets: u32,
    /// MAXSTRINGLEN.
    pub max_string: u32,
}

/// Where things stand in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapLayout {
    /// Offsets of the keys in an entry.
    pub key_offsets: [u32; crate::layout::MAX_KEYS],
    /// Offset of the value in an entry.
    pub value_offset: u32,
    /// Bytes of the value.
    pub value_size: u32,
    /// Bytes of an entry.
    pub entry_size: u32,
    /// Number of buckets.
    pub buckets: u32,
    /// Bytes of the whole map. It must begin at a multiple of 8.
    pub bytes: u64,
}

/// Bytes of a value of that kind.
pub fn value_size(kind: ValueKind, buckets: u32, max_string: u32) -> u32 {
    match kind {
        ValueKind::Long => 8,
        ValueKind::String => string_size(max_string),
        ValueKind::Stat => core::mem::size_of::<StatCell>() as u32 + 8 * buckets,
    }
}

impl MapLayout {
    /// The layout of such a map.
    pub fn new(spec: &MapSpec<'_>) -> MapLayout {
        let shape = KeyShape::new(spec.keys, spec.max_string);
        let mut key_offsets = [0; crate::layout::MAX_KEYS];
        for (i, offset) in key_offsets.iter_mut().enumerate().take(spec.keys.len()) {
            *offset = (ENTRY_KEYS + shape.offset(i as u32)) as u32;
        }
        let value_offset = (ENTRY_KEYS + shape.bytes()) as u32;
        let value_size = value_size(spec.value, spec.buckets, spec.max_string);
        let entry_size = value_offset + value_size;
        let buckets = spec
            .capacity
            .max(2)
            .saturating_add(spec.capacity / 2)
            .next_power_of_two();
        let bytes =
            HEADER + u64::from(buckets) * 4 + u64::from(spec.capacity) * u64::from(entry_size);
        MapLayout {
            key_offsets,
            value_offset,
            value_size,
            entry_size,
            buckets,
            bytes,
        }
    }
}

/// Makes an empty map at an offset that is a multiple of 8; false when it does not fit there.
pub fn create(arena: Arena, at: u64, spec: &MapSpec<'_>) -> bool {
    let layout = MapLayout::new(spec);
    let Some(base) = arena.at(at, layout.bytes) else {
        return false;
    };
    if !at.is_multiple_of(8)
        || spec.capacity == 0
        || spec.capacity > 1 << 28
        || !KeyShape::new(spec.keys, spec.max_string).is_valid()
    {
        return false;
    }
    let keys = KeyShape::new(spec.keys, spec.max_string);
    let header = MapHeader {
        capacity: spec.capacity,
        keys: keys.count,
        string_keys: keys.strings,
        string_size: keys.string_size,
        value_kind: spec.value as u32,
        value_offset: layout.value_offset,
        value_size: layout.value_size,
        entry_size: layout.entry_size,
        bucket_mask: layout.buckets - 1,
        flags: spec.flags,
        shape: spec.shape,
        count: 0,
        used: 0,
        free: 0,
        head: 0,
        tail: 0,
        reserved: 0,
    };
    // SAFETY: checked to fit; nobody else knows of it yet.
    unsafe {
        base.cast::<MapHeader>().write(header);
        zero_bytes(base.add(HEADER as usize), layout.buckets as usize * 4);
    }
    true
}

/// A map whose description was copied and checked: every entry index below `capacity` lies inside the arena.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    base: *mut u8,
    pub(crate) capacity: u32,
    pub(crate) keys: KeyShape,
    pub(crate) kind: u32,
    pub(crate) value_offset: u32,
    pub(crate) value_size: u32,
    entry_size: u32,
    mask: u32,
    flags: u32,
    pub(crate) shape: u64,
}

macro_rules! state {
    ($get:ident, $set:ident, $field:ident) => {
        #[inline(always)]
        pub(crate) fn $get(&self) -> u32 {
            // SAFETY: the header lies inside the arena.
            unsafe { (&raw const (*self.base.cast::<MapHeader>()).$field).read_volatile() }
        }
        #[inline(always)]
        fn $set(&self, value: u32) {
            // SAFETY: the header lies inside the arena.
            unsafe { (&raw mut (*self.base.cast::<MapHeader>()).$field).write_volatile(value) }
        }
    };
}

impl Map {
    #[inline(always)]
    pub(crate) unsafe fn open(arena: &Arena, at: u64) -> Option<Map> {
        if !at.is_multiple_of(8) {
            return None;
        }
        let base = arena.at(at, HEADER)?;
        // SAFETY: inside the arena; each field is read once, so that later changes do not matter.
        unsafe {
            let h = base.cast::<MapHeader>();
            macro_rules! read {
                ($f:ident) => {
                    (&raw const (*h).$f).read_volatile()
                };
            }
            let map = Map {
                base,
                capacity: read!(capacity),
                keys: KeyShape {
                    count: read!(keys),
                    strings: read!(string_keys),
                    string_size: read!(string_size),
                },
                kind: read!(value_kind),
                value_offset: read!(value_offset),
                value_size: read!(value_size),
                entry_size: read!(entry_size),
                mask: read!(bucket_mask),
                flags: read!(flags),
                shape: read!(shape),
            };
            let least = match map.kind {
                0 => 8,
                1 => u64::from(map.keys.string_size.max(8)),
                _ => core::mem::size_of::<StatCell>() as u64,
            };
            let valid = map.keys.is_valid()
                && ENTRY_KEYS + map.keys.bytes() <= u64::from(map.value_offset)
                && u64::from(map.value_offset) + u64::from(map.value_size)
                    <= u64::from(map.entry_size)
                && u64::from(map.value_size) >= least
                && (map.value_offset | map.value_size | map.entry_size | map.keys.string_size)
                    .is_multiple_of(8)
                && map.capacity <= 1 << 28
                && map.mask < 1 << 30
                // At least two buckets, or the entries behind them would not begin at a multiple of 8.
                && map.mask & 1 == 1
                && map.mask & map.mask.wrapping_add(1) == 0;
            let bytes = HEADER
                .wrapping_add((u64::from(map.mask) + 1) * 4)
                .wrapping_add(u64::from(map.capacity) * u64::from(map.entry_size));
            if valid && arena.at(at, bytes).is_some() {
                Some(map)
            } else {
                None
            }
        }
    }

    state!(count, set_count, count);
    state!(used, set_used, used);
    state!(free, set_free, free);
    state!(head, set_head, head);
    state!(tail, set_tail, tail);

    #[inline(always)]
    fn bucket(&self, hash: u32) -> *mut u32 {
        // SAFETY: masked, and the buckets lie inside the arena.
        unsafe {
            self.base
                .add(HEADER as usize)
                .cast::<u32>()
                .add((hash & self.mask) as usize)
        }
    }

    /// The entry of a link (index plus one); null for 0 and for anything out of range.
    #[inline(always)]
    pub(crate) fn entry(&self, link: u32) -> *mut u8 {
        let index = link.wrapping_sub(1);
        if index >= self.capacity {
            return core::ptr::null_mut();
        }
        let at =
            HEADER + (u64::from(self.mask) + 1) * 4 + u64::from(index) * u64::from(self.entry_size);
        // SAFETY: index below capacity, and all entries lie inside the arena.
        unsafe { self.base.add(at as usize) }
    }

    /// The link of the element inserted next after this one.
    #[inline(always)]
    pub(crate) unsafe fn next(&self, entry: *mut u8) -> u32 {
        // SAFETY: the entry is inside the arena.
        unsafe { (&raw const (*entry.cast::<Entry>()).next).read_volatile() }
    }

    #[inline(always)]
    pub(crate) unsafe fn stored_keys(&self, entry: *mut u8) -> *mut u8 {
        // SAFETY: inside the entry.
        unsafe { entry.add(ENTRY_KEYS as usize) }
    }

    #[inline(always)]
    pub(crate) unsafe fn value(&self, entry: *mut u8) -> *mut u8 {
        // SAFETY: inside the entry.
        unsafe { entry.add(self.value_offset as usize) }
    }

    #[inline(always)]
    unsafe fn search(&self, hash: u32, same: impl Fn(*mut u8) -> bool) -> *mut u8 {
        // SAFETY: links are checked by `entry`; the number of steps is bounded in case they form a circle.
        unsafe {
            let mut link = self.bucket(hash).read_volatile();
            for _ in 0..self.capacity {
                let entry = self.entry(link);
                if entry.is_null() {
                    break;
                }
                let e = entry.cast::<Entry>();
                if (&raw const (*e).hash).read_volatile() == hash && same(entry) {
                    return entry;
                }
                link = (&raw const (*e).chain).read_volatile();
            }
            core::ptr::null_mut()
        }
    }

    unsafe fn find(&self, hash: u32, keys: *const Value) -> *mut u8 {
        // SAFETY: the caller's keys; entries are inside the arena.
        unsafe {
            self.search(hash, |entry| {
                self.keys.matches(self.stored_keys(entry), keys, u64::MAX)
            })
        }
    }

    /// A new element with these keys at the end of the list; null when full.
    #[inline(never)]
    unsafe fn add(&self, hash: u32, keys: *const Value) -> *mut u8 {
        // SAFETY: links are checked by `entry`.
        unsafe {
            let mut link = self.free();
            let recycled = self.entry(link);
            if !recycled.is_null() {
                self.set_free((&raw const (*recycled.cast::<Entry>()).next).read_volatile());
            } else {
                let used = self.used();
                if used < self.capacity {
                    self.set_used(used + 1);
                    link = used + 1;
                } else if self.flags & FLAG_WRAP != 0 && !self.entry(self.head()).is_null() {
                    link = self.head();
                    self.unlink(link);
                } else {
                    return core::ptr::null_mut();
                }
            }
            let entry = self.entry(link);
            if entry.is_null() {
                return entry;
            }
            let bucket = self.bucket(hash);
            let last = self.tail();
            entry.cast::<Entry>().write(Entry {
                chain: bucket.read_volatile(),
                hash,
                prev: last,
                next: 0,
            });
            self.keys.store(self.stored_keys(entry), keys);
            zero_bytes(self.value(entry), self.value_size as usize);
            bucket.write_volatile(link);
            let before = self.entry(last);
            if before.is_null() {
                self.set_head(link);
            } else {
                (&raw mut (*before.cast::<Entry>()).next).write_volatile(link);
            }
            self.set_tail(link);
            self.set_count(self.count().wrapping_add(1));
            entry
        }
    }

    /// Takes an element out of its chain and the list.
    unsafe fn unlink(&self, link: u32) {
        let entry = self.entry(link);
        if entry.is_null() {
            return;
        }
        // SAFETY: links are checked by `entry`; the walk is bounded.
        unsafe {
            let e = entry.cast::<Entry>();
            let (chain, hash, prev, next) = (
                (&raw const (*e).chain).read_volatile(),
                (&raw const (*e).hash).read_volatile(),
                (&raw const (*e).prev).read_volatile(),
                (&raw const (*e).next).read_volatile(),
            );
            let mut place = self.bucket(hash);
            for _ in 0..self.capacity {
                let at = place.read_volatile();
                if at == link {
                    place.write_volatile(chain);
                    break;
                }
                let other = self.entry(at);
                if other.is_null() {
                    break;
                }
                place = &raw mut (*other.cast::<Entry>()).chain;
            }
            let before = self.entry(prev);
            if before.is_null() {
                self.set_head(next);
            } else {
                (&raw mut (*before.cast::<Entry>()).next).write_volatile(next);
            }
            let after = self.entry(next);
            if after.is_null() {
                self.set_tail(prev);
            } else {
                (&raw mut (*after.cast::<Entry>()).prev).write_volatile(prev);
            }
            self.set_count(self.count().saturating_sub(1));
        }
    }

    unsafe fn remove(&self, link: u32) {
        let entry = self.entry(link);
        if entry.is_null() {
            return;
        }
        // SAFETY: the entry is inside the arena.
        unsafe {
            self.unlink(link);
            (&raw mut (*entry.cast::<Entry>()).next).write_volatile(self.free());
            self.set_free(link);
        }
    }

    fn link_of(&self, entry: *mut u8) -> u32 {
        let first = self.entry(1) as u64;
        ((entry as u64 - first) / u64::from(self.entry_size.max(1))) as u32 + 1
    }

    /// Calls `f` with link and entry of every element in order of insertion until it says false.
    pub(crate) unsafe fn each(&self, mut f: impl FnMut(u32, *mut u8) -> bool) {
        let mut link = self.head();
        for _ in 0..self.capacity {
            let entry = self.entry(link);
            if entry.is_null() {
                break;
            }
            // SAFETY: the entry is inside the arena. Read before `f`, which may remove it.
            let next = unsafe { self.next(entry) };
            if !f(link, entry) {
                break;
            }
            link = next;
        }
    }

    /// Puts the list of elements into another order: that of these links, which are all of it.
    pub(crate) unsafe fn relink(&self, links: &[u32]) {
        let mut last = 0;
        for &link in links {
            let entry = self.entry(link).cast::<Entry>();
            if entry.is_null() {
                continue;
            }
            let before = self.entry(last).cast::<Entry>();
            // SAFETY: what `entry` gives is inside the arena.
            unsafe {
                (&raw mut (*entry).prev).write_volatile(last);
                (&raw mut (*entry).next).write_volatile(0);
                if before.is_null() {
                    self.set_head(link);
                } else {
                    (&raw mut (*before).next).write_volatile(link);
                }
            }
            last = link;
        }
        self.set_tail(last);
    }

    #[cold]
    #[inline(never)]
    unsafe fn overflow(&self, slot: *mut Slot) -> *mut u8 {
        // SAFETY: the slot is the caller's own.
        unsafe { raise_overflow(slot, self.flags, self.capacity) };
        core::ptr::null_mut()
    }
}

/// stap's message for a full array.
pub(crate) unsafe fn raise_overflow(slot: *mut Slot, flags: u32, capacity: u32) {
    // SAFETY: the slot is the caller's own.
    unsafe {
        raise::with(slot, |text| {
            text.put(b"Array overflow, check ");
            if flags & FLAG_DECLARED != 0 {
                text.put(b"size limit (")
                    .decimal(i64::from(capacity), 0)
                    .put(b")");
            } else {
                text.put(b"MAXMAPENTRIES");
            }
        });
    }
}

/// See [`crate::abi::map_find`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn find(arena: *mut u8, map: u64, keys: *const Value) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(map) = Map::open(&Arena::of(arena), map) else {
            return core::ptr::null_mut();
        };
        let entry = map.find(map.keys.hash(keys), keys);
        if entry.is_null() {
            entry
        } else {
            map.value(entry)
        }
    }
}

/// See [`crate::abi::map_insert`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn insert(arena: *mut u8, slot: *mut Slot, map: u64, keys: *const Value) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(map) = Map::open(&Arena::of(arena), map) else {
            return corrupt(slot);
        };
        let hash = map.keys.hash(keys);
        let mut entry = map.find(hash, keys);
        if entry.is_null() {
            entry = map.add(hash, keys);
        }
        if entry.is_null() {
            map.overflow(slot)
        } else {
            map.value(entry)
        }
    }
}

#[cold]
pub(crate) unsafe fn corrupt(slot: *mut Slot) -> *mut u8 {
    // SAFETY: the slot is the caller's own.
    unsafe { raise::message(slot, b"array damaged by the probed program") };
    core::ptr::null_mut()
}

#[inline(always)]
unsafe fn search_i64(map: &Map, hash: u32, key: i64) -> *mut u8 {
    // SAFETY: the entry given to the closure is inside the arena, and its first key has 8 bytes at least.
    unsafe {
        map.search(hash, |entry| {
            map.stored_keys(entry).cast::<i64>().read_volatile() == key
        })
    }
}

/// See [`crate::abi::map_find_i64`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn find_i64(arena: *mut u8, map: u64, key: i64) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(map) = Map::open(&Arena::of(arena), map) else {
            return core::ptr::null_mut();
        };
        let entry = search_i64(&map, hash_i64(key), key);
        if entry.is_null() {
            entry
        } else {
            map.value(entry)
        }
    }
}

/// See [`crate::abi::map_insert_i64`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn insert_i64(arena: *mut u8, slot: *mut Slot, map: u64, key: i64) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        let found = find_i64(arena, map, key);
        if found.is_null() {
            insert_i64_slow(arena, slot, map, key)
        } else {
            found
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn insert_i64_slow(arena: *mut u8, slot: *mut Slot, map: u64, key: i64) -> *mut u8 {
    let value = Value {
        word: key as u64,
        len: 0,
    };
    // SAFETY: the caller's promise; a map of other keys is refused.
    unsafe {
        match Map::open(&Arena::of(arena), map) {
            Some(m) if m.keys.count == 1 && m.keys.strings & 1 == 0 => {
                insert(arena, slot, map, &value)
            }
            _ => corrupt(slot),
        }
    }
}

/// See [`crate::abi::map_delete`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn delete(arena: *mut u8, map: u64, keys: *const Value) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(map) = Map::open(&Arena::of(arena), map) else {
            return;
        };
        let entry = map.find(map.keys.hash(keys), keys);
        if !entry.is_null() {
            map.remove(map.link_of(entry));
        }
    }
}

/// See [`crate::abi::map_delete_slice`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn delete_slice(arena: *mut u8, map: u64, keys: *const Value, mask: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(map) = Map::open(&Arena::of(arena), map) else {
            return;
        };
        map.each(|link, entry| {
            if map.keys.matches(map.stored_keys(entry), keys, mask) {
                map.remove(link);
            }
            true
        });
    }
}

/// See [`crate::abi::map_contains_slice`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn contains_slice(arena: *mut u8, map: u64, keys: *const Value, mask: u64) -> bool {
    let mut found = false;
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(map) = Map::open(&Arena::of(arena), map) {
            map.each(|_, entry| {
                found = map.keys.matches(map.stored_keys(entry), keys, mask);
                !found
            });
        }
    }
    found
}

/// See [`crate::abi::map_clear`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn clear(arena: *mut u8, map: u64) {
    // SAFETY: the caller's promise; the buckets lie inside the arena.
    unsafe {
        let Some(map) = Map::open(&Arena::of(arena), map) else {
            return;
        };
        zero_bytes(map.base.add(HEADER as usize), (map.mask as usize + 1) * 4);
        map.set_count(0);
        map.set_used(0);
        map.set_free(0);
        map.set_head(0);
        map.set_tail(0);
    }
}

/// Tracer: number of elements.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn count(arena: *mut u8, map: u64) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { Map::open(&Arena::of(arena), map).map_or(0, |m| m.count().min(m.capacity)) }
}

#[cfg(test)]
mod tests;
