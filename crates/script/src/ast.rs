//! The syntax tree: the grammar of SystemTap's language reference (and of stap(1)), one node per construct,
//! nothing resolved. Preprocessing (`%( … %)`, `@define`, `$1`/`@1`) is done before this tree exists.

use crate::span::{FileId, Span};

/// An identifier with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The spelling.
    pub text: String,
    /// The place.
    pub span: Span,
}

/// One parsed file.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// Which source text it is.
    pub id: FileId,
    /// Probes that are not aliases.
    pub probes: Vec<Probe>,
    /// `probe A = B {}` and `probe A += B {}`.
    pub aliases: Vec<Alias>,
    /// `global` declarations.
    pub globals: Vec<GlobalDecl>,
    /// `function` declarations.
    pub functions: Vec<FunctionDecl>,
    /// Top-level `%{ … %}` blocks.
    pub embeds: Vec<EmbeddedCode>,
}

/// `%{ … %}`.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedCode {
    /// The text between the marks.
    pub code: String,
    /// The whole block.
    pub span: Span,
}

/// `probe pp, pp { … }`.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The `probe` keyword's place.
    pub span: Span,
    /// The alternatives, after brace expansion.
    pub points: Vec<ProbePoint>,
    /// The handler.
    pub body: Stmt,
}

/// `probe NAME = pp, pp { … }`.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The `probe` keyword's place.
    pub span: Span,
    /// The new names (several with `A = B = pp`).
    pub names: Vec<ProbePoint>,
    /// True for `+=`: the body runs after the user's.
    pub epilogue: bool,
    /// What it stands for.
    pub points: Vec<ProbePoint>,
    /// The prologue or epilogue.
    pub body: Stmt,
    /// A further `{ … }` that is an epilogue to a `=` alias (stap 5).
    pub tail: Option<Stmt>,
}

/// `a.b("c").d(3)?`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbePoint {
    /// The dotted parts.
    pub components: Vec<Component>,
    /// `?` after it.
    pub optional: bool,
    /// `!` after it.
    pub sufficient: bool,
    /// `if (…)` after it.
    pub condition: Option<Box<Expr>>,
    /// From the first component to the last.
    pub span: Span,
}

/// One part of a probe point.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The word, with its wildcards.
    pub name: Name,
    /// The argument in parentheses.
    pub arg: Option<Literal>,
    /// The argument's place.
    pub arg_span: Span,
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A number, wrapped to 64 bits.
    Number(i64),
    /// A string, escapes decoded. Bytes, since a script may spell any byte.
    String(Vec<u8>),
}

/// `global name%[size] = init`.
#[derive(Clone, Debug)]
pub struct GlobalDecl {
    /// The variable.
    pub name: Name,
    /// `private`.
    pub private: bool,
    /// `%` after the name: the array drops its oldest element when full.
    pub wrap: bool,
    /// `[N]`.
    pub size: Option<i64>,
    /// `= literal`.
    pub init: Option<Literal>,
    /// The `=`, if there is one.
    pub equals: Option<Span>,
}

/// A type named in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeName {
    /// `long`.
    Long,
    /// `string`.
    String,
}

/// `function name:type (params) { … }`.
#[derive(Clone, Debug)]
pub struct FunctionDecl {
    /// The function.
    pub name: Name,
    /// `private`.
    pub private: bool,
    /// Its declared type.
    pub ty: Option<TypeName>,
    /// Its parameters.
    pub params: Vec<Param>,
    /// `:N` after the parameters.
    pub priority: Option<i64>,
    /// What it does.
    pub body: FunctionBody,
}

/// A formal parameter.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// Its declared type.
    pub ty: Option<TypeName>,
}

/// A function's body.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum FunctionBody {
    /// `{ … }`.
    Block(Stmt),
    /// `%{ … %}`.
    Embedded(EmbeddedCode),
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// Its first token (stap reports run-time errors at tokens).
    pub span: Span,
}

/// The kinds of statement.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `;`.
    Null,
    /// `{ … }`.
    Block(Vec<Stmt>),
    /// An expression for its effect.
    Expr(Expr),
    /// `if (c) a else b`.
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    /// `while (c) s`.
    While(Expr, Box<Stmt>),
    /// `for (init; cond; step) s`; each part may be absent.
    For(Option<Expr>, Option<Expr>, Option<Expr>, Box<Stmt>),
    /// `foreach …`.
    Foreach(Box<Foreach>),
    /// `return e` or `return`.
    Return(Option<Expr>),
    /// `delete e`.
    Delete(Expr),
    /// `next`.
    Next,
    /// `break`.
    Break,
    /// `continue`.
    Continue,
    /// `try { a } catch (v) { b }`.
    Try(Box<Stmt>, Option<Name>, Box<Stmt>),
    /// `%{ … %}` as a statement.
    Embedded(EmbeddedCode),
}

/// Order of a `foreach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// `+`.
    Ascending,
    /// `-`.
    Descending,
}

/// What a `foreach` sorts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The value; for statistics by this aggregate (`@count` when not said).
    Value(Option<StatOp>),
    /// The n-th key, from 0.
    Key(usize),
}

