//! Metric values: as they travel, as typed atoms, and as text.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::cformat;
use crate::desc::Type;
use crate::error::ErrorCode;
use crate::event::{EventArray, EventRecord};
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::timezone::Zone;
use crate::units::Units;

/// The longest value: the length field has 24 bits and counts itself (`PM_VAL_VLEN_MAX`).
pub const VALUE_MAX: usize = 0x00ff_ffff - 4;

/// A value as it stands in a result: a word, or a block of bytes that shares the PDU's or archive's buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// `PM_VAL_INSITU`: the value itself, bits of a 32-bit integer or float.
    Insitu(u32),
    /// `PM_VAL_DPTR`: a value block.
    Block(Block),
}

/// A value block: its type tag and its bytes. Numbers of 64 bits are big-endian as on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The type tag, a `PM_TYPE_*` number.
    pub ty: u8,
    /// The value without the four bytes of the header.
    pub bytes: Bytes,
}

impl Block {
    /// A number of eight bytes, if there are so many.
    #[must_use]
    pub fn word64(&self) -> Option<u64> {
        self.bytes.first_chunk().map(|b| u64::from_be_bytes(*b))
    }
}

/// One instance's value in a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstanceValue {
    /// The instance, [`crate::INST_NULL`] when the metric has none.
    pub inst: i32,
    /// Its value.
    pub value: Value,
}

/// A metric's values in a result (`pmValueSet`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueSet {
    /// The metric.
    pub pmid: Pmid,
    /// Its values, or why there are none.
    pub values: Result<Vec<InstanceValue>, ErrorCode>,
    /// The value format word as it came (0 in place, 1 or 2 in blocks); what is sent is derived from the values.
    pub format: i32,
}

impl ValueSet {
    /// A set of values.
    #[must_use]
    pub fn new(pmid: Pmid, values: Vec<InstanceValue>) -> ValueSet {
        let format = i32::from(values.iter().any(|v| matches!(v.value, Value::Block(_))));
        ValueSet {
            pmid,
            values: Ok(values),
            format,
        }
    }

    /// A metric without values, for a reason.
    #[must_use]
    pub fn error(pmid: Pmid, code: ErrorCode) -> ValueSet {
        ValueSet {
            pmid,
            values: Err(code),
            format: 0,
        }
    }

    /// The values; none if there is an error.
    #[must_use]
    pub fn instances(&self) -> &[InstanceValue] {
        self.values.as_deref().unwrap_or_default()
    }

    /// The count that stands in a PDU: number of values, or the error.
    #[must_use]
    pub fn numval(&self) -> i32 {
        match &self.values {
            Ok(values) => i32::try_from(values.len()).unwrap_or(i32::MAX),
            Err(code) => code.0,
        }
    }
}

/// What a fetch gives (`pmResult`, `pmHighResResult`), and what a store takes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// When the values were taken.
    pub time: Timestamp,
    /// One set per metric asked for, in that order.
    pub sets: Vec<ValueSet>,
}

impl Fetched {
    /// Orders the values of each metric by instance number (pmSortInstances(3)).
    pub fn sort_instances(&mut self) {
        for set in &mut self.sets {
            if let Ok(values) = &mut set.values {
                values.sort_by_key(|v| v.inst);
            }
        }
    }
}

/// A value of a known type (`pmAtomValue`).
#[derive(Clone, PartialEq, Debug)]
pub enum Atom {
    /// `PM_TYPE_32`.
    I32(i32),
    /// `PM_TYPE_U32`.
    U32(u32),
    /// `PM_TYPE_64`.
    I64(i64),
    /// `PM_TYPE_U64`.
    U64(u64),
    /// `PM_TYPE_FLOAT`.
    Float(f32),
    /// `PM_TYPE_DOUBLE`.
    Double(f64),
    /// `PM_TYPE_STRING`, without its terminating NUL.
    String(Text),
    /// `PM_TYPE_AGGREGATE`.
    Aggregate(Bytes),
    /// `PM_TYPE_EVENT` or `PM_TYPE_HIGHRES_EVENT`: the undecoded array, see [`EventArray`].
    Event(Type, Bytes),
}

impl Atom {
    /// Its type.
    #[must_use]
    pub fn ty(&self) -> Type {
        match self {
            Atom::I32(_) => Type::I32,
            Atom::U32(_) => Type::U32,
            Atom::I64(_) => Type::I64,
            Atom::U64(_) => Type::U64,
            Atom::Float(_) => Type::Float,
            Atom::Double(_) => Type::Double,
            Atom::String(_) => Type::String,
            Atom::Aggregate(_) => Type::Aggregate,
            Atom::Event(ty, _) => *ty,
        }
    }

