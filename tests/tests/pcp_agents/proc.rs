//! The agent `proc`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use pcp::{Atom, ErrorCode, HostContext, HostSpec};
use spile_tests::pcp_peer::Pmcd;
use spile_tests::{Guard, Scratch, spile_path, until};

use super::{
    BOTH, context, debian, debian_pmcd, name_space, names_of, our_pmcd, pmid,
    private_configuration, store, values,
};

fn control_groups(root: &Path, version: u32) {
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write(
        "proc/stat",
        "cpu  1 2 3 4 5 6 7 0 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n",
    );
    write(
        "proc/diskstats",
        "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n 253       0 dm-0 1 2 3 4 5 6 7 8 9 10 11\n",
    );
    write(
        "proc/cgroups",
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t2\t3\t1\ncpu\t3\t3\t1\ncpuacct\t3\t3\t1\nmemory\t4\t3\t1\nblkio\t5\t3\t0\n",
    );
    if version == 1 {
        let mounts = ["cpuset", "cpu,cpuacct", "memory", "blkio"]
            .map(|c| format!("cgroup /sys/fs/cgroup/{c} cgroup rw,relatime,{c} 0 0\n"));
        write("proc/mounts", &mounts.concat());
        for (n, group) in (1..).zip(["", "/a.slice", "/a.slice/b\\x2dc.service"]) {
            let file = |name: &str, text: String| write(&format!("sys/fs/cgroup/{name}"), &text);
            file(&format!("cpuset{group}/cpuset.cpus"), "0-1\n".to_owned());
            file(&format!("cpuset{group}/cpuset.mems"), "0\n".to_owned());
            let cpu = format!("cpu,cpuacct{group}");
            file(
                &format!("{cpu}/cpuacct.stat"),
                format!("user {n}1\nsystem {n}2\n"),
            );
            file(&format!("{cpu}/cpuacct.usage"), format!("{n}300\n"));
            file(
                &format!("{cpu}/cpuacct.usage_percpu"),
                format!("{n}100 {n}200 \n"),
            );
            file(&format!("{cpu}/cpu.shares"), "1024\n".to_owned());
            file(&format!("{cpu}/cpu.cfs_period_us"), "100000\n".to_owned());
            file(&format!("{cpu}/cpu.cfs_quota_us"), "-1\n".to_owned());
            file(
                &format!("{cpu}/cpu.stat"),
                format!("nr_periods {n}\nnr_throttled 2\nthrottled_time 3{n}\n"),
            );
            let memory = format!("memory{group}");
            file(
                &format!("{memory}/memory.stat"),
                format!("cache {n}1\nrss 2\ntotal_cache {n}3\nrecent_rotated_anon 4\n"),
            );
            file(
                &format!("{memory}/memory.usage_in_bytes"),
                format!("{n}4096\n"),
            );
            file(
                &format!("{memory}/memory.limit_in_bytes"),
                "65536\n".to_owned(),
            );
            file(&format!("{memory}/memory.failcnt"), format!("{n}\n"));
            let io = "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Async 4\n8:0 Total 3\n253:0 Read 5\n253:0 Write 6\n253:0 Sync 7\n253:0 Async 8\n253:0 Total 11\nTotal 14\n";
            file(
                &format!("blkio{group}/blkio.throttle.io_serviced"),
                io.to_owned(),
            );
            file(&format!("blkio{group}/blkio.io_merged"), io.to_owned());
            file(&format!("blkio{group}/blkio.time"), format!("8:0 {n}7\n"));
            file(
                &format!("blkio{group}/blkio.sectors"),
                "8:0 10\n".to_owned(),
            );
        }
        return;
    }
    write(
        "proc/mounts",
        "cgroup2 /sys/fs/cgroup cgroup2 rw,relatime 0 0\n",
    );
    for (n, group) in (1..).zip(["", "/a.slice", "/a.slice/b.service"]) {
        let file = |name: &str, text: String| write(&format!("sys/fs/cgroup{group}/{name}"), &text);
        file(
            "cpu.stat",
            format!("usage_usec {n}3\nuser_usec {n}1\nsystem_usec {n}2\n"),
        );
        for resource in ["cpu", "io", "memory"] {
            let some = "some avg10=0.50 avg60=0.25 avg300=0.00 total=123\n";
            let full = if resource == "cpu" {
                ""
            } else {
                "full avg10=1.50 avg60=0.00 avg300=0.00 total=45\n"
            };
            file(&format!("{resource}.pressure"), format!("{some}{full}"));
        }
        file(
            "io.stat",
            format!("8:0 rbytes={n}1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n"),
        );
        file("memory.current", format!("{n}4096\n"));
        file(
            "memory.stat",
            format!("anon {n}1\nfile 2\nslab 3\nworkingset_refault 4\npgfault 5\n"),
        );
    }
}

