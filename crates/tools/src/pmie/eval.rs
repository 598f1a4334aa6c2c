//! Evaluating expressions.

use std::collections::HashMap;

use pcp::timezone::Zone;
use pcp::{Text, Timestamp};

use super::ast::{ClockPart, Dimension, Expr, Form, Kind, Operator};
use super::set::{Row, Set, Val, apply, combine, is_arithmetic, map, partner, reduce, shown};
use super::source::{Metric, Sources};

/// Evaluates, and remembers what was.
pub struct Evaluator {
    /// What each expression yielded this time, by its number.
    results: HashMap<usize, Set>,
    before: HashMap<usize, (Timestamp, Set)>,
    zone: Zone,
}

/// For one row: what is said of it, and the values that it is said of.
pub struct Binding {
    /// The host.
    pub host: Option<usize>,
    /// The instance.
    pub inst: Option<Text>,
    /// All samples of the value.
    pub samples: Vec<Val>,
}

impl Binding {
    /// The samples in words.
    pub fn shown(&self) -> String {
        let samples = self.samples.iter().map(|v| shown(v, Kind::Number));
        samples.collect::<Vec<_>>().join(" ")
    }
}

impl Evaluator {
    /// Dates are read in that zone.
    pub fn new(zone: Zone) -> Evaluator {
        Evaluator {
            results: HashMap::new(),
            before: HashMap::new(),
            zone,
        }
    }

    /// What an expression yielded at the last evaluation.
    pub fn result(&self, expr: &Expr) -> Option<&Set> {
        self.results.get(&expr.id)
    }

    /// Evaluates an expression at a time.
    pub fn evaluate(&mut self, expr: &Expr, sources: &Sources, time: Timestamp) -> Set {
        let set = self.form(expr, sources, time);
        self.results.insert(expr.id, set.clone());
        set
    }

    fn form(&mut self, expr: &Expr, sources: &Sources, time: Timestamp) -> Set {
        match &expr.form {
            Form::Number(value) | Form::Delta(value) => Set::single(Val::Number(*value)),
            Form::Text(text) => Set::single(Val::Text(text.clone())),
            Form::Truth(value) => Set::single(Val::Truth(*value)),
            Form::Clock(part) => {
                let civil = self.zone.civil(time.sec);
                Set::single(Val::Number(match part {
                    ClockPart::Minute => civil.minute.into(),
                    ClockPart::Hour => civil.hour.into(),
                    ClockPart::Day => civil.day.into(),
                    ClockPart::Month => f64::from(civil.month) - 1.0,
                    ClockPart::Year => civil.year as f64,
                    ClockPart::DayOfWeek => civil.weekday.into(),
                }))
            }
            Form::Fetch {
                metrics,
                samples,
                instant,
            } => fetch(sources, metrics, *samples, *instant, expr.kind),
            Form::Negate(operand) => {
                let set = self.evaluate(operand, sources, time);
                map(set, |value| match value {
                    Val::Number(n) => Val::Number(-n),
                    _ => Val::Missing,
                })
            }
            Form::Not(operand) => {
                let set = self.evaluate(operand, sources, time);
                map(set, |value| match value {
                    Val::Truth(t) => Val::Truth(!t),
                    _ => Val::Missing,
                })
            }
            Form::Rate(operand) => {
                let now = self.evaluate(operand, sources, time);
                // The values are of the moment at which they were fetched.
                let due = time;
                let time = operand
                    .metric()
                    .and_then(|m| sources.metrics.get(m)?.taken());
                let time = time.unwrap_or(due);
                self.against_before(expr.id, now, time, |now, before, seconds| {
                    match (now, before) {
                        (Val::Number(a), Val::Number(b)) if seconds > 0.0 => {
                            Val::Number((a - b) / seconds)
                        }
                        _ => Val::Missing,
                    }
                })
            }
            Form::Rising(operand) | Form::Falling(operand) => {
                let rising = matches!(expr.form, Form::Rising(_));
                let now = self.evaluate(operand, sources, time);
                self.against_before(expr.id, now, time, |now, before, _| match (now, before) {
                    (Val::Truth(now), Val::Truth(before)) => {
                        Val::Truth(*now == rising && *before != rising)
                    }
                    _ => Val::Missing,
                })
            }
            Form::Binary(operator, left, right) => {
                let left = self.evaluate(left, sources, time);
                let right = self.evaluate(right, sources, time);
                let logical = matches!(operator, Operator::And | Operator::Or);
                // A right side without values is one that is not known; PCP's left side stays without.
                let place = |set: Set| {
                    if logical && set.rows.is_empty() {
                        Set {
                            valid: false,
                            expected: set.expected,
                            ..Set::single(Val::Missing)
                        }
                    } else {
                        set
                    }
                };
                let right = place(right);
                let mut set = combine(&left, &right, |a, b| apply(*operator, a, b));
                // One side may be enough to know.
                if logical {
                    set.valid = left.valid || right.valid;
                }
                set
            }
            Form::Reduce(reduction, dimension, operand) => {
                let set = self.evaluate(operand, sources, time);
                reduce(&set, *reduction, *dimension)
            }
            Form::Match(regex, wanted, operand) => {
                let mut set = self.evaluate(operand, sources, time);
                if !set.valid {
                    set.valid = true;
                    return set;
                }
                for row in &mut set.rows {
                    let name = row.inst.as_ref().map(|(_, name)| name.to_string());
                    let matches = name.is_some_and(|name| regex.is_match(&name));
                    if matches != *wanted {
                        row.values.fill(Val::Truth(false));
                    }
                }
                set
            }
        }
    }

