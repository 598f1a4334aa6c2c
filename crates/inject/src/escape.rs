//! The way back of a borrowed thread should its tracer be killed.
//!
//! While a thread makes system calls for us its registers are not its own. When a tracer is killed, the kernel
//! detaches from its threads and lets them run, from wherever they are. A borrowed thread therefore stands on a page of
//! ours on which the system call is followed by rt_sigreturn(2), with the thread's own state in a signal frame on the
//! same page: left alone, it goes back to where it was.

use std::ops::Range;

use crate::error::InjectError;
use crate::journal::Line;
use crate::mapping::PAGE;
use crate::owner::{HEADER, Header};
use crate::process::{Pid, Process};
use crate::syscall::Borrowed;
use crate::{ptrace, restart};

/// `syscall`; `mov eax, 15` (rt_sigreturn); `syscall`; `ud2`.
///
/// Behind a module's code, a byte follows: 0 where there were zeros before.
const CODE: [u8; 11] = [
    0x0f, 0x05, 0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x0f, 0x0b,
];
/// Offset of the code; behind it is the [journal](crate::journal), before it, on a page of our own, a line says whose page it is.
const START: u64 = HEADER;
/// Offset of the `struct ucontext`, to which the stack pointer points when rt_sigreturn is called.
const CONTEXT: u64 = 128;
/// Offset of the vector registers, aligned to 64.
const VECTORS: u64 = 512;
/// Room for everything: the vector state of a processor with AMX is 11 KiB.
const SIZE: u64 = 5 * PAGE;

/// Where the software-reserved words are in an fxsave image (asm/sigcontext.h, `struct _fpx_sw_bytes`).
const RESERVED: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// `UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS` (asm/ucontext.h).
const CONTEXT_FLAGS: u64 = 7;
/// No valid `ss_flags`: rt_sigreturn then leaves the alternate stack as it is.
const NO_STACK: u64 = 0x7fff;

/// The page, in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Escape {
    address: u64,
    size: u64,
}

impl Escape {
    /// The `syscall` instruction.
    pub(crate) fn instruction(self) -> u64 {
        self.address + START
    }

    /// The stack pointer that a borrowed thread has.
    pub(crate) fn stack_pointer(self) -> u64 {
        self.address + CONTEXT
    }

    /// The mapping, as start and length.
    pub(crate) fn mapping(self) -> (u64, u64) {
        (self.address, self.size)
    }
}

impl Process {
    /// The page, mapped with the first use.
    pub(crate) fn escape(&mut self) -> Result<Escape, InjectError> {
        if let Some(escape) = self.escape {
            return Ok(escape);
        }
        let left_over = self.left_over()?;
        let me = self.me;
        let escape = self.with_bootstrap_thread(|thread| {
            let prot = libc::PROT_READ | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let address = thread.map(Line::Code, SIZE, prot, flags, u64::MAX)?;
            let escape = Escape {
                address,
                size: SIZE,
            };
            let header = Header {
                owner: me,
                len: SIZE,
                used: SIZE,
                last: 0,
            };
            thread.process().write(escape.instruction(), &CODE)?;
            thread.process().write(address, &header.bytes())?;
            Ok(escape)
        })?;
        self.escape = Some(escape);
        for place in left_over {
            self.restore_unused_code(place)?;
        }
        Ok(escape)
    }

    /// Whether a chunk of somebody's is such a page.
    pub(crate) fn is_escape(&self, chunk: &Range<u64>) -> bool {
        let code = self.read_vec(chunk.start + START, CODE.len());
        chunk.end - chunk.start == SIZE && code.is_ok_and(|code| code == CODE)
    }

    /// Unmaps the page.
    pub(crate) fn unmap_escape(&mut self) -> Result<(), InjectError> {
        let Some(escape) = self.escape else {
            return Ok(());
        };
        let (start, len) = escape.mapping();
        self.with_bootstrap_thread(|thread| {
            thread.call("munmap", libc::SYS_munmap, [start, len, 0, 0, 0, 0])
        })?;
        self.escape = None;
        Ok(())
    }

