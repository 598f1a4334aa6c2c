//! Where watched processes leave word for their tracer: a few pages of memory that all of them share.
//!
//! # The board
//!
//! A thread that has something to tell takes an entry (a bit of `CLAIMED`), fills it in, marks it as posted (a bit of
//! `POSTED`), and rings: it adds one to `DOORBELL` and wakes who waits there (futex(2)). That is a thread of the tracer,
//! which makes an eventfd readable. An entry is given back by the tracer once it is read or, when its poster waits for
//! an answer, by the poster.
//!
//! The word that a poster waits on holds the number of that thread of the tracer, and stands in the thread's list of
//! robust futexes (set_robust_list(2)): should the tracer be killed, it is the kernel that changes the word and wakes the
//! poster. Waiting is bounded by time as well.
//!
//! Everything on the board may be overwritten by any watched process. The tracer believes none of it: indices are its
//! own, numbers are checked against `/proc`.
//!
//! # Process numbers
//!
//! A process knows its number in its own PID namespace only. The tracer looks for a process which has that number in its
//! innermost namespace (`NSpid` in `/proc/PID/status`, proc_pid_status(5)) and has this very board mapped
//! (`/proc/PID/maps`). Should two in different namespaces answer to that, the one that descends from the watched process by
//! fewest steps of parenthood, or else the first, is taken.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::InjectError;
use crate::notice::{Notice, NoticeKind};
use crate::proc_file::{inner_pid, last_number, namespace, read_maps};
use crate::process::Pid;
use crate::seccomp::Filter;

/// Layout of the board, in bytes from its start.
pub(crate) mod layout {
    /// Number of the tracer's thread that answers the doorbell; 0 when nobody does.
    pub const LISTENER: u64 = 64;
    /// Grows with each notice.
    pub const DOORBELL: u64 = 128;
    /// How many notices found no room or no answer.
    pub const LOST: u64 = 192;
    /// A bit for each entry in use.
    pub const CLAIMED: u64 = 256;
    /// A bit for each entry that is filled in and not yet read.
    pub const POSTED: u64 = 320;
    /// Number of the next notice.
    pub const SEQUENCE: u64 = 384;
    /// Two words that no other board has.
    pub const TOKEN: u64 = 512;
    /// The first entry.
    pub const ENTRIES: u64 = 4096;
    /// Size of an entry, as a power of two.
    pub const ENTRY_SHIFT: u32 = 7;
    /// How many there are: the bits of a word.
    pub const COUNT: usize = 64;
    /// Of the whole board.
    pub const SIZE: u64 = ENTRIES + ((COUNT as u64) << ENTRY_SHIFT);

    /// In an entry: what its poster waits on.
    pub const ANSWER: u64 = 0;
    /// In an entry: what it is about.
    pub const KIND: u64 = 4;
    /// In an entry: process and thread in the poster's namespace.
    pub const PID: u64 = 8;
    /// As above.
    pub const TID: u64 = 12;
    /// In an entry: which call of `watch` its hook comes from.
    pub const LINE: u64 = 16;
    /// In an entry: the system call, where there is one.
    pub const NUMBER: u64 = 20;
    /// In an entry: its sequence number.
    pub const ENTRY_SEQUENCE: u64 = 24;
    /// In an entry: the first three arguments of the system call, and its flags.
    pub const ARGUMENTS: u64 = 32;
    /// As above: what clone(2) was asked for.
    pub const FLAGS: u64 = 56;
}

/// The bits of a robust futex that hold its owner's thread number (linux/futex.h).
pub(crate) const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

/// What an entry's kind says.
pub(crate) mod kind {
    /// The dynamic linker has finished a change.
    pub const LIBRARIES: u32 = 1;
    /// Before execve or execveat.
    pub const EXEC: u32 = 2;
    /// After clone, in the child.
    pub const FORKED: u32 = 3;
    /// After clone, in the thread.
    pub const THREAD_STARTED: u32 = 4;
    /// Before exit.
    pub const THREAD_ENDING: u32 = 5;
    /// Before exit_group.
    pub const EXITING: u32 = 6;
    /// Before seccomp, or the prctl that does the same.
    pub const CONFINING: u32 = 7;
    /// Before mlockall.
    pub const LOCKING: u32 = 8;
}

