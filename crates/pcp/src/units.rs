//! Dimensions and scales of metric values: printing, parsing and conversion.

use std::fmt;
use std::str::FromStr;

use crate::error::ErrorCode;

/// Dimension in space, time and events, and the scale of each (pmUnitsStr(3)). Six signed or unsigned fields of four
/// bits each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Units {
    /// Power of the space dimension, −8 to 7.
    pub dim_space: i8,
    /// Power of the time dimension, −8 to 7.
    pub dim_time: i8,
    /// Power of the event dimension, −8 to 7.
    pub dim_count: i8,
    /// Scale of space: bytes times 1024 to this power, 0 to 15.
    pub scale_space: u8,
    /// Scale of time: nanoseconds (0) to hours (5).
    pub scale_time: u8,
    /// Scale of events: a power of ten, −8 to 7.
    pub scale_count: i8,
}

/// Nanoseconds (`PM_TIME_NSEC`).
pub const TIME_NSEC: u8 = 0;
/// Microseconds.
pub const TIME_USEC: u8 = 1;
/// Milliseconds.
pub const TIME_MSEC: u8 = 2;
/// Seconds.
pub const TIME_SEC: u8 = 3;
/// Minutes.
pub const TIME_MIN: u8 = 4;
/// Hours.
pub const TIME_HOUR: u8 = 5;

const SPACE: [&str; 9] = [
    "byte", "Kbyte", "Mbyte", "Gbyte", "Tbyte", "Pbyte", "Ebyte", "Zbyte", "Ybyte",
];
const TIME: [&str; 6] = ["nanosec", "microsec", "millisec", "sec", "min", "hour"];

const fn nibble(raw: u32, shift: u32) -> u8 {
    (raw >> shift & 0xf) as u8
}

const fn signed(nibble: u8) -> i8 {
    ((nibble << 4) as i8) >> 4
}

impl Units {
    /// No dimension: a plain number.
    pub const NONE: Units = Units::new(0, 0, 0, 0, 0, 0);

    /// Dimensions and scales, in the order of PCP's `PMDA_PMUNITS`.
    #[must_use]
    pub const fn new(
        dim_space: i8,
        dim_time: i8,
        dim_count: i8,
        scale_space: u8,
        scale_time: u8,
        scale_count: i8,
    ) -> Units {
        Units {
            dim_space,
            dim_time,
            dim_count,
            scale_space,
            scale_time,
            scale_count,
        }
    }

    /// From the word in a PDU or archive.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Units {
        Units {
            dim_space: signed(nibble(raw, 28)),
            dim_time: signed(nibble(raw, 24)),
            dim_count: signed(nibble(raw, 20)),
            scale_space: nibble(raw, 16),
            scale_time: nibble(raw, 12),
            scale_count: signed(nibble(raw, 8)),
        }
    }

    /// The word for a PDU or archive.
    #[must_use]
    pub const fn raw(self) -> u32 {
        (self.dim_space as u32 & 0xf) << 28
            | (self.dim_time as u32 & 0xf) << 24
            | (self.dim_count as u32 & 0xf) << 20
            | (self.scale_space as u32 & 0xf) << 16
            | (self.scale_time as u32 & 0xf) << 12
            | (self.scale_count as u32 & 0xf) << 8
    }

    /// Whether both have the same dimensions, whatever their scales.
    #[must_use]
    pub fn same_dimension(self, other: Units) -> bool {
        (self.dim_space, self.dim_time, self.dim_count)
            == (other.dim_space, other.dim_time, other.dim_count)
    }

    /// Whether values of both can be added, compared and scaled to each other: of the same dimensions, or one a plain number
    /// and the other a count, which PCP takes for the same.
    #[must_use]
    pub fn is_compatible(self, other: Units) -> bool {
        let is_count = |units: Units| {
            (units.dim_space, units.dim_time) == (0, 0) && matches!(units.dim_count, 0 | 1)
        };
        self.same_dimension(other) || is_count(self) && is_count(other)
    }

    /// Whether all dimensions are zero.
    #[must_use]
    pub fn is_dimensionless(self) -> bool {
        self.same_dimension(Units::NONE)
    }

    /// The factor that a value in these units is multiplied by to be in `to` (pmConvScale(3)).
    ///
    /// # Errors
    /// `PM_ERR_CONV` when the dimensions differ.
    pub fn conversion(self, to: Units) -> Result<f64, ErrorCode> {
        if !self.same_dimension(to) {
            return Err(ErrorCode::CONV);
        }
        let (mut multiply, mut divide) = (1f64, 1f64);
        let mut apply = |factor: f64, power: i32| {
            if power >= 0 {
                multiply *= factor.powi(power);
            } else {
                divide *= factor.powi(-power);
            }
        };
        let space = i32::from(self.scale_space) - i32::from(to.scale_space);
        apply(1024.0, space * i32::from(self.dim_space));
        let count = i32::from(self.scale_count) - i32::from(to.scale_count);
        apply(10.0, count * i32::from(self.dim_count));
        let (from_ns, to_ns) = (nanoseconds(self.scale_time), nanoseconds(to.scale_time));
        if from_ns >= to_ns {
            apply(from_ns / to_ns, i32::from(self.dim_time));
        } else {
            apply(to_ns / from_ns, -i32::from(self.dim_time));
        }
        Ok(multiply / divide)
    }
}

