//! Spile's agents under Debian's pmcd and ours, beside Debian's agents and watched by Debian's clients.

mod containers;
mod linux;
mod logger;
mod mmv;
mod openmetrics;
mod proc;
mod sample;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use pcp::{
    Atom, Desc, ErrorCode, Fetched, HostContext, HostSpec, INST_NULL, InstanceValue, Pmid, Text,
    Timestamp, ValueSet,
};
use spile_tests::pcp_peer::{self, Pmcd};
use spile_tests::{Scratch, spile_path};

fn debian() -> PathBuf {
    pcp_peer::root(env!("CARGO_TARGET_TMPDIR"))
}

fn debian_pmcd() -> Command {
    let mut command = pcp_peer::program(&debian(), "pmcd");
    let user = Command::new("id").arg("-un").output().expect("id");
    command
        .arg("-U")
        .arg(String::from_utf8_lossy(&user.stdout).trim());
    command
}

fn our_pmcd() -> Command {
    let mut command = Command::new(spile_path());
    command.arg("pmcd").env_remove("PCP_CONF");
    command
}

fn context(pmcd: &Pmcd) -> HostContext {
    let spec: HostSpec = pmcd.host().parse().expect("a host");
    HostContext::new(spec, &pmcd.host()).expect("a context")
}

/// Stores a value of a metric without instances.
fn store(context: &mut HostContext, name: &str, value: Atom) -> Result<(), ErrorCode> {
    let metric = pmid(context, name);
    let value = InstanceValue {
        inst: INST_NULL,
        value: value.to_value(),
    };
    let stored = Fetched {
        time: Timestamp::default(),
        sets: vec![ValueSet::new(metric, vec![value])],
    };
    context.store(&stored).map_err(|error| error.code())
}

fn pmid(context: &mut HostContext, name: &str) -> Pmid {
    let found = context.lookup_names(&[Text::from(name)]).expect("names");
    found[0].unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn number(context: &mut HostContext, name: &str) -> u64 {
    let metric = pmid(context, name);
    let desc = context.desc(metric).expect("a descriptor");
    let fetched = context.fetch(&[metric]).expect("values");
    let value = &fetched.sets[0].instances()[0].value;
    Atom::extract(value, desc.ty)
        .ok()
        .and_then(|a| a.as_f64())
        .expect("a number") as u64
}

/// The names and places of an agent's metrics.
fn names_of(agent: &str) -> Vec<(String, String)> {
    let table = format!(
        "{}/../crates/agents/src/{agent}/metrics.tsv",
        env!("CARGO_MANIFEST_DIR")
    );
    let table = fs::read_to_string(table).expect("the table of metrics");
    let rows = table.lines().map(|line| {
        let mut columns = line.split('\t');
        let mut column = || columns.next().expect("a column").to_owned();
        (column(), column())
    });
    rows.collect()
}

/// A name space with the same metrics below several names, of a domain each.
fn name_space(roots: &[(&str, u32)], names: &[(String, String)]) -> String {
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let tops = roots.iter().map(|(root, _)| (*root).to_owned());
    nodes.insert("root".to_owned(), tops.collect());
    for (root, domain) in roots {
        for (name, place) in names {
            let mut node = (*root).to_owned();
            let mut parts = name.split('.').peekable();
            while let Some(part) = parts.next() {
                let leaf = parts.peek().is_none();
                let entry = if leaf {
                    format!("{part} {domain}:{}", place.replace('.', ":"))
                } else {
                    part.to_owned()
                };
                let children = nodes.entry(node.clone()).or_default();
                if !children.contains(&entry) {
                    children.push(entry);
                }
                node = format!("{node}.{part}");
            }
        }
    }
    let texts = nodes
        .iter()
        .map(|(node, children)| format!("{node} {{\n{}\n}}\n", children.join("\n")));
    texts.collect()
}

/// Debian's agent and ours.
const BOTH: [(&str, u32); 2] = [("theirs", 60), ("ours", 61)];

type Values = Result<BTreeMap<i32, Atom>, ErrorCode>;

fn values(context: &mut HostContext, descs: &[Desc]) -> Vec<Values> {
    let pmids: Vec<Pmid> = descs.iter().map(|d| d.pmid).collect();
    let fetched = context.fetch(&pmids).expect("values");
    let sets = fetched.sets.iter().zip(descs).map(|(set, desc)| {
        let values = set.values.as_ref().map_err(|code| *code)?;
        let values = values.iter().map(|v| {
            let atom = Atom::extract(&v.value, desc.ty).expect("a value of the metric's type");
            (v.inst, atom)
        });
        Ok(values.collect())
    });
    sets.collect()
}

/// PCP's configuration with folders of its own.
fn private_configuration(scratch: &Scratch) -> PathBuf {
    let theirs =
        fs::read_to_string("/etc/pcp.conf").expect("the configuration that comes with libpcp3");
    let folder = scratch.path("");
    let lines = theirs.lines().map(|line| match line.split_once('=') {
        Some((
            name
            @ ("PCP_VAR_DIR" | "PCP_PMDAS_DIR" | "PCP_TMP_DIR" | "PCP_LOG_DIR" | "PCP_RUN_DIR"),
            _,
        )) => {
            format!("{name}={}\n", folder.display())
        }
        _ => format!("{line}\n"),
    });
    scratch.write("pcp.conf", &lines.collect::<String>())
}

/// What Debian's pminfo says of all metrics below a root, by name; what the roots and domains are is taken out.
fn exposed(pmcd: &Pmcd, root: &str, domain: u32) -> BTreeMap<String, String> {
    let mut command = pcp_peer::program(&debian(), "pminfo");
    command.args(["-h", &pmcd.host(), "-dmtTfl", root]);
    let output = command.output().expect("pminfo");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let start = format!("\n{root}.");
    let blocks = text.split(&start);
    let named = blocks.filter_map(|block| {
        let (name, rest) = block.split_once(' ')?;
        let rest = rest
            .replace(&format!(" {domain}."), " D.")
            .replace(&format!("\"agent\":\"{root}\""), "")
            .lines()
            // The number of a domain by which it is shown a second time.
            .map(|line| without_context_labels(line.split(" 0x").next().unwrap_or(line)) + "\n")
            .collect::<String>();
        Some((name.to_owned(), rest))
    });
    named.collect()
}

/// A line without the labels that a daemon adds of the host and the client, of which it knows more or less.
fn without_context_labels(line: &str) -> String {
    let mut line = line.to_owned();
    for name in ["domainname", "groupid", "hostname", "machineid", "userid"] {
        let label = format!("\"{name}\":");
        while let Some(start) = line.find(&label) {
            let rest = &line[start..];
            let length = rest.find([',', '}']).unwrap_or(rest.len());
            let comma = usize::from(rest[length..].starts_with(','));
            line.replace_range(start..start + length + comma, "");
        }
    }
    line.replace(",}", "}")
}
