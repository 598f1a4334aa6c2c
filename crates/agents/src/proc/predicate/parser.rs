//! From a predicate's words to its tree.

use regex::Regex;

use super::{DEPTH, Node, Operand, PARTS, Predicate, PredicateError, VARIABLES};

impl Predicate {
    /// Reads the text of a configuration: a line `Version 1.0` if there is one, and the predicate, over several lines. Nothing but
    /// blanks and comments is no predicate.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Predicate>, PredicateError> {
        let mut parser = Parser {
            tokens: tokens(text)?,
            at: 0,
            depth: 0,
            parts: 0,
        };
        let mut is_versioned = false;
        if let Some(Token::Word("Version")) = parser.peek() {
            let line = parser.line();
            parser.at += 1;
            let version = match parser.next() {
                Some(Token::Number(1.0, _)) => "",
                Some(Token::Number(_, text)) => text,
                _ => return Err(parser.unexpected_at(1, "a number")),
            };
            if !version.is_empty() {
                let version = version.to_owned();
                return Err(PredicateError::Version { line, version });
            }
            is_versioned = true;
        }
        if parser.peek().is_none() && !is_versioned {
            return Ok(None);
        }
        let node = parser.either()?;
        if parser.peek().is_some() {
            return Err(parser.unexpected_at(0, "\"&&\", \"||\" or the end"));
        }
        Ok(Some(Predicate(node)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Number(f64, &'a str),
    Text(&'a str),
    Pattern(&'a str),
    Symbol(&'static str),
}

impl Token<'_> {
    fn text(&self) -> String {
        match self {
            Token::Word(text) | Token::Number(_, text) => (*text).to_owned(),
            Token::Text(text) => format!("\"{text}\""),
            Token::Pattern(text) => format!("/{text}/"),
            Token::Symbol(text) => (*text).to_owned(),
        }
    }
}

/// Longer ones ahead of those that they begin with.
const SYMBOLS: [&str; 13] = [
    "&&", "||", "<=", ">=", "==", "!=", "!~", "<", ">", "~", "!", "(", ")",
];

fn tokens(text: &str) -> Result<Vec<(usize, Token<'_>)>, PredicateError> {
    let mut found = Vec::new();
    for (line, mut rest) in (1..).zip(text.lines()) {
        loop {
            rest = rest.trim_start();
            let Some(first) = rest.chars().next().filter(|c| *c != '#') else {
                break;
            };
            let length_of =
                |is_part: fn(char) -> bool| rest.find(|c: char| !is_part(c)).unwrap_or(rest.len());
            let (token, length) = if first.is_ascii_alphabetic() {
                let length = length_of(|c| c.is_ascii_alphanumeric() || c == '_');
                (Token::Word(rest.get(..length).unwrap_or_default()), length)
            } else if first.is_ascii_digit() || first == '.' {
                let length = length_of(|c| c.is_ascii_alphanumeric() || c == '.');
                let text = rest.get(..length).unwrap_or_default();
                let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                let number = text
                    .parse()
                    .ok()
                    .filter(|n: &f64| is_plain && n.is_finite());
                let number = number.ok_or_else(|| PredicateError::Unexpected {
                    line,
                    due: "a number",
                    found: text.to_owned(),
                })?;
                (Token::Number(number, text), length)
            } else if let '"' | '/' = first {
                let inside = rest.get(1..).unwrap_or_default();
                let end = inside.find(first);
                let end = end.ok_or(PredicateError::Open { line, quote: first })?;
                let inside = inside.get(..end).unwrap_or_default();
                let token = match first {
                    '"' => Token::Text(inside),
                    _ => Token::Pattern(inside),
                };
                (token, end + 2)
            } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                (Token::Symbol(symbol), symbol.len())
            } else {
                return Err(PredicateError::Unexpected {
                    line,
                    due: "a word, number, text or operator",
                    found: first.to_string(),
                });
            };
            found.push((line, token));
            rest = rest.get(length..).unwrap_or_default();
        }
    }
    Ok(found)
}

struct Parser<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    depth: usize,
    parts: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(_, token)| *token)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    /// The line of the next token, or of the last when there is no more.
    fn line(&self) -> usize {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(1, |(line, _)| *line)
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Symbol(s)) if s == symbol);
        self.at += usize::from(is_next);
        is_next
    }