/// How many processes are remembered.
const NUMBERS: usize = 1 << 16;

/// The board as it is mapped here.
struct Shared {
    base: NonNull<u8>,
    memory: OwnedFd,
    bell: OwnedFd,
    token: [u64; 2],
    /// The listener is to end: said here, as any process may write to the board.
    is_closed: AtomicBool,
}

// SAFETY: the mapping is accessed through atomics only, and lives as long as this.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> io::Result<Shared> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let memory = rustix::fs::memfd_create("spile-notices", flags)?;
        rustix::fs::ftruncate(&memory, layout::SIZE)?;
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let bell = rustix::event::eventfd(0, flags)?;
        // SAFETY: a fresh mapping of a file of our own, which nobody can truncate: the descriptor is not given away
        // (processes map it, but keep no descriptor) save through /proc, where doing so needs our own rights.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                layout::SIZE as usize,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &memory,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // Keys of hash tables are as random as anything.
        let token = [0, 1].map(|n: u64| RandomState::new().hash_one(n));
        let shared = Shared {
            base,
            memory,
            bell,
            token,
            is_closed: AtomicBool::new(false),
        };
        for (n, word) in token.into_iter().enumerate() {
            let at = layout::TOKEN + 8 * n as u64;
            shared.long(at).store(word, Ordering::Relaxed);
        }
        Ok(shared)
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        let offset = (offset & !3).min(layout::SIZE - 4) as usize;
        // SAFETY: inside of the mapping, aligned to 4, and only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn long(&self, offset: u64) -> &AtomicU64 {
        let offset = (offset & !7).min(layout::SIZE - 8) as usize;
        // SAFETY: inside of the mapping, aligned to 8, and only ever accessed atomically.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn entry(index: usize) -> u64 {
        layout::ENTRIES + ((index as u64) << layout::ENTRY_SHIFT)
    }

    fn wake(&self, offset: u64) {
        let word = self.word(offset);
        // SAFETY: FUTEX_WAKE reads nothing; the word lives as long as the mapping.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAKE,
                i32::MAX,
                0,
                0,
                0,
            );
        }
    }

    /// Lets go who waits at an entry.
    fn release(&self, index: usize) {
        self.word(Shared::entry(index) + layout::ANSWER)
            .store(0, Ordering::Release);
        self.wake(Shared::entry(index) + layout::ANSWER);
    }

    /// Has nobody wait any more.
    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.word(layout::LISTENER).store(0, Ordering::SeqCst);
        for index in 0..layout::COUNT {
            self.release(index);
        }
    }

    /// Has the listener look up.
    fn ring_doorbell(&self) {
        self.word(layout::DOORBELL).fetch_add(1, Ordering::SeqCst);
        self.wake(layout::DOORBELL);
    }

    fn ring(&self) {
        // A full eventfd is readable as well.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; no reference to it outlives `self`.
        unsafe {
            let _ = rustix::mm::munmap(self.base.as_ptr().cast(), layout::SIZE as usize);
        }
    }
}

/// A list of robust futexes as the kernel reads it (`struct robust_list_head`, linux/futex.h): nodes of our own, at a fixed
/// distance from the words on the board, so that nobody else can touch the list.
struct RobustList {
    nodes: Box<[u64]>,
    head: Box<[u64; 3]>,
}

