//! Rows of values and of rates, as text and as lines of JSON.

use crate::json;
use pcp::{Atom, Context, ErrorCode, InstanceValue, TIME_SEC, Timestamp, Type};
use std::collections::HashMap;
use std::io::{self, Write};

use super::Pmval;

impl Pmval {
    pub(super) fn numbers(&self, values: &[InstanceValue]) -> HashMap<i32, f64> {
        let number = |v: &InstanceValue| {
            let atom = Atom::extract(&v.value, self.desc.ty).ok()?;
            Some((v.inst, atom.as_f64()?))
        };
        values.iter().filter_map(number).collect()
    }

    /// Values of an archive have their times; those of a host are of now.
    pub(super) fn has_times(&self) -> bool {
        matches!(self.opened.context, Context::Archive(_))
    }

    pub(super) fn no_values(&mut self) -> io::Result<()> {
        let indent = if self.has_times() { "  " } else { "" };
        writeln!(self.out, "{indent}No values available")
    }

    pub(super) fn stamp(&mut self, time: Timestamp) -> io::Result<()> {
        if !self.has_times() {
            return Ok(());
        }
        let zone = &self.opened.zone;
        let text = match self.dates {
            0 => zone.clock(time, 3),
            1 => zone.date(time, 6),
            _ => zone.date(time, 9),
        };
        self.out.write_all(text.as_bytes())
    }

