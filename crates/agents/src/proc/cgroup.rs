//! Control groups: the kernel's list of subsystems, where they are mounted, and what the files of each group say, of both versions
//! (cgroups(7)).

use std::collections::HashMap;
use std::fs;

use crate::linux::system::{Row, System, number};

/// A mounted hierarchy.
struct Mount {
    path: String,
    /// The controllers in it; none are named of version 2.
    controllers: Vec<String>,
    is_v2: bool,
}

/// The names of the controllers, with what else the kernel's list says of them.
fn controllers(system: &System) -> Vec<Vec<String>> {
    let text = system.read("/proc/cgroups").unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    lines
        .map(words)
        .filter(|w: &Vec<_>| !w.is_empty())
        .collect()
}

fn mounts(system: &System) -> Vec<Mount> {
    let controllers = controllers(system);
    let is_known = |option: &&str| {
        controllers
            .iter()
            .flat_map(|c| c.first())
            .any(|c| c == option)
    };
    let text = system.read("/proc/mounts").unwrap_or_default();
    let mounted = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, path, kind @ ("cgroup" | "cgroup2"), options, ..] = words.as_slice() else {
            return None;
        };
        let known = options.split(',').filter(is_known);
        Some(Mount {
            path: (*path).to_owned(),
            controllers: known.map(str::to_owned).collect(),
            is_v2: *kind == "cgroup2",
        })
    });
    mounted.collect()
}

/// The groups below a mount: their names and folders, each ahead of those in it.
fn groups(system: &System, mount: &Mount) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![String::new()];
    while let Some(name) = left.pop() {
        let folder = format!("{}{name}", mount.path);
        let inside = fs::read_dir(system.path(&folder));
        for entry in inside.into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                left.push(format!("{name}/{}", entry.file_name().to_string_lossy()));
            }
        }
        let name = if name.is_empty() {
            "/".to_owned()
        } else {
            unescaped(&name)
        };
        found.push((name, folder));
    }
    found
}

/// Undoes systemd's escapes, `\x2d` for a dash.
fn unescaped(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("\\x") {
        plain.push_str(before);
        let code = after
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                plain.push(code.into());
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push_str("\\x");
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// The groups of a controller: of version 1 where it is mounted, else of version 2.
fn groups_of(system: &System, controller: &str) -> Vec<(String, String)> {
    let mounts = mounts(system);
    let named = mounts
        .iter()
        .find(|m| m.controllers.iter().any(|c| c == controller));
    let mount = named.or_else(|| mounts.iter().find(|m| m.is_v2));
    mount.map_or(Vec::new(), |mount| groups(system, mount))
}

fn groups_of_v2(system: &System) -> Vec<(String, String)> {
    let mounts = mounts(system);
    let mount = mounts.iter().find(|m| m.is_v2);
    mount.map_or(Vec::new(), |mount| groups(system, mount))
}

/// The names of disks by their numbers, `8:0`.
fn disks(system: &System) -> HashMap<String, String> {
    let text = system.read("/proc/diskstats").unwrap_or_default();
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor, name) = (words.next()?, words.next()?, words.next()?);
        let is_memory = name.starts_with("ram") || name.starts_with("loop");
        (!is_memory).then(|| (format!("{major}:{minor}"), name.to_owned()))
    });
    named.collect()
}

/// The identifier of the container that a group is, as its runtime puts it into the name.
fn container(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or_default();
    let id = last
        .strip_suffix(".scope")
        .and_then(|scope| scope.rsplit('-').next())
        .unwrap_or(last);
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { id } else { "" }
}

/// One value of a file.
fn single(system: &System, row: &mut Row, field: &'static str, path: &str) {
    let line = system.line(path);
    // -1, signed or not, stands for no limit: there is no value then.
    let value = line.and_then(|line| line.trim().parse::<u64>().ok());
    row.set_some(field, value.filter(|value| *value < u64::MAX));
}

