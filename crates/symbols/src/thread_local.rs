//! Where a module's thread-local variables are, relative to the thread pointer (System V ABI, TLS variant II; Drepper,
//! "ELF Handling for Thread-Local Storage").

use object::LittleEndian;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::address::ImageAddr;
use crate::binary::BinaryKind;
use crate::dwarf::{Operator, Term};
use crate::image::Image;

/// The address of the byte at `offset` of the module's thread-local block. In a program the block is at a fixed
/// distance below the thread pointer; in a library it is found as the library's own code finds it: through a word that
/// the dynamic linker has filled with the block's distance (`R_X86_64_TPOFF64`) or with the module's number
/// (`R_X86_64_DTPMOD64`), which leads to the block by the thread's vector of modules.
pub(crate) fn address(image: &Image, kind: BinaryKind, offset: u64) -> Option<Term> {
    let offset = offset.cast_signed();
    if kind != BinaryKind::SharedLibrary {
        let (size, align) = segment(image)?;
        let size = size.checked_next_multiple_of(align.max(1))?;
        return Some(Term::ThreadPointer.plus(offset.wrapping_sub(size.cast_signed())));
    }
    let symbols = image
        .dynamic_value(elf::DT_SYMTAB)
        .and_then(|at| image.mapped_from(ImageAddr(at)));
    let (mut module, mut descriptor) = (None, None);
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
            let (place, info, addend) = (word(0)?, word(8)?, word(16)?);
            let symbol = usize::try_from(info >> 32).ok()?;
            // A symbol of another module says nothing of this one's block.
            let value = match symbol {
                0 => Some(0),
                _ => defined_value(symbols, symbol),
            };
            let Some(value) = value else {
                continue;
            };
            let stored = Term::Image(ImageAddr(place)).load(8);
            match elf::RelocationType((info & 0xffff_ffff) as u32) {
                elf::R_X86_64_TPOFF64 => {
                    let known = value.wrapping_add(addend).cast_signed();
                    let block = Term::binary(Operator::Add, Term::ThreadPointer, stored);
                    return Some(block.plus(offset.wrapping_sub(known)));
                }
                elf::R_X86_64_DTPMOD64 => module = Some(stored),
                elf::R_X86_64_TLSDESC => {
                    let known = value.wrapping_add(addend).cast_signed();
                    descriptor = Some((ImageAddr(place), known));
                }
                _ => {}
            }
        }
    }
    match (module, descriptor) {
        (Some(module), _) => Some(block_of(module).plus(offset)),
        (None, Some((place, known))) => Some(described(place).plus(offset.wrapping_sub(known))),
        (None, None) => None,
    }
}

/// The calling thread's block of a module, by the module's number and the thread's vector.
fn block_of(module: Term) -> Term {
    let vector = Term::ThreadPointer.plus(8).load(8);
    let entry = Term::binary(Operator::Multiply, module, Term::Constant(16));
    Term::binary(Operator::Add, vector, entry).load(8)
}

/// The address that a descriptor leads to (A. Oliva, "Thread-Local Storage Descriptors"; what glibc keeps in its second
/// word): where the block is at a fixed distance the distance, which is negative, else a pointer to the module's number
/// and the offset in its block.
fn described(place: ImageAddr) -> Term {
    use Operator::{Add, And, Less, Or, Subtract, Xor};
    let argument = || Term::Image(place.offset(8)).load(8);
    // All ones where the distance is fixed. What would be read otherwise is then replaced by what can be read.
    let fixed = || {
        let is_fixed = Term::binary(Less, argument(), Term::Constant(0));
        Term::binary(Subtract, Term::Constant(0), is_fixed)
    };
    let varies = || Term::binary(Xor, fixed(), Term::Constant(-1));
    let either = |a: Term, b: Term| {
        let a = Term::binary(And, a, fixed());
        Term::binary(Or, a, Term::binary(And, b, varies()))
    };
    let index = || either(Term::Image(place), argument());
    let module = Term::binary(And, index().load(8), varies());
    let dynamic = Term::binary(Add, block_of(module), index().plus(8).load(8));
    either(Term::binary(Add, Term::ThreadPointer, argument()), dynamic)
}

/// Size in memory and alignment of the module's `PT_TLS`.
fn segment(image: &Image) -> Option<(u64, u64)> {
    let headers = image
        .header()?
        .program_headers(LittleEndian, image.bytes())
        .ok()?;
    headers
        .iter()
        .find(|h| h.p_type(LittleEndian) == elf::PT_TLS)
        .map(|h| (h.p_memsz(LittleEndian), h.p_align(LittleEndian)))
}

/// The value of a dynamic symbol that the module itself defines.
fn defined_value(symbols: Option<&[u8]>, index: usize) -> Option<u64> {
    let entry = symbols?
        .get(index.checked_mul(24)?..)?
        .first_chunk::<24>()?;
    let section = u16::from_le_bytes(*entry.get(6..)?.first_chunk::<2>()?);
    let value = u64::from_le_bytes(*entry.get(8..)?.first_chunk::<8>()?);
    (section != 0).then_some(value)
}
