//! What pmtop shows, as lines of text: a row for each value, its number and a line of its past.

use std::collections::VecDeque;

/// Values of the past that are kept: more than a terminal is wide.
const KEPT: usize = 512;

/// What a row has at one time.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// A number.
    Number(f64),
    /// Something that is none.
    Text(String),
    /// There is no value, or not yet one to take the difference from.
    Missing,
    /// Why there is none.
    Failed(String),
}

/// A metric, or one of its instances, over time.
#[derive(Clone, Debug)]
pub struct Row {
    /// The metric's name, and the instance's in brackets.
    pub name: String,
    /// The units of what is shown.
    pub units: String,
    /// The newest reading.
    pub latest: Reading,
    past: VecDeque<Option<f64>>,
}

impl Row {
    /// One without readings.
    pub fn new(name: String, units: String) -> Row {
        Row {
            name,
            units,
            latest: Reading::Missing,
            past: VecDeque::new(),
        }
    }

    /// Takes a reading.
    pub fn push(&mut self, reading: Reading) {
        self.past.push_back(match reading {
            Reading::Number(value) if value.is_finite() => Some(value),
            _ => None,
        });
        if self.past.len() > KEPT {
            self.past.pop_front();
        }
        self.latest = reading;
    }

    /// The newest reading in a few letters.
    pub fn reading(&self) -> String {
        match &self.latest {
            Reading::Number(value) => short(*value),
            Reading::Text(text) => format!("\"{text}\""),
            Reading::Missing => "-".to_owned(),
            Reading::Failed(why) => why.clone(),
        }
    }

    /// The last readings, one letter each: from nothing, or from the least if that is negative, up to the greatest of them.
    pub fn sparkline(&self, width: usize, steps: &[char]) -> String {
        let from = self.past.len().saturating_sub(width);
        let shown = || self.past.iter().skip(from);
        let least = shown().flatten().copied().fold(0.0, f64::min);
        let most = shown().flatten().copied().fold(0.0, f64::max);
        let top = steps.len().saturating_sub(1);
        let mut line = " ".repeat(width.saturating_sub(self.past.len()));
        for value in shown() {
            let step = value.map(|value| {
                if most > least {
                    ((value - least) / (most - least) * top as f64).round() as usize
                } else {
                    0
                }
            });
            line.push(
                step.and_then(|s| steps.get(s.min(top)))
                    .copied()
                    .unwrap_or(' '),
            );
        }
        line
    }
}

/// The letters of sparklines where all of Unicode can be shown.
pub const BLOCKS: &[char] = &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// And where it can't.
pub const ASCII: &[char] = &['_', '.', '-', '=', '+', '*', '#'];

/// A number in at most eight letters.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return pcp::number(value);
    }
    let size = value.abs();
    if size < 100_000.0 {
        let digits = match size {
            _ if value.fract() == 0.0 => 0,
            s if s >= 1000.0 => 1,
            s if s >= 100.0 => 2,
            s if s >= 0.001 => 3,
            _ => return format!("{value:.2e}"),
        };
        return format!("{value:.digits$}");
    }
    let suffixes = ["k", "M", "G", "T", "P", "E"];
    let mut scaled = value;
    for suffix in suffixes {
        scaled /= 1000.0;
        if scaled.abs() < 9999.5 {
            return format!("{scaled:.1}{suffix}");
        }
    }
    format!("{value:.2e}")
}

/// Cuts or fills a text to a width in letters; what is cut ends in `~`.
fn fit(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return format!("{text}{}", " ".repeat(width - length));
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('~');
    }
    cut
}

/// How a screen is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Letters in a line.
    pub columns: usize,
    /// Lines, the title among them.
    pub lines: usize,
    /// Whether colours and weights are used.
    pub colour: bool,
    /// The letters of sparklines.
    pub steps: &'static [char],
}

/// Letters for a number, a space ahead of it.
const NUMBER: usize = 10;

/// The screen: a title and the rows from the `first` on.
pub fn screen(title: &str, rows: &[Row], first: usize, layout: Layout) -> Vec<String> {
    let (bold, dim, green, plain) = if layout.colour {
        ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m")
    } else {
        ("", "", "", "")
    };
    let mut lines = vec![format!("{bold}{}{plain}", fit(title, layout.columns))];
    let longest = |of: fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let units = longest(|row| row.units.chars().count()).min(layout.columns / 6);
    let names = longest(|row| row.name.chars().count())
        .min(layout.columns.saturating_sub(NUMBER + units + 2) * 3 / 5);
    let past = layout
        .columns
        .saturating_sub(names + NUMBER + units + 2)
        .min(KEPT);
    for row in rows.iter().skip(first).take(layout.lines.saturating_sub(1)) {
        let name = fit(&row.name, names);
        lines.push(match &row.latest {
            Reading::Text(_) | Reading::Failed(_) => {
                let rest = layout.columns.saturating_sub(names + 1);
                format!("{name} {dim}{}{plain}", fit(&row.reading(), rest))
            }
            _ => format!(
                "{name}{bold}{:>NUMBER$}{plain} {dim}{}{plain} {green}{}{plain}",
                row.reading(),
                fit(&row.units, units),
                row.sparkline(past, layout.steps),
            ),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        let mut row = Row::new("a.metric[one]".to_owned(), "byte / sec".to_owned());
        for value in values {
            row.push(Reading::Number(*value));
        }
        row
    }

    #[test]
    fn numbers_are_short() {
        let shown = [
            (0.0, "0"),
            (0.25, "0.250"),
            (12.0, "12"),
            (1234.56, "1234.6"),
            (99999.0, "99999"),
            (123_456.0, "123.5k"),
            (3.2e9, "3200.0M"),
            (1e-9, "1.00e-9"),
        ];
        for (value, words) in shown {
            assert_eq!(short(value), words);
        }
        // A thousand times a thousand, as -25000.0k would be too long.
        assert_eq!(short(-2.5e7), "-25.0M");
    }

    #[test]
    fn sparklines_go_from_nothing_to_the_greatest() {
        assert_eq!(row(&[0.0, 7.0, 3.5, 7.0]).sparkline(6, BLOCKS), "  ▁█▅█");
        assert_eq!(row(&[5.0, 5.0]).sparkline(2, BLOCKS), "██");
        assert_eq!(row(&[0.0, 0.0]).sparkline(2, BLOCKS), "▁▁");
        assert_eq!(row(&[-6.0, 0.0, 0.0]).sparkline(3, ASCII), "_##");
        let mut gap = row(&[1.0]);
        gap.push(Reading::Missing);
        gap.push(Reading::Number(f64::NAN));
        assert_eq!(gap.sparkline(3, BLOCKS), "█  ");
    }

    #[test]
    fn a_screen_is_no_larger_than_it_may_be() {
        let mut rows: Vec<Row> = (0..50).map(|n| row(&[f64::from(n), 2.0])).collect();
        rows[1].push(Reading::Text(
            "a text that is longer than the terminal is wide".repeat(3),
        ));
        for columns in [0, 1, 20, 80, 200] {
            let layout = Layout {
                columns,
                lines: 10,
                colour: false,
                steps: BLOCKS,
            };
            let lines = screen("title", &rows, 3, layout);
            assert_eq!(lines.len(), 10);
            // A number and its units are shown whatever there is room for.
            assert!(
                lines
                    .iter()
                    .all(|l| l.chars().count() <= columns.max(NUMBER + 3))
            );
        }
    }
}
