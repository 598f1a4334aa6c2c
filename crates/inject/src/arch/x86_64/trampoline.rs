//! The code a patched site jumps to.
//!
//! For each displaced instruction that has snippets: save what they change and the program still needs, run them, restore;
//! then the instruction's copy. At the end a jump back.
//!
//! # Stack
//!
//! All is saved on the program's stack, below the red zone (128 bytes, psABI §3.2.2) except at a function's entry and exits,
//! where there is none:
//!
//! ```text
//! rsp at the site ─▶ ┌──────────────────────┐
//!                    │ red zone        0/128│
//!                    │ flags             0/8│
//!                    │ xmm registers    16·n│  or 256, each at its own place, when a snippet reads any
//!                    │ Frame         0 or 144│  or 8·n for the saved registers alone
//!                    └──────────────────────┘ ◀─ frame
//!                      alignment and return address of a called snippet: up to 32
//! ```
//!
//! Nothing of it remains when the displaced instructions run: stack, return addresses and registers are then those that the
//! program would have without the patch.

use std::ops::Range;

use iced_x86::IcedError;
use iced_x86::code_asm::registers as asm;
use iced_x86::code_asm::{
    AsmRegister64, AsmRegisterXmm, CodeAssembler, al, esi, ptr, qword_ptr, rax, rdi, rsi, rsp,
    xmmword_ptr,
};

use super::registers::GPR;
use super::relocate::{Relocator, decode, ends_run, is_near_call};
use super::{Frame, Plan, RegisterSet, RelocateError};
use crate::snippet::{Snippet, SnippetCode};

/// Snippets to run before one of the displaced instructions.
#[derive(Clone, Debug)]
pub struct SnippetsAt<'a> {
    /// Address of the displaced instruction: the site, or one of the plan's later boundaries.
    pub address: u64,
    /// What to run, in order.
    pub snippets: &'a [&'a Snippet],
    /// Registers that need not be preserved, from [`dead_registers`](super::dead_registers).
    pub dead: RegisterSet,
    /// Nothing is kept below the stack pointer, as at the entry and at the exits of a function.
    pub no_red_zone: bool,
}

/// Why a trampoline can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrampolineError {
    /// A displaced instruction can't be moved.
    #[error(transparent)]
    Relocate(#[from] RelocateError),
    /// No displaced instruction starts at this address.
    #[error("no displaced instruction starts at {0:#x}")]
    NotABoundary(u64),
    /// The site's jump can't lead there.
    #[error("the jump at {site:#x} can't lead to {at:#x}")]
    OutOfReach {
        /// The site.
        site: u64,
        /// The trampoline.
        at: u64,
    },
    /// The assembler refused.
    #[error("can't assemble the trampoline of {site:#x}: {message}")]
    Assemble {
        /// The site.
        site: u64,
        /// What the assembler said.
        message: String,
    },
}

/// A place in a trampoline from which control can go on in the original code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exit {
    offset: usize,
    original: u64,
    stage: Stage,
}

/// What has been run of a displaced instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing of it.
    Before,
    /// The snippets before it.
    Copy,
    /// The instruction whose end is the original address, but not the snippets after it.
    After,
}

/// The code a patched site jumps to: snippets, displaced instructions, a jump back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trampoline {
    /// Where it must be placed.
    pub address: u64,
    /// The code.
    pub bytes: Vec<u8>,
    /// For each displaced instruction its address and the offset of its snippets or else its copy.
    entries: Vec<(u64, usize)>,
    /// Where the program's registers and stack are as they would be at an original address.
    exits: Vec<Exit>,
}