#[test]
fn control_groups_are_those_of_debians_agent() {
    for version in [1, 2] {
        let scratch = Scratch::new(&format!("agents-cgroup-{version}"));
        let tree = scratch.path("tree");
        control_groups(&tree, version);
        let config = format!(
            "theirs 60 pipe binary {} -d 60\nours 61 pipe binary {} pmdaproc -d 61\n",
            debian().join("usr/lib/pcp/pmdas/proc/pmdaproc").display(),
            spile_path().display()
        );
        let names: Vec<_> = names_of("proc")
            .into_iter()
            .filter(|(name, _)| name.starts_with("cgroup.") || name.starts_with("acct.control."))
            .collect();
        let mut command = debian_pmcd();
        command.env("PCP_CONF", private_configuration(&scratch));
        command.env("PROC_STATSPATH", &tree);
        let pmcd = Pmcd::start(scratch, command, &config, &name_space(&BOTH, &names));
        let mut context = context(&pmcd);
        let mut shown = |root: &str, name: &str| {
            let metric = pmid(&mut context, &format!("{root}.{name}"));
            let desc = context.desc(metric).expect("a descriptor");
            let found = values(&mut context, &[desc]).remove(0).expect("values");
            let instances = if desc.indom.is_null() {
                Vec::new()
            } else {
                context.instances(desc.indom).expect("instances")
            };
            let named = found.into_iter().map(|(inst, value)| {
                let name = instances.iter().find(|i| i.inst == inst);
                (name.map(|i| i.name.to_string()), value)
            });
            named.collect::<Vec<_>>()
        };
        let mut with_values = 0;
        for (name, _) in &names {
            // Where version 2 has no such files Debian's agent shows empty texts and zeros, and zeros for all averages.
            let made_up = version == 2
                && (name.contains(".id.container")
                    || name.contains(".avg")
                    || name.starts_with("cgroup.cpuset")
                    || name.starts_with("cgroup.cpuacct"));
            if made_up {
                continue;
            }
            let (mut theirs, mut ours) = (shown("theirs", name), shown("ours", name));
            theirs.sort_by(|a, b| a.0.cmp(&b.0));
            ours.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(ours, theirs, "version {version}: {name}");
            with_values += usize::from(!ours.is_empty());
        }
        assert!(with_values > 30, "{with_values} metrics have values");
        if version == 2 {
            // As the file says.
            let average = shown("ours", "cgroup.pressure.io.full.avg10sec");
            assert_eq!(average.len(), 3);
            assert!(average.iter().all(|(_, value)| *value == Atom::Float(1.5)));
        }
    }
}

/// Two of our agents, of which the first takes all clients for root's, with a folder of their own.
fn two_agents(scratch: Scratch, variables: &[(&str, &Path)]) -> Pmcd {
    let spile = spile_path();
    let config = format!(
        "open 60 pipe binary {0} pmdaproc -A -d 60\nstrict 61 pipe binary {0} pmdaproc -d 61\n",
        spile.display()
    );
    let mut command = our_pmcd();
    command.env("PCP_CONF", private_configuration(&scratch));
    command.envs(variables.iter().copied());
    let names = name_space(&[("open", 60), ("strict", 61)], &names_of("proc"));
    Pmcd::start(scratch, command, &config, &names)
}

/// The values of a metric by instance.
fn by_instance(context: &mut HostContext, name: &str) -> Vec<(i32, Atom)> {
    let metric = pmid(context, name);
    let desc = context.desc(metric).expect("a descriptor");
    let found = values(context, &[desc]).remove(0);
    found
        .unwrap_or_else(|e| panic!("{name}: {e}"))
        .into_iter()
        .collect()
}

fn only(context: &mut HostContext, name: &str) -> Atom {
    let mut found = by_instance(context, name);
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0).1
}

fn text(text: &str) -> Atom {
    Atom::String(text.into())
}

/// A shell that runs a script, with a word behind it in its command line.
fn shell(script: &str, word: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script, word]).stdin(Stdio::piped());
    command.spawn().expect("sh")
}

