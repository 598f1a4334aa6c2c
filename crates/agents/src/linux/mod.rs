//! `linux`: the kernel's metrics from /proc and /sys (pmdalinux(1)), as a table of metrics and collectors of what is in a file.

mod bandwidth;
mod disk;
mod filesystem;
mod ipc;
mod kernel;
pub(crate) mod labels;
mod memory;
mod network;
mod nfs;
mod processor;
pub(crate) mod system;

use std::collections::HashSet;
use std::path::Path;

use hashbrown::HashMap;
use pcp::pdu::attr;
use pcp::pmns::Pmns;
use pcp::{Desc, ErrorCode, InDom, Instance, LabelLevel, LabelSet, Pmid, Text};
use pmda::{Agent, Caller, Container, Help, Values};

use crate::table::{self, Metric};
use system::{Raw, Row, Rows, System};

/// The domain that PCP gives it.
pub const DOMAIN: u32 = 60;

/// The metrics and the groups that they are collected in.
const TABLE: &str = include_str!("metrics.tsv");

/// Reads what a group of metrics needs.
type Collector = fn(&mut System) -> Rows;

/// The groups of values: instances with numbers or texts by name.
const COLLECTORS: &[(&str, Collector)] = &[
    ("buddyinfo", memory::buddyinfo),
    ("cpu", processor::all),
    ("cpu_state", processor::cpu_state),
    ("cpuinfo", processor::info),
    ("disk", disk::disks),
    ("disk_all", disk::all),
    ("dm", disk::dm),
    ("fchost", disk::fibre_channel),
    ("filesys", filesystem::filesystems),
    ("hinv", kernel::inventory),
    ("icmpmsg", network::icmp_messages),
    ("interrupts", processor::interrupts),
    ("interrupts_all", processor::interrupts_all),
    ("interrupts_cpu", processor::interrupts_by_cpu),
    ("interrupts_percpu", processor::interrupts_per_cpu),
    ("ipc_info", ipc::info),
    ("ipc_limits", ipc::limits),
    ("ipc_msg", ipc::messages),
    ("ipc_sem", ipc::semaphores),
    ("ipc_shm", ipc::shared_memory),
    ("kernel_limits", kernel::limits),
    ("ksm", memory::ksm),
    ("load", processor::load),
    ("loadavg", processor::load_all),
    ("locks", filesystem::locks),
    ("logins", kernel::logins),
    ("md", disk::md),
    ("meminfo", memory::meminfo),
    ("net", network::interfaces),
    ("net_address", network::addresses),
    ("net_all", network::all_interfaces),
    ("netstat", network::netstat),
    ("nfs3_client_reqs", nfs::nfs3_client),
    ("nfs3_server_reqs", nfs::nfs3_server),
    ("nfs4_client_reqs", nfs::nfs4_client),
    ("nfs4_server_reqs", nfs::nfs4_server),
    ("nfs_client_reqs", nfs::nfs_client),
    ("nfs_server_reqs", nfs::nfs_server),
    ("node", memory::node),
    ("node_state", processor::node_state),
    ("partition", disk::partitions),
    ("percpu", processor::per_cpu),
    ("pernode", processor::per_node),
    ("pressure", kernel::pressure),
    ("pressure_all", kernel::pressure_all),
    ("protection", memory::protection),
    ("rpc", nfs::rpc),
    ("scsi", disk::scsi),
    ("shm_info", ipc::shared_memory_info),
    ("slab", memory::slab),
    ("snmp", network::snmp),
    ("snmp6", network::snmp6),
    ("sockets", network::sockets),
    ("sockstat", network::sockstat),
    ("softirqs", processor::softirqs),
    ("softirqs_cpu", processor::softirqs_by_cpu),
    ("softirqs_percpu", processor::softirqs_per_cpu),
    ("softnet", network::softnet),
    ("softnet_cpu", network::softnet_per_cpu),
    ("stat", processor::stat),
    ("swapdev", memory::swapdev),
    ("sysfs", kernel::sysfs),
    ("tape", disk::tapes),
    ("tcpconn", network::tcp_connections),
    ("tcpconn6", network::tcp6_connections),
    ("tmpfs", filesystem::tmpfs),
    ("tty", filesystem::tty),
    ("uname", kernel::uname),
    // Kernels before 2.6 had it.
    ("unsupported", |_| Err(ErrorCode::APPVERSION)),
    ("uptime", processor::uptime),
    ("vfs", filesystem::vfs),
    ("vmstat", memory::vmstat),
    ("wwid", disk::wwid),
    ("zoneinfo", memory::zoneinfo),
    ("zram", disk::zram),
    ("zram_stat", disk::zram_statistics),
];

