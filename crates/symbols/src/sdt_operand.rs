//! The argument operands of SDT marks, in AT&T syntax as the compiler's assembler would read them
//! (<https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation>): `N@OP`, where N is the size in bytes,
//! negative for signed values, and OP a register, an immediate or a memory operand.

use crate::address::ImageAddr;
use crate::arch::x86_64::{RegisterName, RegisterWidth, SegmentRegister};

/// One argument of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdtArgument {
    /// Size of the value in bytes: 1, 2, 4 or 8.
    pub size: u8,
    /// Whether the value is to be sign-extended.
    pub signed: bool,
    /// Where it stands.
    pub operand: SdtOperand,
}

/// Where an argument stands when the mark is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SdtOperand {
    /// In a register.
    Register(RegisterName),
    /// It is a constant.
    Immediate(i64),
    /// In memory at `segment:displacement + base + index * scale`.
    Memory {
        /// The base register, 64 or 32 bits wide.
        base: Option<RegisterName>,
        /// The index register.
        index: Option<RegisterName>,
        /// 1, 2, 4 or 8.
        scale: u8,
        /// Bytes to add.
        displacement: i64,
        /// A segment whose base is added.
        segment: Option<SegmentRegister>,
    },
    /// In memory at an address of the image (a symbol, `%rip`-relative or not), to which the load bias is to be added.
    Absolute(ImageAddr),
    /// Not readable, with the reason; the mark's other arguments are not concerned.
    Invalid(OperandError),
}

/// What is wrong with an operand; each names it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperandError {
    /// The text is not of any known form.
    #[error("malformed operand `{0}`")]
    Malformed(String),
    /// The size is none that a probe can read.
    #[error("operand `{operand}` has unsupported size {size}")]
    Size {
        /// The operand.
        operand: String,
        /// The size as written.
        size: String,
    },
    /// A floating-point number or a vector register.
    #[error("operand `{0}` is a floating-point or vector value, which is not supported")]
    FloatingPoint(String),
    /// A register that does not exist or can't be read.
    #[error("operand `{operand}` names unknown register %{register}")]
    Register {
        /// The operand.
        operand: String,
        /// The register's name.
        register: String,
    },
    /// A symbol that the binary doesn't define.
    #[error("operand `{operand}` names unknown symbol `{symbol}`")]
    Symbol {
        /// The operand.
        operand: String,
        /// The symbol's name.
        symbol: String,
    },
}

/// Splits the argument string of a note into operands. Spaces separate them, but may also stand inside parentheses.
pub fn split(arguments: &str) -> Vec<&str> {
    let mut operands = Vec::new();
    let mut depth = 0i32;
    let mut start = None;
    for (at, c) in arguments.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if c.is_ascii_whitespace() && depth <= 0 {
            if let Some(from) = start.take() {
                operands.extend(arguments.get(from..at));
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    if let Some(from) = start {
        operands.extend(arguments.get(from..));
    }
    operands
}

/// Parses one operand. `symbol` gives the address of a symbol of the binary.
///
/// # Errors
/// When the text is malformed or names something unknown or unsupported.
pub fn parse(
    text: &str,
    symbol: &dyn Fn(&str) -> Option<ImageAddr>,
) -> Result<SdtArgument, OperandError> {
    let malformed = || OperandError::Malformed(text.to_owned());
    let (size, operand) = match text.split_once('@') {
        Some((size, operand)) if is_size(size) => (Some(size), operand),
        _ => (None, text),
    };
    let (width, signed) = match size {
        None => (None, false),
        Some(size) => {
            let (digits, signed) = size.strip_prefix('-').map_or((size, false), |d| (d, true));
            if digits.ends_with('f') {
                return Err(OperandError::FloatingPoint(text.to_owned()));
            }
            match digits.parse::<u8>() {
                Ok(n @ (1 | 2 | 4 | 8)) => (Some(n), signed),
                _ => {
                    return Err(OperandError::Size {
                        operand: text.to_owned(),
                        size: size.to_owned(),
                    });
                }
            }
        }
    };
    let operand = operand.trim();
    let operand = operand.strip_prefix('*').unwrap_or(operand);
    if operand.is_empty() {
        return Err(malformed());
    }
    let parser = Parser { text, symbol };
    if let Some(immediate) = operand.strip_prefix('$') {
        return Ok(SdtArgument {
            size: width.unwrap_or(8),
            // A constant without a size is as the assembler has it: a signed number.
            signed: signed || size.is_none(),
            operand: match parser.sum(immediate)? {
                Sum {
                    symbol: None,
                    offset,
                } => SdtOperand::Immediate(offset),
                Sum { .. } => return Err(malformed()),
            },
        });
    }
    if let Some(name) = operand.strip_prefix('%')
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        let register = parser.register(name)?;
        return Ok(SdtArgument {
            size: width.unwrap_or(register.width.bytes()),
            signed,
            operand: SdtOperand::Register(register),
        });
    }
    Ok(SdtArgument {
        size: width.unwrap_or(8),
        signed,
        operand: parser.memory(operand)?,
    })
}

fn is_size(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let digits = digits.strip_suffix('f').unwrap_or(digits);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

/// What stands before the parentheses of a memory operand.
struct Sum<'a> {
    symbol: Option<&'a str>,
    offset: i64,
}

struct Parser<'a> {
    text: &'a str,
    symbol: &'a dyn Fn(&str) -> Option<ImageAddr>,
}

