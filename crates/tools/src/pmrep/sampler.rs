//! Values over time: fetched, made rates of, scaled, and reduced to those that ranks, limits and filters leave.

use std::collections::{HashMap, HashSet};

use pcp::{Atom, Context, Fetched, INST_NULL, InDom, InstanceValue, Pmid, Timestamp};

use super::metric::{Fetching, Metric};
use super::settings::Settings;

/// A value that can be shown.
#[derive(Clone, PartialEq, Debug)]
pub enum Shown {
    /// A whole number as it was fetched.
    Whole(i128),
    /// A number that is no whole one, or was computed.
    Real(f64),
    /// A text.
    Text(String),
}

impl Shown {
    /// As a number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Shown::Whole(value) => Some(*value as f64),
            Shown::Real(value) => Some(*value),
            Shown::Text(_) => None,
        }
    }
}

/// The values of one metric at a time, by instance, in the order of the metric's instances.
pub type Values = Vec<(i32, Shown)>;

/// The values of all metrics at a time.
pub struct Sample {
    /// When.
    pub time: Timestamp,
    /// One entry per metric.
    pub values: Vec<Values>,
}

impl Sample {
    /// A metric's value of an instance.
    pub fn value(&self, metric: usize, inst: i32) -> Option<&Shown> {
        let values = self.values.get(metric)?;
        values
            .iter()
            .find(|(i, _)| *i == inst)
            .map(|(_, value)| value)
    }
}

type Before = HashMap<(Pmid, i32), f64>;

/// Fetches, and keeps what rates are reckoned from.
pub struct Sampler {
    pmids: Vec<Pmid>,
    before: Option<(Timestamp, Before)>,
    /// The domains' instances when they were last asked for.
    known: HashMap<InDom, HashSet<i32>>,
    wraps: bool,
}

fn plain(atom: Atom) -> Option<Shown> {
    Some(match atom {
        Atom::I32(v) => Shown::Whole(v.into()),
        Atom::U32(v) => Shown::Whole(v.into()),
        Atom::I64(v) => Shown::Whole(v.into()),
        Atom::U64(v) => Shown::Whole(v.into()),
        Atom::Float(v) => Shown::Real(v.into()),
        Atom::Double(v) => Shown::Real(v),
        Atom::String(text) => Shown::Text(text.to_str().into_owned()),
        Atom::Aggregate(_) | Atom::Event(..) => return None,
    })
}

impl Sampler {
    /// One that has fetched nothing.
    pub fn new(metrics: &[Metric]) -> Sampler {
        Sampler {
            pmids: metrics.iter().map(|m| m.desc.pmid).collect(),
            before: None,
            known: HashMap::new(),
            wraps: std::env::var_os("PCP_COUNTER_WRAP").is_some(),
        }
    }

    /// Fetches from a context.
    ///
    /// # Errors
    /// What the context says; `PM_ERR_EOL` at an archive's end.
    pub fn fetch(&mut self, context: &mut Context) -> pcp::Result<Fetched> {
        context.fetch(&self.pmids)
    }

    /// Has no values to make rates of any more.
    pub fn forget(&mut self) {
        self.before = None;
    }

    /// Asks for a domain's instances again when values have some that are not known, as PCP's fetch groups do.
    fn refresh(&mut self, context: &mut Context, indom: InDom, values: &[InstanceValue]) {
        let known = self.known.get(&indom);
        let is_known = |inst| known.is_some_and(|known| known.contains(inst));
        if indom.is_null() || values.iter().all(|value| is_known(&value.inst)) {
            return;
        }
        let now = context.instances(indom).unwrap_or_default();
        let now = now.into_iter().map(|instance| instance.inst).collect();
        self.known.insert(indom, now);
    }

