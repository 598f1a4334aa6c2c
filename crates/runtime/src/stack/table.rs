//! The tables' format: written by the tracer, read in place by handlers.
//!
//! Addresses in a [`Table`] are offsets from the module's lowest address, so that one serves every process. A table is
//! a [`Head`], then the parts that its fields point at (byte offsets from the table's start).

use core::mem::size_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire};

/// First word of a table: "SPS1".
pub const MAGIC: u32 = 0x3153_5053;

/// Code bytes per entry of the row index: 1 << this.
pub const INDEX_SHIFT: u32 = 8;

/// Modules that a [`Directory`] can list.
pub const MODULES: usize = 1024;

/// Registers of [`Rule::saved`], by their numbers in instructions: rbx, rbp, r12 … r15.
pub const PRESERVED: [u8; 6] = [3, 5, 12, 13, 14, 15];

/// A run of elements: byte offset from the table's start, and their number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Offset of the first.
    pub offset: u32,
    /// How many.
    pub count: u32,
}

/// Head of a table. All words are little-endian `u32`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// [`MAGIC`].
    pub magic: u32,
    /// Bytes that the module covers, from its lowest address.
    pub span: u32,
    /// A number that tells the file from others: its low and its high half.
    pub fingerprint: [u32; 2],
    /// Offset of the code that the first entry of `index` is about.
    pub index_start: u32,
    /// For each `1 << INDEX_SHIFT` bytes of code: the last row that starts at or before its first byte. `u32`.
    pub index: Part,
    /// Where rows start, ascending. `u32`.
    pub starts: Part,
    /// The rows' rules, as many. `u32`.
    pub numbers: Part,
    /// [`Rule`]s.
    pub rules: Part,
    /// Bytes of DWARF expressions.
    pub expressions: Part,
    /// Where symbols start, ascending. `u32`.
    pub symbols: Part,
    /// Where their names end in `names`; one starts where that before it ends. `u32`.
    pub name_ends: Part,
    /// Bytes of names.
    pub names: Part,
    /// Where rows of the line table start, ascending. `u32`.
    pub lines: Part,
    /// Their files (`u32::MAX`: none) and lines: two `u32` each.
    pub places: Part,
    /// Where files' paths end in `paths`. `u32`.
    pub path_ends: Part,
    /// Bytes of paths.
    pub paths: Part,
    /// The module's own path.
    pub path: Part,
    /// The bytes of its build-id.
    pub build_id: Part,
}

/// Ways to compute a canonical frame address.
pub mod kind {
    /// Nothing is known of the address.
    pub const UNKNOWN: u8 = 0;
    /// `register + offset`.
    pub const REGISTER: u8 = 1;
    /// The word at `register + offset`.
    pub const LOADED: u8 = 2;
    /// An entry of a procedure linkage table; `offset` is the first byte of 16 with the word pushed.
    pub const PLT: u8 = 3;
    /// The kernel's frame of a signal handler.
    pub const SIGNAL: u8 = 4;
    /// The expression of `second` bytes at `offset`.
    pub const EXPRESSION: u8 = 5;
}

/// Where a return address is.
pub mod return_address {
    /// At the word below the canonical frame address.
    pub const PUSHED: u8 = 0;
    /// There is no caller.
    pub const NONE: u8 = 1;
    /// In the register `second` (only with [`super::kind::REGISTER`]).
    pub const REGISTER: u8 = 2;
    /// At the canonical frame address plus `second` (only with [`super::kind::REGISTER`]).
    pub const AT: u8 = 3;
}

/// The caller's value is the same.
pub const SAME: i16 = i16::MAX;
/// The caller's value is lost.
pub const LOST: i16 = i16::MIN;

/// What is true of a frame at one address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// One of [`kind`].
    pub kind: u8,
    /// The register that the canonical frame address is computed from.
    pub register: u8,
    /// One of [`return_address`].
    pub return_address: u8,
    /// Bit n: `saved[n]` is relative to rbp and not to the canonical frame address.
    pub from_rbp: u8,
    /// See [`kind`].
    pub offset: i32,
    /// See [`kind`] and [`return_address`].
    pub second: i32,
    /// Where the caller's values of [`PRESERVED`] are, in words from the canonical frame address (or rbp); [`SAME`];
    /// [`LOST`].
    pub saved: [i16; 6],
}

