//! What the compilation of all handlers of a session has in common.

use crate::builder::Context;
use crate::error::{CodegenError, LinkError};
use crate::layout::{self, ArenaLayout};
use crate::limits::Limits;
use crate::lower::{self, Subject};
use crate::nesting::Nesting;
use crate::resolve::{self, Answers};
use crate::saved::SavedLayout;
use crate::storage::{self, Class, Shape, Storage};
use crate::walk::{self, Visitor};
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::{FinalizedRelocTarget, binemit::Reloc};
use cranelift_frontend::FunctionBuilderContext;
use script::ast::SortKey;
use script::format::Format;
use script::ir::{Body, Expr, ExprKind, Foreach, FunctionId, GlobalId, Program, Type};
use script::span::Span;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Something that code refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Symbol {
    /// A function of the run time.
    Runtime(&'static str),
    /// The process's tables for walking stacks (`runtime::stack::table::Directory`).
    StackTables,
    /// Another unit.
    Unit(usize),
}

/// A place in code to be filled with an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relocation {
    pub offset: u32,
    /// Relative to the place (4 bytes), else absolute (8 bytes).
    pub relative: bool,
    pub symbol: Symbol,
    pub addend: i64,
}

/// Machine code, and the places in it to be filled.
#[derive(Debug)]
pub(crate) struct Code {
    pub bytes: Vec<u8>,
    pub relocations: Vec<Relocation>,
}

/// One handler or script function. Machine code is made of it when it is first asked for, by whichever thread asks: of
/// what never runs there is none.
#[derive(Default)]
pub(crate) struct Unit {
    /// What is to be compiled, until it is.
    source: Mutex<Option<(Function, OwnedTargetIsa)>>,
    code: OnceLock<Result<Code, String>>,
    pub symbols: Vec<Symbol>,
    /// It calls anything.
    pub calls: bool,
    /// It calls script functions.
    pub calls_functions: bool,
    /// It can raise an error.
    pub raises: bool,
    /// It needs memory on the native stack.
    pub stack: bool,
    /// Registers of the program that it reads.
    pub reads: u16,
    /// General registers of the program that it changes.
    pub writes: u16,
    /// Vector registers of the program that it reads.
    pub reads_vectors: u16,
    /// Its intermediate representation as text, where that is kept.
    pub text: String,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unit")
            .field("symbols", &self.symbols)
            .finish_non_exhaustive()
    }
}

impl Unit {
    /// The machine code.
    pub fn code(&self) -> Result<&Code, LinkError> {
        self.code_by(None)
    }

    /// The machine code; if there is none yet, it is made by `other` compiler, if one is given.
    pub fn code_by(&self, other: Option<&dyn TargetIsa>) -> Result<&Code, LinkError> {
        let code = self.code.get_or_init(|| self.generate(other));
        code.as_ref().map_err(|why| LinkError::Code(why.clone()))
    }

    fn generate(&self, other: Option<&dyn TargetIsa>) -> Result<Code, String> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let (function, isa) = source.take().ok_or("there is nothing to compile")?;
        let mut context = cranelift_codegen::Context::for_function(function);
        let compiled = context
            .compile(other.unwrap_or(&*isa), &mut Default::default())
            .map_err(|e| format!("{:?}", e.inner))?;
        let bytes = compiled.buffer.data().to_vec();
        let mut relocations = Vec::new();
        for reloc in compiled.buffer.relocs().to_vec() {
            let relative = match reloc.kind {
                Reloc::Abs8 => false,
                Reloc::X86CallPCRel4 | Reloc::X86PCRel4 | Reloc::X86CallPLTRel4 => true,
                other => return Err(format!("relocation {other:?}")),
            };
            let FinalizedRelocTarget::ExternalName(cranelift_codegen::ir::ExternalName::User(name)) =
                &reloc.target
            else {
                return Err(format!("reference to {:?}", reloc.target));
            };
            let index = context.func.params.user_named_funcs()[*name].index;
            let symbol = self.symbols.get(index as usize);
            relocations.push(Relocation {
                offset: reloc.offset,
                relative,
                symbol: *symbol.ok_or("reference to an unknown symbol")?,
                addend: reloc.addend,
            });
        }
        Ok(Code { bytes, relocations })
    }

    pub fn symbol(&mut self, symbol: Symbol) -> u32 {
        self.symbols.push(symbol);
        self.symbols.len() as u32 - 1
    }
}

/// What sets apart code made from the same script function (or handler).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub context: Context,
    pub counting: bool,
    pub is_return: bool,
    /// Where values of the function's entry stand, for a return handler and its companion.
    pub saved: Option<Rc<SavedLayout>>,
    /// Only when there are target expressions.
    pub answers: Option<Rc<Answers>>,
}

