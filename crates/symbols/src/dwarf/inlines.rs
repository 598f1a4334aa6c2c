//! Where functions were inlined: one pass over all entries that decodes nothing but references from copies to their
//! origins.

use std::collections::HashMap;

use gimli::AttributeValue;

use super::function_index::linkage_name;
use super::sections::DwarfFile;
use super::units::{EntryId, Home, Unit, UnitTable, Units};

/// Below this size of `.debug_info` one thread is as fast.
const WORTH_THREADS: usize = 4 << 20;

/// The names of a function that was inlined somewhere.
pub(crate) struct Origin {
    pub name: String,
    pub linkage_name: Option<String>,
}

/// All inlined copies of a file.
pub(crate) struct InlineIndex {
    origins: Vec<Origin>,
    /// Each copy with an index into `origins`, in the order of the entries.
    copies: Vec<(EntryId, usize)>,
}

impl InlineIndex {
    /// Units that can't be decoded are left out from the first damaged entry on.
    pub fn build(file: &DwarfFile<'_>, table: &UnitTable) -> InlineIndex {
        let references = scan(file, table);
        let units = Units::new(file, table);
        let mut known: HashMap<EntryId, Option<usize>> = HashMap::new();
        let mut origins = Vec::new();
        let mut copies = Vec::with_capacity(references.len());
        for (copy, origin) in references {
            let index = *known.entry(origin).or_insert_with(|| {
                let place = units.place(origin).ok()?;
                origins.push(Origin {
                    name: units.inherited_string(&place, gimli::DW_AT_name)?,
                    linkage_name: linkage_name(&units, &place),
                });
                Some(origins.len() - 1)
            });
            copies.extend(index.map(|index| (copy, index)));
        }
        InlineIndex { origins, copies }
    }

    /// The copies of functions of which a name, mangled or not, satisfies a condition.
    pub fn copies(
        &self,
        wanted: impl Fn(&str, Option<&str>) -> bool,
    ) -> impl Iterator<Item = (EntryId, &Origin)> {
        let fits: Vec<bool> = self
            .origins
            .iter()
            .map(|o| wanted(&o.name, o.linkage_name.as_deref()))
            .collect();
        self.copies.iter().filter_map(move |(copy, origin)| {
            let fits = fits.get(*origin).copied().unwrap_or_default();
            Some((*copy, self.origins.get(*origin).filter(|_| fits)?))
        })
    }
}

/// Every inlined copy with its origin.
fn scan(file: &DwarfFile<'_>, table: &UnitTable) -> Vec<(EntryId, EntryId)> {
    let starts = &table.starts;
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
        return scan_units(file, table, starts);
    }
    let turns: Vec<&[usize]> = starts.chunks(turn).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut found: Vec<(usize, Vec<(EntryId, EntryId)>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = Vec::new();
                    loop {
                        let turn = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let Some(starts) = turns.get(turn) else {
                            return found;
                        };
                        found.push((turn, scan_units(file, table, starts)));
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

fn scan_units(
    file: &DwarfFile<'_>,
    table: &UnitTable,
    starts: &[usize],
) -> Vec<(EntryId, EntryId)> {
    let units = Units::new(file, table);
    let mut found = Vec::new();
    for &start in starts {
        if let Ok(unit) = units.unit(start) {
            // An error ends the unit; what was found before it holds.
            let _ = scan_unit(&unit, &table.starts, &mut found);
        }
    }
    found
}

fn scan_unit(
    unit: &Unit<'_>,
    starts: &[usize],
    found: &mut Vec<(EntryId, EntryId)>,
) -> gimli::Result<()> {
    let id = |die| EntryId {
        home: unit.home,
        unit: unit.start,
        die,
    };
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if abbreviation.tag() != gimli::DW_TAG_inlined_subroutine {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut origin = None;
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            if attribute.name() == gimli::DW_AT_abstract_origin {
                origin = match attribute.value() {
                    AttributeValue::UnitRef(offset) => Some(id(offset.0)),
                    AttributeValue::DebugInfoRef(offset) => {
                        let behind = starts.partition_point(|s| *s <= offset.0);
                        let start = behind.checked_sub(1).and_then(|i| starts.get(i));
                        start.map(|start| EntryId {
                            home: Home::Main,
                            unit: *start,
                            die: offset.0 - start,
                        })
                    }
                    _ => None,
                };
            }
        }
        found.extend(origin.map(|origin| (id(offset.0), origin)));
    }
    Ok(())
}
