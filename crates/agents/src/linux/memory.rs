//! Memory: /proc/meminfo, vmstat, buddyinfo, zoneinfo, slabinfo and the nodes of /sys.

use pcp::ErrorCode;

use super::processor::nodes;
use super::system::{Row, Rows, System, number, word};

/// The instance domain of slabs.
pub const SLAB: u32 = 12;

/// Numbers by name, of lines `Name: number kB`, names in small letters.
fn set_sizes(row: &mut Row, text: &str) {
    for line in text.lines() {
        if let Some((name, value)) = line.split_once(':') {
            let value = value.split_whitespace().next().and_then(number);
            if let Some(value) = value {
                row.set_found(name.chars().map(|c| c.to_ascii_lowercase()), value);
            }
        }
    }
}

/// Huge pages in bytes, from their count.
fn set_huge_pages(row: &mut Row, page_kb: u64) {
    for kind in ["total", "free", "rsvd", "surp"] {
        let pages = row.number(&format!("hugepages_{kind}"));
        let bytes = pages.map(|n| n.wrapping_mul(page_kb).wrapping_mul(1024));
        row.set_some(format!("hugepages_{kind}_bytes"), bytes);
    }
}

fn meminfo_row(system: &System) -> Result<Row, ErrorCode> {
    let mut row = Row::with_room(96);
    set_sizes(&mut row, &system.read("/proc/meminfo")?);
    Ok(row)
}

pub fn meminfo(system: &mut System) -> Rows {
    let mut row = meminfo_row(system)?;
    let kb = |row: &Row, name: &str| row.number(name);
    if let (Some(total), Some(free)) = (kb(&row, "memtotal"), kb(&row, "memfree")) {
        let used = total.saturating_sub(free);
        row.set("used", used);
        row.set("physmem_mb", total / 1024);
        if let (Some(cached), Some(buffers)) = (kb(&row, "cached"), kb(&row, "buffers")) {
            let other = used.saturating_sub(cached).saturating_sub(buffers);
            row.set("other", other);
        }
    }
    if let (Some(cached), Some(dirty)) = (kb(&row, "cached"), kb(&row, "dirty")) {
        row.set("cache_clean", cached.saturating_sub(dirty));
    }
    if let (Some(total), Some(free)) = (kb(&row, "swaptotal"), kb(&row, "swapfree")) {
        row.set("swap_length", total.wrapping_mul(1024));
        row.set("swap_free", free.wrapping_mul(1024));
        row.set("swap_used", total.saturating_sub(free).wrapping_mul(1024));
    }
    if let Some(page) = kb(&row, "hugepagesize") {
        row.set("hugepagesize_bytes", page.wrapping_mul(1024));
        set_huge_pages(&mut row, page);
    }
    Ok(vec![row])
}

pub fn vmstat(system: &mut System) -> Rows {
    let mut row = Row::with_room(256);
    for line in system.read("/proc/vmstat")?.lines() {
        if let Some((name, value)) = line.split_once(' ')
            && let Some(value) = number(value)
        {
            row.set_found(name.chars(), value);
        }
    }
    // Kernels since 2.6.19 count both kinds only, and some count by zone only.
    let slabs = |name| row.number(name).unwrap_or(0);
    let slab = slabs("nr_slab_reclaimable").wrapping_add(slabs("nr_slab_unreclaimable"));
    if row.number("nr_slab").is_none() {
        row.set("nr_slab", slab);
    }
    let scanned = |kind: &str, row: &Row| {
        let name = format!("pgscan_{kind}");
        row.sum(|field| field.starts_with(&name) && !field.ends_with("throttle"))
    };
    let (direct, kswapd) = (scanned("direct", &row), scanned("kswapd", &row));
    let stolen = row.sum(|field| field.starts_with("pgsteal_"));
    row.set("pgscan_direct_total", direct);
    row.set("pgscan_kswapd_total", kswapd);
    row.set("pgsteal_total", stolen);
    Ok(vec![row])
}