/// Offsets of an array's keys and value in an entry, with their types.
pub(crate) struct EntryFields {
    pub keys: Vec<(i64, Type)>,
    pub value: Option<(i64, Type)>,
}

pub(crate) struct State<'p> {
    pub program: &'p Program,
    pub limits: Limits,
    pub nesting: Nesting,
    pub layout: ArenaLayout,
    pub storages: Vec<Storage>,
    pub isa: OwnedTargetIsa,
    pub units: Vec<Arc<Unit>>,
    /// Statement being compiled, for messages.
    pub current: Span,
    pub constants: Constants,
    pub locations: Vec<Span>,
    location_numbers: HashMap<Span, u32>,
    automata: HashMap<Vec<u8>, u64>,
    /// `matched()` or `ngroups()` is called somewhere.
    captures: bool,
    functions: HashMap<(FunctionId, Instance), usize>,
    queue: Vec<(usize, FunctionId, Instance)>,
    scratch: FunctionBuilderContext,
}

/// Bytes that handlers refer to, each stored once.
#[derive(Clone, Debug)]
pub(crate) struct Constants {
    pub bytes: Vec<u8>,
    base: u64,
    room: u64,
    known: HashMap<(Vec<u8>, u64), u64>,
}

impl Constants {
    pub fn new(base: u64, room: u64) -> Self {
        Constants {
            bytes: Vec::new(),
            base,
            room,
            known: HashMap::new(),
        }
    }

    /// Offset in the arena of these bytes; `None` when there is no room left.
    pub fn put(&mut self, bytes: &[u8], align: u64) -> Option<u64> {
        self.put_if_room(bytes, align, 0)
    }

    /// The same; `None`, too, when no more than `left` bytes would be left for others.
    pub fn put_if_room(&mut self, bytes: &[u8], align: u64, left: u64) -> Option<u64> {
        if let Some(&at) = self.known.get(&(bytes.to_vec(), align)) {
            return Some(at);
        }
        let start = (self.bytes.len() as u64).next_multiple_of(align);
        if start + bytes.len() as u64 + left > self.room {
            return None;
        }
        self.bytes.resize(start as usize, 0);
        self.bytes.extend_from_slice(bytes);
        let at = self.base + start;
        self.known.insert((bytes.to_vec(), align), at);
        Some(at)
    }
}

/// Whether the program asks for the groups of a match.
fn captures(program: &Program) -> bool {
    struct Search(bool);
    impl<'p> Visitor<'p> for Search {
        fn expr(&mut self, expr: &'p Expr, _used: bool) {
            if let ExprKind::Intrinsic(operation, _) = &expr.kind {
                self.0 |= matches!(operation.name, "matched" | "ngroups");
            }
            walk::walk_expr(self, expr);
        }
    }
    let mut search = Search(false);
    let functions = program.functions.iter().map(|f| &f.body);
    for body in functions.chain(program.probes.iter().map(|p| &p.body)) {
        walk::walk_stmts(&mut search, &body.stmts);
    }
    search.0
}

impl<'p> State<'p> {
    pub fn new(
        program: &'p Program,
        limits: Limits,
        nesting: Nesting,
        layout: ArenaLayout,
        storages: Vec<Storage>,
        constants: Constants,
        isa: OwnedTargetIsa,
    ) -> Self {
        State {
            program,
            limits,
            nesting,
            layout,
            storages,
            isa,
            units: Vec::new(),
            current: Span::default(),
            constants,
            locations: Vec::new(),
            location_numbers: HashMap::new(),
            automata: HashMap::new(),
            captures: captures(program),
            functions: HashMap::new(),
            queue: Vec::new(),
            scratch: FunctionBuilderContext::new(),
        }
    }

    /// A global's place. Numbers come from the front end, which made the list.
    pub fn storage(&self, id: GlobalId) -> &Storage {
        &self.storages[id.0 as usize]
    }

    pub fn is_string(&self, id: GlobalId) -> bool {
        self.storage(id).shape == Shape::Scalar(Type::String)
    }

    pub fn is_sharded(&self, id: GlobalId, context: Context) -> bool {
        context == Context::Process && self.storage(id).class == Class::Sharded
    }

    /// The number of a place in the script, for Error records.
    pub fn location(&mut self, span: Span) -> u32 {
        if let Some(&number) = self.location_numbers.get(&span) {
            return number;
        }
        self.locations.push(span);
        let number = self.locations.len() as u32;
        self.location_numbers.insert(span, number);
        number
    }

    pub fn constant(&mut self, bytes: &[u8], align: u64, span: Span) -> Result<u64, CodegenError> {
        self.constants
            .put(bytes, align)
            .ok_or_else(|| CodegenError {
                message: "too many constants".into(),
                span,
                whole: None,
            })
    }

