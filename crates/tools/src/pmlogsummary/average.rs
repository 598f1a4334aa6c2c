//! Averages and extremes of one metric's values.

use super::trace::Traced;
use pcp::{Desc, Semantics, TIME_SEC, Timestamp, Type, Units};
use std::collections::HashMap;

/// What is known of one instance.
pub struct Average {
    pub(super) inst: i32,
    pub(super) last: f64,
    pub(super) first_time: Timestamp,
    pub(super) last_time: Timestamp,
    pub(super) marked: bool,
    pub(super) sum: f64,
    /// The values added up; of counters what they grew by, in their own units.
    pub(super) total: f64,
    pub(super) area: f64,
    /// How long values are known for, exactly.
    pub(super) span: Timestamp,
    /// How many values the sum is of: what is discrete counts once more where it ends.
    pub(super) summed: u64,
    pub(super) count: u64,
    pub(super) min: (f64, Timestamp),
    pub(super) max: (f64, Timestamp),
    pub(super) bins: Vec<u64>,
}

impl Average {
    /// Over the samples.
    pub(super) fn stochastic(&self) -> f64 {
        self.sum / self.summed.max(1) as f64
    }

    /// Over time.
    pub(super) fn mean(&self) -> f64 {
        if self.span > Timestamp::ZERO {
            self.area / self.span.as_secs_f64()
        } else {
            0.0
        }
    }
}

pub struct Metric {
    pub(super) desc: Desc,
    pub(super) instances: Vec<Average>,
    pub(super) by_inst: HashMap<i32, usize>,
}

impl Metric {
    pub(super) fn new(desc: Desc) -> Metric {
        Metric {
            desc,
            instances: Vec::new(),
            by_inst: HashMap::new(),
        }
    }

    pub(super) fn scale(&self) -> f64 {
        if self.desc.sem != Semantics::Counter || self.desc.units.dim_time != 1 {
            return 1.0;
        }
        let second = Units::new(0, 1, 0, 0, TIME_SEC, 0);
        let own = Units::new(0, 1, 0, 0, self.desc.units.scale_time, 0);
        own.conversion(second).unwrap_or(1.0)
    }

    pub(super) fn units(&self, rates: bool) -> String {
        let mut units = self.desc.units;
        if rates && self.desc.sem == Semantics::Counter {
            if units.dim_time == 0 {
                units.scale_time = TIME_SEC;
            }
            units.dim_time -= 1;
        }
        let text = units.to_string();
        match text.trim_start() {
            "" => "none".to_owned(),
            text => text.to_owned(),
        }
    }

    pub(super) fn take(
        &mut self,
        inst: i32,
        value: f64,
        time: Timestamp,
        bins: usize,
        traced: Option<&Traced>,
    ) {
        let scale = self.scale();
        let counter = self.desc.sem == Semantics::Counter;
        let ty = self.desc.ty;
        let fresh = !self.by_inst.contains_key(&inst);
        let at = *self.by_inst.entry(inst).or_insert(self.instances.len());
        if fresh {
            self.instances.push(Average {
                inst,
                last: value,
                first_time: time,
                last_time: time,
                marked: false,
                sum: 0.0,
                total: 0.0,
                area: 0.0,
                span: Timestamp::ZERO,
                summed: 0,
                count: 0,
                min: (f64::INFINITY, time),
                max: (f64::NEG_INFINITY, time),
                bins: Vec::new(),
            });
        }
        let Some(average) = self.instances.get_mut(at) else {
            return;
        };
        if let Some(traced) = traced.filter(|_| fresh) {
            traced.first(if counter { 0.0 } else { value });
        }
        // What is no number tells nothing but once, ahead of all others.
        if value.is_nan() && !fresh {
            return;
        }
        let passed = time - average.last_time;
        let elapsed = passed.as_secs_f64();
        let first = fresh || average.marked;
        average.marked = false;
        let last = average.last;
        average.last = value;
        average.last_time = time;
        // What this step adds to the area, as PCP shows it.
        let mut area = last * elapsed;
        let sample = if counter {
            if first || elapsed <= 0.0 {
                return;
            }
            let mut delta = value - last;
            if delta < 0.0 {
                if std::env::var_os("PCP_COUNTER_WRAP").is_none() {
                    return;
                }
                delta += match ty {
                    Type::I32 | Type::U32 => 4_294_967_296.0,
                    _ => 18_446_744_073_709_551_616.0,
                };
            }
            let rate = delta * scale / elapsed;
            area = delta * scale * elapsed / 2.0;
            if bins == 0 {
                if let Some(traced) = traced {
                    traced.base(value, average);
                    traced.rate(rate, time, average);
                }
                average.area += delta * scale;
                average.span = average.span + passed;
                average.total += delta;
            }
            rate
        } else {
            if !first && bins == 0 {
                average.area += last * elapsed;
                average.span = average.span + passed;
            }
            if bins == 0 {
                average.total += value;
            }
            value
        };
        if bins > 0 {
            let width = (average.max.0 - average.min.0) / bins as f64;
            let (mut number, mut bound) = (0, average.min.0 + width);
            while sample > bound && number + 1 < bins {
                number += 1;
                bound += width;
            }
            if let Some(traced) = traced {
                traced.bin(number, sample, average);
            }
            if let Some(bin) = average.bins.get_mut(number) {
                *bin += 1;
            }
            return;
        }
        // The extremes of a counter begin with its first rate at the time of its first value.
        let time = if counter && average.count == 0 {
            average.first_time
        } else {
            time
        };
        average.sum += sample;
        average.summed += 1;
        average.count += 1;
        if sample < average.min.0 || sample.is_nan() {
            average.min = (sample, time);
        }
        if sample > average.max.0 || sample.is_nan() {
            average.max = (sample, time);
        }
        if let Some(traced) = traced.filter(|_| !first) {
            let what = if counter { sample } else { last };
            traced.step(counter, what, elapsed, area, average);
        }
    }
}
