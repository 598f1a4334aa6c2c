//! What the seccomp(2) filters of a process answer to a system call, those that it has and one that it is about to have, found
//! by running them here.
//!
//! Code placed into a process may make system calls that its author never allowed, and a filter's answer can be death.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::InjectError;
use crate::process::{Pid, Process};
use crate::ptrace;

/// What happens to a process that makes a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeccompVerdict {
    /// The call is made.
    Allowed,
    /// The call fails, with an error number.
    Fails,
    /// The process is killed, is sent SIGSYS, or waits for a supervisor's word.
    Stopped,
}

/// One instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
const ARCH: u32 = 0xc000_003e;
/// Actions of linux/seccomp.h that let the call be made, or fail.
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const ACTION: u32 = 0xffff_0000;

/// To what a process confines itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Confinement);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Confinement {
    Strict,
    Program(Vec<Instruction>),
}

impl Filter {
    /// What a process installs by a call of seccomp or prctl with some arguments; `None` when that will fail or asks something
    /// else.
    pub(crate) fn about_to_be_installed(
        pid: Pid,
        number: u32,
        [first, second, third]: [u64; 3],
    ) -> Option<Filter> {
        let is_seccomp = i64::from(number) == libc::SYS_seccomp;
        let is_strict = match is_seccomp {
            true => {
                first as u32 == libc::SECCOMP_SET_MODE_STRICT && second as u32 == 0 && third == 0
            }
            false => second as u32 == libc::SECCOMP_MODE_STRICT,
        };
        if is_strict {
            return Some(Filter(Confinement::Strict));
        }
        let is_filter = match is_seccomp {
            true => first as u32 == libc::SECCOMP_SET_MODE_FILTER,
            false => second as u32 == libc::SECCOMP_MODE_FILTER,
        };
        if !is_filter {
            return None;
        }
        // struct sock_fprog, linux/filter.h.
        let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
        let mut head = [0; 16];
        memory.read_exact_at(&mut head, third).ok()?;
        let [low, high, _, _, _, _, _, _, at @ ..] = head;
        let mut code = vec![0; usize::from(u16::from_le_bytes([low, high])) * 8];
        memory
            .read_exact_at(&mut code, u64::from_le_bytes(at))
            .ok()?;
        let instructions = code.chunks_exact(8).map(|one| match *one {
            [c0, c1, if_true, if_false, k0, k1, k2, k3] => Instruction {
                code: u16::from_le_bytes([c0, c1]),
                if_true,
                if_false,
                k: u32::from_le_bytes([k0, k1, k2, k3]),
            },
            _ => Instruction::default(),
        });
        Some(Filter(Confinement::Program(instructions.collect())))
    }

    /// What becomes of a process so confined that makes a system call with unknown arguments (taken as 0).
    pub fn verdict(&self, number: i64) -> SeccompVerdict {
        match &self.0 {
            Confinement::Strict => strict_verdict(number),
            Confinement::Program(program) => verdict(program, number as u32),
        }
    }
}

impl Process {
    /// What the filters of the held process answer to system calls with unknown arguments (taken
    /// as 0), one answer for each number. `None` when it has no filters, or when they are not shown to us: that needs
    /// `CAP_SYS_ADMIN` (ptrace(2), `PTRACE_SECCOMP_GET_FILTER`).
    ///
    /// # Errors
    /// [`InjectError::NotHeld`], [`InjectError::Exited`].
    pub fn seccomp_verdicts(
        &mut self,
        numbers: &[i64],
    ) -> Result<Vec<Option<SeccompVerdict>>, InjectError> {
        self.require_held()?;
        const STRICT: u32 = 1;
        let mut worst = vec![None; numbers.len()];
        let confined = |tids: Vec<Pid>| {
            let statuses = tids
                .into_iter()
                .map(|tid| (tid, crate::syscall::seccomp_status(&tid.to_string())));
            statuses
                .filter(|(_, (mode, _))| *mode != 0)
                .collect::<Vec<_>>()
        };
        let mut threads = confined(self.list_threads()?);
        if !threads.is_empty() {
            // Filters are shown of stopped threads only.
            self.stop_running()?;
            threads = confined(self.thread_ids());
        }
        for (tid, (mode, filters)) in threads {
            let programs: Vec<_> = (0..filters)
                .map_while(|index| ptrace::seccomp_filter(tid, index as usize).ok())
                .collect();
            for (worst, &number) in worst.iter_mut().zip(numbers) {
                if mode == STRICT {
                    *worst = worse(*worst, strict_verdict(number));
                }
                for program in &programs {
                    *worst = worse(*worst, verdict(program, number as u32));
                }
            }
        }
        Ok(worst)
    }
}

