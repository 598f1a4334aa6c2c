//! Expressions whose metrics are known: what their values are, and the values themselves.

use std::collections::HashMap;

use regex_lite::Regex;

use super::arithmetic::{Values, aggregate, compare, compute, differences, each, is_true, pairs};
use super::expression::{Expression, Function, Operator};
use super::trace::{self, Seen};
use crate::desc::{Desc, Semantics, Type};
use crate::error::ErrorCode;
use crate::indom::{INST_NULL, InDom};
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::units::{TIME_SEC, Units};
use crate::value::{Atom, ValueSet};

/// Why an expression can't be used with a context.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BindError {
    /// The metric of that name in it is not there, or its descriptor can't be had.
    Operand(String),
    /// It makes no sense; the text is the message's from the operands on.
    Semantic(String),
}

/// What an expression's metrics are; those that are not known are not in it.
pub type Operands = HashMap<String, Desc>;

/// What values can be had from outside during a fetch.
pub struct Sample<'a> {
    /// The sets of the metrics of the expressions.
    pub sets: &'a HashMap<Pmid, ValueSet>,
    /// When they were taken.
    pub time: Timestamp,
    /// The name of an instance.
    pub name: &'a mut dyn FnMut(InDom, i32) -> Option<Text>,
}

/// A part of an expression, with the metadata of its values.
#[derive(Debug)]
pub struct Bound {
    /// The descriptor; the PMID is that of a metric that is the whole part, or null.
    pub desc: Desc,
    kind: Kind,
    /// What it had at the last fetch, for traces.
    seen: Option<Box<Seen>>,
}

#[derive(Debug)]
enum Kind {
    Constant(Atom),
    Metric,
    Negation(Box<Bound>),
    Not(Box<Bound>),
    Binary {
        operator: Operator,
        sides: Box<[Bound; 2]>,
        /// What each side is multiplied with to have the units of the result.
        factors: [f64; 2],
    },
    Ternary(Box<[Bound; 3]>),
    Function {
        function: Function,
        of: Box<Bound>,
        before: Option<(Timestamp, Values)>,
    },
    Anonymous,
    Rescale(Box<Bound>),
    Match {
        negated: bool,
        pattern: Regex,
        of: Box<Bound>,
    },
    Instance(Box<Bound>, String),
}

fn plain(ty: Type, sem: Semantics, units: Units, indom: InDom) -> Desc {
    Desc {
        pmid: Pmid::NULL,
        ty,
        indom,
        sem,
        units,
    }
}

fn is_number(ty: Type) -> bool {
    matches!(
        ty,
        Type::I32 | Type::U32 | Type::I64 | Type::U64 | Type::Float | Type::Double
    )
}

/// The type that holds both (PCP's promotion).
fn promoted(a: Type, b: Type) -> Type {
    let order = [
        Type::Double,
        Type::Float,
        Type::U64,
        Type::I64,
        Type::U32,
        Type::I32,
    ];
    order
        .into_iter()
        .find(|ty| *ty == a || *ty == b)
        .unwrap_or(Type::Double)
}

/// The semantics of what is computed from values that are no counters.
fn mixed(a: Semantics, b: Semantics) -> Semantics {
    if a == Semantics::Discrete && b == Semantics::Discrete {
        Semantics::Discrete
    } else {
        Semantics::Instant
    }
}

