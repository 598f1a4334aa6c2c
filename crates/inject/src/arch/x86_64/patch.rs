//! What to overwrite at a site.

use std::collections::BTreeMap;
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions};

use super::RelocateError;
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
}

/// Code near a site that is moved, too, so that jumps can stand in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its first instruction, where a jump to the copy will stand.
    pub start: u64,
    /// The instructions: whole, unchanged, ten bytes or more.
    pub bytes: Vec<u8>,
    /// Their addresses.
    pub boundaries: Vec<u64>,
}

impl Moved {
    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.bytes.len() as u64)
    }
}

/// A branch elsewhere in the function that leads to a displaced instruction, and is sent to that one's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirected {
    /// The branch.
    pub branch: u64,
    /// Behind it.
    pub end: u64,
    /// The displaced instruction.
    pub target: u64,
    /// For a short branch: five unused bytes in its reach that hold a jump to the copy.
    pub springboard: Option<u64>,
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
    /// Other code that makes room for jumps.
    pub moved: Vec<Moved>,
    /// Branches that would lead into the middle of the patch.
    pub redirected: Vec<Redirected>,
    /// Original bytes at the places that [`writes`](Self::writes) overwrites, in the opposite order.
    original: Vec<Write>,
}

/// A plan without the bytes of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) site: u64,
    /// Bytes of displaced instructions.
    pub(crate) displaced: u64,
    pub(crate) at_function_entry: bool,
    /// Where a short jump finds its long one.
    pub(crate) springboard: Option<u64>,
    /// Start and length of the code that makes room.
    pub(crate) moved: Vec<(u64, u64)>,
    pub(crate) redirected: Vec<Redirected>,
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

/// Length of `jmp rel32`.
pub(super) const LONG: u64 = 5;
/// Length of `jmp rel8`.
pub(super) const SHORT: u64 = 2;

impl Shape {
    /// The same with all addresses `bias` higher.
    pub(crate) fn rebase(&self, bias: u64) -> Self {
        let add = |address: u64| address.wrapping_add(bias);
        let moved = self.moved.iter();
        let redirected = self.redirected.iter().map(|r| Redirected {
            branch: add(r.branch),
            end: add(r.end),
            target: add(r.target),
            springboard: r.springboard.map(add),
        });
        Self {
            site: add(self.site),
            springboard: self.springboard.map(add),
            moved: moved.map(|&(start, len)| (add(start), len)).collect(),
            redirected: redirected.collect(),
            ..*self
        }
    }
}

