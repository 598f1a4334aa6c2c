//! Key tuples as they stand in entries of maps and shards: long keys as 8 bytes, strings as [`StrBuf`]s of fixed size.

use crate::layout::{MAX_KEYS, StrBuf, Value};
use crate::string::{copy_bytes, equal};

/// The types of a key tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyShape {
    /// Number of keys, 1 to [`MAX_KEYS`].
    pub count: u32,
    /// Bit `i` set: key `i` is a string.
    pub strings: u32,
    /// Bytes of a stored string key: head and buffer, a multiple of 8.
    pub string_size: u32,
}

impl KeyShape {
    /// The shape of these keys (true: string) for MAXSTRINGLEN `max_string`.
    pub fn new(keys: &[bool], max_string: u32) -> KeyShape {
        let strings = keys
            .iter()
            .enumerate()
            .fold(0, |mask, (i, &s)| mask | (u32::from(s) << i));
        KeyShape {
            count: keys.len() as u32,
            strings,
            string_size: string_size(max_string),
        }
    }

    /// True when every field is in range.
    #[inline(always)]
    pub fn is_valid(&self) -> bool {
        (1..=MAX_KEYS as u32).contains(&self.count)
            && (self.strings == 0
                || (16..=1 << 20).contains(&self.string_size) && self.string_size.is_multiple_of(8))
    }

    #[inline(always)]
    fn is_string(&self, i: u32) -> bool {
        self.strings >> i & 1 != 0
    }

    /// Bytes of a stored tuple.
    #[inline(always)]
    pub fn bytes(&self) -> u64 {
        let strings = (self.strings & ((1 << self.count) - 1)).count_ones();
        u64::from(self.count - strings) * 8 + u64::from(strings) * u64::from(self.string_size)
    }

    /// Where key `i` begins in a stored tuple.
    #[inline(always)]
    pub fn offset(&self, i: u32) -> u64 {
        let strings = (self.strings & ((1 << i) - 1)).count_ones();
        u64::from(i - strings) * 8 + u64::from(strings) * u64::from(self.string_size)
    }

    #[inline(always)]
    fn text_room(&self) -> u64 {
        u64::from(self.string_size) - 8
    }

    /// A hash of the tuple.
    ///
    /// # Safety
    /// `keys` are `count` values of the right types.
    #[inline]
    pub unsafe fn hash(&self, keys: *const Value) -> u32 {
        let mut state = 0u64;
        for i in 0..self.count {
            // SAFETY: below `count`; strings are readable.
            unsafe {
                let key = *keys.add(i as usize);
                if self.is_string(i) {
                    let len = key.len.min(self.text_room());
                    state = mix(state ^ len);
                    let mut at = 0;
                    while at < len {
                        let n = (len - at).min(8);
                        let mut word = 0u64;
                        let mut b = 0;
                        if n == 8 {
                            word = (key.word as *const u8)
                                .add(at as usize)
                                .cast::<u64>()
                                .read_unaligned();
                        } else {
                            while b < n {
                                word |= u64::from(*(key.word as *const u8).add((at + b) as usize))
                                    << (8 * b);
                                b += 1;
                            }
                        }
                        state = mix(state ^ word);
                        at += 8;
                    }
                } else {
                    state = mix(state ^ key.word);
                }
            }
        }
        (state >> 32) as u32
    }

    /// Compares those keys whose bit in `mask` is set with a stored tuple.
    ///
    /// # Safety
    /// As [`KeyShape::hash`], and `stored` is [`KeyShape::bytes`] long.
    #[inline]
    pub unsafe fn matches(&self, stored: *const u8, keys: *const Value, mask: u64) -> bool {
        for i in 0..self.count {
            if mask >> i & 1 == 0 {
                continue;
            }
            // SAFETY: offsets inside the tuple; the length read there is cut to its buffer.
            unsafe {
                let key = *keys.add(i as usize);
                let at = stored.add(self.offset(i) as usize);
                if self.is_string(i) {
                    let wanted = core::slice::from_raw_parts(
                        key.word as *const u8,
                        key.len.min(self.text_room()) as usize,
                    );
                    let wanted = if key.len == 0 { &[] } else { wanted };
                    if !equal(self.text(at), wanted) {
                        return false;
                    }
                } else if at.cast::<u64>().read_volatile() != key.word {
                    return false;
                }
            }
        }
        true
    }

    /// Writes a tuple.
    ///
    /// # Safety
    /// As [`KeyShape::matches`].
    #[inline]
    pub unsafe fn store(&self, stored: *mut u8, keys: *const Value) {
        for i in 0..self.count {
            // SAFETY: offsets inside the tuple, text cut to its buffer.
            unsafe {
                let key = *keys.add(i as usize);
                let at = stored.add(self.offset(i) as usize);
                if self.is_string(i) {
                    let len = key.len.min(self.text_room());
                    copy_bytes(at.add(8), key.word as *const u8, len as usize);
                    at.cast::<StrBuf>().write(StrBuf {
                        len: len as u32,
                        reserved: 0,
                    });
                } else {
                    at.cast::<u64>().write(key.word);
                }
            }
        }
    }

    /// The text of a stored string key at `at`.
    ///
    /// # Safety
    /// `at` is the start of a stored string key of this shape.
    #[inline]
    pub unsafe fn text<'a>(&self, at: *const u8) -> &'a [u8] {
        // SAFETY: the length is cut to the buffer.
        unsafe {
            let len = u64::from((&raw const (*at.cast::<StrBuf>()).len).read_volatile())
                .min(self.text_room());
            core::slice::from_raw_parts(at.add(8), len as usize)
        }
    }

    /// Key `i` of a stored tuple as a value (a string's address points into it).
    ///
    /// # Safety
    /// As [`KeyShape::matches`].
    pub unsafe fn value(&self, stored: *const u8, i: u32) -> Value {
        // SAFETY: inside the tuple.
        unsafe {
            let at = stored.add(self.offset(i) as usize);
            if self.is_string(i) {
                let text = self.text(at);
                Value {
                    word: text.as_ptr() as u64,
                    len: text.len() as u64,
                }
            } else {
                Value {
                    word: at.cast::<u64>().read_volatile(),
                    len: 0,
                }
            }
        }
    }
}

/// Bytes of a stored string: [`StrBuf`] and `max_string` bytes, rounded up to 8.
pub const fn string_size(max_string: u32) -> u32 {
    8 + ((max_string + 7) & !7)
}

/// The hash of one long key: the same as [`KeyShape::hash`] of it.
#[inline(always)]
pub fn hash_i64(key: i64) -> u32 {
    (mix(key as u64) >> 32) as u32
}

#[inline(always)]
fn mix(word: u64) -> u64 {
    let product = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product ^ product >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
