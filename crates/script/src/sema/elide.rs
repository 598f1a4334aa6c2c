//! Pass: elision. Drops assignments to locals that nobody reads, statements without effect, empty probes and
//! functions that nobody calls, and warns as stap does.

use std::collections::BTreeSet;

use super::effects::{Effects, Functions};
use super::fold;
use super::hir::*;
use super::probe_points;
use super::report::Report;
use super::suggest::similar;
use super::types;
use crate::ast::{AssignOp, BinaryOp, UnaryOp};
use crate::span::{SourceMap, Span};

/// Functions of the library that are embedded C in stap's, too: there is nothing in them to be folded.
const EMBEDDED: [&str; 4] = ["abort", "error", "exit", "warn"];

/// The pass, repeated with constant folding until nothing changes.
pub struct Elision<'a> {
    /// The program.
    pub hir: &'a mut Program,
    /// For the question whether a place is the user's.
    pub sources: &'a SourceMap,
    /// Findings.
    pub report: &'a mut Report,
    /// Names of the user's globals, for near matches.
    pub global_names: Vec<String>,
    /// Globals that get their values from the command line.
    pub initial: &'a [(String, String)],
    /// A later round than the first, of which stap does not tell.
    pub quiet: bool,
}

impl Elision<'_> {
    /// Runs it; false when types were found to disagree meanwhile. Without `optimize` (stap's `-u`) only what is
    /// unreachable is marked so.
    pub fn run(mut self, optimize: bool) -> bool {
        let mut first = true;
        let mut exact = false;
        let mut named = BTreeSet::new();
        loop {
            let functions = Functions::of(self.hir);
            mark_live(self.hir, &functions);
            if first {
                self.never_assigned(&functions);
                first = false;
            }
            if !optimize {
                break;
            }
            // Variables that nothing names go when a round begins; those that lose their last mention in the last
            // round stay. Where what is beneath names has other bodies than stap's, there may have been more rounds.
            exact = self.is_all_the_users();
            if exact {
                mark_variables(self.hir, &functions);
                self.unread_messages(&functions);
            }
            let mut changed = self.each_body(|this, body| this.dead_assignments(body, &functions));
            changed |= self.each_body(|this, body| this.pure_statements(body, &functions));
            self.empty_functions(&mut named);
            if !types::first_round(self.hir, self.report) {
                self.empty_probes();
                return false;
            }
            changed |= self.each_body(|_, body| fold::stmt(&mut body.stmt, &functions));
            self.empty_probes();
            if !changed {
                break;
            }
            self.quiet = true;
        }
        let functions = Functions::of(self.hir);
        mark_live(self.hir, &functions);
        let kept = exact.then(|| Kept::of(self.hir));
        mark_variables(self.hir, &functions);
        if let Some(kept) = kept {
            kept.keep(self.hir);
        }
        true
    }

    /// Calls `f` on the bodies of all probes, then on those of the live functions.
    fn each_body(&mut self, mut f: impl FnMut(&mut Self, &mut Body) -> bool) -> bool {
        let mut changed = false;
        let mut probes = std::mem::take(&mut self.hir.probes);
        for p in &mut probes {
            changed |= f(self, &mut p.body);
        }
        self.hir.probes = probes;
        let mut functions = std::mem::take(&mut self.hir.functions);
        for function in functions.iter_mut().filter(|f| f.live) {
            if let Code::Script(body) = &mut function.code {
                changed |= f(self, body);
            }
        }
        self.hir.functions = functions;
        changed
    }

    fn warn(&mut self, message: String, span: Span) {
        if !self.quiet && !self.sources.file(span.file).is_tapset {
            self.report.warning(message, span);
        }
    }

    fn never_assigned(&mut self, functions: &Functions) {
        let mut all = Effects::default();
        let mut findings = Vec::new();
        let mut look = |body: &Body, params: usize, all: &mut Effects| {
            let mut here = Effects::default();
            functions.stmt(&body.stmt, &mut here);
            for (i, local) in body.locals.iter().enumerate().skip(params) {
                let v = Var::Local(LocalId(i as u32));
                if here.read.contains(&v) && !here.written.contains(&v) {
                    let others = body
                        .locals
                        .iter()
                        .map(|l| l.name.as_str())
                        .filter(|n| *n != local.name)
                        .chain(self.global_names.iter().map(String::as_str));
                    let hint = similar(&local.name, others);
                    findings.push((
                        format!("never-assigned local variable '{}'{hint}", local.name),
                        local.span,
                    ));
                }
            }
            all.read.extend(here.read);
            all.written.extend(here.written);
        };
        for p in &self.hir.probes {
            look(&p.body, 0, &mut all);
            for c in p.points.iter().filter_map(|p| p.condition.as_ref()) {
                functions.expr(c, &mut all);
            }
        }
        for f in self.hir.functions.iter().filter(|f| f.live) {
            look(f.body(), f.params, &mut all);
        }
        in_c(self.hir, &mut all);
        for (i, g) in self.hir.globals.iter().enumerate() {
            let v = Var::Global(GlobalId(i as u32));
            let given = g.init.is_some() || self.initial.iter().any(|(name, _)| *name == g.name);
            if all.read.contains(&v) && !all.written.contains(&v) && !given {
                let hint = similar(&g.name, self.global_names.iter().map(String::as_str));
                findings.push((
                    format!("never-assigned global variable '{}'{hint}", g.name),
                    g.span,
                ));
            }
        }
        for (message, span) in findings {
            self.warn(message, span);
        }
    }

    /// Whether all that runs is written in the script: no function of the library, no variable of a program.
    fn is_all_the_users(&self) -> bool {
        fn names_a_program(s: &Stmt) -> bool {
            let mut found = false;
            s.each_expr(&mut |e| {
                e.each(&mut |e| {
                    let of_program = matches!(
                        e.kind,
                        ExprKind::Target(_) | ExprKind::Entry(_) | ExprKind::Defined(_)
                    );
                    found |= of_program;
                });
            });
            s.each_stmt(&mut |s| found |= names_a_program(s));
            found
        }
        let live = self.hir.functions.iter().filter(|f| f.live);
        let mut bodies = self.hir.probes.iter().map(|p| &p.body);
        let plain = |f: &Function| EMBEDDED.contains(&f.name.as_str());
        let library = |f: &Function| self.sources.file(f.span.file).is_tapset && !plain(f);
        live.clone()
            .all(|f| !library(f) && !names_a_program(&f.body().stmt))
            && !bodies.any(|body| names_a_program(&body.stmt))
    }

    /// A `catch` whose variable nobody reads catches without one.
    fn unread_messages(&mut self, functions: &Functions) {
        let globals: Vec<bool> = self.hir.globals.iter().map(|g| g.read).collect();
        self.each_body(|_, body| {
            let mut effects = Effects::default();
            functions.stmt(&body.stmt, &mut effects);
            drop_messages(&mut body.stmt, &|v| match v {
                Var::Global(id) => globals.get(id.0 as usize).is_some_and(|read| *read),
                Var::Local(_) => effects.read.contains(&v),
            });
            false
        });
    }

    fn dead_assignments(&mut self, body: &mut Body, functions: &Functions) -> bool {
        let mut effects = Effects::default();
        functions.stmt(&body.stmt, &mut effects);
        let names: Vec<String> = body.locals.iter().map(|l| l.name.clone()).collect();
        let mut dropped = Vec::new();
        drop_assignments(&mut body.stmt, &effects.read, &mut dropped);
        for (local, span) in &dropped {
            if let Some(name) = names.get(local.0 as usize) {
                self.warn(format!("Eliding assignment to '{name}'"), *span);
            }
        }
        !dropped.is_empty()
    }

    fn pure_statements(&mut self, body: &mut Body, functions: &Functions) -> bool {
        let mut dropped = Vec::new();
        let changed = drop_pure(&mut body.stmt, functions, &mut dropped);
        for span in dropped {
            self.warn("Eliding side-effect-free expression ".into(), span);
        }
        changed
    }

    fn empty_functions(&mut self, named: &mut BTreeSet<FunctionId>) {
        let empty: Vec<(FunctionId, String, Span)> = self
            .hir
            .functions
            .iter()
            .enumerate()
            .filter(|(_, f)| f.live && matches!(&f.code, Code::Script(b) if b.stmt.is_null()))
            .map(|(i, f)| (FunctionId(i as u32), f.name.clone(), f.span))
            .collect();
        for (id, name, span) in empty {
            if named.insert(id) {
                self.warn(format!("side-effect-free function '{name}'"), span);
            }
        }
    }

    fn empty_probes(&mut self) {
        let probes = std::mem::take(&mut self.hir.probes);
        for p in probes {
            // A counter is there to be read by others.
            let counts = |point: &Point| probe_points::counter(&point.point).is_some();
            if !p.body.stmt.is_null() || p.points.iter().any(counts) {
                self.hir.probes.push(p);
                continue;
            }
            // As stap has it: one word of the point.
            let mut words: Vec<&str> = p.points.iter().filter_map(first_word).collect();
            words.dedup();
            for word in words {
                // Of these stap tells in all rounds.
                self.report
                    .warning(format!("Probe '{word}' has been elided"), p.span);
            }
            let in_process = |point: &&Point| first_word(point) == Some("process");
            let points = p.points.iter().filter(in_process).map(|point| Point {
                condition: None,
                ..point.clone()
            });
            let points: Vec<Point> = points.collect();
            if !points.is_empty() {
                self.hir.elided.push(points);
            }
        }
    }
}

