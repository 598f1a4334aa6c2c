//! Reading the probed program's memory without ever faulting. What is known to be mapped is copied directly. Everything else
//! is copied by the kernel, with `process_vm_readv` on the process itself: another thread may unmap a page at any time. Where
//! there is no other thread, or that call is refused (a container's filter), the page is shown to the kernel by one that copies
//! eight bytes in ([`sys::is_readable`]), which costs a fraction, and then copied directly.

use crate::arena::Arena;
use crate::layout::{COPIED, Header, ProcessRecord, Slot};
use crate::raise;
use crate::string::{Buffer, bytes, copy_bytes, until_nul};
use crate::sys::{self, EFAULT, IoVec};
use crate::{format, text};

const PAGE: u64 = 4096;

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
unsafe fn is_mapped(arena: &Arena, slot: *mut Slot, address: u64, len: u64) -> bool {
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
                true => low + size,
                false => (sp & !(PAGE - 1)) + PAGE,
            };
            if end <= stack_end {
                return true;
            }
        }
        let Some(record) = process(arena, slot) else {
            return false;
        };
        let readable = (*record).readable.iter();
        readable
            .take_while(|[from, to]| from < to)
            .any(|&[from, to]| address >= from && end <= to)
    }
}

const EPERM: i64 = -1;
const ENOSYS: i64 = -38;

/// How a piece of a page can be had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
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
unsafe fn access(arena: &Arena, slot: *mut Slot, address: u64, len: u64) -> Access {
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
        if is_mapped(arena, slot, address, len) {
            return Access::Load;
        }
        match is_single_threaded(arena, slot) {
            true => Access::Ask,
            false => Access::Kernel,
        }
    }
}

/// Whether the C library says that the process has no other thread, which could unmap what is being read.
unsafe fn is_single_threaded(arena: &Arena, slot: *mut Slot) -> bool {
    if cfg!(not(spile_blob)) {
        return false;
    }
    // SAFETY: the record is checked; the tracer found the byte in the data of a library that stays loaded.
    unsafe {
        let flag = process(arena, slot).map_or(0, |record| (*record).single_threaded);
        flag != 0 && (flag as *const u8).read_volatile() != 0
    }
}

/// See [`crate::abi::read_user`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn read(base: *mut u8, slot: *mut Slot, dst: *mut u8, address: u64, len: u64) -> i64 {
    // SAFETY: a direct copy is made only from memory known to be mapped.
    unsafe {
        let arena = Arena::of(base);
        if is_mapped(&arena, slot, address, len) {
            copy_bytes(dst, address as *const u8, len as usize);
            return 0;
        }
        let mut done = 0;
        while done < len {
            let from = address.wrapping_add(done);
            let piece = (PAGE - from % PAGE).min(len - done);
            let to = dst.add(done as usize);
            match access(&arena, slot, from, piece) {
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
unsafe fn copy_by_kernel(slot: *mut Slot, dst: *mut u8, address: u64, len: u64) -> bool {
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

unsafe fn fault(slot: *mut Slot, what: &[u8], address: u64) {
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

/// Bytes up to a NUL, at most `n` and at most what fits; false on a fault before either.
unsafe fn fetch_string(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    n: u64,
    to: &mut Buffer,
) -> bool {
    let want = n.min(to.room() as u64);
    // SAFETY: the caller's promise.
    let arena = unsafe { Arena::of(base) };
    let mut done = 0;
    // SAFETY: every piece fits the buffer; direct reads are only of mapped memory.
    unsafe {
        while done < want {
            let from = address.wrapping_add(done);
            let piece = (PAGE - from % PAGE).min(want - done);
            let dst = to.start().add(done as usize);
            let text = match access(&arena, slot, from, piece) {
                Access::Load => copy_until_nul(dst, from as *const u8, piece),
                Access::Ask if sys::is_readable(from) == Some(true) => {
                    copy_until_nul(dst, from as *const u8, piece)
                }
                Access::Ask | Access::Kernel if copy_by_kernel(slot, dst, from, piece) => {
                    until_nul(core::slice::from_raw_parts(dst, piece as usize)).len() as u64
                }
                _ => {
                    to.clear();
                    return false;
                }
            };
            done += text;
            if text < piece {
                break;
            }
        }
    }
    to.set_len(done);
    true
}

/// Copies bytes up to a NUL; their number.
unsafe fn copy_until_nul(dst: *mut u8, src: *const u8, len: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut i = 0;
    while i < len {
        // SAFETY: the caller knows both ranges to be mapped. An aligned word lies in the page of each of its bytes.
        unsafe {
            let at = src.add(i as usize);
            if (at as u64).is_multiple_of(8) && len - i >= 8 {
                let word = at.cast::<u64>().read_volatile();
                if word.wrapping_sub(ONES) & !word & (ONES << 7) == 0 {
                    dst.add(i as usize).cast::<u64>().write_unaligned(word);
                    i += 8;
                    continue;
                }
            }
            let byte = at.read_volatile();
            if byte == 0 {
                break;
            }
            dst.add(i as usize).write_volatile(byte);
        }
        i += 1;
    }
    i
}

/// See [`crate::abi::user_string`] and [`crate::abi::user_string_n`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn string(base: *mut u8, slot: *mut Slot, address: u64, n: u64, to: &mut Buffer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        if !fetch_string(base, slot, address, n, to) {
            raise::with(slot, |t| {
                t.put(b"user string copy fault -14 at 0x")
                    .hex(address, 0)
                    .put(b" [man error::fault]");
            });
        }
    }
    to.len()
}

/// See [`crate::abi::user_string2`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn string_or(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    n: u64,
    to: &mut Buffer,
    other: &[u8],
) -> u64 {
    // SAFETY: the caller's promise.
    if !unsafe { fetch_string(base, slot, address, n, to) } {
        to.put(other);
    }
    to.len()
}

/// See [`crate::abi::user_string_quoted`]: at most `inlen` bytes in.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn quoted(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    inlen: u64,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { quote(base, slot, address, inlen, to) };
    to.len()
}

