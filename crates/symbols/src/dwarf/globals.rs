//! Variables that are not a function's own: those outside of all functions, wherever they are defined, and the static ones of
//! functions that were inlined.

use std::rc::Rc;

use super::debug_info::{DebugInfo, Scopes};
use super::function_entry::{is_external, linkage_name};
use super::named_entities;
use super::scopes;
use super::term::Term;
use super::units::{EntryId, Place, REFERENCE_LIMIT, Unit};
use super::{Location, Member, Variable, VariableKind, qualified};
use crate::address::ImageAddr;
use crate::{plt, symbol_table};

/// How deep blocks are looked into for static variables.
const DEPTH_LIMIT: usize = 64;

fn is_here(variable: &Variable) -> bool {
    variable.location.unavailable().is_none()
}

impl<'b> DebugInfo<'b> {
    /// A variable outside of all functions that the unit of the code declares, or the unit that the function comes from
    /// where the whole program was optimised. What is only declared there is the definition of another unit, or else what
    /// the symbol of its name stands for.
    pub fn global_near(&self, scopes: &Scopes<'b>, name: &str) -> Option<Variable> {
        let function = scopes.chain.function()?;
        let origin = scopes.visible.last();
        let origin = origin.and_then(|scope| self.units.origin(scope));
        let origin = origin.map(|origin| origin.unit);
        let here = self.global_in(&function.unit, origin.as_deref(), name, scopes.pc);
        if here.as_ref().is_some_and(is_here) {
            return here;
        }
        let declared = here.or_else(|| self.global_in(&origin?, None, name, scopes.pc))?;
        if is_here(&declared) {
            return Some(declared);
        }
        Some(
            self.defined_elsewhere(&declared, scopes.pc)
                .unwrap_or(declared),
        )
    }

    /// The definition of a variable that an entry only declares.
    fn defined_elsewhere(&self, declared: &Variable, pc: ImageAddr) -> Option<Variable> {
        let declaration = self.units.place(declared.id.0).ok()?;
        let linkage = linkage_name(&self.units, &declaration);
        let may_be = is_external(&self.units, &declaration);
        for id in self.index.names(&self.units, &declared.name) {
            let Ok(place) = self.units.place(id) else {
                continue;
            };
            let is_same = self.comes_from(&place, declaration.id())
                || may_be
                    && is_external(&self.units, &place)
                    && linkage_name(&self.units, &place) == linkage;
            if place.entry.tag() == gimli::DW_TAG_variable
                && is_same
                && let Some(variable) = self.as_global(&place, pc)
                && is_here(&variable)
            {
                return Some(variable);
            }
        }
        let symbol = linkage.as_deref().unwrap_or(&declared.name);
        let file = &self.units.file;
        if !may_be {
            return None;
        }
        let object = symbol_table::object(file.loaded, || Some(file.debug), symbol);
        let address = match object {
            Some((address, _)) => Term::Image(address),
            None => Term::Load {
                address: Box::new(Term::Image(plt::slot_of(file.loaded, symbol)?)),
                size: 8,
            },
        };
        Some(Variable {
            location: Location::Memory(address),
            ..declared.clone()
        })
    }

    /// Whether an entry completes another one.
    fn comes_from(&self, place: &Place<'b>, origin: EntryId) -> bool {
        let mut place = place.clone();
        for _ in 0..REFERENCE_LIMIT {
            match self.units.origin(&place) {
                Some(next) if next.id() == origin => return true,
                Some(next) => place = next,
                None => return false,
            }
        }
        false
    }

    /// A static variable of the functions that are visible. Copies and functions apart from their declaration do not say it
    /// again.
    pub fn static_near(&self, scopes: &Scopes<'b>, name: &str) -> Option<Variable> {
        let origins = scopes.visible.iter().filter_map(|s| self.units.origin(s));
        origins
            .filter(|origin| origin.entry.tag() == gimli::DW_TAG_subprogram)
            .find_map(|origin| self.static_in(&origin, name, scopes.pc, DEPTH_LIMIT))
    }

    fn static_in(
        &self,
        scope: &Place<'b>,
        name: &str,
        pc: ImageAddr,
        depth: usize,
    ) -> Option<Variable> {
        let depth = depth.checked_sub(1)?;
        let members = scopes::members(scope).ok()?;
        let own = members.iter().find_map(|member| {
            let is_meant = member.entry.tag() == gimli::DW_TAG_variable
                && member.entry.attr_value(gimli::DW_AT_location).is_some()
                && self
                    .units
                    .inherited_string(member, gimli::DW_AT_name)
                    .as_deref()
                    == Some(name);
            is_meant.then(|| self.as_global(member, pc)).flatten()
        });
        own.or_else(|| {
            let blocks = members.iter();
            let mut blocks = blocks.filter(|m| m.entry.tag() == gimli::DW_TAG_lexical_block);
            blocks.find_map(|block| self.static_in(block, name, pc, depth))
        })
    }

