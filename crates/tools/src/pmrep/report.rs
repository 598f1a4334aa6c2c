//! The report in columns of text.

use std::collections::HashSet;
use std::io::{self, Write};

use pcp::timezone::Zone;
use pcp::{INST_NULL, Timestamp};

use super::format::{cell, cut};
use super::metric::Metric;
use super::sampler::Sample;
use super::settings::{Repeat, Settings};
use crate::strftime;

/// What stands where a value is missing, and where there can be none.
const MISSING: &str = "N/A";
const IMPOSSIBLE: &str = "~";
/// What stands for the instance of a metric that has none.
const NO_INSTANCE: &str = "=";
/// The width of columns without headings of their own.
const DEFAULT_WIDTH: usize = 8;

/// A column of values, by its metric and, unless instances have rows, its instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Column {
    metric: usize,
    inst: i32,
}

/// The lines of a terminal that there is not.
const TERMINAL_LINES: u16 = 24;

/// The width of the numbers of so many columns.
fn digits_of(count: usize) -> usize {
    count.to_string().len() + 1
}

/// Writes samples as rows.
pub struct Report<'a> {
    settings: &'a Settings,
    zone: &'a Zone,
    delimiter: String,
    time_format: String,
    /// Every column that has a value, in order, when the last header was written.
    shown: Option<Vec<Column>>,
    /// Samples since the last header.
    since_header: usize,
    repeat: Option<usize>,
    written: bool,
}

