//! Finding the `syscall` instructions of a module, and the system call that each one makes.

use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

use super::BranchTargets;
use super::relocate::{direct_target, ends_run, is_near_call};
use crate::analysis::CodeSection;

/// The encoding of `syscall` (Intel SDM volume 2).
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The end of the code in which a C library makes the system calls that a thread may be cancelled in: musl's from `__cp_begin`
/// to `__cp_end` (src/thread/x86_64/syscall_cp.s), and since 2.41 glibc's `__syscall_cancel_arch` (its syscall_cancel.S). A signal
/// handler of theirs compares the place where it interrupted a thread with the bounds of this code.
const CANCELLABLE: [u8; 35] = [
    0x49, 0x89, 0xfb, // mov r11, rdi
    0x48, 0x89, 0xf0, // mov rax, rsi
    0x48, 0x89, 0xd7, // mov rdi, rdx
    0x48, 0x89, 0xce, // mov rsi, rcx
    0x4c, 0x89, 0xc2, // mov rdx, r8
    0x4d, 0x89, 0xca, // mov r10, r9
    0x4c, 0x8b, 0x44, 0x24, 0x08, // mov r8, [rsp + 8]
    0x4c, 0x8b, 0x4c, 0x24, 0x10, // mov r9, [rsp + 16]
    0x4c, 0x89, 0x5c, 0x24, 0x08, // mov [rsp + 8], r11
    0x0f, 0x05, // syscall
];
/// As many bytes before it at most look whether the thread was cancelled already.
const LOOK: u64 = 12;

/// Whether some code is part of that in which a thread is cancelled, which works only where it stands.
pub fn is_cancellable(code: CodeSection<'_>, range: Range<u64>) -> bool {
    let section = code.range();
    let length = CANCELLABLE.len() as u64;
    let near = range.start.saturating_sub(length).max(section.start)
        ..range.end.saturating_add(LOOK + length).min(section.end);
    let Some(bytes) = code.slice(near.clone()) else {
        return false;
    };
    memchr::memmem::find_iter(bytes, &CANCELLABLE).any(|offset| {
        let start = near.start + offset as u64;
        range.start < start + length && start.saturating_sub(LOOK) < range.end
    })
}

/// How far back the number of a system call is looked for, in instructions.
const HORIZON: usize = 16;

/// A `syscall` instruction of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its address.
    pub address: u64,
    /// The number in rax, where it is the same whenever control comes here; `None`: it may be any.
    pub number: Option<u32>,
}

impl SystemCall {
    /// Whether it may make one of some system calls.
    pub(crate) fn may_make(&self, numbers: &[i64]) -> bool {
        self.number
            .is_none_or(|known| numbers.contains(&i64::from(known)))
    }
}

/// The `syscall` instructions in a section, ascending. Bytes that merely look like one, inside of other instructions
/// or in data, are none.
pub fn system_calls(code: CodeSection<'_>, targets: &BranchTargets) -> Vec<SystemCall> {
    let mut found = Vec::new();
    for offset in memchr::memmem::find_iter(code.bytes, &SYSCALL) {
        let address = code.address + offset as u64;
        if targets.is_boundary(address) && targets.function_of(address).is_some() {
            found.push(SystemCall {
                address,
                number: number(address, code, targets),
            });
        }
    }
    found
}

/// The `syscall` instructions in the code of a function, and the numbers that they have as far as nothing but its own
/// branches leads into the middle of it.
pub(crate) fn apparent_system_calls(code: &[u8], address: u64) -> Vec<SystemCall> {
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .iter()
        .collect();
    let is_call = |instruction: &Instruction| instruction.mnemonic() == Mnemonic::Syscall;
    if !instructions.iter().any(is_call) {
        return Vec::new();
    }
    let mut joins: Vec<u64> = instructions.iter().filter_map(direct_target).collect();
    joins.sort_unstable();
    let calls = instructions.iter().enumerate();
    let calls = calls.filter(|(_, instruction)| is_call(instruction));
    calls
        .map(|(n, call)| SystemCall {
            address: call.ip(),
            number: number_before(&instructions[..n], call.ip(), &joins),
        })
        .collect()
}

/// What rax holds behind some instructions of a function, if their branches to `joins` are all that leads into the middle of it.
fn number_before(instructions: &[Instruction], address: u64, joins: &[u64]) -> Option<u32> {
    let mut factory = InstructionInfoFactory::new();
    let mut low_byte = None;
    let mut next = address;
    for instruction in instructions.iter().rev() {
        if joins.binary_search(&next).is_ok() || ends_run(instruction) || is_near_call(instruction)
        {
            return None;
        }
        if writes_rax(&mut factory, instruction) {
            match constant(instruction)? {
                Constant::Whole(value) => {
                    return Some(match low_byte {
                        Some(low) => value & !0xff | u32::from(low),
                        None => value,
                    });
                }
                Constant::Low(low) => low_byte = low_byte.or(Some(low)),
            }
        }
        next = instruction.ip();
    }
    None
}

/// What an instruction puts into rax.
enum Constant {
    Whole(u32),
    /// Into al; the rest stays.
    Low(u8),
}

