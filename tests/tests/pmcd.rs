//! `spile pmcd` with agents at the ends of pipes, and clients over both of its sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use pcp::pdu::{Header, Pdu, Profile};
use pcp::{
    Atom, ErrorCode, Fetched, HostContext, HostSpec, InstanceValue, LabelLevel, Pmid, Text,
    Timestamp, Type, ValueSet,
};
use spile_tests::{Guard, Scratch, spile_path, until};

const NUMFETCH: Pmid = Pmid::new(253, 0, 0);
const COLOR: Pmid = Pmid::new(253, 0, 1);
const TRIVIAL: Pmid = Pmid::new(250, 0, 0);
/// pmcd.numclients, and pmcd.pdu_out.fetch.
const CLIENTS: Pmid = Pmid::new(2, 0, 3);
const ASKED: Pmid = Pmid::new(2, 2, 3);

/// The names of PCP's agents simple and trivial, and some of pmcd's own.
const NAMES: &str = "\
root { pmcd simple trivial }
pmcd { numagents 2:0:2  timezone 2:0:5  agent }
pmcd.agent { status 2:4:1  fenced 2:4:2 }
simple { numfetch 253:0:0  color 253:0:1  now 253:2:4  time }
simple.time { user 253:1:2  sys 253:1:3 }
trivial { time 250:0:0 }
";

struct Daemon {
    scratch: Scratch,
    process: Guard,
    port: u16,
}

impl Daemon {
    fn start(name: &str, access: &str, options: &[&str]) -> Daemon {
        let spile = spile_path();
        let spile = spile.display();
        let agents = format!(
            "simple 253 pipe binary {spile} pmdasimple -d 253\n\
             trivial 250 pipe binary {spile} pmdatrivial -d 250\n"
        );
        Daemon::with_agents(Scratch::new(name), &agents, access, options)
    }

    fn with_agents(scratch: Scratch, agents: &str, access: &str, options: &[&str]) -> Daemon {
        Daemon::with_folder(scratch, agents, access, options, None)
    }

    /// With `/etc/pcp` elsewhere.
    fn with_folder(
        scratch: Scratch,
        agents: &str,
        access: &str,
        options: &[&str],
        folder: Option<&std::path::Path>,
    ) -> Daemon {
        let config = format!("pmcd 2 dso pmcd_init none.so\n{agents}{access}");
        let config = scratch.write("pmcd.conf", &config);
        let names = scratch.write("root", NAMES);
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let mut command = Command::new(spile_path());
        command
            .args(["pmcd", "-f", "-i", "127.0.0.1", "-p", &port.to_string()])
            .arg("-c")
            .arg(config)
            .arg("-n")
            .arg(names)
            .arg("-s")
            .arg(scratch.path("socket"))
            .arg("-l")
            .arg(scratch.path("log"))
            .args(options)
            .stdin(Stdio::null())
            .env_remove("PCP_CONF");
        if let Some(folder) = folder {
            command.env("PCP_SYSCONF_DIR", folder);
        }
        let process = Guard(command.spawn().expect("pmcd"));
        let socket = scratch.path("socket");
        until("pmcd listens", || UnixStream::connect(&socket).is_ok());
        Daemon {
            scratch,
            process,
            port,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path("log")).expect("a log")
    }

    fn local(&self) -> HostContext {
        self.context(&format!("unix:{}", self.scratch.path("socket").display()))
    }

    fn remote(&self) -> HostContext {
        self.context(&format!("127.0.0.1:{}", self.port))
    }

    fn context(&self, spec: &str) -> HostContext {
        let parsed: HostSpec = spec.parse().expect(spec);
        HostContext::new(parsed, spec).unwrap_or_else(|e| panic!("{spec}: {e}\n{}", self.log()))
    }

    /// The process of an agent, by its command's word.
    fn agent(&self, word: &str) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.process.0.id());
        let children = std::fs::read_to_string(children).expect("children");
        let found = children.split_whitespace().find(|pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.split(|b| *b == 0).any(|w| w == word.as_bytes())
        });
        found.unwrap_or_else(|| panic!("no {word}")).to_owned()
    }
}