/// The place of a group in [`COLLECTORS`].
fn place(group: &str) -> Option<usize> {
    COLLECTORS
        .binary_search_by_key(&group, |(name, _)| name)
        .ok()
}

/// The groups that say what instances a domain has, by its serial number.
const INDOMS: &[(u32, &str)] = &[
    (0, "percpu"),
    (1, "disk"),
    (2, "load"),
    (3, "net"),
    (4, "interrupts"),
    (5, "filesys"),
    (6, "swapdev"),
    (7, "nfs_client_reqs"),
    (8, "nfs3_client_reqs"),
    (10, "partition"),
    (11, "scsi"),
    (12, "slab"),
    (14, "nfs4_client_reqs"),
    (15, "nfs4_server_reqs"),
    (17, "net_address"),
    (18, "tmpfs"),
    (19, "node_state"),
    (23, "icmpmsg"),
    (24, "dm"),
    (25, "md"),
    (28, "ipc_shm"),
    (29, "ipc_msg"),
    (30, "ipc_sem"),
    (31, "buddyinfo"),
    (32, "zoneinfo"),
    (33, "protection"),
    (34, "tape"),
    (35, "tty"),
    (36, "softirqs"),
    (37, "pressure"),
    (38, "zram"),
    (39, "fchost"),
    (40, "interrupts_percpu"),
    (41, "softirqs_percpu"),
    (42, "wwid"),
];

/// Groups whose files the kernel shows to root only. The agent, which is root, shows them to root only, too.
const ROOT_ONLY: [&str; 2] = ["slab", "tty"];

/// Groups of which what the kernel does not name was not counted: it is 0.
const NOT_COUNTED: [&str; 1] = ["snmp6"];

/// The agent.
pub struct Linux {
    domain: u32,
    help: Help,
    /// With the places of their groups.
    metrics: HashMap<Pmid, (Metric, Option<usize>)>,
    system: System,
    /// What was read for the present fetch, by the places of groups.
    groups: Vec<Option<Rows>>,
    /// The containers that clients ask about, by name.
    containers: HashMap<i32, String>,
    /// Whether the container that is asked about is not there.
    not_found: bool,
    /// Clients that are known to be root's.
    roots: HashSet<i32>,
    /// `-A`: whether everybody sees what root sees.
    all_are_root: bool,
    /// The names, once somebody asks the agent for them and not its pmcd.
    names: Option<Pmns>,
}

impl Linux {
    /// With the help texts of a folder, when it has any, and whether everybody sees what root sees.
    pub fn new(domain: u32, folder: &Path, all_are_root: bool) -> Linux {
        Linux {
            domain,
            help: crate::help_in(folder),
            metrics: table::load(domain, TABLE)
                .into_iter()
                .map(|(pmid, metric)| {
                    let group = place(metric.group);
                    (pmid, (metric, group))
                })
                .collect(),
            system: System::new(domain),
            groups: COLLECTORS.iter().map(|_| None).collect(),
            containers: HashMap::new(),
            not_found: false,
            roots: HashSet::new(),
            all_are_root,
            names: None,
        }
    }

    /// What a group has, once for each fetch.
    fn rows(&mut self, group: Option<usize>) -> Result<&[Row], ErrorCode> {
        let group = group.ok_or(ErrorCode::PMID)?;
        let (_, collect) = COLLECTORS.get(group).ok_or(ErrorCode::PMID)?;
        let rows = self.groups.get_mut(group).ok_or(ErrorCode::PMID)?;
        let system = &mut self.system;
        let rows = rows.get_or_insert_with(|| {
            let rows = system.collect(*collect);
            system.save();
            rows
        });
        rows.as_deref().map_err(|code| *code)
    }

    /// The rows that say what instances a domain has now; none for what can't be read.
    fn instance_rows(&mut self, indom: InDom) -> Result<&[Row], ErrorCode> {
        let found = INDOMS.iter().find(|(serial, _)| *serial == indom.serial());
        let (_, group) = found.ok_or(ErrorCode::INDOM)?;
        Ok(self.rows(place(group)).unwrap_or_default())
    }

