//! The control flow of one function: where it calls, loops and leaves.
//!
//! Code is decoded along its branches, from the entry and from every place of the function that [`BranchTargets`] knows
//! to be entered otherwise (tables of a `switch`, landing pads, labels whose address is taken). What the unwind
//! table says of the stack tells a tail call from a jump inside a split function, and a return from a `ret` that only
//! jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpKind, Register,
};

use super::BranchTargets;
use super::jump_table::{self, Origin};
use super::relocate::{direct_target, ends_run, is_near_call};
use crate::analysis::{CodeSection, ReadData};

/// How far before an exit its patch may begin.
const PATCH_REACH: u64 = 20;

/// The stack at one instruction, as the unwind table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackRow {
    /// Register (as x86 encodes it) and offset of the canonical frame address: the address above the return address.
    pub frame_address: Option<(u8, i64)>,
    /// The return address stands right below it.
    pub returns_ordinarily: bool,
}

/// What is known of a function before its code is looked at. All addresses are of the kind that the
/// [`BranchTargets`] were built from.
pub struct FunctionCode<'a> {
    /// Its first instruction.
    pub entry: u64,
    /// Its code: from the entry on, and the parts that a compiler put elsewhere (`.cold`).
    pub ranges: Vec<Range<u64>>,
    /// The sections that hold code.
    pub sections: &'a [CodeSection<'a>],
    /// Where the module's control flow enters.
    pub targets: &'a BranchTargets,
    /// The stack at an address; `None` where no unwind table says.
    pub stack_at: &'a dyn Fn(u64) -> Option<StackRow>,
    /// What symbols say of the code that starts at an address.
    pub named: &'a dyn Fn(u64) -> Named,
    /// Reads the module's data, for jump tables.
    pub read_data: &'a ReadData<'a>,
}

/// What symbols say of a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It is a function.
    Function,
    /// It is the rarely executed part of one, which a compiler put elsewhere.
    Part,
    /// Nothing.
    Unknown,
}

/// How a function is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitKind {
    /// By `ret`.
    Return,
    /// By a jump to another function, which returns on behalf of this one; its address if it is known.
    TailCall(Option<u64>),
}

/// A place where a function is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The instruction.
    pub address: u64,
    /// How.
    pub kind: ExitKind,
    /// Instructions before it from which control always comes to it, the nearest first: where a patch may begin that
    /// has no room at the exit itself.
    pub before: Vec<u64>,
}

/// A loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Its first instruction, through which it is entered.
    pub head: u64,
    /// The jumps that lead back to the head.
    pub back_edges: Vec<u64>,
}

/// Why a function's exits can't be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProvable {
    /// No code is known at the address.
    #[error("no function is known at {0:#x}")]
    NotCode(u64),
    /// What is decoded there is no instruction.
    #[error("undecodable instruction at {0:#x}")]
    Undecodable(u64),
    /// An indirect jump that may stay in the function or leave it.
    #[error("the indirect jump at {0:#x} may lead anywhere")]
    IndirectJump(u64),
    /// A conditional jump to another function.
    #[error("the conditional jump at {0:#x} leaves the function")]
    ConditionalTailCall(u64),
    /// A jump with a frame on the stack into code that is not known to be part of the function.
    #[error("the jump at {0:#x} leads into another function's middle")]
    JumpsOut(u64),
    /// A `ret` that does not return from the function.
    #[error("the ret at {0:#x} does not find the return address on top of the stack")]
    UnbalancedReturn(u64),
    /// Control runs into what follows the function.
    #[error("control runs off the function's end at {0:#x}")]
    RunsOff(u64),
}

/// The control flow of one function.
#[derive(Clone, Debug)]
pub struct ControlFlow {
    /// Where it is left, ascending; or why that is not known. What else is here is then what was found.
    pub exits: Result<Vec<Exit>, NotProvable>,
    /// Its calls, ascending.
    pub call_sites: Vec<u64>,
    /// Its basic blocks, ascending.
    pub blocks: Vec<Range<u64>>,
    /// Its loops, by ascending head.
    pub loops: Vec<Loop>,
    /// An instruction that reads or changes its own return address where it stands on the stack, other than by returning:
    /// such a function (`setjmp`, `vfork`, `dlsym`) must find the real one there.
    pub return_address_use: Option<u64>,
    /// Where direct jumps lead that leave it, as far as they were found, ascending.
    pub jumps_to: Vec<u64>,
    /// At the entry the return address is on top of the stack: the unwind table has it so, or, where there is none, the
    /// function returns with the stack as it was.
    pub entered_by_call: bool,
    /// All exits are known, and at each the stack is, as counted from the entry, as it was there.
    pub is_balanced: bool,
}

