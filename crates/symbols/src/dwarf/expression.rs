//! Location expressions (DWARF 5, 2.5 and 2.6), evaluated without a process: the result is a place that depends on
//! registers and memory.

use std::cell::{Cell, OnceCell};

use gimli::{AttributeValue, Encoding, Expression, Operation, UnitOffset};

use super::call_sites::{Callers, Handed};
use super::frame::caller_frame;
use super::sections::Slice;
use super::term::{Operator, Term};
use super::units::{Unit, Units};
use super::{Location, Piece};
use crate::address::ImageAddr;
use crate::operations::Operations;

/// Why a value is not available of which only what it was at the function's entry is known.
pub(crate) const ENTRY_VALUE_ONLY: &str = "only its value at the function's entry is known";

/// Why a value is not available that is the result of floating-point arithmetic.
pub(crate) const FLOATS: &str = "its location needs floating-point arithmetic";

/// Why a value is not available that nobody would describe as its expression does.
const TOO_LARGE: &str = "its location expression is too large";

/// Expressions longer than this are taken for damage.
pub(super) const OPERATION_LIMIT: usize = 1000;
/// Deeper calls of expressions from expressions are taken for damage.
const NESTING_LIMIT: usize = 8;
/// So are those that put more parts of terms on the stack than this, all operations together: copies of large terms would
/// take memory without end.
const PARTS_LIMIT: usize = 1 << 20;

/// What an expression needs to know of the code it is evaluated at.
pub(crate) struct Context<'f, 'a> {
    pub units: &'f Units<'a>,
    /// Where the value is wanted.
    pub pc: u64,
    /// Where the function is entered, if there is one; entry values are known there.
    pub entry: Option<u64>,
    /// `DW_AT_frame_base` of the function.
    pub frame_base: Option<Expression<Slice<'a>>>,
    /// Who may have called the function.
    pub callers: Option<Callers<'f, 'a>>,
    /// Where the frame begins, once it was asked for.
    pub frame: OnceCell<Option<Term>>,
}

impl Context<'_, '_> {
    fn frame_address(&self) -> Result<Term, String> {
        let frame = self
            .frame
            .get_or_init(|| Some(caller_frame(&self.units.file, self.pc)?.address));
        frame
            .clone()
            .ok_or_else(|| "no call frame information here".to_owned())
    }

    /// What the function was entered with.
    fn handed(&self, what: Handed) -> Result<Term, String> {
        match &self.callers {
            Some(callers) => callers.handed(self.units, self.pc, what),
            None => Err(ENTRY_VALUE_ONLY.to_owned()),
        }
    }
}

/// Where the value is; reasons why it can't be told are part of the result.
pub(crate) fn evaluate<'a>(
    context: &Context<'_, 'a>,
    unit: &Unit<'a>,
    expression: Expression<Slice<'a>>,
) -> Location {
    let parts_left = Cell::new(PARTS_LIMIT);
    let mut run = Run::new(context, unit, NESTING_LIMIT, &parts_left);
    run.whole(expression).unwrap_or_else(Location::Unavailable)
}

/// As [`evaluate`], beginning with a number on the stack: the object's address, for the offset of a virtual base.
pub(crate) fn evaluate_from<'a>(
    context: &Context<'_, 'a>,
    unit: &Unit<'a>,
    expression: Expression<Slice<'a>>,
    object: Term,
) -> Location {
    let parts_left = Cell::new(PARTS_LIMIT);
    let mut run = Run::new(context, unit, NESTING_LIMIT, &parts_left);
    run.stack.push(object.into());
    run.whole(expression).unwrap_or_else(Location::Unavailable)
}

/// The number that an expression leaves on its stack.
pub(crate) fn number<'a>(
    context: &Context<'_, 'a>,
    unit: &Unit<'a>,
    expression: Expression<Slice<'a>>,
) -> Result<Term, String> {
    let parts_left = Cell::new(PARTS_LIMIT);
    let mut run = Run::new(context, unit, NESTING_LIMIT, &parts_left);
    run.is_value = true;
    match run.whole(expression)? {
        Location::Register(register) => Ok(Term::Register(register)),
        Location::Memory(term) | Location::Value(term) => Ok(term),
        _ => Err("it is no number".into()),
    }
}

