//! From one frame to its caller's, again and again.

use core::mem::offset_of;

use super::memory::Memory;
use super::table::{Directory, LOST, Module, PRESERVED, Rule, SAME, Table, kind, return_address};
use crate::frames::{CALLS, CALLS_AT, CallRecord, REACH, SLOT_MASK, place_of};

const RBP: usize = 5;
const RSP: usize = 4;
const RIP: usize = 16;

/// Largest frame that is followed by the frame pointer, where no table says anything.
const LARGEST_FRAME: u64 = 1 << 24;

/// A walk. The first [`Walk::address`] is the place of the hit; each [`Walk::step`] goes to a caller.
pub struct Walk<'a, M> {
    memory: M,
    directory: &'a Directory,
    /// General registers in encoding order, rip.
    registers: [u64; 17],
    /// Bit n: register n is the frame's own.
    known: u32,
    /// The address is where the frame was interrupted, and not behind a call.
    exact: bool,
    module: Option<Module<'a>>,
}

/// What [`Walk::step`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At the caller.
    Caller,
    /// There is none, or the way to it is lost.
    End,
}

impl<'a, M: Memory> Walk<'a, M> {
    /// Begins with the registers of a frame: 16 general ones in encoding order, rip.
    ///
    /// # Safety
    /// `frame` is 17 words; the tables that the directory names are mapped.
    #[inline]
    pub unsafe fn new(directory: &'a Directory, frame: *const u64, memory: M) -> Self {
        let mut registers = [0; 17];
        for (n, register) in registers.iter_mut().enumerate() {
            // SAFETY: by the caller's promise.
            *register = unsafe { frame.add(n).read_volatile() };
        }
        Walk {
            memory,
            directory,
            registers,
            known: 0x1_ffff,
            exact: true,
            module: None,
        }
    }

    /// Begins with these alone: program counter, stack pointer, frame pointer.
    ///
    /// # Safety
    /// The tables that the directory names are mapped.
    pub unsafe fn from_three(
        directory: &'a Directory,
        pc: u64,
        sp: u64,
        fp: u64,
        memory: M,
    ) -> Self {
        let mut registers = [0; 17];
        registers[RIP] = pc;
        registers[RSP] = sp;
        registers[RBP] = fp;
        Walk {
            memory,
            directory,
            registers,
            known: 1 << RIP | 1 << RSP | 1 << RBP,
            exact: true,
            module: None,
        }
    }

    /// The address that the frame is at: of the hit, or that a call returns to.
    #[inline]
    pub fn address(&self) -> u64 {
        self.registers[RIP]
    }

    /// The frame's value of a general register, by its number in instructions, where it is known.
    pub fn value(&self, register: u8) -> Option<u64> {
        self.register(register)
    }

    #[inline]
    fn register(&self, number: u8) -> Option<u64> {
        let number = usize::from(number);
        if number > RIP || self.known & 1 << number == 0 {
            return None;
        }
        self.registers.get(number).copied()
    }

    #[inline]
    fn rule(&mut self, address: u64) -> Option<(Rule, Module<'a>)> {
        let module = match self.module {
            Some(module) if address >= module.start && address < module.end => module,
            _ => {
                // SAFETY: by the promise given to `new`.
                let module = unsafe { self.directory.module(address) }?;
                self.module = Some(module);
                module
            }
        };
        let offset = u32::try_from(address - module.start).ok()?;
        let rule = module.table.rule(offset)?;
        (rule.kind != kind::UNKNOWN).then_some((rule, module))
    }

    /// Goes to the caller.
    #[inline]
    pub fn step(&mut self) -> Step {
        match self.caller() {
            Some(()) => Step::Caller,
            None => Step::End,
        }
    }

