//! From text to tokens: comments, literals, `$1`/`@1` from the command line, embedded code.

use std::sync::Arc;

use crate::diagnostic::ParseError;
use crate::preprocess::{Environment, version_order};
use crate::span::{FileId, SourceFile, Span};
use crate::token::{KEYWORDS, Token, TokenKind};

/// Operators of more than one character, longest first.
const OPERATORS: &[&str] = &[
    "<<<", ">>>", "<<=", ">>=", "==", "!=", "<=", ">=", "=~", "!~", "+=", "-=", "*=", "/=", "%=",
    "&=", "^=", "|=", ".=", "&&", "||", "++", "--", "->", "<<", ">>", "%(", "%?", "%:", "%)",
];

/// What older versions of the language (`--compatible`) read otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Dialect {
    /// `private` is a keyword: since 3.0.
    private: bool,
    /// `\xHH` in strings: since 2.3.
    hexadecimal: bool,
    /// What follows the `:` of a choice binds tighter than assignments: since 4.0.
    pub(crate) tight_choice: bool,
}

impl Dialect {
    /// The newest.
    const CURRENT: Dialect = Dialect {
        private: true,
        hexadecimal: true,
        tight_choice: true,
    };

    /// That of a script.
    pub(crate) fn of_version(version: &str) -> Dialect {
        let since = |first| version_order(version, first).is_ge();
        Dialect {
            private: since("3.0"),
            hexadecimal: since("2.3"),
            tight_choice: since("4.0"),
        }
    }

    /// That of a text: the library is written in the newest.
    pub(crate) fn of(source: &SourceFile, environment: &Environment) -> Dialect {
        match source.is_tapset {
            true => Dialect::CURRENT,
            false => Dialect::of_version(&environment.systemtap_version),
        }
    }
}

/// A command-line argument being read as text.
struct Paste {
    text: Vec<u8>,
    at: usize,
    place: Span,
}

/// Reads tokens one by one.
pub(crate) struct Lexer<'a> {
    file: FileId,
    text: Arc<str>,
    at: usize,
    args: &'a [String],
    used: Vec<bool>,
    paste: Option<Paste>,
    dialect: Dialect,
}

impl<'a> Lexer<'a> {
    /// A lexer over a text, with the arguments that `$1` and `@1` stand for.
    pub(crate) fn new(file: FileId, text: Arc<str>, args: &'a [String]) -> Self {
        Lexer {
            file,
            text,
            at: 0,
            args,
            used: vec![false; args.len()],
            paste: None,
            dialect: Dialect::CURRENT,
        }
    }

    /// The same, of another version of the language.
    pub(crate) fn speaking(self, dialect: Dialect) -> Self {
        Lexer { dialect, ..self }
    }

