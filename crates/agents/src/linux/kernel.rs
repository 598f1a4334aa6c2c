//! The kernel and the machine as a whole.

use super::system::{Row, Rows, System};
use super::{disk, filesystem, network, processor};

pub fn uname(system: &mut System) -> Rows {
    let name = nix::sys::utsname::uname().map_err(|_| pcp::ErrorCode::AGAIN)?;
    let part = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let (sysname, nodename) = (part(name.sysname()), part(name.nodename()));
    let (release, version) = (part(name.release()), part(name.version()));
    let machine = part(name.machine());
    let mut row = Row::single();
    row.set(
        "pmda_uname",
        format!("{sysname} {nodename} {release} {version} {machine}"),
    );
    // The version of PCP whose agent this one is like.
    row.set("pmda_version", "6.0.3");
    row.set("machine_model", machine.as_str());
    row.set("sysname", sysname);
    row.set("nodename", nodename);
    row.set("release", release);
    row.set("version", version);
    row.set("machine", machine);
    row.set("distro", distribution(system));
    Ok(vec![row])
}

fn distribution(system: &System) -> String {
    if let Some(version) = system.line("/etc/debian_version") {
        return format!("Debian {version}");
    }
    let release = [
        "/etc/fedora-release",
        "/etc/redhat-release",
        "/etc/SuSE-release",
    ];
    if let Some(line) = release.iter().find_map(|file| system.line(file)) {
        return line;
    }
    let text = system.read("/etc/os-release").unwrap_or_default();
    let pretty = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or("?", |name| name.trim_matches('"')).to_owned()
}

/// What there is of everything.
pub fn inventory(system: &mut System) -> Rows {
    let mut row = Row::single();
    let mut count = |field: &'static str, rows: Rows| {
        if let Ok(rows) = rows {
            row.set(field, rows.len() as u64);
        }
    };
    count("ncpu", processor::per_cpu(system));
    count("ndisk", disk::disks(system));
    count("ninterface", network::interfaces(system));
    count("nfilesys", filesystem::filesystems(system));
    count("ntape", disk::tapes(system));
    count("nfchost", disk::fibre_channel(system));
    row.set("nnode", processor::nodes(system).len() as u64);
    row.set("hz", system.hertz);
    row.set("pagesize", system.page);
    Ok(vec![row])
}

pub fn limits(system: &mut System) -> Rows {
    let mut row = Row::single();
    for (field, file) in [
        ("entropy_avail", "random/entropy_avail"),
        ("entropy_poolsize", "random/poolsize"),
        ("pid_max", "pid_max"),
        ("nptys", "pty/nr"),
    ] {
        row.set_some(field, system.number(&format!("/proc/sys/kernel/{file}")));
    }
    Ok(vec![row])
}

pub fn sysfs(system: &mut System) -> Rows {
    let mut row = Row::single();
    row.set_some("uevent_seqnum", system.number("/sys/kernel/uevent_seqnum"));
    Ok(vec![row])
}

/// Who is logged in: utmp(5), records of 384 bytes.
pub fn logins(system: &mut System) -> Rows {
    const RECORD: usize = 384;
    const USER: std::ops::Range<usize> = 44..76;
    const USER_PROCESS: i16 = 7;
    let bytes = std::fs::read(system.path("/run/utmp")).unwrap_or_default();
    let mut row = Row::single();
    let (mut users, mut roots, mut sessions) = (0u64, 0u64, 0u64);
    for record in bytes.chunks_exact(RECORD) {
        let kind = record.first_chunk().map(|b| i16::from_ne_bytes(*b));
        if kind != Some(USER_PROCESS) {
            continue;
        }
        let user = record.get(USER).unwrap_or_default();
        let user = user.split(|b| *b == 0).next().unwrap_or_default();
        sessions += 1;
        users += u64::from(!user.is_empty());
        roots += u64::from(user == b"root");
    }
    row.set("nusers", users);
    row.set("nroots", roots);
    row.set("nsessions", sessions);
    Ok(vec![row])
}

/// The files of /proc/pressure and their lines.
const PRESSURE: [(&str, &str); 6] = [
    ("cpu", "some"),
    ("memory", "some"),
    ("memory", "full"),
    ("io", "some"),
    ("io", "full"),
    ("irq", "full"),
];

/// The number behind a name in a line of /proc/pressure.
fn pressure_number(system: &System, file: &str, kind: &str, name: &str) -> Option<f64> {
    let text = system.read(&format!("/proc/pressure/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let prefix = format!("{name}=");
    let word = line
        .split(' ')
        .find_map(|word| word.strip_prefix(&prefix))?;
    word.parse().ok()
}

pub fn pressure(system: &mut System) -> Rows {
    let windows = [
        (10, "10 second", "avg10"),
        (60, "1 minute", "avg60"),
        (300, "5 minute", "avg300"),
    ];
    let rows = windows.into_iter().map(|(inst, name, field)| {
        let mut row = Row::new(inst, name);
        for (file, kind) in PRESSURE {
            let share = pressure_number(system, file, kind, field);
            row.set_some(format!("{file}_{kind}_avg"), share);
        }
        row
    });
    Ok(rows.collect())
}

pub fn pressure_all(system: &mut System) -> Rows {
    let mut row = Row::single();
    for (file, kind) in PRESSURE {
        let total = pressure_number(system, file, kind, "total");
        row.set_some(format!("{file}_{kind}_total"), total.map(|t| t as u64));
    }
    Ok(vec![row])
}