/// The text at an address in double quotes, or, when it cannot be read and the answer is false, the address.
///
/// # Safety
/// As the functions of [`crate::abi`].
unsafe fn quote(base: *mut u8, slot: *mut Slot, address: u64, inlen: u64, to: &mut Buffer) -> bool {
    let mut plain = [core::mem::MaybeUninit::<u8>::uninit(); 1024];
    // SAFETY: the buffer is a local of that size; its bytes are read only as far as they were written.
    unsafe {
        let start = plain.as_mut_ptr().cast::<u8>();
        let mut raw = Buffer::new(start, inlen.min(1024));
        let is_text = fetch_string(base, slot, address, inlen, &mut raw);
        if is_text {
            let (p, len) = (start.cast_const(), raw.len());
            text::escape(to, bytes(&p, len), 0, true, false);
        } else {
            to.put(b"0x").hex(address, 0);
        }
        is_text
    }
}

/// See [`crate::abi::user_string_n_quoted`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn quoted_n(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    inlen: i64,
    outlen: i64,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let all = u64::from((*base.cast::<Header>()).max_string).max(1) - 1;
        let bound = |n: i64| if n <= 0 { all } else { (n as u64).min(all) };
        let is_text = quote(base, slot, address, bound(inlen), to);
        // stap's library leaves room for two quotes, whether or not there are dots.
        if is_text && outlen > 0 && to.len() as i64 > outlen - 2 {
            to.truncate((outlen - 4).max(0) as u64);
            to.put(b"\"...");
        }
        to.len()
    }
}

/// See [`crate::abi::user_buffer_quoted`]: exactly `inlen` bytes in, at most `outlen` out.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn buffer_quoted(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    inlen: i64,
    outlen: i64,
    raises: bool,
    to: &mut Buffer,
) -> u64 {
    let mut plain = [core::mem::MaybeUninit::<u8>::uninit(); 4096];
    // SAFETY: the buffer is a local of that size; its bytes are read only after they were written.
    unsafe {
        let start = plain.as_mut_ptr().cast::<u8>();
        let len = inlen.clamp(0, 4096) as u64;
        if len == 0 || read(base, slot, start, address, len) == 0 {
            let p = start.cast_const();
            let limit = if outlen <= 0 { i64::MAX } else { outlen };
            text::escape(to, bytes(&p, len), limit, true, true)
        } else if raises {
            raise::with(slot, |t| {
                t.put(b"user buffer copy fault -14 at 0x")
                    .hex(address, 0)
                    .put(b" [man error::fault]");
            });
            0
        } else {
            to.put(b"0x").hex(address, 0).len()
        }
    }
}

