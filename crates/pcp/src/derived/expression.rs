//! Expressions of derived metrics as text (pmRegisterDerived(3)): lexical elements and the tree.

use crate::desc::{Semantics, Type};
use crate::units::{ScaledUnits, Units};

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
    const ALL: [(&'static str, Operator); 12] = [
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
    fn word(self) -> &'static str {
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

    fn level(self) -> u8 {
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
    const ALL: [(&'static str, Function); 9] = [
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

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Integer(String),
    Double(String),
    Name(String),
    Operator(Operator),
    Not,
    Open,
    Close,
    Question,
    Colon,
    Comma,
    Assign,
    Text(String),
    Bracket(String),
    Pattern(String),
    End,
}

struct Parser<'a> {
    text: &'a str,
    /// Where the current token begins.
    at: usize,
    /// Where the next one is looked for.
    next: usize,
    token: Token,
    /// The word for what came before the current token.
    before: String,
    depth: usize,
}

/// Deeper nesting is refused.
const DEPTH: usize = 200;
/// The longest regular expression and instance name.
const TEXT: usize = 4096;

/// Parses an expression.
pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
    let mut parser = Parser {
        text,
        at: 0,
        next: 0,
        token: Token::End,
        before: String::new(),
        depth: 0,
    };
    parser.advance()?;
    let expression = parser.ternary()?;
    match parser.token {
        Token::End => Ok(expression),
        Token::Close => Err(parser.error("Unexpected ')'")),
        _ => {
            let before = &parser.before;
            let what =
                format!("Arithmetic or relational or boolean operator expected to follow {before}");
            Err(parser.error(&what))
        }
    }
}

impl Parser<'_> {
    fn error(&self, what: &str) -> SyntaxError {
        SyntaxError {
            at: self.at,
            what: what.to_owned(),
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.next..).unwrap_or("")
    }

    fn advance(&mut self) -> Result<(), SyntaxError> {
        self.before = match &self.token {
            Token::Integer(_) => "INTEGER".to_owned(),
            Token::Double(_) => "DOUBLE".to_owned(),
            Token::Name(_) => "NAME".to_owned(),
            Token::Operator(operator) => operator.word().to_owned(),
            Token::Not => "NOT".to_owned(),
            Token::Question => "QUEST".to_owned(),
            Token::Colon => "COLON".to_owned(),
            Token::Open | Token::Close => std::mem::take(&mut self.before),
            _ => String::new(),
        };
        let skipped = self.rest().len() - self.rest().trim_start().len();
        self.next += skipped;
        self.at = self.next;
        let rest = self.text.get(self.next..).unwrap_or("");
        let Some(first) = rest.chars().next() else {
            self.token = Token::End;
            return Ok(());
        };
        let take = |accept: &dyn Fn(char) -> bool| {
            let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
            rest.get(..end).unwrap_or("").to_owned()
        };
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '?' => (Token::Question, 1),
            ':' => (Token::Colon, 1),
            ',' => (Token::Comma, 1),
            '[' => {
                let (text, length) = self.delimited(rest, ']')?;
                (Token::Bracket(text), length)
            }
            '"' => {
                let (text, length) = self.delimited(rest, '"')?;
                (Token::Text(text), length)
            }
            c if c.is_ascii_digit() || c == '.' => {
                let mut number = take(&|c| c.is_ascii_digit() || c == '.');
                let after = rest.get(number.len()..).unwrap_or("");
                let mut exponent = after.strip_prefix(['e', 'E']).unwrap_or("");
                exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                let digits = exponent.len()
                    - exponent
                        .trim_start_matches(|c: char| c.is_ascii_digit())
                        .len();
                if digits > 0 {
                    let length = after.len() - exponent.len() + digits;
                    number.push_str(after.get(..length).unwrap_or(""));
                }
                let length = number.len();
                if number.bytes().all(|b| b.is_ascii_digit()) {
                    if number.parse::<u32>().is_err() {
                        return Err(self.error("Constant value too large"));
                    }
                    (Token::Integer(number), length)
                } else if number.parse::<f64>().is_ok() {
                    (Token::Double(number), length)
                } else {
                    return Err(self.error("Illegal character"));
                }
            }
            c if c.is_ascii_alphabetic() => {
                let name = take(&|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
                let length = name.len();
                (Token::Name(name), length)
            }
            _ => match Operator::ALL.iter().find(|(s, _)| rest.starts_with(s)) {
                Some((symbol, operator)) => (Token::Operator(*operator), symbol.len()),
                None if first == '!' => (Token::Not, 1),
                None if first == '=' => (Token::Assign, 1),
                None => return Err(self.error("Illegal character")),
            },
        };
        self.token = token;
        self.next = self.at + length;
        Ok(())
    }

    /// What stands between the first byte and a delimiter; a backslash takes away what the next byte means.
    fn delimited(&self, rest: &str, close: char) -> Result<(String, usize), SyntaxError> {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == close {
                return Ok((text, at + c.len_utf8()));
            }
            if text.len() > TEXT {
                break;
            }
            match c {
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                _ => text.push(c),
            }
        }
        Err(self.error(&match close {
            '"' => "unterminated STRING".to_owned(),
            close => format!("No closing '{close}'"),
        }))
    }

    fn ternary(&mut self) -> Result<Expression, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error("Expression nested too deeply"));
        }
        let guard = self.binary(0)?;
        let expression = if self.token == Token::Question {
            self.advance()?;
            let yes = self.ternary()?;
            if self.token != Token::Colon {
                return Err(self.error("':' expected in ternary expression"));
            }
            self.advance()?;
            let no = self.ternary()?;
            Expression::Ternary(Box::new([guard, yes, no]))
        } else {
            guard
        };
        self.depth -= 1;
        Ok(expression)
    }

    /// Operators of one level and above it; all associate to the left.
    fn binary(&mut self, level: u8) -> Result<Expression, SyntaxError> {
        if level > 3 {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        while let Token::Operator(operator) = self.token
            && operator.level() == level
        {
            self.advance()?;
            let right = self.binary(level + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error("Expression nested too deeply"));
        }
        let expression = match self.token {
            Token::Operator(Operator::Minus) => {
                self.advance()?;
                Expression::Negation(Box::new(self.unary()?))
            }
            // What it negates goes as far as it can.
            Token::Not => {
                self.advance()?;
                Expression::Not(Box::new(self.binary(0)?))
            }
            _ => self.primary()?,
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn primary(&mut self) -> Result<Expression, SyntaxError> {
        let mut expression = match self.token.clone() {
            Token::Integer(text) => {
                self.advance()?;
                return Ok(constant(text, Type::U32));
            }
            Token::Double(text) => {
                self.advance()?;
                return Ok(constant(text, Type::Double));
            }
            Token::Open => {
                self.advance()?;
                let inner = self.ternary()?;
                self.close()?;
                inner
            }
            Token::Name(name) => {
                self.advance()?;
                if self.token == Token::Open {
                    self.call(&name)?
                } else {
                    Expression::Metric(name)
                }
            }
            _ if self.before.is_empty() => return Err(self.error("Arithmetic expression expected")),
            _ => {
                let what = format!("Arithmetic expression expected to follow {}", self.before);
                return Err(self.error(&what));
            }
        };
        while let Token::Bracket(instance) = &self.token {
            expression = Expression::Instance(Box::new(expression), instance.clone());
            self.advance()?;
        }
        Ok(expression)
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        match self.token {
            Token::Close => self.advance(),
            _ if self.before.is_empty() => Err(self.error("')' expected")),
            _ => {
                let what = format!("Arithmetic expression expected to follow {}", self.before);
                Err(self.error(&what))
            }
        }
    }

    fn comma(&mut self) -> Result<(), SyntaxError> {
        if self.token != Token::Comma {
            return Err(self.error("',' expected"));
        }
        self.advance()
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        let Token::Name(name) = self.token.clone() else {
            return Err(self.error("Metric name expected"));
        };
        self.advance()?;
        Ok(name)
    }

    fn call(&mut self, name: &str) -> Result<Expression, SyntaxError> {
        let function = Function::ALL.iter().find(|(n, _)| *n == name);
        if name == "matchinst" {
            return self.match_instances();
        }
        if name != "mkconst"
            && !["defined", "anon", "rescale"].contains(&name)
            && function.is_none()
        {
            return Err(self.error("Unknown function"));
        }
        self.advance()?;
        let expression = match (name, function) {
            (_, Some((_, function))) => Expression::Function(*function, Box::new(self.ternary()?)),
            ("defined", _) => Expression::Defined(self.name()?),
            ("anon", _) => {
                let name = self.name()?;
                let ty = type_named(name.strip_prefix("PM_TYPE_").unwrap_or(&name));
                Expression::Anonymous(ty.ok_or_else(|| self.error("Type expected"))?)
            }
            ("rescale", _) => {
                let of = self.ternary()?;
                self.comma()?;
                let Token::Text(units) = self.token.clone() else {
                    return Err(self.error("Units string expected"));
                };
                let parsed: Result<ScaledUnits, _> = units.parse();
                let units = parsed.map_err(|e| self.error(&format!("Illegal units: {e}")))?;
                self.advance()?;
                Expression::Rescale(Box::new(of), units.units)
            }
            _ => self.make_constant()?,
        };
        self.close()?;
        Ok(expression)
    }

    fn make_constant(&mut self) -> Result<Expression, SyntaxError> {
        let negative = self.token == Token::Operator(Operator::Minus);
        if negative {
            self.advance()?;
        }
        let (text, ty) = match self.token.clone() {
            Token::Integer(text) => (text, Type::U32),
            Token::Double(text) => (text, Type::Double),
            _ => return Err(self.error("Constant expected")),
        };
        self.advance()?;
        let sign = if negative { "-" } else { "" };
        let mut made = Constant {
            text: format!("{sign}{text}"),
            ty,
            sem: Semantics::Discrete,
            units: Units::NONE,
        };
        while self.token == Token::Comma {
            self.advance()?;
            let tag = self.name()?;
            if self.token != Token::Assign {
                return Err(self.error("'=' expected"));
            }
            let value = self.tag_value()?;
            let upper = value.to_ascii_uppercase();
            match tag.as_str() {
                "type" => {
                    let ty = type_named(&upper);
                    made.ty = ty.ok_or_else(|| self.error("Illegal type"))?;
                }
                "semantics" => {
                    made.sem = match upper.as_str() {
                        "COUNTER" => Semantics::Counter,
                        "INSTANT" => Semantics::Instant,
                        "DISCRETE" => Semantics::Discrete,
                        _ => return Err(self.error("Illegal semantics")),
                    };
                }
                "units" => {
                    let parsed: Result<ScaledUnits, _> = value.parse();
                    made.units = parsed
                        .map_err(|e| self.error(&format!("Illegal units: {e}")))?
                        .units;
                }
                _ => return Err(self.error("Unknown tag")),
            }
        }
        Ok(Expression::Constant(made))
    }

    /// What stands behind a tag's `=`, up to a comma or the end, or in quotes.
    fn tag_value(&mut self) -> Result<String, SyntaxError> {
        let rest = self.rest();
        let quoted = rest.trim_start().starts_with('"');
        if quoted {
            self.advance()?;
            let Token::Text(text) = self.token.clone() else {
                return Err(self.error("Value expected"));
            };
            self.advance()?;
            return Ok(text);
        }
        let end = rest.find([',', ')']).unwrap_or(rest.len());
        let value = rest.get(..end).unwrap_or("").trim().to_owned();
        self.next += end;
        self.advance()?;
        Ok(value)
    }

    fn match_instances(&mut self) -> Result<Expression, SyntaxError> {
        // The current token is the parenthesis; the filter behind it is no token of expressions.
        let rest = self.text.get(self.next..).unwrap_or("");
        let trimmed = rest.trim_start();
        let negated = trimmed.starts_with('!');
        let pattern = trimmed.strip_prefix('!').unwrap_or(trimmed).trim_start();
        self.at = self.next + (rest.len() - pattern.len());
        if !pattern.starts_with('/') {
            return Err(self.error("Regular expression expected"));
        }
        let (text, length) = self.delimited(pattern, '/')?;
        if regex_lite::Regex::new(&text).is_err() {
            return Err(self.error("Illegal regular expression"));
        }
        self.next = self.at + length;
        self.token = Token::Pattern(text.clone());
        self.advance()?;
        self.comma()?;
        let of = self.ternary()?;
        self.close()?;
        Ok(Expression::Match {
            negated,
            pattern: text,
            of: Box::new(of),
        })
    }
}

fn constant(text: String, ty: Type) -> Expression {
    Expression::Constant(Constant {
        text,
        ty,
        sem: Semantics::Discrete,
        units: Units::NONE,
    })
}

fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "32" => Type::I32,
        "U32" => Type::U32,
        "64" => Type::I64,
        "U64" => Type::U64,
        "FLOAT" => Type::Float,
        "DOUBLE" => Type::Double,
        "STRING" => Type::String,
        "AGGREGATE" => Type::Aggregate,
        "AGGREGATE_STATIC" => Type::AggregateStatic,
        "EVENT" => Type::Event,
        "HIGHRES_EVENT" => Type::HighResEvent,
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree with all its parentheses.
    fn tree(text: &str) -> String {
        fn show(expression: &Expression) -> String {
            match expression {
                Expression::Binary(op, a, b) => {
                    format!("({}{}{})", show(a), op.symbol(), show(b))
                }
                Expression::Negation(x) => format!("(-{})", show(x)),
                Expression::Not(x) => format!("(!{})", show(x)),
                Expression::Ternary(parts) => {
                    let [guard, yes, no] = &**parts;
                    format!("({}?{}:{})", show(guard), show(yes), show(no))
                }
                Expression::Function(function, x) => format!("{}({})", function.name(), show(x)),
                Expression::Instance(x, name) => format!("{}[{name}]", show(x)),
                other => other.to_string(),
            }
        }
        show(&parse(text).unwrap_or_else(|e| panic!("{text}: {e}")))
    }

    #[test]
    fn precedence_as_in_the_manual_page() {
        assert_eq!(tree("a+b*c"), "(a+(b*c))");
        assert_eq!(tree("a-b>c+d"), "((a-b)>(c+d))");
        assert_eq!(tree("a>b!=c"), "((a>b)!=c)");
        assert_eq!(tree("a>b*c&&d<=e+f"), "((a>(b*c))&&(d<=(e+f)))");
        assert_eq!(
            tree("a>=b||b>c&&d!=e||f>g"),
            "((((a>=b)||(b>c))&&(d!=e))||(f>g))"
        );
        assert_eq!(tree("!a>b||c<d"), "(!((a>b)||(c<d)))");
        assert_eq!(tree("!a<b+c"), "(!(a<(b+c)))");
        assert_eq!(tree("-3*some.metric"), "((-3)*some.metric)");
        assert_eq!(tree("a - 5 - 2"), "((a-5)-2)");
        assert_eq!(tree("a ? b : c ? d : e"), "(a?b:(c?d:e))");
        assert_eq!(tree("(i.x + o.y)[eth 1]"), "(i.x+o.y)[eth 1]");
        assert_eq!(tree("delta(t.b) / delta(t.n)"), "(delta(t.b)/delta(t.n))");
    }

    #[test]
    fn constants_with_tags() {
        let made = parse("mkconst(1.0, semantics=instant, units=\"kbyte / count\")");
        let Ok(Expression::Constant(made)) = made else {
            panic!("{made:?}");
        };
        assert_eq!(made.sem, Semantics::Instant);
        assert_eq!(made.units.to_string(), "Kbyte / count");
        let made = parse("mkconst(10485760, type=U64, units=Kbyte)");
        assert!(matches!(made, Ok(Expression::Constant(c)) if c.ty == Type::U64));
    }

    #[test]
    fn mistakes_have_a_place() {
        let mistake = |text| parse(text).expect_err(text);
        assert_eq!(
            mistake(" a.b +").what,
            "Arithmetic expression expected to follow PLUS"
        );
        assert_eq!(mistake(" a.b +").at, 6);
        assert_eq!(
            mistake("a b").what,
            "Arithmetic or relational or boolean operator expected to follow NAME"
        );
        assert_eq!(mistake(" 4294967296").what, "Constant value too large");
        assert_eq!(mistake("foo ^ bar").at, 4);
        assert_eq!(mistake("a / b )").what, "Unexpected ')'");
        assert!(parse(&"(".repeat(5000)).is_err());
        assert!(parse(&"-".repeat(5000)).is_err());
    }
}