/// Lines of a name and a number.
fn pairs(system: &System, row: &mut Row, path: &str) {
    for line in system.read(path).unwrap_or_default().lines() {
        if let Some((name, value)) = line.split_once(' ')
            && let Some(value) = number(value.trim())
        {
            row.set(name.to_owned(), value);
        }
    }
}

/// The rows of subsystems or mounts.
pub fn lists(group: &str, system: &mut System) -> Vec<Row> {
    if group == "cgmounts" {
        let mounts = mounts(system);
        return mounts
            .into_iter()
            .map(|mount| {
                let mut row = Row::new(system.instance(38, &mount.path), mount.path);
                let named = mount.controllers.join(",");
                row.set(
                    "subsys",
                    if named.is_empty() {
                        "?".to_owned()
                    } else {
                        named
                    },
                );
                row
            })
            .collect();
    }
    let mut rows = Vec::new();
    for words in controllers(system) {
        let [name, numbers @ ..] = words.as_slice() else {
            continue;
        };
        let mut row = Row::new(system.instance(37, name), name.as_str());
        let fields = ["hierarchy", "num_cgroups", "enabled"];
        for (field, word) in fields.into_iter().zip(numbers) {
            row.set_some(field, number(word));
        }
        rows.push(row);
    }
    rows
}

/// The rows of the groups of a controller, or of the controller's devices or processors in each.
pub fn controller(group: &str, system: &mut System) -> Vec<Row> {
    let (controller, serial) = match group {
        "cpuset" => ("cpuset", 20),
        "cpuacct" => ("cpuacct", 21),
        "cgpercpu" => ("cpuacct", 22),
        "cpusched" => ("cpu", 23),
        "cgmemory" => ("memory", 24),
        "netclass" => ("net_cls", 25),
        "blkioall" => ("blkio", 26),
        "blkiodev" => ("blkio", 27),
        "cgunified" => ("", 16),
        "cgio" => ("", 17),
        _ => return Vec::new(),
    };
    let groups = match controller {
        "" => groups_of_v2(system),
        controller => groups_of(system, controller),
    };
    let disks = match group {
        "blkiodev" | "cgio" => disks(system),
        _ => HashMap::new(),
    };
    let mut rows = Vec::new();
    for (name, folder) in groups {
        let file = |name: &str| format!("{folder}/{name}");
        let mut row = Row::new(0, name.clone());
        match group {
            "cpuset" => {
                for (field, path) in [("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")] {
                    row.set_some(field, system.line(&file(path)));
                }
            }
            "cpuacct" => {
                pairs(system, &mut row, &file("cpuacct.stat"));
                single(system, &mut row, "usage", &file("cpuacct.usage"));
            }
            "cpusched" => {
                pairs(system, &mut row, &file("cpu.stat"));
                single(system, &mut row, "shares", &file("cpu.shares"));
                single(system, &mut row, "cfs_period", &file("cpu.cfs_period_us"));
                single(system, &mut row, "cfs_quota", &file("cpu.cfs_quota_us"));
            }
            "cgmemory" => {
                pairs(system, &mut row, &file("memory.stat"));
                single(system, &mut row, "usage", &file("memory.usage_in_bytes"));
                single(system, &mut row, "limit", &file("memory.limit_in_bytes"));
                single(system, &mut row, "failcnt", &file("memory.failcnt"));
                single(system, &mut row, "current", &file("memory.current"));
            }
            "netclass" => single(system, &mut row, "classid", &file("net_cls.classid")),
            "cgunified" => unified(system, &mut row, &folder),
            "blkioall" => {
                if FIELDS
                    .iter()
                    .any(|f| system.line(&file(&format!("blkio.{f}"))).is_some())
                {
                    zeros(&mut row);
                }
                for device in block(system, &folder).into_values() {
                    for (field, value) in device {
                        let sum = row.number(&field).unwrap_or(0).wrapping_add(value);
                        row.set(field, sum);
                    }
                }
            }
            "cgpercpu" => {
                let text = system
                    .line(&file("cpuacct.usage_percpu"))
                    .unwrap_or_default();
                for (cpu, word) in text.split_whitespace().enumerate() {
                    let mut row = Row::new(0, format!("{name}::cpu{cpu}"));
                    row.set_some("usage_percpu", number(word));
                    rows.push(row);
                }
                continue;
            }
            "blkiodev" | "cgio" => {
                let devices = match group {
                    "cgio" => io(system, &folder),
                    _ => block(system, &folder),
                };
                for (device, values) in devices {
                    let Some(disk) = disks.get(&device) else {
                        continue;
                    };
                    let mut row = Row::new(0, format!("{name}::{disk}"));
                    if group == "blkiodev" {
                        // A device that one file of version 1 names has a value in all.
                        zeros(&mut row);
                    }
                    for (field, value) in values {
                        row.set(field, value);
                    }
                    rows.push(row);
                }
                continue;
            }
            _ => {}
        }
        row.set("container", container(&name));
        rows.push(row);
    }
    for row in &mut rows {
        row.inst = system.instance(serial, &row.name);
    }
    rows
}

