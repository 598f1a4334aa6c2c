//! pmdalogger's configuration is parsed, or refused with a line of it; what was parsed can be written and parsed again.
#![no_main]

use agents::logger::{ConfigError, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(sources) => {
            let lines = sources.iter().map(|source| {
                let restricted = if source.restricted { 'y' } else { 'n' };
                format!("{} {restricted} {}\n", source.name, source.path)
            });
            let again = parse(&lines.collect::<String>());
            assert_eq!(again.as_ref(), Ok(&sources));
        }
        Err(
            ConfigError::Name(line, _)
            | ConfigError::Again(line, _)
            | ConfigError::Restricted(line, _)
            | ConfigError::Path(line, _),
        ) => assert!((1..=text.lines().count()).contains(&line)),
    }
});
