//! The points of a script with errors: stap looks for them before it looks at handlers, and tells of both.

use std::ops::Range;

use super::effects::Functions;
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

/// A target expression that stands in `@defined`.
#[derive(Debug)]
pub struct Question {
    /// The handler from which it is reached.
    pub handler: usize,
    /// It stands in a function.
    pub in_function: bool,
    /// The expression.
    pub target: ir::Target,
}

/// Whether a target expression in `@defined` means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The point at which it does or does not; none for what stands in a function, and is the same for all its callers.
    pub point: Option<Span>,
    /// The place of the expression.
    pub place: Span,
    /// The answer.
    pub known: bool,
}

/// What is known of the points of a script that has errors.
#[derive(Debug)]
pub struct Unplaced {
    /// Its points stand where those of elided probes do, a list for each handler; nothing else is in it.
    pub program: ir::Program,
    /// How many probes, functions, pieces of embedded code and globals there were when it failed.
    pub counts: [usize; 4],
    /// Target expressions in `@defined`: of a script whose types do not agree they decide which parts count
    /// ([`crate::compile::CompileOptions::definitions`]).
    pub questions: Vec<Question>,
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
        let mut questions = Vec::new();
        if resolved.is_some() {
            let functions = Functions::of(hir);
            for (handler, probe) in hir.probes.iter().enumerate() {
                let mut ask = |stmt: &hir::Stmt, in_function: bool| {
                    let mut found = Vec::new();
                    in_stmt(stmt, &mut found);
                    questions.extend(found.into_iter().map(|target| Question {
                        handler,
                        in_function,
                        target,
                    }));
                };
                ask(&probe.body.stmt, false);
                for id in functions.reached_from(&probe.body.stmt) {
                    ask(&hir.function(id).body().stmt, true);
                }
            }
        }
        Unplaced {
            handlers: handlers.collect(),
            questions,
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

/// Adds the target expressions that stand in `@defined`.
fn in_stmt(stmt: &hir::Stmt, found: &mut Vec<ir::Target>) {
    stmt.each_expr(&mut |e| in_expr(e, found));
    stmt.each_stmt(&mut |s| in_stmt(s, found));
}

fn in_expr(expr: &hir::Expr, found: &mut Vec<ir::Target>) {
    if let hir::ExprKind::Defined(inner) = &expr.kind
        && let hir::ExprKind::Target(target) = &inner.kind
        && target.resolvable
    {
        found.extend(question(target, inner.span));
    }
    expr.each_part(&mut |e| in_expr(e, found));
}

/// A target expression of which only the meaning matters; none where that depends on other probes.
fn question(target: &hir::Target, span: Span) -> Option<ir::Target> {
    let any = || ir::Expr {
        kind: ir::ExprKind::Long(0),
        ty: ir::Type::Long,
        span,
    };
    let base = match &target.base {
        hir::TargetBase::Variable(name) => ir::TargetBase::Variable(name.clone()),
        hir::TargetBase::AtVar(name, module) => ir::TargetBase::AtVar(name.clone(), module.clone()),
        hir::TargetBase::Enum(name) => ir::TargetBase::Enum(name.clone()),
        // stap looks at casts only after types.
        hir::TargetBase::Cast(..)
        | hir::TargetBase::Autocast(..)
        | hir::TargetBase::EnumName(..) => return None,
    };
    let steps = target.steps.iter().map(|step| match step {
        hir::TargetStep::Member(name) => ir::TargetStep::Member(name.clone()),
        hir::TargetStep::Index(_) => ir::TargetStep::Index(any()),
        hir::TargetStep::Pretty(deep) => ir::TargetStep::Pretty(*deep),
    });
    Some(ir::Target {
        base,
        steps: steps.collect(),
        operators: target.operators.clone(),
        address_of: target.address_of,
        span,
    })
}
