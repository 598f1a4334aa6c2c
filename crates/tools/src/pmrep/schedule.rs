//! When samples are taken.

use std::io::{self, Write};
use std::time::Duration;

use pcp::timewindow::{SECOND, TimeWindow};
use pcp::timezone::Zone;
use pcp::{Context, Timestamp};

use super::format;
use super::settings::Settings;
use crate::options::Refusal;

/// The samples of a report.
pub struct Schedule {
    /// The first sample's time.
    pub origin: Timestamp,
    /// No sample lies behind it.
    pub until: Timestamp,
    /// Between samples.
    pub interval: Timestamp,
    /// How many there are, if that is bounded.
    pub samples: Option<u64>,
    /// The end that headers show.
    pub end_shown: Option<Timestamp>,
    requested: bool,
    interpolated: bool,
    finish: bool,
}

impl Schedule {
    /// What the options of time say.
    ///
    /// # Errors
    /// What is wrong with one.
    pub fn new(settings: &Settings, context: &Context, zone: &Zone) -> Result<Schedule, Refusal> {
        let source = &settings.source;
        let span = match context {
            Context::Archive(archive) => (archive.label().start, archive.end()),
            Context::Host(_) => (Timestamp::now(), Timestamp::MAX),
        };
        let wrong = |error: pcp::timewindow::TimeError| {
            Refusal::Failed(format!("pmrep: invalid time window.\n{error}\n\n"))
        };
        let finish = source.window.finish.is_some();
        let whole = pcp::timewindow::WindowSpec {
            finish: None,
            ..source.window.clone()
        };
        let whole: TimeWindow = whole.window(span.0, span.1, zone).map_err(wrong)?;
        let window = source.window.window(span.0, span.1, zone).map_err(wrong)?;
        let origin = window.origin;
        let archive = source.archives.is_some();
        let mut interval = source.interval.unwrap_or(SECOND);
        let mut samples = source.samples;
        let until = window.end.max(origin);
        let length = (until - origin).as_nanos();
        let bounded = archive || finish;
        if finish && let Some(wanted) = samples {
            // One sample in a window is two: at its start and its end.
            samples = Some(wanted.max(2));
            let step = Timestamp::from_nanos(length / i128::from(wanted.max(2) - 1));
            if step > Timestamp::ZERO {
                interval = step;
            }
        }
        if samples.is_none() && bounded && settings.interpolate {
            samples = u64::try_from(length / interval.as_nanos() + 1).ok();
        }
        let end_shown = if archive {
            Some(whole.end)
        } else {
            samples.map(|n| {
                let steps = i128::from(n.saturating_sub(1)) * interval.as_nanos();
                origin + Timestamp::from_nanos(steps)
            })
        };
        Ok(Schedule {
            origin,
            until,
            interval,
            samples,
            end_shown,
            requested: source.samples.is_some(),
            interpolated: settings.interpolate,
            finish,
        })
    }

    /// Whether a time is behind the end that the options set.
    pub fn is_over(&self, time: Timestamp) -> bool {
        self.finish && time > self.until
    }

    /// The number of samples to take, if it does not end with the archive.
    pub fn bound(&self, archive: bool) -> Option<u64> {
        self.samples.filter(|_| self.requested || !archive)
    }

    /// How long it takes, if that is known.
    fn duration(&self) -> Option<Timestamp> {
        if self.finish {
            return Some(self.until - self.origin);
        }
        if self.interpolated
            && let Some(samples) = self.samples.filter(|_| self.requested)
        {
            let steps = i128::from(samples.saturating_sub(1)) * self.interval.as_nanos();
            return Some(Timestamp::from_nanos(steps));
        }
        self.end_shown.map(|end| end - self.origin)
    }

    /// As the header has it.
    pub fn samples_text(&self) -> String {
        match self.samples {
            Some(samples) if self.interpolated => samples.to_string(),
            Some(samples) => format!("{samples} (requested)"),
            None => "N/A".to_owned(),
        }
    }

    /// As the header has it.
    pub fn interval_text(&self) -> String {
        if self.interpolated {
            format!("{} sec", format::seconds(self.interval))
        } else {
            "N/A".to_owned()
        }
    }

    /// As the header has it.
    pub fn duration_text(&self) -> String {
        self.duration()
            .map_or_else(|| "N/A".to_owned(), format::span)
    }

    /// Says what is recorded.
    pub fn announce(
        &self,
        out: &mut dyn Write,
        metrics: usize,
        file: &str,
        live: bool,
    ) -> io::Result<()> {
        write!(out, "Recording {metrics} metrics to {file}")?;
        let bounded = self.requested || self.finish;
        match (bounded, live) {
            (true, _) => {
                let samples = self.samples.unwrap_or_else(|| {
                    let length = (self.until - self.origin).as_nanos();
                    u64::try_from(length / self.interval.as_nanos() + 1).unwrap_or(0)
                });
                let seconds = i128::from(samples.saturating_sub(1)) * self.interval.as_nanos();
                let length = if self.finish {
                    self.until - self.origin
                } else {
                    Timestamp::from_nanos(seconds)
                };
                let interval = format::seconds(self.interval);
                writeln!(
                    out,
                    ":\n{samples} samples(s) with {interval} sec interval ~ {} sec duration.",
                    length.sec
                )
            }
            (false, true) => writeln!(out, "... (Ctrl-C to stop)"),
            (false, false) => writeln!(out, "..."),
        }
    }

    /// A clock to wait for samples with.
    pub fn clock(&self, live: bool) -> Clock {
        Clock {
            start: if live { self.origin } else { Timestamp::now() },
            interval: self.interval,
        }
    }
}

/// Waits for the times of samples.
pub struct Clock {
    start: Timestamp,
    interval: Timestamp,
}

impl Clock {
    /// Waits for the time of the sample of that number, from 0.
    pub fn wait(&mut self, number: u64) {
        let steps = i128::from(number) * self.interval.as_nanos();
        let due = self.start + Timestamp::from_nanos(steps);
        let left = (due - Timestamp::now()).as_nanos();
        if let Ok(left) = u64::try_from(left) {
            std::thread::sleep(Duration::from_nanos(left));
        }
    }
}