impl<'a> Report<'a> {
    /// A report that has nothing yet.
    pub fn new(settings: &'a Settings, zone: &'a Zone) -> Report<'a> {
        Report {
            settings,
            zone,
            delimiter: settings
                .delimiter
                .clone()
                .unwrap_or_else(|| "  ".to_owned()),
            time_format: settings
                .time_format
                .clone()
                .unwrap_or_else(|| "%H:%M:%S".to_owned()),
            shown: None,
            since_header: 0,
            repeat: None,
            written: false,
        }
    }

    fn timestamp(&self, time: Timestamp) -> String {
        if self.settings.timestamps {
            strftime::format(&self.time_format, time, self.zone)
        } else {
            String::new()
        }
    }

    fn width(&self, metric: &Metric) -> usize {
        let settings = self.settings;
        // Numbers head the columns: their own headings do not count.
        if settings.separate_header && settings.width == 0 && metric.width == metric.label_width() {
            return settings.width_force.unwrap_or(DEFAULT_WIDTH);
        }
        metric.width
    }

    fn instance_width(&self) -> usize {
        match self.settings.colxrow.as_deref() {
            None | Some("") => DEFAULT_WIDTH,
            Some(label) => label.chars().count(),
        }
    }

    /// All columns that there can be.
    fn all_columns(metrics: &[Metric]) -> Vec<Column> {
        let mut columns = Vec::new();
        for (number, metric) in metrics.iter().enumerate() {
            let column = |inst| Column {
                metric: number,
                inst,
            };
            if metric.is_flat() {
                columns.push(column(INST_NULL));
            }
            columns.extend(metric.instances.iter().map(|i| column(i.inst)));
        }
        columns
    }

    /// The columns of what has values.
    fn columns_of(metrics: &[Metric], sample: &Sample) -> Vec<Column> {
        let mut columns = Vec::new();
        for number in 0..metrics.len() {
            let values = sample.values.get(number).into_iter().flatten();
            columns.extend(values.map(|(inst, _)| Column {
                metric: number,
                inst: *inst,
            }));
        }
        columns
    }

    /// Metrics by the columns they share when instances have rows: those with the same heading.
    fn groups(metrics: &[Metric], columns: &[Column]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for column in columns {
            let label = |number: &usize| metrics.get(*number).map(|m| m.label.as_str());
            let own = label(&column.metric);
            match groups.iter_mut().find(|g| g.first().and_then(label) == own) {
                Some(group) if group.contains(&column.metric) => {}
                Some(group) => group.push(column.metric),
                None => groups.push(vec![column.metric]),
            }
        }
        groups
    }

    /// Writes the first header, when it does not depend on values.
    pub fn begin(
        &mut self,
        out: &mut dyn Write,
        metrics: &[Metric],
        time: Timestamp,
    ) -> io::Result<()> {
        let columns = Self::all_columns(metrics);
        self.repeat = match self.settings.repeat {
            Repeat::Never => None,
            Repeat::Every(lines) => Some(lines),
            Repeat::Auto => Some(self.terminal_rows(metrics, &columns)),
        };
        if !self.settings.is_dynamic() {
            self.header(out, metrics, &columns, time)?;
            self.shown = Some(columns);
        }
        Ok(())
    }

    /// The samples that fit a terminal below a header.
    fn terminal_rows(&self, metrics: &[Metric], columns: &[Column]) -> usize {
        let size = terminal_size::terminal_size();
        let height = size.map_or(TERMINAL_LINES, |(_, height)| height.0);
        let settings = self.settings;
        let mut taken = 2 + usize::from(settings.unit_info) + usize::from(settings.labels);
        if settings.separate_header {
            taken += columns.len() + 1;
        } else {
            taken += usize::from(settings.inst_info && settings.colxrow.is_none());
        }
        let rows = usize::from(height).saturating_sub(taken).max(1);
        let each = if settings.colxrow.is_some() {
            let names: HashSet<String> = columns
                .iter()
                .map(|c| Self::row_name(metrics, *c))
                .collect();
            names.len().max(1)
        } else {
            1
        };
        (rows / each).max(1)
    }

    fn row_name(metrics: &[Metric], column: Column) -> String {
        match metrics.get(column.metric) {
            Some(metric) if !metric.is_flat() => metric.instance_name(column.inst),
            _ => NO_INSTANCE.to_owned(),
        }
    }

    fn line(&self, out: &mut dyn Write, time: &str, cells: &[(String, usize)]) -> io::Result<()> {
        let mut line = time.to_owned();
        for (text, width) in cells {
            line.push_str(&self.delimiter);
            line.push_str(&format!("{:>width$}", cut(text, *width)));
        }
        line.push('\n');
        out.write_all(line.as_bytes())
    }

    fn header(
        &mut self,
        out: &mut dyn Write,
        metrics: &[Metric],
        columns: &[Column],
        time: Timestamp,
    ) -> io::Result<()> {
        self.since_header = 0;
        if !self.settings.header {
            return Ok(());
        }
        if self.written {
            out.write_all(b"\n")?;
        }
        self.written = true;
        let blank = " ".repeat(self.timestamp(time).chars().count());
        let bold = self.settings.source.colour.bold();
        write!(out, "{}", bold.0)?;
        if self.settings.colxrow.is_some() {
            self.header_of_rows(out, metrics, columns, &blank)?;
        } else {
            self.header_of_columns(out, metrics, columns, &blank)?;
        }
        write!(out, "{}", bold.1)
    }

    fn header_of_columns(
        &self,
        out: &mut dyn Write,
        metrics: &[Metric],
        columns: &[Column],
        blank: &str,
    ) -> io::Result<()> {
        let settings = self.settings;
        let of = |column: &Column| metrics.get(column.metric);
        if settings.separate_header {
            for (number, column) in columns.iter().enumerate() {
                self.list_entry(
                    out,
                    metrics,
                    (number + 1, digits_of(columns.len())),
                    *column,
                )?;
            }
            out.write_all(b"\n")?;
            let numbers = columns.iter().enumerate();
            let cells: Vec<_> = numbers
                .filter_map(|(n, c)| Some(((n + 1).to_string(), self.width(of(c)?))))
                .collect();
            return self.line(out, blank, &cells);
        }
        let row = |text: &dyn Fn(&Metric, &Column) -> String| -> Vec<(String, usize)> {
            let cells = columns
                .iter()
                .filter_map(|c| Some((text(of(c)?, c), of(c)?.width)));
            cells.collect()
        };
        self.line(out, blank, &row(&|m, _| m.label.clone()))?;
        if settings.inst_info && metrics.iter().any(|m| !m.is_flat()) {
            // A metric without instances has a delimiter in the place of a name.
            let names = row(&|m, c| match m.is_flat() {
                true => self.delimiter.clone(),
                false => m.instance_name(c.inst),
            });
            self.line(out, blank, &names)?;
        }
        if settings.labels {
            let labels = row(&|m, c| m.labels.get(&c.inst).cloned().unwrap_or_default());
            self.line(out, blank, &labels)?;
        }
        if settings.unit_info {
            self.line(out, blank, &row(&|m, _| m.unit.clone()))?;
        }
        Ok(())
    }

    /// One line of the list that numbers columns.
    fn list_entry(
        &self,
        out: &mut dyn Write,
        metrics: &[Metric],
        (number, digits): (usize, usize),
        column: Column,
    ) -> io::Result<()> {
        let Some(metric) = metrics.get(column.metric) else {
            return Ok(());
        };
        write!(out, "[{number:digits$}] - {}", metric.name)?;
        let any_instance = self.settings.fixed_header && self.settings.colxrow.is_some();
        if !metric.is_flat() && !any_instance {
            write!(out, "[\"{}\"]", metric.instance_name(column.inst))?;
        }
        if self.settings.unit_info {
            let unit = if metric.unit.is_empty() {
                "none"
            } else {
                &metric.unit
            };
            write!(out, " - {unit}")?;
        }
        out.write_all(b"\n")?;
        if self.settings.labels {
            let labels = metric.labels.get(&column.inst).cloned().unwrap_or_default();
            writeln!(out, "[{number:digits$}] - {labels}")?;
        }
        Ok(())
    }

    fn header_of_rows(
        &self,
        out: &mut dyn Write,
        metrics: &[Metric],
        columns: &[Column],
        blank: &str,
    ) -> io::Result<()> {
        let settings = self.settings;
        let groups = Self::groups(metrics, columns);
        let heads: Vec<&Metric> = groups
            .iter()
            .filter_map(|g| metrics.get(*g.first()?))
            .collect();
        let heading = settings.colxrow.clone().unwrap_or_default();
        let inst_width = self.instance_width();
        let row = |first: &str, text: &dyn Fn(usize, &Metric) -> (String, usize)| {
            let mut cells = vec![(first.to_owned(), inst_width)];
            cells.extend(heads.iter().enumerate().map(|(n, m)| text(n, m)));
            cells
        };
        if settings.separate_header {
            for (number, group) in groups.iter().enumerate() {
                let mut listed: Vec<usize> = Vec::new();
                for column in columns.iter().filter(|c| group.contains(&c.metric)) {
                    if settings.fixed_header && listed.contains(&column.metric) {
                        continue;
                    }
                    listed.push(column.metric);
                    let digits = digits_of(groups.len());
                    self.list_entry(out, metrics, (number + 1, digits), *column)?;
                }
            }
            out.write_all(b"\n")?;
            let cells = row("", &|n, m| ((n + 1).to_string(), self.width(m)));
            return self.line(out, blank, &cells);
        }
        self.line(
            out,
            blank,
            &row(&heading, &|_, m| (m.label.clone(), m.width)),
        )?;
        if settings.labels {
            let first = |m: &Metric| {
                let inst = m.instances.first().map_or(INST_NULL, |i| i.inst);
                m.labels.get(&inst).cloned().unwrap_or_default()
            };
            self.line(out, blank, &row("", &|_, m| (first(m), m.width)))?;
        }
        if settings.unit_info {
            self.line(out, blank, &row("", &|_, m| (m.unit.clone(), m.width)))?;
        }
        Ok(())
    }

    /// Writes a sample.
    pub fn sample(
        &mut self,
        out: &mut dyn Write,
        metrics: &[Metric],
        sample: &Sample,
    ) -> io::Result<()> {
        let settings = self.settings;
        let time = self.timestamp(sample.time);
        let dynamic = settings.is_dynamic();
        let columns = if dynamic {
            Self::columns_of(metrics, sample)
        } else {
            self.shown
                .clone()
                .unwrap_or_else(|| Self::all_columns(metrics))
        };
        let due = self.repeat.is_some_and(|n| self.since_header >= n);
        if dynamic && columns.is_empty() {
            self.written = true;
            let width = match settings.colxrow {
                Some(_) => self.instance_width(),
                None if settings.separate_header => DEFAULT_WIDTH,
                None => MISSING.len().max(self.settings.width),
            };
            self.shown = None;
            return self.line(out, &time, &[(MISSING.to_owned(), width)]);
        }
        if due || (dynamic && self.shown.as_ref() != Some(&columns)) {
            self.header(out, metrics, &columns, sample.time)?;
        }
        self.since_header += 1;
        self.written = true;
        if settings.colxrow.is_some() {
            self.rows(out, metrics, &columns, sample, &time)?;
        } else {
            let cells: Vec<_> = columns
                .iter()
                .filter_map(|c| {
                    let metric = metrics.get(c.metric)?;
                    let width = self.width(metric);
                    Some((self.cell(metric, *c, sample, width), width))
                })
                .collect();
            self.line(out, &time, &cells)?;
        }
        self.shown = Some(columns);
        Ok(())
    }

    fn cell(&self, metric: &Metric, column: Column, sample: &Sample, width: usize) -> String {
        match sample.value(column.metric, column.inst) {
            Some(value) => {
                let mut text = cell(value, width, metric.precision);
                if matches!(value, super::sampler::Shown::Text(_))
                    && !self.delimiter.trim().is_empty()
                {
                    text = text.replace(&self.delimiter, "_");
                }
                text
            }
            None => MISSING.to_owned(),
        }
    }

    /// A row for each instance.
    fn rows(
        &self,
        out: &mut dyn Write,
        metrics: &[Metric],
        columns: &[Column],
        sample: &Sample,
        time: &str,
    ) -> io::Result<()> {
        let settings = self.settings;
        let all = Self::all_columns(metrics);
        let groups = Self::groups(metrics, if settings.is_dynamic() { columns } else { &all });
        let by_value = settings.is_dynamic() || settings.fixed_header;
        let with_values;
        let columns = if by_value {
            with_values = Self::columns_of(metrics, sample);
            &with_values
        } else {
            columns
        };
        let mut rows: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for column in columns {
            let name = Self::row_name(metrics, *column);
            if seen.insert(name.clone()) {
                rows.push(name);
            }
        }
        self.sort(metrics, sample, &mut rows);
        let inst_width = self.instance_width();
        if rows.is_empty() {
            rows.push(MISSING.to_owned());
        }
        for row in rows {
            let mut cells = vec![(row.clone(), inst_width)];
            for group in &groups {
                let mut width = DEFAULT_WIDTH;
                let mut text = IMPOSSIBLE.to_owned();
                if let Some(metric) = group.first().and_then(|n| metrics.get(*n)) {
                    width = self.width(metric);
                }
                let mut of_row = columns.iter().filter(|c| group.contains(&c.metric));
                let found = of_row.find(|c| Self::row_name(metrics, **c) == row);
                if let Some(column) = found
                    && let Some(metric) = metrics.get(column.metric)
                {
                    text = self.cell(metric, *column, sample, width);
                }
                cells.push((text, width));
            }
            self.line(out, time, &cells)?;
        }
        Ok(())
    }

    /// Orders rows by the values of the sort metric, those without behind.
    fn sort(&self, metrics: &[Metric], sample: &Sample, rows: &mut [String]) {
        let Some(name) = &self.settings.sort_metric else {
            return;
        };
        let (name, ascending) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let Some(number) = metrics.iter().position(|m| m.name == name) else {
            return;
        };
        let value = |row: &String| {
            let values = sample.values.get(number)?;
            let of_row = |inst: i32| {
                Self::row_name(
                    metrics,
                    Column {
                        metric: number,
                        inst,
                    },
                ) == *row
            };
            values.iter().find(|(inst, _)| of_row(*inst))?.1.number()
        };
        rows.sort_by(|a, b| match (value(a), value(b)) {
            (Some(a), Some(b)) if ascending => a.total_cmp(&b),
            (Some(a), Some(b)) => b.total_cmp(&a),
            (None, None) => std::cmp::Ordering::Equal,
            (None, _) => std::cmp::Ordering::Greater,
            (_, None) => std::cmp::Ordering::Less,
        });
    }
}