impl Bound {
    /// Puts an expression together with what its metrics are.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn new(expression: &Expression, operands: &Operands) -> Result<Bound, BindError> {
        let bind = |expression: &Expression| Bound::new(expression, operands);
        let semantic = |what: String| Err(BindError::Semantic(what));
        let truth = |value: bool| Atom::U32(value.into());
        Ok(match expression {
            Expression::Constant(constant) => {
                let value = Atom::parse(&constant.text, Type::Double)
                    .and_then(|v| v.convert(constant.ty))
                    .map_err(|_| BindError::Semantic(format!("{expression}: Illegal constant")))?;
                Bound {
                    seen: None,
                    desc: plain(constant.ty, constant.sem, constant.units, InDom::NULL),
                    kind: Kind::Constant(value),
                }
            }
            Expression::Metric(name) => Bound {
                seen: None,
                desc: *operands
                    .get(name)
                    .ok_or_else(|| BindError::Operand(name.clone()))?,
                kind: Kind::Metric,
            },
            Expression::Defined(name) => Bound {
                seen: None,
                desc: plain(Type::U32, Semantics::Discrete, Units::NONE, InDom::NULL),
                kind: Kind::Constant(truth(operands.contains_key(name))),
            },
            Expression::Anonymous(ty) => Bound {
                seen: None,
                desc: plain(*ty, Semantics::Discrete, Units::NONE, InDom::NULL),
                kind: Kind::Anonymous,
            },
            Expression::Negation(of) => {
                let inner = bind(of)?;
                if !is_number(inner.desc.ty) {
                    return semantic(format!("- {of}: Non-arithmetic operand for unary negation"));
                }
                let ty = match inner.desc.ty {
                    Type::U32 => Type::I32,
                    Type::U64 => Type::I64,
                    other => other,
                };
                let from = &inner.desc;
                Bound {
                    seen: None,
                    desc: plain(ty, Semantics::Instant, from.units, from.indom),
                    kind: Kind::Negation(Box::new(inner)),
                }
            }
            Expression::Not(of) => {
                let inner = bind(of)?;
                if !is_number(inner.desc.ty) {
                    return semantic(format!(
                        "! {of}: Non-arithmetic operand for boolean negation"
                    ));
                }
                let sem = inner.desc.sem;
                Bound {
                    seen: None,
                    desc: plain(Type::U32, sem, Units::NONE, inner.desc.indom),
                    kind: Kind::Not(Box::new(inner)),
                }
            }
            Expression::Binary(operator, a, b) => {
                let (left, right) = (bind(a)?, bind(b)?);
                binary(*operator, left, right, constant(a), constant(b)).map_err(|what| {
                    BindError::Semantic(format!("{a} {} {b}: {what}", operator.symbol()))
                })?
            }
            Expression::Ternary(parts) => {
                let [guard, yes, no] = &**parts;
                ternary([guard, yes, no], bind(guard)?, bind(yes)?, bind(no)?)
                    .map_err(BindError::Semantic)?
            }
            Expression::Function(function, of) => {
                let inner = bind(of)?;
                let desc = call(*function, &inner.desc).map_err(|what| {
                    let name = function.name().to_uppercase();
                    BindError::Semantic(format!("{name}({of}): {what}"))
                })?;
                Bound {
                    seen: None,
                    desc,
                    kind: Kind::Function {
                        function: *function,
                        of: Box::new(inner),
                        before: None,
                    },
                }
            }
            Expression::Rescale(of, units) => {
                let inner = bind(of)?;
                if !is_number(inner.desc.ty) {
                    return semantic(format!(
                        "{of} RESCALE {units}: Non-arithmetic operand for function"
                    ));
                }
                if !inner.desc.units.same_dimension(*units) {
                    return semantic(format!("{of} RESCALE {units}: Incompatible dimensions"));
                }
                let from = &inner.desc;
                Bound {
                    seen: None,
                    desc: plain(from.ty, from.sem, *units, from.indom),
                    kind: Kind::Rescale(Box::new(inner)),
                }
            }
            Expression::Match {
                negated,
                pattern,
                of,
            } => {
                let inner = bind(of)?;
                if inner.desc.indom.is_null() {
                    return semantic(format!("{of}: Operand must have an instance domain"));
                }
                let pattern =
                    Regex::new(pattern).map_err(|_| BindError::Operand(pattern.clone()))?;
                let from = &inner.desc;
                Bound {
                    seen: None,
                    desc: plain(from.ty, from.sem, from.units, from.indom),
                    kind: Kind::Match {
                        negated: *negated,
                        pattern,
                        of: Box::new(inner),
                    },
                }
            }
            Expression::Instance(of, name) => {
                let inner = bind(of)?;
                if inner.desc.indom.is_null() {
                    return semantic(format!(
                        "{of}[{name}]: Operand must have an instance domain"
                    ));
                }
                let from = &inner.desc;
                Bound {
                    seen: None,
                    desc: plain(from.ty, from.sem, from.units, from.indom),
                    kind: Kind::Instance(Box::new(inner), name.clone()),
                }
            }
        })
    }

    /// Adds the metrics that are needed to compute it.
    pub fn collect(&self, pmids: &mut Vec<Pmid>) {
        match &self.kind {
            Kind::Metric => {
                if !pmids.contains(&self.desc.pmid) {
                    pmids.push(self.desc.pmid);
                }
            }
            Kind::Constant(_) | Kind::Anonymous => {}
            Kind::Negation(of)
            | Kind::Not(of)
            | Kind::Function { of, .. }
            | Kind::Rescale(of)
            | Kind::Match { of, .. }
            | Kind::Instance(of, _) => of.collect(pmids),
            Kind::Binary { sides, .. } => sides.iter().for_each(|s| s.collect(pmids)),
            Kind::Ternary(parts) => parts.iter().for_each(|p| p.collect(pmids)),
        }
    }

    /// The expressions that it is made of.
    pub fn parts(&self) -> Vec<&Bound> {
        match &self.kind {
            Kind::Constant(_) | Kind::Metric | Kind::Anonymous => Vec::new(),
            Kind::Negation(of)
            | Kind::Not(of)
            | Kind::Function { of, .. }
            | Kind::Rescale(of)
            | Kind::Match { of, .. }
            | Kind::Instance(of, _) => vec![&**of],
            Kind::Binary { sides, .. } => sides.iter().collect(),
            Kind::Ternary(parts) => parts.iter().collect(),
        }
    }

    /// The first metric in it, or null.
    pub fn origin(&self) -> Pmid {
        match &self.kind {
            Kind::Metric => self.desc.pmid,
            // A number on the left has nothing to say.
            Kind::Binary { sides, .. } if sides[0].is_known().is_some() => sides[1].origin(),
            _ => self.parts().first().map_or(Pmid::NULL, |b| b.origin()),
        }
    }

    /// Whether it is the answer to `defined()`.
    pub fn is_known(&self) -> Option<&Atom> {
        match &self.kind {
            Kind::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// What the values of its two sides are multiplied with by dimensions above and below the line: the number by which
    /// each is divided, and that by which it is multiplied, as traces show them.
    pub fn scales(&self) -> Option<[(f64, f64); 2]> {
        let Kind::Binary {
            operator, sides, ..
        } = &self.kind
        else {
            return None;
        };
        if matches!(operator, Operator::And | Operator::Or) {
            return None;
        }
        let [left, right] = &**sides;
        let (from, to) = ([left, right].map(|s| s.desc.units), {
            let (common, _) = common_scales(left.desc.units, right.desc.units);
            common
        });
        Some([0, 1].map(|n| scaling(from[n], to[n])))
    }

    /// What it had at the last fetch, when values are traced.
    pub fn seen(&self) -> Option<&Seen> {
        self.seen.as_deref()
    }

    /// Its values in a sample. Differences are those to the sample that it was asked for last.
    ///
    /// # Errors
    /// The code of the first metric in it that has one.
    pub fn values(&mut self, sample: &mut Sample<'_>) -> Result<Values, ErrorCode> {
        let values = self.compute(sample);
        if trace::values() {
            let last = self.seen.take().and_then(|seen| seen.now.ok());
            let matched = match (&self.kind, &values) {
                (Kind::Match { of, .. }, Ok(values)) => {
                    let all = of.seen().and_then(|s| s.now.as_ref().ok());
                    Some((all.map_or(0, Vec::len), values.len()))
                }
                _ => None,
            };
            // An error is that of the metric which has it; what is made of that has nothing.
            let now = match &values {
                Err(_) if !matches!(self.kind, Kind::Metric) => Ok(Vec::new()),
                values => values.clone(),
            };
            self.seen = Some(Box::new(Seen { now, last, matched }));
        }
        values
    }

    fn compute(&mut self, sample: &mut Sample<'_>) -> Result<Values, ErrorCode> {
        let ty = self.desc.ty;
        match &mut self.kind {
            Kind::Constant(value) => Ok(vec![(INST_NULL, value.clone())]),
            Kind::Anonymous => Ok(Vec::new()),
            Kind::Metric => {
                let set = sample.sets.get(&self.desc.pmid).ok_or(ErrorCode::VALUE)?;
                let values = set.values.as_ref().map_err(|code| *code)?;
                values
                    .iter()
                    .map(|v| Ok((v.inst, Atom::extract(&v.value, ty)?)))
                    .collect()
            }
            Kind::Negation(of) => {
                let zero = Atom::I32(0);
                each(of.values(sample)?, |v| {
                    compute(Operator::Minus, ty, &zero, &v)
                })
            }
            Kind::Not(of) => each(of.values(sample)?, |v| {
                Ok(Atom::U32(u32::from(!is_true(&v))))
            }),
            Kind::Binary {
                operator,
                sides,
                factors,
            } => {
                let [left, right] = &mut **sides;
                let both = promoted(left.desc.ty, right.desc.ty);
                let within = if *factors == [1.0, 1.0] {
                    both
                } else {
                    Type::Double
                };
                let within = if operator.is_arithmetic() { ty } else { within };
                let singular = [left.desc.indom.is_null(), right.desc.indom.is_null()];
                let scaled = |values: Values, factor: f64| {
                    if factor == 1.0 {
                        return values;
                    }
                    let scale = |v: Atom| Atom::Double(v.as_f64().unwrap_or(0.0) * factor);
                    values.into_iter().map(|(i, v)| (i, scale(v))).collect()
                };
                let left = scaled(left.values(sample)?, factors[0]);
                let right = scaled(right.values(sample)?, factors[1]);
                if trace::values() && singular == [false, false] {
                    trace::mismatches(operator.word(), &left, &right, "right");
                }
                pairs(&left, &right, singular, |a, b| {
                    if operator.is_arithmetic() {
                        compute(*operator, within, a, b)
                    } else {
                        Ok(Atom::U32(compare(*operator, within, a, b)?.into()))
                    }
                })
            }
            Kind::Ternary(parts) => {
                let singular = parts.each_ref().map(|p| p.desc.indom.is_null());
                let [guard, yes, no] = &mut **parts;
                // All three must have values, the one that is not chosen, too.
                let guard = guard.values(sample)?;
                let (yes, no) = (yes.values(sample)?, no.values(sample)?);
                if guard.is_empty() || yes.is_empty() || no.is_empty() {
                    return Ok(Vec::new());
                }
                let longest = [&guard, &yes, &no]
                    .into_iter()
                    .zip(singular)
                    .find(|(_, singular)| !singular)
                    .map_or(&yes, |(values, _)| values);
                let find = |values: &Values, singular: bool, inst: i32| {
                    let found = values.iter().find(|(i, _)| singular || *i == inst);
                    found.map(|(_, value)| value.clone())
                };
                let chosen = longest.iter().filter_map(|(inst, _)| {
                    let truth = is_true(&find(&guard, singular[0], *inst)?);
                    let (values, singular) = if truth {
                        (&yes, singular[1])
                    } else {
                        (&no, singular[2])
                    };
                    Some((*inst, find(values, singular, *inst)?))
                });
                Ok(chosen.collect())
            }
            Kind::Function {
                function,
                of,
                before,
            } => {
                let units = of.desc.units;
                let now = match of.values(sample) {
                    Err(_) if *function == Function::Count => Vec::new(),
                    other => other?,
                };
                match function {
                    Function::Instant => Ok(now),
                    Function::Scalar => Ok(now
                        .into_iter()
                        .take(1)
                        .map(|(_, v)| (INST_NULL, v))
                        .collect()),
                    Function::Count => {
                        let count = u32::try_from(now.len()).unwrap_or(u32::MAX);
                        Ok(vec![(INST_NULL, Atom::U32(count))])
                    }
                    Function::Delta | Function::Rate => {
                        let last = before.replace((sample.time, now.clone()));
                        let Some((then, last)) = last else {
                            return Ok(Vec::new());
                        };
                        if trace::values() {
                            let name = function.name().to_uppercase();
                            trace::mismatches(&name, &now, &last, "last");
                        }
                        let elapsed = (sample.time - then).as_secs_f64();
                        differences(*function, ty, units, &now, &last, elapsed)
                    }
                    _ => aggregate(*function, ty, &now),
                }
            }
            Kind::Rescale(of) => {
                let (from, to) = (of.desc.units, self.desc.units);
                each(of.values(sample)?, |v| v.rescale(from, to))
            }
            Kind::Match {
                negated,
                pattern,
                of,
            } => {
                let indom = of.desc.indom;
                let mut values = of.values(sample)?;
                values.retain(|(inst, _)| {
                    let name = (sample.name)(indom, *inst).unwrap_or_default();
                    pattern.is_match(&name.to_str()) != *negated
                });
                Ok(values)
            }
            Kind::Instance(of, wanted) => {
                let indom = of.desc.indom;
                let mut values = of.values(sample)?;
                values.retain(|(inst, _)| {
                    let name = (sample.name)(indom, *inst).unwrap_or_default();
                    crate::indom::instance_name_matches(&name, wanted.as_bytes())
                });
                Ok(values)
            }
        }
    }
}

fn constant(expression: &Expression) -> bool {
    matches!(expression, Expression::Constant(_))
}

/// What an operator makes of two sides; the error is the reason of a message.
fn binary(
    operator: Operator,
    left: Bound,
    right: Bound,
    left_constant: bool,
    right_constant: bool,
) -> Result<Bound, &'static str> {
    let (a, b) = (&left.desc, &right.desc);
    let counters = [a.sem == Semantics::Counter, b.sem == Semantics::Counter];
    let dimensionless = |desc: &Desc| desc.units.same_dimension(Units::NONE);
    let arithmetic = operator.is_arithmetic();
    if matches!(operator, Operator::And | Operator::Or) && !a.units.same_dimension(b.units) {
        return Err("Dimensions are not the same");
    }
    match counters {
        [true, true] if arithmetic && !matches!(operator, Operator::Plus | Operator::Minus) => {
            return Err("Illegal operator for counters");
        }
        [true, false] => {
            if arithmetic && !matches!(operator, Operator::Star | Operator::Slash) {
                return Err("Illegal operator for counter and non-counter");
            }
            if !dimensionless(b) {
                return Err("Non-counter and not dimensionless for right operand");
            }
        }
        [false, true] => {
            if arithmetic && operator != Operator::Star {
                return Err("Illegal operator for non-counter and counter");
            }
            if !dimensionless(a) {
                return Err("Non-counter and not dimensionless for left operand");
            }
        }
        _ => {}
    }
    if !is_number(a.ty) {
        return Err("Non-arithmetic type for left operand");
    }
    if !is_number(b.ty) {
        return Err("Non-arithmetic type for right operand");
    }
    let alike = !matches!(operator, Operator::Star | Operator::Slash)
        && !matches!(operator, Operator::And | Operator::Or);
    let excused =
        !arithmetic && (left_constant && dimensionless(a) || right_constant && dimensionless(b));
    let mixed_counters = counters[0] != counters[1];
    if alike && !excused && !mixed_counters && !a.units.same_dimension(b.units) {
        return Err("Dimensions are not the same");
    }
    if !a.indom.is_null() && !b.indom.is_null() && a.indom != b.indom {
        return Err("Operands should have the same instance domain");
    }
    let indom = if a.indom.is_null() { b.indom } else { a.indom };
    let (common, factors) = if matches!(operator, Operator::And | Operator::Or) {
        ([a.units, b.units], [1.0, 1.0])
    } else {
        common_scales(a.units, b.units)
    };
    let desc = if arithmetic {
        let ty = if operator == Operator::Slash || factors != [1.0, 1.0] {
            Type::Double
        } else {
            promoted(a.ty, b.ty)
        };
        let sem = if counters[0] || counters[1] {
            Semantics::Counter
        } else {
            mixed(a.sem, b.sem)
        };
        let units = match operator {
            Operator::Star => combined(common, 1),
            Operator::Slash => combined(common, -1),
            _ => common[0],
        };
        plain(ty, sem, units, indom)
    } else {
        // A truth has the semantics of its left side, unless that is a number in the text.
        let sem = if left_constant { b.sem } else { a.sem };
        plain(Type::U32, sem, Units::NONE, indom)
    };
    Ok(Bound {
        seen: None,
        desc,
        kind: Kind::Binary {
            operator,
            sides: Box::new([left, right]),
            factors,
        },
    })
}

