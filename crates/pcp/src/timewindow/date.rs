//! Dates and times as people write them (pmParseTimeWindow(3)).

use super::{TimeError, wrong};
use crate::timestamp::Timestamp;
use crate::timezone::{Civil, Zone};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const DAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

fn named(word: &str, names: &[&str]) -> Option<u8> {
    let word = word.to_ascii_lowercase();
    let found = names
        .iter()
        .position(|n| word.len() >= 3 && n.starts_with(&word))?;
    u8::try_from(found).ok()
}

/// Hour, minute, second and nanosecond.
type TimeOfDay = (u8, u8, u8, i32);

/// What a date says, of which anything may be missing.
#[derive(Clone, Copy, Default)]
struct Fields {
    year: Option<i64>,
    month: Option<u8>,
    day: Option<u8>,
    time: Option<TimeOfDay>,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        rest.get(..end).unwrap_or("")
    }

    fn digits(&self) -> &'a str {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest.get(..end).unwrap_or("")
    }

    /// `HH:MM[:SS[.FRACTION]][am|pm]`
    fn clock(&mut self) -> Option<TimeOfDay> {
        let start = self.at;
        let found = match self.time_of_day() {
            Ok((time, true)) => Some(time),
            Ok((_, false)) | Err(_) => None,
        };
        if found.is_none() {
            self.at = start;
        }
        found
    }

    /// A number below a limit; what is none is none.
    fn below(&mut self, limit: u8) -> Result<Option<u8>, usize> {
        let digits = self.digits();
        if digits.is_empty() {
            return Ok(None);
        }
        let number = digits.parse().ok().filter(|n| *n < limit).ok_or(self.at)?;
        self.at += digits.len();
        Ok(Some(number))
    }

    /// `HH[:[MM[:[SS[.FRACTION]]]]][am|pm]`, and whether there is a minute; or where it is none.
    fn time_of_day(&mut self) -> Result<(TimeOfDay, bool), usize> {
        let mut hour = self.below(24)?.ok_or(self.at)?;
        let (mut minute, mut second, mut nsec) = (None, 0u8, 0);
        if self.rest().starts_with(':') {
            self.at += 1;
            minute = self.below(60)?;
            if self.rest().starts_with(':') {
                self.at += 1;
                second = self.below(62)?.unwrap_or(0);
                if self.rest().starts_with('.') {
                    self.at += 1;
                    let digits = self.digits();
                    let fraction: f64 = format!("0.{digits}0").parse().map_err(|_| self.at)?;
                    nsec = (fraction * 1e9).round() as i32;
                    self.at += digits.len();
                }
            }
        }
        let before = self.at;
        self.spaces();
        match self.word().to_ascii_lowercase().as_str() {
            "am" if minute.is_some() => {
                self.at += 2;
                hour %= 12;
            }
            "pm" if minute.is_some() => {
                self.at += 2;
                hour = hour % 12 + 12;
            }
            _ => self.at = before,
        }
        Ok(((hour, minute.unwrap_or(0), second, nsec), minute.is_some()))
    }

    /// Whether a number of at most two digits is next, with nothing but a space behind it.
    fn is_day(&self) -> bool {
        let digits = self.digits();
        let after = self.rest().get(digits.len()..).unwrap_or("");
        (1..=2).contains(&digits.len()) && !after.starts_with(':')
    }

    /// A plus that belongs to a number is none of its digits.
    fn plus(&mut self) {
        let mut ahead = self.rest().chars();
        let signed = ahead.next() == Some('+');
        if signed && ahead.next().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

/// Earlier years are no years to PCP's library.
const FIRST_YEAR: i64 = 1900;

const MORE: &str = "more information expected";

/// `[[Day] Month] [DD] [HH[:MM[:SS]]] [YYYY]`. Of two numbers without a month the first is a day; one alone is a day when it
/// can be no hour, and says too little otherwise.
fn calendar(text: &str) -> Result<Fields, (usize, &'static str)> {
    const UNEXPECTED: &str = "unexpected value";
    let mut scan = Scanner { text, at: 0 };
    let mut fields = Fields::default();
    scan.spaces();
    let mut weekday = false;
    if named(scan.word(), &DAYS).is_some() {
        weekday = true;
        scan.at += scan.word().len();
        scan.spaces();
    }
    if let Some(month) = named(scan.word(), &MONTHS) {
        fields.month = Some(month + 1);
        scan.at += scan.word().len();
        scan.spaces();
    } else if weekday {
        return Err((scan.at, UNEXPECTED));
    }
    let before_sign = scan.at;
    scan.plus();
    let number_at = scan.at;
    // A number that is out of range is refused together with its sign.
    let place = |at| if at == number_at { before_sign } else { at };
    if scan.is_day() {
        let digits = scan.digits();
        let number: u8 = digits.parse().map_err(|_| (scan.at, UNEXPECTED))?;
        let mut ahead = Scanner {
            text,
            at: scan.at + digits.len(),
        };
        ahead.spaces();
        let hour_follows = (1..=2).contains(&ahead.digits().len());
        if fields.month.is_some() || hour_follows || number > 23 {
            if !(1..=31).contains(&number) {
                return Err((before_sign, UNEXPECTED));
            }
            fields.day = Some(number);
            scan.at += digits.len();
            scan.spaces();
        }
    }
    let mut bare = false;
    if (1..=2).contains(&scan.digits().len()) {
        let (time, minutes) = scan.time_of_day().map_err(|at| (place(at), UNEXPECTED))?;
        bare = !minutes && !scan.rest().starts_with(':') && !text.trim_end().ends_with(':');
        fields.time = Some(time);
        scan.spaces();
    }
    let year = scan.digits();
    let year = year.parse().ok().filter(|y| *y >= FIRST_YEAR);
    if scan.digits().len() == 4 && year.is_some() {
        fields.year = year;
        scan.at += 4;
        scan.spaces();
        if fields.time.is_none() {
            fields.time = scan.clock();
            scan.spaces();
        }
    }
    let dated = fields.month.is_some() || fields.day.is_some() || fields.year.is_some();
    if !scan.rest().is_empty() || !dated && fields.time.is_none() {
        return Err((place(scan.at), UNEXPECTED));
    }
    if bare && !dated {
        return Err((scan.at, MORE));
    }
    Ok(fields)
}

fn days_of(civil: Civil) -> i64 {
    let noon = Civil {
        hour: 0,
        minute: 0,
        second: 0,
        ..civil
    };
    Zone::new("UTC").seconds(noon).div_euclid(86_400)
}

fn date_of_days(days: i64) -> Civil {
    Zone::new("UTC").civil(days * 86_400)
}

fn zone_offset(word: &str) -> Option<i64> {
    let hours = match word.to_ascii_lowercase().as_str() {
        "utc" | "gmt" | "z" | "wet" => 0,
        "est" => -5,
        "edt" | "ast" => -4,
        "cst" => -6,
        "cdt" => -5,
        "mst" => -7,
        "mdt" => -6,
        "pst" => -8,
        "pdt" => -7,
        "cet" | "bst" => 1,
        "cest" | "eet" => 2,
        "jst" => 9,
        "aest" => 10,
        "aedt" => 11,
        _ => return None,
    };
    Some(hours * 3600)
}

/// The looser forms: numeric dates, weekdays, relative times and zones; what they leave open is taken from today.
fn loose(text: &str, start: Timestamp, end: Timestamp, zone: &Zone) -> Option<Timestamp> {
    let now = Timestamp::now();
    let mut scan = Scanner { text, at: 0 };
    let mut fields = Fields::default();
    let (mut weekday, mut offset) = (None, None);
    let (mut seconds, mut months, mut days) = (0i64, 0i64, 0i64);
    let (mut relative, mut ago) = (false, false);
    // A minus at the very beginning says that the end is meant.
    let mut backward = text.trim_start().starts_with('-');
    // Whether a unit stands apart from its number: without one distances are from now.
    let mut unit_apart = false;
    let mut named_day = None;
    let mut pending: Option<i64> = None;
    loop {
        scan.spaces();
        if scan.rest().is_empty() {
            break;
        }
        if let Some(time) = scan.clock() {
            fields.time = Some(time);
            continue;
        }
        // A sign that stands alone is passed over.
        if scan.rest().starts_with("+ ") || scan.rest().starts_with("- ") {
            scan.at += 1;
            continue;
        }
        let (sign, skip) = match scan.rest().chars().next()? {
            '+' => (Some(1), 1),
            '-' => (Some(-1), 1),
            _ => (None, 0),
        };
        let mut ahead = Scanner {
            text,
            at: scan.at + skip,
        };
        let digits = ahead.digits();
        if !digits.is_empty() {
            let number: i64 = digits.parse().ok()?;
            ahead.at += digits.len();
            if let Some(sign) = sign {
                if fields.time.is_some() {
                    offset = Some(sign * (number / 100 * 3600 + number % 100 * 60));
                    scan.at = ahead.at;
                    continue;
                }
                pending = Some(sign * number);
                scan.at = ahead.at;
                continue;
            }
            let mut parts = vec![number];
            let separator = ahead
                .rest()
                .chars()
                .next()
                .filter(|c| matches!(c, '-' | '/'));
            if let Some(separator) = separator {
                while parts.len() < 3 && ahead.rest().starts_with(separator) {
                    ahead.at += 1;
                    let digits = ahead.digits();
                    parts.push(digits.parse().ok()?);
                    ahead.at += digits.len();
                }
                let year = |y: i64| match y {
                    0..=68 => y + 2000,
                    69..=99 => y + 1900,
                    y => y,
                };
                let (y, m, d) = match (separator, parts.as_slice()) {
                    ('-', [y, m, d]) => (Some(year(*y)), *m, *d),
                    ('/', [m, d, y]) => (Some(year(*y)), *m, *d),
                    ('/', [m, d]) => (None, *m, *d),
                    _ => return None,
                };
                if !(1..=12).contains(&m) || !(1..=31).contains(&d) {
                    return None;
                }
                (fields.year, fields.month, fields.day) =
                    (y, u8::try_from(m).ok(), u8::try_from(d).ok());
                scan.at = ahead.at;
                continue;
            }
            ahead.spaces();
            if let Some(month) = named(ahead.word(), &MONTHS) {
                fields.day = Some(u8::try_from(number).ok().filter(|d| (1..=31).contains(d))?);
                fields.month = Some(month + 1);
                ahead.at += ahead.word().len();
                ahead.spaces();
                if ahead.digits().len() == 4 {
                    fields.year = ahead.digits().parse().ok();
                    ahead.at += 4;
                }
                scan.at = ahead.at;
                continue;
            }
            let half = ahead.word().to_ascii_lowercase();
            if half == "am" || half == "pm" {
                let hour = u8::try_from(number % 12).ok()?;
                fields.time = Some((hour + if half == "pm" { 12 } else { 0 }, 0, 0, 0));
                scan.at = ahead.at + 2;
                continue;
            }
            if !ahead.word().is_empty() {
                pending = Some(number);
                scan.at += digits.len();
                continue;
            }
            match digits.len() {
                8 => {
                    fields.year = Some(number / 10_000);
                    fields.month = u8::try_from(number / 100 % 100).ok();
                    fields.day = u8::try_from(number % 100).ok();
                }
                4 if fields.month.is_some() => fields.year = Some(number),
                1 | 2 if number < 24 && fields.time.is_none() => {
                    fields.time = Some((u8::try_from(number).ok()?, 0, 0, 0));
                }
                4 if number / 100 < 24 && number % 100 < 60 => {
                    let hour = u8::try_from(number / 100).ok()?;
                    fields.time = Some((hour, u8::try_from(number % 100).ok()?, 0, 0));
                }
                _ => return None,
            }
            scan.at += digits.len();
            continue;
        }
        let word = scan.word();
        if word.is_empty() {
            return None;
        }
        let apart = text.get(..scan.at).is_some_and(|t| t.ends_with(' '));
        scan.at += word.len();
        let lower = word.to_ascii_lowercase();
        let singular = lower.strip_suffix('s').unwrap_or(&lower);
        let count = pending;
        let mut unit = |seconds_each: i64, months_each: i64, days_each: i64| {
            let count = count.unwrap_or(1);
            seconds += count.saturating_mul(seconds_each);
            months += count.saturating_mul(months_each);
            days += count.saturating_mul(days_each);
            relative = true;
            unit_apart |= apart;
            pending = None;
        };
        match lower.as_str() {
            "now" => named_day = Some(None),
            "today" => named_day = Some(Some(0)),
            "tomorrow" => named_day = Some(Some(1)),
            "yesterday" => named_day = Some(Some(-1)),
            "ago" => ago = true,
            "this" => pending = None,
            "last" => {
                backward = true;
                pending = Some(-1);
            }
            // The second, as getdate(3) counts.
            "next" => pending = Some(2),
            _ => match singular {
                "year" => unit(0, 12, 0),
                "month" => unit(0, 1, 0),
                "fortnight" => unit(0, 0, 14),
                "week" => unit(0, 0, 7),
                "day" => unit(0, 0, 1),
                "hour" => unit(3600, 0, 0),
                "minute" | "min" => unit(60, 0, 0),
                "second" | "sec" => unit(1, 0, 0),
                _ => {
                    if let Some(day) = named(word, &DAYS) {
                        weekday = Some((day, pending.take().unwrap_or(0)));
                    } else if let Some(month) = named(word, &MONTHS) {
                        fields.month = Some(month + 1);
                        scan.spaces();
                        if let Ok(day) = scan.digits().parse::<u8>()
                            && (1..=31).contains(&day)
                        {
                            fields.day = Some(day);
                            scan.at += scan.digits().len();
                        }
                    } else {
                        offset = Some(zone_offset(word)?);
                    }
                }
            },
        }
    }
    if pending.is_some() || fields.year.is_some_and(|year| year < FIRST_YEAR) {
        return None;
    }
    if ago {
        (seconds, months, days) = (-seconds, -months, -days);
    }
    let base = match relative && unit_apart {
        true if ago || backward => end,
        true => start,
        false => now,
    };
    let mut civil = zone.civil(base.sec);
    // Distances are counted in whole seconds.
    let mut nsec = if relative { 0 } else { base.nsec };
    let dated = fields.month.is_some() || weekday.is_some() || matches!(named_day, Some(Some(_)));
    if let Some(month) = fields.month {
        civil.month = month;
        civil.day = fields.day.unwrap_or(1);
        civil.year = fields.year.unwrap_or(civil.year);
    }
    if let Some((hour, minute, second, fraction)) = fields.time {
        (civil.hour, civil.minute, civil.second, nsec) = (hour, minute, second, fraction);
    } else if dated {
        (civil.hour, civil.minute, civil.second, nsec) = (0, 0, 0, 0);
    }
    let months_now = civil.year * 12 + i64::from(civil.month) - 1 + months;
    civil.year = months_now.div_euclid(12);
    civil.month = u8::try_from(months_now.rem_euclid(12)).ok()? + 1;
    let mut day = days_of(civil) + days + named_day.flatten().unwrap_or(0);
    if let Some((wanted, which)) = weekday {
        let current = (day + 4).rem_euclid(7);
        let forward = (i64::from(wanted) - current).rem_euclid(7);
        day += match which {
            n if n > 0 => forward + 7 * (n - 1),
            n => forward + 7 * n,
        };
    }
    let date = date_of_days(day);
    let civil = Civil {
        hour: civil.hour,
        minute: civil.minute,
        second: civil.second,
        ..date
    };
    let sec = match offset {
        Some(offset) => Zone::new("UTC").seconds(civil) - offset,
        None => zone.seconds(civil),
    };
    Some(Timestamp::new(sec + seconds, nsec))
}

/// A date and time; what is missing in front is taken from `reference`, advanced by a day for an hour that is earlier.
pub(super) fn date(
    text: &str,
    reference: Timestamp,
    start: Timestamp,
    end: Timestamp,
    zone: &Zone,
) -> Result<Timestamp, TimeError> {
    let fields = match calendar(text) {
        Ok(fields) => fields,
        Err((at, what)) => {
            let found = loose(text, start, end, zone);
            return found.ok_or_else(|| TimeError {
                what,
                ..wrong(text, at)
            });
        }
    };
    let from = zone.civil(reference.sec);
    let (hour, minute, second, nsec) = fields.time.unwrap_or((0, 0, 0, 0));
    let mut civil = Civil {
        year: fields.year.unwrap_or(from.year),
        month: fields.month.unwrap_or(match fields.year {
            Some(_) => 1,
            None => from.month,
        }),
        day: fields.day.unwrap_or(match (fields.month, fields.year) {
            (None, None) => from.day,
            _ => 1,
        }),
        hour,
        minute,
        second,
        weekday: 0,
    };
    let floating = fields.month.is_none() && fields.year.is_none();
    if floating && fields.day.is_some_and(|day| day < from.day) {
        // The day of the month that follows.
        civil.year += i64::from(civil.month / 12);
        civil.month = civil.month % 12 + 1;
    } else if floating && fields.day.is_none() && hour < from.hour {
        civil = Civil {
            hour,
            minute,
            second,
            ..date_of_days(days_of(civil) + 1)
        };
    }
    if fields.month.is_some() && fields.year.is_none() && civil.month < from.month {
        civil.year += 1;
    }
    Ok(Timestamp::new(zone.seconds(civil), nsec))
}
