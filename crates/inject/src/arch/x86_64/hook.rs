//! Code that runs inside a watched process to leave word on the notice board.
//!
//! A *hook* is a few instructions at a point that decide, without changing flags or touching the stack, whether there is
//! something to tell, and then jump to the *poster*, which all hooks of a process share. Neither uses the program's
//! stack: it may be a goroutine's last bytes, or unmapped already by a thread about to end. Registers are kept in a
//! page of the process that forked children find empty (`MADV_WIPEONFORK`); those at hand are rcx and r11, which every
//! system call overwrites and no calling convention preserves. Signals are handled as ever: whatever runs meanwhile
//! runs on the program's stack, below what the program has there.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::{gpr32::*, gpr64::*};
use iced_x86::code_asm::{AsmRegister64, CodeAssembler, CodeLabel, dword_ptr, ptr, qword_ptr};

use super::RegisterSet;
use crate::notice_board::{FUTEX_TID_MASK, kind, layout};
use crate::snippet::{Snippet, SnippetCode};

/// Layout of the page in which posters keep what they need.
pub(crate) mod scratch {
    /// Room for each thread that posts: 32 can at a time.
    pub(super) const SIZE: u64 = 128;
    /// Of the page.
    pub(crate) const PAGE: u64 = 4096;

    /// The low bit is set while it is in use.
    pub(super) const STATE: u64 = 0;
    pub(super) const KIND: u64 = 4;
    pub(super) const NUMBER: u64 = 8;
    pub(super) const EXPECTED: u64 = 12;
    pub(super) const CONTINUE: u64 = 16;
    pub(super) const RAX: u64 = 24;
    pub(super) const RDX: u64 = 32;
    pub(super) const RBX: u64 = 40;
    pub(super) const RSI: u64 = 48;
    pub(super) const RDI: u64 = 56;
    pub(super) const R8: u64 = 64;
    pub(super) const R9: u64 = 72;
    pub(super) const R10: u64 = 80;
    pub(super) const PID: u64 = 88;
    pub(super) const TID: u64 = 92;
    pub(super) const PATIENCE: u64 = 96;
    pub(super) const BIT: u64 = 100;
    /// A `struct timespec`.
    pub(super) const TIMEOUT: u64 = 104;
    pub(super) const FLAGS: u64 = 120;
}

/// A thread that posts a notice, or has gone on already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posting {
    /// Its number in its own namespace.
    pub(crate) inner_tid: u32,
    /// Where it goes on afterwards.
    pub(crate) continues: u64,
    /// The registers of [`SAVED`].
    saved: [u64; SAVED.len()],
}

impl Posting {
    /// Gives the thread, which is stopped, the registers with which it goes on: rcx and r11 are anything.
    pub(crate) fn put_back(&self, registers: &mut libc::user_regs_struct) {
        [
            registers.rax,
            registers.rdx,
            registers.rbx,
            registers.rsi,
            registers.rdi,
            registers.r8,
            registers.r9,
            registers.r10,
        ] = self.saved;
        registers.rip = self.continues;
        // It is in no system call that could be restarted.
        registers.orig_rax = u64::MAX;
    }
}

/// The threads that post from a scratch page.
pub(crate) fn postings(page: &[u8]) -> impl Iterator<Item = Posting> + '_ {
    let places = page.chunks_exact(scratch::SIZE as usize);
    places.filter_map(|place| {
        let bytes = |offset: u64, len: u64| place.get(offset as usize..(offset + len) as usize);
        let long = |offset| Some(u64::from_le_bytes(bytes(offset, 8)?.try_into().ok()?));
        let mut saved = [0; SAVED.len()];
        for (value, (_, offset)) in saved.iter_mut().zip(SAVED) {
            *value = long(offset)?;
        }
        let posting = Posting {
            inner_tid: u32::from_le_bytes(bytes(scratch::TID, 4)?.try_into().ok()?),
            continues: long(scratch::CONTINUE)?,
            saved,
        };
        let is_used = bytes(scratch::STATE, 1)?.first()? & 1 != 0;
        is_used.then_some(posting)
    })
}

/// For how many seconds a thread waits for an answer.
const PATIENCE: u32 = 20;
/// For how many milliseconds it waits for room on the board.
const ROOM_PATIENCE: u32 = 20_000;
/// How often a wait may be interrupted by signals.
const INTERRUPTIONS: u32 = 1 << 20;

