//! Formats of the `print` family: what `printf("…")` asks for, taken apart once at compile time.
//! The directives are those of stap(1) and function::printf of the tapset reference.

/// A format: literal bytes and conversions in turn.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Format {
    /// The parts, in order. Two literals never follow each other.
    pub parts: Vec<Part>,
}

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Bytes to copy (escapes decoded, `%%` folded in).
    Literal(Vec<u8>),
    /// A conversion that takes one argument (more with `*`).
    Conversion(Conversion),
}

/// One conversion, `%-08.3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversion {
    /// The flag, at most one as stap has it (`-` may stand with another).
    pub flags: Flags,
    /// Minimum width.
    pub width: Extent,
    /// Precision.
    pub precision: Extent,
    /// The letter.
    pub kind: ConversionKind,
}

/// Flags of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub struct Flags {
    pub zero: bool,
    pub plus: bool,
    pub minus: bool,
    pub space: bool,
    pub alternate: bool,
}

/// A width or a precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// Not given.
    None,
    /// A number.
    Fixed(u32),
    /// `*`: an argument of type long before the converted one.
    Argument,
}

/// What a conversion does with its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConversionKind {
    /// `%d` `%i`.
    Signed,
    /// `%u`.
    Unsigned,
    /// `%o`.
    Octal,
    /// `%x`.
    Hex,
    /// `%X`.
    UpperHex,
    /// `%p`: hexadecimal with `0x`.
    Pointer,
    /// `%s`.
    String,
    /// `%c`.
    Char,
    /// `%b`: the number's bytes; the width is how many (1, 2, 4, 8; 8 when not given).
    Binary,
    /// `%m`: the bytes at an address; the precision is how many.
    Memory,
    /// `%M`: those bytes as hexadecimal.
    MemoryHex,
    /// A histogram, drawn as stap draws it (only from `print(@hist…)` and its kin).
    Histogram,
}

/// The type of an argument that a format takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArgumentType {
    /// A 64-bit integer.
    Long,
    /// A string.
    String,
    /// A histogram.
    Histogram,
}

/// Why a format is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A `%` without a conversion that stap knows.
    #[error("invalid or missing conversion specifier")]
    Conversion {
        /// The text from the `%` on, to where it went wrong.
        directive: String,
    },
    /// A flag, a width or a precision at the end, with no conversion behind it.
    #[error("trailing incomplete print format conversion")]
    Incomplete,
}

/// The greatest width or precision that is kept; wider output would not fit in any string or record.
const MAX_EXTENT: u32 = 1 << 20;

/// Takes a format apart. Its directives are `%`, at most one flag of `0 + - space #`, a width or `*`, `.` and a
/// precision or `*`, an `l` (ignored), and one of `b c d i u o x X p s m M`; `%%` is a percent sign.
pub fn parse_format(bytes: &[u8]) -> Result<Format, FormatError> {
    let mut format = Format::default();
    let mut literal = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'%' {
            literal.push(byte);
            continue;
        }
        if bytes.get(at) == Some(&b'%') {
            literal.push(b'%');
            at += 1;
            continue;
        }
        let start = at - 1;
        let Some(conversion) = conversion(bytes, &mut at) else {
            let directive = &bytes[start..at.min(bytes.len())];
            // stap takes `%l` at the end for text.
            if directive == b"%l" && at == bytes.len() {
                literal.extend_from_slice(directive);
                break;
            }
            return Err(match directive.len() > 1 && at == bytes.len() {
                true => FormatError::Incomplete,
                false => FormatError::Conversion {
                    directive: String::from_utf8_lossy(directive).into_owned(),
                },
            });
        };
        if !literal.is_empty() {
            format
                .parts
                .push(Part::Literal(std::mem::take(&mut literal)));
        }
        format.parts.push(Part::Conversion(conversion));
    }
    if !literal.is_empty() {
        format.parts.push(Part::Literal(literal));
    }
    Ok(format)
}

/// One directive, the `%` consumed.
fn conversion(bytes: &[u8], at: &mut usize) -> Option<Conversion> {
    let mut flags = Flags::default();
    match bytes.get(*at) {
        Some(b'0') => flags.zero = true,
        Some(b'+') => flags.plus = true,
        Some(b'-') => flags.minus = true,
        Some(b' ') => flags.space = true,
        Some(b'#') => flags.alternate = true,
        _ => *at -= 1,
    }
    *at += 1;
    let width = extent(bytes, at);
    let mut precision = Extent::None;
    if bytes.get(*at) == Some(&b'.') {
        *at += 1;
        // Unlike in C, a point without a number is no precision.
        precision = extent(bytes, at);
    }
    if bytes.get(*at) == Some(&b'l') {
        *at += 1;
    }
    let kind = match bytes.get(*at)? {
        b'b' => ConversionKind::Binary,
        b'c' => ConversionKind::Char,
        b'd' | b'i' => ConversionKind::Signed,
        b'u' => ConversionKind::Unsigned,
        b'o' => ConversionKind::Octal,
        b'x' => ConversionKind::Hex,
        b'X' => ConversionKind::UpperHex,
        b'p' => ConversionKind::Pointer,
        b's' => ConversionKind::String,
        b'm' => ConversionKind::Memory,
        b'M' => ConversionKind::MemoryHex,
        _ => return None,
    };
    *at += 1;
    Some(Conversion {
        flags,
        width,
        precision,
        kind,
    })
}

