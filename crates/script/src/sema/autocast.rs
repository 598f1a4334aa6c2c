//! Pass: `e->member` and `e[i]` on values whose type is that of a target expression that they come from (NEWS of SystemTap
//! 2.6): through assignments to variables, `?:`, results of functions, and target expressions on such values; not through sums
//! and `@entry`, which stap does not follow either.
//! Each is told the expressions that its type comes from, which are never evaluated; all have to agree. A global has what any handler
//! gives it, so that the type may be one of another probe's place.

use std::collections::HashMap;

use super::effects::Functions;
use super::hir::*;
use super::report::Report;
use crate::ast::AssignOp;

/// Variables get their types from each other at most so often.
const DEPTH: usize = 32;

/// What values are assigned to variables, and what functions return.
struct Sources {
    /// By body, functions first, and variable.
    assigned: Vec<HashMap<Var, Vec<Expr>>>,
    /// By function.
    returned: Vec<Vec<Expr>>,
    /// By body: the probe in whose handler it runs, or one of several.
    home: Vec<Option<usize>>,
}

/// Refuses assignments to members of values with types, for which stap wants `-g`; to those without, types say more.
pub fn refuse_writes(hir: &Program, report: &mut Report) {
    fn stmt(s: &Stmt, report: &mut Report) {
        s.each_expr(&mut |e| {
            e.each(&mut |e| {
                let (ExprKind::Assign(_, target, _)
                | ExprKind::Step {
                    operand: target, ..
                }) = &e.kind
                else {
                    return;
                };
                if let ExprKind::Target(t) = &target.kind
                    && matches!(&t.base, TargetBase::Autocast(_, found) if !found.is_empty())
                {
                    report.error("write not permitted; need stap -g", target.span);
                }
            });
        });
        s.each_stmt(&mut |s| stmt(s, report));
    }
    for f in hir.functions.iter().filter(|f| f.live) {
        stmt(&f.body().stmt, report);
    }
    for p in &hir.probes {
        stmt(&p.body.stmt, report);
    }
}

/// Gives every autocast expression the source of its type, where there is one.
pub fn settle(hir: &mut Program) {
    let functions = hir.functions.iter().map(|f| f.body());
    if !functions
        .chain(hir.probes.iter().map(|p| &p.body))
        .any(|body| in_stmt(&body.stmt))
    {
        return;
    }
    let mut sources = Sources {
        assigned: Vec::new(),
        returned: Vec::new(),
        home: vec![None; hir.functions.len()],
    };
    let functions = Functions::of(hir);
    for (number, probe) in hir.probes.iter().enumerate() {
        for id in functions.reached_from(&probe.body.stmt) {
            if let Some(home) = sources.home.get_mut(id.0 as usize) {
                home.get_or_insert(number);
            }
        }
    }
    let probes = 0..hir.probes.len();
    sources.home.extend(probes.map(Some));
    for f in &hir.functions {
        let mut returned = Vec::new();
        results(&f.body().stmt, &mut returned);
        sources.returned.push(returned);
        sources.assigned.push(assignments(f.body()));
    }
    for p in &hir.probes {
        sources.assigned.push(assignments(&p.body));
    }
    let functions = hir.functions.iter_mut().map(|f| f.body_mut());
    let bodies = functions.chain(hir.probes.iter_mut().map(|p| &mut p.body));
    for (number, body) in bodies.enumerate() {
        settle_stmt(&mut body.stmt, number, &sources);
    }
}

fn in_stmt(s: &Stmt) -> bool {
    let mut found = false;
    s.each_expr(&mut |e| found |= in_expr(e));
    s.each_stmt(&mut |s| found |= in_stmt(s));
    found
}

fn in_expr(e: &Expr) -> bool {
    let mut found = false;
    e.each(&mut |e| {
        found |=
            matches!(&e.kind, ExprKind::Target(t) if matches!(t.base, TargetBase::Autocast(..)));
    });
    found
}

fn results(s: &Stmt, out: &mut Vec<Expr>) {
    if let StmtKind::Return(Some(e)) = &s.kind {
        out.push(e.clone());
    }
    s.each_stmt(&mut |s| results(s, out));
}

fn assignments(body: &Body) -> HashMap<Var, Vec<Expr>> {
    fn of_stmt(s: &Stmt, out: &mut HashMap<Var, Vec<Expr>>) {
        s.each_expr(&mut |e| {
            e.each(&mut |e| {
                if let ExprKind::Assign(AssignOp::Set, target, value) = &e.kind
                    && let ExprKind::Var(var) = target.kind
                {
                    out.entry(var).or_default().push((**value).clone());
                }
            });
        });
        s.each_stmt(&mut |s| of_stmt(s, out));
    }
    let mut out = HashMap::new();
    of_stmt(&body.stmt, &mut out);
    out
}

