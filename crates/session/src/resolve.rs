//! From probe points to places in binaries: which functions and marks of which modules a point means, as
//! stapprobes(3stap) has it, and what stap calls each of them.

use crate::code_sites;
use crate::probe_point::{CodePlace, Kind, Module, Which, spell};
use crate::variables::SiteVariables;
use codegen::SiteText;
use inject::FileIdentity;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symbols::neighbours::LoadedTogether;
use symbols::{Binary, FunctionKind, Glob, ImageAddr, MissingLine, SdtMark};

/// A program or shared library that probes may be in.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its path as the process has it.
    pub path: PathBuf,
    /// Which file that is, in which version.
    pub identity: FileIdentity,
    /// The file.
    pub binary: Arc<Binary>,
    /// False for the program itself.
    pub is_library: bool,
}

/// The program and the libraries in which probe points are looked for.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The program first.
    pub candidates: Vec<Candidate>,
}

/// A place that a probe point means.
#[derive(Clone, Debug)]
pub struct Site {
    /// Index into [`Scope::candidates`].
    pub candidate: usize,
    /// Where.
    pub address: ImageAddr,
    /// It is the first instruction of a function that is only entered by calls.
    pub at_function_entry: bool,
    /// For `.return`: the first instruction of the function at whose exits the handler runs. `address` is then where
    /// values of its entry are read.
    pub returns: Option<ImageAddr>,
    /// For points that are around every system call of the module; `address` says nothing then.
    pub around: Option<Around>,
    /// Where calls of the function return to that are meant, then where its caller's calls do, and so on; all are meant
    /// when there are none.
    pub callers: Vec<Vec<ImageAddr>>,
    /// The semaphore to be raised while the mark is probed.
    pub semaphore: Option<ImageAddr>,
    /// Texts for `pp()` and its kin.
    pub text: SiteText,
    /// What target variables mean here.
    pub variables: Arc<SiteVariables>,
}

impl Site {
    /// Whether it is an entry of a procedure linkage table.
    pub fn is_linkage(&self) -> bool {
        match &*self.variables {
            SiteVariables::Plt { .. } => true,
            SiteVariables::Return { entry, .. } => matches!(**entry, SiteVariables::Plt { .. }),
            _ => false,
        }
    }
}

/// Where, and when, a handler runs at system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Around {
    /// Before each.
    Before,
    /// After each.
    After,
    /// After one that made the thread.
    ThreadBegin,
    /// Before one that ends the thread.
    ThreadEnd,
}

/// Why a probe point means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No function or mark of that name.
    #[error("no match{}", similar_text(.what, .similar))]
    NoMatch {
        /// "functions" or "marks".
        what: &'static str,
        /// Names that may have been meant.
        similar: Vec<String>,
    },
    /// No library matches.
    #[error("{}", no_library(.library, .similar))]
    NoLibrary {
        /// The pattern.
        library: String,
        /// Libraries that may have been meant.
        similar: Vec<String>,
    },
    /// No program has such a path, or one that matches.
    #[error("{}", no_program(.0))]
    NoProgram(String),
    /// The file can't be read as a program.
    #[error("{0}")]
    Binary(String),
    /// `NAME@FILE:LINES` that is none.
    #[error("malformed specification '{0}'")]
    Malformed(String),
    /// `.statement("…:LINE")` of a line without code.
    #[error("no line records for {}:{} [man error::dwarf]{}", .0.file, .0.line, lines_text(.0))]
    NoLine(MissingLine),
    /// `.statement(0xADDR)` in the middle of a statement.
    #[error("address {address} does not match the beginning of a statement (try {start})")]
    NotAStatement {
        /// The address.
        address: ImageAddr,
        /// Where the statement begins.
        start: ImageAddr,
    },
    /// An address where no code is.
    #[error("address {0} is not in the code of the file")]
    NoCode(ImageAddr),
    /// Only indirect functions match.
    #[error(
        "'{0}' is an indirect function, and what its resolver may choose is not told by its code: name the implementation"
    )]
    Indirect(String),
    /// `process(PID)`, and there is none.
    #[error("cannot probe pid {0}: {reason}", reason = if *.0 < 1 { "Invalid pid" } else { "No such process" })]
    NoProcess(i32),
    /// The program to probe is not known.
    #[error("unspecified process probe is invalid without a -c COMMAND or -x PID [man stapprobes]")]
    NoTarget,
}

/// ` (similar functions: …)`, or nothing.
pub(crate) fn similar_text(what: &str, similar: &[String]) -> String {
    if similar.is_empty() {
        String::new()
    } else {
        format!(" (similar {what}: {})", similar.join(", "))
    }
}

