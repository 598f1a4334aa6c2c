//! The agent of the daemon's own metrics, `pmcd.*`: names, identifiers and meanings as PCP's pmcd has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use pcp::{
    Atom, Desc, ErrorCode, INST_NULL, InDom, Instance, LabelLevel, LabelSet, Pmid, Semantics,
    TIME_MSEC, TIME_SEC, TIME_USEC, Text, Type, Units,
};
use pmda::{Agent, Caller, Container, Help, Values, label_set};

use crate::agent::State;
use crate::config::Transport;
use crate::daemon::{Daemon, OWN_DOMAIN};
use crate::event_trace;
use crate::rule_engines;

/// The version of PCP whose protocol this is.
const VERSION: &str = "6.0.3";
/// The item of `pmcd.hostname`, among the daemon's general ones.
const HOSTNAME: u32 = 21;
/// Values of `pmcd.control.register`.
const REGISTERS: usize = 16;
/// Sizes of the buffers that PCP's pmcd keeps for PDUs; this one keeps none.
const BUFFER_SIZES: [(i32, &str); 7] = [
    (12, "0012"),
    (20, "0020"),
    (1024, "1024"),
    (2048, "2048"),
    (4196, "4196"),
    (8192, "8192"),
    (8193, "8192+"),
];

const LOGGERS: InDom = InDom::new(OWN_DOMAIN, 1);
const REGISTER: InDom = InDom::new(OWN_DOMAIN, 2);
const AGENTS: InDom = InDom::new(OWN_DOMAIN, 3);
const RULE_ENGINES: InDom = InDom::new(OWN_DOMAIN, 4);
const BUFFERS: InDom = InDom::new(OWN_DOMAIN, 5);
const CLIENTS: InDom = InDom::new(OWN_DOMAIN, 6);

const COUNT: Units = Units::new(0, 0, 1, 0, 0, 0);
const KBYTES: Units = Units::new(1, 0, 0, 1, 0, 0);

/// A running pmlogger, from the file that it keeps for pmlc.
struct Logger {
    pid: i32,
    name: String,
    port: u32,
    host: String,
    archive: String,
    pmcd_host: String,
}

/// The agent.
pub struct OwnMetrics {
    daemon: Weak<Daemon>,
    help: Help,
    registers: [i32; REGISTERS],
    /// The items of cluster 0 that can be stored and mean nothing here: tracing of PCP's own pmcd.
    ignored: [i32; 16],
}

impl OwnMetrics {
    /// The agent of that daemon. Help texts come from where PCP is installed, if it is.
    pub fn new(daemon: Weak<Daemon>) -> OwnMetrics {
        let own = daemon.upgrade().and_then(|d| {
            let agents = d.agents();
            let own = agents.iter().find(|a| a.spec.domain == OWN_DOMAIN);
            own.and_then(|a| match &a.spec.transport {
                Transport::Dso { path, .. } => path.parent().map(Path::to_owned),
                _ => None,
            })
        });
        let folder = own.unwrap_or_else(|| {
            let all = pcp::config("PCP_PMDAS_DIR").unwrap_or("/var/lib/pcp/pmdas".to_owned());
            PathBuf::from(all).join("pmcd")
        });
        let mut ignored = [0; 16];
        ignored[11] = event_trace::ROOM as i32;
        OwnMetrics {
            daemon,
            help: Help::open(&folder.join("help")).unwrap_or_default(),
            registers: [0; REGISTERS],
            ignored,
        }
    }

    fn daemon(&self) -> Result<Rc<Daemon>, ErrorCode> {
        self.daemon.upgrade().ok_or(ErrorCode::AGAIN)
    }

