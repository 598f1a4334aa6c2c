//! Formats of the `print` family in binary, the argument blocks that go with them, and their rendering. The directives
//! are those of stap(1).
//!
//! A block is a sequence of 8-aligned arguments: a number is 8 bytes; a string its length (8 bytes) and its bytes padded
//! to 8; memory (`%m`, `%M`) likewise; a histogram the offset of its shape, a [`StatCell`] and the buckets. Blocks come
//! from the probed program and are not trusted.

use crate::arena::Arena;
use crate::histogram;
use crate::layout::{StatCell, StatShape};
use crate::stat;
use crate::string::{Buffer, Digits, copy_bytes, hex_digit, until_nul};

/// A part of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive<'a> {
    /// Bytes to copy.
    Literal(&'a [u8]),
    /// A conversion.
    Conversion(Conversion),
}

/// `%-08.3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The letter.
    pub kind: Kind,
    /// [`ZERO`], [`PLUS`], [`MINUS`], [`SPACE`], [`ALTERNATE`].
    pub flags: u8,
    /// Minimum width.
    pub width: Extent,
    /// Precision.
    pub precision: Extent,
}

/// Flag `0`.
pub const ZERO: u8 = 1;
/// Flag `+`.
pub const PLUS: u8 = 2;
/// Flag `-`.
pub const MINUS: u8 = 4;
/// Flag ` `.
pub const SPACE: u8 = 8;
/// Flag `#`.
pub const ALTERNATE: u8 = 16;

/// A width or precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Not given.
    None,
    /// A number.
    Fixed(u32),
    /// `*`: a number among the arguments, before the converted one.
    Argument,
}

/// A conversion's letter.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `%d`, `%i`.
    Signed = 1,
    /// `%u`.
    Unsigned = 2,
    /// `%o`.
    Octal = 3,
    /// `%x`.
    Hex = 4,
    /// `%X`.
    UpperHex = 5,
    /// `%p`.
    Pointer = 6,
    /// `%s`.
    String = 7,
    /// `%c`.
    Char = 8,
    /// `%b`.
    Binary = 9,
    /// `%m`.
    Memory = 10,
    /// `%M`.
    MemoryHex = 11,
    /// A histogram.
    Histogram = 12,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::*;
        [
            Signed, Unsigned, Octal, Hex, UpperHex, Pointer, String, Char, Binary, Memory,
            MemoryHex, Histogram,
        ]
        .into_iter()
        .find(|&k| k as u8 == byte)
    }
}

/// Where text goes.
pub trait Sink {
    /// Takes bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Buffer {
    fn put(&mut self, bytes: &[u8]) {
        Buffer::put(self, bytes);
    }
}

/// Head of an encoded format: bytes in all, this head included.
const HEAD: usize = 8;
/// Head of an encoded directive.
const ITEM: usize = 16;
/// Bytes that one `printf` prints at most: stap's buffer (`STP_BUFFER_SIZE`). Histograms are not counted, and a text
/// alone is copied through the buffer piece by piece.
const MOST_PRINTED: usize = 8192;

/// Whether a format is no more than a text, as in `print(s)`.
fn is_text_alone(encoded: &[u8]) -> bool {
    let mut all = Directives::new(encoded);
    let text = match all.next() {
        Some(Directive::Literal(_)) => true,
        Some(Directive::Conversion(c)) => {
            c.kind == Kind::String && (c.width, c.precision) == (Extent::None, Extent::None)
        }
        None => false,
    };
    text && all.next().is_none()
}

/// What a `printf` still prints. Widths and precisions are cut to it, as is what is written.
struct Bounded<'a, S: ?Sized> {
    sink: &'a mut S,
    left: usize,
}

impl<S: Sink + ?Sized> Sink for Bounded<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        let part = bytes.get(..self.left).unwrap_or(bytes);
        self.left -= part.len();
        self.sink.put(part);
    }
}

