//! The way from a trampoline to a handler: which slot is this thread's, is it in a handler already, is the session over,
//! which stack has room. All of it must cost a few nanoseconds, so it is written by hand.

use crate::error::LinkError;
use crate::link::{ProcessLink, Registers, ThreadPointer};
use iced_x86::code_asm::*;
use iced_x86::{BlockEncoderOptions, Code, IcedError, Instruction, MemoryOperand};
use runtime::layout::{
    ENTRY_STACKS, EntryStack, Header, NO_STACK, SHORT_SEARCH, SignalStack, Slot,
    THREAD_HASH_FACTOR, THREAD_TABLE_ENTRIES, ThreadEntry, ThreadTable,
};
use std::mem::offset_of;

/// Bits that a thread's hash is shifted down by: the table's index has as many bits as are left.
const HASH_SHIFT: u32 = 64 - THREAD_TABLE_ENTRIES.trailing_zeros();
/// `arch_prctl` and its code for reading the FS base.
const SYS_ARCH_PRCTL: u32 = 158;
const ARCH_GET_FS: u32 = 0x1003;
const SYS_RT_SIGPROCMASK: u32 = 14;
const SIG_SETMASK: u32 = 2;
const SYS_SIGALTSTACK: u32 = 131;
const SS_ONSTACK: i32 = 1;
/// Offset in a slot of the flags of the alternate signal stack.
const SIGNAL_STACK_FLAGS: i32 =
    (offset_of!(Slot, signal_stack) + offset_of!(SignalStack, flags)) as i32;

/// A handler to enter.
pub(crate) enum Entry<'a> {
    /// It has a body.
    Body {
        /// The body's address.
        address: u64,
        /// It needs a stack with room, on which these vector registers are kept.
        switch: Option<u16>,
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
    pub signals_learn: u64,
}

