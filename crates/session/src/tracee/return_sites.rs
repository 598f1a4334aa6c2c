//! Placing return probes in a process.

use super::installation::{MISSED_RETURNS, clobbers};
use super::{Placed, Placement, Tracee, TraceeError, register_set};
use crate::returns::{self, Interception, Returning};
use crate::stacks;
use codegen::LinkError;
use inject::snippet::Snippet;
use inject::{Insertion, Point, Refused};
use runtime_blob::Blob;
use std::ops::Range;

/// A return probe to be placed.
pub(super) struct ReturnWork<'a> {
    /// Its place among all that is to be placed.
    pub(super) index: usize,
    pub(super) placement: &'a Placement,
    /// Absolute address of the function.
    pub(super) function: u64,
    /// What saves values at the entry.
    pub(super) save: Option<Insertion>,
    /// The handler.
    pub(super) run: Snippet,
    pub(super) facts: returns::Facts,
}

/// What came of a return probe, with its place among all that is to be placed.
pub(super) type Outcome = (usize, Result<(), Refused>);

impl Tracee {
    /// Probes returns: at the functions' own exits as far as those are all known and can be patched, the others by another
    /// return address. What came of each, by its place in the work.
    pub(super) fn place_returns(
        &mut self,
        works: &[ReturnWork<'_>],
        placed: &mut Placed,
    ) -> Result<Vec<Outcome>, TraceeError> {
        let jumps = |work: &&ReturnWork<'_>| {
            work.facts.jumps_bear.is_ok()
                && matches!(&work.facts.exits, Ok(e) if !e.jumps.is_empty())
        };
        let jumping: Vec<&ReturnWork<'_>> = works.iter().filter(jumps).collect();
        let mut at_jumps = self.interceptions(&jumping)?.into_iter();
        let mut batch = Vec::new();
        let mut attempts: Vec<Result<Range<usize>, String>> = Vec::with_capacity(works.len());
        for work in works {
            let exits = match &work.facts.exits {
                Ok(exits) => exits,
                Err(reason) => {
                    attempts.push(Err(format!("its returns are not known: {reason}")));
                    continue;
                }
            };
            let from = batch.len();
            if !exits.jumps.is_empty() {
                if let Err(why) = &work.facts.jumps_bear {
                    attempts.push(Err(format!(
                        "it ends in a jump to another function, but {why}"
                    )));
                    continue;
                }
                match at_jumps.next() {
                    Some(Ok(snippet)) => {
                        let points = exits.jumps.iter();
                        batch.extend(points.map(|point| Insertion::at(point, snippet.clone())));
                    }
                    Some(Err(reason)) => {
                        attempts.push(Err(reason));
                        continue;
                    }
                    None => {}
                }
            }
            batch.extend(work.save.clone());
            let points = exits.returns.iter();
            batch.extend(points.map(|point| Insertion::at(point, work.run.clone())));
            attempts.push(Ok(from..batch.len()));
        }
        let outcome = self.insert(&batch)?;
        let mut undone = Vec::new();
        let mut results = Vec::with_capacity(works.len());
        let mut others: Vec<(&ReturnWork<'_>, String)> = Vec::new();
        for (work, attempt) in works.iter().zip(attempts) {
            let reason = match attempt {
                Ok(share) => {
                    let outcome = outcome.get(share).unwrap_or_default();
                    match outcome.iter().find_map(|one| one.as_ref().err()) {
                        None => {
                            placed.returns += 1;
                            placed.jumping += usize::from(jumps(&work));
                            results.push((work.index, Ok(())));
                            continue;
                        }
                        // A function some of whose exits can't be probed is probed at none.
                        Some(refused) => {
                            undone.extend(outcome.iter().filter_map(|one| one.as_ref().ok()));
                            format!("an exit can't be patched: {refused}")
                        }
                    }
                }
                Err(reason) => reason,
            };
            others.push((work, reason));
        }
        if !undone.is_empty() {
            self.process.remove(&undone)?;
        }
        let replaced: Vec<&ReturnWork<'_>> = others
            .iter()
            .filter(|(work, _)| work.facts.bears.is_ok())
            .map(|(work, _)| *work)
            .collect();
        let mut at_entries = self.interceptions(&replaced)?.into_iter();
        let mut batch = Vec::new();
        let mut attempts: Vec<(&ReturnWork<'_>, Result<Range<usize>, String>)> = Vec::new();
        for (work, reason) in others {
            let snippet = match &work.facts.bears {
                Ok(()) => at_entries.next().unwrap_or_else(|| Err(String::new())),
                Err(why) => Err(why.clone()),
            };
            let attempt = match snippet {
                Ok(snippet) => {
                    let from = batch.len();
                    batch.extend(work.save.clone());
                    batch.push(Insertion::at(&Point::entry(work.function), snippet));
                    Ok(from..batch.len())
                }
                // Both ways may fail for one reason.
                Err(why) if reason.ends_with(&why) => Err(reason),
                Err(why) => Err(format!(
                    "{reason}; its return address can't be replaced: {why}"
                )),
            };
            attempts.push((work, attempt));
        }
        let outcome = self.insert(&batch)?;
        let mut undone = Vec::new();
        for (work, attempt) in attempts {
            let address = work.function;
            let result = attempt
                .map_err(|reason| Refused {
                    address,
                    reason,
                    momentary: false,
                })
                .and_then(|share| {
                    let outcome = outcome.get(share).unwrap_or_default();
                    match outcome.iter().find_map(|one| one.as_ref().err()) {
                        None => Ok(()),
                        Some(refused) => {
                            undone.extend(outcome.iter().filter_map(|one| one.as_ref().ok()));
                            Err(refused.clone())
                        }
                    }
                });
            if result.is_ok() {
                placed.returns += 1;
                placed.replaced += 1;
            }
            results.push((work.index, result));
        }
        if !undone.is_empty() {
            self.process.remove(&undone)?;
        }
        Ok(results)
    }

    /// For each of some functions the snippet that replaces a return address, or why that can't be.
    fn interceptions(
        &mut self,
        works: &[&ReturnWork<'_>],
    ) -> Result<Vec<Result<Snippet, String>>, TraceeError> {
        let Some(installed) = self.installed.as_mut().filter(|_| !works.is_empty()) else {
            return Ok(Vec::new());
        };
        if installed.interception.is_none() {
            let blob = Blob::load().map_err(|e| TraceeError::Blob(e.to_string()))?;
            let function = |name: &str| {
                let offset = blob.symbol(name);
                let offset = offset.map_err(|e| TraceeError::Blob(e.to_string()))?;
                Ok::<u64, TraceeError>(installed.blob + offset)
            };
            let parts = returns::Parts {
                intercept: (
                    function("return_intercept")?,
                    register_set(&clobbers(&blob, "return_intercept")),
                ),
                arrived: function("return_arrived")?,
                missed: installed.arena + MISSED_RETURNS,
            };
            let made = Interception::install(&mut self.process, &self.images, parts)?;
            if let (Ok(made), (table, _)) = (&made, installed.frames)
                && table != 0
            {
                let missed = installed.arena + MISSED_RETURNS;
                returns::describe(&mut self.process, table, made.trampoline, missed)?;
            }
            if let Ok(made) = &made
                && installed.directory != 0
            {
                let at = installed.directory;
                stacks::note_returns(&mut self.process, at, made.trampoline, made.table)?;
            }
            installed.interception = Some(made);
        }
        let interception = match &installed.interception {
            Some(Ok(interception)) => interception,
            Some(Err(reason)) => return Ok(vec![Err(reason.clone()); works.len()]),
            None => return Ok(Vec::new()),
        };
        let mut sites = Vec::with_capacity(works.len());
        for work in works {
            let handler = installed.entries.get(&work.placement.handler);
            let missing =
                || LinkError::MissingSymbol(format!("handler {}", work.placement.handler.0));
            sites.push(Returning {
                handler: handler.ok_or_else(missing)?,
                number: work.placement.number,
                function: work.function,
            });
        }
        let snippets = interception.snippets(&mut self.process, &sites)?;
        Ok(snippets.into_iter().map(Ok).collect())
    }
}