fn first_word(point: &Point) -> Option<&str> {
    let first = point.point.components.first()?;
    Some(&first.name.text)
}

/// Leaves of what depends on a known condition, in the handlers that run in processes and the functions that they call,
/// only the part that counts: stap does so together with `@defined`, before types are looked at and with `-u`, too.
pub fn decide_in_processes(hir: &mut Program, in_process: &[bool]) {
    let functions = Functions::of(hir);
    let mut called = Effects::default();
    for (number, _) in in_process.iter().enumerate().filter(|(_, p)| **p) {
        if let Some(probe) = hir.probes.get_mut(number) {
            functions.stmt(&probe.body.stmt, &mut called);
            fold::decide(&mut probe.body.stmt, &functions);
        }
    }
    for id in functions.reached(called.calls) {
        if let Some(function) = hir.functions.get_mut(id.0 as usize) {
            fold::decide(&mut function.body_mut().stmt, &functions);
        }
    }
}

/// Folds the handlers that run in processes: what the analysis of their variables decides is decided before types are
/// looked at.
pub fn fold_in_processes(hir: &mut Program, in_process: &[bool]) {
    let functions = Functions::of(hir);
    for (probe, _) in hir.probes.iter_mut().zip(in_process).filter(|(_, p)| **p) {
        while fold::stmt(&mut probe.body.stmt, &functions) {}
    }
}

