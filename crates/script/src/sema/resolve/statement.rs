//! Statements.

use super::*;

impl Resolver<'_> {
    /// A statement.
    pub fn stmt(&mut self, s: &ast::Stmt, scope: &mut Scope) -> Stmt {
        use ast::StmtKind as A;
        let kind = match &s.kind {
            A::Null => StmtKind::Null,
            A::Block(list) => StmtKind::Block(list.iter().map(|s| self.stmt(s, scope)).collect()),
            A::Expr(e) => StmtKind::Expr(self.expr(e, scope)),
            A::If(c, a, b) => {
                let condition = self.expr(c, scope);
                let outer = (self.is_dead, self.is_conditional);
                self.is_dead |= matches!(condition.kind, ExprKind::Long(0));
                condition.each(&mut |e| {
                    self.is_conditional |= matches!(e.kind, ExprKind::Defined(_));
                });
                let then = Box::new(self.stmt(a, scope));
                self.is_dead = outer.0;
                let other = b.as_ref().map(|b| Box::new(self.stmt(b, scope)));
                self.is_conditional = outer.1;
                StmtKind::If(condition, then, other)
            }
            A::While(c, body) => StmtKind::Loop {
                init: None,
                cond: Some(self.expr(c, scope)),
                step: None,
                body: Box::new(self.stmt(body, scope)),
            },
            A::For(init, cond, step, body) => {
                let init = init.as_ref().map(|e| self.expr(e, scope));
                let cond = cond.as_ref().map(|e| self.expr(e, scope));
                let step = step.as_ref().map(|e| self.expr(e, scope));
                StmtKind::Loop {
                    init,
                    cond,
                    step,
                    body: Box::new(self.stmt(body, scope)),
                }
            }
            A::Foreach(f) => return self.foreach(f, s.span, scope),
            A::Return(e) => StmtKind::Return(e.as_ref().map(|e| self.expr(e, scope))),
            A::Delete(e) => StmtKind::Delete(self.delete_operand(e, scope)),
            A::Next => StmtKind::Next,
            A::Break => StmtKind::Break,
            A::Continue => StmtKind::Continue,
            A::Try(body, message, handler) => {
                let body = Box::new(self.stmt(body, scope));
                let message = message.as_ref().map(|n| (self.var(n, scope), n.span));
                StmtKind::Try {
                    body,
                    message,
                    handler: Box::new(self.stmt(handler, scope)),
                }
            }
            A::Embedded(code) => StmtKind::Expr(Expr {
                kind: self.embedded_expression(code),
                ty: Ty::Unknown,
                span: code.span,
            }),
        };
        Stmt { kind, span: s.span }
    }

    pub(super) fn foreach(&mut self, f: &ast::Foreach, span: Span, scope: &mut Scope) -> Stmt {
        let keys: Vec<_> = f
            .keys
            .iter()
            .map(|n| (self.var(n, scope), n.span))
            .collect();
        let base = match &f.base.kind {
            ast::ExprKind::Hist(op, stat) => {
                Some(Base::Hist(op.clone(), Box::new(self.expr(stat, scope))))
            }
            ast::ExprKind::Symbol(name) => self
                .array(name, f.base.span, keys.len(), scope)
                .map(Base::Var),
            _ => {
                self.report.error("array expected", f.base.span);
                None
            }
        };
        let value = f.value.as_ref().map(|n| (self.var(n, scope), n.span));
        let slice = f.slice.as_ref().map(|s| self.keys(s, scope));
        let limit = f.limit.as_ref().map(|e| self.expr(e, scope));
        let body = self.stmt(&f.body, scope);
        let kind = match base {
            Some(base) => StmtKind::Foreach(Box::new(Foreach {
                value,
                keys,
                base,
                base_span: f.base.span,
                slice,
                sort: f.sort,
                limit,
                body,
            })),
            None => StmtKind::Null,
        };
        Stmt { kind, span }
    }

    /// A variable used as an array.
    pub(super) fn array(
        &mut self,
        name: &str,
        span: Span,
        arity: usize,
        scope: &Scope,
    ) -> Option<Var> {
        let found = self.lookup_array(name, scope, span);
        if found.is_none() {
            self.report.error(
                format!(
                    "unresolved arity-{arity} global array {name}, missing global declaration?"
                ),
                span,
            );
        }
        found
    }

    pub(super) fn delete_operand(&mut self, e: &ast::Expr, scope: &mut Scope) -> Expr {
        match &e.kind {
            ast::ExprKind::Symbol(name) => match self.lookup_array(name, scope, e.span) {
                Some(v) => Expr {
                    kind: ExprKind::Var(v),
                    ty: Ty::Unknown,
                    span: e.span,
                },
                None => {
                    self.report
                        .error("unresolved array in delete statement", e.span);
                    Expr::long(0, e.span)
                }
            },
            ast::ExprKind::Index(base, keys) if matches!(base.kind, ast::ExprKind::Symbol(_)) => {
                self.index(e, base, keys, true, scope)
            }
            ast::ExprKind::Index(..) => {
                self.report
                    .late("invalid operand of delete expression", e.span);
                self.expr(e, scope)
            }
            _ => {
                self.report
                    .error("invalid operand of delete expression", e.span);
                Expr::long(0, e.span)
            }
        }
    }
}
