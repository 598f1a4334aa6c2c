//! The compiler of one session: handlers are added as places to probe are found, also later on.

use crate::compiled::{Compiled, Handler, LocationInfo};
use crate::error::CodegenError;
use crate::isa::isa;
use crate::layout::{self, Needs};
use crate::limits::Limits;
use crate::lower::{Filter, Subject};
use crate::nesting::Nesting;
use crate::resolve::{self, Answers};
use crate::saved::{self, SavedExpr, SavedLayout, SavedPlace};
use crate::site::SiteText;
use crate::state::{Constants, Instance, State};
use crate::storage::{self, Class, Uses};
use crate::target::Resolver;
use crate::term::Term;
use crate::walk::{self, Visitor};
use crate::weight::weigh;
use cranelift_codegen::settings::OptLevel;
use runtime::layout::{Site, StrRef};
use script::ast::BinaryOp;
use script::ir::{
    Body, Expr, ExprKind, GlobalId, LValue, Program, Stmt, StmtKind, Target, TargetBase,
    TargetStep, Type,
};
use script::span::Span;
use std::collections::HashMap;
use std::rc::Rc;

/// Bytes of the constants' room that texts of sites leave to handlers compiled later.
const FOR_HANDLERS: u64 = 4 << 20;

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// In probed processes.
    Process,
    /// In the tracer: begin, end, error and timer probes.
    Tracer,
    /// In the tracer on behalf of a thread that was sampled, with its registers: `timer.profile` and `perf` probes.
    Sample,
}

impl Context {
    /// Whether handlers run in the tracer.
    pub fn in_tracer(self) -> bool {
        self != Context::Process
    }

    /// Whether handlers see a thread's registers.
    pub fn has_registers(self) -> bool {
        self != Context::Tracer
    }
}

/// Number of a compiled handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerId(pub u32);

/// What makes a handler differ from others.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    probe: usize,
    /// Address of the condition.
    condition: usize,
    context: Context,
    is_return: bool,
    return_slot: Option<(u8, i64)>,
    guard: Option<Term>,
    answers: Rc<Answers>,
}

/// The compiler of one session. The arena's layout is fixed when it is made; handlers and sites may be added at any
/// time, and [`Builder::finish`] called again for what has been added (numbers and offsets stay).
pub struct Builder<'p> {
    state: State<'p>,
    known: HashMap<Key, HandlerId>,
    handlers: Vec<Handler>,
    sites: Vec<Site>,
    site_numbers: HashMap<SiteText, u32>,
    is_full: bool,
    saved_values: u64,
    bad_variables: Vec<Span>,
    further_errors: Vec<CodegenError>,
}

impl<'p> Builder<'p> {
    /// A compiler for `program`; `contexts` says for each probe where its points run (both, for a probe whose points
    /// are of both kinds; empty for one that nothing matched).
    pub fn new(program: &'p Program, limits: &Limits, contexts: &[Vec<Context>]) -> Self {
        let nesting = Nesting::new(program, limits.max_nesting);
        let fixed = layout::fixed(limits);
        let mut constants = Constants::new(fixed.constants, fixed.constants_size);
        let shapes: Vec<u64> = program
            .globals
            .iter()
            .map(|global| {
                let shape = layout::statistic(&global.ty)
                    .and_then(|(needs, hist)| layout::stat_shape(needs, hist).0);
                shape
                    .map(|s| runtime::layout::StatShape {
                        width: limits.histogram_width,
                        elision: limits.histogram_elision,
                        ..s
                    })
                    .and_then(|s| constants.put(&shape_bytes(&s), 8))
                    .unwrap_or(0)
            })
            .collect();
        let classes = storage::classify(program, contexts);
        let needs = needs(program, limits, nesting.limit);
        let (layout, storages) = layout::plan(program, limits, &classes, &shapes, needs);
        Builder {
            state: State::new(
                program,
                limits.clone(),
                nesting,
                layout,
                storages,
                constants,
                isa(OptLevel::Speed),
            ),
            known: HashMap::new(),
            handlers: Vec::new(),
            sites: Vec::new(),
            site_numbers: HashMap::new(),
            is_full: false,
            saved_values: 0,
            bad_variables: Vec::new(),
            further_errors: Vec::new(),
        }
    }

