//! `-t`: how often each probe was hit, and what its handler cost.

use crate::arena::Arena;
use crate::plan::Plan;
use crate::probe_point::spell;
use script::ir::Program;
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

/// A place whose handler notes how long it takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timed {
    /// Index of the probe in the program.
    pub probe: usize,
    /// Index of the point in the probe.
    pub index: usize,
    /// The probe point that it came to.
    pub point: String,
    /// It was looked up in a program, which may have made several of one.
    pub is_resolved: bool,
    /// Number of the site.
    pub number: u32,
}

/// The report as stap prints it: a line for each place that was hit, in the script's order.
pub fn report(arena: &Arena, plan: &Plan<'_>, program: &Program) -> String {
    let mut out = String::from("----- probe hit report: \n");
    let mut timed: Vec<&Timed> = plan.timed.iter().collect();
    timed.sort();
    timed.dedup();
    for (index, place) in timed.into_iter().enumerate() {
        let Some(timing) = arena.timing(plan.compiled.layout(), place.number) else {
            continue;
        };
        let hits = timing.hits.load(Relaxed);
        if hits == 0 {
            continue;
        }
        let average = timing.total.load(Relaxed) / hits;
        let variance =
            (timing.squares.load(Relaxed) / hits).saturating_sub(average.saturating_mul(average));
        let Some(probe) = program.probes.get(place.probe) else {
            continue;
        };
        let Some(point) = probe.points.get(place.index) else {
            continue;
        };
        let written = point.via.first().unwrap_or(&point.point);
        let (line, column) = program
            .sources
            .line_column(written.span.file, written.span.start);
        let file = &program.sources.file(written.span.file).name;
        let mut from = String::new();
        if place.is_resolved {
            from.push_str(&format!(" from: {}", place.point));
        }
        let aliases = point.via.iter().rev().filter(|name| **name != point.point);
        for name in aliases.chain([written]) {
            from.push_str(&format!(" from: {}", spell(name)));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{}, ({file}:{line}:{column}), hits: {hits}, cycles: {}min/{average}avg/{}max, variance: {variance},{from}, index: {index}",
            place.point,
            !timing.inverted_least.load(Relaxed),
            timing.most.load(Relaxed),
        );
    }
    out.push_str("----- refresh report:\n");
    out
}