    fn general(&self, daemon: &Daemon, item: u32) -> Result<Values, ErrorCode> {
        let text = |text: String| Atom::String(text.into());
        Ok(Values::single(match item {
            1 => Atom::U32(data_size()),
            2 => Atom::U32(count(
                daemon
                    .agents()
                    .iter()
                    .filter(|a| !matches!(a.state(), State::Gone(_)))
                    .count(),
            )),
            3 => Atom::U32(count(daemon.clients().len())),
            4 => Atom::U32(daemon.patience.get()),
            5 => text(time_zone()),
            6 => text(std::env::consts::ARCH.to_owned()),
            7 => text(VERSION.to_owned()),
            8 => {
                let registers = self.registers.iter().enumerate();
                let values = registers.map(|(n, v)| (n as i32, Atom::I32(*v)));
                return Ok(Values(values.collect()));
            }
            16 => text("pmcd".to_owned()),
            17 => Atom::U32(fs::read_dir("/proc/self/fd").map_or(0, |d| count(d.count()))),
            18 | 19 => {
                let sizes = BUFFER_SIZES.iter().map(|(size, _)| (*size, Atom::I32(0)));
                return Ok(Values(sizes.collect()));
            }
            20 => text("1".to_owned()),
            HOSTNAME => text(daemon.hostname.clone()),
            22 => Atom::U32(daemon.statistics.sighups.get()),
            23 => Atom::U64(std::process::id().into()),
            24 => Atom::U32(daemon.changes.get()),
            25 => text(String::new()),
            26 => text(zone_info()),
            _ => Atom::I32(self.ignored.get(item as usize).copied().unwrap_or(0)),
        }))
    }

    fn agents(&self, daemon: &Daemon, item: u32) -> Values {
        let agents = daemon.agents();
        let value = |agent: &crate::agent::Agent| match item {
            // Bits 1 and up say how: 0 in this process, 1 by a socket, 2 by a pipe.
            0 => Atom::U32(match agent.spec.transport {
                Transport::Dso { .. } => 0,
                Transport::Socket { .. } => 2,
                Transport::Pipe { .. } => 4,
            }),
            1 => Atom::I32(match agent.state() {
                State::Connected => 0,
                State::NotReady => 1,
                State::Gone(status) => status.max(1),
            }),
            2 => Atom::U32(agent.fenced.get().into()),
            _ => Atom::String(agent.spec.name.as_str().into()),
        };
        let mut values: Vec<_> = agents
            .iter()
            .map(|a| (a.spec.domain as i32, value(a)))
            .collect();
        values.sort_by_key(|(domain, _)| *domain);
        Values(values)
    }

    fn loggers(&self, daemon: &Daemon, item: u32) -> Values {
        let values = loggers(&daemon.hostname).into_iter().map(|logger| {
            let value = match item {
                0 => Atom::U32(logger.port),
                1 => Atom::String(logger.pmcd_host.into()),
                2 => Atom::String(logger.archive.into()),
                _ => Atom::String(logger.host.into()),
            };
            (logger.pid, value)
        });
        Values(values.collect())
    }

    fn clients(&self, daemon: &Daemon, item: u32) -> Values {
        let clients = daemon.clients();
        let values = clients.iter().map(|client| {
            let text = match item {
                0 => client.whoami.borrow().clone().unwrap_or_default(),
                1 => date(client.started),
                _ => client.container().unwrap_or_default(),
            };
            (client.sequence as i32, Atom::String(text.into()))
        });
        Values(values.collect())
    }

