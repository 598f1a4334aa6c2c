//! `procfs` probes (stapprobes(3stap), PROCFS) and what the library builds on them: files that scripts write when somebody
//! reads them, and hear of when somebody writes to them.

use spile_tests::{Guard, line, run, spawn, spile_path, stap, until};
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};

/// A session with files, and where they are.
struct Session {
    directory: PathBuf,
    output: BufReader<ChildStdout>,
    guard: Guard,
}

impl Session {
    fn start(name: &str, script: &str) -> Session {
        let user = run({
            let mut id = Command::new("id");
            id.arg("-un");
            id
        });
        let module = format!("{name}_{}", std::process::id());
        let directory = Path::new("/var/tmp")
            .join(format!("systemtap-{}", user.ok().stdout.trim()))
            .join(&module);
        let mut command = Command::new(spile_path());
        command.args(["stap", "-w", "-m", &module, "-e", script]);
        let (guard, output) = spawn(&mut command);
        Session {
            directory,
            output,
            guard,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        until(name, || path.exists());
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("an answer")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a reader");
    }

    /// What is left of the output once it has ended.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        until("its files are gone", || !self.directory.exists());
        drop(self.guard);
        rest
    }
}

#[test]
fn readers_get_what_value_was_set_to() {
    let session = Session::start(
        "read",
        r#"global n
        probe procfs("numbers/count").read { $value = "lost"; $value = sprintf("n=%d\n", ++n); $value .= "more\n" }
        probe procfs("short").read.maxsize(5) { $value = "abc" $value .= "defgh" }
        probe procfs("long").read.maxsize(2000) { for (i = 0; i < 30; i++) $value .= "0123456789012345678901234567890123456789" }
        probe procfs("nothing").read { n += 10 }
        probe procfs("name").read { $value = module_name() }
        probe procfs.write { exit() }"#,
    );
    assert_eq!(
        session.directory.file_name().and_then(|name| name.to_str()),
        Some(session.read("name").as_str())
    );
    assert_eq!(session.read("numbers/count"), "n=1\nmore\n");
    assert_eq!(session.read("numbers/count"), "n=2\nmore\n");
    assert_eq!(session.read("short"), "abcde");
    assert_eq!(session.read("long").len(), 30 * 40);
    assert_eq!(session.read("nothing"), "");
    assert_eq!(session.read("numbers/count"), "n=13\nmore\n");
    session.write("command", "enough");
    assert_eq!(session.rest(), "");
}

#[test]
fn what_is_written_is_the_value() {
    let mut session = Session::start(
        "write",
        r#"probe procfs("a").write, procfs("b").umask(0022).write {
            printf("%s: <%s> %d\n", pp(), $value, @defined($value))
            if ($value == "end") exit()
        }"#,
    );
    session.write("a", "one");
    assert_eq!(line(&mut session.output), "procfs(\"a\").write: <one> 1");
    session.write("b", "two\n");
    assert_eq!(
        line(&mut session.output),
        "procfs(\"b\").umask(18).write: <two"
    );
    assert_eq!(line(&mut session.output), "> 1");
    session.write("a", "end");
    assert_eq!(session.rest(), "procfs(\"a\").write: <end> 1\n");
}

/// Files for pmdajson(1), as its README describes them.
#[test]
fn metrics_as_json() {
    let session = Session::start(
        "json",
        r#"global bytes
        probe begin {
            json_set_prefix("net")
            json_add_numeric_metric("reads", "Times values read", "count")
            json_add_string_metric("state", "")
            json_add_array("devices", "By device")
            json_add_array_numeric_metric("devices", "bytes", "Sent", "byte")
            bytes["eth0"] = 352551; bytes["lo"] = 0
        }
        probe json_data {
            @json_output_data_start
            @json_output_numeric_value("reads", 7)
            @json_output_string_value("state", "up \"fast\"")
            foreach (device+ in bytes)
                @json_output_array_numeric_value("devices", device, "bytes", bytes[device])
            @json_output_data_end
        }
        probe procfs("end").write { exit() }"#,
    );
    assert_eq!(
        session.read("metadata.json"),
        concat!(
            r#"{"prefix": "net", "metrics": [{"name": "reads", "pointer": "/reads", "type": "integer", "#,
            r#""description": "Times values read", "units": "count"}, {"name": "state", "pointer": "/state", "type": "string"}, "#,
            r#"{"name": "devices", "pointer": "/devices", "type": "array", "description": "By device", "index": "/__id", "#,
            r#""metrics": [{"name": "bytes", "pointer": "/bytes", "type": "integer", "description": "Sent", "units": "byte"}]}]}"#,
            "\n"
        )
    );
    let data = concat!(
        r#"{"reads": 7, "state": "up \"fast\"", "devices": [{"__id": "eth0", "bytes": 352551}, {"__id": "lo", "bytes": 0}]}"#,
        "\n"
    );
    assert_eq!(session.read("data.json"), data);
    assert_eq!(session.read("data.json"), data);
    session.write("end", "x");
    assert_eq!(session.rest(), "");
}

