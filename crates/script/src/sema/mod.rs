//! The semantic pass, as a list of passes over the resolved tree ([`hir`]): names and aliases, shapes, elision and
//! folding, types, statistics, lowering.

mod aliases;
mod arity;
mod autocast;
mod callers;
mod effects;
pub mod elaborated;
mod elide;
mod fold;
mod formats;
mod hir;
mod initial;
mod kernel_only;
mod listing;
mod lower;
pub mod probe_points;
mod probe_write;
mod report;
mod resolve;
mod statistics;
mod suggest;
mod types;
pub mod unplaced;
mod walk;

use crate::ast;
use crate::diagnostic::Diagnostic;
use crate::ir;
use crate::span::{SourceMap, Span};
use crate::tapset::Library;

use probe_points::Place;
use report::{Finding, Report};
use resolve::{Resolver, Scope, Targets};
use unplaced::{Definition, Named, Unplaced};

/// There is no C compiler behind this translator, and none is wanted on the machine where it runs.
const EMBEDDED_C: &str =
    "embedded C code is not supported: scripts are compiled without a C compiler";

/// What the semantic pass is told beside the script.
pub struct Request<'a> {
    /// The user's files.
    pub files: Vec<ast::File>,
    /// `-G`: initial values of globals.
    pub initial: &'a [(String, String)],
    /// Drop what has no effect; false for stap's `-u`.
    pub optimize: bool,
    /// `-g`: target variables may be written.
    pub guru: bool,
    /// The program is to be compiled, not only shown: what cannot be compiled is an error.
    pub compiled: bool,
    /// What is known of target expressions in `@defined`.
    pub definitions: &'a [Definition],
}

/// What came of it.
pub struct Analysis {
    /// The typed program; none when there were errors.
    pub program: Option<ir::Program>,
    /// What `-p2` prints; none when there were errors.
    pub elaborated: Option<elaborated::Elaborated>,
    /// The errors, if any, are of the translation and not of the analysis.
    pub translated: bool,
    /// Everything found.
    pub diagnostics: Vec<Diagnostic>,
    /// How many of these stood before anything was dropped from the program.
    pub resolved: usize,
    /// The points in processes, when there were errors.
    pub unplaced: Option<Unplaced>,
}

/// Runs the passes.
pub fn analyse(request: Request, sources: &mut SourceMap, library: &mut Library) -> Analysis {
    let mut report = Report::default();
    let mut translated = false;
    let mut hir = hir::Program::default();
    let mut named = Vec::new();
    let result = passes(
        request,
        sources,
        library,
        &mut report,
        &mut translated,
        (&mut hir, &mut named),
    );
    let failed = report.errors() > 0;
    let (program, elaborated) = match result {
        Some((p, e)) if report.errors() == 0 => (Some(p), Some(e)),
        _ => (None, None),
    };
    let (diagnostics, resolved, places) = report.finish(sources);
    let unplaced = failed.then(|| Unplaced::of(&hir, &named, &places, resolved, sources));
    Analysis {
        program,
        elaborated,
        translated,
        diagnostics,
        resolved: resolved.unwrap_or_default(),
        unplaced,
    }
}

