//! Handlers on the way from an alternate signal stack (sigaltstack(2)).
//!
//! A handler of any size runs on its slot's own stack. Of a thread whose stack pointer is there, the kernel thinks that it is
//! not on its alternate stack; if it is, the next signal for which that stack is meant would be given a frame at its top, over
//! those of the program that are still in use. So on the way from an alternate stack all signals are blocked. That is not
//! asked of the kernel at each hit: around a stack pointer that is known to be elsewhere, a thread stays elsewhere, until
//! it moves far.

use crate::layout::Slot;
use crate::sys::{self, NO_STACK, ON_STACK, SignalStack};

/// How far below a known stack pointer the same holds: what calls in progress usually take. An alternate stack that is
/// installed later is no array in the caller of what a program calls now.
const BELOW: u64 = 128 << 10;
/// How far above.
const ABOVE: u64 = 64 << 10;

/// Whether the thread is on its alternate stack, with all signals blocked then. If not, the slot has where that is known of.
///
/// # Safety
/// The slot is the calling thread's; its `saved_sp` is the program's stack pointer, and that of the call is not far below.
pub unsafe fn check(slot: *mut Slot) -> bool {
    // Where the kernel does not say, there is nothing to go by.
    let stack = sys::signal_stack().unwrap_or(SignalStack {
        flags: NO_STACK,
        ..SignalStack::default()
    });
    // SAFETY: the slot is the caller's.
    unsafe {
        if stack.flags & ON_STACK != 0 {
            let before = sys::set_signal_mask(u64::MAX);
            (*slot).signal_mask = before.unwrap_or(0);
            return before.is_some();
        }
        let [low, high] = elsewhere((*slot).saved_sp, &stack);
        (*slot).stack_low = low;
        (*slot).stack_size = high - low;
    }
    false
}

/// Sets the signal mask that [`check`] found.
///
/// # Safety
/// The slot is the calling thread's, and `check` has blocked the signals.
pub unsafe fn allow(slot: *mut Slot) {
    // SAFETY: the slot is the caller's.
    sys::set_signal_mask(unsafe { (*slot).signal_mask });
}

/// Bounds of what is near a stack pointer and not in an alternate stack, which it is not in.
fn elsewhere(sp: u64, stack: &SignalStack) -> [u64; 2] {
    let (low, high) = (sp.saturating_sub(BELOW), sp.saturating_add(ABOVE));
    if stack.flags & NO_STACK != 0 {
        return [low, high];
    }
    let end = stack.base.saturating_add(stack.size);
    // The kernel counts a stack pointer at the very end as on it, and one at the base as not.
    match sp > end {
        true => [low.max(end.saturating_add(1)), high],
        false => [low, high.min(stack.base.saturating_add(1)).max(low)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(base: u64, size: u64) -> SignalStack {
        SignalStack {
            base,
            size,
            ..SignalStack::default()
        }
    }

    #[test]
    fn what_is_known_ends_at_the_alternate_stack() {
        let sp = 0x7fff_0000_0000;
        let none = SignalStack {
            flags: NO_STACK,
            ..SignalStack::default()
        };
        assert_eq!(elsewhere(sp, &none), [sp - BELOW, sp + ABOVE]);
        assert_eq!(
            elsewhere(sp, &stack(0x1000, 0x2000)),
            [sp - BELOW, sp + ABOVE]
        );
        let below = stack(sp - 0x3000, 0x2000);
        assert_eq!(elsewhere(sp, &below), [sp - 0x1000 + 1, sp + ABOVE]);
        let above = stack(sp + 0x1000, 0x2000);
        assert_eq!(elsewhere(sp, &above), [sp - BELOW, sp + 0x1001]);
        assert_eq!(elsewhere(0x10, &none), [0, 0x10 + ABOVE]);
    }

    #[test]
    fn on_an_alternate_stack_signals_are_blocked() {
        const SIZE: usize = 1 << 16;
        static mut SEEN: [u64; 4] = [0; 4];
        extern "C" fn handler(_: i32) {
            // SAFETY: a slot of zero is one of nobody; the counters are looked at when the handler is over.
            unsafe {
                let mut slot: Box<Slot> = Box::new(core::mem::zeroed());
                slot.saved_sp = (&raw const slot) as u64;
                let blocked = check(&raw mut *slot);
                let during = sys::set_signal_mask(u64::MAX).unwrap_or(0);
                allow(&raw mut *slot);
                let after = sys::set_signal_mask(slot.signal_mask).unwrap_or(0);
                SEEN = [u64::from(blocked), during, after, slot.stack_size];
            }
        }
        // SAFETY: the stack lives as long as the thread has it.
        unsafe {
            let memory = vec![0u8; SIZE];
            let mut old = core::mem::zeroed();
            let stack = libc::stack_t {
                ss_sp: memory.as_ptr().cast_mut().cast(),
                ss_flags: 0,
                ss_size: SIZE,
            };
            assert_eq!(libc::sigaltstack(&raw const stack, &raw mut old), 0);
            let mut action: libc::sigaction = core::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            assert_eq!(
                libc::sigaction(libc::SIGUSR2, &raw const action, core::ptr::null_mut()),
                0
            );
            libc::raise(libc::SIGUSR2);
            libc::sigaltstack(&raw const old, core::ptr::null_mut());
        }
        let [blocked, during, after, size] = unsafe { SEEN };
        assert_eq!((blocked, size), (1, 0));
        // All but SIGKILL and SIGSTOP, which can't be blocked.
        let never = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);
        assert_eq!(during, !never);
        // The handler's own: its signal.
        assert_eq!(after & 1 << (libc::SIGUSR2 - 1), 1 << (libc::SIGUSR2 - 1));
        assert_ne!(after, during);
        // Elsewhere there is nothing to block.
        let mut slot: Box<Slot> = unsafe { Box::new(core::mem::zeroed()) };
        let here = 0u8;
        slot.saved_sp = (&raw const here) as u64;
        assert!(!unsafe { check(&raw mut *slot) });
        assert!(slot.saved_sp - slot.stack_low < slot.stack_size);
    }
}