fn constant(instruction: &Instruction) -> Option<Constant> {
    let zeroes = matches!(instruction.mnemonic(), Mnemonic::Xor | Mnemonic::Sub)
        && instruction.op1_kind() == OpKind::Register
        && instruction.op0_register() == instruction.op1_register()
        && matches!(instruction.op0_register(), Register::EAX | Register::RAX);
    match instruction.code() {
        Code::Mov_r32_imm32 | Code::Mov_rm32_imm32 => {
            Some(Constant::Whole(instruction.immediate32()))
        }
        Code::Mov_rm64_imm32 | Code::Mov_r64_imm64 => u32::try_from(instruction.immediate64())
            .ok()
            .map(Constant::Whole),
        Code::Mov_r8_imm8 | Code::Mov_rm8_imm8 if instruction.op0_register() == Register::AL => {
            Some(Constant::Low(instruction.immediate8()))
        }
        _ if zeroes => Some(Constant::Whole(0)),
        _ => None,
    }
}

fn writes_rax(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    factory
        .info(instruction)
        .used_registers()
        .iter()
        .any(|used| {
            used.register().full_register() == Register::RAX
                && !matches!(
                    used.access(),
                    OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
                )
        })
}

/// The instruction that stands directly before an address, if control runs from the one to the other.
pub(super) fn previous(
    address: u64,
    code: CodeSection<'_>,
    targets: &BranchTargets,
) -> Option<Instruction> {
    (1..=15).find_map(|len| {
        let at = address.checked_sub(len)?;
        if !targets.is_boundary(at) {
            return None;
        }
        let mut decoder = Decoder::with_ip(64, code.from(at)?, at, DecoderOptions::NONE);
        let instruction = decoder.decode();
        (instruction.code() != Code::INVALID && instruction.next_ip() == address)
            .then_some(instruction)
    })
}

/// What rax holds at an address, as far as the straight-line code before it proves it.
fn number(address: u64, code: CodeSection<'_>, targets: &BranchTargets) -> Option<u32> {
    targets.is_provable(address).ok()?;
    let mut factory = InstructionInfoFactory::new();
    let mut at = address;
    // `mov al, 15` needs to know the rest of the register.
    let mut low_byte = None;
    for _ in 0..HORIZON {
        if targets.is_entered(at) {
            return None;
        }
        let instruction = previous(at, code, targets)?;
        if !matches!(
            instruction.flow_control(),
            FlowControl::Next | FlowControl::ConditionalBranch
        ) {
            return None;
        }
        if writes_rax(&mut factory, &instruction) {
            let value = match constant(&instruction)? {
                Constant::Whole(value) => value,
                Constant::Low(low) if low_byte.is_none() => {
                    low_byte = Some(low);
                    at = instruction.ip();
                    continue;
                }
                Constant::Low(_) => return None,
            };
            return Some(match low_byte {
                Some(low) => value & !0xff | u32::from(low),
                None => value,
            });
        }
        at = instruction.ip();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::ModuleCode;
    use iced_x86::code_asm::{CodeAssembler, al, eax, ecx, edi, rax, rdi};

    fn found(write: impl FnOnce(&mut CodeAssembler)) -> Vec<Option<u32>> {
        let mut a = CodeAssembler::new(64).unwrap();
        write(&mut a);
        let bytes = a.assemble(0x1000).unwrap();
        let section = CodeSection {
            address: 0x1000,
            bytes: &bytes,
        };
        let targets = BranchTargets::build(&ModuleCode {
            sections: &[section],
            functions: &[section.range()],
            landing_pads: &[],
            code_pointers: &[],
            read_data: &|_, _| false,
            fixed_address: false,
        });
        let calls = system_calls(section, &targets);
        calls.iter().map(|call| call.number).collect()
    }

    #[test]
    fn constant_numbers_are_known() {
        let numbers = found(|a| {
            a.mov(eax, 39).unwrap();
            a.syscall().unwrap();
            a.mov(edi, eax).unwrap();
            a.xor(eax, eax).unwrap();
            a.syscall().unwrap();
            a.xor(eax, eax).unwrap();
            a.mov(al, 56).unwrap();
            a.mov(edi, 1).unwrap();
            a.syscall().unwrap();
            a.ret().unwrap();
        });
        assert_eq!(numbers, [Some(39), Some(0), Some(56)]);
    }

    #[test]
    fn a_number_from_elsewhere_is_any() {
        let numbers = found(|a| {
            let mut again = a.create_label();
            a.mov(rax, rdi).unwrap();
            a.syscall().unwrap();
            // The result of the one call would be the number of the next.
            a.syscall().unwrap();
            a.mov(eax, 1).unwrap();
            a.set_label(&mut again).unwrap();
            a.syscall().unwrap();
            a.mov(eax, 2).unwrap();
            a.dec(ecx).unwrap();
            a.jne(again).unwrap();
            a.ret().unwrap();
        });
        assert_eq!(numbers, [None, None, None]);
    }

    #[test]
    fn bytes_inside_of_an_instruction_are_no_call() {
        let numbers = found(|a| {
            a.mov(eax, 0x0000_050f).unwrap();
            a.ret().unwrap();
        });
        assert!(numbers.is_empty());
    }
}
