//! What types consist of: members with their offsets, elements, enumerators.

use gimli::AttributeValue;

use super::expression::{Context, evaluate_from};
use super::scopes::members;
use super::types;
use super::units::{Place, REFERENCE_LIMIT, Units};
use super::{EntityId, Location, Term, TypeId, ValueClass};

/// A type, typedefs and qualifiers seen through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// As it was asked for.
    pub id: TypeId,
    /// The C spelling as SystemTap prints it, of the type that was asked for: a typedef's own name.
    pub spelling: String,
    /// `DW_AT_name` of the type behind typedefs and qualifiers.
    pub name: Option<String>,
    /// Bytes, where they are known.
    pub size: Option<u64>,
    /// The file and line that declare the type behind typedefs and qualifiers.
    pub declared: Option<(String, u64)>,
    /// A C++ class that is passed and returned by address whatever its size (`DW_CC_pass_by_reference`).
    pub by_reference: bool,
    /// What it is.
    pub kind: TypeKind,
}

/// What a type is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// `void`.
    Void,
    /// An integer, boolean or character.
    Integer {
        /// Size and sign.
        class: ValueClass,
        /// Whether it holds a character.
        character: bool,
    },
    /// A floating-point number, or another that is not one integer.
    OtherNumber,
    /// A pointer.
    Pointer {
        /// What it points to; `None` for `void *`.
        target: Option<TypeId>,
        /// A C++ reference, which is followed without being asked.
        reference: bool,
    },
    /// A structure, class or union.
    Record {
        /// Which.
        keyword: Keyword,
        /// Base classes and members, in the order of the source; those of all variants among them.
        members: Vec<Member>,
        /// Of a record with variants, such as a Rust enumeration: the number that tells which of them there is.
        discriminant: Option<Box<Member>>,
        /// False when only its name is known here.
        complete: bool,
    },
    /// An array.
    Array {
        /// What it holds.
        element: Option<TypeId>,
        /// Number of elements of each dimension; `None` where it isn't known.
        dimensions: Vec<Option<u64>>,
    },
    /// An enumeration.
    Enumeration {
        /// Size and sign.
        class: ValueClass,
        /// Names and values.
        enumerators: Vec<(String, i64)>,
    },
    /// A function.
    Function,
    /// Anything else, by the name of its tag.
    Other(String),
}

/// `struct`, `class` or `union`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Keyword {
    Struct,
    Class,
    Union,
}

impl Keyword {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Keyword::Struct => "struct",
            Keyword::Class => "class",
            Keyword::Union => "union",
        }
    }
}

/// A member or base class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name; `None` for an anonymous structure or union, whose members count as the outer one's.
    pub name: Option<String>,
    /// Its type.
    pub type_id: Option<TypeId>,
    /// Where it is.
    pub offset: MemberOffset,
    /// A bit-field: its lowest bit, counted from the place that `offset` gives, and how many bits there are.
    pub bits: Option<(u64, u64)>,
    /// What it is besides a plain member.
    pub role: MemberRole,
    /// Of a member that is only there in some variant: when that is.
    pub variant: Option<Variant>,
    /// Its entry.
    pub id: EntityId,
}

/// When a variant is what a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variant {
    /// When the discriminant, as its type has it, is in one of these ranges, ends included.
    Values(Vec<(i64, i64)>),
    /// When no other one is.
    Default,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberRole {
    /// A member.
    Plain,
    /// A base class.
    Base,
    /// A static member: its value is not in the object.
    Static,
    /// Made by the compiler (`_vptr`).
    Artificial,
}

/// Where a member is within its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberOffset {
    /// Bytes from the object's start.
    Bytes(u64),
    /// At an address that the object itself tells (a virtual base class): in this term, [`OBJECT`] stands for the
    /// object's address.
    Computed(Term),
}

/// The register number that stands for an object's address in [`MemberOffset::Computed`].
pub const OBJECT: u16 = u16::MAX;

