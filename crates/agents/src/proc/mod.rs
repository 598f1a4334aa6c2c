//! `proc`: the metrics of processes (pmdaproc(1)). Clients see them whose user pmcd told us: root everything, others their own
//! processes' files where the kernel shows them to nobody else.

mod accounting;
mod agent;
mod cgroup;
mod hot;
pub mod predicate;
mod process;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pcp::pmns::Pmns;
use pcp::{Atom, ErrorCode, InDom, LabelLevel, LabelSet, Pmid, Type};
use pmda::{Caller, Container, Help, Values, label_set};

use crate::linux::labels::quoted;
use crate::linux::system::{Row, System};
use crate::table::{self, Metric};
use accounting::Accounting;
use hot::Hot;
use process::{Names, Process};

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 3;

/// The metrics and the groups that they are collected in.
const TABLE: &str = include_str!("metrics.tsv");

/// The instance domain of processes.
const PROCESSES: u32 = 9;
/// That of hot processes.
const HOT: u32 = 39;
/// That of processes that ended.
const ENDED: u32 = 40;

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

/// How the agent was started.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `-A`: everybody sees what root sees.
    pub all_are_root: bool,
    /// `-L`: threads are instances, too.
    pub threads: bool,
    /// `-r`: the control group whose processes there are only.
    pub cgroup: Option<String>,
}

/// A client, as far as it is known.
#[derive(Default)]
struct Client {
    user: Option<u32>,
    /// What it stored into `proc.control.perclient`.
    threads: Option<bool>,
    cgroup: Option<String>,
    /// The container that it asks about, by name.
    container: Option<String>,
    /// The control group of that, as it was when the client last asked.
    contained: Option<String>,
    /// The first process of a container that is in no group of its own.
    first: Option<i32>,
}

/// The agent.
pub struct Proc {
    domain: u32,
    settings: Settings,
    help: Help,
    metrics: HashMap<Pmid, Metric>,
    /// Their names: PCP's name space leaves some of them to the agent.
    names: Pmns,
    system: System,
    clients: HashMap<i32, Client>,
    hot: Hot,
    accounting: Accounting,
    /// Whether the container that is asked about is not there.
    not_found: bool,
    fetched: Fetched,
}

/// What was read for the present fetch.
#[derive(Default)]
struct Fetched {
    /// The processes that the client wants, and the hot ones, by instance domain.
    processes: HashMap<u32, Vec<Process>>,
    /// Their values by instance domain and group.
    groups: HashMap<(u32, &'static str), HashMap<i32, Row>>,
    /// Those of control groups.
    cgroups: HashMap<&'static str, Vec<Row>>,
    /// How many processes there are in each state.
    states: Option<HashMap<&'static str, u32>>,
    /// Whether the records of accounting are.
    accounting: bool,
    names: Names,
}

/// The system, or what PROC_STATSPATH says is one.
fn system(domain: u32) -> System {
    System::below(domain, "PROC_STATSPATH")
}

impl Proc {
    /// With the help texts and the predicate of a folder, when it has any.
    pub fn new(domain: u32, folder: &Path, settings: Settings) -> Proc {
        let metrics = table::load(domain, TABLE);
        let names = table::names(TABLE, metrics.iter().map(|(pmid, m)| (m.name, *pmid)));
        Proc {
            domain,
            settings,
            help: crate::help_in(folder),
            names,
            metrics,
            system: system(domain),
            clients: HashMap::new(),
            not_found: false,
            hot: Hot::new(folder.join("hotproc.conf")),
            accounting: Accounting::new(),
            fetched: Fetched::default(),
        }
    }

    /// The user of a client, if it is known.
    fn user(&self, client: i32) -> Option<u32> {
        if self.settings.all_are_root {
            return Some(0);
        }
        self.clients.get(&client).and_then(|client| client.user)
    }

    fn shows_threads(&self, client: i32) -> bool {
        let own = self.clients.get(&client).and_then(|client| client.threads);
        own.unwrap_or(self.settings.threads)
    }

