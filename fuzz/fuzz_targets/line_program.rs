//! Any bytes as a line program, of a unit with one function.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spile_fuzz::{CODE, Section, ask, elf};

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>)| {
    let (five, lines, strings) = input;
    // A unit: statement list, low and high address; a function: name, file, line, low and high address.
    let abbreviations = [
        1, 0x11, 1, 0x10, 0x17, 0x11, 0x01, 0x12, 0x06, 0, 0, 2, 0x2e, 0, 0x03, 0x08, 0x3a, 0x0b,
        0x3b, 0x0b, 0x11, 0x01, 0x12, 0x06, 0, 0, 0,
    ];
    let mut entries = vec![1, 0, 0, 0, 0];
    let code = |entries: &mut Vec<u8>| {
        entries.extend_from_slice(&CODE.to_le_bytes());
        entries.extend_from_slice(&0x100u32.to_le_bytes());
    };
    code(&mut entries);
    entries.extend_from_slice(&[2, b'f', 0, 1, 3]);
    code(&mut entries);
    entries.push(0);
    let mut unit = match five {
        true => vec![5, 0, 1, 8, 0, 0, 0, 0],
        false => vec![4, 0, 0, 0, 0, 0, 8],
    };
    unit.extend_from_slice(&entries);
    let mut info = (unit.len() as u32).to_le_bytes().to_vec();
    info.extend_from_slice(&unit);
    let sections = [
        Section::new(".debug_info", &info),
        Section::new(".debug_abbrev", &abbreviations),
        Section::new(".debug_line", &lines),
        Section::new(".debug_line_str", &strings),
    ];
    ask(elf(&sections), u64::MAX);
});
