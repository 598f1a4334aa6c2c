//! Types: their C spelling as SystemTap prints it, and what kind of value they hold.

use gimli::AttributeValue;

use super::ValueClass;
use super::function_entry::children;
use super::units::{Place, REFERENCE_LIMIT, Units};

/// The spelling: qualifiers follow what they qualify (`char const*`), array bounds are left out, structures and unions
/// without a name are `struct {...}`.
pub(crate) fn name<'a>(units: &Units<'a>, place: Option<&Place<'a>>) -> String {
    spell(units, place, REFERENCE_LIMIT).unwrap_or_else(|| "<unknown>".into())
}

fn spell<'a>(units: &Units<'a>, place: Option<&Place<'a>>, depth: usize) -> Option<String> {
    let Some(place) = place else {
        return Some("void".into());
    };
    let depth = depth.checked_sub(1)?;
    let definition = units.referred(place, gimli::DW_AT_signature);
    let place = definition.as_ref().unwrap_or(place);
    let target = || units.referred(place, gimli::DW_AT_type);
    let own_name = || place.name();
    let tagged = |keyword: &str| {
        Some(format!(
            "{keyword} {}",
            own_name().unwrap_or_else(|| "{...}".into())
        ))
    };
    let suffixed = |suffix: &str| {
        let target = target();
        if let Some(function) = target
            .as_ref()
            .filter(|t| t.entry.tag() == gimli::DW_TAG_subroutine_type)
        {
            let (result, arguments) = signature(units, function, depth)?;
            return Some(format!("{result} ({suffix}) ({arguments})"));
        }
        let inner = spell(units, target.as_ref(), depth)?;
        // A qualified or repeated pointer to a function grows inside the parentheses.
        match inner.split_once("(*") {
            Some((before, after)) => Some(format!("{before}(*{suffix}{after}")),
            None => Some(format!("{inner}{suffix}")),
        }
    };
    match place.entry.tag() {
        // A parameter of type va_list, which the ABI makes an array, has decayed to this pointer.
        gimli::DW_TAG_pointer_type => suffixed("*").map(|s| {
            if s == "struct __va_list_tag*" {
                "va_list".into()
            } else {
                s
            }
        }),
        gimli::DW_TAG_reference_type => suffixed("&"),
        gimli::DW_TAG_rvalue_reference_type => suffixed("&&"),
        gimli::DW_TAG_const_type => suffixed(" const"),
        gimli::DW_TAG_volatile_type => suffixed(" volatile"),
        gimli::DW_TAG_restrict_type => suffixed(" restrict"),
        gimli::DW_TAG_atomic_type => suffixed(" _Atomic"),
        gimli::DW_TAG_array_type => suffixed("[]"),
        gimli::DW_TAG_structure_type => tagged("struct"),
        gimli::DW_TAG_class_type => tagged("class"),
        gimli::DW_TAG_union_type => tagged("union"),
        gimli::DW_TAG_enumeration_type => tagged("enum"),
        gimli::DW_TAG_subroutine_type => {
            let (result, arguments) = signature(units, place, depth)?;
            Some(format!("{result} ({arguments})"))
        }
        _ => own_name(),
    }
}

fn signature<'a>(
    units: &Units<'a>,
    function: &Place<'a>,
    depth: usize,
) -> Option<(String, String)> {
    let depth = depth.checked_sub(1)?;
    let result = spell(
        units,
        units.referred(function, gimli::DW_AT_type).as_ref(),
        depth,
    )?;
    let mut arguments = Vec::new();
    for parameter in children(function, gimli::DW_TAG_formal_parameter).ok()? {
        arguments.push(spell(
            units,
            units.referred(&parameter, gimli::DW_AT_type).as_ref(),
            depth,
        )?);
    }
    if !children(function, gimli::DW_TAG_unspecified_parameters)
        .ok()?
        .is_empty()
    {
        arguments.push("...".into());
    }
    if arguments.is_empty() {
        arguments.push("void".into());
    }
    Some((result, arguments.join(", ")))
}

