//! Any bytes as an index of names that a former run left, with and without right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, &[u8])| {
    let (checked, bytes) = input;
    symbols::fuzzing::index_file(bytes, checked);
});
