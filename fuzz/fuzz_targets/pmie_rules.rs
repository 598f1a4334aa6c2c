//! Rules of pmie are read, or refused with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| tools::untrusted::pmie_rules(text));
