//! One pass over a unit for a list of functions, in which copies share what their common origin says.

use std::collections::HashMap;
use std::rc::Rc;

use gimli::{AttributeValue, UnitOffset};

use super::debug_info::DebugInfo;
use super::expression::{Context, evaluate};
use super::function_entry::{self, Code, has_code};
use super::function_list::{First, Found, FunctionQuery, Group, Key, Listable, Wanted};
use super::namespaces;
use super::scopes::{self, expression_at};
use super::sections::Slice;
use super::units::{EntryId, Place, Unit, Units};
use super::{EntityId, VariableKind, types, unit_scan};
use crate::address::ImageAddr;
use crate::functions::qualified_name;

/// One unit; of a damaged one what stands before the damage.
pub(crate) fn sweep_unit(
    info: &DebugInfo<'_>,
    start: usize,
    wanted: &Wanted<'_>,
    query: &FunctionQuery<'_>,
    found: &mut Found,
) {
    let swept = info.units.unit(start).and_then(|unit| {
        let mut sweep = Sweep {
            info,
            unit: &unit,
            wanted,
            query,
            found,
            open: Vec::new(),
            origins: HashMap::new(),
            variables: HashMap::new(),
            types: HashMap::new(),
            around: HashMap::new(),
        };
        let swept = sweep.run();
        sweep.close(isize::MIN);
        swept
    });
    if let Err(error) = swept {
        found.damaged_units += 1;
        found.damage.get_or_insert((start, error));
    }
}

/// A function or copy that is being gone through.
struct Open<'f, 'a> {
    depth: isize,
    /// Its code, as the entry has it.
    function: Option<Function<'a>>,
    listed: Option<Listed<'f, 'a>>,
}

/// A function with code, in which copies are.
struct Function<'a> {
    place: Place<'a>,
    code: Rc<Code>,
}

/// What is listed of a function or copy.
struct Listed<'f, 'a> {
    key: Key,
    first: First,
    result: Option<u32>,
    variables: Vec<(u32, u32)>,
    /// Names of variables that have no place here.
    gone: Vec<u32>,
    /// What the locations of its variables are evaluated with; `None` when its variables are known, or not asked for.
    context: Option<Context<'f, 'a>>,
    /// The function that it is a copy of, or itself.
    around: Rc<[(u32, u32)]>,
}

/// What an origin of copies is called and where it is declared; `None` when it is not wanted.
#[derive(Clone)]
struct Origin {
    name: u32,
    /// `None` when no file is named: then it is where the code is.
    declared: Option<(u32, Option<u64>)>,
    external: bool,
    /// It is in a unit that others include.
    is_partial: bool,
    result: Option<u32>,
    around: Rc<[(u32, u32)]>,
}

/// A variable as its declaration has it; `None` when it has no name, or a type without one.
#[derive(Clone, Copy)]
struct Declared {
    text: Option<(u32, u32)>,
    /// It, or what it refers to, has a place that its copies need not repeat.
    has_place: bool,
}

struct Sweep<'s, 'f, 'a> {
    info: &'f DebugInfo<'a>,
    unit: &'s Rc<Unit<'a>>,
    wanted: &'s Wanted<'s>,
    query: &'s FunctionQuery<'s>,
    found: &'s mut Found,
    open: Vec<Open<'f, 'a>>,
    origins: HashMap<EntryId, Option<Origin>>,
    variables: HashMap<EntryId, Declared>,
    types: HashMap<EntryId, u32>,
    around: HashMap<EntryId, Rc<[(u32, u32)]>>,
}