    fn processor(&self, daemon: &Daemon, item: u32) -> Atom {
        let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
        let micros = used.map_or(0, |u| {
            let both = [u.user_time(), u.system_time()];
            let micros = both.map(|t| t.tv_sec() * 1_000_000 + t.tv_usec());
            micros.iter().sum::<i64>()
        });
        if item == 0 {
            return Atom::U64(micros as u64 / 1000);
        }
        let pdus = daemon.statistics.incoming(crate::statistics::TOTAL);
        Atom::Double(micros as f64 / f64::from(pdus.unwrap_or(0).max(1)))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Kilobytes of data, as the kernel counts them.
fn data_size() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmData:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn zone_info() -> String {
    let link = fs::read_link("/etc/localtime").unwrap_or_default();
    let name = link.to_string_lossy();
    match (std::env::var("TZ"), name.split_once("zoneinfo/")) {
        (Ok(zone), _) if zone.starts_with(':') => zone,
        (_, Some((_, zone))) => format!(":{zone}"),
        _ => ":Etc/UTC".to_owned(),
    }
}

/// The time zone as `$TZ` would say it: a name and the hours west of Greenwich.
fn time_zone() -> String {
    if let Ok(zone) = std::env::var("TZ")
        && !zone.starts_with(':')
    {
        return zone;
    }
    let now = jiff::Zoned::now();
    let west = -now.offset().seconds();
    let name = now.strftime("%Z").to_string();
    match (west / 3600, west.abs() / 60 % 60) {
        (0, 0) => name,
        (hours, 0) => format!("{name}{hours}"),
        (hours, minutes) => format!("{name}{hours}:{minutes:02}"),
    }
}

/// As ctime(3) has it.
fn date(time: pcp::Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    jiff::Timestamp::from_second(time.sec).map_or_else(
        |_| String::new(),
        |t| {
            t.to_zoned(zone)
                .strftime("%a %b %e %H:%M:%S %Y")
                .to_string()
        },
    )
}

/// The name that the host of the container has that a client asks about.
fn contained_hostname(daemon: &Daemon, client: i32) -> Option<String> {
    let clients = daemon.clients();
    let client = clients.iter().find(|c| c.number == client)?;
    Container::find(&client.container()?)?.hostname().ok()
}

/// pmlogger(1) leaves a file by its process's number: its port, the host that it logs, its archive.
fn loggers(hostname: &str) -> Vec<Logger> {
    let folder = pcp::config("PCP_TMP_DIR").unwrap_or("/var/lib/pcp/tmp".to_owned());
    let folder = Path::new(&folder).join("pmlogger");
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let primary = fs::read_link(folder.join("primary"))
        .ok()
        .and_then(|l| l.file_name()?.to_str()?.parse::<i32>().ok());
    let mut loggers: Vec<Logger> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            if !Path::new(&format!("/proc/{pid}")).exists() {
                return None;
            }
            let text = fs::read_to_string(entry.path()).ok()?;
            let mut lines = text.lines();
            let logger = Logger {
                pid,
                name: pid.to_string(),
                port: lines.next()?.trim().parse().unwrap_or(0),
                pmcd_host: lines.next().unwrap_or_default().to_owned(),
                archive: lines.next().unwrap_or_default().to_owned(),
                host: hostname.to_owned(),
            };
            Some(logger)
        })
        .collect();
    loggers.sort_by_key(|l| l.pid);
    let first = loggers.iter().position(|l| Some(l.pid) == primary);
    if let Some(first) = first.and_then(|at| loggers.get(at)) {
        let copy = Logger {
            pid: 0,
            name: "primary".to_owned(),
            port: first.port,
            host: first.host.clone(),
            archive: first.archive.clone(),
            pmcd_host: first.pmcd_host.clone(),
        };
        loggers.insert(0, copy);
    }
    loggers
}

