//! A file that output is written to, which may take its time: a pipe that nobody reads keeps a session neither from ending nor
//! from taking its probes out.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

/// Where a pipe is ready to be written to, so many bytes do not block (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;
/// Output is written when there is so much of it, or when it is flushed.
const BUFFER: usize = 1 << 16;

/// A file and what is still to be written to it.
pub(crate) struct Outlet {
    file: File,
    /// Writing never waits for anybody.
    is_regular: bool,
    pending: Vec<u8>,
    /// Becomes readable when the session is to end.
    signals: Option<OwnedFd>,
}

impl Outlet {
    /// An outlet to a file.
    pub(crate) fn new(file: File) -> Outlet {
        let is_regular =
            fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        Outlet {
            file,
            is_regular,
            pending: Vec::new(),
            signals: None,
        }
    }

    /// An outlet to standard output.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn stdout() -> io::Result<Outlet> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Outlet::new(stdout.into()))
    }

    /// From now on waiting ends when the descriptor becomes readable. What could not be written then is kept.
    pub(crate) fn heed(&mut self, signals: OwnedFd) {
        self.signals = Some(signals);
    }

    /// The same for another file; what is still to be written to this one is lost.
    pub(crate) fn followed_by(&mut self, file: File) -> Outlet {
        Outlet {
            signals: self.signals.take(),
            ..Outlet::new(file)
        }
    }

    /// Writes, sooner or later.
    ///
    /// # Errors
    /// Of write(2).
    pub(crate) fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes all that is still to be written, unless a signal comes while nobody takes it.
    ///
    /// # Errors
    /// Of write(2).
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let result = loop {
            let rest = self.pending.get(written..).unwrap_or_default();
            if rest.is_empty() || !self.is_ready() {
                break Ok(());
            }
            let piece = match self.heeded() {
                Some(_) => rest.len().min(PIECE),
                None => rest.len(),
            };
            match (&self.file).write(rest.get(..piece).unwrap_or(rest)) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // It would fail again.
                    written = self.pending.len();
                    break Err(error);
                }
            }
        };
        self.pending.drain(..written.min(self.pending.len()));
        result
    }

    /// Forgets what is still to be written; how many bytes that was.
    pub(crate) fn give_up(&mut self) -> usize {
        std::mem::take(&mut self.pending).len()
    }

    /// The descriptor that ends waiting, where there may be waiting.
    fn heeded(&self) -> Option<&OwnedFd> {
        self.signals.as_ref().filter(|_| !self.is_regular)
    }

    /// Waits until the file can be written to; false when a signal came first.
    fn is_ready(&self) -> bool {
        let Some(signals) = self.heeded() else {
            return true;
        };
        loop {
            let mut fds = [
                PollFd::new(&self.file, PollFlags::OUT),
                PollFd::new(signals, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                // An error is the write's to tell.
                Ok(_) if !fds[0].revents().is_empty() => return true,
                Ok(_) => return false,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_signal_ends_the_wait_for_a_reader_and_nothing_is_lost() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (signals, mut sender) = UnixStream::pair().unwrap();
        let mut outlet = Outlet::new(OwnedFd::from(writer).into());
        outlet.heed(signals.into());
        let text: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        sender.write_all(b"x").unwrap();
        outlet.print(&text).unwrap();
        assert!(!outlet.pending.is_empty());
        let thread = std::thread::spawn(move || {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            read
        });
        while !outlet.pending.is_empty() {
            outlet.flush().unwrap();
        }
        drop(outlet);
        assert!(thread.join().unwrap() == text);
    }

    #[test]
    fn what_is_given_up_is_counted() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (signals, mut sender) = UnixStream::pair().unwrap();
        let mut outlet = Outlet::new(OwnedFd::from(writer).into());
        outlet.heed(signals.into());
        sender.write_all(b"x").unwrap();
        outlet.print(&[b'x'; 300_000]).unwrap();
        let left = outlet.give_up();
        drop(outlet);
        let mut read = Vec::new();
        { reader }.read_to_end(&mut read).unwrap();
        assert_eq!((left > 0, read.len() + left), (true, 300_000));
    }

    #[test]
    fn a_reader_that_went_is_told() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut outlet = Outlet::new(OwnedFd::from(writer).into());
        drop(reader);
        outlet.print(b"x").unwrap();
        let told = outlet.flush().unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::BrokenPipe);
        outlet.flush().unwrap();
    }
}
