//! Typed values of a program and the steps from one to its parts: `->member`, `[index]`, the pointer's target.

use super::place::{self, Place, Spelling, add, binary};
use codegen::{Term, TermOperator, Unresolved, Variable};
use script::ir::{ExprKind, TargetStep};
use symbols::suggest;
use symbols::{
    DebugInfo, Member, MemberOffset, MemberRole, Scopes, Type, TypeId, TypeKind, ValueClass,
};

/// Base classes and anonymous members within each other deeper than this are taken for damage.
const NESTING_LIMIT: usize = 32;

/// A value and its type.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    /// Where it stands.
    pub place: Place,
    /// Its type; `None` for `void`.
    pub type_id: Option<TypeId>,
    /// Of an array, how many dimensions have been indexed.
    pub indexed: usize,
    /// A bit-field's lowest bit, from the place, and number of bits.
    pub bits: Option<(u64, u64)>,
    /// It is what an address in the script points to (`@cast`): perhaps the first of several.
    pub is_pointed_to: bool,
}

impl Value {
    pub fn new(place: Place, type_id: Option<TypeId>) -> Value {
        Value {
            place,
            type_id,
            indexed: 0,
            bits: None,
            is_pointed_to: false,
        }
    }
}

/// What values are looked at with.
#[derive(Clone, Copy)]
pub(crate) struct Lens<'a, 'b> {
    pub info: &'a DebugInfo<'b>,
    pub scopes: Option<&'a Scopes<'b>>,
    pub spelling: Spelling<'a>,
}

impl Lens<'_, '_> {
    pub fn describe(&self, id: Option<TypeId>) -> Result<Option<Type>, String> {
        let Some(id) = id else {
            return Ok(None);
        };
        let mut found = self.info.describe(id).map_err(|e| e.to_string())?;
        if let TypeKind::Record {
            complete: false, ..
        } = found.kind
            && let Some(definition) = self.info.definition(&found)
        {
            found = self.info.describe(definition).map_err(|e| e.to_string())?;
        }
        Ok(Some(found))
    }

    /// What a pointer points to.
    pub fn target(&self, value: &Value, target: Option<TypeId>) -> Result<Value, String> {
        let place = match &value.place {
            Place::PointerTo(entity, offset) => {
                let scopes = self.scopes.ok_or("it points to something optimised out")?;
                let location = self.info.pointed_to(scopes, *entity);
                let location = location.ok_or("it points to something optimised out")?;
                let from = u64::try_from(*offset).map_err(|_| "damaged implicit pointer")?;
                let place = self.spelling.place(&location)?;
                place::part(&place, from.saturating_mul(8), u64::MAX)?
            }
            place => Place::Memory(place::number(place, 8)?),
        };
        Ok(Value::new(place, target))
    }

    /// Through pointers and references to the record that a member is wanted of.
    fn record(&self, value: Value, step: &str) -> Result<(Value, Type), String> {
        let mut value = value;
        let mut followed = false;
        for _ in 0..NESTING_LIMIT {
            let Some(described) = self.describe(value.type_id)? else {
                return Err(format!("invalid access '{step}' vs 'void*'"));
            };
            match described.kind {
                TypeKind::Record { .. } => return Ok((value, described)),
                TypeKind::Pointer { target, reference } if reference || !followed => {
                    followed |= !reference;
                    value = self.target(&value, target)?;
                }
                _ => {
                    return Err(format!(
                        "invalid access '{step}' vs. {}",
                        described.spelling
                    ));
                }
            }
        }
        Err("references lead in a circle".into())
    }

    pub fn member(&self, value: Value, name: &str) -> Result<Value, String> {
        let (value, record) = self.record(value, &format!("->{name}"))?;
        if let TypeKind::Record {
            complete: false,
            keyword,
            ..
        } = &record.kind
        {
            return Err(format!(
                "unresolved {} {}",
                keyword.as_str(),
                record.name.as_deref().unwrap_or("{...}")
            ));
        }
        if let Some(found) = self.find(&value, &record, name, NESTING_LIMIT)? {
            return Ok(found);
        }
        let mut known = Vec::new();
        self.member_names(&record, NESTING_LIMIT, &mut known)?;
        let known = suggest::similar(name, known.iter().map(String::as_str), usize::MAX);
        let place = match (&record.name, &record.declared) {
            (None, Some((file, line))) => format!(" ({file}:{line})"),
            _ => String::new(),
        };
        Err(format!(
            "unable to find member '{name}' for {}{place} (alternatives: {})",
            tagged(&record),
            known.join(", ")
        ))
    }

