//! Fetches: split among the agents, asked all at once, put together again.

use std::rc::Rc;

use futures_util::future::join_all;
use pcp::pdu::{Pdu, Profile, RawResult};
use pcp::{ErrorCode, Fetched, Pmid, Timestamp, Value, ValueSet};

use crate::agent::{Answer, Request};
use crate::client::ClientInfo;
use crate::daemon::Daemon;

/// The most bytes of values that one fetch may bring.
const MOST: usize = 64 << 20;

/// What a fetch brings.
pub enum Values {
    /// Of agents in this process, or of several.
    Sets(Fetched),
    /// Of one agent, as they came.
    Raw(RawResult),
}

/// The values of metrics of any agents, in the order asked for.
///
/// # Errors
/// `PM_ERR_TOOBIG` when they are too many.
pub async fn fetch(
    daemon: &Daemon,
    client: &ClientInfo,
    profile: &Rc<Profile>,
    pmids: &[Pmid],
) -> Result<Values, ErrorCode> {
    let one_domain = pmids.first().map(|p| p.domain());
    let sets = if pmids.iter().all(|p| Some(p.domain()) == one_domain) {
        match ask(daemon, client, profile, pmids, false).await {
            Values::Raw(raw) => return Ok(Values::Raw(raw)),
            Values::Sets(fetched) => fetched.sets,
        }
    } else {
        let mut parts: Vec<(u32, Vec<usize>)> = Vec::new();
        for (at, pmid) in pmids.iter().enumerate() {
            match parts.iter_mut().find(|(d, _)| *d == pmid.domain()) {
                Some((_, places)) => places.push(at),
                None => parts.push((pmid.domain(), vec![at])),
            }
        }
        let asked = parts.iter().map(async |(_, places)| {
            let part = places.iter().filter_map(|at| pmids.get(*at)).copied();
            let part: Vec<Pmid> = part.collect();
            match ask(daemon, client, profile, &part, true).await {
                Values::Sets(fetched) => fetched.sets,
                Values::Raw(raw) => match raw.decode() {
                    Ok(fetched) => fetched.sets,
                    Err(_) => all_failed(&part, ErrorCode::IPC),
                },
            }
        });
        let mut sets: Vec<Option<ValueSet>> = vec![None; pmids.len()];
        for ((_, places), found) in parts.iter().zip(join_all(asked).await) {
            for (place, set) in places.iter().zip(found) {
                if let Some(slot) = sets.get_mut(*place) {
                    *slot = Some(set);
                }
            }
        }
        sets.into_iter().flatten().collect()
    };
    let values = sets.iter().flat_map(ValueSet::instances);
    let bytes = values.map(|value| match &value.value {
        Value::Insitu(_) => 8,
        Value::Block(block) => 12 + block.bytes.len(),
    });
    if bytes.sum::<usize>() > MOST {
        return Err(ErrorCode::TOOBIG);
    }
    Ok(Values::Sets(Fetched {
        time: Timestamp::now(),
        sets,
    }))
}

fn all_failed(pmids: &[Pmid], code: ErrorCode) -> Vec<ValueSet> {
    pmids.iter().map(|p| ValueSet::error(*p, code)).collect()
}

/// The values of metrics of one agent, `shared` when others are asked as well.
async fn ask(
    daemon: &Daemon,
    client: &ClientInfo,
    profile: &Rc<Profile>,
    pmids: &[Pmid],
    shared: bool,
) -> Values {
    let sets = |sets| {
        Values::Sets(Fetched {
            time: Timestamp::default(),
            sets,
        })
    };
    let Some(first) = pmids.first() else {
        return sets(Vec::new());
    };
    let request = Request {
        client,
        profile: Some(Rc::clone(profile)),
        pdu: Pdu::Fetch {
            context: client.number,
            pmids: pmids.to_vec(),
        },
        raw: Some(pmids),
        shared,
    };
    let answer = daemon.request(first.domain(), request).await;
    let same = |found: &Fetched| {
        let found = found.sets.iter().map(|set| set.pmid);
        found.eq(pmids.iter().copied())
    };
    match answer {
        Ok(Answer::Raw(raw)) => Values::Raw(raw),
        Ok(Answer::Pdu(Pdu::Result(found))) if same(&found) => Values::Sets(found),
        Ok(_) => sets(all_failed(pmids, ErrorCode::IPC)),
        Err(code) => sets(all_failed(pmids, code)),
    }
}
