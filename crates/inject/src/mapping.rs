//! Memory of ours mapped into a process.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::error::InjectError;
use crate::journal::Line;
use crate::proc_file::read_proc;
use crate::process::{Pid, Process};
use crate::record::{HandlerStacks, Mapped, Record};
use crate::syscall::Borrowed;

/// Size of a page on x86-64.
pub(crate) const PAGE: u64 = 4096;

/// Layout of the scratch page: what recvmsg(2) is given and fills in.
pub(crate) mod scratch {
    /// The two descriptors of socketpair(2).
    pub const PAIR: u64 = 0;
    /// One byte of payload.
    pub const PAYLOAD: u64 = 16;
    /// `struct iovec`.
    pub const VECTOR: u64 = 32;
    /// `struct msghdr`.
    pub const HEADER: u64 = 64;
    /// `struct cmsghdr` and the descriptor behind it.
    pub const CONTROL: u64 = 128;
    /// The descriptor.
    pub const RECEIVED: u64 = CONTROL + 16;
    /// The inodes of the pair.
    pub const INODES: u64 = 192;
    /// Room for the control message.
    pub const CONTROL_SIZE: u64 = 24;
}

impl Process {
    /// Maps the first `len` bytes of a file of ours (a memfd) into the held process, shared,
    /// readable and writable, and returns the address there.
    ///
    /// The descriptor travels over a socket pair made inside the process, one end of which we take
    /// with pidfd_getfd(2): no path is involved, so mount, PID and network namespaces do not
    /// matter. No descriptor stays behind.
    ///
    /// # Errors
    /// As [`Process::syscall`]; [`InjectError::System`] when our side of the transfer fails.
    pub fn share(&mut self, fd: BorrowedFd<'_>, len: u64) -> Result<u64, InjectError> {
        self.share_as(fd, len, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn share_as(&mut self, fd: BorrowedFd<'_>, len: u64, prot: i32) -> Result<u64, InjectError> {
        let len = len.next_multiple_of(PAGE);
        let address = self.with_borrowed_thread(|thread| {
            let writable = libc::PROT_READ | libc::PROT_WRITE;
            let page = map_anonymous(thread, Line::Scratch, PAGE, writable)?;
            let result = share_with_scratch(thread, page, fd, len, prot).map_err(name_limit);
            let unmapped = thread.call("munmap", libc::SYS_munmap, [page, PAGE, 0, 0, 0, 0]);
            thread.announce(Line::Scratch, 0, 0)?;
            result.and_then(|address| unmapped.map(|_| address))
        })?;
        self.note_mapping(address, len);
        Ok(address)
    }

    /// As [`Process::share`], but the process can only read what is mapped.
    ///
    /// # Errors
    /// As [`Process::share`].
    pub fn share_read_only(&mut self, fd: BorrowedFd<'_>, len: u64) -> Result<u64, InjectError> {
        self.share_as(fd, len, libc::PROT_READ)
    }

    /// Maps anonymous private memory with protection `prot` (`libc::PROT_READ` …) into the held
    /// process. With `wipe_on_fork`, a forked child finds it zeroed (`MADV_WIPEONFORK`).
    ///
    /// # Errors
    /// As [`Process::syscall`].
    pub fn map_private(
        &mut self,
        len: u64,
        prot: i32,
        wipe_on_fork: bool,
    ) -> Result<u64, InjectError> {
        let len = len.next_multiple_of(PAGE);
        let address = self.with_borrowed_thread(|thread| {
            let address = map_anonymous(thread, Line::Mapping, len, prot)?;
            if wipe_on_fork {
                let advice = libc::MADV_WIPEONFORK as u64;
                thread
                    .call(
                        "madvise",
                        libc::SYS_madvise,
                        [address, len, advice, 0, 0, 0],
                    )
                    .inspect_err(|_| {
                        let _ = thread.call("munmap", libc::SYS_munmap, [address, len, 0, 0, 0, 0]);
                    })?;
            }
            Ok(address)
        })?;
        self.note_mapping(address, len);
        Ok(address)
    }

    /// Unmaps memory that [`Process::share`] or [`Process::map_private`] mapped.
    ///
    /// # Errors
    /// As [`Process::syscall`].
    pub fn unmap(&mut self, address: u64, len: u64) -> Result<(), InjectError> {
        let len = len.next_multiple_of(PAGE);
        let record = self.mappings.remove(&address).and_then(|known| known.1);
        self.unmap_recorded(&[(address, len, record)])
    }

    /// Says that handlers run on stacks in memory that [`Process::share`] mapped at an address. Without that, a thread
    /// which is on such a stack while another session leaves cannot be followed to the program's own.
    ///
    /// # Errors
    /// [`InjectError::NotHeld`], [`InjectError::Write`].
    pub fn describe_stacks(
        &mut self,
        address: u64,
        stacks: HandlerStacks,
    ) -> Result<(), InjectError> {
        self.require_held()?;
        let Some((mapped, record)) = self.mappings.get_mut(&address) else {
            return Ok(());
        };
        mapped.stacks = Some(stacks);
        let (mapped, record) = (*mapped, *record);
        self.describe(mapped, record)
    }

    /// Says that memory which [`Process::map_private`] mapped is a table ([`runtime::frames`]) of calls in whose return
    /// address' place `trampoline` stands, so that whoever takes our code out of the process puts the real ones back.
    ///
    /// # Errors
    /// As [`Process::describe_stacks`].
    pub fn describe_returns(&mut self, address: u64, trampoline: u64) -> Result<(), InjectError> {
        self.require_held()?;
        let Some((mapped, record)) = self.mappings.get_mut(&address) else {
            return Ok(());
        };
        mapped.returns = Some(trampoline);
        let (mapped, record) = (*mapped, *record);
        self.describe(mapped, record)
    }

    fn describe(&mut self, mapped: Mapped, record: Option<u64>) -> Result<(), InjectError> {
        if let Some(at) = record {
            let head = self.read_vec(at, 16)?;
            if let Some((_, previous)) = Record::head(&head) {
                self.write_code(at, &Record::Mapping(mapped).bytes(previous))?;
            }
        }
        Ok(())
    }

    /// Writes down that we mapped memory, so that it does not stay for ever should we be killed.
    fn note_mapping(&mut self, start: u64, len: u64) {
        let mapped = Mapped {
            start,
            len,
            stacks: None,
            returns: None,
        };
        let record = Record::Mapping(mapped);
        let size = record.bytes(0).len() as u64;
        let program = self.maps().ok().and_then(|maps| {
            let code = maps.iter().find(|m| m.is_file() && m.perms.execute)?;
            Some(code.start..code.end)
        });
        // It works without, too.
        let place = program.and_then(|near| self.allocate_code_near(near, size).ok());
        let written = place.and_then(|at| {
            let bytes = self.chained(at, &record);
            self.write_code(at, &bytes).ok()?;
            self.publish().ok()?;
            Some(at)
        });
        self.mappings.insert(start, (mapped, written));
        if written.is_some() {
            // It may be announced twice.
            let _ = self.strike(Line::Mapping);
        }
    }
}

/// Whether a process has memory that is never paged out.
fn locks_memory(pid: Pid) -> bool {
    let status = read_proc(&format!("/proc/{pid}/status")).unwrap_or_default();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    locked.is_some_and(|size| !size.trim().starts_with("0 "))
}

fn map_anonymous(
    thread: &mut Borrowed<'_>,
    line: Line,
    len: u64,
    prot: i32,
) -> Result<u64, InjectError> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    thread.map(line, len, prot, flags, u64::MAX)
}

/// Says which limit it is that leaves no room for descriptors.
fn name_limit(error: InjectError) -> InjectError {
    match error {
        InjectError::Remote { pid, source, .. } if source.raw_os_error() == Some(libc::EMFILE) => {
            InjectError::NoDescriptors { pid }
        }
        other => other,
    }
}

fn share_with_scratch(
    thread: &mut Borrowed<'_>,
    page: u64,
    fd: BorrowedFd<'_>,
    len: u64,
    prot: i32,
) -> Result<u64, InjectError> {
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64;
    let pair = page + scratch::PAIR;
    let family = libc::AF_UNIX as u64;
    thread.call(
        "socketpair",
        libc::SYS_socketpair,
        [family, kind, 0, pair, 0, 0],
    )?;
    let both = thread.process().read_u64(pair)?;
    let (ours, theirs) = (both & 0xffff_ffff, both >> 32);
    // Once closed, the numbers may be the program's: it is the inodes that tell.
    let process = thread.process();
    for (number, at) in [(ours, scratch::INODES), (theirs, scratch::INODES + 8)] {
        let inode = process.socket_inode(number).unwrap_or(0);
        process.write(page + at, &inode.to_le_bytes())?;
    }
    let mut close = vec![ours, theirs];
    let received = receive(thread, page, ours, theirs, fd);
    let result = received.and_then(|number| {
        close.push(number);
        if !locks_memory(thread.process().pid) {
            return thread.map(Line::Mapping, len, prot, libc::MAP_SHARED, number);
        }
        // A process may have all that it maps locked (mlockall(2)), which fills even holes: not what nobody can read, and not
        // what is unlocked by the time that it can be.
        let shared = libc::MAP_SHARED;
        let address = thread.map(Line::Mapping, len, libc::PROT_NONE, shared, number)?;
        let unlock = [address, len, 0, 0, 0, 0];
        let protect = [address, len, prot as u64, 0, 0, 0];
        thread
            .call("munlock", libc::SYS_munlock, unlock)
            .and_then(|_| thread.call("mprotect", libc::SYS_mprotect, protect))
            .inspect_err(|_| {
                let _ = thread.call("munmap", libc::SYS_munmap, [address, len, 0, 0, 0, 0]);
            })?;
        Ok(address)
    });
    let mut closed = Ok(0);
    for number in close {
        let answer = thread.call("close", libc::SYS_close, [number, 0, 0, 0, 0, 0]);
        closed = closed.and(answer);
    }
    result.and_then(|address| closed.map(|_| address))
}

/// Sends `fd` through the socket pair; returns its number in the process.
fn receive(
    thread: &mut Borrowed<'_>,
    page: u64,
    ours: u64,
    theirs: u64,
    fd: BorrowedFd<'_>,
) -> Result<u64, InjectError> {
    let pid = thread.process().pid;
    let failed = |what: &str, error: rustix::io::Errno| InjectError::System {
        call: format!("{what} for process {pid}"),
        source: error.into(),
    };
    let socket: OwnedFd = pidfd_getfd(
        &thread.process().pidfd,
        ours as i32,
        PidfdGetfdFlags::empty(),
    )
    .map_err(|error| failed("pidfd_getfd", error))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &socket,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map_err(|error| failed(&format!("sendmsg of descriptor {}", fd.as_raw_fd()), error))?;
    drop(socket);

    let words =
        |values: &[u64]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    // struct iovec { base, len }.
    thread.process().write(
        page + scratch::VECTOR,
        &words(&[page + scratch::PAYLOAD, 1]),
    )?;
    // struct msghdr { name, namelen, iov, iovlen, control, controllen, flags }.
    let header = words(&[
        0,
        0,
        page + scratch::VECTOR,
        1,
        page + scratch::CONTROL,
        scratch::CONTROL_SIZE,
        0,
    ]);
    thread.process().write(page + scratch::HEADER, &header)?;
    let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) as u64;
    let header_at = page + scratch::HEADER;
    thread.call(
        "recvmsg",
        libc::SYS_recvmsg,
        [theirs, header_at, flags, 0, 0, 0],
    )?;
    // struct cmsghdr { len, level, type }, then the descriptor; cmsg_len is 16 + 4.
    let process = thread.process();
    let length = process.read_u64(page + scratch::CONTROL)?;
    if length != 20 {
        return Err(InjectError::Remote {
            pid,
            call: "recvmsg",
            source: std::io::Error::from_raw_os_error(libc::EMFILE),
        });
    }
    Ok(process.read_u64(page + scratch::RECEIVED)? & 0xffff_ffff)
}
