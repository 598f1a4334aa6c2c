//! A file that grows, by its name: what is appended to it, through rotation and truncation.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::LineSplitter;

/// Bytes before the place that is read next, by which a file is known to be what it was.
const KNOWN: usize = 64;
/// Read at once.
const CHUNK: usize = 64 << 10;
/// How long a file is read on that bears another name now, behind its last line.
const LINGER: Duration = Duration::from_secs(60);
/// So many of those at most.
const OLD_MAX: usize = 8;

/// A file's place on disk: device and inode.
type Id = (u64, u64);

fn id(meta: &fs::Metadata) -> Id {
    (meta.dev(), meta.ino())
}

/// A file that is being read.
struct OpenFile {
    file: File,
    id: Id,
    offset: u64,
    /// The bytes before `offset`, as many as [`KNOWN`].
    known: Vec<u8>,
    splitter: LineSplitter,
    grown: Instant,
}

impl OpenFile {
    fn open(path: &Path, line_max: usize) -> io::Result<OpenFile> {
        // A FIFO would wait for its writer.
        let file = File::options()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(path)?;
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(OpenFile {
            file,
            id: id(&meta),
            offset: 0,
            known: Vec::new(),
            splitter: LineSplitter::new(line_max),
            grown: Instant::now(),
        })
    }

    fn skip_to_end(&mut self) -> io::Result<()> {
        self.offset = self.file.metadata()?.len();
        let start = self.offset.saturating_sub(KNOWN as u64);
        self.known = vec![0; (self.offset - start) as usize];
        let got = self.file.read_at(&mut self.known, start)?;
        self.known.truncate(got);
        Ok(())
    }

    /// Whether what was read last still stands where it was: otherwise the file was cut and written anew.
    fn is_as_known(&self) -> bool {
        let mut seen = vec![0; self.known.len()];
        let start = self.offset - self.known.len() as u64;
        match self.file.read_exact_at(&mut seen, start) {
            Ok(()) => seen == self.known,
            // Shorter than it was, unless it can't be read at all.
            Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
        }
    }

    /// Reads lines until the end, or about `budget` bytes. Whether there may be more.
    fn read(&mut self, budget: &mut usize, line: &mut impl FnMut(&[u8], u64)) -> bool {
        let mut chunk = vec![0; CHUNK];
        while *budget > 0 {
            let got = match self.file.read_at(&mut chunk, self.offset) {
                Ok(0) | Err(_) => return false,
                Ok(got) => got,
            };
            let bytes = chunk.get(..got).unwrap_or_default();
            self.offset += got as u64;
            self.known.extend_from_slice(bytes);
            self.known.drain(..self.known.len().saturating_sub(KNOWN));
            self.splitter.feed(bytes, line);
            self.grown = Instant::now();
            *budget = budget.saturating_sub(got);
        }
        true
    }

    /// From the beginning again: the file was truncated.
    fn restart(&mut self, line: &mut impl FnMut(&[u8], u64)) {
        self.splitter.finish(line);
        self.offset = 0;
        self.known.clear();
    }
}

/// What happened in the folder of a followed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file of that name came into being or was written to.
    Written(OsString),
    /// A file got another name.
    Renamed(OsString, OsString),
    /// A name went.
    Gone(OsString),
}

/// What became of a file.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// It was cut and perhaps written anew.
    cut: bool,
    /// Another one that has its name.
    new: Option<Id>,
}

/// A followed file.
pub struct Follower {
    path: PathBuf,
    line_max: usize,
    current: Option<OpenFile>,
    /// Files that had the name before, oldest first, which somebody may still write to.
    old: VecDeque<OpenFile>,
    /// Names of files that had our name for a time too short to be opened, oldest first.
    passed: Vec<OsString>,
    /// Files in the folder that were written since the last look, apart from ours: one of them may be its copy.
    others: Vec<OsString>,
}

