//! `logger`: the lines of files and commands as events (pmdalogger(1)).
//!
//! Every client gets each line once, in order, from its first fetch on; what did not fit into the queue meanwhile is said to be
//! missed. A file is followed through rotation, truncation and copying with truncation. What a command prints
//! while there is no client is kept for the next one.

mod config;
mod follow;
mod lines;
mod sources;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pcp::pmns::Pmns;
use pcp::{Atom, Desc, ErrorCode, EventArray, InDom, Pmid, Semantics, Text, Type, Units};
use pmda::{Agent, Caller, Values};
use regex::bytes::RegexBuilder;

pub use config::{ConfigError, SourceSpec, parse};
use sources::Shared;

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 106;
/// The bytes that a queue holds unless said otherwise.
pub const MEMORY: usize = 2 << 20;
/// How often files are looked at unless said otherwise.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// How long an appended line may stay unseen where the system does not tell of changes.
const INTERVAL_MAX: Duration = Duration::from_millis(500);
/// Bytes that the tables of a client's filter may take.
const FILTER_MAX: usize = 1 << 20;
/// Metrics of the agent as a whole; those of the sources come behind them.
const OWN: usize = 4;

/// The metrics of a source, in the order of their identifiers.
const PER_SOURCE: [(&str, &str); 7] = [
    (
        "count",
        "Lines seen in this source since the agent started.",
    ),
    (
        "bytes",
        "Bytes of the lines seen in this source since the agent started, with their newlines.",
    ),
    ("size", "The size of the file now; 0 for a command."),
    (
        "path",
        "The file that is followed, or the command that runs.",
    ),
    ("numclients", "Clients that get this source's lines."),
    (
        "records",
        "The lines that came since the client fetched last. A regular expression that is stored lets only those \
         lines through to this client that match it; of a restricted source, a client gets lines after a store only.",
    ),
    (
        "queuemem",
        "Bytes that are held for clients that have not fetched them yet.",
    ),
];

/// The agent's own metrics, by item.
const OWN_NAMES: [&str; 4] = [
    "logger.numclients",
    "logger.numlogfiles",
    "logger.param_string",
    "logger.maxmem",
];

/// The agent.
pub struct Logger {
    domain: u32,
    memory: usize,
    clients: HashSet<i32>,
    names: Pmns,
    shared: Arc<Shared>,
}

impl Logger {
    /// Follows the sources of a configuration. A client may be this many bytes of lines behind; `interval` is how often files
    /// are looked at, twice a second at least.
    pub fn new(domain: u32, sources: Vec<SourceSpec>, memory: usize, interval: Duration) -> Logger {
        let mut names = Pmns::newest_first();
        // For name spaces that leave all names to the agent.
        for (name, item) in OWN_NAMES.iter().zip(0..) {
            let _ = names.insert(name.as_bytes(), Pmid::new(domain, 0, item));
        }
        for (source, number) in sources.iter().zip(0..) {
            for (metric, item) in PER_SOURCE.iter().zip(0..) {
                let name = format!("logger.perfile.{}.{}", source.name, metric.0);
                // Two sources never have the same name.
                let _ = names.insert(name.as_bytes(), pmid_of(domain, number, item));
            }
        }
        let text = Pmid::new(domain, 0, 2);
        let interval = interval.min(INTERVAL_MAX);
        Logger {
            domain,
            memory,
            clients: HashSet::new(),
            names,
            shared: Shared::start(sources, text, memory, interval),
        }
    }

