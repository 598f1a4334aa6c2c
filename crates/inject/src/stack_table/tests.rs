//! The table against gimli's own evaluation of the same unwind information, on real files; and damaged tables.

use super::{TableParts, encode, extent};
use crate::backtrace::{add_module, new_directory};
use gimli::{
    BaseAddresses, CfaRule, EhFrame, EndianSlice, LittleEndian, Register, RegisterRule,
    UnwindContext, UnwindSection, X86_64,
};
use proptest::prelude::*;
use runtime::stack::memory::Memory;
use runtime::stack::table::PRESERVED;
use runtime::stack::walk::{Step, Walk};
use std::path::Path;
use symbols::Binary;

/// Where the module is mapped in these tests.
const BASE: u64 = 0x2000_0000;

/// Memory in which every word is a number of its own, above all stack pointers.
struct Words;

fn word(address: u64) -> u64 {
    0x7700_0000_0000 + (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20 & 0xffff_fff8)
}

impl Memory for Words {
    fn word(&mut self, address: u64) -> Option<u64> {
        Some(word(address))
    }
}

/// Each register another value; rsp is the lowest, as the frames above it stand higher.
fn registers(pc: u64) -> [u64; 18] {
    let mut registers = [0; 18];
    for (n, register) in registers.iter_mut().enumerate() {
        *register = 0x7600_0000_0000 + n as u64 * 0x10_0000;
    }
    registers[4] = 0x7500_0000_0000;
    registers[16] = pc;
    registers
}

/// DWARF's numbers of PRESERVED.
const DWARF: [Register; 6] = [
    X86_64::RBX,
    X86_64::RBP,
    X86_64::R12,
    X86_64::R13,
    X86_64::R14,
    X86_64::R15,
];

fn value(registers: &[u64; 18], register: Register) -> u64 {
    const ORDER: [usize; 8] = [0, 2, 1, 3, 6, 7, 5, 4];
    let number = usize::from(register.0);
    registers[*ORDER.get(number).unwrap_or(&number)]
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

fn evaluate(expression: Slice<'_>, registers: &[u64; 18], first: Option<u64>) -> Option<u64> {
    let encoding = gimli::Encoding {
        address_size: 8,
        format: gimli::Format::Dwarf32,
        version: 4,
    };
    let mut evaluation = gimli::Expression(expression).evaluation(encoding);
    if let Some(first) = first {
        evaluation.set_initial_value(first);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            gimli::EvaluationResult::Complete => break,
            gimli::EvaluationResult::RequiresRegister { register, .. } => evaluation
                .resume_with_register(gimli::Value::Generic(value(registers, register)))
                .ok()?,
            gimli::EvaluationResult::RequiresMemory { address, .. } => evaluation
                .resume_with_memory(gimli::Value::Generic(word(address)))
                .ok()?,
            _ => return None,
        };
    }
    match evaluation.result().first()?.location {
        gimli::Location::Address { address } => Some(address),
        _ => None,
    }
}

/// What gimli makes of a row: frame address, return address, preserved registers; `None` where there is no caller.
fn expected<'a>(
    row: &gimli::UnwindTableRow<usize>,
    section: &EhFrame<Slice<'a>>,
    registers: &[u64; 18],
) -> Option<(u64, u64, [Option<u64>; 6])> {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => {
            value(registers, *register).wrapping_add_signed(*offset)
        }
        CfaRule::Expression(e) => evaluate(e.get(section).ok()?.0, registers, None)?,
    };
    // What would be below the stack pointer before a return has been restored.
    let is_restored = |offset: i64| cfa == registers[4].wrapping_add(8) && offset < -8;
    let saved = |register: Register| match row.register(register) {
        Some(RegisterRule::Offset(offset)) if is_restored(offset) => {
            Some(value(registers, register))
        }
        None | Some(RegisterRule::SameValue) => Some(value(registers, register)),
        Some(RegisterRule::Offset(offset)) => Some(word(cfa.wrapping_add_signed(offset))),
        Some(RegisterRule::Register(other)) => Some(value(registers, other)),
        Some(RegisterRule::Expression(e)) => Some(word(evaluate(
            e.get(section).ok()?.0,
            registers,
            Some(cfa),
        )?)),
        _ => None,
    };
    row.register(X86_64::RA)?;
    // longjmp, on its way out of the frame.
    if row.register(X86_64::RSP).is_some() {
        return None;
    }
    Some((cfa, saved(X86_64::RA)?, DWARF.map(saved)))
}

