//! The loop of an agent that pmcd started with a pair of pipes.

use std::io::{self, Read, Write};

use bytes::BytesMut;
use pcp::SERVER_LIMIT;
use pcp::pdu::{Cred, Features, HEADER_LEN, Header, Pdu};

use crate::agent::Agent;
use crate::answer::Answerer;

/// Serves the pmcd at the other ends of standard input and output until it goes.
///
/// # Errors
/// What the system says, or that what came were no PDUs.
pub fn serve(agent: &mut dyn Agent) -> io::Result<()> {
    serve_over(agent, &mut io::stdin().lock(), &mut io::stdout().lock())
}

/// The same over any pair of streams.
///
/// # Errors
/// As [`serve`].
pub fn serve_over(
    agent: &mut dyn Agent,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> io::Result<()> {
    let mut out = Vec::new();
    // Who a client is is told only to those that say that they want to know (PCP's PDU_FLAG_AUTH and _CONTAINER).
    let wanted = Features::AUTH
        .with(Features::CONTAINER)
        .with(Features::LABELS);
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    Pdu::Creds(vec![Cred::version(wanted)]).encode(pid, &mut out);
    output.write_all(&out)?;
    output.flush()?;
    let mut answerer = Answerer::new();
    let mut buffer = BytesMut::new();
    loop {
        let Some((header, pdu)) = next(input, &mut buffer)? else {
            return Ok(());
        };
        if let Some(answer) = answerer.answer(agent, header.from, pdu) {
            out.clear();
            answer.encode(0, &mut out);
            output.write_all(&out)?;
            output.flush()?;
        }
    }
}

fn next(input: &mut dyn Read, buffer: &mut BytesMut) -> io::Result<Option<(Header, Pdu)>> {
    let mut need = HEADER_LEN;
    loop {
        if let Some(header) = Header::decode(buffer, SERVER_LIMIT).map_err(io::Error::other)? {
            need = header.length;
            if buffer.len() >= need {
                let frame = buffer.split_to(need).freeze();
                return Pdu::decode(&frame).map(Some).map_err(io::Error::other);
            }
        }
        let have = buffer.len();
        let room = need.saturating_sub(have).clamp(4096, 1 << 20);
        buffer.resize(have + room, 0);
        let got = loop {
            match input.read(buffer.get_mut(have..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        buffer.truncate(have + got);
        if got == 0 {
            return Ok(None);
        }
    }
}
