//! Any text as the predicate of hot processes.
#![no_main]

use agents::proc::predicate::{Facts, Predicate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(Some(predicate)) = Predicate::parse(text) {
        let _ = predicate.holds(&Facts::default());
        let shown = predicate.to_string();
        // Patterns are shown as texts are.
        if !shown.contains('~') {
            let again = Predicate::parse(&shown).expect("what is shown is a predicate");
            assert_eq!(again.map(|p| p.to_string()), Some(shown));
        }
    }
});
