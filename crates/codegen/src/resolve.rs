//! Asks the resolver about every target expression that a handler can reach, before code is made: what it answers
//! decides `@defined`, and with it which parts are dead, and whether an earlier handler can be shared.

use crate::error::CodegenError;
use crate::target::{Location, Resolution, Resolver, Unresolved, Variable};
use crate::walk::{self, Visitor};
use script::ast::{BinaryOp, UnaryOp};
use script::ir::{
    Body, Expr, ExprKind, Function, FunctionId, Program, Stmt, StmtKind, Target, TargetBase,
};
use script::span::Span;
use std::collections::{HashMap, HashSet};

/// What the target expressions of a handler mean, by address of the expression in the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Answers {
    list: Vec<(usize, Option<Resolution>)>,
}

impl Answers {
    /// The meaning of `target`; `None` when it has none (only asked by `@defined`).
    pub fn get(&self, target: &Target) -> Option<&Resolution> {
        let address = std::ptr::from_ref(target).addr();
        self.list
            .iter()
            .find(|(a, _)| *a == address)
            .and_then(|(_, r)| r.as_ref())
    }

    /// No target expression at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The truth of an expression that is known when code is made: `@defined`, numbers, and logic over them.
    pub fn constant(&self, expr: &Expr) -> Option<bool> {
        match &expr.kind {
            ExprKind::Long(n) => Some(*n != 0),
            ExprKind::Defined(target) => Some(self.get(target).is_some()),
            ExprKind::Unary(UnaryOp::Not, e) => Some(!self.constant(e)?),
            ExprKind::Binary(BinaryOp::LogicalAnd, a, b) => {
                match (self.constant(a), self.constant(b)) {
                    (Some(false), _) => Some(false),
                    (Some(true), b) => b,
                    _ => None,
                }
            }
            ExprKind::Binary(BinaryOp::LogicalOr, a, b) => {
                match (self.constant(a), self.constant(b)) {
                    (Some(true), _) => Some(true),
                    (Some(false), b) => b,
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// What a handler can reach.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Meanings of target expressions.
    pub answers: Answers,
    /// Functions that may be called.
    pub functions: HashSet<FunctionId>,
    /// Variables that were not found, and are taken for 0.
    pub bad: Vec<Span>,
}

/// A variable of the program, which `--skip-badvars` is about.
fn is_context(target: &Target) -> bool {
    matches!(target.base, TargetBase::Variable(_))
}

/// Goes through a handler and the functions that it calls. With `lenient` variables that can't be found are 0.
pub(crate) fn resolve(
    program: &Program,
    body: &Body,
    condition: Option<&Expr>,
    resolver: &dyn Resolver,
    lenient: bool,
) -> Result<Reach, Vec<CodegenError>> {
    let mut search = Search {
        program,
        resolver,
        lenient,
        reach: Reach::default(),
        known: HashMap::new(),
        errors: Vec::new(),
    };
    if let Some(condition) = condition {
        search.expr(condition, true);
    }
    walk::walk_stmts(&mut search, &body.stmts);
    match search.errors.is_empty() {
        true => Ok(search.reach),
        false => Err(search.errors),
    }
}

struct Search<'p, 'r> {
    program: &'p Program,
    resolver: &'r dyn Resolver,
    lenient: bool,
    reach: Reach,
    known: HashMap<usize, bool>,
    errors: Vec<CodegenError>,
}

impl<'p> Search<'p, '_> {
    fn ask(&mut self, target: &'p Target, required: bool) {
        let address = std::ptr::from_ref(target).addr();
        if self
            .known
            .get(&address)
            .is_some_and(|&found| found || !required)
        {
            return;
        }
        let answer = self.resolver.resolve(target);
        self.known.insert(address, answer.is_ok());
        match answer {
            Ok(resolution) => self.reach.answers.list.push((address, Some(resolution))),
            Err(_) if required && self.lenient && is_context(target) => {
                self.reach.bad.push(target.span);
                let zero = Variable::plain(Location::Constant(0), 8, true);
                let zero = Some(Resolution::Variable(zero));
                self.reach.answers.list.push((address, zero));
            }
            Err(Unresolved { message, step }) if required => {
                let operator = step.and_then(|step| *target.operators.get(step)?);
                self.errors.push(CodegenError {
                    message,
                    span: operator.unwrap_or(target.span),
                    whole: Some(target.span),
                });
            }
            Err(_) => self.reach.answers.list.push((address, None)),
        }
    }

    fn definitions(&mut self, expr: &'p Expr) {
        match &expr.kind {
            ExprKind::Defined(target) => self.ask(target, false),
            ExprKind::Unary(UnaryOp::Not, e) => self.definitions(e),
            ExprKind::Binary(BinaryOp::LogicalAnd | BinaryOp::LogicalOr, a, b) => {
                self.definitions(a);
                self.definitions(b);
            }
            _ => {}
        }
    }

    fn function(&mut self, id: FunctionId) {
        let mut next = Some(id);
        while let Some(id) = next {
            if !self.reach.functions.insert(id) {
                return;
            }
            let Some(function) = function(self.program, id) else {
                return;
            };
            walk::walk_stmts(self, &function.body.stmts);
            next = function.next;
        }
    }
}

/// The function with that number.
pub(crate) fn function(program: &Program, id: FunctionId) -> Option<&Function> {
    program.functions.get(id.0 as usize)
}

impl<'p> Visitor<'p> for Search<'p, '_> {
    fn stmt(&mut self, stmt: &'p Stmt) {
        if let StmtKind::If(cond, yes, no) = &stmt.kind {
            self.definitions(cond);
            match self.reach.answers.constant(cond) {
                Some(true) => walk::walk_stmts(self, yes),
                Some(false) => walk::walk_stmts(self, no),
                None => walk::walk_stmt(self, stmt),
            }
        } else {
            walk::walk_stmt(self, stmt);
        }
    }

    fn expr(&mut self, expr: &'p Expr, _used: bool) {
        match &expr.kind {
            ExprKind::Ternary(cond, yes, no) => {
                self.definitions(cond);
                match self.reach.answers.constant(cond) {
                    Some(true) => self.expr(yes, true),
                    Some(false) => self.expr(no, true),
                    None => walk::walk_expr(self, expr),
                }
            }
            ExprKind::Binary(BinaryOp::LogicalAnd | BinaryOp::LogicalOr, a, _) => {
                self.definitions(expr);
                if self.reach.answers.constant(expr).is_some() {
                    return;
                }
                // `@defined($x) && $x > 1`: the right side is dead when the left one decides.
                if self.reach.answers.constant(a).is_some() {
                    let ExprKind::Binary(_, _, b) = &expr.kind else {
                        return;
                    };
                    self.expr(b, true);
                } else {
                    walk::walk_expr(self, expr);
                }
            }
            ExprKind::Defined(target) => self.ask(target, false),
            ExprKind::Call(id, args) => {
                for arg in args {
                    self.expr(arg, true);
                }
                self.function(*id);
            }
            _ => walk::walk_expr(self, expr),
        }
    }

    fn target(&mut self, target: &'p Target) {
        self.ask(target, true);
        walk::walk_target(self, target);
    }
}
