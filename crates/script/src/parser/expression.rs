//! Expressions: stap's own precedence, in which `.` binds more loosely than `+` and all comparisons are one level.

use super::{Parse, Parser};
use crate::ast::{AssignOp, BinaryOp, Expr, ExprKind, TargetStep, UnaryOp};
use crate::diagnostic::ParseError;
use crate::token::{Token, TokenKind};

/// Binary operators from `||` to `&`, the looser level first.
const LOGIC: &[&[(&str, BinaryOp)]] = &[
    &[("||", BinaryOp::LogicalOr)],
    &[("&&", BinaryOp::LogicalAnd)],
    &[("|", BinaryOp::Or)],
    &[("^", BinaryOp::Xor)],
    &[("&", BinaryOp::And)],
];

/// Comparisons: one level, between `in` and the shifts.
const COMPARISONS: &[(&str, BinaryOp)] = &[
    (">", BinaryOp::Gt),
    ("<", BinaryOp::Lt),
    ("==", BinaryOp::Eq),
    ("!=", BinaryOp::Ne),
    ("<=", BinaryOp::Le),
    (">=", BinaryOp::Ge),
];

/// Operators tighter than comparisons, the looser level first.
const ARITHMETIC: &[&[(&str, BinaryOp)]] = &[
    &[
        ("<<", BinaryOp::Shl),
        (">>", BinaryOp::Shr),
        (">>>", BinaryOp::ShrLogical),
    ],
    &[(".", BinaryOp::Concat)],
    &[("+", BinaryOp::Add), ("-", BinaryOp::Sub)],
    &[
        ("*", BinaryOp::Mul),
        ("/", BinaryOp::Div),
        ("%", BinaryOp::Mod),
    ],
];

/// What stands behind an index.
pub(super) const INDEX_END: &str = "expected one of '] ,'";

const ASSIGNMENTS: &[(&str, AssignOp)] = &[
    ("=", AssignOp::Set),
    ("<<<", AssignOp::Aggregate),
    ("+=", AssignOp::Binary(BinaryOp::Add)),
    ("-=", AssignOp::Binary(BinaryOp::Sub)),
    ("*=", AssignOp::Binary(BinaryOp::Mul)),
    ("/=", AssignOp::Binary(BinaryOp::Div)),
    ("%=", AssignOp::Binary(BinaryOp::Mod)),
    ("<<=", AssignOp::Binary(BinaryOp::Shl)),
    (">>=", AssignOp::Binary(BinaryOp::Shr)),
    ("&=", AssignOp::Binary(BinaryOp::And)),
    ("^=", AssignOp::Binary(BinaryOp::Xor)),
    ("|=", AssignOp::Binary(BinaryOp::Or)),
    (".=", AssignOp::Binary(BinaryOp::Concat)),
];

fn find<T: Copy>(table: &[(&str, T)], token: &Token) -> Option<T> {
    match token.kind {
        TokenKind::Operator => table
            .iter()
            .find(|(op, _)| **op == *token.text)
            .map(|&(_, value)| value),
        _ => None,
    }
}

