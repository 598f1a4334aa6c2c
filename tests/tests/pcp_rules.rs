//! pmie on archives beside Debian's.

mod pcp_suite;

use std::process::Command;

use pcp_suite::{debian, in_suite, ours, peer, same, same_words};
use spile_tests::Scratch;

/// Expressions, rules and actions over archives, in all styles of output.
#[test]
fn rules_are_those_of_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie");
    let rules = scratch.write(
        "rules",
        r#"
disk.dev.total #dks1d1 #rad4d2 @0..2;
busy = disk.dev.total > 1;
all_inst disk.dev.total > 0; count_inst disk.dev.total > 1; min_inst disk.dev.total;
avg_sample disk.dev.total #dks1d1 @0..2; 5 %_inst disk.dev.total > 0;
match_inst "dks5" disk.dev.total > 0;
kernel.all.cpu.user * 2 - 1 / 4; rate instant kernel.all.cpu.user;
rising kernel.all.cpu.user > 0.017 && mem.freemem > 1 Mbyte;
limit = 10 count / sec; m = "disk.dev.total";
some_inst $m > $limit -> print "a" " %i:%v" " @%h %c" & shell "echo %v";
kernel.all.cpu.user > 0.01 -> print 5 sec "held %v" | syslog "not reached";
rising some_inst disk.dev.total > 10 -> alarm "up" " %i";
some_inst (disk.dev.total > 1 && disk.dev.total < 10) -> print "between" " %i=%v";
ruleset kernel.all.cpu.user > 0.019 -> print "one %v"
else kernel.all.cpu.user > 0.017 -> print "two %v"
unknown -> print "unknown" otherwise -> print "otherwise";
delta = 5 sec; $minute; kernel.all.load;
part = "all.load"; kernel.$part; ker$'part'x > 0;
no.such.metric > 0 || kernel.all.cpu.user > 0; no.such.metric > 0 && kernel.all.cpu.user > 0;
twice = kernel.all.cpu.user; twice = kernel.all.cpu.sys; kernel.all.cpu.user;
"#,
    );
    let rules = rules.to_str().expect("a path in UTF-8");
    let source = [
        "-z",
        "-q",
        "-a",
        "archives/babylon.pmview_v2",
        "-t",
        "3",
        "-T",
        "+20",
        "-c",
        rules,
    ];
    for style in ["-v", "-V", "-W"] {
        same("pmie", &[&source[..], &[style]].concat());
    }
    // The end of a statement takes in the space behind it, which the lines of messages tell; what is whole holds, whatever
    // follows it; a domain of one instance is one value; the number of those that never came is not known.
    let mistakes = scratch.write(
        "mistakes",
        "sample.seconds @0..1 > 5 -> print \"x\";\n1 > 0;\n\nsample.bin > 5 -> print \"x\" & print \"y\"\n;\n\n\
         ! ((2 < sample.seconds @0..1) && (3 < 5)) -> print \"a\";\n\
         73 != 722 -> print \"n\",\" more\";\n\
         sample.seconds > 5 foo;\nsample.seconds foo;\nb = sample.seconds > 5 , b;\n\
         c = sample.seconds > 5 -> print \"x\" -> print \"y\";\n\
         ruleset 1 > 5 -> print \"x\" otherwise -> print \"z\" foo;\n\
         sample.seconds + ;\n\n\n1 > 0 -> ;\n\nsample.bin > sample.colour;\nsample.bin + \"x\";\n\
         pmcd.pmlogger.port > 5 -> print \"one\"; ! (pmcd.pmlogger.port > 5) -> print \"none\";\n\
         sample.bin > 5; ! (sample.bin > 5); (1 > 0) && (sample.bin > 5); sample.seconds > sample.bin;\n\
         sample.bin > sample.seconds; sample.bin #'bin-100' #'bin-200' > 5; count_inst (sample.bin > 5) > 2;\n\
         count_inst (sample.seconds @0..2 > 2) >= 1;\n\
         count_inst (sample.seconds @0..2 > 2);\n\
         sum_inst ( sample.seconds == 500 );\n1>0 -> print \"after a sum\";\n\
         sum_inst ( sample.lights )\n;\nsample.seconds + (1 > 2)\n;\n\n5 > (1 > 2)\n;\nrate (1>2);\n- (1>2);\n\
         match_inst \"x\" 5;\n1>0 -> print \"after all\";\n",
    );
    let mistakes = mistakes.to_str().expect("a path in UTF-8");
    let source = [
        "-q",
        "-t",
        "1",
        "-T",
        "3",
        "-a",
        "archives/ok-foo",
        "-c",
        mistakes,
    ];
    for style in ["-v", "-V"] {
        let args = [&source[..], &[style]].concat();
        same("pmie", &args);
        // All but what bears the time and the number of the process.
        let said = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.contains(" pmie("));
            lines.map(str::to_owned).collect()
        };
        let (own, theirs) = (ours("pmie", &args), debian("pmie", &args));
        assert_eq!(said(&own.stderr), said(&theirs.stderr));
    }
    let hosts = scratch.write(
        "hosts",
        "sampledso.colour :vm00 :vm01; max_host sampledso.colour :vm00 :vm01 #'red';\n\
         some_host (sampledso.colour :vm00 :vm01 #red > 0) -> print \"x\" \" @%h %v\";\n",
    );
    let hosts = hosts.to_str().expect("a path in UTF-8");
    let source = [
        "-Z",
        "EST5",
        "-q",
        "-v",
        "-t",
        "2",
        "-a",
        "archives/multi-vm00",
        "-a",
        "archives/multi-vm01",
    ];
    same("pmie", &[&source[..], &["-c", hosts]].concat());
    // A single instance goes with all, whichever side it is on; sets of different sizes do not go together.
    let sizes = scratch.write(
        "sizes",
        "less = disk.dev.total #dks1d1 - disk.dev.total; disk.dev.total > disk.dev.total #dks1d1;\n\
         some_inst disk.dev.total #dks1d1 < disk.dev.total -> print \"%i:%v\" \" \";\n\
         kernel.all.cpu.user + disk.dev.total; avg_inst disk.dev.total + disk.dev.total;\n",
    );
    let sizes = sizes.to_str().expect("a path in UTF-8");
    let (file, times) = ("archives/babylon.pmview_v2", ["-t", "3", "-T", "+20"]);
    let archive = [&["-z", "-q", "-a", file][..], &times].concat();
    same("pmie", &[&archive[..], &["-v", "-c", sizes]].concat());
    for text in [
        "disk.dev.total == disk.dev.total #dks1d1 #rad4d2;",
        "disk.dev.total @0..1 + disk.dev.total;",
        "disk.dev.total + min_sample(disk.dev.total @0..2);",
        "avg_inst(disk.dev.total @0..1) > disk.dev.total @0..1;",
        "avg_host(disk.dev.total @0..1) + disk.dev.total @0..1;",
        // What does not go together is said once, and the statement read on.
        "disk.dev.total > kernel.all.cpu.user @0..3 -> print \"x\";",
        "kernel.all.cpu.user @0..3 > disk.dev.total -> print \"x\";",
        "some_inst (disk.dev.total > kernel.all.cpu.user @0..3) -> print \"x\";",
        "some_sample (disk.dev.total > kernel.all.cpu.user @0..3) -> print \"x\";",
        "(disk.dev.total + kernel.all.cpu.user @0..3) > kernel.all.cpu.user -> print \"x\";",
        "(disk.dev.total > kernel.all.cpu.user @0..3) && (kernel.all.cpu.user > 1) -> print \"x\";",
        "(kernel.all.cpu.user > 1) && (disk.dev.total > kernel.all.cpu.user @0..3) -> print \"x\";",
        // Of what has neither hosts nor samples none are reduced.
        "sum_host (1000) > 3 -> print \"x\";",
        "sum_sample (0.5);",
        "some_sample (1 > 0);",
        "avg_sample (1) + avg_sample (2) > 3 -> print \"x\";",
        "sum_sample (sum_sample disk.dev.total) > 1;",
        "sum_host (1) > disk.dev.total -> print \"x\";",
    ] {
        let wrong = scratch.write("sizes", text);
        let wrong = wrong.to_str().expect("a path in UTF-8");
        same_words("pmie", &[&archive[..], &["-C", "-c", wrong]].concat());
    }
    // The last style holds; an interval of nothing is none.
    let style = scratch.write("style", "kernel.all.cpu.user > 0.01;\n");
    let style = style.to_str().expect("a path in UTF-8");
    for options in [
        &["-v", "-V"][..],
        &["-V", "-v"],
        &["-W", "-v"],
        &["-v", "-W"],
        &["-v", "-t", "0"],
    ] {
        let archive = ["-z", "-q", "-a", file, "-T", "+20", "-c", style];
        same("pmie", &[&archive[..], options].concat());
    }
    // What is wrong is said on standard error.
    for text in [
        "kernel.all.cpu.user > ;",
        "disk.dev.total > 400 -> print \"x\";",
        "nosuch > 1;",
    ] {
        let wrong = scratch.write("wrong", text);
        let wrong = wrong.to_str().expect("a path in UTF-8");
        let args = ["-q", "-a", "archives/babylon.pmview_v2", "-c", wrong];
        assert_eq!(
            ours("pmie", &args).stderr,
            debian("pmie", &args).stderr,
            "{text}"
        );
    }
}

