//! Where a script's prints, warnings and errors go.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::options::Options;
use crate::outlet::Outlet;
use crate::zone;

/// Standard output or `-o FILE`, and standard error.
pub struct Output {
    out: Outlet,
    rotation: Option<Rotation>,
    warnings: bool,
    /// The reader has gone (`| head`): nobody wants more.
    closed: bool,
    /// What was printed and said, where a monitor shows it.
    captured: Option<Vec<u8>>,
    /// Prints are captured, too; they go to a file otherwise.
    captures_prints: bool,
    /// Another failure of writing.
    failed: Option<io::Error>,
}

/// `-S`: output goes to `FILE.0`, `FILE.1` and so on.
struct Rotation {
    path: PathBuf,
    /// Bytes of one file.
    limit: u64,
    keep: Option<u32>,
    number: u32,
    written: u64,
}

impl Rotation {
    fn file(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Makes a file, or says which one can't be made.
fn create(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::other(format!("{}: {error}", path.display()));
    File::create(path).map_err(named)
}

impl Output {
    /// Output to a file (whose name may have the directives of strftime(3)), to numbered files, or to standard output.
    pub fn new(options: &Options) -> io::Result<Output> {
        let path = options.output.as_deref().map(zone::dated);
        let mut rotation = None;
        let out = match (path, options.rotate) {
            (None, _) => Outlet::stdout()?,
            (Some(path), None) => Outlet::new(create(&path)?),
            (Some(path), Some((size, keep))) => {
                let rotation = rotation.insert(Rotation {
                    path,
                    limit: size.saturating_mul(1 << 20),
                    keep,
                    number: 0,
                    written: 0,
                });
                Outlet::new(create(&rotation.file(0))?)
            }
        };
        Ok(Output {
            out,
            rotation,
            warnings: options.warnings,
            closed: false,
            captured: None,
            captures_prints: false,
            failed: None,
        })
    }

    /// From now on nobody is waited for any longer when the descriptor becomes readable.
    pub fn heed(&mut self, signals: OwnedFd) {
        self.out.heed(signals);
    }

    /// Keeps what is said, and with `prints` what is printed, to be taken by [`Output::take_captured`]; false ends it.
    pub fn capture(&mut self, prints: bool) {
        self.captures_prints = prints;
        self.captured = match self.captured {
            None => Some(Vec::new()),
            Some(_) => None,
        };
    }

    /// What was kept since the last call.
    pub fn take_captured(&mut self) -> Vec<u8> {
        self.captured
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Writes what the script printed.
    pub fn print(&mut self, bytes: &[u8]) {
        if let Some(captured) = self.captured.as_mut().filter(|_| self.captures_prints) {
            captured.extend_from_slice(bytes);
            return;
        }
        if let Some(r) = &mut self.rotation {
            let len = bytes.len() as u64;
            if r.written > 0 && r.written.saturating_add(len) > r.limit {
                self.switch();
            }
            if let Some(r) = &mut self.rotation {
                r.written += len;
            }
        }
        let result = self.out.print(bytes);
        self.note(result);
    }

    /// Begins the next of the numbered files, and removes the one that is too many.
    pub fn switch(&mut self) {
        self.flush();
        let Some(r) = &mut self.rotation else {
            return;
        };
        r.number += 1;
        r.written = 0;
        if let Some(old) = r.keep.and_then(|keep| r.number.checked_sub(keep.max(1))) {
            // Somebody may have taken it away already.
            let _ = std::fs::remove_file(r.file(old));
        }
        let next = File::create(r.file(r.number));
        match next {
            Ok(file) => self.out = self.out.followed_by(file),
            Err(error) => self.note(Err(error)),
        }
    }

    /// Sends what is buffered on its way.
    pub fn flush(&mut self) {
        let result = self.out.flush();
        self.note(result);
    }

    /// Sends what is buffered on its way for the last time, and warns when a signal came before anybody had read it.
    pub fn end(&mut self) {
        self.flush();
        let left = self.out.give_up();
        if left > 0 {
            self.warn(&format!(
                "{left} bytes of output were not written, as nobody had read what came before."
            ));
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.closed = true;
            } else if self.failed.is_none() {
                self.failed = Some(error);
            }
        }
    }

    /// `WARNING: text` on standard error, unless `-w`.
    pub fn warn(&mut self, text: &str) {
        if self.warnings {
            self.say(&format!("WARNING: {text}"));
        }
    }

    /// `ERROR: text` on standard error. A newline that ends it is not doubled.
    pub fn error(&mut self, text: &str) {
        let text = text.strip_suffix('\n').unwrap_or(text);
        self.say(&format!("ERROR: {text}"));
    }

    /// A line on standard error, after everything printed so far.
    pub fn say(&mut self, line: &str) {
        self.flush();
        if let Some(captured) = &mut self.captured {
            captured.extend_from_slice(line.as_bytes());
            captured.push(b'\n');
            return;
        }
        // There is nobody left to tell that standard error is gone.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// True once writing makes no sense any more.
    pub fn is_closed(&self) -> bool {
        self.closed || self.failed.is_some()
    }

    /// What writing failed with, a closed pipe aside.
    pub fn failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.flush();
    }
}
