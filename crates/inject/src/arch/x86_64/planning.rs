//! Deciding what to overwrite at a site.
//!
//! What is tried, in this order: a plain jump; a short jump to padding nearby that has room for a long one; then, where
//! other code may be touched, a short jump to room that is made by moving other instructions of the neighbourhood; last, the
//! branches that lead into the middle of the patch are sent to the copies of their targets. Nothing of this ever traps: a
//! site for which all of it fails is refused.

use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction};

use super::BranchTargets;
use super::islands::Islands;
use super::patch::{LONG, SHORT, Shape};
use super::relocate::{direct_target, ends_run, is_near_call, relocate};
use super::system_calls::previous;
use super::{Plan, Redirected, Refusal, RelocateError, TakenRanges};
use crate::analysis::CodeSection;

/// What may be touched besides the instructions at the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nothing but padding.
    Unused,
    /// Other instructions, where that is proven to be safe.
    Made,
}

/// How many instructions before a point a patch may begin.
const EARLIER: usize = 4;

/// Decides what to overwrite at `site`.
///
/// `code` is the section that holds the site, or any window of it that covers the function and 160 bytes to either side,
/// as the file has it: without any patch. `function` is the range of the function that holds the site, `taken` are the
/// patches that exist. All addresses are of the kind that `targets` was built from.
///
/// A plain jump is preferred, then a short one by way of padding nearby, then what touches other code, if it may be touched.
///
/// # Errors
/// Why the site can't be patched.
pub fn plan(
    site: u64,
    code: CodeSection<'_>,
    function: Range<u64>,
    targets: &BranchTargets,
    taken: &TakenRanges,
    room: Room,
) -> Result<Plan, Refusal> {
    plan_through(site, site, code, function, targets, taken, room)
}

/// As [`plan`], with at least the instructions up to and including the one at `through` displaced.
///
/// # Errors
/// Why the site can't be patched.
pub fn plan_through(
    site: u64,
    through: u64,
    code: CodeSection<'_>,
    function: Range<u64>,
    targets: &BranchTargets,
    taken: &TakenRanges,
    room: Room,
) -> Result<Plan, Refusal> {
    Request {
        site,
        through,
        code,
        function,
        targets,
        taken,
        room,
    }
    .decide()
}

/// Decides what to overwrite so that something can be run around the instruction at `point`, whose displaced copy is
/// part of the plan: as [`plan`], but where too little room follows the instruction the patch may begin before it, in
/// the same straight run of code.
///
/// # Errors
/// Why not, as [`plan`] says it of the point itself.
pub fn plan_around(
    point: u64,
    code: CodeSection<'_>,
    function: Range<u64>,
    targets: &BranchTargets,
    taken: &TakenRanges,
    room: Room,
) -> Result<Plan, Refusal> {
    let at_point = plan(point, code, function.clone(), targets, taken, room);
    if at_point.is_ok() {
        return at_point;
    }
    // Whoever enters between the site and the point would pass by unseen.
    let mut site = point;
    for _ in 0..EARLIER {
        if targets.is_provable(point).is_err() || targets.is_entered(site) {
            break;
        }
        let Some(before) = previous(site, code, targets) else {
            break;
        };
        if before.flow_control() != FlowControl::Next {
            break;
        }
        site = before.ip();
        let request = Request {
            site,
            through: point,
            code,
            function: function.clone(),
            targets,
            taken,
            room,
        };
        if let Ok(plan) = request.decide() {
            return Ok(plan);
        }
    }
    at_point
}

/// The arguments of [`plan`].
struct Request<'a> {
    site: u64,
    /// The last instruction that must be displaced.
    through: u64,
    code: CodeSection<'a>,
    function: Range<u64>,
    targets: &'a BranchTargets,
    taken: &'a TakenRanges,
    room: Room,
}

/// The instructions under a patch.
struct Cover {
    /// The bytes to be overwritten at the site.
    patch: Range<u64>,
    /// The end of the instructions to be displaced: before or behind the patch's.
    end: u64,
    /// Places inside the patch that control may enter.
    enterable: Vec<u64>,
    /// Why, for the first of them.
    reason: Option<Refusal>,
}

