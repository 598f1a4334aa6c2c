//! The code that replaced return addresses lead to, and what unwinders must know of it.
//!
//! A function that returns there finds its caller's registers and a stack pointer above the return slot; the code runs what
//! is pending for the slot and goes on at the real return address. To an unwinder (of exceptions, of ending threads) it is
//! a frame without any extent: its canonical frame address is a byte above the stack pointer, since unwinders tell frames
//! apart by that address, its caller's stack pointer is its own, and its return address is looked up in the
//! [`FrameTable`](runtime::frames::FrameTable) by an expression (DWARF 5, sections 2.5 and 6.4). The table of
//! entries (`.eh_frame_hdr`, LSB Core, section 10.6) has one; a guard at `_dl_find_object` of the C library leads to it, or
//! one at an older unwinder's own search, which goes through the modules by dl_iterate_phdr(3) otherwise.

use std::mem::offset_of;

use iced_x86::IcedError;
use iced_x86::code_asm::registers as asm;
use iced_x86::code_asm::{
    CodeAssembler, al, eax, ptr, qword_ptr, r11, rax, rbx, rdi, rsi, rsp, xmmword_ptr,
};
use runtime::frames::{CALLS, CALLS_AT, CallRecord, SLOT_MASK, SPREAD};

use super::Frame;
use super::registers::GPR;

/// The code for one table of calls, to be written where it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTrampoline {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What takes the place of return addresses.
    pub address: u64,
    /// Address of the table of unwind entries.
    header: u64,
    /// Address of the entry that describes the code (FDE).
    entry: u64,
}

/// From the table of unwind entries (20 bytes with its one entry, and padding) to what they describe.
const FRAMES: u64 = 24;

/// Below the return slot: the frame, behind it the vector registers as handlers look for them, the flags, padding.
const VECTORS: i32 = Frame::VECTORS as i32;
const FLAGS: i32 = VECTORS + 16 * 16;
const SIZE: i32 = FLAGS + 16;

/// Operators of DWARF 5, section 7.7.1.
mod op {
    pub const DEREF: u8 = 0x06;
    pub const CONST2U: u8 = 0x0a;
    pub const CONST8U: u8 = 0x0e;
    pub const DUP: u8 = 0x12;
    pub const OVER: u8 = 0x14;
    pub const PICK: u8 = 0x15;
    pub const AND: u8 = 0x1a;
    pub const MINUS: u8 = 0x1c;
    pub const MUL: u8 = 0x1e;
    pub const PLUS: u8 = 0x22;
    pub const PLUS_UCONST: u8 = 0x23;
    pub const SHR: u8 = 0x25;
    pub const BRA: u8 = 0x28;
    pub const EQ: u8 = 0x29;
    pub const SKIP: u8 = 0x2f;
    pub const LIT0: u8 = 0x30;
}

impl ReturnTrampoline {
    /// Bytes to reserve.
    pub const SIZE: u64 = 1024;

    /// Makes the code to be written at `at`, for the table of calls at `table`; `arrived` is the address of
    /// [`runtime::abi::return_arrived`].
    ///
    /// # Errors
    /// The assembler's.
    pub fn build(at: u64, table: u64, arrived: u64) -> Result<Self, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        // Unwinders look for the instruction before a return address.
        a.nop()?;
        code(&mut a, table, arrived)?;
        let mut bytes = a.assemble(at)?;
        bytes.resize(bytes.len().next_multiple_of(8), 0xcc);
        let header_at = at + bytes.len() as u64;
        let (unwinding, entry) = unwind_table(header_at, at, table);
        bytes.extend(unwinding);
        Ok(Self {
            bytes,
            address: at + 1,
            header: header_at,
            entry,
        })
    }

    /// Where its unwind information (`.eh_frame`) stands, and that.
    pub(super) fn frames(&self) -> (u64, &[u8]) {
        let at = self.header + FRAMES;
        let from = (at - (self.address - 1)) as usize;
        (at, self.bytes.get(from..).unwrap_or_default())
    }

    /// Bytes of the code alone.
    pub(super) fn code_len(&self) -> u64 {
        self.header - (self.address - 1)
    }

    /// What runs at the entry of `_dl_find_object(3)` to answer for this code.
    ///
    /// # Errors
    /// The assembler's.
    pub fn guard(&self) -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut other = a.create_label();
        let start = self.address - 1;
        a.mov(rax, start)?;
        a.mov(r11, rdi)?;
        a.sub(r11, rax)?;
        a.cmp(r11, 2)?;
        a.jae(other)?;
        // struct dl_find_object: flags, start and end of the mapping, link map, .eh_frame_hdr.
        a.mov(qword_ptr(rsi), 0)?;
        a.mov(qword_ptr(rsi + 8), rax)?;
        a.add(rax, 2)?;
        a.mov(qword_ptr(rsi + 16), rax)?;
        a.mov(qword_ptr(rsi + 24), 0)?;
        a.mov(rax, self.header)?;
        a.mov(qword_ptr(rsi + 32), rax)?;
        a.xor(eax, eax)?;
        a.ret()?;
        a.set_label(&mut other)?;
        // A label stands in front of an instruction.
        a.zero_bytes()?;
        a.assemble(0)
    }
}

