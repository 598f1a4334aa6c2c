//! The limits that stap(1) lets `-D NAME=VALUE` change, with its defaults, and Spile's own.

/// Limits of one session, and what else is fixed when its program is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `MAXACTION`: statements in one hit of a probe in a process.
    pub max_action: u32,
    /// `MAXACTION_INTERRUPTIBLE`: statements in one run of a begin, end, error or timer probe.
    pub max_action_interruptible: u32,
    /// `MAXNESTING`: depth of function calls; by default what the program needs, and ten more where it is recursive.
    pub max_nesting: Option<u32>,
    /// `MAXSTRINGLEN`: bytes of a string, the terminating NUL included.
    pub max_string: u32,
    /// `MAXMAPENTRIES`: elements of an array declared without a size.
    pub max_map_entries: u32,
    /// `MAXBACKTRACE`: frames of a backtrace.
    pub max_backtrace: u32,
    /// `MAXERRORS`: run-time errors after which the session ends (more than this many end it).
    pub max_errors: u32,
    /// `MAXSKIPPED`: skipped hits that make the session end (more than this many end it).
    pub max_skipped: u32,
    /// `STP_PROCFS_BUFSIZE`: bytes that the reader of a `procfs` probe's file gets at most; 0: MAXSTRINGLEN.
    pub file_size: u32,
    /// `HIST_WIDTH`: characters of a histogram's longest bar.
    pub histogram_width: u32,
    /// `HIST_ELISION`: a histogram's empty rows shown on either side of others; negative: all.
    pub histogram_elision: i32,
    /// `SPILE_THREADS`: threads that can be in handlers or have unread output at one time.
    pub slots: u32,
    /// `SPILE_RING`: bytes of each thread's ring; rounded up to a power of two.
    pub ring_size: u32,
    /// `SPILE_PROCESSES`: processes that can be probed in one session.
    pub processes: u32,
    /// `-t`: handlers note how long they take.
    pub timing: bool,
    /// `--skip-badvars`: target variables that can't be found are 0.
    pub skip_badvars: bool,
    /// `SPILE_REPLACE_RETURNS`: return probes work by another return address even where a function's exits are known.
    pub replace_returns: bool,
    /// The intermediate representation is kept as text ([`crate::Compiled::text`]).
    pub keep_text: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_action: 1000,
            max_action_interruptible: 10_000,
            max_nesting: None,
            max_string: 512,
            max_map_entries: 2048,
            max_backtrace: 20,
            max_errors: 0,
            max_skipped: 100,
            file_size: 0,
            histogram_width: runtime::histogram::WIDTH,
            histogram_elision: runtime::histogram::ELISION,
            slots: 1024,
            ring_size: 1 << 22,
            processes: 256,
            timing: false,
            skip_badvars: false,
            replace_returns: false,
            keep_text: false,
        }
    }
}

impl Limits {
    /// The names of definitions that mean something here.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RANGES.iter().map(|(name, ..)| *name)
    }

    /// The least and the greatest value that a definition of that name may give; none for names that mean nothing here.
    pub fn range(name: &str) -> Option<(i64, i64)> {
        let mut ranges = RANGES.iter();
        ranges
            .find(|(n, ..)| *n == name)
            .map(|(_, low, high)| (*low, *high))
    }

    /// The number that a definition's value is; none when it is no number.
    pub fn number(value: &str) -> Option<i64> {
        number(value)
    }

    /// The limits that `-D` definitions ask for, given as (name, value). Names that are no limit are left alone
    /// (stap passes them to its C compiler); values that are no number, or out of reason, are brought within reason.
    pub fn from_definitions<'a>(definitions: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut limits = Limits::default();
        let mut interruptible = None;
        for (name, value) in definitions {
            let Some(number) = number(value) else {
                continue;
            };
            let Some((low, high)) = Limits::range(name) else {
                continue;
            };
            let number = number.clamp(low, high);
            let value = number as u32;
            match name {
                "MAXACTION" => limits.max_action = value,
                "MAXACTION_INTERRUPTIBLE" => interruptible = Some(value),
                "MAXNESTING" => limits.max_nesting = Some(value),
                "MAXSTRINGLEN" => limits.max_string = value,
                "MAXMAPENTRIES" => limits.max_map_entries = value,
                "MAXBACKTRACE" => limits.max_backtrace = value,
                "MAXERRORS" => limits.max_errors = value,
                "MAXSKIPPED" => limits.max_skipped = value,
                "STP_PROCFS_BUFSIZE" => limits.file_size = value,
                "HIST_WIDTH" => limits.histogram_width = value,
                "HIST_ELISION" => limits.histogram_elision = number as i32,
                "SPILE_THREADS" => limits.slots = value,
                "SPILE_RING" => limits.ring_size = value.next_power_of_two(),
                "SPILE_PROCESSES" => limits.processes = value,
                "SPILE_REPLACE_RETURNS" => limits.replace_returns = number != 0,
                _ => {}
            }
        }
        limits.max_action_interruptible =
            interruptible.unwrap_or(limits.max_action.saturating_mul(10));
        limits
    }
}

