//! Names with the namespaces, classes and modules around them: `shop::Kind`.

use gimli::UnitOffset;

use super::units::{EntryId, Units};

/// A name taken apart at the last `::` that is not within template or generic arguments.
pub(crate) fn split(name: &str) -> (Option<&str>, &str) {
    let mut depth = 0usize;
    let mut last = None;
    let bytes = name.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' => depth = depth.saturating_sub(1),
            b':' if depth == 0 && bytes.get(at + 1) == Some(&b':') => last = Some(at),
            _ => {}
        }
    }
    match last.and_then(|at| Some((name.get(..at)?, name.get(at + 2..)?))) {
        Some((scope, name)) => (Some(scope), name),
        None => (None, name),
    }
}

/// What surrounds an entry: `outer::inner`; empty outside of everything. Found by going through the unit up to it.
pub(crate) fn scope_of(units: &Units<'_>, id: EntryId) -> gimli::Result<String> {
    let unit = units.unit_in(id.home, id.unit)?;
    let mut entries = unit.entries_raw(None)?;
    let mut open: Vec<(isize, UnitOffset)> = Vec::new();
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let depth = entries.next_depth();
        if offset.0 >= id.die {
            open.retain(|(d, _)| *d < depth);
            break;
        }
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        open.retain(|(d, _)| *d < depth);
        if abbreviation.has_children()
            && matches!(
                abbreviation.tag(),
                gimli::DW_TAG_namespace
                    | gimli::DW_TAG_module
                    | gimli::DW_TAG_structure_type
                    | gimli::DW_TAG_class_type
                    | gimli::DW_TAG_union_type
                    | gimli::DW_TAG_enumeration_type
            )
        {
            open.push((depth, offset));
        }
        entries.skip_attributes(abbreviation.attributes())?;
    }
    let mut names = Vec::new();
    for (_, offset) in open {
        let entry = unit.entry(offset)?;
        let name = entry.attr_value(gimli::DW_AT_name);
        // A namespace without a name has that of nobody.
        names.extend(name.and_then(|n| unit.text(n)));
    }
    Ok(names.join("::"))
}

/// Whether a scope is one that a shorter or equal spelling means: `b` and `a::b` both mean `a::b`.
pub(crate) fn is_within(scope: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_start_matches("::");
    scope == wanted
        || scope
            .strip_suffix(wanted)
            .is_some_and(|rest| wanted.is_empty() || rest.ends_with("::"))
}

#[cfg(test)]
mod tests {
    use super::{is_within, split};

    #[test]
    fn scopes_end_before_the_name_and_not_in_its_arguments() {
        assert_eq!(split("Kind"), (None, "Kind"));
        assert_eq!(split("a::b::Kind"), (Some("a::b"), "Kind"));
        assert_eq!(
            split("vec::Vec<a::T, b::U>"),
            (Some("vec"), "Vec<a::T, b::U>")
        );
    }

    #[test]
    fn outer_scopes_may_be_left_out() {
        assert!(is_within("a::b", "b") && is_within("a::b", "a::b"));
        assert!(!is_within("a::bb", "b") && !is_within("", "b"));
    }
}