    pub(super) fn labels(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.named, true)
            && self.instances.iter().any(|i| i.name.len() > self.width)
        {
            for (number, instance) in self.instances.iter().enumerate() {
                write!(self.out, "full label for instance[{number}]: ")?;
                self.out.write_all(&instance.name)?;
                self.out.write_all(b"\n")?;
            }
        }
        self.out.write_all(b"\n")?;
        let stamp = match self.dates {
            _ if !self.has_times() => 0,
            0 => 12,
            1 => 31,
            _ => 34,
        };
        write!(self.out, "{:stamp$}", "")?;
        let width = self.width;
        // The names of rates stand over the digits before the point.
        let inner = width.saturating_sub(3);
        let long = self.instances.iter().any(|i| i.name.len() > inner);
        let inner = if self.raw || self.precision.is_some() || long {
            width
        } else {
            inner
        };
        for instance in &self.instances {
            let name = instance.name.to_str();
            let shown: String = name.chars().take(width).collect();
            let text = format!("{shown:>inner$}");
            write!(self.out, "{text:<width$} ")?;
        }
        self.out.write_all(b"\n")
    }

    pub(super) fn row(&mut self, values: &[InstanceValue]) -> io::Result<()> {
        if self.desc.indom.is_null() {
            if let Some(value) = values.first() {
                self.value(value)?;
            }
            return self.out.write_all(b"\n");
        }
        for number in 0..self.instances.len() {
            let inst = self.instances.get(number).map(|i| i.inst);
            match values.iter().find(|v| Some(v.inst) == inst) {
                Some(value) => self.value(value)?,
                None => write!(self.out, "{:>width$}", "?", width = self.width)?,
            }
            self.out.write_all(b" ")?;
        }
        self.out.write_all(b"\n")
    }

    /// Speaks of values of instances that no column is for, and looks for those anew. False when there are any.
    pub(super) fn unknown(&mut self, values: &[InstanceValue]) -> io::Result<bool> {
        if self.desc.indom.is_null() || !self.all {
            return Ok(true);
        }
        let mut known = true;
        for value in values {
            if self.instances.iter().any(|i| i.inst == value.inst) {
                continue;
            }
            known = false;
            self.out.write_all(b"Warning: value=")?;
            self.out
                .write_all(&pcp::print_value(&value.value, self.desc.ty, 1))?;
            writeln!(self.out, ", but instance={} is unknown", value.inst)?;
        }
        if !known && let Ok(now) = self.opened.context.instances(self.desc.indom) {
            self.instances = now;
        }
        Ok(known)
    }

    pub(super) fn value(&mut self, value: &InstanceValue) -> io::Result<()> {
        match Atom::extract(&value.value, self.desc.ty) {
            Ok(Atom::Float(v)) => self.real(v.into()),
            Ok(Atom::Double(v)) => self.real(v),
            _ => {
                let text = pcp::print_value(&value.value, self.desc.ty, self.width);
                self.out.write_all(&text)
            }
        }
    }

    /// What a counter grew by in a second. One that went back began anew, unless the environment says that it went around.
    pub(super) fn rate(&self, then: f64, now: f64, elapsed: f64) -> Option<f64> {
        let wrap = match self.desc.ty {
            _ if std::env::var_os("PCP_COUNTER_WRAP").is_none() => 0.0,
            Type::I32 | Type::U32 => 4_294_967_296.0,
            Type::I64 | Type::U64 => 18_446_744_073_709_551_616.0,
            _ => 0.0,
        };
        let mut delta = now - then;
        if delta < 0.0 {
            delta += wrap;
        }
        let rate = delta / elapsed;
        // Divided by a whole number, of whose inverse a double has not all digits.
        Some(match self.scale {
            scale if scale < 1.0 => rate / (1.0 / scale).round(),
            scale => rate * scale,
        })
    }

    pub(super) fn line(
        &mut self,
        time: Timestamp,
        inst: Option<i32>,
        value: Result<serde_json::Value, ErrorCode>,
    ) -> io::Result<()> {
        let named = |inst: i32| {
            let known = self.instances.iter().find(|i| i.inst == inst);
            json::instance(known.map(|i| &i.name), inst)
        };
        let mut units = self.desc.units;
        if !self.raw {
            units.dim_time -= 1;
            if units.dim_time == -1 {
                units.scale_time = TIME_SEC;
            }
        }
        let line = json::Line {
            time,
            metric: &self.name,
            instance: inst.filter(|_| !self.desc.indom.is_null()).and_then(named),
            value,
            units: units.to_string(),
            more: Vec::new(),
        };
        writeln!(self.out, "{line}")
    }

    pub(super) fn lines(&mut self, time: Timestamp, values: &[InstanceValue]) -> io::Result<()> {
        for value in values {
            let atom = Atom::extract(&value.value, self.desc.ty);
            self.line(time, Some(value.inst), atom.map(|atom| json::value(&atom)))?;
        }
        Ok(())
    }

    pub(super) fn rate_lines(
        &mut self,
        time: Timestamp,
        before: &HashMap<i32, f64>,
        now: &HashMap<i32, f64>,
        elapsed: f64,
    ) -> io::Result<()> {
        let mut insts: Vec<i32> = now.keys().copied().collect();
        insts.sort_unstable();
        for inst in insts {
            let rate = |inst: i32| self.rate(*before.get(&inst)?, *now.get(&inst)?, elapsed);
            // A counter that went back says nothing of the time between.
            let value = match rate(inst).filter(|rate| *rate >= 0.0) {
                Some(rate) => Ok(json::number(rate)),
                None => Err(ErrorCode::VALUE),
            };
            self.line(time, Some(inst), value)?;
        }
        Ok(())
    }

    pub(super) fn rates(
        &mut self,
        before: &HashMap<i32, f64>,
        now: &HashMap<i32, f64>,
        elapsed: f64,
    ) -> io::Result<()> {
        let rate = |inst: i32| self.rate(*before.get(&inst)?, *now.get(&inst)?, elapsed);
        if self.desc.indom.is_null() {
            match now.keys().next().and_then(|inst| rate(*inst)) {
                Some(rate) => self.real(rate)?,
                None => write!(self.out, "{:>width$}", "?", width = self.width)?,
            }
            return self.out.write_all(b"\n");
        }
        let found: Vec<Option<f64>> = self.instances.iter().map(|i| rate(i.inst)).collect();
        for rate in found {
            match rate {
                Some(rate) => self.real(rate)?,
                None => write!(self.out, "{:>width$}", "?", width = self.width)?,
            }
            self.out.write_all(b" ")?;
        }
        self.out.write_all(b"\n")
    }

    /// A number with about four digits, its point in one column (the table in pmval(1)).
    pub(super) fn real(&mut self, value: f64) -> io::Result<()> {
        let text = if value < 0.0 && !self.raw {
            "!".to_owned()
        } else if let Some(precision) = self.precision {
            pcp::cformat::f(value, precision)
        } else if value < 0.0 {
            pcp::cformat::e(value, 3).to_ascii_uppercase()
        } else if value == 0.0 {
            "0.0   ".to_owned()
        } else if value < 0.1 {
            pcp::cformat::e(value, 3).to_ascii_uppercase()
        } else if value <= 0.9999 {
            pcp::cformat::f(value, 4)
        } else if value < 9.999 {
            format!("{} ", pcp::cformat::f(value, 3))
        } else if value < 99.99 {
            format!("{}  ", pcp::cformat::f(value, 2))
        } else if value < 999.9 {
            format!("{}   ", pcp::cformat::f(value, 1))
        } else if value < 9999.0 {
            format!("{}.    ", pcp::cformat::f(value, 0))
        } else if value.is_nan() {
            "nan.    ".to_owned()
        } else {
            pcp::cformat::e(value, 3).to_ascii_uppercase()
        };
        write!(self.out, "{text:>width$}", width = self.width)
    }
}
