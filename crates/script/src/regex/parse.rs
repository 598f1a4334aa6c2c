//! Patterns to trees.

use super::{MAX_GROUPS, RegexError};

/// A set of bytes.
pub type Set = [bool; 256];

/// A pattern's tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Nothing.
    Empty,
    /// One byte of a set.
    Set(Box<Set>),
    /// `^`.
    Start,
    /// `$`.
    End,
    /// `(…)` with its number, from 1.
    Group(usize, Box<Node>),
    /// One after the other.
    Concat(Vec<Node>),
    /// `|`: the first is preferred.
    Alternatives(Vec<Node>),
    /// `*`, `+`, `?`, `{least,most}`: more is preferred.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The tree.
    pub root: Node,
    /// Number of groups, the whole match included.
    pub groups: usize,
}

/// Most repetitions that can be asked for.
const MAX_REPEAT: u64 = u32::MAX as u64 >> 1;
/// Deepest nesting of groups.
const MAX_DEPTH: usize = 200;

/// Parses a pattern.
pub fn parse(pattern: &[u8]) -> Result<Pattern, RegexError> {
    let mut parser = Parser {
        text: pattern,
        at: 0,
        groups: 1,
        depth: 0,
    };
    let root = parser.alternatives()?;
    // A closing parenthesis too many is taken when nothing follows it, as stap does.
    if parser.peek() == Some(b')') {
        parser.at += 1;
    }
    if parser.peek().is_some() {
        return Err(RegexError::at(parser.at, "unbalanced ')'"));
    }
    Ok(Pattern {
        root,
        groups: parser.groups,
    })
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    groups: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn alternatives(&mut self) -> Result<Node, RegexError> {
        let mut all = vec![self.sequence()?];
        while self.peek() == Some(b'|') {
            self.at += 1;
            all.push(self.sequence()?);
        }
        Ok(match all.pop() {
            Some(only) if all.is_empty() => only,
            last => {
                all.extend(last);
                Node::Alternatives(all)
            }
        })
    }

    fn sequence(&mut self) -> Result<Node, RegexError> {
        let mut all = Vec::new();
        while !matches!(self.peek(), None | Some(b'|' | b')')) {
            all.push(self.repeated()?);
        }
        Ok(match all.pop() {
            None => Node::Empty,
            Some(only) if all.is_empty() => only,
            Some(last) => {
                all.push(last);
                Node::Concat(all)
            }
        })
    }

    fn repeated(&mut self) -> Result<Node, RegexError> {
        let mut node = self.factor()?;
        while let Some(c @ (b'*' | b'+' | b'?' | b'{')) = self.peek() {
            if matches!(node, Node::Start | Node::End) {
                return Err(RegexError::at(
                    self.at,
                    format!(
                        "postfix closure '{}' applied to anchoring operator",
                        c as char
                    ),
                ));
            }
            self.at += 1;
            let (least, most) = match c {
                b'*' => (0, None),
                b'+' => (1, None),
                b'?' => (0, Some(1)),
                _ => self.counts()?,
            };
            node = Node::Repeat(Box::new(node), least, most);
        }
        Ok(node)
    }

    /// `n}`, `n,}` or `n,m}`.
    fn counts(&mut self) -> Result<(u32, Option<u32>), RegexError> {
        let least = self.number()?;
        match self.next_in_counts()? {
            b'}' => Ok((least, Some(least))),
            b',' => {
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    return Ok((least, None));
                }
                if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    return Err(RegexError::at(self.at, "expected '}' or number"));
                }
                let most = self.number()?;
                match self.next_in_counts()? {
                    b'}' => Ok((least, Some(most))),
                    _ => Err(RegexError::at(self.at, "expected '}'")),
                }
            }
            _ => Err(RegexError::at(self.at, "expected '}' or ','")),
        }
    }

    fn next_in_counts(&mut self) -> Result<u8, RegexError> {
        let c = self
            .peek()
            .ok_or_else(|| RegexError::at(self.at, "unexpected end of regex"))?;
        self.at += 1;
        Ok(c)
    }

    fn number(&mut self) -> Result<u32, RegexError> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = String::from_utf8_lossy(&self.text[start..self.at]).into_owned();
        if digits.is_empty() {
            let position = (self.at + 1).min(self.text.len());
            return Err(RegexError::at(position, "expected number"));
        }
        match digits.parse::<u64>() {
            Ok(n) if n <= MAX_REPEAT => Ok(n as u32),
            _ => {
                let position = (self.at + 1).min(self.text.len());
                Err(RegexError::at(position, format!("{digits} is too large")))
            }
        }
    }

    fn factor(&mut self) -> Result<Node, RegexError> {
        let start = self.at;
        let Some(c) = self.peek() else {
            return Ok(Node::Empty);
        };
        self.at += 1;
        Ok(match c {
            b'*' | b'+' | b'?' | b'{' => {
                return Err(RegexError::at(start, format!("unexpected '{}'", c as char)));
            }
            b'(' => self.group()?,
            b'[' => self.class()?,
            b'.' => Node::Set(Box::new([true; 256])),
            b'^' => Node::Start,
            b'$' => Node::End,
            b'\\' => {
                // stap counts the missing character, too.
                let c = self
                    .peek()
                    .ok_or_else(|| RegexError::at(self.at + 1, "unexpected end of regex"))?;
                self.at += 1;
                byte(c)
            }
            c => byte(c),
        })
    }

    fn group(&mut self) -> Result<Node, RegexError> {
        if self.peek() == Some(b'?') {
            return self.unnumbered_group();
        }
        let number = self.groups;
        self.groups += 1;
        self.depth += 1;
        if number >= MAX_GROUPS || self.depth > MAX_DEPTH {
            return Err(RegexError::at(self.at - 1, "too many subexpressions"));
        }
        let inner = self.alternatives()?;
        self.depth -= 1;
        if self.peek() != Some(b')') {
            return Err(RegexError::at(
                self.text.len().saturating_sub(1),
                "expected ), found end of regex",
            ));
        }
        self.at += 1;
        Ok(Node::Group(number, Box::new(inner)))
    }

    /// `(?:…)`, the opening parenthesis consumed.
    fn unnumbered_group(&mut self) -> Result<Node, RegexError> {
        match self.text.get(self.at + 1) {
            Some(b':') => {
                self.at += 2;
                // To stap the colon is the group's first character. Where that alone gives the pattern a meaning, it is so
                // here, too.
                if matches!(self.peek(), Some(b'*' | b'+' | b'?' | b'{')) {
                    self.at -= 1;
                }
            }
            Some(&c) => {
                let message = format!("unexpected '(?{}'", c as char);
                return Err(RegexError::at(self.at + 1, message));
            }
            None => return Err(RegexError::at(self.at, "unexpected '(?'")),
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(RegexError::at(self.at - 1, "too many subexpressions"));
        }
        let inner = self.alternatives()?;
        self.depth -= 1;
        if self.peek() != Some(b')') {
            let end = self.text.len().saturating_sub(1);
            return Err(RegexError::at(end, "expected ), found end of regex"));
        }
        self.at += 1;
        Ok(inner)
    }

    /// A bracket expression, after its `[`.
    fn class(&mut self) -> Result<Node, RegexError> {
        let mut set = [false; 256];
        let negated = self.peek() == Some(b'^');
        if negated {
            self.at += 1;
        }
        let mut first = true;
        loop {
            let c = self.class_byte()?;
            if c == b']' && !first {
                break;
            }
            first = false;
            if c == b'[' && self.peek() == Some(b':') {
                self.class_name(&mut set)?;
                continue;
            }
            let low = if c == b'\\' { self.class_byte()? } else { c };
            // A minus sign makes a range unless it is the last in the brackets.
            let range =
                self.peek() == Some(b'-') && self.text.get(self.at + 1).is_some_and(|&c| c != b']');
            let mut high = low;
            if range {
                self.at += 1;
                high = self.class_byte()?;
                if high == b'\\' {
                    high = self.class_byte()?;
                }
            }
            if high < low {
                return Err(RegexError::at(
                    self.at,
                    format!("Inverted character range {}-{}", low as char, high as char),
                ));
            }
            set[low as usize..=high as usize].fill(true);
        }
        if negated {
            for member in &mut set {
                *member = !*member;
            }
        }
        Ok(Node::Set(Box::new(set)))
    }

    fn class_byte(&mut self) -> Result<u8, RegexError> {
        let c = self.peek().ok_or_else(|| {
            RegexError::at(
                self.text.len().saturating_sub(1),
                "unclosed character class",
            )
        })?;
        self.at += 1;
        Ok(c)
    }

    /// `:name:]`.
    fn class_name(&mut self, set: &mut Set) -> Result<(), RegexError> {
        let rest = &self.text[self.at + 1..];
        let Some(end) = rest.windows(2).position(|w| w == b":]") else {
            // stap leaves out the last character that there is.
            let name = String::from_utf8_lossy(rest.split_last().map_or(rest, |(_, rest)| rest));
            return Err(RegexError::at(
                self.text.len(),
                format!("unclosed character class '[:{name}'"),
            ));
        };
        let name = &rest[..end];
        let member: fn(&u8) -> bool = match name {
            b"alpha" => u8::is_ascii_alphabetic,
            b"digit" => u8::is_ascii_digit,
            b"alnum" => u8::is_ascii_alphanumeric,
            b"upper" => u8::is_ascii_uppercase,
            b"lower" => u8::is_ascii_lowercase,
            b"space" => |c| c.is_ascii_whitespace() || *c == 11,
            b"blank" => |c| matches!(c, b' ' | b'\t'),
            b"punct" => u8::is_ascii_punctuation,
            b"cntrl" => u8::is_ascii_control,
            b"graph" => u8::is_ascii_graphic,
            b"print" => |c| c.is_ascii_graphic() || *c == b' ',
            b"xdigit" => u8::is_ascii_hexdigit,
            _ => {
                return Err(RegexError::Pattern(format!(
                    "unknown character class '{}'",
                    String::from_utf8_lossy(name)
                )));
            }
        };
        for c in 0..=255u8 {
            set[c as usize] |= member(&c);
        }
        self.at += 1 + end + 2;
        Ok(())
    }
}

fn byte(c: u8) -> Node {
    let mut set = [false; 256];
    set[c as usize] = true;
    Node::Set(Box::new(set))
}
