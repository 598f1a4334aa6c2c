//! `@probewrite(x)`: whether the handler that an alias is put around writes `x` (stap(1), PROBE ALIASES).

use std::collections::HashSet;

use crate::ast::{Expr, ExprKind, Foreach, Stmt, StmtKind, TargetStep};

/// The names of the variables, `$` included, that a handler writes.
pub fn written(body: &Stmt) -> HashSet<String> {
    let mut found = HashSet::new();
    stmt(body, &mut found);
    found
}

fn stmt(s: &Stmt, found: &mut HashSet<String>) {
    match &s.kind {
        StmtKind::Null
        | StmtKind::Next
        | StmtKind::Break
        | StmtKind::Continue
        | StmtKind::Embedded(_)
        | StmtKind::Return(None) => {}
        StmtKind::Block(list) => list.iter().for_each(|s| stmt(s, found)),
        StmtKind::Expr(e) | StmtKind::Return(Some(e)) => expr(e, found),
        StmtKind::Delete(e) => {
            target(e, found);
            expr(e, found);
        }
        StmtKind::If(c, then, other) => {
            expr(c, found);
            stmt(then, found);
            other.iter().for_each(|s| stmt(s, found));
        }
        StmtKind::While(c, body) => {
            expr(c, found);
            stmt(body, found);
        }
        StmtKind::For(init, cond, step, body) => {
            [init, cond, step]
                .into_iter()
                .flatten()
                .for_each(|e| expr(e, found));
            stmt(body, found);
        }
        StmtKind::Foreach(f) => foreach(f, found),
        StmtKind::Try(body, message, handler) => {
            stmt(body, found);
            found.extend(message.iter().map(|name| name.text.clone()));
            stmt(handler, found);
        }
    }
}

fn foreach(f: &Foreach, found: &mut HashSet<String>) {
    let names = f.keys.iter().chain(&f.value);
    found.extend(names.map(|name| name.text.clone()));
    let keys = f.slice.iter().flatten().flatten();
    keys.chain(&f.limit).for_each(|e| expr(e, found));
    stmt(&f.body, found);
}

/// Notes what is assigned to.
fn target(e: &Expr, found: &mut HashSet<String>) {
    match &e.kind {
        ExprKind::Symbol(name) | ExprKind::Target { name, .. } => {
            found.insert(name.clone());
        }
        ExprKind::Index(base, _) | ExprKind::Autocast { operand: base, .. } => target(base, found),
        _ => {}
    }
}

fn expr(e: &Expr, found: &mut HashSet<String>) {
    let mut steps: &[TargetStep] = &[];
    match &e.kind {
        ExprKind::Literal(_)
        | ExprKind::Symbol(_)
        | ExprKind::ProbeWrite(_)
        | ExprKind::Perf(_)
        | ExprKind::Embedded(_) => {}
        ExprKind::Index(base, keys) => {
            expr(base, found);
            keys.iter().flatten().for_each(|e| expr(e, found));
        }
        ExprKind::In(keys, array) => {
            keys.iter().flatten().for_each(|e| expr(e, found));
            expr(array, found);
        }
        ExprKind::Call(_, list) | ExprKind::AtWord(_, list) | ExprKind::Print(_, list) => {
            list.iter().for_each(|e| expr(e, found));
        }
        ExprKind::Unary(_, a)
        | ExprKind::Stat(_, a, _)
        | ExprKind::Hist(_, a)
        | ExprKind::Defined(a)
        | ExprKind::Entry(a) => expr(a, found),
        ExprKind::Binary(_, a, b) | ExprKind::Match(a, b, _) => {
            expr(a, found);
            expr(b, found);
        }
        ExprKind::Ternary(a, b, c) => [a, b, c].into_iter().for_each(|e| expr(e, found)),
        ExprKind::Assign(_, left, right) => {
            target(left, found);
            expr(left, found);
            expr(right, found);
        }
        ExprKind::Step { operand, .. } => {
            target(operand, found);
            expr(operand, found);
        }
        ExprKind::Target { steps: own, .. } | ExprKind::AtVar { steps: own, .. } => steps = own,
        ExprKind::Cast {
            operand,
            steps: own,
            ..
        }
        | ExprKind::Autocast {
            operand,
            steps: own,
            ..
        } => {
            expr(operand, found);
            steps = own;
        }
    }
    for step in steps {
        if let TargetStep::Index(e, _) = step {
            expr(e, found);
        }
    }
}
