//! A logger's own log: where it goes and how PCP's programs word it (pmOpenLog(3), pmNotifyErr(3)).

use std::fs::{File, OpenOptions};
use std::io::Write;

use pcp::Timestamp;
use pcp::timezone::Zone;

enum Sink {
    File(File),
    Error,
}

/// An open log.
pub struct Log {
    sink: Sink,
    zone: Zone,
    tool: &'static str,
    framed: bool,
}

/// This host's name.
pub fn hostname() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Log {
    /// A log on standard error without head and foot.
    pub fn on_error(tool: &'static str) -> Log {
        Log {
            sink: Sink::Error,
            zone: Zone::local(),
            tool,
            framed: false,
        }
    }

    /// Opens a log: `-` is standard error, which is taken where the file cannot be made, too. With `again` it goes
    /// on where it was left.
    pub fn open(tool: &'static str, path: &str, again: bool) -> Log {
        let mut refused = None;
        let sink = if path == "-" {
            Sink::Error
        } else {
            let mut options = OpenOptions::new();
            if again {
                options.append(true);
            } else {
                options.write(true).truncate(true);
            }
            match options.create(true).open(path) {
                Ok(file) => Sink::File(file),
                Err(error) => {
                    let code = pcp::ErrorCode::from(&error);
                    eprintln!("{tool}: cannot open log \"{path}\" for writing : {code}");
                    refused = Some(format!(
                        "{tool}: Warning: log file ({path}) creation failed\n"
                    ));
                    Sink::Error
                }
            }
        };
        let mut log = Log {
            sink,
            zone: Zone::local(),
            tool,
            framed: true,
        };
        if !again {
            let (host, date) = (hostname(), log.date());
            log.say(&format!("Log for {tool} on {host} started {date}\n\n"));
        }
        if let Some(text) = refused {
            log.say(&text);
        }
        log
    }

    /// The time now as ctime(3) has it.
    pub fn date(&self) -> String {
        self.zone.civil(Timestamp::now().sec).ctime()
    }

    /// Writes a text as it is. A log that cannot be written has nobody to complain to.
    pub fn say(&mut self, text: &str) {
        let _ = match &mut self.sink {
            Sink::File(file) => file.write_all(text.as_bytes()),
            Sink::Error => std::io::stderr().write_all(text.as_bytes()),
        };
    }

    /// Writes a line with time, program and kind in front.
    pub fn notify(&mut self, kind: &str, text: &str) {
        let date = self.date();
        // Without the year, which is the last word.
        let date = date.rsplit_once(' ').map_or(date.as_str(), |(d, _)| d);
        let (tool, pid) = (self.tool, std::process::id());
        self.say(&format!("[{date}] {tool}({pid}) {kind}: {text}\n"));
    }

    /// Writes what a log ends with.
    pub fn finish(&mut self) {
        if self.framed {
            let date = self.date();
            self.say(&format!("\nLog finished {date}\n"));
        }
    }
}
