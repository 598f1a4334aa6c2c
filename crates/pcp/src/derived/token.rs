//! Lexical elements of expressions (pmRegisterDerived(3)).

use super::expression::{Function, Operator};

#[derive(Clone, PartialEq, Debug)]
pub enum Token {
    Integer(String),
    Double(String),
    Name(String),
    Operator(Operator),
    Not,
    Open,
    Close,
    Question,
    Colon,
    Comma,
    Assign,
    Text(String),
    Bracket(String),
    Pattern(String),
    End,
}

impl Token {
    /// Its kind and text as traces show them; functions are told from metrics by the parenthesis behind them.
    pub fn shown(&self, call: bool) -> (String, &str) {
        let (kind, text) = match self {
            Token::Integer(text) => ("INTEGER", text.as_str()),
            Token::Double(text) => ("DOUBLE", text.as_str()),
            Token::Name(name) if TAGS.contains(&name.as_str()) => {
                return (name.to_ascii_uppercase(), name);
            }
            Token::Name(name) if call && name == "matchinst" => ("FILTERINST", name.as_str()),
            Token::Name(name) if call => {
                let known = Function::ALL.iter().any(|(n, _)| n == name);
                if known || OTHER_FUNCTIONS.contains(&name.as_str()) {
                    return (name.to_ascii_uppercase(), name);
                }
                ("NAME", name.as_str())
            }
            Token::Name(name) => ("NAME", name.as_str()),
            Token::Operator(operator) => (operator.word(), operator.symbol()),
            Token::Not => ("NOT", "!"),
            Token::Open => ("LPAREN", "("),
            Token::Close => ("RPAREN", ")"),
            Token::Question => ("QUEST", "?"),
            Token::Colon => ("COLON", ":"),
            Token::Comma => ("COMMA", ","),
            Token::Assign => ("ASSIGN", "="),
            Token::Text(text) => ("STRING", text.as_str()),
            Token::Bracket(text) => ("INSTNAME", text.as_str()),
            Token::Pattern(text) => ("PATTERN", text.as_str()),
            Token::End => ("EOS", ""),
        };
        (kind.to_owned(), text)
    }
}

/// The names of functions that take something else than one expression.
pub const OTHER_FUNCTIONS: [&str; 5] = ["anon", "defined", "matchinst", "mkconst", "rescale"];
/// What a constant can be given beside its value.
pub const TAGS: [&str; 3] = ["type", "semantics", "units"];

/// The number that a text begins with: digits with at most one point, and an exponent.
pub fn number(text: &str) -> &str {
    let mut point = false;
    let end = text
        .find(|c: char| match c {
            '.' => std::mem::replace(&mut point, true),
            c => !c.is_ascii_digit(),
        })
        .unwrap_or(text.len());
    let after = text.get(end..).unwrap_or("");
    let exponent = after.strip_prefix(['e', 'E']).unwrap_or("");
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let behind = exponent.trim_start_matches(|c: char| c.is_ascii_digit());
    let end = if behind.len() < exponent.len() {
        text.len() - behind.len()
    } else {
        end
    };
    text.get(..end).unwrap_or(text)
}
