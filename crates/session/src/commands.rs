//! Commands that a script starts with `system()`.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::signals::Signals;

/// How long to wait between looks at commands that have not ended.
const PAUSE: Duration = Duration::from_millis(5);

/// The commands of a session that may still run.
#[derive(Debug, Default)]
pub struct Commands(Vec<Child>);

impl Commands {
    /// Starts a command in the background, as `sh -c` does; the reason when that fails.
    pub fn start(&mut self, command: &str) -> Result<(), std::io::Error> {
        self.0.retain_mut(|child| !ended(child));
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .spawn()?;
        self.0.push(child);
        Ok(())
    }

    /// Waits until all have ended, or a signal asks the session to stop.
    pub fn wait(&mut self, signals: &Signals) {
        while !self.0.is_empty() {
            self.0.retain_mut(|child| !ended(child));
            if signals.take() {
                return;
            }
            if !self.0.is_empty() {
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}
