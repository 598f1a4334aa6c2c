//! What is at this place in this binary: functions, SDT marks, parameters and the facts about code that somebody who
//! wants to patch it must know.
//!
//! Three nouns carry the crate. A [`Binary`] is one ELF file, mapped and read only where a question needs it. An
//! [`ImageAddr`] is an address in that file's own address space, before any load bias. A [`Location`] says where a
//! value stands at one address: in a register, in memory, or nowhere.
//!
//! ```
//! use symbols::Binary;
//!
//! let binary = Binary::open(&std::env::current_exe()?)?;
//! for mark in binary.marks() {
//!     println!("{}:{} at {}", mark.provider, mark.name, mark.pc);
//! }
//! for function in binary.functions_matching("*main*") {
//!     println!("{} at {}", function.name, function.address);
//! }
//! assert!(binary.function_at(binary.entry()).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here touches a process: [`maps::parse`] takes the text of `/proc/PID/maps`, wherever it came from.

pub mod address;
pub mod arch;
pub mod binary;
pub mod call_frame;
pub mod code_pointers;
pub mod debug_files;
pub mod dwarf;
mod file_mapping;
pub mod frame_rules;
pub mod functions;
pub mod glob;
pub mod libraries;
pub mod line_index;
pub mod maps;
pub mod neighbours;
pub mod plt;
pub mod report;
pub mod sdt;
pub mod sdt_operand;
pub mod suggest;
pub mod symbol_table;
pub mod unwind;

#[cfg(fuzzing)]
pub mod fuzzing;
mod image;
mod index_cache;
mod indirect;
mod mini_debug_info;
mod named_functions;
mod operations;
mod thread_local;

pub use address::{FileOffset, ImageAddr};
pub use arch::x86_64::{RegisterName, RegisterWidth, SegmentRegister};
pub use binary::{Binary, BinaryKind, Section, Segment, SymbolsError, is_setuid};
pub use call_frame::{CallFrameRow, CallFrames};
pub use debug_files::{DebugFiles, Debuginfod, DebuginfodError, Notice};
pub use dwarf::{
    CallerCase, CallerFrame, DebugInfo, DwarfFunction, Elsewhere, EntityId, FunctionList,
    FunctionQuery, Keyword, Label, Language, LineSet, ListedFunction, Location, Member,
    MemberOffset, MemberRole, MissingLine, NamedType, OBJECT, Operator, Piece, Scopes, Statement,
    Statements, Term, Type, TypeId, TypeKind, ValueClass, Variable, VariableKind, Variant,
};
pub use frame_rules::{Cfa, FrameRule, FrameRules, Saved};
pub use functions::{Binding, Function, FunctionKind, FunctionSource};
pub use glob::Glob;
pub use index_cache::IndexCache;
pub use libraries::LibraryEnvironment;
pub use line_index::{LineIndex, SourceLine};
pub use maps::Mapping;
pub use plt::PltEntry;
pub use sdt::{SdtError, SdtMark};
pub use sdt_operand::{OperandError, SdtArgument, SdtOperand};
pub use symbol_table::{SymbolAt, SymbolTable};
pub use unwind::CodeRange;
