//! The instances that had the highest or lowest values of all times (`-2`, `-3`).

use std::io::{self, Write};

use pcp::INST_NULL;

use super::format;
use super::metric::Metric;
use super::sampler::{Sample, Shown, Values, ranked};
use super::settings::Settings;

/// The extreme value that each instance has had.
pub struct Overall<'a> {
    settings: &'a Settings,
    extremes: Vec<Values>,
}

impl<'a> Overall<'a> {
    /// One that has seen nothing.
    pub fn new(settings: &'a Settings, metrics: &[Metric]) -> Overall<'a> {
        Overall {
            settings,
            extremes: vec![Values::new(); metrics.len()],
        }
    }

    /// Takes a sample in.
    pub fn sample(&mut self, sample: &Sample) {
        for (extremes, values) in self.extremes.iter_mut().zip(&sample.values) {
            for (inst, value) in values {
                let Some(number) = value.number() else {
                    continue;
                };
                match extremes.iter_mut().find(|(i, _)| i == inst) {
                    None => extremes.push((*inst, value.clone())),
                    Some((_, known)) => {
                        let before = known.number().unwrap_or(f64::NAN);
                        let more = if self.settings.rank > 0 {
                            number > before
                        } else {
                            number < before
                        };
                        if more {
                            *known = value.clone();
                        }
                    }
                }
            }
        }
    }

    /// Writes the summary.
    pub fn end(&self, out: &mut dyn Write, metrics: &[Metric]) -> io::Result<()> {
        if self.settings.overall_rank_alt {
            return self.specifications(out, metrics);
        }
        let mut rows: Vec<[String; 4]> = Vec::new();
        for (metric, extremes) in metrics.iter().zip(&self.extremes) {
            for inst in ranked(extremes, self.settings.rank) {
                let value = extremes.iter().find(|(i, _)| *i == inst);
                let text = match value.map(|(_, v)| v) {
                    Some(Shown::Whole(value)) => value.to_string(),
                    Some(Shown::Real(value)) => format::real(*value, metric.precision),
                    _ => continue,
                };
                let name = if inst == INST_NULL {
                    String::new()
                } else {
                    metric.instance_name(inst)
                };
                rows.push([metric.name.clone(), name, metric.unit.clone(), text]);
            }
        }
        let width = |column: usize| {
            let widths = rows
                .iter()
                .filter_map(|r| Some(r.get(column)?.chars().count()));
            widths.max().unwrap_or(0)
        };
        let widths = [width(0), width(1), width(2), width(3)];
        // White space alone sets values off a little more.
        let (delimiter, last) = match self.settings.delimiter.as_deref() {
            Some(text) if !text.trim().is_empty() => (format!(" {text} "), format!(" {text} ")),
            _ => ("   ".to_owned(), "    ".to_owned()),
        };
        for [name, inst, unit, value] in &rows {
            let [n, i, u, v] = widths;
            write!(out, "{name:<n$}{delimiter}{inst:<i$}{delimiter}{unit:>u$}")?;
            writeln!(out, "{last}{value:>v$}")?;
        }
        Ok(())
    }

    /// The same as metric specifications.
    fn specifications(&self, out: &mut dyn Write, metrics: &[Metric]) -> io::Result<()> {
        for (metric, extremes) in metrics.iter().zip(&self.extremes) {
            if metric.is_flat() {
                writeln!(out, "{},,", metric.name)?;
                continue;
            }
            let names = ranked(extremes, self.settings.rank);
            let names: Vec<_> = names
                .iter()
                .map(|inst| format!("'{}'", metric.instance_name(*inst)))
                .collect();
            writeln!(out, "{},,\"{}\"", metric.name, names.join(","))?;
        }
        Ok(())
    }
}
