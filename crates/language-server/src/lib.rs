//! SystemTap's language for editors, by the language server protocol: messages of the compiler as one types, completion
//! of probe points and functions, what they are, where names are declared and used, renaming, layout.
//!
//! Of the programs that the texts are about nothing is known here: their functions and variables are asked for
//! ([`Lister`]) where they can be written.

mod analysis;
mod completion;
mod document;
mod names;
mod server;
mod transport;

pub use completion::Lister;
pub use server::{ServerError, run, serve};
