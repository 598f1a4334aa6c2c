//! Definitions of derived metrics are read, or refused line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut metrics = pcp::derived::DerivedMetrics::default();
    metrics.read("fuzz", text, &mut Vec::new());
});