/// Files of the controller blkio, without that word ahead of them.
const FIELDS: [&str; 10] = [
    "io_merged",
    "io_queued",
    "io_service_bytes",
    "io_serviced",
    "io_service_time",
    "io_wait_time",
    "throttle.io_service_bytes",
    "throttle.io_serviced",
    "sectors",
    "time",
];

/// Nothing of all that the files of blkio count.
fn zeros(row: &mut Row) {
    for field in FIELDS {
        if matches!(field, "sectors" | "time") {
            row.set(field, 0);
            continue;
        }
        for what in ["read", "write", "sync", "async", "total"] {
            row.set(format!("{field}.{what}"), 0);
        }
    }
}

/// Numbers of devices by `MAJOR:MINOR`, and in each by field.
type Devices = HashMap<String, HashMap<String, u64>>;

/// The files of the controller blkio.
fn block(system: &System, folder: &str) -> Devices {
    let mut devices = Devices::new();
    for field in FIELDS {
        let text = system
            .read(&format!("{folder}/blkio.{field}"))
            .unwrap_or_default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (device, field, value) = match words.as_slice() {
                [device, what, value] => {
                    (*device, format!("{field}.{}", what.to_lowercase()), *value)
                }
                // The sum of all devices has no number.
                [device, value] if device.contains(':') => (*device, field.to_owned(), *value),
                _ => continue,
            };
            let Some(mut value) = number(value) else {
                continue;
            };
            if field == "sectors" {
                value /= 2;
            }
            if field == "time" {
                // Ticks of a hundredth of a second, as PCP takes them.
                value = value.wrapping_mul(10);
            }
            devices
                .entry(device.to_owned())
                .or_default()
                .insert(field, value);
        }
    }
    devices
}

/// `io.stat` of version 2.
fn io(system: &System, folder: &str) -> Devices {
    let text = system
        .read(&format!("{folder}/io.stat"))
        .unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        let values = rest.split(' ').filter_map(|word| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), number(value)?))
        });
        Some((device.to_owned(), values.collect()))
    });
    lines.collect()
}

/// What only version 2 has: times of processors, and stalls.
fn unified(system: &System, row: &mut Row, folder: &str) {
    for line in system
        .read(&format!("{folder}/cpu.stat"))
        .unwrap_or_default()
        .lines()
    {
        if let Some((name, value)) = line.split_once("_usec ") {
            row.set_some(format!("cpu.{name}"), number(value));
        }
    }
    for resource in ["cpu", "io", "memory", "irq"] {
        let text = system.read(&format!("{folder}/{resource}.pressure"));
        for line in text.unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            let who = words.next().unwrap_or_default();
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                let field = format!("{resource}.{who}.{name}");
                match value.parse::<f64>() {
                    Ok(value) if name != "total" => row.set(field, value),
                    _ => row.set_some(field, number(value)),
                }
            }
        }
    }
}