/// A table in memory.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    head: Head,
}

impl<'a> Table<'a> {
    /// The table in these bytes; `None` unless they begin with a head. Nothing else is believed: a part that lies outside
    /// reads as empty.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Option<Table<'a>> {
        if bytes.len() < size_of::<Head>() {
            return None;
        }
        // SAFETY: long enough, and every bit pattern is a valid Head.
        let head = unsafe { bytes.as_ptr().cast::<Head>().read_unaligned() };
        (head.magic == MAGIC).then_some(Table { bytes, head })
    }

    /// Bytes that the module covers.
    pub fn span(&self) -> u32 {
        self.head.span
    }

    /// A number that tells the file from others.
    pub fn fingerprint(&self) -> u64 {
        let [low, high] = self.head.fingerprint;
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline(always)]
    fn element<T: Copy>(&self, part: Part, index: u32) -> Option<T> {
        if index >= part.count {
            return None;
        }
        let at = u64::from(part.offset) + u64::from(index) * size_of::<T>() as u64;
        if at + size_of::<T>() as u64 > self.bytes.len() as u64 {
            return None;
        }
        // SAFETY: inside the bytes; callers ask for types that are valid in every bit pattern.
        Some(unsafe {
            self.bytes
                .as_ptr()
                .add(at as usize)
                .cast::<T>()
                .read_unaligned()
        })
    }

    /// Bytes `from..to` of a part.
    fn text(&self, part: Part, from: u32, to: u32) -> &'a [u8] {
        let to = to.min(part.count);
        let start = u64::from(part.offset) + u64::from(from);
        let end = u64::from(part.offset) + u64::from(to);
        self.bytes
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    /// The last element of a sorted part, within `low..high`, that is not above a value.
    #[inline]
    fn last_at(&self, part: Part, mut low: u32, mut high: u32, value: u32) -> Option<u32> {
        high = high.min(part.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.element::<u32>(part, middle)? <= value {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// The rule at an offset in the module; `None` when there is no row.
    #[inline]
    pub fn rule(&self, offset: u32) -> Option<Rule> {
        let head = &self.head;
        let block = offset.checked_sub(head.index_start)? >> INDEX_SHIFT;
        let first = self.element::<u32>(head.index, block)?;
        let last = self
            .element::<u32>(head.index, block + 1)
            .map_or(head.starts.count, |l| l.saturating_add(1));
        let row = self.last_at(head.starts, first, last, offset)?;
        let number = self.element::<u32>(head.numbers, row)?;
        self.element(head.rules, number)
    }

    /// The bytes of an expression.
    pub fn expression(&self, offset: u32, len: u32) -> &'a [u8] {
        self.text(self.head.expressions, offset, offset.saturating_add(len))
    }

    /// Whether names were prepared.
    pub fn has_symbols(&self) -> bool {
        self.head.symbols.count != 0
    }

    /// The symbol at or below an offset: name, distance from its start, bytes up to the next.
    pub fn symbol(&self, offset: u32) -> Option<(&'a [u8], u32, u32)> {
        let head = &self.head;
        if offset >= head.span {
            return None;
        }
        let index = self.last_at(head.symbols, 0, u32::MAX, offset)?;
        let start = self.element::<u32>(head.symbols, index)?;
        let next = self
            .element::<u32>(head.symbols, index.checked_add(1)?)
            .unwrap_or(head.span);
        let name = self.indexed(head.name_ends, head.names, index)?;
        Some((name, offset.wrapping_sub(start), next.wrapping_sub(start)))
    }

    /// The source file and line of an offset.
    pub fn line(&self, offset: u32) -> Option<(&'a [u8], u32)> {
        let head = &self.head;
        let row = self.last_at(head.lines, 0, u32::MAX, offset)?;
        let [file, line] = self.element::<[u32; 2]>(head.places, row)?;
        Some((self.indexed(head.path_ends, head.paths, file)?, line))
    }

    fn indexed(&self, ends: Part, bytes: Part, index: u32) -> Option<&'a [u8]> {
        let end = self.element::<u32>(ends, index)?;
        let start = match index.checked_sub(1) {
            Some(before) => self.element::<u32>(ends, before)?,
            None => 0,
        };
        Some(self.text(bytes, start, end))
    }

    /// The module's path.
    pub fn path(&self) -> &'a [u8] {
        self.text(self.head.path, 0, self.head.path.count)
    }

    /// The module's build-id; empty when it has none.
    pub fn build_id(&self) -> &'a [u8] {
        self.text(self.head.build_id, 0, self.head.build_id.count)
    }
}

