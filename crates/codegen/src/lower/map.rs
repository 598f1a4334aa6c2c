//! Arrays.

use super::{Lower, Val, flags};
use crate::error::CodegenError;
use crate::storage::{Class, Shape};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use script::ir::{Expr, GlobalId, Type};
use script::span::Span;

impl<'p> Lower<'_, 'p> {
    /// Evaluates keys.
    pub(super) fn keys(&mut self, keys: &'p [Expr], _span: Span) -> Result<Vec<Val>, CodegenError> {
        keys.iter()
            .enumerate()
            .map(|(n, key)| self.operand(key, &keys[n + 1..]))
            .collect()
    }

    /// Keys in memory, as the run time takes them; with it the mask of those given.
    pub(super) fn key_array(&mut self, keys: &[Option<Val>]) -> (Value, Value) {
        let slot =
            self.stack_slot((keys.len().max(1) * size_of::<runtime::layout::Value>()) as u32);
        let mut mask = 0;
        for (index, key) in keys.iter().enumerate() {
            if let Some(key) = *key {
                self.store_value(slot, index, key);
                mask |= 1 << index;
            }
        }
        self.unit.stack = true;
        (
            self.b.ins().stack_addr(types::I64, slot, 0),
            self.number(mask),
        )
    }

    fn partial_keys(&mut self, keys: &'p [Option<Expr>]) -> Result<(Value, Value), CodegenError> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(match key {
                Some(key) => Some(self.expr(key)?),
                None => None,
            });
        }
        Ok(self.key_array(&values))
    }

    /// Offset of the array, and whether it has the shape for which the run time has short ways.
    fn map_offset(&mut self, id: GlobalId) -> Value {
        let at = self.state.storage(id).at;
        self.number(at as i64)
    }

    /// Address of an element's cell; it is made when absent. In processes, of the thread's own part if there are such.
    pub(super) fn insert(
        &mut self,
        id: GlobalId,
        keys: &[Val],
        span: Span,
    ) -> Result<Value, CodegenError> {
        let sharded = self.state.is_sharded(id, self.context);
        let table = if sharded {
            let shard = self.state.storage(id).shard;
            self.number(shard as i64)
        } else {
            self.map_offset(id)
        };
        let (arena, slot) = (self.arena, self.slot);
        let cell = if let [Val::Long(key)] = *keys {
            let name = if sharded {
                "shard_cell_i64"
            } else {
                "map_insert_i64"
            };
            self.call(name, &[arena, slot, table, key])[0]
        } else {
            let keys: Vec<_> = keys.iter().copied().map(Some).collect();
            let (keys, _) = self.key_array(&keys);
            let name = if sharded { "shard_cell" } else { "map_insert" };
            self.call(name, &[arena, slot, table, keys])[0]
        };
        // A null cell is always an error raised: one test serves for both.
        let missing = self.b.ins().icmp_imm_s(IntCC::Equal, cell, 0);
        let bad = self.b.create_block();
        let good = self.b.create_block();
        self.unit.raises = true;
        self.b.set_cold_block(bad);
        self.b.ins().brif(missing, bad, &[], good, &[]);
        self.b.switch_to_block(bad);
        self.store_location(span);
        let target = self.error;
        self.b.ins().jump(target, &[]);
        self.b.switch_to_block(good);
        Ok(cell)
    }

    /// Address of an element's cell, or 0.
    pub(super) fn find(&mut self, id: GlobalId, keys: &[Val]) -> Value {
        let map = self.map_offset(id);
        let (arena, slot) = (self.arena, self.slot);
        if let [Val::Long(key)] = *keys {
            return self.call("map_find_i64", &[arena, slot, map, key])[0];
        }
        let keys: Vec<_> = keys.iter().copied().map(Some).collect();
        let (keys, _) = self.key_array(&keys);
        self.call("map_find", &[arena, slot, map, keys])[0]
    }

    /// An element's value; 0 or "" when absent.
    pub(super) fn read_element(
        &mut self,
        id: GlobalId,
        keys: &'p [Expr],
        span: Span,
    ) -> Result<Val, CodegenError> {
        let keys = self.keys(keys, span)?;
        let cell = self.find(id, &keys);
        let string = match &self.state.storage(id).shape {
            Shape::Map {
                value: Some(Type::String),
                ..
            } => true,
            Shape::Map { value: Some(_), .. } => false,
            _ => return self.error(span, "not an array of numbers or strings"),
        };
        let (found, done) = (self.b.create_block(), self.b.create_block());
        let absent = self.number(0);
        let first = self.b.append_block_param(done, types::I64);
        if string {
            let second = self.b.append_block_param(done, types::I64);
            let empty = self.arena;
            self.b
                .ins()
                .brif(cell, found, &[], done, &[empty.into(), absent.into()]);
            self.b.switch_to_block(found);
            let (address, len) = self.str_parts(cell);
            self.b.ins().jump(done, &[address.into(), len.into()]);
            self.b.switch_to_block(done);
            Ok(Val::Str(first, second))
        } else {
            self.b.ins().brif(cell, found, &[], done, &[absent.into()]);
            self.b.switch_to_block(found);
            let value = self.b.ins().load(types::I64, flags(), cell, 0);
            self.b.ins().jump(done, &[value.into()]);
            self.b.switch_to_block(done);
            Ok(Val::Long(first))
        }
    }

    /// `[k, *] in a`.
    pub(super) fn contains(
        &mut self,
        id: GlobalId,
        keys: &'p [Option<Expr>],
        span: Span,
    ) -> Result<Value, CodegenError> {
        if keys.iter().all(Option::is_some) {
            let mut values = Vec::with_capacity(keys.len());
            for key in keys.iter().flatten() {
                values.push(self.expr(key)?);
            }
            let cell = self.find(id, &values);
            let flag = self.b.ins().icmp_imm_s(IntCC::NotEqual, cell, 0);
            return Ok(self.b.ins().uextend(types::I64, flag));
        }
        let _ = span;
        let (keys, mask) = self.partial_keys(keys)?;
        let map = self.map_offset(id);
        let (arena, slot) = (self.arena, self.slot);
        Ok(self.call("map_contains_slice", &[arena, slot, map, keys, mask])[0])
    }

    /// `delete a[k]`.
    pub(super) fn delete(
        &mut self,
        id: GlobalId,
        keys: &'p [Expr],
        span: Span,
    ) -> Result<(), CodegenError> {
        let keys = self.keys(keys, span)?;
        let keys: Vec<_> = keys.into_iter().map(Some).collect();
        let (keys, _) = self.key_array(&keys);
        let map = self.map_offset(id);
        let (arena, slot) = (self.arena, self.slot);
        self.call("map_delete", &[arena, slot, map, keys]);
        Ok(())
    }

    /// `delete a[k, *]`.
    pub(super) fn delete_slice(
        &mut self,
        id: GlobalId,
        keys: &'p [Option<Expr>],
    ) -> Result<(), CodegenError> {
        let (keys, mask) = self.partial_keys(keys)?;
        let map = self.map_offset(id);
        let (arena, slot) = (self.arena, self.slot);
        self.call("map_delete_slice", &[arena, slot, map, keys, mask]);
        Ok(())
    }

    /// `delete g`.
    pub(super) fn delete_all(&mut self, id: GlobalId) {
        let arena = self.arena;
        let storage = self.state.storage(id);
        let (at, shape) = (storage.at, storage.stat_shape);
        match storage.shape.clone() {
            Shape::Map { .. } => {
                let map = self.map_offset(id);
                let slot = self.slot;
                self.call("map_clear", &[arena, slot, map]);
            }
            Shape::Stat => {
                let cell = self.arena_at(at);
                let shape = self.number(shape as i64);
                self.call("stat_clear", &[arena, cell, shape]);
            }
            Shape::Scalar(_) => {
                // An empty string's length is its first word, with the reserved one.
                let cell = self.arena_at(at);
                let zero = self.number(0);
                self.b.ins().store(flags(), zero, cell, 0);
            }
        }
    }

    /// The keys and the mask of a `foreach`'s slice.
    pub(super) fn slice(
        &mut self,
        slice: Option<&'p [Option<Expr>]>,
    ) -> Result<(Value, Value), CodegenError> {
        match slice {
            Some(keys) if keys.iter().any(Option::is_some) => self.partial_keys(keys),
            _ => {
                let zero = self.number(0);
                Ok((zero, zero))
            }
        }
    }

    /// True when the global's class is one of those kept per thread, as seen from processes.
    pub(super) fn per_thread(&self, id: GlobalId) -> bool {
        self.context == crate::builder::Context::Process
            && matches!(
                self.state.storage(id).class,
                Class::Counter | Class::Sharded
            )
    }
}
