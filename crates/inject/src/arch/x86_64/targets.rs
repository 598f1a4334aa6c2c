//! Where control may enter a module's code.
//!
//! A place in the middle of a function can be entered in these ways, all of which are collected: direct branches and
//! calls; exception landing pads; addresses in data; addresses that the code itself makes (`lea` relative to
//! rip, constants in a program with fixed addresses); tables of offsets relative to a base (a compiler's `switch`);
//! returns, which go behind calls.
//!
//! An indirect jump to an address that was *loaded* as a whole can only go to one of those addresses. An indirect jump
//! to an address that was *computed* goes wherever its table says; if no table is found, the function is not provable.

use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction};

use super::relocate::direct_target;
use super::sweep::Sweep;
use super::vicinity;
use crate::analysis::{CodeSection, ModuleCode};

/// A set of addresses within a section.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressSet(Vec<u64>);

impl AddressSet {
    pub(super) fn with_room(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Adds an offset; whether it was there before.
    pub(super) fn insert(&mut self, offset: usize) -> bool {
        let Some(word) = self.0.get_mut(offset / 64) else {
            return false;
        };
        let bit = 1 << (offset % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    fn contains(&self, offset: usize) -> bool {
        self.0
            .get(offset / 64)
            .is_some_and(|word| word & (1 << (offset % 64)) != 0)
    }
}

/// What is known of one executable section.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) range: Range<u64>,
    /// Places that may be entered.
    entered: AddressSet,
    /// Places that may be entered from more than one place.
    entered_again: AddressSet,
    /// Targets of direct calls.
    called: AddressSet,
    /// Targets of jumps, of tables and of exceptions.
    jumped: AddressSet,
    /// Those that something else than a jump by address leads to.
    indirectly: AddressSet,
    /// Targets of more than one jump.
    jumped_again: AddressSet,
    /// Places whose address code or data makes.
    pointed: AddressSet,
    /// Where instructions start.
    pub(super) boundaries: AddressSet,
}

impl Section {
    /// Nothing is known of it.
    pub(super) fn new(range: Range<u64>, len: usize) -> Self {
        Self {
            range,
            entered: AddressSet::with_room(len),
            entered_again: AddressSet::with_room(len),
            called: AddressSet::with_room(len),
            jumped: AddressSet::with_room(len),
            indirectly: AddressSet::with_room(len),
            jumped_again: AddressSet::with_room(len),
            pointed: AddressSet::with_room(len),
            boundaries: AddressSet::with_room(len),
        }
    }
}

/// What is known of one function.
#[derive(Clone, Debug)]
pub(super) struct FunctionFacts {
    pub(super) range: Range<u64>,
    /// It was cut out of the one before it.
    pub(super) continues: bool,
    /// An indirect jump whose targets are not known.
    pub(super) unknown_jump: Option<u64>,
    /// The function jumps to its own start.
    pub(super) loops_to_start: bool,
    /// Control does not run into the function from the code before it.
    pub(super) entered_cleanly: bool,
    /// It starts with `endbr64`, as a function that may be called through a pointer does.
    pub(super) marked: bool,
}

/// Every place of a module that control may come to other than from the instruction before it.
#[derive(Clone, Debug, Default)]
pub struct BranchTargets {
    pub(super) sections: Vec<Section>,
    pub(super) functions: Vec<FunctionFacts>,
    /// Padding that is never executed, at least four bytes each, in rising order.
    pub(super) dead: Vec<Range<u64>>,
    /// Jumps from one function to another, or what looks like one: target, and the jump if it is surely one, by target.
    pub(super) crossing: Vec<(u64, Option<u64>)>,
    /// Where all of it is known, in rising order; everywhere if there is none.
    pub(super) known: Option<Vec<Range<u64>>>,
}

impl BranchTargets {
    /// Decodes the module's code once, function by function, and collects its branch targets.
    ///
    /// Code between the given functions is decoded too. Data in between may yield targets that are none; that can
    /// only make later decisions more careful.
    pub fn build(module: &ModuleCode<'_>) -> Self {
        Sweep::new(module).run()
    }

    /// The same for the functions that hold some addresses and the code around them only, at a fraction of the cost: the
    /// rest of the module is not decoded, but searched for all that might be a branch to there. Elsewhere, everything is
    /// taken for a place that control may enter and none for an instruction. Of the surroundings, too, some places may be
    /// taken for branch targets that are none.
    ///
    /// `None` where that can't be done or would not be cheaper.
    pub fn build_around(module: &ModuleCode<'_>, addresses: &[u64]) -> Option<Self> {
        vicinity::build(module, addresses)
    }

    /// Whether all that can be known is known of the function that holds `address` and of the code around it.
    pub fn covers(&self, address: u64) -> bool {
        self.is_known(address)
    }

    /// Whether all of the module was looked at.
    pub fn is_complete(&self) -> bool {
        self.known.is_none()
    }

    /// Whether it was looked at where control may enter at `address`.
    fn is_known(&self, address: u64) -> bool {
        let Some(known) = &self.known else {
            return true;
        };
        let behind = known.partition_point(|range| range.start <= address);
        behind
            .checked_sub(1)
            .and_then(|n| known.get(n))
            .is_some_and(|range| range.contains(&address))
    }

    /// The first place strictly inside `range` (after its start) that control may enter by a branch, a call, an exception
    /// or through a pointer. Places that only an unprovable jump may reach are not counted: ask
    /// [`is_provable`](Self::is_provable) as well.
    pub fn entered_inside(&self, range: Range<u64>) -> Option<u64> {
        (range.start.saturating_add(1)..range.end).find(|&address| self.is_entered(address))
    }

    /// Whether all places where control may enter the function that holds `address` are known.
    ///
    /// # Errors
    /// The address of an indirect jump of that function whose targets are not known.
    pub fn is_provable(&self, address: u64) -> Result<(), u64> {
        if !self.is_known(address) {
            return Err(address);
        }
        match self.facts(address).and_then(|facts| facts.unknown_jump) {
            Some(jump) => Err(jump),
            None => Ok(()),
        }
    }

    /// The function (as given to [`build`](Self::build)) that holds `address`.
    pub fn function_of(&self, address: u64) -> Option<Range<u64>> {
        self.facts(address).map(|facts| facts.range.clone())
    }

    /// The functions that are not provable, each with the indirect jump that makes it so.
    pub fn unprovable(&self) -> impl Iterator<Item = (Range<u64>, u64)> + '_ {
        self.functions
            .iter()
            .filter_map(|f| f.unknown_jump.map(|jump| (f.range.clone(), jump)))
    }

    /// Whether `address` is the start of a function that is entered only as the ABI has it, by calls and tail calls, so
    /// that flags and red zone hold nothing there. Not so for the cold part of a split function, or where the
    /// function's own loop leads back to its start.
    pub fn is_function_entry(&self, address: u64) -> bool {
        let (Some(facts), Some((section, offset))) = (self.facts(address), self.locate(address))
        else {
            return false;
        };
        facts.range.start == address
            && self.is_known(address)
            && !facts.loops_to_start
            && facts.entered_cleanly
            && (facts.marked || section.called.contains(offset) || !section.jumped.contains(offset))
    }

    /// Whether an instruction starts at `address`.
    pub fn is_boundary(&self, address: u64) -> bool {
        self.locate(address)
            .is_some_and(|(section, offset)| section.boundaries.contains(offset))
    }

    /// Whether control may enter at `address` itself.
    pub(super) fn is_entered(&self, address: u64) -> bool {
        !self.is_known(address)
            || self
                .locate(address)
                .is_some_and(|(section, offset)| section.entered.contains(offset))
    }

    /// Whether anything in the module calls `address`, or takes the address.
    pub(super) fn is_called_or_pointed_to(&self, address: u64) -> bool {
        !self.is_known(address)
            || self.locate(address).is_some_and(|(section, offset)| {
                section.called.contains(offset) || section.pointed.contains(offset)
            })
    }

    /// Whether control may enter at `address` otherwise than by a jump from the same stretch of code: by a call, through a
    /// pointer or a table, by a jump from another function.
    pub(super) fn is_entered_unseen(&self, address: u64) -> bool {
        let Some((section, offset)) = self.locate(address).filter(|_| self.is_known(address))
        else {
            return true;
        };
        let first = self
            .crossing
            .partition_point(|(target, _)| *target < address);
        let elsewhere = [&section.called, &section.pointed, &section.indirectly];
        elsewhere.iter().any(|set| set.contains(offset))
            || self
                .crossing
                .get(first)
                .is_some_and(|(target, _)| *target == address)
    }

    /// All the branches that lead to `address`, which is not where a function starts; none if anything else may lead there.
    pub(super) fn jumps_to(&self, address: u64, code: CodeSection<'_>) -> Option<Vec<Instruction>> {
        self.is_provable(address).ok()?;
        let (section, offset) = self.locate(address).filter(|_| self.is_known(address))?;
        let elsewhere = [&section.called, &section.pointed, &section.indirectly];
        if elsewhere.iter().any(|set| set.contains(offset)) {
            return None;
        }
        let first = self
            .crossing
            .partition_point(|(target, _)| *target < address);
        let crossing = self.crossing.iter().skip(first);
        let crossing = crossing.take_while(|(target, _)| *target == address);
        let mut found = Vec::new();
        for (_, source) in crossing {
            let source = (*source)?;
            let mut decoder =
                Decoder::with_ip(64, code.from(source)?, source, DecoderOptions::NONE);
            found.push(decoder.decode());
        }
        let next = self
            .functions
            .partition_point(|facts| facts.range.start <= address);
        let start = self.functions.get(next.checked_sub(1)?)?.range.start;
        let end = self
            .functions
            .get(next)
            .map_or(section.range.end, |facts| facts.range.start);
        let stretch = code.slice(start..end.min(section.range.end))?;
        let mut decoder = Decoder::with_ip(64, stretch, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while decoder.can_decode() {
            let position = decoder.position();
            decoder.decode_out(&mut instruction);
            if instruction.code() == Code::INVALID {
                decoder.set_position(position + 1).ok()?;
                decoder.set_ip(start + position as u64 + 1);
            } else if direct_target(&instruction) == Some(address) {
                found.push(instruction);
            }
        }
        let are_branches = found.iter().all(|branch| {
            let is_known = branch.is_jcc_short_or_near()
                || branch.is_jmp_short_or_near()
                || branch.is_jcx_short()
                || branch.is_loop()
                || branch.is_loopcc();
            is_known && direct_target(branch) == Some(address)
        });
        are_branches.then_some(found)
    }

    /// Whether code or data has the address of the instruction at `address`.
    pub(super) fn is_pointed_to(&self, address: u64) -> bool {
        !self.is_known(address)
            || self
                .locate(address)
                .is_some_and(|(section, offset)| section.pointed.contains(offset))
    }

    /// Whether more than one jump leads to `address`.
    pub(super) fn is_jumped_to_often(&self, address: u64) -> bool {
        !self.is_known(address)
            || self
                .locate(address)
                .is_some_and(|(section, offset)| section.jumped_again.contains(offset))
    }

    /// Whether control may enter at `address` from more than one place.
    pub(super) fn is_entered_again(&self, address: u64) -> bool {
        !self.is_known(address)
            || self
                .locate(address)
                .is_some_and(|(section, offset)| section.entered_again.contains(offset))
    }

    /// Whether all of `range` is padding that is never executed.
    pub(super) fn is_dead_padding(&self, range: &Range<u64>) -> bool {
        let before = self.dead.partition_point(|run| run.start <= range.start);
        let inside = before
            .checked_sub(1)
            .and_then(|n| self.dead.get(n))
            .is_some_and(|run| run.end >= range.end);
        inside && self.is_never_entered(range)
    }

    /// Runs of padding that is never executed and that have a byte in `window`, in rising order.
    pub(super) fn dead_padding(&self, window: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.dead.partition_point(|run| run.end <= window.start);
        self.dead
            .iter()
            .skip(first)
            .take_while(move |run| run.start < window.end)
            .cloned()
    }

    /// Whether no byte of `range` can be entered, nor belongs to a function that is not provable.
    pub(super) fn is_never_entered(&self, range: &Range<u64>) -> bool {
        !range.clone().any(|address| self.is_entered(address))
            && self.is_provable(range.start).is_ok()
    }

    pub(super) fn facts(&self, address: u64) -> Option<&FunctionFacts> {
        let behind = self
            .functions
            .partition_point(|facts| facts.range.start <= address);
        let facts = self.functions.get(behind.checked_sub(1)?)?;
        facts.range.contains(&address).then_some(facts)
    }

    pub(super) fn section_index(&self, address: u64) -> Option<usize> {
        self.sections
            .iter()
            .position(|section| section.range.contains(&address))
    }

    fn locate(&self, address: u64) -> Option<(&Section, usize)> {
        let section = self.sections.get(self.section_index(address)?)?;
        Some((section, (address - section.range.start) as usize))
    }

    /// Notes that control may enter at `address`.
    pub(super) fn enter(&mut self, address: u64, how: Entry) {
        let Some(index) = self.section_index(address) else {
            return;
        };
        let Some(section) = self.sections.get_mut(index) else {
            return;
        };
        let offset = (address - section.range.start) as usize;
        if section.entered.insert(offset) {
            section.entered_again.insert(offset);
        }
        match how {
            Entry::Call => section.called.insert(offset),
            Entry::Jump | Entry::Indirect => {
                if how == Entry::Indirect {
                    section.indirectly.insert(offset);
                }
                section.jumped.insert(offset) && section.jumped_again.insert(offset)
            }
            Entry::Pointer => section.pointed.insert(offset),
            Entry::Start => section.indirectly.insert(offset),
        };
    }
}

/// How a place is entered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Call,
    /// By a jump with the address in it.
    Jump,
    /// By a table, or an exception.
    Indirect,
    Pointer,
    /// It is where a function starts: it may be called from other modules.
    Start,
}