fn compare(path: &str) -> usize {
    let path = Path::new(path);
    let binary = Binary::open(path).unwrap_or_else(|e| panic!("{e}"));
    let (low, size) = extent(&binary).expect("segments");
    let table = encode(&binary, path, TableParts::FRAMES).expect("a table");
    let directory = new_directory();
    let (start, len) = (table.as_ptr() as u64, table.len() as u64);
    assert!(add_module(&directory, &(BASE..BASE + size), start, len));
    let bytes = std::fs::read(path).expect("the file");
    let section = binary.sections().iter().find(|s| s.name == ".eh_frame");
    let section = section.expect("an .eh_frame");
    let from = section.file_offset.0 as usize;
    let data = &bytes[from..from + section.size as usize];
    let eh_frame = EhFrame::new(data, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address.0);
    let mut context = UnwindContext::new();
    let mut entries = eh_frame.entries(&bases);
    let mut compared = 0;
    while let Ok(Some(entry)) = entries.next() {
        let gimli::CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let fde = partial.parse(EhFrame::cie_from_offset).expect("an entry");
        // The kernel's frames are not read by these rules.
        if fde.is_signal_trampoline() {
            continue;
        }
        let mut rows = fde.rows(&eh_frame, &bases, &mut context).expect("rows");
        while let Ok(Some(row)) = rows.next_row() {
            for address in [row.start_address(), row.end_address() - 1] {
                let pc = address - low + BASE;
                let registers = registers(pc);
                // SAFETY: 18 words; the table lives longer than the walk.
                let mut walk = unsafe { Walk::new(&directory, registers.as_ptr(), Words) };
                let step = walk.step();
                // Expressions are given the address in this file, as gimli is.
                let mut in_file = registers;
                in_file[16] = address;
                match expected(row, &eh_frame, &in_file) {
                    Some((cfa, target, preserved)) => {
                        assert_eq!(step, Step::Caller, "{address:#x} {row:?}");
                        assert_eq!(walk.value(4), Some(cfa), "{address:#x} {row:?}");
                        assert_eq!(walk.address(), target, "{address:#x} {row:?}");
                        for (number, value) in PRESERVED.iter().zip(preserved) {
                            assert_eq!(walk.value(*number), value, "{number} {address:#x} {row:?}");
                        }
                    }
                    None => assert_eq!(step, Step::End, "{address:#x} {row:?}"),
                }
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn every_row_of_libc_libstdcxx_and_python_is_as_gimli_has_it() {
    let libraries = Path::new("/usr/lib/x86_64-linux-gnu");
    for (path, least) in [
        (libraries.join("libc.so.6"), 20_000),
        (libraries.join("libstdc++.so.6"), 20_000),
        ("/usr/bin/python3.11".into(), 20_000),
        (libraries.join("ld-linux-x86-64.so.2"), 1000),
    ] {
        let compared = compare(&path.to_string_lossy());
        assert!(compared >= least, "{}: {compared}", path.display());
    }
}

proptest! {
    #[test]
    fn damaged_tables_end_walks(
        damage in prop::collection::vec((0usize..20_000, any::<u8>()), 1..60),
        offset in 0u64..200_000,
    ) {
        let path = Path::new("/bin/true");
        let binary = Binary::open(path).expect("/bin/true");
        let parts = TableParts { frames: true, symbols: true, lines: false };
        let mut table = encode(&binary, path, parts).expect("a table");
        for (at, byte) in damage {
            // The first word says that it is a table.
            let at = 4 + at % (table.len() - 4);
            table[at] = byte;
        }
        let directory = new_directory();
        let (start, len) = (table.as_ptr() as u64, table.len() as u64);
        assert!(add_module(&directory, &(BASE..BASE + (1 << 32)), start, len));
        let registers = registers(BASE + offset);
        // SAFETY: 18 words; the table lives longer than the walk; the buffer has that size.
        unsafe {
            let mut walk = Walk::new(&directory, registers.as_ptr(), Words);
            let mut steps = 0;
            while steps < 100 && walk.step() == Step::Caller {
                steps += 1;
            }
            let mut text = [0; 64];
            for style in 0..7 {
                let mut buffer = runtime::string::Buffer::new(text.as_mut_ptr(), 64);
                runtime::stack::name::describe(&directory, BASE + offset, style, &mut buffer);
            }
        }
    }
}
