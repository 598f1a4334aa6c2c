//! Where indirect jumps get their targets from.

use std::ops::Range;

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use super::BranchTargets;
use super::relocate::{ends_run, is_near_call};
use crate::analysis::ModuleCode;

/// A constant that `mov` or `push` makes an address of.
pub(super) fn constant(instruction: &Instruction) -> Option<u64> {
    let last = instruction.op_count().checked_sub(1)?;
    match instruction.op_kind(last) {
        OpKind::Immediate32 => Some(u64::from(instruction.immediate32())),
        OpKind::Immediate32to64 => u64::try_from(instruction.immediate32to64()).ok(),
        OpKind::Immediate64 => Some(instruction.immediate64()),
        _ => None,
    }
}

/// A function with indirect jumps.
pub(super) struct IndirectFunction {
    /// Its number among the functions analysed.
    pub(super) index: usize,
    pub(super) range: Range<u64>,
    instructions: Vec<Instruction>,
    /// Data addresses that the function makes: bases of tables, perhaps.
    pub(super) bases: Vec<u64>,
}

impl IndirectFunction {
    /// Decodes the function at `range`, which is one of the module's.
    pub(super) fn decode(module: &ModuleCode<'_>, index: usize, range: Range<u64>) -> Option<Self> {
        let bytes = module
            .sections
            .iter()
            .find_map(|section| section.slice(range.clone()))?;
        let instructions: Vec<Instruction> =
            Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE)
                .iter()
                .collect();
        let mut bases = Vec::new();
        for instruction in &instructions {
            let base = if instruction.mnemonic() == Mnemonic::Lea
                && instruction.is_ip_rel_memory_operand()
            {
                Some(instruction.ip_rel_memory_address())
            } else if module.fixed_address {
                let displacement = instruction.memory_displacement64();
                constant(instruction)
                    .filter(|_| instruction.mnemonic() == Mnemonic::Mov)
                    .or_else(|| (instruction.memory_displ_size() == 8).then_some(displacement))
            } else {
                None
            };
            bases.extend(base.filter(|&base| (module.read_data)(base, &mut [0; 4])));
        }
        bases.sort_unstable();
        bases.dedup();
        Some(Self {
            index,
            range,
            instructions,
            bases,
        })
    }

    /// The first indirect jump whose target is computed, if no table says where it goes.
    pub(super) fn unknown_jump(&self, found: &BranchTargets, has_table: bool) -> Option<u64> {
        if has_table {
            return None;
        }
        let mut factory = InstructionInfoFactory::new();
        self.instructions
            .iter()
            .enumerate()
            .filter(|(_, jump)| jump.is_jmp_near_indirect() && jump.op0_kind() == OpKind::Register)
            .find(|(index, jump)| {
                match self.local_origin(found, &mut factory, *index, jump.op0_register()) {
                    Origin::Loaded => false,
                    Origin::Computed => true,
                    Origin::Elsewhere(register) => self.is_ever_computed(&mut factory, register),
                }
            })
            .map(|(_, jump)| jump.ip())
    }

    /// Where the value of `register` at the instruction `index` comes from, as far as the code just before tells.
    fn local_origin(
        &self,
        found: &BranchTargets,
        factory: &mut InstructionInfoFactory,
        index: usize,
        mut register: Register,
    ) -> Origin {
        let mut later = index;
        while let Some((earlier, instruction)) = later
            .checked_sub(1)
            .and_then(|n| Some((n, self.instructions.get(n)?)))
        {
            // Another path joins here, or nothing comes here from the instruction before.
            let joined = self
                .instructions
                .get(later)
                .is_some_and(|next| next.ip() != self.range.start && found.is_entered(next.ip()));
            if joined || ends_run(instruction) {
                return Origin::Elsewhere(register);
            }
            match write_of(factory, instruction, register) {
                WriteKind::Untouched => {}
                WriteKind::Loaded => return Origin::Loaded,
                WriteKind::Copied(from) => register = from,
                WriteKind::Computed => return Origin::Computed,
            }
            later = earlier;
        }
        Origin::Elsewhere(register)
    }

    /// Whether anything in the function computes a value that may come to stand in `register`.
    fn is_ever_computed(&self, factory: &mut InstructionInfoFactory, register: Register) -> bool {
        let mut pending = vec![register];
        let mut seen = Vec::new();
        while let Some(register) = pending.pop() {
            if seen.contains(&register) {
                continue;
            }
            seen.push(register);
            for instruction in &self.instructions {
                match write_of(factory, instruction, register) {
                    WriteKind::Untouched | WriteKind::Loaded => {}
                    WriteKind::Copied(from) => pending.push(from),
                    WriteKind::Computed => return true,
                }
            }
        }
        false
    }
}

/// Where an address comes from.
enum Origin {
    /// From memory, or from an instruction that makes a whole address.
    Loaded,
    /// From arithmetic.
    Computed,
    /// It is in this register where the straight-line code begins.
    Elsewhere(Register),
}

/// What an instruction does to a register.
enum WriteKind {
    Untouched,
    /// Puts a whole address or a caller's value in it.
    Loaded,
    Copied(Register),
    Computed,
}

fn write_of(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    register: Register,
) -> WriteKind {
    if is_near_call(instruction) {
        // A returned or a clobbered value: whatever it is, no table of this function made it.
        return if matches!(register, Register::RAX | Register::RDX) {
            WriteKind::Loaded
        } else {
            WriteKind::Untouched
        };
    }
    let written = factory
        .info(instruction)
        .used_registers()
        .iter()
        .any(|used| {
            used.register().full_register() == register
                && !matches!(
                    used.access(),
                    OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
                )
        });
    if !written {
        return WriteKind::Untouched;
    }
    let whole =
        instruction.op0_kind() == OpKind::Register && instruction.op0_register() == register;
    match instruction.mnemonic() {
        Mnemonic::Mov if whole => match instruction.op1_kind() {
            OpKind::Register => WriteKind::Copied(instruction.op1_register()),
            _ => WriteKind::Loaded,
        },
        // A constant below 4 GiB: known if it is an address of the module at all.
        Mnemonic::Mov if instruction.op1_kind() == OpKind::Immediate32 => WriteKind::Loaded,
        Mnemonic::Lea if whole && instruction.is_ip_rel_memory_operand() => WriteKind::Loaded,
        Mnemonic::Pop if whole => WriteKind::Loaded,
        // glibc's pointer guard: what was loaded is a whole address, only disguised.
        Mnemonic::Xor if whole && instruction.memory_segment() == Register::FS => WriteKind::Loaded,
        // Zero leads nowhere.
        Mnemonic::Xor if instruction.op0_register() == instruction.op1_register() => {
            WriteKind::Loaded
        }
        Mnemonic::Cmova
        | Mnemonic::Cmovae
        | Mnemonic::Cmovb
        | Mnemonic::Cmovbe
        | Mnemonic::Cmove
        | Mnemonic::Cmovne
        | Mnemonic::Cmovg
        | Mnemonic::Cmovge
        | Mnemonic::Cmovl
        | Mnemonic::Cmovle
        | Mnemonic::Cmovs
        | Mnemonic::Cmovns
            if whole && instruction.op1_kind() == OpKind::Memory =>
        {
            WriteKind::Untouched
        }
        _ => WriteKind::Computed,
    }
}
