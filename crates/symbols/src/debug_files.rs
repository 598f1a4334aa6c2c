//! Where debugging information is that is not in a file itself: separate debug files, what dwz(1) moved out of them, and
//! split units.

// Without the client nothing is asked for, and nothing received.
#[cfg_attr(not(feature = "debuginfod"), allow(dead_code))]
mod debuginfod;
mod link;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::binary::SymbolsError;
use crate::image::Image;
use crate::index_cache::IndexCache;

pub use debuginfod::{Debuginfod, DebuginfodError};
pub(crate) use link::{AlternateLink, DebugLink};

/// The default of `SYSTEMTAP_DEBUGINFO_PATH` for programs, as Debian's stap has it.
const DEFAULT_PATH: &str = "+:.debug:/usr/lib/debug:/var/cache/abrt-di/usr/lib/debug";

/// From this size of `.debug_info` on, names are looked for in an index on disk or by a search.
const LARGE_FROM: u64 = 8 << 20;

/// Something that a user should hear of while files are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A file that should help does not, with the reason.
    Warning(String),
    /// A download goes on.
    Progress {
        /// What is fetched from where.
        url: String,
        /// Bytes that have come.
        received: u64,
        /// Bytes that it will be, if the server said so.
        total: Option<u64>,
    },
}

/// Who hears of notices.
type Listener = Box<dyn Fn(&Notice) + Send + Sync>;

/// One place of a search path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directory {
    /// Absolute; or relative to the directory of the file whose debugging information is wanted.
    path: PathBuf,
    /// Whether a file found by name alone must have the checksum that the link gives.
    checked: bool,
}

/// The places in which debug files are looked for, and the caches that help.
pub struct DebugFiles {
    sysroot: Option<PathBuf>,
    directories: Vec<Directory>,
    debuginfod: Option<Debuginfod>,
    index_cache: Option<IndexCache>,
    large_from: u64,
    listener: Option<Listener>,
    /// Each warning is given once.
    given: Mutex<Vec<String>>,
}

impl fmt::Debug for DebugFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugFiles")
            .field("sysroot", &self.sysroot)
            .field("directories", &self.directories)
            .field("debuginfod", &self.debuginfod)
            .field("index_cache", &self.index_cache)
            .finish_non_exhaustive()
    }
}

impl Default for DebugFiles {
    /// The usual directories; no server, no cache of indexes.
    fn default() -> DebugFiles {
        DebugFiles {
            sysroot: None,
            directories: parse_path(DEFAULT_PATH),
            debuginfod: None,
            index_cache: None,
            large_from: LARGE_FROM,
            listener: None,
            given: Mutex::default(),
        }
    }
}

/// What [`DebugFiles::shared`] is.
static SHARED: OnceLock<Arc<DebugFiles>> = OnceLock::new();

impl DebugFiles {
    /// As the environment says: `SYSTEMTAP_DEBUGINFO_PATH` (stap(1)), and servers of `DEBUGINFOD_URLS`
    /// (debuginfod-find(1)). No cache of indexes.
    pub fn from_environment() -> DebugFiles {
        let path = std::env::var("SYSTEMTAP_DEBUGINFO_PATH").ok();
        DebugFiles {
            directories: parse_path(path.as_deref().unwrap_or(DEFAULT_PATH)),
            debuginfod: Debuginfod::from_environment(),
            ..DebugFiles::default()
        }
    }

    /// Files are looked for below this directory as well, before they are in the system's own.
    pub fn with_sysroot(mut self, sysroot: Option<PathBuf>) -> DebugFiles {
        self.sysroot = sysroot;
        self
    }

    /// The directory below which files are looked for first.
    pub fn sysroot(&self) -> Option<&Path> {
        self.sysroot.as_deref()
    }

    /// A search path in the manner of `SYSTEMTAP_DEBUGINFO_PATH`: directories with colons between; a relative one is meant
    /// from where the program is, and an empty one is that directory itself; `+` before one (or alone, for all that follow)
    /// wants checksums compared, `-` does not.
    pub fn with_path(mut self, path: &str) -> DebugFiles {
        self.directories = parse_path(path);
        self
    }

