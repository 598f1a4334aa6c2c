//! The predicate that says which processes are hot: its language (pmdaproc(1)) and what it means for a process.

use std::fmt;

use regex::Regex;

/// What is known of a process for predicates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The name of the user.
    pub uname: String,
    /// The name of the group.
    pub gname: String,
    /// The name of the program's file.
    pub fname: String,
    /// The command line.
    pub psargs: String,
    /// Processors that it kept busy.
    pub cpuburn: f64,
    /// Kilobytes read from and written to devices in a second.
    pub iodemand: f64,
    /// Switches to other tasks in a second.
    pub ctxswitch: f64,
    /// Kilobytes of its address space.
    pub virtualsize: f64,
    /// Kilobytes of it in memory.
    pub residentsize: f64,
    /// Share of the time that it waited for devices.
    pub iowait: f64,
    /// Share of the time that it waited for a processor.
    pub schedwait: f64,
}

/// What is wrong with a predicate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PredicateError {
    /// Something else was due.
    #[error("line {line}: {due} was due before \"{found}\"")]
    Unexpected {
        /// The line, from 1.
        line: usize,
        /// What was due.
        due: &'static str,
        /// What stands there; empty at the end.
        found: String,
    },
    /// A word that the language does not have.
    #[error("line {line}: no variable is called \"{word}\"")]
    Unknown {
        /// The line, from 1.
        line: usize,
        /// The word.
        word: String,
    },
    /// A text or pattern that does not end on its line.
    #[error("line {line}: what begins with {quote} has no end")]
    Open {
        /// The line, from 1.
        line: usize,
        /// How it begins.
        quote: char,
    },
    /// Two things that can't be compared.
    #[error("line {line}: \"{operator}\" does not compare {left} with {right}")]
    Kinds {
        /// The line, from 1.
        line: usize,
        /// What stands between them.
        operator: &'static str,
        /// What stands ahead of it.
        left: &'static str,
        /// What stands behind it.
        right: &'static str,
    },
    /// A pattern that is none.
    #[error("line {line}: pattern /{pattern}/: {cause}")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A version of the language that is not known.
    #[error("line {line}: version {version} of the configuration, where 1 is known")]
    Version {
        /// The line, from 1.
        line: usize,
        /// The version asked for.
        version: String,
    },
    /// More is never needed, and what takes a predicate apart goes as deep.
    #[error("line {line}: over {PARTS} comparisons, parentheses and negations")]
    Long {
        /// The line, from 1.
        line: usize,
    },
    /// Parentheses and negations within each other.
    #[error("line {line}: over {DEPTH} levels of parentheses and negations")]
    Deep {
        /// The line, from 1.
        line: usize,
    },
}

/// The most parts of a predicate.
const PARTS: usize = 1000;
/// The most levels of parentheses and negations.
const DEPTH: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Uid,
    Gid,
    Uname,
    Gname,
    Fname,
    Psargs,
    Cpuburn,
    Iodemand,
    Ctxswitch,
    Syscalls,
    Virtualsize,
    Residentsize,
    Iowait,
    Schedwait,
}

const VARIABLES: [(&str, Variable); 14] = [
    ("uid", Variable::Uid),
    ("gid", Variable::Gid),
    ("uname", Variable::Uname),
    ("gname", Variable::Gname),
    ("fname", Variable::Fname),
    ("psargs", Variable::Psargs),
    ("cpuburn", Variable::Cpuburn),
    ("iodemand", Variable::Iodemand),
    ("ctxswitch", Variable::Ctxswitch),
    ("syscalls", Variable::Syscalls),
    ("virtualsize", Variable::Virtualsize),
    ("residentsize", Variable::Residentsize),
    ("iowait", Variable::Iowait),
    ("schedwait", Variable::Schedwait),
];