/// The entry behind typedefs and qualifiers; `None` for `void`.
pub(crate) fn peel<'a>(units: &Units<'a>, place: Option<Place<'a>>) -> Option<Place<'a>> {
    let mut place = place?;
    for _ in 0..REFERENCE_LIMIT * 4 {
        match place.entry.tag() {
            gimli::DW_TAG_typedef
            | gimli::DW_TAG_const_type
            | gimli::DW_TAG_volatile_type
            | gimli::DW_TAG_restrict_type
            | gimli::DW_TAG_atomic_type
            | gimli::DW_TAG_immutable_type
            | gimli::DW_TAG_packed_type => place = units.referred(&place, gimli::DW_AT_type)?,
            _ => {
                // A declaration in a type unit's place leads to the definition.
                return match units.referred(&place, gimli::DW_AT_signature) {
                    Some(definition) => Some(definition),
                    None => Some(place),
                };
            }
        }
    }
    None
}

/// Describes a type.
pub(crate) fn describe<'a>(units: &Units<'a>, id: TypeId) -> gimli::Result<Type> {
    let place = units.place(id.0)?;
    let spelling = types::name(units, Some(&place));
    let Some(real) = peel(units, Some(place)) else {
        return Ok(Type {
            id,
            spelling,
            name: None,
            size: None,
            declared: None,
            by_reference: false,
            kind: TypeKind::Void,
        });
    };
    let file = super::function_entry::decl_file(units, &real);
    let line = real.number(gimli::DW_AT_decl_line);
    let kind = kind(units, &real)?;
    let size = size_of(units, &real, &kind);
    Ok(Type {
        id,
        spelling,
        name: real.name(),
        size,
        declared: file.zip(line),
        by_reference: matches!(
            real.entry.attr_value(gimli::DW_AT_calling_convention),
            Some(AttributeValue::CallingConvention(
                gimli::DW_CC_pass_by_reference
            ))
        ),
        kind,
    })
}

fn size_of<'a>(units: &Units<'a>, place: &Place<'a>, kind: &TypeKind) -> Option<u64> {
    if let Some(size) = place.number(gimli::DW_AT_byte_size) {
        return Some(size);
    }
    match kind {
        TypeKind::Pointer { .. } => Some(8),
        TypeKind::Array {
            element,
            dimensions,
        } => {
            let element = describe(units, (*element)?).ok()?.size?;
            dimensions
                .iter()
                .try_fold(element, |n, d| n.checked_mul((*d)?))
        }
        TypeKind::Enumeration {
            class: ValueClass::Enum { size, .. },
            ..
        } => Some(u64::from(*size)),
        _ => None,
    }
}

fn kind<'a>(units: &Units<'a>, place: &Place<'a>) -> gimli::Result<TypeKind> {
    let target = || {
        units
            .referred(place, gimli::DW_AT_type)
            .map(|p| TypeId(p.id()))
    };
    Ok(match place.entry.tag() {
        gimli::DW_TAG_base_type => {
            let class = types::class(units, Some(place));
            let character = matches!(
                place.entry.attr_value(gimli::DW_AT_encoding),
                Some(AttributeValue::Encoding(
                    gimli::DW_ATE_signed_char | gimli::DW_ATE_unsigned_char | gimli::DW_ATE_UTF
                ))
            );
            match class {
                ValueClass::Other => TypeKind::OtherNumber,
                class => TypeKind::Integer { class, character },
            }
        }
        gimli::DW_TAG_pointer_type | gimli::DW_TAG_ptr_to_member_type => TypeKind::Pointer {
            target: target(),
            reference: false,
        },
        gimli::DW_TAG_reference_type | gimli::DW_TAG_rvalue_reference_type => TypeKind::Pointer {
            target: target(),
            reference: true,
        },
        gimli::DW_TAG_structure_type => record(units, place, Keyword::Struct)?,
        gimli::DW_TAG_class_type => record(units, place, Keyword::Class)?,
        gimli::DW_TAG_union_type => record(units, place, Keyword::Union)?,
        gimli::DW_TAG_array_type => TypeKind::Array {
            element: target(),
            dimensions: dimensions(place)?,
        },
        gimli::DW_TAG_enumeration_type => {
            let mut enumerators = Vec::new();
            for child in members(place)? {
                if child.entry.tag() != gimli::DW_TAG_enumerator {
                    continue;
                }
                let value = child
                    .entry
                    .attr_value(gimli::DW_AT_const_value)
                    .and_then(|v| {
                        v.sdata_value()
                            .or_else(|| v.udata_value().map(u64::cast_signed))
                    });
                enumerators.extend(child.name().zip(value));
            }
            TypeKind::Enumeration {
                class: types::class(units, Some(place)),
                enumerators,
            }
        }
        gimli::DW_TAG_subroutine_type => TypeKind::Function,
        other => TypeKind::Other(
            other
                .static_string()
                .unwrap_or("DW_TAG_unknown")
                .trim_start_matches("DW_TAG_")
                .to_owned(),
        ),
    })
}

