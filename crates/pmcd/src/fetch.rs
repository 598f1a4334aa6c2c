//! Fetches: split among the agents, asked all at once, put together again.

use std::rc::Rc;

use futures_util::future::join_all;
use pcp::pdu::{Pdu, Profile};
use pcp::{ErrorCode, Fetched, Pmid, Timestamp, ValueSet};

use crate::client::ClientInfo;
use crate::daemon::Daemon;

/// The values of metrics of any agents, in the order asked for.
pub async fn fetch(
    daemon: &Daemon,
    client: &ClientInfo,
    profile: &Rc<Profile>,
    pmids: &[Pmid],
) -> Fetched {
    let one_domain = pmids.first().map(|p| p.domain());
    let sets = if pmids.iter().all(|p| Some(p.domain()) == one_domain) {
        ask(daemon, client, profile, pmids.to_vec()).await
    } else {
        let mut parts: Vec<(u32, Vec<usize>)> = Vec::new();
        for (at, pmid) in pmids.iter().enumerate() {
            match parts.iter_mut().find(|(d, _)| *d == pmid.domain()) {
                Some((_, places)) => places.push(at),
                None => parts.push((pmid.domain(), vec![at])),
            }
        }
        let asked = parts.iter().map(|(_, places)| {
            let part = places.iter().filter_map(|at| pmids.get(*at)).copied();
            ask(daemon, client, profile, part.collect())
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
    Fetched {
        time: Timestamp::now(),
        sets,
    }
}

/// The values of metrics of one agent.
async fn ask(
    daemon: &Daemon,
    client: &ClientInfo,
    profile: &Rc<Profile>,
    pmids: Vec<Pmid>,
) -> Vec<ValueSet> {
    let Some(first) = pmids.first() else {
        return Vec::new();
    };
    let failed = |code: ErrorCode| pmids.iter().map(|p| ValueSet::error(*p, code)).collect();
    let request = Pdu::Fetch {
        context: client.number,
        pmids: pmids.clone(),
    };
    let answer = daemon
        .ask(first.domain(), client, Some(Rc::clone(profile)), request)
        .await;
    match answer {
        Ok(Pdu::Result(found)) if found.sets.len() == pmids.len() => found.sets,
        Ok(_) => failed(ErrorCode::IPC),
        Err(code) => failed(code),
    }
}
