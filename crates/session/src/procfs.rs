//! The files of `procfs` probes. There is no kernel module to make some of procfs: they are FIFOs (fifo(7)) below
//! /var/tmp/systemtap-USER/NAME, as those of SystemTap's own run time without a module (stapprobes(3stap), PROCFS).
//!
//! Whoever opens one for reading waits for a writer. A thread for each file waits, by opening it for writing, for such a
//! reader, and hands the open end over to the session, whose handlers say what is written to it.

use crate::options::Options;
use crate::plan::Plan;
use crate::probe_point::{FileAccess, FileProbe, Kind};
use crate::run::Run;
use codegen::HandlerId;
use nix::unistd::{User, geteuid};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::pipe::fcntl_setpipe_size;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Where users' directories are.
const ROOT: &str = "/var/tmp";

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The kernel refuses one.
    #[error("cannot make {path} for a procfs probe: {source}")]
    Make {
        /// What.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Somebody else has made the directory.
    #[error(
        "{0} is not a directory of this user's alone, so no procfs probe can be in it; remove it"
    )]
    Strange(PathBuf),
    /// As for stap.
    #[error("only one {0} procfs probe can exist for procfs path \"{1}\"")]
    Twice(&'static str, String),
    /// A FIFO goes one way.
    #[error(
        "procfs(\"{0}\") has both read and write probes; there is no kernel module, and a FIFO can only be read or written"
    )]
    BothWays(String),
}

/// What the reader of a file is going to get.
#[derive(Debug)]
pub struct FileValue {
    bytes: Vec<u8>,
    most: usize,
}

impl FileValue {
    /// `$value = …`.
    pub fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.append(bytes);
    }

    /// `$value .= …`; what is too much is cut off.
    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.truncate(self.most);
    }
}

/// The handler of a file, and the number of its site.
type Handler = (HandlerId, u32);

/// A file that is read.
#[derive(Debug)]
struct ReadFile {
    path: PathBuf,
    handler: Handler,
    most: usize,
}

/// A file that is written.
#[derive(Debug)]
struct WrittenFile {
    /// Non-blocking.
    file: File,
    /// So that there always is a writer, and no end of the file.
    _writer: File,
    handler: Handler,
}

/// All of a session.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    made: Vec<PathBuf>,
    read: Vec<ReadFile>,
    written: Vec<WrittenFile>,
    readers: Receiver<(usize, File)>,
    /// Counts readers that nobody has looked at.
    wake: Arc<OwnedFd>,
    stopped: Arc<AtomicBool>,
    /// Bytes of a write that handlers see at once.
    chunk: usize,
}

impl Drop for Files {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        for file in &self.read {
            // Lets the thread that waits for a reader go.
            let _ = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&file.path);
        }
        for path in &self.made {
            let _ = fs::remove_file(path);
            let mut directory = path.parent();
            while let Some(inner) = directory.filter(|d| d.starts_with(&self.directory)) {
                if fs::remove_dir(inner).is_err() {
                    break;
                }
                directory = inner.parent();
            }
        }
        // Other sessions may have theirs beside it.
        if let Some(user) = self.directory.parent() {
            let _ = fs::remove_dir(user);
        }
    }
}

impl Files {
    /// Those of a plan, if there are any.
    pub fn wanted(plan: &Plan<'_>, options: &Options) -> Result<Option<Files>, FilesError> {
        let mut wanted: Vec<(&FileProbe, Handler)> = Vec::new();
        for probe in &plan.tracer {
            let Kind::File(file) = &probe.kind else {
                continue;
            };
            let is_read = |f: &FileProbe| matches!(f.access, FileAccess::Read(_));
            let known = wanted.iter().find(|(f, _)| f.path == file.path);
            match known {
                Some((other, _)) if is_read(other) != is_read(file) => {
                    return Err(FilesError::BothWays(file.path.clone()));
                }
                Some(_) => {
                    let access = if is_read(file) { "read" } else { "write" };
                    return Err(FilesError::Twice(access, file.path.clone()));
                }
                None => wanted.push((file, (probe.handler, probe.number))),
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let session = format!("stap_{}", std::process::id());
        let directory = user_directory()?.join(options.module.as_ref().unwrap_or(&session));
        make_directory(&directory)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|error| FilesError::Make {
            path: directory.clone(),
            source: error.into(),
        })?;
        let (sender, readers) = channel();
        let mut files = Files {
            directory,
            made: Vec::new(),
            read: Vec::new(),
            written: Vec::new(),
            readers,
            wake: Arc::new(wake),
            stopped: Arc::default(),
            chunk: options.limits.max_string as usize - 1,
        };
        for (file, handler) in wanted {
            files.add(file, handler, options, &sender)?;
        }
        Ok(Some(files))
    }

    fn add(
        &mut self,
        file: &FileProbe,
        handler: Handler,
        options: &Options,
        sender: &Sender<(usize, File)>,
    ) -> Result<(), FilesError> {
        let path = self.directory.join(&file.path);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let failed = |source: io::Error| FilesError::Make {
            path: path.clone(),
            source,
        };
        // The session itself has to open both ends.
        let others = match file.access {
            FileAccess::Read(_) => 0o044,
            FileAccess::Write => 0o022,
        };
        let mode = 0o600 | !file.umask & others;
        let _ = fs::remove_file(&path);
        make_fifo(&path, mode).map_err(failed)?;
        self.made.push(path.clone());
        match file.access {
            FileAccess::Write => {
                let open =
                    |options: &mut OpenOptions| options.custom_flags(libc::O_NONBLOCK).open(&path);
                let reader = open(OpenOptions::new().read(true)).map_err(failed)?;
                let writer = open(OpenOptions::new().write(true)).map_err(failed)?;
                self.written.push(WrittenFile {
                    file: reader,
                    _writer: writer,
                    handler,
                });
            }
            FileAccess::Read(most) => {
                let limits = &options.limits;
                let most = most.or(Some(limits.file_size).filter(|size| *size > 0));
                let most = most.unwrap_or(limits.max_string) as usize;
                let waiting = Waiting {
                    index: self.read.len(),
                    path: path.clone(),
                    mode,
                    wake: Arc::clone(&self.wake),
                    stopped: Arc::clone(&self.stopped),
                    sender: sender.clone(),
                };
                std::thread::Builder::new()
                    .name("procfs".into())
                    .spawn(move || waiting.run())
                    .map_err(failed)?;
                self.read.push(ReadFile {
                    path,
                    handler,
                    most,
                });
            }
        }
        Ok(())
    }

    /// Descriptors that become readable (poll(2)) when there is something to do.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let written = self.written.iter().map(|file| file.file.as_fd());
        std::iter::once(self.wake.as_fd()).chain(written)
    }
}

