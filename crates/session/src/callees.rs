//! `.callee("GLOB")` and `.callees`: what a function calls by address, probed only when it is that function that calls,
//! and what was inlined into it.

use crate::code_sites::{Module, spell, unreadable};
use crate::probe_point::Which;
use crate::resolve::{ResolveError, Site};
use crate::source_place::SourcePlace;
use inject::arch::direct_calls;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use symbols::{DwarfFunction, Glob, ImageAddr};

/// A function whose calls are looked at.
struct Caller {
    /// `main@main.c:3`, as far as that is known.
    spelling: String,
    code: Vec<Range<ImageAddr>>,
    described: Option<DwarfFunction>,
}

impl Module<'_> {
    /// The callees of functions that were found by name, and of those that only symbols know.
    pub(crate) fn callees(
        &self,
        place: &SourcePlace<'_>,
        described: Vec<DwarfFunction>,
        which: &Which,
    ) -> Result<Vec<Site>, ResolveError> {
        let mut seen = HashSet::new();
        let mut callers = Vec::new();
        for function in described {
            if seen.insert(function.entry) {
                callers.push(Caller {
                    spelling: spell(
                        &function.name,
                        function.decl_file.as_deref(),
                        function.decl_line,
                    ),
                    code: function.ranges.clone(),
                    described: Some(function),
                });
            }
        }
        if place.file.is_none() {
            for function in self.candidate.binary.functions_matching(place.function) {
                if seen.insert(function.address) {
                    callers.push(Caller {
                        spelling: function.name.clone(),
                        code: vec![function.address..function.end()],
                        described: None,
                    });
                }
            }
        }
        let mut sites = Vec::new();
        for caller in &callers {
            sites.extend(self.callees_of(caller, which)?);
        }
        Ok(sites)
    }

    fn callees_of(&self, caller: &Caller, which: &Which) -> Result<Vec<Site>, ResolveError> {
        let Which::Callee { name, call, inline } = which else {
            return Ok(Vec::new());
        };
        let glob = Glob::new(name);
        let info = self.candidate.binary.debug_info();
        let mut sites = Vec::new();
        if !*inline {
            for (target, returns) in self.calls(caller) {
                let described = match &info {
                    Some(info) => info.function_holding(target, false).map_err(unreadable)?,
                    None => None,
                };
                let symbol = self.candidate.binary.function_at(target);
                let mut site = match (described.filter(|f| f.entry == target), symbol) {
                    (Some(function), _) if glob.matches(&function.name) => {
                        self.function(which, function)
                    }
                    (None, Some(symbol))
                        if symbol.address == target && glob.matches(&symbol.name) =>
                    {
                        self.symbol(which, symbol)
                    }
                    _ => continue,
                };
                site.callers = returns;
                sites.push(site);
            }
        }
        if !*call && let (Some(info), Some(function)) = (&info, &caller.described) {
            let copies = info.inlined_into(function).map_err(unreadable)?;
            let meant = copies.into_iter().filter(|c| glob.matches(&c.name));
            sites.extend(meant.map(|copy| self.function(which, copy)));
        }
        for site in &mut sites {
            // `.function("callee")` becomes `.function("caller").callee("callee")`.
            let callee = site.text.pp.split_off(self.prefix.len());
            let callee = callee.replacen(".function(", ".callee(", 1);
            site.text.pp = format!("{}.function(\"{}\"){callee}", self.prefix, caller.spelling);
        }
        Ok(sites)
    }

    /// What a function calls by address, with the places that the calls return to.
    fn calls(&self, caller: &Caller) -> BTreeMap<ImageAddr, Vec<ImageAddr>> {
        let mut calls: BTreeMap<ImageAddr, Vec<ImageAddr>> = BTreeMap::new();
        for range in &caller.code {
            let Some(code) = self.candidate.binary.code_bytes(range.clone()) else {
                continue;
            };
            for call in direct_calls(code, range.start.0) {
                calls
                    .entry(ImageAddr(call.target))
                    .or_default()
                    .push(ImageAddr(call.returns_to));
            }
        }
        calls
    }
}
