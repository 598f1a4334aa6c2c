//! What happened lately, for the log (pmcd(1), `-T`; `pmcd.control.tracebufs`, `.dumptrace`, `.tracenobuf`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write;

use pcp::Timestamp;
use pcp::timezone::Zone;

/// Clients that come and go.
pub const CLIENTS: u32 = 1;
/// PDUs to and from clients.
pub const PDUS: u32 = 2;
/// That events go to the log as they happen.
const AT_ONCE: u32 = 256;

/// How many events are kept unless another number is asked for.
pub const ROOM: usize = 20;
/// How many are kept at most.
const MOST: usize = 1 << 16;

/// The events that are kept.
pub struct EventTrace {
    kinds: u32,
    room: Cell<usize>,
    at_once: Cell<bool>,
    events: RefCell<VecDeque<(Timestamp, String)>>,
}

impl EventTrace {
    /// For the kinds of events that a number of `-T` stands for.
    #[must_use]
    pub fn new(flags: u32) -> EventTrace {
        EventTrace {
            kinds: flags,
            room: Cell::new(ROOM),
            at_once: Cell::new(flags & AT_ONCE != 0),
            events: RefCell::default(),
        }
    }

    /// Keeps so many from now on.
    pub fn set_room(&self, events: usize) {
        let room = events.min(MOST);
        self.room.set(room);
        let mut kept = self.events.borrow_mut();
        let surplus = kept.len().saturating_sub(room);
        kept.drain(..surplus);
    }

    /// Whether events go to the log as they happen.
    pub fn set_at_once(&self, at_once: bool) {
        self.at_once.set(at_once);
    }

    /// Something happened.
    pub fn event(&self, kind: u32, what: impl FnOnce() -> String) {
        if self.kinds & kind == 0 {
            return;
        }
        let now = Timestamp::now();
        if self.at_once.get() {
            eprintln!("->{} {}", clock(now), what());
            return;
        }
        let mut events = self.events.borrow_mut();
        if self.room.get() == 0 {
            return;
        }
        while events.len() >= self.room.get() {
            events.pop_front();
        }
        events.push_back((now, what()));
    }

    /// The events as the log shows them; the time stands where it is another second than before.
    #[must_use]
    pub fn shown(&self) -> String {
        let events = self.events.borrow();
        let Some((first, _)) = events.front() else {
            return "\n->PMCD event trace: <empty>\n".to_owned();
        };
        let date = Zone::local().civil(first.sec).ctime();
        let mut text = format!("\n->PMCD event trace: starting at {date}\n");
        let mut second = first.sec;
        for (time, what) in events.iter() {
            let when = match time.sec == second {
                true => String::new(),
                false => clock(*time),
            };
            second = time.sec;
            let _ = writeln!(text, "->{when:8} {what}");
        }
        text
    }
}

fn clock(time: Timestamp) -> String {
    Zone::local().civil(time.sec).clock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_of_the_kinds_wanted_are_kept() {
        let trace = EventTrace::new(CLIENTS);
        assert_eq!(trace.shown(), "\n->PMCD event trace: <empty>\n");
        trace.event(PDUS, || unreachable!("not wanted"));
        trace.set_room(2);
        for name in ["one", "two", "three"] {
            trace.event(CLIENTS, || name.to_owned());
        }
        let shown = trace.shown();
        assert!(!shown.contains("one"), "{shown}");
        let lines: Vec<&str> = shown.lines().skip(2).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.starts_with("->")), "{shown}");
        assert!(shown.ends_with(" three\n"), "{shown}");
        trace.set_room(0);
        trace.event(CLIENTS, || "four".to_owned());
        assert_eq!(trace.shown(), "\n->PMCD event trace: <empty>\n");
    }
}