/// A thread that waits for readers of a file.
struct Waiting {
    index: usize,
    path: PathBuf,
    mode: u32,
    wake: Arc<OwnedFd>,
    stopped: Arc<AtomicBool>,
    sender: Sender<(usize, File)>,
}

impl Waiting {
    fn run(self) {
        while let Ok(file) = OpenOptions::new().write(true).open(&self.path) {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            // The next reader gets a pipe of its own, and not what is left in this one.
            let next = self.path.with_file_name(format!(".next-{}", self.index));
            let renewed = make_fifo(&next, self.mode).and_then(|()| fs::rename(&next, &self.path));
            if self.stopped.load(Ordering::SeqCst) {
                // The session ends, and did not know of this one.
                let _ = fs::remove_file(&self.path);
                if let Some(directory) = self.path.parent() {
                    let _ = fs::remove_dir(directory);
                }
                return;
            }
            if self.sender.send((self.index, file)).is_err() || renewed.is_err() {
                return;
            }
            if rustix::io::write(&*self.wake, &1u64.to_ne_bytes()).is_err() {
                return;
            }
        }
    }
}

fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(mode), 0)?;
    // Whatever the umask of the session is.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The directory of this user's sessions.
fn user_directory() -> Result<PathBuf, FilesError> {
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let name = name.unwrap_or_else(|| uid.to_string());
    let path = Path::new(ROOT).join(format!("systemtap-{name}"));
    make_directory(&path)?;
    // Anybody can make one there.
    let strange = match fs::symlink_metadata(&path) {
        Ok(found) => !found.is_dir() || found.uid() != uid.as_raw() || found.mode() & 0o022 != 0,
        Err(_) => true,
    };
    if strange {
        return Err(FilesError::Strange(path));
    }
    Ok(path)
}

fn make_directory(path: &Path) -> Result<(), FilesError> {
    let made = DirBuilder::new().mode(0o755).recursive(true).create(path);
    made.map_err(|source| FilesError::Make {
        path: path.to_owned(),
        source,
    })
}

/// Writes to a reader what fits into the pipe, which is made large enough first; never waits.
fn answer(mut file: File, bytes: &[u8]) {
    let _ = fcntl_setfl(&file, OFlags::NONBLOCK);
    // Smaller ones than the usual 64 KiB are rounded up to a page, larger ones may be refused.
    if bytes.len() > 1 << 16 {
        let _ = fcntl_setpipe_size(&file, bytes.len());
    }
    // The reader may have gone.
    let _ = file.write_all(bytes);
}

impl Run<'_> {
    /// Runs the handlers for who reads and what was written meanwhile.
    pub(crate) fn serve_files(&mut self) {
        let Some(mut files) = self.files.take() else {
            return;
        };
        let mut count = [0; 8];
        let _ = rustix::io::read(&*files.wake, &mut count);
        while let Ok((index, file)) = files.readers.try_recv() {
            let Some(read) = files.read.get(index) else {
                continue;
            };
            self.file_value = Some(FileValue {
                bytes: Vec::new(),
                most: read.most,
            });
            self.run_file_handler(read.handler, &[]);
            if let Some(value) = self.file_value.take() {
                answer(file, &value.bytes);
            }
        }
        let mut buffer = vec![0; files.chunk.max(1)];
        for written in &mut files.written {
            while self.ended().is_none()
                && let Ok(count @ 1..) = written.file.read(&mut buffer)
            {
                self.run_file_handler(written.handler, &buffer[..count]);
            }
        }
        self.files = Some(files);
    }

    fn run_file_handler(&mut self, (handler, number): Handler, given: &[u8]) {
        let given = [0, given.as_ptr() as u64, given.len() as u64];
        let result = self.tracer.run_sampled(handler, number, &[0; 18], given);
        self.note_failure(result);
        self.drain();
    }
}
