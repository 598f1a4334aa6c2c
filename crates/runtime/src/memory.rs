//! Reading the probed program's memory without ever faulting. What is known to be mapped is copied directly. Everything else
//! is copied by the kernel, with `process_vm_readv` on the process itself: another thread may unmap a page at any time. Where
//! there is no other thread, or that call is refused (a container's filter), the page is shown to the kernel by one that copies
//! eight bytes in ([`sys::is_readable`]), which costs a fraction, and then copied directly.

use crate::arena::Arena;
use crate::format;
use crate::layout::{COPIED, ProcessRecord, Slot};
use crate::own_process;
use crate::raise;
use crate::string::copy_bytes;
use crate::sys::{self, EFAULT, IoVec};

pub(crate) const PAGE: u64 = 4096;

/// The slot's process record, when it lies inside the arena.
pub(crate) unsafe fn process(arena: &Arena, slot: *mut Slot) -> Option<*const ProcessRecord> {
    // SAFETY: header and slot are mapped; the record is checked.
    unsafe {
        let header = arena.header();
        if (*slot).process >= (*header).process_count {
            return None;
        }
        let size = core::mem::size_of::<ProcessRecord>() as u64;
        let at = u64::from((*header).processes) + u64::from((*slot).process) * size;
        if !at.is_multiple_of(8) {
            return None;
        }
        arena
            .at(at, size)
            .map(|p| p.cast::<ProcessRecord>().cast_const())
    }
}

/// True when `[address, address + len)` stays mapped and readable while the handler runs: the used part of the thread's
/// stack, as far as [`crate::signal_stack`] knows it and else that of its last page, and modules that are never unloaded.
/// Never in the tracer, to which the program's addresses mean nothing.
#[inline]
unsafe fn is_mapped(slot: *mut Slot, address: u64, len: u64) -> bool {
    if cfg!(not(spile_blob)) {
        return false;
    }
    let Some(end) = address.checked_add(len) else {
        return false;
    };
    // SAFETY: the slot is mapped, the record checked.
    unsafe {
        let sp = (*slot).saved_sp;
        if sp != 0 && address >= sp {
            let (low, size) = ((*slot).room_low, (*slot).room_size);
            let stack_end = match sp.wrapping_sub(low) < size {
                true => low.saturating_add(size),
                false => (sp | (PAGE - 1)).saturating_add(1),
            };
            if end <= stack_end {
                return true;
            }
        }
        own_process::is_readable(address, end)
    }
}

const EPERM: i64 = -1;
const ENOSYS: i64 = -38;

/// How a piece of a page can be had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// It is mapped.
    Load,
    /// If the kernel says that it is mapped, it stays so.
    Ask,
    /// Only the kernel can tell, while it copies.
    Kernel,
    /// Not at all.
    Fault,
}

/// How `[address, address + len)`, which lies inside one page, can be had.
#[inline]
pub(crate) unsafe fn access(slot: *mut Slot, address: u64, len: u64) -> Access {
    // SAFETY: the slot is mapped.
    unsafe {
        // Slot 0 is the tracer's: it has no program, but may act for a process whose id is there.
        if (*slot).index == 0 {
            let pid = (*slot).pid.load(core::sync::atomic::Ordering::Relaxed);
            return if pid == 0 || i64::from(pid) == sys::getpid() {
                Access::Fault
            } else {
                Access::Kernel
            };
        }
        if is_mapped(slot, address, len) {
            return Access::Load;
        }
        match is_single_threaded() {
            true => Access::Ask,
            false => Access::Kernel,
        }
    }
}

/// Whether the C library says that the process has no other thread, which could unmap what is being read.
fn is_single_threaded() -> bool {
    let flag = own_process::single_threaded();
    // SAFETY: the tracer found the byte in the data of a library that stays loaded.
    flag != 0 && unsafe { (flag as *const u8).read_volatile() != 0 }
}

