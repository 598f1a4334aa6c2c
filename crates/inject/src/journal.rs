//! What is about to be mapped or unmapped is written down first, so that nothing stays for ever should we be killed
//! in between.
//!
//! The page on which borrowed threads stand has a few words for that. A line there is believed when exactly that range
//! is one mapping, of the kind that is ours: without a file, or a memory file of ours. As our addresses lie in the middle
//! of the largest hole of the address space, where the kernel puts nothing that may lie anywhere, the program's own
//! mappings are not mistaken for ours.

use std::ops::Range;

use symbols::Mapping;

use crate::error::InjectError;
use crate::escape::Escape;
use crate::mapping::scratch;
use crate::process::Process;
use crate::syscall::Borrowed;

/// The lines of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// The page through which descriptors are received.
    Scratch = 0,
    /// Data.
    Mapping = 1,
    /// Memory for code.
    Code = 2,
}

impl Line {
    /// Offset on the page: behind its code, before its signal frame.
    const FIRST: u64 = 80;
    /// Start and length.
    const SIZE: u64 = 16;

    pub(crate) fn address(self, page: u64) -> u64 {
        page + Line::FIRST + Line::SIZE * self as u64
    }
}

/// What stands in a line: start and length of a mapping, or zeros.
fn words(start: u64, len: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&start.to_le_bytes());
    bytes[8..].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// No address: what is not worth a try.
const NO_ROOM: [i32; 3] = [libc::EEXIST, libc::EPERM, libc::EINVAL];

impl Borrowed<'_> {
    /// Maps memory, having written down where. The line stays until it is replaced or [struck](Process::strike).
    pub(crate) fn map(
        &mut self,
        line: Line,
        len: u64,
        prot: i32,
        flags: i32,
        fd: u64,
    ) -> Result<u64, InjectError> {
        let place = self.journal().zip(apart(&self.process().maps()?, len));
        if let Some((page, address)) = place {
            self.announce(line, address, len)?;
            let fixed = (flags | libc::MAP_FIXED_NOREPLACE) as u64;
            let args = [address, len, prot as u64, fixed, fd, 0];
            match self.call("mmap", libc::SYS_mmap, args) {
                Ok(got) if got == address => return Ok(got),
                // A kernel that does not know the flag takes the address for a hint.
                Ok(got) => {
                    self.announce(line, got, len)?;
                    return Ok(got);
                }
                Err(InjectError::Remote { source, .. })
                    if source
                        .raw_os_error()
                        .is_some_and(|errno| NO_ROOM.contains(&errno)) => {}
                Err(error) => return Err(error),
            }
            self.process().write(line.address(page), &words(0, 0))?;
        }
        let args = [0, len, prot as u64, flags as u64, fd, 0];
        self.call("mmap", libc::SYS_mmap, args)
    }

    /// Writes a line.
    pub(crate) fn announce(&mut self, line: Line, start: u64, len: u64) -> Result<(), InjectError> {
        match self.journal() {
            Some(page) => self.process().write(line.address(page), &words(start, len)),
            None => Ok(()),
        }
    }
}

impl Process {
    /// Says that what a line announced is written down elsewhere, or gone.
    pub(crate) fn strike(&mut self, line: Line) -> Result<(), InjectError> {
        match self.escape {
            Some(escape) => self.write_code(line.address(escape.mapping().0), &words(0, 0)),
            None => Ok(()),
        }
    }

    /// The mappings that a page's lines announce and that are there, and descriptors that were being received. Who was killed
    /// before it mapped what it had announced, or after it had unmapped it, has left a line for an address that the next session
    /// chooses, too: so nothing is believed of memory that is `recorded` as somebody's.
    pub(crate) fn announced(
        &self,
        page: u64,
        recorded: &[Range<u64>],
    ) -> Result<(Vec<Range<u64>>, Vec<u64>), InjectError> {
        let maps = self.maps()?;
        let mut ranges = Vec::new();
        let mut descriptors = Vec::new();
        for line in [Line::Scratch, Line::Mapping, Line::Code] {
            let at = line.address(page);
            let (start, len) = (self.read_u64(at)?, self.read_u64(at + 8)?);
            let is_recorded = |range: &Range<u64>| range.start < start + len && start < range.end;
            if !maps.iter().any(|mapping| is_ours(mapping, start, len))
                || recorded.iter().any(is_recorded)
            {
                continue;
            }
            ranges.push(start..start + len);
            if line == Line::Scratch {
                let pair = self.read_u64(start + scratch::PAIR)?;
                let numbers = [pair & 0xffff_ffff, pair >> 32];
                for (number, at) in numbers.into_iter().zip([0, 8]) {
                    let inode = self.read_u64(start + scratch::INODES + at)?;
                    let known = self.socket_inode(number);
                    // Without inodes nothing was closed yet.
                    if pair != 0 && known.is_some_and(|known| inode == 0 || known == inode) {
                        descriptors.push(number);
                    }
                }
                let received = self.read_u64(start + scratch::RECEIVED)? & 0xffff_ffff;
                if received != 0 && self.link(received).is_some_and(|to| to.starts_with(MEMORY)) {
                    descriptors.push(received);
                }
            }
        }
        Ok((ranges, descriptors))
    }

