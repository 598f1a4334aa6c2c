//! Intervals, dates and time windows as the options `-t`, `-S`, `-T`, `-O` and `-A` of PCP's tools take them (PCPIntro(1)).

mod date;

use crate::timestamp::Timestamp;
use crate::timezone::Zone;

use date::date;

/// What is wrong with a text, and where in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}\n{:1$}^ -- {what}", "", at)]
pub struct TimeError {
    /// The text.
    pub text: String,
    /// The byte that is not understood.
    pub at: usize,
    /// Why it is not.
    pub what: &'static str,
}

fn wrong(text: &str, at: usize) -> TimeError {
    TimeError {
        text: text.to_owned(),
        at,
        what: "unexpected value",
    }
}

/// The length of a number as strtod(3) takes it, without signs.
fn number_length(text: &[u8]) -> usize {
    let digits = |from: usize| {
        text.get(from..)
            .unwrap_or(&[])
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut end = whole;
    let mut fraction = 0;
    if text.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        end += 1 + fraction;
    }
    if whole + fraction == 0 {
        return 0;
    }
    if text.get(end).is_some_and(|b| b.eq_ignore_ascii_case(&b'e')) {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    end
}

fn unit_seconds(word: &str) -> Option<f64> {
    Some(match word.to_ascii_lowercase().as_str() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "msec" | "msecs" | "millisecond" | "milliseconds" => 1e-3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    })
}

/// An interval: numbers with units, added up (pmParseInterval(3)).
///
/// # Errors
/// Where the text is not one.
///
/// ```
/// use pcp::timewindow::interval;
/// assert_eq!(interval("1hour 15mins 30secs")?.sec, 4530);
/// assert_eq!(interval("4d6.5h")?, interval("4 days 6 hours 30 min")?);
/// # Ok::<(), pcp::timewindow::TimeError>(())
/// ```
pub fn interval(text: &str) -> Result<Timestamp, TimeError> {
    let bytes = text.as_bytes();
    let spaces = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let mut at = spaces(0);
    let mut nanos = 0i128;
    if at == bytes.len() {
        return Err(TimeError {
            what: "Null or empty specification",
            ..wrong(text, at)
        });
    }
    while at < bytes.len() {
        let length = number_length(bytes.get(at..).unwrap_or(&[]));
        let number = text
            .get(at..at + length)
            .and_then(|n| n.parse::<f64>().ok());
        let Some(number) = number.filter(|n| n.is_finite()) else {
            return Err(wrong(text, at));
        };
        at = spaces(at + length);
        let word: String = text
            .get(at..)
            .unwrap_or("")
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .collect();
        let Some(unit) = unit_seconds(&word) else {
            return Err(wrong(text, at));
        };
        nanos += (number * unit * 1e9).round() as i128;
        at = spaces(at + word.len());
    }
    Ok(Timestamp::from_nanos(nanos))
}

/// What the options of a time window say.
#[derive(Clone, Default, Debug)]
pub struct WindowSpec {
    /// `-S`.
    pub start: Option<String>,
    /// `-T`.
    pub finish: Option<String>,
    /// `-A`.
    pub align: Option<String>,
    /// `-O`.
    pub origin: Option<String>,
}

/// A time window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeWindow {
    /// Its first moment.
    pub start: Timestamp,
    /// Its last moment.
    pub end: Timestamp,
    /// The first sample's time.
    pub origin: Timestamp,
    /// Whether `-A` was left without effect because the window holds no such moment.
    pub unaligned: bool,
}

fn point(
    text: &str,
    forward_from: Timestamp,
    backward_from: Timestamp,
    zone: &Zone,
) -> Result<Timestamp, TimeError> {
    let trimmed = text.trim_start();
    if let Some(text) = trimmed.strip_prefix('@') {
        return date(text, forward_from, forward_from, backward_from, zone);
    }
    if let Some(back) = trimmed.strip_prefix('-') {
        return Ok(backward_from - interval(back)?);
    }
    let text = trimmed.strip_prefix('+').unwrap_or(text);
    Ok(forward_from + interval(text)?)
}

