//! Types and variables outside of functions: which entries are such, and what those of a unit are called.

use std::collections::HashMap;
use std::rc::Rc;

use super::sections::Slice;
use super::units::{EntryId, Unit, Units};

/// The scopes of a unit in which types and variables that are not a function's are declared.
pub(crate) fn is_scope(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_compile_unit
            | gimli::DW_TAG_partial_unit
            | gimli::DW_TAG_type_unit
            | gimli::DW_TAG_namespace
            | gimli::DW_TAG_module
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
    )
}

pub(crate) fn is_named_entity(tag: gimli::DwTag) -> bool {
    matches!(
        tag,
        gimli::DW_TAG_variable
            | gimli::DW_TAG_typedef
            | gimli::DW_TAG_base_type
            | gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
    )
}

/// Types and variables of a unit outside of functions by name, those of namespaces and classes included. A definition
/// that refers to its declaration has the declaration's name.
pub(crate) fn names_of_unit<'a>(
    units: &Units<'a>,
    unit: &Rc<Unit<'a>>,
) -> gimli::Result<HashMap<String, Vec<EntryId>>> {
    let mut found: HashMap<String, Vec<EntryId>> = HashMap::new();
    walk_outside(unit, &mut |entry| {
        if !is_named_entity(entry.tag()) {
            return;
        }
        let own = entry.attr_value(gimli::DW_AT_name);
        let name = match own {
            Some(value) => unit.text(value),
            None => entry
                .attr_value(gimli::DW_AT_specification)
                .or_else(|| entry.attr_value(gimli::DW_AT_abstract_origin))
                .and_then(|origin| units.follow(unit, origin))
                .and_then(|origin| units.inherited_string(&origin, gimli::DW_AT_name)),
        };
        if let Some(name) = name {
            found.entry(name).or_default().push(EntryId {
                home: unit.home,
                unit: unit.start,
                die: entry.offset().0,
            });
        }
    })?;
    Ok(found)
}

/// Enumerations of a unit that have no name.
pub(crate) fn nameless_enumerations(unit: &Rc<Unit<'_>>) -> gimli::Result<Vec<EntryId>> {
    let mut found = Vec::new();
    walk_outside(unit, &mut |entry| {
        if entry.tag() == gimli::DW_TAG_enumeration_type
            && entry.attr_value(gimli::DW_AT_name).is_none()
        {
            found.push(EntryId {
                home: unit.home,
                unit: unit.start,
                die: entry.offset().0,
            });
        }
    })?;
    Ok(found)
}

/// Every entry that is not inside of a function or of a type that is no scope.
fn walk_outside<'a>(
    unit: &Rc<Unit<'a>>,
    each: &mut dyn FnMut(&super::units::Entry<'a>),
) -> gimli::Result<()> {
    let mut cursor = unit.entries();
    if !cursor.next_entry()? {
        return Ok(());
    }
    let mut more = true;
    while more {
        let Some(entry) = cursor.current() else {
            break;
        };
        each(entry);
        more = if is_scope(entry.tag()) {
            cursor.next_dfs()?.is_some()
        } else {
            skip(&mut cursor)?
        };
    }
    Ok(())
}

/// To the next entry that is not below this one, at whatever depth.
fn skip(cursor: &mut gimli::EntriesCursor<'_, Slice<'_>>) -> gimli::Result<bool> {
    let depth = cursor.current().map_or(0, |e| e.depth());
    if cursor.next_sibling()?.is_some() {
        return Ok(true);
    }
    // The last of its siblings: the cursor stands at their end, and goes on above.
    loop {
        match cursor.next_dfs()? {
            None => return Ok(false),
            Some(entry) if entry.depth() < depth => return Ok(true),
            Some(_) => {}
        }
    }
}
