//! What a probe point of the script asks for, taken apart: the families of stapprobes(3stap) that a session can run.

use crate::perf::{Access, PerfEvent};
use script::ast::{Literal, ProbePoint};
use std::time::Duration;

mod understanding;

pub use understanding::understand;

/// Which program a process probe is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// `process` without a path: the program of `-c` or `-x`.
    Target,
    /// `process(PID)`.
    Process(i32),
    /// `process("PATH")`.
    Path(String),
}

/// Where in a program's address space a point is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Module {
    /// The program.
    pub program: Program,
    /// `.library("GLOB")`: a shared library of it and not the program itself.
    pub library: Option<String>,
}

/// What stands in the parentheses of `.function(…)` and `.statement(…)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CodePlace {
    /// `"NAME@FILE:LINES"` as written (see [`crate::source_place`]).
    Named(String),
    /// An address in the file.
    Address(u64),
}

/// Which copies of a function a point means, or what inside of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// Itself and all inlined copies.
    All,
    /// `.call`: where it is called.
    Call,
    /// `.inline`: the inlined copies.
    Inline,
    /// `.exported`: itself, if other compilation units can call it.
    Exported,
    /// `.label("GLOB")`: labels in it.
    Label(String),
    /// `.callee("GLOB")`, `.callees` and `.callees(N)`: functions that it calls, when they are called from it, and what
    /// those call then.
    Callee {
        /// How many calls deep.
        depth: u64,
        /// The callee's name, with wildcards.
        name: String,
        /// `.call`: not those that were inlined into it.
        call: bool,
        /// `.inline`: only those.
        inline: bool,
    },
}

impl Which {
    /// As it stands behind the function.
    pub fn suffix(&self) -> String {
        match self {
            Which::All => String::new(),
            Which::Call => ".call".into(),
            Which::Inline => ".inline".into(),
            Which::Exported => ".exported".into(),
            Which::Label(name) => format!(".label(\"{name}\")"),
            Which::Callee { call: true, .. } => ".call".into(),
            Which::Callee { inline: true, .. } => ".inline".into(),
            Which::Callee { .. } => String::new(),
        }
    }
}

/// What stands in the parentheses of `data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataPlace {
    /// A variable of the program, or else of one of its libraries; as much of it as the processor can watch.
    Named(String),
    /// An address, in the program's file or in the process's memory, and how many bytes from there.
    Address(u64, u64),
}

/// A file of a `procfs` probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProbe {
    /// Its path below the session's directory.
    pub path: String,
    /// Permissions that are not given, as in umask(2).
    pub umask: u32,
    /// What is done to it.
    pub access: FileAccess,
}

/// What is done to the file of a `procfs` probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// `.read`, and `.maxsize(N)`: how much a reader gets at most.
    Read(Option<u32>),
    /// `.write`.
    Write,
}

/// A timer's schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Time between two hits.
    pub every: Duration,
    /// `.randomize(N)`: each hit is moved by up to this much either way.
    pub randomize: Duration,
}

/// A probe point, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `begin(N)`: when the session starts, lower numbers first.
    Begin(i64),
    /// `end(N)`: when it ends.
    End(i64),
    /// `error(N)`: when it ends after an error.
    Error(i64),
    /// `never`.
    Never,
    /// `monitor(N)`: what `--monitor` runs on request ([`script::monitor`]).
    Monitor(i64),
    /// `procfs("PATH").read` and `.write`: somebody reads a file, or writes to it.
    File(FileProbe),
    /// A byte has come from standard input; it is in the register of the first argument.
    Input,
    /// `timer.…`.
    Timer(Period),
    /// `perf.type(N).config(M)…` and `timer.profile`: while a process runs, as often as its event says.
    Perf {
        /// Whose threads.
        program: Program,
        /// What is counted, and how often it is looked.
        event: PerfEvent,
    },
    /// `process.data(…).write` and `.rw`: when a thread of a process touches some memory.
    Data {
        /// Whose threads.
        program: Program,
        /// Which memory.
        place: DataPlace,
        /// What they do to it.
        access: Access,
    },
    /// `process.begin`.
    ProcessBegin(Program),
    /// `process.end`.
    ProcessEnd(Program),
    /// `process.function(…)`.
    Function {
        /// Where.
        module: Module,
        /// Which function.
        place: CodePlace,
        /// Which of its copies, or what inside of it.
        which: Which,
        /// `.return`: when it returns.
        returns: bool,
    },
    /// `process.statement(…)`.
    Statement {
        /// Where.
        module: Module,
        /// Which instruction.
        place: CodePlace,
        /// `.nearest`: a line without code stands for the nearest that has some.
        nearest: bool,
    },
    /// `process.mark("GLOB")`.
    Mark {
        /// Where.
        module: Module,
        /// `.provider("GLOB")`.
        provider: Option<String>,
        /// The mark's name, with wildcards.
        name: String,
    },
    /// `process.plt("GLOB")`: before a call through the procedure linkage table leaves for a library.
    Plt {
        /// Where.
        module: Module,
        /// The function's name, with wildcards.
        name: String,
        /// `.return`: when it comes back.
        returns: bool,
    },
    /// `process.syscall` and `process.syscall.return`: wherever its code makes system calls.
    SystemCall {
        /// Whose.
        program: Program,
        /// `.return`: after it.
        returns: bool,
    },
    /// `process.thread.begin` and `process.thread.end`, in the thread itself.
    Thread {
        /// Whose.
        program: Program,
        /// `.end`.
        ends: bool,
    },
}