impl ControlFlow {
    /// The same for a process in which the module is loaded at `bias` above the addresses it was found at.
    #[must_use]
    pub fn rebase(mut self, bias: u64) -> Self {
        let up = |address: &mut u64| *address = address.wrapping_add(bias);
        if let Err(reason) = &mut self.exits {
            let (NotProvable::NotCode(at)
            | NotProvable::Undecodable(at)
            | NotProvable::IndirectJump(at)
            | NotProvable::ConditionalTailCall(at)
            | NotProvable::JumpsOut(at)
            | NotProvable::UnbalancedReturn(at)
            | NotProvable::RunsOff(at)) = reason;
            up(at);
        }
        for exit in self.exits.iter_mut().flatten() {
            up(&mut exit.address);
            exit.before.iter_mut().for_each(up);
            if let ExitKind::TailCall(Some(target)) = &mut exit.kind {
                up(target);
            }
        }
        self.call_sites.iter_mut().for_each(up);
        for block in &mut self.blocks {
            up(&mut block.start);
            up(&mut block.end);
        }
        for one in &mut self.loops {
            up(&mut one.head);
            one.back_edges.iter_mut().for_each(up);
        }
        self.return_address_use.iter_mut().for_each(up);
        self.jumps_to.iter_mut().for_each(up);
        self
    }
}

/// Follows the code of a function.
pub fn control_flow(function: &FunctionCode<'_>) -> ControlFlow {
    let mut walk = Walk {
        function,
        ranges: function.ranges.clone(),
        seen: BTreeMap::new(),
        leaders: BTreeSet::new(),
        pending: Vec::new(),
        exits: Vec::new(),
        call_sites: Vec::new(),
        jumps_to: BTreeSet::new(),
        not_provable: None,
        is_counted: true,
        return_address_use: None,
        factory: InstructionInfoFactory::new(),
        has_labels: Vec::new(),
        has_table: Vec::new(),
    };
    walk.run();
    walk.finish()
}

/// An instruction that was met.
#[derive(Clone, Copy, Debug)]
struct Seen {
    end: u64,
    /// Where a direct jump leads, inside the function.
    branch: Option<u64>,
    /// Control goes on behind it.
    falls_through: bool,
}

struct Walk<'a, 'f> {
    function: &'f FunctionCode<'a>,
    ranges: Vec<Range<u64>>,
    seen: BTreeMap<u64, Seen>,
    /// Where basic blocks begin.
    leaders: BTreeSet<u64>,
    /// Where to go on, with the height of the stack above the return address as counted on the way there.
    pending: Vec<(u64, Option<i64>)>,
    exits: Vec<(u64, ExitKind)>,
    call_sites: Vec<u64>,
    jumps_to: BTreeSet<u64>,
    not_provable: Option<NotProvable>,
    /// At every exit so far the height of the stack was known.
    is_counted: bool,
    return_address_use: Option<u64>,
    factory: InstructionInfoFactory,
    /// What [`Walk::has_labels`] and [`Walk::has_table`] found in each of the first ranges: a function may have hundreds of
    /// indirect jumps.
    has_labels: Vec<bool>,
    has_table: Vec<bool>,
}

impl Walk<'_, '_> {
    fn run(&mut self) {
        let entry = self.function.entry;
        if !self.is_inside(entry) {
            self.fail(NotProvable::NotCode(entry));
            return;
        }
        if let Err(jump) = self.function.targets.is_provable(entry) {
            self.fail(NotProvable::IndirectJump(jump));
        }
        self.pending.push((entry, Some(0)));
        self.leaders.insert(entry);
        self.follow();
        let mut entered = 0;
        // Ranges may be added on the way.
        while let Some(range) = self.ranges.get(entered).cloned() {
            entered += 1;
            self.enter_range(range);
            self.follow();
        }
    }

    /// Goes on at every place of a range that is entered by other ways than those that are followed.
    fn enter_range(&mut self, range: Range<u64>) {
        let targets = self.function.targets;
        for address in range {
            if targets.is_entered(address) && targets.is_boundary(address) {
                self.leaders.insert(address);
                if !self.seen.contains_key(&address) {
                    self.pending.push((address, None));
                }
            }
        }
    }

    fn follow(&mut self) {
        while let Some((address, height)) = self.pending.pop() {
            self.run_from(address, height);
        }
    }

