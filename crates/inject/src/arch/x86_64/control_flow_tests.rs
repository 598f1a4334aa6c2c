//! Control flow of small functions as compilers make them.

use iced_x86::code_asm::*;

use super::BranchTargets;
use super::control_flow::{
    ControlFlow, ExitKind, FunctionCode, Named, NotProvable, StackRow, control_flow,
};
use crate::analysis::{CodeSection, ModuleCode};

const TEXT: u64 = 0x1000;

fn assemble(write: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).unwrap();
    write(&mut a);
    a.assemble(TEXT).unwrap()
}

/// The flow of the first function; `lengths` are those of all functions, which stand one behind the other.
fn flow(code: &[u8], lengths: &[u64], stack_at: &dyn Fn(u64) -> Option<StackRow>) -> ControlFlow {
    let mut functions = Vec::new();
    let mut at = TEXT;
    for length in lengths {
        functions.push(at..at + length);
        at += length;
    }
    let sections = [CodeSection {
        address: TEXT,
        bytes: code,
    }];
    let read_data = |_: u64, _: &mut [u8]| false;
    let targets = BranchTargets::build(&ModuleCode {
        sections: &sections,
        functions: &functions,
        landing_pads: &[],
        code_pointers: &[],
        read_data: &read_data,
        fixed_address: false,
    });
    control_flow(&FunctionCode {
        entry: TEXT,
        ranges: vec![functions[0].clone()],
        sections: &sections,
        targets: &targets,
        stack_at,
        named: &|_| Named::Function,
        read_data: &read_data,
    })
}

fn no_table(_: u64) -> Option<StackRow> {
    None
}

fn kinds(flow: &ControlFlow) -> Vec<(u64, ExitKind)> {
    let exits = flow.exits.as_ref().unwrap();
    exits.iter().map(|e| (e.address - TEXT, e.kind)).collect()
}

#[test]
fn every_return_is_found_with_what_leads_to_it() {
    let code = assemble(|a| {
        let mut other = a.create_label();
        a.test(rdi, rdi).unwrap(); // 0
        a.je(other).unwrap(); // 3
        a.push(rbx).unwrap(); // 5
        a.mov(eax, 1).unwrap(); // 6
        a.pop(rbx).unwrap(); // 11
        a.ret().unwrap(); // 12
        a.set_label(&mut other).unwrap();
        a.xor(eax, eax).unwrap(); // 13
        a.ret_1(8).unwrap(); // 15
    });
    let found = flow(&code, &[code.len() as u64], &no_table);
    assert_eq!(
        kinds(&found),
        [(12, ExitKind::Return), (15, ExitKind::Return)]
    );
    let exits = found.exits.unwrap();
    assert_eq!(exits[0].before, [TEXT + 11, TEXT + 6, TEXT + 5]);
    assert_eq!(exits[1].before, [TEXT + 13]);
}

#[test]
fn a_jump_to_a_function_without_frame_is_a_tail_call() {
    let code = assemble(|a| {
        a.push(rbx).unwrap(); // 0
        a.call(TEXT + 12).unwrap(); // 1
        a.pop(rbx).unwrap(); // 6
        a.db(&[0xe9, 0, 0, 0, 0]).unwrap(); // 7: jmp to 12
        a.ret().unwrap(); // 12
    });
    let found = flow(&code, &[12, 1], &no_table);
    assert_eq!(kinds(&found), [(7, ExitKind::TailCall(Some(TEXT + 12)))]);
    assert_eq!(found.call_sites, [TEXT + 1]);
}