struct Run<'c, 'f, 'a> {
    context: &'c Context<'f, 'a>,
    unit: &'c Unit<'a>,
    stack: Vec<Number>,
    nesting: usize,
    /// Of [`PARTS_LIMIT`], with those of nested expressions.
    parts_left: &'c Cell<usize>,
    /// What the operations since the last piece say.
    simple: Option<Location>,
    is_value: bool,
    /// What the number is that was taken from the stack last.
    kind: Kind,
}

/// A number on the stack.
#[derive(Clone)]
struct Number {
    /// Of floating-point numbers, their bits.
    term: Term,
    kind: Kind,
}

/// What the bits of a number mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A whole number, extended to 64 bits.
    Whole { signed: bool, bits: u8 },
    /// IEEE 754's binary32.
    Float,
    /// IEEE 754's binary64.
    Double,
}

impl Kind {
    /// Numbers of no base type: of the size of an address, and with a sign where that matters (DWARF 5, 2.5.1).
    const GENERIC: Kind = Kind::Whole {
        signed: true,
        bits: 64,
    };
}

impl From<Term> for Number {
    fn from(term: Term) -> Number {
        let kind = Kind::GENERIC;
        Number { term, kind }
    }
}

impl Number {
    /// A floating-point number as one of 64 bits.
    fn wide(self) -> Term {
        match self.kind {
            Kind::Float => Term::binary(Operator::FloatWiden, self.term, Term::Constant(0)),
            _ => self.term,
        }
    }

    /// The same number as one of another kind.
    fn converted(self, kind: Kind) -> Term {
        let (operator, term) = match (self.kind, kind) {
            (from, to) if from == to => return self.term,
            (Kind::Whole { .. }, Kind::Whole { .. }) => return self.term,
            (Kind::Whole { signed: true, .. }, _) => (Operator::FloatFromSigned, self.term),
            (Kind::Whole { signed: false, .. }, _) => (Operator::FloatFromUnsigned, self.term),
            (_, Kind::Whole { .. }) => (Operator::FloatToSigned, self.wide()),
            (_, Kind::Double) => return self.wide(),
            (_, Kind::Float) => (Operator::FloatNarrow, self.term),
        };
        let done = Term::binary(operator, term, Term::Constant(0));
        match (operator, kind) {
            (Operator::FloatFromSigned | Operator::FloatFromUnsigned, Kind::Float) => {
                Term::binary(Operator::FloatNarrow, done, Term::Constant(0))
            }
            _ => done,
        }
    }
}

fn damaged(e: gimli::Error) -> String {
    format!("damaged location expression: {e}")
}

impl<'c, 'f, 'a> Run<'c, 'f, 'a> {
    /// An entry of `.debug_addr`.
    fn indexed(&self, index: gimli::DebugAddrIndex<usize>) -> Result<u64, String> {
        // gimli multiplies without a look at the result.
        if index.0.checked_mul(size_of::<u64>()).is_none() {
            return Err(format!(
                "damaged location expression: no address {}",
                index.0
            ));
        }
        self.unit.dwarf.address(self.unit, index).map_err(damaged)
    }

    fn new(
        context: &'c Context<'f, 'a>,
        unit: &'c Unit<'a>,
        nesting: usize,
        parts_left: &'c Cell<usize>,
    ) -> Self {
        Run {
            context,
            unit,
            stack: Vec::new(),
            nesting,
            parts_left,
            simple: None,
            is_value: false,
            kind: Kind::GENERIC,
        }
    }

    fn nested(&self) -> Result<Self, String> {
        let left = self
            .nesting
            .checked_sub(1)
            .ok_or("its location expression calls itself")?;
        Ok(Run::new(self.context, self.unit, left, self.parts_left))
    }

    fn pop_number(&mut self) -> Result<Number, String> {
        self.stack
            .pop()
            .ok_or_else(|| "damaged location expression: nothing on its stack".to_owned())
    }

    /// What only makes sense of whole numbers, or does not care.
    fn pop(&mut self) -> Result<Term, String> {
        Ok(self.pop_number()?.term)
    }

    fn push(&mut self, number: impl Into<Number>) -> Result<(), String> {
        let number = number.into();
        self.charge(&number.term)?;
        self.stack.push(number);
        Ok(())
    }

    /// Counts a term against the limit.
    fn charge(&self, term: &Term) -> Result<(), String> {
        let parts = term.parts();
        let left = parts.and_then(|parts| self.parts_left.get().checked_sub(parts));
        self.parts_left.set(left.ok_or(TOO_LARGE)?);
        Ok(())
    }

