//! Names of variables and types at a place of a program's code.

use super::place::{Place, Spelling};
use super::pretty::{self, Entry};
use super::returned;
use super::value::{BIT_FIELD, Lens, Value, address};
use super::{SiteVariables, enumerators, modules, plain, value};
use crate::resolve::similar_text;
use codegen::{Resolution, Term, Unresolved};
use script::ir::{ExprKind, Target, TargetBase, TargetStep};
use std::cell::Cell;
use symbols::{DebugInfo, Glob, ImageAddr, Scopes, TypeId, TypeKind, Variable, VariableKind};

/// How many names are told that may have been meant.
const SIMILAR: usize = 5;

/// What stap says where a value has no type, or one of several.
pub(super) const UNKNOWN_TYPE: &str = "unknown type in dereference";

/// What tells types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeKey {
    module: u64,
    is_pointer: bool,
    type_id: Option<TypeId>,
}

/// A place of the code and what is visible there.
pub(super) struct Code<'a, 'b> {
    info: &'a DebugInfo<'b>,
    scopes: Option<Scopes<'b>>,
    spelling: Spelling<'a>,
    function: &'a str,
    /// Where the function's entry is among the debugging information.
    entry: u64,
    file: Option<&'a str>,
    /// Only types are asked for: what has no place here still has one.
    typing: Cell<bool>,
}

impl<'a, 'b> Code<'a, 'b> {
    pub fn new(
        info: &'a DebugInfo<'b>,
        variables: &'a SiteVariables,
        address: ImageAddr,
    ) -> Result<Code<'a, 'b>, String> {
        let (scopes, function, entry, file) = match variables.place() {
            Some((function, blocks)) => {
                let scopes = match blocks {
                    true => info.scopes_within(address, function.entity()),
                    false => info.scopes_of(address, function.entity()),
                };
                let scopes = scopes.map_err(|e| e.to_string())?;
                let entry = function.entity().section_offset();
                let file = function.decl_file.as_deref();
                (scopes, &*function.name, entry, file)
            }
            None => (None, "", 0, None),
        };
        Ok(Code {
            info,
            scopes,
            spelling: Spelling {
                pc: address,
                binary: variables.binary(),
                at_return: false,
                elsewhere: false,
            },
            function,
            entry,
            file,
            typing: Cell::new(false),
        })
    }

    /// The same seen from a handler in other code: what depends on where this one runs is not known there.
    pub fn elsewhere(mut self) -> Self {
        self.spelling.elsewhere = true;
        self
    }

    /// The same when the function returns: its variables are gone by then.
    pub fn returning(mut self) -> Self {
        self.spelling.at_return = true;
        self
    }

    /// What the function returns, where the System V ABI (3.2.3) leaves it.
    fn returned(&self) -> Result<Value, String> {
        let scopes = self.scopes.as_ref().ok_or("no debug information")?;
        let Some(type_id) = self.info.result_type(scopes) else {
            let file = self.file.unwrap_or("?");
            return Err(format!(
                "function {} ({}) has no return value",
                self.function,
                file.rsplit('/').next().unwrap_or(file)
            ));
        };
        let place = returned::place(&self.lens(), type_id)?;
        Ok(Value::new(place, Some(type_id)))
    }

    fn lens(&self) -> Lens<'_, 'b> {
        Lens {
            info: self.info,
            scopes: self.scopes.as_ref(),
            spelling: self.spelling,
        }
    }

    pub fn resolve(&self, target: &Target) -> Result<Resolution, Unresolved> {
        match named_module(target) {
            Some(module) if !self.is_own(module) => {
                in_modules(target, module, Some(self.spelling.binary))
            }
            _ => self.resolve_here(target),
        }
    }

    /// Whether a module's name means the probed file.
    fn is_own(&self, module: &str) -> bool {
        let own = self.spelling.binary.path();
        own.to_string_lossy() == module
            || own
                .file_name()
                .is_some_and(|n| n.to_string_lossy() == module)
            || std::fs::canonicalize(module)
                .is_ok_and(|n| std::fs::canonicalize(own).is_ok_and(|o| o == n))
    }

