//! The string functions of the tapset, as the tapset reference manual describes them.

use crate::arena::Arena;
use crate::layout::{Header, Slot, StrBuf};
use crate::raise;
use crate::string::{Buffer, copy_bytes, max_string};

/// `substr(s, start, length)`: empty when the start is outside or the length not positive. So it is for the greatest
/// length of all: stap adds one to it for the NUL.
pub fn substr(to: &mut Buffer, s: &[u8], start: i64, length: i64) -> u64 {
    if start >= 0 && length.wrapping_add(1) > 1 {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let rest = s.get(start..).unwrap_or(&[]);
        let n = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        to.put(rest.get(..n).unwrap_or(&[]));
    }
    to.len()
}

/// `stringat(s, pos)`: the byte as a number; an error outside the string.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn stringat(slot: *mut Slot, s: &[u8], pos: i64) -> i64 {
    match usize::try_from(pos).ok().and_then(|p| s.get(p)) {
        Some(&byte) => i64::from(byte as i8),
        None => {
            // SAFETY: the slot is the caller's own.
            unsafe {
                raise::with(slot, |text| {
                    text.put(b"Position out of bounds");
                });
            }
            0
        }
    }
}

/// `strtol(s, base)` as strtol(3): blanks, a sign, a prefix by base, digits up to the first that is none. Saturates.
/// The base is a C `int`: of a greater number its lower 32 bits.
pub fn strtol(s: &[u8], base: i64) -> i64 {
    let mut rest = s;
    while let [b' ' | b'\t'..=b'\r', tail @ ..] = rest {
        rest = tail;
    }
    let negative = match rest {
        [b'-', tail @ ..] => {
            rest = tail;
            true
        }
        [b'+', tail @ ..] => {
            rest = tail;
            false
        }
        _ => false,
    };
    let mut base = base as i32;
    if let [b'0', b'x' | b'X', digit, ..] = rest
        && (base == 0 || base == 16)
        && digit.is_ascii_hexdigit()
    {
        base = 16;
        rest = rest.get(2..).unwrap_or(&[]);
    } else if base == 0 {
        base = if rest.first() == Some(&b'0') { 8 } else { 10 };
    }
    if !(2..=36).contains(&base) {
        return 0;
    }
    let mut value = 0u64;
    let mut overflow = false;
    for &byte in rest {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            b'A'..=b'Z' => byte - b'A' + 10,
            _ => break,
        };
        if i32::from(digit) >= base {
            break;
        }
        match value
            .checked_mul(base as u64)
            .and_then(|v| v.checked_add(u64::from(digit)))
        {
            Some(v) => value = v,
            None => overflow = true,
        }
    }
    match (
        negative,
        overflow || value > i64::MAX as u64 + negative as u64,
    ) {
        (true, true) => i64::MIN,
        (false, true) => i64::MAX,
        (true, false) => (value as i64).wrapping_neg(),
        (false, false) => value as i64,
    }
}

/// Where `needle` first occurs; -1 when it does not. The empty string occurs at 0.
pub fn strpos(s: &[u8], needle: &[u8]) -> i64 {
    if needle.is_empty() {
        return 0;
    }
    if needle.len() > s.len() {
        return -1;
    }
    for at in 0..=s.len() - needle.len() {
        if s.get(at..).is_some_and(|rest| starts_with(rest, needle)) {
            return at as i64;
        }
    }
    -1
}

fn starts_with(s: &[u8], prefix: &[u8]) -> bool {
    s.get(..prefix.len())
        .is_some_and(|head| crate::string::equal(head, prefix))
}

/// `str_replace(s, old, new)`: every occurrence from the left; an empty `old` changes nothing.
pub fn replace(to: &mut Buffer, s: &[u8], old: &[u8], new: &[u8]) -> u64 {
    let mut rest = s;
    while !old.is_empty() {
        let at = strpos(rest, old);
        if at < 0 {
            break;
        }
        to.put(rest.get(..at as usize).unwrap_or(&[])).put(new);
        rest = rest.get(at as usize + old.len()..).unwrap_or(&[]);
    }
    to.put(rest);
    to.len()
}

