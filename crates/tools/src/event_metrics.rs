//! The metrics of event records that PCP's library has in every context, beside those of an archive; they are in no record.

use pcp::{Desc, InDom, Pmid, Semantics, Type, Units};

/// Their names and items.
const EVENT_METRICS: [(&str, u32); 2] = [("event.flags", 1), ("event.missed", 2)];

fn pmid(item: u32) -> Pmid {
    Pmid::new(Pmid::DYNAMIC_DOMAIN, 0, item)
}

/// The number that `event.flags` or `event.missed` has in every context.
pub fn event_metric(name: &str) -> Option<Pmid> {
    let found = EVENT_METRICS.iter().find(|(other, _)| *other == name)?;
    Some(pmid(found.1))
}

/// The name and the description of such a number.
pub fn event_desc(of: Pmid) -> Option<(&'static str, Desc)> {
    let (name, _) = EVENT_METRICS.iter().find(|(_, item)| pmid(*item) == of)?;
    let desc = Desc {
        pmid: of,
        ty: Type::U32,
        indom: InDom::NULL,
        sem: Semantics::Discrete,
        units: Units::default(),
    };
    Some((name, desc))
}
