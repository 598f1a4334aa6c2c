//! The schedule of timer probes.

use crate::probe_point::Period;
use std::time::{Duration, Instant};

/// When each timer probe is next due.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
    random: u64,
}

#[derive(Debug)]
struct Entry {
    handler: usize,
    period: Period,
    /// The unrandomised time of the next hit, from which the following ones are counted.
    base: Instant,
    due: Instant,
}

impl Schedule {
    /// An empty schedule; the seed varies the randomised periods.
    pub fn new(seed: u64) -> Self {
        Schedule {
            entries: Vec::new(),
            random: seed | 1,
        }
    }

    /// Adds a timer whose first hit is one period after `now`.
    pub fn add(&mut self, handler: usize, period: Period, now: Instant) {
        let base = now + period.every;
        let due = self.jitter(base, period.randomize);
        self.entries.push(Entry {
            handler,
            period,
            base,
            due,
        });
    }

    /// The time of the earliest hit.
    pub fn next(&self) -> Option<Instant> {
        self.entries.iter().map(|e| e.due).min()
    }

    /// The handlers due at `now`, earliest first, each once; their next hits are planned. Hits that were missed while
    /// handlers ran are left out, as a kernel timer that is re-armed by its handler would leave them out.
    pub fn take_due(&mut self, now: Instant) -> Vec<usize> {
        let mut due: Vec<(Instant, usize)> = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, e)| e.due <= now)
            .map(|(i, e)| (e.due, i))
            .collect();
        due.sort();
        let mut handlers = Vec::with_capacity(due.len());
        for (_, i) in due {
            let Entry {
                handler,
                period,
                base,
                ..
            } = self.entries[i];
            handlers.push(handler);
            let mut next = base + period.every;
            if next <= now {
                let behind =
                    now.duration_since(next).as_nanos() / period.every.as_nanos().max(1) + 1;
                next += Duration::from_nanos(
                    u64::try_from(behind * period.every.as_nanos()).unwrap_or(u64::MAX / 4),
                );
            }
            self.entries[i].base = next;
            self.entries[i].due = self.jitter(next, period.randomize);
        }
        handlers
    }

    fn jitter(&mut self, at: Instant, by: Duration) -> Instant {
        if by.is_zero() {
            return at;
        }
        // xorshift64: any spread will do here.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let span = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX / 4).max(1);
        let offset = Duration::from_nanos(self.random % (2 * span + 1));
        (at + offset).checked_sub(by).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(ms: u64) -> Period {
        Period {
            every: Duration::from_millis(ms),
            randomize: Duration::ZERO,
        }
    }

    #[test]
    fn hits_follow_the_period_and_missed_ones_are_left_out() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::new(7);
        schedule.add(0, period(10), start);
        schedule.add(1, period(25), start);
        assert_eq!(schedule.next(), Some(at(10)));
        assert!(schedule.take_due(at(9)).is_empty());
        assert_eq!(schedule.take_due(at(10)), [0]);
        assert_eq!(schedule.take_due(at(26)), [0, 1]);
        assert_eq!(schedule.next(), Some(at(30)));
        assert_eq!(schedule.take_due(at(75)), [0, 1]);
        assert_eq!(schedule.next(), Some(at(80)));
    }
}
