//! Conditional text, `%( condition %? text %: other text %)`, decided from the environment that scripts are told of.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, ParseError};
use crate::macros::{Expander, Macro};
use crate::token::{Token, TokenKind, decode_escapes, number_value};

/// What conditions are decided from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `systemtap_v`: the version of the language.
    pub systemtap_version: String,
    /// `kernel_vr`, as `uname -r` gives it; `kernel_v` is the part before the first `-`.
    pub kernel_release: String,
    /// `arch`, as stap names it.
    pub arch: String,
    /// `runtime`.
    pub runtime: String,
    /// `systemtap_privilege`: `stapusr`, `stapsys` or `stapdev`.
    pub privilege: String,
    /// `guru_mode`.
    pub guru_mode: bool,
    /// `CONFIG_…` of the kernel, by full name.
    pub configs: HashMap<String, String>,
}

impl Default for Environment {
    fn default() -> Self {
        Environment {
            // The newest whose language is here: a script that asks for it may use `@enum` (5.5) and `@enumname`.
            systemtap_version: "5.6".to_string(),
            kernel_release: "6.1.0".to_string(),
            arch: "x86_64".to_string(),
            runtime: "dyninst".to_string(),
            privilege: "stapusr".to_string(),
            guru_mode: false,
            configs: HashMap::new(),
        }
    }
}

/// Reads tokens with macros expanded and conditionals decided.
pub(crate) struct Preprocessor<'a> {
    tokens: Expander<'a>,
    environment: &'a Environment,
    /// Conditionals being read: the opening mark, and whether `%:` was seen.
    open: Vec<(Token, bool)>,
}

const PREDICATES: &str = "expected 'arch', 'kernel_v', 'kernel_vr', 'systemtap_v',
             'runtime', 'systemtap_privilege', 'CONFIG_...', or
             comparison between strings or integers";

impl<'a> Preprocessor<'a> {
    pub(crate) fn new(tokens: Expander<'a>, environment: &'a Environment) -> Self {
        Preprocessor {
            tokens,
            environment,
            open: Vec::new(),
        }
    }

    pub(crate) fn used_args(&self) -> &[bool] {
        self.tokens.used_args()
    }

    pub(crate) fn take_warnings(&mut self) -> Vec<Diagnostic> {
        self.tokens.take_warnings()
    }

    pub(crate) fn into_macros(self) -> HashMap<Arc<str>, Macro> {
        self.tokens.into_macros()
    }

    /// The next token that the parser is to see.
    pub(crate) fn next_token(&mut self) -> Result<Option<Token>, ParseError> {
        loop {
            let Some(token) = self.tokens.next_token(false)? else {
                return match self.open.pop() {
                    Some((opener, _)) => {
                        self.open.clear();
                        Err(ParseError::at(
                            "incomplete conditional at end of file",
                            opener,
                        ))
                    }
                    None => Ok(None),
                };
            };
            if token.kind != TokenKind::Operator {
                return Ok(Some(token));
            }
            match &*token.text {
                "%(" => self.open_conditional(token)?,
                "%?" => {
                    return Err(ParseError::at(
                        "incomplete conditional - missing '%('",
                        token,
                    ));
                }
                "%:" => match self.open.last() {
                    None => {
                        return Err(ParseError::at(
                            "incomplete conditional - missing '%('",
                            token,
                        ));
                    }
                    Some((_, true)) => {
                        return Err(ParseError::at(
                            "invalid conditional - duplicate '%:'",
                            token,
                        ));
                    }
                    Some((opener, false)) => {
                        let opener = opener.clone();
                        self.open.pop();
                        if let Err(error) = self.skip(&opener, true) {
                            if error.message.starts_with("invalid") {
                                self.open.push((opener, true));
                            }
                            return Err(error);
                        }
                    }
                },
                "%)" => {
                    if self.open.pop().is_none() {
                        return Err(ParseError::at(
                            "incomplete conditional - missing '%('",
                            token,
                        ));
                    }
                }
                _ => return Ok(Some(token)),
            }
        }
    }

    fn open_conditional(&mut self, opener: Token) -> Result<(), ParseError> {
        let (holds, mark) = self.alternatives(&opener)?;
        if !mark.is_some_and(|m| m.is_op("%?")) {
            return Err(ParseError::at(
                "expected '%?' marker for conditional",
                opener,
            ));
        }
        match holds {
            true => self.open.push((opener, false)),
            false => {
                if self.skip(&opener, false)? {
                    self.open.push((opener, true));
                }
            }
        }
        Ok(())
    }

