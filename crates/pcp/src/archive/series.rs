//! The values of metrics over time, and what lies between them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::set::{ArchiveSet, SetCursor};
use crate::desc::{Desc, Semantics, Type};
use crate::error::{ErrorCode, Result};
use crate::indom::INST_NULL;
use crate::pmid::Pmid;
use crate::timestamp::Timestamp;
use crate::value::{Atom, InstanceValue, Value};

/// One instance's values, oldest first; `None` from where it had no value any more.
type Samples = Vec<(Timestamp, Option<Value>)>;

/// An instance, what is known of it, and how far earlier fetches have looked.
struct InstanceSeries {
    inst: i32,
    samples: Samples,
    /// The sample that ended the last search, in the direction of the search.
    bound: Option<usize>,
}

/// A metric's values: instances in the order in which they appear.
#[derive(Default)]
struct Series {
    /// Whether there is a value that is not what the metric's descriptor says, which is as far as it is read.
    corrupt: bool,
    /// When it was last recorded, with values or without.
    recorded: Timestamp,
    instances: Vec<InstanceSeries>,
    by_inst: HashMap<i32, usize>,
}

impl Series {
    fn push(&mut self, inst: i32, time: Timestamp, value: Value) {
        let at = *self.by_inst.entry(inst).or_insert_with(|| {
            self.instances.push(InstanceSeries {
                inst,
                samples: Vec::new(),
                bound: None,
            });
            self.instances.len() - 1
        });
        if let Some(series) = self.instances.get_mut(at) {
            series.samples.push((time, Some(value)));
        }
    }

    /// From here on there are no values.
    fn gap(&mut self, time: Timestamp) {
        for InstanceSeries { samples, .. } in &mut self.instances {
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
    /// Whether a damaged record ended the reading.
    damaged: bool,
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
        loop {
            let record = match cursor.following() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(_) => {
                    self.damaged = true;
                    break;
                }
            };
            if record.is_mark() && cursor.ignores_mark() {
                continue;
            }
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
                let values_of = values.pmid;
                let Some(series) = missing.get_mut(&values_of) else {
                    continue;
                };
                if series.corrupt {
                    continue;
                }
                match values.values {
                    Ok(values) if !values.is_empty() => {
                        let desc = set.meta().descs.get(values_of.0);
                        let single = desc.is_some_and(|d| d.indom.is_null());
                        if desc.is_some_and(|d| is_corrupt(d, &values)) {
                            series.corrupt = true;
                            continue;
                        }
                        for value in values {
                            let inst = if single { INST_NULL } else { value.inst };
                            series.push(inst, record.time, value.value);
                        }
                    }
                    _ => series.gap(record.time),
                }
                series.recorded = record.time;
            }
        }
        self.metrics.extend(missing);
        Ok(())
    }

    /// Whether a damaged record ended the reading.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Forgets how far fetches have looked, as pmSetMode(3) does.
    pub fn rewind(&mut self) {
        for series in self.metrics.values_mut() {
            for instance in &mut series.instances {
                instance.bound = None;
            }
        }
    }

    /// A metric's values at a time, of the instances that are wanted; the step's sign says where the fetch before was.
    ///
    /// # Errors
    /// `PM_ERR_LOGREC` when a value would have to be looked for beyond a damaged record.
    pub fn at(
        &mut self,
        set: &ArchiveSet,
        desc: &Desc,
        time: Timestamp,
        backward: bool,
        wanted: impl Fn(i32) -> bool,
    ) -> Result<Vec<(i32, Value)>> {
        let Some(series) = self.metrics.get_mut(&desc.pmid) else {
            return Ok(Vec::new());
        };
        let unseen = self.damaged && series.instances.is_empty();
        if unseen || series.corrupt && time > series.recorded {
            return Err(ErrorCode::LOGREC.into());
        }
        // Discrete values stand until an instance leaves its domain.
        let there = match desc.sem {
            Semantics::Discrete if !desc.indom.is_null() => {
                set.meta().instances_at(desc.indom, time)
            }
            _ => None,
        };
        let mut found = Vec::new();
        for instance in series.instances.iter_mut().filter(|i| wanted(i.inst)) {
            let after = instance.samples.partition_point(|(t, _)| *t <= time);
            if self.damaged && after == instance.samples.len() {
                return Err(ErrorCode::LOGREC.into());
            }
            let marked = instance.crosses_mark(time, after, backward);
            if marked && desc.sem == Semantics::Counter {
                continue;
            }
            if there.is_some_and(|e| e.instances.iter().all(|i| i.inst != instance.inst)) {
                continue;
            }
            if let Some(value) = value_at(desc, &instance.samples, after, time, set.label().start) {
                found.push((instance.inst, value));
            }
        }
        Ok(found)
    }
}