/// Text with C escapes for what is not printable (octal where C has no letter, `\u` and `\U` for characters in UTF-8) and for
/// `"` and `\`. `limit` > 0 bounds the output; `quoted` puts it in double quotes, which count, and tells by `...` behind
/// them that something did not fit, for which three of the last characters make room. A NUL ends the text unless `whole`.
pub fn escape(to: &mut Buffer, s: &[u8], limit: i64, quoted: bool, whole: bool) -> u64 {
    let room = to.room() as i64;
    let mut left = if limit > 0 { limit.min(room) } else { room };
    if quoted {
        left = left.max(5) - 2;
        to.push(b'"');
    }
    let mut rest = s;
    let mut last = 0;
    // The first escape that dots may cut through: where, and how long it is.
    let mut cut = None;
    // Nothing follows the last character that was looked at, and it was put.
    let mut ended = false;
    while !rest.is_empty() {
        let (c, taken) = character(rest);
        last = c;
        if (c == 0 && !whole) || left <= 0 {
            break;
        }
        rest = rest.get(taken..).unwrap_or(&[]);
        let mut piece = [b'\\', 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let letter = match c {
            7 => b'a',
            8 => b'b',
            9 => b't',
            10 => b'n',
            11 => b'v',
            12 => b'f',
            13 => b'r',
            34 | 92 => c as u8,
            _ => 0,
        };
        let n = if taken > 1 {
            let digits = if c <= 0xffff { 4 } else { 8 };
            piece[1] = if digits == 4 { b'u' } else { b'U' };
            for (i, digit) in piece.iter_mut().skip(2).take(digits).enumerate() {
                let value = (c >> (4 * (digits - 1 - i)) & 15) as u8;
                *digit = if value < 10 {
                    b'0' + value
                } else {
                    b'A' + value - 10
                };
            }
            2 + digits
        } else if letter != 0 {
            piece[1] = letter;
            2
        } else if (32..127).contains(&c) {
            piece[0] = c as u8;
            1
        } else {
            piece[1] = b'0' + (c >> 6 & 3) as u8;
            piece[2] = b'0' + (c >> 3 & 7) as u8;
            piece[3] = b'0' + (c & 7) as u8;
            4
        };
        if n > 1 && cut.is_none() && left - 3 < n as i64 {
            cut = Some((to.len() as i64, n as i64));
        }
        if left < n as i64 {
            // stap knows where memory of a given length ends, and of a text only when it meets the NUL.
            ended = rest.is_empty() && whole;
            break;
        }
        left -= n as i64;
        to.put(piece.get(..n).unwrap_or(&[]));
        ended = rest.is_empty();
    }
    if !quoted {
        return to.len();
    }
    if last == 0 || ended {
        return to.push(b'"').len();
    }
    let place = to.len() as i64 - 3 + left;
    let place = match cut {
        Some((at, n)) if at < place && place < at + n => at,
        _ => place,
    };
    to.truncate(place.max(1) as u64);
    to.put(b"\"...").len()
}

/// The first character and how many bytes it has: what is no UTF-8 is taken byte by byte (RFC 3629).
fn character(s: &[u8]) -> (u32, usize) {
    let first = u32::from(s.first().copied().unwrap_or_default());
    let (n, mut c, least) = match first {
        0xc0..=0xdf => (2, first & 0x1f, 0x80),
        0xe0..=0xef => (3, first & 0xf, 0x800),
        0xf0..=0xf7 => (4, first & 7, 0x1_0000),
        _ => return (first, 1),
    };
    for i in 1..n {
        match s.get(i) {
            Some(&byte) if byte & 0xc0 == 0x80 => c = c << 6 | u32::from(byte & 0x3f),
            _ => return (first, 1),
        }
    }
    match c {
        0xd800..=0xdfff => (first, 1),
        _ if c < least || c > 0x10_ffff => (first, 1),
        _ => (c, n),
    }
}

/// `tokenize(s, delimiters)`: state is kept in the slot. Empty tokens are skipped, as strsep's callers do.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn tokenize(
    base: *mut u8,
    slot: *mut Slot,
    to: &mut Buffer,
    s: &[u8],
    delimiters: &[u8],
) -> u64 {
    // SAFETY: header and slot are mapped; the state is checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(base);
        let at = u64::from((*base.cast::<Header>()).tokenize);
        let max = max_string(base);
        let Some(state) = arena.slot_part(slot, at, 8 + max) else {
            return 0;
        };
        if at == 0 {
            return 0;
        }
        let head = state.cast::<StrBuf>();
        if !s.is_empty() {
            let len = s.len().min(max as usize - 1);
            copy_bytes(state.add(8), s.as_ptr(), len);
            head.write_unaligned(StrBuf {
                len: len as u32,
                reserved: 0,
            });
        }
        let StrBuf {
            len,
            reserved: position,
        } = head.read_unaligned();
        let len = len.min(max as u32 - 1) as usize;
        let text = core::slice::from_raw_parts(state.add(8), len);
        let is_delimiter = |b: &u8| delimiters.contains(b);
        let mut from = (position as usize).min(len);
        while text.get(from).is_some_and(is_delimiter) {
            from += 1;
        }
        let mut end = from;
        while text.get(end).is_some_and(|b| !is_delimiter(b)) {
            end += 1;
        }
        to.put(text.get(from..end).unwrap_or(&[]));
        let next = (end + 1).min(len);
        head.write_unaligned(StrBuf {
            len: len as u32,
            reserved: next as u32,
        });
        to.len()
    }
}

