//! Which registers a piece of code changes.

use crate::link::Registers;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess, Register};

/// rbx rsp rbp r12 r13 r14 r15: what a called function leaves as it was.
pub(crate) const CALLEE_SAVED: u16 = 1 << 3 | 1 << 4 | 1 << 5 | 0xf << 12;

/// What a function changes itself, its callees not counted.
pub(crate) fn written(code: &[u8]) -> Registers {
    let mut found = Registers::default();
    let mut factory = InstructionInfoFactory::new();
    for instruction in Decoder::new(64, code, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            break;
        }
        found.flags |= instruction.rflags_modified() != 0;
        for used in factory.info(&instruction).used_registers() {
            if !matches!(
                used.access(),
                OpAccess::Write
                    | OpAccess::CondWrite
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
            ) {
                continue;
            }
            let register = used.register();
            if register.is_gpr() {
                found.general |= 1 << register.full_register().number();
            } else if register.is_vector_register() {
                found.vector |=
                    1 << (register.full_register() as u32 - Register::ZMM0 as u32).min(15);
            }
        }
    }
    found.general &= !CALLEE_SAVED;
    found
}

#[cfg(test)]
mod tests {
    use super::written;
    use iced_x86::code_asm::*;

    #[test]
    fn writes_are_found() {
        let mut a = CodeAssembler::new(64).unwrap();
        a.push(rbx).unwrap();
        a.mov(ecx, dword_ptr(rdi)).unwrap();
        a.movups(xmm3, xmmword_ptr(rsi)).unwrap();
        a.pop(rbx).unwrap();
        a.ret().unwrap();
        let found = written(&a.assemble(0).unwrap());
        assert_eq!(
            (found.general, found.vector, found.flags),
            (1 << 1, 1 << 3, false)
        );
    }
}
