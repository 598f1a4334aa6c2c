//! Debugging information is found wherever compilers, linkers and packagers put it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use symbols::{Binary, DebugFiles, Debuginfod, DebuginfodError, Notice};

const SOURCE: &str = "
struct request { int length; const char *text; };
static __attribute__((noinline)) int handle(struct request *wanted, int times) { return wanted->length * times; }
int main(int argc, char **argv) { struct request r = { argc, argv[0] }; return handle(&r, 3); }
";

struct Workshop {
    directory: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Workshop { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, words: &[&str]) {
        let (program, words) = words.split_first().expect("a program");
        let output = Command::new(program)
            .args(words)
            .current_dir(self.directory.path())
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {words:?}: {said}");
    }

    fn compile(&self, name: &str, flags: &[&str]) -> PathBuf {
        let source = format!("{name}.c");
        fs::write(self.path(&source), SOURCE).expect("written");
        let mut words = vec![
            "gcc",
            "-g",
            "-O0",
            "-Wl,--build-id=sha1",
            "-o",
            name,
            &source,
        ];
        words.extend(flags);
        self.run(&words);
        self.path(name)
    }

    /// Splits a program into itself without debugging information, and a file with that.
    fn separate(&self, name: &str) -> PathBuf {
        let debug = format!("{name}.debug");
        self.run(&["objcopy", "--only-keep-debug", name, &debug]);
        self.run(&["strip", "--strip-all", name]);
        self.path(&debug)
    }

