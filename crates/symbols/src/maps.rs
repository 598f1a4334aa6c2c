//! The text of `/proc/PID/maps` (proc_pid_maps(5)), from wherever it was read.

use std::path::PathBuf;

/// What a process may do with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Permissions {
    /// `r`.
    pub read: bool,
    /// `w`.
    pub write: bool,
    /// `x`.
    pub execute: bool,
    /// `s` rather than `p`: writes reach the file or other processes.
    pub shared: bool,
}

/// One line of `/proc/PID/maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First address of the process that it covers.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What the process may do with it.
    pub perms: Permissions,
    /// Where in the file it starts, in bytes.
    pub offset: u64,
    /// The file's device as (major, minor).
    pub dev: (u32, u32),
    /// The file's inode; 0 when there is no file.
    pub inode: u64,
    /// The file, or a bracketed name such as `[stack]`; `None` for anonymous memory.
    pub path: Option<PathBuf>,
    /// Whether the kernel marked the file as deleted since.
    pub deleted: bool,
}

impl Mapping {
    /// Whether a file is behind it, rather than `[heap]`, `[vdso]` or nothing.
    pub fn is_file(&self) -> bool {
        self.inode != 0
    }
}

/// Parses the text; lines that don't have the documented form are left out.
pub fn parse(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (perms, rest) = rest.trim_start().split_once(' ')?;
    let (offset, rest) = rest.trim_start().split_once(' ')?;
    let (dev, rest) = rest.trim_start().split_once(' ')?;
    let rest = rest.trim_start();
    let (inode, path) = rest.split_once(' ').unwrap_or((rest, ""));
    let (start, end) = range.split_once('-')?;
    let (major, minor) = dev.split_once(':')?;
    let perms = perms.as_bytes();
    let path = path.trim_start();
    let inode = inode.parse().ok()?;
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) if inode != 0 => (path, true),
        _ => (path, false),
    };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        perms: Permissions {
            read: perms.first() == Some(&b'r'),
            write: perms.get(1) == Some(&b'w'),
            execute: perms.get(2) == Some(&b'x'),
            shared: perms.get(3) == Some(&b's'),
        },
        offset: u64::from_str_radix(offset, 16).ok()?,
        dev: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode,
        path: (!path.is_empty()).then(|| PathBuf::from(unescape(path))),
        deleted,
    })
}

/// The kernel writes a newline in a path as `\012` (proc_pid_maps(5)).
fn unescape(path: &str) -> String {
    path.replace("\\012", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/dbus-daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1a21000-35b1a22000 rw-p 00000000 00:00 0
f2c6ff8c000-7f2c7078c000 rw-s 00000000 00:01 12 /memfd:spile arena (deleted)
7ffc-8000 ---p 00000000 fd:00 7 /tmp/with space\\012line
garbage
";

    #[test]
    fn the_manuals_forms() {
        let maps = parse(TEXT);
        assert_eq!(maps.len(), 5);
        assert_eq!(maps[0].start, 0x400000);
        assert_eq!(maps[0].offset, 0x1000);
        assert_eq!(maps[0].dev, (8, 2));
        assert!(maps[0].perms.execute && maps[0].perms.read && !maps[0].perms.write);
        assert_eq!(
            maps[0].path.as_deref(),
            Some("/usr/bin/dbus-daemon".as_ref())
        );
        assert_eq!(maps[1].path.as_deref(), Some("[heap]".as_ref()));
        assert!(!maps[1].is_file());
        assert_eq!(maps[2].path, None);
        assert_eq!(maps[3].path.as_deref(), Some("/memfd:spile arena".as_ref()));
        assert!(maps[3].deleted && maps[3].perms.shared);
        assert_eq!(
            maps[4].path.as_deref(),
            Some("/tmp/with space\nline".as_ref())
        );
    }
}