impl RobustList {
    fn new(shared: &Shared) -> RobustList {
        let mut nodes = vec![0u64; (layout::SIZE / 8) as usize].into_boxed_slice();
        let start = nodes.as_ptr() as u64;
        let words = std::iter::once(layout::LISTENER)
            .chain((0..layout::COUNT).map(|index| Shared::entry(index) + layout::ANSWER));
        let mut head = Box::new([0u64; 3]);
        let mut next = head.as_ptr() as u64;
        for offset in words {
            if let Some(node) = nodes.get_mut((offset / 8) as usize) {
                *node = next;
                next = start + offset;
            }
        }
        *head = [next, (shared.base.as_ptr() as u64).wrapping_sub(start), 0];
        RobustList { nodes, head }
    }

    /// Makes the kernel look after the words on behalf of the calling thread.
    ///
    /// # Safety
    /// `self` must live, unmoved behind its boxes, until the thread ends or registers another list.
    unsafe fn register(&self) -> io::Result<()> {
        debug_assert_eq!(self.nodes.len() as u64, layout::SIZE / 8);
        // SAFETY: the head lives as long as the caller promises.
        let done = unsafe {
            libc::syscall(
                libc::SYS_set_robust_list,
                self.head.as_ptr(),
                size_of::<[u64; 3]>(),
            )
        };
        if done == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// What a tracer shares with the processes it watches: one for any number of them.
///
/// Its descriptor becomes readable when there is a [`Notice`]. When the board is closed or dropped, or the tracer
/// dies, nobody waits for answers any more; what is posted then is lost.
pub struct NoticeBoard {
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
    /// The watched processes, by the number that their hooks put into notices.
    lines: Mutex<Vec<Line>>,
    inode: u64,
    /// Processes that have been found, by line and number in their own namespace.
    numbers: Mutex<HashMap<(u32, u32), Pid>>,
    /// Entries whose posters seem to have ended, with the sequence number of what they posted.
    suspects: Mutex<[Option<u64>; layout::COUNT]>,
}

/// Between two attempts to have the listener end.
const CLOSING: Duration = Duration::from_micros(100);

/// A watched process.
#[derive(Debug, Clone, Copy)]
struct Line {
    pid: Pid,
    /// It has the same number to itself as to us, as have its children unless they get a PID namespace of their own.
    is_here: bool,
    /// Where the board is in its memory, and in that of its children.
    board: u64,
}

impl std::fmt::Debug for NoticeBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoticeBoard").finish_non_exhaustive()
    }
}

