//! Functions, statements and labels: from points in code to sites in one module, as stapprobes(3stap) has them.

use crate::probe_point::{CodePlace, Which};
use crate::resolve::{Candidate, ResolveError, Site};
use crate::source_place::SourcePlace;
use crate::variables::SiteVariables;
use codegen::SiteText;
use std::collections::HashSet;
use std::sync::Arc;
use symbols::functions::name_components;
use symbols::{
    Binary, Binding, DebugInfo, DwarfFunction, Function, FunctionKind, Glob, ImageAddr, LineSet,
    SymbolsError,
};

/// Where sites are made: one module, as the point names it.
pub struct Module<'a> {
    /// Its index among the candidates.
    pub index: usize,
    /// The module.
    pub candidate: &'a Candidate,
    /// `process("/bin/x")`.
    pub prefix: &'a str,
}

pub(crate) fn unreadable(error: SymbolsError) -> ResolveError {
    ResolveError::Binary(error.to_string())
}

fn parse(text: &str) -> Result<SourcePlace<'_>, ResolveError> {
    SourcePlace::parse(text).ok_or_else(|| ResolveError::Malformed(text.to_owned()))
}

/// `.function(…)`.
pub fn functions(
    module: &Module<'_>,
    place: &CodePlace,
    which: &Which,
    returns: bool,
) -> Result<Vec<Site>, ResolveError> {
    let mut sites = match place {
        CodePlace::Named(text) => module.named(&parse(text)?, which, returns)?,
        CodePlace::Address(address) => module.at_address(ImageAddr(*address), which, returns)?,
    };
    sites.sort_by_key(|s| s.address);
    if returns {
        // Nothing returns from what was inlined into a caller.
        sites.retain(|site| !site.variables.is_of_copy());
        for site in &mut sites {
            module.returning(site);
        }
    }
    Ok(sites)
}

/// `.statement(…)`.
pub fn statements(
    module: &Module<'_>,
    place: &CodePlace,
    nearest: bool,
) -> Result<Vec<Site>, ResolveError> {
    let binary = &module.candidate.binary;
    let text = match place {
        CodePlace::Named(text) => text,
        CodePlace::Address(address) => {
            return module.statement_at(ImageAddr(*address), nearest);
        }
    };
    let suffix = if nearest { ".nearest" } else { "" };
    let place = parse(text)?;
    let functions = module.described(&place, true, true)?;
    let Some(info) = binary.debug_info() else {
        return Ok(Vec::new());
    };
    let Some(lines) = &place.lines else {
        // A function's first instruction, prologue or not.
        return Ok(unique(functions)
            .map(|f| module.statement(f.entry, f.decl_line, &f, suffix))
            .collect());
    };
    let has_file = place.has_file();
    let found = info
        .statements(&functions, &has_file, lines, nearest)
        .map_err(unreadable)?;
    if found.found.is_empty() {
        if functions.is_empty() && place.function == "*" {
            return Err(no_file(&info, &place));
        }
        if let Some(missing) = found.missing.into_iter().next() {
            return Err(ResolveError::NoLine(missing));
        }
    }
    let mut seen = HashSet::new();
    let mut sites = Vec::new();
    for statement in &found.found {
        let Some(function) = functions.get(statement.function) else {
            continue;
        };
        if seen.insert((statement.address, statement.line, function.name.as_str())) {
            // stap prints the line that was asked for, unless it was one of several.
            let line = match lines {
                LineSet::Line(_) | LineSet::Relative(_) => Some(statement.asked),
                LineSet::Ranges(_) | LineSet::All => Some(statement.line),
            };
            sites.push(module.statement(statement.address, line, function, suffix));
        }
    }
    sites.sort_by_key(|s| s.address);
    Ok(sites)
}

/// No file of the debugging information is meant: which are there.
fn no_file(info: &DebugInfo<'_>, place: &SourcePlace<'_>) -> ResolveError {
    let wanted = place.file.unwrap_or_default();
    ResolveError::NoMatch {
        what: "files",
        similar: info.similar_files(wanted, 5),
    }
}

