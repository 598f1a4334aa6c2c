//! What branches lead to a few places of a module, without decoding all of it.
//!
//! The functions that are asked about and their neighbours are decoded as ever. All other code is searched for bytes that
//! may be a branch to there, whether an instruction starts at them or not: a near branch or a `lea` is known by its opcode
//! and the 32-bit displacement that follows, wherever it stands; short branches reach no further than the neighbours. Every
//! address that a `lea` may make is looked at as a table of offsets, as if an indirect jump used it. So nothing is missed
//! that [`BranchTargets::build`](super::BranchTargets::build) would find.

use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions};
use rayon::prelude::*;

use super::BranchTargets;
use super::relocate::direct_target;
use super::sweep::{Before, MAX_TABLE, Sweep};
use super::targets::Entry;
use crate::analysis::{CodeSection, ModuleCode, ReadData};

/// How much is known around a function: the padding that a patch may use, and then the code before that.
const AROUND: u64 = 320;
/// How far a short branch reaches, and its own length.
const SHORT_REACH: u64 = 132;
/// How many calls of a function are tried until one is known to be one.
const CALLERS: usize = 16;
/// Bytes of code that a thread searches at a time.
const PIECE: usize = 256 << 10;

const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;
/// The first of two bytes.
const JCC: u8 = 0x0f;
/// The first of two bytes.
const XBEGIN: u8 = 0xc7;
const LEA: u8 = 0x8d;
const OPENINGS: [u8; 5] = [CALL, JMP, JCC, XBEGIN, LEA];

/// See [`BranchTargets::build_around`].
pub(super) fn build(module: &ModuleCode<'_>, addresses: &[u64]) -> Option<BranchTargets> {
    let sections = module.sections;
    let low = sections.iter().map(|s| s.address).min()?;
    let high = sections.iter().map(|s| s.range().end).max()?;
    // Where any word may be an address, there is no telling what leads where but by decoding.
    if module.fixed_address || high - low >= 1 << 31 {
        return None;
    }
    let mut sweep = Sweep::new(module);
    let windows = windows(&sweep.found, addresses);
    let mut decoded: Vec<Vec<Range<u64>>> = vec![Vec::new(); sections.len()];
    for window in &windows {
        for (section, parts) in sections.iter().zip(&mut decoded) {
            let Some(around) = stretches(&sweep.found, section, window) else {
                continue;
            };
            match parts.last_mut() {
                Some(last) if around.start <= last.end => last.end = last.end.max(around.end),
                _ => parts.push(around),
            }
        }
    }
    let all: u64 = sections.iter().map(|s| s.bytes.len() as u64).sum();
    let part: u64 = decoded.iter().flatten().map(|r| r.end - r.start).sum();
    if part > all / 4 {
        return None;
    }
    sweep.found.known = Some(windows);
    for (index, parts) in decoded.iter().enumerate() {
        let start = sections.get(index).map(|section| section.address);
        for part in parts {
            let before = match Some(part.start) == start {
                true => Before::Nothing,
                false => Before::Code,
            };
            sweep.starts(part);
            sweep.decode(index, part.clone(), before);
        }
    }
    let enter = |sweep: &mut Sweep<'_>, addresses: &[u64], how| {
        for &address in addresses {
            if sweep.found.covers(address) {
                sweep.found.enter(address, how);
            }
        }
    };
    enter(&mut sweep, module.landing_pads, Entry::Indirect);
    enter(&mut sweep, module.code_pointers, Entry::Pointer);
    let mut search = Search {
        sweep,
        calls: Vec::new(),
    };
    let mut parts_of_code = Vec::new();
    for (section, parts) in sections.iter().zip(&decoded) {
        let mut from = section.address;
        let mut add = |range, is_decoded| {
            parts_of_code.extend(pieces(section, range).map(|piece| (piece, is_decoded)));
        };
        for part in parts {
            add(from..part.start, false);
            add(part.clone(), true);
            from = part.end;
        }
        add(from..section.range().end, false);
    }
    search.look_through(&parts_of_code);
    search.confirm_calls();
    Some(search.sweep.finish())
}

/// The functions that hold some addresses, with all that overlaps them and what is around, in rising order.
fn windows(found: &BranchTargets, addresses: &[u64]) -> Vec<Range<u64>> {
    let mut windows: Vec<Range<u64>> = Vec::new();
    let functions = &found.functions;
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    for address in addresses {
        let behind = functions.partition_point(|facts| facts.range.start <= address);
        let holds = |n: &usize| {
            let facts = functions.get(*n);
            facts.is_some_and(|facts| facts.range.contains(&address))
        };
        let Some(index) = behind.checked_sub(1).filter(holds) else {
            continue;
        };
        let continues = |n: usize| functions.get(n).is_some_and(|facts| facts.continues);
        let first = (1..=index).rev().find(|&n| !continues(n)).unwrap_or(0);
        let mut last = index;
        while continues(last + 1) {
            last += 1;
        }
        let (Some(first), Some(last)) = (functions.get(first), functions.get(last)) else {
            continue;
        };
        let section = found
            .section_index(address)
            .and_then(|n| found.sections.get(n));
        let Some(section) = section else {
            continue;
        };
        let start = first.range.start.saturating_sub(AROUND);
        let end = last.range.end.saturating_add(AROUND);
        let window = start.max(section.range.start)..end.min(section.range.end);
        match windows.last_mut() {
            Some(before) if window.start <= before.end => before.end = before.end.max(window.end),
            _ => windows.push(window),
        }
    }
    windows
}

