//! Traversal of the resolved tree.

use super::hir::*;

impl Expr {
    /// Calls `f` on each direct part.
    pub fn each_part<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match &self.kind {
            ExprKind::Long(_) | ExprKind::Str(_) | ExprKind::Var(_) => {}
            ExprKind::Index(base, keys) => {
                if let Base::Hist(_, stat) = base {
                    f(stat);
                }
                keys.iter().flatten().for_each(f);
            }
            ExprKind::In(keys, _, _) => keys.iter().flatten().for_each(f),
            ExprKind::Call(_, args) => args.iter().for_each(f),
            ExprKind::Unary(_, a)
            | ExprKind::Match(a, ..)
            | ExprKind::Step { operand: a, .. }
            | ExprKind::Stat(_, a, _)
            | ExprKind::Hist(_, a)
            | ExprKind::Defined(a)
            | ExprKind::Entry(a) => f(a),
            ExprKind::Binary(_, a, b) | ExprKind::Assign(_, a, b) => {
                f(a);
                f(b);
            }
            ExprKind::Ternary(a, b, c) => {
                f(a);
                f(b);
                f(c);
            }
            ExprKind::Target(t) => {
                if let TargetBase::Cast(e, ..)
                | TargetBase::Autocast(e, _)
                | TargetBase::EnumName(e, ..) = &t.base
                {
                    f(e);
                }
                for step in &t.steps {
                    if let TargetStep::Index(e) = step {
                        f(e);
                    }
                }
            }
            ExprKind::Print(p) => p.args.iter().for_each(f),
        }
    }

    /// Calls `f` on each direct part.
    pub fn each_part_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        match &mut self.kind {
            ExprKind::Long(_) | ExprKind::Str(_) | ExprKind::Var(_) => {}
            ExprKind::Index(base, keys) => {
                if let Base::Hist(_, stat) = base {
                    f(stat);
                }
                keys.iter_mut().flatten().for_each(f);
            }
            ExprKind::In(keys, _, _) => keys.iter_mut().flatten().for_each(f),
            ExprKind::Call(_, args) => args.iter_mut().for_each(f),
            ExprKind::Unary(_, a)
            | ExprKind::Match(a, ..)
            | ExprKind::Step { operand: a, .. }
            | ExprKind::Stat(_, a, _)
            | ExprKind::Hist(_, a)
            | ExprKind::Defined(a)
            | ExprKind::Entry(a) => f(a),
            ExprKind::Binary(_, a, b) | ExprKind::Assign(_, a, b) => {
                f(a);
                f(b);
            }
            ExprKind::Ternary(a, b, c) => {
                f(a);
                f(b);
                f(c);
            }
            ExprKind::Target(t) => {
                if let TargetBase::Cast(e, ..)
                | TargetBase::Autocast(e, _)
                | TargetBase::EnumName(e, ..) = &mut t.base
                {
                    f(e);
                }
                for step in &mut t.steps {
                    if let TargetStep::Index(e) = step {
                        f(e);
                    }
                }
            }
            ExprKind::Print(p) => p.args.iter_mut().for_each(f),
        }
    }

    /// Calls `f` on the expression and everything in it, outermost first.
    pub fn each<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        f(self);
        self.each_part(&mut |e| e.each(f));
    }
}

impl Stmt {
    /// Calls `f` on each direct sub-statement.
    pub fn each_stmt<'a>(&'a self, f: &mut dyn FnMut(&'a Stmt)) {
        match &self.kind {
            StmtKind::Block(list) => list.iter().for_each(f),
            StmtKind::If(_, a, b) => {
                f(a);
                if let Some(b) = b {
                    f(b);
                }
            }
            StmtKind::Loop { body, .. } => f(body),
            StmtKind::Foreach(l) => f(&l.body),
            StmtKind::Try { body, handler, .. } => {
                f(body);
                f(handler);
            }
            _ => {}
        }
    }

    /// Calls `f` on each direct sub-statement.
    pub fn each_stmt_mut(&mut self, f: &mut dyn FnMut(&mut Stmt)) {
        match &mut self.kind {
            StmtKind::Block(list) => list.iter_mut().for_each(f),
            StmtKind::If(_, a, b) => {
                f(a);
                if let Some(b) = b {
                    f(b);
                }
            }
            StmtKind::Loop { body, .. } => f(body),
            StmtKind::Foreach(l) => f(&mut l.body),
            StmtKind::Try { body, handler, .. } => {
                f(body);
                f(handler);
            }
            _ => {}
        }
    }

    /// Calls `f` on each expression that stands directly in this statement.
    pub fn each_expr<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match &self.kind {
            StmtKind::Expr(e) | StmtKind::If(e, _, _) | StmtKind::Delete(e) => f(e),
            StmtKind::Return(e) => e.iter().for_each(f),
            StmtKind::Loop {
                init, cond, step, ..
            } => [init, cond, step].into_iter().flatten().for_each(f),
            StmtKind::Foreach(l) => {
                if let Base::Hist(_, e) = &l.base {
                    f(e);
                }
                l.slice.iter().flatten().flatten().for_each(&mut *f);
                l.limit.iter().for_each(f);
            }
            _ => {}
        }
    }

    /// Calls `f` on each expression that stands directly in this statement.
    pub fn each_expr_mut(&mut self, f: &mut dyn FnMut(&mut Expr)) {
        match &mut self.kind {
            StmtKind::Expr(e) | StmtKind::If(e, _, _) | StmtKind::Delete(e) => f(e),
            StmtKind::Return(e) => e.iter_mut().for_each(f),
            StmtKind::Loop {
                init, cond, step, ..
            } => [init, cond, step].into_iter().flatten().for_each(f),
            StmtKind::Foreach(l) => {
                if let Base::Hist(_, e) = &mut l.base {
                    f(e);
                }
                l.slice.iter_mut().flatten().flatten().for_each(&mut *f);
                l.limit.iter_mut().for_each(f);
            }
            _ => {}
        }
    }
}