    /// Skips to the end of a branch; true when that is a `%:`. `other` says that `%:` was there already.
    fn skip(&mut self, opener: &Token, other: bool) -> Result<bool, ParseError> {
        let mut inner: Vec<bool> = Vec::new();
        loop {
            let token = match self.tokens.next_token(true) {
                // What is no token does no harm where it is not read, such as `@2` without a second argument.
                Err(error) if error.is_junk() => continue,
                other => other?,
            };
            let Some(token) = token else {
                self.open.clear();
                return Err(ParseError::at(
                    "incomplete conditional at end of file",
                    opener.clone(),
                ));
            };
            if token.is_op("%(") {
                inner.push(false);
            } else if token.is_op("%)") {
                if inner.pop().is_none() {
                    return Ok(false);
                }
            } else if token.is_op("%:") {
                match inner.last_mut() {
                    Some(seen @ false) => *seen = true,
                    None if !other => return Ok(true),
                    _ => {
                        return Err(ParseError::at(
                            "invalid conditional - duplicate '%:'",
                            token,
                        ));
                    }
                }
            }
        }
    }

    /// `a && b || c`; also returns the token behind it. Every comparison is read, whatever the ones before it gave.
    fn alternatives(&mut self, opener: &Token) -> Result<(bool, Option<Token>), ParseError> {
        let mut any = false;
        loop {
            let mut all = true;
            let mut next;
            loop {
                all &= self.comparison(opener)?;
                next = self.tokens.next_token(false)?;
                if !next.as_ref().is_some_and(|t| t.is_op("&&")) {
                    break;
                }
            }
            any |= all;
            if !next.as_ref().is_some_and(|t| t.is_op("||")) {
                return Ok((any, next));
            }
        }
    }

    fn comparison(&mut self, opener: &Token) -> Result<bool, ParseError> {
        let mut operand = || -> Result<Token, ParseError> {
            let token = self.tokens.next_token(false)?;
            token.ok_or_else(|| ParseError::at("incomplete condition after '%('", opener.clone()))
        };
        let left = operand()?;
        let op = operand()?;
        let right = operand()?;
        let environment = self.environment;
        if left.kind == TokenKind::Identifier {
            match &*left.text {
                "kernel_v" | "kernel_vr" | "systemtap_v" => {
                    let release = environment.kernel_release.as_str();
                    let ours = match &*left.text {
                        "kernel_v" => release.split('-').next().unwrap_or(release),
                        "kernel_vr" => release,
                        _ => &environment.systemtap_version,
                    };
                    let theirs = string_operand(&right)?;
                    return match &*op.text {
                        "==" => Ok(glob(theirs.as_bytes(), ours.as_bytes())),
                        "!=" => Ok(!glob(theirs.as_bytes(), ours.as_bytes())),
                        "<" | "<=" | ">" | ">=" if theirs.contains(['*', '?', '[']) => {
                            Err(ParseError::at(
                                "wildcard not allowed with order comparison operators",
                                op,
                            ))
                        }
                        _ => ordered(&op, version_order(ours, &theirs)),
                    };
                }
                "arch" => return equality(&op, &right, &environment.arch),
                "runtime" => return equality(&op, &right, &environment.runtime),
                // The only comparison for equality that knows no wildcards.
                "systemtap_privilege" => {
                    let theirs = string_operand(&right)?;
                    return match &*op.text {
                        "==" => Ok(theirs == environment.privilege),
                        "!=" => Ok(theirs != environment.privilege),
                        _ => Err(ParseError::at("expected '==' or '!='", op)),
                    };
                }
                "guru_mode" => {
                    if right.kind != TokenKind::Number {
                        return Err(ParseError::at("expected number", right));
                    }
                    let mode = number(&right)?;
                    if !(0..=1).contains(&mode) {
                        return Err(ParseError::at("expected 0 or 1", op));
                    }
                    let same = mode == i64::from(environment.guru_mode);
                    return match &*op.text {
                        "==" => Ok(same),
                        "!=" => Ok(!same),
                        _ => Err(ParseError::at("expected '==' or '!='", op)),
                    };
                }
                name if name.starts_with("CONFIG_") => {
                    return self.config(&left, name, &op, &right);
                }
                _ => {}
            }
        }
        match (left.kind, right.kind) {
            (TokenKind::String, TokenKind::String) => ordered(
                &op,
                decode_escapes(&left.text).cmp(&decode_escapes(&right.text)),
            ),
            (TokenKind::Number, TokenKind::Number) => {
                ordered(&op, number(&left)?.cmp(&number(&right)?))
            }
            (TokenKind::String, TokenKind::Number | TokenKind::Identifier) => Err(ParseError::at(
                "expected string literal as right value",
                right,
            )),
            (TokenKind::Number, TokenKind::String | TokenKind::Identifier)
                if right.kind == TokenKind::String =>
            {
                Err(ParseError::at(
                    "expected number literal as right value",
                    right,
                ))
            }
            _ => Err(ParseError::at(PREDICATES, left)),
        }
    }

