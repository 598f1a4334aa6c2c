//! The points of a script by themselves: what they ask for, how much of a process they are about, what is told when they
//! mean nothing.

use crate::message::semantic;
use crate::probe_point::{CodePlace, Kind, Program as ProgramName, of_module, spell, understand};
use crate::programs::Files;
use crate::resolve::{ResolveError, Scope, Site};
use codegen::SiteText;
use script::diagnostic::{Diagnostic, Severity};
use script::ir;
use script::span::SourceMap;
use std::sync::Arc;
use symbols::Glob;

/// A probe point with its meaning.
#[derive(Clone, Debug)]
pub struct Point<'p> {
    /// Index of the probe in the program.
    pub probe: usize,
    /// Index of the point in the probe.
    pub index: usize,
    /// The point.
    pub point: &'p ir::ProbePoint,
    /// What it asks for.
    pub kind: Kind,
}

/// Understands every probe point of the program.
pub fn points(program: &ir::Program) -> Result<Vec<Point<'_>>, Vec<Diagnostic>> {
    let probes = program.probes.iter().map(|p| p.points.as_slice());
    understood(program, probes)
}

fn understood<'p>(
    program: &'p ir::Program,
    probes: impl Iterator<Item = &'p [ir::ProbePoint]>,
) -> Result<Vec<Point<'p>>, Vec<Diagnostic>> {
    let mut points = Vec::new();
    let mut errors = Vec::new();
    for (probe, of_probe) in probes.enumerate() {
        for (index, point) in of_probe.iter().enumerate() {
            match understand(&point.point) {
                Ok(kind) => points.push(Point {
                    probe,
                    index,
                    point,
                    kind,
                }),
                Err(_) if point.point.optional => {}
                Err(error) => {
                    let span = point
                        .point
                        .components
                        .get(error.index)
                        .map_or(point.point.span, |c| c.name.span);
                    errors.push(semantic(&program.sources, error.to_string(), span));
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(points)
    } else {
        Err(errors)
    }
}

/// How a place of a process is called in handlers: `pp()` names its module, `pn()` the alias that the user wrote, or else
/// the point with its wildcards filled in.
pub(super) fn named(point: &Point<'_>, text: &SiteText) -> SiteText {
    let alias = point.point.via.first();
    let alias = alias.filter(|written| **written != point.point.point);
    SiteText {
        pp: of_module(&text.pp),
        pn: alias.map_or_else(|| text.pp.clone(), spell),
        ..text.clone()
    }
}

/// What is wrong with the points of probes that were elided, each of which is to be found unless it may be missing: for
/// each of those probes by its number.
pub fn missing_of_elided(
    program: &ir::Program,
    target: Option<&Arc<Scope>>,
    files: &mut Files,
) -> Result<Vec<(usize, Vec<Diagnostic>)>, Vec<Diagnostic>> {
    let elided = program.elided.iter().map(Vec::as_slice);
    let points = understood(program, elided)?;
    let mut missing: Vec<(usize, Vec<Diagnostic>)> = Vec::new();
    for point in points.iter().filter(|point| point.kind.is_in_process()) {
        let wanted = &point.point.point;
        let may_be_missing = wanted.optional || wanted.sufficient;
        let Err(error) = files.resolve(&point.kind, wanted, target) else {
            continue;
        };
        // A program may be there by the time that the script runs.
        let may_come = matches!(error, ResolveError::NoProgram(_)) && point.kind.is_everywhere();
        if may_be_missing || may_come {
            continue;
        }
        let mut told = point_errors(&program.sources, point, &error);
        match missing
            .last_mut()
            .filter(|(probe, _)| *probe == point.probe)
        {
            Some((_, all)) => all.append(&mut told),
            None => missing.push((point.probe, told)),
        }
    }
    Ok(missing)
}

/// How much of a process's code the probes of a script are in, as far as their points tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Only that of libraries.
    Libraries,
    /// A few places of the program.
    Places,
    /// All places where system calls are made.
    Everywhere,
    /// Many places of the program, or such for which all its control flow has to be known.
    Wide,
}

/// How much of a process's code is probed; `None`: nothing.
pub fn extent(program: &ir::Program) -> Option<Extent> {
    let points = program.probes.iter().flat_map(|p| &p.points);
    points
        .filter_map(|p| understand(&p.point).ok())
        .filter(Kind::is_in_process)
        .map(|kind| match &kind {
            _ if kind.is_everywhere() => Extent::Everywhere,
            _ if kind.module().is_none_or(|m| m.library.is_some()) => Extent::Libraries,
            Kind::Function { returns: true, .. } => Extent::Wide,
            Kind::Plt { returns: true, .. } => Extent::Wide,
            _ if is_pattern(&kind) => Extent::Wide,
            _ => Extent::Places,
        })
        .max()
}

/// Resolves a point where it is to be looked for: in the target when that is its program, else in the files that it
/// names.
pub fn resolve_kind(
    kind: &Kind,
    point: &script::ast::ProbePoint,
    target: Option<&Arc<Scope>>,
    files: &mut Files,
) -> Result<Vec<Site>, ResolveError> {
    let found = files.resolve(kind, point, target)?;
    Ok(found.into_iter().flat_map(|(_, sites)| sites).collect())
}

/// What stap says of a point that leads nowhere.
const RESOLVING: &str = "while resolving probe point";

/// Whether an error is one of [`point_error`].
pub fn is_point_error(error: &Diagnostic) -> bool {
    error.message == RESOLVING
}

/// stap's wrapping of an error in a probe point.
pub fn point_error(sources: &SourceMap, point: &Point<'_>, error: &ResolveError) -> Diagnostic {
    let span = point
        .point
        .point
        .components
        .first()
        .map_or(point.point.point.span, |c| c.name.span);
    let mut outer = semantic(sources, RESOLVING, span);
    // As stap has it, which does not say where.
    let nowhere = matches!(
        error,
        ResolveError::NoMatch { .. }
            | ResolveError::NoLibrary { .. }
            | ResolveError::NoProcess(_)
            | ResolveError::NoProgram(_)
            | ResolveError::NoTarget
    );
    outer.chain.push(match nowhere {
        true => Diagnostic::new(Severity::SemanticError, error.to_string(), None),
        false => semantic(sources, error.to_string(), span),
    });
    outer
}

/// As [`point_error`]; what stap tells of lines stands before and apart.
pub(super) fn point_errors(
    sources: &SourceMap,
    point: &Point<'_>,
    error: &ResolveError,
) -> Vec<Diagnostic> {
    if !matches!(error, ResolveError::NoLine(_)) {
        return vec![point_error(sources, point, error)];
    }
    let no_match = ResolveError::NoMatch {
        what: "functions",
        similar: Vec::new(),
    };
    vec![
        Diagnostic::new(Severity::SemanticError, error.to_string(), None),
        point_error(sources, point, &no_match),
    ]
}

/// Whether the point's names are patterns, which may well match nothing.
pub(super) fn is_pattern(kind: &Kind) -> bool {
    let (module, name) = match kind {
        Kind::Mark { module, name, .. } | Kind::Plt { module, name, .. } => (module, name),
        Kind::Function { module, place, .. } | Kind::Statement { module, place, .. } => match place
        {
            CodePlace::Named(name) => (module, name),
            CodePlace::Address(_) => return false,
        },
        _ => {
            return matches!(
                kind.program(),
                Some(ProgramName::Path(path)) if Glob::has_wildcard(path)
            );
        }
    };
    let program = matches!(&module.program, ProgramName::Path(path) if Glob::has_wildcard(path));
    program || Glob::has_wildcard(name) || module.library.as_deref().is_some_and(Glob::has_wildcard)
}
