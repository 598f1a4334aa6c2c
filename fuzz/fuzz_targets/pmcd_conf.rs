//! pmcd's configuration is parsed, or refused line by line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    let lines = text.lines().count().max(1) + 1;
    let (_, errors) = pmcd::config::parse(Path::new("fuzz"), text, Some(text));
    for error in errors {
        assert!(error.line <= lines, "{error}");
    }
});