/// Where both have a dimension the larger scale is that of both; with what each is multiplied for it.
fn common_scales(a: Units, b: Units) -> ([Units; 2], [f64; 2]) {
    let (mut left, mut right) = (a, b);
    if a.dim_space != 0 && b.dim_space != 0 {
        let scale = a.scale_space.max(b.scale_space);
        (left.scale_space, right.scale_space) = (scale, scale);
    }
    if a.dim_time != 0 && b.dim_time != 0 {
        let scale = a.scale_time.max(b.scale_time);
        (left.scale_time, right.scale_time) = (scale, scale);
    }
    if a.dim_count != 0 && b.dim_count != 0 {
        let scale = a.scale_count.max(b.scale_count);
        (left.scale_count, right.scale_count) = (scale, scale);
    }
    let factor = |from: Units, to: Units| from.conversion(to).unwrap_or(1.0);
    ([left, right], [factor(a, left), factor(b, right)])
}

/// By what values are divided and multiplied to have other scales of the same dimensions.
fn scaling(from: Units, to: Units) -> (f64, f64) {
    let space = |scale: u8| 1024f64.powi(scale.into());
    let seconds = |scale: u8| {
        [1e-9, 1e-6, 1e-3, 1.0, 60.0, 3600.0]
            .get(usize::from(scale))
            .copied()
    };
    let time = |scale: u8| seconds(scale).unwrap_or(1.0);
    let (mut divided, mut multiplied) = (1.0, 1.0);
    let mut take = |dimension: i8, steps: f64| {
        let by = steps.powi(i32::from(dimension.unsigned_abs()));
        if dimension > 0 {
            divided *= by;
        } else if dimension < 0 {
            multiplied *= by;
        }
    };
    take(
        from.dim_space,
        space(to.scale_space) / space(from.scale_space),
    );
    take(from.dim_time, time(to.scale_time) / time(from.scale_time));
    let count = i32::from(to.scale_count) - i32::from(from.scale_count);
    take(from.dim_count, 10f64.powi(count));
    (divided.round(), multiplied.round())
}

