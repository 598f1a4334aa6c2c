//! From words to statements. Metrics are looked up as they are read, as pmie does, so that messages come in its order.

use std::collections::VecDeque;

use pcp::Timestamp;
use regex_lite::Regex;

use super::ast::{
    Action, Body, ClockPart, Dimension, Expr, Form, Kind, Operator, Reduction, Statement,
};
use super::lexer::{Lexer, Macro, Token};
use super::source::Sources;

/// How deep expressions may stand in each other.
const DEPTH: usize = 200;

/// Why a statement is no statement; the text is what pmie says below its message.
struct Syntax(Option<String>);

type Parsed<T> = Result<T, Syntax>;

fn wrong<T>(detail: impl Into<String>) -> Parsed<T> {
    Err(Syntax(Some(detail.into())))
}

/// Reads a specification.
pub struct Parser<'a> {
    lexer: Lexer,
    ahead: VecDeque<Token>,
    sources: &'a mut Sources,
    file: String,
    delta: Timestamp,
    ids: usize,
    count: usize,
    /// A metric of this statement cannot be had: it is left out.
    dropped: bool,
    /// This statement makes no sense, which was said.
    senseless: bool,
    /// A macro in this statement is not known, which was said.
    unknown_macro: bool,
    depth: usize,
    /// What there is to say on standard error, in order.
    pub said: String,
    /// The statements.
    pub statements: Vec<Statement>,
    /// Whether something was wrong.
    pub failed: bool,
    /// Whether there is an action that sends messages.
    pub uses_stomp: bool,
}

/// What a unit of a scale factor is in canonical units.
fn unit(word: &str) -> Option<f64> {
    let known = |word: &str| {
        Some(match word {
            "nanosecond" | "nanosec" | "nsec" => 1e-9,
            "microsecond" | "microsec" | "usec" => 1e-6,
            "millisecond" | "millisec" | "msec" => 1e-3,
            "second" | "sec" | "count" | "byte" => 1.0,
            "minute" | "min" => 60.0,
            "hour" => 3600.0,
            "Kbyte" => 1024.0,
            "Mbyte" => 1_048_576.0,
            "Gbyte" => 1_073_741_824.0,
            "Tbyte" => 1_099_511_627_776.0,
            "Kcount" => 1e3,
            "Mcount" => 1e6,
            _ => return None,
        })
    };
    known(word).or_else(|| known(word.strip_suffix('s')?))
}

fn relation(mark: &str) -> Option<Operator> {
    Some(match mark {
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        "==" => Operator::Equal,
        ">=" => Operator::GreaterOrEqual,
        ">" => Operator::Greater,
        "!=" => Operator::NotEqual,
        _ => return None,
    })
}

/// `some_inst` and its siblings.
fn reduction(word: &str) -> Option<(Reduction, Dimension)> {
    let (what, dimension) = word.split_once('_')?;
    let what = match what {
        "some" => Reduction::Some,
        "all" => Reduction::All,
        "count" => Reduction::Count,
        "min" => Reduction::Min,
        "max" => Reduction::Max,
        "sum" => Reduction::Sum,
        "avg" => Reduction::Average,
        _ => return None,
    };
    Some((what, self::dimension(dimension)?))
}

fn dimension(word: &str) -> Option<Dimension> {
    Some(match word {
        "host" => Dimension::Host,
        "inst" => Dimension::Instance,
        "sample" => Dimension::Sample,
        _ => return None,
    })
}

const RESERVED: [&str; 5] = ["else", "unknown", "otherwise", "ruleset", "delta"];

impl<'a> Parser<'a> {
    /// For a text that stands in a file, with the interval that holds until the text says another.
    pub fn new(text: &str, file: &str, delta: Timestamp, sources: &'a mut Sources) -> Parser<'a> {
        Parser {
            lexer: Lexer::new(text),
            ahead: VecDeque::new(),
            sources,
            file: file.to_owned(),
            delta,
            ids: 0,
            count: 0,
            dropped: false,
            senseless: false,
            unknown_macro: false,
            depth: 0,
            said: String::new(),
            statements: Vec::new(),
            failed: false,
            uses_stomp: false,
        }
    }

    fn peek_at(&mut self, at: usize) -> &Token {
        while self.ahead.len() <= at {
            let token = self.lexer.next();
            self.ahead.push_back(token);
        }
        self.ahead.get(at).unwrap_or(&Token::End)
    }

    fn peek(&mut self) -> &Token {
        self.peek_at(0)
    }

    fn next(&mut self) -> Token {
        self.peek();
        self.ahead.pop_front().unwrap_or(Token::End)
    }

    fn at_mark(&mut self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(m) if *m == mark)
    }

