//! Displaced, patched and probed code is run here and compared with what it did before.

use iced_x86::code_asm::*;
use iced_x86::{Code, IcedError, Instruction, Register};
use object::{Object, ObjectSymbol};
use proptest::prelude::*;

use super::sandbox::*;
use super::*;
use crate::analysis::{CodeSection, ModuleCode};

/// Assembles, patches everywhere, compares, in low and in high memory.
fn check(write: impl Fn(&mut CodeAssembler, u64) -> Result<(), IcedError>) {
    for low in [false, true] {
        let mut arena = Arena::new(low);
        let base = arena.base;
        let code = arena.assemble(CODE, |a| write(a, base)).unwrap();
        let mut patched = 0;
        for seed in [1, 77, 0xffff_ffff_ffff, 0x1234_5678_9abc_def1] {
            patched += compare(&mut arena, &code, seed).unwrap();
        }
        assert!(patched > 0, "nothing was patched");
    }
}

#[test]
fn plain_instructions_and_red_zone() {
    check(|a, _| {
        a.mov(qword_ptr(rsp - 8), rax)?;
        a.mov(qword_ptr(rsp - 128), rdx)?;
        a.add(rax, rdx)?;
        a.adc(rcx, 0x1234)?;
        a.setc(sil)?;
        a.sbb(r8, r9)?;
        a.movaps(xmm1, xmm2)?;
        a.paddq(xmm1, xmm7)?;
        a.mov(rdx, qword_ptr(rsp - 8))?;
        a.add(rdx, qword_ptr(rsp - 128))?;
        a.ret()
    });
}

#[test]
fn operands_relative_to_rip() {
    check(|a, base| {
        a.nop()?;
        a.add_instruction(Instruction::with2(
            Code::Mov_r64_rm64,
            Register::RAX,
            at(base + SCRATCH + 8),
        )?)?;
        a.add_instruction(Instruction::with2(
            Code::Lea_r64_m,
            Register::RCX,
            at(base + SCRATCH),
        )?)?;
        a.add_instruction(Instruction::with2(
            Code::Add_rm64_imm32,
            at(base + SCRATCH + 16),
            0x1234_5678,
        )?)?;
        a.add_instruction(Instruction::with2(
            Code::Paddd_xmm_xmmm128,
            Register::XMM1,
            at(base + SCRATCH + 32),
        )?)?;
        a.mov(rdx, qword_ptr(rcx + 16))?;
        a.ret()
    });
}

#[test]
fn conditional_branches() {
    check(|a, _| {
        let mut done = a.create_label();
        let mut near = a.create_label();
        a.test(rax, rax)?;
        a.js(near)?;
        a.add(rdx, 1000)?;
        a.cmp(rdx, rsi)?;
        a.jbe(done)?;
        a.add(rdx, 77)?;
        a.set_label(&mut near)?;
        a.jo(done)?;
        a.lea(rdx, ptr(rdx + 3))?;
        a.jp(done)?;
        a.lea(rdx, ptr(rdx + 5))?;
        a.set_label(&mut done)?;
        a.lea(rdx, ptr(rdx + 9))?;
        a.ret()
    });
}

#[test]
fn counted_branches() {
    check(|a, _| {
        let mut again = a.create_label();
        let mut done = a.create_label();
        let mut skip = a.create_label();
        a.and(ecx, 0xf)?;
        a.jrcxz(done)?;
        a.nop()?;
        a.set_label(&mut again)?;
        a.lea(rax, ptr(rax + rax * 2))?;
        a.xor(rdx, rax)?;
        a.loop_(again)?;
        a.mov(ecx, 3)?;
        a.cmp(eax, edx)?;
        a.loopne(skip)?;
        a.inc(rsi)?;
        a.nop()?;
        a.set_label(&mut skip)?;
        a.inc(rsi)?;
        a.nop()?;
        a.nop()?;
        a.db(&[0x67, 0xe3, 6])?; // jecxz done
        a.inc(rdi)?;
        a.inc(rdi)?;
        a.set_label(&mut done)?;
        a.lea(rdx, ptr(rdx + 9))?;
        a.nop()?;
        a.ret()
    });
}