/// The units of a product, or with sign −1 of a quotient.
fn combined([a, b]: [Units; 2], sign: i8) -> Units {
    let sum = |x: i8, y: i8| x.saturating_add(sign * y).clamp(-8, 7);
    let (space, time, count) = (
        sum(a.dim_space, b.dim_space),
        sum(a.dim_time, b.dim_time),
        sum(a.dim_count, b.dim_count),
    );
    // A dimension that is gone has no scale; one that only one side has keeps that side's.
    let pick = |dim: i8, of_a: i8, x: u8, y: u8| match (dim, of_a) {
        (0, _) => 0,
        (_, 0) => y,
        _ => x,
    };
    let count_scale = match (count, a.dim_count) {
        (0, _) => 0,
        (_, 0) => b.scale_count,
        _ => a.scale_count,
    };
    Units::new(
        space,
        time,
        count,
        pick(space, a.dim_space, a.scale_space, b.scale_space),
        pick(time, a.dim_time, a.scale_time, b.scale_time),
        count_scale,
    )
}

fn ternary(
    [guard_text, yes_text, no_text]: [&Expression; 3],
    guard: Bound,
    yes: Bound,
    no: Bound,
) -> Result<Bound, String> {
    let pair = |what: &str| {
        Err(format!(
            "{yes_text} : {no_text}: {what} for ternary operands"
        ))
    };
    if !is_number(guard.desc.ty) {
        return Err(format!(
            "{guard_text} ? {yes_text} : {no_text}: Non-arithmetic operand for ternary guard"
        ));
    }
    let (a, b) = (&yes.desc, &no.desc);
    // What makes them different goes to the trace.
    let differ = |what: &str, left: String, right: String| {
        if trace::derive() {
            eprintln!("Semantic error: ternary op {what}: left={left} right={right}");
        }
    };
    if a.ty != b.ty {
        differ("type", a.ty.to_string(), b.ty.to_string());
        return pair("Different types");
    }
    if a.sem != b.sem {
        differ("semantics", a.sem.to_string(), b.sem.to_string());
        return pair("Different semantics");
    }
    let (x, y) = (a.units, b.units);
    let scale = |what: &str| {
        let shown = |units: Units| match what {
            "space" => {
                let (dim, scale) = (units.dim_space, units.scale_space);
                format!("{units} (dim={dim} scale={scale})")
            }
            _ => units.to_string(),
        };
        differ(&format!("units ({what})"), shown(x), shown(y));
        pair(&format!("Different units or scale ({what})"))
    };
    if x.dim_count != y.dim_count || x.dim_count != 0 && x.scale_count != y.scale_count {
        return scale("count");
    }
    if x.dim_time != y.dim_time || x.dim_time != 0 && x.scale_time != y.scale_time {
        return scale("time");
    }
    if x.dim_space != y.dim_space || x.dim_space != 0 && x.scale_space != y.scale_space {
        return scale("space");
    }
    if !a.indom.is_null() && !b.indom.is_null() && a.indom != b.indom {
        differ("indom", a.indom.to_string(), b.indom.to_string());
        return pair("Different instance domains");
    }
    let indom = if a.indom.is_null() { b.indom } else { a.indom };
    if !guard.desc.indom.is_null() {
        let whole = format!("{guard_text} ? {yes_text} : {no_text}");
        if indom.is_null() {
            return Err(format!(
                "{whole}: Non-scalar ternary guard with scalar expressions"
            ));
        }
        if guard.desc.indom != indom {
            return Err(format!(
                "{whole}: Different instance domains for ternary guard and operands"
            ));
        }
    }
    let desc = plain(a.ty, a.sem, a.units, indom);
    Ok(Bound {
        seen: None,
        desc,
        kind: Kind::Ternary(Box::new([guard, yes, no])),
    })
}

