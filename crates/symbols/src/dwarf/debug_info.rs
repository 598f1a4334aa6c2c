//! Questions to the debugging information of one binary: scopes, variables, types, lines.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::function_entry::{self, decl_file};
use super::function_index::FunctionIndex;
use super::layout::{self, Type};
use super::named_entities;
use super::namespaces;
use super::qualified;
use super::scopes::{self, Chain};
use super::units::{EntryId, Home, Place, Unit, Units};
use super::{EntityId, Language, Location, TypeId, Variable, VariableKind};
use crate::address::ImageAddr;
use crate::binary::SymbolsError;
use crate::dwarf::sections::DwarfFile;
use crate::glob::Glob;
use crate::suggest;

/// The debugging information of a binary, with what was decoded of it so far. Made by [`crate::Binary::debug_info`].
pub struct DebugInfo<'b> {
    pub(crate) units: Units<'b>,
    pub(crate) index: &'b FunctionIndex,
}

impl std::fmt::Debug for DebugInfo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DebugInfo")
            .field("path", &self.units.file.debug.path)
            .finish_non_exhaustive()
    }
}

/// The scopes that hold an address: which variables are visible there.
pub struct Scopes<'b> {
    /// The address.
    pub pc: ImageAddr,
    pub(crate) chain: Chain<'b>,
    pub(crate) visible: Vec<Place<'b>>,
}

impl std::fmt::Debug for Scopes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scopes")
            .field("pc", &self.pc)
            .finish_non_exhaustive()
    }
}

