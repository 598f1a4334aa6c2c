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

/// Whether what surrounds an entry is what a spelling means; inline namespaces may be left out. Found by going through the
/// unit up to the entry.
pub(crate) fn is_in(units: &Units<'_>, id: EntryId, wanted: &str) -> gimli::Result<bool> {
    let around = around(units, id)?;
    let all: Vec<&str> = around.iter().map(|(name, _)| name.as_str()).collect();
    let named = around.iter().filter(|(_, is_inline)| !is_inline);
    let named: Vec<&str> = named.map(|(name, _)| name.as_str()).collect();
    Ok(is_within(&all.join("::"), wanted) || is_within(&named.join("::"), wanted))
}

/// What surrounds an entry, the outermost first, and whether it is an inline namespace. Found by going through the unit up
/// to the entry. A namespace without a name is left out.
pub(crate) fn around(units: &Units<'_>, id: EntryId) -> gimli::Result<Vec<(String, bool)>> {
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
    let mut found = Vec::new();
    for (_, offset) in open {
        let entry = unit.entry(offset)?;
        let name = entry.attr_value(gimli::DW_AT_name);
        let Some(name) = name.and_then(|n| unit.text(n)) else {
            continue;
        };
        let exported = entry.attr_value(gimli::DW_AT_export_symbols);
        let is_inline = matches!(exported, Some(gimli::AttributeValue::Flag(true)));
        found.push((name, is_inline));
    }
    Ok(found)
}

/// How compilers write a name with template arguments: a blank behind each comma and nowhere else but between words and, in
/// the second form, between closing brackets.
pub(crate) fn spellings(name: &str) -> Vec<String> {
    let mut found = vec![name.to_owned()];
    if !name.contains('<') {
        return found;
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for apart in [false, true] {
        let mut spelled = String::with_capacity(name.len());
        let mut is_apart = false;
        for c in name.chars() {
            if c.is_whitespace() {
                is_apart = true;
                continue;
            }
            let last = spelled.chars().next_back().unwrap_or(' ');
            let words = is_apart && is_word(last) && is_word(c);
            if words || last == ',' || apart && last == '>' && c == '>' {
                spelled.push(' ');
            }
            spelled.push(c);
            is_apart = false;
        }
        if !found.contains(&spelled) {
            found.push(spelled);
        }
    }
    found
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
    use super::{is_within, spellings, split};

    #[test]
    fn template_arguments_are_spelled_as_compilers_do() {
        assert_eq!(spellings("Kind"), ["Kind"]);
        assert_eq!(
            spellings("Map<unsigned  int,Vec<char *>>"),
            [
                "Map<unsigned  int,Vec<char *>>",
                "Map<unsigned int, Vec<char*>>",
                "Map<unsigned int, Vec<char*> >"
            ]
        );
    }

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