/// Type, instance domain, semantics and units of a metric, by cluster and item.
fn shape(cluster: u32, item: u32) -> Option<(Type, InDom, Semantics, Units)> {
    use Semantics::{Counter, Discrete, Instant};
    let plain = |ty, sem| (ty, InDom::NULL, sem, Units::NONE);
    Some(match (cluster, item) {
        (0, 0 | 9..=15) => plain(Type::I32, Discrete),
        (0, 1) => (Type::U32, InDom::NULL, Instant, KBYTES),
        (0, 2 | 3 | 17) => plain(Type::U32, Instant),
        (0, 4 | 24) => plain(Type::U32, Discrete),
        (0, 5..=7 | 20 | 21 | 26) => plain(Type::String, Discrete),
        (0, 8) => (Type::I32, REGISTER, Discrete, Units::NONE),
        (0, 16 | 25) => plain(Type::String, Instant),
        (0, 18 | 19) => (Type::I32, BUFFERS, Instant, COUNT),
        (0, 22) => (Type::U32, InDom::NULL, Counter, COUNT),
        (0, 23) => plain(Type::U64, Discrete),
        (1 | 2, 0..=24) if item != 11 => (Type::U32, InDom::NULL, Counter, COUNT),
        (3, 0) => (Type::U32, LOGGERS, Discrete, Units::NONE),
        (3, 1..=3) => (Type::String, LOGGERS, Discrete, Units::NONE),
        (4, 0) => (Type::U32, AGENTS, Discrete, Units::NONE),
        (4, 1) => (Type::I32, AGENTS, Discrete, Units::NONE),
        (4, 2) => (Type::U32, AGENTS, Instant, Units::NONE),
        (4, 3) => (Type::String, AGENTS, Discrete, Units::NONE),
        (5, 0..=2) => (Type::String, RULE_ENGINES, Discrete, Units::NONE),
        (5, 3) => (Type::U32, RULE_ENGINES, Discrete, Units::NONE),
        (5, 8) => {
            let rate = Units::new(0, -1, 1, 0, TIME_SEC, 0);
            (Type::Float, RULE_ENGINES, Discrete, rate)
        }
        (5, 4..=7 | 9) => (Type::U32, RULE_ENGINES, Counter, COUNT),
        (6, 0 | 1) => (Type::String, CLIENTS, Discrete, Units::NONE),
        (6, 2) => (Type::String, CLIENTS, Instant, Units::NONE),
        (7, 0) => {
            let time = Units::new(0, 1, 0, 0, TIME_MSEC, 0);
            (Type::U64, InDom::NULL, Counter, time)
        }
        (7, 1) => {
            let each = Units::new(0, 1, -1, 0, TIME_USEC, 0);
            (Type::Double, InDom::NULL, Instant, each)
        }
        (8, 0..=9) => plain(Type::U32, Instant),
        _ => return None,
    })
}

impl Agent for OwnMetrics {
    fn domain(&self) -> u32 {
        OWN_DOMAIN
    }

    fn desc(&mut self, pmid: Pmid) -> Result<Desc, ErrorCode> {
        let (ty, indom, sem, units) = shape(pmid.cluster(), pmid.item()).ok_or(ErrorCode::PMID)?;
        Ok(Desc {
            pmid,
            ty,
            indom,
            sem,
            units,
        })
    }

    fn values(&mut self, caller: &Caller<'_>, desc: &Desc) -> Result<Values, ErrorCode> {
        let daemon = self.daemon()?;
        let item = desc.pmid.item();
        if (desc.pmid.cluster(), item) == (0, HOSTNAME)
            && let Some(name) = contained_hostname(&daemon, caller.client)
        {
            return Ok(Values::single(Atom::String(name.into())));
        }
        let single = |value: Option<u32>| {
            let value = value.ok_or(ErrorCode::PMID)?;
            Ok(Values::single(Atom::U32(value)))
        };
        match desc.pmid.cluster() {
            0 => self.general(&daemon, item),
            1 => single(daemon.statistics.incoming(item as usize)),
            2 => single(daemon.statistics.outgoing(item as usize)),
            3 => Ok(self.loggers(&daemon, item)),
            4 => Ok(self.agents(&daemon, item)),
            5 => rule_engines::values(item),
            6 => Ok(self.clients(&daemon, item)),
            7 => Ok(Values::single(self.processor(&daemon, item))),
            _ => {
                use pcp::pdu::Features;
                let features = daemon.features(false);
                let has = |feature| u32::from(features.has(feature));
                single(Some(match item {
                    0 => has(Features::SECURE),
                    1 => has(Features::COMPRESS),
                    2 | 5 => 1,
                    3 => has(Features::AUTH),
                    4 => u32::from(daemon.needs_credentials()),
                    7 => has(Features::CONTAINER),
                    9 => has(Features::CERT_REQUIRED),
                    _ => 0,
                }))
            }
        }
    }

