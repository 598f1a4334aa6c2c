//! The predicate that says which processes are hot: its language (pmdaproc(1)) and what it means for a process.

mod parser;

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
