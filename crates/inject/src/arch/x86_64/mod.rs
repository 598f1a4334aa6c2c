//! x86-64.
//!
//! Three steps lead from an address to a probe, none of which touches a process:
//!
//! 1. [`BranchTargets`] says where a module's control flow may enter.
//! 2. [`plan`] decides which bytes at a site may be overwritten, and with which kind of jump, or refuses.
//! 3. [`Trampoline::build`] makes the code the jump leads to: snippets, then the displaced instructions, then a
//!    jump back.

mod control_flow;
mod direct_calls;
mod function_bounds;
pub(crate) mod hook;
mod indirect;
mod islands;
mod jump_table;
mod liveness;
mod patch;
mod planning;
mod registers;
mod relocate;
mod return_file;
mod return_trampoline;
mod sweep;
mod system_calls;
mod targets;
mod trampoline;
mod vicinity;

pub use control_flow::{
    ControlFlow, Exit, ExitKind, FunctionCode, Loop, Named, NotProvable, StackRow, control_flow,
};
pub use direct_calls::{DirectCall, direct_calls};
pub(crate) use function_bounds::to_their_ends;
pub use liveness::{dead_around_system_call, dead_registers};
pub(crate) use patch::Shape;
pub use patch::{Moved, PatchKind, Plan, Redirected, Refusal, TakenRanges, Write};
pub use planning::{Room, plan, plan_around, plan_through};
pub use registers::{Frame, RegisterSet};
pub use relocate::{RelocateError, Relocated, relocate};
pub use return_trampoline::ReturnTrampoline;
pub(crate) use system_calls::apparent_system_calls;
pub use system_calls::{SYSCALL, SystemCall, is_cancellable, system_calls};
pub use targets::BranchTargets;
pub use trampoline::{SnippetsAt, Trampoline, TrampolineError};

#[cfg(test)]
mod control_flow_tests;
#[cfg(test)]
mod execution;
#[cfg(test)]
mod real_binaries;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "a module with one function"
)]
mod targets_tests;