impl NoticeBoard {
    /// Makes a board, and a thread that listens to its doorbell.
    ///
    /// # Errors
    /// [`InjectError::System`].
    pub fn new() -> Result<NoticeBoard, InjectError> {
        let failed = |source| InjectError::System {
            call: "notice board".to_owned(),
            source,
        };
        let shared = Arc::new(Shared::new().map_err(failed)?);
        let inode = rustix::io::dup(&shared.memory)
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).metadata())
            .map_err(failed)?
            .ino();
        let (ready, registered) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        let listener = std::thread::Builder::new()
            .name("notices".to_owned())
            .spawn(move || listen(&theirs, &ready))
            .map_err(failed)?;
        registered
            .recv()
            .map_err(|_| failed(io::ErrorKind::Other.into()))?
            .map_err(failed)?;
        Ok(NoticeBoard {
            shared,
            listener: Some(listener),
            lines: Mutex::new(Vec::new()),
            inode,
            numbers: Mutex::new(HashMap::new()),
            suspects: Mutex::new([None; layout::COUNT]),
        })
    }

    /// Readable (poll(2)) while there may be notices to take.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// The notices that were posted since the last time, in the order of their posting. Never blocks. What a process that
    /// has ended meanwhile had to say is not among them.
    pub fn take_notices(&self) -> Vec<Notice> {
        let _ = rustix::io::read(&self.shared.bell, &mut [0; 8]);
        let posted = self.shared.long(layout::POSTED).swap(0, Ordering::AcqRel);
        let mut notices: Vec<Notice> = (0..layout::COUNT)
            .filter(|index| posted >> index & 1 == 1)
            .filter_map(|index| self.read(index))
            .collect();
        notices.sort_by_key(|notice| notice.sequence);
        let claimed = self.shared.long(layout::CLAIMED).load(Ordering::Acquire);
        if claimed.count_ones() as usize > layout::COUNT / 2 {
            self.sweep();
        }
        notices
    }

    /// Lets the thread that posted a notice go on, if it waits.
    pub fn answer(&self, notice: &Notice) {
        let entry = Shared::entry(notice.entry);
        let sequence = self.shared.long(entry + layout::ENTRY_SEQUENCE);
        // One that gave up waiting has left the entry to others.
        if notice.waits && sequence.load(Ordering::Acquire) == notice.sequence {
            self.shared.release(notice.entry);
        }
    }

    /// How many notices have found the board full, or waited in vain: what they were about has to be found out by
    /// other means.
    pub fn lost(&self) -> u64 {
        self.shared.long(layout::LOST).load(Ordering::Relaxed)
    }

    /// Has nobody wait for an answer from now on, and lets go all who do. To be called before hooks are removed.
    pub fn close(&mut self) {
        self.shared.close();
        if let Some(listener) = self.listener.take() {
            // Once is enough unless a process writes over the doorbell.
            self.shared.ring_doorbell();
            while !listener.is_finished() {
                std::thread::sleep(CLOSING);
                self.shared.ring_doorbell();
            }
            let _ = listener.join();
        }
    }

    /// The memory, to be mapped into a process.
    pub(crate) fn memory(&self) -> BorrowedFd<'_> {
        self.shared.memory.as_fd()
    }

    /// The inode of its memory, by which that is found in `/proc/PID/maps` (as `/memfd:spile-notices`).
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A number for the notices of a process and its forked children, in which the board is at an address.
    pub(crate) fn line(&self, pid: Pid, board: u64) -> u32 {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |known: &Line| known.pid == pid && known.board == board;
        if let Some(line) = lines.iter().position(is_it) {
            return line as u32;
        }
        let inner = inner_pid(pid);
        let is_here = inner.is_some_and(|inner| i64::from(inner) == i64::from(pid.0));
        lines.push(Line {
            pid,
            is_here,
            board,
        });
        let line = lines.len() as u32 - 1;
        if let Some(inner) = inner {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.insert((line, inner), pid);
        }
        line
    }

    /// Reads an entry that was posted, and gives it back unless its poster waits.
    fn read(&self, index: usize) -> Option<Notice> {
        let at = Shared::entry(index);
        let word = |offset| self.shared.word(at + offset).load(Ordering::Acquire);
        let long = |offset| self.shared.long(at + offset).load(Ordering::Acquire);
        let waits = word(layout::ANSWER) != 0;
        let (code, line) = (word(layout::KIND), word(layout::LINE));
        let (inner_pid, inner_tid) = (word(layout::PID), word(layout::TID));
        let (number, flags) = (word(layout::NUMBER), long(layout::FLAGS));
        let arguments = [0, 1, 2].map(|n| long(layout::ARGUMENTS + 8 * n));
        let sequence = long(layout::ENTRY_SEQUENCE);
        if !waits {
            self.shared
                .long(layout::CLAIMED)
                .fetch_and(!(1 << index), Ordering::AcqRel);
        }
        let known = || {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let Line {
                pid: watched,
                is_here,
                board,
            } = *lines.get(line as usize)?;
            drop(lines);
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            // Where many children come and go, some have ended when it is heard of them: that costs no search. Who waits
            // is still there, under whatever number.
            let everywhere = waits || !is_here;
            let pid = match self.find(inner_pid, watched, Some(board), everywhere) {
                Some(pid) => {
                    if numbers.len() == NUMBERS {
                        numbers.clear();
                    }
                    numbers.insert((line, inner_pid), pid);
                    pid
                }
                // It has ended, as it said it would.
                None if code == kind::EXITING => numbers.remove(&(line, inner_pid))?,
                None => return None,
            };
            drop(numbers);
            let tid = match inner_tid == inner_pid {
                true => pid,
                false => find_thread(pid, inner_tid).unwrap_or(pid),
            };
            Some((watched, pid, tid))
        };
        let Some((watched, pid, tid)) = known() else {
            self.discard(index);
            return None;
        };
        let kind = match code {
            kind::LIBRARIES => NoticeKind::Libraries,
            kind::EXEC => NoticeKind::Exec {
                program: program_of(pid, tid, number, arguments),
            },
            kind::FORKED => NoticeKind::Forked {
                shares_memory: i64::from(number) == libc::SYS_vfork
                    || flags & libc::CLONE_VM as u64 != 0,
            },
            kind::THREAD_STARTED => NoticeKind::ThreadStarted,
            kind::THREAD_ENDING => NoticeKind::ThreadEnding,
            kind::CONFINING => NoticeKind::Confining {
                filter: Filter::about_to_be_installed(pid, number, arguments),
            },
            kind::LOCKING => NoticeKind::LockingMemory,
            kind::EXITING => NoticeKind::Exiting {
                status: arguments[0] as i32,
            },
            _ => {
                self.discard(index);
                return None;
            }
        };
        Some(Notice {
            pid,
            tid,
            watched,
            kind,
            entry: index,
            sequence,
            waits,
        })
    }

    /// Gives back an entry for whose poster nobody will answer; it may have ended.
    fn discard(&self, index: usize) {
        self.shared.release(index);
        self.shared
            .long(layout::CLAIMED)
            .fetch_and(!(1 << index), Ordering::AcqRel);
    }

    /// Gives back the entries of posters that have ended before they could: those found so twice in a row.
    fn sweep(&self) {
        let claimed = self.shared.long(layout::CLAIMED).load(Ordering::Acquire);
        let posted = self.shared.long(layout::POSTED).load(Ordering::Acquire);
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, suspect) in suspects.iter_mut().enumerate() {
            let at = Shared::entry(index);
            let sequence = self
                .shared
                .long(at + layout::ENTRY_SEQUENCE)
                .load(Ordering::Acquire);
            let inner = self.shared.word(at + layout::PID).load(Ordering::Acquire);
            let held = claimed & !posted & 1 << index != 0;
            if !held || self.find(inner, Pid(0), None, true).is_some() {
                *suspect = None;
            } else if suspect.replace(sequence) == Some(sequence) {
                *suspect = None;
                self.discard(index);
            }
        }
    }

    /// The process that has a number in its own namespace, and the board at an address if that is known; looked for
    /// `everywhere`, or only in ours.
    fn find(&self, inner: u32, watched: Pid, board: Option<u64>, everywhere: bool) -> Option<Pid> {
        let is_it = |pid: Pid| inner_pid(pid) == Some(inner) && self.is_mapped_in(pid, board);
        let same = Pid(i32::try_from(inner).ok()?);
        if is_it(same) {
            return Some(same);
        }
        if is_it(watched) {
            return Some(watched);
        }
        if !everywhere {
            return None;
        }
        let all = std::fs::read_dir("/proc").ok()?;
        let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid));
        // In our own namespace it would have had the same number, which spares nearly all of them a closer look.
        let here = namespace("self");
        all.filter(|pid| here.is_none() || namespace(&pid.to_string()) != here)
            .filter(|&pid| is_it(pid))
            .min_by_key(|&pid| generations(pid, watched))
    }

    fn is_mapped_in(&self, pid: Pid, board: Option<u64>) -> bool {
        // A look at where it should be is the same for less: a process has hundreds of mappings.
        if let Some(board) = board
            && let Ok(memory) = File::open(format!("/proc/{pid}/mem"))
        {
            let mut token = [0; 16];
            let read = memory.read_exact_at(&mut token, board + layout::TOKEN);
            let [first, second] = self.shared.token.map(u64::to_le_bytes);
            return read.is_ok() && token[..8] == first && token[8..] == second;
        }
        let maps = read_maps(pid).unwrap_or_default();
        let named = |path: &Path| path.as_os_str().to_string_lossy().contains("spile-notices");
        maps.iter()
            .any(|m| m.inode == self.inode && m.path.as_deref().is_some_and(named))
    }
}

