//! Recursive descent over preprocessed tokens. A file always parses: what is wrong comes back as diagnostics beside
//! the tree of all that was right. After an error the parser goes on at the next top-level keyword.

mod declarations;
mod expression;
mod points;
mod primary;
mod statement;

use std::collections::HashSet;

use crate::ast::{EmbeddedCode, File, Literal, Name};
use crate::diagnostic::{Diagnostic, ParseError};
use crate::lexer::{Dialect, Lexer};
use crate::macros::{Expander, MacroLibrary};
use crate::preprocess::{Environment, Preprocessor};
use crate::span::{Expansions, FileId, SourceMap, Span};
use crate::token::{Token, TokenKind, decode_escapes, number_value};

/// Statements, expressions and brace groups within each other.
const MAX_DEPTH: usize = 1000;
/// Stack left below which a part of the grammar that contains itself gets a new piece of it, and that piece's size, in
/// bytes: a level of the grammar goes through a dozen functions, and threads have as little as 2 MiB.
const STACK_LOW: usize = 256 << 10;
const STACK_PIECE: usize = 4 << 20;
/// Levels of an expression's tree; those who walk it do so recursively.
const MAX_HEIGHT: usize = 1000;

/// How a text is to be read.
#[derive(Clone, Debug, Default)]
pub struct ParseOptions {
    /// What `$1`, `@1` and so on stand for (in tapset files too; only the script's own uses count as use).
    pub args: Vec<String>,
    /// What `%( … %)` is decided from.
    pub environment: Environment,
    /// Macros of the library.
    pub macros: MacroLibrary,
    /// The text belongs to the tapset library: embedded code and `@const` are allowed.
    pub is_tapset: bool,
    /// Guru mode: the same for the user's script.
    pub guru: bool,
}

/// What became of a text.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The tree, without the constructs that had errors.
    pub file: File,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
    /// For each command-line argument whether the text used it.
    pub used_args: Vec<bool>,
    /// Nothing was left to parse after preprocessing (stap takes a script of which that is true for an error).
    pub empty: bool,
    /// Nothing was left, and there was something before.
    pub stripped: bool,
    /// Which tokens of the user's texts came from macros.
    pub expansions: Expansions,
}

/// Parses a text.
pub fn parse(sources: &SourceMap, file: FileId, options: &ParseOptions) -> Parsed {
    let source = sources.file(file);
    let dialect = Dialect::of(source, &options.environment);
    let lexer = Lexer::new(file, source.text.clone(), &options.args).speaking(dialect);
    let expander = Expander::new(lexer, &options.macros);
    let mut parser = Parser {
        tokens: Preprocessor::new(expander, &options.environment),
        next: None,
        looked: false,
        last: None,
        expansions: Expansions::new(),
        is_tapset: options.is_tapset,
        privileged: options.is_tapset || options.guru,
        file: File {
            id: file,
            ..File::default()
        },
        global_names: HashSet::new(),
        in_function: false,
        tight_choice: dialect.tight_choice,
        depth: 0,
        height: 0,
        diagnostics: Vec::new(),
        source_name: source.name.clone(),
    };
    let empty = parser.run();
    let text = || Lexer::new(file, source.text.clone(), &options.args);
    Parsed {
        stripped: empty && !matches!(text().next_token(), Ok(None)),
        used_args: parser.tokens.used_args().to_vec(),
        file: parser.file,
        expansions: parser.expansions,
        diagnostics: parser.diagnostics,
        empty,
    }
}

type Parse<T> = Result<T, ParseError>;

struct Parser<'a> {
    tokens: Preprocessor<'a>,
    /// `a ? b : c = d` is `(a ? b : c) = d`.
    tight_choice: bool,
    next: Option<Token>,
    /// Whether `next`, or the end of the text, is what was looked at last.
    looked: bool,
    /// The token that was looked at before.
    last: Option<Token>,
    expansions: Expansions,
    is_tapset: bool,
    privileged: bool,
    file: File,
    global_names: HashSet<String>,
    in_function: bool,
    depth: usize,
    /// Levels of the expression tree that was built last.
    height: usize,
    diagnostics: Vec<Diagnostic>,
    source_name: String,
}