/// As stap says it; 3 is what glob(3) returns when nothing matches.
fn no_program(path: &str) -> String {
    match Glob::has_wildcard(path) {
        true => format!("glob {path} error (3)"),
        // What is looked for on PATH is told apart from what is not where it should be.
        false if path.contains('/') => "no match".to_string(),
        false => format!("cannot find executable '{path}'"),
    }
}

fn no_library(library: &str, similar: &[String]) -> String {
    match Glob::has_wildcard(library) {
        true => format!("glob {library} error (3)"),
        false => format!("no match{}", similar_text("libraries", similar)),
    }
}

fn lines_text(missing: &MissingLine) -> String {
    match (missing.before, missing.after) {
        (Some(before), Some(after)) => format!(" (try :{before} or :{after})"),
        (Some(line), None) | (None, Some(line)) => format!(" (try :{line})"),
        (None, None) => String::new(),
    }
}

impl Scope {
    /// The modules of a program file that does not run: the file and the libraries it would load at start.
    pub fn of_file(path: &Path) -> Result<Scope, ResolveError> {
        let program = Candidate::open(path, false)?;
        let environment = symbols::LibraryEnvironment::from_process();
        let libraries = program.binary.resolve_libraries(&environment);
        let mut candidates = vec![program];
        // A library that can't be read can't be probed either; the program's own loading will complain.
        candidates.extend(
            libraries
                .iter()
                .filter_map(|library| Candidate::open(library, true).ok()),
        );
        Ok(Scope { candidates })
    }

    /// Makes the modules known to each other for as long as the result lives.
    pub fn acquaint(&self) -> Arc<LoadedTogether> {
        let modules = self.candidates.iter().map(|c| Arc::clone(&c.binary));
        LoadedTogether::acquaint(modules.collect())
    }

