//! What to overwrite at a site.

use std::collections::BTreeMap;
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction};

use super::relocate::{direct_target, ends_run, is_near_call, relocate};
use super::system_calls::previous;
use super::{BranchTargets, RelocateError};
use crate::analysis::CodeSection;

/// Address ranges already used by patches.
#[derive(Clone, Debug, Default)]
pub struct TakenRanges(BTreeMap<u64, u64>);

impl TakenRanges {
    /// Marks a range as used. Ranges in the set do not overlap: ask [`overlapping`](Self::overlapping) before.
    pub fn insert(&mut self, range: Range<u64>) {
        self.0.insert(range.start, range.end);
    }

    /// Frees the range that starts at `start`.
    pub fn remove(&mut self, start: u64) {
        self.0.remove(&start);
    }

    /// A used range that has a byte in common with `range`.
    pub fn overlapping(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let (&start, &end) = self.0.range(..range.end).next_back()?;
        (end > range.start).then_some(start..end)
    }
}

/// A byte of a patch at which control may enter, and what may stand there so that it traps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrapByte {
    /// Offset from the site: 1 to 4.
    pub offset: u8,
    /// Byte values that raise SIGTRAP or SIGILL when executed, whatever follows them.
    pub allowed: &'static [u8],
}

/// How control is diverted at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Five bytes: `jmp rel32`.
    Jump5,
    /// Two bytes, `jmp rel8`, to five unused bytes nearby that hold `jmp rel32`.
    ShortJump {
        /// Address of the five unused bytes.
        springboard: u64,
    },
    /// `jmp rel32` over instructions that control may enter in the middle: the displacement must have these
    /// values, so that whoever enters there traps, to be sent on to the copy.
    TrapJump {
        /// The bytes that are constrained.
        traps: Vec<TrapByte>,
    },
}

/// What to overwrite at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Address of the first overwritten byte.
    pub site: u64,
    /// The instructions to be relocated: whole, from `site` on, unchanged.
    pub displaced: Vec<u8>,
    /// Addresses of the displaced instructions; the first is `site`.
    pub boundaries: Vec<u64>,
    /// How control is diverted.
    pub kind: PatchKind,
    /// Whether the site is a function's entry, reached only by calls and tail calls: flags and red zone are unused.
    pub at_function_entry: bool,
    /// Why control may enter inside, for a trap jump.
    trap_reason: Option<Refusal>,
    /// Original bytes at the places that [`writes`](Self::writes) overwrites.
    original: Vec<Write>,
}

/// Bytes to be put at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub address: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// Why a site can't be patched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A branch target lies inside the bytes to be overwritten.
    #[error("a jump may enter the middle of the patch at {0:#x}")]
    EnteredInside(u64),
    /// The function is too short and what follows is in use.
    #[error("the function ends inside the patch at {0:#x}")]
    FunctionEnds(u64),
    /// An indirect jump of the function may go anywhere.
    #[error("control flow not provable: indirect jump at {0:#x}")]
    NotProvable(u64),
    /// A call inside the patch would return into its middle.
    #[error("the call at {0:#x} returns into the middle of the patch")]
    CallReturnsInside(u64),
    /// The site is not in code that is known.
    #[error("{0:#x} is not in a known function")]
    NotCode(u64),
    /// The site lies in the middle of an instruction.
    #[error("no instruction starts at {0:#x}")]
    NotABoundary(u64),
    /// Another patch is there.
    #[error("another patch is in the way at {0:#x}")]
    Overlaps(u64),
    /// A displaced instruction can't be moved.
    #[error(transparent)]
    Relocate(#[from] RelocateError),
}

/// Byte values that trap wherever they are executed in 64-bit mode: `int3`, and the one-byte opcodes that the SDM
/// (vol. 2, appendix A, table A-2) leaves invalid there for good. Not among them are `d5`, `62`, `c4` and `c5`, which
/// have become prefixes.
const TRAPS: &[u8] = &[
    0xcc, 0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0x9a,
    0xce, 0xd4, 0xd6, 0xea,
];

/// Length of `jmp rel32`.
const LONG: u64 = 5;
/// Length of `jmp rel8`.
const SHORT: u64 = 2;
/// How many instructions before a point a patch may begin.
const EARLIER: usize = 4;