    /// Something else was due than the token `back` before the next.
    fn unexpected_at(&self, back: usize, due: &'static str) -> PredicateError {
        let token = self.tokens.get(self.at.saturating_sub(back));
        let (line, found) = match token {
            Some((line, token)) => (*line, token.text()),
            None => (self.line(), String::new()),
        };
        PredicateError::Unexpected { line, due, found }
    }

    fn either(&mut self) -> Result<Node, PredicateError> {
        let mut node = self.both()?;
        while self.takes("||") {
            node = Node::Or(Box::new(node), Box::new(self.both()?));
        }
        Ok(node)
    }

    fn both(&mut self) -> Result<Node, PredicateError> {
        let mut node = self.single()?;
        while self.takes("&&") {
            node = Node::And(Box::new(node), Box::new(self.single()?));
        }
        Ok(node)
    }

    fn single(&mut self) -> Result<Node, PredicateError> {
        if self.depth == DEPTH {
            return Err(PredicateError::Deep { line: self.line() });
        }
        if self.parts == PARTS {
            return Err(PredicateError::Long { line: self.line() });
        }
        self.parts += 1;
        self.depth += 1;
        let node = if self.takes("!") {
            Node::Not(Box::new(self.single()?))
        } else if self.takes("(") {
            let inner = self.either()?;
            if !self.takes(")") {
                return Err(self.unexpected_at(0, "\")\""));
            }
            inner
        } else {
            match self.peek() {
                Some(Token::Word(word @ ("true" | "false"))) => {
                    self.at += 1;
                    Node::Constant(word == "true")
                }
                _ => self.comparison()?,
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, PredicateError> {
        let left = self.operand()?;
        let line = self.line();
        let operator = match self.next() {
            Some(Token::Symbol(symbol @ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"))) => {
                symbol
            }
            _ => return Err(self.unexpected_at(1, "a comparison")),
        };
        let right = self.operand()?;
        let fits = match (left.kind(), operator, right.kind()) {
            ("a text", "~" | "!~", "a pattern") | ("a text", "==" | "!=", "a text") => true,
            ("a number", "~" | "!~", _) => false,
            ("a number", _, "a number") => true,
            _ => false,
        };
        if !fits {
            let (left, right) = (left.kind(), right.kind());
            return Err(PredicateError::Kinds {
                line,
                operator,
                left,
                right,
            });
        }
        Ok(Node::Compare(left, operator, right))
    }

    fn operand(&mut self) -> Result<Operand, PredicateError> {
        let line = self.line();
        Ok(match self.next() {
            Some(Token::Number(number, _)) => Operand::Number(number),
            Some(Token::Text(text)) => Operand::Text(text.to_owned()),
            Some(Token::Pattern(pattern)) => {
                Operand::Pattern(Regex::new(pattern).map_err(|error| {
                    // The last line of several is the cause, the others point at the place.
                    let cause = error.to_string();
                    let cause = cause.lines().last().unwrap_or_default();
                    PredicateError::Pattern {
                        line,
                        pattern: pattern.to_owned(),
                        cause: cause.trim_start_matches("error: ").to_owned(),
                    }
                })?)
            }
            Some(Token::Word(word)) => {
                let known = VARIABLES.iter().find(|(name, _)| *name == word);
                let (_, variable) = known.ok_or_else(|| PredicateError::Unknown {
                    line,
                    word: word.to_owned(),
                })?;
                Operand::Variable(*variable)
            }
            _ => return Err(self.unexpected_at(1, "a variable, number, text or pattern")),
        })
    }
}
