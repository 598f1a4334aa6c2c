//! The way from a trampoline to a handler: which slot is this thread's, is it in a handler already, is the session over,
//! a stack of our own. All of it must cost a few nanoseconds, so it is written by hand.

use crate::error::LinkError;
use crate::link::{ProcessLink, Registers, ThreadPointer};
use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, Code, IcedError, Instruction, MemoryOperand};
use runtime::layout::{Header, Slot, THREAD_HASH_FACTOR, THREAD_TABLE_ENTRIES};
use std::mem::offset_of;

/// Bits that a thread's hash is shifted down by: the table's index has as many bits as are left.
const HASH_SHIFT: u32 = 64 - THREAD_TABLE_ENTRIES.trailing_zeros();
/// `arch_prctl` and its code for reading the FS base.
const SYS_ARCH_PRCTL: u32 = 158;
const ARCH_GET_FS: u32 = 0x1003;

/// A handler to enter.
pub(crate) enum Entry<'a> {
    /// It has a body.
    Body {
        /// The body's address.
        address: u64,
        /// It needs the slot's native stack.
        switch: bool,
    },
    /// It only adds these constants to words at these offsets of the slot: four at most.
    Counters(&'a [(u64, i64)]),
}

/// What a stub changes besides what the body does: rax rcx rdx rsi rdi and flags.
pub(crate) const STUB_CLOBBERS: Registers = Registers {
    general: 1 | 1 << 1 | 1 << 2 | 1 << 6 | 1 << 7,
    vector: 0,
    flags: true,
};

/// What a counter changes.
pub(crate) const COUNTER_CLOBBERS: Registers = Registers {
    general: 0,
    vector: 0,
    flags: true,
};

/// Functions of the runtime that stubs call, by their addresses.
pub(crate) struct Functions {
    pub slot_acquire: u64,
    pub signals_check: u64,
    pub signals_allow: u64,
}

/// A slot's stack.
#[derive(Clone, Copy)]
struct Stack {
    /// Offset of its end in the slot.
    end: i32,
    /// Where the program's stack is looked at that is left for it.
    check: CodeLabel,
    /// Where that is undone.
    allow: CodeLabel,
}

/// Addresses of assembled stubs.
pub(crate) struct Stubs {
    pub code: Vec<u8>,
    pub entries: Vec<u64>,
}

/// Assembles the stubs for `entries` at `address`.
pub(crate) fn assemble<C>(
    link: &ProcessLink<'_, C>,
    native_stack_end: u64,
    address: u64,
    functions: &Functions,
    entries: &[Entry<'_>],
) -> Result<Stubs, LinkError> {
    let mut a = CodeAssembler::new(64)?;
    let mut thread_pointer = a.create_label();
    let mut acquire = a.create_label();
    let mut check = a.create_label();
    let mut allow = a.create_label();
    a.set_label(&mut thread_pointer)?;
    emit_thread_pointer(&mut a)?;
    a.set_label(&mut acquire)?;
    emit_acquire(&mut a, link, functions.slot_acquire)?;
    a.set_label(&mut check)?;
    emit_with_slot(&mut a, rsi, functions.signals_check)?;
    a.set_label(&mut allow)?;
    emit_with_slot(&mut a, rcx, functions.signals_allow)?;
    let mut labels = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut label = a.create_label();
        a.set_label(&mut label)?;
        match *entry {
            Entry::Body { address, switch } => {
                let stack = Stack {
                    end: native_stack_end as i32,
                    check,
                    allow,
                };
                emit_entry(
                    &mut a,
                    link,
                    switch.then_some(stack),
                    address,
                    thread_pointer,
                    acquire,
                )?;
            }
            Entry::Counters(counters) => {
                emit_counters(&mut a, link, counters, thread_pointer, acquire)?;
            }
        }
        labels.push(label);
    }
    let result =
        a.assemble_options(address, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)?;
    let mut addresses = Vec::with_capacity(labels.len());
    for label in &labels {
        addresses.push(result.label_ip(label)?);
    }
    Ok(Stubs {
        entries: addresses,
        code: result.inner.code_buffer,
    })
}

/// `rax = FS base` by a system call, for processors and kernels without `rdfsbase`; all else is kept.
fn emit_thread_pointer(a: &mut CodeAssembler) -> Result<(), LinkError> {
    a.push(rdi)?;
    a.push(rsi)?;
    a.push(rcx)?;
    a.push(r11)?;
    a.push(0)?;
    a.mov(eax, SYS_ARCH_PRCTL)?;
    a.mov(edi, ARCH_GET_FS)?;
    a.mov(rsi, rsp)?;
    a.syscall()?;
    a.pop(rax)?;
    a.pop(r11)?;
    a.pop(rcx)?;
    a.pop(rsi)?;
    a.pop(rdi)?;
    a.ret()?;
    Ok(())
}

