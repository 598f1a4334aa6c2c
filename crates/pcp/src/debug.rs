//! Diagnostics of the library and its users on standard error, as `-D` and `$PCP_DEBUG` switch them on (pmdbg(1)).

pub(crate) mod archives;
pub(crate) mod contexts;
pub(crate) mod pdus;

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// What can be traced, in the order of the bits that old releases' numbers have (pmdbg(1)).
const NAMES: [&str; 55] = [
    "pdu",
    "fetch",
    "profile",
    "value",
    "context",
    "indom",
    "pdubuf",
    "log",
    "logmeta",
    "optfetch",
    "af",
    "appl0",
    "appl1",
    "appl2",
    "pmns",
    "libpmda",
    "timecontrol",
    "pmc",
    "derive",
    "lock",
    "interp",
    "config",
    "pmapi",
    "fault",
    "auth",
    "discovery",
    "attr",
    "http",
    "desperate",
    "deprecated",
    "exec",
    "labels",
    "series",
    "libweb",
    "alloc",
    "services",
    "appl3",
    "appl4",
    "appl5",
    "access",
    "qa",
    "search",
    "query",
    "compress",
    "dev0",
    "dev1",
    "dev2",
    "pmlc",
    "appl6",
    "appl7",
    "appl8",
    "appl9",
    "tls",
    "dev3",
    "dev4",
];

/// A kind of diagnostics that something here prints; what pmdbg(1) lists beside them is taken and prints nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// PDUs as they are sent and received.
    Pdu = 0,
    /// What fetches return.
    Fetch = 1,
    /// Which instances are asked for.
    Profile = 2,
    /// Conversions of values.
    Value = 3,
    /// Contexts and connections.
    Context = 4,
    /// Buffers of PDUs.
    Pdubuf = 6,
    /// Reading and searching archives.
    Log = 7,
    /// Metadata of archives.
    LogMeta = 8,
    /// The application's own, first.
    Appl0 = 11,
    /// The application's own, second.
    Appl1 = 12,
    /// The application's own, third.
    Appl2 = 13,
    /// What is fetched together.
    OptFetch = 9,
    /// Derived metrics.
    Derive = 18,
    /// Where settings come from.
    Config = 21,
    /// The application's own, fourth.
    Appl3 = 36,
    /// Interpolation between an archive's values.
    Interp = 20,
}

pub use archives::{looked_at, positioned, wrong_label};
pub use pdus::name as pdu_name;

static ON: AtomicU64 = AtomicU64::new(0);
static ENVIRONMENT: Once = Once::new();

/// Whether such diagnostics are wanted.
#[must_use]
pub fn on(flag: Flag) -> bool {
    ENVIRONMENT.call_once(|| {
        let Ok(spec) = std::env::var("PCP_DEBUG") else {
            return;
        };
        match bits(&spec) {
            Some(bits) => {
                ON.fetch_or(bits, Ordering::Relaxed);
            }
            None => eprintln!("Error: $PCP_DEBUG={spec} is not valid, ignored"),
        }
    });
    ON.load(Ordering::Relaxed) & (1 << (flag as u32)) != 0
}

/// What `$PCP_DEBUG` says, when there are no such diagnostics.
#[must_use]
pub fn refused() -> Option<String> {
    let spec = std::env::var("PCP_DEBUG").ok()?;
    // Which has a message of its own.
    let _ = on(Flag::Pdu);
    bits(&spec).is_none().then_some(spec)
}

/// Switches diagnostics on: names separated by commas, `all`, or a number with a bit for each (pmSetDebug(3)). Nothing
/// is returned, and nothing done, when there is no such name.
#[must_use]
pub fn set(spec: &str) -> Option<()> {
    ON.fetch_or(bits(spec)?, Ordering::Relaxed);
    Some(())
}

/// Runs `of` without diagnostics.
pub fn quietly<T>(of: impl FnOnce() -> T) -> T {
    // What the environment says is known from here on.
    let _ = on(Flag::Pdu);
    let before = ON.swap(0, Ordering::Relaxed);
    let result = of();
    ON.fetch_or(before, Ordering::Relaxed);
    result
}

/// The name of the program, or of the command that it runs as, for messages.
pub(crate) fn program() -> String {
    let mut args = std::env::args();
    let name = |arg: String| arg.rsplit('/').next().unwrap_or("").to_owned();
    match args.next().map(name) {
        Some(own) if own == "spile" => args.next().unwrap_or(own),
        own => own.unwrap_or_default(),
    }
}

fn bits(spec: &str) -> Option<u64> {
    if let Ok(number) = spec.parse::<u32>() {
        return Some(number.into());
    }
    spec.split(',').try_fold(0, |bits, name| {
        if name.eq_ignore_ascii_case("all") {
            return Some(u64::MAX);
        }
        let bit = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name))?;
        Some(bits | 1 << bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those that `pmdbg -D` prints.
    #[test]
    fn names_and_numbers() {
        assert_eq!(bits("profile,fetch,context"), Some(22));
        assert_eq!(bits("22"), Some(22));
        assert_eq!(bits("PDU,Fetch"), Some(3));
        assert_eq!(bits("profile,no-such-option,context"), None);
        assert_eq!(bits("123.456"), None);
        assert_eq!(bits("derive"), Some(1 << Flag::Derive as u32));
        assert_eq!(bits("interp,appl2"), Some(1 << 20 | 1 << 13));
    }
}
