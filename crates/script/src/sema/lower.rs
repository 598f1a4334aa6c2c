//! Pass: lowering. From the resolved and typed tree to the IR, leaving out what is not live.

use std::collections::{BTreeSet, HashMap};

use super::formats;
use super::hir::{self, Base, ExprKind as H, StmtKind as S, Ty, Var};
use super::statistics::Needs;
use crate::ast::{AssignOp, BinaryOp};
use crate::ir::{self, Expr, ExprKind, GlobalId, LValue, LocalId, Stmt, StmtKind, Type};
use crate::span::{SourceMap, Span};

/// A point without its condition.
pub(super) fn bare_point(p: &hir::Point) -> ir::ProbePoint {
    let mut via: Vec<_> = p.via.iter().map(|s| s.used.clone()).collect();
    if via.is_empty() {
        via.push(p.point.clone());
    }
    ir::ProbePoint {
        point: p.point.clone(),
        via,
        condition: None,
    }
}

/// Runs the pass. The program must be free of errors.
pub fn lower(hir: &hir::Program, needs: &Needs, sources: &SourceMap) -> ir::Program {
    let mut pass = Lower {
        hir,
        globals: HashMap::new(),
        functions: HashMap::new(),
        locals: Vec::new(),
        type_homes: BTreeSet::new(),
    };
    let mut program = ir::Program {
        sources: sources.clone(),
        ..Default::default()
    };
    for (i, g) in hir.globals.iter().enumerate() {
        if g.read || g.written {
            let id = GlobalId(i as u32);
            pass.globals
                .insert(id, GlobalId(program.globals.len() as u32));
            program.globals.push(global(g, needs.of(id)));
        }
    }
    let wrapped: Vec<hir::FunctionId> = hir.functions.iter().filter_map(|f| f.next).collect();
    let mut kept = Vec::new();
    for (i, f) in hir.functions.iter().enumerate() {
        let id = hir::FunctionId(i as u32);
        let script = matches!(f.code, hir::Code::Script(_));
        if f.live && (script || wrapped.contains(&id)) {
            pass.functions.insert(id, ir::FunctionId(kept.len() as u32));
            kept.push(f);
        }
    }
    for f in kept {
        program.functions.push(pass.function(f));
    }
    for p in &hir.probes {
        let body = pass.body(&p.body);
        let points = p.points.iter().map(|point| pass.point(point)).collect();
        program.probes.push(ir::Probe {
            span: p.span,
            points,
            body,
        });
    }
    for points in &hir.elided {
        let points = points.iter().map(|point| pass.point(point)).collect();
        program.elided.push(points);
    }
    program.type_homes = pass.type_homes;
    program
}

fn global(g: &hir::Global, (stat, shape): (ir::StatNeeds, Option<ir::HistShape>)) -> ir::Global {
    let arity = g.arity.map_or(0, |(n, _)| n);
    let ty = if arity == 0 {
        match g.value.ty {
            Ty::Stats => ir::GlobalType::Stat(stat, shape),
            other => ir::GlobalType::Scalar(ty(other)),
        }
    } else {
        ir::GlobalType::Map {
            keys: g.keys.iter().map(|k| ty(k.ty)).collect(),
            value: match g.value.ty {
                Ty::Stats => ir::MapValue::Stat(stat, shape),
                Ty::String => ir::MapValue::String,
                _ => ir::MapValue::Long,
            },
            size: g.size.and_then(|n| u32::try_from(n).ok()),
            wrap: g.wrap,
        }
    };
    ir::Global {
        name: g.name.clone(),
        span: g.span,
        ty,
        init: g.init.clone(),
        auto_display: g.auto_display,
    }
}

/// The IR's type; what was never inferred is only in dead code and becomes a number.
fn ty(t: Ty) -> Type {
    match t {
        Ty::String => Type::String,
        _ => Type::Long,
    }
}

struct Lower<'a> {
    hir: &'a hir::Program,
    globals: HashMap<GlobalId, GlobalId>,
    functions: HashMap<hir::FunctionId, ir::FunctionId>,
    locals: Vec<ir::Local>,
    type_homes: BTreeSet<usize>,
}