fn dimensions(place: &Place<'_>) -> gimli::Result<Vec<Option<u64>>> {
    let mut found = Vec::new();
    for child in members(place)? {
        if child.entry.tag() != gimli::DW_TAG_subrange_type {
            continue;
        }
        let upper = || {
            let upper = child.number(gimli::DW_AT_upper_bound)?;
            let lower = child.number(gimli::DW_AT_lower_bound).unwrap_or(0);
            upper.checked_sub(lower)?.checked_add(1)
        };
        found.push(child.number(gimli::DW_AT_count).or_else(upper));
    }
    if found.is_empty() {
        found.push(None);
    }
    Ok(found)
}

fn record<'a>(units: &Units<'a>, place: &Place<'a>, keyword: Keyword) -> gimli::Result<TypeKind> {
    let mut found = Vec::new();
    let mut discriminant = None;
    collect(units, place, None, &mut found, &mut discriminant)?;
    Ok(TypeKind::Record {
        keyword,
        members: found,
        discriminant,
        complete: !place.flag(gimli::DW_AT_declaration),
    })
}

fn collect<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
    variant: Option<&Variant>,
    found: &mut Vec<Member>,
    discriminant: &mut Option<Box<Member>>,
) -> gimli::Result<()> {
    for child in members(place)? {
        let role = match child.entry.tag() {
            gimli::DW_TAG_member
                if child.flag(gimli::DW_AT_external) || child.flag(gimli::DW_AT_declaration) =>
            {
                MemberRole::Static
            }
            gimli::DW_TAG_member if child.flag(gimli::DW_AT_artificial) => MemberRole::Artificial,
            gimli::DW_TAG_member => MemberRole::Plain,
            gimli::DW_TAG_variable => MemberRole::Static,
            gimli::DW_TAG_inheritance => MemberRole::Base,
            // The variants of a Rust enumeration overlay each other as the members of a union do.
            gimli::DW_TAG_variant_part if variant.is_none() => {
                if let Some(tells) = units.referred(&child, gimli::DW_AT_discr) {
                    *discriminant = Some(Box::new(member(units, &tells, MemberRole::Artificial)));
                }
                for inner in members(&child)? {
                    if inner.entry.tag() == gimli::DW_TAG_variant {
                        let when = when(units, &inner, discriminant.as_deref());
                        collect(units, &inner, Some(&when), found, discriminant)?;
                    }
                }
                continue;
            }
            _ => continue,
        };
        let mut member = member(units, &child, role);
        member.variant = variant.cloned();
        found.push(member);
    }
    Ok(())
}

