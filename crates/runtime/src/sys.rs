//! System calls, without libc. Results are as the kernel gives them: negative errno on failure.

use core::arch::asm;
use core::mem::MaybeUninit;

use crate::layout::SignalStack;

const READ: u64 = 0;
const CLOSE: u64 = 3;
const MMAP: u64 = 9;
const RT_SIGPROCMASK: u64 = 14;
const SCHED_YIELD: u64 = 24;
const SIGALTSTACK: u64 = 131;
const GETPID: u64 = 39;
const KILL: u64 = 62;
const PRCTL: u64 = 157;
const READLINK: u64 = 89;
const GETTID: u64 = 186;
const FUTEX: u64 = 202;
const GETDENTS64: u64 = 217;
const TGKILL: u64 = 234;
const CLOCK_GETTIME: u64 = 228;
const OPENAT: u64 = 257;
const GETCPU: u64 = 309;
const PROCESS_VM_READV: u64 = 310;
const PROCESS_VM_WRITEV: u64 = 311;
const MEMBARRIER: u64 = 324;

/// `getppid`, for [`plain`].
pub const GETPPID: u64 = 110;
/// `getuid`, for [`plain`].
pub const GETUID: u64 = 102;
/// `getgid`, for [`plain`].
pub const GETGID: u64 = 104;
/// `geteuid`, for [`plain`].
pub const GETEUID: u64 = 107;
/// `getegid`, for [`plain`].
pub const GETEGID: u64 = 108;
/// `getpgid`, for [`plain`].
pub const GETPGID: u64 = 121;
/// `getsid`, for [`plain`].
pub const GETSID: u64 = 124;

/// No such process.
pub const ESRCH: i64 = 3;
/// Bad address.
pub const EFAULT: i64 = 14;
/// Invalid argument.
pub const EINVAL: i64 = 22;

/// `struct iovec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct IoVec {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

