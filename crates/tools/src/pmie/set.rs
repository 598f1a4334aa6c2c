//! Sets of values over hosts, instances and samples: how they are put together, reduced and shown.

use std::collections::HashMap;

use pcp::Text;

use super::ast::{Dimension, Kind, Operator, Reduction};
use super::show;

/// One value.
#[derive(Clone, PartialEq, Debug)]
pub enum Val {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// True or false.
    Truth(bool),
    /// Not known.
    Missing,
}

/// The samples of an instance on a host.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The host, unless hosts were put together.
    pub host: Option<usize>,
    /// The instance, unless there is none, or instances were put together.
    pub inst: Option<(i32, Text)>,
    /// Newest first.
    pub values: Vec<Val>,
}

/// What an expression yields.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Set {
    /// The rows.
    pub rows: Vec<Row>,
    /// How many values there would be if there were any; 0 while that is not known.
    pub expected: usize,
    /// Whether it is more than a place for values that are not there.
    pub valid: bool,
    /// Whether a host has no values: then there is nothing to say of all hosts.
    pub partial: bool,
}

impl Set {
    pub(super) fn single(value: Val) -> Set {
        Set {
            rows: vec![Row {
                host: None,
                inst: None,
                values: vec![value],
            }],
            expected: 1,
            valid: true,
            partial: false,
        }
    }

    /// Whether anything in it is known.
    pub(super) fn is_known(&self) -> bool {
        self.rows
            .iter()
            .any(|row| row.values.iter().any(|v| *v != Val::Missing))
    }

    /// The first value.
    pub fn first(&self) -> &Val {
        self.rows
            .first()
            .and_then(|row| row.values.first())
            .unwrap_or(&Val::Missing)
    }

    fn is_singular(&self) -> bool {
        self.rows.len() == 1
            && self
                .rows
                .iter()
                .all(|row| row.inst.is_none() && row.host.is_none())
    }
}

pub(super) fn map(mut set: Set, with: impl Fn(&Val) -> Val) -> Set {
    for value in set.rows.iter_mut().flat_map(|row| &mut row.values) {
        *value = with(value);
    }
    set
}

/// The row of a set that goes with a row of another: the same instance of the same host, or what stands for all.
pub(super) fn partner<'a>(set: &'a Set, row: &Row) -> Option<&'a Row> {
    let inst = row.inst.as_ref().map(|i| &i.1);
    let by = |host: bool, instance: bool| {
        set.rows.iter().find(|r| {
            (if host {
                r.host == row.host
            } else {
                r.host.is_none() || row.host.is_none()
            }) && (if instance {
                r.inst.as_ref().map(|i| &i.1) == inst
            } else {
                r.inst.is_none() || inst.is_none()
            })
        })
    };
    by(true, true)
        .or_else(|| by(true, false))
        .or_else(|| by(false, true))
        .or_else(|| by(false, false))
}

/// How many values two sets have together when there are none: those of the left one, unless that is a constant or the right
/// one has more.
fn expected_of(left: &Set, right: &Set) -> usize {
    let leads = left.expected > 1 || (right.expected <= 1 && !left.is_singular());
    if leads { left.expected } else { right.expected }
}