    fn cgroup(&self, client: i32) -> Option<&str> {
        let known = self.clients.get(&client);
        let own = known.and_then(|c| c.contained.as_deref().or(c.cgroup.as_deref()));
        own.or(self.settings.cgroup.as_deref())
    }

    /// The control group of the container that a client asks about.
    fn contained(&self, client: i32) -> Option<String> {
        self.clients.get(&client).and_then(|c| c.contained.clone())
    }

    /// The first process of the container that a client asks about, when its control group is that of others, too.
    fn first(&self, client: i32) -> Option<i32> {
        self.clients.get(&client)?.first
    }

    /// Looks for the container that a client asks about, if it does; whether it is there.
    fn look_for(&mut self, client: i32) -> bool {
        let Some(client) = self.clients.get_mut(&client) else {
            return true;
        };
        let found = client.container.as_deref().map(Container::find);
        let container = found.as_ref().and_then(Option::as_ref);
        client.contained = container.and_then(Container::control_group);
        let alone = container.filter(|_| client.contained.is_none());
        client.first = alone.map(|container| container.pid);
        found != Some(None)
    }

    /// The processes that there are for a client.
    fn listed(&self, client: i32) -> Vec<Process> {
        let all = pids(&self.system).into_iter();
        let mut all: Vec<Process> = all
            .filter_map(|pid| Process::find(&self.system, pid))
            .collect();
        if let Some(first) = self.first(client) {
            process::keep_family(&mut all, first);
        }
        if self.shows_threads(client) {
            all = all.iter().flat_map(Process::threads).collect();
        }
        if let Some(group) = self.cgroup(client) {
            all.retain(|process| process.is_in(group));
        }
        all
    }

    /// Looks for the processes that a client wants, all unless it names them.
    fn find(&mut self, caller: &Caller<'_>, serial: u32) {
        if self.fetched.processes.contains_key(&serial) {
            return;
        }
        let indom = InDom::new(self.domain, serial);
        let entry = caller.profile.indoms.iter().find(|e| e.indom == indom);
        let named = entry.filter(|entry| entry.exclude);
        let found = |pid: i32| Process::find(&self.system, pid);
        let processes = match (serial, named) {
            (HOT, _) => self.hot.processes().into_iter().filter_map(found).collect(),
            (_, Some(entry)) => {
                let named = entry.instances.iter().filter_map(|pid| found(*pid));
                let group = self.cgroup(caller.client);
                let family = self.first(caller.client).map(|_| {
                    let listed = self.listed(caller.client).into_iter();
                    listed.map(|process| process.pid).collect::<HashSet<i32>>()
                });
                named
                    .filter(|process| family.as_ref().is_none_or(|f| f.contains(&process.pid)))
                    .filter(|process| group.is_none_or(|group| process.is_in(group)))
                    .collect()
            }
            _ => self.listed(caller.client),
        };
        self.fetched.processes.insert(serial, processes);
    }

    fn collect(&mut self, serial: u32, group: &'static str) {
        if self.fetched.groups.contains_key(&(serial, group)) {
            return;
        }
        let mut rows = HashMap::new();
        let processes = self.fetched.processes.get(&serial);
        for process in processes.into_iter().flatten() {
            let mut row = Row::new(process.pid, "");
            match group {
                "stat" => process.set_stat(&mut row, &self.system),
                "statm" => process.set_statm(&mut row, &self.system),
                "status" => process.set_status(&mut row, &mut self.fetched.names),
                "schedstat" => process.set_schedstat(&mut row),
                "io" => process.set_numbers(&mut row, "io"),
                "smaps" => process.set_numbers(&mut row, "smaps_rollup"),
                "file" => process.set_files(&mut row),
                "private" => process.set_private(&mut row),
                "security" => process.set_security(&mut row),
                "cgroup" => process.set_cgroups(&mut row),
                "autogroup" => process.set_autogroup(&mut row),
                _ => {}
            }
            rows.insert(process.pid, row);
        }
        self.fetched.groups.insert((serial, group), rows);
    }

