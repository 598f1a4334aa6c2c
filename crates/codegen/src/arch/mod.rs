//! What is particular to a processor.

pub(crate) mod x86_64;
