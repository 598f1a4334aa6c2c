//! The arena: one shared-memory object per session, mapped into the tracer and into every probed process.
//! Everything in it is plain data at offsets from its start; no pointer of one process ever stands in it (the few
//! absolute addresses in a [`Slot`] belong to the process that owns the slot and mean nothing to others).
//!
//! ```text
//! | Header | processes | constants | sites | globals … | slot 0 (tracer) | slot 1 | … | slot N-1 |
//! ```
//! A slot: `| Slot | string stack | native stack | ring | shards of per-thread globals … |`. Where the parts begin
//! is decided by the tracer for each program and written in [`Header`]; handlers have the offsets as constants.

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

/// First word of an arena: "SPILE\0" and a version.
pub const MAGIC: u64 = 0x0001_0045_4c49_5053;

/// Longest key tuple of an array.
pub const MAX_KEYS: usize = 9;

/// Most groups of a regular expression, the whole match included.
pub const MAX_GROUPS: usize = 64;

/// Most registers of a regular expression's automaton.
pub const MAX_REGISTERS: usize = 256;

/// Buckets of `@hist_log`: one per power of two of either sign, and zero (as stap: HIST_LOG_BUCKETS).
pub const HIST_LOG_BUCKETS: usize = 128;

/// A string in the arena: offset from its start and length in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrRef {
    /// Offset from the arena's start.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// Head of the arena. Written by the tracer before anything else runs, except the counters at the end.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u64,
    /// Bytes in the arena.
    pub size: u64,
    /// Offset of the first [`ProcessRecord`], and how many there are.
    pub processes: u32,
    /// Number of process records.
    pub process_count: u32,
    /// Offset of the first [`Site`].
    pub sites: u32,
    /// Number of sites.
    pub site_count: u32,
    /// Offset of slot 0.
    pub slots: u64,
    /// Bytes per slot.
    pub slot_size: u64,
    /// Number of slots.
    pub slot_count: u32,
    /// Offset in a slot of the string stack.
    pub string_stack: u32,
    /// Its bytes.
    pub string_stack_size: u32,
    /// Offset in a slot of the native stack's lowest byte.
    pub native_stack: u32,
    /// Its bytes.
    pub native_stack_size: u32,
    /// Offset in a slot of the ring's data.
    pub ring: u32,
    /// Bytes of ring data: a power of two.
    pub ring_size: u32,
    /// Offset in a slot of the per-thread shards.
    pub shards: u32,
    /// MAXSTRINGLEN: bytes of a string buffer, terminating NUL included.
    pub max_string: u32,
    /// MAXACTION for process probes.
    pub max_action: u32,
    /// Pid of the `-c`/`-x` process as the tracer sees it, for `target()`.
    pub target_pid: AtomicI64,
    /// Which half of the per-thread shards handlers update, 0 or 1.
    pub epoch: AtomicU32,
    /// Set by `exit()`: the session is to end. Handlers of other probes do nothing once it is set.
    pub exit_requested: AtomicU32,
    /// Set by the tracer when the session is over or it is ending: process handlers do nothing.
    pub stopped: AtomicU32,
    /// Run-time errors so far (all probes).
    pub errors: AtomicU32,
    /// Hits skipped since no slot was free.
    pub skipped_no_slot: AtomicU64,
    /// Returns that were missed since there was no room to remember their calls.
    pub missed_returns: AtomicU64,
    /// Next never-used slot (slot 0 is the tracer's).
    pub slots_used: AtomicU32,
    /// Futex that the tracer may sleep on; handlers wake it on `exit()`, errors and rings half full.
    pub wake: AtomicU32,
    /// State of `randint`.
    pub random: AtomicU64,
    /// Offset in a slot of the area in which `foreach` keeps its index arrays.
    pub iteration: u32,
    /// Its bytes: for each level of nested sorted or sliced `foreach`, [`crate::map::iteration_bytes`]; 0 without any.
    pub iteration_size: u32,
    /// Offset in a slot of `tokenize`'s state: a [`StrBuf`] with `max_string` bytes, its `reserved` the position.
    /// 0 when the program does not use it.
    pub tokenize: u32,
    /// MAXERRORS: the session ends when more errors than this have happened.
    pub max_errors: u32,
    /// Depth of `indent`.
    pub indent_depth: AtomicI64,
    /// Time in µs at which `indent` last was at depth 0.
    pub indent_start: AtomicI64,
    /// The slot given back last (its number, 0 for none) in the lower half, how often that changed in the upper one. The
    /// others follow by [`Slot::next_free`].
    pub free_slots: AtomicU64,
    /// Held (1) while a slot of a dead process is being taken over.
    pub adopting: AtomicU32,
    /// MAXBACKTRACE: most frames of a backtrace.
    pub max_backtrace: u32,
    /// Offset in a slot of the last match's [`MatchState`], with `max_string` bytes for its subject. 0 when the program
    /// does not use it.
    pub last_match: u32,
    /// Process id of the tracer as it sees itself.
    pub tracer_pid: u32,
    /// Seconds that local time is west of UTC, as of the session's start.
    pub seconds_west: AtomicI64,
    /// The local time zone's name, NUL-padded.
    pub zone: [u8; 16],
    /// Slots that may be taken for now: the file of the arena ends behind the last of them. 0: all.
    pub slots_available: AtomicU32,
}

