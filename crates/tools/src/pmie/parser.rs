//! From words to statements. Metrics are looked up as they are read, as pmie does, so that messages come in its order.

mod expression;

use std::collections::VecDeque;

use pcp::Timestamp;

use super::ast::{Action, Body, Expr, Form, Kind, Statement};
use super::embedded::Embedded;
use super::lexer::{Lexer, Macro, Token};
use super::source::Sources;
use expression::unit;

/// How deep expressions may stand in each other.
const DEPTH: usize = 200;

/// How many operators may follow each other, which [`super::STACK`] has room for.
const LONGEST: usize = 200_000;

/// Why a statement is no statement; the text is what pmie says below its message.
struct Syntax(Option<String>);

type Parsed<T> = Result<T, Syntax>;

fn wrong<T>(detail: impl Into<String>) -> Parsed<T> {
    Err(Syntax(Some(detail.into())))
}

/// Reads a specification.
pub struct Parser<'a> {
    lexer: Lexer,
    /// Words that were read ahead, with the lines in which the reading stood behind them.
    ahead: VecDeque<(Token, usize)>,
    /// The line in which the last word that was taken ends.
    line: usize,
    sources: &'a mut Sources,
    file: String,
    delta: Timestamp,
    ids: usize,
    count: usize,
    /// A metric of this statement cannot be had: it is left out.
    dropped: bool,
    /// This statement makes no sense, which was said.
    senseless: bool,
    /// All that makes no sense in it is operands that do not go together, or a dimension that is not there: it is read on.
    misfits: bool,
    /// That a dimension is not there was said.
    dimensionless: bool,
    /// Whether a relation is read whose true values are counted.
    counted: bool,
    depth: usize,
    /// Whether an error was found at the word before the one that is next.
    early: bool,
    /// What there is to say on standard error, in order.
    pub said: String,
    /// The statements.
    pub statements: Vec<Statement>,
    /// Whether something was wrong.
    pub failed: bool,
    /// Whether there is an action that sends messages.
    pub uses_stomp: bool,
    /// Whom the values are for, if it is a program.
    embedded: Option<Embedded>,
}

