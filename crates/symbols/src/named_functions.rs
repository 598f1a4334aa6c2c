//! Functions of a binary by name, as its debugging information and its symbols have them together.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::address::ImageAddr;
use crate::binary::{Binary, SymbolsError};
use crate::dwarf::{self, DwarfFunction, FunctionList, FunctionQuery, Wanted};
use crate::functions::{self, Function, FunctionKind, NamePattern};
use crate::glob::Glob;
use crate::{indirect, suggest};

impl Binary {
    /// Functions of the debugging information whose name (`DW_AT_name`, or the mangled name) matches a pattern, or, of a
    /// pattern with `::`, the last parts of whose qualified name do part by part; empty when there is none. Ascending by entry. A
    /// symbol that matches finds its function under that one's own name (`malloc` is `__libc_malloc` in glibc). Pieces that the compiler cut off a
    /// function ([`Function::is_fragment`]) are left out.
    ///
    /// # Errors
    /// When an entry that matches can't be decoded.
    pub fn dwarf_functions_matching(
        &self,
        pattern: &str,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        self.dwarf_functions_in(pattern, None)
    }

    /// The same; those of which it is known at once that they are declared in an unwanted file are left out.
    ///
    /// # Errors
    /// As [`Binary::dwarf_functions_matching`].
    pub fn dwarf_functions_in(
        &self,
        pattern: &str,
        file_wanted: Option<&(dyn Fn(&str) -> bool + Sync)>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let Some(file) = self.dwarf_file() else {
            return Ok(Vec::new());
        };
        let index = self.function_index();
        let key = dwarf::key_of_pattern(pattern);
        let keys = key.as_ref().map(std::slice::from_ref);
        let is_literal = !Glob::has_wildcard(pattern);
        let pattern = NamePattern::new(pattern);
        let wanted = |name: &str, linkage: Option<&str>| pattern.matches_function(name, linkage);
        let mut found = index.select(&file, keys, &wanted, file_wanted)?;
        let known: HashSet<ImageAddr> = found.iter().map(|f| f.entry).collect();
        // Those symbols alone that matter here, of a name that symbols contain as it is.
        let needle = pattern.needle();
        let some = match self.quick_table() {
            None if !needle.is_empty() => Some(self.functions_with(needle, &known)),
            _ => None,
        };
        let table = match &some {
            Some(table) => table,
            None => self.function_table(),
        };
        let mut elsewhere = HashSet::new();
        let mut aliases = HashSet::new();
        for function in table
            .functions()
            .iter()
            .filter(|f| !known.contains(&f.address))
        {
            // What resolves an indirect function is not that function.
            let is_indirect = function.kind == FunctionKind::IFunc;
            if !is_indirect && pattern.matches_alias(&function.name) {
                elsewhere.insert(function.address);
                let names = table.starting_at(function.address);
                aliases.extend(names.iter().map(|f| f.name.as_str()));
            }
        }
        if is_literal && !elsewhere.is_empty() {
            // Several may be described at one address, each by a name of its own; a symbol's name means one of them.
            let mut served = HashSet::new();
            let named = index.select_at(&file, &elsewhere)?;
            found.extend(named.into_iter().filter(|f| served.insert(f.entry)));
        } else if !aliases.is_empty() {
            let wanted = |name: &str, linkage: Option<&str>| {
                aliases.contains(name) || linkage.is_some_and(|l| aliases.contains(l))
            };
            let named = index.select(&file, None, &wanted, file_wanted)?;
            found.extend(named.into_iter().filter(|f| elsewhere.contains(&f.entry)));
        }
        found.sort_by(|a, b| (a.entry, &a.name).cmp(&(b.entry, &b.name)));
        found.retain(|f| !table.starting_at(f.entry).iter().any(Function::is_fragment));
        Ok(found)
    }

