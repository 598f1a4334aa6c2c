//! The floating-point functions of scripts: a number holds the bits of an IEEE 754 binary64 value
//! (tapset::floatingpoint(3stap)). Nothing here needs a libm: text is made and read with whole numbers of many digits.

use crate::layout::Slot;
use crate::raise;
use crate::string::Buffer;

/// Limbs of a [`Big`]: 10^340 times a 64-bit number, and the 1100 bits that a subnormal is shifted by.
const LIMBS: usize = 76;
/// Most digits behind the point.
const MAX_PRECISION: i64 = 300;

/// What [`operation`] does, by number.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `fp_add`
    Add = 0,
    /// `fp_sub`
    Subtract = 1,
    /// `fp_mul`
    Multiply = 2,
    /// `fp_div`
    Divide = 3,
    /// `fp_rem`
    Remainder = 4,
    /// `fp_sqrt`
    SquareRoot = 5,
    /// `fp_eq`
    Equal = 6,
    /// `fp_le`
    LessOrEqual = 7,
    /// `fp_lt`
    Less = 8,
    /// `long_to_fp`
    FromLong = 9,
    /// `fp32_to_fp64`
    Widen = 10,
    /// A number without sign as a floating-point one.
    FromUnsigned = 11,
    /// To 32 bits, rounded to nearest.
    Narrow = 12,
    /// What is before the point; the nearest number if it does not fit, 0 for one that is none.
    ToLong = 13,
}

/// Carries out an [`Operation`]; those of one operand ignore `b`.
pub fn operation(which: u64, a: i64, b: i64) -> i64 {
    let (x, y) = (f64::from_bits(a as u64), f64::from_bits(b as u64));
    let bits = |f: f64| f.to_bits() as i64;
    match which {
        0 => bits(x + y),
        1 => bits(x - y),
        2 => bits(x * y),
        3 => bits(x / y),
        4 => bits(remainder(x, y)),
        5 => bits(square_root(x)),
        6 => i64::from(x == y),
        7 => i64::from(x <= y),
        8 => i64::from(x < y),
        9 => bits(a as f64),
        10 => bits(f64::from(f32::from_bits(a as u32))),
        11 => bits(a as u64 as f64),
        12 => i64::from((x as f32).to_bits()),
        13 => x as i64,
        _ => 0,
    }
}

fn square_root(x: f64) -> f64 {
    let root: f64;
    // SAFETY: the instruction is part of SSE2, which every x86-64 processor has; it touches only these registers.
    unsafe {
        core::arch::asm!("sqrtsd {0}, {1}", out(xmm_reg) root, in(xmm_reg) x, options(pure, nomem, nostack));
    }
    root
}

/// The parts of a finite number other than 0: mantissa and exponent, `m * 2^e`.
fn parts(x: f64) -> (u64, i32) {
    let bits = x.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let exponent = (bits >> 52 & 0x7ff) as i32;
    if exponent == 0 {
        (fraction, -1074)
    } else {
        (fraction | 1 << 52, exponent - 1075)
    }
}

/// IEEE 754's remainder: `x - n * y`, `n` the whole number nearest to `x / y`, even in doubt.
fn remainder(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() || x.is_infinite() || y == 0.0 {
        return f64::NAN;
    }
    if y.is_infinite() || x == 0.0 {
        return x;
    }
    let ((mut m, mut e), (n, f)) = (parts(x), parts(y));
    if f - e > 54 {
        return x;
    }
    // What a division that rounds down leaves, in units of 2^min(e, f), and the quotient's last bit. With e < f the
    // mantissa of y is a full one, so that x is smaller than y.
    let mut odd = false;
    if e >= f {
        while e > f {
            m %= n;
            m <<= 1;
            e -= 1;
        }
        odd = (m / n) & 1 == 1;
        m %= n;
    }
    let (m, n) = (u128::from(m), u128::from(n) << (f - e).max(0));
    let away = 2 * m > n || (2 * m == n && odd);
    let magnitude = if away { n - m } else { m };
    let value = scaled(magnitude as u64, e.min(f));
    if away == x.is_sign_negative() {
        value
    } else {
        -value
    }
}