#[test]
fn processes_are_hot_for_which_the_predicate_holds() {
    let scratch = Scratch::new("agents-hotproc");
    fs::create_dir(scratch.path("proc")).expect("a folder");
    let word = format!("spile-hot-{}", std::process::id());
    let file = format!("#pmdahotproc\nVersion 1.0\n\npsargs ~ /{word}$/ # both\n");
    scratch.write("proc/hotproc.conf", &file);
    let from_file = format!("(psargs ~ \"{word}$\")");
    let busy = Guard(shell("while :; do :; done", &word));
    let idle = Guard(shell("read line", &word));
    let pids = [&busy, &idle].map(|g| i32::try_from(g.0.id()).expect("a number"));
    let pmcd = two_agents(scratch, &[]);
    let mut client = context(&pmcd);
    let hot = |client: &mut HostContext| -> BTreeSet<i32> {
        let found = by_instance(client, "open.hotproc.psinfo.pid");
        found.into_iter().map(|(pid, _)| pid).collect()
    };
    assert_eq!(
        only(&mut client, "open.hotproc.control.refresh"),
        Atom::U32(10)
    );
    store(&mut client, "open.hotproc.control.refresh", Atom::U32(1)).expect("stored");
    until("both are hot", || hot(&mut client) == BTreeSet::from(pids));
    assert_eq!(
        only(&mut client, "open.hotproc.control.config"),
        text(&from_file)
    );
    assert_eq!(
        only(&mut client, "open.hotproc.control.config_gen"),
        Atom::U32(1)
    );

    let config = format!("psargs ~ /{word}/ && cpuburn > 0.001");
    let shown = format!("((psargs ~ \"{word}\") && (cpuburn > 0.001000))");
    store(&mut client, "open.hotproc.control.config", text(&config)).expect("stored");
    until("one is busy", || {
        hot(&mut client) == BTreeSet::from([pids[0]])
    });
    assert_eq!(only(&mut client, "open.hotproc.nprocs"), Atom::U32(1));
    let burn = only(&mut client, "open.hotproc.predicate.cpuburn");
    let total = only(&mut client, "open.hotproc.total.cpuburn");
    assert!(burn.as_f64().is_some_and(|burn| burn > 0.001), "{burn:?}");
    assert!(
        total.as_f64().is_some_and(|total| total > 0.001),
        "{total:?}"
    );
    let command = only(&mut client, "open.hotproc.psinfo.psargs");
    assert_eq!(command, text(&format!("sh -c while :; do :; done {word}")));

    for wrong in ["uid = 0", "foo == 42", "fname ~ /(/", "uid == 0 &&"] {
        let refused = store(&mut client, "open.hotproc.control.config", text(wrong));
        assert_eq!(refused, Err(ErrorCode::BADSTORE), "{wrong}");
    }
    assert_eq!(
        only(&mut client, "open.hotproc.control.config"),
        text(&shown)
    );
    drop(busy);
    until("none is hot", || hot(&mut client).is_empty());
    store(
        &mut client,
        "open.hotproc.control.reload_config",
        Atom::U32(1),
    )
    .expect("stored");
    assert_eq!(
        only(&mut client, "open.hotproc.control.config"),
        text(&from_file)
    );
    store(&mut client, "open.hotproc.control.config", text("")).expect("stored");
    assert_eq!(only(&mut client, "open.hotproc.control.config"), text(""));
    assert_eq!(only(&mut client, "open.hotproc.nprocs"), Atom::U32(0));

    // Who is not known to be root may look only.
    let spec: HostSpec = format!("127.0.0.1:{}", pmcd.port).parse().expect("a host");
    let mut unknown = HostContext::new(spec, "a stranger").expect("a context");
    for (name, value) in [
        ("strict.hotproc.control.config", text("uid == 0")),
        ("strict.hotproc.control.refresh", Atom::U32(1)),
        ("strict.acct.control.lifetime", Atom::U32(1)),
        ("strict.proc.control.all.threads", Atom::U32(1)),
    ] {
        let refused = store(&mut unknown, name, value);
        assert_eq!(refused, Err(ErrorCode::PERMISSION), "{name}");
    }
    assert_eq!(by_instance(&mut unknown, "strict.hotproc.psinfo.pid"), []);
}

