//! Handlers that run in the tracer, and the tracer's view of globals.

use crate::builder::{Context, HandlerId};
use crate::error::LinkError;
use crate::isa::isa;
use crate::layout::{self, ArenaLayout};
use crate::limits::Limits;
use crate::link::{self, STACK_TABLES};
use crate::state::Unit;
use crate::storage::{Class, Shape, Storage};
use cranelift_codegen::settings::OptLevel;
use runtime::arena::{Arena, Geometry};
use runtime::layout::{Header, Slot, StatCell, StatShape};
use runtime::shard;
use runtime::stack::table::Directory;
use script::ir::{Global, GlobalId, Type};
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

/// A number or a string.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// A number.
    Long(i64),
    /// Bytes.
    String(Vec<u8>),
}

/// What a global holds, all threads' parts taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GlobalValue {
    /// A scalar.
    Scalar(Value),
    /// A statistic: its cell and buckets.
    Stat(StatValue),
    /// An array in order of insertion.
    Map(Vec<(Vec<Value>, Element)>),
}

/// A statistic.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StatValue {
    /// `@count` to `@max` and the running parts of the variance.
    pub cell: StatCell,
    /// Buckets of its histogram.
    pub buckets: Vec<u64>,
    /// Its histogram's shape and such.
    pub shape: StatShape,
}

/// An element of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// A number or a string.
    Scalar(Value),
    /// A statistic.
    Stat(StatValue),
}

/// A handler with more functions than this is compiled without optimisation.
const MANY: usize = 100;

/// A handler's address, and the globals that it uses.
#[derive(Debug)]
pub(crate) struct TracerHandler {
    /// What it is made of; none for handlers of processes.
    pub unit: Option<usize>,
    /// Where its code is, once there is any.
    pub address: Option<u64>,
    pub context: Context,
    pub uses: Vec<GlobalId>,
}

/// A directory without modules.
fn empty_directory() -> Box<Directory> {
    // SAFETY: all of it is numbers, for which zero is valid.
    unsafe { Box::new_zeroed().assume_init() }
}

type Body = unsafe extern "C" fn(arena: *mut u8, slot: *mut Slot, frame: *const u64, site: u64);

/// The tracer's handlers, ready to run, and its view of globals. One thread at a time.
#[derive(Debug)]
pub struct TracerCode {
    arena: Arena,
    geometry: Geometry,
    units: Vec<Arc<Unit>>,
    /// Keeps the code mapped, a piece for each handler that has run.
    code: Vec<memmap2::Mmap>,
    /// The tables of the process on whose behalf handlers run; they know its address.
    directory: Box<Directory>,
    handlers: Vec<TracerHandler>,
    globals: Vec<Global>,
    storages: Vec<Storage>,
    limits: Limits,
    /// By global: the sum of threads' words that is contained in the gathered value already.
    seen: Vec<i64>,
    expedited: bool,
}

// SAFETY: the arena's mapping belongs to no thread; one thread at a time uses the value, as it is not `Sync`.
unsafe impl Send for TracerCode {}

impl TracerCode {
    pub(crate) fn new(
        arena: Arena,
        units: Vec<Arc<Unit>>,
        handlers: Vec<TracerHandler>,
        layout: ArenaLayout,
        globals: Vec<Global>,
        storages: Vec<Storage>,
        limits: Limits,
    ) -> Self {
        TracerCode {
            arena,
            geometry: Geometry {
                arena,
                slots: layout.slots,
                slot_size: layout.slot_size,
                slot_count: layout.slot_count,
                ring: layout.ring as u32,
                ring_size: layout.ring_size as u32,
                shards: layout.shards as u32,
            },
            units,
            code: Vec::new(),
            directory: empty_directory(),
            handlers,
            seen: vec![0; globals.len()],
            globals,
            storages,
            limits,
            expedited: false,
        }
    }

    /// Goes on from the state of an earlier linking of the same program, when handlers were added.
    pub fn succeed(&mut self, earlier: &TracerCode) {
        self.seen.clone_from(&earlier.seen);
        self.expedited = earlier.expedited;
    }

    /// Tells whether every probed process has registered for expedited global memory barriers
    /// ([`shard::MEMBARRIER_REGISTER_GLOBAL_EXPEDITED`]), which spares milliseconds when threads' parts are gathered.
    pub fn set_expedited(&mut self, registered: bool) {
        self.expedited = registered;
    }

    /// Where slots are, for draining rings.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The tables by which handlers walk stacks and name addresses: to be filled for the process on whose behalf they run.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Runs a handler on slot 0 with this site number: gathers what threads hold of the globals it uses, takes the
    /// locks, runs it. Prints are in slot 0's ring afterwards, a run-time error too. Handlers of processes are not run.
    ///
    /// # Errors
    /// When the handler runs for the first time: its code could not be made.
    pub fn run(&mut self, handler: HandlerId, site: u32) -> Result<(), LinkError> {
        self.run_with(handler, site, None)
    }

