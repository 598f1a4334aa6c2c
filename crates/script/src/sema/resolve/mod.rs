//! Pass: names. Turns syntax into the resolved tree: every identifier becomes a local, a global or a function, and
//! only what is named is taken from the library.

mod condition;
mod expression;
mod functions;
mod procfs;
mod statement;

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use super::hir::*;
use super::probe_points;
use super::report::{Finding, Report, mention};
use super::unplaced::Named;
use crate::ast::{self, AssignOp};
use crate::span::{FileId, SourceMap, Span};
use crate::tapset::Library;

/// Where target variables may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// In a handler that runs in a process, and in functions that it may call.
    Allowed,
    /// Elsewhere: an error, and `@defined` is false.
    Absent,
    /// In a `procfs` probe: only `$value`, what was written to the file.
    Written,
    /// In a `procfs` probe: only `$value`, to which is assigned what the file's reader is to get.
    Read,
}

/// A declared function, not yet resolved.
struct Declared {
    file: FileId,
    tapset: bool,
    decl: ast::FunctionDecl,
    id: Option<FunctionId>,
}

/// A declared global, not yet used.
struct DeclaredGlobal {
    file: FileId,
    tapset: bool,
    decl: ast::GlobalDecl,
    id: Option<GlobalId>,
}

/// The pass.
pub struct Resolver<'a> {
    /// What is being built.
    pub hir: Program,
    /// Texts; library files are added as they are pulled in.
    pub sources: &'a mut SourceMap,
    /// The library.
    pub library: &'a mut Library,
    /// Findings.
    pub report: &'a mut Report,
    functions: Vec<Declared>,
    by_name: HashMap<String, Vec<usize>>,
    globals: Vec<DeclaredGlobal>,
    globals_by_name: HashMap<String, Vec<usize>>,
    queue: VecDeque<(usize, FunctionId)>,
    /// Aliases of the user's files and of the library files in use.
    pub aliases: Vec<Rc<ast::Alias>>,
    /// Probes of the library files that were read, not resolved yet.
    library_probes: Vec<(FileId, ast::Probe)>,
    /// The files of which something is used.
    used: HashSet<FileId>,
    /// The handlers whose names have been looked up.
    pub named: Vec<Named>,
    /// `-g`: target variables may be written.
    pub guru: bool,
    /// What is known of target expressions in `@defined` of functions, by their places.
    pub definitions: Vec<(Span, bool)>,
    /// Within a branch that is known to be never taken: nothing is written there.
    is_dead: bool,
    /// Within a branch that a place's variables decide on: whether anything is written there is known later.
    is_conditional: bool,
    /// Counters that points set up so far, by their names.
    counters: HashSet<Vec<u8>>,
}

/// The scope of one body.
pub struct Scope {
    locals: Vec<Local>,
    names: HashMap<String, LocalId>,
    targets: Targets,
    /// The body handles returns: `$x` and `@entry(…)` are values of the entry.
    returns: bool,
    /// In a handler that aliases are put around: the names of what the user's own part writes.
    pub written: Option<HashSet<String>>,
    /// What is known of target expressions in `@defined`, by their places.
    pub definitions: Vec<(Span, bool)>,
    /// The first locals, which are a function's parameters.
    params: usize,
    /// A function of the built-in library: what it names is its own, whatever the user's globals are called. (Most of
    /// SystemTap's are in C, in which that goes without saying.)
    built_in: bool,
}

impl Scope {
    /// An empty one.
    pub fn new(targets: Targets) -> Scope {
        Scope {
            locals: Vec::new(),
            names: HashMap::new(),
            targets,
            returns: false,
            written: None,
            definitions: Vec::new(),
            params: 0,
            built_in: false,
        }
    }

    /// The same for a handler all of whose points are `.return`.
    pub fn of_returns(self, returns: bool) -> Scope {
        Scope { returns, ..self }
    }

