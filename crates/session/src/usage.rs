//! What a pass has used, as `-v` tells it.

use std::time::{Duration, Instant};

/// Milliseconds of a clock tick, in which proc(5) counts.
const TICK: u64 = 10;

/// Kilobytes of a page, in which proc(5) counts memory.
const PAGE: u64 = 4;

/// A point in time, with the processor time used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    time: Instant,
    user: u64,
    system: u64,
}

impl Usage {
    /// This moment.
    pub fn now() -> Usage {
        let (user, system) = processor_time().unwrap_or_default();
        Usage {
            time: Instant::now(),
            user,
            system,
        }
    }

    /// Processor time and time since then: `10usr/0sys/12real ms`.
    pub fn time(&self) -> String {
        let (user, system) = processor_time().unwrap_or_default();
        format!(
            "{}usr/{}sys/{}real ms",
            user.saturating_sub(self.user) * TICK,
            system.saturating_sub(self.system) * TICK,
            rounded(self.time.elapsed())
        )
    }

    /// The memory in use now, and [`Usage::time`].
    pub fn spent(&self) -> String {
        let memory = memory().unwrap_or_default();
        let [size, resident, shared, data] = memory.map(|pages| pages * PAGE);
        format!(
            "{size}virt/{resident}res/{shared}shr/{data}data kb, in {}",
            self.time()
        )
    }
}

fn rounded(time: Duration) -> u128 {
    (time.as_micros() + 500) / 1000
}

/// Ticks in user mode and in the kernel.
fn processor_time() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may have blanks in it.
    let (_, rest) = text.rsplit_once(')')?;
    let mut words = rest.split_whitespace().skip(11);
    let mut next = || words.next()?.parse().ok();
    Some((next()?, next()?))
}

/// Pages: of the address space, resident, shared, of data.
fn memory() -> Option<[u64; 4]> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let words: Vec<u64> = text
        .split_whitespace()
        .filter_map(|w| w.parse().ok())
        .collect();
    Some([
        *words.first()?,
        *words.get(1)?,
        *words.get(2)?,
        *words.get(5)?,
    ])
}
