//! Values as text (pmPrintValue(3), pmNumberStr(3)).

use std::fmt::Write as _;

use bytes::Bytes;

use super::{Block, Value};
use crate::cformat;
use crate::desc::Type;
use crate::event::{EventArray, EventRecord};
use crate::timezone::Zone;

/// How many events there are, how many were lost, and when the first and the last were.
pub(super) fn event_summary(ty: Type, bytes: &Bytes) -> String {
    let records = match EventArray::decode(ty, bytes) {
        Ok(array) => array.records,
        Err(code) => return format!("[event records: {code}]"),
    };
    let missed: u64 = records
        .iter()
        .filter(|r| r.flags.is_missed())
        .map(|r| u64::from(r.count))
        .sum();
    let mut text = match records.len() {
        1 => "[1 event record".to_owned(),
        n => format!("[{n} event records"),
    };
    if missed > 0 {
        text.push_str(&format!(" ({missed} missed)"));
    }
    let zone = Zone::for_values();
    let digits = if ty == Type::HighResEvent { 9 } else { 3 };
    let clock = |record: &EventRecord| zone.clock(record.time, digits);
    // Records that only say that others were missed do not count for the span, which PCP's library cuts at the end.
    let gaps = records.iter().filter(|r| r.flags.is_missed()).count();
    let spanned = records.get(..records.len() - gaps).unwrap_or_default();
    match spanned {
        [] => {}
        [one] => text.push_str(&format!(" timestamp {}", clock(one))),
        [first, .., last] => {
            text.push_str(&format!(" timestamps {}...{}", clock(first), clock(last)));
        }
    }
    text.push(']');
    text
}

/// Prints a value as pmPrintValue(3) does, right-aligned in `width` columns.
#[must_use]
pub fn print_value(value: &Value, ty: Type, width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    write_value(&mut out, value, ty, width);
    out
}

/// Appends a value as pmPrintValue(3) prints it.
pub fn write_value(out: &mut Vec<u8>, value: &Value, ty: Type, width: usize) {
    match value {
        Value::Insitu(bits) => match ty {
            Type::I32 => pad_integer(out, *bits as i32, width),
            Type::U32 => pad_integer(out, *bits, width),
            Type::Float => pad_str(out, &cformat::g(f64::from(f32::from_bits(*bits)), 8), width),
            _ => {
                pad_str(out, &bits.to_string(), width);
                out.push(b' ');
                pad_str(out, &cformat::g(f64::from(f32::from_bits(*bits)), 8), width);
                out.extend_from_slice(b" 0x");
                pad_str(out, &format!("{bits:x}"), width.saturating_sub(2));
            }
        },
        Value::Block(block) => {
            match (block.ty, block.word64()) {
                // Loggers of the nineties left the tag empty, and then nobody on the way puts numbers in order.
                (0, Some(word)) if matches!(ty, Type::I64 | Type::U64 | Type::Double) => {
                    let ordered = Block {
                        ty: ty.raw() as u8,
                        bytes: Bytes::copy_from_slice(&word.to_le_bytes()),
                    };
                    write_block(out, &ordered, ty, width);
                }
                (0, _) if !matches!(ty, Type::I32 | Type::U32) => {
                    write_block(out, block, ty, width)
                }
                (tag, _) if i32::from(tag) == ty.raw() => write_block(out, block, ty, width),
                // A tag that is not the metric's type: the bytes as a little-endian host would hold them.
                (2 | 3 | 5, Some(word)) => {
                    let held = Block {
                        ty: block.ty,
                        bytes: Bytes::copy_from_slice(&word.to_le_bytes()),
                    };
                    write_block(out, &held, Type::Unknown, width);
                }
                _ => write_block(out, block, Type::Unknown, width),
            }
        }
    }
}

fn pad_integer(out: &mut Vec<u8>, number: impl itoa::Integer, width: usize) {
    pad_str(out, itoa::Buffer::new().format(number), width);
}

fn pad_str(out: &mut Vec<u8>, text: &str, width: usize) {
    pad(out, text.as_bytes(), width);
}

fn pad(out: &mut Vec<u8>, text: &[u8], width: usize) {
    out.resize(out.len() + width.saturating_sub(text.len()), b' ');
    out.extend_from_slice(text);
}