const SYS_FUTEX: u32 = libc::SYS_futex as u32;
const SYS_GETPID: u32 = libc::SYS_getpid as u32;
const SYS_GETTID: u32 = libc::SYS_gettid as u32;
const SYS_CLONE: i32 = libc::SYS_clone as i32;
const SYS_CLONE3: i32 = libc::SYS_clone3 as i32;

/// What a hook waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The entry of `_dl_debug_state`.
    Libraries,
    /// Before a system call of this number is made: with this kind of notice.
    Before(u32, u32),
    /// The same when its first argument, an `int`, is this one.
    BeforeWith { number: u32, first: i32, what: u32 },
    /// After clone, clone3, fork or vfork, in the child.
    Child(u32),
}

/// What a poster must know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post {
    /// Where the board is mapped in the process.
    pub(crate) board: u64,
    /// Where the scratch page is.
    pub(crate) scratch: u64,
    /// The number of the watched process.
    pub(crate) line: u32,
    /// `struct r_debug`, or 0 when it is unknown.
    pub(crate) debug: u64,
    /// Whether processes, and threads, that begin are of interest.
    pub(crate) forks: bool,
    /// As above.
    pub(crate) threads: bool,
    /// Processes that begin wait.
    pub(crate) hold_forks: bool,
}

/// The poster's code and where each event enters it.
#[derive(Clone, Debug)]
pub(crate) struct Poster {
    pub(crate) code: Vec<u8>,
    entries: Vec<(Event, u64)>,
}

/// An upper bound of the poster's size.
pub(crate) const POSTER_SIZE: u64 = 4096;

impl Poster {
    /// Makes the poster that will stand at `at`.
    pub(crate) fn build(post: &Post, events: &[Event], at: u64) -> Result<Poster, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut body = a.create_label();
        let mut entries = Vec::new();
        for &event in events {
            let mut label = a.create_label();
            a.set_label(&mut label)?;
            enter(&mut a, post, event, body)?;
            entries.push((event, label));
        }
        a.set_label(&mut body)?;
        write_body(&mut a, post)?;
        let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
        let assembled = a.assemble_options(at, options)?;
        let entries = entries
            .into_iter()
            .map(|(event, label)| Ok((event, assembled.label_ip(&label)?)))
            .collect::<Result<_, IcedError>>()?;
        Ok(Poster {
            code: assembled.inner.code_buffer,
            entries,
        })
    }

    fn entry(&self, event: Event) -> Option<u64> {
        let found = self.entries.iter().find(|(known, _)| *known == event);
        found.map(|(_, address)| *address)
    }

    /// The snippet that looks for any of some events at one point.
    pub(crate) fn hook(&self, events: &[Event], constant: bool) -> Option<Snippet> {
        let code = self.hook_code(events, constant).ok().flatten()?;
        Some(Snippet {
            code: SnippetCode::Inline {
                code,
                wants_frame: false,
                wants_argument: false,
            },
            reads: RegisterSet::EMPTY,
            clobbers: RegisterSet::of_gprs(&[1, 11]),
            argument: 0,
        })
    }

    /// `constant`: the number in rax needs no look.
    fn hook_code(&self, events: &[Event], constant: bool) -> Result<Option<Vec<u8>>, IcedError> {
        let mut a = CodeAssembler::new(64)?;
        let mut done = a.create_label();
        let mut found = Vec::new();
        for &event in events {
            let Some(entry) = self.entry(event) else {
                return Ok(None);
            };
            let label = a.create_label();
            found.push((label, entry));
            match event {
                Event::Before(number, _) if !constant => {
                    a.lea(ecx, ptr(rax - number as i32))?;
                    a.jrcxz(label)?;
                }
                Event::BeforeWith { number, first, .. } => {
                    let (mut is_call, mut other) = (a.create_label(), a.create_label());
                    if !constant {
                        a.lea(ecx, ptr(rax - number as i32))?;
                        a.jrcxz(is_call)?;
                        a.jmp(other)?;
                    }
                    a.set_label(&mut is_call)?;
                    a.lea(ecx, ptr(rdi - first))?;
                    a.jrcxz(label)?;
                    a.set_label(&mut other)?;
                }
                Event::Child(_) => {
                    a.mov(rcx, rax)?;
                    a.jrcxz(label)?;
                }
                Event::Before(..) | Event::Libraries => a.jmp(label)?,
            }
        }
        a.jmp(done)?;
        for (mut label, entry) in found {
            a.set_label(&mut label)?;
            a.lea(rcx, ptr(done))?;
            a.mov(r11, entry)?;
            a.jmp(r11)?;
        }
        a.set_label(&mut done)?;
        a.zero_bytes()?;
        Ok(Some(a.assemble(0x1000)?))
    }
}