#[test]
fn a_loop_to_the_patched_start() {
    // The start is patched; the branch back must go through the patch each time.
    let mut arena = Arena::new(false);
    let code = arena
        .assemble(CODE, |a| {
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.dec(rcx)?;
            a.jne(again)?;
            a.ret()
        })
        .unwrap();
    let start = arena.base + CODE;
    let mut state = State::seeded(5, arena.base + SCRATCH);
    state.gpr[1] = 17;
    let mut padded = code.clone();
    padded.resize(32, 0xcc);
    arena.write(start, &padded);
    let section = CodeSection {
        address: start,
        bytes: &padded,
    };
    let function = start..start + code.len() as u64;
    let targets = targets_of(section, function.clone());
    assert!(
        !targets.is_function_entry(start),
        "red zone and flags are in use there"
    );
    let plan = plan(
        start,
        section,
        function,
        &targets,
        &TakenRanges::default(),
        Room::Made,
    )
    .unwrap();
    let counting = vandal(arena.base + COUNTER, RegisterSet::of_gprs(&[1]).and_flags());
    let insertion = SnippetsAt {
        address: start,
        snippets: &[&counting],
        dead: dead_registers(start, section, plan.at_function_entry),
        no_red_zone: plan.at_function_entry,
    };
    let trampoline = Trampoline::build(&plan, &[insertion], arena.base + TRAMPOLINE).unwrap();
    arena.write(trampoline.address, &trampoline.bytes);
    for write in plan
        .writes(trampoline.address, &|a| trampoline.copy_of(a))
        .unwrap()
    {
        arena.write(write.address, &write.bytes);
    }
    let (after, _) = arena.run(start, &state);
    assert_eq!(after.gpr[1], 0);
    assert_eq!(arena.word(COUNTER), 17);
}

/// One byte, then the head of a loop, then some more.
fn loop_to_the_second_byte(a: &mut CodeAssembler, rest: usize) -> Result<(), IcedError> {
    let mut again = a.create_label();
    a.mov(ecx, 9)?;
    a.stc()?;
    a.set_label(&mut again)?;
    a.adc(rdx, 5)?;
    a.dec(rcx)?;
    a.jne(again)?;
    for _ in 0..rest {
        a.lea(rdx, ptr(rdx + 1))?;
    }
    a.ret()
}

#[test]
fn branches_into_the_patch_go_to_the_copies() {
    // The short branch is sent to padding, or, where that is too far, to where other instructions stood.
    check(|a, _| loop_to_the_second_byte(a, 3));
    check(|a, _| loop_to_the_second_byte(a, 60));
}

