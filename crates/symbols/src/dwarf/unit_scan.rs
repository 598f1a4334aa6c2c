//! One pass over the entries of all units, by several threads where that is worth it.

use gimli::AttributeValue;

use super::sections::{DwarfFile, Slice};
use super::units::{EntryId, Home, Unit, UnitTable, Units};

/// Below this size of `.debug_info` one thread is as fast.
const WORTH_THREADS: usize = 4 << 20;

/// What a pass looks for in a unit: gets the unit, the starts of all units, and where findings go.
pub(crate) type Look<'l, T> =
    &'l (dyn Fn(&Unit<'_>, &[usize], &mut Vec<T>) -> gimli::Result<()> + Sync);

/// What `look` finds in all units, in the order of the entries.
pub(crate) fn scan<T: Send>(file: &DwarfFile<'_>, table: &UnitTable, look: Look<'_, T>) -> Vec<T> {
    let starts = table.starts(file);
    let size = file
        .debug
        .contents_by_name(".debug_info")
        .map_or(0, |d| d.len());
    let threads = match std::thread::available_parallelism() {
        Ok(count) if size > WORTH_THREADS => count.get().min(16),
        _ => 1,
    };
    // Several turns for each thread, since units differ in size.
    let turn = starts.len().div_ceil(threads * 8).max(1);
    if threads == 1 {
        return scan_units(file, table, starts, look);
    }
    let turns: Vec<&[usize]> = starts.chunks(turn).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut found: Vec<(usize, Vec<T>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = Vec::new();
                    loop {
                        let turn = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let Some(starts) = turns.get(turn) else {
                            return found;
                        };
                        found.push((turn, scan_units(file, table, starts, look)));
                    }
                })
            })
            .collect();
        // A worker that panicked, which none is known to do, leaves its part out.
        let results = workers.into_iter().filter_map(|w| w.join().ok());
        results.flatten().collect()
    });
    found.sort_by_key(|(turn, _)| *turn);
    found.into_iter().flat_map(|(_, part)| part).collect()
}

fn scan_units<T>(
    file: &DwarfFile<'_>,
    table: &UnitTable,
    starts: &[usize],
    look: Look<'_, T>,
) -> Vec<T> {
    let units = Units::new(file, table);
    let mut found = Vec::new();
    for &start in starts {
        if let Ok(unit) = units.unit(start) {
            // An error ends the unit; what was found before it holds.
            let _ = look(&unit, table.starts(file), &mut found);
        }
    }
    found
}

/// The entry of `.debug_info` that a reference in a unit leads to, without a look at it.
pub(crate) fn referred(
    unit: &Unit<'_>,
    starts: &[usize],
    value: AttributeValue<Slice<'_>>,
) -> Option<EntryId> {
    match value {
        AttributeValue::UnitRef(offset) => Some(EntryId {
            home: unit.home,
            unit: unit.start,
            die: offset.0,
        }),
        AttributeValue::DebugInfoRef(offset) => {
            let behind = starts.partition_point(|s| *s <= offset.0);
            let start = behind.checked_sub(1).and_then(|i| starts.get(i))?;
            Some(EntryId {
                home: Home::Main,
                unit: *start,
                die: offset.0 - start,
            })
        }
        _ => None,
    }
}
