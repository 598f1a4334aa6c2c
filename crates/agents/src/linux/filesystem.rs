//! File systems, and the kernel's tables of open files and locks.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::system::{Row, Rows, System, number, word};

const FILESYS: u32 = 5;
const TMPFS: u32 = 18;

/// A line of /proc/mounts.
struct Mount {
    device: String,
    folder: String,
    kind: String,
}

/// Undoes the kernel's writing of spaces and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|d| d.iter().all(|b| (b'0'..b'8').contains(b)));
        match digits {
            Some(&[a, b, c]) if *first == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn mounts(system: &System) -> Result<Vec<Mount>, pcp::ErrorCode> {
    let text = system.read("/proc/mounts")?;
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split(' ').map(unescape);
        Some(Mount {
            device: words.next()?,
            folder: words.next()?,
            kind: words.next()?,
        })
    });
    Ok(mounts.collect())
}

/// What statvfs(3) says, in PCP's units.
fn set_sizes(row: &mut Row, folder: &Path) -> Option<()> {
    let stat = statvfs(folder).ok()?;
    let unit = stat.fragment_size();
    let kb = |blocks: u64| (u128::from(blocks) * u128::from(unit) / 1024) as u64;
    let (total, free, available) = (stat.blocks(), stat.blocks_free(), stat.blocks_available());
    row.set("capacity", kb(total));
    row.set("used", kb(total.saturating_sub(free)));
    row.set("free", kb(free));
    row.set("avail", kb(available));
    row.set("maxfiles", stat.files());
    row.set("freefiles", stat.files_free());
    row.set("usedfiles", stat.files().saturating_sub(stat.files_free()));
    row.set("blocksize", stat.block_size());
    // Of what is there for all, as df(1) says it.
    let used = total.saturating_sub(free);
    let usable = used.saturating_add(available);
    let full = if usable == 0 {
        0.0
    } else {
        used as f64 / usable as f64 * 100.0
    };
    row.set("full", full);
    let read_only = stat.flags().contains(FsFlags::ST_RDONLY);
    row.set("readonly", u64::from(read_only));
    Some(())
}

/// The local file systems, by their devices.
pub fn filesystems(system: &mut System) -> Rows {
    let mut rows: Vec<Row> = Vec::new();
    for mount in mounts(system)? {
        let is_local = mount.device.starts_with("/dev") && mount.device != "/dev/root"
            || matches!(mount.kind.as_str(), "btrfs" | "xfs" | "zfs");
        let device = match std::fs::canonicalize(&mount.device) {
            // What it is called in /dev/mapper says more than dm-0.
            Ok(path) if !mount.device.starts_with("/dev/mapper") => {
                path.to_string_lossy().into_owned()
            }
            _ => mount.device,
        };
        if !is_local || rows.iter().any(|row| row.name == device) {
            continue;
        }
        let mut row = Row::new(system.instance(FILESYS, &device), device);
        row.set("mountdir", mount.folder.as_str());
        // One that can't be asked has a name all the same.
        let _ = set_sizes(&mut row, &system.folder(&mount.folder));
        rows.push(row);
    }
    Ok(rows)
}

/// File systems in memory, by where they are mounted.
pub fn tmpfs(system: &mut System) -> Rows {
    let mut rows: Vec<Row> = Vec::new();
    for mount in mounts(system)? {
        if mount.kind != "tmpfs" || rows.iter().any(|row| row.name == mount.folder) {
            continue;
        }
        let inst = system.instance(TMPFS, &mount.folder);
        let mut row = Row::new(inst, mount.folder);
        let folder = row.name.clone();
        let _ = set_sizes(&mut row, &system.folder(&folder));
        rows.push(row);
    }
    Ok(rows)
}

/// /proc/sys/fs.
pub fn vfs(system: &mut System) -> Rows {
    let mut row = Row::single();
    for (file, fields) in [
        (
            "file-nr",
            &[("files_count", 0), ("files_free", 1), ("files_max", 2)][..],
        ),
        ("inode-state", &[("inodes_count", 0), ("inodes_free", 1)]),
        ("dentry-state", &[("dentry_count", 0), ("dentry_free", 1)]),
        ("aio-nr", &[("aio_count", 0)]),
        ("aio-max-nr", &[("aio_max", 0)]),
    ] {
        let text = system
            .read(&format!("/proc/sys/fs/{file}"))
            .unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        for (field, at) in fields {
            row.set_some(*field, word(&words, *at));
        }
    }
    Ok(vec![row])
}

pub fn locks(system: &mut System) -> Rows {
    let text = system.read("/proc/locks").unwrap_or_default();
    let mut row = Row::single();
    for kind in ["posix", "flock", "lease"] {
        let count = |access: &str| {
            let lines = text.lines().filter(|line| {
                let mut words = line.split_whitespace();
                // One that waits has an arrow behind its number.
                let has = |word: Option<&str>, wanted: &str| {
                    word.is_some_and(|w| w.eq_ignore_ascii_case(wanted))
                };
                has(words.nth(1), kind) && has(words.nth(1), access)
            });
            lines.count() as u64
        };
        let (read, write) = (count("read"), count("write"));
        row.set(format!("{kind}_read"), read);
        row.set(format!("{kind}_write"), write);
        row.set(format!("{kind}_count"), read + write);
    }
    Ok(vec![row])
}

/// Serial lines, /proc/tty/driver/serial, which only root may read.
pub fn tty(system: &mut System) -> Rows {
    let text = system.read("/proc/tty/driver/serial")?;
    let rows = text.lines().skip(1).filter_map(|line| {
        let (line_number, rest) = line.split_once(':')?;
        let mut row = Row::new(line_number.trim().parse().ok()?, line_number.trim());
        // A line that was never used has no counts.
        if !rest.contains(" tx:") {
            return None;
        }
        for field in ["tx", "rx", "frame", "parity", "brk", "overrun", "irq"] {
            row.set(field, 0);
        }
        for word in rest.split_whitespace() {
            let Some((name, value)) = word.split_once(':') else {
                continue;
            };
            let field = match name {
                "tx" => "tx",
                "rx" => "rx",
                "fe" => "frame",
                "pe" => "parity",
                "brk" => "brk",
                "oe" => "overrun",
                "irq" => "irq",
                _ => continue,
            };
            row.set_some(field, number(value));
        }
        Some(row)
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_escapes_are_undone() {
        assert_eq!(super::unescape(r"/a\040b\134c\n"), r"/a b\c\n");
    }
}
