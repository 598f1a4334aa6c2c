//! Moving instructions to another address without changing what they do.
//!
//! Most instructions are copied byte for byte, operands relative to rip with a new displacement. Branches become
//! near ones. A call becomes a push of the *original* return address and a jump, so that stack walkers, exceptions
//! and the callee itself see what they always saw.

use std::ops::Range;

use iced_x86::{
    Code, ConstantOffsets, Decoder, DecoderOptions, Encoder, FlowControl, Instruction, Mnemonic,
    OpKind, Register,
};

/// Instructions moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocated {
    /// The moved code.
    pub bytes: Vec<u8>,
    /// For each original instruction its address and the offset of its copy in `bytes`, in rising order.
    pub map: Vec<(u64, usize)>,
    /// Whether the last instruction lets control run on to the one behind it. The copy then ends with a jump there.
    pub falls_through: bool,
}

/// Why instructions can't be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelocateError {
    /// The bytes are no instruction.
    #[error("undecodable instruction at {0:#x}")]
    Undecodable(u64),
    /// The instruction can't do its work elsewhere.
    #[error("{what} at {address:#x} can't be moved")]
    Unmovable {
        /// Where it stands.
        address: u64,
        /// What it is.
        what: &'static str,
    },
    /// What the instruction refers to is more than 2 GiB from the copy.
    #[error("the instruction at {address:#x} refers to {target:#x}, out of reach of {copy:#x}")]
    OutOfReach {
        /// Where it stands.
        address: u64,
        /// What it refers to.
        target: u64,
        /// Where its copy would stand.
        copy: u64,
    },
}

/// Moves the instructions in `code`, which stand at `from`, to `to`; ends the copy with a jump to the instruction
/// behind the run if control can go there.
///
/// A branch from the run to one of its own instructions goes to the copy, except one to its first instruction: that goes
/// to `from`, where the patch stands.
///
/// # Errors
/// Bytes that are no instructions; instructions that only make sense where they are (software interrupts, `ud2`, a
/// call that returns into the run); operands out of reach.
///
/// ```
/// // lea rax, [rip+0x10] at 0x1000 refers to 0x1017.
/// let moved = inject::arch::relocate(&[0x48, 0x8d, 0x05, 0x10, 0, 0, 0], 0x1000, 0x2000)?;
/// assert_eq!(moved.bytes[..7], [0x48, 0x8d, 0x05, 0x10, 0xf0, 0xff, 0xff]);
/// # Ok::<(), inject::arch::RelocateError>(())
/// ```
pub fn relocate(code: &[u8], from: u64, to: u64) -> Result<Relocated, RelocateError> {
    let instructions = decode(code, from)?;
    let mut relocator = Relocator::new(from..from.wrapping_add(code.len() as u64), to);
    let mut map = Vec::with_capacity(instructions.len());
    for displaced in &instructions {
        map.push((displaced.instruction.ip(), relocator.offset()));
        relocator.label(displaced.instruction.ip());
        relocator.instruction(displaced)?;
    }
    let falls_through = instructions.last().is_none_or(Displaced::falls_through);
    if falls_through {
        relocator.jump_back()?;
    }
    Ok(Relocated {
        bytes: relocator.finish()?,
        map,
        falls_through,
    })
}

/// A decoded instruction with its bytes.
pub(super) struct Displaced<'a> {
    pub(super) instruction: Instruction,
    bytes: &'a [u8],
    offsets: ConstantOffsets,
}

impl Displaced<'_> {
    /// Whether control can go on to the next instruction *in the copy*: not after a call, which returns to the original.
    fn falls_through(&self) -> bool {
        !ends_run(&self.instruction) && !is_near_call(&self.instruction)
    }
}

/// Whether the instruction never lets control go on behind it.
pub(super) fn ends_run(instruction: &Instruction) -> bool {
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch
        | FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Exception => true,
        _ => instruction.mnemonic() == Mnemonic::Hlt,
    }
}

/// Whether the instruction pushes a return address.
pub(super) fn is_near_call(instruction: &Instruction) -> bool {
    instruction.is_call_near() || instruction.is_call_near_indirect()
}