/// A daemon that cannot be had is told of as Debian's pmie does, by what is wrong with it.
#[test]
fn hosts_that_cannot_be_had_are_told_apart() {
    let scratch = Scratch::new("pcp-pmie-hosts");
    let rules = scratch.write("rules", "kernel.all.load > 1;\n");
    let rules = rules.to_str().expect("a path in UTF-8");
    let missing = format!("unix:{}", scratch.path("no.socket").display());
    // Nobody listens on the port of the discard service here.
    for (host, how) in [
        ("127.0.0.1:9", "does not respond"),
        (&missing, "is unreachable"),
    ] {
        let args = ["-h", host, "-T", "1", "-c", rules];
        for outcome in [ours("pmie", &args), debian("pmie", &args)] {
            let line = format!("pmie: warning - pmcd via {host} {how}\n");
            assert!(outcome.stderr.contains(&line), "{}", outcome.stderr);
        }
    }
}

/// What `l` lists in the dialogue of `pmie -d`.
#[test]
fn rules_are_listed_as_by_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie-list");
    let rules = scratch.write(
        "rules",
        r#"
a = hinv.ncpu;
c = some_inst (disk.dev.total > 10 count/sec) && ! hinv.ncpu == 4;
d = 100 * kernel.all.load @0..2;
f = some_inst match_inst "sd.*" disk.dev.total > 10 -> print "hi %v" & shell "true";
g = rising (hinv.ncpu > 2) || falling (hinv.ncpu < 3 Kbyte);
h = 30 %_inst disk.dev.total > 0 -> alarm 10 min "foo" "bar";
i = ruleset hinv.ncpu > 1 -> print "x" else hinv.ncpu > 2 -> print "y" otherwise -> print "z";
j = rate hinv.ncpu > -3;
k = hinv.ncpu * 3 + 2 / hinv.ncpu - 1;
"#,
    );
    let dialogue = format!("printf 'f {}\nl\nl k\nl nosuch\nq\n' | ", rules.display());
    let listed = |program: &str| {
        let mut command = Command::new("sh");
        command.env_remove("PCP_DERIVED_CONFIG");
        let shell = format!("{dialogue} {program} -d -a archives/20201109");
        in_suite(command, &["-c", &shell]).ok().stdout
    };
    let theirs = listed(&peer().join("usr/bin/pmie").display().to_string());
    assert!(theirs.contains("rule \"nosuch\" not defined"), "{theirs}");
    let own = listed(&format!("{} pmie", spile_tests::spile_path().display()));
    assert_eq!(own, theirs);
}

