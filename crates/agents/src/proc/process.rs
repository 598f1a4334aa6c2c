//! One process: the files of its folder in /proc (proc(5)).

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use crate::linux::system::{Raw, Row, System, number, word};

/// The names of users and groups that were asked for.
#[derive(Default)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    /// A user's name, or its number when it has none.
    pub fn user(&mut self, id: u32) -> String {
        let name = self.users.entry(id).or_insert_with(|| {
            let user = User::from_uid(Uid::from_raw(id)).ok().flatten();
            user.map_or_else(|| id.to_string(), |user| user.name)
        });
        name.clone()
    }

    /// A group's.
    pub fn group(&mut self, id: u32) -> String {
        let name = self.groups.entry(id).or_insert_with(|| {
            let group = Group::from_gid(Gid::from_raw(id)).ok().flatten();
            group.map_or_else(|| id.to_string(), |group| group.name)
        });
        name.clone()
    }
}

/// A process, or a thread, as it was found: its number and its line of `stat`.
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Where its files are.
    folder: PathBuf,
    /// The user whose it is.
    pub uid: u32,
    /// Its name, without parentheses.
    name: String,
    /// The words of `stat` behind the name.
    stat: Vec<String>,
    /// Its command line, blanks between the words.
    args: String,
}

/// Reads a text that may be in any encoding.
fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Words that end in NULs, with blanks between.
fn words(path: &Path) -> Option<String> {
    let text = text(path)?;
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

/// The columns of `stat` behind the state, by PCP's names.
const STAT: [(&str, usize); 31] = [
    ("ppid", 1),
    ("pgrp", 2),
    ("session", 3),
    ("tty", 4),
    ("tty_pgrp", 5),
    ("flags", 6),
    ("minflt", 7),
    ("cminflt", 8),
    ("majflt", 9),
    ("cmajflt", 10),
    ("priority", 15),
    ("nice", 16),
    ("itreal", 18),
    ("startcode", 23),
    ("endcode", 24),
    ("startstack", 25),
    ("esp", 26),
    ("eip", 27),
    ("signal", 28),
    ("blocked", 29),
    ("sigignore", 30),
    ("sigcatch", 31),
    ("wchan", 32),
    ("nswap", 33),
    ("cnswap", 34),
    ("exit_signal", 35),
    ("processor", 36),
    ("rt_priority", 37),
    ("policy", 38),
    ("rss_pages", 21),
    ("vsize_bytes", 20),
];

/// Those that are in ticks.
const TICKS: [(&str, usize); 8] = [
    ("utime", 11),
    ("stime", 12),
    ("cutime", 13),
    ("cstime", 14),
    ("starttime", 19),
    ("blkio", 39),
    ("guest", 40),
    ("cguest", 41),
];

/// Leaves a process and all that come from it.
pub fn keep_family(all: &mut Vec<Process>, first: i32) {
    let parents: HashMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent())).collect();
    all.retain(|process| {
        let up = |pid: &i32| parents.get(pid).copied().filter(|parent| *parent > 0);
        // Numbers may be given anew while they are read: no line is longer than all are.
        let line = std::iter::successors(Some(process.pid), up).take(parents.len());
        line.into_iter().any(|pid| pid == first)
    });
}

/// What a process is called of which nothing can be read any more.
const EXITING: &str = "<exiting>";