/// `m * 2^e` of a number that can be told exactly.
fn scaled(m: u64, e: i32) -> f64 {
    let mut value = m as f64;
    let mut e = e;
    while e > 0 {
        let step = e.min(1000);
        value *= f64::from_bits(((1023 + step) as u64) << 52);
        e -= step;
    }
    while e < 0 {
        let step = (-e).min(1000);
        value *= f64::from_bits(((1023 - step) as u64) << 52);
        e += step;
    }
    value
}

/// `fp_to_long(x, mode, exact)`: rounded to nearest even (0), to zero (1), down (2), up (3), to nearest away from zero
/// (4); other modes as to zero. What does not fit becomes the nearest number that does, what is none 0.
pub fn to_long(a: i64, mode: i64) -> i64 {
    let x = f64::from_bits(a as u64);
    let whole = x as i64;
    if x.is_nan() || whole == i64::MAX || whole == i64::MIN {
        return whole;
    }
    let rest = x - whole as f64;
    let half = if rest < 0.0 { -rest } else { rest };
    let outward = if x < 0.0 { -1 } else { 1 };
    let step = match mode {
        0 if half > 0.5 || (half == 0.5 && whole & 1 != 0) => outward,
        2 if rest < 0.0 => -1,
        3 if rest > 0.0 => 1,
        4 if half >= 0.5 => outward,
        _ => 0,
    };
    whole + step
}

/// A natural number of many digits.
struct Big {
    limbs: [u32; LIMBS],
    len: usize,
}

impl Big {
    fn new(value: u64) -> Big {
        let mut limbs = [0; LIMBS];
        limbs[0] = value as u32;
        limbs[1] = (value >> 32) as u32;
        let mut big = Big { limbs, len: 2 };
        big.trim();
        big
    }

    fn trim(&mut self) {
        while self.len > 0 && self.limb(self.len - 1) == 0 {
            self.len -= 1;
        }
    }

    fn limb(&self, at: usize) -> u32 {
        self.limbs.get(at).copied().unwrap_or(0)
    }

    /// `self * factor + add`; what does not fit is lost, and the callers' bounds keep that from happening.
    fn multiply(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for limb in self.limbs.iter_mut().take(self.len) {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry != 0
            && let Some(limb) = self.limbs.get_mut(self.len)
        {
            *limb = carry as u32;
            self.len += 1;
        }
    }

    fn multiply_by_ten_to(&mut self, mut power: u32) {
        while power >= 9 {
            self.multiply(1_000_000_000, 0);
            power -= 9;
        }
        for _ in 0..power {
            self.multiply(10, 0);
        }
    }

    /// Divides; the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for limb in self.limbs.iter_mut().take(self.len).rev() {
            let dividend = rest << 32 | u64::from(*limb);
            *limb = (dividend / u64::from(divisor)) as u32;
            rest = dividend % u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    fn bits(&self) -> u32 {
        match self.len {
            0 => 0,
            n => 32 * n as u32 - self.limb(n - 1).leading_zeros(),
        }
    }

    fn bit(&self, at: u32) -> bool {
        self.limb(at as usize / 32) >> (at % 32) & 1 == 1
    }

    fn any_below(&self, at: u32) -> bool {
        let whole = at as usize / 32;
        self.limbs.iter().take(whole).any(|&l| l != 0)
            || self.limb(whole) & ((1u32 << (at % 32)) - 1) != 0
    }

    fn shift_left(&mut self, by: u32) {
        let (limbs, bits) = (by as usize / 32, by % 32);
        for at in (0..LIMBS).rev() {
            let part = |i: usize| at.checked_sub(limbs + i).map_or(0, |i| self.limb(i));
            let (low, high) = (part(0), part(1));
            let value = if bits == 0 {
                low
            } else {
                low << bits | high >> (32 - bits)
            };
            if let Some(limb) = self.limbs.get_mut(at) {
                *limb = value;
            }
        }
        self.len = LIMBS;
        self.trim();
    }

    /// Divides by a power of two, rounded to nearest even.
    fn shift_right_rounded(&mut self, by: u32) {
        if by == 0 {
            return;
        }
        let half = self.bit(by - 1);
        let sticky = self.any_below(by - 1);
        let (limbs, bits) = (by as usize / 32, by % 32);
        for at in 0..LIMBS {
            let (low, high) = (self.limb(at + limbs), self.limb(at + limbs + 1));
            let value = if bits == 0 {
                low
            } else {
                low >> bits | high << (32 - bits)
            };
            if let Some(limb) = self.limbs.get_mut(at) {
                *limb = value;
            }
        }
        self.len = LIMBS;
        self.trim();
        if half && (sticky || self.limb(0) & 1 == 1) {
            let len = self.len;
            self.multiply(1, 1);
            if len == 0 {
                self.limbs[0] = 1;
                self.len = 1;
            }
        }
    }

    fn less(&self, other: &Big) -> bool {
        if self.len != other.len {
            return self.len < other.len;
        }
        for at in (0..self.len).rev() {
            if self.limb(at) != other.limb(at) {
                return self.limb(at) < other.limb(at);
            }
        }
        false
    }

    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0i64;
        for (at, limb) in self.limbs.iter_mut().enumerate().take(self.len) {
            let value = i64::from(*limb) - i64::from(other.limb(at)) - borrow;
            borrow = i64::from(value < 0);
            *limb = value as u32;
        }
        self.trim();
    }
}

