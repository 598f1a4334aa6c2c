//! Debugging information that is not in the probed file: of files that were replaced or deleted meanwhile, of a sysroot, and
//! of servers; and the cache of indexes.

use spile_tests::{Scratch, line, run, spawn, spile_path, stap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Calls `step` with 1000, 1001 … until its input ends.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <unistd.h>
__attribute__((noinline, noclone)) int step(int number) { __asm__ volatile("" ::: "memory"); return number + 1; }
int main(void) { puts("ready"); fflush(stdout); for (int n = 1000;; n = step(n)) usleep(100); }
"#;

fn command(program: &str, words: &[&str]) -> String {
    let mut made = Command::new(program);
    made.args(words);
    run(made).ok().stdout
}

/// Compiles the program, and moves its debugging information to where a package would have it below a directory.
fn stripped(scratch: &Scratch, name: &str, source: &str, below: &Path, flags: &[&str]) -> PathBuf {
    let mut all = vec!["-O0", "-g", "-Wl,--build-id=sha1"];
    all.extend(flags);
    let program = scratch.compile(&format!("{name}.c"), source, &all);
    let path = program.to_string_lossy();
    let id = build_id(&path);
    let (first, rest) = id.split_at(2);
    let directory = below.join(".build-id").join(first);
    fs::create_dir_all(&directory).expect("made");
    let debug = directory.join(format!("{rest}.debug"));
    command(
        "objcopy",
        &["--only-keep-debug", &path, &debug.to_string_lossy()],
    );
    command("strip", &["--strip-all", &path]);
    program
}

fn build_id(path: &str) -> String {
    let notes = command("readelf", &["--notes", path]);
    let id = notes
        .lines()
        .find_map(|l| l.trim().strip_prefix("Build ID: "));
    id.expect("a build-id").to_owned()
}

/// Attaches to a process and prints once what a script says.
fn attached(pid: u32, path: &Path, script: &str) -> String {
    let mut spile = Command::new(spile_path());
    spile
        .args(["stap", "-x", &pid.to_string(), "-e", script])
        .env("SYSTEMTAP_DEBUGINFO_PATH", path);
    run(spile).ok().stdout
}

#[test]
fn a_program_that_was_replaced_or_deleted_while_it_runs() {
    let scratch = Scratch::new("replaced");
    let debug = scratch.path("debug");
    let script = "probe process.function(\"step\") { println($number >= 1000) exit() }";
    for replaced in [true, false] {
        let program = stripped(&scratch, "program", PROGRAM, &debug, &[]);
        let (target, mut output) = spawn(&mut Command::new(&program));
        assert_eq!(line(&mut output), "ready");
        fs::remove_file(&program).expect("removed");
        if replaced {
            // With debugging information of its own, in which the parameter is called otherwise.
            let other = PROGRAM.replace("number", "count");
            stripped(&scratch, "program", &other, &debug, &[]);
        }
        let pid = target.0.id();
        assert_eq!(attached(pid, &debug, script), "1\n");
        if replaced {
            let named = format!(
                "probe process(\"{}\").begin {{ next }} probe timer.ms(1) {{ exit() }}",
                program.display()
            );
            let warned = stap(&["-e", &named]).ok().stderr;
            let wanted = format!(
                "process {pid} runs a former version of {}",
                program.display()
            );
            assert!(warned.contains(&wanted), "{warned}");
        }
    }
}

#[test]
fn programs_below_a_sysroot_are_called_as_they_are_called_there() {
    let scratch = Scratch::new("sysroot");
    fs::create_dir_all(scratch.path("usr/bin")).expect("made");
    let program = scratch.compile("spiled.c", PROGRAM, &["-O0", "-g"]);
    fs::rename(&program, scratch.path("usr/bin/spiled")).expect("moved");
    let source = scratch.path("spiled.c");
    let sysroot = format!("--sysroot={}", scratch.path("").display());
    for name in ["/usr/bin/spiled", "spiled"] {
        let point = format!("process(\"{name}\").function(\"step\")");
        let mut stap = Command::new(spile_path());
        stap.args(["stap", &sysroot, "-L", &point])
            .env("PATH", "/usr/bin");
        // As Debian's stap prints it.
        let wanted = format!(
            "process(\"/usr/bin/spiled\").function(\"step@{}:4\") $number:int\n",
            source.display()
        );
        assert_eq!(run(stap).ok().stdout, wanted);
    }
}

#[test]
fn files_of_a_server_are_looked_for_when_one_is_named() {
    let scratch = Scratch::new("server");
    let program = stripped(&scratch, "program", PROGRAM, &scratch.path("debug"), &[]);
    let id = build_id(&program.to_string_lossy());
    let kept = scratch.path("cache").join(&id);
    fs::create_dir_all(&kept).expect("made");
    let (first, rest) = id.split_at(2);
    let debug = scratch.path("debug/.build-id").join(first);
    fs::rename(debug.join(format!("{rest}.debug")), kept.join("debuginfo")).expect("moved");
    let ask = |urls: Option<&str>| {
        let mut spile = Command::new(spile_path());
        spile
            .args(["symbols", "--variables", "step"])
            .arg(&program)
            .env("DEBUGINFOD_CACHE_PATH", scratch.path("cache"))
            .env_remove("DEBUGINFOD_URLS");
        if let Some(urls) = urls {
            spile.env("DEBUGINFOD_URLS", urls);
        }
        run(spile)
    };
    // Nobody listens there, but what was fetched before is in the cache.
    let found = ask(Some("http://127.0.0.1:9")).ok().stdout;
    assert!(found.contains("parameter int number"), "{found}");
    assert!(ask(None).stderr.contains("no debug information"));
    fs::remove_dir_all(&kept).expect("removed");
    let refused = ask(Some("http://127.0.0.1:9"));
    assert!(refused.stderr.contains("WARNING: "), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("http://127.0.0.1:9/buildid/"),
        "{}",
        refused.stderr
    );
}

#[test]
fn cleaning_the_cache_removes_what_was_not_used_for_longest() {
    let scratch = Scratch::new("clean-cache");
    let cache = scratch.path("cache");
    fs::create_dir_all(&cache).expect("made");
    fs::write(cache.join("cache_mb_limit"), "1").expect("written");
    for (name, age) in [("old.names", 1000), ("new.names", 10), ("other", 2000)] {
        let path = cache.join(name);
        fs::write(&path, vec![0; 700 << 10]).expect("written");
        let file = fs::File::open(&path).expect("opened");
        let time = SystemTime::now() - Duration::from_secs(age);
        file.set_modified(time).expect("its time is set");
    }
    let mut spile = Command::new(spile_path());
    spile
        .args(["stap", "--clean-cache"])
        .env("SYSTEMTAP_DIR", scratch.path(""));
    run(spile).ok();
    let left = |name: &str| cache.join(name).exists();
    assert_eq!((left("old.names"), left("new.names")), (false, true));
    // What is not its own stays.
    assert!(left("other"));
}