impl<'b> DebugInfo<'b> {
    pub(crate) fn new(file: &DwarfFile<'b>, index: &'b FunctionIndex) -> DebugInfo<'b> {
        DebugInfo {
            units: Units::new(file, &index.units),
            index,
        }
    }

    fn damaged(&self, id: EntryId, error: gimli::Error) -> SymbolsError {
        self.units.error(id.unit + id.die, error)
    }

    /// The unit whose code holds an address.
    pub(crate) fn unit_at(&self, pc: ImageAddr) -> Option<Rc<Unit<'b>>> {
        if let Some(start) = self.units.known_at(pc.0) {
            return self.units.unit(start).ok();
        }
        let wanted = std::iter::once(pc).collect();
        let starts = self.index.units_of(&self.units, &wanted);
        let unit = self.units.unit(*starts.first()?).ok()?;
        self.units.learn(&unit);
        Some(unit)
    }

    /// The scopes at an address; `None` when no function with debugging information holds it.
    ///
    /// # Errors
    /// When the function's entries can't be decoded.
    pub fn scopes_at(&self, pc: ImageAddr) -> Result<Option<Scopes<'b>>, SymbolsError> {
        let Some(unit) = self.unit_at(pc) else {
            return Ok(None);
        };
        let failed = |e| self.units.error(unit.start, e);
        let Some(function) = scopes::function_at(&self.units, &unit, pc.0).map_err(failed)? else {
            return Ok(None);
        };
        let chain = scopes::chain(function, pc.0).map_err(failed)?;
        let visible = chain.visible().to_vec();
        Ok(Some(Scopes { pc, chain, visible }))
    }

    /// The scopes at an address as a function or an inlined copy of one that holds it sees them: what was inlined into
    /// it there is left out.
    ///
    /// # Errors
    /// As [`DebugInfo::scopes_at`].
    pub fn scopes_within(
        &self,
        pc: ImageAddr,
        entity: EntityId,
    ) -> Result<Option<Scopes<'b>>, SymbolsError> {
        let scope = self
            .units
            .place(entity.0)
            .map_err(|e| self.damaged(entity.0, e))?;
        // A function whose own code it is need not be looked for among all of its unit.
        let failed = |e| self.damaged(entity.0, e);
        let found = match scopes::is_function_at(&scope, pc.0) {
            true => {
                let chain = scopes::chain(scope.clone(), pc.0).map_err(failed)?;
                let visible = Vec::new();
                Some(Scopes { pc, chain, visible })
            }
            false => self.scopes_at(pc)?,
        };
        Ok(found.map(|mut scopes| {
            scopes.visible = scopes.chain.within(&scope);
            scopes
        }))
    }

    /// The same without the blocks inside of the function: its parameters and outermost variables.
    ///
    /// # Errors
    /// As [`DebugInfo::scopes_at`].
    pub fn scopes_of(
        &self,
        pc: ImageAddr,
        entity: EntityId,
    ) -> Result<Option<Scopes<'b>>, SymbolsError> {
        let scopes = self.scopes_within(pc, entity)?;
        Ok(scopes.map(|mut scopes| {
            let blocks = scopes.visible.len().saturating_sub(1);
            scopes.visible.drain(..blocks);
            scopes
        }))
    }

    /// The visible variables and parameters, the innermost scope's first, at last those of the namespaces around the
    /// function; a name that stands twice hides the later one.
    ///
    /// # Errors
    /// When an entry can't be decoded.
    pub fn variables(&self, scopes: &Scopes<'b>) -> Result<Vec<Variable>, SymbolsError> {
        let context = scopes::context(
            &self.units,
            Some(self.index),
            scopes.chain.function(),
            scopes.pc.0,
        );
        let mut found: Vec<Variable> = Vec::new();
        for scope in &scopes.visible {
            let inner =
                scopes::variables_of(&context, scope).map_err(|e| self.damaged(scope.id(), e))?;
            let known = found.len();
            for variable in inner {
                let hidden = found
                    .get(..known)
                    .unwrap_or_default()
                    .iter()
                    .any(|f| f.name == variable.name);
                if !hidden {
                    found.push(variable);
                }
            }
        }
        if let Some(function) = scopes.visible.last() {
            let around = namespaces::variables_around(&self.units, function)
                .map_err(|e| self.damaged(function.id(), e))?;
            for place in around {
                if let Some(variable) = scopes::variable(&context, &place, VariableKind::Global)
                    && found.iter().all(|f| f.name != variable.name)
                {
                    found.push(variable);
                }
            }
        }
        Ok(found)
    }

    /// The name and declaring file of the function, or the one that was inlined, whose variables are visible.
    pub fn function_name(&self, scopes: &Scopes<'b>) -> Option<(String, Option<String>)> {
        let scope = scopes.visible.last()?;
        let name = self.units.inherited_string(scope, gimli::DW_AT_name)?;
        Some((name, decl_file(&self.units, scope)))
    }

    /// What a function returns, of the scope that is seen.
    pub fn result_type(&self, scopes: &Scopes<'b>) -> Option<TypeId> {
        let place = self.units.type_of(scopes.visible.last()?)?;
        Some(TypeId(place.id()))
    }

    /// The name of the unit that a place is in, as the compiler was given it.
    pub fn unit_name(&self, scopes: &Scopes<'b>) -> Option<String> {
        let function = scopes.chain.function()?;
        self.units.root(&function.unit).ok()?.name()
    }

    /// What a pointer that only the debugging information still knows points to: the place of that variable at `pc`.
    pub fn pointed_to(&self, scopes: &Scopes<'b>, target: EntityId) -> Option<Location> {
        let context = scopes::context(
            &self.units,
            Some(self.index),
            scopes.chain.function(),
            scopes.pc.0,
        );
        let place = self.units.place(target.0).ok()?;
        Some(scopes::locate(&context, &place))
    }

    /// The file that declares a variable, with its directory in the line table.
    pub fn declaring_file(&self, variable: EntityId) -> Option<String> {
        decl_file(&self.units, &self.units.place(variable.0).ok()?)
    }

    /// Lines at which a variable that has gone can be read: `[first, last]` of each stretch of code, ascending; lines of
    /// the file that declares it, where that is known.
    pub fn available_lines(&self, variable: EntityId) -> Vec<(u64, u64)> {
        let Ok(place) = self.units.place(variable.0) else {
            return Vec::new();
        };
        let rows = self.units.rows(&place.unit);
        let own = decl_file(&self.units, &place);
        let mut files: HashMap<u64, bool> = HashMap::new();
        let mut is_own = |file: u64| {
            *files.entry(file).or_insert_with(|| {
                own.is_none()
                    || super::line_table::file_name(&place.unit.dwarf, &place.unit, file) == own
            })
        };
        let context = |pc: u64| {
            let function = scopes::function_at(&self.units, &place.unit, pc);
            let function = function.ok().flatten();
            scopes::context(&self.units, Some(self.index), function.as_ref(), pc)
        };
        let mut found = Vec::new();
        for range in scopes::available(&self.units, &place, context) {
            let within = super::line_table::between(&rows, range.start.0, range.end.0);
            let lines = within.iter().filter(|r| r.line != 0 && is_own(r.file));
            let lines: Vec<u64> = lines.map(|r| r.line).collect();
            let (low, high) = (lines.iter().min(), lines.iter().max());
            found.extend(low.copied().zip(high.copied()));
        }
        found.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (low, high) in found {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        merged
    }

    /// Describes a type.
    ///
    /// # Errors
    /// When its entries can't be decoded.
    pub fn describe(&self, id: TypeId) -> Result<Type, SymbolsError> {
        layout::describe(&self.units, id).map_err(|e| self.damaged(id.0, e))
    }

    /// What the unit of a type was written in.
    pub fn language(&self, id: TypeId) -> Language {
        let place = self.units.place(id.0).ok();
        let root = place.and_then(|place| self.units.root(&place.unit).ok());
        match root.and_then(|root| root.entry.attr_value(gimli::DW_AT_language)) {
            Some(gimli::AttributeValue::Language(gimli::DW_LANG_Rust)) => Language::Rust,
            Some(gimli::AttributeValue::Language(gimli::DW_LANG_Go)) => Language::Go,
            _ => Language::Other,
        }
    }

    /// The type that a generic type has for one of its parameters: of a `Vec<u8>`, `u8` for `T`.
    pub fn type_argument(&self, generic: TypeId, parameter: &str) -> Option<TypeId> {
        let place = layout::peel(&self.units, self.units.place(generic.0).ok())?;
        let tag = gimli::DW_TAG_template_type_parameter;
        let mut arguments = function_entry::children(&place, tag).ok()?.into_iter();
        let argument = arguments.find(|a| a.name().as_deref() == Some(parameter))?;
        Some(TypeId(self.units.type_of(&argument)?.id()))
    }

    /// The definition of a structure, class, union or enumeration of which only the name is known in a unit.
    pub fn definition(&self, declared: &Type) -> Option<TypeId> {
        let name = declared.name.as_deref()?;
        let place = layout::peel(&self.units, self.units.place(declared.id.0).ok())?;
        self.index
            .names(&self.units, name)
            .into_iter()
            .find_map(|id| {
                let found = self.units.place(id).ok()?;
                let same = same_keyword(found.entry.tag(), place.entry.tag())
                    && !found.flag(gimli::DW_AT_declaration);
                same.then_some(TypeId(id))
            })
    }

    /// A type by its name as C has it: `struct foo`, `union u`, `enum e`, `class c`, or a name alone, with any number of
    /// `*` behind; scopes (`outer::inner`) may stand before the name. The unit of `near` is searched first.
    pub fn type_named(&self, text: &str, near: Option<&Scopes<'b>>) -> Option<NamedType> {
        let text = text.trim();
        let plain = text.trim_end_matches(['*', ' ', '\t']);
        let pointers = text.get(plain.len()..)?.matches('*').count();
        let (tags, name): (&[gimli::DwTag], &str) = match plain.split_once(char::is_whitespace) {
            Some(("struct" | "class", name)) => (
                &[gimli::DW_TAG_structure_type, gimli::DW_TAG_class_type],
                name.trim(),
            ),
            Some(("union", name)) => (&[gimli::DW_TAG_union_type], name.trim()),
            Some(("enum", name)) => (&[gimli::DW_TAG_enumeration_type], name.trim()),
            _ => (
                &[
                    gimli::DW_TAG_typedef,
                    gimli::DW_TAG_base_type,
                    gimli::DW_TAG_structure_type,
                    gimli::DW_TAG_class_type,
                    gimli::DW_TAG_union_type,
                    gimli::DW_TAG_enumeration_type,
                ],
                plain,
            ),
        };
        let (scope, name) = qualified::split(name);
        let fits = |id: &EntryId| {
            let place = self.units.place(*id).ok()?;
            let tag = place.entry.tag();
            let fits = tags.contains(&tag)
                && !place.flag(gimli::DW_AT_declaration)
                && scope.is_none_or(|wanted| {
                    qualified::is_in(&self.units, *id, wanted).is_ok_and(|is_in| is_in)
                });
            fits.then_some(*id)
        };
        let names = qualified::spellings(name);
        let here = near
            .and_then(|s| s.chain.function())
            .and_then(|f| named_entities::names_of_unit(&self.units, &f.unit).ok())
            .and_then(|known| {
                let mut known = names.iter().filter_map(|name| known.get(name));
                known.find_map(|ids| ids.iter().find_map(fits))
            });
        let found = here.or_else(|| {
            let named = |name: &String| self.index.names(&self.units, name).iter().find_map(fits);
            names.iter().find_map(named)
        })?;
        Some(NamedType {
            id: TypeId(found),
            pointers,
        })
    }

    /// Names of types near to one that is not there (with or without its keyword), best first.
    pub fn similar_types(&self, wanted: &str, limit: usize) -> Vec<String> {
        let plain = wanted.trim_end_matches(['*', ' ']);
        let plain = plain.rsplit([' ', ':']).next().unwrap_or(plain);
        self.similar_entities(plain, limit, |tag| tag != gimli::DW_TAG_variable)
    }

    /// Names of variables outside of functions near to one that is not there, best first.
    pub fn similar_globals(&self, wanted: &str, limit: usize) -> Vec<String> {
        self.similar_entities(wanted, limit, |tag| tag == gimli::DW_TAG_variable)
    }

    fn similar_entities(
        &self,
        wanted: &str,
        limit: usize,
        is_kind: impl Fn(gimli::DwTag) -> bool,
    ) -> Vec<String> {
        // More than are told, since some are of another kind.
        let several = limit.saturating_mul(4);
        let near = std::cell::RefCell::new(HashSet::new());
        let _ = self.index.names_matching(&self.units, |name| {
            if suggest::is_near(wanted, name) {
                near.borrow_mut().insert(name.to_owned());
            }
            false
        });
        let near = near.into_inner();
        let best = suggest::similar(wanted, near.iter().map(String::as_str), several);
        let is_wanted = |name: &String| {
            let ids = self.index.names(&self.units, name);
            let places = ids.into_iter().filter_map(|id| self.units.place(id).ok());
            places.into_iter().any(|place| is_kind(place.entry.tag()))
        };
        best.into_iter().filter(is_wanted).take(limit).collect()
    }

    /// Structures, unions, classes and enumerations that are defined outside of functions and whose names match.
    pub fn types_matching(&self, pattern: &Glob) -> Vec<TypeId> {
        let is_defined = |id: &EntryId| {
            self.units.place(*id).is_ok_and(|place| {
                matches!(
                    place.entry.tag(),
                    gimli::DW_TAG_structure_type
                        | gimli::DW_TAG_class_type
                        | gimli::DW_TAG_union_type
                        | gimli::DW_TAG_enumeration_type
                ) && !place.flag(gimli::DW_AT_declaration)
            })
        };
        let named = self
            .index
            .names_matching(&self.units, |name| pattern.matches(name));
        let mut found: Vec<EntryId> = named.into_iter().filter(is_defined).collect();
        found.sort_unstable();
        found.into_iter().map(TypeId).collect()
    }

    /// The value of an enumerator, wherever it is declared; the unit of `near` is searched first.
    pub fn enumerator(&self, name: &str, near: Option<&Scopes<'b>>) -> Option<i64> {
        let in_unit = |unit: &Rc<Unit<'b>>| {
            let names: HashMap<String, Vec<EntryId>> =
                named_entities::names_of_unit(&self.units, unit).ok()?;
            let mut ids: Vec<EntryId> = names.into_values().flatten().collect();
            ids.extend(named_entities::nameless_enumerations(unit).ok()?);
            ids.into_iter().find_map(|id| {
                let place = self.units.place(id).ok()?;
                if place.entry.tag() != gimli::DW_TAG_enumeration_type {
                    return None;
                }
                let described = layout::describe(&self.units, TypeId(id)).ok()?;
                let layout::TypeKind::Enumeration { enumerators, .. } = described.kind else {
                    return None;
                };
                enumerators
                    .into_iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v)
            })
        };
        let here = near.and_then(|s| s.chain.function()).map(|f| &f.unit);
        if let Some(value) = here.and_then(in_unit) {
            return Some(value);
        }
        self.units
            .starts()
            .iter()
            .find_map(|start| in_unit(&self.units.unit_in(Home::Main, *start).ok()?))
    }
}

/// What a type's name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedType {
    /// The type.
    pub id: TypeId,
    /// How many pointers to it.
    pub pointers: usize,
}

fn same_keyword(a: gimli::DwTag, b: gimli::DwTag) -> bool {
    let class = |t| {
        if t == gimli::DW_TAG_class_type {
            gimli::DW_TAG_structure_type
        } else {
            t
        }
    };
    class(a) == class(b)
}
