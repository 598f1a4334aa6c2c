//! What `stap -p2` prints: the globals, functions and probes that are left, with their inferred types.

use std::fmt::Write;

use super::hir::{self, Body, Code, Program, Ty};
use super::listing::{self, Listing};
use crate::ast::{EmbeddedCode, Expr, ProbePoint};
use crate::span::{SourceMap, Span};
use crate::unparse::{expr_to_string, literal_to_string, point_to_string};

/// The elaborated program in words.
#[derive(Clone, Debug, Default)]
pub struct Elaborated {
    /// In words, and the initial values, which are shown with handlers.
    globals: Vec<(String, String)>,
    functions: Vec<ElaboratedFunction>,
    probes: Vec<ElaboratedProbe>,
    /// Locals and handler of the probes that show globals at the end.
    displays: Vec<(Vec<String>, String)>,
    embedded: Vec<String>,
    conditions: bool,
}

/// A function in words.
#[derive(Clone, Debug)]
struct ElaboratedFunction {
    signature: String,
    locals: Vec<String>,
    body: String,
}

/// A probe point in words.
#[derive(Clone, Debug)]
pub struct ElaboratedProbe {
    /// The point, aliases gone.
    pub point: ProbePoint,
    /// `?` or `!`, as the script or the innermost alias has it.
    marks: &'static str,
    /// ` if (…)`, with the conditions of all levels; empty without one.
    pub condition: String,
    /// ` <- …` for every level.
    pub origin: String,
    /// `name:type` of each local.
    pub locals: Vec<String>,
    /// The handler, as far as it is left.
    pub body: String,
    /// The `probe` that it was written in.
    statement: Span,
}

impl Elaborated {
    pub(super) fn of(
        hir: &Program,
        embedded: &[EmbeddedCode],
        sources: Option<&SourceMap>,
    ) -> Elaborated {
        let listing = sources.map(|sources| Listing::new(hir, sources));
        let listing = listing.as_ref();
        let mut out = Elaborated {
            embedded: embedded.iter().map(|c| c.code.clone()).collect(),
            ..Elaborated::default()
        };
        for g in hir.globals.iter().filter(|g| g.read || g.written) {
            let mut text = g.name.clone();
            if g.wrap {
                text.push('%');
            }
            if let Some(n) = g.size {
                let _ = write!(text, "[{n}]");
            }
            let _ = write!(text, ":{}", g.value.ty.name());
            if !g.keys.is_empty() {
                let keys: Vec<&str> = g.keys.iter().map(|k| k.ty.name()).collect();
                let _ = write!(text, " [{}]", keys.join(", "));
            }
            let initial = g.init.as_ref().map(literal_to_string);
            let initial = initial.map_or_else(String::new, |value| format!(" = {value}"));
            out.globals.push((text, initial));
            if g.auto_display {
                let inner = listing.map(|l| l.global(g));
                out.displays.push((
                    display_locals(g),
                    listing::display(g, &inner.unwrap_or_default()),
                ));
            }
        }
        let mut functions: Vec<_> = (hir.functions.iter())
            .filter(|f| f.live && !f.name.is_empty())
            .collect();
        // Of the same name those of the library come first.
        functions.sort_by_key(|f| {
            let own = !hir.pulled.contains(&f.span.file);
            (f.private, f.name.clone(), own, f.span.file.0, f.span.start)
        });
        for f in functions {
            let body = f.body();
            let params: Vec<String> = body.locals.iter().take(f.params).map(typed).collect();
            let text = format!("{}:{} ({})", f.name, f.result.ty.name(), params.join(", "));
            let locals = match &f.code {
                Code::Script(body) => live_locals(body, f.params),
                Code::Intrinsic(..) | Code::Embedded(..) => Vec::new(),
            };
            out.functions.push(ElaboratedFunction {
                signature: text,
                locals,
                body: listing.map(|l| l.function(f)).unwrap_or_default(),
            });
        }
        for p in &hir.probes {
            for point in &p.points {
                out.conditions |= condition(&point.conditions).contains("__global_");
                out.probes.push(ElaboratedProbe {
                    statement: p.span,
                    point: point.point.clone(),
                    marks: marks(point),
                    condition: condition(&point.conditions),
                    origin: origin(p, point),
                    locals: live_locals(&p.body, 0),
                    body: listing
                        .map(|l| l.body(&p.body, point.condition.as_ref()))
                        .unwrap_or_default(),
                });
            }
        }
        out
    }

    /// How many probes, functions, pieces of embedded code outside functions, and globals there are.
    pub fn counts(&self) -> [usize; 4] {
        [
            self.probes.len() + self.displays.len() + usize::from(self.conditions),
            self.functions.len(),
            self.embedded.len(),
            self.globals.len(),
        ]
    }

    /// The probe points, in order.
    pub fn probes(&self) -> &[ElaboratedProbe] {
        &self.probes
    }

