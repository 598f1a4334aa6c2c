//! The typed program that the front end hands to code generation: names resolved, types inferred, unused things gone,
//! aliases and tapset functions pulled in. It knows nothing of processes or machine code; target variables stay as
//! they were written and are resolved per probe site by whoever matches the probe points.

use std::collections::BTreeSet;

use crate::ast::{self, BinaryOp, Direction, HistOp, SortKey, StatOp, UnaryOp};
use crate::format::Format;
use crate::span::{SourceMap, Span};

/// Index into [`Program::globals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GlobalId(pub u32);

/// Index into [`Program::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// Index into [`Body::locals`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalId(pub u32);

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// 64-bit signed integer.
    Long,
    /// Bytes without NUL, at most `MAXSTRINGLEN - 1` of them.
    String,
    /// No value (a call of a function that returns nothing).
    Unit,
}

/// A whole script, ready for code generation.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Global variables in use.
    pub globals: Vec<Global>,
    /// Functions in use.
    pub functions: Vec<Function>,
    /// Probes, in the order of the script (tapset aliases expanded).
    pub probes: Vec<Probe>,
    /// The points in processes of probes that were elided, probe by probe: as for stap they have to exist nonetheless.
    pub elided: Vec<Vec<ProbePoint>>,
    /// Variables of programs may be written (`-g`).
    pub guru: bool,
    /// The probes at whose places others look for types ([`Source::home`]).
    pub type_homes: BTreeSet<usize>,
    /// The texts that spans refer to.
    pub sources: SourceMap,
}

/// What a statistic must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StatNeeds {
    /// `@min` is read.
    pub min: bool,
    /// `@max` is read.
    pub max: bool,
    /// `@sum` or `@avg` is read.
    pub sum: bool,
    /// `@variance` is read, with this shift.
    pub variance: Option<u8>,
}

/// A histogram that a statistic must keep (SystemTap allows one shape per variable).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistShape {
    /// `@hist_log`.
    Log,
    /// `@hist_linear` with these bounds.
    Linear {
        /// Lowest bucket.
        low: i64,
        /// Highest bucket.
        high: i64,
        /// Bucket width.
        step: i64,
    },
}

/// What a global holds.
#[derive(Clone, Debug, PartialEq)]
pub enum GlobalType {
    /// A number or a string.
    Scalar(Type),
    /// A statistic.
    Stat(StatNeeds, Option<HistShape>),
    /// An array.
    Map {
        /// Key types, one to nine.
        keys: Vec<Type>,
        /// Element type.
        value: MapValue,
        /// `[N]` of the declaration; `None` for MAXMAPENTRIES.
        size: Option<u32>,
        /// `%`: the oldest element makes room when full.
        wrap: bool,
    },
}

/// What an array's element holds.
#[derive(Clone, Debug, PartialEq)]
pub enum MapValue {
    /// A number.
    Long,
    /// A string.
    String,
    /// A statistic.
    Stat(StatNeeds, Option<HistShape>),
}

/// A global variable.
#[derive(Clone, Debug)]
pub struct Global {
    /// Name as written (private ones keep their plain name).
    pub name: String,
    /// Its declaration.
    pub span: Span,
    /// Its type.
    pub ty: GlobalType,
    /// Initial value.
    pub init: Option<ast::Literal>,
    /// Written but never read by the script: its value is shown when the session ends.
    pub auto_display: bool,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Name as written.
    pub name: String,
    /// Its declaration.
    pub span: Span,
    /// How many of the body's first locals are parameters.
    pub params: u32,
    /// Result type.
    pub result: Type,
    /// What it does.
    pub body: Body,
    /// Overloads tried in turn when this one says `next` (by falling priority).
    pub next: Option<FunctionId>,
}

/// Locals and statements of a function or a probe.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// All local variables, parameters first. They start as 0 or "".
    pub locals: Vec<Local>,
    /// The statements.
    pub stmts: Vec<Stmt>,
}

/// A local variable.
#[derive(Clone, Debug)]
pub struct Local {
    /// Name as written, or of a temporary.
    pub name: String,
    /// `Long` or `String`.
    pub ty: Type,
}

