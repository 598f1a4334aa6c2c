//! The sources of a configuration and what they have: files that are followed, commands that run, and the queues of both.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pcp::{Block, EventParam, Pmid, Timestamp, Type};
use pmda::EventQueue;

use super::config::SourceSpec;
use super::follow::{Change, Follower};
use super::lines::{LINE_MAX, LineSplitter};

/// Bytes that are read from one file before somebody else has a turn.
const TURN: usize = 1 << 20;

/// A source and its lines.
pub struct Source {
    /// What the configuration says of it.
    pub spec: SourceSpec,
    /// The lines that clients have still to get.
    pub queue: EventQueue,
    /// Lines so far.
    pub count: u32,
    /// Their bytes, newlines included.
    pub bytes: u64,
    follower: Option<Follower>,
    command: Option<Child>,
}

impl Source {
    /// The size of the file now; 0 for a command.
    pub fn size(&self) -> u64 {
        self.follower.as_ref().map_or(0, Follower::size)
    }
}

/// All sources, and what tells of changes in the folders of files.
pub struct Sources {
    /// In the order of the configuration.
    pub list: Vec<Source>,
    /// The metric that a line's text is a value of.
    text: Pmid,
    folders: HashMap<WatchDescriptor, PathBuf>,
    /// The first half of a renaming whose second has not been told yet.
    moving: Option<(u32, PathBuf, OsString)>,
}

/// Sources that are read in the background until the last owner goes.
pub struct Shared {
    sources: Mutex<Sources>,
    inotify: Option<Inotify>,
    /// How many want the sources to answer a client; readers let them go first.
    wanted: AtomicUsize,
}

impl Shared {
    /// Starts to follow files and to run commands. Queues hold `limit` bytes; a folder that tells of no changes is looked into every
    /// `interval`.
    pub fn start(
        specs: Vec<SourceSpec>,
        text: Pmid,
        limit: usize,
        interval: Duration,
    ) -> Arc<Shared> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify
            .inspect_err(|error| eprintln!("pmdalogger: inotify: {error}; files are polled"))
            .ok();
        // A line that does not fit into a queue could not be delivered.
        let line_max = LINE_MAX.min(limit.saturating_sub(64)).max(64);
        let mut sources = Sources {
            list: Vec::new(),
            text,
            folders: HashMap::new(),
            moving: None,
        };
        let mut outputs = Vec::new();
        for (spec, number) in specs.into_iter().zip(0..) {
            let mut source = Source {
                queue: EventQueue::new(limit),
                count: 0,
                bytes: 0,
                follower: None,
                command: None,
                spec,
            };
            if let Some(command) = source.spec.command() {
                match run(command) {
                    Ok((child, output)) => {
                        source.command = Some(child);
                        outputs.push((number, output));
                    }
                    Err(error) => eprintln!("pmdalogger: {command}: {error}"),
                }
                source.queue = EventQueue::keeping(limit);
            } else {
                let path = Path::new(&source.spec.path);
                let (follower, opened) = Follower::new(path, line_max);
                if let Err(error) = opened {
                    eprintln!("pmdalogger: {}: {error}", path.display());
                }
                sources.watch(inotify.as_ref(), follower.folder());
                source.follower = Some(follower);
            }
            sources.list.push(source);
        }
        let shared = Arc::new(Shared {
            sources: Mutex::new(sources),
            inotify,
            wanted: AtomicUsize::new(0),
        });
        for (number, output) in outputs {
            let weak = Arc::downgrade(&shared);
            std::thread::spawn(move || read_command(&weak, number, output, line_max));
        }
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || follow(&weak, interval));
        shared
    }

    /// The sources as they are, with what was appended to those files up to now, or a good part of it.
    pub fn look(&self, wanted: impl Fn(usize) -> bool) -> MutexGuard<'_, Sources> {
        self.wanted.fetch_add(1, Ordering::SeqCst);
        let mut sources = lock(&self.sources);
        self.wanted.fetch_sub(1, Ordering::SeqCst);
        // Whoever waits for news of changes will not hear of these again.
        let news = sources.notice(self.inotify.as_ref());
        sources.poll(self.inotify.as_ref(), |number| news || wanted(number));
        sources
    }

    /// The sources as they were when they were looked at last.
    pub fn peek(&self) -> MutexGuard<'_, Sources> {
        self.wanted.fetch_add(1, Ordering::SeqCst);
        let sources = lock(&self.sources);
        self.wanted.fetch_sub(1, Ordering::SeqCst);
        sources
    }

    /// Ends the commands.
    pub fn stop(&self) {
        for source in &self.peek().list {
            let pid = source
                .command
                .as_ref()
                .map(|child| i32::try_from(child.id()));
            if let Some(Ok(pid)) = pid {
                // It may have ended already.
                let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }

    /// The sources for a reader, who lets clients go first.
    fn for_reader(&self) -> MutexGuard<'_, Sources> {
        while self.wanted.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        lock(&self.sources)
    }
}

fn lock(sources: &Mutex<Sources>) -> MutexGuard<'_, Sources> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(command: &str) -> io::Result<(Child, ChildStdout)> {
    // The agent's own input and output are its pmcd's.
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let output = child.stdout.take();
    Ok((child, output.ok_or(io::ErrorKind::BrokenPipe)?))
}