    /// The variables that were taken for 0 since this was asked last (`--skip-badvars`).
    pub fn bad_variables(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.bad_variables)
    }

    /// The errors behind the one that [`Builder::handler`] gave last: of further expressions of that handler.
    pub fn further_errors(&mut self) -> Vec<CodegenError> {
        std::mem::take(&mut self.further_errors)
    }

    /// Whether sites were added whose texts, or numbers of their own, there was no room for.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Compiles the handler of `program.probes[probe]` with the condition of its `point`-th point, for `context`.
    /// Gives the number of an earlier handler when all is the same.
    pub fn handler(
        &mut self,
        probe: usize,
        point: usize,
        context: Context,
        resolver: &dyn Resolver,
    ) -> Result<HandlerId, CodegenError> {
        let program = self.state.program;
        let Some(probe_ir) = program.probes.get(probe) else {
            return Err(CodegenError {
                message: format!("no probe number {probe}"),
                span: Default::default(),
                whole: None,
            });
        };
        let point = probe_ir.points.get(point);
        let condition = point.and_then(|p| p.condition.as_ref());
        let is_return =
            point.is_some_and(|p| p.point.components.iter().any(|c| c.name.text == "return"));
        let reach = resolve::resolve(
            program,
            &probe_ir.body,
            condition,
            resolver,
            self.state.limits.skip_badvars,
        )
        .map_err(|errors| {
            let mut errors = errors.into_iter();
            let first = errors.next();
            self.further_errors = errors.collect();
            first.unwrap_or_else(|| CodegenError {
                message: format!("no probe number {probe}"),
                span: Default::default(),
                whole: None,
            })
        })?;
        self.bad_variables.extend(reach.bad);
        let answers = Rc::new(reach.answers);
        let mut guard = resolver.guard().map_err(|message| CodegenError {
            message,
            span: point.map_or_else(Default::default, |p| p.point.span),
            whole: None,
        })?;
        let key = Key {
            probe,
            condition: condition.map_or(0, |c| std::ptr::from_ref(c).addr()),
            context,
            is_return,
            return_slot: resolver.return_slot().filter(|_| is_return),
            guard: guard.clone(),
            answers: answers.clone(),
        };
        if let Some(&id) = self.known.get(&key) {
            return Ok(id);
        }
        let body = &probe_ir.body;
        let mut saved = None;
        let mut companion = None;
        if is_return && context == Context::Process {
            for id in &reach.functions {
                let called = resolve::function(program, *id);
                if let Some(span) = called.and_then(|f| saved::entry_value(&f.body, &answers)) {
                    return Err(CodegenError {
                        message: "a function called from a .return probe cannot name variables of the probed function: pass them as arguments".into(),
                        span,
 whole: None,
 });
                }
            }
            let string = self.state.limits.max_string;
            let (values, layout) = saved::collect(body, &answers, string);
            // Who called is told at the entry, too: there is a record of those calls alone that are meant.
            if !values.is_empty() || guard.is_some() {
                let layout = Rc::new(layout);
                self.saved_values = self.saved_values.max(u64::from(layout.size)).max(8);
                saved = Some(layout);
                let guard = guard.take();
                companion = Some(self.companion(body, guard, values, &answers, resolver)?);
            }
        }
        let filter = Filter { condition, guard };
        let handler = self.compile(body, filter, context, is_return, answers, saved)?;
        let handler = Handler {
            companion,
            ..handler
        };
        let id = HandlerId(self.handlers.len() as u32);
        self.handlers.push(handler);
        self.known.insert(key, id);
        Ok(id)
    }

    /// Compiles what is to run at a function's entry for a return handler.
    fn companion(
        &mut self,
        body: &'p Body,
        guard: Option<Term>,
        values: Vec<(SavedExpr<'p>, SavedPlace)>,
        answers: &Rc<Answers>,
        resolver: &dyn Resolver,
    ) -> Result<HandlerId, CodegenError> {
        let span = match values.first() {
            Some((SavedExpr::Entry(e), _)) => e.span,
            Some((SavedExpr::Target(t), _)) => t.span,
            None => Default::default(),
        };
        let Some(return_slot) = resolver.return_slot() else {
            return Err(CodegenError {
                message: CodegenError::NO_ENTRY_VALUES.into(),
                span,
                whole: None,
            });
        };
        let mut uses = Uses::new(self.state.program);
        for (value, _) in &values {
            match value {
                SavedExpr::Entry(e) => uses.expr(e, true),
                SavedExpr::Target(t) => uses.target(t),
            }
        }
        let (used, locks) = self.locks(uses);
        let instance = Instance {
            context: Context::Process,
            counting: true,
            is_return: false,
            saved: None,
            answers: Some(answers.clone()),
        };
        let subject = Subject::Companion {
            guard,
            values,
            return_slot,
            locks,
        };
        let unit = self.state.compile_handler(body, subject, instance)?;
        let id = HandlerId(self.handlers.len() as u32);
        self.handlers.push(Handler {
            context: Context::Process,
            unit,
            counters: None,
            companion: None,
            uses: used,
        });
        Ok(id)
    }

    /// The globals in use, and the locks of those that are shared.
    fn locks(&self, uses: Uses<'_>) -> (Vec<GlobalId>, Vec<u64>) {
        let mut used: Vec<_> = uses.all.into_iter().collect();
        used.sort();
        let locks = used
            .iter()
            .map(|id| self.state.storage(*id))
            .filter(|s| s.class == Class::Shared)
            .map(|s| s.lock)
            .collect();
        (used, locks)
    }

    fn compile(
        &mut self,
        body: &'p Body,
        filter: Filter<'p>,
        context: Context,
        is_return: bool,
        answers: Rc<Answers>,
        saved: Option<Rc<SavedLayout>>,
    ) -> Result<Handler, CodegenError> {
        let program = self.state.program;
        let mut uses = Uses::new(program);
        if let Some(condition) = filter.condition {
            uses.expr(condition, true);
        }
        walk::walk_stmts(&mut uses, &body.stmts);
        let (used, locks) = self.locks(uses);
        let most = match context {
            Context::Process => self.state.limits.max_action,
            Context::Tracer | Context::Sample => self.state.limits.max_action_interruptible,
        };
        let counting = weigh(program, body).is_none_or(|w| w > u64::from(most));
        // A return handler with a record runs for the calls that have one.
        let countable = context == Context::Process && filter.is_empty() && saved.is_none();
        let counters = match countable && !self.state.limits.timing {
            true => self.counters(body),
            false => None,
        };
        let instance = Instance {
            context,
            counting,
            is_return,
            saved,
            answers: Some(answers),
        };
        let subject = Subject::Handler { filter, locks };
        let unit = self.state.compile_handler(body, subject, instance)?;
        Ok(Handler {
            context,
            unit,
            counters,
            companion: None,
            uses: used,
        })
    }

    /// The words and amounts of a body that only adds constants to numbers kept per thread.
    fn counters(&self, body: &Body) -> Option<Vec<(u64, i64)>> {
        let mut counters = Vec::new();
        let mut rest: Vec<&Stmt> = body.stmts.iter().rev().collect();
        while let Some(stmt) = rest.pop() {
            let (target, amount) = match &stmt.kind {
                StmtKind::Block(stmts) => {
                    rest.extend(stmts.iter().rev());
                    continue;
                }
                StmtKind::Expr(e) => match &e.kind {
                    ExprKind::Step { target, amount, .. } => (target, *amount),
                    ExprKind::AssignOp(op @ (BinaryOp::Add | BinaryOp::Sub), target, e) => {
                        let ExprKind::Long(n) = e.kind else {
                            return None;
                        };
                        (
                            target,
                            if *op == BinaryOp::Add {
                                n
                            } else {
                                n.wrapping_neg()
                            },
                        )
                    }
                    _ => return None,
                },
                _ => return None,
            };
            let LValue::Global(id) = target else {
                return None;
            };
            let storage = self.state.storage(*id);
            if storage.class != Class::Counter || counters.len() == 4 {
                return None;
            }
            counters.push((storage.cells, amount));
        }
        (!counters.is_empty()).then_some(counters)
    }

    /// Numbers a probed place. Places with the same texts have the same number.
    pub fn site(&mut self, text: SiteText) -> u32 {
        if let Some(&number) = self.site_numbers.get(&text) {
            return number;
        }
        if self.sites.len() as u32 >= self.state.layout.site_capacity {
            // More places than numbers: the last one's texts have to do.
            self.is_full = true;
            return self.sites.len() as u32 - 1;
        }
        let site = Site {
            pp: self.text(&text.pp),
            pn: self.text(&text.pn),
            function: self.text(&text.function),
            module: self.text(&text.module),
            mark: self.text(&text.mark),
            provider: self.text(&text.provider),
            kind: self.text(&text.kind),
        };
        let number = self.sites.len() as u32;
        self.sites.push(site);
        self.site_numbers.insert(text, number);
        number
    }

    fn text(&mut self, text: &str) -> StrRef {
        let most = self.state.limits.max_string as usize - 1;
        let bytes = &text.as_bytes()[..text.len().min(most)];
        match self.state.constants.put_if_room(bytes, 1, FOR_HANDLERS) {
            Some(offset) if !bytes.is_empty() => StrRef {
                offset: offset as u32,
                len: bytes.len() as u32,
            },
            None => {
                self.is_full = true;
                StrRef::default()
            }
            Some(_) => StrRef::default(),
        }
    }

    /// Everything added so far.
    pub fn finish(&self) -> Compiled {
        let state = &self.state;
        Compiled {
            layout: state.layout.clone(),
            limits: state.limits.clone(),
            locations: state
                .locations
                .iter()
                .map(|&span| LocationInfo { span })
                .collect(),
            units: state.units.clone(),
            handlers: self.handlers.clone(),
            constants: state.constants.bytes.clone(),
            sites: self.sites.clone(),
            globals: state.program.globals.clone(),
            storages: state.storages.clone(),
            saved_values: self.saved_values,
        }
    }
}

