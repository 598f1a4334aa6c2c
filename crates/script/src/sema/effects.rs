//! What expressions and functions read, write and do, for the passes that drop or forbid things.

use std::collections::BTreeSet;

use super::hir::*;
use super::resolve::reads_target;
use crate::ast::AssignOp;

/// Summary of an expression, a statement or a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Variables whose value matters.
    pub read: BTreeSet<Var>,
    /// Variables that change.
    pub written: BTreeSet<Var>,
    /// Does something that can be seen from outside.
    pub visible: bool,
    /// Leaves the statement by a jump.
    pub jumps: bool,
    /// Functions called directly.
    pub calls: BTreeSet<FunctionId>,
}

impl Effects {
    /// Whether a statement with these effects may be dropped.
    pub fn none(&self) -> bool {
        self.written.is_empty() && !self.visible && !self.jumps
    }
}

/// Makes the effects of a function those that it is declared to have.
fn declare(effects: &mut Effects, pure: Option<bool>) {
    if let Some(pure) = pure {
        effects.visible = !pure;
        if pure {
            effects.written.clear();
        }
    }
}

/// Summaries of all functions: what those that they call do is included, but not the names of these.
pub struct Functions(Vec<Effects>);

impl Functions {
    /// Computes them to a fixed point.
    pub fn of(hir: &Program) -> Functions {
        // First what each does itself, then what those do that it calls.
        let mut table = Functions(vec![Effects::default(); hir.functions.len()]);
        let direct: Vec<Effects> = (hir.functions.iter())
            .map(|f| {
                let mut e = Effects::default();
                match &f.code {
                    Code::Script(body) => table.stmt(&body.stmt, &mut e),
                    Code::Intrinsic(op, _) => e.visible = !op.pure,
                    Code::Embedded(c, _) => e.visible = !c.pure,
                }
                e.calls.extend(f.next);
                e.jumps = false;
                e.read.retain(|v| matches!(v, Var::Global(_)));
                e.written.retain(|v| matches!(v, Var::Global(_)));
                declare(&mut e, f.pure);
                e
            })
            .collect();
        table.0 = direct;
        // Callees come before their callers, so a program without recursion is done in the first round.
        let order = table.callees_first();
        loop {
            let mut changed = false;
            for &id in &order {
                let before = table.function(id);
                if before.calls.is_empty() {
                    continue;
                }
                let mut e = before.clone();
                for called in &before.calls {
                    table.call(*called, &mut e);
                }
                declare(&mut e, hir.function(id).pure);
                if *table.function(id) != e {
                    table.0[id.0 as usize] = e;
                    changed = true;
                }
            }
            if !changed {
                return table;
            }
        }
    }

    /// All functions in an order in which those that a function calls come before it, as far as they don't call it, too.
    fn callees_first(&self) -> Vec<FunctionId> {
        let mut order = Vec::with_capacity(self.0.len());
        let mut entered = vec![false; self.0.len()];
        for root in 0..self.0.len() {
            // Chains of calls are as long as scripts want them, so they are followed without recursion.
            let mut path = vec![(FunctionId(root as u32), false)];
            while let Some((id, left)) = path.pop() {
                if left {
                    order.push(id);
                } else if !std::mem::replace(&mut entered[id.0 as usize], true) {
                    path.push((id, true));
                    path.extend(self.function(id).calls.iter().map(|id| (*id, false)));
                }
            }
        }
        order
    }

    /// The functions that a handler calls, directly or not.
    pub fn reached_from(&self, handler: &Stmt) -> BTreeSet<FunctionId> {
        let mut effects = Effects::default();
        self.stmt(handler, &mut effects);
        self.reached(effects.calls)
    }

    /// `first` and the functions that these call, directly or not.
    pub fn reached(&self, first: BTreeSet<FunctionId>) -> BTreeSet<FunctionId> {
        let mut pending: Vec<FunctionId> = first.iter().copied().collect();
        let mut reached = first;
        while let Some(id) = pending.pop() {
            let calls = self.function(id).calls.iter();
            pending.extend(calls.filter(|id| reached.insert(**id)));
        }
        reached
    }

    /// A function's summary.
    pub fn function(&self, id: FunctionId) -> &Effects {
        &self.0[id.0 as usize]
    }

    fn call(&self, id: FunctionId, out: &mut Effects) {
        let e = self.function(id);
        out.read.extend(&e.read);
        out.written.extend(&e.written);
        out.visible |= e.visible;
        out.calls.insert(id);
    }

