//! `proc`: the metrics of processes (pmdaproc(1)). Clients see them whose user pmcd told us: root everything, others their own
//! processes' files where the kernel shows them to nobody else.

mod cgroup;
mod process;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pcp::pdu::attr;
use pcp::pmns::Pmns;
use pcp::{
    Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Text, Type,
};
use pmda::{Agent, Caller, Help, Values, label_set};

use crate::linux::system::{Row, System};
use crate::table::{self, Metric};
use process::Process;

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 3;

/// The metrics and the groups that they are collected in.
const TABLE: &str = include_str!("metrics.tsv");

/// The instance domain of processes.
const PROCESSES: u32 = 9;
/// That of processes that are watched closely, of which there are none.
const HOT: u32 = 39;

/// Groups whose files the kernel shows to the process's user and root only.
const PRIVATE: [&str; 3] = ["private", "io", "smaps"];

/// The instance domains of control groups, and the groups of values that are collected for them.
const CONTROL_GROUPS: [(u32, &str); 12] = [
    (16, "cgunified"),
    (17, "cgio"),
    (20, "cpuset"),
    (21, "cpuacct"),
    (22, "cgpercpu"),
    (23, "cpusched"),
    (24, "cgmemory"),
    (25, "netclass"),
    (26, "blkioall"),
    (27, "blkiodev"),
    (37, "cgsubsys"),
    (38, "cgmounts"),
];

/// How PCP's agent treats process accounting unless told otherwise: seconds, and bytes of a file.
const ACCOUNTING: [(&str, u64); 6] = [
    ("open_retry_interval", 60),
    ("check_acct_interval", 600),
    ("file_size_threshold", 10_485_760),
    ("lifetime", 60),
    ("refresh", 600),
    ("enable_acct", 0),
];

/// The agent.
pub struct Proc {
    domain: u32,
    help: Help,
    metrics: HashMap<Pmid, Metric>,
    /// Their names: PCP's name space leaves some of them to the agent.
    names: Pmns,
    system: System,
    /// The processes of the present fetch.
    processes: Option<Vec<Process>>,
    /// What was read of them for it.
    groups: HashMap<&'static str, HashMap<i32, Row>>,
    /// What was read of control groups for it.
    cgroups: HashMap<&'static str, Vec<Row>>,
    /// How many processes there are in each state.
    states: Option<HashMap<&'static str, u32>>,
    /// The users of clients, as far as they are known.
    users: HashMap<i32, u32>,
}

impl Proc {
    /// With the help texts of a folder, when it has any.
    pub fn new(domain: u32, folder: &Path) -> Proc {
        let metrics = table::load(domain, TABLE);
        let mut by_place: Vec<&Metric> = metrics.values().collect();
        by_place.sort_by_key(|metric| metric.desc.pmid);
        let mut names = Pmns::new();
        for metric in by_place {
            // They are different ones.
            let _ = names.insert(metric.name.as_bytes(), metric.desc.pmid);
        }
        Proc {
            domain,
            help: crate::help_in(folder),
            names,
            metrics,
            system: System::below(domain, "PROC_STATSPATH"),
            processes: None,
            groups: HashMap::new(),
            cgroups: HashMap::new(),
            states: None,
            users: HashMap::new(),
        }
    }

    /// Looks for the processes that a client wants, all unless it names them.
    fn find(&mut self, caller: &Caller<'_>) {
        let indom = InDom::new(self.domain, PROCESSES);
        let entry = caller.profile.indoms.iter().find(|e| e.indom == indom);
        let pids: Vec<i32> = match entry {
            Some(entry) if entry.exclude => entry.instances.clone(),
            _ => pids(&self.system),
        };
        self.processes = Some(pids.into_iter().filter_map(Process::find).collect());
    }

