//! Which registers a function changes, found by following its instructions: calls, jumps and tail calls inside the
//! image. An indirect jump or call leads anywhere; then every register that the ABI lets a callee change counts.

use std::collections::BTreeSet;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

/// Registers changed, by number: bit `n` of `gpr` is the register with encoding `n` (rax rcx rdx rbx rsp rbp rsi rdi r8
/// … r15), bit `n` of `xmm` is xmm`n`. The registers that the ABI preserves do not count: they are put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clobbers {
    /// General registers.
    pub gpr: u16,
    /// Vector registers.
    pub xmm: u16,
}

impl Clobbers {
    /// rax, rcx, rdx, rsi, rdi, r8 … r11, and all vector registers: what the System V ABI lets a function change.
    pub const CALLER_SAVED: Clobbers = Clobbers {
        gpr: 0b0000_1111_1100_0111,
        xmm: 0xffff,
    };
}

const PRESERVED: u16 = !Clobbers::CALLER_SAVED.gpr;

pub(crate) fn of_function(image: &[u8], entry: u64) -> Clobbers {
    let mut clobbers = Clobbers::default();
    let mut info = InstructionInfoFactory::new();
    let mut seen = BTreeSet::new();
    let mut todo = vec![entry];
    while let Some(start) = todo.pop() {
        let Some(code) = image.get(start as usize..) else {
            return Clobbers::CALLER_SAVED;
        };
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        while decoder.can_decode() {
            if !seen.insert(decoder.ip()) {
                break;
            }
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return Clobbers::CALLER_SAVED;
            }
            for used in info.info(&instruction).used_registers() {
                if matches!(
                    used.access(),
                    OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
                ) {
                    continue;
                }
                let register = used.register();
                if register.is_gpr() {
                    clobbers.gpr |= 1 << register.full_register().number();
                } else if register.is_vector_register() {
                    match register.number() {
                        n @ 0..16 => clobbers.xmm |= 1 << n,
                        _ => return Clobbers::CALLER_SAVED,
                    }
                } else if register != Register::RIP
                    && !register.is_segment_register()
                    && !register.is_ip()
                {
                    return Clobbers::CALLER_SAVED;
                }
            }
            if instruction.mnemonic() == Mnemonic::Syscall {
                // The kernel gives back everything but these.
                clobbers.gpr |= 1 | 1 << 1 | 1 << 11;
                continue;
            }
            let near = matches!(instruction.op0_kind(), OpKind::NearBranch64);
            match instruction.flow_control() {
                FlowControl::Next | FlowControl::XbeginXabortXend => {}
                FlowControl::ConditionalBranch | FlowControl::Call if near => {
                    todo.push(instruction.near_branch_target())
                }
                FlowControl::UnconditionalBranch if near => {
                    todo.push(instruction.near_branch_target());
                    break;
                }
                FlowControl::Return | FlowControl::Exception => break,
                _ => return Clobbers::CALLER_SAVED,
            }
        }
    }
    clobbers.gpr &= !PRESERVED;
    clobbers
}
