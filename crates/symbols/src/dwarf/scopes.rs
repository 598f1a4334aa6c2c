//! Which function, inlined copies and blocks hold an address, and the variables that are visible there.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use gimli::{AttributeValue, Expression, UnitOffset};

use super::call_sites::Callers;
use super::expression::{Context, evaluate};
use super::function_entry::{entry_of, has_code, ranges};
use super::function_index::FunctionIndex;
use super::sections::Slice;
use super::types;
use super::units::{EntryId, FunctionRange, Place, Unit, Units};
use super::{EntityId, Location, TypeId, Variable, VariableKind};
use crate::address::ImageAddr;

/// Blocks within blocks deeper than this are left alone.
const DEPTH_LIMIT: usize = 64;

/// The scopes that hold an address.
pub(crate) struct Chain<'a> {
    /// Innermost first: blocks and inlined copies, the function itself last.
    pub scopes: Vec<Place<'a>>,
}

impl<'a> Chain<'a> {
    /// The function whose own code it is.
    pub fn function(&self) -> Option<&Place<'a>> {
        self.scopes.last()
    }

    /// The scopes whose variables can be seen: up to the innermost inlined copy, since the function that it was copied
    /// into is another one.
    pub fn visible(&self) -> &[Place<'a>] {
        let end = self
            .scopes
            .iter()
            .position(|p| p.entry.tag() == gimli::DW_TAG_inlined_subroutine);
        self.scopes
            .get(..=end.unwrap_or(self.scopes.len().saturating_sub(1)))
            .unwrap_or(&self.scopes)
    }

    /// The same seen from a function or copy further out: what is inside of it and was inlined is left out.
    pub fn within(&self, scope: &Place<'a>) -> Vec<Place<'a>> {
        let id = scope.id();
        let Some(at) = self.scopes.iter().position(|p| p.id() == id) else {
            // The entry of an inlined copy may lie outside of its code.
            if scope.entry.tag() == gimli::DW_TAG_inlined_subroutine {
                return vec![scope.clone()];
            }
            return self.visible().to_vec();
        };
        let inner = self.scopes.get(..at).unwrap_or_default();
        let start = inner
            .iter()
            .rposition(|p| p.entry.tag() == gimli::DW_TAG_inlined_subroutine)
            .map_or(0, |i| i + 1);
        self.scopes.get(start..=at).unwrap_or_default().to_vec()
    }
}

/// Whether the code of a scope holds an address; `None` when it says nothing of code.
fn holds(place: &Place<'_>, pc: u64) -> Option<bool> {
    let found = ranges(place).ok()?;
    if found.is_empty() {
        return None;
    }
    Some(found.iter().any(|r| r.begin <= pc && pc < r.end))
}

/// Whether an entry is a function whose code holds an address.
pub(crate) fn is_function_at(place: &Place<'_>, pc: u64) -> bool {
    place.entry.tag() == gimli::DW_TAG_subprogram && holds(place, pc) == Some(true)
}

/// The function of a unit whose code holds an address.
pub(crate) fn function_at<'a>(
    units: &Units<'a>,
    unit: &Rc<Unit<'a>>,
    pc: u64,
) -> gimli::Result<Option<Place<'a>>> {
    let functions = units.functions_of(unit, || functions_of(unit))?;
    let behind = functions.partition_point(|f| f.begin <= pc);
    // Functions do not overlap, but code of one that the linker discarded may seem to lie anywhere.
    const LOOK_BACK: usize = 64;
    let before = functions.get(..behind).unwrap_or_default();
    let found = before.iter().rev().take(LOOK_BACK).find(|f| pc < f.end);
    found
        .map(|f| {
            Ok(Place {
                unit: Rc::clone(unit),
                entry: unit.entry(UnitOffset(f.die))?,
            })
        })
        .transpose()
}

/// The code of all functions of a unit.
pub(crate) fn functions_of(unit: &Rc<Unit<'_>>) -> gimli::Result<Vec<FunctionRange>> {
    let mut found = Vec::new();
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        entries.skip_attributes(abbreviation.attributes())?;
        if abbreviation.tag() != gimli::DW_TAG_subprogram || !has_code(abbreviation.attributes()) {
            continue;
        }
        let place = Place {
            unit: Rc::clone(unit),
            entry: unit.entry(offset)?,
        };
        for range in ranges(&place).unwrap_or_default() {
            found.push(FunctionRange {
                begin: range.begin,
                end: range.end,
                die: offset.0,
            });
        }
    }
    Ok(found)
}

