//! What a session is going to do: every probe point understood and resolved, every handler compiled. A plan grows
//! while the session runs: points are resolved in each further program and library that turns up.

use crate::message::{mention, semantic};
use crate::options::Options;
use crate::probe_point::{Kind, Program as ProgramName, spell};
use crate::programs::Files;
use crate::resolve::{Candidate, ResolveError, Scope, Site};
use crate::timing::Timed;
use crate::tracee::Placement;
use crate::variables::{Homes, ModuleResolver, NO_SCOPE, SharedInfo, SiteResolver};
use codegen::{Builder, CodegenError, Compiled, Context, HandlerId, SiteText};
use inject::FileIdentity;
use script::diagnostic::{Diagnostic, Severity};
use script::ir;
use script::span::{SourceMap, Span};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

mod points;

pub use points::{
    Extent, Point, extent, is_point_error, missing_of_elided, point_error, points, resolve_kind,
};
use points::{is_pattern, named, point_errors};

/// A handler that runs in the tracer.
#[derive(Clone, Debug)]
pub struct TracerProbe {
    /// When.
    pub kind: Kind,
    /// What.
    pub handler: HandlerId,
    /// Number of its site.
    pub number: u32,
}

/// What a probe point is looked up for: a process by number, and the program that it runs.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The process; 0 for a program that does not run.
    pub pid: i32,
    /// The program.
    pub program: &'a Candidate,
}

/// A point, a program's file, a module's file.
type PointKey = (usize, FileIdentity, FileIdentity);
/// A program's file, a module's file, the process where a point names it.
type ModuleKey = (FileIdentity, FileIdentity, Option<i32>);

/// A compiled session.
pub struct Plan<'p> {
    /// Code, constants and the arena's layout.
    pub compiled: Compiled,
    /// Handlers of the tracer, in the script's order.
    pub tracer: Vec<TracerProbe>,
    /// What the user should hear of.
    pub warnings: Vec<String>,
    /// The places whose handlers note how long they take.
    pub timed: Vec<Timed>,
    points: Vec<Point<'p>>,
    builder: Builder<'p>,
    files: Files,
    /// Where probes are from which others have types.
    homes: Homes,
    /// The program of `-c` or `-x`.
    target: Option<FileIdentity>,
    /// The names in `process("NAME")` that stand for shared libraries.
    libraries: HashSet<String>,
    /// Points behind a sufficient one (`!`) that was found.
    dropped: HashSet<usize>,
    found: HashMap<PointKey, Vec<Placement>>,
    modules: HashMap<ModuleKey, Arc<[Placement]>>,
    /// Handlers or sites were added since `compiled` was made.
    is_behind: bool,
    told_full: bool,
}

/// How many places an x86-64 processor can watch (SDM volume 3, debug registers).
const WATCHPOINTS: usize = 4;