/// Where an event enters the poster: takes a place in the scratch page and saves what stands in the way.
fn enter(
    a: &mut CodeAssembler,
    post: &Post,
    event: Event,
    body: CodeLabel,
) -> Result<(), IcedError> {
    let (what, number, waits) = match event {
        Event::Libraries => (kind::LIBRARIES, 0, true),
        Event::Before(number, what) | Event::BeforeWith { number, what, .. } => {
            let waits = matches!(what, kind::EXEC | kind::CONFINING | kind::LOCKING);
            (what, number, waits)
        }
        Event::Child(number) => (kind::FORKED, number, post.hold_forks),
    };
    let (mut next, mut got) = (a.create_label(), a.create_label());
    a.mov(r11, post.scratch)?;
    a.set_label(&mut next)?;
    a.lock().bts(dword_ptr(r11 + scratch::STATE), 0)?;
    a.jae(got)?;
    a.add(r11, scratch::SIZE as i32)?;
    a.test(r11d, (scratch::PAGE - 1) as i32)?;
    a.jne(next)?;
    a.mov(r11, post.board)?;
    a.lock().inc(qword_ptr(r11 + layout::LOST))?;
    a.jmp(rcx)?;
    a.set_label(&mut got)?;
    a.mov(dword_ptr(r11 + scratch::KIND), what as i32)?;
    a.mov(dword_ptr(r11 + scratch::NUMBER), number as i32)?;
    // Any value but 0 will do until the tracer's number is known.
    a.mov(dword_ptr(r11 + scratch::EXPECTED), i32::from(waits))?;
    a.jmp(body)
}

/// The registers that the poster uses, besides rcx and r11.
const SAVED: [(AsmRegister64, u64); 8] = [
    (rax, scratch::RAX),
    (rdx, scratch::RDX),
    (rbx, scratch::RBX),
    (rsi, scratch::RSI),
    (rdi, scratch::RDI),
    (r8, scratch::R8),
    (r9, scratch::R9),
    (r10, scratch::R10),
];

/// What all events share. rbx: the place in the scratch page, r8: the board, r9: the entry on it.
fn write_body(a: &mut CodeAssembler, post: &Post) -> Result<(), IcedError> {
    let mut leave = a.create_label();
    a.mov(qword_ptr(r11 + scratch::CONTINUE), rcx)?;
    for (register, offset) in SAVED {
        a.mov(qword_ptr(r11 + offset), register)?;
    }
    a.mov(rbx, r11)?;
    a.mov(eax, SYS_GETPID)?;
    a.syscall()?;
    a.mov(dword_ptr(rbx + scratch::PID), eax)?;
    a.mov(eax, SYS_GETTID)?;
    a.syscall()?;
    a.mov(dword_ptr(rbx + scratch::TID), eax)?;
    a.mov(qword_ptr(rbx + scratch::FLAGS), 0)?;
    filter_libraries(a, post, leave)?;
    filter_children(a, post, leave)?;
    a.mov(r8, post.board)?;
    claim(a, leave)?;
    fill(a, post)?;
    let mut posted = a.create_label();
    // Whoever waits says for whom.
    a.mov(eax, dword_ptr(rbx + scratch::EXPECTED))?;
    a.test(eax, eax)?;
    a.je(posted)?;
    a.mov(eax, dword_ptr(r8 + layout::LISTENER))?;
    a.and(eax, FUTEX_TID_MASK as i32)?;
    a.je(posted)?;
    a.or(eax, libc::FUTEX_WAITERS as i32)?;
    a.set_label(&mut posted)?;
    a.mov(dword_ptr(rbx + scratch::EXPECTED), eax)?;
    a.mov(dword_ptr(r9 + layout::ANSWER), eax)?;
    a.mov(edx, dword_ptr(rbx + scratch::BIT))?;
    a.lock().bts(qword_ptr(r8 + layout::POSTED), rdx)?;
    a.lock().inc(dword_ptr(r8 + layout::DOORBELL))?;
    a.mov(eax, SYS_FUTEX)?;
    a.lea(rdi, ptr(r8 + layout::DOORBELL))?;
    a.mov(esi, libc::FUTEX_WAKE)?;
    a.mov(edx, 1)?;
    a.syscall()?;
    wait(a, leave)?;
    a.set_label(&mut leave)?;
    a.mov(r11, rbx)?;
    for (register, offset) in SAVED {
        a.mov(register, qword_ptr(r11 + offset))?;
    }
    a.mov(rcx, qword_ptr(r11 + scratch::CONTINUE))?;
    a.lock().btr(dword_ptr(r11 + scratch::STATE), 0)?;
    a.jmp(rcx)
}

