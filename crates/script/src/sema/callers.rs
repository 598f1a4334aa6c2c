//! Pass: functions that name target variables. Such a variable means what it means where the function is called from,
//! so it has a meaning only in calls from probes of processes (NEWS of SystemTap 4.3: context-sensitive functions).

use super::hir::*;

/// Takes the meaning from target variables of functions that probes outside processes call, and decides `@defined`
/// where nobody else calls. `in_process` says of each probe whether it runs in a process.
pub fn settle(program: &mut Program, in_process: &[bool]) {
    let (mut outside, mut inside) = (Vec::new(), Vec::new());
    for (probe, &process) in program.probes.iter().zip(in_process) {
        let found = if process { &mut inside } else { &mut outside };
        reach(program, &probe.body.stmt, found);
        let conditions = probe.points.iter().filter_map(|p| p.condition.as_ref());
        conditions.for_each(|c| calls(program, c, &mut outside));
    }
    for id in outside {
        let shared = inside.contains(&id);
        if let Some(function) = program.functions.get_mut(id.0 as usize) {
            in_stmt(&mut function.body_mut().stmt, shared);
        }
    }
}

/// The functions that may be called from a handler.
pub fn reached(program: &Program, stmt: &Stmt) -> Vec<FunctionId> {
    let mut found = Vec::new();
    reach(program, stmt, &mut found);
    found
}

/// Adds the functions that may be called from here.
fn reach(program: &Program, stmt: &Stmt, found: &mut Vec<FunctionId>) {
    stmt.each_expr(&mut |e| calls(program, e, found));
    stmt.each_stmt(&mut |s| reach(program, s, found));
}

fn calls(program: &Program, expr: &Expr, found: &mut Vec<FunctionId>) {
    if let ExprKind::Call(id, _) = expr.kind {
        let mut next = Some(id);
        while let Some(id) = next.filter(|id| !found.contains(id)) {
            found.push(id);
            let function = program.function(id);
            reach(program, &function.body().stmt, found);
            next = function.next;
        }
    }
    expr.each_part(&mut |e| calls(program, e, found));
}

fn in_stmt(stmt: &mut Stmt, shared: bool) {
    stmt.each_expr_mut(&mut |e| in_expr(e, shared));
    stmt.each_stmt_mut(&mut |s| in_stmt(s, shared));
}

fn in_expr(expr: &mut Expr, shared: bool) {
    match &mut expr.kind {
        // Each caller has its own answer, which is found when its handler is compiled.
        ExprKind::Defined(_) if shared => return,
        ExprKind::Defined(inner) => {
            let resolvable = matches!(&inner.kind, ExprKind::Target(t) if t.own_module());
            if !resolvable {
                *expr = Expr::long(0, expr.span);
                return;
            }
        }
        ExprKind::Target(t) if !shared => t.resolvable = t.own_module(),
        _ => {}
    }
    expr.each_part_mut(&mut |e| in_expr(e, shared));
}
