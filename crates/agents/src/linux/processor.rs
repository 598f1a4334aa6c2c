//! Processors: /proc/stat, interrupts, load.

use pcp::ErrorCode;

use super::system::{Row, Rows, System, number, word};

/// The columns of a `cpu` line.
const TIMES: [&str; 10] = [
    "user",
    "nice",
    "sys",
    "idle",
    "wait",
    "hard",
    "soft",
    "steal",
    "guest",
    "guest_nice",
];

/// Adds the times of a processor, from ticks to milliseconds.
fn set_times(row: &mut Row, ticks: &[u64], hertz: u64) {
    let ms = |at: usize| {
        let ticks = ticks.get(at).copied().unwrap_or(0);
        (u128::from(ticks) * 1000 / u128::from(hertz)) as u64
    };
    for (name, at) in TIMES.iter().zip(0..) {
        row.set(*name, ms(at));
    }
    row.set("intr", ms(5).wrapping_add(ms(6)));
    // The kernel counts guests' time as a user's, too.
    row.set("vuser", ms(0).saturating_sub(ms(8)));
    row.set("vnice", ms(1).saturating_sub(ms(9)));
}

/// A `cpu` line: the number of a processor (none for all together) and its ticks.
type CpuLine = (Option<i32>, Vec<u64>);

/// The processors that the folders of nodes name, which are those that count. The kernel that runs has no lines of others; where
/// its files are another's it may have.
fn in_nodes(system: &System) -> Vec<i32> {
    if system.is_running() {
        return Vec::new();
    }
    let of_node = |node| {
        let names = system.names(&format!("/sys/devices/system/node/node{node}"));
        names
            .into_iter()
            .filter_map(|name| name.strip_prefix("cpu")?.parse().ok())
    };
    nodes(system).into_iter().flat_map(of_node).collect()
}

fn cpu_lines(system: &System) -> Result<Vec<CpuLine>, ErrorCode> {
    let text = system.read("/proc/stat")?;
    let on = in_nodes(system);
    let lines = text.lines().filter_map(|line| {
        let mut words = line.strip_prefix("cpu")?.split(' ');
        let cpu: Option<i32> = words.next()?.parse().ok();
        if cpu.is_some_and(|cpu| !on.is_empty() && !on.contains(&cpu)) {
            return None;
        }
        let ticks = words.filter(|w| !w.is_empty());
        Some((cpu, ticks.map(|w| number(w).unwrap_or(0)).collect()))
    });
    Ok(lines.collect())
}

pub fn all(system: &mut System) -> Rows {
    let lines = cpu_lines(system)?;
    let ticks = lines.iter().find(|(cpu, _)| cpu.is_none());
    let mut row = Row::single();
    set_times(&mut row, &ticks.ok_or(ErrorCode::AGAIN)?.1, system.hertz);
    Ok(vec![row])
}

pub fn per_cpu(system: &mut System) -> Rows {
    let lines = cpu_lines(system)?;
    let rows = lines.iter().filter_map(|(cpu, ticks)| {
        let cpu = (*cpu)?;
        let mut row = Row::new(cpu, format!("cpu{cpu}"));
        set_times(&mut row, ticks, system.hertz);
        Some(row)
    });
    Ok(rows.collect())
}

/// The numbers of memory nodes.
pub fn nodes(system: &System) -> Vec<i32> {
    let names = system.names("/sys/devices/system/node");
    let numbers = names
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok());
    let mut nodes: Vec<i32> = numbers.collect();
    nodes.sort_unstable();
    if nodes.is_empty() {
        nodes.push(0);
    }
    nodes
}

/// The numbers in a list like `0-3,8`.
fn list(text: &str) -> Vec<i32> {
    let parts = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse::<i32>().ok()?.min(65_535))
    });
    parts.flatten().collect()
}