/// `fp_to_string(x, precision)`: decimal digits, at least one behind the point.
pub fn to_text(to: &mut Buffer, a: i64, precision: i64) -> u64 {
    let x = f64::from_bits(a as u64);
    let digits = precision.clamp(1, MAX_PRECISION) as u32;
    if x.is_nan() {
        return to.put(b"nan").len();
    }
    if x.is_sign_negative() {
        to.push(b'-');
    }
    if x.is_infinite() {
        return to.put(b"inf").len();
    }
    let (m, e) = parts(x);
    let mut big = Big::new(m);
    big.multiply_by_ten_to(digits);
    if e >= 0 {
        big.shift_left(e as u32);
    } else {
        big.shift_right_rounded(-e as u32);
    }
    // Digits from the last one on; 309 before the point at most.
    let mut text = [b'0'; 640];
    let mut at = text.len();
    while big.len > 0 && at >= 9 {
        let mut group = big.divide(1_000_000_000);
        for _ in 0..9 {
            at -= 1;
            if let Some(digit) = text.get_mut(at) {
                *digit = b'0' + (group % 10) as u8;
            }
            group /= 10;
        }
    }
    let point = text.len() - digits as usize;
    let mut first = at.min(point - 1);
    while first < point - 1 && text.get(first) == Some(&b'0') {
        first += 1;
    }
    to.put(text.get(first..point).unwrap_or(&[]))
        .push(b'.')
        .put(text.get(point..).unwrap_or(&[]));
    to.len()
}

/// `string_to_fp(s)`: a decimal number, with a point and an exponent if there are any. Raises "invalid format".
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn from_text(slot: *mut Slot, s: &[u8]) -> i64 {
    match parse(s) {
        Some(x) => x.to_bits() as i64,
        None => {
            // SAFETY: the slot is the caller's own.
            unsafe { raise::message(slot, b"invalid format") };
            0
        }
    }
}

