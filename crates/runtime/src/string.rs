//! String values: bytes without NUL in buffers of fixed size.

use crate::arena::Arena;
use crate::layout::StrBuf;

/// The bytes at an address. The pointer is borrowed only to bound the lifetime by a local of the caller.
///
/// # Safety
/// `len` bytes at `address` are readable while the result is used, or `len` is 0.
#[inline(always)]
#[allow(clippy::trivially_copy_pass_by_ref)]
pub unsafe fn bytes(address: &*const u8, len: u64) -> &[u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: by the caller's promise.
    unsafe { core::slice::from_raw_parts(*address, len as usize) }
}

/// Where text is built: silently cut at the end, as stap does.
#[derive(Debug)]
pub struct Buffer {
    start: *mut u8,
    cap: usize,
    len: usize,
}

impl Buffer {
    /// An empty buffer over `cap` bytes.
    ///
    /// # Safety
    /// `cap` bytes at `start` are writable while the value is used.
    #[inline(always)]
    pub unsafe fn new(start: *mut u8, cap: u64) -> Buffer {
        Buffer {
            start,
            cap: if start.is_null() { 0 } else { cap as usize },
            len: 0,
        }
    }

    /// Appends what fits.
    #[inline]
    pub fn put(&mut self, s: &[u8]) -> &mut Self {
        let n = s.len().min(self.cap - self.len);
        // SAFETY: `len + n <= cap`, and the buffer does not overlap its sources (callers' convention) — `move_bytes`
        // would tolerate even that.
        unsafe { move_bytes(self.start.add(self.len), s.as_ptr(), n) };
        self.len += n;
        self
    }

    /// Appends one byte if it fits.
    #[inline]
    pub fn push(&mut self, byte: u8) -> &mut Self {
        if self.len < self.cap {
            // SAFETY: inside the buffer.
            unsafe { self.start.add(self.len).write(byte) };
            self.len += 1;
        }
        self
    }

    /// Appends a decimal number, padded on the left with blanks to `width`.
    pub fn decimal(&mut self, value: i64, width: usize) -> &mut Self {
        let mut text = Digits::new();
        let digits = text.decimal(value.unsigned_abs());
        let total = digits.len() + usize::from(value < 0);
        for _ in total..width {
            self.push(b' ');
        }
        if value < 0 {
            self.push(b'-');
        }
        self.put(digits)
    }

    /// Leaves no more than the first `len` bytes.
    pub fn truncate(&mut self, len: u64) {
        self.len = self.len.min(len as usize);
    }

    /// Appends a number in lower-case hexadecimal, with zeros on the left to `width`.
    pub fn hex(&mut self, value: u64, width: usize) -> &mut Self {
        let digits = (16 - value.leading_zeros() as usize / 4)
            .max(1)
            .max(width.min(16));
        for i in (0..digits).rev() {
            self.push(hex_digit((value >> (4 * i)) as u8 & 15, false));
        }
        self
    }

    /// Bytes so far.
    #[inline]
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// True when nothing was put.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.cap - self.len
    }

    /// Where the bytes are.
    pub fn start(&self) -> *mut u8 {
        self.start
    }

    /// Sets the length after bytes were written at [`Buffer::start`] by other means.
    pub fn set_len(&mut self, len: u64) {
        self.len = (len as usize).min(self.cap);
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

/// Room for a number's digits. Not filled beforehand: that would be done with vector registers, which trampolines then
/// had to save.
#[derive(Debug)]
pub struct Digits([core::mem::MaybeUninit<u8>; 24]);

impl Digits {
    /// Empty room.
    #[inline(always)]
    pub fn new() -> Digits {
        Digits([const { core::mem::MaybeUninit::uninit() }; 24])
    }

    /// The decimal digits.
    pub fn decimal(&mut self, mut value: u64) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at].write(b'0' + (value % 10) as u8);
            value /= 10;
            if value == 0 || at == 0 {
                return self.from(at);
            }
        }
    }

    /// The digits in base `1 << bits`, `bits` 3 or 4.
    pub fn power(&mut self, mut value: u64, bits: u32, upper: bool) -> &[u8] {
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at].write(hex_digit((value & ((1 << bits) - 1)) as u8, upper));
            value >>= bits;
            if value == 0 || at == 0 {
                return self.from(at);
            }
        }
    }

    fn from(&self, at: usize) -> &[u8] {
        let text = self.0.get(at..).unwrap_or(&[]);
        // SAFETY: everything from `at` on was written.
        unsafe { core::slice::from_raw_parts(text.as_ptr().cast(), text.len()) }
    }
}

