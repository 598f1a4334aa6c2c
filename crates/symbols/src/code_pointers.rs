//! Addresses of code that stand in data: function tables, virtual tables, computed gotos, jump tables.

use std::ops::Range;

use object::elf;

use crate::address::ImageAddr;
use crate::binary::Binary;
use crate::image::Image;
use crate::unwind::read_word;

pub(crate) fn find(binary: &Binary, image: &Image) -> Vec<ImageAddr> {
    let mut found = vec![binary.entry()];
    for tag in [elf::DT_INIT, elf::DT_FINI] {
        found.extend(image.dynamic_value(tag).map(ImageAddr));
    }
    relocated(image, &mut found);
    if !binary.is_position_independent() {
        scan(image, &code_ranges(binary), &mut found);
    }
    found.retain(|a| binary.is_code(*a));
    found.sort_unstable();
    found.dedup();
    found
}

fn code_ranges(binary: &Binary) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = binary
        .executable_sections()
        .iter()
        .map(|s| s.range())
        .map(|r| r.start.0..r.end.0)
        .collect();
    if ranges.is_empty() {
        let executable = binary.load_segments().iter().filter(|s| s.executable);
        ranges.extend(executable.map(|s| s.vaddr.0..s.vaddr.0.saturating_add(s.mem_size)));
    }
    ranges.sort_by_key(|r| r.start);
    ranges
}

/// What the dynamic linker (or the start-up code of a static program) stores: `R_X86_64_RELATIVE`, `R_X86_64_64`,
/// `R_X86_64_GLOB_DAT`, `R_X86_64_JUMP_SLOT`, `R_X86_64_IRELATIVE` and `DT_RELR`.
fn relocated(image: &Image, found: &mut Vec<ImageAddr>) {
    let mut tables: Vec<&[u8]> = Vec::new();
    let mut relative: Vec<&[u8]> = Vec::new();
    for (index, section) in image.sections.iter().enumerate() {
        if section.allocated && section.kind == elf::SHT_RELA {
            tables.extend(image.contents(index));
        } else if section.allocated && section.kind == elf::SHT_RELR {
            relative.extend(image.contents(index));
        }
    }
    if image.sections.is_empty() {
        tables.extend(dynamic_table(image, elf::DT_RELA, elf::DT_RELASZ));
        tables.extend(dynamic_table(image, elf::DT_JMPREL, elf::DT_PLTRELSZ));
        relative.extend(dynamic_table(image, elf::DT_RELR, elf::DT_RELRSZ));
    }
    let symbols = image
        .dynamic_value(elf::DT_SYMTAB)
        .and_then(|at| image.mapped_from(ImageAddr(at)));
    for table in tables {
        for entry in table.as_chunks::<24>().0 {
            let word = |at: usize| {
                entry
                    .get(at..at + 8)
                    .and_then(|b| b.first_chunk::<8>())
                    .map(|b| u64::from_le_bytes(*b))
            };
            let (Some(info), Some(addend)) = (word(8), word(16)) else {
                continue;
            };
            let symbol = usize::try_from(info >> 32).unwrap_or(usize::MAX);
            let kind = elf::RelocationType(u32::try_from(info & 0xffff_ffff).unwrap_or(0));
            let address = match kind {
                elf::R_X86_64_RELATIVE | elf::R_X86_64_IRELATIVE => Some(addend),
                elf::R_X86_64_64 => symbol_value(symbols, symbol).map(|v| v.wrapping_add(addend)),
                elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT => symbol_value(symbols, symbol),
                _ => None,
            };
            found.extend(address.map(ImageAddr));
        }
    }
    for table in relative {
        relr(image, table, found);
    }
}

fn dynamic_table(image: &Image, address: elf::DynamicTag, size: elf::DynamicTag) -> Option<&[u8]> {
    let start = image.dynamic_value(address)?;
    let size = image.dynamic_value(size)?;
    image.mapped(ImageAddr(start)..ImageAddr(start.checked_add(size)?))
}

/// `st_value` of a defined symbol of the dynamic symbol table.
fn symbol_value(table: Option<&[u8]>, index: usize) -> Option<u64> {
    let start = index.checked_mul(24)?;
    let entry = table?.get(start..start.checked_add(24)?)?;
    let defined = entry.get(6..8) != Some(&[0, 0]);
    let value = entry.get(8..16)?.first_chunk::<8>()?;
    (index != 0 && defined).then(|| u64::from_le_bytes(*value))
}

/// Compact relative relocations: an even word is an address, an odd one a bitmap of the 63 words that follow it
/// (the System V ABI's `SHT_RELR`).
fn relr(image: &Image, table: &[u8], found: &mut Vec<ImageAddr>) {
    let mut next = 0u64;
    let mut add = |at: u64| found.extend(read_word(image, ImageAddr(at)).map(ImageAddr));
    for entry in table.as_chunks::<8>().0 {
        let entry = u64::from_le_bytes(*entry);
        if entry & 1 == 0 {
            add(entry);
            next = entry.wrapping_add(8);
        } else {
            for bit in 1..64u64 {
                if entry >> bit & 1 != 0 {
                    add(next.wrapping_add((bit - 1) * 8));
                }
            }
            next = next.wrapping_add(63 * 8);
        }
    }
}

/// Every aligned word of data whose value lies in code. Words that are something else by chance are kept: to take a place
/// for a jump target that is none only costs a patch site.
fn scan(image: &Image, code: &[Range<u64>], found: &mut Vec<ImageAddr>) {
    let (Some(lowest), Some(highest)) = (
        code.first().map(|r| r.start),
        code.iter().map(|r| r.end).max(),
    ) else {
        return;
    };
    let mut scan_bytes = |bytes: &[u8]| {
        for at in (0..bytes.len()).step_by(4) {
            let Some(chunk) = bytes.get(at..).and_then(|b| b.first_chunk::<8>()) else {
                break;
            };
            let word = u64::from_le_bytes(*chunk);
            if word >= lowest && word < highest && code.iter().any(|r| r.contains(&word)) {
                found.push(ImageAddr(word));
            }
        }
    };
    let data_kinds = [
        elf::SHT_PROGBITS,
        elf::SHT_INIT_ARRAY,
        elf::SHT_FINI_ARRAY,
        elf::SHT_PREINIT_ARRAY,
    ];
    if image.sections.is_empty() {
        for segment in image.segments.iter().filter(|s| !s.executable) {
            scan_bytes(image.mapped_from(segment.vaddr).unwrap_or_default());
        }
    }
    for (index, section) in image.sections.iter().enumerate() {
        if section.allocated && !section.executable && data_kinds.contains(&section.kind) {
            scan_bytes(image.contents(index).unwrap_or_default());
        }
    }
}
