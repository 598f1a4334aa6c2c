//! Strings, slices and vectors of Rust and Go, which the compiler describes as records of a pointer and a length, and
//! values with variants: what is to be shown instead of the records.

use super::value::{Lens, Value};
use codegen::Variable;
use symbols::{Language, Type, TypeId, TypeKind, Variant};

/// Pointers within records within records deeper than this are nobody's vector.
const NESTING_LIMIT: usize = 8;

/// What a record stands for.
pub(super) enum Container {
    /// Bytes of text from an address on: the address and the number of bytes.
    Text(Variable, Variable),
    /// Elements, one behind the other.
    Sequence {
        /// The place of the first.
        first: Value,
        /// Their type.
        element: TypeId,
        /// Bytes from one to the next.
        size: u64,
        /// How many.
        length: Variable,
    },
}

/// What a record of Rust or Go stands for, if it is more than a record.
pub(super) fn of(lens: &Lens<'_, '_>, value: &Value, record: &Type) -> Option<Container> {
    let name = record.name.as_deref()?;
    match lens.info.language(record.id) {
        Language::Go if name == "string" => text(lens, value, "str", "len"),
        Language::Go if name.starts_with("[]") => {
            let (pointer, element) = pointer(lens, value, &["array"])?;
            sequence(lens, &pointer, element?, value, "len")
        }
        Language::Rust if has(record, "data_ptr") && has(record, "length") => {
            let (pointer, element) = pointer(lens, value, &["data_ptr"])?;
            match is_text(name) {
                true => text(lens, value, "data_ptr", "length"),
                false => sequence(lens, &pointer, element?, value, "length"),
            }
        }
        Language::Rust if name == "String" && has(record, "vec") => {
            let vector = lens.member(value.clone(), "vec").ok()?;
            let (pointer, _) = buffer(lens, &vector)?;
            let length = lens.read(&lens.member(vector, "len").ok()?).ok()?;
            Some(Container::Text(lens.read(&pointer).ok()?, length))
        }
        Language::Rust if name.starts_with("Vec<") && has(record, "buf") => {
            let (pointer, pointed) = buffer(lens, value)?;
            let element = lens.info.type_argument(record.id, "T").or(pointed)?;
            sequence(lens, &pointer, element, value, "len")
        }
        _ => None,
    }
}

/// Whether a pointer with a length is one to text: `&str`, `&mut str`, `Box<str, …>`.
fn is_text(name: &str) -> bool {
    name.ends_with("str") || name.contains("<str")
}

fn has(record: &Type, name: &str) -> bool {
    let TypeKind::Record { members, .. } = &record.kind else {
        return false;
    };
    members.iter().any(|m| m.name.as_deref() == Some(name))
}

/// The pointer that a member is, and what it points to.
fn pointer(lens: &Lens<'_, '_>, value: &Value, path: &[&str]) -> Option<(Value, Option<TypeId>)> {
    let mut value = value.clone();
    for name in path {
        value = lens.member(value, name).ok()?;
    }
    match lens.describe(value.type_id).ok()??.kind {
        TypeKind::Pointer { target, .. } => Some((value, target)),
        _ => None,
    }
}

/// The first pointer within a vector's buffer: how it is wrapped up differs between versions of Rust's library.
fn buffer(lens: &Lens<'_, '_>, vector: &Value) -> Option<(Value, Option<TypeId>)> {
    let buffer = lens.member(vector.clone(), "buf").ok()?;
    first_pointer(lens, &buffer, NESTING_LIMIT)
}

fn first_pointer(
    lens: &Lens<'_, '_>,
    value: &Value,
    depth: usize,
) -> Option<(Value, Option<TypeId>)> {
    let depth = depth.checked_sub(1)?;
    match lens.describe(value.type_id).ok()??.kind {
        TypeKind::Pointer { target, .. } => Some((value.clone(), target)),
        TypeKind::Record { members, .. } => members.iter().find_map(|member| {
            let part = lens.part(value, member).ok()?;
            first_pointer(lens, &part, depth)
        }),
        _ => None,
    }
}

fn text(lens: &Lens<'_, '_>, value: &Value, start: &str, length: &str) -> Option<Container> {
    let (pointer, _) = pointer(lens, value, &[start])?;
    let length = lens.member(value.clone(), length).ok()?;
    Some(Container::Text(
        lens.read(&pointer).ok()?,
        lens.read(&length).ok()?,
    ))
}

fn sequence(
    lens: &Lens<'_, '_>,
    pointer: &Value,
    element: TypeId,
    value: &Value,
    length: &str,
) -> Option<Container> {
    let length = lens.read(&lens.member(value.clone(), length).ok()?).ok()?;
    let size = lens.describe(Some(element)).ok()??.size?;
    Some(Container::Sequence {
        first: lens.target(pointer, Some(element)).ok()?,
        element,
        size,
        length,
    })
}

/// The discriminant of a record with variants, and the ranges of each variant with the number of its member; the member
/// of the variant that there is when no other is.
pub(super) struct Variants {
    pub discriminant: Option<Variable>,
    pub cases: Vec<(Vec<(i64, i64)>, usize)>,
    pub other: Option<usize>,
}

/// The variants that a record has.
pub(super) fn variants(lens: &Lens<'_, '_>, value: &Value, record: &Type) -> Option<Variants> {
    let TypeKind::Record {
        members,
        discriminant,
        ..
    } = &record.kind
    else {
        return None;
    };
    let mut found = Variants {
        discriminant: None,
        cases: Vec::new(),
        other: None,
    };
    for (number, member) in members.iter().enumerate() {
        match &member.variant {
            None => {}
            Some(Variant::Values(ranges)) => found.cases.push((ranges.clone(), number)),
            Some(Variant::Default) => found.other = Some(number),
        }
    }
    if found.cases.is_empty() && found.other.is_none() {
        return None;
    }
    if let Some(discriminant) = discriminant {
        let part = lens.part(value, discriminant).ok()?;
        found.discriminant = Some(lens.read(&part).ok()?);
    }
    Some(found)
}
