//! Programs to be probed: compiled from C on the spot.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use inject::arch::RegisterSet;
use inject::snippet::{Snippet, SnippetCode};
use inject::{Image, Pid, Process};

/// A directory that is removed at the end of the test.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("spile-inject-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Compiles a program; answers with its path.
    pub fn compile(&self, name: &str, source: &str, options: &[&str]) -> PathBuf {
        self.compile_with("cc", name, source, options)
    }

    pub fn compile_with(
        &self,
        compiler: &str,
        name: &str,
        source: &str,
        options: &[&str],
    ) -> PathBuf {
        let output = self.0.join(name);
        let mut file = self.0.join(name);
        file.set_extension("c");
        std::fs::write(&file, source).unwrap();
        let status = Command::new(compiler)
            .args(["-O1", "-g", "-pthread", "-o"])
            .arg(&output)
            .arg(&file)
            .args(options)
            .status()
            .unwrap();
        assert!(status.success(), "{compiler} {name}");
        output
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program started by other means than ours, to be attached to.
pub struct Running {
    pub child: Child,
    pub input: ChildStdin,
    pub output: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(program: &Path, args: &[&str]) -> Running {
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Running {
            child,
            input,
            output,
        }
    }

    pub fn pid(&self) -> Pid {
        Pid(self.child.id() as i32)
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
        self.input.flush().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of `/proc/PID/status`.
pub fn status(pid: Pid, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// Shared memory with counters.
pub struct Counters(File);

impl Counters {
    pub fn new() -> Counters {
        let fd: OwnedFd =
            rustix::fs::memfd_create("counters", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        Counters(File::from(fd))
    }

    pub fn share(&self, process: &mut Process) -> u64 {
        process.share(self.0.as_fd(), 4096).unwrap()
    }

    pub fn get(&self, index: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, index * 8).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// A snippet that adds one to the word at an absolute address.
pub fn count(address: u64) -> Snippet {
    // mov rax, address; lock inc qword [rax]
    let mut code = vec![0x48, 0xb8];
    code.extend_from_slice(&address.to_le_bytes());
    code.extend_from_slice(&[0xf0, 0x48, 0xff, 0x00]);
    Snippet {
        code: SnippetCode::Inline {
            code,
            wants_frame: false,
            wants_argument: false,
        },
        reads: RegisterSet::EMPTY,
        clobbers: RegisterSet::of_gprs(&[0]).and_flags(),
        argument: 0,
    }
}

/// The image whose file has this name.
pub fn image(process: &Process, name: &str) -> Image {
    let images = process.images().unwrap();
    let found = images
        .iter()
        .find(|image| image.path().file_name().unwrap() == name);
    found
        .unwrap_or_else(|| panic!("{name} among {images:?}"))
        .clone()
}

/// Compares all code of a process with the files it was mapped from.
pub fn assert_code_is_original(pid: Pid) {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut compared = 0;
    for mapping in symbols::maps::parse(&text) {
        if !mapping.perms.execute || !mapping.is_file() {
            continue;
        }
        let file = File::open(mapping.path.unwrap()).unwrap();
        let size = file.metadata().unwrap().len();
        let len = (mapping.end - mapping.start).min(size - mapping.offset) as usize;
        let (mut present, mut original) = (vec![0; len], vec![0; len]);
        memory.read_exact_at(&mut present, mapping.start).unwrap();
        file.read_exact_at(&mut original, mapping.offset).unwrap();
        assert!(
            present == original,
            "code at {:#x} was changed",
            mapping.start
        );
        compared += 1;
    }
    assert!(compared > 0);
}