/// What a body that needs a stack is entered with.
#[derive(Clone, Copy)]
struct Stack {
    /// Offset in the slot of the end of the slot's own.
    end: i32,
    /// Vector registers that are kept on whichever it is.
    vectors: u16,
    /// Shared parts: [`emit_ask`], [`emit_learn`], and [`emit_signals`] twice.
    ask: CodeLabel,
    learn: CodeLabel,
    block: CodeLabel,
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
    let [mut ask, mut learn, mut block, mut allow] = std::array::from_fn(|_| a.create_label());
    a.set_label(&mut thread_pointer)?;
    emit_thread_pointer(&mut a)?;
    a.set_label(&mut acquire)?;
    emit_acquire(&mut a, link, functions.slot_acquire)?;
    a.set_label(&mut ask)?;
    emit_ask(&mut a)?;
    a.set_label(&mut learn)?;
    emit_learn(&mut a, link, thread_pointer, functions.signals_learn)?;
    a.set_label(&mut block)?;
    emit_signals(&mut a, rsi, true)?;
    a.set_label(&mut allow)?;
    emit_signals(&mut a, rcx, false)?;
    let mut labels = Vec::with_capacity(entries.len());
    for entry in entries {
        let mut label = a.create_label();
        a.set_label(&mut label)?;
        match *entry {
            Entry::Body { address, switch } => {
                let stack = switch.map(|vectors| Stack {
                    end: native_stack_end as i32,
                    vectors,
                    ask,
                    learn,
                    block,
                    allow,
                });
                emit_entry(&mut a, link, stack, address, thread_pointer, acquire)?;
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
///
/// The thread may have no more than some hundred bytes of stack left (Go's entry to a function), so this is done on another
/// one. Signals are blocked: their handlers would find neither room nor a slot there.
fn emit_acquire<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    slot_acquire: u64,
) -> Result<(), LinkError> {
    let stacks_used = link.thread_table + offset_of!(ThreadTable, stacks_used) as u64;
    let stack_size = size_of::<EntryStack>();
    let first_end = link.thread_table + (offset_of!(ThreadTable, stacks) + stack_size) as u64;
    let mut next = a.create_label();
    let mut got = a.create_label();
    let mut on = a.create_label();
    let mut left = a.create_label();
    let kept = [rcx, rdx, rdi, rsi, r10, r11];
    for register in kept {
        a.push(register)?;
    }
    a.push(rax)?;
    a.push(-1)?;
    a.mov(rsi, rsp)?;
    a.mov(rdx, rsp)?;
    emit_signal_mask(a)?;

    a.xor(ecx, ecx)?;
    a.mov(rdx, stacks_used)?;
    a.set_label(&mut next)?;
    a.lock().bts(qword_ptr(rdx), rcx)?;
    a.jae(got)?;
    a.inc(ecx)?;
    a.cmp(ecx, ENTRY_STACKS as i32)?;
    a.jb(next)?;
    // None is free: the thread's own will have to do.
    a.mov(rdi, rsp)?;
    a.jmp(on)?;
    a.set_label(&mut got)?;
    a.mov(edi, ecx)?;
    a.shl(rdi, stack_size.trailing_zeros())?;
    a.mov(rsi, first_end)?;
    a.add(rdi, rsi)?;
    a.set_label(&mut on)?;
    a.mov(rsi, rsp)?;
    a.mov(rsp, rdi)?;
    a.push(rsi)?;
    let further = [rcx, r8, r9, rbp];
    for register in further {
        a.push(register)?;
    }
    a.mov(rbp, rsp)?;
    a.and(rsp, -16)?;
    a.mov(rdx, qword_ptr(rsi + 8))?;
    a.dec(rdx)?;
    a.mov(r8, rsi)?;
    a.mov(rdi, link.arena)?;
    a.mov(rsi, link.thread_table)?;
    a.mov(ecx, link.process)?;
    a.mov(rax, slot_acquire)?;
    a.call(rax)?;
    a.mov(rsp, rbp)?;
    for register in further.into_iter().rev() {
        a.pop(register)?;
    }
    a.pop(rsp)?;
    a.mov(qword_ptr(rsp + 8), rax)?;
    a.cmp(ecx, ENTRY_STACKS as i32)?;
    a.jae(left)?;
    a.mov(rdx, stacks_used)?;
    a.lock().btr(qword_ptr(rdx), rcx)?;
    a.set_label(&mut left)?;

    a.mov(rsi, rsp)?;
    a.xor(edx, edx)?;
    emit_signal_mask(a)?;
    a.pop(rcx)?;
    a.pop(rax)?;
    for register in kept.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    Ok(())
}

/// `rt_sigprocmask(SIG_SETMASK, rsi, rdx, 8)`, which changes rax rcx rdi r10 r11. The kernel reads the new mask before it
/// writes the old one, so that both may have one place.
fn emit_signal_mask(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(eax, SYS_RT_SIGPROCMASK)?;
    a.mov(edi, SIG_SETMASK)?;
    a.mov(r10d, 8)?;
    a.syscall()
}

/// Asks the kernel of the alternate signal stack of the thread whose slot is in rsi, on the program's stack; where it does not
/// say, there is none. Keeps all but rax.
fn emit_ask(a: &mut CodeAssembler) -> Result<(), LinkError> {
    let answer = offset_of!(Slot, signal_stack) as i32;
    let kept = [rsi, rdi, rcx, r11];
    for register in kept {
        a.push(register)?;
    }
    a.mov(dword_ptr(rsi + SIGNAL_STACK_FLAGS), NO_STACK as i32)?;
    a.lea(rsi, qword_ptr(rsi + answer))?;
    a.mov(eax, SYS_SIGALTSTACK)?;
    a.xor(edi, edi)?;
    a.syscall()?;
    for register in kept.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    Ok(())
}

/// Blocks all signals of the thread whose slot is in a register, or sets the mask that it had before. Keeps all but rax.
fn emit_signals(a: &mut CodeAssembler, slot: AsmRegister64, block: bool) -> Result<(), LinkError> {
    let mask = offset_of!(Slot, signal_mask) as i32;
    let kept = [rdi, rsi, rdx, rcx, r10, r11];
    for register in kept {
        a.push(register)?;
    }
    if block {
        a.mov(qword_ptr(slot + mask), -1)?;
    }
    a.lea(rsi, qword_ptr(slot + mask))?;
    match block {
        true => a.mov(rdx, rsi)?,
        false => a.xor(edx, edx)?,
    }
    emit_signal_mask(a)?;
    for register in kept.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    Ok(())
}

/// Has the runtime look at the program's stack of the thread whose slot is in rsi. Keeps all but rax and flags.
fn emit_learn<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    thread_pointer: CodeLabel,
    function: u64,
) -> Result<(), LinkError> {
    let general = [rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbp];
    for register in general {
        a.push(register)?;
    }
    a.mov(rbp, rsp)?;
    a.sub(rsp, 256)?;
    a.and(rsp, -16)?;
    let all = vectors(u16::MAX);
    for (index, register) in all.iter().enumerate() {
        a.movups(xmmword_ptr(rsp + (16 * index as i32)), *register)?;
    }
    match link.thread_pointer {
        ThreadPointer::Word => emit_load_thread_pointer(a, link, thread_pointer)?,
        // The FS base may be anything.
        ThreadPointer::Register | ThreadPointer::SystemCall => a.xor(eax, eax)?,
    }
    a.mov(rdi, rsi)?;
    a.mov(rsi, rax)?;
    a.mov(rax, function)?;
    a.call(rax)?;
    for (index, register) in all.iter().enumerate() {
        a.movups(*register, xmmword_ptr(rsp + (16 * index as i32)))?;
    }
    a.mov(rsp, rbp)?;
    for register in general.into_iter().rev() {
        a.pop(register)?;
    }
    a.ret()?;
    Ok(())
}

/// The vector registers of a set.
fn vectors(set: u16) -> Vec<AsmRegisterXmm> {
    let all = [
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13,
        xmm14, xmm15,
    ];
    let chosen = all
        .into_iter()
        .enumerate()
        .filter(|(n, _)| set & 1 << n != 0);
    chosen.map(|(_, register)| register).collect()
}

/// Goes to `hit` when one of the entries behind the one that a register points to, to which it then points, has the key in rax.
fn emit_search(
    a: &mut CodeAssembler,
    entry: AsmRegister64,
    hit: CodeLabel,
) -> Result<(), LinkError> {
    for _ in 0..SHORT_SEARCH {
        a.add(entry, size_of::<ThreadEntry>() as i32)?;
        a.cmp(qword_ptr(entry), rax)?;
        a.je(hit)?;
    }
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

/// rax = FS base.
fn emit_load_thread_pointer<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    thread_pointer: CodeLabel,
) -> Result<(), LinkError> {
    match link.thread_pointer {
        ThreadPointer::Word => load_thread_word(a)?,
        ThreadPointer::Register => a.rdfsbase(rax)?,
        ThreadPointer::SystemCall => a.call(thread_pointer)?,
    }
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

/// A function that runs a handler's body. With `stack` it needs one: the program's, or the slot's where the program's may be short.
fn emit_entry<C>(
    a: &mut CodeAssembler,
    link: &ProcessLink<'_, C>,
    stack: Option<Stack>,
    body: u64,
    thread_pointer: CodeLabel,
    acquire: CodeLabel,
) -> Result<(), LinkError> {
    let mut near = a.create_label();
    let mut found = a.create_label();
    let mut slow = a.create_label();
    let mut skip = a.create_label();
    let mut out = a.create_label();
    emit_over(a, link, out)?;
    emit_load_thread_pointer(a, link, thread_pointer)?;
    emit_hash(a, link)?;
    a.jne(slow)?;
    a.set_label(&mut near)?;
    a.mov(rax, qword_ptr(rdx + 8))?;
    // The table of a child that was made since the comparison (fork(2) in a signal's handler) is empty.
    a.test(rax, rax)?;
    a.je(out)?;
    a.set_label(&mut found)?;
    // By one instruction: a signal's handler may go on with another context of the program, which comes here as well.
    a.bts(dword_ptr(rax + offset_of!(Slot, busy) as i32), 0)?;
    a.jb(skip)?;
    a.mov(ecx, esi)?;
    a.mov(rdx, rdi)?;
    a.mov(rsi, rax)?;
    a.mov(rdi, link.arena)?;
    let mut elsewhere = a.create_label();
    let mut again = a.create_label();
    if let Some(stack) = stack {
        a.set_label(&mut again)?;
        a.mov(qword_ptr(rsi + offset_of!(Slot, saved_sp) as i32), rsp)?;
        a.mov(rax, rsp)?;
        a.sub(rax, qword_ptr(rsi + offset_of!(Slot, room_low) as i32))?;
        a.cmp(rax, qword_ptr(rsi + offset_of!(Slot, room_size) as i32))?;
        a.jae(elsewhere)?;
        a.push(rsi)?;
        emit_with_vectors(a, stack.vectors, body)?;
        a.pop(rcx)?;
    } else {
        a.push(rsi)?;
        a.call(body)?;
        a.pop(rcx)?;
    }
    a.mov(dword_ptr(rcx + offset_of!(Slot, busy) as i32), 0)?;
    a.set_label(&mut out)?;
    a.ret()?;
    if let Some(stack) = stack {
        let mut unknown = a.create_label();
        let mut alternate = a.create_label();
        a.set_label(&mut elsewhere)?;
        a.mov(rax, rsp)?;
        a.sub(rax, qword_ptr(rsi + offset_of!(Slot, stack_low) as i32))?;
        a.cmp(rax, qword_ptr(rsi + offset_of!(Slot, stack_size) as i32))?;
        a.jae(unknown)?;
        emit_body(a, stack, body)?;
        a.mov(dword_ptr(rcx + offset_of!(Slot, busy) as i32), 0)?;
        a.ret()?;
        a.set_label(&mut unknown)?;
        a.call(stack.ask)?;
        a.test(dword_ptr(rsi + SIGNAL_STACK_FLAGS), SS_ONSTACK)?;
        a.jne(alternate)?;
        a.call(stack.block)?;
        a.lea(rsp, qword_ptr(rsi + stack.end))?;
        a.call(stack.learn)?;
        a.mov(rsp, qword_ptr(rsi + offset_of!(Slot, saved_sp) as i32))?;
        a.push(rcx)?;
        a.mov(rcx, rsi)?;
        a.call(stack.allow)?;
        a.pop(rcx)?;
        a.jmp(again)?;
        a.set_label(&mut alternate)?;
        a.call(stack.block)?;
        emit_body(a, stack, body)?;
        a.mov(dword_ptr(rcx + offset_of!(Slot, busy) as i32), 0)?;
        a.call(stack.allow)?;
        a.ret()?;
    }

    a.set_label(&mut slow)?;
    emit_search(a, rdx, near)?;
    a.call(acquire)?;
    a.test(rax, rax)?;
    a.jne(found)?;
    a.ret()?;
    a.set_label(&mut skip)?;
    a.inc(qword_ptr(rax + offset_of!(Slot, skipped) as i32))?;
    // Now and then it is asked whether the thread that is in a handler there is alive.
    a.test(byte_ptr(rax + offset_of!(Slot, skipped) as i32), 63)?;
    a.jne(out)?;
    emit_load_thread_pointer(a, link, thread_pointer)?;
    a.inc(rax)?;
    a.call(acquire)?;
    a.test(rax, rax)?;
    a.jne(found)?;
    a.ret()?;
    Ok(())
}

/// Runs a body on the stack of the slot in rsi, and leaves that in rcx.
fn emit_body(a: &mut CodeAssembler, stack: Stack, body: u64) -> Result<(), LinkError> {
    let start = stack.end - 16;
    a.mov(rax, qword_ptr(rsi + offset_of!(Slot, saved_sp) as i32))?;
    a.lea(rsp, qword_ptr(rsi + start))?;
    // Here, too, as the slot is shared with a child that a signal's handler may make meanwhile.
    a.mov(qword_ptr(rsp), rax)?;
    emit_with_vectors(a, stack.vectors, body)?;
    // The stack pointer is again where it was put, which tells the slot. Back on the program's stack first: once
    // busy is 0, a signal's handler may use the slot's stack.
    a.lea(rcx, qword_ptr(rsp - start))?;
    a.mov(rsp, qword_ptr(rsp))?;
    Ok(())
}

/// Calls a body, on an aligned stack, and keeps vector registers there.
fn emit_with_vectors(a: &mut CodeAssembler, set: u16, body: u64) -> Result<(), LinkError> {
    let vectors = vectors(set);
    let size = 16 * vectors.len() as i32;
    if size > 0 {
        a.sub(rsp, size)?;
    }
    for (index, register) in vectors.iter().enumerate() {
        a.movups(xmmword_ptr(rsp + (16 * index as i32)), *register)?;
    }
    a.call(body)?;
    for (index, register) in vectors.iter().enumerate() {
        a.movups(*register, xmmword_ptr(rsp + (16 * index as i32)))?;
    }
    if size > 0 {
        a.add(rsp, size)?;
    }
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
    let mut near = a.create_label();
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
            a.set_label(&mut near)?;
            a.mov(rax, qword_ptr(rcx + 8))?;
        }
        ThreadPointer::Register | ThreadPointer::SystemCall => {
            match link.thread_pointer {
                ThreadPointer::Register => a.rdfsbase(rax)?,
                _ => a.call(thread_pointer)?,
            }
            emit_hash(a, link)?;
            a.jne(slow)?;
            a.set_label(&mut near)?;
            a.mov(rax, qword_ptr(rdx + 8))?;
        }
    }
    // As above.
    a.test(rax, rax)?;
    a.je(out)?;
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
    emit_search(a, if rdx_too { rdx } else { rcx }, near)?;
    a.call(acquire)?;
    a.test(rax, rax)?;
    a.jne(found)?;
    a.jmp(out)?;
    Ok(())
}
