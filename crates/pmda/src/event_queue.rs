//! Events on their way to clients: one bounded buffer, and a place in it for each client, so that every client gets every
//! event once and in order, or is told how many it missed.

use std::collections::{HashMap, VecDeque};

use pcp::{EventFlags, EventParam, EventRecord, Timestamp};

/// Which events a client wants.
pub type EventFilter = Box<dyn Fn(&EventRecord) -> bool + Send>;

/// The bytes that a record's head takes in a value of type `EVENT`.
const RECORD_HEAD: usize = 16;
/// The most bytes of records that are given at once: a value's length has 24 bits.
const TAKE_MAX: usize = 8 << 20;

/// Events of one metric and who still has to get them.
///
/// Events are kept while there is a reader that has not got them, but no more than a number of bytes. When more come, the
/// oldest go, and a reader that had still to get one and whose filter lets it through is told that it missed it.
pub struct EventQueue {
    limit: usize,
    used: usize,
    events: VecDeque<EventRecord>,
    /// The number of the first of `events`; events are numbered as they come.
    first: u64,
    readers: HashMap<i32, Reader>,
    /// What waits for a reader while there is none, when events are kept then.
    orphan: Option<Reader>,
}

#[derive(Default)]
struct Reader {
    /// The number of the event that it gets next.
    next: u64,
    missed: u32,
    /// When the last was missed.
    missed_at: Timestamp,
    filter: Option<EventFilter>,
}

impl Reader {
    fn wants(&self, event: &EventRecord) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(event))
    }

    fn miss(&mut self, number: u64, event: &EventRecord) {
        if self.next > number {
            return;
        }
        self.next = number + 1;
        if self.wants(event) {
            self.missed = self.missed.saturating_add(1);
            self.missed_at = event.time;
        }
    }
}

fn size(event: &EventRecord) -> usize {
    let params = event.params.iter();
    let params = params.map(|p| 8 + p.block.bytes.len().next_multiple_of(4));
    RECORD_HEAD + params.sum::<usize>()
}

impl EventQueue {
    /// One that holds at most so many bytes, counted as they travel.
    #[must_use]
    pub fn new(limit: usize) -> EventQueue {
        EventQueue {
            limit,
            used: 0,
            events: VecDeque::new(),
            first: 0,
            readers: HashMap::new(),
            orphan: None,
        }
    }

    /// One that keeps events also while it has no reader. The next reader gets those that nobody has got.
    #[must_use]
    pub fn keeping(limit: usize) -> EventQueue {
        EventQueue {
            orphan: Some(Reader::default()),
            ..EventQueue::new(limit)
        }
    }

    /// Adds an event that happened at a point in time.
    pub fn push(&mut self, time: Timestamp, params: Vec<EventParam>) {
        if self.readers.is_empty() && self.orphan.is_none() {
            return;
        }
        let event = EventRecord {
            time,
            flags: EventFlags::POINT,
            count: u32::try_from(params.len()).unwrap_or(u32::MAX),
            params,
        };
        let size = size(&event);
        while self.used + size > self.limit
            && let Some(oldest) = self.pop()
        {
            let number = self.first - 1;
            for reader in self.waiting() {
                reader.miss(number, &oldest);
            }
        }
        if size > self.limit {
            let number = self.first;
            self.first += 1;
            for reader in self.waiting() {
                reader.miss(number, &event);
            }
            return;
        }
        self.used += size;
        self.events.push_back(event);
    }

    /// Who has to get what is kept.
    fn waiting(&mut self) -> impl Iterator<Item = &mut Reader> {
        let orphan = self.orphan.as_mut().filter(|_| self.readers.is_empty());
        self.readers.values_mut().chain(orphan)
    }

    fn pop(&mut self) -> Option<EventRecord> {
        let event = self.events.pop_front()?;
        self.used -= size(&event);
        self.first += 1;
        Some(event)
    }

    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The client gets the events from now on, unless it does already.
    pub fn subscribe(&mut self, client: i32) {
        if self.readers.contains_key(&client) {
            return;
        }
        let reader = match self.orphan.as_mut().filter(|_| self.readers.is_empty()) {
            Some(orphan) => std::mem::take(orphan),
            None => Reader {
                next: self.end(),
                ..Reader::default()
            },
        };
        self.readers.insert(client, reader);
    }

    /// Subscribes the client to those events only that a filter lets through.
    pub fn subscribe_with(&mut self, client: i32, filter: EventFilter) {
        self.subscribe(client);
        if let Some(reader) = self.readers.get_mut(&client) {
            reader.filter = Some(filter);
        }
    }

    /// Whether the client gets events.
    #[must_use]
    pub fn has(&self, client: i32) -> bool {
        self.readers.contains_key(&client)
    }