impl Lower<'_> {
    fn function(&mut self, f: &hir::Function) -> ir::Function {
        let body = match &f.code {
            hir::Code::Script(body) => self.body(body),
            hir::Code::Embedded(_, body) => self.body(body),
            hir::Code::Intrinsic(op, body) => {
                let mut lowered = self.body(body);
                let args = (0..f.params)
                    .map(|i| Expr {
                        kind: ExprKind::Local(LocalId(i as u32)),
                        ty: lowered.locals.get(i).map_or(Type::Long, |l| l.ty),
                        span: f.span,
                    })
                    .collect();
                let call = Expr {
                    kind: ExprKind::Intrinsic(op, args),
                    ty: op.result,
                    span: f.span,
                };
                let kind = match op.result {
                    Type::Unit => StmtKind::Expr(call),
                    _ => StmtKind::Return(Some(call)),
                };
                lowered.stmts = vec![Stmt { kind, span: f.span }];
                lowered
            }
        };
        ir::Function {
            name: f.name.clone(),
            span: f.span,
            params: f.params as u32,
            result: match f.result.ty {
                Ty::Unknown => Type::Unit,
                other => ty(other),
            },
            body,
            next: f.next.and_then(|n| self.functions.get(&n).copied()),
        }
    }

    fn point(&mut self, p: &hir::Point) -> ir::ProbePoint {
        ir::ProbePoint {
            condition: p.condition.as_ref().map(|c| self.expr(c)),
            ..bare_point(p)
        }
    }

    fn body(&mut self, body: &hir::Body) -> ir::Body {
        self.locals = body
            .locals
            .iter()
            .map(|l| ir::Local {
                name: l.name.clone(),
                ty: ty(l.slot.ty),
            })
            .collect();
        let stmts = self.stmts(&body.stmt);
        ir::Body {
            locals: std::mem::take(&mut self.locals),
            stmts,
        }
    }

    fn global_id(&self, id: GlobalId) -> GlobalId {
        self.globals.get(&id).copied().unwrap_or(id)
    }

    fn stmts(&mut self, s: &hir::Stmt) -> Vec<Stmt> {
        let mut out = Vec::new();
        self.stmt(s, &mut out);
        out
    }

    /// What a statement has inside. Several statements stay a block, whose brace is told when the last action was too many.
    fn part(&mut self, s: &hir::Stmt) -> Vec<Stmt> {
        let mut out = self.stmts(s);
        if matches!(s.kind, S::Block(_)) && out.len() > 1 {
            out = vec![Stmt {
                kind: StmtKind::Block(out),
                span: s.span,
            }];
        }
        out
    }

    fn stmt(&mut self, s: &hir::Stmt, out: &mut Vec<Stmt>) {
        let kind = match &s.kind {
            S::Null => return,
            S::Block(list) => {
                for s in list {
                    self.stmt(s, out);
                }
                return;
            }
            S::Expr(e) => StmtKind::Expr(self.expr(e)),
            S::If(c, a, b) => StmtKind::If(
                self.expr(c),
                self.part(a),
                b.as_ref().map(|b| self.part(b)).unwrap_or_default(),
            ),
            S::Loop {
                init,
                cond,
                step,
                body,
            } => {
                if let Some(init) = init {
                    let init = self.expr(init);
                    out.push(Stmt {
                        kind: StmtKind::Expr(init),
                        span: s.span,
                    });
                }
                StmtKind::Loop {
                    cond: cond.as_ref().map(|e| self.expr(e)),
                    body: self.part(body),
                    step: step.as_ref().map(|e| self.expr(e)),
                }
            }
            S::Foreach(f) => self.foreach(f),
            S::Return(e) => StmtKind::Return(e.as_ref().map(|e| self.expr(e))),
            S::Delete(e) => match self.delete(e) {
                Some(kind) => kind,
                None => return,
            },
            S::Next => StmtKind::Next,
            S::Break => StmtKind::Break,
            S::Continue => StmtKind::Continue,
            S::Try {
                body,
                message,
                handler,
            } => {
                let body = self.part(body);
                let mut first = Vec::new();
                let message =
                    message.map(|(v, span)| self.bound(v, Type::String, span, &mut first));
                first.extend(self.part(handler));
                StmtKind::Try {
                    body,
                    message,
                    handler: first,
                }
            }
        };
        out.push(Stmt { kind, span: s.span });
    }

    /// The local that a statement binds. A global is bound through a temporary that `first` copies.
    fn bound(&mut self, v: Var, ty: Type, span: Span, first: &mut Vec<Stmt>) -> LocalId {
        match v {
            Var::Local(id) => id,
            Var::Global(id) => {
                let local = LocalId(self.locals.len() as u32);
                self.locals.push(ir::Local {
                    name: self.hir.global(id).name.clone(),
                    ty,
                });
                let value = Expr {
                    kind: ExprKind::Local(local),
                    ty,
                    span,
                };
                first.push(Stmt {
                    kind: StmtKind::Expr(Expr {
                        kind: ExprKind::Assign(LValue::Global(self.global_id(id)), Box::new(value)),
                        ty,
                        span,
                    }),
                    span,
                });
                local
            }
        }
    }

    fn var_ty(&self, v: Var) -> Type {
        match v {
            Var::Local(id) => self.locals.get(id.0 as usize).map_or(Type::Long, |l| l.ty),
            Var::Global(id) => ty(self.hir.global(id).value.ty),
        }
    }

    fn foreach(&mut self, f: &hir::Foreach) -> StmtKind {
        let mut body = Vec::new();
        let keys: Vec<LocalId> = f
            .keys
            .iter()
            .map(|&(v, at)| {
                let ty = self.var_ty(v);
                self.bound(v, ty, at, &mut body)
            })
            .collect();
        let value = f.value.map(|(v, at)| {
            let ty = self.var_ty(v);
            self.bound(v, ty, at, &mut body)
        });
        body.extend(self.part(&f.body));
        let limit = f.limit.as_ref().map(|e| self.expr(e));
        match &f.base {
            Base::Var(Var::Global(id)) => StmtKind::Foreach(Box::new(ir::Foreach {
                map: self.global_id(*id),
                keys,
                value,
                slice: f.slice.as_ref().map(|s| self.keys(s)),
                sort: f.sort,
                limit,
                body,
            })),
            Base::Hist(_, stat) => StmtKind::ForeachBucket {
                key: keys.first().copied().unwrap_or(LocalId(0)),
                value,
                stat: self.stat(stat),
                descending: f.sort,
                limit,
                body,
            },
            Base::Var(Var::Local(_)) => StmtKind::Block(Vec::new()),
        }
    }

    fn delete(&mut self, e: &hir::Expr) -> Option<StmtKind> {
        Some(match &e.kind {
            H::Var(Var::Global(id)) => StmtKind::DeleteAll(self.global_id(*id)),
            H::Var(v @ Var::Local(id)) => {
                let ty = self.var_ty(*v);
                let empty = Expr {
                    kind: match ty {
                        Type::String => ExprKind::Str(Vec::new()),
                        _ => ExprKind::Long(0),
                    },
                    ty,
                    span: e.span,
                };
                StmtKind::Expr(Expr {
                    kind: ExprKind::Assign(LValue::Local(*id), Box::new(empty)),
                    ty,
                    span: e.span,
                })
            }
            H::Index(Base::Var(Var::Global(id)), keys) => {
                let id = self.global_id(*id);
                if keys.iter().any(Option::is_none) {
                    StmtKind::DeleteSlice(id, self.keys(keys))
                } else {
                    StmtKind::DeleteElement(id, self.exprs(keys))
                }
            }
            _ => return None,
        })
    }

    fn keys(&mut self, keys: &[Option<hir::Expr>]) -> Vec<Option<Expr>> {
        keys.iter()
            .map(|k| k.as_ref().map(|k| self.expr(k)))
            .collect()
    }

    fn exprs(&mut self, keys: &[Option<hir::Expr>]) -> Vec<Expr> {
        keys.iter().flatten().map(|k| self.expr(k)).collect()
    }

    fn stat(&mut self, e: &hir::Expr) -> ir::StatRef {
        match &e.kind {
            H::Index(Base::Var(Var::Global(id)), keys) => ir::StatRef {
                global: self.global_id(*id),
                keys: self.exprs(keys),
                span: e.span,
            },
            H::Var(Var::Global(id)) => ir::StatRef {
                global: self.global_id(*id),
                keys: Vec::new(),
                span: e.span,
            },
            _ => ir::StatRef {
                global: GlobalId(0),
                keys: Vec::new(),
                span: e.span,
            },
        }
    }

    fn lvalue(&mut self, e: &hir::Expr) -> LValue {
        match &e.kind {
            H::Var(Var::Local(id)) => LValue::Local(*id),
            H::Var(Var::Global(id)) => LValue::Global(self.global_id(*id)),
            H::Index(Base::Var(Var::Global(id)), keys) => {
                LValue::Element(self.global_id(*id), self.exprs(keys), e.span)
            }
            H::Target(t) => LValue::Target(Box::new(self.target(t, e.span))),
            _ => LValue::Local(LocalId(0)),
        }
    }

    fn target(&mut self, t: &hir::Target, span: Span) -> ir::Target {
        ir::Target {
            base: match &t.base {
                hir::TargetBase::Variable(name) => ir::TargetBase::Variable(name.clone()),
                hir::TargetBase::AtVar(name, module) => {
                    ir::TargetBase::AtVar(name.clone(), module.clone())
                }
                hir::TargetBase::Cast(e, ty, module) => {
                    ir::TargetBase::Cast(Box::new(self.expr(e)), ty.clone(), module.clone())
                }
                hir::TargetBase::Autocast(e, sources) => {
                    let sources = sources.iter().map(|source| {
                        self.type_homes.extend(source.home);
                        ir::Source {
                            target: self.target(&source.target, span),
                            home: source.home,
                        }
                    });
                    let sources = sources.collect();
                    ir::TargetBase::Autocast(Box::new(self.expr(e)), sources)
                }
                hir::TargetBase::Enum(name) => ir::TargetBase::Enum(name.clone()),
                hir::TargetBase::EnumName(e, ty, module) => {
                    ir::TargetBase::EnumName(Box::new(self.expr(e)), ty.clone(), module.clone())
                }
            },
            steps: t
                .steps
                .iter()
                .map(|s| match s {
                    hir::TargetStep::Member(n) => ir::TargetStep::Member(n.clone()),
                    hir::TargetStep::Index(e) => ir::TargetStep::Index(self.expr(e)),
                    hir::TargetStep::Pretty(d) => ir::TargetStep::Pretty(*d),
                })
                .collect(),
            operators: t.operators.clone(),
            address_of: t.address_of,
            span,
        }
    }

    fn boxed(&mut self, e: &hir::Expr) -> Box<Expr> {
        Box::new(self.expr(e))
    }

    fn expr(&mut self, e: &hir::Expr) -> Expr {
        let mut result = ty(e.ty);
        let kind = match &e.kind {
            H::Long(n) => ExprKind::Long(*n),
            H::Str(s) => ExprKind::Str(s.clone()),
            H::Var(Var::Local(id)) => ExprKind::Local(*id),
            H::Var(Var::Global(id)) => ExprKind::Global(self.global_id(*id)),
            H::Index(Base::Var(Var::Global(id)), keys) => {
                ExprKind::Element(self.global_id(*id), self.exprs(keys))
            }
            H::Index(Base::Var(Var::Local(id)), _) => ExprKind::Local(*id),
            H::Index(Base::Hist(op, stat), keys) => {
                let index = keys.iter().flatten().next().map_or_else(
                    || Expr {
                        kind: ExprKind::Long(0),
                        ty: Type::Long,
                        span: e.span,
                    },
                    |k| self.expr(k),
                );
                ExprKind::Bucket(self.stat(stat), op.clone(), Box::new(index))
            }
            H::In(keys, Var::Global(id), _) => ExprKind::In(self.global_id(*id), self.keys(keys)),
            H::In(_, Var::Local(_), _) => ExprKind::Long(0),
            H::Call(id, args) => {
                let args: Vec<Expr> = args.iter().map(|a| self.expr(a)).collect();
                let f = self.hir.function(*id);
                result = match f.result.ty {
                    Ty::Unknown => Type::Unit,
                    other => ty(other),
                };
                match (&f.code, self.functions.get(id)) {
                    (hir::Code::Intrinsic(op, _), _) => ExprKind::Intrinsic(op, args),
                    (hir::Code::Embedded(..), _) => ExprKind::Long(0),
                    (_, Some(id)) => ExprKind::Call(*id, args),
                    (_, None) => ExprKind::Long(0),
                }
            }
            H::Unary(op, a) => ExprKind::Unary(*op, self.boxed(a)),
            H::Binary(BinaryOp::Concat, a, b) => {
                let mut parts = Vec::new();
                self.concat(a, &mut parts);
                self.concat(b, &mut parts);
                ExprKind::Concat(parts)
            }
            H::Binary(op, a, b) => ExprKind::Binary(*op, self.boxed(a), self.boxed(b)),
            H::Match(a, pattern, negated, _) => {
                ExprKind::Match(self.boxed(a), pattern.clone(), *negated)
            }
            H::Ternary(c, a, b) => ExprKind::Ternary(self.boxed(c), self.boxed(a), self.boxed(b)),
            H::Assign(AssignOp::Set, target, value) => {
                let value = self.boxed(value);
                ExprKind::Assign(self.lvalue(target), value)
            }
            H::Assign(AssignOp::Aggregate, target, value) => {
                let value = self.boxed(value);
                ExprKind::Aggregate(self.stat(target), value)
            }
            H::Assign(AssignOp::Binary(op), target, value) => {
                let value = self.boxed(value);
                ExprKind::AssignOp(*op, self.lvalue(target), value)
            }
            H::Step {
                increment,
                prefix,
                operand,
            } => ExprKind::Step {
                target: self.lvalue(operand),
                amount: if *increment { 1 } else { -1 },
                prefix: *prefix,
            },
            H::Stat(op, a, shift) => {
                ExprKind::Stat(*op, self.stat(a), u8::try_from(*shift).unwrap_or_default())
            }
            H::Hist(..) => ExprKind::Long(0),
            H::Target(t) => ExprKind::Target(Box::new(self.target(t, e.span))),
            H::Entry(inner) => {
                let inner = self.expr(inner);
                result = inner.ty;
                ExprKind::Entry(Box::new(inner))
            }
            H::Defined(inner) => match &inner.kind {
                H::Target(t) => ExprKind::Defined(Box::new(self.target(t, inner.span))),
                _ => ExprKind::Long(0),
            },
            H::Print(p) => {
                result = match (p.form.to_string, e.ty) {
                    (true, _) => Type::String,
                    (false, Ty::Long) => Type::Long,
                    (false, _) => Type::Unit,
                };
                ExprKind::Print {
                    format: formats::reduce(p),
                    args: p
                        .args
                        .iter()
                        .map(|a| match &a.kind {
                            H::Hist(op, stat) => ir::PrintArg::Hist(self.stat(stat), op.clone()),
                            _ => ir::PrintArg::Value(self.expr(a)),
                        })
                        .collect(),
                    to_string: p.form.to_string,
                }
            }
        };
        Expr {
            kind,
            ty: result,
            span: e.span,
        }
    }

    fn concat(&mut self, e: &hir::Expr, parts: &mut Vec<Expr>) {
        if let H::Binary(BinaryOp::Concat, a, b) = &e.kind {
            self.concat(a, parts);
            self.concat(b, parts);
        } else {
            parts.push(self.expr(e));
        }
    }
}
