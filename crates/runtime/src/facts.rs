//! Facts about the thread and process in which a handler runs.

use core::sync::atomic::Ordering::Relaxed;

use crate::arena::Arena;
use crate::layout::{Header, Slot};
use crate::memory::process;
use crate::own_process;
use crate::proc_files;
use crate::string::{Buffer, until_nul};
use crate::sys;

/// `pid()`: as the process sees itself.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn pid(_arena: *mut u8, slot: *mut Slot) -> i64 {
    // SAFETY: the slot is the caller's own.
    let pid = unsafe { (*slot).pid.load(Relaxed) };
    if pid == 0 {
        sys::getpid()
    } else {
        i64::from(pid)
    }
}

/// The process on whose behalf a handler runs in the tracer.
unsafe fn acted_for(slot: *mut Slot) -> Option<u32> {
    // SAFETY: the slot is the caller's own.
    let (index, pid) = unsafe { ((*slot).index, (*slot).pid.load(Relaxed)) };
    (index == 0 && pid != 0).then_some(pid)
}

/// A number that a file of proc(5) tells of another process: the `n`th word after the last occurrence of a key. `None` when
/// the process is gone.
fn told(pid: u32, file: &[u8], key: &[u8], n: i64) -> Option<i64> {
    let (mut path, mut word) = ([0u8; 32], [0u8; 24]);
    // SAFETY: both are locals of those sizes.
    let len = unsafe {
        let mut text = Buffer::new(path.as_mut_ptr(), 32);
        text.put(b"/proc/")
            .decimal(i64::from(pid), 0)
            .put(file)
            .len()
    };
    let path = path.get(..len as usize).unwrap_or_default();
    // SAFETY: the same.
    let len = unsafe {
        let mut text = Buffer::new(word.as_mut_ptr(), 24);
        proc_files::word(&mut text, path, key, n)
    };
    let digits = word.iter().take(len as usize);
    let number = digits.fold(0, |number: i64, digit| {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        number.wrapping_mul(10).wrapping_add(digit)
    });
    (len > 0).then_some(number)
}

macro_rules! by_call {
    ($($(#[$doc:meta])* $name:ident = $call:expr, $file:literal $key:literal $n:literal;)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// As the functions of [`crate::abi`].
        pub unsafe fn $name(_arena: *mut u8, slot: *mut Slot) -> i64 {
            // SAFETY: the slot is the caller's own.
            let other = unsafe { acted_for(slot) };
            match other.and_then(|pid| told(pid, $file, $key, $n)) {
                Some(number) => number,
                None => $call,
            }
        })*
    };
}

/// `tid()`. Asked of the kernel: a slot may pass from an ended thread to a new one of the same FS base. In the tracer
/// it is the thread on whose behalf a handler runs, if there is one.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn tid(_arena: *mut u8, slot: *mut Slot) -> i64 {
    // SAFETY: the slot is the caller's own.
    let (index, tid) = unsafe { ((*slot).index, (*slot).tid.load(Relaxed)) };
    if index == 0 && tid != 0 {
        i64::from(tid)
    } else {
        sys::gettid()
    }
}

by_call! {
    /// `ppid()`.
    ppid = sys::plain(sys::GETPPID, 0), b"/stat" b") " 2;
    /// `pgrp()`.
    pgrp = sys::plain(sys::GETPGID, 0), b"/stat" b") " 3;
    /// `sid()`.
    sid = sys::plain(sys::GETSID, 0), b"/stat" b") " 4;
    /// `uid()`.
    uid = sys::plain(sys::GETUID, 0), b"/status" b"\nUid:" 1;
    /// `euid()`.
    euid = sys::plain(sys::GETEUID, 0), b"/status" b"\nUid:" 2;
    /// `gid()`.
    gid = sys::plain(sys::GETGID, 0), b"/status" b"\nGid:" 1;
    /// `egid()`.
    egid = sys::plain(sys::GETEGID, 0), b"/status" b"\nGid:" 2;
}