fn nanoseconds(scale: u8) -> f64 {
    match scale {
        TIME_NSEC => 1.0,
        TIME_USEC => 1e3,
        TIME_MSEC => 1e6,
        TIME_SEC => 1e9,
        TIME_MIN => 60e9,
        _ => 3600e9,
    }
}

/// As pmUnitsStr(3) prints it; empty for no dimension and no scale.
impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = SPACE.get(usize::from(self.scale_space)).map_or_else(
            || format!("space-{}", self.scale_space),
            |s| (*s).to_owned(),
        );
        let time = TIME
            .get(usize::from(self.scale_time))
            .map_or_else(|| format!("time-{}", self.scale_time), |s| (*s).to_owned());
        let count = match self.scale_count {
            0 => "count".to_owned(),
            1 => "count x 10".to_owned(),
            n => format!("count x 10^{n}"),
        };
        let dims = [
            (self.dim_space, &space),
            (self.dim_time, &time),
            (self.dim_count, &count),
        ];
        let term = |(dim, name): &(i8, &String)| match dim.unsigned_abs() {
            1 => (*name).clone(),
            n => format!("{name}^{n}"),
        };
        let above: Vec<String> = dims.iter().filter(|d| d.0 > 0).map(term).collect();
        let below: Vec<String> = dims.iter().filter(|d| d.0 < 0).map(term).collect();
        let mut text = above.join(" ");
        if !below.is_empty() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str("/ ");
            text.push_str(&below.join(" "));
        }
        if self.is_dimensionless() {
            match self.scale_count {
                0 => {}
                1 => text.push_str("x 10"),
                n => text.push_str(&format!("x 10^{n}")),
            }
        }
        f.pad(&text)
    }
}

/// Units together with a multiplier: `2.5 kbyte / 10 sec` (pmParseUnitsStr(3)).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScaledUnits {
    /// The units.
    pub units: Units,
    /// What a value in the base units has to be multiplied by: the inverse of the factors in the text.
    pub multiplier: f64,
}

impl FromStr for ScaledUnits {
    type Err = UnitsError;

    fn from_str(text: &str) -> Result<ScaledUnits, UnitsError> {
        let mut parser = Parser { rest: text };
        let (above, factor) = parser.side()?;
        let mut units = above;
        let mut multiplier = 1.0 / factor;
        if parser.take('/') {
            let (below, divisor) = parser.side()?;
            multiplier *= divisor;
            units = divide(above, below)?;
        }
        if !parser.rest.trim_start().is_empty() {
            return Err(UnitsError::BaseUnit);
        }
        Ok(ScaledUnits { units, multiplier })
    }
}

/// Why a text is not units; the message is that of pmParseUnitsStr(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnitsError {
    /// A word that is no unit, or the second of a dimension.
    #[error("unrecognized or duplicate base unit")]
    BaseUnit,
    /// A power that does not fit the field.
    #[error("{0} dimension out of bounds")]
    Dimension(&'static str),
}

fn fits(value: i32, what: &'static str) -> Result<i8, UnitsError> {
    i8::try_from(value)
        .ok()
        .filter(|v| (-8..8).contains(v))
        .ok_or(UnitsError::Dimension(what))
}