    /// The inode of a socket that is open in the process.
    pub(crate) fn socket_inode(&self, number: u64) -> Option<u64> {
        let link = self.link(number)?;
        let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    }

    /// What a descriptor of the process is, as `/proc/PID/fd` has it.
    fn link(&self, number: u64) -> Option<String> {
        let link = std::fs::read_link(format!("/proc/{}/fd/{number}", self.pid));
        Some(link.ok()?.to_string_lossy().into_owned())
    }

    /// Closes descriptors of the process.
    pub(crate) fn close_all(&mut self, numbers: &[u64]) -> Result<(), InjectError> {
        if numbers.is_empty() {
            return Ok(());
        }
        self.with_borrowed_thread(|thread| {
            for &number in numbers {
                thread.call("close", libc::SYS_close, [number, 0, 0, 0, 0, 0])?;
            }
            Ok(())
        })
    }

    /// Takes away what a tracer that was killed while it mapped its first page has left behind a module's code: the way
    /// back, and the page if it is there. Where a thread is still on its way back, everything stays.
    pub(crate) fn restore_unused_code(&mut self, place: Escape) -> Result<(), InjectError> {
        let (start, len) = place.mapping();
        if self.is_any_thread_in(&(start..start + len))? {
            return Ok(());
        }
        let (ranges, _) = self.announced(start, &self.recorded()?)?;
        self.write_code(start, &vec![0; len as usize])?;
        for range in ranges {
            // One with a first line is found by that.
            if self.read_u64(range.start)? == 0 && !self.is_any_thread_in(&range)? {
                self.unmap_all(&[(range.start, range.end - range.start)])?;
            }
        }
        Ok(())
    }
}

/// How `/proc/PID/fd` and `/proc/PID/maps` name our memory files.
const MEMORY: &str = "/memfd:spile";

/// Whether a mapping is what a line announces.
fn is_ours(mapping: &Mapping, start: u64, len: u64) -> bool {
    mapping.start == start
        && mapping.end.wrapping_sub(start) == len
        && (mapping.path.is_none() || is_memory_of_ours(mapping))
}

/// Whether a mapping is of a memory file of some session.
pub(crate) fn is_memory_of_ours(mapping: &Mapping) -> bool {
    let named = |path: &std::path::PathBuf| path.to_string_lossy().starts_with(MEMORY);
    mapping.deleted && mapping.path.as_ref().is_some_and(named)
}

/// An address for `len` bytes in the largest hole between mappings, far from all of them, but where libraries may be:
/// ThreadSanitizer accepts nothing elsewhere at its start, and ours may be there before the program has begun.
fn apart(maps: &[Mapping], len: u64) -> Option<u64> {
    /// What is mapped is aligned so that the kernel may use large pages.
    const ALIGN: u64 = 2 << 20;
    /// Smaller holes are the program's.
    const LEAST: u64 = 64 << 30;
    /// How far below the next mapping.
    const BELOW: u64 = 16 << 30;
    let largest = maps
        .windows(2)
        .filter_map(|pair| match pair {
            [low, high] => Some(low.end..high.start),
            _ => None,
        })
        .filter(|hole| hole.start < hole.end && hole.end < 1 << 47)
        .max_by_key(|hole| hole.end - hole.start)?;
    let size = largest.end - largest.start;
    let free = size.checked_sub(len).filter(|_| size / 2 > len)?;
    (size >= LEAST).then_some((largest.start + free - free.min(BELOW)) & !(ALIGN - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_far_from_everything() {
        let maps = symbols::maps::parse(
            "\
560000000000-560000001000 r-xp 00000000 08:01 1 /bin/a
560000d00000-560000e00000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000200000 r-xp 00000000 08:01 2 /lib/b.so
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
",
        );
        let len = 5 << 30;
        let address = apart(&maps, len).expect("room");
        assert!(address > 0x560000e00000 + (1 << 40) && address + len < 0x7f0000000000 - (8 << 30));
        assert_eq!(apart(&maps, 1 << 46), None);
        // Where ThreadSanitizer takes mappings for the program's.
        assert!(address > 0x7e8000000000);
        assert_eq!(apart(&maps[..1], 4096), None);
    }

    #[test]
    fn only_what_was_announced_is_ours() {
        let maps = symbols::maps::parse(
            "\
600000000000-600000005000 r-xp 00000000 00:00 0 
600000200000-600000300000 rw-s 00000000 00:01 12 /memfd:spile (deleted)
600000400000-600000500000 rw-s 00000000 00:01 13 /memfd:other (deleted)
600000600000-600000700000 rw-s 00000000 08:01 14 /memfd:spile
",
        );
        let known = |start, len| maps.iter().any(|m| is_ours(m, start, len));
        assert!(known(0x600000000000, 0x5000) && known(0x600000200000, 0x100000));
        assert!(!known(0x600000000000, 0x4000) && !known(0x600000001000, 0x4000));
        assert!(!known(0x600000400000, 0x100000) && !known(0x600000600000, 0x100000));
    }
}
