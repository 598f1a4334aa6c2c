//! Labels of metrics and instances, and help for those without PCP's.

use pcp::{INST_NULL, InDom, LabelLevel, LabelSet};
use pmda::label_set;

use super::system::{Raw, Row};
use crate::table::Metric;

fn set(level: LabelLevel, inst: i32, labels: &[(&str, String)]) -> LabelSet {
    let labels: Vec<(&str, &str, u8)> = labels.iter().map(|(n, v)| (*n, v.as_str(), 0)).collect();
    label_set(inst, level, &labels)
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// That all metrics come from here.
pub fn domain() -> Vec<LabelSet> {
    vec![set(
        LabelLevel::Domain,
        INST_NULL,
        &[("agent", quoted("linux"))],
    )]
}

/// What a domain's instances are.
pub fn indom(indom: InDom) -> Vec<LabelSet> {
    let name = match indom.serial() {
        0 => "per cpu",
        1 | 11 => "per disk",
        3 | 17 => "per interface",
        4 => "per irq",
        6 => "per swap device",
        10 => "per partition",
        12 => "per slab",
        19 => "per numa_node",
        24 => "per dm device",
        25 => "per md device",
        31 => "per buddy per numa_node",
        32 => "per zone per numa_node",
        36 => "per softirq",
        40 => "per cpu, per irq",
        41 => "per cpu, per softirq",
        _ => return Vec::new(),
    };
    vec![set(
        LabelLevel::InDom,
        INST_NULL,
        &[("indom_name", quoted(name))],
    )]
}

/// What kind of device a metric is about.
pub fn metric(metric: &Metric) -> Vec<LabelSet> {
    let indom = metric.desc.indom;
    let serial = (!indom.is_null()).then(|| indom.serial());
    let kinds: &[&str] = match (serial, metric.group) {
        (Some(0 | 41), _) | (None, "cpu") => &["cpu"],
        (Some(1 | 10 | 11 | 24 | 25), _) => &["block"],
        (Some(19), "pernode") => &["numa_node", "cpu"],
        (Some(19), _) => &["numa_node"],
        (Some(3 | 17), _) => &["interface"],
        (Some(4), _) => &["irq"],
        (Some(40), _) => &["irq", "cpu"],
        (Some(6), _) => &["block", "memory"],
        (Some(12), _) => &["memory"],
        (Some(31 | 32), _) => &["memory", "numa_node"],
        _ => return Vec::new(),
    };
    let kinds: Vec<String> = kinds.iter().map(|kind| quoted(kind)).collect();
    let value = match kinds.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(",")),
    };
    vec![set(LabelLevel::Item, INST_NULL, &[("device_type", value)])]
}

/// What the kernel says of an interrupt.
fn text(row: &Row) -> Option<(&'static str, String)> {
    match row.get("text") {
        Some(Raw::Text(text)) => Some(("irqtext", quoted(text))),
        _ => None,
    }
}

/// What each instance is one of, from its name.
pub fn instances(indom: InDom, rows: &[Row]) -> Vec<LabelSet> {
    let sets = rows.iter().filter_map(|row| {
        let mut labels: Vec<(&str, String)> = Vec::new();
        let name = row.name.as_str();
        match indom.serial() {
            1 => labels.push(("device_name", quoted(name))),
            3 => labels.push(("interface", quoted(name))),
            4 => {
                labels.push(("irq", quoted(name)));
                labels.extend(text(row));
            }
            0 | 19 | 31 | 32 | 33 | 40 | 41 => {
                for part in name.split("::") {
                    let number = |prefix: &str| {
                        let digits = part.strip_prefix(prefix)?;
                        let number: u32 = digits.parse().ok()?;
                        Some(number.to_string())
                    };
                    let numbers = [
                        ("cpu", "cpu"),
                        ("node", "numa_node"),
                        ("order", "order"),
                        ("lowmem_reserved", "lowmem_reserved"),
                    ];
                    let found = numbers
                        .iter()
                        .find_map(|(prefix, label)| Some((*label, number(prefix)?)));
                    match (found, indom.serial()) {
                        (Some(label), _) => labels.push(label),
                        (None, 31..=33) => labels.push(("zone", quoted(part))),
                        (None, 40) => {
                            labels.push(("irq", quoted(part)));
                            labels.extend(text(row));
                        }
                        (None, 41) => labels.push(("softirq", quoted(part))),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        let some = !labels.is_empty();
        some.then(|| set(LabelLevel::Instances, row.inst, &labels))
    });
    sets.collect()
}

/// Where a value comes from.
pub fn help(name: &str, group: &str, field: &str) -> String {
    let file = match group {
        "buddyinfo" | "cpuinfo" | "interrupts" | "loadavg" | "locks" | "meminfo" | "softirqs"
        | "stat" | "swaps" | "uptime" | "vmstat" | "zoneinfo" => format!("/proc/{group}"),
        "cpu" | "percpu" | "pernode" => "/proc/stat".to_owned(),
        "disk" | "disk_all" | "partition" | "dm" | "md" | "zram" | "wwid" => {
            "/proc/diskstats and /sys/block".to_owned()
        }
        "net" | "net_all" => "/proc/net/dev and /sys/class/net".to_owned(),
        "snmp" | "snmp6" | "netstat" | "sockstat" => format!("/proc/net/{group}"),
        "softnet" | "softnet_cpu" => "/proc/net/softnet_stat".to_owned(),
        "slab" => "/proc/slabinfo".to_owned(),
        "node" => "/sys/devices/system/node".to_owned(),
        "ksm" => "/sys/kernel/mm/ksm".to_owned(),
        "pressure" | "pressure_all" => "/proc/pressure".to_owned(),
        "vfs" => "/proc/sys/fs".to_owned(),
        "filesys" | "tmpfs" => "/proc/mounts and statvfs(3)".to_owned(),
        "ipc_shm" | "ipc_msg" | "ipc_sem" | "ipc_info" | "shm_info" => "/proc/sysvipc".to_owned(),
        _ => "the kernel".to_owned(),
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    format!("{last}: {} of {file}", field.replace('_', " "))
}
