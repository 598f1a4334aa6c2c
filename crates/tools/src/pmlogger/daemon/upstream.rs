//! The source of metrics: what it says of changes, how it is lost and found again.

use pcp::{Context, Error, Timestamp};

use super::super::is_lost;
use super::super::recorder::RecordError;
use super::{Daemon, End};

/// Seconds before each attempt to reach pmcd again (pmReconnectContext(3)).
const BACKOFF: [i64; 5] = [5, 10, 20, 40, 80];

/// What pmcd says of its agents ahead of values: any of these makes it ask for the metrics again.
const AGENTS_CHANGED: i32 = 1 | 2 | 4;
/// Labels changed.
const LABELS_CHANGED: i32 = 8;
/// Names changed.
const NAMES_CHANGED: i32 = 16;

impl Daemon<'_> {
    /// Takes notice of what pmcd said ahead of values.
    pub(super) fn agents_changed(&mut self) -> Result<(), RecordError> {
        let changes = match &mut self.context {
            Context::Host(host) => host.take_changes(),
            Context::Archive(_) => 0,
        };
        if changes & LABELS_CHANGED != 0 {
            self.recorder.labels_changed(&mut self.context)?;
        }
        if changes & AGENTS_CHANGED != 0 {
            self.validate()?;
        }
        if changes & (NAMES_CHANGED | AGENTS_CHANGED) != 0
            && self.resolver.refresh(&mut self.context)?
        {
            self.reschedule();
        }
        Ok(())
    }

    pub(super) fn reschedule(&mut self) {
        let now = self.clock();
        self.resolver.states.schedule(&mut self.tasks, now, false);
    }

    /// Asks whether the metrics are still what they were.
    fn validate(&mut self) -> Result<(), Error> {
        let date = self.log.date();
        self.log.say(&format!(
            "pmlogger: Validating metrics after PMCD state changed at {date}\n"
        ));
        let known: Vec<(String, pcp::Desc)> = self
            .resolver
            .states
            .metrics()
            .iter()
            .map(|m| (m.name.clone(), m.desc))
            .collect();
        for (name, desc) in known {
            match self.context.desc(desc.pmid) {
                Ok(now) if now == desc => {}
                Ok(_) => {
                    self.log.say(&format!(
                        "Error: metric \"{name}\" has changed ... it is not logged any more\n"
                    ));
                    self.resolver.states.remove(desc.pmid);
                    self.reschedule();
                }
                Err(error) if is_lost(&error) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The source of metrics does not answer any more.
    pub(super) fn lost(&mut self) -> Result<(), End> {
        self.connected = false;
        self.attempts = 0;
        self.next_attempt = self.clock() + Timestamp::new(BACKOFF[0], 0);
        let date = self.log.date();
        self.log.say(&format!(
            "pmlogger: Lost connection to PMCD on \"{}\" at {date}\n",
            self.host
        ));
        match self.recorder.mark() {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unwritable(&error)),
        }
    }

    pub(super) fn reconnect(&mut self) -> Result<(), End> {
        let Context::Host(host) = &mut self.context else {
            return Ok(());
        };
        if host.reconnect().is_err() {
            self.attempts += 1;
            let wait = BACKOFF.get(self.attempts).or(BACKOFF.last());
            let wait = wait.copied().unwrap_or(80);
            self.next_attempt = self.clock() + Timestamp::new(wait, 0);
            return Ok(());
        }
        host.take_changes();
        self.connected = true;
        let date = self.log.date();
        self.log.say(&format!(
            "pmlogger: re-established connection to PMCD on \"{}\" at {date}\n",
            self.host
        ));
        // What was due meanwhile is due now.
        if self.validate().is_err() {
            return self.lost();
        }
        Ok(())
    }
}
