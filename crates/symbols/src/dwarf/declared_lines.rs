//! Where the functions of a unit are declared.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::function_entry::decl_file;
use super::scopes::members;
use super::units::{Place, Unit, Units};

/// The lines at which functions of a unit are declared, by file: those outside of classes and other functions.
pub(crate) fn declared_lines<'a>(
    units: &Units<'a>,
    unit: &Rc<Unit<'a>>,
) -> gimli::Result<HashMap<String, BTreeSet<u64>>> {
    let mut found: HashMap<String, BTreeSet<u64>> = HashMap::new();
    let mut scopes = vec![units.root(unit)?];
    while let Some(scope) = scopes.pop() {
        let children = members(&scope)?;
        let is_function = |place: &&Place<'a>| place.entry.tag() == gimli::DW_TAG_subprogram;
        let names = children.iter().filter(is_function).filter_map(Place::name);
        // Without generic arguments.
        let names = names.filter_map(|name| Some(name.split('<').next()?.to_owned()));
        let functions: HashSet<String> = names.collect();
        for child in children {
            match child.entry.tag() {
                // What is in a function of Rust is in a namespace of its name.
                gimli::DW_TAG_namespace | gimli::DW_TAG_module
                    if child.name().is_some_and(|name| functions.contains(&name)) => {}
                gimli::DW_TAG_namespace | gimli::DW_TAG_module => scopes.push(child),
                gimli::DW_TAG_subprogram if !child.flag(gimli::DW_AT_declaration) => {
                    let line = units.inherited(&child, gimli::DW_AT_decl_line);
                    let line = line.and_then(|(_, value)| value.udata_value());
                    if let (Some(file), Some(line)) = (decl_file(units, &child), line) {
                        found.entry(file).or_default().insert(line);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found)
}