/// Without further copies of a function at the same address.
fn unique(functions: Vec<DwarfFunction>) -> impl Iterator<Item = DwarfFunction> {
    let mut seen = HashSet::new();
    functions
        .into_iter()
        .filter(move |f| seen.insert((f.name.clone(), f.decl_file.clone(), f.decl_line, f.entry)))
}

impl Module<'_> {
    /// The functions and inlined copies that debugging information has of a name, in a file.
    fn described(
        &self,
        place: &SourcePlace<'_>,
        functions: bool,
        copies: bool,
    ) -> Result<Vec<DwarfFunction>, ResolveError> {
        let binary = &self.candidate.binary;
        let mut found = Vec::new();
        if !binary.has_dwarf() {
            return Ok(found);
        }
        let has_file = place.has_file();
        let file_wanted: Option<&(dyn Fn(&str) -> bool + Sync)> =
            place.file.is_some().then_some(&has_file);
        if functions {
            found = binary
                .dwarf_functions_in(place.function, file_wanted)
                .map_err(unreadable)?;
        }
        if copies {
            let copies = binary.inlined_in(place.function, file_wanted);
            found.extend(copies.map_err(unreadable)?);
        }
        if place.file.is_some() {
            found.retain(|f| f.decl_file.as_deref().is_some_and(&has_file));
        }
        // Printed with as much of its scope as was asked for.
        let scopes = name_components(place.function).len().saturating_sub(1);
        if scopes > 0 {
            for function in &mut found {
                function.name = function.qualified_name(scopes);
            }
        }
        Ok(found)
    }

    fn named(
        &self,
        place: &SourcePlace<'_>,
        which: &Which,
        returns: bool,
    ) -> Result<Vec<Site>, ResolveError> {
        let binary = &self.candidate.binary;
        let copies = match which {
            Which::Callee { .. } => true,
            Which::All | Which::Inline | Which::Label(_) => !returns,
            Which::Call | Which::Exported => false,
        };
        let described = self.described(place, *which != Which::Inline, copies)?;
        match which {
            Which::Label(label) => return self.labels(&described, label),
            Which::Callee { .. } => return self.callees(place, described, which),
            _ => {}
        }
        let mut seen = HashSet::new();
        let mut sites = Vec::new();
        for function in unique(described) {
            // Known by debugging information, whether it is wanted or not.
            seen.extend([function.entry, function.probe_address]);
            if *which != Which::Exported || function.external && binary.is_exported(function.entry)
            {
                sites.push(self.function(which, function));
            }
        }
        if place.file.is_none() && *which != Which::Inline {
            let info = binary.debug_info();
            let wildcard = Glob::has_wildcard(place.function);
            for function in binary.functions_matching(place.function) {
                let by_name = function.is_fragment() && place.function.contains('.');
                if wildcard
                    && !by_name
                    && !seen.contains(&function.address)
                    && (function.is_fragment() || function.demangled().is_some())
                    && let Some(info) = &info
                {
                    let held = info.function_holding(function.address, false);
                    let held = held.map_err(unreadable)?;
                    // Wildcards stand for no parts of the mangled names of functions that have another one, and a piece
                    // that has an entry of its own there is one of its function.
                    if held.is_some_and(|held| {
                        held.entry == function.address || function.demangled().is_some()
                    }) {
                        continue;
                    }
                }
                let wanted = (*which != Which::Exported || function.binding != Binding::Local)
                    && function.kind != FunctionKind::IFunc;
                if wanted && seen.insert(function.address) {
                    sites.push(self.symbol(which, &function));
                }
            }
            if !wildcard {
                self.indirect(place.function, which, &mut seen, &mut sites)?;
            }
        }
        if returns {
            sites.retain(|site| !never_returns(&site.text.function));
        }
        Ok(sites)
    }

    /// What an indirect function's name may stand for: all that its resolver may choose, of which one runs.
    fn indirect(
        &self,
        name: &str,
        which: &Which,
        seen: &mut HashSet<ImageAddr>,
        sites: &mut Vec<Site>,
    ) -> Result<(), ResolveError> {
        let binary = &self.candidate.binary;
        let mut functions = binary.indirect_implementations(name);
        functions.retain(|function| !seen.contains(&function.address));
        if functions.is_empty() {
            return Ok(());
        }
        let addresses: HashSet<ImageAddr> = functions.iter().map(|f| f.address).collect();
        for function in binary.dwarf_functions_at(&addresses).map_err(unreadable)? {
            functions.retain(|named| named.address != function.entry);
            seen.extend([function.entry, function.probe_address]);
            sites.push(self.function(which, function));
        }
        for function in functions {
            seen.insert(function.address);
            sites.push(self.symbol(which, &function));
        }
        Ok(())
    }

    /// `.function(0xADDR)`: the function, or the inlined copy, that holds the address.
    fn at_address(
        &self,
        address: ImageAddr,
        which: &Which,
        returns: bool,
    ) -> Result<Vec<Site>, ResolveError> {
        let binary = &self.candidate.binary;
        if !binary.is_code(address) {
            return Err(ResolveError::NoCode(address));
        }
        let spelled = |mut site: Site| {
            site.text.pp = format!("{}.function({address}){}", self.prefix, which.suffix());
            site
        };
        if let Some(info) = binary.debug_info() {
            let innermost = !returns && *which != Which::Call && *which != Which::Exported;
            let found = info.function_holding(address, innermost);
            if let Some(function) = found.map_err(unreadable)? {
                let wanted = match which {
                    Which::Inline => function.inlined,
                    Which::Exported => function.external && binary.is_exported(function.entry),
                    Which::Label(label) => return self.labels(&[function], label),
                    Which::Callee { .. } => false,
                    Which::All | Which::Call => true,
                };
                return Ok(if wanted {
                    vec![spelled(self.function(which, function))]
                } else {
                    Vec::new()
                });
            }
        }
        if !matches!(which, Which::All | Which::Call) {
            return Ok(Vec::new());
        }
        if let Some(function) = binary.function_at(address) {
            return Ok(vec![spelled(self.symbol(which, &function))]);
        }
        // Stripped: the unwind table knows where functions begin.
        let ranges = binary.function_ranges();
        let range = ranges.iter().find(|r| (r.start..r.end).contains(&address));
        Ok(range
            .map(|r| spelled(self.site(r.start, true, String::new(), None)))
            .into_iter()
            .collect())
    }

    /// `.statement(0xADDR)`.
    fn statement_at(&self, address: ImageAddr, nearest: bool) -> Result<Vec<Site>, ResolveError> {
        let binary = &self.candidate.binary;
        if !binary.is_code(address) {
            return Err(ResolveError::NoCode(address));
        }
        let mut function = None;
        let mut address = address;
        if let Some(info) = binary.debug_info() {
            match info.statement_start(address) {
                Some(start) if nearest => address = start,
                Some(start) if start != address => {
                    return Err(ResolveError::NotAStatement { address, start });
                }
                _ => {}
            }
            function = info.function_holding(address, true).map_err(unreadable)?;
        }
        let name = match &function {
            Some(function) => function.name.clone(),
            None => binary
                .function_at(address)
                .map_or_else(String::new, |f| f.name.clone()),
        };
        let mut site = self.site(address, self.is_entry(address), name, function);
        let suffix = if nearest { ".nearest" } else { "" };
        site.text.pp = format!("{}.statement({address}){suffix}", self.prefix);
        Ok(vec![site])
    }

    /// `.label("GLOB")`.
    fn labels(&self, functions: &[DwarfFunction], label: &str) -> Result<Vec<Site>, ResolveError> {
        let Some(info) = self.candidate.binary.debug_info() else {
            return Ok(Vec::new());
        };
        let glob = Glob::new(label);
        let mut seen = HashSet::new();
        let mut sites = Vec::new();
        for function in functions {
            for label in info.labels(function).map_err(unreadable)? {
                if !glob.matches(&label.name)
                    || !seen.insert((label.address, function.name.clone()))
                {
                    continue;
                }
                let place = spell(&function.name, label.file.as_deref(), label.line);
                let entry = self.is_entry(label.address);
                let name = function.name.clone();
                let mut site = self.site(label.address, entry, name, Some(function.clone()));
                let suffix = Which::Label(label.name).suffix();
                site.text.pp = format!("{}.function(\"{place}\"){suffix}", self.prefix);
                sites.push(site);
            }
        }
        Ok(sites)
    }

    fn statement(
        &self,
        address: ImageAddr,
        line: Option<u64>,
        function: &DwarfFunction,
        suffix: &str,
    ) -> Site {
        let place = spell(&function.name, function.decl_file.as_deref(), line);
        let name = function.name.clone();
        let entry = self.is_entry(address);
        let mut site = self.site(address, entry, name, Some(function.clone()));
        site.text.pp = format!("{}.statement(\"{place}\"){suffix}", self.prefix);
        site
    }

    pub(crate) fn function(&self, which: &Which, function: DwarfFunction) -> Site {
        let place = spell(
            &function.name,
            function.decl_file.as_deref(),
            function.decl_line,
        );
        let entry = match function.inlined {
            true => self.is_entry(function.entry),
            false => function.probe_address == function.entry,
        };
        let name = function.name.clone();
        let (address, binary) = (function.probe_address, Arc::clone(&self.candidate.binary));
        let mut site = self.site(address, entry, name, None);
        site.variables = Arc::new(SiteVariables::Function {
            binary,
            function,
            blocks: false,
        });
        site.text.pp = format!("{}.function(\"{place}\"){}", self.prefix, which.suffix());
        site
    }

    pub(crate) fn symbol(&self, which: &Which, function: &Function) -> Site {
        let name = function.name.clone();
        // A piece is entered by jumps, with anything in the flags.
        let mut site = self.site(function.address, !function.is_fragment(), name, None);
        site.text.pp = format!(
            "{}.function(\"{}\"){}",
            self.prefix,
            function.name,
            which.suffix()
        );
        site
    }

    /// Whether only calls arrive at an address.
    fn is_entry(&self, address: ImageAddr) -> bool {
        let function = self.candidate.binary.function_at(address);
        function.is_some_and(|f| f.address == address && !f.is_fragment())
    }

    fn site(
        &self,
        address: ImageAddr,
        at_function_entry: bool,
        name: String,
        function: Option<DwarfFunction>,
    ) -> Site {
        let binary: Arc<Binary> = Arc::clone(&self.candidate.binary);
        let variables = match function {
            Some(function) => SiteVariables::Function {
                binary,
                function,
                blocks: true,
            },
            None => SiteVariables::Symbol { binary },
        };
        Site {
            candidate: self.index,
            address,
            at_function_entry,
            returns: None,
            around: None,
            callers: Vec::new(),
            semaphore: None,
            text: SiteText {
                function: name,
                module: self.candidate.path.display().to_string(),
                kind: "uprobe".into(),
                ..SiteText::default()
            },
            variables: Arc::new(variables),
        }
    }

    /// Makes a site at a function's entry one at its returns.
    fn returning(&self, site: &mut Site) {
        let entry = match &*site.variables {
            SiteVariables::Function { function, .. } => function.entry,
            _ => site.address,
        };
        site.text.pp.push_str(".return");
        site.text.kind = "uretprobe".into();
        site.returns = Some(entry);
        let variables = Arc::clone(&site.variables);
        site.variables = Arc::new(SiteVariables::Return {
            binary: Arc::clone(&self.candidate.binary),
            entry: variables,
            address: site.address,
        });
    }
}

/// Whether a function has no return address, so that `.return` can't mean it.
pub(crate) fn never_returns(function: &str) -> bool {
    function == "_start"
}

/// `NAME@FILE:LINE`, as far as that is known.
pub(crate) fn spell(name: &str, file: Option<&str>, line: Option<u64>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!("{name}@{file}:{line}"),
        (Some(file), None) => format!("{name}@{file}"),
        _ => name.to_owned(),
    }
}
