//! Pass: shapes. Every use of a variable must agree on the number of keys, and arrays and target variables must not be
//! changed while a loop goes through them.

use std::collections::BTreeSet;

use super::hir::*;
use super::report::Report;
use crate::span::Span;

/// The pass.
pub struct Shapes<'a> {
    report: &'a mut Report,
    globals: Vec<Option<(usize, Span)>>,
    names: Vec<String>,
    /// The globals that each function changes itself, element by element.
    changes: &'a [BTreeSet<Var>],
    /// Arrays that a loop is going through.
    looping: Vec<Var>,
    changed: Vec<Changed>,
}

/// An array changed by a loop through it: the message and its place. It is told when all else is right.
pub type Changed = (String, Span);

/// Runs it over the whole program.
pub fn check(hir: &mut Program, report: &mut Report) -> Vec<Changed> {
    let changes: Vec<BTreeSet<Var>> = (hir.functions.iter())
        .map(|f| {
            let mut changed = BTreeSet::new();
            if let Code::Script(body) = &f.code {
                changes(&body.stmt, &mut changed);
            }
            changed
        })
        .collect();
    let mut pass = Shapes {
        report,
        globals: hir.globals.iter().map(|g| g.arity).collect(),
        names: hir.globals.iter().map(|g| g.name.clone()).collect(),
        changes: &changes,
        looping: Vec::new(),
        changed: Vec::new(),
    };
    for p in &hir.probes {
        for c in p.points.iter().filter_map(|p| p.condition.as_ref()) {
            pass.expr(c, &mut Vec::new());
        }
        pass.stmt(&p.body.stmt, &mut vec![None; p.body.locals.len()]);
    }
    for f in &hir.functions {
        if let Code::Script(b) = &f.code {
            pass.stmt(&b.stmt, &mut vec![None; b.locals.len()]);
        }
    }
    let (arities, changed) = (pass.globals, pass.changed);
    for (g, arity) in hir.globals.iter_mut().zip(arities) {
        if matches!(arity, Some((0, _))) && g.size.is_some() {
            report.error("inconsistent arity", g.span);
        }
        g.arity = arity;
        let n = arity.map_or(0, |(n, _)| n);
        g.keys = vec![Slot::default(); n];
    }
    changed
}

/// What a statement changes without calling anybody; the deletion of a whole array does not count.
fn changes(s: &Stmt, out: &mut BTreeSet<Var>) {
    let mut target = |e: &Expr| {
        if let ExprKind::Var(v) | ExprKind::Index(Base::Var(v), _) = &e.kind {
            out.insert(*v);
        }
    };
    if let StmtKind::Delete(e) = &s.kind
        && matches!(e.kind, ExprKind::Index(..))
    {
        target(e);
    }
    s.each_expr(&mut |e| {
        e.each(&mut |e| match &e.kind {
            ExprKind::Assign(_, a, _) => target(a),
            ExprKind::Step { operand, .. } => target(operand),
            _ => {}
        });
    });
    s.each_stmt(&mut |s| changes(s, out));
}

type Locals = Vec<Option<(usize, Span)>>;

impl Shapes<'_> {
    fn shape(&mut self, v: Var, arity: usize, span: Span, locals: &mut Locals) {
        let slot = match v {
            Var::Global(id) => self.globals.get_mut(id.0 as usize),
            Var::Local(id) => locals.get_mut(id.0 as usize),
        };
        let Some(slot) = slot else { return };
        match *slot {
            None => *slot = Some((arity, span)),
            Some((known, first)) if known != arity => {
                self.report
                    .error(format!("inconsistent arity ({known} vs {arity})"), span);
                self.report
                    .cause(format!("arity {known} first inferred here"), first);
            }
            Some(_) => {}
        }
    }

    fn stmt(&mut self, s: &Stmt, locals: &mut Locals) {
        match &s.kind {
            StmtKind::Foreach(f) => {
                for (v, span) in f.keys.iter().chain(&f.value) {
                    self.shape(*v, 0, *span, locals);
                }
                match &f.base {
                    Base::Var(v) => {
                        let arity = f.slice.as_ref().map_or(f.keys.len(), Vec::len);
                        match (arity == f.keys.len(), self.name(*v)) {
                            (true, _) => self.shape(*v, f.keys.len(), f.base_span, locals),
                            (false, Some(name)) => {
                                let message = format!(
                                    "unresolved arity-{arity} global array __global_{name}, missing global declaration?"
                                );
                                self.report.error(message, f.base_span);
                            }
                            (false, None) => {
                                self.shape(*v, f.keys.len(), f.base_span, locals);
                                self.shape(*v, arity, f.base_span, locals);
                            }
                        }
                        self.looping.push(*v);
                    }
                    Base::Hist(_, stat) => {
                        self.expr(stat, locals);
                    }
                }
                f.slice
                    .iter()
                    .flatten()
                    .flatten()
                    .chain(&f.limit)
                    .for_each(|e| self.expr(e, locals));
                self.stmt(&f.body, locals);
                if matches!(f.base, Base::Var(_)) {
                    self.looping.pop();
                }
                return;
            }
            StmtKind::Delete(e) => {
                // `delete a` may name an array of any shape.
                // stap lets the whole array go inside a loop through it, but no element.
                if matches!(e.kind, ExprKind::Var(_)) {
                    return;
                }
                if let ExprKind::Index(Base::Var(v), _) = e.kind {
                    self.modified(v, e.span);
                }
            }
            StmtKind::Try {
                message: Some((v, span)),
                ..
            } => self.shape(*v, 0, *span, locals),
            _ => {}
        }
        s.each_expr(&mut |e| self.expr(e, locals));
        s.each_stmt(&mut |s| self.stmt(s, locals));
    }

    fn modified(&mut self, v: Var, span: Span) {
        if self.looping.contains(&v)
            && let Some(name) = self.name(v)
        {
            let message = format!("variable '{name}' modified during 'foreach' iteration");
            self.changed.push((message, span));
        }
    }

    fn name(&self, v: Var) -> Option<String> {
        match v {
            Var::Global(id) => self.names.get(id.0 as usize).cloned(),
            Var::Local(_) => None,
        }
    }

    fn expr(&mut self, e: &Expr, locals: &mut Locals) {
        match &e.kind {
            ExprKind::Var(v) => self.shape(*v, 0, e.span, locals),
            ExprKind::Index(Base::Var(v), keys) => {
                // stap meets the keys before the array.
                e.each_part(&mut |e| self.expr(e, locals));
                self.shape(*v, keys.len(), e.span, locals);
                return;
            }
            ExprKind::In(keys, v, span) => self.shape(*v, keys.len(), *span, locals),
            ExprKind::Assign(_, target, _) => self.written(target),
            ExprKind::Step { operand, .. } => self.written(operand),
            ExprKind::Call(id, _) => {
                let changed = self.changes.get(id.0 as usize);
                let hit =
                    (self.looping.iter().copied()).find(|v| changed.is_some_and(|c| c.contains(v)));
                if let Some(v) = hit
                    && let Some(name) = self.name(v)
                {
                    let message =
                        format!("function call modifies var '{name}' during 'foreach' iteration");
                    self.changed.push((message, e.span));
                }
            }
            _ => {}
        }
        e.each_part(&mut |e| self.expr(e, locals));
    }

    fn written(&mut self, target: &Expr) {
        if let ExprKind::Var(v) | ExprKind::Index(Base::Var(v), _) = &target.kind {
            self.modified(*v, target.span);
        }
    }
}
