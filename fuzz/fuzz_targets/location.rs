//! Any bytes as the places of variables: expressions and lists of them, and the frame base.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spile_fuzz::{CODE, Section, ask, elf};

fuzz_target!(|input: (bool, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (five, mut place, mut base, lists, frames) = input;
    place.truncate(255);
    base.truncate(255);
    // A unit: low and high address. A function: name, low and high address, frame base (exprloc). A parameter: name, type,
    // place (exprloc). A variable: the same (location list). A base type: name, size, encoding.
    let abbreviations = [
        1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0, 0, //
        2, 0x2e, 1, 0x03, 0x08, 0x11, 0x01, 0x12, 0x06, 0x40, 0x18, 0, 0, //
        3, 0x05, 0, 0x03, 0x08, 0x49, 0x13, 0x02, 0x18, 0, 0, //
        4, 0x34, 0, 0x03, 0x08, 0x49, 0x13, 0x02, 0x17, 0, 0, //
        5, 0x24, 0, 0x03, 0x08, 0x0b, 0x0b, 0x3e, 0x0b, 0, 0, 0,
    ];
    let mut unit = match five {
        true => vec![5, 0, 1, 8, 0, 0, 0, 0],
        false => vec![4, 0, 0, 0, 0, 0, 8],
    };
    let code = |unit: &mut Vec<u8>| {
        unit.extend_from_slice(&CODE.to_le_bytes());
        unit.extend_from_slice(&0x100u32.to_le_bytes());
    };
    unit.push(1);
    code(&mut unit);
    // The type's entry, from the start of the unit, its length included.
    let integer = (4 + unit.len()) as u32;
    unit.extend_from_slice(&[5, b'i', 0, 8, 5]);
    let typed = |unit: &mut Vec<u8>| unit.extend_from_slice(&integer.to_le_bytes());
    unit.extend_from_slice(&[2, b'f', 0]);
    code(&mut unit);
    unit.push(base.len() as u8);
    unit.extend_from_slice(&base);
    unit.extend_from_slice(&[3, b'p', 0]);
    typed(&mut unit);
    unit.push(place.len() as u8);
    unit.extend_from_slice(&place);
    unit.extend_from_slice(&[4, b'v', 0]);
    typed(&mut unit);
    // Behind the header of the lists.
    unit.extend_from_slice(&12u32.to_le_bytes());
    unit.extend_from_slice(&[0, 0]);
    let mut info = (unit.len() as u32).to_le_bytes().to_vec();
    info.extend_from_slice(&unit);
    let mut table = (lists.len() as u32 + 8).to_le_bytes().to_vec();
    table.extend_from_slice(&[5, 0, 8, 0, 0, 0, 0, 0]);
    table.extend_from_slice(&lists);
    let sections = [
        Section::at(".eh_frame", CODE + 0x1000, &frames),
        Section::new(".debug_info", &info),
        Section::new(".debug_abbrev", &abbreviations),
        Section::new(
            if five {
                ".debug_loclists"
            } else {
                ".debug_loc"
            },
            &table,
        ),
    ];
    ask(elf(&sections), u64::MAX);
});
