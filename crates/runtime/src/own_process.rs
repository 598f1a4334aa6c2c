//! What handlers must know of the process they run in and cannot ask cheaply, as far as it are addresses and bounds: those
//! stand beside the blob's code, where nothing in the process can write. In the arena a stray write of the program would have
//! handlers call, read or write wherever it points.

/// Ranges in [`OwnProcess::readable`].
pub const READABLE: usize = 16;

/// Addresses and bounds in a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnProcess {
    /// Bytes of the arena that is mapped into it.
    pub arena_size: u64,
    /// The vDSO's `__vdso_clock_gettime`; 0 without one.
    pub clock_gettime: u64,
    /// The vDSO's `__vdso_getcpu`; 0 without one.
    pub getcpu: u64,
    /// A byte of the C library that is not zero while the process has one thread; 0 where none is known.
    pub single_threaded: u64,
    /// `[start, end)` in which nothing but the main thread's stack can be.
    pub stack: [u64; 2],
    /// Ranges `[start, end)` of memory that stays mapped readable while handlers run (the modules that are never unloaded), up
    /// to an empty one.
    pub readable: [[u64; 2]; READABLE],
}

impl OwnProcess {
    /// Nothing is known.
    pub const UNKNOWN: OwnProcess = OwnProcess {
        arena_size: 0,
        clock_gettime: 0,
        getcpu: 0,
        single_threaded: 0,
        stack: [0; 2],
        readable: [[0; 2]; READABLE],
    };

    /// As it stands in memory.
    #[cfg(not(spile_blob))]
    pub fn bytes(&self) -> [u8; size_of::<OwnProcess>()] {
        let OwnProcess {
            arena_size,
            clock_gettime,
            getcpu,
            single_threaded,
            stack,
            readable,
        } = self;
        let words = [arena_size, clock_gettime, getcpu, single_threaded].into_iter();
        let words = words.chain(stack).chain(readable.as_flattened());
        let mut bytes = [0; size_of::<OwnProcess>()];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Written by who places the blob, before it runs; in the tracer nothing is known, which is no program's process.
#[cfg_attr(spile_blob, unsafe(export_name = "spile_own_process"))]
static OWN: OwnProcess = OwnProcess::UNKNOWN;

/// Reads a field. The compiler believes to know what a constant holds, hence the volatile read.
macro_rules! own {
    ($field:ident) => {
        // SAFETY: it lies inside a static.
        unsafe { (&raw const OWN.$field).read_volatile() }
    };
}

/// See [`OwnProcess::arena_size`].
#[inline(always)]
pub fn arena_size() -> u64 {
    own!(arena_size)
}

/// See [`OwnProcess::clock_gettime`].
pub fn clock_gettime() -> u64 {
    own!(clock_gettime)
}

/// See [`OwnProcess::getcpu`].
pub fn getcpu() -> u64 {
    own!(getcpu)
}

/// See [`OwnProcess::single_threaded`].
pub fn single_threaded() -> u64 {
    own!(single_threaded)
}

/// See [`OwnProcess::stack`].
pub fn stack() -> [u64; 2] {
    own!(stack)
}

/// Whether `[start, end)` lies in memory that stays mapped readable.
#[inline]
pub fn is_readable(start: u64, end: u64) -> bool {
    for range in &OWN.readable {
        // SAFETY: it is a reference to a part of a static.
        let [from, to] = unsafe { (range as *const [u64; 2]).read_volatile() };
        if from >= to {
            return false;
        }
        if start >= from && end <= to {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_in_memory() {
        let mut own = OwnProcess {
            arena_size: 9,
            clock_gettime: 1,
            getcpu: 2,
            single_threaded: 3,
            stack: [4, 5],
            ..OwnProcess::UNKNOWN
        };
        own.readable[15] = [6, u64::MAX];
        // SAFETY: it consists of words only.
        let there: [u8; size_of::<OwnProcess>()] = unsafe { core::mem::transmute(own) };
        assert_eq!(own.bytes(), there);
    }
}
