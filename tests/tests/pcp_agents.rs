//! Spile's agents under Debian's pmcd and ours, beside Debian's agents and watched by Debian's clients.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pcp::{
    Atom, Desc, ErrorCode, EventArray, Fetched, HostContext, HostSpec, INST_NULL, InstanceValue,
    Pmid, Semantics, Text, Timestamp, Type, Value, ValueSet,
};
use spile_tests::pcp_peer::{self, Pmcd};
use spile_tests::{Guard, SDT_MACROS, Scratch, spile_path, until};

/// The names that PCP gives to its agent logger.
const LOGGER: &str = "\
root { logger }
logger { numclients 106:0:0  numlogfiles 106:0:1  param_string 106:0:2  maxmem 106:0:3  perfile 106:*:* }
";

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

/// pmdalogger under a pmcd, with these lines of its configuration; `@` is its folder.
fn logger(name: &str, pmcd: Command, sources: &str, options: &str) -> Pmcd {
    let scratch = Scratch::new(name);
    let folder = scratch.path("");
    let folder = folder.display().to_string();
    let sources = scratch.write(
        "logger.conf",
        &sources.replace('@', folder.trim_end_matches('/')),
    );
    let config = format!(
        "logger 106 pipe binary {} pmdalogger -d 106 {options} {}\n",
        spile_path().display(),
        sources.display()
    );
    Pmcd::start(scratch, pmcd, &config, LOGGER)
}

