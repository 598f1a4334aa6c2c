//! What a probe point of the script asks for, taken apart: the families of stapprobes(3stap) that a session can run.

use crate::perf::{Access, PerfEvent, Sampling};
use script::ast::{Component, Literal, ProbePoint};
use std::time::Duration;

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

/// Jiffies of a kernel with the usual CONFIG_HZ=250.
const JIFFY: Duration = Duration::from_millis(4);

fn number(component: &Component) -> Option<i64> {
    match component.arg {
        Some(Literal::Number(n)) => Some(n),
        _ => None,
    }
}

fn text(component: &Component) -> Option<String> {
    match &component.arg {
        Some(Literal::String(s)) => Some(String::from_utf8_lossy(s).into_owned()),
        _ => None,
    }
}

/// Takes a point (aliases expanded) apart.
pub fn understand(point: &ProbePoint) -> Result<Kind, Unsupported> {
    let components = &point.components;
    let word = |i: usize| {
        components
            .get(i)
            .map_or("", |c: &Component| c.name.text.as_str())
    };
    let unsupported = |i: usize| Unsupported {
        component: word(i.min(components.len().saturating_sub(1))).to_string(),
        index: i,
    };
    let only = |length: usize, kind: Kind| {
        if components.len() == length {
            Ok(kind)
        } else {
            Err(unsupported(length))
        }
    };
    let Some(first) = components.first() else {
        return Err(unsupported(0));
    };
    let order = number(first).unwrap_or(0);
    match word(0) {
        "begin" => only(1, Kind::Begin(order)),
        "end" => only(1, Kind::End(order)),
        "error" => only(1, Kind::Error(order)),
        "never" => only(1, Kind::Never),
        "monitor" => only(1, Kind::Monitor(order)),
        "__input" => only(1, Kind::Input),
        "timer" if word(1) == "profile" => profile(components).ok_or_else(|| unsupported(1)),
        "timer" => timer(components).ok_or_else(|| unsupported(1)),
        "perf" => perf(components).map_err(unsupported),
        "procfs" => file(components).map_err(unsupported),
        "process" => process(components).map_err(unsupported),
        _ => Err(unsupported(0)),
    }
}

/// `timer.profile.tick`: the processor's clock, every millisecond, as `timer.profile` has it where the kernel offers
/// no other (stapprobes(3stap)).
fn profile(components: &[Component]) -> Option<Kind> {
    let tick = components.get(2)?;
    (components.len() == 3 && tick.name.text == "tick" && tick.arg.is_none()).then_some(
        Kind::Perf {
            program: Program::Target,
            event: PerfEvent {
                kind: 1,
                config: 0,
                sampling: Sampling::Every(DEFAULT_PERIOD),
            },
        },
    )
}

/// Without `.sample` and `.hz` (stapprobes(3stap), PERF).
const DEFAULT_PERIOD: u64 = 1_000_000;

/// `perf.type(N).config(M)` with `.sample(P)`, `.hz(F)` or `.process("PATH")`. `Err` is the index of the component that is
/// not understood.
fn perf(components: &[Component]) -> Result<Kind, usize> {
    let numbered = |i: usize, name: &str| {
        components
            .get(i)
            .filter(|c| c.name.text == name)
            .and_then(number)
            .ok_or(i)
    };
    let kind = u32::try_from(numbered(1, "type")?).map_err(|_| 1usize)?;
    let config = numbered(2, "config")? as u64;
    let mut program = Program::Target;
    let mut sampling = Sampling::Every(DEFAULT_PERIOD);
    if let Some(last) = components.get(3) {
        let count = number(last).and_then(|n| u64::try_from(n).ok());
        match (last.name.text.as_str(), count.filter(|&n| n > 0)) {
            ("sample", Some(count)) => sampling = Sampling::Every(count),
            ("hz", Some(count)) => sampling = Sampling::Hertz(count),
            ("process", None) => program = text(last).map_or(Program::Target, Program::Path),
            _ => return Err(3),
        }
    }
    if components.len() > 4 {
        return Err(4);
    }
    Ok(Kind::Perf {
        program,
        event: PerfEvent {
            kind,
            config,
            sampling,
        },
    })
}