impl Drop for NoticeBoard {
    fn drop(&mut self) {
        self.close();
    }
}

/// Turns rings of the doorbell into an event, until the board is closed.
fn listen(shared: &Shared, ready: &mpsc::Sender<io::Result<()>>) {
    let list = RobustList::new(shared);
    // SAFETY: the list is dropped below, after another was registered.
    if let Err(error) = unsafe { list.register() } {
        let _ = ready.send(Err(error));
        return;
    }
    let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    shared.word(layout::LISTENER).store(tid, Ordering::SeqCst);
    let _ = ready.send(Ok(()));
    let doorbell = shared.word(layout::DOORBELL);
    loop {
        let rung = doorbell.load(Ordering::SeqCst);
        if shared.is_closed.load(Ordering::SeqCst) {
            break;
        }
        shared.ring();
        // SAFETY: the word lives as long as `shared`; no time-out is given.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                doorbell.as_ptr(),
                libc::FUTEX_WAIT,
                rung,
                std::ptr::null::<libc::timespec>(),
                0,
                0,
            );
        }
    }
    // SAFETY: an empty list, of which the kernel reads nothing.
    unsafe {
        libc::syscall(
            libc::SYS_set_robust_list,
            std::ptr::null::<u64>(),
            size_of::<[u64; 3]>(),
        )
    };
    drop(list);
}