impl Parser<'_> {
    fn run(&mut self) -> bool {
        let mut empty = true;
        loop {
            self.depth = 0;
            let result = self.top_level(&mut empty);
            self.diagnostics.extend(self.tokens.take_warnings());
            match result {
                Ok(true) => {}
                Ok(false) => return empty,
                Err(error) => {
                    // Unfinished literals are text, unlike what the preprocessor takes out.
                    empty &= !error.is_junk();
                    let skip = error.skip;
                    self.report(error);
                    if skip {
                        self.recover();
                    }
                }
            }
        }
    }

    fn report(&mut self, error: ParseError) {
        let diagnostic = error.diagnostic(self.last(), &self.source_name);
        self.diagnostics.push(diagnostic);
    }

    /// Skips to the next token that can start a declaration.
    fn recover(&mut self) {
        loop {
            match self.peek() {
                Ok(None) => return,
                Ok(Some(token)) => {
                    let starts = match token.kind {
                        TokenKind::Keyword => {
                            matches!(&*token.text, "probe" | "global" | "private" | "function")
                        }
                        kind => kind == TokenKind::Embedded,
                    };
                    if starts {
                        return;
                    }
                    self.skip();
                }
                Err(error) if error.is_junk() => {}
                Err(error) => self.report(error),
            }
        }
    }

    /// An error about what is next; at the end of the text that is what is said.
    fn wrong(&self, message: &str) -> ParseError {
        ParseError::saw(match self.last() {
            Some(_) => message,
            None => "unexpected end-of-file",
        })
    }

    /// The same where stap has taken the token by then: parsing goes on behind it, whatever it is.
    fn wrong_and_gone(&mut self, message: &str) -> ParseError {
        self.skip();
        self.wrong(message)
    }

    /// One declaration; false at the end of the text.
    fn top_level(&mut self, empty: &mut bool) -> Parse<bool> {
        let Some(token) = self.peek()? else {
            return Ok(false);
        };
        *empty = false;
        match (token.kind, &*token.text) {
            (TokenKind::Keyword, "probe") => self.probe()?,
            (TokenKind::Keyword, "global") => {
                self.skip();
                self.globals(false)?;
            }
            (TokenKind::Keyword, "function") => {
                self.skip();
                self.function(false)?;
            }
            (TokenKind::Keyword, "private") => {
                self.skip();
                self.private()?;
            }
            (TokenKind::Embedded, _) => {
                let code = self.embedded_code("embedded code")?;
                self.file.embeds.push(code);
            }
            _ => {
                self.skip();
                return Err(ParseError::saw(
                    "expected 'probe', 'global', 'private', 'function', or '%{'",
                ));
            }
        }
        Ok(true)
    }

    /// The token that was last looked at, which is what stap's messages name.
    fn last(&self) -> Option<&Token> {
        match self.looked {
            true => self.next.as_ref(),
            false => self.last.as_ref(),
        }
    }

    fn read(&mut self) -> Parse<Option<Token>> {
        let token = self.tokens.next_token()?;
        if let Some(token) = token.as_ref().filter(|_| !self.is_tapset)
            && let Some(invocation) = &token.expansion
        {
            let place = (token.span.file, token.span.start);
            let known = self.expansions.entry(place);
            known.or_insert_with(|| invocation.clone());
        }
        Ok(token)
    }

    /// The next token, not consumed.
    fn look(&mut self) -> Parse<Option<&Token>> {
        if self.next.is_none() {
            self.next = self.read()?;
        }
        self.looked = true;
        Ok(self.next.as_ref())
    }

    /// The same, to be kept.
    fn peek(&mut self) -> Parse<Option<Token>> {
        Ok(self.look()?.cloned())
    }

    /// Consumes the token that was looked at.
    fn skip(&mut self) {
        let token = self.next.take();
        if self.looked {
            self.last = token;
            self.looked = false;
        }
    }

    /// The next token, consumed.
    fn next(&mut self) -> Parse<Token> {
        let token = match self.next.take() {
            Some(token) => Some(token),
            None => self.read()?,
        };
        let token = token.ok_or_else(|| ParseError::saw("unexpected end-of-file"))?;
        self.last = Some(token.clone());
        self.looked = false;
        Ok(token)
    }

    fn peek_is(&mut self, op: &str) -> Parse<bool> {
        Ok(self.look()?.is_some_and(|t| t.is_op(op)))
    }

    fn peek_keyword(&mut self, word: &str) -> Parse<bool> {
        Ok(self.look()?.is_some_and(|t| t.is_keyword(word)))
    }

    /// Consumes this operator if it is next.
    fn accept(&mut self, op: &str) -> Parse<bool> {
        let found = self.peek_is(op)?;
        if found {
            self.skip();
        }
        Ok(found)
    }

    fn expect(&mut self, op: &str) -> Parse<Token> {
        let token = self.next()?;
        match token.is_op(op) {
            true => Ok(token),
            false => Err(ParseError::saw(format!("expected '{op}'"))),
        }
    }

    fn expect_keyword(&mut self, word: &str) -> Parse<Token> {
        let token = self.next()?;
        match token.is_keyword(word) {
            true => Ok(token),
            false => Err(ParseError::saw(format!("expected '{word}'"))),
        }
    }

    fn expect_identifier(&mut self) -> Parse<Name> {
        let token = self.next()?;
        match token.kind {
            TokenKind::Identifier => Ok(name(&token)),
            _ => Err(ParseError::saw("expected identifier")),
        }
    }

    /// A number with an optional minus sign.
    fn expect_number(&mut self) -> Parse<i64> {
        let negative = self.accept("-")?;
        self.look()?;
        let token = self.next()?;
        if token.kind != TokenKind::Number {
            return Err(ParseError::saw("expected number"));
        }
        number_value(&token.text, negative)
            .ok_or_else(|| ParseError::saw("number invalid or out of range"))
    }

    /// A string literal with those that directly follow it.
    fn expect_string(&mut self, expected: &str) -> Parse<(Vec<u8>, Span)> {
        let token = self.next()?;
        if token.kind != TokenKind::String {
            return Err(ParseError::saw(expected));
        }
        self.string_rest(token)
    }

    fn string_rest(&mut self, token: Token) -> Parse<(Vec<u8>, Span)> {
        let mut bytes = decode_escapes(&token.text);
        let mut span = token.span;
        while let Some(more) = self
            .look()?
            .filter(|t| t.kind == TokenKind::String)
            .cloned()
        {
            bytes.extend(decode_escapes(&more.text));
            span = span.to(more.span);
            self.skip();
        }
        Ok((bytes, span))
    }

    /// A string or a number, the latter perhaps negative.
    fn literal(&mut self) -> Parse<(Literal, Span)> {
        const EXPECTED: &str = "expected literal string or number";
        let first = self.next()?;
        if first.kind == TokenKind::String {
            let (bytes, span) = self.string_rest(first)?;
            return Ok((Literal::String(bytes), span));
        }
        let negative = first.is_op("-");
        let token = match negative {
            true => {
                self.look()?;
                self.next()?
            }
            false => first.clone(),
        };
        if token.kind != TokenKind::Number {
            return Err(ParseError::saw(EXPECTED));
        }
        let value = number_value(&token.text, negative);
        let value = value.ok_or_else(|| ParseError::saw("number invalid or out of range"))?;
        Ok((Literal::Number(value), first.span.to(token.span)))
    }

    fn embedded_code(&mut self, what: &str) -> Parse<EmbeddedCode> {
        let token = self.next()?;
        if !self.privileged {
            let mut error = ParseError::saw(format!("{what} in unprivileged script; need stap -g"));
            error.skip = false;
            return Err(error);
        }
        Ok(EmbeddedCode {
            code: token.text.to_string(),
            span: token.span,
        })
    }

    /// Runs a part of the grammar that may contain itself.
    fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth >= MAX_DEPTH {
            self.look()?;
            return Err(ParseError::saw("nesting too deep"));
        }
        self.depth += 1;
        let result = stacker::maybe_grow(STACK_LOW, STACK_PIECE, || part(self));
        self.depth -= 1;
        result
    }

    /// Notes the height of a tree just built from parts of which the highest has `parts` levels.
    fn grow(&mut self, parts: usize) -> Parse<()> {
        self.height = parts + 1;
        match self.height > MAX_HEIGHT {
            true => Err(ParseError::saw("expression too complex")),
            false => Ok(()),
        }
    }
}

fn name(token: &Token) -> Name {
    Name {
        text: token.text.to_string(),
        span: token.span,
    }
}
