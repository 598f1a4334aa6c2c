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

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use super::indirect::{IndirectFunction, constant};
use super::relocate::{direct_target, ends_run, is_near_call};
use crate::analysis::{CodeSection, ModuleCode};

/// Longest table that is read, in entries.
const MAX_TABLE: u64 = 1 << 16;

/// A set of addresses within a section.
#[derive(Clone, Debug, Default)]
struct AddressSet(Vec<u64>);

impl AddressSet {
    fn with_room(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Adds an offset; whether it was there before.
    fn insert(&mut self, offset: usize) -> bool {
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
struct Section {
    range: Range<u64>,
    /// Places that may be entered.
    entered: AddressSet,
    /// Places that may be entered from more than one place.
    entered_again: AddressSet,
    /// Targets of direct calls.
    called: AddressSet,
    /// Targets of jumps and of tables.
    jumped: AddressSet,
    /// Targets of more than one jump.
    jumped_again: AddressSet,
    /// Places whose address code or data makes.
    pointed: AddressSet,
    /// Where instructions start.
    boundaries: AddressSet,
}

/// What is known of one function.
#[derive(Clone, Debug)]
struct FunctionFacts {
    range: Range<u64>,
    /// It was cut out of the one before it.
    continues: bool,
    /// An indirect jump whose targets are not known.
    unknown_jump: Option<u64>,
    /// The function jumps to its own start.
    loops_to_start: bool,
    /// Control does not run into the function from the code before it.
    entered_cleanly: bool,
    /// It starts with `endbr64`, as a function that may be called through a pointer does.
    marked: bool,
}

/// Every place of a module that control may come to other than from the instruction before it.
#[derive(Clone, Debug, Default)]
pub struct BranchTargets {
    sections: Vec<Section>,
    functions: Vec<FunctionFacts>,
    /// Padding that is never executed, at least five bytes each, in rising order.
    dead: Vec<Range<u64>>,
}

impl BranchTargets {
    /// Decodes the module's code once, function by function, and collects its branch targets.
    ///
    /// Code between the given functions is decoded too. Data in between may yield targets that are none; that can
    /// only make later decisions more careful.
    pub fn build(module: &ModuleCode<'_>) -> Self {
        Sweep::new(module).run()
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
        self.locate(address)
            .is_some_and(|(section, offset)| section.entered.contains(offset))
    }

    /// Whether anything in the module calls `address`, or takes the address.
    pub(super) fn is_called_or_pointed_to(&self, address: u64) -> bool {
        self.locate(address).is_some_and(|(section, offset)| {
            section.called.contains(offset) || section.pointed.contains(offset)
        })
    }

    /// Whether code or data has the address of the instruction at `address`.
    pub(super) fn is_pointed_to(&self, address: u64) -> bool {
        self.locate(address)
            .is_some_and(|(section, offset)| section.pointed.contains(offset))
    }

    /// Whether more than one jump leads to `address`.
    pub(super) fn is_jumped_to_often(&self, address: u64) -> bool {
        self.locate(address)
            .is_some_and(|(section, offset)| section.jumped_again.contains(offset))
    }

    /// Whether control may enter at `address` from more than one place.
    pub(super) fn is_entered_again(&self, address: u64) -> bool {
        self.locate(address)
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

    fn facts(&self, address: u64) -> Option<&FunctionFacts> {
        let behind = self
            .functions
            .partition_point(|facts| facts.range.start <= address);
        let facts = self.functions.get(behind.checked_sub(1)?)?;
        facts.range.contains(&address).then_some(facts)
    }

    fn section_index(&self, address: u64) -> Option<usize> {
        self.sections
            .iter()
            .position(|section| section.range.contains(&address))
    }

    fn locate(&self, address: u64) -> Option<(&Section, usize)> {
        let section = self.sections.get(self.section_index(address)?)?;
        Some((section, (address - section.range.start) as usize))
    }

    /// Notes that control may enter at `address`.
    fn enter(&mut self, address: u64, how: Entry) {
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
            Entry::Jump => section.jumped.insert(offset) && section.jumped_again.insert(offset),
            Entry::Pointer => section.pointed.insert(offset),
            Entry::Start => false,
        };
    }
}

/// How a place is entered.
#[derive(Clone, Copy)]
enum Entry {
    Call,
    Jump,
    Pointer,
    /// It is where a function starts: it may be called from other modules.
    Start,
}

/// The work of [`BranchTargets::build`].
struct Sweep<'a> {
    module: &'a ModuleCode<'a>,
    found: BranchTargets,
    /// Indices of functions that have an indirect jump.
    indirect: Vec<usize>,
}

impl<'a> Sweep<'a> {
    fn new(module: &'a ModuleCode<'a>) -> Self {
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
                .map(|section| {
                    let len = section.bytes.len();
                    Section {
                        range: section.range(),
                        entered: AddressSet::with_room(len),
                        entered_again: AddressSet::with_room(len),
                        called: AddressSet::with_room(len),
                        jumped: AddressSet::with_room(len),
                        jumped_again: AddressSet::with_room(len),
                        pointed: AddressSet::with_room(len),
                        boundaries: AddressSet::with_room(len),
                    }
                })
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
        };
        Self {
            module,
            found,
            indirect: Vec::new(),
        }
    }

    fn run(mut self) -> BranchTargets {
        for index in 0..self.found.functions.len() {
            if let Some(facts) = self.found.functions.get(index) {
                self.found.enter(facts.range.start, Entry::Start);
            }
        }
        for &address in self.module.landing_pads {
            self.found.enter(address, Entry::Jump);
        }
        for &address in self.module.code_pointers {
            self.found.enter(address, Entry::Pointer);
        }
        for index in 0..self.module.sections.len() {
            self.section(index);
        }
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

    /// Decodes one section.
    fn section(&mut self, index: usize) {
        let Some(&section) = self.module.sections.get(index) else {
            return;
        };
        let range = section.range();
        let mut next_function = self
            .found
            .functions
            .partition_point(|facts| facts.range.start < range.start);
        let mut address = range.start;
        let mut before = Before::Nothing;
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
            if !self.found.is_boundary(target) || (at >= limit && !inside) {
                break;
            }
            any = true;
            if target == function.range.start
                && let Some(facts) = self.found.functions.get_mut(function.index)
            {
                facts.loops_to_start = true;
            }
            self.found.enter(target, Entry::Jump);
        }
        any
    }
}

/// What control comes from when it reaches a boundary in a straight line.
#[derive(Clone, Copy)]
enum Before {
    /// Nothing is there.
    Nothing,
    /// An instruction that never goes on, perhaps with padding behind it.
    Stop,
    /// A call, which may never return.
    Call,
    /// Ordinary code.
    Code,
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "a module with one function"
)]
mod tests {
    use iced_x86::code_asm::*;
    use iced_x86::{Code, Instruction, MemoryOperand, Register};

