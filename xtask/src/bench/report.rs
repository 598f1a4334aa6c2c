//! The report, `docs/benchmarks.md`.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::contender::{Contender, Sample};
use super::large::Large;
use super::probe::Probe;
use super::startup::{Start, loses_nothing};

/// From this heading on, a report is written by people and kept when it is written anew.
pub const BY_HAND: &str = "## What falls short, and why";

/// The runs of one cell, or why there are none.
pub type Cell<T> = Result<Vec<T>, String>;

/// Everything that was measured.
#[derive(Default)]
pub struct Measurements {
    /// Cost per hit.
    pub hits: HashMap<(Probe, usize, Contender), Cell<Sample>>,
    /// Start-up, milliseconds.
    pub starts: HashMap<(Start, Contender), Cell<f64>>,
    /// Longest pause, milliseconds.
    pub pauses: HashMap<Contender, Cell<f64>>,
    /// First hit in a large program.
    pub large: HashMap<Contender, Cell<Large>>,
}

/// What goes around the tables.
pub struct Heading {
    /// The command line.
    pub command: String,
    /// Repetitions.
    pub runs: usize,
    /// Thread counts, in order.
    pub threads: Vec<usize>,
    /// Who took part, in order.
    pub contenders: Vec<Contender>,
    /// Who did not, with the reason.
    pub missing: Vec<(Contender, String)>,
    /// The machine.
    pub machine: Vec<(&'static str, String)>,
    /// The programs.
    pub versions: Vec<(&'static str, String)>,
    /// Size of the large program in millions of bytes.
    pub large: f64,
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((upper + sorted.get(half.checked_sub(1)?)?) / 2.0)
}

impl Measurements {
    fn cost(
        &self,
        probe: Probe,
        threads: usize,
        contender: Contender,
        of: fn(&Sample) -> f64,
    ) -> Option<f64> {
        let middle = |contender| {
            let cell = self.hits.get(&(probe, threads, contender))?.as_ref().ok()?;
            median(&cell.iter().map(of).collect::<Vec<_>>())
        };
        Some(middle(contender)? - middle(Contender::Unprobed)?)
    }

    fn lost(&self, probe: Probe, threads: usize, contender: Contender) -> Vec<i64> {
        match self.hits.get(&(probe, threads, contender)) {
            Some(Ok(samples)) => samples.iter().filter_map(|sample| sample.lost).collect(),
            _ => Vec::new(),
        }
    }

    /// The report without the part written by hand.
    pub fn write(&self, heading: &Heading) -> String {
        let mut text = String::new();
        self.write_heading(&mut text, heading);
        let mut notes = Vec::new();
        self.write_goals(&mut text, heading);
        let _ = writeln!(
            text,
            "## Cost per hit\n\n\
             Nanoseconds of processor time per call, less those of the unprobed call; in brackets \
             how many times Spile's. `—`: nothing equivalent. The rows with a rate call the function a \
             million times a second (all threads together), the others without a pause.\n"
        );
        self.write_hit_tables(
            &mut text,
            heading,
            |sample| sample.processor,
            Some(&mut notes),
        );
        let _ = writeln!(
            text,
            "## Elapsed time per hit\n\n\
             The same runs by the clock on the wall: nanoseconds per call, less those of the unprobed call, \
             each thread having its share of the processors. What a thread waits for, locks or \
             the tracer taking a processor, is in here and not above.\n"
        );
        self.write_hit_tables(&mut text, heading, |sample| sample.elapsed, None);
        self.write_processes(&mut text, heading, &mut notes);
        if !notes.is_empty() {
            let _ = writeln!(text, "## Notes on single cells\n");
            for (index, note) in notes.iter().enumerate() {
                // What fails with one thread fails with more.
                if !notes[..index].contains(note) {
                    let _ = writeln!(text, "- {note}");
                }
            }
            text.push('\n');
        }
        text
    }

    fn write_heading(&self, text: &mut String, heading: &Heading) {
        let _ = writeln!(
            text,
            "# Benchmarks\n\n\
             Written by `{}`; each figure the median of {} runs, the contenders taking turns within each run. Down to \
             \"{}\" this file is generated.\n\n\
             | machine | |\n|---|---|",
            heading.command,
            heading.runs,
            BY_HAND.trim_start_matches("## ")
        );
        for (name, value) in heading.machine.iter().chain(&heading.versions) {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text.push('\n');
        for (contender, reason) in &heading.missing {
            let _ = writeln!(text, "Missing: {}: {reason}\n", contender.title());
        }
    }

    fn write_goals(&self, text: &mut String, heading: &Heading) {
        let _ = writeln!(
            text,
            "## Goals\n\n| what | goal | measured | |\n|---|---|---|---|"
        );
        let mut row = |what: &str, goal: &str, measured: Option<String>, met: Option<bool>| {
            let _ = writeln!(
                text,
                "| {what} | {goal} | {} | {} |",
                measured.unwrap_or_else(|| "not measured".to_owned()),
                match met {
                    Some(true) => "met",
                    Some(false) => "**missed**",
                    None => "",
                }
            );
        };
        let processor: fn(&Sample) -> f64 = |sample| sample.processor;
        let first = heading.threads.first().copied().unwrap_or(1);
        let last = heading.threads.last().copied().unwrap_or(1);
        let spile = |probe, threads| self.cost(probe, threads, Contender::Spile, processor);
        let nanoseconds = |value: f64| format!("{value:.1} ns");
        for probe in Probe::ALL {
            let Some(goal) = probe.goal() else { continue };
            let cost = spile(probe, first);
            // Nothing is exactly 0: a loop's time varies by some tenths with the alignment of
            // what is around it.
            row(
                probe.title(),
                &format!("≤ {goal} ns"),
                cost.map(nanoseconds),
                cost.map(|cost| cost <= goal.max(0.3)),
            );
        }
        let ratio = self
            .cost(Probe::Count, first, Contender::Bpftrace, processor)
            .zip(spile(Probe::Count, first))
            .map(|(uprobe, spile)| uprobe / spile.max(0.1));
        row(
            "`n++` against a uprobe",
            "≥ 2000× cheaper",
            ratio.map(|ratio| format!("{ratio:.0}×")),
            ratio.map(|ratio| ratio >= 2000.0),
        );
        let growth = spile(Probe::Count, last).zip(spile(Probe::Count, first));
        row(
            &format!("`n++` per thread, {first} to {last} threads"),
            "flat",
            growth.map(|(many, one)| format!("{one:.1} to {many:.1} ns")),
            growth.map(|(many, one)| many - one <= 0.5_f64.max(one * 0.2)),
        );
        for probe in [Probe::Print, Probe::PrintString] {
            let lost = self.lost(probe, first, Contender::Spile);
            row(
                &format!("{}: lost", probe.title()),
                "0",
                lost.iter().max().map(i64::to_string),
                loses_nothing(probe, &lost),
            );
        }
        let returns = spile(Probe::Return, first).zip(spile(Probe::Count, first));
        row(
            "`.return` against entry",
            "≤ 2×",
            returns.map(|(of_return, entry)| format!("{:.1}×", of_return / entry.max(0.1))),
            returns.map(|(of_return, entry)| of_return <= 2.0 * entry),
        );
        for start in Start::ALL {
            let time = self.start_median(start, Contender::Spile);
            row(
                &format!("whole process, {}", start.title()),
                "≤ 15 ms",
                time.map(|time| format!("{time:.1} ms")),
                time.map(|time| time <= 15.0),
            );
        }
        let pause = self.pause_median(Contender::Spile);
        row(
            "longest pause of a live process, attach and detach with 1000 probes",
            "≤ 20 ms",
            pause.map(|pause| format!("{pause:.1} ms")),
            pause.map(|pause| pause <= 20.0),
        );
        let large = self.large_medians(Contender::Spile);
        row(
            &format!("first hit in a program of {:.0} MB", heading.large),
            "≤ 300 ms, ≤ 200 MB",
            large.map(|(time, memory)| format!("{time:.0} ms, {memory:.0} MB")),
            large.map(|(time, memory)| time <= 300.0 && memory <= 200.0),
        );
        text.push('\n');
    }

    fn write_hit_tables(
        &self,
        text: &mut String,
        heading: &Heading,
        of: fn(&Sample) -> f64,
        mut notes: Option<&mut Vec<String>>,
    ) {
        for &threads in &heading.threads {
            let columns: Vec<Contender> = heading
                .contenders
                .iter()
                .copied()
                .filter(|contender| *contender != Contender::Unprobed)
                .collect();
            let _ = write!(
                text,
                "| {threads} thread{} | goal |",
                if threads == 1 { "" } else { "s" }
            );
            for column in &columns {
                let _ = write!(text, " {} |", column.title());
            }
            let _ = writeln!(text, "\n|---|{}", "---|".repeat(columns.len() + 1));
            for probe in Probe::ALL {
                let goal = probe.goal().map_or(String::new(), |goal| format!("{goal}"));
                let _ = write!(text, "| {} | {goal} |", probe.title());
                let own = self.cost(probe, threads, Contender::Spile, of);
                for &column in &columns {
                    let cell = match self.cost(probe, threads, column, of) {
                        Some(cost) => figure(cost, own.filter(|_| column != Contender::Spile)),
                        None if column.can(probe) => "failed".to_owned(),
                        None => "—".to_owned(),
                    };
                    let _ = write!(text, " {cell} |");
                    if let Some(notes) = notes.as_deref_mut() {
                        notes.extend(self.cell_notes(probe, threads, column));
                    }
                }
                text.push('\n');
            }
            text.push('\n');
        }
    }

    fn cell_notes(&self, probe: Probe, threads: usize, contender: Contender) -> Option<String> {
        let place = format!("{}, {}", contender.title(), probe.title());
        match self.hits.get(&(probe, threads, contender))? {
            Err(reason) => Some(format!("{place}: failed: {reason}")),
            Ok(_) => {
                let lost = self.lost(probe, threads, contender);
                let worst = lost.iter().copied().max_by_key(|count| count.abs())?;
                (worst != 0).then(|| {
                    format!("{place}, threads: {threads}: {worst} hits not reported in a run")
                })
            }
        }
    }

    fn write_processes(&self, text: &mut String, heading: &Heading, notes: &mut Vec<String>) {
        let _ = writeln!(
            text,
            "## Start-up\n\nMilliseconds of the whole process, from its start to its end.\n\n\
             | | goal | spile | bpftrace |\n|---|---|---|---|"
        );
        for start in Start::ALL {
            let own = self.start_median(start, Contender::Spile);
            let show = |contender, own| {
                self.start_median(start, contender)
                    .map_or("—".to_owned(), |time| figure(time, own))
            };
            let _ = writeln!(
                text,
                "| {} | 15 | {} | {} |",
                start.title(),
                show(Contender::Spile, None),
                show(Contender::Bpftrace, own)
            );
            for &contender in &heading.contenders {
                if let Some(Err(reason)) = self.starts.get(&(start, contender)) {
                    notes.push(format!(
                        "{}, {}: failed: {reason}",
                        contender.title(),
                        start.title()
                    ));
                }
            }
        }
        let _ = writeln!(
            text,
            "\nThe same first hit in a program of {:.0} MB, most of it debugging information: milliseconds, and \
             the largest resident set in MB.\n\n\
             | | milliseconds | MB |\n|---|---|---|\n| goal | 300 | 200 |",
            heading.large
        );
        for contender in [Contender::Spile, Contender::Bpftrace] {
            if let Some((time, memory)) = self.large_medians(contender) {
                let _ = writeln!(text, "| {} | {time:.0} | {memory:.0} |", contender.title());
            }
            if let Some(Err(reason)) = self.large.get(&contender) {
                notes.push(format!(
                    "{}, large program: failed: {reason}",
                    contender.title()
                ));
            }
        }
        let _ = writeln!(
            text,
            "\n## Pause of a live process\n\nThe longest time in milliseconds between two readings \
             of the clock by a thread of a program that is attached to, 1000 of its functions \
             probed, and detached from; beside the same program left alone.\n\n\
             | | goal | milliseconds |\n|---|---|---|"
        );
        for (contender, goal) in [(Contender::Spile, "20"), (Contender::Unprobed, "")] {
            let time = self
                .pause_median(contender)
                .map_or("—".to_owned(), |time| format!("{time:.2}"));
            let _ = writeln!(text, "| {} | {goal} | {time} |", contender.title());
            if let Some(Err(reason)) = self.pauses.get(&contender) {
                notes.push(format!("{}, pause: failed: {reason}", contender.title()));
            }
        }
        text.push('\n');
    }

    fn start_median(&self, start: Start, contender: Contender) -> Option<f64> {
        median(self.starts.get(&(start, contender))?.as_ref().ok()?)
    }

    /// Milliseconds and megabytes.
    fn large_medians(&self, contender: Contender) -> Option<(f64, f64)> {
        let runs = self.large.get(&contender)?.as_ref().ok()?;
        let of = |what: fn(&Large) -> f64| median(&runs.iter().map(what).collect::<Vec<_>>());
        Some((of(|run| run.milliseconds)?, of(|run| run.megabytes)?))
    }

    fn pause_median(&self, contender: Contender) -> Option<f64> {
        median(self.pauses.get(&contender)?.as_ref().ok()?)
    }
}

/// A value with three figures or so, and its ratio to Spile's.
fn figure(value: f64, own: Option<f64>) -> String {
    // No "-0.0".
    let value = if value.abs() < 0.05 { 0.0 } else { value };
    let number = if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    };
    match own {
        // Below a tenth the difference is noise, and a ratio to it would say nothing.
        Some(own) if own >= 0.1 => {
            let ratio = value / own;
            if ratio >= 10.0 {
                format!("{number} ({ratio:.0}×)")
            } else {
                format!("{number} ({ratio:.1}×)")
            }
        }
        _ => number,
    }
}

/// A report with the section under a heading replaced, or put before the next one that people wrote, or at the end.
pub fn replaced(old: &str, heading: &str, section: &str) -> String {
    let Some(start) = old.find(heading) else {
        return format!("{}\n\n{section}", old.trim_end());
    };
    let behind = start + heading.len();
    let rest = old.get(behind..).unwrap_or_default();
    let end = rest.find("\n## ").map_or(old.len(), |at| behind + at + 1);
    let (before, after) = (old.get(..start), old.get(end..));
    format!(
        "{}{section}{}",
        before.unwrap_or_default(),
        after.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn figures() {
        assert_eq!(figure(1.44, None), "1.4");
        assert_eq!(figure(-0.01, None), "0.0");
        assert_eq!(figure(14200.4, Some(2.0)), "14200 (7100×)");
        assert_eq!(figure(5.0, Some(2.0)), "5.0 (2.5×)");
        assert_eq!(figure(5.0, Some(0.0)), "5.0");
    }

    #[test]
    fn costs_are_over_the_unprobed_call() {
        let sample = |processor| Sample {
            processor,
            elapsed: processor,
            lost: None,
        };
        let mut measurements = Measurements::default();
        for (contender, times) in [
            (Contender::Unprobed, [2.0, 1.0, 9.0]),
            (Contender::Spile, [4.0, 3.5, 9.0]),
        ] {
            measurements.hits.insert(
                (Probe::Count, 1, contender),
                Ok(times.into_iter().map(sample).collect()),
            );
        }
        let cost = measurements.cost(Probe::Count, 1, Contender::Spile, |sample| sample.processor);
        assert_eq!(cost, Some(2.0));
    }

    #[test]
    fn the_section_is_replaced_and_what_people_wrote_stays() {
        let heading = "## A";
        let new = format!("{heading}\nnew\n\n");
        let old = format!("a\n{heading}\nold\n\n## B\nb\n");
        assert_eq!(replaced(&old, heading, &new), format!("a\n{new}## B\nb\n"));
        assert_eq!(replaced("a\n", heading, &new), format!("a\n\n{new}"));
    }
}