fn worse(one: Option<SeccompVerdict>, other: SeccompVerdict) -> Option<SeccompVerdict> {
    let rank = |verdict: SeccompVerdict| match verdict {
        SeccompVerdict::Allowed => 0,
        SeccompVerdict::Fails => 1,
        SeccompVerdict::Stopped => 2,
    };
    match one {
        Some(one) if rank(one) >= rank(other) => Some(one),
        _ => Some(other),
    }
}

/// read, write, exit and sigreturn are what is left (seccomp(2)).
fn strict_verdict(number: i64) -> SeccompVerdict {
    let allowed = [libc::SYS_read, libc::SYS_write, libc::SYS_exit];
    if allowed.contains(&number) {
        SeccompVerdict::Allowed
    } else {
        SeccompVerdict::Stopped
    }
}

fn verdict(program: &[Instruction], number: u32) -> SeccompVerdict {
    match run(program, number).map(|value| value & ACTION) {
        Some(RET_ALLOW | RET_LOG) => SeccompVerdict::Allowed,
        Some(RET_ERRNO) => SeccompVerdict::Fails,
        _ => SeccompVerdict::Stopped,
    }
}

/// Runs a classic BPF program (linux/filter.h) on a `struct seccomp_data`; `None` where it makes no sense.
fn run(program: &[Instruction], number: u32) -> Option<u32> {
    let word = |offset: u32| match offset {
        0 => Some(number),
        4 => Some(ARCH),
        // Instruction pointer and arguments.
        8..64 if offset.is_multiple_of(4) => Some(0),
        _ => None,
    };
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let mut at = 0usize;
    loop {
        let i = *program.get(at)?;
        at += 1;
        let operand = if i.code & 8 == 0 { i.k } else { x };
        match i.code & 7 {
            // BPF_LD, BPF_LDX, by mode: immediate, absolute, memory, length.
            class @ (0 | 1) => {
                let value = match i.code & 0xe0 {
                    0x00 => i.k,
                    0x20 => word(i.k)?,
                    0x60 => *memory.get(i.k as usize)?,
                    0x80 => 64,
                    _ => return None,
                };
                if class == 0 { a = value } else { x = value }
            }
            2 => *memory.get_mut(i.k as usize)? = a,
            3 => *memory.get_mut(i.k as usize)? = x,
            // BPF_ALU.
            4 => {
                a = match i.code & 0xf0 {
                    0x00 => a.wrapping_add(operand),
                    0x10 => a.wrapping_sub(operand),
                    0x20 => a.wrapping_mul(operand),
                    0x30 => a.checked_div(operand)?,
                    0x40 => a | operand,
                    0x50 => a & operand,
                    0x60 => a.checked_shl(operand).unwrap_or(0),
                    0x70 => a.checked_shr(operand).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0xa0 => a ^ operand,
                    _ => return None,
                }
            }
            // BPF_JMP.
            5 => {
                let taken = match i.code & 0xf0 {
                    0x00 => {
                        at = at.checked_add(i.k as usize)?;
                        continue;
                    }
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if taken { i.if_true } else { i.if_false });
            }
            // BPF_RET: a constant, or the accumulator.
            6 => return Some(if i.code & 0x18 == 0x10 { a } else { i.k }),
            // BPF_MISC: TAX, TXA.
            _ if i.code & 0xf8 == 0 => x = a,
            _ => a = x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn i(code: u16, if_true: u8, if_false: u8, k: u32) -> Instruction {
        Instruction {
            code,
            if_true,
            if_false,
            k,
        }
    }

    /// The example of seccomp(2): checks the architecture, refuses the x32 calls and one other.
    fn manual_page(refused: u32) -> Vec<Instruction> {
        vec![
            i(0x20, 0, 0, 4),
            i(0x15, 0, 5, ARCH),
            i(0x20, 0, 0, 0),
            i(0x35, 0, 1, 0x4000_0000),
            i(0x06, 0, 0, 0x8000_0000),
            i(0x15, 0, 2, refused),
            i(0x06, 0, 0, RET_ERRNO | 1),
            i(0x06, 0, 0, 0x8000_0000),
            i(0x06, 0, 0, RET_ALLOW),
        ]
    }

    #[test]
    fn the_manual_pages_filter_answers_as_it_says() {
        let mut program = manual_page(39);
        // Its jumps lead to the last instruction when nothing matches.
        program[1].if_false = 5;
        program[3].if_false = 1;
        assert_eq!(verdict(&program, 39), SeccompVerdict::Fails);
        assert_eq!(verdict(&program, 40), SeccompVerdict::Allowed);
        assert_eq!(verdict(&program, 0x4000_0001), SeccompVerdict::Stopped);
    }

    #[test]
    fn a_program_that_ends_without_an_answer_stops() {
        assert_eq!(verdict(&[i(0x20, 0, 0, 0)], 1), SeccompVerdict::Stopped);
        assert_eq!(verdict(&[i(0x20, 0, 0, 2)], 1), SeccompVerdict::Stopped);
    }
}
