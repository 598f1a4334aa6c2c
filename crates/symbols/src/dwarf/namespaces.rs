//! Variables of namespaces, which the functions in them see.

use gimli::UnitOffset;

use super::units::{Place, REFERENCE_LIMIT, Unit, Units};

/// The variables of one namespace, and the entries that are in it.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    /// Offsets of the first entry in it and of what comes behind the last.
    entries: std::ops::Range<usize>,
    variables: Vec<UnitOffset>,
}

/// All of a unit that have variables, outer ones before those in them.
pub(crate) fn scan(unit: &Unit<'_>) -> gimli::Result<Vec<Namespace>> {
    let mut found: Vec<Namespace> = Vec::new();
    // Those that are open at an entry: depth, and index in `found`.
    let mut open: Vec<(isize, usize)> = Vec::new();
    let mut entries = unit.entries_raw(None)?;
    // How deep the entry stands that `entries` began with.
    let mut base = 0;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let depth = base + entries.next_depth();
        while let Some((_, index)) = open.pop_if(|(above, _)| *above >= depth) {
            if let Some(namespace) = found.get_mut(index) {
                namespace.entries.end = offset.0;
            }
        }
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        match abbreviation.tag() {
            gimli::DW_TAG_namespace if abbreviation.has_children() => {
                open.push((depth, found.len()));
                found.push(Namespace {
                    entries: offset.0..usize::MAX,
                    variables: Vec::new(),
                });
            }
            // A declaration has no place.
            gimli::DW_TAG_variable
                if abbreviation.attributes().iter().any(|a| {
                    matches!(a.name(), gimli::DW_AT_location | gimli::DW_AT_const_value)
                }) =>
            {
                if let Some((above, index)) = open.last()
                    && above + 1 == depth
                    && let Some(namespace) = found.get_mut(*index)
                {
                    namespace.variables.push(offset);
                }
            }
            _ => {}
        }
        // What is in a function or a type is passed over where it says how far that goes.
        let tag = abbreviation.tag();
        let is_outer = tag == gimli::DW_TAG_namespace || depth == 0;
        let mut behind = None;
        if !is_outer && abbreviation.has_children() {
            for specification in abbreviation.attributes() {
                let attribute = entries.read_attribute(*specification)?;
                if let (gimli::DW_AT_sibling, gimli::AttributeValue::UnitRef(sibling)) =
                    (attribute.name(), attribute.value())
                {
                    behind = Some(sibling);
                }
            }
        } else {
            entries.skip_attributes(abbreviation.attributes())?;
        }
        if let Some(sibling) = behind.filter(|sibling| *sibling > offset) {
            entries = unit.entries_raw(Some(sibling))?;
            base = depth;
        }
    }
    found.retain(|namespace| !namespace.variables.is_empty());
    Ok(found)
}

/// The variables of the namespaces around a function or the one that it is a copy of, those of the innermost first.
pub(crate) fn variables_around<'a>(
    units: &Units<'a>,
    function: &Place<'a>,
) -> gimli::Result<Vec<Place<'a>>> {
    let mut place = function.clone();
    for _ in 0..REFERENCE_LIMIT {
        match units.referred(&place, gimli::DW_AT_abstract_origin) {
            Some(origin) => place = origin,
            None => break,
        }
    }
    let namespaces = units.namespaces_of(&place.unit)?;
    let offset = place.entry.offset().0;
    let around = namespaces.iter().rev();
    let around = around.filter(|n| n.entries.contains(&offset));
    let mut found = Vec::new();
    for variable in around.flat_map(|n| &n.variables) {
        found.push(Place {
            unit: std::rc::Rc::clone(&place.unit),
            entry: place.unit.entry(*variable)?,
        });
    }
    Ok(found)
}
