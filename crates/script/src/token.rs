//! Tokens: what the lexer hands to the preprocessor, and that to the parser.

use std::sync::Arc;

use crate::span::Span;

/// The classes of token, named as stap names them in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Text that is no token.
    Junk,
    /// A name, `$name` included.
    Identifier,
    /// Punctuation, and `@word`.
    Operator,
    /// A string literal.
    String,
    /// A number, not yet converted.
    Number,
    /// A reserved word.
    Keyword,
    /// `%{ … %}`.
    Embedded,
}

impl TokenKind {
    /// The word by which stap's messages call it.
    pub fn word(self) -> &'static str {
        match self {
            TokenKind::Junk => "junk",
            TokenKind::Identifier => "identifier",
            TokenKind::Operator => "operator",
            TokenKind::String => "string",
            TokenKind::Number => "number",
            TokenKind::Keyword => "keyword",
            TokenKind::Embedded => "embedded-code",
        }
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Its spelling; a string's without the quotes and with C's escapes kept, embedded code without its marks.
    pub text: Arc<str>,
    /// Where it stands; for pasted command-line arguments the place of the `$1`.
    pub span: Span,
    /// The macro invocation that produced it.
    pub expansion: Option<Arc<Token>>,
}

impl Token {
    /// True for this operator.
    pub fn is_op(&self, op: &str) -> bool {
        self.kind == TokenKind::Operator && &*self.text == op
    }

    /// True for this keyword.
    pub fn is_keyword(&self, word: &str) -> bool {
        self.kind == TokenKind::Keyword && &*self.text == word
    }
}

/// The reserved words (stap(1); all may stand as probe-point components and after `->`).
pub const KEYWORDS: &[&str] = &[
    "probe", "global", "private", "function", "if", "else", "for", "foreach", "in", "limit",
    "return", "delete", "while", "break", "continue", "next", "string", "long", "try", "catch",
];

/// The `@words` that are operators of the language (language reference §§ 3, 6, 7, 9).
pub const AT_WORDS: &[&str] = &[
    "@define",
    "@cast",
    "@defined",
    "@probewrite",
    "@entry",
    "@perf",
    "@var",
    "@avg",
    "@count",
    "@sum",
    "@min",
    "@max",
    "@variance",
    "@hist_linear",
    "@hist_log",
    "@const",
    "@kregister",
    "@uregister",
    "@kderef",
    "@uderef",
    "@enum",
    "@enumname",
];

/// Turns the escapes that a string token keeps into the bytes they stand for, as C does: `\a \b \t \n \v \f \r \\ \"`,
/// up to three octal digits, `\x` with up to two hexadecimal digits.
pub fn decode_escapes(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some(&escape) = bytes.get(at) else {
            out.push(b'\\');
            break;
        };
        at += 1;
        match escape {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b't' => out.push(9),
            b'n' => out.push(10),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'r' => out.push(13),
            b'0'..=b'7' => {
                let mut value = u32::from(escape - b'0');
                for _ in 0..2 {
                    match bytes.get(at) {
                        Some(&digit @ b'0'..=b'7') => value = value * 8 + u32::from(digit - b'0'),
                        _ => break,
                    }
                    at += 1;
                }
                out.push(value as u8);
            }
            b'x' => {
                let digits = bytes[at..]
                    .iter()
                    .take(2)
                    .take_while(|b| b.is_ascii_hexdigit())
                    .count();
                match u8::from_str_radix(&text[at..at + digits], 16) {
                    Ok(value) => out.push(value),
                    Err(_) => out.push(b'x'),
                }
                at += digits;
            }
            other => out.push(other),
        }
    }
    out
}

/// Writes bytes as the inside of a string literal, escapes and all, as `stap -p1` shows strings.
pub fn encode_escapes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                '\x0b' => out.push_str("\\v"),
                '\x0c' => out.push_str("\\f"),
                '\r' => out.push_str("\\r"),
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                c if (c as u32) < 32 || c as u32 == 127 => {
                    out.push_str(&format!("\\{:03o}", c as u32))
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\{byte:03o}"));
        }
    }
    out
}

/// A number's value: decimal, `0x` hexadecimal or `0` octal, from the least signed to the greatest unsigned 64-bit
/// value (the latter wraps). `None` when it is none of these.
pub fn number_value(text: &str, negative: bool) -> Option<i64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(value as i64),
        true if value <= 1 << 63 => Some((value as i64).wrapping_neg()),
        true => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_c() {
        assert_eq!(
            decode_escapes(r"\a\b\t\n\v\f\r\\\101\x41\0"),
            b"\x07\x08\t\n\x0b\x0c\r\\AA\0"
        );
        assert_eq!(
            encode_escapes(b"a\"\n\x01\xff\xc3\xa9"),
            "a\\\"\\n\\001\\377\u{e9}"
        );
    }

    #[test]
    fn numbers_wrap_as_in_stap() {
        assert_eq!(number_value("010", false), Some(8));
        assert_eq!(number_value("0x10", false), Some(16));
        assert_eq!(number_value("0", false), Some(0));
        assert_eq!(number_value("18446744073709551615", false), Some(-1));
        assert_eq!(number_value("18446744073709551616", false), None);
        assert_eq!(number_value("9223372036854775808", true), Some(i64::MIN));
        assert_eq!(number_value("9223372036854775809", true), None);
        assert_eq!(number_value("12ab", false), None);
        assert_eq!(number_value("0x", false), None);
        assert_eq!(number_value("08", false), None);
    }
}
