//! How many values an expression has by its form, and along which dimensions: what goes together is decided by that, before there
//! is any value.

use super::ast::{Dimension, Form, Operator};
use super::source::{Metric, Sources};

/// How many hosts, instances and samples the values of an expression have; `None` where it has no such dimension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Hosts.
    pub hosts: Option<usize>,
    /// Instances, of all hosts together.
    pub instances: Option<usize>,
    /// Samples.
    pub samples: Option<usize>,
    /// Values.
    pub values: usize,
}

impl Shape {
    /// A single value of nothing.
    const SINGLE: Shape = Shape {
        hosts: None,
        instances: None,
        samples: None,
        values: 1,
    };

    /// Whether it has several hosts, instances or samples.
    pub fn is_set(&self) -> bool {
        [self.hosts, self.instances, self.samples]
            .iter()
            .any(|size| size.is_some_and(|size| size > 1))
    }

    /// What is known of both of two that are joined by an operator on truths.
    fn joined(&self, other: &Shape) -> Shape {
        Shape {
            hosts: self.hosts.max(other.hosts),
            instances: self.instances.max(other.instances),
            samples: self.samples.max(other.samples),
            values: 1,
        }
    }

    /// The dimension along which two sets of values do not go together, and the sizes there, -1 for none. A single
    /// value goes with all.
    pub fn mismatch(&self, other: &Shape) -> Option<(&'static str, i64, i64)> {
        if self.values <= 1 || other.values <= 1 {
            return None;
        }
        let size = |of: Option<usize>| of.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1);
        [
            ("host", self.hosts, other.hosts),
            ("instance", self.instances, other.instances),
            ("time", self.samples, other.samples),
        ]
        .into_iter()
        .find(|(_, mine, other)| mine != other)
        .map(|(name, mine, other)| (name, size(mine), size(other)))
    }
}

impl Sources {
    /// The shape of an expression of that form, as far as its metrics are known. Those of its operands are known: a chain of
    /// operators is not gone through for each of its links.
    pub fn shape(&self, form: &Form) -> Shape {
        match form {
            Form::Number(_) | Form::Text(_) | Form::Truth(_) | Form::Delta(_) | Form::Clock(_) => {
                Shape::SINGLE
            }
            Form::Fetch {
                metrics, samples, ..
            } => {
                let counts = metrics.iter().map(|metric| {
                    let metric = self.metrics.get(*metric);
                    metric.and_then(Metric::instance_count).unwrap_or(1)
                });
                let (instances, length) = (counts.sum::<usize>(), samples.1 - samples.0 + 1);
                let unknown = metrics
                    .iter()
                    .any(|metric| self.metrics.get(*metric).is_none_or(Metric::is_unknown));
                Shape {
                    hosts: Some(metrics.len()),
                    instances: Some(instances),
                    samples: Some(length),
                    values: if unknown { 1 } else { instances * length },
                }
            }
            Form::Negate(e)
            | Form::Not(e)
            | Form::Rate(e)
            | Form::Rising(e)
            | Form::Falling(e)
            | Form::Match(_, _, e) => e.shape,
            Form::Binary(operator, left, right) => {
                let truths = matches!(operator, Operator::And | Operator::Or);
                if left.shape.mismatch(&right.shape).is_some() {
                    // That was said; what follows is judged by the first operand.
                    Shape {
                        values: 1,
                        ..left.shape
                    }
                } else if left.shape.values > 1 || right.shape == Shape::SINGLE {
                    left.shape
                } else if truths && right.shape.values <= 1 {
                    left.shape.joined(&right.shape)
                } else {
                    right.shape
                }
            }
            Form::Reduce(_, dimension, e) => {
                let mut shape = e.shape;
                match dimension {
                    // What is said of hosts is taken for one value, whatever their instances.
                    Dimension::Host => (shape.hosts, shape.instances) = (None, None),
                    Dimension::Instance => shape.instances = None,
                    Dimension::Sample => shape.samples = None,
                }
                shape.values = match (dimension, shape.instances, shape.hosts) {
                    (Dimension::Instance, _, Some(hosts)) => hosts,
                    (_, Some(instances), _) => instances,
                    _ => 1,
                } * shape.samples.unwrap_or(1);
                shape
            }
        }
    }
}
