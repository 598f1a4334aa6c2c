//! What an indirect jump at the end of a straight run of code goes by: a table of the function's own, or a pointer.

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use super::BranchTargets;
use super::relocate::is_near_call;
use crate::analysis::{CodeSection, ReadData};

/// Where the target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a table whose first entry leads into the function: a `switch`.
    Table,
    /// From a pointer loaded or handed over as a whole, with no table in sight: another function.
    Pointer,
    /// That can't be told.
    Unknown,
}

/// Looks at the code from `start` up to the indirect `jump`; `is_inside` says which addresses are the function's own.
pub(super) fn origin(
    sections: &[CodeSection<'_>],
    read_data: &ReadData<'_>,
    targets: &BranchTargets,
    start: u64,
    jump: &Instruction,
    is_inside: &dyn Fn(u64) -> bool,
) -> Origin {
    if jump.op0_kind() == OpKind::Memory {
        return memory_operand(jump, read_data, is_inside);
    }
    let Some(code) = sections
        .iter()
        .find_map(|section| section.slice(start..jump.ip()))
    else {
        return Origin::Unknown;
    };
    let run: Vec<Instruction> = Decoder::with_ip(64, code, start, DecoderOptions::NONE)
        .iter()
        .collect();
    let mut factory = InstructionInfoFactory::new();
    let mut register = jump.op0_register();
    for instruction in run.iter().rev() {
        if is_near_call(instruction) {
            return match register {
                Register::RAX | Register::RDX => Origin::Pointer,
                _ => Origin::Unknown,
            };
        }
        let writes = factory
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| {
                used.register().full_register() == register
                    && !matches!(
                        used.access(),
                        OpAccess::Read
                            | OpAccess::CondRead
                            | OpAccess::None
                            | OpAccess::NoMemAccess
                    )
            });
        if !writes {
            continue;
        }
        let whole =
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == register;
        return match instruction.mnemonic() {
            // add rax, rdx behind movslq rax, [rdx+rax*4]: the table was read when the module was analysed.
            Mnemonic::Add if whole && targets.is_provable(jump.ip()).is_ok() => Origin::Table,
            Mnemonic::Mov if whole && instruction.op1_kind() == OpKind::Register => {
                register = instruction.op1_register();
                continue;
            }
            Mnemonic::Mov if whole && instruction.op1_kind() == OpKind::Memory => {
                memory_operand(instruction, read_data, is_inside)
            }
            Mnemonic::Pop if whole => Origin::Pointer,
            Mnemonic::Lea if whole && instruction.is_ip_rel_memory_operand() => {
                match is_inside(instruction.ip_rel_memory_address()) {
                    true => Origin::Unknown,
                    false => Origin::Pointer,
                }
            }
            _ => Origin::Unknown,
        };
    }
    Origin::Unknown
}

/// Whether code that stands at `address` loads anything that may be an entry of a table: indexed, four bytes
/// (sign-extended) or eight at a time.
pub(super) fn is_used_in(code: &[u8], address: u64) -> bool {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
        .iter()
        .any(|instruction| {
            instruction.memory_index() != Register::None
                && match instruction.mnemonic() {
                    Mnemonic::Movsxd => true,
                    Mnemonic::Mov => {
                        instruction.op0_kind() == OpKind::Register
                            && instruction.op0_register().is_gpr64()
                            && instruction.memory_index_scale() == 8
                    }
                    Mnemonic::Jmp => true,
                    _ => false,
                }
        })
}

/// An address that is loaded: from a table if it is indexed.
fn memory_operand(
    instruction: &Instruction,
    read_data: &ReadData<'_>,
    is_inside: &dyn Fn(u64) -> bool,
) -> Origin {
    if instruction.memory_index() == Register::None {
        return Origin::Pointer;
    }
    let mut word = [0; 8];
    let base = instruction.memory_displacement64();
    if instruction.memory_base() == Register::None
        && read_data(base, &mut word)
        && is_inside(u64::from_le_bytes(word))
    {
        Origin::Table
    } else {
        Origin::Unknown
    }
}
