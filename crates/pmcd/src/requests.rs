//! Requests about single things, which one agent or the daemon itself answers.

use pcp::pdu::Pdu;
use pcp::{Desc, ErrorCode, Fetched, InDom, LabelLevel, Pmid, Semantics, Type, Units, ValueSet};

use crate::client::ClientInfo;
use crate::daemon::Daemon;

fn unexpected<T>(_: Pdu) -> Result<T, ErrorCode> {
    Err(ErrorCode::IPC)
}

/// A descriptor.
pub async fn desc(daemon: &Daemon, client: &ClientInfo, pmid: Pmid) -> Result<Desc, ErrorCode> {
    let answer = daemon.ask(pmid.domain(), client, Pdu::DescReq(pmid));
    match answer.await? {
        Pdu::Desc(desc) => Ok(desc),
        other => unexpected(other),
    }
}

/// Many descriptors. One that can't be had has a null PMID and zeros; if none can, that is the answer, unless names
/// without metrics were meant.
pub async fn descs(daemon: &Daemon, client: &ClientInfo, pmids: &[Pmid]) -> Result<Pdu, ErrorCode> {
    const NONE: Desc = Desc {
        pmid: Pmid::NULL,
        ty: Type::I32,
        indom: InDom(0),
        sem: Semantics::from_raw(0),
        units: Units::NONE,
    };
    let mut found = Vec::with_capacity(pmids.len());
    let mut failed = None;
    // Neighbours are of one agent, as a rule.
    for some in pmids.chunk_by(|a, b| a.domain() == b.domain()) {
        let domain = some.first().map_or(0, |p| p.domain());
        for desc in daemon.descs(domain, client, some).await {
            found.push(desc.unwrap_or_else(|code| {
                failed = Some(code);
                NONE
            }));
        }
    }
    let meant = pmids.len() < 2 || pmids.iter().any(|pmid| *pmid != Pmid::NULL);
    match failed {
        Some(code) if meant && found.iter().all(|d| d.pmid == Pmid::NULL) => Err(code),
        _ => Ok(Pdu::Descs(found)),
    }
}

/// A request that names one agent by its identifier.
pub async fn forward(daemon: &Daemon, client: &ClientInfo, request: Pdu) -> Result<Pdu, ErrorCode> {
    let domain = match &request {
        Pdu::InstanceReq { indom, .. } => indom.domain(),
        Pdu::TextReq { ident, kind } => {
            if kind.is_indom() {
                InDom(*ident).domain()
            } else {
                Pmid(*ident).domain()
            }
        }
        Pdu::LabelReq { ident, level } => match LabelLevel::from_raw(*level) {
            Some(LabelLevel::Context) => {
                return Ok(Pdu::Label {
                    ident: *ident,
                    level: *level,
                    sets: vec![daemon.context_labels(client)?],
                });
            }
            Some(LabelLevel::Domain) => *ident,
            Some(LabelLevel::InDom | LabelLevel::Instances) => InDom(*ident).domain(),
            Some(LabelLevel::Cluster | LabelLevel::Item) => Pmid(*ident).domain(),
            None => return Err(ErrorCode::IPC),
        },
        _ => return Err(ErrorCode::IPC),
    };
    daemon.ask(domain, client, request).await
}

/// Stores values of metrics of any agents, one agent after the other; the first failure is the answer.
pub async fn store(
    daemon: &Daemon,
    client: &ClientInfo,
    values: Fetched,
) -> Result<Pdu, ErrorCode> {
    let mut parts: Vec<(u32, Vec<ValueSet>)> = Vec::new();
    for set in values.sets {
        let domain = set.pmid.domain();
        match parts.iter_mut().find(|(d, _)| *d == domain) {
            Some((_, sets)) => sets.push(set),
            None => parts.push((domain, vec![set])),
        }
    }
    let mut failed = ErrorCode::OK;
    for (domain, sets) in parts {
        let time = values.time;
        let request = Pdu::Result(Fetched { time, sets });
        if let Err(code) = daemon.ask(domain, client, request).await
            && !failed.is_error()
        {
            failed = code;
        }
    }
    if failed.is_error() {
        return Err(failed);
    }
    Ok(Pdu::Error {
        code: ErrorCode::OK,
        info: None,
    })
}