    /// A set against what it was the last time, row by row.
    fn against_before(
        &mut self,
        id: usize,
        now: Set,
        time: Timestamp,
        with: impl Fn(&Val, &Val, f64) -> Val,
    ) -> Set {
        let before = self.before.insert(id, (time, now.clone()));
        let mut set = now;
        for row in &mut set.rows {
            let old = before.as_ref().and_then(|(_, set)| {
                let same = |r: &&Row| {
                    r.host == row.host
                        && r.inst.as_ref().map(|i| i.0) == row.inst.as_ref().map(|i| i.0)
                };
                set.rows.iter().find(same)
            });
            let seconds = before
                .as_ref()
                .map_or(0.0, |(then, _)| (time - *then).as_secs_f64());
            for (at, value) in row.values.iter_mut().enumerate() {
                let was = old.and_then(|r| r.values.get(at)).unwrap_or(&Val::Missing);
                *value = with(value, was, seconds);
            }
        }
        set.valid = set.is_known();
        set
    }

    /// The rows that make a condition true, with the values of its left-most expression.
    pub fn bindings(&self, condition: &Expr) -> Vec<Binding> {
        let mut truth = condition;
        while has_quantifier(truth) {
            truth = match &truth.form {
                Form::Reduce(_, _, e)
                | Form::Not(e)
                | Form::Rising(e)
                | Form::Falling(e)
                | Form::Match(_, _, e) => e,
                Form::Binary(_, left, right) => fetching(left, right),
                _ => break,
            };
        }
        let values = leftmost(truth);
        let (Some(filter), Some(values)) = (self.result(truth), self.result(values)) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for row in &filter.rows {
            let Some(source) = partner(values, row) else {
                continue;
            };
            if row.values.contains(&Val::Truth(true)) {
                found.push(Binding {
                    host: source.host.or(row.host),
                    inst: source
                        .inst
                        .as_ref()
                        .or(row.inst.as_ref())
                        .map(|i| i.1.clone()),
                    samples: source.values.clone(),
                });
            }
        }
        found
    }
}

