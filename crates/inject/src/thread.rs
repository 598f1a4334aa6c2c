//! Registers of stopped threads.

use crate::arch::Frame;
use crate::error::InjectError;
use crate::process::{Pid, Process};
use crate::ptrace;

impl Process {
    /// The registers of a thread of the held process. `rip` may be in a trampoline.
    ///
    /// # Errors
    /// [`InjectError::NotHeld`]; [`InjectError::Ptrace`] for a thread that is not one of the process, or runs.
    pub fn registers(&self, thread: Pid) -> Result<Frame, InjectError> {
        self.require_held()?;
        let r = ptrace::registers(thread)?;
        Ok(Frame {
            gpr: [
                r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
                r.r12, r.r13, r.r14, r.r15,
            ],
            rip: r.rip,
            rflags: r.eflags,
        })
    }

    /// Sets them. A system call that the thread was stopped in is made again only if `rip` stays what it was.
    ///
    /// # Errors
    /// As [`Process::registers`].
    pub fn set_registers(&mut self, thread: Pid, registers: &Frame) -> Result<(), InjectError> {
        self.require_held()?;
        let mut r = ptrace::registers(thread)?;
        if r.rip != registers.rip {
            // None to be made again, for the kernel.
            r.orig_rax = u64::MAX;
        }
        [
            r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11,
            r.r12, r.r13, r.r14, r.r15,
        ] = registers.gpr;
        (r.rip, r.eflags) = (registers.rip, registers.rflags);
        ptrace::set_registers(thread, &r)
    }
}
