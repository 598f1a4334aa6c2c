//! Which process records of the arena are in use.

/// The process records of a session: one per program that is started or attached to; children by fork share their
/// parent's.
#[derive(Debug)]
pub struct Records {
    /// Processes per record.
    users: Vec<u32>,
}

impl Records {
    /// The record of the process of `-c` or `-x`.
    pub const TARGET: u32 = 0;

    /// `count` records, the target's taken.
    pub fn new(count: u32) -> Records {
        let mut users = vec![0; count.max(1) as usize];
        users[0] = 1;
        Records { users }
    }

    /// A record for a new program; `None` when as many run as there are records.
    pub fn take(&mut self) -> Option<u32> {
        let free = self.users.iter().position(|users| *users == 0)?;
        self.share(free as u32);
        Some(free as u32)
    }

    /// One more process uses a record.
    pub fn share(&mut self, record: u32) {
        if let Some(users) = self.users.get_mut(record as usize) {
            *users += 1;
        }
    }

    /// A process that used it has gone.
    pub fn give_back(&mut self, record: u32) {
        if let Some(users) = self.users.get_mut(record as usize) {
            *users = users.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_free_when_all_its_processes_have_gone() {
        let mut records = Records::new(2);
        assert_eq!((records.take(), records.take()), (Some(1), None));
        records.share(1);
        records.give_back(1);
        assert_eq!(records.take(), None);
        records.give_back(1);
        assert_eq!(records.take(), Some(1));
    }
}
