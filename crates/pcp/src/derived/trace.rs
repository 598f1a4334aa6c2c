//! What `-Dderive` says of derived metrics on standard error: their text as it is taken apart (with `appl0`), their trees
//! in a context (with `appl1`), and their values at each fetch (with `appl2`).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::arithmetic::Values;
use super::bound::Bound;
use super::expression::{Expression, Function};
use crate::debug::{Flag, on};
use crate::desc::{Desc, Type};
use crate::error::ErrorCode;
use crate::indom::INST_NULL;
use crate::pmid::Pmid;
use crate::units::Units;
use crate::value::Atom;

/// Whether anything is wanted of derived metrics.
pub fn derive() -> bool {
    on(Flag::Derive)
}

/// Whether lexical elements and trees of texts are wanted.
pub fn wanted() -> bool {
    on(Flag::Derive) && on(Flag::Appl0)
}

/// Whether trees in contexts are wanted.
pub fn trees() -> bool {
    on(Flag::Derive) && on(Flag::Appl1)
}

/// Whether the values of each fetch are wanted.
pub fn values() -> bool {
    on(Flag::Derive) && on(Flag::Appl2)
}

/// A lexical element.
pub fn token(kind: &str, text: &str) {
    if wanted() {
        eprintln!("derive_lex() -> type=L_{kind} \"{text}\"");
    }
}

/// A definition that was taken, as the one of that number.
pub fn registered(number: usize, name: &str, text: &str, expression: &Expression) {
    if derive() {
        eprintln!("pmRegisterDerived: global metric[{number}] {name} = {text}");
    }
    if wanted() {
        eprint!("{}", Tree::of(expression).titled());
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0x5555_5600_0000);
/// How far apart the numbers of neighbouring parts are.
const STEP: u64 = 0x50;

/// A tree whose parts have numbers, which stand for the addresses that PCP's library shows.
#[derive(Clone, Copy)]
pub struct Tree<'a> {
    expression: &'a Expression,
    first: u64,
    /// The metric that the whole is.
    pmid: Option<Pmid>,
}

/// A part of a tree as it is shown.
enum Part<'a> {
    Expression(&'a Expression, Option<&'a Bound>, bool),
    /// The name in `defined()`.
    Name(&'a str),
    /// The type in `anon()`.
    Type(Type, bool),
    Units(Units),
    Pattern(&'a Expression, Option<&'a Bound>),
    /// The second part of a choice.
    Colon(&'a [Expression; 3], Option<&'a Bound>),
}