    /// What the operations so far amount to, and a clean slate.
    fn take(&mut self) -> Location {
        let is_value = std::mem::take(&mut self.is_value);
        if let Some(simple) = self.simple.take() {
            return simple;
        }
        let number = self.stack.pop();
        self.kind = number.as_ref().map_or(Kind::GENERIC, |number| number.kind);
        match number.map(|number| number.term) {
            Some(term) if is_value => match term {
                Term::Register(register) => Location::Register(register),
                term => Location::Value(term),
            },
            // A constant is an address of the file.
            Some(Term::Constant(address)) => {
                Location::Memory(Term::Image(ImageAddr(address.cast_unsigned())))
            }
            Some(term) => Location::Memory(term),
            None => Location::Unavailable("optimised out here".into()),
        }
    }

    fn whole(&mut self, expression: Expression<Slice<'a>>) -> Result<Location, String> {
        let operations = Operations::new(expression, self.unit.encoding());
        self.rest(expression, operations, OPERATION_LIMIT)
    }

    /// What is left of an expression.
    fn rest(
        &mut self,
        expression: Expression<Slice<'a>>,
        mut operations: Operations<'a>,
        mut left: usize,
    ) -> Result<Location, String> {
        let mut pieces: Vec<Piece> = Vec::new();
        while let Some(operation) = operations.next().map_err(damaged)? {
            left = left.checked_sub(1).ok_or("location expression too long")?;
            match operation {
                Operation::Piece {
                    size_in_bits,
                    bit_offset,
                } => {
                    let location = self.take();
                    pieces.push(Piece {
                        location,
                        bits: size_in_bits,
                        skip: bit_offset.unwrap_or(0),
                    });
                }
                Operation::Skip { target } => {
                    operations = jump(expression, &operations, target, self.unit.encoding())?;
                }
                Operation::Bra { target } => {
                    let condition = self.pop()?;
                    let there = jump(expression, &operations, target, self.unit.encoding())?;
                    match condition.as_constant() {
                        Some(0) => {}
                        Some(_) => operations = there,
                        None if pieces.is_empty() => {
                            // Both ways; each has half of what is left.
                            self.stack.iter().try_for_each(|n| self.charge(&n.term))?;
                            let mut other = self.nested()?;
                            other.stack.clone_from(&self.stack);
                            other.is_value = self.is_value;
                            let yes = other.rest(expression, there, left / 2)?;
                            let mut other = self.nested()?;
                            other.stack = std::mem::take(&mut self.stack);
                            other.is_value = self.is_value;
                            let no = other.rest(expression, operations, left / 2)?;
                            return either(condition, yes, no);
                        }
                        None => return Err("its location depends on a condition".into()),
                    }
                }
                operation => self.step(operation)?,
            }
        }
        if pieces.is_empty() {
            return Ok(self.take());
        }
        Ok(Location::Pieces(pieces))
    }

    fn two(&mut self, operator: Operator) -> Result<(), String> {
        let (b, a) = (self.pop_number()?, self.pop_number()?);
        let number = calculated(operator, a, b)?;
        self.push(number)
    }