/// What kind of value the type holds, typedefs and qualifiers seen through.
pub(crate) fn class<'a>(units: &Units<'a>, place: Option<&Place<'a>>) -> ValueClass {
    classify(units, place, REFERENCE_LIMIT)
}

fn classify<'a>(units: &Units<'a>, place: Option<&Place<'a>>, depth: usize) -> ValueClass {
    let Some(mut place) = place.cloned() else {
        return ValueClass::Other;
    };
    for left in (0..depth).rev() {
        // What stands for a type of a type unit says no more than which that is.
        if let Some(definition) = units.referred(&place, gimli::DW_AT_signature) {
            place = definition;
        }
        let size = place
            .entry
            .attr_value(gimli::DW_AT_byte_size)
            .and_then(|v| v.udata_value());
        let size = size
            .and_then(|s| u8::try_from(s).ok())
            .filter(|s| matches!(s, 1 | 2 | 4 | 8));
        match place.entry.tag() {
            gimli::DW_TAG_base_type => {
                let Some(size) = size else {
                    return ValueClass::Other;
                };
                return match place.entry.attr_value(gimli::DW_AT_encoding) {
                    Some(AttributeValue::Encoding(
                        gimli::DW_ATE_signed | gimli::DW_ATE_signed_char,
                    )) => ValueClass::Signed(size),
                    Some(AttributeValue::Encoding(gimli::DW_ATE_boolean)) if size == 1 => {
                        ValueClass::Bool
                    }
                    Some(AttributeValue::Encoding(
                        gimli::DW_ATE_unsigned
                        | gimli::DW_ATE_unsigned_char
                        | gimli::DW_ATE_boolean
                        | gimli::DW_ATE_UTF
                        | gimli::DW_ATE_address,
                    )) => ValueClass::Unsigned(size),
                    _ => ValueClass::Other,
                };
            }
            gimli::DW_TAG_pointer_type
            | gimli::DW_TAG_reference_type
            | gimli::DW_TAG_rvalue_reference_type => {
                return ValueClass::Pointer;
            }
            gimli::DW_TAG_enumeration_type => {
                let signed = enumeration_is_signed(units, &place, left);
                let underlying = || match classify(
                    units,
                    units.referred(&place, gimli::DW_AT_type).as_ref(),
                    left,
                ) {
                    ValueClass::Signed(size) | ValueClass::Unsigned(size) => Some(size),
                    _ => None,
                };
                return match size.or_else(underlying) {
                    Some(size) => ValueClass::Enum { size, signed },
                    None => ValueClass::Other,
                };
            }
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type => match units.referred(&place, gimli::DW_AT_type) {
                Some(target) => place = target,
                None => return ValueClass::Other,
            },
            _ => return ValueClass::Other,
        }
    }
    ValueClass::Other
}

/// By its own encoding (gcc), else by its underlying type, else by whether any enumerator is negative.
fn enumeration_is_signed<'a>(units: &Units<'a>, place: &Place<'a>, depth: usize) -> bool {
    if let Some(AttributeValue::Encoding(encoding)) = place.entry.attr_value(gimli::DW_AT_encoding)
    {
        return encoding == gimli::DW_ATE_signed || encoding == gimli::DW_ATE_signed_char;
    }
    if let Some(underlying) = units.referred(place, gimli::DW_AT_type)
        && underlying.entry.offset() != place.entry.offset()
        && underlying.entry.tag() != gimli::DW_TAG_enumeration_type
    {
        return matches!(
            classify(units, Some(&underlying), depth),
            ValueClass::Signed(_)
        );
    }
    let enumerators = children(place, gimli::DW_TAG_enumerator).unwrap_or_default();
    enumerators.iter().any(|e| {
        matches!(e.entry.attr_value(gimli::DW_AT_const_value), Some(AttributeValue::Sdata(value)) if value < 0)
    })
}