/// Where to decode so that all short branches from a section to a window are met: from one start of a function to another.
fn stretches(
    found: &BranchTargets,
    section: &CodeSection<'_>,
    window: &Range<u64>,
) -> Option<Range<u64>> {
    let functions = &found.functions;
    let (start, end) = (section.address, section.range().end);
    let low = window.start.saturating_sub(SHORT_REACH).max(start);
    let high = window.end.saturating_add(SHORT_REACH).min(end);
    if low >= high {
        return None;
    }
    let from = functions.partition_point(|facts| facts.range.start <= low);
    let from = from.checked_sub(1).and_then(|n| functions.get(n));
    let to = functions.partition_point(|facts| facts.range.start < high);
    let from = from.map_or(start, |facts| facts.range.start.max(start));
    let to = functions
        .get(to)
        .map_or(end, |facts| facts.range.start.min(end));
    Some(from..to)
}

impl Sweep<'_> {
    /// Notes the starts of functions in a range.
    fn starts(&mut self, range: &Range<u64>) {
        let first = self
            .found
            .functions
            .partition_point(|facts| facts.range.start < range.start);
        let mut index = first;
        while let Some(start) = self
            .found
            .functions
            .get(index)
            .map(|facts| facts.range.start)
            .filter(|start| *start < range.end)
        {
            self.found.enter(start, Entry::Start);
            index += 1;
        }
    }
}

/// The search through what is not decoded.
struct Search<'a> {
    sweep: Sweep<'a>,
    /// What looks like calls: where they stand and what they call.
    calls: Vec<(u64, u64)>,
}

/// Part of a section: between two offsets.
type Piece<'s, 'a> = (&'s CodeSection<'a>, Range<usize>);

/// Divides a range of a section among threads.
fn pieces<'s, 'a>(
    section: &'s CodeSection<'a>,
    range: Range<u64>,
) -> impl Iterator<Item = Piece<'s, 'a>> {
    let from = range.start.saturating_sub(section.address) as usize;
    let to = (range.end.saturating_sub(section.address) as usize).min(section.bytes.len());
    (from..to)
        .step_by(PIECE)
        .map(move |at| (section, at..to.min(at + PIECE)))
}

/// What may be a branch, or a `lea`.
struct Suspect {
    /// Behind it.
    next: u64,
    target: u64,
    how: Entry,
}

/// What bytes that may open a branch or a `lea` come to, in a part of a section.
#[derive(Default)]
struct Suspicion {
    /// Branches, and `lea`, that lead to what is to be known.
    suspects: Vec<Suspect>,
    /// All that `lea` may take the address of, ascending.
    taken: Vec<u64>,
}

/// Calls a function with the offset of each byte that opens a near branch or a `lea`.
fn each_opening(code: &[u8], mut opening: impl FnMut(usize)) {
    let (lanes, rest) = code.as_chunks::<16>();
    for (n, lane) in lanes.iter().enumerate() {
        let mut opens = OPENINGS
            .iter()
            .fold(0, |mask, &byte| mask | equal_bytes(lane, byte));
        while opens != 0 {
            opening(n * 16 + opens.trailing_zeros() as usize);
            opens &= opens - 1;
        }
    }
    for (n, byte) in rest.iter().enumerate() {
        if OPENINGS.contains(byte) {
            opening(lanes.len() * 16 + n);
        }
    }
}

/// A bit for each of sixteen bytes that equals another byte, the first in the lowest place.
fn equal_bytes(lane: &[u8; 16], byte: u8) -> u32 {
    let word = u128::from_le_bytes(*lane);
    // SAFETY: the three need SSE2, which every x86-64 processor has, and touch no memory.
    unsafe {
        let lane = _mm_set_epi64x((word >> 64) as i64, word as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(lane, _mm_set1_epi8(byte as i8))) as u32
    }
}