pub(super) fn combine(left: &Set, right: &Set, with: impl Fn(&Val, &Val) -> Val) -> Set {
    // The set with more dimensions says which rows there are.
    let weight = |set: &Set| {
        let row = set.rows.first();
        if set.is_singular() {
            return (0, 0);
        }
        let instances = row.is_none_or(|r| r.inst.is_some());
        (1 + usize::from(instances), set.rows.len())
    };
    let left_leads = weight(left) >= weight(right);
    let (leader, other) = if left_leads {
        (left, right)
    } else {
        (right, left)
    };
    let mut used_hosts: HashMap<Option<usize>, usize> = HashMap::new();
    let rows = leader.rows.iter().map(|row| {
        let place = used_hosts.entry(row.host).or_insert(0);
        let at = *place;
        *place += 1;
        let mine = other.rows.iter().filter(|r| r.host == row.host);
        let same_shape = row.inst.is_some() && mine.clone().all(|r| r.inst.is_some());
        let found = partner(other, row).or_else(|| {
            // Instances of different domains go together by their order; a single one goes with all.
            let only = mine.clone().count() == 1;
            same_shape
                .then(|| mine.clone().nth(if only { 0 } else { at }))
                .flatten()
        });
        let empty = Vec::new();
        let values = found.map_or(&empty, |r| &r.values);
        let count = row.values.len().max(values.len());
        let sample = |values: &[Val], at: usize| -> Val {
            let value = if values.len() == 1 {
                values.first()
            } else {
                values.get(at)
            };
            value.cloned().unwrap_or(Val::Missing)
        };
        let values = (0..count)
            .map(|at| {
                let (a, b) = (sample(&row.values, at), sample(values, at));
                if left_leads {
                    with(&a, &b)
                } else {
                    with(&b, &a)
                }
            })
            .collect();
        Row {
            host: row.host.or(found.and_then(|r| r.host)),
            inst: row.inst.clone(),
            values,
        }
    });
    Set {
        rows: rows.collect(),
        expected: expected_of(left, right),
        valid: left.valid && right.valid,
        partial: left.partial || right.partial,
    }
}

pub(super) fn apply(operator: Operator, left: &Val, right: &Val) -> Val {
    use Operator::{And, Or};
    match (operator, left, right) {
        // Kleene's logic: what is decided by one side needs not know the other.
        (And, Val::Truth(false), _) | (And, _, Val::Truth(false)) => Val::Truth(false),
        (Or, Val::Truth(true), _) | (Or, _, Val::Truth(true)) => Val::Truth(true),
        (And | Or, Val::Truth(a), Val::Truth(b)) => {
            Val::Truth(if operator == And { *a && *b } else { *a || *b })
        }
        (_, Val::Number(a), Val::Number(b)) => numbers(operator, *a, *b),
        (Operator::Equal, Val::Text(a), Val::Text(b)) => Val::Truth(a == b),
        (Operator::NotEqual, Val::Text(a), Val::Text(b)) => Val::Truth(a != b),
        _ => Val::Missing,
    }
}

fn numbers(operator: Operator, a: f64, b: f64) -> Val {
    match operator {
        Operator::Add => Val::Number(a + b),
        Operator::Subtract => Val::Number(a - b),
        Operator::Multiply => Val::Number(a * b),
        Operator::Divide => Val::Number(a / b),
        Operator::Less => Val::Truth(a < b),
        Operator::LessOrEqual => Val::Truth(a <= b),
        Operator::Equal => Val::Truth(a == b),
        Operator::GreaterOrEqual => Val::Truth(a >= b),
        Operator::Greater => Val::Truth(a > b),
        Operator::NotEqual => Val::Truth(a != b),
        Operator::And | Operator::Or => Val::Missing,
    }
}

pub(super) fn reduce(set: &Set, reduction: Reduction, dimension: Dimension) -> Set {
    let missing = |host| Row {
        host,
        inst: None,
        values: vec![Val::Missing],
    };
    let mut rows = Vec::new();
    match dimension {
        Dimension::Sample => {
            for row in &set.rows {
                let values: Vec<&Val> = row.values.iter().collect();
                // Samples are put together when all are there.
                let value = if row.values.contains(&Val::Missing) {
                    Val::Missing
                } else {
                    fold(reduction, &values)
                };
                rows.push(Row {
                    values: vec![value],
                    ..row.clone()
                });
            }
            let expected = set.rows.len().max(1);
            let mut reduced = Set {
                rows,
                expected,
                valid: set.valid,
                partial: set.partial,
            };
            // Before all samples are there, a number made of them is not.
            reduced.valid &= reduced.is_known() || !is_arithmetic(reduction);
            return reduced;
        }
        Dimension::Instance => {
            let mut hosts: Vec<Option<usize>> = Vec::new();
            for row in &set.rows {
                if !hosts.contains(&row.host) {
                    hosts.push(row.host);
                }
            }
            for host in hosts {
                let of: Vec<&Row> = set.rows.iter().filter(|r| r.host == host).collect();
                let values = by_sample(reduction, &of);
                // The extreme value keeps the name of its instance.
                let inst = match reduction {
                    Reduction::Min | Reduction::Max => of
                        .iter()
                        .find(|r| r.values.first() == values.first())
                        .and_then(|r| r.inst.clone()),
                    _ => None,
                };
                rows.push(Row { host, inst, values });
            }
        }
        Dimension::Host => {
            let mut instances: Vec<Option<Text>> = Vec::new();
            let name = |row: &Row| row.inst.as_ref().map(|i| i.1.clone());
            for row in &set.rows {
                if !instances.contains(&name(row)) {
                    instances.push(name(row));
                }
            }
            for instance in instances {
                let of: Vec<&Row> = set.rows.iter().filter(|r| name(r) == instance).collect();
                rows.push(Row {
                    host: None,
                    inst: of.first().and_then(|r| r.inst.clone()),
                    values: by_sample(reduction, &of),
                });
            }
        }
    }
    if rows.is_empty() || (dimension == Dimension::Host && set.partial) {
        return Set {
            rows: vec![missing(None)],
            expected: rows.len().max(1),
            ..Set::default()
        };
    }
    if reduction == Reduction::Count && set.valid {
        for value in rows.iter_mut().filter_map(|row| row.values.first_mut()) {
            if *value == Val::Missing && !set.rows.is_empty() {
                *value = Val::Number(0.0);
            }
        }
    }
    let expected = rows.iter().map(|row| row.values.len()).sum();
    Set {
        rows,
        expected,
        valid: set.valid,
        partial: set.partial,
    }
}

