//! The report as comma-separated values.

use std::io::{self, Write};

use pcp::timezone::Zone;
use pcp::{INST_NULL, Timestamp};

use super::format;
use super::metric::Metric;
use super::sampler::{Sample, Shown};
use super::settings::{Repeat, Settings};
use crate::strftime;

/// Writes samples as lines of values.
pub struct Csv<'a> {
    settings: &'a Settings,
    zone: &'a Zone,
    host: String,
    delimiter: String,
    time_format: String,
    before: Option<Timestamp>,
    shown: Option<Vec<(usize, i32)>>,
    since_header: usize,
}

impl<'a> Csv<'a> {
    /// A report that has nothing yet.
    pub fn new(settings: &'a Settings, zone: &'a Zone, host: &str) -> Csv<'a> {
        let format = settings.time_format.clone();
        Csv {
            settings,
            zone,
            host: host.to_owned(),
            delimiter: settings.delimiter.clone().unwrap_or_else(|| ",".to_owned()),
            time_format: format.unwrap_or_else(|| "%Y-%m-%d %H:%M:%S".to_owned()),
            before: None,
            shown: None,
            since_header: 0,
        }
    }

    fn all_columns(metrics: &[Metric]) -> Vec<(usize, i32)> {
        let mut columns = Vec::new();
        for (number, metric) in metrics.iter().enumerate() {
            if metric.is_flat() {
                columns.push((number, INST_NULL));
            }
            columns.extend(metric.instances.iter().map(|i| (number, i.inst)));
        }
        columns
    }

    /// Writes the header, when it does not depend on values.
    pub fn begin(&mut self, out: &mut dyn Write, metrics: &[Metric]) -> io::Result<()> {
        if self.settings.is_dynamic() {
            return Ok(());
        }
        let columns = Self::all_columns(metrics);
        self.header(out, metrics, &columns)?;
        self.shown = Some(columns);
        Ok(())
    }

    fn header(
        &mut self,
        out: &mut dyn Write,
        metrics: &[Metric],
        columns: &[(usize, i32)],
    ) -> io::Result<()> {
        self.since_header = 0;
        if !self.settings.header {
            return Ok(());
        }
        let delimiter = &self.delimiter;
        let mut line = String::new();
        if self.settings.extended_csv {
            line.push_str(&format!("Host{delimiter}Interval{delimiter}"));
        }
        line.push_str("Time");
        for (number, inst) in columns {
            let Some(metric) = metrics.get(*number) else {
                continue;
            };
            let mut name = metric.name.clone();
            if !metric.is_flat() {
                name.push('-');
                name.push_str(&metric.instance_name(*inst));
            }
            // Nothing in a column may be taken for its end.
            if !delimiter.is_empty() {
                name = name.replace(delimiter, " ");
            }
            let name = name.replace(['\n', '"'], " ");
            line.push_str(&format!("{delimiter}\"{name}\""));
            if self.settings.labels {
                let mut labels = metric.labels.get(inst).cloned().unwrap_or_default();
                if !delimiter.is_empty() {
                    let instead = if delimiter == "," { ";" } else { "," };
                    labels = labels.replace(delimiter, instead);
                }
                let labels = labels.replace(['\n', '"'], " ");
                line.push_str(&format!("{delimiter}\"{labels}\""));
            }
        }
        writeln!(out, "{line}")
    }

    /// Writes a sample.
    pub fn sample(
        &mut self,
        out: &mut dyn Write,
        metrics: &[Metric],
        sample: &Sample,
    ) -> io::Result<()> {
        let mut columns = self.shown.clone().unwrap_or_default();
        if self.settings.is_dynamic() {
            columns.clear();
            for (number, values) in sample.values.iter().enumerate() {
                columns.extend(values.iter().map(|(inst, _)| (number, *inst)));
            }
        }
        let due = matches!(self.settings.repeat, Repeat::Every(n) if self.since_header >= n);
        let changed = self.settings.is_dynamic() && self.shown.as_ref() != Some(&columns);
        if (changed || due) && !columns.is_empty() {
            self.header(out, metrics, &columns)?;
        }
        self.since_header += 1;
        let delimiter = &self.delimiter;
        let mut line = String::new();
        if self.settings.extended_csv {
            let elapsed = self
                .before
                .map_or(0.0, |before| (sample.time - before).as_secs_f64());
            line.push_str(&format!(
                "{}{delimiter}{}{delimiter}",
                self.host,
                (elapsed + 0.5) as i64
            ));
        }
        self.before = Some(sample.time);
        line.push_str(&strftime::format(&self.time_format, sample.time, self.zone));
        if self.settings.extended_csv {
            line.push_str(&format!(" {}", format::zone(self.zone, sample.time)));
        }
        for (number, inst) in &columns {
            let Some(metric) = metrics.get(*number) else {
                continue;
            };
            let value = sample.value(*number, *inst);
            let text = match value {
                None => String::new(),
                Some(Shown::Whole(value)) => value.to_string(),
                Some(Shown::Real(value)) => format::real(*value, metric.precision),
                Some(Shown::Text(text)) => {
                    let mut text = text.replace(['\n', '"'], " ");
                    if !delimiter.trim().is_empty() {
                        text = text.replace(delimiter.as_str(), "_");
                    }
                    format!("\"{text}\"")
                }
            };
            // PCP's program fills the columns of labels with the values, and has none for what is not there.
            let times = if self.settings.labels && value.is_some() {
                2
            } else {
                1
            };
            for _ in 0..times {
                line.push_str(delimiter);
                line.push_str(&text);
            }
        }
        self.shown = Some(columns);
        writeln!(out, "{line}")
    }
}