impl<'f, 'a> Sweep<'_, 'f, 'a> {
    fn units(&self) -> &'f Units<'a> {
        &self.info.units
    }

    fn run(&mut self) -> gimli::Result<()> {
        let unit = Rc::clone(self.unit);
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let offset = entries.next_offset();
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation()? else {
                continue;
            };
            let specifications = abbreviation.attributes();
            self.close(depth);
            match abbreviation.tag() {
                gimli::DW_TAG_subprogram if has_code(specifications) => {
                    entries.skip_attributes(specifications)?;
                    self.function(offset, depth)?;
                }
                gimli::DW_TAG_inlined_subroutine if self.query.copies => {
                    entries.skip_attributes(specifications)?;
                    self.copy(offset, depth)?;
                }
                gimli::DW_TAG_formal_parameter | gimli::DW_TAG_variable
                    if self.is_variable_here(depth) =>
                {
                    let mut found = Variable::default();
                    for specification in specifications {
                        let attribute = entries.read_attribute(*specification)?;
                        found.note(attribute.name(), attribute.value());
                    }
                    self.variable(offset, &found);
                }
                _ => entries.skip_attributes(specifications)?,
            }
        }
        Ok(())
    }

    /// Whether variables directly in the innermost function or copy, which are at this depth, are to be listed.
    fn is_variable_here(&self, depth: isize) -> bool {
        let Some(open) = self.open.last() else {
            return false;
        };
        let listed = open.listed.as_ref();
        open.depth + 1 == depth && listed.is_some_and(|listed| listed.context.is_some())
    }

    /// What is at this depth or deeper has ended.
    fn close(&mut self, depth: isize) {
        while let Some(open) = self.open.pop_if(|open| open.depth >= depth) {
            let Some(listed) = open.listed else {
                continue;
            };
            let mut variables = listed.variables;
            for around in listed.around.iter() {
                // A variable of the function hides one of its namespace.
                let is_named = |name: &u32| *name == around.0;
                if !variables.iter().any(|(name, _)| is_named(name))
                    && !listed.gone.iter().any(is_named)
                {
                    variables.push(*around);
                }
            }
            let group = Group {
                first: listed.first,
                result: listed.result,
                variables,
            };
            self.found.add(listed.key, group);
        }
    }

    fn place(&self, offset: UnitOffset) -> gimli::Result<Place<'a>> {
        Ok(Place {
            unit: Rc::clone(self.unit),
            entry: self.unit.entry(offset)?,
        })
    }

    fn function(&mut self, offset: UnitOffset, depth: isize) -> gimli::Result<()> {
        let place = self.place(offset)?;
        let units = self.units();
        let code = function_entry::code(units, &place)?;
        let Some(code) = code else {
            // No copies can be in it.
            self.open.push(Open {
                depth,
                function: None,
                listed: None,
            });
            return Ok(());
        };
        let code = Rc::new(code);
        let mut listed = None;
        if self.query.functions
            && let Some(origin) = self.origin(&place)
        {
            let entry = ImageAddr(code.entry);
            let probed = function_entry::probe_address(units, &place, &code);
            self.found.addresses.extend([entry, ImageAddr(probed)]);
            if (self.wanted.entry)(entry)
                && let Some(key) = self.key(&place, &origin, code.entry)
            {
                let context = self.context_of(&place, &code, Some(&place), probed);
                listed = Some(self.listed(&place, key, origin, probed, context));
            }
        }
        self.open.push(Open {
            depth,
            function: Some(Function { place, code }),
            listed,
        });
        Ok(())
    }

    fn copy(&mut self, offset: UnitOffset, depth: isize) -> gimli::Result<()> {
        let mut open = Open {
            depth,
            function: None,
            listed: None,
        };
        // Most are refused by what their origin is called.
        let place = self.place(offset)?;
        if let Some(origin) = self.origin(&place)
            && let Some(code) = function_entry::code(self.units(), &place)?
            && let Some(key) = self.key(&place, &origin, code.entry)
        {
            let entry = code.entry;
            let function = self.open.iter().rev().find_map(|o| o.function.as_ref());
            let function = function.filter(|f| holds(&f.code, entry));
            let function = function.map(|f| (f.place.clone(), Rc::clone(&f.code)));
            let context = match &function {
                Some((function, around)) => self.context_of(&place, around, Some(function), entry),
                None => self.context_of(&place, &code, None, entry),
            };
            open.listed = Some(self.listed(&place, key, origin, entry, context));
        }
        self.open.push(open);
        Ok(())
    }

    /// What is to be listed. Without a context the variables are those that a full look at the place finds.
    fn listed(
        &mut self,
        place: &Place<'a>,
        key: Key,
        origin: Origin,
        pc: u64,
        context: Option<Context<'f, 'a>>,
    ) -> Listed<'f, 'a> {
        let id = place.id();
        let is_copy = function_entry::is_copy(place);
        let reference = place.entry.attr_value(gimli::DW_AT_abstract_origin);
        let of = reference.and_then(|r| unit_scan::referred(self.unit, self.units().starts(), r));
        let from_other_unit =
            is_copy && !origin.is_partial && of.is_some_and(|of| of.unit != id.unit);
        let mut listed = Listed {
            key,
            first: (from_other_unit, is_copy, id.unit, id.die),
            result: origin.result,
            variables: Vec::new(),
            gone: Vec::new(),
            context,
            around: origin.around,
        };
        if listed.context.is_none()
            && let Some(wanted) = self.query.variables
        {
            listed.around = Rc::new([]);
            listed.variables = self.slowly(place, pc, wanted);
        }
        listed
    }

    /// Variables of a function that begins outside of its own code.
    fn slowly(&mut self, place: &Place<'a>, pc: u64, wanted: Listable<'_>) -> Vec<(u32, u32)> {
        let pc = ImageAddr(pc);
        let scopes = self.info.scopes_of(pc, EntityId(place.id()));
        let scopes = scopes.ok().flatten();
        let variables = scopes.and_then(|scopes| self.info.variables(&scopes).ok());
        let variables = variables.unwrap_or_default().into_iter();
        let variables = variables.filter(|v| wanted(pc, &v.location) && has_name(&v.type_name));
        variables
            .map(|v| (self.found.intern(&v.name), self.found.intern(&v.type_name)))
            .collect()
    }

    /// `None` when variables are not asked for, or the address is not in the function's code.
    fn context_of(
        &self,
        place: &Place<'a>,
        code: &Code,
        function: Option<&Place<'a>>,
        pc: u64,
    ) -> Option<Context<'f, 'a>> {
        self.query.variables?;
        let function = function?;
        if function.id() == place.id() && !holds(code, pc) {
            return None;
        }
        // What callers handed over is asked for in vain: that it was handed over is enough to be listed.
        Some(scopes::context(self.units(), None, Some(function), pc))
    }

    /// Name, file and line; `None` when the file is not wanted.
    fn key(&mut self, place: &Place<'a>, origin: &Origin, entry: u64) -> Option<Key> {
        if self.query.external && !origin.external {
            return None;
        }
        if let Some((file, line)) = origin.declared {
            let first = |file| function_entry::first_line(self.units(), place, entry, file);
            let line = line.or_else(|| first(self.found.text(file)));
            return Some((origin.name, Some(file), line));
        }
        let found = function_entry::place_of_code(self.units(), place, entry);
        let (file, line) = found.unwrap_or((None, None));
        let line = line.or_else(|| function_entry::decl_line(self.units(), place));
        if let Some(wanted) = self.wanted.file
            && !file.as_deref().is_some_and(wanted)
        {
            return None;
        }
        let file = file.map(|file| self.found.intern(&file));
        Some((origin.name, file, line))
    }

    /// What a function, or the one that a copy is of, is called; `None` when that is not wanted.
    fn origin(&mut self, place: &Place<'a>) -> Option<Origin> {
        let reference = place
            .entry
            .attr_value(gimli::DW_AT_abstract_origin)
            .or_else(|| place.entry.attr_value(gimli::DW_AT_specification));
        let own = [
            gimli::DW_AT_name,
            gimli::DW_AT_linkage_name,
            gimli::DW_AT_decl_file,
            gimli::DW_AT_decl_line,
            gimli::DW_AT_external,
            gimli::DW_AT_type,
        ];
        let is_own = own.iter().any(|a| place.entry.attr_value(*a).is_some());
        let id = reference
            .filter(|_| !is_own)
            .and_then(|r| unit_scan::referred(self.unit, self.units().starts(), r));
        let Some(id) = id else {
            return self.describe_origin(place);
        };
        if let Some(known) = self.origins.get(&id) {
            return known.clone();
        }
        let described = self.describe_origin(place);
        self.origins.insert(id, described.clone());
        described
    }

    fn describe_origin(&mut self, place: &Place<'a>) -> Option<Origin> {
        let units = self.units();
        let name = units.inherited_string(place, gimli::DW_AT_name)?;
        let linkage_name = function_entry::linkage_name(units, place);
        if !(self.wanted.name)(&name, linkage_name.as_deref()) {
            return None;
        }
        let file = function_entry::decl_file(units, place);
        if let (Some(wanted), Some(file)) = (self.wanted.file, &file)
            && !wanted(file)
        {
            return None;
        }
        let declared = file.map(|file| {
            let line = function_entry::decl_line(units, place);
            (self.found.intern(&file), line)
        });
        let name = qualified_name(&name, linkage_name.as_deref(), self.wanted.scopes);
        let name = self.found.intern(&name);
        let mut result = None;
        let mut around: Rc<[(u32, u32)]> = Rc::new([]);
        if self.query.variables.is_some() {
            let returned = units.type_of(place);
            result = returned.map(|returned| self.type_name(&returned));
            around = self.variables_around(place);
        }
        Some(Origin {
            name,
            declared,
            external: function_entry::is_external(units, place),
            is_partial: units
                .origin(place)
                .is_some_and(|origin| function_entry::is_in_partial_unit(units, &origin)),
            result,
            around,
        })
    }

    fn type_name(&mut self, place: &Place<'a>) -> u32 {
        let id = place.id();
        if let Some(known) = self.types.get(&id) {
            return *known;
        }
        let name = types::name(self.units(), Some(place));
        let number = self.found.intern(&name);
        self.types.insert(id, number);
        number
    }

    /// Variables of the namespaces around a function: the same wherever it is copied to.
    fn variables_around(&mut self, place: &Place<'a>) -> Rc<[(u32, u32)]> {
        let id = place.id();
        if let Some(known) = self.around.get(&id) {
            return Rc::clone(known);
        }
        let (units, unit) = (self.units(), place.unit.start as u64);
        let mut found: Vec<(u32, u32)> = Vec::new();
        let context = scopes::context(units, None, None, unit);
        for variable in namespaces::variables_around(units, place).unwrap_or_default() {
            let Some(variable) = scopes::variable(&context, &variable, VariableKind::Global) else {
                continue;
            };
            let wanted = self.query.variables;
            let name = self.found.intern(&variable.name);
            if found.iter().all(|(known, _)| *known != name)
                && wanted.is_some_and(|wanted| wanted(ImageAddr(unit), &variable.location))
                && has_name(&variable.type_name)
            {
                found.push((name, self.found.intern(&variable.type_name)));
            }
        }
        let found: Rc<[(u32, u32)]> = found.into();
        self.around.insert(id, Rc::clone(&found));
        found
    }

    /// Lists a variable if it has a place where its function is probed.
    fn variable(&mut self, offset: UnitOffset, found: &Variable<'a>) {
        let declared = self.declared(offset, found);
        let Some(text) = declared.and_then(|declared| declared.text) else {
            return;
        };
        let has_place = declared.is_some_and(|declared| declared.has_place);
        let is_here = self.is_here(offset, found, has_place);
        if let Some(listed) = self.open.last_mut().and_then(|o| o.listed.as_mut()) {
            match is_here {
                // gcc describes some parameters twice.
                true if listed.variables.contains(&text) => {}
                true => listed.variables.push(text),
                false => listed.gone.push(text.0),
            }
        }
    }

    /// Whether a variable of the innermost function or copy has a place where that is probed.
    fn is_here(&self, offset: UnitOffset, found: &Variable<'a>, has_place: bool) -> bool {
        let listed = self.open.last().and_then(|open| open.listed.as_ref());
        let context = listed.and_then(|listed| listed.context.as_ref());
        let (Some(context), Some(wanted)) = (context, self.query.variables) else {
            return false;
        };
        let location = match (found.location, found.constant) {
            (Some(value), _) => match expression_at(self.unit, value, context.pc) {
                Some(expression) => evaluate(context, self.unit, expression),
                None => return false,
            },
            (None, Some(value)) => scopes::constant(self.unit, &value),
            (None, None) if has_place => match self.place(offset) {
                Ok(place) => scopes::locate(context, &place),
                Err(_) => return false,
            },
            (None, None) => return false,
        };
        wanted(ImageAddr(context.pc), &location)
    }

    /// Name and type of a variable, its own or those of what it is a copy of.
    fn declared(&mut self, offset: UnitOffset, found: &Variable<'a>) -> Option<Declared> {
        let own = found.name.is_some() || found.has_type;
        let id = found
            .origin
            .filter(|_| !own)
            .and_then(|origin| unit_scan::referred(self.unit, self.units().starts(), origin));
        if let Some(id) = id
            && let Some(known) = self.variables.get(&id)
        {
            return Some(*known);
        }
        let units = self.units();
        let place = self.place(offset).ok()?;
        let name = units.inherited_string(&place, gimli::DW_AT_name);
        let text = name.and_then(|name| {
            let type_name = match units.type_of(&place) {
                Some(type_place) => self.type_name(&type_place),
                None => self.found.intern("void"),
            };
            let named = has_name(self.found.text(type_name));
            named.then(|| (self.found.intern(&name), type_name))
        });
        let has_place = units.origin(&place).is_some_and(|origin| {
            units.inherited(&origin, gimli::DW_AT_location).is_some()
                || units.inherited(&origin, gimli::DW_AT_const_value).is_some()
        });
        let declared = Declared { text, has_place };
        if let Some(id) = id {
            self.variables.insert(id, declared);
        }
        Some(declared)
    }
}

/// A type that has no name in C, such as that of pointers to members, is no type to stap.
fn has_name(type_name: &str) -> bool {
    type_name != "<unknown>"
}

fn holds(code: &Code, pc: u64) -> bool {
    code.ranges.iter().any(|r| r.begin <= pc && pc < r.end)
}

/// The attributes of a variable that matter.
#[derive(Default)]
struct Variable<'a> {
    name: Option<()>,
    has_type: bool,
    origin: Option<AttributeValue<Slice<'a>>>,
    location: Option<AttributeValue<Slice<'a>>>,
    constant: Option<AttributeValue<Slice<'a>>>,
}

impl<'a> Variable<'a> {
    fn note(&mut self, name: gimli::DwAt, value: AttributeValue<Slice<'a>>) {
        match name {
            gimli::DW_AT_name => self.name = Some(()),
            gimli::DW_AT_type => self.has_type = true,
            gimli::DW_AT_abstract_origin => self.origin = Some(value),
            gimli::DW_AT_specification if self.origin.is_none() => self.origin = Some(value),
            gimli::DW_AT_location => self.location = Some(value),
            gimli::DW_AT_const_value => self.constant = Some(value),
            _ => {}
        }
    }
}
