//! Where the functions of a unit are declared.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::function_entry::decl_file;
use super::scopes::members;
use super::units::{Place, REFERENCE_LIMIT, Unit, Units};

/// The lines at which functions of a unit are declared, by file: those outside of classes and other functions.
pub(crate) fn declared_lines<'a>(
    units: &Units<'a>,
    unit: &Rc<Unit<'a>>,
) -> gimli::Result<HashMap<String, BTreeSet<u64>>> {
    let mut functions: Vec<Place<'a>> = Vec::new();
    // From the entry of each function to what comes behind it.
    let mut extents: Vec<(usize, usize)> = Vec::new();
    let mut scopes = vec![(units.root(unit)?, usize::MAX)];
    while let Some((scope, end)) = scopes.pop() {
        let children = members(&scope)?;
        let is_function = |place: &&Place<'a>| place.entry.tag() == gimli::DW_TAG_subprogram;
        let names = children.iter().filter(is_function).filter_map(Place::name);
        // Without generic arguments.
        let names = names.filter_map(|name| Some(name.split('<').next()?.to_owned()));
        let named: HashSet<String> = names.collect();
        let starts: Vec<usize> = children.iter().map(|c| c.entry.offset().0).collect();
        let ends = starts.iter().copied().skip(1).chain([end]);
        for (child, end) in children.iter().zip(ends) {
            match child.entry.tag() {
                // What is in a function of Rust is in a namespace of its name.
                gimli::DW_TAG_namespace | gimli::DW_TAG_module
                    if child.name().is_some_and(|name| named.contains(&name)) => {}
                gimli::DW_TAG_namespace | gimli::DW_TAG_module => scopes.push((child.clone(), end)),
                gimli::DW_TAG_subprogram => {
                    extents.push((child.entry.offset().0, end));
                    if !child.flag(gimli::DW_AT_declaration) {
                        functions.push(child.clone());
                    }
                }
                _ => {}
            }
        }
    }
    extents.sort_unstable();
    // The function of a lambda expression, or of a local class, is described apart from the function that it is in.
    let is_inside = |place: &Place<'a>| {
        let offset = place.entry.offset().0;
        let before = extents.partition_point(|(start, _)| *start < offset);
        let around = before.checked_sub(1).and_then(|i| extents.get(i));
        place.unit.start == unit.start && around.is_some_and(|(_, end)| offset < *end)
    };
    let mut found: HashMap<String, BTreeSet<u64>> = HashMap::new();
    for function in functions {
        let mut origin = units.origin(&function);
        let mut is_local = false;
        for _ in 0..REFERENCE_LIMIT {
            let Some(place) = origin else { break };
            is_local |= is_inside(&place);
            origin = units.origin(&place);
        }
        let line = units.inherited(&function, gimli::DW_AT_decl_line);
        let line = line.and_then(|(_, value)| value.udata_value());
        if let (Some(file), Some(line)) = (decl_file(units, &function), line)
            && !is_local
        {
            found.entry(file).or_default().insert(line);
        }
    }
    Ok(found)
}