    /// The number of clients that get events.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.readers.len()
    }

    /// The bytes that are held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// What the client has not got yet, oldest first; a record that says how many it missed comes first.
    #[must_use]
    pub fn take(&mut self, client: i32) -> Vec<EventRecord> {
        let Some(reader) = self.readers.get_mut(&client) else {
            return Vec::new();
        };
        let mut records = Vec::new();
        let missed = std::mem::take(&mut reader.missed);
        if missed > 0 {
            records.push(EventRecord {
                time: reader.missed_at,
                flags: EventFlags::MISSED,
                count: missed,
                params: Vec::new(),
            });
        }
        let skip = usize::try_from(reader.next - self.first).unwrap_or(usize::MAX);
        let mut room = TAKE_MAX;
        for event in self.events.iter().skip(skip) {
            if reader.wants(event) {
                let Some(left) = room.checked_sub(size(event)) else {
                    break;
                };
                room = left;
                records.push(event.clone());
            }
            reader.next += 1;
        }
        self.release();
        records
    }

    /// The client gets nothing any more.
    pub fn unsubscribe(&mut self, client: i32) {
        let Some(reader) = self.readers.remove(&client) else {
            return;
        };
        if self.readers.is_empty()
            && let Some(orphan) = &mut self.orphan
        {
            *orphan = Reader {
                filter: None,
                ..reader
            };
        }
        self.release();
    }

    /// Forgets what everybody has got.
    fn release(&mut self) {
        let end = self.end();
        let next = self.waiting().map(|r| r.next).min().unwrap_or(end);
        while self.first < next && self.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pcp::{Block, Pmid, Type};

    use super::*;

    fn push(queue: &mut EventQueue, text: &str) {
        let block = Block {
            ty: Type::String.raw() as u8,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        };
        let pmid = Pmid::new(1, 0, 0);
        queue.push(Timestamp::new(1, 0), vec![EventParam { pmid, block }]);
    }

    fn text(record: &EventRecord) -> String {
        match record.params.first() {
            Some(param) => String::from_utf8_lossy(&param.block.bytes).into_owned(),
            None => format!("missed {}", record.count),
        }
    }

    fn take(queue: &mut EventQueue, client: i32) -> Vec<String> {
        queue.take(client).iter().map(text).collect()
    }

    #[test]
    fn each_client_gets_each_event_once() {
        let mut queue = EventQueue::new(1 << 16);
        push(&mut queue, "before anybody");
        queue.subscribe(1);
        push(&mut queue, "a");
        queue.subscribe(2);
        push(&mut queue, "b");
        assert_eq!(take(&mut queue, 1), ["a", "b"]);
        push(&mut queue, "c");
        assert_eq!(take(&mut queue, 2), ["b", "c"]);
        assert_eq!(take(&mut queue, 1), ["c"]);
        assert_eq!(take(&mut queue, 1), [""; 0]);
        assert_eq!(queue.used(), 0);
        assert_eq!(take(&mut queue, 3), [""; 0]);
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_missed() {
        // Each event takes 16 + 8 + 4 bytes.
        let mut queue = EventQueue::new(3 * 28);
        queue.subscribe(1);
        let even = |r: &EventRecord| text(r).parse::<u32>().is_ok_and(|n| n % 2 == 0);
        queue.subscribe_with(2, Box::new(even));
        for n in 0..10 {
            push(&mut queue, &format!("{n:03}"));
        }
        assert_eq!(queue.used(), 3 * 28);
        assert_eq!(take(&mut queue, 1), ["missed 7", "007", "008", "009"]);
        // It missed 0, 2, 4 and 6.
        assert_eq!(take(&mut queue, 2), ["missed 4", "008"]);
        push(&mut queue, &"x".repeat(100));
        push(&mut queue, "010");
        assert_eq!(take(&mut queue, 1), ["missed 1", "010"]);
        assert_eq!(take(&mut queue, 2), ["010"]);
    }

    #[test]
    fn what_nobody_got_is_kept_for_the_next() {
        let mut queue = EventQueue::keeping(2 * 28);
        for text in ["000", "001", "002"] {
            push(&mut queue, text);
        }
        queue.subscribe(1);
        queue.subscribe(2);
        assert_eq!(take(&mut queue, 1), ["missed 1", "001", "002"]);
        push(&mut queue, "003");
        assert_eq!(take(&mut queue, 2), ["003"]);
        queue.unsubscribe(2);
        queue.unsubscribe(1);
        push(&mut queue, "004");
        queue.subscribe(3);
        assert_eq!(take(&mut queue, 3), ["003", "004"]);
    }
}