    fn program(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|c| !c.is_library)
    }

    /// Every place that the point means, in the order of addresses within a module.
    pub fn resolve(
        &self,
        kind: &Kind,
        point: &script::ast::ProbePoint,
    ) -> Result<Vec<Site>, ResolveError> {
        let found = self.look_up(kind, point)?;
        match (found, kind.module()) {
            (found, Some(module)) if found.is_empty() => {
                // What may have been meant is looked for only where it is told.
                if point.optional || point.sufficient {
                    return Err(ResolveError::NoMatch {
                        what: "probe points",
                        similar: Vec::new(),
                    });
                }
                Err(self.no_match(kind, &self.modules(module)?))
            }
            (found, _) => Ok(found),
        }
    }

    /// The same, where there may well be none.
    pub fn look_up(
        &self,
        kind: &Kind,
        point: &script::ast::ProbePoint,
    ) -> Result<Vec<Site>, ResolveError> {
        let Some(module) = kind.module() else {
            return Ok(self.around_system_calls(kind, point));
        };
        let modules = self.modules(module)?;
        let mut sites = Vec::new();
        for &index in &modules {
            let candidate = &self.candidates[index];
            let prefix = self.prefix(module, candidate);
            let code = code_sites::Module {
                index,
                candidate,
                prefix: &prefix,
            };
            match kind {
                Kind::Function {
                    place,
                    which,
                    returns,
                    ..
                } => sites.extend(code_sites::functions(&code, place, which, *returns)?),
                Kind::Statement { place, nearest, .. } => {
                    sites.extend(code_sites::statements(&code, place, *nearest)?);
                }
                Kind::Mark { provider, name, .. } => {
                    sites.extend(marks(index, candidate, &prefix, provider.as_deref(), name));
                }
                Kind::Plt { name, returns, .. } => {
                    sites.extend(plt(index, candidate, &prefix, name, *returns));
                }
                _ => {}
            }
        }
        let pn = spell(point);
        for site in &mut sites {
            if site.text.pn.is_empty() {
                site.text.pn.clone_from(&pn);
            }
        }
        Ok(sites)
    }

    /// The points of a kind that are in all modules: one for each module.
    fn around_system_calls(&self, kind: &Kind, point: &script::ast::ProbePoint) -> Vec<Site> {
        let around = match kind {
            Kind::SystemCall { returns: false, .. } => Around::Before,
            Kind::SystemCall { returns: true, .. } => Around::After,
            Kind::Thread { ends: false, .. } => Around::ThreadBegin,
            Kind::Thread { ends: true, .. } => Around::ThreadEnd,
            _ => return Vec::new(),
        };
        let Some(program) = self.program() else {
            return Vec::new();
        };
        let what = match around {
            Around::Before => "syscall",
            Around::After => "syscall.return",
            Around::ThreadBegin => "thread.begin",
            Around::ThreadEnd => "thread.end",
        };
        let pp = format!("process(\"{}\").{what}", program.path.display());
        let pn = spell(point);
        let candidates = self.candidates.iter().enumerate();
        candidates
            .map(|(candidate, module)| Site {
                candidate,
                address: ImageAddr(0),
                at_function_entry: false,
                returns: None,
                around: Some(around),
                callers: Vec::new(),
                semaphore: None,
                text: SiteText {
                    pp: pp.clone(),
                    pn: pn.clone(),
                    module: module.path.display().to_string(),
                    kind: "utrace_syscall".into(),
                    ..SiteText::default()
                },
                variables: Arc::new(SiteVariables::SystemCall {
                    binary: Arc::clone(&module.binary),
                    around,
                }),
            })
            .collect()
    }

    pub(crate) fn modules(&self, module: &Module) -> Result<Vec<usize>, ResolveError> {
        let Some(library) = &module.library else {
            return Ok(self
                .candidates
                .iter()
                .position(|c| !c.is_library)
                .into_iter()
                .collect());
        };
        let glob = Glob::new(library);
        let found: Vec<usize> = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, c)| c.is_library && library_matches(&glob, library, c))
            .map(|(i, _)| i)
            .collect();
        if found.is_empty() {
            let libraries = self.candidates.iter().filter(|c| c.is_library);
            let paths: Vec<String> = libraries.map(|c| c.path.display().to_string()).collect();
            let paths = paths.iter().map(String::as_str);
            return Err(ResolveError::NoLibrary {
                library: library.clone(),
                similar: symbols::suggest::similar(library, paths, 5),
            });
        }
        Ok(found)
    }

    /// `process("/bin/x")` or `process("/bin/x").library("/lib/y.so")`.
    pub(crate) fn prefix(&self, module: &Module, candidate: &Candidate) -> String {
        let program = self
            .program()
            .map_or_else(String::new, |p| p.path.display().to_string());
        match &module.library {
            None => format!("process(\"{program}\")"),
            // A whole path is printed as it is written.
            Some(path) if path.starts_with('/') && !Glob::has_wildcard(path) => {
                format!("process(\"{program}\").library(\"{path}\")")
            }
            Some(_) => format!(
                "process(\"{program}\").library(\"{}\")",
                candidate.path.display()
            ),
        }
    }

    /// The labels of a module's functions of a name.
    fn labels_of(&self, index: usize, name: &str) -> Vec<String> {
        let place = crate::source_place::SourcePlace::parse(name);
        let binary = self.candidates.get(index).map(|c| &c.binary);
        let (Some(place), Some(binary)) = (place, binary) else {
            return Vec::new();
        };
        let functions = binary.dwarf_functions_matching(place.function);
        let (Ok(functions), Some(info)) = (functions, binary.debug_info()) else {
            return Vec::new();
        };
        let labels = functions.iter().filter_map(|f| info.labels(f).ok());
        labels.flatten().map(|label| label.name).collect()
    }

    fn no_match(&self, kind: &Kind, modules: &[usize]) -> ResolveError {
        let binaries = modules.iter().map(|&i| &self.candidates[i].binary);
        match kind {
            Kind::Mark { name, .. } => ResolveError::NoMatch {
                what: "marks",
                similar: binaries
                    .flat_map(|b| b.similar_marks(name, 5))
                    .take(5)
                    .collect(),
            },
            Kind::Plt { name, .. } => {
                let linked: Vec<String> = binaries.flat_map(|b| linked_names(b, false)).collect();
                let names = linked.iter().map(String::as_str);
                nearest("functions", symbols::suggest::similar(name, names, 5))
            }
            Kind::Function {
                place: CodePlace::Named(name),
                ..
            }
            | Kind::Statement {
                place: CodePlace::Named(name),
                ..
            } => {
                let plain = name.split('@').next().unwrap_or(name);
                let mut similar: Vec<String> = Vec::new();
                if let Kind::Function {
                    which: Which::Label(_),
                    ..
                } = kind
                {
                    let labels = modules.iter().flat_map(|&i| self.labels_of(i, name));
                    similar.extend(labels);
                    if !similar.is_empty() {
                        return nearest("labels", similar);
                    }
                }
                // There is one, but in another file.
                let file = name.split_once('@').map(|(_, place)| place);
                if file.is_some() && !Glob::has_wildcard(plain) {
                    for binary in modules.iter().map(|&i| &self.candidates[i].binary) {
                        let there = binary.dwarf_functions_matching(plain).unwrap_or_default();
                        similar.extend(there.iter().map(|f| {
                            code_sites::spell(&f.name, f.decl_file.as_deref(), f.decl_line)
                        }));
                    }
                    if !similar.is_empty() {
                        return nearest("functions", similar);
                    }
                }
                // There is no such file.
                if let Some(place) = file {
                    let file = place.split([':', '+']).next().unwrap_or(place);
                    let infos = modules.iter().map(|&i| &self.candidates[i].binary);
                    let infos = infos.filter_map(|binary| binary.debug_info());
                    let files: Vec<String> =
                        infos.flat_map(|info| info.similar_files(file, 5)).collect();
                    let last = file.rsplit('/').next().unwrap_or(file);
                    if !files.is_empty() && !files.iter().any(|f| f == last) {
                        return nearest("files", files);
                    }
                }
                for binary in binaries.clone() {
                    if !Glob::has_wildcard(plain)
                        && binary
                            .functions()
                            .iter()
                            .any(|f| f.name == plain && f.kind == FunctionKind::IFunc)
                    {
                        return ResolveError::Indirect(plain.to_string());
                    }
                    similar.extend(binary.similar_names(plain, 5));
                    similar.extend(binary.similar_dwarf_names(plain, 5));
                    // Where nothing else is known stap has the names of what the module calls elsewhere.
                    let is_function = matches!(kind, Kind::Function { .. });
                    if is_function && binary.debug_info().is_none() {
                        similar.extend(linked_names(binary, true));
                    }
                }
                let names = similar.iter().map(String::as_str);
                nearest("functions", symbols::suggest::similar(plain, names, 5))
            }
            _ => ResolveError::NoMatch {
                what: "probe points",
                similar: Vec::new(),
            },
        }
    }
}

