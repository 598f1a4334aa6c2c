//! Statements.

use super::expr::is_literal;
use super::{Loop, Lower, Result_, Val, flags};
use crate::error::CodegenError;
use crate::resolve;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use runtime::layout::Slot;
use script::ast::{Direction, SortKey};
use script::ir::{Expr, Foreach, LocalId, StatRef, Stmt, StmtKind, Type};
use script::span::Span;
use std::mem::offset_of;

impl<'p> Lower<'_, 'p> {
    pub(super) fn stmts(&mut self, stmts: &'p [Stmt]) -> Result<(), CodegenError> {
        for stmt in stmts {
            let mark = self.buffers;
            self.stmt(stmt)?;
            self.buffers = mark;
        }
        Ok(())
    }

    /// After a jump: what follows can't be reached, but is compiled into a block of its own (and then dropped).
    fn unreachable(&mut self) {
        let dead = self.b.create_block();
        self.b.switch_to_block(dead);
    }

    fn stmt(&mut self, stmt: &'p Stmt) -> Result<(), CodegenError> {
        self.state.current = stmt.span;
        // Where an action is counted is stap's choice: that of an expression after it, that of a round before it.
        if !matches!(stmt.kind, StmtKind::Block(_) | StmtKind::Expr(_)) {
            self.pending_actions += 1;
        }
        match &stmt.kind {
            StmtKind::Expr(e) => {
                self.effect(e)?;
                self.pending_actions += 1;
            }
            StmtKind::Block(stmts) => {
                self.stmts(stmts)?;
                if stmts.len() > 1 {
                    self.state.current = stmt.span;
                }
            }
            StmtKind::If(cond, yes, no) => match self.answers.constant(cond) {
                Some(true) => self.stmts(yes)?,
                Some(false) => self.stmts(no)?,
                None => {
                    self.flush_actions();
                    let (yes_block, no_block, done) = (
                        self.b.create_block(),
                        self.b.create_block(),
                        self.b.create_block(),
                    );
                    self.branch(cond, yes_block, no_block)?;
                    for (block, stmts) in [(yes_block, yes), (no_block, no)] {
                        self.b.switch_to_block(block);
                        self.stmts(stmts)?;
                        self.flush_actions();
                        self.b.ins().jump(done, &[]);
                    }
                    self.b.switch_to_block(done);
                }
            },
            StmtKind::Loop { cond, body, step } => {
                self.while_loop(cond.as_ref(), body, step.as_ref())?
            }
            StmtKind::Foreach(foreach) => self.foreach(foreach, stmt.span)?,
            StmtKind::ForeachBucket {
                key,
                value,
                stat,
                descending,
                limit,
                body,
            } => self.foreach_bucket(
                *key,
                *value,
                stat,
                *descending,
                limit.as_ref(),
                body,
                stmt.span,
            )?,
            StmtKind::Return(value) => {
                if let Some(e) = value {
                    let v = self.expr(e)?;
                    self.set_result(v);
                }
                self.flush_actions();
                self.leave_now();
            }
            StmtKind::DeleteElement(id, keys) => self.delete(*id, keys, stmt.span)?,
            StmtKind::DeleteSlice(id, keys) => self.delete_slice(*id, keys)?,
            StmtKind::DeleteAll(id) => self.delete_all(*id),
            StmtKind::Next => {
                self.flush_actions();
                self.leave_loops(0);
                self.next_overload(stmt.span)?;
                let leave = self.leave;
                self.b.ins().jump(leave, &[]);
                self.unreachable();
            }
            StmtKind::Break | StmtKind::Continue => {
                let Some(&Loop {
                    exit,
                    next,
                    iterations,
                }) = self.loops.last()
                else {
                    // The front end has refused it where the program is to run.
                    return Ok(());
                };
                self.flush_actions();
                self.leave_loops(iterations);
                let to = if matches!(stmt.kind, StmtKind::Break) {
                    exit
                } else {
                    next
                };
                self.b.ins().jump(to, &[]);
                self.unreachable();
            }
            StmtKind::Try {
                body,
                message,
                handler,
            } => self.try_catch(body, *message, handler, stmt.span)?,
        }
        Ok(())
    }

    /// Leaves the handler (or the function) at once.
    pub(super) fn leave_now(&mut self) {
        self.leave_loops(0);
        let leave = self.leave;
        self.b.ins().jump(leave, &[]);
        self.unreachable();
    }

    /// Ends the iterations begun since there were `keep` of them (the outermost takes the inner ones with it).
    fn leave_loops(&mut self, keep: usize) {
        if let Some(&outermost) = self.iterations.get(keep) {
            let iter = self.b.use_var(outermost);
            let (arena, slot) = (self.arena, self.slot);
            self.call("map_iter_end", &[arena, slot, iter]);
        }
    }

    fn set_result(&mut self, value: Val) {
        match (self.result, value) {
            (Some(Result_::Long(v)), Val::Long(x)) => self.b.def_var(v, x),
            (Some(Result_::Str(dst, v)), Val::Str(address, len)) => {
                let cap = self.capacity();
                let len = self.call("str_copy", &[dst, cap, address, len])[0];
                self.b.def_var(v, len);
            }
            _ => {}
        }
    }

    /// `next` in a function: the result is that of the next overload, called with the same arguments.
    fn next_overload(&mut self, span: Span) -> Result<(), CodegenError> {
        let Some(function) = self.function else {
            return Ok(());
        };
        let Some(next) = function.next else {
            self.canned("exhausted");
            self.store_location(function.span);
            let target = self.error;
            self.b.ins().jump(target, &[]);
            self.unreachable();
            return Ok(());
        };
        if resolve::function(self.state.program, next).is_none() {
            return self.error(span, "unknown function");
        }
        let params = self.params.clone();
        let value = self.call_with(next, &params, span)?;
        self.set_result(value);
        Ok(())
    }

    fn while_loop(
        &mut self,
        cond: Option<&'p Expr>,
        body: &'p [Stmt],
        step: Option<&'p Expr>,
    ) -> Result<(), CodegenError> {
        self.flush_actions();
        let (header, inner, next, exit) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        self.b.ins().jump(header, &[]);
        self.b.switch_to_block(header);
        match cond {
            Some(cond) => self.branch(cond, inner, exit)?,
            None => {
                self.b.ins().jump(inner, &[]);
            }
        }
        self.b.switch_to_block(inner);
        self.loops.push(Loop {
            exit,
            next,
            iterations: self.iterations.len(),
        });
        // A round counts even when its body is empty, or the loop would never end.
        self.pending_actions += 1;
        self.stmts(body)?;
        self.loops.pop();
        self.flush_actions();
        self.b.ins().jump(next, &[]);
        self.b.switch_to_block(next);
        if let Some(step) = step {
            self.effect(step)?;
        }
        self.flush_actions();
        self.b.ins().jump(header, &[]);
        self.b.switch_to_block(exit);
        // All steps together count once, after the loop.
        self.pending_actions += u32::from(step.is_some());
        Ok(())
    }

    /// The frame of a `foreach`: `begin` gives the handle, `round` fetches the next element (its value is 0, or -1 with
    /// `end`, when there is none) and binds variables.
    fn iterate(
        &mut self,
        iter: Value,
        fetch: impl FnOnce(&mut Self, Value) -> (Value, Value),
        bind: impl FnOnce(&mut Self, Value) -> Result<(), CodegenError>,
        body: &'p [Stmt],
    ) -> Result<(), CodegenError> {
        let handle = self.b.declare_var(types::I64);
        self.b.def_var(handle, iter);
        let (header, inner, exit, failed) = (
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
            self.b.create_block(),
        );
        let outer_error = std::mem::replace(&mut self.error, failed);
        self.b.ins().jump(header, &[]);
        self.b.switch_to_block(header);
        let iter = self.b.use_var(handle);
        let (entry, more) = fetch(self, iter);
        self.b.ins().brif(more, inner, &[], exit, &[]);
        self.b.switch_to_block(inner);
        bind(self, entry)?;
        let iterations = self.iterations.len();
        self.loops.push(Loop {
            exit,
            next: header,
            iterations: iterations + 1,
        });
        self.iterations.push(handle);
        self.pending_actions += 1;
        self.stmts(body)?;
        self.iterations.pop();
        self.loops.pop();
        self.flush_actions();
        self.b.ins().jump(header, &[]);

        self.error = outer_error;
        let (arena, slot) = (self.arena, self.slot);
        self.b.set_cold_block(failed);
        self.b.switch_to_block(failed);
        let iter = self.b.use_var(handle);
        self.call("map_iter_end", &[arena, slot, iter]);
        self.b.ins().jump(outer_error, &[]);

        self.b.switch_to_block(exit);
        let iter = self.b.use_var(handle);
        self.call("map_iter_end", &[arena, slot, iter]);
        Ok(())
    }

    fn limit(&mut self, limit: Option<&'p Expr>) -> Result<Value, CodegenError> {
        match limit {
            Some(e) => {
                let v = self.long(e)?;
                let zero = self.number(0);
                Ok(self.b.ins().smax(v, zero))
            }
            None => Ok(self.number(-1)),
        }
    }

    fn foreach(&mut self, foreach: &'p Foreach, span: Span) -> Result<(), CodegenError> {
        self.flush_actions();
        let limit = self.limit(foreach.limit.as_ref())?;
        let (keys, mask) = self.slice(foreach.slice.as_deref())?;
        let sort = self.number(self.state.sort(foreach) as i64);
        let at = self.state.storage(foreach.map).at;
        let map = self.number(at as i64);
        let (arena, slot) = (self.arena, self.slot);
        let iter = self.call(
            "map_iter_begin",
            &[arena, slot, map, sort, limit, keys, mask],
        )[0];
        self.check(span);
        let fields = self.state.entry_fields(foreach.map);
        self.iterate(
            iter,
            |l, iter| {
                // Without a handle there is nothing to go through.
                let (ask, done) = (l.b.create_block(), l.b.create_block());
                let entry = l.b.append_block_param(done, types::I64);
                l.b.ins().brif(iter, ask, &[], done, &[iter.into()]);
                l.b.switch_to_block(ask);
                let next = l.call("map_iter_next", &[arena, slot, iter])[0];
                l.b.ins().jump(done, &[next.into()]);
                l.b.switch_to_block(done);
                (entry, entry)
            },
            |l, entry| {
                for (local, (offset, ty)) in foreach.keys.iter().zip(fields.keys) {
                    l.bind(*local, entry, offset, ty, span)?;
                }
                if let (Some(local), Some((offset, ty))) = (foreach.value, fields.value) {
                    l.bind(local, entry, offset, ty, span)?;
                }
                Ok(())
            },
            &foreach.body,
        )
    }

    fn bind(
        &mut self,
        local: LocalId,
        entry: Value,
        offset: i64,
        ty: Type,
        span: Span,
    ) -> Result<(), CodegenError> {
        let cell = self.b.ins().iadd_imm_s(entry, offset);
        let value = match ty {
            Type::String => self.load_string(cell),
            _ => Val::Long(self.b.ins().load(types::I64, flags(), cell, 0)),
        };
        self.set_local(local, value, false, span).map(|_| ())
    }

    #[allow(clippy::too_many_arguments)]
    fn foreach_bucket(
        &mut self,
        key: LocalId,
        value: Option<LocalId>,
        stat: &'p StatRef,
        order: Option<(SortKey, Direction)>,
        limit: Option<&'p Expr>,
        body: &'p [Stmt],
        span: Span,
    ) -> Result<(), CodegenError> {
        self.flush_actions();
        let limit = self.limit(limit)?;
        let cell = self.cell_to_read(stat, span)?;
        let shape = self.stat_shape(stat);
        let sort = self.number(crate::storage::sort(order.as_ref(), false) as i64);
        let (arena, slot) = (self.arena, self.slot);
        let iter = self.call("hist_iter_begin", &[arena, slot, cell, shape, sort, limit])[0];
        self.check(span);
        self.iterate(
            iter,
            |l, iter| {
                let (ask, done) = (l.b.create_block(), l.b.create_block());
                let index = l.b.append_block_param(done, types::I64);
                let end = l.number(-1);
                l.b.ins().brif(iter, ask, &[], done, &[end.into()]);
                l.b.switch_to_block(ask);
                let next = l.call("hist_iter_next", &[arena, slot, iter])[0];
                l.b.ins().jump(done, &[next.into()]);
                l.b.switch_to_block(done);
                let more =
                    l.b.ins()
                        .icmp_imm_s(IntCC::SignedGreaterThanOrEqual, index, 0);
                (index, more)
            },
            |l, index| {
                l.set_local(key, Val::Long(index), false, span)?;
                if let Some(value) = value {
                    let count = l.call("stat_bucket", &[arena, slot, cell, shape, index])[0];
                    l.set_local(value, Val::Long(count), false, span)?;
                }
                Ok(())
            },
            body,
        )
    }

    fn try_catch(
        &mut self,
        body: &'p [Stmt],
        message: Option<LocalId>,
        handler: &'p [Stmt],
        span: Span,
    ) -> Result<(), CodegenError> {
        self.flush_actions();
        let (caught, done) = (self.b.create_block(), self.b.create_block());
        let outer = std::mem::replace(&mut self.error, caught);
        self.stmts(body)?;
        self.flush_actions();
        self.b.ins().jump(done, &[]);
        self.error = outer;
        self.b.switch_to_block(caught);
        let slot = self.slot;
        if self.counting {
            // That the actions are used up is no error to be caught.
            let offset = offset_of!(Slot, actions) as i32;
            let left = self.b.ins().load(types::I64, flags(), slot, offset);
            let over = self
                .b
                .ins()
                .icmp_imm_s(IntCC::SignedLessThanOrEqual, left, 0);
            let go_on = self.b.create_block();
            self.b.ins().brif(over, outer, &[], go_on, &[]);
            self.b.switch_to_block(go_on);
            self.pending_actions += 1;
        }
        let (dst, cap) = match message {
            Some(_) => (self.temporary(), self.capacity()),
            None => (self.number(0), self.number(0)),
        };
        let len = self.call("catch_error", &[slot, dst, cap])[0];
        if let Some(local) = message {
            self.set_local(local, Val::Str(dst, len), false, span)?;
        }
        self.stmts(handler)?;
        self.flush_actions();
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        Ok(())
    }

    /// True when a string expression's bytes may lie where a called function could change them.
    pub(super) fn unsettled(expr: &Expr) -> bool {
        !is_literal(expr)
            && matches!(
                expr.kind,
                script::ir::ExprKind::Global(_)
                    | script::ir::ExprKind::Element(..)
                    | script::ir::ExprKind::Ternary(..)
            )
    }
}
