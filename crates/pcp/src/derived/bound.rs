//! Expressions whose metrics are known: what their values are, and the values themselves.

mod metadata;

use std::collections::HashMap;

use regex_lite::Regex;

use self::metadata::{binary, call, common_scales, is_number, plain, promoted, scaling, ternary};
use super::arithmetic::{Values, aggregate, compare, compute, differences, each, is_true, pairs};
use super::expression::{Expression, Function, Operator};
use super::trace::{self, Seen};
use crate::desc::{Desc, Semantics, Type};
use crate::error::ErrorCode;
use crate::indom::{INST_NULL, InDom};
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::units::Units;
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
                if !inner.desc.units.is_compatible(*units) {
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
                // Of a plain number and a count both are counts.
                let count = |mut units: Units, other: Units| {
                    if units.dim_count == 0 && units.is_compatible(other) {
                        units.dim_count = other.dim_count;
                    }
                    units
                };
                let (from, to) = (of.desc.units, self.desc.units);
                let (from, to) = (count(from, to), count(to, from));
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

#[cfg(test)]
mod tests;
