//! From the typed program to Cranelift's intermediate language: one Cranelift function per handler and per called
//! script function.
//!
//! A string is an address and a length. What a string expression computes lies in a buffer of the activation's frame
//! on the slot's string stack: one per local variable, and temporaries that live as long as their statement.

mod call;
mod expr;
mod map;
mod operation;
mod print;
mod saved;
mod stat;
mod stmt;
mod string;
mod term;
mod variable;

use crate::builder::Context;
use crate::error::CodegenError;
use crate::resolve::Answers;
use crate::saved::{SavedExpr, SavedLayout, SavedPlace};
use crate::state::{Instance, State, Symbol, Unit};
use crate::term::Term;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, Block, ExtFuncData, ExternalName, FuncRef, InstBuilder, MemFlagsData, Signature,
    StackSlot, StackSlotData, StackSlotKind, UserExternalName, UserFuncName, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use runtime::layout::Slot;
use script::ir::{Body, Expr, Local, LocalId, Type};
use script::span::Span;
use std::collections::HashMap;
use std::mem::offset_of;
use std::rc::Rc;
use term::Operands;

pub use saved::FRAME_TABLE;

/// A value in registers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Val {
    Long(Value),
    Str(Value, Value),
    Unit,
}

/// Where a local variable is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Long(Variable),
    /// Address, length, and the number of its own buffer.
    Str(Variable, Variable, u32),
    /// A parameter of a function compiled in place.
    Bound(Val),
}

/// A loop being compiled.
#[derive(Clone, Copy)]
struct Loop {
    exit: Block,
    next: Block,
    iterations: usize,
}

/// What must hold for a handler to run.
pub(crate) struct Filter<'p> {
    /// The condition of its point.
    pub condition: Option<&'p Expr>,
    /// See [`crate::Resolver::guard`].
    pub guard: Option<Term>,
}

impl Filter<'_> {
    pub fn is_empty(&self) -> bool {
        self.condition.is_none() && self.guard.is_none()
    }
}

