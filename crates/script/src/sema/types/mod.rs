//! Pass: types. Whole-program inference in rounds, as stap does it: each round walks all functions and probes and fixes
//! what can be fixed; when a round fixes nothing more, a last one reports what is left.

mod expression;
mod statement;

use std::collections::HashSet;

use super::hir::*;
use super::report::{Finding, Report};
use crate::span::Span;

/// Ranks of mismatches ([`Diagnostic::rank`](crate::diagnostic::Diagnostic::rank)): a value of another type than its place
/// asks for, two sides of an operator, and what has been declared or inferred elsewhere.
const OF_VALUES: u8 = 0;
const OF_SIDES: u8 = 1;
const OF_DECLARED: u8 = 2;

/// One round over everything, as stap runs it before it folds constants: what disagrees is an error even where
/// folding would drop one of the sides. Target expressions are passed over. False when there is such an error.
pub fn first_round(hir: &mut Program, report: &mut Report) -> bool {
    let before = report.errors();
    let mut pass = Types::of(hir, report);
    pass.initial = true;
    pass.literal_arguments(hir);
    pass.round(hir);
    let agree = pass.report.errors() == before + pass.stats_misused;
    pass.give_back(hir);
    agree
}

/// Runs the pass.
pub fn infer(hir: &mut Program, report: &mut Report) {
    let before = report.errors();
    let mut pass = Types::of(hir, report);
    pass.literal_arguments(hir);
    loop {
        pass.resolved = 0;
        pass.round(hir);
        if pass.last {
            break;
        }
        if pass.resolved == 0 {
            if pass.report.errors() > before + pass.unresolvable + pass.stats_misused {
                break;
            }
            pass.last = true;
        }
    }
    for g in pass.globals.iter().filter(|g| pass.last && !g.tapset) {
        let used = g.read || g.written;
        if used && g.value.ty == Ty::Unknown {
            pass.report.error("unresolved type ", g.span);
        }
    }
    pass.give_back(hir);
}

struct Signature {
    params: Vec<Slot>,
    result: Slot,
    next: Option<FunctionId>,
}

impl Signature {
    fn of(f: &Function) -> Signature {
        Signature {
            params: f.body().locals[..f.params.min(f.body().locals.len())]
                .iter()
                .map(|l| l.slot)
                .collect(),
            result: f.result,
            next: f.next,
        }
    }
}

struct Types<'a> {
    report: &'a mut Report,
    globals: Vec<Global>,
    signatures: Vec<Signature>,
    locals: Vec<Local>,
    current: Option<FunctionId>,
    /// The handler looked at is that of returns.
    is_return: bool,
    /// What is looked at, as messages name it.
    place: String,
    resolved: usize,
    /// Errors about target variables where none can be; they do not keep the last round from running.
    unresolvable: usize,
    /// Errors about statistics used as values; the same.
    stats_misused: usize,
    /// Comparisons, choices and arguments whose types do not agree: one message is enough, whatever later rounds find.
    refused: HashSet<Span>,
    /// Before folding: target expressions have no type yet.
    initial: bool,
    last: bool,
}

/// What a slot is called in messages.
#[derive(Clone, Copy)]
enum What {
    Value,
    /// A function's argument.
    Index(usize),
    /// An array's key, and the type of its values.
    Key(usize, Ty),
}

impl<'a> Types<'a> {
    /// Takes the program's globals until [`Types::give_back`].
    fn of(hir: &mut Program, report: &'a mut Report) -> Types<'a> {
        Types {
            report,
            globals: std::mem::take(&mut hir.globals),
            signatures: hir.functions.iter().map(Signature::of).collect(),
            locals: Vec::new(),
            current: None,
            is_return: false,
            place: String::new(),
            resolved: 0,
            unresolvable: 0,
            stats_misused: 0,
            refused: HashSet::new(),
            initial: false,
            last: false,
        }
    }

    fn give_back(self, hir: &mut Program) {
        hir.globals = self.globals;
        for (f, s) in hir.functions.iter_mut().zip(self.signatures) {
            f.result = s.result;
            if let Code::Embedded(_, body) = &mut f.code {
                for (local, slot) in body.locals.iter_mut().zip(&s.params) {
                    local.slot = *slot;
                }
            }
        }
    }
}

impl Types<'_> {
    /// Literals have their types from the start, and with them the parameters that they are given to.
    fn literal_arguments(&mut self, hir: &Program) {
        for p in &hir.probes {
            self.literals_in(&p.body.stmt);
        }
        for f in hir.functions.iter().filter(|f| f.live) {
            self.literals_in(&f.body().stmt);
        }
    }