    /// Takes a thread over while there is no page of ours: the way back stands where the file of a
    /// module ends within its last page of code, in bytes that belong to nobody, and which are put
    /// back afterwards.
    fn with_bootstrap_thread<T>(
        &mut self,
        work: impl FnOnce(&mut Borrowed<'_>) -> Result<T, InjectError>,
    ) -> Result<T, InjectError> {
        // A process that is being started dies with us.
        let place = if self.kill_on_drop {
            None
        } else {
            self.unused_code()?
        };
        let Some(place) = place else {
            return self.borrow(None, work);
        };
        let before = self.read_vec(place.address, place.size as usize)?;
        let mut code = CODE.to_vec();
        code.push(u8::from(before.iter().any(|&byte| byte != 0)));
        self.write_code(place.instruction(), &code)?;
        let result = self.borrow(Some(place), work);
        // Otherwise the process has ended, or runs another program.
        if self.is_held() {
            self.write_code(place.address, &before)?;
        }
        result
    }

    /// The largest run of executable bytes behind the end of a module's code, of zeros if there is one.
    fn unused_code(&mut self) -> Result<Option<Escape>, InjectError> {
        let mut places = self.behind_code()?;
        let is_zero = |place: &Escape| {
            let bytes = self.read_vec(place.address, place.size as usize);
            bytes.is_ok_and(|bytes| bytes.iter().all(|&byte| byte == 0))
        };
        places.sort_by_key(|place| (!is_zero(place), std::cmp::Reverse(place.size)));
        for place in places {
            // Nobody has a reason to be there but a thread whose tracer was killed.
            let code = self.read_vec(place.instruction(), CODE.len());
            if code.is_ok_and(|code| code != CODE)
                || !self.is_any_thread_in(&(place.address..place.address + place.size))?
            {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Such runs, zeros before, that have the way back of a tracer that was killed.
    fn left_over(&self) -> Result<Vec<Escape>, InjectError> {
        let mut places = self.behind_code()?;
        places.retain(|place| {
            let code = self.read_vec(place.instruction(), CODE.len() + 1);
            code.is_ok_and(|code| code.starts_with(&CODE) && code.ends_with(&[0]))
        });
        Ok(places)
    }

    /// The bytes between the end of each module's code and the end of its last page.
    fn behind_code(&self) -> Result<Vec<Escape>, InjectError> {
        let mut places = Vec::new();
        for image in self.images()? {
            let segments = image.binary().load_segments().iter();
            for segment in segments.filter(|segment| segment.executable) {
                let end = image.absolute(segment.vaddr).wrapping_add(segment.mem_size);
                let address = end.next_multiple_of(64);
                let size = end.next_multiple_of(PAGE).saturating_sub(address);
                if size >= VECTORS {
                    places.push(Escape { address, size });
                }
            }
        }
        Ok(places)
    }

    /// Whether a thread executes in a range.
    pub(crate) fn is_any_thread_in(&mut self, range: &Range<u64>) -> Result<bool, InjectError> {
        self.stop_running()?;
        for tid in self.thread_ids() {
            let registers = ptrace::registers(tid);
            if range.contains(&self.or_death(registers)?.rip) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the state of a thread, as it is to be restored.
    pub(crate) fn save_for_escape(
        &mut self,
        escape: Escape,
        tid: Pid,
        registers: &libc::user_regs_struct,
        mask: u64,
    ) -> Result<(), InjectError> {
        let vectors = ptrace::vector_state(tid);
        let vectors = self.or_death(vectors)?;
        let fits =
            vectors.len() as u64 + 4 <= escape.size - VECTORS && vectors.len() > RESERVED + 24;
        let image = escape.address + VECTORS;
        if fits {
            self.write_code(image, &signal_image(vectors))?;
        }
        let context = context(registers, mask, if fits { image } else { 0 });
        self.write_code(escape.stack_pointer(), &context)
    }
}

/// An xsave image as rt_sigreturn(2) wants it.
fn signal_image(mut image: Vec<u8>) -> Vec<u8> {
    let size = image.len() as u32;
    // ptrace leaves the mask of the state components in the first of the reserved words.
    let components: Vec<u8> = image[RESERVED..RESERVED + 8].to_vec();
    let mut words = Vec::with_capacity(48);
    words.extend(MAGIC1.to_le_bytes());
    words.extend((size + 4).to_le_bytes());
    words.extend(components);
    words.extend(size.to_le_bytes());
    words.resize(48, 0);
    image[RESERVED..RESERVED + 48].copy_from_slice(&words);
    image.extend(MAGIC2.to_le_bytes());
    image
}

/// `struct ucontext` of asm/ucontext.h, with `struct sigcontext` of asm/sigcontext.h in it.
fn context(registers: &libc::user_regs_struct, mask: u64, vectors: u64) -> Vec<u8> {
    let mut r = *registers;
    // What the kernel does to an interrupted system call on its way out: it is made again. It forgets what is left of a
    // time-out when rt_sigreturn is called: rather than EINTR, the program gets the whole time once more.
    if let Some(number) = restart::from_the_start(&r) {
        r.rax = number;
        r.rip = r.rip.wrapping_sub(2);
    }
    let segments = r.cs & 0xffff | (r.ss & 0xffff) << 48;
    #[rustfmt::skip]
    let words = [
        CONTEXT_FLAGS, 0, 0, NO_STACK, 0,
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15,
        r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.eflags,
        segments, 0, 0, mask, 0, vectors,
        0, 0, 0, 0, 0, 0, 0, 0,
        mask,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

    /// Ends the calling thread at once, as a kill would: what it traced is detached by the kernel.
    fn vanish() -> ! {
        // SAFETY: the thread's stack is leaked and nothing waits for it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("exit returned")
    }

    type Work<'a> = &'a mut dyn FnMut(&mut Borrowed<'_>) -> Result<(), InjectError>;
    type Borrow = fn(&mut Process, Work<'_>) -> Result<(), InjectError>;
    const ORDINARY: Borrow = |process, work| process.with_borrowed_thread(work);
    const FIRST: Borrow = |process, work| process.with_bootstrap_thread(work);

    /// A `cat` echoes as before when its tracer vanishes at a stage of a borrowed system call.
    fn vanish_from(borrow: Borrow, work: fn(&mut Borrowed<'_>)) {
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let pid = Pid(cat.id() as i32);
        let mut input = cat.stdin.take().expect("a pipe");
        let mut output = BufReader::new(cat.stdout.take().expect("a pipe"));
        let mut echo = |text: &str| {
            writeln!(input, "{text}").expect("write");
            let mut line = String::new();
            output.read_line(&mut line).expect("read");
            assert_eq!(line.trim_end(), text);
        };
        echo("before");
        let status = || std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let blocked = |status: &str| {
            status
                .lines()
                .find(|l| l.starts_with("SigBlk"))
                .map(str::to_owned)
        };
        let usual = blocked(&status());
        let (there, arrived) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut process = Process::attach(pid).expect("attach");
            let vanished: Result<(), _> = borrow(&mut process, &mut |thread| {
                work(thread);
                let _ = there.send(());
                vanish()
            });
            vanished.expect("never reached");
        });
        arrived.recv().expect("a borrowed thread");
        loop {
            let now = status();
            if now.contains("TracerPid:\t0\n") && blocked(&now) == usual {
                break;
            }
            std::thread::yield_now();
        }
        echo("after");
        echo("and again");
        drop(input);
        assert!(cat.wait().expect("wait").success());
    }

    fn call(thread: &mut Borrowed<'_>) {
        let called = thread.call("getppid", libc::SYS_getppid, [0; 6]);
        called.expect("getppid");
    }

    #[test]
    fn a_tracer_may_vanish_before_a_call() {
        vanish_from(ORDINARY, |_| {});
        vanish_from(FIRST, |_| {});
    }

    #[test]
    fn a_tracer_may_vanish_after_a_call() {
        vanish_from(ORDINARY, call);
        vanish_from(FIRST, call);
    }
}