impl Parser<'_> {
    fn malformed(&self) -> OperandError {
        OperandError::Malformed(self.text.to_owned())
    }

    fn register(&self, name: &str) -> Result<RegisterName, OperandError> {
        let vector = ["xmm", "ymm", "zmm", "mm", "st"];
        if vector.iter().any(|v| {
            name.strip_prefix(v)
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
        }) {
            return Err(OperandError::FloatingPoint(self.text.to_owned()));
        }
        RegisterName::parse(name).ok_or_else(|| OperandError::Register {
            operand: self.text.to_owned(),
            register: name.to_owned(),
        })
    }

    /// `SYMBOL`, `NUMBER`, or a sum of such with `+` and `-`; empty is 0.
    fn sum<'t>(&self, text: &'t str) -> Result<Sum<'t>, OperandError> {
        let mut sum = Sum {
            symbol: None,
            offset: 0,
        };
        let mut rest = text.trim();
        let mut first = true;
        while !rest.is_empty() {
            let mut negative = false;
            if let Some(r) = rest.strip_prefix('-') {
                negative = true;
                rest = r.trim_start();
            } else if let Some(r) = rest.strip_prefix('+') {
                rest = r.trim_start();
            } else if !first {
                return Err(self.malformed());
            }
            first = false;
            let end = rest.find(['+', '-']).unwrap_or(rest.len());
            let (term, next) = rest.split_at(end);
            let term = term.trim();
            rest = next;
            if term.starts_with(|c: char| c.is_ascii_digit()) {
                let number = self.number(term)?;
                let number = if negative {
                    number.wrapping_neg()
                } else {
                    number
                };
                sum.offset = sum.offset.wrapping_add(number);
            } else if term.is_empty() || negative || sum.symbol.is_some() {
                return Err(self.malformed());
            } else {
                sum.symbol = Some(term);
            }
        }
        Ok(sum)
    }

    /// Decimal, `0x` hexadecimal or `0` octal, as the assembler reads them; beyond `i64::MAX` it wraps.
    fn number(&self, text: &str) -> Result<i64, OperandError> {
        let parsed = if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
        {
            u64::from_str_radix(hex, 16)
        } else if text.len() > 1 && text.starts_with('0') {
            u64::from_str_radix(text, 8)
        } else {
            text.parse()
        };
        parsed.map(u64::cast_signed).map_err(|_| self.malformed())
    }

    fn memory(&self, operand: &str) -> Result<SdtOperand, OperandError> {
        let (segment, rest) = match operand.strip_prefix('%').and_then(|o| o.split_once(':')) {
            None if operand.starts_with('%') => return Err(self.malformed()),
            None => (None, operand),
            Some(("fs", rest)) => (Some(SegmentRegister::Fs), rest),
            Some(("gs", rest)) => (Some(SegmentRegister::Gs), rest),
            // Their bases are 0 in 64-bit mode.
            Some(("ds" | "es" | "cs" | "ss", rest)) => (None, rest),
            Some((other, _)) => {
                return Err(OperandError::Register {
                    operand: self.text.to_owned(),
                    register: other.to_owned(),
                });
            }
        };
        let (before, inside) = match rest.rfind('(') {
            Some(open) => {
                let (before, inside) = rest.split_at(open);
                let inside = inside
                    .strip_prefix('(')
                    .and_then(|i| i.trim_end().strip_suffix(')'));
                (before, Some(inside.ok_or_else(|| self.malformed())?))
            }
            None => (rest, None),
        };
        let sum = self.sum(before)?;
        let address = match sum.symbol {
            None => None,
            Some(name) => Some((self.symbol)(name).ok_or_else(|| OperandError::Symbol {
                operand: self.text.to_owned(),
                symbol: name.to_owned(),
            })?),
        };
        let mut registers = inside.unwrap_or_default().split(',').map(str::trim);
        let (base, index, scale) = (
            registers.next().unwrap_or_default(),
            registers.next(),
            registers.next(),
        );
        if registers.next().is_some()
            || (inside.is_some() && base.is_empty() && index.is_none_or(str::is_empty))
        {
            return Err(self.malformed());
        }
        if base == "%rip" {
            if index.is_some() || segment.is_some() {
                return Err(self.malformed());
            }
            // Without a symbol the assembler took a number as the displacement itself, whose place can't be known here.
            let address = address.ok_or_else(|| self.malformed())?;
            return Ok(SdtOperand::Absolute(address.offset(sum.offset)));
        }
        let base = self.address_register(base)?;
        let index = self.address_register(index.unwrap_or_default())?;
        let scale = match scale {
            None | Some("") => 1,
            Some(s) => match self.number(s)? {
                n @ (1 | 2 | 4 | 8) => u8::try_from(n).map_err(|_| self.malformed())?,
                _ => return Err(self.malformed()),
            },
        };
        match address {
            Some(address) if base.is_none() && index.is_none() && segment.is_none() => {
                Ok(SdtOperand::Absolute(address.offset(sum.offset)))
            }
            // A symbol as displacement beside registers only links into programs at a fixed address, where the
            // symbol's address is a plain number.
            Some(address) => Ok(SdtOperand::Memory {
                base,
                index,
                scale,
                displacement: address.0.cast_signed().wrapping_add(sum.offset),
                segment,
            }),
            None if before.trim().is_empty() && inside.is_none() => Err(self.malformed()),
            None => Ok(SdtOperand::Memory {
                base,
                index,
                scale,
                displacement: sum.offset,
                segment,
            }),
        }
    }

    fn address_register(&self, text: &str) -> Result<Option<RegisterName>, OperandError> {
        if text.is_empty() {
            return Ok(None);
        }
        let name = text.strip_prefix('%').ok_or_else(|| self.malformed())?;
        if name == "riz" || name == "eiz" {
            return Ok(None);
        }
        let register = self.register(name)?;
        match register.width {
            RegisterWidth::Quad | RegisterWidth::Double => Ok(Some(register)),
            _ => Err(self.malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbols(name: &str) -> Option<ImageAddr> {
        (name == "counter").then_some(ImageAddr(0x4000))
    }

    fn one(text: &str) -> SdtArgument {
        parse(text, &symbols).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn register(name: &str) -> RegisterName {
        RegisterName::parse(name).expect("a register")
    }

    fn memory(base: Option<&str>, index: Option<&str>, scale: u8, displacement: i64) -> SdtOperand {
        SdtOperand::Memory {
            base: base.map(register),
            index: index.map(register),
            scale,
            displacement,
            segment: None,
        }
    }

    #[test]
    fn registers_carry_size_and_sign() {
        let a = one("-4@%eax");
        assert_eq!((a.size, a.signed), (4, true));
        assert_eq!(a.operand, SdtOperand::Register(register("eax")));
        let a = one("8@%r12");
        assert_eq!((a.size, a.signed), (8, false));
        let a = one("%di");
        assert_eq!((a.size, a.signed), (2, false));
        assert_eq!(one("1@%ah").operand, SdtOperand::Register(register("ah")));
        assert_eq!(
            one("-2@%r8w").operand,
            SdtOperand::Register(register("r8w"))
        );
        assert_eq!(one("1@%r8b").operand, SdtOperand::Register(register("r8b")));
    }

    #[test]
    fn immediates() {
        assert_eq!(one("8@$-5").operand, SdtOperand::Immediate(-5));
        assert_eq!(one("-4@$0x10").operand, SdtOperand::Immediate(16));
        assert_eq!(one("$7").operand, SdtOperand::Immediate(7));
        assert_eq!(
            one("8@$0xffffffffffffffff").operand,
            SdtOperand::Immediate(-1)
        );
        assert_eq!(one("8@$4+3-1").operand, SdtOperand::Immediate(6));
    }

    #[test]
    fn memory_forms() {
        assert_eq!(one("4@8(%rbp)").operand, memory(Some("rbp"), None, 1, 8));
        assert_eq!(
            one("-1@-0x10(%rax,%rbx,4)").operand,
            memory(Some("rax"), Some("rbx"), 4, -16)
        );
        assert_eq!(one("8@(%rdi)").operand, memory(Some("rdi"), None, 1, 0));
        assert_eq!(
            one("8@16(,%rcx,8)").operand,
            memory(None, Some("rcx"), 8, 16)
        );
        assert_eq!(
            one("8@-4+16(%rsp)").operand,
            memory(Some("rsp"), None, 1, 12)
        );
        assert_eq!(
            one("8@(%rax,%rdx)").operand,
            memory(Some("rax"), Some("rdx"), 1, 0)
        );
        assert_eq!(
            one("4@( %rax , %rdx , 2 )").operand,
            memory(Some("rax"), Some("rdx"), 2, 0)
        );
        assert_eq!(one("4@1234").operand, memory(None, None, 1, 1234));
        assert_eq!(
            one("4@%fs:8(%rax)").operand,
            SdtOperand::Memory {
                base: Some(register("rax")),
                index: None,
                scale: 1,
                displacement: 8,
                segment: Some(SegmentRegister::Fs)
            }
        );
        assert_eq!(
            one("8@%fs:0x28").operand,
            SdtOperand::Memory {
                base: None,
                index: None,
                scale: 1,
                displacement: 0x28,
                segment: Some(SegmentRegister::Fs)
            }
        );
    }

    #[test]
    fn symbols_become_addresses() {
        assert_eq!(
            one("8@counter(%rip)").operand,
            SdtOperand::Absolute(ImageAddr(0x4000))
        );
        assert_eq!(
            one("counter+8(%rip)").operand,
            SdtOperand::Absolute(ImageAddr(0x4008))
        );
        assert_eq!(
            one("4@8+counter(%rip)").operand,
            SdtOperand::Absolute(ImageAddr(0x4008))
        );
        assert_eq!(
            one("4@counter-4(%rip)").operand,
            SdtOperand::Absolute(ImageAddr(0x3ffc))
        );
        assert_eq!(
            one("4@counter").operand,
            SdtOperand::Absolute(ImageAddr(0x4000))
        );
        assert_eq!(
            one("4@counter(,%rax,4)").operand,
            memory(None, Some("rax"), 4, 0x4000)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| parse(text, &symbols).expect_err(text);
        assert!(matches!(error("4f@%xmm0"), OperandError::FloatingPoint(_)));
        assert!(matches!(error("8@%xmm1"), OperandError::FloatingPoint(_)));
        assert!(matches!(error("16@%rax"), OperandError::Size { .. }));
        assert!(matches!(error("3@%rax"), OperandError::Size { .. }));
        assert!(matches!(error("8@%rzx"), OperandError::Register { .. }));
        assert!(matches!(
            error("8@nowhere(%rip)"),
            OperandError::Symbol { .. }
        ));
        for wrong in [
            "",
            "8@",
            "8@(",
            "8@()",
            "8@8(%rax",
            "8@$",
            "8@$x",
            "8@%rax:",
            "8@(%al)",
            "8@(%rax,%rbx,3)",
            "8@1 2",
        ] {
            if wrong == "8@$" {
                continue;
            }
            assert!(parse(wrong, &symbols).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_are_split_at_spaces_outside_parentheses() {
        assert_eq!(
            split("-4@%eax  8@8(%rbp, %rax, 4) $5 "),
            ["-4@%eax", "8@8(%rbp, %rax, 4)", "$5"]
        );
        assert_eq!(split(""), Vec::<&str>::new());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = parse(&text, &symbols);
            let _ = split(&text);
        }

        #[test]
        fn nearly_right_text_does_not_panic(text in "-?[0-9]{0,2}f?@?[-+$%*(),:a-z0-9 ]{0,24}") {
            let _ = parse(&text, &symbols);
        }
    }
}