    fn fail(&mut self, reason: NotProvable) {
        self.not_provable.get_or_insert(reason);
    }

    fn is_inside(&self, address: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// Decodes straight on from an address.
    fn run_from(&mut self, start: u64, mut height: Option<i64>) {
        let sections = self.function.sections;
        let Some(bytes) = sections.iter().find_map(|section| section.from(start)) else {
            self.fail(NotProvable::NotCode(start));
            return;
        };
        let mut decoder = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut after_call = false;
        loop {
            let address = instruction_address(&decoder, start);
            if self.seen.contains_key(&address) {
                return;
            }
            if !self.is_inside(address) {
                // Behind a call that never returns anything may stand.
                if !after_call {
                    self.fail(NotProvable::RunsOff(address));
                }
                return;
            }
            if !decoder.can_decode() {
                self.fail(NotProvable::RunsOff(address));
                return;
            }
            decoder.decode_out(&mut instruction);
            if instruction.code() == Code::INVALID {
                // What stands behind a call that never returns need not be code.
                if !after_call {
                    self.fail(NotProvable::Undecodable(address));
                }
                return;
            }
            if let Some(known) = self.height(address) {
                height = Some(known);
            }
            self.check_return_address(&instruction, height);
            after_call = is_near_call(&instruction);
            let falls_through = !ends_run(&instruction);
            let branch = self.leave(&instruction, height);
            self.seen.insert(
                address,
                Seen {
                    end: instruction.next_ip(),
                    branch,
                    falls_through,
                },
            );
            height = self.height_behind(&instruction, height);
            if let Some(target) = branch {
                self.leaders.insert(target);
                self.pending.push((target, height));
            }
            if !falls_through {
                return;
            }
            if branch.is_some() {
                self.leaders.insert(instruction.next_ip());
            }
        }
    }

    /// Notes what a call, jump or return does; where a direct jump leads inside the function.
    fn leave(&mut self, instruction: &Instruction, height: Option<i64>) -> Option<u64> {
        let address = instruction.ip();
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                if is_near_call(instruction) {
                    self.call_sites.push(address);
                }
                None
            }
            FlowControl::Return => {
                self.is_counted &= height == Some(0);
                match height {
                    Some(0) | None if is_near_return(instruction) => {
                        self.exits.push((address, ExitKind::Return));
                    }
                    _ => self.fail(NotProvable::UnbalancedReturn(address)),
                }
                None
            }
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let target = direct_target(instruction)?;
                let is_conditional = instruction.flow_control() == FlowControl::ConditionalBranch;
                if target == self.function.entry && height == Some(0) {
                    self.jumps_to.insert(target);
                    // It calls itself in place of a return.
                    if is_conditional {
                        self.fail(NotProvable::ConditionalTailCall(address));
                    } else {
                        self.exits.push((address, ExitKind::TailCall(Some(target))));
                    }
                    return Some(target);
                }
                if self.is_inside(target) || self.adopt(target, height) {
                    return Some(target);
                }
                self.jumps_to.insert(target);
                match height {
                    Some(0) if is_conditional => {
                        self.fail(NotProvable::ConditionalTailCall(address));
                    }
                    Some(0) => self.exits.push((address, ExitKind::TailCall(Some(target)))),
                    _ => self.fail(NotProvable::JumpsOut(address)),
                }
                None
            }
            FlowControl::IndirectBranch => {
                self.indirect_jump(instruction, height);
                None
            }
            _ => None,
        }
    }

    /// Decides whether the code at `target`, outside of what is known of the function, is a part of it that was cut off: it
    /// has no name, nobody calls it or takes its address, and nothing but this one jump leads to it, or the jump is made
    /// with a frame on the stack.
    fn adopt(&mut self, target: u64, height: Option<i64>) -> bool {
        let targets = self.function.targets;
        let Some(range) = targets.function_of(target) else {
            return false;
        };
        match (self.function.named)(range.start) {
            Named::Function => return false,
            Named::Part => {
                self.ranges.push(range);
                return true;
            }
            Named::Unknown if targets.is_called_or_pointed_to(range.start) => return false,
            Named::Unknown => {}
        }
        let framed = matches!(height, Some(height) if height != 0);
        if !framed && (range.start != target || targets.is_jumped_to_often(range.start)) {
            return false;
        }
        self.ranges.push(range);
        true
    }

    fn indirect_jump(&mut self, instruction: &Instruction, height: Option<i64>) {
        let address = instruction.ip();
        if matches!(height, Some(height) if height != 0) {
            // Inside a frame there are no tail calls; where it may lead is entered anyway.
            return;
        }
        let inside = |target: u64| self.ranges.iter().any(|range| range.contains(&target));
        let origin = jump_table::origin(
            self.function.sections,
            self.function.read_data,
            self.function.targets,
            self.block_start(address),
            instruction,
            &inside,
        );
        let leaves = match origin {
            Origin::Table => return,
            Origin::Pointer => !self.has_labels(),
            Origin::Unknown => !self.has_labels() && !self.has_table(),
        };
        if leaves && height == Some(0) {
            self.exits.push((address, ExitKind::TailCall(None)));
        } else {
            self.fail(NotProvable::IndirectJump(address));
        }
    }

    /// Where the straight-line code that leads to `address` begins, as far as it is known.
    fn block_start(&self, address: u64) -> u64 {
        let mut start = address;
        while start != self.function.entry && !self.function.targets.is_entered(start) {
            match self.seen.range(..start).next_back() {
                Some((&before, seen)) if seen.end == start && seen.falls_through => start = before,
                _ => break,
            }
        }
        start
    }

    /// Whether the function takes the address of places inside itself, or anybody does.
    fn has_labels(&mut self) -> bool {
        let targets = self.function.targets;
        for range in self.ranges.iter().skip(self.has_labels.len()) {
            let mut places = range.start + 1..range.end;
            let has = places.any(|address| targets.is_pointed_to(address));
            self.has_labels.push(has);
        }
        self.has_labels.contains(&true)
    }

    /// Whether anything in the function looks like the use of a table of code addresses.
    fn has_table(&mut self) -> bool {
        let sections = self.function.sections;
        for range in self.ranges.iter().skip(self.has_table.len()) {
            let mut sections = sections.iter();
            let code = sections.find_map(|section| section.slice(range.clone()));
            let has = code.is_none_or(|code| jump_table::is_used_in(code, range.start));
            self.has_table.push(has);
        }
        self.has_table.contains(&true)
    }

    /// Bytes between the top of the stack and the return address, by the unwind table.
    fn height(&self, address: u64) -> Option<i64> {
        match (self.function.stack_at)(address)?.frame_address? {
            (4, offset) => Some(offset - 8),
            // A frame pointer is in use, and there are at least its own eight bytes.
            _ => Some(i64::MAX),
        }
    }

    fn height_behind(&mut self, instruction: &Instruction, height: Option<i64>) -> Option<i64> {
        let height = height?;
        if height == i64::MAX {
            return None;
        }
        if is_near_call(instruction) {
            return Some(height);
        }
        let constant = || match instruction.op1_kind() {
            OpKind::Immediate8to64 => Some(instruction.immediate8to64()),
            OpKind::Immediate32to64 => Some(instruction.immediate32to64()),
            _ => None,
        };
        let changes = self
            .factory
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| {
                used.register().full_register() == Register::RSP
                    && !matches!(
                        used.access(),
                        iced_x86::OpAccess::Read | iced_x86::OpAccess::CondRead
                    )
            });
        if !changes {
            return Some(height);
        }
        match instruction.mnemonic() {
            Mnemonic::Push | Mnemonic::Pop | Mnemonic::Pushfq | Mnemonic::Popfq
                if instruction.op0_kind() != OpKind::Register
                    || instruction.op0_register() != Register::RSP =>
            {
                Some(height - i64::from(instruction.stack_pointer_increment()))
            }
            Mnemonic::Sub if instruction.op0_register() == Register::RSP => {
                constant().map(|n| height + n)
            }
            Mnemonic::Add if instruction.op0_register() == Register::RSP => {
                constant().map(|n| height - n)
            }
            _ => None,
        }
    }

    /// Notes an instruction that touches the slot of the return address.
    fn check_return_address(&mut self, instruction: &Instruction, height: Option<i64>) {
        if self.return_address_use.is_some() {
            return;
        }
        let pops = matches!(instruction.mnemonic(), Mnemonic::Pop | Mnemonic::Popfq);
        let row = (self.function.stack_at)(instruction.ip()).and_then(|row| row.frame_address);
        // `lock or [rsp], 0` is a barrier.
        let is_barrier = instruction.mnemonic() == Mnemonic::Or
            && instruction.has_lock_prefix()
            && instruction.try_immediate(1).is_ok_and(|n| n == 0);
        if is_barrier {
            return;
        }
        let reads = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory)
            && instruction.memory_index() == Register::None
            && {
                let displacement = instruction.memory_displacement64() as i64;
                match (row, instruction.memory_base()) {
                    (Some((register, offset)), base) => {
                        base.is_gpr64()
                            && base.number() == usize::from(register)
                            && displacement == offset - 8
                    }
                    (None, Register::RSP) => height == Some(displacement),
                    _ => false,
                }
            };
        if reads || (pops && height == Some(0)) {
            self.return_address_use = Some(instruction.ip());
        }
    }

    fn finish(mut self) -> ControlFlow {
        let blocks = self.blocks();
        let mut exits: Vec<Exit> = std::mem::take(&mut self.exits)
            .into_iter()
            .map(|(address, kind)| Exit {
                address,
                kind,
                before: self.before(address),
            })
            .collect();
        exits.sort_by_key(|exit| exit.address);
        self.call_sites.sort_unstable();
        let row = (self.function.stack_at)(self.function.entry);
        let is_balanced = self.not_provable.is_none() && self.is_counted;
        let returns = exits.iter().any(|exit| exit.kind == ExitKind::Return);
        ControlFlow {
            exits: match self.not_provable {
                Some(reason) => Err(reason),
                None => Ok(exits),
            },
            loops: self.loops(&blocks),
            call_sites: self.call_sites,
            blocks,
            return_address_use: self.return_address_use,
            jumps_to: self.jumps_to.into_iter().collect(),
            entered_by_call: match row {
                Some(row) => row.frame_address == Some((4, 8)) && row.returns_ordinarily,
                None => is_balanced && returns,
            },
            is_balanced,
        }
    }

    /// The instructions right before `address` from which nothing but `address` can follow.
    fn before(&self, address: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = address;
        while let Some((&before, seen)) = self.seen.range(..at).next_back()
            && seen.end == at
            && seen.falls_through
            && seen.branch.is_none()
            && address - before <= PATCH_REACH
            && !self.leaders.contains(&at)
        {
            found.push(before);
            at = before;
        }
        found
    }

    fn blocks(&self) -> Vec<Range<u64>> {
        let mut blocks: Vec<Range<u64>> = Vec::new();
        let mut ended = true;
        for (&address, seen) in &self.seen {
            match blocks.last_mut() {
                Some(block)
                    if !ended && block.end == address && !self.leaders.contains(&address) =>
                {
                    block.end = seen.end;
                }
                _ => blocks.push(address..seen.end),
            }
            ended = !seen.falls_through || seen.branch.is_some();
        }
        blocks
    }

    /// Jumps that lead back to where the search, depth first from the entry, comes from.
    fn loops(&self, blocks: &[Range<u64>]) -> Vec<Loop> {
        let starts: BTreeMap<u64, usize> = blocks
            .iter()
            .enumerate()
            .map(|(n, b)| (b.start, n))
            .collect();
        let successors = |n: usize| -> Vec<(u64, usize)> {
            let Some((&last, seen)) = blocks
                .get(n)
                .and_then(|block| self.seen.range(..block.end).next_back())
            else {
                return Vec::new();
            };
            let next = seen.falls_through.then_some(seen.end);
            let to = next.into_iter().chain(seen.branch);
            to.filter_map(|to| Some((last, *starts.get(&to)?)))
                .collect()
        };
        let mut found: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        // 0: not met, 1: on the way, 2: done.
        let mut state = vec![0u8; blocks.len()];
        let roots = starts.get(&self.function.entry).copied();
        for root in roots.into_iter().chain(0..blocks.len()) {
            if state.get(root) != Some(&0) {
                continue;
            }
            let mut path = vec![(root, successors(root))];
            state[root] = 1;
            while let Some((node, rest)) = path.last_mut() {
                let Some((jump, next)) = rest.pop() else {
                    state[*node] = 2;
                    path.pop();
                    continue;
                };
                match state[next] {
                    0 => {
                        state[next] = 1;
                        path.push((next, successors(next)));
                    }
                    1 => {
                        found.entry(blocks[next].start).or_default().insert(jump);
                    }
                    _ => {}
                }
            }
        }
        found
            .into_iter()
            .map(|(head, back)| Loop {
                head,
                back_edges: back.into_iter().collect(),
            })
            .collect()
    }
}

/// The address of the instruction that is decoded next.
fn instruction_address(decoder: &Decoder<'_>, start: u64) -> u64 {
    start + decoder.position() as u64
}

/// `ret` and `ret n` with 64-bit operands; `bnd` and `rep` in front change nothing.
fn is_near_return(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Retnq | Code::Retnq_imm16)
}