impl Request<'_> {
    fn decide(&self) -> Result<Plan, Refusal> {
        let plain = self.cover(LONG);
        if let Ok(cover) = &plain
            && cover.enterable.is_empty()
        {
            return self.plan(cover, None, Islands::default(), Vec::new());
        }
        let short = self.cover(SHORT);
        let unused = Islands::default();
        if let Ok(cover) = &short
            && cover.enterable.is_empty()
            && let Some((at, islands)) = self.island(cover, unused, Room::Unused)
        {
            return self.plan(cover, Some(at), islands, Vec::new());
        }
        if self.room == Room::Made {
            if let Ok(cover) = &short
                && cover.enterable.is_empty()
                && let Some((at, islands)) = self.island(cover, Islands::default(), Room::Made)
            {
                return self.plan(cover, Some(at), islands, Vec::new());
            }
            if let Ok(cover) = &plain
                && let Some((redirected, islands)) = self.redirect(cover)
            {
                return self.plan(cover, None, islands, redirected);
            }
            if let Ok(cover) = &short
                && let Some((redirected, islands)) = self.redirect(cover)
                && let Some((at, islands)) = self.island(cover, islands, Room::Made)
            {
                return self.plan(cover, Some(at), islands, redirected);
            }
        }
        let reason = plain?.reason;
        Err(reason.unwrap_or(Refusal::NotCode(self.site)))
    }

    /// Room for the long jump to which a short one at the site leads.
    fn island(&self, cover: &Cover, mut islands: Islands, room: Room) -> Option<(u64, Islands)> {
        let own = self.site..cover.end.max(cover.patch.end);
        if !islands.claimed.contains(&own) {
            islands.claimed.push(own);
        }
        let at = islands.find(self.code, self.targets, self.taken, cover.patch.end, room)?;
        Some((at, islands))
    }

    /// Sends the branches that lead into the middle of the patch elsewhere, if all of them are known.
    fn redirect(&self, cover: &Cover) -> Option<(Vec<Redirected>, Islands)> {
        self.targets.is_provable(self.site).ok()?;
        let mut branches: Vec<(Instruction, u64)> = Vec::new();
        for &target in &cover.enterable {
            for branch in self.targets.jumps_to(target, self.code)? {
                // A displaced branch is right as it is moved.
                if (self.site..cover.end).contains(&branch.ip()) {
                    continue;
                }
                let range = branch.ip()..branch.next_ip();
                if self.taken.overlapping(&range).is_some()
                    || range.start < cover.end && range.end > self.site
                {
                    return None;
                }
                branches.push((branch, target));
            }
        }
        let mut islands = Islands::default();
        islands
            .claimed
            .push(self.site..cover.end.max(cover.patch.end));
        let claimed = branches.iter().map(|(b, _)| b.ip()..b.next_ip());
        islands.claimed.extend(claimed);
        let mut redirected = Vec::new();
        for (branch, target) in branches {
            let end = branch.next_ip();
            let is_near = branch.is_jmp_near() || branch.is_jcc_near();
            let springboard = if is_near {
                None
            } else {
                let found = islands.find(self.code, self.targets, self.taken, end, Room::Made);
                Some(found?)
            };
            redirected.push(Redirected {
                branch: branch.ip(),
                end,
                target,
                springboard,
            });
        }
        Some((redirected, islands))
    }

    /// Finds the instructions to be displaced by a patch of `len` bytes.
    fn cover(&self, len: u64) -> Result<Cover, Refusal> {
        let site = self.site;
        if !self.function.contains(&site) {
            return Err(Refusal::NotCode(site));
        }
        if !self.targets.is_boundary(site) {
            return Err(Refusal::NotABoundary(site));
        }
        let available = self.code.from(site).ok_or(Refusal::NotCode(site))?;
        let patch = site..site + len;
        if let Some(other) = self.taken.overlapping(&patch) {
            return Err(Refusal::Overlaps(other.start));
        }

        let mut decoder = Decoder::with_ip(64, available, site, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut boundaries = Vec::with_capacity(LONG as usize);
        let mut inner_branches = Vec::new();
        let mut end = site;
        let through = patch.end.max(self.through.saturating_add(1));
        while end < through {
            if end >= self.function.end {
                return Err(Refusal::FunctionEnds(end));
            }
            decoder.decode_out(&mut instruction);
            if instruction.code() == Code::INVALID || instruction.next_ip() > self.function.end {
                return Err(RelocateError::Undecodable(end).into());
            }
            boundaries.push(end);
            end = instruction.next_ip();
            inner_branches
                .extend(direct_target(&instruction).filter(|&t| t > site && t < patch.end));
            if is_near_call(&instruction) && end < through {
                return Err(Refusal::CallReturnsInside(instruction.ip()));
            }
            if ends_run(&instruction) {
                if end <= self.through
                    || end < patch.end && !self.targets.is_dead_padding(&(end..patch.end))
                {
                    return Err(Refusal::FunctionEnds(end));
                }
                break;
            }
        }
        // Nothing can move that is not movable right here.
        let displaced = self
            .code
            .slice(site..end)
            .ok_or(Refusal::FunctionEnds(end))?;
        relocate(displaced, site, site)?;

        let mut enterable = Vec::new();
        let mut reason = None;
        let provable = self.targets.is_provable(site);
        for address in site + 1..patch.end.min(end) {
            let inner = inner_branches.iter().filter(|&&t| t == address).count();
            let only_inner = inner == 1 && !self.targets.is_entered_again(address);
            if self.targets.is_entered(address) && !only_inner {
                reason.get_or_insert(Refusal::EnteredInside(address));
                enterable.push(address);
            } else if let Err(jump) = provable
                && boundaries.contains(&address)
            {
                reason.get_or_insert(Refusal::NotProvable(jump));
                enterable.push(address);
            }
        }
        // Control can only be sent on from a trap to the copy of a whole instruction.
        if let Some(&inside) = enterable.iter().find(|&a| !boundaries.contains(a)) {
            return Err(Refusal::EnteredInside(inside));
        }
        Ok(Cover {
            patch,
            end,
            enterable,
            reason,
        })
    }

    /// Makes the plan, with the original bytes of all that it overwrites.
    fn plan(
        &self,
        cover: &Cover,
        springboard: Option<u64>,
        islands: Islands,
        redirected: Vec<Redirected>,
    ) -> Result<Plan, Refusal> {
        let moved = islands.moved.iter();
        let shape = Shape {
            site: self.site,
            displaced: cover.end - self.site,
            at_function_entry: self.targets.is_function_entry(self.site),
            springboard,
            moved: moved.map(|run| (run.start, run.end - run.start)).collect(),
            redirected,
        };
        Plan::of_shape(&shape, &|_| Some(self.code)).ok_or(Refusal::NotCode(self.site))
    }
}