    fn step(&mut self, operation: Operation<Slice<'a>>) -> Result<(), String> {
        match operation {
            Operation::Nop => {}
            Operation::Register { register } => {
                self.simple = Some(Location::Register(register.0));
            }
            Operation::RegisterOffset {
                register,
                offset,
                base_type,
            } => {
                let term = Term::Register(register.0).plus(offset);
                let number = self.typed(term, base_type)?;
                self.push(number)?;
            }
            Operation::FrameOffset { offset } => {
                let frame = self.frame_base()?;
                self.push(frame.plus(offset))?;
            }
            Operation::CallFrameCFA => {
                let frame = self.context.frame_address()?;
                self.push(frame)?;
            }
            Operation::Address { address } => self.push(Term::Image(ImageAddr(address)))?,
            Operation::AddressIndex { index } => {
                let address = self.indexed(index)?;
                self.push(Term::Image(ImageAddr(address)))?;
            }
            Operation::ConstantIndex { index } => {
                let constant = self.indexed(index)?;
                self.push(Term::Constant(constant.cast_signed()))?;
            }
            Operation::UnsignedConstant { value } => {
                self.push(Term::Constant(value.cast_signed()))?;
            }
            Operation::SignedConstant { value } => self.push(Term::Constant(value))?,
            Operation::PlusConstant { value } => {
                let top = self.pop()?;
                self.push(top.plus(value.cast_signed()))?;
            }
            Operation::Plus => self.two(Operator::Add)?,
            Operation::Minus => self.two(Operator::Subtract)?,
            Operation::Mul => self.two(Operator::Multiply)?,
            Operation::Div => self.two(Operator::Divide)?,
            Operation::Mod => self.two(Operator::Remainder)?,
            Operation::And => self.two(Operator::And)?,
            Operation::Or => self.two(Operator::Or)?,
            Operation::Xor => self.two(Operator::Xor)?,
            Operation::Shl => self.two(Operator::ShiftLeft)?,
            Operation::Shr => self.two(Operator::ShiftRight)?,
            Operation::Shra => self.two(Operator::ShiftRightSigned)?,
            Operation::Eq => self.two(Operator::Equal)?,
            Operation::Ne => self.two(Operator::NotEqual)?,
            Operation::Lt => self.two(Operator::Less)?,
            Operation::Le => self.two(Operator::LessOrEqual)?,
            Operation::Gt | Operation::Ge => {
                let (b, a) = (self.pop_number()?, self.pop_number()?);
                let operator = match operation {
                    Operation::Gt => Operator::Less,
                    _ => Operator::LessOrEqual,
                };
                let number = calculated(operator, b, a)?;
                self.push(number)?;
            }
            Operation::Neg => {
                let Number { term, kind } = self.pop_number()?;
                let term = match sign_of(kind) {
                    Some(sign) => Term::binary(Operator::Xor, term, Term::Constant(sign)),
                    None => Term::binary(Operator::Subtract, Term::Constant(0), term),
                };
                self.push(Number { term, kind })?;
            }
            Operation::Not => {
                let top = self.pop()?;
                self.push(Term::binary(Operator::Xor, top, Term::Constant(-1)))?;
            }
            Operation::Abs => {
                let Number { term: top, kind } = self.pop_number()?;
                if let Some(sign) = sign_of(kind) {
                    let term = Term::binary(Operator::And, top, Term::Constant(!sign));
                    return self.push(Number { term, kind });
                }
                let sign =
                    Term::binary(Operator::ShiftRightSigned, top.clone(), Term::Constant(63));
                let flipped = Term::binary(Operator::Xor, top, sign.clone());
                self.push(Term::binary(Operator::Subtract, flipped, sign))?;
            }
            Operation::Drop => drop(self.pop()?),
            Operation::Pick { index } => {
                let from_end = usize::from(index) + 1;
                let picked = self.stack.len().checked_sub(from_end);
                let term = picked.and_then(|i| self.stack.get(i)).cloned();
                self.push(term.ok_or("damaged location expression: nothing to pick")?)?;
            }
            Operation::Swap => {
                let (b, a) = (self.pop_number()?, self.pop_number()?);
                self.stack.extend([b, a]);
            }
            Operation::Rot => {
                let (c, b, a) = (self.pop_number()?, self.pop_number()?, self.pop_number()?);
                self.stack.extend([c, a, b]);
            }
            Operation::Deref {
                base_type,
                size,
                space,
            } => {
                if space {
                    return Err("its location is in another address space".into());
                }
                let address = self.pop()?;
                let address = match address {
                    Term::Constant(n) => Term::Image(ImageAddr(n.cast_unsigned())),
                    term => term,
                };
                let loaded = address.load(size.clamp(1, 8));
                let loaded = self.typed(loaded, base_type)?;
                self.push(loaded)?;
            }
            Operation::StackValue => self.is_value = true,
            Operation::ImplicitValue { data } => {
                self.simple = Some(Location::Bytes(data.slice().to_vec()));
            }
            Operation::ImplicitPointer { value, byte_offset } => {
                let target = self.context.units.entry_at(self.unit, value);
                self.simple = Some(match target {
                    Some(target) => Location::PointerTo {
                        target: super::EntityId(target),
                        offset: byte_offset,
                    },
                    None => Location::Unavailable("it points to something optimised out".into()),
                });
            }
            Operation::EntryValue { expression } => {
                let number = self.entry_value(Expression(expression))?;
                self.push(number)?;
            }
            Operation::ParameterRef { offset } => {
                let parameter = super::units::EntryId {
                    home: self.unit.home,
                    unit: self.unit.start,
                    die: offset.0,
                };
                let term = self.context.handed(Handed::Parameter(parameter))?;
                self.push(term)?;
            }
            Operation::TLS => {
                let offset = self.pop()?.as_constant();
                let offset = offset.ok_or("its thread-local offset is not constant")?;
                self.push(Term::ThreadLocal(offset.cast_unsigned()))?;
            }
            Operation::TypedLiteral { base_type, value } => {
                let mut word = [0u8; 8];
                let bytes = value.slice();
                word.get_mut(..bytes.len())
                    .ok_or("its location needs a constant of more than 8 bytes")?
                    .copy_from_slice(bytes);
                let number = self.typed(Term::Constant(i64::from_le_bytes(word)), base_type)?;
                self.push(number)?;
            }
            Operation::Convert { base_type } => {
                let top = self.pop_number()?;
                let kind = self.base_type(base_type)?;
                let number = self.typed(top.converted(kind), base_type)?;
                self.push(number)?;
            }
            Operation::Reinterpret { base_type } => {
                let top = self.pop()?;
                let number = self.typed(top, base_type)?;
                self.push(number)?;
            }
            Operation::Uninitialized => {}
            other => return Err(format!("its location needs {}", name(&other))),
        }
        Ok(())
    }