fn shape_bytes(shape: &runtime::layout::StatShape) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<runtime::layout::StatShape>());
    bytes.extend(shape.hist.to_le_bytes());
    bytes.extend(shape.buckets.to_le_bytes());
    bytes.extend(shape.low.to_le_bytes());
    bytes.extend(shape.high.to_le_bytes());
    bytes.extend(shape.step.to_le_bytes());
    bytes.extend(shape.shift.to_le_bytes());
    bytes.extend(shape.variance.to_le_bytes());
    bytes.extend(shape.width.to_le_bytes());
    bytes.extend(shape.elision.to_le_bytes());
    bytes
}

/// Bounds of what the program needs in a slot.
fn needs(program: &Program, limits: &Limits, nesting: u32) -> Needs {
    struct Count<'p> {
        program: &'p Program,
        limits: &'p Limits,
        strings: u64,
        iteration: u64,
    }
    impl<'p> Visitor<'p> for Count<'p> {
        fn stmt(&mut self, stmt: &'p Stmt) {
            match &stmt.kind {
                StmtKind::Foreach(f) => {
                    let global = self.program.globals.get(f.map.0 as usize);
                    self.iteration += layout::iteration(global, self.limits);
                }
                StmtKind::ForeachBucket { .. } => {
                    self.iteration += layout::iteration(None, self.limits)
                }
                _ => {}
            }
            walk::walk_stmt(self, stmt);
        }
        fn expr(&mut self, expr: &'p Expr, _used: bool) {
            if let ExprKind::Target(target) = &expr.kind {
                self.strings += pretty_strings(target);
            }
            if expr.ty == Type::String {
                // The value, a settled copy, and a place in an argument block.
                self.strings += 3;
            }
            walk::walk_expr(self, expr);
        }
    }
    /// Texts within a text are told by types, which are not looked at yet: as many as one printing takes arguments, and for all
    /// variables several times that.
    fn pretty_strings(target: &Target) -> u64 {
        const ARGUMENTS: u64 = 32;
        const VARIABLES: u64 = 16;
        let is_pretty = |step: &TargetStep| matches!(step, TargetStep::Pretty(_));
        if !target.steps.iter().any(is_pretty) {
            return 0;
        }
        match &target.base {
            TargetBase::Variable(name) if name.starts_with("$$") => VARIABLES * ARGUMENTS,
            _ => ARGUMENTS,
        }
    }
    let count = |bodies: &mut dyn Iterator<Item = &Body>| {
        let (mut most, mut iteration) = (0, 0);
        for body in bodies {
            let mut count = Count {
                program,
                limits,
                strings: body.locals.iter().filter(|l| l.ty == Type::String).count() as u64,
                iteration: 0,
            };
            walk::walk_stmts(&mut count, &body.stmts);
            most = most.max(count.strings);
            iteration += count.iteration;
        }
        (most, iteration)
    };
    let (handler, own) = count(&mut program.probes.iter().map(|p| &p.body));
    let (function, called) = count(&mut program.functions.iter().map(|f| &f.body));
    Needs {
        buffers: handler + function * u64::from(nesting),
        iteration: (own + 2 * called).min(64 << 20),
    }
}
