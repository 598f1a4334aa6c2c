//! `probe`, `global`, `private` and `function`.

use super::{Parse, Parser, name};
use crate::ast::{Alias, FunctionBody, FunctionDecl, GlobalDecl, Param, Probe, Stmt, TypeName};
use crate::diagnostic::ParseError;
use crate::token::TokenKind;

/// The greatest size that a global array may be declared with.
const MAX_ARRAY_SIZE: i64 = i32::MAX as i64;

impl Parser<'_> {
    pub(super) fn probe(&mut self) -> Parse<()> {
        let span = self.next()?.span;
        let mut names = Vec::new();
        let mut points = Vec::new();
        let mut epilogue = false;
        loop {
            let mut group = self.probe_points()?;
            let next = self.peek()?;
            let op = next
                .as_ref()
                .filter(|t| t.kind == TokenKind::Operator)
                .map_or("", |t| &*t.text);
            match op {
                "=" | "+=" => {
                    let alias = match (group.pop(), group.is_empty(), points.is_empty()) {
                        (Some(alias), true, true) => alias,
                        _ => return Err(ParseError::saw("expected probe point specifier")),
                    };
                    if alias.optional || alias.sufficient {
                        let mut token =
                            next.unwrap_or_else(|| unreachable!("an operator was seen"));
                        token.kind = TokenKind::Identifier;
                        if let Some(first) = alias.components.first() {
                            token.text = first.name.text.as_str().into();
                            token.span = first.name.span;
                        }
                        let message = "probe point alias name cannot be optional nor sufficient";
                        return Err(ParseError::at(message, token));
                    }
                    epilogue |= op == "+=";
                    names.push(alias);
                    self.skip();
                }
                "," => {
                    points.append(&mut group);
                    self.skip();
                }
                "{" => {
                    points.append(&mut group);
                    break;
                }
                // What may follow in braces is no end of the list here.
                "}" => return Err(ParseError::saw("expected probe point specifier")),
                _ => return Err(ParseError::saw("expected one of ', { } = +='")),
            }
        }
        self.in_function = false;
        let body = self.block()?;
        if names.is_empty() {
            self.file.probes.push(Probe { span, points, body });
            return Ok(());
        }
        let mut tail = None;
        if self.peek_is(",")? {
            if epilogue {
                return Err(ParseError::saw(
                    "Combined prologue and epilogue cannot be defined with '+='",
                ));
            }
            self.skip();
            self.look()?;
            tail = Some(self.block()?);
        }
        self.file.aliases.push(Alias {
            span,
            names,
            epilogue,
            points,
            body,
            tail,
        });
        Ok(())
    }

    pub(super) fn private(&mut self) -> Parse<()> {
        const EXPECTED: &str = "expected 'function' or identifier";
        let next = self.peek()?.ok_or_else(|| self.wrong(EXPECTED))?;
        if next.is_keyword("function") {
            self.skip();
            return self.function(true);
        }
        if next.is_keyword("global") {
            self.skip();
        } else if next.kind != TokenKind::Identifier {
            return Err(ParseError::saw(EXPECTED));
        }
        self.globals(true)
    }

    pub(super) fn globals(&mut self, private: bool) -> Parse<()> {
        loop {
            // The end of the text is reported as such, not as the keyword before it.
            self.look()?;
            let name = self.expect_identifier().map_err(|e| e.of("global"))?;
            if let Some(earlier) = self.file.globals.iter().find(|g| g.name.text == name.text) {
                return Err(ParseError::saw(match earlier.private == private {
                    true => "duplicate global name",
                    false => "global versus private variable declaration conflict",
                }));
            }
            let wrap = self.accept("%")?;
            let mut size = None;
            if self.accept("[")? {
                let declared = self.expect_number()?;
                self.look()?;
                self.expect("]")?;
                if !(1..=MAX_ARRAY_SIZE).contains(&declared) {
                    // stap names no token here.
                    self.last = None;
                    self.looked = false;
                    return Err(ParseError::saw("array size out of range"));
                }
                size = Some(declared);
            }
            let mut init = None;
            let equals = self
                .look()?
                .filter(|t| t.is_op("="))
                .cloned()
                .map(|t| t.span);
            if equals.is_some() {
                if size.is_some() {
                    return Err(ParseError::saw("only scalar globals can be initialized"));
                }
                self.skip();
                init = Some(self.literal()?.0);
            }
            self.global_names.insert(name.text.clone());
            self.file.globals.push(GlobalDecl {
                name,
                private,
                wrap,
                size,
                init,
                equals,
            });
            if !self.accept(",")? {
                // One semicolon may end the list.
                self.accept(";")?;
                return Ok(());
            }
        }
    }

    pub(super) fn function(&mut self, private: bool) -> Parse<()> {
        self.look()?;
        let token = self.next()?;
        let allowed = token.kind == TokenKind::Identifier
            || token.is_keyword("string")
            || token.is_keyword("long");
        if !allowed {
            return Err(ParseError::saw("expected identifier").of("function"));
        }
        let function_name = name(&token);
        let mut open = self.next()?;
        let mut ty = None;
        if open.is_op(":") {
            ty = Some(self.type_name()?);
            open = self.next()?;
        }
        if !open.is_op("(") {
            return Err(ParseError::saw("expected '('").of("function"));
        }
        let mut params: Vec<Param> = Vec::new();
        loop {
            if self.accept(")")? {
                break;
            }
            let name = self.expect_identifier()?;
            if params.iter().any(|p| p.name.text == name.text) {
                return Err(ParseError::saw("duplicate parameter names"));
            }
            let mut ty = None;
            if self.accept(":")? {
                ty = Some(self.type_name()?);
            }
            params.push(Param { name, ty });
            if self.accept(")")? {
                break;
            }
            if !self.accept(",")? {
                return Err(self.wrong("expected ',' or ')'"));
            }
        }
        let mut priority = None;
        if self.accept(":")? {
            let (literal, _) = self.literal()?;
            match literal {
                crate::ast::Literal::Number(value) if value > 0 => priority = Some(value),
                crate::ast::Literal::Number(_) => {
                    return Err(ParseError::saw("specified priority must be > 0"));
                }
                crate::ast::Literal::String(_) => {
                    return Err(ParseError::saw("expected literal number"));
                }
            }
        }
        let embedded = self.look()?.is_some_and(|t| t.kind == TokenKind::Embedded);
        let body = match embedded {
            true => FunctionBody::Embedded(self.embedded_code("embedded code")?),
            false => {
                self.in_function = true;
                FunctionBody::Block(self.block()?)
            }
        };
        self.file.functions.push(FunctionDecl {
            name: function_name,
            private,
            ty,
            params,
            priority,
            body,
        });
        Ok(())
    }

    /// `string` or `long`.
    fn type_name(&mut self) -> Parse<TypeName> {
        let token = self.next()?;
        match (token.kind, &*token.text) {
            (TokenKind::Keyword, "string") => Ok(TypeName::String),
            (TokenKind::Keyword, "long") => Ok(TypeName::Long),
            _ => Err(ParseError::saw("expected 'string' or 'long'")),
        }
    }

    /// `{ … }`.
    pub(super) fn block(&mut self) -> Parse<Stmt> {
        let open = self.expect("{")?;
        self.block_rest(open)
    }
}