impl InstanceSeries {
    /// Whether the way from where the last search ended to a time leads over a mark. PCP's search for a counter's values ends
    /// at the mark, so that this fetch finds nothing, and goes on from there by the next one.
    fn crosses_mark(&mut self, time: Timestamp, after: usize, backward: bool) -> bool {
        let is_mark = |at: &usize| self.samples.get(*at).is_some_and(|(_, v)| v.is_none());
        // The first sample at or behind the time, in the direction of the search.
        let (goal, mark) = if backward {
            let goal = after.checked_sub(1);
            let mark = match (self.bound, goal) {
                (Some(bound), Some(goal)) if goal < bound => (goal + 1..bound).rev().find(is_mark),
                _ => None,
            };
            (goal, mark)
        } else {
            let exact = after
                .checked_sub(1)
                .filter(|at| self.samples.get(*at).is_some_and(|(t, _)| *t == time));
            let goal = exact.unwrap_or(after);
            let mark = match self.bound {
                Some(bound) if bound < goal => (bound + 1..goal).find(is_mark),
                _ => None,
            };
            (Some(goal), mark)
        };
        self.bound = mark.or(goal);
        mark.is_some()
    }
}

fn value_at(
    desc: &Desc,
    samples: &Samples,
    after: usize,
    time: Timestamp,
    start: Timestamp,
) -> Option<Value> {
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
    // PCP's library reckons in seconds since the archive's start.
    let [at, from, to] = [time, *prior_time, *next_time].map(|t| (t - start).as_secs_f64());
    between(desc, prior, next, at - from, to - from)
}

/// Whether values are none of their metric's type.
pub(super) fn is_corrupt(desc: &Desc, values: &[InstanceValue]) -> bool {
    desc.ty.is_numeric()
        && values
            .iter()
            .any(|v| Atom::extract(&v.value, desc.ty).is_err())
}

/// Whether counters that went back are taken to have wrapped (`$PCP_COUNTER_WRAP`, PCPIntro(1)).
fn counters_wrap() -> bool {
    static WRAP: OnceLock<bool> = OnceLock::new();
    *WRAP.get_or_init(|| std::env::var_os("PCP_COUNTER_WRAP").is_some())
}

/// A counter's value some seconds after one value, of the seconds between that and the next. Between values of which the
/// later is less it goes down, unless counters wrap.
fn between(desc: &Desc, prior: &Value, next: &Value, passed: f64, span: f64) -> Option<Value> {
    let from = Atom::extract(prior, desc.ty).ok()?;
    let to = Atom::extract(next, desc.ty).ok()?;
    let (low, high) = (from.as_f64()?, to.as_f64()?);
    let range = match desc.ty {
        Type::I32 | Type::U32 => 4_294_967_296.0,
        Type::I64 | Type::U64 => 18_446_744_073_709_551_616.0,
        _ => 0.0,
    };
    if high < low && range > 0.0 && counters_wrap() {
        let value = (0.5 + low + passed * (high + range - low) / span).floor() % range;
        return Some(match desc.ty {
            Type::I32 => Atom::I32(value as u32 as i32).to_value(),
            Type::U32 => Atom::U32(value as u32).to_value(),
            Type::I64 => Atom::I64(value as u64 as i64).to_value(),
            _ => Atom::U64(value as u64).to_value(),
        });
    }
    let part = |difference: f64| passed * difference / span;
    let atom = match (from, to) {
        (Atom::I32(a), Atom::I32(b)) => {
            Atom::I32((0.5 + f64::from(a) + part(f64::from(b) - f64::from(a))) as i32)
        }
        (Atom::U32(a), Atom::U32(b)) => {
            Atom::U32((0.5 + f64::from(a) + part(f64::from(b) - f64::from(a))) as u32)
        }
        (Atom::I64(a), Atom::I64(b)) => {
            // What no number is large enough for is the smallest, as the processor converts it for PCP's library.
            let value = 0.5 + a as f64 + part(b.wrapping_sub(a) as f64);
            let fits = value < 9_223_372_036_854_775_808.0;
            Atom::I64(if fits { value as i64 } else { i64::MIN })
        }
        (Atom::U64(a), Atom::U64(b)) if b >= a => {
            Atom::U64((0.5 + a as f64 + part((b - a) as f64)) as u64)
        }
        (Atom::U64(a), Atom::U64(b)) => Atom::U64((0.5 + a as f64 - part((a - b) as f64)) as u64),
        (Atom::Float(a), Atom::Float(b)) => {
            Atom::Float((f64::from(a) + part(f64::from(b) - f64::from(a))) as f32)
        }
        (Atom::Double(a), Atom::Double(b)) => Atom::Double(a + part(b - a)),
        _ => return None,
    };
    Some(atom.to_value())
}
