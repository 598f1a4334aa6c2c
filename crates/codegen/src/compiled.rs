//! A compiled program: code with relocations, constants, the arena's layout and initial content.

use crate::arch::x86_64::{clobber, stub};
use crate::builder::{Context, HandlerId};
use crate::error::LinkError;
use crate::layout::{self, ArenaLayout};
use crate::limits::Limits;
use crate::link::{
    EntryForm, ProcessCode, ProcessLink, Registers, RuntimeClobbers, generate, place, reachable,
};
use crate::lower::FRAME_TABLE;
use crate::state::{Symbol, Unit};
use crate::storage::{Class, Shape, Storage};
use crate::tracer::{TracerCode, TracerHandler};
use runtime::arena::Arena;
use runtime::layout::{Header, MAGIC, Site, Slot, StrRef};
use script::ast::Literal;
use script::ir::{Global, GlobalId};
use script::span::Span;
use std::collections::{BTreeSet, HashSet};
use std::mem::offset_of;
use std::sync::Arc;

/// What a location number of an Error record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocationInfo {
    /// The token that messages name.
    pub span: Span,
}

/// A handler's code and what it touches.
#[derive(Clone, Debug)]
pub(crate) struct Handler {
    pub context: Context,
    pub unit: usize,
    /// It only adds these constants to these words of the slot.
    pub counters: Option<Vec<(u64, i64)>>,
    /// The handler of the function's entry that it depends on.
    pub companion: Option<HandlerId>,
    pub uses: Vec<GlobalId>,
}

/// A compiled program.
#[derive(Debug)]
pub struct Compiled {
    pub(crate) layout: ArenaLayout,
    pub(crate) limits: Limits,
    pub(crate) locations: Vec<LocationInfo>,
    pub(crate) units: Vec<Arc<Unit>>,
    pub(crate) handlers: Vec<Handler>,
    pub(crate) constants: Vec<u8>,
    pub(crate) sites: Vec<Site>,
    pub(crate) globals: Vec<Global>,
    pub(crate) storages: Vec<Storage>,
    pub(crate) saved_values: u64,
}

/// Room for an entry stub, most of it for vector registers that are kept.
const STUB_SIZE: u64 = 1536;
/// Room for the parts that stubs share.
const SHARED_STUBS: u64 = 2048;

impl Compiled {
    /// The handler that is to run at a function's entry for a return handler that uses values of the entry.
    pub fn companion(&self, handler: HandlerId) -> Option<HandlerId> {
        self.handlers.get(handler.0 as usize)?.companion
    }

    /// Bytes of the largest record of values saved at an entry; 0 when none are.
    pub fn saved_values(&self) -> u64 {
        self.saved_values
    }

    /// Where things stand.
    pub fn layout(&self) -> &ArenaLayout {
        &self.layout
    }

