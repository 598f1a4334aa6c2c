//! The terminal: what is shown on it, and which keys are pressed.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// No more.
    Quit,
    /// Stop, or go on.
    Pause,
    /// Lines up (negative) or down.
    Scroll(isize),
    /// Pages up or down.
    Page(isize),
    /// The first line.
    Home,
    /// Paint anew: the terminal may have another size.
    Resized,
}

/// A terminal whose keys are read singly and which shows one screen, until it is dropped.
pub struct Screen {
    before: Option<Termios>,
    signals: SignalFd,
}

/// Another page than the one that the shell is on; no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// What the system says.
    pub fn take() -> io::Result<Screen> {
        let mut waited = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGWINCH,
        ] {
            waited.add(signal);
        }
        waited.thread_block()?;
        let signals =
            SignalFd::with_flags(&waited, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let stdin = io::stdin();
        let before = if stdin.is_terminal() {
            let before = termios::tcgetattr(&stdin)?;
            let mut single = before.clone();
            single
                .local_flags
                .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            for (at, least) in [
                (SpecialCharacterIndices::VMIN, 0),
                (SpecialCharacterIndices::VTIME, 0),
            ] {
                if let Some(character) = single.control_chars.get_mut(at as usize) {
                    *character = least;
                }
            }
            termios::tcsetattr(&stdin, SetArg::TCSANOW, &single)?;
            Some(before)
        } else {
            None
        };
        let screen = Screen { before, signals };
        let mut out = io::stdout();
        out.write_all(ENTER.as_bytes())?;
        out.flush()?;
        Ok(screen)
    }

    /// Columns and lines.
    pub fn size() -> (usize, usize) {
        terminal_size::terminal_size().map_or((80, 24), |(columns, lines)| {
            (columns.0.into(), lines.0.into())
        })
    }

    /// Shows lines from the top on.
    ///
    /// # Errors
    /// What the system says.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The next key, or `None` when none comes until then.
    ///
    /// # Errors
    /// What the system says.
    pub fn key(&mut self, until: Instant) -> io::Result<Option<Key>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let stdin = io::stdin();
            let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if self.before.is_some() {
                watched.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            // A millisecond more, as what is less than one would be none.
            let wait = PollTimeout::try_from(left + Duration::from_micros(999))
                .unwrap_or(PollTimeout::MAX);
            match poll(&mut watched, wait) {
                Ok(0) if left.is_zero() => return Ok(None),
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let pressed = watched
                .get(1)
                .and_then(PollFd::revents)
                .is_some_and(|r| !r.is_empty());
            if let Some(signal) = self.signals.read_signal()? {
                let resized = signal.ssi_signo == Signal::SIGWINCH as u32;
                return Ok(Some(if resized { Key::Resized } else { Key::Quit }));
            }
            if pressed {
                let mut bytes = [0; 64];
                let count = stdin.lock().read(&mut bytes)?;
                if count == 0 {
                    // The terminal has gone.
                    return Ok(Some(Key::Quit));
                }
                if let Some(key) = meaning(bytes.get(..count).unwrap_or_default()) {
                    return Ok(Some(key));
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        let _ = out.write_all(LEAVE.as_bytes());
        let _ = out.flush();
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn meaning(bytes: &[u8]) -> Option<Key> {
    Some(match bytes {
        [b'q' | b'Q' | 3 | 4, ..] => Key::Quit,
        [b' ' | b'p', ..] => Key::Pause,
        b"\x1b[A" | b"\x1bOA" | b"k" => Key::Scroll(-1),
        b"\x1b[B" | b"\x1bOB" | b"j" => Key::Scroll(1),
        b"\x1b[5~" => Key::Page(-1),
        b"\x1b[6~" => Key::Page(1),
        b"\x1b[H" | b"\x1bOH" | b"\x1b[1~" | b"g" => Key::Home,
        [12, ..] => Key::Resized,
        _ => return None,
    })
}