impl Kind {
    /// The module that the point is in; `None` for points that are in no code.
    pub fn module(&self) -> Option<&Module> {
        match self {
            Kind::Function { module, .. }
            | Kind::Statement { module, .. }
            | Kind::Mark { module, .. }
            | Kind::Plt { module, .. } => Some(module),
            _ => None,
        }
    }

    /// The program that the point is about.
    pub fn program(&self) -> Option<&Program> {
        match self {
            Kind::ProcessBegin(program)
            | Kind::ProcessEnd(program)
            | Kind::SystemCall { program, .. }
            | Kind::Thread { program, .. }
            | Kind::Perf { program, .. }
            | Kind::Data { program, .. } => Some(program),
            _ => self.module().map(|module| &module.program),
        }
    }

    /// The name of the program, or of the library, that the point is about: `process("NAME")`.
    pub fn path(&self) -> Option<&str> {
        match self.program()? {
            Program::Path(path) => Some(path),
            _ => None,
        }
    }

    /// True when the handler runs inside a probed process.
    pub fn is_in_process(&self) -> bool {
        self.module().is_some() || self.is_everywhere()
    }

    /// True when the points are in whatever code the process has.
    pub fn is_everywhere(&self) -> bool {
        matches!(self, Kind::SystemCall { .. } | Kind::Thread { .. })
    }

    /// Whether the points are in the program, or in its libraries.
    pub fn is_in(&self, library: bool) -> bool {
        self.is_everywhere()
            || self
                .module()
                .is_some_and(|module| module.library.is_some() == library)
    }

    /// True of what happens to a process as a whole: without a path it is about each process of `-c` or `-x` and all that
    /// come from it (stapprobes(3stap), "process").
    pub fn is_of_life(&self) -> bool {
        self.is_everywhere() || matches!(self, Kind::ProcessBegin(_) | Kind::ProcessEnd(_))
    }

    /// True when the session needs a process to run this.
    pub fn needs_process(&self) -> bool {
        self.is_in_process()
            || matches!(
                self,
                Kind::ProcessBegin(_) | Kind::ProcessEnd(_) | Kind::Perf { .. } | Kind::Data { .. }
            )
    }

    /// True of what the kernel notices, with the thread's registers: the handler runs in the tracer on its behalf. So does
    /// that of an input, with what was read in a register, and that of a file.
    pub fn is_sampled(&self) -> bool {
        matches!(
            self,
            Kind::Perf { .. } | Kind::Data { .. } | Kind::Input | Kind::File(_)
        )
    }
}

/// A component that this version does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("probe point component '{component}' is not supported")]
pub struct Unsupported {
    /// The component as written.
    pub component: String,
    /// Its place among the components, from 0.
    pub index: usize,
}

/// The point as stap writes it: `process("/bin/ls").function("main")`.
pub fn spell(point: &ProbePoint) -> String {
    let mut out = String::new();
    for component in &point.components {
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(&component.name.text);
        match &component.arg {
            Some(Literal::Number(n)) => out.push_str(&format!("({n})")),
            Some(Literal::String(s)) => {
                out.push_str(&format!("(\"{}\")", String::from_utf8_lossy(s)))
            }
            None => {}
        }
    }
    out
}

/// A point in a library of a program as one of the library alone, which is how stap shows it to handlers and in `-p2`.
pub fn of_module(point: &str) -> String {
    const LIBRARY: &str = ".library(";
    match point.find(LIBRARY) {
        Some(at) if point.starts_with("process") => {
            format!("process({}", &point[at + LIBRARY.len()..])
        }
        _ => point.to_string(),
    }
}