/// The scopes inside of a function that hold an address.
pub(crate) fn chain<'a>(function: Place<'a>, pc: u64) -> gimli::Result<Chain<'a>> {
    let mut scopes = Vec::new();
    descend(&function, pc, DEPTH_LIMIT, &mut scopes)?;
    scopes.push(function);
    Ok(Chain { scopes })
}

fn descend<'a>(
    place: &Place<'a>,
    pc: u64,
    depth: usize,
    found: &mut Vec<Place<'a>>,
) -> gimli::Result<bool> {
    let Some(depth) = depth.checked_sub(1) else {
        return Ok(false);
    };
    for child in members(place)? {
        let inner = matches!(
            child.entry.tag(),
            gimli::DW_TAG_lexical_block
                | gimli::DW_TAG_inlined_subroutine
                | gimli::DW_TAG_try_block
                | gimli::DW_TAG_catch_block
        );
        if !inner {
            continue;
        }
        match holds(&child, pc) {
            Some(true) => {
                descend(&child, pc, depth, found)?;
                found.push(child);
                return Ok(true);
            }
            // A block that says nothing of its own code may hold copies that do.
            None if child.entry.tag() == gimli::DW_TAG_lexical_block
                && descend(&child, pc, depth, found)? =>
            {
                found.push(child);
                return Ok(true);
            }
            _ => {}
        }
    }
    Ok(false)
}

/// The entries directly below another.
pub(crate) fn members<'a>(place: &Place<'a>) -> gimli::Result<Vec<Place<'a>>> {
    let mut found = Vec::new();
    if !place.entry.has_children() {
        return Ok(found);
    }
    let mut cursor = place
        .unit
        .entries_at_offset(UnitOffset(place.entry.offset().0))?;
    if !cursor.next_entry()? || cursor.next_dfs()?.is_none() {
        return Ok(found);
    }
    while let Some(entry) = cursor.current() {
        if entry.depth() <= 0 {
            break;
        }
        found.push(Place {
            unit: Rc::clone(&place.unit),
            entry: entry.clone(),
        });
        if cursor.next_sibling()?.is_none() {
            break;
        }
    }
    Ok(found)
}

/// What expressions at an address of a function are evaluated with.
pub(crate) fn context<'f, 'a>(
    units: &'f Units<'a>,
    index: Option<&'f FunctionIndex>,
    function: Option<&Place<'a>>,
    pc: u64,
) -> Context<'f, 'a> {
    let frame_base = function.and_then(|f| {
        let value = f.entry.attr_value(gimli::DW_AT_frame_base)?;
        expression_at(&f.unit, value, pc)
    });
    Context {
        units,
        pc,
        entry: function.and_then(|f| entry_of(units, f)),
        frame_base,
        callers: index
            .zip(function)
            .map(|(index, function)| Callers::new(index, function.clone())),
        frame: OnceCell::new(),
    }
}

/// The variables and parameters directly in a scope, in the order of the source.
pub(crate) fn variables_of<'a>(
    context: &Context<'_, 'a>,
    scope: &Place<'a>,
) -> gimli::Result<Vec<Variable>> {
    let mut found = Vec::new();
    // gcc describes a parameter twice when it takes a function of variable arguments apart; the later entry has the places
    // that the parts have.
    let mut origins: HashMap<EntryId, usize> = HashMap::new();
    for child in members(scope)? {
        let kind = match child.entry.tag() {
            gimli::DW_TAG_formal_parameter => VariableKind::Parameter,
            gimli::DW_TAG_variable => VariableKind::Local,
            _ => continue,
        };
        let Some(variable) = variable(context, &child, kind) else {
            continue;
        };
        let origin = context.units.origin(&child).map(|origin| origin.id());
        let known = origin.map(|origin| *origins.entry(origin).or_insert(found.len()));
        match known.and_then(|known| found.get_mut(known)) {
            Some(earlier) if variable.location.unavailable().is_none() => *earlier = variable,
            Some(_) => {}
            None => found.push(variable),
        }
    }
    Ok(found)
}

