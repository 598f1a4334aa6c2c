//! On what it was measured: the machine and the versions of everything.

use std::fs;
use std::process::{Command, Stdio};

use super::contender::Workshop;

/// Rows of (name, value) for the report.
pub fn description() -> Vec<(&'static str, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned());
    let processors = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let virtual_machine = if cpuinfo
        .lines()
        .any(|line| line.starts_with("flags") && line.split(' ').any(|flag| flag == "hypervisor"))
    {
        ", virtual"
    } else {
        ""
    };
    let memory = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| field(&text, "MemTotal"))
        .unwrap_or_default();
    let system = fs::read_to_string("/etc/os-release")
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("PRETTY_NAME="))
                .map(|name| name.trim_matches('"').to_owned())
        })
        .unwrap_or_default();
    vec![
        ("processor", format!("{model}{virtual_machine}")),
        ("processors", processors.to_string()),
        ("memory", memory),
        ("kernel", first_line("uname", &["-srm"])),
        ("system", system),
        ("load before, 1 5 15 minutes", load()),
        ("date", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
    ]
}

/// The load averages of proc(5).
pub fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .map(|text| {
            text.split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .unwrap_or_default()
}

/// Rows of (name, version).
pub fn versions(workshop: &Workshop) -> Vec<(&'static str, String)> {
    let python = workshop.directory.join("venv/bin/python");
    let revision = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(crate::workspace::root())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    vec![
        (
            "spile",
            format!(
                "{} at {revision}",
                first_line(&workshop.spile.to_string_lossy(), &["--version"])
            ),
        ),
        ("rustc", first_line("rustc", &["--version"])),
        ("cc", first_line("cc", &["--version"])),
        ("bpftrace", first_line("bpftrace", &["--version"])),
        ("LTTng", first_line("lttng", &["--version"])),
        ("LTTng-ust", package_version("liblttng-ust1")),
        ("uftrace", first_line("uftrace", &["--version"])),
        (
            "Frida",
            first_line(
                &python.to_string_lossy(),
                &["-c", "import frida; print(frida.__version__)"],
            ),
        ),
    ]
}

fn package_version(package: &str) -> String {
    first_line(
        "dpkg-query",
        &["--show", "--showformat=${Version}", package],
    )
}

fn first_line(program: &str, words: &[&str]) -> String {
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().map(|line| line.trim().to_owned())
        })
        .unwrap_or_else(|| "not found".to_owned())
}

fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find(|line| line.starts_with(name))
        .and_then(|line| line.split_once(':'))
        .map(|(_, value)| value.trim().to_owned())
}

/// What must be known of a machine to read figures that were measured on it, in one line, of its description.
pub fn summary(description: &[(&'static str, String)]) -> String {
    let facts = [
        "processor",
        "processors",
        "kernel",
        "load before, 1 5 15 minutes",
        "date",
    ];
    let facts: Vec<String> = description
        .iter()
        .filter(|(name, _)| facts.contains(name))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    facts.join("; ")
}
