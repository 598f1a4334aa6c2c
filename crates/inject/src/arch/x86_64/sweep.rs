//! Decoding a module's code from function to function, to find where it may be entered.

use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use super::BranchTargets;
use super::indirect::{IndirectFunction, constant};
use super::relocate::{direct_target, ends_run, is_near_call};
use super::targets::{Entry, FunctionFacts, Section};
use crate::analysis::{CodeSection, ModuleCode};

/// Longest table that is read, in entries.
pub(super) const MAX_TABLE: u64 = 1 << 16;

/// The work of [`BranchTargets::build`].
pub(super) struct Sweep<'a> {
    pub(super) module: &'a ModuleCode<'a>,
    pub(super) found: BranchTargets,
    /// Indices of functions that have an indirect jump.
    indirect: Vec<usize>,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(module: &'a ModuleCode<'a>) -> Self {
        let mut functions: Vec<Range<u64>> = module
            .functions
            .iter()
            .filter(|range| range.start < range.end)
            .cloned()
            .collect();
        // Of several that start at one place the longest comes first and stays.
        functions.sort_unstable_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        functions.dedup_by_key(|range| range.start);
        // Where one begins inside another, the outer ends there and the inner takes the rest.
        let mut continues = vec![false; functions.len()];
        for n in 1..functions.len() {
            if let [outer, inner] = &mut functions[n - 1..=n]
                && outer.end > inner.start
            {
                inner.end = inner.end.max(outer.end);
                outer.end = inner.start;
                continues[n] = true;
            }
        }
        let found = BranchTargets {
            sections: module
                .sections
                .iter()
                .map(|section| Section::new(section.range(), section.bytes.len()))
                .collect(),
            functions: functions
                .into_iter()
                .zip(continues)
                .map(|(range, continues)| FunctionFacts {
                    range,
                    continues,
                    unknown_jump: None,
                    loops_to_start: false,
                    entered_cleanly: true,
                    marked: false,
                })
                .collect(),
            dead: Vec::new(),
            crossing: Vec::new(),
            known: None,
        };
        Self {
            module,
            found,
            indirect: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> BranchTargets {
        for index in 0..self.found.functions.len() {
            if let Some(facts) = self.found.functions.get(index) {
                self.found.enter(facts.range.start, Entry::Start);
            }
        }
        for &address in self.module.landing_pads {
            self.found.enter(address, Entry::Indirect);
        }
        for &address in self.module.code_pointers {
            self.found.enter(address, Entry::Pointer);
        }
        for (index, section) in self.module.sections.iter().enumerate() {
            self.decode(index, section.range(), Before::Nothing);
        }
        self.finish()
    }

    /// Looks at what was decoded as a whole.
    pub(super) fn finish(mut self) -> BranchTargets {
        let mut crossing = std::mem::take(&mut self.found.crossing);
        // Those to where functions start are of no interest.
        crossing.retain(|(target, _)| {
            let starts = &self.found.functions;
            starts
                .binary_search_by_key(target, |f| f.range.start)
                .is_err()
        });
        crossing.sort_unstable();
        self.found.crossing = crossing;
        self.indirect_jumps();
        // What is entered is no padding, nor are the nops that follow it.
        let mut dead = std::mem::take(&mut self.found.dead);
        dead.retain_mut(|run| {
            if let Some(entered) = run.clone().find(|&at| self.found.is_entered(at)) {
                run.end = entered;
            }
            run.end - run.start >= 4
        });
        dead.sort_unstable_by_key(|run| run.start);
        self.found.dead = dead;
        self.found
    }

    /// Decodes a part of a section that begins and ends where functions, or the section, do.
    pub(super) fn decode(&mut self, index: usize, range: Range<u64>, mut before: Before) {
        let Some(&section) = self.module.sections.get(index) else {
            return;
        };
        let mut next_function = self
            .found
            .functions
            .partition_point(|facts| facts.range.start < range.start);
        let mut address = range.start;
        while address < range.end {
            let current = self
                .found
                .functions
                .get(next_function)
                .filter(|facts| facts.range.start == address)
                .map(|_| next_function);
            if let Some(current) = current {
                next_function += 1;
                if let Some(facts) = self.found.functions.get_mut(current) {
                    facts.entered_cleanly = !matches!(before, Before::Code);
                }
            }
            let stop = self
                .found
                .functions
                .get(next_function)
                .map_or(range.end, |facts| facts.range.start.min(range.end));
            before = self.stretch(index, section, address..stop, current, before);
            address = stop;
        }
    }

    /// Decodes from one known boundary to the next one.
    fn stretch(
        &mut self,
        section_index: usize,
        section: CodeSection<'_>,
        range: Range<u64>,
        function: Option<usize>,
        mut before: Before,
    ) -> Before {
        let Some(bytes) = section.slice(range.clone()) else {
            return Before::Code;
        };
        let mut dead_from = None;
        // A function may begin with nops; those are not padding.
        if function.is_none()
            && let Before::Stop = before
        {
            dead_from = Some(range.start);
        }
        let mut indirect = false;
        let mut loops = false;
        let mut decoder = Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            let position = decoder.position();
            let address = range.start + position as u64;

            // Zero bytes up to the next function are padding, though they would decode.
            if dead_from.is_some() && bytes.get(position) == Some(&0) {
                let zeros = bytes.iter().skip(position).take_while(|&&b| b == 0).count();
                if position + zeros == bytes.len() {
                    break;
                }
            }
            decoder.decode_out(&mut instruction);
            if instruction.code() == Code::INVALID {
                self.note_dead(dead_from.take(), address);
                before = Before::Code;
                if decoder.set_position(position + 1).is_err() {
                    break;
                }
                decoder.set_ip(address + 1);
                continue;
            }
            if let Some(found) = self.found.sections.get_mut(section_index) {
                found
                    .boundaries
                    .insert((address - section.address) as usize);
            }
            if dead_from.is_some() {
                if matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3) {
                    continue;
                }
                self.note_dead(dead_from.take(), address);
            }
            before = if ends_run(&instruction) {
                dead_from = Some(instruction.next_ip());
                Before::Stop
            } else if is_near_call(&instruction) {
                Before::Call
            } else {
                Before::Code
            };

            if let Some(target) = direct_target(&instruction) {
                let how = if instruction.is_call_near() {
                    Entry::Call
                } else {
                    loops |= target == range.start;
                    if !range.contains(&target) {
                        self.found.crossing.push((target, Some(address)));
                    }
                    Entry::Jump
                };
                self.found.enter(target, how);
                continue;
            }
            match instruction.mnemonic() {
                Mnemonic::Jmp if instruction.flow_control() == FlowControl::IndirectBranch => {
                    indirect |= !instruction.is_ip_rel_memory_operand();
                }
                Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                    self.found
                        .enter(instruction.ip_rel_memory_address(), Entry::Pointer);
                }
                Mnemonic::Mov | Mnemonic::Push if self.module.fixed_address => {
                    if let Some(value) = constant(&instruction) {
                        self.found.enter(value, Entry::Pointer);
                    }
                }
                Mnemonic::Endbr64 if address != range.start => {
                    self.found.enter(address, Entry::Pointer);
                }
                Mnemonic::Endbr64 => {
                    if let Some(facts) = function.and_then(|n| self.found.functions.get_mut(n)) {
                        facts.marked = true;
                    }
                }
                _ => {}
            }
        }
        self.note_dead(dead_from, range.end);
        if let Some(function) = function {
            if let Some(facts) = self.found.functions.get_mut(function) {
                facts.loops_to_start |= loops;
            }
            if indirect {
                self.indirect.push(function);
            }
        }
        before
    }

    fn note_dead(&mut self, from: Option<u64>, to: u64) {
        if let Some(from) = from
            && to.saturating_sub(from) >= 4
        {
            self.found.dead.push(from..to);
        }
    }

    /// Looks at the functions that have indirect jumps: reads their tables, and decides which are provable.
    fn indirect_jumps(&mut self) {
        let functions: Vec<IndirectFunction> = std::mem::take(&mut self.indirect)
            .into_iter()
            .filter_map(|index| {
                let range = self.found.functions.get(index)?.range.clone();
                IndirectFunction::decode(self.module, index, range)
            })
            .collect();
        let mut bases: Vec<u64> = functions.iter().flat_map(|f| f.bases.clone()).collect();
        bases.sort_unstable();
        bases.dedup();
        for function in &functions {
            let mut has_table = false;
            for &base in &function.bases {
                let limit = bases
                    .get(bases.partition_point(|&other| other <= base))
                    .copied()
                    .unwrap_or(u64::MAX);
                has_table |= self.table(function, base, limit);
            }
            let unknown = function.unknown_jump(&self.found, has_table);
            if let Some(facts) = self.found.functions.get_mut(function.index) {
                facts.unknown_jump = unknown;
            }
        }
        // What is not known of one part of a function is not known of the others.
        let facts = &mut self.found.functions;
        for n in 1..facts.len() {
            if facts[n].continues && facts[n].unknown_jump.is_none() {
                facts[n].unknown_jump = facts[n - 1].unknown_jump;
            }
        }
        for n in (1..facts.len()).rev() {
            if facts[n].continues && facts[n - 1].unknown_jump.is_none() {
                facts[n - 1].unknown_jump = facts[n].unknown_jump;
            }
        }
    }

    /// Reads the table at `base`, first as 4-byte offsets from it, else as 8-byte addresses; whether there is one.
    ///
    /// It ends where an entry leads to no instruction, and at `limit`, where another begins, unless an entry beyond leads
    /// into the function itself.
    fn table(&mut self, function: &IndirectFunction, base: u64, limit: u64) -> bool {
        let module = self.module;
        let relative = |n: u64| {
            let mut word = [0; 4];
            let at = base.checked_add(n * 4)?;
            (module.read_data)(at, &mut word).then(|| {
                (
                    at,
                    base.wrapping_add(i64::from(i32::from_le_bytes(word)) as u64),
                )
            })
        };
        let absolute = |n: u64| {
            let mut word = [0; 8];
            let at = base.checked_add(n * 8)?;
            (module.read_data)(at, &mut word).then(|| (at, u64::from_le_bytes(word)))
        };
        self.entries(function, limit, &relative) || self.entries(function, limit, &absolute)
    }

    fn entries(
        &mut self,
        function: &IndirectFunction,
        limit: u64,
        entry: &dyn Fn(u64) -> Option<(u64, u64)>,
    ) -> bool {
        let mut any = false;
        for (at, target) in (0..MAX_TABLE).map_while(entry) {
            let inside = function.range.contains(&target);
            let is_known = self.found.covers(target);
            let leads = match is_known {
                true => self.found.is_boundary(target),
                false => self.found.section_index(target).is_some(),
            };
            if !leads || (at >= limit && !inside) {
                break;
            }
            any |= is_known;
            if target == function.range.start
                && let Some(facts) = self.found.functions.get_mut(function.index)
            {
                facts.loops_to_start = true;
            }
            self.found.enter(target, Entry::Indirect);
        }
        any
    }
}

/// What control comes from when it reaches a boundary in a straight line.
#[derive(Clone, Copy)]
pub(super) enum Before {
    /// Nothing is there.
    Nothing,
    /// An instruction that never goes on, perhaps with padding behind it.
    Stop,
    /// A call, which may never return.
    Call,
    /// Ordinary code.
    Code,
}