/// When a variant is there: its value or list of values, else when no other is (DWARF 5, 5.7.10).
fn when<'a>(units: &Units<'a>, variant: &Place<'a>, discriminant: Option<&Member>) -> Variant {
    let described = discriminant
        .and_then(|d| d.type_id)
        .and_then(|id| describe(units, id).ok());
    let (bits, is_signed) = match described {
        Some(Type {
            size: Some(size @ 1..=8),
            kind,
            ..
        }) => (
            size * 8,
            matches!(
                kind,
                TypeKind::Integer {
                    class: ValueClass::Signed(_),
                    ..
                }
            ),
        ),
        _ => (64, false),
    };
    let as_typed = |value: u64| {
        let up = 64 - bits;
        match is_signed {
            true => (value << up).cast_signed() >> up,
            false => (value << up >> up).cast_signed(),
        }
    };
    if let Some(value) = variant.entry.attr_value(gimli::DW_AT_discr_value) {
        let number = value
            .udata_value()
            .or_else(|| value.sdata_value().map(i64::cast_unsigned));
        return match number.map(as_typed) {
            Some(number) => Variant::Values(vec![(number, number)]),
            None => Variant::Values(Vec::new()),
        };
    }
    let Some(AttributeValue::Block(list)) = variant.entry.attr_value(gimli::DW_AT_discr_list)
    else {
        return Variant::Default;
    };
    let mut list = list;
    let mut values = Vec::new();
    let number = |list: &mut super::sections::Slice<'a>| {
        use gimli::Reader;
        let number = match is_signed {
            true => list.read_sleb128().map(i64::cast_unsigned),
            false => list.read_uleb128(),
        };
        number.ok().map(as_typed)
    };
    while let Some((kind, rest)) = list.slice().split_first() {
        list = super::sections::Slice::new(rest, gimli::LittleEndian);
        let Some(low) = number(&mut list) else { break };
        let high = match *kind == gimli::DW_DSC_range.0 {
            true => number(&mut list),
            false => Some(low),
        };
        let Some(high) = high else { break };
        values.push((low, high));
    }
    Variant::Values(values)
}

fn member<'a>(units: &Units<'a>, place: &Place<'a>, role: MemberRole) -> Member {
    let offset = match place.entry.attr_value(gimli::DW_AT_data_member_location) {
        None => MemberOffset::Bytes(0),
        Some(AttributeValue::Exprloc(expression)) => located(units, place, expression),
        Some(AttributeValue::Block(block)) => located(units, place, gimli::Expression(block)),
        Some(value) => MemberOffset::Bytes(value.udata_value().unwrap_or(0)),
    };
    Member {
        name: place.name(),
        type_id: units
            .referred(place, gimli::DW_AT_type)
            .map(|p| TypeId(p.id())),
        bits: bits(units, place),
        offset,
        role,
        variant: None,
        id: EntityId(place.id()),
    }
}

/// A location expression with the object's address on its stack.
fn located<'a>(
    units: &Units<'a>,
    place: &Place<'a>,
    expression: gimli::Expression<super::sections::Slice<'a>>,
) -> MemberOffset {
    let context = Context {
        units,
        pc: 0,
        entry: None,
        frame_base: None,
        callers: None,
        frame: std::cell::OnceCell::new(),
    };
    match evaluate_from(&context, &place.unit, expression, Term::Register(OBJECT)) {
        Location::Memory(term) | Location::Value(term) => match term.as_register_plus() {
            Some((OBJECT, n)) if n >= 0 => MemberOffset::Bytes(n.cast_unsigned()),
            _ => MemberOffset::Computed(term),
        },
        _ => MemberOffset::Bytes(0),
    }
}

/// `DW_AT_data_bit_offset` counts from the object's start; `DW_AT_bit_offset` (DWARF 2 and 3) from the most significant
/// bit of a storage unit of `DW_AT_byte_size` bytes at the member's place.
fn bits<'a>(units: &Units<'a>, place: &Place<'a>) -> Option<(u64, u64)> {
    let size = place.number(gimli::DW_AT_bit_size)?;
    if let Some(offset) = place.number(gimli::DW_AT_data_bit_offset) {
        return Some((offset, size));
    }
    let Some(from_top) = place.number(gimli::DW_AT_bit_offset) else {
        return Some((0, size));
    };
    let storage = place.number(gimli::DW_AT_byte_size).or_else(|| {
        let real = peel(units, units.referred(place, gimli::DW_AT_type))?;
        real.number(gimli::DW_AT_byte_size)
    })?;
    let low = storage
        .checked_mul(8)?
        .checked_sub(from_top)?
        .checked_sub(size)?;
    Some((low, size))
}