    /// The text of `-p2`, with `bodies` that of `-p2 -v`. `resolve` gives the places that a point stands for, as they
    /// are to be shown; a point that needs no resolution is shown as it is when `resolve` returns `None`.
    pub fn print(
        &self,
        bodies: bool,
        mut resolve: impl FnMut(&ProbePoint) -> Option<Vec<String>>,
    ) -> String {
        let write_body = |out: &mut String, body: &str| {
            if bodies {
                let _ = writeln!(out, "{body}");
            }
        };
        let mut out = String::new();
        if !self.embedded.is_empty() {
            out.push_str("# global embedded code\n");
            for code in &self.embedded {
                let _ = writeln!(out, "%{{{code}%}}");
            }
        }
        if !self.globals.is_empty() {
            out.push_str("# globals\n");
            for (text, initial) in &self.globals {
                let initial = if bodies { initial.as_str() } else { "" };
                let _ = writeln!(out, "{text}{initial}");
            }
        }
        if !self.functions.is_empty() {
            out.push_str("# functions\n");
            for f in &self.functions {
                let _ = writeln!(out, "{}", f.signature);
                write_locals(&mut out, &f.locals);
                write_body(&mut out, &f.body);
            }
        }
        out.push_str("# probes\n");
        let mut satisfied = None;
        for p in &self.probes {
            if satisfied == Some(p.statement) {
                continue;
            }
            let bare = ProbePoint {
                condition: None,
                ..p.point.clone()
            };
            let plain = ProbePoint {
                optional: false,
                sufficient: false,
                ..bare.clone()
            };
            let shown = resolve(&bare).unwrap_or_else(|| vec![point_to_string(&plain)]);
            if p.point.sufficient && !shown.is_empty() {
                satisfied = Some(p.statement);
            }
            for place in shown {
                let _ = writeln!(out, "{place}{}{} /*{} */", p.marks, p.condition, p.origin);
                write_locals(&mut out, &p.locals);
                write_body(&mut out, &p.body);
            }
        }
        if self.conditions {
            // stap makes a probe of its own for the conditions' first values.
            out.push_str("begin /* <- begin */\n");
            write_body(&mut out, "{ ; }");
        }
        for (locals, body) in &self.displays {
            out.push_str("end /* <- end */\n");
            write_locals(&mut out, locals);
            write_body(&mut out, body);
        }
        out
    }
}

impl Elaborated {
    /// Leaves out the probes that show globals at the end (`--no-global-var-display`).
    pub fn hide_globals(&mut self) {
        self.displays.clear();
    }
}

/// The marks behind a point. One that a user put behind an alias is not shown behind what the alias stands for.
fn marks(point: &hir::Point) -> &'static str {
    let own = |p: &ProbePoint| match (p.optional, p.sufficient) {
        (true, _) => "?",
        (_, true) => "!",
        _ => "",
    };
    match point.via.last() {
        None => own(&point.point),
        Some(alias) => {
            let mut named = alias.points.iter();
            let named = named.find(|p| point.point.components.starts_with(&p.components));
            named.map_or("", own)
        }
    }
}

fn write_locals(out: &mut String, locals: &[String]) {
    if locals.is_empty() {
        return;
    }
    out.push_str("  # locals\n");
    for l in locals {
        let _ = writeln!(out, "  {l}");
    }
}

fn typed(l: &hir::Local) -> String {
    format!("{}:{}", l.name, l.slot.ty.name())
}

fn live_locals(body: &Body, params: usize) -> Vec<String> {
    let live = body.locals.iter().skip(params).filter(|l| l.live);
    live.map(typed).collect()
}

/// The locals of the probe that stap makes to show a global at the end.
fn display_locals(g: &hir::Global) -> Vec<String> {
    let mut locals: Vec<String> = g
        .keys
        .iter()
        .enumerate()
        .map(|(i, k)| format!("__idx{i}:{}", k.ty.name()))
        .collect();
    if !g.keys.is_empty() && g.value.ty != Ty::Stats {
        locals.push(format!("__val:{}", g.value.ty.name()));
    }
    locals
}

/// ` if (…)` as stap shows it: joined by `&&`, the globals by their inner names.
fn condition(list: &[impl std::borrow::Borrow<Expr>]) -> String {
    let mut all = String::new();
    // The innermost comes first.
    for c in list.iter().rev() {
        let text = inner_names(&expr_to_string(c.borrow()));
        all = match all.is_empty() {
            true => text,
            false => format!("({all}) && ({text})"),
        };
    }
    match all.is_empty() {
        true => all,
        false => format!(" if ({all})"),
    }
}

/// The text of a condition, in which all names are those of globals, with `__global_` before each.
fn inner_names(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = |rest: &str| {
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len())
        };
        let length = match c {
            '"' => {
                let mut escaped = false;
                rest.char_indices()
                    .skip(1)
                    .find(|&(_, c)| {
                        let end = c == '"' && !escaped;
                        escaped = c == '\\' && !escaped;
                        end
                    })
                    .map_or(rest.len(), |(i, _)| i + 1)
            }
            '@' => 1 + word(&rest[1..]),
            '0'..='9' => word(rest),
            _ if c.is_ascii_alphabetic() || c == '_' => {
                let length = word(rest);
                if &rest[..length] != "in" {
                    out.push_str("__global_");
                }
                length
            }
            _ => c.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

fn origin(p: &hir::Probe, point: &hir::Point) -> String {
    let mut out = String::new();
    for step in point.via.iter().rev() {
        let names: Vec<String> = step.names.iter().map(point_to_string).collect();
        let points: Vec<String> = step.points.iter().map(point_to_string).collect();
        let sign = if step.epilogue { "+=" } else { "=" };
        let _ = write!(
            out,
            " <- {} {sign} {}",
            names.join(" = "),
            points.join(", ")
        );
    }
    let written: Vec<String> = p
        .written
        .iter()
        .map(|written| match &written.condition {
            // Without aliases between them stap shows the point after it made the condition its own.
            Some(c) if point.via.is_empty() => {
                let bare = ProbePoint {
                    condition: None,
                    ..written.clone()
                };
                point_to_string(&bare) + &condition(std::slice::from_ref(c))
            }
            _ => point_to_string(written),
        })
        .collect();
    let _ = write!(out, " <- {}", written.join(","));
    out
}