fn settle_stmt(s: &mut Stmt, body: usize, sources: &Sources) {
    s.each_expr_mut(&mut |e| settle_expr(e, body, sources));
    s.each_stmt_mut(&mut |s| settle_stmt(s, body, sources));
}

fn settle_expr(e: &mut Expr, body: usize, sources: &Sources) {
    e.each_part_mut(&mut |e| settle_expr(e, body, sources));
    if let ExprKind::Target(t) = &mut e.kind
        && let TargetBase::Autocast(of, found) = &mut t.base
    {
        let mut search = Search {
            sources,
            home: None,
            seen: Vec::new(),
            called: Vec::new(),
        };
        let sources_now = search.of(of, body);
        // What was found before unreachable statements went stays.
        if sources_now.is_empty() && !found.is_empty() {
            return;
        }
        *found = sources_now;
        // Functions are of whoever calls them.
        let own = sources.home.get(body).copied().flatten();
        let own = own.filter(|_| body >= sources.returned.len());
        for source in found.iter_mut().filter(|s| s.home == own) {
            source.home = None;
        }
        let is_anywhere = found.iter().any(|s| s.home.is_some());
        // What names its module means the same everywhere.
        t.resolvable |= is_anywhere || t.own_module();
    }
}

/// The way from a value to where its type comes from.
struct Search<'a> {
    sources: &'a Sources,
    /// The probe in whose handler it stands, where that is another one.
    home: Option<usize>,
    /// The variables on the way: one that is told from itself says nothing new.
    seen: Vec<(usize, Var)>,
    /// The functions on the way, likewise.
    called: Vec<usize>,
}

impl Search<'_> {
    /// The expressions that a value's type comes from, in the order in which they are written.
    fn of(&mut self, e: &Expr, body: usize) -> Vec<Source> {
        if self.seen.len() > DEPTH {
            return Vec::new();
        }
        match &e.kind {
            ExprKind::Target(t) => {
                let is_text = t.steps.iter().any(|s| matches!(s, TargetStep::Pretty(_)));
                if is_text {
                    return Vec::new();
                }
                let mut target = (**t).clone();
                let mut home = self.home;
                if let TargetBase::Autocast(of, inner) = &mut target.base {
                    // That its own sources agree is asked where it stands.
                    let Some(first) = self.of(of, body).into_iter().next() else {
                        return Vec::new();
                    };
                    home = first.home;
                    *inner = vec![Source {
                        home: None,
                        ..first
                    }];
                }
                if target.own_module() {
                    home = None;
                }
                vec![Source { target, home }]
            }
            ExprKind::Assign(AssignOp::Set, _, e) => self.of(e, body),
            ExprKind::Binary(op, a, b) => match super::fold::neutral_side(*op, a, b) {
                Some(same) => self.of(same, body),
                None => Vec::new(),
            },
            // Both have to have a type.
            ExprKind::Ternary(_, a, b) => {
                let mut found = self.of(a, body);
                let other = self.of(b, body);
                if found.is_empty() || other.is_empty() {
                    return Vec::new();
                }
                found.extend(other);
                found
            }
            ExprKind::Var(var) => self.of_variable(*var, body),
            ExprKind::Call(id, _) => {
                let function = id.0 as usize;
                if self.called.contains(&function) {
                    return Vec::new();
                }
                self.called.push(function);
                let sources = self.sources;
                let values = sources.returned.get(function).into_iter().flatten();
                let found = values.flat_map(|e| self.of(e, function)).collect();
                self.called.pop();
                found
            }
            _ => Vec::new(),
        }
    }

    fn of_variable(&mut self, var: Var, body: usize) -> Vec<Source> {
        let place = match var {
            Var::Local(_) => body,
            Var::Global(_) => usize::MAX,
        };
        if self.seen.contains(&(place, var)) {
            return Vec::new();
        }
        self.seen.push((place, var));
        let sources = self.sources;
        let mut found = Vec::new();
        for (other, known) in sources.assigned.iter().enumerate() {
            if other != body && matches!(var, Var::Local(_)) {
                continue;
            }
            let Some(values) = known.get(&var) else {
                continue;
            };
            let outer = self.home;
            if other != body {
                self.home = sources.home.get(other).copied().flatten();
            }
            for e in values {
                found.extend(self.of(e, other));
            }
            self.home = outer;
        }
        self.seen.pop();
        found
    }
}
