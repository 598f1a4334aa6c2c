//! The resolved tree between the syntax tree and the IR: names are ids, aliases are expanded, types are being found.
//! The passes of [`crate::sema`] rewrite it in place; lowering turns what is left into [`crate::ir`].

use crate::ast::{
    self, AssignOp, BinaryOp, Direction, HistOp, Literal, PrintForm, ProbePoint, SortKey, StatOp,
    UnaryOp,
};
use crate::format::Format;
use crate::intrinsics::Intrinsic;
pub use crate::ir::{FunctionId, GlobalId, LocalId};
use crate::span::{FileId, Span};
use crate::unparse::point_to_string;

/// A type in the course of inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Ty {
    /// Not known yet; at the end of a function that returns nothing.
    #[default]
    Unknown,
    /// Number.
    Long,
    /// Text.
    String,
    /// Statistic.
    Stats,
}

impl Ty {
    /// As stap spells it.
    pub fn name(self) -> &'static str {
        match self {
            Ty::Unknown => "unknown",
            Ty::Long => "long",
            Ty::String => "string",
            Ty::Stats => "stats",
        }
    }
}

/// A type with the place that fixed it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// The type so far.
    pub ty: Ty,
    /// Where it was first inferred; `None` for a declared type.
    pub first: Option<Span>,
    /// A parameter that a call's argument gave its type.
    pub by_call: bool,
}

/// A global variable.
#[derive(Clone, Debug)]
pub struct Global {
    /// Its name.
    pub name: String,
    /// Its declaration.
    pub span: Span,
    /// Declared in the library.
    pub tapset: bool,
    /// Only visible in its file.
    pub private: bool,
    /// `%`.
    pub wrap: bool,
    /// `[N]`.
    pub size: Option<i64>,
    /// Initial value.
    pub init: Option<Literal>,
    /// Type of the value.
    pub value: Slot,
    /// Number of keys and where that was first seen; 0 for a scalar.
    pub arity: Option<(usize, Span)>,
    /// Types of the keys.
    pub keys: Vec<Slot>,
    /// Read somewhere in the live program.
    pub read: bool,
    /// Written somewhere in the live program, or initialised.
    pub written: bool,
    /// To be shown when the session ends.
    pub auto_display: bool,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The name's place.
    pub span: Span,
    /// Only visible in its file.
    pub private: bool,
    /// Number of parameters, which are the body's first locals.
    pub params: usize,
    /// Result.
    pub result: Slot,
    /// What it does.
    pub code: Code,
    /// The overload after it.
    pub next: Option<FunctionId>,
    /// Reached from a probe.
    pub live: bool,
    /// Whether an unused call is dropped, where that is known without its body.
    pub pure: Option<bool>,
}

/// A function's code.
#[derive(Clone, Debug)]
pub enum Code {
    /// In the script language.
    Script(Body),
    /// An operation of the run time; the body holds the parameters only.
    Intrinsic(&'static Intrinsic, Body),
    /// The user's embedded C, which has types and effects but is not compiled; the body holds the parameters only.
    Embedded(EmbeddedC, Body),
}

/// What is known of embedded C without reading it.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedC {
    /// Where it stands.
    pub span: Span,
    /// Marked `/* pure */`: without effect.
    pub pure: bool,
    /// Says STAP_NEXT: the next overload may be tried.
    pub next: bool,
}

impl Function {
    /// Its locals.
    pub fn body(&self) -> &Body {
        match &self.code {
            Code::Script(b) | Code::Intrinsic(_, b) | Code::Embedded(_, b) => b,
        }
    }

    /// Its locals.
    pub fn body_mut(&mut self) -> &mut Body {
        match &mut self.code {
            Code::Script(b) | Code::Intrinsic(_, b) | Code::Embedded(_, b) => b,
        }
    }
}

/// Locals and code of a function or a probe.
#[derive(Clone, Debug)]
pub struct Body {
    /// Parameters first.
    pub locals: Vec<Local>,
    /// What it does.
    pub stmt: Stmt,
}

/// A local variable.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its name.
    pub name: String,
    /// Its first mention.
    pub span: Span,
    /// Its type.
    pub slot: Slot,
    /// Still mentioned by the live program.
    pub live: bool,
}

