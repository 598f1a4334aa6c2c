//! The innermost expressions: literals, names, calls, the print family, `$targets` and `@words`.

use super::expression::{INDEX_END, split_pretty};
use super::statement::statistic;
use super::{Parse, Parser, name};
use crate::ast::{Expr, ExprKind, HistOp, Literal, PrintForm, StatOp, TargetStep};
use crate::diagnostic::ParseError;
use crate::format::parse_format;
use crate::token::{Token, TokenKind};

impl Parser<'_> {
    pub(super) fn value(&mut self) -> Parse<Expr> {
        self.height = 1;
        let token = self
            .peek()?
            .ok_or_else(|| ParseError::saw("expected value"))?;
        match token.kind {
            TokenKind::Embedded => {
                if !self.privileged {
                    let message = "embedded expression code in unprivileged script; need stap -g";
                    let mut error = ParseError::saw(message);
                    error.skip = false;
                    return Err(error);
                }
                let code = self.embedded_code("embedded expression code")?;
                Ok(Expr {
                    span: code.span,
                    kind: ExprKind::Embedded(code),
                })
            }
            TokenKind::Operator if token.is_op("(") => {
                self.skip();
                let value = self.expression()?;
                self.expect(")")?;
                Ok(value)
            }
            TokenKind::Operator if token.text.starts_with('@') => {
                self.skip();
                self.at_word(token)
            }
            TokenKind::Identifier => {
                self.skip();
                self.named(token)
            }
            _ => {
                let (literal, span) = self.literal()?;
                Ok(Expr {
                    kind: ExprKind::Literal(literal),
                    span,
                })
            }
        }
    }

    fn named(&mut self, token: Token) -> Parse<Expr> {
        let span = token.span;
        if token.text.starts_with('$') {
            return Ok(Expr {
                kind: target(&token.text),
                span,
            });
        }
        if let Some(form) = print_form(&token.text) {
            return self.print(form, &token);
        }
        let kind = if self.accept("(")? {
            let mut arguments = Vec::new();
            let mut height = 0;
            while !self.accept(")")? {
                if !arguments.is_empty() && !self.accept(",")? {
                    return Err(self.wrong_and_gone("expected one of ') ,'"));
                }
                arguments.push(self.expression()?);
                height = height.max(self.height);
            }
            self.grow(height)?;
            ExprKind::Call(name(&token), arguments)
        } else if self.accept("[")? {
            let indexes = self.index_list(INDEX_END)?;
            self.grow(self.height)?;
            let base = Expr {
                kind: ExprKind::Symbol(token.text.to_string()),
                span,
            };
            ExprKind::Index(Box::new(base), indexes)
        } else {
            ExprKind::Symbol(token.text.to_string())
        };
        Ok(Expr { kind, span })
    }

    fn print(&mut self, form: PrintForm, token: &Token) -> Parse<Expr> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        let mut height = 0;
        if form.format || form.delimiter {
            self.look()?;
            let (bytes, span) = self.expect_string("expected literal string")?;
            if form.format {
                parse_format(&bytes).map_err(|e| ParseError::saw(e.to_string()))?;
            }
            arguments.push(Expr {
                kind: ExprKind::Literal(Literal::String(bytes)),
                span,
            });
            if form.delimiter {
                // At least two arguments follow; stap takes a bracket before each of them for the comma.
                for _ in 0..2 {
                    let comma = self.next()?;
                    if !comma.is_op(",") && !comma.is_op(")") {
                        return Err(ParseError::saw("expected one of ', )'"));
                    }
                    arguments.push(self.expression()?);
                    height = height.max(self.height);
                }
            }
        } else if let Some(hist) = self
            .peek()?
            .filter(|t| t.is_op("@hist_log") || t.is_op("@hist_linear"))
        {
            self.skip();
            let histogram = self.histogram(&hist)?;
            if !self.accept("[")? {
                // A histogram is printed alone.
                self.expect(")")?;
                self.grow(self.height)?;
                arguments.push(histogram);
                return Ok(Expr {
                    kind: ExprKind::Print(form, arguments),
                    span: token.span,
                });
            }
            arguments.push(self.bucket(histogram)?);
            height = self.height;
        } else if form.newline && self.peek_is(")")? {
            self.skip();
            return Ok(Expr {
                kind: ExprKind::Print(form, arguments),
                span: token.span,
            });
        } else {
            arguments.push(self.expression()?);
            height = self.height;
        }
        while !self.accept(")")? {
            if !self.accept(",")? {
                return Err(self.wrong_and_gone("expected one of ', )'"));
            }
            arguments.push(self.expression()?);
            height = height.max(self.height);
        }
        self.grow(height)?;
        Ok(Expr {
            kind: ExprKind::Print(form, arguments),
            span: token.span,
        })
    }

    /// `@hist_…(s)`, the word consumed.
    pub(super) fn histogram(&mut self, word: &Token) -> Parse<Expr> {
        self.expect("(")?;
        let operand = Box::new(self.expression()?);
        let height = self.height;
        let op = match &*word.text {
            "@hist_linear" => {
                self.expect(",")?;
                let low = self.expect_number()?;
                self.expect(",")?;
                let high = self.expect_number()?;
                self.expect(",")?;
                HistOp::Linear(low, high, self.expect_number()?)
            }
            _ => HistOp::Log,
        };
        self.expect(")")?;
        self.grow(height)?;
        Ok(Expr {
            kind: ExprKind::Hist(op, operand),
            span: word.span,
        })
    }

    /// `[i]` behind a histogram, the bracket consumed.
    fn bucket(&mut self, histogram: Expr) -> Parse<Expr> {
        let indexes = vec![Some(self.expression()?)];
        self.expect("]")?;
        self.buckets(histogram, indexes)
    }

    fn buckets(&mut self, histogram: Expr, indexes: Vec<Option<Expr>>) -> Parse<Expr> {
        self.grow(self.height + 1)?;
        Ok(Expr {
            span: histogram.span,
            kind: ExprKind::Index(Box::new(histogram), indexes),
        })
    }

    fn at_word(&mut self, word: Token) -> Parse<Expr> {
        let span = word.span;
        if let Some(op) = statistic(&word) {
            self.expect("(")?;
            let operand = Box::new(self.expression()?);
            let height = self.height;
            let mut shift = None;
            // As stap has it, which passes over whatever else stands there.
            loop {
                let token = self.next()?;
                if token.is_op(")") {
                    break;
                }
                if !token.is_op(",") {
                    continue;
                }
                let message = match (op, shift) {
                    (StatOp::Variance, None) => {
                        shift = Some(self.expect_number()?);
                        continue;
                    }
                    (StatOp::Variance, Some(_)) => "not more than 2 parameters allowed",
                    _ => "not more than 1 parameter allowed",
                };
                return Err(ParseError::at(message, token));
            }
            self.grow(height)?;
            return Ok(Expr {
                kind: ExprKind::Stat(op, operand, shift),
                span,
            });
        }
        let kind = match &*word.text {
            "@hist_log" | "@hist_linear" => {
                let histogram = self.histogram(&word)?;
                if !self.accept("[")? {
                    return Err(ParseError::at(
                        "base histogram operator where expression expected",
                        word,
                    ));
                }
                let indexes = self.index_list(INDEX_END)?;
                return self.buckets(histogram, indexes);
            }
            "@var" => {
                self.expect("(")?;
                let (name, _) = self.expect_string("expected string")?;
                let module = self.optional_string()?;
                self.expect(")")?;
                ExprKind::AtVar {
                    name,
                    module,
                    steps: Vec::new(),
                    address_of: false,
                }
            }
            "@cast" => {
                self.expect("(")?;
                let operand = Box::new(self.expression()?);
                self.expect(",")?;
                let (ty, _) = self.expect_string("expected string")?;
                let module = self.optional_string()?;
                self.expect(")")?;
                ExprKind::Cast {
                    operand,
                    ty,
                    module,
                    steps: Vec::new(),
                    address_of: false,
                }
            }
            "@defined" => ExprKind::Defined(self.single()?),
            "@probewrite" => {
                self.expect("(")?;
                let variable = self.expect_identifier()?;
                self.expect(")")?;
                self.height = 1;
                ExprKind::ProbeWrite(Box::new(Expr {
                    span: variable.span,
                    kind: target(&variable.text),
                }))
            }
            "@entry" => ExprKind::Entry(self.single()?),
            "@perf" => {
                self.expect("(")?;
                let (name, _) = self.expect_string("expected literal string")?;
                self.expect(")")?;
                ExprKind::Perf(name)
            }
            "@const" | "@kregister" | "@kderef" if !self.privileged => {
                let message = format!("using {} operator not permitted; need stap -g", word.text);
                let mut error = ParseError::saw(message);
                error.skip = false;
                return Err(error);
            }
            "@const" | "@enum" => {
                self.expect("(")?;
                let (text, place) = self.expect_string("expected string")?;
                self.expect(")")?;
                let literal = Expr {
                    kind: ExprKind::Literal(Literal::String(text)),
                    span: place,
                };
                ExprKind::AtWord(name(&word), vec![literal])
            }
            "@enumname" => {
                self.expect("(")?;
                let mut arguments = vec![self.expression()?];
                let height = self.height;
                while arguments.len() < 3 && self.accept(",")? {
                    let (text, place) = self.expect_string("expected string")?;
                    arguments.push(Expr {
                        kind: ExprKind::Literal(Literal::String(text)),
                        span: place,
                    });
                }
                self.expect(")")?;
                self.height = height;
                ExprKind::AtWord(name(&word), arguments)
            }
            "@kregister" | "@uregister" => {
                self.expect("(")?;
                let number = self.unsigned_number()?;
                self.expect(")")?;
                self.height = 1;
                ExprKind::AtWord(name(&word), vec![number])
            }
            "@kderef" | "@uderef" => {
                self.expect("(")?;
                let size = self.unsigned_number()?;
                self.expect(",")?;
                let address = self.expression()?;
                self.expect(")")?;
                ExprKind::AtWord(name(&word), vec![size, address])
            }
            other => {
                let message = format!("unknown operator {other}");
                return Err(ParseError::saw(message));
            }
        };
        self.grow(self.height)?;
        Ok(Expr { kind, span })
    }

    /// A number of 32 bits, as register numbers and sizes are.
    fn unsigned_number(&mut self) -> Parse<Expr> {
        let place = self.look()?.map(|t| t.span);
        let number = self.expect_number()?;
        let span = place.ok_or_else(|| ParseError::saw("expected number"))?;
        Ok(Expr {
            kind: ExprKind::Literal(Literal::Number(i64::from(number as u32))),
            span,
        })
    }

    /// `(e)`.
    fn single(&mut self) -> Parse<Box<Expr>> {
        self.expect("(")?;
        let value = self.expression()?;
        self.expect(")")?;
        Ok(Box::new(value))
    }

    /// `, "text"`, if there is a comma.
    fn optional_string(&mut self) -> Parse<Option<Vec<u8>>> {
        match self.accept(",")? {
            true => Ok(Some(self.expect_string("expected string")?.0)),
            false => Ok(None),
        }
    }
}

/// `$name` with the pretty printing that may be part of the word.
fn target(word: &str) -> ExprKind {
    let (bare, pretty) = split_pretty(word);
    let (name, pretty) = match bare.trim_start_matches('$').is_empty() {
        true => (word, 0),
        false => (bare, pretty),
    };
    let steps = match pretty {
        0 => Vec::new(),
        depth => vec![TargetStep::Pretty(depth)],
    };
    ExprKind::Target {
        name: name.to_string(),
        steps,
        address_of: false,
    }
}

/// The print form that a name calls for.
fn print_form(name: &str) -> Option<PrintForm> {
    let (to_string, rest) = match name.strip_prefix('s') {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let rest = rest.strip_prefix("print")?;
    let (format, delimiter, newline, char) = match rest {
        "" => (false, false, false, false),
        "f" => (true, false, false, false),
        "ln" => (false, false, true, false),
        "d" => (false, true, false, false),
        "dln" => (false, true, true, false),
        "_char" if !to_string => (false, false, false, true),
        _ => return None,
    };
    Some(PrintForm {
        to_string,
        format,
        delimiter,
        newline,
        char,
    })
}
