//! The grammar of expressions (pmRegisterDerived(3)).

mod calls;

use super::expression::{Expression, Function, Operator, SyntaxError};
use super::token::{OTHER_FUNCTIONS, Token, number};
use super::trace;
use crate::desc::Type;

use calls::constant;

struct Parser<'a> {
    text: &'a str,
    /// Where the current token begins.
    at: usize,
    /// Where the next one is looked for.
    next: usize,
    token: Token,
    /// What is open around the current token, as what is said when it can't be finished.
    contexts: Vec<String>,
    depth: usize,
    operands: usize,
}

/// Deeper nesting is refused.
const DEPTH: usize = 200;
/// More operands are refused: operators one behind the other are within one another once they are read.
const OPERANDS: usize = 2000;
/// The longest regular expression and instance name.
const TEXT: usize = 4096;

/// Parses an expression.
pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
    let mut parser = Parser {
        text,
        at: 0,
        next: 0,
        token: Token::End,
        contexts: Vec::new(),
        depth: 0,
        operands: 0,
    };
    parser.advance()?;
    let expression = parser.ternary()?;
    match parser.token {
        Token::End => Ok(expression),
        // That these are wrong is noticed behind them.
        Token::Close => {
            parser.advance()?;
            Err(parser.error("Unexpected ')'"))
        }
        Token::Open => {
            parser.advance()?;
            Err(parser.error("Unexpected '('"))
        }
        _ => Err(parser.unexpected()),
    }
}

