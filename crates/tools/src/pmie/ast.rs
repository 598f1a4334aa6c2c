//! Expressions, rules and actions.

use pcp::Timestamp;
use regex_lite::Regex;

use super::shape::Shape;

/// What an expression yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Numbers.
    Number,
    /// Texts.
    Text,
    /// True, false or unknown.
    Truth,
}

/// A dimension of a set of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dimension {
    /// Hosts.
    Host,
    /// Instances.
    Instance,
    /// Samples.
    Sample,
}

/// How a dimension is reduced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Reduction {
    /// Whether any is true.
    Some,
    /// Whether all are true.
    All,
    /// Whether so many in a hundred are true.
    Percent(f64),
    /// How many are true.
    Count,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// All together.
    Sum,
    /// All together, divided by how many they are.
    Average,
}

/// An operator of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
    /// `!=`
    NotEqual,
    /// `&&`
    And,
    /// `||`
    Or,
}

/// What changes with time without being fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockPart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    Day,
    /// 0 to 11.
    Month,
    /// The year.
    Year,
    /// 0, which is Sunday, to 6.
    DayOfWeek,
}

/// What an expression is.
#[derive(Debug)]
pub enum Form {
    /// A number in canonical units.
    Number(f64),
    /// A text.
    Text(String),
    /// `true` or `false`.
    Truth(bool),
    /// The interval in seconds.
    Delta(f64),
    /// A part of the date.
    Clock(ClockPart),
    /// Values of a metric, one entry of [`super::source::Sources`] per host.
    Fetch {
        /// The metric on each host.
        metrics: Vec<usize>,
        /// The newest sample and the oldest.
        samples: (usize, usize),
        /// Whether counters stay what they are.
        instant: bool,
    },
    /// `-`
    Negate(Box<Expr>),
    /// `!`
    Not(Box<Expr>),
    /// The change per second.
    Rate(Box<Expr>),
    /// True when it was false before.
    Rising(Box<Expr>),
    /// True when it was true before and is false now.
    Falling(Box<Expr>),
    /// An operator.
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// Fewer dimensions.
    Reduce(Reduction, Dimension, Box<Expr>),
    /// Only for instances that match, or with `false` that do not.
    Match(Regex, bool, Box<Expr>),
}

/// An expression.
#[derive(Debug)]
pub struct Expr {
    /// Its own number, under which what it was before is kept.
    pub id: usize,
    /// What it yields.
    pub kind: Kind,
    /// How many values it has, as far as its metrics were known when it was read.
    pub shape: Shape,
    /// How many expressions stand in each other in it.
    pub height: usize,
    /// What it is.
    pub form: Form,
}

impl Expr {
    /// The first metric in it.
    pub fn metric(&self) -> Option<usize> {
        let mut left = vec![self];
        while let Some(expr) = left.pop() {
            match &expr.form {
                Form::Fetch { metrics, .. } => return metrics.first().copied(),
                Form::Negate(operand)
                | Form::Not(operand)
                | Form::Rate(operand)
                | Form::Rising(operand)
                | Form::Falling(operand)
                | Form::Reduce(_, _, operand)
                | Form::Match(_, _, operand) => left.push(operand),
                Form::Binary(_, one, other) => left.extend([&**other, &**one]),
                Form::Number(_)
                | Form::Text(_)
                | Form::Truth(_)
                | Form::Delta(_)
                | Form::Clock(_) => {}
            }
        }
        None
    }

    /// Leaves the counters that it is of what they are.
    pub fn keep_counters(&mut self) {
        let mut left = vec![self];
        while let Some(expr) = left.pop() {
            match &mut expr.form {
                Form::Fetch { instant, .. } => *instant = true,
                Form::Negate(operand)
                | Form::Not(operand)
                | Form::Rate(operand)
                | Form::Rising(operand)
                | Form::Falling(operand)
                | Form::Reduce(_, _, operand)
                | Form::Match(_, _, operand) => left.push(operand),
                Form::Binary(_, one, other) => left.extend([&mut **one, &mut **other]),
                Form::Number(_)
                | Form::Text(_)
                | Form::Truth(_)
                | Form::Delta(_)
                | Form::Clock(_) => {}
            }
        }
    }
}

impl Expr {
    /// The value of an expression that does not change.
    pub fn constant(&self) -> Option<f64> {
        match &self.form {
            Form::Number(value) | Form::Delta(value) => Some(*value),
            Form::Negate(operand) => Some(-operand.constant()?),
            Form::Binary(operator, left, right) => {
                let (left, right) = (left.constant()?, right.constant()?);
                Some(match operator {
                    Operator::Add => left + right,
                    Operator::Subtract => left - right,
                    Operator::Multiply => left * right,
                    Operator::Divide => left / right,
                    _ => return None,
                })
            }
            _ => None,
        }
    }

    /// Whether it never changes.
    pub fn is_constant(&self) -> bool {
        match &self.form {
            Form::Number(_) | Form::Text(_) => true,
            // A statement about the interval is evaluated as one about the time is.
            Form::Truth(_) | Form::Delta(_) | Form::Clock(_) | Form::Fetch { .. } => false,
            Form::Negate(e)
            | Form::Not(e)
            | Form::Rate(e)
            | Form::Rising(e)
            | Form::Falling(e)
            | Form::Reduce(_, _, e)
            | Form::Match(_, _, e) => e.is_constant(),
            Form::Binary(_, left, right) => left.is_constant() && right.is_constant(),
        }
    }
}

/// What is done when a condition is true.
#[derive(Debug)]
pub enum Action {
    /// One after the other.
    Both(Box<Action>, Box<Action>),
    /// The second when the first fails.
    Either(Box<Action>, Box<Action>),
    /// One thing.
    One {
        /// `print`, `shell`, `alarm`, `syslog` or `stomp`.
        verb: String,
        /// How long it is not done again.
        holdoff: Option<Timestamp>,
        /// The texts.
        texts: Vec<String>,
        /// Its own number, under which it is kept when it was done.
        id: usize,
    },
}

/// What a statement does.
#[derive(Debug)]
pub enum Body {
    /// An expression that is evaluated.
    Expr(Expr),
    /// A condition and what it leads to.
    Rule(Expr, Action),
    /// Rules of which the first that holds is followed, and what is done when none can be decided, or none holds.
    Rules {
        /// The rules in order.
        rules: Vec<(Expr, Action)>,
        /// When all are unknown.
        unknown: Option<Action>,
        /// When none is true.
        otherwise: Option<Action>,
    },
}

/// A statement.
#[derive(Debug)]
pub struct Statement {
    /// Its name.
    pub name: String,
    /// How often it is evaluated.
    pub delta: Timestamp,
    /// What it does.
    pub body: Body,
}
