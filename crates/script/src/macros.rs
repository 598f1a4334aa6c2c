//! `@define` and the invocations of what it defines. Works on tokens, before conditionals are decided, so that a
//! macro may yield a condition and a definition in a branch not taken does not count.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Mention, ParseError};
use crate::lexer::{Dialect, Lexer};
use crate::parser::ParseOptions;
use crate::preprocess::Preprocessor;
use crate::span::{FileId, SourceMap};
use crate::token::{AT_WORDS, Token, TokenKind};

/// Invocations within invocations; beyond this a macro is taken to invoke itself without end.
const MAX_NESTING: usize = 200;
/// Tokens that macros may yield in one text, against definitions that double each other.
const MAX_TOKENS: usize = 1_000_000;

/// The number of a token of a body, and what is wrong with it.
type Fault = (usize, String);

/// A macro.
#[derive(Clone, Debug)]
pub struct Macro {
    name: Token,
    params: Vec<Arc<str>>,
    body: Arc<[Token]>,
    /// They matter only where the macro is invoked.
    faults: Arc<[Fault]>,
}

/// Macros by name, such as those that `.stpm` files define for all scripts.
#[derive(Clone, Debug, Default)]
pub struct MacroLibrary {
    macros: HashMap<Arc<str>, Macro>,
}

impl MacroLibrary {
    /// Adds the definitions of a `.stpm` text and returns what is wrong with it.
    pub fn add(
        &mut self,
        sources: &SourceMap,
        file: FileId,
        options: &ParseOptions,
    ) -> Vec<Diagnostic> {
        let source = sources.file(file);
        let mut diagnostics = Vec::new();
        let dialect = Dialect::of(source, &options.environment);
        let lexer = Lexer::new(file, source.text.clone(), &[]).speaking(dialect);
        let expander = Expander::new(lexer, &options.macros);
        let mut tokens = Preprocessor::new(expander, &options.environment);
        loop {
            let error = match tokens.next_token() {
                Ok(None) => break,
                Ok(Some(token)) => {
                    ParseError::at("library macro file contains non-@define construct", token)
                }
                Err(error) => error,
            };
            diagnostics.push(error.diagnostic(None, &source.name));
        }
        for (name, definition) in tokens.into_macros() {
            self.macros.entry(name).or_insert(definition);
        }
        diagnostics
    }

    /// How many macros it holds.
    pub fn len(&self) -> usize {
        self.macros.len()
    }

    /// True when it holds none.
    pub fn is_empty(&self) -> bool {
        self.macros.is_empty()
    }
}

/// An argument and where its own macro parameters are to be looked up.
#[derive(Debug)]
struct Argument {
    tokens: Arc<[Token]>,
    scope: Option<Arc<Scope>>,
}

/// The parameters in force within one macro body.
#[derive(Debug)]
struct Scope {
    arguments: HashMap<Arc<str>, Argument>,
}

/// A macro body or an argument that is being read.
struct Frame {
    tokens: Arc<[Token]>,
    faults: Arc<[Fault]>,
    at: usize,
    scope: Option<Arc<Scope>>,
    invocation: Arc<Token>,
}

/// Reads tokens with macros expanded.
pub(crate) struct Expander<'a> {
    lexer: Lexer<'a>,
    library: &'a MacroLibrary,
    macros: HashMap<Arc<str>, Macro>,
    frames: Vec<Frame>,
    yielded: usize,
    warnings: Vec<Diagnostic>,
}

impl<'a> Expander<'a> {
    pub(crate) fn new(lexer: Lexer<'a>, library: &'a MacroLibrary) -> Self {
        Expander {
            lexer,
            library,
            macros: HashMap::new(),
            frames: Vec::new(),
            yielded: 0,
            warnings: Vec::new(),
        }
    }

    pub(crate) fn used_args(&self) -> &[bool] {
        self.lexer.used_args()
    }

