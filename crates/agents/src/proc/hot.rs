//! Hot processes: those for which a predicate holds, looked at by a thread of its own at intervals (pmdaproc(1)).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pcp::{Atom, ErrorCode};

use super::predicate::{Facts, Predicate};
use super::process::{Names, Process};
use crate::linux::system::{Row, System};

/// Seconds between two looks unless told otherwise.
const REFRESH: u32 = 10;

/// Which processes are hot, and by what predicate.
pub struct Hot {
    shared: Arc<Shared>,
    file: PathBuf,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    predicate: Option<Predicate>,
    /// How many predicates there were since there was none.
    generation: u32,
    refresh: u32,
    /// What the last interval showed of processes that were there at both its ends.
    facts: Vec<(i32, Facts)>,
    /// The numbers of those for which the predicate holds.
    hot: HashSet<i32>,
    /// Processors, and how many of them had nothing to do.
    processors: f64,
    idle: f64,
    ends: bool,
}

/// What processors did in the last interval.
#[derive(Debug, Default, PartialEq)]
pub struct Totals {
    /// Processors that had nothing to do.
    pub cpuidle: f64,
    /// Processors that hot processes kept busy.
    pub cpuburn: f64,
    /// The same for processes that came or went.
    pub transient: f64,
    /// The same for processes that are not hot.
    pub not_cpuburn: f64,
    /// The sum of the last two.
    pub total: f64,
    /// Its share of what was busy, in hundredths.
    pub percent: f64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever ended in the midst left a state that is whole: fields are set one by one, and any of them will do.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hot {
    /// By the predicate of a configuration file, if there is one.
    pub fn new(file: PathBuf) -> Hot {
        let state = State {
            predicate: None,
            generation: 0,
            refresh: REFRESH,
            facts: Vec::new(),
            hot: HashSet::new(),
            processors: 0.0,
            idle: 0.0,
            ends: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        let mut hot = Hot {
            shared: Arc::new(shared),
            file,
            thread: None,
        };
        hot.load();
        hot
    }

    /// Reads the file. What is wrong with it is said, and the predicate stays.
    fn load(&mut self) {
        let Ok(metadata) = fs::metadata(&self.file) else {
            return;
        };
        let file = self.file.display().to_string();
        if metadata.permissions().mode() & 0o002 != 0 {
            eprintln!("{file}: all may write to it: it is not read");
            return;
        }
        match fs::read(&self.file) {
            Ok(bytes) => {
                // What is wrong was said.
                let _ = self.set(&String::from_utf8_lossy(&bytes), &file);
            }
            Err(error) => eprintln!("{file}: {error}"),
        }
    }

    fn set(&mut self, text: &str, origin: &str) -> Result<(), ErrorCode> {
        let predicate = Predicate::parse(text).map_err(|error| {
            eprintln!("{origin}: {error}");
            ErrorCode::BADSTORE
        })?;
        let mut state = self.shared.lock();
        state.generation = match &predicate {
            Some(_) => state.generation.saturating_add(1),
            None => 0,
        };
        state.predicate = predicate;
        state.judge();
        let watches = state.predicate.is_some();
        drop(state);
        self.shared.changed.notify_all();
        if watches && self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let watch = thread::Builder::new().name("hotproc".to_owned());
            self.thread = match watch.spawn(move || watch_processes(&shared)) {
                Ok(thread) => Some(thread),
                Err(error) => {
                    eprintln!("{origin}: {error}");
                    return Err(ErrorCode(-error.raw_os_error().unwrap_or(0)));
                }
            };
        }
        Ok(())
    }

    /// The value of a control.
    pub fn control(&self, field: &str) -> Atom {
        let state = self.shared.lock();
        match field {
            "refresh" => Atom::U32(state.refresh),
            "config_gen" => Atom::U32(state.generation),
            "config" => {
                let text = state.predicate.as_ref().map(Predicate::to_string);
                Atom::String(text.unwrap_or_default().into())
            }
            _ => Atom::U32(0),
        }
    }

    /// Changes a control.
    ///
    /// # Errors
    /// `PM_ERR_BADSTORE` for a text that is no predicate, which the log says, and `PM_ERR_PERMISSION` for what is no control.
    pub fn store(&mut self, field: &str, value: &Atom) -> Result<(), ErrorCode> {
        match (field, value) {
            ("refresh", Atom::U32(seconds)) => {
                self.shared.lock().refresh = *seconds;
                self.shared.changed.notify_all();
                Ok(())
            }
            ("config", Atom::String(text)) => {
                let text = String::from_utf8_lossy(text);
                self.set(text.trim_end_matches('\0'), "hotproc.control.config")
            }
            ("reload_config", _) => {
                self.load();
                Ok(())
            }
            _ => Err(ErrorCode::PERMISSION),
        }
    }

    /// The numbers of the hot processes, in order. Some may have ended since they were found hot.
    pub fn processes(&self) -> Vec<i32> {
        let mut found: Vec<i32> = self.shared.lock().hot.iter().copied().collect();
        found.sort_unstable();
        found
    }

    /// What is known of each of them for predicates, by its name.
    pub fn known(&self, field: &str) -> Vec<(i32, f64)> {
        let state = self.shared.lock();
        let hot = state
            .facts
            .iter()
            .filter(|(pid, _)| state.hot.contains(pid));
        let values = hot.filter_map(|(pid, facts)| {
            let value = match field {
                "ctxswitch" => facts.ctxswitch,
                "virtualsize" => facts.virtualsize,
                "residentsize" => facts.residentsize,
                "iodemand" => facts.iodemand,
                "iowait" => facts.iowait,
                "schedwait" => facts.schedwait,
                "cpuburn" => facts.cpuburn,
                _ => return None,
            };
            Some((*pid, value))
        });
        values.collect()
    }

    /// What processors did in the last interval.
    pub fn totals(&self) -> Totals {
        self.shared.lock().totals()
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

impl State {
    /// Finds out which processes are hot by what is known.
    fn judge(&mut self) {
        let Some(predicate) = &self.predicate else {
            self.facts.clear();
            self.hot.clear();
            return;
        };
        let hot = self
            .facts
            .iter()
            .filter(|(_, facts)| predicate.holds(facts));
        self.hot = hot.map(|(pid, _)| *pid).collect();
    }

    fn totals(&self) -> Totals {
        if self.facts.is_empty() {
            return Totals::default();
        }
        let (mut cpuburn, mut not_cpuburn) = (0.0, 0.0);
        for (pid, facts) in &self.facts {
            match self.hot.contains(pid) {
                true => cpuburn += facts.cpuburn,
                false => not_cpuburn += facts.cpuburn,
            }
        }
        // Ticks of processes and of processors are not counted at the same moments.
        let transient = (self.processors - self.idle - cpuburn - not_cpuburn).max(0.0);
        let total = transient + not_cpuburn;
        let busy = total + cpuburn;
        Totals {
            cpuidle: self.idle,
            cpuburn,
            transient,
            not_cpuburn,
            total,
            percent: if busy > 0.0 {
                100.0 * total / busy
            } else {
                0.0
            },
        }
    }
}

/// Looks at all processes at each end of an interval, until the agent ends.
fn watch_processes(shared: &Shared) {
    let mut system = super::system(super::DOMAIN);
    let mut before: Option<Look> = None;
    let mut state = shared.lock();
    while !state.ends {
        if state.predicate.is_none() || state.refresh == 0 {
            before = None;
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let interval = Duration::from_secs(state.refresh.into());
        if let Some(look) = &before {
            let left = interval.saturating_sub(look.at.elapsed());
            if !left.is_zero() {
                let waited = shared.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
        }
        drop(state);
        let now = Look::take(&mut system);
        let facts = before.as_ref().map(|before| now.since(before));
        state = shared.lock();
        if let (Some(facts), Some(before), Some(_)) = (facts, &before, &state.predicate) {
            state.facts = facts;
            let seconds = (now.at - before.at).as_secs_f64();
            let idle = now.idle.saturating_sub(before.idle) as f64 / system.hertz as f64;
            state.processors = now.processors;
            state.idle = (idle / seconds).min(now.processors);
            state.judge();
        }
        before = Some(now);
    }
}

/// All processes at one moment.
struct Look {
    at: Instant,
    /// Ticks that processors had nothing to do.
    idle: u64,
    processors: f64,
    processes: HashMap<i32, Seen>,
}

struct Seen {
    started: u64,
    /// Milliseconds on processors.
    busy: u64,
    /// Switches to other tasks.
    switches: u64,
    /// Bytes read from and written to devices.
    transferred: u64,
    /// Milliseconds of waiting for devices.
    device_wait: u64,
    /// Nanoseconds of waiting for a processor.
    processor_wait: u64,
    facts: Facts,
}

impl Look {
    fn take(system: &mut System) -> Look {
        system.refresh();
        let at = Instant::now();
        let text = system.read("/proc/stat").unwrap_or_default();
        let is_processor = |line: &&str| {
            let number = line
                .strip_prefix("cpu")
                .and_then(|rest| rest.chars().next());
            number.is_some_and(|c| c.is_ascii_digit())
        };
        let idle = text.lines().next().unwrap_or_default();
        let idle = idle.split_whitespace().nth(4).and_then(|w| w.parse().ok());
        let found = super::pids(system).into_iter();
        let found = found.filter_map(|pid| Process::find(system, pid));
        let mut names = Names::default();
        let seen = |process: Process| (process.pid, Seen::of(&process, system, &mut names));
        Look {
            at,
            idle: idle.unwrap_or(0),
            processors: text.lines().filter(is_processor).count() as f64,
            processes: found.map(seen).collect(),
        }
    }

    /// What happened to each process that was there before.
    fn since(&self, before: &Look) -> Vec<(i32, Facts)> {
        let seconds = (self.at - before.at).as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let both = self.processes.iter().filter_map(|(pid, now)| {
            let then = before.processes.get(pid)?;
            (then.started == now.started).then_some((*pid, now, then))
        });
        let mut all: Vec<(i32, Facts)> = both
            .map(|(pid, now, then)| {
                let facts = Facts {
                    cpuburn: rate(now.busy, then.busy) / 1000.0,
                    iodemand: rate(now.transferred, then.transferred) / 1024.0,
                    ctxswitch: rate(now.switches, then.switches),
                    iowait: rate(now.device_wait, then.device_wait) / 1000.0,
                    schedwait: rate(now.processor_wait, then.processor_wait) / 1e9,
                    ..now.facts.clone()
                };
                (pid, facts)
            })
            .collect();
        all.sort_unstable_by_key(|(pid, _)| *pid);
        all
    }
}

impl Seen {
    fn of(process: &Process, system: &System, names: &mut Names) -> Seen {
        let mut row = Row::single();
        process.set_stat(&mut row, system);
        process.set_status(&mut row, names);
        process.set_schedstat(&mut row);
        process.set_numbers(&mut row, "io");
        let number = |field| row.number(field).unwrap_or(0);
        let sum = |one, other| number(one).wrapping_add(number(other));
        let id = |field| u32::try_from(number(field)).unwrap_or(0);
        Seen {
            started: number("starttime"),
            busy: sum("utime", "stime"),
            switches: sum("psinfo_vctxsw", "psinfo_nvctxsw"),
            transferred: sum("read_bytes", "write_bytes"),
            device_wait: number("blkio"),
            processor_wait: number("run_delay"),
            facts: Facts {
                uid: id("id_uid"),
                gid: id("id_gid"),
                uname: names.user(id("id_uid")),
                gname: names.group(id("id_gid")),
                fname: process.name().to_owned(),
                psargs: process.command_line(),
                virtualsize: number("vsize") as f64,
                residentsize: number("rss") as f64,
                ..Facts::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(predicate: &str) -> State {
        let burning = |pid, cpuburn| {
            let facts = Facts {
                cpuburn,
                ..Facts::default()
            };
            (pid, facts)
        };
        let mut state = State {
            predicate: Predicate::parse(predicate).expect("a predicate"),
            generation: 1,
            refresh: 4,
            facts: vec![burning(1, 1.0), burning(2, 0.25), burning(3, 0.0)],
            hot: HashSet::new(),
            processors: 2.0,
            idle: 0.25,
            ends: false,
        };
        state.judge();
        state
    }

    #[test]
    fn the_parts_of_processors_make_up_all_of_them() {
        let totals = Totals {
            cpuidle: 0.25,
            cpuburn: 1.0,
            transient: 0.5,
            not_cpuburn: 0.25,
            total: 0.75,
            percent: 100.0 * 0.75 / 1.75,
        };
        assert_eq!(state("cpuburn > 0.5").totals(), totals);
    }

    #[test]
    fn without_a_predicate_nothing_is_hot() {
        let state = state("");
        assert!(state.hot.is_empty());
        assert_eq!(state.totals(), Totals::default());
    }
}