/// Takes the key (FS base + 1) in rax and gives the slot's address, or 0, in rax; everything else but flags is kept.
fn emit_acquire<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    slot_acquire: u64,
) -> Result<(), LinkError> {
    emit_keeping(a, slot_acquire, |a| {
        a.mov(rdi, link.arena)?;
        a.mov(rsi, link.thread_table)?;
        a.lea(rdx, qword_ptr(rax - 1))?;
        a.mov(ecx, link.process)
    })
}

/// Gives a function the slot in a register and its result in rax; everything else but flags is kept.
fn emit_with_slot(
    a: &mut CodeAssembler,
    slot: AsmRegister64,
    function: u64,
) -> Result<(), LinkError> {
    emit_keeping(a, function, |a| a.mov(rdi, slot))
}

/// A call of a function of the runtime that keeps everything but rax, which has its result, and flags.
fn emit_keeping(
    a: &mut CodeAssembler,
    function: u64,
    arguments: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), LinkError> {
    let general = [rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbp];
    let vector = [
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13,
        xmm14, xmm15,
    ];
    for register in general {
        a.push(register)?;
    }
    a.mov(rbp, rsp)?;
    a.sub(rsp, 256)?;
    a.and(rsp, -16)?;
    for (index, register) in vector.into_iter().enumerate() {
        a.movups(xmmword_ptr(rsp + (16 * index as i32)), register)?;
    }
    arguments(a)?;
    a.mov(rax, function)?;
    a.call(rax)?;
    for (index, register) in vector.into_iter().enumerate() {
        a.movups(register, xmmword_ptr(rsp + (16 * index as i32)))?;
    }
    a.mov(rsp, rbp)?;
    for register in general.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    Ok(())
}

/// `rax = %fs:0`.
fn load_thread_word(a: &mut CodeAssembler) -> Result<(), LinkError> {
    // With a 32-bit displacement, which is shorter than the form of `mov` that loads rax from anywhere.
    let memory = MemoryOperand::new(
        iced_x86::Register::None,
        iced_x86::Register::None,
        1,
        0,
        4,
        false,
        iced_x86::Register::FS,
    );
    a.add_instruction(Instruction::with2(
        Code::Mov_r64_rm64,
        iced_x86::Register::RAX,
        memory,
    )?)?;
    Ok(())
}

/// Loads `rax` from a fixed address.
fn load_rax(a: &mut CodeAssembler, address: u64) -> Result<(), LinkError> {
    let memory = MemoryOperand::with_displ(address, 8);
    a.add_instruction(Instruction::with2(
        Code::Mov_RAX_moffs64,
        iced_x86::Register::RAX,
        memory,
    )?)?;
    Ok(())
}

/// Goes to `skip` when the session is over: `exit_requested` and `stopped`, tested by one load.
fn emit_over<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    skip: CodeLabel,
) -> Result<(), LinkError> {
    const { assert!(offset_of!(Header, stopped) == offset_of!(Header, exit_requested) + 4) };
    load_rax(a, link.arena + offset_of!(Header, exit_requested) as u64)?;
    a.test(rax, rax)?;
    a.jne(skip)?;
    Ok(())
}

/// From the FS base in rax: rdx = address of the entry where the search begins, rax = key.
fn emit_hash<C>(a: &mut CodeAssembler, link: &ProcessLink<'_, C>) -> Result<(), LinkError> {
    a.imul_3(rcx, rax, THREAD_HASH_FACTOR as i32)?;
    a.mov(rdx, link.thread_table)?;
    a.shr(rcx, HASH_SHIFT)?;
    a.inc(rax)?;
    a.shl(ecx, 4)?;
    a.add(rdx, rcx)?;
    a.cmp(qword_ptr(rdx), rax)?;
    Ok(())
}