    fn resolve_here(&self, target: &Target) -> Result<Resolution, Unresolved> {
        match &target.base {
            TargetBase::Enum(name) => {
                return Ok(enumerators::value(self.info, self.scopes.as_ref(), name)?);
            }
            TargetBase::EnumName(operand, name, _) => {
                let found = match (name, &operand.kind) {
                    (Some(name), _) => self.named_type(name, None)?,
                    (None, ExprKind::Target(of)) => {
                        let value = self.lens().walk(self.base(of)?, &of.steps)?;
                        value.type_id.ok_or("it has no type")?
                    }
                    (None, _) => return Err("@enumname needs a type here".into()),
                };
                return Ok(enumerators::names(&self.lens(), found)?);
            }
            _ => {}
        }
        let depth = target.steps.iter().find_map(|s| match s {
            TargetStep::Pretty(depth) => Some(*depth),
            _ => None,
        });
        if let TargetBase::Variable(name) = &target.base
            && let Some(kinds) = listed(name)
        {
            return Ok(Resolution::Text(self.list(kinds, depth)?));
        }
        let lens = self.lens();
        if let TargetBase::Variable(name) = &target.base
            && name == "$$return"
        {
            if !self.spelling.at_return {
                return Err(self.unknown("$return").into());
            }
            let Ok(value) = self.returned() else {
                return Ok(Resolution::Text(pretty::listing(Vec::new())));
            };
            let entry = match depth {
                Some(depth) => Entry::Text(pretty::text(&lens, &value, depth > 1)),
                None => self.entry(&lens, &value),
            };
            let text = pretty::listing(vec![("return".to_owned(), entry)]);
            return Ok(Resolution::Text(text));
        }
        if let TargetBase::Variable(name) = &target.base
            && target.steps.is_empty()
            && !target.address_of
            && self.variable(plain(name))?.is_none()
            && let Ok(found) = enumerators::value(self.info, self.scopes.as_ref(), plain(name))
        {
            return Ok(found);
        }
        let value = self.walked(target)?;
        if let Some(depth) = depth {
            return Ok(Resolution::Text(pretty::text(&lens, &value, depth > 1)));
        }
        if target.address_of {
            return address(&value)
                .map(Resolution::Variable)
                .map_err(|why| match why == BIT_FIELD || why == value::NO_ADDRESS {
                    true => why,
                    false => format!("cannot take the address of '{}': {why}", spelled(target)),
                })
                .map_err(Unresolved::from);
        }
        let read = lens.read(&value).map(Resolution::Variable);
        // What is too wide is not the operator's fault, to stap.
        let last = target.steps.len().checked_sub(1);
        read.map_err(|message| Unresolved {
            step: last.filter(|_| message != value::TOO_WIDE),
            message,
        })
    }

    /// What the expression starts from.
    fn base(&self, target: &Target) -> Result<Value, String> {
        match &target.base {
            TargetBase::Variable(name) if name == "$return" && self.spelling.at_return => {
                self.returned()
            }
            TargetBase::Variable(name) => {
                let wanted = plain(name);
                let found = self.variable(wanted)?.ok_or_else(|| self.unknown(wanted))?;
                self.value(&found)
            }
            TargetBase::AtVar(name, _) => self.at_var(name),
            TargetBase::Cast(_, name, module) => self.cast(name, module.as_deref()),
            TargetBase::Autocast(_, sources) => {
                let first = sources.first().ok_or(UNKNOWN_TYPE)?;
                self.typed_by(&first.target)
            }
            TargetBase::Enum(_) | TargetBase::EnumName(..) => Err("it has no type".into()),
        }
    }

    /// What the expression names, `&` and a last `$` left out.
    fn walked(&self, target: &Target) -> Result<Value, Unresolved> {
        let lens = self.lens();
        let base = self.base(target)?;
        // A cast's operand points to any number of the type.
        if let (TargetBase::Cast(..), Some(TargetStep::Index(index))) =
            (&target.base, target.steps.first())
            && let Place::Memory(_) = base.place
            && let Some(value) = lens.nth(&base, 0, index)?
        {
            return lens.walk_from(value, &target.steps, 1);
        }
        lens.walk(base, &target.steps)
    }