impl Parser<'_> {
    fn error(&self, what: &str) -> SyntaxError {
        let at = match self.token {
            Token::End => self.text.len().saturating_sub(1),
            _ => self.at,
        };
        SyntaxError {
            at,
            what: what.to_owned(),
        }
    }

    /// What is said of a token that can't stand where it does: what the innermost open construct lacks, or nothing.
    fn unexpected(&self) -> SyntaxError {
        self.error(self.contexts.last().map_or("", String::as_str))
    }

    /// Runs `of` with a construct open.
    fn within<T>(
        &mut self,
        context: &str,
        of: impl FnOnce(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<T, SyntaxError> {
        self.contexts.push(context.to_owned());
        let result = of(self)?;
        self.contexts.pop();
        Ok(result)
    }

    fn rest(&self) -> &str {
        self.text.get(self.next..).unwrap_or("")
    }

    /// A mistake within a token that would begin here.
    fn illegal(&self, what: &str, shown: &str) -> SyntaxError {
        trace::token("ERROR", shown);
        SyntaxError {
            at: self.at,
            what: what.to_owned(),
        }
    }

    fn advance(&mut self) -> Result<(), SyntaxError> {
        let skipped = self.rest().len() - self.rest().trim_start().len();
        self.next += skipped;
        self.at = self.next;
        let rest = self.text.get(self.next..).unwrap_or("");
        let Some(first) = rest.chars().next() else {
            self.token = Token::End;
            trace::token("EOS", "");
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
                let number = number(rest);
                let length = number.len();
                if number.bytes().all(|b| b.is_ascii_digit()) {
                    if number.parse::<u32>().is_err() {
                        return Err(self.illegal("Constant value too large", number));
                    }
                    (Token::Integer(number.to_owned()), length)
                } else if number.parse::<f64>().is_ok() {
                    (Token::Double(number.to_owned()), length)
                } else {
                    return Err(self.illegal("Illegal character", number));
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
                None => return Err(self.illegal("Illegal character", &first.to_string())),
            },
        };
        self.token = token;
        self.next = self.at + length;
        if trace::wanted() {
            let (kind, shown) = self.token.shown(self.rest().starts_with('('));
            trace::token(&kind, shown);
        }
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
        let what = match close {
            '"' => "unterminated STRING",
            ']' => "unterminated instance name",
            _ => "unterminated pattern",
        };
        Err(self.illegal(what, &text))
    }

    fn ternary(&mut self) -> Result<Expression, SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error("Expression nested too deeply"));
        }
        let mut expression = self.binary(0)?;
        while self.token == Token::Question {
            let yes = self.within("Arithmetic expression expected to follow QUEST", |p| {
                p.advance()?;
                let yes = p.ternary()?;
                match p.token {
                    Token::Colon => Ok(yes),
                    _ => Err(p.unexpected()),
                }
            })?;
            let no = self.within("Arithmetic expression expected to follow COLON", |p| {
                p.advance()?;
                p.binary(0)
            })?;
            expression = Expression::Ternary(Box::new([expression, yes, no]));
        }
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
            let kind = match operator {
                Operator::And | Operator::Or => "Boolean",
                _ => "Arithmetic",
            };
            let lacks = format!("{kind} expression expected to follow {}", operator.word());
            let right = self.within(&lacks, |p| {
                p.advance()?;
                p.binary(level + 1)
            })?;
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
                let of = self.within("Arithmetic expression expected to follow NEG", |p| {
                    p.advance()?;
                    p.binary(3)
                })?;
                Expression::Negation(Box::new(of))
            }
            // Each negates what binds closer than it does, products the one and comparisons the other.
            Token::Not => {
                let of = self.within("Boolean expression expected to follow NOT", |p| {
                    p.advance()?;
                    p.binary(1)
                })?;
                Expression::Not(Box::new(of))
            }
            _ => self.primary()?,
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn count_operand(&mut self) -> Result<(), SyntaxError> {
        self.operands += 1;
        match self.operands > OPERANDS {
            true => Err(self.error("Expression with too many operands")),
            false => Ok(()),
        }
    }

    fn primary(&mut self) -> Result<Expression, SyntaxError> {
        self.count_operand()?;
        let mut expression = match self.token.clone() {
            Token::Integer(text) => {
                self.advance()?;
                return Ok(constant(text, Type::U32));
            }
            Token::Double(text) => {
                self.advance()?;
                return Ok(constant(text, Type::Double));
            }
            Token::Open if self.contexts.is_empty() => {
                self.within("Unexpected initial '('", Self::parenthesized)?
            }
            Token::Open => self.parenthesized()?,
            Token::Name(name) => {
                self.advance()?;
                if self.token == Token::Open && self.is_function(&name) {
                    self.call(&name)?
                } else {
                    self.behind_name()?;
                    Expression::Metric(name)
                }
            }
            // What can't begin an expression is noticed behind it.
            Token::Operator(_) | Token::Question | Token::Colon | Token::Close
                if self.contexts.is_empty() =>
            {
                let shown = self.text.get(self.at..self.next).unwrap_or("").to_owned();
                self.advance()?;
                return Err(self.error(&format!("Unexpected initial '{shown}'")));
            }
            _ => return Err(self.unexpected()),
        };
        while let Token::Bracket(instance) = &self.token {
            expression = Expression::Instance(Box::new(expression), instance.clone());
            self.count_operand()?;
            self.advance()?;
        }
        Ok(expression)
    }

    fn parenthesized(&mut self) -> Result<Expression, SyntaxError> {
        self.advance()?;
        let inner = self.ternary()?;
        self.close()?;
        Ok(inner)
    }

    fn is_function(&self, name: &str) -> bool {
        OTHER_FUNCTIONS.contains(&name) || Function::ALL.iter().any(|(n, _)| *n == name)
    }

    /// Refuses what can't follow a metric's name anywhere.
    fn behind_name(&self) -> Result<(), SyntaxError> {
        match self.token {
            Token::Integer(_)
            | Token::Double(_)
            | Token::Name(_)
            | Token::Not
            | Token::Assign
            | Token::Text(_)
            | Token::Pattern(_) => {
                Err(self
                    .error("Arithmetic or relational or boolean operator expected to follow NAME"))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        match self.token {
            Token::Close => self.advance(),
            _ => Err(self.unexpected()),
        }
    }

    fn comma(&mut self) -> Result<(), SyntaxError> {
        match self.token {
            Token::Comma => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        let Token::Name(name) = self.token.clone() else {
            return Err(self.unexpected());
        };
        // A function with its parenthesis is one word to PCP, and no name.
        if self.rest().starts_with('(') && self.is_function(&name) {
            return Err(self.unexpected());
        }
        self.advance()?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desc::Semantics;

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
        // As Debian's pminfo shows them with -Dderive.
        assert_eq!(tree("!a>b||c<d"), "((!(a>b))||(c<d))");
        assert_eq!(tree("!a && b"), "((!a)&&b)");
        assert_eq!(tree("-a / b / c"), "(-((a/b)/c))");
        assert_eq!(tree("a * -b * c"), "(a*(-(b*c)))");
        assert_eq!(tree("-!a * b"), "(-(!(a*b)))");
        assert_eq!(tree("-a + b"), "((-a)+b)");
        assert_eq!(tree("!a<b+c"), "(!(a<(b+c)))");
        assert_eq!(tree("-3*some.metric"), "(-(3*some.metric))");
        assert_eq!(tree("a - 5 - 2"), "((a-5)-2)");
        assert_eq!(tree("a ? b : c ? d : e"), "((a?b:c)?d:e)");
        assert_eq!(tree("a ? b ? x : y : c"), "(a?(b?x:y):c)");
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
        assert_eq!(mistake(" a.b +").at, 5);
        assert_eq!(
            mistake("a b").what,
            "Arithmetic or relational or boolean operator expected to follow NAME"
        );
        assert_eq!(mistake(" 4294967296").what, "Constant value too large");
        assert_eq!(mistake("foo ^ bar").at, 4);
        assert_eq!(mistake("a / b )").what, "Unexpected ')'");
        // As Debian's pminfo has them: the place and the words.
        for (text, at, what) in [
            (" (a", 2, "Unexpected initial '('"),
            (" *", 1, "Unexpected initial '*'"),
            (" )a", 2, "Unexpected initial ')'"),
            (" rat(disk.dev.read)", 5, "Unexpected '('"),
            (" a + 3 c", 7, ""),
            (
                " a + (3 b",
                8,
                "Arithmetic expression expected to follow PLUS",
            ),
            (" a && )", 6, "Boolean expression expected to follow AND"),
            (
                " a ? b",
                5,
                "Arithmetic expression expected to follow QUEST",
            ),
            (" avg(a + )", 7, "Metric name expected to follow avg("),
            (" max()", 5, "Metric name expected to follow max("),
            (" scalar(3 4)", 10, "<expr> expected to follow scalar("),
            (
                " matchinst(",
                10,
                "<filter>, <expr>) expected to follow matchinst(",
            ),
            (
                " matchinst(/a/",
                13,
                ", <expr>) expected to follow matchinst(<filter>",
            ),
            (
                " matchinst(/a/,(a",
                16,
                "<expr>) expected to follow matchinst(<filter>,",
            ),
            (
                " matchinst(/a(/,b)",
                11,
                "bad regular expression: 'Unmatched ( or \\('",
            ),
            (
                " rescale(a,)",
                11,
                "Units string expected to follow rescale(<expr>,",
            ),
            (
                " rescale(a, \"foo\")",
                17,
                "Illegal units: 'unrecognized or duplicate base unit'",
            ),
            (
                " mkconst(3,type=string)",
                16,
                "Unrecognized value for type 'string'",
            ),
            (
                " mkconst(3.5,type=u32)",
                21,
                "Incompatible floating point constant and type 'U32'",
            ),
            (" a[x", 2, "unterminated instance name"),
            (" 1..2", 3, ""),
        ] {
            let mistake = mistake(text);
            assert_eq!((mistake.at, mistake.what.as_str()), (at, what), "{text}");
        }
        assert!(parse(&"(".repeat(5000)).is_err());
        assert!(parse(&"-".repeat(5000)).is_err());
    }

    #[test]
    fn long_expressions_are_read_and_longer_ones_refused() {
        let long = |operands: usize| vec!["a.b"; operands].join("+");
        assert!(parse(&long(2000)).is_ok());
        for endless in [long(500_000), format!("a.b{}", "[x]".repeat(500_000))] {
            let error = parse(&endless).expect_err("too long").to_string();
            assert!(error.contains("too many operands"), "{error}");
        }
    }
}
