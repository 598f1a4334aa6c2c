//! Words of pmie's language (pmie(1), EXPRESSION SYNTAX).

use std::collections::{HashMap, VecDeque};

/// What a macro stands for.
#[derive(Clone, PartialEq, Debug)]
pub enum Macro {
    /// Text, which is read in its place.
    Text(String),
    /// A number in canonical units.
    Number(f64),
}

/// A word.
#[derive(Clone, PartialEq, Debug)]
pub enum Token {
    /// A name or a keyword.
    Name(String),
    /// A number.
    Number(f64),
    /// A text in double quotes.
    Text(String),
    /// `:` and a host.
    Host(String),
    /// `#` and an instance.
    Instance(String),
    /// A macro that was never defined, with what was left of the statement.
    Undefined,
    /// `%_inst` and its siblings: the dimension.
    Percent(String),
    /// A macro that changes with time, or the interval.
    Clock(String),
    /// An operator or another mark.
    Mark(&'static str),
    /// The end.
    End,
}

/// The macros whose value is looked up when it is needed.
const CLOCK: [&str; 7] = [
    "minute",
    "hour",
    "day",
    "month",
    "year",
    "day_of_week",
    "delta",
];

/// Longer names of macros are refused.
const MACRO_NAME_MAX: usize = 250;

/// As much of such a name is shown.
const MACRO_NAME_SHOWN: usize = 20;

const MARKS: [&str; 25] = [
    "->", "<=", ">=", "==", "!=", "&&", "||", "..", "<", ">", "=", "+", "-", "*", "/", "(", ")",
    "!", ";", ",", "@", "&", "|", "%", ":",
];

/// Reads words; macros are replaced on the way.
pub struct Lexer {
    chars: VecDeque<char>,
    /// Characters at the front that come out of a macro, in which lines are not counted.
    expanded: usize,
    /// The line that is being read, from 1.
    pub line: usize,
    /// A statement that had to be skipped went on to the end of the text.
    pub ran_out: bool,
    /// Macros that were defined.
    pub macros: HashMap<String, Macro>,
    /// What there is to complain about.
    pub complaints: Vec<String>,
}

impl Lexer {
    /// Reads a text.
    pub fn new(text: &str) -> Lexer {
        Lexer {
            chars: text.chars().collect(),
            expanded: 0,
            line: 1,
            ran_out: false,
            macros: HashMap::new(),
            complaints: Vec::new(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.chars.front().copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.chars.pop_front()?;
        if self.expanded > 0 {
            self.expanded -= 1;
        } else if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars()
            .enumerate()
            .all(|(i, c)| self.chars.get(i) == Some(&c))
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.starts_with(text);
        if found {
            for _ in text.chars() {
                self.bump();
            }
        }
        found
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek().filter(|c| of(*c)) {
            word.push(c);
            self.bump();
        }
        word
    }

    fn push_back(&mut self, text: &str) {
        for c in text.chars().rev() {
            self.chars.push_front(c);
        }
        self.expanded += text.chars().count();
    }

    /// Skips to behind the next semicolon, which is what follows an error.
    pub fn recover(&mut self) {
        while let Some(c) = self.bump() {
            if c == ';' {
                return;
            }
        }
        self.ran_out = true;
    }

    /// Whether nothing but space follows.
    pub fn is_at_end(&self) -> bool {
        self.chars.iter().all(|c| c.is_whitespace())
    }

    fn skip_space(&mut self) {
        loop {
            if self.peek().is_some_and(char::is_whitespace) {
                self.bump();
            } else if self.starts_with("//") {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.bump();
                }
            } else if self.take("/*") {
                while !self.take("*/") && self.bump().is_some() {}
            } else {
                return;
            }
        }
    }

    /// A text up to its closing quote, macros in it replaced; `None` ahead of what is no macro, which is said.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        while let Some(c) = self.bump() {
            if c == quote {
                break;
            }
            match c {
                '\\' => match self.bump() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('b') => text.push('\u{8}'),
                    Some('f') => text.push('\u{c}'),
                    Some(other) => text.push(other),
                    None => {}
                },
                '$' => {
                    let name = if quote != '\'' && self.take("'") {
                        let name = self.word(|c| c != '\'' && c != '"');
                        self.take("'");
                        name
                    } else if let Some(other) = self.peek().filter(|c| !c.is_ascii_alphabetic()) {
                        self.complaints.push(format!(
                            "macro name must begin with an alphabetic (not '{other}')\n"
                        ));
                        return None;
                    } else {
                        self.word(|c| c.is_ascii_alphanumeric() || c == '_')
                    };
                    match self.macros.get(&name) {
                        Some(Macro::Text(value)) => text.push_str(value),
                        Some(Macro::Number(value)) => {
                            text.push_str(&super::show::number(*value));
                        }
                        None => {
                            self.complaints
                                .push(format!("undefined macro name ${name}\n"));
                            return None;
                        }
                    }
                }
                c => text.push(c),
            }
        }
        Some(text)
    }

    /// A text as a token; one that is broken off takes the rest of its statement with it.
    fn quoted_as(&mut self, quote: char, token: fn(String) -> Token) -> Token {
        self.bump();
        match self.quoted(quote) {
            Some(text) => token(text),
            None => {
                self.recover();
                Token::Undefined
            }
        }
    }

    fn qualifier(&mut self, of: impl Fn(char) -> bool) -> Option<String> {
        self.skip_space();
        match self.peek()? {
            '\'' => {
                self.bump();
                self.quoted('\'')
            }
            '$' => {
                self.bump();
                let name = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
                match self.macros.get(&name) {
                    Some(Macro::Text(text)) => Some(text.clone()),
                    _ => {
                        self.complaints
                            .push(format!("undefined macro name ${name}\n"));
                        None
                    }
                }
            }
            c if c.is_ascii_alphabetic() => Some(self.word(of)),
            _ => None,
        }
    }

    /// Puts a macro's text where it stands. False, with nothing read, when there is none of the name.
    fn expand_within(&mut self) -> bool {
        let rest: String = self.chars.iter().skip(1).take(MACRO_NAME_MAX + 2).collect();
        let (name, length) = match rest.strip_prefix('\'') {
            Some(quoted) => match quoted.split_once('\'') {
                Some((name, _)) => (name.to_owned(), name.chars().count() + 3),
                None => return false,
            },
            None => {
                let of = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name: String = rest.chars().take_while(|c| of(*c)).collect();
                let length = name.chars().count() + 1;
                (name, length)
            }
        };
        let text = match self.macros.get(&name) {
            Some(Macro::Text(text)) => text.clone(),
            _ => return false,
        };
        for _ in 0..length {
            self.bump();
        }
        self.push_back(&text);
        true
    }

    /// A macro's name up to its closing quote; what is wrong with it otherwise.
    fn quoted_macro(&mut self) -> Result<String, String> {
        let mut name = String::new();
        loop {
            match self.bump() {
                Some('\'') => return Ok(name),
                Some('\n') | None => {
                    return Err(format!("unexpected end of file in macro name: ${name}\n"));
                }
                Some(c) => name.push(c),
            }
            if name.len() > MACRO_NAME_MAX {
                let shown: String = name.chars().take(MACRO_NAME_SHOWN).collect();
                return Err(format!("macro name too long: ${shown}...\n"));
            }
        }
    }

    /// The next word.
    pub fn next(&mut self) -> Token {
        self.skip_space();
        let Some(c) = self.peek() else {
            return Token::End;
        };
        if c.is_ascii_alphabetic() {
            let of = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            let mut name = self.word(of);
            // Macros stand for parts of names, too.
            while self.peek() == Some('$') && self.expand_within() {
                name.push_str(&self.word(of));
            }
            return Token::Name(name);
        }
        if c.is_ascii_digit() || (c == '.' && self.chars.get(1).is_some_and(char::is_ascii_digit)) {
            return Token::Number(self.number());
        }
        match c {
            '"' => return self.quoted_as('"', Token::Text),
            // A name with other characters stands in quotes.
            '\'' => return self.quoted_as('\'', Token::Name),
            '$' => {
                self.bump();
                let name = if self.take("'") {
                    match self.quoted_macro() {
                        Ok(name) => name,
                        Err(complaint) => {
                            self.complaints.push(complaint);
                            return Token::Mark("$");
                        }
                    }
                } else {
                    self.word(|c| c.is_ascii_alphanumeric() || c == '_')
                };
                if CLOCK.contains(&name.as_str()) {
                    return Token::Clock(name);
                }
                return match self.macros.get(&name).cloned() {
                    Some(Macro::Number(value)) => Token::Number(value),
                    Some(Macro::Text(text)) => {
                        self.push_back(&text);
                        self.next()
                    }
                    None => {
                        self.complaints
                            .push(format!("undefined macro name ${name}\n"));
                        // The statement is at its end there.
                        self.recover();
                        Token::Undefined
                    }
                };
            }
            '#' => {
                self.bump();
                let of = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
                return match self.qualifier(of) {
                    Some(name) => Token::Instance(name),
                    None => Token::Mark("#"),
                };
            }
            ':' => {
                self.bump();
                let of = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                return match self.qualifier(of) {
                    Some(name) => Token::Host(name),
                    None => Token::Mark(":"),
                };
            }
            '%' => {
                self.bump();
                let word = self.word(|c| c.is_ascii_alphabetic() || c == '_');
                return Token::Percent(word.trim_start_matches('_').to_owned());
            }
            _ => {}
        }
        for mark in MARKS {
            if self.take(mark) {
                // The space behind the end of a statement belongs to it, which lines in messages tell.
                while mark == ";" && self.peek().is_some_and(char::is_whitespace) {
                    self.bump();
                }
                return Token::Mark(mark);
            }
        }
        self.bump();
        Token::Mark("?")
    }

    fn number(&mut self) -> f64 {
        let mut text = self.word(|c| c.is_ascii_digit());
        // Two dots are a range of samples.
        if self.peek() == Some('.') && self.chars.get(1) != Some(&'.') {
            self.bump();
            text.push('.');
            text.push_str(&self.word(|c| c.is_ascii_digit()));
        }
        if self.peek().is_some_and(|c| matches!(c, 'e' | 'E'))
            && self
                .chars
                .get(1)
                .is_some_and(|c| c.is_ascii_digit() || matches!(c, '+' | '-'))
        {
            text.push('e');
            self.bump();
            if let Some(sign) = self.peek().filter(|c| matches!(c, '+' | '-')) {
                text.push(sign);
                self.bump();
            }
            text.push_str(&self.word(|c| c.is_ascii_digit()));
        }
        text.parse().unwrap_or(0.0)
    }
}
