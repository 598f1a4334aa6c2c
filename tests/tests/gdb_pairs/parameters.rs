//! Functions of all kinds of parameters, called three times each, for a debugger to look at.

#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Colour { Red = 3, Green = 500, Blue = 65535 }

#[derive(Clone, Copy)]
pub struct Inner { pub small: u8, pub pair: (i16, u64), pub flag: bool, pub letter: char }

#[derive(Clone, Copy)]
pub struct Outer { pub inner: Inner, pub numbers: [i32; 3], pub colour: Colour, pub ratio: f32, pub exact: f64 }

#[derive(Clone, Copy)]
pub union Either { pub bits: u32, pub number: f32 }

pub struct Wrapper(pub i8, pub Outer);

/// Not inlined, as the variables of what is inlined at a function's entry are not the function's.
#[inline(never)]
fn keep<T>(value: T) -> T {
    std::hint::black_box(value)
}

static GREETING: [u16; 2] = [7, 65000];

#[inline(never)]
pub fn f1(a: i8, b: u8, c: i16, d: u16, e: i32, f: u32, g: i64, h: u64, i: isize) -> i64 {
    let wide = a as i64 + i64::from(b) + i64::from(c);
    let more = keep(wide) + i64::from(d) + i64::from(e);
    keep(more).wrapping_add(i64::from(f)).wrapping_add(g).wrapping_add(h as i64).wrapping_add(i as i64)
}

#[inline(never)]
pub fn f2(flag: bool, letter: char, half: f32, whole: f64) -> f64 {
    let doubled = keep(half) * 2.0;
    if keep(flag) { whole + f64::from(doubled) } else { f64::from(u32::from(letter)) }
}

#[inline(never)]
pub fn f3(outer: Outer, by_reference: &Outer, raw: *const Inner) -> i32 {
    let first = outer.numbers[0];
    // The pointer is to a value that lives on.
    let small = unsafe { (*raw).small };
    keep(first) + by_reference.numbers[2] + i32::from(small)
}

#[inline(never)]
pub fn f4(colour: Colour, either: Either, wrapper: &Wrapper) -> u32 {
    // Either reading of the union is a number.
    let bits = unsafe { either.bits };
    keep(bits).wrapping_add(colour as u32).wrapping_add(wrapper.0 as u32)
}

#[inline(never)]
pub fn f5(slice: &[i16], text: &str, numbers: &mut [u8; 4], boxed: Box<Inner>) -> usize {
    numbers[1] = numbers[1].wrapping_add(1);
    let length = keep(slice).len() + keep(text).len();
    length + usize::from(boxed.small)
}

#[inline(never)]
pub fn f6(pairs: [(u8, i32); 2], nested: ((i8, i16), [[u8; 2]; 2]), constant: &'static [u16; 2]) -> i32 {
    let mut sum = 0;
    for (weight, value) in keep(pairs) {
        sum += i32::from(weight) * value;
    }
    sum + i32::from(nested.0.1) + i32::from(constant[1])
}

fn main() {
    let mut total = 0i64;
    for round in 0..3u8 {
        let turn = i64::from(round);
        let inner = Inner { small: 200 + round, pair: (-5 - i16::from(round), u64::MAX - 9), flag: round == 1, letter: 'ß' };
        let outer = Outer { inner, numbers: [-1, 2, 30 + i32::from(round)], colour: Colour::Green, ratio: 1.5, exact: -0.1 };
        total ^= f1(-100, 200, -30000, 60000, -2_000_000_000, 4_000_000_000, i64::MIN + 7 + turn, u64::MAX - 3, -1);
        total += f2(round != 1, 'z', 0.25, 1e300) as i64 & 1;
        total += i64::from(f3(outer, &outer, &inner));
        let either = Either { bits: 0x4049_0fdb };
        total += i64::from(f4(if round == 2 { Colour::Blue } else { Colour::Red }, either, &Wrapper(-3, outer)));
        total += f5(&[-7, 8, 9], "text", &mut [1, 2, 3, round], Box::new(inner)) as i64;
        total += i64::from(f6([(1, -2), (3, 40)], ((-1, 300), [[1, 2], [3, 4]]), &GREETING));
    }
    keep(total);
}
