//! What is measured: the probes, and how each contender writes them.

/// One kind of probe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Probe {
    /// A counter at a function's entry.
    Count,
    /// A statistic of an argument.
    Statistics,
    /// An array with an integer key.
    Map,
    /// An array with two keys whose elements are set, under a lock.
    Array,
    /// A text made of an argument.
    Text,
    /// A regular expression that a text matches.
    Regex,
    /// A line with an argument.
    Print,
    /// A line with an argument and a string of the program's.
    PrintString,
    /// A statistic of a mark's argument.
    Mark,
    /// A counter at a function's return.
    Return,
    /// The same, noticed by another return address.
    ReturnReplaced,
    /// A value that is kept from the function's entry until it returns.
    ReturnEntry,
    /// A table of backtraces of twenty frames.
    Backtrace,
    /// A counter at a system call.
    SystemCall,
    /// A counter in another function than the one that is timed.
    Elsewhere,
}

/// How the target runs: it prints the time of one function, called without a pause or at a
/// rate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Loop {
    /// The target's first argument.
    pub mode: &'static str,
    /// One million calls a second by all threads together, so that what is recorded can be
    /// taken away meanwhile.
    pub paced: bool,
}

impl Probe {
    /// In the order of the report.
    pub const ALL: [Self; 15] = [
        Self::Count,
        Self::Statistics,
        Self::Map,
        Self::Array,
        Self::Text,
        Self::Regex,
        Self::Print,
        Self::PrintString,
        Self::Mark,
        Self::Return,
        Self::ReturnReplaced,
        Self::ReturnEntry,
        Self::Backtrace,
        Self::SystemCall,
        Self::Elsewhere,
    ];

