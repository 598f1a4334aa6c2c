//! Statements.

use super::*;
use crate::ast::SortKey;

impl Types<'_> {
    pub(super) fn stmt(&mut self, s: &mut Stmt) {
        match &mut s.kind {
            StmtKind::Null | StmtKind::Next | StmtKind::Break | StmtKind::Continue => {}
            StmtKind::Block(list) => list.iter_mut().for_each(|s| self.stmt(s)),
            StmtKind::Expr(e) => self.effect(e),
            StmtKind::If(c, a, b) => {
                self.expr(c, Ty::Long);
                self.stmt(a);
                if let Some(b) = b {
                    self.stmt(b);
                }
            }
            StmtKind::Loop {
                init,
                cond,
                step,
                body,
            } => {
                if let Some(e) = init {
                    self.effect(e);
                }
                if let Some(e) = cond {
                    self.expr(e, Ty::Long);
                }
                if let Some(e) = step {
                    self.effect(e);
                }
                self.stmt(body);
            }
            StmtKind::Foreach(f) => self.foreach(f, s.span),
            StmtKind::Return(e) => self.ret(e.as_mut(), s.span),
            StmtKind::Delete(e) => match &mut e.kind {
                ExprKind::Index(Base::Var(v), keys) => {
                    let v = *v;
                    self.keys(v, keys);
                    e.ty = self.ty(v);
                    self.deleted(v, e.ty, e.span);
                }
                ExprKind::Var(v) => {
                    e.ty = self.ty(*v);
                    self.deleted(*v, e.ty, e.span);
                }
                _ => {}
            },
            StmtKind::Try {
                body,
                message,
                handler,
            } => {
                self.stmt(body);
                if let Some((v, span)) = message {
                    self.set_var(*v, Ty::String, *span);
                }
                self.stmt(handler);
            }
        }
    }

    /// A deleted variable must have a type; one of the library's may get none, when a script uses only the functions
    /// that delete from it.
    pub(super) fn deleted(&mut self, v: Var, ty: Ty, span: Span) {
        let tapset = match v {
            Var::Global(id) => self.globals.get(id.0 as usize).is_some_and(|g| g.tapset),
            Var::Local(_) => false,
        };
        if ty == Ty::Unknown && !tapset {
            self.unresolved(span);
        }
    }

    /// An expression whose value nobody uses: a call may yield nothing.
    pub(super) fn effect(&mut self, e: &mut Expr) {
        let span = e.span;
        match &mut e.kind {
            ExprKind::Call(id, args) => e.ty = self.call(*id, args, Ty::Unknown, span),
            ExprKind::Print(p) if !p.form.to_string => self.print(p, span),
            _ => self.expr(e, Ty::Unknown),
        }
    }

    pub(super) fn ret(&mut self, e: Option<&mut Expr>, span: Span) {
        let Some(id) = self.current else { return };
        let at = id.0 as usize;
        let Some(e) = e else {
            let slot = self.signatures[at].result;
            if slot.ty != Ty::Unknown {
                let message = match slot.first {
                    Some(_) => "type mismatch (unknown)".to_string(),
                    None => format!(
                        "type mismatch: expected unknown but found {}",
                        slot.ty.name()
                    ),
                };
                self.report.disagreement(OF_DECLARED, message, span);
                if let Some(first) = slot.first {
                    self.report.cause(
                        format!("type was first inferred here ({})", slot.ty.name()),
                        first,
                    );
                }
            }
            return;
        };
        let expected = self.signatures[at].result.ty;
        match &mut e.kind {
            // Whether the function that is called gives anything is not asked here.
            ExprKind::Call(callee, args) => e.ty = self.call(*callee, args, expected, e.span),
            _ => self.hinted(e, expected),
        }
        if e.ty == Ty::Stats {
            self.invalid_stats(e.span);
            return;
        }
        let (_, new) = Self::unify(
            &mut self.signatures[at].result,
            e.ty,
            e.span,
            What::Value,
            self.report,
        );
        self.resolved += usize::from(new);
    }

    pub(super) fn foreach(&mut self, f: &mut Foreach, span: Span) {
        match &mut f.base {
            Base::Var(array) => {
                let array = *array;
                for (i, (v, span)) in f.keys.iter().enumerate() {
                    let key = self.key_ty(array, i);
                    let known = self.set_var(*v, key, *span);
                    if key != Ty::Unknown && known != key {
                        continue;
                    }
                    self.set_key(array, i, known, *span);
                    if known == Ty::Unknown {
                        self.unresolved(*span);
                    }
                }
                if let Some(slice) = &mut f.slice {
                    self.keys(array, slice);
                }
                let value = self.ty(array);
                if value == Ty::Unknown {
                    self.unresolved(f.base_span);
                }
                if let Some((SortKey::Value(Some(_)), _)) = f.sort {
                    if value == Ty::Unknown {
                        self.set_var(array, Ty::Stats, f.base_span);
                    } else if value != Ty::Stats {
                        self.report
                            .error(format!("invalid type {}", value.name()), f.base_span);
                    }
                }
            }
            Base::Hist(_, stat) => {
                self.expr(stat, Ty::Stats);
                if f.keys.len() != 1 {
                    self.unresolved(span);
                }
                for (v, span) in f.keys.iter().chain(&f.value) {
                    self.set_var(*v, Ty::Long, *span);
                }
            }
        }
        if let Some(limit) = &mut f.limit {
            self.expr(limit, Ty::Long);
        }
        let value = match (&f.base, f.value) {
            (Base::Var(array), Some((v, span))) => Some((*array, v, span)),
            _ => None,
        };
        if let Some((array, _, span)) = value
            && self.ty(array) == Ty::Stats
        {
            self.invalid_stats(span);
        }
        self.stmt(&mut f.body);
        if let Some((array, v, span)) = value {
            match self.ty(array) {
                Ty::Stats => self.invalid_stats(span),
                ty => {
                    let known = self.set_var(v, ty, span);
                    self.set_var(array, known, span);
                }
            }
        }
    }
}