/// What `procfs` without a path means (stapprobes(3stap), PROCFS).
const DEFAULT_PATH: &str = "command";
/// Only the owner may do anything, unless `.umask(N)` says otherwise.
const DEFAULT_UMASK: u32 = 0o077;

/// `procfs("PATH").umask(N).read.maxsize(N)` and `.write`. `Err` is the index of the component that is not understood.
fn file(components: &[Component]) -> Result<Kind, usize> {
    let path = components.first().and_then(text);
    let mut file = FileProbe {
        path: path.unwrap_or_else(|| DEFAULT_PATH.into()),
        umask: DEFAULT_UMASK,
        access: FileAccess::Write,
    };
    let is_below = std::path::Path::new(&file.path)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !is_below || file.path.is_empty() {
        return Err(0);
    }
    let mut done = false;
    for (i, component) in components.iter().enumerate().skip(1) {
        let count = number(component).and_then(|n| u32::try_from(n).ok());
        match (component.name.text.as_str(), count, done) {
            ("umask", Some(mask), false) => file.umask = mask & 0o777,
            ("read", None, false) => {
                file.access = FileAccess::Read(None);
                done = true;
            }
            ("write", None, false) => done = true,
            ("maxsize", Some(most), true) if file.access == FileAccess::Read(None) => {
                file.access = FileAccess::Read(Some(most));
            }
            _ => return Err(i),
        }
    }
    match done {
        true => Ok(Kind::File(file)),
        false => Err(components.len()),
    }
}

fn timer(components: &[Component]) -> Option<Kind> {
    let unit = components.get(1)?;
    let count = u64::try_from(number(unit)?).ok().filter(|&n| n > 0)?;
    let (every, step) = match unit.name.text.as_str() {
        "s" | "sec" => (Duration::from_secs(count), Duration::from_secs(1)),
        "ms" | "msec" => (Duration::from_millis(count), Duration::from_millis(1)),
        "us" | "usec" => (Duration::from_micros(count), Duration::from_micros(1)),
        "ns" | "nsec" => (Duration::from_nanos(count), Duration::from_nanos(1)),
        "hz" => (
            Duration::from_nanos((1_000_000_000 / count).max(1)),
            Duration::ZERO,
        ),
        "jiffies" => (JIFFY.saturating_mul(u32::try_from(count).ok()?), JIFFY),
        _ => return None,
    };
    let randomize = match components.get(2) {
        None => Duration::ZERO,
        Some(c) if c.name.text == "randomize" && components.len() == 3 => {
            step.saturating_mul(u32::try_from(number(c)?).ok()?)
        }
        Some(_) => return None,
    };
    Some(Kind::Timer(Period { every, randomize }))
}

/// `process….data(WHAT)`, `.length(N)` if it is an address, and `.write` or `.rw`. Lengths are made those of the processor
/// (stapprobes(3stap), HARDWARE BREAKPOINTS); without one it is a byte.
fn data(program: Program, components: &[Component]) -> Result<Kind, usize> {
    let mut next = 2;
    let mut length = None;
    if let Some(component) = components.get(next).filter(|c| c.name.text == "length") {
        length = Some(number(component).filter(|&n| n > 0).ok_or(next)? as u64);
        next += 1;
    }
    let place = match components.get(1).and_then(|c| c.arg.as_ref()) {
        Some(Literal::Number(address)) => {
            DataPlace::Address(address.cast_unsigned(), length.unwrap_or(1))
        }
        Some(Literal::String(name)) if length.is_none() => {
            DataPlace::Named(String::from_utf8_lossy(name).into_owned())
        }
        _ => return Err(1),
    };
    let access = match components.get(next).map(|c| c.name.text.as_str()) {
        Some("write") => Access::Write,
        Some("rw") => Access::ReadWrite,
        _ => return Err(next),
    };
    match components.get(next + 1) {
        Some(_) => Err(next + 1),
        None => Ok(Kind::Data {
            program,
            place,
            access,
        }),
    }
}