    pub(crate) fn take_warnings(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.warnings)
    }

    pub(crate) fn into_macros(self) -> HashMap<Arc<str>, Macro> {
        self.macros
    }

    /// The next token as it stands, from the innermost body being read or the text.
    fn raw(&mut self) -> Result<Option<Token>, ParseError> {
        while let Some(frame) = self.frames.last_mut() {
            if let Some(token) = frame.tokens.get(frame.at) {
                frame.at += 1;
                self.yielded += 1;
                let mut token = token.clone();
                token.expansion = Some(frame.invocation.clone());
                if token.kind == TokenKind::Junk {
                    let number = frame.at - 1;
                    let fault = frame.faults.iter().find(|(at, _)| *at == number);
                    let message = fault.map(|(_, message)| message.as_str());
                    return Err(ParseError::at(message.unwrap_or("junk token"), token));
                }
                if self.yielded > MAX_TOKENS {
                    self.frames.clear();
                    return Err(ParseError::at("macro expansion is too long", token));
                }
                return Ok(Some(token));
            }
            self.frames.pop();
        }
        self.lexer.next_token()
    }

    /// The next token; macros stay as they stand when `ignore` is set, as in a branch not taken.
    pub(crate) fn next_token(&mut self, ignore: bool) -> Result<Option<Token>, ParseError> {
        loop {
            let Some(token) = self.raw()? else {
                return Ok(None);
            };
            // `raw` pops finished frames only before it reads, so the innermost one is the token's.
            let scope = self.frames.last().and_then(|f| f.scope.clone());
            if ignore
                || token.kind != TokenKind::Operator
                || token.text.len() < 2
                || !token.text.starts_with('@')
            {
                return Ok(Some(token));
            }
            if &*token.text == "@define" {
                if token.expansion.is_some() {
                    return Err(ParseError::at(
                        "'@define' forbidden inside macro body",
                        token,
                    ));
                }
                self.define()?;
                continue;
            }
            let name = &token.text[1..];
            if let Some(argument) = scope.as_ref().and_then(|s| s.arguments.get(name)) {
                let (tokens, scope) = (argument.tokens.clone(), argument.scope.clone());
                self.enter(tokens, Arc::new([]), scope, token)?;
                continue;
            }
            let Some(definition) = self
                .macros
                .get(name)
                .or_else(|| self.library.macros.get(name))
                .cloned()
            else {
                return Ok(Some(token));
            };
            let arguments = self.arguments(&token, &definition, scope)?;
            let scope = Some(Arc::new(Scope { arguments }));
            self.enter(definition.body, definition.faults, scope, token)?;
        }
    }

    fn enter(
        &mut self,
        tokens: Arc<[Token]>,
        faults: Arc<[Fault]>,
        scope: Option<Arc<Scope>>,
        by: Token,
    ) -> Result<(), ParseError> {
        if self.frames.len() >= MAX_NESTING {
            self.frames.clear();
            return Err(ParseError::at("macro expansion is nested too deeply", by));
        }
        self.frames.push(Frame {
            tokens,
            faults,
            at: 0,
            scope,
            invocation: Arc::new(by),
        });
        Ok(())
    }

    /// What stands behind `@define`.
    fn define(&mut self) -> Result<(), ParseError> {
        let name = self.lexer.next_token()?;
        let name = match name {
            Some(token) if token.kind == TokenKind::Identifier => token,
            Some(token) => return Err(ParseError::at("expected identifier", token)),
            None => return Err(ParseError::saw("expected identifier")),
        };
        if let Some(earlier) = self.macros.get(&name.text) {
            let message = format!(
                "attempt to redefine macro '@{}' in the same file",
                name.text
            );
            let first = format!("macro '@{}' first defined here", name.text);
            let mut error = ParseError::at(message, name);
            error.cause = Some(Box::new(ParseError::at(first, earlier.name.clone())));
            return Err(error);
        }
        let word = format!("@{}", name.text);
        if AT_WORDS.contains(&word.as_str()) {
            let message = format!("macro redefines built-in operator '{word}'");
            self.warnings
                .push(Diagnostic::warning(message, Some(Mention::from(&name))));
        }
        let mut params = Vec::new();
        let body = self.definition(&name, &mut params);
        // What is defined wrongly is known all the same, and stands for nothing.
        let ((body, faults), outcome) = match body {
            Ok(body) => (body, Ok(())),
            Err(error) => (Default::default(), Err(error)),
        };
        let definition = Macro {
            params,
            body: body.into(),
            faults: faults.into(),
            name: name.clone(),
        };
        self.macros.insert(name.text, definition);
        outcome
    }

    /// Parameters and body of a definition, and what is wrong with tokens of the body.
    fn definition(
        &mut self,
        name: &Token,
        params: &mut Vec<Arc<str>>,
    ) -> Result<(Vec<Token>, Vec<Fault>), ParseError> {
        let incomplete =
            || ParseError::at("incomplete macro definition - missing '%)'", name.clone());
        let mut opener = self.definition_token("expected '%(' or '('")?;
        if opener.is_op("(") {
            loop {
                let param = self.definition_token("expected identifier")?;
                if param.kind != TokenKind::Identifier {
                    return Err(ParseError::at("expected identifier", param));
                }
                params.push(param.text);
                let next = self.definition_token("expected ',' or ')'")?;
                if next.is_op(")") {
                    break;
                }
                if !next.is_op(",") {
                    return Err(ParseError::at("expected ',' or ')'", next));
                }
            }
            opener = self.definition_token("expected '%('")?;
            if !opener.is_op("%(") {
                return Err(ParseError::at("expected '%('", opener));
            }
        } else if !opener.is_op("%(") {
            return Err(ParseError::at("expected '%(' or '('", opener));
        }
        let mut body = Vec::new();
        let mut faults = Vec::new();
        let mut depth = 1;
        loop {
            let token = match self.lexer.next_token() {
                Err(ParseError {
                    message,
                    token: Some(token),
                    ..
                }) if token.kind == TokenKind::Junk => {
                    faults.push((body.len(), message));
                    token
                }
                token => token?.ok_or_else(incomplete)?,
            };
            if token.is_op("%(") {
                depth += 1;
            } else if token.is_op("%)") {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            body.push(token);
        }
        Ok((body, faults))
    }

    /// The next token of a definition's head.
    fn definition_token(&mut self, expected: &str) -> Result<Token, ParseError> {
        let token = self.lexer.next_token()?;
        token.ok_or_else(|| ParseError::saw(expected))
    }

    /// The arguments behind an invocation.
    fn arguments(
        &mut self,
        invocation: &Token,
        definition: &Macro,
        scope: Option<Arc<Scope>>,
    ) -> Result<HashMap<Arc<str>, Argument>, ParseError> {
        let mut arguments = HashMap::new();
        let wanted = definition.params.len();
        if wanted == 0 {
            return Ok(arguments);
        }
        let name = &invocation.text;
        let plural = if wanted == 1 { "" } else { "s" };
        let opener = format!(
            "expected '(' in invocation of macro '{name}' taking {wanted} parameter{plural}"
        );
        match self.raw()? {
            Some(token) if token.is_op("(") => {}
            Some(token) => return Err(ParseError::at(opener, token)),
            None => return Err(ParseError::at(opener, invocation.clone())),
        }
        let mut given = 0;
        let mut tokens = Vec::new();
        let mut depth = 0usize;
        loop {
            let Some(token) = self.raw()? else {
                return Err(ParseError::at(
                    "could not find end of macro invocation",
                    invocation.clone(),
                ));
            };
            let closes = depth == 0 && token.is_op(")");
            if closes || depth == 0 && token.is_op(",") {
                let argument = Argument {
                    tokens: std::mem::take(&mut tokens).into(),
                    scope: scope.clone(),
                };
                if let Some(param) = definition.params.get(given) {
                    arguments.insert(param.clone(), argument);
                }
                given += 1;
                if closes && given < wanted {
                    let message =
                        format!("too few parameters for macro '{name}' (expected {wanted})");
                    return Err(ParseError::at(message, token));
                }
                if !closes && given >= wanted {
                    let message =
                        format!("too many parameters for macro '{name}' (expected {wanted})");
                    return Err(ParseError::at(message, token));
                }
                if closes {
                    return Ok(arguments);
                }
                continue;
            }
            if token.kind == TokenKind::Operator {
                match &*token.text {
                    "(" | "[" => depth += 1,
                    ")" | "]" => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            tokens.push(token);
        }
    }
}