    /// Servers to ask for what is not on this machine.
    pub fn with_debuginfod(mut self, debuginfod: Option<Debuginfod>) -> DebugFiles {
        self.debuginfod = debuginfod;
        self
    }

    /// Where indexes of large files are kept.
    pub fn with_index_cache(mut self, cache: Option<IndexCache>) -> DebugFiles {
        self.index_cache = cache;
        self
    }

    /// From how many bytes of entries (`.debug_info`) on names are looked up in the cache of indexes, or by a search for
    /// their text, and not by decoding everything; 8 MiB by default.
    pub fn with_large_from(mut self, bytes: u64) -> DebugFiles {
        self.large_from = bytes;
        self
    }

    /// Who hears of what goes wrong and how downloads go on.
    pub fn with_listener(
        mut self,
        listener: impl Fn(&Notice) + Send + Sync + 'static,
    ) -> DebugFiles {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Makes these the places that [`crate::Binary::open`] knows, for the whole process. Has no effect (and gives `false`)
    /// when something was opened, or this was called, before.
    pub fn share(self) -> bool {
        SHARED.set(Arc::new(self)).is_ok()
    }

    /// What [`crate::Binary::open`] uses: what was shared, else [`DebugFiles::from_environment`].
    pub fn shared() -> Arc<DebugFiles> {
        Arc::clone(SHARED.get_or_init(|| Arc::new(DebugFiles::from_environment())))
    }

    pub(crate) fn index_cache(&self) -> Option<&IndexCache> {
        self.index_cache.as_ref()
    }

    pub(crate) fn large_from(&self) -> u64 {
        self.large_from
    }

    pub(crate) fn warn(&self, text: String) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.contains(&text) {
            return;
        }
        given.push(text.clone());
        drop(given);
        self.tell(&Notice::Warning(text));
    }

    fn tell(&self, notice: &Notice) {
        if let Some(listener) = &self.listener {
            listener(notice);
        }
    }

    /// The prefixes of absolute paths under which a file's companions may be: the root of its own mount namespace, the
    /// sysroot, the system.
    fn roots(&self, file: &Path) -> Vec<PathBuf> {
        let mut roots = Vec::new();
        roots.extend(process_root(file));
        roots.extend(self.sysroot.clone());
        roots.push(PathBuf::from("/"));
        roots
    }

    /// Files that may have a build-id, by the names under which debug packages put them.
    fn by_build_id(&self, file: &Path, id: &[u8]) -> Vec<PathBuf> {
        let Some((first, rest)) = id.split_first() else {
            return Vec::new();
        };
        let name = format!(".build-id/{first:02x}/{}.debug", hex(rest));
        let absolute = self.directories.iter().filter(|d| d.path.is_absolute());
        let absolute: Vec<PathBuf> = absolute.map(|d| d.path.join(&name)).collect();
        let roots = self.roots(file);
        let each = roots
            .iter()
            .flat_map(|root| absolute.iter().map(|path| below(root, path)));
        each.collect()
    }

    /// The separate debug file of a binary: by build-id, by the name that `.gnu_debuglink` gives, or from a server.
    /// A file of another build is not taken, with a warning.
    pub(crate) fn debug_file(&self, image: &Image) -> Option<Image> {
        let id = image.build_id();
        let here = std::fs::canonicalize(&image.path).ok();
        let is_itself = |path: &Path| {
            let there = std::fs::canonicalize(path).ok();
            here.is_some() && here == there
        };
        if let Some(id) = id {
            for path in self.by_build_id(&image.path, id) {
                if !is_itself(&path)
                    && let Some(debug) = self.open(&path)
                    && self.belongs(image, &debug, None)
                {
                    return Some(debug);
                }
            }
        }
        if let Some(link) = DebugLink::read(image) {
            for (path, checked) in self.by_link(&image.path, &link) {
                if is_itself(&path) {
                    continue;
                }
                if let Some(debug) = self.open(&path)
                    && self.belongs(image, &debug, checked.then_some(link.checksum))
                {
                    return Some(debug);
                }
            }
        }
        self.download(image, id?)
    }

