//! x86-64, System V ABI.

pub(crate) mod clobber;
pub(crate) mod stub;
