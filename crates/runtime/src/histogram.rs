//! Drawing of histograms as the SystemTap language reference shows them: value, bar, count.

use crate::format::Sink;
use crate::layout::StatShape;
use crate::string::Digits;

/// Longest bar, where HIST_WIDTH does not say another.
pub const WIDTH: u32 = 50;
/// Empty rows shown before and after others, where HIST_ELISION does not say another; longer runs become `~`.
pub const ELISION: i32 = 2;

struct Rows<'a> {
    shape: &'a StatShape,
    buckets: &'a [u8],
}

impl Rows<'_> {
    fn count(&self, i: usize) -> u64 {
        self.buckets
            .get(i * 8..i * 8 + 8)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    }

    fn len(&self) -> usize {
        (self.shape.buckets as usize).min(self.buckets.len() / 8)
    }

    /// The value's text: `<low` and `>high` outside a linear range.
    fn label<'t>(&self, i: usize, text: &'t mut [u8; 24]) -> &'t [u8] {
        let value = self.shape.low_of(i as u32);
        let mut digits = Digits::new();
        let mut at = 0;
        let mut push = |byte| {
            if let Some(place) = text.get_mut(at) {
                *place = byte;
                at += 1;
            }
        };
        if self.shape.hist == 2 && i == 0 {
            push(b'<');
        } else if self.shape.hist == 2 && i + 1 == self.len() {
            push(b'>');
        }
        if value < 0 {
            push(b'-');
        }
        digits
            .decimal(value.unsigned_abs())
            .iter()
            .for_each(|&d| push(d));
        text.get(..at).unwrap_or(&[])
    }
}

fn repeat<S: Sink + ?Sized>(sink: &mut S, byte: u8, n: u64) {
    for _ in 0..n {
        sink.put(&[byte]);
    }
}

/// Draws a histogram: `buckets` are its counts, 8 bytes each. Nothing is drawn but the head when it is empty.
pub fn draw<S: Sink + ?Sized>(shape: &StatShape, buckets: &[u8], sink: &mut S) {
    let rows = Rows { shape, buckets };
    let n = rows.len();
    if n == 0 {
        return;
    }
    let first_used = (0..n).find(|&i| rows.count(i) != 0);
    let last_used = (0..n).rev().find(|&i| rows.count(i) != 0);
    let most = (0..n).map(|i| rows.count(i)).max().unwrap_or(0);
    let (mut low, mut high) = (first_used.unwrap_or(0), last_used.unwrap_or(0));
    for _ in 0..2 {
        // A logarithmic histogram does not reach below 0 unless values do.
        if low > 0 && !(shape.hist == 1 && low == 64) {
            low -= 1;
        }
        if high + 1 < n {
            high += 1;
        }
    }
    if shape.hist == 2 {
        if low == 0 && rows.count(0) == 0 {
            low += 1;
        }
        if high + 1 == n && rows.count(high) == 0 {
            high = high.saturating_sub(1);
        }
    }
    let width = u64::from(shape.width.clamp(1, 1000));
    let scale = most.div_ceil(width).max(1);
    let mut text = [0; 24];
    let mut digits = Digits::new();
    let count_width = digits.decimal(most).len();
    let mut value_width = (low..=high)
        .map(|i| rows.label(i, &mut text).len())
        .max()
        .unwrap_or(0)
        .max(5);
    if shape.hist == 2 {
        // stap makes room for the value after the last row, and for a `>` before it.
        let over = usize::from(high + 1 == n);
        let after = shape
            .low
            .saturating_add(shape.step.saturating_mul(high as i64));
        let sign = usize::from(after < 0);
        value_width = value_width.max(digits.decimal(after.unsigned_abs()).len() + sign + over);
    }

    repeat(sink, b' ', value_width as u64 - 5);
    sink.put(b"value |");
    repeat(sink, b'-', width);
    sink.put(b" count\n");
    let mut eliding = false;
    for i in low..=high {
        let far = usize::try_from(shape.elision).unwrap_or(n).min(n);
        let near = i.saturating_sub(far)..=(i + far).min(n - 1);
        if shape.elision >= 0 && near.into_iter().all(|k| rows.count(k) == 0) {
            eliding = true;
            continue;
        }
        // Rows that are left out behind the last one are not told of.
        if core::mem::take(&mut eliding) {
            repeat(sink, b' ', value_width as u64);
            sink.put(b" ~\n");
        }
        let label = rows.label(i, &mut text);
        repeat(
            sink,
            b' ',
            (value_width - label.len().min(value_width)) as u64,
        );
        sink.put(label);
        sink.put(b" |");
        let count = rows.count(i);
        let bar = count / scale;
        repeat(sink, b'@', bar);
        let figure = digits.decimal(count);
        repeat(
            sink,
            b' ',
            (width - bar.min(width)) + 1 + (count_width.saturating_sub(figure.len())) as u64,
        );
        sink.put(figure);
        sink.put(b"\n");
    }
    sink.put(b"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sink for String {
        fn put(&mut self, bytes: &[u8]) {
            self.push_str(std::str::from_utf8(bytes).expect("text"));
        }
    }

    fn drawn(shape: &StatShape, values: &[(i64, u64)]) -> String {
        let mut counts = vec![0u64; shape.buckets as usize];
        for &(value, n) in values {
            counts[shape.bucket_of(value) as usize] += n;
        }
        let bytes: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
        let mut out = String::new();
        draw(shape, &bytes, &mut out);
        out
    }

    /// The example of `@hist_linear` in the language reference.
    #[test]
    fn linear_example() {
        let shape = StatShape::linear(0, 10240, 200, 0, false).expect("valid");
        let expected = "\
value |-------------------------------------------------- count
    0 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@ 1650
  200 |                                                      8
  400 |                                                      0
  600 |                                                      0
      ~
 1000 |                                                      0
 1200 |                                                      0
 1400 |                                                      1
 1600 |                                                      0
 1800 |                                                      0

";
        assert_eq!(drawn(&shape, &[(0, 1650), (200, 8), (1400, 1)]), expected);
    }

    /// The example of `@hist_log` in the language reference.
    #[test]
    fn log_example() {
        let values = [
            (32, 254),
            (64, 3),
            (128, 2),
            (256, 2),
            (512, 4),
            (1024, 16689),
        ];
        let expected = "\
value |-------------------------------------------------- count
    8 |                                                       0
   16 |                                                       0
   32 |                                                     254
   64 |                                                       3
  128 |                                                       2
  256 |                                                       2
  512 |                                                       4
 1024 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@  16689
 2048 |                                                       0
 4096 |                                                       0

";
        assert_eq!(drawn(&StatShape::log(0, false), &values), expected);
    }

    #[test]
    fn logs_start_at_zero_and_margins_are_named() {
        let log = drawn(&StatShape::log(0, false), &[(1, 1)]);
        assert!(
            log.contains("\n    0 |                                                   0\n    1 |@"),
            "{log}"
        );
        let shape = StatShape::linear(0, 20, 10, 0, false).expect("valid");
        let text = drawn(&shape, &[(-1, 1), (99, 2)]);
        assert!(
            text.contains("\n   <0 |@ ") && text.contains("\n  >20 |@@ "),
            "{text}"
        );
    }
}