    fn control_groups(&mut self, group: &'static str) -> &[Row] {
        let system = &mut self.system;
        self.fetched.cgroups.entry(group).or_insert_with(|| {
            let rows = match group {
                "cgsubsys" | "cgmounts" => cgroup::lists(group, system),
                _ => cgroup::controller(group, system),
            };
            system.save();
            rows
        })
    }

    /// Processes by their state, as PCP counts them: those without memory are swapped. They are looked at once for a fetch.
    fn run_queue(&mut self, client: i32, field: &str, ty: Type) -> Values {
        if self.fetched.states.is_none() {
            let mut states = HashMap::new();
            for process in self.listed(client) {
                let state = match process.state() {
                    "" => "unknown",
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
            self.fetched.states = Some(states);
        }
        let states = self.fetched.states.as_ref();
        let count = states.and_then(|s| s.get(field).copied()).unwrap_or(0);
        Values::single(match ty {
            Type::U32 => Atom::U32(count),
            _ => Atom::I32(i32::try_from(count).unwrap_or(i32::MAX)),
        })
    }

    /// The value of a metric without instances that is not of control groups; `None` for a metric of another kind.
    fn single(&mut self, client: i32, metric: Place) -> Option<Result<Values, ErrorCode>> {
        let field = metric.field;
        let value = match metric.group {
            "runq" => return Some(Ok(self.run_queue(client, field, metric.ty))),
            "acctcontrol" => self.accounting.control(field),
            "hotcontrol" => self.hot.control(field),
            "hotcount" => Atom::U32(self.hot.processes().len() as u32),
            "hottotal" => {
                let totals = self.hot.totals();
                Atom::Float(match field {
                    "cpuidle" => totals.cpuidle,
                    "cpuburn" => totals.cpuburn,
                    "transient" => totals.transient,
                    "not_cpuburn" => totals.not_cpuburn,
                    "total" => totals.total,
                    _ => totals.percent,
                } as f32)
            }
            "control" => match field {
                "all_threads" => Atom::U32(self.settings.threads.into()),
                "perclient_threads" => Atom::U32(self.shows_threads(client).into()),
                _ => Atom::String(self.cgroup(client).unwrap_or_default().into()),
            },
            "all" => {
                let path = "/proc/sys/kernel/sched_autogroup_enabled";
                let number = match field {
                    "nprocs"
                        if self.shows_threads(client)
                            || self.cgroup(client).is_some()
                            || self.first(client).is_some() =>
                    {
                        self.listed(client).len() as u64
                    }
                    "nprocs" => pids(&self.system).len() as u64,
                    _ => match self.system.number(path) {
                        Some(enabled) => enabled,
                        None => return Some(Ok(Values::default())),
                    },
                };
                Atom::U32(number as u32)
            }
            _ => return None,
        };
        Some(Ok(Values::single(value)))
    }

    /// The value of an instance domain that no files of processes are behind; `None` for a metric of another kind.
    fn several(&mut self, client: i32, metric: Place) -> Option<Result<Values, ErrorCode>> {
        let field = metric.field;
        Some(match metric.group {
            "unsupported" => Err(ErrorCode::APPVERSION),
            "cgcount" => {
                let of = match field {
                    "mounts" => "cgmounts",
                    _ => "cgsubsys",
                };
                let count = self.control_groups(of).len();
                Ok(Values::single(Atom::U32(count as u32)))
            }
            "hotknown" => {
                let atom = |value: f64| match metric.ty {
                    Type::U32 => Atom::U32(value as u32),
                    _ => Atom::Float(value as f32),
                };
                let known = self.hot.known(field).into_iter();
                Ok(Values(known.map(|(pid, v)| (pid, atom(v))).collect()))
            }
            "acct" => {
                if !self.fetched.accounting {
                    self.accounting.refresh();
                    self.fetched.accounting = true;
                }
                self.accounting.values(field, metric.ty).map(Values)
            }
            group if CONTROL_GROUPS.iter().any(|(_, known)| *known == group) => {
                let contained = self.contained(client);
                let rows = self.control_groups(group).iter();
                let rows = rows.filter(|row| is_within(row, contained.as_deref()));
                let values = rows.filter_map(|row| {
                    let value = row.get(field)?;
                    Some(value.atom(metric.ty).map(|atom| (row.inst, atom)))
                });
                values.collect::<Result<_, _>>().map(Values)
            }
            _ => return None,
        })
    }

    fn control(&mut self, client: i32, field: &str, value: &Atom) -> Result<(), ErrorCode> {
        if field == "all_threads" {
            self.user(client).ok_or(ErrorCode::PERMISSION)?;
            self.settings.threads = truth(value)?;
            return Ok(());
        }
        let client = self.clients.get_mut(&client);
        let client = client.ok_or(ErrorCode::NOCONTEXT)?;
        match (field, value) {
            ("perclient_threads", value) => client.threads = Some(truth(value)?),
            (_, Atom::String(group)) => {
                let group = String::from_utf8_lossy(group);
                let group = group.trim_end_matches('\0');
                client.cgroup = (!group.is_empty()).then(|| group.to_owned());
            }
            _ => return Err(ErrorCode::BADSTORE),
        }
        Ok(())
    }

    /// The labels of an instance domain's instances.
    fn instance_labels(&mut self, serial: u32) -> Vec<LabelSet> {
        let level = LabelLevel::Instances;
        let of_process = |pid: i32| label_set(pid, level, &[("pid", &pid.to_string(), 0)]);
        match serial {
            PROCESSES => {
                let mut own = self.clients.values().map(|client| client.threads);
                let shows_threads = self.settings.threads || own.any(|own| own == Some(true));
                let mut all = pids(&self.system);
                if shows_threads {
                    let found = all
                        .iter()
                        .filter_map(|pid| Process::find(&self.system, *pid));
                    let threads = found.flat_map(|process| process.threads());
                    all = threads.map(|thread| thread.pid).collect();
                }
                all.into_iter().map(of_process).collect()
            }
            HOT => self.hot.processes().into_iter().map(of_process).collect(),
            serial => {
                let known = CONTROL_GROUPS.iter().find(|(known, _)| *known == serial);
                let Some((_, group)) = known.filter(|(known, _)| *known < 37) else {
                    return Vec::new();
                };
                self.fetched.cgroups.clear();
                let rows = self.control_groups(group);
                let of_group = |row: &Row| {
                    let (name, part) = match row.name.split_once("::") {
                        Some((name, part)) => (name, quoted(part)),
                        None => (row.name.as_str(), String::new()),
                    };
                    let name = quoted(name);
                    let part = match *group {
                        "cgpercpu" => Some("cpu"),
                        "cgio" | "blkiodev" => Some("device_name"),
                        _ => None,
                    }
                    .map(|label| (label, part.as_str(), 0));
                    let labels = [("cgroup", name.as_str(), 0)].into_iter().chain(part);
                    label_set(row.inst, level, &labels.collect::<Vec<_>>())
                };
                rows.iter().map(of_group).collect()
            }
        }
    }
}

/// Where a metric's values are found, and their type.
#[derive(Clone, Copy)]
struct Place {
    group: &'static str,
    field: &'static str,
    ty: Type,
}

/// Whether a control group is that of a container, or below it.
fn is_within(row: &Row, container: Option<&str>) -> bool {
    let Some(container) = container else {
        return true;
    };
    let rest = row.name.strip_prefix(container);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
}

fn truth(value: &Atom) -> Result<bool, ErrorCode> {
    match value {
        Atom::U32(0) => Ok(false),
        Atom::U32(1) => Ok(true),
        _ => Err(ErrorCode::BADSTORE),
    }
}

/// What kind of device the control groups of a cluster are about.
fn device_type(cluster: u32) -> Option<&'static str> {
    Some(match cluster {
        39 | 41 | 43 => "\"cpu\"",
        45 => "\"memory\"",
        47 => "\"interface\"",
        49 | 68 => "\"block\"",
        _ => return None,
    })
}

fn pids(system: &System) -> Vec<i32> {
    let names = system.names("/proc");
    let mut pids: Vec<i32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_metric() {
        assert_eq!(table::load(DOMAIN, TABLE).len(), TABLE.lines().count());
    }
}
