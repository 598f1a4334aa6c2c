//! Names of addresses as SystemTap gives them: the nearest function or object at or below an address, its extent up to the
//! next one, the name as it stands in the table (not demangled). Of several names of one address the table's last one
//! counts. Observed of stap 4.8 (the table that it generates for `-d FILE`).

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader, Sym};

use crate::address::ImageAddr;
use crate::image::Image;

/// Functions and objects of one file, ascending by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SymbolTable {
    /// Address and name.
    pub symbols: Vec<(ImageAddr, String)>,
    /// Behind the last one.
    pub end: ImageAddr,
}

/// A symbol around an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SymbolAt<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes from its start to the address.
    pub offset: u64,
    /// Bytes from its start to the next symbol's.
    pub size: u64,
}

impl SymbolTable {
    /// The symbol at or below an address.
    pub fn at(&self, address: ImageAddr) -> Option<SymbolAt<'_>> {
        if address >= self.end {
            return None;
        }
        let behind = self.symbols.partition_point(|(start, _)| *start <= address);
        let (start, name) = self.symbols.get(behind.checked_sub(1)?)?;
        let next = self.symbols.get(behind).map_or(self.end, |(next, _)| *next);
        Some(SymbolAt {
            name,
            offset: address.0 - start.0,
            size: next.0 - start.0,
        })
    }
}

/// Reads `.symtab` of the file or of its debug file, else `.dynsym`.
pub(crate) fn read(image: &Image, debug: Option<&Image>) -> SymbolTable {
    let mut found = symbols(image, elf::SHT_SYMTAB);
    if found.is_empty()
        && let Some(debug) = debug
    {
        found = symbols(debug, elf::SHT_SYMTAB);
        if debug.path == image.path {
            // MiniDebugInfo leaves out what the dynamic symbols name.
            found.extend(symbols(image, elf::SHT_DYNSYM));
        }
    }
    if found.is_empty() {
        found = symbols(image, elf::SHT_DYNSYM);
    }
    // Stable: names of one address stay in the table's order, and the last one is kept.
    found.sort_by_key(|(address, _)| *address);
    let mut table: Vec<(ImageAddr, String)> = Vec::with_capacity(found.len());
    for symbol in found {
        match table.last_mut() {
            Some(last) if last.0 == symbol.0 => *last = symbol,
            _ => table.push(symbol),
        }
    }
    let end = image
        .segments
        .iter()
        .map(|s| s.vaddr.0.saturating_add(s.mem_size))
        .max();
    let end = ImageAddr(end.unwrap_or(0));
    table.retain(|(address, _)| *address < end);
    SymbolTable {
        symbols: table,
        end,
    }
}

/// The variable of a name in `.dynsym`, else in `.symtab` of the file or of its debug file: a global one before a local one.
pub(crate) fn object<'a>(
    image: &Image,
    debug: impl FnOnce() -> Option<&'a Image>,
    name: &str,
) -> Option<(ImageAddr, u64)> {
    object_in(image, elf::SHT_DYNSYM, name)
        .or_else(|| object_in(image, elf::SHT_SYMTAB, name))
        .or_else(|| object_in(debug()?, elf::SHT_SYMTAB, name))
}

fn object_in(image: &Image, kind: elf::SectionType, name: &str) -> Option<(ImageAddr, u64)> {
    let e = LittleEndian;
    let sections = image.header()?.sections(e, image.bytes()).ok()?;
    let table = sections.symbols(e, image.bytes(), kind).ok()?;
    let found = table.iter().filter(|symbol| {
        symbol.st_type() == elf::STT_OBJECT
            && !matches!(symbol.st_shndx(e), elf::SHN_UNDEF | elf::SHN_ABS)
            && symbol
                .name(e, table.strings())
                .is_ok_and(|bytes| bytes == name.as_bytes())
    });
    let found = found.min_by_key(|symbol| symbol.st_bind() == elf::STB_LOCAL)?;
    Some((ImageAddr(found.st_value(e)), found.st_size(e)))
}

fn symbols(image: &Image, kind: elf::SectionType) -> Vec<(ImageAddr, String)> {
    let data = image.bytes();
    let e = LittleEndian;
    let mut found = Vec::new();
    let Some(header) = image.header() else {
        return found;
    };
    let Ok(sections) = header.sections(e, data) else {
        return found;
    };
    let Ok(table) = sections.symbols(e, data, kind) else {
        return found;
    };
    for symbol in table.iter() {
        let section = symbol.st_shndx(e);
        let is_named = symbol.st_type() == elf::STT_FUNC || symbol.st_type() == elf::STT_OBJECT;
        if !is_named || section == elf::SHN_UNDEF || section == elf::SHN_ABS {
            continue;
        }
        let allocated = image
            .sections
            .get(usize::from(section.0))
            .is_none_or(|s| s.allocated);
        if let Ok(name) = symbol.name(e, table.strings())
            && allocated
            && !name.is_empty()
        {
            let name = String::from_utf8_lossy(name).into_owned();
            found.push((ImageAddr(symbol.st_value(e)), name));
        }
    }
    found
}