/// Which variables a program has, as [`mark_variables`] found it.
struct Kept {
    probes: Vec<Vec<bool>>,
    functions: Vec<Vec<bool>>,
    globals: Vec<(bool, bool)>,
}

impl Kept {
    fn of(hir: &Program) -> Kept {
        let locals = |body: &Body| body.locals.iter().map(|l| l.live).collect();
        Kept {
            probes: hir.probes.iter().map(|p| locals(&p.body)).collect(),
            functions: hir.functions.iter().map(|f| locals(f.body())).collect(),
            globals: hir.globals.iter().map(|g| (g.read, g.written)).collect(),
        }
    }

    fn keep(self, hir: &mut Program) {
        let keep = |body: &mut Body, kept: Vec<bool>| {
            for (local, kept) in body.locals.iter_mut().zip(kept) {
                local.live |= kept;
            }
        };
        for (p, kept) in hir.probes.iter_mut().zip(self.probes) {
            keep(&mut p.body, kept);
        }
        for (f, kept) in hir.functions.iter_mut().zip(self.functions) {
            if f.live {
                keep(f.body_mut(), kept);
            }
        }
        for (g, (read, written)) in hir.globals.iter_mut().zip(self.globals) {
            g.read |= read;
            g.written |= written;
        }
    }
}

fn drop_messages(s: &mut Stmt, is_read: &dyn Fn(Var) -> bool) {
    if let StmtKind::Try { message, .. } = &mut s.kind {
        *message = message.take().filter(|(v, _)| is_read(*v));
    }
    s.each_stmt_mut(&mut |s| drop_messages(s, is_read));
}

