//! Executable memory in the test process, in which code is run before and after it is patched.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use iced_x86::code_asm::*;
use iced_x86::{IcedError, MemoryOperand, Register};
use proptest::prelude::*;

use super::*;
use crate::analysis::{CodeSection, ModuleCode};
use crate::snippet::{Snippet, SnippetCode};

/// Registers and memory before and after a run.
#[repr(C)]
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub(super) gpr: [u64; 16],
    pub(super) flags: u64,
    pub(super) entry: u64,
    host_rsp: u64,
    padding: u64,
    xmm: [u128; 16],
}

impl State {
    pub(super) fn seeded(seed: u64, scratch: u64) -> Self {
        let mut x = seed | 1;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        };
        let mut gpr = std::array::from_fn(|_| next());
        gpr[3] = scratch;
        gpr[1] &= 0xff;
        State {
            gpr,
            // CF, PF, AF, ZF, SF, OF.
            flags: next() & 0x8d5 | 2,
            entry: 0,
            host_rsp: 0,
            padding: 0,
            xmm: std::array::from_fn(|_| u128::from(next()) << 64 | u128::from(next())),
        }
    }
}

/// A page range in this process that can be written and executed, at the same address for every use.
pub(super) struct Arena {
    pub(super) base: u64,
    _lock: MutexGuard<'static, ()>,
}

const SIZE: usize = 1 << 21;
/// Where things stand in the arena.
pub(super) const CODE: u64 = 0;
const HARNESS: u64 = 0x4000;
pub(super) const CALLEE: u64 = 0x5000;
const SPY: u64 = 0x6000;
const LEAF: u64 = 0x7000;
pub(super) const SCRATCH: u64 = 0x8000;
pub(super) const SPIED: u64 = 0x9000;
pub(super) const COUNTER: u64 = 0xa000;
pub(super) const TRAMPOLINE: u64 = 0x1_0000;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl Arena {
    /// At a low address, as a program with fixed addresses is, or a high one.
    pub(super) fn new(low: bool) -> Self {
        let lock = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | if low { libc::MAP_32BIT } else { 0 };
        // SAFETY: a new anonymous mapping touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                flags,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let mut arena = Self {
            base: base as u64,
            _lock: lock,
        };
        arena.assemble(HARNESS, harness).unwrap();
        // A function to be called: doubles rax, adds its return address to the scratch word 0x100.
        arena
            .assemble(CALLEE, |a| {
                a.lea(rax, ptr(rax + rax))?;
                a.push(rcx)?;
                a.mov(rcx, qword_ptr(rsp + 8))?;
                a.add(qword_ptr(rbx + 0x100), rcx)?;
                a.pop(rcx)?;
                a.ret()
            })
            .unwrap();
        arena
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        assert!(address >= self.base && address + bytes.len() as u64 <= self.base + SIZE as u64);
        // SAFETY: the range lies in the mapping, which only this value uses.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len());
        }
    }

    fn read(&self, address: u64, len: usize) -> Vec<u8> {
        assert!(address >= self.base && address + len as u64 <= self.base + SIZE as u64);
        // SAFETY: the range lies in the mapping, which only this value uses.
        unsafe { std::slice::from_raw_parts(address as *const u8, len).to_vec() }
    }

    pub(super) fn word(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.read(self.base + offset, 8).try_into().unwrap())
    }

    pub(super) fn assemble(
        &mut self,
        offset: u64,
        write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<Vec<u8>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        write(&mut a)?;
        let bytes = a.assemble(self.base + offset)?;
        self.write(self.base + offset, &bytes);
        Ok(bytes)
    }

    /// Runs the code at `entry`, which ends in `ret`, from a state; the state after it, with scratch memory.
    pub(super) fn run(&mut self, entry: u64, start: &State) -> (State, Vec<u8>) {
        self.write(self.base + SCRATCH, &[0x5a; 0x400]);
        let mut state = start.clone();
        state.entry = entry;
        // SAFETY: the harness follows the C ABI, keeps callee-saved registers, and the code it runs keeps to the scratch
        // memory and the stack.
        unsafe {
            let harness: extern "C" fn(*mut State) = std::mem::transmute(self.base + HARNESS);
            harness(&mut state);
        }
        state.gpr[4] = 0;
        state.host_rsp = 0;
        // Whether AF is defined differs between instructions and processors; not between two runs on one.
        state.flags &= 0x8d5;
        (state, self.read(self.base + SCRATCH, 0x400))
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this value made the mapping, and nothing points into it any more.
        unsafe { libc::munmap(self.base as *mut libc::c_void, SIZE) };
    }
}