    fn collect(&mut self, group: &'static str) {
        if self.groups.contains_key(group) {
            return;
        }
        let mut rows = HashMap::new();
        for process in self.processes.iter().flatten() {
            let mut row = Row::new(process.pid, "");
            match group {
                "stat" => process.set_stat(&mut row, &self.system),
                "statm" => process.set_statm(&mut row, &self.system),
                "status" => process.set_status(&mut row),
                "schedstat" => process.set_schedstat(&mut row),
                "io" => process.set_numbers(&mut row, "io"),
                "smaps" => process.set_numbers(&mut row, "smaps_rollup"),
                "file" => process.set_files(&mut row),
                "private" => process.set_private(&mut row),
                "cgroup" => process.set_cgroups(&mut row),
                "autogroup" => process.set_autogroup(&mut row),
                _ => {}
            }
            rows.insert(process.pid, row);
        }
        self.groups.insert(group, rows);
    }

    fn control_groups(&mut self, group: &'static str) -> &[Row] {
        let system = &mut self.system;
        self.cgroups.entry(group).or_insert_with(|| {
            let rows = match group {
                "cgsubsys" | "cgmounts" => cgroup::lists(group, system),
                _ => cgroup::controller(group, system),
            };
            system.save();
            rows
        })
    }

    /// Processes by their state, as PCP counts them: those without memory are swapped. They are looked at once for a fetch.
    fn run_queue(&mut self, field: &str, ty: Type) -> Values {
        let system = &self.system;
        let states = self.states.get_or_insert_with(|| {
            let mut states = HashMap::new();
            for process in pids(system).into_iter().filter_map(Process::find) {
                let state = match process.state() {
                    "Z" => "defunct",
                    "R" => "runnable",
                    _ if !process.is_in_memory() => "swapped",
                    "S" | "I" => "sleeping",
                    "D" => "blocked",
                    "T" | "t" => "stopped",
                    _ => "unknown",
                };
                *states.entry(state).or_insert(0u32) += 1;
            }
            states
        });
        let count = states.get(field).copied().unwrap_or(0);
        Values::single(match ty {
            Type::U32 => Atom::U32(count),
            _ => Atom::I32(i32::try_from(count).unwrap_or(i32::MAX)),
        })
    }
}

