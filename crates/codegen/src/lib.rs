//! From a typed program and resolved target variables to machine code, by Cranelift, and to the arena's layout.
//! Knows nothing of how code gets into a process.

mod arch;
mod builder;
mod compiled;
mod error;
mod format;
mod intrinsic;
mod isa;
mod layout;
mod limits;
mod link;
mod lower;
mod nesting;
mod resolve;
mod saved;
mod site;
mod state;
mod storage;
mod target;
mod term;
mod tracer;
mod walk;
mod weight;

pub use builder::{Builder, Context, HandlerId};
pub use compiled::{Compiled, LocationInfo};
pub use error::{CodegenError, LinkError};
pub use layout::ArenaLayout;
pub use limits::Limits;
pub use link::{
    EntryForm, ProcessCode, ProcessLink, Registers, RuntimeClobbers, STACK_TABLES, ThreadPointer,
};
pub use lower::FRAME_TABLE;
pub use site::SiteText;
pub use target::{
    Access, Location, NoVariables, Resolution, Resolver, Select, Text, TextArg, Unresolved,
    Variable,
};
pub use term::{CallerCase, FloatOperation, Term, TermOperator};
pub use tracer::{Element, GlobalValue, StatValue, TracerCode, Value};