/// `cpu()`: by the vDSO in a target.
pub fn cpu() -> i64 {
    let address = own_process::getcpu();
    if address != 0 {
        // SAFETY: the tracer found the function in the vDSO of this process, which stays mapped.
        let call: extern "C" fn(*mut u32, *mut u32, *mut u8) -> i64 =
            unsafe { core::mem::transmute(address) };
        let mut cpu = 0u32;
        if call(&mut cpu, core::ptr::null_mut(), core::ptr::null_mut()) == 0 {
            return i64::from(cpu);
        }
    }
    sys::getcpu()
}

/// `execname()`: the thread's name; in the tracer "spile", or the name of the process on whose behalf a handler runs.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn execname(arena: *mut u8, slot: *mut Slot, to: &mut Buffer) -> u64 {
    // SAFETY: the slot is the caller's own, its process record lies in the arena.
    unsafe {
        if (*slot).index == 0 {
            let name = match process(&Arena::of(arena), slot) {
                Some(record) if (*slot).pid.load(Relaxed) != 0 => until_nul(&(*record).name),
                _ => b"",
            };
            // The tracer's own record has no name.
            let name = if name.is_empty() { b"spile" } else { name };
            return to.put(name).len();
        }
    }
    to.put(until_nul(&sys::thread_name())).len()
}

/// `pexecname()`: the parent's name, from `/proc/PPID/comm`.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn pexecname(arena: *mut u8, slot: *mut Slot, to: &mut Buffer) -> u64 {
    let mut path = [0u8; 32];
    let mut name = [0u8; 32];
    // SAFETY: both are locals of that size, and the last byte of the path stays NUL; the slot is the caller's own.
    let n = unsafe {
        let mut text = Buffer::new(path.as_mut_ptr(), 31);
        text.put(b"/proc/")
            .decimal(ppid(arena, slot), 0)
            .put(b"/comm");
        sys::read_file(&path, &mut name)
    };
    let name = name.get(..n.max(0) as usize).unwrap_or(&[]);
    to.put(name.strip_suffix(b"\n").unwrap_or(name)).len()
}

/// `cmdline_str()`: the arguments, blanks between them.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn cmdline(base: *mut u8, slot: *mut Slot, to: &mut Buffer) -> u64 {
    // SAFETY: the record and the text are checked to lie inside the arena.
    unsafe {
        let arena = Arena::of(base);
        if let Some(p) = process(&arena, slot) {
            let text = (*p).cmdline;
            if text.len != 0
                && let Some(start) = arena.at(u64::from(text.offset), u64::from(text.len))
            {
                return to
                    .put(core::slice::from_raw_parts(start, text.len as usize))
                    .len();
            }
        }
        let room = to.room();
        if room == 0 {
            return 0;
        }
        let n = sys::read_file(
            b"/proc/self/cmdline\0",
            core::slice::from_raw_parts_mut(to.start(), room),
        )
        .max(0) as usize;
        let mut len = n.min(room);
        while len > 0 && *to.start().add(len - 1) == 0 {
            len -= 1;
        }
        for i in 0..len {
            let at = to.start().add(i);
            if *at == 0 {
                at.write_volatile(b' ');
            }
        }
        to.set_len(len as u64);
        to.len()
    }
}

/// `stp_pid()`: the pid of the tracer, which owns slot 0.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn tracer_pid(base: *mut u8) -> i64 {
    // SAFETY: the header is mapped.
    unsafe { i64::from((*base.cast::<Header>()).tracer_pid) }
}

/// `target_set_pid(pid)`: whether it is the target or a process whose threads have run handlers, or the one on whose
/// behalf the tracer runs one.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn target_set_has(base: *mut u8, pid: i64) -> i64 {
    // SAFETY: the header is mapped, slots are checked to lie inside the arena.
    unsafe {
        let header = base.cast::<Header>();
        if pid <= 0 {
            return 0;
        }
        if (*header).target_pid.load(Relaxed) == pid {
            return 1;
        }
        let arena = Arena::of(base);
        let used = (*header).slots_used.load(Relaxed).min((*header).slot_count);
        for index in 0..used {
            // The tracer's own slot bears its own number while it runs no process's handler.
            let is_tracer = index == 0 && pid == tracer_pid(base);
            if let Some(slot) = arena.slot(index)
                && i64::from((*slot).pid.load(Relaxed)) == pid
                && !is_tracer
            {
                return 1;
            }
        }
        0
    }
}

