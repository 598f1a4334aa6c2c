//! The families of probe points that stapprobes(3stap) documents, and which of them are served.

use std::sync::LazyLock;

use super::kernel_only;
use super::suggest::similar;
use crate::ast::{Component, Literal, ProbePoint};
use crate::span::Span;
use crate::unparse::point_to_string;

/// Where a family's handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the tracer: `begin`, `end`, `error`, timers.
    Session,
    /// In a probed process, where target variables may exist.
    Process,
}

/// What is wrong with a probe point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Message without place.
    pub message: String,
    /// The component at fault.
    pub span: Option<Span>,
}

/// Points after `process…` and `process….library(string)…`, with whether they are served.
const IN_PROCESS: &[(&str, bool)] = &[
    ("function(string)", true),
    ("function(string).call", true),
    ("function(string).return", true),
    ("function(string).inline", true),
    ("function(string).exported", true),
    ("function(string).exported.return", true),
    ("function(string).callees", true),
    ("function(string).callees(number)", true),
    ("function(string).callee(string)", true),
    ("function(string).callee(string).call", true),
    ("function(string).callee(string).return", true),
    ("function(string).callee(string).inline", true),
    ("function(string).label(string)", true),
    ("function(number)", true),
    ("function(number).call", true),
    ("function(number).return", true),
    ("function(number).inline", true),
    ("function(number).exported", true),
    ("statement(string)", true),
    ("statement(string).nearest", true),
    ("statement(number)", true),
    ("statement(number).nearest", true),
    ("statement(number).absolute", true),
    ("mark(string)", true),
    ("provider(string).mark(string)", true),
    ("plt", true),
    ("plt.return", true),
    ("plt(string)", true),
    ("plt(string).call", false),
    ("plt(string).return", true),
];

/// Points after `process…` only.
const OF_PROCESS: &[(&str, bool)] = &[
    ("begin", true),
    ("end", true),
    ("thread.begin", true),
    ("thread.end", true),
    ("syscall", true),
    ("syscall.return", true),
    ("insn", false),
    ("insn.block", false),
    ("data(number).write", true),
    ("data(number).rw", true),
    ("data(number).length(number).write", true),
    ("data(number).length(number).rw", true),
    ("data(string).write", true),
    ("data(string).rw", true),
];

/// Everything else.
const OTHERS: &[(&str, bool)] = &[
    ("begin", true),
    ("begin(number)", true),
    ("end", true),
    ("end(number)", true),
    ("error", true),
    ("error(number)", true),
    ("never", true),
    ("timer.s(number)", true),
    ("timer.sec(number)", true),
    ("timer.ms(number)", true),
    ("timer.msec(number)", true),
    ("timer.us(number)", true),
    ("timer.usec(number)", true),
    ("timer.ns(number)", true),
    ("timer.nsec(number)", true),
    ("timer.jiffies(number)", true),
    ("timer.s(number).randomize(number)", true),
    ("timer.sec(number).randomize(number)", true),
    ("timer.ms(number).randomize(number)", true),
    ("timer.msec(number).randomize(number)", true),
    ("timer.us(number).randomize(number)", true),
    ("timer.usec(number).randomize(number)", true),
    ("timer.ns(number).randomize(number)", true),
    ("timer.nsec(number).randomize(number)", true),
    ("timer.jiffies(number).randomize(number)", true),
    ("timer.hz(number)", true),
    ("timer.profile.tick", true),
    ("kernel.function(string)", false),
    ("kernel.function(number)", false),
    ("kernel.statement(string)", false),
    ("kernel.statement(number)", false),
    ("kernel.trace(string)", false),
    ("kernel.mark(string)", false),
    ("kernel.data(number)", false),
    ("kernel.data(string)", false),
    ("module(string).function(string)", false),
    ("module(string).function(number)", false),
    ("module(string).statement(string)", false),
    ("module(string).statement(number)", false),
    ("kprobe.function(string)", false),
    ("kprobe.module(string).function(string)", false),
    ("kprobe.statement(number)", false),
    ("perf.type(number).config(number)", true),
    ("perf.type(number).config(number).sample(number)", true),
    ("perf.type(number).config(number).hz(number)", true),
    ("perf.type(number).config(number).process", true),
    ("perf.type(number).config(number).process(string)", true),
    ("perf.type(number).config(number).counter(string)", true),
    (
        "perf.type(number).config(number).process.counter(string)",
        false,
    ),
    (
        "perf.type(number).config(number).process(string).counter(string)",
        true,
    ),
    ("procfs.read", true),
    ("procfs.read.maxsize(number)", true),
    ("procfs.umask(number).read", true),
    ("procfs.umask(number).read.maxsize(number)", true),
    ("procfs.umask(number).write", true),
    ("procfs.write", true),
    ("procfs(string).read", true),
    ("procfs(string).read.maxsize(number)", true),
    ("procfs(string).umask(number).read", true),
    ("procfs(string).umask(number).read.maxsize(number)", true),
    ("procfs(string).umask(number).write", true),
    ("procfs(string).write", true),
    // What `input.char` and `input.line` of the library stand on.
    ("__input", true),
    ("netfilter.hook(string).pf(string)", false),
    ("java(string).class(string).method(string)", false),
    ("java(number).class(string).method(string)", false),
    ("python2.module(string).function(string)", false),
    ("python3.module(string).function(string)", false),
];