    fn instances(&mut self, _: i32, indom: InDom) -> Result<Vec<Instance>, ErrorCode> {
        let daemon = self.daemon()?;
        let instance = |inst: i32, name: String| Instance {
            inst,
            name: name.into(),
        };
        Ok(match indom {
            LOGGERS => loggers(&daemon.hostname)
                .into_iter()
                .map(|l| instance(l.pid, l.name))
                .collect(),
            REGISTER => (0..REGISTERS as i32)
                .map(|n| instance(n, n.to_string()))
                .collect(),
            AGENTS => daemon
                .agents()
                .iter()
                .map(|a| instance(a.spec.domain as i32, a.spec.name.clone()))
                .collect(),
            RULE_ENGINES => rule_engines::instances(),
            BUFFERS => BUFFER_SIZES
                .iter()
                .map(|(size, name)| instance(*size, (*name).to_owned()))
                .collect(),
            CLIENTS => daemon
                .clients()
                .iter()
                .map(|c| instance(c.sequence as i32, c.sequence.to_string()))
                .collect(),
            _ => return Err(ErrorCode::INDOM),
        })
    }

    fn metric_text(&mut self, pmid: Pmid, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.metric(pmid, one_line)
    }

    fn indom_text(&mut self, indom: InDom, one_line: bool) -> Result<Text, ErrorCode> {
        self.help.indom(indom, one_line)
    }

    fn store(
        &mut self,
        client: i32,
        desc: &Desc,
        inst: i32,
        value: &Atom,
    ) -> Result<(), ErrorCode> {
        let daemon = self.daemon()?;
        let number = value.as_f64().unwrap_or(0.0) as i32;
        match (desc.pmid.cluster(), desc.pmid.item()) {
            (0, 4) => daemon
                .patience
                .set(u32::try_from(number).map_err(|_| ErrorCode::BADSTORE)?),
            (0, 8) => {
                let register = usize::try_from(inst).ok();
                let register = register.and_then(|n| self.registers.get_mut(n));
                *register.ok_or(ErrorCode::INST)? = number;
            }
            (0, 15) => daemon.reload.notify_one(),
            (0, 24) => daemon.changes.set(number as u32),
            (0, 12) => eprintln!("{}", daemon.trace.shown()),
            (0, 13) => eprintln!("{}", daemon.connections()),
            (0, item @ (0 | 9..=11 | 14)) => {
                match item {
                    11 => {
                        let events = usize::try_from(number).map_err(|_| ErrorCode::BADSTORE)?;
                        daemon.trace.set_room(events);
                    }
                    14 => daemon.trace.set_at_once(number != 0),
                    _ => {}
                }
                if let Some(value) = self.ignored.get_mut(item as usize) {
                    *value = number;
                }
            }
            (4, 2) => {
                if !(0..=1).contains(&number) {
                    return Err(ErrorCode::BADSTORE);
                }
                let agents = daemon.agents();
                let agent = agents.iter().find(|a| a.spec.domain as i32 == inst);
                // The fence itself must stay within reach.
                if inst != OWN_DOMAIN as i32 {
                    agent.ok_or(ErrorCode::INST)?.fenced.set(number == 1);
                }
            }
            (6, 0) => {
                let Atom::String(text) = value else {
                    return Err(ErrorCode::BADSTORE);
                };
                let clients = daemon.clients();
                let caller = clients.iter().find(|c| c.number == client);
                let caller = caller.ok_or(ErrorCode::INST)?;
                *caller.whoami.borrow_mut() = Some(text.to_str().into_owned());
            }
            _ => return Err(ErrorCode::PERMISSION),
        }
        Ok(())
    }

    fn labels(&mut self, _: u32, level: LabelLevel) -> Result<Vec<LabelSet>, ErrorCode> {
        Ok(match level {
            LabelLevel::Domain => vec![label_set(INST_NULL, level, &[("agent", "\"pmcd\"", 0)])],
            _ => Vec::new(),
        })
    }
}
