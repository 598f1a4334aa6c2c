//! Text of the probed program, read without ever faulting ([`crate::memory`]) up to a NUL, and written.

use crate::layout::{Header, Slot};
use crate::memory::{Access, PAGE, access, copy_by_kernel, fault, read};
use crate::raise;
use crate::string::{Buffer, bytes, until_nul};
use crate::sys::{self, IoVec};
use crate::text;

/// Bytes up to a NUL, at most `n` and at most what fits; false on a fault before either.
unsafe fn fetch_string(slot: *mut Slot, address: u64, n: u64, to: &mut Buffer) -> bool {
    let want = n.min(to.room() as u64);
    let mut done = 0;
    // SAFETY: every piece fits the buffer; direct reads are only of mapped memory.
    unsafe {
        while done < want {
            let from = address.wrapping_add(done);
            let piece = (PAGE - from % PAGE).min(want - done);
            let dst = to.start().add(done as usize);
            let text = match access(slot, from, piece) {
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
pub unsafe fn string(
    _base: *mut u8,
    slot: *mut Slot,
    address: u64,
    n: u64,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        if !fetch_string(slot, address, n, to) {
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
    _base: *mut u8,
    slot: *mut Slot,
    address: u64,
    n: u64,
    to: &mut Buffer,
    other: &[u8],
) -> u64 {
    // SAFETY: the caller's promise.
    if !unsafe { fetch_string(slot, address, n, to) } {
        to.put(other);
    }
    to.len()
}

/// See [`crate::abi::user_string_quoted`]: at most `inlen` bytes in.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn quoted(
    _base: *mut u8,
    slot: *mut Slot,
    address: u64,
    inlen: u64,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { quote(slot, address, inlen, to) };
    to.len()
}

/// The text at an address in double quotes, or, when it cannot be read and the answer is false, the address.
///
/// # Safety
/// As the functions of [`crate::abi`].
unsafe fn quote(slot: *mut Slot, address: u64, inlen: u64, to: &mut Buffer) -> bool {
    let mut plain = [core::mem::MaybeUninit::<u8>::uninit(); 1024];
    // SAFETY: the buffer is a local of that size; its bytes are read only as far as they were written.
    unsafe {
        let start = plain.as_mut_ptr().cast::<u8>();
        let mut raw = Buffer::new(start, inlen.min(1024));
        let is_text = fetch_string(slot, address, inlen, &mut raw);
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
        let is_text = quote(slot, address, bound(inlen), to);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use crate::memory::PAGE;
    use crate::sys::EFAULT;

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
}
