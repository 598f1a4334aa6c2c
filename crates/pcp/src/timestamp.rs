//! Points in time as PCP counts them.

use std::ops::{Add, Sub};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds in a second.
pub const NSEC_PER_SEC: i64 = 1_000_000_000;

/// A point in time, or a length of time: seconds since the epoch and nanoseconds. Bytes from elsewhere may hold
/// nanoseconds beyond a second; they are kept as they came until arithmetic is done with them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp {
    /// Whole seconds.
    pub sec: i64,
    /// Nanoseconds within the second.
    pub nsec: i32,
}

impl Timestamp {
    /// The epoch.
    pub const ZERO: Timestamp = Timestamp { sec: 0, nsec: 0 };
    /// Later than everything.
    pub const MAX: Timestamp = Timestamp {
        sec: i64::MAX,
        nsec: 999_999_999,
    };

    /// From seconds and nanoseconds.
    #[must_use]
    pub const fn new(sec: i64, nsec: i32) -> Timestamp {
        Timestamp { sec, nsec }
    }

    /// From seconds and microseconds.
    #[must_use]
    pub const fn from_micros(sec: i64, usec: i32) -> Timestamp {
        Timestamp {
            sec,
            nsec: usec.wrapping_mul(1000),
        }
    }

    /// From seconds as a number; rounds to the nearest nanosecond.
    #[must_use]
    pub fn from_secs_f64(seconds: f64) -> Timestamp {
        let whole = seconds.floor();
        let nsec = ((seconds - whole) * 1e9).round();
        Timestamp {
            sec: whole as i64,
            nsec: nsec as i32,
        }
        .normalised()
    }

    /// The clock now.
    #[must_use]
    pub fn now() -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp {
            sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nsec: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        }
    }

    /// Microseconds within the second.
    #[must_use]
    pub const fn usec(self) -> i32 {
        self.nsec / 1000
    }

    /// As a number of seconds.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.sec as f64 + f64::from(self.nsec) / 1e9
    }

    /// As nanoseconds; saturates.
    #[must_use]
    pub fn as_nanos(self) -> i128 {
        i128::from(self.sec) * i128::from(NSEC_PER_SEC) + i128::from(self.nsec)
    }

    /// From nanoseconds; saturates.
    #[must_use]
    pub fn from_nanos(nanos: i128) -> Timestamp {
        let per_sec = i128::from(NSEC_PER_SEC);
        let Ok(sec) = i64::try_from(nanos.div_euclid(per_sec)) else {
            return if nanos < 0 {
                Timestamp::new(i64::MIN, 0)
            } else {
                Timestamp::MAX
            };
        };
        Timestamp {
            sec,
            nsec: nanos.rem_euclid(per_sec) as i32,
        }
    }

    /// With nanoseconds within 0 and 999 999 999.
    #[must_use]
    pub fn normalised(self) -> Timestamp {
        Timestamp::from_nanos(self.as_nanos())
    }
}

impl Add for Timestamp {
    type Output = Timestamp;

    fn add(self, other: Timestamp) -> Timestamp {
        Timestamp::from_nanos(self.as_nanos() + other.as_nanos())
    }
}

impl Sub for Timestamp {
    type Output = Timestamp;

    fn sub(self, other: Timestamp) -> Timestamp {
        Timestamp::from_nanos(self.as_nanos() - other.as_nanos())
    }
}
