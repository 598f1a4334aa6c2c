//! The tracer's mapping of the arena: a memfd, sparse, shared with every probed process.

use memmap2::MmapRaw;
use runtime::layout::{Header, Slot};
use runtime::timing::Timing;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The arena of a session.
#[derive(Debug)]
pub struct Arena {
    file: File,
    map: MmapRaw,
    /// When the process began that made it.
    maker_began: Option<u64>,
    /// How many slots the file has: behind them there is no memory, whatever the header says.
    slots_present: u32,
}

/// Makes a memory object as long as is wanted. It is sparse, but counts as a file against `ulimit -f`, which is raised for that
/// moment as far as it may be.
fn lengthen(file: &File, size: u64) -> io::Result<()> {
    let before = getrlimit(Resource::Fsize);
    match ftruncate(file, size) {
        Err(Errno::FBIG) => {}
        done => return Ok(done?),
    }
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    setrlimit(Resource::Fsize, raised)?;
    let done = ftruncate(file, size);
    setrlimit(Resource::Fsize, before)?;
    done.map_err(|error| {
        let limit = before.maximum.unwrap_or(0);
        io::Error::other(format!(
            "{size} bytes: {error}; the limit on file sizes (ulimit -f), {limit} bytes, counts for it"
        ))
    })
}

/// Slots that nobody has yet which a short arena has, so that threads find one until it is lengthened.
const SPARE_SLOTS: u32 = 16;

impl Arena {
    /// Has the file end behind the slots in use and a few more, so that a process which locks its memory does not fill the rest of
    /// it with pages, until [`Arena::lengthen`] makes room for more threads.
    pub fn shorten(&mut self, layout: &codegen::ArenaLayout) -> io::Result<()> {
        let available = &self.header().slots_available;
        let before = available.load(Ordering::Relaxed);
        // What was lengthened since stays: threads may be about to take its slots.
        let shortest = slots_in_use(self, layout).end + SPARE_SLOTS;
        if shortest >= layout.slot_count || before != 0 {
            return Ok(());
        }
        available.store(shortest, Ordering::SeqCst);
        // Whoever looked before that may have taken one more meanwhile.
        let used = slots_in_use(self, layout).end;
        if used + SPARE_SLOTS / 2 > shortest {
            available.store(0, Ordering::SeqCst);
            return Ok(());
        }
        self.slots_present = shortest;
        Ok(ftruncate(&self.file, layout.slot(shortest))?)
    }

    /// Makes room for more threads in an arena that was shortened, as they come.
    pub fn lengthen(&mut self, layout: &codegen::ArenaLayout) -> io::Result<()> {
        let available = self.header().slots_available.load(Ordering::Relaxed);
        let used = slots_in_use(self, layout).end;
        if available == 0 || used + SPARE_SLOTS / 2 <= available {
            return Ok(());
        }
        let next = (used + 2 * SPARE_SLOTS).min(layout.slot_count);
        lengthen(&self.file, layout.slot(next))?;
        self.slots_present = next;
        self.header().slots_available.store(next, Ordering::SeqCst);
        Ok(())
    }

    /// A zeroed arena of `size` bytes.
    pub fn new(size: u64) -> io::Result<Arena> {
        let file = File::from(memfd_create("spile", MemfdFlags::CLOEXEC)?);
        lengthen(&file, size)?;
        let map = MmapRaw::map_raw(&file)?;
        // From here on bounds come from this size and not from the header, which a target can write to.
        runtime::arena::register(map.as_mut_ptr(), size);
        Ok(Arena {
            file,
            map,
            maker_began: inject::start_time(std::process::id()),
            slots_present: u32::MAX,
        })
    }

    /// Whether a process is young enough to have come by fork from one that has the arena. It spares the others a look at all
    /// their mappings.
    pub fn may_be_inherited_by(&self, pid: i32) -> bool {
        u32::try_from(pid).is_ok_and(|pid| inject::start_time(pid) >= self.maker_began)
    }

    /// The memory object, to be mapped into processes.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The memory object's inode, by which it is found in `/proc/PID/maps`.
    pub fn inode(&self) -> u64 {
        self.file
            .metadata()
            .map_or(0, |metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
    }

    /// Where it is mapped in the tracer.
    pub fn address(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The whole arena, to fill it before any process shares it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` bytes long and lives as long as self; `&mut self` keeps the tracer's other views
        // away, and the bytes mean nothing to a process before it is patched.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr(), self.map.len()) }
    }

    /// Copies bytes to an offset; out of range does nothing.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = usize::try_from(offset)
            .ok()
            .and_then(|o| o.checked_add(bytes.len()));
        if let Some(end) = end.filter(|&end| end <= self.len()) {
            self.bytes_mut()[end - bytes.len()..end].copy_from_slice(bytes);
        }
    }

    /// The arena's head.
    pub fn header(&self) -> &Header {
        // SAFETY: the arena begins with a Header (every layout is larger), all of whose bit patterns are valid; fields
        // that others change while this lives are atomics.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    /// What the handlers of a site cost, when that is noted.
    pub fn timing(&self, layout: &codegen::ArenaLayout, site: u32) -> Option<&Timing> {
        if layout.timings == 0 || site >= layout.site_capacity {
            return None;
        }
        let offset = usize::try_from(layout.timings).ok()? + site as usize * size_of::<Timing>();
        if offset.checked_add(size_of::<Timing>())? > self.len() {
            return None;
        }
        // SAFETY: inside the mapping, aligned as the layout has it; all fields are atomics, and any bytes are valid.
        Some(unsafe { &*self.map.as_ptr().add(offset).cast::<Timing>() })
    }

    /// A slot by its number, when there is one.
    pub fn slot(&self, layout: &codegen::ArenaLayout, index: u32) -> Option<&Slot> {
        let offset = usize::try_from(layout.slot(index)).ok()?;
        let present = layout.slot_count.min(self.slots_present);
        if index >= present || offset.checked_add(size_of::<Slot>())? > self.len() {
            return None;
        }
        // SAFETY: in bounds as checked; slots are 64-aligned by layout; every bit pattern is a valid Slot.
        Some(unsafe { &*self.map.as_ptr().add(offset).cast::<Slot>() })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        runtime::arena::unregister(self.map.as_mut_ptr());
    }
}

/// Sum of a counter over all slots in use.
pub fn sum(
    arena: &Arena,
    layout: &codegen::ArenaLayout,
    counter: impl Fn(&Slot) -> &AtomicU64,
) -> u64 {
    slots_in_use(arena, layout)
        .filter_map(|i| arena.slot(layout, i))
        .fold(0, |total: u64, slot| {
            total.saturating_add(counter(slot).load(Ordering::Relaxed))
        })
}

/// Numbers of the slots that were ever taken, the tracer's first.
pub fn slots_in_use(arena: &Arena, layout: &codegen::ArenaLayout) -> std::ops::Range<u32> {
    let used: &AtomicU32 = &arena.header().slots_used;
    let present = layout.slot_count.min(arena.slots_present);
    0..used.load(Ordering::Acquire).clamp(1, present.max(1))
}