impl<'a> Part<'a> {
    fn children(&self) -> Vec<Part<'a>> {
        let Part::Expression(expression, bound, _) = *self else {
            return match *self {
                Part::Colon([_, yes, no], bound) => {
                    let side = |n: usize| bound.and_then(|b| b.parts().get(n).copied());
                    vec![
                        Part::Expression(yes, side(1), false),
                        Part::Expression(no, side(2), false),
                    ]
                }
                _ => Vec::new(),
            };
        };
        let side = |n: usize| bound.and_then(|b| b.parts().get(n).copied());
        match expression {
            Expression::Constant(_) | Expression::Metric(_) => Vec::new(),
            Expression::Defined(_) if bound.is_some() => Vec::new(),
            Expression::Defined(name) => vec![Part::Name(name)],
            Expression::Anonymous(ty) => vec![Part::Type(*ty, bound.is_some())],
            Expression::Negation(of) | Expression::Not(of) => {
                vec![Part::Expression(of, side(0), false)]
            }
            Expression::Function(function, of) => {
                let kept = matches!(function, Function::Delta | Function::Rate);
                vec![Part::Expression(of, side(0), kept)]
            }
            Expression::Binary(_, a, b) => vec![
                Part::Expression(a, side(0), false),
                Part::Expression(b, side(1), false),
            ],
            Expression::Ternary(parts) => vec![
                Part::Expression(&parts[0], side(0), false),
                Part::Colon(parts, bound),
            ],
            Expression::Rescale(of, units) => {
                vec![Part::Expression(of, side(0), false), Part::Units(*units)]
            }
            Expression::Match { of, .. } | Expression::Instance(of, _) => vec![
                Part::Pattern(expression, bound),
                Part::Expression(of, side(0), false),
            ],
        }
    }

    /// How many parts it has, itself included.
    fn size(&self) -> u64 {
        1 + self.children().iter().map(Part::size).sum::<u64>()
    }

    fn kind(&self) -> String {
        match self {
            Part::Expression(expression, ..) => match expression {
                Expression::Constant(constant) if constant.is_real() => "DOUBLE".into(),
                Expression::Constant(_) => "INTEGER".into(),
                Expression::Metric(_) => "NAME".into(),
                Expression::Negation(_) => "NEG".into(),
                Expression::Not(_) => "NOT".into(),
                Expression::Binary(operator, ..) => operator.word().into(),
                Expression::Ternary(_) => "QUEST".into(),
                Expression::Function(function, _) => function.name().to_uppercase(),
                Expression::Defined(_) => "DEFINED".into(),
                Expression::Anonymous(_) => "ANON".into(),
                Expression::Rescale(..) => "RESCALE".into(),
                Expression::Match { .. } | Expression::Instance(..) => "FILTERINST".into(),
            },
            Part::Name(_) => "NAME".into(),
            Part::Type(..) => "INTEGER".into(),
            Part::Units(_) => "SCALE".into(),
            Part::Pattern(..) => "PATTERN".into(),
            Part::Colon(..) => "COLON".into(),
        }
    }

    /// What stands in brackets behind it.
    fn text(&self) -> Option<String> {
        match self {
            Part::Expression(Expression::Constant(constant), ..) => Some(constant.text.clone()),
            Part::Expression(Expression::Metric(name), ..) => Some(name.clone()),
            Part::Name(name) => Some((*name).to_owned()),
            Part::Type(ty, _) => Some(format!("PM_TYPE_{ty}")),
            Part::Units(units) => Some(units.to_string()),
            _ => None,
        }
    }

    /// Adds it and what is below it, numbered from `at`; a root is the metric `root`, and a side of an operator is divided
    /// and multiplied by `scale`.
    fn write(&self, at: u64, root: Option<Pmid>, scale: (f64, f64), out: &mut String) {
        let children = self.children();
        let left = at + STEP;
        let mut sides = [None, None];
        let mut next = left;
        for (side, child) in sides.iter_mut().zip(&children) {
            *side = Some(next);
            next += STEP * child.size();
        }
        let _ = write!(out, "expr node {at:#x} type={}", self.kind());
        if let Part::Pattern(expression, bound) = self {
            match expression {
                Expression::Match {
                    negated, pattern, ..
                } => {
                    let inverted = if *negated { "inverted " } else { "" };
                    let _ = write!(out, " pattern: {pattern} type: {inverted}regex");
                    let seen = bound.and_then(|b| b.seen()).and_then(|s| s.matched);
                    let _ = match seen {
                        Some((all, matching)) => {
                            writeln!(out, " used=1 ({all} instances, {matching} matches)")
                        }
                        None => writeln!(out, " used=0"),
                    };
                }
                Expression::Instance(_, name) => {
                    let inst = match bound.and_then(|b| b.seen()).map(|s| &s.now) {
                        Some(Ok(values)) => values.first().map_or(-1, |(inst, _)| *inst),
                        _ => -1,
                    };
                    let _ = writeln!(out, " pattern: {name} type: exact match inst={inst}");
                }
                _ => out.push('\n'),
            }
        } else {
            let shown =
                |side: Option<u64>| side.map_or("(nil)".to_owned(), |at| format!("{at:#x}"));
            let kept = matches!(self, Part::Expression(_, _, true));
            let _ = write!(
                out,
                " left={} right={} save_last={}",
                shown(sides[0]),
                shown(sides[1]),
                u8::from(kept)
            );
            let bound = matches!(
                self,
                Part::Expression(_, Some(_), _) | Part::Colon(_, Some(_)) | Part::Type(_, true)
            );
            if let Some(text) = self.text() {
                let _ = write!(out, " [{text}]");
                if !matches!(self, Part::Units(_)) {
                    let _ = write!(out, " primary={}", u8::from(!bound));
                }
            }
            out.push('\n');
            self.write_bound(root, scale, out);
        }
        let scales = match self {
            Part::Expression(_, Some(bound), _) => bound.scales(),
            _ => None,
        };
        let scales = scales.unwrap_or([(1.0, 1.0); 2]);
        let mut next = left;
        for (child, scale) in children.iter().zip(scales) {
            child.write(next, None, scale, out);
            next += STEP * child.size();
        }
    }

    /// What a part is in a context, and its values.
    fn write_bound(&self, root: Option<Pmid>, scale: (f64, f64), out: &mut String) {
        match self {
            Part::Expression(expression, Some(bound), kept) => {
                let whole = matches!(expression, Expression::Metric(_));
                let pmid = if whole { bound.desc.pmid } else { Pmid::NULL };
                let from = root.unwrap_or_else(|| bound.origin());
                let mut none = Seen::default();
                if let (Expression::Defined(_), Some(value)) = (expression, bound.is_known()) {
                    none.now = Ok(vec![(INST_NULL, value.clone())]);
                }
                let seen = bound.seen().unwrap_or(&none);
                describe(out, &pmid, &from, &bound.desc, seen.number(), scale);
                seen.write(*kept, out);
            }
            Part::Colon(_, Some(bound)) => {
                let from = bound.parts().get(1).map_or(Pmid::NULL, |b| b.origin());
                describe(out, &Pmid::NULL, &from, &bound.desc, 0, (1.0, 1.0));
            }
            Part::Type(ty, true) => {
                let desc = Desc {
                    pmid: Pmid::NULL,
                    ty: *ty,
                    indom: crate::indom::InDom::NULL,
                    sem: crate::desc::Semantics::Discrete,
                    units: Units::NONE,
                };
                let fetched = values();
                let number = i32::from(fetched);
                describe(out, &Pmid::NULL, &Pmid::NULL, &desc, number, (1.0, 1.0));
                if fetched {
                    out.push_str("[0] inst=-1, val=0\n");
                }
            }
            _ => {}
        }
    }
}

