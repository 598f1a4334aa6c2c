//! `cargo xtask bench pmcd`: fetches from PCP's pmcd and from Spile's by Debian's libpcp, everything on one processor.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::contender::expect_success;
use super::{build_spile, machine, report};
use crate::workspace;
use crate::{bounded, packages};

const LIMIT: Duration = Duration::from_secs(60);
const RUNS: usize = 5;
/// The heading of the section in the report, which is replaced as a whole.
const HEADING: &str = "## pmcd beside PCP's";
/// The metric of a pipe agent, the same program under each pmcd.
const ONE: &str = "sample.long.one";
/// Names that the hundred metrics of the kernel begin with.
const HUNDRED: [&str; 4] = [
    "kernel.all.load",
    "kernel.all.cpu.",
    "mem.util.",
    "mem.vmstat.",
];
/// The tables of the agents whose names make up the name space.
const TABLES: [(u32, &str); 3] = [
    (3, "crates/agents/src/proc/metrics.tsv"),
    (29, "crates/agents/src/sample/metrics.tsv"),
    (60, "crates/agents/src/linux/metrics.tsv"),
];

/// A daemon that runs.
struct Server {
    title: &'static str,
    port: u16,
    process: Child,
    /// What it has to say; no file where it says nothing.
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures and replaces the section of the report.
pub fn run(words: &[String]) -> Result<ExitCode> {
    if let Some(word) = words.first() {
        bail!("bench pmcd takes no arguments, not '{word}'");
    }
    packages::ensure(packages::FOR_TESTS)?;
    let bench = Bench::new()?;
    let spile = bench.spile.display().to_string();
    let machine = machine::description();
    let debian_pminfo = bench.debian("pminfo")?;
    let names = bench.root.join("names");
    let names = fs::read_to_string(&names).with_context(|| names.display().to_string())?;
    let is_one = |name: &&str| HUNDRED.iter().any(|prefix| name.starts_with(prefix));
    let hundred: Vec<&str> = names.lines().filter(is_one).take(100).collect();
    let mut servers = vec![
        bench.server(
            "PCP",
            &bench.debian("pmcd")?,
            &bench.agents(false)?,
            "-U root",
        )?,
        bench.server(
            "Spile, agents as programs",
            &format!("{spile} pmcd"),
            &bench.agents(true)?,
            "",
        )?,
        bench.server(
            "Spile, agents in it",
            &format!("{spile} pmcd"),
            &bench.built_in()?,
            "",
        )?,
    ];
    let blind = bench.blind()?;
    let mut fetches: BTreeMap<(usize, usize), Vec<[f64; 3]>> = BTreeMap::new();
    let mut whole: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for run in 1..=RUNS {
        println!("run {run} of {RUNS}");
        let cell = fetches.entry((0, servers.len())).or_default();
        cell.push(bench.fetch(blind.port, &[ONE])?);
        for (at, server) in servers.iter().enumerate() {
            for (row, metrics) in [&[ONE][..], &hundred].into_iter().enumerate() {
                let measured = bench.fetch(server.port, metrics)?;
                println!("  {}, {}: {measured:.1?}", server.title, metrics.len());
                fetches.entry((row, at)).or_default().push(measured);
            }
            let own = if at == 0 {
                debian_pminfo.clone()
            } else {
                format!("{spile} pminfo")
            };
            for (row, pminfo) in [&debian_pminfo, &own].into_iter().enumerate() {
                let took = bench.whole(pminfo, server.port)?;
                println!("  {}, pminfo -f: {took:.1} ms", server.title);
                whole.entry((row, at)).or_default().push(took);
            }
        }
    }
    let mut memory = Vec::new();
    for server in &mut servers {
        memory.push(resident(server.process.id())?);
    }
    let text = section(&servers, &fetches, &whole, &memory, &machine);
    let output = workspace::root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&output).with_context(|| output.display().to_string())?;
    let new = report::replaced(&old, HEADING, &text);
    fs::write(&output, new).with_context(|| output.display().to_string())?;
    println!("{text}\nwritten to {}", output.display());
    Ok(ExitCode::SUCCESS)
}

struct Bench {
    root: PathBuf,
    spile: PathBuf,
    /// What makes a command run on the one processor, and ahead of everybody else's work if we may.
    beside: Vec<String>,
}

