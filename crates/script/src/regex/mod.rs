//! Regular expressions of `=~`: POSIX extended as stap reads them (stap(1), REGULAR EXPRESSION MATCHING), compiled to
//! an automaton that reads each byte of a subject once.
//!
//! The match is the leftmost one and of those the longest. Where several ways of matching the same text are left, the
//! groups are those of the way that prefers earlier alternatives and more repetitions, as in stap's own automata.

mod automaton;
mod determinize;
mod parse;

pub use automaton::{Automaton, NONE, POSITION};
pub use parse::{Node, Pattern, parse};

use thiserror::Error;

/// Most groups of a pattern, the whole match included.
pub const MAX_GROUPS: usize = 64;

/// Most registers of an automaton.
pub const MAX_REGISTERS: usize = 256;

/// What is wrong with a pattern; worded as stap words it.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum RegexError {
    /// At a place in the pattern, in bytes from 0.
    #[error("regex compilation error (at position {position}): {problem}")]
    #[allow(missing_docs)]
    Syntax { position: usize, problem: String },
    /// In the pattern as a whole.
    #[error("regex compilation error: {0}")]
    Pattern(String),
}

impl RegexError {
    fn at(position: usize, problem: impl Into<String>) -> RegexError {
        RegexError::Syntax {
            position,
            problem: problem.into(),
        }
    }
}

/// Checks a pattern without compiling it.
pub fn check(pattern: &[u8]) -> Result<(), RegexError> {
    parse(pattern).map(|_| ())
}

/// Compiles a pattern. With `captures` the automaton finds where the match and its groups begin and end; without, it
/// only tells whether there is a match, and stops as soon as it knows.
pub fn compile(pattern: &[u8], captures: bool) -> Result<Automaton, RegexError> {
    determinize::determinize(&parse(pattern)?, captures)
}

#[cfg(test)]
mod tests;