    /// Looks at what a client asks about: the host or a container.
    fn look_for(&mut self, client: Option<i32>) {
        let name = client.and_then(|client| self.containers.get(&client));
        let container = name.map(|name| Container::find(name));
        self.not_found = container == Some(None);
        self.system.look_at(container.flatten());
        self.forget();
    }

    /// What was read is old.
    fn forget(&mut self) {
        self.groups.fill_with(|| None);
        self.system.refresh();
    }
}

impl Agent for Linux {
    fn domain(&self) -> u32 {
        self.domain
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        let (metric, _) = self.metrics.get(&pmid).ok_or(ErrorCode::PMID)?;
        Ok(metric.desc)
    }

    fn begin_fetch(&mut self, caller: &Caller<'_>, _: &[Pmid]) {
        self.look_for(Some(caller.client));
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let (metric, group) = self.metrics.get(&desc.pmid).ok_or(ErrorCode::PMID)?;
        if self.not_found {
            return Err(ErrorCode::NOCONTAINER);
        }
        let (group, field, of) = (*group, metric.field, metric.group);
        let is_root = self.all_are_root || self.roots.contains(&caller.client);
        if ROOT_ONLY.contains(&metric.group) && !is_root {
            return Ok(Values::default());
        }
        let rows = match self.rows(group) {
            Ok(rows) => rows,
            // A file that this kernel does not have.
            Err(ErrorCode(-2 | -13)) => return Ok(Values::default()),
            Err(code) => return Err(code),
        };
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            if !desc.indom.is_null() && !caller.profile.includes(desc.indom, row.inst) {
                continue;
            }
            let zero = Raw::Number(0);
            let missing = Some(&zero).filter(|_| NOT_COUNTED.contains(&of));
            if let Some(raw) = row.get(field).or(missing) {
                values.push((row.inst, raw.atom(desc.ty)?));
            }
        }
        if values.is_empty() && of == "softnet" {
            // Older kernels have fewer columns.
            return Err(ErrorCode::APPVERSION);
        }
        Ok(Values(values))
    }

    fn instances(&mut self, client: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        self.look_for(Some(client));
        if self.not_found {
            return Err(ErrorCode::NOCONTAINER);
        }
        let rows = self.instance_rows(indom)?;
        let instances = rows.iter().map(|row| Instance {
            inst: row.inst,
            name: row.name.as_str().into(),
        });
        Ok(instances.collect())
    }

    fn names(&mut self) -> Option<&Pmns> {
        let metrics = self.metrics.iter();
        let named = metrics.map(|(pmid, (metric, _))| (metric.name, *pmid));
        Some(self.names.get_or_insert_with(|| table::names(TABLE, named)))
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        // PCP's texts where they are installed; ours say where a value comes from.
        self.help.metric(pmid, one_line).or_else(|_| {
            let (metric, _) = self.metrics.get(&pmid).ok_or(ErrorCode::TEXT)?;
            Ok(labels::help(metric.name, metric.group, metric.field).into())
        })
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.indom(indom, one_line)
    }

    fn labels(&mut self, ident: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        Ok(match level {
            LabelLevel::Domain => labels::domain(),
            LabelLevel::InDom => labels::indom(InDom(ident)),
            LabelLevel::Item => {
                let (metric, _) = self.metrics.get(&Pmid(ident)).ok_or(ErrorCode::PMID)?;
                labels::metric(metric)
            }
            LabelLevel::Instances => {
                let indom = InDom(ident);
                self.look_for(None);
                labels::instances(indom, self.instance_rows(indom)?)
            }
            LabelLevel::Context | LabelLevel::Cluster => Vec::new(),
        })
    }

    fn attribute(&mut self, client: i32, attribute: u32, value: &[u8]) {
        match attribute {
            attr::USERID if value == b"0" => {
                self.roots.insert(client);
            }
            attr::CONTAINER if value.is_empty() => {
                self.containers.remove(&client);
            }
            attr::CONTAINER => {
                let name = String::from_utf8_lossy(value).into_owned();
                self.containers.insert(client, name);
            }
            _ => {}
        }
    }

    fn client_ended(&mut self, client: i32) {
        self.roots.remove(&client);
        self.containers.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_metric_of_a_group_that_is_collected() {
        let metrics = table::load(DOMAIN, TABLE);
        assert_eq!(metrics.len(), TABLE.lines().count());
        for metric in metrics.values() {
            let (name, group) = (metric.name, metric.group);
            assert!(place(group).is_some(), "{name}: no group {group}");
        }
    }
}