/// The thread that has a number in its own namespace.
fn find_thread(pid: Pid, inner: u32) -> Option<Pid> {
    let is_it =
        |tid: Pid| last_number(&format!("/proc/{pid}/task/{tid}/status"), "NSpid:") == Some(inner);
    let same = Pid(i32::try_from(inner).ok()?);
    if is_it(same) {
        return Some(same);
    }
    let all = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid));
    all.find(|&tid| is_it(tid))
}

/// By how many steps of parenthood a process descends from another.
fn generations(pid: Pid, ancestor: Pid) -> u32 {
    let mut at = pid;
    for steps in 0..64 {
        if at == ancestor {
            return steps;
        }
        match last_number(&format!("/proc/{at}/status"), "PPid:") {
            Some(parent) => at = Pid(parent as i32),
            None => break,
        }
    }
    u32::MAX
}

/// The file that a thread is about to execute, from the arguments of its system call.
fn program_of(pid: Pid, tid: Pid, number: u32, arguments: [u64; 3]) -> Option<PathBuf> {
    let (directory, name) = if i64::from(number) == libc::SYS_execveat {
        (arguments[0] as i32, arguments[1])
    } else {
        (libc::AT_FDCWD, arguments[0])
    };
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; libc::PATH_MAX as usize];
    let mut len = 0;
    // A name may end shortly before memory does.
    while len < bytes.len() {
        let at = name.checked_add(len as u64)?;
        let step = (4096 - at as usize % 4096).min(bytes.len() - len);
        memory
            .read_exact_at(bytes.get_mut(len..len + step)?, at)
            .ok()?;
        if let Some(end) = bytes.get(len..len + step)?.iter().position(|&b| b == 0) {
            bytes.truncate(len + end);
            let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&bytes);
            let base = if Path::new(name).is_absolute() {
                PathBuf::new()
            } else if directory == libc::AT_FDCWD {
                std::fs::read_link(format!("/proc/{pid}/task/{tid}/cwd")).ok()?
            } else {
                std::fs::read_link(format!("/proc/{pid}/fd/{directory}")).ok()?
            };
            return Some(if name.is_empty() {
                base
            } else {
                base.join(name)
            });
        }
        len += step;
    }
    None
}