/// A group of probe points with one handler.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The `probe` keyword's place.
    pub span: Span,
    /// All the points that the user wrote in this probe, for `-p2`'s comments.
    pub written: Vec<ProbePoint>,
    /// The points.
    pub points: Vec<Point>,
    /// The handler.
    pub body: Body,
}

/// A probe point without aliases.
#[derive(Clone, Debug)]
pub struct Point {
    /// What is to be resolved.
    pub point: ProbePoint,
    /// How it came about, the user's words first.
    pub via: Vec<Step>,
    /// `if (…)` of every level.
    pub condition: Option<Expr>,
    /// The same as written, of all levels.
    pub conditions: Vec<ast::Expr>,
}

impl Point {
    /// Whether its handler runs when a function returns.
    pub fn is_return(&self) -> bool {
        let components = &self.point.components;
        let first = components.first().map(|c| c.name.text.as_str());
        first == Some("process") && components.iter().any(|c| c.name.text == "return")
    }

    /// As stap names a probe of which a handler is wrong.
    pub fn origin(&self) -> String {
        match self.via.first() {
            Some(step) => {
                let used = point_to_string(&step.used);
                format!("{used} from: {used}")
            }
            None => point_to_string(&self.point),
        }
    }
}

/// A level of alias expansion.
#[derive(Clone, Debug)]
pub struct Step {
    /// The names that the definition gives.
    pub names: Vec<ProbePoint>,
    /// `+=`.
    pub epilogue: bool,
    /// All the points of the definition.
    pub points: Vec<ProbePoint>,
    /// The name as it was used.
    pub used: ProbePoint,
}

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Var {
    /// Of the body.
    Local(LocalId),
    /// Of the script.
    Global(GlobalId),
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// Its first token.
    pub span: Span,
}

impl Stmt {
    /// A statement that does nothing.
    pub fn null(span: Span) -> Stmt {
        Stmt {
            kind: StmtKind::Null,
            span,
        }
    }

    /// Does nothing.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            StmtKind::Null => true,
            StmtKind::Block(list) => list.iter().all(Stmt::is_null),
            _ => false,
        }
    }
}

/// The kinds of statement.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// Nothing.
    Null,
    /// In turn.
    Block(Vec<Stmt>),
    /// For its effect.
    Expr(Expr),
    /// `if`.
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    /// `while` and `for`.
    Loop {
        init: Option<Expr>,
        cond: Option<Expr>,
        step: Option<Expr>,
        body: Box<Stmt>,
    },
    /// `foreach`.
    Foreach(Box<Foreach>),
    /// `return`.
    Return(Option<Expr>),
    /// `delete`.
    Delete(Expr),
    /// `next`.
    Next,
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `try`.
    Try {
        body: Box<Stmt>,
        message: Option<(Var, Span)>,
        handler: Box<Stmt>,
    },
}

/// `foreach`.
#[derive(Clone, Debug)]
pub struct Foreach {
    /// `v =`.
    pub value: Option<(Var, Span)>,
    /// Keys.
    pub keys: Vec<(Var, Span)>,
    /// An array or a histogram.
    pub base: Base,
    /// Place of the base's name.
    pub base_span: Span,
    /// Slice.
    pub slice: Option<Vec<Option<Expr>>>,
    /// Order.
    pub sort: Option<(SortKey, Direction)>,
    /// Limit.
    pub limit: Option<Expr>,
    /// Body.
    pub body: Stmt,
}

/// What can be indexed.
#[derive(Clone, Debug)]
pub enum Base {
    /// A variable.
    Var(Var),
    /// A histogram of a statistic.
    Hist(HistOp, Box<Expr>),
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Its type.
    pub ty: Ty,
    /// The token that messages name.
    pub span: Span,
}

impl Expr {
    /// Whether there can be an assignment to it.
    pub fn is_lvalue(&self) -> bool {
        matches!(
            self.kind,
            ExprKind::Var(_) | ExprKind::Index(Base::Var(_), _) | ExprKind::Target(_)
        )
    }