    /// Where a file may be that `.gnu_debuglink` names, and whether its checksum counts.
    fn by_link(&self, file: &Path, link: &DebugLink) -> Vec<(PathBuf, bool)> {
        let mut found = Vec::new();
        let root = process_root(file);
        let real = match &root {
            // Links lead elsewhere in another mount namespace.
            Some(root) if file.starts_with(root) => Some(file.to_owned()),
            Some(root) => std::fs::read_link(file).ok().map(|path| {
                let text = path.to_string_lossy();
                below(root, Path::new(text.trim_end_matches(" (deleted)")))
            }),
            None => std::fs::canonicalize(file).ok(),
        };
        for file in [real.as_deref(), Some(file)].into_iter().flatten() {
            let Some(directory) = file.parent() else {
                continue;
            };
            // As the program's own system calls it.
            let within = [root.as_deref(), self.sysroot.as_deref()];
            let within = within.into_iter().flatten();
            let named = within
                .filter_map(|root| directory.strip_prefix(root).ok())
                .next()
                .or_else(|| directory.strip_prefix("/").ok());
            for place in &self.directories {
                if place.path.is_absolute() {
                    let Some(named) = named else { continue };
                    for root in self.roots(file) {
                        let base = below(&root, &place.path);
                        found.push((base.join(named).join(&link.name), place.checked));
                        found.push((base.join(&link.name), place.checked));
                    }
                } else {
                    let path = directory.join(&place.path).join(&link.name);
                    found.push((path, place.checked));
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|(path, _)| seen.insert(path.clone()));
        found
    }

    /// Whether a debug file is that of a binary: by build-id, or where one has none, by checksum.
    fn belongs(&self, image: &Image, debug: &Image, checksum: Option<u32>) -> bool {
        let why = match (image.build_id(), debug.build_id()) {
            (Some(wanted), Some(found)) if wanted == found => return true,
            (Some(wanted), Some(found)) => {
                format!("its build-id is {} and not {}", hex(found), hex(wanted))
            }
            (Some(wanted), None) => format!("it has no build-id, which should be {}", hex(wanted)),
            (None, _) => match checksum {
                None => return true,
                Some(wanted) => {
                    let found = crc32fast::hash(debug.bytes());
                    if found == wanted {
                        return true;
                    }
                    format!("its checksum is {found:#010x} and not {wanted:#010x}")
                }
            },
        };
        self.warn(format!(
            "{} does not belong to {}: {why}",
            debug.path.display(),
            image.path.display()
        ));
        false
    }

    /// The file that dwz(1) moved entries to that several debug files have in common (`.gnu_debugaltlink`).
    pub(crate) fn supplementary_file(&self, debug: &Image) -> Option<Image> {
        let link = AlternateLink::read(debug)?;
        let mut candidates = Vec::new();
        if link.name.is_absolute() {
            let roots = self.roots(&debug.path);
            candidates.extend(roots.iter().map(|root| below(root, &link.name)));
        } else {
            let directory = std::fs::canonicalize(&debug.path).ok();
            let directory = directory.as_deref().and_then(Path::parent);
            candidates.push(directory.unwrap_or(Path::new("/")).join(&link.name));
        }
        candidates.extend(self.by_build_id(&debug.path, &link.build_id));
        let mut others = Vec::new();
        for path in candidates {
            let Some(image) = self.open(&path) else {
                continue;
            };
            if image.build_id() == Some(&*link.build_id) {
                return Some(image);
            }
            others.push(path);
        }
        let fetched = self.download(debug, &link.build_id);
        if fetched.is_none() {
            let wanted = hex(&link.build_id);
            self.warn(match others.first() {
                Some(path) => format!(
                    "{}: {} is not what was made by dwz for it (build-id {wanted})",
                    debug.path.display(),
                    path.display()
                ),
                None => format!(
                    "{}: {} is missing (build-id {wanted}), which holds a part of the debugging information",
                    debug.path.display(),
                    link.name.display()
                ),
            });
        }
        fetched
    }

    /// The file of debugging information with a build-id that belongs to nothing on this machine.
    fn download(&self, image: &Image, id: &[u8]) -> Option<Image> {
        let server = self.debuginfod.as_ref()?;
        match server.debug_info(id, &|notice| self.tell(&notice)) {
            Ok(path) => {
                let debug = self.open(&path?)?;
                (debug.build_id() == Some(id)).then_some(debug)
            }
            Err(error) => {
                self.warn(format!("{}: {error}", image.path.display()));
                None
            }
        }
    }

    /// What is there and can't be read is worth a warning.
    fn open(&self, path: &Path) -> Option<Image> {
        match Image::open_debug_file(path) {
            Ok(image) => Some(image),
            Err(SymbolsError::NotFound { .. }) => None,
            Err(SymbolsError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotADirectory =>
            {
                None
            }
            Err(error) => {
                self.warn(format!("no debugging information from there: {error}"));
                None
            }
        }
    }

    /// Where the file of a split unit may be (`DW_AT_comp_dir`, `DW_AT_dwo_name`): as it was compiled, under the roots, or
    /// beside the program or its debug file.
    pub(crate) fn split_candidates(
        &self,
        loaded: &Path,
        debug: &Path,
        directory: &Path,
        name: &Path,
    ) -> Vec<PathBuf> {
        let compiled = directory.join(name);
        let mut found = Vec::new();
        if compiled.is_absolute() {
            let roots = self.roots(loaded);
            found.extend(roots.iter().map(|root| below(root, &compiled)));
        } else {
            found.push(compiled);
        }
        for beside in [loaded, debug] {
            if let Some(parent) = beside.parent() {
                found.push(parent.join(name));
                found.extend(name.file_name().map(|file| parent.join(file)));
            }
        }
        found
    }

    /// Where the package of split units may be: beside the program or its debug file, with `.dwp` behind the name.
    pub(crate) fn package_candidates(loaded: &Path, debug: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for file in [loaded, debug] {
            let real = std::fs::canonicalize(file).ok();
            for file in [Some(file.to_owned()), real].into_iter().flatten() {
                let mut path = file.clone().into_os_string();
                path.push(".dwp");
                found.push(PathBuf::from(path));
                if file.extension().is_some_and(|e| e == "debug") {
                    found.push(file.with_extension("dwp"));
                }
            }
        }
        found.dedup();
        found
    }
}

/// `/proc/PID/root` when a path leads through what a process has mapped or open, or through its root (proc(5)).
fn process_root(file: &Path) -> Option<PathBuf> {
    let mut parts = file.components();
    let process: PathBuf = parts.by_ref().take(3).collect();
    let is_process = process.parent() == Some(Path::new("/proc"));
    let of_process = ["root", "exe", "map_files"];
    let part = parts.next()?.as_os_str().to_str()?;
    (is_process && of_process.contains(&part)).then(|| process.join("root"))
}

/// An absolute path below another root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn parse_path(text: &str) -> Vec<Directory> {
    let mut checked = true;
    let mut found = Vec::new();
    for part in text.split(':') {
        let (own, path) = match (part.strip_prefix('+'), part.strip_prefix('-')) {
            (Some(path), _) => (Some(true), path),
            (_, Some(path)) => (Some(false), path),
            _ => (None, part),
        };
        if let Some(own) = own.filter(|_| path.is_empty()) {
            checked = own;
        }
        found.push(Directory {
            path: PathBuf::from(path),
            checked: own.unwrap_or(checked),
        });
    }
    found
}

/// A build-id as everybody spells it.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths_say_what_is_checked() {
        let parsed = parse_path("+:.debug:-/usr/lib/debug");
        let shown: Vec<(&str, bool)> = parsed
            .iter()
            .map(|d| (d.path.to_str().unwrap_or("?"), d.checked))
            .collect();
        assert_eq!(
            shown,
            [("", true), (".debug", true), ("/usr/lib/debug", false)]
        );
        assert!(parse_path("-:a").iter().all(|d| !d.checked));
    }

    #[test]
    fn another_mount_namespace_has_a_root_of_its_own() {
        let root = |p: &str| process_root(Path::new(p));
        assert_eq!(
            root("/proc/12/root/usr/bin/x"),
            Some(PathBuf::from("/proc/12/root"))
        );
        assert_eq!(
            root("/proc/12/map_files/1000-2000"),
            Some(PathBuf::from("/proc/12/root"))
        );
        assert_eq!(root("/proc/12/maps"), None);
        assert_eq!(root("/usr/bin/root/x"), None);
    }
}