impl ReturnTrampoline {
    /// What runs at the entry of `_Unwind_Find_FDE` of libgcc (unwind-dw2-fde.h) to answer for this code:
    /// `(pc, struct dwarf_eh_bases *)`, where the latter has the bases of text and data, and the function's start.
    ///
    /// # Errors
    /// The assembler's.
    pub fn entry_guard(&self) -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut other = a.create_label();
        a.mov(rax, self.address - 1)?;
        a.mov(r11, rdi)?;
        a.sub(r11, rax)?;
        a.cmp(r11, 2)?;
        a.jae(other)?;
        a.mov(qword_ptr(rsi), 0)?;
        a.mov(qword_ptr(rsi + 8), 0)?;
        a.mov(qword_ptr(rsi + 16), rax)?;
        a.mov(rax, self.entry)?;
        a.ret()?;
        a.set_label(&mut other)?;
        // A label stands in front of an instruction.
        a.zero_bytes()?;
        a.assemble(0)
    }
}

fn code(a: &mut CodeAssembler, table: u64, arrived: u64) -> Result<(), IcedError> {
    let gpr = |number: u8| {
        let register = GPR.get(usize::from(number)).copied();
        register.and_then(asm::gpr64::get_gpr64)
    };
    let xmm = |number: u32| asm::xmm::get_xmm(iced_x86::Register::XMM0 + number);
    a.lea(rsp, ptr(rsp - (SIZE + 8)))?;
    for number in (0..16).filter(|&n| n != 4) {
        if let Some(register) = gpr(number) {
            a.mov(qword_ptr(rsp + 8 * i32::from(number)), register)?;
        }
    }
    a.pushfq()?;
    a.pop(qword_ptr(rsp + Frame::RFLAGS))?;
    a.lahf()?;
    a.seto(al)?;
    a.mov(qword_ptr(rsp + FLAGS), rax)?;
    a.lea(rax, ptr(rsp + SIZE))?;
    a.mov(qword_ptr(rsp + 32), rax)?;
    a.mov(rbx, rsp)?;
    a.and(rsp, -16)?;
    for number in 0..16 {
        if let Some(register) = xmm(number) {
            a.movups(xmmword_ptr(rbx + VECTORS + 16 * number as i32), register)?;
        }
    }
    a.mov(rdi, table)?;
    a.mov(rsi, rbx)?;
    a.mov(rax, arrived)?;
    a.call(rax)?;
    // Nobody knows where to go: stop here.
    let mut known = a.create_label();
    a.test(rax, rax)?;
    a.jne(known)?;
    a.ud2()?;
    a.set_label(&mut known)?;
    for number in 0..16 {
        if let Some(register) = xmm(number) {
            a.movups(register, xmmword_ptr(rbx + VECTORS + 16 * number as i32))?;
        }
    }
    a.mov(rsp, rbx)?;
    a.mov(rax, qword_ptr(rsp + FLAGS))?;
    // 1 + 127 overflows, 0 + 127 does not; sahf sets the other flags and leaves OF alone.
    a.add(al, 127)?;
    a.sahf()?;
    for number in (0..16).filter(|&n| n != 4) {
        if let Some(register) = gpr(number) {
            a.mov(register, qword_ptr(rsp + 8 * i32::from(number)))?;
        }
    }
    // A return here would be one more than there were calls, which costs all callers a misprediction.
    a.lea(rsp, ptr(rsp + (SIZE + 8)))?;
    a.jmp(qword_ptr(rsp - 8))
}

