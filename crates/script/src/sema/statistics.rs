//! Pass: statistics. Collects what each statistic must keep for the extractors that the script uses, and checks what is only
//! looked at when types agree: their parameters, and regular expressions.

use super::hir::*;
use super::report::Report;
use crate::ast::{HistOp, SortKey, StatOp};
use crate::ir::{HistShape, StatNeeds};
use crate::span::Span;

/// Most buckets of a `@hist_linear` (stap(1), histograms).
const MOST_BUCKETS: i64 = 1024;

/// What is needed of each global, by id.
pub struct Needs(Vec<(StatNeeds, Option<HistShape>)>);

impl Needs {
    /// Of one global.
    pub fn of(&self, id: GlobalId) -> (StatNeeds, Option<HistShape>) {
        self.0.get(id.0 as usize).copied().unwrap_or_default()
    }
}

/// Runs the pass.
pub fn collect(hir: &Program, report: &mut Report) -> Needs {
    let mut needs = Needs(vec![Default::default(); hir.globals.len()]);
    for (need, g) in needs.0.iter_mut().zip(&hir.globals) {
        if g.auto_display && g.value.ty == Ty::Stats {
            for op in [StatOp::Min, StatOp::Max, StatOp::Sum] {
                add(&mut need.0, op, 0);
            }
        }
    }
    for p in &hir.probes {
        for c in p.points.iter().filter_map(|p| p.condition.as_ref()) {
            c.each(&mut |e| visit(e, hir, &mut needs, report));
        }
        stmt(&p.body.stmt, hir, &mut needs, report);
    }
    for f in hir.functions.iter().filter(|f| f.live) {
        stmt(&f.body().stmt, hir, &mut needs, report);
    }
    needs
}

fn stmt(s: &Stmt, hir: &Program, needs: &mut Needs, report: &mut Report) {
    if let StmtKind::Foreach(f) = &s.kind {
        match &f.base {
            Base::Hist(op, stat) => hist(op, stat, f.base_span, hir, needs, report),
            Base::Var(Var::Global(id)) => {
                if let (Some((SortKey::Value(Some(op)), _)), Some(need)) =
                    (f.sort, needs.0.get_mut(id.0 as usize))
                {
                    add(&mut need.0, op, 0);
                }
            }
            Base::Var(Var::Local(_)) => {}
        }
    }
    s.each_expr(&mut |e| e.each(&mut |e| visit(e, hir, needs, report)));
    s.each_stmt(&mut |s| stmt(s, hir, needs, report));
}

fn visit(e: &Expr, hir: &Program, needs: &mut Needs, report: &mut Report) {
    match &e.kind {
        ExprKind::Match(_, pattern, _, span) => {
            if let Err(e) = crate::regex::check(pattern) {
                report.error(e.to_string(), *span);
            }
        }
        ExprKind::Stat(StatOp::Variance, _, shift) if !(0..=62).contains(shift) => {
            report.error(format!("bit shift ({shift}) out of range <0..62>"), e.span);
        }
        ExprKind::Stat(op, a, shift) => {
            if let Some(need) = global(a).and_then(|id| needs.0.get_mut(id.0 as usize)) {
                match need.0.variance.map(i64::from) {
                    // Without a shift nothing is settled.
                    Some(known) if *op == StatOp::Variance && known != 0 && known != *shift => {
                        report.error(
                            format!("conflicting bit shifts declared (previously {known})"),
                            e.span,
                        )
                    }
                    _ => add(&mut need.0, *op, *shift),
                }
            }
        }
        ExprKind::Hist(op, a) => hist(op, a, e.span, hir, needs, report),
        ExprKind::Index(Base::Hist(op, a), _) => hist(op, a, e.span, hir, needs, report),
        _ => {}
    }
}

/// The global behind a statistic.
pub fn global(e: &Expr) -> Option<GlobalId> {
    match &e.kind {
        ExprKind::Var(Var::Global(id)) | ExprKind::Index(Base::Var(Var::Global(id)), _) => {
            Some(*id)
        }
        _ => None,
    }
}

fn add(need: &mut StatNeeds, op: StatOp, shift: i64) {
    match op {
        StatOp::Count => {}
        StatOp::Sum | StatOp::Avg => need.sum = true,
        StatOp::Min => need.min = true,
        StatOp::Max => need.max = true,
        StatOp::Variance => {
            need.sum = true;
            let shift = u8::try_from(shift).unwrap_or_default();
            need.variance = Some(need.variance.unwrap_or_default().max(shift));
        }
    }
}

fn hist(
    op: &HistOp,
    stat: &Expr,
    span: Span,
    hir: &Program,
    needs: &mut Needs,
    report: &mut Report,
) {
    let shape = match *op {
        HistOp::Log => HistShape::Log,
        HistOp::Linear(low, high, step) => {
            if step <= 0 {
                report.late("histogram: step must be positive", span);
                return;
            }
            if high <= low {
                report.late("histogram: high must be greater than low", span);
                return;
            }
            if high
                .checked_sub(low)
                .is_none_or(|n| n / step + 3 > MOST_BUCKETS)
            {
                report.late(
                    format!("histogram: too many buckets, at most {MOST_BUCKETS}"),
                    span,
                );
                return;
            }
            HistShape::Linear { low, high, step }
        }
    };
    let Some(id) = global(stat) else { return };
    let Some(need) = needs.0.get_mut(id.0 as usize) else {
        return;
    };
    match need.1 {
        Some(known) if known != shape => {
            let name = hir.global(id).name.as_str();
            report.error(
                format!("multiple histogram types declared on '__global_{name}'"),
                span,
            );
        }
        _ => need.1 = Some(shape),
    }
}
