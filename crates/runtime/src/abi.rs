//! The functions that handlers call, all `extern "C"` (System V) with **word-sized parameters only** (pointers, `u64`,
//! `i64`) and one word, two words (`rax:rdx`) or nothing as a result, so that a caller needs no more of a signature
//! than [`Function::params`] and [`Function::results`].
//!
//! Conventions:
//! - `arena` is the arena's start in the calling process, `slot` the calling thread's [`Slot`].
//! - Offsets of maps, shards, shapes, formats and locks are in bytes from the arena's start.
//! - Strings go in as address and length, and come out through `(dst, cap)`: at most `cap` bytes of content are
//!   written (a caller gives `MAXSTRINGLEN - 1`), no NUL is added, the length is the result.
//! - A function that fails stores the error in the slot (`slot.error != 0`); the generated code looks there after the
//!   functions marked *may raise*, stores `slot.error_location` itself, and branches to its catch block or leaves.
//! - Keys are arrays of [`Value`]; a mask has bit `i` set when key `i` is given (clear: `*`).
//!
//! # Safety
//! Every function requires that `arena` is a mapped arena whose header says its size, that `slot` is a slot in it
//! which belongs to the calling thread, and that addresses and lengths describe memory the caller may use.
#![allow(clippy::missing_safety_doc)]

use crate::frames::{FrameTable, ReturnSite};
use crate::layout::{Header, Slot, StatCell, ThreadTable, Value};
use crate::stack::{backtrace, table::Directory};
use crate::string::{Buffer, bytes};
use crate::{
    facts, float, format, frames, indent, lock, map, memory, proc_files, raise, regex, registers,
    ring, shard, signal_stack, site, slots, stat, string, text, time, timing, user_string, wide,
};

/// A string result in two registers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Str {
    /// Address of the bytes; may be null when `len` is 0.
    pub address: *const u8,
    /// Number of bytes.
    pub len: u64,
}

/// A row of [`FUNCTIONS`].
#[derive(Debug)]
pub struct Function {
    /// Name; the blob's symbol is this with `spile_` in front.
    pub name: &'static str,
    /// Its address in this process's ordinary build.
    pub address: Address,
    /// Number of parameters, each one word.
    pub params: usize,
    /// Number of words in the result: 0, 1 or 2.
    pub results: usize,
}

/// Address of a function of this build.
#[derive(Clone, Copy, Debug)]
pub struct Address(pub *const ());

// SAFETY: the address of a function is the same, and valid, for every thread.
unsafe impl Sync for Address {}

/// The row of that name.
#[cfg(not(spile_blob))]
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}