#[test]
fn metrics_for_prometheus() {
    let session = Session::start(
        "prometheus",
        r#"global hits
        probe begin { hits["a", 1] = 5; hits["b\"", 2] = 6 }
        function double(n) { return 2 * n }
        function same(n) { return n }
        function upper(s:string) { return "<" . s . ">" }
        probe prometheus {
            @prometheus_dump_array2(hits, "hits", "name", "cpu")
            @prometheus_dump_array2_map(hits, "twice", "name", "cpu", double, upper, sprint_number)
            @prometheus_dump_array2_map_unquoted(hits, "raw", "name", "cpu", same, upper, sprint_number)
        }
        function sprint_number:string (n:long) { return sprint(n) }
        probe procfs("end").write { exit() }"#,
    );
    assert_eq!(
        session.read("__prometheus"),
        concat!(
            "hits{name=\"a\",cpu=\"1\"} 5\nhits{name=\"b\\\"\",cpu=\"2\"} 6\n",
            "twice{name=\"<a>\",cpu=\"1\"} 10\ntwice{name=\"<b\\\">\",cpu=\"2\"} 12\n",
            "raw{name=<a>,cpu=1} 5\nraw{name=<b\">,cpu=2} 6\n",
        )
    );
    session.write("end", "x");
    assert_eq!(session.rest(), "");
}

/// Messages and places are those of Debian's stap.
#[test]
fn misuse_is_refused() {
    for (script, message) in [
        (
            r#"probe procfs("x").read { $value <<< 3 }"#,
            "semantic error: Only the following assign operators are implemented on procfs read target variables: '=', '.=': identifier '$value' at <input>:1:26",
        ),
        (
            r#"probe procfs("x").read { println($value) }"#,
            "semantic error: procfs $value variable cannot be read in a procfs read probe: identifier '$value' at <input>:1:34",
        ),
        (
            r#"probe procfs("x").write { $value = "a" }"#,
            "semantic error: procfs $value variable is read-only in a procfs write probe: identifier '$value' at <input>:1:27",
        ),
        (
            r#"probe procfs.read { $foo = "a" }"#,
            "semantic error: invalid target symbol for procfs probe, $value expected: identifier '$foo' at <input>:1:21",
        ),
        (
            r#"probe procfs("x").read { $value->a = "b" }"#,
            "semantic error: procfs variable '$value' may not be used as a structure: operator '->' at <input>:1:32",
        ),
        (
            r#"probe procfs("x").read { $value = 5 }"#,
            "semantic error: type mismatch: expected long but found string: number '5' at <input>:1:35",
        ),
        (
            r#"probe procfs("/x").read { $value = "a" }"#,
            "semantic error: procfs path cannot start with a '/': identifier 'procfs' at :1:7",
        ),
        (
            r#"probe procfs("a/../x").read { $value = "a" }"#,
            "semantic error: procfs path cannot be relative (and contain '.' or '..'): identifier 'procfs' at :1:7",
        ),
        (
            r#"probe procfs("x/").read { $value = "a" }"#,
            "semantic error: procfs path cannot end with a '/': identifier 'procfs' at :1:7",
        ),
        (
            r#"probe procfs("x").read.maxsize(0) { $value = "a" }"#,
            "semantic error: maxsize must be greater than 0",
        ),
        (
            r#"probe procfs("x").read { $value = "a" } probe procfs("x").read { $value = "b" }"#,
            "only one read procfs probe can exist for procfs path \"x\"",
        ),
        (
            r#"probe procfs("x").read { $value = "a" } probe procfs("x").write { exit() }"#,
            "procfs(\"x\") has both read and write probes",
        ),
    ] {
        let outcome = stap(&["-e", script]);
        assert!(
            outcome.stderr.contains(message),
            "{script}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.status, Some(1), "{script}");
    }
}
