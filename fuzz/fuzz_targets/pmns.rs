//! A name space file is parsed or refused with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pmns) = pcp::pmns::Pmns::parse(text, "fuzz", &mut |_| Some(text.to_owned())) {
        for (name, pmid) in pmns.leaves(b"").unwrap_or_default() {
            assert!(pmns.names_of(pmid).contains(&name));
        }
    }
});