    /// What an expression gave when the function was entered.
    fn entry_value(&mut self, expression: Expression<Slice<'a>>) -> Result<Number, String> {
        if self.context.entry == Some(self.context.pc) {
            let mut nested = self.nested()?;
            let location = nested.whole(expression)?;
            let kind = nested.kind;
            let term = match location {
                Location::Register(register) => Ok(Term::Register(register)),
                Location::Memory(number) | Location::Value(number) => Ok(number),
                _ => Err("its entry value is not that of a register".into()),
            };
            return term.map(|term| Number { term, kind });
        }
        let mut operations = Operations::new(expression, self.unit.encoding());
        let first = operations.next().map_err(damaged)?;
        let second = operations.next().map_err(damaged)?;
        let what = match (first, second) {
            (Some(Operation::Register { register }), None) => Handed::Register(register.0),
            (
                Some(Operation::RegisterOffset {
                    register,
                    offset: 0,
                    base_type,
                }),
                None,
            ) if base_type.0 != 0 => {
                let term = self.context.handed(Handed::Register(register.0))?;
                return self.typed(term, base_type);
            }
            (
                Some(Operation::RegisterOffset {
                    register,
                    offset: 0,
                    ..
                }),
                Some(Operation::Deref { .. }),
            ) => Handed::Pointed(register.0),
            _ => return Err(ENTRY_VALUE_ONLY.into()),
        };
        self.context.handed(what).map(Number::from)
    }

    /// Bits as a number of a base type: the low ones, sign-extended if the type is signed.
    fn typed(&self, term: Term, base_type: UnitOffset) -> Result<Number, String> {
        let kind = self.base_type(base_type)?;
        let term = match kind {
            Kind::Whole { signed, bits } => term.extend(bits, signed),
            Kind::Float => term.extend(32, false),
            Kind::Double => term,
        };
        Ok(Number { term, kind })
    }

    fn base_type(&self, base_type: UnitOffset) -> Result<Kind, String> {
        if base_type.0 == 0 {
            return Ok(Kind::GENERIC);
        }
        let entry = self.unit.entry(base_type).map_err(damaged)?;
        let size = entry
            .attr_value(gimli::DW_AT_byte_size)
            .and_then(|v| v.udata_value())
            .filter(|s| (1..=8).contains(s))
            .ok_or("its location needs a number of more than 8 bytes")?;
        let bits = size as u8 * 8;
        Ok(match entry.attr_value(gimli::DW_AT_encoding) {
            Some(AttributeValue::Encoding(gimli::DW_ATE_float)) => match size {
                4 => Kind::Float,
                8 => Kind::Double,
                _ => return Err(FLOATS.into()),
            },
            Some(AttributeValue::Encoding(e)) => Kind::Whole {
                signed: e == gimli::DW_ATE_signed || e == gimli::DW_ATE_signed_char,
                bits,
            },
            _ => Kind::Whole {
                signed: false,
                bits,
            },
        })
    }

