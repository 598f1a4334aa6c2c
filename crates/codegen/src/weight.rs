//! How many statements a handler can execute, when that can be told beforehand: such handlers need not count.

use crate::resolve;
use crate::walk::{self, Visitor};
use script::ir::{Body, Expr, ExprKind, FunctionId, Program, Stmt, StmtKind};
use std::collections::HashMap;

/// The largest number of statements that one run can execute; `None` with loops or recursion.
pub(crate) fn weigh(program: &Program, body: &Body) -> Option<u64> {
    let mut weight = Weight {
        program,
        functions: HashMap::new(),
        sum: Some(0),
    };
    walk::walk_stmts(&mut weight, &body.stmts);
    weight.sum
}

struct Weight<'p> {
    program: &'p Program,
    functions: HashMap<FunctionId, Option<u64>>,
    sum: Option<u64>,
}

impl Weight<'_> {
    fn add(&mut self, more: Option<u64>) {
        self.sum = match (self.sum, more) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            _ => None,
        };
    }

    fn function(&mut self, id: FunctionId) -> Option<u64> {
        if let Some(&known) = self.functions.get(&id) {
            return known;
        }
        // Met again while it is weighed, it is recursive.
        self.functions.insert(id, None);
        let function = resolve::function(self.program, id)?;
        let outer = self.sum.replace(0);
        walk::walk_stmts(self, &function.body.stmts);
        if let Some(next) = function.next {
            let next = self.function(next);
            self.add(next);
        }
        let weight = std::mem::replace(&mut self.sum, outer);
        self.functions.insert(id, weight);
        weight
    }
}

impl<'p> Visitor<'p> for Weight<'p> {
    fn stmt(&mut self, stmt: &'p Stmt) {
        match stmt.kind {
            StmtKind::Loop { .. } | StmtKind::Foreach(_) | StmtKind::ForeachBucket { .. } => {
                self.sum = None
            }
            StmtKind::Block(_) => {}
            _ => self.add(Some(1)),
        }
        walk::walk_stmt(self, stmt);
    }

    fn expr(&mut self, expr: &'p Expr, _used: bool) {
        if let ExprKind::Call(id, _) = &expr.kind {
            let weight = self.function(*id);
            self.add(weight);
        }
        walk::walk_expr(self, expr);
    }
}