impl Variable {
    fn name(self) -> &'static str {
        let found = VARIABLES.iter().find(|(_, v)| *v == self);
        found.map_or("", |(name, _)| name)
    }

    fn is_text(self) -> bool {
        use Variable::{Fname, Gname, Psargs, Uname};
        matches!(self, Uname | Gname | Fname | Psargs)
    }

    fn number(self, facts: &Facts) -> f64 {
        match self {
            Variable::Uid => facts.uid.into(),
            Variable::Gid => facts.gid.into(),
            Variable::Cpuburn => facts.cpuburn,
            Variable::Iodemand => facts.iodemand,
            Variable::Ctxswitch => facts.ctxswitch,
            Variable::Virtualsize => facts.virtualsize,
            Variable::Residentsize => facts.residentsize,
            Variable::Iowait => facts.iowait,
            Variable::Schedwait => facts.schedwait,
            // Linux does not count them for a process.
            _ => 0.0,
        }
    }

    fn text(self, facts: &Facts) -> &str {
        match self {
            Variable::Uname => &facts.uname,
            Variable::Gname => &facts.gname,
            Variable::Fname => &facts.fname,
            Variable::Psargs => &facts.psargs,
            _ => "",
        }
    }
}

#[derive(Clone, Debug)]
enum Operand {
    Variable(Variable),
    Number(f64),
    Text(String),
    Pattern(Regex),
}

impl Operand {
    fn kind(&self) -> &'static str {
        match self {
            Operand::Variable(variable) if variable.is_text() => "a text",
            Operand::Text(_) => "a text",
            Operand::Variable(_) | Operand::Number(_) => "a number",
            Operand::Pattern(_) => "a pattern",
        }
    }

    fn number(&self, facts: &Facts) -> f64 {
        match self {
            Operand::Variable(variable) => variable.number(facts),
            Operand::Number(number) => *number,
            _ => 0.0,
        }
    }

    fn text<'a>(&'a self, facts: &'a Facts) -> &'a str {
        match self {
            Operand::Variable(variable) => variable.text(facts),
            Operand::Text(text) => text,
            _ => "",
        }
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Variable(variable) => f.write_str(variable.name()),
            Operand::Number(n) if n.fract() == 0.0 && *n <= f64::from(u32::MAX) => {
                write!(f, "{n:.0}")
            }
            Operand::Number(n) => write!(f, "{n:.6}"),
            Operand::Text(text) => write!(f, "\"{text}\""),
            Operand::Pattern(pattern) => write!(f, "\"{pattern}\""),
        }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Constant(bool),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Operand, &'static str, Operand),
}

/// A predicate.
#[derive(Clone, Debug)]
pub struct Predicate(Node);

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

    /// Whether it holds for a process.
    #[must_use]
    pub fn holds(&self, facts: &Facts) -> bool {
        holds(&self.0, facts)
    }
}

/// As PCP's agent shows it, with all parentheses.
impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Constant(value) => write!(f, "({value})"),
            Node::Not(inner) => write!(f, "(! {inner})"),
            Node::And(left, right) => write!(f, "({left} && {right})"),
            Node::Or(left, right) => write!(f, "({left} || {right})"),
            Node::Compare(left, operator, right) => write!(f, "({left} {operator} {right})"),
        }
    }
}

