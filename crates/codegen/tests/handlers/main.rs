//! Handlers compiled from scripts and run in this process. What they are to print follows from the language reference
//! and from arithmetic.

mod differential;
mod process;
mod programs;
mod session;
mod tracer;