    /// What is to be shown of fetched values.
    pub fn sample(
        &mut self,
        metrics: &mut [Metric],
        context: &mut Context,
        fetched: &Fetched,
    ) -> Sample {
        let mut now = Before::new();
        let mut values = Vec::with_capacity(metrics.len());
        let elapsed = self
            .before
            .as_ref()
            .map(|(time, _)| (fetched.time - *time).as_secs_f64());
        for metric in metrics.iter_mut() {
            let desc = metric.desc;
            let set = fetched.sets.iter().find(|s| s.pmid == desc.pmid);
            let mut found = Values::new();
            let fetched_values = set.map(|s| s.instances()).unwrap_or_default();
            self.refresh(context, desc.indom, fetched_values);
            let known = self.known.get(&desc.indom);
            for value in fetched_values {
                let Ok(atom) = Atom::extract(&value.value, desc.ty) else {
                    continue;
                };
                let inst = if desc.indom.is_null() {
                    INST_NULL
                } else {
                    value.inst
                };
                let number = atom.as_f64();
                if metric.rate {
                    let Some(number) = number else { continue };
                    now.insert((desc.pmid, inst), number);
                    let before = self
                        .before
                        .as_ref()
                        .and_then(|(_, b)| b.get(&(desc.pmid, inst)));
                    let (Some(before), Some(elapsed)) = (before, elapsed.filter(|e| *e > 0.0))
                    else {
                        continue;
                    };
                    let mut delta = number - before;
                    if delta < 0.0 {
                        if !self.wraps {
                            continue;
                        }
                        delta += match desc.ty {
                            pcp::Type::I32 | pcp::Type::U32 => 4_294_967_296.0,
                            _ => 18_446_744_073_709_551_616.0,
                        };
                    }
                    let factor = metric.scale.map_or(1.0, |s| s.factor);
                    let rate = delta / elapsed * factor;
                    let whole =
                        metric.raw && !matches!(desc.ty, pcp::Type::Float | pcp::Type::Double);
                    let shown = if whole {
                        plain(Atom::I64(rate as i64))
                    } else {
                        Some(Shown::Real(rate))
                    };
                    found.extend(shown.map(|s| (inst, s)));
                    continue;
                }
                let shown = match (metric.scale, number) {
                    (Some(scale), Some(number)) => Some(Shown::Real(number * scale.factor)),
                    _ => plain(atom),
                };
                found.extend(shown.map(|s| (inst, s)));
            }
            if !metric.is_flat() {
                match metric.fetched {
                    // What has no name in its domain any more is passing by, and not shown.
                    Fetching::Named => {
                        found.retain(|(inst, _)| known.is_some_and(|known| known.contains(inst)));
                    }
                    Fetching::Chosen => {}
                    Fetching::Nothing => found.clear(),
                }
                for (inst, _) in &found {
                    if !metric.names.contains_key(inst)
                        && let Ok(name) = context.instance_name(desc.indom, *inst)
                    {
                        metric.names.insert(*inst, name);
                    }
                }
            }
            values.push(found);
        }
        self.before = Some((fetched.time, now));
        Sample {
            time: fetched.time,
            values,
        }
    }
}

/// Takes away what is not to be reported.
pub fn reduce(settings: &Settings, metrics: &[Metric], sample: &mut Sample) {
    for (metric, values) in metrics.iter().zip(&mut sample.values) {
        if metric.is_flat() {
            continue;
        }
        if !settings.live_filter {
            values.retain(|(inst, _)| metric.instances.iter().any(|i| i.inst == *inst));
        }
        let place = |inst: i32| {
            metric
                .instances
                .iter()
                .position(|i| i.inst == inst)
                .unwrap_or(usize::MAX)
        };
        values.sort_by_key(|(inst, _)| place(*inst));
    }
    if settings.invert_filter {
        rank(settings, metrics, sample);
        live_filter(settings, metrics, sample);
    } else {
        live_filter(settings, metrics, sample);
        rank(settings, metrics, sample);
    }
    let limit = settings.limit();
    if limit != 0 {
        let bound = limit.unsigned_abs() as f64;
        for values in &mut sample.values {
            values.retain(|(_, value)| {
                value
                    .number()
                    .is_none_or(|n| if limit > 0 { n >= bound } else { n <= bound })
            });
        }
    }
}

fn live_filter(settings: &Settings, metrics: &[Metric], sample: &mut Sample) {
    if !settings.live_filter {
        return;
    }
    for (metric, values) in metrics.iter().zip(&mut sample.values) {
        if !metric.is_flat() && !metric.filter.is_empty() {
            values.retain(|(inst, _)| {
                let name = metric.names.get(inst);
                name.is_some_and(|n| metric.filter.passes(n))
            });
        }
    }
}

/// The instances of the highest values, or of the lowest when the rank is negative; of equals those that come first.
pub fn ranked(values: &Values, rank: i64) -> Vec<i32> {
    let mut order: Vec<(i32, f64)> = Vec::new();
    for (inst, value) in values {
        order.extend(value.number().map(|n| (*inst, n)));
    }
    if rank > 0 {
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
    } else {
        order.sort_by(|a, b| a.1.total_cmp(&b.1));
    }
    order.truncate(usize::try_from(rank.unsigned_abs()).unwrap_or(usize::MAX));
    order.into_iter().map(|(inst, _)| inst).collect()
}

/// Keeps the instances that rank high enough: by the metric's own values, or by those of a predicate with its domain.
fn rank(settings: &Settings, metrics: &[Metric], sample: &mut Sample) {
    if settings.rank == 0 {
        return;
    }
    let is_predicate = |metric: &Metric| settings.predicates.contains(&metric.name);
    let mut kept: HashMap<pcp::InDom, Vec<i32>> = HashMap::new();
    for (metric, values) in metrics.iter().zip(&sample.values) {
        if is_predicate(metric) && !metric.is_flat() {
            kept.insert(metric.desc.indom, ranked(values, settings.rank));
        }
    }
    for (metric, values) in metrics.iter().zip(&mut sample.values) {
        if metric.is_flat() || values.iter().any(|(_, v)| v.number().is_none()) && kept.is_empty() {
            continue;
        }
        let keep = match kept.get(&metric.desc.indom) {
            Some(keep) => keep.clone(),
            None => ranked(values, settings.rank),
        };
        values.retain(|(inst, _)| keep.contains(inst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let whole = |n| Shown::Whole(n);
        let values = vec![
            (0, whole(2)),
            (1, whole(4)),
            (2, whole(2)),
            (3, whole(6)),
            (4, whole(2)),
        ];
        assert_eq!(ranked(&values, 2), [3, 1]);
        assert_eq!(ranked(&values, -3), [0, 2, 4]);
        assert_eq!(ranked(&values, 3), [3, 1, 0]);
    }
}
