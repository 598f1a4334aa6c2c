//! Variables of namespaces, which the functions in them see.

use std::ops::Range;
use std::sync::OnceLock;

use gimli::UnitOffset;

use super::units::{Place, REFERENCE_LIMIT, Unit, Units};

/// One namespace of a unit, which is looked into when a function in it is asked for.
#[derive(Debug)]
struct Namespace {
    /// Offsets of its entry and of what comes behind the last one in it.
    entries: Range<usize>,
    inside: OnceLock<Inside>,
}

/// What is directly in a namespace, or in a unit.
#[derive(Debug, Default)]
pub(crate) struct Inside {
    variables: Vec<UnitOffset>,
    namespaces: Vec<Namespace>,
}

/// Variables and namespaces directly in an entry.
pub(crate) fn look_inside(unit: &Unit<'_>, parent: UnitOffset) -> gimli::Result<Inside> {
    let mut found = Inside::default();
    let mut entries = unit.entries_raw(Some(parent))?;
    let Some(abbreviation) = entries.read_abbreviation()? else {
        return Ok(found);
    };
    entries.skip_attributes(abbreviation.attributes())?;
    // How deep the entry stands that `entries` began with.
    let mut base = 0;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let depth = base + entries.next_depth();
        if depth <= 1
            && let Some(namespace) = found.namespaces.last_mut()
            && namespace.entries.end == usize::MAX
        {
            namespace.entries.end = offset.0;
        }
        if depth == 0 {
            break;
        }
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        match abbreviation.tag() {
            _ if depth > 1 => {}
            gimli::DW_TAG_namespace | gimli::DW_TAG_module if abbreviation.has_children() => {
                found.namespaces.push(Namespace {
                    entries: offset.0..usize::MAX,
                    inside: OnceLock::new(),
                });
            }
            // A declaration has no place.
            gimli::DW_TAG_variable
                if abbreviation.attributes().iter().any(|a| {
                    matches!(a.name(), gimli::DW_AT_location | gimli::DW_AT_const_value)
                }) =>
            {
                found.variables.push(offset);
            }
            _ => {}
        }
        // What is further inside is passed over where an entry says how far that goes.
        let attributes = abbreviation.attributes();
        let sibling = attributes.iter().enumerate().find(|(_, attribute)| {
            abbreviation.has_children() && attribute.name() == gimli::DW_AT_sibling
        });
        let mut behind = None;
        match sibling {
            Some((before, specification)) => {
                entries.skip_attributes(&attributes[..before])?;
                if let gimli::AttributeValue::UnitRef(sibling) =
                    entries.read_attribute(*specification)?.value()
                {
                    behind = Some(sibling);
                }
                entries.skip_attributes(&attributes[before + 1..])?;
            }
            None => entries.skip_attributes(attributes)?,
        }
        if let Some(sibling) = behind.filter(|sibling| *sibling > offset) {
            entries = unit.entries_raw(Some(sibling))?;
            base = depth;
        }
    }
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
    let unit = &place.unit;
    let outermost = units.namespaces_of(unit)?;
    let offset = place.entry.offset().0;
    let mut variables: Vec<UnitOffset> = Vec::new();
    let mut namespaces = &outermost.namespaces;
    while let Some(around) = namespaces.iter().find(|n| n.entries.contains(&offset)) {
        let look = || look_inside(unit, UnitOffset(around.entries.start)).unwrap_or_default();
        let inside = around.inside.get_or_init(look);
        variables.splice(0..0, inside.variables.iter().copied());
        namespaces = &inside.namespaces;
    }
    let places = variables.into_iter().map(|variable| {
        Ok(Place {
            unit: std::rc::Rc::clone(unit),
            entry: unit.entry(variable)?,
        })
    });
    places.collect()
}
