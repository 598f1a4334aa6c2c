//! Which programs and libraries the names in probe points stand for: paths, names on `PATH`, wildcards, processes.

use crate::build_id;
use crate::function_list::{self, Listed};
use crate::options::ListStyle;
use crate::probe_point::{Kind, Program};
use crate::resolve::{
    Candidate, ResolveError, Scope, Site, find_executable, in_sysroot, without_sysroot,
};
use inject::FileIdentity;
use script::ast::ProbePoint;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use symbols::{Binary, BinaryKind, Glob, LibraryEnvironment};

/// Sites, with the modules that they are in.
pub type Found = Vec<(Arc<Scope>, Vec<Site>)>;

/// The files in which points were looked for, each read once.
#[derive(Debug, Default)]
pub struct Files {
    scopes: HashMap<PathBuf, Result<Arc<Scope>, ResolveError>>,
}

impl Files {
    /// Every place that a point means, in the target when that is the point's program, else in the files that it names.
    ///
    /// # Errors
    /// Why it means nothing: the first reason, when there are several programs.
    pub fn resolve(
        &mut self,
        kind: &Kind,
        point: &ProbePoint,
        target: Option<&Arc<Scope>>,
    ) -> Result<Found, ResolveError> {
        let Some(program) = kind.program().filter(|_| kind.is_in_process()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        let mut failure = None;
        for scope in self.scopes(program, target)? {
            match resolve_in(&scope, kind, point) {
                Ok(more) => found.push(more),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// The functions that a point means, as they are listed; `None` when it means something else, or a few that are
    /// better looked for one by one.
    ///
    /// # Errors
    /// As [`Files::resolve`].
    pub fn list_functions(
        &mut self,
        kind: &Kind,
        target: Option<&Arc<Scope>>,
        style: ListStyle,
    ) -> Result<Option<Vec<Listed>>, ResolveError> {
        let (Some(program), true) = (kind.program(), function_list::is_long(kind)) else {
            return Ok(None);
        };
        let library = kind.module().and_then(|module| module.library.as_ref());
        let mut found = Vec::new();
        for scope in self.scopes(program, target)? {
            let listed = match (function_list::list(&scope, kind, style), library) {
                (Err(error @ ResolveError::NoLibrary { .. }), Some(library)) => {
                    let scope = with_library(&scope, library).ok_or(error)?;
                    function_list::list(&scope, kind, style)
                }
                (listed, _) => listed,
            };
            found.extend(listed?);
        }
        Ok(Some(found))
    }

    fn scopes(
        &mut self,
        name: &Program,
        target: Option<&Arc<Scope>>,
    ) -> Result<Vec<Arc<Scope>>, ResolveError> {
        if let Some(scope) = target
            && let Some(program) = scope.candidates.first()
            && match name {
                Program::Target => true,
                Program::Path(path) => self.is_program(path, program),
                Program::Process(_) => false,
            }
        {
            return Ok(vec![Arc::clone(scope)]);
        }
        let paths = match name {
            Program::Target => return Err(ResolveError::NoTarget),
            Program::Process(pid) => {
                let path = std::fs::read_link(format!("/proc/{pid}/exe"));
                vec![path.map_err(|_| ResolveError::NoProcess(*pid))?]
            }
            Program::Path(pattern) => find_programs(pattern),
        };
        let mut scopes = Vec::new();
        let mut failure = None;
        for path in paths {
            let scope = self
                .scopes
                .entry(path.clone())
                .or_insert_with(|| Scope::of_file(&path).map(Arc::new));
            match scope {
                Ok(scope) => scopes.push(Arc::clone(scope)),
                Err(error) => failure = failure.or(Some(error.clone())),
            }
        }
        match (failure, name) {
            _ if !scopes.is_empty() => Ok(scopes),
            (Some(error), _) => Err(error),
            (None, Program::Path(path)) => Err(ResolveError::NoProgram(path.clone())),
            (None, _) => Err(ResolveError::NoTarget),
        }
    }

    /// Whether one of the files that `process("NAME")` means is a shared library; of files in which a point was looked
    /// for.
    pub fn is_library(&self, name: &str) -> bool {
        find_programs(name)
            .iter()
            .filter_map(|path| self.scopes.get(path)?.as_ref().ok()?.candidates.first())
            .any(|file| file.binary.kind() == BinaryKind::SharedLibrary)
    }

    /// Whether a program is the one, or one of those, that `process("NAME")` means.
    pub fn is_program(&self, name: &str, program: &Candidate) -> bool {
        if Glob::has_wildcard(name) {
            return name_matches(name, &program.path);
        }
        match find_executable(name) {
            Some(found) => identity(&found) == Some(program.identity),
            None if build_id::parse(name).is_some() => {
                build_id::parse(name).as_deref() == program.binary.build_id()
            }
            // Only to be seen in the process's own mount namespace.
            None => name.contains('/') && Path::new(name) == program.path,
        }
    }
}

/// Which file is at a path, in which version.
pub fn identity(path: &Path) -> Option<FileIdentity> {
    let metadata = path.metadata().ok()?;
    Some(FileIdentity::of(&metadata))
}

fn resolve_in(
    scope: &Arc<Scope>,
    kind: &Kind,
    point: &ProbePoint,
) -> Result<(Arc<Scope>, Vec<Site>), ResolveError> {
    let library = kind.module().and_then(|module| module.library.as_ref());
    match (scope.resolve(kind, point), library) {
        (Ok(sites), _) => Ok((Arc::clone(scope), sites)),
        // Not one that the program is linked with, but perhaps one that it loads later.
        (Err(error @ ResolveError::NoLibrary { .. }), Some(library)) => {
            let scope = with_library(scope, library).ok_or(error)?;
            let sites = scope.resolve(kind, point)?;
            Ok((Arc::new(scope), sites))
        }
        (Err(error), _) => Err(error),
    }
}

/// The program with the libraries of that name that are on disk.
fn with_library(scope: &Scope, library: &str) -> Option<Scope> {
    let program = scope.candidates.first()?;
    let mut candidates = vec![program.clone()];
    for path in find_libraries(library) {
        if let Ok(candidate) = Candidate::open(&path, true) {
            candidates.push(candidate);
        }
    }
    (candidates.len() > 1).then_some(Scope { candidates })
}

/// Libraries on disk by path (wildcards allowed), or by name in the directories where the dynamic linker looks.
fn find_libraries(pattern: &str) -> Vec<PathBuf> {
    let environment = LibraryEnvironment::from_process();
    let named = environment.library_path.iter();
    let mut directories: Vec<PathBuf> = named
        .flat_map(|path| path.split([':', ';']).map(PathBuf::from))
        .collect();
    directories.extend(environment.default_directories);
    let patterns = if pattern.contains('/') {
        vec![in_sysroot(Path::new(pattern))]
    } else {
        directories
            .iter()
            .map(|dir| in_sysroot(&dir.join(pattern)))
            .collect()
    };
    let found: BTreeSet<PathBuf> = patterns.iter().flat_map(|p| expand(p)).collect();
    found.into_iter().collect()
}

/// The programs that `process("NAME")` means: a path, a name on `PATH` (links resolved) or a build-id; with wildcards every program
/// that matches (a pattern without a slash is looked for in the directories of `PATH`).
pub fn find_programs(name: &str) -> Vec<PathBuf> {
    if !Glob::has_wildcard(name) {
        let by_id = || build_id::find(&build_id::parse(name)?);
        return find_executable(name).or_else(by_id).into_iter().collect();
    }
    let patterns = if name.contains('/') {
        vec![in_sysroot(Path::new(name))]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|dir| in_sysroot(&dir.join(name)))
            .collect()
    };
    let found: BTreeSet<PathBuf> = patterns
        .iter()
        .flat_map(|pattern| expand(pattern))
        // Libraries need not be executable, and are not on Debian.
        .filter(|path| is_executable(path) || name.contains(".so"))
        .collect();
    found.into_iter().collect()
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The files that a pattern matches, links resolved.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let text = pattern.to_string_lossy();
    let Ok(paths) = glob::glob(&text) else {
        return Vec::new();
    };
    paths
        .filter_map(|path| path.ok()?.canonicalize().ok())
        .filter(|path| path.is_file())
        .collect()
}

/// Whether a program's path is among those that a pattern with wildcards matches; a link that does counts, too.
fn name_matches(pattern: &str, path: &Path) -> bool {
    let glob = Glob::new(pattern);
    let direct = if pattern.contains('/') {
        glob.matches(&path.to_string_lossy())
    } else {
        let on_path = std::env::var_os("PATH").is_some_and(|dirs| {
            std::env::split_paths(&dirs).any(|dir| {
                path.parent().is_some_and(|parent| {
                    dir == parent || dir.canonicalize().is_ok_and(|d| d == parent)
                })
            })
        });
        let name = path.file_name().map(|name| name.to_string_lossy());
        on_path && name.is_some_and(|name| glob.matches(&name))
    };
    direct || find_programs(pattern).iter().any(|found| found == path)
}

impl Candidate {
    /// A file that is not mapped into a process.
    ///
    /// # Errors
    /// [`ResolveError::Binary`].
    pub fn open(path: &Path, is_library: bool) -> Result<Candidate, ResolveError> {
        let binary = Binary::open(path).map_err(|e| ResolveError::Binary(e.to_string()))?;
        let identity = identity(path)
            .ok_or_else(|| ResolveError::Binary(format!("cannot read \"{}\"", path.display())))?;
        // As the kernel would name it, links resolved.
        let real = path.canonicalize();
        Ok(Candidate {
            path: without_sysroot(real.as_deref().unwrap_or(path)),
            identity,
            binary: Arc::new(binary),
            is_library,
        })
    }
}