fn align_down(time: Timestamp, align: i128) -> i128 {
    time.as_nanos().div_euclid(align) * align
}

impl WindowSpec {
    /// The window that the options mean for data from `first` to `last`, read in `zone` (pmParseTimeWindow(3)).
    ///
    /// # Errors
    /// The option's text that is not understood.
    pub fn window(
        &self,
        first: Timestamp,
        last: Timestamp,
        zone: &Zone,
    ) -> Result<TimeWindow, TimeError> {
        let align = match &self.align {
            Some(text) => match interval(text)?.as_nanos() {
                0 => {
                    return Err(TimeError {
                        what: "alignment specified by -A switch could not be applied",
                        ..wrong(text, 0)
                    });
                }
                align => align,
            },
            None => 0,
        };
        let up = |time: Timestamp| {
            let down = align_down(time, align);
            Timestamp::from_nanos(if down == time.as_nanos() {
                down
            } else {
                down + align
            })
        };
        let mut start = match &self.start {
            Some(text) => point(text, first, last, zone)?.max(first),
            None => first,
        };
        let mut unaligned = false;
        if align > 0 {
            let aligned = up(start);
            if aligned <= last {
                start = aligned;
            } else {
                unaligned = true;
            }
        }
        let end = match &self.finish {
            Some(text) => point(text, start, last, zone)?.min(last),
            None => last,
        };
        let mut origin = match &self.origin {
            Some(text) => match point(text, start, end, zone)? {
                at if at < start => start,
                at => at.min(end),
            },
            None => start,
        };
        if self.origin.is_some() && align > 0 && !unaligned {
            let aligned = [up(origin), Timestamp::from_nanos(align_down(origin, align))];
            match aligned.into_iter().find(|at| start <= *at && *at <= end) {
                Some(aligned) => origin = aligned,
                None => unaligned = true,
            }
        }
        Ok(TimeWindow {
            start,
            end,
            origin,
            unaligned,
        })
    }
}

/// The number of samples that fit between an origin and an end, both included.
#[must_use]
pub fn samples_between(origin: Timestamp, end: Timestamp, step: Timestamp) -> i128 {
    let span = end.as_nanos() - origin.as_nanos();
    match step.as_nanos() {
        step if step > 0 && span >= 0 => span / step + 1,
        _ => i128::from(span >= 0),
    }
}