impl Bench {
    fn new() -> Result<Bench> {
        let root = workspace::target_directory()?.join("bench/pmcd");
        fs::create_dir_all(&root).with_context(|| root.display().to_string())?;
        let unpack =
            "[ -e complete ] || { apt-get download pcp && dpkg -x pcp_*.deb . && touch complete; }";
        expect_success(Command::new("sh").args(["-ec", unpack]).current_dir(&root))?;
        expect_success(
            Command::new("gcc")
                .args(["-O2", "-o", "fetch"])
                .arg(workspace::root().join("xtask/bench/pmcd_fetch.c"))
                .arg("/usr/lib/libpcp.so.3")
                .current_dir(&root),
        )?;
        let last = thread::available_parallelism().map_or(0, |n| n.get() - 1);
        let mut beside = vec!["taskset".to_owned(), "-c".to_owned(), last.to_string()];
        // Not even root may everywhere: a control group may have no real time.
        let ahead = ["chrt", "-f", "10"];
        let mut may = Command::new(ahead[0]);
        may.args(&ahead[1..]).arg("true");
        may.stdout(Stdio::null()).stderr(Stdio::null());
        if may.status().is_ok_and(|status| status.success()) {
            beside.extend(ahead.map(str::to_owned));
        }
        let bench = Bench {
            root,
            spile: build_spile(true)?,
            beside,
        };
        bench.write_names()?;
        Ok(bench)
    }

    /// One of Debian's programs.
    fn debian(&self, name: &str) -> Result<String> {
        let places = ["usr/bin", "usr/lib/pcp/bin"].map(|p| self.root.join(p).join(name));
        let found = places.iter().find(|place| place.exists());
        let found = found.with_context(|| format!("the package pcp has no {name}"))?;
        Ok(found.display().to_string())
    }

    /// The name space of the agents, and the names in it.
    fn write_names(&self) -> Result<()> {
        let mut nodes: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut all = Vec::new();
        for (domain, table) in TABLES {
            let path = workspace::root().join(table);
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            for line in text.lines() {
                let mut columns = line.split('\t');
                let (Some(name), Some(place)) = (columns.next(), columns.next()) else {
                    continue;
                };
                // What an agent names itself is not in a file.
                let Some((cluster, item)) = place.split_once('.') else {
                    continue;
                };
                let mut parent = "root".to_owned();
                let parts: Vec<&str> = name.split('.').collect();
                for (depth, part) in parts.iter().enumerate() {
                    let leaf = format!(" {domain}:{cluster}:{item}");
                    let is_leaf = depth + 1 == parts.len();
                    let children = nodes.entry(parent.clone()).or_default();
                    children.insert(
                        (*part).to_owned(),
                        if is_leaf { leaf } else { String::new() },
                    );
                    parent = if depth == 0 {
                        (*part).to_owned()
                    } else {
                        format!("{parent}.{part}")
                    };
                }
                all.push(name.to_owned());
            }
        }
        let mut text = String::new();
        for (node, children) in &nodes {
            let _ = writeln!(text, "{node} {{");
            for (child, leaf) in children {
                let _ = writeln!(text, "    {child}{leaf}");
            }
            text.push_str("}\n");
        }
        all.sort();
        fs::write(self.root.join("root"), text)?;
        fs::write(self.root.join("names"), all.join("\n"))?;
        Ok(())
    }

    /// The lines of agents that are programs: sample is Debian's under each.
    fn agents(&self, ours: bool) -> Result<String> {
        let debian = self.root.join("usr/lib/pcp/pmdas");
        let debian = debian.display();
        let spile = self.spile.display();
        let mut lines = format!("sample 29 pipe binary {debian}/sample/pmdasample -d 29\n");
        for (name, domain) in [("proc", 3), ("linux", 60)] {
            let program = if ours {
                format!("{spile} pmda{name}")
            } else {
                format!("{debian}/{name}/pmda{name}")
            };
            let _ = writeln!(lines, "{name} {domain} pipe binary {program} -d {domain}");
        }
        Ok(lines)
    }

    fn built_in(&self) -> Result<String> {
        let sample = self.agents(true)?;
        let sample = sample.lines().next().unwrap_or_default();
        Ok(format!(
            "{sample}\nproc 3 dso proc_init none\nlinux 60 dso linux_init none\n"
        ))
    }

    fn command(&self, line: &str) -> Command {
        let mut words = self
            .beside
            .iter()
            .map(String::as_str)
            .chain(line.split(' '));
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words.filter(|word| !word.is_empty()))
            .env("PCP_DIR", "")
            // PCP's pmcd has its name space read by pmcpp.
            .env("PCP_BINADM_DIR", self.root.join("usr/lib/pcp/bin"))
            .env_remove("PCP_CONF")
            .env_remove("PMCD_PORT")
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn server(
        &self,
        title: &'static str,
        program: &str,
        agents: &str,
        options: &str,
    ) -> Result<Server> {
        let port = free_port()?;
        let file = format!("pmcd-{port}.conf");
        fs::write(self.root.join(&file), agents)?;
        let line = format!(
            "{program} -f -A -i 127.0.0.1 -p {port} -c {file} -n root -s socket-{port} -l log-{port} {options}"
        );
        let process = self.command(&line).stdout(Stdio::null()).spawn()?;
        let mut server = Server {
            title,
            port,
            process,
            log: self.root.join(format!("log-{port}")),
        };
        server.wait()?;
        Ok(server)
    }