#[test]
fn a_ret_that_jumps_is_not_taken_for_a_return() {
    let code = assemble(|a| {
        a.push(rax).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(
        flow(&code, &[2], &no_table).exits,
        Err(NotProvable::UnbalancedReturn(TEXT + 1))
    );
}

#[test]
fn what_runs_into_the_next_function_is_not_provable() {
    let code = assemble(|a| {
        a.nop().unwrap();
        a.ret().unwrap();
    });
    assert_eq!(
        flow(&code, &[1, 1], &no_table).exits,
        Err(NotProvable::RunsOff(TEXT + 1))
    );
}

#[test]
fn a_call_that_never_returns_ends_the_function() {
    let code = assemble(|a| {
        a.call(TEXT + 5).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(kinds(&flow(&code, &[5, 1], &no_table)), []);
}

#[test]
fn a_conditional_jump_to_another_function_is_not_provable() {
    let code = assemble(|a| {
        a.je(TEXT + 3).unwrap();
        a.ret().unwrap();
        a.ret().unwrap();
    });
    assert_eq!(
        flow(&code, &[3, 1], &no_table).exits,
        Err(NotProvable::ConditionalTailCall(TEXT))
    );
}

#[test]
fn unwind_tables_tell_a_jump_inside_a_frame_from_a_tail_call() {
    let code = assemble(|a| {
        a.jmp(rax).unwrap();
    });
    let row = |offset| {
        move |_: u64| {
            Some(StackRow {
                frame_address: Some((4, offset)),
                returns_ordinarily: true,
            })
        }
    };
    let outside = flow(&code, &[2], &row(8));
    assert_eq!(kinds(&outside), [(0, ExitKind::TailCall(None))]);
    assert!(outside.entered_by_call);
    assert_eq!(kinds(&flow(&code, &[2], &row(16))), []);
}

#[test]
fn without_unwind_table_a_return_that_finds_the_stack_as_it_was_tells_that_the_function_is_called()
{
    let is_called = |write: fn(&mut CodeAssembler)| {
        let code = assemble(write);
        let flow = flow(&code, &[code.len() as u64], &no_table);
        (flow.is_balanced, flow.entered_by_call)
    };
    let balanced = is_called(|a| {
        a.push(rbx).unwrap();
        a.sub(rsp, 32).unwrap();
        a.add(rsp, 32).unwrap();
        a.pop(rbx).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(balanced, (true, true));
    let jumps_on = is_called(|a| a.jmp(rax).unwrap());
    assert_eq!(jumps_on, (true, false));
    // As a switch of coroutines does.
    let switches = is_called(|a| {
        a.mov(rsp, rsi).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(switches, (false, false));
    let one_way_switches = is_called(|a| {
        let mut other = a.create_label();
        a.test(rdi, rdi).unwrap();
        a.je(other).unwrap();
        a.ret().unwrap();
        a.set_label(&mut other).unwrap();
        a.mov(rsp, rsi).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(one_way_switches, (false, false));
}

#[test]
fn functions_that_look_at_their_return_address_are_known() {
    let reads = assemble(|a| {
        a.push(rbx).unwrap();
        a.mov(rax, qword_ptr(rsp + 8)).unwrap();
        a.pop(rbx).unwrap();
        a.ret().unwrap();
    });
    let found = flow(&reads, &[reads.len() as u64], &no_table);
    assert_eq!(found.return_address_use, Some(TEXT + 1));
    let pops = assemble(|a| {
        a.pop(rdi).unwrap();
        a.push(rdi).unwrap();
        a.ret().unwrap();
    });
    let found = flow(&pops, &[pops.len() as u64], &no_table);
    assert_eq!(found.return_address_use, Some(TEXT));
}

#[test]
fn loops_are_named_by_their_heads() {
    let code = assemble(|a| {
        let mut head = a.create_label();
        a.xor(eax, eax).unwrap(); // 0
        a.set_label(&mut head).unwrap();
        a.inc(eax).unwrap(); // 2
        a.dec(rdi).unwrap(); // 4
        a.jne(head).unwrap(); // 7
        a.ret().unwrap(); // 9
    });
    let found = flow(&code, &[code.len() as u64], &no_table);
    assert_eq!(found.loops.len(), 1);
    assert_eq!(found.loops[0].head, TEXT + 2);
    assert_eq!(found.loops[0].back_edges, [TEXT + 7]);
    assert_eq!(
        found.blocks,
        [TEXT..TEXT + 2, TEXT + 2..TEXT + 9, TEXT + 9..TEXT + 10]
    );
}

#[test]
fn rubbish_is_survived() {
    let code: Vec<u8> = (0..4096u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    flow(&code, &[2000, 2096], &no_table);
}
