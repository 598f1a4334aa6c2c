//! Texts of UTF-16 and UTF-32 in the program's memory, as UTF-8 (function::user_string_utf16(3stap)).

use crate::layout::Slot;
use crate::string::{Buffer, bytes};
use crate::{memory, raise, text};

const PAGE: u64 = 4096;
/// Bytes read at once.
const PIECE: u64 = 64;

/// Why there is no text.
enum Problem {
    /// The memory can't be read.
    Fault,
    /// The unit at this address is not part of any character.
    Encoding(u64),
}

/// Units of 2 or 4 bytes, read in pieces.
struct Units {
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    unit: u64,
    piece: [u8; PIECE as usize],
    at: usize,
    end: usize,
}

impl Units {
    unsafe fn next(&mut self) -> Result<u32, Problem> {
        if self.at >= self.end {
            let in_page = PAGE - self.address % PAGE;
            let whole = in_page.min(PIECE) / self.unit * self.unit;
            let len = whole.max(self.unit);
            // SAFETY: the caller's promise; the piece has room.
            if unsafe {
                memory::read(
                    self.base,
                    self.slot,
                    self.piece.as_mut_ptr(),
                    self.address,
                    len,
                )
            } != 0
            {
                return Err(Problem::Fault);
            }
            self.at = 0;
            self.end = len as usize;
        }
        let mut value = 0u32;
        for i in 0..self.unit as usize {
            let byte = self.piece.get(self.at + i).copied().unwrap_or(0);
            value |= u32::from(byte) << (8 * i);
        }
        self.at += self.unit as usize;
        self.address = self.address.wrapping_add(self.unit);
        Ok(value)
    }

    unsafe fn character(&mut self) -> Result<char, Problem> {
        // SAFETY: the caller's promise.
        let first = unsafe { self.next()? };
        let wrong = Problem::Encoding(self.address.wrapping_sub(self.unit));
        if self.unit == 4 || !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or(wrong);
        }
        if first >= 0xdc00 {
            return Err(wrong);
        }
        // SAFETY: the caller's promise.
        let second = unsafe { self.next()? };
        if !(0xdc00..0xe000).contains(&second) {
            return Err(wrong);
        }
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(wrong)
    }
}

unsafe fn fetch(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    unit: u64,
    to: &mut Buffer,
) -> Result<(), Problem> {
    let mut units = Units {
        base,
        slot,
        address,
        unit: if unit == 4 { 4 } else { 2 },
        piece: [0; PIECE as usize],
        at: 0,
        end: 0,
    };
    loop {
        // SAFETY: the caller's promise.
        let c = unsafe { units.character()? };
        let mut utf8 = [0; 4];
        let encoded = c.encode_utf8(&mut utf8).as_bytes();
        // A character that does not fit is left out whole.
        if c == '\0' || to.room() < encoded.len() {
            return Ok(());
        }
        to.put(encoded);
    }
}

/// See [`crate::abi::user_wide`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn string(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    unit: u64,
    to: &mut Buffer,
) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let (what, at): (&[u8], u64) = match fetch(base, slot, address, unit, to) {
            Ok(()) => return to.len(),
            Err(Problem::Fault) => (b"user string copy fault -14 at 0x", address),
            Err(Problem::Encoding(at)) => (b"invalid UTF sequence at 0x", at),
        };
        to.clear();
        raise::with(slot, |t| {
            t.put(what).hex(at, 0).put(b" [man error::fault]");
        });
    }
    0
}

/// See [`crate::abi::user_wide2`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn string_or(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    unit: u64,
    to: &mut Buffer,
    other: &[u8],
) -> u64 {
    // SAFETY: the caller's promise.
    if unsafe { fetch(base, slot, address, unit, to) }.is_err() {
        to.clear();
        to.put(other);
    }
    to.len()
}

/// See [`crate::abi::user_wide_quoted`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn quoted(
    base: *mut u8,
    slot: *mut Slot,
    address: u64,
    unit: u64,
    to: &mut Buffer,
) -> u64 {
    let mut plain = [0u8; 1024];
    // SAFETY: the buffer is a local of that size.
    unsafe {
        let start = plain.as_mut_ptr();
        let mut raw = Buffer::new(start, 1024);
        if fetch(base, slot, address, unit, &mut raw).is_err() {
            return to.put(b"0x").hex(address, 0).len();
        }
        let (p, len) = (start.cast_const(), raw.len());
        text::escape(to, bytes(&p, len), 0, true, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn read(f: &Fixture, address: u64, unit: u64) -> String {
        let mut room = vec![0u8; 64];
        let len = unsafe {
            string(
                f.base,
                f.owned(1),
                address,
                unit,
                &mut Buffer::new(room.as_mut_ptr(), 63),
            )
        };
        String::from_utf8(room[..len as usize].to_vec()).expect("UTF-8")
    }

    #[test]
    fn both_widths_are_decoded() {
        let f = Fixture::new();
        let text = "h\u{e9}llo \u{20ac} \u{1f600}!";
        let utf16: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let utf32: Vec<u32> = text.chars().map(u32::from).chain([0]).collect();
        assert_eq!(read(&f, utf16.as_ptr() as u64, 2), text);
        assert_eq!(read(&f, utf32.as_ptr() as u64, 4), text);
        assert_eq!(f.error(f.slot(1)), None);
        // A text that is longer than the buffer ends before a character that does not fit.
        let long: Vec<u16> = "\u{20ac}".repeat(40).encode_utf16().chain([0]).collect();
        assert_eq!(read(&f, long.as_ptr() as u64, 2), "\u{20ac}".repeat(21));
    }

    #[test]
    fn mistakes_and_faults_are_errors() {
        let f = Fixture::new();
        let lone = [0x41u16, 0xdc00, 0];
        assert_eq!(read(&f, lone.as_ptr() as u64, 2), "");
        let at = lone.as_ptr() as u64 + 2;
        assert_eq!(
            f.error(f.slot(1)),
            Some(format!(
                "invalid UTF sequence at 0x{at:x} [man error::fault]"
            ))
        );
        assert_eq!(read(&f, 8, 4), "");
        assert_eq!(
            f.error(f.slot(1)).as_deref(),
            Some("user string copy fault -14 at 0x8 [man error::fault]")
        );
    }
}
