//! A configuration of pmlogger is read, or refused with a line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| tools::untrusted::pmlogger_config(text));