    /// Which arguments the text has used so far.
    pub(crate) fn used_args(&self) -> &[bool] {
        &self.used
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        let mut ahead = ahead;
        if let Some(paste) = &self.paste {
            let left = paste.text.len() - paste.at;
            if ahead < left {
                return paste.text.get(paste.at + ahead).copied();
            }
            ahead -= left;
        }
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<u8> {
        if let Some(paste) = &mut self.paste {
            if let Some(&byte) = paste.text.get(paste.at) {
                paste.at += 1;
                return Some(byte);
            }
            self.paste = None;
        }
        let byte = self.text.as_bytes().get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn starts_with(&self, word: &str) -> bool {
        word.bytes()
            .enumerate()
            .all(|(i, b)| self.peek(i) == Some(b))
    }

    fn skip(&mut self, bytes: usize) {
        for _ in 0..bytes {
            self.bump();
        }
    }

    /// Drops an exhausted paste, so that what follows has its own place.
    fn settle(&mut self) {
        if self.paste.as_ref().is_some_and(|p| p.at >= p.text.len()) {
            self.paste = None;
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.settle();
            match self.peek(0) {
                Some(b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c) => {
                    self.bump();
                }
                Some(b'#') => self.skip_line(),
                Some(b'/') if self.peek(1) == Some(b'/') => self.skip_line(),
                Some(b'/') if self.peek(1) == Some(b'*') => {
                    self.skip(2);
                    while self.peek(0).is_some() && !self.starts_with("*/") {
                        self.bump();
                    }
                    self.skip(2);
                }
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while let Some(byte) = self.bump() {
            if byte == b'\n' {
                return;
            }
        }
    }

    /// Where the next character stands, as the start of a token.
    fn mark(&self) -> (usize, Option<Span>) {
        (self.at, self.paste.as_ref().map(|p| p.place))
    }

    fn span(&self, mark: (usize, Option<Span>)) -> Span {
        match mark.1 {
            Some(place) => place,
            None => Span {
                file: self.file,
                start: mark.0 as u32,
                end: self.at as u32,
            },
        }
    }

    fn token(
        &self,
        kind: TokenKind,
        text: impl Into<Arc<str>>,
        mark: (usize, Option<Span>),
    ) -> Token {
        Token {
            kind,
            text: text.into(),
            span: self.span(mark),
            expansion: None,
        }
    }

    fn junk(&self, message: &str, mark: (usize, Option<Span>)) -> ParseError {
        ParseError::at(message, self.token(TokenKind::Junk, "", mark))
    }

    fn take_while(&mut self, keep: impl Fn(u8) -> bool) -> String {
        let mut out = String::new();
        while let Some(byte) = self.peek(0).filter(|&b| keep(b)) {
            out.push(byte as char);
            self.bump();
        }
        out
    }

    /// The next token, `None` at the end of the text. After an error the lexer stands behind what caused it.
    pub(crate) fn next_token(&mut self) -> Result<Option<Token>, ParseError> {
        loop {
            self.skip_blanks();
            let mark = self.mark();
            let Some(first) = self.peek(0) else {
                return Ok(None);
            };
            let second = self.peek(1);
            match first {
                b'$' | b'@' if second == Some(b'#') => {
                    self.skip(2);
                    let count = self.args.len().to_string();
                    let kind = match first {
                        b'$' => TokenKind::Number,
                        _ => TokenKind::String,
                    };
                    return Ok(Some(self.token(kind, count, mark)));
                }
                b'$' | b'@' if second.is_some_and(|b| b.is_ascii_digit()) => {
                    if let Some(token) = self.argument(first == b'@', mark)? {
                        return Ok(Some(token));
                    }
                }
                b'@' => {
                    self.bump();
                    let word = self.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
                    return Ok(Some(self.token(
                        TokenKind::Operator,
                        format!("@{word}"),
                        mark,
                    )));
                }
                b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'$' => {
                    let word =
                        self.take_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$');
                    let known = word != "private" || self.dialect.private;
                    let kind = match known && KEYWORDS.contains(&word.as_str()) {
                        true => TokenKind::Keyword,
                        false => TokenKind::Identifier,
                    };
                    return Ok(Some(self.token(kind, word, mark)));
                }
                b'0'..=b'9' => {
                    let digits = self.take_while(|b| b.is_ascii_alphanumeric());
                    return Ok(Some(self.token(TokenKind::Number, digits, mark)));
                }
                b'"' => return self.string(mark).map(Some),
                b'%' if second == Some(b'{') => return self.embedded(mark).map(Some),
                _ => return Ok(Some(self.operator(mark))),
            }
        }
    }

    /// `$N` or `@N`: a string token for the latter, nothing for the former, whose text is read next.
    fn argument(
        &mut self,
        quoted: bool,
        mark: (usize, Option<Span>),
    ) -> Result<Option<Token>, ParseError> {
        self.bump();
        let digits = self.take_while(|b| b.is_ascii_digit());
        if mark.1.is_some() {
            self.paste = None;
            return Err(self.junk(
                "invalid nested substitution of command line arguments",
                mark,
            ));
        }
        let index = digits.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let Some((index, arg)) = index.and_then(|i| Some((i, self.args.get(i)?))) else {
            let message = format!("command line argument out of range [1-{}]", self.args.len());
            return Err(self.junk(&message, mark));
        };
        self.used[index] = true;
        if quoted {
            let text = arg.replace('\\', "\\\\").replace('\n', "\\n");
            return Ok(Some(self.token(TokenKind::String, text, mark)));
        }
        self.paste = Some(Paste {
            text: arg.clone().into_bytes(),
            at: 0,
            place: self.span(mark),
        });
        Ok(None)
    }

    fn string(&mut self, mark: (usize, Option<Span>)) -> Result<Token, ParseError> {
        const UNCLOSED: &str = "Could not find matching closing quote";
        self.bump();
        let mut text = Vec::new();
        loop {
            match self.bump() {
                None | Some(b'\n') => return Err(self.junk(UNCLOSED, mark)),
                Some(b'"') => break,
                Some(b'\\') => match self.bump() {
                    Some(b'x') if !self.dialect.hexadecimal => text.push(b'x'),
                    None => return Err(self.junk(UNCLOSED, mark)),
                    Some(
                        byte @ (b'a'
                        | b'b'
                        | b't'
                        | b'n'
                        | b'v'
                        | b'f'
                        | b'r'
                        | b'\\'
                        | b'0'..=b'7'
                        | b'x'),
                    ) => text.extend([b'\\', byte]),
                    Some(byte) => text.push(byte),
                },
                Some(byte) => text.push(byte),
            }
        }
        Ok(self.token(TokenKind::String, String::from_utf8_lossy(&text), mark))
    }

    fn embedded(&mut self, mark: (usize, Option<Span>)) -> Result<Token, ParseError> {
        self.skip(2);
        let mut code = Vec::new();
        while !self.starts_with("%}") {
            match self.bump() {
                Some(byte) => code.push(byte),
                None => {
                    let message = "Could not find matching '%}' to close embedded function block";
                    return Err(self.junk(message, mark));
                }
            }
        }
        self.skip(2);
        Ok(self.token(TokenKind::Embedded, String::from_utf8_lossy(&code), mark))
    }

    /// Punctuation; anything else is junk, byte by byte.
    fn operator(&mut self, mark: (usize, Option<Span>)) -> Token {
        if let Some(op) = OPERATORS.iter().find(|op| self.starts_with(op)) {
            self.skip(op.len());
            return self.token(TokenKind::Operator, *op, mark);
        }
        match self.bump() {
            Some(byte) if byte.is_ascii_punctuation() => {
                self.token(TokenKind::Operator, (byte as char).to_string(), mark)
            }
            byte => {
                let text: String = byte.iter().map(|b| format!("\\x{b:02x}")).collect();
                self.token(TokenKind::Junk, text, mark)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lex(text: &str, args: &[&str]) -> Vec<String> {
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        let mut lexer = Lexer::new(FileId(0), text.into(), &args);
        let mut out = Vec::new();
        loop {
            match lexer.next_token() {
                Ok(Some(t)) => out.push(format!("{} {}", t.kind.word(), t.text)),
                Ok(None) => return out,
                Err(e) => out.push(e.message.clone()),
            }
        }
    }

    #[test]
    fn three_character_operators_win() {
        assert_eq!(
            lex("a<<<=b>>>c", &[]).join(" "),
            "identifier a operator <<< operator = identifier b operator >>> identifier c"
        );
    }

    #[test]
    fn arguments_are_pasted_as_text_and_quoted_as_strings() {
        assert_eq!(
            lex("$1+@1 $# @#", &["2*3"]).join(" "),
            "number 2 operator * number 3 operator + string 2*3 number 1 string 1"
        );
        assert_eq!(
            lex("$1", &["$1"]),
            ["invalid nested substitution of command line arguments"]
        );
        assert_eq!(
            lex("@2", &["a"]),
            ["command line argument out of range [1-1]"]
        );
        assert_eq!(lex("$1ab", &["3"]), ["number 3ab"]);
    }

    #[test]
    fn comments_of_three_kinds_vanish() {
        assert_eq!(
            lex("a # b\n// c\n/* d\n * e */ f", &[]),
            ["identifier a", "identifier f"]
        );
    }
}