/// A function that runs a handler's body, on the slot's native stack if that is given.
fn emit_entry<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    stack: Option<Stack>,
    body: u64,
    thread_pointer: CodeLabel,
    acquire: CodeLabel,
) -> Result<(), LinkError> {
    let mut found = a.create_label();
    let mut slow = a.create_label();
    let mut skip = a.create_label();
    let mut out = a.create_label();
    emit_over(a, link, out)?;
    match link.thread_pointer {
        ThreadPointer::Word => load_thread_word(a)?,
        ThreadPointer::Register => a.rdfsbase(rax)?,
        ThreadPointer::SystemCall => a.call(thread_pointer)?,
    }
    emit_hash(a, link)?;
    a.jne(slow)?;
    a.mov(rax, qword_ptr(rdx + 8))?;
    a.set_label(&mut found)?;
    a.cmp(dword_ptr(rax + offset_of!(Slot, busy) as i32), 0)?;
    a.jne(skip)?;
    a.mov(dword_ptr(rax + offset_of!(Slot, busy) as i32), 1)?;
    a.mov(ecx, esi)?;
    a.mov(rdx, rdi)?;
    a.mov(rsi, rax)?;
    a.mov(rdi, link.arena)?;
    let mut unknown = a.create_label();
    let mut known = a.create_label();
    if let Some(Stack { end, .. }) = stack {
        a.mov(qword_ptr(rsi + offset_of!(Slot, saved_sp) as i32), rsp)?;
        a.mov(rax, rsp)?;
        a.sub(rax, qword_ptr(rsi + offset_of!(Slot, stack_low) as i32))?;
        a.cmp(rax, qword_ptr(rsi + offset_of!(Slot, stack_size) as i32))?;
        a.jae(unknown)?;
        a.set_label(&mut known)?;
        a.lea(rsp, qword_ptr(rsi + end))?;
        a.call(body)?;
        // The stack pointer is again where it was put, which tells the slot. Back on the program's stack first: once
        // busy is 0, a signal's handler may use the slot's stack.
        emit_back(a, end)?;
    } else {
        a.push(rsi)?;
        a.call(body)?;
        a.pop(rcx)?;
    }
    a.mov(dword_ptr(rcx + offset_of!(Slot, busy) as i32), 0)?;
    a.set_label(&mut out)?;
    a.ret()?;

    a.set_label(&mut slow)?;
    a.call(acquire)?;
    a.test(rax, rax)?;
    a.jne(found)?;
    a.ret()?;
    a.set_label(&mut skip)?;
    a.inc(qword_ptr(rax + offset_of!(Slot, skipped) as i32))?;
    a.ret()?;
    if let Some(Stack { end, check, allow }) = stack {
        a.set_label(&mut unknown)?;
        a.call(check)?;
        a.test(eax, eax)?;
        a.je(known)?;
        a.lea(rsp, qword_ptr(rsi + end))?;
        a.call(body)?;
        emit_back(a, end)?;
        a.mov(dword_ptr(rcx + offset_of!(Slot, busy) as i32), 0)?;
        a.call(allow)?;
        a.ret()?;
    }
    Ok(())
}

/// From the end of a slot's stack back to the program's: rcx = the slot's address.
fn emit_back(a: &mut CodeAssembler, end: i32) -> Result<(), LinkError> {
    a.lea(rcx, qword_ptr(rsp - end))?;
    a.mov(rsp, qword_ptr(rcx + offset_of!(Slot, saved_sp) as i32))?;
    Ok(())
}

/// A function that adds constants to words of the thread's slot. It changes the flags and nothing else.
///
/// What stands in a trampoline is there as often as functions are probed, and caches of code and of branches hold few of
/// them: so all of it is here, and a trampoline has but the call.
fn emit_counters<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    counters: &[(u64, i64)],
    thread_pointer: CodeLabel,
    acquire: CodeLabel,
) -> Result<(), LinkError> {
    let mut slow = a.create_label();
    let mut found = a.create_label();
    let mut out = a.create_label();
    let rdx_too = link.thread_pointer != ThreadPointer::Word;
    a.push(rax)?;
    a.push(rcx)?;
    if rdx_too {
        a.push(rdx)?;
    }
    emit_over(a, link, out)?;
    match link.thread_pointer {
        // Cheap enough to be loaded twice, which leaves a register alone.
        ThreadPointer::Word => {
            load_thread_word(a)?;
            a.imul_3(rax, rax, THREAD_HASH_FACTOR as i32)?;
            a.mov(rcx, link.thread_table)?;
            a.shr(rax, HASH_SHIFT)?;
            a.shl(eax, 4)?;
            a.add(rcx, rax)?;
            load_thread_word(a)?;
            a.inc(rax)?;
            a.cmp(qword_ptr(rcx), rax)?;
            a.jne(slow)?;
            a.mov(rax, qword_ptr(rcx + 8))?;
        }
        ThreadPointer::Register | ThreadPointer::SystemCall => {
            match link.thread_pointer {
                ThreadPointer::Register => a.rdfsbase(rax)?,
                _ => a.call(thread_pointer)?,
            }
            emit_hash(a, link)?;
            a.jne(slow)?;
            a.mov(rax, qword_ptr(rdx + 8))?;
        }
    }
    a.set_label(&mut found)?;
    for &(offset, amount) in counters {
        let cell = qword_ptr(rax + offset as i32);
        match i32::try_from(amount) {
            Ok(amount) => a.add(cell, amount)?,
            Err(_) => {
                a.mov(rcx, amount)?;
                a.add(cell, rcx)?;
            }
        }
    }
    a.set_label(&mut out)?;
    if rdx_too {
        a.pop(rdx)?;
    }
    a.pop(rcx)?;
    a.pop(rax)?;
    a.ret()?;

    a.set_label(&mut slow)?;
    a.call(acquire)?;
    a.test(rax, rax)?;
    a.jne(found)?;
    a.jmp(out)?;
    Ok(())
}
