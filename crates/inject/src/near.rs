//! Room for code within reach of other code.
//!
//! A five-byte jump reaches ±2 GiB. Executable memory is therefore allocated in holes of the
//! address space near the module that it belongs to, one pool per neighbourhood, and handed out in
//! small pieces. What is in use of it stands in its first line, so that another session may use some, too, on its owner's
//! behalf.

use std::ops::Range;

use symbols::Mapping;

use crate::error::InjectError;
use crate::journal::Line;
use crate::mapping::PAGE;
use crate::owner::{HEADER, Header, Owner};
use crate::proc_file::read_proc;
use crate::process::Process;
use crate::record::Record;

/// Reach of a signed 32-bit displacement, with room for the length of a trampoline.
const REACH: u64 = (1 << 31) - (1 << 20);
/// The least that is mapped at a time.
const CHUNK: u64 = 64 << 10;
/// No chunk is larger unless a single request is.
const CHUNK_MAX: u64 = 4 << 20;
/// Bytes of a large page, in which chunks are that have as much: a program that runs through thousands of trampolines has
/// more pages of code than the processor remembers places of, and a child by fork has one entry to copy instead of 512.
const LARGE_PAGE: u64 = 2 << 20;
/// Left free above the program break, for the heap to grow.
const HEAP_ROOM: u64 = 1 << 30;
/// Left free below the main thread's stack.
const STACK_ROOM: u64 = 1 << 30;
/// Addresses below are not used: the kernel forbids mapping some of them (vm.mmap_min_addr), and
/// null pointer dereferences must go on faulting.
const LOWEST: u64 = 1 << 20;
/// End of user addresses with four-level page tables.
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Alignment of every allocation.
const ALIGN: u64 = 16;

/// A run of executable memory, used up from its start.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) header: Header,
    /// What stands in memory.
    pub(crate) written: Option<Header>,
}

/// The executable memory that was mapped into a process.
#[derive(Debug, Default)]
pub(crate) struct CodePools {
    chunks: Vec<Chunk>,
}

impl CodePools {
    /// The mappings, as start and length.
    pub(crate) fn mappings(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.chunks
            .iter()
            .map(|chunk| (chunk.start, chunk.header.len))
    }

    /// The same with what their first lines say.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (u64, Header)> + '_ {
        self.chunks.iter().map(|chunk| (chunk.start, chunk.header))
    }

    /// Whether nothing is mapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Takes `len` bytes from a chunk all of which lies in `window`.
    fn take(&mut self, window: &Range<u64>, len: u64) -> Option<u64> {
        let chunk = self.chunks.iter_mut().find(|chunk| {
            chunk.header.len - chunk.header.used >= len
                && chunk.start >= window.start
                && chunk.start + chunk.header.len <= window.end
        })?;
        let Header { len: all, used, .. } = chunk.header;
        chunk.header.used = (used + len).next_multiple_of(ALIGN).min(all);
        Some(chunk.start + used)
    }

    /// Takes a chunk as it is found in memory; true when it is not as we knew it.
    pub(crate) fn learn(&mut self, start: u64, header: Header) -> bool {
        match self.chunks.iter_mut().find(|chunk| chunk.start == start) {
            Some(chunk) if chunk.written == Some(header) => false,
            Some(chunk) => {
                chunk.header = header;
                chunk.written = Some(header);
                true
            }
            None => {
                self.chunks.push(Chunk {
                    start,
                    header,
                    written: Some(header),
                });
                true
            }
        }
    }

    /// Whether an address is in one of the mappings.
    pub(crate) fn holds(&self, address: u64) -> bool {
        self.mappings()
            .any(|(start, len)| address >= start && address - start < len)
    }

    /// The chunk that holds an address.
    fn chunk_of(&mut self, address: u64) -> Option<&mut Chunk> {
        self.chunks
            .iter_mut()
            .find(|chunk| address >= chunk.start && address - chunk.start < chunk.header.len)
    }

    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
    }
}

