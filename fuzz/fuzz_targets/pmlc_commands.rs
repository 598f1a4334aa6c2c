//! Commands of pmlc are read, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| tools::untrusted::pmlc_commands(text));
