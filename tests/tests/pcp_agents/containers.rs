//! Containers: made up of a process with namespaces of its own, and of what Docker would say of it.

use std::fs;
use std::process::Command;

use pcp::{Atom, Desc, ErrorCode, HostContext, HostSpec};
use spile_tests::pcp_peer::Pmcd;
use spile_tests::{Scratch, is_root, line, need, spawn};

use super::{Values, our_pmcd, pmid, values};

const ID: &str = "ab12000000000000000000000000000000000000000000000000000000000007";

const NAMES: &str = "\
root {
    pmcd
    network
    kernel
    hinv
}
pmcd {
    hostname 2:0:21
}
network {
    mtu 60:3:21
}
kernel {
    nodename 60:12:4
}
hinv {
    ncpu 60:0:32
}
";

fn asked(pmcd: &Pmcd, container: &str) -> HostContext {
    let name = format!("{}?container={container}", pmcd.host());
    let spec: HostSpec = name.parse().expect("a host");
    HostContext::new(spec, &name).expect("a context")
}

fn all(context: &mut HostContext, names: &[&str]) -> Vec<Values> {
    let descs: Vec<Desc> = names
        .iter()
        .map(|name| {
            let metric = pmid(context, name);
            context.desc(metric).expect("a descriptor")
        })
        .collect();
    values(context, &descs)
}

#[test]
fn a_client_is_told_of_the_container_that_it_asks_about() {
    assert!(is_root(), "namespaces of others are made by root");
    need("/usr/bin/unshare");
    let scratch = Scratch::new("pcp-container");
    let mut command = Command::new("unshare");
    let inside = "echo inside > /proc/sys/kernel/hostname && echo $$ && exec sleep 1000";
    command.args(["--net", "--uts", "sh", "-c", inside]);
    let (_container, mut said) = spawn(&mut command);
    let pid = line(&mut said);
    let folder = scratch.path("containers").join(ID);
    fs::create_dir_all(&folder).expect("a folder");
    let state = format!(r#"{{"ID":"{ID}","Name":"/web","State":{{"Running":true,"Pid":{pid}}}}}"#);
    fs::write(folder.join("config.v2.json"), state).expect("a file");
    let mut command = our_pmcd();
    command.env("PCP_DOCKER_DIR", scratch.path(""));
    let agents = "\
pmcd 2 dso pmcd_init /pmda_pmcd.so
linux 60 dso linux_init /pmda_linux.so
";
    let pmcd = Pmcd::start(scratch, command, agents, NAMES);
    let names = [
        "pmcd.hostname",
        "kernel.nodename",
        "network.mtu",
        "hinv.ncpu",
    ];
    let here = all(&mut asked(&pmcd, ""), &names);
    for name in ["web", "/web", ID, "ab12"] {
        let there = all(&mut asked(&pmcd, name), &names);
        let inside = |number: usize| {
            let values = there.get(number).and_then(|v| v.as_ref().ok());
            values.and_then(|v| v.values().next().cloned())
        };
        assert_eq!(inside(0), Some(Atom::String("inside".into())), "{name}");
        assert_eq!(inside(1), Some(Atom::String("inside".into())), "{name}");
        // It has a loopback interface of its own, and no other.
        assert_eq!(
            there.get(2).map(|v| v.as_ref().map(|v| v.len())),
            Some(Ok(1)),
            "{name}"
        );
        assert_eq!(inside(2), Some(Atom::U32(65536)), "{name}");
        assert_eq!(there.get(3), here.get(3), "{name}");
    }
    let nowhere = all(&mut asked(&pmcd, "nosuch"), &names);
    assert_eq!(nowhere.first(), here.first());
    for values in nowhere.iter().skip(1) {
        assert_eq!(*values, Err(ErrorCode::NOCONTAINER));
    }
}
