//! Numbers that depend on a process's registers and memory: what location expressions compute, as trees.

use std::collections::HashSet;

use crate::address::ImageAddr;

/// A 64-bit number of a process, as a function of its registers and memory at one place of its code. Arithmetic wraps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Term {
    /// A number.
    Constant(i64),
    /// A register's content, by DWARF's number (see [`crate::arch::x86_64::from_dwarf`]).
    Register(u16),
    /// An address in the image, to be relocated by the load bias.
    Image(ImageAddr),
    /// An address in another image.
    Module {
        /// Which.
        module: Elsewhere,
        /// The address in its own space.
        address: ImageAddr,
    },
    /// The address of a thread-local variable: an offset into the thread-local block of its module.
    ThreadLocal(u64),
    /// The calling thread's thread pointer (the word at `%fs:0`).
    ThreadPointer,
    /// What stands in memory, zero-extended.
    Load {
        /// Where.
        address: Box<Term>,
        /// Bytes: 1 to 8.
        size: u8,
    },
    /// The low bits of a number, extended to 64.
    Extend {
        /// The number.
        value: Box<Term>,
        /// How many bits count: 1 to 64.
        bits: u8,
        /// Whether the highest of them is a sign.
        signed: bool,
    },
    /// Two numbers.
    Binary(Operator, Box<Term>, Box<Term>),
    /// A number that is told by who called the function.
    ByCaller {
        /// Where the function returns to.
        returns_to: Box<Term>,
        /// What is known of the callers.
        cases: Vec<CallerCase>,
        /// The number where none of the cases holds; without it there is none.
        otherwise: Option<i64>,
    },
}

/// Another image than the one that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Elsewhere {
    /// The number that tells its file from others ([`crate::Binary::fingerprint`]).
    pub fingerprint: u64,
    /// Where it begins, in its own space.
    pub lowest: ImageAddr,
}

/// Calls that tell a number in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CallerCase {
    /// The image that they are in, if it is another one.
    pub module: Option<Elsewhere>,
    /// Where they return to.
    pub places: Vec<ImageAddr>,
    /// Of a call by pointer: the number that is 1 when it called this function, else 0.
    pub condition: Option<Term>,
    /// The number.
    pub value: Term,
}

/// What [`Term::Binary`] does. Comparisons give 1 or 0 and are signed, as DWARF has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    /// Signed; the quotient by 0 is 0.
    Divide,
    /// Unsigned; the remainder by 0 is 0.
    Remainder,
    And,
    Or,
    Xor,
    ShiftLeft,
    /// Zeros come in from the left.
    ShiftRight,
    /// Copies of the sign come in from the left.
    ShiftRightSigned,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    /// Of the bits of floating-point numbers of 64 bits, as those below.
    FloatAdd,
    FloatSubtract,
    FloatMultiply,
    FloatDivide,
    FloatEqual,
    FloatLess,
    FloatLessOrEqual,
    /// A signed number as a floating-point one; the second number does not matter, as in those below.
    FloatFromSigned,
    FloatFromUnsigned,
    /// What is before the point; the nearest number if it does not fit.
    FloatToSigned,
    /// 32 bits to 64.
    FloatWiden,
    /// 64 bits to 32.
    FloatNarrow,
}

/// Terms deeper than this are not built: they come from damaged or hostile files.
const DEPTH_LIMIT: usize = 64;
/// Nor are those of more parts: an operation that uses its operand twice doubles them.
const PARTS_LIMIT: usize = 1 << 15;

impl Term {
    /// `a operator b`, folded where it is known.
    pub fn binary(operator: Operator, a: Term, b: Term) -> Term {
        use Operator as O;
        match (operator, a, b) {
            (operator, Term::Constant(a), Term::Constant(b)) => {
                Term::Constant(operator.apply(a, b))
            }
            (O::Add, a, Term::Constant(n)) | (O::Add, Term::Constant(n), a) => a.plus(n),
            (O::Subtract, a, Term::Constant(n)) => a.plus(n.wrapping_neg()),
            (O::ShiftLeft | O::ShiftRight | O::ShiftRightSigned, a, Term::Constant(0)) => a,
            (O::Or, a, Term::Constant(0)) | (O::Or, Term::Constant(0), a) => a,
            (operator, a, b) => Term::Binary(operator, Box::new(a), Box::new(b)),
        }
    }

