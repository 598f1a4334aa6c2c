//! Handlers on the way from an alternate signal stack (sigaltstack(2)).
//!
//! A handler of any size runs on its slot's own stack. Of a thread whose stack pointer is there, the kernel thinks that it is
//! not on its alternate stack; if it is, the next signal for which that stack is meant would be given a frame at its top, over
//! those of the program that are still in use. So on the way from an alternate stack all signals are blocked. That is not
//! asked of the kernel at each hit: around a stack pointer that is known to be elsewhere, a thread stays elsewhere, until
//! it moves far.

use crate::layout::{NO_STACK, SignalStack, Slot};

/// How far below a known stack pointer the same holds: what calls in progress usually take. An alternate stack that is
/// installed later is no array in the caller of what a program calls now.
const BELOW: u64 = 128 << 10;
/// How far above.
const ABOVE: u64 = 64 << 10;

/// See [`crate::abi::signals_learn`].
///
/// # Safety
/// The slot is the calling thread's; `saved_sp` is the program's stack pointer, and not on the alternate stack, which
/// `signal_stack` describes.
pub unsafe fn learn(slot: *mut Slot) {
    // SAFETY: the slot is the caller's.
    unsafe {
        let [low, high] = elsewhere((*slot).saved_sp, &(*slot).signal_stack);
        (*slot).stack_low = low;
        (*slot).stack_size = high.saturating_sub(low);
    }
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
        let far = stack(0x1000, 0x2000);
        assert_eq!(elsewhere(sp, &far), [sp - BELOW, sp + ABOVE]);
        let below = stack(sp - 0x3000, 0x2000);
        assert_eq!(elsewhere(sp, &below), [sp - 0x1000 + 1, sp + ABOVE]);
        let above = stack(sp + 0x1000, 0x2000);
        assert_eq!(elsewhere(sp, &above), [sp - BELOW, sp + 0x1001]);
        assert_eq!(elsewhere(0x10, &none), [0, 0x10 + ABOVE]);
    }
}