fn extent(bytes: &[u8], at: &mut usize) -> Extent {
    if bytes.get(*at) == Some(&b'*') {
        *at += 1;
        return Extent::Argument;
    }
    let mut value = None;
    while let Some(digit @ b'0'..=b'9') = bytes.get(*at) {
        let more = value
            .unwrap_or(0u32)
            .saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'));
        value = Some(more.min(MAX_EXTENT));
        *at += 1;
    }
    match value {
        Some(value) => Extent::Fixed(value),
        None => Extent::None,
    }
}

impl Format {
    /// The arguments that it takes, in order: those of `*` before what they apply to.
    pub fn arguments(&self) -> Vec<ArgumentType> {
        let mut out = Vec::new();
        for part in &self.parts {
            let Part::Conversion(conversion) = part else {
                continue;
            };
            for extent in [conversion.width, conversion.precision] {
                if extent == Extent::Argument {
                    out.push(ArgumentType::Long);
                }
            }
            out.push(conversion.kind.argument());
        }
        out
    }

    /// The format of `print(a)`, or of `println(a, b)` and `printd(",", a, b)`: plain conversions with `delimiter`
    /// between them and a newline at the end if wanted. A histogram ends with an empty line of its own and gets no other.
    pub fn plain(arguments: &[ArgumentType], delimiter: &[u8], newline: bool) -> Format {
        let mut format = Format::default();
        for (index, argument) in arguments.iter().enumerate() {
            if index > 0 {
                format.push_literal(delimiter);
            }
            format
                .parts
                .push(Part::Conversion(Conversion::plain(match argument {
                    ArgumentType::Long => ConversionKind::Signed,
                    ArgumentType::String => ConversionKind::String,
                    ArgumentType::Histogram => ConversionKind::Histogram,
                })));
        }
        if newline && !arguments.contains(&ArgumentType::Histogram) {
            format.push_literal(b"\n");
        }
        format
    }

    /// The format of `print_char(n)`.
    pub fn character() -> Format {
        Format {
            parts: vec![Part::Conversion(Conversion::plain(ConversionKind::Char))],
        }
    }

    /// Adds bytes to copy; joined to the literal before them.
    pub fn push_literal(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.parts.last_mut() {
            Some(Part::Literal(literal)) => literal.extend_from_slice(bytes),
            _ => self.parts.push(Part::Literal(bytes.to_vec())),
        }
    }
}

impl Conversion {
    /// A conversion without flags, width and precision.
    pub fn plain(kind: ConversionKind) -> Conversion {
        Conversion {
            flags: Flags::default(),
            width: Extent::None,
            precision: Extent::None,
            kind,
        }
    }
}

impl ConversionKind {
    /// What it converts.
    pub fn argument(self) -> ArgumentType {
        match self {
            ConversionKind::String => ArgumentType::String,
            ConversionKind::Histogram => ArgumentType::Histogram,
            _ => ArgumentType::Long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_those_of_the_manual() {
        let format = parse_format(b"a%-8.3s%%b%*.*ld%#x").unwrap();
        assert_eq!(format.parts.len(), 5);
        assert_eq!(format.parts[0], Part::Literal(b"a".to_vec()));
        assert_eq!(
            format.parts[1],
            Part::Conversion(Conversion {
                flags: Flags {
                    minus: true,
                    ..Flags::default()
                },
                width: Extent::Fixed(8),
                precision: Extent::Fixed(3),
                kind: ConversionKind::String,
            })
        );
        assert_eq!(format.parts[2], Part::Literal(b"%b".to_vec()));
        use ArgumentType::{Long, String};
        assert_eq!(format.arguments(), [String, Long, Long, Long, Long]);
    }

    #[test]
    fn what_stap_refuses_is_refused() {
        for bad in ["%", "%z", "%n", "%5$d", "%-+d", "%hd", "%lz", "%lld"] {
            assert!(
                matches!(
                    parse_format(bad.as_bytes()),
                    Err(FormatError::Conversion { .. })
                ),
                "{bad}"
            );
        }
        for bad in ["%5", "%-", "%#", "%*", "%.*", "%5.", "%5.3", "%5l", "a%*.*"] {
            assert_eq!(
                parse_format(bad.as_bytes()),
                Err(FormatError::Incomplete),
                "{bad}"
            );
        }
    }

    #[test]
    fn plain_formats_join_their_literals() {
        let format = Format::plain(&[ArgumentType::Long, ArgumentType::String], b", ", true);
        assert_eq!(format.parts.len(), 4);
        assert_eq!(format.parts[1], Part::Literal(b", ".to_vec()));
        assert_eq!(
            Format::plain(&[], b"", true).parts,
            [Part::Literal(b"\n".to_vec())]
        );
    }
}