fn drop_assignments(s: &mut Stmt, read: &BTreeSet<Var>, dropped: &mut Vec<(LocalId, Span)>) {
    s.each_expr_mut(&mut |e| drop_in_expr(e, read, dropped));
    s.each_stmt_mut(&mut |s| drop_assignments(s, read, dropped));
}

fn drop_in_expr(e: &mut Expr, read: &BTreeSet<Var>, dropped: &mut Vec<(LocalId, Span)>) {
    if let ExprKind::Assign(AssignOp::Set | AssignOp::Aggregate, target, value) = &mut e.kind
        && let ExprKind::Var(v @ Var::Local(id)) = target.kind
        && !read.contains(&v)
    {
        dropped.push((id, e.span));
        let span = value.span;
        let value = std::mem::replace(&mut **value, Expr::long(0, span));
        *e = value;
        drop_in_expr(e, read, dropped);
        return;
    }
    e.each_part_mut(&mut |e| drop_in_expr(e, read, dropped));
}

/// Drops statements without effect; expression statements among them go to `dropped`. True where stap looks at
/// everything once more for it: not for loops, branches and `try` that are gone.
fn drop_pure(s: &mut Stmt, functions: &Functions, dropped: &mut Vec<Span>) -> bool {
    let mut changed = false;
    s.each_stmt_mut(&mut |s| changed |= drop_pure(s, functions, dropped));
    let span = s.span;
    let none = |e: &Expr| {
        let mut effects = Effects::default();
        functions.expr(e, &mut effects);
        effects.none()
    };
    let new = match &mut s.kind {
        StmtKind::Expr(e) if none(e) => {
            dropped.push(span);
            changed = true;
            Some(StmtKind::Null)
        }
        StmtKind::If(c, then, other) => {
            if other.as_ref().is_some_and(|s| s.is_null()) {
                *other = None;
            }
            match (then.is_null(), other.take()) {
                (true, None) => Some(match none(c) {
                    true => StmtKind::Null,
                    false => StmtKind::Expr(c.clone()),
                }),
                (true, Some(o)) => {
                    let at = c.span;
                    let negated = Expr {
                        kind: ExprKind::Unary(UnaryOp::Not, Box::new(c.clone())),
                        ty: Ty::Long,
                        span: at,
                    };
                    Some(StmtKind::If(negated, o, None))
                }
                (false, o) => {
                    *other = o;
                    None
                }
            }
        }
        StmtKind::Loop {
            init,
            cond,
            step,
            body,
        } if body.is_null() => {
            let idle = [&*init, &*cond, &*step].into_iter().flatten().all(none);
            body.kind = StmtKind::Null;
            idle.then_some(StmtKind::Null)
        }
        StmtKind::Foreach(f) if f.body.is_null() => Some(StmtKind::Null),
        StmtKind::Try { body, .. } if body.is_null() => Some(StmtKind::Null),
        StmtKind::Block(list) => {
            changed |= fold::flatten(list);
            list.is_empty().then_some(StmtKind::Null)
        }
        _ => None,
    };
    if let Some(kind) = new {
        s.kind = kind;
    }
    if let StmtKind::Expr(e) = &s.kind
        && let Some(kind) = reduced(e, functions)
    {
        s.kind = kind;
        changed = true;
    }
    changed
}