impl Default for Digits {
    fn default() -> Self {
        Digits::new()
    }
}

/// A hexadecimal digit.
pub fn hex_digit(nibble: u8, upper: bool) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => (if upper { b'A' } else { b'a' }) + (nibble - 10),
    }
}

/// Copies bytes that do not overlap: words by a loop when short, so that callers need no vector registers.
///
/// # Safety
/// Both ranges are valid and disjoint.
#[inline]
pub unsafe fn copy_bytes(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: `rep movsb` copies exactly `len` bytes upwards; the direction flag is clear by the ABI.
    unsafe {
        if len <= 64 {
            let mut at = 0;
            while at + 8 <= len {
                let word = core::ptr::read_volatile(src.add(at).cast::<Unaligned>());
                dst.add(at).cast::<Unaligned>().write(word);
                at += 8;
            }
            while at < len {
                let byte = core::ptr::read_volatile(src.add(at));
                dst.add(at).write(byte);
                at += 1;
            }
        } else {
            core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") dst => _, inout("rsi") src => _,
                options(nostack, preserves_flags));
        }
    }
}

#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Unaligned(u64);

/// Copies bytes that may overlap when `dst` is below `src` or equal to it; otherwise they must be disjoint.
#[inline]
unsafe fn move_bytes(dst: *mut u8, src: *const u8, len: usize) {
    if dst.cast_const() != src {
        // SAFETY: an upward copy is right for `dst < src`, by the words' loop as well since each word is read first.
        unsafe { copy_bytes(dst, src, len) };
    }
}

/// Sets bytes to 0.
///
/// # Safety
/// The range is writable.
#[inline]
pub unsafe fn zero_bytes(dst: *mut u8, len: usize) {
    // SAFETY: `rep stosb` writes exactly `len` bytes upwards.
    unsafe {
        if len <= 64 && len.is_multiple_of(8) {
            let mut at = 0;
            while at < len {
                core::ptr::write_volatile(dst.add(at).cast::<Unaligned>(), Unaligned(0));
                at += 8;
            }
        } else {
            core::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") dst => _, in("al") 0u8,
                options(nostack, preserves_flags));
        }
    }
}

/// Bytes up to the first NUL, or all.
pub fn until_nul(s: &[u8]) -> &[u8] {
    let end = s.iter().position(|&b| b == 0).unwrap_or(s.len());
    s.get(..end).unwrap_or(s)
}

/// `strcmp` of two strings with lengths: -1, 0, 1.
#[inline]
pub fn compare(a: &[u8], b: &[u8]) -> i64 {
    let n = a.len().min(b.len());
    let mut i = 0;
    while i < n {
        // SAFETY: below both lengths.
        let (x, y) = unsafe { (*a.get_unchecked(i), *b.get_unchecked(i)) };
        if x != y {
            return if x < y { -1 } else { 1 };
        }
        i += 1;
    }
    (a.len() > b.len()) as i64 - (a.len() < b.len()) as i64
}

/// True when the bytes are the same.
#[inline]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && compare(a, b) == 0
}

/// `a . b` at `dst`; `a` may be there already.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn concat(
    dst: *mut u8,
    cap: u64,
    a: *const u8,
    alen: u64,
    b: *const u8,
    blen: u64,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        Buffer::new(dst, cap)
            .put(bytes(&a, alen))
            .put(bytes(&b, blen))
            .len()
    }
}

