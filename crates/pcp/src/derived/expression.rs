//! Expressions of derived metrics as text (pmRegisterDerived(3)): the tree.

use crate::desc::{Semantics, Type};
use crate::units::Units;

/// Operators on two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Star,
    /// `/`
    Slash,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `==`
    Equal,
    /// `>=`
    GreaterEqual,
    /// `>`
    Greater,
    /// `!=`
    NotEqual,
    /// `&&`
    And,
    /// `||`
    Or,
}

impl Operator {
    pub(super) const ALL: [(&'static str, Operator); 12] = [
        ("<=", Operator::LessEqual),
        (">=", Operator::GreaterEqual),
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("&&", Operator::And),
        ("||", Operator::Or),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("+", Operator::Plus),
        ("-", Operator::Minus),
        ("*", Operator::Star),
        ("/", Operator::Slash),
    ];

    /// As it is written.
    pub fn symbol(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, op)| *op == self);
        found.map_or("", |(symbol, _)| symbol)
    }

    /// The name that messages have for it.
    pub fn word(self) -> &'static str {
        match self {
            Operator::Plus => "PLUS",
            Operator::Minus => "MINUS",
            Operator::Star => "STAR",
            Operator::Slash => "SLASH",
            Operator::Less => "LT",
            Operator::LessEqual => "LEQ",
            Operator::Equal => "EQ",
            Operator::GreaterEqual => "GEQ",
            Operator::Greater => "GT",
            Operator::NotEqual => "NEQ",
            Operator::And => "AND",
            Operator::Or => "OR",
        }
    }

    /// Whether the result is a number and not a truth.
    pub fn is_arithmetic(self) -> bool {
        matches!(
            self,
            Operator::Plus | Operator::Minus | Operator::Star | Operator::Slash
        )
    }

    pub(super) fn level(self) -> u8 {
        match self {
            Operator::And | Operator::Or => 0,
            Operator::Plus | Operator::Minus => 2,
            Operator::Star | Operator::Slash => 3,
            _ => 1,
        }
    }
}

/// Functions of one metric or expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Function {
    /// The mean of all instances.
    Avg,
    /// The number of instances.
    Count,
    /// What was added since the last fetch.
    Delta,
    /// That by the time between.
    Rate,
    /// The value without the semantics of a counter.
    Instant,
    /// The largest of all instances.
    Max,
    /// The smallest of all instances.
    Min,
    /// The sum of all instances.
    Sum,
    /// The first instance, without its number.
    Scalar,
}

impl Function {
    pub(super) const ALL: [(&'static str, Function); 9] = [
        ("avg", Function::Avg),
        ("count", Function::Count),
        ("delta", Function::Delta),
        ("rate", Function::Rate),
        ("instant", Function::Instant),
        ("max", Function::Max),
        ("min", Function::Min),
        ("sum", Function::Sum),
        ("scalar", Function::Scalar),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, f)| *f == self);
        found.map_or("", |(name, _)| name)
    }
}

/// A number that stands in an expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Constant {
    /// As it is written.
    pub text: String,
    /// Its type.
    pub ty: Type,
    /// Its semantics.
    pub sem: Semantics,
    /// Its units.
    pub units: Units,
}

impl Constant {
    /// Whether it is written with a point or an exponent.
    pub fn is_real(&self) -> bool {
        self.text.contains(['.', 'e', 'E'])
    }
}

/// An expression.
#[derive(Clone, PartialEq, Debug)]
pub enum Expression {
    /// A number.
    Constant(Constant),
    /// A metric.
    Metric(String),
    /// `-x`
    Negation(Box<Expression>),
    /// `!x`
    Not(Box<Expression>),
    /// `x op y`
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// `guard ? x : y`
    Ternary(Box<[Expression; 3]>),
    /// `f(x)`
    Function(Function, Box<Expression>),
    /// Whether there is such a metric.
    Defined(String),
    /// No values, of a type.
    Anonymous(Type),
    /// The same in other units.
    Rescale(Box<Expression>, Units),
    /// The instances whose names match, or do not.
    Match {
        /// Whether those that do not match are meant.
        negated: bool,
        /// The regular expression.
        pattern: String,
        /// Of what.
        of: Box<Expression>,
    },
    /// One instance.
    Instance(Box<Expression>, String),
}

/// A mistake in an expression.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct SyntaxError {
    /// The byte at which it was noticed.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

/// As messages show it: what is no single metric, number or function of one is `<expr>`.
impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Expression::Constant(constant) => f.write_str(&constant.text),
            Expression::Metric(name) => f.write_str(name),
            _ => f.write_str("<expr>"),
        }
    }
}