    fn caller(&mut self) -> Option<()> {
        let here = self.registers[RIP];
        let looked_up = if self.exact {
            here
        } else {
            here.wrapping_sub(1)
        };
        let Some((rule, module)) = self.rule(looked_up) else {
            return self.by_frame_pointer(looked_up);
        };
        if rule.kind == kind::SIGNAL {
            return self.interrupted();
        }
        let cfa = self.frame_address(&rule, &module.table)?;
        let old_sp = self.registers[RSP];
        // Frames stand above those of what they called. (vfork has taken its return address off the stack.)
        if cfa < old_sp || cfa == old_sp && !self.exact {
            return None;
        }
        let slot = match rule.return_address {
            return_address::AT => cfa.wrapping_add_signed(i64::from(rule.second)),
            _ => cfa.wrapping_sub(8),
        };
        let target = match rule.return_address {
            return_address::PUSHED => self.memory.word(slot)?,
            return_address::REGISTER if rule.kind == kind::REGISTER => {
                self.register(u8::try_from(rule.second).ok()?)?
            }
            return_address::AT if rule.kind == kind::REGISTER => self.memory.word(slot)?,
            _ => return None,
        };
        let rbp = self.register(RBP as u8);
        // Before a return: gcc leaves it at saying where registers were saved, though they are restored, and what is below
        // the stack pointer is anybody's.
        let restored = self.exact && cfa == old_sp.wrapping_add(8);
        let mut known = 1 << RSP | 1 << RIP;
        for (n, (&saved, &number)) in rule.saved.iter().zip(&PRESERVED).enumerate() {
            let number = usize::from(number);
            let from_rbp = rule.from_rbp & 1 << n != 0;
            let base = match saved {
                LOST => continue,
                SAME => {
                    known |= self.known & 1 << number;
                    continue;
                }
                _ if from_rbp => rbp,
                _ => Some(cfa),
            };
            let at = base.map(|b| b.wrapping_add_signed(i64::from(saved) * 8));
            if restored && at.is_some_and(|at| at < old_sp) {
                known |= self.known & 1 << number;
                continue;
            }
            if let Some(value) = at.and_then(|at| self.memory.word(at))
                && let Some(register) = self.registers.get_mut(number)
            {
                *register = value;
                known |= 1 << number;
            }
        }
        self.known = known;
        self.registers[RSP] = cfa;
        self.arrive(target, slot)
    }

    #[inline]
    fn arrive(&mut self, target: u64, slot: u64) -> Option<()> {
        self.exact = false;
        self.registers[RIP] = self.true_return(target, slot)?;
        (self.registers[RIP] != 0).then_some(())
    }

    /// The address that a call really returns to. Return addresses are the program's own, but for those that point into
    /// [`Directory::return_code`]: what they stand for is remembered by the address where they stand.
    #[inline]
    fn true_return(&mut self, target: u64, slot: u64) -> Option<u64> {
        let [low, high] = self.directory.return_code;
        if target < low || target >= high {
            return Some(target);
        }
        self.replaced_return(slot)
    }

    #[cold]
    fn replaced_return(&mut self, slot: u64) -> Option<u64> {
        let calls = self.directory.frame_table.checked_add(CALLS_AT)?;
        let first = place_of(slot, CALLS);
        for index in first..first + REACH {
            let record = calls + index * size_of::<CallRecord>() as u64;
            let key = self
                .memory
                .word(record + offset_of!(CallRecord, key) as u64)?;
            if key & SLOT_MASK == slot {
                let at = record + offset_of!(CallRecord, returns_to) as u64;
                return self.memory.word(at);
            }
            if key == 0 {
                break;
            }
        }
        None
    }

    #[inline]
    fn frame_address(&mut self, rule: &Rule, table: &Table<'_>) -> Option<u64> {
        match rule.kind {
            kind::REGISTER => Some(
                self.register(rule.register)?
                    .wrapping_add_signed(i64::from(rule.offset)),
            ),
            kind::LOADED => {
                let at = self
                    .register(rule.register)?
                    .wrapping_add_signed(i64::from(rule.offset));
                self.memory.word(at)
            }
            kind::PLT => {
                let pushed = (self.registers[RIP] & 15) as i64 >= i64::from(rule.offset);
                Some(self.registers[RSP].wrapping_add(if pushed { 16 } else { 8 }))
            }
            kind::EXPRESSION => {
                let (offset, len) = (rule.offset as u32, rule.second as u32);
                self.evaluate(table.expression(offset, len))
            }
            _ => None,
        }
    }

    /// The frame that a signal interrupted: `ucontext_t` is where the stack pointer is, with `gregs` 40 bytes into it, r8
    /// to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip (the kernel's `sigcontext_64`).
    #[cold]
    fn interrupted(&mut self) -> Option<()> {
        const ORDER: [u8; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4, 16];
        let at = self.registers[RSP].wrapping_add(40);
        let mut registers = [0; 17];
        for (n, &number) in ORDER.iter().enumerate() {
            let word = self.memory.word(at.wrapping_add(8 * n as u64))?;
            *registers.get_mut(usize::from(number))? = word;
        }
        self.registers = registers;
        self.known = 0x1_ffff;
        self.exact = true;
        (self.registers[RIP] != 0).then_some(())
    }