    /// Adds a statement's effects.
    pub fn stmt(&self, s: &Stmt, out: &mut Effects) {
        match &s.kind {
            StmtKind::Foreach(f) => {
                if let Base::Var(v) = f.base {
                    out.read.insert(v);
                }
                out.written
                    .extend(f.keys.iter().chain(&f.value).map(|(v, _)| *v));
            }
            StmtKind::Delete(e) => {
                let base = match &e.kind {
                    ExprKind::Var(v) | ExprKind::Index(Base::Var(v), _) => Some(*v),
                    _ => None,
                };
                if let Some(v) = base {
                    out.read.insert(v);
                    out.written.insert(v);
                }
                out.visible |= base.is_none();
            }
            StmtKind::Try {
                message: Some((v, _)),
                ..
            } => {
                out.written.insert(*v);
            }
            StmtKind::Return(_) | StmtKind::Next | StmtKind::Break | StmtKind::Continue => {
                out.jumps = true;
            }
            _ => {}
        }
        s.each_expr(&mut |e| self.expr(e, out));
        s.each_stmt(&mut |s| self.stmt(s, out));
    }

    /// Adds an expression's effects.
    pub fn expr(&self, e: &Expr, out: &mut Effects) {
        match &e.kind {
            ExprKind::Var(v) | ExprKind::Index(Base::Var(v), _) | ExprKind::In(_, v, _) => {
                out.read.insert(*v);
            }
            ExprKind::Assign(op, target, value) => {
                self.target(target, reads_target(*op), out);
                self.expr(value, out);
                return;
            }
            ExprKind::Step { operand, .. } if operand.is_lvalue() => {
                self.target(operand, true, out);
                return;
            }
            ExprKind::Call(id, _) => self.call(*id, out),
            ExprKind::Print(p) => out.visible |= !p.form.to_string,
            _ => {}
        }
        e.each_part(&mut |e| self.expr(e, out));
    }

    fn target(&self, target: &Expr, also_read: bool, out: &mut Effects) {
        match &target.kind {
            ExprKind::Var(v) | ExprKind::Index(Base::Var(v), _) => {
                out.written.insert(*v);
                if also_read {
                    out.read.insert(*v);
                }
            }
            _ => out.visible = true,
        }
        target.each_part(&mut |e| self.expr(e, out));
    }

    /// Globals whose value is used for something: unlike [`Effects::read`], `n++` and `n += 1` as statements do not
    /// count. This is what decides which globals are shown when the session ends.
    pub fn used_globals(&self, s: &Stmt, out: &mut BTreeSet<Var>) {
        if let StmtKind::Expr(e) = &s.kind {
            self.used_by_root(e, out);
            return;
        }
        if let StmtKind::Loop {
            init, cond, step, ..
        } = &s.kind
        {
            for e in [init, step].into_iter().flatten() {
                self.used_by_root(e, out);
            }
            if let Some(e) = cond {
                self.used_by_value(e, out);
            }
        } else {
            let mut here = Effects::default();
            let shallow = match &s.kind {
                StmtKind::Foreach(f) => {
                    if let Base::Var(v) = f.base {
                        out.insert(v);
                    }
                    None
                }
                StmtKind::Delete(e) => Some(e),
                _ => None,
            };
            if let Some(e) = shallow {
                self.expr(e, &mut here);
                out.extend(here.read);
            } else {
                s.each_expr(&mut |e| self.used_by_value(e, out));
            }
        }
        s.each_stmt(&mut |s| self.used_globals(s, out));
    }

    fn used_by_root(&self, e: &Expr, out: &mut BTreeSet<Var>) {
        match &e.kind {
            ExprKind::Assign(op, target, value) => {
                target.each_part(&mut |e| self.used_by_value(e, out));
                // As stap has it, for which `h` is not used by `g += h++`.
                let is_change = matches!(
                    value.kind,
                    ExprKind::Step { .. } | ExprKind::Assign(AssignOp::Binary(_), ..)
                );
                match reads_target(*op) && is_change {
                    true => self.used_by_root(value, out),
                    false => self.used_by_value(value, out),
                }
            }
            ExprKind::Step { operand, .. } => {
                operand.each_part(&mut |e| self.used_by_value(e, out));
            }
            _ => self.used_by_value(e, out),
        }
    }

    fn used_by_value(&self, e: &Expr, out: &mut BTreeSet<Var>) {
        match &e.kind {
            ExprKind::Var(v) | ExprKind::Index(Base::Var(v), _) | ExprKind::In(_, v, _) => {
                out.insert(*v);
            }
            ExprKind::Assign(op, target, value) => {
                if matches!(op, AssignOp::Binary(_)) {
                    self.used_by_value(target, out);
                } else {
                    target.each_part(&mut |e| self.used_by_value(e, out));
                }
                self.used_by_value(value, out);
                return;
            }
            _ => {}
        }
        e.each_part(&mut |e| self.used_by_value(e, out));
    }
}