/// Bytes of the encoded format.
pub fn encoded_len(directives: &[Directive<'_>]) -> usize {
    directives.iter().fold(HEAD, |sum, d| {
        sum + ITEM
            + match d {
                Directive::Literal(bytes) => (bytes.len() + 7) & !7,
                Directive::Conversion(_) => 0,
            }
    })
}

/// Encodes a format; `None` when `out` is shorter than [`encoded_len`]. Kept at a multiple of 8 in the arena.
pub fn encode(directives: &[Directive<'_>], out: &mut [u8]) -> Option<usize> {
    let total = encoded_len(directives);
    let out = out.get_mut(..total)?;
    out.fill(0);
    out.get_mut(..4)?
        .copy_from_slice(&u32::try_from(total).ok()?.to_le_bytes());
    let mut at = HEAD;
    for directive in directives {
        let item = out.get_mut(at..)?;
        at += ITEM;
        match directive {
            Directive::Literal(bytes) => {
                item.get_mut(8..12)?
                    .copy_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
                item.get_mut(ITEM..ITEM + bytes.len())?
                    .copy_from_slice(bytes);
                at += (bytes.len() + 7) & !7;
            }
            Directive::Conversion(c) => {
                let (wm, w) = extent(c.width);
                let (pm, p) = extent(c.precision);
                item.get_mut(..4)?
                    .copy_from_slice(&[c.kind as u8, c.flags, wm, pm]);
                item.get_mut(8..12)?.copy_from_slice(&w.to_le_bytes());
                item.get_mut(12..16)?.copy_from_slice(&p.to_le_bytes());
            }
        }
    }
    Some(total)
}

fn extent(e: Extent) -> (u8, u32) {
    match e {
        Extent::None => (0, 0),
        Extent::Fixed(n) => (1, n),
        Extent::Argument => (2, 0),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([
        *b.first()?,
        *b.get(1)?,
        *b.get(2)?,
        *b.get(3)?,
    ]))
}

/// The directives of an encoded format, up to its end or the first that makes no sense.
#[derive(Clone, Copy, Debug)]
pub struct Directives<'a> {
    rest: &'a [u8],
}

impl<'a> Directives<'a> {
    /// Reads an encoded format.
    pub fn new(encoded: &'a [u8]) -> Self {
        let total = word(encoded, 0).unwrap_or(0) as usize;
        Directives {
            rest: encoded.get(HEAD..total.min(encoded.len())).unwrap_or(&[]),
        }
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        let item = self.rest.get(..ITEM)?;
        let [kind, flags, wm, pm] = [*item.first()?, *item.get(1)?, *item.get(2)?, *item.get(3)?];
        let (first, second) = (word(item, 8)?, word(item, 12)?);
        let after = self.rest.get(ITEM..)?;
        if kind == 0 {
            let len = first as usize;
            let literal = after.get(..len)?;
            self.rest = after.get((len + 7) & !7..).unwrap_or(&[]);
            return Some(Directive::Literal(literal));
        }
        self.rest = after;
        let extent = |mode, n| match mode {
            1 => Extent::Fixed(n),
            2 => Extent::Argument,
            _ => Extent::None,
        };
        let kind = Kind::from_byte(kind)?;
        Some(Directive::Conversion(Conversion {
            kind,
            flags,
            width: extent(wm, first),
            precision: extent(pm, second),
        }))
    }
}

/// The arguments of a block.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    rest: &'a [u8],
}

impl<'a> Args<'a> {
    /// Reads a block.
    pub fn new(block: &'a [u8]) -> Self {
        Args { rest: block }
    }

    /// The next number.
    pub fn long(&mut self) -> Option<i64> {
        let bytes = self.rest.get(..8)?;
        self.rest = self.rest.get(8..)?;
        let mut raw = [0u8; 8];
        raw.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Some(i64::from_le_bytes(raw))
    }

    /// The next string or memory.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.long()?).ok()?;
        let text = self.rest.get(..len)?;
        self.rest = self.rest.get(len.checked_add(7)? & !7..).unwrap_or(&[]);
        Some(text)
    }

    /// The next histogram: its shape's offset in the arena, its head, and its buckets (`u64` each, as bytes).
    pub fn histogram(
        &mut self,
        shape: impl FnOnce(u64) -> Option<StatShape>,
    ) -> Option<(StatShape, StatCell, &'a [u8])> {
        let shape = shape(self.long()? as u64)?;
        let mut word = || self.long();
        let cell = StatCell {
            count: word()?,
            sum: word()?,
            min: word()?,
            max: word()?,
            mean: word()?,
            m2: word()?,
        };
        let bytes = (shape.buckets as usize).checked_mul(8)?;
        let buckets = self.rest.get(..bytes)?;
        self.rest = self.rest.get(bytes..)?;
        Some((shape, cell, buckets))
    }
}

/// Formats a block to be printed: of more than a text alone 8192 bytes at most. It stops where arguments are missing or the format is damaged.
pub fn render<S: Sink + ?Sized>(arena: &Arena, encoded: &[u8], block: &[u8], sink: &mut S) {
    let left = match is_text_alone(encoded) {
        true => usize::MAX,
        false => MOST_PRINTED,
    };
    let mut sink = Bounded { sink, left };
    let mut args = Args::new(block);
    for directive in Directives::new(encoded) {
        let done = match directive {
            Directive::Literal(bytes) => {
                sink.put(bytes);
                Some(())
            }
            Directive::Conversion(c) if c.kind == Kind::Histogram => {
                convert(arena, &c, &mut args, usize::MAX, sink.sink)
            }
            Directive::Conversion(c) => {
                let most = sink.left;
                convert(arena, &c, &mut args, most, &mut sink)
            }
        };
        if done.is_none() {
            return;
        }
    }
}

