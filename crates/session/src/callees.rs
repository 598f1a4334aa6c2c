//! `.callee("GLOB")`, `.callees` and `.callees(N)`: what a function calls by address, probed only when it is that function
//! that calls, what was inlined into it, and what its callees call when it called them.

use crate::code_sites::{Module, spell, unreadable};
use crate::probe_point::Which;
use crate::resolve::{ResolveError, Site};
use crate::source_place::SourcePlace;
use inject::arch::direct_calls;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use symbols::{DwarfFunction, Function, Glob, ImageAddr};

/// More places than this are no script's wish: callees of callees multiply.
const SITE_LIMIT: usize = 10_000;

/// A function whose calls are looked at.
#[derive(Clone)]
struct Caller {
    entry: ImageAddr,
    /// `main@main.c:3`, as far as that is known.
    spelling: String,
    code: Vec<Range<ImageAddr>>,
    described: Option<DwarfFunction>,
}

/// How a function came to be called.
#[derive(Clone, Default)]
struct Chain {
    /// The functions on the way, the one that a script names first.
    functions: Vec<ImageAddr>,
    /// Where their calls return to, those of the innermost first.
    returns: Vec<Vec<ImageAddr>>,
}

impl Caller {
    fn described(function: DwarfFunction) -> Caller {
        Caller {
            entry: function.entry,
            spelling: spell(
                &function.name,
                function.decl_file.as_deref(),
                function.decl_line,
            ),
            code: function.ranges.clone(),
            described: Some(function),
        }
    }

    fn of_symbol(function: &Function) -> Caller {
        Caller {
            entry: function.address,
            spelling: function.name.clone(),
            code: vec![function.address..function.end()],
            described: None,
        }
    }
}

impl Module<'_> {
    /// The callees of functions that were found by name, and of those that only symbols know.
    pub(crate) fn callees(
        &self,
        place: &SourcePlace<'_>,
        described: Vec<DwarfFunction>,
        which: &Which,
    ) -> Result<Vec<Site>, ResolveError> {
        let (mut seen, mut copies) = (HashSet::new(), HashSet::new());
        let mut callers = Vec::new();
        for function in described {
            // Copies call as well; one may begin where the function does that it was inlined into.
            if match function.inlined {
                true => copies.insert(function.entity()),
                false => seen.insert(function.entry),
            } {
                callers.push(Caller::described(function));
            }
        }
        if place.file.is_none() {
            for function in self.candidate.binary.functions_matching(place.function) {
                if seen.insert(function.address) {
                    callers.push(Caller::of_symbol(&function));
                }
            }
        }
        let Which::Callee { depth, .. } = which else {
            return Ok(Vec::new());
        };
        let mut sites = Vec::new();
        for caller in &callers {
            self.callees_of(caller, which, *depth, &Chain::default(), &mut sites)?;
        }
        Ok(sites)
    }

    fn callees_of(
        &self,
        caller: &Caller,
        which: &Which,
        depth: u64,
        chain: &Chain,
        found: &mut Vec<Site>,
    ) -> Result<(), ResolveError> {
        let Which::Callee {
            name, call, inline, ..
        } = which
        else {
            return Ok(());
        };
        let Some(deeper) = depth.checked_sub(1) else {
            return Ok(());
        };
        let glob = Glob::new(name);
        let info = self.candidate.binary.debug_info();
        let mut sites = Vec::new();
        let mut next = Vec::new();
        for (target, returns) in self.calls(caller) {
            let described = match &info {
                Some(info) => info.function_holding(target, false).map_err(unreadable)?,
                None => None,
            };
            let symbol = self.candidate.binary.function_at(target);
            let (mut site, callee) = match (described.filter(|f| f.entry == target), symbol) {
                (Some(function), _) if glob.matches(&function.name) => (
                    self.function(which, function.clone()),
                    Caller::described(function),
                ),
                (None, Some(symbol)) if symbol.address == target && glob.matches(&symbol.name) => {
                    (self.symbol(which, &symbol), Caller::of_symbol(&symbol))
                }
                _ => continue,
            };
            let mut inner = chain.clone();
            inner.functions.push(caller.entry);
            inner.returns.insert(0, returns);
            site.callers.clone_from(&inner.returns);
            // A function that calls itself is not its own callee's callee.
            if deeper > 0 && !inner.functions.contains(&callee.entry) {
                next.push((callee, inner));
            }
            if !*inline {
                sites.push(site);
            }
        }
        if !*call && let (Some(info), Some(function)) = (&info, &caller.described) {
            let copies = info.inlined_into(function).map_err(unreadable)?;
            for copy in copies.into_iter().filter(|c| glob.matches(&c.name)) {
                if deeper > 0 {
                    // It runs in its caller's frame.
                    next.push((Caller::described(copy.clone()), chain.clone()));
                }
                let mut site = self.function(which, copy);
                site.callers.clone_from(&chain.returns);
                sites.push(site);
            }
        }
        for site in &mut sites {
            // `.function("callee")` becomes `.function("caller").callee("callee")`.
            let callee = site.text.pp.split_off(self.prefix.len());
            let callee = callee.replacen(".function(", ".callee(", 1);
            site.text.pp = format!("{}.function(\"{}\"){callee}", self.prefix, caller.spelling);
        }
        found.append(&mut sites);
        for (callee, chain) in next {
            if found.len() >= SITE_LIMIT {
                return Ok(());
            }
            self.callees_of(&callee, which, deeper, &chain, found)?;
        }
        Ok(())
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
