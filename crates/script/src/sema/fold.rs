//! Pass: constant folding, and with it branches that are never taken and statements that are never reached.

use super::effects::{Effects, Functions};
use super::hir::*;
use crate::ast::{BinaryOp, UnaryOp};

/// Folds a statement; true when something changed.
pub fn stmt(s: &mut Stmt, functions: &Functions) -> bool {
    let mut changed = false;
    s.each_stmt_mut(&mut |s| changed |= stmt(s, functions));
    s.each_expr_mut(&mut |e| changed |= expr(e, functions));
    let span = s.span;
    let new = match &mut s.kind {
        StmtKind::If(cond, then, other) => match cond.kind {
            ExprKind::Long(0) => Some(match other.take() {
                Some(s) => *s,
                None => Stmt::null(span),
            }),
            ExprKind::Long(_) => Some(std::mem::replace(&mut **then, Stmt::null(span))),
            _ => None,
        },
        StmtKind::Loop {
            init,
            cond:
                Some(Expr {
                    kind: ExprKind::Long(0),
                    ..
                }),
            ..
        } => Some(match init.take() {
            Some(e) => Stmt {
                kind: StmtKind::Expr(e),
                span,
            },
            None => Stmt::null(span),
        }),
        StmtKind::Block(list) => {
            changed |= flatten(list);
            let before = list.len();
            if let Some(at) = list.iter().position(|s| {
                matches!(
                    s.kind,
                    StmtKind::Return(_) | StmtKind::Next | StmtKind::Break | StmtKind::Continue
                )
            }) {
                list.truncate(at + 1);
            }
            changed |= list.len() != before;
            None
        }
        _ => None,
    };
    if let Some(new) = new {
        *s = new;
        changed = true;
    }
    changed
}

/// Leaves of conditional statements and expressions whose condition is known only the part that counts, whether or not
/// the types of the parts agree.
pub fn decide(s: &mut Stmt, functions: &Functions) {
    let span = s.span;
    if let StmtKind::If(cond, then, other) = &mut s.kind
        && let Some(holds) = known(cond, functions)
    {
        *s = match (holds, other.take()) {
            (true, _) => std::mem::replace(&mut **then, Stmt::null(span)),
            (false, Some(other)) => *other,
            (false, None) => Stmt::null(span),
        };
        return decide(s, functions);
    }
    s.each_expr_mut(&mut |e| decide_in_expr(e, functions));
    s.each_stmt_mut(&mut |s| decide(s, functions));
}

fn decide_in_expr(e: &mut Expr, functions: &Functions) {
    if let ExprKind::Ternary(cond, a, b) = &mut e.kind
        && let Some(holds) = known(cond, functions)
    {
        let chosen = if holds { a } else { b };
        let span = chosen.span;
        *e = std::mem::replace(&mut **chosen, Expr::long(0, span));
        return decide_in_expr(e, functions);
    }
    e.each_part_mut(&mut |e| decide_in_expr(e, functions));
}

/// The truth of a condition, where it is known.
fn known(condition: &Expr, functions: &Functions) -> Option<bool> {
    let mut folded = condition.clone();
    while expr(&mut folded, functions) {}
    match folded.kind {
        ExprKind::Long(n) => Some(n != 0),
        _ => None,
    }
}

/// Brings the statements of inner blocks into the one around them and drops what does nothing; true when there were
/// inner blocks of several statements.
pub fn flatten(list: &mut Vec<Stmt>) -> bool {
    let mut changed = false;
    let mut flat = Vec::with_capacity(list.len());
    for s in std::mem::take(list) {
        match s.kind {
            _ if s.is_null() => {}
            StmtKind::Block(mut inner) => {
                changed |= flatten(&mut inner) | (inner.len() > 1);
                flat.append(&mut inner);
            }
            _ => flat.push(s),
        }
    }
    *list = flat;
    changed
}

