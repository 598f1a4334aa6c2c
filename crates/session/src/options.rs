//! What a session is asked to do.

use codegen::Limits;
use script::colors::Colors;
use script::diagnostic::Diagnostic;
use std::path::PathBuf;
use std::time::Duration;

/// The process that a session is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// None: begin, end and timer probes only.
    None,
    /// `-c`: the words of a command.
    Command(Vec<Vec<u8>>),
    /// `-x`: a running process.
    Process(i32),
}

/// How `-l` and `-L` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListStyle {
    /// `-l`: probe points.
    Points,
    /// `-L`: probe points with their variables.
    Variables,
}

/// A session's options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limits set by `-D`.
    pub limits: Limits,
    /// The process to run or to attach to.
    pub target: Target,
    /// `-o`.
    pub output: Option<PathBuf>,
    /// `-S`: files of so many MiB, and how many of them to keep.
    pub rotate: Option<(u64, Option<u32>)>,
    /// `-T`.
    pub timeout: Option<Duration>,
    /// Number of `-v`.
    pub verbose: u8,
    /// False with `-w`.
    pub warnings: bool,
    /// Colour diagnostics.
    pub color: Colors,
    /// The last pass to run, 1 to 5.
    pub pass: u8,
    /// `--suppress-handler-errors`: handlers that fail are skipped, and nothing is said.
    pub suppress_errors: bool,
    /// `--monitor`: the time between two looks at globals and probes.
    pub monitor: Option<Duration>,
    /// `-m`: the session's name, where files of `procfs` probes are.
    pub module: Option<String>,
    /// `-l` or `-L`: list instead of running.
    pub list: Option<ListStyle>,
    /// Warnings that are of interest only when all points are found; those without a place always are.
    pub notes: Vec<Diagnostic>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            limits: Limits::default(),
            target: Target::None,
            output: None,
            rotate: None,
            timeout: None,
            verbose: 0,
            warnings: true,
            color: Colors::default(),
            pass: 5,
            suppress_errors: false,
            monitor: None,
            module: None,
            list: None,
            notes: Vec::new(),
        }
    }
}
