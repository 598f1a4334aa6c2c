//! Programs on terminals of their own.

use crate::{LIMIT, need};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A program on a terminal of its own, by script(1).
pub struct Terminal {
    /// The program script(1), which ends with ours.
    pub child: Child,
    input: ChildStdin,
    seen: Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    /// Runs a shell command, with `directory` for stap's own files.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(command: &str, directory: &Path) -> Terminal {
        need("/usr/bin/script");
        let mut child = Command::new("/usr/bin/script")
            .env("SYSTEMTAP_DIR", directory)
            .env("TERM", "xterm")
            // script(1) runs the user's own shell, and shells differ in what an interrupt does.
            .env("SHELL", "/bin/sh")
            .args(["-qec", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        let input = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        let (send, seen) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = output.read(&mut bytes) {
                if n == 0 || send.send(bytes[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            child,
            input,
            seen,
            text: String::new(),
        }
    }

    /// Waits for a text, and forgets everything up to it.
    ///
    /// # Panics
    /// When it does not come within [`LIMIT`].
    pub fn expect(&mut self, wanted: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.text.find(wanted) {
                self.text.drain(..at + wanted.len());
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.seen.recv_timeout(left) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("waited in vain for {wanted:?} in {:?}", self.text),
            }
        }
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the terminal has gone.
    pub fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).expect("written");
        self.input.flush().expect("written");
    }
}