    /// Variables outside of all functions, in every unit whose name satisfies a condition.
    pub fn globals(
        &self,
        name: &str,
        unit_wanted: impl Fn(&str) -> bool,
        pc: ImageAddr,
    ) -> Vec<Variable> {
        let mut found = Vec::new();
        for id in self.index.names(&self.units, name) {
            let Ok(place) = self.units.place(id) else {
                continue;
            };
            if place.entry.tag() != gimli::DW_TAG_variable {
                continue;
            }
            let is_wanted = |unit: &Rc<Unit<'b>>| {
                let name = self.units.root(unit).ok().and_then(|r| r.name());
                unit_wanted(name.as_deref().unwrap_or_default())
            };
            // Where the whole program was optimised, definitions are in units of their own.
            let origin = self.units.origin(&place);
            if (is_wanted(&place.unit) || origin.is_some_and(|o| is_wanted(&o.unit)))
                && let Some(variable) = self.as_global(&place, pc)
            {
                found.push(variable);
            }
        }
        found
    }

    /// A static member of a class: what its declaration says, as of constants, else its definition in whichever unit.
    pub fn static_member(&self, member: &Member, pc: ImageAddr) -> Option<Variable> {
        let declaration = self.units.place(member.id.0).ok()?;
        let declared = self.as_global(&declaration, pc);
        if declared.as_ref().is_some_and(is_here) {
            return declared;
        }
        let mut around = None;
        for id in self.index.names(&self.units, member.name.as_deref()?) {
            let Ok(place) = self.units.place(id) else {
                continue;
            };
            if place.entry.tag() != gimli::DW_TAG_variable {
                continue;
            }
            let is_meant = self.comes_from(&place, declaration.id()) || {
                // The definition's unit describes the class, too.
                let other = self.units.origin(&place).map(|origin| origin.id());
                let mine = around
                    .get_or_insert_with(|| qualified::around(&self.units, declaration.id()).ok());
                let other = other.and_then(|id| qualified::around(&self.units, id).ok());
                other.is_some() && other == *mine
            };
            if is_meant
                && let Some(variable) = self.as_global(&place, pc)
                && is_here(&variable)
            {
                return Some(variable);
            }
        }
        None
    }

    /// With `of` no static variable that comes from another unit than that one.
    fn global_in(
        &self,
        unit: &Rc<Unit<'b>>,
        of: Option<&Unit<'b>>,
        name: &str,
        pc: ImageAddr,
    ) -> Option<Variable> {
        let mut fallback = None;
        let names = named_entities::names_of_unit(&self.units, unit).ok()?;
        for id in names.get(name)? {
            let place = self.units.place(*id).ok()?;
            let origin = self.units.origin(&place);
            let is_strange = of
                .zip(origin.as_ref())
                .is_some_and(|(of, origin)| origin.unit.start != of.start)
                && !is_external(&self.units, &place);
            if place.entry.tag() != gimli::DW_TAG_variable || is_strange {
                continue;
            }
            match self.as_global(&place, pc) {
                Some(variable) if is_here(&variable) => return Some(variable),
                other => fallback = fallback.or(other),
            }
        }
        fallback
    }

    fn as_global(&self, place: &Place<'b>, pc: ImageAddr) -> Option<Variable> {
        let context = scopes::context(&self.units, None, None, pc.0);
        scopes::variable(&context, place, VariableKind::Global)
    }

    /// Names of the variables of a unit outside of all functions.
    pub fn globals_near(&self, scopes: &Scopes<'b>) -> Vec<String> {
        let Some(function) = scopes.chain.function() else {
            return Vec::new();
        };
        let names = named_entities::names_of_unit(&self.units, &function.unit);
        let is_variable = |id: &EntryId| {
            self.units
                .place(*id)
                .is_ok_and(|p| p.entry.tag() == gimli::DW_TAG_variable)
        };
        let mut found: Vec<String> = names
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, ids)| ids.iter().any(is_variable))
            .map(|(name, _)| name)
            .collect();
        found.sort();
        found
    }
}
