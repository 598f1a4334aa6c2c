//! A configuration of pmrep is read, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| tools::untrusted::pmrep_config(text));
