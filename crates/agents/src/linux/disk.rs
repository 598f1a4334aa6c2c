//! Block devices: /proc/diskstats and /sys/block.

use super::system::{Row, Rows, System, number, word};

/// The instance domain of disks.
pub const DISK: u32 = 1;
const PARTITION: u32 = 10;
const DM: u32 = 24;
const MD: u32 = 25;
const ZRAM: u32 = 38;
const WWID: u32 = 42;

/// What a block device is to PCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Disk,
    Partition,
    /// Of the device mapper.
    Dm,
    /// Of several disks.
    Md,
    Zram,
    /// One that PCP does not count: loops, memory disks, CD-ROMs and floppies.
    Other,
}

/// The columns of /proc/diskstats behind the name (the kernel's iostats.rst).
const COLUMNS: [&str; 17] = [
    "rd_ios",
    "rd_merges",
    "rd_sectors",
    "rd_ms",
    "wr_ios",
    "wr_merges",
    "wr_sectors",
    "wr_ms",
    "inflight",
    "io_ms",
    "queue_ms",
    "dc_ios",
    "dc_merges",
    "dc_sectors",
    "dc_ms",
    "fl_ios",
    "fl_ms",
];

fn kind(system: &System, name: &str) -> Kind {
    let starts = |prefixes: &[&str]| {
        prefixes.iter().any(|prefix| {
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    if starts(&["loop", "ram", "sr", "scd", "fd", "nbd"]) {
        Kind::Other
    } else if name.starts_with("dm-") {
        Kind::Dm
    } else if starts(&["zram"]) {
        Kind::Zram
    } else if starts(&["md"]) {
        Kind::Md
    } else if system
        .path(&format!("/sys/class/block/{name}/partition"))
        .exists()
    {
        Kind::Partition
    } else {
        Kind::Disk
    }
}

/// The devices of a kind as rows without instance numbers.
fn devices(system: &System, wanted: Kind) -> Result<Vec<Row>, pcp::ErrorCode> {
    let text = system.read("/proc/diskstats")?;
    let mut rows = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(name) = words.get(2) else { continue };
        if kind(system, name) != wanted {
            continue;
        }
        let mut row = Row::new(0, *name);
        for (column, at) in COLUMNS.iter().zip(3..) {
            row.set(*column, word(&words, at).unwrap_or(0));
        }
        set_sums(&mut row);
        rows.push(row);
    }
    Ok(rows)
}

/// What follows from the columns.
fn set_sums(row: &mut Row) {
    let of = |row: &Row, name: &str| row.number(name).unwrap_or(0);
    for (sum, read, write) in [
        ("ios", "rd_ios", "wr_ios"),
        ("sectors", "rd_sectors", "wr_sectors"),
        ("ms", "rd_ms", "wr_ms"),
    ] {
        let both = of(row, read).wrapping_add(of(row, write));
        row.set(sum, both);
    }
    for (kb, sectors) in [
        ("rd_kb", "rd_sectors"),
        ("wr_kb", "wr_sectors"),
        ("kb", "sectors"),
        ("dc_kb", "dc_sectors"),
    ] {
        row.set(kb, of(row, sectors) / 2);
    }
}

fn set_capacity(system: &System, row: &mut Row) {
    let sectors = system.number(&format!("/sys/class/block/{}/size", row.name));
    row.set_some("capacity", sectors.map(|n| n / 2));
}

fn numbered(system: &mut System, serial: u32, mut rows: Vec<Row>) -> Vec<Row> {
    for row in &mut rows {
        row.inst = system.instance(serial, &row.name);
    }
    rows
}

pub fn disks(system: &mut System) -> Rows {
    let mut rows = devices(system, Kind::Disk)?;
    for row in &mut rows {
        set_capacity(system, row);
        let folder = format!("/sys/class/block/{}", row.name);
        let schedulers = system.line(&format!("{folder}/queue/scheduler"));
        let chosen = schedulers.as_deref().map(|line| {
            // The chosen one of several stands in brackets.
            let inner = line
                .split_once('[')
                .and_then(|(_, rest)| rest.split_once(']'));
            inner.map_or(line, |(chosen, _)| chosen).to_owned()
        });
        row.set("scheduler", chosen.unwrap_or_else(|| "unknown".to_owned()));
        let id = system.line(&format!("{folder}/device/wwid"));
        row.set(
            "scsi_id",
            id.filter(|id| !id.is_empty())
                .unwrap_or_else(|| "unknown".to_owned()),
        );
    }
    Ok(numbered(system, DISK, rows))
}

/// The sums over all disks.
pub fn all(system: &mut System) -> Rows {
    let disks = devices(system, Kind::Disk)?;
    let mut sum = Row::single();
    for column in COLUMNS {
        let values = disks.iter().filter_map(|disk| disk.number(column));
        sum.set(column, values.fold(0, u64::wrapping_add));
    }
    set_sums(&mut sum);
    Ok(vec![sum])
}

pub fn partitions(system: &mut System) -> Rows {
    let mut rows = devices(system, Kind::Partition)?;
    for row in &mut rows {
        set_capacity(system, row);
    }
    Ok(numbered(system, PARTITION, rows))
}

pub fn dm(system: &mut System) -> Rows {
    let mut rows = devices(system, Kind::Dm)?;
    for row in &mut rows {
        set_capacity(system, row);
        let kernel = row.name.clone();
        row.set("kernel_name", kernel.as_str());
        // The instance is what it is called in /dev/mapper.
        if let Some(name) = system.line(&format!("/sys/class/block/{kernel}/dm/name")) {
            row.name = name;
        }
    }
    Ok(numbered(system, DM, rows))
}

pub fn md(system: &mut System) -> Rows {
    let mut rows = devices(system, Kind::Md)?;
    for row in &mut rows {
        set_capacity(system, row);
        let kernel = row.name.clone();
        row.set("kernel_name", kernel.as_str());
        let folder = format!("/sys/class/block/{kernel}/md");
        // As mdadm says it: 0 is well, 1 has lost disks but works, 2 has lost too many.
        if let Some(degraded) = system.number(&format!("{folder}/degraded")) {
            let state = system.line(&format!("{folder}/array_state"));
            let works = state.is_none_or(|s| s != "inactive" && s != "clear");
            row.set("status", if works { u64::from(degraded > 0) } else { 2 });
        }
    }
    Ok(numbered(system, MD, rows))
}

pub fn zram(system: &mut System) -> Rows {
    let mut rows = devices(system, Kind::Zram)?;
    for row in &mut rows {
        set_capacity(system, row);
    }
    Ok(numbered(system, ZRAM, rows))
}

/// The files of each zram device, sizes in KB (the kernel's zram.rst).
pub fn zram_statistics(system: &mut System) -> Rows {
    let page_kb = system.page / 1024;
    let mut rows = devices(system, Kind::Zram)?;
    for row in &mut rows {
        let numbers = |file: &str| {
            let text = system.read(&format!("/sys/class/block/{}/{file}", row.name));
            let text = text.unwrap_or_default();
            text.split_whitespace().map(number).collect::<Vec<_>>()
        };
        let io = numbers("io_stat");
        let mm = numbers("mm_stat");
        let bd = numbers("bd_stat");
        let names = [
            "io_stat_failed_reads",
            "io_stat_failed_writes",
            "io_stat_invalid",
            "io_stat_notify_free",
        ];
        for (name, value) in names.into_iter().zip(io) {
            row.set_some(name, value);
        }
        let names = [
            ("mm_stat_data_size_original", 0),
            ("mm_stat_data_size_compressed", 0),
            ("mm_stat_mem_used_total", 0),
            ("mm_stat_mem_limit", 0),
            ("mm_stat_mem_max_used", 0),
            ("mm_stat_pages_same", page_kb),
            ("mm_stat_pages_compacted", page_kb),
            ("mm_stat_pages_huge", page_kb),
        ];
        for ((name, kb), value) in names.into_iter().zip(mm) {
            // Sizes are in bytes, counts in pages.
            let scaled = value.map(|v| {
                if kb == 0 {
                    v / 1024
                } else {
                    v.wrapping_mul(kb)
                }
            });
            row.set_some(name, scaled);
        }
        // In units of 4 KB.
        let names = ["bd_stat_count", "bd_stat_reads", "bd_stat_writes"];
        for (name, value) in names.into_iter().zip(bd) {
            row.set_some(name, value.map(|v| v.wrapping_mul(4)));
        }
    }
    Ok(numbered(system, ZRAM, rows))
}

/// Disks that several paths lead to, by what they call themselves.
pub fn wwid(system: &mut System) -> Rows {
    let mut rows: Vec<(Row, Vec<String>)> = Vec::new();
    for disk in disks(system)? {
        let path = format!("/sys/class/block/{}/device/wwid", disk.name);
        let Some(id) = system.line(&path).filter(|id| !id.is_empty()) else {
            continue;
        };
        let id = id.replace(' ', "_");
        let at = match rows.iter().position(|(row, _)| row.name == id) {
            Some(at) => at,
            None => {
                rows.push((Row::new(0, id), Vec::new()));
                rows.len() - 1
            }
        };
        let Some((row, paths)) = rows.get_mut(at) else {
            continue;
        };
        for column in COLUMNS {
            let before = row.number(column).unwrap_or(0);
            let more = disk.number(column).unwrap_or(0);
            row.set(column, before.wrapping_add(more));
        }
        for field in ["capacity", "scheduler"] {
            row.set_some(field, disk.get(field).cloned());
        }
        set_sums(row);
        paths.push(disk.name);
    }
    let rows = rows.into_iter().map(|(mut row, paths)| {
        row.set("paths", paths.join(" "));
        row
    });
    let rows = rows.collect();
    Ok(numbered(system, WWID, rows))
}

/// SCSI devices and what they are.
pub fn scsi(system: &mut System) -> Rows {
    const SCSI: u32 = 11;
    let text = system.read("/proc/scsi/scsi").unwrap_or_default();
    let mut rows: Vec<Row> = Vec::new();
    let mut place = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Host:", host, "Channel:", channel, "Id:", id, "Lun:", lun] => {
                let part = |text: &str| text.parse().unwrap_or(0u32);
                let host = host.trim_start_matches("scsi");
                place = format!("{host}:{}:{}:{}", part(channel), part(id), part(lun));
            }
            ["Type:", kind, ..] if !place.is_empty() => {
                let block = system.names(&format!("/sys/class/scsi_device/{place}/device/block"));
                let device = block.first().map_or("", String::as_str);
                let name = format!("scsi{place} {kind}");
                let mut row = Row::new(system.instance(SCSI, &name), name);
                row.set("name", device);
                rows.push(row);
            }
            _ => {}
        }
    }
    Ok(rows)
}

