//! The print family: arguments are evaluated, then a record is written to the ring (or, for `sprint…`, a block on the
//! string stack that the run time formats at once).

use super::{Lower, Val, flags};
use crate::error::CodegenError;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use runtime::layout::{RecordKind, Slot};
use script::format::{ConversionKind, Extent, Format, Part};
use script::ir::PrintArg;
use script::span::Span;
use std::mem::offset_of;

/// Most bytes that one `%m` shows.
const MAX_MEMORY: i64 = 4096;

/// An evaluated argument.
enum Item {
    Long(Value),
    Str(Value, Value),
    /// Address and length.
    Memory(Value, Value),
    /// Cell and shape.
    Hist(Value, Value),
}

impl<'p> Lower<'_, 'p> {
    /// `print…` and `sprint…`.
    pub(super) fn print(
        &mut self,
        format: &Format,
        args: &'p [PrintArg],
        to_string: bool,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let items = self.items(format, args, span)?;
        self.output(format, &items, to_string, span)
    }

    /// A format over values computed already.
    pub(super) fn print_values(
        &mut self,
        format: &Format,
        values: &[Val],
        span: Span,
    ) -> Result<Val, CodegenError> {
        let items: Vec<_> = values
            .iter()
            .filter_map(|v| match *v {
                Val::Long(v) => Some(Item::Long(v)),
                Val::Str(a, n) => Some(Item::Str(a, n)),
                Val::Unit => None,
            })
            .collect();
        self.output(format, &items, true, span)
    }

    fn items(
        &mut self,
        format: &Format,
        args: &'p [PrintArg],
        span: Span,
    ) -> Result<Vec<Item>, CodegenError> {
        let mut items = Vec::with_capacity(args.len());
        let mut args = args.iter();
        for part in &format.parts {
            let Part::Conversion(conversion) = part else {
                continue;
            };
            let mut extents = [None, None];
            for (index, extent) in [conversion.width, conversion.precision]
                .into_iter()
                .enumerate()
            {
                if extent == Extent::Argument {
                    let Some(PrintArg::Value(e)) = args.next() else {
                        return self.error(span, "not enough arguments for the format");
                    };
                    let v = self.long(e)?;
                    extents[index] = Some(v);
                    items.push(Item::Long(v));
                }
            }
            let item = match (args.next(), conversion.kind) {
                (Some(PrintArg::Hist(stat, _)), ConversionKind::Histogram) => {
                    let cell = self.cell_to_read(stat, span)?;
                    let shape = self.stat_shape(stat);
                    self.raise_if_empty(cell, shape, span);
                    Item::Hist(cell, shape)
                }
                (Some(PrintArg::Value(e)), ConversionKind::Memory | ConversionKind::MemoryHex) => {
                    let address = self.long(e)?;
                    let len = match (conversion.precision, extents[1]) {
                        (Extent::Fixed(n), _) => self.number(i64::from(n).clamp(1, MAX_MEMORY)),
                        (_, Some(len)) => {
                            let (least, most) = (self.number(1), self.number(MAX_MEMORY));
                            let len = self.b.ins().smax(len, least);
                            self.b.ins().smin(len, most)
                        }
                        _ => self.number(1),
                    };
                    Item::Memory(address, len)
                }
                (Some(PrintArg::Value(e)), _) => match self.expr(e)? {
                    Val::Long(v) => Item::Long(v),
                    Val::Str(a, n)
                        if Self::in_a_variable(e)
                            && args.as_slice().iter().any(|a| self.argument_changes(a)) =>
                    {
                        let (a, n) = self.settle(a, n);
                        Item::Str(a, n)
                    }
                    Val::Str(a, n) => Item::Str(a, n),
                    Val::Unit => return self.error(e.span, "a value is expected here"),
                },
                _ => return self.error(span, "arguments and format do not agree"),
            };
            items.push(item);
        }
        Ok(items)
    }

    /// True when an argument may change a variable that an earlier one shows.
    fn argument_changes(&self, arg: &'p PrintArg) -> bool {
        match arg {
            PrintArg::Value(e) => self.changes_variables(e),
            PrintArg::Hist(stat, _) => stat.keys.iter().any(|e| self.changes_variables(e)),
        }
    }

    /// Bytes of the argument block.
    fn block_size(&mut self, items: &[Item]) -> Value {
        let mut fixed = 0;
        let mut size: Option<Value> = None;
        for item in items {
            fixed += 8;
            let more = match *item {
                Item::Long(_) => continue,
                Item::Str(_, len) | Item::Memory(_, len) => {
                    let up = self.b.ins().iadd_imm_s(len, 7);
                    self.b.ins().band_imm_s(up, -8)
                }
                Item::Hist(_, shape) => {
                    let arena = self.arena;
                    self.call("stat_size", &[arena, shape])[0]
                }
            };
            size = Some(match size {
                Some(size) => self.b.ins().iadd(size, more),
                None => more,
            });
        }
        match size {
            Some(size) => self.b.ins().iadd_imm_s(size, fixed),
            None => self.number(fixed),
        }
    }

    /// Writes the argument block.
    fn write_block(&mut self, items: &[Item], at: Value) -> bool {
        let mut at = at;
        let mut offset = 0;
        let mut may_raise = false;
        for item in items {
            match *item {
                Item::Long(v) => {
                    self.b.ins().store(flags(), v, at, offset);
                    offset += 8;
                    continue;
                }
                Item::Str(address, len) => {
                    at = self.b.ins().iadd_imm_s(at, i64::from(offset));
                    at = self.call("args_string", &[at, address, len])[0];
                }
                Item::Memory(address, len) => {
                    at = self.b.ins().iadd_imm_s(at, i64::from(offset));
                    let (arena, slot) = (self.arena, self.slot);
                    at = self.call("args_memory", &[arena, slot, at, address, len])[0];
                    may_raise = true;
                }
                Item::Hist(cell, shape) => {
                    at = self.b.ins().iadd_imm_s(at, i64::from(offset));
                    let arena = self.arena;
                    at = self.call("args_hist", &[arena, at, cell, shape])[0];
                }
            }
            offset = 0;
        }
        may_raise
    }

    fn output(
        &mut self,
        format: &Format,
        items: &[Item],
        to_string: bool,
        span: Span,
    ) -> Result<Val, CodegenError> {
        let id = self.state.format(format, span)?;
        let id = self.number(id as i64);
        let size = self.block_size(items);
        let (arena, slot) = (self.arena, self.slot);
        if to_string {
            return Ok(self.format_now(id, size, items, span));
        }
        let kind = self.number(RecordKind::Print as i64);
        let payload = self.call("ring_reserve", &[arena, slot, size, kind, id])[0];
        let (write, done) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(payload, write, &[], done, &[]);
        self.b.switch_to_block(write);
        // Nothing is printed where memory cannot be read; what is not committed is written over.
        if self.write_block(items, payload) {
            self.check(span);
        }
        self.call("ring_commit", &[arena, slot]);
        self.b.ins().jump(done, &[]);
        self.b.switch_to_block(done);
        Ok(Val::Unit)
    }

    fn format_now(&mut self, id: Value, size: Value, items: &[Item], span: Span) -> Val {
        let dst = self.temporary();
        let cap = self.capacity();
        let (arena, slot) = (self.arena, self.slot);
        let top_offset = offset_of!(Slot, string_top) as i32;
        let top = self.b.ins().load(types::I32, flags(), slot, top_offset);
        let block = self.call("string_reserve", &[arena, slot, size])[0];
        self.check(span);
        let may_raise = self.write_block(items, block);
        let len = self.call("sprint", &[arena, slot, id, block, size, dst, cap])[0];
        self.b.ins().store(flags(), top, slot, top_offset);
        if may_raise {
            self.check(span);
        }
        Val::Str(dst, len)
    }
}
