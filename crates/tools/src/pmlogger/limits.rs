//! Sizes and times after which a volume or an archive ends (pmlogger(1), `-s` and `-v`).

use pcp::Timestamp;
use pcp::timewindow::interval;

/// When to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// After so many records.
    Records(u64),
    /// After so many bytes.
    Bytes(i64),
    /// After so much time.
    Time(Timestamp),
}

impl std::str::FromStr for Limit {
    type Err = ();

    fn from_str(text: &str) -> Result<Limit, ()> {
        let text = text.trim();
        let text = text.strip_prefix('+').unwrap_or(text);
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        if digits == 0 {
            return Err(());
        }
        let (number, unit) = text.split_at(digits);
        if let Ok(number) = number.parse::<i64>() {
            if number == 0 {
                return Err(());
            }
            let unit = unit.to_ascii_lowercase();
            let shift = match unit.strip_suffix('s').unwrap_or(&unit) {
                "" if unit.is_empty() => return Ok(Limit::Records(number as u64)),
                "b" | "byte" => Some(0),
                "k" | "kb" | "kib" | "kbyte" | "kilobyte" | "kibibyte" => Some(10),
                "m" | "mb" | "mib" | "mbyte" | "megabyte" | "mebibyte" => Some(20),
                "g" | "gb" | "gib" | "gbyte" | "gigabyte" | "gibibyte" => Some(30),
                _ => None,
            };
            if let Some(shift) = shift {
                let bytes = number.checked_mul(1 << shift).ok_or(())?;
                return Ok(Limit::Bytes(bytes));
            }
        }
        interval(text).map(Limit::Time).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of the manual page.
    #[test]
    fn sizes() {
        let parse = |text: &str| text.parse::<Limit>();
        assert_eq!(parse("100"), Ok(Limit::Records(100)));
        assert_eq!(parse("100bytes"), Ok(Limit::Bytes(100)));
        assert_eq!(parse("100K"), Ok(Limit::Bytes(102_400)));
        assert_eq!(parse("100Mb"), Ok(Limit::Bytes(100 << 20)));
        assert_eq!(parse("10Gbyte"), Ok(Limit::Bytes(10 << 30)));
        assert_eq!(parse("10mins"), Ok(Limit::Time(Timestamp::new(600, 0))));
        assert_eq!(parse("1.5hours"), Ok(Limit::Time(Timestamp::new(5400, 0))));
        // And what Debian's pmlogger takes and refuses beside them.
        assert_eq!(parse("4kibibytes"), Ok(Limit::Bytes(4 << 10)));
        assert_eq!(parse("10Mebibytes"), Ok(Limit::Bytes(10 << 20)));
        assert_eq!(parse("1gibibyte"), Ok(Limit::Bytes(1 << 30)));
        assert_eq!(parse("+1"), Ok(Limit::Records(1)));
        for wrong in ["3x", "0", "0b", "1 mb", "0.5K", "0.03", ".5s"] {
            assert_eq!(parse(wrong), Err(()), "{wrong}");
        }
    }
}
