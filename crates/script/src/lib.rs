//! SystemTap's language: from text to a typed [`ir::Program`], with diagnostics as stap gives them.
//! Knows nothing of processes, ELF or machine code.

pub mod ast;
pub mod colors;
pub mod compile;
pub mod diagnostic;
pub mod display;
pub mod format;
pub mod intrinsics;
pub mod ir;
mod lexer;
pub mod macros;
pub mod messages;
pub mod monitor;
pub mod parser;
pub mod preprocess;
pub mod reference;
pub mod regex;
pub mod sema;
pub mod span;
pub mod tapset;
pub mod token;
pub mod unparse;