fn convert<S: Sink + ?Sized>(
    arena: &Arena,
    c: &Conversion,
    args: &mut Args<'_>,
    most: usize,
    sink: &mut S,
) -> Option<()> {
    let flags = c.flags;
    // Unlike printf(3), stap takes a negative width or precision among the arguments for 0; of others the lower 32 bits.
    let mut extent = |e| {
        Some(match e {
            Extent::None => None,
            Extent::Fixed(n) => Some((n as usize).min(most)),
            Extent::Argument => Some((args.long()? as i32).max(0) as usize).map(|n| n.min(most)),
        })
    };
    let width = extent(c.width)?;
    let precision = extent(c.precision)?;
    let least = width.unwrap_or(0);
    match c.kind {
        Kind::Signed => {
            let value = args.long()?;
            let sign: &[u8] = match value {
                ..0 => b"-",
                _ if flags & PLUS != 0 => b"+",
                _ if flags & SPACE != 0 => b" ",
                _ => b"",
            };
            let mut text = Digits::new();
            number(
                sink,
                text.decimal(value.unsigned_abs()),
                sign,
                flags,
                least,
                precision,
            );
        }
        Kind::Unsigned => {
            let mut text = Digits::new();
            number(
                sink,
                text.decimal(args.long()? as u64),
                b"",
                flags,
                least,
                precision,
            );
        }
        Kind::Octal => {
            let mut text = Digits::new();
            let digits = text.power(args.long()? as u64, 3, false);
            let prefix: &[u8] = if flags & ALTERNATE != 0 { b"0" } else { b"" };
            number(sink, digits, prefix, flags, least, precision);
        }
        Kind::Hex | Kind::UpperHex | Kind::Pointer => {
            let upper = c.kind == Kind::UpperHex;
            let mut text = Digits::new();
            let digits = text.power(args.long()? as u64, 4, upper);
            let prefix: &[u8] = match c.kind {
                Kind::Pointer => b"0x",
                _ if flags & ALTERNATE == 0 => b"",
                Kind::UpperHex => b"0X",
                _ => b"0x",
            };
            number(sink, digits, prefix, flags, least, precision);
        }
        Kind::String => {
            let text = until_nul(args.string()?);
            let text = precision.and_then(|p| text.get(..p)).unwrap_or(text);
            padded(sink, text, flags, least);
            terminate(sink, flags);
        }
        Kind::Char => character(sink, args.long()? as u8, flags, least),
        Kind::Binary => binary(sink, args.long()?, flags, width, precision),
        Kind::Memory => {
            padded(sink, args.string()?, flags, least);
            terminate(sink, flags);
        }
        Kind::MemoryHex => {
            let bytes = args.string()?;
            if flags & MINUS == 0 {
                pad(sink, b' ', least.saturating_sub(2 * bytes.len()));
            }
            for b in bytes {
                sink.put(&[hex_digit(b >> 4, false), hex_digit(b & 15, false)]);
            }
            if flags & MINUS != 0 {
                pad(sink, b' ', least.saturating_sub(2 * bytes.len()));
            }
            terminate(sink, flags);
        }
        Kind::Histogram => {
            let (shape, _, buckets) = args.histogram(|offset| stat::shape(arena, offset))?;
            histogram::draw(&shape, buckets, sink);
        }
    }
    Some(())
}

fn pad<S: Sink + ?Sized>(sink: &mut S, byte: u8, mut n: usize) {
    let block: &[u8; 32] = if byte == b'0' {
        b"00000000000000000000000000000000"
    } else {
        b"                                "
    };
    while n > 0 {
        let part = n.min(block.len());
        sink.put(block.get(..part).unwrap_or(block));
        n -= part;
    }
}

fn padded<S: Sink + ?Sized>(sink: &mut S, text: &[u8], flags: u8, width: usize) {
    let blanks = width.saturating_sub(text.len());
    if flags & MINUS == 0 {
        pad(sink, b' ', blanks);
    }
    sink.put(text);
    if flags & MINUS != 0 {
        pad(sink, b' ', blanks);
    }
}

/// With the flag `0`, texts and memory are followed by a NUL.
fn terminate<S: Sink + ?Sized>(sink: &mut S, flags: u8) {
    if flags & ZERO != 0 {
        sink.put(&[0]);
    }
}

/// `%c`; with `#`, a byte that is not printable becomes an escape sequence of C.
fn character<S: Sink + ?Sized>(sink: &mut S, byte: u8, flags: u8, width: usize) {
    let octal = |shift: u32| b'0' + (byte >> shift & 7);
    let letter = match byte {
        _ if flags & ALTERNATE == 0 => return padded(sink, &[byte], flags, width),
        0x07 => b'a',
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x0b => b'v',
        b'\'' | b'\\' => byte,
        b' '..=b'~' => return padded(sink, &[byte], flags, width),
        _ => return padded(sink, &[b'\\', octal(6), octal(3), octal(0)], flags, width),
    };
    padded(sink, &[b'\\', letter], flags, width);
}

