//! Where a value stands, as handlers compute it: the algebra of parts, loads and pieces.

use codegen::{CallerCase, FloatOperation as Float, Location, Term, TermOperator, Variable};
use symbols::arch::x86_64::from_dwarf;
use symbols::{ImageAddr, Operator};

/// Where a value or a part of it stands.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In memory at this address.
    Memory(Term),
    /// The low bits of this number.
    Number(Term),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A pointer to a variable that debugging information names.
    PointerTo(symbols::EntityId, i64),
    /// Several places, lowest bits first: the place and how many bits.
    Pieces(Vec<(Result<Place, String>, u64)>),
}

/// How to spell what symbols says in a handler's terms: addresses become distances from the probed instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelling<'a> {
    /// The probed instruction.
    pub pc: ImageAddr,
    /// The binary, for its thread-local block.
    pub binary: &'a symbols::Binary,
    /// The function returns: neither its registers nor the distance from the probed instruction are what they were.
    pub at_return: bool,
    /// The binary is not the probed one: where it is loaded is not known from the probed instruction.
    pub elsewhere: bool,
}

impl Spelling<'_> {
    pub fn place(&self, location: &symbols::Location) -> Result<Place, String> {
        Ok(match location {
            symbols::Location::Register(_) if self.at_return => return Err(gone()),
            symbols::Location::Register(n) => Place::Number(register(*n)?),
            symbols::Location::Memory(address) => Place::Memory(self.term(address)?),
            symbols::Location::Value(value) => Place::Number(self.term(value)?),
            symbols::Location::Bytes(bytes) => Place::Bytes(bytes.clone()),
            symbols::Location::PointerTo { target, offset } => Place::PointerTo(*target, *offset),
            symbols::Location::Pieces(pieces) => {
                let piece = |p: &symbols::Piece| {
                    let place = self.place(&p.location).and_then(|place| {
                        let size = p.bits;
                        part(&place, p.skip, size)
                    });
                    (place, p.bits)
                };
                Place::Pieces(pieces.iter().map(piece).collect())
            }
            symbols::Location::Unavailable(why) => return Err(why.clone()),
        })
    }

    pub fn term(&self, term: &symbols::Term) -> Result<Term, String> {
        self.substituted(term, None)
    }

    /// Whether the handler does not know its own place in the module.
    fn is_elsewhere(&self) -> bool {
        self.elsewhere || self.at_return
    }

    /// As [`Spelling::term`], with an object's address in the place of [`symbols::OBJECT`].
    pub fn substituted(&self, term: &symbols::Term, object: Option<&Term>) -> Result<Term, String> {
        use symbols::Term as S;
        Ok(match term {
            S::Constant(n) => Term::Constant(*n),
            S::Register(symbols::OBJECT) => match object {
                Some(object) => object.clone(),
                None => return Err("it depends on an object".into()),
            },
            S::Register(_) if self.at_return => return Err(gone()),
            S::Register(n) => register(*n)?,
            S::Image(address) if self.is_elsewhere() && !self.binary.is_position_independent() => {
                Term::Constant(address.0.cast_signed())
            }
            S::Image(address) if self.is_elsewhere() => {
                let (low, _) = inject::extent(self.binary)
                    .ok_or_else(|| "its module has nothing to be loaded".to_owned())?;
                Term::Module {
                    fingerprint: self.binary.fingerprint(),
                    offset: address.0.wrapping_sub(low).cast_signed(),
                }
            }
            S::Image(address) => Term::Image(address.0.wrapping_sub(self.pc.0).cast_signed()),
            S::Module { module, address } => Term::Module {
                fingerprint: module.fingerprint,
                offset: address.0.wrapping_sub(module.lowest.0).cast_signed(),
            },
            S::ThreadPointer => Term::Thread,
            S::ThreadLocal(offset) => {
                let address = self
                    .binary
                    .thread_local_address(*offset)
                    .ok_or("it is thread-local in a module whose place among them is not known")?;
                return self.substituted(&address, object);
            }
            S::Load { address, size } => Term::Load {
                address: Box::new(self.substituted(address, object)?),
                size: *size,
                signed: false,
            },
            S::Extend {
                value,
                bits,
                signed,
            } => Term::Extend {
                value: Box::new(self.substituted(value, object)?),
                bits: *bits,
                signed: *signed,
            },
            S::ByCaller {
                returns_to,
                cases,
                otherwise,
            } => Term::ByCaller {
                otherwise: *otherwise,
                returns_to: Box::new(self.substituted(returns_to, object)?),
                cases: cases
                    .iter()
                    .map(|case| {
                        let places = case.places.iter();
                        let condition = case.condition.as_ref();
                        let start = case.module.map_or(self.pc, |module| module.lowest);
                        Ok(CallerCase {
                            module: case.module.map(|module| module.fingerprint),
                            places: places
                                .map(|at| at.0.wrapping_sub(start.0).cast_signed())
                                .collect(),
                            condition: condition
                                .map(|c| self.substituted(c, object))
                                .transpose()?,
                            value: self.substituted(&case.value, object)?,
                        })
                    })
                    .collect::<Result<_, String>>()?,
            },
            S::Binary(operator, a, b) => Term::Binary(
                spell(*operator),
                Box::new(self.substituted(a, object)?),
                Box::new(self.substituted(b, object)?),
            ),
        })
    }
}