fn signal(name: &str, pid: &str) {
    let done = Command::new("kill").args(["-s", name, pid]).status();
    assert!(done.expect("kill").success());
}

fn numbers(fetched: &Fetched, set: usize, ty: Type) -> Vec<(i32, Atom)> {
    let values = fetched.sets[set].instances().iter();
    values
        .map(|v| (v.inst, Atom::extract(&v.value, ty).expect("a value")))
        .collect()
}

fn store(pmid: Pmid, inst: i32, value: Atom) -> Fetched {
    let value = InstanceValue {
        inst,
        value: value.to_value(),
    };
    Fetched {
        time: Timestamp::default(),
        sets: vec![ValueSet::new(pmid, vec![value])],
    }
}

#[test]
fn clients_get_what_agents_have() {
    let daemon = Daemon::start("pmcd-values", "", &[]);
    let mut context = daemon.remote();
    let names = ["simple.color", "trivial.time", "simple.none"].map(Text::from);
    let found = context.lookup_names(&names).expect("names");
    assert_eq!(found, [Ok(COLOR), Ok(TRIVIAL), Err(ErrorCode::NAME)]);
    let mut leaves = context.traverse(&Text::from("simple")).expect("leaves");
    leaves.sort();
    let expected = ["color", "now", "numfetch", "time.sys", "time.user"];
    assert_eq!(leaves, expected.map(|n| Text::from(format!("simple.{n}"))));
    assert_eq!(context.names_of(COLOR).expect("name"), ["simple.color"]);
    let desc = context.desc(COLOR).expect("desc");
    let instances = context.instances(desc.indom).expect("instances");
    let instances: Vec<_> = instances.iter().map(|i| i.name.to_string()).collect();
    assert_eq!(instances, ["red", "green", "blue"]);
    // Each fetch adds one to what begins at 0, 100 and 200 (the agent's help text).
    let fetched = context.fetch(&[TRIVIAL, COLOR, NUMFETCH]).expect("values");
    let colors = numbers(&fetched, 1, Type::I32);
    assert_eq!(
        colors,
        [(0, Atom::I32(1)), (1, Atom::I32(101)), (2, Atom::I32(201))]
    );
    context.profile_mut().remove(Some(desc.indom), &[]);
    context.profile_mut().add(Some(desc.indom), &[1]);
    let fetched = context.fetch(&[COLOR]).expect("values");
    assert_eq!(numbers(&fetched, 0, Type::I32), [(1, Atom::I32(102))]);
    // Another client that wants the same instances gets no others.
    let mut other = daemon.local();
    other.profile_mut().remove(Some(desc.indom), &[]);
    other.profile_mut().add(Some(desc.indom), &[1]);
    let fetched = other.fetch(&[COLOR]).expect("values");
    assert_eq!(numbers(&fetched, 0, Type::I32), [(1, Atom::I32(103))]);
    let labels = context
        .labels(desc.indom.0, LabelLevel::InDom)
        .expect("labels");
    assert_eq!(
        &labels[0].json[..],
        br#"{"indom_name":"color","model":"RGB"}"#
    );
    // Without help texts where the agent looks for them, and without such an agent.
    assert_eq!(
        context.desc(Pmid::new(99, 0, 0)).map_err(|e| e.code()),
        Err(ErrorCode::PMID)
    );
}

#[test]
fn the_linux_agent_knows_its_names() {
    let scratch = Scratch::new("pmcd-names");
    let names = scratch.write("names", "root { kernel 60:*:*  mem 60:*:* }\n");
    let agent = format!(
        "linux 60 pipe binary {} pmdalinux\n",
        spile_path().display()
    );
    let names = names.display().to_string();
    let daemon = Daemon::with_agents(scratch, &agent, "", &["-n", &names]);
    let ask = |names: &[&str]| {
        let mut command = Command::new(spile_path());
        command
            .args(["pminfo", "-h", "127.0.0.1", "-f"])
            .args(names);
        command.env("PMCD_PORT", daemon.port.to_string());
        spile_tests::run(command).ok().stdout
    };
    // As uname(1) and meminfo have them.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let expected = format!("\nkernel.uname.release\n    value \"{}\"\n", release.trim());
    assert_eq!(ask(&["kernel.uname.release"]), expected);
    let memory = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let total = memory.split_whitespace().nth(1).expect("MemTotal");
    assert_eq!(
        ask(&["mem.physmem"]),
        format!("\nmem.physmem\n    value {total}\n")
    );
}