/// The target of a direct branch, call or `xbegin`.
pub(super) fn direct_target(instruction: &Instruction) -> Option<u64> {
    (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64)
        .then(|| instruction.near_branch64())
}

/// Decodes all of `code`, which stands at `address`.
pub(super) fn decode(code: &[u8], address: u64) -> Result<Vec<Displaced<'_>>, RelocateError> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut out = Vec::new();
    while decoder.can_decode() {
        let start = decoder.position();
        let instruction = decoder.decode();
        if instruction.code() == Code::INVALID {
            return Err(RelocateError::Undecodable(instruction.ip()));
        }
        let bytes = code
            .get(start..decoder.position())
            .ok_or(RelocateError::Undecodable(instruction.ip()))?;
        out.push(Displaced {
            offsets: decoder.get_constant_offsets(&instruction),
            instruction,
            bytes,
        });
    }
    Ok(out)
}

/// A 32-bit displacement to be filled in when all offsets are known.
struct Fixup {
    /// Offset of the displacement in the output.
    position: usize,
    target: FixupTarget,
    /// Address of the instruction it serves, for the error.
    instruction: u64,
}

enum FixupTarget {
    /// An address outside the copy.
    Absolute(u64),
    /// The copy of the instruction at this original address.
    CopyOf(u64),
    /// An eight-byte constant behind the code.
    Constant(u64),
}

/// Builds a copy piece by piece.
pub(super) struct Relocator {
    from: Range<u64>,
    to: u64,
    out: Vec<u8>,
    labels: Vec<(u64, usize)>,
    fixups: Vec<Fixup>,
}

impl Relocator {
    /// A copy of the code at `from`, to stand at `to`.
    pub(super) fn new(from: Range<u64>, to: u64) -> Self {
        Self {
            from,
            to,
            out: Vec::with_capacity(64),
            labels: Vec::new(),
            fixups: Vec::new(),
        }
    }

    /// How many bytes there are so far.
    pub(super) fn offset(&self) -> usize {
        self.out.len()
    }

    /// The address of the next byte.
    pub(super) fn address(&self) -> u64 {
        self.to.wrapping_add(self.out.len() as u64)
    }

    /// Says that branches to the original instruction at `original` go to the next byte.
    pub(super) fn label(&mut self, original: u64) {
        self.labels.push((original, self.out.len()));
    }

    /// Adds code of other origin.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Adds a jump to the instruction behind the original run.
    pub(super) fn jump_back(&mut self) -> Result<(), RelocateError> {
        let end = self.from.end;
        self.out.push(0xe9);
        self.displacement(FixupTarget::Absolute(end), end);
        Ok(())
    }