/// Families that the kernel-side library of stap adds by alias: known by their first word, not served here.
const KERNEL_ALIASES: &[&str] = &[
    "syscall",
    "nd_syscall",
    "syscall_any",
    "vfs",
    "vm",
    "nfs",
    "nfsd",
    "scheduler",
    "signal",
    "socket",
    "tcp",
    "udp",
    "ioblock",
    "ioscheduler",
    "irq_handler",
    "softirq",
    "workqueue",
    "netdev",
    "kprocess",
    "lsm",
    "debuginfod",
    "rpc",
    "sunrpc",
    "tty",
    "generic",
    "ipmib",
    "linuxmib",
    "tcpmib",
    "ioblock_trace",
    "ioscheduler_trace",
    "scsi",
    "vfork",
    "memory",
    "llcpc",
];

/// The forms of probe points that are served, with `(number)` and `(string)` for arguments.
pub fn served() -> Vec<String> {
    let mut out: Vec<String> = OTHERS
        .iter()
        .filter(|(path, served)| *served && !path.starts_with("__"))
        .map(|(path, _)| (*path).to_string())
        .collect();
    for start in ["process", "process(string)", "process(number)"] {
        for (path, _) in IN_PROCESS.iter().filter(|(_, served)| *served) {
            out.push(format!("{start}.{path}"));
            out.push(format!("{start}.library(string).{path}"));
        }
        for (path, _) in OF_PROCESS.iter().filter(|(_, served)| *served) {
            out.push(format!("{start}.{path}"));
        }
    }
    out
}

/// A node of the tree of components.
#[derive(Default)]
struct Node {
    children: Vec<(Edge, Node)>,
    /// A point may end here; true when it is served.
    end: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Edge {
    word: &'static str,
    arg: Arg,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Arg {
    None,
    Number,
    String,
}

impl Edge {
    fn parse(text: &'static str) -> Edge {
        match text.split_once('(') {
            None => Edge {
                word: text,
                arg: Arg::None,
            },
            Some((word, "number)")) => Edge {
                word,
                arg: Arg::Number,
            },
            Some((word, _)) => Edge {
                word,
                arg: Arg::String,
            },
        }
    }

    fn accepts(&self, c: &Component) -> bool {
        let arg = match c.arg {
            None => Arg::None,
            Some(Literal::Number(_)) => Arg::Number,
            Some(Literal::String(_)) => Arg::String,
        };
        arg == self.arg && glob(&c.name.text, self.word)
    }
}

impl std::fmt::Display for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word)?;
        match self.arg {
            Arg::None => Ok(()),
            Arg::Number => f.write_str("(number)"),
            Arg::String => f.write_str("(string)"),
        }
    }
}

impl Node {
    fn add(&mut self, path: impl Iterator<Item = &'static str>, served: bool) {
        let mut node = self;
        for text in path {
            let edge = Edge::parse(text);
            let at = match node.children.iter().position(|(e, _)| *e == edge) {
                Some(at) => at,
                None => {
                    node.children.push((edge, Node::default()));
                    node.children.len() - 1
                }
            };
            node = &mut node.children[at].1;
        }
        node.end = Some(served);
    }
}

/// The tree in which a point that begins with that word is looked up.
fn tree(first: &str) -> &'static Node {
    static WHOLE: LazyLock<Node> = LazyLock::new(|| grown(true));
    static SMALL: LazyLock<Node> = LazyLock::new(|| grown(false));
    match first.starts_with('p') || first.contains(['*', '?']) {
        true => &WHOLE,
        false => &SMALL,
    }
}

