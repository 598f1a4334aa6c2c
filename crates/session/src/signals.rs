//! The signals that end a session, made readable: those by which one is asked to, and others that would end it at once, with
//! the probes left in programs. SIGXFSZ does not end it: that a file would
//! grow over the limit is an error of the write.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::read;
use signal_hook::SigId;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGVTALRM};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A descriptor that becomes readable when one of the signals has come.
#[derive(Debug)]
pub struct Signals {
    receiver: OwnedFd,
    ids: Vec<SigId>,
}

impl Signals {
    /// Catches the signals from now on, until dropped.
    pub fn new() -> io::Result<Signals> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        // Caught and not ignored: what is ignored stays so in the commands that are started.
        let unheeded = Arc::new(AtomicBool::new(false));
        let mut ids = vec![signal_hook::flag::register(libc::SIGXFSZ, unheeded)?];
        for signal in [
            SIGINT,
            SIGTERM,
            SIGHUP,
            SIGQUIT,
            SIGALRM,
            SIGVTALRM,
            SIGUSR1,
            libc::SIGXCPU,
        ] {
            ids.push(signal_hook::low_level::pipe::register(
                signal,
                sender.try_clone()?,
            )?);
        }
        Ok(Signals {
            receiver: receiver.into(),
            ids,
        })
    }

    /// Waits for a while, or until a signal comes; whether one has.
    pub fn wait(&self, time: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: time.as_secs() as i64,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        // A signal interrupts it, and is there to be taken then.
        let _ = poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&timeout));
        self.take()
    }

    /// Whether a signal has come since the last time.
    pub fn take(&self) -> bool {
        let mut bytes = [0; 64];
        read(&self.receiver, &mut bytes).is_ok_and(|n| n > 0)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
