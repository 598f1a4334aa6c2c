//! A piece of code to be run at a point of a program.

use crate::arch::RegisterSet;

/// Code that runs whenever control reaches a point, and what must be arranged for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The code.
    pub code: SnippetCode,
    /// Registers that the code looks up in the [`Frame`](crate::arch::Frame); only these are stored there.
    pub reads: RegisterSet,
    /// Registers that the code may change. It preserves all others. Where there is a frame, the general registers among
    /// them are loaded from it afterwards, unless the program needs them no more: to give the program another value in
    /// one, write it there. What a calling convention passes in
    /// (frame, argument) counts as changed without being named here.
    pub clobbers: RegisterSet,
    /// A word handed to the code, such as a number of the site.
    pub argument: u64,
}

/// How a [`Snippet`]'s code is reached.
///
/// Registers that are not arguments hold rubbish: the program's values are in the frame. Only inline code without a frame finds
/// them in place. The code runs on the program's
/// stack, with the direction flag clear. Vector code must be encoded without
/// VEX/EVEX: only the low 128 bits of vector registers are preserved by the trampoline, and a VEX write clears the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnippetCode {
    /// A function at this absolute address of the process, with the System V calling convention:
    /// `extern "C" fn(frame: *const Frame, argument: u64)`. The stack is aligned as the ABI wants.
    Call(u64),
    /// A function at this absolute address of the process that takes nothing, keeps every register but those that the
    /// snippet clobbers, and does not mind how the stack is aligned: all that stands in the trampoline is its call.
    Leaf(u64),
    /// Position-independent instructions placed in the trampoline itself, which fall through at their end.
    /// They may not use the stack.
    Inline {
        /// The instructions.
        code: Vec<u8>,
        /// rdi holds the address of the frame on entry.
        wants_frame: bool,
        /// rsi holds the argument on entry.
        wants_argument: bool,
    },
    /// Position-independent instructions for a function's entry, which run before everything else there, with the program's
    /// own registers and stack. They fall through at their end, or return to the function's caller in its place. They may
    /// change what is dead at an entry besides what they return: rax, r10, r11 and the flags.
    Guard(Vec<u8>),
}

impl Snippet {
    /// Whether the code is given a frame.
    pub fn wants_frame(&self) -> bool {
        match self.code {
            SnippetCode::Call(_) => true,
            SnippetCode::Inline { wants_frame, .. } => wants_frame,
            SnippetCode::Leaf(_) | SnippetCode::Guard(_) => false,
        }
    }

    /// Whether the code is given its argument.
    pub fn wants_argument(&self) -> bool {
        match self.code {
            SnippetCode::Call(_) => true,
            SnippetCode::Inline { wants_argument, .. } => wants_argument,
            SnippetCode::Leaf(_) | SnippetCode::Guard(_) => false,
        }
    }
}