fn passes(
    request: Request,
    sources: &mut SourceMap,
    library: &mut Library,
    report: &mut Report,
    translated: &mut bool,
    (hir, named): (&mut hir::Program, &mut Vec<Named>),
) -> Option<(ir::Program, elaborated::Elaborated)> {
    let mut probes = Vec::new();
    let mut embedded = Vec::new();
    let compiled = request.compiled;
    let mut resolver = Resolver::new(sources, library, report);
    resolver.guru = request.guru;
    resolver.definitions = definitions_at(request.definitions, None);
    for mut file in request.files {
        probes.append(&mut file.probes);
        embedded.append(&mut file.embeds);
        resolver.declare(file, false);
    }
    let mut in_process = Vec::new();
    for probe in &probes {
        resolve_probe(&mut resolver, probe, request.definitions, &mut in_process);
    }
    resolver.drain();
    // Probes of library files come with whatever else of them is used.
    loop {
        let probes = resolver.take_library_probes();
        if probes.is_empty() {
            break;
        }
        for probe in probes {
            resolve_probe(&mut resolver, &probe, request.definitions, &mut in_process);
        }
        resolver.drain();
    }
    let global_names: Vec<String> = resolver.user_globals().map(str::to_string).collect();
    *named = std::mem::take(&mut resolver.named);
    *hir = resolver.hir;
    callers::settle(hir, &in_process);
    let changed = arity::check(hir, report);
    let globals = hir.globals.iter().enumerate();
    let wrapped: Vec<usize> = globals
        .filter(|(_, g)| g.wrap && matches!(g.arity, Some((0, _))))
        .map(|(id, _)| id)
        .collect();
    if report.errors() > 0 {
        return None;
    }
    report.names_are_resolved();
    elide::decide_in_processes(hir, &in_process);
    if request.optimize {
        elide::fold_in_processes(hir, &in_process);
    }
    // Statements that are never reached, and go, tell types, too.
    autocast::settle(hir);
    let elision = elide::Elision {
        hir: &mut *hir,
        sources,
        report,
        global_names,
        initial: request.initial,
        quiet: false,
    };
    if !elision.run(request.optimize) {
        return None;
    }
    // Whether the points of those that were elided exist is said first.
    if hir.probes.is_empty() && hir.elided.is_empty() {
        report.push(Finding::error_nowhere("no probes found"));
        return None;
    }
    autocast::settle(hir);
    if !request.guru {
        autocast::refuse_writes(hir, report);
    }
    types::infer(hir, report);
    elide::cut_overloads(hir);
    for g in wrapped.iter().filter_map(|&id| hir.globals.get(id)) {
        if g.read || g.written {
            report.error("wrapping not supported for scalars", g.span);
        }
    }
    if report.errors() > 0 {
        return None;
    }
    let needs = statistics::collect(hir, report);
    if report.errors() == 0 {
        for (message, span) in changed {
            report.error(message, span);
        }
    }
    if report.errors() > 0 {
        return None;
    }
    // Handlers are written out only where they may be shown.
    let shown = (!compiled).then_some(&*sources);
    let elaborated = elaborated::Elaborated::of(hir, &embedded, shown);
    *translated = true;
    if compiled {
        report.translate();
        for p in &hir.probes {
            stray_jumps(&p.body.stmt, report);
        }
        for f in hir.functions.iter().filter(|f| f.live) {
            stray_jumps(&f.body().stmt, report);
        }
        let live = hir.functions.iter().filter(|f| f.live);
        let used = live.filter_map(|f| match &f.code {
            hir::Code::Embedded(c, _) => Some(c.span),
            _ => None,
        });
        for span in embedded.iter().map(|c| c.span).chain(used) {
            report.error(EMBEDDED_C, span);
        }
        if report.errors() > 0 {
            return None;
        }
    } else if report.has_late()
        || hir
            .functions
            .iter()
            .any(|f| matches!(f.code, hir::Code::Embedded(..)))
    {
        // For messages about its points.
        let program = ir::Program {
            sources: sources.clone(),
            ..ir::Program::default()
        };
        return Some((program, elaborated));
    }
    if compiled {
        initial::set(hir, request.initial, report);
        if report.errors() > 0 {
            return None;
        }
    }
    let mut program = lower::lower(hir, &needs, sources);
    program.guru = request.guru;
    Some((program, elaborated))
}

/// Refuses `break` and `continue` outside loops, as stap does when it translates.
fn stray_jumps(s: &hir::Stmt, report: &mut Report) {
    let word = match s.kind {
        hir::StmtKind::Loop { .. } | hir::StmtKind::Foreach(_) => return,
        hir::StmtKind::Break => "break",
        hir::StmtKind::Continue => "continue",
        _ => return s.each_stmt(&mut |s| stray_jumps(s, report)),
    };
    report.error(format!("cannot '{word}' outside loop"), s.span);
}

