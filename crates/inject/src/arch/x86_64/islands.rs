//! Room for long jumps in the reach of short ones.

use std::collections::HashSet;
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions};

use super::patch::LONG;
use super::planning::Room;
use super::relocate::{direct_target, ends_run, is_near_call, relocate};
use super::{BranchTargets, TakenRanges};
use crate::analysis::CodeSection;

/// A jump to the copy of what was moved, and one for who wanted the room.
const PAIR: u64 = 2 * LONG;
/// The longest instruction.
const LONGEST: u64 = 15;
/// Functions that are larger are not searched for room.
const LARGEST: u64 = 1 << 16;

/// Room that was found, and what must not be used for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Islands {
    /// Instructions that are moved to make room.
    pub(super) moved: Vec<Range<u64>>,
    /// What is used.
    pub(super) claimed: Vec<Range<u64>>,
}

impl Islands {
    /// Finds five bytes that a `jmp rel8`, or a short branch, which ends at `next` can reach: the nearest padding, or else
    /// the nearest instructions that can be moved.
    pub(super) fn find(
        &mut self,
        code: CodeSection<'_>,
        targets: &BranchTargets,
        taken: &TakenRanges,
        next: u64,
        room: Room,
    ) -> Option<u64> {
        let reach = next.saturating_sub(128)..next.saturating_add(127);
        if let Some(at) = self.padding(code, targets, taken, next, &reach) {
            self.claimed.push(at..at + LONG);
            return Some(at);
        }
        if room == Room::Unused {
            return None;
        }
        let run = self.movable(code, targets, taken, next, &reach)?;
        self.claimed.push(run.clone());
        self.moved.push(run.clone());
        Some(run.start + LONG)
    }

    fn is_free(&self, taken: &TakenRanges, range: &Range<u64>) -> bool {
        let claimed = |used: &Range<u64>| used.start < range.end && range.start < used.end;
        taken.overlapping(range).is_none() && !self.claimed.iter().any(claimed)
    }

    /// Five bytes of padding that is never executed.
    fn padding(
        &self,
        code: CodeSection<'_>,
        targets: &BranchTargets,
        taken: &TakenRanges,
        next: u64,
        reach: &Range<u64>,
    ) -> Option<u64> {
        targets
            .dead_padding(reach.start..reach.end + LONG)
            .flat_map(|run| {
                run.start.max(reach.start)..=run.end.saturating_sub(LONG).min(reach.end)
            })
            .filter(|&start| {
                let range = start..start + LONG;
                code.slice(range.clone()).is_some()
                    && self.is_free(taken, &range)
                    && targets.is_never_entered(&range)
            })
            .min_by_key(|start| start.abs_diff(next))
    }

    /// Ten bytes or more of instructions in a straight run, entered at the first only, which are surely code: something
    /// leads to them from the start of their function.
    fn movable(
        &self,
        code: CodeSection<'_>,
        targets: &BranchTargets,
        taken: &TakenRanges,
        next: u64,
        reach: &Range<u64>,
    ) -> Option<Range<u64>> {
        let first = reach.start.saturating_sub(LONG).max(code.address);
        let last = (reach.end - LONG).min(code.range().end);
        let mut starts: Vec<u64> = (first..=last)
            .filter(|&at| targets.is_boundary(at))
            .collect();
        starts.sort_by_key(|start| start.abs_diff(next));
        let mut executed: Vec<(Range<u64>, HashSet<u64>)> = Vec::new();
        for start in starts {
            let Some(function) = targets.function_of(start) else {
                continue;
            };
            // Its entry is left to those who want to probe it.
            if start < function.start + LONG || targets.is_provable(start).is_err() {
                continue;
            }
            let Some(run) = self.run(code, targets, taken, start, &function) else {
                continue;
            };
            let known = executed.iter().position(|(range, _)| *range == function);
            let known = known.unwrap_or_else(|| {
                executed.push((function.clone(), reachable(code, &function)));
                executed.len() - 1
            });
            let is_executed = executed
                .get(known)
                .is_some_and(|(_, reached)| reached.contains(&start));
            if is_executed {
                return Some(run);
            }
        }
        None
    }

    /// The instructions from `start` on that would be moved.
    fn run(
        &self,
        code: CodeSection<'_>,
        targets: &BranchTargets,
        taken: &TakenRanges,
        start: u64,
        function: &Range<u64>,
    ) -> Option<Range<u64>> {
        let bytes = code.slice(start..function.end.min(start + PAIR + LONGEST))?;
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let mut end = start;
        while end < start + PAIR {
            if !decoder.can_decode() {
                return None;
            }
            let instruction = decoder.decode();
            if instruction.code() == Code::INVALID {
                return None;
            }
            end = instruction.next_ip();
            if (is_near_call(&instruction) || ends_run(&instruction)) && end < start + PAIR {
                return None;
            }
            // It would lead into itself.
            if direct_target(&instruction).is_some_and(|to| to > start && to < start + PAIR) {
                return None;
            }
        }
        let range = start..end;
        if !self.is_free(taken, &range) || targets.entered_inside(range.clone()).is_some() {
            return None;
        }
        relocate(code.slice(range.clone())?, start, start).ok()?;
        Some(range)
    }
}

/// The instructions of a function that direct branches lead to from its start.
fn reachable(code: CodeSection<'_>, function: &Range<u64>) -> HashSet<u64> {
    let mut reached = HashSet::new();
    let Some(bytes) = code
        .slice(function.clone())
        .filter(|bytes| bytes.len() as u64 <= LARGEST)
    else {
        return reached;
    };
    let mut pending = vec![function.start];
    while let Some(start) = pending.pop() {
        let from = bytes
            .get((start - function.start) as usize..)
            .unwrap_or_default();
        for instruction in Decoder::with_ip(64, from, start, DecoderOptions::NONE).iter() {
            if instruction.code() == Code::INVALID || !reached.insert(instruction.ip()) {
                break;
            }
            let target = direct_target(&instruction).filter(|_| !is_near_call(&instruction));
            pending.extend(target.filter(|target| function.contains(target)));
            if ends_run(&instruction) {
                break;
            }
        }
    }
    reached
}