/// The functions of other modules that a module has entries for in its procedure linkage table, with or without those whose
/// address it takes, too.
fn linked_names(binary: &Binary, all: bool) -> impl Iterator<Item = String> + use<> {
    let entries = binary.plt_entries().into_iter();
    let meant = entries.filter(move |entry| all || !entry.of_pointer);
    meant.map(|entry| entry.name)
}

fn nearest(what: &'static str, mut similar: Vec<String>) -> ResolveError {
    let mut seen = HashSet::new();
    similar.retain(|s| seen.insert(s.clone()));
    similar.truncate(5);
    ResolveError::NoMatch { what, similar }
}

/// A program by path, or by name on `PATH`, as stap looks it up; links resolved. With a sysroot it is there.
pub fn find_executable(name: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| path.metadata().is_ok_and(|m| m.is_file());
    let found = if name.contains('/') {
        Some(in_sysroot(Path::new(name))).filter(|p| is_program(p))
    } else {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| in_sysroot(&dir.join(name)))
            .find(|p| is_program(p))
            // As stap, which takes the name for a path then.
            .or_else(|| Some(in_sysroot(Path::new(name))).filter(|p| is_program(p)))
    };
    found.map(|p| p.canonicalize().unwrap_or(p))
}

/// Where a file of the probed system is: below the sysroot (`--sysroot`), if there is one.
pub(crate) fn in_sysroot(path: &Path) -> PathBuf {
    match (
        symbols::DebugFiles::shared().sysroot(),
        path.strip_prefix("/"),
    ) {
        (Some(root), Ok(inside)) if !path.starts_with(root) => root.join(inside),
        _ => path.to_owned(),
    }
}

/// What the probed system calls a file.
pub(crate) fn without_sysroot(path: &Path) -> PathBuf {
    let files = symbols::DebugFiles::shared();
    let inside = files.sysroot().and_then(|root| {
        let real = root.canonicalize();
        let inside = path.strip_prefix(root).ok();
        inside.or_else(|| path.strip_prefix(real.ok()?).ok())
    });
    inside.map_or_else(|| path.to_owned(), |inside| Path::new("/").join(inside))
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    a == b
        || match (a.metadata(), b.metadata()) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
}

/// Whether `.library("PATTERN")` means the candidate.
pub fn library_matches(glob: &Glob, pattern: &str, candidate: &Candidate) -> bool {
    let path = candidate.path.to_string_lossy();
    if glob.matches(&path) {
        return true;
    }
    if !pattern.contains('/') {
        let name = candidate.path.file_name().map(|n| n.to_string_lossy());
        return name.is_some_and(|n| glob.matches(&n))
            || candidate.binary.soname().is_some_and(|n| glob.matches(n));
    }
    match Path::new(pattern).canonicalize() {
        Ok(resolved) => same_file(&resolved, &candidate.path),
        // `/lib` may be a link to `/usr/lib`: the mapped path is the resolved one.
        Err(_) => path.strip_prefix("/usr").is_some_and(|p| glob.matches(p)),
    }
}

