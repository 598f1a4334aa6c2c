//! Places where a snippet can be inserted.

use crate::arch::Exit;

/// What a point is in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PointKind {
    /// Before a function's first instruction.
    Entry,
    /// Before a return, or before the jump to a function that returns in this one's place.
    Exit,
    /// Before a call.
    CallSite,
    /// Before any other instruction.
    Instruction,
    /// Before a system call is made.
    BeforeSystemCall,
    /// After a system call, where it returns: also in a new thread or process, for those that make one.
    AfterSystemCall,
}

/// An absolute address in a process, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point {
    address: u64,
    kind: PointKind,
    before: Vec<u64>,
}

impl Point {
    /// The point before the instruction at an absolute address.
    pub fn instruction(address: u64) -> Point {
        Point {
            address,
            kind: PointKind::Instruction,
            before: Vec::new(),
        }
    }

    /// The point before the first instruction of the function at an absolute address. The function
    /// must follow the System V calling convention: flags and red zone are taken to be unused.
    pub fn entry(address: u64) -> Point {
        Point {
            address,
            kind: PointKind::Entry,
            before: Vec::new(),
        }
    }

    /// The point before an exit of a function that follows the System V calling convention: flags and red zone are
    /// taken to be unused.
    pub fn exit(exit: &Exit) -> Point {
        Point {
            address: exit.address,
            kind: PointKind::Exit,
            before: exit.before.clone(),
        }
    }

    /// The point before the call at an absolute address.
    pub fn call_site(address: u64) -> Point {
        Point {
            address,
            kind: PointKind::CallSite,
            before: Vec::new(),
        }
    }

    /// Instructions right before it, the nearest first, at which a patch may begin that has no room here.
    pub fn before(&self) -> &[u64] {
        &self.before
    }

    /// The point before the `syscall` instruction at an absolute address: the call's number is in
    /// rax, its arguments are in rdi, rsi, rdx, r10, r8 and r9.
    pub fn before_system_call(address: u64) -> Point {
        Point {
            address,
            kind: PointKind::BeforeSystemCall,
            before: Vec::new(),
        }
    }

    /// The point after the `syscall` instruction at an absolute address: the result is in rax, the
    /// arguments are where they were.
    pub fn after_system_call(address: u64) -> Point {
        Point {
            address,
            kind: PointKind::AfterSystemCall,
            before: Vec::new(),
        }
    }

    /// The absolute address. Of a point after an instruction, that of the instruction.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// What it is.
    pub fn kind(&self) -> PointKind {
        self.kind
    }
}
