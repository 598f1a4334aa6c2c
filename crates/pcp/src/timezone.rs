//! Time zones as `$TZ` names them, and dates in them as PCP prints them.

use std::fmt::Write as _;
use std::sync::{PoisonError, RwLock};

use jiff::tz::TimeZone;

use crate::timestamp::Timestamp;

static FOR_VALUES: RwLock<Option<Zone>> = RwLock::new(None);

/// A time zone: POSIX rules (`EST-11EST-10,87/2:00,297/2:00`) or a name of the system's database.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// A date and a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// The year.
    pub year: i64,
    /// The month, 1 to 12.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, 0 to 23.
    pub hour: u8,
    /// The minute.
    pub minute: u8,
    /// The second.
    pub second: u8,
    /// The day of the week, 0 for Sunday.
    pub weekday: u8,
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Civil {
    /// `Thu`.
    #[must_use]
    pub fn day_name(&self) -> &'static str {
        DAYS.get(usize::from(self.weekday))
            .copied()
            .unwrap_or("???")
    }

    /// `Aug`.
    #[must_use]
    pub fn month_name(&self) -> &'static str {
        MONTHS
            .get(usize::from(self.month).wrapping_sub(1))
            .copied()
            .unwrap_or("???")
    }

    /// `HH:MM:SS`.
    #[must_use]
    pub fn clock(&self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }

    /// As ctime(3), without the newline.
    #[must_use]
    pub fn ctime(&self) -> String {
        format!(
            "{} {} {:2} {} {:04}",
            self.day_name(),
            self.month_name(),
            self.day,
            self.clock(),
            self.year
        )
    }

    /// The date of days since the epoch in the proleptic Gregorian calendar, for times beyond what a database covers.
    fn from_seconds(seconds: i64) -> Civil {
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
        }
    }

    fn to_seconds(self) -> i64 {
        let year = if self.month <= 2 {
            self.year - 1
        } else {
            self.year
        };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = i64::from(self.month);
        let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5
            + i64::from(self.day)
            - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        days * 86_400
            + i64::from(self.hour) * 3600
            + i64::from(self.minute) * 60
            + i64::from(self.second)
    }
}

/// POSIX rules in a form that the strict parser takes: the C library is content with a daylight name without rules.
fn posix(text: &str) -> Option<TimeZone> {
    if let Ok(zone) = TimeZone::posix(text) {
        return Some(zone);
    }
    if !text.contains(',') {
        return TimeZone::posix(&format!("{text},M3.2.0,M11.1.0")).ok();
    }
    None
}

impl Zone {
    /// The zone that `$TZ` with this value means; UTC for what means nothing, as the C library has it.
    #[must_use]
    pub fn new(name: &str) -> Zone {
        let bare = name.strip_prefix(':').unwrap_or(name);
        let zone = if bare.is_empty() {
            TimeZone::UTC
        } else {
            file_zone(bare)
                .or_else(|| posix(bare))
                .unwrap_or(TimeZone::UTC)
        };
        Zone {
            name: name.to_owned(),
            zone,
        }
    }

    /// The zone of this process: `$TZ`, or the system's.
    #[must_use]
    pub fn local() -> Zone {
        match std::env::var("TZ") {
            Ok(name) => Zone::new(&name),
            Err(_) => Zone {
                name: String::new(),
                zone: file_zone("/etc/localtime").unwrap_or(TimeZone::UTC),
            },
        }
    }

    /// From now on values that have times in their text are told in this zone (pmUseZone(3)).
    pub fn use_for_values(&self) {
        let mut used = FOR_VALUES.write().unwrap_or_else(PoisonError::into_inner);
        *used = Some(self.clone());
    }

    /// The zone of the times in the text of values: what was chosen, or [`Zone::local`].
    pub(crate) fn for_values() -> Zone {
        let used = FOR_VALUES.read().unwrap_or_else(PoisonError::into_inner);
        used.clone().unwrap_or_else(Zone::local)
    }

    /// Its name as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The seconds east of Greenwich at a time.
    #[must_use]
    pub fn offset_at(&self, seconds: i64) -> i64 {
        let time = jiff::Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        self.zone.to_offset(time).seconds().into()
    }

    /// Whether daylight saving time is in force at a time.
    #[must_use]
    pub fn is_dst_at(&self, seconds: i64) -> bool {
        let time = jiff::Timestamp::from_second(seconds);
        time.is_ok_and(|time| self.zone.to_offset_info(time).dst().is_dst())
    }

    /// The date and time of day at a time.
    #[must_use]
    pub fn civil(&self, seconds: i64) -> Civil {
        Civil::from_seconds(seconds.saturating_add(self.offset_at(seconds)))
    }

    /// The time of a date and a time of day (mktime(3)).
    #[must_use]
    pub fn seconds(&self, civil: Civil) -> i64 {
        let local = civil.to_seconds();
        let first = local - self.offset_at(local);
        local - self.offset_at(first)
    }

    /// `HH:MM:SS` and the fraction in so many digits.
    #[must_use]
    pub fn clock(&self, time: Timestamp, digits: usize) -> String {
        let mut text = self.civil(time.sec).clock();
        push_fraction(&mut text, time, digits);
        text
    }

    /// As ctime(3) with a fraction behind the seconds.
    #[must_use]
    pub fn date(&self, time: Timestamp, digits: usize) -> String {
        let civil = self.civil(time.sec);
        let mut text = format!(
            "{} {} {:2} {}",
            civil.day_name(),
            civil.month_name(),
            civil.day,
            civil.clock()
        );
        push_fraction(&mut text, time, digits);
        let _ = write!(text, " {:04}", civil.year);
        text
    }
}

fn push_fraction(text: &mut String, time: Timestamp, digits: usize) {
    if digits > 0 {
        let divisor = 10i32.pow(9 - u32::try_from(digits.min(9)).unwrap_or(9));
        let _ = write!(text, ".{:0digits$}", time.nsec / divisor);
    }
}

fn file_zone(name: &str) -> Option<TimeZone> {
    let path = if name.starts_with('/') {
        name.into()
    } else {
        if !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-_/".contains(&b))
        {
            return None;
        }
        std::path::Path::new("/usr/share/zoneinfo").join(name)
    };
    let data = std::fs::read(path).ok()?;
    TimeZone::tzif(name, &data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_zones() {
        let zone = Zone::new("EST-11EST-10,87/2:00,297/2:00");
        let time = Timestamp::from_micros(902_428_472, 257_504);
        assert_eq!(zone.date(time, 6), "Fri Aug  7 04:34:32.257504 1998");
        assert_eq!(
            Zone::new("UTC").civil(902_428_472).ctime(),
            "Thu Aug  6 18:34:32 1998"
        );
        assert_eq!(
            Zone::new("nonsense").civil(0).ctime(),
            "Thu Jan  1 00:00:00 1970"
        );
        let civil = zone.civil(902_428_472);
        assert_eq!(zone.seconds(civil), 902_428_472);
        assert_eq!(
            Zone::new("UTC").civil(-1).ctime(),
            "Wed Dec 31 23:59:59 1969"
        );
    }
}
