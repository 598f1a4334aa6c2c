//! `.gdb_index`, which linkers and gdb-add-index(1) write: here for its table of which unit has which code (the GDB manual,
//! "Index Section Format"). Its names are of no use: those that were inlined everywhere are not among them.

use std::collections::HashSet;

use crate::address::ImageAddr;

/// Versions whose tables are laid out as below.
const VERSIONS: std::ops::RangeInclusive<u32> = 4..=9;

/// Bytes of a row of the list of units: offset and length.
const UNIT_ROW: usize = 16;
/// Bytes of a row of the address table: begin, end, number of the unit.
const ADDRESS_ROW: usize = 20;

/// The units that hold these addresses, and the addresses that it has no unit for. `None` when it can't be read.
pub(crate) fn units_of(
    section: &[u8],
    addresses: &HashSet<ImageAddr>,
) -> Option<(Vec<usize>, HashSet<ImageAddr>)> {
    let word = |at: usize| {
        let bytes = section.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    if !VERSIONS.contains(&word(0)?) {
        return None;
    }
    let offset = |number: usize| usize::try_from(word(4 + 4 * number)?).ok();
    let units = section.get(offset(0)?..offset(1)?)?;
    let table = section.get(offset(2)?..offset(3)?)?;
    let long = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let mut missing = addresses.clone();
    let mut found = Vec::new();
    for row in table.chunks_exact(ADDRESS_ROW) {
        let (begin, end) = (long(row, 0)?, long(row, 8)?);
        let before = missing.len();
        missing.retain(|a| !(begin <= a.0 && a.0 < end));
        if missing.len() == before {
            continue;
        }
        let number = u32::from_le_bytes(row.get(16..20)?.try_into().ok()?);
        let place = usize::try_from(number).ok()?.checked_mul(UNIT_ROW)?;
        found.push(usize::try_from(long(units, place)?).ok()?);
        if missing.is_empty() {
            break;
        }
    }
    Some((found, missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_to_units() {
        let mut section = Vec::new();
        let header = 24u32;
        for word in [
            7,
            header,
            header + 32,
            header + 32,
            header + 72,
            header + 72,
        ] {
            section.extend_from_slice(&u32::to_le_bytes(word));
        }
        for (offset, length) in [(0u64, 50u64), (0x50, 60)] {
            section.extend_from_slice(&offset.to_le_bytes());
            section.extend_from_slice(&length.to_le_bytes());
        }
        for (begin, end, unit) in [(0x100u64, 0x200u64, 1u32), (0x300, 0x310, 0)] {
            section.extend_from_slice(&begin.to_le_bytes());
            section.extend_from_slice(&end.to_le_bytes());
            section.extend_from_slice(&unit.to_le_bytes());
        }
        let ask = |addresses: &[u64]| {
            let wanted: HashSet<ImageAddr> = addresses.iter().map(|a| ImageAddr(*a)).collect();
            units_of(&section, &wanted).expect("sound")
        };
        assert_eq!(ask(&[0x1ff]), (vec![0x50], HashSet::new()));
        assert_eq!(ask(&[0x30f, 0x100]).0, [0x50, 0]);
        let (units, missing) = ask(&[0x200]);
        assert!(units.is_empty() && missing.contains(&ImageAddr(0x200)));
        assert_eq!(units_of(&section[..20], &HashSet::new()), None);
        assert_eq!(units_of(&[3; 100], &HashSet::new()), None);
    }
}
