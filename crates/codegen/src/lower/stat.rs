//! Statistics.

use super::{Lower, Val, flags};
use crate::error::CodegenError;
use crate::storage::{Shape, stat_op};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use runtime::layout::{Header, StatCell};
use script::ast::StatOp;
use script::ir::{Expr, StatRef};
use script::span::Span;
use std::mem::offset_of;

impl<'p> Lower<'_, 'p> {
    /// Address of the cell that a handler of this context adds to.
    fn cell_to_add(&mut self, stat: &StatRef, keys: &[Val]) -> Result<Value, CodegenError> {
        let storage = self.state.storage(stat.global);
        if !matches!(storage.shape, Shape::Stat) {
            return self.insert(stat.global, keys, stat.span);
        }
        let (at, shard, size) = (storage.at, storage.cells, storage.cell_size);
        if !self.per_thread(stat.global) {
            return Ok(self.arena_at(at));
        }
        let arena = self.arena;
        let epoch = self
            .b
            .ins()
            .uload32(flags(), arena, offset_of!(Header, epoch) as i32);
        let epoch = self.b.ins().band_imm_u(epoch, 1);
        let half = self.b.ins().imul_imm_s(epoch, size as i64);
        let slot = self.slot;
        let cell = self.b.ins().iadd_imm_s(slot, shard as i64);
        Ok(self.b.ins().iadd(cell, half))
    }

    /// Address of the cell to read, 0 when the element is absent.
    pub(super) fn cell_to_read(
        &mut self,
        stat: &'p StatRef,
        span: Span,
    ) -> Result<Value, CodegenError> {
        let storage = self.state.storage(stat.global);
        if matches!(storage.shape, Shape::Stat) {
            let at = storage.at;
            return Ok(self.arena_at(at));
        }
        let keys = self.keys(&stat.keys, span)?;
        Ok(self.find(stat.global, &keys))
    }

    pub(super) fn stat_shape(&mut self, stat: &StatRef) -> Value {
        let shape = self.state.storage(stat.global).stat_shape;
        self.number(shape as i64)
    }

    /// `s <<< e`. Without histogram and variance the update is made in place.
    pub(super) fn aggregate(
        &mut self,
        stat: &'p StatRef,
        e: &'p Expr,
        span: Span,
    ) -> Result<Value, CodegenError> {
        let keys = self.keys(&stat.keys, span)?;
        let value = self.long(e)?;
        let cell = self.cell_to_add(stat, &keys)?;
        if self.state.storage(stat.global).stat_shape != 0 {
            let shape = self.stat_shape(stat);
            let arena = self.arena;
            self.call("stat_add", &[arena, cell, shape, value]);
            return Ok(value);
        }
        let offsets = [
            offset_of!(StatCell, count),
            offset_of!(StatCell, sum),
            offset_of!(StatCell, min),
            offset_of!(StatCell, max),
        ]
        .map(|o| o as i32);
        let [count, sum, min, max] =
            offsets.map(|o| self.b.ins().load(types::I64, flags(), cell, o));
        let first = self.b.ins().icmp_imm_s(IntCC::Equal, count, 0);
        let new_count = self.b.ins().iadd_imm_s(count, 1);
        let new_sum = self.b.ins().iadd(sum, value);
        let lower = self.b.ins().smin(min, value);
        let higher = self.b.ins().smax(max, value);
        let new_min = self.b.ins().select(first, value, lower);
        let new_max = self.b.ins().select(first, value, higher);
        for (value, offset) in [new_count, new_sum, new_min, new_max]
            .into_iter()
            .zip(offsets)
        {
            self.b.ins().store(flags(), value, cell, offset);
        }
        Ok(value)
    }

    /// `@count(s)` and the like.
    pub(super) fn read_stat(
        &mut self,
        op: StatOp,
        stat: &'p StatRef,
        _shift: u8,
        span: Span,
    ) -> Result<Value, CodegenError> {
        let cell = self.cell_to_read(stat, span)?;
        let shape = self.stat_shape(stat);
        let op = match op {
            StatOp::Variance if !stat.keys.is_empty() => u64::from(runtime::stat::ELEMENT_VARIANCE),
            op => stat_op(op),
        };
        let op = self.number(op as i64);
        let (arena, slot) = (self.arena, self.slot);
        let value = self.call("stat_read", &[arena, slot, cell, shape, op])[0];
        self.check(span);
        Ok(value)
    }

    /// "empty aggregate" unless the cell holds values.
    pub(super) fn raise_if_empty(&mut self, cell: Value, shape: Value, span: Span) {
        let op = self.number(stat_op(StatOp::Min) as i64);
        let (arena, slot) = (self.arena, self.slot);
        self.call("stat_read", &[arena, slot, cell, shape, op]);
        self.check(span);
    }

    /// `@hist_log(s)[i]`.
    pub(super) fn read_bucket(
        &mut self,
        stat: &'p StatRef,
        index: &'p Expr,
        span: Span,
    ) -> Result<Value, CodegenError> {
        let index = self.long(index)?;
        let cell = self.cell_to_read(stat, span)?;
        let shape = self.stat_shape(stat);
        let (arena, slot) = (self.arena, self.slot);
        let value = self.call("stat_bucket", &[arena, slot, cell, shape, index])[0];
        self.check(span);
        Ok(value)
    }
}