/// Searches a part of a section; for branches only where it is not decoded.
fn search((section, range): &Piece<'_, '_>, found: &BranchTargets, is_decoded: bool) -> Suspicion {
    let known = found.known.as_deref().unwrap_or_default();
    let (Some(low), Some(high)) = (known.first(), known.last()) else {
        return Suspicion::default();
    };
    let span = low.start..high.end;
    let mut suspicion = Suspicion::default();
    let part = section.bytes.get(range.clone()).unwrap_or_default();
    each_opening(part, |at| {
        let at = range.start + at;
        let byte = |n: usize| section.bytes.get(at + n).copied().unwrap_or(0);
        let (how, len) = match (byte(0), byte(1)) {
            // Nothing but code that runs into it may be mistaken for a call's target.
            (CALL, _) => (Entry::Start, 1),
            (JMP, _) => (Entry::Jump, 1),
            (JCC, 0x80..=0x8f) | (XBEGIN, 0xf8) => (Entry::Jump, 2),
            (LEA, modrm) if modrm & 0xc7 == 0x05 => (Entry::Pointer, 2),
            _ => return,
        };
        let Some((next, target)) = displaced(section, at + len) else {
            return;
        };
        if how == Entry::Pointer {
            suspicion.taken.push(target);
        }
        if !is_decoded && span.contains(&target) && found.covers(target) {
            suspicion.suspects.push(Suspect { next, target, how });
        }
    });
    suspicion.taken.sort_unstable();
    suspicion.taken.dedup();
    suspicion
}

/// Where an entry of a table of offsets leads.
fn table_entry(read: &ReadData<'_>, base: u64, n: u64) -> Option<u64> {
    let mut word = [0; 4];
    let at = base.checked_add(n * 4)?;
    let offset = read(at, &mut word).then(|| i32::from_le_bytes(word))?;
    Some(base.wrapping_add(i64::from(offset) as u64))
}

/// The address behind the displacement at an offset, and where that leads.
fn displaced(section: &CodeSection<'_>, at: usize) -> Option<(u64, u64)> {
    let word = section.bytes.get(at..)?.first_chunk::<4>()?;
    let next = section.address.wrapping_add(at as u64 + 4);
    let offset = i64::from(i32::from_le_bytes(*word));
    Some((next, next.wrapping_add(offset as u64)))
}

impl Search<'_> {
    /// Looks through parts of the code, each with whether it is decoded.
    fn look_through(&mut self, pieces: &[(Piece<'_, '_>, bool)]) {
        let found = &self.sweep.found;
        let suspicions: Vec<Suspicion> = pieces
            .par_iter()
            .map(|(piece, is_decoded)| search(piece, found, *is_decoded))
            .collect();
        let mut taken = Vec::new();
        for suspicion in suspicions {
            self.branches(suspicion.suspects);
            taken.extend(suspicion.taken);
        }
        taken.sort_unstable();
        taken.dedup();
        self.tables(&taken);
    }

    /// Notes what may be branches.
    fn branches(&mut self, suspects: Vec<Suspect>) {
        let found = &mut self.sweep.found;
        for Suspect { next, target, how } in suspects {
            found.enter(target, how);
            match how {
                Entry::Start => self.calls.push((next - 5, target)),
                Entry::Jump => found.crossing.push((target, None)),
                _ => {}
            }
        }
    }

    /// Looks at whatever the code may take the address of as at a table of offsets.
    fn tables(&mut self, taken: &[u64]) {
        let (found, read) = (&self.sweep.found, self.sweep.module.read_data);
        let leads_to_code = |&base: &u64| {
            let first = table_entry(read, base, 0);
            first.is_some_and(|target| found.section_index(target).is_some())
        };
        let bases = taken.par_iter().copied().filter(leads_to_code);
        let bases: Vec<u64> = bases.collect();
        for base in bases {
            self.table(base);
        }
    }

    /// Reads a table of offsets, as long as they lead to code.
    fn table(&mut self, base: u64) {
        let read = self.sweep.module.read_data;
        for target in (0..MAX_TABLE).map_while(|n| table_entry(read, base, n)) {
            let found = &mut self.sweep.found;
            if found.covers(target) {
                found.enter(target, Entry::Indirect);
                if let Ok(index) = found
                    .functions
                    .binary_search_by_key(&target, |facts| facts.range.start)
                    && let Some(facts) = found.functions.get_mut(index)
                {
                    facts.loops_to_start = true;
                }
            } else if found.section_index(target).is_none() {
                break;
            }
        }
    }

    /// Makes sure of calls: that they are called tells functions from pieces of others.
    fn confirm_calls(&mut self) {
        let mut calls = std::mem::take(&mut self.calls);
        calls.sort_unstable_by_key(|&(_, target)| target);
        for calls in calls.chunk_by(|a, b| a.1 == b.1) {
            let confirmed = calls
                .iter()
                .take(CALLERS)
                .any(|&(at, target)| self.is_call(at, target));
            if let (true, Some((_, target))) = (confirmed, calls.first()) {
                self.sweep.found.enter(*target, Entry::Call);
            }
        }
    }

    /// Whether the function around an address, when decoded, has a call there.
    fn is_call(&self, at: u64, target: u64) -> bool {
        let Some(range) = self.sweep.found.function_of(at) else {
            return false;
        };
        let mut sections = self.sweep.module.sections.iter();
        let Some(code) = sections.find_map(|section| section.slice(range.clone())) else {
            return false;
        };
        Decoder::with_ip(64, code, range.start, DecoderOptions::NONE)
            .iter()
            .take_while(|instruction| instruction.ip() <= at)
            .last()
            .is_some_and(|call| {
                call.ip() == at && call.is_call_near() && direct_target(&call) == Some(target)
            })
    }
}