    /// Fills in the displacements and adds the constants.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, RelocateError> {
        for fixup in std::mem::take(&mut self.fixups) {
            let target = match fixup.target {
                FixupTarget::Absolute(address) => address,
                FixupTarget::CopyOf(original) => {
                    let offset = self
                        .labels
                        .iter()
                        .find(|label| label.0 == original)
                        .ok_or(RelocateError::Unmovable {
                            address: fixup.instruction,
                            what: "a branch into the middle of a displaced instruction",
                        })?
                        .1;
                    self.to.wrapping_add(offset as u64)
                }
                FixupTarget::Constant(value) => {
                    let address = self.address();
                    self.out.extend_from_slice(&value.to_le_bytes());
                    address
                }
            };
            let next = self.to.wrapping_add(fixup.position as u64 + 4);
            let displacement = i32::try_from(target.wrapping_sub(next) as i64).map_err(|_| {
                RelocateError::OutOfReach {
                    address: fixup.instruction,
                    target,
                    copy: self.to,
                }
            })?;
            if let Some(place) = self.out.get_mut(fixup.position..fixup.position + 4) {
                place.copy_from_slice(&displacement.to_le_bytes());
            }
        }
        Ok(self.out)
    }

    /// Leaves room for a displacement that ends its instruction.
    fn displacement(&mut self, target: FixupTarget, instruction: u64) {
        self.fixups.push(Fixup {
            position: self.out.len(),
            target,
            instruction,
        });
        self.out.extend_from_slice(&[0; 4]);
    }

    /// Where a branch to an original address must go.
    fn branch_target(&self, target: u64) -> FixupTarget {
        if target > self.from.start && target < self.from.end {
            FixupTarget::CopyOf(target)
        } else {
            FixupTarget::Absolute(target)
        }
    }

    /// Adds the copy of one instruction.
    pub(super) fn instruction(&mut self, displaced: &Displaced<'_>) -> Result<(), RelocateError> {
        let instruction = &displaced.instruction;
        let address = instruction.ip();
        let unmovable = |what| Err(RelocateError::Unmovable { address, what });
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::Return => self.copy(displaced),
            FlowControl::IndirectBranch => {
                if instruction.is_jmp_near_indirect() {
                    self.copy(displaced)
                } else {
                    unmovable("a far jump")
                }
            }
            FlowControl::UnconditionalBranch => {
                let Some(target) = direct_target(instruction) else {
                    return unmovable("a jump with 16-bit operand");
                };
                self.out.push(0xe9);
                let target = self.branch_target(target);
                self.displacement(target, address);
                Ok(())
            }
            FlowControl::ConditionalBranch => self.conditional(displaced),
            FlowControl::Call | FlowControl::IndirectCall => {
                if is_near_call(instruction) {
                    self.call(instruction)
                } else if instruction.mnemonic() == Mnemonic::Syscall {
                    self.copy(displaced)
                } else {
                    unmovable("a far call or hypervisor call")
                }
            }
            FlowControl::XbeginXabortXend => match direct_target(instruction) {
                Some(target) => {
                    self.out.extend_from_slice(&[0xc7, 0xf8]);
                    let target = self.branch_target(target);
                    self.displacement(target, address);
                    Ok(())
                }
                None if instruction.mnemonic() == Mnemonic::Xbegin => {
                    unmovable("xbegin with 16-bit operand")
                }
                None => self.copy(displaced),
            },
            FlowControl::Interrupt => unmovable("a software interrupt"),
            // Whoever catches the SIGILL knows the instruction by its address (sanitizers, WebAssembly runtimes).
            FlowControl::Exception => unmovable("a deliberately invalid instruction"),
        }
    }

    /// Adds the bytes of an instruction, with a new displacement if its memory operand is relative to rip.
    fn copy(&mut self, displaced: &Displaced<'_>) -> Result<(), RelocateError> {
        let instruction = &displaced.instruction;
        let address = instruction.ip();
        let start = self.out.len();
        if !instruction.is_ip_rel_memory_operand() {
            self.out.extend_from_slice(displaced.bytes);
            return Ok(());
        }
        let unmovable = |what| Err(RelocateError::Unmovable { address, what });
        if instruction.memory_base() != Register::RIP || displaced.offsets.displacement_size() != 4
        {
            return unmovable("an operand relative to eip");
        }
        let target = instruction.ip_rel_memory_address();
        if self.from.contains(&target) && instruction.mnemonic() != Mnemonic::Lea {
            return unmovable("an access to the code being patched");
        }
        self.out.extend_from_slice(displaced.bytes);
        let next = self.to.wrapping_add(self.out.len() as u64);
        let displacement = i32::try_from(target.wrapping_sub(next) as i64).map_err(|_| {
            RelocateError::OutOfReach {
                address,
                target,
                copy: self.to,
            }
        })?;
        let at = start + displaced.offsets.displacement_offset();
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&displacement.to_le_bytes());
        }
        Ok(())
    }

    /// `jcc`, `loop`, `loope`, `loopne`, `jrcxz`, `jecxz`.
    fn conditional(&mut self, displaced: &Displaced<'_>) -> Result<(), RelocateError> {
        let instruction = &displaced.instruction;
        let address = instruction.ip();
        let Some(target) = direct_target(instruction) else {
            return Err(RelocateError::Unmovable {
                address,
                what: "a branch with 16-bit operand",
            });
        };
        if instruction.is_jcc_short_or_near() {
            // The condition is the low half of the last opcode byte (SDM vol. 2, appendix B.1.4.7). iced numbers its
            // conditions from 1 in the same order.
            let condition = instruction.condition_code() as u8;
            self.out
                .extend_from_slice(&[0x0f, 0x80 | condition.wrapping_sub(1) & 0x0f]);
        } else {
            // These exist with an 8-bit displacement only:
            //       loop 1f; jmp 2f; 1: jmp target; 2:
            // All but the displacement, which comes last, is kept, with its address-size prefix.
            let Some((_, opcode)) = displaced.bytes.split_last() else {
                return Err(RelocateError::Undecodable(address));
            };
            self.out.extend_from_slice(opcode);
            self.out.extend_from_slice(&[0x02, 0xeb, 0x05, 0xe9]);
        }
        let target = self.branch_target(target);
        self.displacement(target, address);
        Ok(())
    }

    /// A near call as a push of the original return address and a jump.
    fn call(&mut self, instruction: &Instruction) -> Result<(), RelocateError> {
        let address = instruction.ip();
        let unmovable = |what| Err(RelocateError::Unmovable { address, what });
        let return_address = instruction.next_ip();
        if self.from.contains(&return_address) {
            return unmovable("a call that returns into the displaced code");
        }

        // A real call keeps the processor's return-address predictor in step: the callee's return is mispredicted once,
        // a bare push would also mispredict every return after it. Its target must not be the next instruction:
        // processors know that as an idiom and leave the predictor alone. What it pushed is then overwritten in
        // one store of eight bytes, which the callee's return can forward from.
        self.out.extend_from_slice(&[0xe8, 0x01, 0, 0, 0, 0xcc]);
        if let Ok(low) = i32::try_from(return_address) {
            // mov qword ptr [rsp], imm32
            self.out.extend_from_slice(&[0x48, 0xc7, 0x04, 0x24]);
            self.out.extend_from_slice(&low.to_le_bytes());
        } else {
            // lea rsp, [rsp+8]; push qword ptr [rip+constant]
            self.out
                .extend_from_slice(&[0x48, 0x8d, 0x64, 0x24, 0x08, 0xff, 0x35]);
            self.displacement(FixupTarget::Constant(return_address), address);
        }

        if let Some(target) = direct_target(instruction) {
            self.out.push(0xe9);
            let target = self.branch_target(target);
            self.displacement(target, address);
            return Ok(());
        }
        if instruction.code() != Code::Call_rm64 {
            return unmovable("a call with 16-bit operand");
        }
        let mut jump = *instruction;
        jump.set_code(Code::Jmp_rm64);
        match instruction.op0_kind() {
            OpKind::Register if instruction.op0_register() == Register::RSP => {
                return unmovable("a call through rsp");
            }
            OpKind::Register => {}
            _ if instruction.is_ip_rel_memory_operand() => {
                if instruction.memory_base() != Register::RIP {
                    return unmovable("an operand relative to eip");
                }
                if self.from.contains(&instruction.ip_rel_memory_address()) {
                    return unmovable("an access to the code being patched");
                }
            }
            _ if matches!(instruction.memory_base(), Register::RSP | Register::ESP) => {
                // The push has moved rsp by eight, and has overwritten what stood below it.
                let displacement = instruction.memory_displacement64() as i64;
                if instruction.memory_base() == Register::ESP
                    || instruction.memory_index() != Register::None
                    || displacement < 0
                    || displacement > i64::from(i32::MAX) - 8
                {
                    return unmovable("a call through memory below the stack pointer");
                }
                jump.set_memory_displacement64(displacement as u64 + 8);
                jump.set_memory_displ_size(8);
            }
            _ => {}
        }
        let mut encoder = Encoder::new(64);
        let copy = self.address();
        if encoder.encode(&jump, copy).is_err() {
            return Err(RelocateError::OutOfReach {
                address,
                target: instruction.memory_displacement64(),
                copy,
            });
        }
        self.out.extend_from_slice(&encoder.take_buffer());
        Ok(())
    }
}
