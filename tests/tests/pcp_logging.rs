//! `spile pmlogger` and `spile pmlc` against `spile pmcd`; what they write is read by Debian's tools, too.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pcp::archive::ArchiveContext;
use spile_tests::{Guard, Outcome, Scratch, finish, pcp_peer, run, spile_path, until};

/// Where Debian's PCP is unpacked.
fn peer() -> &'static Path {
    static PEER: OnceLock<PathBuf> = OnceLock::new();
    PEER.get_or_init(|| pcp_peer::root(env!("CARGO_TARGET_TMPDIR")))
}

/// The names of PCP's agents simple and trivial, and some of pmcd's own.
const NAMES: &str = "\
root { pmcd simple trivial }
pmcd { pid 2:0:23  seqnum 2:0:24  timezone 2:0:5  hostname 2:0:21  pmlogger pmie }
pmcd.pmie { logfile 2:5:1  numrules 2:5:3 }
pmcd.pmlogger { port 2:3:0  archive 2:3:2  host 2:3:3 }
simple { numfetch 253:0:0  color 253:0:1  now 253:2:4  time }
simple.time { user 253:1:2  sys 253:1:3 }
trivial { time 250:0:0 }
";

/// A host of its own: a daemon with two agents, and a folder for all files.
struct Host {
    scratch: Scratch,
    pmcd: Option<Guard>,
    port: u16,
}

impl Host {
    fn new(name: &str) -> Host {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let mut host = Host {
            scratch: Scratch::new(name),
            pmcd: None,
            port,
        };
        host.start();
        host
    }

    fn start(&mut self) {
        let spile = spile_path();
        let spile = spile.display();
        let config = format!(
            "pmcd 2 dso pmcd_init none.so\nsimple 253 pipe binary {spile} pmdasimple -d 253\n\
             trivial 250 pipe binary {spile} pmdatrivial -d 250\n"
        );
        let socket = self.scratch.path("pmcd.socket");
        let mut command = self.command("pmcd");
        command
            .args(["-f", "-i", "127.0.0.1", "-p", &self.port.to_string(), "-c"])
            .arg(self.scratch.write("pmcd.conf", &config))
            .arg("-n")
            .arg(self.scratch.write("root", NAMES))
            .arg("-s")
            .arg(&socket)
            .arg("-l")
            .arg(self.scratch.path("pmcd.log"))
            .stdin(Stdio::null());
        self.pmcd = Some(Guard(command.spawn().expect("pmcd")));
        until("pmcd listens", || UnixStream::connect(&socket).is_ok());
    }

    /// A tool whose files are those of this host.
    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(spile_path());
        command
            .arg(tool)
            .current_dir(self.scratch.path(""))
            .env("TZ", "UTC")
            .env("PMCD_SOCKET", self.scratch.path("pmcd.socket"))
            .env("PCP_RUN_DIR", self.scratch.path(""))
            .env("PCP_TMP_DIR", self.scratch.path("tmp"))
            .env("PMLOGGER_LOCAL", "1")
            .env_remove("PCP_CONF");
        command
    }

    fn pmlogger(&self, args: &[&str]) -> Guard {
        let mut command = self.command("pmlogger");
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Guard(command.spawn().expect("pmlogger"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path("log")).unwrap_or_default()
    }

    fn own(&self, tool: &str, args: &[&str]) -> Outcome {
        let mut command = self.command(tool);
        command.args(args);
        run(command)
    }

    fn debian(&self, tool: &str, args: &[&str]) -> Outcome {
        let mut command = pcp_peer::program(peer(), tool);
        command.args(args).current_dir(self.scratch.path(""));
        run(command)
    }

    /// Records with values of the agents', by our reader; none while there is no archive.
    fn records(&self, archive: &str) -> usize {
        let outcome = self.own("pmdumplog", &["-m", archive]);
        if outcome.status != Some(0) {
            return 0;
        }
        outcome.stdout.matches("simple.numfetch").count()
    }
}

fn ends(mut guard: Guard, what: &str) -> Outcome {
    // The guard's child is taken out of it: it ends by itself.
    let child = std::mem::replace(
        &mut guard.0,
        Command::new("true").spawn().expect("a process"),
    );
    finish(child, what)
}