impl Follower {
    /// Follows a file from its present end; if it is not there yet, from its beginning when it is.
    ///
    /// # Errors
    /// When it is there but can't be read; it is tried again.
    pub fn new(path: &Path, line_max: usize) -> (Follower, io::Result<()>) {
        let mut follower = Follower {
            path: path.to_owned(),
            line_max,
            current: None,
            old: VecDeque::new(),
            passed: Vec::new(),
            others: Vec::new(),
        };
        let opened = OpenFile::open(path, line_max).and_then(|mut open| {
            open.skip_to_end()?;
            Ok(open)
        });
        let result = match opened {
            Ok(open) => {
                follower.current = Some(open);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        (follower, result)
    }

    /// The folder that it is in.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Its size in bytes now.
    pub fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    fn is_ours(&self, name: &OsStr) -> bool {
        self.path.file_name() == Some(name)
    }

    /// Notes what happened in the folder, in order.
    pub fn notice(&mut self, change: &Change) {
        match change {
            Change::Written(name) => {
                if !self.is_ours(name) && !self.others.contains(name) && self.others.len() < 64 {
                    self.others.push(name.clone());
                }
            }
            Change::Renamed(from, to) => {
                self.passed.retain(|name| name != to);
                if self.is_ours(from) {
                    // One that is open is found by its identity; one that came and went since is not.
                    self.passed.push(to.clone());
                } else if let Some(passed) = self.passed.iter_mut().find(|n| *n == from) {
                    passed.clone_from(to);
                }
            }
            Change::Gone(name) => self.passed.retain(|n| n != name),
        }
    }

    /// Looks whether the file was cut or another has its name now.
    pub fn look(&self) -> Found {
        let current = self.current.as_ref();
        let named = fs::metadata(&self.path).ok().map(|meta| id(&meta));
        Found {
            cut: current.is_some_and(|current| !current.is_as_known()),
            new: named.filter(|named| current.is_none_or(|current| current.id != *named)),
        }
    }

    /// Reads what was appended, about `budget` bytes at most. Whether there may be more. What happened in the folder until `found`
    /// was found must have been noticed.
    pub fn poll(
        &mut self,
        found: Found,
        mut budget: usize,
        line: &mut impl FnMut(&[u8], u64),
    ) -> bool {
        for old in &mut self.old {
            old.read(&mut budget, line);
        }
        if let Some(current) = &mut self.current {
            if found.cut {
                let others = std::mem::take(&mut self.others);
                read_copy(current, &others, &self.path, line);
                current.restart(line);
            }
            current.read(&mut budget, line);
        }
        if budget == 0 {
            return true;
        }
        self.others.clear();
        self.find_new(found.new, &mut budget, line);
        let now = Instant::now();
        while self.old.len() > OLD_MAX
            || (self.old.front()).is_some_and(|o| now.duration_since(o.grown) > LINGER)
        {
            if let Some(mut old) = self.old.pop_front() {
                old.splitter.finish(line);
            }
        }
        budget == 0
    }

    fn is_known(&self, meta: &fs::Metadata) -> bool {
        let mut open = self.old.iter().chain(&self.current);
        open.any(|open| open.id == id(meta))
    }

    /// Reads the files that had the name for a time, and opens the one that has it now.
    fn find_new(&mut self, new: Option<Id>, budget: &mut usize, line: &mut impl FnMut(&[u8], u64)) {
        let folder = self.folder().to_owned();
        for name in std::mem::take(&mut self.passed) {
            let path = folder.join(name);
            let known = fs::metadata(&path).map(|meta| self.is_known(&meta));
            if let (Ok(false), Ok(mut open)) = (known, OpenFile::open(&path, self.line_max)) {
                self.retire(budget, line);
                open.read(budget, line);
                self.old.push_back(open);
            }
        }
        let Some(new) = new else { return };
        // One that had the name before may get it back.
        if let Some(at) = self.old.iter().position(|open| open.id == new) {
            let back = self.old.remove(at);
            self.retire(budget, line);
            self.current = back;
            return;
        }
        match OpenFile::open(&self.path, self.line_max) {
            // Should it be another already, the name of this one will be told.
            Ok(mut open) if open.id == new => {
                self.retire(budget, line);
                open.read(budget, line);
                self.current = Some(open);
            }
            _ => {}
        }
    }

    /// The file that had the name until now is an old one. Whatever was written before the next came is there by now.
    fn retire(&mut self, budget: &mut usize, line: &mut impl FnMut(&[u8], u64)) {
        if let Some(mut before) = self.current.take() {
            before.read(budget, line);
            self.old.push_back(before);
        }
    }
}

/// After `cp LOG COPY; : > LOG` reads from the copy what was not read from the log. It is known by its name, and by having
/// what was read last at the same place.
fn read_copy(
    current: &mut OpenFile,
    others: &[OsString],
    path: &Path,
    line: &mut impl FnMut(&[u8], u64),
) {
    let (Some(folder), Some(own)) = (path.parent(), path.file_name()) else {
        return;
    };
    let own = own.as_encoded_bytes();
    let mut copies = others
        .iter()
        .filter(|name| name.as_encoded_bytes().starts_with(own));
    let copy = copies.find_map(|name| {
        let mut copy = OpenFile::open(&folder.join(name), 0).ok()?;
        copy.offset = current.offset;
        copy.known.clone_from(&current.known);
        copy.is_as_known().then_some(copy)
    });
    if let Some(mut copy) = copy {
        std::mem::swap(&mut copy.splitter, &mut current.splitter);
        copy.read(&mut { usize::MAX }, line);
        std::mem::swap(&mut copy.splitter, &mut current.splitter);
    }
}
