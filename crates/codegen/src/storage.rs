//! How each global variable is kept, decided from what handlers do with it.
//!
//! What handlers of processes only ever add to is kept per thread ([`Class::Counter`], [`Class::Sharded`]): no thread
//! waits for another. What they use otherwise is in one place under a lock; what only the tracer's handlers use needs none.

use crate::builder::Context;
use crate::walk::{self, Visitor};
use runtime::map::{Sort, SortKey as RuntimeKey};
use script::ast::{BinaryOp, Direction, SortKey, StatOp};
use script::ir::{
    Expr, ExprKind, FunctionId, GlobalId, GlobalType, LValue, MapValue, PrintArg, Program, StatRef,
    Stmt, StmtKind, Type,
};
use std::collections::HashSet;

/// The way a global is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// A number that process handlers only add to: one word per slot.
    Counter,
    /// A statistic, or an array of numbers or statistics, that process handlers only add to: two halves per slot.
    Sharded,
    /// One place, with a lock.
    Shared,
    /// One place, used by the tracer's handlers only.
    Tracer,
}

/// What a global is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Scalar(Type),
    Stat,
    /// The element's type; `None` for statistics.
    Map {
        keys: Vec<Type>,
        value: Option<Type>,
    },
}

/// A global's place.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub class: Class,
    pub shape: Shape,
    /// Offset in the arena of its value; for per-thread classes of what the tracer has gathered.
    pub at: u64,
    /// Sharded array: offset in the arena of the shard's head.
    pub shard: u64,
    /// Offset in a slot of what threads keep: a counter's word, the first half of a statistic's or an array's cells.
    pub cells: u64,
    /// Offset in the arena of its lock, 0 without.
    pub lock: u64,
    /// Offset in the arena of a statistic's shape, 0 for none.
    pub stat_shape: u64,
    /// Bytes of a value.
    pub cell_size: u64,
}

/// What an array of that type is.
pub(crate) fn shape(ty: &GlobalType) -> Shape {
    match ty {
        GlobalType::Scalar(ty) => Shape::Scalar(*ty),
        GlobalType::Stat(..) => Shape::Stat,
        GlobalType::Map { keys, value, .. } => Shape::Map {
            keys: keys.clone(),
            value: match value {
                MapValue::Long => Some(Type::Long),
                MapValue::String => Some(Type::String),
                MapValue::Stat(..) => None,
            },
        },
    }
}

/// A sort order as the run time takes it; `stat` for arrays of statistics.
pub(crate) fn sort(order: Option<&(SortKey, Direction)>, stat: bool) -> u64 {
    let Some((key, direction)) = order else {
        return Sort::NONE.encode();
    };
    let key = match key {
        SortKey::Key(n) => RuntimeKey::Key(*n as u32),
        SortKey::Value(op) if stat => RuntimeKey::Stat(stat_op(op.unwrap_or(StatOp::Count)) as u32),
        SortKey::Value(_) => RuntimeKey::Value,
    };
    Sort {
        key,
        descending: *direction == Direction::Descending,
    }
    .encode()
}

/// The run time's number of an extractor.
pub(crate) fn stat_op(op: StatOp) -> u64 {
    match op {
        StatOp::Count => 0,
        StatOp::Sum => 1,
        StatOp::Min => 2,
        StatOp::Max => 3,
        StatOp::Avg => 4,
        StatOp::Variance => 5,
    }
}

/// Classes of all globals, given where each probe's points run.
pub(crate) fn classify(program: &Program, contexts: &[Vec<Context>]) -> Vec<Class> {
    let mut in_processes = Uses::new(program);
    for (probe, contexts) in program.probes.iter().zip(contexts) {
        if contexts.contains(&Context::Process) {
            for condition in probe.points.iter().filter_map(|p| p.condition.as_ref()) {
                in_processes.expr(condition, true);
            }
            walk::walk_stmts(&mut in_processes, &probe.body.stmts);
        }
    }
    (0..program.globals.len())
        .map(|index| {
            let id = GlobalId(index as u32);
            let global = &program.globals[index];
            if !in_processes.all.contains(&id) {
                return Class::Tracer;
            }
            if in_processes.other.contains(&id) {
                return Class::Shared;
            }
            match &global.ty {
                GlobalType::Scalar(Type::Long) => Class::Counter,
                GlobalType::Stat(..) => Class::Sharded,
                GlobalType::Map {
                    value: MapValue::Long | MapValue::Stat(..),
                    wrap: false,
                    ..
                } => Class::Sharded,
                _ => Class::Shared,
            }
        })
        .collect()
}

/// Which globals are used, and which of them otherwise than by adding to them.
pub(crate) struct Uses<'p> {
    program: &'p Program,
    functions: HashSet<FunctionId>,
    /// Used in any way.
    pub all: HashSet<GlobalId>,
    /// Used otherwise.
    pub other: HashSet<GlobalId>,
}

impl<'p> Uses<'p> {
    pub fn new(program: &'p Program) -> Self {
        Uses {
            program,
            functions: HashSet::new(),
            all: HashSet::new(),
            other: HashSet::new(),
        }
    }

    fn any(&mut self, id: GlobalId) {
        self.all.insert(id);
        self.other.insert(id);
    }

    fn added(&mut self, id: GlobalId) {
        self.all.insert(id);
    }

    fn lvalue(&mut self, target: &LValue, adds: bool) {
        if let LValue::Global(id) | LValue::Element(id, ..) = target {
            if adds {
                self.added(*id);
            } else {
                self.any(*id);
            }
        }
    }

    fn stat(&mut self, stat: &StatRef) {
        self.any(stat.global);
    }
}

impl<'p> Visitor<'p> for Uses<'p> {
    fn stmt(&mut self, stmt: &'p Stmt) {
        match &stmt.kind {
            StmtKind::Foreach(foreach) => self.any(foreach.map),
            StmtKind::ForeachBucket { stat, .. } => self.stat(stat),
            StmtKind::DeleteElement(id, _)
            | StmtKind::DeleteSlice(id, _)
            | StmtKind::DeleteAll(id) => self.any(*id),
            _ => {}
        }
        walk::walk_stmt(self, stmt);
    }

    fn expr(&mut self, expr: &'p Expr, used: bool) {
        match &expr.kind {
            ExprKind::Global(id) | ExprKind::Element(id, _) | ExprKind::In(id, _) => self.any(*id),
            ExprKind::Assign(target, _) => self.lvalue(target, false),
            ExprKind::AssignOp(op, target, _) => {
                self.lvalue(target, !used && matches!(op, BinaryOp::Add | BinaryOp::Sub));
            }
            ExprKind::Step { target, .. } => self.lvalue(target, !used),
            ExprKind::Aggregate(stat, _) => self.added(stat.global),
            ExprKind::Stat(_, stat, _) | ExprKind::Bucket(stat, ..) => self.stat(stat),
            ExprKind::Print { args, .. } => {
                for arg in args {
                    if let PrintArg::Hist(stat, _) = arg {
                        self.stat(stat);
                    }
                }
            }
            ExprKind::Call(id, _) => {
                let mut next = Some(*id);
                while let Some(id) = next.filter(|id| self.functions.insert(*id)) {
                    let Some(function) = crate::resolve::function(self.program, id) else {
                        break;
                    };
                    walk::walk_stmts(self, &function.body.stmts);
                    next = function.next;
                }
            }
            _ => {}
        }
        walk::walk_expr(self, expr);
    }
}