/// Whether numbers come out of a reduction.
pub(super) fn is_arithmetic(reduction: Reduction) -> bool {
    !matches!(
        reduction,
        Reduction::Some | Reduction::All | Reduction::Percent(_)
    )
}

fn by_sample(reduction: Reduction, rows: &[&Row]) -> Vec<Val> {
    let count = rows.iter().map(|r| r.values.len()).max().unwrap_or(0);
    (0..count)
        .map(|at| {
            let values: Vec<&Val> = rows.iter().filter_map(|r| r.values.get(at)).collect();
            fold(reduction, &values)
        })
        .collect()
}

fn fold(reduction: Reduction, values: &[&Val]) -> Val {
    let truths = values.iter().filter(|v| ***v == Val::Truth(true)).count();
    let unknown = values.iter().filter(|v| ***v == Val::Missing).count();
    let numbers: Vec<f64> = values
        .iter()
        .filter_map(|v| match v {
            Val::Number(n) => Some(*n),
            _ => None,
        })
        .collect();
    match reduction {
        Reduction::Some if truths > 0 => Val::Truth(true),
        Reduction::Some | Reduction::All | Reduction::Percent(_) if values.is_empty() => {
            Val::Missing
        }
        Reduction::Some if unknown > 0 => Val::Missing,
        Reduction::Some => Val::Truth(false),
        Reduction::All if truths + unknown < values.len() => Val::Truth(false),
        Reduction::All if unknown > 0 => Val::Missing,
        Reduction::All => Val::Truth(true),
        Reduction::Percent(percent) => {
            let needed = percent / 100.0 * values.len() as f64;
            if truths as f64 >= needed {
                Val::Truth(true)
            } else if ((truths + unknown) as f64) < needed {
                Val::Truth(false)
            } else {
                Val::Missing
            }
        }
        Reduction::Count if unknown == values.len() => Val::Missing,
        Reduction::Count => Val::Number(truths as f64),
        _ if numbers.is_empty() => Val::Missing,
        Reduction::Min => Val::Number(numbers.iter().copied().fold(f64::INFINITY, f64::min)),
        Reduction::Max => Val::Number(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        Reduction::Sum => Val::Number(numbers.iter().sum()),
        Reduction::Average => Val::Number(numbers.iter().sum::<f64>() / numbers.len() as f64),
    }
}

/// A value in words.
pub fn shown(value: &Val, kind: Kind) -> String {
    match value {
        Val::Number(n) => show::number(*n),
        Val::Text(text) => format!("\"{text}\""),
        Val::Truth(true) => "true".to_owned(),
        Val::Truth(false) => "false".to_owned(),
        Val::Missing if kind == Kind::Truth => "unknown".to_owned(),
        Val::Missing => "?".to_owned(),
    }
}