    /// What an expression's type is, as far as two that have the same are to be told apart from others.
    pub fn type_of(&self, source: &Target) -> Result<TypeKey, String> {
        let outer = self.typing.replace(true);
        let value = self.walked(source);
        self.typing.set(outer);
        let mut type_id = value?.type_id;
        let mut is_pointer = source.address_of;
        // A pointer to something, and its address, have the same type.
        if !is_pointer
            && let Some(described) = self.lens().describe(type_id)?
            && let TypeKind::Pointer { target, .. } = described.kind
        {
            is_pointer = true;
            type_id = target;
        }
        Ok(TypeKey {
            module: self.spelling.binary.fingerprint(),
            is_pointer,
            type_id,
        })
    }

    /// The operand of an expression as a value of the type that another expression has.
    fn typed_by(&self, source: &Target) -> Result<Value, String> {
        let outer = self.typing.replace(true);
        let value = self.walked(source);
        self.typing.set(outer);
        let value = value?;
        let described = self.lens().describe(value.type_id)?;
        let kind = described.map(|d| d.kind);
        let is_address = source.address_of || matches!(kind, Some(TypeKind::Array { .. }));
        let place = match is_address {
            true => Place::Memory(Term::Operand),
            false => Place::Number(Term::Operand),
        };
        Ok(Value::new(place, value.type_id))
    }

    fn variables(&self) -> Result<Vec<Variable>, String> {
        match &self.scopes {
            Some(scopes) => self.info.variables(scopes).map_err(|e| e.to_string()),
            None => Ok(Vec::new()),
        }
    }

    /// A local variable, else a static one of a function that was inlined, else one outside of functions.
    fn variable(&self, name: &str) -> Result<Option<Variable>, String> {
        let local = self.variables()?.into_iter().find(|v| v.name == name);
        Ok(local.or_else(|| {
            let scopes = self.scopes.as_ref()?;
            let known = self.info.static_near(scopes, name);
            known.or_else(|| self.info.global_near(scopes, name))
        }))
    }

    fn value(&self, variable: &Variable) -> Result<Value, String> {
        let place = match self.spelling.place(&variable.location) {
            Ok(place) => place,
            Err(_) if self.typing.get() => Place::Memory(Term::Constant(0)),
            Err(why) => return Err(self.unavailable(variable, &why)),
        };
        Ok(Value::new(place, variable.type_id))
    }

    fn unavailable(&self, variable: &Variable, why: &str) -> String {
        let lines: Vec<String> = self
            .info
            .available_lines(variable.id)
            .into_iter()
            .map(|(a, b)| {
                if a == b {
                    format!("{a}")
                } else {
                    format!("{a}-{b}")
                }
            })
            .collect();
        let file = self.info.declaring_file(variable.id);
        let elsewhere = match (lines.is_empty(), &file) {
            (true, _) => String::new(),
            (false, None) => format!("; it can be read at lines {}", lines.join(", ")),
            (false, Some(file)) => {
                let file = file.rsplit('/').next().unwrap_or(file);
                format!("; it can be read at {file}:{}", lines.join(", "))
            }
        };
        format!(
            "'${}' is not available at pc {} in {}: {why}{elsewhere}",
            variable.name, self.spelling.pc, self.function
        )
    }