    fn build_id(&self, program: &Path) -> String {
        let files = Arc::new(DebugFiles::default().with_path(""));
        let binary = Binary::open_with(program, files).expect("a program");
        let id = binary.build_id().expect("a build-id");
        id.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Where a package would put a debug file, below a directory.
    fn install(&self, debug: &Path, id: &str, below: &str) -> PathBuf {
        let (first, rest) = id.split_at(2);
        let directory = self.path(below).join(".build-id").join(first);
        fs::create_dir_all(&directory).expect("made");
        let path = directory.join(format!("{rest}.debug"));
        fs::rename(debug, &path).expect("moved");
        path
    }
}

type Notices = Arc<Mutex<Vec<Notice>>>;

fn listening(files: DebugFiles) -> (Arc<DebugFiles>, Notices) {
    let heard: Notices = Arc::default();
    let listener = Arc::clone(&heard);
    let files = files.with_listener(move |n| listener.lock().expect("sound").push(n.clone()));
    (Arc::new(files), heard)
}

fn warnings(heard: &Notices) -> Vec<String> {
    let heard = heard.lock().expect("sound");
    let texts = heard.iter().filter_map(|n| match n {
        Notice::Warning(text) => Some(text.clone()),
        Notice::Progress { .. } => None,
    });
    texts.collect()
}

/// The parameters of `handle`, spelled; empty without debugging information.
fn parameters(program: &Path, files: &Arc<DebugFiles>) -> Vec<String> {
    let binary = Binary::open_with(program, Arc::clone(files)).expect("a program");
    let found = binary.dwarf_functions_matching("handle").expect("sound");
    let Some(function) = found.first() else {
        return Vec::new();
    };
    assert_eq!(function.decl_line, Some(3));
    let found = binary.parameters(function).expect("sound");
    found
        .iter()
        .map(|p| format!("{} {}", p.type_name, p.name))
        .collect()
}

const WANTED: [&str; 2] = ["struct request* wanted", "int times"];

#[test]
fn by_build_id_under_a_directory_of_the_path() {
    let shop = Workshop::new();
    let program = shop.compile("program", &[]);
    let id = shop.build_id(&program);
    let debug = shop.separate("program");
    shop.install(&debug, &id, "debug");
    let path = shop.path("debug").display().to_string();
    let (files, heard) = listening(DebugFiles::default().with_path(&path));
    assert_eq!(parameters(&program, &files), WANTED);
    let elsewhere = Arc::new(DebugFiles::default().with_path(""));
    assert!(parameters(&program, &elsewhere).is_empty());
    assert_eq!(warnings(&heard), [""; 0]);
}

#[test]
fn by_build_id_under_a_sysroot() {
    let shop = Workshop::new();
    let program = shop.compile("program", &[]);
    let id = shop.build_id(&program);
    let debug = shop.separate("program");
    shop.install(&debug, &id, "root/usr/lib/debug");
    let files = DebugFiles::default().with_sysroot(Some(shop.path("root")));
    assert_eq!(parameters(&program, &Arc::new(files)), WANTED);
}

#[test]
fn by_the_name_of_a_link_when_its_checksum_is_right() {
    let shop = Workshop::new();
    for (place, id) in [(".", "none"), (".debug", "none"), (".debug", "sha1")] {
        let flag = format!("-Wl,--build-id={id}");
        let program = shop.compile("linked", &[&flag]);
        let debug = shop.separate("linked");
        shop.run(&["objcopy", "--add-gnu-debuglink=linked.debug", "linked"]);
        fs::create_dir_all(shop.path(place)).expect("made");
        let moved = shop.path(place).join("linked.debug");
        fs::rename(&debug, &moved).expect("moved");
        let (files, heard) = listening(DebugFiles::default());
        assert_eq!(parameters(&program, &files), WANTED, "in {place}");
        assert_eq!(warnings(&heard), [""; 0]);
        let mut changed = fs::OpenOptions::new()
            .append(true)
            .open(&moved)
            .expect("opened");
        changed.write_all(b"x").expect("written");
        // With a build-id that one says what belongs to what.
        let (files, heard) = listening(DebugFiles::default());
        let (found, warned) = (parameters(&program, &files), warnings(&heard));
        match id {
            "none" => {
                assert!(found.is_empty());
                assert!(warned[0].contains("its checksum is"), "{warned:?}");
                // `-` before a directory: whatever is there is taken.
                let trusting = DebugFiles::default().with_path("-:-.debug");
                assert_eq!(parameters(&program, &Arc::new(trusting)), WANTED);
            }
            _ => assert_eq!(found, WANTED),
        }
        fs::remove_file(&moved).expect("removed");
    }
}

#[test]
fn a_file_of_another_build_is_refused_with_a_warning() {
    let shop = Workshop::new();
    let program = shop.compile("program", &[]);
    shop.separate("program");
    shop.run(&["objcopy", "--add-gnu-debuglink=program.debug", "program"]);
    shop.compile("other", &["-O1"]);
    fs::rename(shop.separate("other"), shop.path("program.debug")).expect("moved");
    let (files, heard) = listening(DebugFiles::default());
    assert!(parameters(&program, &files).is_empty());
    let warned = warnings(&heard);
    let told = |w: &String| w.contains("does not belong to") && w.contains("its build-id is");
    assert!(warned.iter().any(told), "{warned:?}");
}

#[test]
fn entries_that_dwz_moved_to_a_common_file() {
    let shop = Workshop::new();
    let programs = [shop.compile("one", &[]), shop.compile("two", &["-O1"])];
    for name in ["one", "two"] {
        shop.separate(name);
        let link = format!("--add-gnu-debuglink={name}.debug");
        shop.run(&["objcopy", &link, name]);
    }
    shop.run(&["dwz", "-m", "common.debug", "one.debug", "two.debug"]);
    assert!(shop.path("common.debug").exists());
    for large_from in [0, u64::MAX] {
        for program in &programs {
            let files = DebugFiles::default().with_large_from(large_from);
            let (files, heard) = listening(files);
            assert_eq!(parameters(program, &files), WANTED);
            assert_eq!(warnings(&heard), [""; 0]);
        }
    }
    fs::remove_file(shop.path("common.debug")).expect("removed");
    let (files, heard) = listening(DebugFiles::default());
    parameters(&programs[0], &files);
    let warned = warnings(&heard);
    assert!(
        warned.iter().any(|w| w.contains("common.debug is missing")),
        "{warned:?}"
    );
}

#[test]
fn units_in_files_of_their_own_and_in_packages() {
    for version in ["-gdwarf-4", "-gdwarf-5"] {
        let shop = Workshop::new();
        let program = shop.compile("split", &[version, "-gsplit-dwarf"]);
        let dwo = fs::read_dir(shop.directory.path())
            .expect("read")
            .filter_map(|e| Some(e.ok()?.path()))
            .find(|p| p.extension().is_some_and(|e| e == "dwo"))
            .expect("a .dwo file");
        for large_from in [0, u64::MAX] {
            let files = DebugFiles::default().with_large_from(large_from);
            assert_eq!(parameters(&program, &Arc::new(files)), WANTED, "{version}");
        }
        if version == "-gdwarf-4" {
            // binutils' dwp knows no DWARF 5 yet.
            shop.run(&["dwp", "-e", "split"]);
        } else {
            let words = ["llvm-dwp", "-e", "split", "-o", "split.dwp"];
            shop.run(&words);
        }
        fs::remove_file(&dwo).expect("removed");
        assert_eq!(parameters(&program, &Arc::default()), WANTED, "{version}");
        fs::remove_file(shop.path("split.dwp")).expect("removed");
        let (files, heard) = listening(DebugFiles::default());
        assert!(parameters(&program, &files).is_empty());
        let warned = warnings(&heard);
        let told = |w: &String| w.contains(".dwo is missing");
        assert!(warned.iter().any(told), "{warned:?}");
    }
}

#[test]
fn compressed_sections() {
    let shop = Workshop::new();
    for form in ["zlib", "zlib-gnu", "zstd"] {
        let program = shop.compile("packed", &[]);
        let flag = format!("--compress-debug-sections={form}");
        shop.run(&["objcopy", &flag, "packed"]);
        let (files, heard) = listening(DebugFiles::default());
        assert_eq!(parameters(&program, &files), WANTED, "{form}");
        assert_eq!(warnings(&heard), [""; 0]);
        let binary = Binary::open_with(&program, files).expect("a program");
        let wanted = ["zlib-gnu"].contains(&form);
        let info = |s: &&symbols::Section| s.name.ends_with("debug_info");
        let section = binary.sections().iter().find(info).expect("there");
        assert_eq!(section.name == ".zdebug_info", wanted);
        // Damage is told with its place.
        let mut bytes = fs::read(&program).expect("read");
        let start = section.file_offset.0 as usize + 30;
        bytes[start..start + 20].fill(0xff);
        let (files, heard) = listening(DebugFiles::default());
        let damaged = Binary::from_bytes_with("damaged", bytes, files).expect("a program");
        assert!(!damaged.has_dwarf());
        let place = format!("{} at offset {:#x}", section.name, section.file_offset.0);
        let warned = warnings(&heard);
        let told = |w: &String| w.contains(&place) && w.contains("decompressed");
        assert!(warned.iter().any(told), "{warned:?}");
    }
}

/// Debian's server on a port of its own.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(files: &Path) -> Server {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let child = Command::new("debuginfod")
            .args(["-d", ":memory:", "-F", "-t", "1", "-p", &port.to_string()])
            .arg(files)
            .env_remove("DEBUGINFOD_URLS")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("debuginfod is installed");
        let url = format!("http://127.0.0.1:{port}");
        Server { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn from_a_server_into_the_cache_that_other_clients_share() {
    let shop = Workshop::new();
    let program = shop.compile("program", &[]);
    let id = shop.build_id(&program);
    let debug = shop.separate("program");
    fs::create_dir(shop.path("served")).expect("made");
    fs::rename(&debug, shop.path("served/program.debug")).expect("moved");
    let server = Server::start(&shop.path("served"));
    let cache = shop.path("cache");
    fs::create_dir(&cache).expect("made");
    // While the server has not yet looked at its files, it knows nothing; that is not to be remembered.
    fs::write(cache.join("cache_miss_s"), "0\n").expect("written");
    let give_up = Instant::now() + Duration::from_secs(60);
    let client = || Debuginfod::new(vec![server.url.clone()], cache.clone());
    let heard = loop {
        let (files, heard) = listening(
            DebugFiles::default()
                .with_path("")
                .with_debuginfod(Some(client())),
        );
        if parameters(&program, &files) == WANTED {
            break heard;
        }
        assert!(Instant::now() < give_up, "{:?}", warnings(&heard));
        std::thread::yield_now();
    };
    let heard = heard.lock().expect("sound");
    let complete = |n: &Notice| matches!(n, Notice::Progress { url, received, total } if url.contains(&id) && Some(*received) == *total);
    assert!(heard.iter().any(complete), "{heard:?}");
    // elfutils' client finds it in the same cache, without a server.
    let find = |cache: &Path, url: &str| {
        let output = Command::new("debuginfod-find")
            .args(["debuginfo", &id])
            .env("DEBUGINFOD_CACHE_PATH", cache)
            .env("DEBUGINFOD_URLS", url)
            .output()
            .expect("debuginfod-find is installed");
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    };
    let nobody = "http://127.0.0.1:9";
    assert_eq!(find(&cache, nobody), cache.join(&id).join("debuginfo"));
    // And the other way round.
    let other = shop.path("other-cache");
    fs::create_dir(&other).expect("made");
    assert_eq!(find(&other, &server.url), other.join(&id).join("debuginfo"));
    let offline = Debuginfod::new(vec![nobody.to_owned()], other);
    let files = DebugFiles::default()
        .with_path("")
        .with_debuginfod(Some(offline));
    assert_eq!(parameters(&program, &Arc::new(files)), WANTED);
}

/// Answers one request with these bytes, and then says no more without closing.
fn answering(bytes: Vec<u8>) -> (String, std::thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).expect("read") > 0);
        stream.write_all(&bytes).expect("written");
        stream
    });
    (url, served)
}

