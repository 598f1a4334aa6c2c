//! Intrinsic operations.

use super::{Lower, Val};
use crate::error::CodegenError;
use crate::intrinsic::{Action, Arg, Gives, action};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use script::ir::{Expr, ExprKind};
use script::span::Span;

/// Registers of the first six integer arguments (rdi rsi rdx rcx r8 r9), System V psABI.
const ARGUMENTS: [u8; 6] = [7, 6, 2, 1, 8, 9];
/// Number of rsp.
const RSP: u8 = 4;

impl<'p> Lower<'_, 'p> {
    pub(super) fn intrinsic(
        &mut self,
        name: &str,
        args: &'p [Expr],
        span: Span,
    ) -> Result<Val, CodegenError> {
        let Some(action) = action(name) else {
            return self.error(span, format!("unknown intrinsic {name}"));
        };
        Ok(match action {
            Action::Site(field) => self.site_text(field),
            Action::InstructionPointer if self.context.has_registers() => {
                Val::Long(self.instruction_pointer())
            }
            Action::InstructionPointer => Val::Long(self.number(0)),
            Action::IsReturn => {
                let is_return = i64::from(self.is_return);
                Val::Long(self.number(is_return))
            }
            Action::HasRegisters => {
                let has = i64::from(self.context.has_registers());
                Val::Long(self.number(has))
            }
            Action::Argument => self.argument(args, span)?,
            Action::SetArgument(narrow) => self.set_argument(args, narrow, span)?,
            Action::Length => {
                let [s] = args else {
                    return self.error(span, "wrong number of arguments");
                };
                Val::Long(self.string(s)?.1)
            }
            Action::MaxStringLength => {
                let capacity = self.capacity();
                Val::Long(self.b.ins().iadd_imm_s(capacity, 1))
            }
            Action::Abort => {
                let (arena, slot) = (self.arena, self.slot);
                self.call("abort", &[arena, slot]);
                self.leave_now();
                Val::Unit
            }
            Action::Call(name, parameters, gives, raises) => {
                self.run_time(name, parameters, gives, raises, args, span)?
            }
        })
    }

    fn run_time(
        &mut self,
        name: &'static str,
        parameters: &[Arg],
        gives: Gives,
        raises: bool,
        args: &'p [Expr],
        span: Span,
    ) -> Result<Val, CodegenError> {
        let mut values = Vec::with_capacity(args.len());
        for (n, arg) in args.iter().enumerate() {
            values.push(self.operand(arg, &args[n + 1..])?);
        }
        let mut words = Vec::with_capacity(parameters.len() + 2);
        let mut buffer = None;
        for parameter in parameters {
            match *parameter {
                Arg::Arena => words.push(self.arena),
                Arg::Slot => words.push(self.slot),
                Arg::Frame => {
                    self.unit.reads = u16::MAX;
                    words.push(self.frame);
                }
                Arg::Tables => {
                    let tables = self.stack_tables();
                    words.push(tables);
                }
                Arg::Long(n) | Arg::Str(n) => match values.get(usize::from(n)) {
                    Some(Val::Long(v)) => words.push(*v),
                    Some(Val::Str(a, len)) => words.extend([*a, *len]),
                    _ => return self.error(span, "wrong number of arguments"),
                },
                Arg::Buffer => {
                    let dst = self.temporary();
                    buffer = Some(dst);
                    let cap = self.capacity();
                    words.extend([dst, cap]);
                }
                Arg::Constant(n) => words.push(self.number(n)),
            }
        }
        let results = self.call(name, &words);
        match (raises, name) {
            // The script's own words stand alone, as stap has it.
            (true, "error") => self.check_without_place(),
            (true, _) => self.check(span),
            (false, _) => {}
        }
        Ok(match (gives, buffer, results.first()) {
            (Gives::Long, _, Some(v)) => Val::Long(*v),
            (Gives::Buffer, Some(dst), Some(len)) => Val::Str(dst, *len),
            _ => Val::Unit,
        })
    }

    /// The n-th integer argument (from 1) of the function at whose entry the program is.
    fn argument(&mut self, args: &'p [Expr], span: Span) -> Result<Val, CodegenError> {
        let [which] = args else {
            return self.error(span, "wrong number of arguments");
        };
        if !self.context.has_registers() {
            self.long(which)?;
            return Ok(Val::Long(self.number(0)));
        }
        if let ExprKind::Long(n @ 1..=6) = which.kind {
            return Ok(Val::Long(self.register(ARGUMENTS[n as usize - 1])));
        }
        let n = self.long(which)?;
        let (done, stack) = (self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(done, types::I64);
        for (index, register) in ARGUMENTS.into_iter().enumerate() {
            let next = self.b.create_block();
            let value = self.register(register);
            let is_it = self.b.ins().icmp_imm_s(IntCC::Equal, n, index as i64 + 1);
            self.b.ins().brif(is_it, done, &[value.into()], next, &[]);
            self.b.switch_to_block(next);
        }
        self.b.ins().jump(stack, &[]);
        self.b.switch_to_block(stack);
        let value = self.stack_argument(n, span);
        self.b.ins().jump(done, &[value.into()]);
        self.b.switch_to_block(done);
        Ok(Val::Long(result))
    }

    /// Replaces the n-th integer argument (from 1) of the function at whose entry the program is.
    fn set_argument(
        &mut self,
        args: &'p [Expr],
        narrow: Option<bool>,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let [which, value] = args else {
            return self.error(span, "wrong number of arguments");
        };
        let n = self.operand(which, std::slice::from_ref(value))?;
        let value = self.long(value)?;
        let value = match narrow {
            Some(signed) => self.extend(value, 4, signed),
            None => value,
        };
        let Val::Long(n) = n else {
            return self.error(span, "a number is expected here");
        };
        if !self.context.has_registers() {
            return Ok(Val::Unit);
        }
        let done = self.b.create_block();
        for (index, register) in ARGUMENTS.into_iter().enumerate() {
            if let ExprKind::Long(known) = which.kind
                && (1..=6).contains(&known)
                && known != index as i64 + 1
            {
                continue;
            }
            let (this, next) = (self.b.create_block(), self.b.create_block());
            let is_it = self.b.ins().icmp_imm_s(IntCC::Equal, n, index as i64 + 1);
            self.b.ins().brif(is_it, this, &[], next, &[]);
            self.b.switch_to_block(this);
            self.set_register(register, value);
            self.b.ins().jump(done, &[]);
            self.b.switch_to_block(next);
        }
        let address = self.stack_argument_address(n, span);
        let size = self.number(8);
        let (arena, slot) = (self.arena, self.slot);
        self.call("store_user", &[arena, slot, address, size, value]);
        self.check(span);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        Ok(Val::Unit)
    }

    /// Where arguments from the seventh on stand: above the return address.
    fn stack_argument_address(&mut self, n: Value, span: Span) -> Value {
        let slot = self.slot;
        self.call("argument_number", &[slot, n]);
        self.check(span);
        let rsp = self.register(RSP);
        let offset = self.b.ins().imul_imm_s(n, 8);
        let address = self.b.ins().iadd(rsp, offset);
        self.b.ins().iadd_imm_s(address, -6 * 8)
    }

    fn stack_argument(&mut self, n: Value, span: Span) -> Value {
        let address = self.stack_argument_address(n, span);
        let kind = self.number(super::variable::kind(8, true));
        let (arena, slot) = (self.arena, self.slot);
        let value = self.call("load_user", &[arena, slot, address, kind])[0];
        self.check(span);
        value
    }
}