    fn take(&mut self, mark: &str) -> bool {
        let found = self.at_mark(mark);
        if found {
            self.next();
        }
        found
    }

    fn take_name(&mut self, name: &str) -> bool {
        let found = matches!(self.peek(), Token::Name(n) if n == name);
        if found {
            self.next();
        }
        found
    }

    fn expr(&mut self, kind: Kind, form: Form) -> Expr {
        self.ids += 1;
        Expr {
            id: self.ids,
            kind,
            form,
        }
    }

    /// Goes on numbering where an earlier text ended.
    pub fn go_on(&mut self, ids: usize, count: usize) {
        self.ids = ids;
        self.count = count;
    }

    /// The number of things that have a state of their own.
    pub fn identifiers(&self) -> usize {
        self.ids + 1
    }

    /// Reads all statements.
    pub fn run(&mut self) {
        while *self.peek() != Token::End {
            if self.take(";") {
                continue;
            }
            self.dropped = false;
            self.senseless = false;
            self.unknown_macro = false;
            self.depth = 0;
            let result = self.statement();
            self.complaints();
            if let Err(Syntax(detail)) = result {
                self.failed = true;
                // Of a macro that is not known only that is said.
                if !self.unknown_macro {
                    let place = self.place();
                    self.said
                        .push_str(&format!("pmie: syntax error - {place}\n"));
                    if let Some(detail) = detail {
                        self.said.push_str(&format!("{detail}\n"));
                    }
                }
                self.recover();
            }
        }
    }

    /// Where an error is, for messages: what follows the word at which it was found decides.
    fn place(&mut self) -> String {
        self.peek();
        let more = self.ahead.iter().skip(1).any(|token| *token != Token::End);
        if !more && self.lexer.is_at_end() {
            "at end of file".to_owned()
        } else {
            format!("near line {} of {}", self.lexer.line, self.file)
        }
    }

    /// Goes on behind the next semicolon; one at which an error was found does not count.
    fn recover(&mut self) {
        self.next();
        while let Some(token) = self.ahead.pop_front() {
            if token == Token::Mark(";") {
                return;
            }
        }
        self.lexer.recover();
    }

    fn complaints(&mut self) {
        let complaints = std::mem::take(&mut self.lexer.complaints);
        self.failed |= !complaints.is_empty();
        self.unknown_macro |= !complaints.is_empty();
        self.said.push_str(&complaints.concat());
        self.said.push_str(&self.sources.take_said());
    }

    fn statement(&mut self) -> Parsed<()> {
        let mut name = None;
        if let (Token::Name(word), Token::Mark("=")) =
            (self.peek().clone(), self.peek_at(1).clone())
        {
            self.next();
            self.next();
            if word == "delta" {
                return self.set_delta();
            }
            name = Some(word);
        }
        let body = if self.take_name("ruleset") {
            self.ruleset()?
        } else {
            let condition = self.or()?;
            if self.take("->") {
                let condition = self.condition(condition)?;
                let action = self.action()?;
                self.single(&condition);
                Body::Rule(condition, action)
            } else {
                Body::Expr(condition)
            }
        };
        if !self.at_mark(";") && *self.peek() != Token::End {
            return Err(Syntax(None));
        }
        self.take(";");
        self.complaints();
        if self.dropped {
            self.failed = true;
            return Ok(());
        }
        if let (Some(name), Body::Expr(expr)) = (&name, &body) {
            let value = match &expr.form {
                Form::Text(text) => Some(Macro::Text(text.clone())),
                _ => expr.constant().map(Macro::Number),
            };
            if let Some(value) = value {
                self.lexer.macros.insert(name.clone(), value);
                return Ok(());
            }
        }
        let name = name.unwrap_or_else(|| {
            self.count += 1;
            format!("expr_{}", self.count)
        });
        if self.senseless {
            self.failed = true;
            return Ok(());
        }
        let constant = |expr: &Expr| expr.is_constant() || matches!(expr.form, Form::Delta(_));
        if matches!(&body, Body::Expr(expr) if constant(expr)) {
            return Ok(());
        }
        self.statements.push(Statement {
            name,
            delta: self.delta,
            body,
        });
        Ok(())
    }

