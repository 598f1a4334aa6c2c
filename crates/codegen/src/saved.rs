//! What a return handler uses of the function's entry: `@entry(…)` and target variables. A companion handler at the
//! entry evaluates it and leaves the values in a record of the run time (`runtime::frames`), where the return handler
//! finds them.

use crate::resolve::Answers;
use crate::target::Resolution;
use crate::walk::{self, Visitor};
use script::ir::{Body, Expr, ExprKind, Target, TargetBase, Type};
use script::span::Span;

/// An expression of the entry.
#[derive(Clone, Copy)]
pub(crate) enum SavedExpr<'p> {
    /// The operand of `@entry`.
    Entry(&'p Expr),
    /// A target variable.
    Target(&'p Target),
}

impl SavedExpr<'_> {
    /// By which the return handler knows it.
    fn address(&self) -> usize {
        match self {
            SavedExpr::Entry(e) => std::ptr::from_ref(*e).addr(),
            SavedExpr::Target(t) => std::ptr::from_ref(*t).addr(),
        }
    }
}

/// Where a value stands in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SavedPlace {
    pub offset: u32,
    pub ty: Type,
}

/// The layout of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SavedLayout {
    places: Vec<(usize, SavedPlace)>,
    /// Bytes of all values.
    pub size: u32,
}

impl SavedLayout {
    /// The place of the value that stands for the operand of `@entry`.
    pub fn of_entry(&self, operand: &Expr) -> Option<SavedPlace> {
        self.get(std::ptr::from_ref(operand).addr())
    }

    /// The place of a target variable's value.
    pub fn of_target(&self, target: &Target) -> Option<SavedPlace> {
        self.get(std::ptr::from_ref(target).addr())
    }

    fn get(&self, address: usize) -> Option<SavedPlace> {
        let found = self.places.iter().find(|(a, _)| *a == address);
        found.map(|(_, place)| *place)
    }
}

/// Whether a target expression in a return probe means the time of the return: `$return`, what it points to, and what
/// does not start from a variable of the function.
fn is_of_return(target: &Target) -> bool {
    match &target.base {
        TargetBase::Variable(name) => matches!(name.as_str(), "$return" | "$$return"),
        TargetBase::AtVar(..)
        | TargetBase::Cast(..)
        | TargetBase::Autocast(..)
        | TargetBase::Enum(_)
        | TargetBase::EnumName(..) => true,
    }
}

/// The expressions of a return handler's body that are saved, each once, with the layout of their record. Strings
/// take `string` bytes and their length.
pub(crate) fn collect<'p>(
    body: &'p Body,
    answers: &Answers,
    string: u32,
) -> (Vec<(SavedExpr<'p>, SavedPlace)>, SavedLayout) {
    let mut collect = Collect {
        answers,
        found: Vec::new(),
    };
    walk::walk_stmts(&mut collect, &body.stmts);
    let mut layout = SavedLayout::default();
    let mut placed = Vec::new();
    for (expr, ty) in collect.found {
        let place = SavedPlace {
            offset: layout.size,
            ty,
        };
        layout.size += match ty {
            Type::String => 8 + string.next_multiple_of(8),
            _ => 8,
        };
        layout.places.push((expr.address(), place));
        placed.push((expr, place));
    }
    (placed, layout)
}

/// The place of the first expression in a body that would have to be saved.
pub(crate) fn entry_value(body: &Body, answers: &Answers) -> Option<Span> {
    let mut collect = Collect {
        answers,
        found: Vec::new(),
    };
    walk::walk_stmts(&mut collect, &body.stmts);
    collect.found.first().map(|(expr, _)| match expr {
        SavedExpr::Entry(e) => e.span,
        SavedExpr::Target(t) => t.span,
    })
}

struct Collect<'p, 'a> {
    answers: &'a Answers,
    found: Vec<(SavedExpr<'p>, Type)>,
}

impl<'p> Visitor<'p> for Collect<'p, '_> {
    fn expr(&mut self, expr: &'p Expr, _used: bool) {
        match &expr.kind {
            ExprKind::Entry(operand) => self.found.push((SavedExpr::Entry(operand), operand.ty)),
            _ => walk::walk_expr(self, expr),
        }
    }

    fn target(&mut self, target: &'p Target) {
        if is_of_return(target) {
            walk::walk_target(self, target);
            return;
        }
        let ty = match self.answers.get(target) {
            Some(Resolution::Variable(_)) => Type::Long,
            Some(_) => Type::String,
            // Code that is never reached.
            None => return,
        };
        self.found.push((SavedExpr::Target(target), ty));
    }
}