/// A variable by its entry; `None` when it has no name.
pub(crate) fn variable<'a>(
    context: &Context<'_, 'a>,
    place: &Place<'a>,
    kind: VariableKind,
) -> Option<Variable> {
    let units = context.units;
    let name = units.inherited_string(place, gimli::DW_AT_name)?;
    let type_place = units.type_of(place);
    Some(Variable {
        name,
        kind,
        type_name: types::name(units, type_place.as_ref()),
        class: types::class(units, type_place.as_ref()),
        type_id: type_place.map(|p| TypeId(p.id())),
        location: locate(context, place),
        id: EntityId(place.id()),
    })
}

/// Where a variable stands.
pub(crate) fn locate<'a>(context: &Context<'_, 'a>, variable: &Place<'a>) -> Location {
    let units = context.units;
    let mut place = variable.clone();
    for _ in 0..super::units::REFERENCE_LIMIT {
        if let Some(value) = place.entry.attr_value(gimli::DW_AT_location) {
            return match expression_at(&place.unit, value, context.pc) {
                Some(expression) => evaluate(context, &place.unit, expression),
                None => Location::Unavailable("optimised out here".into()),
            };
        }
        if let Some(value) = place.entry.attr_value(gimli::DW_AT_const_value) {
            return constant(&place.unit, &value);
        }
        match units.origin(&place) {
            Some(origin) => place = origin,
            None => break,
        }
    }
    Location::Unavailable("optimised out".into())
}

pub(crate) fn constant<'a>(unit: &Unit<'a>, value: &AttributeValue<Slice<'a>>) -> Location {
    if let AttributeValue::Block(block) = value {
        return Location::Bytes(block.slice().to_vec());
    }
    // An array of characters, which a NUL ends.
    if let Ok(text) = unit.dwarf.attr_string(unit, *value) {
        let mut bytes = text.slice().to_vec();
        bytes.push(0);
        return Location::Bytes(bytes);
    }
    let number = value
        .sdata_value()
        .or_else(|| value.udata_value().map(u64::cast_signed));
    match number {
        Some(number) => Location::Value(super::Term::Constant(number)),
        None => Location::Unavailable("its constant is of no supported form".into()),
    }
}

/// The expression that an attribute gives for one address: itself, or the entry of a location list that covers it.
pub(crate) fn expression_at<'a>(
    unit: &Unit<'a>,
    value: AttributeValue<Slice<'a>>,
    pc: u64,
) -> Option<Expression<Slice<'a>>> {
    match value {
        AttributeValue::Exprloc(expression) => return Some(expression),
        AttributeValue::Block(block) => return Some(Expression(block)),
        _ => {}
    }
    let mut entries = unit.dwarf.attr_locations(unit, value).ok()??;
    while let Ok(Some(entry)) = entries.next() {
        if entry.range.begin <= pc && pc < entry.range.end {
            return Some(entry.data);
        }
    }
    None
}

/// The addresses at which a variable that has a location list can be read; empty when it has none. `context` makes
/// what expressions at an address are evaluated with.
pub(crate) fn available<'f, 'a: 'f>(
    units: &Units<'a>,
    variable: &Place<'a>,
    context: impl Fn(u64) -> Context<'f, 'a>,
) -> Vec<std::ops::Range<ImageAddr>> {
    let mut found = Vec::new();
    let Some((unit, value)) = units.inherited(variable, gimli::DW_AT_location) else {
        return found;
    };
    if matches!(value, AttributeValue::Exprloc(_) | AttributeValue::Block(_)) {
        return found;
    }
    let Ok(Some(mut entries)) = unit.dwarf.attr_locations(&unit, value) else {
        return found;
    };
    while let Ok(Some(entry)) = entries.next() {
        if entry.data.0.is_empty() {
            continue;
        }
        let location = evaluate(&context(entry.range.begin), &unit, entry.data);
        if location.unavailable().is_none() {
            found.push(ImageAddr(entry.range.begin)..ImageAddr(entry.range.end));
        }
    }
    found
}
