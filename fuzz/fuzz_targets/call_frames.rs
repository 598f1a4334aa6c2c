//! Any bytes as unwind tables: `.eh_frame`, the table to search it by, `.debug_frame` and what languages say of landing pads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spile_fuzz::{CODE, CODE_SIZE, Section, ask, elf};

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)| {
    let (mut frames, mut header, mut pads, debug) = input;
    for bytes in [&mut frames, &mut header, &mut pads] {
        bytes.truncate(0x1000);
    }
    let sections = [
        Section::at(".eh_frame_hdr", CODE + CODE_SIZE, &header),
        Section::at(".eh_frame", CODE + CODE_SIZE + 0x1000, &frames),
        Section::at(".gcc_except_table", CODE + CODE_SIZE + 0x2000, &pads),
        Section::new(".debug_frame", &debug),
    ];
    ask(elf(&sections), u64::MAX);
});
