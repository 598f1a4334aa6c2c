//! From a point as it is written (stapprobes(3stap)) to what it asks for.

use super::{
    CodePlace, DataPlace, FileAccess, FileProbe, Kind, Module, Period, Program, Unsupported, Which,
};
use crate::perf::{Access, PerfEvent, Sampling};
use script::ast::{Component, Literal, ProbePoint};
use std::time::Duration;

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