/// The dynamic linker announces beginnings as well: of interest is only when all its namespaces are consistent.
fn filter_libraries(a: &mut CodeAssembler, post: &Post, leave: CodeLabel) -> Result<(), IcedError> {
    /// Offsets in `struct r_debug` and `struct r_debug_extended` (link.h).
    const VERSION: i32 = 0;
    const STATE: i32 = 24;
    const NEXT: i32 = 40;
    if post.debug == 0 {
        return Ok(());
    }
    let (mut look, mut done) = (a.create_label(), a.create_label());
    a.cmp(dword_ptr(rbx + scratch::KIND), kind::LIBRARIES as i32)?;
    a.jne(done)?;
    a.mov(rax, post.debug)?;
    a.mov(ecx, 64)?;
    a.set_label(&mut look)?;
    a.cmp(dword_ptr(rax + STATE), 0)?;
    a.jne(leave)?;
    a.cmp(dword_ptr(rax + VERSION), 2)?;
    a.jl(done)?;
    a.mov(rax, qword_ptr(rax + NEXT))?;
    a.test(rax, rax)?;
    a.je(done)?;
    a.dec(ecx)?;
    a.jne(look)?;
    a.set_label(&mut done)?;
    a.nop()
}

/// Tells a new thread from a new process, and leaves if that is not of interest.
fn filter_children(a: &mut CodeAssembler, post: &Post, leave: CodeLabel) -> Result<(), IcedError> {
    let (mut process, mut done) = (a.create_label(), a.create_label());
    let (mut not_clone, mut not_clone3) = (a.create_label(), a.create_label());
    a.cmp(dword_ptr(rbx + scratch::KIND), kind::FORKED as i32)?;
    a.jne(done)?;
    a.mov(eax, dword_ptr(rbx + scratch::PID))?;
    a.cmp(eax, dword_ptr(rbx + scratch::TID))?;
    a.je(process)?;
    if !post.threads {
        a.jmp(leave)?;
    }
    a.mov(dword_ptr(rbx + scratch::KIND), kind::THREAD_STARTED as i32)?;
    a.mov(dword_ptr(rbx + scratch::EXPECTED), 0)?;
    a.jmp(done)?;
    a.set_label(&mut process)?;
    if !post.forks {
        a.jmp(leave)?;
    }
    // The flags are the first argument of clone(2), and the first member of the structure that is clone3's. The
    // parent of a process that shares its memory waits, so that the structure is still there.
    a.cmp(dword_ptr(rbx + scratch::NUMBER), SYS_CLONE)?;
    a.jne(not_clone)?;
    a.mov(qword_ptr(rbx + scratch::FLAGS), rdi)?;
    a.set_label(&mut not_clone)?;
    a.cmp(dword_ptr(rbx + scratch::NUMBER), SYS_CLONE3)?;
    a.jne(not_clone3)?;
    a.mov(rax, qword_ptr(rdi))?;
    a.mov(qword_ptr(rbx + scratch::FLAGS), rax)?;
    a.set_label(&mut not_clone3)?;
    a.nop()?;
    a.set_label(&mut done)?;
    a.nop()
}

/// Takes an entry on the board.
fn claim(a: &mut CodeAssembler, leave: CodeLabel) -> Result<(), IcedError> {
    let (mut again, mut full, mut claimed) = (a.create_label(), a.create_label(), a.create_label());
    let mut lost = a.create_label();
    a.mov(dword_ptr(rbx + scratch::PATIENCE), ROOM_PATIENCE as i32)?;
    a.mov(ecx, 1000)?;
    a.set_label(&mut again)?;
    a.mov(rax, qword_ptr(r8 + layout::CLAIMED))?;
    a.not(rax)?;
    a.bsf(rdx, rax)?;
    a.je(full)?;
    a.lock().bts(qword_ptr(r8 + layout::CLAIMED), rdx)?;
    a.jae(claimed)?;
    a.dec(ecx)?;
    a.jne(again)?;
    a.set_label(&mut full)?;
    // Others have all of it, and wait: a millisecond, on a word that does not change.
    a.test(dword_ptr(r8 + layout::LISTENER), FUTEX_TID_MASK as i32)?;
    a.je(lost)?;
    a.dec(dword_ptr(rbx + scratch::PATIENCE))?;
    a.je(lost)?;
    a.mov(qword_ptr(rbx + scratch::TIMEOUT), 0)?;
    a.mov(qword_ptr(rbx + scratch::TIMEOUT + 8), 1_000_000)?;
    a.mov(eax, SYS_FUTEX)?;
    a.lea(rdi, ptr(rbx + scratch::PID))?;
    a.mov(esi, libc::FUTEX_WAIT)?;
    a.mov(edx, dword_ptr(rdi))?;
    a.lea(r10, ptr(rbx + scratch::TIMEOUT))?;
    a.syscall()?;
    a.mov(ecx, 1000)?;
    a.jmp(again)?;
    a.set_label(&mut lost)?;
    a.lock().inc(qword_ptr(r8 + layout::LOST))?;
    a.jmp(leave)?;
    a.set_label(&mut claimed)?;
    a.mov(dword_ptr(rbx + scratch::BIT), edx)?;
    a.mov(rcx, rdx)?;
    a.shl(rcx, layout::ENTRY_SHIFT)?;
    a.lea(r9, ptr(r8 + rcx + layout::ENTRIES))
}

