//! What handlers call of it. Printing is deferred: a record holds the addresses, the tracer names them.

use core::sync::atomic::Ordering::Relaxed;

use super::memory::ProcessMemory;
use super::name::{self, style};
use super::table::Directory;
use super::walk::{Step, Walk};
use crate::layout::{Header, RecordKind, Slot};
use crate::raise;
use crate::ring;
use crate::string::Buffer;

/// Most frames that a walk takes, whatever MAXBACKTRACE says.
pub const MAX_FRAMES: u32 = 4096;

/// How the tracer prints a [`RecordKind::Stack`]: its `id`.
pub mod layout {
    /// ` 0xADDRESS : name+0xOFFSET/0xSIZE [module]`: `print_ubacktrace`.
    pub const FULL: u64 = 0;
    /// `name+0xOFFSET`, or the address: `print_ubacktrace_brief`.
    pub const BRIEF: u64 = 1;
    /// As the first with ` at file:line`: `print_ubacktrace_fileline`.
    pub const FILE_LINE: u64 = 2;
    /// ` 0xADDRESS : ` and what `usymdata` gives: `print_usyms`.
    pub const SYMBOLS: u64 = 3;
}

type Memory<'a> = ProcessMemory<'a>;

unsafe fn memory<'a>(slot: *mut Slot, directory: &'a Directory, sp: u64) -> Memory<'a> {
    // SAFETY: the slot is the caller's own.
    let pid = unsafe { (*slot).pid.load(Relaxed) };
    ProcessMemory::new(pid, directory, sp, cfg!(spile_blob))
}

/// A walk from the hit; `None` without registers.
unsafe fn begin<'a>(
    slot: *mut Slot,
    frame: *const u64,
    directory: *const Directory,
) -> Option<Walk<'a, Memory<'a>>> {
    if frame.is_null() || directory.is_null() {
        return None;
    }
    // SAFETY: by the caller's promise: 18 words, and a directory that outlives the handler.
    unsafe {
        let directory = &*directory;
        let memory = memory(slot, directory, *frame.add(4));
        Some(Walk::new(directory, frame, memory))
    }
}

unsafe fn limit(base: *mut u8) -> u32 {
    // SAFETY: the header is mapped.
    let limit = unsafe { (*base.cast::<Header>()).max_backtrace };
    limit.clamp(1, MAX_FRAMES)
}

/// The addresses of a walk, the hit's own first, at most `limit`.
#[inline]
fn each(mut walk: Walk<'_, Memory<'_>>, limit: u32, mut f: impl FnMut(u32, u64) -> bool) {
    for n in 0..limit {
        if !f(n, walk.address()) || n + 1 == limit || walk.step() == Step::End {
            return;
        }
    }
}

unsafe fn record(base: *mut u8, slot: *mut Slot, walk: Walk<'_, Memory<'_>>, how: u64) {
    // SAFETY: the record has room for the words that are written.
    unsafe {
        let limit = limit(base);
        let bytes = 8 * (1 + u64::from(limit));
        let at = ring::reserve(base, slot, bytes, RecordKind::Stack as u64, how).cast::<u64>();
        if at.is_null() {
            return;
        }
        at.write(identity(slot));
        let mut count = 1;
        each(walk, limit, |_, address| {
            at.add(count).write(address);
            count += 1;
            true
        });
        ring::commit_len(base, slot, 8 * count as u64);
    }
}

/// First word of a [`RecordKind::Stack`]: the number of the process record, and the process's id as it sees it.
unsafe fn identity(slot: *mut Slot) -> u64 {
    // SAFETY: the slot is the caller's own.
    unsafe { u64::from((*slot).process) << 32 | u64::from((*slot).pid.load(Relaxed)) }
}

/// See [`crate::abi::stack_print`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn print(
    base: *mut u8,
    slot: *mut Slot,
    frame: *const u64,
    directory: *const Directory,
    how: u64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(walk) = begin(slot, frame, directory) {
            record(base, slot, walk, how);
        }
    }
}

/// See [`crate::abi::stack_print_at`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn print_at(
    base: *mut u8,
    slot: *mut Slot,
    directory: *const Directory,
    how: u64,
    [pc, sp, fp]: [u64; 3],
) {
    if directory.is_null() {
        return;
    }
    // SAFETY: the caller's promise. Another stack pointer than the hit's is not known to be in mapped memory.
    unsafe {
        let directory = &*directory;
        let pid = (*slot).pid.load(Relaxed);
        let memory = ProcessMemory::new(pid, directory, sp, false);
        let walk = Walk::from_three(directory, pc, sp, fp, memory);
        record(base, slot, walk, how);
    }
}

/// Digits of an address with `0x`.
fn width(address: u64) -> usize {
    2 + ((64 - address.leading_zeros() as usize).div_ceil(4)).max(1)
}

/// See [`crate::abi::stack_text`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn text(
    base: *mut u8,
    slot: *mut Slot,
    frame: *const u64,
    directory: *const Directory,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(walk) = begin(slot, frame, directory) {
            each(walk, limit(base), |_, address| {
                // Half an address would be another one.
                let fits = to.room() > width(address);
                if fits {
                    to.put(b"0x").hex(address, 0).push(b' ');
                }
                fits
            });
        }
    }
    to.len()
}

unsafe fn too_deep(slot: *mut Slot, level: i64) {
    // SAFETY: the slot is the caller's own.
    unsafe {
        raise::with(slot, |t| {
            t.put(b"reached end of stack before unwinding to level ")
                .decimal(level, 0);
        });
    }
}

