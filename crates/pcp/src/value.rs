//! Metric values: as they travel, as typed atoms, and as text.

mod print;

use std::fmt::Write as _;

use bytes::Bytes;

pub use print::{number, print_value, write_value};

use crate::cformat;
use crate::desc::Type;
use crate::error::ErrorCode;
use crate::pmid::Pmid;
use crate::text::Text;
use crate::timestamp::Timestamp;
use crate::units::Units;
use print::event_summary;

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
                let word64 = || {
                    // A tag that old loggers left empty: nobody on the way put the bytes in order.
                    block.word64().map(|word| match block.ty {
                        0 => word.swap_bytes(),
                        _ => word,
                    })
                };
                match ty {
                    Type::I64 => word64().map(|v| Atom::I64(v as i64)).ok_or(short),
                    Type::U64 => word64().map(Atom::U64).ok_or(short),
                    Type::Double => word64()
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

#[cfg(test)]
mod tests {
    use super::*;

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