#[test]
fn servers_that_fail_are_told_from_files_that_are_not_there() {
    let shop = Workshop::new();
    let ask = |name: &str, answer: &[u8], timeout: Duration| {
        let (url, served) = answering(answer.to_vec());
        let client = Debuginfod::new(vec![url], shop.path(name)).with_timeout(Some(timeout));
        let found = client.debug_info(&[0xab, 0xcd], &|_| {});
        drop(served.join());
        (found, shop.path(name).join("abcd/debuginfo"))
    };
    let (patient, impatient) = (Duration::from_secs(60), Duration::from_millis(300));
    let (found, kept) = ask(
        "a",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        patient,
    );
    assert!(matches!(found, Ok(None)), "{found:?}");
    // As elfutils' client remembers it.
    assert_eq!(fs::metadata(&kept).map(|m| m.len()).ok(), Some(0));
    let (found, kept) = ask(
        "b",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        patient,
    );
    let failed = |error: &DebuginfodError| error.to_string().contains("503");
    assert!(found.is_err_and(|e| failed(&e)) && !kept.exists());
    let (found, kept) = ask(
        "c",
        b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\nabc",
        impatient,
    );
    let stalled = matches!(found, Err(DebuginfodError::Stalled { .. }));
    assert!(stalled && !kept.exists(), "{found:?}");
    let (found, kept) = ask(
        "d",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        patient,
    );
    assert!(
        matches!(found, Ok(Some(ref path)) if *path == kept),
        "{found:?}"
    );
    assert_eq!(fs::read(&kept).ok().as_deref(), Some(&b"abc"[..]));
}
