//! Whether a process is frozen by its control group: then none of its threads runs whatever is asked of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::InjectError;
use crate::proc_file::read_proc;
use crate::process::Pid;

/// Refuses a process whose control group is frozen (`cgroup.freeze` of version 2, the `freezer` of version 1), as containers
/// are that were paused. It could be stopped, but would make no call for us.
///
/// # Errors
/// [`InjectError::Frozen`]. What can't be read of the control groups counts as not frozen.
pub(crate) fn require_thawed(pid: Pid) -> Result<(), InjectError> {
    let Ok(membership) = read_proc(&format!("/proc/{pid}/cgroup")) else {
        return Ok(());
    };
    let groups = membership.lines().filter_map(Group::read);
    // The root group can't be frozen.
    let mut groups = groups.filter(|group| group.path != "/").peekable();
    if groups.peek().is_none() {
        return Ok(());
    }
    let mounts = read_proc("/proc/self/mountinfo").unwrap_or_default();
    for group in groups {
        if let Some(directory) = mounts.lines().find_map(|line| group.directory(line))
            && group.is_frozen(&directory)
        {
            return Err(InjectError::Frozen {
                pid,
                group: group.path.to_owned(),
            });
        }
    }
    Ok(())
}

/// A control group as a line of `/proc/PID/cgroup` names it (cgroups(7)).
struct Group<'a> {
    is_unified: bool,
    path: &'a str,
}

impl<'a> Group<'a> {
    /// Of the hierarchies that can freeze.
    fn read(line: &'a str) -> Option<Group<'a>> {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_unified = hierarchy == "0" && controllers.is_empty();
        (is_unified || controllers.split(',').any(|name| name == "freezer"))
            .then_some(Group { is_unified, path })
    }

    /// Its directory, if a line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)) mounts its hierarchy.
    fn directory(&self, line: &str) -> Option<PathBuf> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut kind = kind.split(' ');
        let is_mine = match self.is_unified {
            true => kind.next() == Some("cgroup2"),
            false => {
                kind.next() == Some("cgroup")
                    && kind.nth(1)?.split(',').any(|option| option == "freezer")
            }
        };
        let inside = Path::new(self.path).strip_prefix(root).ok()?;
        is_mine.then(|| Path::new(point).join(inside))
    }

    fn is_frozen(&self, directory: &Path) -> bool {
        let (name, frozen) = match self.is_unified {
            true => ("cgroup.events", "frozen 1"),
            false => ("freezer.state", "FROZEN"),
        };
        let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
        text.lines().any(|line| line == frozen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERSHIP: &str = "13:cpu,cpuacct:/busy\n7:freezer:/docker/0f3a\n1:name=systemd:/user.slice\n0::/system.slice/a b.service\n";
    const MOUNTS: &str = "\
30 23 0:26 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
31 23 0:27 /docker /run/freezer rw,nosuid shared:9 - cgroup cgroup rw,freezer
32 23 0:28 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
";

    fn directories(path: &str) -> Vec<PathBuf> {
        let groups = MEMBERSHIP.lines().filter_map(Group::read);
        let group = groups.into_iter().find(|group| group.path == path);
        let group = group.expect("it is among those that can freeze");
        MOUNTS
            .lines()
            .filter_map(|line| group.directory(line))
            .collect()
    }

    #[test]
    fn groups_are_found_below_their_mounts() {
        let known: Vec<&str> = MEMBERSHIP
            .lines()
            .filter_map(Group::read)
            .map(|group| group.path)
            .collect();
        assert_eq!(known, ["/docker/0f3a", "/system.slice/a b.service"]);
        assert_eq!(
            directories("/docker/0f3a"),
            [
                PathBuf::from("/sys/fs/cgroup/freezer/docker/0f3a"),
                PathBuf::from("/run/freezer/0f3a"),
            ]
        );
        assert_eq!(
            directories("/system.slice/a b.service"),
            [PathBuf::from(
                "/sys/fs/cgroup/unified/system.slice/a b.service"
            )]
        );
    }

    #[test]
    fn a_frozen_group_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let group = |is_unified| Group {
            is_unified,
            path: "/a",
        };
        let write = |name: &str, text: &str| {
            fs::write(directory.path().join(name), text).expect("a file is written");
        };
        assert!(!group(true).is_frozen(directory.path()));
        write("cgroup.events", "populated 1\nfrozen 0\n");
        write("freezer.state", "THAWED\n");
        assert!(!group(true).is_frozen(directory.path()));
        assert!(!group(false).is_frozen(directory.path()));
        write("cgroup.events", "populated 1\nfrozen 1\n");
        assert!(group(true).is_frozen(directory.path()));
        write("freezer.state", "FROZEN\n");
        assert!(group(false).is_frozen(directory.path()));
    }
}
