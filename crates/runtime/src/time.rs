//! Clocks and their text.

use core::sync::atomic::Ordering::Relaxed;

use crate::layout::Header;
use crate::own_process;
use crate::string::{Buffer, until_nul};
use crate::sys;

/// `CLOCK_REALTIME`.
pub const REALTIME: u64 = 0;
/// `CLOCK_MONOTONIC`.
pub const MONOTONIC: u64 = 1;
/// `CLOCK_BOOTTIME`.
pub const BOOTTIME: u64 = 7;

/// The time stamp counter.
#[inline(always)]
pub fn cycles() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets programs read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// A clock in ns: by the vDSO in a target, by system call elsewhere.
pub fn clock(clock: u64) -> i64 {
    let address = own_process::clock_gettime();
    if address != 0 {
        // SAFETY: the tracer found the function in the vDSO of this process, which stays mapped.
        let call: extern "C" fn(u64, *mut [i64; 2]) -> i64 =
            unsafe { core::mem::transmute(address) };
        let mut time = [0i64; 2];
        if call(clock, &mut time) == 0 {
            return time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1]);
        }
    }
    sys::clock_ns(clock)
}

/// `tz_gmtoff()`: seconds that local time was west of UTC when the session began.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn seconds_west(arena: *mut u8) -> i64 {
    // SAFETY: the header is mapped.
    unsafe { (*arena.cast::<Header>()).seconds_west.load(Relaxed) }
}

/// `tz_name()`: the local time zone's name when the session began.
///
/// # Safety
/// As the functions of [`crate::abi`].
pub unsafe fn zone(arena: *mut u8, to: &mut Buffer) -> u64 {
    // SAFETY: the header is mapped.
    let zone = unsafe { (*arena.cast::<Header>()).zone };
    to.put(until_nul(&zone)).len()
}

/// `udelay(us)`: waits busily, ten seconds at most.
pub fn delay(us: i64) {
    let end = clock(MONOTONIC).wrapping_add(us.clamp(0, 10_000_000) * 1000);
    while clock(MONOTONIC) < end {
        core::hint::spin_loop();
    }
}

/// `ctime(seconds)`: as ctime(3) in UTC, without the line end: "Thu Jan  1 00:00:00 1970". Nothing where glibc's fails,
/// for years of five characters and more.
pub fn ctime(to: &mut Buffer, seconds: i64) -> Option<u64> {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    // From -999 to 9999.
    if !(-93_692_592_000..=253_402_300_799).contains(&seconds) {
        return None;
    }
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 2 } else { mp - 10 };
    let year = yoe + era * 400 + i64::from(month < 2);
    let three = |names: &'static [u8], i: i64| {
        names
            .get(i as usize * 3..i as usize * 3 + 3)
            .unwrap_or(b"???")
    };
    to.put(three(DAYS, days.rem_euclid(7)))
        .put(b" ")
        .put(three(MONTHS, month))
        .put(b" ")
        .decimal(day, 2)
        .put(b" ");
    for (value, separator) in [
        (rest / 3600, b':'),
        (rest / 60 % 60, b':'),
        (rest % 60, b' '),
    ] {
        to.push(b'0' + (value / 10) as u8)
            .push(b'0' + (value % 10) as u8)
            .push(separator);
    }
    Some(to.decimal(year, 0).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let text = |s| {
            let mut room = [0u8; 40];
            let len = unsafe { ctime(&mut Buffer::new(room.as_mut_ptr(), 40), s) }?;
            Some(String::from_utf8(room[..len as usize].to_vec()).expect("text"))
        };
        // date -u -d @N '+%a %b %e %T %Y'
        assert_eq!(text(0).as_deref(), Some("Thu Jan  1 00:00:00 1970"));
        assert_eq!(
            text(1_000_000_000).as_deref(),
            Some("Sun Sep  9 01:46:40 2001")
        );
        assert_eq!(
            text(951_782_399).as_deref(),
            Some("Mon Feb 28 23:59:59 2000")
        );
        assert_eq!(
            text(951_782_400).as_deref(),
            Some("Tue Feb 29 00:00:00 2000")
        );
        assert_eq!(text(-1).as_deref(), Some("Wed Dec 31 23:59:59 1969"));
        // gmtime_r and asctime_r of glibc.
        assert_eq!(
            text(253_402_300_799).as_deref(),
            Some("Fri Dec 31 23:59:59 9999")
        );
        assert_eq!(text(253_402_300_800), None);
        assert_eq!(
            text(-30_641_760_000).as_deref(),
            Some("Tue Jan  1 00:00:00 999")
        );
        assert_eq!(
            text(-62_167_219_201).as_deref(),
            Some("Fri Dec 31 23:59:59 -1")
        );
        assert_eq!(
            text(-93_692_592_000).as_deref(),
            Some("Thu Jan  1 00:00:00 -999")
        );
        assert_eq!(text(-93_692_592_001), None);
        assert_eq!(text(i64::MAX), None);
    }
}
