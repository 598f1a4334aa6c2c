//! The agent `sample`.

use pcp::{Atom, ErrorCode};
use spile_tests::pcp_peer::Pmcd;
use spile_tests::{Scratch, spile_path, until};

use super::{context, debian_pmcd, number, our_pmcd, pmid, store};

const NAMES: &str = "\
root { sample }
sample { control 29:0:0  colour 29:0:5  not_ready 29:0:56 }
";

#[test]
fn an_agent_that_is_not_ready_says_so_and_when_it_is() {
    for (name, command) in [("theirs", debian_pmcd()), ("ours", our_pmcd())] {
        let scratch = Scratch::new(&format!("agents-not-ready-{name}"));
        let config = format!(
            "sample 29 pipe binary {} pmdasample\n",
            spile_path().display()
        );
        let pmcd = Pmcd::start(scratch, command, &config, NAMES);
        let mut client = context(&pmcd);
        let colour = pmid(&mut client, "sample.colour");
        store(&mut client, "sample.not_ready", Atom::I32(1)).expect("stored");
        // The first is lost, others are told while it sleeps.
        for _ in 0..2 {
            let answer = client.desc(colour).map_err(|error| error.code());
            assert_eq!(answer.err(), Some(ErrorCode::AGAIN), "{name}");
        }
        until("it is ready", || client.desc(colour).is_ok());
        assert_eq!(number(&mut client, "sample.not_ready"), 0);

        store(&mut client, "sample.control", Atom::I32(-1)).expect("stored");
        until("it has ended", || client.desc(colour).is_err());
    }
}
