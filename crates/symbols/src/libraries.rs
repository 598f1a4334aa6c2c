//! Which shared libraries the dynamic linker will map when a program starts (ld.so(8)).

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use object::elf;

use crate::binary::Binary;
use crate::image::Image;

/// What the search for libraries depends on besides the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryEnvironment {
    /// `LD_LIBRARY_PATH` of the program to be started.
    pub library_path: Option<String>,
    /// `LD_PRELOAD` of the program to be started.
    pub preload: Option<String>,
    /// The cache that ldconfig(8) writes.
    pub cache: PathBuf,
    /// Directories that are searched last.
    pub default_directories: Vec<PathBuf>,
    /// The directory that is `/` for the program; the paths above are within it.
    pub root: Option<PathBuf>,
}

impl Default for LibraryEnvironment {
    /// The system's cache and directories, with no environment variables.
    fn default() -> LibraryEnvironment {
        LibraryEnvironment {
            library_path: None,
            preload: None,
            cache: PathBuf::from("/etc/ld.so.cache"),
            default_directories: [
                "/lib/x86_64-linux-gnu",
                "/usr/lib/x86_64-linux-gnu",
                "/lib64",
                "/usr/lib64",
                "/lib",
                "/usr/lib",
            ]
            .map(PathBuf::from)
            .to_vec(),
            root: None,
        }
    }
}

impl LibraryEnvironment {
    /// The system's cache and directories with this process's own variables, which a child will inherit.
    pub fn from_process() -> LibraryEnvironment {
        LibraryEnvironment {
            library_path: std::env::var("LD_LIBRARY_PATH").ok(),
            preload: std::env::var("LD_PRELOAD").ok(),
            root: crate::debug_files::DebugFiles::shared()
                .sysroot()
                .map(Path::to_owned),
            ..LibraryEnvironment::default()
        }
    }

    /// Where a path of the program's is.
    fn rooted(&self, path: &Path) -> PathBuf {
        match (&self.root, path.strip_prefix("/")) {
            // What was found below the root, or leads from there, is whole already.
            (Some(root), Ok(inside)) if !path.starts_with(root) => root.join(inside),
            _ => path.to_owned(),
        }
    }
}

struct Search<'a> {
    environment: &'a LibraryEnvironment,
    cache: HashMap<String, Vec<PathBuf>>,
}

/// One object of the search: what it names and where it looks.
struct Object {
    path: PathBuf,
    needed: Vec<String>,
    rpath: Vec<String>,
    runpath: Vec<String>,
}

pub(crate) fn resolve(binary: &Binary, environment: &LibraryEnvironment) -> Vec<PathBuf> {
    let Some(interpreter) = binary.interpreter() else {
        if binary.needed().is_empty() {
            return Vec::new();
        }
        return Search::new(environment).walk(binary.path(), None);
    };
    let interpreter = environment.rooted(Path::new(interpreter));
    let interpreter = interpreter.as_path();
    if interpreter
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with("ld-musl-"))
    {
        return Search::new(&for_musl(environment)).walk(binary.path(), Some(interpreter));
    }
    Search::new(environment).walk(binary.path(), Some(interpreter))
}

/// musl's dynamic linker keeps no cache: the directories are in a file, by default these.
fn for_musl(environment: &LibraryEnvironment) -> LibraryEnvironment {
    let listed = std::fs::read_to_string("/etc/ld-musl-x86_64.path").ok();
    let directories = listed.unwrap_or_else(|| "/lib:/usr/local/lib:/usr/lib".into());
    LibraryEnvironment {
        cache: PathBuf::new(),
        default_directories: directories
            .split([':', '\n'])
            .filter(|d| !d.is_empty())
            .map(PathBuf::from)
            .collect(),
        ..environment.clone()
    }
}