    use super::*;

    const TEXT: u64 = 0x1000;
    const TABLE: u64 = 0x8000;

    struct Module {
        code: Vec<u8>,
        functions: Vec<Range<u64>>,
        table: Vec<u8>,
        pointers: Vec<u64>,
        pads: Vec<u64>,
        fixed: bool,
    }

    impl Module {
        fn new(write: impl FnOnce(&mut CodeAssembler)) -> Self {
            let mut a = CodeAssembler::new(64).unwrap();
            write(&mut a);
            let code = a.assemble(TEXT).unwrap();
            Self {
                functions: vec![TEXT..TEXT + code.len() as u64],
                code,
                table: Vec::new(),
                pointers: Vec::new(),
                pads: Vec::new(),
                fixed: false,
            }
        }

        fn targets(&self) -> BranchTargets {
            BranchTargets::build(&ModuleCode {
                sections: &[CodeSection {
                    address: TEXT,
                    bytes: &self.code,
                }],
                functions: &self.functions,
                landing_pads: &self.pads,
                code_pointers: &self.pointers,
                read_data: &|address, out| {
                    let found = address
                        .checked_sub(TABLE)
                        .and_then(|at| self.table.get(at as usize..at as usize + out.len()));
                    found.inspect(|found| out.copy_from_slice(found)).is_some()
                },
                fixed_address: self.fixed,
            })
        }
    }