/// `extern "C" fn(state: *mut State)`: loads the registers, calls `entry`, stores them.
fn harness(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let others = [
        rax, rcx, rdx, rbx, rbp, rsi, r8, r9, r10, r11, r12, r13, r14, r15,
    ];
    let slot = |register: AsmRegister64| {
        let register: Register = register.into();
        8 * register.number() as i32
    };
    let xmms = [
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13,
        xmm14, xmm15,
    ];
    for register in [rbx, rbp, r12, r13, r14, r15, rdi] {
        a.push(register)?;
    }
    a.mov(qword_ptr(rdi + 18 * 8), rsp)?;
    for (n, register) in xmms.into_iter().enumerate() {
        a.movups(register, xmmword_ptr(rdi + 20 * 8 + 16 * n))?;
    }
    a.push(qword_ptr(rdi + 17 * 8))?;
    a.push(qword_ptr(rdi + 16 * 8))?;
    for register in others {
        a.mov(register, qword_ptr(rdi + slot(register)))?;
    }
    a.mov(rdi, qword_ptr(rdi + slot(rdi)))?;
    a.popfq()?;
    a.call(qword_ptr(rsp))?;
    a.lea(rsp, ptr(rsp + 8))?;
    a.xchg(qword_ptr(rsp), rdi)?;
    for register in others {
        a.mov(qword_ptr(rdi + slot(register)), register)?;
    }
    a.pushfq()?;
    a.pop(qword_ptr(rdi + 16 * 8))?;
    a.cld()?;
    for (n, register) in xmms.into_iter().enumerate() {
        a.movups(xmmword_ptr(rdi + 20 * 8 + 16 * n), register)?;
    }
    a.pop(qword_ptr(rdi + slot(rdi)))?;
    for register in [r15, r14, r13, r12, rbp, rbx] {
        a.pop(register)?;
    }
    a.ret()
}

/// An operand relative to rip.
pub(super) fn at(address: u64) -> MemoryOperand {
    MemoryOperand::with_base_displ(Register::RIP, address as i64)
}

/// The boundaries of the instructions in `code`.
fn boundaries(code: &[u8], address: u64) -> Vec<u64> {
    iced_x86::Decoder::with_ip(64, code, address, 0)
        .iter()
        .map(|i| i.ip())
        .collect()
}

/// A snippet that counts at `counter` and then ruins what it says it changes.
pub(super) fn vandal(counter: u64, clobbers: RegisterSet) -> Snippet {
    let mut a = CodeAssembler::new(64).unwrap();
    let number = |r: AsmRegister64| Register::from(r).number() as u8;
    let scratch = [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11]
        .into_iter()
        .find(|&r| clobbers.contains_gpr(number(r)))
        .unwrap();
    a.mov(scratch, counter).unwrap();
    a.lock().inc(qword_ptr(scratch)).unwrap();
    a.mov(scratch, 0x7fff_ffff_ffff_ffff_u64).unwrap();
    a.add(scratch, 1).unwrap();
    for register in [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11] {
        if clobbers.contains_gpr(number(register)) {
            a.mov(register, 0xdead_dead_dead_dead_u64).unwrap();
        }
    }
    for register in [xmm0, xmm1, xmm7, xmm15] {
        if clobbers.xmm & 1 << Register::from(register).number() != 0 {
            a.xorps(register, register).unwrap();
        }
    }
    Snippet {
        code: SnippetCode::Inline {
            code: a.assemble(0).unwrap(),
            wants_frame: false,
            wants_argument: false,
        },
        reads: RegisterSet::EMPTY,
        clobbers,
        argument: 0,
    }
}

