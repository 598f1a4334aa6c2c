//! Branch targets of small modules written by hand.

use std::ops::Range;

use iced_x86::code_asm::*;
use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::*;
use crate::analysis::{CodeSection, ModuleCode};

const TEXT: u64 = 0x1000;
const TABLE: u64 = 0x8000;

struct Module {
    code: Vec<u8>,
    functions: Vec<Range<u64>>,
    table: Vec<u8>,
    pointers: Vec<u64>,
    pads: Vec<u64>,
    fixed: bool,
}

impl Module {
    fn new(write: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut a = CodeAssembler::new(64).unwrap();
        write(&mut a);
        let code = a.assemble(TEXT).unwrap();
        Self {
            functions: vec![TEXT..TEXT + code.len() as u64],
            code,
            table: Vec::new(),
            pointers: Vec::new(),
            pads: Vec::new(),
            fixed: false,
        }
    }

    fn targets(&self) -> BranchTargets {
        BranchTargets::build(&ModuleCode {
            sections: &[CodeSection {
                address: TEXT,
                bytes: &self.code,
            }],
            functions: &self.functions,
            landing_pads: &self.pads,
            code_pointers: &self.pointers,
            read_data: &|address, out| {
                let found = address
                    .checked_sub(TABLE)
                    .and_then(|at| self.table.get(at as usize..at as usize + out.len()));
                found.inspect(|found| out.copy_from_slice(found)).is_some()
            },
            fixed_address: self.fixed,
        })
    }
}

fn lea(a: &mut CodeAssembler, register: Register, target: u64) {
    let operand = MemoryOperand::with_base_displ(Register::RIP, target as i64);
    a.add_instruction(Instruction::with2(Code::Lea_r64_m, register, operand).unwrap())
        .unwrap();
}

/// What GCC makes of a switch in position-independent code: 18 bytes, then the cases.
fn switch(a: &mut CodeAssembler) {
    lea(a, Register::RDX, TABLE); // 7 bytes
    a.movsxd(rax, dword_ptr(rdx + rax * 4)).unwrap(); // 4
    a.add(rax, rdx).unwrap(); // 3
    a.db(&[0x3e]).unwrap(); // notrack
    a.jmp(rax).unwrap(); // 2
    a.nop().unwrap(); // 0x1011
    a.nop().unwrap(); // 0x1012
    a.nop().unwrap(); // 0x1013
    a.ret().unwrap();
}

#[test]
fn a_table_of_offsets_says_where_a_switch_goes() {
    let mut module = Module::new(switch);
    for case in [0x1013u64, 0x1011, 0x5_0000] {
        module
            .table
            .extend_from_slice(&(case.wrapping_sub(TABLE) as i32).to_le_bytes());
    }
    let targets = module.targets();
    assert_eq!(targets.is_provable(TEXT), Ok(()));
    assert_eq!(targets.entered_inside(TEXT..0x1014), Some(0x1011));
    assert_eq!(targets.entered_inside(0x1011..0x1014), Some(0x1013));
    assert_eq!(targets.entered_inside(0x1011..0x1013), None);
}

#[test]
fn a_computed_jump_without_table_is_not_provable() {
    let module = Module::new(switch);
    assert_eq!(module.targets().is_provable(TEXT + 3), Err(0x100e));
    assert_eq!(module.targets().unprovable().count(), 1);
}

#[test]
fn a_jump_to_a_loaded_pointer_is_a_tail_call() {
    let module = Module::new(|a| {
        a.push(rbx).unwrap();
        a.mov(rax, qword_ptr(rdi + 16)).unwrap();
        a.mov(rcx, rax).unwrap();
        a.pop(rbx).unwrap();
        a.jmp(rcx).unwrap();
    });
    assert_eq!(module.targets().is_provable(TEXT), Ok(()));
    assert_eq!(module.targets().entered_inside(TEXT..TEXT + 10), None);
}

#[test]
fn an_absolute_table_in_a_fixed_program_is_read() {
    let mut module = Module::new(|a| {
        a.jmp(qword_ptr(TABLE + rax * 8)).unwrap(); // 7 bytes
        a.nop().unwrap();
        a.nop().unwrap();
        a.ret().unwrap();
    });
    module.fixed = true;
    module.table.extend_from_slice(&0x1008u64.to_le_bytes());
    module.table.extend_from_slice(&0x1009u64.to_le_bytes());
    module.table.extend_from_slice(&[0; 8]);
    let targets = module.targets();
    assert_eq!(targets.entered_inside(TEXT..0x100a), Some(0x1008));
    assert_eq!(targets.entered_inside(0x1008..0x100a), Some(0x1009));
}

