//! Calls of script functions.

use super::{Lower, Place, Val, signature};
use crate::error::CodegenError;
use crate::resolve;
use crate::state::Symbol;
use crate::walk::{self, Visitor};
use cranelift_codegen::ir::InstBuilder;
use script::ir::{Expr, ExprKind, Function, FunctionId, LValue, LocalId, Stmt, StmtKind, Type};
use script::span::Span;

/// Functions compiled in place inside one another, at most.
const MAX_INLINING: usize = 8;
/// Calls compiled in place in one handler or function, at most.
const MAX_INLINED: u32 = 256;

impl<'p> Lower<'_, 'p> {
    pub(super) fn call_function(
        &mut self,
        id: FunctionId,
        args: &'p [Expr],
        span: Span,
    ) -> Result<Val, CodegenError> {
        let Some(function) = resolve::function(self.state.program, id) else {
            return self.error(span, "unknown function");
        };
        let mut values = Vec::with_capacity(args.len());
        let plain = plain(function);
        for (n, arg) in args.iter().enumerate() {
            let mut value = self.operand(arg, &args[n + 1..])?;
            if let Val::Str(address, len) = value
                && plain.is_none_or(|body| self.changes_variables(body))
                && Self::unsettled(arg)
            {
                let (address, len) = self.settle(address, len);
                value = Val::Str(address, len);
            }
            values.push(value);
        }
        match plain {
            Some(body) if self.may_inline(id, function) => self.inline(id, body, values),
            _ => self.call_with(id, &values, span),
        }
    }

    /// What leads to recursion is called, so that depths are counted, and code does not grow without end.
    fn may_inline(&self, id: FunctionId, function: &Function) -> bool {
        !self.state.nesting.is_recursive(id)
            && self.inlining.len() < MAX_INLINING
            && self.inlined < MAX_INLINED
            && !self.inlining.contains(&id)
            && !self.function.is_some_and(|f| std::ptr::eq(f, function))
    }

    /// Compiles a function's only expression here.
    fn inline(
        &mut self,
        id: FunctionId,
        body: &'p Expr,
        args: Vec<Val>,
    ) -> Result<Val, CodegenError> {
        self.scopes
            .push(args.into_iter().map(Place::Bound).collect());
        self.inlining.push(id);
        self.inlined += 1;
        let value = self.expr(body);
        // The function's statement. What the library does in C has none.
        if !matches!(body.kind, ExprKind::Intrinsic(..)) {
            self.pending_actions += 1;
        }
        self.inlining.pop();
        self.scopes.pop();
        value
    }

    pub(super) fn call_with(
        &mut self,
        id: FunctionId,
        args: &[Val],
        span: Span,
    ) -> Result<Val, CodegenError> {
        let Some(function) = resolve::function(self.state.program, id) else {
            return self.error(span, "unknown function");
        };
        self.flush_actions();
        let signature = signature(Some(function));
        let unit = self.state.function_unit(
            id,
            self.context,
            self.counting,
            &self.answers,
            self.is_return,
        );
        let f = self.import(Symbol::Unit(unit), signature.clone(), true);
        let mut words = vec![self.arena, self.slot, self.frame, self.site];
        for arg in args {
            match *arg {
                Val::Long(v) => words.push(v),
                Val::Str(a, n) => words.extend([a, n]),
                Val::Unit => words.push(self.number(0)),
            }
        }
        let dst = (function.result == Type::String).then(|| self.temporary());
        words.extend(dst);
        if words.len() != signature.params.len() {
            return self.error(
                span,
                format!("wrong number of arguments for {}", function.name),
            );
        }
        self.unit.calls = true;
        self.unit.calls_functions = true;
        let inst = self.b.ins().call(f, &words);
        let result = self.b.inst_results(inst).first().copied();
        self.check_call();
        Ok(match (result, dst) {
            (Some(len), Some(dst)) => Val::Str(dst, len),
            (Some(v), None) => Val::Long(v),
            _ => Val::Unit,
        })
    }
}

/// The expression of a function that consists of nothing else, has no overloads and leaves its parameters alone.
fn plain(function: &Function) -> Option<&Expr> {
    if function.next.is_some() || function.body.locals.len() != function.params as usize {
        return None;
    }
    let mut stmts = function.body.stmts.as_slice();
    while let [
        Stmt {
            kind: StmtKind::Block(inner),
            ..
        },
    ] = stmts
    {
        stmts = inner;
    }
    let [stmt] = stmts else { return None };
    let expr = match (&stmt.kind, function.result) {
        (StmtKind::Return(Some(e)), _) => e,
        (StmtKind::Expr(e), Type::Unit) if e.ty == Type::Unit => e,
        _ => return None,
    };
    let mut assigns = Assigns(false);
    assigns.expr(expr, true);
    (!assigns.0).then_some(expr)
}

/// Looks for changes of local variables.
struct Assigns(bool);

impl<'p> Visitor<'p> for Assigns {
    fn expr(&mut self, expr: &'p Expr, _used: bool) {
        match &expr.kind {
            ExprKind::Assign(LValue::Local(LocalId(_)), _)
            | ExprKind::AssignOp(_, LValue::Local(_), _)
            | ExprKind::Step {
                target: LValue::Local(_),
                ..
            } => self.0 = true,
            _ => walk::walk_expr(self, expr),
        }
    }
}