fn shown_pmid(pmid: &Pmid) -> String {
    if *pmid == Pmid::NULL {
        "PM_ID_NULL".to_owned()
    } else {
        pmid.to_string()
    }
}

fn describe(
    out: &mut String,
    pmid: &Pmid,
    from: &Pmid,
    desc: &Desc,
    number: i32,
    (divided, multiplied): (f64, f64),
) {
    let ty = match desc.ty {
        Type::I32 => "32-bit int",
        Type::U32 => "32-bit unsigned int",
        Type::I64 => "64-bit int",
        Type::U64 => "64-bit unsigned int",
        Type::Float => "float",
        Type::Double => "double",
        Type::String => "string",
        Type::Aggregate => "aggregate",
        Type::AggregateStatic => "aggregate static",
        Type::Event => "event record array",
        Type::HighResEvent => "highres event record array",
        _ => "???",
    };
    let indom = if desc.indom.is_null() {
        "PM_INDOM_NULL".to_owned()
    } else {
        desc.indom.to_string()
    };
    let units = desc.units.to_string();
    let units = if units.is_empty() { "none" } else { &units };
    let (pmid, from) = (shown_pmid(pmid), shown_pmid(from));
    let mut scales = String::new();
    if divided != 1.0 {
        let _ = write!(scales, " div_scale: {divided}");
    }
    if multiplied != 1.0 {
        let _ = write!(scales, " mul_scale: {multiplied}");
    }
    let _ = write!(
        out,
        "    PMID: {pmid} ({from} from pmDesc) numval: {number}{scales}\n    \
         Data Type: {ty}  InDom: {indom} {:#x}\n    \
         Semantics: {}  Units: {units}\n",
        desc.indom.0, desc.sem
    );
}

/// What a part had at the last fetch.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its values, or why it has none.
    pub now: Result<Values, ErrorCode>,
    /// Its values at the fetch before.
    pub last: Option<Values>,
    /// For a part that selects by names: how many instances it saw, and how many it took.
    pub matched: Option<(usize, usize)>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            now: Ok(Vec::new()),
            last: None,
            matched: None,
        }
    }
}

impl Seen {
    fn number(&self) -> i32 {
        match &self.now {
            Ok(values) => i32::try_from(values.len()).unwrap_or(i32::MAX),
            Err(code) => code.0,
        }
    }

    fn write(&self, kept: bool, out: &mut String) {
        let none = Vec::new();
        let now = self.now.as_ref().unwrap_or(&none);
        let last = self.last.as_ref().filter(|_| kept).unwrap_or(&none);
        for n in 0..now.len().max(last.len()) {
            let _ = write!(out, "[{n}]");
            if let Some((inst, value)) = now.get(n) {
                let _ = write!(out, " inst={inst}, val={}", plain(value));
            }
            if let Some((inst, value)) = last.get(n) {
                let _ = write!(out, " (last inst={inst}, val={})", plain(value));
            }
            out.push('\n');
        }
    }
}

/// A value as C's `%g` and its like show it.
fn plain(value: &Atom) -> String {
    match value {
        Atom::I32(v) => v.to_string(),
        Atom::U32(v) => v.to_string(),
        Atom::I64(v) => v.to_string(),
        Atom::U64(v) => v.to_string(),
        Atom::Float(v) => crate::cformat::g((*v).into(), 6),
        Atom::Double(v) => crate::cformat::g(*v, 6),
        Atom::String(text) => text.to_string(),
        _ => "???".to_owned(),
    }
}

