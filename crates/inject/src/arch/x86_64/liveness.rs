//! Which registers hold nothing of value at a site.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register, RflagsBits,
};

use super::RegisterSet;
use crate::analysis::CodeSection;

/// How many instructions are looked at.
const HORIZON: usize = 24;

/// The arithmetic flags in iced's terms.
const ARITHMETIC: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// Where a function's entry finds nothing of anybody's: rax, r10 and r11, xmm8 to xmm15 pass no parameter (psABI §3.2.3).
const NO_PARAMETERS: RegisterSet = RegisterSet {
    gpr: 1 << 0 | 1 << 10 | 1 << 11,
    xmm: 0xff00,
    flags: false,
};

/// The registers whose value at `site` is never read: the straight-line code from there overwrites them first.
///
/// What the program does not read any more may still be what debugging information calls a variable, and a probe further
/// on may show it. So a register is dead only when the very next instruction overwrites it; later ones count for the flags,
/// which no variable is in, and at a function's entry for what passes no parameter.
///
/// Only what is proven is in the set: a register that the code up to the first branch, call or return leaves alone
/// counts as live. With `at_function_entry` the flags are dead as well (psABI §3.2.1: no flag but DF has a
/// meaning at a call). Nothing else is assumed there: compilers that see both sides of a call (GCC's `-fipa-ra`) keep
/// values in caller-saved registers across it.
pub fn dead_registers(site: u64, code: CodeSection<'_>, at_function_entry: bool) -> RegisterSet {
    let mut dead = RegisterSet {
        flags: at_function_entry,
        ..RegisterSet::EMPTY
    };
    let Some(bytes) = code.from(site) else {
        return dead;
    };
    let mut undecided = RegisterSet {
        gpr: !(1 << 4),
        xmm: 0xffff,
        flags: !at_function_entry,
    };
    let mut undecided_flags = ARITHMETIC;
    let mut factory = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, bytes, site, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    let lasting = match at_function_entry {
        true => NO_PARAMETERS,
        false => RegisterSet::EMPTY,
    };
    for distance in 0..HORIZON {
        if !decoder.can_decode() || undecided.is_empty() {
            break;
        }
        decoder.decode_out(&mut instruction);
        if instruction.code() == Code::INVALID || instruction.flow_control() != FlowControl::Next {
            break;
        }

        if undecided.flags {
            if instruction.rflags_read() & undecided_flags != 0 {
                undecided.flags = false;
            } else if !keeps_flags_sometimes(&instruction) {
                undecided_flags &= !instruction.rflags_modified();
                if undecided_flags == 0 {
                    undecided.flags = false;
                    dead.flags = true;
                }
            }
        }

        let mut read = RegisterSet::EMPTY;
        let mut written = RegisterSet::EMPTY;
        for used in factory.info(&instruction).used_registers() {
            let one = set_of(used.register());
            let full = match used.access() {
                OpAccess::Write => overwrites(&instruction, used.register()),
                OpAccess::None | OpAccess::NoMemAccess => continue,
                _ => false,
            };
            if full {
                written = written | one;
            } else {
                read = read | one;
            }
        }
        undecided = undecided - read;
        let shown_by_nobody = match distance {
            0 => written,
            _ => written & lasting,
        };
        dead = dead | (shown_by_nobody & undecided);
        undecided = undecided - written;
    }
    dead
}

/// The registers that hold nothing of value before and after the `syscall` instruction at `site`: it overwrites rcx and
/// r11 itself, and what follows it may not care for the flags, which it leaves as they were.
pub fn dead_around_system_call(site: u64, code: CodeSection<'_>) -> (RegisterSet, RegisterSet) {
    let overwritten = RegisterSet::of_gprs(&[1, 11]);
    let next = dead_registers(site.wrapping_add(2), code, false);
    let flags = RegisterSet {
        flags: next.flags,
        ..RegisterSet::EMPTY
    };
    // The result comes in rax, so that dead there means dead for whoever looks at it.
    let after = next - RegisterSet::of_gprs(&[0]);
    (overwritten | flags, overwritten | after)
}

/// The set of the one register that `register` is a part of.
fn set_of(register: Register) -> RegisterSet {
    let full = register.full_register();
    let mut set = RegisterSet::EMPTY;
    let number = full.number();
    if register.is_gpr() && number < 16 {
        set.gpr = 1 << number;
    } else if register.is_vector_register() && number < 16 {
        set.xmm = 1 << number;
    }
    set
}