    /// Offset of a regular expression's automaton. It finds groups only in programs that ask for them.
    pub fn automaton(&mut self, pattern: &[u8], span: Span) -> Result<u64, CodegenError> {
        let key = pattern.to_vec();
        if let Some(&at) = self.automata.get(&key) {
            return Ok(at);
        }
        let automaton =
            script::regex::compile(pattern, self.captures).map_err(|e| CodegenError {
                message: e.to_string(),
                span,
                whole: None,
            })?;
        let bytes: Vec<u8> = automaton
            .words()
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect();
        let at = self.constant(&bytes, 8, span)?;
        self.automata.insert(key, at);
        Ok(at)
    }

    /// Offset of an encoded format.
    pub fn format(&mut self, format: &Format, span: Span) -> Result<u64, CodegenError> {
        let bytes = crate::format::encode(format);
        self.constant(&bytes, 8, span)
    }

    pub fn sort(&self, foreach: &Foreach) -> u64 {
        let stat = matches!(
            self.storage(foreach.map).shape,
            Shape::Map { value: None, .. }
        );
        let order: Option<&(SortKey, _)> = foreach.sort.as_ref();
        storage::sort(order, stat)
    }

    pub fn entry_fields(&self, id: GlobalId) -> EntryFields {
        let mut fields = EntryFields {
            keys: Vec::new(),
            value: None,
        };
        let global = &self.program.globals[id.0 as usize];
        if let Shape::Map { keys, value } = &self.storage(id).shape {
            let kinds = layout::key_kinds(keys);
            if let Some(spec) = layout::map_spec(global, &kinds, 0, &self.limits) {
                let layout = runtime::map::MapLayout::new(&spec);
                fields.keys = keys
                    .iter()
                    .zip(layout.key_offsets)
                    .map(|(ty, offset)| (i64::from(offset), *ty))
                    .collect();
                fields.value = value.map(|ty| (i64::from(layout.value_offset), ty));
            }
        }
        fields
    }

    /// The number of a script function's unit, which is compiled with the others that the handler needs.
    pub fn function_unit(
        &mut self,
        id: FunctionId,
        context: Context,
        counting: bool,
        answers: &Rc<Answers>,
        is_return: bool,
    ) -> usize {
        let instance = Instance {
            context,
            counting,
            is_return,
            saved: None,
            answers: (!answers.is_empty()).then(|| answers.clone()),
        };
        if let Some(&unit) = self.functions.get(&(id, instance.clone())) {
            return unit;
        }
        let unit = self.units.len();
        self.units.push(Arc::default());
        self.functions.insert((id, instance.clone()), unit);
        self.queue.push((unit, id, instance));
        unit
    }

    /// Compiles a handler and the functions that it needs; the number of its unit.
    pub fn compile_handler(
        &mut self,
        body: &'p Body,
        subject: Subject<'p>,
        instance: Instance,
    ) -> Result<usize, CodegenError> {
        let units = self.units.len();
        let number = units;
        self.units.push(Arc::default());
        let result = self.compile_all(number, body, subject, instance);
        if result.is_err() {
            // Nothing half-made stays behind.
            self.units.truncate(units);
            self.functions.retain(|_, unit| *unit < units);
            self.queue.clear();
        }
        result.map(|()| number)
    }

    fn compile_all(
        &mut self,
        number: usize,
        body: &'p Body,
        subject: Subject<'p>,
        instance: Instance,
    ) -> Result<(), CodegenError> {
        self.units[number] = Arc::new(self.unit(body, subject, instance)?);
        while let Some((number, id, instance)) = self.queue.pop() {
            if let Some(function) = resolve::function(self.program, id) {
                let subject = Subject::Function(function);
                self.units[number] = Arc::new(self.unit(&function.body, subject, instance)?);
            }
        }
        Ok(())
    }

    fn unit(
        &mut self,
        body: &'p Body,
        subject: Subject<'p>,
        instance: Instance,
    ) -> Result<Unit, CodegenError> {
        let mut func = Function::new();
        let mut scratch = std::mem::take(&mut self.scratch);
        let lowered = lower::lower(self, &mut func, &mut scratch, body, subject, instance);
        // After an error the scratch memory is in the middle of a function and isn't used again.
        let mut unit = lowered?;
        self.scratch = scratch;
        if self.limits.keep_text {
            unit.text = func.display().to_string();
        }
        unit.source = Mutex::new(Some((func, self.isa.clone())));
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_leave_room_for_constants_of_handlers() {
        let mut constants = Constants::new(0, 100);
        assert_eq!(constants.put_if_room(&[1; 60], 1, 40), Some(0));
        assert_eq!(constants.put_if_room(&[2; 10], 1, 40), None);
        // What is there already needs no room.
        assert_eq!(constants.put_if_room(&[1; 60], 1, 40), Some(0));
        assert_eq!(constants.put(&[2; 10], 1), Some(60));
    }
}
