//! Going through a program's statements and expressions.

use script::ir::{
    Expr, ExprKind, LValue, PrintArg, StatRef, Stmt, StmtKind, Target, TargetBase, TargetStep,
};

/// Sees every statement and expression. The methods' defaults go on to what is inside.
pub(crate) trait Visitor<'p> {
    /// A statement.
    fn stmt(&mut self, stmt: &'p Stmt) {
        walk_stmt(self, stmt);
    }

    /// An expression; `used` is false where its value is thrown away.
    fn expr(&mut self, expr: &'p Expr, used: bool) {
        let _ = used;
        walk_expr(self, expr);
    }

    /// A target expression, read or written.
    fn target(&mut self, target: &'p Target) {
        walk_target(self, target);
    }
}

pub(crate) fn walk_stmts<'p, V: Visitor<'p> + ?Sized>(v: &mut V, stmts: &'p [Stmt]) {
    for stmt in stmts {
        v.stmt(stmt);
    }
}

fn optional<'p, V: Visitor<'p> + ?Sized>(v: &mut V, exprs: &'p [Option<Expr>]) {
    for expr in exprs.iter().flatten() {
        v.expr(expr, true);
    }
}

fn all<'p, V: Visitor<'p> + ?Sized>(v: &mut V, exprs: &'p [Expr]) {
    for expr in exprs {
        v.expr(expr, true);
    }
}

pub(crate) fn walk_stmt<'p, V: Visitor<'p> + ?Sized>(v: &mut V, stmt: &'p Stmt) {
    match &stmt.kind {
        StmtKind::Expr(e) => v.expr(e, false),
        StmtKind::Block(stmts) => walk_stmts(v, stmts),
        StmtKind::If(cond, yes, no) => {
            v.expr(cond, true);
            walk_stmts(v, yes);
            walk_stmts(v, no);
        }
        StmtKind::Loop { cond, body, step } => {
            if let Some(cond) = cond {
                v.expr(cond, true);
            }
            walk_stmts(v, body);
            if let Some(step) = step {
                v.expr(step, false);
            }
        }
        StmtKind::Foreach(foreach) => {
            optional(v, foreach.slice.as_deref().unwrap_or_default());
            if let Some(limit) = &foreach.limit {
                v.expr(limit, true);
            }
            walk_stmts(v, &foreach.body);
        }
        StmtKind::ForeachBucket {
            stat, limit, body, ..
        } => {
            all(v, &stat.keys);
            if let Some(limit) = limit {
                v.expr(limit, true);
            }
            walk_stmts(v, body);
        }
        StmtKind::Return(Some(e)) => v.expr(e, true),
        StmtKind::DeleteElement(_, keys) => all(v, keys),
        StmtKind::DeleteSlice(_, keys) => optional(v, keys),
        StmtKind::Try { body, handler, .. } => {
            walk_stmts(v, body);
            walk_stmts(v, handler);
        }
        StmtKind::Return(None)
        | StmtKind::DeleteAll(_)
        | StmtKind::Next
        | StmtKind::Break
        | StmtKind::Continue => {}
    }
}

fn walk_lvalue<'p, V: Visitor<'p> + ?Sized>(v: &mut V, lvalue: &'p LValue) {
    match lvalue {
        LValue::Local(_) | LValue::Global(_) => {}
        LValue::Element(_, keys, _) => all(v, keys),
        LValue::Target(target) => v.target(target),
    }
}

fn walk_stat<'p, V: Visitor<'p> + ?Sized>(v: &mut V, stat: &'p StatRef) {
    all(v, &stat.keys);
}

pub(crate) fn walk_target<'p, V: Visitor<'p> + ?Sized>(v: &mut V, target: &'p Target) {
    if let TargetBase::Cast(e, ..) | TargetBase::Autocast(e, _) | TargetBase::EnumName(e, ..) =
        &target.base
    {
        v.expr(e, true);
    }
    for step in &target.steps {
        if let TargetStep::Index(e) = step {
            v.expr(e, true);
        }
    }
}

pub(crate) fn walk_expr<'p, V: Visitor<'p> + ?Sized>(v: &mut V, expr: &'p Expr) {
    match &expr.kind {
        ExprKind::Long(_) | ExprKind::Str(_) | ExprKind::Local(_) | ExprKind::Global(_) => {}
        ExprKind::Element(_, keys) => all(v, keys),
        ExprKind::In(_, keys) => optional(v, keys),
        ExprKind::Binary(_, a, b) => {
            v.expr(a, true);
            v.expr(b, true);
        }
        ExprKind::Concat(parts) => all(v, parts),
        ExprKind::Match(e, ..) | ExprKind::Unary(_, e) => v.expr(e, true),
        ExprKind::Ternary(c, a, b) => {
            v.expr(c, true);
            v.expr(a, true);
            v.expr(b, true);
        }
        ExprKind::Assign(lvalue, e) | ExprKind::AssignOp(_, lvalue, e) => {
            walk_lvalue(v, lvalue);
            v.expr(e, true);
        }
        ExprKind::Step { target, .. } => walk_lvalue(v, target),
        ExprKind::Aggregate(stat, e) => {
            walk_stat(v, stat);
            v.expr(e, true);
        }
        ExprKind::Stat(_, stat, _) => walk_stat(v, stat),
        ExprKind::Bucket(stat, _, e) => {
            walk_stat(v, stat);
            v.expr(e, true);
        }
        ExprKind::Call(_, args) | ExprKind::Intrinsic(_, args) => all(v, args),
        ExprKind::Target(target) => v.target(target),
        ExprKind::Defined(_) => {}
        ExprKind::Entry(e) => v.expr(e, true),
        ExprKind::Print { args, .. } => {
            for arg in args {
                match arg {
                    PrintArg::Value(e) => v.expr(e, true),
                    PrintArg::Hist(stat, _) => walk_stat(v, stat),
                }
            }
        }
    }
}
