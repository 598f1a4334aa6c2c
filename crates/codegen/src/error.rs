//! Errors of compilation and linking.

use script::span::Span;

/// A construct that can't be compiled for a site.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct CodegenError {
    /// What is wrong, as stap's semantic errors are worded.
    pub message: String,
    /// Where in the script.
    pub span: Span,
    /// The target expression that means nothing, if that is it.
    pub whole: Option<Span>,
}

impl CodegenError {
    pub(crate) const NO_ENTRY_VALUES: &str = "values of the function's entry are not available: the unwind table does not say where its return address stands";

    /// Whether the place is to blame and not the script: the same handler may do elsewhere.
    pub fn is_of_place(&self) -> bool {
        self.message == Self::NO_ENTRY_VALUES
    }
}

/// Code or an arena that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The runtime lacks a function that handlers call.
    #[error("the run time has no function {0:?}")]
    MissingSymbol(String),
    /// The arena is smaller than the layout asks for.
    #[error("the arena has {have} bytes of {need}")]
    ArenaTooSmall {
        /// Its size.
        have: u64,
        /// The layout's.
        need: u64,
    },
    /// A global variable has no room (sizes contradict each other).
    #[error("global variable {0:?} can't be placed")]
    Global(String),
    /// Cranelift could not make code of a handler.
    #[error("code generation failed: {0}")]
    Code(String),
    /// Memory for code could not be had.
    #[error("no executable memory: {0}")]
    Memory(#[from] std::io::Error),
    /// An entry stub could not be assembled.
    #[error("entry stub: {0}")]
    Assemble(#[from] iced_x86::IcedError),
}