    /// The handlers and functions in Cranelift's notation, for which [`Limits::keep_text`] asks.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (number, unit) in self.units.iter().enumerate() {
            let handler = self.handlers.iter().position(|h| h.unit == number);
            let what = handler.map_or("function".to_string(), |n| format!("handler {n}"));
            out.push_str(&format!("; unit {number}: {what}\n{}\n", unit.text));
        }
        out
    }

    /// The limits that it was compiled for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The place with that number; `None` for 0 (unknown) and numbers out of range.
    pub fn location(&self, number: u32) -> Option<&LocationInfo> {
        self.locations.get(number.checked_sub(1)? as usize)
    }

    /// Fills a new (zeroed) arena: header, slots' numbers, constants, sites, globals with their initial values.
    /// `target_pid` is what `target()` gives.
    pub fn create_arena(&self, arena: &mut [u8], target_pid: i64) -> Result<(), LinkError> {
        self.update_arena(arena)?;
        let l = &self.layout;
        let mut word =
            |offset: usize, value: u64| write(arena, offset as u64, &value.to_le_bytes());
        word(offset_of!(Header, magic), MAGIC);
        word(offset_of!(Header, size), l.size);
        word(offset_of!(Header, slots), l.slots);
        word(offset_of!(Header, slot_size), l.slot_size);
        word(offset_of!(Header, target_pid), target_pid as u64);
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |t| t.as_nanos() as u64);
        word(offset_of!(Header, random), seed | 1);
        let mut half =
            |offset: usize, value: u64| write(arena, offset as u64, &(value as u32).to_le_bytes());
        half(offset_of!(Header, processes), l.processes);
        half(
            offset_of!(Header, process_count),
            u64::from(l.process_count),
        );
        half(offset_of!(Header, sites), l.sites);
        half(offset_of!(Header, slot_count), u64::from(l.slot_count));
        half(offset_of!(Header, string_stack), l.string_stack);
        half(offset_of!(Header, string_stack_size), l.string_stack_size);
        half(offset_of!(Header, native_stack), l.native_stack);
        half(offset_of!(Header, native_stack_size), l.native_stack_size);
        half(offset_of!(Header, ring), l.ring);
        half(offset_of!(Header, ring_size), l.ring_size);
        half(offset_of!(Header, shards), l.shards);
        half(offset_of!(Header, iteration), l.iteration);
        half(offset_of!(Header, iteration_size), l.iteration_size);
        half(offset_of!(Header, tokenize), l.tokenize);
        half(offset_of!(Header, last_match), l.last_match);
        half(
            offset_of!(Header, tracer_pid),
            u64::from(std::process::id()),
        );
        half(
            offset_of!(Header, max_string),
            u64::from(self.limits.max_string),
        );
        half(
            offset_of!(Header, max_action),
            u64::from(self.limits.max_action),
        );
        half(
            offset_of!(Header, max_errors),
            u64::from(self.limits.max_errors),
        );
        half(
            offset_of!(Header, max_backtrace),
            u64::from(self.limits.max_backtrace),
        );
        half(offset_of!(Header, slots_used), 1);
        let pid = u64::from(std::process::id());
        for offset in [offset_of!(Slot, pid), offset_of!(Slot, tid)] {
            half(l.slot(0) as usize + offset, pid);
        }
        half(l.slot(0) as usize + offset_of!(Slot, generation), 1);
        self.create_globals(arena)
    }

    fn create_globals(&self, arena: &mut [u8]) -> Result<(), LinkError> {
        for (global, storage) in self.globals.iter().zip(&self.storages) {
            match (&storage.shape, &global.init) {
                (Shape::Scalar(_), Some(Literal::Number(n))) => {
                    write(arena, storage.at, &n.to_le_bytes())
                }
                (Shape::Scalar(_), Some(Literal::String(bytes))) => {
                    let len = bytes.len().min(self.limits.max_string as usize - 1);
                    write(arena, storage.at, &(len as u32).to_le_bytes());
                    write(
                        arena,
                        storage.at + size_of::<runtime::layout::StrBuf>() as u64,
                        &bytes[..len],
                    );
                }
                (Shape::Map { keys, .. }, _) => {
                    let kinds = layout::key_kinds(keys);
                    let size = arena.len() as u64;
                    // SAFETY: the slice is mapped for as long as the value is used, which is until the end of this arm.
                    let view = unsafe { Arena::with_size(arena.as_mut_ptr(), size) };
                    let mut made =
                        layout::map_spec(global, &kinds, storage.stat_shape, &self.limits)
                            .is_some_and(|spec| runtime::map::create(view, storage.at, &spec));
                    if storage.class == Class::Sharded {
                        made &=
                            layout::shard_spec(global, &kinds, storage.stat_shape, &self.limits)
                                .is_some_and(|spec| {
                                    runtime::shard::create(
                                        view,
                                        storage.shard,
                                        storage.cells,
                                        &spec,
                                    )
                                });
                    }
                    if !made {
                        return Err(LinkError::Global(global.name.clone()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Brings an arena made by an earlier [`Compiled`] of the same builder up to date: constants and sites added
    /// since. Nothing that handlers already use is changed.
    pub fn update_arena(&self, arena: &mut [u8]) -> Result<(), LinkError> {
        if (arena.len() as u64) < self.layout.size {
            return Err(LinkError::ArenaTooSmall {
                have: arena.len() as u64,
                need: self.layout.size,
            });
        }
        self.write_added(arena, 0, 0);
        Ok(())
    }

    /// As [`Compiled::update_arena`], from the state that `earlier` left the arena in: only what was added is written,
    /// so that handlers may run meanwhile.
    pub fn extend_arena(&self, arena: &mut [u8], earlier: &Compiled) {
        self.write_added(arena, earlier.constants.len(), earlier.sites.len());
    }

    fn write_added(&self, arena: &mut [u8], constants: usize, sites: usize) {
        let added = self.constants.get(constants..).unwrap_or_default();
        write(arena, self.layout.constants + constants as u64, added);
        for (index, site) in self.sites.iter().enumerate().skip(sites) {
            let mut bytes = Vec::with_capacity(size_of::<Site>());
            for StrRef { offset, len } in [
                site.pp,
                site.pn,
                site.function,
                site.module,
                site.mark,
                site.provider,
                site.kind,
            ] {
                bytes.extend(offset.to_le_bytes());
                bytes.extend(len.to_le_bytes());
            }
            write(
                arena,
                self.layout.sites + (index * size_of::<Site>()) as u64,
                &bytes,
            );
        }
        let count = (self.sites.len() as u32).to_le_bytes();
        write(arena, offset_of!(Header, site_count) as u64, &count);
    }

    /// The handlers of the tracer, whose code is made when they first run. `arena` is where it is mapped (writable, of the
    /// layout's size) and has to stay so while the result is used.
    ///
    /// # Safety
    /// `arena` must point to a mapping of `layout().size` bytes filled by [`Compiled::create_arena`] that outlives
    /// the result.
    pub unsafe fn link_tracer(&self, arena: *mut u8) -> Result<TracerCode, LinkError> {
        // SAFETY: the caller's promise.
        let view = unsafe { Arena::with_size(arena, self.layout.size) };
        let handlers = self
            .handlers
            .iter()
            .map(|h| TracerHandler {
                unit: h.context.in_tracer().then_some(h.unit),
                address: None,
                context: h.context,
                uses: h.uses.clone(),
            })
            .collect();
        Ok(TracerCode::new(
            view,
            self.units.clone(),
            handlers,
            self.layout.clone(),
            self.globals.clone(),
            self.storages.clone(),
            self.limits.clone(),
        ))
    }

    /// Whether the handler runs in processes.
    pub fn is_in_process(&self, handler: HandlerId) -> bool {
        let handler = self.handlers.get(handler.0 as usize);
        handler.is_some_and(|h| h.context == Context::Process)
    }

    /// Whether any handler calls one of these functions of the run time.
    pub fn calls_any(&self, functions: &[&str]) -> bool {
        let mut symbols = self.units.iter().flat_map(|u| &u.symbols);
        symbols.any(|s| matches!(s, Symbol::Runtime(name) if functions.contains(name)))
    }

    /// Whether any handler needs [`STACK_TABLES`].
    pub fn needs_stack_tables(&self) -> bool {
        let mut symbols = self.units.iter().flat_map(|u| &u.symbols);
        symbols.any(|s| *s == Symbol::StackTables)
    }

    /// Bytes that [`Compiled::link_process`] gives at most, to reserve memory in the process beforehand.
    pub fn process_code_size(&self) -> u64 {
        self.handlers_code_size(&|_| true)
    }

    /// Bytes that [`Compiled::link_handlers`] gives at most.
    pub fn handlers_code_size(&self, wanted: &dyn Fn(HandlerId) -> bool) -> u64 {
        let chosen = self.chosen(wanted);
        let needed = self.needed(&chosen);
        generate(&self.units, &needed, None);
        let units: u64 = needed
            .into_iter()
            .filter_map(|index| self.units.get(index)?.code().ok())
            .map(|code| (code.bytes.len() as u64).next_multiple_of(16))
            .sum();
        (units + SHARED_STUBS + chosen.len() as u64 * STUB_SIZE).next_multiple_of(4096)
    }

    /// The code of all process handlers for one process.
    pub fn link_process<C: RuntimeClobbers>(
        &self,
        link: &ProcessLink<'_, C>,
    ) -> Result<ProcessCode, LinkError> {
        self.link_handlers(link, &|_| true)
    }

    /// The code of some process handlers for one process, which may have others already: script functions that they
    /// call are there once more.
    pub fn link_handlers<C: RuntimeClobbers>(
        &self,
        link: &ProcessLink<'_, C>,
        wanted: &dyn Fn(HandlerId) -> bool,
    ) -> Result<ProcessCode, LinkError> {
        let called = self.chosen(wanted);
        let needed = self.needed(&called);
        generate(&self.units, &needed, None);
        let (mut bytes, addresses) = place(&self.units, &needed, link.code, link.symbol)?;
        bytes.resize(bytes.len().next_multiple_of(16), 0xcc);
        let function =
            |name: &str| (link.symbol)(name).ok_or_else(|| LinkError::MissingSymbol(name.into()));
        let functions = stub::Functions {
            slot_acquire: function("slot_acquire")?,
            signals_learn: function("signals_learn")?,
        };
        let entries: Vec<_> = called
            .iter()
            .map(|(_, h)| match &h.counters {
                Some(counters) => stub::Entry::Counters(counters),
                None => stub::Entry::Body {
                    address: addresses[&h.unit],
                    switch: self.leaves_stack(h.unit).then(|| {
                        let (_, changed) = self.effects(h.unit, &link.runtime_clobbers);
                        changed.vector
                    }),
                },
            })
            .collect();
        let stack_end = self.layout.native_stack + self.layout.native_stack_size;
        let stubs = stub::assemble(
            link,
            stack_end,
            link.code + bytes.len() as u64,
            &functions,
            &entries,
        )?;
        let mut forms = vec![None; self.handlers.len()];
        for ((index, handler), &address) in called.iter().zip(&stubs.entries) {
            forms[*index] = Some(match &handler.counters {
                Some(_) => EntryForm::Leaf {
                    address,
                    clobbers: stub::COUNTER_CLOBBERS,
                },
                None => {
                    let (reads, mut clobbers) = self.effects(handler.unit, &link.runtime_clobbers);
                    if self.leaves_stack(handler.unit) {
                        // Kept on that stack: the program's may be short.
                        clobbers.vector = 0;
                    }
                    EntryForm::Call {
                        address,
                        reads,
                        clobbers: clobbers.union(stub::STUB_CLOBBERS),
                    }
                }
            });
        }
        let room = SHARED_STUBS + called.len() as u64 * STUB_SIZE;
        if stubs.code.len() as u64 > room {
            return Err(LinkError::Code(format!(
                "entry stubs take {} bytes of {room}",
                stubs.code.len()
            )));
        }
        bytes.extend_from_slice(&stubs.code);
        let mut stub_addresses = vec![None; self.handlers.len()];
        for ((index, _), &address) in called.iter().zip(&stubs.entries) {
            stub_addresses[*index] = Some(address);
        }
        Ok(ProcessCode {
            bytes,
            entries: forms,
            stubs: stub_addresses,
        })
    }

    /// Whether a handler runs on its slot's stack.
    fn leaves_stack(&self, unit: usize) -> bool {
        let unit = self.units.get(unit);
        unit.is_some_and(|unit| unit.calls || unit.stack)
    }

    /// The process handlers among the wanted ones.
    fn chosen(&self, wanted: &dyn Fn(HandlerId) -> bool) -> Vec<(usize, &Handler)> {
        self.handlers
            .iter()
            .enumerate()
            .filter(|(i, h)| h.context == Context::Process && wanted(HandlerId(*i as u32)))
            .collect()
    }

    /// The units of these handlers, but of those that only count, and of all that they call.
    fn needed(&self, handlers: &[(usize, &Handler)]) -> BTreeSet<usize> {
        let bodies = handlers.iter().filter(|(_, h)| h.counters.is_none());
        reachable(&self.units, bodies.map(|(_, h)| h.unit))
    }

    /// What a unit, with all that it calls, reads of the frame and changes.
    fn effects(&self, unit: usize, runtime: &impl RuntimeClobbers) -> (Registers, Registers) {
        let (mut reads, mut changes) = (Registers::default(), Registers::default());
        let mut seen = HashSet::new();
        let mut rest = vec![unit];
        while let Some(index) = rest.pop() {
            let Some(unit) = self.units.get(index).filter(|_| seen.insert(index)) else {
                continue;
            };
            reads.general |= unit.reads;
            reads.vector |= unit.reads_vectors;
            changes.general |= unit.writes;
            let Ok(code) = unit.code() else {
                continue;
            };
            changes = changes.union(clobber::written(&code.bytes));
            for relocation in &code.relocations {
                match relocation.symbol {
                    Symbol::Unit(other) => rest.push(other),
                    Symbol::Runtime(FRAME_TABLE) => {}
                    Symbol::Runtime(name) => changes = changes.union(runtime.of(name)),
                    Symbol::StackTables => {}
                }
            }
        }
        (reads, changes)
    }
}

/// Writes bytes at an offset; what does not fit is left out (the size was checked before).
fn write(arena: &mut [u8], offset: u64, bytes: &[u8]) {
    if let Some(target) = usize::try_from(offset)
        .ok()
        .and_then(|o| arena.get_mut(o..o.checked_add(bytes.len())?))
    {
        target.copy_from_slice(bytes);
    }
}