/// Values for other programs: an applet's lines are Debian's, an agent is sent descriptors and results as PCP's pmie sends them.
#[test]
fn programs_are_told_values_as_by_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie-embedded");
    let archive = "archives/babylon.pmview_v2";
    let source = ["-q", "-a", archive, "-t", "3", "-T", "+10"];
    let rules = scratch.write(
        "rules",
        "a = kernel.all.cpu.user; disk.dev.total; hinv.ncpu > 1;\n\
         b = disk.dev.total > 1; no.such > 1 -> print \"no\"; c = hinv.ncpu + 1;\n",
    );
    let rules = rules.to_str().expect("a path in UTF-8");
    same_words("pmie", &[&source[..], &["-X", "-c", rules]].concat());
    // Debian's program takes no name space for this but that of the host. Two numbers, by rules with such names.
    let metric = "mem.freemem";
    let names = "root {\n mem\n one 1:1:1\n two 1:1:2\n}\nmem {\n freemem PMID\n}\n";
    let pmid = debian("pminfo", &["-m", "-a", archive, metric]).stdout;
    let pmid = pmid.trim().rsplit(' ').next().expect("a PMID");
    let names = scratch.write("names", &names.replace("PMID", &pmid.replace('.', ":")));
    let rules = format!("one = {metric} / 2; two = {metric} < 0;\n");
    let rules = scratch.write("rules", &rules);
    let mut command = Command::new(spile_tests::spile_path());
    command.args(["pmie", "-x", "-q", "-t", "3", "-T", "+4", "-a", archive]);
    command.arg("-n").arg(names).arg("-c").arg(rules);
    let output = command.current_dir(pcp_suite::suite()).output();
    let sent = output.expect("pmie").stdout;
    let word = |at: usize| {
        let bytes = sent.get(at * 4..at * 4 + 4).expect("a word");
        u32::from_be_bytes(bytes.try_into().expect("four bytes"))
    };
    let words: Vec<u32> = (0..sent.len() / 4).map(word).collect();
    let none = u32::MAX;
    // Length, DESC, from; PMID, DOUBLE, no domain, instantaneous, units: bytes for what is in Kbyte; of a truth none.
    assert_eq!(
        words[..16],
        [
            [32, 0x7005, 1, 0x40_0401, 5, none, 3, 0x1000_3000],
            [32, 0x7005, 1, 0x40_0402, 5, none, 3, 0]
        ]
        .concat()
    );
    // Length, RESULT, from; no time, two metrics, each with one value in a block.
    let result = &words[words.len() - 22..];
    assert_eq!(result[..8], [88, 0x7001, 1, 0, 0, 2, 0x40_0401, 1]);
    let value = |at: usize| f64::from_bits(u64::from(result[at]) << 32 | u64::from(result[at + 1]));
    let args = ["-a", archive, "-t", "3", "-s", "2", "-w", "12", metric];
    let shown = debian("pmval", &args).stdout;
    let last = shown.split_whitespace().last().expect("a value");
    let kbytes: f64 = last.parse().expect("a number");
    assert_eq!((result[16], result[19]), (0x0500_000c, 0x0500_000c));
    assert_eq!((value(17), value(20)), (kbytes * 512.0, 0.0));
}

