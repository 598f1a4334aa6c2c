//! Whatever the other end of an authentication says is answered or refused, and nobody is known who has not said the password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcp::sasl::{ClientExchange, Mechanism, ServerExchange, Step};

fuzz_target!(|data: &[u8]| {
    let passwords = |user: &str| (user == "u").then(|| b"a password that is not guessed".to_vec());
    for mechanism in Mechanism::ALL {
        let mut messages = data.split(|b| *b == b'\n');
        let first = messages.next().unwrap_or_default();
        if let Ok((mut exchange, mut step)) = ServerExchange::start(mechanism, first, &passwords) {
            for message in messages.clone() {
                assert!(step != Step::Done);
                match exchange.step(message, &passwords) {
                    Ok(next) => step = next,
                    Err(_) => break,
                }
            }
            assert!(step != Step::Done);
        }
        if let Ok((mut exchange, _)) = ClientExchange::start(mechanism, "u", "p") {
            for message in data.split(|b| *b == b'\n') {
                if exchange.is_done() || exchange.step(message).is_err() {
                    break;
                }
            }
        }
    }
});
