//! Any bytes as notes and as links to other files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spile_fuzz::{Section, ask, elf};

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (marks, build_id, link, alternate, packed) = input;
    let sections = [
        Section::new(".note.stapsdt", &marks),
        Section::new(".note.gnu.build-id", &build_id),
        Section::new(".gnu_debuglink", &link),
        Section::new(".gnu_debugaltlink", &alternate),
        Section::new(".gnu_debugdata", &packed),
        Section::new(".debug_info", &[0; 4]),
    ];
    ask(elf(&sections), u64::MAX);
});