/// `foreach (v = [a, b] in c[*, 1] @sum- limit 3) s`.
#[derive(Clone, Debug)]
pub struct Foreach {
    /// `v =`.
    pub value: Option<Name>,
    /// The key variables.
    pub keys: Vec<Name>,
    /// The array (a `Symbol`) or a histogram (`Hist`).
    pub base: Expr,
    /// `[*, 1]` after the array: `None` for `*`.
    pub slice: Option<Vec<Option<Expr>>>,
    /// Sorting.
    pub sort: Option<(SortKey, Direction)>,
    /// `limit e`.
    pub limit: Option<Expr>,
    /// The loop's body.
    pub body: Stmt,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// The token that stap would name in a message: the operator of a binary expression, the first token otherwise.
    pub span: Span,
}

/// Binary operators that yield a value from two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Shl,
    Shr,
    ShrLogical,
    And,
    Or,
    Xor,
    LogicalAnd,
    LogicalOr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Concat,
}

/// Unary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum UnaryOp {
    Plus,
    Minus,
    Not,
    Complement,
}

/// Assignment operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignOp {
    /// `=`.
    Set,
    /// `<<<`.
    Aggregate,
    /// `op=`.
    Binary(BinaryOp),
}

/// Statistics extractors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StatOp {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    Variance,
}

/// Histogram extractors.
#[derive(Clone, Debug, PartialEq)]
pub enum HistOp {
    /// `@hist_log(s)`.
    Log,
    /// `@hist_linear(s, low, high, step)`.
    Linear(i64, i64, i64),
}

/// The members of the print family: `print printf println printd printdln`, with or without `s` in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrintForm {
    /// `sprint…`: the result is the string.
    pub to_string: bool,
    /// `printf`.
    pub format: bool,
    /// `printd…`: the first argument separates the others.
    pub delimiter: bool,
    /// `…ln`.
    pub newline: bool,
    /// `print_char`-like: one argument as a byte.
    pub char: bool,
}

/// A step from a target variable to a part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetStep {
    /// `->name`, and the operator's place.
    Member(Name, Span),
    /// `[e]`, and the place of the bracket.
    Index(Box<Expr>, Span),
    /// `$` (depth 1) or `$$` (depth 2) at the end: pretty print.
    Pretty(u8),
}

/// The kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A literal.
    Literal(Literal),
    /// A variable or, without arguments, nothing else (calls always have parentheses).
    Symbol(String),
    /// `a[k, *]`; `None` stands for `*`.
    Index(Box<Expr>, Vec<Option<Expr>>),
    /// `[k, *] in a` and `k in a`.
    In(Vec<Option<Expr>>, Box<Expr>),
    /// `f(a, b)`.
    Call(Name, Vec<Expr>),
    /// `-e`.
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `a =~ "re"`; the flag is true for `!~`.
    Match(Box<Expr>, Box<Expr>, bool),
    /// `c ? a : b`.
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `a op= b`.
    Assign(AssignOp, Box<Expr>, Box<Expr>),
    /// `++a`: increment (else decrement), prefix (else postfix).
    Step {
        /// `++`, else `--`.
        increment: bool,
        /// In front of the operand.
        prefix: bool,
        /// What it applies to.
        operand: Box<Expr>,
    },
    /// `@count(s)`; the number is `@variance`'s shift, if one is given.
    Stat(StatOp, Box<Expr>, Option<i64>),
    /// `@hist_log(s)`.
    Hist(HistOp, Box<Expr>),
    /// `$name`, `$$vars`, `$$name` with the steps after it. The name keeps its dollars.
    Target {
        /// The name with its dollars.
        name: String,
        /// What is taken from it, in order.
        steps: Vec<TargetStep>,
        /// `&` in front.
        address_of: bool,
    },
    /// `@var("name", "module")` with steps.
    AtVar {
        /// The variable, perhaps with `@file`.
        name: Vec<u8>,
        /// The module or modules to look in.
        module: Option<Vec<u8>>,
        /// What is taken from it, in order.
        steps: Vec<TargetStep>,
        /// `&` in front.
        address_of: bool,
    },
    /// `@cast(e, "type", "module")` with steps.
    Cast {
        /// What it applies to.
        operand: Box<Expr>,
        /// The type's name.
        ty: Vec<u8>,
        /// The module or modules to look in.
        module: Option<Vec<u8>>,
        /// What is taken from it, in order.
        steps: Vec<TargetStep>,
        /// `&` in front.
        address_of: bool,
    },
    /// `e->x` on a plain expression.
    Autocast {
        /// What it applies to.
        operand: Box<Expr>,
        /// What is taken from it, in order.
        steps: Vec<TargetStep>,
        /// `&` in front.
        address_of: bool,
    },
    /// `@defined(e)`.
    Defined(Box<Expr>),
    /// `@probewrite(e)`.
    ProbeWrite(Box<Expr>),
    /// `@entry(e)`.
    Entry(Box<Expr>),
    /// `@perf("name")`.
    Perf(Vec<u8>),
    /// `@enum("A")`, `@enumname(e, "type", "module")`, `@const("C")`, `@kregister(n)`… and later `@words`, by name.
    AtWord(Name, Vec<Expr>),
    /// `print(…)` and its family.
    Print(PrintForm, Vec<Expr>),
    /// `%{ … %}` as an expression.
    Embedded(EmbeddedCode),
}
