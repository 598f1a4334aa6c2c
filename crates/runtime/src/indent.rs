//! `thread_indent()` and `indent()`: the time since the outermost call in µs, who, and blanks for the depth, as the
//! tapset reference describes and shows them.

use core::sync::atomic::Ordering::Relaxed;

use crate::layout::{Header, Slot};
use crate::string::Buffer;
use crate::{facts, sys, time};

/// The depth to show and the new depth: a call goes deeper first, a return afterwards, and the outermost level is 0.
fn depths(depth: i64, delta: i64) -> (i64, i64) {
    let new = depth.wrapping_add(delta);
    let at = if delta > 0 { new } else { depth };
    (at.max(1) - 1, new)
}

fn blanks(to: &mut Buffer, n: i64) {
    for _ in 0..n.clamp(0, 4096) {
        to.push(b' ');
    }
}

fn now_us() -> i64 {
    time::clock(time::REALTIME) / 1000
}

/// See [`crate::abi::thread_indent`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn thread(arena: *mut u8, slot: *mut Slot, delta: i64, to: &mut Buffer) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let now = now_us();
        if (*slot).indent_depth == 0 {
            (*slot).indent_start = now;
        }
        let (shown, new) = depths((*slot).indent_depth, delta);
        (*slot).indent_depth = new;
        to.decimal(now.wrapping_sub((*slot).indent_start), 6)
            .put(b" ");
        let mut name = [0u8; 16];
        let mut text = Buffer::new(name.as_mut_ptr(), 16);
        let len = facts::execname(arena, slot, &mut text) as usize;
        to.put(name.get(..len).unwrap_or(&[]))
            .put(b"(")
            .decimal(sys::gettid(), 0)
            .put(b"):");
        blanks(to, shown);
    }
    to.len()
}

/// See [`crate::abi::thread_indent_depth`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn thread_depth(_arena: *mut u8, slot: *mut Slot, delta: i64) -> i64 {
    // SAFETY: the slot is the caller's own.
    unsafe {
        let (shown, new) = depths((*slot).indent_depth, delta);
        (*slot).indent_depth = new;
        shown
    }
}

/// See [`crate::abi::indent`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn global(arena: *mut u8, _slot: *mut Slot, delta: i64, to: &mut Buffer) -> u64 {
    // SAFETY: the header is mapped.
    unsafe {
        let header = &*arena.cast::<Header>();
        let now = now_us();
        let depth = header.indent_depth.fetch_add(delta, Relaxed);
        if depth == 0 {
            header.indent_start.store(now, Relaxed);
        }
        to.decimal(now.wrapping_sub(header.indent_start.load(Relaxed)), 6)
            .put(b" :");
        blanks(to, depths(depth, delta).0);
    }
    to.len()
}

/// See [`crate::abi::indent_depth`].
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn global_depth(arena: *mut u8, _slot: *mut Slot, delta: i64) -> i64 {
    // SAFETY: the header is mapped.
    let depth = unsafe {
        (*arena.cast::<Header>())
            .indent_depth
            .fetch_add(delta, Relaxed)
    };
    depths(depth, delta).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn deeper_before_and_back_after() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let line = |delta| {
            let mut room = [0u8; 64];
            let len =
                unsafe { thread(f.base, slot, delta, &mut Buffer::new(room.as_mut_ptr(), 63)) };
            String::from_utf8(room[..len as usize].to_vec()).expect("text")
        };
        let tail = |s: &str| s.rsplit_once("):").map(|(_, t)| t.len());
        let first = line(1);
        assert!(
            first.starts_with("     0 ") && first.contains(&format!("({}):", sys::gettid())),
            "{first}"
        );
        assert_eq!(
            (
                tail(&first),
                tail(&line(1)),
                tail(&line(-1)),
                tail(&line(-1)),
                tail(&line(1))
            ),
            (Some(0), Some(1), Some(1), Some(0), Some(0))
        );
        unsafe {
            assert_eq!(
                (
                    global_depth(f.base, slot, 3),
                    global_depth(f.base, slot, -1),
                    global_depth(f.base, slot, 0)
                ),
                (2, 2, 1)
            );
        }
    }
}