fn parse(s: &[u8]) -> Option<f64> {
    let (negative, mut rest) = match s {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, s),
    };
    let mut digits = Big::new(0);
    let mut exponent = 0i64;
    let (mut seen, mut point, mut count) = (false, false, 0);
    while let [c, tail @ ..] = rest {
        match c {
            b'0'..=b'9' => {
                seen = true;
                if count < 300 {
                    let was_zero = digits.len == 0;
                    let digit = u32::from(c - b'0');
                    if was_zero {
                        digits = Big::new(u64::from(digit));
                    } else {
                        digits.multiply(10, digit);
                        count += 1;
                    }
                    exponent -= i64::from(point);
                } else {
                    // Beyond what can matter for the 53 bits of the result.
                    exponent += i64::from(!point);
                }
            }
            b'.' if !point => point = true,
            _ => break,
        }
        rest = tail;
    }
    if !seen {
        return None;
    }
    if let [b'e' | b'E', tail @ ..] = rest {
        let (down, mut tail) = match tail {
            [b'-', tail @ ..] => (true, tail),
            [b'+', tail @ ..] => (false, tail),
            _ => (false, tail),
        };
        if tail.is_empty() {
            return None;
        }
        let mut written = 0i64;
        while let [c @ b'0'..=b'9', more @ ..] = tail {
            written = (10 * written + i64::from(c - b'0')).min(100_000);
            tail = more;
        }
        exponent += if down { -written } else { written };
        rest = tail;
    }
    if !rest.is_empty() {
        return None;
    }
    let x = assemble(digits, exponent);
    Some(if negative { -x } else { x })
}

/// `digits * 10^exponent`, rounded to nearest even.
fn assemble(mut digits: Big, exponent: i64) -> f64 {
    if digits.len == 0 {
        return 0.0;
    }
    // The decimal point's place decides at once what is far too large or too small.
    let magnitude = exponent + i64::from(digits.bits()) * 30103 / 100_000;
    if magnitude > 310 {
        return f64::INFINITY;
    }
    if magnitude < -345 {
        return 0.0;
    }
    if exponent >= 0 {
        digits.multiply_by_ten_to(exponent as u32);
        let drop = digits.bits() as i32 - 64;
        let mut top = 0u64;
        for at in (0..digits.bits()).rev().take(64) {
            top = top << 1 | u64::from(digits.bit(at));
        }
        let sticky = drop > 0 && digits.any_below(drop as u32);
        let top = if drop < 0 { top << -drop } else { top };
        return round(top, sticky, drop);
    }
    // Digits beyond 640 or so places behind the point are dropped by the caller's bound of 300 digits.
    let mut divisor = Big::new(1);
    divisor.multiply_by_ten_to((-exponent).min(660) as u32);
    // Numerator shifted so that the quotient has 64 or 65 bits.
    let shift = 64 + divisor.bits() as i32 - digits.bits() as i32;
    if shift >= 0 {
        digits.shift_left(shift as u32);
    } else {
        divisor.shift_left(-shift as u32);
    }
    let mut quotient = 0u128;
    let steps = 66u32;
    let mut part = Big::new(0);
    core::mem::swap(&mut part, &mut digits);
    divisor.shift_left(steps - 1);
    for _ in 0..steps {
        quotient <<= 1;
        if !part.less(&divisor) {
            part.subtract(&divisor);
            quotient |= 1;
        }
        part.shift_left(1);
    }
    let extra = 128 - quotient.leading_zeros() as i32 - 64;
    let sticky = part.len > 0 || (extra > 0 && quotient & ((1u128 << extra) - 1) != 0);
    round(
        (quotient >> extra.max(0)) as u64,
        sticky,
        extra.max(0) - shift,
    )
}

