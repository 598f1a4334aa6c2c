//! A small set of instances that come and go as processes do.

use std::time::Instant;

use pcp::{Atom, Instance};
use pmda::Values;

use super::Chance;

/// The number of instances at most.
const SLOTS: usize = 20;

struct Process {
    pid: i32,
    /// How many there were when it came.
    ordinal: u32,
    path: String,
    born: Instant,
}

/// The processes that there are.
pub struct Processes {
    all: Vec<Process>,
    next: i32,
    ordinal: u32,
    chance: Chance,
}

impl Processes {
    /// The first four, which stay.
    pub fn new() -> Processes {
        let mut processes = Processes {
            all: Vec::new(),
            next: 1,
            ordinal: 0,
            chance: Chance(0x853c_49e6_748f_ea9b),
        };
        for path in ["init", "/etc/bozo", "/usr/bin/bobo", "/usr/local/jester"] {
            processes.add(path.to_owned());
        }
        processes
    }

    fn add(&mut self, path: String) {
        while self.all.iter().any(|p| p.pid == self.next) {
            self.next = self.next % 1000 + 1;
        }
        self.ordinal += 1;
        self.all.push(Process {
            pid: self.next,
            ordinal: self.ordinal,
            path,
            born: Instant::now(),
        });
        self.next = self.next % 1000 + 1;
    }

    /// Lets some go and others come.
    fn live(&mut self) {
        const FOLDERS: [&str; 3] = ["/usr/bin", "/opt/sbin", "/home/clown"];
        const NAMES: [&str; 4] = ["juggler", "mime", "piper", "tumbler"];
        let fixed = 4;
        let mut at = fixed;
        while at < self.all.len() {
            if self.chance.below(1000) < 75 {
                self.all.remove(at);
            } else {
                at += 1;
            }
        }
        for _ in self.all.len()..SLOTS {
            if self.chance.below(1000) < 75 {
                let folder = FOLDERS.get(self.chance.below(3) as usize);
                let name = NAMES.get(self.chance.below(4) as usize);
                let path = [folder.copied(), name.copied()];
                self.add(path.map(Option::unwrap_or_default).join("/"));
            }
        }
    }

    /// The values of `proc.ordinal`, `proc.exec` or `proc.time`.
    pub fn values(&mut self, metric: u32) -> Values {
        if metric == 0 {
            self.live();
        }
        let values = self.all.iter().map(|p| {
            let value = match metric {
                0 => Atom::U32(p.ordinal),
                1 => {
                    let name = p.path.rsplit_once('/').map(|(_, name)| name.to_owned());
                    let name = name.unwrap_or_else(|| process_name(p));
                    Atom::String(name.into())
                }
                _ => Atom::U64(p.born.elapsed().as_millis() as u64),
            };
            (p.pid, value)
        });
        Values(values.collect())
    }

    /// Those that there are.
    pub fn instances(&self) -> Vec<Instance> {
        let all = self.all.iter().map(|p| Instance {
            inst: p.pid,
            name: process_name(p).into(),
        });
        all.collect()
    }
}

fn process_name(process: &Process) -> String {
    format!("{:04} {}", process.pid, process.path)
}