/// A snippet that is called: copies its frame and argument and its stack's misalignment to `SPIED`, counts, and ruins
/// every register that a C function may.
pub(super) fn spy(arena: &mut Arena) -> Snippet {
    let (base, counter) = (arena.base + SPIED, arena.base + COUNTER);
    arena
        .assemble(SPY, |a| {
            a.mov(rax, base)?;
            for n in 0..18 {
                a.mov(rcx, qword_ptr(rdi + 8 * n))?;
                a.mov(qword_ptr(rax + 8 * n), rcx)?;
            }
            a.mov(qword_ptr(rax + 18 * 8), rsi)?;
            a.lea(rcx, ptr(rsp + 8))?;
            a.and(rcx, 15)?;
            a.mov(qword_ptr(rax + 19 * 8), rcx)?;
            a.mov(rax, counter)?;
            a.inc(qword_ptr(rax))?;
            // All of the ABI's scratch stack.
            a.mov(qword_ptr(rsp - 8), rax)?;
            a.mov(qword_ptr(rsp - 128), rax)?;
            for register in [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11] {
                a.mov(register, 0xbad0_bad0_bad0_bad0_u64)?;
            }
            a.xorps(xmm0, xmm0)?;
            a.xorps(xmm15, xmm15)?;
            a.cmp(eax, 1)?;
            a.ret()
        })
        .unwrap();
    Snippet {
        code: SnippetCode::Call(arena.base + SPY),
        reads: RegisterSet {
            gpr: 0xffff,
            xmm: 0,
            flags: true,
        },
        clobbers: RegisterSet::CALLER_SAVED,
        argument: 0x1234_5678_9abc,
    }
}

/// A snippet that is called and keeps all registers: counts, and ruins the flags and what is below the stack pointer.
fn leaf(arena: &mut Arena) -> Snippet {
    let counter = arena.base + COUNTER;
    arena
        .assemble(LEAF, |a| {
            a.push(rax)?;
            a.mov(rax, counter)?;
            a.inc(qword_ptr(rax))?;
            a.mov(qword_ptr(rsp - 8), rax)?;
            a.mov(qword_ptr(rsp - 120), rax)?;
            a.cmp(eax, 1)?;
            a.pop(rax)?;
            a.ret()
        })
        .unwrap();
    leaf_at(arena.base + LEAF)
}

/// The same in this program, which is out of reach of calls in the arena.
fn far_leaf(arena: &Arena) -> Snippet {
    let counter = (&raw const spile_far_counter).cast_mut();
    // SAFETY: only the leaf reads the word, on behalf of the arena's holder, who is alone.
    unsafe { *counter = arena.base + COUNTER };
    leaf_at(spile_far_leaf as *const () as u64)
}

unsafe extern "C" {
    static spile_far_counter: u64;
    fn spile_far_leaf();
}

std::arch::global_asm!(
    "spile_far_leaf:",
    "push rax",
    "mov rax, [rip + spile_far_counter]",
    "inc qword ptr [rax]",
    "mov [rsp - 8], rax",
    "mov [rsp - 120], rax",
    "cmp eax, 1",
    "pop rax",
    "ret",
    ".pushsection .data",
    ".balign 8",
    "spile_far_counter: .quad 0",
    ".popsection",
);

fn leaf_at(function: u64) -> Snippet {
    Snippet {
        code: SnippetCode::Leaf(function),
        reads: RegisterSet::EMPTY,
        clobbers: RegisterSet::FLAGS,
        argument: 0,
    }
}

