//! Where the commands look for debugging information: the environment's places, a sysroot, the cache of indexes.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use symbols::{DebugFiles, IndexCache, Notice};

/// How a run uses the cache of indexes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Read and written.
    Full,
    /// Written only.
    Poisoned,
    /// Left alone.
    Disabled,
}

/// The cache, in the directory where stap keeps its own: `$SYSTEMTAP_DIR/cache`, or `~/.systemtap/cache`.
pub fn index_cache() -> Option<IndexCache> {
    let directory: PathBuf = match std::env::var_os("SYSTEMTAP_DIR") {
        Some(directory) => directory.into(),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".systemtap"),
    };
    Some(IndexCache::new(directory.join("cache")))
}

/// Settles where this process looks; before the first binary is opened.
pub fn share(sysroot: Option<PathBuf>, cache: CacheUse, warnings: bool) {
    let cache = match cache {
        CacheUse::Full => index_cache(),
        CacheUse::Poisoned => index_cache().map(IndexCache::poisoned),
        CacheUse::Disabled => None,
    };
    let sysroot = sysroot.filter(|root| root.as_path() != Path::new("/"));
    DebugFiles::from_environment()
        .with_sysroot(sysroot)
        .with_index_cache(cache)
        .with_listener(move |notice| tell(notice, warnings))
        .share();
}

/// Downloads are shown where somebody looks on, or where elfutils' client would show them (debuginfod-find(1)).
fn tell(notice: &Notice, warnings: bool) {
    let mut error = std::io::stderr().lock();
    // Nobody is there to tell when standard error is closed.
    let _ = match notice {
        Notice::Warning(text) if warnings => writeln!(error, "WARNING: {text}"),
        Notice::Warning(_) => Ok(()),
        Notice::Progress {
            url,
            received,
            total,
        } => {
            let whole = |bytes: u64| bytes.div_ceil(1 << 10);
            let so_far = match total {
                Some(total) => format!("{} of {} KiB", whole(*received), whole(*total)),
                None => format!("{} KiB", whole(*received)),
            };
            let complete = *total == Some(*received);
            match (error.is_terminal(), complete) {
                (true, false) => write!(error, "\rDownloading {url}: {so_far}"),
                (true, true) => writeln!(error, "\rDownloading {url}: {so_far}"),
                (false, _) if std::env::var_os("DEBUGINFOD_PROGRESS").is_some() => {
                    writeln!(error, "Downloading {url}: {so_far}")
                }
                _ => Ok(()),
            }
        }
    };
}
