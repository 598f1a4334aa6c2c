//! The points around the system calls of a module, and the threads that begin and end there.

use crate::resolve::Around;
use crate::tracee::TraceeError;
use codegen::LinkError;
use inject::arch::RegisterSet;
use inject::snippet::{Snippet, SnippetCode};
use inject::{Image, Insertion, Process, SystemCallSite};

/// Bytes between two system calls with nothing to speak of in between.
const ADJACENT: u64 = 16;

/// Calls that make a thread.
const CLONES: [i64; 2] = [libc::SYS_clone, libc::SYS_clone3];

/// The points of a module at which a handler runs: before or after system calls.
pub fn points(image: &Image, around: Around) -> Vec<(SystemCallSite, bool)> {
    let sites = image.system_calls();
    let is_end = |site: &SystemCallSite| site.number() == Some(libc::SYS_exit as u32);
    // A thread that unmaps its own stack ends with nothing but registers: no handler can run between the two calls.
    let stackless_after = |site: &SystemCallSite| {
        sites.iter().any(|next| {
            is_end(next)
                && next.address() > site.address()
                && next.address() - site.address() <= ADJACENT
        })
    };
    let stackless_before = |site: &SystemCallSite| {
        is_end(site)
            && sites.iter().any(|before| {
                before.address() < site.address() && site.address() - before.address() <= ADJACENT
            })
    };
    let chosen = sites.iter().filter(|site| match around {
        Around::Before => !stackless_before(site),
        Around::After => !stackless_after(site),
        Around::ThreadBegin => {
            site.number().is_some() && CLONES.iter().any(|&number| site.may_make(number))
        }
        Around::ThreadEnd => site.may_make(libc::SYS_exit) && !stackless_before(site),
    });
    let after = matches!(around, Around::After | Around::ThreadBegin);
    chosen.map(|site| (*site, after)).collect()
}

/// An insertion before or after a system call.
pub fn insertion(site: &SystemCallSite, after: bool, snippet: Snippet) -> Insertion {
    let point = if after { site.after() } else { site.before() };
    Insertion::at(&point, snippet)
}

/// A snippet that calls a handler's `stub` in threads that are not their process's first: after the call that made the
/// thread (`begins`), or before the one that ends it.
///
/// # Errors
/// As [`Process::allocate_code`] and [`Process::write_code`].
pub fn in_threads(
    process: &mut Process,
    stub: Option<u64>,
    begins: bool,
    number: u32,
) -> Result<Snippet, TraceeError> {
    let stub = stub.ok_or_else(|| LinkError::MissingSymbol("a thread's handler".to_owned()))?;
    let code = filter(stub, begins);
    let at = process.allocate_code(code.len() as u64)?;
    process.write_code(at, &code)?;
    Ok(Snippet {
        code: SnippetCode::Call(at),
        reads: RegisterSet {
            gpr: u16::MAX,
            ..RegisterSet::default()
        },
        clobbers: RegisterSet::CALLER_SAVED,
        argument: u64::from(number),
    })
}

/// `fn(frame, site)` that goes on to `stub` under the conditions of [`in_threads`].
fn filter(stub: u64, begins: bool) -> Vec<u8> {
    let mut code = Vec::with_capacity(64);
    // In the frame, rax: in a new thread the call has returned 0; before a call it is the number.
    let wanted = if begins { 0 } else { libc::SYS_exit as u8 };
    // cmp qword ptr [rdi], wanted; je +1; ret
    code.extend([0x48, 0x83, 0x3f, wanted, 0x74, 0x01, 0xc3]);
    // push rdi; push rsi; mov eax, getpid; syscall; push rax; mov eax, gettid; syscall; pop rcx; pop rsi; pop rdi
    code.extend([0x57, 0x56, 0xb8]);
    code.extend((libc::SYS_getpid as u32).to_le_bytes());
    code.extend([0x0f, 0x05, 0x50, 0xb8]);
    code.extend((libc::SYS_gettid as u32).to_le_bytes());
    code.extend([0x0f, 0x05, 0x59, 0x5e, 0x5f]);
    // cmp eax, ecx; jne +1; ret; mov rax, stub; jmp rax
    code.extend([0x39, 0xc8, 0x75, 0x01, 0xc3, 0x48, 0xb8]);
    code.extend(stub.to_le_bytes());
    code.extend([0xff, 0xe0]);
    code
}