#[test]
fn room_is_made_where_there_is_none() {
    let mut a = CodeAssembler::new(64).unwrap();
    loop_to_the_second_byte(&mut a, 60).unwrap();
    let bytes = a.assemble(0x1000).unwrap();
    let section = CodeSection {
        address: 0x1000,
        bytes: &bytes,
    };
    let function = 0x1000..0x1000 + bytes.len() as u64;
    let targets = targets_of(section, function.clone());
    let free = TakenRanges::default();
    // mov ecx, 9 is five bytes long.
    let plan = |room| plan(0x1005, section, function.clone(), &targets, &free, room);
    assert_eq!(plan(Room::Unused), Err(Refusal::EnteredInside(0x1006)));
    let plan = plan(Room::Made).unwrap();
    let [redirected] = &plan.redirected[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(redirected.target, 0x1006);
    let [moved] = &plan.moved[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(redirected.springboard, Some(moved.start + 5));
    let trampoline = Trampoline::build(&plan, &[], 0x9000).unwrap();
    let writes = plan.writes(0x9000, &|a| trampoline.copy_of(a)).unwrap();
    // What leads elsewhere comes first, and the originals go back in the opposite order.
    let places = |writes: &[Write]| -> Vec<(u64, usize)> {
        writes.iter().map(|w| (w.address, w.bytes.len())).collect()
    };
    let branch = (redirected.end - 1, 1);
    let order = [(moved.start, 5), (moved.start + 5, 5), branch, (0x1005, 5)];
    assert_eq!(places(&writes), order);
    let mut back = places(plan.originals());
    back.reverse();
    assert_eq!(back, order);
}

#[test]
fn calls_return_to_the_original_code() {
    check(|a, base| {
        a.sub(rsp, 24)?;
        a.nop()?;
        a.call(base + CALLEE)?;
        a.mov(r12, base + CALLEE)?;
        a.mov(qword_ptr(rsp + 8), r12)?;
        a.mov(qword_ptr(rbx + 64), r12)?;
        a.nop()?;
        a.nop()?;
        a.nop()?;
        a.call(r12)?;
        a.nop()?;
        a.call(qword_ptr(rsp + 8))?;
        a.nop()?;
        a.nop()?;
        a.call(qword_ptr(rbx + 64))?;
        a.add_instruction(Instruction::with1(
            Code::Call_rm64,
            at(base + SCRATCH + 64),
        )?)?;
        a.add(rsp, 24)?;
        a.ret()
    });
}

#[test]
fn jumps_tail_calls_and_system_calls() {
    check(|a, base| {
        let mut over = a.create_label();
        a.mov(eax, 39)?; // getpid(2)
        a.push(rcx)?;
        a.syscall()?;
        a.pop(rcx)?;
        a.xor(r11d, r11d)?;
        a.jmp(over)?;
        a.int3()?;
        a.nop()?;
        a.set_label(&mut over)?;
        a.mov(qword_ptr(rbx + 64), rdx)?;
        a.xor(edx, edx)?;
        a.jmp(base + CALLEE)
    });
}

#[test]
fn short_functions_use_padding() {
    let mut arena = Arena::new(false);
    let code = arena.assemble(CODE, |a| a.ret()).unwrap();
    assert_eq!(compare(&mut arena, &code, 3).unwrap(), 7);

    // xor eax, eax; ret; then directly another function; 5 bytes of padding behind that.
    let bytes = [
        0x31, 0xc0, 0xc3, 0xb8, 1, 0, 0, 0, 0xc3, 0x66, 0x0f, 0x1f, 0x44, 0, 0, 0xc3,
    ];
    let section = CodeSection {
        address: 0x1000,
        bytes: &bytes,
    };
    let targets = BranchTargets::build(&ModuleCode {
        sections: &[section],
        functions: &[0x1000..0x1003, 0x1003..0x1009, 0x100f..0x1010],
        landing_pads: &[],
        code_pointers: &[],
        read_data: &|_, _| false,
        fixed_address: false,
    });
    let mut taken = TakenRanges::default();
    let first = plan(
        0x1000,
        section,
        0x1000..0x1003,
        &targets,
        &taken,
        Room::Unused,
    )
    .unwrap();
    assert_eq!(
        first.kind,
        PatchKind::ShortJump {
            springboard: 0x1009
        }
    );
    assert_eq!(
        first.writes(0x2000, &|_| None).unwrap().last(),
        Some(&Write {
            address: 0x1000,
            bytes: vec![0xeb, 7]
        })
    );
    assert_eq!(first.taken(), [0x1000..0x1002, 0x1009..0x100e]);
    for range in first.taken() {
        taken.insert(range);
    }
    assert_eq!(
        plan(
            0x1000,
            section,
            0x1000..0x1003,
            &targets,
            &taken,
            Room::Unused
        ),
        Err(Refusal::Overlaps(0x1000))
    );
    taken.remove(0x1000);
    assert_eq!(
        plan(
            0x1000,
            section,
            0x1000..0x1003,
            &targets,
            &taken,
            Room::Unused
        ),
        Err(Refusal::FunctionEnds(0x1003))
    );
}

#[test]
fn what_cant_be_moved_is_refused() {
    let refused = |bytes: &[u8]| match relocate(bytes, 0x1000, 0x2000) {
        Err(RelocateError::Unmovable { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[0xcc]), "a software interrupt");
    assert_eq!(refused(&[0xcd, 0x80]), "a software interrupt");
    assert_eq!(refused(&[0x0f, 0x0b]), "a deliberately invalid instruction");
    assert_eq!(
        refused(&[0xff, 0xd0, 0x90]),
        "a call that returns into the displaced code"
    );
    assert_eq!(refused(&[0xff, 0xd4]), "a call through rsp");
    assert_eq!(
        refused(&[0xff, 0x54, 0x24, 0xf8]),
        "a call through memory below the stack pointer"
    );
    assert_eq!(
        relocate(&[0x06], 0x1000, 0x2000),
        Err(RelocateError::Undecodable(0x1000))
    );
    assert_eq!(
        relocate(&[0xe9, 0, 0, 0, 0], 0x1000, 1 << 40),
        Err(RelocateError::OutOfReach {
            address: 0x1000,
            target: 0x1005,
            copy: 1 << 40
        })
    );
}

#[test]
fn a_called_snippet_sees_the_registers() {
    let mut arena = Arena::new(false);
    let code = arena
        .assemble(CODE, |a| {
            a.mov(rax, 0x1234_5678_u64)?;
            a.ret()
        })
        .unwrap();
    let state = State::seeded(99, arena.base + SCRATCH);
    compare(&mut arena, &code, 99).unwrap();
    let start = arena.base + CODE;
    let spy = spy(&mut arena);
    let section = CodeSection {
        address: start,
        bytes: &code,
    };
    let function = start..start + code.len() as u64;
    let targets = targets_of(section, function.clone());
    let plan = plan(
        start,
        section,
        function,
        &targets,
        &TakenRanges::default(),
        Room::Made,
    )
    .unwrap();
    let insertion = SnippetsAt {
        address: start,
        snippets: &[&spy],
        dead: dead_registers(start, section, plan.at_function_entry),
        no_red_zone: plan.at_function_entry,
    };
    let trampoline = Trampoline::build(&plan, &[insertion], arena.base + TRAMPOLINE).unwrap();
    arena.write(trampoline.address, &trampoline.bytes);
    for write in plan
        .writes(trampoline.address, &|a| trampoline.copy_of(a))
        .unwrap()
    {
        arena.write(write.address, &write.bytes);
    }
    arena.run(start, &state);
    for n in (0..16).filter(|&n| n != 4) {
        assert_eq!(
            arena.word(SPIED + 8 * n),
            state.gpr[n as usize],
            "register {n}"
        );
    }
    assert_eq!(arena.word(SPIED + 16 * 8), start);
    assert_eq!(arena.word(SPIED + 17 * 8) & 0x8d5, state.flags & 0x8d5);
    assert_eq!(arena.word(SPIED + 18 * 8), spy.argument);
    assert_eq!(arena.word(SPIED + 19 * 8), 0, "stack alignment");
}

/// Functions of the C library are moved as a whole and called with the arguments of the originals.
#[test]
fn moved_functions_of_the_c_library() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let Some((base, path)) = maps.lines().find_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        path.ends_with("/libc.so.6")
            .then(|| Some((u64::from_str_radix(line.split('-').next()?, 16).ok()?, path)))?
    }) else {
        return;
    };
    let file = std::fs::read(path).unwrap();
    let libc = object::File::parse(&*file).unwrap();
    let mut arena = Arena::new(false);
    let mut moved = 0;
    for name in ["ffsll", "labs", "toupper", "swab", "memfrob", "div", "ldiv"] {
        let Some(symbol) = libc
            .dynamic_symbols()
            .find(|s| s.name() == Ok(name) && s.size() > 0)
        else {
            continue;
        };
        let start = base + symbol.address();
        // SAFETY: the symbol's range lies in libc's text, which is mapped readable.
        let code = unsafe {
            std::slice::from_raw_parts(start as *const u8, symbol.size() as usize).to_vec()
        };
        // What calls, or jumps to its own start, would come back to the original.
        let Ok(copy) = relocate(&code, start, arena.base + CODE) else {
            continue;
        };
        arena.write(arena.base + CODE, &copy.bytes);
        let scratch = arena.base + SCRATCH;
        for first in [0, 1, 97, 0x8000_0000_0000_0000, u64::from(b'z')] {
            let mut arguments = State::seeded(7, scratch);
            arguments.gpr[7] = first;
            arguments.gpr[6] = 3;
            if !matches!(name, "ffsll" | "labs" | "toupper" | "div" | "ldiv") {
                // Pointers into the scratch memory.
                arguments.gpr[7] = scratch + 0x40;
                arguments.gpr[6] = if name == "memfrob" { 9 } else { scratch + 0x80 };
                arguments.gpr[2] = 8;
            }
            if name == "toupper" && first > 255 {
                continue;
            }
            let expected = arena.run(start, &arguments);
            let found = arena.run(arena.base + CODE, &arguments);
            let mut registers = found.0;
            registers.entry = expected.0.entry;
            assert_eq!(registers, expected.0, "{name}({first})");
            assert!(found.1 == expected.1, "{name}({first}): memory");
            moved += 1;
        }
    }
    assert!(moved > 0);
}

