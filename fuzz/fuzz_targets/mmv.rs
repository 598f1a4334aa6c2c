//! Any bytes as the file that an instrumented program maps.
#![no_main]

use agents::mmv::format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = format::parse(bytes) {
        for value in &file.values {
            let _ = format::string_at(bytes, value.extra);
        }
    }
});
