//! Any file instead of a binary: functions, unwind tables, SDT notes and DWARF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use symbols::Binary;

fuzz_target!(|bytes: &[u8]| {
    let Ok(binary) = Binary::from_bytes("input", bytes.to_vec()) else {
        return;
    };
    for mark in binary.marks() {
        binary.read_data(mark.pc, 8);
    }
    binary.mark_errors();
    for function in binary.functions() {
        function.demangled();
        binary.code_bytes(function.address..function.end());
    }
    binary.function_ranges();
    binary.landing_pads();
    binary.code_pointers();
    binary.similar_names("main", 3);
    if let Ok(functions) = binary.dwarf_functions_matching("*") {
        for function in &functions {
            let _ = binary.parameters(function);
        }
    }
});