    fn set_delta(&mut self) -> Parsed<()> {
        let value = self.or()?.constant();
        match value {
            Some(seconds) if seconds > 0.0 => self.delta = Timestamp::from_secs_f64(seconds),
            _ => return Err(Syntax(None)),
        }
        if !self.take(";") && *self.peek() != Token::End {
            return Err(Syntax(None));
        }
        Ok(())
    }

    fn condition(&mut self, condition: Expr) -> Parsed<Expr> {
        if condition.kind != Kind::Truth && !self.dropped {
            return wrong("logical expression expected to precede ->");
        }
        Ok(condition)
    }

    /// What is known to be wrong with a condition when its action was read.
    fn single(&mut self, condition: &Expr) {
        if !self.dropped && self.sources.is_set(condition) {
            self.nonsense("rule condition must have a single boolean value");
        }
    }

    fn ruleset(&mut self) -> Parsed<Body> {
        let mut rules = Vec::new();
        let (mut unknown, mut otherwise) = (None, None);
        loop {
            let condition = self.or()?;
            if !self.take("->") {
                return Err(Syntax(None));
            }
            let condition = self.condition(condition)?;
            let action = self.action()?;
            self.single(&condition);
            rules.push((condition, action));
            if !self.take_name("else") {
                break;
            }
        }
        if self.take_name("unknown") {
            if !self.take("->") {
                return Err(Syntax(None));
            }
            unknown = Some(self.action()?);
        }
        if self.take_name("otherwise") {
            if !self.take("->") {
                return Err(Syntax(None));
            }
            otherwise = Some(self.action()?);
        }
        Ok(Body::Rules {
            rules,
            unknown,
            otherwise,
        })
    }

    fn action(&mut self) -> Parsed<Action> {
        let mut action = self.one_action()?;
        loop {
            if self.take("&") {
                let second = self.one_action()?;
                action = Action::Both(Box::new(action), Box::new(second));
            } else if self.take("|") {
                let second = self.one_action()?;
                action = Action::Either(Box::new(action), Box::new(second));
            } else {
                return Ok(action);
            }
        }
    }

