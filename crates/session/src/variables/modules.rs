//! The modules that `@var` and `@cast` name: programs, libraries, and headers (stap(1), "TYPECASTING").

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use symbols::{Binary, LibraryEnvironment};

/// What was opened so far, by name and program; errors are remembered as well.
type Known = HashMap<(String, Option<PathBuf>), Result<Arc<Binary>, String>>;

/// The file that a module's name means, seen from the probed program; each is opened once.
pub(super) fn open(name: &str, program: Option<&Binary>) -> Result<Arc<Binary>, String> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = || {
        let known = KNOWN.get_or_init(Mutex::default);
        known.lock().unwrap_or_else(PoisonError::into_inner)
    };
    let key = (name.to_owned(), program.map(|p| p.path().to_owned()));
    if let Some(found) = known().get(&key) {
        return found.clone();
    }
    let found = match name.strip_prefix('<').and_then(|n| n.strip_suffix('>')) {
        Some(header) => compile(&format!("#include <{header}>\n")),
        None if name.starts_with("kernel") => {
            Err(format!("\"{name}\": the kernel's types are not looked up"))
        }
        None => match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
            Some(header) => compile(&format!("#include \"{header}\"\n")),
            None => file(name, program),
        },
    };
    let found = found.map(Arc::new);
    known().insert(key, found.clone());
    found
}

/// A path, a library of the program, or a program on `PATH`.
fn file(name: &str, program: Option<&Binary>) -> Result<Binary, String> {
    let path = Path::new(name);
    if name.contains('/') || path.is_file() {
        return Binary::open(path).map_err(|e| e.to_string());
    }
    if let Some(program) = program {
        let glob = symbols::Glob::new(name);
        let libraries = program.resolve_libraries(&LibraryEnvironment::from_process());
        let named = |path: &&PathBuf| {
            path.file_name()
                .is_some_and(|n| glob.matches(&n.to_string_lossy()))
        };
        if let Some(found) = libraries.iter().find(named) {
            return Binary::open(found).map_err(|e| e.to_string());
        }
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&paths).map(|p| p.join(name));
    match on_path.into_iter().find(|p| p.is_file()) {
        Some(found) => Binary::open(&found).map_err(|e| e.to_string()),
        None => Err(format!("there is no module \"{name}\"")),
    }
}

/// The debugging information of a source text that only includes a header, by the system's compiler.
fn compile(source: &str) -> Result<Binary, String> {
    use std::io::Write;
    let shown = source.trim_end();
    let needed = |why: String| {
        format!("{shown}: the types of a header need a C compiler (cc, or what CC says): {why}")
    };
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = tempfile::NamedTempFile::new().map_err(|e| needed(e.to_string()))?;
    let mut child = Command::new(&compiler)
        .args([
            "-g",
            "-fno-eliminate-unused-debug-types",
            "-w",
            "-shared",
            "-fPIC",
            "-nostdlib",
            "-I.",
            "-x",
            "c",
            "-o",
        ])
        .arg(output.path())
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| needed(format!("{}: {e}", compiler.display())))?;
    if let Some(mut input) = child.stdin.take() {
        // A compiler that does not read says why itself.
        let _ = input.write_all(source.as_bytes());
    }
    let said = child
        .wait_with_output()
        .map_err(|e| needed(e.to_string()))?;
    if !said.status.success() {
        let text = String::from_utf8_lossy(&said.stderr);
        let first = text.lines().find(|l| l.contains("error")).unwrap_or("");
        return Err(format!("{shown} can't be compiled: {first}"));
    }
    // By its name, since a linker may put another file in the place of the one that was made.
    let bytes = std::fs::read(output.path()).map_err(|e| needed(e.to_string()))?;
    Binary::from_bytes(shown, bytes).map_err(|e| e.to_string())
}