/// Compiles the program for a target, or for none.
pub fn compile<'p>(
    program: &'p ir::Program,
    options: &Options,
    target: Option<&Arc<Scope>>,
) -> Result<Plan<'p>, Vec<Diagnostic>> {
    let points = points(program)?;
    let mut contexts = vec![Vec::new(); program.probes.len()];
    for point in &points {
        let context = if point.kind.is_in_process() {
            Context::Process
        } else if point.kind.is_sampled() {
            Context::Sample
        } else {
            Context::Tracer
        };
        if !contexts[point.probe].contains(&context) {
            contexts[point.probe].push(context);
        }
    }
    let builder = Builder::new(program, &options.limits, &contexts);
    let mut plan = Plan {
        compiled: builder.finish(),
        tracer: Vec::new(),
        warnings: Vec::new(),
        timed: Vec::new(),
        points: Vec::new(),
        builder,
        files: Files::default(),
        homes: Homes::default(),
        target: target.and_then(|t| Some(t.candidates.first()?.identity)),
        libraries: HashSet::new(),
        dropped: HashSet::new(),
        found: HashMap::new(),
        modules: HashMap::new(),
        is_behind: false,
        told_full: false,
    };
    let mut judgement = Judgement::new(program);
    plan.homes = homes(program, &points, target, &mut plan.files);
    for (index, point) in points.iter().enumerate() {
        plan.add(index, point, options, target, &mut judgement);
    }
    plan.libraries = points
        .iter()
        .filter_map(|point| point.kind.path())
        .filter(|name| plan.files.is_library(name))
        .map(String::from)
        .collect();
    let watched = points
        .iter()
        .filter(|point| matches!(point.kind, Kind::Data { .. }))
        .count();
    if watched > WATCHPOINTS {
        plan.warnings.push(format!(
            "too many hardware breakpoint probes requested for x86_64 ({watched} vs. {WATCHPOINTS})"
        ));
    }
    // A program of which only the first passes can make anything has no probes here.
    let any = !points.is_empty() || !program.elided.is_empty();
    let nothing =
        any && judgement.matched.is_empty() && points.iter().all(|p| p.kind.is_in_process());
    plan.points = points;
    let mut errors = judgement.errors;
    let elided = missing_of_elided(program, target, &mut plan.files)?;
    errors.extend(elided.into_iter().flat_map(|(_, told)| told));
    if nothing && errors.is_empty() {
        // Every point was one that may be missing.
        errors.push(Diagnostic::new(
            Severity::SemanticError,
            "no probes found",
            None,
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    for span in plan.builder.bad_variables() {
        let place = mention(&program.sources, span);
        let text = format!(
            "Bad $context variable being substituted with literal 0: {}",
            place.describe(&program.sources)
        );
        if !plan.warnings.contains(&text) {
            plan.warnings.push(text);
        }
    }
    plan.compiled = plan.builder.finish();
    plan.is_behind = false;
    Ok(plan)
}

/// A place of each probe that other probes have types from.
fn homes(
    program: &ir::Program,
    points: &[Point<'_>],
    target: Option<&Arc<Scope>>,
    files: &mut Files,
) -> Homes {
    let places = program.type_homes.iter().filter_map(|&probe| {
        let mut own = points.iter().filter(|point| point.probe == probe);
        own.find_map(|point| {
            // A point that is not found is told of where it is looked for.
            let sites = resolve_kind(&point.kind, &point.point.point, target, files).ok()?;
            let site = sites.into_iter().next()?;
            Some((probe, site.variables, site.address))
        })
    });
    places.collect()
}

/// What is wrong with the script's points.
struct Judgement<'p> {
    sources: &'p SourceMap,
    errors: Vec<Diagnostic>,
    program: &'p ir::Program,
    /// The places of a `probe` with a sufficient point (`!`) that matched, and of the aliases that led to it: the later
    /// points there are left out, into however many handlers aliases split them.
    satisfied: Option<Vec<Span>>,
    /// Probes of which a point was found.
    matched: HashSet<usize>,
}

impl<'p> Judgement<'p> {
    fn new(program: &'p ir::Program) -> Self {
        Judgement {
            sources: &program.sources,
            program,
            errors: Vec::new(),
            satisfied: None,
            matched: HashSet::new(),
        }
    }

    /// The `probe` that a point was written in, and by which names.
    fn statement(&self, point: &Point<'_>) -> Vec<Span> {
        let probe = self.program.probes.get(point.probe).map(|probe| probe.span);
        // A point without aliases is its own name.
        let own = point.point.point.span;
        let names = point.point.via.iter().map(|name| name.span);
        let names = names.filter(|span| *span != own);
        probe.into_iter().chain(names).collect()
    }

    /// Takes note of a handler that can't be compiled.
    fn refuse(&mut self, error: CodegenError) {
        self.errors
            .push(semantic(self.sources, error.message, error.span));
        // As stap has it, whose types are settled afterwards.
        let untyped = error
            .whole
            .map(|span| semantic(self.sources, "unresolved type ", span));
        self.errors.extend(untyped);
    }
}

impl<'p> Plan<'p> {
    fn add(
        &mut self,
        index: usize,
        point: &Point<'p>,
        options: &Options,
        target: Option<&Arc<Scope>>,
        judgement: &mut Judgement<'_>,
    ) {
        let statement = judgement.statement(point);
        if judgement.satisfied.as_ref() == Some(&statement) {
            self.dropped.insert(index);
            return;
        }
        let sources = judgement.sources;
        let no_target = point.kind.program() == Some(&ProgramName::Target) && target.is_none();
        let optional = point.point.point.optional || point.point.point.sufficient;
        if let Some(ProgramName::Process(pid)) = point.kind.program()
            && (*pid < 1 || !std::path::Path::new(&format!("/proc/{pid}")).exists())
        {
            if !optional {
                let error = point_error(sources, point, &ResolveError::NoProcess(*pid));
                judgement.errors.push(error);
            }
            return;
        }
        if !point.kind.is_in_process() {
            if point.kind.needs_process() && no_target && options.pass == 5 {
                let error = point_error(sources, point, &ResolveError::NoTarget);
                judgement.errors.push(error);
                return;
            }
            if let Err(error) = self.add_tracer(point) {
                judgement.refuse(error);
                let further = self.builder.further_errors();
                further.into_iter().for_each(|e| judgement.refuse(e));
            }
            return;
        }
        if no_target && point.kind.is_everywhere() && options.pass < 5 {
            // In whatever process there will be.
            judgement.matched.insert(point.probe);
            return;
        }
        let found = self.files.resolve(&point.kind, &point.point.point, target);
        let found = match found {
            Ok(found) => found,
            Err(_) if optional => return,
            Err(ResolveError::NoProgram(_)) if point.kind.is_everywhere() => {
                // It may be there by the time that it runs.
                judgement.matched.insert(point.probe);
                return;
            }
            Err(error) => {
                judgement
                    .errors
                    .extend(point_errors(sources, point, &error));
                return;
            }
        };
        judgement.matched.insert(point.probe);
        for (scope, sites) in found {
            match self.add_sites(index, point, &scope, sites) {
                Ok(()) => {}
                // What may be missing are points, not the variables of those that are there.
                Err(errors) if optional && errors.iter().all(CodegenError::is_of_place) => {}
                Err(errors) => {
                    errors.into_iter().for_each(|e| judgement.refuse(e));
                    return;
                }
            }
        }
        if point.point.point.sufficient {
            judgement.satisfied = Some(statement);
        }
    }

    /// Compiles what a point means in a scope, and files it under the scope's modules.
    fn add_sites(
        &mut self,
        index: usize,
        point: &Point<'p>,
        scope: &Scope,
        sites: Vec<Site>,
    ) -> Result<(), Vec<CodegenError>> {
        let Some(program) = scope.candidates.first().map(|c| c.identity) else {
            return Ok(());
        };
        for candidate in &scope.candidates {
            let key = (index, program, candidate.identity);
            self.found.insert(key, Vec::new());
        }
        let _together = scope.acquaint();
        let mut failures: Vec<CodegenError> = Vec::new();
        let mut told = HashSet::new();
        // By point: copies that are left out, and why.
        let mut left_out: BTreeMap<&str, (usize, CodegenError)> = BTreeMap::new();
        // One reader of a file's debugging information for all its sites.
        let infos: Vec<SharedInfo<'_>> = scope
            .candidates
            .iter()
            .map(|_| SharedInfo::default())
            .collect();
        for site in &sites {
            let (Some(module), Some(info)) = (
                scope.candidates.get(site.candidate),
                infos.get(site.candidate),
            ) else {
                continue;
            };
            let key = (index, program, module.identity);
            let resolver =
                SiteResolver::new(&site.variables, site.address, SharedInfo::clone(info))
                    .with_homes(&self.homes)
                    .called_from(&site.callers);
            let handler =
                self.builder
                    .handler(point.probe, point.index, Context::Process, &resolver);
            match handler {
                Ok(handler) => {
                    let number = self.number(point, named(point, &site.text));
                    self.is_behind = true;
                    self.found.entry(key).or_default().push(Placement {
                        site: site.clone(),
                        handler,
                        number,
                    });
                }
                // `_start`, for example, which many a pattern matches and which never returns.
                Err(error) if error.is_of_place() && is_pattern(&point.kind) => {
                    let text = format!("{}: {}; it is not probed", site.text.pp, error.message);
                    if !self.warnings.contains(&text) {
                        self.warnings.push(text);
                    }
                }
                Err(error) if site.variables.is_from_other_unit() => {
                    // They are of that copy, too.
                    let _ = self.builder.further_errors();
                    let left = left_out.entry(&site.text.pp).or_insert((0, error));
                    left.0 += 1;
                }
                Err(error) => {
                    let further = self.builder.further_errors();
                    let all = std::iter::once(error).chain(further);
                    failures.extend(all.filter(|e| told.insert((e.message.clone(), e.span))));
                }
            }
        }
        // Where a script fits nowhere it is at fault.
        let left: usize = left_out.values().map(|(count, _)| count).sum();
        if left == sites.len() {
            failures.extend(left_out.into_values().next().map(|(_, error)| error));
        } else {
            for (pp, (count, error)) in left_out {
                let copies = if count == 1 { "copy" } else { "copies" };
                let text = format!(
                    "{pp}: {count} inlined {copies} in other units not probed: {}",
                    error.message
                );
                if !self.warnings.contains(&text) {
                    self.warnings.push(text);
                }
            }
        }
        // stap goes through what debug information describes first.
        failures.sort_by_key(|e| e.message.starts_with(NO_SCOPE));
        match failures.is_empty() {
            true => Ok(()),
            false => Err(failures),
        }
    }

    fn add_tracer(&mut self, point: &Point<'p>) -> Result<(), CodegenError> {
        if point.kind == Kind::Never {
            return Ok(());
        }
        let pp = spell(&point.point.point);
        let pn = point.point.via.first().map_or_else(|| pp.clone(), spell);
        let kind = probe_type(&pp).to_string();
        let context = if point.kind.is_sampled() {
            Context::Sample
        } else {
            Context::Tracer
        };
        let resolver = ModuleResolver::new(&self.homes);
        let handler = self
            .builder
            .handler(point.probe, point.index, context, &resolver)?;
        let text = SiteText {
            pp,
            pn,
            kind,
            ..SiteText::default()
        };
        let number = self.number(point, text);
        self.tracer.push(TracerProbe {
            kind: point.kind.clone(),
            handler,
            number,
        });
        Ok(())
    }

    /// The number of a place; the same for alike places, unless their probes are to be told apart.
    fn number(&mut self, point: &Point<'p>, text: SiteText) -> u32 {
        if self.compiled.layout().timings == 0 {
            return self.builder.site(text);
        }
        let (probe, pp) = (point.probe, text.pp.clone());
        let number = self.builder.site(SiteText { probe, ..text });
        self.timed.push(Timed {
            probe,
            index: point.index,
            point: pp,
            is_resolved: point.kind.is_in_process(),
            number,
        });
        number
    }

    /// How many places were found, in whatever program.
    pub fn site_count(&self) -> usize {
        self.found.values().map(Vec::len).sum()
    }

    /// Whether a point is about this process.
    pub fn concerns(&self, kind: &Kind, owner: Owner<'_>) -> bool {
        match kind.program() {
            None => false,
            // Whichever process there is has come from the target.
            Some(ProgramName::Target) if kind.is_of_life() => self.target.is_some(),
            Some(name) => self.applies(name, owner),
        }
    }

    /// The kinds of all points.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.points.iter().map(|point| &point.kind)
    }

    /// Whether a point's `process…` means this process.
    pub fn applies(&self, name: &ProgramName, owner: Owner<'_>) -> bool {
        match name {
            ProgramName::Target => self.target == Some(owner.program.identity),
            ProgramName::Process(pid) => *pid == owner.pid,
            ProgramName::Path(path) => self.files.is_program(path, owner.program),
        }
    }

    /// The names that `process…` probes give programs.
    pub fn programs(&self) -> impl Iterator<Item = &ProgramName> {
        self.points.iter().filter_map(|point| point.kind.program())
    }

    /// Whether `process("NAME")` is about all processes that map a library (stapprobes(3stap)), not about those that run a
    /// program.
    pub fn is_library(&self, name: &str) -> bool {
        self.libraries.contains(name)
    }

    /// The names of shared libraries that `process("NAME")` probes have.
    pub fn libraries(&self) -> impl Iterator<Item = &str> {
        self.libraries.iter().map(String::as_str)
    }

    /// Whether a point is about every process that maps this library.
    fn is_about_library(&self, kind: &Kind, library: &Candidate) -> bool {
        let named = kind.module().filter(|module| module.library.is_none());
        named
            .and_then(|_| kind.path())
            .is_some_and(|name| self.is_library(name) && self.files.is_program(name, library))
    }

    /// Whether all that [`Plan::placements`] gives for a module is known already.
    pub fn knows(&self, owner: Owner<'_>, module: &Candidate) -> bool {
        self.modules.contains_key(&self.module_key(owner, module))
    }

    fn module_key(&self, owner: Owner<'_>, module: &Candidate) -> ModuleKey {
        let named = self
            .programs()
            .any(|name| *name == ProgramName::Process(owner.pid));
        let pid = named.then_some(owner.pid);
        (owner.program.identity, module.identity, pid)
    }

    /// What is to be probed in a module of a process: resolved and compiled at the first question, remembered for
    /// other processes that run the same program. What can't be compiled is left out, with a warning.
    pub fn placements(&mut self, owner: Owner<'_>, module: &Candidate) -> Arc<[Placement]> {
        let key = self.module_key(owner, module);
        if let Some(known) = self.modules.get(&key) {
            return Arc::clone(known);
        }
        let is_library = module.is_library;
        let itself = Candidate {
            is_library: false,
            ..module.clone()
        };
        let as_program = Owner {
            pid: owner.pid,
            program: &itself,
        };
        let mut placements = Vec::new();
        for (index, point) in std::mem::take(&mut self.points).into_iter().enumerate() {
            let is_in_owner = point.kind.is_in_process()
                && point.kind.is_in(module.is_library)
                && self.concerns(&point.kind, owner);
            let (owner, module) = match is_in_owner {
                true => (owner, module),
                false => (as_program, &itself),
            };
            if !self.dropped.contains(&index)
                && (is_in_owner || is_library && self.is_about_library(&point.kind, module))
            {
                let key = (index, owner.program.identity, module.identity);
                if !self.found.contains_key(&key) {
                    self.find(index, &point, owner, module);
                }
                placements.extend(self.found.get(&key).into_iter().flatten().cloned());
            }
            self.points.push(point);
        }
        let placements: Arc<[Placement]> = placements.into();
        self.modules.insert(key, Arc::clone(&placements));
        placements
    }

    /// Looks for a point in one module.
    fn find(&mut self, index: usize, point: &Point<'p>, owner: Owner<'_>, module: &Candidate) {
        let mut candidates = vec![owner.program.clone()];
        if module.is_library {
            candidates.push(module.clone());
        }
        let scope = Scope { candidates };
        // A module that a point does not match, or that can't be read, has nothing to probe.
        let sites = scope
            .look_up(&point.kind, &point.point.point)
            .unwrap_or_default();
        if let Err(error) = self.add_sites(index, point, &scope, sites)
            && !point.point.point.optional
        {
            let reason = error.into_iter().next().map(|e| e.message);
            self.warnings.push(format!(
                "some places of {} in {} are not probed: {}",
                spell(&point.point.point),
                module.path.display(),
                reason.unwrap_or_default()
            ));
        }
    }

    /// Brings [`Plan::compiled`] up to date; the earlier state, when there was something to do.
    pub fn catch_up(&mut self) -> Option<Compiled> {
        if !std::mem::take(&mut self.is_behind) {
            return None;
        }
        if self.builder.is_full() && !std::mem::replace(&mut self.told_full, true) {
            self.warnings.push(
                "the arena's room for texts of probe points is used up: pp() and its kin are empty in those found from now on"
                    .into(),
            );
        }
        let compiled = self.builder.finish();
        Some(std::mem::replace(&mut self.compiled, compiled))
    }
}

/// What `probe_type()` calls a point whose handlers run in the tracer.
fn probe_type(pp: &str) -> &'static str {
    let mut parts = pp.split(['.', '(']);
    match (parts.next(), parts.next()) {
        (Some("timer"), Some("jiffies")) => "timer",
        (Some("timer"), Some("profile")) => "profile_timer",
        (Some("timer"), _) => "hrtimer",
        (Some("perf"), _) => "perf_event",
        (Some("procfs" | "input"), _) => "procfs",
        (Some("process"), _) => "utrace",
        _ => "begin_end",
    }
}