fn pids(system: &System) -> Vec<i32> {
    let names = system.names("/proc");
    let mut pids: Vec<i32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

impl Agent for Proc {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        let metric = self.metrics.get(&pmid).ok_or(ErrorCode::PMID)?;
        Ok(metric.desc)
    }

    fn begin_fetch(&mut self, _: &Caller<'_>, _: &[Pmid]) {
        self.system.refresh();
        self.processes = None;
        self.states = None;
        self.groups.clear();
        self.cgroups.clear();
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let metric = self.metrics.get(&desc.pmid).ok_or(ErrorCode::PMID)?;
        let (group, field) = (metric.group, metric.field);
        match group {
            "none" => return Ok(Values::default()),
            "unsupported" => return Err(ErrorCode::APPVERSION),
            "cgcount" => {
                let of = match field {
                    "mounts" => "cgmounts",
                    _ => "cgsubsys",
                };
                let count = self.control_groups(of).len();
                return Ok(Values::single(Atom::U32(count as u32)));
            }
            "acctcontrol" => {
                let (_, value) = ACCOUNTING
                    .iter()
                    .find(|(name, _)| *name == field)
                    .unwrap_or(&("", 0));
                return Ok(Values::single(match desc.ty {
                    Type::U64 => Atom::U64(*value),
                    _ => Atom::U32(*value as u32),
                }));
            }
            group if CONTROL_GROUPS.iter().any(|(_, known)| *known == group) => {
                let values = self.control_groups(group).iter().filter_map(|row| {
                    let value = row.get(field)?;
                    Some(value.atom(desc.ty).map(|atom| (row.inst, atom)))
                });
                return Ok(Values(values.collect::<Result<_, _>>()?));
            }
            "runq" => return Ok(self.run_queue(field, desc.ty)),
            "control" => {
                return Ok(Values::single(match desc.ty {
                    Type::String => Atom::String("".into()),
                    _ => Atom::U32(0),
                }));
            }
            "all" => {
                let number = match field {
                    "nprocs" => pids(&self.system).len() as u64,
                    _ => {
                        let path = "/proc/sys/kernel/sched_autogroup_enabled";
                        let Some(enabled) = self.system.number(path) else {
                            return Ok(Values::default());
                        };
                        enabled
                    }
                };
                return Ok(Values::single(Atom::U32(number as u32)));
            }
            _ => {}
        }
        let user = self.users.get(&caller.client).copied();
        let user = user.ok_or(ErrorCode::PERMISSION)?;
        if self.processes.is_none() {
            self.find(caller);
        }
        self.collect(group);
        let Some(rows) = self.groups.get(group) else {
            return Ok(Values::default());
        };
        let mut values = Vec::new();
        for process in self.processes.iter().flatten() {
            let is_shown = user == 0 || user == process.uid || !PRIVATE.contains(&group);
            if !is_shown || !caller.profile.includes(desc.indom, process.pid) {
                continue;
            }
            let value = rows.get(&process.pid).and_then(|row| row.get(field));
            if let Some(value) = value {
                values.push((process.pid, value.atom(desc.ty)?));
            }
        }
        Ok(Values(values))
    }

    fn instances(&mut self, client: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        let known: HashSet<u32> = self
            .metrics
            .values()
            .map(|m| m.desc.indom)
            .filter(|i| !i.is_null())
            .map(InDom::serial)
            .collect();
        match indom.serial() {
            PROCESSES if !self.users.contains_key(&client) => Err(ErrorCode::PERMISSION),
            PROCESSES => {
                let all = pids(&self.system).into_iter().filter_map(Process::find);
                let all = all.map(|process| Instance {
                    inst: process.pid,
                    name: process.instance_name().into(),
                });
                Ok(all.collect())
            }
            HOT => Ok(Vec::new()),
            serial if CONTROL_GROUPS.iter().any(|(known, _)| *known == serial) => {
                self.system.refresh();
                self.cgroups.clear();
                let groups = CONTROL_GROUPS.iter().find(|(known, _)| *known == serial);
                let rows = groups.map_or(&[][..], |(_, group)| self.control_groups(group));
                let all = rows.iter().map(|row| Instance {
                    inst: row.inst,
                    name: row.name.as_str().into(),
                });
                Ok(all.collect())
            }
            serial if known.contains(&serial) => Ok(Vec::new()),
            _ => Err(ErrorCode::INDOM),
        }
    }

    fn instance_named(&mut self, client: i32, indom: InDom, name: &[u8]) -> Option<i32> {
        // The number alone does, of at most the six digits that names begin with.
        if indom.serial() != PROCESSES || !self.users.contains_key(&client) {
            return None;
        }
        let is_number = name.len() <= 6 && name.iter().all(u8::is_ascii_digit);
        let digits = Some(name).filter(|_| is_number)?;
        let pid = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Process::find(pid).map(|process| process.pid)
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.metric(pmid, one_line)
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.indom(indom, one_line)
    }

    fn labels(&mut self, _: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        Ok(match level {
            LabelLevel::Domain => vec![label_set(INST_NULL, level, &[("agent", "\"proc\"", 0)])],
            _ => Vec::new(),
        })
    }

    fn names(&mut self) -> Option<&Pmns> {
        Some(&self.names)
    }

    fn attribute(&mut self, client: i32, attribute: u32, value: &[u8]) {
        let user = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        if let (attr::USERID, Some(user)) = (attribute, user) {
            self.users.insert(client, user);
        }
    }

    fn client_ended(&mut self, client: i32) {
        self.users.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_metric() {
        assert_eq!(table::load(DOMAIN, TABLE).len(), TABLE.lines().count());
    }
}