    /// As [`TracerCode::run`] for a handler compiled for [`Context::Sample`], which sees these registers: 16 general ones
    /// as x86 encodes them, rip, rflags. The slot's `pid` and `tid` say whose they are.
    /// `stack` is a copy of what their stack pointer pointed at: its address there, its address here, its bytes.
    pub fn run_sampled(
        &mut self,
        handler: HandlerId,
        site: u32,
        registers: &[u64; 18],
        stack: [u64; 3],
    ) -> Result<(), LinkError> {
        self.directory.snapshot = stack;
        let result = self.run_with(handler, site, Some(registers));
        self.directory.snapshot = [0; 3];
        result
    }

    fn run_with(
        &mut self,
        handler: HandlerId,
        site: u32,
        registers: Option<&[u64; 18]>,
    ) -> Result<(), LinkError> {
        let Some(TracerHandler {
            unit: Some(unit),
            address,
            context,
            uses,
        }) = self.handlers.get(handler.0 as usize)
        else {
            return Ok(());
        };
        if context.has_registers() != registers.is_some() {
            return Ok(());
        }
        let (unit, known, uses) = (*unit, *address, uses.clone());
        let address = match known {
            Some(address) => address,
            None => {
                let address = self.link(unit)?;
                self.handlers[handler.0 as usize].address = Some(address);
                address
            }
        };
        self.gather(&uses);
        let Some(slot) = self.geometry.slot(0) else {
            return Ok(());
        };
        // SAFETY: the address is that of a body compiled for the tracer, in memory that lives as long as `self`; the
        // arena is mapped by the promise given to `link_tracer`, and slot 0 is the tracer's.
        unsafe {
            let body: Body = std::mem::transmute(address as *const ());
            let frame = registers.map_or(std::ptr::null(), |r| r.as_ptr());
            body(self.arena.base(), slot, frame, u64::from(site));
        }
        Ok(())
    }

    /// Makes the code of a unit, with all that it calls, executable: its address.
    fn link(&mut self, unit: usize) -> Result<u64, LinkError> {
        let needed = link::reachable(&self.units, [unit]);
        // Whoever waits for so many gains more by having them soon than by having them fast.
        let plain = (needed.len() > MANY).then(|| isa(OptLevel::None));
        link::generate(&self.units, &needed, plain.as_deref());
        let mut size = 0;
        for index in &needed {
            if let Some(unit) = self.units.get(*index) {
                size += unit.code()?.bytes.len().next_multiple_of(16);
            }
        }
        let mut memory = memmap2::MmapMut::map_anon(size.max(1))?;
        let tables = std::ptr::from_ref(&*self.directory) as u64;
        let resolve = |name: &str| match name {
            STACK_TABLES => Some(tables),
            _ => runtime::abi::find(name).map(|f| f.address.0 as u64),
        };
        let base = memory.as_ptr() as u64;
        let (code, addresses) = link::place(&self.units, &needed, base, &resolve)?;
        memory[..code.len()].copy_from_slice(&code);
        self.code.push(memory.make_exec()?);
        let address = addresses.get(&unit).copied();
        address.ok_or_else(|| LinkError::Code(format!("there is no unit {unit}")))
    }

    /// Adds what threads hold of these globals to the values that the tracer's handlers see.
    fn gather(&mut self, uses: &[GlobalId]) {
        let mut halves = false;
        for id in uses {
            let index = id.0 as usize;
            let Some(storage) = self.storages.get(index) else {
                continue;
            };
            match storage.class {
                Class::Counter => {
                    let sum = shard::sum_counters(&self.geometry, storage.cells);
                    let more = sum.wrapping_sub(std::mem::replace(&mut self.seen[index], sum));
                    let old = self.word(storage.at);
                    if let Some(at) = self.arena.at(storage.at, 8) {
                        // SAFETY: inside the arena, which is mapped; only the tracer uses this word.
                        unsafe { at.cast::<i64>().write_volatile(old.wrapping_add(more)) }
                    }
                }
                Class::Sharded => halves = true,
                Class::Shared | Class::Tracer => {}
            }
        }
        // Slot 0 has no part in it: nothing to gather while no thread ever had a slot.
        if halves && self.geometry.used() > 1 {
            self.gather_halves();
        }
    }

    /// The epoch is one for all globals, so all of them are emptied.
    fn gather_halves(&mut self) {
        // SAFETY: the header is mapped.
        let epoch = unsafe { (*self.arena.base().cast::<Header>()).epoch.load(Acquire) };
        let sharded = || self.storages.iter().filter(|s| s.class == Class::Sharded);
        for storage in sharded().filter(|s| s.shape != Shape::Stat) {
            shard::prefill(&self.geometry, storage.shard, storage.at, epoch);
        }
        let quiet = shard::quiesce(&self.geometry, epoch, self.expedited);
        for storage in sharded() {
            if storage.shape == Shape::Stat {
                shard::collect_stat(
                    &self.geometry,
                    storage.cells,
                    storage.stat_shape,
                    storage.at,
                    quiet,
                );
            } else {
                shard::collect(&self.geometry, storage.shard, storage.at, quiet);
            }
        }
    }

