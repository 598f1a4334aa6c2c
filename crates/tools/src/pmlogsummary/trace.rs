//! How averages come about, on standard error (`-Dappl0`, `appl1`, `appl2`).

use pcp::Timestamp;
use pcp::debug::{Flag, on};
use pcp::timezone::Zone;

use super::average::Average;

/// Whether there is anything to trace.
pub fn wanted() -> bool {
    on(Flag::Appl0) || on(Flag::Appl1) || on(Flag::Appl2)
}

/// All is gone through again.
pub fn second_pass() {
    if on(Flag::Appl0) {
        eprintln!("resetting for second iteration");
    }
}

/// What a value is of.
pub struct Traced {
    /// All names of the metric.
    pub name: String,
    /// The instance's.
    pub instance: String,
    /// Where times are shown.
    pub zone: Zone,
}

impl Traced {
    /// The first value of an instance, 0 for a counter, which has no rate yet.
    pub fn first(&self, value: f64) {
        if on(Flag::Appl0) {
            eprintln!("{} Initially - min/max={value:.6}/{value:.6}", self.name);
        }
    }

    /// The bin that a value belongs to.
    pub fn bin(&self, number: usize, value: f64, average: &Average) {
        if on(Flag::Appl0) {
            let (min, max) = (average.min.0, average.max.0);
            eprintln!(
                "{} selected bin {number}/{} (val={value:.3}, min={min:.3}, max={max:.3})",
                self.name,
                average.bins.len()
            );
        }
    }

    /// A counter's value, from which the next rate will be made.
    pub fn base(&self, value: f64, average: &Average) {
        if on(Flag::Appl0) {
            let count = average.count + 1;
            eprintln!("{} base value is {value:.6}, count {count}", self.name);
        }
    }

    /// A counter's rate at a time, which may be less or more than all before.
    pub fn rate(&self, rate: f64, time: Timestamp, average: &Average) {
        let which = match average.count {
            0 => return,
            _ if rate < average.min.0 => "min",
            _ if rate > average.max.0 => "max",
            _ => return,
        };
        if on(Flag::Appl2) {
            let (name, instance) = (&self.name, &self.instance);
            let time = self.zone.clock(time, 3);
            eprintln!("new {which} value for {name} (inst[{instance}]: {rate:.6}) at {time}");
        }
    }

    /// What averages are made of after one value more: `what` is a counter's rate, of others the value before.
    pub fn step(&self, counter: bool, what: f64, elapsed: f64, area: f64, average: &Average) {
        if !on(Flag::Appl1) {
            return;
        }
        let a = average;
        let word = if counter { "rate" } else { "lastval" };
        eprintln!(
            "++ {} timedelta={elapsed:.6} count={}\n\
             sum={:.6} min={:.6} max={:.6} stocsum={:.6}\n\
             {word}={what:.6} timesum={:.6} (+{area:.6}) timespan={:.6}",
            self.name,
            a.count,
            a.total,
            a.min.0,
            a.max.0,
            a.sum,
            a.area,
            a.span.as_secs_f64()
        );
    }
}
