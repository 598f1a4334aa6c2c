//! SystemTap's language for editors, by the language server protocol: messages of the compiler as one types, completion
//! of probe points and functions, what they are, where names are declared and used, renaming, layout.
//!
//! The texts are looked at without the programs that they are about: target variables and functions of programs are
//! not known here.

mod analysis;
mod completion;
mod document;
mod names;
mod server;

pub use server::{ServerError, run, serve};