/// A second.
pub const SECOND: Timestamp = Timestamp { sec: 1, nsec: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: &str, finish: &str, align: &str, origin: &str) -> TimeWindow {
        let some = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        let spec = WindowSpec {
            start: some(start),
            finish: some(finish),
            align: some(align),
            origin: some(origin),
        };
        // Wed Jan 15 13:11:12 2014 to Fri Jan 17 07:42:13 2014.
        let (first, last) = (
            Timestamp::new(1_389_791_472, 0),
            Timestamp::new(1_389_944_533, 0),
        );
        spec.window(first, last, &Zone::new("UTC"))
            .expect("a window")
    }

    /// As pmval of PCP 6.0.3 prints them for an archive of that span.
    #[test]
    fn windows() {
        let zone = Zone::new("UTC");
        let date = |t: Timestamp| zone.date(t, 0);
        for (start, finish, align, origin, first, last, at) in [
            (
                "@14:00",
                "@13:50",
                "",
                "",
                "Wed Jan 15 14:00:00 2014",
                "Thu Jan 16 13:50:00 2014",
                "",
            ),
            (
                "@13:00",
                "@12:00",
                "",
                "",
                "Wed Jan 15 13:11:12 2014",
                "Thu Jan 16 12:00:00 2014",
                "",
            ),
            (
                "@Jan 16",
                "",
                "",
                "",
                "Thu Jan 16 00:00:00 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "@2014-01-16",
                "+1day",
                "",
                "",
                "Thu Jan 16 00:00:00 2014",
                "Fri Jan 17 00:00:00 2014",
                "",
            ),
            (
                "@01/16/14 10:00",
                "",
                "",
                "",
                "Thu Jan 16 10:00:00 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "@2 days",
                "",
                "",
                "",
                "Fri Jan 17 13:11:12 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "@1 day ago",
                "",
                "",
                "",
                "Thu Jan 16 07:42:13 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "",
                "-1hour",
                "1hour",
                "-10min",
                "Wed Jan 15 14:00:00 2014",
                "Fri Jan 17 06:42:13 2014",
                "Fri Jan 17 06:00:00 2014",
            ),
            (
                "",
                "",
                "1hour",
                "90min",
                "Wed Jan 15 14:00:00 2014",
                "Fri Jan 17 07:42:13 2014",
                "Wed Jan 15 16:00:00 2014",
            ),
            (
                "@20:20:20",
                "",
                "10min",
                "@21:21",
                "Wed Jan 15 20:30:00 2014",
                "Fri Jan 17 07:42:13 2014",
                "Wed Jan 15 21:30:00 2014",
            ),
            (
                "@16:30 1 hour ago",
                "",
                "",
                "",
                "Fri Jan 17 15:30:00 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "@2 hour -5min",
                "",
                "",
                "",
                "Wed Jan 15 15:06:12 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "@- 5 min",
                "",
                "",
                "",
                "Fri Jan 17 07:47:13 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
            (
                "@this hour",
                "",
                "",
                "",
                "Wed Jan 15 14:11:12 2014",
                "Fri Jan 17 07:42:13 2014",
                "",
            ),
        ] {
            let window = window(start, finish, align, origin);
            assert_eq!(date(window.start), first, "{start}");
            assert_eq!(date(window.end), last, "{start} {finish}");
            if !at.is_empty() {
                assert_eq!(date(window.origin), at, "{origin}");
            }
        }
    }

    /// A unit that is glued to its number counts from now, whatever the archive is; so say Debian's tools.
    #[test]
    fn glued_units_count_from_now() {
        let zone = Zone::new("UTC");
        for (text, seconds) in [("@+11sec", 11), ("@5sec ago", -5), ("@+2hours", 7200)] {
            let spec = WindowSpec {
                start: Some(text.to_owned()),
                ..WindowSpec::default()
            };
            let before = Timestamp::now().sec + seconds;
            let window = spec
                .window(Timestamp::ZERO, Timestamp::MAX, &zone)
                .expect("a window");
            let after = Timestamp::now().sec + seconds;
            assert!(
                (before..=after).contains(&window.start.sec),
                "{text}: {}",
                window.start.sec
            );
        }
    }

    #[test]
    fn errors_point_at_the_byte() {
        let at = |text: &str| {
            let spec = WindowSpec {
                start: Some(text.to_owned()),
                ..WindowSpec::default()
            };
            let zone = Zone::new("UTC");
            spec.window(Timestamp::ZERO, Timestamp::MAX, &zone)
                .err()
                .map(|e| e.to_string())
        };
        let caret = |text: &str, at: usize| {
            Some(format!("{text}\n{}^ -- unexpected value", " ".repeat(at)))
        };
        assert_eq!(at("foo"), caret("foo", 0));
        assert_eq!(at("1foo"), caret("1foo", 1));
        assert_eq!(at("@foo bar"), caret("foo bar", 0));
        assert_eq!(at("@2016-02-10 25:39:14"), caret("2016-02-10 25:39:14", 4));
        // The sign belongs to a number that is refused.
        assert_eq!(at("@+55"), caret("+55", 0));
        assert_eq!(at("@10:99"), caret("10:99", 3));
        assert_eq!(at("@+9.9"), caret("+9.9", 2));
        // Years begin with 1900.
        assert_eq!(at("@5 min, 3 sec"), caret("5 min, 3 sec", 2));
        assert_eq!(at("@1566"), caret("1566", 0));
        assert_eq!(at("@Jan 1899"), caret("Jan 1899", 4));
        assert_eq!(at("@Jan 1900"), None);
        assert_eq!(at("-1 s"), None);
    }
}