#[test]
fn rules_say_who_may_store() {
    let access = "[access]\ndisallow \".*\" : store;\nallow \"unix:\" : all;\n";
    let daemon = Daemon::start("pmcd-access", access, &[]);
    let value = store(NUMFETCH, pcp::INST_NULL, Atom::U32(41));
    let refused = daemon.remote().store(&value).map_err(|e| e.code());
    assert_eq!(refused, Err(ErrorCode::PERMISSION));
    let mut local = daemon.local();
    local.store(&value).expect("stored");
    let fetched = local.fetch(&[NUMFETCH]).expect("values");
    assert_eq!(
        numbers(&fetched, 0, Type::U32),
        [(pcp::INST_NULL, Atom::U32(42))]
    );
    let bad = store(COLOR, 0, Atom::I32(500));
    assert_eq!(
        local.store(&bad).map_err(|e| e.code()),
        Err(ErrorCode::BADSTORE)
    );
}

#[test]
fn rubbish_ends_its_own_connection_only() {
    let daemon = Daemon::start("pmcd-rubbish", "", &[]);
    let mut good = daemon.local();
    for rubbish in [
        &[0, 0, 0, 4, 0, 0, 0x70, 3, 0, 0, 0, 0][..],
        &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0x70, 3, 0, 0, 0, 0],
        &[0, 0, 0, 16, 0, 0, 0x70, 0x99, 0, 0, 0, 0, 0, 0, 0, 0],
        &[
            0, 0, 0, 28, 0, 0, 0x70, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff,
            0xff, 0xff,
        ],
    ] {
        let mut bad = TcpStream::connect(("127.0.0.1", daemon.port)).expect("a connection");
        let mut greeting = [0; 20];
        bad.read_exact(&mut greeting).expect("a greeting");
        // An extended ERROR PDU: no error, version 2, licensed.
        assert_eq!(
            greeting[..18],
            [0, 0, 0, 20, 0, 0, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1]
        );
        bad.write_all(rubbish).expect("rubbish");
        let mut rest = Vec::new();
        // It ends, by an end of file or a reset.
        let _ = bad.read_to_end(&mut rest);
        assert_eq!(rest, [0; 0], "{rubbish:?}");
    }
    assert!(good.fetch(&[NUMFETCH]).is_ok());
}

#[test]
fn an_agent_that_dies_is_told_of_and_started_again() {
    let daemon = Daemon::start("pmcd-agents", "", &[]);
    let mut context = daemon.local();
    assert!(
        context.fetch(&[NUMFETCH]).expect("values").sets[0]
            .values
            .is_ok()
    );
    signal("KILL", &daemon.agent("pmdasimple"));
    let mut seen = Vec::new();
    until("the agent is missed", || {
        let fetched = context.fetch(&[NUMFETCH, TRIVIAL]).expect("values");
        assert!(fetched.sets[1].values.is_ok());
        seen.extend(fetched.sets[0].values.clone().err());
        seen.last() == Some(&ErrorCode::NOAGENT)
    });
    assert!(
        seen.iter()
            .all(|c| [ErrorCode::AGAIN, ErrorCode::NOAGENT].contains(c)),
        "{seen:?}"
    );
    // PMCD_DROP_AGENT of pmFetch(3).
    assert_eq!(context.take_changes(), 4);
    signal("HUP", &daemon.process.0.id().to_string());
    until("the agent is back", || {
        let fetched = context.fetch(&[NUMFETCH]).expect("values");
        fetched.sets[0].values.is_ok()
    });
    // PMCD_RESTART_AGENT and PMCD_NAMES_CHANGE.
    assert_eq!(context.take_changes(), 2 | 16);
}