/// What is left of an expression whose value nobody uses, when that is not all of it.
fn reduced(e: &Expr, functions: &Functions) -> Option<StmtKind> {
    let none = |e: &Expr| {
        let mut effects = Effects::default();
        functions.expr(e, &mut effects);
        effects.none()
    };
    let statement = |e: &Expr| Stmt {
        kind: StmtKind::Expr(e.clone()),
        span: e.span,
    };
    let choice = |cond: &Expr, yes: Option<&Expr>, no: Option<&Expr>| match (yes, no) {
        (Some(yes), no) => StmtKind::If(
            cond.clone(),
            Box::new(statement(yes)),
            no.map(|no| Box::new(statement(no))),
        ),
        (None, Some(no)) => {
            let negated = Expr {
                kind: ExprKind::Unary(UnaryOp::Not, Box::new(cond.clone())),
                ty: Ty::Long,
                span: cond.span,
            };
            StmtKind::If(negated, Box::new(statement(no)), None)
        }
        (None, None) => StmtKind::Expr(cond.clone()),
    };
    fn if_needed<'a>(e: &'a Expr, none: &dyn Fn(&Expr) -> bool) -> Option<&'a Expr> {
        (!none(e)).then_some(e)
    }
    let parts: Vec<&Expr> = match &e.kind {
        ExprKind::Unary(_, a) | ExprKind::Match(a, ..) => vec![a],
        ExprKind::Binary(BinaryOp::LogicalAnd, a, b) => {
            return Some(choice(a, if_needed(b, &none), None));
        }
        ExprKind::Binary(BinaryOp::LogicalOr, a, b) => {
            return Some(choice(a, None, if_needed(b, &none)));
        }
        ExprKind::Ternary(c, a, b) => {
            return Some(choice(c, if_needed(a, &none), if_needed(b, &none)));
        }
        ExprKind::Binary(_, a, b) => vec![a, b],
        ExprKind::Call(id, args) if functions.function(*id).none() => args.iter().collect(),
        ExprKind::Print(p) if p.form.to_string => p.args.iter().collect(),
        _ => return None,
    };
    let mut parts: Vec<Stmt> = (parts.into_iter())
        .filter(|part| !none(part))
        .map(statement)
        .collect();
    match parts.len() {
        1 => parts.pop().map(|only| only.kind),
        _ => Some(StmtKind::Block(parts)),
    }
}

/// Drops overloads that are never tried because the one before them has no `next`.
pub fn cut_overloads(hir: &mut Program) {
    fn says_next(s: &Stmt) -> bool {
        let mut found = matches!(s.kind, StmtKind::Next);
        s.each_stmt(&mut |s| found |= says_next(s));
        found
    }
    for f in &mut hir.functions {
        let next = match &f.code {
            Code::Embedded(c, _) => c.next,
            _ => says_next(&f.body().stmt),
        };
        if !next {
            f.next = None;
        }
    }
    let functions = Functions::of(hir);
    mark_live(hir, &functions);
}

/// Marks the functions that probes reach.
fn mark_live(hir: &mut Program, functions: &Functions) {
    let mut in_probes = Effects::default();
    for p in &hir.probes {
        functions.stmt(&p.body.stmt, &mut in_probes);
    }
    let live = functions.reached(in_probes.calls);
    for (i, f) in hir.functions.iter_mut().enumerate() {
        f.live = live.contains(&FunctionId(i as u32));
    }
}

/// Adds the globals that embedded C names.
fn in_c(hir: &Program, effects: &mut Effects) {
    for &(function, global, writes) in &hir.named_in_c {
        if hir.function(function).live {
            let named = match writes {
                true => &mut effects.written,
                false => &mut effects.read,
            };
            named.insert(Var::Global(global));
        }
    }
}

/// Notes which variables the live program reads and writes, and which globals are to be shown at the end.
fn mark_variables(hir: &mut Program, functions: &Functions) {
    let mut all = Effects::default();
    let mut used = BTreeSet::new();
    let mark = |body: &mut Body, all: &mut Effects, used: &mut BTreeSet<Var>, params: usize| {
        let mut here = Effects::default();
        functions.stmt(&body.stmt, &mut here);
        let mut shown = BTreeSet::new();
        functions.used_globals(&body.stmt, &mut shown);
        for (i, local) in body.locals.iter_mut().enumerate() {
            let v = Var::Local(LocalId(i as u32));
            local.live = i < params || here.read.contains(&v) || here.written.contains(&v);
        }
        all.read.extend(here.read);
        all.written.extend(here.written);
        used.extend(shown);
    };
    for p in &mut hir.probes {
        mark(&mut p.body, &mut all, &mut used, 0);
        for c in p.points.iter().filter_map(|p| p.condition.as_ref()) {
            let mut e = Effects::default();
            functions.expr(c, &mut e);
            used.extend(&e.read);
            all.read.extend(e.read);
        }
    }
    for f in hir.functions.iter_mut().filter(|f| f.live) {
        let params = f.params;
        mark(f.body_mut(), &mut all, &mut used, params);
    }
    in_c(hir, &mut all);
    for (i, g) in hir.globals.iter_mut().enumerate() {
        let v = Var::Global(GlobalId(i as u32));
        g.read = all.read.contains(&v);
        g.written = all.written.contains(&v);
        g.auto_display = g.written && !used.contains(&v) && !g.tapset;
    }
}