/// What the last `=~` found, for `matched()` and `ngroups()`.
#[repr(C)]
#[derive(Debug)]
pub struct MatchState {
    /// 1 when it matched.
    pub found: u32,
    /// Number of group boundaries.
    pub tags: u32,
    /// The boundaries: positions in the subject, or `u32::MAX`.
    pub spans: [u32; 2 * MAX_GROUPS],
    /// The text that was looked at; its bytes follow.
    pub subject: StrBuf,
}

/// What handlers must know of the process they run in and cannot ask cheaply; addresses in it are in
/// [`crate::own_process`].
#[repr(C, align(8))]
#[derive(Debug)]
pub struct ProcessRecord {
    /// `pexecname()` and `cmdline_str()` as read at attach.
    pub cmdline: StrRef,
    /// 1 when no filter of the process would kill it for an mmap(2).
    pub may_map: u32,
    /// Its name (`/proc/PID/comm`), NUL-padded: for handlers that the tracer runs on its behalf.
    pub name: [u8; 16],
}

/// A place that is probed, numbered from 0; the number is the trampoline's argument.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Site {
    /// `pp()`: the resolved probe point's text.
    pub pp: StrRef,
    /// `pn()`: the name as the script wrote it.
    pub pn: StrRef,
    /// `probefunc()`/`ppfunc()`.
    pub function: StrRef,
    /// `modname()`/`module_name()`: path of the probed binary.
    pub module: StrRef,
    /// `$$name` of a mark.
    pub mark: StrRef,
    /// `$$provider` of a mark.
    pub provider: StrRef,
    /// `probe_type()`.
    pub kind: StrRef,
}

/// Bytes of [`Slot::copied`].
pub const COPIED: usize = 256;