    fn config(
        &self,
        left: &Token,
        name: &str,
        op: &Token,
        right: &Token,
    ) -> Result<bool, ParseError> {
        let value = |name: &str| {
            self.environment
                .configs
                .get(name)
                .map_or("", String::as_str)
        };
        let ours = value(name);
        match right.kind {
            TokenKind::String => equality(op, right, ours),
            TokenKind::Number => {
                let ours = match ours {
                    "" => 0,
                    value => value.parse().map_err(|_| {
                        ParseError::at("Config option value not a number", left.clone())
                    })?,
                };
                ordered(op, i64::cmp(&ours, &number(right)?))
            }
            TokenKind::Identifier if right.text.starts_with("CONFIG_") => {
                let theirs = value(&right.text);
                let order = match (ours.parse::<i64>(), theirs.parse::<i64>()) {
                    (Ok(ours), Ok(theirs)) => ours.cmp(&theirs),
                    _ => ours.cmp(theirs),
                };
                ordered(op, order)
            }
            _ => Err(ParseError::at(
                "expected string, number literal or other CONFIG_... as right side operand",
                right.clone(),
            )),
        }
    }
}

fn string_operand(token: &Token) -> Result<String, ParseError> {
    match token.kind {
        TokenKind::String => Ok(token.text.to_string()),
        _ => Err(ParseError::at("expected string literal", token.clone())),
    }
}

fn number(token: &Token) -> Result<i64, ParseError> {
    // stap reads these in base 10, whatever they begin with.
    let decimal = token.text.bytes().all(|b| b.is_ascii_digit());
    if let Some(value) = decimal.then(|| token.text.parse().ok()).flatten() {
        return Ok(value);
    }
    number_value(&token.text, false)
        .ok_or_else(|| ParseError::at("number invalid or out of range", token.clone()))
}

fn equality(op: &Token, right: &Token, ours: &str) -> Result<bool, ParseError> {
    let theirs = string_operand(right)?;
    match &*op.text {
        "==" => Ok(glob(theirs.as_bytes(), ours.as_bytes())),
        "!=" => Ok(!glob(theirs.as_bytes(), ours.as_bytes())),
        _ => Err(ParseError::at("expected '==' or '!='", op.clone())),
    }
}

fn ordered(op: &Token, order: Ordering) -> Result<bool, ParseError> {
    match &*op.text {
        "==" => Ok(order.is_eq()),
        "!=" => Ok(order.is_ne()),
        "<" => Ok(order.is_lt()),
        "<=" => Ok(order.is_le()),
        ">" => Ok(order.is_gt()),
        ">=" => Ok(order.is_ge()),
        _ => Err(ParseError::at("expected comparison operator", op.clone())),
    }
}

/// Shell patterns with `*`, `?` and `[…]`, as fnmatch(3) has them without flags.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => match bracket(&pattern[p..], text[t]) {
                Some((length, true)) => Some(length),
                Some((_, false)) => None,
                None => (text[t] == b'[').then_some(1),
            },
            Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == text[t]).then_some(2),
            Some(&byte) => (byte == text[t]).then_some(1),
            None => None,
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((star, from))) => {
                retry = Some((star, from + 1));
                p = star + 1;
                t = from + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// A bracket expression: its length and whether it holds the byte. `None` when it is not closed.
fn bracket(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut found = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((at + 1, found != negated));
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
}

/// Order of version numbers, as strverscmp(3) defines it: numbers within compare as numbers, ones with leading
/// zeros as fractions.
pub fn version_order(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let Some(differ) = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i)) else {
        return Ordering::Equal;
    };
    let start = a[..differ]
        .iter()
        .rposition(|b| !b.is_ascii_digit())
        .map_or(0, |n| n + 1);
    let shared = &a[start..differ];
    let digits = |s: &[u8]| {
        s.iter()
            .skip(start)
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let (next_a, next_b) = (a.get(differ), b.get(differ));
    let is_digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
    let plain = next_a.cmp(&next_b);
    match shared.first() {
        // A run of zeros goes on in one of them only: that one is smaller.
        Some(b'0') if shared.iter().all(|&b| b == b'0') => {
            match (is_digit(next_a), is_digit(next_b)) {
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                _ => plain,
            }
        }
        Some(b'0') => plain,
        None if !is_digit(next_a)
            || !is_digit(next_b)
            || next_a == Some(&b'0')
            || next_b == Some(&b'0') =>
        {
            plain
        }
        _ => digits(a).cmp(&digits(b)).then(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_fnmatch() {
        for (pattern, text, expected) in [
            ("x86*", "x86_64", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("*b*c", "abbbc", true),
            ("*b*d", "abbbc", false),
            ("\\*", "*", true),
            ("[", "[", true),
            ("[]]", "]", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    /// The sequence is the example of strverscmp(3).
    #[test]
    fn versions_order_as_the_manual_says() {
        let ordered = ["000", "00", "01", "010", "09", "0", "1", "9", "10"];
        for pair in ordered.windows(2) {
            assert_eq!(version_order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(
                version_order(pair[1], pair[0]),
                Ordering::Greater,
                "{pair:?}"
            );
        }
        assert_eq!(version_order("2.6.9", "2.6.10"), Ordering::Less);
        assert_eq!(version_order("4.8", "4.8"), Ordering::Equal);
        assert_eq!(version_order("5.2", "4.0"), Ordering::Greater);
        assert_eq!(version_order("5", "5.1"), Ordering::Less);
    }
}
