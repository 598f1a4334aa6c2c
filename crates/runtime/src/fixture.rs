//! An arena for tests, between two pages that cannot be touched.

use core::sync::atomic::Ordering::Relaxed;

use crate::arena::{Arena, Geometry};
use crate::layout::{Header, MAGIC, ProcessRecord, Slot, Value};

pub const PAGE: usize = 4096;
pub const MAX_STRING: u32 = 64;
pub const SLOTS: u32 = 8;
pub const RING: u32 = 4096;
pub const SLOT_SIZE: u64 = 128 * 1024;
/// Where a slot's cells begin.
pub const SHARDS: u32 = 32 * 1024;
/// Constants: shapes and formats.
pub const CONSTANTS: u64 = 4096;
/// Globals.
pub const GLOBALS: u64 = 8192;
pub const GLOBALS_END: u64 = 512 * 1024;

pub struct Fixture {
    mapping: *mut u8,
    pub base: *mut u8,
    pub size: u64,
    pub geometry: Geometry,
}

impl Fixture {
    pub fn new() -> Fixture {
        let size = GLOBALS_END as usize + SLOT_SIZE as usize * SLOTS as usize;
        assert_eq!(size % PAGE, 0);
        // SAFETY: a fresh anonymous mapping; the pages before and after the arena stay inaccessible.
        let (mapping, base) = unsafe {
            let mapping = libc::mmap(
                core::ptr::null_mut(),
                size + 2 * PAGE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(mapping, libc::MAP_FAILED);
            let base = mapping.cast::<u8>().add(PAGE);
            assert_eq!(
                libc::mprotect(base.cast(), size, libc::PROT_READ | libc::PROT_WRITE),
                0
            );
            (mapping.cast::<u8>(), base)
        };
        // SAFETY: the header fits the zeroed mapping.
        let header = unsafe { &mut *base.cast::<Header>() };
        header.magic = MAGIC;
        header.size = size as u64;
        header.processes = 1024;
        header.process_count = 1;
        header.sites = 2048;
        header.slots = GLOBALS_END;
        header.slot_size = SLOT_SIZE;
        header.slot_count = SLOTS;
        header.string_stack = 1024;
        header.string_stack_size = 1024;
        header.native_stack = 2048;
        header.native_stack_size = 2048;
        header.ring = 4096;
        header.ring_size = RING;
        header.shards = SHARDS;
        header.max_string = MAX_STRING;
        header.iteration = 8192;
        header.iteration_size = 16384;
        header.tokenize = 28 * 1024;
        header.slots_used.store(1, Relaxed);
        assert!(1024 + size_of::<ProcessRecord>() < 2048 && size_of::<Slot>() <= 1024);
        // SAFETY: the mapping lives as long as the fixture.
        let arena = unsafe { Arena::with_size(base, size as u64) };
        assert!(crate::arena::register(base, size as u64));
        let geometry = Geometry::read(arena).expect("valid");
        let fixture = Fixture {
            mapping,
            base,
            size: size as u64,
            geometry,
        };
        for i in 0..SLOTS {
            let slot = fixture.slot(i);
            // SAFETY: inside the mapping.
            unsafe {
                (*slot).index = i;
                (*slot).string_top = 1024;
            }
        }
        fixture
    }

    pub fn arena(&self) -> Arena {
        self.geometry.arena
    }

    pub fn slot(&self, index: u32) -> *mut Slot {
        self.geometry.slot(index).expect("slot")
    }

    /// Slot `index`, owned by this process.
    pub fn owned(&self, index: u32) -> *mut Slot {
        let slot = self.slot(index);
        // SAFETY: inside the mapping.
        unsafe {
            (*slot).pid.store(std::process::id(), Relaxed);
            (*slot).tid.store(std::process::id(), Relaxed);
            (*self.base.cast::<Header>())
                .slots_used
                .fetch_max(index + 1, Relaxed);
        }
        slot
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the whole mapping is writable and only borrowed here.
        unsafe { core::slice::from_raw_parts_mut(self.base, self.size as usize) }
    }

    /// The slot's error text.
    pub fn error(&self, slot: *mut Slot) -> Option<String> {
        // SAFETY: inside the mapping.
        unsafe {
            let slot = &*slot;
            (slot.error != 0).then(|| {
                String::from_utf8_lossy(&slot.error_text[..slot.error_len as usize]).into_owned()
            })
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        crate::arena::unregister(self.base);
        // SAFETY: mapped in `new`.
        unsafe { libc::munmap(self.mapping.cast(), self.size as usize + 2 * PAGE) };
    }
}

pub fn long(n: i64) -> Value {
    Value {
        word: n as u64,
        len: 0,
    }
}

pub fn text(s: &[u8]) -> Value {
    Value {
        word: s.as_ptr() as u64,
        len: s.len() as u64,
    }
}
