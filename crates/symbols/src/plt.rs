//! The procedure linkage table: where a module's calls of functions of others leave it (System V ABI for x86-64,
//! chapter 5, and the IBT variants that linkers make of it).

use std::collections::HashMap;

use object::elf;

use crate::address::ImageAddr;
use crate::binary::Binary;
use crate::image::Image;

/// An entry of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PltEntry {
    /// Its first instruction, to which the module's calls lead.
    pub address: ImageAddr,
    /// The function that it leads to, without version; empty for an indirect function of this module.
    pub name: String,
    /// It stands in `.plt.got`: the module takes the function's address as well.
    pub of_pointer: bool,
}

/// `endbr64`, with which entries begin where control flow is protected.
const LANDING: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// The prefix `bnd`.
const BND: u8 = 0xf2;
/// `jmp *disp32(%rip)`.
const JUMP: [u8; 2] = [0xff, 0x25];

pub(crate) fn find(binary: &Binary, image: &Image) -> Vec<PltEntry> {
    let slots = slots(image);
    let mut found = Vec::new();
    for section in binary.executable_sections() {
        if !section.name.starts_with(".plt") {
            continue;
        }
        let Some(bytes) = binary.code_bytes(section.range()) else {
            continue;
        };
        for (offset, entry) in (0u64..).step_by(8).zip(bytes.chunks(8)) {
            let rest = bytes.get(offset as usize..).unwrap_or(entry);
            let address = ImageAddr(section.address.0.wrapping_add(offset));
            if let Some(slot) = jumps_through(rest, address.0)
                && let Some(name) = slots.get(&slot)
            {
                found.push(PltEntry {
                    address,
                    name: name.clone(),
                    of_pointer: section.name == ".plt.got",
                });
            }
        }
    }
    found.sort_by_key(|entry| entry.address);
    found
}

/// The word through which code at an address jumps at once.
fn jumps_through(code: &[u8], address: u64) -> Option<u64> {
    let rest = code.strip_prefix(&LANDING[..]).unwrap_or(code);
    let rest = rest.strip_prefix(&[BND]).unwrap_or(rest);
    let rest = rest.strip_prefix(&JUMP[..])?;
    let (displacement, after) = rest.split_first_chunk::<4>()?;
    let length = (code.len() - after.len()) as u64;
    Some(
        address
            .wrapping_add(length)
            .wrapping_add_signed(i32::from_le_bytes(*displacement).into()),
    )
}

/// The word that the dynamic linker fills with the address of what another module defines by a name.
pub(crate) fn slot_of(image: &Image, name: &str) -> Option<ImageAddr> {
    let slots = slots(image);
    let slot = slots.iter().find(|(_, known)| *known == name);
    slot.map(|(slot, _)| ImageAddr(*slot))
}

/// The words that the dynamic linker fills with addresses of functions and variables, and their names.
fn slots(image: &Image) -> HashMap<u64, String> {
    let mut slots = HashMap::new();
    let table = |tag| {
        let start = image.dynamic_value(tag)?;
        image.mapped_from(ImageAddr(start))
    };
    let (Some(symbols), Some(names)) = (table(elf::DT_SYMTAB), table(elf::DT_STRTAB)) else {
        return slots;
    };
    let name = |index: u64| {
        let start = usize::try_from(index).ok()?.checked_mul(24)?;
        let at = symbols.get(start..)?.first_chunk::<4>()?;
        let text = names.get(u32::from_le_bytes(*at) as usize..)?;
        let text = text.get(..text.iter().position(|&b| b == 0)?)?;
        let text = String::from_utf8_lossy(text).into_owned();
        (!text.is_empty()).then_some(text)
    };
    for (index, section) in image.sections.iter().enumerate() {
        if !section.allocated || section.kind != elf::SHT_RELA {
            continue;
        }
        for entry in image
            .contents(index)
            .unwrap_or_default()
            .as_chunks::<24>()
            .0
        {
            let word = |at: usize| {
                let bytes = entry.get(at..)?.first_chunk::<8>()?;
                Some(u64::from_le_bytes(*bytes))
            };
            let (Some(offset), Some(info)) = (word(0), word(8)) else {
                continue;
            };
            let kind = elf::RelocationType(u32::try_from(info & 0xffff_ffff).unwrap_or(0));
            let name = match kind {
                elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT => name(info >> 32),
                elf::R_X86_64_IRELATIVE => Some(String::new()),
                _ => None,
            };
            if let Some(name) = name {
                slots.insert(offset, name);
            }
        }
    }
    slots
}