    /// What the report calls it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Count => "`n++`",
            Self::Statistics => "`s <<< $a`",
            Self::Map => "`c[$a & 7]++`",
            Self::Array => "`n++; m[$a & 7, 1] = $a`",
            Self::Text => "`n++; if (strlen(sprintf(\"%d:%x\", $a, $a)) > 40) m++`",
            Self::Regex => {
                "`n++; if (\"GET /index.html HTTP/1.1\" =~ \"^(GET\\|POST) /[a-z.]* HTTP\") m++`"
            }
            Self::Print => "`printf(\"%d\\n\", $a)`, 1 M/s",
            Self::PrintString => "`printf(\"%d %s\\n\", $a, user_string($s))`, 1 M/s",
            Self::Mark => "mark, `s <<< $arg1`",
            Self::Return => "`.return`, `n++`",
            Self::ReturnReplaced => "`.return`, `n++`, return address replaced",
            Self::ReturnEntry => "`.return`, `s <<< $return - @entry($a)`",
            Self::Backtrace => "`s[ubacktrace()]++`, 20 frames",
            Self::SystemCall => "`process.syscall`, `n++`",
            Self::Elsewhere => "a function that is not probed",
        }
    }

    /// The goal in nanoseconds over the unprobed call, one thread.
    pub fn goal(self) -> Option<f64> {
        match self {
            Self::Count => Some(3.0),
            Self::Statistics | Self::Mark => Some(8.0),
            Self::Map => Some(20.0),
            Self::Print | Self::PrintString => Some(40.0),
            Self::Elsewhere => Some(0.0),
            Self::Backtrace => Some(1000.0),
            Self::Array | Self::Text | Self::Regex => None,
            Self::Return | Self::ReturnReplaced | Self::ReturnEntry | Self::SystemCall => None,
        }
    }

    /// The loop that is timed while the probe is in.
    pub fn timed_loop(self) -> Loop {
        let mode = match self {
            Self::Count | Self::Statistics | Self::Map | Self::Print => "function",
            Self::Array | Self::Text | Self::Regex => "function",
            Self::Return | Self::ReturnReplaced | Self::ReturnEntry => "function",
            Self::Backtrace => "deep",
            Self::SystemCall => "syscall",
            Self::PrintString => "string",
            Self::Mark | Self::Elsewhere => "mark",
        };
        Loop {
            mode,
            paced: matches!(self, Self::Print | Self::PrintString),
        }
    }

    /// The word by which `frida_probe.py` knows it.
    pub fn frida(self) -> Option<&'static str> {
        match self {
            Self::Count => Some("count"),
            Self::Statistics => Some("statistics"),
            Self::Map => Some("map"),
            Self::Return => Some("return"),
            Self::Array | Self::Text | Self::Regex => None,
            Self::Print | Self::PrintString | Self::Mark | Self::Elsewhere => None,
            Self::ReturnReplaced | Self::ReturnEntry | Self::Backtrace | Self::SystemCall => None,
        }
    }

    /// The SystemTap script. Those that do not print say at the end how many hits they saw.
    pub fn script(self) -> &'static str {
        match self {
            Self::Count => {
                "global n probe process.function(\"work\") { n++ } \
                 probe end { printf(\"hits %d\\n\", n) }"
            }
            Self::Statistics => {
                "global s probe process.function(\"work\") { s <<< $a } \
                 probe end { printf(\"hits %d\\n\", @count(s)) }"
            }
            Self::Map => {
                "global c probe process.function(\"work\") { c[$a & 7]++ } \
                 probe end { foreach (k in c) t += c[k]; printf(\"hits %d\\n\", t) }"
            }
            Self::Array => {
                "global n, m probe process.function(\"work\") { n++; m[$a & 7, 1] = $a } \
                 probe end { foreach ([a, b] in m) t += m[a, b]; printf(\"hits %d\\n\", t ? n : 0) }"
            }
            Self::Text => {
                "global n, m probe process.function(\"work\") \
                 { n++; if (strlen(sprintf(\"%d:%x\", $a, $a)) > 40) m++ } \
                 probe end { printf(\"hits %d\\n\", n - m) }"
            }
            Self::Regex => {
                "global n, m probe process.function(\"work\") \
                 { n++; if (\"GET /index.html HTTP/1.1\" =~ \"^(GET|POST) /[a-z.]* HTTP\") m++ } \
                 probe end { printf(\"hits %d\\n\", n == m ? n : 0) }"
            }
            Self::Print => "probe process.function(\"work\") { printf(\"%d\\n\", $a) }",
            Self::PrintString => {
                "probe process.function(\"named\") \
                 { printf(\"%d %s\\n\", $a, user_string($s)) }"
            }
            Self::Mark => {
                "global s probe process.mark(\"hit\") { s <<< $arg1 } \
                 probe end { printf(\"hits %d\\n\", @count(s)) }"
            }
            Self::Return | Self::ReturnReplaced => {
                "global n probe process.function(\"work\").return { n++ } \
                 probe end { printf(\"hits %d\\n\", n) }"
            }
            Self::ReturnEntry => {
                "global s probe process.function(\"work\").return { s <<< $return - @entry($a) } \
                 probe end { printf(\"hits %d\\n\", @count(s)) }"
            }
            Self::Backtrace => {
                "global s probe process.function(\"work\") { s[ubacktrace()]++ } \
                 probe end { foreach (b in s) t += s[b]; printf(\"hits %d\\n\", t) }"
            }
            // getppid
            Self::SystemCall => {
                "global n probe process.syscall { if ($syscall == 110) n++ } \
                 probe end { printf(\"hits %d\\n\", n) }"
            }
            Self::Elsewhere => {
                "global n probe process.function(\"work\") { n++ } \
                 probe end { printf(\"hits %d\\n\", n) }"
            }
        }
    }

    /// Options of `spile stap` for it.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::ReturnReplaced => &["-D", "SPILE_REPLACE_RETURNS=1"],
            _ => &[],
        }
    }

    /// The bpftrace program, for a target at `path`.
    pub fn bpftrace(self, path: &str) -> Option<String> {
        Some(match self {
            Self::Count => format!("uprobe:{path}:work {{ @ = count() }}"),
            Self::Statistics => format!("uprobe:{path}:work {{ @ = stats(arg0) }}"),
            Self::Map => format!("uprobe:{path}:work {{ @[arg0 & 7] = count() }}"),
            Self::Array => format!("uprobe:{path}:work {{ @[arg0 & 7, 1] = arg0 }}"),
            Self::Text | Self::Regex => return None,
            Self::Print => format!("uprobe:{path}:work {{ printf(\"%d\\n\", arg0) }}"),
            Self::PrintString => {
                format!("uprobe:{path}:named {{ printf(\"%d %s\\n\", arg0, str(arg1)) }}")
            }
            Self::Mark => format!("usdt:{path}:bench:hit {{ @ = stats(arg0) }}"),
            Self::Return | Self::ReturnReplaced => {
                format!("uretprobe:{path}:work {{ @ = count() }}")
            }
            Self::ReturnEntry => format!(
                "uprobe:{path}:work {{ @a[tid] = arg0 }} uretprobe:{path}:work {{ @ = stats(retval - @a[tid]) }}"
            ),
            Self::Backtrace => format!("uprobe:{path}:work {{ @[ustack(20)] = count() }}"),
            Self::SystemCall => {
                "tracepoint:raw_syscalls:sys_enter /pid == cpid && args->id == 110/ { @ = count() }"
                    .to_owned()
            }
            Self::Elsewhere => return None,
        })
    }

    /// Every hit makes one line of output.
    pub fn prints(self) -> bool {
        matches!(self, Self::Print | Self::PrintString)
    }
}