    fn lea(a: &mut CodeAssembler, register: Register, target: u64) {
        let operand = MemoryOperand::with_base_displ(Register::RIP, target as i64);
        a.add_instruction(Instruction::with2(Code::Lea_r64_m, register, operand).unwrap())
            .unwrap();
    }

    /// What GCC makes of a switch in position-independent code: 18 bytes, then the cases.
    fn switch(a: &mut CodeAssembler) {
        lea(a, Register::RDX, TABLE); // 7 bytes
        a.movsxd(rax, dword_ptr(rdx + rax * 4)).unwrap(); // 4
        a.add(rax, rdx).unwrap(); // 3
        a.db(&[0x3e]).unwrap(); // notrack
        a.jmp(rax).unwrap(); // 2
        a.nop().unwrap(); // 0x1011
        a.nop().unwrap(); // 0x1012
        a.nop().unwrap(); // 0x1013
        a.ret().unwrap();
    }

    #[test]
    fn a_table_of_offsets_says_where_a_switch_goes() {
        let mut module = Module::new(switch);
        for case in [0x1013u64, 0x1011, 0x5_0000] {
            module
                .table
                .extend_from_slice(&(case.wrapping_sub(TABLE) as i32).to_le_bytes());
        }
        let targets = module.targets();
        assert_eq!(targets.is_provable(TEXT), Ok(()));
        assert_eq!(targets.entered_inside(TEXT..0x1014), Some(0x1011));
        assert_eq!(targets.entered_inside(0x1011..0x1014), Some(0x1013));
        assert_eq!(targets.entered_inside(0x1011..0x1013), None);
    }

    #[test]
    fn a_computed_jump_without_table_is_not_provable() {
        let module = Module::new(switch);
        assert_eq!(module.targets().is_provable(TEXT + 3), Err(0x100e));
        assert_eq!(module.targets().unprovable().count(), 1);
    }

    #[test]
    fn a_jump_to_a_loaded_pointer_is_a_tail_call() {
        let module = Module::new(|a| {
            a.push(rbx).unwrap();
            a.mov(rax, qword_ptr(rdi + 16)).unwrap();
            a.mov(rcx, rax).unwrap();
            a.pop(rbx).unwrap();
            a.jmp(rcx).unwrap();
        });
        assert_eq!(module.targets().is_provable(TEXT), Ok(()));
        assert_eq!(module.targets().entered_inside(TEXT..TEXT + 10), None);
    }

    #[test]
    fn an_absolute_table_in_a_fixed_program_is_read() {
        let mut module = Module::new(|a| {
            a.jmp(qword_ptr(TABLE + rax * 8)).unwrap(); // 7 bytes
            a.nop().unwrap();
            a.nop().unwrap();
            a.ret().unwrap();
        });
        module.fixed = true;
        module.table.extend_from_slice(&0x1008u64.to_le_bytes());
        module.table.extend_from_slice(&0x1009u64.to_le_bytes());
        module.table.extend_from_slice(&[0; 8]);
        let targets = module.targets();
        assert_eq!(targets.entered_inside(TEXT..0x100a), Some(0x1008));
        assert_eq!(targets.entered_inside(0x1008..0x100a), Some(0x1009));
    }