    /// A number.
    pub fn long(n: i64, span: Span) -> Expr {
        Expr {
            kind: ExprKind::Long(n),
            ty: Ty::Long,
            span,
        }
    }
}

/// The kinds of expression.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A number.
    Long(i64),
    /// A text.
    Str(Vec<u8>),
    /// A variable.
    Var(Var),
    /// `a[…]`.
    Index(Base, Vec<Option<Expr>>),
    /// `[…] in a`.
    In(Vec<Option<Expr>>, Var, Span),
    /// A call of the overload that is tried first.
    Call(FunctionId, Vec<Expr>),
    /// Unary.
    Unary(UnaryOp, Box<Expr>),
    /// Binary.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `=~`.
    Match(Box<Expr>, Vec<u8>, bool, Span),
    /// `?:`.
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Assignment.
    Assign(AssignOp, Box<Expr>, Box<Expr>),
    /// `++`.
    Step {
        increment: bool,
        prefix: bool,
        operand: Box<Expr>,
    },
    /// `@count(…)`.
    Stat(StatOp, Box<Expr>, i64),
    /// `@hist_log(…)` as an argument of a print.
    Hist(HistOp, Box<Expr>),
    /// A target expression.
    Target(Box<Target>),
    /// `@defined(…)`.
    Defined(Box<Expr>),
    /// `@entry(…)`.
    Entry(Box<Expr>),
    /// Print family.
    Print(Box<Print>),
}

/// A target expression.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its start.
    pub base: TargetBase,
    /// Its steps.
    pub steps: Vec<TargetStep>,
    /// The places of the steps' operators.
    pub operators: Vec<Option<Span>>,
    /// `&`.
    pub address_of: bool,
    /// It stands where target variables may exist.
    pub resolvable: bool,
}

impl Target {
    /// It names its module, and so needs no probed place.
    pub fn own_module(&self) -> bool {
        match &self.base {
            TargetBase::AtVar(_, Some(_))
            | TargetBase::Cast(_, _, Some(_))
            | TargetBase::EnumName(_, Some(_), Some(_)) => true,
            TargetBase::Autocast(_, sources) => {
                sources.first().is_some_and(|s| s.target.own_module())
            }
            _ => false,
        }
    }
}

/// What a target expression starts from.
#[derive(Clone, Debug)]
pub enum TargetBase {
    /// `$x`.
    Variable(String),
    /// `@var`.
    AtVar(String, Option<String>),
    /// `@cast`.
    Cast(Box<Expr>, String, Option<String>),
    /// `e->x`, and what the type of `e` comes from.
    Autocast(Box<Expr>, Vec<Source>),
    /// `@enum`.
    Enum(String),
    /// `@enumname`.
    EnumName(Box<Expr>, Option<String>, Option<String>),
}

/// An expression that a value has its type from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The expression.
    pub target: Target,
    /// The probe in whose handler it stands, where that is another one.
    pub home: Option<usize>,
}

/// A step of a target expression.
#[derive(Clone, Debug)]
pub enum TargetStep {
    /// `->x`.
    Member(String),
    /// `[e]`.
    Index(Expr),
    /// `$`.
    Pretty(u8),
}

/// A member of the print family.
#[derive(Clone, Debug)]
pub struct Print {
    /// Which member.
    pub form: PrintForm,
    /// The format of `printf`.
    pub format: Option<Format>,
    /// The delimiter of `printd`.
    pub delimiter: Option<Vec<u8>>,
    /// The arguments after those.
    pub args: Vec<Expr>,
}

/// The whole program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Globals.
    pub globals: Vec<Global>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Probes.
    pub probes: Vec<Probe>,
    /// Globals that embedded C says it reads, or, where true, writes.
    pub named_in_c: Vec<(FunctionId, GlobalId, bool)>,
    /// The points in processes of probes that were elided, probe by probe.
    pub elided: Vec<Vec<Point>>,
    /// Library files that were pulled in, in that order.
    pub pulled: Vec<FileId>,
}

impl Program {
    /// A global.
    pub fn global(&self, id: GlobalId) -> &Global {
        &self.globals[id.0 as usize]
    }

    /// A function.
    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.0 as usize]
    }
}