/// Folds an expression; true when something changed.
pub fn expr(e: &mut Expr, functions: &Functions) -> bool {
    let mut changed = false;
    e.each_part_mut(&mut |e| changed |= expr(e, functions));
    let new = match &mut e.kind {
        ExprKind::Unary(op, a) => match (&a.kind, op) {
            (ExprKind::Long(n), op) => Some(ExprKind::Long(match op {
                UnaryOp::Plus => *n,
                UnaryOp::Minus => n.wrapping_neg(),
                UnaryOp::Not => (*n == 0).into(),
                UnaryOp::Complement => !*n,
            })),
            _ => None,
        },
        ExprKind::Binary(op, a, b) => match (&a.kind, &b.kind) {
            (ExprKind::Long(x), ExprKind::Long(y)) => arithmetic(*op, *x, *y).map(ExprKind::Long),
            (ExprKind::Str(x), ExprKind::Str(y)) => texts(*op, x, y),
            _ => {
                let fixed = match (fixed(*op, &a.kind, false), fixed(*op, &b.kind, true)) {
                    (None, None) => None,
                    // Neither side of these is reached behind a left one that decides.
                    (Some(n), _) if matches!(op, BinaryOp::LogicalAnd | BinaryOp::LogicalOr) => {
                        Some(n)
                    }
                    (left, right) => {
                        let mut effects = Effects::default();
                        functions.expr(if left.is_some() { b } else { a }, &mut effects);
                        left.or(right).filter(|_| effects.none())
                    }
                };
                let same = match (
                    is_neutral(*op, &a.kind, false),
                    is_neutral(*op, &b.kind, true),
                ) {
                    (true, _) => Some(&mut *b),
                    (_, true) => Some(&mut *a),
                    _ => None,
                };
                match (fixed, same) {
                    (Some(n), _) => Some(ExprKind::Long(n)),
                    (None, Some(same)) => {
                        let span = same.span;
                        *e = std::mem::replace(&mut **same, Expr::long(0, span));
                        return true;
                    }
                    (None, None) => None,
                }
            }
        },
        ExprKind::Ternary(c, a, b) => match c.kind {
            // Branches that disagree are left for the type pass to complain about.
            ExprKind::Long(n) if !disagree(a, b) => {
                let chosen = if n != 0 { a } else { b };
                let span = chosen.span;
                *e = std::mem::replace(&mut **chosen, Expr::long(0, span));
                return true;
            }
            _ => None,
        },
        _ => None,
    };
    if let Some(kind) = new {
        e.ty = match kind {
            ExprKind::Str(_) => Ty::String,
            _ => Ty::Long,
        };
        e.kind = kind;
        changed = true;
    }
    changed
}

/// The value of an operation by one of its operands alone.
fn fixed(op: BinaryOp, operand: &ExprKind, is_right: bool) -> Option<i64> {
    use BinaryOp as B;
    match (op, operand) {
        (B::LogicalAnd | B::Mul | B::And, ExprKind::Long(0)) => Some(0),
        (B::Shl | B::Shr, ExprKind::Long(0)) if !is_right => Some(0),
        (B::Mod, ExprKind::Long(1)) if is_right => Some(0),
        (B::Or, ExprKind::Long(-1)) => Some(-1),
        (B::LogicalOr, ExprKind::Long(n)) if *n != 0 => Some(1),
        _ => None,
    }
}

/// The operand that an operation yields, the other one being neutral.
pub fn neutral_side<'a>(op: BinaryOp, a: &'a Expr, b: &'a Expr) -> Option<&'a Expr> {
    match (
        is_neutral(op, &a.kind, false),
        is_neutral(op, &b.kind, true),
    ) {
        (true, _) => Some(b),
        (_, true) => Some(a),
        _ => None,
    }
}

/// Whether an operation yields its other operand.
fn is_neutral(op: BinaryOp, operand: &ExprKind, is_right: bool) -> bool {
    use BinaryOp as B;
    match (op, operand) {
        (B::Add | B::Or | B::Xor, ExprKind::Long(0)) => true,
        (B::Sub | B::Shl | B::Shr, ExprKind::Long(0)) => is_right,
        (B::Mul, ExprKind::Long(1)) | (B::And, ExprKind::Long(-1)) => true,
        (B::Div, ExprKind::Long(1)) => is_right,
        (B::Concat, ExprKind::Str(text)) => text.is_empty(),
        _ => false,
    }
}

fn disagree(a: &Expr, b: &Expr) -> bool {
    a.ty != Ty::Unknown && b.ty != Ty::Unknown && a.ty != b.ty
}

/// The value that the run time would compute; `None` where it would raise an error.
fn arithmetic(op: BinaryOp, x: i64, y: i64) -> Option<i64> {
    use BinaryOp as B;
    Some(match op {
        B::Add => x.wrapping_add(y),
        B::Sub => x.wrapping_sub(y),
        B::Mul => x.wrapping_mul(y),
        B::Div => x.checked_div(y)?,
        B::Mod => x.checked_rem(y)?,
        B::Shl => x.wrapping_shl(y as u32),
        B::Shr => x.wrapping_shr(y as u32),
        B::ShrLogical => (x as u64).wrapping_shr(y as u32) as i64,
        B::And => x & y,
        B::Or => x | y,
        B::Xor => x ^ y,
        B::LogicalAnd => (x != 0 && y != 0).into(),
        B::LogicalOr => (x != 0 || y != 0).into(),
        B::Eq => (x == y).into(),
        B::Ne => (x != y).into(),
        B::Lt => (x < y).into(),
        B::Le => (x <= y).into(),
        B::Gt => (x > y).into(),
        B::Ge => (x >= y).into(),
        B::Concat => return None,
    })
}

fn texts(op: BinaryOp, x: &[u8], y: &[u8]) -> Option<ExprKind> {
    use BinaryOp as B;
    let truth = match op {
        B::Eq => x == y,
        B::Ne => x != y,
        B::Lt => x < y,
        B::Le => x <= y,
        B::Gt => x > y,
        B::Ge => x >= y,
        B::Concat => return Some(ExprKind::Str([x, y].concat())),
        _ => return None,
    };
    Some(ExprKind::Long(truth.into()))
}