/// What is compiled.
pub(crate) enum Subject<'p> {
    /// A probe's handler, with what keeps it from running and the locks it takes (offsets, in order).
    Handler { filter: Filter<'p>, locks: Vec<u64> },
    /// What runs at a function's entry for a return handler: what keeps that from running ([`crate::Resolver::guard`]), the
    /// values to save, and where the return address stands (a register and what to add).
    Companion {
        guard: Option<Term>,
        values: Vec<(SavedExpr<'p>, SavedPlace)>,
        return_slot: (u8, i64),
        locks: Vec<u64>,
    },
    /// A script function.
    Function(&'p script::ir::Function),
}

pub(crate) struct Lower<'a, 'p> {
    b: FunctionBuilder<'a>,
    state: &'a mut State<'p>,
    context: Context,
    answers: Rc<Answers>,
    counting: bool,
    is_return: bool,
    /// Where values of the entry stand, in a return handler.
    saved: Option<Rc<SavedLayout>>,
    /// Address of the record with them.
    record: Option<Variable>,
    /// When the handler began, if that is asked for.
    started: Option<Variable>,
    arena: Value,
    slot: Value,
    frame: Value,
    site: Value,
    /// First byte of the activation's buffers.
    base: Variable,
    scopes: Vec<Vec<Place>>,
    buffers: u32,
    most_buffers: u32,
    error: Block,
    /// Where `return`, `next` and the end of the body lead.
    leave: Block,
    result: Option<Result_>,
    function: Option<&'p script::ir::Function>,
    params: Vec<Val>,
    loops: Vec<Loop>,
    /// Running `foreach` iterations, outermost first.
    iterations: Vec<Variable>,
    pending_actions: u32,
    imports: HashMap<Symbol, FuncRef>,
    unit: Unit,
    /// Functions being compiled in place, outermost first.
    inlining: Vec<script::ir::FunctionId>,
    /// Calls compiled in place so far.
    inlined: u32,
}

/// Where a function's result goes.
#[derive(Clone, Copy)]
enum Result_ {
    Long(Variable),
    /// The caller's buffer, and the length.
    Str(Value, Variable),
}

/// Number of rsp.
const RSP: u8 = 4;

pub(crate) fn flags() -> MemFlagsData {
    MemFlagsData::trusted()
}

/// The signature of a script function; strings are two words, a string result is a buffer's address as the last
/// parameter and the length as the result.
pub(crate) fn signature(function: Option<&script::ir::Function>) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    let word = AbiParam::new(types::I64);
    signature.params.extend([word, word, word, word]);
    if let Some(function) = function {
        for local in function.body.locals.iter().take(function.params as usize) {
            signature.params.push(word);
            if local.ty == Type::String {
                signature.params.push(word);
            }
        }
        match function.result {
            Type::Long => signature.returns.push(word),
            Type::String => {
                signature.params.push(word);
                signature.returns.push(word);
            }
            Type::Unit => {}
        }
    }
    signature
}

/// Compiles a body to Cranelift's language and leaves it in `func`; the returned unit has everything but code.
#[allow(clippy::too_many_arguments)]
pub(crate) fn lower<'p>(
    state: &mut State<'p>,
    func: &mut cranelift_codegen::ir::Function,
    scratch: &mut FunctionBuilderContext,
    body: &'p Body,
    subject: Subject<'p>,
    instance: Instance,
) -> Result<Unit, CodegenError> {
    let function = match subject {
        Subject::Function(f) => Some(f),
        Subject::Handler { .. } | Subject::Companion { .. } => None,
    };
    func.signature = signature(function);
    func.name = UserFuncName::default();
    let frontend = state.isa.frontend_config();
    let mut b = FunctionBuilder::new(func, scratch);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    let params: Vec<Value> = b.block_params(entry).to_vec();
    // What the entry does is known only at the end; it stands in a block of its own.
    let setup = b.create_block();
    b.switch_to_block(entry);
    b.ins().jump(setup, &[]);
    let start = b.create_block();
    let error = b.create_block();
    let leave = b.create_block();
    let base = b.declare_var(types::I64);
    let mut l = Lower {
        b,
        state,
        context: instance.context,
        answers: instance.answers.clone().unwrap_or_default(),
        counting: instance.counting,
        is_return: instance.is_return,
        saved: instance.saved.clone(),
        record: None,
        started: None,
        arena: params[0],
        slot: params[1],
        frame: params[2],
        site: params[3],
        base,
        scopes: vec![Vec::new()],
        buffers: 0,
        most_buffers: 0,
        error,
        leave,
        result: None,
        function,
        params: Vec::new(),
        loops: Vec::new(),
        iterations: Vec::new(),
        pending_actions: 0,
        imports: HashMap::new(),
        unit: Unit::default(),
        inlining: Vec::new(),
        inlined: 0,
    };
    l.b.switch_to_block(start);
    l.locals(body, function, &params);
    match subject {
        Subject::Handler { filter, locks } => l.handler(body, &filter, &locks, setup, start)?,
        Subject::Companion {
            guard,
            values,
            return_slot,
            locks,
        } => {
            l.guard(guard.as_ref());
            l.companion(&values, return_slot)?;
            l.end_of_handler(&locks, setup, start);
        }
        Subject::Function(_) => l.function_body(body, setup, start)?,
    }
    l.b.seal_all_blocks();
    let unit = std::mem::take(&mut l.unit);
    l.b.finalize(frontend);
    Ok(unit)
}

