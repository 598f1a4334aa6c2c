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
    let table = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../crates/agents/src/linux/metrics.tsv"
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
    let conf = scratch.write("pcp.conf", &lines.collect::<String>());
    command.env("PCP_CONF", conf);
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