fn gone() -> String {
    "it is not available when the function returns: use @entry()".to_owned()
}

/// A register by DWARF's number (System V ABI, figure 3.36).
fn register(n: u16) -> Result<Term, String> {
    match (from_dwarf(n), n) {
        (Some(number), _) => Ok(Term::Register(number)),
        (None, 17..=32) => Ok(Term::Vector {
            number: (n - 17) as u8,
            high: false,
        }),
        (None, _) => Err(format!("it is in DWARF register {n}")),
    }
}

fn spell(operator: Operator) -> TermOperator {
    match operator {
        Operator::Add => TermOperator::Add,
        Operator::Subtract => TermOperator::Subtract,
        Operator::Multiply => TermOperator::Multiply,
        Operator::Divide => TermOperator::Divide,
        Operator::Remainder => TermOperator::Remainder,
        Operator::And => TermOperator::And,
        Operator::Or => TermOperator::Or,
        Operator::Xor => TermOperator::Xor,
        Operator::ShiftLeft => TermOperator::ShiftLeft,
        Operator::ShiftRight => TermOperator::ShiftRight,
        Operator::ShiftRightSigned => TermOperator::ShiftRightSigned,
        Operator::Equal => TermOperator::Equal,
        Operator::NotEqual => TermOperator::NotEqual,
        Operator::Less => TermOperator::Less,
        Operator::LessOrEqual => TermOperator::LessOrEqual,
        Operator::FloatAdd => TermOperator::Float(Float::Add),
        Operator::FloatSubtract => TermOperator::Float(Float::Subtract),
        Operator::FloatMultiply => TermOperator::Float(Float::Multiply),
        Operator::FloatDivide => TermOperator::Float(Float::Divide),
        Operator::FloatEqual => TermOperator::Float(Float::Equal),
        Operator::FloatLess => TermOperator::Float(Float::Less),
        Operator::FloatLessOrEqual => TermOperator::Float(Float::LessOrEqual),
        Operator::FloatFromSigned => TermOperator::Float(Float::FromLong),
        Operator::FloatFromUnsigned => TermOperator::Float(Float::FromUnsigned),
        Operator::FloatToSigned => TermOperator::Float(Float::ToLong),
        Operator::FloatWiden => TermOperator::Float(Float::Widen),
        Operator::FloatNarrow => TermOperator::Float(Float::Narrow),
    }
}

/// A sum, flat where one side is a number.
pub(crate) fn add(a: Term, n: i64) -> Term {
    match a {
        a if n == 0 => a,
        Term::Constant(m) => Term::Constant(m.wrapping_add(n)),
        Term::Image(m) => Term::Image(m.wrapping_add(n)),
        Term::Module {
            fingerprint,
            offset,
        } => Term::Module {
            fingerprint,
            offset: offset.wrapping_add(n),
        },
        Term::Binary(TermOperator::Add, a, b) => match *b {
            Term::Constant(m) => add(*a, m.wrapping_add(n)),
            b => binary(
                TermOperator::Add,
                binary(TermOperator::Add, *a, b),
                Term::Constant(n),
            ),
        },
        a => binary(TermOperator::Add, a, Term::Constant(n)),
    }
}

pub(crate) fn binary(operator: TermOperator, a: Term, b: Term) -> Term {
    Term::Binary(operator, Box::new(a), Box::new(b))
}

