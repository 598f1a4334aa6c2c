//! Statistics: the values behind `<<<`, `@count` … `@variance` and histograms, computed as SystemTap documents and
//! does. `@variance` is Welford's algorithm in integers with a mean that is cut at every step, and the parts kept per
//! CPU (here: per thread) are put together by the law of total variance; 1 … 100 therefore gives 5741.

use crate::arena::Arena;
use crate::histogram;
use crate::layout::{HIST_LOG_BUCKETS, Slot, StatCell, StatShape};
use crate::raise::{self, Canned};
use crate::string::zero_bytes;

/// Bytes of a cell without buckets.
pub const CELL: u64 = core::mem::size_of::<StatCell>() as u64;

/// Most buckets that a shape may have: stap's limit for `@hist_linear` is below it.
pub const MAX_BUCKETS: u32 = 1 << 16;

/// Bucket of 0 in a logarithmic histogram.
const LOG_ZERO: i64 = 64;

impl StatShape {
    /// `@hist_log`.
    pub fn log(shift: u32, variance: bool) -> StatShape {
        StatShape {
            hist: 1,
            buckets: HIST_LOG_BUCKETS as u32,
            shift,
            variance: variance as u32,
            width: histogram::WIDTH,
            elision: histogram::ELISION,
            ..StatShape::default()
        }
    }

    /// `@hist_linear(low, high, step)`: one bucket for each step from `low` to `high` inclusive, and one on either
    /// side. `None` when the bounds are unusable.
    pub fn linear(low: i64, high: i64, step: i64, shift: u32, variance: bool) -> Option<StatShape> {
        if step <= 0 || high <= low {
            return None;
        }
        let buckets = u32::try_from(high.checked_sub(low)? / step + 3)
            .ok()
            .filter(|&b| b <= MAX_BUCKETS)?;
        Some(StatShape {
            hist: 2,
            buckets,
            low,
            high,
            step,
            shift,
            variance: variance as u32,
            width: histogram::WIDTH,
            elision: histogram::ELISION,
        })
    }

    /// No histogram.
    pub fn plain(shift: u32, variance: bool) -> StatShape {
        StatShape {
            shift,
            variance: variance as u32,
            width: histogram::WIDTH,
            elision: histogram::ELISION,
            ..StatShape::default()
        }
    }

    /// The bucket of a value.
    #[inline]
    pub fn bucket_of(&self, value: i64) -> u32 {
        if self.hist == 1 {
            return log_bucket(value);
        }
        let last = self.buckets.saturating_sub(1);
        if value < self.low {
            return 0;
        }
        let steps = (value.wrapping_sub(self.low) as u64) / (self.step.max(1) as u64);
        if steps >= u64::from(last) {
            last
        } else {
            (steps as u32 + 1).min(last)
        }
    }

    /// The lowest value of a bucket (for the overflow bucket that of the bucket before, as it is shown).
    pub fn low_of(&self, bucket: u32) -> i64 {
        if self.hist == 1 {
            return log_value(bucket);
        }
        // The last row inside the range and the overflow row show the same value, the latter behind a `>`.
        let inside = bucket.min(self.buckets.saturating_sub(2)).saturating_sub(1);
        self.low
            .wrapping_add(self.step.wrapping_mul(i64::from(inside)))
    }
}

/// The bucket of `@hist_log`: 64 for 0, 64 + n for values of n bits, 64 - n for negative ones.
#[inline]
pub fn log_bucket(value: i64) -> u32 {
    let bits = i64::from(64 - value.unsigned_abs().leading_zeros());
    (LOG_ZERO + if value < 0 { -bits } else { bits }) as u32
}

/// The value that stands for a bucket of `@hist_log`.
pub fn log_value(bucket: u32) -> i64 {
    let n = i64::from(bucket.min(127)) - LOG_ZERO;
    match n {
        0 => 0,
        1.. => 1i64.wrapping_shl(n as u32 - 1),
        _ => 1i64.wrapping_shl((-n) as u32 - 1).wrapping_neg(),
    }
}

/// The shape at an offset, copied and checked; `None` for offset 0 and nonsense.
#[inline]
pub(crate) fn shape(arena: &Arena, offset: u64) -> Option<StatShape> {
    if offset == 0 || !offset.is_multiple_of(8) {
        return None;
    }
    // SAFETY: inside the arena, aligned, plain data.
    let shape = unsafe {
        arena
            .at(offset, core::mem::size_of::<StatShape>() as u64)?
            .cast::<StatShape>()
            .read_volatile()
    };
    let valid = shape.hist <= 2
        && shape.buckets <= MAX_BUCKETS
        && shape.shift <= 62
        && (shape.hist == 0) == (shape.buckets == 0);
    valid.then_some(shape)
}

