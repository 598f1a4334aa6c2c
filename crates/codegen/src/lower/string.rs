//! Strings: literals, concatenation, local variables.

use super::{Lower, Place, Val, flags};
use crate::error::CodegenError;
use crate::resolve;
use crate::walk::{self, Visitor};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use runtime::layout::StrBuf;
use script::ir::{Expr, ExprKind, FunctionId, LValue, LocalId, Program, Stmt, StmtKind};
use script::span::Span;

impl<'p> Lower<'_, 'p> {
    /// A constant; cut to MAXSTRINGLEN - 1 bytes and at the first NUL.
    pub(super) fn literal(&mut self, bytes: &[u8], span: Span) -> Result<Val, CodegenError> {
        let cap = self.state.limits.max_string as usize - 1;
        let end = bytes
            .iter()
            .position(|&b| b == 0)
            .unwrap_or(bytes.len())
            .min(cap);
        let len = self.number(end as i64);
        if end == 0 {
            return Ok(Val::Str(self.arena, len));
        }
        let offset = self.state.constant(&bytes[..end], 1, span)?;
        Ok(Val::Str(self.arena_at(offset), len))
    }

    /// The string in a cell of the arena, in place. The length is bounded here since anyone may write to the arena.
    pub(super) fn load_string(&mut self, cell: Value) -> Val {
        let (address, len) = self.str_parts(cell);
        Val::Str(address, len)
    }

    pub(super) fn str_parts(&mut self, cell: Value) -> (Value, Value) {
        let len = self.b.ins().uload32(flags(), cell, 0);
        let cap = self.capacity();
        let len = self.b.ins().umin(len, cap);
        let address = self.b.ins().iadd_imm_s(cell, size_of::<StrBuf>() as i64);
        (address, len)
    }

    pub(super) fn concat(&mut self, a: (Value, Value), b: (Value, Value)) -> Val {
        let dst = self.temporary();
        let cap = self.capacity();
        let len = self.call("str_concat", &[dst, cap, a.0, a.1, b.0, b.1])[0];
        Val::Str(dst, len)
    }

    pub(super) fn concat_all(&mut self, parts: &'p [Expr]) -> Result<Val, CodegenError> {
        let mut strings = Vec::with_capacity(parts.len());
        for (n, part) in parts.iter().enumerate() {
            match self.operand(part, &parts[n + 1..])? {
                Val::Str(address, len) => strings.push((address, len)),
                _ => return self.error(part.span, "a string is expected here"),
            }
        }
        let mut strings = strings.into_iter();
        let (Some(first), second) = (strings.next(), strings.next()) else {
            return Ok(Val::Str(self.arena, self.number(0)));
        };
        let Some(second) = second else {
            return Ok(Val::Str(first.0, first.1));
        };
        let dst = self.temporary();
        let cap = self.capacity();
        let mut len = self.call(
            "str_concat",
            &[dst, cap, first.0, first.1, second.0, second.1],
        )[0];
        for next in strings {
            len = self.call("str_concat", &[dst, cap, dst, len, next.0, next.1])[0];
        }
        Ok(Val::Str(dst, len))
    }

    /// Gives a local its value. Strings are copied to the local's own buffer, except literals, which don't change.
    pub(super) fn set_local(
        &mut self,
        id: LocalId,
        value: Val,
        literal: bool,
        span: Span,
    ) -> Result<Val, CodegenError> {
        match (self.place(id), value) {
            (Some(Place::Long(v)), Val::Long(x)) => {
                self.b.def_var(v, x);
                Ok(value)
            }
            (Some(Place::Str(a, n, _)), Val::Str(address, len)) if literal => {
                self.b.def_var(a, address);
                self.b.def_var(n, len);
                Ok(value)
            }
            (Some(Place::Str(a, n, buffer)), Val::Str(address, len)) => {
                let own = self.buffer_address(buffer);
                let cap = self.capacity();
                let len = self.call("str_copy", &[own, cap, address, len])[0];
                self.b.def_var(a, own);
                self.b.def_var(n, len);
                Ok(Val::Str(own, len))
            }
            _ => self.error(span, "a value of another type is expected here"),
        }
    }

    /// The same string in a place that no statement of another function can change while it is in use.
    pub(super) fn settle(&mut self, address: Value, len: Value) -> (Value, Value) {
        let dst = self.temporary();
        let cap = self.capacity();
        let len = self.call("str_copy", &[dst, cap, address, len])[0];
        (dst, len)
    }

    /// An operand whose value must outlast the evaluation of `later`, which may change the variable that it lies in.
    pub(super) fn operand(&mut self, e: &'p Expr, later: &'p [Expr]) -> Result<Val, CodegenError> {
        let value = self.expr(e)?;
        Ok(match value {
            Val::Str(address, len)
                if Self::in_a_variable(e) && later.iter().any(|e| self.changes_variables(e)) =>
            {
                let (address, len) = self.settle(address, len);
                Val::Str(address, len)
            }
            other => other,
        })
    }

    /// True when a string expression's bytes may lie in a variable.
    pub(super) fn in_a_variable(e: &Expr) -> bool {
        match e.kind {
            ExprKind::Local(_)
            | ExprKind::Assign(..)
            | ExprKind::AssignOp(..)
            | ExprKind::Call(..) => true,
            _ => Self::unsettled(e),
        }
    }

    /// True when evaluating the expression may change a variable that holds a string.
    pub(super) fn changes_variables(&self, e: &'p Expr) -> bool {
        let mut changes = Changes {
            program: self.state.program,
            seen: Vec::new(),
            found: false,
        };
        changes.expr(e, true);
        changes.found
    }

    /// Stores the words of a string or a number as a [`runtime::layout::Value`].
    pub(super) fn store_value(
        &mut self,
        at: cranelift_codegen::ir::StackSlot,
        index: usize,
        value: Val,
    ) {
        let offset = (index * size_of::<runtime::layout::Value>()) as i32;
        match value {
            Val::Long(v) => {
                self.b.ins().stack_store(types::I64, v, at, offset);
            }
            Val::Str(address, len) => {
                self.b.ins().stack_store(types::I64, address, at, offset);
                self.b.ins().stack_store(types::I64, len, at, offset + 8);
            }
            Val::Unit => {}
        }
    }

    /// The result of a function that gives address and length.
    pub(super) fn pair(&mut self, results: &[Value]) -> Val {
        match *results {
            [address, len] => Val::Str(address, len),
            _ => Val::Str(self.arena, self.b.ins().iconst(types::I64, 0)),
        }
    }
}