    /// This and a number more.
    #[must_use]
    pub fn plus(self, n: i64) -> Term {
        match self {
            term if n == 0 => term,
            Term::Constant(m) => Term::Constant(m.wrapping_add(n)),
            Term::Image(address) => Term::Image(address.offset(n)),
            Term::Module { module, address } => Term::Module {
                module,
                address: address.offset(n),
            },
            Term::ThreadLocal(offset) => Term::ThreadLocal(offset.wrapping_add_signed(n)),
            Term::Binary(Operator::Add, a, b) => match *b {
                Term::Constant(m) => a.plus(m.wrapping_add(n)),
                b => Term::Binary(
                    Operator::Add,
                    Box::new(Term::Binary(Operator::Add, a, Box::new(b))),
                    Box::new(Term::Constant(n)),
                ),
            },
            term => Term::Binary(Operator::Add, Box::new(term), Box::new(Term::Constant(n))),
        }
    }

    /// What stands at this address.
    #[must_use]
    pub fn load(self, size: u8) -> Term {
        Term::Load {
            address: Box::new(self),
            size,
        }
    }

    /// The low `bits` of it.
    #[must_use]
    pub fn extend(self, bits: u8, signed: bool) -> Term {
        if bits == 0 || bits >= 64 {
            return self;
        }
        if let Term::Constant(n) = self {
            let up = 64 - u32::from(bits);
            return Term::Constant(if signed {
                (n << up) >> up
            } else {
                ((n as u64) << up >> up) as i64
            });
        }
        Term::Extend {
            value: Box::new(self),
            bits,
            signed,
        }
    }