    /// As a double, if it is a number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        Some(match self {
            Atom::I32(v) => f64::from(*v),
            Atom::U32(v) => f64::from(*v),
            Atom::I64(v) => *v as f64,
            Atom::U64(v) => *v as f64,
            Atom::Float(v) => f64::from(*v),
            Atom::Double(v) => *v,
            _ => return None,
        })
    }

    /// Takes a value of a metric out of a result (pmExtractValue(3) with the metric's own type).
    ///
    /// # Errors
    /// `PM_ERR_CONV` when the value's form does not fit the type.
    pub fn extract(value: &Value, ty: Type) -> Result<Atom, ErrorCode> {
        match value {
            Value::Insitu(bits) => match ty {
                Type::I32 => Ok(Atom::I32(*bits as i32)),
                Type::U32 => Ok(Atom::U32(*bits)),
                Type::Float => Ok(Atom::Float(f32::from_bits(*bits))),
                _ => Err(ErrorCode::CONV),
            },
            Value::Block(block) => {
                let short = ErrorCode::CONV;
                match ty {
                    Type::I64 => block.word64().map(|v| Atom::I64(v as i64)).ok_or(short),
                    Type::U64 => block.word64().map(Atom::U64).ok_or(short),
                    Type::Double => block
                        .word64()
                        .map(|v| Atom::Double(f64::from_bits(v)))
                        .ok_or(short),
                    Type::Float => block
                        .bytes
                        .first_chunk()
                        .map(|b| Atom::Float(f32::from_be_bytes(*b)))
                        .ok_or(short),
                    Type::String => {
                        let end = block
                            .bytes
                            .iter()
                            .position(|&b| b == 0)
                            .unwrap_or(block.bytes.len());
                        Ok(Atom::String(block.bytes.slice(..end).into()))
                    }
                    Type::Aggregate | Type::AggregateStatic => {
                        Ok(Atom::Aggregate(block.bytes.clone()))
                    }
                    Type::Event | Type::HighResEvent => Ok(Atom::Event(ty, block.bytes.clone())),
                    _ => Err(short),
                }
            }
        }
    }

    /// Takes a value out of a result as another numeric type (pmExtractValue(3)).
    ///
    /// # Errors
    /// `PM_ERR_CONV` when there is no conversion, `PM_ERR_SIGN` for a negative value to an unsigned type,
    /// `PM_ERR_TRUNC` when the value does not fit.
    pub fn extract_as(value: &Value, ty: Type, to: Type) -> Result<Atom, ErrorCode> {
        Atom::extract(value, ty)?.convert(to)
    }

    /// The value as another type.
    ///
    /// # Errors
    /// As [`Atom::extract_as`].
    pub fn convert(self, to: Type) -> Result<Atom, ErrorCode> {
        if self.ty() == to {
            return Ok(self);
        }
        if to == Type::Double || to == Type::Float {
            let value = self.as_f64().ok_or(ErrorCode::CONV)?;
            return Ok(if to == Type::Float {
                Atom::Float(value as f32)
            } else {
                Atom::Double(value)
            });
        }
        let whole = match &self {
            Atom::I32(v) => i128::from(*v),
            Atom::U32(v) => i128::from(*v),
            Atom::I64(v) => i128::from(*v),
            Atom::U64(v) => i128::from(*v),
            Atom::Float(v) => float_to_whole(f64::from(*v))?,
            Atom::Double(v) => float_to_whole(*v)?,
            _ => return Err(ErrorCode::CONV),
        };
        if whole < 0 && matches!(to, Type::U32 | Type::U64) {
            return Err(ErrorCode::SIGN);
        }
        let truncated = |_| ErrorCode::TRUNC;
        match to {
            Type::I32 => i32::try_from(whole).map(Atom::I32).map_err(truncated),
            Type::U32 => u32::try_from(whole).map(Atom::U32).map_err(truncated),
            Type::I64 => i64::try_from(whole).map(Atom::I64).map_err(truncated),
            Type::U64 => u64::try_from(whole).map(Atom::U64).map_err(truncated),
            _ => Err(ErrorCode::CONV),
        }
    }

    /// The value in other units of the same dimension (pmConvScale(3)); integers are rounded to the nearest.
    ///
    /// # Errors
    /// `PM_ERR_CONV` when dimensions differ or the value is no number.
    pub fn rescale(&self, from: Units, to: Units) -> Result<Atom, ErrorCode> {
        let factor = from.conversion(to)?;
        Ok(match self {
            Atom::I32(v) => Atom::I32((f64::from(*v) * factor + 0.5).floor() as i32),
            Atom::U32(v) => Atom::U32((f64::from(*v) * factor + 0.5) as u32),
            Atom::I64(v) => Atom::I64((*v as f64 * factor + 0.5).floor() as i64),
            Atom::U64(v) => Atom::U64((*v as f64 * factor + 0.5) as u64),
            Atom::Float(v) => Atom::Float((f64::from(*v) * factor) as f32),
            Atom::Double(v) => Atom::Double(v * factor),
            _ => return Err(ErrorCode::CONV),
        })
    }

    /// The value as it travels in a result.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let block = |bytes: Bytes| {
            Value::Block(Block {
                ty: self.ty().raw() as u8,
                bytes,
            })
        };
        match self {
            Atom::I32(v) => Value::Insitu(*v as u32),
            Atom::U32(v) => Value::Insitu(*v),
            Atom::Float(v) => Value::Insitu(v.to_bits()),
            Atom::I64(v) => block(Bytes::copy_from_slice(&v.to_be_bytes())),
            Atom::U64(v) => block(Bytes::copy_from_slice(&v.to_be_bytes())),
            Atom::Double(v) => block(Bytes::copy_from_slice(&v.to_bits().to_be_bytes())),
            Atom::String(text) => {
                let mut bytes = text.as_bytes().to_vec();
                bytes.push(0);
                block(bytes.into())
            }
            Atom::Aggregate(bytes) | Atom::Event(_, bytes) => block(bytes.clone()),
        }
    }

    /// Reads a value of that type from text as pmstore(1) does: integers are decimal, or hexadecimal behind `0x`.
    ///
    /// # Errors
    /// `PM_ERR_CONV` when the text is not of the type, `PM_ERR_TRUNC` when it does not fit, `PM_ERR_SIGN` for a negative
    /// number of an unsigned type.
    pub fn parse(text: &str, ty: Type) -> Result<Atom, ErrorCode> {
        let whole = || parse_integer(text).ok_or(ErrorCode::CONV);
        let real = || {
            text.trim_start()
                .parse::<f64>()
                .map_err(|_| ErrorCode::CONV)
        };
        let truncated = |_| ErrorCode::TRUNC;
        Ok(match ty {
            Type::I32 => Atom::I32(i32::try_from(whole()?).map_err(truncated)?),
            Type::U32 => Atom::U32(u32::try_from(whole()?).map_err(|_| sign_or_trunc(text))?),
            Type::I64 => Atom::I64(i64::try_from(whole()?).map_err(truncated)?),
            Type::U64 => Atom::U64(u64::try_from(whole()?).map_err(|_| sign_or_trunc(text))?),
            Type::Float => {
                let value = real()? as f32;
                if value.is_infinite() {
                    return Err(ErrorCode::TRUNC);
                }
                Atom::Float(value)
            }
            Type::Double => Atom::Double(real()?),
            Type::String => Atom::String(text.into()),
            Type::Aggregate => Atom::Aggregate(Bytes::copy_from_slice(text.as_bytes())),
            _ => return Err(ErrorCode::CONV),
        })
    }

    /// A short form for diagnostics (pmAtomStr(3)).
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Atom::I32(v) => v.to_string(),
            Atom::U32(v) => v.to_string(),
            Atom::I64(v) => v.to_string(),
            Atom::U64(v) => v.to_string(),
            Atom::Float(v) => cformat::e(f64::from(*v), 6),
            Atom::Double(v) => cformat::e(*v, 6),
            Atom::String(text) if text.len() > 38 => {
                format!(
                    "\"{}...\"",
                    String::from_utf8_lossy(text.get(..34).unwrap_or_default())
                )
            }
            Atom::String(text) => format!("\"{text}\""),
            Atom::Aggregate(bytes) => {
                let mut out = format!("[type=AGGREGATE len={}]", bytes.len());
                for (n, byte) in bytes.iter().take(12).enumerate() {
                    if n % 4 == 0 {
                        out.push(' ');
                    }
                    let _ = write!(out, "{byte:02x}");
                }
                if bytes.len() > 12 {
                    out.push_str(" ...");
                }
                out
            }
            Atom::Event(ty, bytes) => event_summary(*ty, bytes),
        }
    }
}