fn divide(above: Units, below: Units) -> Result<Units, UnitsError> {
    let sub = |a: i8, b: i8, what| fits(i32::from(a) - i32::from(b), what);
    let mut units = Units {
        dim_space: sub(above.dim_space, below.dim_space, "space")?,
        dim_time: sub(above.dim_time, below.dim_time, "time")?,
        dim_count: sub(above.dim_count, below.dim_count, "count")?,
        ..above
    };
    if above.dim_space == 0 {
        units.scale_space = below.scale_space;
    }
    if above.dim_time == 0 {
        units.scale_time = below.scale_time;
    }
    if above.dim_count == 0 {
        units.scale_count = below.scale_count;
    }
    if units.dim_space == 0 {
        units.scale_space = 0;
    }
    if units.dim_time == 0 {
        units.scale_time = 0;
    }
    if units.dim_count == 0 {
        units.scale_count = 0;
    }
    Ok(units)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, c: char) -> bool {
        self.skip();
        if let Some(rest) = self.rest.strip_prefix(c) {
            self.rest = rest;
            true
        } else {
            false
        }
    }

    /// One side of the slash: an optional factor, then at most one unit of each dimension.
    fn side(&mut self) -> Result<(Units, f64), UnitsError> {
        let mut units = Units::NONE;
        let mut factor = 1.0;
        self.skip();
        if let Some(number) = self.number() {
            factor = number;
        }
        loop {
            self.skip();
            if self.rest.is_empty() || self.rest.starts_with('/') {
                return Ok((units, factor));
            }
            let end = self
                .rest
                .find(|c: char| c.is_whitespace() || c == '/' || c == '^')
                .unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            let word = word.to_ascii_lowercase();
            self.rest = rest;
            if let Some(scale) = space_scale(&word).filter(|_| units.dim_space == 0) {
                units.dim_space = fits(self.power()?, "space")?;
                units.scale_space = scale;
            } else if let Some(scale) = time_scale(&word).filter(|_| units.dim_time == 0) {
                units.dim_time = fits(self.power()?, "time")?;
                units.scale_time = scale;
            } else if matches!(word.as_str(), "count" | "counts") && units.dim_count == 0 {
                units.scale_count = self.decimal_scale()?;
                units.dim_count = fits(self.power()?, "count")?;
            } else {
                return Err(UnitsError::BaseUnit);
            }
        }
    }

    fn number(&mut self) -> Option<f64> {
        let mut end = 0;
        for (at, _) in self.rest.char_indices() {
            let upto = at + 1;
            if self
                .rest
                .get(..upto)
                .is_some_and(|t| t.parse::<f64>().is_ok())
                && self.rest.is_char_boundary(upto)
            {
                end = upto;
            }
            if upto > end + 3 {
                break;
            }
        }
        let (number, rest) = self.rest.split_at_checked(end)?;
        if !number.bytes().any(|b| b.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        number.parse().ok()
    }

    fn integer(&mut self) -> Result<i32, UnitsError> {
        let sign = usize::from(self.rest.starts_with(['-', '+']));
        let digits = self
            .rest
            .bytes()
            .skip(sign)
            .take_while(u8::is_ascii_digit)
            .count();
        let (number, rest) = self
            .rest
            .split_at(if digits == 0 { 0 } else { sign + digits });
        self.rest = rest;
        number.parse().map_err(|_| UnitsError::BaseUnit)
    }

    /// An exponent right behind the unit.
    fn power(&mut self) -> Result<i32, UnitsError> {
        match self.rest.strip_prefix('^') {
            Some(rest) => {
                self.rest = rest;
                self.integer()
            }
            None => Ok(1),
        }
    }

    /// ` x 10^N` behind `count`.
    fn decimal_scale(&mut self) -> Result<i8, UnitsError> {
        let Some(rest) = self.rest.trim_start().strip_prefix("x 10") else {
            return Ok(0);
        };
        let Some(rest) = rest.strip_prefix('^') else {
            self.rest = rest;
            return Ok(1);
        };
        self.rest = rest;
        fits(self.integer()?, "count")
    }
}

