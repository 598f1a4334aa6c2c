//! Where things stand in the arena of a program.

use crate::limits::Limits;
use crate::storage::{Class, Shape, Storage, shape};
use runtime::layout::{Header, MatchState, ProcessRecord, Site, Slot, StatCell, StatShape, StrBuf};
use runtime::map::{FLAG_DECLARED, FLAG_WRAP, MapLayout, MapSpec, ValueKind, iteration_bytes};
use runtime::shard::{ShardLayout, ShardSpec};
use runtime::timing::Timing;
use script::ir::{Global, GlobalType, HistShape, MapValue, Program, StatNeeds, Type};

/// Room for sites.
const SITE_CAPACITY: u32 = 1 << 18;
/// Room for constants.
const CONSTANTS: u64 = 64 << 20;
/// Stack of handlers, and of the program's own handlers of signals that interrupt them.
const NATIVE_STACK: u64 = 256 << 10;
/// Most bytes of a slot for what is kept per thread; more is shared.
const MAX_SHARDS: u64 = 4 << 20;
/// Most bytes of a slot for strings.
const MAX_STRING_STACK: u64 = 8 << 20;
/// Bytes for the command line of a process.
const PROCESS_TEXT: u64 = 4096;

/// Offsets in the arena.
#[derive(Clone, Debug, Default)]
pub struct ArenaLayout {
    /// Bytes of the whole arena (mostly never touched: it is to be a sparse memory object).
    pub size: u64,
    /// Offset of the first [`runtime::layout::ProcessRecord`].
    pub processes: u64,
    /// Number of process records.
    pub process_count: u32,
    /// Offset of the texts of processes (command lines), one area per process record.
    pub process_texts: u64,
    /// Bytes of each such area.
    pub process_text_size: u64,
    /// Offset of the first [`runtime::layout::Site`].
    pub sites: u64,
    /// Room for so many sites.
    pub site_capacity: u32,
    /// Offset of constants: formats, literals, shapes, texts of sites.
    pub constants: u64,
    /// Bytes for constants.
    pub constants_size: u64,
    /// Offset of globals.
    pub globals: u64,
    /// Offset of a [`runtime::timing::Timing`] for each site; 0 when handlers are not timed.
    pub timings: u64,
    /// Offset of slot 0.
    pub slots: u64,
    /// Bytes per slot.
    pub slot_size: u64,
    /// Number of slots.
    pub slot_count: u32,
    /// Offset in a slot of the string stack.
    pub string_stack: u64,
    /// Its bytes.
    pub string_stack_size: u64,
    /// Offset in a slot of the iteration area.
    pub iteration: u64,
    /// Its bytes.
    pub iteration_size: u64,
    /// Offset in a slot of the native stack's lowest byte.
    pub native_stack: u64,
    /// Its bytes.
    pub native_stack_size: u64,
    /// Offset in a slot of `tokenize`'s state.
    pub tokenize: u64,
    /// Offset in a slot of what the last `=~` found.
    pub last_match: u64,
    /// Offset in a slot of its ring.
    pub ring: u64,
    /// Bytes of a ring.
    pub ring_size: u64,
    /// Offset in a slot of the shards.
    pub shards: u64,
}

impl ArenaLayout {
    /// Offset of slot `index`.
    pub fn slot(&self, index: u32) -> u64 {
        self.slots + u64::from(index) * self.slot_size
    }

    /// Offset of process record `index`.
    pub fn process(&self, index: u32) -> u64 {
        self.processes + u64::from(index) * size_of::<ProcessRecord>() as u64
    }

    /// Offset of the text area of process record `index`.
    pub fn process_text(&self, index: u32) -> u64 {
        self.process_texts + u64::from(index) * self.process_text_size
    }
}

/// What a program needs besides its globals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    /// String buffers of one chain of activations, at most (a guess on the safe side).
    pub buffers: u64,
    /// Bytes of iteration area.
    pub iteration: u64,
}

/// How a statistic is kept: the runtime's shape, `None` when it needs none, and its number of buckets.
pub(crate) fn stat_shape(needs: &StatNeeds, hist: Option<&HistShape>) -> (Option<StatShape>, u32) {
    let shift = u32::from(needs.variance.unwrap_or(0));
    let variance = needs.variance.is_some();
    let shape = match hist {
        None if !variance => None,
        None => Some(StatShape::plain(shift, variance)),
        Some(HistShape::Log) => Some(StatShape::log(shift, variance)),
        Some(HistShape::Linear { low, high, step }) => {
            StatShape::linear(*low, *high, *step, shift, variance)
        }
    };
    (shape, shape.map_or(0, |s| s.buckets))
}