/// What is known of target expressions at a point, or, without one, in functions, by their places.
fn definitions_at(definitions: &[Definition], point: Option<Span>) -> Vec<(Span, bool)> {
    let of_point = definitions.iter().filter(|d| d.point == point);
    of_point.map(|d| (d.place, d.known)).collect()
}

/// Resolves one probe. Points that come from the same aliases and run in the same place share a handler. `in_process`
/// is told of each handler whether it runs in a process.
fn resolve_probe(
    resolver: &mut Resolver,
    probe: &ast::Probe,
    definitions: &[Definition],
    in_process: &mut Vec<bool>,
) {
    let mut groups: Vec<(Vec<aliases::Expanded>, Place, Targets)> = Vec::new();
    for point in &probe.points {
        let found = aliases::expand(resolver, point);
        // Whether a point in a process is there is only known when processes are looked at.
        let any = found.iter().any(|e| e.place == Place::Session);
        for e in found {
            if let Some(name) = probe_points::counter(&e.point)
                && !resolver.note_counter(name, &e.point)
            {
                let first = e
                    .point
                    .components
                    .first()
                    .map_or(e.point.span, |c| c.name.span);
                resolver.report.error("while resolving probe point", first);
                let second = Finding::error_nowhere("duplicate counter name");
                resolver.report.push(second.following());
                continue;
            }
            let targets = match e.place {
                Place::Process => Targets::Allowed,
                Place::Session => Targets::of_session(&e.point),
            };
            let group = groups.iter_mut().find(|(members, place, its)| {
                *place == e.place
                    && *its == targets
                    && members.first().is_some_and(|m| {
                        let known =
                            |point: &ast::ProbePoint| definitions_at(definitions, Some(point.span));
                        known(&m.point) == known(&e.point)
                            && m.aliases.len() == e.aliases.len()
                            && m.aliases
                                .iter()
                                .zip(&e.aliases)
                                .all(|(a, b)| std::rc::Rc::ptr_eq(a, b))
                    })
            });
            match group {
                Some((members, ..)) => members.push(e),
                None => {
                    let place = e.place;
                    groups.push((vec![e], place, targets));
                }
            }
        }
        if any && point.sufficient {
            break;
        }
    }
    for (members, place, targets) in groups {
        let Some(handler) = members.first().map(|m| m.handler(&probe.body)) else {
            continue;
        };
        let is_return = |m: &aliases::Expanded| {
            let components = &m.point.components;
            components.iter().any(|c| c.name.text == "return")
        };
        let returns = place == Place::Process && members.iter().all(is_return);
        let mut scope = Scope::new(targets).of_returns(returns);
        if let Some(first) = members.first() {
            scope.definitions = definitions_at(definitions, Some(first.point.span));
        }
        if members.iter().any(|m| !m.aliases.is_empty()) {
            scope.written = Some(probe_write::written(&probe.body));
        }
        for alias in members.iter().flat_map(|m| &m.aliases) {
            resolver.note_alias(alias);
        }
        let from = resolver.report.place();
        let stmt = resolver.stmt(&handler, &mut scope);
        let findings = from..resolver.report.place();
        let points = members
            .into_iter()
            .map(|m| {
                let condition = m
                    .conditions
                    .iter()
                    .rev()
                    .filter_map(|c| resolver.condition(c))
                    .reduce(|a, b| hir::Expr {
                        span: a.span,
                        ty: hir::Ty::Long,
                        kind: hir::ExprKind::Binary(
                            ast::BinaryOp::LogicalAnd,
                            Box::new(a),
                            Box::new(b),
                        ),
                    });
                hir::Point {
                    point: m.point,
                    via: m.via,
                    condition,
                    conditions: m.conditions,
                }
            })
            .collect();
        in_process.push(place == Place::Process);
        resolver.named.push(Named {
            statement: probe.span,
            findings,
        });
        resolver.hir.probes.push(hir::Probe {
            span: probe.span,
            written: probe.points.clone(),
            points,
            body: scope.finish(stmt),
        });
    }
}
