//! Formats of the print family: how many arguments one takes, and the format that each member comes down to.

use super::hir::{ExprKind, Print, Ty};
use crate::format::{Conversion, ConversionKind, Extent, Flags, Format, Part};

/// How many arguments a format takes.
pub fn arguments(format: &Format) -> usize {
    format
        .parts
        .iter()
        .map(|p| match p {
            Part::Literal(_) => 0,
            Part::Conversion(c) => {
                1 + [c.width, c.precision]
                    .iter()
                    .filter(|e| **e == Extent::Argument)
                    .count()
            }
        })
        .sum()
}

/// The format that a call comes down to.
pub fn reduce(p: &Print) -> Format {
    let mut out = Format::default();
    if let Some(f) = &p.format {
        out = f.clone();
    } else {
        for (i, a) in p.args.iter().enumerate() {
            if let Some(d) = &p.delimiter
                && i > 0
            {
                literal(&mut out, d);
            }
            let kind = match (&a.kind, a.ty) {
                (ExprKind::Hist(..), _) => ConversionKind::Histogram,
                _ if p.form.char => ConversionKind::Char,
                (_, Ty::String) => ConversionKind::String,
                _ => ConversionKind::Signed,
            };
            conversion(&mut out, kind);
        }
    }
    // A histogram ends with an empty line of its own and gets no other.
    let histogram =
        |part: &Part| matches!(part, Part::Conversion(c) if c.kind == ConversionKind::Histogram);
    if p.form.newline && !out.parts.iter().any(histogram) {
        literal(&mut out, b"\n");
    }
    out
}

fn conversion(out: &mut Format, kind: ConversionKind) {
    out.parts.push(Part::Conversion(Conversion {
        flags: Flags::default(),
        width: Extent::None,
        precision: Extent::None,
        kind,
    }));
}

fn literal(out: &mut Format, text: &[u8]) {
    if text.is_empty() {
        return;
    }
    match out.parts.last_mut() {
        Some(Part::Literal(last)) => last.extend_from_slice(text),
        _ => out.parts.push(Part::Literal(text.to_vec())),
    }
}