/// The needs and the histogram of a global that is a statistic or holds some.
pub(crate) fn statistic(ty: &GlobalType) -> Option<(&StatNeeds, Option<&HistShape>)> {
    match ty {
        GlobalType::Stat(needs, hist)
        | GlobalType::Map {
            value: MapValue::Stat(needs, hist),
            ..
        } => Some((needs, hist.as_ref())),
        _ => None,
    }
}

/// True for string keys.
pub(crate) fn key_kinds(keys: &[Type]) -> Vec<bool> {
    keys.iter().map(|k| *k == Type::String).collect()
}

/// What to tell the runtime of an array.
pub(crate) fn map_spec<'a>(
    global: &Global,
    keys: &'a [bool],
    stat_shape_at: u64,
    limits: &Limits,
) -> Option<MapSpec<'a>> {
    let GlobalType::Map {
        value, size, wrap, ..
    } = &global.ty
    else {
        return None;
    };
    let buckets = statistic(&global.ty).map_or(0, |(needs, hist)| stat_shape(needs, hist).1);
    Some(MapSpec {
        keys,
        value: match value {
            MapValue::Long => ValueKind::Long,
            MapValue::String => ValueKind::String,
            MapValue::Stat(..) => ValueKind::Stat,
        },
        capacity: size.unwrap_or(limits.max_map_entries).clamp(1, 1 << 24),
        flags: if *wrap { FLAG_WRAP } else { 0 } | if size.is_some() { FLAG_DECLARED } else { 0 },
        shape: stat_shape_at,
        buckets,
        max_string: limits.max_string,
    })
}

/// What to tell the runtime of an array kept per thread.
pub(crate) fn shard_spec<'a>(
    global: &Global,
    keys: &'a [bool],
    stat_shape_at: u64,
    limits: &Limits,
) -> Option<ShardSpec<'a>> {
    let map = map_spec(global, keys, stat_shape_at, limits)?;
    (map.value != ValueKind::String).then_some(ShardSpec {
        keys,
        value: map.value,
        capacity: map.capacity,
        flags: map.flags,
        shape: map.shape,
        buckets: map.buckets,
        max_string: map.max_string,
    })
}

/// Places everything. `shapes` has the offsets of statistics' shapes, already among the constants.
pub(crate) fn plan(
    program: &Program,
    limits: &Limits,
    classes: &[Class],
    shapes: &[u64],
    needs: Needs,
) -> (ArenaLayout, Vec<Storage>) {
    let mut layout = fixed(limits);
    let mut at = layout.globals;
    let mut shard_top = 0;
    let mut storages = Vec::with_capacity(program.globals.len());
    for ((global, &class), &stat_shape_at) in program.globals.iter().zip(classes).zip(shapes) {
        let shape = shape(&global.ty);
        let buckets = statistic(&global.ty).map_or(0, |(needs, hist)| stat_shape(needs, hist).1);
        let stat_size = size_of::<StatCell>() as u64 + 8 * u64::from(buckets);
        let mut storage = Storage {
            class,
            shape,
            at: 0,
            shard: 0,
            cells: 0,
            lock: 0,
            stat_shape: stat_shape_at,
            cell_size: 8,
        };
        let bytes = match &storage.shape {
            Shape::Scalar(Type::String) => {
                size_of::<StrBuf>() as u64 + u64::from(limits.max_string)
            }
            Shape::Scalar(_) => 8,
            Shape::Stat => {
                storage.cell_size = stat_size;
                stat_size
            }
            Shape::Map { keys, value } => {
                storage.cell_size = if value.is_none() { stat_size } else { 8 };
                let keys = key_kinds(keys);
                map_spec(global, &keys, stat_shape_at, limits)
                    .map_or(0, |spec| MapLayout::new(&spec).bytes)
            }
        };
        let keys = match &storage.shape {
            Shape::Map { keys, .. } => key_kinds(keys),
            _ => Vec::new(),
        };
        let sharded =
            shard_spec(global, &keys, stat_shape_at, limits).map(|spec| ShardLayout::new(&spec));
        let per_slot = match (class, &storage.shape) {
            (Class::Counter, _) => 8,
            (Class::Sharded, Shape::Stat) => 2 * stat_size,
            (Class::Sharded, _) => sharded.map_or(u64::MAX, |s| s.slot_bytes),
            _ => 0,
        };
        if per_slot > 0 {
            if per_slot <= MAX_SHARDS - shard_top {
                storage.cells = shard_top;
                shard_top += per_slot.next_multiple_of(8);
            } else {
                storage.class = Class::Shared;
            }
        }
        if let (Class::Sharded, Some(sharded)) = (storage.class, sharded) {
            at = at.next_multiple_of(64);
            storage.shard = at;
            at += sharded.bytes.next_multiple_of(64);
        }
        if storage.class == Class::Shared {
            // A cache line of its own, so that waiting for one lock doesn't slow the use of another global.
            at = at.next_multiple_of(64);
            storage.lock = at;
            at += 64;
        }
        storage.at = at;
        at += bytes.next_multiple_of(8);
        storages.push(storage);
    }
    if limits.timing {
        layout.timings = at.next_multiple_of(64);
        at = layout.timings + u64::from(SITE_CAPACITY) * size_of::<Timing>() as u64;
    }
    layout.slots = at.next_multiple_of(4096);
    place_slot(&mut layout, limits, needs, shard_top);
    for storage in &mut storages {
        if matches!(storage.class, Class::Counter | Class::Sharded) {
            storage.cells += layout.shards;
        }
    }
    layout.size = layout.slots + layout.slot_size * u64::from(layout.slot_count);
    (layout, storages)
}