/// The tree, with what is in processes, which is most of it, or only with the word for it.
fn grown(with_processes: bool) -> Node {
    let mut root = Node::default();
    for &(path, served) in OTHERS {
        root.add(path.split('.'), served);
    }
    if with_processes {
        for &(start, served) in &[
            ("process", true),
            ("process(string)", true),
            ("process(number)", true),
        ] {
            for &(path, s) in IN_PROCESS {
                root.add(std::iter::once(start).chain(path.split('.')), s && served);
                root.add(
                    [start, "library(string)"]
                        .into_iter()
                        .chain(path.split('.')),
                    s && served,
                );
            }
            for &(path, s) in OF_PROCESS {
                root.add(std::iter::once(start).chain(path.split('.')), s && served);
            }
        }
    } else {
        root.children
            .push((Edge::parse("process"), Node::default()));
    }
    root
}

/// Whether `pattern` with `*` and `?` wildcards covers `text`.
pub fn glob(pattern: &str, text: &str) -> bool {
    fn go(p: &[u8], t: &[u8]) -> bool {
        match p.split_first() {
            None => t.is_empty(),
            Some((b'*', rest)) => (0..=t.len()).any(|i| go(rest, &t[i..])),
            Some((b'?', rest)) => !t.is_empty() && go(rest, &t[1..]),
            Some((c, rest)) => t.first() == Some(c) && go(rest, &t[1..]),
        }
    }
    if !pattern.contains(['*', '?']) {
        return pattern == text;
    }
    go(pattern.as_bytes(), text.as_bytes())
}

/// The points that one with wildcards in its words stands for, those outside their ranges left out.
pub fn concrete(point: &ProbePoint) -> Vec<(ProbePoint, Place)> {
    let wild = |c: &Component| c.name.text.contains(['*', '?']);
    let Some(first) = point.components.first() else {
        return Vec::new();
    };
    if !point.components.iter().any(wild) {
        return Vec::new();
    }
    fn go(
        node: &Node,
        rest: &[Component],
        so_far: &mut Vec<Component>,
        out: &mut Vec<Vec<Component>>,
    ) {
        let Some((component, rest)) = rest.split_first() else {
            if node.end == Some(true) {
                out.push(so_far.clone());
            }
            return;
        };
        for (edge, next) in node.children.iter().filter(|(e, _)| e.accepts(component)) {
            let mut named = component.clone();
            named.name.text = edge.word.to_string();
            so_far.push(named);
            go(next, rest, so_far, out);
            so_far.pop();
        }
    }
    let root = tree(&first.name.text);
    let mut paths = Vec::new();
    go(root, &point.components, &mut Vec::new(), &mut paths);
    let mut points: Vec<(ProbePoint, Place)> = paths
        .into_iter()
        .map(|components| ProbePoint {
            components,
            ..point.clone()
        })
        .filter_map(|p| validate(&p, []).ok().map(|place| (p, place)))
        .collect();
    points.sort_by_key(|(p, _)| point_to_string(p));
    points
}

/// Checks the path and the size of a `procfs` point.
fn check_file(point: &ProbePoint, first: &Component) -> Result<(), Mismatch> {
    let wrong = |message| Err(mismatch(message, Some(first.name.span)));
    if let Some(Literal::String(path)) = &first.arg {
        let mut parts = path.split(|&b| b == b'/');
        if path.first() == Some(&b'/') {
            return wrong("procfs path cannot start with a '/'");
        }
        if path.is_empty() || path.last() == Some(&b'/') {
            return wrong("procfs path cannot end with a '/'");
        }
        if parts.any(|part| matches!(part, b"." | b"..")) {
            return wrong("procfs path cannot be relative (and contain '.' or '..')");
        }
    }
    let mut sizes = point.components.iter().filter(|c| c.name.text == "maxsize");
    if sizes.any(|c| matches!(c.arg, Some(Literal::Number(n)) if n < 1)) {
        return Err(mismatch("maxsize must be greater than 0", None));
    }
    Ok(())
}