/// The descriptor of a function's result; the error is the reason of a message.
fn call(function: Function, of: &Desc) -> Result<Desc, &'static str> {
    let any = matches!(
        function,
        Function::Count | Function::Instant | Function::Scalar
    );
    if !any && !is_number(of.ty) {
        return Err("Non-arithmetic operand for function");
    }
    let instant = Semantics::Instant;
    Ok(match function {
        Function::Count => plain(
            Type::U32,
            instant,
            Units::new(0, 0, 1, 0, 0, 0),
            InDom::NULL,
        ),
        Function::Avg => plain(Type::Float, instant, of.units, InDom::NULL),
        Function::Max | Function::Min => plain(of.ty, instant, of.units, InDom::NULL),
        Function::Sum => plain(of.ty, of.sem, of.units, InDom::NULL),
        Function::Scalar => plain(of.ty, of.sem, of.units, InDom::NULL),
        Function::Instant => {
            let sem = if of.sem == Semantics::Counter {
                instant
            } else {
                of.sem
            };
            plain(of.ty, sem, of.units, of.indom)
        }
        Function::Delta => {
            let ty = match of.ty {
                Type::U32 => Type::I64,
                Type::U64 => Type::Double,
                other => other,
            };
            plain(ty, instant, of.units, of.indom)
        }
        Function::Rate => {
            let mut units = of.units;
            match units.dim_time {
                0 => {
                    units.dim_time = -1;
                    units.scale_time = TIME_SEC;
                }
                1 => {
                    units.dim_time = 0;
                    units.scale_time = 0;
                }
                _ => return Err("Incorrect time dimension for operand"),
            }
            plain(Type::Double, instant, units, of.indom)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::expression::parse;
    use crate::units::{ScaledUnits, TIME_MSEC};
    use crate::value::InstanceValue;

    const BIN: Pmid = Pmid::new(29, 0, 6);
    const TEN: Pmid = Pmid::new(29, 0, 11);

    fn metric(pmid: Pmid, ty: Type, indom: InDom, sem: Semantics, units: Units) -> Desc {
        Desc {
            pmid,
            ..plain(ty, sem, units, indom)
        }
    }

    fn operands() -> Operands {
        let units = |text: &str| text.parse::<ScaledUnits>().expect(text).units;
        let indom = InDom::new(29, 2);
        let instant = Semantics::Instant;
        let nic = InDom::new(60, 3);
        let time = Units::new(0, 1, 0, 0, TIME_MSEC, 0);
        HashMap::from([
            (
                "bin".into(),
                metric(BIN, Type::I32, indom, instant, Units::NONE),
            ),
            (
                "ten".into(),
                metric(TEN, Type::U32, InDom::NULL, instant, Units::NONE),
            ),
            (
                "ms".into(),
                metric(Pmid(1), Type::Double, InDom::NULL, Semantics::Counter, time),
            ),
            (
                "in.bytes".into(),
                metric(Pmid(2), Type::U64, nic, Semantics::Counter, units("byte")),
            ),
            (
                "speed".into(),
                metric(
                    Pmid(3),
                    Type::Float,
                    nic,
                    Semantics::Discrete,
                    units("Mbyte/sec"),
                ),
            ),
            (
                "text".into(),
                metric(Pmid(4), Type::String, InDom::NULL, instant, Units::NONE),
            ),
        ])
    }

    fn bound(text: &str) -> Result<Bound, BindError> {
        Bound::new(&parse(text).expect(text), &operands())
    }

    fn value(text: &str, bin: &[(i32, i32)]) -> Result<Vec<(i32, Atom)>, ErrorCode> {
        let instance = |(inst, value): &(i32, i32)| InstanceValue {
            inst: *inst,
            value: Atom::I32(*value).to_value(),
        };
        let ten = InstanceValue {
            inst: INST_NULL,
            value: Atom::U32(10).to_value(),
        };
        let sets = HashMap::from([
            (BIN, ValueSet::new(BIN, bin.iter().map(instance).collect())),
            (TEN, ValueSet::new(TEN, vec![ten])),
        ]);
        let mut name = |_, inst| Some(Text::from(format!("bin-{inst}")));
        let mut sample = Sample {
            sets: &sets,
            time: Timestamp::ZERO,
            name: &mut name,
        };
        bound(text).expect(text).values(&mut sample)
    }

    #[test]
    fn metadata_of_the_manual_pages_example() {
        let x = bound("speed - delta(in.bytes) / delta(ms)")
            .expect("bound")
            .desc;
        assert_eq!(x.ty, Type::Double);
        assert_eq!(x.units.to_string(), "Mbyte / sec");
        assert_eq!(x.indom, InDom::new(60, 3));
        let rate = bound("rate(ms)").expect("bound").desc;
        assert_eq!(
            (rate.ty, rate.units.to_string()),
            (Type::Double, String::new())
        );
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        for (text, why) in [
            (
                "text * 128",
                "text * 128: Non-arithmetic type for left operand",
            ),
            (
                "1 + text",
                "1 + text: Non-arithmetic type for right operand",
            ),
            (
                "max(text)",
                "MAX(text): Non-arithmetic operand for function",
            ),
            (
                "in.bytes * in.bytes",
                "in.bytes * in.bytes: Illegal operator for counters",
            ),
            (
                "ms + ten",
                "ms + ten: Illegal operator for counter and non-counter",
            ),
            (
                "100 / ms",
                "100 / ms: Illegal operator for non-counter and counter",
            ),
            ("speed + ten", "speed + ten: Dimensions are not the same"),
            (
                "bin + rate(in.bytes) * 0",
                "bin + <expr>: Dimensions are not the same",
            ),
            (
                "text ? 1 : 2",
                "text ? 1 : 2: Non-arithmetic operand for ternary guard",
            ),
            (
                "ten > 1 ? bin : ten",
                "bin : ten: Different types for ternary operands",
            ),
        ] {
            let error = bound(text).expect_err(text);
            assert_eq!(error, BindError::Semantic(why.to_owned()));
        }
        assert_eq!(
            bound("nothing + 1").expect_err("unknown"),
            BindError::Operand("nothing".to_owned())
        );
    }

    #[test]
    fn values_by_instance() {
        let bin = [(100, 100), (300, 300)];
        let u32s = |values: &[(i32, u32)]| {
            let atoms = values.iter().map(|(i, v)| (*i, Atom::U32(*v)));
            Ok(atoms.collect::<Vec<_>>())
        };
        assert_eq!(value("bin * 2", &bin), u32s(&[(100, 200), (300, 600)]));
        assert_eq!(value("bin > 100", &bin), u32s(&[(100, 0), (300, 1)]));
        assert_eq!(value("count(bin)", &bin), u32s(&[(INST_NULL, 2)]));
        assert_eq!(value("ten - 20", &bin), u32s(&[(INST_NULL, 4_294_967_286)]));
        let real = |inst, v| Ok(vec![(inst, Atom::Double(v))]);
        assert_eq!(value("bin[bin-300] / 2", &bin), real(300, 150.0));
        assert_eq!(value("scalar(bin) / ten", &bin), real(INST_NULL, 10.0));
        let whole = |inst, v| Ok(vec![(inst, Atom::I32(v))]);
        assert_eq!(value("matchinst(!/^bin-1/, bin)", &bin), whole(300, 300));
        assert_eq!(value("max(bin)", &bin), whole(INST_NULL, 300));
        assert_eq!(value("-ten", &bin), whole(INST_NULL, -10));
        assert_eq!(value("sum(bin)", &[]), Ok(Vec::new()));
        assert_eq!(value("bin > 150 ? bin : bin", &bin).map(|v| v.len()), Ok(2));
        assert_eq!(value("speed > 0", &bin), Err(ErrorCode::VALUE));
    }
}
