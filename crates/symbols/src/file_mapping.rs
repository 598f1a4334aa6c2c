//! A file in memory, of which no more becomes resident than what is touched.

use std::fs::File;
use std::ops::{Deref, Range};

use memmap2::{Mmap, MmapOptions};
use rustix::mm::{MapFlags, ProtFlags};

/// What one huge page holds on x86-64.
const HUGE_PAGE: usize = 2 << 20;

/// A private mapping of a whole file, only read.
///
/// Linux keeps a file that was lately written in huge pages and maps such a page whole when any byte of it is touched, if
/// addresses and offsets agree modulo its size, as they do in mappings that the kernel places itself. A look at a thousand
/// places of a large debug file would make all of it resident, so that large files are mapped where they do not agree.
pub(crate) struct FileMapping {
    /// The file's mapping, or address space that it lies in.
    space: Mmap,
    bytes: Range<usize>,
}

impl FileMapping {
    pub fn new(file: &File) -> std::io::Result<FileMapping> {
        let length = file.metadata()?.len();
        if let Some(mapping) = usize::try_from(length)
            .ok()
            .filter(|length| *length >= HUGE_PAGE)
            .and_then(|length| off_huge_pages(file, length))
        {
            return Ok(mapping);
        }
        // SAFETY: the mapping is private and only read. A file that is truncated meanwhile would raise SIGBUS; program
        // files in use are replaced by renaming, not rewritten in place, and every tool that maps binaries relies on it.
        let space = unsafe { Mmap::map(file) }?;
        let bytes = 0..space.len();
        Ok(FileMapping { space, bytes })
    }
}

impl Deref for FileMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.space.get(self.bytes.clone()).unwrap_or_default()
    }
}

/// Maps a file one page behind a multiple of a huge page's size, into space reserved for it. `None` when there is no
/// space, or too little of it may be reserved.
fn off_huge_pages(file: &File, length: usize) -> Option<FileMapping> {
    let reserved = MmapOptions::new()
        .len(length.checked_add(2 * HUGE_PAGE)?)
        .no_reserve_swap()
        .map_anon()
        .ok()?;
    let space = reserved.make_read_only().ok()?;
    let start = space.as_ptr().addr();
    let begin = start.next_multiple_of(HUGE_PAGE) + rustix::param::page_size() - start;
    let bytes = begin..begin + length;
    let place = space.get(bytes.clone())?.as_ptr();
    // SAFETY: the mapping takes the place of a part of `space`, which is longer and nothing else's, and is unmapped with
    // it. Of files that change while they are mapped see `FileMapping::new`.
    unsafe {
        rustix::mm::mmap(
            place.cast_mut().cast(),
            length,
            ProtFlags::READ,
            MapFlags::PRIVATE | MapFlags::FIXED,
            file,
            0,
        )
    }
    .ok()?;
    Some(FileMapping { space, bytes })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_mapping_is_the_file_whatever_its_size() {
        for size in [
            1,
            4096,
            HUGE_PAGE - 1,
            HUGE_PAGE,
            HUGE_PAGE + 1,
            3 * HUGE_PAGE + 77,
        ] {
            let written: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&written).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mapping = FileMapping::new(&file).unwrap();
            assert!(*mapping == *written, "{size} bytes");
        }
    }

    #[test]
    fn large_files_are_where_huge_pages_are_not_mapped() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 2 * HUGE_PAGE]).unwrap();
        let mapping = FileMapping::new(&file).unwrap();
        // Anywhere but there the kernel may have placed it by chance.
        let off = mapping.as_ptr().addr() % HUGE_PAGE;
        assert_eq!(off, rustix::param::page_size());
    }
}
