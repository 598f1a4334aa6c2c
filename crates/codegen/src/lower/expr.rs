//! Expressions.

use super::{Lower, Place, Val, flags};
use crate::error::CodegenError;
use crate::storage::Class;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, InstBuilder, Value, types};
use script::ast::{BinaryOp, UnaryOp};
use script::ir::{Expr, ExprKind, GlobalId, LValue, Type};
use script::span::Span;

impl<'p> Lower<'_, 'p> {
    /// The value of an expression of type long.
    pub(super) fn long(&mut self, expr: &'p Expr) -> Result<Value, CodegenError> {
        match self.expr(expr)? {
            Val::Long(v) => Ok(v),
            _ => self.error(expr.span, "a number is expected here"),
        }
    }

    /// Address and length of an expression of type string.
    pub(super) fn string(&mut self, expr: &'p Expr) -> Result<(Value, Value), CodegenError> {
        match self.expr(expr)? {
            Val::Str(address, len) => Ok((address, len)),
            _ => self.error(expr.span, "a string is expected here"),
        }
    }

    /// An expression for its effect.
    pub(super) fn effect(&mut self, expr: &'p Expr) -> Result<(), CodegenError> {
        if let Some((global, amount)) = self.commutative(expr) {
            return self.add_to_counter(global, amount);
        }
        self.expr(expr).map(|_| ())
    }

    /// `n++`, `n += e` and the like on a global kept per thread.
    fn commutative(&self, expr: &'p Expr) -> Option<(GlobalId, Amount<'p>)> {
        if self.context.in_tracer() {
            return None;
        }
        let (target, amount) = match &expr.kind {
            ExprKind::Step { target, amount, .. } => (target, Amount::Constant(*amount)),
            ExprKind::AssignOp(BinaryOp::Add, target, e) => (target, Amount::Plus(e)),
            ExprKind::AssignOp(BinaryOp::Sub, target, e) => (target, Amount::Minus(e)),
            _ => return None,
        };
        match target {
            LValue::Global(id) if self.state.storage(*id).class == Class::Counter => {
                Some((*id, amount))
            }
            _ => None,
        }
    }

    fn amount(&mut self, amount: Amount<'p>) -> Result<Value, CodegenError> {
        Ok(match amount {
            Amount::Constant(n) => self.number(n),
            Amount::Plus(e) => self.long(e)?,
            Amount::Minus(e) => {
                let v = self.long(e)?;
                self.b.ins().ineg(v)
            }
        })
    }

    fn add_to_counter(&mut self, global: GlobalId, amount: Amount<'p>) -> Result<(), CodegenError> {
        let amount = self.amount(amount)?;
        let offset = self.state.storage(global).cells as i64;
        let slot = self.slot;
        let at = self.b.ins().iadd_imm_s(slot, offset);
        let old = self.b.ins().load(types::I64, flags(), at, 0);
        let new = self.b.ins().iadd(old, amount);
        self.b.ins().store(flags(), new, at, 0);
        Ok(())
    }

    /// The value of an expression.
    pub(super) fn expr(&mut self, expr: &'p Expr) -> Result<Val, CodegenError> {
        let span = expr.span;
        Ok(match &expr.kind {
            ExprKind::Long(n) => Val::Long(self.number(*n)),
            ExprKind::Str(bytes) => self.literal(bytes, span)?,
            ExprKind::Local(id) => match self.place(*id) {
                Some(Place::Long(v)) => Val::Long(self.b.use_var(v)),
                Some(Place::Str(a, n, _)) => Val::Str(self.b.use_var(a), self.b.use_var(n)),
                Some(Place::Bound(v)) => v,
                None => return self.error(span, "unknown local variable"),
            },
            ExprKind::Global(id) => self.read_global(*id),
            ExprKind::Element(id, keys) => self.read_element(*id, keys, span)?,
            ExprKind::In(id, keys) => Val::Long(self.contains(*id, keys, span)?),
            ExprKind::Binary(BinaryOp::LogicalAnd | BinaryOp::LogicalOr, ..)
            | ExprKind::Unary(UnaryOp::Not, _) => Val::Long(self.truth(expr)?),
            ExprKind::Binary(op, a, b) => {
                if let Some(code) = comparison(*op) {
                    let flag = self.compare(code, a, b)?;
                    Val::Long(self.b.ins().uextend(types::I64, flag))
                } else if *op == BinaryOp::Concat {
                    let (a, b) = (self.string(a)?, self.string(b)?);
                    self.concat(a, b)
                } else {
                    let constant = match b.kind {
                        ExprKind::Long(n) => Some(n),
                        _ => None,
                    };
                    let a = self.long(a)?;
                    let b = self.long(b)?;
                    Val::Long(self.arithmetic(*op, a, b, constant, span)?)
                }
            }
            ExprKind::Concat(parts) => self.concat_all(parts)?,
            ExprKind::Match(subject, pattern, negated) => {
                let (address, len) = self.string(subject)?;
                let automaton = self.state.automaton(pattern, span)? as i64;
                let automaton = self.number(automaton);
                let (arena, slot) = (self.arena, self.slot);
                let found = self.call("regex_match", &[arena, slot, automaton, address, len])[0];
                Val::Long(if *negated {
                    self.b.ins().bxor_imm_s(found, 1)
                } else {
                    found
                })
            }
            ExprKind::Unary(op, e) => {
                let v = self.long(e)?;
                Val::Long(match op {
                    UnaryOp::Minus => self.b.ins().ineg(v),
                    UnaryOp::Complement => self.b.ins().bnot(v),
                    UnaryOp::Plus | UnaryOp::Not => v,
                })
            }
            ExprKind::Ternary(cond, yes, no) => self.ternary(cond, yes, no)?,
            ExprKind::Assign(target, e) => {
                let keys = self.element_keys(target, span)?;
                let value = self.expr(e)?;
                self.assign(target, keys, value, is_literal(e), span)?
            }
            ExprKind::AssignOp(op, target, e) => self.assign_op(*op, target, e, span)?,
            ExprKind::Step {
                target,
                amount,
                prefix,
            } => {
                let keys = self.element_keys(target, span)?;
                let amount = *amount;
                let (old, new) = self.update(target, keys, span, |l, old| {
                    Ok(l.b.ins().iadd_imm_s(old, amount))
                })?;
                Val::Long(if *prefix { new } else { old })
            }
            ExprKind::Aggregate(stat, e) => Val::Long(self.aggregate(stat, e, span)?),
            ExprKind::Stat(op, stat, shift) => Val::Long(self.read_stat(*op, stat, *shift, span)?),
            ExprKind::Bucket(stat, _, index) => Val::Long(self.read_bucket(stat, index, span)?),
            ExprKind::Call(id, args) => self.call_function(*id, args, span)?,
            ExprKind::Intrinsic(intrinsic, args) => self.intrinsic(intrinsic.name, args, span)?,
            ExprKind::Target(target) => self.read_target(target, span)?,
            ExprKind::Entry(operand) => self.entry_value(operand, span)?,
            ExprKind::Defined(target) => {
                let defined = self.answers.get(target).is_some();
                Val::Long(self.number(i64::from(defined)))
            }
            ExprKind::Print {
                format,
                args,
                to_string,
            } => match self.print(format, args, *to_string, span)? {
                Val::Unit if expr.ty == Type::Long => Val::Long(self.number(0)),
                printed => printed,
            },
        })
    }

    /// 0 or 1.
    fn truth(&mut self, expr: &'p Expr) -> Result<Value, CodegenError> {
        if let ExprKind::Unary(UnaryOp::Not, e) = &expr.kind
            && self.answers.constant(e).is_none()
        {
            let v = self.long(e)?;
            let flag = self.b.ins().icmp_imm_s(IntCC::Equal, v, 0);
            return Ok(self.b.ins().uextend(types::I64, flag));
        }
        let (yes, no, done) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let result = self.b.append_block_param(done, types::I64);
        self.branch(expr, yes, no)?;
        for (block, n) in [(yes, 1), (no, 0)] {
            self.b.switch_to_block(block);
            let n = self.number(n);
            self.b.ins().jump(done, &[n.into()]);
        }
        self.b.switch_to_block(done);
        Ok(result)
    }

    /// Goes to `yes` when the expression is not 0, else to `no`. What can't be reached isn't compiled.
    pub(super) fn branch(
        &mut self,
        expr: &'p Expr,
        yes: Block,
        no: Block,
    ) -> Result<(), CodegenError> {
        if let Some(known) = self.answers.constant(expr) {
            self.b.ins().jump(if known { yes } else { no }, &[]);
            return Ok(());
        }
        match &expr.kind {
            ExprKind::Unary(UnaryOp::Not, e) => self.branch(e, no, yes),
            ExprKind::Binary(BinaryOp::LogicalAnd, a, b) => {
                let second = self.b.create_block();
                self.branch(a, second, no)?;
                self.b.switch_to_block(second);
                self.branch(b, yes, no)
            }
            ExprKind::Binary(BinaryOp::LogicalOr, a, b) => {
                let second = self.b.create_block();
                self.branch(a, yes, second)?;
                self.b.switch_to_block(second);
                self.branch(b, yes, no)
            }
            ExprKind::Binary(op, a, b) if comparison(*op).is_some() => {
                let code = comparison(*op).unwrap_or(IntCC::Equal);
                let flag = self.compare(code, a, b)?;
                self.b.ins().brif(flag, yes, &[], no, &[]);
                Ok(())
            }
            _ => {
                let v = match self.expr(expr)? {
                    Val::Long(v) => v,
                    Val::Str(_, len) => len,
                    Val::Unit => self.number(0),
                };
                self.b.ins().brif(v, yes, &[], no, &[]);
                Ok(())
            }
        }
    }

    fn compare(&mut self, code: IntCC, a: &'p Expr, b: &'p Expr) -> Result<Value, CodegenError> {
        if a.ty == Type::String {
            let Val::Str(address, len) = self.operand(a, std::slice::from_ref(b))? else {
                return self.error(a.span, "a string is expected here");
            };
            let (a, b) = ((address, len), self.string(b)?);
            let order = self.call("str_compare", &[a.0, a.1, b.0, b.1])[0];
            return Ok(self.b.ins().icmp_imm_s(code, order, 0));
        }
        let a = self.long(a)?;
        let b = self.long(b)?;
        Ok(self.b.ins().icmp(code, a, b))
    }

    fn ternary(
        &mut self,
        cond: &'p Expr,
        yes: &'p Expr,
        no: &'p Expr,
    ) -> Result<Val, CodegenError> {
        if let Some(known) = self.answers.constant(cond) {
            return self.expr(if known { yes } else { no });
        }
        let (yes_block, no_block, done) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.branch(cond, yes_block, no_block)?;
        let mut result = Val::Unit;
        for (block, expr) in [(yes_block, yes), (no_block, no)] {
            self.b.switch_to_block(block);
            let value = self.expr(expr)?;
            if matches!(result, Val::Unit) {
                result = match value {
                    Val::Long(_) => Val::Long(self.b.append_block_param(done, types::I64)),
                    Val::Str(..) => Val::Str(
                        self.b.append_block_param(done, types::I64),
                        self.b.append_block_param(done, types::I64),
                    ),
                    Val::Unit => Val::Unit,
                };
            }
            match value {
                Val::Long(v) => self.b.ins().jump(done, &[v.into()]),
                Val::Str(a, n) => self.b.ins().jump(done, &[a.into(), n.into()]),
                Val::Unit => self.b.ins().jump(done, &[]),
            };
        }
        self.b.switch_to_block(done);
        Ok(result)
    }

    pub(super) fn arithmetic(
        &mut self,
        op: BinaryOp,
        a: Value,
        b: Value,
        constant: Option<i64>,
        span: Span,
    ) -> Result<Value, CodegenError> {
        Ok(match op {
            BinaryOp::Add => self.b.ins().iadd(a, b),
            BinaryOp::Sub => self.b.ins().isub(a, b),
            BinaryOp::Mul => self.b.ins().imul(a, b),
            BinaryOp::Div | BinaryOp::Mod => self.divide(op, a, b, constant, span),
            BinaryOp::Shl => self.b.ins().ishl(a, b),
            BinaryOp::Shr => self.b.ins().sshr(a, b),
            BinaryOp::ShrLogical => self.b.ins().ushr(a, b),
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
            _ => {
                let Some(code) = comparison(op) else {
                    return self.error(span, "operator not possible here");
                };
                let flag = self.b.ins().icmp(code, a, b);
                self.b.ins().uextend(types::I64, flag)
            }
        })
    }

    /// Division rounds towards zero; by 0 is an error; by -1 negates (the processor would trap on the least number).
    fn divide(
        &mut self,
        op: BinaryOp,
        a: Value,
        b: Value,
        constant: Option<i64>,
        span: Span,
    ) -> Value {
        let plain = matches!(constant, Some(n) if n != 0 && n != -1);
        if !plain {
            let zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
            self.raise_if(zero, "division", span);
            let minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, b, -1);
            let one = self.number(1);
            let safe = self.b.ins().select(minus_one, one, b);
            return if op == BinaryOp::Div {
                let quotient = self.b.ins().sdiv(a, safe);
                let negative = self.b.ins().ineg(a);
                self.b.ins().select(minus_one, negative, quotient)
            } else {
                self.b.ins().srem(a, safe)
            };
        }
        if op == BinaryOp::Div {
            self.b.ins().sdiv(a, b)
        } else {
            self.b.ins().srem(a, b)
        }
    }

    fn read_global(&mut self, id: GlobalId) -> Val {
        let at = self.state.storage(id).at;
        if self.state.is_string(id) {
            let at = self.arena_at(at);
            self.load_string(at)
        } else {
            Val::Long(self.load_arena(at))
        }
    }

    /// Gives a value to a place; `keys` are those of an element, evaluated before.
    pub(super) fn assign(
        &mut self,
        target: &'p LValue,
        keys: Option<Vec<Val>>,
        value: Val,
        literal: bool,
        span: Span,
    ) -> Result<Val, CodegenError> {
        match target {
            LValue::Local(id) => return self.set_local(*id, value, literal, span),
            LValue::Global(id) => {
                let at = self.state.storage(*id).at;
                let at = self.arena_at(at);
                self.store_cell(at, value);
            }
            LValue::Element(id, _, name) => {
                let cell = self.insert(*id, &keys.unwrap_or_default(), *name)?;
                self.store_cell(cell, value);
            }
            LValue::Target(target) => {
                let Val::Long(v) = value else {
                    return self.error(span, "only numbers can be written to target variables");
                };
                self.write_target(target, v, span)?;
            }
        }
        Ok(value)
    }

    /// Stores in a cell of the arena.
    pub(super) fn store_cell(&mut self, at: Value, value: Val) {
        match value {
            Val::Long(v) => {
                self.b.ins().store(flags(), v, at, 0);
            }
            Val::Str(address, len) => {
                let arena = self.arena;
                self.call("strbuf_store", &[arena, at, address, len]);
            }
            Val::Unit => {}
        }
    }

    pub(super) fn element_keys(
        &mut self,
        target: &'p LValue,
        span: Span,
    ) -> Result<Option<Vec<Val>>, CodegenError> {
        match target {
            LValue::Element(_, keys, _) => Ok(Some(self.keys(keys, span)?)),
            _ => Ok(None),
        }
    }

    fn assign_op(
        &mut self,
        op: BinaryOp,
        target: &'p LValue,
        e: &'p Expr,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let keys = self.element_keys(target, span)?;
        if op == BinaryOp::Concat {
            let more = self.string(e)?;
            let old = match target {
                LValue::Local(id) => match self.place(*id) {
                    Some(Place::Str(a, n, _)) => (self.b.use_var(a), self.b.use_var(n)),
                    _ => return self.error(span, "a string is expected here"),
                },
                LValue::Global(id) => {
                    let at = self.state.storage(*id).at;
                    let at = self.arena_at(at);
                    self.str_parts(at)
                }
                LValue::Element(id, _, name) => {
                    let cell = self.insert(*id, keys.as_deref().unwrap_or_default(), *name)?;
                    self.str_parts(cell)
                }
                LValue::Target(_) => return self.error(span, "a string is expected here"),
            };
            let value = self.concat(old, more);
            return self.assign(target, keys, value, false, span);
        }
        let constant = match e.kind {
            ExprKind::Long(n) => Some(n),
            _ => None,
        };
        let right = self.long(e)?;
        // A division by 0 is told where the divisor stands.
        let (_, new) = self.update(target, keys, span, |l, old| {
            l.arithmetic(op, old, right, constant, e.span)
        })?;
        Ok(Val::Long(new))
    }

    /// Replaces the number at a place by a function of it: (old, new).
    fn update(
        &mut self,
        target: &'p LValue,
        keys: Option<Vec<Val>>,
        span: Span,
        change: impl FnOnce(&mut Self, Value) -> Result<Value, CodegenError>,
    ) -> Result<(Value, Value), CodegenError> {
        match target {
            LValue::Local(id) => {
                let Some(Place::Long(v)) = self.place(*id) else {
                    return self.error(span, "a number is expected here");
                };
                let old = self.b.use_var(v);
                let new = change(self, old)?;
                self.b.def_var(v, new);
                Ok((old, new))
            }
            LValue::Global(id) => {
                let at = self.state.storage(*id).at;
                let at = self.arena_at(at);
                let old = self.b.ins().load(types::I64, flags(), at, 0);
                let new = change(self, old)?;
                self.b.ins().store(flags(), new, at, 0);
                Ok((old, new))
            }
            LValue::Element(id, _, name) => {
                let cell = self.insert(*id, &keys.unwrap_or_default(), *name)?;
                let old = self.b.ins().load(types::I64, flags(), cell, 0);
                let new = change(self, old)?;
                self.b.ins().store(flags(), new, cell, 0);
                Ok((old, new))
            }
            LValue::Target(target) => {
                let Val::Long(old) = self.read_target(target, span)? else {
                    return self.error(span, "a number is expected here");
                };
                let new = change(self, old)?;
                self.write_target(target, new, span)?;
                Ok((old, new))
            }
        }
    }
}

/// What is added to a counter.
#[derive(Clone, Copy)]
enum Amount<'p> {
    Constant(i64),
    Plus(&'p Expr),
    Minus(&'p Expr),
}

pub(super) fn is_literal(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Str(_))
}

fn comparison(op: BinaryOp) -> Option<IntCC> {
    Some(match op {
        BinaryOp::Eq => IntCC::Equal,
        BinaryOp::Ne => IntCC::NotEqual,
        BinaryOp::Lt => IntCC::SignedLessThan,
        BinaryOp::Le => IntCC::SignedLessThanOrEqual,
        BinaryOp::Gt => IntCC::SignedGreaterThan,
        BinaryOp::Ge => IntCC::SignedGreaterThanOrEqual,
        _ => return None,
    })
}
