//! Locations as text: `rdi`, `*(rsp+16)`, `rax+1 (value)`.

use std::fmt;

use super::{Elsewhere, Location, OBJECT, Operator, Term};
use crate::arch::x86_64::from_dwarf;

const GENERAL: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

/// A register by DWARF's number (System V ABI, figure 3.36).
fn register(number: u16) -> String {
    let general = from_dwarf(number).and_then(|n| GENERAL.get(usize::from(n)));
    match (general, number) {
        (Some(name), _) => (*name).to_owned(),
        (None, 17..=32) => format!("xmm{}", number - 17),
        (None, 33..=40) => format!("st{}", number - 33),
        (None, OBJECT) => "object".to_owned(),
        (None, _) => format!("register {number}"),
    }
}

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Remainder => "%",
        Operator::And => "&",
        Operator::Or => "|",
        Operator::Xor => "^",
        Operator::ShiftLeft => "<<",
        Operator::ShiftRight => ">>>",
        Operator::ShiftRightSigned => ">>",
        Operator::Equal => "==",
        Operator::NotEqual => "!=",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::FloatAdd => "+.",
        Operator::FloatSubtract => "-.",
        Operator::FloatMultiply => "*.",
        Operator::FloatDivide => "/.",
        Operator::FloatEqual => "==.",
        Operator::FloatLess => "<.",
        Operator::FloatLessOrEqual => "<=.",
        Operator::FloatFromSigned => "as float from i64",
        Operator::FloatFromUnsigned => "as float from u64",
        Operator::FloatToSigned => "as i64 from float",
        Operator::FloatWiden => "as f64 from f32",
        Operator::FloatNarrow => "as f32 from f64",
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module-{:016x}", self.fingerprint)
    }
}

/// An expression in C's manner; sums with numbers without blanks or parentheses.
impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Term::Constant(n) => write!(f, "{n}"),
            Term::Register(n) => f.write_str(&register(*n)),
            Term::Image(address) => write!(f, "{address}"),
            Term::Module { module, address } => write!(f, "{module}:{address}"),
            Term::ThreadLocal(offset) => write!(f, "tls+{offset}"),
            Term::ThreadPointer => f.write_str("fs"),
            Term::Load { address, size: 8 } => write!(f, "*({address})"),
            Term::Load { address, size } => write!(f, "*{size}({address})"),
            Term::Extend {
                value,
                bits,
                signed,
            } => write!(f, "{}{bits}({value})", if *signed { "i" } else { "u" }),
            Term::Binary(Operator::Add, a, b) => match **b {
                Term::Constant(n) if n < 0 => write!(f, "{a}{n}"),
                _ => write!(f, "{a}+{b}"),
            },
            Term::Binary(operator, a, b) => write!(f, "({a} {} {b})", symbol(*operator)),
            Term::ByCaller { cases, .. } => {
                f.write_str("by caller (")?;
                for (n, case) in cases.iter().enumerate() {
                    let more = if n > 0 { ", " } else { "" };
                    f.write_str(more)?;
                    if let Some(module) = case.module {
                        write!(f, "{module}:")?;
                    }
                    let places: Vec<String> = case.places.iter().map(ToString::to_string).collect();
                    write!(f, "{}: {}", places.join(" "), case.value)?;
                    if let Some(condition) = &case.condition {
                        write!(f, " if {condition}")?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

/// A register's name, `*(address)` for memory, `value (value)`, pieces as `{place:bits, …}`, `? (reason)`.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Register(n) => f.write_str(&register(*n)),
            Location::Memory(address) => write!(f, "*({address})"),
            Location::Value(value) => write!(f, "{value} (value)"),
            Location::Bytes(bytes) => {
                for byte in bytes {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(" (bytes)")
            }
            Location::PointerTo { offset, .. } => write!(f, "pointer to a variable+{offset}"),
            Location::Pieces(pieces) => {
                f.write_str("{")?;
                for (i, piece) in pieces.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    write!(f, "{comma}{}:{}", piece.location, piece.bits)?;
                }
                f.write_str("}")
            }
            Location::Unavailable(why) => write!(f, "? ({why})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Location, Term};

    #[test]
    fn places_read_like_an_assembler_s() {
        // DWARF numbers: 7 is rsp, 5 is rdi, 17 is xmm0.
        assert_eq!(Location::Register(5).to_string(), "rdi");
        assert_eq!(Location::Register(17).to_string(), "xmm0");
        let place = Location::Memory(Term::Register(7).plus(-16));
        assert_eq!(place.to_string(), "*(rsp-16)");
        let value = Location::Value(Term::Register(7).plus(8).load(4));
        assert_eq!(value.to_string(), "*4(rsp+8) (value)");
    }
}
