//! From the rings of all threads to one stream of events in the order in which they happened.

use crate::arena::{Arena, slots_in_use};
use codegen::ArenaLayout;
use runtime::arena::{Arena as View, Geometry};
use runtime::format::{self, Args, Sink};
use runtime::layout::RecordKind;
use runtime::ring::{self, Drained};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Printed bytes.
    Print(Vec<u8>),
    /// `warn()`.
    Warn(String),
    /// `log()`.
    Log(String),
    /// Addresses to be named.
    Stack {
        /// The process's record.
        process: u32,
        /// How they are printed (`runtime::stack::backtrace::layout`).
        layout: u64,
        /// The addresses.
        addresses: Vec<u64>,
    },
    /// `system()`: a command to run.
    System(String),
    /// `switch_file()`.
    SwitchFile,
    /// `$value = …` in a `procfs` probe.
    FileSet(Vec<u8>),
    /// `$value .= …` in a `procfs` probe.
    FileAppend(Vec<u8>),
    /// `raise()`: a signal for a thread.
    Raise {
        /// The process's record.
        process: u32,
        /// The process's number as it sees it.
        pid: u32,
        /// The thread's number as it sees it.
        tid: u32,
        /// The signal's number.
        signal: i32,
    },
    /// A run-time error.
    Error {
        /// Number of the place in the script.
        location: u32,
        /// What happened.
        text: String,
    },
}

/// Longest wait for a record that a thread had begun when a pass over the rings started.
const PATIENCE: Duration = Duration::from_micros(500);

/// The reader of all rings.
#[derive(Debug)]
pub struct Drain {
    geometry: Geometry,
    /// Bytes read of each slot's ring.
    tails: Vec<u64>,
    scratch: Vec<u8>,
    /// Events younger than the start of the last pass: older ones may still be on their way.
    held: Vec<(u64, Event)>,
    damaged: bool,
}

struct Bytes(Vec<u8>);

impl Sink for Bytes {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl Drain {
    /// A reader for a new arena; `None` when the arena's head makes no sense.
    pub fn new(arena: &Arena) -> Option<Drain> {
        // SAFETY: the arena is mapped with this length, and the session keeps it mapped longer than the reader.
        let view = unsafe { View::with_size(arena.address(), arena.len() as u64) };
        let geometry = Geometry::read(view)?;
        Some(Drain {
            geometry,
            tails: vec![0; geometry.slot_count as usize],
            scratch: vec![0; geometry.ring_size as usize],
            held: Vec::new(),
            damaged: false,
        })
    }

    /// What happened up to the start of this call and was not taken before, in order.
    pub fn take(&mut self, arena: &Arena, layout: &ArenaLayout) -> Vec<Event> {
        let now = runtime::time::cycles();
        self.read(arena, layout);
        let (ready, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<Vec<_>, _>(|(time, _)| *time <= now);
        self.held = held;
        in_order(ready)
    }

    /// Everything that is left, once nothing writes any more.
    pub fn take_all(&mut self, arena: &Arena, layout: &ArenaLayout) -> Vec<Event> {
        self.read(arena, layout);
        in_order(std::mem::take(&mut self.held))
    }

    /// Whether a ring held nonsense: the target has written over the arena.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    fn read(&mut self, arena: &Arena, layout: &ArenaLayout) {
        let slots = slots_in_use(arena, layout);
        let end = Instant::now() + PATIENCE;
        for index in slots.clone() {
            let Some(slot) = arena.slot(layout, index) else {
                continue;
            };
            let head = slot.ring_head.load(Ordering::Acquire);
            // A record begun before this pass is to be in it.
            while index > 0
                && slot.busy.load(Ordering::Acquire) != 0
                && slot.ring_head.load(Ordering::Acquire) == head
                && Instant::now() < end
            {
                std::thread::yield_now();
            }
        }
        let Drain {
            geometry,
            tails,
            scratch,
            held,
            damaged,
        } = self;
        for index in slots {
            let Some(tail) = tails.get_mut(index as usize) else {
                continue;
            };
            let report = ring::drain(geometry, index, tail, scratch, |record| {
                if let Some(event) = event(&geometry.arena, record) {
                    held.push((record.time, event));
                }
            });
            *damaged |= report.damaged;
        }
    }
}

fn in_order(mut events: Vec<(u64, Event)>) -> Vec<Event> {
    // Stable: one thread's records stay in their order even if the clock did not advance between them.
    events.sort_by_key(|(time, _)| *time);
    events.into_iter().map(|(_, event)| event).collect()
}

fn event(arena: &View, record: &Drained<'_>) -> Option<Event> {
    let text = |args: &mut Args<'_>| {
        args.string()
            .map(|s| String::from_utf8_lossy(s).into_owned())
    };
    let mut args = Args::new(record.payload);
    const PRINT: u16 = RecordKind::Print as u16;
    const WARN: u16 = RecordKind::Warn as u16;
    const LOG: u16 = RecordKind::Log as u16;
    const SYSTEM: u16 = RecordKind::System as u16;
    const SWITCH: u16 = RecordKind::SwitchFile as u16;
    const ERROR: u16 = RecordKind::Error as u16;
    const FILE_SET: u16 = RecordKind::FileSet as u16;
    const FILE_APPEND: u16 = RecordKind::FileAppend as u16;
    const STACK: u16 = RecordKind::Stack as u16;
    const RAISE: u16 = RecordKind::Raise as u16;
    match record.kind {
        PRINT if record.id == 0 => Some(Event::Print(args.string()?.to_vec())),
        PRINT => {
            let mut out = Bytes(Vec::new());
            // SAFETY: handlers never change constants; a target that does so gets its own nonsense printed.
            let encoded = unsafe { format::at(arena, record.id) };
            format::render(arena, encoded, record.payload, &mut out);
            Some(Event::Print(out.0))
        }
        WARN => Some(Event::Warn(text(&mut args)?)),
        SYSTEM => Some(Event::System(text(&mut args)?)),
        SWITCH => Some(Event::SwitchFile),
        FILE_SET => Some(Event::FileSet(args.string()?.to_vec())),
        FILE_APPEND => Some(Event::FileAppend(args.string()?.to_vec())),
        RAISE => {
            let (whose, tid) = (args.long()? as u64, args.long()? as u64);
            Some(Event::Raise {
                process: (whose >> 32) as u32,
                pid: whose as u32,
                tid: tid as u32,
                signal: i32::try_from(record.id as i64).unwrap_or(-1),
            })
        }
        LOG => Some(Event::Log(text(&mut args)?)),
        STACK => {
            let mut words = record
                .payload
                .chunks_exact(8)
                .filter_map(|w| w.try_into().ok().map(u64::from_ne_bytes));
            Some(Event::Stack {
                process: (words.next()? >> 32) as u32,
                layout: record.id,
                addresses: words.collect(),
            })
        }
        ERROR => {
            let (_code, _site) = (args.long()?, args.long()?);
            Some(Event::Error {
                location: u32::try_from(record.id).unwrap_or(0),
                text: text(&mut args)?,
            })
        }
        _ => None,
    }
}