impl Sources {
    fn watch(&mut self, inotify: Option<&Inotify>, folder: &Path) {
        let Some(inotify) = inotify else { return };
        let what = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE;
        match inotify.add_watch(folder, what) {
            Ok(watch) => {
                self.folders.insert(watch, folder.to_owned());
            }
            Err(error) => eprintln!(
                "pmdalogger: {}: {error}; its files are polled",
                folder.display()
            ),
        }
    }

    /// Tells the followers what happened in their folders. Whether anything did.
    fn notice(&mut self, inotify: Option<&Inotify>) -> bool {
        let mut any = false;
        while let Some(events) = inotify.and_then(|i| i.read_events().ok()) {
            any = true;
            for event in events {
                let Some(folder) = self.folders.get(&event.wd).cloned() else {
                    continue;
                };
                let Some(name) = event.name else { continue };
                if event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
                    let change = match self.moving.take() {
                        Some((cookie, from_folder, from))
                            if cookie == event.cookie && from_folder == folder =>
                        {
                            Change::Renamed(from, name)
                        }
                        other => {
                            self.moved_away(other);
                            Change::Written(name)
                        }
                    };
                    self.tell(&folder, &change);
                    continue;
                }
                let moving = self.moving.take();
                self.moved_away(moving);
                if event.mask.contains(AddWatchFlags::IN_MOVED_FROM) {
                    self.moving = Some((event.cookie, folder, name));
                } else if event.mask.contains(AddWatchFlags::IN_DELETE) {
                    self.tell(&folder, &Change::Gone(name));
                } else {
                    self.tell(&folder, &Change::Written(name));
                }
            }
        }
        any
    }

    fn moved_away(&mut self, moving: Option<(u32, PathBuf, OsString)>) {
        if let Some((_, folder, name)) = moving {
            self.tell(&folder, &Change::Gone(name));
        }
    }

    fn tell(&mut self, folder: &Path, change: &Change) {
        let followers = self.list.iter_mut().filter_map(|s| s.follower.as_mut());
        for follower in followers.filter(|f| f.folder() == folder) {
            follower.notice(change);
        }
    }

    /// Reads what was appended to files. Whether there may be more.
    fn poll(&mut self, inotify: Option<&Inotify>, wanted: impl Fn(usize) -> bool) -> bool {
        let followers = self.list.iter().map(|source| source.follower.as_ref());
        let found: Vec<_> = followers
            .zip(0..)
            .map(|(follower, number)| follower.filter(|_| wanted(number)).map(Follower::look))
            .collect();
        // What was found has its reason in what happened before.
        self.notice(inotify);
        let mut more = false;
        let text = self.text;
        for (source, found) in self.list.iter_mut().zip(found) {
            let Source {
                queue,
                count,
                bytes,
                follower: Some(follower),
                ..
            } = source
            else {
                continue;
            };
            if let Some(found) = found {
                more |= follower.poll(found, TURN, &mut |line, length| {
                    add(queue, count, bytes, text, line, length);
                });
            }
        }
        more
    }

    fn add(&mut self, number: usize, line: &[u8], length: u64) {
        let text = self.text;
        if let Some(source) = self.list.get_mut(number) {
            let Source {
                queue,
                count,
                bytes,
                ..
            } = source;
            add(queue, count, bytes, text, line, length);
        }
    }
}

/// Counts a line and queues it.
fn add(
    queue: &mut EventQueue,
    count: &mut u32,
    bytes: &mut u64,
    pmid: Pmid,
    line: &[u8],
    length: u64,
) {
    *count = count.wrapping_add(1);
    *bytes = bytes.wrapping_add(length);
    let block = Block {
        ty: Type::String.raw() as u8,
        bytes: Bytes::copy_from_slice(line),
    };
    queue.push(Timestamp::now(), vec![EventParam { pmid, block }]);
}

/// Reads files as they grow.
fn follow(shared: &Weak<Shared>, interval: Duration) {
    while let Some(shared) = shared.upgrade() {
        let timeout = PollTimeout::try_from(interval).unwrap_or(PollTimeout::MAX);
        match &shared.inotify {
            Some(inotify) => {
                let _ = poll(
                    &mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)],
                    timeout,
                );
            }
            None => std::thread::sleep(interval),
        }
        loop {
            let mut sources = shared.for_reader();
            if !sources.poll(shared.inotify.as_ref(), |_| true) {
                break;
            }
        }
        // A log that is written to without pause is read in larger pieces.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads what a command prints, until it ends.
fn read_command(shared: &Weak<Shared>, number: usize, mut output: ChildStdout, line_max: usize) {
    let mut splitter = LineSplitter::new(line_max);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let got = match output.read(&mut chunk) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut sources = shared.for_reader();
        let mut add = |line: &[u8], length| sources.add(number, line, length);
        if got > 0 {
            splitter.feed(chunk.get(..got).unwrap_or_default(), &mut add);
            continue;
        }
        splitter.finish(&mut add);
        let Some(source) = sources.list.get_mut(number) else {
            return;
        };
        if let Some(mut child) = source.command.take() {
            let name = source.spec.name.clone();
            drop(sources);
            drop(shared);
            match child.wait() {
                Ok(status) => eprintln!("pmdalogger: the command of {name} ended: {status}"),
                Err(error) => eprintln!("pmdalogger: the command of {name}: {error}"),
            }
        }
        return;
    }
}
