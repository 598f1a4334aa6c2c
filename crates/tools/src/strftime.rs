//! Times in the formats of strftime(3), in the C locale.

use pcp::Timestamp;
use pcp::timezone::{Civil, Zone};

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The day of the year, from 0.
fn day_of_year(civil: &Civil) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let month = usize::from(civil.month.clamp(1, 12)) - 1;
    let leap = i64::from(month > 1 && is_leap(civil.year));
    BEFORE[month] + i64::from(civil.day) - 1 + leap
}

/// The year and week of ISO 8601.
fn iso_week(civil: &Civil) -> (i64, i64) {
    let weekday = (i64::from(civil.weekday) + 6) % 7;
    let week = (day_of_year(civil) - weekday + 10) / 7;
    let weeks_of = |year: i64| {
        let first =
            |y: i64| (y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400)).rem_euclid(7);
        52 + i64::from(first(year) == 4 || first(year - 1) == 3)
    };
    if week < 1 {
        (civil.year - 1, weeks_of(civil.year - 1))
    } else if week > weeks_of(civil.year) {
        (civil.year + 1, 1)
    } else {
        (civil.year, week)
    }
}

/// Writes a time. `%f` is the fraction of the second in microseconds, as Python has it.
pub fn format(text: &str, time: Timestamp, zone: &Zone) -> String {
    let civil = zone.civil(time.sec);
    let offset = zone.offset_at(time.sec);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(mut letter) = chars.next() else {
            out.push('%');
            break;
        };
        // Modifiers change nothing in the C locale, but for the padding that a minus takes away.
        let mut bare = false;
        while matches!(letter, 'E' | 'O' | '-') {
            bare |= letter == '-';
            letter = match chars.next() {
                Some(letter) => letter,
                None => return out,
            };
        }
        let part = one(letter, &civil, time, offset, zone);
        let Some(part) = part else {
            out.push('%');
            out.push(letter);
            continue;
        };
        if bare {
            let stripped = part.trim_start_matches(['0', ' ']);
            out.push_str(if stripped.is_empty() { "0" } else { stripped });
        } else {
            out.push_str(&part);
        }
    }
    out
}

fn one(letter: char, civil: &Civil, time: Timestamp, offset: i64, zone: &Zone) -> Option<String> {
    let nested = |text: &str| Some(format(text, time, zone));
    let two = |n: i64| Some(format!("{n:02}"));
    let twelve = match civil.hour % 12 {
        0 => 12,
        hour => hour,
    };
    let day = DAYS.get(usize::from(civil.weekday)).copied().unwrap_or("?");
    let month = MONTHS
        .get(usize::from(civil.month).wrapping_sub(1))
        .copied()
        .unwrap_or("?");
    let of_year = day_of_year(civil);
    let weekday = i64::from(civil.weekday);
    match letter {
        'a' => day.get(..3).map(str::to_owned),
        'A' => Some(day.to_owned()),
        'b' | 'h' => month.get(..3).map(str::to_owned),
        'B' => Some(month.to_owned()),
        'c' => nested("%a %b %e %H:%M:%S %Y"),
        'C' => two(civil.year.div_euclid(100)),
        'd' => two(civil.day.into()),
        'D' | 'x' => nested("%m/%d/%y"),
        'e' => Some(format!("{:2}", civil.day)),
        'f' => Some(format!("{:06}", time.usec())),
        'F' => nested("%Y-%m-%d"),
        'g' => two(iso_week(civil).0.rem_euclid(100)),
        'G' => Some(iso_week(civil).0.to_string()),
        'H' => two(civil.hour.into()),
        'I' => two(twelve.into()),
        'j' => Some(format!("{:03}", of_year + 1)),
        'k' => Some(format!("{:2}", civil.hour)),
        'l' => Some(format!("{twelve:2}")),
        'm' => two(civil.month.into()),
        'M' => two(civil.minute.into()),
        'n' => Some("\n".to_owned()),
        'p' => Some(if civil.hour < 12 { "AM" } else { "PM" }.to_owned()),
        'P' => Some(if civil.hour < 12 { "am" } else { "pm" }.to_owned()),
        'r' => nested("%I:%M:%S %p"),
        'R' => nested("%H:%M"),
        's' => Some(time.sec.to_string()),
        'S' => two(civil.second.into()),
        't' => Some("\t".to_owned()),
        'T' | 'X' => nested("%H:%M:%S"),
        'u' => Some(if weekday == 0 { 7 } else { weekday }.to_string()),
        'U' => two((of_year + 7 - weekday) / 7),
        'V' => two(iso_week(civil).1),
        'w' => Some(weekday.to_string()),
        'W' => two((of_year + 7 - (weekday + 6) % 7) / 7),
        'y' => two(civil.year.rem_euclid(100)),
        'Y' => Some(civil.year.to_string()),
        'z' => {
            let sign = if offset < 0 { '-' } else { '+' };
            let minutes = offset.abs() / 60;
            Some(format!("{sign}{:02}{:02}", minutes / 60, minutes % 60))
        }
        'Z' => Some(zone.name().to_owned()),
        '%' => Some("%".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As date(1) prints them.
    #[test]
    fn dates() {
        let utc = Zone::new("UTC");
        let time = Timestamp::from_micros(1_373_035_621, 935_153);
        let check =
            |text: &str, expected: &str| assert_eq!(format(text, time, &utc), expected, "{text}");
        check("%Y-%m-%d %H:%M:%S.%f", "2013-07-05 14:47:01.935153");
        check(
            "%c|%j|%V|%G|%U|%W|%u",
            "Fri Jul  5 14:47:01 2013|186|27|2013|26|26|5",
        );
        check("%I:%M %p %y %s %%", "02:47 PM 13 1373035621 %");
        check("%-d/%e/%q", "5/ 5/%q");
        let india = Zone::new("IST-5:30");
        assert_eq!(format("%H:%M %z", time, &india), "20:17 +0530");
        let new_year = Timestamp::new(1_609_459_200, 0);
        assert_eq!(format("%G-W%V %j", new_year, &utc), "2020-W53 001");
    }
}
