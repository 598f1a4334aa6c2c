//! A target may write anything over the arena: whatever is in it, the tracer takes and formats what it finds without
//! reading elsewhere.
#![no_main]

use std::alloc::{Layout, alloc_zeroed, dealloc};

use libfuzzer_sys::fuzz_target;
use runtime::arena::{Arena, Geometry};
use runtime::format::{self, Sink};
use runtime::layout::Header;
use runtime::ring;

const SIZE: usize = 64 * 1024;
const SLOTS: u64 = 8192;
const SLOT_SIZE: u64 = 16384;
const RING: u32 = 8192;
const RING_SIZE: u32 = 4096;

/// The tracer's output, of which only a bounded part is kept.
struct Output(Vec<u8>);

impl Sink for Output {
    fn put(&mut self, bytes: &[u8]) {
        if self.0.len() < 1 << 20 {
            self.0.extend_from_slice(bytes);
        }
    }
}

fuzz_target!(|input: (bool, u64, Vec<(u16, Vec<u8>)>)| {
    let (believe_header, mut tail, writes) = input;
    let Ok(layout) = Layout::from_size_align(SIZE, 4096) else {
        return;
    };
    // SAFETY: the layout is not empty; every write below is checked to lie inside.
    unsafe {
        let base = alloc_zeroed(layout);
        assert!(!base.is_null());
        let arena = Arena::with_size(base, SIZE as u64);
        let header = base.cast::<Header>();
        (*header).size = SIZE as u64;
        (*header).slots = SLOTS;
        (*header).slot_size = SLOT_SIZE;
        (*header).slot_count = 3;
        (*header).ring = RING;
        (*header).ring_size = RING_SIZE;
        let before = Geometry::read(arena);
        for (at, bytes) in &writes {
            if let Some(place) = arena.at(u64::from(*at), bytes.len() as u64) {
                place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        let geometry = if believe_header {
            Geometry::read(arena)
        } else {
            before
        };
        if let Some(geometry) = geometry {
            let mut scratch = vec![0; (geometry.ring_size as usize).min(SIZE)];
            let mut output = Output(Vec::new());
            for slot in 0..4 {
                ring::drain(&geometry, slot, &mut tail, &mut scratch, |record| {
                    let encoded = format::at(&arena, record.id);
                    format::render(&arena, encoded, record.payload, &mut output);
                });
            }
        }
        dealloc(base, layout);
    }
});