/// One random instruction, or a few that belong together.
#[derive(Clone, Debug)]
struct Random {
    kind: u8,
    a: usize,
    b: usize,
    value: i32,
}

fn random() -> impl Strategy<Value = Random> {
    (0..30u8, 0..12usize, 0..12usize, any::<i32>()).prop_map(|(kind, a, b, value)| Random {
        kind,
        a,
        b,
        value,
    })
}

fn write_random(a: &mut CodeAssembler, base: u64, sequence: &[Random]) -> Result<(), IcedError> {
    let registers = [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r13, r14, rbp];
    let xmms = [
        xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm14, xmm15,
    ];
    a.cmp(rax, rdx)?;
    let mut labels: Vec<(usize, CodeLabel)> = Vec::new();
    for (index, random) in sequence.iter().enumerate() {
        let (x, y) = (registers[random.a], registers[random.b]);
        let (v, w) = (xmms[random.a], xmms[random.b]);
        let place = (random.value & 0x78) as i64 + 0x180;
        // Only one label may stand before an instruction.
        let mut here: Vec<CodeLabel> = Vec::new();
        labels.retain(|(at, label)| {
            let due = *at <= index;
            if due {
                here.push(*label);
            }
            !due
        });
        for mut label in here {
            a.set_label(&mut label)?;
            a.nop()?;
        }
        let mut forward = |a: &mut CodeAssembler| {
            let label = a.create_label();
            labels.push((index + 1 + (random.value & 3) as usize, label));
            label
        };
        match random.kind {
            0 => a.add(x, y)?,
            1 => a.sbb(x, random.value)?,
            2 => a.mov(x, y)?,
            3 => a.mov(x, random.value as u64)?,
            4 => a.xor(x, x)?,
            5 => a.cmp(x, y)?,
            6 => a.lea(x, ptr(x + y * 2))?,
            7 => a.mov(qword_ptr(rbx + place), x)?,
            8 => a.adc(x, qword_ptr(rbx + place))?,
            9 => a.add_instruction(Instruction::with2(
                Code::Add_rm32_imm8,
                at(base + SCRATCH + place as u64),
                77,
            )?)?,
            10 => a.add_instruction(Instruction::with2(
                Code::Mov_r64_rm64,
                Register::from(x),
                at(base + SCRATCH + place as u64),
            )?)?,
            11 => {
                let label = forward(a);
                a.je(label)?;
            }
            12 => {
                let label = forward(a);
                a.jg(label)?;
            }
            13 => {
                let label = forward(a);
                a.jb(label)?;
            }
            14 => {
                let label = forward(a);
                a.jmp(label)?;
            }
            15 => {
                let label = forward(a);
                a.jrcxz(label)?;
            }
            16 => {
                let label = forward(a);
                a.loop_(label)?;
            }
            17 => {
                a.push(x)?;
                a.pop(y)?;
            }
            18 => a.call(base + CALLEE)?,
            19 => {
                a.mov(r12, base + CALLEE)?;
                a.call(r12)?;
            }
            20 => {
                a.mov(r12, base + CALLEE)?;
                a.push(r12)?;
                a.call(qword_ptr(rsp))?;
                a.pop(r12)?;
            }
            21 => a.mov(qword_ptr(rsp - 16 - (random.value & 0x38)), x)?,
            22 => {
                a.mov(qword_ptr(rsp - 24), x)?;
                a.inc(y)?;
                a.mov(x, qword_ptr(rsp - 24))?;
            }
            23 => a.paddd(v, w)?,
            24 => a.movups(xmmword_ptr(rbx + place), v)?,
            25 => a.movss(v, w)?,
            26 => a.cmovne(x, y)?,
            27 => a.shl(x, cl)?,
            28 => a.pxor(v, v)?,
            _ => a.nop()?,
        }
    }
    for (_, mut label) in labels {
        a.set_label(&mut label)?;
        a.nop()?;
    }
    a.ret()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the instructions, patched anywhere, with any snippets, the code does what it did.
    #[test]
    fn patched_code_does_what_it_did(
        sequence in proptest::collection::vec(random(), 1..24),
        seed in any::<u64>(),
        low in any::<bool>(),
    ) {
        let mut arena = Arena::new(low);
        let base = arena.base;
        let code = arena.assemble(CODE, |a| write_random(a, base, &sequence)).unwrap();
        compare(&mut arena, &code, seed)?;
    }
}