/// A probe: one handler and the points that run it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The `probe` keyword's place.
    pub span: Span,
    /// The points after alias expansion.
    pub points: Vec<ProbePoint>,
    /// The handler, prologue and epilogue of aliases included.
    pub body: Body,
}

/// A probe point after alias expansion.
#[derive(Clone, Debug)]
pub struct ProbePoint {
    /// As it is to be resolved: no alias left.
    pub point: ast::ProbePoint,
    /// The chain of names that led here, the user's first (for `-l` and for `pn()`).
    pub via: Vec<ast::ProbePoint>,
    /// `if (…)`: evaluated before the handler.
    pub condition: Option<Expr>,
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it does.
    pub kind: StmtKind,
    /// Its place, for messages.
    pub span: Span,
}

/// The kinds of statement.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// An expression for its effect.
    Expr(Expr),
    /// Statements in turn.
    Block(Vec<Stmt>),
    /// `if`.
    If(Expr, Vec<Stmt>, Vec<Stmt>),
    /// `while` and `for`; the step runs after the body and on `continue`.
    #[allow(missing_docs)]
    Loop {
        cond: Option<Expr>,
        body: Vec<Stmt>,
        step: Option<Expr>,
    },
    /// `foreach` over an array.
    Foreach(Box<Foreach>),
    /// `foreach` over a histogram's buckets: binds the bucket's index and, if wanted, its count.
    #[allow(missing_docs)]
    ForeachBucket {
        key: LocalId,
        value: Option<LocalId>,
        stat: StatRef,
        descending: Option<(SortKey, Direction)>,
        limit: Option<Expr>,
        body: Vec<Stmt>,
    },
    /// `return`.
    Return(Option<Expr>),
    /// `delete a[k]`.
    DeleteElement(GlobalId, Vec<Expr>),
    /// `delete a[k, *]`: every element whose keys equal those given.
    DeleteSlice(GlobalId, Vec<Option<Expr>>),
    /// `delete g`: a whole array or statistic emptied, a scalar set to 0 or "".
    DeleteAll(GlobalId),
    /// `next` in a probe: leave the handler. In a function: try the next overload.
    Next,
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `try … catch (message) …`.
    #[allow(missing_docs)]
    Try {
        body: Vec<Stmt>,
        message: Option<LocalId>,
        handler: Vec<Stmt>,
    },
}

/// `foreach` over an array.
#[derive(Clone, Debug)]
pub struct Foreach {
    /// The array.
    pub map: GlobalId,
    /// Where the keys go.
    pub keys: Vec<LocalId>,
    /// Where the value goes (never of statistics arrays).
    pub value: Option<LocalId>,
    /// `[*, e]`: only elements with these keys.
    pub slice: Option<Vec<Option<Expr>>>,
    /// Order; insertion order without.
    pub sort: Option<(SortKey, Direction)>,
    /// Largest number of rounds.
    pub limit: Option<Expr>,
    /// The body.
    pub body: Vec<Stmt>,
}

/// A statistic: a global or an element of an array of them.
#[derive(Clone, Debug)]
pub struct StatRef {
    /// The global.
    pub global: GlobalId,
    /// Keys, when it is an array.
    pub keys: Vec<Expr>,
    /// The variable's name in the text.
    pub span: Span,
}

/// A place that can be assigned to.
#[derive(Clone, Debug)]
pub enum LValue {
    /// A local.
    Local(LocalId),
    /// A scalar global.
    Global(GlobalId),
    /// An array element; the array's name in the text.
    Element(GlobalId, Vec<Expr>, Span),
    /// A target variable (guru mode).
    Target(Box<Target>),
}

/// A target variable as written, with typed index expressions.
#[derive(Clone, Debug)]
pub struct Target {
    /// What is named.
    pub base: TargetBase,
    /// Members and indices after it.
    pub steps: Vec<TargetStep>,
    /// The places of the steps' operators: `->`, `[`.
    pub operators: Vec<Option<Span>>,
    /// `&` in front.
    pub address_of: bool,
    /// Its place.
    pub span: Span,
}

