//! Finding processes by their program, where neither `-c` nor `-x` says which: those that run, and those that start.
//!
//! inotify(7) tells when an executable is opened, which execve(2) does, too. The process runs the new program a little
//! later, so that /proc is looked at several times after each event.

use crate::plan::Plan;
use crate::probe_point::Program;
use crate::programs::{find_programs, identity};
use inject::Pid;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::{BTreeSet, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use symbols::Glob;

/// Time from an event to the second look, doubled for each further one.
const FIRST_LOOK: Duration = Duration::from_micros(500);
/// Looks after one event.
const LOOKS: u32 = 9;
/// Where nothing tells of programs that start, /proc is looked at so often.
const POLL: Duration = Duration::from_millis(100);

/// The search for processes.
#[derive(Debug)]
pub struct Discovery {
    /// Names of programs, as in `process("NAME")`.
    names: Vec<String>,
    /// `process(PID)`.
    pids: Vec<i32>,
    /// Those of the names that stand for libraries.
    libraries: HashSet<String>,
    /// Device and inode of the programs.
    files: HashSet<(u64, u64)>,
    /// Device and inode of the libraries.
    library_files: HashSet<(u64, u64)>,
    inotify: Option<OwnedFd>,
    looks_left: u32,
    next: Option<Instant>,
}

impl Discovery {
    /// Whether the script names programs or processes to be found.
    pub fn is_wanted(plan: &Plan<'_>) -> bool {
        plan.programs().any(|name| *name != Program::Target)
    }

    /// Begins to look for the programs of a plan.
    pub fn new(plan: &Plan<'_>) -> Discovery {
        let mut names = BTreeSet::new();
        let mut pids = BTreeSet::new();
        for name in plan.programs() {
            match name {
                Program::Path(path) => drop(names.insert(path.clone())),
                Program::Process(pid) => drop(pids.insert(*pid)),
                Program::Target => {}
            }
        }
        let mut discovery = Discovery {
            names: names.into_iter().collect(),
            pids: pids.into_iter().collect(),
            libraries: plan.libraries().map(String::from).collect(),
            files: HashSet::new(),
            library_files: HashSet::new(),
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            looks_left: 0,
            next: None,
        };
        discovery.look_up();
        if discovery.inotify.is_none() && !discovery.names.is_empty() {
            discovery.next = Some(Instant::now() + POLL);
        }
        discovery
    }

    /// Finds the programs' files, and watches them and, where names have wildcards, the directories that may get more.
    fn look_up(&mut self) {
        let mut paths: Vec<(PathBuf, WatchFlags)> = Vec::new();
        for name in &self.names {
            let found = find_programs(name);
            let files = found.iter().filter_map(|path| identity(path));
            let files: Vec<(u64, u64)> = files.map(|identity| identity.file()).collect();
            if self.libraries.contains(name) {
                self.library_files.extend(&files);
            }
            self.files.extend(files);
            let changes = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
            if Glob::has_wildcard(name) {
                let directories: BTreeSet<PathBuf> = found
                    .iter()
                    .filter_map(|path| Some(path.parent()?.to_owned()))
                    .chain(PathBuf::from(name).parent().map(PathBuf::from))
                    .collect();
                paths.extend(directories.into_iter().map(|dir| (dir, changes)));
            }
            let opened = WatchFlags::OPEN | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            paths.extend(found.into_iter().map(|path| (path, opened)));
        }
        if let Some(inotify) = &self.inotify {
            for (path, flags) in paths {
                // One that can't be watched is found when another one is started.
                let _ = inotify::add_watch(inotify, &path, flags | WatchFlags::MASK_ADD);
            }
        }
    }

    /// Becomes readable when a program may have started.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// When to look the next time, whatever happens.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// The processes that run one of the programs now, or map one of the libraries, less those that are known. `event` says
    /// that [`Discovery::fd`] was readable.
    pub fn look(&mut self, event: bool, is_known: impl Fn(i32) -> bool) -> Vec<i32> {
        let now = Instant::now();
        if event {
            let files_changed = self.take_events();
            if files_changed {
                self.look_up();
            }
            self.looks_left = LOOKS;
        }
        self.next = if self.inotify.is_none() {
            (!self.names.is_empty()).then(|| now + POLL)
        } else {
            self.looks_left = self.looks_left.saturating_sub(1);
            (self.looks_left > 0).then(|| now + FIRST_LOOK * (1 << (LOOKS - 1 - self.looks_left)))
        };
        let own = std::process::id() as i32;
        processes()
            .filter(|pid| *pid != own && !is_known(*pid))
            .filter(|pid| {
                self.pids.contains(pid) || self.runs_program(*pid) || self.maps_library(*pid)
            })
            .collect()
    }

    fn runs_program(&self, pid: i32) -> bool {
        let link = format!("/proc/{pid}/exe");
        std::fs::metadata(link).is_ok_and(|m| self.files.contains(&(m.dev(), m.ino())))
    }

    fn maps_library(&self, pid: i32) -> bool {
        if self.library_files.is_empty() {
            return false;
        }
        let maps = inject::read_maps(Pid(pid)).unwrap_or_default();
        let inodes: HashSet<u64> = self.library_files.iter().map(|file| file.1).collect();
        // Devices there are not always those that stat(2) tells (overlay file systems).
        maps.iter()
            .filter(|mapping| mapping.is_file() && inodes.contains(&mapping.inode))
            .filter_map(|mapping| mapping.path.as_ref())
            .any(|path| {
                let seen = format!("/proc/{pid}/root{}", path.display());
                std::fs::metadata(seen)
                    .is_ok_and(|file| self.library_files.contains(&(file.dev(), file.ino())))
            })
    }

    /// Processes whose program had one of the names when it was started, and was replaced or removed since. They run other
    /// code than the files have in which sites were found, so they are not probed.
    pub fn outdated(&self) -> Vec<(i32, PathBuf)> {
        let named: HashSet<PathBuf> = self.names.iter().flat_map(|n| find_programs(n)).collect();
        processes()
            .filter_map(|pid| {
                let link = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
                let path = link
                    .to_str()?
                    .strip_suffix(" (deleted)")
                    .map(PathBuf::from)?;
                named.contains(&path).then_some((pid, path))
            })
            .collect()
    }

    /// Reads the events; true when files were replaced or have come.
    fn take_events(&mut self) -> bool {
        let Some(fd) = &self.inotify else {
            return false;
        };
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(fd, &mut room);
        let mut changed = false;
        while let Ok(event) = events.next() {
            changed |= !event.events().contains(ReadFlags::OPEN);
        }
        changed
    }
}

/// The numbers of all processes.
pub fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