fn space_scale(word: &str) -> Option<u8> {
    if let Some(number) = word.strip_prefix("space-") {
        return number.parse().ok().filter(|n| *n < 16);
    }
    const LONG: [&str; 9] = [
        "", "kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "yotta",
    ];
    let singular = word.strip_suffix('s').unwrap_or(word);
    for (scale, (short, long)) in SPACE.iter().zip(LONG).enumerate() {
        let short = short.to_ascii_lowercase();
        let letter = short.get(..1).unwrap_or("");
        let abbreviated = scale > 0
            && (word
                .strip_prefix(letter)
                .is_some_and(|rest| rest == "b" || rest == "ib"));
        if singular == short || (singular.strip_prefix(long) == Some("byte")) || abbreviated {
            return u8::try_from(scale).ok();
        }
    }
    None
}

fn time_scale(word: &str) -> Option<u8> {
    if let Some(number) = word.strip_prefix("time-") {
        return number.parse().ok().filter(|n| *n < 16);
    }
    Some(match word {
        "nanosec" | "nanosecond" | "nanoseconds" | "ns" => TIME_NSEC,
        "microsec" | "microsecond" | "microseconds" | "us" => TIME_USEC,
        "millisec" | "millisecond" | "milliseconds" | "ms" => TIME_MSEC,
        "sec" | "second" | "seconds" | "s" => TIME_SEC,
        "min" | "minute" | "minutes" => TIME_MIN,
        "hr" | "hour" | "hours" | "h" => TIME_HOUR,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_pmunitsstr() {
        for (dims, text) in [
            ((0, 0, 0, 0, 0, 0), ""),
            ((1, 0, 0, 1, 0, 0), "Kbyte"),
            ((1, -1, 0, 2, 3, 0), "Mbyte / sec"),
            ((0, 1, -1, 0, 5, 6), "hour / count x 10^6"),
            ((1, 1, 1, 1, 3, 2), "Kbyte sec count x 10^2"),
            ((-1, -2, 0, 1, 3, 0), "/ Kbyte sec^2"),
            ((0, 0, -2, 0, 0, 3), "/ count x 10^3^2"),
            ((3, -3, 2, 8, 5, 7), "Ybyte^3 count x 10^7^2 / hour^3"),
            ((1, 0, 0, 9, 0, 0), "space-9"),
            ((0, 1, 0, 0, 6, 0), "time-6"),
            ((0, 0, 1, 0, 0, 1), "count x 10"),
            ((0, 0, 0, 1, 1, 1), "x 10"),
        ] {
            let (a, b, c, d, e, g) = dims;
            let units = Units::new(a, b, c, d, e, g);
            assert_eq!(units.to_string(), text);
            assert_eq!(Units::from_raw(units.raw()), units);
        }
    }

    #[test]
    fn parses_as_pmparseunitsstr() {
        for (text, raw, multiplier) in [
            ("kbytes/sec", 0x1f01_3000, 1.0),
            ("10 kilobytes / 2.5e2 count x 10^3", 0x10f1_0300, 25.0),
            ("", 0, 1.0),
            ("/ sec", 0x0f00_3000, 1.0),
            ("1000 sec", 0x0100_3000, 0.001),
            ("gb/h", 0x1f03_5000, 1.0),
            ("sec / sec", 0, 1.0),
            ("count^-1", 0x00f0_0000, 1.0),
            ("space-9", 0x1009_0000, 1.0),
            ("byte / 1000 sec", 0x1f00_3000, 1000.0),
            ("10", 0, 0.1),
        ] {
            let parsed: ScaledUnits = text.parse().expect(text);
            assert_eq!(parsed.units.raw(), raw, "{text}");
            assert!((parsed.multiplier - multiplier).abs() < 1e-12, "{text}");
        }
        for text in [
            "none",
            "x 10^6",
            "nsec",
            "B",
            "K",
            "count x10^2",
            "Kbyte ^2",
            "sec sec",
            "count x 10^",
        ] {
            assert_eq!(
                text.parse::<ScaledUnits>(),
                Err(UnitsError::BaseUnit),
                "{text}"
            );
        }
        assert_eq!(
            "count x 10^9".parse::<ScaledUnits>(),
            Err(UnitsError::Dimension("count"))
        );
    }

    #[test]
    fn converts_scales() {
        let parse = |t: &str| t.parse::<ScaledUnits>().expect(t).units;
        assert_eq!(
            parse("mbyte/sec").conversion(parse("byte/hour")),
            Ok(1_048_576.0 * 3600.0)
        );
        assert_eq!(parse("ms").conversion(parse("sec")), Ok(0.001));
        assert_eq!(parse("ms").conversion(parse("byte")), Err(ErrorCode::CONV));
    }
}