/// What is not there, and what is not right, in the words and at the places of Debian's.
#[test]
fn mistakes_are_told_as_by_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie-mistakes");
    for text in [
        "(kernel.all.load + \"abc\") > 0 && no.such > 1;",
        "kernel.all.load > 0 + no.such && -> print \"x\";",
        "(kernel.all.load > 1) + 2 > 0 && no.such > 1;",
        "kernel.all.load + disk.dev.read > 0 && no.such > 1;",
        "kernel.all.load #\"nope\" > 1; no.such;",
        "kernel.all.load #nope > 1; no.such;",
        "kernel.all.load #nope #'1 minute' > 1; no.such;",
        "no.a + no.b -> print \"x\"; hinv.ncpu",
        "no.a > no.b -> print 3; hinv.ncpu",
        "no.a -> print \"x\"; no.a;",
        "no.a + 1;",
        "no.a + 1 > 2 -> print \"x\";",
        "no.a + kernel.all.load -> print \"x\";",
        "hinv.ncpu + 1 -> print \"x\";",
        "hinv.ncpu :nohost > 1;",
        "hinv.ncpu :nohost :other > 1; no.such;",
        "hinv.ncpu > 0 && hinv.ncpu :nohost > 1 && no.such > 2; no.b;",
        "kernel.all.load @0..2 > no.b;",
        "kernel.all.load @ > 1;",
        "kernel.all.load @x > 1;",
        "kernel.all.load @1.5 > 1;",
        "kernel.all.load #'1 minute' @1..0 > 1;",
        "avg_inst(no.a) > no.b && no.c > avg_host(no.d);",
        "a = no.a > 1 -> print \"x\"; b = $a;",
        "ruleset no.a + 1 -> print \"x\" else no.b > 1 -> print \"y\";",
        "no.a && 1 > 2;",
        "1 > 2 && no.a;",
        "1 > 2 && no.a && no.b;",
        "no.a || 1 > 2 -> print \"x\";",
        "! no.a;",
        "rising no.a;",
        "some_inst no.a;",
        "some_inst (no.a);",
        "some_inst (no.a) -> print \"x\";",
        "some_inst (no.a) && 1 > 2;",
        "avg_inst (no.a > 1);",
        "avg_inst (no.a > 1) > 2;",
        "no.a > \"x\";",
        "\"x\" == no.a;",
        "no.a + 1 == \"x\";",
        "match_inst \"x\" no.a;",
        "match_inst \"x\" no.a > 1;",
        "match_inst \"x\" (no.a > 1) -> print \"y\";",
        "- no.a > 1;",
        "-(no.a > 1);",
        "rate no.a;",
        "rate (no.a > 1);",
        "count_inst (no.a);",
        "count_inst (no.a > 1);",
        "count_inst (no.a) > 1;",
        "50%_inst (no.a);",
        "50%_inst no.a > 1;",
        "(no.a);",
        "(no.a > 1) + 2;",
        "2 + (no.a > 1);",
        "no.a > 1 > 2;",
        "(no.a > 1) == (no.b > 2);",
        "no.a == no.b == no.c;",
        "no.a > 1 -> print;",
        "no.a > 1 -> print 3;",
        "no.a > 1 -> ;",
        "no.a > 1 -> shell \"x\" 3 blah;",
        "ruleset no.a -> print \"x\" else no.b > 1 -> print \"y\";",
        "ruleset no.a > 1 -> print \"x\" else no.b -> print \"y\";",
        "ruleset no.a > 1 -> print \"x\" else no.b > 2 -> print \"y\" unknown -> print \"z\" otherwise -> print \"u\";",
        "ruleset kernel.all.load > 1 -> print \"x\" else no.b > 2 -> print \"y\";",
        "ruleset some_inst kernel.all.load > 1 -> print \"x\" else no.b > 2 -> print \"y\";",
        "a = no.a; b = no.b > $a;",
        "a = no.a > 1; $a -> print \"x\";",
        "a = 1 + kernel.all.load + disk.dev.read; b = $a + no.a;",
        "kernel.all.load > 0 && -> print \"x\";",
        "hinv.ncpu > 2 -> print \"a$ b\"; hinv.ncpu > 2;",
        "hinv.ncpu > 2 -> shell \"echo $HOME\"; hinv.ncpu > 2;",
        "hinv.ncpu > 2 -> shell \"echo $HOME; x\"; hinv.ncpu > 2;",
        "hinv.ncpu > 2 -> shell \"echo \\\\$x\"; hinv.ncpu > 2;",
        "kernel.all.load #'1$x minute' > 1; hinv.ncpu > 2;",
        "x = $foo\n",
        "x = $foo\ny = 1;\n",
        "x = $foo; // none\n",
        "hinv.ncpu > 2 -> print \"a $foo b\"\n",
        "kernel.all.load > 0 + -> print \"x\";",
        "some_inst kernel.all.load -> print \"x\";",
        "some_inst (kernel.all.load) -> print \"x\"; hinv.ncpu;",
        "hinv.ncpu + 1 && 2 > 1 -> print \"x\"; hinv.ncpu;",
        "hinv.ncpu > 1 && 2  -> print \"x\"; hinv.ncpu > 2;",
        "ruleset hinv.ncpu > 1 && 2  -> print \"x\" else hinv.ncpu > 3 -> print \"y\";",
        "hinv.ncpu > 1 -> blah \"x\"; hinv.ncpu > 2;",
        "hinv.ncpu > 1 -> ; hinv.ncpu > 2;",
        "count_inst (kernel.all.load) > 1;",
        "count_inst (kernel.all.load > 1) > 1;",
        "count_inst kernel.all.load > 1;",
        "count_inst (kernel.all.load > 1);",
        "$nomacro > 2;",
        "hinv.ncpu + $nomacro > 2;",
        "hinv.ncpu + $nomacro;",
        "hinv.ncpu > 1 -> print \"x\"; $nomacro -> print \"y\";",
        "$nomacro; hinv.ncpu",
        "x = $nomacro; hinv.ncpu",
        "hinv.ncpu + * 3;",
        "hinv.ncpu > > 3;",
        "hinv.ncpu > 1 && > 3;",
        "hinv.ncpu > 1 && && 3 > 2;",
        "hinv.ncpu > 1 && || 3 > 2;",
        "hinv.ncpu > && 3 > 2;",
        "hinv.ncpu > 3 && 4 || 5;",
        "hinv.ncpu > 3 || 4 && 5 -> print \"x\";",
        "! hinv.ncpu && 3 > 2;",
        "rising hinv.ncpu || 3 > 2;",
        "some_inst hinv.ncpu && 3 > 2;",
        "match_inst \"x\" hinv.ncpu && 3 > 2;",
        "kernel.all.load @ -> print \"x\";",
        "kernel.all.load @ + 1;",
        "kernel.all.load @ && 1 > 2;",
        "kernel.all.load @0.. > 1;",
        "kernel.all.load @2.0 > 1;",
        "kernel.all.load @1.5..2.7 > 1;",
        "kernel.all.load @-1 > 1;",
        "kernel.all.load # > 1;",
        "kernel.all.load #3 > 1;",
        "kernel.all.load : > 1;",
        "kernel.all.load #\"1 minute\" #'5 minute' > 1;",
        "hinv.ncpu :\"omen\" > 1;",
        "hinv.ncpu :'omen' > 1;",
        "hinv.ncpu :omen > 1;",
        "hinv.ncpu :127.0.0.1 > 1;",
        "hinv.ncpu :3x > 1;",
        "kernel.all.load #3x > 1;",
        "kernel.all.load #_x > 1;",
        "hinv.ncpu + $nomacro > 2; hinv.ncpu > 2;",
        "hinv.ncpu > 2 $nomacro; hinv.ncpu > 2;",
        "hinv.ncpu > $nomacro\n&& 1 > 2;\nhinv.ncpu > 2 > 3;",
    ] {
        let rules = scratch.write("rules", &format!("{text}\n"));
        let rules = rules.to_str().expect("a path in UTF-8");
        let archive = ["-C", "-a", "archives/omen.client", "-T", "5", "-c", rules];
        let (own, theirs) = (ours("pmie", &archive), debian("pmie", &archive));
        // All but what bears the time and the number of the process.
        let said = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.contains(" pmie("));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(said(&own.stderr), said(&theirs.stderr), "{text}");
        assert_eq!(own.stdout, theirs.stdout, "{text}");
    }
}