fn node_of(system: &System, nodes: &[i32]) -> impl Fn(i32) -> i32 + use<> {
    let lists: Vec<(i32, Vec<i32>)> = nodes
        .iter()
        .map(|node| {
            let path = format!("/sys/devices/system/node/node{node}/cpulist");
            (*node, list(&system.read(&path).unwrap_or_default()))
        })
        .collect();
    move |cpu| {
        let found = lists.iter().find(|(_, cpus)| cpus.contains(&cpu));
        found.map_or(0, |(node, _)| *node)
    }
}

pub fn per_node(system: &mut System) -> Rows {
    let nodes = nodes(system);
    let node_of = node_of(system, &nodes);
    let lines = cpu_lines(system)?;
    let rows = nodes.iter().map(|node| {
        let mut sum = vec![0u64; TIMES.len()];
        for (cpu, ticks) in &lines {
            if cpu.is_some_and(|cpu| node_of(cpu) == *node) {
                for (sum, ticks) in sum.iter_mut().zip(ticks) {
                    *sum = sum.wrapping_add(*ticks);
                }
            }
        }
        let mut row = Row::new(*node, format!("node{node}"));
        set_times(&mut row, &sum, system.hertz);
        row
    });
    Ok(rows.collect())
}

/// The other lines of /proc/stat: their first numbers.
pub fn stat(system: &mut System) -> Rows {
    let mut row = Row::single();
    for line in system.read("/proc/stat")?.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(value)) = (words.next(), words.next().and_then(number)) {
            row.set(name.to_owned(), value);
        }
    }
    Ok(vec![row])
}

pub fn load(system: &mut System) -> Rows {
    let text = system.read("/proc/loadavg")?;
    let loads = text.split(' ').filter_map(|word| word.parse::<f64>().ok());
    let rows = [1, 5, 15].into_iter().zip(loads).map(|(minutes, load)| {
        let mut row = Row::new(minutes, format!("{minutes} minute"));
        row.set("average", load);
        row
    });
    Ok(rows.collect())
}

pub fn load_all(system: &mut System) -> Rows {
    let text = system.read("/proc/loadavg")?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut row = Row::single();
    if let Some((running, all)) = words.get(3).and_then(|w| w.split_once('/')) {
        row.set_some("runnable", number(running));
        row.set_some("nprocs", number(all));
    }
    row.set_some("lastpid", word(&words, 4));
    Ok(vec![row])
}

pub fn uptime(system: &mut System) -> Rows {
    let text = system.read("/proc/uptime")?;
    let mut seconds = text.split_whitespace().map(|word| word.parse::<f64>().ok());
    let mut row = Row::single();
    row.set_some("uptime", seconds.next().flatten());
    row.set_some("idletime", seconds.next().flatten());
    Ok(vec![row])
}

/// A table with a column for each processor: /proc/interrupts and /proc/softirqs. Lines without a number for each are left out.
struct PerCpu {
    cpus: Vec<i32>,
    lines: Vec<(String, Vec<u64>, String)>,
    /// Lines with one number for all, such as ERR.
    single: Vec<(String, u64)>,
}

fn per_cpu_table(system: &System, path: &str) -> Result<PerCpu, ErrorCode> {
    let text = system.read(path)?;
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default().split_whitespace();
    let cpus: Vec<i32> = head
        .filter_map(|word| word.strip_prefix("CPU")?.parse().ok())
        .collect();
    let mut table = PerCpu {
        cpus,
        lines: Vec::new(),
        single: Vec::new(),
    };
    for line in lines {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let name = name.trim().to_owned();
        let mut words = rest.split_whitespace().peekable();
        let mut counts = Vec::with_capacity(table.cpus.len());
        while counts.len() < table.cpus.len()
            && let Some(count) = words.peek().and_then(|w| number(w))
        {
            counts.push(count);
            words.next();
        }
        let is_single = matches!(name.as_str(), "ERR" | "MIS");
        match counts.first() {
            Some(first) if is_single => table.single.push((name, *first)),
            Some(_) if counts.len() == table.cpus.len() => {
                let text: Vec<&str> = words.collect();
                table.lines.push((name, counts, text.join(" ")));
            }
            _ => {}
        }
    }
    Ok(table)
}

