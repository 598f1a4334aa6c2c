//! How columns are headed and values written.

use std::io::{self, Write};

use pcp::{TIME_MSEC, TIME_NSEC, TIME_SEC, TIME_USEC, Timestamp, Units, cformat};

use super::source_metrics::{Column, Shown, Sources};
use crate::strftime;

/// The width of columns for people.
const WIDTH: usize = 6;

/// What the options say of the layout.
pub struct Layout {
    /// `-d`.
    pub delimiter: char,
    /// `-f`.
    pub time_format: String,
    /// `-F`.
    pub fixed: bool,
    /// `-G`.
    pub scientific: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-l`.
    pub show_source: bool,
    /// `-m`.
    pub show_metric: bool,
    /// `-N`.
    pub show_normal: bool,
    /// `-u`.
    pub show_units: bool,
    /// `-M`, `-X`.
    pub list: bool,
    /// Its form for people, `-X`.
    pub extended: bool,
    /// `-o`.
    pub offset: bool,
    /// `-P`.
    pub precision: usize,
    /// `-R`, 0 for never.
    pub repeat: usize,
    /// `-r`.
    pub raw: bool,
    /// `-U`.
    pub unavailable: String,
    /// `-w`.
    pub width: Option<usize>,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            delimiter: '\t',
            time_format: "%a %b %e %H:%M:%S".to_owned(),
            fixed: false,
            scientific: false,
            interactive: false,
            show_source: false,
            show_metric: false,
            show_normal: false,
            show_units: false,
            list: false,
            extended: false,
            offset: false,
            precision: 3,
            repeat: 0,
            raw: false,
            unavailable: "?".to_owned(),
            width: None,
        }
    }
}

/// A number in six characters: `dd.ddu`.
fn fixed(value: f64) -> String {
    let mut scaled = value;
    let limit = |v: f64| if v < 0.0 { v <= -9.995 } else { v >= 99.995 };
    for unit in [' ', 'K', 'M', 'G', 'T'] {
        if !limit(scaled) || unit == 'T' {
            return format!("{scaled:5.2}{unit}");
        }
        scaled /= 1000.0;
    }
    String::new()
}

/// A unit in few letters.
fn brief(units: Units) -> String {
    let time = match units.scale_time {
        TIME_NSEC => "ns",
        TIME_USEC => "us",
        TIME_MSEC => "ms",
        TIME_SEC => "s",
        pcp::TIME_MIN => "m",
        _ => "h",
    };
    let parts = [
        (units.dim_space, "b"),
        (units.dim_count, "c"),
        (units.dim_time, time),
    ];
    let side = |above: bool| -> String {
        let of_side = parts
            .iter()
            .filter(|(dim, _)| if above { *dim > 0 } else { *dim < 0 });
        of_side.map(|(_, name)| *name).collect()
    };
    match (side(true), side(false)) {
        (above, below) if above.is_empty() && below.is_empty() => "none".to_owned(),
        (above, below) if below.is_empty() => above,
        (above, below) => format!("{above}/{below}"),
    }
}

/// A unit in words.
fn words(text: &str) -> String {
    match text.strip_suffix("/ sec") {
        Some(above) => format!("{} / second", above.trim_end()),
        None if text.is_empty() => "none".to_owned(),
        None => text.to_owned(),
    }
}

/// Seconds in three digits, or as many as it takes.
fn offset(seconds: f64) -> String {
    match seconds {
        s if s < 9.995 => format!("{s:.2}"),
        s if s < 99.95 => format!("{s:.1}"),
        s => format!("{s:.0}"),
    }
}

fn last(text: &str, width: usize) -> String {
    let skip = text.chars().count().saturating_sub(width);
    text.chars().skip(skip).collect()
}

fn first(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn full_name(column: &Column) -> String {
    match &column.instance {
        Some(instance) => format!("{}[\"{}\"]", column.name, instance.name),
        None => column.name.clone(),
    }
}

impl Layout {
    fn width(&self) -> Option<usize> {
        self.interactive.then(|| self.width.unwrap_or(0).max(WIDTH))
    }

    /// The width of what stands over numbers that are not for people.
    fn number_width(&self) -> usize {
        let beside = if self.scientific { 1 } else { 2 };
        self.width.unwrap_or(self.precision + beside)
    }

    /// Digits behind the point: what is not for people has no columns to fill, and a width says how many digits fit.
    fn precision(&self) -> usize {
        let beside = if self.scientific { 1 } else { 2 };
        let of_width = self.width.map(|width| width.saturating_sub(beside));
        of_width.unwrap_or(self.precision.max(2))
    }

    fn timestamp(&self, sources: &Sources, time: Timestamp) -> String {
        strftime::format(&self.time_format, time, &sources.zone)
    }

    fn line(&self, out: &mut dyn Write, head: Option<&str>, cells: &[String]) -> io::Result<()> {
        let delimiter = self.delimiter.to_string();
        let mut all: Vec<&str> = head.into_iter().collect();
        all.extend(cells.iter().map(String::as_str));
        writeln!(out, "{}", all.join(&delimiter))
    }

    /// Writes what stands over the values; the list of metrics again only in its extended form.
    pub fn header(
        &self,
        out: &mut dyn Write,
        sources: &Sources,
        time: Timestamp,
        again: bool,
    ) -> io::Result<()> {
        let columns = &sources.columns;
        if self.list && (self.extended || !again) {
            for (number, column) in columns.iter().enumerate() {
                let source = if self.show_source {
                    sources.source_of(column).0
                } else {
                    ""
                };
                writeln!(out, "[{:2}] {source}{}", number + 1, full_name(column))?;
            }
            out.write_all(b"\n")?;
        }
        let timed = !self.time_format.is_empty();
        let offset = match self.offset {
            // PCP's reckons it from a time of zero.
            true => format!("{:.2}", -sources.begin.as_secs_f64()).len() + 1,
            false => 0,
        };
        let stamp = self.timestamp(sources, time).chars().count() + offset;
        let cells = |text: &dyn Fn(&Column) -> String| -> Vec<String> {
            let cells = columns.iter().map(text);
            match self.width() {
                Some(width) => cells.map(|c| format!("{c:>width$}")).collect(),
                None => cells.collect(),
            }
        };
        if !self.interactive {
            let head = |text: &'static str| timed.then_some(text);
            if self.list {
                let width = self.number_width();
                let numbers: Vec<String> = (1..=columns.len())
                    .map(|n| format!("{n:>width$}"))
                    .collect();
                self.line(out, head(""), &numbers)?;
            }
            if self.show_metric || self.show_source {
                let names = cells(&|c| {
                    let source = if self.show_source {
                        sources.source_of(c).0
                    } else {
                        ""
                    };
                    format!("{source}{}", full_name(c))
                });
                self.line(out, head("Time"), &names)?;
            }
            if self.show_normal {
                let normals = cells(&|c| match self.fixed {
                    true => {
                        let width = self.width.unwrap_or(0);
                        format!("{:>width$}", fixed(c.normal))
                    }
                    false if self.scientific => {
                        let width = self.number_width();
                        format!("{:>width$}", cformat::g(c.normal, self.precision()))
                    }
                    false => cformat::f(c.normal, self.precision()),
                });
                self.line(out, timed.then_some(self.unavailable.as_str()), &normals)?;
            }
            if self.show_units {
                self.line(out, head("none"), &cells(&|c| words(&c.rate_words())))?;
            }
            return Ok(());
        }
        let width = self.width().unwrap_or(WIDTH);
        let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
        if self.list {
            let numbers = (1..=columns.len()).map(|n| format!("{n:>width$}"));
            rows.push(("Column", numbers.collect()));
        }
        if self.show_source {
            rows.push(("Source", cells(&|c| first(sources.source_of(c).1, width))));
        }
        if self.show_metric {
            let tail = |c: &Column| c.name.rsplit('.').next().unwrap_or("").to_owned();
            rows.push(("Metric", cells(&|c| last(&tail(c), width))));
            let inst = |c: &Column| {
                c.instance
                    .as_ref()
                    .map_or("n/a".to_owned(), |i| i.name.to_string())
            };
            if columns.iter().any(|c| c.instance.is_some()) {
                rows.push(("Inst", cells(&|c| first(&inst(c), width))));
            }
        }
        if self.show_normal {
            let normal = |c: &Column| match self.scientific {
                true => cformat::g(c.normal, self.precision()),
                false => fixed(c.normal),
            };
            rows.push(("Normal", cells(&normal)));
        }
        if self.show_units {
            rows.push((
                "Units",
                cells(&|c| {
                    first(
                        &if c.is_share() {
                            "util".to_owned()
                        } else {
                            brief(c.units())
                        },
                        width,
                    )
                }),
            ));
        }
        for (name, cells) in rows {
            let head = format!("{name:>stamp$}");
            self.line(out, timed.then_some(head.as_str()), &cells)?;
        }
        Ok(())
    }

    fn cell(&self, column: &Column) -> String {
        let text = match &column.value {
            None => self.unavailable.clone(),
            Some(Shown::Text(text)) => match self.width() {
                Some(width) => format!("\"{}\"", first(text, width.saturating_sub(2))),
                None => format!("\"{text}\""),
            },
            Some(Shown::Number(value)) if self.interactive => {
                // People read bytes, whatever the metric counts in.
                let scale = i32::from(column.desc.units.scale_space)
                    * i32::from(column.desc.units.dim_space);
                fixed(if self.raw {
                    *value
                } else {
                    value * 1024f64.powi(scale)
                })
            }
            Some(Shown::Number(value)) if self.fixed => fixed(*value),
            Some(Shown::Number(value)) if self.scientific => cformat::g(*value, self.precision()),
            Some(Shown::Number(value)) => cformat::f(*value, self.precision()),
        };
        match self.width() {
            Some(width) => format!("{text:>width$}"),
            None => text,
        }
    }

    /// Writes the values of now.
    pub fn row(&self, out: &mut dyn Write, sources: &Sources, time: Timestamp) -> io::Result<()> {
        let mut head = Vec::new();
        if !self.time_format.is_empty() {
            if self.offset {
                head.push(offset((time - sources.begin).as_secs_f64()));
            }
            head.push(self.timestamp(sources, time));
        }
        let cells: Vec<String> = sources.columns.iter().map(|c| self.cell(c)).collect();
        self.line(out, None, &[head, cells].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_six_characters() {
        for (value, text) in [
            (0.82, " 0.82 "),
            (30.0, "30.00 "),
            (2097.0, " 2.10K"),
            (38_220.0, "38.22K"),
            (198_352.0, " 0.20M"),
        ] {
            assert_eq!(fixed(value), text);
        }
    }
}
