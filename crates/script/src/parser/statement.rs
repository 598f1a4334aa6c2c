//! Statements.

use super::{Parse, Parser};
use crate::ast::{
    Direction, EmbeddedCode, Expr, ExprKind, Foreach, Name, SortKey, StatOp, Stmt, StmtKind,
};
use crate::diagnostic::ParseError;
use crate::span::Span;
use crate::token::{Token, TokenKind};

impl Parser<'_> {
    /// The rest of `{ … }`.
    pub(super) fn block_rest(&mut self, open: Token) -> Parse<Stmt> {
        let mut statements = Vec::new();
        while !self.accept("}")? {
            statements.push(self.statement()?);
        }
        Ok(Stmt {
            kind: StmtKind::Block(statements),
            span: open.span,
        })
    }

    fn statement(&mut self) -> Parse<Stmt> {
        self.nested(|p| p.statement_here())
    }

    fn statement_here(&mut self) -> Parse<Stmt> {
        const EXPECTED: &str = "expected statement";
        let token = self.peek()?.ok_or_else(|| ParseError::saw(EXPECTED))?;
        let span = token.span;
        let kind = match (token.kind, &*token.text) {
            (TokenKind::Operator, ";") => {
                self.skip();
                StmtKind::Null
            }
            (TokenKind::Operator, "{") => {
                self.skip();
                return self.block_rest(token);
            }
            (TokenKind::Keyword, word) => {
                let word = word.to_string();
                match word.as_str() {
                    "if" => self.if_statement()?,
                    "while" => {
                        self.skip();
                        let condition = self.parenthesised()?;
                        StmtKind::While(condition, Box::new(self.statement()?))
                    }
                    "for" => self.for_statement()?,
                    "foreach" => self.foreach_statement()?,
                    "return" => {
                        if !self.in_function {
                            return Err(ParseError::saw("found 'return' not in function context"));
                        }
                        self.skip();
                        let bare = self.peek_is(";")? || self.peek_is("}")?;
                        let value = match bare {
                            true => None,
                            false => Some(self.expression()?),
                        };
                        self.accept(";")?;
                        StmtKind::Return(value)
                    }
                    "delete" => {
                        self.skip();
                        let operand = self.expression()?;
                        self.accept(";")?;
                        StmtKind::Delete(operand)
                    }
                    "next" => self.jump(StmtKind::Next)?,
                    "break" => self.jump(StmtKind::Break)?,
                    "continue" => self.jump(StmtKind::Continue)?,
                    "try" => self.try_statement()?,
                    _ => return Err(ParseError::saw(EXPECTED)),
                }
            }
            (TokenKind::Junk, _) => return Err(ParseError::saw(EXPECTED)),
            _ => {
                let value = self.expression()?;
                self.accept(";")?;
                match value.kind {
                    ExprKind::Embedded(EmbeddedCode { code, span }) => {
                        StmtKind::Embedded(EmbeddedCode { code, span })
                    }
                    _ => StmtKind::Expr(value),
                }
            }
        };
        Ok(Stmt { kind, span })
    }

    fn jump(&mut self, kind: StmtKind) -> Parse<StmtKind> {
        self.skip();
        self.accept(";")?;
        Ok(kind)
    }

    fn parenthesised(&mut self) -> Parse<Expr> {
        self.expect("(")?;
        let value = self.expression()?;
        self.expect(")")?;
        Ok(value)
    }

    fn if_statement(&mut self) -> Parse<StmtKind> {
        self.skip();
        let condition = self.parenthesised()?;
        let then = self.statement()?;
        let mut otherwise = None;
        if self.peek_keyword("else")? {
            self.skip();
            otherwise = Some(Box::new(self.statement()?));
        }
        Ok(StmtKind::If(condition, Box::new(then), otherwise))
    }

    fn for_statement(&mut self) -> Parse<StmtKind> {
        self.skip();
        self.expect("(")?;
        let init = self.for_part(";")?;
        let condition = self.for_part(";")?;
        let step = self.for_part(")")?;
        let body = Box::new(self.statement()?);
        Ok(StmtKind::For(init, condition, step, body))
    }

    /// An expression, if there is one, and what ends it.
    fn for_part(&mut self, end: &str) -> Parse<Option<Expr>> {
        if self.accept(end)? {
            return Ok(None);
        }
        let value = self.expression()?;
        self.expect(end)?;
        Ok(Some(value))
    }

    fn try_statement(&mut self) -> Parse<StmtKind> {
        self.skip();
        let tried = self.block()?;
        self.look()?;
        self.expect_keyword("catch")?;
        let mut variable = None;
        if self.accept("(")? {
            variable = Some(self.expect_identifier()?);
            self.expect(")")?;
        }
        let handler = self.block()?;
        Ok(StmtKind::Try(Box::new(tried), variable, Box::new(handler)))
    }

    fn foreach_statement(&mut self) -> Parse<StmtKind> {
        self.skip();
        self.expect("(")?;
        let mut sort = None;
        let mut value = None;
        let mut keys = Vec::new();
        if self.peek_is("[")? {
            self.foreach_keys(&mut keys, &mut sort)?;
        } else {
            let first = self.expect_identifier()?;
            let direction = self.direction(&sort)?;
            if self.accept("=")? {
                if let Some(direction) = direction {
                    sort = Some((SortKey::Value(None), direction));
                }
                value = Some(first);
                if self.peek_is("[")? {
                    self.foreach_keys(&mut keys, &mut sort)?;
                } else {
                    keys.push(self.expect_identifier()?);
                    if let Some(direction) = self.direction(&sort)? {
                        sort = Some((SortKey::Key(0), direction));
                    }
                }
            } else {
                keys.push(first);
                if let Some(direction) = direction {
                    sort = Some((SortKey::Key(0), direction));
                }
            }
        }
        self.expect_keyword("in")?;
        self.look()?;
        let base = self.indexable()?;
        let mut slice = None;
        if self.accept("[")? {
            slice = Some(self.index_list("expected ',' or ']'")?);
        }
        let word = self
            .peek()?
            .filter(|t| t.kind == TokenKind::Operator && t.text.starts_with('@'));
        if let Some(word) = word {
            let Some(statistic) = statistic(&word) else {
                return Err(ParseError::saw("expected statistical operation"));
            };
            self.skip();
            match self.direction(&sort)? {
                Some(direction) => sort = Some((SortKey::Value(Some(statistic)), direction)),
                None => return Err(ParseError::saw("expected sort directive")),
            }
        } else if let Some(direction) = self.direction(&sort)? {
            sort = Some((SortKey::Value(None), direction));
        }
        let mut limit = None;
        if self.peek_keyword("limit")? {
            self.skip();
            limit = Some(self.expression()?);
        }
        self.expect(")")?;
        let body = self.statement()?;
        Ok(StmtKind::Foreach(Box::new(Foreach {
            value,
            keys,
            base,
            slice,
            sort,
            limit,
            body,
        })))
    }

    fn foreach_keys(
        &mut self,
        keys: &mut Vec<Name>,
        sort: &mut Option<(SortKey, Direction)>,
    ) -> Parse<()> {
        self.expect("[")?;
        loop {
            keys.push(self.expect_identifier()?);
            if let Some(direction) = self.direction(sort)? {
                *sort = Some((SortKey::Key(keys.len() - 1), direction));
            }
            if self.accept("]")? {
                return Ok(());
            }
            if !self.accept(",")? {
                return Err(self.wrong("expected ',' or ']'"));
            }
        }
    }

    /// `+` or `-`, if it is next.
    fn direction(&mut self, earlier: &Option<(SortKey, Direction)>) -> Parse<Option<Direction>> {
        let direction = match self.peek()? {
            Some(t) if t.is_op("+") => Direction::Ascending,
            Some(t) if t.is_op("-") => Direction::Descending,
            _ => return Ok(None),
        };
        if earlier.is_some() {
            return Err(ParseError::saw("multiple sort directives"));
        }
        self.skip();
        Ok(Some(direction))
    }

    /// An array's name or a histogram.
    pub(super) fn indexable(&mut self) -> Parse<Expr> {
        let token = self.next()?;
        let kind = match (token.kind, &*token.text) {
            (TokenKind::Identifier, _) => ExprKind::Symbol(token.text.to_string()),
            (TokenKind::Operator, "@hist_log" | "@hist_linear") => return self.histogram(&token),
            // Any other `@word` is taken for a name here, which no declaration can have.
            (TokenKind::Operator, word) if word.starts_with('@') => {
                ExprKind::Symbol(token.text.to_string())
            }
            _ => {
                return Err(ParseError::saw(
                    "expected identifier or statistical operation",
                ));
            }
        };
        Ok(Expr {
            kind,
            span: Span { ..token.span },
        })
    }
}

/// The statistics extractor of that name.
pub(super) fn statistic(token: &Token) -> Option<StatOp> {
    if token.kind != TokenKind::Operator {
        return None;
    }
    Some(match &*token.text {
        "@count" => StatOp::Count,
        "@sum" => StatOp::Sum,
        "@min" => StatOp::Min,
        "@max" => StatOp::Max,
        "@avg" => StatOp::Avg,
        "@variance" => StatOp::Variance,
        _ => return None,
    })
}