/// Whether values of metrics are in it.
fn fetches(expr: &Expr) -> bool {
    match &expr.form {
        Form::Fetch { .. } => true,
        Form::Negate(e)
        | Form::Not(e)
        | Form::Rate(e)
        | Form::Rising(e)
        | Form::Falling(e)
        | Form::Reduce(_, _, e)
        | Form::Match(_, _, e) => fetches(e),
        Form::Binary(_, left, right) => fetches(left) || fetches(right),
        _ => false,
    }
}

/// The left side, unless only the right one has values of metrics, or more than one.
fn fetching<'a>(left: &'a Expr, right: &'a Expr) -> &'a Expr {
    let single = left.shape.values <= 1 && right.shape.values > 1;
    if !fetches(right) || (fetches(left) && !single) {
        left
    } else {
        right
    }
}

/// Whether a truth comes out of those of many instances or hosts.
fn has_quantifier(expr: &Expr) -> bool {
    match &expr.form {
        Form::Reduce(what, dimension, e) if !is_arithmetic(*what) => {
            *dimension != Dimension::Sample || has_quantifier(e)
        }
        Form::Not(e) | Form::Rising(e) | Form::Falling(e) | Form::Match(_, _, e) => {
            has_quantifier(e)
        }
        Form::Binary(Operator::And | Operator::Or, left, right) => {
            has_quantifier(fetching(left, right))
        }
        _ => false,
    }
}

/// The expression whose values a truth is about: the left side of its left-most relation.
fn leftmost(truth: &Expr) -> &Expr {
    match &truth.form {
        Form::Binary(_, left, right) if truth.kind == Kind::Truth && fetches(truth) => {
            let side = fetching(left, right);
            if side.kind == Kind::Truth {
                leftmost(side)
            } else {
                side
            }
        }
        Form::Not(e) | Form::Rising(e) | Form::Falling(e) | Form::Match(_, _, e) => leftmost(e),
        Form::Reduce(what, _, e) if !is_arithmetic(*what) => leftmost(e),
        _ => truth,
    }
}

fn fetch(
    sources: &Sources,
    metrics: &[usize],
    (newest, oldest): (usize, usize),
    instant: bool,
    kind: Kind,
) -> Set {
    let mut set = Set::default();
    for metric in metrics.iter().filter_map(|m| sources.metrics.get(*m)) {
        let samples = oldest - newest + 1;
        set.expected += metric.expected() * samples;
        if metrics.len() == 1 && metric.is_unknown() {
            // What there is no metric for is one value that is not known.
            set.rows.push(Row {
                host: Some(metric.host),
                inst: None,
                values: vec![Val::Missing; samples],
            });
        }
        for (inst, name) in metric.rows() {
            let values = (newest..=oldest)
                .map(|sample| {
                    if kind == Kind::Text {
                        metric.text(sample, inst).map_or(Val::Missing, Val::Text)
                    } else {
                        number(metric, sample, inst, instant).map_or(Val::Missing, Val::Number)
                    }
                })
                .collect();
            set.rows.push(Row {
                host: Some(metric.host),
                inst: name.map(|name| (inst, name)),
                values,
            });
        }
    }
    set.valid = set.is_known();
    let wanted = metrics.iter().filter_map(|m| sources.metrics.get(*m));
    if metrics.len() > 1 {
        let known = |row: &Row| row.values.iter().any(|v| *v != Val::Missing);
        let missing = |m: &Metric| {
            !set.rows
                .iter()
                .any(|row| row.host == Some(m.host) && known(row))
        };
        set.partial = wanted.clone().any(missing);
        if wanted.clone().any(Metric::is_failed) {
            set.expected = 1;
        }
    }
    set
}

/// A sample, or how fast it grew since the sample before when the metric is a counter.
fn number(metric: &Metric, sample: usize, inst: i32, instant: bool) -> Option<f64> {
    let (time, value) = metric.number(sample, inst)?;
    if instant || !metric.is_counter() {
        return Some(value);
    }
    let (then, before) = metric.number(sample + 1, inst)?;
    let seconds = (time - then).as_secs_f64();
    // A counter that went back began anew.
    (value >= before && seconds > 0.0).then(|| (value - before) / seconds)
}