/// Decides what to overwrite at `site`.
///
/// `code` is the section that holds the site, or any window of it that covers the function and 160 bytes to either side,
/// as the file has it: without any patch. `function` is the range of the function that holds the site, `taken` are the
/// patches that exist. All addresses are of the kind that `targets` was built from.
///
/// A plain jump is preferred, then a short one by way of padding nearby, then one whose displacement traps.
///
/// # Errors
/// Why the site can't be patched.
pub fn plan(
    site: u64,
    code: CodeSection<'_>,
    function: Range<u64>,
    targets: &BranchTargets,
    taken: &TakenRanges,
) -> Result<Plan, Refusal> {
    plan_through(site, site, code, function, targets, taken)
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
) -> Result<Plan, Refusal> {
    Request {
        site,
        through,
        code,
        function,
        targets,
        taken,
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
) -> Result<Plan, Refusal> {
    let at_point = plan(point, code, function.clone(), targets, taken);
    if matches!(&at_point, Ok(plan) if plan.trap_reason.is_none()) {
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
        };
        if let Ok(plan) = request.decide()
            && plan.trap_reason.is_none()
        {
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
}

/// The instructions under a patch.
struct Cover {
    /// The bytes to be overwritten at the site.
    patch: Range<u64>,
    /// The end of the instructions to be displaced: before or behind the patch's.
    end: u64,
    boundaries: Vec<u64>,
    /// Places inside the patch that control may enter.
    enterable: Vec<u64>,
    /// Why, for the first of them.
    reason: Option<Refusal>,
}

impl Request<'_> {
    fn decide(&self) -> Result<Plan, Refusal> {
        let site = self.site;
        let plain = match self.cover(LONG) {
            Ok(cover) => {
                if cover.enterable.is_empty() {
                    return self.plan(cover, PatchKind::Jump5, None);
                }
                Ok(cover)
            }
            Err(refusal) => Err(refusal),
        };
        if let Ok(cover) = self.cover(SHORT)
            && cover.enterable.is_empty()
            && let Some(springboard) = self.springboard(cover.patch.end)
        {
            return self.plan(
                cover,
                PatchKind::ShortJump { springboard },
                Some(springboard..springboard + LONG),
            );
        }
        let cover = plain?;
        let traps = cover
            .enterable
            .iter()
            .map(|address| TrapByte {
                offset: (address - site) as u8,
                allowed: TRAPS,
            })
            .collect();
        self.plan(cover, PatchKind::TrapJump { traps }, None)
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
            boundaries,
            enterable,
            reason,
        })
    }

    /// Five bytes of unused padding that a `jmp rel8` which ends at `next` can reach; the nearest.
    fn springboard(&self, next: u64) -> Option<u64> {
        let lowest = next.saturating_sub(128);
        let highest = next + 127;
        self.targets
            .dead_padding(lowest..highest + LONG)
            .flat_map(|run| run.start.max(lowest)..=run.end.saturating_sub(LONG).min(highest))
            .filter(|&start| {
                let range = start..start + LONG;
                self.code.slice(range.clone()).is_some()
                    && (range.end <= self.site || range.start >= next)
                    && self.taken.overlapping(&range).is_none()
                    && self.targets.is_never_entered(&range)
            })
            .min_by_key(|start| start.abs_diff(next))
    }

    /// Makes the plan, with the original bytes of the patch and of the padding it uses.
    fn plan(
        &self,
        cover: Cover,
        kind: PatchKind,
        springboard: Option<Range<u64>>,
    ) -> Result<Plan, Refusal> {
        let original = std::iter::once(&cover.patch)
            .chain(&springboard)
            .map(|range| {
                Some(Write {
                    address: range.start,
                    bytes: self.code.slice(range.clone())?.to_vec(),
                })
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(Refusal::NotCode(self.site))?;
        Ok(Plan {
            site: self.site,
            displaced: self
                .code
                .slice(self.site..cover.end)
                .ok_or(Refusal::NotCode(self.site))?
                .to_vec(),
            boundaries: cover.boundaries,
            trap_reason: cover.reason,
            kind,
            at_function_entry: self.targets.is_function_entry(self.site),
            original,
        })
    }
}

impl Plan {
    /// The same plan for a process in which the module is loaded at `bias` above the addresses it was made with.
    #[must_use]
    pub fn rebase(mut self, bias: u64) -> Self {
        self.site = self.site.wrapping_add(bias);
        for boundary in &mut self.boundaries {
            *boundary = boundary.wrapping_add(bias);
        }
        for write in &mut self.original {
            write.address = write.address.wrapping_add(bias);
        }
        if let PatchKind::ShortJump { springboard } = &mut self.kind {
            *springboard = springboard.wrapping_add(bias);
        }
        self
    }

    /// The plan behind a patch that somebody has made at `site`, displacing `len` bytes of whole instructions, by way of a
    /// springboard or not; none if the code, as the file has it, is not such that this could be.
    pub(crate) fn of_patch(
        site: u64,
        code: CodeSection<'_>,
        len: u64,
        springboard: Option<u64>,
        at_function_entry: bool,
    ) -> Option<Self> {
        /// A patch begins at most a few instructions before the last that it displaces.
        const LONGEST: u64 = 128;
        let displaced = code.slice(site..site.checked_add(len.min(LONGEST))?)?;
        let mut decoder = Decoder::with_ip(64, displaced, site, DecoderOptions::NONE);
        let mut boundaries = Vec::new();
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return None;
            }
            boundaries.push(instruction.ip());
        }
        let kind = match springboard {
            None => PatchKind::Jump5,
            Some(springboard) => PatchKind::ShortJump { springboard },
        };
        let at_site = if springboard.is_some() { SHORT } else { LONG };
        let places = std::iter::once((site, at_site)).chain(springboard.map(|at| (at, LONG)));
        let original = places.map(|(address, len)| {
            Some(Write {
                address,
                bytes: code.slice(address..address.checked_add(len)?)?.to_vec(),
            })
        });
        (!boundaries.is_empty()).then_some(())?;
        Some(Self {
            site,
            displaced: displaced.to_vec(),
            boundaries,
            kind,
            at_function_entry,
            trap_reason: None,
            original: original.collect::<Option<_>>()?,
        })
    }

    /// The addresses of the displaced instructions: where no thread may be, other than at the start, when the patch is
    /// written. (Padding behind them that the patch runs into is never executed.)
    pub fn range(&self) -> Range<u64> {
        self.site..self.site.saturating_add(self.displaced.len() as u64)
    }

    /// All ranges that the patch uses, to be entered in [`TakenRanges`]: displaced instructions, padding.
    pub fn taken(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = self
            .original
            .iter()
            .map(|write| write.address..write.address + write.bytes.len() as u64)
            .collect();
        if let Some(first) = ranges.first_mut() {
            first.end = first.end.max(self.range().end);
        }
        ranges
    }

    /// Why the plan is a [`PatchKind::TrapJump`] and no plain jump; for who would rather refuse such a site.
    pub fn trap_reason(&self) -> Option<&Refusal> {
        self.trap_reason.as_ref()
    }

    /// The address behind the `jmp rel32` that leads to the trampoline.
    fn jump_end(&self) -> u64 {
        match self.kind {
            PatchKind::ShortJump { springboard } => springboard.wrapping_add(LONG),
            _ => self.site.wrapping_add(LONG),
        }
    }

    /// The displacement of the `jmp rel32` for a trampoline at `at`, if this kind of jump reaches it.
    fn displacement(&self, at: u64) -> Option<[u8; 4]> {
        let bytes = i32::try_from(at.wrapping_sub(self.jump_end()) as i64)
            .ok()?
            .to_le_bytes();
        let PatchKind::TrapJump { traps } = &self.kind else {
            return Some(bytes);
        };
        traps
            .iter()
            .all(|trap| {
                bytes
                    .get(usize::from(trap.offset).wrapping_sub(1))
                    .is_some_and(|byte| trap.allowed.contains(byte))
            })
            .then_some(bytes)
    }

    /// Whether a trampoline at `at` can be reached by this kind of jump.
    pub fn accepts(&self, at: u64) -> bool {
        self.displacement(at).is_some()
    }

    /// The first address in `window`, a multiple of `align` (a power of two), where a trampoline can be reached.
    ///
    /// A trap jump that is constrained in its low byte finds no multiple of 2: pass 1 for those.
    pub fn first_acceptable(&self, window: Range<u64>, align: u64) -> Option<u64> {
        let mut at = window.start.checked_next_multiple_of(align.max(1))?;
        while at < window.end {
            if self.accepts(at) {
                return Some(at);
            }
            at = self.step(at)?.checked_next_multiple_of(align.max(1))?;
        }
        None
    }

    /// The least address above `at`, which is not acceptable, that might be: the most significant byte that is not
    /// allowed changes first, and those below it begin at zero.
    fn step(&self, at: u64) -> Option<u64> {
        let displacement = at.wrapping_sub(self.jump_end()) as i64;
        if displacement < i64::from(i32::MIN) {
            return at.checked_add(displacement.abs_diff(i64::from(i32::MIN)));
        }
        let bytes = i32::try_from(displacement).ok()?.to_le_bytes();
        let PatchKind::TrapJump { traps } = &self.kind else {
            return None;
        };
        let worst = traps
            .iter()
            .filter_map(|trap| {
                let index = usize::from(trap.offset).checked_sub(1)?;
                (!trap.allowed.contains(bytes.get(index)?)).then_some(index)
            })
            .max()?;
        let unit = 1i64 << (8 * worst);
        at.checked_add((unit - displacement.rem_euclid(unit)) as u64)
    }

    /// What to write, in this order, so that control goes from the site to `trampoline`; none if it is out of reach.
    ///
    /// Of the displaced instructions only the bytes of the jump are overwritten. The jump at the site comes last, so that
    /// what it leads to is in place.
    pub fn writes(&self, trampoline: u64) -> Option<Vec<Write>> {
        let displacement = self.displacement(trampoline)?;
        let mut long = vec![0xe9];
        long.extend_from_slice(&displacement);
        let PatchKind::ShortJump { springboard } = self.kind else {
            return Some(vec![Write {
                address: self.site,
                bytes: long,
            }]);
        };
        let next = self.site.wrapping_add(SHORT);
        let short = i8::try_from(springboard.wrapping_sub(next) as i64).ok()?;
        Some(vec![
            Write {
                address: springboard,
                bytes: long,
            },
            Write {
                address: self.site,
                bytes: vec![0xeb, short.to_le_bytes()[0]],
            },
        ])
    }

    /// What stood at the places that [`writes`](Self::writes) overwrites: to be written, in this order, to remove the patch.
    pub fn originals(&self) -> &[Write] {
        &self.original
    }
}