fn sign_or_trunc(text: &str) -> ErrorCode {
    if text.trim_start().starts_with('-') {
        ErrorCode::SIGN
    } else {
        ErrorCode::TRUNC
    }
}

fn parse_integer(text: &str) -> Option<i128> {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let value = if let Some(hex) = lower.strip_prefix("0x") {
        i128::from_str_radix(hex, 16)
    } else if text.is_empty() {
        // strtol(3) reads nothing as 0.
        Ok(0)
    } else {
        lower.parse()
    }
    .ok()?;
    Some(if negative { -value } else { value })
}

fn float_to_whole(value: f64) -> Result<i128, ErrorCode> {
    if value.is_finite() && value.abs() < 1e30 {
        Ok(value as i128)
    } else {
        Err(ErrorCode::TRUNC)
    }
}

/// How many events there are, how many were lost, and when the first and the last were.
fn event_summary(ty: Type, bytes: &Bytes) -> String {
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
    let zone = Zone::local();
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

    #[test]
    fn conversion_reports_sign_and_truncation() {
        assert_eq!(Atom::I32(-1).convert(Type::U32), Err(ErrorCode::SIGN));
        assert_eq!(
            Atom::U64(u64::MAX).convert(Type::I64),
            Err(ErrorCode::TRUNC)
        );
        assert_eq!(Atom::Double(2.9).convert(Type::I32), Ok(Atom::I32(2)));
        assert_eq!(
            Atom::String("x".into()).convert(Type::I32),
            Err(ErrorCode::CONV)
        );
    }
}