#[test]
fn both_versions_are_sound_and_read_alike() {
    let host = Host::new("pmlogger-versions");
    let config = "log mandatory on once { simple.time, pmcd.timezone }\n\
        log mandatory on 20 msec { simple.numfetch simple.color [ \"red\" 2 ] }\n\
        log advisory on 30 msec { trivial simple.color nonesuch }\n";
    host.scratch.write("config", config);
    for (version, archive) in [("2", "two"), ("3", "three")] {
        let args = [
            "-V", version, "-c", "config", "-l", "log", "-s", "12", "-v", "5", archive,
        ];
        ends(host.pmlogger(&args), "pmlogger").ok();
        let log = host.log();
        assert!(log.starts_with("Log for pmlogger on "), "{log}");
        assert!(
            log.contains(
                "Warning [config, line 3]\nProblem with lookup for metric \"nonesuch\" ... logging not activated\n\
                 Reason: Unknown metric name\n"
            ),
            "{log}"
        );
        assert!(
            log.contains("New log volume 1, via sample counter at "),
            "{log}"
        );
        assert!(
            log.contains("Info: pmlogger: Sample limit reached, exiting\n"),
            "{log}"
        );
        let checked = host.debian("pmlogcheck", &[archive]).ok();
        assert_eq!(checked.stderr, "", "version {version}");
        let theirs = host.debian("pmdumplog", &["-a", archive]).ok();
        let ours = host.own("pmdumplog", &["-a", archive]).ok();
        assert_eq!(ours.stdout, theirs.stdout, "version {version}");
        // What begins and ends an archive, and instances that were picked.
        assert_eq!(theirs.stdout.matches("(pmcd.pid): value").count(), 2);
        assert!(
            theirs.stdout.contains("inst [0 or \"red\"]"),
            "{}",
            theirs.stdout
        );
    }
    // What is there is not written over.
    let args = ["-c", "config", "-l", "log", "-s", "1", "two"];
    let again = ends(host.pmlogger(&args), "pmlogger");
    assert_eq!(again.status, Some(1));
    assert!(
        host.log()
            .contains("\"two.index\" already exists, not over-written")
    );
}

/// Whatever the moment at which it is killed, all that it wrote is read.
#[test]
fn nothing_is_lost_when_it_is_killed() {
    let host = Host::new("pmlogger-killed");
    host.scratch
        .write("config", "log mandatory on 1 msec { simple trivial }\n");
    for round in 0..15u64 {
        let archive = format!("killed{round}");
        let version = if round % 2 == 0 { "2" } else { "3" };
        let args = ["-V", version, "-c", "config", "-l", "log", &archive];
        let mut logger = host.pmlogger(&args);
        let volume = host.scratch.path(&format!("{archive}.0"));
        // Moments that differ: after so many bytes.
        let wanted = 400 + round * 1237;
        until("the archive grows", || {
            std::fs::metadata(&volume).is_ok_and(|m| m.len() > wanted)
        });
        logger.0.kill().expect("killed");
        logger.0.wait().expect("ended");
        let base = host.scratch.path(&archive);
        ArchiveContext::open(base.to_str().expect("UTF-8")).expect("an archive");
        let theirs = host.debian("pmdumplog", &["-m", &archive]).ok();
        let ours = host.own("pmdumplog", &["-m", &archive]).ok();
        assert_eq!(ours.stdout, theirs.stdout, "{archive}");
        let records = theirs
            .stdout
            .lines()
            .filter(|line| line.ends_with(" metric") || line.ends_with(" metrics"));
        assert_eq!(records.count(), whole_records(&volume), "{archive}");
    }
}

/// How many whole records stand behind the label of a volume: each has its length before and behind it (LOGARCHIVE(5)).
fn whole_records(volume: &Path) -> usize {
    let bytes = std::fs::read(volume).expect("a volume");
    let (mut at, mut records) = (0, 0);
    while let Some(head) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(head.try_into().expect("four bytes")) as usize;
        if bytes.get(at + length - 4..at + length) != Some(head) {
            break;
        }
        at += length;
        records += 1;
    }
    records - 1
}