/// Whether a write to `register` leaves nothing of its former value: 32-bit writes clear the upper half, smaller ones
/// keep the rest; scalar vector instructions between registers may keep the upper part.
fn overwrites(instruction: &Instruction, register: Register) -> bool {
    if register.is_gpr() {
        return register.size() >= 4;
    }
    match instruction.mnemonic() {
        Mnemonic::Movaps
        | Mnemonic::Movapd
        | Mnemonic::Movups
        | Mnemonic::Movupd
        | Mnemonic::Movdqa
        | Mnemonic::Movdqu
        | Mnemonic::Movd
        | Mnemonic::Movq
        | Mnemonic::Pxor
        | Mnemonic::Xorps
        | Mnemonic::Xorpd => true,
        Mnemonic::Movss | Mnemonic::Movsd => {
            instruction.op0_register() == register
                && instruction.op1_kind() == iced_x86::OpKind::Memory
        }
        _ => false,
    }
}

/// Instructions that change the flags only if their count is not zero.
fn keeps_flags_sometimes(instruction: &Instruction) -> bool {
    let counted = (0..instruction.op_count()).any(|n| instruction.op_register(n) == Register::CL)
        && matches!(
            instruction.mnemonic(),
            Mnemonic::Shl
                | Mnemonic::Shr
                | Mnemonic::Sar
                | Mnemonic::Sal
                | Mnemonic::Rol
                | Mnemonic::Ror
                | Mnemonic::Rcl
                | Mnemonic::Rcr
                | Mnemonic::Shld
                | Mnemonic::Shrd
        );
    counted || instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(bytes: &[u8], at_function_entry: bool) -> RegisterSet {
        let code = CodeSection {
            address: 0x1000,
            bytes,
        };
        dead_registers(0x1000, code, at_function_entry)
    }

    #[test]
    fn what_is_overwritten_is_dead() {
        // mov eax, [rdi]; add rcx, rax; xor edx, edx; ret
        let found = dead(&[0x8b, 0x07, 0x48, 0x01, 0xc1, 0x31, 0xd2, 0xc3], false);
        assert_eq!(found, RegisterSet::of_gprs(&[0]).and_flags());
    }

    #[test]
    fn what_a_probe_further_on_may_show_is_alive() {
        // nop; mov edx, [rdi]; mov eax, [rdi]; mov r10d, [rdi]; ret
        let code = [0x90, 0x8b, 0x17, 0x8b, 0x07, 0x44, 0x8b, 0x17, 0xc3];
        assert_eq!(dead(&code, false), RegisterSet::EMPTY);
        let found = dead(&code, true);
        assert_eq!(found, RegisterSet::of_gprs(&[0, 10]) | RegisterSet::FLAGS);
    }

    #[test]
    fn narrow_writes_keep_a_register_alive() {
        // mov al, 1; mov cx, 2; ret
        assert_eq!(
            dead(&[0xb0, 1, 0x66, 0xb9, 2, 0, 0xc3], false),
            RegisterSet::EMPTY
        );
        // setc al reads CF; movzx eax, al reads al
        assert_eq!(
            dead(&[0x0f, 0x92, 0xc0, 0x0f, 0xb6, 0xc0, 0xc3], false),
            RegisterSet::EMPTY
        );
    }

    #[test]
    fn flags_written_in_part_stay_alive() {
        // inc leaves CF alone; then adc reads it.
        assert!(!dead(&[0x48, 0xff, 0xc0, 0x48, 0x11, 0xc8, 0xc3], false).flags);
        // shl eax, cl changes nothing if cl is 0.
        assert!(!dead(&[0xd3, 0xe0, 0xc3], false).flags);
        // inc, then cmp writes all.
        assert!(dead(&[0x48, 0xff, 0xc0, 0x48, 0x39, 0xc8, 0xc3], false).flags);
    }

    #[test]
    fn nothing_is_assumed_behind_a_branch_or_call() {
        // jmp +0; xor eax, eax
        assert_eq!(dead(&[0xeb, 0, 0x31, 0xc0], false), RegisterSet::EMPTY);
        assert_eq!(
            dead(&[0xe8, 0, 0, 0, 0, 0x31, 0xc0], false),
            RegisterSet::EMPTY
        );
        assert_eq!(dead(&[0xc3], true), RegisterSet::FLAGS);
    }

    #[test]
    fn vector_registers_written_in_part_stay_alive() {
        // movss xmm0, xmm1; cvtsi2sd xmm2, eax; ret
        let found = dead(
            &[0xf3, 0x0f, 0x10, 0xc1, 0xf2, 0x0f, 0x2a, 0xd0, 0xc3],
            false,
        );
        assert_eq!(found, RegisterSet::EMPTY);
        // pxor xmm3, xmm3; and movss xmm4, [rdi]
        let found = dead(&[0x66, 0x0f, 0xef, 0xdb, 0xc3], false);
        assert_eq!(found.xmm, 1 << 3);
        let found = dead(&[0xf3, 0x0f, 0x10, 0x27, 0xc3], false);
        assert_eq!(found.xmm, 1 << 4);
    }
}
