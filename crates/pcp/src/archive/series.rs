//! The values of metrics over time, and what lies between them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::set::{ArchiveSet, SetCursor};
use crate::desc::{Desc, Semantics, Type};
use crate::error::Result;
use crate::pmid::Pmid;
use crate::timestamp::Timestamp;
use crate::value::{Atom, Value};

/// One instance's values, oldest first; `None` from where it had no value any more.
type Samples = Vec<(Timestamp, Option<Value>)>;

/// A metric's values: instances in the order in which they appear.
#[derive(Default)]
struct Series {
    instances: Vec<(i32, Samples)>,
    by_inst: HashMap<i32, usize>,
}

impl Series {
    fn push(&mut self, inst: i32, time: Timestamp, value: Value) {
        let at = *self.by_inst.entry(inst).or_insert_with(|| {
            self.instances.push((inst, Vec::new()));
            self.instances.len() - 1
        });
        if let Some((_, samples)) = self.instances.get_mut(at) {
            samples.push((time, Some(value)));
        }
    }

    /// From here on there are no values.
    fn gap(&mut self, time: Timestamp) {
        for (_, samples) in &mut self.instances {
            if samples.last().is_some_and(|(_, v)| v.is_some()) {
                samples.push((time, None));
            }
        }
    }
}

/// Everything that archives hold of the metrics that were asked for.
#[derive(Default)]
pub(super) struct History {
    metrics: HashMap<Pmid, Series>,
}

impl History {
    /// Takes in the metrics that are not there yet.
    pub fn load(&mut self, set: &Arc<ArchiveSet>, pmids: &[Pmid]) -> Result<()> {
        let mut missing: HashMap<Pmid, Series> = pmids
            .iter()
            .filter(|p| !self.metrics.contains_key(p))
            .map(|p| (*p, Series::default()))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut cursor = SetCursor::at_start(set)?;
        // What is damaged ends the history; what was read before it is good.
        while let Ok(Some(record)) = cursor.following() {
            if record.is_mark() {
                for series in missing.values_mut() {
                    series.gap(record.time);
                }
                continue;
            }
            let Ok(fetched) = record.decode_of(|pmid| missing.contains_key(&pmid)) else {
                continue;
            };
            for values in fetched.sets {
                let Some(series) = missing.get_mut(&values.pmid) else {
                    continue;
                };
                match values.values {
                    Ok(values) if !values.is_empty() => {
                        for value in values {
                            series.push(value.inst, record.time, value.value);
                        }
                    }
                    _ => series.gap(record.time),
                }
            }
        }
        self.metrics.extend(missing);
        Ok(())
    }

    /// A metric's values at a time.
    pub fn at(&self, desc: &Desc, time: Timestamp) -> Vec<(i32, Value)> {
        let Some(series) = self.metrics.get(&desc.pmid) else {
            return Vec::new();
        };
        let at = |(inst, samples): &(i32, Samples)| Some((*inst, value_at(desc, samples, time)?));
        series.instances.iter().filter_map(at).collect()
    }
}

fn value_at(desc: &Desc, samples: &Samples, time: Timestamp) -> Option<Value> {
    let after = samples.partition_point(|(t, _)| *t <= time);
    let (prior_time, prior) = samples.get(after.checked_sub(1)?)?;
    let prior = prior.as_ref()?;
    if *prior_time == time || desc.sem == Semantics::Discrete {
        return Some(prior.clone());
    }
    let (next_time, next) = samples.get(after)?;
    let next = next.as_ref()?;
    if desc.sem != Semantics::Counter {
        return match desc.ty {
            Type::Event | Type::HighResEvent => None,
            _ => Some(prior.clone()),
        };
    }
    let share = (time - *prior_time).as_secs_f64() / (*next_time - *prior_time).as_secs_f64();
    between(desc, prior, next, share)
}

/// Whether counters that went back are taken to have wrapped (`$PCP_COUNTER_WRAP`, PCPIntro(1)).
fn counters_wrap() -> bool {
    static WRAP: OnceLock<bool> = OnceLock::new();
    *WRAP.get_or_init(|| std::env::var_os("PCP_COUNTER_WRAP").is_some())
}

/// A counter's value at a share of the way from one to the next. There is none between values of which the later is less,
/// unless counters wrap.
fn between(desc: &Desc, prior: &Value, next: &Value, share: f64) -> Option<Value> {
    let from = Atom::extract(prior, desc.ty).ok()?;
    let to = Atom::extract(next, desc.ty).ok()?;
    if to.as_f64()? < from.as_f64()? {
        if !counters_wrap() {
            return None;
        }
        let range = match desc.ty {
            Type::I32 | Type::U32 => 4_294_967_296.0,
            Type::I64 | Type::U64 => 18_446_744_073_709_551_616.0,
            _ => 0.0,
        };
        let (from, to) = (from.as_f64()?, to.as_f64()? + range);
        let value = (0.5 + from + (to - from) * share).floor() % range;
        return Some(match desc.ty {
            Type::I32 => Atom::I32(value as u32 as i32).to_value(),
            Type::U32 => Atom::U32(value as u32).to_value(),
            Type::I64 => Atom::I64(value as u64 as i64).to_value(),
            Type::U64 => Atom::U64(value as u64).to_value(),
            _ => return None,
        });
    }
    let atom = match (from, to) {
        (Atom::I32(a), Atom::I32(b)) => {
            Atom::I32((0.5 + f64::from(a) + (f64::from(b) - f64::from(a)) * share).floor() as i32)
        }
        (Atom::U32(a), Atom::U32(b)) => {
            let value = f64::from(a) + (f64::from(b) - f64::from(a)) * share;
            Atom::U32((0.5 + value) as u32)
        }
        (Atom::I64(a), Atom::I64(b)) => {
            Atom::I64((0.5 + a as f64 + (b as f64 - a as f64) * share).floor() as i64)
        }
        (Atom::U64(a), Atom::U64(b)) => {
            Atom::U64((0.5 + a as f64 + (b as f64 - a as f64) * share) as u64)
        }
        (Atom::Float(a), Atom::Float(b)) => {
            Atom::Float((f64::from(a) + (f64::from(b) - f64::from(a)) * share) as f32)
        }
        (Atom::Double(a), Atom::Double(b)) => Atom::Double(a + (b - a) * share),
        _ => return None,
    };
    Some(atom.to_value())
}