fn holds(node: &Node, facts: &Facts) -> bool {
    match node {
        Node::Constant(value) => *value,
        Node::Not(inner) => !holds(inner, facts),
        Node::And(left, right) => holds(left, facts) && holds(right, facts),
        Node::Or(left, right) => holds(left, facts) || holds(right, facts),
        Node::Compare(left, operator, Operand::Pattern(pattern)) => {
            pattern.is_match(left.text(facts)) == (*operator == "~")
        }
        Node::Compare(left, operator, right) if left.kind() == "a text" => {
            (left.text(facts) == right.text(facts)) == (*operator == "==")
        }
        Node::Compare(left, operator, right) => {
            let (left, right) = (left.number(facts), right.number(facts));
            match *operator {
                "<" => left < right,
                "<=" => left <= right,
                ">" => left > right,
                ">=" => left >= right,
                "!=" => left != right,
                _ => left == right,
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match Predicate::parse(text) {
            Ok(Some(predicate)) => predicate.to_string(),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn predicates_are_shown_as_pcps_agent_shows_them() {
        // What `hotproc.control.config` of Debian's pmdaproc 6.0.3 said after each was stored.
        for (text, expected) in [
            ("uid==0", "(uid == 0)"),
            (
                "uid > 5 && gid<=3 || cpuburn>0.2",
                "(((uid > 5) && (gid <= 3)) || (cpuburn > 0.200000))",
            ),
            ("cpuburn > .2", "(cpuburn > 0.200000)"),
            ("cpuburn > 5.", "(cpuburn > 5)"),
            ("uname !~ /ro+t/", "(uname !~ \"ro+t\")"),
            ("!uname ~ /ro+t/", "(! (uname ~ \"ro+t\"))"),
            ("((uid == 0))", "(uid == 0)"),
            ("true && false", "((true) && (false))"),
            ("!! true", "(! (! (true)))"),
            ("\"root\" == uname", "(\"root\" == uname)"),
            ("uname == gname", "(uname == gname)"),
            (
                "uid == 0 || gid == 0 && fname == \"x\"",
                "((uid == 0) || ((gid == 0) && (fname == \"x\")))",
            ),
            ("!uid == 0 && gid == 0", "((! (uid == 0)) && (gid == 0))"),
            ("uid == 4294967296", "(uid == 4294967296.000000)"),
            ("cpuburn == 1234567.5", "(cpuburn == 1234567.500000)"),
            ("uid == 007", "(uid == 7)"),
            ("fname ~ //", "(fname ~ \"\")"),
            ("#pmdahotproc\nVersion 1.0\n\nuid == 0", "(uid == 0)"),
            ("uid == 0\n&& gid == 0 # and", "((uid == 0) && (gid == 0))"),
            ("# only a comment\n", "none"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            (
                "uid == 0 &&",
                "line 1: a variable, number, text or pattern was due before \"\"",
            ),
            (
                "\nuid = 0",
                "line 2: a word, number, text or operator was due before \"=\"",
            ),
            (
                "uid == 0\nuid == 1",
                "line 2: \"&&\", \"||\" or the end was due before \"uid\"",
            ),
            ("foo > 3", "line 1: no variable is called \"foo\""),
            (
                "uname ~ \"root\"",
                "line 1: \"~\" does not compare a text with a text",
            ),
            (
                "uname == uid",
                "line 1: \"==\" does not compare a text with a number",
            ),
            (
                "uname < \"root\"",
                "line 1: \"<\" does not compare a text with a text",
            ),
            ("fname == \"a", "line 1: what begins with \" has no end"),
            ("fname ~ /(/", "line 1: pattern /(/: unclosed group"),
            (
                "Version 2.0\nuid == 0",
                "line 1: version 2.0 of the configuration, where 1 is known",
            ),
            ("uid == 0x10", "line 1: a number was due before \"0x10\""),
            ("(uid == 0", "line 1: \")\" was due before \"\""),
            ("uid", "line 1: a comparison was due before \"\""),
            (
                "Version 1.0",
                "line 1: a variable, number, text or pattern was due before \"\"",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        // What follows one another is within one another as well, once it is read.
        let long = format!("true{}", " && true".repeat(500_000));
        assert_eq!(
            Predicate::parse(&long).err(),
            Some(PredicateError::Long { line: 1 })
        );
        let deep = format!("{}true{}", "(".repeat(5000), ")".repeat(5000));
        assert_eq!(
            Predicate::parse(&deep).err(),
            Some(PredicateError::Deep { line: 1 })
        );
    }

    #[test]
    fn a_predicate_holds_for_processes_that_are_such() {
        let facts = Facts {
            uid: 1000,
            uname: "hot".to_owned(),
            fname: "pmdaproc".to_owned(),
            psargs: "/usr/bin/pmdaproc -d 3".to_owned(),
            cpuburn: 0.25,
            ..Facts::default()
        };
        for (text, expected) in [
            (
                "cpuburn > 0.2 && (uname == \"root\" || uname == \"hot\")",
                true,
            ),
            ("cpuburn >= 0.25 && cpuburn <= 0.25", true),
            ("cpuburn > 0.25 || cpuburn != 0.25", false),
            ("psargs ~ /bin.pmda/ && psargs !~ /-d [45]/", true),
            ("! fname == \"pmdaproc\"", false),
            ("uid == gid", false),
            ("syscalls == 0", true),
            ("1 < 2 && true && ! false", true),
        ] {
            let predicate = Predicate::parse(text).expect(text).expect(text);
            assert_eq!(predicate.holds(&facts), expected, "{text}");
        }
    }
}