fn write_block(out: &mut Vec<u8>, block: &Block, ty: Type, width: usize) {
    let bytes = &block.bytes;
    match (ty, block.word64()) {
        (Type::I64, Some(word)) => return pad_integer(out, word as i64, width),
        (Type::U64, Some(word)) => return pad_integer(out, word, width),
        (Type::Double, Some(word)) => {
            return pad_str(out, &cformat::g(f64::from_bits(word), 16), width);
        }
        _ => {}
    }
    match ty {
        Type::Float => {
            if let Some(chunk) = bytes.first_chunk() {
                return pad_str(
                    out,
                    &cformat::g(f64::from(f32::from_be_bytes(*chunk)), 8),
                    width,
                );
            }
        }
        Type::String => {
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
            return quote(out, bytes.get(..end).unwrap_or_default(), width);
        }
        Type::Event | Type::HighResEvent => {
            return pad_str(out, &event_summary(ty, bytes), width);
        }
        _ => {}
    }
    // Aggregates, and whatever says it is something else than its metric: every reading that makes sense.
    if let Ok(word) = <[u8; 8]>::try_from(bytes.as_ref()) {
        // Aggregates are opaque: they are in the byte order of their writer, which is taken to be little-endian.
        let word = u64::from_le_bytes(word);
        pad_str(out, &word.to_string(), width);
        out.push(b' ');
        pad_str(out, &cformat::g(f64::from_bits(word), 16), width);
        out.push(b' ');
    } else if let Ok(word) = <[u8; 4]>::try_from(bytes.as_ref()) {
        pad_str(
            out,
            &cformat::g(f64::from(f32::from_le_bytes(word)), 8),
            width,
        );
        out.push(b' ');
    }
    if bytes.iter().all(|b| (0x20..0x7f).contains(b)) {
        quote(out, bytes, width);
        out.push(b' ');
    }
    let mut hex = String::with_capacity(bytes.len() * 2 + 2);
    hex.push('[');
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.push(']');
    pad_str(out, &hex, width);
}

fn quote(out: &mut Vec<u8>, text: &[u8], width: usize) {
    out.resize(out.len() + width.saturating_sub(text.len() + 2), b' ');
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// A number in eight columns with a suffix K, M, G or T (pmNumberStr(3)).
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "  0.00 ".to_owned();
    }
    const STEPS: [(f64, f64, char); 4] = [
        (999_995_000_000.0, 1e12, 'T'),
        (999_995_000.0, 1e9, 'G'),
        (999_995.0, 1e6, 'M'),
        (999.995, 1e3, 'K'),
    ];
    if value >= 999_995_000_000_000.0 {
        return " inf?  ".to_owned();
    }
    if value <= -99_995_000_000_000.0 {
        return "-inf?  ".to_owned();
    }
    // A minus sign takes one of the columns, so negative numbers move to the next suffix ten times earlier.
    let magnitude = if value < 0.0 { -value * 10.0 } else { value };
    for (limit, scale, suffix) in STEPS {
        if magnitude >= limit {
            return format!("{:6.2}{suffix}", value / scale);
        }
    }
    format!("{value:6.2} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ty: u8, bytes: &[u8]) -> Value {
        Value::Block(Block {
            ty,
            bytes: Bytes::copy_from_slice(bytes),
        })
    }

    fn printed(value: &Value, ty: i32, width: usize) -> String {
        String::from_utf8(print_value(value, Type::from_raw(ty), width)).expect("ASCII")
    }

    #[test]
    fn prints_as_pmprintvalue() {
        assert_eq!(printed(&Value::Insitu(0xffff_fff5), 0, 8), "     -11");
        assert_eq!(
            printed(&Value::Insitu(5), 6, 8),
            "       5 7.0064923e-45 0x     5"
        );
        assert_eq!(
            printed(&block(3, &(-5i64).to_be_bytes()), 3, 1),
            "18446744073709551611"
        );
        assert_eq!(printed(&block(6, b"hello\0"), 6, 8), " \"hello\"");
        assert_eq!(
            printed(&block(7, b"hello"), 7, 15),
            "        \"hello\"    [68656c6c6f]"
        );
        assert_eq!(
            printed(&block(7, &[1, 2, 3, 255]), 7, 1),
            "-1.7413927e+38 [010203ff]"
        );
        assert_eq!(
            printed(&block(7, b"12345678"), 7, 1),
            "4050765991979987505 6.821320051701325e-38 \"12345678\" [3132333435363738]"
        );
        assert_eq!(printed(&block(7, b""), 7, 8), "      \"\"       []");
        assert_eq!(printed(&block(9, &[0; 4]), 9, 1), "[0 event records]");
    }

    #[test]
    fn numbers_as_pmnumberstr() {
        for (value, text) in [
            (0.0, "  0.00 "),
            (-1.0, " -1.00 "),
            (1234.5, "  1.23K"),
            (99_999.0, "100.00K"),
            (999_999.0, "  1.00M"),
            (-999.0, " -1.00K"),
            (-99.99, "-99.99 "),
            (1e12, "  1.00T"),
            (1e15, " inf?  "),
            (123.45, "123.45 "),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
