//! Any text where a mark's note has its operands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use symbols::{ImageAddr, sdt_operand};

fuzz_target!(|text: &str| {
    for operand in sdt_operand::split(text) {
        let _ = sdt_operand::parse(operand, &|name| {
            (name.len() < 4).then_some(ImageAddr(0x1000))
        });
    }
});
