//! Values of a function's entry: saved by a companion handler, loaded by the return handler.

use super::{Lower, Val, flags};
use crate::error::CodegenError;
use crate::saved::{SavedExpr, SavedPlace};
use crate::state::Symbol;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use script::ir::{Expr, Target, Type};
use script::span::Span;

/// What [`ProcessLink::symbol`](crate::ProcessLink::symbol) is asked for the address of the process's
/// `runtime::frames::FrameTable`.
pub const FRAME_TABLE: &str = "frame_table";
/// Number of rsp.
const RSP: u8 = 4;

impl<'p> Lower<'_, 'p> {
    fn frame_table(&mut self) -> Value {
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params.push(AbiParam::new(types::I64));
        let table = self.import(Symbol::Runtime(FRAME_TABLE), signature, false);
        self.b.ins().func_addr(types::I64, table)
    }

    /// At the start of a return handler: finds the values of the call that returns, or leaves.
    pub(super) fn find_record(&mut self) {
        let record = self.b.declare_var(types::I64);
        let table = self.frame_table();
        let slot = self.register(RSP);
        let site = self.site;
        let found = self.call("frame_find", &[table, slot, site])[0];
        self.b.def_var(record, found);
        self.record = Some(record);
        let known = self.b.create_block();
        let leave = self.leave;
        self.b.ins().brif(found, known, &[], leave, &[]);
        self.b.switch_to_block(known);
    }

    /// At the end of a return handler.
    pub(super) fn drop_record(&mut self) {
        let Some(record) = self.record else {
            return;
        };
        let record = self.b.use_var(record);
        let (there, done) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(record, there, &[], done, &[]);
        self.b.switch_to_block(there);
        self.call("frame_drop", &[record]);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
    }

    /// The value of an `@entry(operand)`.
    pub(super) fn entry_value(
        &mut self,
        operand: &'p Expr,
        span: Span,
    ) -> Result<Val, CodegenError> {
        match self.saved.as_ref().and_then(|s| s.of_entry(operand)) {
            Some(place) => Ok(self.load_saved(place)),
            None => self.error(span, "@entry is only valid in .return probes"),
        }
    }

    /// The value that a target variable had at the entry, where that is what it means.
    pub(super) fn saved_target(&mut self, target: &Target) -> Option<Val> {
        self.record?;
        let place = self.saved.as_ref()?.of_target(target)?;
        Some(self.load_saved(place))
    }

    fn load_saved(&mut self, place: SavedPlace) -> Val {
        let Some(record) = self.record else {
            return Val::Long(self.number(0));
        };
        let record = self.b.use_var(record);
        let offset = place.offset as i32;
        let word = self.b.ins().load(types::I64, flags(), record, offset);
        match place.ty {
            Type::String => {
                let most = self.capacity();
                let len = self.b.ins().umin(word, most);
                let start = self.b.ins().iadd_imm_s(record, i64::from(offset) + 8);
                Val::Str(start, len)
            }
            _ => Val::Long(word),
        }
    }

    /// The companion's body. Values first: a record is only made once all of them are known.
    pub(super) fn companion(
        &mut self,
        values: &[(SavedExpr<'p>, SavedPlace)],
        (register, offset): (u8, i64),
    ) -> Result<(), CodegenError> {
        let mut computed = Vec::with_capacity(values.len());
        for (expr, place) in values {
            let value = match expr {
                SavedExpr::Entry(e) => self.expr(e)?,
                SavedExpr::Target(t) => self.read_target(t, t.span)?,
            };
            computed.push((value, *place));
        }
        let table = self.frame_table();
        let base = self.register(register);
        let return_slot = self.b.ins().iadd_imm_s(base, offset);
        let site = self.site;
        let record = self.call("frame_save", &[table, return_slot, site])[0];
        let made = self.b.create_block();
        let leave = self.leave;
        self.b.ins().brif(record, made, &[], leave, &[]);
        self.b.switch_to_block(made);
        for (value, place) in computed {
            let offset = place.offset as i32;
            match value {
                Val::Long(v) => {
                    self.b.ins().store(flags(), v, record, offset);
                }
                Val::Str(start, len) => {
                    let to = self.b.ins().iadd_imm_s(record, i64::from(offset));
                    let most = self.capacity();
                    self.call("frame_string", &[to, most, start, len]);
                }
                Val::Unit => {}
            }
        }
        Ok(())
    }
}