impl Parser<'_> {
    /// A whole expression.
    pub(super) fn expression(&mut self) -> Parse<Expr> {
        self.nested(|p| p.assignment())
    }

    /// The next token when it is one of these operators; consumed.
    fn operator<T: Copy>(&mut self, table: &[(&str, T)]) -> Parse<Option<(Token, T)>> {
        match self.look()?.and_then(|token| find(table, token)) {
            Some(op) => Ok(Some((self.next()?, op))),
            None => Ok(None),
        }
    }

    fn assignment(&mut self) -> Parse<Expr> {
        let left = self.ternary()?;
        let Some((token, op)) = self.operator(ASSIGNMENTS)? else {
            return Ok(left);
        };
        let height = self.height;
        let right = self.expression()?;
        self.grow(height.max(self.height))?;
        Ok(Expr {
            kind: ExprKind::Assign(op, Box::new(left), Box::new(right)),
            span: token.span,
        })
    }

    fn ternary(&mut self) -> Parse<Expr> {
        let condition = self.logic(0)?;
        let Some(mark) = self.look()?.filter(|t| t.is_op("?")).cloned() else {
            return Ok(condition);
        };
        self.skip();
        let mut height = self.height;
        let yes = self.expression()?;
        height = height.max(self.height);
        self.expect(":")?;
        let no = self.nested(|p| match p.tight_choice {
            true => p.ternary(),
            false => p.expression(),
        })?;
        self.grow(height.max(self.height))?;
        Ok(Expr {
            kind: ExprKind::Ternary(Box::new(condition), Box::new(yes), Box::new(no)),
            span: mark.span,
        })
    }

    /// Operators of at least this level in [`LOGIC`], by precedence climbing: the levels are many, the stack is not.
    fn logic(&mut self, level: usize) -> Parse<Expr> {
        let mut left = self.membership()?;
        while let Some((token, found, op)) = self.level_operator(LOGIC, level)? {
            let height = self.height;
            let right = self.logic(found + 1)?;
            self.grow(height.max(self.height))?;
            left = binary(op, left, right, &token);
        }
        Ok(left)
    }

    /// The next token when it is an operator of at least this level; consumed.
    fn level_operator(
        &mut self,
        levels: &[&[(&str, BinaryOp)]],
        least: usize,
    ) -> Parse<Option<(Token, usize, BinaryOp)>> {
        let Some(token) = self.look()? else {
            return Ok(None);
        };
        let found = (levels.iter().enumerate().skip(least))
            .find_map(|(level, table)| Some((level, find(table, token)?)));
        match found {
            Some((level, op)) => Ok(Some((self.next()?, level, op))),
            None => Ok(None),
        }
    }

    /// `k in a` and `[k, *] in a`.
    fn membership(&mut self) -> Parse<Expr> {
        let open = self.look()?.filter(|t| t.is_op("[")).cloned();
        let keys = match open {
            Some(_) => {
                self.skip();
                let mut keys = self.key_list(Self::comparison, "expected ',' or ']'")?;
                if !self.peek_keyword("in")? {
                    // `[e]` is `e`.
                    return match (keys.pop(), keys.is_empty()) {
                        (Some(Some(only)), true) => Ok(only),
                        _ => Err(ParseError::saw(
                            "unexpected comma-separated expression list",
                        )),
                    };
                }
                keys
            }
            None => {
                let value = self.comparison()?;
                if !self.peek_keyword("in")? {
                    return Ok(value);
                }
                vec![Some(value)]
            }
        };
        let height = self.height;
        let word = self.next()?;
        let array = self.indexable()?;
        self.grow(height.max(self.height))?;
        Ok(Expr {
            kind: ExprKind::In(keys, Box::new(array)),
            span: word.span,
        })
    }

    fn comparison(&mut self) -> Parse<Expr> {
        let mut left = self.arithmetic(0)?;
        if let Some((token, negated)) = self.operator(&[("=~", false), ("!~", true)])? {
            let height = self.height;
            let (pattern, span) = self.expect_string("expected literal string")?;
            self.grow(height)?;
            let pattern = Expr {
                kind: ExprKind::Literal(crate::ast::Literal::String(pattern)),
                span,
            };
            return Ok(Expr {
                kind: ExprKind::Match(Box::new(left), Box::new(pattern), negated),
                span: token.span,
            });
        }
        while let Some((token, op)) = self.operator(COMPARISONS)? {
            let height = self.height;
            let right = self.arithmetic(0)?;
            self.grow(height.max(self.height))?;
            left = binary(op, left, right, &token);
        }
        Ok(left)
    }

    fn arithmetic(&mut self, level: usize) -> Parse<Expr> {
        let mut left = self.unary()?;
        while let Some((token, found, op)) = self.level_operator(ARITHMETIC, level)? {
            let height = self.height;
            let right = self.arithmetic(found + 1)?;
            self.grow(height.max(self.height))?;
            left = binary(op, left, right, &token);
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parse<Expr> {
        let table = [
            ("+", UnaryOp::Plus),
            ("-", UnaryOp::Minus),
            ("!", UnaryOp::Not),
            ("~", UnaryOp::Complement),
        ];
        let Some((token, op)) = self.operator(&table)? else {
            return self.step();
        };
        let operand = self.nested(|p| p.unary())?;
        self.grow(self.height)?;
        Ok(Expr {
            kind: ExprKind::Unary(op, Box::new(operand)),
            span: token.span,
        })
    }

    /// `++a`, `a--`.
    fn step(&mut self) -> Parse<Expr> {
        let table = [("++", true), ("--", false)];
        if let Some((token, increment)) = self.operator(&table)? {
            let operand = Box::new(self.target()?);
            self.grow(self.height)?;
            return Ok(Expr {
                kind: ExprKind::Step {
                    increment,
                    prefix: true,
                    operand,
                },
                span: token.span,
            });
        }
        let operand = self.target()?;
        let Some((token, increment)) = self.operator(&table)? else {
            return Ok(operand);
        };
        self.grow(self.height)?;
        Ok(Expr {
            kind: ExprKind::Step {
                increment,
                prefix: false,
                operand: Box::new(operand),
            },
            span: token.span,
        })
    }

    /// A value with `&` before and `->x`, `[i]`, `$` behind it.
    fn target(&mut self) -> Parse<Expr> {
        let address = self.look()?.filter(|t| t.is_op("&")).cloned();
        if address.is_some() {
            self.skip();
        }
        let mut value = self.value()?;
        let height = self.height;
        let indexable = !matches!(value.kind, ExprKind::Literal(_));
        // An address in parentheses, `(&$x)`, is a value like any other.
        let own = match &mut value.kind {
            ExprKind::Target {
                steps, address_of, ..
            }
            | ExprKind::AtVar {
                steps, address_of, ..
            }
            | ExprKind::Cast {
                steps, address_of, ..
            } if !*address_of => Some((steps, address_of)),
            _ => None,
        };
        // `(&$x)`, of which no more is the target.
        let own = own.filter(|(_, address_of)| !**address_of);
        let mut more = Vec::new();
        // `$name$` was taken apart with its name; nothing can follow the pretty printing.
        let closed = own
            .as_ref()
            .is_some_and(|(steps, _)| matches!(steps.last(), Some(TargetStep::Pretty(_))));
        let mut operator = None;
        if closed {
            self.end_of_pretty()?;
        } else {
            operator = self.look()?.map(|token| token.span);
            self.target_steps(&mut more, indexable)?;
        }
        self.grow(height.max(self.height))?;
        if let Some((steps, address_of)) = own {
            steps.append(&mut more);
            *address_of = address.is_some();
        } else if address.is_some() || !more.is_empty() {
            // Messages are about the first operator in the text.
            let ampersand = address.as_ref().map(|token| token.span);
            let operator = ampersand.or(operator.filter(|_| !more.is_empty()));
            value = Expr {
                span: operator.unwrap_or(value.span),
                kind: ExprKind::Autocast {
                    operand: Box::new(value),
                    steps: more,
                    address_of: address.is_some(),
                },
            };
        }
        Ok(value)
    }

    fn target_steps(&mut self, steps: &mut Vec<TargetStep>, indexable: bool) -> Parse<()> {
        while let Some(token) = self.peek()? {
            let operator = token.span;
            if token.is_op("->") {
                self.skip();
                let member = self.next()?;
                if !matches!(member.kind, TokenKind::Identifier | TokenKind::Keyword) {
                    return Err(ParseError::saw("expected identifier or keyword"));
                }
                let (text, depth) = split_pretty(&member.text);
                if !text.is_empty() {
                    let name = crate::ast::Name {
                        text: text.to_string(),
                        span: member.span,
                    };
                    steps.push(TargetStep::Member(name, operator));
                }
                if depth > 0 {
                    steps.push(TargetStep::Pretty(depth));
                    return self.end_of_pretty();
                }
            } else if token.is_op("[") && (indexable || !steps.is_empty()) {
                self.skip();
                let index = self.expression()?;
                self.expect("]")?;
                steps.push(TargetStep::Index(Box::new(index), operator));
            } else if token.kind == TokenKind::Identifier && matches!(&*token.text, "$" | "$$") {
                self.skip();
                steps.push(TargetStep::Pretty(token.text.len() as u8));
                return self.end_of_pretty();
            } else {
                return Ok(());
            }
            if steps.len() > super::MAX_HEIGHT {
                return Err(ParseError::saw("expression too complex"));
            }
        }
        Ok(())
    }

    /// Refuses a member or an index of a value that is shown whole.
    fn end_of_pretty(&mut self) -> Parse<()> {
        match self.peek_is("->")? || self.peek_is("[")? {
            true => Err(ParseError::saw(
                "-> and [ are not accepted for a pretty-printing variable",
            )),
            false => Ok(()),
        }
    }

    /// `a, *, b]`, the opening bracket consumed.
    pub(super) fn index_list(&mut self, expected: &str) -> Parse<Vec<Option<Expr>>> {
        self.key_list(Self::expression, expected)
    }

    /// The same with another kind of element.
    fn key_list(
        &mut self,
        element: fn(&mut Self) -> Parse<Expr>,
        expected: &str,
    ) -> Parse<Vec<Option<Expr>>> {
        let mut list = Vec::new();
        let mut height = 0;
        loop {
            match self.accept("*")? {
                true => {
                    if !self.peek_is(",")? && !self.peek_is("]")? {
                        return Err(ParseError::saw("expected literal string or number"));
                    }
                    list.push(None);
                }
                false => {
                    list.push(Some(element(self)?));
                    height = height.max(self.height);
                }
            }
            if self.accept("]")? {
                self.height = height;
                return Ok(list);
            }
            if !self.accept(",")? {
                return Err(self.wrong_and_gone(expected));
            }
        }
    }
}

fn binary(op: BinaryOp, left: Expr, right: Expr, token: &Token) -> Expr {
    Expr {
        kind: ExprKind::Binary(op, Box::new(left), Box::new(right)),
        span: token.span,
    }
}

/// A word and the dollars at its end that ask for pretty printing (one or two; more belong to the word).
pub(super) fn split_pretty(word: &str) -> (&str, u8) {
    let bare = word.trim_end_matches('$');
    match word.len() - bare.len() {
        0 => (word, 0),
        1 => (bare, 1),
        _ => (&word[..word.len() - 2], 2),
    }
}