/// `bits` bits of a place, from bit `from` on; in memory the place begins at the byte of the first bit.
pub(crate) fn part(place: &Place, from: u64, bits: u64) -> Result<Place, String> {
    let damaged = || "its parts are out of range".to_owned();
    let bytes = i64::try_from(from / 8).map_err(|_| damaged())?;
    Ok(match place {
        Place::Memory(address) => Place::Memory(add(address.clone(), bytes)),
        Place::Number(term) if from == 0 => Place::Number(term.clone()),
        Place::Number(Term::Vector {
            number,
            high: false,
        }) if from >= 64 => {
            let high = Term::Vector {
                number: *number,
                high: true,
            };
            return part(&Place::Number(high), from - 64, bits);
        }
        Place::Number(_) if from >= 64 => return Err(damaged()),
        Place::Number(term) => Place::Number(binary(
            TermOperator::ShiftRight,
            term.clone(),
            Term::Constant(from.cast_signed()),
        )),
        Place::Bytes(all) => {
            let start = usize::try_from(from / 8).map_err(|_| damaged())?;
            Place::Bytes(all.get(start..).ok_or_else(damaged)?.to_vec())
        }
        Place::PointerTo(..) if from == 0 => place.clone(),
        Place::PointerTo(..) => return Err("a pointer has no parts".into()),
        Place::Pieces(pieces) => {
            let end = from.saturating_add(bits);
            let mut begin = 0u64;
            let mut found: Vec<(Result<Place, String>, u64)> = Vec::new();
            for (piece, size) in pieces {
                let (low, high) = (begin, begin.saturating_add(*size));
                begin = high;
                let (first, last) = (low.max(from), high.min(end));
                if first >= last {
                    continue;
                }
                let inner = match piece {
                    Ok(place) => part(place, first - low, last - first),
                    Err(why) => Err(why.clone()),
                };
                found.push((inner, last - first));
            }
            match found.len() {
                0 => return Err(damaged()),
                1 => return found.remove(0).0,
                _ => Place::Pieces(found),
            }
        }
    })
}

/// The number that `size` bytes of a place are, in the low bits; the bits above are whatever they are.
pub(crate) fn number(place: &Place, size: u8) -> Result<Term, String> {
    Ok(match place {
        Place::Memory(address) => Term::Load {
            address: Box::new(address.clone()),
            size,
            signed: false,
        },
        Place::Number(term) => term.clone(),
        Place::Bytes(bytes) => {
            let mut word = [0u8; 8];
            for (to, from) in word.iter_mut().zip(bytes.iter().take(usize::from(size))) {
                *to = *from;
            }
            Term::Constant(i64::from_le_bytes(word))
        }
        Place::PointerTo(..) => {
            return Err("it points to something that is nowhere in memory".into());
        }
        Place::Pieces(pieces) => {
            let mut sum: Option<Term> = None;
            let mut at = 0u64;
            for (piece, bits) in pieces {
                let (place, bits) = (piece.clone()?, (*bits).min(64u64.saturating_sub(at)));
                if bits == 0 {
                    break;
                }
                let bytes = u8::try_from(bits.div_ceil(8)).unwrap_or(8);
                let mut term = number(&place, bytes)?;
                if bits < 64 {
                    term = Term::Extend {
                        value: Box::new(term),
                        bits: bits as u8,
                        signed: false,
                    };
                }
                if at > 0 {
                    term = binary(
                        TermOperator::ShiftLeft,
                        term,
                        Term::Constant(at.cast_signed()),
                    );
                }
                sum = Some(match sum {
                    Some(sum) => binary(TermOperator::Or, sum, term),
                    None => term,
                });
                at += bits;
            }
            sum.ok_or("it has no parts")?
        }
    })
}

/// What a handler reads: `size` bytes of a place as a number.
pub(crate) fn variable(place: &Place, size: u8, signed: bool) -> Result<Variable, String> {
    let location = match place {
        Place::Memory(address) => memory(address),
        Place::Number(Term::Register(number)) => Location::Register {
            number: *number,
            shift: 0,
        },
        place => match (register_part(place, size), number(place, size)?) {
            (Some(part), _) => part,
            (None, Term::Constant(n)) => Location::Constant(n),
            (None, term) => Location::Computed {
                term,
                in_memory: false,
            },
        },
    };
    Ok(Variable::plain(location, size, signed))
}

/// Some bytes of a register that are not its lowest, which can be assigned to as well.
fn register_part(place: &Place, size: u8) -> Option<Location> {
    let Place::Number(Term::Binary(TermOperator::ShiftRight, value, by)) = place else {
        return None;
    };
    match (&**value, &**by) {
        (Term::Register(number), Term::Constant(by)) => {
            let shift = u8::try_from(*by).ok()?;
            let end = u32::from(shift) + u32::from(size) * 8;
            (end <= 64).then_some(Location::Register {
                number: *number,
                shift,
            })
        }
        _ => None,
    }
}

/// A place in memory in the simplest form that a handler knows.
pub(crate) fn memory(address: &Term) -> Location {
    let plain = |base, displacement| Location::Memory {
        base,
        index: None,
        displacement,
        thread: false,
    };
    match address {
        Term::Register(base) => plain(Some(*base), 0),
        Term::Image(offset) => Location::Image { offset: *offset },
        Term::Binary(TermOperator::Add, a, b) => match (&**a, &**b) {
            (Term::Register(base), Term::Constant(n)) => plain(Some(*base), *n),
            _ => Location::Computed {
                term: address.clone(),
                in_memory: true,
            },
        },
        _ => Location::Computed {
            term: address.clone(),
            in_memory: true,
        },
    }
}
