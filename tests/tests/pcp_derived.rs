//! Derived metrics as traces show them, beside Debian's.

mod pcp_suite;

use pcp_suite::{debian, ours, same};
use spile_tests::{Outcome, Scratch};

/// Diagnostics with the addresses in them numbered in their order: they are whatever memory was free.
fn numbered(text: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    let mut numbered = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let (before, address) = rest.split_at(at);
        let end = address
            .find(|c: char| !c.is_ascii_hexdigit() && c != 'x')
            .unwrap_or(address.len());
        let (address, behind) = address.split_at(end);
        numbered.push_str(before);
        if address.len() > 10 {
            let number = seen.iter().position(|a| *a == address).unwrap_or_else(|| {
                seen.push(address);
                seen.len() - 1
            });
            numbered.push_str(&format!("<{number}>"));
        } else {
            numbered.push_str(address);
        }
        rest = behind;
    }
    numbered + rest
}

/// What is said of derived metrics with `-Dderive`: lexical elements, mistakes and their places, trees, values.
#[test]
fn derived_metrics_are_traced_as_by_debian_s() {
    let scratch = Scratch::new("pcp-derived");
    // Each in a file of its own: PCP's lexical analysis takes the state of a mistake with it.
    let sound = "\
a.sum = disk.dev.read + disk.dev.write
a.size = delta(disk.dev.total_bytes) / delta(disk.dev.total)
a.alarm = rate(disk.dev.total_bytes) > mkconst(400, units=\"Kbyte/sec\")
a.choice = disk.dev.total > 300 ? disk.dev.read : disk.dev.write
a.one = scalar(disk.dev.total[sda]) * 3.5
a.some = matchinst(!/sd[b-d]/, disk.dev.total) && 1
a.not = !disk.dev.read > 3 || 0 < disk.dev.write
a.negative = -mkconst(3, type=double) / 4 / 5 - 1
a.known = defined(disk.dev.total) + defined(no.such.metric)
a.scaled = rescale(disk.dev.total_bytes, \"Mbyte\")
a.count = count(disk.dev.total) + instant(disk.all.total)
a.wrong = disk.dev.total * disk.dev.total
a.missing = no.such.metric + 1
";
    let config = scratch.write("sound", sound);
    let config = config.to_str().expect("a path in UTF-8");
    let source = ["-a", "archives/bozo-disk", "-c", config];
    for name in ["a.size", "a.alarm", "a.choice", "a.not", "a.negative"] {
        let args = [&source[..], &["-z", "-t", "1", "-s", "6", name]].concat();
        let args: Vec<&str> = args
            .iter()
            .map(|a| if *a == "-c" { "--derived" } else { a })
            .collect();
        same("pmval", &args);
    }
    for (number, wrong) in [
        "a +",
        "a b",
        "3 a",
        "a ** b",
        "(a",
        "a )",
        "foo(bar)",
        "* a",
        "a + (3 4",
        "a ? b",
        "a ? b : ",
        "! )",
        "- )",
        "a || )",
        "avg(a + b)",
        "max(",
        "max(instant(a))",
        "delta(defined(a))",
        "scalar(3 4)",
        "rescale(a b",
        "rescale(a,)",
        "rescale(a, \"foo\")",
        "matchinst(",
        "matchinst(/a/",
        "matchinst(/a/,(a",
        "matchinst(/a(/, b)",
        "anon(3)",
        "mkconst(foo)",
        "mkconst(3, foo=bar)",
        "mkconst(3, type=string)",
        "mkconst(3.5, type=u32)",
        "mkconst(3, semantics=foo)",
        "a[x",
        "a[x] b",
        "\"text",
        "4294967296",
        "1..2",
        "a $ b",
        "\ta\t*\t$",
    ]
    .into_iter()
    .enumerate()
    {
        let config = scratch.write(&format!("wrong-{number}"), &format!("a.wrong = {wrong}\n"));
        let config = config.to_str().expect("a path in UTF-8");
        let args = [
            "-D",
            "derive,appl0",
            "-a",
            "archives/bozo-disk",
            "-c",
            config,
            "a",
        ];
        // What is said of other files is another matter.
        let said = |outcome: Outcome| {
            let stderr = outcome.stderr;
            let (_, behind) = stderr.split_once(config).unwrap_or_default();
            numbered(behind)
        };
        let (theirs, own) = (said(debian("pminfo", &args)), said(ours("pminfo", &args)));
        assert!(!theirs.is_empty(), "{wrong}");
        assert_eq!(own, theirs, "{wrong}");
    }
}

/// A plain number and a count go together, in sums, comparisons and new scales, and with nothing else.
#[test]
fn counts_and_plain_numbers_are_alike() {
    let scratch = Scratch::new("pcp-derived-counts");
    let number = "mkconst(30, type=\"double\", semantics=\"instant\")";
    let count = "count(disk.dev.total)";
    for (at, expression) in [
        format!("{count} + {number}"),
        format!("{number} + {count}"),
        format!("3 - {count}"),
        format!("{count} < hinv.ncpu"),
        format!("rescale({count}, \"count x 10\") + hinv.ncpu"),
        "rescale(hinv.ncpu, \"count x 10\")".to_owned(),
        format!("rescale({number}, \"count x 10^3\")"),
        format!("rescale({number}, \"count^2\")"),
        format!("rescale({number}, \"byte\")"),
        format!("{count} && hinv.ncpu"),
        format!("1 ? {count} : instant(hinv.ncpu)"),
        format!("{number} + mkconst(3, type=double, units=\"/count\")"),
    ]
    .into_iter()
    .enumerate()
    {
        let config = scratch.write(&format!("{at}"), &format!("a.it = {expression}\n"));
        let config = config.to_str().expect("a path in UTF-8");
        let args = ["-a", "archives/bozo-disk", "-df", "-c", config, "a.it"];
        same("pminfo", &args);
    }
}

/// A name is all that stands ahead of `=`.
#[test]
fn names_with_blanks_are_told() {
    let scratch = Scratch::new("pcp-derived-names");
    let config = scratch.write("names", "a. b = 3\na.c d=4\na b\na. (x) = \"y\"\n");
    let config = config.to_str().expect("a path in UTF-8");
    same("pminfo", &["-a", "archives/bozo-disk", "-c", config, "a"]);
}