fn totals(system: &mut System, path: &str, serial: u32) -> Rows {
    let table = per_cpu_table(system, path)?;
    let rows = table.lines.into_iter().map(|(name, counts, text)| {
        let mut row = Row::new(system.instance(serial, &name), name);
        row.set("total", counts.into_iter().fold(0, u64::wrapping_add));
        row.set("text", text);
        row
    });
    Ok(rows.collect())
}

fn each(system: &mut System, path: &str, serial: u32) -> Rows {
    let table = per_cpu_table(system, path)?;
    let mut rows = Vec::new();
    for (name, counts, text) in table.lines {
        for (count, cpu) in counts.into_iter().zip(&table.cpus) {
            let name = format!("{name}::cpu{cpu}");
            let mut row = Row::new(system.instance(serial, &name), name);
            row.set("count", count);
            row.set("text", text.as_str());
            rows.push(row);
        }
    }
    Ok(rows)
}

fn by_cpu(system: &mut System, path: &str) -> Rows {
    let table = per_cpu_table(system, path)?;
    let rows = table.cpus.iter().zip(0..).map(|(cpu, at): (_, usize)| {
        let counts = table.lines.iter().filter_map(|line| line.1.get(at));
        let mut row = Row::new(*cpu, format!("cpu{cpu}"));
        row.set("total", counts.fold(0, |sum: u64, n| sum.wrapping_add(*n)));
        row
    });
    Ok(rows.collect())
}

pub fn interrupts(system: &mut System) -> Rows {
    totals(system, "/proc/interrupts", 4)
}

pub fn interrupts_per_cpu(system: &mut System) -> Rows {
    each(system, "/proc/interrupts", 40)
}

pub fn interrupts_by_cpu(system: &mut System) -> Rows {
    by_cpu(system, "/proc/interrupts")
}

pub fn interrupts_all(system: &mut System) -> Rows {
    let table = per_cpu_table(system, "/proc/interrupts")?;
    let mut row = Row::single();
    for (name, count) in table.single {
        row.set(name.to_lowercase(), count);
    }
    Ok(vec![row])
}

pub fn softirqs(system: &mut System) -> Rows {
    totals(system, "/proc/softirqs", 36)
}

pub fn softirqs_per_cpu(system: &mut System) -> Rows {
    each(system, "/proc/softirqs", 41)
}

pub fn softirqs_by_cpu(system: &mut System) -> Rows {
    by_cpu(system, "/proc/softirqs")
}