    fn literals_in(&mut self, s: &Stmt) {
        s.each_expr(&mut |e| {
            e.each(&mut |e| {
                let ExprKind::Call(id, args) = &e.kind else {
                    return;
                };
                let Some(signature) = self.signatures.get_mut(id.0 as usize) else {
                    return;
                };
                for (i, (arg, slot)) in args.iter().zip(&mut signature.params).enumerate() {
                    let literal = matches!(arg.kind, ExprKind::Long(_) | ExprKind::Str(_));
                    if literal && slot.ty == Ty::Unknown {
                        Self::unify(slot, arg.ty, arg.span, What::Index(i), self.report);
                    }
                }
            });
        });
        s.each_stmt(&mut |s| self.literals_in(s));
    }

    fn round(&mut self, hir: &mut Program) {
        for i in 0..hir.functions.len() {
            let f = &mut hir.functions[i];
            if !f.live {
                continue;
            }
            let Code::Script(body) = &mut f.code else {
                continue;
            };
            self.current = Some(FunctionId(i as u32));
            self.is_return = false;
            self.place = format!("function {}", f.name);
            for (local, slot) in body.locals.iter_mut().zip(&self.signatures[i].params) {
                local.slot = *slot;
            }
            self.body(body, f.params);
            let params: Vec<Slot> = body.locals[..f.params].iter().map(|l| l.slot).collect();
            self.signatures[i].params = params;
        }
        self.current = None;
        for p in &mut hir.probes {
            self.is_return = p.points.iter().all(Point::is_return);
            self.place = match p.points.first() {
                Some(point) => format!("probe {}", point.origin()),
                None => String::new(),
            };
            for c in p.points.iter_mut().filter_map(|p| p.condition.as_mut()) {
                self.expr(c, Ty::Long);
            }
            self.body(&mut p.body, 0);
        }
    }

    fn body(&mut self, body: &mut Body, params: usize) {
        self.locals = std::mem::take(&mut body.locals);
        self.stmt(&mut body.stmt);
        body.locals = std::mem::take(&mut self.locals);
        if self.last {
            for l in body.locals.iter().skip(params) {
                if l.live && l.slot.ty == Ty::Unknown {
                    self.unresolved(l.span);
                }
            }
        }
    }

    fn invalid_stats(&mut self, span: Span) {
        let before = self.report.errors();
        self.report.error("invalid type stats", span);
        self.stats_misused += self.report.errors() - before;
    }

    fn unresolved(&mut self, span: Span) {
        if self.last {
            self.report.error("unresolved type ", span);
        }
    }

    /// Says that a target expression has no type, where one is needed.
    fn missing(&mut self, e: &Expr) {
        if matches!(e.kind, ExprKind::Target(_)) && e.ty == Ty::Unknown {
            self.unresolved(e.span);
        }
    }

    /// Refuses `@entry` where there is no return; the rest of the handler is not looked at.
    fn entry_elsewhere(&mut self, span: Span) {
        if !self.refused.insert(span) {
            return;
        }
        let message = format!("while processing {}", self.place);
        self.report.push(Finding::error_nowhere(message));
        self.report.cause(
            "internal error: @entry is only valid in .return probes",
            span,
        );
    }

    fn ty(&self, v: Var) -> Ty {
        match v {
            Var::Local(id) => self.locals.get(id.0 as usize).map(|l| l.slot.ty),
            Var::Global(id) => self.globals.get(id.0 as usize).map(|g| g.value.ty),
        }
        .unwrap_or_default()
    }