/// `errno_str(n)`: the name of an error number of Linux (errno(3)); negative numbers count as positive ones.
pub fn errno_name(to: &mut Buffer, n: i64) -> u64 {
    let n = n.unsigned_abs();
    let name = match usize::try_from(n)
        .ok()
        .and_then(|n| ERRNO.split(' ').nth(n))
    {
        Some("-") | None => "",
        Some(name) if n != 0 => name,
        Some(_) => "",
    };
    to.put(name.as_bytes()).len()
}

/// Names of errno 0 … 133 on x86-64 Linux, `-` where there is none.
const ERRNO: &str = "- EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK \
EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM \
ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP - ENOMSG EIDRM ECHRNG EL2NSYNC EL3HLT EL3RST ELNRNG EUNATCH \
ENOCSI EL2HLT EBADE EBADR EXFULL ENOANO EBADRQC EBADSLT - EBFONT ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE \
ENOLINK EADV ESRMNT ECOMM EPROTO EMULTIHOP EDOTDOT EBADMSG EOVERFLOW ENOTUNIQ EBADFD EREMCHG ELIBACC ELIBBAD ELIBSCN \
ELIBMAX ELIBEXEC EILSEQ ERESTART ESTRPIPE EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT \
ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET \
ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH \
EALREADY EINPROGRESS ESTALE EUCLEAN ENOTNAM ENAVAIL EISNAM EREMOTEIO EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY \
EKEYEXPIRED EKEYREVOKED EKEYREJECTED EOWNERDEAD ENOTRECOVERABLE ERFKILL EHWPOISON";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn with(cap: usize, f: impl FnOnce(&mut Buffer) -> u64) -> String {
        let mut room = vec![0u8; cap];
        let len = unsafe { f(&mut Buffer::new(room.as_mut_ptr(), cap as u64)) };
        String::from_utf8(room[..len as usize].to_vec()).expect("text")
    }

    #[test]
    fn numbers_as_strtol() {
        let cases: [(&str, i64, i64); 18] = [
            ("42", 10, 42),
            ("12", 0x1_0000_000a, 12),
            ("0x10", 0x1_0000_0000, 16),
            ("  -17x", 10, -17),
            ("+5", 10, 5),
            ("0x1f", 0, 31),
            ("0x1f", 16, 31),
            ("1f", 16, 31),
            ("017", 0, 15),
            ("08", 0, 0),
            ("", 10, 0),
            ("z", 36, 35),
            ("0x", 16, 0),
            ("12", 2, 1),
            ("9223372036854775808", 10, i64::MAX),
            ("-9223372036854775808", 10, i64::MIN),
            ("-9223372036854775809", 10, i64::MIN),
            ("5", 1, 0),
        ];
        for (text, base, value) in cases {
            assert_eq!(strtol(text.as_bytes(), base), value, "{text:?} {base}");
        }
    }

    #[test]
    fn parts_and_places() {
        assert_eq!(with(20, |b| substr(b, b"abcdef", 2, 3)), "cde");
        assert_eq!(with(20, |b| substr(b, b"abcdef", 4, 9)), "ef");
        assert_eq!(with(20, |b| substr(b, b"abcdef", 6, 1)), "");
        assert_eq!(with(20, |b| substr(b, b"abcdef", -1, 2)), "");
        assert_eq!(with(20, |b| substr(b, b"abcdef", 1, 0)), "");
        assert_eq!(with(20, |b| substr(b, b"abcdef", 1, i64::MAX - 1)), "bcdef");
        assert_eq!(with(20, |b| substr(b, b"abcdef", 1, i64::MAX)), "");
        assert_eq!(
            (
                strpos(b"hello", b"l"),
                strpos(b"hello", b"lo"),
                strpos(b"hello", b"x"),
                strpos(b"a", b"ab")
            ),
            (2, 3, -1, -1)
        );
        assert_eq!(with(20, |b| replace(b, b"aXbXc", b"X", b"--")), "a--b--c");
        assert_eq!(with(4, |b| replace(b, b"aXbXc", b"X", b"--")), "a--b");
        assert_eq!(with(9, |b| replace(b, b"abc", b"", b"z")), "abc");
    }

    #[test]
    fn bytes_by_index() {
        let f = Fixture::new();
        let slot = f.slot(1);
        unsafe {
            assert_eq!(
                (stringat(slot, b"AZ", 0), stringat(slot, b"AZ", 1)),
                (65, 90)
            );
            assert_eq!(f.error(slot), None);
            stringat(slot, b"AZ", 2);
            assert!(f.error(slot).is_some());
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(
            with(64, |b| escape(b, b"a\n\"\\\x01\xff", 0, false, false)),
            "a\\n\\\"\\\\\\001\\377"
        );
        let quoted = |s: &[u8], limit| with(64, |b| escape(b, s, limit, true, false));
        assert_eq!(quoted(b"ab", 0), "\"ab\"");
        // What stap's runtime prints for these (text_strn): quotes and dots count.
        assert_eq!(quoted(b"abcdefghij", 6), "\"a\"...");
        assert_eq!(quoted(b"abcdefghij", 3), "\"\"...");
        assert_eq!(quoted(b"abcdefghij", 12), "\"abcdefghij\"");
        assert_eq!(quoted(b"abc\n\n\n\n", 11), "\"abc\\n\"...");
        // The last character does not fit.
        assert_eq!(quoted("\u{e9}\u{20ac}".as_bytes(), 9), "\"\"...");
        assert_eq!(
            quoted("\u{e9}\u{20ac}".as_bytes(), 14),
            "\"\\u00E9\\u20AC\""
        );
        let plain = |s: &[u8], limit| with(64, |b| escape(b, s, limit, false, false));
        assert_eq!(plain(b"abc", 2), "ab");
        assert_eq!(
            plain("a\u{e9}\u{20ac}\u{1f600}".as_bytes(), 0),
            "a\\u00E9\\u20AC\\U0001F600"
        );
        // Too long, a surrogate, cut off, beyond Unicode.
        assert_eq!(plain(b"\xc0\x80", 0), "\\300\\200");
        assert_eq!(plain(b"\xed\xa0\x80", 0), "\\355\\240\\200");
        assert_eq!(plain(b"\xe2\x82", 0), "\\342\\202");
        assert_eq!(plain(b"\xf7\xbf\xbf\xbf", 0), "\\367\\277\\277\\277");
        assert_eq!(plain(b"a\0b", 0), "a");
        assert_eq!(
            with(64, |b| escape(b, b"a\0b", 0, true, true)),
            "\"a\\000b\""
        );
    }

    #[test]
    fn tokens() {
        let f = Fixture::new();
        let slot = f.slot(1);
        let next = |s: &str, d: &str| {
            with(32, |b| unsafe {
                tokenize(f.base, slot, b, s.as_bytes(), d.as_bytes())
            })
        };
        assert_eq!(next("one,,two three", ", "), "one");
        assert_eq!(
            (
                next("", ", ").as_str(),
                next("", ", ").as_str(),
                next("", ", ").as_str()
            ),
            ("two", "three", "")
        );
    }

    #[test]
    fn error_numbers() {
        for (n, name) in [
            (1, "EPERM"),
            (2, "ENOENT"),
            (11, "EAGAIN"),
            (35, "EDEADLK"),
            (38, "ENOSYS"),
            (60, "ENOSTR"),
            (71, "EPROTO"),
            (84, "EILSEQ"),
            (110, "ETIMEDOUT"),
            (133, "EHWPOISON"),
            (-14, "EFAULT"),
            (0, ""),
        ] {
            assert_eq!(with(32, |b| errno_name(b, n)), name, "{n}");
        }
        assert_eq!(with(32, |b| errno_name(b, 4000)), "");
    }
}