    #[test]
    fn pointers_pads_and_addresses_made_by_code_are_targets() {
        let mut module = Module::new(|a| {
            lea(a, Register::RAX, TEXT + 9);
            for _ in 0..12 {
                a.nop().unwrap();
            }
            a.ret().unwrap();
        });
        module.pointers = vec![TEXT + 11, 0xdead_0000];
        module.pads = vec![TEXT + 13];
        let targets = module.targets();
        let mut found = Vec::new();
        let mut from = TEXT;
        while let Some(next) = targets.entered_inside(from..TEXT + 0x100) {
            found.push(next - TEXT);
            from = next;
        }
        assert_eq!(found, [9, 11, 13]);
    }

    #[test]
    fn entries_are_told_from_cold_parts_and_loops() {
        // 0x1000: call 0x1010; jne 0x1018; ret   0x1010: dec ecx; jne 0x1010; ret   0x1018: ret
        let mut module = Module::new(|a| {
            a.call(0x1010).unwrap();
            a.jne(0x1018).unwrap();
            a.ret().unwrap();
        });
        module.code.resize(0x10, 0xcc);
        module
            .code
            .extend_from_slice(&[0xff, 0xc9, 0x75, 0xfc, 0xc3]);
        module.code.resize(0x18, 0x00);
        module.code.push(0xc3);
        module.functions = vec![0x1000..0x1008, 0x1010..0x1015, 0x1018..0x1019];
        let targets = module.targets();
        assert!(targets.is_function_entry(0x1000));
        assert!(!targets.is_function_entry(0x1010), "it loops to its start");
        assert!(!targets.is_function_entry(0x1018), "it is only jumped to");
        assert!(!targets.is_function_entry(0x1005));
        assert!(targets.is_dead_padding(&(0x1008..0x1010)));
        assert!(!targets.is_dead_padding(&(0x1007..0x1010)));
        assert_eq!(targets.function_of(0x1012), Some(0x1010..0x1015));
        assert_eq!(targets.function_of(0x1009), None);
        assert!(targets.is_boundary(0x1012) && !targets.is_boundary(0x1011));
    }

    #[test]
    fn padding_counts_only_behind_what_never_goes_on() {
        // xor eax, eax runs on into the nops.
        let mut module = Module::new(|a| a.xor(eax, eax).unwrap());
        module.code.extend_from_slice(&[0x90; 14]);
        module.functions = vec![0x1000..0x1002];
        assert!(!module.targets().is_dead_padding(&(0x1002..0x1010)));
    }

    #[test]
    fn functions_that_begin_with_nops_are_not_padding() {
        // ret; then a function of eight nops and ret, known by its symbol, or only by a pointer to it.
        let code = [&[0xc3][..], &[0x90; 8], &[0xc3]].concat();
        for (second, pointers) in [(Some(0x1001..0x100a), vec![]), (None, vec![0x1001])] {
            let mut module = Module::new(|a| a.ret().unwrap());
            module.code = code.clone();
            module.functions = std::iter::once(0x1000..0x1001).chain(second).collect();
            module.pointers = pointers;
            let targets = module.targets();
            assert_eq!(targets.dead_padding(0x1000..0x1010).next(), None);
            assert!(!targets.is_dead_padding(&(0x1002..0x1007)));
        }
    }

    #[test]
    fn overlapping_functions_share_what_is_not_known() {
        let mut module = Module::new(switch);
        module.functions = vec![TEXT..TEXT + 0x15, TEXT + 0x11..TEXT + 0x12];
        let targets = module.targets();
        assert_eq!(targets.is_provable(TEXT + 0x13), Err(0x100e));
        assert_eq!(targets.function_of(TEXT + 0x13), Some(0x1011..0x1015));
    }

    #[test]
    fn rubbish_is_survived() {
        let mut module = Module::new(|a| a.ret().unwrap());
        module.code = (0..4096u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        module.functions = vec![TEXT..TEXT + 9, 0..u64::MAX, TEXT + 5..TEXT + 5000, 9..9];
        module.targets();
    }
}
