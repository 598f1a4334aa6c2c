//! A table for walking stacks may hold anything, and so may the stack: a walk ends, and reads nothing but both.
#![no_main]

use std::sync::atomic::Ordering::Relaxed;

use libfuzzer_sys::fuzz_target;
use runtime::stack::memory::Memory;
use runtime::stack::name::{describe, style};
use runtime::stack::table::{Directory, MAGIC};
use runtime::stack::walk::{Step, Walk};
use runtime::string::Buffer;

/// Where the module that the table is about seems to be.
const MODULE: u64 = 0x4000_0000;

struct Words(Vec<u64>);

impl Memory for Words {
    fn word(&mut self, address: u64) -> Option<u64> {
        let index = usize::try_from(address / 8).ok()? % (self.0.len() + 1);
        self.0.get(index).copied()
    }
}

fuzz_target!(|input: ([u64; 18], Vec<u64>, Vec<u8>, u32)| {
    let (mut registers, words, mut table, offset) = input;
    if let Some(magic) = table.get_mut(..4) {
        magic.copy_from_slice(&MAGIC.to_le_bytes());
    }
    registers[16] = MODULE + u64::from(offset);
    // SAFETY: all of it is numbers, for which zero is valid.
    let directory: Box<Directory> = unsafe { Box::new_zeroed().assume_init() };
    let entry = &directory.modules[0];
    entry.start.store(MODULE, Relaxed);
    entry.end.store(MODULE + (1 << 32), Relaxed);
    entry.table.store(table.as_ptr() as u64, Relaxed);
    entry.table_len.store(table.len() as u64, Relaxed);
    directory.count.store(1, Relaxed);
    // SAFETY: 18 words; the table lives longer than the walk; the buffer has that size.
    unsafe {
        let mut walk = Walk::new(&directory, registers.as_ptr(), Words(words));
        for _ in 0..1000 {
            if walk.step() == Step::End {
                break;
            }
        }
        let mut text = [0; 300];
        for style in [
            style::NAME,
            style::DATA,
            style::SIMPLE,
            style::MODULE,
            style::FILE_LINE,
        ] {
            let mut buffer = Buffer::new(text.as_mut_ptr(), 300);
            describe(&directory, registers[16], style, &mut buffer);
        }
    }
});
