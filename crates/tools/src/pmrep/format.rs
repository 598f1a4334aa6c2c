//! How values, times and spans are written.

use pcp::timezone::Zone;
use pcp::{Timestamp, cformat};

use super::sampler::Shown;

/// What stands for a number that does not fit its column.
const TOO_WIDE: &str = "xxx";

/// A number with so many digits behind its point.
pub fn real(value: f64, precision: usize) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    cformat::f(value, precision)
}

/// A value for a column: real numbers lose digits until they fit, and at last what is behind the point, without being
/// rounded; texts are cut.
pub fn cell(value: &Shown, width: usize, precision: usize) -> String {
    let fitting = |text: String| {
        if text.chars().count() > width {
            TOO_WIDE.to_owned()
        } else {
            text
        }
    };
    match value {
        Shown::Whole(value) => fitting(value.to_string()),
        Shown::Real(value) if !value.is_finite() => fitting(real(*value, 0)),
        Shown::Real(value) => {
            let whole = format!("{:.0}", value.trunc());
            let room = width.saturating_sub(whole.chars().count() + 1);
            if precision.max(1) <= room {
                real(*value, precision)
            } else if room > 0 {
                real(*value, room)
            } else {
                fitting(whole)
            }
        }
        Shown::Text(text) => cut(&text.replace('\n', "\\n"), width),
    }
}

/// A text's first characters.
pub fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// A length of time: days if there are any, hours, minutes and seconds.
pub fn span(time: Timestamp) -> String {
    let seconds = time.as_secs_f64().max(0.0).round() as i64;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        _ => format!("{days} days, {clock}"),
    }
}

/// Seconds as Python prints a float.
pub fn seconds(time: Timestamp) -> String {
    let text = time.as_secs_f64().to_string();
    if text.contains('.') {
        text
    } else {
        format!("{text}.0")
    }
}

/// `UTC+10`, `UTC+5:30`: the zone's distance at a time, or what Python takes for it: of January and July of this year that
/// which is further east, if there is daylight saving at the time, and the other if there is not.
pub fn zone(zone: &Zone, at: Timestamp) -> String {
    const YEAR: i64 = (365 * 24 + 6) * 3600;
    let january = Timestamp::now().sec / YEAR * YEAR;
    let (one, other) = (zone.offset_at(january), zone.offset_at(january + YEAR / 2));
    let offset = match zone.is_dst_at(at.sec) {
        true => one.max(other),
        false => one.min(other),
    };
    let minutes = offset.abs() / 60;
    let sign = if offset < 0 { '-' } else { '+' };
    match minutes % 60 {
        0 => format!("UTC{sign}{}", minutes / 60),
        rest => format!("UTC{sign}{}:{rest:02}", minutes / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_or_are_crossed_out() {
        assert_eq!(cell(&Shown::Real(37.324), 8, 3), "37.324");
        assert_eq!(cell(&Shown::Real(37.324), 3, 3), "37");
        assert_eq!(cell(&Shown::Real(1234.5), 3, 3), "xxx");
        assert_eq!(cell(&Shown::Real(79.96), 3, 0), "79");
        assert_eq!(cell(&Shown::Real(79.96), 4, 0), "80");
        assert_eq!(cell(&Shown::Whole(12_345), 4, 3), "xxx");
        assert_eq!(cell(&Shown::Real(f64::NAN), 5, 3), "NaN");
        assert_eq!(
            cell(&Shown::Text("line\nbreak".to_owned()), 7, 3),
            "line\\nb"
        );
    }

    #[test]
    fn spans_and_zones() {
        assert_eq!(span(Timestamp::new(226_900, 0)), "2 days, 15:01:40");
        assert_eq!(span(Timestamp::new(2, 900_000_000)), "00:00:03");
        assert_eq!(seconds(Timestamp::new(600, 0)), "600.0");
        assert_eq!(seconds(Timestamp::new(1, 500_000_000)), "1.5");
        assert_eq!(zone(&Zone::new("IST-5:30"), Timestamp::ZERO), "UTC+5:30");
    }
}
