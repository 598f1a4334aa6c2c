//! What handlers call: arrays, statistics, strings, formats, event rings, safe reads. `no_std`, no alloc, no libc. Built
//! twice: as this library, for the tracer and for tests, and as a position-independent blob (crate `runtime-blob`,
//! `cfg(spile_blob)`) that is mapped into targets.
//!
//! Invariants: nothing here allocates, blocks without bound or panics; no value read from an arena becomes an address
//! or a loop's bound unchecked; the blob has no writable data, and what it knows of its process's
//! addresses stands in it (`own_process`).
#![cfg_attr(not(test), no_std)]
// Tests call everything on arenas of their own (`fixture`), which is what every promise there rests on.
#![cfg_attr(
    test,
    allow(clippy::undocumented_unsafe_blocks, clippy::type_complexity)
)]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the runtime is written for x86-64 Linux");

pub mod abi;
pub mod arena;
pub mod facts;
#[cfg(test)]
mod fixture;
pub mod float;
pub mod format;
pub mod frames;
#[cfg(spile_blob)]
pub mod freestanding;
pub mod histogram;
pub mod indent;
pub mod iterate;
pub mod keys;
pub mod layout;
pub mod lock;
pub mod map;
pub mod memory;
pub mod own_process;
pub mod proc_files;
pub mod raise;
pub mod regex;
pub mod registers;
pub mod ring;
pub mod shard;
pub mod signal_stack;
pub mod site;
pub mod slots;
pub mod stack;
pub mod stat;
pub mod string;
pub mod sys;
pub mod text;
pub mod time;
pub mod timing;
pub mod user_string;
pub mod wide;