#[test]
fn pointers_pads_and_addresses_made_by_code_are_targets() {
    let mut module = Module::new(|a| {
        lea(a, Register::RAX, TEXT + 9);
        for _ in 0..12 {
            a.nop().unwrap();
        }
        a.ret().unwrap();
    });
    module.pointers = vec![TEXT + 11, 0xdead_0000];
    module.pads = vec![TEXT + 13];
    let targets = module.targets();
    let mut found = Vec::new();
    let mut from = TEXT;
    while let Some(next) = targets.entered_inside(from..TEXT + 0x100) {
        found.push(next - TEXT);
        from = next;
    }
    assert_eq!(found, [9, 11, 13]);
}

#[test]
fn entries_are_told_from_cold_parts_and_loops() {
    // 0x1000: call 0x1010; jne 0x1018; ret   0x1010: dec ecx; jne 0x1010; ret   0x1018: ret
    let mut module = Module::new(|a| {
        a.call(0x1010).unwrap();
        a.jne(0x1018).unwrap();
        a.ret().unwrap();
    });
    module.code.resize(0x10, 0xcc);
    module
        .code
        .extend_from_slice(&[0xff, 0xc9, 0x75, 0xfc, 0xc3]);
    module.code.resize(0x18, 0x00);
    module.code.push(0xc3);
    module.functions = vec![0x1000..0x1008, 0x1010..0x1015, 0x1018..0x1019];
    let targets = module.targets();
    assert!(targets.is_function_entry(0x1000));
    assert!(!targets.is_function_entry(0x1010), "it loops to its start");
    assert!(!targets.is_function_entry(0x1018), "it is only jumped to");
    assert!(!targets.is_function_entry(0x1005));
    assert!(targets.is_dead_padding(&(0x1008..0x1010)));
    assert!(!targets.is_dead_padding(&(0x1007..0x1010)));
    assert_eq!(targets.function_of(0x1012), Some(0x1010..0x1015));
    assert_eq!(targets.function_of(0x1009), None);
    assert!(targets.is_boundary(0x1012) && !targets.is_boundary(0x1011));
}

#[test]
fn padding_counts_only_behind_what_never_goes_on() {
    // xor eax, eax runs on into the nops.
    let mut module = Module::new(|a| a.xor(eax, eax).unwrap());
    module.code.extend_from_slice(&[0x90; 14]);
    module.functions = vec![0x1000..0x1002];
    assert!(!module.targets().is_dead_padding(&(0x1002..0x1010)));
}

#[test]
fn functions_that_begin_with_nops_are_not_padding() {
    // ret; then a function of eight nops and ret, known by its symbol, or only by a pointer to it.
    let code = [&[0xc3][..], &[0x90; 8], &[0xc3]].concat();
    for (second, pointers) in [(Some(0x1001..0x100a), vec![]), (None, vec![0x1001])] {
        let mut module = Module::new(|a| a.ret().unwrap());
        module.code = code.clone();
        module.functions = std::iter::once(0x1000..0x1001).chain(second).collect();
        module.pointers = pointers;
        let targets = module.targets();
        assert_eq!(targets.dead_padding(0x1000..0x1010).next(), None);
        assert!(!targets.is_dead_padding(&(0x1002..0x1007)));
    }
}

#[test]
fn overlapping_functions_share_what_is_not_known() {
    let mut module = Module::new(switch);
    module.functions = vec![TEXT..TEXT + 0x15, TEXT + 0x11..TEXT + 0x12];
    let targets = module.targets();
    assert_eq!(targets.is_provable(TEXT + 0x13), Err(0x100e));
    assert_eq!(targets.function_of(TEXT + 0x13), Some(0x1011..0x1015));
}

#[test]
fn rubbish_is_survived() {
    let mut module = Module::new(|a| a.ret().unwrap());
    module.code = (0..4096u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    module.functions = vec![TEXT..TEXT + 9, 0..u64::MAX, TEXT + 5..TEXT + 5000, 9..9];
    module.targets();
}
