use proptest::prelude::*;

use super::*;
use crate::fixture::{CONSTANTS, Fixture};

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn conversion(kind: Kind, flags: u8, width: Extent, precision: Extent) -> Directive<'static> {
    Directive::Conversion(Conversion {
        kind,
        flags,
        width,
        precision,
    })
}

fn rendered(directives: &[Directive<'_>], block: &[u8]) -> String {
    let f = Fixture::new();
    let mut encoded = vec![0; encoded_len(directives)];
    assert_eq!(encode(directives, &mut encoded), Some(encoded.len()));
    assert!(Directives::new(&encoded).eq(directives.iter().copied()));
    let mut out = Vec::new();
    render(&f.arena(), &encoded, block, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn number_block(n: &[i64]) -> Vec<u8> {
    n.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn string_block(s: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8 + s.len().next_multiple_of(8)];
    unsafe { put_string(out.as_mut_ptr(), s) };
    out
}

/// stap's buffer holds 8192 bytes, and what is right of a text is cut first (its vsprintf.c, compiled, prints these).
#[test]
fn one_printf_prints_8192_bytes() {
    let number = |width| conversion(Kind::Signed, 0, Extent::Fixed(width), Extent::None);
    let text = rendered(
        &[
            Directive::Literal(b"a"),
            number(20_000),
            Directive::Literal(b"b"),
        ],
        &number_block(&[5]),
    );
    assert_eq!(text, format!("a{}5", " ".repeat(8190)));
    let text = rendered(
        &[
            Directive::Literal(b"a"),
            number(5000),
            Directive::Literal(b"b"),
            number(5000),
        ],
        &number_block(&[5, 7]),
    );
    assert_eq!(
        text,
        format!("a{}5b{}7", " ".repeat(4999), " ".repeat(3189))
    );
    // A text alone is whole: the C that stap makes of print(s) does not go through its vsprintf.c.
    let long = "t".repeat(15_000);
    let text = conversion(Kind::String, 0, Extent::None, Extent::None);
    let block = string_block(long.as_bytes());
    assert_eq!(rendered(&[text], &block), long);
    assert_eq!(rendered(&[Directive::Literal(long.as_bytes())], &[]), long);
    let line = rendered(&[text, Directive::Literal(b"\n")], &block);
    assert_eq!(line, "t".repeat(8192));
}

/// What printf(3) prints, but for a negative `*` and for the flag `0` with a precision, where stap has ways of its own.
#[test]
fn numbers() {
    use Extent::{Argument, Fixed, None};
    let cases: [(Kind, u8, Extent, Extent, &[i64], &str); 27] = [
        (Kind::Signed, 0, None, None, &[-42], "-42"),
        (
            Kind::Signed,
            0,
            None,
            None,
            &[i64::MIN],
            "-9223372036854775808",
        ),
        (Kind::Signed, 0, Fixed(6), None, &[-42], "   -42"),
        (Kind::Signed, MINUS, Fixed(6), None, &[-42], "-42   "),
        (Kind::Signed, ZERO, Fixed(6), None, &[-42], "-00042"),
        (Kind::Signed, PLUS, None, None, &[42], "+42"),
        (Kind::Signed, SPACE, None, None, &[42], " 42"),
        (Kind::Signed, 0, Fixed(8), Fixed(5), &[-42], "  -00042"),
        (Kind::Signed, ZERO, Fixed(8), Fixed(5), &[42], "00000042"),
        (Kind::Signed, 0, Argument, None, &[5, 42], "   42"),
        (Kind::Signed, 0, Argument, None, &[-5, 42], "42"),
        (Kind::Signed, 0, None, Fixed(0), &[0], "0"),
        (Kind::Octal, ALTERNATE, None, None, &[0], "00"),
        (Kind::Char, ALTERNATE, Fixed(4), None, &[10], "  \\n"),
        (
            Kind::Char,
            ALTERNATE | MINUS,
            Fixed(5),
            None,
            &[1],
            "\\001 ",
        ),
        (Kind::Char, ALTERNATE, None, None, &[65], "A"),
        (Kind::Signed, 0, Argument, Argument, &[6, 4, 42], "  0042"),
        (Kind::Unsigned, 0, None, None, &[-1], "18446744073709551615"),
        (Kind::Hex, 0, None, None, &[255], "ff"),
        (Kind::Hex, ALTERNATE, None, None, &[255], "0xff"),
        (Kind::UpperHex, ALTERNATE, None, None, &[255], "0XFF"),
        (
            Kind::Hex,
            ALTERNATE | ZERO,
            Fixed(8),
            None,
            &[255],
            "0x0000ff",
        ),
        (Kind::Octal, 0, None, None, &[8], "10"),
        (Kind::Octal, ALTERNATE, None, None, &[8], "010"),
        (Kind::Pointer, 0, None, None, &[0xdead], "0xdead"),
        (Kind::Char, 0, Fixed(3), None, &[65], "  A"),
        (Kind::Hex, 0, None, None, &[-1], "ffffffffffffffff"),
    ];
    for (kind, flags, width, precision, args, expected) in cases {
        let text = rendered(
            &[conversion(kind, flags, width, precision)],
            &number_block(args),
        );
        assert_eq!(
            text, expected,
            "{kind:?} {flags} {width:?} {precision:?} {args:?}"
        );
    }
}

#[test]
fn strings_and_memory() {
    use Extent::{Fixed, None};
    let block = string_block(b"hello");
    assert_eq!(
        rendered(&[conversion(Kind::String, 0, None, None)], &block),
        "hello"
    );
    assert_eq!(
        rendered(&[conversion(Kind::String, 0, Fixed(7), None)], &block),
        "  hello"
    );
    assert_eq!(
        rendered(
            &[
                conversion(Kind::String, MINUS, Fixed(7), None),
                Directive::Literal(b"|")
            ],
            &block
        ),
        "hello  |"
    );
    assert_eq!(
        rendered(&[conversion(Kind::String, 0, None, Fixed(2))], &block),
        "he"
    );
    assert_eq!(
        rendered(&[conversion(Kind::MemoryHex, 0, None, Fixed(5))], &block),
        "68656c6c6f"
    );
    assert_eq!(
        rendered(&[conversion(Kind::Memory, 0, None, Fixed(5))], &block),
        "hello"
    );
    let bytes = number_block(&[0x0403_0201]);
    assert_eq!(
        rendered(&[conversion(Kind::Binary, 0, Fixed(2), None)], &bytes).as_bytes(),
        [1, 2]
    );
    assert_eq!(
        rendered(&[conversion(Kind::Binary, 0, None, None)], &bytes).as_bytes(),
        [1, 2, 3, 4, 0, 0, 0, 0]
    );
    assert_eq!(
        rendered(&[conversion(Kind::Binary, 0, Fixed(4), Fixed(2))], &bytes).as_bytes(),
        [0, 0, 1, 2]
    );
}

#[test]
fn several_parts() {
    use Extent::None;
    let parts = [
        Directive::Literal(b"pid "),
        conversion(Kind::Signed, 0, None, None),
        Directive::Literal(b": "),
        conversion(Kind::String, 0, None, None),
        Directive::Literal(b"\n"),
    ];
    let block = [number_block(&[7]), string_block(b"sh")].concat();
    assert_eq!(rendered(&parts, &block), "pid 7: sh\n");
    // A damaged block ends the text early.
    assert_eq!(rendered(&parts, &block[..12]), "pid 7: ");
}

#[test]
fn in_handlers() {
    let f = Fixture::new();
    let parts = [
        conversion(Kind::Signed, 0, Extent::None, Extent::None),
        Directive::Literal(b" apples"),
    ];
    let mut encoded = vec![0; encoded_len(&parts)];
    encode(&parts, &mut encoded).expect("fits");
    let mut out = [0u8; 6];
    let len = unsafe {
        crate::string::copy_bytes(
            f.base.add(CONSTANTS as usize),
            encoded.as_ptr(),
            encoded.len(),
        );
        sprint(
            f.base,
            CONSTANTS,
            &number_block(&[12]),
            &mut Buffer::new(out.as_mut_ptr(), 6),
        )
    };
    assert_eq!(&out[..len as usize], b"12 app");
}

proptest! {
    #[test]
    fn any_bytes_end(encoded in prop::collection::vec(any::<u8>(), 0..128), block in prop::collection::vec(any::<u8>(), 0..128), len in 0u8..128) {
        let f = Fixture::new();
        let mut encoded = encoded;
        if let Some(first) = encoded.get_mut(..4) {
            first.copy_from_slice(&[len, 0, 0, 0]);
        }
        let mut out = Vec::new();
        render(&f.arena(), &encoded, &block, &mut out);
    }
}
