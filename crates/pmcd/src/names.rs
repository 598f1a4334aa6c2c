//! The name space: the daemon's own file, and the agents for the subtrees that they keep themselves.

use pcp::pdu::Pdu;
use pcp::pmns::{Place, Pmns};
use pcp::{ErrorCode, Pmid, Text};

use crate::client::ClientInfo;
use crate::daemon::Daemon;

/// The agent whose dynamic subtree a name is in. The root of such a subtree names it by its cluster.
fn dynamic_domain(daemon: &Daemon, name: &[u8]) -> Option<u32> {
    let (_, root) = daemon.pmns.borrow().enclosing_leaf(name)?;
    root.is_dynamic_root().then(|| root.cluster())
}

async fn ask(
    daemon: &Daemon,
    client: &ClientInfo,
    domain: u32,
    request: Pdu,
) -> Result<Pdu, ErrorCode> {
    daemon.ask(domain, client, request).await
}

/// The metrics of names, and how many were found. A name without one has a null PMID; where one name alone has none, the
/// answer is an error.
pub async fn lookup(
    daemon: &Daemon,
    client: &ClientInfo,
    names: &[Text],
) -> Result<Pdu, ErrorCode> {
    let mut pmids = Vec::with_capacity(names.len());
    let mut found = 0;
    let mut failed = ErrorCode::NAME;
    for name in names {
        let place = daemon.pmns.borrow().lookup(name);
        let meant = match place {
            Ok(Place::Leaf(pmid)) if !pmid.is_dynamic_root() => Ok(pmid),
            Ok(Place::Node) => Err(ErrorCode::NONLEAF),
            _ => match dynamic_domain(daemon, name) {
                Some(domain) => {
                    let request = Pdu::PmnsNames {
                        names: vec![name.clone()],
                        status: Vec::new(),
                    };
                    match ask(daemon, client, domain, request).await {
                        Ok(Pdu::PmnsIds { pmids, .. }) => {
                            let pmid = pmids.first().copied().filter(|p| *p != Pmid::NULL);
                            pmid.ok_or(ErrorCode::NAME)
                        }
                        Ok(_) => Err(ErrorCode::IPC),
                        Err(code) => Err(code),
                    }
                }
                None => Err(ErrorCode::NAME),
            },
        };
        pmids.push(match meant {
            Ok(pmid) => {
                found += 1;
                pmid
            }
            Err(code) => {
                failed = code;
                Pmid::NULL
            }
        });
    }
    if found == 0 && names.len() == 1 {
        return Err(failed);
    }
    Ok(Pdu::PmnsIds {
        status: found,
        pmids,
    })
}

/// The names of a metric in the daemon's own name space, the last in the order of the tree first, as PCP's pmcd has them.
fn names_in(pmns: &Pmns, pmid: Pmid) -> Vec<Text> {
    let mut names = pmns.names_of(pmid);
    if names.len() > 1
        && let Ok(leaves) = pmns.leaves(b"")
    {
        let found = leaves.into_iter().rev().filter(|(_, p)| *p == pmid);
        names = found.map(|(name, _)| name).collect();
    }
    names
}

/// The names of a metric.
pub async fn names_of(daemon: &Daemon, client: &ClientInfo, pmid: Pmid) -> Result<Pdu, ErrorCode> {
    let names = names_in(&daemon.pmns.borrow(), pmid);
    if !names.is_empty() {
        return Ok(Pdu::PmnsNames {
            names,
            status: Vec::new(),
        });
    }
    let request = Pdu::PmnsIds {
        status: 0,
        pmids: vec![pmid],
    };
    match ask(daemon, client, pmid.domain(), request).await {
        Ok(answer @ Pdu::PmnsNames { .. }) => Ok(answer),
        Ok(_) | Err(ErrorCode::NAME | ErrorCode::NOAGENT) => Err(ErrorCode::PMID),
        Err(code) => Err(code),
    }
}

/// The names directly below one.
pub async fn children(
    daemon: &Daemon,
    client: &ClientInfo,
    name: &Text,
    with_status: bool,
) -> Result<Pdu, ErrorCode> {
    if let Some(domain) = dynamic_domain(daemon, name) {
        let name = name.clone();
        let request = Pdu::PmnsChild { name, with_status };
        return ask(daemon, client, domain, request).await;
    }
    let found = daemon.pmns.borrow().children(name)?;
    let is_node = |place: &Place| match place {
        Place::Leaf(pmid) => pmid.is_dynamic_root(),
        Place::Node => true,
    };
    let status = found.iter().map(|(_, place)| i32::from(is_node(place)));
    Ok(Pdu::PmnsNames {
        status: if with_status {
            status.collect()
        } else {
            Vec::new()
        },
        names: found.into_iter().map(|(name, _)| name).collect(),
    })
}

/// All leaves at and below a name.
pub async fn traverse(daemon: &Daemon, client: &ClientInfo, name: &Text) -> Result<Pdu, ErrorCode> {
    let request = |name: Text| Pdu::PmnsTraverse { name };
    let leaves = daemon.pmns.borrow().leaves(name);
    let leaves = match leaves {
        Ok(leaves) => leaves,
        Err(code) => {
            let domain = dynamic_domain(daemon, name);
            let domain = domain.ok_or(code)?;
            return ask(daemon, client, domain, request(name.clone())).await;
        }
    };
    let mut names = Vec::with_capacity(leaves.len());
    for (leaf, pmid) in leaves {
        if !pmid.is_dynamic_root() {
            names.push(leaf);
            continue;
        }
        // Of a subtree whose agent is not there the root is shown.
        match ask(daemon, client, pmid.cluster(), request(leaf.clone())).await {
            Ok(Pdu::PmnsNames { names: more, .. }) => names.extend(more),
            Err(ErrorCode::NOAGENT) => names.push(leaf),
            _ => {}
        }
    }
    Ok(Pdu::PmnsNames {
        names,
        status: Vec::new(),
    })
}
