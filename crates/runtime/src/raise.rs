//! Run-time errors, in stap's words, and `exit()`.

use core::sync::atomic::Ordering::{Relaxed, Release};

use crate::format::put_string;
use crate::layout::{ErrorCode, Header, RecordKind, Slot};
use crate::string::{Buffer, copy_bytes};
use crate::{ring, sys};

/// Errors with a fixed text, by number.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canned {
    /// `/ 0` and `% 0`.
    DivisionByZero = 1,
    /// Too many statements.
    MaxAction = 2,
    /// Calls nested too deep.
    MaxNesting = 3,
    /// `next` in the last overload of a function.
    Exhausted = 4,
    /// `@min` … of an empty statistic.
    EmptyAggregate = 5,
    /// `@hist…[i]` out of range.
    HistogramIndex = 6,
    /// No string buffer left: functions nested too deep with too many strings.
    StringStack = 7,
    /// No room for a sorted `foreach`.
    IterationArea = 8,
    /// A value that only the caller could tell, and this one does not.
    UnknownCaller = 9,
}

/// Raises a [`Canned`] error by number.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn canned(_arena: *mut u8, slot: *mut Slot, which: u64) {
    let (code, text): (ErrorCode, &[u8]) = match which {
        1 => (ErrorCode::Message, b"division by 0"),
        2 => (ErrorCode::MaxAction, b"MAXACTION exceeded"),
        3 => (ErrorCode::Message, b"MAXNESTING exceeded"),
        4 => (ErrorCode::Message, b"all functions exhausted"),
        5 => (ErrorCode::Message, b"empty aggregate"),
        6 => (ErrorCode::Message, b"histogram index out of range"),
        7 => (ErrorCode::Message, b"string stack exhausted"),
        8 => (ErrorCode::Message, b"no memory for a sorted foreach"),
        9 => (
            ErrorCode::Message,
            b"its value at the function's entry is not known from this caller",
        ),
        _ => (ErrorCode::Message, b"unknown error"),
    };
    // SAFETY: the caller's promise.
    unsafe { set(slot, code, text) }
}

/// Raises an error with this text.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn message(slot: *mut Slot, text: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { set(slot, ErrorCode::Message, text) }
}

/// `error()`.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn script(slot: *mut Slot, text: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe { set(slot, ErrorCode::Script, text) }
}

/// Raises an error whose text is built by `write`.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn with(slot: *mut Slot, write: impl FnOnce(&mut Buffer)) {
    // SAFETY: the slot is the caller's own.
    unsafe {
        let text = &raw mut (*slot).error_text;
        let mut buffer = Buffer::new(text.cast(), 512);
        write(&mut buffer);
        (*slot).error_len = buffer.len() as u32;
        (*slot).error = ErrorCode::Message as u32;
    }
}

unsafe fn set(slot: *mut Slot, code: ErrorCode, text: &[u8]) {
    // SAFETY: the slot is the caller's own.
    unsafe {
        let len = text.len().min(512);
        copy_bytes((&raw mut (*slot).error_text).cast(), text.as_ptr(), len);
        (*slot).error_len = len as u32;
        (*slot).error = code as u32;
    }
}

/// For `catch`.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn catch(slot: *mut Slot, to: &mut Buffer) -> u64 {
    // SAFETY: the slot is the caller's own; the length is cut to the field.
    unsafe {
        let len = ((*slot).error_len as usize).min(512);
        let text = (&raw const (*slot).error_text).cast::<u8>();
        to.put(core::slice::from_raw_parts(text, len));
        (*slot).error = 0;
        (*slot).error_len = 0;
    }
    to.len()
}

/// Reports the slot's error in its ring and counts it.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn leave(arena: *mut u8, slot: *mut Slot, site: u64) {
    // SAFETY: the slot is the caller's own, lengths are cut to the field.
    unsafe {
        if (*slot).error == 0 {
            return;
        }
        let len = ((*slot).error_len as usize).min(512);
        let padded = (len + 7) & !7;
        let at = ring::reserve(
            arena,
            slot,
            24 + padded as u64,
            RecordKind::Error as u64,
            u64::from((*slot).error_location),
        );
        if !at.is_null() {
            at.cast::<i64>().write_unaligned(i64::from((*slot).error));
            at.add(8).cast::<u64>().write_unaligned(site);
            put_string(
                at.add(16),
                core::slice::from_raw_parts((&raw const (*slot).error_text).cast(), len),
            );
            ring::commit(arena, slot);
        }
        (*slot).error = 0;
        (*slot).error_len = 0;
        let header = arena.cast::<Header>();
        if (*header).errors.fetch_add(1, Relaxed) >= (*header).max_errors {
            exit(arena);
        } else {
            wake(arena);
        }
    }
}

/// Asks the tracer to end the session.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn exit(arena: *mut u8) {
    // SAFETY: the header is mapped.
    unsafe { (*arena.cast::<Header>()).exit_requested.store(1, Release) };
    // SAFETY: the same.
    unsafe { wake(arena) };
}

/// Wakes the tracer.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn wake(arena: *mut u8) {
    // SAFETY: the header is mapped.
    unsafe {
        let word = &(*arena.cast::<Header>()).wake;
        word.fetch_add(1, Release);
        sys::futex_wake(word.as_ptr(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, RING};

    #[test]
    fn errors_are_recorded_counted_and_caught() {
        let f = Fixture::new();
        let slot = f.owned(1);
        let header = unsafe { &mut *f.base.cast::<Header>() };
        header.max_errors = 1;
        unsafe {
            canned(f.base, slot, Canned::DivisionByZero as u64);
            let mut room = [0u8; 32];
            let len = catch(slot, &mut Buffer::new(room.as_mut_ptr(), 32));
            assert_eq!(
                (&room[..len as usize], (*slot).error),
                (&b"division by 0"[..], 0)
            );
            leave(f.base, slot, 3);
            assert_eq!(header.errors.load(Relaxed), 0);

            script(slot, b"no luck");
            (*slot).error_location = 17;
            leave(f.base, slot, 3);
            assert_eq!(
                (
                    header.errors.load(Relaxed),
                    header.exit_requested.load(Relaxed)
                ),
                (1, 0)
            );
            canned(f.base, slot, Canned::MaxAction as u64);
            leave(f.base, slot, 3);
            assert_eq!(
                (
                    header.errors.load(Relaxed),
                    header.exit_requested.load(Relaxed)
                ),
                (2, 1)
            );
        }
        let mut seen = Vec::new();
        ring::drain(&f.geometry, 1, &mut 0, &mut vec![0; RING as usize], |r| {
            let mut args = crate::format::Args::new(r.payload);
            seen.push((
                r.kind,
                r.id,
                args.long(),
                args.long(),
                args.string().map(<[u8]>::to_vec),
            ));
        });
        assert_eq!(
            seen[0],
            (
                RecordKind::Error as u16,
                17,
                Some(2),
                Some(3),
                Some(b"no luck".to_vec())
            )
        );
        assert_eq!(seen[1].4.as_deref(), Some(&b"MAXACTION exceeded"[..]));
    }
}