impl Plan {
    /// Completes a plan with the bytes that the file has; none if it has not all of them.
    pub(crate) fn of_shape<'a>(
        shape: &Shape,
        code_at: &dyn Fn(u64) -> Option<CodeSection<'a>>,
    ) -> Option<Self> {
        /// A patch begins at most a few instructions before the last that it displaces.
        const LONGEST: u64 = 128;
        let run = |start: u64, len: u64| {
            let end = start.checked_add(len.min(LONGEST))?;
            let bytes = code_at(start)?.slice(start..end)?.to_vec();
            let mut decoder = Decoder::with_ip(64, &bytes, start, DecoderOptions::NONE);
            let mut boundaries = Vec::new();
            while decoder.can_decode() {
                let instruction = decoder.decode();
                if instruction.is_invalid() {
                    return None;
                }
                boundaries.push(instruction.ip());
            }
            (!boundaries.is_empty()).then_some(Moved {
                start,
                bytes,
                boundaries,
            })
        };
        let Moved {
            bytes: displaced,
            boundaries,
            ..
        } = run(shape.site, shape.displaced)?;
        let moved = shape.moved.iter().map(|&(start, len)| run(start, len));
        let mut plan = Self {
            site: shape.site,
            displaced,
            boundaries,
            kind: match shape.springboard {
                None => PatchKind::Jump5,
                Some(springboard) => PatchKind::ShortJump { springboard },
            },
            at_function_entry: shape.at_function_entry,
            moved: moved.collect::<Option<_>>()?,
            redirected: shape.redirected.clone(),
            original: Vec::new(),
        };
        let original = plan.places().into_iter().rev().map(|(address, len)| {
            let bytes = code_at(address)?.slice(address..address.checked_add(len)?)?;
            Some(Write {
                address,
                bytes: bytes.to_vec(),
            })
        });
        plan.original = original.collect::<Option<_>>()?;
        Some(plan)
    }

    /// The plan without the bytes of the file.
    pub(crate) fn shape(&self) -> Shape {
        let moved = self.moved.iter();
        Shape {
            site: self.site,
            displaced: self.displaced.len() as u64,
            at_function_entry: self.at_function_entry,
            springboard: match self.kind {
                PatchKind::Jump5 => None,
                PatchKind::ShortJump { springboard } => Some(springboard),
            },
            moved: moved.map(|m| (m.start, m.bytes.len() as u64)).collect(),
            redirected: self.redirected.clone(),
        }
    }

    /// The same plan for a process in which the module is loaded at `bias` above the addresses it was made with.
    #[must_use]
    pub fn rebase(mut self, bias: u64) -> Self {
        let moved = self.moved.iter_mut();
        let moved = moved.flat_map(|m| std::iter::once(&mut m.start).chain(&mut m.boundaries));
        let redirected = self.redirected.iter_mut().flat_map(|r| {
            let fixed = [&mut r.branch, &mut r.end, &mut r.target];
            fixed.into_iter().chain(&mut r.springboard)
        });
        let springboard = match &mut self.kind {
            PatchKind::ShortJump { springboard } => Some(springboard),
            PatchKind::Jump5 => None,
        };
        let addresses = std::iter::once(&mut self.site)
            .chain(&mut self.boundaries)
            .chain(self.original.iter_mut().map(|write| &mut write.address))
            .chain(springboard)
            .chain(moved)
            .chain(redirected);
        for address in addresses {
            *address = address.wrapping_add(bias);
        }
        self
    }

    /// The addresses of the displaced instructions: where no thread may be, other than at the start, when the patch is
    /// written. (Padding behind them that the patch runs into is never executed.)
    pub fn range(&self) -> Range<u64> {
        self.site..self.site.saturating_add(self.displaced.len() as u64)
    }

    /// The addresses of all instructions that are moved: those at the site first, then those that make room.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        std::iter::once(self.range()).chain(self.moved.iter().map(Moved::range))
    }

    /// The instructions that are moved, by the same runs: start, bytes and addresses.
    pub fn runs(&self) -> impl Iterator<Item = (u64, &[u8], &[u64])> + '_ {
        let moved = self.moved.iter();
        std::iter::once((self.site, &*self.displaced, &*self.boundaries))
            .chain(moved.map(|m| (m.start, &*m.bytes, &*m.boundaries)))
    }

    /// Whether one of the instructions that are moved starts at an address.
    pub fn displaces(&self, address: u64) -> bool {
        self.runs()
            .any(|(_, _, boundaries)| boundaries.contains(&address))
    }

    /// All ranges that the patch uses, to be entered in [`TakenRanges`]: moved instructions, padding, branches. The first is
    /// that at the site.
    pub fn taken(&self) -> Vec<Range<u64>> {
        let kind = match self.kind {
            PatchKind::Jump5 => None,
            PatchKind::ShortJump { springboard } => Some(springboard),
        };
        let at_site = if kind.is_some() { SHORT } else { LONG };
        let end = self.range().end.max(self.site.saturating_add(at_site));
        let mut ranges: Vec<Range<u64>> = std::iter::once(self.site..end).collect();
        ranges.extend(self.moved.iter().map(Moved::range));
        ranges.extend(self.redirected.iter().map(|r| r.branch..r.end));
        let springboards = self.redirected.iter().filter_map(|r| r.springboard);
        for start in kind.into_iter().chain(springboards) {
            let is_inside = self.moved.iter().any(|m| m.range().contains(&start));
            if !is_inside {
                ranges.push(start..start.saturating_add(LONG));
            }
        }
        ranges
    }

    /// The places of five bytes each that hold second jumps, with where they lead: an instruction that is moved, or, as the
    /// site, the trampoline's start.
    pub fn second_jumps(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let kind = match self.kind {
            PatchKind::Jump5 => None,
            PatchKind::ShortJump { springboard } => Some((springboard, self.site)),
        };
        let redirected = self.redirected.iter();
        kind.into_iter()
            .chain(redirected.filter_map(|r| Some((r.springboard?, r.target))))
    }

    /// Where [`writes`](Self::writes) writes, in its order: addresses and lengths.
    fn places(&self) -> Vec<(u64, u64)> {
        let mut places: Vec<(u64, u64)> = self.moved.iter().map(|m| (m.start, LONG)).collect();
        places.extend(self.second_jumps().map(|(at, _)| (at, LONG)));
        places.extend(self.redirected.iter().map(|r| {
            let len = if r.springboard.is_some() { 1 } else { 4 };
            (r.end.wrapping_sub(len), len)
        }));
        places.push(match self.kind {
            PatchKind::Jump5 => (self.site, LONG),
            PatchKind::ShortJump { .. } => (self.site, SHORT),
        });
        places
    }

    /// What to write, in this order, so that control goes from the site to a trampoline; none if it is out of reach.
    /// `copy_of` says where in the trampoline the copies of instructions are: where control goes on that comes to them.
    ///
    /// Of the displaced instructions only the bytes of the jump are overwritten. The jump at the site comes last, so that
    /// what it leads to is in place; whatever comes before it changes nothing by itself.
    pub fn writes(
        &self,
        trampoline: u64,
        copy_of: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<Vec<Write>> {
        let distance = |from: u64, to: u64| i32::try_from(to.wrapping_sub(from) as i64).ok();
        let long = |at: u64, to: u64| {
            let mut bytes = vec![0xe9];
            bytes.extend(distance(at.wrapping_add(LONG), to)?.to_le_bytes());
            Some(Write { address: at, bytes })
        };
        let short = |from: u64, to: u64| i8::try_from(to.wrapping_sub(from) as i64).ok();
        let mut writes = Vec::new();
        for moved in &self.moved {
            writes.push(long(moved.start, copy_of(moved.start)?)?);
        }
        for (at, target) in self.second_jumps() {
            let to = if target == self.site {
                trampoline
            } else {
                copy_of(target)?
            };
            writes.push(long(at, to)?);
        }
        for redirected in &self.redirected {
            let end = redirected.end;
            writes.push(match redirected.springboard {
                Some(springboard) => Write {
                    address: end.wrapping_sub(1),
                    bytes: short(end, springboard)?.to_le_bytes().to_vec(),
                },
                None => Write {
                    address: end.wrapping_sub(4),
                    bytes: distance(end, copy_of(redirected.target)?)?
                        .to_le_bytes()
                        .to_vec(),
                },
            });
        }
        writes.push(match self.kind {
            PatchKind::Jump5 => long(self.site, trampoline)?,
            PatchKind::ShortJump { springboard } => Write {
                address: self.site,
                bytes: vec![
                    0xeb,
                    short(self.site.wrapping_add(SHORT), springboard)?.to_le_bytes()[0],
                ],
            },
        });
        Some(writes)
    }

    /// What stood at the places that [`writes`](Self::writes) overwrites: to be written, in this order, to remove the patch.
    pub fn originals(&self) -> &[Write] {
        &self.original
    }
}