#[test]
fn a_client_chooses_what_processes_there_are() {
    let pmcd = two_agents(Scratch::new("agents-perclient"), &[]);
    let (mut one, mut two) = (context(&pmcd), context(&pmcd));
    let (say, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let own = fs::read_link("/proc/thread-self").expect("a thread");
        let tid = own
            .file_name()
            .and_then(|n| n.to_str()?.parse::<i32>().ok());
        say.send(tid.expect("a number")).expect("told");
        let _ = ended.recv();
    });
    let tid = told.recv().expect("a thread's number");
    let pid = i32::try_from(std::process::id()).expect("a number");
    let of_thread = |client: &mut HostContext| {
        let found = by_instance(client, "open.proc.psinfo.tgid");
        found.into_iter().find(|(inst, _)| *inst == tid)
    };
    assert_eq!(of_thread(&mut one), None);
    let refused = store(
        &mut one,
        "open.proc.control.perclient.threads",
        Atom::U32(2),
    );
    assert_eq!(refused, Err(ErrorCode::BADSTORE));
    store(
        &mut one,
        "open.proc.control.perclient.threads",
        Atom::U32(1),
    )
    .expect("stored");
    let process = u32::try_from(pid).expect("a number");
    assert_eq!(of_thread(&mut one), Some((tid, Atom::U32(process))));
    assert_eq!(of_thread(&mut two), None);
    store(&mut two, "open.proc.control.all.threads", Atom::U32(1)).expect("stored");
    assert_eq!(of_thread(&mut two), Some((tid, Atom::U32(process))));
    store(
        &mut one,
        "open.proc.control.perclient.threads",
        Atom::U32(0),
    )
    .expect("stored");
    assert_eq!(of_thread(&mut one), None);

    let own = |client: &mut HostContext| {
        let found = by_instance(client, "open.proc.psinfo.pid");
        found.iter().any(|(inst, _)| *inst == pid)
    };
    let groups = fs::read_to_string("/proc/self/cgroup").expect("control groups");
    let group = groups.lines().find_map(|line| line.splitn(3, ':').nth(2));
    for (group, is_there) in [
        (group.expect("a group"), true),
        ("/none-of-these", false),
        ("", true),
    ] {
        let name = "open.proc.control.perclient.cgroups";
        store(&mut one, name, text(group)).expect("stored");
        assert_eq!(only(&mut one, name), text(group));
        assert_eq!(own(&mut one), is_there, "{group}");
        assert!(own(&mut two));
    }
    drop(end);
    thread.join().expect("a thread");
}

#[test]
fn processes_that_ended_are_those_of_accounting() {
    let scratch = Scratch::new("agents-acct");
    let file = scratch.write("pacct", "");
    let pmcd = two_agents(scratch, &[("PCP_PACCT_SYSTEM_PATH", &file)]);
    let mut client = context(&pmcd);
    assert_eq!(by_instance(&mut client, "strict.acct.psinfo.pid"), []);
    // Records as the kernel writes them, acct_v3 in acct(5): 3 * 8^1 ticks, memory of 0x1fff * 8^2.
    let now = u32::try_from(pcp::Timestamp::now().sec).expect("a time");
    let add = |pid: u32, began: u32, name: &str| {
        let mut bytes = vec![0x12, 3];
        bytes.extend(0x8805u16.to_ne_bytes());
        for word in [256, 0, 4_000_000_000, pid, 7, began, 150f32.to_bits()] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        for number in [0x2003, 5, 0x5fff, 1, 2, 3, 4, 5u16] {
            bytes.extend(number.to_ne_bytes());
        }
        let end = bytes.len() + 16;
        bytes.extend(name.as_bytes());
        bytes.resize(end, 0);
        let mut file = OpenOptions::new().append(true).open(&file).expect("a file");
        file.write_all(&bytes).expect("written");
    };
    add(41, now, "ended");
    add(42, now - 3600, "long-ago");
    for (name, value) in [
        ("psinfo.pid", Atom::U32(41)),
        ("psinfo.ppid", Atom::U32(7)),
        ("psinfo.exitcode", Atom::U32(256)),
        ("psinfo.btime", Atom::U32(now)),
        ("psinfo.etime", Atom::Float(1.5)),
        ("psinfo.utime", Atom::Float(0.24)),
        ("psinfo.stime", Atom::Float(0.05)),
        ("psinfo.mem", Atom::U64(0x1fff * 64)),
        ("psinfo.io", Atom::U64(1)),
        ("psinfo.rw", Atom::U64(2)),
        ("psinfo.minflt", Atom::U64(3)),
        ("psinfo.majflt", Atom::U64(4)),
        ("psinfo.swaps", Atom::U64(5)),
        ("psinfo.ttyname", text("pts/5")),
        ("id.uid_nm", text("root")),
        ("id.gid_nm", text("4000000000")),
        ("flag.fork", Atom::U32(0)),
        ("flag.su", Atom::U32(1)),
        ("flag.core", Atom::U32(0)),
        ("flag.xsig", Atom::U32(1)),
    ] {
        let found = by_instance(&mut client, &format!("strict.acct.{name}"));
        assert_eq!(found, [(41, value)], "{name}");
    }
    let metric = pmid(&mut client, "strict.acct.psinfo.pid");
    let indom = client.desc(metric).expect("a descriptor").indom;
    let instances = client.instances(indom).expect("instances");
    assert_eq!(instances.len(), 1);
    assert_eq!(instances[0].name.to_string(), "ended");
}
