//! Target variables: from what the resolver says to loads. Memory of the program is read through the run time, which
//! survives bad addresses, unless the address lies just above the stack pointer.

use super::term::{Operands, is_near};
use super::{Lower, RSP, Val, flags};
use crate::error::CodegenError;
use crate::target::{Access, Location, Resolution, Select, Text, TextArg, Variable};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use script::format::{Conversion, ConversionKind, Extent, Flags, Format, Part};
use script::ir::{Target, TargetBase, TargetStep};
use script::span::Span;

/// Word of the instruction pointer in a frame.
const RIP: i32 = 16;
/// Where the vector registers follow in a frame, 16 bytes each.
const VECTORS: i32 = 18 * 8;
/// How far above the stack pointer memory is certain to be the stack's (below it: the red zone).
pub(super) const NEAR_STACK: std::ops::Range<i64> = -128..1024;

/// Where a target expression's value is found.
#[derive(Clone, Copy)]
enum Spot {
    /// It is this number.
    Value(Value),
    /// At this address; true when it may be loaded without precautions.
    Memory(Value, bool),
}

impl<'p> Lower<'_, 'p> {
    /// A register of the program at the probed instruction.
    pub(super) fn register(&mut self, number: u8) -> Value {
        let number = number & 15;
        self.unit.reads |= 1 << number;
        let frame = self.frame;
        self.b
            .ins()
            .load(types::I64, flags(), frame, i32::from(number) * 8)
    }

    /// Half of a vector register of the program at the probed instruction.
    pub(super) fn vector_register(&mut self, number: u8, high: bool) -> Value {
        let number = number & 15;
        self.unit.reads_vectors |= 1 << number;
        let frame = self.frame;
        let offset = VECTORS + i32::from(number) * 16 + if high { 8 } else { 0 };
        self.b.ins().load(types::I64, flags(), frame, offset)
    }

    pub(super) fn instruction_pointer(&mut self) -> Value {
        let frame = self.frame;
        self.b.ins().load(types::I64, flags(), frame, RIP * 8)
    }

    pub(super) fn read_target(
        &mut self,
        target: &'p Target,
        span: Span,
    ) -> Result<Val, CodegenError> {
        if let Some(value) = self.saved_target(target) {
            return Ok(value);
        }
        let answers = self.answers.clone();
        match answers.get(target) {
            Some(Resolution::Variable(variable)) => {
                let v = self.read_variable(variable, Some(target), target.address_of, span)?;
                Ok(Val::Long(v))
            }
            Some(Resolution::Text(text)) => self.expand(text, target, span),
            Some(Resolution::Choice(names)) => self.choose(names, target, span),
            Some(Resolution::MarkName) => Ok(self.site_text(4)),
            Some(Resolution::MarkProvider) => Ok(self.site_text(5)),
            None => self.error(target.span, "target variable could not be resolved"),
        }
    }

    /// `@enumname`.
    fn choose(
        &mut self,
        names: &[(i64, String)],
        target: &'p Target,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let TargetBase::EnumName(operand, ..) = &target.base else {
            return self.error(span, "an operand is expected here");
        };
        let value = self.long(operand)?;
        let number = Format {
            parts: vec![Part::Conversion(Conversion {
                flags: Flags::default(),
                width: Extent::None,
                precision: Extent::None,
                kind: ConversionKind::Signed,
            })],
        };
        let Val::Str(mut address, mut length) =
            self.print_values(&number, &[Val::Long(value)], span)?
        else {
            return self.error(span, "a string is expected here");
        };
        // Of two names of one value the first is taken: it is looked at last.
        for (known, name) in names.iter().rev() {
            let Val::Str(a, n) = self.literal(name.as_bytes(), span)? else {
                continue;
            };
            let same = self.b.ins().icmp_imm_s(IntCC::Equal, value, *known);
            address = self.b.ins().select(same, a, address);
            length = self.b.ins().select(same, n, length);
        }
        Ok(Val::Str(address, length))
    }

    /// A string of the site.
    pub(super) fn site_text(&mut self, field: i64) -> Val {
        let field = self.number(field);
        let (arena, site) = (self.arena, self.site);
        let words = self.call("site_string", &[arena, site, field]);
        self.pair(&words)
    }

    fn spot(
        &mut self,
        variable: &Variable,
        target: Option<&'p Target>,
        span: Span,
    ) -> Result<Spot, CodegenError> {
        let of_script = variable.location.is_of_script(variable.aggregate);
        if !self.context.has_registers() && !of_script {
            // What a module holds is in the memory of programs, and this handler runs in none: the read fails.
            return Ok(Spot::Memory(self.number(0), false));
        }
        let mut spot = match &variable.location {
            Location::Register { number, shift } => {
                let v = self.register(*number);
                Spot::Value(match shift {
                    0 => v,
                    _ => self.b.ins().ushr_imm_u(v, i64::from(*shift)),
                })
            }
            Location::Memory {
                base,
                index,
                displacement,
                thread,
            } => {
                let near = *base == Some(RSP)
                    && index.is_none()
                    && !thread
                    && NEAR_STACK.contains(displacement);
                let mut address = match base {
                    Some(base) => self.register(*base),
                    None => self.number(0),
                };
                if *thread {
                    let pointer = self.call("thread_pointer", &[])[0];
                    address = self.b.ins().iadd(address, pointer);
                }
                if let Some((index, scale)) = *index {
                    let index = self.register(index);
                    let index = self.b.ins().imul_imm_s(index, i64::from(scale));
                    address = self.b.ins().iadd(address, index);
                }
                if *displacement != 0 {
                    address = self.b.ins().iadd_imm_s(address, *displacement);
                }
                Spot::Memory(address, near)
            }
            Location::Image { offset } => {
                let rip = self.instruction_pointer();
                Spot::Memory(self.b.ins().iadd_imm_s(rip, *offset), false)
            }
            Location::Absolute(address) => Spot::Memory(self.number(*address as i64), false),
            Location::Constant(n) => Spot::Value(self.number(*n)),
            Location::Computed { term, in_memory } => {
                let mut operands = Operands::default();
                self.operands(term, target, span, &mut operands)?;
                let near = *in_memory && is_near(term);
                let value = self.term(term, &operands, span);
                if *in_memory {
                    Spot::Memory(value, near)
                } else {
                    Spot::Value(value)
                }
            }
            Location::Operand => match target.map(|t| &t.base) {
                Some(TargetBase::Cast(e, ..) | TargetBase::Autocast(e, _)) => {
                    Spot::Value(self.long(e)?)
                }
                _ => return self.error(span, "an operand is expected here"),
            },
        };
        for access in &variable.path {
            spot = match (access, spot) {
                (Access::Deref, Spot::Value(v)) => Spot::Memory(v, false),
                (Access::Deref, Spot::Memory(address, near)) => {
                    let v = self.load_program(address, near, 8, false, span);
                    Spot::Memory(v, false)
                }
                (_, Spot::Value(_)) => {
                    return self.error(span, "a value in a register has no parts");
                }
                (Access::Offset(n), Spot::Memory(address, _)) => {
                    Spot::Memory(self.b.ins().iadd_imm_s(address, *n), false)
                }
                (Access::Index { step, scale }, Spot::Memory(address, _)) => {
                    let Some(TargetStep::Index(e)) = target.and_then(|t| t.steps.get(*step)) else {
                        return self.error(span, "no such index");
                    };
                    let index = self.long(e)?;
                    let offset = self.b.ins().imul_imm_s(index, *scale);
                    Spot::Memory(self.b.ins().iadd(address, offset), false)
                }
            };
        }
        Ok(spot)
    }

    fn read_variable(
        &mut self,
        variable: &Variable,
        target: Option<&'p Target>,
        address_of: bool,
        span: Span,
    ) -> Result<Value, CodegenError> {
        let spot = self.spot(variable, target, span)?;
        let value = match spot {
            Spot::Memory(address, _) if address_of || variable.aggregate => return Ok(address),
            Spot::Value(_) if address_of => {
                return self.error(span, "cannot take address of a value in a register");
            }
            Spot::Value(v) => self.extend(v, variable.size, variable.signed),
            Spot::Memory(address, near) => {
                self.load_program(address, near, variable.size, variable.signed, span)
            }
        };
        Ok(match variable.bits {
            Some((low, count)) if (1..64).contains(&count) => {
                let up = 64 - i64::from(low) - i64::from(count);
                let down = 64 - i64::from(count);
                let v = self.b.ins().ishl_imm_u(value, up.max(0));
                if variable.signed {
                    self.b.ins().sshr_imm_u(v, down)
                } else {
                    self.b.ins().ushr_imm_u(v, down)
                }
            }
            _ => value,
        })
    }

    /// The low `size` bytes of a word as a 64-bit number.
    pub(super) fn extend(&mut self, v: Value, size: u8, signed: bool) -> Value {
        let ty = match size {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            _ => return v,
        };
        let narrow = self.b.ins().ireduce(ty, v);
        if signed {
            self.b.ins().sextend(types::I64, narrow)
        } else {
            self.b.ins().uextend(types::I64, narrow)
        }
    }

    pub(super) fn load_program(
        &mut self,
        address: Value,
        near: bool,
        size: u8,
        signed: bool,
        span: Span,
    ) -> Value {
        let plain = cranelift_codegen::ir::MemFlagsData::new().with_notrap();
        if near {
            return match (size, signed) {
                (1, true) => self.b.ins().sload8(types::I64, plain, address, 0),
                (1, false) => self.b.ins().uload8(types::I64, plain, address, 0),
                (2, true) => self.b.ins().sload16(types::I64, plain, address, 0),
                (2, false) => self.b.ins().uload16(types::I64, plain, address, 0),
                (4, true) => self.b.ins().sload32(plain, address, 0),
                (4, false) => self.b.ins().uload32(plain, address, 0),
                _ => self.b.ins().load(types::I64, plain, address, 0),
            };
        }
        let kind = self.number(kind(size, signed));
        let (arena, slot) = (self.arena, self.slot);
        let v = self.call("load_user", &[arena, slot, address, kind])[0];
        self.check(span);
        v
    }

    pub(super) fn write_target(
        &mut self,
        target: &'p Target,
        value: Value,
        span: Span,
    ) -> Result<(), CodegenError> {
        if !self.state.program.guru {
            return self.error(
                target.span,
                "write to target variable not permitted; need stap -g",
            );
        }
        let answers = self.answers.clone();
        let Some(Resolution::Variable(variable)) = answers.get(target) else {
            return self.error(target.span, "target variable can't be written");
        };
        if variable.aggregate {
            return self.error(target.span, "an array or structure can't be assigned to");
        }
        let spot = self.spot(variable, Some(target), span)?;
        let value = match variable.bits {
            Some((low, count)) if (1..64).contains(&count) => {
                let whole = match spot {
                    Spot::Memory(address, near) => {
                        self.load_program(address, near, variable.size, false, span)
                    }
                    Spot::Value(v) => v,
                };
                self.with_bits(whole, value, low, count)
            }
            _ => value,
        };
        let address = match spot {
            Spot::Memory(address, _) => address,
            Spot::Value(_) => return self.write_register(variable, value, target.span),
        };
        let size = self.number(i64::from(variable.size));
        let (arena, slot) = (self.arena, self.slot);
        self.call("store_user", &[arena, slot, address, size, value]);
        self.check(span);
        Ok(())
    }

    /// A word with some of its bits replaced.
    fn with_bits(&mut self, whole: Value, value: Value, low: u8, count: u8) -> Value {
        let mask = ((1i64 << count) - 1) << low.min(63);
        let kept = self.b.ins().band_imm_s(whole, !mask);
        let moved = self.b.ins().ishl_imm_u(value, i64::from(low));
        let set = self.b.ins().band_imm_s(moved, mask);
        self.b.ins().bor(kept, set)
    }

    /// Stores into the frame, from which the program's register is then loaded.
    fn write_register(
        &mut self,
        variable: &Variable,
        value: Value,
        span: Span,
    ) -> Result<(), CodegenError> {
        let (number, shift) = match variable.location {
            Location::Register { number, .. } if number == RSP => {
                return self.error(span, "the stack pointer can't be assigned to");
            }
            Location::Register { number, shift } => (number, shift),
            _ => {
                return self.error(
                    span,
                    "the variable's value is computed here, there is nothing to assign to",
                );
            }
        };
        let value = match (variable.size, shift) {
            (8, _) => value,
            // The ABI leaves what is above a small value undefined; 32 bits are extended as instructions do it.
            (4, 0) => self.extend(value, 4, false),
            (size, shift) => {
                let old = self.register(number);
                self.with_bits(old, value, shift, size.saturating_mul(8))
            }
        };
        self.set_register(number, value);
        Ok(())
    }

    /// Gives the program's register another value when the handler has ended.
    pub(super) fn set_register(&mut self, number: u8, value: Value) {
        let number = number & 15;
        self.unit.reads |= 1 << number;
        self.unit.writes |= 1 << number;
        let frame = self.frame;
        let offset = i32::from(number) * 8;
        self.b.ins().store(flags(), value, frame, offset);
    }

    /// `$$vars` and its like.
    fn expand(&mut self, text: &Text, target: &'p Target, span: Span) -> Result<Val, CodegenError> {
        let Some(otherwise) = text.otherwise else {
            return self.expand_plainly(text, target, span);
        };
        self.flush_actions();
        let (caught, done) = (self.b.create_block(), self.b.create_block());
        let (address, length) = (
            self.b.declare_var(types::I64),
            self.b.declare_var(types::I64),
        );
        let outer = std::mem::replace(&mut self.error, caught);
        let expanded = self.expand_plainly(text, target, span);
        self.error = outer;
        if let Val::Str(a, n) = expanded? {
            self.b.def_var(address, a);
            self.b.def_var(length, n);
        }
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(caught);
        let (slot, zero) = (self.slot, self.number(0));
        self.call("catch_error", &[slot, zero, zero]);
        if let Val::Str(a, n) = self.literal(otherwise.as_bytes(), span)? {
            self.b.def_var(address, a);
            self.b.def_var(length, n);
        }
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        Ok(Val::Str(self.b.use_var(address), self.b.use_var(length)))
    }

    /// The text of the case that holds. Cases share their buffers, as only one of them is made.
    fn select(
        &mut self,
        select: &Select,
        target: &'p Target,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let on = self.read_variable(&select.on, Some(target), false, span)?;
        let (address, length) = (
            self.b.declare_var(types::I64),
            self.b.declare_var(types::I64),
        );
        let done = self.b.create_block();
        let free = self.buffers;
        let mut used = free;
        let cases = select.cases.iter().map(|(range, text)| (Some(range), text));
        for (range, text) in cases.chain([(None, &select.other)]) {
            let next = range.map(|(low, high)| {
                let (this, next) = (self.b.create_block(), self.b.create_block());
                let above = self
                    .b
                    .ins()
                    .icmp_imm_s(IntCC::SignedGreaterThanOrEqual, on, *low);
                let below = self
                    .b
                    .ins()
                    .icmp_imm_s(IntCC::SignedLessThanOrEqual, on, *high);
                let inside = self.b.ins().band(above, below);
                self.b.ins().brif(inside, this, &[], next, &[]);
                self.b.switch_to_block(this);
                next
            });
            self.buffers = free;
            if let Val::Str(a, n) = self.expand(text, target, span)? {
                self.b.def_var(address, a);
                self.b.def_var(length, n);
            }
            used = used.max(self.buffers);
            self.b.ins().jump(done, &[]);
            if let Some(next) = next {
                self.b.switch_to_block(next);
            }
        }
        self.buffers = used;
        self.b.switch_to_block(done);
        Ok(Val::Str(self.b.use_var(address), self.b.use_var(length)))
    }

    fn expand_plainly(
        &mut self,
        text: &Text,
        target: &'p Target,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let mut values = Vec::with_capacity(text.args.len());
        for arg in &text.args {
            values.push(match arg {
                TextArg::Long(variable) => {
                    Val::Long(self.read_variable(variable, Some(target), false, span)?)
                }
                TextArg::Quoted(variable) => {
                    let address = self.read_variable(variable, Some(target), false, span)?;
                    let dst = self.temporary();
                    let cap = self.capacity();
                    let (arena, slot) = (self.arena, self.slot);
                    let len = self.call("user_string_quoted", &[arena, slot, address, dst, cap])[0];
                    Val::Str(dst, len)
                }
                TextArg::Bytes(address, length) => {
                    let address = self.read_variable(address, Some(target), false, span)?;
                    let length = self.read_variable(length, Some(target), false, span)?;
                    // Of nothing it does not matter where it is; Go has it nowhere.
                    let arena = self.arena;
                    let none = self.b.ins().icmp_imm_s(IntCC::Equal, length, 0);
                    let address = self.b.ins().select(none, arena, address);
                    let dst = self.temporary();
                    let cap = self.capacity();
                    let (arena, slot) = (self.arena, self.slot);
                    let args = [arena, slot, address, length, cap, dst, cap];
                    let len = self.call("user_buffer_quoted", &args)[0];
                    Val::Str(dst, len)
                }
                TextArg::Text(inner) => self.expand(inner, target, span)?,
                TextArg::Select(select) => self.select(select, target, span)?,
            });
        }
        match text.format.parts.as_slice() {
            [] => self.literal(b"", span),
            [script::format::Part::Literal(bytes)] => self.literal(bytes, span),
            _ => self.print_values(&text.format, &values, span),
        }
    }
}

/// The run time's number for a kind of load.
pub(super) fn kind(size: u8, signed: bool) -> i64 {
    i64::from(size) + if signed { 0x100 } else { 0 }
}
