//! Indexes of large files, kept on disk between runs.
//!
//! An index is a file of its own, by the build-id of what it is an index of. It appears under its name whole or not at all,
//! so that any number of programs may read and write at a time; one that is damaged is taken for missing and written anew.
//! When all together are larger than the limit, those that were not used for the longest time go.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use memmap2::Mmap;

/// What stap(1) allows its cache.
const DEFAULT_LIMIT: u64 = 256 << 20;
/// What all indexes are called by.
const EXTENSION: &str = "names";

/// A directory of indexes.
#[derive(Debug, Clone)]
pub struct IndexCache {
    directory: PathBuf,
    limit: u64,
    read: bool,
}

impl IndexCache {
    /// A directory, which is made when something is stored. At most as many MiB are used as its file `cache_mb_limit`
    /// says, 256 without one (stap(1), "CACHING").
    pub fn new(directory: PathBuf) -> IndexCache {
        let limit = fs::read_to_string(directory.join("cache_mb_limit"))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .map_or(DEFAULT_LIMIT, |mib| mib.saturating_mul(1 << 20));
        IndexCache {
            directory,
            limit,
            read: true,
        }
    }

    /// At most so many bytes.
    pub fn with_limit(self, limit: u64) -> IndexCache {
        IndexCache { limit, ..self }
    }

    /// Nothing is read from it, while everything is written anew (`--poison-cache` of stap(1)).
    pub fn poisoned(self) -> IndexCache {
        IndexCache {
            read: false,
            ..self
        }
    }

    /// Where the indexes are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.{EXTENSION}"))
    }

    /// Whether something is there that would be read.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.read && self.path(name).exists()
    }

    pub(crate) fn load(&self, name: &str) -> Option<Mmap> {
        let file = File::open(self.path(name)).ok().filter(|_| self.read)?;
        // Says when it was last used; a directory that can't be written to has nothing removed from it either.
        let _ = file.set_modified(SystemTime::now());
        // SAFETY: the mapping is private and only read, and the files are replaced by renaming, never rewritten in place.
        unsafe { Mmap::map(&file) }.ok()
    }

    /// Without a word when it can't be: then it is made again next time.
    pub(crate) fn store(&self, name: &str, bytes: &[u8]) {
        if bytes.len() as u64 > self.limit {
            return;
        }
        let path = self.path(name);
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}.{number}.tmp", std::process::id()));
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            fs::rename(&temporary, &path)
        };
        if write().is_err() {
            // It may not even be there.
            let _ = fs::remove_file(&temporary);
            return;
        }
        self.clean();
    }

    pub(crate) fn remove(&self, name: &str) {
        // Somebody else may have been faster.
        let _ = fs::remove_file(self.path(name));
    }

    /// Removes what was not used for the longest time until the rest is within the limit, and what programs that died left
    /// unfinished.
    pub fn clean(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        const UNFINISHED: u64 = 3600;
        let mut found = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else {
                continue;
            };
            let time = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let age = time.elapsed().unwrap_or_default().as_secs();
            match path.extension().and_then(|e| e.to_str()) {
                Some(EXTENSION) => found.push((time, metadata.len(), path)),
                Some("tmp") if age > UNFINISHED => {
                    let _ = fs::remove_file(&path);
                }
                _ => {}
            }
        }
        found.sort();
        let mut total: u64 = found.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in found {
            if total <= self.limit {
                break;
            }
            if fs::remove_file(path).is_ok() {
                total -= size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = IndexCache::new(directory.path().join("indexes")).with_limit(2500);
        cache.store("a", &[1; 1000]);
        cache.store("b", &[2; 1000]);
        let old = SystemTime::now() - Duration::from_secs(100);
        for (name, age) in [("a", 0), ("b", 50)] {
            let file = File::open(cache.path(name)).expect("stored");
            let time = old - Duration::from_secs(age);
            file.set_modified(time).expect("its time is set");
        }
        assert_eq!(cache.load("b").as_deref(), Some(&[2; 1000][..]));
        cache.store("c", &[3; 1000]);
        assert!(cache.load("a").is_none());
        assert!(cache.load("b").is_some() && cache.load("c").is_some());
        cache.store("huge", &[0; 3000]);
        assert!(cache.load("huge").is_none() && cache.load("b").is_some());
        assert!(cache.clone().poisoned().load("b").is_none());
        cache.remove("b");
        assert!(cache.load("b").is_none());
    }
}
