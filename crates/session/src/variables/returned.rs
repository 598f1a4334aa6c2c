//! Where functions leave what they return (System V ABI for x86-64, 3.2.3).

use super::place::Place;
use super::value::Lens;
use codegen::Term;
use symbols::{MemberOffset, MemberRole, Type, TypeId, TypeKind};

/// Structures within structures deeper than this are taken for damage.
const NESTING_LIMIT: usize = 16;
/// More parts than this don't fit into two eightbytes.
const PART_LIMIT: u64 = 16;

/// Whether an eightbyte travels in a general or in a vector register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Integer,
    Vector,
}

/// The place of a value of a type that a function has just returned.
pub(super) fn place(lens: &Lens<'_, '_>, type_id: TypeId) -> Result<Place, String> {
    let rax = || Term::Register(0);
    let Some(described) = lens.describe(Some(type_id))? else {
        return Ok(Place::Number(rax()));
    };
    let is_record = matches!(described.kind, TypeKind::Record { .. });
    if is_record && (described.by_reference || described.size.is_none_or(|s| s > 16)) {
        return Ok(Place::Memory(rax()));
    }
    let mut classes = [None; 2];
    if !classify(lens, &described, 0, NESTING_LIMIT, &mut classes)? {
        return Ok(Place::Memory(rax()));
    }
    let (mut general, mut vector) = ([0u8, 2].into_iter(), 0u8..2);
    let mut pieces = Vec::new();
    for class in classes.into_iter().flatten() {
        let term = match class {
            Class::Integer => general.next().map(Term::Register),
            Class::Vector => vector.next().map(|number| Term::Vector {
                number,
                high: false,
            }),
        };
        pieces.extend(term.map(Place::Number));
    }
    if pieces.len() == 1 {
        return pieces.pop().ok_or_else(|| "it has no parts".to_owned());
    }
    Ok(Place::Pieces(
        pieces.into_iter().map(|p| (Ok(p), 64)).collect(),
    ))
}

/// Notes the classes of the eightbytes that a value at a byte offset touches; false when it is returned in memory.
fn classify(
    lens: &Lens<'_, '_>,
    described: &Type,
    at: u64,
    depth: usize,
    classes: &mut [Option<Class>; 2],
) -> Result<bool, String> {
    let depth = depth.checked_sub(1).ok_or("its type leads in a circle")?;
    let scalar = |class, classes: &mut [Option<Class>; 2]| {
        let size = described.size.unwrap_or(8).max(1);
        if !at.is_multiple_of(size.min(8)) {
            return false;
        }
        for eightbyte in at / 8..=(at + size - 1) / 8 {
            let Some(known) = classes.get_mut(eightbyte as usize) else {
                return false;
            };
            *known = match (*known, class) {
                (Some(Class::Integer), _) | (_, Class::Integer) => Some(Class::Integer),
                _ => Some(Class::Vector),
            };
        }
        true
    };
    match &described.kind {
        TypeKind::OtherNumber if described.size.is_some_and(|s| s > 8) => {
            Err(format!("'{}' is returned in st0", described.spelling))
        }
        TypeKind::OtherNumber => Ok(scalar(Class::Vector, classes)),
        TypeKind::Record { members, .. } => {
            for member in members {
                if member.role == MemberRole::Static {
                    continue;
                }
                let MemberOffset::Bytes(offset) = member.offset else {
                    return Ok(false);
                };
                let Some(inner) = lens.describe(member.type_id)? else {
                    continue;
                };
                if let Some((low, _)) = member.bits {
                    let eightbyte = at.saturating_add(offset).saturating_add(low / 8) / 8;
                    match classes.get_mut(usize::try_from(eightbyte).unwrap_or(usize::MAX)) {
                        Some(known) => *known = Some(Class::Integer),
                        None => return Ok(false),
                    }
                } else if !classify(lens, &inner, at.saturating_add(offset), depth, classes)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        TypeKind::Array {
            element,
            dimensions,
        } => {
            let Some(inner) = lens.describe(*element)? else {
                return Ok(false);
            };
            let count = dimensions
                .iter()
                .try_fold(1u64, |n, d| n.checked_mul((*d)?))
                .filter(|n| *n <= PART_LIMIT);
            let (Some(count), Some(size)) = (count, inner.size) else {
                return Ok(false);
            };
            for n in 0..count {
                let start = at.saturating_add(n.saturating_mul(size));
                if !classify(lens, &inner, start, depth, classes)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => Ok(scalar(Class::Integer, classes)),
    }
}