impl<'a> Tree<'a> {
    /// A tree with numbers of its own.
    pub fn of(expression: &'a Expression) -> Tree<'a> {
        // The tree of a text can have more parts than that in a context, never less.
        let size = Part::Expression(expression, None, false).size();
        Tree {
            expression,
            first: NEXT.fetch_add(size * STEP, Ordering::Relaxed),
            pmid: None,
        }
    }

    /// The tree of a metric with the numbers that it had.
    pub fn again(expression: &'a Expression, first: u64, pmid: Pmid) -> Tree<'a> {
        Tree {
            expression,
            first,
            pmid: Some(pmid),
        }
    }

    /// Its first number.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The tree below the line that names it.
    pub fn titled(&self) -> String {
        format!(
            "Derived metric expr dump from {:#x}...\n{}",
            self.first,
            self.show(None)
        )
    }

    /// The tree with what it is in a context, below the line that names it.
    pub fn titled_with(&self, bound: &Bound) -> String {
        let shown = self.show(Some(bound));
        format!(
            "Derived metric expr dump from {:#x}...\n{shown}",
            self.first
        )
    }

    /// Its parts, each on a line, with what they are in a context.
    pub fn show(&self, bound: Option<&Bound>) -> String {
        let mut out = String::new();
        Part::Expression(self.expression, bound, false).write(
            self.first,
            self.pmid,
            (1.0, 1.0),
            &mut out,
        );
        out
    }
}

/// The values of a derived metric that was asked for as the one of that number.
pub fn posted(number: usize, pmid: Pmid, values: &Result<Values, ErrorCode>) {
    let mut out = format!("__dmpostvalueset: [{number}] root node {pmid}: numval=");
    match values {
        Err(code) => {
            let _ = write!(out, "{}", code.0);
        }
        Ok(values) => {
            let _ = write!(out, "{}", values.len());
            for (n, (inst, value)) in values.iter().enumerate() {
                let _ = write!(out, " vset[{n}]: inst={inst} ");
                let _ = match value {
                    Atom::I32(v) => write!(out, "l={v}"),
                    Atom::U32(v) => write!(out, "u={v}"),
                    Atom::I64(v) => write!(out, "ll={v}"),
                    Atom::U64(v) => write!(out, "ul={v}"),
                    Atom::Float(v) => write!(out, "f={v:.6}"),
                    Atom::Double(v) => write!(out, "d={v:.6}"),
                    Atom::String(text) => write!(out, "cp={text} (len={})", text.len() + 1),
                    _ => write!(out, "???"),
                };
            }
        }
    }
    eprintln!("{out}");
}

/// The search for instances that stand at different places of two sides, as PCP's library searches.
pub fn mismatches(operator: &str, left: &Values, right: &Values, other: &str) {
    let again = other == "last";
    let (mut j, mut taken) = (0, 0);
    for (i, (inst, _)) in left.iter().enumerate() {
        if again {
            j = i;
        }
        if j >= right.len() {
            j = 0;
        }
        let Some((there, _)) = right.get(j) else {
            return;
        };
        if inst != there {
            eprintln!(
                "eval_expr: {operator}: inst[{taken}] mismatch left [{i}]={inst} {other} [{j}]={there}"
            );
            match right.iter().position(|(r, _)| r == inst) {
                Some(found) => {
                    eprintln!("eval_expr: recover @ {other} [{found}]={inst}");
                    j = found;
                }
                None => {
                    j = 0;
                    continue;
                }
            }
        }
        taken += 1;
        j += 1;
    }
}

/// Says of each single instance in a tree that its domain has none of the name.
pub fn missing_instances(expression: &Expression, bound: &Bound, first: u64) {
    fn search(part: &Part<'_>, at: u64) {
        if let Part::Expression(Expression::Instance(_, name), Some(bound), _) = part
            && let Some(Ok(values)) = bound.seen().map(|s| &s.now)
            && values.is_empty()
        {
            eprintln!(
                "eval_expr: expr node {at:#x} type=FILTERINST pmLookupInDom_ctx(...,{},{name}) failed: {}",
                bound.desc.indom,
                ErrorCode::INST
            );
        }
        let mut next = at + STEP;
        for child in part.children() {
            search(&child, next);
            next += STEP * child.size();
        }
    }
    search(&Part::Expression(expression, Some(bound), false), first);
}
