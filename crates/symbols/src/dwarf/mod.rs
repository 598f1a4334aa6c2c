//! Functions and parameters as DWARF (versions 2 to 5) describes them.

mod call_sites;
mod debug_info;
mod declared_lines;
mod expression;
mod frame;
mod function_entry;
mod function_index;
mod function_list;
mod function_sweep;
mod gdb_index;
mod globals;
mod index_scan;
mod labels;
mod layout;
pub(crate) mod line_table;
mod literal_search;
mod name_index;
mod named_entities;
mod namespaces;
mod prologue;
mod qualified;
mod scopes;
pub(crate) mod sections;
mod spell;
mod statements;
mod term;
mod types;
mod unit_addresses;
mod unit_scan;
pub(crate) mod units;

pub use debug_info::{DebugInfo, NamedType, Scopes};
pub use frame::CallerFrame;
pub use function_list::{FunctionList, FunctionQuery, Listable, ListedFunction};
pub use layout::{Keyword, Member, MemberOffset, MemberRole, OBJECT, Type, TypeKind, Variant};
pub use statements::{LineSet, MissingLine, Statement, Statements};
pub use term::{CallerCase, Elsewhere, Operator, Term};

pub(crate) use frame::{from_eh_frame, in_order};
pub(crate) use function_index::FunctionIndex;
pub(crate) use function_list::Wanted;
pub(crate) use index_scan::key_of_pattern;
#[cfg(fuzzing)]
pub(crate) use name_index::fuzz_index;
pub(crate) use sections::{DwarfFile, SplitFiles};

use std::ops::Range;

use crate::address::ImageAddr;
use crate::functions::qualified_name;

/// A function with code of its own or a copy of one that was inlined into another, as debugging information describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DwarfFunction {
    /// `DW_AT_name`: the name as the source has it, without scope or parameters.
    pub name: String,
    /// `DW_AT_linkage_name`: the mangled name of a C++ or Rust function.
    pub linkage_name: Option<String>,
    /// The file that declares it, with its directory in the line table.
    pub decl_file: Option<String>,
    /// The line in that file.
    pub decl_line: Option<u64>,
    /// Where a call arrives.
    pub entry: ImageAddr,
    /// The lowest address of its code, cold parts included.
    pub low: ImageAddr,
    /// Behind the last address of the part that holds `entry`.
    pub high: ImageAddr,
    /// Where its parameters can be read: `entry` in optimised code, behind the prologue otherwise.
    pub probe_address: ImageAddr,
    /// All its code, in the order of the debugging information.
    pub ranges: Vec<Range<ImageAddr>>,
    /// Whether it is a copy that was inlined into another function, where nothing calls it.
    pub inlined: bool,
    /// Whether it is a copy in another compilation unit than the function's, as optimisation of whole programs (`-flto`)
    /// makes them.
    pub from_other_unit: bool,
    /// Whether other compilation units can call it by name (`DW_AT_external`).
    pub external: bool,
    pub(crate) id: units::EntryId,
}

impl DwarfFunction {
    /// The name with the last `scopes` of the namespaces and classes around it, as far as its mangled name has them.
    pub fn qualified_name(&self, scopes: usize) -> String {
        qualified_name(&self.name, self.linkage_name.as_deref(), scopes).into_owned()
    }

    /// Whether an address is in its code.
    pub fn holds(&self, address: ImageAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// Its entry in the debugging information.
    pub fn entity(&self) -> EntityId {
        EntityId(self.id)
    }
}

/// A label in a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Where its code begins.
    pub address: ImageAddr,
    /// The file that it stands in.
    pub file: Option<String>,
    /// The line in that file.
    pub line: Option<u64>,
}

/// A type in the debugging information of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) units::EntryId);

/// A function, inlined copy or variable in the debugging information of a binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub(crate) units::EntryId);

impl EntityId {
    /// Where its entry is in the section that it stands in.
    pub fn section_offset(self) -> u64 {
        self.0.unit.saturating_add(self.0.die) as u64
    }
}

/// What a unit was written in, as far as values are to be read in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// Rust.
    Rust,
    /// Go.
    Go,
    /// Anything else.
    Other,
}

/// A variable or parameter, located at an address of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// `DW_AT_name`.
    pub name: String,
    /// What it is.
    pub kind: VariableKind,
    /// The C spelling of its type as `stap -L` prints it: `int`, `char*`, `struct foo*`, `enum e`.
    pub type_name: String,
    /// What kind of value it is, typedefs and qualifiers seen through.
    pub class: ValueClass,
    /// Its type; `None` for `void`.
    pub type_id: Option<TypeId>,
    /// Where it stands.
    pub location: Location,
    /// Its entry.
    pub id: EntityId,
}

/// Where a variable is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VariableKind {
    /// A parameter.
    Parameter,
    /// In a function or a block of it.
    Local,
    /// Outside of functions.
    Global,
}

/// What kind of value a type holds; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueClass {
    /// A signed integer or character.
    Signed(u8),
    /// An unsigned integer or character.
    Unsigned(u8),
    /// A pointer, C++ reference or pointer-like value of 8 bytes.
    Pointer,
    /// `_Bool`, one byte.
    Bool,
    /// An enumeration.
    Enum {
        /// Size in bytes.
        size: u8,
        /// Whether its values are to be sign-extended.
        signed: bool,
    },
    /// A structure, array, floating-point number or anything else that is not one integer.
    Other,
}

/// Where a value stands at one address of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a register, by DWARF's number (see [`crate::arch::x86_64::from_dwarf`]).
    Register(u16),
    /// In memory at this address.
    Memory(Term),
    /// Nowhere: the value itself is this number (`DW_OP_stack_value`, `DW_AT_const_value`).
    Value(Term),
    /// Nowhere: its bytes are known.
    Bytes(Vec<u8>),
    /// Nowhere: it is a pointer, and what it points to is known.
    PointerTo {
        /// The variable that it points to (see [`DebugInfo::pointed_to`]).
        target: EntityId,
        /// Bytes from its start.
        offset: i64,
    },
    /// In several places, lowest bytes first.
    Pieces(Vec<Piece>),
    /// Not readable at this address, with the reason.
    Unavailable(String),
}

impl Location {
    /// Whether debugging information says how the value comes about, though it can't be read here: it is the one that it
    /// had when the function was entered (`DW_OP_entry_value`), or takes floating-point arithmetic.
    pub fn is_described(&self) -> bool {
        use expression::{ENTRY_VALUE_ONLY, FLOATS};
        matches!(self, Location::Unavailable(why) if why == ENTRY_VALUE_ONLY || why == FLOATS)
    }

    /// Why the value can't be read here, if it can't.
    pub fn unavailable(&self) -> Option<&str> {
        match self {
            Location::Unavailable(why) => Some(why),
            Location::Pieces(pieces) => {
                let mut whys = pieces.iter().map(|p| p.location.unavailable());
                whys.next()?.filter(|_| whys.all(|w| w.is_some()))
            }
            _ => None,
        }
    }
}

/// A part of a value that stands in several places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it stands.
    pub location: Location,
    /// How many bits.
    pub bits: u64,
    /// How many bits of the place are passed over.
    pub skip: u64,
}