/// One thread's (or, for slot 0, the tracer's) state. Followed by its stacks, ring and shards.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// 1 while a handler runs on this thread: further hits (from signals, or from code that handlers call) are skipped.
    pub busy: AtomicU32,
    /// Index of this slot.
    pub index: u32,
    /// Process id of the owner as it sees itself (its own PID namespace); 0 when the slot is free.
    pub pid: AtomicU32,
    /// Thread id of the owner at the time it took the slot.
    pub tid: AtomicU32,
    /// Which [`ProcessRecord`].
    pub process: u32,
    /// Error of the running handler: 0, or an [`ErrorCode`].
    pub error: u32,
    /// Number of the source location (index into the program's location table) where it was raised.
    pub error_location: u32,
    /// Bytes used in `error_text`.
    pub error_len: u32,
    /// Statements left before "MAXACTION exceeded".
    pub actions: i64,
    /// Offset from the slot's start of the first free byte of the string stack.
    pub string_top: u32,
    /// Depth of function calls.
    pub nesting: u32,
    /// The program's stack pointer where it was left for the handler that runs or ran last, of those that call anything.
    pub saved_sp: u64,
    /// Bytes ever written to the ring (published to the tracer).
    pub ring_head: AtomicU64,
    /// Bytes ever consumed by the tracer.
    pub ring_tail: AtomicU64,
    /// Records dropped since the ring was full.
    pub ring_dropped: AtomicU64,
    /// Hits skipped since the thread was in a handler already.
    pub skipped: AtomicU64,
    /// Hits skipped since a lock could not be had in time.
    pub skipped_locked: AtomicU64,
    /// Depth of `thread_indent`.
    pub indent_depth: i64,
    /// Time in µs at which `thread_indent` last was at depth 0.
    pub indent_start: i64,
    /// The lock offset this slot holds or waits for, 0 if none; for recovery after the owner's death.
    pub lock_held: AtomicU64,
    /// Stack pointers below which the program's stack has room for a handler: from here on …
    pub room_low: u64,
    /// … so many bytes. See [`crate::signal_stack`].
    pub room_size: u64,
    /// Where the thread's stack pointer is known not to be on its alternate signal stack: from here on …
    pub stack_low: u64,
    /// … so many bytes. See [`crate::signal_stack`].
    pub stack_size: u64,
    /// The program's signal mask while a handler runs with all signals blocked.
    pub signal_mask: u64,
    /// What the kernel last said of the thread's alternate signal stack.
    pub signal_stack: SignalStack,
    /// Text of the error raised in the running handler.
    pub error_text: [u8; 512],
    /// Position (as `ring_head`) of the record that was begun and not yet committed.
    pub ring_pending: u64,
    /// Bytes of the iteration area in use. A handler with a `foreach` sets it to 0 when it begins.
    pub iteration_top: u32,
    /// Raised each time the slot gets a new owner, so that locks of the old one are known to be stale.
    pub generation: AtomicU32,
    /// Of a slot that was given back: the one given back before it, 0 for none.
    pub next_free: AtomicU32,
    /// Bytes of `copied` in use. A handler that calls anything sets it to 0 when it begins.
    pub copied_len: u32,
    /// Where in the program they were copied from by the running handler.
    pub copied_at: u64,
    /// What is around the number that was last read where reading takes a system call: others of the same structure, as a rule.
    pub copied: [u8; COPIED],
}

/// `stack_t` of sigaltstack(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalStack {
    /// First byte.
    pub base: u64,
    /// `SS_ONSTACK`: the thread is on it; [`NO_STACK`].
    pub flags: u32,
    /// Nothing.
    pub padding: u32,
    /// Bytes.
    pub size: u64,
}

/// `SS_DISABLE`: there is none.
pub const NO_STACK: u32 = 2;

/// An entry of a [`ThreadTable`].
#[repr(C)]
#[derive(Debug)]
pub struct ThreadEntry {
    /// FS base of the thread plus one; 0 when the entry is empty, [`REMOVED`] when its thread has ended.
    pub key: AtomicU64,
    /// Address of its slot in this process.
    pub slot: AtomicU64,
}

/// Key of an entry that was removed, which does not end a search: no thread has it, as an FS base of 0 stands for none.
pub const REMOVED: u64 = 1 << 62;

/// Number of entries of a [`ThreadTable`]: a power of two.
pub const THREAD_TABLE_ENTRIES: usize = 4096;

/// A process's threads and their slots, in a private mapping that is zeroed in forked children. Searched from
/// [`thread_hash`] by linear probing; an entry is removed by the tracer while all threads are stopped.
#[repr(C)]
#[derive(Debug)]
pub struct ThreadTable {
    /// The entries.
    pub entries: [ThreadEntry; THREAD_TABLE_ENTRIES],
    /// Always empty: a short search need not mind the end.
    pub behind: [ThreadEntry; SHORT_SEARCH],
    /// The process (as it sees itself) whose memory this is: a vfork(2) child has another number and the same memory.
    pub pid: AtomicU32,
    /// Bit n: a thread that has no slot yet is on `stacks[n]`.
    pub stacks_used: AtomicU64,
    /// Stacks for threads that take a slot, with signals blocked: their own may have no more than some hundred bytes left.
    pub stacks: [EntryStack; ENTRY_STACKS],
}

/// How many entries from a thread's own place on trampolines look at themselves.
pub const SHORT_SEARCH: usize = 4;