    /// Reads a configuration's file.
    ///
    /// # Errors
    /// What is wrong with it, with its name and line.
    pub fn load(path: &Path) -> Result<Vec<SourceSpec>, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        parse(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// The source and the metric of it that an identifier means.
    fn place(&self, pmid: Pmid) -> Option<(usize, usize)> {
        let index = pmid.cluster() as usize * 1024 + pmid.item() as usize;
        let index = index.checked_sub(OWN)?;
        Some((index / PER_SOURCE.len(), index % PER_SOURCE.len()))
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

fn pmid_of(domain: u32, source: usize, metric: usize) -> Pmid {
    let index = u32::try_from(OWN + source * PER_SOURCE.len() + metric).unwrap_or(u32::MAX);
    Pmid::new(domain, index / 1024, index % 1024)
}

fn count(number: usize) -> Atom {
    Atom::U32(u32::try_from(number).unwrap_or(u32::MAX))
}

impl Agent for Logger {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        let counts = Units::new(0, 0, 1, 0, 0, 0);
        let bytes = Units::new(1, 0, 0, 0, 0, 0);
        let (ty, sem, units) = match (pmid.cluster(), pmid.item()) {
            (0, 0) => (Type::U32, Semantics::Instant, counts),
            (0, 1) => (Type::U32, Semantics::Discrete, counts),
            (0, 2) => (Type::String, Semantics::Instant, Units::NONE),
            (0, 3) => (Type::U64, Semantics::Discrete, bytes),
            _ => {
                let place = self.place(pmid);
                let (source, metric) = place.ok_or(ErrorCode::PMID)?;
                if source >= self.shared.peek().list.len() {
                    return Err(ErrorCode::PMID);
                }
                match metric {
                    0 => (Type::U32, Semantics::Counter, counts),
                    1 => (Type::U64, Semantics::Counter, bytes),
                    2 => (Type::U64, Semantics::Instant, bytes),
                    3 => (Type::String, Semantics::Discrete, Units::NONE),
                    4 => (Type::U32, Semantics::Instant, counts),
                    5 => (Type::Event, Semantics::Instant, Units::NONE),
                    _ => (Type::U64, Semantics::Instant, bytes),
                }
            }
        };
        Ok(Desc {
            pmid,
            ty,
            indom: InDom::NULL,
            sem,
            units,
        })
    }

    fn begin_fetch(&mut self, caller: &Caller<'_>, pmids: &[Pmid]) {
        self.clients.insert(caller.client);
        let places = pmids.iter().filter_map(|p| self.place(*p));
        let asked: HashSet<usize> = places.map(|(source, _)| source).collect();
        drop(self.shared.look(|number| asked.contains(&number)));
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let mut sources = self.shared.peek();
        let value = match (desc.pmid.cluster(), desc.pmid.item()) {
            (0, 0) => count(self.clients.len()),
            (0, 1) => count(sources.list.len()),
            // It has values as a parameter of events only.
            (0, 2) => return Ok(Values::default()),
            (0, 3) => Atom::U64(self.memory as u64),
            _ => {
                let place = self.place(desc.pmid);
                let (source, metric) = place.ok_or(ErrorCode::PMID)?;
                let source = sources.list.get_mut(source).ok_or(ErrorCode::PMID)?;
                match metric {
                    0 => Atom::U32(source.count),
                    1 => Atom::U64(source.bytes),
                    2 => Atom::U64(source.size()),
                    3 => Atom::String(source.spec.path.as_str().into()),
                    4 => count(source.queue.clients()),
                    5 => {
                        if !source.spec.restricted {
                            source.queue.subscribe(caller.client);
                        }
                        let records = source.queue.take(caller.client);
                        if records.is_empty() {
                            return Ok(Values::default());
                        }
                        let events = EventArray { records };
                        Atom::Event(Type::Event, events.encode(Type::Event))
                    }
                    _ => Atom::U64(source.queue.used() as u64),
                }
            }
        };
        Ok(Values::single(value))
    }

    fn store(&mut self, client: i32, desc: &Desc, _: i32, value: &Atom) -> Result<(), ErrorCode> {
        let place = self.place(desc.pmid).filter(|_| desc.ty == Type::Event);
        let (source, _) = place.ok_or(ErrorCode::PERMISSION)?;
        let Atom::String(pattern) = value else {
            return Err(ErrorCode::BADSTORE);
        };
        let filter = RegexBuilder::new(&pattern.to_str())
            .unicode(false)
            .size_limit(FILTER_MAX)
            .dfa_size_limit(FILTER_MAX)
            .build()
            .map_err(|_| ErrorCode::BADSTORE)?;
        let mut sources = self.shared.look(|number| number == source);
        let source = sources.list.get_mut(source).ok_or(ErrorCode::PMID)?;
        let matches = move |record: &pcp::EventRecord| {
            let text = record.params.first();
            text.is_some_and(|param| filter.is_match(&param.block.bytes))
        };
        source.queue.subscribe_with(client, Box::new(matches));
        self.clients.insert(client);
        Ok(())
    }

    fn metric_text(&mut self, pmid: Pmid, _: bool) -> Result<Text, ErrorCode> {
        let text = match (pmid.cluster(), pmid.item()) {
            (0, 0) => "Clients that have fetched from this agent.",
            (0, 1) => "Files and commands in the agent's configuration.",
            (0, 2) => "The text of a line, the parameter of each event.",
            (0, 3) => "Bytes of lines that are held for each source until clients fetch them.",
            _ => {
                let place = self.place(pmid);
                let (_, metric) = place.ok_or(ErrorCode::TEXT)?;
                PER_SOURCE.get(metric).ok_or(ErrorCode::TEXT)?.1
            }
        };
        Ok(text.into())
    }

    fn names(&mut self) -> Option<&Pmns> {
        Some(&self.names)
    }

    fn client_ended(&mut self, client: i32) {
        self.clients.remove(&client);
        for source in &mut self.shared.peek().list {
            source.queue.unsubscribe(client);
        }
    }
}