/// See [`crate::abi::store_user_string`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn store_string(_base: *mut u8, slot: *mut Slot, address: u64, s: &[u8], n: i64) {
    let n = n.max(0) as u64;
    let text = (s.len() as u64).min(n);
    let nul = 0u8;
    // SAFETY: the script asked for it; the kernel checks the address.
    unsafe {
        let tracer = (*slot).index == 0;
        let pid = (*slot).pid.load(core::sync::atomic::Ordering::Relaxed);
        (*slot).copied_len = 0;
        let mut done = 0;
        let mut put = |from: *const u8, len: u64| {
            let local = [IoVec {
                base: from as u64,
                len,
            }];
            let remote = [IoVec {
                base: address.wrapping_add(done),
                len,
            }];
            done += len;
            len == 0 || sys::process_vm_writev(pid, &local, &remote) == len as i64
        };
        if tracer || !put(s.as_ptr(), text) || !put(&raw const nul, u64::from(text < n)) {
            fault(slot, b"user string copy", address);
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

    fn string_at(f: &Fixture, address: u64, n: u64, cap: usize) -> String {
        let mut room = vec![0u8; cap];
        let len = unsafe {
            string(
                f.base,
                f.owned(1),
                address,
                n,
                &mut Buffer::new(room.as_mut_ptr(), cap as u64),
            )
        };
        String::from_utf8(room[..len as usize].to_vec()).expect("text")
    }

    #[test]
    fn strings_of_the_program() {
        let f = Fixture::new();
        let text = c"hello, world";
        let at = text.as_ptr() as u64;
        assert_eq!(string_at(&f, at, 63, 63), "hello, world");
        assert_eq!(string_at(&f, at, 5, 63), "hello");
        assert_eq!(string_at(&f, at, 63, 3), "hel");
        assert_eq!(f.error(f.slot(1)), None);
        assert_eq!(string_at(&f, 1, 63, 63), "");
        assert_eq!(
            f.error(f.slot(1)).as_deref(),
            Some("user string copy fault -14 at 0x1 [man error::fault]")
        );
    }

    /// A string that ends right before a page that cannot be read is whole; one that runs into it is a fault.
    #[test]
    fn page_ends() {
        let f = Fixture::new();
        unsafe {
            let end = f.base.add(f.size as usize);
            end.sub(4).copy_from(c"abc".as_ptr().cast(), 4);
            assert_eq!(string_at(&f, end.sub(4) as u64, 63, 63), "abc");
            end.sub(1).write(b'd');
            assert_eq!(f.error(f.slot(1)), None);
            assert_eq!(string_at(&f, end.sub(4) as u64, 63, 63), "");
            assert!(f.error(f.slot(1)).is_some());
            assert_eq!(string_at(&f, end.sub(4) as u64, 4, 63), "abcd");
        }
    }

    /// Every page of a long range counts, and what may not be read is as good as unmapped.
    #[test]
    fn ranges_of_many_pages() {
        let f = Fixture::new();
        let pages = 4 * PAGE as usize;
        let mut room = vec![0u8; pages];
        // SAFETY: a mapping of the test's own.
        unsafe {
            let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(std::ptr::null_mut(), pages, both, private, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            start.cast::<u8>().write_bytes(b'x', pages - 1);
            let address = start as u64;
            let mut get = |from: u64, len: u64| {
                read(f.base, f.owned(1), room.as_mut_ptr(), address + from, len)
            };
            assert_eq!(get(1, pages as u64 - 1), 0);
            assert_eq!(room[..pages - 2], vec![b'x'; pages - 2]);
            assert_eq!(string_at(&f, address, 1 << 20, pages).len(), pages - 1);
            assert_eq!(string_at(&f, address + 3, 5, 63), "xxxxx");
            let third = start.cast::<u8>().add(2 * PAGE as usize).cast();
            assert_eq!(libc::mprotect(third, PAGE as usize, libc::PROT_NONE), 0);
            let mut get = |from: u64, len: u64| {
                read(f.base, f.owned(1), room.as_mut_ptr(), address + from, len)
            };
            assert_eq!(get(PAGE, PAGE), 0);
            assert_eq!(get(PAGE, PAGE + 1), -EFAULT);
            assert_eq!(get(3 * PAGE - 1, 2), -EFAULT);
            assert_eq!(get(3 * PAGE, PAGE), 0);
            libc::munmap(start, pages);
        }
    }

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
    fn quoted_strings() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let quote = |address: u64, n: i64, out: i64| {
            let mut room = [0u8; 64];
            let len = unsafe {
                quoted_n(
                    f.base,
                    slot,
                    address,
                    n,
                    out,
                    &mut Buffer::new(room.as_mut_ptr(), 63),
                )
            };
            String::from_utf8(room[..len as usize].to_vec()).expect("text")
        };
        let at = c"say \"hi\"\n".as_ptr() as u64;
        assert_eq!(quote(at, 0, 0), r#""say \"hi\"\n""#);
        assert_eq!(quote(at, 3, 0), r#""say""#);
        assert_eq!(quote(at, 3, 7), r#""say""#);
        assert_eq!(quote(at, 3, 6), r#""s"..."#);
        assert_eq!(
            (quote(0, 0, 0).as_str(), quote(0xabc, 0, 0).as_str()),
            ("0x0", "0xabc")
        );
        assert_eq!(f.error(slot), None);
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