    fn unknown(&self, name: &str) -> String {
        let mut known: Vec<String> = self
            .variables()
            .unwrap_or_default()
            .into_iter()
            .map(|v| v.name)
            .collect();
        if known.is_empty()
            && let Some(scopes) = &self.scopes
        {
            let globals = self.info.globals_near(scopes);
            known.extend(globals.iter().take(5).map(|g| (*g).to_string()));
        }
        let known = symbols::suggest::similar(name, known.iter().map(String::as_str), SIMILAR);
        let known: Vec<String> = known.iter().map(|name| format!("${name}")).collect();
        let unit = (self.scopes.as_ref()).and_then(|scopes| self.info.unit_name(scopes));
        // The last parenthesis is stap's.
        format!(
            "unable to find local '{name}', [man error::dwarf] dieoffset {:#x} in {}, near pc {} in {} {} (alternatives: {}))",
            self.entry,
            self.spelling.binary.path().display(),
            self.spelling.pc,
            self.function,
            unit.as_deref().or(self.file).unwrap_or("?"),
            known.join(", ")
        )
    }

    /// `@var("name@unit.c", "module")`.
    fn at_var(&self, text: &str) -> Result<Value, String> {
        let (name, unit) = match text.split_once('@') {
            Some((name, unit)) => (name, Some(unit)),
            None => (text, None),
        };
        if unit.is_none()
            && let Some(found) = self.variable(name)?
        {
            return self.value(&found);
        }
        let pattern = unit.map(Glob::new);
        let wanted = |declared: &str| match &pattern {
            None => true,
            Some(glob) => crate::resolve::file_matches(glob, declared),
        };
        let found = self.info.globals(name, wanted, self.spelling.pc);
        let best = found
            .iter()
            .find(|v| v.location.unavailable().is_none())
            .or(found.first());
        match best {
            Some(variable) => self.value(variable),
            None => {
                let place = match unit {
                    Some(unit) => format!(", in {unit}"),
                    None => String::new(),
                };
                let similar = self.info.similar_globals(name, SIMILAR);
                Err(format!(
                    "unable to find global '{name}' in {}{place}{}",
                    self.spelling.binary.path().display(),
                    similar_text("variables", &similar)
                ))
            }
        }
    }

    /// `@cast(e, "type", "module")`: the operand is a pointer to the type.
    fn cast(&self, name: &str, module: Option<&str>) -> Result<Value, String> {
        let found = self.named_type(name, module)?;
        let mut place = Place::Memory(Term::Operand);
        // A type that is a pointer itself is what the operand holds, and not what it points to.
        let described = self.lens().describe(Some(found))?;
        let is_pointer = matches!(described.map(|d| d.kind), Some(TypeKind::Pointer { .. }));
        if is_pointer {
            place = Place::Number(Term::Operand);
        }
        Ok(Value {
            is_pointed_to: !is_pointer,
            ..Value::new(place, Some(found))
        })
    }

    fn named_type(&self, name: &str, module: Option<&str>) -> Result<TypeId, String> {
        let found = self.info.type_named(name, self.scopes.as_ref());
        found.map(|f| f.id).ok_or_else(|| {
            let file = || self.spelling.binary.path().display().to_string();
            let similar = self.info.similar_types(name, SIMILAR);
            format!(
                "type definition '{name}' not found in '{}'{}",
                module.map_or_else(file, str::to_owned),
                similar_text("types", &similar)
            )
        })
    }

    /// The text of `$$vars` and its kin.
    fn list(&self, kinds: &[VariableKind], depth: Option<u8>) -> Result<codegen::Text, String> {
        let lens = self.lens();
        let mut entries = Vec::new();
        for variable in self.variables()? {
            if !kinds.contains(&variable.kind) {
                continue;
            }
            let entry = match self.value(&variable) {
                Err(_) => Entry::Unknown,
                Ok(value) => match depth {
                    Some(depth) => Entry::Text(pretty::text(&lens, &value, depth > 1)),
                    None => self.entry(&lens, &value),
                },
            };
            entries.push((variable.name, entry));
        }
        Ok(pretty::listing(entries))
    }

    fn entry(&self, lens: &Lens<'_, '_>, value: &Value) -> Entry {
        match lens.describe(value.type_id) {
            Ok(Some(described)) => match described.kind {
                TypeKind::Record { .. } => Entry::Opaque("{...}"),
                TypeKind::Array { .. } => Entry::Opaque("[...]"),
                _ => match lens.read(value) {
                    Ok(variable) if variable.may_be_unknown() => {
                        Entry::Text(pretty::number_or_unknown(variable))
                    }
                    read => read.map_or(Entry::Unknown, Entry::Number),
                },
            },
            _ => Entry::Unknown,
        }
    }