impl Trampoline {
    /// An upper bound of the size in bytes of a trampoline, to reserve room before its address is known.
    pub fn size_bound(plan: &Plan, insertions: &[SnippetsAt<'_>]) -> usize {
        // The longest copy is that of a call through memory: 14 bytes of pushing, 15 of jump, 8 of constant.
        let displaced: usize = plan
            .runs()
            .map(|(_, _, boundaries)| boundaries.len() * 40 + 5)
            .sum();
        let snippets: usize = insertions
            .iter()
            .map(|insertion| {
                // Nothing is near this address, so that the long forms are used.
                let far = plan.site ^ (1 << 46);
                wrap(far, insertion).map_or(0, |code| code.len())
            })
            .sum();
        displaced + snippets
    }

    /// Makes the trampoline that will stand at `at`, with snippets in the order given.
    ///
    /// The plan must be in the process's addresses ([`Plan::rebase`]), and so `insertions`.
    ///
    /// # Errors
    /// A displaced instruction refers to something out of reach from `at`, the site's jump can't lead there, or an insertion
    /// is not at a displaced instruction.
    pub fn build(
        plan: &Plan,
        insertions: &[SnippetsAt<'_>],
        at: u64,
    ) -> Result<Self, TrampolineError> {
        Self::build_around(plan, insertions, &[], at)
    }

    /// Makes a trampoline with snippets before displaced instructions, and others directly after them: where an
    /// instruction's copy lets control run on, and not where control comes from elsewhere.
    ///
    /// # Errors
    /// As [`Trampoline::build`].
    pub fn build_around(
        plan: &Plan,
        insertions: &[SnippetsAt<'_>],
        after: &[SnippetsAt<'_>],
        at: u64,
    ) -> Result<Self, TrampolineError> {
        if let Some(lost) = insertions
            .iter()
            .chain(after)
            .find(|insertion| !plan.displaces(insertion.address))
        {
            return Err(TrampolineError::NotABoundary(lost.address));
        }
        let mut trampoline = Self {
            address: at,
            bytes: Vec::new(),
            entries: Vec::with_capacity(plan.boundaries.len()),
            exits: Vec::with_capacity(plan.boundaries.len() + 2),
        };
        for (start, code, _) in plan.runs() {
            trampoline.copy(plan.site, start, code, insertions, after)?;
        }
        let copy_of = |address| trampoline.copy_of(address);
        if plan.writes(at, &copy_of).is_none() {
            let site = plan.site;
            return Err(TrampolineError::OutOfReach { site, at });
        }
        Ok(trampoline)
    }

    /// Adds the copy of instructions that stand at `start`, with what is to run around them, and a jump back.
    fn copy(
        &mut self,
        site: u64,
        start: u64,
        code: &[u8],
        insertions: &[SnippetsAt<'_>],
        after: &[SnippetsAt<'_>],
    ) -> Result<(), TrampolineError> {
        let assembled = |code: Result<Vec<u8>, IcedError>| {
            code.map_err(|error| TrampolineError::Assemble {
                site,
                message: error.to_string(),
            })
        };
        let end = start.wrapping_add(code.len() as u64);
        let from = self.bytes.len();
        let at = self.address.wrapping_add(from as u64);
        let mut relocator = Relocator::new(start..end, at);
        let mut falls_through = true;
        for displaced in &decode(code, start)? {
            let address = displaced.instruction.ip();
            self.entries.push((address, from + relocator.offset()));
            self.exits.push(Exit {
                offset: from + relocator.offset(),
                original: address,
                stage: Stage::Before,
            });
            relocator.label(address);
            for insertion in insertions.iter().filter(|i| i.address == address) {
                relocator.raw(&assembled(wrap(relocator.address(), insertion))?);
            }
            self.exits.push(Exit {
                offset: from + relocator.offset(),
                original: address,
                stage: Stage::Copy,
            });
            relocator.instruction(displaced)?;
            falls_through =
                !ends_run(&displaced.instruction) && !is_near_call(&displaced.instruction);
            for insertion in after.iter().filter(|i| i.address == address) {
                self.exits.push(Exit {
                    offset: from + relocator.offset(),
                    original: displaced.instruction.next_ip(),
                    stage: Stage::After,
                });
                relocator.raw(&assembled(wrap(relocator.address(), insertion))?);
            }
        }
        if falls_through {
            self.exits.push(Exit {
                offset: from + relocator.offset(),
                original: end,
                stage: Stage::Before,
            });
            relocator.jump_back()?;
        }
        self.bytes.extend(relocator.finish()?);
        Ok(())
    }

    /// A trampoline that others have made in a way that we do not know.
    pub(crate) fn unknown(address: u64, bytes: Vec<u8>) -> Self {
        Self {
            address,
            bytes,
            entries: Vec::new(),
            exits: Vec::new(),
        }
    }

    /// The addresses of the trampoline.
    pub fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes.len() as u64)
    }

    /// Where a thread goes on that was stopped at `original`, one of the displaced instructions, or came there by a
    /// stray jump: before the snippets of that instruction, if it has any.
    pub fn copy_of(&self, original: u64) -> Option<u64> {
        self.entries
            .iter()
            .find(|entry| entry.0 == original)
            .map(|entry| self.address.wrapping_add(entry.1 as u64))
    }

    /// Where a thread that was stopped at `address` in the trampoline can go on in the original code once the patch is
    /// removed; none in the middle of snippets or of an emulated instruction: let it run on.
    pub fn original_of(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        self.exits
            .iter()
            .find(|exit| exit.offset == offset)
            .map(|exit| exit.original)
    }

    /// The address of its site; none of one that others have made.
    pub(crate) fn site(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.0)
    }

    /// Where in another trampoline of the site a thread goes on that was stopped at `address` in this one; `inside` an
    /// instruction, or before it. None as with [`Trampoline::original_of`], or when one of both is unknown.
    pub(crate) fn in_place_of(
        &self,
        address: u64,
        inside: bool,
        other: &Trampoline,
    ) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let mut here = self.exits.iter().filter(|exit| exit.offset == offset);
        let exit = here.find(|exit| !inside || exit.stage == Stage::Copy)?;
        let place = |stage: Stage| {
            let mut places = other.exits.iter();
            places.find(|place| place.original == exit.original && place.stage == stage)
        };
        let place = place(exit.stage).or_else(|| place(Stage::Before))?;
        Some(other.address.wrapping_add(place.offset as u64))
    }
}

/// The code around and of the snippets of one place.
fn wrap(ip: u64, insertion: &SnippetsAt<'_>) -> Result<Vec<u8>, IcedError> {
    let layout = Layout::of(insertion);
    let mut out = Vec::with_capacity(64);
    for snippet in insertion.snippets {
        if let SnippetCode::Guard(code) = &snippet.code {
            out.extend_from_slice(code);
        }
    }
    emit(&mut out, ip, |a| layout.save(a, insertion.address))?;
    for snippet in insertion.snippets {
        emit(&mut out, ip, |a| layout.pass(a, snippet))?;
        match &snippet.code {
            SnippetCode::Inline { code, .. } => out.extend_from_slice(code),
            &SnippetCode::Call(function) => emit(&mut out, ip, |a| call(a, ip, function))?,
            &SnippetCode::Leaf(function) => {
                // What is saved is saved below the red zone already.
                let skipped = if layout.size() == 0 {
                    layout.red_zone
                } else {
                    0
                };
                emit(&mut out, ip, |a| call_leaf(a, ip, function, skipped))?;
            }
            SnippetCode::Guard(_) => {}
        }
    }
    emit(&mut out, ip, |a| layout.restore(a))?;
    Ok(out)
}

/// Appends what `write` assembles, given that `out` starts at `ip`.
fn emit(
    out: &mut Vec<u8>,
    ip: u64,
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut a = CodeAssembler::new(64)?;
    write(&mut a)?;
    if !a.instructions().is_empty() {
        out.extend_from_slice(&a.assemble(ip.wrapping_add(out.len() as u64))?);
    }
    Ok(())
}

/// Calls a function with the stack aligned to 16 bytes.
fn call(a: &mut CodeAssembler, ip: u64, function: u64) -> Result<(), IcedError> {
    // The old rsp is pushed twice; whether or not 8 bytes are then cut off, it is found at rsp+8.
    a.push(rsp)?;
    a.push(qword_ptr(rsp))?;
    a.and(rsp, -16)?;
    if is_near(ip, function) {
        a.call(function)?;
    } else {
        a.mov(rax, function)?;
        a.call(rax)?;
    }
    a.mov(rsp, qword_ptr(rsp + 8))
}

/// Calls a function without changing a register on the way, below so many bytes of the stack.
fn call_leaf(a: &mut CodeAssembler, ip: u64, function: u64, skipped: i32) -> Result<(), IcedError> {
    if skipped != 0 {
        a.lea(rsp, ptr(rsp - skipped))?;
    }
    if is_near(ip, function) {
        a.call(function)?;
    } else {
        let mut address = a.create_label();
        let mut on = a.create_label();
        a.call(qword_ptr(address))?;
        a.jmp(on)?;
        a.set_label(&mut address)?;
        a.dq(&[function])?;
        a.set_label(&mut on)?;
        a.nop()?;
    }
    if skipped != 0 {
        a.lea(rsp, ptr(rsp + skipped))?;
    }
    Ok(())
}

/// Whether code anywhere near `ip` reaches `target` with a 32-bit displacement.
fn is_near(ip: u64, target: u64) -> bool {
    let margin = 1 << 24;
    (target.wrapping_sub(ip) as i64).unsigned_abs() < (1 << 31) - margin
}

/// What is saved where.
struct Layout {
    /// General-purpose registers to be saved and restored.
    saved: RegisterSet,
    /// Registers to be stored in the frame only because snippets look at them.
    shown: RegisterSet,
    /// The flags are saved and restored.
    flags: bool,
    frame: bool,
    /// Snippets look at vector registers: each has its own place behind the frame.
    vectors: bool,
    red_zone: i32,
}

impl Layout {
    fn of(insertion: &SnippetsAt<'_>) -> Self {
        let mut changed = RegisterSet::EMPTY;
        let mut shown = RegisterSet::EMPTY;
        let mut frame = false;
        for snippet in insertion.snippets {
            changed = changed | snippet.clobbers;
            if snippet.wants_frame() {
                frame = true;
                shown = shown | snippet.reads;
                changed = changed | RegisterSet::of_gprs(&[7]);
            }
            if snippet.wants_argument() {
                changed = changed | RegisterSet::of_gprs(&[6]);
            }
            if let SnippetCode::Call(_) = snippet.code {
                // rax may hold the function's address; aligning the stack changes the flags.
                changed = changed | RegisterSet::of_gprs(&[0]).and_flags();
            }
        }
        let stack_pointer = RegisterSet::of_gprs(&[4]);
        let mut saved = changed - insertion.dead - stack_pointer;
        let flags = saved.flags;
        if flags {
            saved = saved | (RegisterSet::of_gprs(&[0]) - insertion.dead);
        }
        Self {
            saved,
            shown,
            flags,
            frame,
            vectors: frame && shown.xmm != 0,
            red_zone: if insertion.no_red_zone { 0 } else { 128 },
        }
    }

    /// Offset from the frame of where general-purpose register `number` is saved.
    fn slot(&self, number: u8) -> i32 {
        if self.frame {
            8 * i32::from(number)
        } else {
            8 * (self.saved.gpr & ((1 << number) - 1)).count_ones() as i32
        }
    }

    fn xmm_start(&self) -> i32 {
        if self.frame {
            Frame::SIZE as i32
        } else {
            8 * self.saved.gpr.count_ones() as i32
        }
    }

    fn flags_slot(&self) -> i32 {
        let count = match self.vectors {
            true => 16,
            false => self.saved.xmm.count_ones() as i32,
        };
        self.xmm_start() + 16 * count
    }

    /// How far rsp is moved.
    fn size(&self) -> i32 {
        let used = self.flags_slot() + 8 * i32::from(self.flags);
        if used == 0 { 0 } else { used + self.red_zone }
    }

    /// A few registers and nothing else, with no red zone: they are pushed, which is the shortest.
    fn pushed(&self) -> Option<Vec<AsmRegister64>> {
        let plain = !self.frame && !self.flags && self.saved.xmm == 0 && self.red_zone == 0;
        if !plain || self.saved.gpr == 0 || self.saved.gpr.count_ones() > 4 {
            return None;
        }
        self.saved.gprs().map(gpr).collect()
    }

    /// Saves. Until the flags are saved only instructions that leave them alone are used.
    fn save(&self, a: &mut CodeAssembler, address: u64) -> Result<(), IcedError> {
        if let Some(registers) = self.pushed() {
            return registers.into_iter().try_for_each(|r| a.push(r));
        }
        if self.size() == 0 {
            return Ok(());
        }
        a.lea(rsp, ptr(rsp - self.size()))?;
        let stored = if self.frame {
            self.saved | self.shown
        } else {
            self.saved
        };
        for number in stored.gprs().filter(|&n| n != 4) {
            if let Some(register) = gpr(number) {
                a.mov(qword_ptr(rsp + self.slot(number)), register)?;
            }
        }
        if self.frame && self.shown.flags {
            a.pushfq()?;
            // rsp is 8 higher again when the operand's address is computed (SDM, POP).
            a.pop(qword_ptr(rsp + Frame::RFLAGS))?;
        }
        if self.flags {
            a.lahf()?;
            a.seto(al)?;
            a.mov(qword_ptr(rsp + self.flags_slot()), rax)?;
        }
        let shown = if self.vectors {
            self.shown
        } else {
            RegisterSet::EMPTY
        };
        for (index, register) in self.xmms(self.saved | shown) {
            a.movups(xmmword_ptr(rsp + self.xmm_start() + 16 * index), register)?;
        }
        if self.frame {
            // rdi is saved by now, or dead: it is about to receive the frame.
            if self.shown.contains_gpr(4) {
                a.lea(rdi, ptr(rsp + self.size()))?;
                a.mov(qword_ptr(rsp + self.slot(4)), rdi)?;
            }
            if let Ok(low) = i32::try_from(address) {
                a.mov(qword_ptr(rsp + Frame::RIP), low)?;
            } else {
                a.mov(rdi, address)?;
                a.mov(qword_ptr(rsp + Frame::RIP), rdi)?;
            }
        }
        Ok(())
    }

    /// Puts frame and argument where the snippet expects them.
    fn pass(&self, a: &mut CodeAssembler, snippet: &Snippet) -> Result<(), IcedError> {
        if snippet.wants_frame() {
            a.mov(rdi, rsp)?;
        }
        if snippet.wants_argument() {
            match u32::try_from(snippet.argument) {
                Ok(low) => a.mov(esi, low)?,
                Err(_) => a.mov(rsi, snippet.argument)?,
            }
        }
        Ok(())
    }

    fn restore(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        if let Some(registers) = self.pushed() {
            return registers.into_iter().rev().try_for_each(|r| a.pop(r));
        }
        if self.size() == 0 {
            return Ok(());
        }
        for (index, register) in self.xmms(self.saved) {
            a.movups(register, xmmword_ptr(rsp + self.xmm_start() + 16 * index))?;
        }
        if self.flags {
            a.mov(rax, qword_ptr(rsp + self.flags_slot()))?;
            // 1 + 127 overflows, 0 + 127 does not; sahf sets the other flags and leaves OF alone.
            a.add(al, 127)?;
            a.sahf()?;
        }
        for number in self.saved.gprs() {
            if let Some(register) = gpr(number) {
                a.mov(register, qword_ptr(rsp + self.slot(number)))?;
            }
        }
        a.lea(rsp, ptr(rsp + self.size()))
    }

    /// The vector registers of a set, each with its index in the save area.
    fn xmms(&self, set: RegisterSet) -> impl Iterator<Item = (i32, AsmRegisterXmm)> + use<> {
        let vectors = self.vectors;
        (0..).zip(set.xmms()).filter_map(move |(index, number)| {
            let index = if vectors { i32::from(number) } else { index };
            Some((index, xmm(number)?))
        })
    }
}

fn gpr(number: u8) -> Option<AsmRegister64> {
    asm::gpr64::get_gpr64(*GPR.get(usize::from(number))?)
}

fn xmm(number: u8) -> Option<AsmRegisterXmm> {
    asm::xmm::get_xmm(iced_x86::Register::XMM0 + u32::from(number))
}