    fn find(
        &self,
        value: &Value,
        record: &Type,
        name: &str,
        depth: usize,
    ) -> Result<Option<Value>, String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Ok(None);
        };
        let TypeKind::Record { members, .. } = &record.kind else {
            return Ok(None);
        };
        let named = |m: &&Member| m.name.as_deref() == Some(name) && m.role != MemberRole::Base;
        if let Some(member) = members.iter().find(named) {
            return self.part(value, member).map(Some);
        }
        // A part that can't be placed only matters when the name is in it; of several that have it the nearest is meant.
        let mut parts = Vec::new();
        for member in members.iter().filter(|m| is_transparent(m)) {
            if let Some(inner) = self.describe(member.type_id)?
                && let Some(distance) = self.distance(&inner, name, depth)?
            {
                let distance = distance + usize::from(member.role == MemberRole::Base);
                parts.push((distance, member, inner));
            }
        }
        parts.sort_by_key(|(distance, ..)| *distance);
        for (_, member, inner) in parts {
            let part = self.part(value, member)?;
            if let Some(found) = self.find(&part, &inner, name, depth)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// How many base classes away a member of a name is, if there is one.
    fn distance(&self, record: &Type, name: &str, depth: usize) -> Result<Option<usize>, String> {
        let (Some(depth), TypeKind::Record { members, .. }) = (depth.checked_sub(1), &record.kind)
        else {
            return Ok(None);
        };
        let mut least = None;
        for member in members {
            let distance = if is_transparent(member) {
                match self.describe(member.type_id)? {
                    Some(inner) => self.distance(&inner, name, depth)?,
                    None => None,
                }
            } else {
                (member.name.as_deref() == Some(name)).then_some(0)
            };
            let distance = distance.map(|d| d + usize::from(member.role == MemberRole::Base));
            least = match (least, distance) {
                (Some(a), Some(b)) => Some(usize::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(least)
    }

    fn member_names(
        &self,
        record: &Type,
        depth: usize,
        found: &mut Vec<String>,
    ) -> Result<(), String> {
        let (Some(depth), TypeKind::Record { members, .. }) = (depth.checked_sub(1), &record.kind)
        else {
            return Ok(());
        };
        for member in members {
            if is_transparent(member) {
                if let Some(inner) = self.describe(member.type_id)? {
                    self.member_names(&inner, depth, found)?;
                }
            } else {
                found.extend(member.name.clone());
            }
        }
        Ok(())
    }

    /// A member or base class of a value.
    pub fn part(&self, value: &Value, member: &Member) -> Result<Value, String> {
        if member.role == MemberRole::Static {
            let name = member.name.as_deref().unwrap_or_default();
            let global = self
                .info
                .static_member(member, self.spelling.pc)
                .ok_or_else(|| format!("the static member '{name}' has no place"))?;
            let place = self.spelling.place(&global.location)?;
            return Ok(Value::new(place, member.type_id));
        }
        let place = match &member.offset {
            MemberOffset::Bytes(offset) => {
                let bits = match (member.bits, self.describe(member.type_id)?) {
                    (Some((low, size)), _) => low.saturating_add(size),
                    (None, Some(described)) => described.size.unwrap_or(0).saturating_mul(8),
                    (None, None) => 0,
                };
                place::part(&value.place, offset.saturating_mul(8), bits.max(8))?
            }
            MemberOffset::Computed(term) => {
                let Place::Memory(object) = &value.place else {
                    return Err("a virtual base class of something that is not in memory".into());
                };
                Place::Memory(self.spelling.substituted(term, Some(object))?)
            }
        };
        Ok(Value {
            place,
            type_id: member.type_id,
            indexed: 0,
            bits: member.bits,
            is_pointed_to: false,
        })
    }

    /// `[index]`; the index is the `step`-th step of the target expression.
    pub fn element(
        &self,
        value: Value,
        step: usize,
        index: &script::ir::Expr,
        deeper: usize,
    ) -> Result<Value, String> {
        let constant = match index.kind {
            ExprKind::Long(n) => Some(n),
            _ => None,
        };
        let shown = constant.map_or_else(|| "[…]".to_owned(), |n| format!("[{n}]"));
        let mut value = value;
        for _ in 0..NESTING_LIMIT {
            let Some(described) = self.describe(value.type_id)? else {
                return Err(format!("invalid access '{shown}' vs 'void*'"));
            };
            let (start, element, factor, indexed) = match &described.kind {
                TypeKind::Pointer {
                    target,
                    reference: true,
                } => {
                    value = self.target(&value, *target)?;
                    continue;
                }
                TypeKind::Pointer { target, .. } => {
                    (self.target(&value, *target)?.place, *target, 1, None)
                }
                TypeKind::Array {
                    element,
                    dimensions,
                } => {
                    // As many indices as dimensions mean what they mean in C; fewer count elements, as stap does.
                    let left = dimensions.len().saturating_sub(value.indexed);
                    let rows = if value.indexed > 0 || deeper + 1 >= left {
                        dimensions.get(value.indexed + 1..).unwrap_or_default()
                    } else {
                        &[]
                    };
                    let factor = rows
                        .iter()
                        .try_fold(1u64, |n, d| n.checked_mul((*d)?))
                        .ok_or("its dimensions are not known")?;
                    let indexed = (!rows.is_empty()).then_some(value.indexed + 1);
                    (value.place.clone(), *element, factor, indexed)
                }
                _ if value.is_pointed_to => (value.place.clone(), value.type_id, 1, None),
                _ => {
                    return Err(format!(
                        "invalid access '{shown}' vs. {}",
                        described.spelling
                    ));
                }
            };
            let size = match self.describe(element)? {
                Some(described) => described.size,
                None => return Err(format!("invalid access '{shown}' vs 'void*'")),
            };
            let size = size.ok_or("the size of its elements is not known")?;
            let scale = size
                .checked_mul(factor)
                .and_then(|s| i64::try_from(s).ok())
                .ok_or("its elements are too large")?;
            let place = self.at(&start, step, constant, scale, size)?;
            return Ok(match indexed {
                Some(indexed) => Value {
                    indexed,
                    ..Value::new(place, value.type_id)
                },
                None => Value::new(place, element),
            });
        }
        Err("references lead in a circle".into())
    }

    /// The n-th of the values of one type that stand one behind the other from this one on, where the type has no
    /// elements of its own; the index is the `step`-th step of the target expression.
    pub fn nth(
        &self,
        value: &Value,
        step: usize,
        index: &script::ir::Expr,
    ) -> Result<Option<Value>, String> {
        let Some(described) = self.describe(value.type_id)? else {
            return Ok(None);
        };
        if let TypeKind::Pointer { .. } | TypeKind::Array { .. } = described.kind {
            return Ok(None);
        }
        let size = described.size.ok_or("the size of its type is not known")?;
        let scale = i64::try_from(size).map_err(|_| "its type is too large")?;
        let constant = match index.kind {
            ExprKind::Long(n) => Some(n),
            _ => None,
        };
        let place = self.at(&value.place, step, constant, scale, size)?;
        Ok(Some(Value::new(place, value.type_id)))
    }

    fn at(
        &self,
        start: &Place,
        step: usize,
        constant: Option<i64>,
        scale: i64,
        size: u64,
    ) -> Result<Place, String> {
        match (start, constant) {
            (Place::Memory(address), Some(n)) => {
                Ok(Place::Memory(add(address.clone(), n.wrapping_mul(scale))))
            }
            (Place::Memory(address), None) => {
                let offset = binary(
                    TermOperator::Multiply,
                    Term::Index(step),
                    Term::Constant(scale),
                );
                Ok(Place::Memory(binary(
                    TermOperator::Add,
                    address.clone(),
                    offset,
                )))
            }
            (place, Some(n)) => {
                let from = n
                    .checked_mul(scale)
                    .and_then(|b| b.checked_mul(8))
                    .and_then(|b| u64::try_from(b).ok())
                    .ok_or("the index is out of range")?;
                place::part(place, from, size.saturating_mul(8))
            }
            (_, None) => Err("an array that is not in memory takes only constant indices".into()),
        }
    }

    /// All steps of a target expression but a last `$`.
    pub fn walk(&self, value: Value, steps: &[TargetStep]) -> Result<Value, Unresolved> {
        self.walk_from(value, steps, 0)
    }

    /// The steps from the `first`-th on.
    pub fn walk_from(
        &self,
        value: Value,
        steps: &[TargetStep],
        first: usize,
    ) -> Result<Value, Unresolved> {
        let mut value = value;
        for (number, step) in steps.iter().enumerate().skip(first) {
            let at_step = |message| Unresolved {
                message,
                step: Some(number),
            };
            value = match step {
                TargetStep::Member(name) => self.member(value, name).map_err(at_step)?,
                TargetStep::Index(index) => {
                    let rest = steps.get(number + 1..).unwrap_or_default();
                    let deeper = rest
                        .iter()
                        .take_while(|s| matches!(s, TargetStep::Index(_)))
                        .count();
                    self.element(value, number, index, deeper)
                        .map_err(at_step)?
                }
                TargetStep::Pretty(_) => value,
            };
        }
        Ok(value)
    }

    /// The number that a value is in a script.
    pub fn read(&self, value: &Value) -> Result<Variable, String> {
        let Some(described) = self.describe(value.type_id)? else {
            return Err("a value of type void can't be read".into());
        };
        if let TypeKind::Array { .. } = described.kind {
            return address(value);
        }
        let (size, signed) = self.shape(&described)?;
        self.sized(value, size, signed)
    }

    /// Bytes and sign of a value of a type.
    fn shape(&self, described: &Type) -> Result<(u8, bool), String> {
        Ok(match &described.kind {
            TypeKind::Integer { class, .. } | TypeKind::Enumeration { class, .. } => match class {
                ValueClass::Signed(size) => (*size, true),
                ValueClass::Unsigned(size) => (*size, false),
                ValueClass::Enum { size, signed } => (*size, *signed),
                ValueClass::Bool => (1, false),
                ValueClass::Pointer => (8, false),
                ValueClass::Other => return Err(TOO_WIDE.into()),
            },
            TypeKind::Pointer { .. } => (8, false),
            // The bits of a floating-point number, for fp_to_string() and its kin.
            TypeKind::OtherNumber => match described.size {
                Some(4) => (4, false),
                Some(8) => (8, false),
                _ => return Err(TOO_WIDE.into()),
            },
            TypeKind::Record { members, .. } => {
                let first = members.iter().filter_map(|m| m.name.as_deref()).min();
                let member = match first {
                    Some(name) => format!("->{name}"),
                    None => "->…".to_owned(),
                };
                let place = match &described.declared {
                    Some((file, line)) => format!(" ({file}:{line})"),
                    None => String::new(),
                };
                return Err(format!(
                    "'{}'{place} is being accessed instead of a member such as '{member}'",
                    tagged(described)
                ));
            }
            TypeKind::Function => return Err("a function is no value".into()),
            TypeKind::Void | TypeKind::Array { .. } | TypeKind::Other(_) => {
                return Err(format!("unsupported type '{}'", described.spelling));
            }
        })
    }

    fn sized(&self, value: &Value, size: u8, signed: bool) -> Result<Variable, String> {
        let Some((low, count)) = value.bits else {
            return place::variable(&value.place, size, signed);
        };
        // The smallest power of two of bytes that holds the field.
        let place = place::part(&value.place, low / 8 * 8, count + low % 8)?;
        let low = low % 8;
        let bytes = (low + count).div_ceil(8).next_power_of_two();
        let bytes = u8::try_from(bytes)
            .ok()
            .filter(|b| *b <= 8)
            .ok_or("a bit-field of more than 64 bits")?;
        let mut variable = place::variable(&place, bytes, signed)?;
        variable.bits = Some((low as u8, count as u8));
        Ok(variable)
    }
}

/// What stap says of `&` before a bit-field.
pub(crate) const BIT_FIELD: &str = "cannot take the address of a bit field";

/// What it says of `&` before something that is not in memory.
pub(crate) const NO_ADDRESS: &str = "cannot take address of object in register";

/// What it says of numbers that handlers have no room for.
pub(crate) const TOO_WIDE: &str = "cannot process >64-bit values";

/// The address of a value.
pub(crate) fn address(value: &Value) -> Result<Variable, String> {
    let Place::Memory(address) = &value.place else {
        return Err(NO_ADDRESS.into());
    };
    if value.bits.is_some() {
        return Err(BIT_FIELD.into());
    }
    let mut variable = Variable::plain(place::memory(address), 8, false);
    variable.aggregate = true;
    Ok(variable)
}

/// `struct foo`, `struct {...}`.
pub(crate) fn tagged(described: &Type) -> String {
    let name = described.name.as_deref().unwrap_or("{...}");
    match &described.kind {
        TypeKind::Record { keyword, .. } => format!("{} {name}", keyword.as_str()),
        _ => described.spelling.clone(),
    }
}

/// Whether a member's own members count as the outer one's.
pub(crate) fn is_transparent(member: &Member) -> bool {
    match member.role {
        MemberRole::Base => true,
        MemberRole::Plain => member.name.is_none(),
        MemberRole::Static | MemberRole::Artificial => false,
    }
}