/// Checks a point without aliases. `aliases` are the first words of known aliases, for suggestions.
pub fn validate<'a>(
    point: &ProbePoint,
    aliases: impl IntoIterator<Item = &'a str>,
) -> Result<Place, Mismatch> {
    let Some(first) = point.components.first() else {
        return Err(mismatch("probe point truncated", None));
    };
    let root = tree(&first.name.text);
    let mut node = root;
    for (depth, c) in point.components.iter().enumerate() {
        let next = node.children.iter().find(|(e, _)| e.accepts(c));
        let Some((_, next)) = next else {
            if depth == 0 && KERNEL_ALIASES.contains(&first.name.text.as_str()) {
                return Err(unsupported(point, first.name.span));
            }
            if node.end.is_some() && !first.name.text.contains(['*', '?']) {
                return Err(mismatch("invalid suffix for probe", Some(c.name.span)));
            }
            if let Some(wild) = point.components[..=depth]
                .iter()
                .find(|c| c.name.text.contains(['*', '?']))
            {
                let message = "probe point mismatch: didn't find any wildcard matches";
                return Err(mismatch(message, Some(wild.name.span)));
            }
            let words = node.children.iter().map(|(e, _)| e.word);
            let hint = if depth == 0 {
                similar(&c.name.text, words.chain(aliases))
            } else {
                similar(&c.name.text, words)
            };
            return Err(mismatch(
                &format!("probe point mismatch{hint}"),
                Some(c.name.span),
            ));
        };
        node = next;
    }
    match node.end {
        Some(true) => {}
        Some(false) => return Err(unserved(point)),
        None => {
            let mut follow: Vec<String> =
                node.children.iter().map(|(e, _)| e.to_string()).collect();
            follow.sort();
            return Err(mismatch(
                &format!("probe point truncated (follow:  {})", follow.join(" ")),
                point.components.last().map(|c| c.name.span),
            ));
        }
    }
    if first.name.text == "timer" {
        check_timer(point)?;
    }
    if first.name.text == "procfs" {
        check_file(point, first)?;
    }
    Ok(if first.name.text == "process" {
        Place::Process
    } else {
        Place::Session
    })
}

/// The error for a known point that is not served: it names and underlines the first word that is the reason.
fn unserved(point: &ProbePoint) -> Mismatch {
    let word = |i: usize| point.components[i].name.text.as_str();
    let culprit = match word(0) {
        "process" => (1..point.components.len())
            .find(|&i| !matches!(word(i), "library" | "function" | "provider" | "mark"))
            .unwrap_or(1),
        "timer" => 1,
        _ => 0,
    };
    unsupported(point, point.components[culprit].name.span)
}

fn unsupported(point: &ProbePoint, span: Span) -> Mismatch {
    Mismatch {
        message: unsupported_message(point),
        span: Some(span),
    }
}

/// That a known point is not served, and why.
pub fn unsupported_message(point: &ProbePoint) -> String {
    let reason = (point.components.first()).map_or("", |c| kernel_only::point_reason(&c.name.text));
    let point = point_to_string(&ProbePoint {
        optional: false,
        sufficient: false,
        condition: None,
        ..point.clone()
    });
    format!("probe point '{point}' is not supported: {reason}")
}

/// The name of the counter that a point sets up, `perf.….counter("NAME")`.
pub fn counter(point: &ProbePoint) -> Option<&[u8]> {
    let (first, last) = (point.components.first()?, point.components.last()?);
    match &last.arg {
        Some(Literal::String(name)) if first.name.text == "perf" && last.name.text == "counter" => {
            Some(name)
        }
        _ => None,
    }
}

fn mismatch(message: &str, span: Option<Span>) -> Mismatch {
    Mismatch {
        message: message.to_string(),
        span,
    }
}

fn out_of_range(least: i64, most: i64) -> Mismatch {
    mismatch(
        &format!("interval value out of range ({least}, {most})"),
        None,
    )
}

/// Ranges of timers, with stap's messages.
fn check_timer(point: &ProbePoint) -> Result<(), Mismatch> {
    let number = |i: usize| match point.components.get(i).and_then(|c| c.arg.as_ref()) {
        Some(Literal::Number(n)) => Some(*n),
        _ => None,
    };
    let (Some(unit), Some(interval)) = (point.components.get(1), number(1)) else {
        return Ok(());
    };
    let range = match unit.name.text.as_str() {
        "hz" => {
            return match interval {
                1..=10_000 => Ok(()),
                10_001.. => Err(out_of_range(100_000, 86_400_000_000_000)),
                _ => Err(mismatch("frequency must be greater than 0", None)),
            };
        }
        "jiffies" => {
            let wrong = match number(2) {
                _ if !(1..=1_000_000).contains(&interval) => "interval",
                Some(r) if !(0..=interval).contains(&r) => "randomize",
                _ => return Ok(()),
            };
            let message = format!("invalid {wrong} for jiffies timer");
            return Err(mismatch(&message, None));
        }
        "s" | "sec" => (1, 86_400),
        "ms" | "msec" => (1, 86_400_000),
        "us" | "usec" => (100, 86_400_000_000),
        _ => (100_000, 86_400_000_000_000),
    };
    let (least, most) = range;
    if !(least..=most).contains(&interval) {
        return Err(out_of_range(least, most));
    }
    match number(2) {
        Some(r) if !(0..=interval).contains(&r) => {
            Err(mismatch("randomization value out of range", None))
        }
        _ => Ok(()),
    }
}
