//! Expressions.

use super::*;
use crate::ast::{AssignOp, BinaryOp};
use crate::format::{ConversionKind, Extent, Part};

impl Types<'_> {
    /// Infers an expression that the caller compares with a slot. A literal is not told what is wanted, so that the
    /// comparison, which can name the place where the slot got its type, is what gives the message.
    pub(super) fn hinted(&mut self, e: &mut Expr, want: Ty) {
        let literal = matches!(e.kind, ExprKind::Long(_) | ExprKind::Str(_));
        self.expr(e, if literal { Ty::Unknown } else { want });
    }

    /// Infers an expression of which type `want` is wanted (`Unknown`: any).
    pub(super) fn expr(&mut self, e: &mut Expr, want: Ty) {
        if self.initial
            && matches!(
                e.kind,
                ExprKind::Target(_) | ExprKind::Entry(_) | ExprKind::Defined(_)
            )
        {
            return;
        }
        let span = e.span;
        let ty = match &mut e.kind {
            ExprKind::Long(_) => Ty::Long,
            ExprKind::Str(_) => Ty::String,
            ExprKind::Var(v) => {
                e.ty = self.set_var(*v, want, span);
                if e.ty == Ty::Unknown {
                    self.unresolved(span);
                }
                return;
            }
            ExprKind::Index(Base::Var(v), keys) => {
                let v = *v;
                self.keys(v, keys);
                e.ty = self.set_var(v, want, span);
                if e.ty == Ty::Unknown {
                    self.unresolved(span);
                }
                return;
            }
            ExprKind::Index(Base::Hist(_, stat), keys) => {
                self.expr(stat, Ty::Stats);
                for k in keys.iter_mut().flatten() {
                    self.expr(k, Ty::Long);
                }
                if keys.len() != 1 {
                    self.unresolved(span);
                    return;
                }
                Ty::Long
            }
            ExprKind::In(keys, v, at) => {
                let (v, at) = (*v, *at);
                self.keys(v, keys);
                if self.ty(v) == Ty::Unknown {
                    self.unresolved(at);
                }
                Ty::Long
            }
            ExprKind::Call(id, args) => {
                e.ty = self.call(*id, args, want, span);
                if e.ty == Ty::Unknown {
                    self.unresolved(span);
                }
                return;
            }
            ExprKind::Unary(_, a) => {
                self.expr(a, Ty::Long);
                Ty::Long
            }
            ExprKind::Binary(op, a, b) => self.binary(*op, a, b, span),
            ExprKind::Match(a, ..) => {
                self.expr(a, Ty::String);
                Ty::Long
            }
            ExprKind::Ternary(c, a, b) => {
                if self.refused.contains(&span) {
                    return;
                }
                let before = self.report.errors();
                self.expr(c, Ty::Long);
                if self.report.errors() > before {
                    self.refused.insert(span);
                    e.ty = a.ty;
                    return;
                }
                self.expr(a, want);
                let hint = if want == Ty::Unknown { a.ty } else { want };
                self.expr(b, hint);
                e.ty = if a.ty == Ty::Unknown { b.ty } else { a.ty };
                return;
            }
            ExprKind::Assign(_, target, _) if !target.is_lvalue() => {
                let message = match target.kind {
                    ExprKind::Binary(BinaryOp::Concat, ..) => {
                        "Expecting lvalue for assignment, try -> instead"
                    }
                    _ => "Expecting lvalue for assignment",
                };
                let finding = Finding::error(message, span).also(target.span);
                self.report.push(finding);
                return;
            }
            ExprKind::Assign(op, target, value) => {
                e.ty = self.assign(*op, target, value, want);
                return;
            }
            ExprKind::Step { operand, .. } => {
                self.expr(operand, Ty::Long);
                if !operand.is_lvalue() {
                    self.report.late("invalid lvalue type", operand.span);
                }
                Ty::Long
            }
            ExprKind::Stat(_, a, _) => {
                self.expr(a, Ty::Stats);
                Ty::Long
            }
            ExprKind::Hist(_, a) => {
                self.expr(a, Ty::Stats);
                e.ty = Ty::Stats;
                return;
            }
            ExprKind::Target(t) => match self.target(t, span) {
                // Whoever needs its type says that it is missing.
                Ty::Unknown => return,
                ty => ty,
            },
            ExprKind::Entry(inner) => {
                if !self.is_return {
                    self.entry_elsewhere(span);
                    return;
                }
                self.expr(inner, want);
                e.ty = inner.ty;
                return;
            }
            ExprKind::Defined(inner) => {
                if let ExprKind::Target(t) = &mut inner.kind {
                    inner.ty = self.target(t, span);
                }
                Ty::Long
            }
            ExprKind::Print(p) => {
                self.print(p, span);
                // What is printed has the value 0.
                match p.form.to_string {
                    true => Ty::String,
                    false => Ty::Long,
                }
            }
        };
        e.ty = ty;
        if want == Ty::Unknown || want == ty {
            return;
        }
        match e.kind {
            ExprKind::Binary(BinaryOp::Concat, ..) => self.report.error("invalid operator", span),
            _ => Self::mismatch(self.report, OF_VALUES, want, ty, span),
        }
    }

    pub(super) fn call(&mut self, id: FunctionId, args: &mut [Expr], want: Ty, span: Span) -> Ty {
        let mut chain = vec![id];
        while let Some(next) = chain
            .last()
            .and_then(|f| self.signatures.get(f.0 as usize))
            .and_then(|s| s.next)
        {
            chain.push(next);
        }
        let mut result = want;
        for (n, f) in chain.iter().enumerate() {
            let at = f.0 as usize;
            let (slot_ty, new) = {
                let slot = &mut self.signatures[at].result;
                Self::unify(slot, result, span, What::Value, self.report)
            };
            self.resolved += usize::from(new);
            if result == Ty::Unknown {
                result = slot_ty;
            }
            for (i, arg) in args.iter_mut().enumerate() {
                let expected = self.signatures[at]
                    .params
                    .get(i)
                    .map_or(Ty::Unknown, |s| s.ty);
                if self.refused.contains(&arg.span) {
                    continue;
                }
                if n == 0 {
                    let before = self.report.errors();
                    self.hinted(arg, expected);
                    if self.report.errors() > before {
                        self.missing(arg);
                        self.refused.insert(arg.span);
                        continue;
                    }
                    self.missing(arg);
                }
                if arg.ty == Ty::Stats {
                    self.invalid_stats(arg.span);
                    continue;
                }
                if let Some(slot) = self.signatures[at].params.get_mut(i) {
                    let (_, new) = Self::unify(slot, arg.ty, arg.span, What::Index(i), self.report);
                    self.resolved += usize::from(new);
                }
            }
        }
        // What a later overload gives, the earlier ones give, too: those that only say `next`, for example.
        for f in &chain {
            let slot = &mut self.signatures[f.0 as usize].result;
            if slot.ty == Ty::Unknown && result != Ty::Unknown {
                let (_, new) = Self::unify(slot, result, span, What::Value, self.report);
                self.resolved += usize::from(new);
            }
        }
        result
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: &mut Expr, b: &mut Expr, span: Span) -> Ty {
        use BinaryOp as B;
        match op {
            B::Concat => {
                self.expr(a, Ty::String);
                self.expr(b, Ty::String);
                Ty::String
            }
            B::Eq | B::Ne | B::Lt | B::Le | B::Gt | B::Ge => {
                if self.refused.contains(&span) {
                    return Ty::Long;
                }
                let before = self.report.errors();
                let hint = b.ty;
                self.expr(a, hint);
                if self.report.errors() == before {
                    let hint = a.ty;
                    self.expr(b, hint);
                }
                if self.report.errors() == before {
                    self.agree(a.ty, b.ty, span);
                }
                if self.report.errors() > before {
                    self.refused.insert(span);
                }
                Ty::Long
            }
            B::LogicalAnd | B::LogicalOr => {
                self.expr(a, Ty::Long);
                self.expr(b, Ty::Long);
                Ty::Long
            }
            _ => {
                self.expr(a, Ty::Long);
                self.expr(b, Ty::Long);
                Ty::Long
            }
        }
    }

    pub(super) fn agree(&mut self, a: Ty, b: Ty, span: Span) {
        if a != Ty::Unknown && b != Ty::Unknown && a != b {
            self.report.disagreement(
                OF_SIDES,
                format!(
                    "type mismatch: left and right sides don't agree ({} vs {})",
                    a.name(),
                    b.name()
                ),
                span,
            );
        }
    }

    pub(super) fn assign(
        &mut self,
        op: AssignOp,
        target: &mut Expr,
        value: &mut Expr,
        want: Ty,
    ) -> Ty {
        match op {
            AssignOp::Aggregate => {
                self.expr(value, Ty::Long);
                self.expr(target, Ty::Stats);
                Ty::Long
            }
            AssignOp::Binary(BinaryOp::Concat) => {
                let before = self.report.errors();
                self.expr(target, Ty::String);
                if self.report.errors() == before && !self.refused.contains(&value.span) {
                    self.expr(value, Ty::String);
                } else {
                    self.refused.insert(value.span);
                }
                Ty::String
            }
            AssignOp::Binary(_) => {
                self.expr(target, Ty::Long);
                self.expr(value, Ty::Long);
                Ty::Long
            }
            AssignOp::Set => {
                if let ExprKind::Target(t) = &mut target.kind
                    && !t.resolvable
                    && !self.initial
                {
                    return self.target(t, target.span);
                }
                if let (ExprKind::Target(_), ExprKind::Str(_)) = (&target.kind, &value.kind) {
                    self.operand(value);
                    return Ty::Long;
                }
                let hint = match (want, target.ty, &value.kind) {
                    (Ty::Unknown, _, ExprKind::Long(_) | ExprKind::Str(_)) => Ty::Unknown,
                    (Ty::Unknown, known, _) if known != Ty::Stats => known,
                    (want, _, _) => want,
                };
                let is_statistic =
                    matches!(value.kind, ExprKind::Var(v) if self.ty(v) == Ty::Stats);
                if self.last && target.ty == Ty::Unknown && !is_statistic {
                    self.expr(target, Ty::Unknown);
                }
                self.expr(value, hint);
                if value.ty == Ty::Stats {
                    self.invalid_stats(value.span);
                    return Ty::Unknown;
                }
                let ty = value.ty;
                self.expr(target, ty);
                if ty == Ty::Unknown { target.ty } else { ty }
            }
        }
    }

    pub(super) fn target(&mut self, t: &mut Target, span: Span) -> Ty {
        for step in &mut t.steps {
            if let TargetStep::Index(e) = step {
                self.expr(e, Ty::Long);
            }
        }
        if let TargetBase::Cast(e, ..) | TargetBase::Autocast(e, _) | TargetBase::EnumName(e, ..) =
            &mut t.base
        {
            self.operand(e);
        }
        if !t.resolvable {
            let message = match &t.base {
                TargetBase::Variable(_) => "unresolved target-symbol expression".to_string(),
                TargetBase::AtVar(..) => "unresolved @var() expression".to_string(),
                TargetBase::Cast(_, ty, module) => format!(
                    "type definition '{ty}' not found in '{}'",
                    module.as_deref().unwrap_or_default()
                ),
                TargetBase::Autocast(..) => "unknown type in dereference".to_string(),
                TargetBase::Enum(_) => "unresolved @enum() expression".to_string(),
                TargetBase::EnumName(..) => "unresolved @enumname() expression".to_string(),
            };
            let before = self.report.errors();
            self.report.error(message, span);
            self.unresolvable += self.report.errors() - before;
            return Ty::Unknown;
        }
        let pretty = t.steps.iter().any(|s| matches!(s, TargetStep::Pretty(_)));
        match &t.base {
            _ if pretty => Ty::String,
            TargetBase::Variable(name) if name.starts_with("$$") => Ty::String,
            TargetBase::EnumName(..) => Ty::String,
            _ => Ty::Long,
        }
    }

    /// What is handed to a target expression: to stap an argument, in whose terms it speaks of a text.
    fn operand(&mut self, e: &mut Expr) {
        match e.kind {
            ExprKind::Str(_) => {
                Self::mismatch(self.report, OF_VALUES, Ty::String, Ty::Long, e.span)
            }
            _ => self.expr(e, Ty::Long),
        }
    }

    pub(super) fn print(&mut self, p: &mut Print, span: Span) {
        if let Some(format) = &p.format {
            let mut wants = Vec::new();
            for part in &format.parts {
                if let Part::Conversion(c) = part {
                    for extent in [c.width, c.precision] {
                        if extent == Extent::Argument {
                            wants.push(Ty::Long);
                        }
                    }
                    wants.push(match c.kind {
                        ConversionKind::String => Ty::String,
                        _ => Ty::Long,
                    });
                }
            }
            for (a, want) in p.args.iter_mut().zip(wants) {
                self.expr(a, want);
            }
            return;
        }
        let mut unresolved = false;
        for a in &mut p.args {
            self.expr(a, Ty::Unknown);
            self.missing(a);
            unresolved |= a.ty == Ty::Unknown;
            if p.form.char && a.ty == Ty::String {
                self.report
                    .late("print_char takes the number of a character", a.span);
            }
            if a.ty == Ty::Stats && !matches!(a.kind, ExprKind::Hist(..)) {
                self.report.late(
                    "print format actual argument evaluation type unsupported",
                    a.span,
                );
            }
        }
        if unresolved {
            self.unresolved(span);
        }
    }
}
