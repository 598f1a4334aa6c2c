//! What is particular to one processor architecture: registers, relocation of displaced instructions,
//! trampolines and the bytes of a patch. The rest of the crate names only what is re-exported here.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