/// `@variance`'s shift of a shape.
#[inline]
pub(crate) fn shift(arena: &Arena, offset: u64) -> u32 {
    shape(arena, offset).map_or(0, |s| s.shift)
}

/// See [`crate::abi::stat_add`].
///
/// # Safety
/// As the functions of [`crate::abi`].
#[inline]
pub unsafe fn add(arena: *mut u8, cell: *mut StatCell, shape: u64, value: i64) {
    // SAFETY: the cell is checked against the arena when a shape decides how far it reaches.
    unsafe {
        if shape == 0 {
            add_plain(cell, value);
        } else {
            add_shaped(arena, cell, shape, value);
        }
    }
}

/// Adds to count, sum, minimum and maximum.
#[inline(always)]
unsafe fn add_plain(cell: *mut StatCell, value: i64) {
    // SAFETY: the caller's cell.
    unsafe {
        let c = &mut *cell;
        if c.count == 0 {
            c.min = value;
            c.max = value;
        } else {
            if value < c.min {
                c.min = value;
            }
            if value > c.max {
                c.max = value;
            }
        }
        c.count = c.count.wrapping_add(1);
        c.sum = c.sum.wrapping_add(value);
    }
}

unsafe fn add_shaped(arena: *mut u8, cell: *mut StatCell, offset: u64, value: i64) {
    // SAFETY: the caller's cell; the bucket is checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(arena);
        add_plain(cell, value);
        let Some(shape) = shape(&arena, offset) else {
            return;
        };
        if shape.variance != 0 {
            welford(&mut *cell, value, shape.shift);
        }
        if shape.hist != 0 {
            let at = cell
                .cast::<u8>()
                .wrapping_add((CELL + 8 * u64::from(shape.bucket_of(value))) as usize);
            if arena.offset_of(at, 8).is_some() {
                let count = at.cast::<u64>();
                count.write_unaligned(count.read_unaligned().wrapping_add(1));
            }
        }
    }
}

/// One step of Welford's algorithm, after `count` was raised.
#[inline]
fn welford(cell: &mut StatCell, value: i64, shift: u32) {
    let scaled = value.wrapping_shl(shift);
    let delta = scaled.wrapping_sub(cell.mean);
    cell.mean = cell
        .mean
        .wrapping_add(delta.wrapping_div(cell.count.max(1)));
    cell.m2 = cell
        .m2
        .wrapping_add(delta.wrapping_mul(scaled.wrapping_sub(cell.mean)));
}

/// The between-parts term of the law of total variance: `count · (mean - all)²`.
fn between(count: i64, mean: i64, all: i64) -> i64 {
    let d = mean.wrapping_sub(all);
    count.wrapping_mul(d.wrapping_mul(d))
}

/// The within-part term, cut as stap cuts it: `(count - 1) · (m2 / (count - 1))`.
fn within(cell: &StatCell) -> i64 {
    let n = cell.count.wrapping_sub(1);
    if n <= 0 {
        0
    } else {
        n.wrapping_mul(cell.m2.wrapping_div(n))
    }
}

fn scaled_mean(count: i64, sum: i64, shift: u32) -> i64 {
    if count == 0 {
        0
    } else {
        sum.wrapping_shl(shift).wrapping_div(count)
    }
}

/// Puts two parts of a statistic together.
pub fn merge(into: &mut StatCell, from: &StatCell, shift: u32) {
    if from.count == 0 {
        return;
    }
    if into.count == 0 {
        *into = *from;
        return;
    }
    let count = into.count.wrapping_add(from.count);
    let sum = into.sum.wrapping_add(from.sum);
    let mean = scaled_mean(count, sum, shift);
    let m2 = between(into.count, into.mean, mean)
        .wrapping_add(between(from.count, from.mean, mean))
        .wrapping_add(within(into))
        .wrapping_add(within(from));
    *into = StatCell {
        count,
        sum,
        min: into.min.min(from.min),
        max: into.max.max(from.max),
        mean,
        m2,
    };
}

/// An aggregate by the number of [`crate::abi::stat_read`]; `None` for those that an empty statistic does not have.
pub fn aggregate(cell: &StatCell, op: u32, shift: u32) -> Option<i64> {
    if op == 0 {
        return Some(cell.count);
    }
    if op == 1 {
        return Some(if cell.count == 0 { 0 } else { cell.sum });
    }
    if cell.count == 0 {
        return None;
    }
    Some(match op {
        2 => cell.min,
        3 => cell.max,
        4 => cell.sum.wrapping_div(cell.count),
        5 => {
            let mean = scaled_mean(cell.count, cell.sum, shift);
            variance(cell, between(cell.count, cell.mean, mean), shift)
        }
        ELEMENT_VARIANCE => variance(cell, 0, shift),
        _ => 0,
    })
}