impl<'a> Search<'a> {
    fn new(environment: &'a LibraryEnvironment) -> Search<'a> {
        let cache = std::fs::read(environment.rooted(&environment.cache))
            .map(|bytes| parse_cache(&bytes))
            .unwrap_or_default();
        Search { environment, cache }
    }

    fn walk(&self, root: &Path, interpreter: Option<&Path>) -> Vec<PathBuf> {
        let Some(root) = object(root) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut seen_names = HashSet::new();
        let mut seen_files = HashSet::new();
        let identity =
            |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let linker = interpreter.map(identity);
        seen_files.extend(linker.clone());
        let mut queue = VecDeque::new();
        let preload = self.environment.preload.as_deref().unwrap_or_default();
        let mut wanted: Vec<String> = preload
            .split([' ', ':'])
            .filter(|n| !n.is_empty())
            .map(str::to_owned)
            .collect();
        wanted.extend(root.needed.iter().cloned());
        let root_rpath = root.rpath.clone();
        queue.push_back((root, wanted));
        while let Some((parent, wanted)) = queue.pop_front() {
            for name in wanted {
                if !seen_names.insert(name.clone()) {
                    continue;
                }
                let Some(child) = self.locate(&name, &parent, &root_rpath) else {
                    continue;
                };
                if !seen_files.insert(identity(&child.path)) {
                    continue;
                }
                found.push(child.path.clone());
                let wanted = child.needed.clone();
                queue.push_back((child, wanted));
            }
        }
        found.extend(interpreter.filter(|p| p.exists()).map(Path::to_owned));
        found
    }

    /// The search order of ld.so(8): RPATH if there is no RUNPATH, LD_LIBRARY_PATH, RUNPATH, the cache, the default
    /// directories. The first file of the right class and machine wins.
    fn locate(&self, name: &str, parent: &Object, root_rpath: &[String]) -> Option<Object> {
        if name.contains('/') {
            let path = expand(name, &parent.path);
            return object(&self.environment.rooted(Path::new(&path)));
        }
        let mut directories: Vec<String> = Vec::new();
        if parent.runpath.is_empty() {
            directories.extend(parent.rpath.iter().cloned());
            directories.extend(root_rpath.iter().cloned());
        }
        if let Some(path) = &self.environment.library_path {
            directories.extend(
                path.split([':', ';'])
                    .map(|d| if d.is_empty() { "." } else { d }.to_owned()),
            );
        }
        directories.extend(parent.runpath.iter().cloned());
        let here = directories
            .iter()
            .map(|d| Path::new(&expand(d, &parent.path)).join(name));
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let last = self
            .environment
            .default_directories
            .iter()
            .map(|d| d.join(name));
        here.chain(cached)
            .chain(last)
            .find_map(|path| object(&self.environment.rooted(&path)))
    }
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM` (ld.so(8), "Dynamic string tokens").
fn expand(text: &str, object: &Path) -> String {
    if !text.contains('$') {
        return text.to_owned();
    }
    let real = std::fs::canonicalize(object).unwrap_or_else(|_| object.to_owned());
    let origin = real
        .parent()
        .map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default();
    text.replace("${ORIGIN}", &origin)
        .replace("$ORIGIN", &origin)
        .replace("${LIB}", "lib/x86_64-linux-gnu")
        .replace("$LIB", "lib/x86_64-linux-gnu")
        .replace("${PLATFORM}", "x86_64")
        .replace("$PLATFORM", "x86_64")
}

fn object(path: &Path) -> Option<Object> {
    if !path.is_file() {
        return None;
    }
    let image = Image::open(path).ok()?;
    let paths = |tag| {
        image
            .dynamic_strings(tag)
            .iter()
            .flat_map(|p| p.split(':'))
            .filter(|p| !p.is_empty())
            // $ORIGIN is the directory of the object that says it, also where another inherits its RPATH.
            .map(|p| expand(p, path))
            .collect()
    };
    Some(Object {
        path: path.to_owned(),
        needed: image.dynamic_strings(elf::DT_NEEDED),
        rpath: paths(elf::DT_RPATH),
        runpath: paths(elf::DT_RUNPATH),
    })
}

const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`: libraries of 64-bit x86 programs.
const CACHE_FLAGS: u32 = 0x0303;

/// Reads the cache of ldconfig(8): a header of 48 bytes, entries of 24 (flags, name, path, two words), then strings;
/// offsets count from the start of the header. The older format may stand before it.
fn parse_cache(bytes: &[u8]) -> HashMap<String, Vec<PathBuf>> {
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    let bytes = if bytes.starts_with(OLD_MAGIC) {
        let at = bytes
            .windows(NEW_MAGIC.len())
            .position(|w| w == NEW_MAGIC)
            .unwrap_or(bytes.len());
        bytes.get(at..).unwrap_or_default()
    } else {
        bytes
    };
    if !bytes.starts_with(NEW_MAGIC) {
        return found;
    }
    let word = |at: usize| {
        let chunk = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*chunk))
    };
    let string = |at: u32| {
        let rest = bytes.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        rest.get(..end)
            .map(|s| String::from_utf8_lossy(s).into_owned())
    };
    let count = word(20).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    for index in 0..count.min(bytes.len() / 24) {
        let at = 48 + index * 24;
        let (Some(flags), Some(key), Some(value)) = (word(at), word(at + 4), word(at + 8)) else {
            break;
        };
        // Variants for particular processors follow the plain entry and are chosen by the processor's abilities; the
        // plain one is always right for symbols of the same name, so it stands first.
        let plain = bytes
            .get(at + 16..at + 24)
            .is_some_and(|hwcap| hwcap == [0; 8]);
        if flags & 0xffff != CACHE_FLAGS || !plain {
            continue;
        }
        if let (Some(key), Some(value)) = (string(key), string(value)) {
            found.entry(key).or_default().push(PathBuf::from(value));
        }
    }
    found
}
