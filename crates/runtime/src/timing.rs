//! What handlers cost, for stap's `-t`.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::arena::Arena;
use crate::time;

/// The figures of one site; times are in cycles of the time stamp counter.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Timing {
    /// How often a handler ran.
    pub hits: AtomicU64,
    /// All the time.
    pub total: AtomicU64,
    /// The complement of the shortest time, so that zeroed memory is a beginning.
    pub inverted_least: AtomicU64,
    /// The longest time.
    pub most: AtomicU64,
    /// Sum of the squares, for the variance.
    pub squares: AtomicU64,
}

/// Notes that the handler of `site` has run since `start`. `timings` is the offset of as many [`Timing`]s as there are
/// sites.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn note(arena: *mut u8, timings: u64, site: u64, start: u64) {
    let spent = time::cycles().saturating_sub(start);
    const BYTES: u64 = size_of::<Timing>() as u64;
    // SAFETY: the place is checked to lie inside the arena; all fields are atomic, and any bytes are valid.
    unsafe {
        let Some(at) = Arena::of(arena).at(timings.wrapping_add(site.wrapping_mul(BYTES)), BYTES)
        else {
            return;
        };
        let timing = &*at.cast::<Timing>();
        timing.hits.fetch_add(1, Relaxed);
        timing.total.fetch_add(spent, Relaxed);
        timing.inverted_least.fetch_max(!spent, Relaxed);
        timing.most.fetch_max(spent, Relaxed);
        timing.squares.fetch_add(spent.wrapping_mul(spent), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn figures_add_up_and_places_outside_are_left_alone() {
        let f = Fixture::new();
        let size = unsafe { (*f.base.cast::<crate::layout::Header>()).size };
        let timings = size - 2 * 64;
        unsafe {
            note(f.base, timings, 1, time::cycles());
            note(f.base, timings, 1, 0);
            note(f.base, timings, 2, 0);
            let timing = &*f.base.add(timings as usize + 64).cast::<Timing>();
            assert_eq!(timing.hits.load(Relaxed), 2);
            assert!(!timing.inverted_least.load(Relaxed) < timing.most.load(Relaxed));
            assert!(timing.total.load(Relaxed) > timing.most.load(Relaxed));
        }
    }
}