/// `top * 2^e` rounded to nearest even; `top` has its highest bit set, `sticky` says that something lies below it.
fn round(top: u64, sticky: bool, e: i32) -> f64 {
    // Bits that a result of this size can keep; fewer for a subnormal one.
    let highest = e + 63;
    if highest > 1023 {
        return f64::INFINITY;
    }
    let kept = if highest >= -1022 {
        53
    } else {
        53 - (-1022 - highest)
    };
    if kept < 0 {
        return 0.0;
    }
    let drop = 64 - kept as u32;
    let (value, half, below) = if drop >= 64 {
        (0, top >> 63 == 1, top << 1 != 0)
    } else {
        (
            top >> drop,
            top >> (drop - 1) & 1 == 1,
            top & ((1u64 << (drop - 1)) - 1) != 0,
        )
    };
    let up = half && (sticky || below || value & 1 == 1);
    scaled(value + u64::from(up), e + drop as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(x: f64) -> i64 {
        x.to_bits() as i64
    }

    fn text(x: f64, precision: i64) -> String {
        let mut room = vec![0u8; 1024];
        let mut to = unsafe { Buffer::new(room.as_mut_ptr(), 1024) };
        let len = to_text(&mut to, bits(x), precision);
        String::from_utf8(room[..len as usize].to_vec()).expect("text")
    }

    #[test]
    fn texts_are_those_of_the_standard_library() {
        for x in [
            1.5,
            1.23,
            -1.23,
            1.999,
            0.001,
            100.0,
            -0.5,
            314.159265358979,
            0.1,
            0.7,
            1.005,
            0.0,
            -0.0,
            123.456,
            1e300,
            5e-324,
            1.797e308,
            0.125,
            2.5,
            1e22,
            1e23,
        ] {
            for precision in [1, 2, 6, 20, 300] {
                assert_eq!(
                    text(x, precision),
                    format!("{x:.*}", precision as usize),
                    "{x} {precision}"
                );
            }
        }
        assert_eq!(text(2.5, 0), "2.5");
        assert_eq!(text(5.0, -1), "5.0");
    }

    #[test]
    fn numbers_are_read_as_the_standard_library_reads_them() {
        for s in [
            "1.5",
            "0.1",
            "123456789012345678",
            "1e300",
            "99999999999999999999",
            "1e-300",
            "5e-324",
            "2.2250738585072011e-308",
            "4.9e-324",
            "2.4e-324",
            "1.7976931348623157e308",
            "1e309",
            "0.000000000000000000000000000000000000000000000000000000000001",
            "9007199254740993",
            "-2.5",
            "+2.5",
            ".5",
            "1.",
            "0",
            "-0",
            "1e400",
            "1e-400",
            "8.5e-45",
            "1e23",
            "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
        ] {
            let expected: f64 = s.parse().expect(s);
            assert_eq!(
                parse(s.as_bytes()).map(f64::to_bits),
                Some(expected.to_bits()),
                "{s}"
            );
        }
        for s in ["", "-", "abc", "12abc", "1.2.3", "1e", " 1"] {
            assert_eq!(parse(s.as_bytes()), None, "{s}");
        }
    }

    #[test]
    fn rounding_to_whole_numbers() {
        for (x, expected) in [
            (1.5, [2, 1, 1, 2, 2, 1, 1]),
            (-1.23, [-1, -1, -2, -1, -1, -1, -1]),
            (2.5, [2, 2, 2, 3, 3, 2, 2]),
            (-0.5, [0, 0, -1, 0, -1, 0, 0]),
            (-2.5, [-2, -2, -3, -2, -3, -2, -2]),
            (f64::INFINITY, [i64::MAX; 7]),
            (f64::NAN, [0; 7]),
        ] {
            for (mode, expected) in expected.into_iter().enumerate() {
                assert_eq!(to_long(bits(x), mode as i64), expected, "{x} {mode}");
            }
        }
    }

    #[test]
    fn remainders_and_roots() {
        for (x, y, expected) in [
            (5.0, 3.0, -1.0),
            (4.0, 3.0, 1.0),
            (-5.0, 3.0, 1.0),
            (3.0, 2.0, -1.0),
            (1.0, 2.0, 1.0),
            (5.0, 2.0, 1.0),
            (1e300, 3.0, 1.0),
            (0.5, 1e300, 0.5),
            (7.5, 0.5, 0.0),
        ] {
            let expected = if x == 1e300 {
                // 1e300 is 3k + r for the r that exact arithmetic on its 53 bits gives.
                let (m, e) = parts(x);
                let mut r = m % 3;
                for _ in 0..e {
                    r = 2 * r % 3;
                }
                if r == 2 { -1.0 } else { r as f64 }
            } else {
                expected
            };
            assert_eq!(remainder(x, y), expected, "{x} {y}");
        }
        assert_eq!(square_root(2.0), 2.0f64.sqrt());
    }
}
