//! Terms: numbers of the probed program.

use super::variable::NEAR_STACK;
use super::{Lower, RSP};
use crate::error::CodegenError;
use crate::term::{CallerCase, Term, TermOperator};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::Switch;
use script::ir::{Target, TargetBase, TargetStep};
use script::span::Span;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The script's own expressions in a term, each evaluated once however often it stands there.
#[derive(Default)]
pub(super) struct Operands {
    known: HashMap<Option<usize>, Value>,
}

/// Whether memory at this address is certain to be the stack's.
pub(super) fn is_near(address: &Term) -> bool {
    match address {
        Term::Register(register) => *register == RSP,
        Term::Binary(TermOperator::Add, base, n) => matches!(
            (&**base, &**n),
            (Term::Register(RSP), Term::Constant(n)) if NEAR_STACK.contains(n)
        ),
        _ => false,
    }
}

impl<'p> Lower<'_, 'p> {
    /// Evaluates the script's expressions in a term in order, ahead of the term itself.
    pub(super) fn operands(
        &mut self,
        term: &Term,
        target: Option<&'p Target>,
        span: Span,
        operands: &mut Operands,
    ) -> Result<(), CodegenError> {
        match term {
            Term::Operand => {
                let expr = match target.map(|t| &t.base) {
                    Some(
                        TargetBase::Cast(e, ..)
                        | TargetBase::Autocast(e, _)
                        | TargetBase::EnumName(e, ..),
                    ) => e,
                    _ => return self.error(span, "an operand is expected here"),
                };
                if let Entry::Vacant(place) = operands.known.entry(None) {
                    place.insert(self.long(expr)?);
                }
            }
            Term::Index(step) => {
                let Some(TargetStep::Index(expr)) = target.and_then(|t| t.steps.get(*step)) else {
                    return self.error(span, "no such index");
                };
                if let Entry::Vacant(place) = operands.known.entry(Some(*step)) {
                    place.insert(self.long(expr)?);
                }
            }
            Term::Load { address, .. } => self.operands(address, target, span, operands)?,
            Term::Extend { value, .. } => self.operands(value, target, span, operands)?,
            Term::Binary(_, a, b) => {
                self.operands(a, target, span, operands)?;
                self.operands(b, target, span, operands)?;
            }
            // Nothing of the script's is in what callers hand over.
            Term::ByCaller { .. }
            | Term::Constant(_)
            | Term::Register(_)
            | Term::Vector { .. }
            | Term::Image(_)
            | Term::Module { .. }
            | Term::Thread => {}
        }
        Ok(())
    }

    /// The number; [`Lower::operands`] has run.
    pub(super) fn term(&mut self, term: &Term, operands: &Operands, span: Span) -> Value {
        match term {
            Term::Constant(n) => self.number(*n),
            Term::Register(number) => self.register(*number),
            Term::Vector { number, high } => self.vector_register(*number, *high),
            Term::Image(offset) => {
                let rip = self.instruction_pointer();
                self.b.ins().iadd_imm_s(rip, *offset)
            }
            Term::Module {
                fingerprint,
                offset,
            } => {
                let (slot, tables) = (self.slot, self.stack_tables());
                let fingerprint = self.number(fingerprint.cast_signed());
                let start = self.call("module_address", &[slot, tables, fingerprint])[0];
                self.check(span);
                self.b.ins().iadd_imm_s(start, *offset)
            }
            Term::Thread => self.call("thread_pointer", &[])[0],
            Term::Operand => self.known(operands, None),
            Term::Index(step) => self.known(operands, Some(*step)),
            Term::Load {
                address,
                size,
                signed,
            } => {
                let near = is_near(address);
                let address = self.term(address, operands, span);
                self.load_bytes(address, near, *size, *signed, span)
            }
            Term::Extend {
                value,
                bits,
                signed,
            } => {
                let value = self.term(value, operands, span);
                let up = 64 - i64::from((*bits).clamp(1, 64));
                let value = self.b.ins().ishl_imm_u(value, up);
                if *signed {
                    self.b.ins().sshr_imm_u(value, up)
                } else {
                    self.b.ins().ushr_imm_u(value, up)
                }
            }
            Term::Binary(operator, a, b) => {
                let a = self.term(a, operands, span);
                let b = self.term(b, operands, span);
                self.operate(*operator, a, b)
            }
            Term::ByCaller {
                returns_to,
                cases,
                otherwise,
            } => {
                let returns_to = self.term(returns_to, operands, span);
                self.by_caller(returns_to, (cases, *otherwise), operands, span)
            }
        }
    }

    /// A search among the places that are known to call.
    fn by_caller(
        &mut self,
        returns_to: Value,
        (cases, otherwise): (&[CallerCase], Option<i64>),
        operands: &Operands,
        span: Span,
    ) -> Value {
        let result = self.b.declare_var(types::I64);
        let (unknown, done) = (self.b.create_block(), self.b.create_block());
        let blocks: Vec<_> = cases.iter().map(|_| self.b.create_block()).collect();
        // The probed image first: no module has to be looked for then.
        let modules: BTreeSet<Option<u64>> = cases.iter().map(|case| case.module).collect();
        let mut left = modules.len();
        for module in modules {
            left -= 1;
            let next = match left {
                0 => unknown,
                _ => self.b.create_block(),
            };
            let start = match module {
                None => self.instruction_pointer(),
                Some(fingerprint) => {
                    let tables = self.stack_tables();
                    let fingerprint = self.number(fingerprint.cast_signed());
                    let start = self.call("module_start", &[tables, fingerprint])[0];
                    let is_loaded = self.b.create_block();
                    self.b.ins().brif(start, is_loaded, &[], next, &[]);
                    self.b.switch_to_block(is_loaded);
                    start
                }
            };
            let distance = self.b.ins().isub(returns_to, start);
            let mut search = Switch::new();
            let mut known = HashSet::new();
            for (case, block) in cases.iter().zip(&blocks) {
                let places = case.places.iter().filter(|_| case.module == module);
                for place in places.filter(|p| known.insert(**p)) {
                    search.set_entry(u128::from(place.cast_unsigned()), *block);
                }
            }
            search.emit(&mut self.b, distance, next);
            if left > 0 {
                self.b.switch_to_block(next);
            }
        }
        for (case, block) in cases.iter().zip(blocks) {
            self.b.switch_to_block(block);
            if let Some(condition) = &case.condition {
                let condition = self.term(condition, operands, span);
                let holds = self.b.create_block();
                self.b.ins().brif(condition, holds, &[], unknown, &[]);
                self.b.switch_to_block(holds);
            }
            let value = self.term(&case.value, operands, span);
            self.b.def_var(result, value);
            self.b.ins().jump(done, &[]);
        }
        self.b.switch_to_block(unknown);
        match otherwise {
            Some(number) => {
                let number = self.number(number);
                self.b.def_var(result, number);
                self.b.ins().jump(done, &[]);
            }
            None => {
                self.b.set_cold_block(unknown);
                self.raise("unknown_caller", span);
            }
        }
        self.b.switch_to_block(done);
        self.b.use_var(result)
    }

    fn known(&mut self, operands: &Operands, key: Option<usize>) -> Value {
        match operands.known.get(&key) {
            Some(value) => *value,
            None => self.number(0),
        }
    }

    /// Any number of bytes up to 8, as the sum of loads of powers of two.
    fn load_bytes(
        &mut self,
        address: Value,
        near: bool,
        size: u8,
        signed: bool,
        span: Span,
    ) -> Value {
        if matches!(size, 1 | 2 | 4 | 8) {
            return self.load_program(address, near, size, signed, span);
        }
        let mut done = 0u8;
        let mut sum = self.number(0);
        for part in [4u8, 2, 1] {
            if size.saturating_sub(done) < part {
                continue;
            }
            let last = done + part == size;
            let at = self.b.ins().iadd_imm_s(address, i64::from(done));
            let v = self.load_program(at, near, part, signed && last, span);
            let v = self.b.ins().ishl_imm_u(v, i64::from(done) * 8);
            sum = self.b.ins().bor(sum, v);
            done += part;
        }
        sum
    }

    fn operate(&mut self, operator: TermOperator, a: Value, b: Value) -> Value {
        use TermOperator as O;
        let compare = |l: &mut Self, condition| {
            let flag = l.b.ins().icmp(condition, a, b);
            l.b.ins().uextend(types::I64, flag)
        };
        match operator {
            O::Add => self.b.ins().iadd(a, b),
            O::Subtract => self.b.ins().isub(a, b),
            O::Multiply => self.b.ins().imul(a, b),
            O::Divide | O::Remainder => self.divide_safely(operator == O::Divide, a, b),
            O::And => self.b.ins().band(a, b),
            O::Or => self.b.ins().bor(a, b),
            O::Xor => self.b.ins().bxor(a, b),
            O::ShiftLeft | O::ShiftRight | O::ShiftRightSigned => {
                let shifted = match operator {
                    O::ShiftLeft => self.b.ins().ishl(a, b),
                    O::ShiftRight => self.b.ins().ushr(a, b),
                    _ => self.b.ins().sshr(a, b),
                };
                let beyond = match operator {
                    O::ShiftRightSigned => self.b.ins().sshr_imm_u(a, 63),
                    _ => self.number(0),
                };
                let fits = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, b, 64);
                self.b.ins().select(fits, shifted, beyond)
            }
            O::Equal => compare(self, IntCC::Equal),
            O::NotEqual => compare(self, IntCC::NotEqual),
            O::Less => compare(self, IntCC::SignedLessThan),
            O::LessOrEqual => compare(self, IntCC::SignedLessThanOrEqual),
            O::Float(operation) => {
                let which = self.number(operation as i64);
                self.call("float_operation", &[which, a, b])[0]
            }
        }
    }

    /// Division that never traps: by 0 gives 0, and the quotient that does not fit is left alone.
    fn divide_safely(&mut self, signed: bool, a: Value, b: Value) -> Value {
        let zero = self.number(0);
        let one = self.number(1);
        let none = self.b.ins().icmp(IntCC::Equal, b, zero);
        let divisor = self.b.ins().select(none, one, b);
        let result = if signed {
            let minus = self.b.ins().icmp_imm_s(IntCC::Equal, divisor, -1);
            let safe = self.b.ins().select(minus, one, divisor);
            let quotient = self.b.ins().sdiv(a, safe);
            let negated = self.b.ins().ineg(a);
            self.b.ins().select(minus, negated, quotient)
        } else {
            self.b.ins().urem(a, divisor)
        };
        self.b.ins().select(none, zero, result)
    }
}