/// A module in a process.
#[repr(C)]
#[derive(Debug)]
pub struct ModuleEntry {
    /// Its lowest address.
    pub start: AtomicU64,
    /// Behind its highest; written last, and first set to 0 when the module goes. 0: no module.
    pub end: AtomicU64,
    /// Address of its [`Table`].
    pub table: AtomicU64,
    /// Bytes of the table.
    pub table_len: AtomicU64,
}

/// What handlers in one process have for walking its stacks. Stands in memory that the process can't write, where the
/// tracer adds modules as they come; a private one for each process.
#[repr(C)]
#[derive(Debug)]
pub struct Directory {
    /// How a thread learns its FS base: 0 not at all, 1 from the word there, 2 by `rdfsbase`.
    pub thread_pointer: u32,
    /// Entries of `modules` ever used.
    pub count: AtomicU32,
    /// The main thread's stack: addresses in which nothing but that stack can be.
    pub stack: [u64; 2],
    /// Address of this process's [`KnownStacks`], or 0.
    pub known_stacks: u64,
    /// Code of ours that replaces return addresses, empty when there is none: see [`super::walk`].
    pub return_code: [u64; 2],
    /// Address of the [`FrameTable`](crate::frames::FrameTable) that says what such an address stands for.
    pub frame_table: u64,
    /// Of use to the tracer only: a copy of a sampled thread's stack, as its address in the process, the copy's address
    /// and its bytes.
    pub snapshot: [u64; 3],
    /// The modules, in no order.
    pub modules: [ModuleEntry; MODULES],
}

/// A module found in a [`Directory`].
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// Its lowest address.
    pub start: u64,
    /// Behind its highest.
    pub end: u64,
    /// Its table.
    pub table: Table<'a>,
}

impl Directory {
    /// The module that holds an address.
    ///
    /// # Safety
    /// The tables that entries name are mapped.
    #[inline]
    pub unsafe fn module(&self, address: u64) -> Option<Module<'_>> {
        // SAFETY: the caller's promise.
        unsafe { self.find(|start, end| address >= start && address < end, |_| true) }
    }

    /// The module that is made of a file, by the number that tells it from others.
    ///
    /// # Safety
    /// The tables that entries name are mapped.
    pub unsafe fn module_of(&self, fingerprint: u64) -> Option<Module<'_>> {
        // SAFETY: the caller's promise.
        unsafe {
            self.find(
                |_, end| end != 0,
                |table| table.fingerprint() == fingerprint,
            )
        }
    }

    /// # Safety
    /// The tables that entries name are mapped.
    #[inline(always)]
    unsafe fn find(
        &self,
        place: impl Fn(u64, u64) -> bool,
        is_wanted: impl Fn(&Table<'_>) -> bool,
    ) -> Option<Module<'_>> {
        let count = self.count.load(Acquire) as usize;
        for entry in self.modules.iter().take(count) {
            let end = entry.end.load(Acquire);
            let start = entry.start.load(Acquire);
            if !place(start, end) {
                continue;
            }
            let table = entry.table.load(Acquire) as *const u8;
            let len = entry.table_len.load(Acquire) as usize;
            if table.is_null() {
                continue;
            }
            // SAFETY: by the caller's promise.
            let bytes = unsafe { core::slice::from_raw_parts(table, len) };
            if let Some(table) = Table::new(bytes)
                && is_wanted(&table)
            {
                return Some(Module { start, end, table });
            }
        }
        None
    }
}

/// Entries of a [`KnownStacks`].
pub const KNOWN_STACKS: usize = 4096;

/// How far down from its FS base each thread's stack was once found to be mapped without a hole. In private memory of
/// the process that a forked child finds zeroed. Entry [`crate::layout::thread_hash`]: `(base ^ low, low)`, so that two
/// threads that share an entry can't take each other's half for their own.
#[repr(C)]
#[derive(Debug)]
pub struct KnownStacks {
    /// The entries.
    pub entries: [[AtomicU64; 2]; KNOWN_STACKS],
}
