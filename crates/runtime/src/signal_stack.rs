//! Which stack a handler runs on, and signals that come meanwhile.
//!
//! Where there is room it is the program's own, as collectors that stop the world by a signal, profilers and handlers that go
//! on with another context expect. That is known of the main thread's, and of those that end at the thread's control block (the
//! FS base, where libraries set it up): all between is readable, with a guard page below.
//!
//! Elsewhere (goroutines, coroutines, small stacks) a handler that calls anything runs on its slot's stack. Of a thread
//! whose stack pointer is there, the kernel thinks that it is not on its alternate stack (sigaltstack(2)); if it is, the next
//! signal for which that stack is meant would be given a frame at its top, over those of the program that are still in use. So
//! on the way from an alternate stack all signals are blocked.
//!
//! None of that is asked of the kernel at each hit: around a stack pointer that is known, a thread stays on the same stack until
//! it moves far.

use crate::layout::{NO_STACK, SignalStack, Slot};
use crate::own_process;
use crate::sys;

/// How far below a known stack pointer the same holds: what calls in progress usually take. An alternate stack that is
/// installed later is no array in the caller of what a program calls now.
const BELOW: u64 = 128 << 10;
/// How far above.
const ABOVE: u64 = 64 << 10;

/// What a handler with all that it calls may take of a stack.
const ROOM: u64 = 64 << 10;
/// Farthest below its control block that a thread's stack is looked at.
const DEEPEST: u64 = 64 << 20;
const PAGE: u64 = 4096;

/// See [`crate::abi::signals_learn`].
///
/// # Safety
/// As the functions of [`crate::abi`]; the slot's `saved_sp` is the program's stack pointer, and not on the alternate stack, which
/// `signal_stack` describes.
pub unsafe fn learn(slot: *mut Slot, fsbase: u64) {
    // SAFETY: the slot is the caller's, and the process's record checked.
    unsafe {
        let (sp, signals) = ((*slot).saved_sp, &(*slot).signal_stack);
        let [low, high] = elsewhere(sp, signals);
        (*slot).stack_low = low;
        (*slot).stack_size = high.saturating_sub(low);
        let main = own_process::stack();
        let readable = |address| sys::is_readable(address) == Some(true);
        // All from there to its end was looked at before.
        let known = match (*slot).room_low.wrapping_add((*slot).room_size) {
            end if end == fsbase => (*slot).room_low.saturating_sub(ROOM),
            _ => fsbase,
        };
        let [low, high] = without(sp, room(sp, main, fsbase, known, readable), signals);
        (*slot).room_low = low;
        (*slot).room_size = high.saturating_sub(low);
    }
}

/// Bounds of the stack pointers on the same stack as this one that leave room for a handler; nothing when it is not known
/// to do so. From `known` on the stack that ends at the FS base was found to be readable.
fn room(
    sp: u64,
    main: [u64; 2],
    fsbase: u64,
    known: u64,
    readable: impl Fn(u64) -> bool,
) -> [u64; 2] {
    let [low, high] = main;
    if sp >= low && sp < high {
        return [low.saturating_add(ROOM).min(high), high];
    }
    if sp >= fsbase || fsbase - sp > DEEPEST {
        return [0, 0];
    }
    let lowest = (sp & !(PAGE - 1)).saturating_sub(ROOM);
    let mut pages = (lowest..known).step_by(PAGE as usize);
    match pages.all(readable) {
        true => [lowest + ROOM, fsbase],
        false => [0, 0],
    }
}

/// Bounds of what is near a stack pointer and not in an alternate stack, which it is not in.
fn elsewhere(sp: u64, stack: &SignalStack) -> [u64; 2] {
    let near = [sp.saturating_sub(BELOW), sp.saturating_add(ABOVE)];
    without(sp, near, stack)
}

/// Bounds, cut down to the side of an alternate stack on which a stack pointer is that is not in it.
fn without(sp: u64, [low, high]: [u64; 2], stack: &SignalStack) -> [u64; 2] {
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

    #[test]
    fn there_is_room_where_nothing_but_the_stack_can_be() {
        let main = [0x7ffe_0000_0000, 0x7fff_0000_0000];
        let unasked = |address: u64| panic!("{address:x}");
        let sp = 0x7ffe_8000_0000;
        assert_eq!(room(sp, main, 0, 0, unasked), [main[0] + ROOM, main[1]]);
        // A thread's, with its control block at the top and a guard page below.
        let top = 0x7f00_0080_0000;
        let mapped = |bottom: u64| move |address: u64| address >= bottom && address < top + PAGE;
        let sp = top - 0x2010;
        let found = room(sp, main, top, top, mapped(top - (1 << 20)));
        assert_eq!(found, [top - 0x3000, top]);
        // Deeper, of which a part is known.
        let asked = |address: u64| {
            assert!(address < top - 0x8000, "{address:x}");
            true
        };
        let found = room(sp - 0x10_0000, main, top, top - 0x8000, asked);
        assert_eq!(found, [top - 0x10_3000, top]);
        // With less below it.
        assert_eq!(room(sp, main, top, top, mapped(top - ROOM)), [0, 0]);
        // With a hole between: another stack.
        let hole = |address: u64| address != top - 0x1000;
        assert_eq!(room(sp, main, top, top, hole), [0, 0]);
        assert_eq!(room(top - DEEPEST - 8, main, top, top, unasked), [0, 0]);
        assert_eq!(room(sp, main, 0, 0, unasked), [0, 0]);
        assert_eq!(room(top + 8, main, top, top, unasked), [0, 0]);
    }
}