    fn one_action(&mut self) -> Parsed<Action> {
        if self.take("(") {
            let action = self.action()?;
            if !self.take(")") {
                return Err(Syntax(None));
            }
            return Ok(action);
        }
        let verb = match self.peek() {
            Token::Name(name)
                if matches!(
                    name.as_str(),
                    "print" | "shell" | "alarm" | "syslog" | "stomp"
                ) =>
            {
                name.clone()
            }
            _ => return wrong("action expected to follow ->"),
        };
        self.next();
        self.uses_stomp |= verb == "stomp";
        let expected = || {
            Syntax(Some(format!(
                "(time interval optional) and string expected to follow {verb}"
            )))
        };
        let mut holdoff = None;
        if let Token::Number(count) = *self.peek() {
            self.next();
            let mut seconds = count;
            if let Token::Name(word) = self.peek().clone()
                && let Some(factor) = unit(&word)
            {
                self.next();
                seconds *= factor;
            }
            holdoff = Some(Timestamp::from_secs_f64(seconds));
        }
        let mut texts = Vec::new();
        while let Token::Text(text) = self.peek() {
            texts.push(text.clone());
            self.next();
        }
        if texts.is_empty() {
            return Err(expected());
        }
        self.ids += 1;
        Ok(Action::One {
            verb,
            holdoff,
            texts,
            id: self.ids,
        })
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut left = self.and()?;
        while self.at_mark("||") {
            left = self.logical(left, "||", Operator::Or, Parser::and)?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut left = self.truth()?;
        while self.at_mark("&&") {
            left = self.logical(left, "&&", Operator::And, Parser::truth)?;
        }
        Ok(left)
    }

    fn logical(
        &mut self,
        left: Expr,
        mark: &str,
        operator: Operator,
        operand: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        if left.kind != Kind::Truth && !self.dropped {
            return wrong(format!("logical expression expected to precede {mark}"));
        }
        self.next();
        let right = self.operand(mark, "logical", operand)?;
        if right.kind != Kind::Truth && !self.dropped {
            return wrong(format!("logical expression expected to follow {mark}"));
        }
        self.same_size(&left, &right);
        let form = Form::Binary(operator, Box::new(left), Box::new(right));
        Ok(self.expr(Kind::Truth, form))
    }

    /// What follows an operator; what is no operand at all is called what was expected.
    fn operand(
        &mut self,
        mark: &str,
        kind: &str,
        read: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        read(self).map_err(|Syntax(detail)| {
            Syntax(Some(detail.unwrap_or_else(|| {
                format!("{kind} expression expected to follow {mark}")
            })))
        })
    }

    /// A relation, or an operator on truths in front of one.
    fn truth(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Syntax(None));
        }
        let result = self.truth_inner();
        self.depth -= 1;
        result
    }

    fn truth_inner(&mut self) -> Parsed<Expr> {
        if self.take("!") {
            let operand = self.operand("!", "logical", Parser::truth)?;
            if operand.kind != Kind::Truth && !self.dropped {
                return wrong("logical expression expected to follow !");
            }
            return Ok(self.expr(Kind::Truth, Form::Not(Box::new(operand))));
        }
        match self.peek().clone() {
            Token::Name(word) => {
                if matches!(word.as_str(), "rising" | "falling") {
                    self.next();
                    let operand = self.operand(&word, "logical", Parser::truth)?;
                    if operand.kind != Kind::Truth && !self.dropped {
                        return wrong(format!("logical expression expected to follow {word}"));
                    }
                    let operand = Box::new(operand);
                    let form = if word == "rising" {
                        Form::Rising(operand)
                    } else {
                        Form::Falling(operand)
                    };
                    return Ok(self.expr(Kind::Truth, form));
                }
                if matches!(word.as_str(), "match_inst" | "nomatch_inst") {
                    return self.instance_match(word == "match_inst");
                }
                if let Some((what @ (Reduction::Some | Reduction::All), dimension)) =
                    reduction(&word)
                {
                    self.next();
                    return self.quantified(what, dimension);
                }
            }
            Token::Number(percent) => {
                if let Token::Percent(word) = self.peek_at(1).clone() {
                    let Some(dimension) = dimension(&word) else {
                        return Err(Syntax(None));
                    };
                    self.next();
                    self.next();
                    return self.quantified(Reduction::Percent(percent), dimension);
                }
            }
            _ => {}
        }
        self.relation()
    }

    fn quantified(&mut self, what: Reduction, dimension: Dimension) -> Parsed<Expr> {
        let expected = "logical expression expected to follow quantifier";
        let operand = self.truth().map_err(|Syntax(detail)| {
            Syntax(Some(detail.unwrap_or_else(|| expected.to_owned())))
        })?;
        if operand.kind != Kind::Truth && !self.dropped {
            return wrong(expected);
        }
        let form = Form::Reduce(what, dimension, Box::new(operand));
        Ok(self.expr(Kind::Truth, form))
    }

    fn instance_match(&mut self, wanted: bool) -> Parsed<Expr> {
        self.next();
        let Token::Text(pattern) = self.next() else {
            return Err(Syntax(None));
        };
        let operand = self.truth()?;
        if operand.kind != Kind::Truth && !self.dropped {
            return wrong("logical expression expected to follow match_inst");
        }
        match Regex::new(&pattern) {
            Ok(regex) => {
                let form = Form::Match(regex, wanted, Box::new(operand));
                Ok(self.expr(Kind::Truth, form))
            }
            Err(_) => {
                self.complaints();
                self.said
                    .push_str(&format!("illegal regular expression \"{pattern}\"\n"));
                self.senseless = true;
                Ok(operand)
            }
        }
    }

    fn relation(&mut self) -> Parsed<Expr> {
        if let Token::Mark(mark) = *self.peek()
            && relation(mark).is_some()
        {
            return wrong(format!("arithmetic expression expected to precede {mark}"));
        }
        let left = self.sum()?;
        let Token::Mark(mark) = *self.peek() else {
            return Ok(left);
        };
        let Some(operator) = relation(mark) else {
            return Ok(left);
        };
        if left.kind == Kind::Truth {
            return wrong(format!("arithmetic expression expected to precede {mark}"));
        }
        self.next();
        let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if ordered && matches!(self.peek(), Token::Text(_)) {
            return wrong(format!("arithmetic expression expected to follow {mark}"));
        }
        let right = self.operand(mark, "arithmetic", Parser::sum)?;
        if right.kind == Kind::Truth && !self.dropped {
            return wrong(format!("arithmetic expression expected to follow {mark}"));
        }
        // Texts are equal or not; they have no order.
        if ordered && !self.dropped {
            if left.kind == Kind::Text {
                return wrong(format!("arithmetic expression expected to precede {mark}"));
            }
            if right.kind == Kind::Text {
                return wrong(format!("arithmetic expression expected to follow {mark}"));
            }
        }
        if let Token::Mark(next) = *self.peek()
            && relation(next).is_some()
        {
            return wrong(format!("arithmetic expression expected to precede {next}"));
        }
        self.same_kind(&left, &right);
        self.same_size(&left, &right);
        let form = Form::Binary(operator, Box::new(left), Box::new(right));
        Ok(self.expr(Kind::Truth, form))
    }

    /// Says that operands do not go together. The statement is read on, and left out.
    fn nonsense(&mut self, text: &str) {
        if self.dropped || self.senseless {
            return;
        }
        self.complaints();
        let place = self.place();
        self.said
            .push_str(&format!("pmie: syntax error - {place}\n{text}\n"));
        self.senseless = true;
    }

    fn same_kind(&mut self, left: &Expr, right: &Expr) {
        if left.kind != right.kind {
            self.nonsense("operands have mixed string and arithmetic types");
        }
    }

    fn same_size(&mut self, left: &Expr, right: &Expr) {
        let (a, b) = (self.sources.instances(left), self.sources.instances(right));
        if let (Some(a), Some(b)) = (a, b)
            && a != b
            && a > 0
            && b > 0
        {
            self.nonsense(&format!(
                "instance domains have different size ({a} and {b})"
            ));
        }
    }

    fn arithmetic(
        &mut self,
        left: Expr,
        (mark, operator): (&str, Operator),
        operand: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        if left.kind == Kind::Truth && !self.dropped {
            return wrong(format!("arithmetic expression expected to precede {mark}"));
        }
        self.next();
        let right = self.operand(mark, "arithmetic", operand)?;
        if right.kind == Kind::Truth && !self.dropped {
            return wrong(format!("arithmetic expression expected to follow {mark}"));
        }
        if left.kind == Kind::Text || right.kind == Kind::Text {
            self.same_kind(&left, &right);
            self.nonsense(&format!("operator {mark} not allowed with string operands"));
        }
        self.same_size(&left, &right);
        let form = Form::Binary(operator, Box::new(left), Box::new(right));
        Ok(self.expr(Kind::Number, form))
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.product()?;
        loop {
            let which = match *self.peek() {
                Token::Mark("+") => ("+", Operator::Add),
                Token::Mark("-") => ("-", Operator::Subtract),
                _ => return Ok(left),
            };
            left = self.arithmetic(left, which, Parser::product)?;
        }
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.unary()?;
        loop {
            let which = match *self.peek() {
                Token::Mark("*") => ("*", Operator::Multiply),
                Token::Mark("/") => ("/", Operator::Divide),
                _ => return Ok(left),
            };
            left = self.arithmetic(left, which, Parser::unary)?;
        }
    }

    fn unary(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Syntax(None));
        }
        let result = self.unary_inner();
        self.depth -= 1;
        result
    }

    fn unary_inner(&mut self) -> Parsed<Expr> {
        if self.take("-") {
            let operand = self.operand("-", "arithmetic", Parser::unary)?;
            return Ok(self.expr(Kind::Number, Form::Negate(Box::new(operand))));
        }
        if let Token::Name(word) = self.peek().clone() {
            if word == "rate" {
                self.next();
                let operand = self.operand("rate", "arithmetic", Parser::unary)?;
                return Ok(self.expr(Kind::Number, Form::Rate(Box::new(operand))));
            }
            if word == "instant" {
                self.next();
                let mut operand = self.operand("instant", "arithmetic", Parser::unary)?;
                if let Form::Fetch { instant, .. } = &mut operand.form {
                    *instant = true;
                }
                return Ok(operand);
            }
            match reduction(&word) {
                Some((Reduction::Count, dimension)) => {
                    self.next();
                    // In parentheses stands all that is counted; a relation behind them is about the count.
                    let operand = if self.at_mark("(") {
                        self.primary()?
                    } else {
                        self.truth()?
                    };
                    if operand.kind != Kind::Truth && !self.dropped {
                        return wrong("logical expression expected to follow aggregation operator");
                    }
                    let form = Form::Reduce(Reduction::Count, dimension, Box::new(operand));
                    return Ok(self.expr(Kind::Number, form));
                }
                Some((what, dimension)) if !matches!(what, Reduction::Some | Reduction::All) => {
                    self.next();
                    let operand = self.operand(&word, "arithmetic", Parser::unary)?;
                    if operand.kind != Kind::Number && !self.dropped {
                        return Err(Syntax(None));
                    }
                    let form = Form::Reduce(what, dimension, Box::new(operand));
                    return Ok(self.expr(Kind::Number, form));
                }
                Some(_) => return self.truth(),
                None if matches!(
                    word.as_str(),
                    "rising" | "falling" | "match_inst" | "nomatch_inst"
                ) =>
                {
                    return self.truth();
                }
                None => {}
            }
        }
        let value = self.primary()?;
        self.scaled(value)
    }

    /// A scale factor behind an arithmetic expression.
    fn scaled(&mut self, value: Expr) -> Parsed<Expr> {
        if value.kind != Kind::Number {
            return Ok(value);
        }
        let Token::Name(word) = self.peek().clone() else {
            return Ok(value);
        };
        let Some(mut factor) = unit(&word) else {
            return Ok(value);
        };
        self.next();
        while self.at_mark("/") {
            let Token::Name(word) = self.peek_at(1).clone() else {
                break;
            };
            let Some(divisor) = unit(&word) else { break };
            self.next();
            self.next();
            factor /= divisor;
        }
        if let Form::Number(number) = value.form {
            return Ok(self.expr(Kind::Number, Form::Number(number * factor)));
        }
        let factor = self.expr(Kind::Number, Form::Number(factor));
        let form = Form::Binary(Operator::Multiply, Box::new(value), Box::new(factor));
        Ok(self.expr(Kind::Number, form))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Token::Number(value) => {
                self.next();
                Ok(self.expr(Kind::Number, Form::Number(value)))
            }
            Token::Text(text) => {
                self.next();
                Ok(self.expr(Kind::Text, Form::Text(text)))
            }
            Token::Clock(name) => {
                self.next();
                let part = match name.as_str() {
                    "minute" => ClockPart::Minute,
                    "hour" => ClockPart::Hour,
                    "day" => ClockPart::Day,
                    "month" => ClockPart::Month,
                    "year" => ClockPart::Year,
                    "day_of_week" => ClockPart::DayOfWeek,
                    _ => {
                        let delta = self.delta.as_secs_f64();
                        return Ok(self.expr(Kind::Number, Form::Delta(delta)));
                    }
                };
                Ok(self.expr(Kind::Number, Form::Clock(part)))
            }
            Token::Mark("(") => {
                self.next();
                let inner = self.or()?;
                if !self.take(")") {
                    return Err(Syntax(None));
                }
                Ok(inner)
            }
            Token::Name(name) if !RESERVED.contains(&name.as_str()) => {
                self.next();
                self.fetch(&name)
            }
            _ => Err(Syntax(None)),
        }
    }

    fn fetch(&mut self, name: &str) -> Parsed<Expr> {
        let (mut hosts, mut instances) = (Vec::new(), Vec::new());
        let mut samples = (0, 0);
        loop {
            match self.peek().clone() {
                Token::Host(host) => hosts.push(host),
                Token::Instance(instance) => instances.push(instance),
                Token::Mark("@") => {
                    self.next();
                    samples = self.samples()?;
                    continue;
                }
                _ => break,
            }
            self.next();
        }
        self.complaints();
        let found = self.sources.fetch(name, &hosts, &instances, samples.1);
        self.complaints();
        match found {
            Some((metrics, kind)) => {
                let form = Form::Fetch {
                    metrics,
                    samples,
                    instant: false,
                };
                Ok(self.expr(kind, form))
            }
            None => {
                self.dropped = true;
                Ok(self.expr(Kind::Number, Form::Number(0.0)))
            }
        }
    }

    fn samples(&mut self) -> Parsed<(usize, usize)> {
        let expected = || Syntax(Some("sample number(s) expected to follow @".to_owned()));
        let whole = |token: &Token| match token {
            Token::Number(n) if *n >= 0.0 && n.fract() == 0.0 && *n < 1e6 => Some(*n as usize),
            _ => None,
        };
        let first = whole(self.peek()).ok_or_else(expected)?;
        self.next();
        if !self.take("..") {
            return Ok((first, first));
        }
        let last = whole(self.peek()).ok_or_else(expected)?;
        self.next();
        Ok((first.min(last), first.max(last)))
    }
}