/// An argument of the process, 0 being the program; empty when there is none or it lies beyond the first 32 KiB. For n
/// below 0 it is asked whether there is one of number -1-n: `1` or nothing.
pub fn cmdline_arg(to: &mut Buffer, n: i64) -> u64 {
    let mut arguments = [core::mem::MaybeUninit::<u8>::uninit(); 32768];
    // SAFETY: only the bytes that were read are looked at.
    let text = unsafe {
        let start = arguments.as_mut_ptr().cast::<u8>();
        let n = sys::read_file(
            b"/proc/self/cmdline\0",
            core::slice::from_raw_parts_mut(start, 32768),
        )
        .max(0);
        core::slice::from_raw_parts(start, n as usize)
    };
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    let number = usize::try_from(if n < 0 { !n } else { n });
    if let Some(argument) = number.ok().and_then(|n| text.split(|&b| b == 0).nth(n)) {
        to.put(if n < 0 { b"1" } else { argument });
    }
    to.len()
}

/// `env_var(name)`: from the environment that the process began with; empty when it is not there or lies beyond the
/// first 32 KiB.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn env_var(_arena: *mut u8, _slot: *mut Slot, to: &mut Buffer, name: &[u8]) -> u64 {
    let mut environment = [core::mem::MaybeUninit::<u8>::uninit(); 32768];
    // SAFETY: only the bytes that were read are looked at.
    let text = unsafe {
        let start = environment.as_mut_ptr().cast::<u8>();
        let n = sys::read_file(
            b"/proc/self/environ\0",
            core::slice::from_raw_parts_mut(start, 32768),
        )
        .max(0);
        core::slice::from_raw_parts(start, n as usize)
    };
    for entry in text.split(|&b| b == 0) {
        if let Some((b'=', value)) = entry
            .get(name.len()..)
            .and_then(|rest| rest.split_first())
            .map(|(first, rest)| (*first, rest))
            && crate::string::equal(entry.get(..name.len()).unwrap_or(&[]), name)
        {
            return to.put(value).len();
        }
    }
    to.len()
}

/// `randint(n)`: 0 … n-1; 0 for n below 1. A counter's hash (splitmix64), so that all threads share one sequence.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn randint(arena: *mut u8, n: i64) -> i64 {
    // SAFETY: the header is mapped.
    let seed = unsafe {
        (*arena.cast::<Header>())
            .random
            .fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)
    };
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    if n <= 0 {
        0
    } else {
        ((u128::from(z) * n as u128) >> 64) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    fn with(f: impl FnOnce(&mut Buffer) -> u64) -> String {
        let mut room = [0u8; 256];
        let len = unsafe { f(&mut Buffer::new(room.as_mut_ptr(), 255)) };
        String::from_utf8_lossy(&room[..len as usize]).into_owned()
    }

    #[test]
    fn what_the_kernel_says() {
        let f = Fixture::new();
        let slot = f.owned(1);
        unsafe {
            assert_eq!(pid(f.base, slot), i64::from(std::process::id()));
            assert_eq!(tid(f.base, slot), i64::from(libc::gettid()));
            assert_eq!(
                (ppid(f.base, slot), uid(f.base, slot)),
                (i64::from(libc::getppid()), i64::from(libc::getuid()))
            );
            assert!(cpu() >= 0);
            let exe = std::env::args().next().expect("name");
            assert!(with(|b| cmdline(f.base, slot, b)).starts_with(&exe));
            assert_eq!(with(|b| execname(f.base, f.slot(0), b)), "spile");
            assert_eq!(
                with(|b| pexecname(f.base, slot, b)),
                std::fs::read_to_string(format!("/proc/{}/comm", libc::getppid()))
                    .expect("comm")
                    .trim_end()
            );
            let path = std::env::var("PATH").expect("PATH");
            assert!(path.starts_with(&with(|b| env_var(f.base, slot, b, b"PATH"))));
            assert_eq!(with(|b| env_var(f.base, slot, b, b"PAT")), "");
        }
    }

    #[test]
    fn random_numbers_are_in_range_and_spread() {
        let f = Fixture::new();
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[unsafe { randint(f.base, 10) } as usize] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(
            unsafe { (randint(f.base, 0), randint(f.base, -4), randint(f.base, 1)) },
            (0, 0, 0)
        );
    }
}
