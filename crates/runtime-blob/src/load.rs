//! From the embedded ELF object to an image at an address.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, PoisonError};

use object::elf;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol, RelocationFlags, RelocationTarget, SymbolKind};
use runtime::own_process::OwnProcess;

use crate::clobbers::{self, Clobbers};

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runtime.so"));

/// What the blob's exported functions have in front of their names.
const PREFIX: &str = "spile_";

/// Why the blob cannot be used. None of these happens to a blob that passed this crate's tests.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not readable as ELF.
    #[error("the embedded runtime is no ELF object: {0}")]
    Object(#[from] object::Error),
    /// A segment lies outside the object.
    #[error("a segment of the embedded runtime lies outside it, at {0:#x}")]
    Segment(u64),
    /// A relocation that needs something outside the blob.
    #[error(
        "the embedded runtime has a relocation of type {kind} at {at:#x} that cannot be applied"
    )]
    Relocation {
        /// ELF's number of the type.
        kind: u32,
        /// Where.
        at: u64,
    },
    /// No such function, or nothing of that name.
    #[error("the embedded runtime has no symbol {0:?}")]
    Symbol(String),
}

/// The runtime, ready to be placed.
#[derive(Clone, Debug)]
pub struct Blob {
    image: Vec<u8>,
    align: u64,
    symbols: BTreeMap<String, u64>,
    /// Offset of what it knows of its process.
    own_process: u64,
    /// Places and values to which the image's address is added.
    relative: Vec<(u64, u64)>,
}

impl Blob {
    /// Reads the embedded object.
    pub fn load() -> Result<Blob, LoadError> {
        let file = ElfFile64::<Endianness>::parse(OBJECT)?;
        let endian = file.endian();
        let mut image = Vec::new();
        let mut align = 4096;
        for segment in file.elf_header().program_headers(endian, OBJECT)? {
            if segment.p_type(endian) != elf::PT_LOAD {
                continue;
            }
            let start = segment.p_vaddr(endian);
            let data = segment
                .data(endian, OBJECT)
                .map_err(|()| LoadError::Segment(start))?;
            let end = start
                .checked_add(segment.p_memsz(endian))
                .filter(|&e| e < 1 << 30)
                .ok_or(LoadError::Segment(start))?;
            align = align.max(segment.p_align(endian));
            if image.len() < end as usize {
                image.resize(end as usize, 0);
            }
            image
                .get_mut(start as usize..start as usize + data.len())
                .ok_or(LoadError::Segment(start))?
                .copy_from_slice(data);
        }
        image.resize(image.len().next_multiple_of(4096), 0);
        let mut symbols = BTreeMap::new();
        let mut own_process = None;
        for symbol in file.dynamic_symbols() {
            if let Some(name) = symbol.name().ok().and_then(|n| n.strip_prefix(PREFIX))
                && symbol.is_definition()
            {
                if symbol.kind() == SymbolKind::Text {
                    symbols.insert(name.to_owned(), symbol.address());
                } else if name == "own_process" {
                    own_process = Some(symbol.address());
                }
            }
        }
        let own_process = own_process.ok_or(LoadError::Symbol("own_process".to_owned()))?;
        let mut relative = Vec::new();
        for (at, relocation) in file.dynamic_relocations().into_iter().flatten() {
            let RelocationFlags::Elf { r_type } = relocation.flags() else {
                continue;
            };
            let unusable = || LoadError::Relocation { kind: r_type.0, at };
            let value = match (r_type, relocation.target()) {
                (elf::R_X86_64_RELATIVE, _) => relocation.addend() as u64,
                (
                    elf::R_X86_64_GLOB_DAT | elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_64,
                    RelocationTarget::Symbol(index),
                ) => {
                    let table = file.dynamic_symbol_table().ok_or_else(unusable)?;
                    let symbol = object::ObjectSymbolTable::symbol_by_index(&table, index)?;
                    if !symbol.is_definition() {
                        return Err(unusable());
                    }
                    symbol.address().wrapping_add(relocation.addend() as u64)
                }
                _ => return Err(unusable()),
            };
            if at as usize + 8 > image.len() {
                return Err(unusable());
            }
            relative.push((at, value));
        }
        Ok(Blob {
            image,
            align,
            symbols,
            own_process,
            relative,
        })
    }

    /// Bytes of the image: whole pages.
    pub fn size(&self) -> u64 {
        self.image.len() as u64
    }

    /// What the address must be a multiple of.
    pub fn align(&self) -> u64 {
        self.align
    }

    /// Offset of a function by its name in `runtime::abi`.
    pub fn symbol(&self, name: &str) -> Result<u64, LoadError> {
        self.symbols
            .get(name)
            .copied()
            .ok_or_else(|| LoadError::Symbol(name.to_owned()))
    }

    /// Every function with its offset.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, u64)> {
        self.symbols
            .iter()
            .map(|(name, &offset)| (name.as_str(), offset))
    }

    /// The image as it must stand at `address`, a multiple of [`Blob::align`], in that process.
    pub fn image_at(&self, address: u64, own: &OwnProcess) -> Result<Vec<u8>, LoadError> {
        let mut image = self.image.clone();
        let (at, own) = (self.own_process, own.bytes());
        image
            .get_mut(at as usize..at as usize + own.len())
            .ok_or(LoadError::Segment(at))?
            .copy_from_slice(&own);
        for &(at, value) in &self.relative {
            let place = image
                .get_mut(at as usize..at as usize + 8)
                .ok_or(LoadError::Segment(at))?;
            place.copy_from_slice(&address.wrapping_add(value).to_le_bytes());
        }
        Ok(image)
    }

    /// The registers that a function changes, itself or through those that it calls.
    pub fn clobbers(&self, name: &str) -> Result<Clobbers, LoadError> {
        // There is one object, so what is found once holds for all that was loaded of it.
        static KNOWN: LazyLock<Mutex<HashMap<u64, Clobbers>>> = LazyLock::new(Mutex::default);
        let at = self.symbol(name)?;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.entry(at);
        Ok(*found.or_insert_with(|| clobbers::of_function(&self.image, at)))
    }
}
