//! Location expressions (DWARF 5, 2.5 and 2.6), evaluated without a process: the result is a place that depends on
//! registers and memory.

use std::cell::OnceCell;

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

/// Expressions longer than this are taken for damage.
const OPERATION_LIMIT: usize = 1000;
/// Deeper calls of expressions from expressions are taken for damage.
const NESTING_LIMIT: usize = 8;

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
    let mut run = Run::new(context, unit, NESTING_LIMIT);
    run.whole(expression).unwrap_or_else(Location::Unavailable)
}

/// As [`evaluate`], beginning with a number on the stack: the object's address, for the offset of a virtual base.
pub(crate) fn evaluate_from<'a>(
    context: &Context<'_, 'a>,
    unit: &Unit<'a>,
    expression: Expression<Slice<'a>>,
    object: Term,
) -> Location {
    let mut run = Run::new(context, unit, NESTING_LIMIT);
    run.stack.push(object);
    run.whole(expression).unwrap_or_else(Location::Unavailable)
}

/// The number that an expression leaves on its stack.
pub(crate) fn number<'a>(
    context: &Context<'_, 'a>,
    unit: &Unit<'a>,
    expression: Expression<Slice<'a>>,
) -> Result<Term, String> {
    let mut run = Run::new(context, unit, NESTING_LIMIT);
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
    stack: Vec<Term>,
    nesting: usize,
    /// What the operations since the last piece say.
    simple: Option<Location>,
    is_value: bool,
    /// Floating-point numbers are on the stack, as their bits: they can be handed on, but not calculated with.
    has_floats: bool,
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

    fn new(context: &'c Context<'f, 'a>, unit: &'c Unit<'a>, nesting: usize) -> Self {
        Run {
            context,
            unit,
            stack: Vec::new(),
            nesting,
            simple: None,
            is_value: false,
            has_floats: false,
        }
    }

    fn nested(&self) -> Result<Self, String> {
        let left = self
            .nesting
            .checked_sub(1)
            .ok_or("its location expression calls itself")?;
        Ok(Run::new(self.context, self.unit, left))
    }

    fn pop(&mut self) -> Result<Term, String> {
        self.stack
            .pop()
            .ok_or_else(|| "damaged location expression: nothing on its stack".to_owned())
    }

    fn push(&mut self, term: Term) -> Result<(), String> {
        if term.is_too_large() {
            return Err("its location expression is too large".into());
        }
        self.stack.push(term);
        Ok(())
    }

    /// What the operations so far amount to, and a clean slate.
    fn take(&mut self) -> Location {
        let is_value = std::mem::take(&mut self.is_value);
        if let Some(simple) = self.simple.take() {
            return simple;
        }
        match self.stack.pop() {
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
                            let mut other = self.nested()?;
                            other.stack.clone_from(&self.stack);
                            other.is_value = self.is_value;
                            other.has_floats = self.has_floats;
                            let yes = other.rest(expression, there, left / 2)?;
                            let mut other = self.nested()?;
                            other.stack = std::mem::take(&mut self.stack);
                            other.is_value = self.is_value;
                            other.has_floats = self.has_floats;
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

    fn without_floats(&self) -> Result<(), String> {
        match self.has_floats {
            true => Err(FLOATS.into()),
            false => Ok(()),
        }
    }

    fn two(&mut self, operator: Operator) -> Result<(), String> {
        self.without_floats()?;
        let (b, a) = (self.pop()?, self.pop()?);
        self.push(Term::binary(operator, a, b))
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
                let term = self.typed(term, base_type)?;
                self.push(term)?;
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
                self.without_floats()?;
                let (b, a) = (self.pop()?, self.pop()?);
                let operator = match operation {
                    Operation::Gt => Operator::Less,
                    _ => Operator::LessOrEqual,
                };
                self.push(Term::binary(operator, b, a))?;
            }
            Operation::Neg => {
                self.without_floats()?;
                let top = self.pop()?;
                self.push(Term::binary(Operator::Subtract, Term::Constant(0), top))?;
            }
            Operation::Not => {
                let top = self.pop()?;
                self.push(Term::binary(Operator::Xor, top, Term::Constant(-1)))?;
            }
            Operation::Abs => {
                self.without_floats()?;
                let top = self.pop()?;
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
                let (b, a) = (self.pop()?, self.pop()?);
                self.stack.extend([b, a]);
            }
            Operation::Rot => {
                let (c, b, a) = (self.pop()?, self.pop()?, self.pop()?);
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
                let term = self.entry_value(Expression(expression))?;
                self.push(term)?;
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
                let term = self.typed(Term::Constant(i64::from_le_bytes(word)), base_type)?;
                self.push(term)?;
            }
            Operation::Convert { base_type } | Operation::Reinterpret { base_type } => {
                self.without_floats()?;
                let top = self.pop()?;
                let term = self.typed(top, base_type)?;
                // From or to a floating-point number is more than another view of the bits.
                self.without_floats()?;
                self.push(term)?;
            }
            Operation::Uninitialized => {}
            other => return Err(format!("its location needs {}", name(&other))),
        }
        Ok(())
    }

    /// What an expression gave when the function was entered.
    fn entry_value(&mut self, expression: Expression<Slice<'a>>) -> Result<Term, String> {
        if self.context.entry == Some(self.context.pc) {
            let mut nested = self.nested()?;
            let location = nested.whole(expression)?;
            self.has_floats |= nested.has_floats;
            return match location {
                Location::Register(register) => Ok(Term::Register(register)),
                Location::Memory(number) | Location::Value(number) => Ok(number),
                _ => Err("its entry value is not that of a register".into()),
            };
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
        self.context.handed(what)
    }

    /// A number as one of a base type: its low bits, sign-extended if the type is signed.
    fn typed(&mut self, term: Term, base_type: UnitOffset) -> Result<Term, String> {
        if base_type.0 == 0 {
            return Ok(term);
        }
        let entry = self.unit.entry(base_type).map_err(damaged)?;
        let size = entry
            .attr_value(gimli::DW_AT_byte_size)
            .and_then(|v| v.udata_value())
            .filter(|s| (1..=8).contains(s))
            .ok_or("its location needs a number of more than 8 bytes")?;
        let signed = match entry.attr_value(gimli::DW_AT_encoding) {
            Some(AttributeValue::Encoding(gimli::DW_ATE_float)) => {
                self.has_floats = true;
                false
            }
            Some(AttributeValue::Encoding(e)) => {
                e == gimli::DW_ATE_signed || e == gimli::DW_ATE_signed_char
            }
            _ => false,
        };
        Ok(term.extend(size as u8 * 8, signed))
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
    let is_safe = yes.is_safe_beside(&condition) && no.is_safe_beside(&condition);
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
    if term.is_too_large() {
        return Err("its location expression is too large".into());
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
