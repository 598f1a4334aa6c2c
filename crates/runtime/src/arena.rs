//! Checked access to an arena whose contents cannot be trusted: every offset read from it is compared with its size
//! before it becomes an address.

use crate::layout::{Header, Slot};

/// An arena mapped in this process.
#[derive(Clone, Copy, Debug)]
pub struct Arena {
    base: *mut u8,
    size: u64,
}

/// Where slots and their parts are: a copy of the header's constants, taken by the tracer when it made the arena, so
/// that it need not believe the header afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// The arena.
    pub arena: Arena,
    /// Offset of slot 0.
    pub slots: u64,
    /// Bytes per slot.
    pub slot_size: u64,
    /// Number of slots.
    pub slot_count: u32,
    /// Offset in a slot of the ring's data.
    pub ring: u32,
    /// Bytes of ring data: a power of two.
    pub ring_size: u32,
    /// Offset in a slot of the shards.
    pub shards: u32,
}

impl Arena {
    /// The arena at `base`. Its size is the one registered with [`register`] or, without that, the header's; in a target the
    /// one that the tracer has mapped.
    ///
    /// # Safety
    /// `base` is the start of a mapped arena of that size, which stays mapped while the value is used.
    #[inline(always)]
    pub unsafe fn of(base: *mut u8) -> Arena {
        // SAFETY: the header is mapped, by the caller's promise.
        let size = unsafe { limit(base) };
        Arena { base, size }
    }

    /// The arena of `size` bytes at `base`.
    ///
    /// # Safety
    /// As for [`Arena::of`].
    pub unsafe fn with_size(base: *mut u8, size: u64) -> Arena {
        Arena { base, size }
    }

    /// Its start.
    #[inline(always)]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// Its bytes.
    #[inline(always)]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The address of `len` bytes at `offset`, when they lie inside.
    #[inline(always)]
    pub fn at(&self, offset: u64, len: u64) -> Option<*mut u8> {
        if offset <= self.size && len <= self.size - offset {
            // SAFETY: inside the arena.
            Some(unsafe { self.base.add(offset as usize) })
        } else {
            None
        }
    }

    /// The offset of `len` bytes at an address, when they lie inside.
    #[inline(always)]
    pub fn offset_of(&self, address: *const u8, len: u64) -> Option<u64> {
        let offset = (address as u64).wrapping_sub(self.base as u64);
        self.at(offset, len).map(|_| offset)
    }

    /// A slot by index, when it lies inside.
    #[inline]
    pub fn slot(&self, index: u32) -> Option<*mut Slot> {
        let header = self.header();
        // SAFETY: the header is mapped.
        let (slots, size) = unsafe { ((*header).slots, (*header).slot_size) };
        let offset = size.checked_mul(u64::from(index))?.checked_add(slots)?;
        if offset % 64 != 0 {
            return None;
        }
        self.at(offset, core::mem::size_of::<Slot>() as u64)
            .map(|p| p.cast())
    }

    /// The header.
    #[inline(always)]
    pub fn header(&self) -> *mut Header {
        self.base.cast()
    }

    /// `len` bytes of the slot's part that begins at `part` bytes from the slot's start.
    #[inline(always)]
    pub fn slot_part(&self, slot: *mut Slot, part: u64, len: u64) -> Option<*mut u8> {
        let offset = (slot as u64)
            .wrapping_sub(self.base as u64)
            .checked_add(part)?;
        self.at(offset, len)
    }
}

impl Geometry {
    /// Copies the header's constants and checks them; `None` when they contradict each other or the size.
    pub fn read(arena: Arena) -> Option<Geometry> {
        if arena.size < core::mem::size_of::<Header>() as u64 {
            return None;
        }
        // SAFETY: the header is mapped and every bit pattern is valid for its plain fields.
        let h = unsafe { &*arena.header() };
        let g = Geometry {
            arena,
            slots: h.slots,
            slot_size: h.slot_size,
            slot_count: h.slot_count,
            ring: h.ring,
            ring_size: h.ring_size,
            shards: h.shards,
        };
        let end = g
            .slot_size
            .checked_mul(u64::from(g.slot_count))?
            .checked_add(g.slots)?;
        let inside = |at: u32, len: u32| u64::from(at) + u64::from(len) <= g.slot_size;
        let valid = end <= arena.size
            && g.slots.is_multiple_of(64)
            && g.slot_size.is_multiple_of(64)
            && g.slot_size >= core::mem::size_of::<Slot>() as u64
            && g.ring_size.is_power_of_two()
            && g.ring.is_multiple_of(8)
            && inside(g.ring, g.ring_size)
            && inside(g.shards, 0);
        valid.then_some(g)
    }

    /// A slot by index.
    pub fn slot(&self, index: u32) -> Option<*mut Slot> {
        if index >= self.slot_count {
            return None;
        }
        let offset = self.slots + self.slot_size * u64::from(index);
        self.arena.at(offset, self.slot_size).map(|p| p.cast())
    }

    /// How many slots were ever taken, slot 0 included; never more than there are.
    pub fn used(&self) -> u32 {
        // SAFETY: the header is mapped.
        let used = unsafe {
            (*self.arena.header())
                .slots_used
                .load(core::sync::atomic::Ordering::Acquire)
        };
        used.clamp(1, self.slot_count.max(1)).min(self.slot_count)
    }
}

/// There is one, and its header is the program's to write over.
#[cfg(spile_blob)]
#[inline(always)]
unsafe fn limit(_base: *mut u8) -> u64 {
    crate::own_process::arena_size()
}

#[cfg(not(spile_blob))]
mod registry {
    use core::sync::atomic::{AtomicU64, Ordering};

    pub(super) const PLACES: usize = 64;
    pub(super) static BASE: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
    pub(super) static SIZE: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

    pub(super) fn find(base: u64) -> Option<usize> {
        BASE.iter().position(|b| b.load(Ordering::Acquire) == base)
    }
}

#[cfg(not(spile_blob))]
unsafe fn limit(base: *mut u8) -> u64 {
    match registry::find(base as u64) {
        Some(place) => registry::SIZE[place].load(core::sync::atomic::Ordering::Relaxed),
        // SAFETY: by the caller's promise the header is mapped.
        None => unsafe { (*base.cast::<Header>()).size },
    }
}

/// Notes the true size of an arena mapped in this process, so that nothing a target writes into the header can lead
/// this process outside. False when too many arenas are registered.
#[cfg(not(spile_blob))]
pub fn register(base: *const u8, size: u64) -> bool {
    use core::sync::atomic::Ordering;
    for place in 0..registry::PLACES {
        if registry::BASE[place]
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            registry::SIZE[place].store(size, Ordering::Relaxed);
            registry::BASE[place].store(base as u64, Ordering::Release);
            return true;
        }
    }
    false
}

/// Forgets an arena, before it is unmapped.
#[cfg(not(spile_blob))]
pub fn unregister(base: *const u8) {
    if let Some(place) = registry::find(base as u64) {
        registry::BASE[place].store(0, core::sync::atomic::Ordering::Release);
    }
}