/// Where the call really returned to: an expression that finds the canonical frame address on its stack.
fn return_address(table: u64) -> Vec<u8> {
    // libgcc's DW_OP_pick does not reach the bottom of the stack: the frame address stays there.
    let mut out = vec![op::DUP, op::LIT0 + 9, op::MINUS];
    // slot; runtime::frames::place_of
    out.extend([op::DUP, op::LIT0 + 4, op::SHR]);
    out.extend([op::OVER, op::LIT0 + 23, op::SHR, op::CONST2U]);
    out.extend((SPREAD as u16).to_le_bytes());
    out.extend([op::MUL, op::PLUS, op::CONST2U]);
    out.extend(((CALLS - 1) as u16).to_le_bytes());
    out.extend([op::AND, op::CONST2U]);
    let size = size_of::<CallRecord>() as u16;
    out.extend(size.to_le_bytes());
    out.extend([op::MUL, op::CONST8U]);
    out.extend((table + CALLS_AT + offset_of!(CallRecord, key) as u64).to_le_bytes());
    out.push(op::PLUS);
    // slot, record
    let search = out.len();
    let jump = |out: &mut Vec<u8>, operator: u8| {
        out.extend([operator, 0, 0]);
        out.len()
    };
    let land = |out: &mut Vec<u8>, from: usize, to: usize| {
        let distance = (to as i64 - from as i64) as i16;
        if let Some(place) = out.get_mut(from - 2..from) {
            place.copy_from_slice(&distance.to_le_bytes());
        }
    };
    out.extend([op::DUP, op::DEREF, op::DUP]);
    let used = jump(&mut out, op::BRA);
    out.push(op::LIT0);
    let nothing = jump(&mut out, op::SKIP);
    let here = out.len();
    land(&mut out, used, here);
    out.push(op::CONST8U);
    out.extend(SLOT_MASK.to_le_bytes());
    out.extend([op::AND, op::PICK, 2, op::EQ]);
    let found = jump(&mut out, op::BRA);
    out.push(op::CONST2U);
    out.extend(size.to_le_bytes());
    out.push(op::PLUS);
    let again = jump(&mut out, op::SKIP);
    land(&mut out, again, search);
    let here = out.len();
    land(&mut out, found, here);
    let returns_to = offset_of!(CallRecord, returns_to) - offset_of!(CallRecord, key);
    out.extend([op::PLUS_UCONST, returns_to as u8, op::DEREF]);
    let here = out.len();
    land(&mut out, nothing, here);
    out
}

/// The table of unwind entries that stands at `at`, with one for the two bytes from `start` on, and where that is.
fn unwind_table(at: u64, start: u64, table: u64) -> (Vec<u8>, u64) {
    const PCREL_SDATA4: u8 = 0x1b;
    const UDATA4: u8 = 0x03;
    const DATAREL_SDATA4: u8 = 0x3b;
    const DEF_CFA: u8 = 0x0c;
    const VAL_EXPRESSION: u8 = 0x16;
    const RSP: u8 = 7;
    const RETURN_ADDRESS: u8 = 16;
    let distance = |to: u64, from: u64| (to.wrapping_sub(from) as i64 as i32).to_le_bytes();
    let entry = |body: Vec<u8>| {
        let mut body = body;
        body.resize((body.len() + 4).next_multiple_of(8) - 4, 0);
        let mut out = (body.len() as u32).to_le_bytes().to_vec();
        out.extend(body);
        out
    };
    let mut common = vec![0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, RETURN_ADDRESS];
    common.extend([1, PCREL_SDATA4, DEF_CFA, RSP, 1]);
    let common = entry(common);
    let frames = at + FRAMES;
    let own = frames + common.len() as u64;
    let mut body = distance(own + 4, frames).to_vec();
    body.extend(distance(start, own + 8));
    body.extend(2u32.to_le_bytes());
    body.push(0);
    let expression = return_address(table);
    body.extend([VAL_EXPRESSION, RETURN_ADDRESS]);
    let mut len = expression.len();
    while len >= 0x80 {
        body.push(len as u8 | 0x80);
        len >>= 7;
    }
    body.push(len as u8);
    body.extend(expression);
    body.extend([VAL_EXPRESSION, RSP, 2, op::LIT0 + 1, op::MINUS]);
    let body = entry(body);

    let mut out = vec![1, PCREL_SDATA4, UDATA4, DATAREL_SDATA4];
    out.extend(distance(frames, at + 4));
    out.extend(1u32.to_le_bytes());
    out.extend(distance(start, at));
    out.extend(distance(own, at));
    out.extend([0; 4]);
    out.extend(common);
    out.extend(body);
    out.extend([0; 4]);
    (out, own)
}
