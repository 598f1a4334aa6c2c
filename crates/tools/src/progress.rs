//! How far long work on an archive has come, on standard error when that is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use pcp::Timestamp;

/// Work that is done before this is over is not spoken of.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often something is said then.
const EVERY: Duration = Duration::from_millis(200);

/// What is said of work that goes from one time of an archive to another.
pub struct Progress {
    tool: &'static str,
    from: Timestamp,
    span: f64,
    /// `None` when nothing is to be said.
    next: Option<Instant>,
    said: bool,
    asked: u32,
}

impl Progress {
    /// Of a tool's work between two times. Nothing is said when standard output is a terminal, too, as `prints` says that the work
    /// itself writes there.
    pub fn new(tool: &'static str, from: Timestamp, to: Timestamp, prints: bool) -> Progress {
        let seen = std::io::stderr().is_terminal();
        let mixed = prints && std::io::stdout().is_terminal();
        let span = (to - from).as_secs_f64();
        Progress {
            tool,
            from,
            span,
            next: (seen && !mixed && span > 0.0).then(|| Instant::now() + PATIENCE),
            said: false,
            asked: 0,
        }
    }

    /// The work has come to a time.
    pub fn at(&mut self, time: Timestamp) {
        let Some(next) = self.next else {
            return;
        };
        self.asked = self.asked.wrapping_add(1);
        // The clock costs more than most records.
        if !self.asked.is_multiple_of(16) || Instant::now() < next {
            return;
        }
        self.next = Some(Instant::now() + EVERY);
        self.said = true;
        let share = (time - self.from).as_secs_f64() / self.span;
        let percent = (share * 100.0).clamp(0.0, 100.0);
        let _ = write!(std::io::stderr(), "\r{}: {percent:.0} % ", self.tool);
    }
}

impl Progress {
    /// Takes back what was said, so that the line is a message's; the next time says it again.
    pub fn erase(&mut self) {
        if std::mem::take(&mut self.said) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.erase();
    }
}