/// Number of stacks in a [`ThreadTable`].
pub const ENTRY_STACKS: usize = 8;

/// A stack on which a slot is taken.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct EntryStack(pub [u8; 16 << 10]);

/// Where the search for a thread begins. Trampolines compute the same.
pub const fn thread_hash(fsbase: u64) -> usize {
    (fsbase.wrapping_mul(THREAD_HASH_FACTOR) >> 52) as usize
}

/// Factor of [`thread_hash`].
pub const THREAD_HASH_FACTOR: u64 = 0x61c8_8647;

/// Why a handler ended early.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No error.
    None = 0,
    /// Text in the slot says what.
    Message = 1,
    /// `error()`: text in the slot is the script's own.
    Script = 2,
    /// MAXACTION statements were executed.
    MaxAction = 3,
}

/// A value of either type, as keys are passed to map functions: a number, or address and length of a string.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// The number, or the address of the bytes.
    pub word: u64,
    /// Bytes, when a string.
    pub len: u64,
}

/// A string in a buffer of fixed size: global variables, map values, locals.
#[repr(C)]
#[derive(Debug)]
pub struct StrBuf {
    /// Bytes in use.
    pub len: u32,
    /// Reserved for alignment; the bytes follow (`max_string` of them).
    pub reserved: u32,
}

/// A statistic; `HIST_LOG_BUCKETS` or the linear shape's number of `u64` buckets follow when there is a histogram.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatCell {
    /// `@count`. 0 means empty.
    pub count: i64,
    /// `@sum`.
    pub sum: i64,
    /// `@min`, valid when count > 0.
    pub min: i64,
    /// `@max`, valid when count > 0.
    pub max: i64,
    /// Welford's running mean and sum of squares as stap keeps them, shifted.
    pub mean: i64,
    /// See `mean`.
    pub m2: i64,
}

/// How a statistic is kept. In the arena's constants; handlers pass its offset.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatShape {
    /// 0 none, 1 logarithmic, 2 linear.
    pub hist: u32,
    /// Number of buckets that follow the cell (linear: underflow and overflow buckets included, as stap counts them).
    pub buckets: u32,
    /// Linear: lowest bucket.
    pub low: i64,
    /// Linear: highest bucket.
    pub high: i64,
    /// Linear: width.
    pub step: i64,
    /// `@variance`'s bit shift.
    pub shift: u32,
    /// 1 when `@variance` is read.
    pub variance: u32,
    /// Length of the longest bar (`-D HIST_WIDTH`).
    pub width: u32,
    /// Empty rows shown on either side of others (`-D HIST_ELISION`); negative: all of them.
    pub elision: i32,
}

/// Kinds of record in a ring.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Rest of the ring before it wraps.
    Pad = 0,
    /// `print…`: `id` is the offset of the encoded format in the arena; arguments follow as in [`crate::args`].
    Print = 1,
    /// `warn()`: a string argument follows.
    Warn = 2,
    /// A run-time error: `id` is the location number; then i64 ErrorCode, i64 site number, string text.
    Error = 3,
    /// `log()` and other text for standard error or the log.
    Log = 4,
    /// Addresses to be named and printed: `id` is one of [`crate::stack::backtrace::layout`]; then whose they are (number
    /// of the process record << 32 | process id), then the addresses, in words.
    Stack = 5,
    /// `system()`: a string argument follows, a command for the tracer to run.
    System = 6,
    /// `switch_file()`: the next file of `-S` is to be begun.
    SwitchFile = 7,
    /// `raise()`: `id` is the signal; then whose thread (number of the process record << 32 | process id as the process
    /// sees it), then the thread's id as it sees it, in words.
    Raise = 8,
    /// `$value = …` in a `procfs` probe: a string argument follows.
    FileSet = 9,
    /// `$value .= …` likewise.
    FileAppend = 10,
}

/// Head of a record. Records are 8-aligned and never wrap; the payload follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Bytes, this head included, a multiple of 8.
    pub len: u32,
    /// [`RecordKind`].
    pub kind: u16,
    /// Reserved.
    pub reserved: u16,
    /// Depends on the kind.
    pub id: u64,
    /// Time stamp counter when the record was begun.
    pub time: u64,
}