pub(super) fn targets_of(section: CodeSection<'_>, function: Range<u64>) -> BranchTargets {
    BranchTargets::build(&ModuleCode {
        sections: &[section],
        functions: &[function],
        landing_pads: &[],
        code_pointers: &[],
        read_data: &|_, _| false,
        fixed_address: false,
    })
}

/// Runs `code` unpatched and then patched at every instruction that can be, with every kind of snippet, and compares. Returns
/// how many sites were patched.
pub(super) fn compare(arena: &mut Arena, code: &[u8], seed: u64) -> Result<usize, TestCaseError> {
    let start = arena.base + CODE;
    let function = start..start + code.len() as u64;
    let mut padded = code.to_vec();
    padded.resize(code.len() + 16, 0xcc);
    arena.write(start, &padded);
    let section = CodeSection {
        address: start,
        bytes: &padded,
    };
    let targets = targets_of(section, function.clone());
    let state = State::seeded(seed, arena.base + SCRATCH);
    let expected = arena.run(start, &state);
    let spy = spy(arena);
    let (leaf, far_leaf) = (leaf(arena), far_leaf(arena));
    let counter = arena.base + COUNTER;
    let lean = vandal(counter, RegisterSet::of_gprs(&[1]).and_flags());
    let wide = vandal(
        counter,
        RegisterSet {
            xmm: 0x8083,
            ..RegisterSet::of_gprs(&[0, 2, 6, 8, 11]).and_flags()
        },
    );
    let mut patched = 0;
    for site in boundaries(code, start) {
        let Ok(plan) = plan(
            site,
            section,
            function.clone(),
            &targets,
            &TakenRanges::default(),
            Room::Made,
        ) else {
            continue;
        };
        let mut choices: Vec<Vec<&Snippet>> = vec![
            vec![],
            vec![&lean],
            vec![&wide],
            vec![&spy],
            vec![&leaf],
            vec![&far_leaf],
            vec![&lean, &spy, &leaf, &wide],
        ];
        for snippets in &mut choices {
            let insertions: Vec<SnippetsAt<'_>> = plan
                .runs()
                .flat_map(|(_, _, boundaries)| boundaries)
                .map(|&address| SnippetsAt {
                    address,
                    snippets,
                    dead: dead_registers(
                        address,
                        section,
                        address == plan.site && plan.at_function_entry,
                    ),
                    no_red_zone: address == plan.site && plan.at_function_entry,
                })
                .collect();
            let trampoline =
                Trampoline::build(&plan, &insertions, arena.base + TRAMPOLINE).unwrap();
            prop_assert!(trampoline.bytes.len() <= Trampoline::size_bound(&plan, &insertions));
            arena.write(trampoline.address, &trampoline.bytes);
            let copy_of = |address| trampoline.copy_of(address);
            for write in plan.writes(trampoline.address, &copy_of).unwrap() {
                arena.write(write.address, &write.bytes);
            }
            arena.write(counter, &[0; 8]);
            let mut found = arena.run(start, &state);
            if plan.at_function_entry {
                // No caller passes flags.
                found.0.flags = expected.0.flags;
            }
            let what = format!(
                "patched at +{:#x} ({:?}) with {} snippets, code {code:02x?}",
                site - start,
                plan.kind,
                snippets.len()
            );
            prop_assert_eq!(&found.0, &expected.0, "{}", what);
            prop_assert!(found.1 == expected.1, "memory differs, {}", what);
            prop_assert_eq!(arena.word(SPIED + 19 * 8), 0, "stack alignment, {}", what);
            if site == start && !snippets.is_empty() {
                let hits = arena.word(COUNTER);
                prop_assert!(hits >= snippets.len() as u64, "{hits}");
            }
            for write in plan.originals() {
                arena.write(write.address, &write.bytes);
            }
            prop_assert_eq!(arena.read(start, padded.len()), &padded[..]);
            patched += 1;
        }
    }
    Ok(patched)
}
