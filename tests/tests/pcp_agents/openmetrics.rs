//! The agent `openmetrics`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use pcp::{Atom, HostContext, Type};
use spile_tests::pcp_peer::Pmcd;
use spile_tests::{Scratch, spile_path, until};

use super::{context, debian, debian_pmcd, exposed, number, our_pmcd, pmid, private_configuration};

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