    /// What frame offsets are relative to. A register as frame base means its content (DWARF 5, 3.3.5).
    fn frame_base(&self) -> Result<Term, String> {
        let expression = self
            .context
            .frame_base
            .ok_or("its function has no frame base")?;
        let mut nested = self.nested()?;
        match nested.whole(expression)? {
            Location::Register(register) => Ok(Term::Register(register)),
            Location::Memory(term) | Location::Value(term) => Ok(term),
            _ => Err("its function's frame base is of no supported form".into()),
        }
    }
}

/// The bit that is the sign of a floating-point number, as a mask.
fn sign_of(kind: Kind) -> Option<i64> {
    match kind {
        Kind::Whole { .. } => None,
        Kind::Float => Some(1 << 31),
        Kind::Double => Some(i64::MIN),
    }
}

/// `a operator b`, of whole numbers or of floating-point ones of the same size. Those of 32 bits are calculated with 64 and
/// rounded, which gives what 32 bits give.
fn calculated(operator: Operator, a: Number, b: Number) -> Result<Number, String> {
    let kind = a.kind;
    if let (Kind::Whole { signed, bits }, Kind::Whole { .. }) = (kind, b.kind) {
        let term = Term::binary(operator, a.term, b.term);
        return Ok(match operator {
            Operator::Equal | Operator::NotEqual | Operator::Less | Operator::LessOrEqual => {
                term.into()
            }
            _ => Number {
                term: term.extend(bits, signed),
                kind,
            },
        });
    }
    if a.kind != b.kind {
        return Err(FLOATS.into());
    }
    let (operator, compares) = match operator {
        Operator::Add => (Operator::FloatAdd, false),
        Operator::Subtract => (Operator::FloatSubtract, false),
        Operator::Multiply => (Operator::FloatMultiply, false),
        Operator::Divide => (Operator::FloatDivide, false),
        Operator::Equal => (Operator::FloatEqual, true),
        Operator::Less => (Operator::FloatLess, true),
        Operator::LessOrEqual => (Operator::FloatLessOrEqual, true),
        _ => return Err(FLOATS.into()),
    };
    let term = Term::binary(operator, a.wide(), b.wide());
    Ok(match (compares, kind) {
        (true, _) => term.into(),
        (false, Kind::Float) => Number {
            term: Term::binary(Operator::FloatNarrow, term, Term::Constant(0)),
            kind,
        },
        (false, _) => Number { term, kind },
    })
}

/// One of two places, as a condition says; not when there is more to one than registers, arithmetic and memory that the
/// condition looks at, since both are computed.
fn either(condition: Term, yes: Location, no: Location) -> Result<Location, String> {
    let number = |location| match location {
        Location::Register(register) => Some((Term::Register(register), false)),
        Location::Value(term) => Some((term, false)),
        Location::Memory(term) => Some((term, true)),
        _ => None,
    };
    let (Some((yes, in_memory)), Some((no, also))) = (number(yes), number(no)) else {
        return Err("its location depends on a condition".into());
    };
    let known = condition.loads();
    let is_safe = yes.is_safe_beside(&known) && no.is_safe_beside(&known);
    if in_memory != also || !is_safe {
        return Err("its location depends on a condition".into());
    }
    // All ones where it holds.
    let is_not = Term::binary(Operator::Equal, condition, Term::Constant(0));
    let mask = is_not.plus(-1);
    let kept = Term::binary(Operator::And, yes, mask.clone());
    let unset = Term::binary(Operator::Xor, mask, Term::Constant(-1));
    let other = Term::binary(Operator::And, no, unset);
    let term = Term::binary(Operator::Or, kept, other);
    if term.parts().is_none() {
        return Err(TOO_LARGE.into());
    }
    Ok(match in_memory {
        true => Location::Memory(term),
        false => Location::Value(term),
    })
}

fn jump<'a>(
    expression: Expression<Slice<'a>>,
    operations: &Operations<'a>,
    distance: i16,
    encoding: Encoding,
) -> Result<Operations<'a>, String> {
    let here = operations.position();
    let target = here.checked_add_signed(isize::from(distance));
    let rest = target.and_then(|t| expression.0.slice().get(t..));
    let rest = rest.ok_or("damaged location expression: jump out of it")?;
    Ok(Operations::new(
        Expression(Slice::new(rest, gimli::LittleEndian)),
        encoding,
    ))
}

/// The operation's name without its operands, for messages.
fn name(operation: &Operation<Slice<'_>>) -> String {
    let text = format!("{operation:?}");
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(text.len());
    format!("the operation {}", text.get(..end).unwrap_or_default())
}