/// stap matches a file by its whole name or by a tail of its path components.
pub(crate) fn file_matches(glob: &Glob, declared: &str) -> bool {
    glob.matches(declared)
        || declared
            .match_indices('/')
            .any(|(i, _)| declared.get(i + 1..).is_some_and(|tail| glob.matches(tail)))
}

fn marks(
    index: usize,
    candidate: &Candidate,
    prefix: &str,
    provider: Option<&str>,
    name: &str,
) -> Vec<Site> {
    // A linker that drops an unused function keeps its marks' notes, with addresses of nothing.
    let found: Vec<&SdtMark> = candidate
        .binary
        .marks_matching(provider.unwrap_or("*"), name)
        .into_iter()
        .filter(|mark| candidate.binary.is_code(mark.pc))
        .collect();
    let mut sites: Vec<Site> = found
        .into_iter()
        .map(|mark| mark_site(index, candidate, prefix, provider, mark))
        .collect();
    sites.sort_by_key(|s| s.address);
    sites
}

/// The entries of the procedure linkage table for functions of a name.
fn plt(index: usize, candidate: &Candidate, prefix: &str, name: &str, returns: bool) -> Vec<Site> {
    let glob = Glob::new(name);
    let binary = &candidate.binary;
    let suffix = if returns { ".return" } else { "" };
    let variables = |address| {
        let entry = Arc::new(SiteVariables::Plt {
            binary: Arc::clone(binary),
        });
        match returns {
            true => Arc::new(SiteVariables::Return {
                binary: Arc::clone(binary),
                entry,
                address,
            }),
            false => entry,
        }
    };
    let entries = binary.plt_entries();
    // As stap has it, patterns stand for entries of `.plt` alone; some linkers make no others than those of `.plt.got`,
    // where every program has one.
    let are_all = entries.len() > 1 && entries.iter().all(|entry| entry.of_pointer);
    let by_name = are_all || !Glob::has_wildcard(name);
    let found = entries
        .iter()
        .filter(|entry| (by_name || !entry.of_pointer) && glob.matches(&entry.name));
    found
        .map(|entry| Site {
            candidate: index,
            address: entry.address,
            at_function_entry: true,
            returns: returns.then_some(entry.address),
            around: None,
            callers: Vec::new(),
            semaphore: None,
            text: SiteText {
                pp: format!("{prefix}.plt(\"{}\"){suffix}", entry.name),
                function: entry.name.clone(),
                module: candidate.path.display().to_string(),
                mark: entry.name.clone(),
                kind: if returns { "uretprobe" } else { "uprobe" }.into(),
                ..SiteText::default()
            },
            variables: variables(entry.address),
        })
        .collect()
}

/// Whether an address is in writable data of the file: a note may say anything.
fn is_data(binary: &Binary, address: ImageAddr) -> bool {
    let segments = binary.load_segments().iter().filter(|s| s.writable);
    segments
        .map(|s| s.vaddr.0..s.vaddr.0.saturating_add(s.mem_size))
        .any(|data| data.contains(&address.0))
}

fn mark_site(
    index: usize,
    candidate: &Candidate,
    prefix: &str,
    provider: Option<&str>,
    mark: &SdtMark,
) -> Site {
    let of_provider =
        provider.map_or_else(String::new, |_| format!(".provider(\"{}\")", mark.provider));
    Site {
        candidate: index,
        address: mark.pc,
        at_function_entry: false,
        returns: None,
        around: None,
        callers: Vec::new(),
        semaphore: mark.semaphore.filter(|s| is_data(&candidate.binary, *s)),
        text: SiteText {
            pp: format!("{prefix}{of_provider}.mark(\"{}\")", mark.name),
            function: candidate
                .binary
                .function_at(mark.pc)
                .map_or_else(String::new, |f| f.name.clone()),
            module: candidate.path.display().to_string(),
            mark: mark.name.clone(),
            provider: mark.provider.clone(),
            kind: "uprobe".into(),
            ..SiteText::default()
        },
        variables: Arc::new(SiteVariables::Mark {
            binary: Arc::clone(&candidate.binary),
            mark: mark.clone(),
        }),
    }
}