/// Looks for what may change a variable that a string lies in, also in the functions that are called.
struct Changes<'p> {
    program: &'p Program,
    /// Functions looked into.
    seen: Vec<FunctionId>,
    found: bool,
}

impl<'p> Visitor<'p> for Changes<'p> {
    fn stmt(&mut self, stmt: &'p Stmt) {
        self.found |= matches!(
            stmt.kind,
            StmtKind::DeleteElement(..) | StmtKind::DeleteSlice(..) | StmtKind::DeleteAll(_)
        );
        walk::walk_stmt(self, stmt);
    }

    fn expr(&mut self, expr: &'p Expr, _used: bool) {
        match &expr.kind {
            // The local variables of a called function are its own.
            ExprKind::Assign(LValue::Local(_), _) | ExprKind::AssignOp(_, LValue::Local(_), _) => {
                self.found |= self.seen.is_empty();
            }
            ExprKind::Assign(..) | ExprKind::AssignOp(..) | ExprKind::Step { .. } => {
                self.found = true;
            }
            &ExprKind::Call(id, _) if !self.seen.contains(&id) => {
                let depth = self.seen.len();
                let mut next = Some(id);
                while let Some(f) = next.and_then(|id| resolve::function(self.program, id)) {
                    self.seen.extend(next);
                    walk::walk_stmts(self, &f.body.stmts);
                    next = f.next.filter(|id| !self.seen.contains(id));
                }
                if depth == 0 {
                    self.seen.clear();
                }
            }
            _ => {}
        }
        walk::walk_expr(self, expr);
    }
}
