//! What must be known about a module's code before any of it is moved.

use std::ops::Range;

/// A run of a module's code in memory order.
#[derive(Clone, Copy, Debug)]
pub struct CodeSection<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// The code as the file has it (without any patch).
    pub bytes: &'a [u8],
}

impl<'a> CodeSection<'a> {
    /// The addresses of the section.
    pub fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes.len() as u64)
    }

    /// The bytes from `address` to the end of the section, or none if it lies outside.
    pub fn from(&self, address: u64) -> Option<&'a [u8]> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        self.bytes.get(offset..).filter(|rest| !rest.is_empty())
    }

    /// The bytes of `range`, or none unless all of it lies inside.
    pub fn slice(&self, range: Range<u64>) -> Option<&'a [u8]> {
        let start = usize::try_from(range.start.checked_sub(self.address)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.address)?).ok()?;
        self.bytes.get(start..end)
    }
}

/// Copies bytes of a module's data, as the file has them, from an address into a buffer; false if any of
/// them is not part of the module's data.
pub type ReadData<'a> = dyn Fn(u64, &mut [u8]) -> bool + Sync + 'a;

/// A module as the analysis needs it. All addresses are of one kind: either the file's own (link-time) or those of a
/// process. With the file's own, one analysis serves every process that maps the file, and
/// [`Plan::rebase`](crate::arch::Plan::rebase) moves its results.
#[derive(Clone, Copy)]
pub struct ModuleCode<'a> {
    /// The executable sections.
    pub sections: &'a [CodeSection<'a>],
    /// Address ranges of the functions, in any order, from unwind tables and symbols.
    pub functions: &'a [Range<u64>],
    /// Places where the exception machinery enters (landing pads of the LSDA).
    pub landing_pads: &'a [u64],
    /// Code addresses found in data: targets of relative relocations, words of read-only data, entry points,
    /// dynamic symbols.
    pub code_pointers: &'a [u64],
    /// Reads the module's data, for jump tables.
    pub read_data: &'a ReadData<'a>,
    /// Whether the module is linked to run at fixed addresses (ELF's `ET_EXEC`), so that a plain constant may be an
    /// address.
    pub fixed_address: bool,
}