impl<'a> Parser<'a> {
    /// For a text that stands in a file, with the interval that holds until the text says another.
    pub fn new(text: &str, file: &str, delta: Timestamp, sources: &'a mut Sources) -> Parser<'a> {
        Parser {
            lexer: Lexer::new(text),
            ahead: VecDeque::new(),
            line: 1,
            sources,
            file: file.to_owned(),
            delta,
            ids: 0,
            count: 0,
            dropped: false,
            senseless: false,
            misfits: false,
            dimensionless: false,
            counted: false,
            depth: 0,
            early: false,
            said: String::new(),
            statements: Vec::new(),
            failed: false,
            uses_stomp: false,
            embedded: None,
        }
    }

    fn peek_at(&mut self, at: usize) -> &Token {
        while self.ahead.len() <= at {
            let token = self.lexer.next();
            self.ahead.push_back((token, self.lexer.line));
        }
        self.ahead.get(at).map_or(&Token::End, |(token, _)| token)
    }

    fn peek(&mut self) -> &Token {
        self.peek_at(0)
    }

    fn next(&mut self) -> Token {
        self.peek();
        let Some((token, line)) = self.ahead.pop_front() else {
            return Token::End;
        };
        self.line = line;
        token
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
        let below = match &form {
            Form::Binary(_, left, right) => left.height.max(right.height),
            Form::Negate(e)
            | Form::Not(e)
            | Form::Rate(e)
            | Form::Rising(e)
            | Form::Falling(e)
            | Form::Match(_, _, e)
            | Form::Reduce(_, _, e) => e.height,
            _ => 0,
        };
        Expr {
            id: self.ids,
            kind,
            shape: self.sources.shape(&form),
            height: below + 1,
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
            if *self.peek() == Token::Undefined {
                self.next();
                self.complaints();
                continue;
            }
            self.dropped = false;
            self.senseless = false;
            self.misfits = false;
            self.dimensionless = false;
            self.counted = false;
            self.depth = 0;
            self.early = false;
            let result = self.statement();
            self.complaints();
            if let Err(Syntax(detail)) = result {
                self.failed = true;
                let place = self.place();
                self.said
                    .push_str(&format!("pmie: syntax error - {place}\n"));
                if let Some(detail) = detail {
                    let detail = self.amended(detail);
                    self.said.push_str(&format!("{detail}\n"));
                }
                self.recover();
            }
        }
    }

    /// What is wrong by the word at which it was found. PCP's parser takes that for an operator whose left side is missing,
    /// or goes on behind it to where nothing follows.
    fn amended(&mut self, detail: String) -> String {
        const ARITHMETIC: [&str; 4] = ["+", "-", "*", "/"];
        const RELATIONS: [&str; 6] = [">", "<", ">=", "<=", "==", "!="];
        let Token::Mark(mark) = *self.peek() else {
            return detail;
        };
        let Some((what, operator)) = detail.split_once(" expected to follow ") else {
            return detail;
        };
        let truths = mark == "&&" || mark == "||";
        match what {
            "logical expression" if truths => format!("{what} expected to precede {mark}"),
            "arithmetic expression"
                if ARITHMETIC.contains(&mark) && ARITHMETIC.contains(&operator) =>
            {
                format!("{what} expected to precede {mark}")
            }
            "arithmetic expression" if truths && RELATIONS.contains(&operator) => {
                format!("{detail}\nlogical expression expected to follow {mark}")
            }
            "logical expression" | "arithmetic expression" if mark == "->" => {
                format!("{detail}\naction expected to follow ->")
            }
            "sample number(s)" | "instance name" | "host name"
                if ARITHMETIC.contains(&mark) || RELATIONS.contains(&mark) =>
            {
                format!("{detail}\narithmetic expression expected to follow {mark}")
            }
            _ => detail,
        }
    }

    /// Where an error is, for messages: what follows the word at which it was found decides.
    fn place(&mut self) -> String {
        let read = usize::from(!self.early);
        self.place_behind(read)
    }

    /// The same when so many of the words ahead are taken for read.
    fn place_behind(&mut self, read: usize) -> String {
        self.peek();
        let more = self
            .ahead
            .iter()
            .skip(read)
            .any(|(token, _)| *token != Token::End);
        // What is left of a statement with such a name has been skipped, up to its semicolon if it has one.
        let undefined = *self.peek() == Token::Undefined && !self.lexer.ran_out;
        if !more && self.lexer.is_at_end() && !undefined {
            "at end of file".to_owned()
        } else {
            let kind = if self.file == "standard input" {
                ""
            } else {
                "file "
            };
            let line = match read == 0 {
                true => self.line,
                false => self.lexer.line,
            };
            format!("near line {line} of {kind}{}", self.file)
        }
    }

    /// Goes on behind the next semicolon; one at which an error was found does not count.
    fn recover(&mut self) {
        if *self.peek() == Token::Undefined {
            self.next();
            return;
        }
        if !self.early {
            self.next();
        }
        while let Some((token, _)) = self.ahead.pop_front() {
            if token == Token::Mark(";") {
                return;
            }
        }
        self.lexer.recover();
    }

    fn complaints(&mut self) {
        let complaints = std::mem::take(&mut self.lexer.complaints);
        self.failed |= !complaints.is_empty();
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
                let action = self.action();
                // A rule counts by its condition.
                self.count += usize::from(action.is_err());
                let action = action?;
                self.single(&condition);
                Body::Rule(condition, action)
            } else {
                Body::Expr(condition)
            }
        };
        let trailing = !self.at_mark(";") && !matches!(self.peek(), Token::End | Token::Undefined);
        if trailing && self.at_mark("->") {
            return wrong("logical expression expected to precede ->");
        }
        // What is whole holds, whatever follows; a number is not whole before its end.
        if trailing && matches!(&body, Body::Expr(expr) if expr.kind != Kind::Truth) {
            return Err(Syntax(None));
        }
        if !self.take(";") && !trailing {
            self.next();
        }
        self.complaints();
        self.enter(name, body);
        match trailing {
            true => Err(Syntax(None)),
            false => Ok(()),
        }
    }

    /// Takes in a statement that was read.
    fn enter(&mut self, name: Option<String>, body: Body) {
        if self.embedded.is_some() && !matches!(body, Body::Expr(_)) {
            self.nonsense("operator -> not allowed in agent mode");
        }
        if self.dropped {
            self.failed = true;
            return;
        }
        if let (Some(name), Body::Expr(expr)) = (&name, &body) {
            let value = match &expr.form {
                Form::Text(text) => Some(Macro::Text(text.clone())),
                _ => expr.constant().map(Macro::Number),
            };
            if let Some(value) = value {
                self.lexer.macros.insert(name.clone(), value);
                return;
            }
        }
        if self.embedded == Some(Embedded::Agent) && name.is_none() {
            self.nonsense("expressions must be named in agent mode");
        }
        let name = name.unwrap_or_else(|| {
            self.count += 1;
            format!("expr_{}", self.count)
        });
        if self.senseless {
            self.failed = true;
            return;
        }
        if self.statements.iter().any(|s| s.name == name) {
            let place = self.place();
            self.said.push_str(&format!(
                "pmie: syntax error - {place}\nrule \"{name}\" multiply defined\n"
            ));
            self.failed = true;
            return;
        }
        let constant = |expr: &Expr| expr.is_constant() || matches!(expr.form, Form::Delta(_));
        if matches!(&body, Body::Expr(expr) if constant(expr)) {
            return;
        }
        self.statements.push(Statement {
            name,
            delta: self.delta,
            body,
        });
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
        if condition.kind != Kind::Truth {
            return wrong("logical expression expected to precede ->");
        }
        Ok(condition)
    }

    /// Reads for a program, for which nothing is to be done.
    pub fn serve(&mut self, embedded: Option<Embedded>) {
        self.embedded = embedded;
    }

    /// What is known to be wrong with a condition when its action was read.
    fn single(&mut self, condition: &Expr) {
        let set = !self.dimensionless && condition.shape.is_set();
        if set && !self.dropped && (!self.senseless || self.misfits) {
            let place = self.place();
            self.complain(&place, "rule condition must have a single boolean value");
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
}