fn context(pmcd: &Pmcd) -> HostContext {
    let spec: HostSpec = pmcd.host().parse().expect("a host");
    HostContext::new(spec, &pmcd.host()).expect("a context")
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

/// What a fetch of events gives: the lines, and how many were missed.
fn lines(context: &mut HostContext, metric: Pmid) -> (Vec<String>, u32) {
    let fetched = context.fetch(&[metric]).expect("values");
    let values = fetched.sets[0].values.as_ref().expect("events or none");
    let Some(value) = values.first() else {
        return (Vec::new(), 0);
    };
    let Value::Block(block) = &value.value else {
        panic!("{value:?}");
    };
    let events = EventArray::decode(Type::Event, &block.bytes).expect("events");
    let mut missed = 0;
    let mut texts = Vec::new();
    for record in events.records {
        if record.flags.is_missed() {
            missed += record.count;
        } else {
            let text = &record.params[0].block.bytes;
            texts.push(String::from_utf8_lossy(text).into_owned());
        }
    }
    (texts, missed)
}

/// Fetches until a line comes that is this one, and gives all that came.
fn lines_until(context: &mut HostContext, metric: Pmid, last: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    until(last, || {
        let (more, missed) = lines(context, metric);
        assert_eq!(missed, 0);
        all.extend(more);
        all.last().is_some_and(|line| line == last)
    });
    all
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("a log");
    file.write_all(text.as_bytes()).expect("written");
}

fn numbered(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

#[test]
fn each_of_debians_clients_gets_each_line_once() {
    let pmcd = logger("agents-pmevent", debian_pmcd(), "log n @/log.txt\n", "");
    let log = pmcd.scratch.path("log.txt");
    append(&log, "before anybody\n");
    let watch = |interval: &str| {
        let path = pmcd.scratch.path(&format!("every-{interval}"));
        let mut command = pcp_peer::program(&debian(), "pmevent");
        command
            .args([
                "-h",
                &pmcd.host(),
                "-t",
                interval,
                "logger.perfile.log.records",
            ])
            .stdin(Stdio::null())
            .stdout(File::create(&path).expect("a file"));
        (path, Guard(command.spawn().expect("pmevent")))
    };
    let clients = [watch("0.2"), watch("1.5")];
    let mut own = context(&pmcd);
    until("both subscribed", || {
        number(&mut own, "logger.perfile.log.numclients") == 2
    });
    for line in numbered(1..=20) {
        append(&log, &format!("{line}\n"));
    }
    append(&log, "end\n");
    let mut expected = numbered(1..=20);
    expected.push("end".to_owned());
    for (path, _process) in &clients {
        let seen = || -> Vec<String> {
            let text = fs::read_to_string(path).expect("output");
            let texts = text
                .lines()
                .filter_map(|l| l.trim().strip_prefix("logger.param_string \""));
            texts.map(|t| t.trim_end_matches('"').to_owned()).collect()
        };
        until("the last line", || seen().contains(&"end".to_owned()));
        assert_eq!(seen(), expected, "{}", path.display());
    }
}

#[test]
fn what_a_queue_has_no_room_for_is_counted() {
    let pmcd = logger("agents-missed", our_pmcd(), "log n @/log.txt\n", "-m 64k");
    let log = pmcd.scratch.path("log.txt");
    let mut client = context(&pmcd);
    let records = pmid(&mut client, "logger.perfile.log.records");
    assert_eq!(number(&mut client, "logger.maxmem"), 65_536);
    assert_eq!(lines(&mut client, records), (Vec::new(), 0));
    let burst: String = numbered(1..=3200)
        .iter()
        .flat_map(|l| [l.as_str(), " of a burst\n"])
        .collect();
    append(&log, &burst);
    let mut other = context(&pmcd);
    until("all are seen", || {
        number(&mut other, "logger.perfile.log.count") == 3200
    });
    let (texts, missed) = lines(&mut client, records);
    assert!(missed > 0);
    assert_eq!(texts.len() as u32 + missed, 3200);
    // The newest are there.
    assert_eq!(texts[0], format!("line {} of a burst", missed + 1));
    assert_eq!(
        texts.last().map(String::as_str),
        Some("line 3200 of a burst")
    );
    assert_eq!(
        number(&mut other, "logger.perfile.log.bytes"),
        burst.len() as u64
    );
    // A line longer than the queue is cut and says so, and harms no other.
    append(&log, &format!("{}\nend\n", "x".repeat(1 << 20)));
    let texts = lines_until(&mut client, records, "end");
    assert_eq!(texts.len(), 2);
    assert!(texts[0].len() <= 65_536);
    assert!(
        texts[0].ends_with(" more bytes]"),
        "{}",
        &texts[0][texts[0].len() - 40..]
    );
}

#[test]
fn a_log_is_followed_whatever_becomes_of_it() {
    let pmcd = logger("agents-rotation", our_pmcd(), "log n @/log.txt\n", "");
    let log = pmcd.scratch.path("log.txt");
    let mut client = context(&pmcd);
    let records = pmid(&mut client, "logger.perfile.log.records");
    let _ = lines(&mut client, records);
    let mut next = 0;
    let mut write = |count: u32, path: &Path| {
        for _ in 0..count {
            next += 1;
            append(path, &format!("line {next}\n"));
        }
    };
    // It comes into being; it is renamed, also twice in a row, with lines written to the old file still.
    write(5, &log);
    let old = pmcd.scratch.path("log.txt.1");
    let older = pmcd.scratch.path("log.txt.2");
    fs::rename(&log, &old).expect("renamed");
    write(3, &old);
    write(4, &log);
    fs::rename(&old, &older).expect("renamed");
    fs::rename(&log, &old).expect("renamed");
    write(2, &log);
    assert_eq!(
        lines_until(&mut client, records, "line 14"),
        numbered(1..=14)
    );
    // It is truncated and written anew, and copied and truncated. Between two of these somebody has to look: what was
    // overwritten in the copy, too, is nowhere.
    fs::write(&log, "").expect("truncated");
    write(6, &log);
    assert_eq!(
        lines_until(&mut client, records, "line 20"),
        numbered(15..=20)
    );
    for cycle in 0..5 {
        write(7, &log);
        fs::copy(&log, pmcd.scratch.path("log.txt.copy")).expect("copied");
        File::options()
            .write(true)
            .truncate(true)
            .open(&log)
            .expect("truncated");
        write(3, &log);
        let (first, last) = (21 + 10 * cycle, 30 + 10 * cycle);
        assert_eq!(
            lines_until(&mut client, records, &format!("line {last}")),
            numbered(first..=last)
        );
    }
    // Half a line is none yet.
    append(&log, "line 7");
    assert_eq!(lines(&mut client, records), (Vec::new(), 0));
    append(&log, "1\n");
    assert_eq!(lines_until(&mut client, records, "line 71"), ["line 71"]);
}

fn filter(context: &mut HostContext, metric: Pmid, pattern: &str) -> Result<(), ErrorCode> {
    let value = InstanceValue {
        inst: INST_NULL,
        value: Atom::String(pattern.into()).to_value(),
    };
    let stored = Fetched {
        time: Timestamp::default(),
        sets: vec![ValueSet::new(metric, vec![value])],
    };
    context.store(&stored).map_err(|error| error.code())
}

#[test]
fn filters_are_a_clients_own_and_open_what_is_restricted() {
    let sources = "open n @/open.txt\nclosed y @/closed.txt\n";
    let pmcd = logger("agents-filter", debian_pmcd(), sources, "");
    let [open, closed] = ["open", "closed"].map(|name| pmcd.scratch.path(&format!("{name}.txt")));
    let (mut one, mut two) = (context(&pmcd), context(&pmcd));
    let open_records = pmid(&mut one, "logger.perfile.open.records");
    let closed_records = pmid(&mut one, "logger.perfile.closed.records");
    let refused = filter(&mut one, open_records, "(((");
    assert_eq!(refused, Err(ErrorCode::BADSTORE));
    filter(&mut one, open_records, "^(warn|error):").expect("stored");
    filter(&mut one, closed_records, "[[:digit:]]+$").expect("stored");
    let _ = lines(&mut two, open_records);
    let _ = lines(&mut two, closed_records);
    append(&open, "note: a\nwarn: b\nerror: c\nerror: end\n");
    append(&closed, "none\nsome 12\n34\n");
    assert_eq!(
        lines_until(&mut one, open_records, "error: end"),
        ["warn: b", "error: c", "error: end"]
    );
    assert_eq!(
        lines_until(&mut two, open_records, "error: end"),
        ["note: a", "warn: b", "error: c", "error: end"]
    );
    assert_eq!(
        lines_until(&mut one, closed_records, "34"),
        ["some 12", "34"]
    );
    assert_eq!(lines(&mut two, closed_records), (Vec::new(), 0));
    let denied = filter(&mut one, Pmid::new(106, 0, 0), "x");
    assert!(denied.is_err());
}

#[test]
fn a_scripts_output_is_events() {
    let scratch = Scratch::new("agents-script");
    let source = format!(
        "{SDT_MACROS}\nint main(void) {{ for (int i = 0; i < 500; i++) {{ MARK0(demo, first); MARK1(demo, second, i); }} return 0; }}"
    );
    let program = scratch.compile("marked.c", &source, &["-O1"]);
    let program = program.display();
    let sources = format!(
        "script n {} stap -e 'probe process(\"{program}\").mark(\"*\") {{ println($$name) }}' -c {program}; echo end |\n",
        spile_path().display()
    );
    let pmcd = logger("agents-stap", debian_pmcd(), &sources, "");
    let mut client = context(&pmcd);
    let records = pmid(&mut client, "logger.perfile.script.records");
    // What it printed before anybody asked is there, too.
    let texts = lines_until(&mut client, records, "end");
    let mut expected: Vec<&str> = ["first", "second"].into_iter().cycle().take(1000).collect();
    expected.push("end");
    assert_eq!(texts, expected);
}

/// The kernel's metrics by PCP's names, from the table of the agent's source.
fn kernel_names() -> Vec<(String, String)> {
    names_of("linux")
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

/// A name space with both agents' metrics: `theirs.…` and `ours.…`.
fn both_name_spaces(names: &[(String, String)]) -> String {
    let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    nodes.insert(
        "root".to_owned(),
        vec!["theirs".to_owned(), "ours".to_owned()],
    );
    for (root, domain) in [("theirs", 60), ("ours", 61)] {
        for (name, place) in names {
            let mut node = root.to_owned();
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

/// Notes the instances of which ours says what fits between what theirs says before and after. Whether all have fitted by now.
fn agree(sem: Semantics, [before, ours, after]: [&Values; 3], agreed: &mut BTreeSet<i32>) -> bool {
    let (Ok(before), Ok(ours), Ok(after)) = (before, ours, after) else {
        return before == ours || ours == after;
    };
    for (inst, value) in ours {
        let sides = [before.get(inst), after.get(inst)];
        let numbers = sides.map(|a| a.and_then(Atom::as_f64));
        let fits = match (numbers, value.as_f64()) {
            ([Some(before), Some(after)], Some(value)) => {
                let slack = match sem {
                    Semantics::Counter => 0.0,
                    _ => 0.05 * before.abs().max(after.abs()),
                };
                before.min(after) - slack <= value && value <= before.max(after) + slack
            }
            _ => sides.contains(&Some(value)),
        };
        if fits {
            agreed.insert(*inst);
        }
    }
    let same = before.keys().eq(ours.keys()) || after.keys().eq(ours.keys());
    same && ours.keys().all(|inst| agreed.contains(inst))
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

#[test]
fn the_kernels_metrics_are_those_of_debians_agent() {
    let names = kernel_names();
    let scratch = Scratch::new("agents-linux");
    let root = debian();
    let config = format!(
        "theirs 60 pipe binary {}\nours 61 pipe binary {} pmdalinux -d 61\n",
        root.join("usr/lib/pcp/pmdas/linux/pmdalinux").display(),
        spile_path().display()
    );
    let mut command = debian_pmcd();
    // Numbers of instances that other programs keep would not be those of a first look.
    command.env("PCP_CONF", private_configuration(&scratch));
    let pmcd = Pmcd::start(scratch, command, &config, &both_name_spaces(&names));
    let mut context = context(&pmcd);
    let mut descs = |root: &str| -> Vec<Desc> {
        let full: Vec<Text> = names
            .iter()
            .map(|(n, _)| Text::from(format!("{root}.{n}")))
            .collect();
        let pmids = context.lookup_names(&full).expect("names");
        let descs = pmids.into_iter().zip(&full).map(|(pmid, name)| {
            let pmid = pmid.unwrap_or_else(|e| panic!("{name}: {e}"));
            context.desc(pmid).unwrap_or_else(|e| panic!("{name}: {e}"))
        });
        descs.collect()
    };
    let (theirs, ours) = (descs("theirs"), descs("ours"));
    for ((name, _), (their, our)) in names.iter().zip(theirs.iter().zip(&ours)) {
        assert_eq!(
            (our.ty, our.sem, our.units),
            (their.ty, their.sem, their.units),
            "{name}"
        );
        assert_eq!(our.indom.is_null(), their.indom.is_null(), "{name}");
        if !our.indom.is_null() {
            assert_eq!(our.indom.serial(), their.indom.serial(), "{name}");
        }
    }
    // The system changes between the three looks, so each instance has to agree in one round at least. In two metrics theirs
    // takes the numbers of other lines of a node's meminfo, whose names end alike; the type it reads late or never.
    let wrong = [
        "mem.numa.util.mapped",
        "mem.numa.util.pageTables",
        "network.interface.type",
    ];
    let mut open: Vec<(usize, BTreeSet<i32>)> = (0..names.len())
        .filter(|n| !wrong.contains(&names[*n].0.as_str()))
        .map(|n| (n, BTreeSet::new()))
        .collect();
    let mut last: HashMap<usize, String> = HashMap::new();
    for _ in 0..60 {
        let before = values(&mut context, &theirs);
        let own = values(&mut context, &ours);
        let after = values(&mut context, &theirs);
        open.retain_mut(|(n, agreed)| {
            let (before, own, after) = (&before[*n], &own[*n], &after[*n]);
            let fits = agree(theirs[*n].sem, [before, own, after], agreed);
            if !fits {
                last.insert(*n, format!("{before:?}\n  ours {own:?}\n  {after:?}"));
            }
            !fits
        });
        if open.is_empty() {
            break;
        }
    }
    let differ: Vec<String> = open
        .iter()
        .map(|(n, _)| format!("{}: {}", names[*n].0, last[n]))
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    // The names of instances, too.
    let mut seen = Vec::new();
    for ((name, _), (their, our)) in names.iter().zip(theirs.iter().zip(&ours)) {
        if their.indom.is_null() || seen.contains(&their.indom) {
            continue;
        }
        seen.push(their.indom);
        let mut by_number = |indom| -> BTreeMap<i32, Text> {
            let found = context.instances(indom).unwrap_or_default();
            found.into_iter().map(|i| (i.inst, i.name)).collect()
        };
        assert_eq!(by_number(our.indom), by_number(their.indom), "{name}");
    }
}

/// A text with what the formats have: help, types, summaries and histograms, escapes, time stamps, lines for PCP.
const EXPOSITION: &str = r#"# HELP http_requests_total Requests\nby method
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{code="400",method="post",} 3
# HELP latency_seconds Latencies
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.5"} 129389
latency_seconds_bucket{le="+Inf"} 144320
latency_seconds_sum 53423.5
latency_seconds_count 144320
# TYPE rpc_microseconds summary
rpc_microseconds{quantile="0.5"} 4773
rpc_microseconds_sum 1.7560473e+07
rpc_microseconds_count 2693
# remark
used_bytes{path="C:DIR",error="no file, {there}="} -1.5e3
plain NaN
a:b:c +Inf
# PCP5 own.kbytes 1.2.3 u64 1.4 counter Kbyte / sec
# HELP own_kbytes Own name and type
# TYPE own_kbytes gauge
own_kbytes{instname="first one",instid="7",k="v"} 18446744073709551615
own_kbytes{instname="second",instid="9",k="w"} 5
# PCP own.instant instant none
own_instant{instance="x"} 2
# PCP5 own.single 1.2.4 32 PM_INDOM_NULL discrete none
own_single{host="h"} -3
"#;

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
            .map(|line| line.split(" 0x").next().unwrap_or(line).to_owned() + "\n")
            .collect::<String>();
        Some((name.to_owned(), rest))
    });
    named.collect()
}

#[test]
fn exposed_metrics_are_those_of_debians_agent() {
    let scratch = Scratch::new("agents-openmetrics");
    let text = scratch.write("text", EXPOSITION);
    let sources = scratch.path("sources/below");
    fs::create_dir_all(&sources).expect("a folder");
    let sources = scratch.path("sources");
    let source = |name: &str, content: String| {
        fs::write(sources.join(name), content).expect("a source");
    };
    let url = format!("file://{}\n", text.display());
    source("all.url", url.clone());
    source(
        "below/some.url",
        url.clone()
            + "# a remark\n\nFILTER: INCLUDE METRIC http.*\nFILTER: INCLUDE METRIC own\nFILTER: INCLUDE METRIC used\n\
               FILTER: EXCLUDE METRIC .*\nFILTER: EXCLUDE LABEL meth\nFILTER: OPTIONAL LABEL path\n",
    );
    source(
        "told.url",
        url + "METADATA: http.* u32 any discrete count\nMETADATA: used_bytes float PM_INDOM_NULL instant Mbyte\n",
    );
    source("gone.url", "file:///there/is/no/such/file\n".to_owned());
    source("README", "no source\n".to_owned());
    let script =
        "#!/bin/sh\necho 'load{span=\"1 minute\"} 0.5'\necho 'load{span=\"5 minute\"} 0.25'\n";
    source("said.sh", script.to_owned());
    source("fails.sh", "#!/bin/sh\necho lost 1\nexit 3\n".to_owned());
    for name in ["said.sh", "fails.sh"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(sources.join(name), mode).expect("executable");
    }
    let conf = private_configuration(&scratch);
    fs::create_dir_all(scratch.path("config/pmda")).expect("a folder");
    let folder = sources.display();
    let config = format!(
        "openmetrics 144 pipe binary notready /usr/bin/python3 {} -c {folder} -d 144 -l -\n\
         ours 145 pipe binary {} pmdaopenmetrics -c {folder} -d 145 -r ours\n",
        debian()
            .join("usr/lib/pcp/pmdas/openmetrics/pmdaopenmetrics.python")
            .display(),
        spile_path().display()
    );
    let mut command = debian_pmcd();
    // Python takes its time on a busy machine.
    command.env("PCP_CONF", conf).args(["-q", "60", "-t", "60"]);
    command.env("PYTHONPATH", "/usr/lib/python3/dist-packages");
    let names = "root { openmetrics 144:*:* ours 145:*:* }\n";
    let pmcd = Pmcd::start(scratch, command, &config, names);
    let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
    until("Debian's agent has its metrics", || {
        theirs = exposed(&pmcd, "openmetrics", 144);
        theirs.contains_key("told.own.single")
    });
    ours.append(&mut exposed(&pmcd, "ours", 145));
    let names = |all: &BTreeMap<String, String>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    assert!(theirs.contains_key("below.some.http_requests_total"));
    for (name, said) in &theirs {
        // How often and for how long sources were asked.
        if !name.starts_with("control.") {
            for (our, their) in ours[name].lines().zip(said.lines()) {
                assert_eq!(our, their, "{name}");
            }
            assert_eq!(&ours[name], said, "{name}");
        }
    }
    let status = |all: &BTreeMap<String, String>, source: &str| {
        let all = &all["control.status"];
        let line = all
            .lines()
            .find(|line| line.contains(&format!("\"{source}\"] value")));
        line.unwrap_or_else(|| panic!("{source}: {all}")).to_owned()
    };
    for source in ["all", "below.some", "said", "fails"] {
        assert_eq!(status(&ours, source), status(&theirs, source));
    }
}

#[test]
fn endpoints_of_the_web_are_asked_with_their_headers() {
    use std::io::{BufRead, BufReader};
    let scratch = Scratch::new("agents-web");
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = server.local_addr().expect("its number").port();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.expect("a connection");
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let token = request
                .iter()
                .any(|l| l.eq_ignore_ascii_case("x-token: abc:def"));
            let answer = match request.first().map(String::as_str) {
                Some("GET /metrics HTTP/1.1") if token => {
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 1\n"
                }
                // Says nothing until the asker has lost patience.
                Some("GET /slow HTTP/1.1") => {
                    std::mem::forget(stream);
                    continue;
                }
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).expect("answered");
        }
    });
    for (name, content) in [
        ("web", "/metrics\nHEADER: X-Token: abc:def\n"),
        ("forbidden", "/metrics\n"),
        ("slow", "/slow\n"),
    ] {
        scratch.write(
            &format!("{name}.url"),
            &format!("http://127.0.0.1:{port}{content}"),
        );
    }
    fs::create_dir_all(scratch.path("config/pmda")).expect("a folder");
    let conf = private_configuration(&scratch);
    let config = format!(
        "openmetrics 144 pipe binary {} pmdaopenmetrics -t 0.5 -c {}\n",
        spile_path().display(),
        scratch.path("").display()
    );
    let mut command = our_pmcd();
    command.env("PCP_CONF", conf);
    let pmcd = Pmcd::start(scratch, command, &config, "root { openmetrics 144:*:* }\n");
    let mut context = context(&pmcd);
    assert_eq!(number(&mut context, "openmetrics.web.up"), 1);
    let metric = pmid(&mut context, "openmetrics.control.status_code");
    let codes = |context: &mut HostContext| {
        let desc = context.desc(metric).expect("a descriptor");
        let all = context.instances(desc.indom).expect("instances");
        let fetched = context.fetch(&[metric]).expect("values");
        let values = fetched.sets[0].instances().iter().map(|value| {
            let name = all.iter().find(|i| i.inst == value.inst).expect("its name");
            let code = Atom::extract(&value.value, Type::I32).expect("a number");
            (name.name.to_string(), code)
        });
        values.collect::<BTreeMap<_, _>>()
    };
    let wanted = [
        ("control", 0),
        ("forbidden", 404),
        ("slow", 0),
        ("web", 200),
    ];
    let wanted = wanted.map(|(name, code)| (name.to_owned(), Atom::I32(code)));
    assert_eq!(codes(&mut context), BTreeMap::from(wanted));
}

/// Files of control groups below a folder: of version 1 with three groups, or of version 2 with two.
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
        let pmcd = Pmcd::start(scratch, command, &config, &both_name_spaces(&names));
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
