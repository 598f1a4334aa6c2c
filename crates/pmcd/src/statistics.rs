//! What the daemon counts of itself: PDUs in and out by type.

use std::cell::{Cell, RefCell};

use pcp::pdu::kind;

/// PDU types in the order of the items of clusters 1 and 2 of pmcd's own metrics; item 16 is the sum of all, item 11 is
/// not in use any more.
pub const KINDS: [u32; 25] = [
    kind::ERROR,
    kind::RESULT,
    kind::PROFILE,
    kind::FETCH,
    kind::DESC_REQ,
    kind::DESC,
    kind::INSTANCE_REQ,
    kind::INSTANCE,
    kind::TEXT_REQ,
    kind::TEXT,
    0x700a,
    0x700b,
    kind::CREDS,
    kind::PMNS_IDS,
    kind::PMNS_NAMES,
    kind::PMNS_CHILD,
    0,
    kind::PMNS_TRAVERSE,
    kind::ATTR,
    kind::LABEL_REQ,
    kind::LABEL,
    kind::HIGHRES_FETCH,
    kind::HIGHRES_RESULT,
    kind::DESC_IDS,
    kind::DESCS,
];

/// The item of the sum.
pub const TOTAL: usize = 16;

/// Counters of PDUs.
#[derive(Debug, Default)]
pub struct Statistics {
    incoming: RefCell<[u32; KINDS.len()]>,
    outgoing: RefCell<[u32; KINDS.len()]>,
    /// How often SIGHUP came.
    pub sighups: Cell<u32>,
}

fn count(counters: &RefCell<[u32; KINDS.len()]>, kind: u32) {
    let mut counters = counters.borrow_mut();
    if let Some(at) = KINDS.iter().position(|k| *k == kind) {
        counters[at] = counters[at].wrapping_add(1);
    }
    counters[TOTAL] = counters[TOTAL].wrapping_add(1);
}

impl Statistics {
    /// A PDU of that type came.
    pub fn received(&self, kind: u32) {
        count(&self.incoming, kind);
    }

    /// A PDU of that type goes.
    pub fn sent(&self, kind: u32) {
        count(&self.outgoing, kind);
    }

    /// How many came, by item of [`KINDS`].
    #[must_use]
    pub fn incoming(&self, item: usize) -> Option<u32> {
        self.incoming.borrow().get(item).copied()
    }

    /// How many went.
    #[must_use]
    pub fn outgoing(&self, item: usize) -> Option<u32> {
        self.outgoing.borrow().get(item).copied()
    }
}
