//! The points of a script with errors: stap looks for them before it looks at handlers, and tells of both.

use std::ops::Range;

use super::hir;
use super::lower::bare_point;
use crate::diagnostic::Diagnostic;
use crate::ir;
use crate::span::{SourceMap, Span};

/// A handler whose names have been looked up.
pub struct Named {
    /// The `probe` that it was written in.
    pub statement: Span,
    /// What was found meanwhile, by number.
    pub findings: Range<usize>,
}

/// What is known of the points of a script that has errors.
#[derive(Debug)]
pub struct Unplaced {
    /// Its points stand where those of elided probes do, a list for each handler; nothing else is in it.
    pub program: ir::Program,
    /// How many probes, functions, pieces of embedded code and globals there were when it failed.
    pub counts: [usize; 4],
    handlers: Vec<Handler>,
    /// How many diagnostics there were when names had their meanings; none if they have not.
    resolved: Option<usize>,
}

#[derive(Debug)]
struct Handler {
    statement: Span,
    points: usize,
    diagnostics: Range<usize>,
}

impl Unplaced {
    pub(super) fn of(
        hir: &hir::Program,
        named: &[Named],
        places: &[usize],
        resolved: Option<usize>,
        sources: &SourceMap,
    ) -> Unplaced {
        let of_probe = |points: &[hir::Point]| -> Vec<ir::ProbePoint> {
            points.iter().map(bare_point).collect()
        };
        let mut elided: Vec<_> = hir.probes.iter().map(|p| of_probe(&p.points)).collect();
        elided.extend(hir.elided.iter().map(|points| of_probe(points)));
        // Before names have their meanings nothing has been dropped.
        let all = resolved.is_none();
        let shown = hir.globals.iter().filter(|g| g.auto_display).count();
        let functions = hir.functions.iter().filter(|f| all || f.live);
        let globals = hir.globals.iter().filter(|g| all || g.read || g.written);
        let counts = [
            hir.probes.iter().map(|p| p.points.len()).sum::<usize>() + shown,
            functions.count(),
            0,
            globals.count(),
        ];
        let at = |finding: usize| places.get(finding).copied().unwrap_or_default();
        let handlers = hir.probes.iter().zip(named).map(|(probe, named)| Handler {
            statement: named.statement,
            points: probe.points.len(),
            diagnostics: at(named.findings.start)..at(named.findings.end),
        });
        Unplaced {
            handlers: handlers.collect(),
            resolved,
            counts,
            program: ir::Program {
                elided,
                sources: sources.clone(),
                ..ir::Program::default()
            },
        }
    }

    /// The diagnostics with those of `missing` points among them, which are given for handlers by their number, as stap
    /// gives them: no more than the names of handlers are looked at when points are missing, and not those of handlers
    /// that have no points.
    pub fn with_missing(
        &self,
        mut diagnostics: Vec<Diagnostic>,
        missing: Vec<(usize, Vec<Diagnostic>)>,
    ) -> Vec<Diagnostic> {
        if let Some(resolved) = self.resolved {
            diagnostics.truncate(resolved);
            diagnostics.extend(missing.into_iter().flat_map(|(_, told)| told));
            return diagnostics;
        }
        let is_lost = |index: usize, handler: &Handler| {
            let told = missing.iter().find(|(at, _)| *at == index);
            told.is_some_and(|(_, told)| told.len() >= handler.points)
        };
        let kept: Vec<Span> = (self.handlers.iter().enumerate())
            .filter(|(index, handler)| !is_lost(*index, handler))
            .map(|(_, handler)| handler.statement)
            .collect();
        let mut out = Vec::new();
        let mut rest = diagnostics.into_iter().enumerate().peekable();
        for (index, handler) in self.handlers.iter().enumerate() {
            while let Some((_, d)) = rest.next_if(|(at, _)| *at < handler.diagnostics.start) {
                out.push(d);
            }
            let told = missing.iter().filter(|(at, _)| *at == index);
            out.extend(told.flat_map(|(_, told)| told.iter().cloned()));
            while let Some((_, d)) = rest.next_if(|(at, _)| *at < handler.diagnostics.end) {
                if kept.contains(&handler.statement) {
                    out.push(d);
                }
            }
        }
        out.extend(rest.map(|(_, d)| d));
        out
    }
}