    /// Value of a global at this time; the number is its index in the program.
    pub fn global(&mut self, index: usize) -> Option<GlobalValue> {
        let id = GlobalId(u32::try_from(index).ok()?);
        let storage = self.storages.get(index)?.clone();
        self.gather(&[id]);
        let slot = self.geometry.slot(0)?;
        let base = self.arena.base();
        if storage.lock != 0 {
            // SAFETY: the arena is mapped and slot 0 is the tracer's. Without the lock the value may be torn, but each
            // read is checked.
            unsafe { runtime::abi::lock_acquire(base, slot, storage.lock) };
        }
        let value = self.read(index, &storage);
        if storage.lock != 0 {
            // SAFETY: as above; a lock that is not held is left alone.
            unsafe { runtime::abi::lock_release(base, slot, storage.lock) };
        }
        value
    }

    /// Value of a global by its name in the script.
    pub fn global_named(&mut self, name: &str) -> Option<GlobalValue> {
        let index = self.globals.iter().position(|g| g.name == name)?;
        self.global(index)
    }

    fn read(&self, index: usize, storage: &Storage) -> Option<GlobalValue> {
        let global = self.globals.get(index)?;
        Some(match &storage.shape {
            Shape::Scalar(ty) => GlobalValue::Scalar(self.scalar(storage.at, *ty)),
            Shape::Stat => GlobalValue::Stat(self.stat(storage.at, global)),
            Shape::Map { keys, value } => {
                let kinds = layout::key_kinds(keys);
                let spec = layout::map_spec(global, &kinds, storage.stat_shape, &self.limits)?;
                let map = runtime::map::MapLayout::new(&spec);
                let slot = self.geometry.slot(0)?;
                let base = self.arena.base();
                let mut elements = Vec::new();
                // SAFETY: the arena is mapped and slot 0 is the tracer's; entries that the run time gives lie in the
                // arena, and what is read of them is checked again.
                unsafe {
                    let sort = runtime::map::Sort::NONE.encode();
                    let iter = runtime::abi::map_iter_begin(
                        base,
                        slot,
                        storage.at,
                        sort,
                        -1,
                        std::ptr::null(),
                        0,
                    );
                    while !iter.is_null() && elements.len() <= spec.capacity as usize {
                        let entry = runtime::abi::map_iter_next(base, slot, iter);
                        let Some(at) = self.arena.offset_of(entry, u64::from(map.entry_size))
                        else {
                            break;
                        };
                        let keys = keys
                            .iter()
                            .zip(map.key_offsets)
                            .map(|(ty, offset)| self.scalar(at + u64::from(offset), *ty))
                            .collect();
                        let cell = at + u64::from(map.value_offset);
                        let element = match value {
                            Some(ty) => Element::Scalar(self.scalar(cell, *ty)),
                            None => Element::Stat(self.stat(cell, global)),
                        };
                        elements.push((keys, element));
                    }
                    runtime::abi::map_iter_end(base, slot, iter);
                    (*slot).error = 0;
                }
                GlobalValue::Map(elements)
            }
        })
    }

    fn word(&self, at: u64) -> i64 {
        // SAFETY: inside the arena, which is mapped.
        self.arena
            .at(at, 8)
            .map_or(0, |p| unsafe { p.cast::<i64>().read_volatile() })
    }

    fn scalar(&self, at: u64, ty: Type) -> Value {
        if ty != Type::String {
            return Value::Long(self.word(at));
        }
        let len = (self.word(at) as u32).min(self.limits.max_string - 1);
        let head = size_of::<runtime::layout::StrBuf>() as u64;
        Value::String(match self.arena.at(at + head, u64::from(len)) {
            // SAFETY: inside the arena, which is mapped; copied at once.
            Some(p) => (0..len as usize)
                .map(|i| unsafe { p.add(i).read_volatile() })
                .collect(),
            None => Vec::new(),
        })
    }

    fn stat(&self, at: u64, global: &Global) -> StatValue {
        let shape = layout::statistic(&global.ty)
            .and_then(|(needs, hist)| layout::stat_shape(needs, hist).0)
            .unwrap_or_default();
        let word = |n: u64| self.word(at + 8 * n);
        StatValue {
            cell: StatCell {
                count: word(0),
                sum: word(1),
                min: word(2),
                max: word(3),
                mean: word(4),
                m2: word(5),
            },
            buckets: (0..u64::from(shape.buckets))
                .map(|i| word(6 + i) as u64)
                .collect(),
            shape,
        }
    }
}
