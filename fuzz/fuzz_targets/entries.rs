//! Any bytes as debugging entries, their abbreviations and strings, in one unit or split.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spile_fuzz::{Section, ask, elf};

fuzz_target!(
    |input: (bool, u8, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| {
        let (searched, version, entries, abbreviations, strings, offsets, lists) = input;
        let mut unit = match version & 3 {
            0 => vec![5, 0, 1, 8, 0, 0, 0, 0],
            1 => vec![4, 0, 0, 0, 0, 0, 8],
            2 => vec![3, 0, 0, 0, 0, 0, 8],
            _ => Vec::new(),
        };
        unit.extend_from_slice(&entries);
        let mut info = (unit.len() as u32).to_le_bytes().to_vec();
        info.extend_from_slice(&unit);
        let sections = [
            Section::new(".debug_info", &info),
            Section::new(".debug_abbrev", &abbreviations),
            Section::new(".debug_str", &strings),
            Section::new(".debug_str_offsets", &offsets),
            Section::new(".debug_rnglists", &lists),
            Section::new(".debug_aranges", &lists),
            Section::new(".debug_addr", &offsets),
        ];
        ask(elf(&sections), if searched { 0 } else { u64::MAX });
    }
);
