//! The agent `logger`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pcp::{Atom, ErrorCode, EventArray, HostContext, Pmid, Type, Value};
use spile_tests::pcp_peer::{self, Pmcd};
use spile_tests::{Guard, SDT_MACROS, Scratch, spile_path, until};

use super::{context, debian, debian_pmcd, number, our_pmcd, pmid, store};

/// The names that PCP gives to its agent logger.
const LOGGER: &str = "\
root { logger }
logger { numclients 106:0:0  numlogfiles 106:0:1  param_string 106:0:2  maxmem 106:0:3  perfile 106:*:* }
";

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
    for (name, pmcd) in [("theirs", debian_pmcd()), ("ours", our_pmcd())] {
        let name = format!("agents-pmevent-{name}");
        each_line_comes_once(logger(&name, pmcd, "log n @/log.txt\n", ""));
    }
}

fn each_line_comes_once(pmcd: Pmcd) {
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
    for (name, pmcd) in [("theirs", debian_pmcd()), ("ours", our_pmcd())] {
        let name = format!("agents-missed-{name}");
        all_are_delivered_or_missed(logger(&name, pmcd, "log n @/log.txt\n", "-m 64k"));
    }
}

fn all_are_delivered_or_missed(pmcd: Pmcd) {
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

#[test]
fn filters_are_a_clients_own_and_open_what_is_restricted() {
    let sources = "open n @/open.txt\nclosed y @/closed.txt\n";
    let pmcd = logger("agents-filter", debian_pmcd(), sources, "");
    let [open, closed] = ["open", "closed"].map(|name| pmcd.scratch.path(&format!("{name}.txt")));
    let (mut one, mut two) = (context(&pmcd), context(&pmcd));
    let open_name = "logger.perfile.open.records";
    let open_records = pmid(&mut one, open_name);
    let closed_name = "logger.perfile.closed.records";
    let closed_records = pmid(&mut one, closed_name);
    let text = |text: &str| Atom::String(text.into());
    let refused = store(&mut one, open_name, text("((("));
    assert_eq!(refused, Err(ErrorCode::BADSTORE));
    store(&mut one, open_name, text("^(warn|error):")).expect("stored");
    store(&mut one, closed_name, text("[[:digit:]]+$")).expect("stored");
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
    let denied = store(&mut one, "logger.numclients", Atom::U32(1));
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