#[test]
fn a_stopped_agent_keeps_nobody_else_waiting() {
    let daemon = Daemon::start("pmcd-stopped", "", &["-t", "0"]);
    let mut one = daemon.local();
    let mut other = daemon.local();
    let agent = daemon.agent("pmdasimple");
    signal("STOP", &agent);
    let (tell, told) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let fetched = one.fetch(&[NUMFETCH]).expect("values");
        let _ = tell.send(());
        fetched.sets[0].values.is_ok()
    });
    for _ in 0..100 {
        let fetched = other.fetch(&[TRIVIAL]).expect("values");
        assert!(fetched.sets[0].values.is_ok());
    }
    assert!(told.try_recv().is_err());
    signal("CONT", &agent);
    assert!(waiting.join().expect("the waiting client"));
}

/// Runs an agent at the other end of the first connection that a listener gets.
fn serve_once(accept: impl FnOnce() -> OwnedFd + Send + 'static, agent: &'static [&'static str]) {
    std::thread::spawn(move || {
        let stream = accept();
        let copy = stream.try_clone().expect("a descriptor");
        let mut command = Command::new(spile_path());
        command.args(agent).stdin(stream).stdout(copy);
        // It ends when the daemon closes the connection.
        let _ = command.status();
    });
}

#[test]
fn agents_are_reached_over_sockets() {
    let scratch = Scratch::new("pmcd-sockets");
    let path = scratch.path("agent");
    let local = UnixListener::bind(&path).expect("a socket");
    let inet = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = inet.local_addr().expect("an address").port();
    serve_once(
        move || local.accept().expect("a connection").0.into(),
        &["pmdasimple", "-d", "253"],
    );
    serve_once(
        move || inet.accept().expect("a connection").0.into(),
        &["pmdatrivial", "-d", "250"],
    );
    let agents = format!(
        "simple 253 socket unix {}\ntrivial 250 socket inet {port}\n",
        path.display()
    );
    let daemon = Daemon::with_agents(scratch, &agents, "", &[]);
    let mut context = daemon.remote();
    let fetched = context.fetch(&[TRIVIAL, COLOR]).expect("values");
    assert!(fetched.sets[0].values.is_ok(), "{}", daemon.log());
    let colors = numbers(&fetched, 1, Type::I32);
    assert_eq!(
        colors,
        [(0, Atom::I32(1)), (1, Atom::I32(101)), (2, Atom::I32(201))]
    );
}

/// As many descriptors as the system allows.
fn many_descriptors() {
    let done = Command::new("sh")
        .args(["-c", "prlimit --pid $PPID --nofile=$(ulimit -Hn)"])
        .status();
    assert!(done.expect("prlimit").success());
}

/// With ten thousand clients who say nothing the next one is served all the same, and they leave as they came.
#[test]
fn idle_clients_are_nothing_special() {
    many_descriptors();
    let daemon = Daemon::start("pmcd-idle", "", &[]);
    let socket = daemon.scratch.path("socket");
    let idle: Vec<UnixStream> = (0..10_000)
        .map(|_| UnixStream::connect(&socket).expect("a connection"))
        .collect();
    let mut context = daemon.remote();
    let clients = |context: &mut HostContext| {
        let fetched = context.fetch(&[CLIENTS]).expect("values");
        numbers(&fetched, 0, Type::U32)[0].1.clone()
    };
    until("all are served", || {
        clients(&mut context) == Atom::U32(10_001)
    });
    let fetched = context.fetch(&[COLOR]).expect("values");
    assert_eq!(numbers(&fetched, 0, Type::I32).len(), 3);
    drop(idle);
    until("all have left", || clients(&mut context) == Atom::U32(1));
    assert!(context.fetch(&[COLOR]).is_ok());
}

/// How many fetches the daemon asked its agents for.
fn asked(context: &mut HostContext) -> Atom {
    let fetched = context.fetch(&[ASKED]).expect("values");
    numbers(&fetched, 0, Type::U32)[0].1.clone()
}

#[test]
fn an_agent_that_is_killed_in_mid_fetch_costs_that_fetch_its_values() {
    let daemon = Daemon::start("pmcd-mid-fetch", "", &["-t", "0"]);
    let mut one = daemon.local();
    let mut other = daemon.remote();
    let agent = daemon.agent("pmdasimple");
    signal("STOP", &agent);
    let before = asked(&mut other);
    let waiting = std::thread::spawn(move || {
        let fetched = one.fetch(&[TRIVIAL, NUMFETCH, COLOR]).expect("values");
        let again = one.fetch(&[TRIVIAL]).expect("values");
        (fetched, again)
    });
    until("the agents are asked", || {
        asked(&mut other) == before_and(&before, 2)
    });
    signal("KILL", &agent);
    let (fetched, again) = waiting.join().expect("the waiting client");
    assert!(fetched.sets[0].values.is_ok());
    for set in &fetched.sets[1..] {
        assert_eq!(set.values, Err(ErrorCode::AGAIN));
    }
    assert!(again.sets[0].values.is_ok());
    assert!(
        other.fetch(&[TRIVIAL]).expect("values").sets[0]
            .values
            .is_ok()
    );
}

fn before_and(before: &Atom, more: u32) -> Atom {
    match before {
        Atom::U32(number) => Atom::U32(number + more),
        other => other.clone(),
    }
}

/// Who asks several agents gets the values of those that answer, and the daemon ends although one does not.
#[test]
fn a_fetch_from_several_agents_does_not_wait_for_one_that_hangs() {
    let mut daemon = Daemon::start("pmcd-hangs", "", &["-t", "0"]);
    let mut one = daemon.local();
    let mut other = daemon.remote();
    let agent = daemon.agent("pmdasimple");
    signal("STOP", &agent);
    let before = asked(&mut other);
    let waiting = std::thread::spawn(move || {
        let fetched = one.fetch(&[NUMFETCH]);
        fetched.is_ok_and(|f| f.sets[0].values.is_ok())
    });
    until("the agent is asked", || {
        asked(&mut other) == before_and(&before, 1)
    });
    for _ in 0..2 {
        let fetched = other.fetch(&[NUMFETCH, TRIVIAL]).expect("values");
        assert_eq!(fetched.sets[0].values, Err(ErrorCode::AGAIN));
        assert!(fetched.sets[1].values.is_ok());
    }
    signal("TERM", &daemon.process.0.id().to_string());
    let ended = daemon.process.0.wait().expect("the daemon");
    assert!(ended.success(), "{ended}");
    assert!(!waiting.join().expect("the waiting client"));
}

/// New rules hold for those who are connected, too: what they may do, and whether they may be at all.
#[test]
fn rules_that_change_are_for_all() {
    let daemon = Daemon::start("pmcd-new-rules", "", &[]);
    let value = store(NUMFETCH, pcp::INST_NULL, Atom::U32(41));
    let mut local = daemon.local();
    let mut remote = daemon.remote();
    local.store(&value).expect("stored");
    let rules = "[access]\ndisallow \"unix:\" : store;\ndisallow \".*\" : all;\n";
    let config = daemon.scratch.path("pmcd.conf");
    let old = std::fs::read_to_string(&config).expect("a configuration");
    std::fs::write(&config, format!("{old}{rules}")).expect("written");
    signal("HUP", &daemon.process.0.id().to_string());
    until("the rules hold", || local.store(&value).is_err());
    let refused = local.store(&value).map_err(|e| e.code());
    assert_eq!(refused, Err(ErrorCode::PERMISSION));
    until("the other is gone", || remote.fetch(&[TRIVIAL]).is_err());
    assert!(local.fetch(&[TRIVIAL]).is_ok());
}

/// A `dso` line means the agent of that name, in the daemon's process.
#[test]
fn agents_run_in_the_daemon() {
    let agents = "simple 253 dso simple_init pmda_simple.so\nother 9 dso other_init x.so\n";
    let daemon = Daemon::with_agents(Scratch::new("pmcd-built-in"), agents, "", &[]);
    let mut context = daemon.remote();
    let fetched = context.fetch(&[COLOR, Pmid::new(9, 0, 0)]).expect("values");
    assert_eq!(
        numbers(&fetched, 0, Type::I32),
        [(0, Atom::I32(1)), (1, Atom::I32(101)), (2, Atom::I32(201))]
    );
    assert_eq!(fetched.sets[1].values, Err(ErrorCode::NOAGENT));
    assert!(
        daemon.log().contains("x.so is a shared object"),
        "{}",
        daemon.log()
    );
}

/// A client that sends profiles for ever new contexts has the last ones only.
/// A client that writes and reads PDUs itself.
struct RawClient(TcpStream);

impl RawClient {
    fn connect(daemon: &Daemon) -> RawClient {
        let address = ("127.0.0.1", daemon.port);
        let mut client = RawClient(TcpStream::connect(address).expect("a connection"));
        client.0.read_exact(&mut [0; 20]).expect("a greeting");
        client
    }

    fn send(&mut self, pdu: &Pdu) {
        let mut bytes = Vec::new();
        pdu.encode(0, &mut bytes);
        self.0.write_all(&bytes).expect("a request");
    }

    fn receive(&mut self) -> Pdu {
        let mut bytes = vec![0; 12];
        self.0.read_exact(&mut bytes).expect("a header");
        let header = Header::decode(&bytes, 4096)
            .expect("a header")
            .expect("twelve bytes");
        bytes.resize(header.length, 0);
        self.0.read_exact(&mut bytes[12..]).expect("the rest");
        Pdu::decode(&bytes.into()).expect("a PDU").1
    }
}

#[test]
fn profiles_take_bounded_room() {
    let daemon = Daemon::start("pmcd-profiles", "", &[]);
    let mut client = RawClient::connect(&daemon);
    for context in 0..1000 {
        let profile = Profile::default();
        client.send(&Pdu::Profile { context, profile });
    }
    for context in [0, 999] {
        let pmids = vec![TRIVIAL];
        client.send(&Pdu::Fetch { context, pmids });
    }
    let (code, info) = (ErrorCode::NOPROFILE, None);
    assert_eq!(client.receive(), Pdu::Error { code, info });
    assert!(matches!(client.receive(), Pdu::Result(_)));
}

/// One name without a metric is an error, several have null identifiers, as pmLookupName(3) and PCP's pmcd have it.
#[test]
fn names_without_metrics_are_counted() {
    let daemon = Daemon::start("pmcd-names", "", &[]);
    let mut client = RawClient::connect(&daemon);
    let mut ask = |names: &[&str]| {
        let names = names.iter().map(|&name| Text::from(name)).collect();
        let status = Vec::new();
        client.send(&Pdu::PmnsNames { names, status });
        client.receive()
    };
    let error = |code| Pdu::Error { code, info: None };
    let found = |status, pmids| Pdu::PmnsIds { status, pmids };
    assert_eq!(ask(&["no.such"]), error(ErrorCode::NAME));
    assert_eq!(ask(&["simple"]), error(ErrorCode::NONLEAF));
    assert_eq!(
        ask(&["no.such", "simple"]),
        found(0, vec![Pmid::NULL, Pmid::NULL])
    );
    assert_eq!(
        ask(&["no.such", "trivial.time", "simple"]),
        found(1, vec![Pmid::NULL, TRIVIAL, Pmid::NULL])
    );
}

#[test]
fn a_configuration_that_is_wrong_is_refused() {
    let scratch = Scratch::new("pmcd-verify");
    let config = scratch.write("pmcd.conf", "a 1 pipe binary x\nb 1 pipe binary y\n");
    let out = spile_tests::run({
        let mut command = Command::new(spile_path());
        command.args(["pmcd", "-v", "-c"]).arg(&config);
        command
    });
    assert_eq!(out.status, Some(1));
    let expected = format!("{}:2: agent \"b\" (domain 1)", config.display());
    assert!(out.stderr.contains(&expected), "{}", out.stderr);
    // A daemon that did not know whom to keep out would let everybody in.
    let config = scratch.write("pmcd.conf", "[access]\ndisallow host * : store\n");
    let names = scratch.write("root", NAMES);
    let out = spile_tests::run({
        let mut command = Command::new(spile_path());
        command.args(["pmcd", "-f", "-i", "127.0.0.1", "-p", "0", "-c"]);
        command.arg(&config).arg("-n").arg(names);
        command.arg("-s").arg(scratch.path("socket"));
        command.arg("-l").arg(scratch.path("log"));
        command
    });
    assert_eq!(out.status, Some(1));
    let log = std::fs::read_to_string(scratch.path("log")).expect("a log");
    let expected = format!("{}:2: a semicolon was due", config.display());
    assert!(log.contains(&expected), "{log}");
}

/// `-L` asks the agents of `-K` with no daemon of the host, and leaves nothing behind.
#[test]
fn a_local_context_needs_no_daemon() {
    let scratch = Scratch::new("pmcd-local");
    let names = scratch.write("root", NAMES);
    let output = Command::new(spile_path())
        .args(["pminfo", "-L", "-K", "clear", "-K"])
        .arg("add,253,pmda_simple.so,simple_init")
        .arg("-n")
        .arg(&names)
        .args(["-f", "simple.color"])
        .env_remove("PCP_CONF")
        .env("TMPDIR", scratch.path("."))
        .output()
        .expect("pminfo");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // The three colours are counters that begin at 0, 100 and 200, one more with each fetch.
    assert_eq!(
        text,
        "\nsimple.color\n    inst [0 or \"red\"] value 1\n    inst [1 or \"green\"] value 101\n    inst [2 or \"blue\"] value 201\n",
        "{said}"
    );
    let left = std::fs::read_dir(scratch.path(".")).expect("the folder");
    let left = left
        .flatten()
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    assert_eq!(left.count(), 0);
}

/// `pmlogger -o` logs what the agents of `-K` have.
#[test]
fn a_logger_needs_no_daemon() {
    let scratch = Scratch::new("pmcd-local-log");
    let names = scratch.write("root", NAMES);
    let config = scratch.write("config", "log mandatory on once { simple.color }\n");
    let archive = scratch.path("archive");
    let logged = Command::new(spile_path())
        .args(["pmlogger", "-o", "-K", "clear", "-K"])
        .arg("add,253,pmda_simple.so,simple_init")
        .arg("-n")
        .arg(&names)
        .args(["-L", "-T", "1sec", "-c"])
        .arg(&config)
        .arg("-l")
        .arg(scratch.path("log"))
        .arg(&archive)
        .env_remove("PCP_CONF")
        .env("TMPDIR", scratch.path("."))
        .env("PCP_RUN_DIR", scratch.path("."))
        .env("PCP_TMP_DIR", scratch.path("."))
        .output()
        .expect("pmlogger");
    let log = std::fs::read_to_string(scratch.path("log")).unwrap_or_default();
    assert_eq!(logged.status.code(), Some(0), "{log}");
    let dump = Command::new(spile_path())
        .arg("pmdumplog")
        .arg(&archive)
        .arg("simple.color")
        .output()
        .expect("pmdumplog");
    let text = String::from_utf8_lossy(&dump.stdout);
    for value in [
        "\"red\"] value 1\n",
        "\"green\"] value 101\n",
        "\"blue\"] value 201\n",
    ] {
        assert!(text.contains(value), "{text}{log}");
    }
}

/// On SIGHUP the files with the host's labels are read again.
#[test]
fn labels_of_the_host_are_read_again() {
    let scratch = Scratch::new("pmcd-labels");
    let folder = scratch.path("etc");
    std::fs::create_dir_all(folder.join("labels")).expect("a folder");
    let write = |text| std::fs::write(folder.join("labels/site.json"), text).expect("a file");
    write(r#"{"rack":"a1"}"#);
    let daemon = Daemon::with_folder(scratch, "", "", &[], Some(&folder));
    let labels = || {
        let sets = daemon.local().labels(u32::MAX, LabelLevel::Context);
        String::from_utf8_lossy(&sets.expect("labels")[0].json).into_owned()
    };
    assert!(labels().contains(r#""rack":"a1""#), "{}", labels());
    write(r#"{"rack":"b2"}"#);
    assert!(labels().contains(r#""rack":"a1""#), "{}", labels());
    signal("HUP", &daemon.process.0.id().to_string());
    until("the new label is seen", || {
        labels().contains(r#""rack":"b2""#)
    });
}
