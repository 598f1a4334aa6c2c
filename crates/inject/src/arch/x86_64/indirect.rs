//! Where indirect jumps get their targets from.

use std::collections::HashSet;
use std::ops::Range;

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use super::BranchTargets;
use super::relocate::{direct_target, ends_run, is_near_call};
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
    /// Direct branches to places in the function: the place, and the index of the branch; ascending.
    branches: Vec<(u64, usize)>,
    /// An address may be below 4 GiB.
    fixed_address: bool,
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
        let mut branches: Vec<(u64, usize)> = instructions
            .iter()
            .enumerate()
            .filter(|(_, instruction)| !is_near_call(instruction))
            .filter_map(|(index, instruction)| Some((direct_target(instruction)?, index)))
            .filter(|(target, _)| range.contains(target))
            .collect();
        branches.sort_unstable();
        Some(Self {
            index,
            range,
            instructions,
            branches,
            fixed_address: module.fixed_address,
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
                self.may_be_computed(found, &mut factory, *index, jump.op0_register())
            })
            .map(|(_, jump)| jump.ip())
    }

    /// Whether a value that was computed may be in `register` at the instruction `index`, on any of the ways there.
    fn may_be_computed(
        &self,
        found: &BranchTargets,
        factory: &mut InstructionInfoFactory,
        index: usize,
        register: Register,
    ) -> bool {
        let mut pending = vec![(index, register)];
        let mut seen = HashSet::new();
        while let Some((at, register)) = pending.pop() {
            let Some(here) = self.instructions.get(at) else {
                continue;
            };
            if !seen.insert((at, register)) {
                continue;
            }
            let address = here.ip();
            // What callers hand over is a whole address.
            if address != self.range.start && found.is_entered_unseen(address) {
                if self.is_ever_computed(factory, register) {
                    return true;
                }
                continue;
            }
            let first = self.branches.partition_point(|&(to, _)| to < address);
            let branches = self.branches.iter().skip(first);
            let branches = branches.take_while(|&&(to, _)| to == address);
            let before = at.checked_sub(1).filter(|&n| {
                let before = self.instructions.get(n);
                before.is_some_and(|before| !ends_run(before))
            });
            for from in branches.map(|&(_, from)| from).chain(before) {
                let Some(instruction) = self.instructions.get(from) else {
                    continue;
                };
                match self.write_of(factory, instruction, register) {
                    WriteKind::Untouched => pending.push((from, register)),
                    WriteKind::Loaded => {}
                    WriteKind::Copied(source) => pending.push((from, source)),
                    WriteKind::Computed => return true,
                }
            }
        }
        false
    }

    fn write_of(
        &self,
        factory: &mut InstructionInfoFactory,
        instruction: &Instruction,
        register: Register,
    ) -> WriteKind {
        write_of(factory, instruction, register, !self.fixed_address)
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
                match self.write_of(factory, instruction, register) {
                    WriteKind::Untouched | WriteKind::Loaded => {}
                    WriteKind::Copied(from) => pending.push(from),
                    WriteKind::Computed => return true,
                }
            }
        }
        false
    }
}

/// What an instruction does to a register.
enum WriteKind {
    Untouched,
    /// Puts a whole address or a caller's value in it.
    Loaded,
    Copied(Register),
    Computed,
}

/// What an instruction does to a register; where addresses are above 4 GiB (`high`) none is ever computed in 32 bits.
fn write_of(
    factory: &mut InstructionInfoFactory,
    instruction: &Instruction,
    register: Register,
    high: bool,
) -> WriteKind {
    if is_near_call(instruction) {
        // A returned or a clobbered value: whatever it is, no table of this function made it.
        return if matches!(register, Register::RAX | Register::RDX) {
            WriteKind::Loaded
        } else {
            WriteKind::Untouched
        };
    }
    let mut sizes = factory
        .info(instruction)
        .used_registers()
        .iter()
        .filter(|used| {
            used.register().full_register() == register
                && !matches!(
                    used.access(),
                    OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
                )
        })
        .map(|used| used.register().size())
        .peekable();
    if sizes.peek().is_none() {
        return WriteKind::Untouched;
    }
    if high && sizes.all(|size| size == 4) {
        return WriteKind::Loaded;
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
