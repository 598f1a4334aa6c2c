//! Ways in for fuzz targets to what is not public.

/// Asks an index whose bytes may be anything everything; `checked`: as if its checksums were right.
pub fn index_file(bytes: &[u8], checked: bool) {
    crate::dwarf::fuzz_index(bytes, checked);
}