    /// Base register and displacement, when that is all.
    pub fn as_register_plus(&self) -> Option<(u16, i64)> {
        match self {
            Term::Register(register) => Some((*register, 0)),
            Term::Binary(Operator::Add, a, b) => match (&**a, &**b) {
                (Term::Register(register), Term::Constant(n)) => Some((*register, *n)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The number, when it depends on nothing.
    pub fn as_constant(&self) -> Option<i64> {
        match self {
            Term::Constant(n) => Some(*n),
            _ => None,
        }
    }

    /// The same with other numbers in the place of registers; `None` when one of them has none.
    pub(crate) fn with_registers(&self, of: &dyn Fn(u16) -> Option<Term>) -> Option<Term> {
        self.with_leaves(
            &|leaf| match leaf {
                Term::Register(number) => of(*number),
                leaf => Some(leaf.clone()),
            },
            None,
        )
    }

    /// The same seen from another image: `of` gives what the addresses of this one are there, and callers that are in
    /// this one are said to be in `module`.
    pub(crate) fn seen_elsewhere(
        &self,
        module: Elsewhere,
        of: &dyn Fn(&Term) -> Option<Term>,
    ) -> Option<Term> {
        self.with_leaves(of, Some(module))
    }

    fn with_leaves(
        &self,
        of: &dyn Fn(&Term) -> Option<Term>,
        home: Option<Elsewhere>,
    ) -> Option<Term> {
        let inner = |term: &Term| term.with_leaves(of, home);
        Some(match self {
            Term::Register(_)
            | Term::Constant(_)
            | Term::Image(_)
            | Term::Module { .. }
            | Term::ThreadPointer
            | Term::ThreadLocal(_) => of(self)?,
            Term::Load { address, size } => inner(address)?.load(*size),
            Term::Extend {
                value,
                bits,
                signed,
            } => inner(value)?.extend(*bits, *signed),
            Term::Binary(operator, a, b) => Term::binary(*operator, inner(a)?, inner(b)?),
            Term::ByCaller {
                returns_to,
                cases,
                otherwise,
            } => Term::ByCaller {
                otherwise: *otherwise,
                returns_to: Box::new(inner(returns_to)?),
                cases: cases
                    .iter()
                    .filter_map(|case| {
                        let condition = match &case.condition {
                            Some(condition) => Some(inner(condition)?),
                            None => None,
                        };
                        Some(CallerCase {
                            module: case.module.or(home),
                            places: case.places.clone(),
                            condition,
                            value: inner(&case.value)?,
                        })
                    })
                    .collect(),
            },
        })
    }

    /// Whether it can be computed wherever another number could be that has these [`loads`](Term::loads): it takes registers and
    /// arithmetic, and of memory only what the other one takes, too.
    pub(crate) fn is_safe_beside(&self, loads: &HashSet<&Term>) -> bool {
        match self {
            Term::Constant(_) | Term::Register(_) | Term::Image(_) | Term::ThreadPointer => true,
            Term::Extend { value, .. } => value.is_safe_beside(loads),
            Term::Binary(_, a, b) => a.is_safe_beside(loads) && b.is_safe_beside(loads),
            Term::Load { .. } => loads.contains(self),
            Term::Module { .. } | Term::ThreadLocal(_) | Term::ByCaller { .. } => false,
        }
    }

    /// What it takes from memory in any case.
    pub(crate) fn loads(&self) -> HashSet<&Term> {
        let mut found = HashSet::new();
        let mut rest = vec![self];
        while let Some(term) = rest.pop() {
            match term {
                Term::Load { address, .. } => {
                    found.insert(term);
                    rest.push(address);
                }
                Term::Extend { value, .. } => rest.push(value),
                Term::Binary(_, a, b) => rest.extend([&**a, &**b]),
                _ => {}
            }
        }
        found
    }

    /// How many parts the tree has; `None` when it is deeper, or has more, than anybody would write.
    pub(crate) fn parts(&self) -> Option<usize> {
        fn without(term: &Term, depth: usize, left: usize) -> Option<usize> {
            let (depth, left) = (depth.checked_sub(1)?, left.checked_sub(1)?);
            match term {
                Term::Constant(_)
                | Term::Register(_)
                | Term::Image(_)
                | Term::Module { .. }
                | Term::ThreadPointer
                | Term::ThreadLocal(_) => Some(left),
                Term::Load { address, .. } => without(address, depth, left),
                Term::Extend { value, .. } => without(value, depth, left),
                Term::Binary(_, a, b) => without(b, depth, without(a, depth, left)?),
                Term::ByCaller {
                    returns_to, cases, ..
                } => cases
                    .iter()
                    .try_fold(without(returns_to, depth, left)?, |left, case| {
                        without(&case.value, depth, left)
                    }),
            }
        }
        Some(PARTS_LIMIT - without(self, DEPTH_LIMIT, PARTS_LIMIT)?)
    }
}

impl Operator {
    /// What it gives for two numbers.
    pub fn apply(self, a: i64, b: i64) -> i64 {
        let shift = |f: fn(i64, u32) -> i64, beyond: i64| match u32::try_from(b) {
            Ok(n) if n < 64 => f(a, n),
            _ => beyond,
        };
        let [x, y] = [a, b].map(|n| f64::from_bits(n.cast_unsigned()));
        let bits = |x: f64| x.to_bits().cast_signed();
        match self {
            Operator::Add => a.wrapping_add(b),
            Operator::Subtract => a.wrapping_sub(b),
            Operator::Multiply => a.wrapping_mul(b),
            Operator::Divide if b == 0 => 0,
            Operator::Divide => a.wrapping_div(b),
            Operator::Remainder => (a as u64).checked_rem(b as u64).unwrap_or(0) as i64,
            Operator::And => a & b,
            Operator::Or => a | b,
            Operator::Xor => a ^ b,
            Operator::ShiftLeft => shift(|a, n| a << n, 0),
            Operator::ShiftRight => shift(|a, n| ((a as u64) >> n) as i64, 0),
            Operator::ShiftRightSigned => shift(|a, n| a >> n, a >> 63),
            Operator::Equal => i64::from(a == b),
            Operator::NotEqual => i64::from(a != b),
            Operator::Less => i64::from(a < b),
            Operator::LessOrEqual => i64::from(a <= b),
            Operator::FloatAdd => bits(x + y),
            Operator::FloatSubtract => bits(x - y),
            Operator::FloatMultiply => bits(x * y),
            Operator::FloatDivide => bits(x / y),
            Operator::FloatEqual => i64::from(x == y),
            Operator::FloatLess => i64::from(x < y),
            Operator::FloatLessOrEqual => i64::from(x <= y),
            Operator::FloatFromSigned => bits(a as f64),
            Operator::FloatFromUnsigned => bits(a.cast_unsigned() as f64),
            Operator::FloatToSigned => x as i64,
            Operator::FloatWiden => bits(f64::from(f32::from_bits(a as u32))),
            Operator::FloatNarrow => i64::from((x as f32).to_bits()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_with_a_register_stay_flat() {
        let frame = Term::Register(7).plus(8).plus(-40);
        assert_eq!(frame.as_register_plus(), Some((7, -32)));
        let image = Term::binary(
            Operator::Add,
            Term::Constant(4),
            Term::Image(ImageAddr(0x1000)),
        );
        assert_eq!(image, Term::Image(ImageAddr(0x1004)));
    }

    #[test]
    fn constants_are_folded_as_the_processor_would() {
        let of = |o, a, b| Term::binary(o, Term::Constant(a), Term::Constant(b));
        assert_eq!(of(Operator::Divide, 7, 0), Term::Constant(0));
        assert_eq!(of(Operator::ShiftRight, -1, 60), Term::Constant(15));
        assert_eq!(of(Operator::ShiftRightSigned, -8, 1), Term::Constant(-4));
        assert_eq!(Term::Constant(0xff).extend(8, true), Term::Constant(-1));
    }

    #[test]
    fn memory_that_is_taken_in_any_case_may_be_taken_beside() {
        let at = |register: u16| Term::Register(register).plus(8).load(8);
        let condition = Term::binary(Operator::Less, at(1).load(4), Term::Constant(0));
        let known = condition.loads();
        assert_eq!(known.len(), 2);
        let sum = |a, b| Term::binary(Operator::Add, a, b);
        assert!(sum(at(1), Term::Register(2)).is_safe_beside(&known));
        assert!(at(1).load(4).extend(32, true).is_safe_beside(&known));
        assert!(!at(2).is_safe_beside(&known));
        assert!(!sum(at(1), at(1).load(8)).is_safe_beside(&known));
    }

    #[test]
    fn terms_that_double_are_soon_too_large() {
        let mut term = Term::Register(0);
        let doubled = (0..64).take_while(|_| {
            term = Term::binary(Operator::Multiply, term.clone(), term.clone());
            term.parts().is_some()
        });
        assert_eq!(doubled.count(), 14);
        let last = (0..14).fold(Term::Register(0), |term, _| {
            Term::binary(Operator::Multiply, term.clone(), term)
        });
        assert_eq!(last.parts(), Some((1 << 15) - 1));
    }

    #[test]
    fn floating_point_numbers_are_their_bits() {
        let bits = |number: f64| number.to_bits().cast_signed();
        let of = |operator: Operator, a: f64, b: f64| operator.apply(bits(a), bits(b));
        assert_eq!(of(Operator::FloatSubtract, 1.5, 0.25), bits(1.25));
        assert_eq!(of(Operator::FloatDivide, 1.0, 0.0), bits(f64::INFINITY));
        assert_eq!(of(Operator::FloatLess, -2.0, 1.0), 1);
        assert_eq!(of(Operator::FloatEqual, f64::NAN, f64::NAN), 0);
        assert_eq!(of(Operator::FloatToSigned, -2.75, 0.0), -2);
        assert_eq!(Operator::FloatFromSigned.apply(-3, 0), bits(-3.0));
        assert_eq!(
            Operator::FloatFromUnsigned.apply(-1, 0),
            bits(2f64.powi(64))
        );
        let tenth = i64::from(0.1f32.to_bits());
        assert_eq!(Operator::FloatNarrow.apply(bits(0.1), 0), tenth);
        assert_eq!(
            Operator::FloatWiden.apply(tenth, 0),
            bits(f64::from(0.1f32))
        );
    }
}
