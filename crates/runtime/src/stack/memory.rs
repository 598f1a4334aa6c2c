//! Reading stacks: directly where this thread's stack is known to be mapped, else page by page after asking the kernel.
//!
//! What is known: the page that the stack pointer is in; the main thread's stack up to its end; and, where libraries put
//! the thread's control block (the FS base) at the top of its stack, all from a stack pointer below it up to it, once
//! every page between has been read. That range is part of the thread's own stack (a guard page ends it below), which
//! nobody unmaps while the thread runs on it or above it.

use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::Relaxed;

use super::table::{Directory, KnownStacks};
use crate::layout::thread_hash;
use crate::sys::{self, IoVec};

const PAGE: u64 = 4096;

/// Farthest that a thread's stack pointer may be below its FS base for the stack between to be looked at.
const DEEPEST: u64 = 1 << 20;

/// Words read at once where a system call is needed.
const WINDOW: usize = 32;

/// Memory of a program.
pub trait Memory {
    /// The word at an address, when it can be read.
    fn word(&mut self, address: u64) -> Option<u64>;
}

/// The memory of the process that this thread belongs to, or (in the tracer) of another one.
pub struct ProcessMemory<'a> {
    pid: u32,
    directory: &'a Directory,
    stack_pointer: u64,
    direct: [u64; 2],
    own: bool,
    extended: bool,
    /// A page found to be readable, or 1.
    page: u64,
    window_at: u64,
    window_words: u64,
    window: [MaybeUninit<u64>; WINDOW],
}

impl<'a> ProcessMemory<'a> {
    /// Memory of process `pid`. With `own`, the calling thread is one of it, on the stack that `stack_pointer` is in.
    #[inline]
    pub fn new(pid: u32, directory: &'a Directory, stack_pointer: u64, own: bool) -> Self {
        let direct = if own {
            [
                stack_pointer,
                (stack_pointer & !(PAGE - 1)).saturating_add(PAGE),
            ]
        } else {
            [0, 0]
        };
        ProcessMemory {
            pid,
            directory,
            stack_pointer,
            direct,
            own,
            extended: !own,
            page: 1,
            window_at: 0,
            window_words: 0,
            window: [const { MaybeUninit::uninit() }; WINDOW],
        }
    }

    /// Finds out how far up the stack can be read directly.
    #[cold]
    fn extend(&mut self) {
        self.extended = true;
        let low = self.stack_pointer;
        let [main_low, main_high] = self.directory.stack;
        if low >= main_low && low < main_high {
            self.direct[1] = main_high;
            return;
        }
        let Some(base) = thread_pointer(self.directory.thread_pointer) else {
            return;
        };
        if low >= base || base - low > DEEPEST || self.directory.known_stacks == 0 {
            return;
        }
        // SAFETY: the tracer mapped it for as long as there are handlers, and the directory is not writable.
        let known = unsafe { &*(self.directory.known_stacks as *const KnownStacks) };
        let Some([mixed, lowest]) = known.entries.get(thread_hash(base)) else {
            return;
        };
        let before = lowest.load(Relaxed);
        let is_known = mixed.load(Relaxed) ^ before == base && before < base;
        let from = low & !(PAGE - 1);
        if !is_known || before > from {
            let to = if is_known { before } else { base };
            if !self.is_readable(from, to) {
                return;
            }
            lowest.store(from, Relaxed);
            mixed.store(base ^ from, Relaxed);
        }
        self.direct[1] = base;
    }

    /// Whether every page from `from` (a page's start) to `to` can be read.
    fn is_readable(&self, from: u64, to: u64) -> bool {
        let mut at = from;
        while at < to {
            if sys::is_readable(at) != Some(true) {
                return false;
            }
            at += PAGE;
        }
        true
    }

    #[cold]
    fn slow(&mut self, address: u64) -> Option<u64> {
        let [copied, copy, len] = self.directory.snapshot;
        let offset = address.wrapping_sub(copied);
        if !self.own && len >= 8 && address >= copied && offset <= len - 8 {
            // SAFETY: inside the copy, which the tracer keeps while the handler runs.
            return Some(unsafe { ((copy + offset) as *const u64).read_unaligned() });
        }
        let page = address & !(PAGE - 1);
        if self.own && address - page <= PAGE - 8 {
            match sys::is_readable(address) {
                Some(true) => {
                    self.page = page;
                    // SAFETY: the kernel has read it just now.
                    return Some(unsafe { (address as *const u64).read_unaligned() });
                }
                Some(false) => return None,
                None => {}
            }
        }
        let index = address.wrapping_sub(self.window_at);
        if index.is_multiple_of(8)
            && index / 8 < self.window_words
            && let Some(word) = self.window.get((index / 8) as usize)
        {
            // SAFETY: the first `window_words` were filled.
            return Some(unsafe { word.assume_init() });
        }
        // Up to the page's end: a range is copied whole or not at all.
        let in_page = PAGE - address % PAGE;
        let len = if in_page < 8 {
            8
        } else {
            (in_page & !7).min(WINDOW as u64 * 8)
        };
        let local = [IoVec {
            base: self.window.as_mut_ptr() as u64,
            len,
        }];
        let remote = [IoVec { base: address, len }];
        // SAFETY: the window has room for `len` bytes.
        let read = unsafe { sys::process_vm_readv(self.pid, &local, &remote) };
        self.window_words = if read > 0 { read as u64 / 8 } else { 0 };
        self.window_at = address;
        // SAFETY: at least one word was filled.
        (self.window_words > 0).then(|| unsafe { self.window[0].assume_init() })
    }
}

impl Memory for ProcessMemory<'_> {
    #[inline]
    fn word(&mut self, address: u64) -> Option<u64> {
        let end = address.checked_add(8)?;
        loop {
            if address >= self.direct[0] && end <= self.direct[1] {
                // SAFETY: mapped, see the module's documentation.
                return Some(unsafe { (address as *const u64).read_unaligned() });
            }
            if address & !(PAGE - 1) == self.page && address % PAGE <= PAGE - 8 {
                // SAFETY: the page was found to be readable during this walk.
                return Some(unsafe { (address as *const u64).read_unaligned() });
            }
            if self.extended || address < self.stack_pointer {
                return self.slow(address);
            }
            self.extend();
        }
    }
}

/// This thread's FS base.
fn thread_pointer(how: u32) -> Option<u64> {
    let base: u64;
    match how {
        // SAFETY: the tracer looked that the word at the FS base is the FS base itself.
        1 => unsafe {
            core::arch::asm!("mov {}, fs:0", out(reg) base, options(nostack, readonly, preserves_flags));
        },
        // SAFETY: the tracer looked that the kernel allows the instruction.
        2 => unsafe {
            core::arch::asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags));
        },
        _ => return None,
    }
    Some(base)
}
