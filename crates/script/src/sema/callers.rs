//! Pass: functions that name target variables. Such a variable means what it means where the function is called from,
//! so it has a meaning only in calls from probes of processes (NEWS of SystemTap 4.3: context-sensitive functions).

use super::effects::{Effects, Functions};
use super::hir::*;

/// Takes the meaning from target variables of functions that probes outside processes call, and decides `@defined`
/// where nobody else calls. `in_process` says of each probe whether it runs in a process.
pub fn settle(program: &mut Program, in_process: &[bool]) {
    let functions = Functions::of(program);
    let (mut outside, mut inside) = (Effects::default(), Effects::default());
    for (probe, &process) in program.probes.iter().zip(in_process) {
        let found = if process { &mut inside } else { &mut outside };
        functions.stmt(&probe.body.stmt, found);
        let conditions = probe.points.iter().filter_map(|p| p.condition.as_ref());
        conditions.for_each(|c| functions.expr(c, &mut outside));
    }
    let inside = functions.reached(inside.calls);
    for id in functions.reached(outside.calls) {
        let shared = inside.contains(&id);
        if let Some(function) = program.functions.get_mut(id.0 as usize) {
            in_stmt(&mut function.body_mut().stmt, shared);
        }
    }
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
