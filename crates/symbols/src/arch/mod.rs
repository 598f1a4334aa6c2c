//! What is particular to one processor: the names and numbers of its registers.

pub mod x86_64;
