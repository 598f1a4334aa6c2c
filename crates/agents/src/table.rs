//! Tables of metrics: a line for each, by tabs: name, cluster and item, type, instance domain, semantics, units, and where they are
//! collected by groups, the group and field of its values.

use std::collections::HashMap;

use pcp::pmns::Pmns;
use pcp::{Desc, InDom, Pmid, Semantics, Type, Units};

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// The name that PCP's name space gives it.
    pub name: &'static str,
    /// What it is.
    pub desc: Desc,
    /// The group of values that it is one of; empty where there are none.
    pub group: &'static str,
    /// Its name in the group.
    pub field: &'static str,
}

/// The metrics of a table in a domain by their identifiers. A line that is not understood is left out, which tests see.
pub fn load(domain: u32, table: &'static str) -> HashMap<Pmid, Metric> {
    let metrics = table.lines().filter_map(|line| metric(domain, line));
    metrics.map(|metric| (metric.desc.pmid, metric)).collect()
}

/// The names of a table as a name space, in the table's order, with what they stand for.
pub fn names(table: &str, metrics: impl Iterator<Item = (&'static str, Pmid)>) -> Pmns {
    let by_name: HashMap<&str, Pmid> = metrics.collect();
    let mut names = Pmns::new();
    for name in table.lines().filter_map(|line| line.split('\t').next()) {
        if let Some(pmid) = by_name.get(name) {
            // They are different ones.
            let _ = names.insert(name.as_bytes(), *pmid);
        }
    }
    names
}

/// The type of a name that PCP has for it.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "32" => Type::I32,
        "u32" => Type::U32,
        "64" => Type::I64,
        "u64" => Type::U64,
        "float" => Type::Float,
        "double" => Type::Double,
        "string" => Type::String,
        "aggregate" => Type::Aggregate,
        "event" => Type::Event,
        "highres" => Type::HighResEvent,
        _ => return None,
    })
}

/// The semantics of a name that PCP has for them.
pub(crate) fn semantics_named(name: &str) -> Option<Semantics> {
    Some(match name {
        "counter" => Semantics::Counter,
        "instant" => Semantics::Instant,
        "discrete" => Semantics::Discrete,
        _ => return None,
    })
}

fn metric(domain: u32, line: &'static str) -> Option<Metric> {
    let mut columns = line.split('\t');
    let mut column = || columns.next();
    let name = column()?;
    let (cluster, item) = column()?.split_once('.')?;
    let ty = type_named(column()?)?;
    let indom = match column()? {
        "-" => InDom::NULL,
        serial => InDom::new(domain, serial.parse().ok()?),
    };
    let sem = semantics_named(column()?)?;
    let units = match column()? {
        "-" => Units::NONE,
        units => units.parse::<pcp::ScaledUnits>().ok()?.units,
    };
    let (group, field) = column().unwrap_or(" ").split_once(' ')?;
    let pmid = Pmid::new(domain, cluster.parse().ok()?, item.parse().ok()?);
    let desc = Desc {
        pmid,
        ty,
        indom,
        sem,
        units,
    };
    Some(Metric {
        name,
        desc,
        group,
        field,
    })
}