#[inline(always)]
unsafe fn call(n: u64, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> i64 {
    let result: i64;
    // SAFETY: the system call's own requirements are the caller's; the clobbers are those of the x86-64 ABI.
    unsafe {
        asm!("syscall", inlateout("rax") n as i64 => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A system call that takes at most one number and touches no memory.
pub fn plain(number: u64, argument: u64) -> i64 {
    // SAFETY: the constants of this module that are meant for it only return facts.
    unsafe { call(number, argument, 0, 0, 0, 0, 0) }
}

/// `getpid`.
pub fn getpid() -> i64 {
    plain(GETPID, 0)
}

/// `gettid`.
pub fn gettid() -> i64 {
    plain(GETTID, 0)
}

/// `sched_yield`.
pub fn sched_yield() {
    plain(SCHED_YIELD, 0);
}

/// True when no process has that id (as seen here). A zombie still counts as one.
pub fn process_is_gone(pid: u32) -> bool {
    // SAFETY: signal 0 is only a question.
    pid != 0
        && pid <= i32::MAX as u32
        && unsafe { call(KILL, u64::from(pid), 0, 0, 0, 0, 0) } == -ESRCH
}

/// True when no process of that id has a thread of that id (as seen here).
pub fn thread_is_gone(pid: u32, tid: u32) -> bool {
    let is_id = |id: u32| id != 0 && id <= i32::MAX as u32;
    // SAFETY: signal 0 is only a question.
    is_id(pid)
        && is_id(tid)
        && unsafe { call(TGKILL, u64::from(pid), u64::from(tid), 0, 0, 0, 0) } == -ESRCH
}

/// Sleeps while `*word == value`, at most `ns` nanoseconds, on a futex shared between processes.
///
/// # Safety
/// `word` is a mapped, aligned `u32`.
pub unsafe fn futex_wait(word: *const u32, value: u32, ns: u64) -> i64 {
    let timeout = [ns / 1_000_000_000, ns % 1_000_000_000];
    // SAFETY: word by the caller's promise; the timeout lives during the call.
    unsafe {
        call(
            FUTEX,
            word as u64,
            0,
            u64::from(value),
            timeout.as_ptr() as u64,
            0,
            0,
        )
    }
}

/// Wakes up to `count` sleepers of [`futex_wait`].
///
/// # Safety
/// `word` is mapped.
pub unsafe fn futex_wake(word: *const u32, count: u32) -> i64 {
    // SAFETY: by the caller's promise.
    unsafe { call(FUTEX, word as u64, 1, u64::from(count), 0, 0, 0) }
}

/// `clock_gettime`, in ns.
pub fn clock_ns(clock: u64) -> i64 {
    let mut time = core::mem::MaybeUninit::<[i64; 2]>::uninit();
    // SAFETY: `time` has room for a timespec, which the kernel fills unless it refuses the clock.
    unsafe {
        if call(CLOCK_GETTIME, clock, time.as_mut_ptr() as u64, 0, 0, 0, 0) < 0 {
            return 0;
        }
        let [seconds, ns] = time.assume_init();
        seconds.wrapping_mul(1_000_000_000).wrapping_add(ns)
    }
}

/// `getcpu`.
pub fn getcpu() -> i64 {
    let mut cpu = 0u32;
    // SAFETY: `cpu` has room for the answer; the others may be null.
    unsafe { call(GETCPU, &raw mut cpu as u64, 0, 0, 0, 0, 0) };
    i64::from(cpu)
}

/// `prctl(PR_GET_NAME)`: the calling thread's name, NUL-terminated.
pub fn thread_name() -> [u8; 16] {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME (16) writes at most 16 bytes.
    unsafe { call(PRCTL, 16, name.as_mut_ptr() as u64, 0, 0, 0, 0) };
    name
}

/// The calling thread's alternate signal stack (sigaltstack(2)); `None` when the kernel will not say.
pub fn signal_stack() -> Option<SignalStack> {
    let mut stack = MaybeUninit::<SignalStack>::uninit();
    // SAFETY: writes to the structure alone, all of it.
    let result = unsafe { call(SIGALTSTACK, 0, stack.as_mut_ptr() as u64, 0, 0, 0, 0) };
    // SAFETY: it has been written.
    (result == 0).then(|| unsafe { stack.assume_init() })
}

/// Puts private memory of zeros in place of what is mapped there. False when the kernel will not.
///
/// # Safety
/// Whole pages, of which nobody uses what is in them.
pub unsafe fn map_private(start: *mut u8, len: u64) -> bool {
    const READ_WRITE: u64 = 1 | 2;
    /// `MAP_PRIVATE`, `MAP_FIXED`, `MAP_ANONYMOUS`, `MAP_NORESERVE`.
    const FLAGS: u64 = 0x02 | 0x10 | 0x20 | 0x4000;
    // SAFETY: by the caller's promise.
    let at = unsafe { call(MMAP, start as u64, len, READ_WRITE, FLAGS, u64::MAX, 0) };
    at == start as i64
}

/// Whether the page of an address can be read; `None` when the kernel will not say.
///
/// `rt_sigprocmask(2)` copies a signal set in before it looks at what is to be done with it: with an unknown operation the
/// answer is EFAULT or EINVAL, and nothing has been changed. No system call is cheaper, and this one is refused by no
/// filter that lets a C library work.
pub fn is_readable(address: u64) -> Option<bool> {
    const NO_OPERATION: u64 = 0x7fff_ffff;
    // SAFETY: only reads, and by the kernel, which checks the address.
    match unsafe { call(RT_SIGPROCMASK, NO_OPERATION, address & !7, 0, 8, 0, 0) } {
        r if r == -EINVAL => address.checked_add(8).map(|_| true),
        r if r == -EFAULT => Some(false),
        _ => None,
    }
}

/// Reads memory of `pid`: bytes read, in whole iovecs and perhaps part of one, or a negative errno.
///
/// # Safety
/// The local ranges are writable.
pub unsafe fn process_vm_readv(pid: u32, local: &[IoVec], remote: &[IoVec]) -> i64 {
    // SAFETY: local ranges by the caller's promise; the kernel checks the remote ones.
    unsafe {
        call(
            PROCESS_VM_READV,
            u64::from(pid),
            local.as_ptr() as u64,
            local.len() as u64,
            remote.as_ptr() as u64,
            remote.len() as u64,
            0,
        )
    }
}

/// Writes memory of `pid`, as [`process_vm_readv`].
///
/// # Safety
/// The local ranges are readable, and the caller means to change the remote ones.
pub unsafe fn process_vm_writev(pid: u32, local: &[IoVec], remote: &[IoVec]) -> i64 {
    // SAFETY: local ranges by the caller's promise; the kernel checks the remote ones.
    unsafe {
        call(
            PROCESS_VM_WRITEV,
            u64::from(pid),
            local.as_ptr() as u64,
            local.len() as u64,
            remote.as_ptr() as u64,
            remote.len() as u64,
            0,
        )
    }
}

/// `membarrier(command)`.
pub fn membarrier(command: u64) -> i64 {
    // SAFETY: touches no memory.
    unsafe { call(MEMBARRIER, command, 0, 0, 0, 0, 0) }
}

/// Opens a file for reading; `path` ends with NUL. `flags` besides `O_RDONLY|O_CLOEXEC`.
fn open(path: &[u8], flags: u64) -> i64 {
    // SAFETY: AT_FDCWD and a path that the caller has checked to be terminated.
    unsafe {
        call(
            OPENAT,
            -100i64 as u64,
            path.as_ptr() as u64,
            0o2_000_000 | flags,
            0,
            0,
            0,
        )
    }
}

/// `readlink`: the number of bytes, or a negative errno. `path` ends with NUL.
pub fn readlink(path: &[u8], buffer: &mut [u8]) -> i64 {
    if path.last() != Some(&0) {
        return -EINVAL;
    }
    // SAFETY: a terminated path, and a buffer of that length.
    unsafe {
        call(
            READLINK,
            path.as_ptr() as u64,
            buffer.as_mut_ptr() as u64,
            buffer.len() as u64,
            0,
            0,
            0,
        )
    }
}

/// The names in a directory, `.` and `..` among them; none when it can't be read. `path` ends with NUL.
pub fn read_directory(path: &[u8], mut each: impl FnMut(&[u8])) {
    const O_DIRECTORY: u64 = 0o200_000;
    // Of `struct linux_dirent64` (getdents64(2)): where its length and its name are.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    if path.last() != Some(&0) {
        return;
    }
    let fd = open(path, O_DIRECTORY);
    if fd < 0 {
        return;
    }
    let mut room = [0u8; 2048];
    loop {
        // SAFETY: the kernel fills at most the room.
        let got = unsafe {
            call(
                GETDENTS64,
                fd as u64,
                room.as_mut_ptr() as u64,
                room.len() as u64,
                0,
                0,
                0,
            )
        };
        let mut entries = room.get(..got.max(0) as usize).unwrap_or_default();
        if entries.is_empty() {
            break;
        }
        while let (Some(&low), Some(&high)) = (entries.get(LENGTH), entries.get(LENGTH + 1)) {
            let length = usize::from(u16::from_le_bytes([low, high]));
            if let Some(name) = entries.get(NAME..length) {
                each(crate::string::until_nul(name));
            }
            entries = match entries.get(length.max(NAME)..) {
                Some(rest) => rest,
                None => break,
            };
        }
    }
    // SAFETY: our own descriptor.
    unsafe { call(CLOSE, fd as u64, 0, 0, 0, 0, 0) };
}

/// Reads the first bytes of a file. `path` ends with NUL. The number of bytes, or a negative errno.
pub fn read_file(path: &[u8], buffer: &mut [u8]) -> i64 {
    if path.last() != Some(&0) {
        return -22;
    }
    let fd = open(path, 0);
    if fd < 0 {
        return fd;
    }
    let mut got = 0;
    while got < buffer.len() {
        // SAFETY: the buffer's rest.
        let n = unsafe {
            call(
                READ,
                fd as u64,
                buffer.as_mut_ptr().add(got) as u64,
                (buffer.len() - got) as u64,
                0,
                0,
                0,
            )
        };
        if n <= 0 {
            break;
        }
        got += n as usize;
    }
    // SAFETY: our own descriptor.
    unsafe { call(CLOSE, fd as u64, 0, 0, 0, 0, 0) };
    got as i64
}