#[test]
fn a_daemon_that_comes_and_goes_leaves_a_mark() {
    let mut host = Host::new("pmlogger-mark");
    host.scratch
        .write("config", "log mandatory on 10 msec simple.numfetch\n");
    let mut logger = host.pmlogger(&["-c", "config", "-l", "log", "marked"]);
    until("values are logged", || {
        host.scratch.path("marked.0").exists() && host.records("marked") > 2
    });
    host.pmcd = None;
    until("the loss is noticed", || {
        host.log().contains("Lost connection to PMCD")
    });
    host.start();
    until("the daemon is found again", || {
        host.log().contains("re-established connection to PMCD")
    });
    let pid = logger.0.id().to_string();
    let before = host.records("marked");
    until("values are logged again", || {
        host.records("marked") > before
    });
    run({
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &pid]);
        kill
    })
    .ok();
    assert!(logger.0.wait().expect("an end").success());
    let theirs = host.debian("pmdumplog", &["marked"]).ok();
    assert_eq!(
        theirs.stdout.matches("<mark>").count(),
        1,
        "{}",
        theirs.stdout
    );
    assert!(
        host.log().contains("Caught signal 15, exiting"),
        "{}",
        host.log()
    );
    assert!(!host.scratch.path("tmp/pmlogger").join(&pid).exists());
}