/// `instant` leaves the counters of a whole expression what they are; values that are not known are as many as there were.
#[test]
fn counters_and_unknown_values_are_those_of_debian_s_pmie() {
    let scratch = Scratch::new("pcp-pmie-counters");
    let rules = scratch.write(
        "rules",
        "instant sum_inst disk.dev.total;\nsum_inst instant disk.dev.total;\n\
         rate instant disk.dev.total;\ninstant rate disk.dev.total;\n\
         instant (disk.dev.total + 1);\ninstant disk.dev.total == 3;\n",
    );
    let rules = rules.to_str().expect("a path in UTF-8");
    let source = ["-z", "-q", "-v", "-a", "archives/babylon.pmview_v2"];
    let times = ["-t", "3", "-T", "+10", "-c", rules];
    same("pmie", &[&source[..], &times].concat());
    let marked = scratch.write("marked", "filesys.full;\nnetwork.interface.in.packets;\n");
    let marked = marked.to_str().expect("a path in UTF-8");
    let source = ["-z", "-q", "-v", "-a", "archives/pmiostat_mark"];
    let times = ["-S", "@17:30", "-t", "15m", "-A", "15m", "-c", marked];
    same("pmie", &[&source[..], &times].concat());
    // What goes together is judged by all instances that the archive tells of.
    for text in [
        "irix.kernel.all.load - pmcd.pmlogger.port;",
        "2 > ((-irix.kernel.all.load * hinv.ncpu) - (irix.kernel.all.cpu.sxbrk * pmcd.pmlogger.port));",
    ] {
        let sizes = scratch.write("sizes", text);
        let sizes = sizes.to_str().expect("a path in UTF-8");
        same_words("pmie", &["-C", "-a", "archives/mark-bug", "-c", sizes]);
    }
}