/// Fills the entry in.
fn fill(a: &mut CodeAssembler, post: &Post) -> Result<(), IcedError> {
    for (from, to) in [
        (scratch::KIND, layout::KIND),
        (scratch::PID, layout::PID),
        (scratch::TID, layout::TID),
        (scratch::NUMBER, layout::NUMBER),
    ] {
        a.mov(eax, dword_ptr(rbx + from))?;
        a.mov(dword_ptr(r9 + to), eax)?;
    }
    a.mov(dword_ptr(r9 + layout::LINE), post.line as i32)?;
    a.mov(eax, 1)?;
    a.lock().xadd(qword_ptr(r8 + layout::SEQUENCE), rax)?;
    a.mov(qword_ptr(r9 + layout::ENTRY_SEQUENCE), rax)?;
    for (index, from) in [scratch::RDI, scratch::RSI, scratch::RDX, scratch::FLAGS]
        .into_iter()
        .enumerate()
    {
        a.mov(rax, qword_ptr(rbx + from))?;
        a.mov(qword_ptr(r9 + layout::ARGUMENTS + 8 * index as u64), rax)?;
    }
    Ok(())
}

/// Waits for an answer, if one is expected, and gives the entry back.
fn wait(a: &mut CodeAssembler, leave: CodeLabel) -> Result<(), IcedError> {
    let (mut again, mut answered) = (a.create_label(), a.create_label());
    a.cmp(dword_ptr(rbx + scratch::EXPECTED), 0)?;
    a.je(leave)?;
    a.mov(dword_ptr(rbx + scratch::PATIENCE), PATIENCE as i32)?;
    a.mov(qword_ptr(rbx + scratch::TIMEOUT), 1)?;
    a.mov(qword_ptr(rbx + scratch::TIMEOUT + 8), 0)?;
    a.mov(dword_ptr(rbx + scratch::KIND), INTERRUPTIONS as i32)?;
    a.set_label(&mut again)?;
    a.mov(edx, dword_ptr(rbx + scratch::EXPECTED))?;
    a.cmp(dword_ptr(r9 + layout::ANSWER), edx)?;
    a.jne(answered)?;
    a.test(dword_ptr(r8 + layout::LISTENER), FUTEX_TID_MASK as i32)?;
    a.je(answered)?;
    a.mov(eax, SYS_FUTEX)?;
    a.mov(rdi, r9)?;
    a.mov(esi, libc::FUTEX_WAIT)?;
    a.lea(r10, ptr(rbx + scratch::TIMEOUT))?;
    a.syscall()?;
    // A second has passed, or else a signal was handled: the latter is not to shorten the wait, nor to make it endless.
    let mut interrupted = a.create_label();
    a.cmp(rax, -libc::ETIMEDOUT)?;
    a.jne(interrupted)?;
    a.dec(dword_ptr(rbx + scratch::PATIENCE))?;
    a.jne(again)?;
    a.set_label(&mut interrupted)?;
    let mut lost = a.create_label();
    a.cmp(dword_ptr(rbx + scratch::PATIENCE), 0)?;
    a.je(lost)?;
    a.dec(dword_ptr(rbx + scratch::KIND))?;
    a.jne(again)?;
    a.set_label(&mut lost)?;
    a.lock().inc(qword_ptr(r8 + layout::LOST))?;
    a.set_label(&mut answered)?;
    a.mov(edx, dword_ptr(rbx + scratch::BIT))?;
    a.lock().btr(qword_ptr(r8 + layout::CLAIMED), rdx)
}
