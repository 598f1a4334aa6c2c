//! How many PDUs this process has exchanged with servers, by their types: pmprobe(1) shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// The types that are counted: those from ERROR to DESC_IDS.
pub const TYPES: usize = 23;

static SENT: [AtomicU64; TYPES] = [const { AtomicU64::new(0) }; TYPES];
static RECEIVED: [AtomicU64; TYPES] = [const { AtomicU64::new(0) }; TYPES];

fn count(counts: &[AtomicU64; TYPES], kind: u32) {
    let at = kind.checked_sub(crate::pdu::kind::ERROR);
    let at = at.and_then(|at| usize::try_from(at).ok());
    if let Some(count) = at.and_then(|at| counts.get(at)) {
        // Nothing else is known by it.
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a PDU that was sent.
pub(crate) fn sent(kind: u32) {
    count(&SENT, kind);
}

/// Counts a PDU that came.
pub(crate) fn received(kind: u32) {
    count(&RECEIVED, kind);
}

/// The PDUs that were sent, and those that came, of each type in the order of their numbers.
#[must_use]
pub fn counts() -> [[u64; TYPES]; 2] {
    let read = |counts: &[AtomicU64; TYPES]| {
        std::array::from_fn(|at| {
            let count = counts.get(at);
            count.map_or(0, |count| count.load(Ordering::Relaxed))
        })
    };
    [read(&SENT), read(&RECEIVED)]
}