/// `@variance` of an array's element: stap takes the only part of one as it is, and measures that of a statistic of its
/// own against the mean.
pub const ELEMENT_VARIANCE: u32 = 6;

/// The variance, `beyond` the deviations within the parts. Of one value it is 0.
fn variance(cell: &StatCell, beyond: i64, shift: u32) -> i64 {
    if cell.count < 2 {
        return 0;
    }
    let total = beyond.wrapping_add(within(cell));
    // 64 bits and more take everything away.
    total
        .wrapping_div(cell.count.wrapping_sub(1))
        .checked_shr(2 * shift)
        .unwrap_or(0)
}

/// See [`crate::abi::stat_read`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn read(
    arena: *mut u8,
    slot: *mut Slot,
    cell: *const StatCell,
    shape: u64,
    op: u64,
) -> i64 {
    // SAFETY: the caller's cell.
    unsafe {
        let copy = if cell.is_null() {
            StatCell::default()
        } else {
            cell.read_volatile()
        };
        match aggregate(&copy, op as u32, shift(&Arena::of(arena), shape)) {
            Some(value) => value,
            None => {
                raise::canned(arena, slot, Canned::EmptyAggregate as u64);
                0
            }
        }
    }
}

/// The count of a bucket; 0 outside.
pub(crate) fn bucket_count(
    arena: &Arena,
    cell: *const StatCell,
    shape: &StatShape,
    bucket: u32,
) -> i64 {
    if cell.is_null() || bucket >= shape.buckets {
        return 0;
    }
    let at = cell
        .cast::<u8>()
        .wrapping_add((CELL + 8 * u64::from(bucket)) as usize);
    if arena.offset_of(at, 8).is_some() {
        // SAFETY: checked to lie inside the arena.
        unsafe { at.cast::<i64>().read_unaligned() }
    } else {
        0
    }
}

/// See [`crate::abi::stat_bucket`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn bucket(
    base: *mut u8,
    slot: *mut Slot,
    cell: *const StatCell,
    offset: u64,
    index: i64,
) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        let arena = Arena::of(base);
        match shape(&arena, offset) {
            _ if cell.is_null() || (*cell).count == 0 => {
                raise::canned(base, slot, Canned::EmptyAggregate as u64);
                0
            }
            Some(shape) if (0..i64::from(shape.buckets)).contains(&index) => {
                bucket_count(&arena, cell, &shape, index as u32)
            }
            _ => {
                raise::canned(base, slot, Canned::HistogramIndex as u64);
                0
            }
        }
    }
}

/// See [`crate::abi::stat_size`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn size(base: *mut u8, offset: u64) -> u64 {
    // SAFETY: the caller's promise.
    let arena = unsafe { Arena::of(base) };
    CELL + shape(&arena, offset).map_or(0, |s| 8 * u64::from(s.buckets))
}

/// See [`crate::abi::stat_clear`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn clear(base: *mut u8, cell: *mut StatCell, offset: u64) {
    // SAFETY: checked to lie inside the arena.
    unsafe {
        let size = size(base, offset);
        if Arena::of(base).offset_of(cell.cast(), size).is_some() {
            zero_bytes(cell.cast(), size as usize);
        }
    }
}