/// The parts whose places don't depend on the program.
pub(crate) fn fixed(limits: &Limits) -> ArenaLayout {
    let mut layout = ArenaLayout {
        process_count: limits.processes,
        process_text_size: PROCESS_TEXT,
        site_capacity: SITE_CAPACITY,
        constants_size: CONSTANTS,
        slot_count: limits.slots,
        ring_size: u64::from(limits.ring_size.next_power_of_two()),
        native_stack_size: NATIVE_STACK,
        ..ArenaLayout::default()
    };
    layout.processes = (size_of::<Header>() as u64).next_multiple_of(64);
    layout.process_texts =
        layout.processes + u64::from(limits.processes) * size_of::<ProcessRecord>() as u64;
    layout.sites = (layout.process_texts + u64::from(limits.processes) * layout.process_text_size)
        .next_multiple_of(4096);
    layout.constants =
        (layout.sites + u64::from(SITE_CAPACITY) * size_of::<Site>() as u64).next_multiple_of(4096);
    layout.globals = layout.constants + layout.constants_size;
    layout
}

fn place_slot(layout: &mut ArenaLayout, limits: &Limits, needs: Needs, shards: u64) {
    let buffer = u64::from(limits.max_string).next_multiple_of(8);
    let mut at = (size_of::<Slot>() as u64).next_multiple_of(64);
    layout.shards = at;
    at = (at + shards).next_multiple_of(64);
    layout.tokenize = at;
    at = (at + size_of::<StrBuf>() as u64 + buffer).next_multiple_of(64);
    layout.last_match = at;
    at = (at + size_of::<MatchState>() as u64 + buffer).next_multiple_of(64);
    layout.iteration = at;
    layout.iteration_size = needs.iteration;
    at = (at + needs.iteration).next_multiple_of(64);
    layout.string_stack = at;
    layout.string_stack_size =
        ((needs.buffers + 4) * buffer).clamp(16 << 10, MAX_STRING_STACK.max(4 * buffer));
    at = (at + layout.string_stack_size).next_multiple_of(4096);
    layout.native_stack = at;
    at += layout.native_stack_size;
    layout.ring = at;
    at += layout.ring_size;
    layout.slot_size = at.next_multiple_of(4096);
}

/// Bytes of iteration area for one `foreach` over that global.
pub(crate) fn iteration(global: Option<&Global>, limits: &Limits) -> u64 {
    let capacity = match global.map(|g| &g.ty) {
        Some(GlobalType::Map { size, .. }) => size.unwrap_or(limits.max_map_entries),
        _ => 1 << 12,
    };
    u64::from(iteration_bytes(capacity.min(1 << 24))).next_multiple_of(8)
}
