//! Formats as the run time reads them.

use runtime::format::{self as encoded, Directive, Kind};
use script::format::{ConversionKind, Extent, Format, Part};

/// Encodes a format.
pub(crate) fn encode(format: &Format) -> Vec<u8> {
    let directives: Vec<_> = format
        .parts
        .iter()
        .map(|part| match part {
            Part::Literal(bytes) => Directive::Literal(bytes),
            Part::Conversion(c) => Directive::Conversion(encoded::Conversion {
                kind: kind(c.kind),
                flags: [
                    (c.flags.zero, encoded::ZERO),
                    (c.flags.plus, encoded::PLUS),
                    (c.flags.minus, encoded::MINUS),
                    (c.flags.space, encoded::SPACE),
                    (c.flags.alternate, encoded::ALTERNATE),
                ]
                .into_iter()
                .filter_map(|(set, bit)| set.then_some(bit))
                .fold(0, |all, bit| all | bit),
                width: extent(c.width),
                precision: extent(c.precision),
            }),
        })
        .collect();
    let mut bytes = vec![0; encoded::encoded_len(&directives)];
    let len = encoded::encode(&directives, &mut bytes).unwrap_or(0);
    bytes.truncate(len);
    bytes
}

fn extent(extent: Extent) -> encoded::Extent {
    match extent {
        Extent::None => encoded::Extent::None,
        Extent::Fixed(n) => encoded::Extent::Fixed(n),
        Extent::Argument => encoded::Extent::Argument,
    }
}

fn kind(kind: ConversionKind) -> Kind {
    match kind {
        ConversionKind::Signed => Kind::Signed,
        ConversionKind::Unsigned => Kind::Unsigned,
        ConversionKind::Octal => Kind::Octal,
        ConversionKind::Hex => Kind::Hex,
        ConversionKind::UpperHex => Kind::UpperHex,
        ConversionKind::Pointer => Kind::Pointer,
        ConversionKind::String => Kind::String,
        ConversionKind::Char => Kind::Char,
        ConversionKind::Binary => Kind::Binary,
        ConversionKind::Memory => Kind::Memory,
        ConversionKind::MemoryHex => Kind::MemoryHex,
        ConversionKind::Histogram => Kind::Histogram,
    }
}