    fn add(&mut self, name: &ast::Name) -> LocalId {
        let id = LocalId(self.locals.len() as u32);
        self.locals.push(Local {
            name: name.text.clone(),
            span: name.span,
            slot: Slot::default(),
            live: true,
        });
        self.names.insert(name.text.clone(), id);
        id
    }

    /// The finished body.
    pub fn finish(self, stmt: Stmt) -> Body {
        Body {
            locals: self.locals,
            stmt,
        }
    }
}

impl<'a> Resolver<'a> {
    /// Starts with nothing declared.
    pub fn new(
        sources: &'a mut SourceMap,
        library: &'a mut Library,
        report: &'a mut Report,
    ) -> Resolver<'a> {
        Resolver {
            hir: Program::default(),
            sources,
            library,
            report,
            functions: Vec::new(),
            by_name: HashMap::new(),
            globals: Vec::new(),
            globals_by_name: HashMap::new(),
            queue: VecDeque::new(),
            aliases: Vec::new(),
            library_probes: Vec::new(),
            used: HashSet::new(),
            named: Vec::new(),
            guru: false,
            definitions: Vec::new(),
            is_dead: false,
            is_conditional: false,
            counters: HashSet::new(),
        }
    }

    /// Takes note of the counter that a point sets up. What reads it is a kernel module's, so that the program ends with
    /// the second pass; false when there is one of that name.
    pub fn note_counter(&mut self, name: &[u8], point: &ast::ProbePoint) -> bool {
        if !self.counters.insert(name.to_vec()) {
            return false;
        }
        self.report
            .late(probe_points::unsupported_message(point), point.span);
        true
    }

    /// Makes a file's declarations known.
    pub fn declare(&mut self, file: ast::File, tapset: bool) {
        let id = file.id;
        for decl in file.functions {
            self.by_name
                .entry(decl.name.text.clone())
                .or_default()
                .push(self.functions.len());
            self.functions.push(Declared {
                file: id,
                tapset,
                decl,
                id: None,
            });
        }
        for decl in file.globals {
            self.globals_by_name
                .entry(decl.name.text.clone())
                .or_default()
                .push(self.globals.len());
            self.globals.push(DeclaredGlobal {
                file: id,
                tapset,
                decl,
                id: None,
            });
        }
        for alias in file.aliases {
            let parts = alias.names.iter().flat_map(|n| &n.components);
            let with_argument = parts.clone().find(|c| c.arg.is_some());
            if let Some(component) = with_argument {
                let name = &component.name.text;
                let message = format!("alias component {name} contains illegal parameter");
                self.report
                    .error("while registering probe alias", alias.span);
                self.report
                    .push(Finding::error_nowhere(message).following());
                continue;
            }
            let mut parts = alias.names.iter().flat_map(|n| &n.components);
            if parts.any(|c| c.name.text == "*") {
                self.report
                    .error("while registering probe alias", alias.span);
                let message = "invalid use of wildcard probe point component";
                self.report
                    .push(Finding::error_nowhere(message).following());
                continue;
            }
            self.aliases.push(Rc::new(alias));
        }
        if tapset {
            self.hir.pulled.push(id);
            let probes = file.probes.into_iter().map(|probe| (id, probe));
            self.library_probes.extend(probes);
        }
    }

    /// Notes that an alias is used.
    pub fn note_alias(&mut self, alias: &ast::Alias) {
        self.used.insert(alias.span.file);
    }

    /// The probes that come with what is used of the library, once each.
    pub fn take_library_probes(&mut self) -> Vec<ast::Probe> {
        let used = &self.used;
        let taken = self
            .library_probes
            .extract_if(.., |(file, _)| used.contains(file));
        taken.map(|(_, probe)| probe).collect()
    }

    /// Loads a library file, once.
    pub fn pull(&mut self, file: usize) {
        let Some((parsed, diagnostics)) = self.library.load(file, self.sources) else {
            return;
        };
        self.report.parsed(diagnostics);
        self.declare(parsed, true);
    }

    /// The global of that name as seen from a file.
    pub fn global(&mut self, name: &str, from: FileId) -> Option<GlobalId> {
        if !self.globals_by_name.contains_key(name) {
            for file in self.library.files_of_global(name) {
                self.pull(file);
            }
        }
        self.declared_global(name, from, |_, _| true)
    }

    /// The same among the built-in library's.
    fn global_of_built_in(&mut self, name: &str, from: FileId) -> Option<GlobalId> {
        for file in self.library.built_in_files_of_global(name) {
            self.pull(*file);
        }
        self.declared_global(name, from, Library::is_built_in)
    }

    fn declared_global(
        &mut self,
        name: &str,
        from: FileId,
        counts: impl Fn(&Library, FileId) -> bool,
    ) -> Option<GlobalId> {
        let candidates = self.globals_by_name.get(name)?.iter().copied();
        let at = candidates
            .clone()
            .find(|&at| self.globals[at].decl.private && self.globals[at].file == from)
            .or_else(|| {
                let all = |&at: &usize| !self.globals[at].decl.private;
                let mut for_all = candidates.filter(all);
                for_all.find(|&at| counts(self.library, self.globals[at].file))
            })?;
        let g = &mut self.globals[at];
        if let Some(id) = g.id {
            return Some(id);
        }
        self.used.insert(g.file);
        let id = GlobalId(self.hir.globals.len() as u32);
        g.id = Some(id);
        let value = Slot {
            ty: match &g.decl.init {
                Some(ast::Literal::Number(_)) => Ty::Long,
                Some(ast::Literal::String(_)) => Ty::String,
                None => Ty::Unknown,
            },
            first: None,
            ..Slot::default()
        };
        self.hir.globals.push(Global {
            name: g.decl.name.text.clone(),
            span: g.decl.name.span,
            tapset: g.tapset,
            private: g.decl.private,
            wrap: g.decl.wrap,
            size: g.decl.size,
            init: g.decl.init.clone(),
            value,
            arity: (g.decl.init.as_ref()).map(|_| (0, g.decl.equals.unwrap_or(g.decl.name.span))),
            keys: Vec::new(),
            read: false,
            written: false,
            auto_display: false,
        });
        Some(id)
    }

    /// The names of the user's globals that have been named.
    pub fn user_globals(&self) -> impl Iterator<Item = &str> {
        self.globals
            .iter()
            .filter(|g| !g.tapset && g.id.is_some())
            .map(|g| g.decl.name.text.as_str())
    }

    fn lookup(&mut self, name: &str, scope: &Scope, at: Span) -> Option<Var> {
        if let Some(&id) = scope.names.get(name) {
            return Some(Var::Local(id));
        }
        let id = match scope.built_in {
            true => self.global_of_built_in(name, at.file)?,
            false => self.global(name, at.file)?,
        };
        let declared = self.hir.global(id);
        if !declared.tapset && self.sources.file(at.file).is_tapset {
            let declared = mention(self.sources, declared.span).describe(self.sources);
            let message = format!("cross-file global variable reference to {declared} from");
            self.report.warning(message, at);
        }
        Some(Var::Global(id))
    }

    /// The same where an array is meant, which a parameter cannot be.
    fn lookup_array(&mut self, name: &str, scope: &Scope, at: Span) -> Option<Var> {
        self.lookup(name, scope, at)
            .filter(|v| !matches!(v, Var::Local(id) if (id.0 as usize) < scope.params))
    }

    fn var(&mut self, name: &ast::Name, scope: &mut Scope) -> Var {
        match self.lookup(&name.text, scope, name.span) {
            Some(v) => v,
            None => Var::Local(scope.add(name)),
        }
    }
}

/// Whether an assignment reads what it writes.
pub fn reads_target(op: AssignOp) -> bool {
    matches!(op, AssignOp::Binary(_))
}
