//! Which units hold addresses, where no index of a former run says so.

use std::collections::{BTreeSet, HashSet};

use super::gdb_index;
use super::units::Units;
use crate::address::ImageAddr;

/// The units that hold these addresses: as `.gdb_index` or `.debug_aranges` says, for the rest as the units themselves say.
pub(crate) fn units_of(
    units: &Units<'_>,
    starts: &[usize],
    addresses: &HashSet<ImageAddr>,
) -> Vec<usize> {
    let mut missing = addresses.clone();
    let mut found = BTreeSet::new();
    let index = units.file.debug.contents_by_name(".gdb_index");
    if let Some((known, rest)) = index.and_then(|index| gdb_index::units_of(index, addresses)) {
        // One that is out of date may name what is no unit.
        let known = known
            .into_iter()
            .filter(|unit| starts.binary_search(unit).is_ok());
        found.extend(known);
        missing = rest;
    }
    if missing.is_empty() {
        return found.into_iter().collect();
    }
    let mut take = |begin: u64, end: u64, start: usize| {
        missing.retain(|a| {
            let inside = begin <= a.0 && a.0 < end;
            if inside {
                found.insert(start);
            }
            !inside
        });
        missing.is_empty()
    };
    let mut sets = units.file.dwarf.debug_aranges.headers();
    while let Ok(Some(set)) = sets.next() {
        let mut entries = set.entries();
        while let Ok(Some(entry)) = entries.next() {
            let end = entry.address().saturating_add(entry.length());
            if take(entry.address(), end, set.debug_info_offset().0) {
                return found.into_iter().collect();
            }
        }
    }
    for &start in starts {
        let Ok(unit) = units.unit(start) else {
            continue;
        };
        for range in unit.code(&units.file.dwarf) {
            if take(range.begin, range.end, start) {
                return found.into_iter().collect();
            }
        }
    }
    found.into_iter().collect()
}
