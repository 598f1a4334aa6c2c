//! `-l` and `-L` of functions by a pattern: without a site for each copy of each function.

use crate::code_sites::{never_returns, spell, unreadable};
use crate::options::ListStyle;
use crate::probe_point::{CodePlace, Kind, Which};
use crate::resolve::{Candidate, ResolveError, Scope};
use crate::source_place::SourcePlace;
use crate::variables::is_listed;
use std::collections::HashSet;
use symbols::{Binding, Function, FunctionKind, FunctionQuery, Glob, ImageAddr, Location};

/// A probe point as it is listed.
pub struct Listed {
    /// The point.
    pub point: String,
    /// ` $name:type` each.
    pub variables: Vec<String>,
}

/// Whether a point means functions by a pattern.
pub fn is_long(kind: &Kind) -> bool {
    let Kind::Function {
        place: CodePlace::Named(text),
        which: Which::All | Which::Call | Which::Inline | Which::Exported,
        ..
    } = kind
    else {
        return false;
    };
    let place = SourcePlace::parse(text);
    place.is_some_and(|place| Glob::has_wildcard(place.function) && place.lines.is_none())
}

/// The functions that such a point means in the modules of a scope.
///
/// # Errors
/// Why it means nothing.
pub fn list(scope: &Scope, kind: &Kind, style: ListStyle) -> Result<Vec<Listed>, ResolveError> {
    let Kind::Function {
        module,
        place: CodePlace::Named(text),
        which,
        returns,
    } = kind
    else {
        return Ok(Vec::new());
    };
    let place = SourcePlace::parse(text).ok_or_else(|| ResolveError::Malformed(text.clone()))?;
    let mut found = Vec::new();
    for index in scope.modules(module)? {
        let Some(candidate) = scope.candidates.get(index) else {
            continue;
        };
        let wanted = Wanted {
            candidate,
            prefix: scope.prefix(module, candidate),
            which,
            returns: *returns,
            style,
        };
        wanted.list(&place, &mut found)?;
    }
    Ok(found)
}

/// What is to be listed of a module.
struct Wanted<'w> {
    candidate: &'w Candidate,
    prefix: String,
    which: &'w Which,
    returns: bool,
    style: ListStyle,
}

impl Wanted<'_> {
    fn list(&self, place: &SourcePlace<'_>, found: &mut Vec<Listed>) -> Result<(), ResolveError> {
        let binary = &self.candidate.binary;
        let has_file = place.has_file();
        let file: Option<&(dyn Fn(&str) -> bool + Sync)> =
            place.file.is_some().then_some(&has_file);
        let listable =
            |address: ImageAddr, location: &Location| is_listed(binary, address, location);
        let with_variables = self.style == ListStyle::Variables;
        let list = binary.list_functions(&FunctionQuery {
            pattern: place.function,
            file,
            functions: *self.which != Which::Inline,
            copies: !self.returns && matches!(self.which, Which::All | Which::Inline),
            external: *self.which == Which::Exported,
            variables: with_variables.then_some(&listable),
        });
        for function in list.functions {
            if self.returns && never_returns(&function.name) {
                continue;
            }
            let name = spell(
                &function.name,
                function.decl_file.as_deref(),
                function.decl_line,
            );
            let result = function.result.filter(|_| self.returns);
            let result = result.map(|result| format!(" $return:{result}"));
            let variables = function.variables.iter();
            let variables = variables.map(|(name, of_type)| format!(" ${name}:{of_type}"));
            found.push(Listed {
                point: self.point(&name),
                variables: result.into_iter().chain(variables).collect(),
            });
        }
        if place.file.is_none() && *self.which != Which::Inline {
            self.symbols(place.function, list.addresses, found)?;
        }
        Ok(())
    }

    /// Functions that only symbols name.
    fn symbols(
        &self,
        pattern: &str,
        mut seen: HashSet<ImageAddr>,
        found: &mut Vec<Listed>,
    ) -> Result<(), ResolveError> {
        let binary = &self.candidate.binary;
        let info = binary.debug_info();
        for function in binary.functions_matching(pattern) {
            // A piece is one of its function, unless its own name is asked for.
            let by_name = function.is_fragment() && pattern.contains('.');
            if seen.contains(&function.address) && !by_name || !self.is_wanted(&function) {
                continue;
            }
            // Wildcards stand for no parts of the mangled names of functions that have another one.
            let is_mangled = !by_name && function.demangled().is_some();
            if let Some(info) = info.as_ref().filter(|_| is_mangled) {
                let held = info.function_holding(function.address, false);
                if held.map_err(unreadable)?.is_some() {
                    continue;
                }
            }
            seen.insert(function.address);
            found.push(Listed {
                point: self.point(&function.name),
                variables: Vec::new(),
            });
        }
        Ok(())
    }

    fn is_wanted(&self, function: &Function) -> bool {
        (*self.which != Which::Exported || function.binding != Binding::Local)
            && function.kind != FunctionKind::IFunc
            && !(self.returns && never_returns(&function.name))
    }

    fn point(&self, name: &str) -> String {
        let suffix = self.which.suffix();
        let returns = if self.returns { ".return" } else { "" };
        format!("{}.function(\"{name}\"){suffix}{returns}", self.prefix)
    }
}
