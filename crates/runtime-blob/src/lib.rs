//! The runtime as a blob: machine code for targets, found by name, placed at any address.
//!
//! ```
//! let blob = runtime_blob::Blob::load().unwrap();
//! let address = 0x7f00_0000_0000;
//! let image = blob.image_at(address, &runtime::own_process::OwnProcess::UNKNOWN).unwrap();
//! let pid = address + blob.symbol("pid").unwrap();
//! assert_eq!(image.len() as u64, blob.size());
//! assert!(pid < address + blob.size());
//! ```
//!
//! The image needs one mapping, readable and executable, never writable. Nothing in it refers to anything outside.

mod clobbers;
mod load;

pub use clobbers::Clobbers;
pub use load::{Blob, LoadError};

#[cfg(test)]
mod tests;