    /// Code without a table: by the chain of frame pointers, as long as it looks like one.
    #[cold]
    fn by_frame_pointer(&mut self, looked_up: u64) -> Option<()> {
        let fp = self.register(RBP as u8)?;
        let sp = self.registers[RSP];
        if fp < sp || fp - sp > LARGEST_FRAME || !fp.is_multiple_of(8) {
            return None;
        }
        let (next, target) = (self.memory.word(fp)?, self.memory.word(fp.wrapping_add(8))?);
        // A return address in no module is believed of code that is in none itself: what compilers make at run time.
        // SAFETY: by the promise given to `new`.
        let (here, there) = unsafe {
            (
                self.directory.module(looked_up).is_some(),
                self.directory.module(target).is_some(),
            )
        };
        if here && !there {
            return None;
        }
        self.registers[RBP] = next;
        self.registers[RSP] = fp.wrapping_add(16);
        self.known = 1 << RBP | 1 << RSP | 1 << RIP;
        self.arrive(target, fp.wrapping_add(8))
    }

    /// A DWARF expression (DWARF 5, section 2.5), as far as unwind tables use them.
    #[cold]
    fn evaluate(&mut self, mut code: &[u8]) -> Option<u64> {
        let mut stack = [0u64; 8];
        let mut depth = 0usize;
        // Every operation takes a byte at least, so the loop ends.
        while let Some((&op, rest)) = code.split_first() {
            code = rest;
            let pushed = match op {
                0x03 | 0x0e | 0x0f => Some(take(&mut code, 8, false)?),
                0x08 => Some(take(&mut code, 1, false)?),
                0x09 => Some(take(&mut code, 1, true)?),
                0x0a => Some(take(&mut code, 2, false)?),
                0x0b => Some(take(&mut code, 2, true)?),
                0x0c => Some(take(&mut code, 4, false)?),
                0x0d => Some(take(&mut code, 4, true)?),
                0x10 => Some(leb(&mut code, false)?),
                0x11 => Some(leb(&mut code, true)?),
                0x30..=0x4f => Some(u64::from(op - 0x30)),
                0x70..=0x80 => {
                    const ORDER: [u8; 8] = [0, 2, 1, 3, 6, 7, 5, 4];
                    let number = op - 0x70;
                    let number = *ORDER.get(usize::from(number)).unwrap_or(&number);
                    let offset = leb(&mut code, true)?;
                    Some(self.register(number)?.wrapping_add(offset))
                }
                0x12 => Some(*stack.get(depth.checked_sub(1)?)?),
                0x14 => Some(*stack.get(depth.checked_sub(2)?)?),
                _ => None,
            };
            if let Some(value) = pushed {
                *stack.get_mut(depth)? = value;
                depth += 1;
                continue;
            }
            // The rest works on what is there.
            let top = *stack.get(depth.checked_sub(1)?)?;
            let one = match op {
                0x06 => Some(self.memory.word(top)?),
                0x1f => Some(top.wrapping_neg()),
                0x20 => Some(!top),
                0x23 => Some(top.wrapping_add(leb(&mut code, false)?)),
                _ => None,
            };
            if let Some(value) = one {
                *stack.get_mut(depth - 1)? = value;
                continue;
            }
            if op == 0x13 {
                depth -= 1;
                continue;
            }
            let below = depth.checked_sub(2)?;
            let second = *stack.get(below)?;
            if op == 0x16 {
                *stack.get_mut(below)? = top;
                *stack.get_mut(below + 1)? = second;
                continue;
            }
            let (a, b) = (second as i64, top as i64);
            let value = match op {
                0x1a => second & top,
                0x1c => second.wrapping_sub(top),
                0x1e => second.wrapping_mul(top),
                0x21 => second | top,
                0x22 => second.wrapping_add(top),
                0x24 if top < 64 => second << top,
                0x25 if top < 64 => second >> top,
                0x27 => second ^ top,
                0x29 => u64::from(a == b),
                0x2a => u64::from(a >= b),
                0x2b => u64::from(a > b),
                0x2c => u64::from(a <= b),
                0x2d => u64::from(a < b),
                0x2e => u64::from(a != b),
                _ => return None,
            };
            *stack.get_mut(below)? = value;
            depth -= 1;
        }
        stack.get(depth.checked_sub(1)?).copied()
    }
}

fn take(code: &mut &[u8], len: u32, signed: bool) -> Option<u64> {
    let mut value = 0u64;
    for n in 0..len {
        let (&byte, rest) = code.split_first()?;
        *code = rest;
        value |= u64::from(byte) << (8 * n);
    }
    let unused = 64 - 8 * len;
    Some(if signed {
        ((value << unused) as i64 >> unused) as u64
    } else {
        value
    })
}

fn leb(code: &mut &[u8], signed: bool) -> Option<u64> {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let (&byte, rest) = code.split_first()?;
        *code = rest;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        shift += 7;
        if byte & 0x80 == 0 {
            if signed && shift < 64 && byte & 0x40 != 0 {
                value |= u64::MAX << shift;
            }
            return Some(value);
        }
        if shift > 70 {
            return None;
        }
    }
}
