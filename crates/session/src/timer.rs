//! The schedule of timer probes.

use crate::probe_point::Period;
use std::time::{Duration, Instant};

/// Hits that are later than this are left out: the machine was asleep, or handlers take longer than their period.
const FURTHEST_BEHIND: Duration = Duration::from_secs(1);
/// Hits that are handed out at a time, so that a session whose handlers are slow still hears of signals.
const TURN: usize = 64;

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

    /// The handlers due at `now`, earliest first; their next hits are planned. As with the timers of stap's kernel modules,
    /// each of which goes on from when it was due, no hit is left out because others took long: only what is more than
    /// [`FURTHEST_BEHIND`] late. At most [`TURN`] of them; the rest stays due.
    pub fn take_due(&mut self, now: Instant) -> Vec<usize> {
        for entry in &mut self.entries {
            let behind = now.saturating_duration_since(entry.due);
            if behind > FURTHEST_BEHIND {
                let period = entry.period.every.as_nanos().max(1);
                let missed = (behind - FURTHEST_BEHIND).as_nanos().div_ceil(period);
                let skipped = u64::try_from(missed * period).unwrap_or(u64::MAX / 4);
                entry.base += Duration::from_nanos(skipped);
                entry.due += Duration::from_nanos(skipped);
            }
        }
        let mut handlers = Vec::new();
        while handlers.len() < TURN {
            let due = (0..self.entries.len())
                .filter(|&i| self.entries[i].due <= now)
                .min_by_key(|&i| (self.entries[i].due, i));
            let Some(i) = due else { break };
            handlers.push(self.entries[i].handler);
            let next = self.entries[i].base + self.entries[i].period.every;
            self.entries[i].base = next;
            self.entries[i].due = self.jitter(next, self.entries[i].period.randomize);
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
    fn hits_follow_the_period_and_late_ones_are_made_up_for() {
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
        assert_eq!(schedule.take_due(at(75)), [0, 0, 0, 1, 0, 0, 1]);
        assert_eq!(schedule.next(), Some(at(80)));
    }

    #[test]
    fn what_is_much_too_late_is_left_out() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule::new(7);
        schedule.add(0, period(100), start);
        // From 5000 on they are at most a second late.
        assert_eq!(schedule.take_due(at(6000)).len(), 11);
        assert_eq!(schedule.next(), Some(at(6100)));
    }

    #[test]
    fn many_late_ones_come_by_and_by() {
        let start = Instant::now();
        let mut schedule = Schedule::new(7);
        schedule.add(0, period(1), start);
        let now = start + Duration::from_millis(100);
        assert_eq!(schedule.take_due(now).len(), TURN);
        assert_eq!(schedule.take_due(now).len(), 100 - TURN);
        assert_eq!(schedule.take_due(now).len(), 0);
    }
}
