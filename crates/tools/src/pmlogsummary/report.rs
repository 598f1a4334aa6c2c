//! What is printed of the averages.

use crate::json;
use pcp::{ErrorCode, INST_NULL, Semantics, Text, Timestamp};
use std::collections::HashMap;
use std::io::{self, Write};

use super::average::Metric;
use super::{COVERED, DAY, Summary};

impl Summary {
    pub(super) fn label(&self, out: &mut impl Write) -> io::Result<()> {
        let label = self.set.label();
        writeln!(
            out,
            "Log Label (Log Format Version {})",
            label.version as u32
        )?;
        out.write_all(b"Performance metrics from host ")?;
        out.write_all(&label.hostname)?;
        let date = |t| self.zone.date(t, 3);
        writeln!(out, "\n  commencing {}", date(self.window.start))?;
        let end = match self.window.end {
            Timestamp::MAX => "UNKNOWN".to_owned(),
            end => date(end),
        };
        writeln!(out, "  ending     {end}")
    }

    pub(super) fn header(&self, out: &mut impl Write) -> io::Result<()> {
        let w = &self.wanted;
        let mut columns = vec!["metric".to_owned()];
        let mut add = |on: bool, name: &str| {
            if on {
                columns.push(name.to_owned());
            }
        };
        add(w.sum, "sum");
        add(w.stochastic, "stochastic_average");
        add(w.time, "time_average");
        add(w.min, "minimum");
        add(w.mintime, "minimum_time");
        add(w.max, "maximum");
        add(w.maxtime, "maximum_time");
        add(w.count, "count");
        add(w.bins > 0, "bins");
        add(true, "units");
        writeln!(out, "{}", columns.join(&w.delimiter.to_string()))
    }

    pub(super) fn when(&self, time: Timestamp) -> String {
        if self.window.end.sec - self.window.start.sec > DAY {
            format!("'{}'", self.zone.date(time, 3))
        } else {
            self.zone.clock(time, 3)
        }
    }

    /// A metric's instances as lines of JSON: the value is the average over time.
    pub(super) fn lines(
        &self,
        out: &mut impl Write,
        name: &Text,
        metric: &Metric,
    ) -> io::Result<()> {
        let instances = self.set.meta().all_instances(metric.desc.indom);
        let instances = instances.unwrap_or_default().into_iter();
        let known: HashMap<i32, Text> = instances.map(|i| (i.inst, i.name)).collect();
        let units = match metric.units(true) {
            none if none == "none" => String::new(),
            units => units,
        };
        for average in &metric.instances {
            let enough = average.count > 0;
            let singular = average.inst == INST_NULL && metric.desc.indom.is_null();
            let number = json::number;
            let line = json::Line {
                time: average.last_time,
                metric: &name.to_str(),
                instance: match singular {
                    true => None,
                    false => json::instance(known.get(&average.inst), average.inst),
                },
                value: match enough {
                    true => Ok(number(average.mean())),
                    false => Err(ErrorCode::VALUE),
                },
                units: units.clone(),
                more: match enough {
                    true => vec![
                        ("since", json::timestamp(average.first_time)),
                        ("stochastic", number(average.stochastic())),
                        ("minimum", number(average.min.0)),
                        ("mintime", json::timestamp(average.min.1)),
                        ("maximum", number(average.max.0)),
                        ("maxtime", json::timestamp(average.max.1)),
                        ("sum", number(average.total)),
                        ("samples", average.count.into()),
                    ],
                    false => Vec::new(),
                },
            };
            writeln!(out, "{line}")?;
        }
        Ok(())
    }

    pub(super) fn metric(
        &self,
        out: &mut impl Write,
        name: &Text,
        metric: &Metric,
    ) -> io::Result<()> {
        let w = &self.wanted;
        let d = w.delimiter;
        let units = metric.units(!w.sum);
        let number = |v: f64| pcp::cformat::f(v, w.precision);
        // Beside a sum everything is in the metric's own units.
        let scale = if w.sum { metric.scale() } else { 1.0 };
        let whole = (self.window.end - self.window.start).as_secs_f64();
        let instances = self.set.meta().all_instances(metric.desc.indom);
        let instances = instances.unwrap_or_default().into_iter();
        let known: HashMap<i32, Text> = instances.map(|i| (i.inst, i.name)).collect();
        for average in &metric.instances {
            let enough = average.count > 0;
            let covered = average.span.as_secs_f64();
            let partly = metric.desc.sem == Semantics::Counter && covered < COVERED * whole;
            if partly && (!w.sum || !enough) {
                out.write_all(b"*")?;
            }
            out.write_all(name)?;
            write!(out, "{d}")?;
            if average.inst != INST_NULL || !metric.desc.indom.is_null() {
                match known.get(&average.inst) {
                    Some(name) => {
                        out.write_all(b"[\"")?;
                        out.write_all(name)?;
                        out.write_all(b"\"]")?;
                    }
                    None => write!(out, "[{}]", average.inst)?,
                }
            }
            if !enough {
                writeln!(out, "{d}- insufficient archive data.")?;
                continue;
            }
            if w.sum {
                write!(out, "{d}{}", number(average.total))?;
            }
            if w.stochastic {
                write!(out, "{d}{}", number(average.stochastic() / scale))?;
            }
            if w.time {
                write!(out, "{d}{}", number(average.mean() / scale))?;
            }
            if w.min {
                write!(out, "{d}{}", number(average.min.0 / scale))?;
            }
            if w.mintime {
                write!(out, "{d}{}", self.when(average.min.1))?;
            }
            if w.max {
                write!(out, "{d}{}", number(average.max.0 / scale))?;
            }
            if w.maxtime {
                write!(out, "{d}{}", self.when(average.max.1))?;
            }
            if w.count {
                write!(out, "{d}{}", average.count)?;
            }
            let width = (average.max.0 - average.min.0) / w.bins.max(1) as f64;
            for (index, count) in average.bins.iter().enumerate() {
                if width == 0.0 && index > 0 {
                    write!(out, "{d}[]{d}{count}")?;
                    continue;
                }
                let top = average.min.0 + width * (index + 1) as f64;
                write!(out, "{d}[<={}]{d}{count}", number(top / scale))?;
            }
            writeln!(out, "{d}{units}")?;
        }
        Ok(())
    }
}