    /// ` $return:int`; nothing for `void`.
    pub fn describe_return(&self) -> Option<String> {
        let type_id = self.info.result_type(self.scopes.as_ref()?)?;
        let described = self.info.describe(type_id).ok()?;
        Some(format!(" $return:{}", described.spelling))
    }

    /// ` $a:int` for every variable that has a place here, as stap lists them; so also for those of which only the value
    /// at the function's entry is known.
    pub fn describe(&self) -> Vec<String> {
        let variables = self.variables().unwrap_or_default();
        variables
            .into_iter()
            .filter(|v| super::is_listed(self.spelling.binary, self.spelling.pc, &v.location))
            // A type that has no name in C, such as that of pointers to members, is no type to stap.
            .filter(|v| v.type_name != "<unknown>")
            .map(|v| format!(" ${}:{}", v.name, v.type_name))
            .collect()
    }
}

/// The module that an expression names.
pub(super) fn named_module(target: &Target) -> Option<&str> {
    match &target.base {
        TargetBase::AtVar(_, module)
        | TargetBase::Cast(_, _, module)
        | TargetBase::EnumName(_, _, module) => module.as_deref().filter(|m| !m.is_empty()),
        TargetBase::Autocast(_, sources) => named_module(&sources.first()?.target),
        _ => None,
    }
}

/// What an expression means in the first of the modules `a:b:<c.h>` in which it means anything.
pub(super) fn in_modules(
    target: &Target,
    modules: &str,
    program: Option<&symbols::Binary>,
) -> Result<Resolution, Unresolved> {
    ask_modules(modules, program, |code| code.resolve_here(target))
}

/// The same question for the type of an expression.
pub(super) fn type_in_modules(
    source: &Target,
    modules: &str,
    program: Option<&symbols::Binary>,
) -> Result<TypeKey, String> {
    let found = ask_modules(modules, program, |code| Ok(code.type_of(source)?));
    found.map_err(String::from)
}

fn ask_modules<T>(
    modules: &str,
    program: Option<&symbols::Binary>,
    ask: impl Fn(&Code<'_, '_>) -> Result<T, Unresolved>,
) -> Result<T, Unresolved> {
    let mut failure = None;
    for name in modules.split(':') {
        let resolved = modules::open(name, program).map_err(Unresolved::from);
        let resolved = resolved.and_then(|binary| {
            let info = binary
                .debug_info()
                .ok_or_else(|| format!("no debug information in {}", binary.path().display()))?;
            let code = Code {
                info: &info,
                scopes: None,
                spelling: Spelling {
                    pc: ImageAddr(0),
                    binary: &binary,
                    at_return: false,
                    elsewhere: true,
                },
                function: "",
                entry: 0,
                file: None,
                typing: Cell::new(false),
            };
            ask(&code)
        });
        match resolved {
            Ok(answer) => return Ok(answer),
            Err(why) => failure = failure.or(Some(why)),
        }
    }
    Err(failure.unwrap_or_else(|| Unresolved::from("no module is named")))
}

fn listed(name: &str) -> Option<&'static [VariableKind]> {
    match name {
        "$$vars" => Some(&[VariableKind::Parameter, VariableKind::Local]),
        "$$parms" => Some(&[VariableKind::Parameter]),
        "$$locals" => Some(&[VariableKind::Local]),
        _ => None,
    }
}

fn spelled(target: &Target) -> String {
    match &target.base {
        TargetBase::Variable(name) => name.clone(),
        TargetBase::AtVar(name, _) => format!("@var(\"{name}\")"),
        TargetBase::Cast(..) => "@cast(…)".into(),
        TargetBase::Autocast(..) => "…".into(),
        TargetBase::Enum(name) => format!("@enum(\"{name}\")"),
        TargetBase::EnumName(..) => "@enumname(…)".into(),
    }
}