/// See [`crate::abi::read_user`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn read(_base: *mut u8, slot: *mut Slot, dst: *mut u8, address: u64, len: u64) -> i64 {
    // SAFETY: a direct copy is made only from memory known to be mapped.
    unsafe {
        if is_mapped(slot, address, len) {
            copy_bytes(dst, address as *const u8, len as usize);
            return 0;
        }
        let mut done = 0;
        while done < len {
            let from = address.wrapping_add(done);
            let piece = (PAGE - from % PAGE).min(len - done);
            let to = dst.add(done as usize);
            match access(slot, from, piece) {
                Access::Load => copy_bytes(to, from as *const u8, piece as usize),
                access if piece <= NUMBER && (*slot).index != 0 => {
                    if !copy_number(slot, to, from, piece, access) {
                        return -EFAULT;
                    }
                }
                Access::Ask if sys::is_readable(from) == Some(true) => {
                    copy_bytes(to, from as *const u8, piece as usize);
                }
                Access::Ask | Access::Kernel if copy_by_kernel(slot, to, from, piece) => {}
                _ => return -EFAULT,
            }
            done += piece;
        }
        0
    }
}

/// Largest piece that is taken for a number, with which others are read.
const NUMBER: u64 = 16;

/// Copies a piece of a page, of at most [`NUMBER`] bytes, out of what was copied around the last one where it lies in that, and
/// else with what is around it; false when it is not readable.
unsafe fn copy_number(slot: *mut Slot, dst: *mut u8, address: u64, len: u64, how: Access) -> bool {
    const AHEAD: u64 = COPIED as u64;
    // SAFETY: the slot is the caller's; copies stay inside `copied`, and of the program's memory inside the page.
    unsafe {
        let copied = (&raw mut (*slot).copied).cast::<u8>();
        // The program may write over the arena.
        let known = u64::from((*slot).copied_len).min(AHEAD);
        let at = address.wrapping_sub((*slot).copied_at);
        if at < known && len <= known - at {
            copy_bytes(dst, copied.add(at as usize), len as usize);
            return true;
        }
        let start = address & !63;
        let around = AHEAD.min(PAGE - start % PAGE);
        (*slot).copied_len = 0;
        match how {
            Access::Ask if sys::is_readable(start) == Some(true) => {
                copy_bytes(copied, start as *const u8, around as usize);
            }
            Access::Ask | Access::Kernel if copy_by_kernel(slot, copied, start, around) => {}
            _ => return false,
        }
        (*slot).copied_at = start;
        (*slot).copied_len = around as u32;
        copy_bytes(dst, copied.add((address - start) as usize), len as usize);
        true
    }
}

/// Copies a piece of a page; false when it is not readable.
pub(crate) unsafe fn copy_by_kernel(slot: *mut Slot, dst: *mut u8, address: u64, len: u64) -> bool {
    let remote = [IoVec { base: address, len }];
    let local = [IoVec {
        base: dst as u64,
        len,
    }];
    // SAFETY: `dst` has room for `len`; the kernel checks the other side.
    unsafe {
        let pid = (*slot).pid.load(core::sync::atomic::Ordering::Relaxed);
        match sys::process_vm_readv(pid, &local, &remote) {
            copied if copied == len as i64 => true,
            // Containers' filters may refuse the call. What is readable now is then believed to be so a moment later.
            EPERM | ENOSYS if (*slot).index != 0 && sys::is_readable(address) == Some(true) => {
                copy_bytes(dst, address as *const u8, len as usize);
                true
            }
            _ => false,
        }
    }
}

pub(crate) unsafe fn fault(slot: *mut Slot, what: &[u8], address: u64) {
    // SAFETY: the slot is the caller's own.
    unsafe {
        raise::with(slot, |t| {
            t.put(what)
                .put(b" fault [man error::fault] at 0x")
                .hex(address, 0);
        });
    }
}