const POLICIES: [&str; 7] = ["NORMAL", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE"];

impl Process {
    /// A process that is there.
    pub fn find(system: &System, pid: i32) -> Option<Process> {
        Process::at(system.path(&format!("/proc/{pid}")), pid)
    }

    /// Its threads, the first among them, in order.
    pub fn threads(&self) -> Vec<Process> {
        let entries = fs::read_dir(self.folder.join("task"));
        let names = entries.into_iter().flatten().flatten();
        let mut tids: Vec<i32> = names
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        tids.sort_unstable();
        let found = tids.into_iter().filter_map(|tid| {
            // The kernel has the files of a process for each thread, though it does not list them.
            let known = Process::at(self.folder.with_file_name(tid.to_string()), tid);
            known.or_else(|| Process::at(self.folder.join("task").join(tid.to_string()), tid))
        });
        found.collect()
    }

    fn at(folder: PathBuf, pid: i32) -> Option<Process> {
        use std::os::unix::fs::MetadataExt;
        let uid = fs::metadata(&folder).ok()?.uid();
        let Some(stat) = text(&folder.join("stat")) else {
            // Its files went ahead of the folder.
            return Some(Process {
                pid,
                uid,
                name: EXITING.to_owned(),
                stat: Vec::new(),
                args: EXITING.to_owned(),
                folder,
            });
        };
        let (head, rest) = stat.rsplit_once(") ")?;
        let (_, name) = head.split_once(" (")?;
        Some(Process {
            pid,
            uid,
            name: name.to_owned(),
            stat: rest.split_whitespace().map(str::to_owned).collect(),
            args: words(&folder.join("cmdline")).unwrap_or_default(),
            folder,
        })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The name of its program's file, of at most 15 characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its command line; its name in parentheses when it has none.
    pub fn command_line(&self) -> String {
        if self.args.is_empty() {
            format!("({})", self.name)
        } else {
            self.args.clone()
        }
    }

    /// The name of its instance: its number in six digits, and its program.
    pub fn instance_name(&self) -> String {
        let program = self.args.split(' ').next().unwrap_or_default();
        if program.is_empty() {
            format!("{:06} ({})", self.pid, self.name)
        } else {
            format!("{:06} {program}", self.pid)
        }
    }

    /// Its state, a letter.
    pub fn state(&self) -> &str {
        self.stat.first().map_or("", String::as_str)
    }

    /// The number of the process that it comes from; 0 for the first ones.
    pub fn parent(&self) -> i32 {
        let parent = self.stat.get(1).and_then(|word| word.parse().ok());
        parent.unwrap_or(0)
    }

    /// Whether it has memory of its own.
    pub fn is_in_memory(&self) -> bool {
        self.stat.get(21).is_some_and(|pages| pages != "0")
    }

    /// `stat`, and what follows from it.
    pub fn set_stat(&self, row: &mut Row, system: &System) {
        let words: Vec<&str> = self.stat.iter().map(String::as_str).collect();
        row.set("pid", u64::try_from(self.pid).unwrap_or(0));
        if self.stat.is_empty() {
            row.set("psargs", EXITING);
            return;
        }
        row.set("cmd", self.name.as_str());
        row.set("state", self.state());
        for (field, at) in STAT {
            // Without a terminal there is no group in its foreground.
            let is_none = field == "tty_pgrp" && words.get(at).is_some_and(|w| w.starts_with('-'));
            if !is_none {
                row.set_some(field, word(&words, at));
            }
        }
        for (field, at) in TICKS {
            let ticks = word(&words, at);
            let ms = ticks.map(|t| t.wrapping_mul(1000) / system.hertz);
            row.set_some(field, ms);
        }
        row.set_some("vsize", word(&words, 20).map(|bytes| bytes / 1024));
        let kb = system.page / 1024;
        row.set_some("rss", word(&words, 21).map(|pages| pages.wrapping_mul(kb)));
        row.set_some("rsslim", word(&words, 22).map(|bytes| bytes / 1024));
        let policy = word(&words, 38).and_then(|p| usize::try_from(p).ok());
        let policy = policy.and_then(|p| POLICIES.get(p).copied());
        row.set("policy_s", policy.unwrap_or("?"));
        row.set("ttyname", terminal(word(&words, 4).unwrap_or(0)));
        row.set("psargs", self.command_line());
    }

    /// `statm`, in KB.
    pub fn set_statm(&self, row: &mut Row, system: &System) {
        let pages = text(&self.path("statm")).unwrap_or_default();
        let pages: Vec<&str> = pages.split_whitespace().collect();
        let fields = [
            "size", "rss", "share", "textrss", "librss", "datrss", "dirty",
        ];
        for (field, at) in fields.into_iter().zip(0..) {
            let kb = word(&pages, at).map(|n| n.wrapping_mul(system.page / 1024));
            row.set_some(field, kb);
        }
    }

    /// `status`.
    pub fn set_status(&self, row: &mut Row, names: &mut Names) {
        if self.stat.is_empty() {
            return;
        }
        let text = text(&self.path("status")).unwrap_or_default();
        for field in SIZES.map(|(_, field)| field) {
            // A thread of the kernel has none.
            row.set(field, 0);
        }
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            let first = value.split_whitespace().next().unwrap_or_default();
            if let Some((_, field)) = SIZES.iter().find(|(n, _)| *n == name) {
                row.set_some(*field, number(first));
                continue;
            }
            match name {
                "Uid" | "Gid" => set_ids(row, names, name == "Uid", value),
                "SigPnd" => row.set("psinfo_signal_s", first),
                "SigBlk" => row.set("psinfo_blocked_s", first),
                "SigIgn" => row.set("psinfo_sigignore_s", first),
                "SigCgt" => row.set("psinfo_sigcatch_s", first),
                "Threads" => row.set_some("psinfo_threads", number(first)),
                "voluntary_ctxt_switches" => row.set_some("psinfo_vctxsw", number(first)),
                "nonvoluntary_ctxt_switches" => row.set_some("psinfo_nvctxsw", number(first)),
                "Cpus_allowed_list" => row.set("psinfo_cpusallowed", value),
                "Ngid" => row.set_some("psinfo_ngid", number(first)),
                "Tgid" => row.set_some("psinfo_tgid", number(first)),
                "NStgid" => row.set("namespaces_tgid", one_blank(value)),
                "NSpid" => row.set("namespaces_pid", one_blank(value)),
                "NSpgid" => row.set("namespaces_pgid", one_blank(value)),
                "NSsid" => row.set("namespaces_sid", one_blank(value)),
                _ => {}
            }
        }
        let kb = |row: &Row, field| row.number(field).unwrap_or(0);
        let real = kb(row, "memory_vmrss").wrapping_add(kb(row, "memory_vmswap"));
        row.set("memory_vmreal", real);
        let own = kb(row, "memory_vmrss").saturating_sub(kb(row, "memory_vmlib"));
        row.set("memory_vmnonlib", own);
    }

    /// `schedstat`.
    pub fn set_schedstat(&self, row: &mut Row) {
        let text = text(&self.path("schedstat")).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        for (field, at) in [("cpu_time", 0), ("run_delay", 1), ("pcount", 2)] {
            row.set_some(field, word(&words, at));
        }
    }

    /// Lines `name: number` of `io` or `smaps_rollup`, names in small letters.
    pub fn set_numbers(&self, row: &mut Row, file: &str) {
        for line in text(&self.path(file)).unwrap_or_default().lines() {
            if let Some((name, value)) = line.split_once(':') {
                let value = value.split_whitespace().next().and_then(number);
                row.set_some(name.to_lowercase(), value);
            }
        }
    }

    /// What is in files of one value that all may read.
    pub fn set_files(&self, row: &mut Row) {
        row.set_some("wchan", text(&self.path("wchan")));
        let score = text(&self.path("oom_score"));
        row.set_some("oom_score", score.and_then(|s| number(s.trim())));
    }

    /// What only its user and root may read.
    pub fn set_private(&self, row: &mut Row) {
        let link = |file: &str| {
            let target = fs::read_link(self.path(file)).ok();
            target.map_or_else(String::new, |t| t.to_string_lossy().into_owned())
        };
        row.set("exe", link("exe"));
        row.set("cwd", link("cwd"));
        row.set("environ", words(&self.path("environ")).unwrap_or_default());
        row.set("maps", text(&self.path("maps")).unwrap_or_default());
        let files = fs::read_dir(self.path("fd")).map(|entries| entries.count() as u64);
        row.set_some("fd_count", files.ok());
    }

    /// What a security module calls it; nothing without one.
    pub fn set_security(&self, row: &mut Row) {
        let label = text(&self.path("attr/current"));
        let label = label.map(|label| label.trim_end_matches(['\0', '\n']).to_owned());
        row.set_some("label", label);
    }

    /// Whether it is in a control group, in any hierarchy, by the path that the kernel says.
    pub fn is_in(&self, group: &str) -> bool {
        let groups = text(&self.path("cgroup")).unwrap_or_default();
        let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let group = group.trim_end_matches('/');
        paths.any(|path| {
            let inside = path.strip_prefix(group);
            inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Its control groups, and the container that they are of.
    pub fn set_cgroups(&self, row: &mut Row) {
        let text = text(&self.path("cgroup")).unwrap_or_default();
        let groups = text.lines().filter_map(|line| line.split_once(':'));
        let groups: Vec<&str> = groups.map(|(_, group)| group).collect();
        row.set("container", container(&text));
        row.set("cgroups", groups.join(";"));
    }

    /// Its group of the automatic grouping of tasks.
    pub fn set_autogroup(&self, row: &mut Row) {
        // /autogroup-21 nice 0
        let text = text(&self.path("autogroup")).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let id = words.first().and_then(|w| w.strip_prefix("/autogroup-"));
        row.set("id", id.and_then(number).unwrap_or(0));
        row.set("nice", word(&words, 2).unwrap_or(0));
    }
}

/// Sizes in `status`, in KB.
const SIZES: [(&str, &str); 12] = [
    ("VmSize", "memory_vmsize"),
    ("VmLck", "memory_vmlock"),
    ("VmRSS", "memory_vmrss"),
    ("VmData", "memory_vmdata"),
    ("VmStk", "memory_vmstack"),
    ("VmExe", "memory_vmexe"),
    ("VmLib", "memory_vmlib"),
    ("VmSwap", "memory_vmswap"),
    ("VmPeak", "memory_vmpeak"),
    ("VmPin", "memory_vmpin"),
    ("VmHWM", "memory_vmhwm"),
    ("VmPTE", "memory_vmpte"),
];

fn one_blank(text: &str) -> Raw {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").into()
}

/// The four users or groups that a process acts for, and their names.
fn set_ids(row: &mut Row, names: &mut Names, is_user: bool, value: &str) {
    let fields = if is_user {
        ["uid", "euid", "suid", "fsuid"]
    } else {
        ["gid", "egid", "sgid", "fsgid"]
    };
    for (field, id) in fields.iter().zip(value.split_whitespace()) {
        let Some(id) = id.parse::<u32>().ok() else {
            continue;
        };
        row.set(format!("id_{field}"), u64::from(id));
        let name = match is_user {
            true => names.user(id),
            false => names.group(id),
        };
        row.set(format!("id_{field}_nm"), name);
    }
}

/// The name of a terminal by its device number (tty_nr in proc(5)).
pub fn terminal(device: u64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

/// The name of a container in the paths of control groups: 64 hexadecimal digits.
fn container(cgroups: &str) -> &str {
    let parts = cgroups.split(['/', '-', '.', '\n', ':']);
    let mut ids = parts.filter(|p| p.len() == 64 && p.bytes().all(|b| b.is_ascii_hexdigit()));
    ids.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_who_comes_from_its_first() {
        let process = |(pid, parent): (i32, i32)| Process {
            pid,
            folder: PathBuf::new(),
            uid: 0,
            name: String::new(),
            stat: vec!["S".to_owned(), parent.to_string()],
            args: String::new(),
        };
        // The last two are each other's parents, as numbers that were given anew may look.
        let pairs = [
            (1, 0),
            (10, 1),
            (11, 10),
            (12, 11),
            (20, 1),
            (21, 20),
            (30, 31),
            (31, 30),
        ];
        let mut all: Vec<Process> = pairs.into_iter().map(process).collect();
        keep_family(&mut all, 10);
        assert_eq!(all.iter().map(|p| p.pid).collect::<Vec<_>>(), [10, 11, 12]);
        keep_family(&mut all, 99);
        assert!(all.is_empty());
    }

    #[test]
    fn terminals_have_the_names_of_their_devices() {
        // As mknod(1) numbers them: 4:1, 4:64, 136:5.
        assert_eq!(terminal(0x0401), "tty1");
        assert_eq!(terminal(0x0440), "ttyS0");
        assert_eq!(terminal(0x8805), "pts/5");
        assert_eq!(terminal(0), "?");
    }

    #[test]
    fn containers_are_found_in_paths() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(
            container(&format!("0::/system.slice/docker-{id}.scope\n")),
            id
        );
        assert_eq!(container("1:cpu:/\n"), "");
    }
}