/// What a target expression starts from.
#[derive(Clone, Debug)]
pub enum TargetBase {
    /// `$name`, dollars kept; `$$vars` and the like have type string.
    Variable(String),
    /// `@var("name", "module")`.
    AtVar(String, Option<String>),
    /// `@cast(e, "type", "module")`.
    Cast(Box<Expr>, String, Option<String>),
    /// `e->…`, and the expressions that the type of `e` comes from, which are not evaluated and have to agree.
    Autocast(Box<Expr>, Vec<Source>),
    /// `@enum("NAME")`: the value of an enumerator.
    Enum(String),
    /// `@enumname(e, "type", "module")`, a string; without a type the operand's own is meant.
    EnumName(Box<Expr>, Option<String>, Option<String>),
}

/// An expression that a value has its type from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The expression.
    pub target: Target,
    /// The index of the probe at whose places it means something, where that is not the one it is used in. Only of what
    /// stands outermost: sources of sources are at home where those are.
    pub home: Option<usize>,
}

/// A step of a target expression.
#[derive(Clone, Debug)]
pub enum TargetStep {
    /// `->name`.
    Member(String),
    /// `[e]`.
    Index(Expr),
    /// `$` or `$$`.
    Pretty(u8),
}

/// A typed expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it computes.
    pub kind: ExprKind,
    /// Its type.
    pub ty: Type,
    /// The token for messages.
    pub span: Span,
}

/// The kinds of expression.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A number.
    Long(i64),
    /// A string.
    Str(Vec<u8>),
    /// A local's value.
    Local(LocalId),
    /// A scalar global's value.
    Global(GlobalId),
    /// An array element's value (0 or "" when absent).
    Element(GlobalId, Vec<Expr>),
    /// `[k, *] in a`.
    In(GlobalId, Vec<Option<Expr>>),
    /// Arithmetic and comparison; operands both long or (comparisons) both string. `&&` and `||` are short-circuit.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// String concatenation, left to right.
    Concat(Vec<Expr>),
    /// `=~` against a constant pattern; true in the flag for `!~`.
    Match(Box<Expr>, Vec<u8>, bool),
    /// Unary.
    Unary(UnaryOp, Box<Expr>),
    /// `c ? a : b`.
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `lv = e`; the value is the new one.
    Assign(LValue, Box<Expr>),
    /// `lv op= e`; the value is the new one. `Concat` for `.=`.
    AssignOp(BinaryOp, LValue, Box<Expr>),
    /// `lv++` and the like: amount +1 or -1; prefix gives the new value, postfix the old.
    #[allow(missing_docs)]
    Step {
        target: LValue,
        amount: i64,
        prefix: bool,
    },
    /// `s <<< e`; the value is e.
    Aggregate(StatRef, Box<Expr>),
    /// `@count(s)` and the like; the number is `@variance`'s shift.
    Stat(StatOp, StatRef, u8),
    /// `@hist_log(s)[i]`.
    Bucket(StatRef, HistOp, Box<Expr>),
    /// A call of a script function.
    Call(FunctionId, Vec<Expr>),
    /// A call of an operation that the run time provides (see `script::intrinsics`).
    Intrinsic(&'static crate::intrinsics::Intrinsic, Vec<Expr>),
    /// A target variable's value (or `$$vars`-like text).
    Target(Box<Target>),
    /// `@defined(…)`: decided per probe site. True when every part resolves.
    Defined(Box<Target>),
    /// `@entry(…)` in a `.return` probe: the value when the function was entered. Names no locals.
    Entry(Box<Expr>),
    /// `print…` (type Unit; Long where its value, 0, is wanted) or `sprint…` (type String): every member of the family is reduced to a format.
    /// Histogram conversions take [`PrintArg::Hist`].
    #[allow(missing_docs)]
    Print {
        format: Format,
        args: Vec<PrintArg>,
        to_string: bool,
    },
}

/// An argument of a print.
#[derive(Clone, Debug)]
pub enum PrintArg {
    /// A number or string.
    Value(Expr),
    /// `@hist_log(s)` or `@hist_linear(s, …)`.
    Hist(StatRef, HistOp),
}
