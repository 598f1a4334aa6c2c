//! The agent `linux`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pcp::{Atom, Desc, Semantics, Text};
use spile_tests::pcp_peer::Pmcd;
use spile_tests::{Scratch, spile_path};

use super::{
    BOTH, Values, context, debian, debian_pmcd, name_space, names_of, pmid, private_configuration,
    values,
};

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
    let names = names_of("linux");
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
    let pmcd = Pmcd::start(scratch, command, &config, &name_space(&BOTH, &names));
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

/// Memory nodes and processors from files of another kernel, of which some parts are not there, and a processor is in no node.
#[test]
fn nodes_of_other_files_are_those_of_debians_agent() {
    let scratch = Scratch::new("agents-nodes");
    let tree = scratch.path("tree");
    let write = |path: &str, text: &str| {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write(
        "proc/stat",
        "cpu  60 6 6 600 0 0 0 0 0 0\ncpu0 10 1 1 100 0 0 0 0 0 0\ncpu1 20 2 2 200 0 0 0 0 0 0\n\
         cpu2 30 3 3 300 0 0 0 0 0 0\ncpu3 40 4 4 400 0 0 0 0 0 0\nbtime 1000\n",
    );
    write("sys/devices/system/node/online", "0-1\n");
    for (node, cpus) in [(0, "0-1"), (1, "2")] {
        let folder = format!("sys/devices/system/node/node{node}");
        for cpu in cpus.split('-') {
            write(&format!("{folder}/cpu{cpu}/online"), "1\n");
        }
        write(&format!("{folder}/cpulist"), &format!("{cpus}\n"));
        let numbers = format!("numa_hit 1{node}\nlocal_node 2{node}\n");
        write(&format!("{folder}/numastat"), &numbers);
        let line = |name, n| format!("Node {node} {name}:  {n}{node} kB\n");
        let sizes = line("MemTotal", 90) + &line("MemFree", 30) + &line("MemUsed", 60);
        write(&format!("{folder}/meminfo"), &sizes);
    }
    let config = format!(
        "theirs 60 pipe binary {}\nours 61 pipe binary {} pmdalinux -d 61\n",
        debian().join("usr/lib/pcp/pmdas/linux/pmdalinux").display(),
        spile_path().display()
    );
    let wanted = [
        "hinv.ncpu",
        "hinv.nnode",
        "hinv.map.cpu_node",
        "hinv.node.online",
        "kernel.percpu.cpu.user",
        "kernel.pernode.cpu.idle",
        "mem.numa.alloc.local_node",
        "mem.numa.util.total",
        "mem.numa.util.used",
    ];
    let mut names = names_of("linux");
    names.retain(|(name, _)| wanted.contains(&name.as_str()));
    assert_eq!(names.len(), wanted.len());
    let mut command = debian_pmcd();
    command.env("PCP_CONF", private_configuration(&scratch));
    command.env("LINUX_STATSPATH", &tree);
    let pmcd = Pmcd::start(scratch, command, &config, &name_space(&BOTH, &names));
    let mut context = context(&pmcd);
    let mut shown = |root: &str, name: &str| {
        let pmid = pmid(&mut context, &format!("{root}.{name}"));
        let desc = context.desc(pmid).expect(name);
        values(&mut context, &[desc]).remove(0)
    };
    for (name, _) in &names {
        let theirs = shown("theirs", name);
        assert!(theirs.as_ref().is_ok_and(|v| !v.is_empty()), "{name}");
        assert_eq!(shown("ours", name), theirs, "{name}");
    }
}