/// See [`crate::abi::stack_callers`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn callers(
    base: *mut u8,
    slot: *mut Slot,
    frame: *const u64,
    directory: *const Directory,
    levels: i64,
    to: &mut Buffer,
) -> u64 {
    let mut got = 0;
    let mut full = false;
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(walk) = begin(slot, frame, directory) {
            each(walk, limit(base), |n, address| {
                if levels != -1 && i64::from(n) > levels {
                    return false;
                }
                let gap = usize::from(n > 0);
                full = to.room() < width(address) + gap;
                if !full {
                    if n > 0 {
                        to.push(b' ');
                    }
                    to.put(b"0x").hex(address, 0);
                    got = i64::from(n) + 1;
                }
                !full
            });
        }
        if levels != -1 && got <= levels && !full {
            too_deep(slot, levels);
        }
    }
    to.len()
}

/// See [`crate::abi::stack_frame`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn frame_at(
    base: *mut u8,
    slot: *mut Slot,
    frame: *const u64,
    directory: *const Directory,
    level: i64,
) -> i64 {
    let mut found = None;
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(walk) = begin(slot, frame, directory) {
            each(walk, limit(base), |n, address| {
                if i64::from(n) == level {
                    found = Some(address);
                }
                i64::from(n) < level
            });
        }
        match found {
            Some(address) => address as i64,
            None => {
                too_deep(slot, level);
                0
            }
        }
    }
}

/// See [`crate::abi::stack_names`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn names(
    base: *mut u8,
    slot: *mut Slot,
    frame: *const u64,
    directory: *const Directory,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(walk) = begin(slot, frame, directory) {
            each(walk, limit(base), |_, address| {
                name::describe(&*directory, address, style::SIMPLE, to);
                to.push(b'\n');
                to.room() > 0
            });
        }
    }
    to.len()
}

/// See [`crate::abi::address_name`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn address_name(
    slot: *mut Slot,
    directory: *const Directory,
    address: u64,
    how: u64,
    to: &mut Buffer,
) -> u64 {
    if directory.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe {
        let is_of_module = how == style::MODULE || how == style::BUILD_ID;
        if !name::describe(&*directory, address, how, to) && is_of_module {
            raise::message(slot, b"module cannot be found");
        }
    }
    to.len()
}

/// See [`crate::abi::given_text`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn given_text(directory: *const Directory, to: &mut Buffer) -> u64 {
    if !directory.is_null() {
        // SAFETY: the caller's promise; a snapshot's second and third words say where in this process it is.
        unsafe {
            let [_, address, len] = (*directory).snapshot;
            let address = address as *const u8;
            to.put(crate::string::bytes(&address, len));
        }
    }
    to.len()
}

/// See [`crate::abi::address_in_module`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn address_in_module(slot: *mut Slot, directory: *const Directory, address: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let found = match directory.is_null() {
            true => None,
            false => (*directory).module(address),
        };
        match found {
            Some(module) => address - module.start,
            None => {
                raise::message(slot, b"module cannot be found");
                0
            }
        }
    }
}

/// See [`crate::abi::module_address`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn module_address(
    slot: *mut Slot,
    directory: *const Directory,
    fingerprint: u64,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let start = module_start(directory, fingerprint);
        if start == 0 {
            raise::message(slot, b"the module of this variable is not loaded here");
        }
        start
    }
}

/// See [`crate::abi::module_start`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn module_start(directory: *const Directory, fingerprint: u64) -> u64 {
    if directory.is_null() {
        return 0;
    }
    // SAFETY: the caller's promise.
    let found = unsafe { (*directory).module_of(fingerprint) };
    found.map_or(0, |module| module.start)
}

/// The next word of a list of hexadecimal addresses.
fn next(rest: &mut &[u8]) -> Option<u64> {
    let mut text = *rest;
    while let Some((b' ' | b'\n' | b'\t', tail)) = text.split_first() {
        text = tail;
    }
    let len = text.iter().take_while(|b| !b.is_ascii_whitespace()).count();
    let (word, tail) = text.split_at_checked(len)?;
    *rest = tail;
    (len > 0).then(|| crate::text::strtol(word, 16) as u64)
}

/// See [`crate::abi::addresses_print`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn print_addresses(base: *mut u8, slot: *mut Slot, mut list: &[u8]) {
    // Each takes a digit and a blank at least.
    let most = list.len() as u64 / 2 + 1;
    // SAFETY: the record has room for the words that are written.
    unsafe {
        let bytes = 8 * (1 + most);
        let kind = RecordKind::Stack as u64;
        let at = ring::reserve(base, slot, bytes, kind, layout::SYMBOLS).cast::<u64>();
        if at.is_null() {
            return;
        }
        at.write(identity(slot));
        let mut count = 1;
        while count <= most
            && let Some(address) = next(&mut list)
        {
            at.add(count as usize).write(address);
            count += 1;
        }
        ring::commit_len(base, slot, 8 * count);
    }
}

/// See [`crate::abi::addresses_names`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn name_addresses(directory: *const Directory, mut list: &[u8], to: &mut Buffer) -> u64 {
    if directory.is_null() {
        return 0;
    }
    while to.room() > 0
        && let Some(address) = next(&mut list)
    {
        to.put(b" 0x").hex(address, 0).put(b" : ");
        // SAFETY: the caller's promise.
        unsafe { name::describe(&*directory, address, style::DATA, to) };
        to.push(b'\n');
    }
    to.len()
}
