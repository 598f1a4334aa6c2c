//! MiniDebugInfo: an ELF file within the file, compressed by xz, that holds the symbols which `.dynsym` leaves out (the GDB
//! manual, "Debugging information in a special section").

use std::io::Read;

use crate::image::Image;

/// Symbol tables larger than this are taken for damage.
const SIZE_LIMIT: u64 = 1 << 30;
/// Memory that a decompressor may take, in KiB; `xz -9` needs 65 MiB.
const MEMORY_LIMIT: u32 = 128 << 10;

/// The file in `.gnu_debugdata`; `None` when there is none, or it is damaged. It goes by the name of the file around it.
pub(crate) fn read(image: &Image) -> Option<Image> {
    let compressed = image.contents_by_name(".gnu_debugdata")?;
    let reader = lzma_rust2::XzReader::new_mem_limit(compressed, true, MEMORY_LIMIT);
    let mut bytes = Vec::new();
    reader.take(SIZE_LIMIT).read_to_end(&mut bytes).ok()?;
    Image::debug_file_from_bytes(image.path.clone(), bytes).ok()
}
