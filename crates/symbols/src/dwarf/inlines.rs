//! Where functions were inlined: one pass over all entries that decodes nothing but references from copies to their
//! origins.

use std::collections::HashMap;

use super::function_index::linkage_name;
use super::sections::DwarfFile;
use super::unit_scan;
use super::units::{EntryId, Unit, UnitTable, Units};

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
        let references = unit_scan::scan(file, table, &scan_unit);
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
                origin = unit_scan::referred(unit, starts, attribute.value());
            }
        }
        found.extend(origin.map(|origin| (id(offset.0), origin)));
    }
    Ok(())
}