/// `%b`: the precision, else the width, is how many bytes are written when it is 1, 2, 4 or 8; NULs fill up the width.
fn binary<S: Sink + ?Sized>(
    sink: &mut S,
    value: i64,
    flags: u8,
    width: Option<usize>,
    precision: Option<usize>,
) {
    let count = |n: Option<usize>| n.filter(|n| matches!(n, 1 | 2 | 4 | 8));
    let n = count(precision).or(count(width)).unwrap_or(8);
    let fill = width.unwrap_or(n).saturating_sub(n);
    let bytes = value.to_le_bytes();
    let text = bytes.get(..n).unwrap_or(&bytes);
    if flags & MINUS != 0 {
        sink.put(text);
    }
    for _ in 0..fill {
        sink.put(&[0]);
    }
    if flags & MINUS == 0 {
        sink.put(text);
    }
}

/// Sign or prefix, digits, and padding. Unlike with printf(3), the flag `0` holds with a precision too, and a
/// precision of 0 leaves the digit of 0.
fn number<S: Sink + ?Sized>(
    sink: &mut S,
    digits: &[u8],
    prefix: &[u8],
    flags: u8,
    width: usize,
    precision: Option<usize>,
) {
    let mut zeros = precision.unwrap_or(0).saturating_sub(digits.len());
    let mut blanks = width.saturating_sub(prefix.len() + digits.len() + zeros);
    if flags & (ZERO | MINUS) == ZERO {
        zeros += blanks;
        blanks = 0;
    }
    if flags & MINUS == 0 {
        pad(sink, b' ', blanks);
    }
    sink.put(prefix);
    pad(sink, b'0', zeros);
    sink.put(digits);
    if flags & MINUS != 0 {
        pad(sink, b' ', blanks);
    }
}

/// The encoded format at an offset of the arena; empty when it does not lie inside.
///
/// # Safety
/// The format is not changed while the result is used (it is in the constants).
pub unsafe fn at(arena: &Arena, offset: u64) -> &[u8] {
    // SAFETY: checked to lie inside the arena.
    unsafe {
        let Some(head) = arena.at(offset, HEAD as u64) else {
            return &[];
        };
        let total = u64::from(head.cast::<u32>().read_unaligned());
        match arena.at(offset, total) {
            Some(start) => core::slice::from_raw_parts(start, total as usize),
            None => &[],
        }
    }
}

/// Formats a block into a string. What does not fit is dropped; widths and precisions are cut to what is left of
/// MAXSTRINGLEN, the NUL included.
fn render_string(arena: &Arena, encoded: &[u8], block: &[u8], to: &mut Buffer) {
    let mut args = Args::new(block);
    for directive in Directives::new(encoded) {
        match directive {
            Directive::Literal(bytes) => Sink::put(to, bytes),
            Directive::Conversion(c) => {
                let most = to.room() + 1;
                if convert(arena, &c, &mut args, most, to).is_none() {
                    return;
                }
            }
        }
    }
}

/// See [`crate::abi::sprint`]. A NUL that a conversion made (`%c` of 0, `%b`) ends the string.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn sprint(base: *mut u8, offset: u64, block: &[u8], to: &mut Buffer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        if to.start().is_null() {
            return 0;
        }
        render_string(&arena, at(&arena, offset), block, to);
        let text = core::slice::from_raw_parts(to.start(), to.len() as usize);
        let len = until_nul(text).len() as u64;
        to.set_len(len);
        len
    }
}

/// See [`crate::abi::args_string`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn put_string(at: *mut u8, s: &[u8]) -> *mut u8 {
    let padded = (s.len() + 7) & !7;
    // SAFETY: the caller reserved 8 + padded bytes.
    unsafe {
        at.cast::<u64>().write_unaligned(s.len() as u64);
        if padded != 0 {
            at.add(padded).cast::<u64>().write_unaligned(0);
        }
        copy_bytes(at.add(8), s.as_ptr(), s.len());
        at.add(8 + padded)
    }
}

/// See [`crate::abi::args_hist`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn put_histogram(
    arena: *mut u8,
    at: *mut u8,
    cell: *const StatCell,
    shape: u64,
) -> *mut u8 {
    // SAFETY: the caller reserved 8 + size bytes; the cell is one of that shape.
    unsafe {
        let size = stat::size(arena, shape) as usize;
        at.cast::<u64>().write_unaligned(shape);
        if cell.is_null() {
            crate::string::zero_bytes(at.add(8), size);
        } else {
            copy_bytes(at.add(8), cell.cast(), size);
        }
        at.add(8 + size)
    }
}

#[cfg(test)]
mod tests;