impl<'p> Lower<'_, 'p> {
    fn locals(&mut self, body: &Body, function: Option<&script::ir::Function>, params: &[Value]) {
        let mut rest = params[4..].iter().copied();
        let count = function.map_or(0, |f| f.params as usize);
        for (index, local) in body.locals.iter().enumerate() {
            let place = self.declare(local);
            if index < count {
                let value = match local.ty {
                    Type::String => match (rest.next(), rest.next()) {
                        (Some(address), Some(len)) => Val::Str(address, len),
                        _ => Val::Unit,
                    },
                    _ => rest.next().map_or(Val::Unit, Val::Long),
                };
                self.params.push(value);
                match (place, value) {
                    (Place::Long(v), Val::Long(x)) => self.b.def_var(v, x),
                    (Place::Str(a, n, _), Val::Str(address, len)) => {
                        self.b.def_var(a, address);
                        self.b.def_var(n, len);
                    }
                    _ => {}
                }
            } else {
                let zero = self.number(0);
                match place {
                    Place::Long(v) => self.b.def_var(v, zero),
                    Place::Str(a, n, _) => {
                        self.b.def_var(a, zero);
                        self.b.def_var(n, zero);
                    }
                    Place::Bound(_) => {}
                }
            }
        }
        if let Some(function) = function {
            self.result = match function.result {
                Type::Long => {
                    let v = self.b.declare_var(types::I64);
                    let zero = self.number(0);
                    self.b.def_var(v, zero);
                    Some(Result_::Long(v))
                }
                Type::String => {
                    let v = self.b.declare_var(types::I64);
                    let zero = self.number(0);
                    self.b.def_var(v, zero);
                    rest.next().map(|dst| Result_::Str(dst, v))
                }
                Type::Unit => None,
            };
        }
    }

    fn declare(&mut self, local: &Local) -> Place {
        let place = match local.ty {
            Type::String => {
                let address = self.b.declare_var(types::I64);
                let len = self.b.declare_var(types::I64);
                Place::Str(address, len, self.reserve_buffer())
            }
            _ => Place::Long(self.b.declare_var(types::I64)),
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(place);
        }
        place
    }

    /// Leaves unless the number is not 0.
    fn guard(&mut self, guard: Option<&Term>) {
        let Some(guard) = guard else {
            return;
        };
        let value = self.term(guard, &Operands::default(), Default::default());
        let (yes, leave) = (self.b.create_block(), self.leave);
        self.b.ins().brif(value, yes, &[], leave, &[]);
        self.b.switch_to_block(yes);
    }

    fn handler(
        &mut self,
        body: &'p Body,
        filter: &Filter<'p>,
        locks: &[u64],
        setup: Block,
        start: Block,
    ) -> Result<(), CodegenError> {
        if self.state.layout.timings != 0 {
            self.started = Some(self.b.declare_var(types::I64));
        }
        if self.saved.is_some() {
            self.find_record();
        }
        self.guard(filter.guard.as_ref());
        if let Some(condition) = filter.condition {
            let yes = self.b.create_block();
            let leave = self.leave;
            self.branch(condition, yes, leave)?;
            self.b.switch_to_block(yes);
        }
        self.stmts(&body.stmts)?;
        self.flush_actions();
        self.end_of_handler(locks, setup, start);
        Ok(())
    }

    /// What follows a handler's statements, and what precedes them.
    fn end_of_handler(&mut self, locks: &[u64], setup: Block, start: Block) {
        let (leave, error) = (self.leave, self.error);
        self.b.ins().jump(leave, &[]);

        self.b.set_cold_block(error);
        self.b.switch_to_block(error);
        let site = self.site;
        let (arena, slot) = (self.arena, self.slot);
        if self.unit.raises {
            self.call("handler_error", &[arena, slot, site]);
        }
        self.b.ins().jump(leave, &[]);

        self.b.switch_to_block(leave);
        self.drop_record();
        for &lock in locks.iter().rev() {
            let lock = self.number(lock as i64);
            self.call("lock_release", &[arena, slot, lock]);
        }
        if let Some(started) = self.started {
            let timings = self.number(self.state.layout.timings as i64);
            let started = self.b.use_var(started);
            self.call("handler_timed", &[arena, timings, site, started]);
        }
        self.b.ins().return_(&[]);

        self.b.switch_to_block(setup);
        if let Some(started) = self.started {
            let now = self.call("get_cycles", &[]);
            self.b.def_var(started, now[0]);
        }
        let string_stack = self.state.layout.string_stack as i64;
        let base = self.b.ins().iadd_imm_s(slot, string_stack);
        let base_var = self.base;
        self.b.def_var(base_var, base);
        if self.unit.calls {
            let top = self.number32(string_stack + self.frame_size());
            self.b
                .ins()
                .store(flags(), top, slot, offset_of!(Slot, string_top) as i32);
            let zero = self.number32(0);
            self.b
                .ins()
                .store(flags(), zero, slot, offset_of!(Slot, copied_len) as i32);
            if self.unit.calls_functions {
                self.b
                    .ins()
                    .store(flags(), zero, slot, offset_of!(Slot, nesting) as i32);
            }
        }
        if self.counting {
            let most = match self.context {
                Context::Process => self.state.limits.max_action,
                Context::Tracer | Context::Sample => self.state.limits.max_action_interruptible,
            };
            let most = self.number(i64::from(most));
            self.b
                .ins()
                .store(flags(), most, slot, offset_of!(Slot, actions) as i32);
        }
        // A lock that can't be had: what is held goes back in the reverse order, the hit counts as skipped. Each lock has the
        // way out of the one before it behind its own, so that their code grows with their number.
        let mut held: Option<(u64, Block)> = None;
        for &lock in locks {
            let number = self.number(lock as i64);
            let got = self.call("lock_acquire", &[arena, slot, number]);
            let go_on = self.b.create_block();
            let give_up = self.b.create_block();
            self.b.set_cold_block(give_up);
            self.b.ins().brif(got[0], go_on, &[], give_up, &[]);
            self.b.switch_to_block(give_up);
            if let Some((lock, way_out)) = held {
                let lock = self.number(lock as i64);
                self.call("lock_release", &[arena, slot, lock]);
                self.b.ins().jump(way_out, &[]);
            } else {
                self.add_to_slot(offset_of!(Slot, skipped_locked) as i32, 1);
                self.b.ins().return_(&[]);
            }
            self.b.switch_to_block(go_on);
            held = Some((lock, give_up));
        }
        self.b.ins().jump(start, &[]);
    }

    fn function_body(
        &mut self,
        body: &'p Body,
        setup: Block,
        start: Block,
    ) -> Result<(), CodegenError> {
        let top = self.b.declare_var(types::I32);
        let depth = self.b.declare_var(types::I32);
        self.stmts(&body.stmts)?;
        self.flush_actions();
        let (leave, error) = (self.leave, self.error);
        self.b.ins().jump(leave, &[]);
        self.b.switch_to_block(error);
        self.b.ins().jump(leave, &[]);

        self.b.switch_to_block(leave);
        let slot = self.slot;
        let (top_value, depth_value) = (self.b.use_var(top), self.b.use_var(depth));
        self.b.ins().store(
            flags(),
            top_value,
            slot,
            offset_of!(Slot, string_top) as i32,
        );
        self.b
            .ins()
            .store(flags(), depth_value, slot, offset_of!(Slot, nesting) as i32);
        self.return_result();

        self.b.switch_to_block(setup);
        let top_value = self.b.ins().load(
            types::I32,
            flags(),
            slot,
            offset_of!(Slot, string_top) as i32,
        );
        let depth_value =
            self.b
                .ins()
                .load(types::I32, flags(), slot, offset_of!(Slot, nesting) as i32);
        self.b.def_var(top, top_value);
        self.b.def_var(depth, depth_value);
        let wide = self.b.ins().uextend(types::I64, top_value);
        let base = self.b.ins().iadd(slot, wide);
        let base_var = self.base;
        self.b.def_var(base_var, base);
        let too_deep = self.b.ins().icmp_imm_s(
            IntCC::UnsignedGreaterThanOrEqual,
            depth_value,
            i64::from(self.state.nesting.limit),
        );
        let span = self.function.map(|f| f.span).unwrap_or_default();
        self.raise_early(too_deep, "nesting", span);
        let deeper = self.b.ins().iadd_imm_s(depth_value, 1);
        let size = self.frame_size();
        let new_top = self.b.ins().iadd_imm_s(top_value, size);
        let end = (self.state.layout.string_stack + self.state.layout.string_stack_size) as i64;
        let full = self
            .b
            .ins()
            .icmp_imm_s(IntCC::UnsignedGreaterThan, new_top, end);
        self.raise_early(full, "string_stack", span);
        self.b
            .ins()
            .store(flags(), deeper, slot, offset_of!(Slot, nesting) as i32);
        self.b
            .ins()
            .store(flags(), new_top, slot, offset_of!(Slot, string_top) as i32);
        self.b.ins().jump(start, &[]);
        Ok(())
    }

    /// Returns from a function at its entry, before anything of its result is defined, with an error.
    fn raise_early(&mut self, condition: Value, which: &str, span: Span) {
        let bad = self.b.create_block();
        let good = self.b.create_block();
        self.b.set_cold_block(bad);
        self.b.ins().brif(condition, bad, &[], good, &[]);
        self.b.switch_to_block(bad);
        self.canned(which);
        self.store_location(span);
        let zero = self.number(0);
        let returns = usize::from(self.result.is_some());
        self.b.ins().return_(&[zero][..returns]);
        self.b.switch_to_block(good);
    }

    fn return_result(&mut self) {
        match self.result {
            Some(Result_::Long(v) | Result_::Str(_, v)) => {
                let v = self.b.use_var(v);
                self.b.ins().return_(&[v]);
            }
            None => {
                self.b.ins().return_(&[]);
            }
        }
    }

    fn frame_size(&self) -> i64 {
        i64::from(self.most_buffers) * self.buffer_size()
    }

    fn buffer_size(&self) -> i64 {
        i64::from(self.state.limits.max_string.next_multiple_of(8))
    }

    /// Longest content of a string.
    fn capacity(&mut self) -> Value {
        let cap = i64::from(self.state.limits.max_string) - 1;
        self.number(cap)
    }

    fn reserve_buffer(&mut self) -> u32 {
        let index = self.buffers;
        self.buffers += 1;
        self.most_buffers = self.most_buffers.max(self.buffers);
        index
    }

    fn buffer_address(&mut self, index: u32) -> Value {
        let base = self.b.use_var(self.base);
        let offset = i64::from(index) * self.buffer_size();
        self.b.ins().iadd_imm_s(base, offset)
    }

    /// A buffer that lives until the end of the statement.
    fn temporary(&mut self) -> Value {
        let index = self.reserve_buffer();
        self.buffer_address(index)
    }

    fn number(&mut self, n: i64) -> Value {
        self.b.ins().iconst(types::I64, n)
    }

    fn number32(&mut self, n: i64) -> Value {
        self.b.ins().iconst(types::I32, n)
    }

    /// Address of something in the arena.
    fn arena_at(&mut self, offset: u64) -> Value {
        let arena = self.arena;
        self.b.ins().iadd_imm_s(arena, offset as i64)
    }

    fn load_arena(&mut self, offset: u64) -> Value {
        let at = self.arena_at(offset);
        self.b.ins().load(types::I64, flags(), at, 0)
    }

    fn add_to_slot(&mut self, offset: i32, amount: i64) {
        let slot = self.slot;
        let old = self.b.ins().load(types::I64, flags(), slot, offset);
        let new = self.b.ins().iadd_imm_s(old, amount);
        self.b.ins().store(flags(), new, slot, offset);
    }

    fn import(&mut self, symbol: Symbol, signature: Signature, colocated: bool) -> FuncRef {
        if let Some(&f) = self.imports.get(&symbol) {
            return f;
        }
        let index = self.unit.symbol(symbol);
        let name = self
            .b
            .func
            .declare_imported_user_function(UserExternalName::new(0, index));
        let signature = self.b.import_signature(signature);
        let f = self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature,
            colocated,
            patchable: false,
        });
        self.imports.insert(symbol, f);
        f
    }

    /// Calls a function of the run time.
    fn call(&mut self, name: &'static str, args: &[Value]) -> Vec<Value> {
        let (params, results) =
            runtime::abi::find(name).map_or((args.len(), 0), |f| (f.params, f.results));
        debug_assert!(
            runtime::abi::find(name).is_some(),
            "no function {name} in the run time"
        );
        debug_assert_eq!(params, args.len(), "parameters of {name}");
        let mut signature = Signature::new(CallConv::SystemV);
        let word = AbiParam::new(types::I64);
        signature.params.extend(std::iter::repeat_n(word, params));
        signature.returns.extend(std::iter::repeat_n(word, results));
        let f = self.import(Symbol::Runtime(name), signature, false);
        self.unit.calls = true;
        let inst = self.b.ins().call(f, args);
        self.b.inst_results(inst).to_vec()
    }

    /// The address of the process's tables for walking stacks.
    fn stack_tables(&mut self) -> Value {
        let signature = Signature::new(CallConv::SystemV);
        let tables = self.import(Symbol::StackTables, signature, false);
        self.b.ins().func_addr(types::I64, tables)
    }

    /// Goes to the error target when the function called last has raised an error.
    fn check(&mut self, span: Span) {
        let number = self.state.location(span);
        self.check_at(number);
    }

    /// The same for an error that is told without a place, such as that of `error()`.
    fn check_without_place(&mut self) {
        self.check_at(0);
    }

    fn check_at(&mut self, location: u32) {
        self.unit.raises = true;
        let slot = self.slot;
        let error = self
            .b
            .ins()
            .load(types::I32, flags(), slot, offset_of!(Slot, error) as i32);
        let bad = self.b.create_block();
        let good = self.b.create_block();
        self.b.set_cold_block(bad);
        self.b.ins().brif(error, bad, &[], good, &[]);
        self.b.switch_to_block(bad);
        self.store_location_number(location);
        let target = self.error;
        self.b.ins().jump(target, &[]);
        self.b.switch_to_block(good);
    }

    /// As [`Lower::check`] after a script function, which has stored the place itself.
    fn check_call(&mut self) {
        self.unit.raises = true;
        let slot = self.slot;
        let error = self
            .b
            .ins()
            .load(types::I32, flags(), slot, offset_of!(Slot, error) as i32);
        let good = self.b.create_block();
        let target = self.error;
        self.b.ins().brif(error, target, &[], good, &[]);
        self.b.switch_to_block(good);
    }

    fn store_location(&mut self, span: Span) {
        let number = self.state.location(span);
        self.store_location_number(number);
    }

    /// Stores a number of [`State::location`](crate::state::State::location), or 0 for no place.
    fn store_location_number(&mut self, number: u32) {
        let number = self.number32(i64::from(number));
        let slot = self.slot;
        self.b.ins().store(
            flags(),
            number,
            slot,
            offset_of!(Slot, error_location) as i32,
        );
    }

    fn canned(&mut self, which: &str) {
        let which = self.number(crate::intrinsic::canned(which));
        let (arena, slot) = (self.arena, self.slot);
        self.unit.raises = true;
        self.call("raise_canned", &[arena, slot, which]);
    }

    /// Raises one of the run time's fixed errors when `condition` is true.
    fn raise_if(&mut self, condition: Value, which: &str, span: Span) {
        let bad = self.b.create_block();
        let good = self.b.create_block();
        self.b.set_cold_block(bad);
        self.b.ins().brif(condition, bad, &[], good, &[]);
        self.b.switch_to_block(bad);
        self.raise(which, span);
        self.b.switch_to_block(good);
    }

    /// Raises one of the run time's fixed errors, which ends the block.
    fn raise(&mut self, which: &str, span: Span) {
        self.canned(which);
        self.store_location(span);
        let target = self.error;
        self.b.ins().jump(target, &[]);
    }

    /// Counts the statements since the last call of this against MAXACTION.
    fn flush_actions(&mut self) {
        let count = std::mem::take(&mut self.pending_actions);
        if !self.counting || count == 0 {
            return;
        }
        let slot = self.slot;
        let offset = offset_of!(Slot, actions) as i32;
        let old = self.b.ins().load(types::I64, flags(), slot, offset);
        let new = self.b.ins().iadd_imm_s(old, -i64::from(count));
        self.b.ins().store(flags(), new, slot, offset);
        // The last of them is not to be had, as in stap.
        let over = self
            .b
            .ins()
            .icmp_imm_s(IntCC::SignedLessThanOrEqual, new, 0);
        let span = self.state.current;
        self.raise_if(over, "max_action", span);
    }

    fn stack_slot(&mut self, bytes: u32) -> StackSlot {
        self.b
            .create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3))
    }

    fn place(&self, id: LocalId) -> Option<Place> {
        self.scopes
            .last()
            .and_then(|s| s.get(id.0 as usize))
            .copied()
    }

    fn error<T>(&self, span: Span, message: impl Into<String>) -> Result<T, CodegenError> {
        Err(CodegenError {
            message: message.into(),
            span,
            whole: None,
        })
    }
}
