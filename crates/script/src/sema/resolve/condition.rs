//! Probe conditions: `if (…)` behind a probe point.

use super::*;

impl Resolver<'_> {
    /// A probe's `if (…)`: only globals may be named.
    pub fn condition(&mut self, e: &ast::Expr) -> Option<Expr> {
        let before = self.report.errors();
        self.check_condition(e);
        if self.report.errors() > before {
            return None;
        }
        Some(self.expr(e, &mut Scope::new(Targets::Absent)))
    }

    pub(super) fn check_condition(&mut self, e: &ast::Expr) {
        use ast::ExprKind as A;
        let problem = match &e.kind {
            A::Symbol(name) if self.global(name, e.span.file).is_none() => {
                Some("probe condition must not reference undeclared global")
            }
            A::Call(..) => Some("probe condition must not reference function"),
            A::Assign(..) | A::Step { .. } => Some("probe condition must not modify any variables"),
            _ => None,
        };
        if let Some(message) = problem {
            self.report.error(message, e.span);
            return;
        }
        match &e.kind {
            A::Index(b, keys) | A::In(keys, b) => {
                self.check_condition(b);
                for k in keys.iter().flatten() {
                    self.check_condition(k);
                }
            }
            A::Unary(_, a) | A::Match(a, _, _) | A::Stat(_, a, _) | A::Hist(_, a) => {
                self.check_condition(a);
            }
            A::Binary(_, a, b) => {
                self.check_condition(a);
                self.check_condition(b);
            }
            A::Ternary(a, b, c) => {
                self.check_condition(a);
                self.check_condition(b);
                self.check_condition(c);
            }
            _ => {}
        }
    }
}