/// Counters of devices that are folders of numbers in /sys/class.
fn class(
    system: &mut System,
    serial: u32,
    folder: &str,
    is_one: fn(&str) -> bool,
    files: &[(&'static str, &str)],
) -> Rows {
    let mut names = system.names(folder);
    names.retain(|name| is_one(name));
    names.sort();
    let mut rows = Vec::new();
    for name in names {
        let mut row = Row::new(system.instance(serial, &name), name);
        for (field, file) in files {
            let text = system.line(&format!("{folder}/{}/{file}", row.name));
            let value = text.and_then(|text| match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => number(&text),
            });
            row.set_some(*field, value);
        }
        rows.push(row);
    }
    Ok(rows)
}

pub fn tapes(system: &mut System) -> Rows {
    let is_tape = |name: &str| {
        let digits = name.strip_prefix("st").unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    let files = [
        ("in_flight", "stats/in_flight"),
        ("io_ns", "stats/io_ns"),
        ("other_cnt", "stats/other_cnt"),
        ("read_byte_cnt", "stats/read_byte_cnt"),
        ("read_cnt", "stats/read_cnt"),
        ("read_ns", "stats/read_ns"),
        ("resid_cnt", "stats/resid_cnt"),
        ("write_byte_cnt", "stats/write_byte_cnt"),
        ("write_cnt", "stats/write_cnt"),
        ("write_ns", "stats/write_ns"),
    ];
    class(system, 34, "/sys/class/scsi_tape", is_tape, &files)
}

/// The metrics `out.frames` and `in.bytes` have each other's values in PCP.
pub fn fibre_channel(system: &mut System) -> Rows {
    let files = [
        ("in_frames", "statistics/rx_frames"),
        ("in_bytes", "statistics/tx_frames"),
        // Counted in words.
        ("in_words", "statistics/rx_words"),
        ("out_words", "statistics/tx_words"),
        ("lip_count", "statistics/lip_count"),
        ("nos_count", "statistics/nos_count"),
        ("error_frames", "statistics/error_frames"),
        ("dumped_frames", "statistics/dumped_frames"),
    ];
    let is_host = |name: &str| name.starts_with("host");
    let mut rows = class(system, 39, "/sys/class/fc_host", is_host, &files)?;
    for row in &mut rows {
        for (bytes, words) in [("out_frames", "in_words"), ("out_bytes", "out_words")] {
            let value = row.number(words).map(|words| words.wrapping_mul(4));
            row.set_some(bytes, value);
        }
        // All bits are set of what a driver does not count.
        for (field, _) in files {
            if row.number(field) == Some(u64::MAX) {
                row.set(field, 0);
            }
        }
    }
    Ok(rows)
}
