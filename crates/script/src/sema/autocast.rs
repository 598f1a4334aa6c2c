//! Pass: `e->member` and `e[i]` on values whose type is that of a target expression that they come from (NEWS of SystemTap
//! 2.6): through assignments to variables, `?:`, sums, results of functions, and target expressions on such values.
//! Each is told the expression that its type comes from, which is never evaluated.

use std::collections::HashMap;

use super::hir::*;
use crate::ast::{AssignOp, BinaryOp};

/// Sources lead to further sources at most so often.
const DEPTH: usize = 32;

/// What values are assigned to variables, and what functions return.
struct Sources {
    /// By body, functions first, and variable.
    assigned: Vec<HashMap<Var, Vec<Expr>>>,
    /// By function.
    returned: Vec<Vec<Expr>>,
}

/// Gives every autocast expression the source of its type, where there is one.
pub fn settle(hir: &mut Program) {
    let functions = hir.functions.iter().map(|f| f.body());
    if !functions
        .chain(hir.probes.iter().map(|p| &p.body))
        .any(|body| in_stmt(&body.stmt))
    {
        return;
    }
    let mut sources = Sources {
        assigned: Vec::new(),
        returned: Vec::new(),
    };
    for f in &hir.functions {
        let mut returned = Vec::new();
        results(&f.body().stmt, &mut returned);
        sources.returned.push(returned);
        sources.assigned.push(assignments(f.body()));
    }
    for p in &hir.probes {
        sources.assigned.push(assignments(&p.body));
    }
    let functions = hir.functions.iter_mut().map(|f| f.body_mut());
    let bodies = functions.chain(hir.probes.iter_mut().map(|p| &mut p.body));
    for (number, body) in bodies.enumerate() {
        settle_stmt(&mut body.stmt, number, &sources);
    }
}

fn in_stmt(s: &Stmt) -> bool {
    let mut found = false;
    s.each_expr(&mut |e| found |= in_expr(e));
    s.each_stmt(&mut |s| found |= in_stmt(s));
    found
}

fn in_expr(e: &Expr) -> bool {
    let mut found = false;
    e.each(&mut |e| {
        found |=
            matches!(&e.kind, ExprKind::Target(t) if matches!(t.base, TargetBase::Autocast(..)));
    });
    found
}

fn results(s: &Stmt, out: &mut Vec<Expr>) {
    if let StmtKind::Return(Some(e)) = &s.kind {
        out.push(e.clone());
    }
    s.each_stmt(&mut |s| results(s, out));
}

fn assignments(body: &Body) -> HashMap<Var, Vec<Expr>> {
    fn of_stmt(s: &Stmt, out: &mut HashMap<Var, Vec<Expr>>) {
        s.each_expr(&mut |e| {
            e.each(&mut |e| {
                if let ExprKind::Assign(AssignOp::Set, target, value) = &e.kind
                    && let ExprKind::Var(var) = target.kind
                {
                    out.entry(var).or_default().push((**value).clone());
                }
            });
        });
        s.each_stmt(&mut |s| of_stmt(s, out));
    }
    let mut out = HashMap::new();
    of_stmt(&body.stmt, &mut out);
    out
}

fn settle_stmt(s: &mut Stmt, body: usize, sources: &Sources) {
    s.each_expr_mut(&mut |e| settle_expr(e, body, sources));
    s.each_stmt_mut(&mut |s| settle_stmt(s, body, sources));
}

fn settle_expr(e: &mut Expr, body: usize, sources: &Sources) {
    e.each_part_mut(&mut |e| settle_expr(e, body, sources));
    if let ExprKind::Target(t) = &mut e.kind
        && let TargetBase::Autocast(of, source) = &mut t.base
    {
        *source = sources.of(of, body, DEPTH).map(Box::new);
        // What names its module means the same everywhere.
        t.resolvable |= t.own_module();
    }
}

impl Sources {
    /// The expression that a value's type comes from.
    fn of(&self, e: &Expr, body: usize, depth: usize) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        match &e.kind {
            ExprKind::Target(t) => {
                let is_text = t.steps.iter().any(|s| matches!(s, TargetStep::Pretty(_)));
                if is_text {
                    return None;
                }
                let mut t = (**t).clone();
                if let TargetBase::Autocast(of, source) = &mut t.base {
                    *source = Some(Box::new(self.of(of, body, depth)?));
                }
                Some(t)
            }
            ExprKind::Entry(e) | ExprKind::Assign(AssignOp::Set, _, e) => self.of(e, body, depth),
            ExprKind::Ternary(_, a, b) => {
                self.of(a, body, depth).or_else(|| self.of(b, body, depth))
            }
            ExprKind::Binary(BinaryOp::Add | BinaryOp::Sub, a, b) => {
                self.of(a, body, depth).or_else(|| self.of(b, body, depth))
            }
            ExprKind::Var(var) => {
                let here = self.assigned.get(body).and_then(|known| known.get(var));
                let mut values = here.into_iter().flatten();
                let found = values.find_map(|e| self.of(e, body, depth));
                if found.is_some() || matches!(var, Var::Local(_)) {
                    return found;
                }
                // Of what other handlers assign to a global, only what means the same here.
                let others = self.assigned.iter().enumerate();
                let mut values = others.flat_map(|(body, known)| {
                    let values = known.get(var).into_iter().flatten();
                    values.map(move |value| (body, value))
                });
                values.find_map(|(body, e)| self.of(e, body, depth).filter(Target::own_module))
            }
            ExprKind::Call(id, _) => {
                let function = id.0 as usize;
                let values = self.returned.get(function)?;
                values.iter().find_map(|e| self.of(e, function, depth))
            }
            _ => None,
        }
    }
}
