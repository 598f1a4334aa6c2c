//! A recording session: the program that had this logger started speaks to it over a descriptor (pmRecordControl(3)),
//! and whoever sits there is asked, or told, what becomes of the logger (pmconfirm(1)).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::log::Log;

/// A line longer than this is none of the protocol's.
const LINE_MAX: usize = 1024;

/// What becomes of the logger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It goes on, and listens.
    On,
    /// It goes on, on its own.
    Alone,
    /// It ends.
    End,
}

/// Why there is a dialogue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Exited,
    Quit,
    Detached,
    Status,
}

/// The session.
pub struct Recording {
    stream: File,
    pending: Vec<u8>,
    folio: String,
    program: String,
    replay: bool,
    begun: Instant,
}

impl Recording {
    /// A session that is controlled over a stream.
    pub fn new(stream: File) -> Recording {
        Recording {
            stream,
            pending: Vec::new(),
            folio: "<unknown>".to_owned(),
            program: "<unknown>".to_owned(),
            replay: false,
            begun: Instant::now(),
        }
    }

    /// What is to be polled.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Reads what has come and does it; `bytes` is the archive's size so far.
    pub fn speaks(&mut self, log: &mut Log, host: &str, bytes: i64) -> Next {
        let mut buffer = [0; LINE_MAX];
        let got = self.stream.read(&mut buffer).unwrap_or(0);
        self.pending
            .extend_from_slice(buffer.get(..got).unwrap_or_default());
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            trace(log, &format!("\"{line}\""));
            let next = self.line(log, &line, host, bytes);
            if next != Next::On {
                return next;
            }
        }
        if got > 0 && self.pending.len() <= LINE_MAX {
            return Next::On;
        }
        if got == 0 {
            trace(log, "eof");
        } else {
            log.say("Error: absurd recording session control message\n");
        }
        self.dialogue(log, Occasion::Exited, host, bytes)
    }

    fn line(&mut self, log: &mut Log, line: &str, host: &str, bytes: i64) -> Next {
        let mut letters = line.chars();
        let (letter, rest) = (letters.next(), letters.as_str());
        match letter {
            Some('V') if rest == "0" => Next::On,
            Some('F') if !rest.is_empty() => {
                self.folio = rest.to_owned();
                Next::On
            }
            Some('P') => {
                self.program = rest.to_owned();
                Next::On
            }
            Some('R') => {
                self.replay = true;
                Next::On
            }
            Some('D') => self.dialogue(log, Occasion::Detached, host, bytes),
            Some('Q') => self.dialogue(log, Occasion::Quit, host, bytes),
            Some('?') => self.dialogue(log, Occasion::Status, host, bytes),
            _ => {
                log.say(&format!(
                    "Error: illegal recording session control message: \"{line}\"\n"
                ));
                self.dialogue(log, Occasion::Exited, host, bytes)
            }
        }
    }

    fn text(&self, occasion: Occasion, host: &str, bytes: i64) -> String {
        let seconds = self.begun.elapsed().as_secs().max(1);
        let bytes = bytes as f64;
        let mut text = format!(
            "PCP recording for the archive folio \"{}\" and the host \"{host}\" has been in progress for \
             {seconds} seconds and in that time the pmlogger process has created an archive of {}.\n",
            self.folio,
            size(bytes)
        );
        if self.replay {
            text.push_str(&format!(
                "\nThis archive may be replayed with the following command:\n  $ pmafm {} replay\n",
                self.folio
            ));
        }
        let per_second = bytes / seconds as f64;
        let growth = format!(
            "the PCP archive will grow at the rate of {} per hour or {} per day.\n",
            size(per_second * 3600.0),
            size(per_second * 86_400.0)
        );
        match occasion {
            Occasion::Detached => text.push_str(&format!(
                "\nThe application that launched pmlogger has asked pmlogger to continue \
                 independently and {growth}"
            )),
            Occasion::Quit => text.push_str(
                "\nThe application that launched pmlogger has terminated this PCP recording session.\n",
            ),
            Occasion::Exited => text.push_str(&format!(
                "\nThe application that launched pmlogger has exited and you must decide if the PCP \
                 recording session should be terminated or continued.  If recording is continued {growth}"
            )),
            Occasion::Status => {}
        }
        if occasion != Occasion::Quit {
            let pid = std::process::id();
            text.push_str(&format!(
                "\nAt any time this pmlogger process may be terminated with the following command:\n  \
                 $ pmsignal -s TERM {pid}\n"
            ));
        }
        if occasion == Occasion::Exited {
            text.push_str("\n\nTerminate this PCP recording session now?");
        }
        text
    }

    /// Asks or tells. Without anybody to answer the session ends.
    fn dialogue(&self, log: &mut Log, occasion: Occasion, host: &str, bytes: i64) -> Next {
        let text = self.text(occasion, host, bytes);
        let answer = self.confirm(occasion, &text);
        if answer.is_none() {
            let kind = match occasion {
                Occasion::Status => "Warning",
                _ => "Error",
            };
            log.say(&format!(
                "\n{kind}: pmconfirm(1) failed for recording session dialog\nDialog:\n{text}"
            ));
        }
        match occasion {
            Occasion::Status => Next::On,
            Occasion::Detached => Next::Alone,
            Occasion::Quit => Next::End,
            Occasion::Exited if answer.as_deref() == Some("No") => Next::Alone,
            Occasion::Exited => Next::End,
        }
    }

    /// The button that was pressed.
    fn confirm(&self, occasion: Occasion, text: &str) -> Option<String> {
        let program = pcp::config("PCP_XCONFIRM_PROG").unwrap_or("pmconfirm".to_owned());
        let folder = pcp::config("PCP_TMPFILE_DIR").unwrap_or("/var/tmp".to_owned());
        let path = format!("{folder}/pmlogger-{}.msg", std::process::id());
        let _ = std::fs::remove_file(&path);
        let written = File::create_new(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
        let answered = written.and_then(|()| {
            let title = format!("PCP Archive Recording Session - {}", self.program);
            let mut command = Command::new(&program);
            command.args(["-c", "-header", &title, "-file", &path]);
            match occasion {
                Occasion::Exited => command.args(["-icon", "question", "-B", "Yes", "-b", "No"]),
                _ => command.args(["-icon", "info", "-b", "Close"]),
            };
            command.stdin(Stdio::null()).stderr(Stdio::null()).output()
        });
        let _ = std::fs::remove_file(&path);
        let answer = String::from_utf8_lossy(&answered.ok()?.stdout)
            .trim()
            .to_owned();
        (!answer.is_empty()).then_some(answer)
    }
}

fn trace(log: &mut Log, what: &str) {
    if pcp::debug::on(pcp::debug::Flag::Appl2) {
        log.say(&format!("recording session control: {what}\n"));
    }
}

/// A size in the unit that leaves it at most four digits ahead of the point.
fn size(bytes: f64) -> String {
    const LIMIT: f64 = 10.0 * 1024.0;
    if bytes < LIMIT {
        format!("{bytes:.0} bytes")
    } else if bytes / 1024.0 < LIMIT {
        format!("{:.1} Kbytes", bytes / 1024.0)
    } else {
        format!("{:.1} Mbytes", bytes / 1024.0 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_pmlogger_says_them() {
        // What Debian's pmlogger said of an archive of 304 bytes after a second.
        assert_eq!(size(304.0), "304 bytes");
        assert_eq!(size(304.0 * 3600.0), "1068.8 Kbytes");
        assert_eq!(size(304.0 * 86_400.0), "25.0 Mbytes");
    }
}
