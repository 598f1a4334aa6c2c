//! SystemTap's wildcards in probe points: `*`, `?` and `[…]`, as fnmatch(3) with no flags has them.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    Any,
    Star,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    /// Compiles a pattern. Every string is one: an unclosed `[` stands for itself, as in fnmatch(3).
    pub fn new(pattern: &str) -> Glob {
        let chars: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&c) = chars.get(at) {
            at += 1;
            match c {
                '*' => {
                    if tokens.last() != Some(&Token::Star) {
                        tokens.push(Token::Star);
                    }
                }
                '?' => tokens.push(Token::Any),
                '\\' if at < chars.len() => {
                    tokens.extend(chars.get(at).map(|c| Token::Literal(*c)));
                    at += 1;
                }
                '[' => match class(&chars, at) {
                    Some((token, next)) => {
                        tokens.push(token);
                        at = next;
                    }
                    None => tokens.push(Token::Literal('[')),
                },
                c => tokens.push(Token::Literal(c)),
            }
        }
        Glob { tokens }
    }

    /// Whether a string holds a character that [`Glob`] reads as a wildcard.
    pub fn has_wildcard(pattern: &str) -> bool {
        pattern.contains(['*', '?', '['])
    }

    /// The one string that matches, when the pattern has no wildcard.
    pub fn literal(&self) -> Option<String> {
        self.tokens
            .iter()
            .map(|t| {
                if let Token::Literal(c) = t {
                    Some(*c)
                } else {
                    None
                }
            })
            .collect()
    }

    /// Whether the whole of `text` matches. Linear in `text` times the number of tokens.
    pub fn matches(&self, text: &str) -> bool {
        let mut token = 0;
        let mut rest = text.chars();
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.tokens.get(token) == Some(&Token::Star) {
                token += 1;
                retry = Some((token, rest.clone()));
                continue;
            }
            let before = rest.clone();
            match (self.tokens.get(token), rest.next()) {
                (None, None) => return true,
                (Some(t), Some(c)) if t.accepts(c) => token += 1,
                (_, next) => {
                    rest = before;
                    let at_end = next.is_none();
                    let Some((after_star, mut from)) = retry.take() else {
                        return false;
                    };
                    if at_end && self.tokens.get(token).is_some() {
                        return false;
                    }
                    if from.next().is_none() {
                        return false;
                    }
                    token = after_star;
                    rest.clone_from(&from);
                    retry = Some((after_star, from));
                }
            }
        }
    }
}

impl Token {
    fn accepts(&self, c: char) -> bool {
        match self {
            Token::Literal(l) => *l == c,
            Token::Any => true,
            Token::Star => false,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn class(chars: &[char], start: usize) -> Option<(Token, usize)> {
    let mut at = start;
    let negated = matches!(chars.get(at), Some('!' | '^'));
    if negated {
        at += 1;
    }
    let mut ranges = Vec::new();
    let mut first = true;
    loop {
        let c = *chars.get(at)?;
        at += 1;
        if c == ']' && !first {
            return Some((Token::Class { negated, ranges }, at));
        }
        first = false;
        let low = if c == '\\' {
            at += 1;
            *chars.get(at - 1)?
        } else {
            c
        };
        if chars.get(at) == Some(&'-') && chars.get(at + 1).is_some_and(|c| *c != ']') {
            ranges.push((low, *chars.get(at + 1)?));
            at += 2;
        } else {
            ranges.push((low, low));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_as_fnmatch_has_them() {
        let cases = [
            ("*", "", true),
            ("*", "anything", true),
            ("sqlite3*", "sqlite3_open", true),
            ("sqlite3*", "sqlite", false),
            ("*Open*", "sqlite3BtreeOpen", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]x]", "]", true),
            ("a[", "a[", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxxcx", false),
            ("function__*", "function__entry", true),
            ("", "", true),
            ("", "x", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("*é", "caffé", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(
                Glob::new(pattern).matches(text),
                expected,
                "{pattern} against {text}"
            );
        }
    }

    #[test]
    fn a_pattern_without_wildcards_is_its_literal() {
        assert_eq!(Glob::new("main").literal().as_deref(), Some("main"));
        assert_eq!(Glob::new("m*").literal(), None);
    }

    #[test]
    fn many_stars_stay_polynomial() {
        let pattern = "*a".repeat(200);
        assert!(!Glob::new(&pattern).matches(&"a".repeat(199)));
        assert!(Glob::new(&pattern).matches(&"a".repeat(2000)));
    }
}