impl Process {
    /// Allocates `len` bytes of executable (not writable) memory, aligned to 16, that a 32-bit
    /// displacement reaches from everywhere in `range` and the other way round; of a range too large for that (a program
    /// with code in far places), from its start. Write to it with [`Process::write_code`].
    ///
    /// # Errors
    /// [`InjectError::NoRoomNear`], and as [`Process::syscall`].
    pub fn allocate_code_near(&mut self, range: Range<u64>, len: u64) -> Result<u64, InjectError> {
        let range = match is_too_wide(&range) {
            true => range.start..range.start + PAGE,
            false => range,
        };
        self.allocate_for(self.me, range, len)
    }

    /// Makes sure that `len` bytes near `range` can be allocated one after another, if there is as much room.
    pub(crate) fn reserve_code_near(
        &mut self,
        range: Range<u64>,
        len: u64,
    ) -> Result<(), InjectError> {
        let len = len.min(CHUNK_MAX - HEADER);
        match self.allocate_code_near(range, len) {
            Ok(place) => {
                self.give_back_tail(place, len, 0);
                Ok(())
            }
            Err(InjectError::NoRoomNear { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The same as [`Process::allocate_code_near`] on behalf of another session, in memory that it unmaps at its end.
    pub(crate) fn allocate_for(
        &mut self,
        owner: Owner,
        range: Range<u64>,
        len: u64,
    ) -> Result<u64, InjectError> {
        self.require_held()?;
        self.learn_chunks()?;
        let window = range.end.saturating_sub(REACH).max(LOWEST)
            ..range.start.saturating_add(REACH).min(HIGHEST);
        if let Some(address) = self.pool(owner).take(&window, len) {
            return Ok(address);
        }
        let grown = self
            .pool(owner)
            .mappings()
            .filter(|&(start, len)| start >= window.start && start + len <= window.end)
            .map(|(_, len)| len * 2)
            .max()
            .unwrap_or(CHUNK);
        let with_header = len.saturating_add(HEADER);
        let wanted = with_header
            .max(grown.clamp(CHUNK, CHUNK_MAX))
            .next_multiple_of(PAGE);
        let least = with_header.next_multiple_of(PAGE);
        let large = (wanted >= LARGE_PAGE).then(|| wanted.next_multiple_of(LARGE_PAGE));
        let sizes = large.map(|size| (size, LARGE_PAGE)).into_iter();
        for (size, alignment) in sizes.chain([(wanted, PAGE), (least, PAGE)]) {
            // The layout may only be changed by threads of the process, and they are stopped; a
            // hole found can still be unusable for reasons that maps do not show.
            for address in self.holes(&window, &range, size + alignment - PAGE)? {
                let address = address.next_multiple_of(alignment);
                match self.map_code_at(address, size) {
                    Ok(()) => {
                        self.add_chunk(owner, address, size)?;
                        if let Some(address) = self.pool(owner).take(&window, len) {
                            return Ok(address);
                        }
                    }
                    Err(InjectError::Remote { source, .. })
                        if matches!(
                            source.raw_os_error(),
                            Some(libc::EEXIST | libc::EPERM | libc::EINVAL)
                        ) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Err(InjectError::NoRoomNear {
            pid: self.pid,
            start: range.start,
            end: range.end,
            len,
        })
    }

    /// Gives back what was not needed of the last allocation: of `bound` bytes at `place` all but the first `len`.
    pub(crate) fn give_back_tail(&mut self, place: u64, bound: u64, len: u64) {
        let mut pools = std::iter::once(&mut self.pools).chain(self.others.values_mut());
        let Some(chunk) = pools.find_map(|pool| pool.chunk_of(place)) else {
            return;
        };
        let from = place - chunk.start;
        let all = chunk.header.len;
        let end = |len: u64| (from + len).next_multiple_of(ALIGN).min(all);
        if chunk.header.used == end(bound) {
            chunk.header.used = end(len);
        }
    }

    /// Allocates `len` bytes of executable memory anywhere.
    ///
    /// # Errors
    /// As [`Process::syscall`].
    pub fn allocate_code(&mut self, len: u64) -> Result<u64, InjectError> {
        self.require_held()?;
        self.learn_chunks()?;
        if let Some(address) = self.pools.take(&(0..u64::MAX), len) {
            return Ok(address);
        }
        let size = len.saturating_add(HEADER).max(CHUNK).next_multiple_of(PAGE);
        let prot = libc::PROT_READ | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let start = self
            .with_borrowed_thread(|thread| thread.map(Line::Code, size, prot, flags, u64::MAX))?;
        self.add_chunk(self.me, start, size)?;
        let taken = self.pools.take(&(start..start + size), len);
        taken.ok_or(InjectError::NoRoomNear {
            pid: self.pid,
            start,
            end: start + size,
            len,
        })
    }

    fn pool(&mut self, owner: Owner) -> &mut CodePools {
        if owner == self.me {
            &mut self.pools
        } else {
            self.others.entry(owner).or_default()
        }
    }

    fn add_chunk(&mut self, owner: Owner, start: u64, len: u64) -> Result<(), InjectError> {
        let header = Header {
            owner,
            len,
            used: HEADER,
            last: 0,
        };
        self.pool(owner).chunks.push(Chunk {
            start,
            header,
            written: Some(header),
        });
        self.write_code(start, &header.bytes())?;
        self.strike(Line::Code)
    }

    /// The bytes of a record that shall stand at an address in some chunk, as the last in its chain.
    pub(crate) fn chained(&mut self, at: u64, record: &Record) -> Vec<u8> {
        let mut pools = std::iter::once(&mut self.pools).chain(self.others.values_mut());
        let Some(chunk) = pools.find_map(|pool| pool.chunk_of(at)) else {
            return record.bytes(0);
        };
        let bytes = record.bytes(chunk.header.last);
        chunk.header.last = at - chunk.start;
        bytes
    }

    /// Writes down how much is used, and where the records are.
    pub(crate) fn publish(&mut self) -> Result<(), InjectError> {
        let pools = std::iter::once(&mut self.pools).chain(self.others.values_mut());
        let mut changed = Vec::new();
        for chunk in pools.flat_map(|pool| &mut pool.chunks) {
            if chunk.written != Some(chunk.header) {
                chunk.written = Some(chunk.header);
                changed.push((chunk.start, chunk.header.bytes()));
            }
        }
        for (start, bytes) in changed {
            self.write_code(start, &bytes)?;
        }
        Ok(())
    }

    fn map_code_at(&mut self, address: u64, len: u64) -> Result<(), InjectError> {
        let prot = (libc::PROT_READ | libc::PROT_EXEC) as u64;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        let got = self.with_borrowed_thread(|thread| {
            thread.announce(Line::Code, address, len)?;
            let args = [address, len, prot, flags as u64, u64::MAX, 0];
            thread.call("mmap", libc::SYS_mmap, args)
        })?;
        if got != address {
            // A kernel that does not know the flag takes the address for a hint.
            self.syscall("munmap", libc::SYS_munmap, [got, len, 0, 0, 0, 0])?;
            return Err(InjectError::Remote {
                pid: self.pid,
                call: "mmap",
                source: std::io::Error::from_raw_os_error(libc::EEXIST),
            });
        }
        if address.is_multiple_of(LARGE_PAGE) && len >= LARGE_PAGE {
            // Without, it is as good but for speed.
            let args = [address, len, libc::MADV_HUGEPAGE as u64, 0, 0, 0];
            let _ = self.syscall("madvise", libc::SYS_madvise, args);
        }
        Ok(())
    }

    /// Addresses where `len` bytes may be mapped, nearest to `range` first.
    fn holes(
        &self,
        window: &Range<u64>,
        range: &Range<u64>,
        len: u64,
    ) -> Result<Vec<u64>, InjectError> {
        Ok(find_holes(
            &self.maps()?,
            self.program_break(),
            window,
            range,
            len,
        ))
    }

    /// `start_brk` of `/proc/PID/stat`: where the heap begins, even before it has a first page.
    fn program_break(&self) -> Option<u64> {
        let stat = read_proc(&format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        // Field 47 (proc_pid_stat(5)); `rest` begins with field 3.
        let value: u64 = rest.split_ascii_whitespace().nth(47 - 3)?.parse().ok()?;
        (value != 0).then_some(value)
    }
}

/// Whether no address is in reach of both ends.
pub(crate) fn is_too_wide(range: &Range<u64>) -> bool {
    range.end.saturating_sub(range.start) > REACH
}

/// The search of [`Process::holes`], on given mappings.
fn find_holes(
    maps: &[Mapping],
    program_break: Option<u64>,
    window: &Range<u64>,
    range: &Range<u64>,
    len: u64,
) -> Vec<u64> {
    let named = |mapping: &Mapping, name: &str| {
        mapping
            .path
            .as_ref()
            .is_some_and(|path| path.as_os_str() == name)
    };
    // What is taken: the mappings with a page around them, and the room for heap and stack.
    let mut taken: Vec<Range<u64>> = maps
        .iter()
        .map(|mapping| {
            let below = if named(mapping, "[stack]") {
                STACK_ROOM
            } else {
                PAGE
            };
            let above = if named(mapping, "[heap]") {
                HEAP_ROOM
            } else {
                PAGE
            };
            mapping.start.saturating_sub(below)..mapping.end.saturating_add(above)
        })
        .collect();
    if let Some(start) = program_break {
        // It starts a random distance above the program's data, and never comes below its start.
        let start = start & !(PAGE - 1);
        taken.push(start..start.saturating_add(HEAP_ROOM));
    }
    taken.sort_by_key(|range| range.start);
    let mut candidates = Vec::new();
    let mut free_from = window.start;
    taken.push(window.end..u64::MAX);
    for used in taken {
        let hole = free_from..used.start.min(window.end);
        free_from = free_from.max(used.end);
        let start = hole.start.next_multiple_of(PAGE);
        let end = hole.end & !(PAGE - 1);
        if end < start || end - start < len {
            continue;
        }
        // The end of the hole that is nearer to the code.
        let address = if end <= range.start { end - len } else { start };
        let distance = address.abs_diff(range.start);
        candidates.push((distance, address));
    }
    candidates.sort_unstable();
    candidates.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00401000 r--p 00000000 08:01 1 /bin/a
00401000-00500000 r-xp 00001000 08:01 1 /bin/a
00500000-00520000 rw-p 00100000 08:01 1 /bin/a
00d00000-00e00000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000200000 r-xp 00000000 08:01 2 /lib/b.so
7f0000300000-7f0000301000 rw-p 00000000 00:00 0 
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]
";

    fn reach(range: &Range<u64>) -> Range<u64> {
        range.end.saturating_sub(REACH).max(LOWEST)..(range.start + REACH).min(HIGHEST)
    }

    #[test]
    fn the_heap_keeps_its_room() {
        let maps = symbols::maps::parse(MAPS);
        let code = 0x401000..0x500000;
        let holes = find_holes(&maps, Some(0xd00000), &reach(&code), &code, 0x10000);
        // Between data and heap there is room; the heap only grows upwards.
        assert_eq!(holes[0], 0x400000 - PAGE - 0x10000);
        assert_eq!(holes[1], 0x520000 + PAGE);
        for hole in holes {
            assert!(
                !(0xd00000..0xe00000 + HEAP_ROOM).contains(&(hole + 0xffff)),
                "{hole:#x}"
            );
            assert!(hole >= LOWEST);
        }
    }

    #[test]
    fn holes_are_free_and_reachable() {
        let maps = symbols::maps::parse(MAPS);
        let code = 0x7f0000000000..0x7f0000200000;
        let window = reach(&code);
        let holes = find_holes(&maps, None, &window, &code, 0x10000);
        assert!(!holes.is_empty());
        for hole in holes {
            assert!(
                maps.iter()
                    .all(|m| hole + 0x10000 < m.start || hole > m.end)
            );
            assert!(hole >= window.start && hole + 0x10000 <= window.end);
        }
    }

    #[test]
    fn the_stack_keeps_its_room() {
        let maps = symbols::maps::parse(MAPS);
        let code = 0x7fffffbde000..0x7fffffbdf000;
        for hole in find_holes(&maps, None, &reach(&code), &code, PAGE) {
            assert!(hole + PAGE <= 0x7ffffffde000 - STACK_ROOM || hole >= 0x7ffffffff000);
        }
    }
}