/// /proc/cpuinfo.
pub fn info(system: &mut System) -> Rows {
    let nodes = nodes(system);
    let node_of = node_of(system, &nodes);
    let text = system.read("/proc/cpuinfo").unwrap_or_default();
    // What is said ahead of all processors, or of one architecture's behind the last, is true of each.
    let mut shared = Row::single();
    let mut said: Vec<Row> = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if key == "processor" {
            let cpu = value.parse().unwrap_or(0);
            said.push(Row::new(cpu, format!("cpu{cpu}")));
            continue;
        }
        let row = said.last_mut().unwrap_or(&mut shared);
        // The words of each architecture that the kernel runs on.
        match key {
            "cpu MHz" => row.set_some("clock", value.parse::<f64>().ok()),
            "cycle frequency [Hz]" => {
                let hertz = value.split(' ').next().and_then(|w| w.parse::<f64>().ok());
                row.set_some("clock", hertz.map(|hertz| hertz / 1e6));
            }
            "vendor_id" | "vendor" | "CPU implementer" => row.set("vendor", value),
            "model" | "CPU variant" => row.set("model", value),
            "model name" | "Hardware" => row.set("model_name", value),
            "cpu model" => {
                row.set("model", value);
                row.set("model_name", value);
            }
            "stepping" | "revision" | "cpu revision" | "CPU revision" => row.set("stepping", value),
            "cache size" => row.set_some("cache", value.split(' ').next().and_then(number)),
            "bogomips" | "BogoMIPS" | "bogomips per cpu" => {
                row.set_some("bogomips", value.parse::<f64>().ok());
            }
            "flags" | "features" | "Features" => row.set("flags", value),
            "cache_alignment" => row.set_some("cache_alignment", number(value)),
            _ => {}
        }
    }
    let rows = per_cpu(system)?.into_iter().map(|known| {
        let mut row = Row::new(known.inst, known.name);
        row.set("cpu_num", u64::try_from(row.inst).unwrap_or(0));
        row.set("cpu_node", u64::try_from(node_of(row.inst)).unwrap_or(0));
        let own = said.iter().find(|own| own.inst == row.inst);
        let sources = [own, said.last(), Some(&shared)];
        let value = |field| {
            sources
                .iter()
                .flatten()
                .find_map(|source| source.get(field))
        };
        for field in ["clock", "cache", "bogomips", "cache_alignment"] {
            row.set_some(field, value(field).cloned());
        }
        for field in ["vendor", "model", "model_name", "stepping", "flags"] {
            let unknown = || "unknown".into();
            row.set(field, value(field).cloned().unwrap_or_else(unknown));
        }
        row
    });
    Ok(rows.collect())
}

/// /sys/devices/system/cpu.
pub fn cpu_state(system: &mut System) -> Rows {
    let rows = per_cpu(system)?.into_iter().map(|known| {
        let mut row = Row::new(known.inst, known.name);
        let folder = format!("/sys/devices/system/cpu/{}", row.name);
        // The first processor can't be taken off-line everywhere.
        let online = system.number(&format!("{folder}/online")).unwrap_or(1);
        row.set("online", online);
        for part in ["core", "package"] {
            let throttle = format!("{folder}/thermal_throttle/{part}_throttle");
            for (field, file) in [("count", "count"), ("time", "total_time_ms")] {
                let value = system.number(&format!("{throttle}_{file}")).unwrap_or(0);
                row.set(format!("thermal_throttle_{part}_{field}"), value);
            }
        }
        let scaling = format!("{folder}/cpufreq");
        let times = system.read(&format!("{scaling}/stats/time_in_state"));
        if let Ok(times) = times {
            // Frequency in kHz and time at it in units of 10 ms.
            let mut count = 0u64;
            let mut time = 0u64;
            for line in times.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                if let (Some(khz), Some(ticks)) = (word(&words, 0), word(&words, 1)) {
                    count = count.wrapping_add(khz.wrapping_mul(ticks).wrapping_mul(10_000) / 1000);
                    time = time.wrapping_add(ticks.wrapping_mul(10_000));
                }
            }
            row.set("frequency_scaling_count", count);
            row.set("frequency_scaling_time", time);
        } else {
            // Drivers that do not count times tell how fast it is now.
            let khz = system.number(&format!("{scaling}/scaling_cur_freq"));
            row.set_some("frequency_scaling_count", khz.map(|khz| khz / 1000));
        }
        for limit in ["max", "min"] {
            let khz = system.number(&format!("{scaling}/scaling_{limit}_freq"));
            row.set_some(format!("frequency_scaling_{limit}"), khz.map(|k| k / 1000));
        }
        row
    });
    Ok(rows.collect())
}

pub fn node_state(system: &mut System) -> Rows {
    let online = system.read("/sys/devices/system/node/online");
    let online = online.map_or(vec![0], |text| list(&text));
    let rows = nodes(system).into_iter().map(|node| {
        let mut row = Row::new(node, format!("node{node}"));
        row.set("online", u64::from(online.contains(&node)));
        row
    });
    Ok(rows.collect())
}
