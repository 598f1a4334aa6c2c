//! Any file instead of a binary: functions, unwind tables, SDT notes and DWARF.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // A flag that is no part of the file: whether its names are searched for or all decoded.
    let (large_from, bytes) = match bytes.split_last() {
        Some((last, rest)) if last & 1 == 1 => (0, rest),
        _ => (u64::MAX, bytes),
    };
    spile_fuzz::ask(bytes.to_vec(), large_from);
});