/// The names that mean something here, with the least and the greatest value that is taken.
const RANGES: [(&str, i64, i64); 15] = [
    ("MAXACTION", 1, u32::MAX as i64),
    ("MAXACTION_INTERRUPTIBLE", 1, u32::MAX as i64),
    ("MAXNESTING", 1, 1000),
    ("MAXSTRINGLEN", 2, 65_536),
    ("MAXMAPENTRIES", 1, 1 << 24),
    (
        "MAXBACKTRACE",
        1,
        runtime::stack::backtrace::MAX_FRAMES as i64,
    ),
    ("MAXERRORS", 0, u32::MAX as i64),
    ("MAXSKIPPED", 0, u32::MAX as i64),
    ("STP_PROCFS_BUFSIZE", 1, 1 << 20),
    ("HIST_WIDTH", 1, 1000),
    ("HIST_ELISION", i32::MIN as i64, i32::MAX as i64),
    ("SPILE_THREADS", 2, 1 << 16),
    ("SPILE_RING", 4096, 1 << 28),
    ("SPILE_PROCESSES", 1, 1 << 14),
    ("SPILE_REPLACE_RETURNS", i64::MIN, i64::MAX),
];

/// The number that a definition gives, as C reads it.
fn number(value: &str) -> Option<i64> {
    let value = value.trim().trim_end_matches(['u', 'U', 'l', 'L']);
    let (digits, negative) = match value.strip_prefix('-') {
        Some(digits) => (digits, true),
        None => (value, false),
    };
    let hex = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let octal = digits.strip_prefix('0').filter(|rest| !rest.is_empty());
    let number = match (hex, octal) {
        (Some(hex), _) => i64::from_str_radix(hex, 16),
        (None, Some(octal)) => i64::from_str_radix(octal, 8),
        (None, None) => digits.parse(),
    };
    number.ok().map(|n| if negative { -n } else { n })
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn interruptible_follows_maxaction() {
        let limits = Limits::from_definitions([("MAXACTION", "50")]);
        assert_eq!(
            (limits.max_action, limits.max_action_interruptible),
            (50, 500)
        );
        let limits =
            Limits::from_definitions([("MAXACTION_INTERRUPTIBLE", "7"), ("MAXACTION", "50")]);
        assert_eq!(
            (limits.max_action, limits.max_action_interruptible),
            (50, 7)
        );
    }

    #[test]
    fn nonsense_is_left_alone() {
        assert_eq!(
            Limits::from_definitions([("STP_NO_OVERLOAD", ""), ("MAXNESTING", "x")]),
            Limits::default()
        );
    }

    #[test]
    fn numbers_are_those_of_c() {
        let of = |value| Limits::from_definitions([("MAXSTRINGLEN", value)]).max_string;
        assert_eq!(
            [of("0x40"), of("0100"), of("64UL"), of("-3"), of("100000")],
            [64, 64, 64, 2, 65_536]
        );
        let rows = |value| Limits::from_definitions([("HIST_ELISION", value)]).histogram_elision;
        assert_eq!([rows("-1"), rows("5")], [-1, 5]);
    }
}
