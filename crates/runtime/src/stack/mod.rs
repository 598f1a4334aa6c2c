//! Walks of the program's stack, and names of its addresses, from tables that the tracer prepares.
//!
//! The tracer turns each module's unwind table (and, when the script wants names, its symbols and lines) into a
//! [`table::Table`], maps those into the process, and lists them in a [`table::Directory`]. [`walk::Walk`] goes from a
//! hit's registers to caller after caller by them; [`name`] turns addresses into text.
//!
//! Invariants: no table and no stack, however damaged, makes any of it fault, loop or read outside: tables are slices
//! with every access checked, the stack is read by [`memory::Memory`], and a walk takes at most as many steps as asked.

pub mod backtrace;
pub mod memory;
pub mod name;
pub mod table;
pub mod walk;
