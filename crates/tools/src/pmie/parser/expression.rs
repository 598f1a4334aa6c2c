//! Expressions, from what binds least to what binds most.

use regex_lite::Regex;

use super::super::ast::{ClockPart, Dimension, Expr, Form, Kind, Operator, Reduction};
use super::super::lexer::Token;
use super::{DEPTH, LONGEST, Parsed, Parser, Syntax, wrong};

/// What a unit of a scale factor is in canonical units.
pub(super) fn unit(word: &str) -> Option<f64> {
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

/// Whether an operator may follow: a chain of them stands as deep in itself as it is long.
fn not_too_long(left: &Expr) -> Parsed<()> {
    match left.height < LONGEST {
        true => Ok(()),
        false => wrong(format!("expression has more than {LONGEST} operands")),
    }
}

impl Parser<'_> {
    pub(super) fn or(&mut self) -> Parsed<Expr> {
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
        if left.kind != Kind::Truth {
            return wrong(format!("logical expression expected to precede {mark}"));
        }
        not_too_long(&left)?;
        self.next();
        let right = self.operand(mark, "logical", operand)?;
        if right.kind != Kind::Truth {
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
            if operand.kind != Kind::Truth {
                return wrong("logical expression expected to follow !");
            }
            return Ok(self.expr(Kind::Truth, Form::Not(Box::new(operand))));
        }
        match self.peek().clone() {
            Token::Name(word) => {
                if matches!(word.as_str(), "rising" | "falling") {
                    self.next();
                    let operand = self.operand(&word, "logical", Parser::truth)?;
                    if operand.kind != Kind::Truth {
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
        if operand.kind != Kind::Truth {
            return wrong(expected);
        }
        self.has_dimension(dimension, &operand);
        let form = Form::Reduce(what, dimension, Box::new(operand));
        Ok(self.expr(Kind::Truth, form))
    }

    fn instance_match(&mut self, wanted: bool) -> Parsed<Expr> {
        self.next();
        let Token::Text(pattern) = self.next() else {
            return Err(Syntax(None));
        };
        let operand = self.truth()?;
        if operand.kind != Kind::Truth {
            return wrong("logical expression expected to follow regular expression");
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
        self.compared(left)
    }

    /// A relation whose left side was read, or that side alone.
    fn compared(&mut self, left: Expr) -> Parsed<Expr> {
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
        if right.kind == Kind::Truth {
            return self.truth_in_parentheses();
        }
        // Texts are equal or not; they have no order.
        if ordered {
            if left.kind == Kind::Text {
                return wrong(format!("arithmetic expression expected to precede {mark}"));
            }
            if right.kind == Kind::Text {
                return wrong(format!("arithmetic expression expected to follow {mark}"));
            }
        }
        if let Token::Mark(next) = *self.peek()
            && relation(next).is_some()
            && !self.counted
        {
            return wrong(format!("arithmetic expression expected to precede {next}"));
        }
        self.same_kind(&left, &right);
        self.same_size(&left, &right);
        let form = Form::Binary(operator, Box::new(left), Box::new(right));
        Ok(self.expr(Kind::Truth, form))
    }

    /// A truth where a number is due stands in parentheses, and is none at the closing one.
    fn truth_in_parentheses<T>(&mut self) -> Parsed<T> {
        self.early = true;
        Err(Syntax(None))
    }

    /// Says that operands do not go together, once in a statement.
    pub(super) fn nonsense(&mut self, text: &str) {
        if self.dropped || self.senseless {
            return;
        }
        let place = self.place();
        self.complain(&place, text);
    }

    /// Says that of a place. The statement is read on, and left out.
    pub(super) fn complain(&mut self, place: &str, text: &str) {
        self.complaints();
        self.said
            .push_str(&format!("pmie: syntax error - {place}\n{text}\n"));
        self.senseless = true;
    }

    fn same_kind(&mut self, left: &Expr, right: &Expr) {
        if left.kind != right.kind {
            self.nonsense("operands have mixed string and arithmetic types");
        }
    }

    /// Instances need not be there to be reduced, hosts and samples must.
    fn has_dimension(&mut self, dimension: Dimension, operand: &Expr) {
        let missing = match dimension {
            Dimension::Host if operand.shape.hosts.is_none() => "no host domain",
            Dimension::Sample if operand.shape.samples.is_none() => "no time domain",
            _ => return,
        };
        if self.dropped || self.senseless && !self.misfits {
            return;
        }
        (self.misfits, self.dimensionless) = (true, true);
        let place = self.place_behind(0);
        self.complain(&place, missing);
    }

    fn same_size(&mut self, left: &Expr, right: &Expr) {
        if let Some((dimension, a, b)) = left.shape.mismatch(&right.shape) {
            self.misfits |= !self.senseless;
            self.nonsense(&format!(
                "{dimension} domains have different size ({a} and {b})"
            ));
        }
    }

    fn arithmetic(
        &mut self,
        left: Expr,
        (mark, operator): (&str, Operator),
        operand: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        if left.kind == Kind::Truth {
            return wrong(format!("arithmetic expression expected to precede {mark}"));
        }
        not_too_long(&left)?;
        self.next();
        if matches!(self.peek(), Token::Text(_)) {
            return wrong(format!("arithmetic expression expected to follow {mark}"));
        }
        let right = self.operand(mark, "arithmetic", operand)?;
        if right.kind == Kind::Truth {
            return self.truth_in_parentheses();
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
            if operand.kind == Kind::Truth {
                return self.truth_in_parentheses();
            }
            return Ok(self.expr(Kind::Number, Form::Negate(Box::new(operand))));
        }
        if let Token::Name(word) = self.peek().clone() {
            if word == "rate" {
                self.next();
                let operand = self.operand("rate", "arithmetic", Parser::unary)?;
                if operand.kind == Kind::Truth {
                    return self.truth_in_parentheses();
                }
                return Ok(self.expr(Kind::Number, Form::Rate(Box::new(operand))));
            }
            if word == "instant" {
                self.next();
                let mut operand = self.operand("instant", "arithmetic", Parser::unary)?;
                operand.keep_counters();
                return Ok(operand);
            }
            match reduction(&word) {
                Some((Reduction::Count, dimension)) => {
                    self.next();
                    // In parentheses stands all that is counted, and a relation behind them is about the count, unless they hold
                    // a number.
                    let operand = if self.at_mark("(") {
                        let operand = self.primary()?;
                        match operand.kind {
                            Kind::Truth => operand,
                            _ => self.compared(operand)?,
                        }
                    } else {
                        // The relation that is counted; one that follows is about the count.
                        let outer = std::mem::replace(&mut self.counted, true);
                        let operand = self.truth();
                        self.counted = outer;
                        operand?
                    };
                    if operand.kind != Kind::Truth {
                        return wrong("logical expression expected to follow aggregation operator");
                    }
                    self.has_dimension(dimension, &operand);
                    let form = Form::Reduce(Reduction::Count, dimension, Box::new(operand));
                    return Ok(self.expr(Kind::Number, form));
                }
                Some((what, dimension)) if !matches!(what, Reduction::Some | Reduction::All) => {
                    self.next();
                    let operand = self.operand(&word, "arithmetic", Parser::unary)?;
                    if operand.kind == Kind::Text {
                        self.early = true;
                        return wrong(
                            "arithmetic (not STRING) operand required for aggregate operator",
                        );
                    }
                    if operand.kind != Kind::Number {
                        return self.truth_in_parentheses();
                    }
                    self.has_dimension(dimension, &operand);
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
            Token::Name(name) if name == "true" || name == "false" => {
                self.next();
                Ok(self.expr(Kind::Truth, Form::Truth(name == "true")))
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
                Token::Mark(mark @ ("#" | ":")) => {
                    self.next();
                    let what = if mark == "#" { "instance" } else { "host" };
                    return wrong(format!("{what} name expected to follow {mark}"));
                }
                _ => break,
            }
            self.next();
        }
        self.complaints();
        // Nothing more is looked up for a statement that is left out, and nothing said of what makes no sense.
        let found = match self.dropped {
            true => None,
            false => self.sources.fetch(name, &hosts, &instances, samples.1),
        };
        if self.senseless {
            self.sources.take_said();
        }
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
            Token::Number(n) if *n >= 0.0 && *n < 1e6 => Some(*n as usize),
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