    /// What functions and copies there are, those of one line as one. For patterns that many functions match; all of the
    /// debugging information is gone through, or the units that have such names.
    pub fn list_functions(&self, query: &FunctionQuery<'_>) -> FunctionList {
        let Some(file) = self.dwarf_file() else {
            return FunctionList::default();
        };
        let index = self.function_index();
        let pattern = NamePattern::new(query.pattern);
        let named = |name: &str, linkage: Option<&str>| pattern.matches_function(name, linkage);
        let table = self.function_table();
        let fragments: HashSet<ImageAddr> = table
            .functions()
            .iter()
            .filter(|f| f.is_fragment())
            .map(|f| f.address)
            .collect();
        let scopes = functions::name_components(query.pattern).len();
        let wanted = Wanted {
            name: &named,
            file: query.file,
            scopes: scopes.saturating_sub(1),
            entry: &|address| {
                !fragments.contains(&address) && (!query.external || self.is_exported(address))
            },
        };
        let everything = query.pattern == "*";
        let few = |wanted: &Wanted<'_>| -> Vec<usize> {
            let found = index.units_naming(&file, wanted.name, wanted.file);
            found.into_iter().collect()
        };
        let mut found = match everything || !file.is_large() {
            true => index.list(&file, index.units.starts(&file), &wanted, query),
            false => index.list(&file, &few(&wanted), &wanted, query),
        };
        if everything || !query.functions {
            return found;
        }
        // Those that a symbol names as the pattern has it, and the debugging information otherwise.
        let mut elsewhere = HashSet::new();
        let mut aliases = HashSet::new();
        for function in table.functions() {
            let address = function.address;
            if !found.addresses.contains(&address)
                && function.kind != FunctionKind::IFunc
                && !fragments.contains(&address)
                && pattern.matches_alias(&function.name)
            {
                elsewhere.insert(address);
                let names = table.starting_at(address);
                aliases.extend(names.iter().map(|f| f.name.as_str()));
            }
        }
        if !aliases.is_empty() {
            let named = |name: &str, linkage: Option<&str>| {
                aliases.contains(name) || linkage.is_some_and(|l| aliases.contains(l))
            };
            let wanted = Wanted {
                name: &named,
                entry: &|address| {
                    elsewhere.contains(&address) && (!query.external || self.is_exported(address))
                },
                ..wanted
            };
            let query = FunctionQuery {
                copies: false,
                ..*query
            };
            let more = match file.is_large() {
                false => index.list(&file, index.units.starts(&file), &wanted, &query),
                true => index.list(&file, &few(&wanted), &wanted, &query),
            };
            found.functions.extend(more.functions);
            found.addresses.extend(more.addresses);
        }
        found
    }

    /// Copies of functions that were inlined into others, by the same names as
    /// [`Binary::dwarf_functions_matching`]. Ascending by entry.
    ///
    /// # Errors
    /// When an entry that matches can't be decoded.
    pub fn inlined_matching(&self, pattern: &str) -> Result<Vec<DwarfFunction>, SymbolsError> {
        self.inlined_in(pattern, None)
    }

    /// The same; those of which it is known at once that they are declared in an unwanted file are left out.
    ///
    /// # Errors
    /// As [`Binary::inlined_matching`].
    pub fn inlined_in(
        &self,
        pattern: &str,
        file_wanted: Option<&(dyn Fn(&str) -> bool + Sync)>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let Some(file) = self.dwarf_file() else {
            return Ok(Vec::new());
        };
        let key = dwarf::key_of_pattern(pattern);
        let keys = key.as_ref().map(std::slice::from_ref);
        let pattern = NamePattern::new(pattern);
        let wanted = |name: &str, linkage: Option<&str>| pattern.matches_function(name, linkage);
        self.function_index()
            .select_inlined(&file, keys, &wanted, file_wanted)
    }

    /// Names of functions of the debugging information near to one that was not found, best first.
    pub fn similar_dwarf_names(&self, name: &str, limit: usize) -> Vec<String> {
        let Some(file) = self.dwarf_file() else {
            return Vec::new();
        };
        let names = self.function_index().function_names(&file);
        suggest::similar(name, names.iter().map(String::as_str), limit)
    }

    /// The functions that an indirect function of this name may stand for, ascending by address; empty when there is none of
    /// that name, or when its resolver does not tell. Of a stripped file, in which they have no names, they bear its name.
    pub fn indirect_implementations(&self, name: &str) -> Vec<Function> {
        let named = self.functions_matching(name).into_iter();
        let resolvers = named.filter(|f| f.kind == FunctionKind::IFunc && f.name == name);
        let mut found = Vec::new();
        for resolver in resolvers {
            let Some(code) = self.code_bytes(resolver.address..resolver.end()) else {
                continue;
            };
            let is_function = |address| self.function_starting_at(address, &resolver).is_some();
            let addresses = indirect::implementations(&resolver, code, is_function);
            let functions = addresses.into_iter();
            found.extend(functions.filter_map(|at| self.function_starting_at(at, &resolver)));
        }
        found.sort_unstable_by_key(|function| function.address);
        found.dedup_by_key(|function| function.address);
        found
    }

    /// The function that starts at an address; one that only the unwind table knows is named after its resolver.
    fn function_starting_at(&self, address: ImageAddr, resolver: &Function) -> Option<Function> {
        if !self.function_table().starting_at(address).is_empty() {
            return self.function_at(address).map(Cow::into_owned);
        }
        let ranges = self.function_ranges();
        let at = ranges.binary_search_by_key(&address, |range| range.start);
        let range = ranges.get(at.ok()?)?;
        Some(Function {
            address,
            size: range.end.0 - range.start.0,
            kind: FunctionKind::Func,
            ..resolver.clone()
        })
    }

    /// Functions of the debugging information that are entered at one of these addresses, one for each; ascending by entry.
    ///
    /// # Errors
    /// When their entries can't be decoded.
    pub fn dwarf_functions_at(
        &self,
        addresses: &HashSet<ImageAddr>,
    ) -> Result<Vec<DwarfFunction>, SymbolsError> {
        let Some(file) = self.dwarf_file() else {
            return Ok(Vec::new());
        };
        let mut found = self.function_index().select_at(&file, addresses)?;
        let mut served = HashSet::new();
        found.retain(|f| served.insert(f.entry));
        Ok(found)
    }
}
