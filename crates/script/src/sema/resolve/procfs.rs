//! `$value` in `procfs` probes (stapprobes(3stap), PROCFS): calls of the library's functions.

use super::*;

const OPERATORS: &str = "Only the following assign operators are implemented on procfs read target variables: '=', '.='";

/// Whether an expression is a target variable, with or without steps.
pub(super) fn is_target(e: &ast::Expr) -> bool {
    matches!(e.kind, ast::ExprKind::Target { .. })
}

/// Whether an expression is `$value`.
pub(super) fn is_file_value(e: &ast::Expr) -> bool {
    matches!(&e.kind, ast::ExprKind::Target { name, steps, address_of: false } if name == "$value" && steps.is_empty())
}

impl Targets {
    /// What there is in a handler of this point, which runs in the session.
    pub fn of_session(point: &ast::ProbePoint) -> Targets {
        let components = &point.components;
        let has = |word: &str| components.iter().any(|c| c.name.text == word);
        let is_file = components.first().is_some_and(|c| c.name.text == "procfs");
        match is_file {
            true if has("write") => Targets::Written,
            true => Targets::Read,
            false => Targets::Absent,
        }
    }

    /// True in `procfs` probes.
    pub(super) fn is_file(self) -> bool {
        matches!(self, Targets::Written | Targets::Read)
    }
}

impl Resolver<'_> {
    fn is_known_file_value(&mut self, e: &ast::Expr) -> bool {
        let known = is_file_value(e);
        let step = match &e.kind {
            ast::ExprKind::Target { name, steps, .. } if name == "$value" => steps.first(),
            _ => None,
        };
        if let Some(ast::TargetStep::Member(_, at) | ast::TargetStep::Index(_, at)) = step {
            self.report.error(
                "procfs variable '$value' may not be used as a structure",
                *at,
            );
        } else if !known {
            self.report.error(
                "invalid target symbol for procfs probe, $value expected",
                e.span,
            );
        }
        known
    }

    /// A call of a function of the library.
    pub(super) fn library_call(&mut self, name: &str, args: Vec<Expr>, span: Span) -> ExprKind {
        let callee = ast::Name {
            text: name.to_string(),
            span,
        };
        match self.function(&callee, args.len()) {
            Some(id) => ExprKind::Call(id, args),
            None => ExprKind::Long(0),
        }
    }

    /// A target variable whose value is used.
    pub(super) fn file_value(&mut self, e: &ast::Expr, scope: &Scope) -> ExprKind {
        if !self.is_known_file_value(e) {
            return ExprKind::Long(0);
        }
        if scope.targets == Targets::Read {
            self.report.error(
                "procfs $value variable cannot be read in a procfs read probe",
                e.span,
            );
            return ExprKind::Long(0);
        }
        self.library_call("__procfs_value", Vec::new(), e.span)
    }

    /// `++` and `--` of a target variable.
    pub(super) fn step_file_value(&mut self, target: &ast::Expr, scope: &Scope) -> ExprKind {
        if self.is_known_file_value(target) {
            let message = match scope.targets {
                Targets::Written => "procfs $value variable is read-only in a procfs write probe",
                _ => OPERATORS,
            };
            self.report.error(message, target.span);
        }
        ExprKind::Long(0)
    }

    /// An assignment to a target variable.
    pub(super) fn assign_file_value(
        &mut self,
        op: AssignOp,
        target: &ast::Expr,
        value: &ast::Expr,
        scope: &mut Scope,
    ) -> ExprKind {
        let value = self.expr(value, scope);
        if !self.is_known_file_value(target) {
            return ExprKind::Long(0);
        }
        if scope.targets == Targets::Written {
            self.report.error(
                "procfs $value variable is read-only in a procfs write probe",
                target.span,
            );
            return ExprKind::Long(0);
        }
        let function = match op {
            AssignOp::Set => "__procfs_set",
            AssignOp::Binary(ast::BinaryOp::Concat) => "__procfs_append",
            _ => {
                self.report.error(OPERATORS, target.span);
                return ExprKind::Long(0);
            }
        };
        self.library_call(function, vec![value], target.span)
    }
}