    fn key_ty(&self, v: Var, i: usize) -> Ty {
        match v {
            Var::Global(id) => self
                .globals
                .get(id.0 as usize)
                .and_then(|g| g.keys.get(i))
                .map_or(Ty::Unknown, |s| s.ty),
            Var::Local(_) => Ty::Unknown,
        }
    }

    /// Gives a slot a type, or reports that it has another. Returns the slot's type.
    fn unify(slot: &mut Slot, ty: Ty, span: Span, what: What, report: &mut Report) -> (Ty, bool) {
        if ty == Ty::Unknown {
            return (slot.ty, false);
        }
        if slot.ty == Ty::Unknown {
            *slot = Slot {
                ty,
                first: Some(span),
                by_call: matches!(what, What::Index(_)),
            };
            return (ty, true);
        }
        if slot.ty != ty {
            match (slot.first, what) {
                (Some(first), What::Value) => {
                    report.disagreement(
                        OF_DECLARED,
                        format!("type mismatch ({})", ty.name()),
                        span,
                    );
                    report.cause(
                        format!("type was first inferred here ({})", slot.ty.name()),
                        first,
                    );
                }
                (Some(first), What::Index(i) | What::Key(i, _)) => {
                    let shown = match what {
                        What::Key(_, value) => value,
                        _ => slot.ty,
                    };
                    let message = format!("index {i} type mismatch ({})", ty.name());
                    report.disagreement(OF_DECLARED, message, span);
                    report.cause(
                        format!(
                            "type of index {i} was first inferred here ({})",
                            shown.name()
                        ),
                        first,
                    );
                }
                (None, _) => Self::mismatch(report, OF_DECLARED, ty, slot.ty, span),
            }
        }
        (slot.ty, false)
    }

    fn mismatch(report: &mut Report, rank: u8, expected: Ty, found: Ty, span: Span) {
        report.disagreement(
            rank,
            format!(
                "type mismatch: expected {} but found {}",
                expected.name(),
                found.name()
            ),
            span,
        );
    }

    fn set_var(&mut self, v: Var, ty: Ty, span: Span) -> Ty {
        if ty == Ty::Stats
            && let Var::Local(id) = v
        {
            let declared = self.locals.get(id.0 as usize).map_or(span, |l| l.span);
            self.report.error(
                "stat locals not supported, missing global declaration? ",
                declared,
            );
            return Ty::Unknown;
        }
        let slot = match v {
            Var::Local(id) => self.locals.get_mut(id.0 as usize).map(|l| &mut l.slot),
            Var::Global(id) => self.globals.get_mut(id.0 as usize).map(|g| &mut g.value),
        };
        let what = match v {
            Var::Local(id) if slot.as_ref().is_some_and(|s| s.by_call) => {
                What::Index(id.0 as usize)
            }
            _ => What::Value,
        };
        let (found, new) = match slot {
            Some(slot) => Self::unify(slot, ty, span, what, self.report),
            None => (Ty::Unknown, false),
        };
        self.resolved += usize::from(new);
        found
    }

    fn set_key(&mut self, v: Var, i: usize, ty: Ty, span: Span) {
        let Var::Global(id) = v else { return };
        let Some(global) = self.globals.get_mut(id.0 as usize) else {
            return;
        };
        let value = global.value.ty;
        let Some(slot) = global.keys.get_mut(i) else {
            return;
        };
        // What stap names as the key's type is the value's.
        let (_, new) = Self::unify(slot, ty, span, What::Key(i, value), self.report);
        self.resolved += usize::from(new);
    }

    fn keys(&mut self, v: Var, keys: &mut [Option<Expr>]) {
        for (i, key) in keys.iter_mut().enumerate() {
            let Some(key) = key else { continue };
            let expected = self.key_ty(v, i);
            self.hinted(key, expected);
            self.missing(key);
            if key.ty == Ty::Stats {
                self.invalid_stats(key.span);
                continue;
            }
            self.set_key(v, i, key.ty, key.span);
        }
    }
}
