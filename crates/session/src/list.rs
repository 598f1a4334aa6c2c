//! `stap -l` and `-L`: the probe points that a pattern matches.

use crate::options::ListStyle;
use crate::plan::{self, Point};
use crate::programs::Files;
use crate::resolve::{Scope, Site};
use crate::variables::{SharedInfo, describe};
use rayon::prelude::*;
use script::ir::{Program, Type};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The lines that the points list, sorted as stap sorts them; none when nothing matches.
pub fn lines(
    program: &Program,
    points: &[Point<'_>],
    target: Option<&Arc<Scope>>,
    style: ListStyle,
) -> Vec<String> {
    // Of several places that are called the same, the variables that all of them have.
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    let mut files = Files::default();
    for point in points {
        if let Some(alias) = alias_name(point) {
            // An alias is listed by its name, with the variables that it sets.
            if is_there(point, target, &mut files) {
                let mut line = alias;
                if style == ListStyle::Variables {
                    line.push_str(&alias_variables(program, point));
                }
                lines.insert(line, Line::default());
            }
            continue;
        }
        if !point.kind.is_in_process() {
            lines.insert(
                crate::probe_point::spell(&point.point.point),
                Line::default(),
            );
            continue;
        }
        // What can't be resolved matches nothing; stap -l says no more about it.
        match files.list_functions(&point.kind, target, style) {
            Ok(None) => {}
            listed => {
                for listed in listed.ok().flatten().unwrap_or_default() {
                    add(&mut lines, listed.point, listed.variables, false);
                }
                continue;
            }
        }
        let found = files.resolve(&point.kind, &point.point.point, target);
        for (_, sites) in found.unwrap_or_default() {
            for (site, variables) in sites.iter().zip(variables_of(&sites, style)) {
                let is_extra = site.variables.is_from_other_unit();
                add(&mut lines, site.text.pp.clone(), variables, is_extra);
            }
        }
    }
    lines
        .into_iter()
        .map(|(point, line)| format!("{point}{}", line.variables.concat()))
        .collect()
}

/// What is listed of places that are called the same.
#[derive(Default)]
struct Line {
    variables: Vec<String>,
    /// All are copies from other units, which are left out where they lack a variable: others would say what is there.
    is_extra: bool,
}

fn add(lines: &mut BTreeMap<String, Line>, point: String, variables: Vec<String>, is_extra: bool) {
    let new = Line {
        variables,
        is_extra,
    };
    match lines.entry(point) {
        Entry::Vacant(entry) => {
            entry.insert(new);
        }
        Entry::Occupied(mut entry) => {
            let line = entry.get_mut();
            match (line.is_extra, is_extra) {
                (true, false) => *line = new,
                (false, true) => {}
                _ => line.variables.retain(|v| new.variables.contains(v)),
            }
        }
    }
}

/// The variables of each site, by all processors: of neighbours by the same one, since they share much.
fn variables_of(sites: &[Site], style: ListStyle) -> Vec<Vec<String>> {
    const NEIGHBOURS: usize = 128;
    if style == ListStyle::Points {
        return vec![Vec::new(); sites.len()];
    }
    let describe_some = |sites: &[Site]| -> Vec<Vec<String>> {
        let mut infos: HashMap<usize, SharedInfo<'_>> = HashMap::new();
        sites
            .iter()
            .map(|site| {
                let info = SharedInfo::clone(infos.entry(site.candidate).or_default());
                describe(&site.variables, site.address, info)
            })
            .collect()
    };
    sites
        .par_chunks(NEIGHBOURS)
        .flat_map_iter(describe_some)
        .collect()
}

/// The name of the alias that the user wrote, its wildcards filled in.
fn alias_name(point: &Point<'_>) -> Option<String> {
    let written = point.point.via.first()?;
    (*written != point.point.point).then(|| crate::probe_point::spell(written))
}

/// Whether a point stands for anything here.
fn is_there(point: &Point<'_>, target: Option<&Arc<Scope>>, files: &mut Files) -> bool {
    !point.kind.is_in_process()
        || plan::resolve_kind(&point.kind, &point.point.point, target, files)
            .is_ok_and(|sites| !sites.is_empty())
}

fn alias_variables(program: &Program, point: &Point<'_>) -> String {
    program
        .probes
        .get(point.probe)
        .into_iter()
        .flat_map(|probe| &probe.body.locals)
        .map(|local| {
            let ty = match local.ty {
                Type::Long => "long",
                Type::String => "string",
                Type::Unit => "unknown",
            };
            format!(" {}:{ty}", local.name)
        })
        .collect()
}

/// What a point of a process resolves to; `None` for points that stand for themselves.
pub fn matches(
    point: &script::ast::ProbePoint,
    target: Option<&Arc<Scope>>,
    files: &mut Files,
) -> Option<Vec<String>> {
    let kind = crate::probe_point::understand(point)
        .ok()
        .filter(crate::probe_point::Kind::is_in_process)?;
    match plan::resolve_kind(&kind, point, target, files) {
        Ok(sites) => {
            let mut names: Vec<String> = Vec::new();
            for site in sites {
                let name = crate::probe_point::of_module(&site.text.pp);
                // What is all over a process has a site in each of its modules.
                if site.around.is_none() || !names.contains(&name) {
                    names.push(name);
                }
            }
            Some(names)
        }
        // What may be missing is not shown when it is.
        Err(_) if point.optional || point.sufficient => Some(Vec::new()),
        Err(_) => None,
    }
}
