//! What stands behind the names of functions.

use super::Parser;
use crate::derived::expression::{Constant, Expression, Function, Operator, SyntaxError};
use crate::derived::token::{TAGS, Token};
use crate::derived::trace;
use crate::desc::{Semantics, Type};
use crate::units::{ScaledUnits, Units};

impl Parser<'_> {
    /// A function's parenthesis, at which the parser is, and what is in it.
    pub(super) fn call(&mut self, name: &str) -> Result<Expression, SyntaxError> {
        if name == "matchinst" {
            return self.match_instances();
        }
        if let Some((_, function)) = Function::ALL.iter().find(|(n, _)| *n == name) {
            return self.of_metric(*function);
        }
        match name {
            "defined" => {
                self.advance()?;
                let name = self.name()?;
                self.close()?;
                Ok(Expression::Defined(name))
            }
            "anon" => {
                let ty = self.within("Metric name expected to follow anon(", |p| {
                    p.advance()?;
                    let name = p.name()?;
                    let ty = type_named(name.strip_prefix("PM_TYPE_").unwrap_or(&name));
                    let ty = ty.ok_or_else(|| p.error("Type expected"))?;
                    p.close()?;
                    Ok(ty)
                })?;
                Ok(Expression::Anonymous(ty))
            }
            "rescale" => self.rescale(),
            _ => self.make_constant(),
        }
    }

    /// A function of a metric, or `scalar` of an expression.
    fn of_metric(&mut self, function: Function) -> Result<Expression, SyntaxError> {
        let name = function.name();
        if function == Function::Scalar {
            let of = self.within("<expr> expected to follow scalar(", |p| {
                p.advance()?;
                let of = p.ternary()?;
                p.close()?;
                Ok(of)
            })?;
            return Ok(Expression::Function(function, Box::new(of)));
        }
        let lacks = format!("Metric name expected to follow {name}(");
        let name = self.within(&lacks, |p| {
            p.advance()?;
            let name = p.name()?;
            p.close()?;
            Ok(name)
        })?;
        Ok(Expression::Function(
            function,
            Box::new(Expression::Metric(name)),
        ))
    }

    /// The text behind the current token and white space.
    fn lookahead(&self) -> &str {
        self.rest().trim_start()
    }

    fn rescale(&mut self) -> Result<Expression, SyntaxError> {
        let lacks = "Arithmetic or relational or boolean operator expected to follow rescale(";
        let of = self.within(lacks, |p| {
            p.advance()?;
            let of = p.ternary()?;
            p.comma()?;
            Ok(of)
        })?;
        let units = self.within("Units string expected to follow rescale(<expr>,", |p| {
            p.advance()?;
            let Token::Text(units) = p.token.clone() else {
                return Err(p.unexpected());
            };
            p.advance()?;
            if p.token != Token::Close {
                return Err(p.unexpected());
            }
            p.units(&units)
        })?;
        self.advance()?;
        Ok(Expression::Rescale(Box::new(of), units))
    }

    fn units(&self, text: &str) -> Result<Units, SyntaxError> {
        let parsed: Result<ScaledUnits, _> = text.parse();
        match parsed {
            Ok(scaled) => Ok(scaled.units),
            Err(why) => Err(self.error(&format!("Illegal units: '{why}'"))),
        }
    }

    fn make_constant(&mut self) -> Result<Expression, SyntaxError> {
        self.advance()?;
        let negative = self.token == Token::Operator(Operator::Minus);
        if negative {
            self.advance()?;
        }
        let (text, ty) = match self.token.clone() {
            Token::Integer(text) => (text, Type::U32),
            Token::Double(text) => (text, Type::Double),
            _ => return Err(self.unexpected()),
        };
        self.advance()?;
        let sign = if negative { "-" } else { "" };
        let real = ty == Type::Double;
        let mut made = Constant {
            text: format!("{sign}{text}"),
            ty,
            sem: Semantics::Discrete,
            units: Units::NONE,
        };
        while self.token == Token::Comma {
            self.advance()?;
            let tag = match &self.token {
                Token::Name(tag) if TAGS.contains(&tag.as_str()) => tag.clone(),
                _ => return Err(self.unexpected()),
            };
            self.advance()?;
            if self.token != Token::Assign {
                return Err(self.unexpected());
            }
            let value = self.tag_value()?;
            let upper = value.to_ascii_uppercase();
            let unknown = |p: &Self| p.error(&format!("Unrecognized value for {tag} '{value}'"));
            match tag.as_str() {
                "type" => {
                    let ty = type_named(&upper).filter(|ty| {
                        !matches!(
                            ty,
                            Type::String
                                | Type::Aggregate
                                | Type::AggregateStatic
                                | Type::Event
                                | Type::HighResEvent
                        )
                    });
                    made.ty = ty.ok_or_else(|| unknown(self))?;
                }
                "semantics" => {
                    made.sem = match upper.as_str() {
                        "COUNTER" => Semantics::Counter,
                        "INSTANT" => Semantics::Instant,
                        "DISCRETE" => Semantics::Discrete,
                        _ => return Err(unknown(self)),
                    };
                }
                _ => made.units = self.units(&value)?,
            }
            self.advance()?;
        }
        if self.token == Token::Close && real && !matches!(made.ty, Type::Float | Type::Double) {
            return Err(self.error(&format!(
                "Incompatible floating point constant and type '{}'",
                made.ty
            )));
        }
        self.close()?;
        Ok(Expression::Constant(made))
    }

    /// What stands behind a tag's `=`, up to a comma or the end, or in quotes. It is the current token then.
    fn tag_value(&mut self) -> Result<String, SyntaxError> {
        let whole = self.text;
        let rest = whole.get(self.next..).unwrap_or("");
        let text = rest.trim_start();
        if text.starts_with('"') || text.starts_with([',', ')']) || text.is_empty() {
            self.advance()?;
            return match self.token.clone() {
                Token::Text(text) => Ok(text),
                _ => Err(self.unexpected()),
            };
        }
        self.at = self.next + (rest.len() - text.len());
        let end = text.find([',', ')']).unwrap_or(text.len());
        let value = text.get(..end).unwrap_or("").trim().to_owned();
        self.next = self.at + end;
        self.token = match value.parse::<u32>() {
            Ok(_) => Token::Integer(value.clone()),
            Err(_) => Token::Name(value.clone()),
        };
        if trace::wanted() {
            let (kind, shown) = self.token.shown(false);
            trace::token(&kind, shown);
        }
        Ok(value)
    }

    fn match_instances(&mut self) -> Result<Expression, SyntaxError> {
        let filter = "<filter>, <expr>) expected to follow matchinst(";
        let (negated, pattern) = self.within(filter, |p| {
            let negated = p.lookahead().starts_with('!');
            if negated {
                p.advance()?;
            }
            let (rest, text) = (p.rest().len(), p.lookahead());
            if !text.starts_with('/') {
                p.advance()?;
                return Err(p.unexpected());
            }
            // The pattern is no token of expressions.
            let at = p.next + (rest - text.len());
            let text = text.to_owned();
            p.at = at;
            let (pattern, length) = p.delimited(&text, '/')?;
            p.next = at + length;
            p.token = Token::Pattern(pattern.clone());
            trace::token("PATTERN", &pattern);
            if regex_lite::Regex::new(&pattern).is_err() {
                let why = regular_expression_error(&pattern);
                return Err(p.error(&format!("bad regular expression: '{why}'")));
            }
            Ok((negated, pattern))
        })?;
        self.within(", <expr>) expected to follow matchinst(<filter>", |p| {
            p.advance()?;
            p.comma()
        })?;
        let of = self.within("<expr>) expected to follow matchinst(<filter>,", |p| {
            p.advance()?;
            let of = p.ternary()?;
            p.close()?;
            Ok(of)
        })?;
        Ok(Expression::Match {
            negated,
            pattern,
            of: Box::new(of),
        })
    }
}

/// The words of PCP's library for what is wrong with a regular expression.
fn regular_expression_error(pattern: &str) -> &'static str {
    let count = |c: char| pattern.matches(c).count();
    if count('(') > count(')') {
        "Unmatched ( or \\("
    } else if count(')') > count('(') {
        "Unmatched ) or \\)"
    } else {
        "Invalid regular expression"
    }
}

pub(super) fn constant(text: String, ty: Type) -> Expression {
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