/// Tracer: merges a cell and its buckets into another and empties it. Both are checked to lie inside the arena.
pub(crate) unsafe fn drain(arena: &Arena, into: *mut u8, from: *mut u8, shape: Option<&StatShape>) {
    let buckets = shape.map_or(0, |s| u64::from(s.buckets));
    let size = CELL + 8 * buckets;
    if arena.offset_of(into, size).is_none() || arena.offset_of(from, size).is_none() {
        return;
    }
    // SAFETY: both inside the arena.
    unsafe {
        let part = from.cast::<StatCell>().read_unaligned();
        if part.count == 0 {
            return;
        }
        let mut all = into.cast::<StatCell>().read_unaligned();
        merge(&mut all, &part, shape.map_or(0, |s| s.shift));
        into.cast::<StatCell>().write_unaligned(all);
        for i in 0..buckets {
            let at = (CELL + 8 * i) as usize;
            let (x, y) = (into.add(at).cast::<u64>(), from.add(at).cast::<u64>());
            x.write_unaligned(x.read_unaligned().wrapping_add(y.read_unaligned()));
        }
        zero_bytes(from, size as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{CONSTANTS, Fixture, GLOBALS};

    fn put(f: &Fixture, shape: StatShape) {
        unsafe {
            f.base
                .add(CONSTANTS as usize)
                .cast::<StatShape>()
                .write(shape)
        };
    }

    fn cell(f: &Fixture, at: u64) -> *mut StatCell {
        unsafe { f.base.add((GLOBALS + at) as usize).cast() }
    }

    #[test]
    fn aggregates() {
        let f = Fixture::new();
        let slot = f.slot(1);
        let c = cell(&f, 0);
        unsafe {
            for v in [7, -3, 12, 1] {
                add(f.base, c, 0, v);
            }
            let all: Vec<i64> = (0..5).map(|op| read(f.base, slot, c, 0, op)).collect();
            assert_eq!(all, [4, 17, -3, 12, 4]);
            assert_eq!(f.error(slot), None);
            assert_eq!(
                (
                    read(f.base, slot, core::ptr::null(), 0, 0),
                    read(f.base, slot, core::ptr::null(), 0, 1)
                ),
                (0, 0)
            );
            assert_eq!(f.error(slot), None);
            read(f.base, slot, core::ptr::null(), 0, 4);
            assert_eq!(f.error(slot).as_deref(), Some("empty aggregate"));
        }
    }

    #[test]
    fn variance_is_staps() {
        let f = Fixture::new();
        put(&f, StatShape::plain(0, true));
        let slot = f.slot(1);
        unsafe {
            for v in 1..=100 {
                add(f.base, cell(&f, 0), CONSTANTS, v);
            }
            assert_eq!(read(f.base, slot, cell(&f, 0), CONSTANTS, 5), 5741);
            // With enough bits after the point it is the true 841.67.
            put(&f, StatShape::plain(10, true));
            for v in 1..=100 {
                add(f.base, cell(&f, 64), CONSTANTS, v);
            }
            let precise = read(f.base, slot, cell(&f, 64), CONSTANTS, 5);
            assert!((840..=843).contains(&precise), "{precise}");
        }
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let mut parts = [StatCell::default(); 3];
        let mut whole = StatCell::default();
        for (i, v) in [5i64, -9, 100, 4, 4, 17, 0].into_iter().enumerate() {
            unsafe {
                add_plain(&mut parts[i % 3], v);
                add_plain(&mut whole, v);
            }
        }
        let mut all = StatCell::default();
        for part in &parts {
            merge(&mut all, part, 0);
        }
        assert_eq!(
            (all.count, all.sum, all.min, all.max),
            (whole.count, whole.sum, whole.min, whole.max)
        );
    }

    #[test]
    fn log_buckets_are_powers_of_two() {
        for (value, bucket) in [
            (0, 64),
            (1, 65),
            (2, 66),
            (3, 66),
            (4, 67),
            (1023, 74),
            (1024, 75),
            (-1, 63),
            (-2, 62),
            (-3, 62),
            (-4, 61),
        ] {
            assert_eq!(log_bucket(value), bucket, "{value}");
        }
        assert_eq!((log_bucket(i64::MAX), log_bucket(i64::MIN)), (127, 0));
        for bucket in 0..128 {
            assert_eq!(log_bucket(log_value(bucket)), bucket);
        }
    }

    #[test]
    fn linear_buckets_have_one_on_either_side() {
        let shape = StatShape::linear(0, 100, 10, 0, false).expect("valid");
        assert_eq!(shape.buckets, 13);
        for (value, bucket) in [
            (-1, 0),
            (0, 1),
            (9, 1),
            (10, 2),
            (100, 11),
            (109, 11),
            (110, 12),
            (i64::MAX, 12),
            (i64::MIN, 0),
        ] {
            assert_eq!(shape.bucket_of(value), bucket, "{value}");
        }
        assert_eq!(
            (
                shape.low_of(0),
                shape.low_of(1),
                shape.low_of(11),
                shape.low_of(12)
            ),
            (0, 0, 100, 100)
        );
        assert!(
            StatShape::linear(0, 10, 0, 0, false).is_none()
                && StatShape::linear(5, 5, 1, 0, false).is_none()
        );
    }

    #[test]
    fn buckets_are_counted_and_bounded() {
        let f = Fixture::new();
        put(&f, StatShape::linear(0, 20, 10, 0, false).expect("valid"));
        let (slot, c) = (f.slot(1), cell(&f, 0));
        unsafe {
            for v in [-5, 0, 5, 10, 20, 25, 40] {
                add(f.base, c, CONSTANTS, v);
            }
            let counts: Vec<i64> = (0..5)
                .map(|i| bucket(f.base, slot, c, CONSTANTS, i))
                .collect();
            assert_eq!(counts, [1, 2, 1, 2, 1]);
            assert_eq!(f.error(slot), None);
            bucket(f.base, slot, c, CONSTANTS, 5);
            assert_eq!(
                f.error(slot).as_deref(),
                Some("histogram index out of range")
            );
            // A cell at the arena's very end, as a damaged map might offer it: the bucket is not written.
            let end = f.base.add(f.size as usize - CELL as usize).cast();
            add(f.base, end, CONSTANTS, 3);
        }
    }
}
