//! Probe points: components with wildcards, brace expansion, suffixes.

use super::{Parse, Parser};
use crate::ast::{Component, Name, ProbePoint};
use crate::diagnostic::ParseError;
use crate::span::Span;
use crate::token::{Token, TokenKind};

/// Probe points that one group of braces may stand for.
const MAX_ALTERNATIVES: usize = 10_000;

impl Parser<'_> {
    /// A probe point, or several where there are braces in it.
    pub(super) fn probe_points(&mut self) -> Parse<Vec<ProbePoint>> {
        self.nested(|p| p.probe_points_here())
    }

    fn probe_points_here(&mut self) -> Parse<Vec<ProbePoint>> {
        let mut points: Vec<ProbePoint> = vec![ProbePoint {
            components: Vec::new(),
            optional: false,
            sufficient: false,
            condition: None,
            span: Span::default(),
        }];
        loop {
            let first = self.next()?;
            let heads = match first.is_op("{") {
                true => self.alternatives()?,
                false => vec![self.component(first)?],
            };
            if points.len() * heads.len() > MAX_ALTERNATIVES {
                return Err(ParseError::saw(
                    "probe point stands for too many alternatives",
                ));
            }
            let mut combined = Vec::with_capacity(points.len() * heads.len());
            for point in &points {
                for head in &heads {
                    let mut components = point.components.clone();
                    components.extend(head.components.iter().cloned());
                    let span = match point.components.is_empty() {
                        true => head.span,
                        false => point.span.to(head.span),
                    };
                    combined.push(ProbePoint {
                        components,
                        span,
                        ..head.clone()
                    });
                }
            }
            points = combined;
            let next = self.peek()?;
            let follows = next.is_some_and(|t| match t.kind {
                TokenKind::Operator => matches!(&*t.text, "." | "?" | "!"),
                _ => t.is_keyword("if"),
            });
            if !follows {
                return Ok(points);
            }
            for point in &points {
                if point.optional || point.sufficient || point.condition.is_some() {
                    let first = &point.components[0].name;
                    let token = Token {
                        kind: TokenKind::Identifier,
                        text: first.text.as_str().into(),
                        span: first.span,
                        expansion: None,
                    };
                    let message = "'?', '!' or condition must only be specified in suffix";
                    return Err(ParseError::at(message, token));
                }
            }
            if !self.accept(".")? {
                break;
            }
            self.look()?;
        }
        let optional = self.accept("?")?;
        let sufficient = !optional && self.accept("!")?;
        let mut condition = None;
        if self.peek_keyword("if")? {
            self.skip();
            self.expect("(")?;
            condition = Some(Box::new(self.expression()?));
            self.expect(")")?;
        }
        for point in &mut points {
            point.optional = optional;
            point.sufficient = sufficient;
            point.condition.clone_from(&condition);
        }
        Ok(points)
    }

    /// What stands in braces, the opening one consumed.
    fn alternatives(&mut self) -> Parse<Vec<ProbePoint>> {
        let mut points = Vec::new();
        loop {
            points.append(&mut self.probe_points()?);
            if !self.accept(",")? {
                break;
            }
        }
        const EXPECTED: &str = "expected one of ', { } = +='";
        let Some(next) = self.look()? else {
            return Err(ParseError::saw(EXPECTED));
        };
        if !["}", "{", "=", "+="].iter().any(|op| next.is_op(op)) {
            return Err(self.wrong_and_gone(EXPECTED));
        }
        self.expect("}")?;
        Ok(points)
    }

    /// One component, as a probe point of its own.
    fn component(&mut self, first: Token) -> Parse<ProbePoint> {
        if !is_component(&first) {
            return Err(ParseError::saw("expected identifier or '*' or '{'"));
        }
        let mut name = Name {
            text: first.text.to_string(),
            span: first.span,
        };
        // Words and asterisks that touch are one component.
        while let Some(more) = self.peek()? {
            if !is_component(&more)
                || more.span.file != name.span.file
                || more.span.start != name.span.end
            {
                break;
            }
            name.text.push_str(&more.text);
            name.span = name.span.to(more.span);
            self.skip();
        }
        let mut span = name.span;
        let mut arg = None;
        let mut arg_span = name.span;
        if self.accept("(")? {
            self.look()?;
            let (literal, place) = self.literal()?;
            arg_span = place;
            let close = self.expect(")")?;
            span = span.to(close.span);
            arg = Some(literal);
        }
        Ok(ProbePoint {
            components: vec![Component {
                name,
                arg,
                arg_span,
            }],
            optional: false,
            sufficient: false,
            condition: None,
            span,
        })
    }
}

fn is_component(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Identifier | TokenKind::Keyword) || token.is_op("*")
}