macro_rules! abi {
    ($( $(#[$doc:meta])* fn $name:ident($($p:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block )*) => {
        $(
            $(#[$doc])*
            #[cfg_attr(spile_blob, unsafe(export_name = concat!("spile_", stringify!($name))))]
            pub unsafe extern "C" fn $name($($p: $t),*) $(-> $r)? {
                // SAFETY: the conditions are the caller's, see the module's documentation.
                #[allow(unused_unsafe)]
                unsafe {
                    $body
                }
            }
        )*
        /// Every function that handlers may call.
        #[cfg(not(spile_blob))]
        pub static FUNCTIONS: &[Function] = &[$(Function {
            name: stringify!($name),
            address: Address($name as *const ()),
            params: 0 $(+ { stringify!($p); 1 })*,
            results: 0 $(+ core::mem::size_of::<$r>() / 8)?,
        }),*];
    };
}

abi! {
    // ---- slots, locks, errors ----

    /// The calling thread's slot, found in the process's `table` or newly taken (also from a dead thread). `fsbase` is
    /// the thread's FS base, which names it; `process` the index of its process record; `sp` the program's stack pointer,
    /// for the case that the slot is in a handler already. Null when none is left (counted in the header). The slot is returned not busy, its ring without a half-written record.
    fn slot_acquire(arena: *mut u8, table: *mut ThreadTable, fsbase: u64, process: u64, sp: u64) -> *mut Slot {
        slots::acquire(arena, table, fsbase, process, sp)
    }
    /// Notes where the program's stack has room for handlers, and where the thread is known not to be on its alternate signal
    /// stack. `fsbase` is 0 where the thread's control block may not be at the top of its stack.
    fn signals_learn(slot: *mut Slot, fsbase: u64) { signal_stack::learn(slot, fsbase) }
    /// Takes the lock at `lock` (a `u64`): 1, or 0 when it could not be had in about 100 ms (the handler releases what
    /// it holds, adds 1 to `slot.skipped_locked` and leaves). A dead owner's lock is taken over.
    fn lock_acquire(arena: *mut u8, slot: *mut Slot, lock: u64) -> u64 { lock::acquire(arena, slot, lock) as u64 }
    /// Gives the lock back.
    fn lock_release(arena: *mut u8, slot: *mut Slot, lock: u64) { lock::release(arena, slot, lock) }
    /// To be called when an error leaves the handler: writes an Error record (location, code, site, text), counts it
    /// in the header, ends the session when there are more than MAXERRORS, and clears `slot.error`.
    fn handler_error(arena: *mut u8, slot: *mut Slot, site: u64) { raise::leave(arena, slot, site) }
    /// Raises one of [`crate::raise::Canned`] (by number): division by 0, MAXACTION, MAXNESTING, … *Raises.*
    fn raise_canned(arena: *mut u8, slot: *mut Slot, which: u64) { raise::canned(arena, slot, which) }
    /// Raises a run-time error with this text. *Raises.*
    fn raise_text(slot: *mut Slot, text: *const u8, len: u64) { raise::message(slot, bytes(&text, len)) }
    /// `error()`. *Raises.*
    fn error(slot: *mut Slot, text: *const u8, len: u64) { raise::script(slot, bytes(&text, len)) }
    /// For `catch (m)`: gives the error's text and clears the error. With `dst` null only clears.
    fn catch_error(slot: *mut Slot, dst: *mut u8, cap: u64) -> u64 { raise::catch(slot, &mut Buffer::new(dst, cap)) }
    /// Reserves `bytes` (rounded up to 8) of the slot's string stack; null when it is full. The caller saves
    /// `slot.string_top` before and restores it after. *May raise.*
    fn string_reserve(arena: *mut u8, slot: *mut Slot, bytes: u64) -> *mut u8 { slots::string_reserve(arena, slot, bytes) }

    // ---- calls that have not returned ----

    /// A record for the values that a site saves for the call with this return slot (the address of its return
    /// address): where they are to be written, null when there is no room. Replaces what was saved for the slot.
    fn frame_save(table: *mut FrameTable, return_slot: u64, site: u64) -> *mut u8 { frames::save(table, return_slot, site) }
    /// What was saved for that call, null when it was entered before there was a probe.
    fn frame_find(table: *mut FrameTable, return_slot: u64, site: u64) -> *mut u8 { frames::find(table, return_slot, site) }
    /// Gives back the record whose values these are.
    fn frame_drop(values: *mut u8) { frames::drop(values) }
    /// Copies a string into a record: its length, then its bytes, at most `cap` of them.
    fn frame_string(dst: *mut u8, cap: u64, text: *const u8, len: u64) {
        dst.cast::<u64>().write(len.min(cap));
        Buffer::new(dst.add(8), cap).put(bytes(&text, len));
    }
    /// Called at a function's entry or at its jump to another one: sees to it that `site` is run when the call
    /// returns, by replacing the return address.
    fn return_intercept(frame: *const u64, site: *const ReturnSite) { frames::intercept(frame, site) }
    /// Called by the return trampoline: runs what is pending for the return slot in the frame's rsp; the real return
    /// address.
    fn return_arrived(table: *mut FrameTable, frame: *mut u64) -> u64 { frames::arrived(table, frame) }

    // ---- maps ----

    /// The value cell of the element with these keys, or null.
    fn map_find(arena: *mut u8, slot: *mut Slot, map: u64, keys: *const Value) -> *mut u8 {
        let _ = slot;
        map::find(arena, map, keys)
    }
    /// The value cell, made (zero, empty string, empty statistic) when absent; null when the array is full. *May raise.*
    fn map_insert(arena: *mut u8, slot: *mut Slot, map: u64, keys: *const Value) -> *mut u8 {
        map::insert(arena, slot, map, keys)
    }
    /// [`map_find`] for a map of exactly one long key.
    fn map_find_i64(arena: *mut u8, slot: *mut Slot, map: u64, key: i64) -> *mut u8 {
        let _ = slot;
        map::find_i64(arena, map, key)
    }
    /// [`map_insert`] for a map of exactly one long key. *May raise.*
    fn map_insert_i64(arena: *mut u8, slot: *mut Slot, map: u64, key: i64) -> *mut u8 {
        map::insert_i64(arena, slot, map, key)
    }
    /// Removes one element, if there.
    fn map_delete(arena: *mut u8, slot: *mut Slot, map: u64, keys: *const Value) {
        let _ = slot;
        map::delete(arena, map, keys)
    }
    /// Removes every element whose given keys are equal.
    fn map_delete_slice(arena: *mut u8, slot: *mut Slot, map: u64, keys: *const Value, mask: u64) {
        let _ = slot;
        map::delete_slice(arena, map, keys, mask)
    }
    /// 1 when an element with the given keys exists (`[k, *] in a`).
    fn map_contains_slice(arena: *mut u8, slot: *mut Slot, map: u64, keys: *const Value, mask: u64) -> u64 {
        let _ = slot;
        map::contains_slice(arena, map, keys, mask) as u64
    }
    /// Removes every element.
    fn map_clear(arena: *mut u8, slot: *mut Slot, map: u64) {
        let _ = slot;
        map::clear(arena, map)
    }
    /// Starts a `foreach`: `sort` is [`crate::map::Sort::encode`]d, `limit` < 0 means none (0 gives no round; a script's negative limit is to be passed as 0), `keys`
    /// may be null when `mask` is 0. The handle goes to `map_iter_next`; null: nothing to do, or an error. *May raise.*
    fn map_iter_begin(arena: *mut u8, slot: *mut Slot, map: u64, sort: u64, limit: i64, keys: *const Value, mask: u64) -> *mut u8 {
        map::iter_begin(arena, slot, map, sort, limit, keys, mask)
    }
    /// The next entry (its keys and value at the offsets of [`crate::map::MapLayout`]), or null at the end.
    fn map_iter_next(arena: *mut u8, slot: *mut Slot, iter: *mut u8) -> *mut u8 { map::iter_next(arena, slot, iter) }
    /// Frees the iteration (also one left early; nested ones begun after it are freed with it). Null is allowed.
    fn map_iter_end(arena: *mut u8, slot: *mut Slot, iter: *mut u8) { map::iter_end(arena, slot, iter) }

    // ---- per-thread shards ----

    /// The calling thread's cell, in the current epoch's half, for these keys; null when the array is full. *May raise.*
    fn shard_cell(arena: *mut u8, slot: *mut Slot, shard: u64, keys: *const Value) -> *mut u8 {
        shard::cell(arena, slot, shard, keys)
    }
    /// [`shard_cell`] for exactly one long key. *May raise.*
    fn shard_cell_i64(arena: *mut u8, slot: *mut Slot, shard: u64, key: i64) -> *mut u8 {
        shard::cell_i64(arena, slot, shard, key)
    }

    // ---- statistics ----

    /// `<<<`. `shape` is the offset of the [`crate::layout::StatShape`]; 0: no histogram and no variance.
    fn stat_add(arena: *mut u8, cell: *mut StatCell, shape: u64, value: i64) { stat::add(arena, cell, shape, value) }
    /// `@count` 0, `@sum` 1, `@min` 2, `@max` 3, `@avg` 4, `@variance` 5 (of an array's element 6). Null `cell` is an empty statistic. *May raise*
    /// "empty aggregate" (all but count and sum).
    fn stat_read(arena: *mut u8, slot: *mut Slot, cell: *const StatCell, shape: u64, op: u64) -> i64 {
        stat::read(arena, slot, cell, shape, op)
    }
    /// `@hist_…(s)[index]`. *May raise.*
    fn stat_bucket(arena: *mut u8, slot: *mut Slot, cell: *const StatCell, shape: u64, index: i64) -> i64 {
        stat::bucket(arena, slot, cell, shape, index)
    }
    /// Empties a statistic with its histogram.
    fn stat_clear(arena: *mut u8, cell: *mut StatCell, shape: u64) { stat::clear(arena, cell, shape) }
    /// Bytes of a cell of that shape (head and buckets), as copied into a print record.
    fn stat_size(arena: *mut u8, shape: u64) -> u64 { stat::size(arena, shape) }
    /// Starts a `foreach` over a histogram's buckets: `sort` as for maps (key 0: bucket, value: its count). *May raise.*
    fn hist_iter_begin(arena: *mut u8, slot: *mut Slot, cell: *const StatCell, shape: u64, sort: u64, limit: i64) -> *mut u8 {
        map::hist_iter_begin(arena, slot, cell, shape, sort, limit)
    }
    /// The next bucket's index, or -1 at the end. (Ended with [`map_iter_end`].)
    fn hist_iter_next(arena: *mut u8, slot: *mut Slot, iter: *mut u8) -> i64 { map::hist_iter_next(arena, slot, iter) }

    // ---- strings ----

    /// Copies `len` bytes (no overlap).
    fn copy(dst: *mut u8, src: *const u8, len: u64) { string::copy_bytes(dst, src, len as usize) }
    /// Sets `len` bytes to 0.
    fn zero(dst: *mut u8, len: u64) { string::zero_bytes(dst, len as usize) }
    /// Stores a string in a [`crate::layout::StrBuf`] of the arena (global, map value), cut at `max_string - 1`.
    fn strbuf_store(arena: *mut u8, dst: *mut u8, s: *const u8, len: u64) { string::store(arena, dst, bytes(&s, len)) }
    /// The string in a [`crate::layout::StrBuf`] of the arena, its length checked. It stays in place (no copy).
    fn strbuf_load(arena: *mut u8, src: *const u8) -> Str { string::load(arena, src) }
    /// Copies a string.
    fn str_copy(dst: *mut u8, cap: u64, s: *const u8, len: u64) -> u64 { Buffer::new(dst, cap).put(bytes(&s, len)).len() }
    /// `a . b`. `a` may lie at `dst` already.
    fn str_concat(dst: *mut u8, cap: u64, a: *const u8, alen: u64, b: *const u8, blen: u64) -> u64 {
        string::concat(dst, cap, a, alen, b, blen)
    }
    /// Bytewise order: -1, 0 or 1.
    fn str_compare(a: *const u8, alen: u64, b: *const u8, blen: u64) -> i64 { string::compare(bytes(&a, alen), bytes(&b, blen)) }
    /// `substr(s, start, length)`.
    fn substr(dst: *mut u8, cap: u64, s: *const u8, len: u64, start: i64, length: i64) -> u64 {
        text::substr(&mut Buffer::new(dst, cap), bytes(&s, len), start, length)
    }
    /// `stringat(s, pos)`. *May raise.*
    fn stringat(slot: *mut Slot, s: *const u8, len: u64, pos: i64) -> i64 { text::stringat(slot, bytes(&s, len), pos) }
    /// `strtol(s, base)`.
    fn strtol(s: *const u8, len: u64, base: i64) -> i64 { text::strtol(bytes(&s, len), base) }
    /// `isinstr(a, b)`: 1 when `b` occurs in `a`.
    fn isinstr(a: *const u8, alen: u64, b: *const u8, blen: u64) -> i64 { (text::strpos(bytes(&a, alen), bytes(&b, blen)) >= 0) as i64 }
    /// `strpos(a, b)`: where `b` first occurs in `a`, or -1.
    fn strpos(a: *const u8, alen: u64, b: *const u8, blen: u64) -> i64 { text::strpos(bytes(&a, alen), bytes(&b, blen)) }
    /// `str_replace(s, old, new)`.
    fn str_replace(dst: *mut u8, cap: u64, s: *const u8, len: u64, old: *const u8, olen: u64, new: *const u8, nlen: u64) -> u64 {
        text::replace(&mut Buffer::new(dst, cap), bytes(&s, len), bytes(&old, olen), bytes(&new, nlen))
    }
    /// `text_str(s)`: unprintable bytes as escapes.
    fn text_str(dst: *mut u8, cap: u64, s: *const u8, len: u64) -> u64 {
        text::escape(&mut Buffer::new(dst, cap), bytes(&s, len), 0, false, false)
    }
    /// `text_strn(s, n, quoted)`.
    fn text_strn(dst: *mut u8, cap: u64, s: *const u8, len: u64, n: i64, quoted: i64) -> u64 {
        text::escape(&mut Buffer::new(dst, cap), bytes(&s, len), n, quoted != 0, false)
    }
    /// `tokenize(s, delimiters)`: the first token of a new string, or of the rest when `s` is empty.
    fn tokenize(arena: *mut u8, slot: *mut Slot, dst: *mut u8, cap: u64, s: *const u8, len: u64, d: *const u8, dlen: u64) -> u64 {
        text::tokenize(arena, slot, &mut Buffer::new(dst, cap), bytes(&s, len), bytes(&d, dlen))
    }
    /// `isdigit(s)`: 1 when the first byte is a digit.
    fn isdigit(s: *const u8, len: u64) -> i64 { bytes(&s, len).first().is_some_and(u8::is_ascii_digit) as i64 }
    /// `errno_str(n)`: the constant's name, as "ENOENT".
    fn errno_str(dst: *mut u8, cap: u64, n: i64) -> u64 { text::errno_name(&mut Buffer::new(dst, cap), n) }
    /// `ctime(seconds)`: as "Thu Jan  1 00:00:00 1970". *May raise.*
    fn ctime(slot: *mut Slot, dst: *mut u8, cap: u64, seconds: i64) -> u64 {
        time::ctime(&mut Buffer::new(dst, cap), seconds).unwrap_or_else(|| {
            raise::message(slot, b"Time cannot be converted");
            0
        })
    }

    // ---- regular expressions ----

    /// `s =~ pattern`, the automaton at that offset: 1 or 0. One that finds groups leaves what was found in the slot.
    fn regex_match(arena: *mut u8, slot: *mut Slot, automaton: u64, s: *const u8, len: u64) -> u64 {
        regex::matches(arena, slot, automaton, bytes(&s, len))
    }
    /// `matched(n)`. *May raise.*
    fn matched(arena: *mut u8, slot: *mut Slot, n: i64, dst: *mut u8, cap: u64) -> u64 {
        regex::matched(arena, slot, n, &mut Buffer::new(dst, cap))
    }
    /// `ngroups()`. *May raise.*
    fn ngroups(arena: *mut u8, slot: *mut Slot) -> i64 { regex::groups(arena, slot) }

    // ---- floating point ----

    /// One of [`crate::float::Operation`] on the bits of two numbers.
    fn float_operation(which: u64, a: i64, b: i64) -> i64 { float::operation(which, a, b) }
    /// `fp_to_long(x, mode, exact)`.
    fn float_to_long(a: i64, mode: i64) -> i64 { float::to_long(a, mode) }
    /// `fp_to_string(x, precision)`.
    fn float_to_text(dst: *mut u8, cap: u64, a: i64, precision: i64) -> u64 {
        float::to_text(&mut Buffer::new(dst, cap), a, precision)
    }
    /// `string_to_fp(s)`. *May raise.*
    fn float_from_text(slot: *mut Slot, s: *const u8, len: u64) -> i64 { float::from_text(slot, bytes(&s, len)) }

    // ---- output ----

    /// Begins a record of `kind` ([`crate::layout::RecordKind`]) with a payload of `bytes`; the payload's address, or
    /// null when the ring is full (counted). Ended by [`ring_commit`]; nothing may begin another record in between.
    fn ring_reserve(arena: *mut u8, slot: *mut Slot, bytes: u64, kind: u64, id: u64) -> *mut u8 {
        ring::reserve(arena, slot, bytes, kind, id)
    }
    /// Publishes the record begun last.
    fn ring_commit(arena: *mut u8, slot: *mut Slot) { ring::commit(arena, slot) }
    /// Publishes the record begun last with a payload cut to `bytes` (≤ those reserved).
    fn ring_commit_len(arena: *mut u8, slot: *mut Slot, bytes: u64) { ring::commit_len(arena, slot, bytes) }
    /// Writes one string argument (length word, bytes, padding) at `at`; the address after it. For argument blocks
    /// whose size was computed as `8 + (len + 7 & !7)` per string.
    fn args_string(at: *mut u8, s: *const u8, len: u64) -> *mut u8 { format::put_string(at, bytes(&s, len)) }
    /// Writes one histogram argument (shape offset, cell, buckets) at `at`; the address after it. Its size is
    /// `8 + stat_size(shape)`. A null `cell` is an empty statistic.
    fn args_hist(arena: *mut u8, at: *mut u8, cell: *const StatCell, shape: u64) -> *mut u8 {
        format::put_histogram(arena, at, cell, shape)
    }
    /// Writes the argument of `%m`/`%M` (like a string): `len` bytes of memory at `address`; the address after it.
    /// *May raise* (then the argument is empty).
    fn args_memory(arena: *mut u8, slot: *mut Slot, at: *mut u8, address: u64, len: u64) -> *mut u8 {
        memory::put_argument(arena, slot, at, address, len)
    }
    /// `sprint…`: formats an argument block.
    fn sprint(arena: *mut u8, slot: *mut Slot, format: u64, block: *const u8, len: u64, dst: *mut u8, cap: u64) -> u64 {
        let _ = slot;
        format::sprint(arena, format, bytes(&block, len), &mut Buffer::new(dst, cap))
    }
    /// `print(s)` of a string without a format: a Print record with id 0 and one string.
    fn print_text(arena: *mut u8, slot: *mut Slot, s: *const u8, len: u64) { ring::text(arena, slot, crate::layout::RecordKind::Print, bytes(&s, len)) }
    /// `print_char(c)`.
    fn print_char(arena: *mut u8, slot: *mut Slot, c: i64) { ring::text(arena, slot, crate::layout::RecordKind::Print, &[c as u8]) }
    /// `warn()`.
    fn warn(arena: *mut u8, slot: *mut Slot, s: *const u8, len: u64) { ring::text(arena, slot, crate::layout::RecordKind::Warn, bytes(&s, len)) }
    /// `log()` and `ftrace()`.
    fn log(arena: *mut u8, slot: *mut Slot, s: *const u8, len: u64) { ring::text(arena, slot, crate::layout::RecordKind::Log, bytes(&s, len)) }
    /// `system()`: the tracer runs the command.
    fn system(arena: *mut u8, slot: *mut Slot, s: *const u8, len: u64) {
        ring::text(arena, slot, crate::layout::RecordKind::System, bytes(&s, len))
    }
    /// What a handler in the tracer was given to read, as a text; empty elsewhere.
    fn given_text(tables: *const Directory, dst: *mut u8, cap: u64) -> u64 { backtrace::given_text(tables, &mut Buffer::new(dst, cap)) }
    /// `$value = s` in a `procfs` probe.
    fn file_set(arena: *mut u8, slot: *mut Slot, s: *const u8, len: u64) { ring::text(arena, slot, crate::layout::RecordKind::FileSet, bytes(&s, len)) }
    /// `$value .= s` in a `procfs` probe.
    fn file_append(arena: *mut u8, slot: *mut Slot, s: *const u8, len: u64) { ring::text(arena, slot, crate::layout::RecordKind::FileAppend, bytes(&s, len)) }
    /// `switch_file()`.
    fn switch_file(arena: *mut u8, slot: *mut Slot) { ring::text(arena, slot, crate::layout::RecordKind::SwitchFile, &[]) }
    /// `raise()`: the tracer sends the signal to this thread, as one that came at once would run the program's signal
    /// handler in the middle of ours.
    fn raise_signal(arena: *mut u8, slot: *mut Slot, signal: i64) { ring::signal(arena, slot, signal) }
    /// `print_regs()`; nothing with a null frame.
    fn print_regs(arena: *mut u8, slot: *mut Slot, frame: *const u64) { registers::print(arena, slot, frame) }

    // ---- stacks and names ----
    // `tables` is the process's directory; null or a null frame give nothing.

    /// `print_ubacktrace()` and its kin: a Stack record of this layout ([`backtrace::layout`]).
    fn stack_print(arena: *mut u8, slot: *mut Slot, frame: *const u64, tables: *const Directory, layout: u64) {
        backtrace::print(arena, slot, frame, tables, layout)
    }
    /// The same from another place than the hit's.
    fn stack_print_at(arena: *mut u8, slot: *mut Slot, tables: *const Directory, layout: u64, pc: u64, sp: u64, fp: u64) {
        backtrace::print_at(arena, slot, tables, layout, [pc, sp, fp])
    }
    /// `ubacktrace()`: `0x…` and a blank for each frame.
    fn stack_text(arena: *mut u8, slot: *mut Slot, frame: *const u64, tables: *const Directory, dst: *mut u8, cap: u64) -> u64 {
        backtrace::text(arena, slot, frame, tables, &mut Buffer::new(dst, cap))
    }
    /// `ucallers(n)`: the hit's address and `n` callers (-1: all), blanks between. *May raise* "reached end of stack".
    fn stack_callers(arena: *mut u8, slot: *mut Slot, frame: *const u64, tables: *const Directory, n: i64, dst: *mut u8, cap: u64) -> u64 {
        backtrace::callers(arena, slot, frame, tables, n, &mut Buffer::new(dst, cap))
    }
    /// `ustack(n)`: one address. *May raise* "reached end of stack".
    fn stack_frame(arena: *mut u8, slot: *mut Slot, frame: *const u64, tables: *const Directory, n: i64) -> i64 {
        backtrace::frame_at(arena, slot, frame, tables, n)
    }
    /// `sprint_ubacktrace()`: a line for each frame.
    fn stack_names(arena: *mut u8, slot: *mut Slot, frame: *const u64, tables: *const Directory, dst: *mut u8, cap: u64) -> u64 {
        backtrace::names(arena, slot, frame, tables, &mut Buffer::new(dst, cap))
    }
    /// `usymname()`, `usymdata()`, `umodname()` by [`crate::stack::name::style`]. *May raise* (`umodname`).
    fn address_name(slot: *mut Slot, tables: *const Directory, address: u64, style: u64, dst: *mut u8, cap: u64) -> u64 {
        backtrace::address_name(slot, tables, address, style, &mut Buffer::new(dst, cap))
    }
    /// Raises unless there may be an argument of that number.
    fn argument_number(slot: *mut Slot, number: i64) {
        registers::argument_number(slot, number)
    }
    /// `umodaddr()`: how far an address lies from the start of its module. May raise.
    fn address_in_module(slot: *mut Slot, tables: *const Directory, address: u64) -> u64 {
        backtrace::address_in_module(slot, tables, address)
    }
    /// `usymline()`, `usymfile()`, `usymfileline()`: as [`address_name`], from the line tables.
    fn address_line(slot: *mut Slot, tables: *const Directory, address: u64, style: u64, dst: *mut u8, cap: u64) -> u64 {
        backtrace::address_name(slot, tables, address, style, &mut Buffer::new(dst, cap))
    }
    /// The lowest address of a module, by the number that tells its file from others. *May raise.*
    fn module_address(slot: *mut Slot, tables: *const Directory, fingerprint: u64) -> u64 {
        backtrace::module_address(slot, tables, fingerprint)
    }
    /// As [`module_address`], but 0 where it is not loaded. Never raises.
    fn module_start(tables: *const Directory, fingerprint: u64) -> u64 {
        backtrace::module_start(tables, fingerprint)
    }
    /// `print_usyms()`: a Stack record of the addresses listed in a string.
    fn addresses_print(arena: *mut u8, slot: *mut Slot, list: *const u8, len: u64) {
        backtrace::print_addresses(arena, slot, bytes(&list, len))
    }
    /// `sprint_usyms()`.
    fn addresses_names(tables: *const Directory, list: *const u8, len: u64, dst: *mut u8, cap: u64) -> u64 {
        backtrace::name_addresses(tables, bytes(&list, len), &mut Buffer::new(dst, cap))
    }

    // ---- the program's memory ----

    /// Copies `len` bytes at `address` of the program: 0 or a negative errno. Never raises.
    fn read_user(arena: *mut u8, slot: *mut Slot, dst: *mut u8, address: u64, len: u64) -> i64 {
        memory::read(arena, slot, dst, address, len)
    }
    /// Loads a target variable: `kind` is its bytes (1, 2, 4, 8), + 0x100 when signed. *May raise* "read fault".
    fn load_user(arena: *mut u8, slot: *mut Slot, address: u64, kind: u64) -> i64 { memory::load(arena, slot, address, kind) }
    /// The calling thread's thread pointer: the word at `%fs:0`, for thread-local variables.
    fn thread_pointer() -> u64 { registers::thread_pointer() }
    /// As [`load_user`], but `default` on a fault: `user_long()` and its kin (0).
    fn load_user_or(arena: *mut u8, slot: *mut Slot, address: u64, kind: u64, default: i64) -> i64 {
        memory::load_or(arena, slot, address, kind, default)
    }
    /// Stores to a target variable (guru mode); `size` 1, 2, 4 or 8. *May raise.*
    fn store_user(arena: *mut u8, slot: *mut Slot, address: u64, size: u64, value: i64) { memory::store(arena, slot, address, size, value) }
    /// `set_user_string(a, s)`: the bytes and a NUL, at most `n` bytes in all. *May raise.*
    fn store_user_string(arena: *mut u8, slot: *mut Slot, address: u64, s: *const u8, len: u64, n: i64) {
        user_string::store_string(arena, slot, address, bytes(&s, len), n)
    }
    /// `user_string_utf16(a)` (`unit` 2) and `user_string_utf32(a)` (4). *May raise.*
    fn user_wide(arena: *mut u8, slot: *mut Slot, address: u64, unit: u64, dst: *mut u8, cap: u64) -> u64 {
        wide::string(arena, slot, address, unit, &mut Buffer::new(dst, cap))
    }
    /// As [`user_wide`], but the text on a fault or a mistake in the encoding.
    fn user_wide2(arena: *mut u8, slot: *mut Slot, address: u64, unit: u64, dst: *mut u8, cap: u64, text: *const u8, len: u64) -> u64 {
        wide::string_or(arena, slot, address, unit, &mut Buffer::new(dst, cap), bytes(&text, len))
    }
    /// As [`user_wide`], in double quotes with escapes; the address in hexadecimal when it can't be read.
    fn user_wide_quoted(arena: *mut u8, slot: *mut Slot, address: u64, unit: u64, dst: *mut u8, cap: u64) -> u64 {
        wide::quoted(arena, slot, address, unit, &mut Buffer::new(dst, cap))
    }
    /// `user_buffer_quoted(a, inlen, outlen)`: the address in hexadecimal on a fault.
    fn user_buffer_quoted(arena: *mut u8, slot: *mut Slot, address: u64, inlen: i64, outlen: i64, dst: *mut u8, cap: u64) -> u64 {
        user_string::buffer_quoted(arena, slot, address, inlen, outlen, false, &mut Buffer::new(dst, cap))
    }
    /// `user_buffer_quoted_error(a, inlen, outlen)`. *May raise.*
    fn user_buffer_quoted_error(arena: *mut u8, slot: *mut Slot, address: u64, inlen: i64, outlen: i64, dst: *mut u8, cap: u64) -> u64 {
        user_string::buffer_quoted(arena, slot, address, inlen, outlen, true, &mut Buffer::new(dst, cap))
    }
    /// `user_string(a)`. *May raise.*
    fn user_string(arena: *mut u8, slot: *mut Slot, address: u64, dst: *mut u8, cap: u64) -> u64 {
        user_string::string(arena, slot, address, cap, &mut Buffer::new(dst, cap))
    }
    /// `user_string(a, text)`: the text on a fault.
    fn user_string2(arena: *mut u8, slot: *mut Slot, address: u64, dst: *mut u8, cap: u64, text: *const u8, len: u64) -> u64 {
        user_string::string_or(arena, slot, address, cap, &mut Buffer::new(dst, cap), bytes(&text, len))
    }
    /// `user_string_n(a, n)`. *May raise.*
    fn user_string_n(arena: *mut u8, slot: *mut Slot, address: u64, n: i64, dst: *mut u8, cap: u64) -> u64 {
        user_string::string(arena, slot, address, n.max(0) as u64, &mut Buffer::new(dst, cap))
    }
    /// `user_string_n(a, n, text)`: the text on a fault.
    fn user_string_n2(arena: *mut u8, slot: *mut Slot, address: u64, n: i64, dst: *mut u8, cap: u64, text: *const u8, len: u64) -> u64 {
        user_string::string_or(arena, slot, address, n.max(0) as u64, &mut Buffer::new(dst, cap), bytes(&text, len))
    }
    /// `user_string_quoted(a)`: in double quotes with escapes; "NULL" for 0; the address in hexadecimal on a fault.
    fn user_string_quoted(arena: *mut u8, slot: *mut Slot, address: u64, dst: *mut u8, cap: u64) -> u64 {
        user_string::quoted(arena, slot, address, cap, &mut Buffer::new(dst, cap))
    }
    /// `user_string_n_quoted(a, inlen, outlen)`.
    fn user_string_n_quoted(arena: *mut u8, slot: *mut Slot, address: u64, inlen: i64, outlen: i64, dst: *mut u8, cap: u64) -> u64 {
        user_string::quoted_n(arena, slot, address, inlen, outlen, &mut Buffer::new(dst, cap))
    }

    // ---- process, thread, place ----

    /// `pid()`.
    fn pid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::pid(arena, slot) }
    /// `tid()`.
    fn tid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::tid(arena, slot) }
    /// `ppid()`.
    fn ppid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::ppid(arena, slot) }
    /// `pgrp()`.
    fn pgrp(arena: *mut u8, slot: *mut Slot) -> i64 { facts::pgrp(arena, slot) }
    /// `sid()`.
    fn sid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::sid(arena, slot) }
    /// `uid()`.
    fn uid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::uid(arena, slot) }
    /// `euid()`.
    fn euid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::euid(arena, slot) }
    /// `gid()`.
    fn gid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::gid(arena, slot) }
    /// `egid()`.
    fn egid(arena: *mut u8, slot: *mut Slot) -> i64 { facts::egid(arena, slot) }
    /// `cpu()`.
    fn cpu() -> i64 { facts::cpu() }
    /// `target()`.
    fn target(arena: *mut u8) -> i64 { (*arena.cast::<Header>()).target_pid.load(core::sync::atomic::Ordering::Relaxed) }
    /// `execname()`.
    fn execname(arena: *mut u8, slot: *mut Slot, dst: *mut u8, cap: u64) -> u64 { facts::execname(arena, slot, &mut Buffer::new(dst, cap)) }
    /// `pexecname()`: the parent's.
    fn pexecname(arena: *mut u8, slot: *mut Slot, dst: *mut u8, cap: u64) -> u64 { facts::pexecname(arena, slot, &mut Buffer::new(dst, cap)) }
    /// `cmdline_str()`.
    fn cmdline_str(arena: *mut u8, slot: *mut Slot, dst: *mut u8, cap: u64) -> u64 { facts::cmdline(arena, slot, &mut Buffer::new(dst, cap)) }
    /// `env_var(name)`.
    fn env_var(arena: *mut u8, slot: *mut Slot, dst: *mut u8, cap: u64, name: *const u8, len: u64) -> u64 {
        facts::env_var(arena, slot, &mut Buffer::new(dst, cap), bytes(&name, len))
    }
    /// A string of the site: field 0 pp, 1 pn, 2 function, 3 module, 4 mark, 5 provider, 6 kind. In place, not copied.
    fn site_string(arena: *mut u8, site: u64, field: u64) -> Str { site::string(arena, site, field) }
    /// `register(name)` (signed 0) and `s_register` (1), `u_register` (0). *May raise* "unknown register".
    fn register_value(slot: *mut Slot, frame: *const u64, name: *const u8, len: u64, signed: u64) -> i64 {
        registers::value(slot, frame, bytes(&name, len), signed != 0)
    }

    // ---- time, session ----

    /// `gettimeofday_ns()`.
    fn gettimeofday_ns() -> i64 { time::clock(time::REALTIME) }
    /// Monotonic time in ns.
    fn monotonic_ns() -> i64 { time::clock(time::MONOTONIC) }
    /// Time since boot in ns.
    fn boottime_ns() -> i64 { time::clock(time::BOOTTIME) }
    /// `get_cycles()`: the time stamp counter.
    fn get_cycles() -> i64 { time::cycles() as i64 }
    /// The handler of `site` has run since the counter was `start` (stap's `-t`).
    fn handler_timed(arena: *mut u8, timings: u64, site: u64, start: u64) { timing::note(arena, timings, site, start) }
    /// `randint(n)`: 0 … n-1.
    fn randint(arena: *mut u8, n: i64) -> i64 { facts::randint(arena, n) }
    /// `exit()`: the session ends; the handler goes on.
    fn exit(arena: *mut u8, slot: *mut Slot) {
        let _ = slot;
        raise::exit(arena)
    }
    /// `abort()`: as `exit()`, and the tracer stops at once without waiting. The caller leaves the handler.
    fn abort(arena: *mut u8, slot: *mut Slot) {
        let _ = slot;
        raise::exit(arena)
    }
    /// `stp_pid()`: the tracer's process id.
    fn tracer_pid(arena: *mut u8) -> i64 { facts::tracer_pid(arena) }
    /// `target_set_pid(pid)`: 1 when that process takes part in the session.
    fn target_set_has(arena: *mut u8, pid: i64) -> i64 { facts::target_set_has(arena, pid) }
    /// `cmdline_arg(n)`.
    fn cmdline_arg(dst: *mut u8, cap: u64, n: i64) -> u64 { facts::cmdline_arg(&mut Buffer::new(dst, cap), n) }
    /// A word of a file of proc(5): the `n`th after the last occurrence of `key`.
    fn file_word(dst: *mut u8, cap: u64, path: *const u8, plen: u64, key: *const u8, klen: u64, n: i64) -> u64 {
        proc_files::word(&mut Buffer::new(dst, cap), bytes(&path, plen), bytes(&key, klen), n)
    }
    /// Where a symbolic link leads.
    fn file_link(dst: *mut u8, cap: u64, path: *const u8, len: u64) -> u64 {
        proc_files::link(&mut Buffer::new(dst, cap), bytes(&path, len))
    }
    /// How many entries a directory has.
    fn file_entries(path: *const u8, len: u64) -> i64 { proc_files::entries(bytes(&path, len)) }
    /// `tz_gmtoff()`.
    fn seconds_west(arena: *mut u8) -> i64 { time::seconds_west(arena) }
    /// `tz_name()`.
    fn zone(arena: *mut u8, dst: *mut u8, cap: u64) -> u64 { time::zone(arena, &mut Buffer::new(dst, cap)) }
    /// `udelay(us)`.
    fn delay(us: i64) { time::delay(us) }
    /// `thread_indent(delta)`: "%6d name(tid):" and spaces.
    fn thread_indent(arena: *mut u8, slot: *mut Slot, delta: i64, dst: *mut u8, cap: u64) -> u64 {
        indent::thread(arena, slot, delta, &mut Buffer::new(dst, cap))
    }
    /// `thread_indent_depth(delta)`: the new depth.
    fn thread_indent_depth(arena: *mut u8, slot: *mut Slot, delta: i64) -> i64 { indent::thread_depth(arena, slot, delta) }
    /// `indent(delta)`: "%6d:" and spaces.
    fn indent(arena: *mut u8, slot: *mut Slot, delta: i64, dst: *mut u8, cap: u64) -> u64 {
        indent::global(arena, slot, delta, &mut Buffer::new(dst, cap))
    }
    /// `indent_depth(delta)`: the new depth.
    fn indent_depth(arena: *mut u8, slot: *mut Slot, delta: i64) -> i64 { indent::global_depth(arena, slot, delta) }
}