unsafe fn fetch(base: *mut u8, slot: *mut Slot, address: u64, kind: u64) -> Option<i64> {
    let size = kind & 15;
    if !matches!(size, 1 | 2 | 4 | 8) {
        return None;
    }
    let mut word = 0u64;
    // SAFETY: the caller's promise; `word` has room for `size` bytes.
    if unsafe { read(base, slot, (&raw mut word).cast(), address, size) } != 0 {
        return None;
    }
    let unused = 64 - 8 * size as u32;
    Some(if kind & 0x100 != 0 {
        (word << unused) as i64 >> unused
    } else {
        word as i64
    })
}

/// See [`crate::abi::load_user`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn load(base: *mut u8, slot: *mut Slot, address: u64, kind: u64) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        match fetch(base, slot, address, kind) {
            Some(value) => value,
            None => {
                fault(slot, b"read", address);
                0
            }
        }
    }
}

/// See [`crate::abi::load_user_or`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn load_or(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    kind: u64,
    default: i64,
) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { fetch(base, slot, address, kind) }.unwrap_or(default)
}

/// See [`crate::abi::store_user`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn store(_base: *mut u8, slot: *mut Slot, address: u64, size: u64, value: i64) {
    let word = value as u64;
    let size = size.min(8);
    // SAFETY: the script asked for it; the kernel checks the address.
    unsafe {
        let tracer = (*slot).index == 0;
        let pid = (*slot).pid.load(core::sync::atomic::Ordering::Relaxed);
        (*slot).copied_len = 0;
        let local = [IoVec {
            base: &raw const word as u64,
            len: size,
        }];
        let remote = [IoVec {
            base: address,
            len: size,
        }];
        if tracer || sys::process_vm_writev(pid, &local, &remote) != size as i64 {
            fault(slot, b"write", address);
        }
    }
}

/// See [`crate::abi::args_memory`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn put_argument(
    base: *mut u8,
    slot: *mut Slot,
    at: *mut u8,
    address: u64,
    len: u64,
) -> *mut u8 {
    let padded = (len + 7) & !7;
    // SAFETY: the caller reserved 8 + padded bytes.
    unsafe {
        if len != 0 && read(base, slot, at.add(8), address, len) != 0 {
            fault(slot, b"read", address);
            return format::put_string(at, &[]);
        }
        at.cast::<u64>().write_unaligned(len);
        crate::string::zero_bytes(at.add(8 + len as usize), (padded - len) as usize);
        at.add(8 + padded as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn numbers_of_the_program() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let word = 0xfedc_ba98_8765_4321u64;
        let at = &raw const word as u64;
        unsafe {
            assert_eq!(load(f.base, slot, at, 8), word as i64);
            assert_eq!(
                (
                    load(f.base, slot, at, 1),
                    load(f.base, slot, at, 4),
                    load(f.base, slot, at, 0x104)
                ),
                (0x21, 0x8765_4321, 0x8765_4321u32 as i32 as i64)
            );
            assert_eq!(
                (
                    load(f.base, slot, at + 6, 2),
                    load(f.base, slot, at + 7, 0x101)
                ),
                (0xfedc, -2)
            );
            assert_eq!(f.error(slot), None);
            assert_eq!(load_or(f.base, slot, 16, 4, 0), 0);
            assert_eq!(f.error(slot), None);
            load(f.base, slot, 0x10, 4);
            assert_eq!(
                f.error(slot).as_deref(),
                Some("read fault [man error::fault] at 0x10")
            );
            store(f.base, slot, at, 2, 7);
            assert_eq!((&raw const word).read_volatile(), 0xfedc_ba98_8765_0007);
        }
    }

    #[test]
    fn the_tracer_has_no_program() {
        let f = Fixture::new();
        let mut byte = 0u8;
        let at = &raw const byte as u64;
        assert_eq!(
            unsafe { read(f.base, f.owned(0), &raw mut byte, at, 1) },
            -14
        );
    }
}