/// The header's MAXSTRINGLEN, kept sane.
#[inline]
pub(crate) unsafe fn max_string(arena: *mut u8) -> u64 {
    // SAFETY: the header is mapped.
    u64::from(unsafe { (*arena.cast::<crate::layout::Header>()).max_string }).clamp(1, 1 << 20)
}

/// Stores a string in a `StrBuf` of the arena.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn store(arena: *mut u8, dst: *mut u8, s: &[u8]) {
    // SAFETY: the header is mapped; the destination is checked against the arena.
    unsafe {
        let cap = max_string(arena) - 1;
        let len = cap.min(s.len() as u64);
        if Arena::of(arena).offset_of(dst, 8 + len).is_none() {
            return;
        }
        move_bytes(dst.add(8), s.as_ptr(), len as usize);
        (&raw mut (*dst.cast::<StrBuf>()).len).write_volatile(len as u32);
    }
}

/// The string in a `StrBuf` of the arena.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn load(arena: *mut u8, src: *const u8) -> crate::abi::Str {
    // SAFETY: the source is checked against the arena before it is read.
    unsafe {
        let a = Arena::of(arena);
        if a.offset_of(src, 8).is_some() {
            let len = u64::from((&raw const (*src.cast::<StrBuf>()).len).read_volatile())
                .min(max_string(arena) - 1);
            if a.offset_of(src, 8 + len).is_some() {
                return crate::abi::Str {
                    address: src.add(8),
                    len,
                };
            }
        }
        crate::abi::Str {
            address: core::ptr::null(),
            len: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, GLOBALS, MAX_STRING};

    #[test]
    fn order_is_bytewise() {
        for (a, b) in [
            ("a", "b"),
            ("a", "aa"),
            ("", "a"),
            ("a", "\u{e9}"),
            ("Z", "a"),
        ] {
            assert_eq!(
                (
                    compare(a.as_bytes(), b.as_bytes()),
                    compare(b.as_bytes(), a.as_bytes())
                ),
                (-1, 1),
                "{a:?} {b:?}"
            );
        }
        assert_eq!(compare(b"same", b"same"), 0);
    }

    #[test]
    fn joined_in_place_and_cut() {
        let mut room = *b"ab______";
        let at = room.as_mut_ptr();
        let len = unsafe { concat(at, 5, at, 2, b"cdef".as_ptr(), 4) };
        assert_eq!((len, &room), (5, b"abcde___"));
    }

    #[test]
    fn buffers_of_the_arena() {
        let f = Fixture::new();
        unsafe {
            let at = f.base.add(GLOBALS as usize);
            let long = [b'x'; 200];
            store(f.base, at, &long);
            assert_eq!(load(f.base, at).len, u64::from(MAX_STRING) - 1);
            store(f.base, at, b"short");
            let s = load(f.base, at);
            assert_eq!(bytes(&s.address, s.len), b"short");
            at.cast::<u32>().write(u32::MAX);
            assert_eq!(load(f.base, at).len, u64::from(MAX_STRING) - 1);
            assert_eq!(load(f.base, f.base.add(f.size as usize - 4)).len, 0);
        }
    }

    #[test]
    fn long_and_short_copies() {
        let source: Vec<u8> = (0..=255).collect();
        for len in [0, 1, 7, 8, 9, 63, 64, 65, 200] {
            let mut to = [0u8; 256];
            unsafe { copy_bytes(to.as_mut_ptr(), source.as_ptr(), len) };
            assert_eq!(to[..len], source[..len]);
            assert!(to[len..].iter().all(|&b| b == 0));
            let mut ones = [1u8; 256];
            unsafe { zero_bytes(ones.as_mut_ptr(), len) };
            assert_eq!(ones.iter().filter(|&&b| b == 0).count(), len);
        }
    }
}