/// What stands in the parentheses of `function` and `statement`.
fn code_place(component: &Component) -> Option<CodePlace> {
    match &component.arg {
        Some(Literal::Number(address)) => Some(CodePlace::Address(address.cast_unsigned())),
        Some(Literal::String(_)) => text(component).map(CodePlace::Named),
        None => None,
    }
}

/// `Err` is the index of the component that is not understood.
fn process(components: &[Component]) -> Result<Kind, usize> {
    let program = match &components[0].arg {
        Some(Literal::Number(pid)) => Program::Process(i32::try_from(*pid).map_err(|_| 0usize)?),
        _ => text(&components[0]).map_or(Program::Target, Program::Path),
    };
    let mut module = Module {
        program,
        library: None,
    };
    let mut provider = None;
    let mut thread = false;
    let mut kind: Option<Kind> = None;
    for (i, component) in components.iter().enumerate().skip(1) {
        let argument = text(component);
        kind = Some(
            match (component.name.text.as_str(), argument, kind.take()) {
                ("library", Some(glob), None) if module.library.is_none() => {
                    module.library = Some(glob);
                    continue;
                }
                ("provider", Some(glob), None) if provider.is_none() => {
                    provider = Some(glob);
                    continue;
                }
                ("begin", None, None) if i == 1 && component.arg.is_none() => {
                    Kind::ProcessBegin(module.program.clone())
                }
                ("end", None, None) if i == 1 && component.arg.is_none() => {
                    Kind::ProcessEnd(module.program.clone())
                }
                ("syscall", None, None) if i == 1 && component.arg.is_none() => Kind::SystemCall {
                    program: module.program.clone(),
                    returns: false,
                },
                ("data", _, None) if i == 1 => return data(module.program, components),
                (
                    "return",
                    None,
                    Some(Kind::SystemCall {
                        program,
                        returns: false,
                    }),
                ) if component.arg.is_none() => Kind::SystemCall {
                    program,
                    returns: true,
                },
                ("thread", None, None) if i == 1 && component.arg.is_none() => {
                    thread = true;
                    continue;
                }
                (word @ ("begin" | "end"), None, None)
                    if i == 2 && thread && component.arg.is_none() =>
                {
                    thread = false;
                    Kind::Thread {
                        program: module.program.clone(),
                        ends: word == "end",
                    }
                }
                ("plt", name, None) if name.is_some() || component.arg.is_none() => Kind::Plt {
                    module: module.clone(),
                    name: name.unwrap_or_else(|| "*".to_owned()),
                    returns: false,
                },
                (
                    "return",
                    None,
                    Some(Kind::Plt {
                        module,
                        name,
                        returns: false,
                    }),
                ) if component.arg.is_none() => Kind::Plt {
                    module,
                    name,
                    returns: true,
                },
                ("mark", Some(name), None) => Kind::Mark {
                    module: module.clone(),
                    provider: provider.take(),
                    name,
                },
                ("function", _, None) => Kind::Function {
                    module: module.clone(),
                    place: code_place(component).ok_or(i)?,
                    which: Which::All,
                    returns: false,
                },
                ("statement", _, None) => Kind::Statement {
                    module: module.clone(),
                    place: code_place(component).ok_or(i)?,
                    nearest: false,
                },
                (
                    "nearest",
                    None,
                    Some(Kind::Statement {
                        module,
                        place,
                        nearest: false,
                    }),
                ) if component.arg.is_none() => Kind::Statement {
                    module,
                    place,
                    nearest: true,
                },
                // Addresses are the file's own, wherever it is loaded.
                ("absolute", None, Some(statement @ Kind::Statement { nearest: false, .. }))
                    if component.arg.is_none() =>
                {
                    statement
                }
                (
                    "return",
                    None,
                    Some(Kind::Function {
                        module,
                        place,
                        which:
                            which @ (Which::All | Which::Exported | Which::Callee { inline: false, .. }),
                        returns: false,
                    }),
                ) if component.arg.is_none() => Kind::Function {
                    module,
                    place,
                    which,
                    returns: true,
                },
                (
                    word @ ("call" | "inline"),
                    None,
                    Some(Kind::Function {
                        module,
                        place,
                        which:
                            Which::Callee {
                                depth,
                                name,
                                call: false,
                                inline: false,
                            },
                        returns: false,
                    }),
                ) if component.arg.is_none() => Kind::Function {
                    module,
                    place,
                    which: Which::Callee {
                        depth,
                        name,
                        call: word == "call",
                        inline: word == "inline",
                    },
                    returns: false,
                },
                (
                    word,
                    argument,
                    Some(Kind::Function {
                        module,
                        place,
                        which: Which::All,
                        returns: false,
                    }),
                ) => Kind::Function {
                    module,
                    place,
                    which: match (word, argument, &component.arg) {
                        ("call", None, None) => Which::Call,
                        ("inline", None, None) => Which::Inline,
                        ("exported", None, None) => Which::Exported,
                        ("label", Some(glob), _) => Which::Label(glob),
                        ("callee", Some(name), _) => Which::Callee {
                            depth: 1,
                            name,
                            call: false,
                            inline: false,
                        },
                        ("callees", None, argument) => Which::Callee {
                            depth: match (argument, number(component).map(u64::try_from)) {
                                (None, _) => 1,
                                (Some(_), Some(Ok(depth))) => depth,
                                _ => return Err(i),
                            },
                            name: "*".into(),
                            call: false,
                            inline: false,
                        },
                        _ => return Err(i),
                    },
                    returns: false,
                },
                _ => return Err(i),
            },
        );
    }
    match kind {
        Some(kind) if provider.is_none() && !thread => Ok(kind),
        _ => Err(components.len() - 1),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use script::ast::Name;
    use script::span::Span;

    fn point(parts: &[(&str, Option<Literal>)]) -> ProbePoint {
        let components = parts
            .iter()
            .map(|(name, arg)| Component {
                name: Name {
                    text: (*name).to_string(),
                    span: Span::default(),
                },
                arg: arg.clone(),
                arg_span: Span::default(),
            })
            .collect();
        ProbePoint {
            components,
            optional: false,
            sufficient: false,
            condition: None,
            span: Span::default(),
        }
    }

    fn s(text: &str) -> Option<Literal> {
        Some(Literal::String(text.into()))
    }

    #[test]
    fn timers_have_stapprobes_units() {
        let of = |unit: &str, n: i64| {
            understand(&point(&[("timer", None), (unit, Some(Literal::Number(n)))]))
        };
        let every = |d| {
            Ok(Kind::Timer(Period {
                every: d,
                randomize: Duration::ZERO,
            }))
        };
        assert_eq!(of("s", 2), every(Duration::from_secs(2)));
        assert_eq!(of("msec", 2), every(Duration::from_millis(2)));
        assert_eq!(of("hz", 100), every(Duration::from_millis(10)));
        assert!(of("fortnight", 1).is_err());
        assert!(of("s", 0).is_err());
    }

    #[test]
    fn marks_and_functions_in_libraries() {
        let kind = understand(&point(&[
            ("process", s("/bin/x")),
            ("library", s("*c++*")),
            ("mark", s("throw")),
        ]));
        let module = Module {
            program: Program::Path("/bin/x".into()),
            library: Some("*c++*".into()),
        };
        assert_eq!(
            kind,
            Ok(Kind::Mark {
                module,
                provider: None,
                name: "throw".into()
            })
        );
    }

    #[test]
    fn what_is_not_run_yet_is_named() {
        let error = understand(&point(&[
            ("process", None),
            ("function", s("f")),
            ("inline", None),
            ("return", None),
        ]))
        .unwrap_err();
        assert_eq!((error.component.as_str(), error.index), ("return", 3));
    }
}