    /// The server that does not look.
    fn blind(&self) -> Result<Server> {
        let port = free_port()?;
        let process = self.command(&format!("./fetch --blind {port}")).spawn()?;
        let mut server = Server {
            title: "a server that does not look",
            port,
            process,
            log: PathBuf::new(),
        };
        server.wait()?;
        Ok(server)
    }

    fn fetch(&self, port: u16, metrics: &[&str]) -> Result<[f64; 3]> {
        let line = format!("./fetch localhost:{port} 1 {}", metrics.join(" "));
        let outcome = bounded::run(&mut self.command(&line), LIMIT)?;
        if !outcome.success() {
            bail!("{}", outcome.failure(LIMIT));
        }
        let mut numbers = outcome.stdout.split_whitespace().map(str::parse::<f64>);
        let mut next = || numbers.next().context("no number")?.context("no number");
        Ok([next()?, next()?, next()?])
    }

    /// Milliseconds of `pminfo -f` over everything, into a file: whoever reads a pipe has no place on that processor.
    fn whole(&self, pminfo: &str, port: u16) -> Result<f64> {
        let line = format!(
            "timeout {} {pminfo} -h localhost:{port} -f",
            LIMIT.as_secs()
        );
        let path = self.root.join("values");
        let mut command = self.command(&line);
        command.stdout(fs::File::create(&path).with_context(|| path.display().to_string())?);
        let start = Instant::now();
        let status = command.status().with_context(|| line.clone())?;
        let elapsed = start.elapsed();
        if fs::read_to_string(&path)?.lines().count() < 5000 {
            bail!("{line}: {status}");
        }
        Ok(elapsed.as_secs_f64() * 1e3)
    }
}

impl Server {
    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.process.try_wait()? {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} ended: {status}\n{log}", self.title);
            }
            if Instant::now() > deadline {
                bail!("{} does not listen", self.title);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Megabytes that a process has in memory.
fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(Path::new(&path)).context(path)?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kilobytes.context("no VmRSS")? / 1024.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn section(
    servers: &[Server],
    fetches: &BTreeMap<(usize, usize), Vec<[f64; 3]>>,
    whole: &BTreeMap<(usize, usize), Vec<f64>>,
    memory: &[f64],
    machine: &[(&'static str, String)],
) -> String {
    let facts = machine::summary(machine);
    let priority = if workspace::is_root() {
        ", at real-time priority, so that other work does not count"
    } else {
        ""
    };
    let mut text = format!(
        "{HEADING}\n\nWritten by `cargo xtask bench pmcd` ({}). A loop of pmFetch(3) in C with Debian's libpcp over TCP, the daemons and \
         their agents on one processor{priority}; medians of {RUNS} runs of a second. The agent of the one metric is Debian's \
         pmdasample under each; those of the kernel and of processes are each one's own. The server that does not look sends the same \
         bytes whatever is asked: what is left is the client's and the kernel's time, below which none can come.\n\n| |",
        facts
    );
    let columns = servers.len() + 1;
    for server in servers {
        let _ = write!(text, " {} |", server.title);
    }
    let _ = writeln!(
        text,
        " a server that does not look |\n|---|{}",
        "---|".repeat(columns)
    );
    let rows = ["one metric of a pipe agent", "100 metrics of the kernel"];
    let values = ["fetches/s", "median, µs", "99th percentile, µs"];
    for (row, title) in rows.into_iter().enumerate() {
        for (value, unit) in values.into_iter().enumerate() {
            let _ = write!(text, "| {title}: {unit} |");
            for column in 0..columns {
                let samples = fetches.get(&(row, column)).into_iter().flatten();
                let samples: Vec<f64> = samples.filter_map(|s| s.get(value)).copied().collect();
                let _ = match (samples.is_empty(), value) {
                    (true, _) => write!(text, " |"),
                    (_, 0) => write!(text, " {:.0} |", median(samples)),
                    _ => write!(text, " {:.1} |", median(samples)),
                };
            }
            text.push('\n');
        }
    }
    let rows = ["Debian's `pminfo -f`, ms", "its own `pminfo -f`, ms"];
    for (row, title) in rows.into_iter().enumerate() {
        let _ = write!(text, "| {title} |");
        for column in 0..servers.len() {
            let samples = whole.get(&(row, column)).cloned().unwrap_or_default();
            let _ = write!(text, " {:.0} |", median(samples));
        }
        text.push_str(" |\n");
    }
    text.push_str("| resident, MB |");
    for megabytes in memory {
        let _ = write!(text, " {megabytes:.1} |");
    }
    text.push_str(" |\n\n");
    text
}