/// A row for each order of each zone, numbered as they come.
pub fn buddyinfo(system: &mut System) -> Rows {
    let text = system.read("/proc/buddyinfo")?;
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        // Node 0, zone      DMA      0      0 …
        let Some((node, rest)) = node_and_zone(line) else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let zone = words.next().unwrap_or_default();
        for (pages, order) in words.filter_map(number).zip(0u32..) {
            let inst = i32::try_from(rows.len()).unwrap_or(i32::MAX);
            let mut row = Row::new(inst, format!("{zone}::order{order}::node{node}"));
            row.set("pages", pages);
            let kb = pages.wrapping_shl(order).wrapping_mul(system.page / 1024);
            row.set("total", kb);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The number and the rest of `Node 0, zone      DMA…`.
fn node_and_zone(line: &str) -> Option<(u32, &str)> {
    let (node, rest) = line.strip_prefix("Node ")?.split_once(", zone")?;
    Some((node.trim().parse().ok()?, rest.trim()))
}

/// Counts of zones, in KB as PCP has them, and of nodes as a whole.
pub fn zoneinfo(system: &mut System) -> Rows {
    const ZONE: u32 = 32;
    let text = system.read("/proc/zoneinfo")?;
    let kb = system.page / 1024;
    let mut rows: Vec<Row> = Vec::new();
    let mut nodes: Vec<Row> = Vec::new();
    let mut in_node = false;
    for line in text.lines() {
        if let Some((node, zone)) = node_and_zone(line) {
            let of_node = format!("node{node}");
            let inst = system.instance(ZONE, &of_node);
            if nodes.iter().all(|n| n.inst != inst) {
                nodes.push(Row::new(inst, of_node));
            }
            let name = format!("{zone}::node{node}");
            rows.push(Row::new(i32::MAX, name));
            in_node = false;
            continue;
        }
        let line = line.trim_start();
        if line == "per-node stats" {
            in_node = true;
            continue;
        }
        // What stands behind the counts is of the zone's processors.
        if line.starts_with("pagesets") {
            continue;
        }
        let (name, value) = match line.strip_prefix("pages free") {
            Some(value) => {
                in_node = false;
                ("free", value)
            }
            None => line.split_once(' ').unwrap_or((line, "")),
        };
        let Some(value) = number(value.trim()) else {
            continue;
        };
        let row = if in_node {
            nodes.last_mut()
        } else {
            rows.last_mut()
        };
        if let Some(row) = row {
            // PCP has what is free as `free` only.
            if name != "nr_free_pages" {
                row.set(name.to_owned(), value.wrapping_mul(kb));
            }
        }
    }
    // Zones without memory are not there.
    rows.retain(|row| row.number("present").is_none_or(|pages| pages > 0));
    for row in &mut rows {
        row.inst = system.instance(ZONE, &row.name);
    }
    for node in &mut nodes {
        for kind in ["anon", "file"] {
            let active = node.number(&format!("workingset_activate_{kind}"));
            node.set_some(format!("workingset_active_{kind}"), active);
        }
    }
    nodes.extend(rows);
    Ok(nodes)
}

/// What each zone keeps from others.
pub fn protection(system: &mut System) -> Rows {
    let text = system.read("/proc/zoneinfo")?;
    let kb = system.page / 1024;
    let mut rows: Vec<Row> = Vec::new();
    let mut zone = String::new();
    for line in text.lines() {
        if let Some((node, name)) = node_and_zone(line) {
            zone = format!("{name}::node{node}");
        }
        let Some(values) = line.trim().strip_prefix("protection: (") else {
            continue;
        };
        let values = values.trim_end_matches(')').split(", ");
        for (pages, level) in values.filter_map(number).zip(0..) {
            let inst = i32::try_from(rows.len()).unwrap_or(i32::MAX);
            let mut row = Row::new(inst, format!("{zone}::lowmem_reserved{level}"));
            row.set("pages", pages.wrapping_mul(kb));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// /proc/slabinfo, which only root may read.
pub fn slab(system: &mut System) -> Rows {
    let text = system.read("/proc/slabinfo")?;
    let mut rows = Vec::new();
    for line in text.lines().skip(2) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(name) = words.first().filter(|_| words.len() > 14) else {
            continue;
        };
        let mut row = Row::new(system.instance(SLAB, name), *name);
        let columns = [
            ("objects_active", 1),
            ("objects_total", 2),
            ("objects_size", 3),
            ("slabs_objects_per_slab", 4),
            ("slabs_pages_per_slab", 5),
            ("slabs_active", 13),
            ("slabs_total", 14),
        ];
        for (field, at) in columns {
            row.set_some(field, word(&words, at));
        }
        let [active, per_slab, pages] = [1, 4, 5].map(|at| word(&words, at));
        if let (Some(active), Some(per_slab), Some(pages)) = (active, per_slab, pages) {
            // The share of the slabs' pages that is in use.
            let bytes = active.wrapping_mul(pages).wrapping_mul(system.page);
            row.set_some("slabs_total_size", bytes.checked_div(per_slab));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The memory of each node.
pub fn node(system: &mut System) -> Rows {
    let page = meminfo_row(system).ok();
    let page = page.and_then(|row| row.number("hugepagesize"));
    let page = page.unwrap_or(0);
    let nodes = nodes(system);
    let bandwidths = system.bandwidths.of(&nodes);
    let rows = nodes.into_iter().map(|node| {
        let mut row = Row::new(node, format!("node{node}"));
        let folder = format!("/sys/devices/system/node/node{node}");
        let sizes = system.read(&format!("{folder}/meminfo"));
        let prefix = format!("Node {node} ");
        let sizes: String = sizes
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .flat_map(|line| [line, "\n"])
            .collect();
        set_sizes(&mut row, &sizes);
        set_huge_pages(&mut row, page);
        let bandwidth = bandwidths.iter().find(|(of, _)| *of == node);
        row.set_some("max_bandwidth", bandwidth.map(|(_, mbytes)| *mbytes));
        let counts = system.read(&format!("{folder}/numastat"));
        for line in counts.unwrap_or_default().lines() {
            if let Some((name, value)) = line.split_once(' ') {
                row.set_some(name.to_owned(), number(value));
            }
        }
        row
    });
    Ok(rows.collect())
}

/// Same-page merging.
pub fn ksm(system: &mut System) -> Rows {
    let mut row = Row::single();
    for (field, file) in [
        ("full_scans", "full_scans"),
        ("merge_across_nodes", "merge_across_nodes"),
        ("pages_shared", "pages_shared"),
        ("pages_sharing", "pages_sharing"),
        ("pages_to_scan", "pages_to_scan"),
        ("pages_unshared", "pages_unshared"),
        ("pages_volatile", "pages_volatile"),
        ("run_state", "run"),
        ("sleep_time", "sleep_millisecs"),
    ] {
        row.set_some(field, system.number(&format!("/sys/kernel/mm/ksm/{file}")));
    }
    Ok(vec![row])
}

/// Files and partitions that are swapped to.
pub fn swapdev(system: &mut System) -> Rows {
    const SWAP: u32 = 6;
    let text = system.read("/proc/swaps")?;
    let mut rows = Vec::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(size), Some(used)) =
            (words.first(), word(&words, 2), word(&words, 3))
        else {
            continue;
        };
        let mut row = Row::new(system.instance(SWAP, name), *name);
        row.set("free", size.saturating_sub(used));
        for field in ["length", "maxswap", "vlength"] {
            row.set(field, size);
        }
        row.set_some("priority", word(&words, 4));
        rows.push(row);
    }
    Ok(rows)
}