#[test]
fn pmlc_asks_and_tells() {
    let host = Host::new("pmlogger-pmlc");
    host.scratch.write(
        "config",
        "log mandatory on 1 hour simple.color\nlog advisory on 2 hours { simple.numfetch }\n",
    );
    let logger = host.pmlogger(&["-c", "config", "-l", "log", "-s", "4", "told"]);
    let pid = logger.0.id();
    let socket = host.scratch.path(&format!("pmlogger.{pid}.socket"));
    until("the logger listens", || {
        UnixStream::connect(&socket).is_ok()
    });
    until("its first values are logged", || host.records("told") > 0);
    let commands = format!(
        "connect {pid}\nquery {{ simple.color simple.numfetch\n trivial.time }}\n\
         log advisory on 90 sec simple.color\nlog mandatory off simple.color[\"red\"]\n\
         log mandatory maybe simple.color\nlog advisory on 1500 msec simple.color[\"red\", 1]\n\
         query simple.color\nnew volume\nquery nonesuch\nlog frob\nlog mandatory on once trivial.time\n"
    );
    let commands = host.scratch.write("commands", &commands);
    let mut command = host.command("pmlc");
    command
        .stdin(std::fs::File::open(commands).expect("commands"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let told = finish(command.spawn().expect("pmlc"), "pmlc").ok();
    // Columns and words as Debian's pmlc prints them.
    let expected = "\
simple.color
    mand on           1 hour [0 or \"red\"]
    mand on           1 hour [1 or \"green\"]
    mand on           1 hour [2 or \"blue\"]

simple.numfetch
    adv  on           2 hour

trivial.time
    adv  off nl             

Warning: unable to change logging state for:
simple.color instance(s):
    [0 or \"red\"]
    [1 or \"green\"]
    [2 or \"blue\"]

Warning: unable to change logging state for:
simple.color instance(s):
    [0 or \"red\"]

simple.color
    adv  on        1.5 sec  [0 or \"red\"]
    adv  on        1.5 sec  [1 or \"green\"]
    adv  off                 [2 or \"blue\"]

";
    assert_eq!(told.stdout, expected);
    assert_eq!(
        told.stderr,
        "New log volume 1\nWarning [<stdin>, line 10]\nProblem with lookup for metric \"nonesuch\" ...\n\
         Reason: Unknown metric name\nLogging statement ignored due to error(s)\n\
         Error [<stdin>, line 11]\nsyntax error\n"
    );
    // What it was told to log once and every second and a half makes its fourth record.
    ends(logger, "pmlogger").ok();
    let text = host.own("pmdumplog", &["told", "trivial.time"]).ok().stdout;
    assert_eq!(text.matches("trivial.time").count(), 1, "{text}");
    assert!(
        host.log().contains("via pmlc request at "),
        "{}",
        host.log()
    );
}

/// Statements of a configuration stand side by side: off takes nothing back, and advice against what is mandatory is refused. The
/// words are those of Debian's `pmlogger -C` on this configuration.
#[test]
fn statements_of_a_configuration_stand_side_by_side() {
    let host = Host::new("pmlogger-statements");
    let config = "\
log mandatory off { simple.now }
log advisory on 10 sec { simple.now }
log mandatory on 10 sec { simple.color[\"red\"] }
log advisory off { simple.color[\"red\"] }
log advisory on 10 sec { simple.color[\"red\",\"green\"] }
log mandatory on 10 sec { simple.time }
log advisory on 5 sec { simple.time.user }
log mandatory off { simple.time }
log mandatory maybe { simple.numfetch }
log advisory on 5 sec { simple.numfetch }
";
    host.scratch.write("cfg", config);
    let said = host.own("pmlogger", &["-C", "-c", "cfg"]).ok();
    let said = said.stderr + &said.stdout;
    let said: Vec<&str> = said
        .lines()
        .filter(|l| !l.ends_with("Info: Start") && !l.starts_with("preprocessor cmd:"))
        .collect();
    assert_eq!(
        said,
        [
            "Warning [cfg, line 2]",
            "Incompatible request for metric \"simple.now\"",
            "Warning [cfg, line 4]",
            "Incompatible request for metric \"simple.color\" and instance \"red\"",
            "Request for (advisory) OFF conflicts with current (mandatory) ON state",
            "Warning [cfg, line 5]",
            "Incompatible request for metric \"simple.color\" and instance \"red\"",
            "Request for (advisory) ON conflicts with current (mandatory) ON state",
            "Warning [cfg, line 7]",
            "Incompatible request for metric \"simple.time.user\"",
            "Config parsed",
        ]
    );
    // What was said to be on is logged, whatever was said to be off before or after.
    host.scratch.write(
        "both",
        "log mandatory off { trivial.time }\nlog mandatory on 1 hour { trivial.time simple.numfetch }\n\
         log mandatory off { simple.numfetch }\n",
    );
    let logger = host.pmlogger(&["-c", "both", "-l", "log", "-s", "1", "both"]);
    ends(logger, "pmlogger").ok();
    let text = host.own("pmdumplog", &["both"]).ok().stdout;
    assert_eq!(text.matches("(trivial.time): value").count(), 1, "{text}");
    assert_eq!(
        text.matches("(simple.numfetch): value").count(),
        1,
        "{text}"
    );
}

/// Metrics and instances that are named twice, or are not there, and lists that do not end, in the words of Debian's pmlc on this
/// dialogue with Debian's pmlogger.
#[test]
fn pmlc_tells_what_is_said_twice_or_wrong() {
    let host = Host::new("pmlogger-pmlc-twice");
    // What is off is something to be asked about: the logger stays.
    host.scratch
        .write("config", "log mandatory off trivial.time\n");
    let logger = host.pmlogger(&["-c", "config", "-l", "log", "twice"]);
    let pid = logger.0.id();
    // Its socket is not tried: who is connected keeps others waiting.
    let known = host.scratch.path("tmp/pmlogger").join(pid.to_string());
    until("the logger says where it listens", || {
        std::fs::read_to_string(&known).is_ok_and(|text| text.lines().count() >= 3)
    });
    let dialogue = "\
query { simple.color[\"green\"] simple.time.user simple.color[\"red\"] }
query { simple.time simple.color[\"green\"] simple.color }
query { simple.color simple.color[\"green\", \"blu\"] }
query { simple.color simple.color simple.time.user simple.time.user }
query { simple.color[\"red\",\"red\"] }
log mandatory on 5 min { no.such, simple.color simple.time }
query { simple.color[\"pink\"] simple.now[\"x\"] simple.time }
query {
simple.time.user nosuch
query {
";
    let commands = host
        .scratch
        .write("commands", &format!("connect {pid}\n{dialogue}"));
    let mut command = host.command("pmlc");
    command
        .stdin(std::fs::File::open(commands).expect("commands"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let told = finish(command.spawn().expect("pmlc"), "pmlc").ok();
    assert_eq!(
        told.stdout,
        "\
simple.color
    adv  off nl              [1 or \"green\"]
    adv  off nl              [0 or \"red\"]

simple.time.user
    adv  off nl             

simple.time.user
    adv  off nl             

simple.time.sys
    adv  off nl             

simple.color
    adv  off nl              [0 or \"red\"]
    adv  off nl              [1 or \"green\"]
    adv  off nl              [2 or \"blue\"]

simple.color
    adv  off nl              [0 or \"red\"]
    adv  off nl              [1 or \"green\"]
    adv  off nl              [2 or \"blue\"]

simple.color
    adv  off nl              [0 or \"red\"]
    adv  off nl              [1 or \"green\"]
    adv  off nl              [2 or \"blue\"]

simple.time.user
    adv  off nl             

simple.color
    adv  off nl              [0 or \"red\"]

"
    );
    assert_eq!(
        told.stderr,
        "\
Warning: simple.color had instance(s) specified previously.
         Using all instances since none specified this time
Warning: instance name blu not currently in metric simple.color's instance domain
         (getting all instances anyway)
Warning: instance(s) specified for simple.color
         (already using all instances)
Warning: already using all instances for simple.color
Warning: simple.time.user has already been specified
Warning: instance name red already specified for metric simple.color
Warning [<stdin>, line 7]
Problem with lookup for metric \"no.such\" ...
Reason: Unknown metric name
Warning [<stdin>, line 7]
Problem with lookup for metric \"simple.color\" ...
Reason: Unknown metric name
Warning [<stdin>, line 7]
Problem with lookup for metric \"simple.time\" ...
Reason: Unknown metric name
Logging statement ignored due to error(s)
Error: metric simple.color currently has no instance named pink
    - you may only specify metric instances active now.  However if no
      instances are specified, pmlogger will use all of the instances
      available at the time the metric is logged
Warning [<stdin>, line 8]
Problem with lookup for metric \"simple.now\" ...
Reason: Unknown or illegal instance identifier
Warning [<stdin>, line 8]
Problem with lookup for metric \"simple.time\" ...
Reason: Unknown or illegal instance identifier
Logging statement ignored due to error(s)
Warning [<stdin>, line 10]
Problem with lookup for metric \"nosuch\" ...
Reason: Unknown metric name
Warning [<stdin>, line 11]
Problem with lookup for metric \"query\" ...
Reason: Unknown metric name
Error [<stdin>, line 11]
syntax error
"
    );
    drop(logger);
}

/// What pmcd maps of a pmie: two paths, a host, and numbers behind them (`pmcd.pmie.*`).
#[test]
fn a_pmie_says_how_it_goes_and_ends_its_log() {
    let host = Host::new("pcp-pmie-stats");
    let rules = "simple.numfetch >= 0 -> shell \"true\"; some_inst simple.color > 100000 -> shell \"true\"; simple.numfetch;\n";
    host.scratch.write("rules", rules);
    let mut command = host.command("pmie");
    command
        .args(["-t", "0.1", "-l", "pmie.log", "rules"])
        .stdin(Stdio::null());
    let pmie = Guard(command.spawn().expect("pmie"));
    let pid = pmie.0.id();
    let path = host.scratch.path("tmp").join("pmie").join(pid.to_string());
    let numbers = || {
        let bytes = std::fs::read(&path).unwrap_or_default();
        let words = bytes.get(8260..)?.chunks_exact(4);
        let words: Vec<u32> = words
            .map(|w| u32::from_ne_bytes(w.try_into().expect("four bytes")))
            .collect();
        <[u32; 8]>::try_from(words).ok().map(|words| (bytes, words))
    };
    until("three evaluations", || {
        numbers().is_some_and(|(_, words)| words[6] >= 9)
    });
    let (
        bytes,
        [
            expected,
            rules,
            actions,
            truths,
            falsehoods,
            unknown,
            evaluated,
            version,
        ],
    ) = numbers().expect("a file");
    let text = |at: usize| {
        let bytes = bytes.get(at..).unwrap_or_default();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    assert!(text(0).ends_with("/rules"), "{}", text(0));
    assert!(text(4097).ends_with("/pmie.log"), "{}", text(4097));
    assert!(!text(8194).is_empty());
    // Three expressions, ten times a second.
    assert_eq!((f32::from_bits(expected), rules, version), (30.0, 2, 1));
    assert_eq!((actions, unknown), (truths, 0));
    assert_eq!((evaluated, truths), (3 * truths, falsehoods));
    let told = host.own("pminfo", &["-f", "pmcd.pmie.logfile", "pmcd.pmie.numrules"]);
    let instance = format!("    inst [{pid} or \"{pid}\"] value ");
    let told: Vec<&str> = told
        .stdout
        .lines()
        .filter_map(|l| l.strip_prefix(&instance))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter().any(|value| value.ends_with("/pmie.log\"")),
        "{told:?}"
    );
    assert_eq!(told.last(), Some(&"2"));
    let mut kill = Command::new("kill");
    kill.args(["-TERM", &pid.to_string()]);
    run(kill).ok();
    ends(pmie, "pmie");
    assert!(!path.exists());
    let log = std::fs::read_to_string(host.scratch.path("pmie.log")).expect("a log");
    assert!(log.starts_with("Log for pmie on "), "{log}");
    assert!(
        log.contains(&format!("pmie: PID = {pid}, via local:\n\n")),
        "{log}"
    );
    assert!(log.contains("\nLog finished "), "{log}");
}

/// Archives of one pmcd that overlap are joined without a mark.
#[test]
fn no_mark_parts_archives_of_one_pmcd() {
    let host = Host::new("pcp-marks");
    host.scratch
        .write("config", "log mandatory on 50 msec { simple.numfetch }\n");
    let args = |name, samples| ["-c", "config", "-l", name, "-s", samples, name];
    let long = host.pmlogger(&args("long", "12"));
    let short = host.pmlogger(&args("short", "4"));
    ends(short, "the short recording").ok();
    ends(long, "the long recording").ok();
    ends(host.pmlogger(&args("later", "2")), "the later one").ok();
    let marks = |names: &[&str], merged: &str| {
        let mut all = names.to_vec();
        all.push(merged);
        host.own("pmlogextract", &all).ok();
        let dump = host.debian("pmdumplog", &[merged]).ok().stdout;
        dump.matches("<mark>").count()
    };
    assert_eq!(marks(&["short", "long", "later"], "merged"), 0);
    assert_eq!(marks(&["-m", "short", "later"], "marked"), 1);
}

/// Diagnostics with the addresses in them numbered in their order: they are whatever memory was free.
fn numbered(text: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let mut numbered = String::new();
    for word in words {
        let address = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if !address.starts_with("0x") || address.len() <= 10 {
            numbered.push_str(word);
            continue;
        }
        let number = seen.iter().position(|a| *a == address).unwrap_or_else(|| {
            seen.push(address);
            seen.len() - 1
        });
        numbered.push_str(&format!("<{number}>{}", word.replace(address, "")));
    }
    numbered
}

/// Trees, operands and values of derived metrics of a live host, as `-Dderive` shows them.
#[test]
fn derived_metrics_are_traced_as_by_debian_s() {
    let host = Host::new("pcp-derived-traces");
    let config = host.scratch.write(
        "derived",
        "d.sum = simple.time.user + simple.time.sys\n\
         d.part = simple.color[red] + mkconst(3, type=double)\n\
         d.most = matchinst(!/red|blue/, simple.color) > 300 ? simple.color : -simple.color * 2\n\
         d.growth = delta(simple.color)\n\
         d.mean = avg(simple.color) + scalar(simple.color) / 5 && 1\n\
         d.known = defined(simple.color) + defined(no.such.metric)\n\
         d.far = rescale(simple.time.user, \"hour\") > 3 || 0 == 1\n\
         d.none = anon(PM_TYPE_U64)\n\
         d.wrong = simple.color + simple.time.user\n\
         d.missing = no.such.metric + 1\n",
    );
    for flags in ["derive", "derive,appl0", "derive,appl1"] {
        let said = |mut command: Command| {
            command
                .args([
                    "-h",
                    &format!("127.0.0.1:{}", host.port),
                    "-D",
                    flags,
                    "-d",
                    "d",
                ])
                .env("PCP_DERIVED_CONFIG", &config);
            let outcome = run(command);
            (outcome.stdout, numbered(&outcome.stderr))
        };
        let theirs = said(pcp_peer::program(peer(), "pminfo"));
        let own = said(host.command("pminfo"));
        assert_eq!(own, theirs, "{flags}");
    }
}

/// What is fetched together, and sizes that are none, in the words of Debian's.
#[test]
fn what_is_fetched_is_told_as_by_debian_s_pmlogger() {
    let host = Host::new("pcp-fetches");
    let config = host.scratch.write(
        "fetches",
        "log mandatory on 1 sec { simple.color\n simple.time }\nlog mandatory on once { trivial.time }\n\
         log advisory on 500 msec { simple.now }\n",
    );
    let config = config.to_str().expect("a path in UTF-8");
    let server = format!("127.0.0.1:{}", host.port);
    for options in [
        &["-C", "-Doptfetch"][..],
        &["-C", "-v", "4kibibytes", "-s", "10Mebibytes"],
        &["-C", "-v", "0"],
        &["-C", "-s", "1 mb"],
        &["-C", "archive"],
    ] {
        let args = [&["-h", &server, "-c", config][..], options].concat();
        let said = |outcome: Outcome| -> Vec<String> {
            let lines = outcome.stderr.lines();
            // All but what bears the time, and the command of another preprocessor.
            let lines =
                lines.filter(|l| !l.contains(" pmlogger(") && !l.starts_with("preprocessor"));
            lines.map(str::to_owned).collect()
        };
        let (own, theirs) = (host.own("pmlogger", &args), host.debian("pmlogger", &args));
        assert_eq!(own.status, theirs.status, "{options:?}");
        let first = |lines: Vec<String>| match options {
            // Usage names our own options as well.
            ["-C", "-Doptfetch"] => lines,
            _ => lines.into_iter().take(1).collect(),
        };
        assert_eq!(first(said(own)), first(said(theirs)), "{options:?}");
    }
}

/// What is not there, or wrong, in a configuration: Debian's words, and it logs on for what may come.
#[test]
fn configurations_of_nothing_are_told_as_by_debian_s_pmlogger() {
    let host = Host::new("pcp-config-words");
    let server = format!("127.0.0.1:{}", host.port);
    for (number, text) in [
        "log mandatory on 1 sec { no.such }",
        "log advisory off { no.such }",
        "log mandatory on 1 sec { no.such no.other }",
        "log mandatory on 1 sec { no.such }\nlog mandatory on 2 sec { no.other }",
        "log mandatory on 1 sec { no.such [\"x\"] }",
        "log mandatory on 1 sec { simple.color [nosuch] }",
        "log mandatory on 1 sec { simple.numfetch [\"x\"] }",
        "log mandatory on 1 sec { simple.color ; }",
        "log mandatory on 1 sec { simple.color : }",
        "log mandatory on 1 sec ; { simple.color }",
    ]
    .iter()
    .enumerate()
    {
        let config = host.scratch.write("config", &format!("{text}\n"));
        let config = config.to_str().expect("a path in UTF-8");
        let said = |who: &str, outcome: Outcome| -> (Option<i32>, Vec<String>) {
            let lines = outcome.stderr.lines();
            let dated = |l: &str| l.contains(" pmlogger(") || l.starts_with("Log ");
            let lines = lines.filter(|l| !dated(l) && !l.starts_with("preprocessor"));
            let lines = lines
                .map(|line| line.replace(&format!(" {who}"), ""))
                .collect();
            (outcome.status, lines)
        };
        let run = |who: &str| {
            let name = format!("{who}{number}");
            let args = ["-h", &server, "-T", "0.1", "-c", config, "-l", "-", &name];
            match who {
                "own" => said(who, host.own("pmlogger", &args)),
                _ => said(who, host.debian("pmlogger", &args)),
            }
        };
        assert_eq!(run("own"), run("theirs"), "{text}");
    }
}
